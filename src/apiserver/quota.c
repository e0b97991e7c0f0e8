/* apiserver/quota - ResourceQuotas: what a namespace uses, kept exactly, and writes that would exceed it refused.
 *
 * Upstream charges a quota by writing its status before the object, and a controller recounts later. Here one process sees
 * every write, so the count is held in memory and is exact: `used` is counted once from the store when a quota comes (or
 * changes its spec) and then follows the store's events, from the revision that was counted on. Between store_put() and its
 * event a write is a claim: it counts as used, and goes when its event has come or its flush has failed. As everything runs on
 * one loop thread, and a check is followed by its store_put() without a break, no two writes can take the same last place.
 *
 * status.used is written from the count, some milliseconds later and at most one write at a time, for people to read; nothing
 * decides by it. Without a quota in any namespace nothing here costs anything. */
#include "apiserver/quota.h"
#include "api/meta.h"
#include "apiserver/admit.h"
#include "base/log.h"

#define STATUS_DELAY MILLIS(50)

struct quota {
    struct list node; /* quotas.list */
    struct arena arena;
    char *ns, *name, *uid;
    const struct json *spec;   /* in the arena */
    struct amounts hard, used; /* used: the names of hard, in their order */
    int64_t counted;           /* revision that `used` is of; newer events change it */
    bool dirty;                /* status is to be written */
    const struct json *status; /* as it was seen last, in status_arena */
    struct arena status_arena;
};

struct quota_claim {
    unsigned refs;    /* the list's, and the writer's until it is told how the write ended */
    struct list node; /* quotas.claims; in none: seen, or the ledger is gone */
    struct arena arena;
    char *ns;
    struct served *kind; /* a reference */
    const struct json *old, *object;
    int64_t revision; /* 0: not queued yet */
};

struct quotas {
    struct apiserver *s;
    struct list list, claims;
    struct store_watch *watch, *all; /* of quotas; of everything, while there is one */
    struct loop_timer timer;
    bool writing;
};

/* What an object uses. */

static bool ends(const struct json *pod)
{
    struct str phase = json_str_at(pod, "status/phase");

    return str_is(phase, "Succeeded") || str_is(phase, "Failed");
}

static void add(struct amounts *l, struct arena *a, struct str name, struct quantity q)
{
    amount_add(l, name, q, a);
}

static const struct quantity one = {1000000000, QUANTITY_DECIMAL_SI};

static void pod_usage(const struct json *pod, struct amounts *ret, struct arena *a)
{
    static const char *const plain[] = {"cpu", "memory", "ephemeral-storage"};
    struct amounts requests = {0}, limits = {0};

    if (ends(pod))
        return;
    add(ret, a, STR("pods"), one);
    pod_amounts(pod, "requests", &requests, a);
    pod_amounts(pod, "limits", &limits, a);
    for (size_t i = 0; i < requests.n; i++) {
        struct str name = requests.p[i].name;

        for (size_t j = 0; j < ARRAY_SIZE(plain); j++)
            if (str_is(name, plain[j]))
                add(ret, a, name, requests.p[i].q);
        if (str_starts(name, STR("hugepages-")))
            add(ret, a, name, requests.p[i].q);
        add(ret, a, str_of(arena_printf(a, "requests." STR_FMT, STR_ARG(name))), requests.p[i].q);
    }
    for (size_t i = 0; i < limits.n; i++)
        add(ret, a, str_of(arena_printf(a, "limits." STR_FMT, STR_ARG(limits.p[i].name))),
            limits.p[i].q);
}

static void claim_usage(const struct json *claim, struct amounts *ret, struct arena *a)
{
    struct str class = json_str_at(claim, "spec/storageClassName");
    struct quantity storage, allocated;
    bool known = quantity_of_json(json_at(claim, "spec/resources/requests/storage"), &storage);

    if (known && quantity_of_json(json_at(claim, "status/allocatedResources/storage"), &allocated)
        && quantity_cmp(allocated, storage) > 0)
        storage = allocated;
    add(ret, a, STR("persistentvolumeclaims"), one);
    if (known)
        add(ret, a, STR("requests.storage"), storage);
    if (!class.n)
        return;
    add(ret, a,
        str_of(arena_printf(a, STR_FMT ".storageclass.storage.k8s.io/persistentvolumeclaims",
                            STR_ARG(class))),
        one);
    if (known)
        add(ret, a,
            str_of(arena_printf(a, STR_FMT ".storageclass.storage.k8s.io/requests.storage",
                                STR_ARG(class))),
            storage);
}

