/* libwslay frames and unmasks; it reads from `feed`, what the connection has just received, and writes to the
 * connection's output while that has room. The connection is the server's (sc) or the client's (cc) in its books,
 * but its callbacks are ours from the 101 on. `closed` comes from `gone`, the connection's last call. */
#include "http/websocket.h"
#include "http/client_conn.h"
#include "http/server_conn.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"

#include <openssl/evp.h>
#include <wslay/wslay.h>

#define HIGH_WATER (256u << 10)
#define LOW_WATER (64u << 10)
#define CLOSE_WAIT_NS SECONDS(5)
#define FRAME_SIZE 14 /* the longest head of a frame */

struct websocket {
    const struct websocket_ops *ops;
    void *user;
    struct loop *loop;
    struct conn *conn;      /* NULL until connected */
    struct server_conn *sc; /* one of these two */
    struct client_conn *cc;
    struct http_call *call; /* while connecting */
    char *key;              /* what we sent as Sec-WebSocket-Key */
    char *subprotocol;
    char **offered;
    void (*connected)(struct websocket *ws);
    void (*failed)(void *user, const struct error *err, int status, struct str body);
    struct wslay_event_context *wslay;
    struct str feed;    /* being read by wslay */
    struct buf waiting; /* received while paused or not yet started */
    size_t queued;      /* about: frames accepted and not yet put to the connection */
    bool paused, said_full, started, reading;
    bool closing, close_queued; /* websocket_close() was called; its frame is with wslay */
    bool moved;                 /* the connection has taken bytes */
    unsigned our_code;
    char our_reason[124];
    unsigned close_code; /* of the peer; 0: none yet */
    char close_reason[124];
    struct loop_timer close_timer;
    struct loop_defer run;
};

static void fail_connection(struct websocket *ws)
{
    if (ws->conn)
        conn_close(ws->conn);
}

/* wslay's callbacks */

static ssize_t recv_fed(wslay_event_context_ptr ctx, uint8_t *p, size_t n, int flags, void *user)
{
    struct websocket *ws = user;

    (void)flags;
    if (ws->feed.n == 0 || ws->paused) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    size_t take = n < ws->feed.n ? n : ws->feed.n;
    memcpy(p, ws->feed.p, take);
    ws->feed = str_skip(ws->feed, take);
    return (ssize_t)take;
}

