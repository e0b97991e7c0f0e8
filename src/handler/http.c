/* What the API server asks of this node: streams to consoles and screens, and one-shot actions on running machines. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "api/status.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "handler/internal.h"
#include "http/websocket.h"

#define PREFIX      "/v1/namespaces/"
#define STREAM_READ (64u << 10)
#define STREAM_FULL (256u << 10)
#define ASK_TIMEOUT SECONDS(10)

/* --- a stream: WebSocket on one side, the launcher's descriptor on the other ----------------------------------------------- */

struct stream {
    struct handler *h;
    struct exchange *x; /* until it is accepted */
    struct websocket *ws;
    int fd;
    struct loop_io io;
    struct buf out; /* to the machine */
    bool paused;    /* the WebSocket is full: not reading from the machine */
};

static void stream_free(struct stream *s)
{
    loop_io_stop(&s->io);
    fd_close(&s->fd);
    buf_done(&s->out);
    free(s);
}

static void stream_events(struct stream *s)
{
    loop_io_events(&s->io, (s->paused ? EPOLLRDHUP : EPOLLIN) | (s->out.n ? EPOLLOUT : 0u));
}

static void flush_out(struct stream *s)
{
    while (s->out.n) {
        ssize_t n = write(s->fd, s->out.p, s->out.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf_consume(&s->out, (size_t)n);
    }
    if (s->out.n < STREAM_FULL)
        websocket_pause(s->ws, false);
}

static void on_stream(struct loop_io *io, uint32_t events)
{
    struct stream *s = container_of(io, struct stream, io);
    char data[STREAM_READ];
    ssize_t n;

    if (events & EPOLLOUT)
        flush_out(s);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
        n = read(s->fd, data, sizeof data);
        if (n > 0) {
            s->paused = websocket_send(s->ws, str_n(data, (size_t)n), true) >= STREAM_FULL;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            loop_io_stop(&s->io);
            websocket_close(s->ws, 1000, "the other side has closed the stream"); /* on_ws_closed() frees */
            return;
        }
    }
    stream_events(s);
}

static void on_ws_message(struct websocket *ws, struct str data, bool binary)
{
    struct stream *s = websocket_user(ws);

    (void)binary;
    if (!s->io.loop)
        return;
    buf_addstr(&s->out, data);
    flush_out(s);
    if (s->out.n >= STREAM_FULL)
        websocket_pause(ws, true);
    stream_events(s);
}

static void on_ws_writable(struct websocket *ws)
{
    struct stream *s = websocket_user(ws);

    s->paused = false;
    if (s->io.loop)
        stream_events(s);
}

static void on_ws_closed(struct websocket *ws, unsigned code, struct str reason)
{
    (void)code;
    (void)reason;
    stream_free(websocket_user(ws));
}

static const struct websocket_ops stream_ops = {.message = on_ws_message, .writable = on_ws_writable, .closed = on_ws_closed};

static void answer_error(struct exchange *x, const struct error *err)
{
    AUTO(buf_done) struct buf text = {0};

    json_write(&text, status_of(&x->arena, err, NULL));
    exchange_respond(x, status_code(err->kind), "application/json", buf_str(&text));
}

static void on_stream_fd(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    struct stream *s = user;
    struct exchange *x = s->x;
    AUTO(error_clear) struct error e = {0};

    (void)ok;
    if (!x) { /* the client went away meanwhile */
        stream_free(s);
        return;
    }
    x->closed = NULL;
    if (err->kind == ERROR_NONE && n_fds == 1 && file_set_nonblock(fds[0], &e)) {
        s->fd = TAKE_FD(fds[0]);
        s->x = NULL;
        s->ws = websocket_accept(x, websocket_offers(x, "plain.kubevirt.io") ? "plain.kubevirt.io" : NULL, &stream_ops, s);
        if (!s->ws) {
            stream_free(s);
            return;
        }
        loop_io_start(s->h->loop, &s->io, s->fd, EPOLLIN, on_stream);
        return;
    }
    if (err->kind == ERROR_NONE)
        error_set(&e, ERROR_INTERNAL, "the launcher sent no stream");
    answer_error(x, err->kind != ERROR_NONE ? err : &e);
    stream_free(s);
}

