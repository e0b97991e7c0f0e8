#include "operator/install.h"

#include "api/meta.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "operator/component.h"

#define TAG_MAX 128
#define REPLICAS_MAX 255 /* upstream keeps it in 8 bits (KubeVirtSpec.infra.replicas, *uint8) */
#define LIFE_MIN_S 30 /* shorter ones would keep everybody busy with renewals */
#define LIFE_MAX_S (100ll * 365 * 86400)

/* -- durations and versions ------------------------------------------------------------------------ */

bool install_duration(struct str text, int64_t *ret_s, struct error *err)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ms", 1e-3}, {"us", 1e-6}, {"µs", 1e-6}, {"ns", 1e-9}, {"h", 3600}, {"m", 60}, {"s", 1}};
    double total = 0;
    struct str rest = text;

    if (!rest.n)
        return error_set(err, ERROR_INVALID, "is empty: give a duration such as 24h");
    if (str_is(rest, "0")) {
        *ret_s = 0;
        return true;
    }
    while (rest.n) {
        double value = 0, scale = 1;
        size_t n = 0, unit;
        bool point = false;

        for (; n < rest.n && ((rest.p[n] >= '0' && rest.p[n] <= '9') || (rest.p[n] == '.' && !point)); n++) {
            if (rest.p[n] == '.')
                point = true;
            else if (point)
                value += (rest.p[n] - '0') * (scale /= 10);
            else
                value = value * 10 + (rest.p[n] - '0');
        }
        rest = str_skip(rest, n);
        for (unit = 0; unit < ARRAY_SIZE(units) && !str_starts(rest, str_of(units[unit].name)); unit++)
            ;
        if (n == 0 || unit == ARRAY_SIZE(units) || text.n > 64)
            return error_set(err, ERROR_INVALID, "'" STR_FMT "' is no duration: give one such as 24h or 90m",
                             STR_ARG(str_take(text, 64)));
        rest = str_skip(rest, strlen(units[unit].name));
        total += value * units[unit].seconds;
        if (total > (double)LIFE_MAX_S)
            return error_set(err, ERROR_INVALID, "'" STR_FMT "' is too long: at most 100 years", STR_ARG(text));
    }
    *ret_s = (int64_t)total;
    return true;
}

/* "v1.8.0-rc.1" → 1, 8, 0 and what is behind. */
static bool version_parts(struct str v, uint64_t ret[3], struct str *ret_behind)
{
    AUTO(error_clear) struct error err = {0};
    struct str core, rest;

    if (str_starts(v, STR("v")))
        v = str_skip(v, 1);
    str_cut(v, '+', &v, &rest);
    *ret_behind = STR_NONE;
    str_cut(v, '-', &core, ret_behind);
    for (size_t i = 0; i < 3; i++) {
        struct str part;

        if (!str_next(&core, '.', &part) || !parse_u64(part, 1u << 30, &ret[i], &err))
            return false;
    }
    return core.n == 0;
}

bool install_version_compare(struct str a, struct str b, int *ret)
{
    uint64_t x[3], y[3];
    struct str x_behind, y_behind;

    if (!version_parts(a, x, &x_behind) || !version_parts(b, y, &y_behind))
        return false;
    for (size_t i = 0; i < 3; i++)
        if (x[i] != y[i]) {
            *ret = x[i] < y[i] ? -1 : 1;
            return true;
        }
    /* 1.0.0-rc.1 comes before 1.0.0. */
    *ret = !x_behind.p || !y_behind.p ? (x_behind.p ? -1 : 0) + (y_behind.p ? 1 : 0) : str_cmp(x_behind, y_behind);
    return true;
}

/* -- certificates ------------------------------------------------------------------------------------ */

/* The newer field, else the older one, else the default. */
static bool life(const struct json *kubevirt, const char *path, const char *older, int64_t otherwise, int64_t *ret,
                 struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const char *base = "spec/certificateRotateStrategy/selfSigned/";
    struct str text = json_str_at(kubevirt, arena_printf(&a, "%s%s", base, path));
    const char *used = path;

    if (!text.p && older) {
        text = json_str_at(kubevirt, arena_printf(&a, "%s%s", base, older));
        used = older;
    }
    if (!text.p) {
        *ret = otherwise;
        return true;
    }
    if (!install_duration(text, ret, err)) {
        char *name = arena_strdup(&a, str_of(used));

        for (char *c = name; *c; c++)
            *c = *c == '/' ? '.' : *c;
        return error_wrap(err, "spec.certificateRotateStrategy.selfSigned.%s", name);
    }
    return true;
}

