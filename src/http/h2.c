/* HTTP/2 at the server: nghttp2 is the engine, this its hands.
 *
 * nghttp2 is only ever entered from h2_received() (mem_recv) and h2_fill() (mem_send). Its callbacks change our
 * records and never call a handler: whole requests wait in `ready`, dead streams in `closed`, and both lists are
 * worked off when nghttp2 has returned (settle). A request that is reset before that never reaches a handler.
 * Response bodies are pulled by the data provider, which defers when there is nothing; exchange_write() resumes it.
 *
 * What a hostile client may cost is bounded: LIMIT_H2_STREAMS, header bytes and CONTINUATION frames, resets per
 * second (CVE-2023-44487), unproductive frames per second (pings, settings, priorities, empty DATA, window updates
 * beyond what our own DATA frames call for), queued control frames (the socket is not read while many wait), and
 * buffered request bodies. A head far beyond the limit (an HPACK bomb) ends the connection: to refuse the request
 * alone, all of it would have to be decoded. */
#include "http/server_conn.h"
#include "base/alloc.h"
#include "base/limits.h"

#include <nghttp2/nghttp2.h>
#include <time.h>

#define STREAM_WINDOW (256 * 1024)
#define CONN_WINDOW (1024 * 1024)
#define CONN_BODIES (16u << 20)
#define MAX_HEADER_FIELDS 256
#define MAX_CONTROL_QUEUE 1000
#define RESET_BURST 1000 /* streams reset by the client … */
#define RESET_RATE 33    /* … and per second */
#define NOISE_BURST 2000 /* frames that do no work */
#define NOISE_RATE 200
#define HEAD_ABSURD (4 * LIMIT_HTTP_HEADERS)
#define BODY_TIMEOUT SECONDS(120)
#define SEND_TIMEOUT SECONDS(60)

struct h2 {
    struct server_conn *sc;
    struct conn *conn;
    nghttp2_session *session;
    struct list streams, ready, closed;
    size_t n_incomplete; /* requests that have not wholly arrived */
    size_t body_bytes;
    VEC(int32_t) relieved; /* streams that said full and were pulled from */
    int64_t noise_left, noise_at_ns;
    bool dead, got_settings, ticking, noticed;
    struct loop_timer stall; /* while output waits: does each stream's reader take any? */
};

static void h2_timeout(struct loop_timer *t);
static const struct stream_ops h2_stream_ops;

static struct stream *find(struct h2 *h, int32_t id)
{
    return id == 0 ? NULL : nghttp2_session_get_stream_user_data(h->session, id);
}

static void complete(struct h2 *h, struct stream *s)
{
    if (s->complete)
        return;
    s->complete = true;
    h->n_incomplete--;
}

/* A client that keeps us busy with nothing is told to calm down and cut off. */
static bool noise_allowed(struct h2 *h)
{
    int64_t now = loop_now_ns(h->conn->loop);
    int64_t gained = (now - h->noise_at_ns) / (SECONDS(1) / NOISE_RATE);

    if (gained > 0) {
        h->noise_at_ns = now;
        h->noise_left = h->noise_left + gained > NOISE_BURST ? NOISE_BURST : h->noise_left + gained;
    }
    return h->noise_left-- > 0;
}

/* nghttp2's callbacks */

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    struct h2 *h = user;
    size_t overhead = hd->flags & NGHTTP2_FLAG_PADDED ? 256 : 0; /* as much may be padding */
    bool work = hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_RST_STREAM
                || hd->type == NGHTTP2_CONTINUATION
                || (hd->type == NGHTTP2_DATA
                    && (hd->length > overhead || (hd->flags & NGHTTP2_FLAG_END_STREAM)));

    if (!work && !noise_allowed(h))
        nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct stream *s = stream_new(h->conn->loop, h->conn->peer, &h2_stream_ops, h);
    s->id = frame->hd.stream_id;
    s->x.http2 = true;
    s->body_budget = &h->sc->server->bodies;
    s->since_ns = loop_now_ns(h->conn->loop);
    buf_init(&s->body, h->sc->server->config.body_limit);
    list_add_tail(&h->streams, &s->node);
    h->n_incomplete++;
    return nghttp2_session_set_stream_user_data(session, s->id, s) == 0
               ? 0
               : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static void set_method(struct stream *s, struct str name)
{
    for (int m = HTTP_GET; m < HTTP_CONNECT; m++) {
        if (str_is(name, http_method_name((enum http_method)m))) {
            s->x.method = (enum http_method)m;
            return;
        }
    }
    s->refuse = 501;
}

