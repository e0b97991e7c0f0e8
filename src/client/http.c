/* The client interface over HTTP: paths, bodies, and the line stream of a watch.
 *
 * A server that answers 429, or 503 with Retry-After, has not done what it was asked, and says when to ask again: requests wait for that
 * long here, all of them, and the refused one is repeated. Nothing else is: an answer that was lost may have been a success, and only who
 * planned the write can tell.
 *
 * A watch is asked for with an end (timeoutSeconds), so that a stream that has gone deaf somewhere on the way is made anew. */
#include "client/client.h"

#include "api/status.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/list.h"
#include "base/log.h"
#include "http/client.h"

/* An event is an object and some words around it. */
#define LINE_MAX (2 * LIMIT_OBJECT_BYTES)

#define REPEATS 6
#define PATIENCE_MAX SECONDS(30) /* whatever a server asks for */
#define WATCH_SECONDS 300        /* up to twice that, so that many watches do not end together */
#define WATCH_SLACK SECONDS(30)  /* that the server gets to end it itself */

struct client_http {
    struct client base;
    struct http_client *http;
    struct list calls, watches;
    int64_t quiet_until_ns; /* the server asked for patience */
};

struct client_call {
    struct client_http *client;
    struct list node;
    struct http_call *call;
    struct loop_timer wait; /* for its turn, when the server asked for patience */
    enum client_verb verb;
    struct buf path, body;
    char *as;
    int64_t timeout_ns, not_after_ns, retry_after_ns;
    unsigned repeats;
    bool urgent;
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
    struct buf path, input;
    struct loop_timer wait;
    int64_t retry_after_ns;
    int64_t seconds;
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

/* --- a server that asks for patience --- */

static int64_t retry_after(const struct http_header *headers, size_t n)
{
    AUTO(error_clear) struct error err = {0};
    uint64_t seconds = 0;

    for (size_t i = 0; i < n; i++)
        if (str_eq_nocase(headers[i].name, STR("retry-after")) && parse_u64(str_trim(headers[i].value), 86400, &seconds, &err))
            return seconds == 0 ? MILLIS(100) : SECONDS(seconds) < PATIENCE_MAX ? SECONDS(seconds) : PATIENCE_MAX;
    return 0; /* absent, or a date: not by API servers */
}

/* Those who wait come back spread over as much time again, at most a second. */
static int64_t spread(int64_t ns)
{
    uint32_t chance;

    file_random(&chance, sizeof chance);
    return ns + (int64_t)((double)chance / UINT32_MAX * (double)(ns < SECONDS(1) ? ns : SECONDS(1)));
}

static void be_quiet(struct client_http *c, int64_t ns)
{
    int64_t until = loop_now_ns(c->base.loop) + ns;

    if (until > c->quiet_until_ns)
        c->quiet_until_ns = until;
}

static int64_t quiet_left(const struct client_http *c)
{
    int64_t left = c->quiet_until_ns - loop_now_ns(c->base.loop);

    return left > 0 ? left : 0;
}

/* --- calls --- */

static void call_send(struct client_call *call);

static void call_free(struct client_call *call)
{
    list_remove(&call->node);
    loop_timer_stop(&call->wait);
    buf_done(&call->path);
    buf_done(&call->body);
    free(call->as);
    free(call);
}

static void on_wait(struct loop_timer *t)
{
    call_send(container_of(t, struct client_call, wait));
}

/* True: it goes out again, later. */
static bool call_repeats(struct client_call *call, int status)
{
    struct client_http *c = call->client;
    int64_t wait;

    if (call->urgent || call->retry_after_ns == 0 || (status != 429 && status != 503))
        return false;
    be_quiet(c, call->retry_after_ns);
    wait = spread(call->retry_after_ns);
    if (++call->repeats > REPEATS || (call->not_after_ns && loop_now_ns(c->base.loop) + wait >= call->not_after_ns))
        return false;
    log_debug(NULL, "the API server answers %d and asks for patience: " STR_FMT, status, STR_ARG(buf_str(&call->path)));
    loop_timer_start(c->base.loop, &call->wait, wait, on_wait);
    return true;
}

static void call_done(void *user, int status, struct str body, const struct error *http_err)
{
    struct client_call *call = user;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct client_response r = {.status = status, .err = &err};

    call->call = NULL;
    if (http_err->kind == ERROR_NONE && call_repeats(call, status))
        return;
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
    call_free(call);
}

static void call_head(void *user, int status, const struct http_header *headers, size_t n)
{
    struct client_call *call = user;

    (void)status;
    call->retry_after_ns = retry_after(headers, n);
}

static void call_send(struct client_call *call)
{
    const struct http_header headers[] = {{STR_INIT("accept"), STR_INIT("application/json")},
                                          {STR_INIT("impersonate-user"), str_of(call->as)},
                                          {STR_INIT("impersonate-group"), STR_INIT("system:masters")}};

    call->retry_after_ns = 0;
    call->call = http_client_call(call->client->http,
                                  &(struct http_request){.method = verbs[call->verb].method,
                                                         .path = buf_str(&call->path),
                                                         .headers = headers,
                                                         .n_headers = call->as ? ARRAY_SIZE(headers) : 1,
                                                         .body = buf_str(&call->body),
                                                         .content_type = call->body.n ? str_of(verbs[call->verb].content_type) : STR_NONE,
                                                         .timeout_ns = call->timeout_ns,
                                                         .not_after_ns = call->not_after_ns,
                                                         .head = call_head,
                                                         .done = call_done,
                                                         .user = call});
}

static struct client_call *http_call(struct client *base, const struct client_request *r,
                                     client_done_fn done, void *user)
{
    struct client_http *c = container_of(base, struct client_http, base);
    struct client_call *call = NEW(struct client_call);

    *call = (struct client_call){.client = c,
                                 .verb = r->verb,
                                 .as = r->as ? xstrdup(r->as) : NULL,
                                 .timeout_ns = r->timeout_ns,
                                 .not_after_ns = r->not_after_ns,
                                 .urgent = r->urgent,
                                 .done = done,
                                 .user = user};
    add_path(&call->path, r->group, r->version, r->plural, r->ns);
    if (r->name.n) {
        buf_addc(&call->path, '/');
        buf_add_escaped(&call->path, r->name);
    }
    if (r->subresource)
        buf_addf(&call->path, "/%s", r->subresource);
    if (r->query.n)
        buf_addf(&call->path, "?" STR_FMT, STR_ARG(r->query));
    if (r->body)
        json_write(&call->body, r->body);
    list_add_tail(&c->calls, &call->node);
    if (quiet_left(c) > 0 && !call->urgent)
        loop_timer_start(base->loop, &call->wait, spread(quiet_left(c)), on_wait);
    else
        call_send(call);
    return call;
}

static void http_cancel(struct client *base, struct client_call *call)
{
    (void)base;
    http_call_cancel(call->call);
    call_free(call);
}

/* Watches */

static void watch_free(struct client_watch *w)
{
    list_remove(&w->node);
    loop_timer_stop(&w->wait);
    buf_done(&w->path);
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

    w->status = status;
    w->retry_after_ns = retry_after(headers, n);
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
    if (w->retry_after_ns && (status == 429 || status == 503))
        be_quiet(w->client, w->retry_after_ns);
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

static void watch_send(struct client_watch *w)
{
    const struct http_header accept = {STR_INIT("accept"), STR_INIT("application/json")};

    w->call = http_client_call(w->client->http, &(struct http_request){.method = HTTP_GET,
                                                                       .path = buf_str(&w->path),
                                                                       .headers = &accept,
                                                                       .n_headers = 1,
                                                                       .timeout_ns = SECONDS(w->seconds) + WATCH_SLACK,
                                                                       .stream = true,
                                                                       .head = watch_head,
                                                                       .data = watch_data,
                                                                       .done = watch_done,
                                                                       .user = w});
}

static void on_watch_wait(struct loop_timer *t)
{
    watch_send(container_of(t, struct client_watch, wait));
}

static struct client_watch *http_watch(struct client *base, const struct client_watch_request *r)
{
    struct client_http *c = container_of(base, struct client_http, base);
    struct client_watch *w = NEW(struct client_watch);
    uint32_t chance;

    file_random(&chance, sizeof chance);
    *w = (struct client_watch){.client = c, .event = r->event, .ended = r->ended, .user = r->user};
    w->seconds = WATCH_SECONDS + chance % WATCH_SECONDS;
    add_path(&w->path, r->group, r->version, r->plural, r->ns);
    buf_addf(&w->path, "?watch=true&allowWatchBookmarks=true&resourceVersion=%lld&timeoutSeconds=%lld",
             (long long)r->from_revision, (long long)w->seconds);
    add_selector(&w->path, "labelSelector", r->label_selector);
    add_selector(&w->path, "fieldSelector", r->field_selector);
    /* One read may bring more than one line. */
    buf_init(&w->input, LIMIT_BUF_DEFAULT);
    list_add_tail(&c->watches, &w->node);
    if (quiet_left(c) > 0)
        loop_timer_start(base->loop, &w->wait, spread(quiet_left(c)), on_watch_wait);
    else
        watch_send(w);
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
