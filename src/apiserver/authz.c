/* apiserver/authz - RBAC: may they?
 *
 * All bindings with the rules they give are kept decoded and are read anew from the store after any change of an
 * RBAC object. system:masters may everything. ClusterRoles with an aggregationRule get the rules of those that match. */
#include "api/labels.h"
#include "api/meta.h"
#include "apiserver/internal.h"

struct grant {
    struct str ns;               /* absent: everywhere */
    const struct json *subjects; /* of the binding */
    const struct json *rules;
    const struct json *binding;
};

struct rbac {
    struct apiserver *s;
    struct store_watch *watch;
    bool dirty;
    struct arena arena;
    VEC(struct grant) grants;
};

static bool rbac_changed(void *user, const struct store_event *e)
{
    struct rbac *r = user;

    (void)e;
    r->dirty = true;
    return true;
}

struct rbac *rbac_new(struct apiserver *s)
{
    struct rbac *r = NEW(struct rbac);
    AUTO(error_clear) struct error err = {0};

    r->s = s;
    r->dirty = true;
    r->watch = store_watch_start(s->store, STR("/registry/rbac.authorization.k8s.io/"),
                                 store_revision(s->store), rbac_changed, r, &err);
    return r;
}

void rbac_free(struct rbac *r)
{
    if (!r)
        return;
    store_watch_stop(r->watch);
    vec_done(&r->grants);
    arena_done(&r->arena);
    free(r);
}

bool identity_in(const struct identity *who, const char *group)
{
    for (size_t i = 0; who->groups && who->groups[i]; i++)
        if (!strcmp(who->groups[i], group))
            return true;
    return false;
}

static struct str role_key(struct arena *a, bool cluster, struct str ns, struct str name)
{
    return cluster ? str_of(arena_printf(
               a, "/registry/rbac.authorization.k8s.io/clusterroles/-/" STR_FMT, STR_ARG(name)))
                   : str_of(arena_printf(
                       a, "/registry/rbac.authorization.k8s.io/roles/" STR_FMT "/" STR_FMT,
                       STR_ARG(ns), STR_ARG(name)));
}

static const struct json *aggregated(struct apiserver *s, const struct json *selectors,
                                     struct arena *a)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *rules = json_array(a, NULL);

    if (!store_list(s->store, STR("/registry/rbac.authorization.k8s.io/clusterroles/"), STR_NONE, 0,
                    0, NULL, NULL, &list, &err))
        return rules;
    for (size_t i = 0; i < list.n; i++) {
        const struct json *role = store_object_json(list.p[i], a);
        bool matches = false;

        json_each_item(sel, selectors) {
            struct label_selector ls;

            if (label_selector_from(sel, a, &ls, &err))
                matches |= label_selector_match(&ls, meta_labels(role));
            else
                error_clear(&err);
        }
        if (!matches || json_get(role, "aggregationRule"))
            continue;
        json_each_item(rule, json_get(role, "rules"))
            rules = json_append(a, rules, rule);
    }
    return rules;
}

const struct json *rbac_role_rules(struct apiserver *s, const struct json *role_ref, struct str ns,
                                   struct arena *a)
{
    bool cluster = str_is(json_str_at(role_ref, "kind"), "ClusterRole");
    struct store_object *o =
        store_get(s->store, role_key(a, cluster, ns, json_str_at(role_ref, "name")));
    const struct json *role;

    if (!o)
        return NULL;
    role = store_object_json(o, a);
    store_object_unref(o);
    if (cluster && json_get(role, "aggregationRule"))
        return aggregated(s, json_at(role, "aggregationRule/clusterRoleSelectors"), a);
    return json_get(role, "rules");
}

static void load(struct rbac *r, const char *plural)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    char prefix[128];

    snprintf(prefix, sizeof prefix, "/registry/rbac.authorization.k8s.io/%s/", plural);
    if (!store_list(r->s->store, str_of(prefix), STR_NONE, 0, 0, NULL, NULL, &list, &err))
        return;
    for (size_t i = 0; i < list.n; i++) {
        const struct json *b = store_object_json(list.p[i], &r->arena);
        struct grant g = {
            .ns = meta_namespace(b), .subjects = json_get(b, "subjects"), .binding = b};

        if (!strcmp(plural, "clusterrolebindings"))
            g.ns = STR_NONE;
        g.rules = rbac_role_rules(r->s, json_get(b, "roleRef"), g.ns, &r->arena);
        if (g.rules)
            vec_push(&r->grants, g);
    }
}

static void refresh(struct rbac *r)
{
    if (!r->dirty)
        return;
    r->dirty = false;
    r->grants.n = 0;
    arena_clear(&r->arena);
    load(r, "clusterrolebindings");
    load(r, "rolebindings");
}

