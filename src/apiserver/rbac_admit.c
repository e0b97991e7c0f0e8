/* apiserver/rbac_admit - what roles and bindings may say, and that nobody hands out what they do not have.
 *
 * Whoever writes a role needs every right in it, or the verb "escalate" on it; whoever writes a binding needs every right of its
 * role, or "bind" on that role. An aggregationRule gathers whatever comes to match it, so it needs all rights there are. */
#include "api/meta.h"
#include "api/names.h"
#include "apiserver/internal.h"
#include "apiserver/rbac.h"

#define GROUP "rbac.authorization.k8s.io"

const struct json *rbac_default(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    const struct json *subjects = json_get(o, "subjects"), *out = json_array(a, NULL);

    if (!json_len(subjects))
        return o;
    json_each_item(s, subjects) {
        struct str kind = json_str_at(s, "kind");
        bool ours = str_is(kind, "User") || str_is(kind, "Group");

        out = json_append(a, out,
                          ours && str_empty(json_str_at(s, "apiGroup"))
                              ? json_with(a, s, "apiGroup", json_new_z(a, GROUP))
                              : s);
    }
    return json_with(a, o, "subjects", out);
}

struct checker {
    struct arena *a;
    struct schema_causes *c;
    bool cluster;
};

static void invalid(const struct checker *k, const char *field, const struct json *value,
                    const char *why)
{
    AUTO_FREE char *text = json_text(value);

    schema_cause_add(k->c, k->a, "FieldValueInvalid", field, "Invalid value: %s: %s", text, why);
}

static void required(const struct checker *k, const char *field, const char *why)
{
    schema_cause_add(k->c, k->a, "FieldValueRequired", field, "Required value%s%s",
                     *why ? ": " : "", why);
}

static void unsupported(const struct checker *k, const char *field, struct str value,
                        const char *supported)
{
    schema_cause_add(k->c, k->a, "FieldValueNotSupported", field,
                     "Unsupported value: \"" STR_FMT "\": supported values: %s", STR_ARG(value),
                     supported);
}

static void check_rule(const struct checker *k, const struct json *rule, size_t i)
{
    const struct json *urls = json_get(rule, "nonResourceURLs");
    struct arena *a = k->a;

    if (!json_len(json_get(rule, "verbs")))
        required(k, arena_printf(a, "rules[%zu].verbs", i),
                 "verbs must contain at least one value");
    if (json_len(urls)) {
        const char *field = arena_printf(a, "rules[%zu].nonResourceURLs", i);

        if (!k->cluster)
            invalid(k, field, urls, "namespaced rules cannot apply to non-resource URLs");
        if (json_len(json_get(rule, "apiGroups")) || json_len(json_get(rule, "resources"))
            || json_len(json_get(rule, "resourceNames")))
            invalid(k, field, urls,
                    "rules cannot apply to both regular resources and non-resource URLs");
        return;
    }
    if (!json_len(json_get(rule, "apiGroups")))
        required(k, arena_printf(a, "rules[%zu].apiGroups", i),
                 "resource rules must supply at least one api group");
    if (!json_len(json_get(rule, "resources")))
        required(k, arena_printf(a, "rules[%zu].resources", i),
                 "resource rules must supply at least one resource");
}

static void check_role(const struct checker *k, const struct json *o)
{
    const struct json *aggregation = json_get(o, "aggregationRule");
    size_t i = 0;

    json_each_item(rule, json_get(o, "rules"))
        check_rule(k, rule, i++);
    if (json_is(aggregation, JSON_OBJECT)
        && !json_len(json_get(aggregation, "clusterRoleSelectors")))
        required(k, "aggregationRule.clusterRoleSelectors",
                 "at least one clusterRoleSelector required if aggregationRule is non-nil");
}

static void check_subject(const struct checker *k, const struct json *s, size_t i)
{
    struct arena *a = k->a;
    struct str kind = json_str_at(s, "kind"), name = json_str_at(s, "name"),
               group = json_str_at(s, "apiGroup");
    const char *name_field = arena_printf(a, "subjects[%zu].name", i),
               *group_field = arena_printf(a, "subjects[%zu].apiGroup", i), *why;

    if (!name.n)
        required(k, name_field, "");
    if (str_is(kind, "ServiceAccount")) {
        why = name.n ? name_dns1123_subdomain(name) : NULL;
        if (why)
            invalid(k, name_field, json_get(s, "name"), why);
        if (group.n)
            unsupported(k, group_field, group, "\"\"");
        if (k->cluster && !json_str_at(s, "namespace").n)
            required(k, arena_printf(a, "subjects[%zu].namespace", i), "");
    } else if (str_is(kind, "User") || str_is(kind, "Group")) {
        if (!name.n)
            schema_cause_add(k->c, a, "FieldValueInvalid", name_field,
                             "Invalid value: \"\": %s name cannot be empty",
                             str_is(kind, "User") ? "user" : "group");
        if (!str_is(group, GROUP))
            unsupported(k, group_field, group, "\"" GROUP "\"");
    } else {
        unsupported(k, arena_printf(a, "subjects[%zu].kind", i), kind,
                    "\"Group\", \"ServiceAccount\", \"User\"");
    }
}

