/* apiserver/gc - garbage: objects whose owners are gone, and the foreground and orphan ways of deleting.
 *
 * Every object's owners are indexed by UID as changes come by. When an owner goes, each dependent is looked at: with no
 * living owner left it is deleted in the background; an owner waiting with the finalizer foregroundDeletion has
 * its dependents deleted first; with orphan they lose the reference. All of it acts through the server's own client,
 * so that preconditions, finalizers and watches work as for anyone. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/log.h"

struct dependent {
    char *key; /* of the store */
    char *group, *plural, *ns, *name, *uid;
    VEC(char *) owners;
};

struct owner {
    VEC(struct dependent *) dependents;
};

struct gc {
    struct apiserver *s;
    struct store_watch *watch;
    struct map objects; /* store key → struct dependent */
    struct map owners;  /* uid → struct owner */
    struct loop_defer work;
    VEC(char *) queue; /* uids of owners to look at */
    VEC(char *) check; /* store keys of dependents to look at */
};

static void dependent_free(void *p)
{
    struct dependent *d = p;

    for (size_t i = 0; i < d->owners.n; i++)
        free(d->owners.p[i]);
    vec_done(&d->owners);
    free(d->key);
    free(d->group);
    free(d->plural);
    free(d->ns);
    free(d->name);
    free(d->uid);
    free(d);
}

static void owner_free(void *p)
{
    struct owner *o = p;

    vec_done(&o->dependents);
    free(o);
}

