/* apiserver/admit_storage - claims, volumes and storage classes: what is filled in, what has to be said, what may change. */
#include "api/meta.h"
#include "api/names.h"
#include "apiserver/admit.h"

/* The StorageClass that says it is the default. */
const struct json *claim_new(struct request *r, const struct json *o)
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

static const char *const access_modes[] = {"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce",
                                           "ReadWriteOncePod", NULL};
static const char *const volume_modes[] = {"Block", "Filesystem", NULL};

static void check_modes(struct request *r, const struct json *o, const char *why,
                        struct schema_causes *c)
{
    const struct json *modes = json_at(o, "spec/accessModes");
    bool alone = false;

    if (!json_len(modes))
        cause_required(r, c, "spec.accessModes", why);
    json_each_item(m, modes) {
        cause_unless_one_of(r, c, "spec.accessModes", json_str(m), access_modes);
        alone |= str_is(json_str(m), "ReadWriteOncePod");
    }
    if (alone && json_len(modes) > 1)
        schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec.accessModes",
                         "Forbidden: may not use ReadWriteOncePod with other access modes");
    cause_unless_one_of(r, c, "spec.volumeMode", json_str_at(o, "spec/volumeMode"), volume_modes);
}

static void check_storage(struct request *r, const struct json *v, const char *field,
                          struct schema_causes *c)
{
    struct quantity q;

    if (!v)
        cause_required(r, c, field, "");
    else if (check_quantity(r, c, field, v, &q) && q.nano == 0)
        schema_cause_add(c, &r->arena, "FieldValueInvalid", field,
                         "Invalid value: \"0\": must be greater than zero");
}

/* Claims grow, where their class lets them; none shrinks. */
static void check_growth(struct request *r, const struct json *old, const struct json *o,
                         struct schema_causes *c)
{
    const char *path = "spec/resources/requests/storage",
               *field = "spec.resources.requests.storage";
    struct quantity was, is;
    const struct json *class;

    if (!quantity_of_json(json_at(old, path), &was)
        || !check_quantity(r, c, field, json_at(o, path), &is) || quantity_cmp(was, is) == 0)
        return;
    if (quantity_cmp(is, was) < 0) {
        schema_cause_add(c, &r->arena, "FieldValueForbidden", field,
                         "Forbidden: field can not be less than status.capacity");
        return;
    }
    class = apiserver_peek(r->s, "storage.k8s.io", "storageclasses", STR_NONE,
                           json_str_at(o, "spec/storageClassName"), &r->arena);
    if (!json_bool_at(class, "allowVolumeExpansion", false))
        schema_cause_add(c, &r->arena, "FieldValueForbidden", field,
                         "Forbidden: only dynamically provisioned pvc can be resized and the "
                         "storageclass that provisions the pvc must support resize");
}

/* What a claim gets is settled once: a bound one that could be pointed elsewhere would be somebody else's disk. */
void check_claim(struct request *r, const struct json *old, const struct json *o,
                 struct schema_causes *c)
{
    static const char *const free_to_change[] = {"resources", "volumeAttributesClassName"};
    static const char *const set_once[] = {"volumeName", "storageClassName"};
    struct arena *a = &r->arena;
    const struct json *was = json_get(old, "spec"), *is = json_get(o, "spec");

