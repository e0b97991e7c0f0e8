/* apiserver/gc - garbage: objects whose owners are gone, and the foreground and orphan ways of deleting.
 *
 * Every object's owners are indexed by UID as changes come by. When an owner goes, each dependent is looked at: with no
 * living owner left it is deleted in the background; an owner waiting with the finalizer foregroundDeletion has
 * its dependents deleted first; with orphan they lose the reference. All of it acts through the server's own client,
 * so that preconditions, finalizers and watches work as for anyone. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/ident.h"
#include "base/log.h"

/* Objects that have owners. There may be tens of thousands of them, so each is two small blocks: what it is and where it
 * lies is read from the store's object. */
struct dependent {
    struct store_object *object; /* a reference: the current one, so it costs nothing */
    struct link *links;
};

/* One of its owners. Dependents of the same owner hang together; the map holds the first. */
struct link {
    struct dependent *dependent;
    struct link *more; /* of the same dependent */
    struct link *next, *prev;
    uint8_t n;
    char uid[]; /* as owner_key() writes it */
};

struct gc {
    struct apiserver *s;
    struct store_watch *watch;
    struct map objects; /* store key → struct dependent */
    struct map owners;  /* uid → struct link; both borrow their keys */
    struct loop_defer work, first;
    struct store_list all; /* at the start: not yet looked at from `at` on */
    size_t at;
    VEC(char *) queue; /* uids of owners to look at */
    VEC(char *) check; /* store keys of dependents to look at */
};

#define UID_MAX 64
#define FIRST_BYTES (256u << 10) /* of text, in one turn */

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A UUID in 16 bytes, anything else as it is. */
static struct str owner_key(struct str uid, char to[UID_MAX])
{
    size_t n = 0;

    for (size_t i = 0; uid.n == 36 && i < uid.n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        int hi = nibble(uid.p[i]), lo = dash || i + 1 == uid.n ? -1 : nibble(uid.p[i + 1]);

        if (dash ? uid.p[i] != '-' : hi < 0 || lo < 0)
            return str_take(uid, UID_MAX);
        if (!dash) {
            to[n++] = (char)(hi << 4 | lo);
            i++;
        }
    }
    return n ? str_n(to, n) : str_take(uid, UID_MAX);
}

static struct link *first_of(const struct gc *g, struct str uid)
{
    char raw[UID_MAX];

    return map_get(&g->owners, owner_key(uid, raw));
}

static void dependent_free(void *p)
{
    struct dependent *d = p;

    for (struct link *l = d->links, *more; l; l = more) {
        more = l->more;
        free(l);
    }
    store_object_unref(d->object);
    free(d);
}

static void unlink_owner(struct gc *g, struct link *l)
{
    if (l->next)
        l->next->prev = l->prev;
    if (l->prev)
        l->prev->next = l->next;
    else if (l->next)
        map_set_borrowed(&g->owners, str_n(l->next->uid, l->n), l->next);
    else
        map_del(&g->owners, str_n(l->uid, l->n));
}

static void forget(struct gc *g, struct str key)
{
    struct dependent *d = map_del(&g->objects, key);

    if (!d)
        return;
    for (struct link *l = d->links; l; l = l->more)
        unlink_owner(g, l);
    dependent_free(d);
}

/* "/registry/<group>/<plural>/<ns>/<name>" */
static bool key_parts(struct str key, struct str part[4])
{
    struct str rest = str_skip(key, strlen("/registry/"));

    for (int i = 0; i < 3; i++)
        if (!str_cut(rest, '/', &part[i], &rest))
            return false;
    part[3] = rest;
    return true;
}

