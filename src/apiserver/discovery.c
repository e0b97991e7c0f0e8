/* apiserver/discovery - which groups, versions and kinds there are: plain lists and the aggregated document. */
#include "apiserver/internal.h"
#include <openssl/sha.h>

/* Distinct groups: Kubernetes' own in the order of their priorities, then the others by name. */
struct groups {
    const char *name[256];
    size_t n;
};

static void group_add(struct groups *g, const char *name)
{
    for (size_t i = 0; i < g->n; i++)
        if (!strcmp(g->name[i], name))
            return;
    if (g->n < ARRAY_SIZE(g->name))
        g->name[g->n++] = name;
}

static size_t group_rank(const char *name)
{
    static const char *const first[] = {"apiregistration.k8s.io",
                                        "apps",
                                        "events.k8s.io",
                                        "authentication.k8s.io",
                                        "authorization.k8s.io",
                                        "autoscaling",
                                        "batch",
                                        "certificates.k8s.io",
                                        "networking.k8s.io",
                                        "policy",
                                        "rbac.authorization.k8s.io",
                                        "storage.k8s.io",
                                        "admissionregistration.k8s.io",
                                        "apiextensions.k8s.io",
                                        "scheduling.k8s.io",
                                        "coordination.k8s.io",
                                        "node.k8s.io",
                                        "discovery.k8s.io",
                                        "resource.k8s.io",
                                        "flowcontrol.apiserver.k8s.io"};
    size_t i = 0;

    while (i < ARRAY_SIZE(first) && strcmp(first[i], name) != 0)
        i++;
    return i;
}

static int by_group_rank(const void *x, const void *y)
{
    const char *a = *(const char *const *)x, *b = *(const char *const *)y;
    size_t m = group_rank(a), n = group_rank(b);

    return m != n ? (m < n ? -1 : 1) : strcmp(a, b);
}

static void groups_of(struct apiserver *s, struct groups *ret)
{
    ret->n = 0;
    for (size_t i = 0; i < s->kinds.n; i++)
        if (*s->kinds.p[i]->info->group)
            group_add(ret, s->kinds.p[i]->info->group);
    for (size_t i = 0; i < s->virtuals.n; i++)
        group_add(ret, s->virtuals.p[i].group);
    qsort(ret->name, ret->n, sizeof *ret->name, by_group_rank);
}

/* Items in the order of the member that names them, of which no item has more than one. */
static int by_name(const void *x, const void *y)
{
    static const char *const keys[] = {"name", "resource", "subresource"};
    const struct json *a = *(const struct json *const *)x, *b = *(const struct json *const *)y;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (json_get(a, keys[i]))
            return str_cmp(json_str_at(a, keys[i]), json_str_at(b, keys[i]));
    return 0;
}

static const struct json *in_order(struct arena *a, const struct json *list)
{
    const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(list) + 1);

    for (size_t i = 0; i < json_len(list); i++)
        p[i] = json_item(list, i);
    qsort(p, json_len(list), sizeof *p, by_name);
    return list ? json_array_n(a, p, json_len(list)) : NULL;
}

struct versions {
    const char *name[16];
    size_t n;
};

/* Kubernetes' order: GA before beta before alpha, higher numbers first. */
static int version_rank(const char *v)
{
    unsigned major = 0, minor = 0;
    char stage[8] = "";
    int n = sscanf(v, "v%u%7[a-z]%u", &major, stage, &minor);

    if (n < 1)
        return -1;
    return (n == 1                   ? 20000
            : !strcmp(stage, "beta") ? 10000
                                     : 0)
           + (int)(major % 100) * 100 + (int)(minor % 100);
}

static void version_add(struct versions *v, const char *name)
{
    size_t at;

    for (size_t i = 0; i < v->n; i++)
        if (!strcmp(v->name[i], name))
            return;
    if (v->n == ARRAY_SIZE(v->name))
        return;
    for (at = v->n; at > 0 && version_rank(v->name[at - 1]) < version_rank(name); at--)
        v->name[at] = v->name[at - 1];
    v->name[at] = name;
    v->n++;
}

static void versions_of(struct apiserver *s, const char *group, struct versions *ret)
{
    ret->n = 0;
    for (size_t i = 0; i < s->kinds.n; i++) {
        const struct kind_info *k = s->kinds.p[i]->info;

        for (size_t j = 0; !strcmp(k->group, group) && k->versions && k->versions[j]; j++)
            version_add(ret, k->versions[j]);
    }
    for (size_t i = 0; i < s->virtuals.n; i++)
        for (size_t j = 0; !strcmp(s->virtuals.p[i].group, group) && s->virtuals.p[i].versions[j];
             j++)
            version_add(ret, s->virtuals.p[i].versions[j]);
}

