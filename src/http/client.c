#include "http/client.h"
#include "http/client_conn.h"
#include "http/resolve.h"
#include "http/tls_session.h"
#include "base/alloc.h"
#include "base/limits.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_CONNECT_TIMEOUT SECONDS(10)
#define DEFAULT_CALL_TIMEOUT SECONDS(60)
#define MAX_CONNS 1024
#define CALLS_PER_CONN 100 /* connections opened at once, when many calls wait for HTTP/2 ones */
#define MAX_TRIES 3

static void connect_next(struct client_conn *cc);

/* Calls */

static void call_unref(struct http_call *call)
{
    if (--call->refs > 0)
        return;
    buf_done(&call->in);
    arena_done(&call->arena);
    free(call);
}

static void call_end(struct http_call *call)
{
    call->over = true;
    list_remove(&call->node);
    loop_timer_stop(&call->timer);
    if (call->on && call->on->reserved == call)
        call->on->reserved = NULL;
    call->on = NULL;
}

/* After the callback, `call` may be gone. */
static void call_done(struct http_call *call, const struct error *err)
{
    assert(!call->over);
    call_end(call);
    if (call->done)
        call->done(call->user, call->status,
                   err->kind == ERROR_NONE ? buf_str(&call->in) : STR_NONE, err);
    call_unref(call);
}

void call_succeed(struct http_call *call)
{
    struct error none = {0};
    call_done(call, &none);
}

void call_release(struct http_call *call)
{
    call_end(call);
    call_unref(call);
}

void call_fail(struct http_call *call, const struct error *err)
{
    call_done(call, err);
}

/* Takes a running call off its connection. */
static void call_detach(struct http_call *call)
{
    struct client_conn *cc = call->on;

    list_remove(&call->node);
    if (!cc)
        return;
    call->on = NULL;
    if (cc->reserved == call) {
        cc->reserved = NULL;
        cc->retired = true;
    }
    if (cc->proto)
        cc->proto->cancel(cc, call);
    else if (cc->conn)
        conn_close(cc->conn);
    client_pump(cc->client);
}

void http_call_cancel(struct http_call *call)
{
    if (!call || call->over)
        return;
    call_detach(call);
    call_end(call);
    call_unref(call);
}

/* A server that said nothing at all since the call was sent may be gone without a word: the next calls try another connection, and
 * this one goes on for those that it has until its own ping tells. */
static void doubt(const struct http_call *call)
{
    struct client_conn *cc = call->on;

    if (cc && cc->proto && cc->proto->heard && cc->proto->heard(cc) <= call->started_ns)
        cc->retired = true;
}

static void call_timeout(struct loop_timer *t)
{
    struct http_call *call = container_of(t, struct http_call, timer);
    AUTO(error_clear) struct error err = {0};

    error_set(&err, ERROR_TIMEOUT, "%s " STR_FMT ": no answer in time",
              http_method_name(call->method), STR_ARG(call->path));
    doubt(call);
    call_detach(call);
    call_fail(call, &err);
}

bool call_head(struct http_call *call, int status, const struct http_header *headers, size_t n)
{
    call->got_head = true;
    call->status = status;
    call->refs++;
    if (call->head)
        call->head(call->user, status, headers, n);
    bool alive = !call->over;
    call_unref(call);
    return alive;
}

bool call_trailers(struct http_call *call, const struct http_header *headers, size_t n)
{
    call->refs++;
    if (call->trailers)
        call->trailers(call->user, headers, n);
    bool alive = !call->over;
    call_unref(call);
    return alive;
}

bool call_data(struct http_call *call, struct str data)
{
    if (call->stream) {
        call->refs++;
        if (call->data && data.n > 0)
            call->data(call->user, data);
        bool alive = !call->over;
        call_unref(call);
        return alive;
    }
    AUTO(error_clear) struct error err = {0};
    buf_addstr(&call->in, data);
    if (buf_ok(&call->in, "response", &err))
        return true;
    call_detach(call);
    call_fail(call, &err);
    return false;
}

void call_retry(struct http_call *call, bool refused, const struct error *err)
{
    bool harmless =
        call->method == HTTP_GET || call->method == HTTP_HEAD || call->method == HTTP_OPTIONS;
    bool stale = call->on && call->on->used && harmless;

    if (call->got_head || call->body_begun || ++call->tries >= MAX_TRIES || call->client->dead
        || !(refused || stale)) {
        call_fail(call, err);
        return;
    }
    list_remove(&call->node);
    if (call->on && call->on->reserved == call)
        call->on->reserved = NULL;
    call->on = NULL;
    call->body_at = 0;
    call->body_ended = false;
    list_add_head(&call->client->pending, &call->node);
    client_pump(call->client);
}

