/* apiserver/update - an object in place of another: what may change, what stays, what counts as a change. */
#include "apiserver/internal.h"

/* metadata that only the server writes. */
static const char *const kept[] = {
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "selfLink",
};

static const struct json *keep_meta(struct arena *a, const struct json *old,
                                    const struct json *next)
{
    const struct json *was = json_get(old, "metadata"), *meta = json_get(next, "metadata");

    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        const struct json *v = json_get(was, kept[i]);

        if (v != json_get(meta, kept[i]))
            meta = json_with(a, meta, kept[i], v);
    }
    if (!json_get(meta, "generateName") && json_get(was, "generateName"))
        meta = json_with(a, meta, "generateName", json_get(was, "generateName"));
    return json_with(a, next, "metadata", meta);
}

/* Everything but metadata and status. */
static bool spec_changed(struct arena *a, const struct json *old, const struct json *next)
{
    const char *const skip[] = {"metadata", "status", "kind", "apiVersion"};

    for (size_t i = 0; i < ARRAY_SIZE(skip); i++) {
        old = json_with(a, old, skip[i], NULL);
        next = json_with(a, next, skip[i], NULL);
    }
    return !json_eq(old, next);
}

static bool array_has(const struct json *array, struct str s)
{
    json_each_item(it, array) {
        if (str_eq(json_str(it), s))
            return true;
    }
    return false;
}

/* An object that is going may lose finalizers, not gain any. */
static bool finalizers_ok(struct request *r, const struct json *old, const struct json *next)
{
    const struct json *was = json_at(old, "metadata/finalizers"),
                      *now = json_at(next, "metadata/finalizers");
    const struct kind_info *k = r->kind->info;
    AUTO(buf_done) struct buf b = {0};

    if (!json_at(old, "metadata/deletionTimestamp"))
        return true;
    json_each_item(f, now) {
        if (!array_has(was, json_str(f)))
            buf_addf(&b, "%s\"" STR_FMT "\"", b.n ? ", " : "", STR_ARG(json_str(f)));
    }
    if (!b.n)
        return true;
    answer_invalid_one(
        r, k->kind, k->group, arena_strdup(&r->arena, r->name), "FieldValueForbidden",
        "metadata.finalizers",
        arena_printf(
            &r->arena,
            "Forbidden: no new finalizers can be added if the object is being deleted, found "
            "new finalizers []string{" STR_FMT "}",
            STR_ARG(buf_str(&b))));
    return false;
}

static bool may_vanish(const struct kind_info *k, const struct json *v)
{
    if (!json_at(v, "metadata/deletionTimestamp") || json_len(json_at(v, "metadata/finalizers")))
        return false;
    if (kind_is(k, "", "namespaces"))
        return json_len(json_at(v, "spec/finalizers")) == 0;
    return json_i64_at(v, "metadata/deletionGracePeriodSeconds", 0) == 0;
}

/* Only times in managedFields differ: nothing changed. */
static const struct json *without_times(struct arena *a, const struct json *v)
{
    const struct json *mf = json_at(v, "metadata/managedFields");
    const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(mf) + 1);

    for (size_t i = 0; i < json_len(mf); i++)
        p[i] = json_with(a, json_item(mf, i), "time", NULL);
    v = json_with_at(a, v, "metadata/managedFields",
                     mf && json_len(mf) ? json_array_n(a, p, json_len(mf)) : NULL);
    return json_with_at(a, v, "metadata/resourceVersion", NULL);
}

static bool preconditions(struct request *r, const struct json *old, const struct json *next)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct str rv = json_str_at(next, "metadata/resourceVersion"),
               uid = json_str_at(next, "metadata/uid"),
               ns = json_str_at(next, "metadata/namespace"),
               name = json_str_at(next, "metadata/name");

    if (!str_empty(name) && !str_eq(name, r->name)) {
        answer_status(r, 400, "BadRequest",
                      arena_printf(a,
                                   "the name of the object (" STR_FMT
                                   ") does not match the name on the URL (" STR_FMT ")",
                                   STR_ARG(name), STR_ARG(r->name)),
                      NULL);
        return false;
    }
    if (!str_empty(ns) && kind_namespaced(k) && !str_eq(ns, r->ns)) {
        answer_status(
            r, 400, "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
            NULL);
        return false;
    }
    if (str_empty(rv) && r->verb == VERB_UPDATE && (k->flags & KIND_CRD || r->kind->dynamic)) {
        struct schema_causes c = {0};

        schema_cause_add(&c, a, "FieldValueInvalid", "metadata.resourceVersion", "%s",
                         "Invalid value: 0: must be specified for an update");
        answer_invalid(r, k->plural, k->group, arena_strdup(a, r->name), &c);
        return false;
    }
    if (!str_empty(rv) && !str_is(rv, "0")
        && !str_eq(rv, json_str_at(old, "metadata/resourceVersion"))) {
        answer_conflict(r);
        return false;
    }
    if (!str_empty(uid) && !str_eq(uid, json_str_at(old, "metadata/uid"))) {
        answer_status(r, 409, "Conflict",
                      arena_printf(a,
                                   "Operation cannot be fulfilled on %s%s%s \"" STR_FMT
                                   "\": Precondition failed: UID in precondition: " STR_FMT
                                   ", UID in object meta: " STR_FMT,
                                   k->plural, *k->group ? "." : "", k->group, STR_ARG(r->name),
                                   STR_ARG(uid), STR_ARG(json_str_at(old, "metadata/uid"))),
                      json_object(a, "name", json_new_str(a, r->name), "group",
                                  *k->group ? json_new_z(a, k->group) : NULL, "kind",
                                  json_new_z(a, k->plural), NULL));
        return false;
    }
    return true;
}