static void forget(struct gc *g, struct str key)
{
    struct dependent *d = map_del(&g->objects, key);

    if (!d)
        return;
    for (size_t i = 0; i < d->owners.n; i++) {
        struct owner *o = map_get(&g->owners, str_of(d->owners.p[i]));

        for (size_t j = 0; o && j < o->dependents.n; j++)
            if (o->dependents.p[j] == d) {
                o->dependents.p[j] = o->dependents.p[--o->dependents.n];
                break;
            }
        if (o && o->dependents.n == 0)
            owner_free(map_del(&g->owners, str_of(d->owners.p[i])));
    }
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

static void remember(struct gc *g, struct str key, const struct json *o, const struct json *refs)
{
    struct dependent *d = NEW(struct dependent);
    struct str part[4];

    if (!key_parts(key, part)) {
        free(d);
        return;
    }
    d->key = str_dup(key);
    d->group = str_is(part[0], "core") ? xstrdup("") : str_dup(part[0]);
    d->plural = str_dup(part[1]);
    d->ns = str_is(part[2], "-") ? NULL : str_dup(part[2]);
    d->name = str_dup(part[3]);
    d->uid = str_dup(meta_uid(o));
    json_each_item(ref, refs) {
        struct str uid = json_str_at(ref, "uid");
        struct owner *owner;

        if (str_empty(uid))
            continue;
        owner = map_get(&g->owners, uid);
        if (!owner) {
            owner = NEW(struct owner);
            map_set(&g->owners, uid, owner);
        }
        vec_push(&owner->dependents, d);
        vec_push(&d->owners, str_dup(uid));
    }
    map_set(&g->objects, key, d);
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

static const struct json *owner_of(struct gc *g, const struct json *ref, struct str ns,
                                   struct arena *a, struct served **ret_kind)
{
    struct served *k = catalog_by_kind(g->s, meta_group(json_str_at(ref, "apiVersion"), NULL),
                                       json_str_at(ref, "kind"));
    const struct json *o;

    *ret_kind = k;
    if (!k)
        return NULL;
    o = apiserver_peek(g->s, k->info->group, k->info->plural,
                       kind_namespaced(k->info) ? ns : STR_NONE, json_str_at(ref, "name"), a);
    return o && str_eq(meta_uid(o), json_str_at(ref, "uid")) ? o : NULL;
}

static void ignore(void *user, const struct client_response *r)
{
    (void)user;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND
        && r->err->kind != ERROR_CONFLICT)
        log_warning("gc", "%s", error_text(r->err));
}

static struct client_request request_for(struct gc *g, const struct dependent *d)
{
    struct served *k = catalog_find(g->s, str_of(d->group), STR_NONE, str_of(d->plural));

    return (struct client_request){
        .group = d->group,
        .version = k ? (k->info->versions ? k->info->versions[0] : k->info->version) : "v1",
        .plural = d->plural,
        .ns = str_of(d->ns),
        .name = str_of(d->name),
    };
}

static void delete_dependent(struct gc *g, const struct dependent *d, const char *policy)
{
    struct arena a = {0};
    struct client_request q = request_for(g, d);

    q.verb = CLIENT_DELETE;
    q.body =
        json_object(&a, "kind", json_new_z(&a, "DeleteOptions"), "apiVersion", json_new_z(&a, "v1"),
                    "propagationPolicy", json_new_z(&a, policy), "preconditions",
                    json_object(&a, "uid", json_new_z(&a, d->uid), NULL), NULL);
    client_call(g->s->self, &q, ignore, g);
    arena_done(&a);
}

static void drop_reference(struct gc *g, const struct dependent *d, const struct json *o,
                           struct str uid)
{
    struct arena a = {0};
    struct client_request q = request_for(g, d);
    const struct json *refs = json_array(&a, NULL);

    json_each_item(ref, json_at(o, "metadata/ownerReferences")) {
        if (!str_eq(json_str_at(ref, "uid"), uid))
            refs = json_append(&a, refs, ref);
    }
    q.verb = CLIENT_PATCH_MERGE;
    q.body = json_object(&a, "metadata",
                         json_object(&a, "uid", json_new_z(&a, d->uid), "ownerReferences",
                                     json_len(refs) ? refs : json_null(), NULL),
                         NULL);
    client_call(g->s->self, &q, ignore, g);
    arena_done(&a);
}

static const struct json *peek(struct gc *g, const struct dependent *d, struct arena *a)
{
    struct store_object *o = store_get_pending(g->s->store, str_of(d->key));
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

    json_each_item(ref, json_at(o, "metadata/ownerReferences")) {
        struct served *k;
        const struct json *owner = owner_of(g, ref, str_of(d->ns), &a, &k);

        if (!k)
            living = true;
        else if (!owner)
            gone = ref;
        else if (meta_has_finalizer(owner, "foregroundDeletion"))
            waiting = true;
        else
            living = true;
    }
    if (o && (gone || waiting) && !living && !meta_deleting(o))
        delete_dependent(g, d,
                         waiting && json_len(json_at(o, "metadata/finalizers")) ? "Foreground"
                                                                                : "Background");
    else if (o && gone && living)
        drop_reference(g, d, o, json_str_at(gone, "uid"));
    arena_done(&a);
}

static void release_owner(struct gc *g, const struct dependent *self, const struct json *o,
                          const char *finalizer)
{
    struct arena a = {0};
    struct client_request q = request_for(g, self);
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
    struct owner *owner = map_get(&g->owners, meta_uid(o));
    bool foreground = meta_has_finalizer(o, "foregroundDeletion"),
         orphan = meta_has_finalizer(o, "orphan");
    struct str part[4];
    struct dependent self = {0};
    size_t blocking = 0;

    if (!foreground && !orphan)
        return;
    for (size_t i = 0; owner && i < owner->dependents.n; i++) {
        struct arena a = {0};
        const struct dependent *d = owner->dependents.p[i];
        const struct json *dep = peek(g, d, &a);

        json_each_item(ref, json_at(dep, "metadata/ownerReferences")) {
            if (!str_eq(json_str_at(ref, "uid"), meta_uid(o)))
                continue;
            if (orphan) {
                blocking++;
                drop_reference(g, d, dep, meta_uid(o));
            } else {
                blocking += json_bool_at(ref, "blockOwnerDeletion", false);
                queue_check(g, str_of(d->key));
            }
        }
        arena_done(&a);
    }
    if (blocking || !key_parts(key, part))
        return;
    self.group = str_is(part[0], "core") ? xstrdup("") : str_dup(part[0]);
    self.plural = str_dup(part[1]);
    self.ns = str_is(part[2], "-") ? NULL : str_dup(part[2]);
    self.name = str_dup(part[3]);
    release_owner(g, &self, o, foreground ? "foregroundDeletion" : "orphan");
    free(self.group);
    free(self.plural);
    free(self.ns);
    free(self.name);
}

static void run(struct loop_defer *defer)
{
    struct gc *g = container_of(defer, struct gc, work);

    while (g->queue.n) {
        char *uid = g->queue.p[--g->queue.n];
        struct owner *o = map_get(&g->owners, str_of(uid));

        for (size_t i = 0; o && i < o->dependents.n; i++)
            vec_push(&g->check, xstrdup(o->dependents.p[i]->key));
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

static void see(struct gc *g, struct str key, const struct json *o)
{
    const struct json *refs = json_at(o, "metadata/ownerReferences");

    forget(g, key);
    if (json_len(refs)) {
        remember(g, key, o, refs);
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
        const struct json *owner = owner_of(g, ref, part[2], &a, &k);

        if (owner && meta_deleting(owner))
            look_at_deleting(g, kind_key(k->info, part[2], meta_name(owner), &a), owner);
        arena_done(&a);
    }
}

static bool gc_changed(void *user, const struct store_event *e)
{
    struct gc *g = user;
    struct str key = store_object_key(e->object);
    struct arena a = {0};
    const struct json *o;

    /* Events own nothing and are owned by nobody. */
    if (str_starts(key, STR("/registry/core/events/")))
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
        see(g, key, o);
    }
    arena_done(&a);
    return true;
}

struct gc *gc_new(struct apiserver *s)
{
    struct gc *g = NEW(struct gc);
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    g->s = s;
    if (store_list(s->store, STR("/registry/"), STR_NONE, 0, 0, NULL, NULL, &list, &err)) {
        for (size_t i = 0; i < list.n; i++) {
            struct arena a = {0};
            struct str key = store_object_key(list.p[i]);

            if (!str_starts(key, STR("/registry/core/events/")))
                see(g, key, store_object_json(list.p[i], &a));
            arena_done(&a);
        }
        g->watch =
            store_watch_start(s->store, STR("/registry/"), list.revision, gc_changed, g, &err);
    }
    if (!g->watch)
        log_error("gc", "%s", error_text(&err));
    return g;
}

void gc_free(struct gc *g)
{
    if (!g)
        return;
    store_watch_stop(g->watch);
    loop_defer_cancel(&g->work);
    for (size_t i = 0; i < g->queue.n; i++)
        free(g->queue.p[i]);
    vec_done(&g->queue);
    for (size_t i = 0; i < g->check.n; i++)
        free(g->check.p[i]);
    vec_done(&g->check);
    map_done_with(&g->objects, dependent_free);
    map_done_with(&g->owners, owner_free);
    free(g);
}