bool cert_life_of(const struct json *kubevirt, struct cert_life *ret, struct error *err)
{
    struct cert_life l;
    const char *base = "spec.certificateRotateStrategy.selfSigned";

    if (!life(kubevirt, "ca/duration", "caRotateInterval", 168 * 3600, &l.ca_s, err)
        || !life(kubevirt, "ca/renewBefore", "caOverlapInterval", l.ca_s / 5, &l.ca_before_s, err)
        || !life(kubevirt, "server/duration", "certRotateInterval", l.ca_s < 24 * 3600 ? l.ca_s : 24 * 3600, &l.leaf_s, err)
        || !life(kubevirt, "server/renewBefore", NULL, l.leaf_s / 5, &l.leaf_before_s, err))
        return false;
    if (l.ca_s < LIFE_MIN_S || l.leaf_s < LIFE_MIN_S)
        return error_set(err, ERROR_INVALID, "%s.%s.duration: is shorter than %d seconds", base,
                         l.ca_s < LIFE_MIN_S ? "ca" : "server", LIFE_MIN_S);
    if (l.ca_before_s >= l.ca_s)
        return error_set(err, ERROR_INVALID, "%s.ca.renewBefore: has to be shorter than ca.duration", base);
    if (l.leaf_before_s >= l.leaf_s)
        return error_set(err, ERROR_INVALID, "%s.server.renewBefore: has to be shorter than server.duration", base);
    if (l.leaf_s > l.ca_s)
        return error_set(err, ERROR_INVALID, "%s.server.duration: has to be at most ca.duration, of the CA that signs", base);
    *ret = l;
    return true;
}

/* -- images ------------------------------------------------------------------------------------------- */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool tag_valid(struct str t)
{
    bool digest = str_starts(t, STR("sha256:"));
    struct str rest = digest ? str_skip(t, 7) : t;

    if (digest && rest.n != 64)
        return false;
    if (!rest.n || rest.n > TAG_MAX || !is_word(rest.p[0]))
        return false;
    for (size_t i = 0; i < rest.n; i++) {
        if (digest && !((rest.p[i] >= '0' && rest.p[i] <= '9') || (rest.p[i] >= 'a' && rest.p[i] <= 'f')))
            return false;
        if (!is_word(rest.p[i]) && rest.p[i] != '.' && rest.p[i] != '-')
            return false;
    }
    return true;
}

/* host[:port][/path]…, all that may stand before an image's name. */
static bool registry_valid(struct str r)
{
    struct str rest = r, part;
    bool first = true;

    if (!r.n || r.n > 255 || str_ends(r, STR("/")))
        return false;
    while (str_next(&rest, '/', &part)) {
        if (!part.n || !is_word(part.p[0]))
            return false;
        for (size_t i = 0; i < part.n; i++)
            if (!is_word(part.p[i]) && part.p[i] != '.' && part.p[i] != '-' && !(first && part.p[i] == ':'))
                return false;
        first = false;
    }
    return true;
}

struct image {
    struct str registry, name, tag; /* tag: with ':' or '@' in front; absent: none */
};

static struct image image_cut(struct str text)
{
    struct image i = {0};
    struct str rest = text, path;
    size_t at;

    if (str_find(rest, STR("@"), &at)) {
        i.tag = str_skip(rest, at);
        rest = str_take(rest, at);
    }
    if (!str_rcut(rest, '/', &i.registry, &path)) {
        path = rest;
        i.registry = STR_NONE;
    }
    if (str_find(path, STR(":"), &at)) {
        if (!i.tag.p)
            i.tag = str_skip(path, at);
        path = str_take(path, at);
    }
    i.name = path;
    return i;
}

static const char *image_text(struct arena *a, const struct image *i, struct str registry, struct str tag)
{
    struct str r = registry.n ? registry : i->registry;
    const char *mark = str_starts(tag, STR("sha256:")) ? "@" : ":";

    return arena_printf(a, STR_FMT "%s" STR_FMT "%s" STR_FMT, STR_ARG(r), r.n ? "/" : "", STR_ARG(i->name), tag.n ? mark : "",
                        STR_ARG(tag.n ? tag : i->tag));
}

