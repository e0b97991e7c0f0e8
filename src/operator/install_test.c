#include "json/json_test.h"

#include "operator/install.h"

static const struct install_env env = {.ns = "kubevirt",
                                       .image = "docker.io/vireo/vireo:1.2.3",
                                       .launcher_image = "docker.io/vireo/launcher:1.2.3",
                                       .version = "0.9.0"};
static const struct install_cluster cluster = {.nodes = 3};

/* A spec, and what comes of it: "IMAGE LAUNCHER VERSION", or "! error". */
static const struct {
    const char *spec, *want;
} images[] = {
    {"{}", "docker.io/vireo/vireo:1.2.3 docker.io/vireo/launcher:1.2.3 1.2.3"},
    {"{'imageTag':'v2'}", "docker.io/vireo/vireo:v2 docker.io/vireo/launcher:v2 v2"},
    {"{'imageRegistry':'registry.example:5000/x'}",
     "registry.example:5000/x/vireo:1.2.3 registry.example:5000/x/launcher:1.2.3 1.2.3"},
    {"{'imageRegistry':'a','imageTag':'b'}", "a/vireo:b a/launcher:b b"},
    {"{'imageTag':'two words'}",
     "! spec.imageTag: 'two words' is no tag: letters, digits, '_', '.' and '-', at most 128, or sha256:DIGEST"},
    {"{'imageTag':'x:y'}",
     "! spec.imageTag: 'x:y' is no tag: letters, digits, '_', '.' and '-', at most 128, or sha256:DIGEST"},
    {"{'imageTag':'../../etc'}",
     "! spec.imageTag: '../../etc' is no tag: letters, digits, '_', '.' and '-', at most 128, or sha256:DIGEST"},
    {"{'imageTag':'a\\nb'}",
     "! spec.imageTag: 'a\nb' is no tag: letters, digits, '_', '.' and '-', at most 128, or sha256:DIGEST"},
    {"{'imageTag':'${NAMESPACE}'}",
     "! spec.imageTag: '${NAMESPACE}' is no tag: letters, digits, '_', '.' and '-', at most 128, or sha256:DIGEST"},
    {"{'imageTag':'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}",
     "! spec.imageTag: two images make Vireo, and one digest cannot name both: set VIREO_IMAGE and VIREO_LAUNCHER_IMAGE of the "
     "operator's Deployment instead"},
    {"{'imageRegistry':'http://x'}", "! spec.imageRegistry: 'http://x' is no registry: give one such as quay.io/vireo"},
    {"{'imageRegistry':'x/'}", "! spec.imageRegistry: 'x/' is no registry: give one such as quay.io/vireo"},
    {"{'imageRegistry':'x\\\"y'}", "! spec.imageRegistry: 'x\"y' is no registry: give one such as quay.io/vireo"},
    {"{'imageRegistry':'x@sha256:1'}", "! spec.imageRegistry: 'x@sha256:1' is no registry: give one such as quay.io/vireo"},
    {"{'uninstallStrategy':'Burn'}",
     "! spec.uninstallStrategy: 'Burn' is neither RemoveWorkloads nor BlockUninstallIfWorkloadsExist"},
};

static const struct json *kubevirt_of(struct arena *a, const char *spec)
{
    return json_object(a, "metadata", parse(a, "{\"name\":\"kubevirt\"}"), "spec", parse_quoted(a, spec), NULL);
}

static void versions_and_images(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct install in;
        const char *got;

        if (install_of(kubevirt_of(&a, images[i].spec), &env, &cluster, STR_NONE, &a, &in, &err))
            got = arena_printf(&a, "%s %s %s", in.image, in.launcher_image, in.version);
        else
            got = arena_printf(&a, "! %s", error_text(&err));
        assert_string_equal(got, images[i].want);
    }
}

static void a_huge_tag_is_refused_in_few_words(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf b = {0};
    struct install in;

    (void)state;
    for (size_t i = 0; i < 100000; i++)
        buf_addc(&b, 'x');
    assert_false(install_of(json_with_at(&a, kubevirt_of(&a, "{}"), "spec/imageTag", json_new_str(&a, buf_str(&b))), &env,
                            &cluster, STR_NONE, &a, &in, &err));
    assert_true(strlen(error_text(&err)) < 300);
}

static void another_image_is_another_deployment(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct install one, two, three;
    struct install_env other = env;

    (void)state;
    other.version = "0.9.1";
    assert_true(install_of(kubevirt_of(&a, "{}"), &env, &cluster, STR_NONE, &a, &one, &err));
    assert_true(install_of(kubevirt_of(&a, "{'infra':{'replicas':5}}"), &env, &cluster, STR("x"), &a, &two, &err));
    assert_true(install_of(kubevirt_of(&a, "{}"), &other, &cluster, STR_NONE, &a, &three, &err));
    assert_string_equal(one.id, two.id); /* changed in place, and no upgrade */
    assert_string_not_equal(one.id, three.id);
}