static void usage_of(const struct kind_info *k, const struct json *object, struct amounts *ret,
                     struct arena *a)
{
    static const char *const plain[] = {"resourcequotas", "secrets", "configmaps"};

    if (!object)
        return;
    add(ret, a, str_of(arena_printf(a, "count/%s%s%s", k->plural, *k->group ? "." : "", k->group)),
        one);
    if (kind_is(k, "", "pods"))
        pod_usage(object, ret, a);
    else if (kind_is(k, "", "persistentvolumeclaims"))
        claim_usage(object, ret, a);
    for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
        if (kind_is(k, "", plain[i]))
            add(ret, a, str_of(plain[i]), one);
}

/* Which quotas an object falls under. */

static bool other_namespaces(const struct json *pod)
{
    static const char *const at[] = {
        "podAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        "podAffinity/preferredDuringSchedulingIgnoredDuringExecution",
        "podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        "podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution"};

    for (size_t i = 0; i < ARRAY_SIZE(at); i++)
        json_each_item(t, json_at(json_at(pod, "spec/affinity"), at[i])) {
            const struct json *term =
                json_get(t, "podAffinityTerm") ? json_get(t, "podAffinityTerm") : t;

            if (json_len(json_get(term, "namespaces")) || json_get(term, "namespaceSelector"))
                return true;
        }
    return false;
}

static bool value_fits(const struct json *e, struct str value)
{
    struct str op = json_str_at(e, "operator");
    bool listed = false;

    json_each_item(v, json_get(e, "values"))
        listed |= str_eq(json_str(v), value);
    if (str_is(op, "In"))
        return value.n && listed;
    if (str_is(op, "NotIn"))
        return !listed;
    return str_is(op, "Exists") ? value.n > 0 : value.n == 0;
}

static bool in_scope(const struct kind_info *k, const struct json *o, struct str scope,
                     const struct json *e)
{
    if (kind_is(k, "", "persistentvolumeclaims"))
        return str_is(scope, "VolumeAttributesClass")
               && (e ? value_fits(e, json_str_at(o, "spec/volumeAttributesClassName"))
                     : json_str_at(o, "spec/volumeAttributesClassName").n > 0);
    if (!kind_is(k, "", "pods"))
        return false;
    if (str_is(scope, "Terminating"))
        return json_at(o, "spec/activeDeadlineSeconds") != NULL;
    if (str_is(scope, "NotTerminating"))
        return json_at(o, "spec/activeDeadlineSeconds") == NULL;
    if (str_is(scope, "BestEffort"))
        return pod_is_best_effort(o);
    if (str_is(scope, "NotBestEffort"))
        return !pod_is_best_effort(o);
    if (str_is(scope, "PriorityClass"))
        return e ? value_fits(e, json_str_at(o, "spec/priorityClassName"))
                 : json_str_at(o, "spec/priorityClassName").n > 0;
    if (str_is(scope, "CrossNamespacePodAffinity"))
        return other_namespaces(o);
    return false;
}

static bool falls_under(const struct quota *q, const struct kind_info *k, const struct json *o)
{
    json_each_item(s, json_get(q->spec, "scopes"))
        if (!in_scope(k, o, json_str(s), NULL))
            return false;
    json_each_item(e, json_at(q->spec, "scopeSelector/matchExpressions"))
        if (!in_scope(k, o, json_str_at(e, "scopeName"), e))
            return false;
    return true;
}

/* Whether a quota limits anything that objects of a kind use. */
static bool concerns(const struct quota *q, const struct kind_info *k)
{
    bool pods = kind_is(k, "", "pods"), claims = kind_is(k, "", "persistentvolumeclaims");
    AUTO(arena_done) struct arena a = {0};
    const char *count = arena_printf(&a, "count/%s%s%s", k->plural, *k->group ? "." : "", k->group);

    for (size_t i = 0; i < q->hard.n; i++) {
        struct str name = q->hard.p[i].name;
        bool storage =
            str_is(name, "requests.storage") || str_is(name, "persistentvolumeclaims")
            || str_ends(name, STR(".storageclass.storage.k8s.io/requests.storage"))
            || str_ends(name, STR(".storageclass.storage.k8s.io/persistentvolumeclaims"));

        if (str_is(name, count) || (!*k->group && str_is(name, k->plural)) || (claims && storage))
            return true;
        if (pods && !storage && !str_starts(name, STR("count/"))
            && (str_starts(name, STR("requests.")) || str_starts(name, STR("limits."))
                || str_starts(name, STR("hugepages-")) || str_is(name, "cpu")
                || str_is(name, "memory") || str_is(name, "ephemeral-storage")))
            return true;
    }
    return false;
}

/* Adds (or takes away) what an object uses of this quota. */
static void account(const struct quota *q, struct amounts *used, const struct kind_info *k,
                    const struct json *o, bool take, struct arena *a)
{
    struct amounts usage = {0};

    if (!o || !falls_under(q, k, o))
        return;
    usage_of(k, o, &usage, a);
    for (size_t i = 0; i < usage.n; i++) {
        struct quantity *u = amount_of(used, usage.p[i].name);

        if (u && take)
            quantity_subtract(u, usage.p[i].q);
        else if (u)
            *u = quantity_add(*u, usage.p[i].q);
    }
}

/* Counting. */

static void changed(struct quotas *qs, struct quota *q);

static void count(struct quotas *qs, struct quota *q)
{
    struct apiserver *s = qs->s;

    q->counted = store_revision(s->store);
    q->used = (struct amounts){0};
    for (size_t i = 0; i < q->hard.n; i++)
        amount_add(&q->used, q->hard.p[i].name, (struct quantity){0, q->hard.p[i].q.format},
                   &q->arena);
    for (size_t i = 0; i < s->kinds.n; i++) {
        const struct kind_info *k = s->kinds.p[i]->info;
        AUTO(store_list_done) struct store_list list = {0};
        AUTO(error_clear) struct error err = {0};
        struct arena a = {0};

        if (kind_namespaced(k) && !(k->flags & KIND_NO_STORE)
            && !kind_is(k, "events.k8s.io", "events") && concerns(q, k)
            && store_list(s->store, kind_prefix(k, str_of(q->ns), &a), STR_NONE, 0, 0, NULL, NULL,
                          &list, &err))
            for (size_t j = 0; j < list.n; j++) {
                struct arena each = {0};

                account(q, &q->used, k, store_object_json(list.p[j], &each), false, &each);
                arena_done(&each);
            }
        arena_done(&a);
    }
    changed(qs, q);
}

/* /registry/<group>/<plural>/<ns>/<name> */
static struct served *kind_of_key(struct apiserver *s, struct str key, struct str *ret_ns)
{
    struct str group, plural, rest = str_skip(key, strlen("/registry/"));

    if (!str_next(&rest, '/', &group) || !str_next(&rest, '/', &plural)
        || !str_next(&rest, '/', ret_ns))
        return NULL;
    return catalog_find(s, str_is(group, "core") ? STR("") : group, STR_NONE, plural);
}

/* gcc 12 inlines two of these in a row and takes the first for the last one. */
__attribute__((noinline)) static void claim_unref(struct quota_claim *c)
{
    if (--c->refs)
        return;
    served_unref(c->kind);
    arena_done(&c->arena);
    free(c->ns);
    free(c);
}

static void claim_drop(struct quota_claim *c) /* from the list */
{
    if (!list_linked(&c->node))
        return;
    list_remove(&c->node);
    claim_unref(c);
}

static bool object_changed(void *user, const struct store_event *e)
{
    struct quotas *qs = user;
    struct str ns;
    struct served *k = NULL;
    struct arena a = {0};
    const struct json *is = NULL, *was = NULL;

    list_each(n, &qs->list) {
        struct quota *q = list_entry(n, struct quota, node);

        if (!k && !(k = kind_of_key(qs->s, store_object_key(e->object), &ns)))
            break;
        if (!str_is(ns, q->ns) || e->revision <= q->counted || !concerns(q, k->info))
            continue;
        if (!is && !was) {
            if (e->type != STORE_DELETED)
                is = store_object_json(e->object, &a);
            if (e->previous)
                was = store_object_json(e->previous, &a);
        }
        account(q, &q->used, k->info, is, false, &a);
        account(q, &q->used, k->info, was, true, &a);
        changed(qs, q);
    }
    arena_done(&a);
    list_each_safe(n, &qs->claims) {
        struct quota_claim *c = list_entry(n, struct quota_claim, node);

        if (c->revision && c->revision <= e->revision)
            claim_drop(c);
    }
    return true;
}

static void follow(struct quotas *qs)
{
    AUTO(error_clear) struct error err = {0};

    if (qs->all || list_empty(&qs->list))
        return;
    qs->all = store_watch_start(qs->s->store, STR("/registry/"), store_revision(qs->s->store),
                                object_changed, qs, &err);
    if (!qs->all)
        log_error("quota", "%s", error_text(&err));
}

/* The quotas themselves. */

static struct quota *find(struct quotas *qs, struct str ns, struct str name)
{
    list_each(n, &qs->list) {
        struct quota *q = list_entry(n, struct quota, node);

        if (str_is(ns, q->ns) && str_is(name, q->name))
            return q;
    }
    return NULL;
}

static void quota_free(struct quota *q)
{
    list_remove(&q->node);
    arena_done(&q->arena);
    arena_done(&q->status_arena);
    free(q->ns);
    free(q->name);
    free(q->uid);
    free(q);
}

static void see(struct quotas *qs, const struct json *o)
{
    struct quota *q = find(qs, meta_namespace(o), meta_name(o));

    if (q && !str_is(meta_uid(o), q->uid)) {
        quota_free(q);
        q = NULL;
    }
    if (!q) {
        q = NEW(struct quota);
        q->ns = str_dup(meta_namespace(o));
        q->name = str_dup(meta_name(o));
        q->uid = str_dup(meta_uid(o));
        list_add_tail(&qs->list, &q->node);
        follow(qs);
    }
    arena_clear(&q->status_arena);
    q->status = json_get(o, "status") ? json_copy(&q->status_arena, json_get(o, "status")) : NULL;
    if (q->spec && json_eq(q->spec, json_get(o, "spec"))) {
        changed(qs, q);
        return;
    }
    arena_clear(&q->arena);
    q->spec = json_copy(&q->arena,
                        json_get(o, "spec") ? json_get(o, "spec") : json_object(&q->arena, NULL));
    q->hard = (struct amounts){0};
    amounts_read(&q->hard, json_get(q->spec, "hard"), &q->arena);
    count(qs, q);
}

static bool quota_changed(void *user, const struct store_event *e)
{
    struct quotas *qs = user;
    struct arena a = {0};
    const struct json *o = store_object_json(e->object, &a);

    if (e->type == STORE_DELETED) {
        struct quota *q = find(qs, meta_namespace(o), meta_name(o));

        if (q && str_is(meta_uid(o), q->uid))
            quota_free(q);
        if (list_empty(&qs->list)) {
            store_watch_stop(qs->all);
            qs->all = NULL;
            list_each_safe(n, &qs->claims) {
                struct quota_claim *c = list_entry(n, struct quota_claim, node);

                if (c->revision)
                    claim_drop(c);
            }
        }
    } else {
        see(qs, o);
    }
    arena_done(&a);
    return true;
}

/* Status, for people. */

static const struct json *amounts_json(const struct amounts *l, struct arena *a)
{
    const struct json *o = json_object(a, NULL);

    for (size_t i = 0; i < l->n; i++)
        o = json_with_str(a, o, l->p[i].name, json_new_z(a, quantity_text(a, l->p[i].q)));
    return o;
}

static void status_written(void *user, const struct client_response *r)
{
    struct quotas *qs = user;

    qs->writing = false;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND
        && r->err->kind != ERROR_CONFLICT)
        log_warning("quota", "%s", error_text(r->err));
    list_each(n, &qs->list)
        changed(qs, list_entry(n, struct quota, node));
}