/* What nghttp2 checks itself unless it was told not to (any_authority). */
static bool well_formed(struct str name, struct str value)
{
    static const char *const pseudo[] = {":method", ":path", ":authority", ":scheme"};

    if (!nghttp2_check_header_value((const uint8_t *)value.p, value.n))
        return false;
    if (name.n == 0 || name.p[0] != ':')
        return nghttp2_check_header_name((const uint8_t *)name.p, name.n);
    for (size_t i = 0; i < ARRAY_SIZE(pseudo); i++)
        if (str_is(name, pseudo[i]))
            return true;
    return false;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct h2 *h = user;
    struct stream *s = find(h, frame->hd.stream_id);
    struct str n = str_n((const char *)name, name_n), v = str_n((const char *)value, value_n);

    (void)session;
    (void)flags;
    if (!s || s->head_done) /* trailers are of no use to us */
        return 0;
    s->head_bytes += name_n + value_n + 32;
    if (s->head_bytes > HEAD_ABSURD)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (h->sc->server->config.any_authority && !well_formed(n, v)) {
        s->refuse = 400;
        return 0;
    }
    if (s->head_bytes > LIMIT_HTTP_HEADERS || s->x.n_headers >= MAX_HEADER_FIELDS)
        s->refuse = 431;
    if (s->refuse == 431)
        return 0;
    if (str_is(n, ":method"))
        set_method(s, v);
    else if (str_is(n, ":path"))
        s->x.target = arena_str(&s->x.arena, v);
    else if (str_is(n, ":authority"))
        stream_add_request_header(s, STR("host"), v);
    else if (str_is(n, "host") && exchange_header(&s->x, "host").p) {
        if (!str_eq_nocase(v, exchange_header(&s->x, "host"))) /* RFC 9113 §8.3.1 */
            s->refuse = 400;
    } else if (n.n > 0 && n.p[0] != ':')
        stream_add_request_header(s, n, v);
    return 0;
}

static void refuse(struct h2 *h, struct stream *s, int status)
{
    complete(h, s);
    s->refuse = status;
    stream_body_complete(s);
    list_remove(&s->node);
    list_add_tail(&h->ready, &s->node);
}

static void h2_evict(struct stream *s)
{
    struct h2 *h = s->owner;

    refuse(h, s, 503);
    conn_kick(h->conn); /* another connection's turn: settle() comes with the next fill */
}

static void head_complete(struct h2 *h, struct stream *s)
{
    AUTO(error_clear) struct error err = {0};
    struct str length = exchange_header(&s->x, "content-length");
    uint64_t n = 0;

    s->head_done = true;
    if (s->refuse == 0 && (!s->x.target.p || !stream_set_target(s, s->x.target, &err)))
        s->refuse = 400;
    if (s->refuse == 0 && length.p
        && !parse_u64(length, h->sc->server->config.body_limit, &n, &err))
        s->refuse = 413;
    if (s->refuse == 0 && n > 0 && (!server_body_room(h->sc) || h->body_bytes > CONN_BODIES))
        s->refuse = 503;
    if (s->refuse == 0 && str_eq_nocase(exchange_header(&s->x, "expect"), STR("100-continue"))) {
        nghttp2_nv nv = {(uint8_t *)(uintptr_t) ":status", (uint8_t *)(uintptr_t) "100", 7, 3,
                         NGHTTP2_NV_FLAG_NONE};
        nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, s->id, NULL, &nv, 1, NULL);
    }
    if (s->refuse != 0)
        refuse(h, s, s->refuse);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    struct stream *s = find(h, frame->hd.stream_id);

    (void)session;
    if (frame->hd.type == NGHTTP2_SETTINGS)
        h->got_settings = true;
    if (!s || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && !s->head_done)
        head_complete(h, s);
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && !s->complete) {
        complete(h, s);
        stream_body_complete(s);
        list_remove(&s->node);
        list_add_tail(&h->ready, &s->node);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user)
{
    struct h2 *h = user;
    struct stream *s = find(h, id);

    (void)session;
    (void)flags;
    if (!s || s->complete) /* refused: what still comes is dropped */
        return 0;
    if (!stream_add_body(s, str_n((const char *)p, n))) {
        refuse(h, s, 413);
        return 0;
    }
    h->body_bytes += n;
    if (h->body_bytes > CONN_BODIES || !server_body_room(h->sc))
        if (!s->complete)
            refuse(h, s, 503);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct stream *s = find(h, id);

    (void)session;
    (void)code;
    if (!s)
        return 0;
    complete(h, s);
    s->id = 0;
    list_remove(&s->node);
    list_add_tail(&h->closed, &s->node);
    return 0;
}

