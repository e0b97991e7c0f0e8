/* HTTP/1.1 at the client: one call at a time on a connection that is kept. */
#include "http/client_conn.h"
#include "base/alloc.h"

#include <sys/epoll.h>

enum ch1_state { CH1_IDLE, CH1_HEAD, CH1_BODY };

struct ch1 {
    struct client_conn *cc;
    struct conn *conn;
    struct http_call *call;
    enum ch1_state state;
    struct buf in;
    size_t scanned;
    struct h1_body body;
    bool keep_alive;
    bool gone; /* handed over to a WebSocket */
};

static void ch1_idle(struct loop_timer *t)
{
    struct client_conn *cc = container_of(t, struct client_conn, timer);

    cc->retired = true;
    conn_close(cc->conn);
}

static void ch1_start(struct client_conn *cc, struct http_call *call)
{
    struct ch1 *h = cc->impl;
    AUTO(buf_done) struct buf b = {0};

    loop_timer_stop(&cc->timer);
    h->call = call;
    h->state = CH1_HEAD;
    h->scanned = 0;
    buf_addf(&b, "%s " STR_FMT " HTTP/1.1\r\nhost: %s\r\n", http_method_name(call->method),
             STR_ARG(call->path), cc->client->authority);
    for (size_t i = 0; i < call->n_headers; i++)
        buf_addf(&b, STR_FMT ": " STR_FMT "\r\n", STR_ARG(call->headers[i].name),
                 STR_ARG(call->headers[i].value));
    if (call->read_body && call->body_length < 0)
        buf_adds(&b, "transfer-encoding: chunked\r\n");
    else if (call_has_body(call) || call->method == HTTP_POST || call->method == HTTP_PUT
             || call->method == HTTP_PATCH)
        buf_addf(&b, "content-length: %lld\r\n", (long long)call->body_length);
    buf_adds(&b, "\r\n");
    conn_put(cc->conn, b.p, b.n);
}

static void ch1_cancel(struct client_conn *cc, struct http_call *call)
{
    struct ch1 *h = cc->impl;

    if (h->call != call)
        return;
    h->call = NULL;
    cc->retired = true;
    conn_close(cc->conn);
}

static size_t ch1_capacity(const struct client_conn *cc)
{
    const struct ch1 *h = cc->impl;
    return h->call ? 0 : 1;
}

static void ch1_fill(struct conn *c)
{
    struct ch1 *h = c->user;
    char piece[16384];

    while (h->call && !h->call->body_ended && conn_room(c) > 0) {
        struct http_call *call = h->call;
        bool chunked = call->read_body && call->body_length < 0;
        ssize_t n = call_body(call, piece, sizeof piece);
        if (n == 0 || n == -2)
            return;
        if (n < 0) {
            if (chunked)
                conn_put(c, "0\r\n\r\n", 5);
            else if ((int64_t)call->body_at < call->body_length)
                conn_fail(c, ERROR_INVALID, "the request's body is shorter than announced");
            return;
        }
        char size[24];
        int len = snprintf(size, sizeof size, "%zx\r\n", (size_t)n);
        if (chunked)
            conn_put(c, size, (size_t)len);
        conn_put(c, piece, (size_t)n);
        if (chunked)
            conn_put(c, "\r\n", 2);
    }
}

static void ch1_resume(struct client_conn *cc, struct http_call *call)
{
    (void)call;
    conn_kick(cc->conn);
}

static const struct client_proto ch1_proto = {ch1_start, ch1_cancel, ch1_capacity, ch1_resume, NULL};

/* The response has wholly arrived. */
static void ch1_finish(struct ch1 *h)
{
    struct http_call *call = h->call;
    struct client_conn *cc = h->cc;

    cc->used = true;
    h->call = NULL;
    h->state = CH1_IDLE;
    list_remove(&call->node);
    if (!h->keep_alive || h->in.n > 0 || (call_has_body(call) && !call->body_ended)
        || cc->reserved) {
        cc->retired = true;
        conn_close(h->conn);
    } else {
        loop_timer_start(h->conn->loop, &cc->timer, CLIENT_IDLE_NS, ch1_idle);
    }
    client_pump(cc->client);
    call_succeed(call);
}

static void ch1_fail(struct ch1 *h, const struct error *err)
{
    struct http_call *call = h->call;

    h->call = NULL;
    h->cc->retired = true;
    conn_close(h->conn);
    if (call)
        call_fail(call, err);
}