static void replicas_follow_nodes_unless_somebody_says_otherwise(void **state)
{
    static const struct {
        int64_t nodes;
        const char *spec, *api, *controllers;
    } rows[] = {{1, "{}", "1", "1"}, {2, "{}", "2", "2"}, {50, "{}", "5", "2"}, {50, "{'infra':{'replicas':1}}", "1", "1"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct install in;

        assert_true(install_of(kubevirt_of(&a, rows[i].spec), &env, &(struct install_cluster){.nodes = rows[i].nodes}, STR_NONE,
                               &a, &in, &err));
        assert_text(json_get(in.params, "API_REPLICAS"), rows[i].api);
        assert_text(json_get(in.params, "CONTROLLER_REPLICAS"), rows[i].controllers);
    }
}

static void durations(void **state)
{
    static const struct {
        const char *text;
        int64_t want; /* < 0: refused */
    } rows[] = {
        {"24h", 86400}, {"1h30m", 5400}, {"90s", 90}, {"1.5h", 5400}, {"0", 0},     {"500ms", 0},           {"", -1},
        {"24", -1},     {"h", -1},       {"-1h", -1}, {"1d", -1},     {"24h ", -1}, {"9999999999999h", -1}, {"1e3s", -1},
        {"1.2.3s", -1}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(error_clear) struct error err = {0};
        int64_t s = -1;

        if (!install_duration(str_of(rows[i].text), &s, &err))
            s = -1;
        if (s != rows[i].want)
            fail_msg("%s: %lld", rows[i].text, (long long)s);
    }
}

static void lives_of_certificates(void **state)
{
    static const struct {
        const char *self_signed, *want;
    } rows[] = {
        {"{}", "604800 120960 86400 17280"},
        {"{'ca':{'duration':'48h','renewBefore':'24h'},'server':{'duration':'12h','renewBefore':'1h'}}",
         "172800 86400 43200 3600"},
        {"{'caRotateInterval':'10h','caOverlapInterval':'2h','certRotateInterval':'5h'}", "36000 7200 18000 3600"},
        {"{'ca':{'duration':'1h'}}", "3600 720 3600 720"},
        {"{'ca':{'duration':'1ns'}}", "! spec.certificateRotateStrategy.selfSigned.ca.duration: is shorter than 30 seconds"},
        {"{'ca':{'duration':'soon'}}",
         "! spec.certificateRotateStrategy.selfSigned.ca.duration: 'soon' is no duration: give one such as 24h or 90m"},
        {"{'ca':{'renewBefore':'200h'}}",
         "! spec.certificateRotateStrategy.selfSigned.ca.renewBefore: has to be shorter than ca.duration"},
        {"{'server':{'duration':'200h'}}",
         "! spec.certificateRotateStrategy.selfSigned.server.duration: has to be at most ca.duration, of the CA that signs"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *kv = json_with_at(&a, kubevirt_of(&a, "{}"), "spec/certificateRotateStrategy/selfSigned",
                                             parse_quoted(&a, rows[i].self_signed));
        struct cert_life l;
        const char *got;

        if (cert_life_of(kv, &l, &err))
            got = arena_printf(&a, "%lld %lld %lld %lld", (long long)l.ca_s, (long long)l.ca_before_s, (long long)l.leaf_s,
                               (long long)l.leaf_before_s);
        else
            got = arena_printf(&a, "! %s", error_text(&err));
        assert_string_equal(got, rows[i].want);
    }
}

static void order_of_versions(void **state)
{
    static const struct {
        const char *a, *b;
        int want; /* 2: not comparable */
    } rows[] = {{"v1.2.3", "1.2.3", 0},           {"1.2.3", "1.10.0", -1}, {"2.0.0", "1.9.9", 1}, {"1.0.0-rc.1", "1.0.0", -1},
                {"1.0.0-rc.1", "1.0.0-rc.2", -1}, {"latest", "1.0.0", 2},  {"1.0", "1.0.0", 2},   {"1.0.0.0", "1.0.0", 2}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int got = 2;

        if (install_version_compare(str_of(rows[i].a), str_of(rows[i].b), &got))
            got = got < 0 ? -1 : got > 0;
        if (got != rows[i].want)
            fail_msg("%s %s: %d", rows[i].a, rows[i].b, got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_and_images),
        cmocka_unit_test(a_huge_tag_is_refused_in_few_words),
        cmocka_unit_test(another_image_is_another_deployment),
        cmocka_unit_test(replicas_follow_nodes_unless_somebody_says_otherwise),
        cmocka_unit_test(durations),
        cmocka_unit_test(lives_of_certificates),
        cmocka_unit_test(order_of_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