static ssize_t send_out(wslay_event_context_ptr ctx, const uint8_t *p, size_t n, int flags,
                        void *user)
{
    struct websocket *ws = user;
    size_t room = conn_room(ws->conn);

    (void)flags;
    if (room == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (n > room)
        n = room;
    conn_put(ws->conn, p, n);
    ws->moved = true;
    ws->queued -= n < ws->queued ? n : ws->queued;
    return (ssize_t)n;
}

static int make_mask(wslay_event_context_ptr ctx, uint8_t *p, size_t n, void *user)
{
    (void)ctx;
    (void)user;
    file_random(p, n);
    return 0;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
                       void *user)
{
    struct websocket *ws = user;

    (void)ctx;
    if (arg->opcode == WSLAY_CONNECTION_CLOSE) {
        size_t n = arg->msg_length > 2 ? arg->msg_length - 2 : 0;
        ws->close_code = arg->status_code ? arg->status_code : WSLAY_CODE_NO_STATUS_RCVD;
        if (n >= sizeof ws->close_reason)
            n = sizeof ws->close_reason - 1;
        if (n > 0)
            memcpy(ws->close_reason, arg->msg + 2, n);
        ws->close_reason[n] = '\0';
    } else if (!wslay_is_ctrl_frame(arg->opcode) && conn_alive(ws->conn)
               && !loop_timer_active(&ws->close_timer)) {
        ws->ops->message(ws, str_n((const char *)arg->msg, arg->msg_length),
                         arg->opcode == WSLAY_BINARY_FRAME);
    }
}

static const struct wslay_event_callbacks wslay_callbacks = {
    .recv_callback = recv_fed,
    .send_callback = send_out,
    .genmask_callback = make_mask,
    .on_msg_recv_callback = on_message,
};

/* The connection's callbacks */

static void read_feed(struct websocket *ws)
{
    if (ws->reading)
        return;
    ws->reading = true;
    if (wslay_event_recv(ws->wslay) != 0)
        fail_connection(ws);
    ws->reading = false;
    if (!conn_alive(ws->conn))
        return;
    if (ws->feed.n > 0 && !wslay_event_get_read_enabled(ws->wslay))
        ws->feed = STR_NONE; /* behind a close or an error nothing counts */
    conn_kick(ws->conn);
}

static void ws_received(struct conn *c, struct str data)
{
    struct websocket *ws = c->user;
    AUTO(buf_done) struct buf joined = {0};

    if (!ws->started || ws->paused || ws->waiting.n > 0) {
        buf_addstr(&ws->waiting, data);
        if (ws->waiting.overflow) {
            conn_close(c);
            return;
        }
        if (!ws->started || ws->paused)
            return;
        joined = TAKE(ws->waiting);
        data = buf_str(&joined);
    }
    ws->feed = data;
    read_feed(ws);
    if (ws->feed.n > 0)
        buf_addstr(&ws->waiting, ws->feed);
    ws->feed = STR_NONE;
}

static void ws_free(struct websocket *ws)
{
    loop_timer_stop(&ws->close_timer);
    loop_defer_cancel(&ws->run);
    if (ws->wslay)
        wslay_event_context_free(ws->wslay);
    for (char **o = ws->offered; o && *o; o++)
        free(*o);
    free(ws->offered);
    free(ws->key);
    free(ws->subprotocol);
    buf_done(&ws->waiting);
    free(ws);
}

static void run_deferred(struct loop_defer *d)
{
    struct websocket *ws = container_of(d, struct websocket, run);

    if (!ws->conn) { /* closed before it was connected */
        ws->ops->closed(ws, WSLAY_CODE_ABNORMAL_CLOSURE, STR(""));
        ws_free(ws);
        return;
    }
    ws->started = true;
    ws->conn->busy++;
    if (conn_alive(ws->conn) && !ws->paused)
        ws_received(ws->conn, STR(""));
    ws->conn->busy--;
}

static void close_timeout(struct loop_timer *t)
{
    fail_connection(container_of(t, struct websocket, close_timer));
}

/* wslay sends control frames before messages: a close that is queued at once would cut off what was sent before it. */
static void queue_close(struct websocket *ws)
{
    if (!ws->closing || ws->close_queued || wslay_event_want_write(ws->wslay))
        return;
    ws->close_queued = true;
    if (wslay_event_queue_close(ws->wslay, (uint16_t)ws->our_code, (const uint8_t *)ws->our_reason,
                                strlen(ws->our_reason))
        != 0)
        fail_connection(ws);
}

static void ws_fill(struct conn *c)
{
    struct websocket *ws = c->user;

    ws->moved = false;
    for (int i = 0; i < 2; i++) { /* what waits, then a close behind it */
        if (wslay_event_want_write(ws->wslay) && wslay_event_send(ws->wslay) != 0) {
            conn_close(c);
            return;
        }
        queue_close(ws);
    }
    if (ws->moved && loop_timer_active(&ws->close_timer)) /* a slow peer is no dead one */
        loop_timer_start(ws->loop, &ws->close_timer, CLOSE_WAIT_NS, close_timeout);
    if (!wslay_event_want_write(ws->wslay))
        ws->queued = 0;
    if (ws->said_full && ws->queued < LOW_WATER) {
        ws->said_full = false;
        if (ws->ops->writable)
            ws->ops->writable(ws);
    }
    bool over =
        wslay_event_get_close_sent(ws->wslay)
        && (wslay_event_get_close_received(ws->wslay) || !wslay_event_get_read_enabled(ws->wslay));
    if (conn_alive(c) && over && !wslay_event_want_write(ws->wslay))
        conn_finish(c);
}

static void ws_eof(struct conn *c)
{
    struct websocket *ws = c->user;

    if (wslay_event_get_close_received(ws->wslay))
        conn_finish(c);
    else
        conn_close(c);
}

static void ws_opened(struct conn *c)
{
    (void)c;
}

static void ws_gone(struct conn *c, const struct error *err)
{
    struct websocket *ws = c->user;

    (void)err;
    ws->ops->closed(ws, ws->close_code ? ws->close_code : WSLAY_CODE_ABNORMAL_CLOSURE,
                    str_of(ws->close_reason));
    if (ws->sc) {
        server_conn_gone(ws->sc);
    } else {
        ws->cc->conn = NULL;
        client_conn_gone(ws->cc);
    }
    ws_free(ws);
}

static const struct conn_ops ws_conn_ops = {ws_opened, ws_received, ws_eof, ws_fill, ws_gone};

static void start(struct websocket *ws, struct conn *c, bool server)
{
    int r = server ? wslay_event_context_server_init(&ws->wslay, &wslay_callbacks, ws)
                   : wslay_event_context_client_init(&ws->wslay, &wslay_callbacks, ws);
    if (r != 0)
        abort(); /* only out of memory */
    wslay_event_config_set_max_recv_msg_length(ws->wslay, LIMIT_WS_FRAME);
    ws->conn = c;
    conn_set_ops(c, &ws_conn_ops, ws);
    conn_pause(c, false);
    loop_defer(c->loop, &ws->run,
               run_deferred); /* what came with the head waits for our caller to return */
}

/* Handshake */

static void accept_key(struct str key, struct buf *out)
{
    AUTO(buf_done) struct buf text = {0};
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    buf_addstr(&text, key);
    buf_adds(&text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); /* RFC 6455 §1.3 */
    EVP_Digest(text.p, text.n, digest, &n, EVP_sha1(), NULL);
    buf_add_base64(out, digest, n);
}

/* Of all header fields with that name: a list may be split over several. */
static bool header_has(const struct exchange *x, const char *name, const char *token)
{
    for (size_t i = 0; i < x->n_headers; i++)
        if (str_is(x->headers[i].name, name) && h1_has_token(x->headers[i].value, token))
            return true;
    return false;
}

bool websocket_offers(const struct exchange *x, const char *subprotocol)
{
    for (size_t i = 0; i < x->n_headers; i++) {
        struct str rest = x->headers[i].value, part;
        if (!str_is(x->headers[i].name, "sec-websocket-protocol"))
            continue;
        while (str_next(&rest, ',', &part))
            if (str_is(str_trim(part), subprotocol))
                return true;
    }
    return false;
}

static const char *flaw(const struct exchange *x)
{
    AUTO(buf_done) struct buf key = {0};
    AUTO(error_clear) struct error ignored = {0};

    if (x->http2 || x->method != HTTP_GET || !header_has(x, "connection", "upgrade")
        || !header_has(x, "upgrade", "websocket"))
        return "a WebSocket handshake over HTTP/1.1 is needed";
    if (!buf_add_base64_decoded(&key, exchange_header(x, "sec-websocket-key"), &ignored)
        || key.n != 16)
        return "bad Sec-WebSocket-Key";
    return NULL;
}

struct websocket *websocket_accept(struct exchange *x, const char *subprotocol,
                                   const struct websocket_ops *ops, void *user)
{
    struct stream *s = container_of(x, struct stream, x);
    AUTO(buf_done) struct buf head = {0};
    const char *wrong = flaw(x);

    if (!wrong && !str_is(exchange_header(x, "sec-websocket-version"), "13")) {
        exchange_set_header(x, "sec-websocket-version", STR("13"));
        exchange_respond(x, 426, "text/plain", STR("WebSocket version 13 is needed\n"));
        return NULL;
    }
    if (wrong || !s->owner || !h1_is(s)) {
        exchange_respond(x, 400, "text/plain", str_of(wrong ? wrong : "the connection is gone"));
        return NULL;
    }
    struct websocket *ws = NEW(struct websocket);
    ws->ops = ops;
    ws->user = user;
    ws->loop = x->loop;
    buf_adds(&head, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: "
                    "Upgrade\r\nsec-websocket-accept: ");
    accept_key(exchange_header(x, "sec-websocket-key"), &head);
    if (subprotocol && websocket_offers(x, subprotocol)) {
        ws->subprotocol = xstrdup(subprotocol);
        buf_addf(&head, "\r\nsec-websocket-protocol: %s", subprotocol);
    }
    buf_adds(&head, "\r\n\r\n");
    if (x->observe)
        x->observe(x, 101, EXCHANGE_STREAMS);
    if (x->observe)
        x->observe(x, 101, EXCHANGE_ANSWERED);
    ws->sc = h1_take_over(s, &ws->waiting);
    conn_put(ws->sc->conn, head.p, head.n);
    start(ws, ws->sc->conn, true);
    return ws;
}

static struct str find_header(const struct h1_head *head, const char *name)
{
    for (size_t i = 0; i < head->n_headers; i++)
        if (str_is(head->headers[i].name, name))
            return head->headers[i].value;
    return STR_NONE;
}

static bool check_answer(struct websocket *ws, const struct h1_head *head, struct error *err)
{
    AUTO(buf_done) struct buf want = {0};
    struct str chosen = find_header(head, "sec-websocket-protocol");

    accept_key(str_of(ws->key), &want);
    if (!head->upgrade || !h1_has_token(head->upgrade_to, "websocket")
        || !str_eq(find_header(head, "sec-websocket-accept"), buf_str(&want)))
        return error_set(err, ERROR_UNAVAILABLE, "the server answered no WebSocket handshake");
    if (find_header(head, "sec-websocket-extensions").p)
        return error_set(err, ERROR_UNAVAILABLE,
                         "the server uses an extension that was not offered");
    for (char **o = ws->offered; chosen.p && o && *o; o++)
        if (str_is(chosen, *o))
            ws->subprotocol = xstrdup(*o);
    if (chosen.p && !ws->subprotocol)
        return error_set(err, ERROR_UNAVAILABLE,
                         "the server chose subprotocol '" STR_FMT "', which was not offered",
                         STR_ARG(chosen));
    return true;
}

static void client_failed(void *user, int status, struct str body, const struct error *err)
{
    struct websocket *ws = user;
    AUTO(error_clear) struct error refused = {0};

    ws->call = NULL;
    if (err->kind == ERROR_NONE)
        error_set(&refused, ERROR_UNAVAILABLE, "the server refused the WebSocket: %d %s", status,
                  http_status_text(status));
    ws->failed(ws->user, err->kind == ERROR_NONE ? &refused : err, status, body);
    ws_free(ws);
}

static void client_upgraded(struct http_call *call, struct client_conn *cc,
                            const struct h1_head *head, struct str first)
{
    struct websocket *ws = call->user;
    AUTO(error_clear) struct error err = {0};

    if (!check_answer(ws, head, &err)) {
        call_release(call);
        client_abandon(cc);
        client_failed(ws, 101, STR_NONE, &err);
        return;
    }
    buf_addstr(&ws->waiting, first);
    ws->call = NULL;
    ws->cc = cc;
    call_release(call);
    loop_timer_stop(&cc->timer);
    cc->retired = true;
    start(ws, cc->conn, false);
    ws->connected(ws);
}

struct websocket *websocket_connect(const struct websocket_connect *c)
{
    struct websocket *ws = NEW(struct websocket);
    AUTO(buf_done) struct buf key = {0}, protocols = {0};
    uint8_t nonce[16];
    size_t n = 0;

    file_random(nonce, sizeof nonce);
    buf_add_base64(&key, nonce, sizeof nonce);
    while (c->subprotocols && c->subprotocols[n])
        n++;
    ws->offered = xcalloc(n + 1, sizeof *ws->offered);
    for (size_t i = 0; i < n; i++) {
        ws->offered[i] = xstrdup(c->subprotocols[i]);
        buf_addf(&protocols, "%s%s", i > 0 ? ", " : "", ws->offered[i]);
    }
    ws->ops = c->ops;
    ws->user = c->user;
    ws->key = xstrdup(key.p);
    ws->connected = c->connected;
    ws->failed = c->failed;
    const struct http_header headers[] = {
        {STR("connection"), STR("Upgrade")},
        {STR("upgrade"), STR("websocket")},
        {STR("sec-websocket-version"), STR("13")},
        {STR("sec-websocket-key"), buf_str(&key)},
        {STR("sec-websocket-protocol"), buf_str(&protocols)},
    };
    const struct http_request r = {
        .method = HTTP_GET,
        .path = str_of(c->path),
        .headers = headers,
        .n_headers = ARRAY_SIZE(headers) - (n == 0),
        .done = client_failed,
        .user = ws,
    };
    ws->call = http_client_call(c->client, &r);
    if (!ws->call) {
        ws_free(ws);
        return NULL;
    }
    ws->loop = ws->call->client->config.loop;
    ws->call->upgrade = true;
    ws->call->upgraded = client_upgraded;
    return ws;
}

/* What users call */

void *websocket_user(struct websocket *ws)
{
    return ws->user;
}
const char *websocket_subprotocol(const struct websocket *ws)
{
    return ws->subprotocol;
}

size_t websocket_send(struct websocket *ws, struct str data, bool binary)
{
    const struct wslay_event_msg m = {
        .opcode = binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME,
        .msg = (const uint8_t *)(data.p ? data.p : ""),
        .msg_length = data.n,
    };

    if (!ws->conn || !conn_alive(ws->conn) || ws->closing
        || wslay_event_queue_msg(ws->wslay, &m) != 0)
        return ws->queued; /* closing: the frame has nowhere to go */
    ws->queued += data.n + FRAME_SIZE;
    ws->said_full = ws->said_full || ws->queued >= HIGH_WATER;
    conn_kick(ws->conn);
    return ws->queued;
}

void websocket_pause(struct websocket *ws, bool paused)
{
    if (ws->paused == paused || !ws->conn)
        return;
    ws->paused = paused;
    conn_pause(ws->conn, paused);
    if (!paused && conn_alive(ws->conn))
        loop_defer(ws->loop, &ws->run, run_deferred);
}

/* Relays pass on what they were told: 1005, 1006 and 1015 are said to users only, never on the wire (RFC 6455 §7.4.1). */
static unsigned code_to_send(unsigned code)
{
    switch (code) {
    case WSLAY_CODE_NO_STATUS_RCVD:
        return 0; /* a close without a code */
    case WSLAY_CODE_ABNORMAL_CLOSURE:
    case WSLAY_CODE_TLS_HANDSHAKE:
        return WSLAY_CODE_GOING_AWAY;
    default:
        return code;
    }
}

void websocket_close(struct websocket *ws, unsigned code, const char *reason)
{
    unsigned sent = code_to_send(code);
    struct str r = str_take(str_of(reason && sent ? reason : ""), sizeof ws->our_reason - 1);

    if (!ws->conn) {
        http_call_cancel(TAKE(ws->call));
        loop_defer(ws->loop, &ws->run, run_deferred);
        return;
    }
    if (!conn_alive(ws->conn) || wslay_event_get_close_sent(ws->wslay)
        || loop_timer_active(&ws->close_timer))
        return;
    ws->closing = true;
    ws->our_code = sent;
    memcpy(ws->our_reason, r.p, r.n); /* and the zero that is there */
    queue_close(ws);
    websocket_pause(ws, false); /* the peer's answer must get through */
    loop_timer_start(ws->loop, &ws->close_timer, CLOSE_WAIT_NS, close_timeout);
    conn_kick(ws->conn);
}