bool call_has_body(const struct http_call *call)
{
    return call->read_body || call->body.n > 0;
}

ssize_t call_body(struct http_call *call, char *p, size_t n)
{
    ssize_t got;

    if (call->body_ended)
        return -1;
    if (call->read_body) {
        size_t left = call->body_length >= 0 ? (size_t)call->body_length - call->body_at : n;
        if (left == 0) {
            call->body_ended = true;
            return -1;
        }
        call->body_begun = true;
        call->refs++;
        got = call->read_body(call->user, p, n < left ? n : left);
        bool alive = !call->over;
        if (got < 0)
            call->body_ended = true;
        else
            call->body_at += (size_t)got;
        call_unref(call);
        return alive ? got : -2;
    }
    struct str piece = str_take(str_skip(call->body, call->body_at), n);
    if (piece.n > 0)
        memcpy(p, piece.p, piece.n);
    call->body_at += piece.n;
    call->body_ended = call->body_at == call->body.n;
    return piece.n > 0 ? (ssize_t)piece.n : -1;
}

void http_call_resume(struct http_call *call)
{
    struct client_conn *cc = call->on;

    if (!call->over && cc && cc->proto)
        cc->proto->resume(cc, call);
}

static struct str lower(struct arena *a, struct str s)
{
    struct str copy = arena_str(a, s);

    for (size_t i = 0; i < copy.n; i++)
        if (copy.p[i] >= 'A' && copy.p[i] <= 'Z')
            ((char *)(uintptr_t)copy.p)[i] |= 0x20;
    return copy;
}

