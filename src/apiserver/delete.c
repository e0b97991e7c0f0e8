/* apiserver/delete - objects that go: preconditions, grace, finalizers and what happens to dependents. */
#include "apiserver/crds.h"
#include "apiserver/internal.h"
#include "apiserver/rbac.h"

#include "api/meta.h"
#include "base/ident.h"

static bool policy_known(struct request *r, struct str p)
{
    if (str_empty(p) || str_is(p, "Foreground") || str_is(p, "Background") || str_is(p, "Orphan"))
        return true;
    answer_invalid_one(
        r, "DeleteOptions", "meta.k8s.io", "", "FieldValueNotSupported", "propagationPolicy",
        arena_printf(&r->arena,
                     "Unsupported value: \"" STR_FMT "\": supported values: \"Foreground\", "
                     "\"Background\", \"Orphan\", \"nil\"",
                     STR_ARG(p)));
    return false;
}

bool delete_options_read(struct request *r, struct delete_options *ret)
{
    struct json_dups dups = {0};
    const struct json *v = NULL, *dry;
    struct str grace = query_get(r, "gracePeriodSeconds");
    AUTO(error_clear) struct error err = {0};

    *ret = (struct delete_options){.policy = query_get(r, "propagationPolicy")};
    if (query_true(r, "orphanDependents"))
        ret->policy = STR("Orphan");
    if (r->body_json || !str_empty(r->body)) {
        if (!body_parse(r, r->kind->info, &v, &dups))
            return false;
        ret->uid = json_str_at(v, "preconditions/uid");
        ret->resource_version = json_str_at(v, "preconditions/resourceVersion");
        if (json_str_at(v, "propagationPolicy").p)
            ret->policy = json_str_at(v, "propagationPolicy");
        if (json_bool_at(v, "orphanDependents", false))
            ret->policy = STR("Orphan");
        ret->has_grace = json_i64(json_get(v, "gracePeriodSeconds"), &ret->grace);
        dry = json_get(v, "dryRun");
        if (json_len(dry))
            r->dry_run = true;
    }
    if (!str_empty(grace) && !ret->has_grace) {
        if (!parse_i64(grace, 0, INT32_MAX, &ret->grace, &err)) {
            answer_status(r, 400, "BadRequest",
                          arena_printf(&r->arena, "gracePeriodSeconds: %s", error_text(&err)),
                          NULL);
            return false;
        }
        ret->has_grace = true;
    }
    return policy_known(r, ret->policy);
}

static const struct json *with_finalizer(struct arena *a, const struct json *v, const char *name,
                                         bool present)
{
    const struct json *list = json_at(v, "metadata/finalizers");
    const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(list) + 1);
    size_t n = 0;

    json_each_item(f, list) {
        if (!str_is(json_str(f), name))
            p[n++] = f;
    }
    if (present)
        p[n++] = json_new_z(a, name);
    return json_with_at(a, v, "metadata/finalizers", n ? json_array_n(a, p, n) : NULL);
}

/* Seconds that this object may take to go; pods only. */
static int64_t grace_of(const struct kind_info *k, const struct json *v,
                        const struct delete_options *o)
{
    struct str phase = json_str_at(v, "status/phase");
    int64_t grace;

    if (!kind_is(k, "", "pods"))
        return 0;
    if (str_empty(json_str_at(v, "spec/nodeName")) || str_is(phase, "Succeeded")
        || str_is(phase, "Failed"))
        return 0;
    grace = o->has_grace ? o->grace : json_i64_at(v, "spec/terminationGracePeriodSeconds", 30);
    return grace < 0 ? 1 : grace > INT32_MAX ? INT32_MAX : grace;
}

const struct json *delete_mark(struct apiserver *s, const struct kind_info *k,
                               const struct json *old, const struct delete_options *o,
                               struct arena *a)
{
    const struct json *v = old;
    int64_t grace = grace_of(k, old, o),
            had = json_i64_at(old, "metadata/deletionGracePeriodSeconds", 0);
    bool going = json_at(old, "metadata/deletionTimestamp") != NULL;
    bool crd = kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions");