static void write_status(struct loop_timer *t)
{
    struct quotas *qs = container_of(t, struct quotas, timer);

    list_each(n, &qs->list) {
        struct quota *q = list_entry(n, struct quota, node);
        struct arena a = {0};
        struct client_request req = {.verb = CLIENT_PATCH_MERGE,
                                     .group = "",
                                     .version = "v1",
                                     .plural = "resourcequotas",
                                     .ns = str_of(q->ns),
                                     .name = str_of(q->name),
                                     .subresource = "status"};
        const struct json *status;

        if (!q->dirty || qs->writing)
            continue;
        q->dirty = false;
        status = json_object(&a, "hard", amounts_json(&q->hard, &a), "used",
                             amounts_json(&q->used, &a), NULL);
        /* A merge patch removes what is null: names that are not limited any more. */
        req.body = json_object(&a, "metadata", json_object(&a, "uid", json_new_z(&a, q->uid), NULL),
                               "status",
                               json_object(&a, "hard", json_get(status, "hard"), "used",
                                           json_get(status, "used"), NULL),
                               NULL);
        static const char *const maps[] = {"hard", "used"};
        for (size_t i = 0; i < 2; i++)
            json_each_member(m, json_get(q->status, maps[i]))
                if (!json_get_str(json_get(status, maps[i]), json_str(&m->key)))
                    req.body = json_with(
                        &a, req.body, "status",
                        json_with(&a, json_get(req.body, "status"), maps[i],
                                  json_with_str(&a, json_at(json_get(req.body, "status"), maps[i]),
                                                json_str(&m->key), json_null())));
        qs->writing = true;
        client_call(qs->s->self, &req, status_written, qs);
        arena_done(&a);
    }
}