static void add_header(struct http_call *call, struct str name, struct str value)
{
    struct str v = arena_str(&call->arena, str_trim(value));

    for (size_t i = 0; i < v.n; i++)
        if ((unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f)
            ((char *)(uintptr_t)v.p)[i] = ' ';
    call->headers[call->n_headers++] = (struct http_header){lower(&call->arena, name), v};
}

struct http_call *http_client_call(struct http_client *c, const struct http_request *r)
{
    if (c->dead)
        return NULL;
    struct http_call *call = NEW(struct http_call);
    int64_t timeout = r->timeout_ns == 0 ? DEFAULT_CALL_TIMEOUT : r->timeout_ns;

    call->client = c;
    call->refs = 1;
    call->arena.first = 1024;
    call->method = r->method;
    call->path = c->config.path_prefix
                     ? str_of(arena_printf(&call->arena, "%s" STR_FMT, c->config.path_prefix, STR_ARG(r->path)))
                     : arena_str(&call->arena, r->path);
    call->headers = ARENA_ARRAY(&call->arena, struct http_header, r->n_headers + 4);
    for (size_t i = 0; i < r->n_headers; i++)
        add_header(call, r->headers[i].name, r->headers[i].value);
    if (c->config.user_agent)
        add_header(call, STR("user-agent"), str_of(c->config.user_agent));
    if (c->config.bearer_token)
        add_header(call, STR("authorization"),
                   str_of(arena_printf(&call->arena, "Bearer %s", c->config.bearer_token)));
    if (r->content_type.n > 0)
        add_header(call, STR("content-type"), r->content_type);
    call->body = r->body.p ? arena_str(&call->arena, r->body) : STR_NONE;
    call->read_body = r->read_body;
    call->body_length = r->read_body ? r->body_length : (int64_t)r->body.n;
    call->not_after_ns = r->not_after_ns;
    call->stream = r->stream;
    call->head = r->head;
    call->trailers = r->trailers;
    call->data = r->data;
    call->done = r->done;
    call->user = r->user;
    buf_init(&call->in, r->body_limit ? r->body_limit : LIMIT_BUF_DEFAULT);
    list_add_tail(&c->pending, &call->node);
    if (timeout > 0)
        loop_timer_start(c->config.loop, &call->timer, timeout, call_timeout);
    client_pump(c);
    return call;
}

/* Connections */

static void client_unref(struct http_client *c)
{
    if (--c->refs > 0)
        return;
    loop_defer_cancel(&c->pump);
    http_tls_free(c->tls);
    free(c->authority);
    free((char *)(uintptr_t)c->config.host);
    free((char *)(uintptr_t)c->config.unix_path);
    free((char *)(uintptr_t)c->config.bearer_token);
    free((char *)(uintptr_t)c->config.path_prefix);
    free((char *)(uintptr_t)c->config.user_agent);
    free(c);
}

void client_conn_gone(struct client_conn *cc)
{
    struct http_client *c = cc->client;

    assert(list_empty(&cc->calls));
    loop_timer_stop(&cc->timer);
    list_remove(&cc->node);
    resolve_free(cc->resolve);
    free(cc);
    client_pump(c);
    client_unref(c);
}

static const char *target(const struct http_client *c)
{
    return c->config.unix_path ? c->config.unix_path : c->authority;
}

/* No connection could be made. With none alive all that wait have nothing to wait for. */
static void connect_failed(struct client_conn *cc, const struct error *why)
{
    struct http_client *c = cc->client;
    AUTO(error_clear) struct error err = {0};
    bool others = false;

    error_set(&err, ERROR_UNAVAILABLE, "%s: %s", target(c), error_text(why));
    if (cc->reserved) {
        struct http_call *call = TAKE(cc->reserved);
        list_remove(&call->node);
        call->on = NULL;
        client_conn_gone(cc);
        call_fail(call, &err);
        return;
    }
    c->refs++;
    list_each(n, &c->conns) {
        const struct client_conn *other = list_entry(n, struct client_conn, node);
        others = others || (other != cc && other->proto && !other->retired && !other->reserved);
    }
    client_conn_gone(cc);
    struct list failed;
    list_init(&failed);
    while (!list_empty(&c->pending)) {
        struct list *n = c->pending.next;
        list_remove(n);
        list_add_tail(&failed, n);
        if (others)
            break;
    }
    while (!list_empty(&failed)) /* a callback may start new calls, or cancel these */
        call_fail(list_entry(failed.next, struct http_call, node), &err);
    client_unref(c);
}

static void opening_opened(struct conn *conn)
{
    struct client_conn *cc = conn->user;
    struct http_client *c = cc->client;
    bool plain_h2 = !conn->ssl && c->config.unix_path && !cc->h1_only && c->mode != CLIENT_H1;

    loop_timer_stop(&cc->timer);
    resolve_free(cc->resolve);
    cc->resolve = NULL;
    if (str_is(conn_alpn(conn), "h2") || plain_h2) {
        if (!plain_h2)
            c->mode = CLIENT_H2;
        client_h2_start(cc);
    } else {
        if (!cc->h1_only || c->config.http1_only)
            c->mode = CLIENT_H1;
        client_h1_start(cc);
    }
    if (cc->reserved)
        cc->proto->start(cc, cc->reserved);
    client_pump(c);
}

static void opening_received(struct conn *conn, struct str data)
{
    (void)conn;
    (void)data;
}
static void opening_fill(struct conn *conn)
{
    (void)conn;
}
static void opening_eof(struct conn *conn)
{
    conn_fail(conn, ERROR_UNAVAILABLE, "closed by the peer");
}

static void opening_gone(struct conn *conn, const struct error *err)
{
    struct client_conn *cc = conn->user;

    cc->conn = NULL;
    if (cc->client->dead || cc->retired)
        client_conn_gone(cc);
    else if (cc->resolve && ++cc->address_at < resolve_count(cc->resolve))
        connect_next(cc);
    else
        connect_failed(cc, err);
}

static const struct conn_ops opening_ops = {opening_opened, opening_received, opening_eof,
                                            opening_fill, opening_gone};

void client_abandon(struct client_conn *cc)
{
    cc->retired = true;
    conn_set_ops(cc->conn, &opening_ops, cc);
    conn_close(cc->conn);
}

static bool start_connect(struct client_conn *cc, const struct sockaddr *sa, socklen_t n,
                          struct error *err)
{
    struct http_client *c = cc->client;
    int one = 1, idle = 30, timeout = 60000;
    AUTO_CLOSE int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return error_errno(err, errno, "socket");
    if (sa->sa_family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
    }
    int r = connect(fd, sa, n);
    if (r != 0 && errno != EINPROGRESS)
        return error_errno(err, errno, "connect");
    cc->conn = conn_new(c->config.loop, TAKE_FD(fd), c->tls, true, r != 0, c->config.host,
                        cc->h1_only, &opening_ops, cc, err);
    return cc->conn != NULL;
}

static bool connect_unix(struct client_conn *cc, struct error *err)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(cc->client->config.unix_path);

    if (n >= sizeof un.sun_path)
        return error_set(err, ERROR_BAD_REQUEST, "socket path too long");
    memcpy(un.sun_path, cc->client->config.unix_path, n + 1);
    return start_connect(cc, (const struct sockaddr *)&un, sizeof un, err);
}