/* A response that ends before its request does: the client need not send the rest (RFC 9113 §8.1). */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;

    if (frame->hd.type == NGHTTP2_DATA && h->noise_left < NOISE_BURST)
        h->noise_left +=
            2; /* a window update for the stream and one for the connection may follow */
    if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)
        && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        && nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_NO_ERROR);
    return 0;
}

static nghttp2_nv field(struct str name, struct str value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p, name.n,
                        value.n, NGHTTP2_NV_FLAG_NONE};
}

/* What ends the stream in the body's place. */
static bool submit_trailers(struct h2 *h, struct stream *s)
{
    nghttp2_nv *nv = ARENA_ARRAY(&s->x.arena, nghttp2_nv, s->trailers.n + 1);

    for (size_t i = 0; i < s->trailers.n; i++)
        nv[i] = field(s->trailers.p[i].name, s->trailers.p[i].value);
    return s->trailers.n > 0
           && nghttp2_submit_trailer(h->session, s->id, nv, s->trailers.n) == 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *p, size_t n,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2 *h = user;
    struct stream *s = source->ptr;
    size_t done;

    (void)session;
    s->made = 0;
    done = stream_pull(s, (char *)p, n);
    conn_made(h->conn, s->made);
    if (stream_broken(s))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets this stream alone */
    s->since_ns = stream_idle(s) ? 0 : loop_now_ns(h->conn->loop);
    if (stream_at_end(s))
        *flags |= NGHTTP2_DATA_FLAG_EOF | (submit_trailers(h, s) ? NGHTTP2_DATA_FLAG_NO_END_STREAM : 0);
    else if (done == 0)
        return NGHTTP2_ERR_DEFERRED;
    if (s->said_full)
        vec_push(&h->relieved, id);
    return (ssize_t)done;
}

/* Output */

/* Fields that belong to a connection have no place in HTTP/2 (RFC 9113 §8.2.2). */
static bool is_hop_by_hop(struct str name)
{
    return str_is(name, "connection") || str_is(name, "transfer-encoding")
           || str_is(name, "keep-alive") || str_is(name, "upgrade")
           || str_is(name, "content-length");
}

static void submit_head(struct h2 *h, struct stream *s)
{
    nghttp2_nv *nv = ARENA_ARRAY(&s->x.arena, nghttp2_nv, s->reply.n + 3);
    nghttp2_data_provider body = {.source = {.ptr = s}, .read_callback = read_body};
    time_t now = (time_t)(loop_unix_ns(h->conn->loop) / SECONDS(1));
    char status[16], length[24], date[40];
    struct tm tm;
    size_t n = 0;

    nv[n++] = field(STR(":status"),
                    str_n(status, (size_t)snprintf(status, sizeof status, "%d", s->status)));
    if (gmtime_r(&now, &tm))
        nv[n++] = field(STR("date"),
                        str_n(date, strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm)));
    for (size_t i = 0; i < s->reply.n; i++)
        if (!is_hop_by_hop(s->reply.p[i].name))
            nv[n++] = field(s->reply.p[i].name, s->reply.p[i].value);
    if (s->length >= 0 && s->status != 204 && s->status != 304)
        nv[n++] = field(
            STR("content-length"),
            str_n(length, (size_t)snprintf(length, sizeof length, "%lld", (long long)s->length)));
    bool empty = s->ended && stream_idle(s) && s->trailers.n == 0;
    s->head_sent = true;
    if (nghttp2_submit_response(h->session, s->id, nv, n,
                                empty || !stream_has_body(s) ? NULL : &body)
        != 0)
        nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
}

