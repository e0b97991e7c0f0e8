/* apiserver/namespaces - their lifecycle: what each one is born with, and how it empties itself before it goes. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/log.h"

#define LOOK_AGAIN MILLIS(100)
#define LOOK_SLOWLY SECONDS(1)
#define CLEAR_AT_ONCE 500 /* of a kind, in one look */

struct nsctl {
    struct apiserver *s;
    struct store_watch *watch;
    struct map dying; /* name → owned count of looks */
    struct loop_timer timer;
    size_t looks;
};

static void ignore(void *user, const struct client_response *r)
{
    const char *what = user;

    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND
        && r->err->kind != ERROR_CONFLICT && r->err->kind != ERROR_EXISTS
        && r->err->kind != ERROR_FORBIDDEN)
        log_warning(what, "%s", error_text(r->err));
}

static bool exists(struct nsctl *n, const char *plural, struct str ns, const char *name)
{
    struct arena a = {0};
    bool yes = apiserver_peek(n->s, "", plural, ns, str_of(name), &a) != NULL;

    arena_done(&a);
    return yes;
}

static void create(struct nsctl *n, const char *plural, struct str ns, const struct json *body)
{
    struct client_request q = {.verb = CLIENT_CREATE,
                               .group = "",
                               .version = "v1",
                               .plural = plural,
                               .ns = ns,
                               .body = body};

    client_call(n->s->self, &q, ignore, (void *)(uintptr_t) "namespace");
}

/* The service account "default", and the authority that pods trust. */
static void furnish(struct nsctl *n, struct str ns)
{
    struct arena a = {0};

    if (!exists(n, "serviceaccounts", ns, "default"))
        create(n, "serviceaccounts", ns,
               json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind",
                           json_new_z(&a, "ServiceAccount"), "metadata",
                           json_object(&a, "name", json_new_z(&a, "default"), NULL), NULL));
    if (n->s->config.ca_cert_pem && !exists(n, "configmaps", ns, "kube-root-ca.crt"))
        create(
            n, "configmaps", ns,
            json_object(
                &a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "ConfigMap"),
                "metadata",
                json_object(&a, "name", json_new_z(&a, "kube-root-ca.crt"), "annotations",
                            json_object(&a, "kubernetes.io/description",
                                        json_new_z(&a, "Certificate authority of this API server."),
                                        NULL),
                            NULL),
                "data", json_object(&a, "ca.crt", json_new_z(&a, n->s->config.ca_cert_pem), NULL),
                NULL));
    arena_done(&a);
}

/* What is still there, as the namespace's conditions tell it. */
struct remains {
    struct buf kinds; /* "configmaps. has 1 resource instances" */
    struct map finalizers; /* name → its count, of what was looked at */
    size_t n;
};

static void remains_done(struct remains *r)
{
    buf_done(&r->kinds);
    map_done(&r->finalizers);
}

static void remember_finalizers(struct remains *left, const struct store_object *object)
{
    AUTO(arena_done) struct arena a = {0};

    if (!store_object_mentions(object, STR("\"finalizers\":")))
        return;
    json_each_item(f, json_at(store_object_json(object, &a), "metadata/finalizers")) {
        uintptr_t had = (uintptr_t)map_get(&left->finalizers, json_str(f));

        map_set(&left->finalizers, json_str(f), (void *)(had + 1));
    }
}

/* Asks objects of one kind to go, some at each look, and notes what is there. */
static void clear_kind(struct nsctl *n, const struct kind_info *k, struct str ns,
                       struct remains *remains)
{
    struct arena a = {0};
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    if (store_list(n->s->store, kind_prefix(k, ns, &a), STR_NONE, 0, 0, NULL, NULL, &list, &err)) {
        remains->n += list.n;
        if (list.n)
            buf_addf(&remains->kinds, "%s%s.%s has %zu resource instances",
                     remains->kinds.n ? ", " : "", k->plural, k->group, list.n);
        for (size_t i = 0; i < list.n && i < CLEAR_AT_ONCE; i++) {
            /* From another place each time: those in front may wait for somebody's finalizer. */
            const struct store_object *o = list.p[(i + n->looks * CLEAR_AT_ONCE) % list.n];
            struct str before, name;
            struct client_request q = {
                .verb = CLIENT_DELETE,
                .group = k->group,
                .version = kind_some_version(k),
                .plural = k->plural,
                .ns = ns,
            };

            remember_finalizers(remains, o);
            if (!str_rcut(store_object_key(o), '/', &before, &name)
                || store_object_mentions(o, STR("\"deletionTimestamp\":")))
                continue;
            q.name = name;
            client_call(n->s->self, &q, ignore, (void *)(uintptr_t) "namespace");
        }
    }
    arena_done(&a);
}

static const struct json *told(struct arena *a, const struct json *o, const char *type, bool status,
                               const char *reason, const char *message, const char *now)
{
    const struct condition c = {.type = type,
                                .status = status ? "True" : "False",
                                .reason = reason,
                                .message = message};

    return condition_set(a, o, &c, now);
}