static void remember(struct gc *g, struct store_object *object, const struct json *refs)
{
    struct dependent *d = NEW(struct dependent);
    char raw[UID_MAX];

    d->object = store_object_ref(object);
    json_each_item(ref, refs) {
        struct str uid = owner_key(json_str_at(ref, "uid"), raw);
        struct link *l, *first;

        if (str_empty(uid))
            continue;
        l = xcalloc(1, sizeof *l + uid.n);
        l->dependent = d;
        l->n = (uint8_t)uid.n;
        memcpy(l->uid, uid.p, uid.n);
        l->more = d->links;
        d->links = l;
        first = map_get(&g->owners, uid);
        if (first) {
            l->prev = first;
            l->next = first->next;
            first->next = l;
            if (l->next)
                l->next->prev = l;
        } else {
            map_set_borrowed(&g->owners, str_n(l->uid, l->n), l);
        }
    }
    map_set_borrowed(&g->objects, store_object_key(object), d);
}

static void run(struct loop_defer *d);

static void queue_owner(struct gc *g, struct str uid)
{
    vec_push(&g->queue, str_dup(uid));
    loop_defer(g->s->loop, &g->work, run);
}

static void queue_check(struct gc *g, struct str key)
{
    vec_push(&g->check, str_dup(key));
    loop_defer(g->s->loop, &g->work, run);
}

/* The living owner, a reference; its UID is known without looking inside. */
static struct store_object *owner_of(struct gc *g, const struct json *ref, struct str ns,
                                     struct arena *a, struct served **ret_kind)
{
    struct served *k = catalog_by_kind(g->s, meta_group(json_str_at(ref, "apiVersion"), NULL),
                                       json_str_at(ref, "kind"));
    struct store_object *o;

    *ret_kind = k;
    if (!k)
        return NULL;
    o = store_get_pending(g->s->store, kind_key(k->info, kind_namespaced(k->info) ? ns : STR_NONE,
                                                json_str_at(ref, "name"), a));
    if (o && str_eq(store_object_uid(o), json_str_at(ref, "uid")))
        return o;
    store_object_unref(o);
    return NULL;
}

static void ignore(void *user, const struct client_response *r);

/* The owner may live in another namespace, where it owns nothing here: whoever wrote that is told. */
static void tell_if_elsewhere(struct gc *g, const struct json *o, const struct json *ref,
                              const struct kind_info *k)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    struct arena a = {0};
    struct str uid = json_str_at(ref, "uid"), name = json_str_at(ref, "name"), ns = meta_namespace(o);
    char suffix[17];
    bool found = false;
    struct client_request q = {
        .verb = CLIENT_CREATE, .group = "", .version = "v1", .plural = "events", .ns = ns};

    if (!ns.n || !kind_namespaced(k)
        || !store_list(g->s->store, STR("/registry/core/namespaces/"), STR_NONE, 0, 0, NULL, NULL,
                       &list, &err))
        return;
    for (size_t i = 0; i < list.n && !found; i++) {
        struct str part[4];
        const struct json *owner = key_parts(store_object_key(list.p[i]), part)
                                       ? apiserver_peek(g->s, k->group, k->plural, part[3], name, &a)
                                       : NULL;

        found = owner && str_eq(meta_uid(owner), uid);
    }
    if (found) {
        const char *now = now_text(g->s, false, &a);

        ident_suffix(suffix, 16);
        q.body = json_object(
            &a, "metadata",
            json_object(&a, "name", json_new_f(&a, STR_FMT ".%s", STR_ARG(meta_name(o)), suffix), "namespace",
                        json_new_str(&a, ns), NULL),
            "involvedObject",
            json_object(&a, "kind", json_get(o, "kind"), "namespace", json_new_str(&a, ns), "name",
                        json_new_str(&a, meta_name(o)), "uid", json_new_str(&a, meta_uid(o)), "apiVersion",
                        json_get(o, "apiVersion"), NULL),
            "reason", json_new_z(&a, "OwnerRefInvalidNamespace"), "message",
            json_new_f(&a,
                       "ownerRef [" STR_FMT "/" STR_FMT ", namespace: " STR_FMT ", name: " STR_FMT
                       ", uid: " STR_FMT "] does not exist in namespace \"" STR_FMT "\"",
                       STR_ARG(json_str_at(ref, "apiVersion")), STR_ARG(json_str_at(ref, "kind")),
                       STR_ARG(ns), STR_ARG(name), STR_ARG(uid), STR_ARG(ns)),
            "source",
            json_object(&a, "component", json_new_z(&a, "garbage-collector-controller"), NULL),
            "firstTimestamp", json_new_z(&a, now), "lastTimestamp", json_new_z(&a, now), "count",
            json_new_i64(&a, 1), "type", json_new_z(&a, "Warning"), NULL);
        client_call(g->s->self, &q, ignore, g);
    }
    arena_done(&a);
}