static bool images(struct install *in, const struct install_env *e, struct arena *a, struct error *err)
{
    struct str registry = json_str_at(in->kubevirt, "spec/imageRegistry"), tag = json_str_at(in->kubevirt, "spec/imageTag");
    struct image image = image_cut(str_of(e->image)), launcher = image_cut(str_of(e->launcher_image));

    if (registry.n && !registry_valid(registry))
        return error_set(err, ERROR_INVALID, "spec.imageRegistry: '" STR_FMT "' is no registry: give one such as quay.io/vireo",
                         STR_ARG(str_take(registry, 100)));
    if (tag.n && !tag_valid(tag))
        return error_set(err, ERROR_INVALID,
                         "spec.imageTag: '" STR_FMT
                         "' is no tag: letters, digits, '_', '.' and '-', at most 128, or sha256:DIGEST",
                         STR_ARG(str_take(tag, 100)));
    if (str_starts(tag, STR("sha256:")))
        return error_set(err, ERROR_INVALID,
                         "spec.imageTag: two images make Vireo, and one digest cannot name both: set VIREO_IMAGE and "
                         "VIREO_LAUNCHER_IMAGE of the operator's Deployment instead");
    in->image = image_text(a, &image, registry, tag);
    in->launcher_image = image_text(a, &launcher, registry, tag);
    in->registry = arena_strdup(a, registry.n ? registry : image.registry.p ? image.registry : STR(""));
    if (!tag.n && str_starts(image.tag, STR(":")) && !str_is(image.tag, ":latest"))
        tag = str_skip(image.tag, 1);
    in->version = tag.n ? arena_strdup(a, tag) : arena_printf(a, "v%s", e->version);
    return true;
}

/* -- all ------------------------------------------------------------------------------------------------ */

static const struct json *param(struct arena *a, const struct json *params, const char *name, const char *text)
{
    return json_with(a, params, name, json_new_z(a, text));
}

static int64_t replicas(const struct json *kubevirt, int64_t otherwise)
{
    int64_t n = json_i64_at(kubevirt, "spec/infra/replicas", -1);

    return n > 0 ? n : otherwise;
}

static const struct json *base64(struct arena *a, struct str text)
{
    AUTO(buf_done) struct buf b = {0};

    if (!text.n)
        return NULL;
    buf_add_base64(&b, text.p, text.n);
    return json_new_str(a, buf_str(&b));
}

static const char *pull_policy(const struct json *kubevirt, const struct install_env *e, struct arena *a)
{
    struct str policy = json_str_at(kubevirt, "spec/imagePullPolicy");

    return policy.n ? arena_strdup(a, policy) : e->pull_policy && e->pull_policy[0] ? e->pull_policy : "IfNotPresent";
}

static void fill_params(struct install *in, const struct install_env *e, struct arena *a)
{
    const struct json *p = json_object(a, NULL);
    /* As upstream: two of each, and of virt-api one more for every ten nodes. */
    int64_t nodes = in->cluster.nodes, api = replicas(in->kubevirt, nodes <= 1 ? 1 : nodes / 10 > 2 ? nodes / 10 : 2);
    int64_t controllers = replicas(in->kubevirt, nodes <= 1 ? 1 : 2);

    p = param(a, p, "NAMESPACE", in->ns);
    p = param(a, p, "IMAGE", in->image);
    p = param(a, p, "LAUNCHER_IMAGE", in->launcher_image);
    p = param(a, p, "VERSION", in->version);
    p = param(a, p, "PULL_POLICY", pull_policy(in->kubevirt, e, a));
    p = param(a, p, "KUBELET_DIR", e->kubelet_dir && e->kubelet_dir[0] ? e->kubelet_dir : "/var/lib/kubelet");
    p = param(a, p, "PDB_VERSION", in->cluster.old_budgets ? "v1beta1" : "v1");
    /* A tenth of the nodes at a time, as upstream. Agents on nodes that do not answer count as missing: without them added, one such node
     * would hold up the rollout on all others for as long as it is away. */
    p = json_with(a, p, "HANDLER_MAX_UNAVAILABLE", json_new_i64(a, (nodes / 10 > 1 ? nodes / 10 : 1) + in->cluster.lost));
    p = json_with(a, p, "API_REPLICAS", json_new_i64(a, api));
    p = json_with(a, p, "API_MIN_AVAILABLE", json_new_i64(a, api > 0 ? api - 1 : 0));
    p = json_with(a, p, "CONTROLLER_REPLICAS", json_new_i64(a, controllers));
    p = json_with(a, p, "CONTROLLER_MIN_AVAILABLE", json_new_i64(a, controllers > 0 ? controllers - 1 : 0));
    p = json_with(a, p, "CA_BUNDLE", base64(a, in->ca_bundle));
    in->params = p;
}

