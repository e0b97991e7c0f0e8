/* HTTP/2 at the client: many calls on one connection, by nghttp2.
 *
 * Callers' callbacks run inside nghttp2's; all they can do to us there is submit (start, reset), which nghttp2
 * allows: the session is entered only from ch2_received() and ch2_fill(), and deleted only by ch2_gone(). */
#include "http/client_conn.h"
#include "base/alloc.h"
#include "base/vec.h"

#include <nghttp2/nghttp2.h>

#define STREAM_WINDOW (1 << 20)
#define CONN_WINDOW (8 << 20)
#define MAX_STREAMS 1000
#define TICK_NS SECONDS(15)
#define PING_AFTER_NS SECONDS(30)

struct ch2 {
    struct client_conn *cc;
    struct conn *conn;
    nghttp2_session *session;
    size_t n_calls;
    struct buf text;    /* names and values of the header block that arrives now */
    VEC(uint32_t) ends; /* of each in `text`: name, value, name, value … */
    struct buf first;   /* until it is certain that the server speaks HTTP/2 */
    bool certain;
    bool pinged;
    int64_t heard_ns, idle_since_ns;
};

static struct http_call *find(struct ch2 *h, int32_t id)
{
    return id == 0 ? NULL : nghttp2_session_get_stream_user_data(h->session, id);
}

static void drop_call(struct ch2 *h, struct http_call *call)
{
    nghttp2_session_set_stream_user_data(h->session, call->id, NULL);
    if (--h->n_calls == 0)
        h->idle_since_ns = loop_now_ns(h->conn->loop);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct ch2 *h = user;

    (void)session;
    (void)frame;
    buf_clear(&h->text);
    h->ends.n = 0;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct ch2 *h = user;

    (void)session;
    (void)frame;
    (void)flags;
    if (h->ends.n >= (size_t)(2 * H1_MAX_HEADERS))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets this stream */
    buf_add(&h->text, name, name_n);
    vec_push(&h->ends, (uint32_t)h->text.n);
    buf_add(&h->text, value, value_n);
    vec_push(&h->ends, (uint32_t)h->text.n);
    return h->text.overflow ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

static void head_complete(struct ch2 *h, struct http_call *call)
{
    struct http_header headers[H1_MAX_HEADERS];
    size_t n = 0, at = 0;
    int status = 0;
    bool alive;

    for (size_t i = 0; i + 1 < h->ends.n; i += 2) {
        struct str name = str_n(h->text.p + at, h->ends.p[i] - at);
        struct str value = str_n(h->text.p + h->ends.p[i], h->ends.p[i + 1] - h->ends.p[i]);
        at = h->ends.p[i + 1];
        if (str_is(name, ":status") && value.n == 3)
            status = (value.p[0] - '0') * 100 + (value.p[1] - '0') * 10 + (value.p[2] - '0');
        else if (name.n > 0 && name.p[0] != ':')
            headers[n++] = (struct http_header){name, value};
    }
    if (call->got_head)
        alive = call_trailers(call, headers, n);
    else
        alive = status < 200 || call_head(call, status, headers, n);
    (void)alive; /* cancelled in there: its stream is being reset */
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct ch2 *h = user;
    struct http_call *call;

    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        h->cc->retired = true;
    if (frame->hd.type == NGHTTP2_SETTINGS)
        client_pump(h->cc->client); /* the limit of streams may have changed */
    call = find(h, frame->hd.stream_id);
    if (!call || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        call->response_ended = true;
    if (frame->hd.type == NGHTTP2_HEADERS)
        head_complete(h, call);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user)
{
    struct http_call *call = find(user, id);

    (void)session;
    (void)flags;
    bool alive = call && call_data(call, str_n((const char *)p, n));
    (void)alive; /* a call that ended in there has reset its stream itself */
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct ch2 *h = user;
    struct http_call *call = find(h, id);
    AUTO(error_clear) struct error err = {0};

    (void)session;
    client_pump(h->cc->client);
    if (!call)
        return 0;
    drop_call(h, call);
    if (call->response_ended) {
        h->cc->used = true;
        call_succeed(call);
        return 0;
    }
    error_set(&err, ERROR_UNAVAILABLE, "stream reset by the server: %s",
              nghttp2_http2_strerror(code));
    call_retry(call, code == NGHTTP2_REFUSED_STREAM, &err);
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *p, size_t n,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct http_call *call = find(user, id);

    (void)session;
    (void)source;
    if (!call) /* cancelled: its reset is on the way */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    ssize_t got = call_body(call, (char *)p, n);
    if (got == -2)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (got == 0)
        return NGHTTP2_ERR_DEFERRED;
    if (call->body_ended)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return got < 0 ? 0 : got;
}

static nghttp2_nv field(struct str name, struct str value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p, name.n,
                        value.n, NGHTTP2_NV_FLAG_NONE};
}

static void ch2_start(struct client_conn *cc, struct http_call *call)
{
    struct ch2 *h = cc->impl;
    nghttp2_nv *nv = ARENA_ARRAY(&call->arena, nghttp2_nv, call->n_headers + 5);
    nghttp2_data_provider body = {.read_callback = read_body};
    AUTO(error_clear) struct error err = {0};
    char length[24];
    size_t n = 0;

    nv[n++] = field(STR(":method"), str_of(http_method_name(call->method)));
    nv[n++] = field(STR(":scheme"), cc->conn->ssl ? STR("https") : STR("http"));
    nv[n++] = field(STR(":authority"), str_of(cc->client->authority));
    nv[n++] = field(STR(":path"), call->path);
    for (size_t i = 0; i < call->n_headers; i++)
        if (!str_is(call->headers[i].name, "connection")
            && !str_is(call->headers[i].name, "upgrade"))
            nv[n++] = field(call->headers[i].name, call->headers[i].value);
    if (call_has_body(call) && call->body_length >= 0)
        nv[n++] = field(STR("content-length"),
                        str_n(length, (size_t)snprintf(length, sizeof length, "%lld",
                                                       (long long)call->body_length)));
    call->response_ended = false;
    h->n_calls++;
    call->id =
        nghttp2_submit_request(h->session, NULL, nv, n, call_has_body(call) ? &body : NULL, call);
    if (call->id < 0) { /* stream identifiers are used up */
        h->n_calls--;
        cc->retired = true;
        error_set(&err, ERROR_UNAVAILABLE, "%s", nghttp2_strerror(call->id));
        call_retry(call, true, &err);
        return;
    }
    conn_kick(cc->conn);
}

static void ch2_cancel(struct client_conn *cc, struct http_call *call)
{
    struct ch2 *h = cc->impl;

    drop_call(h, call);
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_CANCEL);
    if (cc->conn)
        conn_kick(cc->conn);
}