static const struct json *texts(struct arena *a, const char *const *list)
{
    const struct json *v = json_array(a, NULL);

    if (!list || !list[0])
        return NULL;
    for (size_t i = 0; list[i]; i++)
        v = json_append(a, v, json_new_z(a, list[i]));
    return v;
}

static const char *const all_verbs[] = {
    "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch", NULL};
static const char *const status_verbs[] = {"get", "patch", "update", NULL};
static const char *const create_verbs[] = {"create", NULL};

/* Upstream lists those of custom resources in another order, and their subresources as they come. */
static const char *const custom_verbs[] = {
    "delete", "deletecollection", "get", "list", "patch", "create", "update", "watch", NULL};

static bool is_custom(const struct kind_info *k)
{
    return k->flags & KIND_CRD || schema_kind_find(str_of(k->group), str_of(k->plural)) != k;
}

static const struct json *verbs_of(struct arena *a, const struct kind_info *k)
{
    return texts(a, k->verbs                    ? k->verbs
                    : k->flags & KIND_NO_STORE ? create_verbs
                    : is_custom(k)             ? custom_verbs
                                               : all_verbs);
}

/* Subresources of a kind, as {name, kind, group, version, verbs}. */
struct sub {
    const char *name, *kind, *group, *version;
    const char *const *verbs;
};

static const char *const get_verbs[] = {"get", NULL};

static size_t subs_of(const struct kind_info *k, struct sub *ret)
{
    size_t n = 0;

    if (kind_is(k, "", "pods")) {
        ret[n++] = (struct sub){"binding", "Binding", NULL, NULL, create_verbs};
        ret[n++] = (struct sub){"eviction", "Eviction", "policy", "v1", create_verbs};
        ret[n++] = (struct sub){"log", "Pod", NULL, NULL, get_verbs};
    }
    if (kind_is(k, "", "serviceaccounts"))
        ret[n++] =
            (struct sub){"token", "TokenRequest", "authentication.k8s.io", "v1", create_verbs};
    if (kind_is(k, "", "namespaces"))
        ret[n++] = (struct sub){"finalize", "Namespace", NULL, NULL, status_verbs + 2};
    if (k->flags & KIND_STATUS)
        ret[n++] = (struct sub){"status", k->kind, NULL, NULL, status_verbs};
    if (k->flags & KIND_SCALE)
        ret[n++] = (struct sub){"scale", "Scale", "autoscaling", "v1", status_verbs};
    return n;
}

/* First eight bytes of SHA-256 over group/version/kind. */
static const char *storage_hash(struct arena *a, const struct kind_info *k)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const char *group = kind_is(k, "events.k8s.io", "events") ? "" : k->group; /* as it is stored */
    const char *text = arena_printf(a, "%s/%s/%s", group,
                                    k->storage_version ? k->storage_version : k->version, k->kind);
    AUTO(buf_done) struct buf b = {0};

    SHA256((const unsigned char *)text, strlen(text), digest);
    buf_add_base64(&b, digest, 8);
    return arena_strdup(a, buf_str(&b));
}

static void plain_kind(struct arena *a, const struct kind_info *k, const struct json **list)
{
    struct sub sub[8];
    size_t n = subs_of(k, sub);

    *list = json_append(
        a, *list,
        json_object(a, "name", json_new_z(a, k->plural), "singularName",
                    json_new_z(a, k->singular ? k->singular : ""), "namespaced",
                    json_new_bool(kind_namespaced(k)), "kind", json_new_z(a, k->kind), "verbs",
                    verbs_of(a, k), "shortNames", texts(a, k->short_names), "categories",
                    texts(a, k->categories), "storageVersionHash",
                    k->flags & KIND_NO_STORE ? NULL : json_new_z(a, storage_hash(a, k)), NULL));
    for (size_t i = 0; i < n; i++)
        *list = json_append(
            a, *list,
            json_object(a, "name", json_new_f(a, "%s/%s", k->plural, sub[i].name), "singularName",
                        json_new_z(a, ""), "namespaced", json_new_bool(kind_namespaced(k)), "group",
                        json_new_z(a, sub[i].group), "version", json_new_z(a, sub[i].version),
                        "kind", json_new_z(a, sub[i].kind), "verbs", texts(a, sub[i].verbs), NULL));
}

