/* What lies between a machine that migrates and its target: cloud-hypervisor cannot call a migration off and does not say how
 * far it is, but it gives up when its stream breaks. So the stream leads through here. */
#include "vmm/cloud_hypervisor/ch.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PIECE (64u << 10)
#define LIMIT_RELAY (1u << 20)
#define PER_TURN 8 /* pieces; then others have their turn */

static void hang_up(struct ch_relay *r)
{
    for (int i = 0; i < 2; i++) {
        loop_io_stop(&r->ends[i].io);
        fd_close(&r->ends[i].fd);
        buf_clear(&r->ends[i].out);
    }
}

static bool room(const struct buf *b)
{
    return b->n + PIECE <= LIMIT_RELAY;
}

/* From one end into what the other is to get; false when the stream is broken. */
static bool take(struct ch_relay *r, int i)
{
    struct buf *to = &r->ends[!i].out;

    for (int n = 0; n < PER_TURN && !r->ends[i].eof && room(to); n++) {
        char *p = buf_reserve(to, PIECE);
        ssize_t got = p ? recv(r->ends[i].fd, p, PIECE, MSG_DONTWAIT) : -1;

        if (got > 0) {
            buf_commit(to, (size_t)got);
            r->bytes += i == 0 ? (uint64_t)got : 0;
        } else if (got == 0) {
            r->ends[i].eof = true;
        } else if (!p || errno != EINTR) {
            return p && (errno == EAGAIN || errno == EWOULDBLOCK);
        }
    }
    return true;
}

static bool give(struct ch_relay *r, int i)
{
    struct buf *b = &r->ends[i].out;

    while (b->n > 0) {
        ssize_t n = send(r->ends[i].fd, b->p, b->n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0)
            buf_consume(b, (size_t)n);
        else if (errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK;
    }
    if (r->ends[!i].eof)
        shutdown(r->ends[i].fd, SHUT_WR);
    return true;
}

static void carry(struct ch_relay *r)
{
    bool over = r->ends[0].eof && r->ends[1].eof && r->ends[0].out.n == 0 && r->ends[1].out.n == 0;

    for (int i = 0; i < 2; i++)
        if (over || !take(r, i) || !give(r, !i)) {
            hang_up(r);
            return;
        }
    for (int i = 0; i < 2; i++)
        loop_io_events(&r->ends[i].io,
                       (!r->ends[i].eof && room(&r->ends[!i].out) ? EPOLLIN : 0) | (r->ends[i].out.n ? EPOLLOUT : 0));
}

static void source_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    carry(container_of(io, struct ch_relay, ends[0].io));
}

static void target_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    carry(container_of(io, struct ch_relay, ends[1].io));
}

/* The machine's own connection; there is one. */
static void connected(struct loop_io *io, uint32_t events)
{
    struct ch_relay *r = container_of(io, struct ch_relay, listen_io);

    (void)events;
    r->ends[0].fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    loop_io_stop(&r->listen_io);
    fd_close(&r->listen_fd);
    r->ends[1].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (r->ends[0].fd < 0 || r->ends[1].fd < 0
        || connect(r->ends[1].fd, (struct sockaddr *)&r->target, sizeof r->target) != 0) {
        hang_up(r);
        return;
    }
    loop_io_start(r->loop, &r->ends[0].io, r->ends[0].fd, EPOLLIN, source_ready);
    loop_io_start(r->loop, &r->ends[1].io, r->ends[1].fd, EPOLLIN, target_ready);
}

bool ch_relay_start(struct ch_relay *r, struct loop *l, int dir_fd, const char *target, struct error *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ch_relay_done(r);
    *r = (struct ch_relay){.loop = l, .listen_fd = -1, .target = {.sun_family = AF_UNIX}, .ends = {{.fd = -1}, {.fd = -1}}};
    if (strlen(target) >= sizeof r->target.sun_path)
        return error_set(err, ERROR_INVALID, "'%s' is too long a path for a socket", target);
    memcpy(r->target.sun_path, target, strlen(target));
    unlinkat(dir_fd, "move.sock", 0);
    snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/move.sock", dir_fd);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, 1) != 0)
        return error_errno(err, errno, "socket of the migration");
    r->listen_fd = TAKE_FD(fd);
    loop_io_start(l, &r->listen_io, r->listen_fd, EPOLLIN, connected);
    return true;
}

void ch_relay_done(struct ch_relay *r)
{
    if (!r->loop)
        return;
    loop_io_stop(&r->listen_io);
    fd_close(&r->listen_fd);
    hang_up(r);
    buf_done(&r->ends[0].out);
    buf_done(&r->ends[1].out);
    r->loop = NULL;
}
