/* The client interface over HTTP: paths, bodies, and the line stream of a watch. */
#include "client/client.h"

#include "api/status.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "http/client.h"

/* An event is an object and some words around it. */
#define LINE_MAX (2 * LIMIT_OBJECT_BYTES)

struct client_http {
    struct client base;
    struct http_client *http;
    struct list calls, watches;
};

struct client_call {
    struct client_http *client;
    struct list node;
    struct http_call *call;
    client_done_fn done;
    void *user;
};

struct client_watch {
    struct client_http *client;
    struct list node;
    struct http_call *call;
    void (*event)(void *user, enum client_event_type type, const struct json *object);
    void (*ended)(void *user, const struct error *err);
    void *user;
    struct buf input;
    int status;
    bool busy, stopped; /* stopped while busy: freed by whoever is busy */
};

static void add_path(struct buf *b, const char *group, const char *version, const char *plural,
                     struct str ns)
{
    if (group[0])
        buf_addf(b, "/apis/%s/%s", group, version);
    else
        buf_addf(b, "/api/%s", version);
    if (ns.n) {
        buf_adds(b, "/namespaces/");
        buf_add_escaped(b, ns);
    }
    buf_addf(b, "/%s", plural);
}

static const struct {
    enum http_method method;
    const char *content_type;
} verbs[] = {
    [CLIENT_GET] = {HTTP_GET, NULL},
    [CLIENT_LIST] = {HTTP_GET, NULL},
    [CLIENT_CREATE] = {HTTP_POST, "application/json"},
    [CLIENT_UPDATE] = {HTTP_PUT, "application/json"},
    [CLIENT_PATCH_JSON] = {HTTP_PATCH, "application/json-patch+json"},
    [CLIENT_PATCH_MERGE] = {HTTP_PATCH, "application/merge-patch+json"},
    [CLIENT_PATCH_STRATEGIC] = {HTTP_PATCH, "application/strategic-merge-patch+json"},
    [CLIENT_APPLY] = {HTTP_PATCH, "application/apply-patch+yaml"}, /* JSON is YAML */
    [CLIENT_DELETE] = {HTTP_DELETE, "application/json"},
};

static enum error_kind kind_of(int code, struct str reason)
{
    /* One code has several meanings. */
    if (str_is(reason, "AlreadyExists"))
        return ERROR_EXISTS;
    if (str_is(reason, "Expired") || str_is(reason, "Gone"))
        return ERROR_GONE;
    for (int k = ERROR_INVALID; k <= ERROR_INTERNAL; k++)
        if (k != ERROR_EXISTS && status_code((enum error_kind)k) == code)
            return (enum error_kind)k;
    return code >= 500 ? ERROR_INTERNAL : ERROR_BAD_REQUEST;
}

/* The failure that a Status tells; whoever answers without one (a proxy, a plain 500) is quoted. */
static void error_from(struct error *err, int code, const struct json *status, struct str body)
{
    struct str message = json_str_at(status, "message"), reason = json_str_at(status, "reason");

    if (!message.n)
        message = str_take(str_trim(body), 300);
    if (message.n)
        error_set(err, kind_of(code, reason), STR_FMT, STR_ARG(message));
    else
        error_set(err, kind_of(code, reason), "HTTP status %d", code);
}

static void call_done(void *user, int status, struct str body, const struct error *http_err)
{
    struct client_call *call = user;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct client_response r = {.status = status, .err = &err};

    list_remove(&call->node);
    if (http_err->kind != ERROR_NONE)
        error_set(&err, http_err->kind, "%s", error_text(http_err));
    else if (status >= 400) {
        AUTO(error_clear) struct error ignored = {0};

        if (!json_parse_borrowed(body, &a, &r.body, &ignored))
            r.body = NULL;
        error_from(&err, status, r.body, body);
    } else if (!json_parse_borrowed(body, &a, &r.body, &err)) {
        r.body = NULL;
        error_wrap(&err, "answer of the API server");
        err.kind = ERROR_INTERNAL;
    }
    call->done(call->user, &r);
    free(call);
}

