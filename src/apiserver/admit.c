/* apiserver/admit - what the server itself fills in and refuses, kind by kind, beyond types. */
#include "api/meta.h"
#include "api/names.h"
#include "apiserver/admit.h"
#include "apiserver/crds.h"

/* Mutation. */

static const struct json *namespace_new(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;

    o = meta_with_label(a, o, "kubernetes.io/metadata.name", r->name);
    if (!json_at(o, "spec/finalizers"))
        o = json_with_at(a, o, "spec/finalizers", json_array(a, json_new_z(a, "kubernetes"), NULL));
    return json_with(a, o, "status", json_object(a, "phase", json_new_z(a, "Active"), NULL));
}

/* Fields of an Event that are there even when they say nothing. */
static const struct json *event_full(struct request *r, const struct json *o)
{
    static const char *const nulls[] = {"firstTimestamp", "lastTimestamp", "eventTime"};
    static const char *const texts[] = {"reportingComponent", "reportingInstance"};
    struct arena *a = &r->arena;

    if (!json_get(o, "source"))
        o = json_with(a, o, "source", json_object(a, NULL));
    for (size_t i = 0; i < ARRAY_SIZE(nulls); i++)
        if (!json_get(o, nulls[i]))
            o = json_with(a, o, nulls[i], json_null());
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (!json_get(o, texts[i]))
            o = json_with(a, o, texts[i], json_new_str(a, STR("")));
    return o;
}

/* The members of the status as upstream's struct has them, whoever wrote them first. */
static const struct json *budget_ordered(struct request *r, const struct json *o)
{
    static const char *const keys[] = {"observedGeneration", "disruptedPods",  "disruptionsAllowed",
                                       "currentHealthy",     "desiredHealthy", "expectedPods",
                                       "conditions"};
    const struct json *status = json_get(o, "status"), *sorted = json_object(&r->arena, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        sorted = json_with(&r->arena, sorted, keys[i], json_get(status, keys[i]));
    return json_with(&r->arena, o, "status", sorted);
}

const struct json *builtin_mutate(struct request *r, enum admission_op op, const struct json *old,
                                  const struct json *o)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;

    if (kind_is(k, "policy", "poddisruptionbudgets") && op == ADMIT_UPDATE)
        return budget_ordered(r, o);
    if (r->subresource.p)
        return o;
    if (kind_is(k, "", "secrets"))
        return secret_data(r, o);
    if (!strcmp(k->plural, "events"))
        return event_full(r, o);
    if (kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions"))
        return crds_mutate(r, old, o);
    if (kind_is(k, "", "limitranges"))
        return limit_range_default(r, o);
    if (!strcmp(k->group, "rbac.authorization.k8s.io"))
        return rbac_default(r, o);
    if (kind_is(k, "", "pods") && op == ADMIT_UPDATE)
        return pod_tolerant(a, o);
    if (op != ADMIT_CREATE)
        return o;
    if (kind_is(k, "", "namespaces"))
        return namespace_new(r, o);
    if (kind_is(k, "", "resourcequotas"))
        return json_with(a, o, "status", json_object(a, NULL));
    if (kind_is(k, "policy", "poddisruptionbudgets"))
        return json_with(a, o, "status",
                         json_object(a, "disruptionsAllowed", json_new_i64(a, 0), "currentHealthy",
                                     json_new_i64(a, 0), "desiredHealthy", json_new_i64(a, 0),
                                     "expectedPods", json_new_i64(a, 0), NULL));
    if (kind_is(k, "", "pods"))
        return pod_new(r, o);
    if (kind_is(k, "", "persistentvolumeclaims"))
        return claim_new(r, o);
    if (kind_is(k, "", "persistentvolumes"))
        return json_with(a, o, "status", json_object(a, "phase", json_new_z(a, "Pending"), NULL));
    return o;
}

/* Validation. */

static void check_labels(struct request *r, const struct json *labels, const char *field,
                         bool values, struct schema_causes *c)
{
    struct arena *a = &r->arena;

    json_each_member(m, labels) {
        struct str key = json_str(&m->key), value = json_str(&m->value);
        const char *why = name_qualified(key, a);

        if (why)
            schema_cause_add(c, a, "FieldValueInvalid", field, "Invalid value: \"" STR_FMT "\": %s",
                             STR_ARG(key), why);
        why = values ? name_label_value(value) : NULL;
        if (why)
            schema_cause_add(c, a, "FieldValueInvalid", field, "Invalid value: \"" STR_FMT "\": %s",
                             STR_ARG(value), why);
    }
}

static void check_meta(struct request *r, const struct json *o, struct schema_causes *c)
{
    struct arena *a = &r->arena;
    const struct json *meta = json_get(o, "metadata");
    size_t total = 0, i = 0, controllers = 0;

    check_labels(r, json_get(meta, "labels"), "metadata.labels", true, c);
    check_labels(r, json_get(meta, "annotations"), "metadata.annotations", false, c);
    json_each_member(m, json_get(meta, "annotations"))
        total += m->key.n + m->value.n;
    if (total > 256 * 1024)
        schema_cause_add(c, a, "FieldValueTooLong", "metadata.annotations",
                         "Too long: may not be more than 262144 bytes");
    json_each_item(f, json_get(meta, "finalizers")) {
        const char *why = name_qualified(json_str(f), a);

        if (why)
            schema_cause_add(c, a, "FieldValueInvalid", "metadata.finalizers",
                             "Invalid value: \"" STR_FMT "\": %s", STR_ARG(json_str(f)), why);
    }
    json_each_item(ref, json_get(meta, "ownerReferences")) {
        static const char *const needed[] = {"apiVersion", "kind", "name", "uid"};

        for (size_t j = 0; j < ARRAY_SIZE(needed); j++)
            if (str_empty(json_str_at(ref, needed[j])))
                schema_cause_add(c, a, "FieldValueInvalid",
                                 arena_printf(a, "metadata.ownerReferences[%zu].%s", i, needed[j]),
                                 "Invalid value: \"\": must not be empty");
        controllers += json_bool_at(ref, "controller", false);
        i++;
    }
    if (controllers > 1)
        schema_cause_add(c, a, "FieldValueInvalid", "metadata.ownerReferences",
                         "Invalid value: Only one reference can have Controller set to true");
}

bool admit_forbid(struct request *r, const char *why)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;

    answer_status(r, 403, "Forbidden",
                  arena_printf(a, "%s%s%s \"" STR_FMT "\" is forbidden: %s", k->plural,
                               *k->group ? "." : "", k->group, STR_ARG(r->name), why),
                  json_object(a, "name", json_new_str(a, r->name), "group",
                              *k->group ? json_new_z(a, k->group) : NULL, "kind",
                              json_new_z(a, k->plural), NULL));
    return false;
}

