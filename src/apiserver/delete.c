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
    pod =
        json_with_at(a, pod, "metadata/deletionTimestamp", json_new_z(a, now_text(r->s, false, a)));
    return object_order(a, r->kind->info, pod);
}

static void delete_admitted(struct request *r, const struct json *none);

void rest_delete(struct request *r)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct str key = kind_key(k, r->ns, r->name, a);
    struct store_object *o = store_get_pending(r->s->store, key);
    struct delete_options *options = ARENA_NEW(a, struct delete_options);

    if (!delete_options_read(r, options)) {
        store_object_unref(o);
        return;
    }
    if (!o) {
        answer_not_found(r);
        return;
    }
    r->was = store_object_json(o, a);
    r->was_revision = store_object_revision(o);
    r->delete_options = options;
    store_object_unref(o);
    if (preconditions_hold(r, r->was, options))
        admit(r, ADMIT_DELETE, r->was, NULL, delete_admitted);
}

static void delete_admitted(struct request *r, const struct json *none)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct str key = kind_key(k, r->ns, r->name, a);
    const struct json *old = r->was, *marked = delete_mark(r->s, k, old, r->delete_options, a);
    int64_t revision = r->was_revision;

    (void)none;
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
    struct request *r; /* NULL: it has been refused, or is gone; what is under way goes on */
    struct store_list list;
    struct delete_options options;
    struct selection *sel;
    const struct json **items;
    size_t n, at, left, tries;
    int64_t limit;          /* no more than so many go; 0: all */
    bool stepping, waiting; /* in the loop; for admission of the object at `at` */
    bool counting;
    struct str key;
    struct error err; /* the first that kept an object from going */
};

static const struct json *bulk_answer(const struct bulk *b)
{
    struct request *r = b->r;
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    const struct json *v;

    v = json_object(a, "kind", json_new_z(a, k->list_kind), "apiVersion",
                    json_new_z(a, group_version(k->group, r->version, a)), "metadata",
                    json_object(a, "continue", r->kind->dynamic ? json_new_z(a, "") : NULL,
                                "resourceVersion",
                                json_new_f(a, "%lld", (long long)b->list.revision), NULL),
                    "items", json_array_n(a, b->items, b->n), NULL);
    return kind_custom(k) ? order_sorted(a, v) : v;
}

static void bulk_done(struct bulk *b)
{
    struct request *r = b->r;

    if (b->left || b->counting)
        return;
    if (r) {
        r->bulk = NULL;
        if (b->err.kind != ERROR_NONE)
            answer_error(r, &b->err);
        else
            answer_json(r, 200, bulk_answer(b));
    }
    error_clear(&b->err);
    store_list_done(&b->list);
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

/* As lists have them: core kinds without kind and version. */
static const struct json *bulk_item(struct request *r)
{
    const struct json *v = present(r, r->was);

    if ((r->kind->info->flags & KIND_CRD) || r->kind->dynamic || r->is_local)
        return v;
    return json_with(&r->arena, json_with(&r->arena, v, "kind", NULL), "apiVersion", NULL);
}

static void bulk_step(struct bulk *b);

static void bulk_admitted(struct request *r, const struct json *none)
{
    struct bulk *b = r->bulk;
    struct arena *a = &r->arena;
    const struct kind_info *k = r->kind->info;
    const struct json *marked = delete_mark(r->s, k, r->was, &b->options, a);
    struct store_write w = {.key = b->key,
                            .value = marked ? object_order(a, k, marked) : NULL,
                            .if_revision = r->was_revision,
                            .done = bulk_written,
                            .user = b};
    AUTO(error_clear) struct error err = {0};

    (void)none;
    b->waiting = false;
    if (marked == r->was || r->dry_run) {
        b->items[b->n++] = bulk_item(r);
    } else if (store_put(r->s->store, &w, &err)) {
        b->items[b->n++] = bulk_item(r);
        b->left++;
    } else if (err.kind == ERROR_CONFLICT && b->tries++ < 5) {
        b->at--; /* it has changed while webhooks were asked: once more */
    } else {
        bulk_failed(b, &err);
    }
    b->at++;
    if (!b->stepping)
        bulk_step(b);
}

static void bulk_step(struct bulk *b)
{
    b->stepping = true;
    while (b->r && b->at < b->list.n && (!b->limit || (int64_t)b->n < b->limit)) {
        struct request *r = b->r;
        struct store_object *o;

        b->key = store_object_key(b->list.p[b->at]);
        o = store_get_pending(r->s->store, b->key);
        r->was = o ? store_object_json(o, &r->arena) : NULL;
        r->was_revision = o ? store_object_revision(o) : 0;
        store_object_unref(o);
        if (!r->was || !selection_matches(b->sel, present(r, r->was))) {
            b->at++;
            continue;
        }
        r->name = arena_str(&r->arena, meta_name(r->was));
        b->waiting = true;
        admit(r, ADMIT_DELETE, r->was, NULL, bulk_admitted);
        if (b->r && b->waiting) { /* for webhooks */
            b->stepping = false;
            return;
        }
    }
    b->stepping = b->counting = false;
    if (b->r)
        b->r->name = STR_NONE;
    bulk_done(b);
}

void rest_delete_all(struct request *r)
{
    const struct kind_info *k = r->kind->info;
    AUTO(error_clear) struct error err = {0};
    struct delete_options options;
    struct str limit = query_get(r, "limit");
    struct selection *sel;
    struct bulk *b;
    int64_t most = 0;

    if (!str_empty(limit) && !parse_i64(limit, 0, INT64_MAX, &most, &err)) {
        answer_status(
            r, 400, "BadRequest",
            arena_printf(&r->arena, "limit: Invalid value: \"" STR_FMT "\"", STR_ARG(limit)), NULL);
        return;
    }
    if (!delete_options_read(r, &options))
        return;
    sel = selection_new(r);
    if (!sel)
        return;
    b = NEW(struct bulk);
    if (!store_list(r->s->store, kind_prefix(k, r->ns, &r->arena), STR_NONE, 0, 0, NULL, NULL,
                    &b->list, &err)) {
        free(b);
        answer_error(r, &err);
        return;
    }
    b->r = r;
    b->limit = most;
    b->options = options;
    b->sel = sel;
    b->counting = true;
    b->items = ARENA_ARRAY(&r->arena, const struct json *, b->list.n + 1);
    r->bulk = b;
    bulk_step(b);
}

void bulk_forget(struct bulk *b)
{
    if (!b)
        return;
    b->r = NULL;
    if (b->stepping)
        return;
    b->counting = false;
    bulk_done(b);
}
