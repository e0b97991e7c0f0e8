#include "api/meta.h"

static const struct json *meta(const struct json *o, const char *field)
{
    return json_get(json_get(o, "metadata"), field);
}

struct str meta_name(const struct json *o) { return json_str(meta(o, "name")); }
struct str meta_namespace(const struct json *o) { return json_str(meta(o, "namespace")); }
struct str meta_uid(const struct json *o) { return json_str(meta(o, "uid")); }
struct str meta_resource_version(const struct json *o) { return json_str(meta(o, "resourceVersion")); }
struct str meta_kind(const struct json *o) { return json_str(json_get(o, "kind")); }
struct str meta_api_version(const struct json *o) { return json_str(json_get(o, "apiVersion")); }
struct str meta_creation(const struct json *o) { return json_str(meta(o, "creationTimestamp")); }
const struct json *meta_labels(const struct json *o) { return meta(o, "labels"); }
const struct json *meta_annotations(const struct json *o) { return meta(o, "annotations"); }
struct str meta_label(const struct json *o, const char *key) { return json_str(json_get(meta_labels(o), key)); }
struct str meta_annotation(const struct json *o, const char *key)
{
    return json_str(json_get(meta_annotations(o), key));
}
bool meta_deleting(const struct json *o) { return json_type(meta(o, "deletionTimestamp")) != JSON_NULL; }

int64_t meta_generation(const struct json *o)
{
    int64_t n;

    return json_i64(meta(o, "generation"), &n) ? n : 0;
}

bool meta_has_finalizer(const struct json *o, const char *name)
{
    json_each_item(it, meta(o, "finalizers")) {
        if (str_is(json_str(it), name))
            return true;
    }
    return false;
}

const struct json *meta_controller(const struct json *o)
{
    json_each_item(it, meta(o, "ownerReferences")) {
        if (json_bool(json_get(it, "controller")))
            return it;
    }
    return NULL;
}

bool meta_controlled_by(const struct json *o, struct str uid)
{
    struct str have = json_str(json_get(meta_controller(o), "uid"));

    return have.n > 0 && str_eq(have, uid);
}

bool meta_owned_by(const struct json *o, struct str uid)
{
    json_each_item(it, meta(o, "ownerReferences")) {
        if (uid.n && str_eq(json_str(json_get(it, "uid")), uid))
            return true;
    }
    return false;
}

struct str meta_group(struct str api_version, struct str *ret_version)
{
    struct str group, version;

    if (!str_cut(api_version, '/', &group, &version)) {
        version = api_version;
        group = STR("");
    }
    if (ret_version)
        *ret_version = version;
    return group;
}

char *meta_key(const struct json *o, struct arena *a)
{
    struct str ns = meta_namespace(o), name = meta_name(o);

    return ns.n ? arena_printf(a, STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(name)) : arena_strdup(a, name.p ? name : STR(""));
}

static const struct json *with_meta(struct arena *a, const struct json *o, const char *field, const struct json *value)
{
    return json_with(a, o, "metadata", json_with(a, json_get(o, "metadata"), field, value));
}

static const struct json *with_text(struct arena *a, const struct json *o, const char *field, const char *key,
                                    struct str value)
{
    const struct json *map = meta(o, field);

    if (value.p ? str_eq(json_str(json_get(map, key)), value) && json_get(map, key) : !json_get(map, key))
        return o;
    map = json_with(a, map, key, value.p ? json_new_str(a, value) : NULL);
    return with_meta(a, o, field, json_len(map) ? map : NULL);
}

const struct json *meta_with_label(struct arena *a, const struct json *o, const char *key, struct str value)
{
    return with_text(a, o, "labels", key, value);
}

const struct json *meta_with_annotation(struct arena *a, const struct json *o, const char *key, struct str value)
{
    return with_text(a, o, "annotations", key, value);
}

const struct json *meta_add_finalizer(struct arena *a, const struct json *o, const char *name)
{
    if (meta_has_finalizer(o, name))
        return o;
    return with_meta(a, o, "finalizers", json_append(a, meta(o, "finalizers"), json_new_z(a, name)));
}