static void ignore(void *user, const struct client_response *r)
{
    (void)user;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND
        && r->err->kind != ERROR_CONFLICT)
        log_warning("gc", "%s", error_text(r->err));
}

/* ret->group and its like are in the arena. */
static struct client_request request_for(struct gc *g, struct str key, struct arena *a)
{
    struct str part[4] = {STR_NONE, STR_NONE, STR_NONE, STR_NONE};
    struct served *k;

    (void)!key_parts(key, part); /* all keys of the API server have them */
    if (str_is(part[0], "core"))
        part[0] = STR("");
    k = catalog_find(g->s, part[0], STR_NONE, part[1]);
    return (struct client_request){
        .group = arena_strdup(a, part[0]),
        .version = k ? kind_some_version(k->info) : "v1",
        .plural = arena_strdup(a, part[1]),
        .ns = str_is(part[2], "-") ? STR_NONE : arena_str(a, part[2]),
        .name = arena_str(a, part[3]),
    };
}

static void delete_dependent(struct gc *g, const struct dependent *d, const char *policy)
{
    struct arena a = {0};
    struct client_request q = request_for(g, store_object_key(d->object), &a);

    q.verb = CLIENT_DELETE;
    q.body = json_object(
        &a, "kind", json_new_z(&a, "DeleteOptions"), "apiVersion", json_new_z(&a, "v1"),
        "propagationPolicy", json_new_z(&a, policy), "preconditions",
        json_object(&a, "uid", json_new_str(&a, store_object_uid(d->object)), NULL), NULL);
    client_call(g->s->self, &q, ignore, g);
    arena_done(&a);
}

static void drop_reference(struct gc *g, const struct dependent *d, const struct json *o,
                           struct str uid)
{
    struct arena a = {0};
    struct client_request q = request_for(g, store_object_key(d->object), &a);
    const struct json *refs = json_array(&a, NULL);

    json_each_item(ref, json_at(o, "metadata/ownerReferences")) {
        if (!str_eq(json_str_at(ref, "uid"), uid))
            refs = json_append(&a, refs, ref);
    }
    q.verb = CLIENT_PATCH_MERGE;
    q.body = json_object(&a, "metadata",
                         json_object(&a, "uid", json_new_str(&a, store_object_uid(d->object)),
                                     "ownerReferences", json_len(refs) ? refs : json_null(), NULL),
                         NULL);
    client_call(g->s->self, &q, ignore, g);
    arena_done(&a);
}

static const struct json *peek(struct gc *g, const struct dependent *d, struct arena *a)
{
    struct store_object *o = store_get_pending(g->s->store, store_object_key(d->object));
    const struct json *v = o ? store_object_json(o, a) : NULL;

    store_object_unref(o);
    return v;
}

/* A dependent: alive as long as one of its owners is. An owner whose kind is not served here counts as gone only if its
 * group is one of ours, so that objects from elsewhere (a restored backup) are not swept away. */
