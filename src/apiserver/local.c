/* apiserver/local - calls of controllers in our own process: requests without an exchange. */
#include "apiserver/local.h"
#include "api/status.h"
#include "apiserver/local_call.h"
#include "apiserver/watch.h"

struct local_client {
    struct client base;
    struct apiserver *s;
    char *user;
    char **groups; /* owned, NULL-terminated */
    struct list calls, watches;
};

/* An answer waits here until the loop's next turn. */
struct local_call {
    struct local_client *c;
    struct list node;
    struct request *r; /* until it is answered */
    client_done_fn done;
    void *user;
    struct loop_defer defer;
    struct arena arena; /* the request's, with the answer in it */
    int status;
    const struct json *body;
};

struct client_call {
    struct local_call call;
};

struct client_watch {
    struct local_client *c;
    struct list node;
    struct watcher *w;
    struct client_watch_request request;
    struct loop_defer failed;
    struct error err;
};

static void call_free(struct local_call *call)
{
    if (call->r)
        call->r->local = NULL;
    loop_defer_cancel(&call->defer);
    list_remove(&call->node);
    arena_done(&call->arena);
    free(call);
}

/* A Status of ours becomes the error that it says. */
static void error_of(int status, const struct json *body, struct error *err)
{
    static const enum error_kind kinds[] = {
        ERROR_INVALID,   ERROR_BAD_REQUEST, ERROR_UNAUTHORIZED,   ERROR_FORBIDDEN,
        ERROR_NOT_FOUND, ERROR_NOT_ALLOWED, ERROR_NOT_ACCEPTABLE, ERROR_EXISTS,
        ERROR_CONFLICT,  ERROR_GONE,        ERROR_TOO_LARGE,      ERROR_UNSUPPORTED,
        ERROR_TOO_MANY,  ERROR_TIMEOUT,     ERROR_UNAVAILABLE,    ERROR_INTERNAL,
    };
    struct str reason = json_str_at(body, "reason"), message = json_str_at(body, "message");
    enum error_kind kind = status == 404   ? ERROR_NOT_FOUND
                           : status == 409 ? ERROR_CONFLICT
                                           : ERROR_INTERNAL;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (str_is(reason, status_reason(kinds[i])))
            kind = kinds[i];
    error_set(err, kind, STR_FMT, STR_ARG(message));
}

static void call_done(struct loop_defer *d)
{
    struct local_call *call = container_of(d, struct local_call, defer);
    AUTO(error_clear) struct error err = {0};
    struct client_response response = {.status = call->status, .body = call->body, .err = &err};
    struct arena arena = TAKE(call->arena);
    client_done_fn done = call->done;
    void *user = call->user;

    if (call->status >= 400)
        error_of(call->status, call->body, &err);
    call_free(call);
    if (done)
        done(user, &response);
    arena_done(&arena);
}

void local_answer(struct request *r, int status, const struct json *value)
{
    struct local_call *call = r->local;

    r->local = NULL;
    call->r = NULL;
    call->status = status;
    call->body = value;
    call->arena = TAKE(r->arena);
    loop_defer(r->s->loop, &call->defer, call_done);
}

void local_forget(struct request *r)
{
    if (r->local) {
        r->local->r = NULL;
        call_free(r->local);
        r->local = NULL;
    }
}

