#include "vmm/proto.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"

/* A frame's header is read on its own, so a read never crosses the border of two frames and descriptors can only
 * arrive with the header they belong to. */

struct frame { /* one that waits to be sent; owns its text and descriptors */
    struct list node;
    char *p;
    size_t n, at;
    int fds[PROTO_MAX_FDS];
    size_t n_fds;
};

struct proto_conn {
    struct loop *loop;
    struct loop_io io;
    struct loop_defer closing;
    const struct proto_handlers *handlers;
    void *user;
    int fd;
    bool dead;
    bool in_message; /* the owner is being called; freeing waits for it */
    bool freed;
    struct error why;

    unsigned char head[4];
    size_t head_n;
    char *body;
    size_t body_n, body_want;
    int fds[PROTO_MAX_FDS]; /* of the frame that is being read */
    size_t n_fds;

    struct list out;
    size_t out_bytes;
};

static void close_fds(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fd_close(&fds[i]);
}

static void frame_free(struct frame *f)
{
    list_remove(&f->node);
    close_fds(f->fds, f->n_fds);
    free(f->p);
    free(f);
}

static void conn_closed(struct loop_defer *d)
{
    struct proto_conn *c = container_of(d, struct proto_conn, closing);
    const struct proto_handlers *h = c->handlers;

    h->closed(c, &c->why);
}

/* Ends the connection; the owner hears of it after the callbacks of this turn. */
static void conn_die(struct proto_conn *c, enum error_kind kind, const char *text)
{
    if (c->dead)
        return;
    c->dead = true;
    error_set(&c->why, kind, "%s", text);
    loop_io_stop(&c->io);
    loop_defer(c->loop, &c->closing, conn_closed);
}

static void conn_wants(struct proto_conn *c)
{
    if (!c->dead)
        loop_io_events(&c->io, EPOLLIN | (list_empty(&c->out) ? 0u : (uint32_t)EPOLLOUT));
}

/* Returns false when the socket takes no more now, or the connection ended. */
static bool frame_send(struct proto_conn *c, struct frame *f)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * PROTO_MAX_FDS)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {f->p + f->at, f->n - f->at};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (f->at == 0 && f->n_fds > 0) {
        memset(&control, 0, sizeof control);
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * f->n_fds);
        struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof(int) * f->n_fds);
        memcpy(CMSG_DATA(cm), f->fds, sizeof(int) * f->n_fds);
    }
    do
        n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            conn_die(c, ERROR_UNAVAILABLE, "the peer is gone");
        return false;
    }
    f->at += (size_t)n;
    c->out_bytes -= (size_t)n;
    return f->at == f->n;
}

static void conn_flush(struct proto_conn *c)
{
    while (!c->dead && !list_empty(&c->out)) {
        struct frame *f = list_entry(c->out.next, struct frame, node);

        if (!frame_send(c, f))
            break;
        frame_free(f);
    }
    conn_wants(c);
}

/* One recvmsg into at most `want` bytes; 0 = nothing now or the connection ended. */
static size_t conn_recv(struct proto_conn *c, void *p, size_t want, bool frame_start)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * PROTO_MAX_FDS)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {p, want};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    ssize_t n;
    bool stray = false;

    do
        n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            conn_die(c, ERROR_UNAVAILABLE, "the connection broke");
        return 0;
    }
    for (struct cmsghdr *cm = CMSG_FIRSTHDR(&msg); cm; cm = CMSG_NXTHDR(&msg, cm)) {
        if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
            continue;
        size_t got = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < got; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cm) + i * sizeof fd, sizeof fd);
            if (frame_start && c->n_fds < PROTO_MAX_FDS) {
                c->fds[c->n_fds++] = fd;
            } else {
                fd_close(&fd);
                stray = true;
            }
        }
    }
    if (n == 0)
        conn_die(c, ERROR_UNAVAILABLE, "the peer closed the connection");
    else if (stray || (msg.msg_flags & MSG_CTRUNC))
        conn_die(c, ERROR_BAD_REQUEST, "descriptors that belong to no frame");
    return c->dead ? 0 : (size_t)n;
}

static void conn_deliver(struct proto_conn *c)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *body = TAKE(c->body);
    const struct json *msg;
    int fds[PROTO_MAX_FDS];
    size_t n_fds = c->n_fds;

    memcpy(fds, c->fds, sizeof fds);
    c->n_fds = 0;
    c->head_n = 0;
    if (!json_parse_borrowed(str_n(body, c->body_want), &a, &msg, &err)
        || !json_is(msg, JSON_OBJECT)) {
        conn_die(c, ERROR_BAD_REQUEST, "a frame that is no JSON object");
    } else {
        c->in_message = true;
        c->handlers->message(c, msg, fds, n_fds);
        c->in_message = false;
    }
    close_fds(fds, n_fds);
}

