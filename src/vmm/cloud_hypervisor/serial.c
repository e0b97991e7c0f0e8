/* The serial port.
 *
 * cloud-hypervisor listens on a unix socket (in our own directory) and serves one client; with every reboot the socket goes and
 * comes again. Whoever has the console sees one stream all the while: we carry bytes between the two, and connect again when the
 * machine does. Both directions are bounded: a guest that talks while nobody listens is slowed, not kept. */
#include "vmm/cloud_hypervisor/ch.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT_SERIAL (64u << 10)
#define PIECE 4096
#define AGAIN_FIRST_NS MILLIS(5) /* a guest that boots again has its port soon … */
#define AGAIN_MAX_NS MILLIS(500) /* … and one that does not costs next to nothing */

static bool room(const struct buf *b)
{
    return b->n + PIECE <= LIMIT_SERIAL;
}

static void want(struct ch_serial *s)
{
    if (s->vmm_fd >= 0)
        loop_io_events(&s->vmm_io, (room(&s->up) ? EPOLLIN : 0) | (s->down.n ? EPOLLOUT : 0));
    if (s->near_fd >= 0)
        loop_io_events(&s->near_io, (room(&s->down) ? EPOLLIN : 0) | (s->up.n ? EPOLLOUT : 0));
}

/* Reads what fits; false at the end. */
static bool take(int fd, struct buf *b)
{
    char bytes[PIECE];

    while (room(b)) {
        ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

        if (n > 0)
            buf_add(b, bytes, (size_t)n);
        else if (n < 0 && errno == EINTR)
            continue;
        else
            return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    }
    return true;
}

static bool give(int fd, struct buf *b)
{
    while (b->n > 0) {
        ssize_t n = send(fd, b->p, b->n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0)
            buf_consume(b, (size_t)n);
        else if (n < 0 && errno == EINTR)
            continue;
        else
            return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    }
    return true;
}

static void again(struct loop_timer *t);

static void try_later(struct ch_serial *s)
{
    s->again_ns = s->again_ns ? s->again_ns * 2 : AGAIN_FIRST_NS;
    if (s->again_ns > AGAIN_MAX_NS)
        s->again_ns = AGAIN_MAX_NS;
    loop_timer_start(s->loop, &s->again, s->again_ns, again);
}

static void drop_vmm(struct ch_serial *s)
{
    loop_io_stop(&s->vmm_io);
    fd_close(&s->vmm_fd);
    buf_clear(&s->down); /* meant for a guest that is no more */
    if (!s->over)
        try_later(s);
}

static void drop_near(struct ch_serial *s)
{
    loop_io_stop(&s->near_io);
    fd_close(&s->near_fd);
    buf_clear(&s->up);
}

static void carry(struct ch_serial *s)
{
    if (s->vmm_fd >= 0 && (!take(s->vmm_fd, &s->up) || !give(s->vmm_fd, &s->down)))
        drop_vmm(s);
    if (s->near_fd >= 0 && (!take(s->near_fd, &s->down) || !give(s->near_fd, &s->up)))
        drop_near(s);
    if (s->near_fd < 0)
        buf_clear(&s->up); /* nobody there: it is read all the same, so the guest does not stall */
    want(s);
}

static void vmm_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    carry(container_of(io, struct ch_serial, vmm_io));
}

static void near_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    carry(container_of(io, struct ch_serial, near_io));
}

bool ch_serial_connect(struct ch_serial *s, int64_t timeout_ns, struct error *err)
{
    if (s->vmm_fd >= 0 || s->over || !s->loop)
        return true;
    if (!rest_connect(&s->at, timeout_ns, &s->vmm_fd, err))
        return false;
    loop_timer_stop(&s->again);
    s->again_ns = 0;
    loop_io_start(s->loop, &s->vmm_io, s->vmm_fd, EPOLLIN, vmm_ready);
    want(s);
    return true;
}

static void again(struct loop_timer *t)
{
    struct ch_serial *s = container_of(t, struct ch_serial, again);
    AUTO(error_clear) struct error err = {0};

    if (!ch_serial_connect(s, MILLIS(1), &err))
        try_later(s);
}

bool ch_serial_start(struct ch_serial *s, struct loop *l, const struct rest *at, struct error *err)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return error_errno(err, errno, "socket pair");
    s->loop = l;
    s->at = *at;
    s->near_fd = ends[0];
    s->far_fd = ends[1];
    loop_io_start(l, &s->near_io, s->near_fd, EPOLLIN, near_ready);
    return true;
}

void ch_serial_done(struct ch_serial *s)
{
    s->over = true;
    if (s->vmm_fd >= 0)
        take(s->vmm_fd, &s->up); /* its last words */
    if (s->near_fd >= 0)
        give(s->near_fd, &s->up);
    if (s->loop) {
        loop_timer_stop(&s->again);
        loop_io_stop(&s->vmm_io);
        loop_io_stop(&s->near_io);
    }
    fd_close(&s->vmm_fd);
    fd_close(&s->near_fd);
    fd_close(&s->far_fd);
    buf_done(&s->up);
    buf_done(&s->down);
}