static size_t ch2_capacity(const struct client_conn *cc)
{
    const struct ch2 *h = cc->impl;
    size_t max =
        nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

    if (!h->certain)
        max = 1; /* cheap to repeat, should it turn out to be HTTP/1.1 */
    else if (max > MAX_STREAMS)
        max = MAX_STREAMS;
    return h->n_calls < max ? max - h->n_calls : 0;
}

static void ch2_resume(struct client_conn *cc, struct http_call *call)
{
    struct ch2 *h = cc->impl;

    nghttp2_session_resume_data(h->session, call->id);
    conn_kick(cc->conn);
}

static int64_t ch2_heard(const struct client_conn *cc)
{
    return ((const struct ch2 *)cc->impl)->heard_ns;
}

static const struct client_proto ch2_proto = {ch2_start, ch2_cancel, ch2_capacity, ch2_resume, ch2_heard};

static void ch2_fill(struct conn *c)
{
    struct ch2 *h = c->user;

    while (conn_room(c) > 0) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);
        if (n < 0)
            conn_fail(c, ERROR_INTERNAL, "%s", nghttp2_strerror((int)n));
        if (n <= 0)
            break;
        conn_put(c, p, (size_t)n);
    }
    if (conn_alive(c) && h->n_calls == 0 && h->cc->retired)
        conn_close(c);
}

/* Is it a SETTINGS frame on stream 0, as every HTTP/2 server begins? */
static bool looks_like_h2(struct str s)
{
    return s.n >= 9 && s.p[3] == NGHTTP2_SETTINGS && memcmp(s.p + 5, "\0\0\0\0", 4) == 0;
}