static void changed(struct quotas *qs, struct quota *q)
{
    struct arena a = {0};

    q->dirty = !json_eq(json_get(q->status, "used"), amounts_json(&q->used, &a))
               || !json_eq(json_get(q->status, "hard"), amounts_json(&q->hard, &a));
    arena_done(&a);
    if (q->dirty && !qs->writing && !loop_timer_active(&qs->timer))
        loop_timer_start(qs->s->loop, &qs->timer, STATUS_DELAY, write_status);
}

/* Admission. */

static void print(struct buf *b, const struct amounts *l, const struct amounts *which)
{
    struct arena a = {0};
    bool *done = ARENA_ARRAY(&a, bool, which->n + 1);

    for (size_t i = 0; i < which->n; i++) { /* in the order of names */
        size_t least = SIZE_MAX;
        const struct quantity *q;

        for (size_t j = 0; j < which->n; j++)
            if (!done[j]
                && (least == SIZE_MAX || str_cmp(which->p[j].name, which->p[least].name) < 0))
                least = j;
        done[least] = true;
        q = amount_of(l, which->p[least].name);
        buf_addf(b, "%s" STR_FMT "=%s", i ? "," : "", STR_ARG(which->p[least].name),
                 q ? quantity_text(&a, *q) : "0");
    }
    arena_done(&a);
}