static void check_binding(const struct checker *k, const struct json *old, const struct json *o)
{
    struct arena *a = k->a;
    const struct json *ref = json_get(o, "roleRef"), *was = json_get(old, "roleRef");
    struct str kind = json_str_at(ref, "kind"), name = json_str_at(ref, "name"),
               group = json_str_at(ref, "apiGroup");
    size_t i = 0;

    if (!str_is(group, GROUP))
        unsupported(k, "roleRef.apiGroup", group, "\"" GROUP "\"");
    if (!str_is(kind, "ClusterRole") && (k->cluster || !str_is(kind, "Role")))
        unsupported(k, "roleRef.kind", kind,
                    k->cluster ? "\"ClusterRole\"" : "\"ClusterRole\", \"Role\"");
    if (!name.n) {
        required(k, "roleRef.name", "");
    } else {
        const char *why = name_path_segment(name, a);

        if (why)
            invalid(k, "roleRef.name", json_get(ref, "name"), why);
    }
    json_each_item(s, json_get(o, "subjects"))
        check_subject(k, s, i++);
    if (was
        && (!str_eq(json_str_at(was, "apiGroup"), group) || !str_eq(json_str_at(was, "kind"), kind)
            || !str_eq(json_str_at(was, "name"), name)))
        invalid(k, "roleRef",
                json_object(a, "APIGroup", json_new_str(a, group), "Kind", json_new_str(a, kind),
                            "Name", json_new_str(a, name), NULL),
                "cannot change roleRef");
}

static bool refuse(struct request *r, const char *why)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;

    answer_status(r, 403, "Forbidden",
                  arena_printf(a, "%s." GROUP " \"" STR_FMT "\" is forbidden: %s", k->plural,
                               STR_ARG(r->name), why),
                  json_object(a, "name", json_new_str(a, r->name), "group", json_new_z(a, GROUP),
                              "kind", json_new_z(a, k->plural), NULL));
    return false;
}

static bool holds(struct request *r, const struct json *rules)
{
    struct arena *a = &r->arena;
    const struct json *owned = rbac_rules_of(r->s->rbac, &r->who, r->ns, a);
    const char *missing;
    AUTO(buf_done) struct buf b = {0};

    if (rules_cover(owned, rules, a, &missing))
        return true;
    buf_addf(&b, "user \"%s\" (groups=[", r->who.user);
    for (size_t i = 0; r->who.groups && r->who.groups[i]; i++) {
        buf_adds(&b, i ? " " : "");
        json_write_string(&b, str_of(r->who.groups[i]));
    }
    buf_addf(&b, "]) is attempting to grant RBAC permissions not currently held:\n%s", missing);
    return refuse(r, arena_strdup(a, buf_str(&b)));
}

static bool everything(struct request *r)
{
    struct arena *a = &r->arena;
    const struct json *star = json_array(a, json_new_z(a, "*"), NULL);
    const struct json *all =
        json_array(a, json_object(a, "verbs", star, "apiGroups", star, "resources", star, NULL),
                   json_object(a, "verbs", star, "nonResourceURLs", star, NULL), NULL);
    const char *missing;

    return rules_cover(rbac_rules_of(r->s->rbac, &r->who, r->ns, a), all, a, &missing)
           || refuse(r, "must have cluster-admin privileges to use the aggregationRule");
}

/* Only what the garbage collector needs to let it go: finalizers and owners. */
static bool only_gc_fields(struct arena *a, const struct json *old, const struct json *o)
{
    static const char *const fields[] = {
        "metadata/ownerReferences",   "metadata/finalizers",
        "metadata/managedFields",     "metadata/resourceVersion",
        "metadata/deletionTimestamp", "metadata/deletionGracePeriodSeconds"};

    if (!old)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        old = json_with_at(a, old, fields[i], NULL);
        o = json_with_at(a, o, fields[i], NULL);
    }
    return json_eq(old, o);
}

static bool may_grant_role(struct request *r, const struct json *old, const struct json *o)
{
    const struct kind_info *k = r->kind->info;

    if (apiserver_authorized(r->s, &r->who, "escalate", GROUP, k->plural, NULL, r->ns,
                             r->verb == VERB_CREATE ? STR_NONE : r->name))
        return true;
    if (!holds(r, json_get(o, "rules")))
        return false;
    if (json_is(json_get(o, "aggregationRule"), JSON_OBJECT)
        || json_is(json_get(old, "aggregationRule"), JSON_OBJECT))
        return everything(r);
    return true;
}

static bool may_bind(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    const struct json *ref = json_get(o, "roleRef"), *rules;
    bool cluster = str_is(json_str_at(ref, "kind"), "ClusterRole");
    const char *plural = cluster ? "clusterroles" : "roles";
    struct str name = json_str_at(ref, "name");

    if (apiserver_authorized(r->s, &r->who, "bind", GROUP, plural, NULL, r->ns, name))
        return true;
    rules = rbac_role_rules(r->s->rbac, cluster, r->ns, name);
    if (!rules) {
        answer_status(
            r, 404, "NotFound",
            arena_printf(a, "%s." GROUP " \"" STR_FMT "\" not found", plural, STR_ARG(name)),
            json_object(a, "name", json_new_str(a, name), "group", json_new_z(a, GROUP), "kind",
                        json_new_z(a, plural), NULL));
        return false;
    }
    return holds(r, rules);
}

bool rbac_validate(struct request *r, const struct json *old, const struct json *o,
                   struct schema_causes *c)
{
    struct checker k = {&r->arena, c, str_starts(str_of(r->kind->info->plural), STR("cluster"))};
    bool role = str_ends(str_of(r->kind->info->plural), STR("roles"));

    if (!identity_in(&r->who, "system:masters") && !only_gc_fields(&r->arena, old, o)
        && !(role ? may_grant_role(r, old, o) : may_bind(r, o)))
        return false;
    if (role)
        check_role(&k, o);
    else
        check_binding(&k, old, o);
    return true;
}