static bool subject_is(const struct json *subject, struct str binding_ns,
                       const struct identity *who)
{
    struct str kind = json_str_at(subject, "kind"), name = json_str_at(subject, "name"),
               ns = json_str_at(subject, "namespace");

    if (str_is(kind, "User"))
        return str_is(name, who->user);
    if (str_is(kind, "Group")) {
        for (size_t i = 0; who->groups && who->groups[i]; i++)
            if (str_is(name, who->groups[i]))
                return true;
        return false;
    }
    if (str_is(kind, "ServiceAccount")) {
        struct str user = str_of(who->user),
                   rest = str_skip(user, strlen("system:serviceaccount:")), uns, uname;

        if (!str_starts(user, STR("system:serviceaccount:")) || !str_cut(rest, ':', &uns, &uname))
            return false;
        return str_eq(uname, name) && str_eq(uns, ns.n ? ns : binding_ns);
    }
    return false;
}

static const struct json *grant_subject(const struct grant *g, const struct identity *who)
{
    json_each_item(subject, g->subjects) {
        if (subject_is(subject, g->ns, who))
            return subject;
    }
    return NULL;
}

static bool list_has(const struct json *list, struct str wanted)
{
    json_each_item(it, list) {
        struct str s = json_str(it);

        if (str_is(s, "*") || str_eq(s, wanted))
            return true;
    }
    return false;
}

static bool resources_have(const struct json *list, struct str resource, struct str sub)
{
    json_each_item(it, list) {
        struct str s = json_str(it), left, right;

        if (str_is(s, "*"))
            return true;
        if (str_cut(s, '/', &left, &right)) {
            if (sub.n && str_eq(right, sub) && (str_is(left, "*") || str_eq(left, resource)))
                return true;
        } else if (!sub.n && str_eq(s, resource)) {
            return true;
        }
    }
    return false;
}

static bool rule_allows(const struct json *rule, struct str verb, struct str group,
                        struct str resource, struct str sub, struct str name)
{
    const struct json *names = json_get(rule, "resourceNames");

    if (!list_has(json_get(rule, "verbs"), verb) || !list_has(json_get(rule, "apiGroups"), group)
        || !resources_have(json_get(rule, "resources"), resource, sub))
        return false;
    if (!json_len(names))
        return true;
    json_each_item(it, names) {
        if (name.n && str_eq(json_str(it), name))
            return true;
    }
    return false;
}

static bool rule_allows_path(const struct json *rule, struct str verb, struct str path)
{
    if (!list_has(json_get(rule, "verbs"), verb))
        return false;
    json_each_item(it, json_get(rule, "nonResourceURLs")) {
        struct str s = json_str(it);

        if (str_is(s, "*") || str_eq(s, path))
            return true;
        if (str_ends(s, STR("*")) && str_starts(path, str_take(s, s.n - 1)))
            return true;
    }
    return false;
}

static const struct grant *find(struct apiserver *s, const struct identity *who, struct str verb,
                                struct str group, struct str resource, struct str sub,
                                struct str ns, struct str name, struct str path,
                                const struct json **ret_subject)
{
    struct rbac *r = s->rbac;

    refresh(r);
    for (size_t i = 0; i < r->grants.n; i++) {
        const struct grant *g = &r->grants.p[i];
        const struct json *subject;

        if (g->ns.p && (path.p || !str_eq(g->ns, ns)))
            continue;
        subject = grant_subject(g, who);
        if (!subject)
            continue;
        *ret_subject = subject;
        json_each_item(rule, g->rules) {
            if (path.p ? rule_allows_path(rule, verb, path)
                       : rule_allows(rule, verb, group, resource, sub, name))
                return g;
        }
    }
    return NULL;
}

bool apiserver_authorized(struct apiserver *s, const struct identity *who, const char *verb,
                          const char *group, const char *resource, const char *subresource,
                          struct str ns, struct str name)
{
    const struct json *subject;

    return identity_in(who, "system:masters")
           || find(s, who, str_of(verb), str_of(group), str_of(resource), str_of(subresource), ns,
                   name, STR_NONE, &subject);
}

static bool open_path(struct str path)
{
    return str_is(path, "/livez") || str_is(path, "/readyz") || str_is(path, "/healthz")
           || str_is(path, "/version") || str_is(path, "/version/");
}

bool authorize_path(struct apiserver *s, const struct identity *who, const char *verb,
                    struct str path)
{
    const struct json *subject;

    if (identity_in(who, "system:masters") || (s->config.anonymous_health && open_path(path)))
        return true;
    return find(s, who, str_of(verb), STR(""), STR(""), STR_NONE, STR_NONE, STR_NONE, path,
                &subject)
           != NULL;
}