static void set_body(struct ch1 *h, const struct h1_head *head)
{
    h->keep_alive = !head->close && (!head->http10 || head->keep_alive);
    if (h->call->method == HTTP_HEAD || head->status == 204 || head->status == 304)
        h1_body_init(&h->body, H1_BODY_NONE, 0);
    else if (head->chunked)
        h1_body_init(&h->body, H1_BODY_CHUNKED, 0);
    else if (head->has_length)
        h1_body_init(&h->body, H1_BODY_LENGTH, head->length);
    else
        h1_body_init(&h->body, H1_BODY_UNTIL_CLOSE, 0);
    if (h->body.kind == H1_BODY_UNTIL_CLOSE)
        h->keep_alive = false;
}

/* Each step: true when there may be more to do with what is buffered. */
static bool run_head(struct ch1 *h)
{
    AUTO(error_clear) struct error err = {0};
    struct h1_head head;
    struct http_call *call = h->call;
    enum h1_scan r = h1_scan_head(buf_str(&h->in), &h->scanned);

    if (r == H1_MORE && h->in.n < LIMIT_HTTP_HEADERS)
        return false;
    if (r != H1_COMPLETE) {
        error_set(&err, ERROR_UNAVAILABLE, "malformed response");
        ch1_fail(h, &err);
        return false;
    }
    size_t n = h->scanned;
    h->scanned = 0;
    if (!h1_parse_response(h->in.p, n, &head, &err) || (head.status == 101 && !call->upgrade)) {
        if (err.kind == ERROR_NONE)
            error_set(&err, ERROR_UNAVAILABLE, "unexpected change of protocols");
        ch1_fail(h, &err);
        return false;
    }
    if (head.status == 101) {
        h->gone = true;
        h->call = NULL;
        call->upgraded(call, h->cc, &head, str_skip(buf_str(&h->in), n));
        return false;
    }
    if (head.status >= 200) {
        set_body(h, &head);
        h->state = CH1_BODY;
        if (!call_head(call, head.status, head.headers, head.n_headers))
            return false;
    }
    buf_consume(&h->in, n);
    return true;
}

static bool run_body(struct ch1 *h)
{
    AUTO(error_clear) struct error err = {0};
    struct str in = buf_str(&h->in), data;
    struct http_call *call = h->call;

    do {
        if (!h1_body_feed(&h->body, &in, &data, &err)) {
            ch1_fail(h, &err);
            return false;
        }
        if (!call_data(call, data))
            return false;
    } while (in.n > 0 && !h->body.done);
    buf_consume(&h->in, h->in.n - in.n);
    if (h->body.done)
        ch1_finish(h);
    return false;
}

static void ch1_received(struct conn *c, struct str data)
{
    struct ch1 *h = c->user;
    bool more = true;

    buf_addstr(&h->in, data);
    if (h->state == CH1_IDLE) { /* nobody asked: a 408 of an idle connection, or worse */
        h->cc->retired = true;
        conn_close(c);
        return;
    }
    while (more && h->call)
        more = h->state == CH1_HEAD ? run_head(h) : run_body(h);
    if (h->gone) {
        buf_done(&h->in);
        free(h);
    }
}

static void ch1_eof(struct conn *c)
{
    struct ch1 *h = c->user;

    h->cc->retired = true;
    if (h->call && h->state == CH1_BODY && h->body.kind == H1_BODY_UNTIL_CLOSE) {
        ch1_finish(h);
        return;
    }
    conn_close(c);
}

static void ch1_gone(struct conn *c, const struct error *err)
{
    struct ch1 *h = c->user;
    struct client_conn *cc = h->cc;
    struct http_call *call = h->call;

    cc->retired = true;
    cc->conn = NULL;
    h->call = NULL;
    if (call)
        call_retry(call, false, err);
    buf_done(&h->in);
    free(h);
    client_conn_gone(cc);
}

static void ch1_opened(struct conn *c)
{
    (void)c;
}

static const struct conn_ops ch1_ops = {ch1_opened, ch1_received, ch1_eof, ch1_fill, ch1_gone};

void client_h1_start(struct client_conn *cc)
{
    struct ch1 *h = NEW(struct ch1);

    h->cc = cc;
    h->conn = cc->conn;
    buf_init(&h->in, LIMIT_HTTP_HEADERS + (64u << 10));
    cc->proto = &ch1_proto;
    cc->impl = h;
    conn_set_ops(cc->conn, &ch1_ops, h);
    loop_timer_start(cc->conn->loop, &cc->timer, CLIENT_IDLE_NS, ch1_idle);
}