/* Why a namespace is still there, in upstream's conditions. */
static void tell(struct nsctl *n, struct str ns, const struct remains *left)
{
    struct arena a = {0};
    AUTO(buf_done) struct buf holders = {0};
    const struct json *was = apiserver_peek(n->s, "", "namespaces", STR_NONE, ns, &a), *o = was;
    const char *now = now_text(n->s, false, &a);
    struct str key;
    void *count;
    size_t at = 0;
    struct client_request q = {.verb = CLIENT_PATCH_MERGE,
                               .group = "",
                               .version = "v1",
                               .plural = "namespaces",
                               .name = ns,
                               .subresource = "status"};

    while (map_next(&left->finalizers, &at, &key, &count))
        buf_addf(&holders, "%s" STR_FMT " in %zu resource instances", holders.n ? ", " : "",
                 STR_ARG(key), (size_t)(uintptr_t)count);
    o = told(&a, o, "NamespaceDeletionDiscoveryFailure", false, "ResourcesDiscovered",
             "All resources successfully discovered", now);
    o = told(&a, o, "NamespaceDeletionGroupVersionParsingFailure", false, "ParsedGroupVersions",
             "All legacy kube types successfully parsed", now);
    o = told(&a, o, "NamespaceDeletionContentFailure", false, "ContentDeleted",
             "All content successfully deleted, may be waiting on finalization", now);
    o = told(&a, o, "NamespaceContentRemaining", left->n > 0,
             left->n ? "SomeResourcesRemain" : "ContentRemoved",
             left->n ? arena_printf(&a, "Some resources are remaining: %s", left->kinds.p)
                     : "All content successfully removed",
             now);
    o = told(&a, o, "NamespaceFinalizersRemaining", holders.n > 0,
             holders.n ? "SomeFinalizersRemain" : "ContentHasNoFinalizers",
             holders.n ? arena_printf(&a,
                                      "Some content in the namespace has finalizers remaining: %s",
                                      holders.p)
                       : "All content-preserving finalizers finished",
             now);
    q.body = json_object(
        &a, "status", json_object(&a, "conditions", json_at(o, "status/conditions"), NULL), NULL);
    if (was && !json_eq(was, o))
        client_call(n->s->self, &q, ignore, (void *)(uintptr_t) "namespace");
    arena_done(&a);
}

static void finalize(struct nsctl *n, struct str ns)
{
    struct arena a = {0};
    struct client_request q = {
        .verb = CLIENT_PATCH_MERGE,
        .group = "",
        .version = "v1",
        .plural = "namespaces",
        .name = ns,
        .subresource = "finalize",
        .body = json_object(&a, "spec", json_object(&a, "finalizers", json_null(), NULL), NULL),
    };

    client_call(n->s->self, &q, ignore, (void *)(uintptr_t) "namespace");
    arena_done(&a);
}

static void look(struct nsctl *n, struct str ns, bool again)
{
    AUTO(remains_done) struct remains left = {0};

    for (size_t i = 0; i < n->s->kinds.n; i++) {
        const struct kind_info *k = n->s->kinds.p[i]->info;

        /* Both groups of Event are one set. */
        if (kind_namespaced(k) && !(k->flags & KIND_NO_STORE)
            && !kind_is(k, "events.k8s.io", "events"))
            clear_kind(n, k, ns, &left);
    }
    if (left.n == 0)
        finalize(n, ns);
    else if (again) /* what goes by itself within a turn is no news */
        tell(n, ns, &left);
}

static void due(struct loop_timer *t)
{
    struct nsctl *n = container_of(t, struct nsctl, timer);
    int64_t next = LOOK_SLOWLY;
    struct str name;
    void *count;
    size_t at = 0;

    n->looks++;
    while (map_next(&n->dying, &at, &name, &count)) {
        unsigned *looks = count;

        if ((*looks)++ < 50)
            next = LOOK_AGAIN;
        look(n, name, *looks > 2);
    }
    if (n->dying.n)
        loop_timer_start(n->s->loop, &n->timer, next, due);
}

static void see(struct nsctl *n, const struct json *o)
{
    struct str name = meta_name(o);

    if (!meta_deleting(o)) {
        furnish(n, name);
        return;
    }
    if (map_get(&n->dying, name))
        return;
    map_set(&n->dying, name, NEW(unsigned));
    loop_timer_start(n->s->loop, &n->timer, 0, due);
}

static bool ns_changed(void *user, const struct store_event *e)
{
    struct nsctl *n = user;
    struct arena a = {0};
    const struct json *o = store_object_json(e->object, &a);

    if (e->type == STORE_DELETED)
        free(map_del(&n->dying, meta_name(o)));
    else
        see(n, o);
    arena_done(&a);
    return true;
}

struct nsctl *nsctl_new(struct apiserver *s)
{
    struct nsctl *n = NEW(struct nsctl);
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    struct str prefix = STR("/registry/core/namespaces/");

    n->s = s;
    if (store_list(s->store, prefix, STR_NONE, 0, 0, NULL, NULL, &list, &err)) {
        for (size_t i = 0; i < list.n; i++) {
            struct arena a = {0};

            see(n, store_object_json(list.p[i], &a));
            arena_done(&a);
        }
        n->watch = store_watch_start(s->store, prefix, list.revision, ns_changed, n, &err);
    }
    if (!n->watch)
        log_error("namespaces", "%s", error_text(&err));
    return n;
}

void nsctl_free(struct nsctl *n)
{
    if (!n)
        return;
    store_watch_stop(n->watch);
    loop_timer_stop(&n->timer);
    map_done_with(&n->dying, free);
    free(n);
}