/* The list without those items for which keep[i] is false; NULL when none is left. */
static const struct json *filtered(struct arena *a, const struct json *list, const bool *keep)
{
    const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(list));
    size_t n = 0;

    for (size_t i = 0; i < json_len(list); i++)
        if (keep[i])
            p[n++] = json_item(list, i);
    return n ? json_array_n(a, p, n) : NULL;
}

const struct json *meta_remove_finalizer(struct arena *a, const struct json *o, const char *name)
{
    const struct json *list = meta(o, "finalizers");
    bool *keep = ARENA_ARRAY(a, bool, json_len(list));

    if (!meta_has_finalizer(o, name))
        return o;
    for (size_t i = 0; i < json_len(list); i++)
        keep[i] = !str_is(json_str(json_item(list, i)), name);
    return with_meta(a, o, "finalizers", filtered(a, list, keep));
}

const struct json *meta_owner_ref(struct arena *a, const struct json *owner, bool controller)
{
    return json_object(a, "apiVersion", json_new_str(a, meta_api_version(owner)), "kind",
                       json_new_str(a, meta_kind(owner)), "name", json_new_str(a, meta_name(owner)), "uid",
                       json_new_str(a, meta_uid(owner)), "controller", controller ? json_new_bool(true) : NULL,
                       "blockOwnerDeletion", controller ? json_new_bool(true) : NULL, NULL);
}

static const struct json *find(const struct json *list, const char *type)
{
    json_each_item(it, list) {
        if (str_is(json_str(json_get(it, "type")), type))
            return it;
    }
    return NULL;
}

const struct json *condition_find(const struct json *o, const char *type)
{
    return find(json_at(o, "status/conditions"), type);
}

bool condition_is(const struct json *o, const char *type, const char *status)
{
    return str_is(json_str(json_get(condition_find(o, type), "status")), status);
}

const struct json *conditions_set(struct arena *a, const struct json *list, const struct condition *c,
                                  const char *now)
{
    const struct json *old = find(list, c->type), *made, **p;
    bool same = str_is(json_str(json_get(old, "status")), c->status) && old;
    const struct json *since = same ? json_get(old, "lastTransitionTime") : NULL;

    made = json_object(a, "type", json_new_z(a, c->type), "status", json_new_z(a, c->status), "observedGeneration",
                       c->observed_generation ? json_new_i64(a, c->observed_generation) : NULL, "lastProbeTime",
                       c->probe_time ? json_new_z(a, c->probe_time) : json_get(old, "lastProbeTime"),
                       "lastTransitionTime", since ? since : json_new_z(a, now), "reason", json_new_z(a, c->reason),
                       "message", json_new_z(a, c->message), NULL);
    if (!old)
        return json_append(a, list, made);
    if (json_eq(old, made))
        return list;
    p = ARENA_ARRAY(a, const struct json *, json_len(list));
    for (size_t i = 0; i < json_len(list); i++)
        p[i] = json_item(list, i) == old ? made : json_item(list, i);
    return json_array_n(a, p, json_len(list));
}

static const struct json *with_conditions(struct arena *a, const struct json *o, const struct json *list)
{
    return json_with(a, o, "status", json_with(a, json_get(o, "status"), "conditions", list));
}

const struct json *condition_set(struct arena *a, const struct json *o, const struct condition *c, const char *now)
{
    const struct json *list = json_at(o, "status/conditions"), *changed = conditions_set(a, list, c, now);

    return changed == list ? o : with_conditions(a, o, changed);
}

const struct json *condition_remove(struct arena *a, const struct json *o, const char *type)
{
    const struct json *list = json_at(o, "status/conditions"), *old = find(list, type);
    bool *keep = ARENA_ARRAY(a, bool, json_len(list));

    if (!old)
        return o;
    for (size_t i = 0; i < json_len(list); i++)
        keep[i] = json_item(list, i) != old;
    return with_conditions(a, o, filtered(a, list, keep));
}