/* Which half of the object this request may write. */
static const struct json *split_status(struct request *r, const struct json *old,
                                       const struct json *next)
{
    struct arena *a = &r->arena;

    if (!(r->kind->info->flags & KIND_STATUS))
        return next;
    if (str_is(r->subresource, "status")) {
        const struct json *meta = json_get(old, "metadata");

        /* Node agents write labels and annotations with the status, as kubelets do. */
        if (kind_is(r->kind->info, "", "nodes") || kind_is(r->kind->info, "", "pods")) {
            meta = json_with(a, meta, "labels", json_at(next, "metadata/labels"));
            meta = json_with(a, meta, "annotations", json_at(next, "metadata/annotations"));
        }
        meta = json_with(a, meta, "managedFields", json_at(next, "metadata/managedFields"));
        return json_with(a, json_with(a, old, "status", json_get(next, "status")), "metadata",
                         meta);
    }
    return json_with(a, next, "status", json_get(old, "status"));
}

static void update_admitted(struct request *r, const struct json *next);

void update_commit(struct request *r, struct store_object *old_object, const struct json *old,
                   const struct json *next)
{
    struct arena *a = &r->arena;

    if (r->kind->info->since || r->kind->info->siblings)
        old = present(r, old);
    if (!preconditions(r, old, next))
        return;
    next = keep_meta(a, old, next);
    next = split_status(r, old, next);
    if (!finalizers_ok(r, old, next))
        return;
    r->owned = next; /* what admission changes is nobody's */
    r->was = old;
    r->was_revision = store_object_revision(old_object);
    admit(r, ADMIT_UPDATE, old, next, update_admitted);
}

static void update_admitted(struct request *r, const struct json *next)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    const struct json *old = r->was, *owned = r->owned;
    int64_t revision = r->was_revision;
    struct str key = kind_key(k, r->ns, r->name, a);
    struct store_object *visible;
    bool flushed;

    next = keep_meta(a, old, next);
    if (kind_has_generation(k, r->kind->dynamic) && spec_changed(a, old, next))
        next = json_with_at(a, next, "metadata/generation",
                            json_new_i64(a, json_i64_at(old, "metadata/generation", 0) + 1));
    if (!r->applied) {
        owned = filled_in_decoding(k) ? next : owned;
        owned = fields_updated(r, old, object_order(a, k, owned));
        next = json_with_at(a, next, "metadata/managedFields",
                            json_at(owned, "metadata/managedFields"));
    }
    next = object_order(a, k, next);
    if (may_vanish(k, next)) {
        r->deleted = next;
        commit(r, key, NULL, revision, 200);
        return;
    }
    visible = store_get(r->s->store, key);
    flushed = visible && store_object_revision(visible) == revision;
    if (flushed && json_eq(without_times(a, object_order(a, k, old)), without_times(a, next))) {
        answer_object(r, 200, visible);
        store_object_unref(visible);
        return;
    }
    store_object_unref(visible);
    if (within_quota(r, old, next))
        commit(r, key, next, revision, 200);
}

void rest_update(struct request *r)
{
    const struct kind_info *k = r->kind->info;
    const struct json *next, *old;
    struct store_object *o;

    if (!body_object(r, &next))
        return;
    o = store_get_pending(r->s->store, kind_key(k, r->ns, r->name, &r->arena));
    if (!o) {
        struct str name = json_str_at(next, "metadata/name");

        if (!str_empty(name) && !str_eq(name, r->name))
            answer_status(r, 400, "BadRequest",
                          arena_printf(&r->arena,
                                       "the name of the object (" STR_FMT
                                       ") does not match the name on the URL (" STR_FMT ")",
                                       STR_ARG(name), STR_ARG(r->name)),
                          NULL);
        else
            answer_not_found(r);
        return;
    }
    old = store_object_json(o, &r->arena);
    if (!json_at(next, "metadata/name"))
        next = json_with_at(&r->arena, next, "metadata/name", json_new_str(&r->arena, r->name));
    update_commit(r, o, old, next);
    store_object_unref(o);
}