    if (!old) {
        struct str class = json_str_at(o, "spec/storageClassName");

        check_modes(r, o, "at least 1 access mode is required", c);
        check_storage(r, json_at(o, "spec/resources/requests/storage"), "spec.resources[storage]",
                      c);
        if (class.n && name_dns1123_subdomain(class))
            schema_cause_add(c, a, "FieldValueInvalid", "spec.storageClassName",
                             "Invalid value: \"" STR_FMT "\": %s", STR_ARG(class),
                             name_dns1123_subdomain(class));
        return;
    }
    check_growth(r, old, o, c);
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

void check_volume(struct request *r, const struct json *old, const struct json *o,
                  struct schema_causes *c)
{
    static const char *const policies[] = {"Delete", "Recycle", "Retain", NULL};
    static const char *const others[] = {"capacity",
                                         "accessModes",
                                         "claimRef",
                                         "persistentVolumeReclaimPolicy",
                                         "storageClassName",
                                         "mountOptions",
                                         "volumeMode",
                                         "nodeAffinity",
                                         "volumeAttributesClassName"};
    const struct json *spec = json_get(o, "spec");
    size_t sources = json_len(spec);

    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        sources -= json_get(spec, others[i]) != NULL;
    check_modes(r, o, "", c);
    if (!json_len(json_get(spec, "capacity")))
        cause_required(r, c, "spec.capacity", "");
    else if (!json_at(spec, "capacity/storage"))
        schema_cause_add(c, &r->arena, "FieldValueNotSupported", "spec.capacity",
                         "Unsupported value: supported values: \"storage\"");
    else
        check_storage(r, json_at(spec, "capacity/storage"), "spec.capacity[storage]", c);
    cause_unless_one_of(r, c, "spec.persistentVolumeReclaimPolicy",
                        json_str_at(spec, "persistentVolumeReclaimPolicy"), policies);
    if (sources == 0)
        cause_required(r, c, "spec", "must specify a volume type");
    else if (sources > 1)
        schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec",
                         "Forbidden: may not specify more than 1 volume type");
    if (old) {
        const struct json *was = json_get(old, "spec"), *is = spec;

        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
            was = json_with(&r->arena, was, others[i], NULL);
            is = json_with(&r->arena, is, others[i], NULL);
        }
        if (!json_eq(was, is))
            schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec.persistentvolumesource",
                             "Forbidden: spec.persistentvolumesource is immutable after creation");
        check_immutable(r, c, old, o, "spec/volumeMode", "spec.volumeMode");
    }
}

void check_storage_class(struct request *r, const struct json *old, const struct json *o,
                         struct schema_causes *c)
{
    static const char *const policies[] = {"Delete", "Retain", NULL};
    static const char *const bindings[] = {"Immediate", "WaitForFirstConsumer", NULL};
    struct arena *a = &r->arena;
    struct str provisioner = json_str_at(o, "provisioner");
    size_t total = 0;

    if (str_empty(provisioner))
        cause_required(r, c, "provisioner", "");
    else if (name_qualified(provisioner, a))
        schema_cause_add(c, a, "FieldValueInvalid", "provisioner",
                         "Invalid value: \"" STR_FMT "\": %s", STR_ARG(provisioner),
                         name_qualified(provisioner, a));
    json_each_member(m, json_get(o, "parameters")) {
        total += m->key.n + m->value.n;
        if (!m->key.n)
            schema_cause_add(c, a, "FieldValueInvalid", "parameters",
                             "Invalid value: \"\": field can not be empty.");
    }
    if (json_len(json_get(o, "parameters")) > 512 || total > 256 * 1024)
        schema_cause_add(c, a, "FieldValueTooLong", "parameters",
                         "Too long: may not be more than 262144 bytes");
    cause_unless_one_of(r, c, "reclaimPolicy", json_str_at(o, "reclaimPolicy"), policies);
    cause_unless_one_of(r, c, "volumeBindingMode", json_str_at(o, "volumeBindingMode"), bindings);
    if (!old)
        return;
    if (!json_eq(json_get(old, "parameters"), json_get(o, "parameters")))
        schema_cause_add(c, a, "FieldValueForbidden", "parameters",
                         "Forbidden: updates to parameters are forbidden.");
    if (!json_eq(json_get(old, "provisioner"), json_get(o, "provisioner")))
        schema_cause_add(c, a, "FieldValueForbidden", "provisioner",
                         "Forbidden: updates to provisioner are forbidden.");
    if (!json_eq(json_get(old, "reclaimPolicy"), json_get(o, "reclaimPolicy")))
        schema_cause_add(c, a, "FieldValueForbidden", "reclaimPolicy",
                         "Forbidden: updates to reclaimPolicy are forbidden.");
    check_immutable(r, c, old, o, "volumeBindingMode", "volumeBindingMode");
}
