/* HTTP/1.1 at the server: one exchange at a time, strictly in order.
 *
 *   HEAD ──head complete──▶ BODY ──body complete──▶ BUSY ──response written──▶ HEAD …
 *
 * Bytes of pipelined requests wait in `in`, up to IN_SIZE, then the socket is not read. A peer that shut down its
 * sending side still gets the response of a whole request; an endless one (watch) is ended, for nothing else would
 * tell us that its reader is gone. */
#include "http/h1_parse.h"
#include "http/server_conn.h"
#include "base/alloc.h"

#include <assert.h>
#include <time.h>

#define IN_SIZE (LIMIT_HTTP_HEADERS)
#define BODY_TIMEOUT SECONDS(120) /* of a whole request body of at most a few MiB */
#define CHUNK_MAX (16u << 10)

enum h1_state { H1_HEAD, H1_BODY, H1_BUSY };

struct h1 {
    struct server_conn *sc;
    struct conn *conn;
    enum h1_state state;
    struct buf in;
    size_t scanned;
    struct h1_body body;
    struct stream *cur;
    bool http10, keep_alive, eof, chunked;
    unsigned running; /* h1_run() calls on the stack */
    bool taken;       /* by a WebSocket */
    struct loop_defer next;
};

static void h1_run(struct h1 *h);
static void h1_timeout(struct loop_timer *t);

static void h1_timer(struct h1 *h, int64_t ns)
{
    loop_timer_start(h->conn->loop, &h->sc->timer, ns, h1_timeout);
}

static void run_deferred(struct loop_defer *d)
{
    struct h1 *h = container_of(d, struct h1, next);
    struct conn *c = h->conn;

    c->busy++;
    h1_run(h);
    c->busy--;
}

/* Output */

