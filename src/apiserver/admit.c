/* apiserver/admit - what the server itself fills in and refuses, kind by kind, beyond types. */
#include "api/meta.h"
#include "api/names.h"
#include "apiserver/crds.h"
#include "apiserver/internal.h"

#define DATA_MAX (1u << 20)

/* Mutation. */

static const struct json *namespace_new(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;

    o = meta_with_label(a, o, "kubernetes.io/metadata.name", r->name);
    if (!json_at(o, "spec/finalizers"))
        o = json_with_at(a, o, "spec/finalizers", json_array(a, json_new_z(a, "kubernetes"), NULL));
    return json_with(a, o, "status", json_object(a, "phase", json_new_z(a, "Active"), NULL));
}

static const struct json *pod_new(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;

    if (str_empty(json_str_at(o, "spec/serviceAccountName")))
        o = json_with_at(a, o, "spec/serviceAccountName", json_new_z(a, "default"));
    return json_with(a, o, "status",
                     json_object(a, "phase", json_new_z(a, "Pending"), "qosClass",
                                 json_new_z(a, "Burstable"), NULL));
}

/* The StorageClass that says it is the default. */
static const struct json *claim_new(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    o = json_with(a, o, "status", json_object(a, "phase", json_new_z(a, "Pending"), NULL));
    if (json_at(o, "spec/storageClassName")
        || !store_list(r->s->store, STR("/registry/storage.k8s.io/storageclasses/"), STR_NONE, 0, 0,
                       NULL, NULL, &list, &err))
        return o;
    for (size_t i = 0; i < list.n; i++) {
        const struct json *sc = store_object_json(list.p[i], a);

        if (str_is(meta_annotation(sc, "storageclass.kubernetes.io/is-default-class"), "true"))
            return json_with_at(a, o, "spec/storageClassName", json_new_str(a, meta_name(sc)));
    }
    return o;
}