static struct client_call *http_call(struct client *base, const struct client_request *r,
                                     client_done_fn done, void *user)
{
    struct client_http *c = container_of(base, struct client_http, base);
    AUTO(buf_done) struct buf path = {0};
    AUTO(buf_done) struct buf body = {0};
    struct client_call *call = NEW(struct client_call);
    const struct http_header headers[] = {{STR_INIT("accept"), STR_INIT("application/json")},
                                          {STR_INIT("impersonate-user"), str_of(r->as)},
                                          {STR_INIT("impersonate-group"), STR_INIT("system:masters")}};

    add_path(&path, r->group, r->version, r->plural, r->ns);
    if (r->name.n) {
        buf_addc(&path, '/');
        buf_add_escaped(&path, r->name);
    }
    if (r->subresource)
        buf_addf(&path, "/%s", r->subresource);
    if (r->query.n)
        buf_addf(&path, "?" STR_FMT, STR_ARG(r->query));
    if (r->body)
        json_write(&body, r->body);
    *call = (struct client_call){.client = c, .done = done, .user = user};
    list_add_tail(&c->calls, &call->node);
    call->call = http_client_call(
        c->http, &(struct http_request){
                     .method = verbs[r->verb].method,
                     .path = buf_str(&path),
                     .headers = headers,
                     .n_headers = r->as ? ARRAY_SIZE(headers) : 1,
                     .body = buf_str(&body),
                     .content_type = r->body ? str_of(verbs[r->verb].content_type) : STR_NONE,
                     .done = call_done,
                     .user = call});
    return call;
}

static void http_cancel(struct client *base, struct client_call *call)
{
    (void)base;
    list_remove(&call->node);
    http_call_cancel(call->call);
    free(call);
}

/* Watches */

static void watch_free(struct client_watch *w)
{
    list_remove(&w->node);
    buf_done(&w->input);
    free(w);
}

static void watch_stop(struct client_watch *w)
{
    if (w->call)
        http_call_cancel(w->call);
    w->call = NULL;
    w->stopped = true;
    if (!w->busy)
        watch_free(w);
}

static void http_stop(struct client *base, struct client_watch *w)
{
    (void)base;
    watch_stop(w);
}

/* Says the end once, unless the caller has stopped; the watch is gone afterwards. */
static void watch_end(struct client_watch *w, const struct error *err)
{
    bool tell = !w->stopped;

    w->busy = true;
    if (w->call)
        http_call_cancel(w->call);
    w->call = NULL;
    w->stopped = true;
    if (tell)
        w->ended(w->user, err);
    watch_free(w);
}

static void watch_head(void *user, int status, const struct http_header *headers, size_t n)
{
    struct client_watch *w = user;

    (void)headers;
    (void)n;
    w->status = status;
}