void cause_required(struct request *r, struct schema_causes *c, const char *field, const char *why)
{
    schema_cause_add(c, &r->arena, "FieldValueRequired", field, "Required value%s%s",
                     *why ? ": " : "", why);
}

bool cause_unless_one_of(struct request *r, struct schema_causes *c, const char *field,
                         struct str v, const char *const *values)
{
    AUTO(buf_done) struct buf b = {0};

    if (!v.p)
        return true;
    for (size_t i = 0; values[i]; i++) {
        if (str_is(v, values[i]))
            return true;
        buf_addf(&b, "%s\"%s\"", b.n ? ", " : "", values[i]);
    }
    schema_cause_add(c, &r->arena, "FieldValueNotSupported", field,
                     "Unsupported value: \"" STR_FMT "\": supported values: " STR_FMT, STR_ARG(v),
                     STR_ARG(buf_str(&b)));
    return false;
}

static void check_requirement(struct request *r, const struct json *e, const char *field,
                              struct schema_causes *c)
{
    struct arena *a = &r->arena;
    struct str key = json_str_at(e, "key"), op = json_str_at(e, "operator");
    size_t n = json_len(json_get(e, "values"));
    const char *why = name_qualified(key, a);

    if ((str_is(op, "In") || str_is(op, "NotIn")) && n == 0)
        cause_required(r, c, arena_printf(a, "%s.values", field),
                       "must be specified when `operator` is 'In' or 'NotIn'");
    else if ((str_is(op, "Exists") || str_is(op, "DoesNotExist")) && n > 0)
        schema_cause_add(c, a, "FieldValueForbidden", arena_printf(a, "%s.values", field),
                         "Forbidden: may not be specified when `operator` is 'Exists' or "
                         "'DoesNotExist'");
    else if (!str_is(op, "In") && !str_is(op, "NotIn") && !str_is(op, "Exists")
             && !str_is(op, "DoesNotExist"))
        schema_cause_add(c, a, "FieldValueInvalid", arena_printf(a, "%s.operator", field),
                         "Invalid value: \"" STR_FMT "\": not a valid selector operator",
                         STR_ARG(op));
    if (why)
        schema_cause_add(c, a, "FieldValueInvalid", arena_printf(a, "%s.key", field),
                         "Invalid value: \"" STR_FMT "\": %s", STR_ARG(key), why);
}