    if (crd)
        v = crds_mark(s, a, v);
    if (str_is(o->policy, "Foreground") && !going)
        v = with_finalizer(a, with_finalizer(a, v, "orphan", false), "foregroundDeletion", true);
    if (str_is(o->policy, "Orphan") && !going)
        v = with_finalizer(a, with_finalizer(a, v, "foregroundDeletion", false), "orphan", true);
    if (!json_len(json_at(v, "metadata/finalizers")) && grace == 0
        && !(kind_is(k, "", "namespaces") && json_len(json_at(v, "spec/finalizers"))))
        return NULL;
    if (going && (!kind_is(k, "", "pods") || grace >= had))
        return old;
    if (!going && json_i64_at(v, "metadata/generation", 0) > 0 && !crd)
        v = json_with_at(a, v, "metadata/generation",
                         json_new_i64(a, json_i64_at(v, "metadata/generation", 0) + 1));
    {
        char text[TIME_TEXT_LEN + 1];

        ident_time(loop_unix_ns(s->loop) + SECONDS(grace), false, text);
        v = json_with_at(a, v, "metadata/deletionTimestamp", json_new_z(a, text));
    }
    if (!crd && !kind_is(k, "", "namespaces"))
        v = json_with_at(a, v, "metadata/deletionGracePeriodSeconds", json_new_i64(a, grace));
    if (kind_is(k, "", "namespaces"))
        v = json_with_at(a, v, "status/phase", json_new_z(a, "Terminating"));
    return v;
}

static bool preconditions_hold(struct request *r, const struct json *old,
                               const struct delete_options *o)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct str uid = json_str_at(old, "metadata/uid"),
               rv = json_str_at(old, "metadata/resourceVersion");
    const char *why;

    if (!str_empty(o->uid) && !str_eq(o->uid, uid))
        why = arena_printf(a,
                           "the UID in the precondition (" STR_FMT
                           ") does not match the UID in record (" STR_FMT
                           "). The object might have been deleted and then recreated",
                           STR_ARG(o->uid), STR_ARG(uid));
    else if (!str_empty(o->resource_version) && !str_eq(o->resource_version, rv))
        why = arena_printf(a,
                           "the ResourceVersion in the precondition (" STR_FMT
                           ") does not match the ResourceVersion in record (" STR_FMT
                           "). The object might have been modified",
                           STR_ARG(o->resource_version), STR_ARG(rv));
    else
        return true;
    answer_status(r, 409, "Conflict",
                  arena_printf(a, "Operation cannot be fulfilled on %s%s%s \"" STR_FMT "\": %s",
                               k->kind, *k->group ? "." : "", k->group, STR_ARG(r->name), why),
                  json_object(a, "name", json_new_str(a, r->name), "group",
                              *k->group ? json_new_z(a, k->group) : NULL, "kind",
                              json_new_z(a, k->kind), NULL));
    return false;
}

/* Kinds whose delete answers the object itself. */
static bool returns_object(const struct kind_info *k)
{
    return kind_is(k, "", "pods") || kind_is(k, "", "persistentvolumeclaims")
           || kind_is(k, "", "persistentvolumes") || kind_is(k, "", "serviceaccounts");
}

/* A pod that goes at once, as it would have been marked. */
static const struct json *last_state(struct request *r, const struct json *pod)
{
    struct arena *a = &r->arena;
    int64_t generation = json_i64_at(pod, "metadata/generation", 0);

    if (!json_at(pod, "metadata/deletionTimestamp") && generation)
        pod = json_with_at(a, pod, "metadata/generation", json_new_i64(a, generation + 1));
    pod = json_with_at(a, pod, "metadata/deletionGracePeriodSeconds", json_new_i64(a, 0));
    pod = json_with_at(a, pod, "metadata/deletionTimestamp",
                       json_new_z(a, now_text(r->s, false, a)));
    return object_order(a, r->kind->info, pod);
}