/* The next address, until one can be tried. */
static void connect_next(struct client_conn *cc)
{
    AUTO(error_clear) struct error err = {0};

    for (; cc->address_at < resolve_count(cc->resolve); cc->address_at++) {
        socklen_t n;
        const struct sockaddr *sa = resolve_address(cc->resolve, cc->address_at, &n);
        error_clear(&err);
        if (start_connect(cc, sa, n, &err))
            return;
    }
    if (err.kind == ERROR_NONE)
        error_set(&err, ERROR_UNAVAILABLE, "%s", resolve_error(cc->resolve));
    connect_failed(cc, &err);
}

static void resolved(void *user)
{
    struct client_conn *cc = user;

    if (cc->retired)
        client_conn_gone(cc); /* its call was cancelled meanwhile */
    else
        connect_next(cc);
}

static void connect_timeout(struct loop_timer *t)
{
    struct client_conn *cc = container_of(t, struct client_conn, timer);
    AUTO(error_clear) struct error err = {0};

    if (cc->conn) {
        cc->address_at = SIZE_MAX - 1; /* no time is left for other addresses */
        conn_fail(cc->conn, ERROR_TIMEOUT, "connect: timed out");
        return;
    }
    error_set(&err, ERROR_TIMEOUT, "resolving the name timed out");
    connect_failed(cc, &err);
}

static void open_conn(struct http_client *c, struct http_call *reserved)
{
    struct client_conn *cc = NEW(struct client_conn);
    AUTO(error_clear) struct error err = {0};

    cc->client = c;
    c->refs++;
    list_init(&cc->calls);
    list_add_tail(&c->conns, &cc->node);
    cc->h1_only = c->config.http1_only || reserved;
    cc->reserved = reserved;
    if (reserved) {
        list_remove(&reserved->node);
        list_add_tail(&cc->calls, &reserved->node);
        reserved->on = cc;
    }
    loop_timer_start(c->config.loop, &cc->timer, c->config.connect_timeout_ns, connect_timeout);
    if (!c->config.unix_path)
        cc->resolve = resolve_start(c->config.loop, c->config.host, c->config.port, resolved, cc);
    else if (!connect_unix(cc, &err))
        connect_failed(cc, &err);
}

/* The pool */

static struct client_conn *usable(struct http_client *c)
{
    list_each(n, &c->conns) {
        struct client_conn *cc = list_entry(n, struct client_conn, node);
        if (cc->proto && !cc->retired && !cc->reserved && cc->conn && conn_alive(cc->conn)
            && cc->proto->capacity(cc) > 0)
            return cc;
    }
    return NULL;
}

static bool path_is_clean(struct str path)
{
    for (size_t i = 0; i < path.n; i++)
        if ((unsigned char)path.p[i] <= 0x20 || path.p[i] == 0x7f)
            return false;
    return path.n > 0 && path.p[0] == '/';
}

static void pump_call(struct http_client *c, struct http_call *call)
{
    AUTO(error_clear) struct error err = {0};
    struct client_conn *cc;

    if (!path_is_clean(call->path)) {
        error_set(&err, ERROR_BAD_REQUEST, "bad request path '" STR_FMT "'", STR_ARG(call->path));
        call_fail(call, &err);
    } else if (call->not_after_ns && loop_now_ns(c->config.loop) >= call->not_after_ns) {
        error_set(&err, ERROR_UNAVAILABLE, "%s " STR_FMT ": not sent, its time was over",
                  http_method_name(call->method), STR_ARG(call->path));
        call_fail(call, &err);
    } else if (call->upgrade) {
        open_conn(c, call);
    } else if ((cc = usable(c)) != NULL) {
        list_remove(&call->node);
        list_add_tail(&cc->calls, &call->node);
        call->on = cc;
        call->started_ns = loop_now_ns(c->config.loop);
        cc->proto->start(cc, call);
    }
}