static const struct json *secret_data(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    const struct json *plain = json_get(o, "stringData"), *data = json_get(o, "data");

    if (!plain)
        return o;
    json_each_member(m, plain) {
        AUTO(buf_done) struct buf b = {0};
        struct str text = json_str(&m->value);

        buf_add_base64(&b, text.p ? text.p : "", text.n);
        data = json_with_str(a, data ? data : json_object(a, NULL), json_str(&m->key),
                             json_new_str(a, b.n ? buf_str(&b) : STR("")));
    }
    return json_with(a, json_with(a, o, "stringData", NULL), "data", data);
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

const struct json *builtin_mutate(struct request *r, enum admission_op op, const struct json *old,
                                  const struct json *o)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;

    (void)old;
    if (r->subresource.p)
        return o;
    if (kind_is(k, "", "secrets"))
        return secret_data(r, o);
    if (!strcmp(k->plural, "events"))
        return event_full(r, o);
    if (kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions"))
        return crds_mutate(r, o);
    if (op != ADMIT_CREATE)
        return o;
    if (kind_is(k, "", "namespaces"))
        return namespace_new(r, o);
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

static bool forbid(struct request *r, const char *why)
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

static const struct json *pod_frozen(struct arena *a, const struct json *o)
{
    static const char *const free_to_change[] = {"activeDeadlineSeconds", "tolerations",
                                                 "terminationGracePeriodSeconds"};
    static const char *const lists[] = {"containers", "initContainers"};
    const struct json *spec = json_get(o, "spec");

    for (size_t i = 0; i < ARRAY_SIZE(free_to_change); i++)
        spec = json_with(a, spec, free_to_change[i], NULL);
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        const struct json *list = json_get(spec, lists[i]), *out = json_array(a, NULL);

        if (!list)
            continue;
        json_each_item(c, list)
            out = json_append(a, out, json_with(a, c, "image", NULL));
        spec = json_with(a, spec, lists[i], out);
    }
    return spec;
}

static void check_pod(struct request *r, const struct json *old, const struct json *o,
                      struct schema_causes *c)
{
    if (!json_eq(pod_frozen(&r->arena, old), pod_frozen(&r->arena, o)))
        schema_cause_add(
            c, &r->arena, "FieldValueForbidden", "spec",
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
            "additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 "
            "if it was "
            "previously negative)");
}

/* What a claim gets is settled once: a bound one that could be pointed elsewhere would be somebody else's disk. */
static void check_claim(struct request *r, const struct json *old, const struct json *o,
                        struct schema_causes *c)
{
    static const char *const free_to_change[] = {"resources", "volumeAttributesClassName"};
    static const char *const set_once[] = {"volumeName", "storageClassName"};
    struct arena *a = &r->arena;
    const struct json *was = json_get(old, "spec"), *is = json_get(o, "spec");

    for (size_t i = 0; i < ARRAY_SIZE(free_to_change); i++) {
        was = json_with(a, was, free_to_change[i], NULL);
        is = json_with(a, is, free_to_change[i], NULL);
    }
    for (size_t i = 0; i < ARRAY_SIZE(set_once); i++)
        if (str_empty(json_str_at(was, set_once[i]))) {
            was = json_with(a, was, set_once[i], NULL);
            is = json_with(a, is, set_once[i], NULL);
        }
    if (!json_eq(was, is))
        schema_cause_add(c, a, "FieldValueForbidden", "spec",
                         "Forbidden: spec is immutable after creation except resources.requests "
                         "and volumeAttributesClassName for bound claims");
}

static void check_data(struct request *r, const struct json *old, const struct json *o,
                       struct schema_causes *c)
{
    static const char *const maps[] = {"data", "binaryData"};
    struct arena *a = &r->arena;
    bool secret = kind_is(r->kind->info, "", "secrets");
    size_t total = 0;

    for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
        json_each_member(m, json_get(o, maps[i])) {
            struct str key = json_str(&m->key);
            bool ok = key.n > 0 && key.n <= 253 && !str_is(key, ".") && !str_is(key, "..");

            for (size_t j = 0; j < key.n; j++)
                ok &= (key.p[j] >= 'a' && key.p[j] <= 'z') || (key.p[j] >= 'A' && key.p[j] <= 'Z')
                      || (key.p[j] >= '0' && key.p[j] <= '9') || key.p[j] == '-' || key.p[j] == '_'
                      || key.p[j] == '.';
            if (!ok)
                schema_cause_add(c, a, "FieldValueInvalid",
                                 arena_printf(a, "%s[" STR_FMT "]", maps[i], STR_ARG(key)),
                                 "Invalid value: \"" STR_FMT
                                 "\": a valid config key must consist of alphanumeric characters, "
                                 "'-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
                                 "'key-name', regex used for validation "
                                 "is '[-._a-zA-Z0-9]+')",
                                 STR_ARG(key));
            total += secret || i == 1 ? m->value.n / 4 * 3 : m->value.n;
        }
    if (total > DATA_MAX)
        schema_cause_add(c, a, "FieldValueTooLong", secret ? "data" : "[]",
                         "Too long: may not be more than 1048576 bytes");
    if (old && json_bool_at(old, "immutable", false)) {
        for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
            if (!json_eq(json_get(old, maps[i]), json_get(o, maps[i])))
                schema_cause_add(c, a, "FieldValueForbidden", maps[i],
                                 "Forbidden: field is immutable when `immutable` is set");
        if (!json_bool_at(o, "immutable", false))
            schema_cause_add(c, a, "FieldValueForbidden", "immutable",
                             "Forbidden: field is immutable when `immutable` is set");
    }
    if (secret && old && !str_eq(json_str_at(old, "type"), json_str_at(o, "type")))
        schema_cause_add(c, a, "FieldValueInvalid", "type",
                         "Invalid value: \"" STR_FMT "\": field is immutable",
                         STR_ARG(json_str_at(o, "type")));
}

/* Nobody gives what they do not have, unless they may escalate or bind. */
static bool check_rbac(struct request *r, const struct json *old, const struct json *o,
                       struct schema_causes *c)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    const struct json *rules = json_get(o, "rules"), *ref = json_get(o, "roleRef");
    const char *missing = NULL;

    if (!ref) {
        if (apiserver_authorized(r->s, &r->who, "escalate", k->group, k->plural, NULL, r->ns,
                                 r->name))
            return true;
    } else {
        const char *plural =
            str_is(json_str_at(ref, "kind"), "ClusterRole") ? "clusterroles" : "roles";

        if (old && !json_eq(json_get(old, "roleRef"), ref)) {
            schema_cause_add(c, a, "FieldValueInvalid", "roleRef",
                             "Invalid value: cannot change roleRef");
            return true;
        }
        if (apiserver_authorized(r->s, &r->who, "bind", k->group, plural, NULL, r->ns,
                                 json_str_at(ref, "name")))
            return true;
        rules = rbac_role_rules(r->s, ref, r->ns, a);
        if (!rules)
            return identity_in(&r->who, "system:masters")
                   || forbid(
                       r,
                       "the role that is bound does not exist yet, and the user may not bind it");
    }
    if (rbac_covers(r->s, &r->who, r->ns, rules, a, &missing))
        return true;
    return forbid(
        r, arena_printf(
               a, "user \"%s\" is attempting to grant RBAC permissions not currently held: %s",
               r->who.user, missing));
}

bool builtin_validate(struct request *r, enum admission_op op, const struct json *old,
                      const struct json *o, struct schema_causes *c)
{
    const struct kind_info *k = r->kind->info;

    if (op == ADMIT_DELETE) {
        if (kind_is(k, "", "namespaces")
            && (str_is(r->name, "default") || str_is(r->name, "kube-system")
                || str_is(r->name, "kube-public")))
            return forbid(r, "this namespace may not be deleted");
        if (kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions")
            && crds_builtin(r->name) != NULL)
            return forbid(r, "this definition is part of the server and may not be deleted");
        return true;
    }
    if (op == ADMIT_CONNECT)
        return true;
    if (!str_is(r->subresource, "eviction"))
        check_meta(r, o, c);
    if (kind_is(k, "", "pods") && old && !r->subresource.p)
        check_pod(r, old, o, c);
    if (kind_is(k, "", "configmaps") || kind_is(k, "", "secrets"))
        check_data(r, old, o, c);
    if (kind_is(k, "", "persistentvolumeclaims") && old && !r->subresource.p)
        check_claim(r, old, o, c);
    if (!strcmp(k->group, "rbac.authorization.k8s.io"))
        return check_rbac(r, old, o, c);
    if (kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions") && !r->subresource.p)
        crds_check(r, old, o, c);
    return true;
}