void rest_delete(struct request *r)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct str key = kind_key(k, r->ns, r->name, a);
    struct store_object *o = store_get_pending(r->s->store, key);
    struct delete_options options;
    const struct json *old, *marked;
    int64_t revision;

    if (!delete_options_read(r, &options)) {
        store_object_unref(o);
        return;
    }
    if (!o) {
        answer_not_found(r);
        return;
    }
    old = store_object_json(o, a);
    revision = store_object_revision(o);
    store_object_unref(o);
    if (!preconditions_hold(r, old, &options) || !admit(r, ADMIT_DELETE, old, NULL))
        return;
    marked = delete_mark(r->s, k, old, &options, a);
    if (marked == old) {
        answer_value(r, 200, old);
        return;
    }
    if (marked) {
        commit(r, key, object_order(a, k, marked), revision, 200);
        return;
    }
    r->deleted = old;
    r->answer_status = !returns_object(k);
    if (kind_is(k, "", "pods"))
        r->deleted = last_state(r, old);
    commit(r, key, NULL, revision, 200);
}

/* deletecollection: the list is what matched; each object goes on its own, as upstream. */
struct bulk {
    struct request *r;
    const struct json *answer;
    size_t left;
    bool counting;
    struct error err; /* the first that kept an object from going */
};

static void bulk_done(struct bulk *b)
{
    if (b->left || b->counting)
        return;
    if (b->r && b->err.kind != ERROR_NONE)
        answer_error(b->r, &b->err);
    else if (b->r)
        answer_json(b->r, 200, b->answer);
    error_clear(&b->err);
    free(b);
}

static void bulk_failed(struct bulk *b, const struct error *err) /* NULL: it has not */
{
    if (err && err->kind != ERROR_NOT_FOUND && b->err.kind == ERROR_NONE)
        error_set(&b->err, err->kind, "%s", error_text(err));
}

static void bulk_written(void *user, struct store_object *o, const struct error *err)
{
    struct bulk *b = user;

    if (o && b->r)
        rbac_note(b->r->s->rbac, store_object_key(o));
    bulk_failed(b, err);
    b->left--;
    bulk_done(b);
}

void rest_delete_all(struct request *r)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct delete_options options;
    struct selection *sel;
    struct bulk *b;
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json **items;
    size_t n = 0;

    if (!delete_options_read(r, &options))
        return;
    sel = selection_new(r);
    if (!sel)
        return;
    if (!store_list(r->s->store, kind_prefix(k, r->ns, a), STR_NONE, 0, 0, NULL, NULL, &list,
                    &err)) {
        answer_error(r, &err);
        return;
    }
    b = NEW(struct bulk);
    b->counting = true;
    items = ARENA_ARRAY(a, const struct json *, list.n + 1);
    for (size_t i = 0; i < list.n; i++) {
        struct str key = store_object_key(list.p[i]);
        struct store_object *o = store_get_pending(r->s->store, key);
        const struct json *old = o ? store_object_json(o, a) : NULL, *marked;
        struct store_write w = {.key = key, .done = bulk_written, .user = b};

        if (!old || !selection_matches(sel, present(r, old))) {
            store_object_unref(o);
            continue;
        }
        r->name = arena_str(a, meta_name(old));
        if (!admit(r, ADMIT_DELETE, old,
                   NULL)) { /* and answered: what went before goes on by itself */
            store_object_unref(o);
            b->counting = false;
            bulk_done(b);
            return;
        }
        r->name = STR_NONE;
        items[n] = present(r, old);
        if (!(k->flags & KIND_CRD) && !r->kind->dynamic && !r->is_local)
            items[n] = json_with(a, json_with(a, items[n], "kind", NULL), "apiVersion", NULL);
        n++;
        marked = delete_mark(r->s, k, old, &options, a);
        w.value = marked ? object_order(a, k, marked) : NULL;
        w.if_revision = store_object_revision(o);
        store_object_unref(o);
        if (marked == old || r->dry_run)
            continue;
        if (store_put(r->s->store, &w, &err)) {
            b->left++;
        } else {
            bulk_failed(b, &err);
            error_clear(&err);
        }
    }
    b->answer = json_object(
        a, "kind", json_new_z(a, k->list_kind), "apiVersion",
        json_new_z(a, group_version(k->group, r->version, a)), "metadata",
        json_object(a, "continue", r->kind->dynamic ? json_new_z(a, "") : NULL, "resourceVersion",
                    json_new_f(a, "%lld", (long long)list.revision), NULL),
        "items", json_array_n(a, items, n), NULL);
    b->r = r;
    r->bulk = b;
    b->counting = false;
    bulk_done(b);
}

void bulk_forget(struct bulk *b)
{
    if (b)
        b->r = NULL;
}