static bool serves(const struct kind_info *k, const char *group, struct str version)
{
    if (strcmp(k->group, group) != 0)
        return false;
    for (size_t j = 0; k->versions && k->versions[j]; j++)
        if (str_is(version, k->versions[j]))
            return true;
    return !k->versions && str_is(version, k->version);
}

static const struct virtual_group *virtual_of(struct apiserver *s, const char *group,
                                              struct str version)
{
    for (size_t i = 0; i < s->virtuals.n; i++)
        for (size_t j = 0; !strcmp(s->virtuals.p[i].group, group) && s->virtuals.p[i].versions[j];
             j++)
            if (str_is(version, s->virtuals.p[i].versions[j]))
                return &s->virtuals.p[i];
    return NULL;
}

static const struct json *virtual_resources(const struct virtual_group *g, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    if (!g->resources_json || !json_parse(str_of(g->resources_json), a, &v, &err))
        return json_array(a, NULL);
    return v;
}

static void resources(struct request *r, const char *group, struct str version)
{
    struct arena *a = &r->arena;
    const struct json *list = json_array(a, NULL);
    const struct virtual_group *g = virtual_of(r->s, group, version);
    bool found = g != NULL, custom = false;

    for (size_t i = 0; i < r->s->kinds.n; i++) {
        const struct kind_info *k = r->s->kinds.p[i]->info;

        if (serves(k, group, version)) {
            found = true;
            custom |= is_custom(k);
            plain_kind(a, k, &list);
        }
    }
    if (!found) {
        answer_text(r, 404, "text/plain; charset=utf-8", STR("404 page not found\n"));
        return;
    }
    if (g)
        list = virtual_resources(g, a);
    answer_json(r, 200,
                json_object(a, "kind", json_new_z(a, "APIResourceList"), "apiVersion",
                            *group ? json_new_z(a, "v1") : NULL, "groupVersion",
                            json_new_z(a, group_version(group, arena_strdup(a, version), a)),
                            "resources", custom ? list : in_order(a, list), NULL));
}

static const struct json *group_value(struct request *r, const char *group, bool head)
{
    struct arena *a = &r->arena;
    struct versions v;
    const struct json *list = json_array(a, NULL), *preferred = NULL;

    versions_of(r->s, group, &v);
    for (size_t i = 0; i < v.n; i++) {
        const struct json *one =
            json_object(a, "groupVersion", json_new_f(a, "%s/%s", group, v.name[i]), "version",
                        json_new_z(a, v.name[i]), NULL);

        if (!preferred)
            preferred = one;
        list = json_append(a, list, one);
    }
    return json_object(a, "kind", head ? json_new_z(a, "APIGroup") : NULL, "apiVersion",
                       head ? json_new_z(a, "v1") : NULL, "name", json_new_z(a, group), "versions",
                       list, "preferredVersion", preferred, NULL);
}

static void group_list(struct request *r)
{
    struct arena *a = &r->arena;
    struct groups g;
    const struct json *list = json_array(a, NULL);

    groups_of(r->s, &g);
    for (size_t i = 0; i < g.n; i++)
        list = json_append(a, list, group_value(r, g.name[i], false));
    answer_json(r, 200,
                json_object(a, "kind", json_new_z(a, "APIGroupList"), "apiVersion",
                            json_new_z(a, "v1"), "groups", list, NULL));
}

/* Aggregated discovery, apidiscovery.k8s.io v2 and v2beta1. */

static const struct json *response_kind(struct arena *a, const char *group, const char *version,
                                        const char *kind)
{
    return json_object(a, "group", json_new_z(a, group ? group : ""), "version",
                       json_new_z(a, version ? version : ""), "kind", json_new_z(a, kind), NULL);
}