/* A quota of processors or memory wants every container to say what it takes. */
static bool says_all(const struct quota *q, const struct json *pod, struct error *err)
{
    static const char *const names[] = {"cpu",    "limits.cpu",   "limits.memory",
                                        "memory", "requests.cpu", "requests.memory"};
    static const char *const lists[] = {"containers", "initContainers"};
    AUTO(buf_done) struct buf b = {0};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        bool limit = strncmp(names[i], "limits.", 7) == 0, any = false;
        const char *what = strrchr(names[i], '.') ? strrchr(names[i], '.') + 1 : names[i];

        if (!amount_of(&q->hard, str_of(names[i])))
            continue;
        for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
            json_each_item(c, json_get(json_get(pod, "spec"), lists[l])) {
                if (json_get(json_at(c, limit ? "resources/limits" : "resources/requests"), what))
                    continue;
                if (any)
                    buf_addf(&b, "," STR_FMT, STR_ARG(json_str_at(c, "name")));
                else
                    buf_addf(&b, "%s%s for: " STR_FMT, b.n ? "; " : "", names[i],
                             STR_ARG(json_str_at(c, "name")));
                any = true;
            }
    }
    return !b.n
           || error_set(err, ERROR_FORBIDDEN, "failed quota: %s: must specify " STR_FMT, q->name,
                        STR_ARG(buf_str(&b)));
}

static bool fits(struct quotas *qs, const struct quota *q, const struct kind_info *k,
                 const struct json *old, const struct json *object, struct arena *a,
                 struct error *err)
{
    struct amounts used = {0}, delta = {0}, exceeded = {0}, before = {0};
    AUTO(buf_done) struct buf b = {0};