static struct request *local_request(struct local_client *c, const char *group, const char *version,
                                     const char *plural, struct str ns, struct str name)
{
    struct request *r = request_new(c->s);
    struct arena *a = &r->arena;
    size_t n = 0;
    const char **groups;

    while (c->groups[n])
        n++;
    groups = ARENA_ARRAY(a, const char *, n + 2);
    for (size_t i = 0; i < n; i++)
        groups[i] = arena_strdup(a, str_of(c->groups[i]));
    groups[n] = "system:authenticated";
    r->is_local = true;
    r->who = (struct identity){.user = arena_strdup(a, str_of(c->user)), .groups = groups};
    r->group = arena_strdup(a, str_of(group));
    r->version = arena_strdup(a, str_of(version));
    r->resource = str_of(arena_strdup(a, str_of(plural)));
    r->ns = ns.n ? arena_str(a, ns) : STR_NONE;
    r->name = name.n ? arena_str(a, name) : STR_NONE;
    r->path = str_of(arena_printf(a, "local %s %s " STR_FMT "/" STR_FMT, group, plural, STR_ARG(ns),
                                  STR_ARG(name)));
    r->user_agent = str_of(arena_strdup(a, str_of(c->user)));
    if (str_starts(r->user_agent, STR("system:"))) {
        struct str before, after;

        if (str_rcut(r->user_agent, ':', &before, &after))
            r->user_agent = after;
    }
    r->kind = catalog_find(c->s, str_of(group), str_of(version), str_of(plural));
    if (!r->kind) {
        /* Objects of a definition of which no version is served have to go with it, or with their namespace. */
        struct served *k = catalog_find(c->s, str_of(group), STR_NONE, str_of(plural));

        r->kind = k && !strcmp(kind_some_version(k->info), version) ? k : NULL;
    }
    if (r->kind) {
        served_ref(r->kind);
        if (!kind_namespaced(r->kind->info))
            r->ns = STR_NONE;
    }
    return r;
}

static struct client_call *local_start(struct client *base, const struct client_request *q,
                                       client_done_fn done, void *user)
{
    static const struct {
        enum verb verb;
        const char *content_type;
    } verbs[] = {
        [CLIENT_GET] = {VERB_GET, ""},
        [CLIENT_LIST] = {VERB_LIST, ""},
        [CLIENT_CREATE] = {VERB_CREATE, ""},
        [CLIENT_UPDATE] = {VERB_UPDATE, ""},
        [CLIENT_PATCH_JSON] = {VERB_PATCH, "application/json-patch+json"},
        [CLIENT_PATCH_MERGE] = {VERB_PATCH, "application/merge-patch+json"},
        [CLIENT_PATCH_STRATEGIC] = {VERB_PATCH, "application/strategic-merge-patch+json"},
        [CLIENT_APPLY] = {VERB_PATCH, "application/apply-patch+yaml"},
        [CLIENT_DELETE] = {VERB_DELETE, ""},
    };
    struct local_client *c = container_of(base, struct local_client, base);
    struct client_call *call = NEW(struct client_call);
    struct request *r = local_request(c, q->group, q->version, q->plural, q->ns, q->name);

    call->call = (struct local_call){.c = c, .r = r, .done = done, .user = user};
    list_add_tail(&c->calls, &call->call.node);
    r->local = &call->call;
    r->verb = verbs[q->verb].verb;
    r->content_type = str_of(verbs[q->verb].content_type);
    r->subresource =
        q->subresource ? str_of(arena_strdup(&r->arena, str_of(q->subresource))) : STR_NONE;
    r->body_json = q->body;
    query_parse(q->query.n ? arena_str(&r->arena, q->query) : STR_NONE, &r->arena, &r->query,
                &r->n_query);
    if (!r->kind) {
        answer_unknown_resource(r);
    } else {
        AUTO_FREE char *sub = str_dup(r->subresource);

        if (apiserver_authorized(c->s, &r->who, verb_name(r->verb), r->group, r->kind->info->plural,
                                 sub, r->ns, r->name))
            rest_handle(r);
        else
            answer_status(r, 403, "Forbidden",
                          arena_printf(&r->arena, "User \"%s\" cannot %s resource \"%s\"", c->user,
                                       verb_name(r->verb), r->kind->info->plural),
                          NULL);
    }
    return call;
}

static void local_cancel(struct client *base, struct client_call *call)
{
    (void)base;
    call_free(&call->call);
}

static void watch_free(struct client_watch *w)
{
    loop_defer_cancel(&w->failed);
    list_remove(&w->node);
    error_clear(&w->err);
    free(w);
}

static void watch_event(void *user, enum client_event_type type, const struct json *object)
{
    struct client_watch *w = user;

    w->request.event(w->request.user, type, object);
}

static void watch_ended(void *user, const struct error *err)
{
    struct client_watch *w = user;
    struct client_watch_request q = w->request;

    w->w = NULL;
    watch_free(w);
    if (q.ended)
        q.ended(q.user, err);
}

static void watch_failed(struct loop_defer *d)
{
    struct client_watch *w = container_of(d, struct client_watch, failed);
    struct error err = TAKE(w->err);

    watch_ended(w, &err);
    error_clear(&err);
}

