/* The spec of a KubeVirt object, of whoever may write one, and durations and versions. A text that is an object is a spec; every text is
 * also a duration, and two versions, one on each line. */
#include "base/cleanup.h"
#include "operator/customize.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What becomes part of pods and of a status has no character in it that could mean something there. */
static void plain(const char *text)
{
    for (const char *p = text; *p; p++)
        assert((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')
               || strchr("_.-:/", *p));
}

static void install(const struct json *spec, struct arena *a)
{
    static const struct install_env env = {.ns = "kubevirt",
                                           .image = "docker.io/vireo/vireo:1.2.3",
                                           .launcher_image = "docker.io/vireo/launcher:1.2.3",
                                           .version = "0.9.0"};
    static const struct install_cluster cluster = {.nodes = 3};
    AUTO(error_clear) struct error err = {0};
    const struct json *kubevirt = json_object(
        a, "metadata", json_object(a, "name", json_new_z(a, "kubevirt"), NULL), "spec", spec, NULL);
    const struct json *object = json_object(
        a, "kind", json_new_z(a, "Deployment"), "apiVersion", json_new_z(a, "apps/v1"), "metadata",
        json_object(a, "name", json_new_z(a, "virt-api"), "namespace", json_new_z(a, "kubevirt"),
                    NULL),
        "spec", json_object(a, "replicas", json_new_i64(a, 2), NULL), NULL);
    struct install in;
    const struct json *customized;

    if (!install_of(kubevirt, &env, &cluster, STR_NONE, a, &in, &err)) {
        assert(err.kind == ERROR_INVALID && strlen(error_text(&err)) < 1000);
        return;
    }
    plain(in.image);
    plain(in.launcher_image);
    plain(in.version);
    assert(in.life.leaf_s > in.life.leaf_before_s && in.life.ca_s > in.life.ca_before_s
           && in.life.leaf_s <= in.life.ca_s);
    if (customize(kubevirt, MANAGED_DEPLOYMENT, object, a, &customized, &err)) {
        assert(str_is(json_str_at(customized, "metadata/name"), "virt-api"));
        assert(str_is(json_str_at(customized, "metadata/namespace"), "kubevirt"));
        assert(str_is(json_str_at(customized, "kind"), "Deployment"));
    } else {
        assert(err.kind == ERROR_INVALID);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct str text = str_n((const char *)data, size), one, two;
    const struct json *spec;
    int64_t s = -1;
    int forth = 0, back = 0;

    if (size > 65536)
        return 0;
    if (install_duration(text, &s, &err))
        assert(s >= 0 && s <= 100ll * 365 * 86400);
    error_clear(&err);
    if (str_cut(text, '\n', &one, &two) && install_version_compare(one, two, &forth)) {
        assert(install_version_compare(two, one, &back));
        assert((forth < 0) == (back > 0) && (forth == 0) == (back == 0));
    }
    if (json_parse(text, &a, &spec, &err) && spec->type == JSON_OBJECT)
        install(spec, &a);
    return 0;
}