    for (size_t i = 0; i < q->used.n; i++) {
        amount_add(&used, q->used.p[i].name, q->used.p[i].q, a);
        amount_add(&delta, q->used.p[i].name, (struct quantity){0, q->used.p[i].q.format}, a);
        amount_add(&before, q->used.p[i].name, (struct quantity){0, q->used.p[i].q.format}, a);
    }
    list_each(n, &qs->claims) {
        const struct quota_claim *c = list_entry(n, struct quota_claim, node);

        if (strcmp(c->ns, q->ns) != 0 || (c->revision && c->revision <= q->counted))
            continue;
        account(q, &used, c->kind->info, c->object, false, a);
        account(q, &used, c->kind->info, c->old, true, a);
    }
    account(q, &delta, k, object, false, a);
    account(q, &before, k, old, false, a);
    for (size_t i = 0; i < delta.n; i++) {
        struct quantity *d = &delta.p[i].q, *hard = amount_of(&q->hard, delta.p[i].name);

        quantity_subtract(d, before.p[i].q);
        if (d->nano > 0
            && quantity_cmp(quantity_add(*amount_of(&used, delta.p[i].name), *d), *hard) > 0)
            amount_add(&exceeded, delta.p[i].name, *hard, a);
    }
    if (!exceeded.n)
        return true;
    buf_addf(&b, "exceeded quota: %s, requested: ", q->name);
    print(&b, &delta, &exceeded);
    buf_adds(&b, ", used: ");
    print(&b, &used, &exceeded);
    buf_adds(&b, ", limited: ");
    print(&b, &q->hard, &exceeded);
    return error_set(err, ERROR_FORBIDDEN, STR_FMT, STR_ARG(buf_str(&b)));
}

bool quota_admit(struct quotas *qs, const struct kind_info *k, struct str ns,
                 const struct json *old, const struct json *object, bool dry_run,
                 struct quota_claim **ret, struct error *err)
{
    bool concerned = false, ok = true;
    struct arena a = {0};

    *ret = NULL;
    if (list_empty(&qs->list) || !kind_namespaced(k) || !strcmp(k->plural, "events")
        || (old && !kind_is(k, "", "persistentvolumeclaims")))
        return true;
    list_each(n, &qs->list) {
        const struct quota *q = list_entry(n, struct quota, node);

        if (!ok || !str_is(ns, q->ns) || !concerns(q, k) || !falls_under(q, k, object))
            continue;
        concerned = true;
        ok = (old || !kind_is(k, "", "pods") || says_all(q, object, err))
             && fits(qs, q, k, old, object, &a, err);
    }
    arena_done(&a);
    if (ok && concerned && !dry_run) {
        struct quota_claim *c = NEW(struct quota_claim);

        c->ns = str_dup(ns);
        c->kind = served_ref(catalog_find(qs->s, str_of(k->group), STR_NONE, str_of(k->plural)));
        c->object = json_copy(&c->arena, object);
        c->old = old ? json_copy(&c->arena, old) : NULL;
        list_add_tail(&qs->claims, &c->node);
        c->refs = 2;
        *ret = c;
    }
    return ok;
}

void quota_claim_put(struct quota_claim *c, int64_t revision)
{
    if (c)
        c->revision = revision;
}

void quota_claim_done(struct quota_claim *c, bool written)
{
    if (!c)
        return;
    if (!written)
        claim_drop(c);
    claim_unref(c);
}

/* Life. */

struct quotas *quotas_new(struct apiserver *s)
{
    struct quotas *qs = NEW(struct quotas);
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    struct str prefix = STR("/registry/core/resourcequotas/");

    qs->s = s;
    list_init(&qs->list);
    list_init(&qs->claims);
    if (store_list(s->store, prefix, STR_NONE, 0, 0, NULL, NULL, &list, &err)) {
        for (size_t i = 0; i < list.n; i++) {
            struct arena a = {0};

            see(qs, store_object_json(list.p[i], &a));
            arena_done(&a);
        }
        qs->watch = store_watch_start(s->store, prefix, list.revision, quota_changed, qs, &err);
    }
    if (!qs->watch)
        log_error("quota", "%s", error_text(&err));
    return qs;
}

void quotas_free(struct quotas *qs)
{
    if (!qs)
        return;
    store_watch_stop(qs->watch);
    store_watch_stop(qs->all);
    loop_timer_stop(&qs->timer);
    list_each_safe(n, &qs->claims)
        claim_drop(list_entry(n, struct quota_claim, node));
    list_each_safe(n, &qs->list)
        quota_free(list_entry(n, struct quota, node));
    free(qs);
}