/* A window that the client never opens would hold a response for ever. */
static void stalled(struct loop_timer *t)
{
    struct h2 *h = container_of(t, struct h2, stall);
    int64_t now = loop_now_ns(h->conn->loop);
    bool waiting = false;

    list_each(n, &h->streams) {
        struct stream *s = list_entry(n, struct stream, node);
        if (s->status == 0 || stream_idle(s))
            continue;
        waiting = true;
        if (s->since_ns == 0) /* it has only now something to send */
            s->since_ns = now;
        if (now - s->since_ns >= SEND_TIMEOUT)
            nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
    }
    conn_kick(h->conn);
    if (waiting)
        loop_timer_start(h->conn->loop, &h->stall, SEND_TIMEOUT / 2, stalled);
}

static void h2_ready(struct stream *s)
{
    struct h2 *h = s->owner;

    if (h->dead || s->id == 0)
        return;
    if (!loop_timer_active(&h->stall))
        loop_timer_start(h->conn->loop, &h->stall, SEND_TIMEOUT / 2, stalled);
    if (!s->head_sent)
        s->since_ns = loop_now_ns(h->conn->loop);
    if (s->head_sent)
        nghttp2_session_resume_data(h->session, s->id);
    else
        submit_head(h, s);
    conn_kick(h->conn);
}

static void h2_abort(struct stream *s)
{
    struct h2 *h = s->owner;

    if (h->dead || s->id == 0) {
        stream_done(s);
        return;
    }
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
    conn_kick(h->conn);
}

static const struct stream_ops h2_stream_ops = {h2_ready, h2_abort, h2_evict};

/* Timers: idle without streams; while requests are incomplete, how long they have been. */
static void arm(struct h2 *h)
{
    const struct http_server_config *c = &h->sc->server->config;
    bool waiting = h->n_incomplete > 0 || !h->got_settings;
    bool idle = list_empty(&h->streams);

    if (waiting) {
        if (!h->ticking)
            loop_timer_start(h->conn->loop, &h->sc->timer, c->header_timeout_ns, h2_timeout);
    } else if (idle) {
        loop_timer_start(h->conn->loop, &h->sc->timer, c->idle_timeout_ns, h2_timeout);
    } else {
        loop_timer_stop(&h->sc->timer);
    }
    h->ticking = waiting;
}

static void notice(struct h2 *h)
{
    h->noticed = true;
    nghttp2_submit_shutdown_notice(h->session);
}

/* Does what nghttp2's callbacks only noted. */
static void settle(struct h2 *h)
{
    while (!list_empty(&h->closed)) {
        struct stream *s = list_entry(h->closed.next, struct stream, node);
        if (!s->dispatched)
            h->body_bytes -= s->body_charged;
        stream_lost(s);
    }
    while (!list_empty(&h->ready) && conn_alive(h->conn)) {
        struct stream *s = list_entry(h->ready.next, struct stream, node);
        list_remove(&s->node);
        list_add_tail(&h->streams, &s->node);
        h->body_bytes -= s->body_charged;
        if (s->refuse != 0)
            stream_refuse(s, s->refuse, http_status_text(s->refuse));
        else
            server_dispatch(h->sc, s);
        if (h->sc->server->winding_down && !h->noticed && conn_alive(h->conn))
            notice(h); /* not before its first request: the peer would find no use for what it has just connected */
    }
    if (!conn_alive(h->conn))
        return;
    conn_pause(h->conn,
               h->conn->blocked
                   && nghttp2_session_get_outbound_queue_size(h->session) > MAX_CONTROL_QUEUE);
    if (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session)) {
        loop_timer_stop(&h->sc->timer);
        conn_finish(h->conn);
        return;
    }
    if (nghttp2_session_want_write(h->session) && conn_room(h->conn) > 0)
        conn_kick(h->conn);
    arm(h);
}

static void h2_received(struct conn *c, struct str data)
{
    struct h2 *h = c->user;
    ssize_t n = nghttp2_session_mem_recv(h->session, (const uint8_t *)data.p, data.n);

    if (n < 0) { /* not HTTP/2 at all, or a flood that nghttp2 itself cuts off */
        conn_fail(c, ERROR_BAD_REQUEST, "%s", nghttp2_strerror((int)n));
        return;
    }
    settle(h);
}