/* The manifests are part of what is deployed: another binary with other ones is another deployment. */
static void identify(struct install *in, const struct install_env *e, struct arena *a)
{
    AUTO(buf_done) struct buf text = {0};
    const struct json *config =
        json_object(a, "id", NULL, "namespace", json_new_z(a, in->ns), "registry", json_new_z(a, in->registry),
                    "kubeVirtVersion", json_new_z(a, in->version), "operatorVersion", json_new_z(a, e->version), "virtImage",
                    json_new_z(a, in->image), "virtLauncherImage", json_new_z(a, in->launcher_image), NULL);
    const struct json *files = json_array(a, NULL);

    for (const struct component_file *f = component_files; f->name; f++)
        files = json_append(a, files, json_new_str(a, component_hash(a, json_new_z(a, f->text))));
    in->id = arena_strdup(a, component_hash(a, json_array(a, config, files, NULL)));
    config = json_with(a, config, "id", json_new_z(a, in->id));
    json_write(&text, config);
    in->config_json = arena_strdup(a, buf_str(&text));
}

static bool strategy(struct install *in, struct error *err)
{
    struct str s = json_str_at(in->kubevirt, "spec/uninstallStrategy");

    in->remove_workloads = str_is(s, "RemoveWorkloads");
    if (s.n && !in->remove_workloads && !str_is(s, "BlockUninstallIfWorkloadsExist"))
        return error_set(err, ERROR_INVALID,
                         "spec.uninstallStrategy: '" STR_FMT "' is neither RemoveWorkloads nor BlockUninstallIfWorkloadsExist",
                         STR_ARG(str_take(s, 64)));
    return true;
}

bool install_of(const struct json *kubevirt, const struct install_env *e, const struct install_cluster *c, struct str ca_bundle,
                struct arena *a, struct install *ret, struct error *err)
{
    struct install in = {.kubevirt = kubevirt, .ns = e->ns, .cluster = *c, .ca_bundle = ca_bundle, .webhook = e->webhook};

    if (json_i64_at(kubevirt, "spec/infra/replicas", 1) < 1)
        return error_set(err, ERROR_INVALID, "spec.infra.replicas: must be at least 1: without virt-api nobody could create, change or stop a "
                                             "machine; leave it out for as many as the cluster needs");
    if (json_i64_at(kubevirt, "spec/infra/replicas", 1) > REPLICAS_MAX)
        return error_set(err, ERROR_INVALID, "spec.infra.replicas: must be at most %d", REPLICAS_MAX);
    if (!images(&in, e, a, err) || !strategy(&in, err) || !cert_life_of(kubevirt, &in.life, err))
        return false;
    fill_params(&in, e, a);
    identify(&in, e, a);
    *ret = in;
    return true;
}

void install_validate(const struct json *kubevirt, struct arena *a, struct schema_causes *ret)
{
    static const struct install_env env = {.ns = "kubevirt", .image = "vireo", .launcher_image = "launcher", .version = "0"};
    static const struct install_cluster cluster = {.nodes = 2};
    AUTO(error_clear) struct error err = {0};
    struct install in;
    struct components all;

    if (install_of(kubevirt, &env, &cluster, STR_NONE, a, &in, &err) && components_make(&in, a, &all, &err))
        return;
    /* "spec.field: words" */
    struct str text = str_of(error_text(&err)), field = text, words = text;
    size_t at;

    if (str_starts(text, STR("spec")) && str_find(text, STR(": "), &at)) {
        field = str_take(text, at);
        words = str_skip(text, at + 2);
    } else {
        field = STR("spec");
    }
    schema_cause_add(ret, a, "FieldValueInvalid", arena_strdup(a, field), STR_FMT, STR_ARG(words));
}