/* False: the stream has ended with an error. */
static bool watch_line(struct client_watch *w, struct str line, struct error *err)
{
    static const char *const types[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"};
    AUTO(arena_done) struct arena a = {0};
    const struct json *event, *object;
    struct str type;

    if (!str_trim(line).n)
        return true;
    if (!json_parse_borrowed(line, &a, &event, err))
        return error_wrap(err, "watch event");
    type = json_str_at(event, "type");
    object = json_get(event, "object");
    if (str_is(type, "ERROR")) {
        error_from(err, (int)json_i64_at(object, "code", 500), object, STR("the watch has failed"));
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (str_is(type, types[i])) {
            w->event(w->user, (enum client_event_type)i, object);
            return true;
        }
    return error_set(err, ERROR_INTERNAL, "watch event of unknown type '" STR_FMT "'",
                     STR_ARG(str_take(type, 40)));
}

static void watch_data(void *user, struct str data)
{
    struct client_watch *w = user;
    AUTO(error_clear) struct error err = {0};
    size_t from = w->input.n, start = 0;
    bool ok = true;

    buf_add(&w->input, data.p, data.n);
    if (w->status >= 400)
        return; /* a Status; too much of it is cut by the buffer's limit */
    w->busy = true;
    for (size_t i = from; ok && !w->stopped && i < w->input.n; i++)
        if (w->input.p[i] == '\n') {
            ok = watch_line(w, str_n(w->input.p + start, i - start), &err);
            start = i + 1;
        }
    w->busy = false;
    if (w->stopped) {
        watch_free(w);
        return;
    }
    buf_consume(&w->input, start);
    if (ok && (w->input.overflow || w->input.n > LINE_MAX))
        ok = error_set(&err, ERROR_TOO_LARGE, "watch event of more than %u bytes", LINE_MAX);
    if (!ok)
        watch_end(w, &err);
}

static void watch_done(void *user, int status, struct str body, const struct error *http_err)
{
    struct client_watch *w = user;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *answer = NULL;

    w->call = NULL;
    if (http_err->kind != ERROR_NONE)
        error_set(&err, http_err->kind, "%s", error_text(http_err));
    else if (status >= 400) {
        AUTO(error_clear) struct error ignored = {0};

        if (!body.n)
            body = buf_str(&w->input);
        if (!json_parse_borrowed(body, &a, &answer, &ignored))
            answer = NULL;
        error_from(&err, status, answer, body);
    }
    watch_end(w, &err);
}

static void add_selector(struct buf *b, const char *name, struct str value)
{
    if (!value.p)
        return;
    buf_addf(b, "&%s=", name);
    buf_add_escaped(b, value);
}

static struct client_watch *http_watch(struct client *base, const struct client_watch_request *r)
{
    struct client_http *c = container_of(base, struct client_http, base);
    AUTO(buf_done) struct buf path = {0};
    struct client_watch *w = NEW(struct client_watch);
    const struct http_header accept = {STR_INIT("accept"), STR_INIT("application/json")};

    add_path(&path, r->group, r->version, r->plural, r->ns);
    buf_addf(&path, "?watch=true&allowWatchBookmarks=true&resourceVersion=%lld",
             (long long)r->from_revision);
    add_selector(&path, "labelSelector", r->label_selector);
    add_selector(&path, "fieldSelector", r->field_selector);
    *w = (struct client_watch){.client = c, .event = r->event, .ended = r->ended, .user = r->user};
    /* One read may bring more than one line. */
    buf_init(&w->input, LIMIT_BUF_DEFAULT);
    list_add_tail(&c->watches, &w->node);
    w->call = http_client_call(c->http, &(struct http_request){.method = HTTP_GET,
                                                               .path = buf_str(&path),
                                                               .headers = &accept,
                                                               .n_headers = 1,
                                                               .timeout_ns = -1,
                                                               .stream = true,
                                                               .head = watch_head,
                                                               .data = watch_data,
                                                               .done = watch_done,
                                                               .user = w});
    return w;
}

static void http_free(struct client *base)
{
    struct client_http *c = container_of(base, struct client_http, base);

    list_each_safe(it, &c->calls)
        http_cancel(base, list_entry(it, struct client_call, node));
    list_each_safe(it, &c->watches)
        watch_stop(list_entry(it, struct client_watch, node));
    http_client_free(c->http);
    free(c);
}

static const struct client_ops http_ops = {.call = http_call,
                                           .cancel = http_cancel,
                                           .watch = http_watch,
                                           .stop = http_stop,
                                           .free = http_free};

struct client *client_http_new(struct loop *l, struct http_client *take_http)
{
    struct client_http *c = NEW(struct client_http);

    c->base = (struct client){.ops = &http_ops, .loop = l};
    c->http = take_http;
    list_init(&c->calls);
    list_init(&c->watches);
    return &c->base;
}