const char *rbac_reason(struct apiserver *s, const struct identity *who, const char *verb,
                        const char *group, const char *resource, const char *subresource,
                        struct str ns, struct str name, struct str path, struct arena *a)
{
    const struct json *subject, *b;
    const struct grant *g;
    bool cluster;

    if (identity_in(who, "system:masters"))
        return "";
    g = find(s, who, str_of(verb), str_of(group), str_of(resource), str_of(subresource), ns, name,
             path, &subject);
    if (!g)
        return NULL;
    b = g->binding;
    cluster = !g->ns.p;
    return arena_printf(
        a,
        "RBAC: allowed by %s \"" STR_FMT "%s" STR_FMT "\" of " STR_FMT " \"" STR_FMT
        "\" to " STR_FMT " \"" STR_FMT "\"",
        cluster ? "ClusterRoleBinding" : "RoleBinding", STR_ARG(meta_name(b)), cluster ? "" : "/",
        STR_ARG(cluster ? STR("") : g->ns), STR_ARG(json_str_at(b, "roleRef/kind")),
        STR_ARG(json_str_at(b, "roleRef/name")), STR_ARG(json_str_at(subject, "kind")),
        STR_ARG(json_str_at(subject, "name")));
}

const struct json *rbac_rules_for(struct apiserver *s, const struct identity *who, struct str ns,
                                  struct arena *a, const struct json **ret_paths)
{
    static const char *const keys[] = {"verbs", "apiGroups", "resources", "resourceNames"};
    const struct json *out = json_array(a, NULL), *paths = json_array(a, NULL), *subject;
    struct rbac *r = s->rbac;

    refresh(r);
    for (size_t i = 0; i < r->grants.n; i++) {
        const struct grant *g = &r->grants.p[i];

        if (g->ns.p && !str_eq(g->ns, ns))
            continue;
        subject = grant_subject(g, who);
        if (!subject)
            continue;
        json_each_item(rule, g->rules) {
            if (json_len(json_get(rule, "nonResourceURLs"))) {
                paths = json_append(
                    a, paths,
                    json_copy(a, json_object(a, "verbs", json_get(rule, "verbs"), "nonResourceURLs",
                                             json_get(rule, "nonResourceURLs"), NULL)));
                continue;
            }
            {
                const struct json *one = json_object(a, NULL);

                for (size_t j = 0; j < ARRAY_SIZE(keys); j++)
                    one = json_with(a, one, keys[j], json_get(rule, keys[j]));
                out = json_append(a, out, json_copy(a, one));
            }
        }
    }
    if (identity_in(who, "system:masters")) {
        const struct json *star = json_array(a, json_new_z(a, "*"), NULL);

        out = json_append(
            a, out, json_object(a, "verbs", star, "apiGroups", star, "resources", star, NULL));
        paths = json_append(a, paths, json_object(a, "verbs", star, "nonResourceURLs", star, NULL));
    }
    *ret_paths = paths;
    return out;
}

/* Every verb on every resource that a rule names, one by one: `who` must have each of them. */
bool rbac_covers(struct apiserver *s, const struct identity *who, struct str ns,
                 const struct json *rules, struct arena *a, const char **ret_missing)
{
    const struct json *none = json_array(a, json_new_z(a, ""), NULL);

    if (identity_in(who, "system:masters"))
        return true;
    json_each_item(rule, rules) {
        const struct json *names = json_get(rule, "resourceNames");

        json_each_item(verb, json_get(rule, "verbs")) {
            AUTO_FREE char *v = str_dup(json_str(verb));

            json_each_item(url, json_get(rule, "nonResourceURLs")) {
                if (!authorize_path(s, who, v, json_str(url))) {
                    *ret_missing = arena_printf(a, "%s " STR_FMT, v, STR_ARG(json_str(url)));
                    return false;
                }
            }
            json_each_item(group, json_get(rule, "apiGroups"))
                json_each_item(resource, json_get(rule, "resources"))
                    json_each_item(name, json_len(names) ? names : none) {
                        struct str res, sub;
                        AUTO_FREE char *g = str_dup(json_str(group)), *rr = NULL, *ss = NULL;

                        str_cut(json_str(resource), '/', &res, &sub);
                        rr = str_dup(res);
                        ss = str_dup(sub);
                        if (!apiserver_authorized(s, who, v, g, rr, ss, ns, json_str(name))) {
                            *ret_missing = arena_printf(a, "%s " STR_FMT " in API group \"%s\"", v,
                                                        STR_ARG(json_str(resource)), g);
                            return false;
                        }
                    }
        }
    }
    return true;
}