static void open_missing(struct http_client *c)
{
    size_t waiting = 0, opening = 0, conns = 0;

    list_each(n, &c->pending)
        waiting++;
    list_each(n, &c->conns) {
        const struct client_conn *cc = list_entry(n, struct client_conn, node);
        conns++;
        opening += !cc->reserved && !cc->retired && (!cc->proto || c->mode == CLIENT_UNKNOWN);
    }
    size_t want = c->mode == CLIENT_H1 ? waiting : (waiting + CALLS_PER_CONN - 1) / CALLS_PER_CONN;
    if (c->mode == CLIENT_UNKNOWN && want > 1)
        want = 1;
    for (; opening < want && conns < MAX_CONNS && !list_empty(&c->pending); opening++, conns++)
        open_conn(c, NULL);
}

static void pump(struct loop_defer *d)
{
    struct http_client *c = container_of(d, struct http_client, pump);
    size_t n = 0;

    c->refs++; /* a callback may free the client */
    list_each(p, &c->pending)
        n++;
    while (n-- > 0 && !list_empty(&c->pending)) {
        struct http_call *call = list_entry(c->pending.next, struct http_call, node);
        list_remove(&call->node);
        list_add_tail(&c->pending, &call->node);
        pump_call(c, call);
    }
    if (!c->dead)
        open_missing(c);
    client_unref(c);
}

void client_pump(struct http_client *c)
{
    if (!c->dead)
        loop_defer(c->config.loop, &c->pump, pump);
}

void client_fall_back(struct client_conn *cc)
{
    cc->client->mode = CLIENT_H1;
    cc->retired = true;
    while (!list_empty(&cc->calls)) {
        struct http_call *call = list_entry(cc->calls.prev, struct http_call, node);
        list_remove(&call->node);
        call->on = NULL;
        list_add_head(&cc->client->pending, &call->node);
    }
    client_pump(cc->client);
}

/* The client */

struct http_client *http_client_new(const struct http_client_config *config)
{
    struct http_client *c = NEW(struct http_client);

    c->config = *config;
    c->refs = 1;
    c->config.host = config->host ? xstrdup(config->host) : NULL;
    c->config.unix_path = config->unix_path ? xstrdup(config->unix_path) : NULL;
    c->config.bearer_token = config->bearer_token ? xstrdup(config->bearer_token) : NULL;
    c->config.path_prefix = config->path_prefix && config->path_prefix[0] ? xstrdup(config->path_prefix) : NULL;
    c->config.user_agent = config->user_agent ? xstrdup(config->user_agent) : NULL;
    c->tls = config->tls ? http_tls_ref(config->tls) : NULL;
    if (c->config.connect_timeout_ns == 0)
        c->config.connect_timeout_ns = DEFAULT_CONNECT_TIMEOUT;
    if (!c->config.host)
        c->authority = xstrdup("localhost");
    else if (strchr(c->config.host, ':'))
        c->authority = xasprintf("[%s]:%u", c->config.host, c->config.port);
    else
        c->authority = xasprintf("%s:%u", c->config.host, c->config.port);
    c->mode =
        config->http1_only || (!config->tls && !config->unix_path) ? CLIENT_H1 : CLIENT_UNKNOWN;
    list_init(&c->pending);
    list_init(&c->conns);
    return c;
}

void http_client_set_token(struct http_client *c, const char *token)
{
    free((char *)(uintptr_t)c->config.bearer_token);
    c->config.bearer_token = token ? xstrdup(token) : NULL;
}

void http_client_set_tls(struct http_client *c, const struct http_tls *tls)
{
    http_tls_free(c->tls);
    c->tls = http_tls_ref(tls);
}

static void fail_all(struct list *calls)
{
    AUTO(error_clear) struct error err = {0};

    error_set(&err, ERROR_UNAVAILABLE, "the client is closed");
    while (!list_empty(calls)) {
        struct http_call *call = list_entry(calls->next, struct http_call, node);
        call_detach(call);
        call_fail(call, &err);
    }
}

void http_client_free(struct http_client *c)
{
    if (!c || c->dead)
        return;
    c->dead = true;
    loop_defer_cancel(&c->pump);
    fail_all(&c->pending);
    list_each(n, &c->conns)
        fail_all(&list_entry(n, struct client_conn, node)->calls);
    list_each_safe(n, &c->conns) {
        struct client_conn *cc = list_entry(n, struct client_conn, node);
        if (!cc->conn)
            client_conn_gone(cc);
        else if (cc->conn->busy > 0)
            conn_close(cc->conn); /* one of its callbacks called us */
        else
            conn_destroy(cc->conn);
    }
    client_unref(c);
}
