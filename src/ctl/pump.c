#include "ctl/pump.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define FULL  (256u << 10)
#define PIECE 4096 /* what a pipe that is writable takes without blocking */

static void finish(struct loop_defer *d)
{
    struct pump *p = container_of(d, struct pump, end);

    if (p->ended)
        p->ended(p);
}

static void end_if_over(struct pump *p)
{
    if (p->ws || p->over || (p->started && p->waiting.n && !p->no_output))
        return;
    p->over = true;
    loop_io_stop(&p->in_io);
    loop_io_stop(&p->out_io);
    loop_timer_stop(&p->linger);
    loop_defer(p->loop, &p->end, finish);
}

void pump_leave(struct pump *p)
{
    p->left = true;
    loop_io_stop(&p->in_io);
    loop_timer_stop(&p->linger);
    if (p->ws)
        websocket_close(p->ws, 1000, "");
    else
        end_if_over(p);
}

static void on_linger(struct loop_timer *t)
{
    pump_leave(container_of(t, struct pump, linger));
}

static void start_linger(struct pump *p)
{
    if (p->linger_ns >= 0 && p->ws)
        loop_timer_start(p->loop, &p->linger, p->linger_ns, on_linger);
}

static void on_input(struct loop_io *io, uint32_t events)
{
    struct pump *p = container_of(io, struct pump, in_io);
    char data[32 << 10];
    ssize_t n = read(p->in, data, sizeof data);
    const char *escape;

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        loop_io_stop(&p->in_io);
        if (n < 0)
            pump_leave(p); /* the terminal, or the peer of a socket, is gone */
        else
            start_linger(p);
        return;
    }
    escape = p->escape ? memchr(data, PUMP_ESCAPE, (size_t)n) : NULL;
    if (escape)
        n = escape - data;
    if (n > 0 && p->ws && websocket_send(p->ws, str_n(data, (size_t)n), true) >= FULL)
        loop_io_events(&p->in_io, 0);
    if (escape)
        pump_leave(p);
}

static void on_output(struct loop_io *io, uint32_t events)
{
    struct pump *p = container_of(io, struct pump, out_io);
    size_t left = p->waiting.n - p->written;
    ssize_t n = write(p->out, p->waiting.p + p->written, left < PIECE ? left : PIECE);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        p->no_output = true;
        loop_io_stop(&p->out_io);
        pump_leave(p);
        end_if_over(p);
        return;
    }
    p->written += (size_t)n;
    if (p->written == p->waiting.n || p->written >= FULL) { /* not for every piece: it moves the rest */
        buf_consume(&p->waiting, p->written);
        p->written = 0;
    }
    if (p->waiting.n < FULL && p->ws)
        websocket_pause(p->ws, false);
    if (!p->waiting.n)
        loop_io_events(&p->out_io, 0);
    end_if_over(p);
}

static void on_message(struct websocket *ws, struct str data, bool binary)
{
    struct pump *p = websocket_user(ws);

    (void)binary;
    if (p->no_output)
        return;
    buf_addstr(&p->waiting, data);
    if (loop_timer_active(&p->linger))
        start_linger(p);
    if (p->waiting.n && p->started)
        loop_io_events(&p->out_io, EPOLLOUT);
    if (p->waiting.n >= FULL)
        websocket_pause(ws, true);
}

static void on_writable(struct websocket *ws)
{
    struct pump *p = websocket_user(ws);

    if (p->in_io.loop)
        loop_io_events(&p->in_io, EPOLLIN);
}

static void on_closed(struct websocket *ws, unsigned code, struct str reason)
{
    struct pump *p = websocket_user(ws);

    p->ws = NULL;
    p->code = code;
    buf_addstr(&p->reason, reason);
    loop_io_stop(&p->in_io);
    end_if_over(p);
}

static const struct websocket_ops ops = {.message = on_message, .writable = on_writable, .closed = on_closed};

static void on_connected(struct websocket *ws)
{
    struct pump *p = websocket_user(ws);

    p->ws = ws;
    websocket_pause(ws, true);
    p->connected(p);
}

static void on_failed(void *user, const struct error *err, int status, struct str body)
{
    struct pump *p = user;
    AUTO(error_clear) struct error why = {0};

    if (status >= 400 && !ctl_status_error(&why, status, body)) {
        p->failed(p, status, &why);
        return;
    }
    p->failed(p, 0, err);
}

void pump_connect(struct pump *p, struct ctl *c, const char *path)
{
    static const char *const protocols[] = {"plain.kubevirt.io", NULL};
    AUTO_FREE char *full = xasprintf("%s%s", c->config.prefix, path);

    buf_init(&p->waiting, FULL + 2 * LIMIT_WS_FRAME);
    websocket_connect(&(struct websocket_connect){.client = c->http, .path = full, .subprotocols = protocols, .ops = &ops,
                                                  .user = p, .connected = on_connected, .failed = on_failed});
}

void pump_begin(struct pump *p, int in, int out)
{
    p->in = in;
    p->out = out;
    p->started = true;
    loop_io_start(p->loop, &p->in_io, in, EPOLLIN, on_input);
    loop_io_start(p->loop, &p->out_io, out, p->waiting.n ? EPOLLOUT : 0, on_output);
    if (p->ws)
        websocket_pause(p->ws, false);
    else
        loop_io_stop(&p->in_io);
}

void pump_done(struct pump *p)
{
    loop_io_stop(&p->in_io);
    loop_io_stop(&p->out_io);
    loop_timer_stop(&p->linger);
    loop_defer_cancel(&p->end);
    buf_done(&p->waiting);
    buf_done(&p->reason);
}

/* --- the waiting form ------------------------------------------------------------------------------------------------------ */

struct opening {
    bool done, ok;
    int status;
    struct error err;
    void *user;
};

static void open_connected(struct pump *p)
{
    struct opening *o = p->user;

    o->done = o->ok = true;
}

static void open_failed(struct pump *p, int status, const struct error *err)
{
    struct opening *o = p->user;

    o->done = true;
    o->status = status;
    error_set(&o->err, err->kind, "%s", error_text(err));
}

bool pump_open(struct pump *p, struct ctl *c, const char *path, int *ret_status, struct error *err)
{
    struct opening o = {.user = p->user};

    *ret_status = 0;
    if (!ctl_connect(c, err))
        return false;
    p->user = &o;
    p->connected = open_connected;
    p->failed = open_failed;
    pump_connect(p, c, path);
    ctl_wait(c, &o.done);
    p->user = o.user;
    *ret_status = o.status;
    if (o.ok)
        return true;
    error_move(err, &o.err);
    pump_done(p);
    return false;
}