static void look_at(struct gc *g, const struct dependent *d)
{
    struct arena a = {0};
    const struct json *o = peek(g, d, &a), *gone = NULL;
    bool living = false, waiting = false;
    struct str part[4] = {STR_NONE, STR_NONE, STR_NONE, STR_NONE};

    (void)!key_parts(store_object_key(d->object), part);
    json_each_item(ref, json_at(o, "metadata/ownerReferences")) {
        struct served *k;
        struct store_object *owner = owner_of(g, ref, part[2], &a, &k);

        if (!k)
            living = true;
        else if (!owner) {
            gone = ref;
            tell_if_elsewhere(g, o, ref, k->info);
        } else if (store_object_mentions(owner, STR("foregroundDeletion"))
                   && meta_has_finalizer(store_object_json(owner, &a), "foregroundDeletion")) {
            waiting = true;
        } else {
            living = true;
        }
        store_object_unref(owner);
    }
    if (o && (gone || waiting) && !living && !meta_deleting(o))
        delete_dependent(g, d,
                         waiting && json_len(json_at(o, "metadata/finalizers")) ? "Foreground"
                                                                                : "Background");
    else if (o && gone && living)
        drop_reference(g, d, o, json_str_at(gone, "uid"));
    arena_done(&a);
}

static void release_owner(struct gc *g, struct str key, const struct json *o, const char *finalizer)
{
    struct arena a = {0};
    struct client_request q = request_for(g, key, &a);
    const struct json *left = json_array(&a, NULL);

    json_each_item(f, json_at(o, "metadata/finalizers")) {
        if (!str_is(json_str(f), finalizer))
            left = json_append(&a, left, f);
    }
    q.verb = CLIENT_PATCH_MERGE;
    q.body = json_object(&a, "metadata",
                         json_object(&a, "resourceVersion", json_at(o, "metadata/resourceVersion"),
                                     "finalizers", json_len(left) ? left : json_null(), NULL),
                         NULL);
    client_call(g->s->self, &q, ignore, g);
    arena_done(&a);
}

/* An owner that is being deleted in the foreground or orphans its dependents. */
static void look_at_deleting(struct gc *g, struct str key, const struct json *o)
{
    bool foreground = meta_has_finalizer(o, "foregroundDeletion"),
         orphan = meta_has_finalizer(o, "orphan");
    size_t blocking = 0;

    if (!foreground && !orphan)
        return;
    for (const struct link *l = first_of(g, meta_uid(o)); l; l = l->next) {
        struct arena a = {0};
        const struct dependent *d = l->dependent;
        const struct json *dep = peek(g, d, &a);

        json_each_item(ref, json_at(dep, "metadata/ownerReferences")) {
            if (!str_eq(json_str_at(ref, "uid"), meta_uid(o)))
                continue;
            if (orphan) {
                blocking++;
                drop_reference(g, d, dep, meta_uid(o));
            } else {
                blocking += json_bool_at(ref, "blockOwnerDeletion", false);
                queue_check(g, store_object_key(d->object));
            }
        }
        arena_done(&a);
    }
    if (!blocking)
        release_owner(g, key, o, foreground ? "foregroundDeletion" : "orphan");
}

static void run(struct loop_defer *defer)
{
    struct gc *g = container_of(defer, struct gc, work);

    while (g->queue.n) {
        char *uid = g->queue.p[--g->queue.n];

        for (const struct link *l = first_of(g, str_of(uid)); l; l = l->next)
            vec_push(&g->check, str_dup(store_object_key(l->dependent->object)));
        free(uid);
    }
    while (g->check.n) {
        char *key = g->check.p[--g->check.n];
        struct dependent *d = map_get(&g->objects, str_of(key));

        if (d)
            look_at(g, d);
        free(key);
    }
}

static void see(struct gc *g, struct store_object *object, const struct json *o)
{
    const struct json *refs = json_at(o, "metadata/ownerReferences");
    struct str key = store_object_key(object);

    forget(g, key);
    if (json_len(refs)) {
        remember(g, object, refs);
        queue_check(g, key);
    }
    if (meta_deleting(o))
        look_at_deleting(g, key, o);
}

/* Owners that wait in the foreground for what has just gone. */
static void wake_owners(struct gc *g, struct str key, const struct json *o)
{
    struct str part[4];

    if (!key_parts(key, part))
        return;
    json_each_item(ref, json_at(o, "metadata/ownerReferences")) {
        struct arena a = {0};
        struct served *k;
        struct store_object *owner = owner_of(g, ref, part[2], &a, &k);

        if (owner && store_object_mentions(owner, STR("deletionTimestamp"))) {
            const struct json *v = store_object_json(owner, &a);

            if (meta_deleting(v))
                look_at_deleting(g, store_object_key(owner), v);
        }
        store_object_unref(owner);
        arena_done(&a);
    }
}