static void on_stream_gone(struct exchange *x)
{
    ((struct stream *)x->user)->x = NULL; /* on_stream_fd() frees */
}

static void open_stream(struct vm *v, struct exchange *x, const char *call)
{
    AUTO(arena_done) struct arena a = {0};
    struct stream *s = NEW(struct stream);

    s->h = v->h;
    s->x = x;
    s->fd = -1;
    buf_init(&s->out, STREAM_FULL + 2 * LIMIT_WS_FRAME);
    x->user = s;
    x->closed = on_stream_gone;
    proto_client_call(v->launcher, call, json_object(&a, "port", json_new_z(&a, "serial0"), NULL), NULL, 0, ASK_TIMEOUT,
                      on_stream_fd, s);
}

/* --- one question, one answer ------------------------------------------------------------------------------------------------ */

struct ask {
    struct exchange *x;
};

static void on_answer(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    struct ask *q = user;
    AUTO(buf_done) struct buf text = {0};

    (void)fds;
    (void)n_fds;
    if (q->x) {
        q->x->closed = NULL;
        if (err->kind != ERROR_NONE) {
            answer_error(q->x, err);
        } else {
            json_write(&text, ok);
            exchange_respond(q->x, 200, "application/json", buf_str(&text));
        }
    }
    free(q);
}

static void on_ask_gone(struct exchange *x)
{
    ((struct ask *)x->user)->x = NULL;
}

static void ask(struct vm *v, struct exchange *x, const char *call)
{
    struct ask *q = NEW(struct ask);

    q->x = x;
    x->user = q;
    x->closed = on_ask_gone;
    proto_client_call(v->launcher, call, NULL, NULL, 0, ASK_TIMEOUT, on_answer, q);
}

/* Path segment → method and launcher call. */
static const struct {
    const char *name;
    enum http_method method;
    const char *call;
    bool stream;
} actions[] = {
    {"console", HTTP_GET, "console", true},           {"vnc", HTTP_GET, "vnc", true},
    {"pause", HTTP_PUT, "pause", false},              {"unpause", HTTP_PUT, "unpause", false},
    {"reset", HTTP_PUT, "reset", false},              {"softreboot", HTTP_PUT, "soft-reboot", false},
    {"guestosinfo", HTTP_GET, "guest-info", false},   {"userlist", HTTP_GET, "guest-info", false},
    {"filesystemlist", HTTP_GET, "guest-info", false}, {"stats", HTTP_GET, "stats", false},
};

bool handler_http(struct handler *h, struct exchange *x)
{
    struct str rest, ns, kind, name, action;
    AUTO(error_clear) struct error err = {0};
    struct vm *v;

    if (!str_starts(x->path, STR(PREFIX)))
        return false;
    rest = str_skip(x->path, sizeof PREFIX - 1);
    if (!str_next(&rest, '/', &ns) || !str_next(&rest, '/', &kind) || !str_is(kind, "virtualmachineinstances")
        || !str_next(&rest, '/', &name) || !str_next(&rest, '/', &action))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (!str_is(action, actions[i].name) || x->method != actions[i].method)
            continue;
        v = vm_find(h, ns, name);
        if (!v || !v->launcher || v->stage != VM_LIVE) {
            error_set(&err, v ? ERROR_UNAVAILABLE : ERROR_NOT_FOUND, "VMI " STR_FMT "/" STR_FMT " %s on node %s", STR_ARG(ns),
                      STR_ARG(name), v ? "is not connected yet" : "does not run", h->node_name);
            answer_error(x, &err);
        } else if (actions[i].stream) {
            open_stream(v, x, actions[i].call);
        } else {
            ask(v, x, actions[i].call);
        }
        return true;
    }
    return false;
}
