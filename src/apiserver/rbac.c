#include "apiserver/rbac.h"
#include "api/meta.h"
#include "base/cleanup.h"
#include "base/map.h"
#include "base/vec.h"

#define PREFIX "/registry/rbac.authorization.k8s.io/"

struct role {
    struct arena arena;
    const struct json *rules;
};

struct postings { /* bindings of one subject in one namespace, by name */
    struct binding **p;
    size_t n, cap;
};

struct rbac {
    struct store *store;
    struct store_watch *watch;
    struct map roles, bindings; /* by key, owned */
    struct map index;           /* "<namespace>\n<u or g><name>" → owned postings */
};

static struct str role_key(struct arena *a, bool cluster, struct str ns, struct str name)
{
    return str_of(
        cluster ? arena_printf(a, PREFIX "clusterroles/-/" STR_FMT, STR_ARG(name))
                : arena_printf(a, PREFIX "roles/" STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(name)));
}

static void index_key(struct buf *b, struct str ns, char kind, struct str name)
{
    buf_clear(b);
    buf_addf(b, STR_FMT "\n%c", STR_ARG(ns), kind);
    buf_addstr(b, name);
}

/* The key under which a subject is found; false when it can be nobody. */
static bool subject_key(const struct binding *b, const struct json *subject, struct buf *out)
{
    struct str kind = json_str_at(subject, "kind"), name = json_str_at(subject, "name"),
               ns = json_str_at(subject, "namespace");

    if (str_is(kind, "User")) {
        index_key(out, b->ns, 'u', name);
    } else if (str_is(kind, "Group")) {
        index_key(out, b->ns, 'g', name);
    } else if (str_is(kind, "ServiceAccount")) {
        if (!ns.n)
            ns = b->ns;
        if (!ns.n || !name.n)
            return false;
        index_key(out, b->ns, 'u', STR(""));
        buf_addf(out, "system:serviceaccount:" STR_FMT ":" STR_FMT, STR_ARG(ns), STR_ARG(name));
    } else {
        return false;
    }
    return true;
}

static void role_free(void *p)
{
    struct role *role = p;

    arena_done(&role->arena);
    free(role);
}

static void postings_free(void *p)
{
    struct postings *l = p;

    vec_done(l);
    free(l);
}

static void binding_free(void *p)
{
    struct binding *b = p;

    arena_done(&b->arena);
    free(b);
}