/* By its bytes: has it owners, or is it being deleted? */
static bool is_of_concern(const struct store_object *o)
{
    static const char owners[] = "\"ownerReferences\":", deletion[] = "\"deletionTimestamp\":";
    AUTO(buf_done) struct buf text = {0};

    store_object_text(o, &text);
    return memmem(text.p, text.n, owners, strlen(owners))
           || memmem(text.p, text.n, deletion, strlen(deletion));
}

/* Without owners, now and before, and not being deleted: most objects, most of the time. Nothing is parsed for it. */
static bool of_no_concern(struct gc *g, const struct store_event *e)
{
    return e->type != STORE_DELETED && !map_get(&g->objects, store_object_key(e->object))
           && !is_of_concern(e->object);
}

static bool gc_changed(void *user, const struct store_event *e)
{
    struct gc *g = user;
    struct str key = store_object_key(e->object);
    struct arena a = {0};
    const struct json *o;

    /* Events own nothing and are owned by nobody. */
    if (str_starts(key, STR("/registry/core/events/")) || of_no_concern(g, e))
        return true;
    o = store_object_json(e->object, &a);
    if (e->type == STORE_DELETED) {
        forget(g, key);
        queue_owner(g, meta_uid(o));
        wake_owners(g, key, o);
    } else {
        if (e->previous) {
            const struct json *was = store_object_json(e->previous, &a);

            if (!json_eq(json_at(was, "metadata/ownerReferences"),
                         json_at(o, "metadata/ownerReferences")))
                wake_owners(g, key, was);
        }
        see(g, e->object, o);
    }
    arena_done(&a);
    return true;
}

/* What was there at the start, in turns: the server is ready meanwhile. Whatever has changed since has its own event. */
static void first_look(struct loop_defer *defer)
{
    struct gc *g = container_of(defer, struct gc, first);
    size_t looked = 0;

    while (g->at < g->all.n && looked < FIRST_BYTES) {
        struct store_object *o = g->all.p[g->at++];
        struct arena a = {0};
        struct store_object *now = store_get(g->s->store, store_object_key(o));

        looked += 2000;
        if (now == o && !str_starts(store_object_key(o), STR("/registry/core/events/"))) {
            looked += store_object_size(o);
            if (is_of_concern(o))
                see(g, o, store_object_json(o, &a));
        }
        store_object_unref(now);
        arena_done(&a);
    }
    if (g->at < g->all.n)
        loop_defer(g->s->loop, &g->first, first_look);
    else
        store_list_done(&g->all);
}

struct gc *gc_new(struct apiserver *s)
{
    struct gc *g = NEW(struct gc);
    AUTO(error_clear) struct error err = {0};

    g->s = s;
    if (store_list(s->store, STR("/registry/"), STR_NONE, 0, 0, NULL, NULL, &g->all, &err))
        g->watch =
            store_watch_start(s->store, STR("/registry/"), g->all.revision, gc_changed, g, &err);
    if (!g->watch)
        log_error("gc", "%s", error_text(&err));
    loop_defer(s->loop, &g->first, first_look);
    return g;
}

void gc_free(struct gc *g)
{
    if (!g)
        return;
    store_watch_stop(g->watch);
    loop_defer_cancel(&g->work);
    loop_defer_cancel(&g->first);
    store_list_done(&g->all);
    for (size_t i = 0; i < g->queue.n; i++)
        free(g->queue.p[i]);
    vec_done(&g->queue);
    for (size_t i = 0; i < g->check.n; i++)
        free(g->check.p[i]);
    vec_done(&g->check);
    map_done(&g->owners);
    map_done_with(&g->objects, dependent_free);
    free(g);
}