static const struct json *aggregated_kind(struct arena *a, const struct kind_info *k,
                                          const char *version)
{
    struct sub sub[8];
    size_t n = subs_of(k, sub);
    const struct json *list = n ? json_array(a, NULL) : NULL;
    /* Core kinds leave out the group and version that they are listed under; custom ones say them. */
    bool says = !schema_is_core(k->type);
    const char *group = says ? k->group : "", *shown = says ? version : "";

    for (size_t i = 0; i < n; i++)
        list = json_append(
            a, list,
            json_object(a, "subresource", json_new_z(a, sub[i].name), "responseKind",
                        response_kind(a, sub[i].group ? sub[i].group : group,
                                      sub[i].version ? sub[i].version : shown, sub[i].kind),
                        "verbs", texts(a, sub[i].verbs), NULL));
    return json_object(a, "resource", json_new_z(a, k->plural), "responseKind",
                       response_kind(a, group, shown, k->kind), "scope",
                       json_new_z(a, kind_namespaced(k) ? "Namespaced" : "Cluster"),
                       "singularResource", json_new_z(a, k->singular ? k->singular : ""), "verbs",
                       verbs_of(a, k), "shortNames", texts(a, k->short_names), "categories",
                       texts(a, k->categories), "subresources", in_order(a, list), NULL);
}

/* {"name":"virtualmachines/start"} becomes a subresource of its resource, with or without the resource itself. */
static const struct json *aggregated_virtual(struct request *r, const struct virtual_group *g,
                                             const char *version)
{
    struct arena *a = &r->arena;
    const struct json *in = virtual_resources(g, a), *out = json_array(a, NULL);
    struct map seen = {0};

    json_each_item(it, in) {
        struct str name = json_str_at(it, "name"), resource, sub;
        const struct json *subs = json_array(a, NULL), *own = NULL;

        str_cut(name, '/', &resource, &sub);
        if (map_get(&seen, resource))
            continue;
        map_set(&seen, resource, a);
        json_each_item(other, in) {
            struct str n = json_str_at(other, "name"), res, s;

            if (str_eq(n, resource))
                own = other;
            if (!str_cut(n, '/', &res, &s) || !str_eq(res, resource))
                continue;
            subs =
                json_append(a, subs,
                            json_object(a, "subresource", json_new_str(a, s), "responseKind",
                                        response_kind(a, g->group, version,
                                                      arena_strdup(a, json_str_at(other, "kind"))),
                                        "verbs", json_get(other, "verbs"), NULL));
        }
        out = json_append(
            a, out,
            json_object(
                a, "resource", json_new_str(a, resource), "responseKind",
                own ? response_kind(a, g->group, version, arena_strdup(a, json_str_at(own, "kind")))
                    : NULL,
                "scope",
                json_new_z(a, json_bool_at(it, "namespaced", false) ? "Namespaced" : "Cluster"),
                "singularResource", json_new_z(a, ""), "verbs",
                own ? json_get(own, "verbs") : json_array(a, NULL), "subresources",
                json_len(subs) ? subs : NULL, NULL));
    }
    map_done(&seen);
    return out;
}

static const struct json *aggregated_group(struct request *r, const char *group)
{
    struct arena *a = &r->arena;
    struct versions v;
    const struct json *list = json_array(a, NULL);

    versions_of(r->s, group, &v);
    for (size_t i = 0; i < v.n; i++) {
        const struct json *res = json_array(a, NULL);
        const struct virtual_group *g = virtual_of(r->s, group, str_of(v.name[i]));

        for (size_t j = 0; j < r->s->kinds.n; j++)
            if (serves(r->s->kinds.p[j]->info, group, str_of(v.name[i])))
                res = json_append(a, res, aggregated_kind(a, r->s->kinds.p[j]->info, v.name[i]));
        if (g)
            res = aggregated_virtual(r, g, v.name[i]);
        list = json_append(a, list,
                           json_object(a, "version", json_new_z(a, v.name[i]), "resources",
                                       in_order(a, res), "freshness", json_new_z(a, "Current"), NULL));
    }
    return json_object(a, "metadata",
                       json_object(a, "name", *group ? json_new_z(a, group) : NULL, NULL),
                       "versions", list, NULL);
}

static const char *aggregated_version(struct request *r)
{
    struct str accept = exchange_header(r->x, "accept"), range;

    while (accept.p && str_next(&accept, ',', &range)) {
        size_t at;

        if (!str_find(range, STR("g=apidiscovery.k8s.io"), &at))
            continue;
        if (str_find(range, STR("v=v2beta1"), &at))
            return "v2beta1";
        if (str_find(range, STR("v=v2"), &at))
            return "v2";
    }
    return NULL;
}