static void put_head(struct h1 *h, struct stream *s)
{
    AUTO(buf_done) struct buf b = {0};
    time_t now = (time_t)(loop_unix_ns(h->conn->loop) / SECONDS(1));
    struct tm tm;
    char date[40];

    buf_addf(&b, "HTTP/1.1 %d %s\r\n", s->status, http_status_text(s->status));
    if (gmtime_r(&now, &tm) && strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
        buf_addf(&b, "date: %s\r\n", date);
    for (size_t i = 0; i < s->reply.n; i++)
        buf_addf(&b, STR_FMT ": " STR_FMT "\r\n", STR_ARG(s->reply.p[i].name),
                 STR_ARG(s->reply.p[i].value));
    h->chunked = false;
    if (s->length >= 0 && s->status != 204 && s->status != 304) {
        buf_addf(&b, "content-length: %lld\r\n", (long long)s->length);
    } else if (stream_has_body(s)) {
        h->chunked = !h->http10;
        if (h->chunked)
            buf_adds(&b, "transfer-encoding: chunked\r\n");
        else
            h->keep_alive = false; /* its end is the connection's */
    }
    if (!h->keep_alive || h->sc->server->draining || h->sc->server->winding_down) {
        h->keep_alive = false;
        buf_adds(&b, "connection: close\r\n");
    } else if (h->http10) {
        buf_adds(&b, "connection: keep-alive\r\n");
    }
    buf_adds(&b, "\r\n");
    conn_put(h->conn, b.p, b.n);
    s->head_sent = true;
}

/* The response is written. */
static void finish(struct h1 *h)
{
    struct stream *s = h->cur;

    if (h->chunked && stream_has_body(s))
        conn_put(h->conn, "0\r\n\r\n", 5);
    h->cur = NULL;
    stream_done(s);
    h->state = H1_HEAD;
    h->scanned = 0;
    if (!h->keep_alive || (h->eof && h->in.n == 0) || h->sc->server->draining) {
        loop_timer_stop(&h->sc->timer);
        conn_finish(h->conn);
        return;
    }
    h1_timer(h, h->in.n > 0 ? h->sc->server->config.header_timeout_ns
                            : h->sc->server->config.idle_timeout_ns);
    conn_pause(h->conn, false);
    if (h->in.n > 0)
        loop_defer(h->conn->loop, &h->next, run_deferred);
}

static void h1_fill(struct conn *c)
{
    struct h1 *h = c->user;
    struct stream *s = h->cur;
    char piece[CHUNK_MAX];

    if (!s || s->status == 0)
        return;
    if (!s->head_sent)
        put_head(h, s);
    while (conn_room(c) > 0 && !stream_idle(s) && !conn_spent(c)) {
        size_t n;

        s->made = 0;
        n = stream_pull(s, piece, sizeof piece);
        conn_made(c, s->made);
        if (stream_broken(s)) {
            conn_close(c); /* half a body must not look whole */
            return;
        }
        if (n == 0)
            break;
        if (h->chunked) {
            char size[16];
            int len = snprintf(size, sizeof size, "%zx\r\n", n);
            conn_put(c, size, (size_t)len);
        }
        conn_put(c, piece, n);
        if (h->chunked)
            conn_put(c, "\r\n", 2);
    }
    stream_pulled(s);
    if (h->cur == s && stream_at_end(s))
        finish(h);
}

static void h1_stream_ready(struct stream *s)
{
    struct h1 *h = s->owner;

    if (h->eof && s->streaming
        && !s->ended) { /* see the top: no reader that we could notice leaving */
        loop_defer(h->conn->loop, &h->next, run_deferred);
        return;
    }
    conn_kick(h->conn);
}

static void h1_stream_abort(struct stream *s)
{
    struct h1 *h = s->owner;

    h->cur = NULL;
    s->owner = NULL;
    conn_close(h->conn);
    stream_done(s);
}

static void h1_stream_evict(struct stream *s);
static const struct stream_ops h1_stream_ops = {h1_stream_ready, h1_stream_abort, h1_stream_evict};

/* Input */

/* A request that no handler will see; the connection ends with the answer, for its framing is in doubt. */
static void refuse(struct h1 *h, int status, const char *text)
{
    h->keep_alive = false;
    if (!h->cur)
        h->cur = stream_new(h->conn->loop, h->conn->peer, &h1_stream_ops, h);
    h->state = H1_BUSY;
    loop_timer_stop(&h->sc->timer);
    buf_clear(&h->in);
    stream_refuse(h->cur, status, text);
}

static void h1_stream_evict(struct stream *s)
{
    refuse(s->owner, 503, "too many request bodies at once");
}

static bool upgrade_known(struct str to)
{
    return h1_has_token(to, "websocket") || h1_has_token(to, "spdy/3.1");
}

static void head_complete(struct h1 *h, size_t n)
{
    AUTO(error_clear) struct error err = {0};
    struct h1_head head;
    int status = 400;
    size_t limit = h->sc->server->config.body_limit;

    h->http10 = false;
    if (!h1_parse_request(h->in.p, n, &head, &status, &err)) {
        refuse(h, status, error_text(&err));
        return;
    }
    h->cur = stream_new(h->conn->loop, h->conn->peer, &h1_stream_ops, h);
    h->cur->x.method = head.method;
    h->cur->body_budget = &h->sc->server->bodies;
    h->cur->since_ns = loop_now_ns(h->conn->loop);
    buf_init(&h->cur->body, limit);
    for (size_t i = 0; i < head.n_headers; i++)
        stream_add_request_header(h->cur, head.headers[i].name, head.headers[i].value);
    h->http10 = head.http10;
    h->keep_alive = !head.close && (!head.http10 || head.keep_alive);
    h->cur->x.wants_upgrade = head.upgrade && !head.http10 && upgrade_known(head.upgrade_to);
    if (!stream_set_target(h->cur, head.target, &err)) {
        refuse(h, 400, error_text(&err));
        return;
    }
    if (head.length > limit) {
        refuse(h, 413, "request body too large");
        return;
    }
    if ((head.length > 0 || head.chunked) && !server_body_room(h->sc)) {
        refuse(h, 503, "too many request bodies at once");
        return;
    }
    h1_body_init(&h->body, head.chunked ? H1_BODY_CHUNKED : H1_BODY_LENGTH, head.length);
    buf_consume(&h->in, n);
    h->state = H1_BODY;
    if (head.expect_continue && !h->body.done && h->in.n == 0)
        conn_put(h->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    if (!h->body.done)
        h1_timer(h, BODY_TIMEOUT);
}

static void h1_free(struct h1 *h)
{
    loop_defer_cancel(&h->next);
    buf_done(&h->in);
    free(h);
}

/* True: go on with what is next. */
static bool run_head(struct h1 *h)
{
    while (h->in.n >= 2 && memcmp(h->in.p, "\r\n", 2) == 0) {
        buf_consume(&h->in, 2); /* RFC 9112 §2.2: tolerated before a request line */
        h->scanned = 0;
    }
    if (h->in.n == 0)
        return false;
    switch (h1_scan_head(buf_str(&h->in), &h->scanned)) {
    case H1_MORE:
        if (h->in.n >= LIMIT_HTTP_HEADERS)
            refuse(h, 431, "request head too large");
        return false;
    case H1_BAD:
        refuse(h, 400, "bare line feed");
        return false;
    case H1_COMPLETE:
        head_complete(h, h->scanned);
        h->scanned = 0;
        return true;
    }
    __builtin_unreachable();
}

static bool run_body(struct h1 *h)
{
    AUTO(error_clear) struct error err = {0};
    struct str in = buf_str(&h->in), data;

    do {
        if (!h1_body_feed(&h->body, &in, &data, &err)) {
            refuse(h, 400, error_text(&err));
            return false;
        }
        if (!stream_add_body(h->cur, data)) {
            refuse(h, 413, "request body too large");
            return false;
        }
        if (data.n > 0 && !h->body.done && !server_body_room(h->sc)) {
            refuse(h, 503, "too many request bodies at once");
            return false;
        }
        if (h->state != H1_BODY) /* it was the slowest itself */
            return false;
    } while (in.n > 0 && !h->body.done);
    buf_consume(&h->in, h->in.n - in.n);
    if (!h->body.done)
        return false;
    loop_timer_stop(&h->sc->timer);
    h->state = H1_BUSY;
    stream_body_complete(h->cur);
    server_dispatch(h->sc, h->cur);
    return true;
}

static void run_busy(struct h1 *h)
{
    if (h->eof && h->cur && h->cur->streaming && !h->cur->ended)
        conn_close(h->conn);
    else if (h->in.n >= IN_SIZE)
        conn_pause(h->conn, true);
}

static void h1_run(struct h1 *h)
{
    bool more = true;

    h->running++;
    while (more && !h->taken && conn_alive(h->conn)) {
        switch (h->state) {
        case H1_HEAD:
            more = run_head(h);
            break;
        case H1_BODY:
            more = run_body(h);
            break;
        case H1_BUSY:
            run_busy(h);
            more = false;
            break;
        }
    }
    if (!h->taken && h->eof && h->state != H1_BUSY)
        conn_finish(h->conn); /* what was cut off will never be whole */
    if (--h->running == 0 && h->taken)
        h1_free(h);
}

static void h1_received(struct conn *c, struct str data)
{
    struct h1 *h = c->user;

    if (h->state == H1_HEAD && h->in.n == 0)
        h1_timer(h, h->sc->server->config.header_timeout_ns);
    buf_add(&h->in, data.p, data.n);
    h1_run(h);
}

static void h1_eof(struct conn *c)
{
    struct h1 *h = c->user;

    h->eof = true;
    if (h->state != H1_BUSY)
        conn_close(c);
    else
        run_busy(h);
}

static void h1_timeout(struct loop_timer *t)
{
    struct server_conn *sc = container_of(t, struct server_conn, timer);
    struct h1 *h = sc->impl;

    if (h->state == H1_HEAD && h->in.n == 0)
        conn_finish(h->conn); /* idle: end quietly */
    else
        refuse(h, 408, "the request took too long to arrive");
}

static void h1_gone(struct conn *c, const struct error *err)
{
    struct h1 *h = c->user;
    struct server_conn *sc = h->sc;
    struct stream *s = h->cur;

    (void)err;
    h->cur = NULL;
    if (s)
        stream_lost(s);
    h1_free(h);
    server_conn_gone(sc);
}

static void h1_opened(struct conn *c)
{
    (void)c;
}

static const struct conn_ops h1_ops = {h1_opened, h1_received, h1_eof, h1_fill, h1_gone};

static void h1_notice(struct server_conn *sc)
{
    (void)sc; /* said with the next answer */
}

static void h1_drain(struct server_conn *sc)
{
    struct h1 *h = sc->impl;

    h->keep_alive = false;
    if (h->state == H1_HEAD && h->in.n == 0)
        conn_finish(h->conn);
}

static bool h1_idle(const struct server_conn *sc)
{
    const struct h1 *h = sc->impl;
    return h->state == H1_HEAD && h->in.n == 0;
}

static const struct server_proto h1_proto = {h1_notice, h1_drain, h1_idle};

void h1_start(struct server_conn *sc, struct str first)
{
    struct h1 *h = NEW(struct h1);

    h->sc = sc;
    h->conn = sc->conn;
    buf_init(&h->in, LIMIT_HTTP_HEADERS
                         + (64u << 10)); /* reading stops at IN_SIZE, a turn's reads past it */
    sc->proto = &h1_proto;
    sc->impl = h;
    conn_set_ops(sc->conn, &h1_ops, h);
    h1_timer(h, sc->server->config.header_timeout_ns);
    if (first.n > 0)
        h1_received(sc->conn, first);
}

bool h1_is(const struct stream *s)
{
    return s->ops == &h1_stream_ops;
}

struct server_conn *h1_take_over(struct stream *s, struct buf *ret_first)
{
    struct h1 *h = s->owner;
    struct server_conn *sc = h->sc;

    assert(h->cur == s && s->status == 0);
    loop_timer_stop(&sc->timer);
    *ret_first = TAKE(h->in);
    h->cur = NULL;
    s->ended = true;
    sc->guard = TAKE(s->x.guard);
    if (sc->guard.over)
        sc->guarded = TAKE(s->x.arena); /* where its data may be */
    stream_done(s);
    sc->impl = NULL;
    sc->proto = NULL;
    h->taken = true;
    if (h->running == 0)
        h1_free(h);
    return sc;
}