static void h2_fill(struct conn *c)
{
    struct h2 *h = c->user;

    while (conn_room(c) > 0 && !conn_spent(c)) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);
        if (n < 0)
            conn_fail(c, ERROR_INTERNAL, "%s", nghttp2_strerror((int)n));
        if (n <= 0)
            break;
        conn_put(c, p, (size_t)n);
    }
    for (size_t i = 0; i < h->relieved.n && conn_alive(c); i++) {
        struct stream *s = find(h, h->relieved.p[i]);
        if (s)
            stream_pulled(s);
    }
    h->relieved.n = 0;
    if (conn_alive(c))
        settle(h);
}

static void h2_eof(struct conn *c)
{
    conn_close(c);
}
static void h2_opened(struct conn *c)
{
    (void)c;
}

static void lose_all(struct list *streams)
{
    while (!list_empty(streams))
        stream_lost(list_entry(streams->next, struct stream, node));
}

static void h2_gone(struct conn *c, const struct error *err)
{
    struct h2 *h = c->user;
    struct server_conn *sc = h->sc;

    (void)err;
    h->dead = true;
    loop_timer_stop(&h->stall);
    lose_all(&h->closed);
    lose_all(&h->ready);
    lose_all(&h->streams);
    nghttp2_session_del(h->session);
    vec_done(&h->relieved);
    free(h);
    server_conn_gone(sc);
}

static const struct conn_ops h2_ops = {h2_opened, h2_received, h2_eof, h2_fill, h2_gone};

static void h2_notice(struct server_conn *sc)
{
    struct h2 *h = sc->impl;

    notice(h);
    conn_kick(h->conn);
}

static void h2_drain(struct server_conn *sc)
{
    struct h2 *h = sc->impl;

    nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
                          NULL, 0);
    conn_kick(h->conn);
}

static bool h2_idle(const struct server_conn *sc)
{
    const struct h2 *h = sc->impl;
    return list_empty(&h->streams) && list_empty(&h->ready);
}

static const struct server_proto h2_proto = {h2_notice, h2_drain, h2_idle};

static void reset_late_requests(struct h2 *h, int64_t header_timeout_ns)
{
    int64_t now = loop_now_ns(h->conn->loop);

    list_each(n, &h->streams) {
        struct stream *s = list_entry(n, struct stream, node);
        int64_t age = now - s->since_ns;
        if (!s->head_done && age >= header_timeout_ns) { /* its header block holds up all others */
            conn_fail(h->conn, ERROR_TIMEOUT, "slow headers");
            return;
        }
        if (!s->complete && age >= BODY_TIMEOUT)
            nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
    }
}

static void h2_timeout(struct loop_timer *t)
{
    struct server_conn *sc = container_of(t, struct server_conn, timer);
    struct h2 *h = sc->impl;

    h->ticking = false;
    if (!h->got_settings)
        conn_fail(h->conn, ERROR_TIMEOUT, "no settings");
    else if (h->n_incomplete > 0)
        reset_late_requests(h, sc->server->config.header_timeout_ns);
    else
        nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
    if (!conn_alive(h->conn))
        return;
    conn_kick(h->conn);
    if (h->n_incomplete > 0)
        arm(h);
}

static nghttp2_session *new_session(struct h2 *h)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *o;
    nghttp2_session *session = NULL;

    if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&o) != 0)
        abort();
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_max_outbound_ack(o, MAX_CONTROL_QUEUE);
    nghttp2_option_set_stream_reset_rate_limit(o, RESET_BURST, RESET_RATE);
    nghttp2_option_set_max_continuations(o, 8);
    if (h->sc->server->config.any_authority)
        nghttp2_option_set_no_http_messaging(o, 1);
    if (nghttp2_session_server_new2(&session, cb, h, o) != 0)
        abort(); /* only out of memory */
    nghttp2_option_del(o);
    nghttp2_session_callbacks_del(cb);
    return session;
}

void h2_start(struct server_conn *sc, struct str first)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, LIMIT_H2_STREAMS},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_HTTP_HEADERS},
    };
    struct h2 *h = NEW(struct h2);

    h->sc = sc;
    h->conn = sc->conn;
    h->noise_left = NOISE_BURST;
    h->noise_at_ns = loop_now_ns(sc->conn->loop);
    list_init(&h->streams);
    list_init(&h->ready);
    list_init(&h->closed);
    h->session = new_session(h);
    sc->proto = &h2_proto;
    sc->impl = h;
    conn_set_ops(sc->conn, &h2_ops, h);
    nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
    nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW);
    conn_kick(sc->conn);
    arm(h);
    if (first.n > 0)
        h2_received(sc->conn, first);
}