void check_label_selector(struct request *r, const struct json *selector, const char *field,
                          struct schema_causes *c)
{
    struct arena *a = &r->arena;
    size_t i = 0;

    check_labels(r, json_get(selector, "matchLabels"), arena_printf(a, "%s.matchLabels", field),
                 true, c);
    json_each_item(e, json_get(selector, "matchExpressions"))
        check_requirement(r, e, arena_printf(a, "%s.matchExpressions[%zu]", field, i++), c);
}

void check_immutable(struct request *r, struct schema_causes *c, const struct json *old,
                     const struct json *o, const char *path, const char *field)
{
    AUTO(buf_done) struct buf b = {0};

    if (json_eq(json_at(old, path), json_at(o, path)))
        return;
    if (json_at(o, path))
        json_write(&b, json_at(o, path));
    else
        buf_adds(&b, "null");
    schema_cause_add(c, &r->arena, "FieldValueInvalid", field,
                     "Invalid value: " STR_FMT ": field is immutable", STR_ARG(buf_str(&b)));
}

static void check_kind(struct request *r, const struct json *old, const struct json *o,
                       struct schema_causes *c)
{
    const struct kind_info *k = r->kind->info;

    if (kind_is(k, "", "configmaps") || kind_is(k, "", "secrets"))
        check_data(r, old, o, c);
    else if (kind_is(k, "", "persistentvolumeclaims"))
        check_claim(r, old, o, c);
    else if (kind_is(k, "", "persistentvolumes"))
        check_volume(r, old, o, c);
    else if (kind_is(k, "storage.k8s.io", "storageclasses"))
        check_storage_class(r, old, o, c);
    else if (kind_is(k, "", "limitranges"))
        check_limit_range(r, o, c);
    else if (kind_is(k, "", "resourcequotas"))
        check_quota(r, old, o, c);
    else if (kind_is(k, "policy", "poddisruptionbudgets"))
        check_budget(r, old, o, c);
    else if (kind_is(k, "coordination.k8s.io", "leases"))
        check_lease(r, o, c);
    else if (!strcmp(k->plural, "events"))
        check_event(r, old, o, c);
    else if (!strcmp(k->group, "admissionregistration.k8s.io"))
        check_webhooks(r, o, c);
}

bool builtin_validate(struct request *r, enum admission_op op, const struct json *old,
                      const struct json *o, struct schema_causes *c)
{
    const struct kind_info *k = r->kind->info;

    if (op == ADMIT_DELETE) {
        if (kind_is(k, "", "namespaces")
            && (str_is(r->name, "default") || str_is(r->name, "kube-system")
                || str_is(r->name, "kube-public")))
            return admit_forbid(r, "this namespace may not be deleted");
        if (kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions")
            && crds_builtin(r->name) != NULL)
            return admit_forbid(r, "this definition is part of the server and may not be deleted");
        return true;
    }
    if (op == ADMIT_CONNECT)
        return true;
    if (op == ADMIT_CREATE && r->kind->terminating)
        return admit_forbid(r, "create not allowed while custom resource definition is terminating");
    if (!str_is(r->subresource, "eviction"))
        check_meta(r, o, c);
    if (!r->subresource.p)
        check_kind(r, old, o, c);
    if (c->n)
        return true;
    if (kind_is(k, "", "pods"))
        return pod_checked(r, op, old, o, c);
    if (kind_is(k, "", "persistentvolumeclaims") && !r->subresource.p)
        return limits_check(r, o);
    if (kind_is(k, "apiregistration.k8s.io", "apiservices") && !r->is_local)
        return admit_forbid(r, "APIServices are kept by this server itself; it asks no other API "
                               "server, so serve your kinds by a CustomResourceDefinition");
    if (kind_is(k, "scheduling.k8s.io", "priorityclasses"))
        return check_priority_class(r, old, o, c);
    if (!strcmp(k->group, "rbac.authorization.k8s.io"))
        return rbac_validate(r, old, o, c);
    if (kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions") && !r->subresource.p)
        crds_check(r, old, o, c);
    return true;
}