static void ch2_received(struct conn *c, struct str data)
{
    struct ch2 *h = c->user;
    AUTO(buf_done) struct buf first = {0};

    if (!h->certain) {
        buf_addstr(&h->first, data);
        if (h->first.n < 9)
            return;
        first = TAKE(h->first);
        data = buf_str(&first);
        if (!looks_like_h2(data)) {
            client_fall_back(h->cc);
            h->n_calls = 0;
            conn_close(c);
            return;
        }
        h->certain = true;
        h->cc->client->mode = CLIENT_H2;
        client_pump(h->cc->client);
    }
    h->heard_ns = loop_now_ns(c->loop);
    h->pinged = false;
    ssize_t n = nghttp2_session_mem_recv(h->session, (const uint8_t *)data.p, data.n);
    if (n < 0) {
        conn_fail(c, ERROR_UNAVAILABLE, "%s", nghttp2_strerror((int)n));
        return;
    }
    if (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))
        conn_close(c);
    else
        conn_kick(c);
}

static void ch2_eof(struct conn *c)
{
    struct ch2 *h = c->user;

    if (!h->certain && h->first.n == 0)
        client_fall_back(h->cc);
    conn_close(c);
}

static void ch2_gone(struct conn *c, const struct error *err)
{
    struct ch2 *h = c->user;
    struct client_conn *cc = h->cc;

    cc->retired = true;
    if (!h->certain && h->first.n == 0 && !cc->client->dead)
        client_fall_back(cc); /* it hung up on our preface */
    while (!list_empty(&cc->calls)) {
        struct http_call *call = list_entry(cc->calls.next, struct http_call, node);
        nghttp2_session_set_stream_user_data(h->session, call->id, NULL);
        call_retry(call, false, err);
    }
    cc->conn = NULL;
    nghttp2_session_del(h->session);
    buf_done(&h->text);
    buf_done(&h->first);
    vec_done(&h->ends);
    free(h);
    client_conn_gone(cc);
}

static void ch2_opened(struct conn *c)
{
    (void)c;
}

static const struct conn_ops ch2_ops = {ch2_opened, ch2_received, ch2_eof, ch2_fill, ch2_gone};

/* A server that is silent while calls run may be gone without a word: ask it. */
static void ch2_tick(struct loop_timer *t)
{
    struct client_conn *cc = container_of(t, struct client_conn, timer);
    struct ch2 *h = cc->impl;
    int64_t now = loop_now_ns(h->conn->loop);

    loop_timer_start(h->conn->loop, &cc->timer, TICK_NS, ch2_tick);
    if (h->n_calls == 0 && now - h->idle_since_ns >= CLIENT_IDLE_NS) {
        cc->retired = true;
        nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
        conn_kick(h->conn);
    } else if (h->n_calls > 0 && h->pinged) {
        conn_fail(h->conn, ERROR_UNAVAILABLE, "the server does not answer");
    } else if (h->n_calls > 0 && now - h->heard_ns >= PING_AFTER_NS) {
        h->pinged = true;
        nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
        conn_kick(h->conn);
    }
}

void client_h2_start(struct client_conn *cc)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_HTTP_HEADERS},
    };
    struct ch2 *h = NEW(struct ch2);
    nghttp2_session_callbacks *cb;
    nghttp2_option *o;

    h->cc = cc;
    h->conn = cc->conn;
    h->certain = cc->conn->ssl != NULL || cc->client->mode == CLIENT_H2;
    h->heard_ns = h->idle_since_ns = loop_now_ns(cc->conn->loop);
    buf_init(&h->text, LIMIT_HTTP_HEADERS);
    if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&o) != 0)
        abort();
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_option_set_no_closed_streams(o, 1);
    if (nghttp2_session_client_new2(&h->session, cb, h, o) != 0)
        abort(); /* only out of memory */
    nghttp2_option_del(o);
    nghttp2_session_callbacks_del(cb);
    cc->proto = &ch2_proto;
    cc->impl = h;
    conn_set_ops(cc->conn, &ch2_ops, h);
    nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
    nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW);
    loop_timer_start(cc->conn->loop, &cc->timer, TICK_NS, ch2_tick);
    conn_kick(cc->conn);
}
