#include "http/pump.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "http/websocket.h"

#define READ_SIZE (32u << 10)
#define FULL      (256u << 10)

struct pump {
    struct websocket *ws;
    int fd;
    struct loop_io io; /* stopped once the socket has ended */
    struct buf out;    /* to the socket */
    bool paused;       /* the WebSocket is full: the socket is not read */
};

static void pump_free(struct pump *p)
{
    loop_io_stop(&p->io);
    fd_close(&p->fd);
    buf_done(&p->out);
    free(p);
}

static void set_events(struct pump *p)
{
    loop_io_events(&p->io, (p->paused ? 0u : (uint32_t)EPOLLIN) | (p->out.n ? (uint32_t)EPOLLOUT : 0u));
}

/* A socket that fails here says so to recv(), too. */
static void flush(struct pump *p)
{
    while (p->out.n) {
        ssize_t n = send(p->fd, p->out.p, p->out.n, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf_consume(&p->out, (size_t)n);
    }
    if (p->out.n < FULL)
        websocket_pause(p->ws, false);
}

static void on_socket(struct loop_io *io, uint32_t events)
{
    struct pump *p = container_of(io, struct pump, io);
    char data[READ_SIZE];
    ssize_t n;

    if (events & EPOLLOUT)
        flush(p);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        n = recv(p->fd, data, sizeof data, 0);
        if (n > 0) {
            p->paused = websocket_send(p->ws, str_n(data, (size_t)n), true) >= FULL;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            loop_io_stop(&p->io);
            websocket_close(p->ws, 1000, "the other side has closed the stream"); /* on_closed() frees */
            return;
        }
    }
    set_events(p);
}

static void on_message(struct websocket *ws, struct str data, bool binary)
{
    struct pump *p = websocket_user(ws);

    (void)binary;
    if (!p->io.loop)
        return;
    buf_addstr(&p->out, data);
    flush(p);
    if (p->out.n >= FULL)
        websocket_pause(ws, true);
    set_events(p);
}

static void on_writable(struct websocket *ws)
{
    struct pump *p = websocket_user(ws);

    p->paused = false;
    if (p->io.loop)
        set_events(p);
}

static void on_closed(struct websocket *ws, unsigned code, struct str reason)
{
    (void)code;
    (void)reason;
    pump_free(websocket_user(ws));
}

void pump_start(struct exchange *x, const char *subprotocol, int take_fd)
{
    static const struct websocket_ops ops = {.message = on_message, .writable = on_writable, .closed = on_closed};
    struct loop *loop = x->loop;
    struct pump *p = NEW(struct pump);

    p->fd = take_fd;
    buf_init(&p->out, FULL + 2 * LIMIT_WS_FRAME);
    p->ws = websocket_accept(x, subprotocol, &ops, p);
    if (p->ws)
        loop_io_start(loop, &p->io, p->fd, EPOLLIN, on_socket);
    else
        pump_free(p);
}