static size_t place_of(const struct postings *l, struct str name)
{
    size_t lo = 0, hi = l->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (str_cmp(l->p[mid]->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void post(struct rbac *r, struct binding *b, struct str key)
{
    struct postings *l = map_get(&r->index, key);
    size_t at;

    if (!l) {
        l = NEW(struct postings);
        map_set(&r->index, key, l);
    }
    at = place_of(l, b->name);
    if (at < l->n && l->p[at] == b)
        return; /* named twice */
    vec_reserve(l, l->n + 1);
    memmove(&l->p[at + 1], &l->p[at], (l->n - at) * sizeof(struct binding *));
    l->p[at] = b;
    l->n++;
}

static void unpost(struct rbac *r, const struct binding *b)
{
    for (size_t i = 0; i < b->n_keys; i++) {
        struct postings *l = map_get(&r->index, b->index_keys[i]);
        size_t at = l ? place_of(l, b->name) : 0;

        if (!l || at >= l->n || l->p[at] != b)
            continue;
        vec_remove(l, at);
        if (l->n == 0)
            postings_free(map_del(&r->index, b->index_keys[i]));
    }
}

static void add_role(struct rbac *r, struct str key, const struct json *object)
{
    struct role *role = NEW(struct role);

    role->arena.first = 1024;
    role->rules = json_get(object, "rules") ? json_copy(&role->arena, json_get(object, "rules"))
                                            : json_array(&role->arena, NULL);
    map_set(&r->roles, key, role);
}

static void add_binding(struct rbac *r, struct str key, const struct json *object, bool cluster)
{
    struct binding *b = NEW(struct binding);
    struct arena *a = &b->arena;
    AUTO(buf_done) struct buf k = {0};
    const struct json *ref = json_get(object, "roleRef");

    a->first = 512;
    b->name = arena_str(a, meta_name(object));
    b->ns = cluster ? STR_NONE : arena_str(a, meta_namespace(object));
    b->role_kind = arena_str(a, json_str_at(ref, "kind"));
    b->role_name = arena_str(a, json_str_at(ref, "name"));
    b->role_key = role_key(a, str_is(b->role_kind, "ClusterRole"), b->ns, b->role_name);
    b->subjects = json_get(object, "subjects") ? json_copy(a, json_get(object, "subjects")) : NULL;
    b->index_keys = ARENA_ARRAY(a, struct str, json_len(b->subjects) + 1);
    map_set(&r->bindings, key, b);
    json_each_item(subject, b->subjects) {
        if (!subject_key(b, subject, &k))
            continue;
        b->index_keys[b->n_keys++] = arena_str(a, buf_str(&k));
        post(r, b, buf_str(&k));
    }
}

void rbac_note(struct rbac *r, struct str key)
{
    struct str plural, rest;
    struct arena a = {0};
    struct store_object *o;
    bool cluster, role;

    if (!r || !str_starts(key, STR(PREFIX)))
        return;
    str_cut(str_skip(key, strlen(PREFIX)), '/', &plural, &rest);
    cluster = str_starts(plural, STR("cluster"));
    role = str_ends(plural, STR("roles"));
    if (role) {
        struct role *old = map_del(&r->roles, key);

        if (old)
            role_free(old);
    } else {
        struct binding *old = map_del(&r->bindings, key);

        if (old) {
            unpost(r, old);
            binding_free(old);
        }
    }
    o = store_get(r->store, key);
    if (!o)
        return;
    if (role)
        add_role(r, key, store_object_json(o, &a));
    else
        add_binding(r, key, store_object_json(o, &a), cluster);
    store_object_unref(o);
    arena_done(&a);
}

static bool changed(void *user, const struct store_event *e)
{
    rbac_note(user, store_object_key(e->object));
    return true;
}

struct rbac *rbac_new(struct store *store)
{
    struct rbac *r = NEW(struct rbac);
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    r->store = store;
    r->watch = store_watch_start(store, STR(PREFIX), store_revision(store), changed, r, &err);
    if (store_list(store, STR(PREFIX), STR_NONE, 0, 0, NULL, NULL, &list, &err))
        for (size_t i = 0; i < list.n; i++)
            rbac_note(r, store_object_key(list.p[i]));
    return r;
}

void rbac_free(struct rbac *r)
{
    if (!r)
        return;
    store_watch_stop(r->watch);
    map_done_with(&r->index, postings_free);
    map_done_with(&r->bindings, binding_free);
    map_done_with(&r->roles, role_free);
    free(r);
}

const struct json *rbac_role_rules(struct rbac *r, bool cluster, struct str ns, struct str name)
{
    struct arena a = {0};
    struct role *role = map_get(&r->roles, role_key(&a, cluster, ns, name));

    arena_done(&a);
    return role ? role->rules : NULL;
}

static int by_name(const void *x, const void *y)
{
    return str_cmp((*(struct binding *const *)x)->name, (*(struct binding *const *)y)->name);
}

static void gather(struct rbac *r, struct str ns, char kind, const char *name, struct buf *key,
                   struct postings *out)
{
    const struct postings *l;

    index_key(key, ns, kind, str_of(name));
    l = map_get(&r->index, buf_str(key));
    for (size_t i = 0; l && i < l->n; i++)
        vec_push(out, l->p[i]);
}

static const struct json *subject_of(const struct binding *b, const struct identity *who,
                                     struct buf *mine)
{
    AUTO(buf_done) struct buf k = {0};

    json_each_item(subject, b->subjects) {
        if (!subject_key(b, subject, &k))
            continue;
        index_key(mine, b->ns, 'u', str_of(who->user));
        if (str_eq(buf_str(&k), buf_str(mine)))
            return subject;
        for (size_t i = 0; who->groups && who->groups[i]; i++) {
            index_key(mine, b->ns, 'g', str_of(who->groups[i]));
            if (str_eq(buf_str(&k), buf_str(mine)))
                return subject;
        }
    }
    return NULL;
}

static bool visit_binding(struct rbac *r, const struct binding *b, const struct identity *who,
                          rbac_visit_fn fn, void *user, struct buf *key)
{
    const struct role *role = map_get(&r->roles, b->role_key);
    const struct json *subject = subject_of(b, who, key);

    if (!role) {
        struct arena a = {0};
        bool more = fn(user, b, subject, NULL,
                       arena_printf(&a, "%s.rbac.authorization.k8s.io \"" STR_FMT "\" not found",
                                    str_is(b->role_kind, "ClusterRole") ? "clusterrole" : "role",
                                    STR_ARG(b->role_name)));

        arena_done(&a);
        return more;
    }
    json_each_item(rule, role->rules) {
        if (!fn(user, b, subject, rule, NULL))
            return false;
    }
    return true;
}

static bool visit_in(struct rbac *r, const struct identity *who, struct str ns, rbac_visit_fn fn,
                     void *user)
{
    AUTO(buf_done) struct buf key = {0};
    struct postings found = {0};
    bool more = true;

    gather(r, ns, 'u', who->user, &key, &found);
    for (size_t i = 0; who->groups && who->groups[i]; i++)
        gather(r, ns, 'g', who->groups[i], &key, &found);
    if (found.n > 1)
        qsort(found.p, found.n, sizeof *found.p, by_name);
    for (size_t i = 0; i < found.n && more; i++)
        if (!i || found.p[i] != found.p[i - 1])
            more = visit_binding(r, found.p[i], who, fn, user, &key);
    vec_done(&found);
    return more;
}

void rbac_visit(struct rbac *r, const struct identity *who, struct str ns, rbac_visit_fn fn,
                void *user)
{
    if (visit_in(r, who, STR(""), fn, user) && ns.n)
        visit_in(r, who, ns, fn, user);
}

struct rules_of {
    struct arena *a;
    VEC(const struct json *) rules;
};

static bool collect(void *user, const struct binding *b, const struct json *subject,
                    const struct json *rule, const char *missing)
{
    struct rules_of *c = user;

    (void)b;
    (void)subject;
    (void)missing;
    if (rule)
        vec_push(&c->rules, rule);
    return true;
}

const struct json *rbac_rules_of(struct rbac *r, const struct identity *who, struct str ns,
                                 struct arena *a)
{
    struct rules_of c = {.a = a};
    const struct json *out;

    rbac_visit(r, who, ns, collect, &c);
    out = json_copy(a, json_array_n(a, c.rules.p, c.rules.n));
    vec_done(&c.rules);
    return out;
}