/* Reads at most one frame; false when there is none to read on now. */
static bool conn_read_frame(struct proto_conn *c)
{
    size_t n;

    if (c->head_n < sizeof c->head) {
        n = conn_recv(c, c->head + c->head_n, sizeof c->head - c->head_n, c->head_n == 0);
        c->head_n += n;
        if (n == 0)
            return false;
        if (c->head_n < sizeof c->head)
            return true;
        c->body_want = (size_t)c->head[0] | (size_t)c->head[1] << 8 | (size_t)c->head[2] << 16
                       | (size_t)c->head[3] << 24;
        if (c->body_want == 0 || c->body_want > LIMIT_PROTO_MESSAGE) {
            conn_die(c, ERROR_TOO_LARGE, "a frame of forbidden size");
            return false;
        }
        c->body = xcalloc(1, c->body_want);
        c->body_n = 0;
    }
    n = conn_recv(c, c->body + c->body_n, c->body_want - c->body_n, false);
    c->body_n += n;
    if (n == 0)
        return false;
    if (c->body_n == c->body_want)
        conn_deliver(c);
    return true;
}

static void conn_destroy(struct proto_conn *c)
{
    loop_io_stop(&c->io);
    loop_defer_cancel(&c->closing);
    list_each_safe(it, &c->out)
        frame_free(list_entry(it, struct frame, node));
    close_fds(c->fds, c->n_fds);
    fd_close(&c->fd);
    error_clear(&c->why);
    free(c->body);
    free(c);
}

static void conn_ready(struct loop_io *io, uint32_t events)
{
    struct proto_conn *c = container_of(io, struct proto_conn, io);

    if (events & EPOLLOUT)
        conn_flush(c);
    /* A bounded number of frames per turn, so that one busy peer does not starve the others. */
    for (int i = 0; i < 16 && !c->dead && !c->freed; i++)
        if (!conn_read_frame(c))
            break;
    if (c->freed)
        conn_destroy(c);
}

struct proto_conn *proto_new(struct loop *l, int take_fd, const struct proto_handlers *h,
                             void *user)
{
    struct proto_conn *c = NEW(struct proto_conn);

    c->loop = l;
    c->handlers = h;
    c->user = user;
    c->fd = take_fd;
    list_init(&c->out);
    loop_io_start(l, &c->io, c->fd, EPOLLIN, conn_ready);
    return c;
}

void *proto_user(struct proto_conn *c)
{
    return c->user;
}

void proto_send(struct proto_conn *c, const struct json *msg, const int *fds, size_t n_fds)
{
    AUTO(buf_done) struct buf b = {0};
    struct frame *f;

    if (c->dead)
        return;
    buf_init(&b, LIMIT_PROTO_MESSAGE + 4);
    buf_add(&b, "\0\0\0\0", 4);
    json_write(&b, msg);
    if (b.overflow || n_fds > PROTO_MAX_FDS) {
        conn_die(c, ERROR_TOO_LARGE, "a message of ours is too large to send");
        return;
    }
    if (c->out_bytes + b.n > 4u * LIMIT_PROTO_MESSAGE) {
        conn_die(c, ERROR_UNAVAILABLE, "the peer does not read");
        return;
    }
    for (unsigned i = 0; i < 4; i++)
        b.p[i] = (char)(unsigned char)((b.n - 4) >> (8 * i));
    f = NEW(struct frame);
    f->n = b.n;
    f->p = buf_detach(&b);
    for (size_t i = 0; i < n_fds; i++) {
        int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);

        if (fd < 0) {
            frame_free(f);
            conn_die(c, ERROR_INTERNAL, "cannot duplicate a descriptor to send");
            return;
        }
        f->fds[f->n_fds++] = fd;
    }
    c->out_bytes += f->n;
    list_add_tail(&c->out, &f->node);
    conn_flush(c);
}

void proto_free(struct proto_conn *c)
{
    if (!c)
        return;
    if (c->in_message) { /* freed from its own message handler: conn_ready() finishes it */
        c->freed = true;
        c->dead = true;
        loop_io_stop(&c->io);
        loop_defer_cancel(&c->closing);
        return;
    }
    conn_destroy(c);
}