static struct client_watch *local_watch(struct client *base, const struct client_watch_request *q)
{
    struct local_client *c = container_of(base, struct local_client, base);
    struct client_watch *w = NEW(struct client_watch);
    struct request *r = local_request(c, q->group, q->version, q->plural, q->ns, STR_NONE);
    struct watch_sink sink = {.event = watch_event, .ended = watch_ended, .user = w};

    w->c = c;
    w->request = *q;
    list_add_tail(&c->watches, &w->node);
    r->verb = VERB_WATCH;
    r->query = ARENA_ARRAY(&r->arena, struct query_pair, 2);
    if (q->label_selector.n)
        r->query[r->n_query++] =
            (struct query_pair){STR("labelSelector"), arena_str(&r->arena, q->label_selector)};
    if (q->field_selector.n)
        r->query[r->n_query++] =
            (struct query_pair){STR("fieldSelector"), arena_str(&r->arena, q->field_selector)};
    if (!r->kind) {
        error_set(&w->err, ERROR_NOT_FOUND, "%s.%s is not served", q->plural, q->group);
        request_free(r);
    } else {
        w->w = watch_local(r, q->from_revision, &sink);
        if (!w->w)
            error_set(&w->err, ERROR_BAD_REQUEST, "malformed selector");
    }
    if (!w->w)
        loop_defer(c->s->loop, &w->failed, watch_failed);
    return w;
}

static void local_stop(struct client *base, struct client_watch *w)
{
    (void)base;
    watch_local_stop(w->w);
    watch_free(w);
}

static void local_free(struct client *base)
{
    struct local_client *c = container_of(base, struct local_client, base);

    list_each_safe(n, &c->calls)
        call_free(list_entry(n, struct local_call, node));
    list_each_safe(n, &c->watches) {
        struct client_watch *w = list_entry(n, struct client_watch, node);

        watch_local_stop(w->w);
        watch_free(w);
    }
    for (size_t i = 0; c->groups[i]; i++)
        free(c->groups[i]);
    free(c->groups);
    free(c->user);
    free(c);
}

/* What the store holds anyway. */
static const struct json *kept_json(const void *p, struct arena *a)
{
    return store_object_json(p, a);
}

static void kept_free(void *p)
{
    store_object_unref(p);
}

static const struct client_kept_ops kept_ops = {.json = kept_json, .free = kept_free};

static bool local_keep(struct client *base, const char *group, const char *version, const char *plural,
                       const struct json *object, struct client_kept *ret)
{
    struct local_client *c = container_of(base, struct local_client, base);
    struct served *k = catalog_find(c->s, str_of(group), str_of(version), str_of(plural));
    struct str revision = json_str_at(object, "metadata/resourceVersion");
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct store_object *o;
    int64_t r;

    /* Only what is delivered as it is stored, and has not changed again meanwhile. */
    if (!k || strcmp(version, k->info->storage_version ? k->info->storage_version : k->info->version) != 0
        || kind_is(k->info, "events.k8s.io", "events") || !parse_i64(revision, 1, INT64_MAX, &r, &err))
        return false;
    o = store_get(c->s->store, kind_key(k->info, json_str_at(object, "metadata/namespace"),
                                        json_str_at(object, "metadata/name"), &a));
    if (!o || store_object_revision(o) != r) {
        store_object_unref(o);
        return false;
    }
    *ret = (struct client_kept){&kept_ops, o};
    return true;
}

static const struct client_ops local_ops = {
    .call = local_start,
    .cancel = local_cancel,
    .watch = local_watch,
    .stop = local_stop,
    .free = local_free,
    .keep = local_keep,
};

struct client *apiserver_client(struct apiserver *s, const char *user, const char *const *groups)
{
    struct local_client *c = NEW(struct local_client);
    size_t n = 0;

    while (groups && groups[n])
        n++;
    c->groups = xcalloc(n + 1, sizeof *c->groups);
    for (size_t i = 0; i < n; i++)
        c->groups[i] = xstrdup(groups[i]);
    c->user = xstrdup(user);
    c->s = s;
    c->base = (struct client){.ops = &local_ops, .loop = s->loop};
    list_init(&c->calls);
    list_init(&c->watches);
    return &c->base;
}