static void aggregated(struct request *r, const char *version, bool core)
{
    struct arena *a = &r->arena;
    const struct json *items = json_array(a, NULL);
    AUTO(buf_done) struct buf b = {0}, etag = {0};
    unsigned char digest[SHA512_DIGEST_LENGTH];
    const char *type = arena_printf(
        a, "application/json;g=apidiscovery.k8s.io;v=%s;as=APIGroupDiscoveryList", version);

    if (core) {
        items = json_append(a, items, aggregated_group(r, ""));
    } else {
        struct groups g;

        groups_of(r->s, &g);
        for (size_t i = 0; i < g.n; i++)
            items = json_append(a, items, aggregated_group(r, g.name[i]));
    }
    json_write(&b, json_object(a, "kind", json_new_z(a, "APIGroupDiscoveryList"), "apiVersion",
                               json_new_f(a, "apidiscovery.k8s.io/%s", version), "metadata",
                               json_object(a, NULL), "items", items, NULL));
    buf_addc(&b, '\n');
    SHA512((const unsigned char *)b.p, b.n, digest);
    buf_addc(&etag, '"');
    for (size_t i = 0; i < sizeof digest; i++)
        buf_addf(&etag, "%02X", digest[i]);
    buf_addc(&etag, '"');
    exchange_set_header(r->x, "ETag", buf_str(&etag));
    exchange_set_header(r->x, "Vary", STR("Accept"));
    if (str_eq(exchange_header(r->x, "if-none-match"), buf_str(&etag))) {
        r->cache_public = true;
        answer_text(r, 304, NULL, STR(""));
        return;
    }
    r->cache_public = true;
    answer_text(r, 200, type, buf_str(&b));
}

static void root(struct request *r)
{
    static const char *const fixed[] = {"/healthz",    "/livez",          "/metrics", "/openapi/v2",
                                        "/openapi/v3", "/openid/v1/jwks", "/readyz",  "/version"};
    struct arena *a = &r->arena;
    struct groups g;
    const struct json *list =
        json_array(a, json_new_z(a, "/.well-known/openid-configuration"), json_new_z(a, "/api"),
                   json_new_z(a, "/api/v1"), json_new_z(a, "/apis"), NULL);

    groups_of(r->s, &g);
    for (size_t i = 0; i < g.n; i++) {
        struct versions v;

        versions_of(r->s, g.name[i], &v);
        list = json_append(a, list, json_new_f(a, "/apis/%s", g.name[i]));
        for (size_t j = 0; j < v.n; j++)
            list = json_append(a, list, json_new_f(a, "/apis/%s/%s", g.name[i], v.name[j]));
    }
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
        list = json_append(a, list, json_new_z(a, fixed[i]));
    r->pretty = true;
    answer_json(r, 200, json_object(a, "paths", list, NULL));
}

static void api_versions(struct request *r)
{
    struct arena *a = &r->arena;
    struct str host = exchange_header(r->x, "host");
    const struct json *cidr =
        json_object(a, "clientCIDR", json_new_z(a, "0.0.0.0/0"), "serverAddress",
                    json_new_str(a, host.n ? host : STR("127.0.0.1")), NULL);

    answer_json(r, 200,
                json_object(a, "kind", json_new_z(a, "APIVersions"), "versions",
                            json_array(a, json_new_z(a, "v1"), NULL), "serverAddressByClientCIDRs",
                            json_array(a, cidr, NULL), NULL));
}

bool discovery_handle(struct request *r)
{
    struct str path = r->path, group, version;
    const char *v2 = aggregated_version(r);

    if (r->x->method != HTTP_GET && r->x->method != HTTP_HEAD)
        return false;
    if (str_is(path, "/")) {
        root(r);
        return true;
    }
    if (str_ends(path, STR("/")))
        path = str_take(path, path.n - 1);
    if (str_is(path, "/api") || str_is(path, "/apis")) {
        if (v2)
            aggregated(r, v2, str_is(path, "/api"));
        else if (str_is(path, "/api"))
            api_versions(r);
        else
            group_list(r);
        return true;
    }
    if (str_is(path, "/api/v1")) {
        resources(r, "", STR("v1"));
        return true;
    }
    if (!str_starts(path, STR("/apis/")))
        return false;
    if (str_cut(str_skip(path, 6), '/', &group, &version)) {
        if (str_has(version, '/'))
            return false;
        resources(r, arena_strdup(&r->arena, group), version);
        return true;
    }
    {
        struct groups g;

        groups_of(r->s, &g);
        for (size_t i = 0; i < g.n; i++)
            if (str_is(group, g.name[i])) {
                answer_json(r, 200, group_value(r, g.name[i], true));
                return true;
            }
    }
    return false;
}
