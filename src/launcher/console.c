#include "launcher/console.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/file.h"

#define LOG_NAME "virt-serial0-log"
#define LOG_OLD_NAME "virt-serial0-log.0"
#define LOG_BYTES (1u << 20)      /* of each of the two files */
#define LINE_BYTES 4096           /* a longer line is cut */
#define RATE_BYTES (256u << 10)   /* to stdout, each second … */
#define BURST_BYTES (1u << 20)    /* … after a rest */
#define HOLDER_BYTES (256u << 10) /* a holder further behind is let go */
#define CHUNK 4096

struct console {
    struct loop *loop;
    int port_fd;
    struct loop_io port_io;
    struct buf to_port; /* typed, not yet taken by the port */

    int holder_fd;
    struct loop_io holder_io;
    struct buf to_holder;

    int log_dirfd, log_fd;
    size_t log_bytes;
    struct buf line;
    int64_t refilled_ns;
    size_t budget, dropped;
};

/* ---- log ---- */

static void log_open(struct console *c, bool fresh)
{
    AUTO(error_clear) struct error err = {0};
    struct stat st;

    fd_close(&c->log_fd);
    if (fresh)
        renameat(c->log_dirfd, LOG_NAME, c->log_dirfd, LOG_OLD_NAME);
    c->log_bytes = 0;
    if (!file_open_beneath(c->log_dirfd, LOG_NAME, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0640,
                           &c->log_fd, &err))
        return; /* a full or lost volume costs the log, not the guest */
    if (fstat(c->log_fd, &st) == 0)
        c->log_bytes = (size_t)st.st_size;
}

static void log_file(struct console *c, const char *p, size_t n)
{
    if (c->log_bytes + n > LOG_BYTES)
        log_open(c, true);
    if (c->log_fd < 0)
        return;
    ssize_t wrote = write(c->log_fd, p, n);
    if (wrote > 0)
        c->log_bytes += (size_t)wrote;
}

static void put_line(struct console *c)
{
    buf_addc(&c->line, '\n');
    if (c->line.n <= c->budget) {
        c->budget -= c->line.n;
        if (write(STDOUT_FILENO, c->line.p, c->line.n) < 0) {
            /* nobody to tell */
        }
    } else {
        c->dropped += c->line.n;
    }
    buf_clear(&c->line);
}

static void refill(struct console *c)
{
    int64_t now = loop_now_ns(c->loop);
    int64_t earned = (now - c->refilled_ns) / 1000 * RATE_BYTES / 1000000;

    if (earned <= 0)
        return;
    c->refilled_ns = now;
    c->budget = earned > (int64_t)BURST_BYTES || c->budget + (size_t)earned > BURST_BYTES
                    ? BURST_BYTES
                    : c->budget + (size_t)earned;
    if (c->dropped > 0 && c->budget > 2 * LINE_BYTES) {
        char text[96];
        int n = snprintf(text, sizeof text, "[%zu bytes of console output left out]\n", c->dropped);

        c->dropped = 0;
        if (write(STDOUT_FILENO, text, (size_t)n) < 0) {
            /* nobody to tell */
        }
    }
}

static void log_text(struct console *c, const char *p, size_t n)
{
    if (c->log_dirfd < 0)
        return;
    log_file(c, p, n);
    refill(c);
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n') {
            if (c->line.n > 0 && c->line.p[c->line.n - 1] == '\r')
                c->line.n--;
            put_line(c);
        } else {
            if (c->line.n >= LINE_BYTES)
                put_line(c);
            buf_addc(&c->line, p[i]);
        }
    }
}

/* ---- holder ---- */

void console_detach(struct console *c)
{
    loop_io_stop(&c->holder_io);
    if (c->holder_fd >= 0)
        shutdown(c->holder_fd, SHUT_RDWR);
    fd_close(&c->holder_fd);
    buf_clear(&c->to_holder);
}

/* Writes what the peer takes. False when it is gone. */
static bool push(int fd, struct buf *b)
{
    while (b->n > 0) {
        ssize_t n = send(fd, b->p, b->n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0)
            buf_consume(b, (size_t)n);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return true;
        else if (errno != EINTR)
            return false;
    }
    return true;
}

static void wants(struct console *c)
{
    if (c->port_io.loop)
        loop_io_events(&c->port_io, EPOLLIN | (c->to_port.n ? (uint32_t)EPOLLOUT : 0u));
    /* Nothing more is read from the holder until the port took what was typed. */
    if (c->holder_io.loop)
        loop_io_events(&c->holder_io, (c->to_port.n ? 0u : (uint32_t)EPOLLIN)
                                          | (c->to_holder.n ? (uint32_t)EPOLLOUT : 0u));
}

static void holder_text(struct console *c, const char *p, size_t n)
{
    if (c->holder_fd < 0)
        return;
    buf_add(&c->to_holder, p, n);
    if (c->to_holder.overflow || !push(c->holder_fd, &c->to_holder))
        console_detach(c);
}

static void holder_ready(struct loop_io *io, uint32_t events)
{
    struct console *c = container_of(io, struct console, holder_io);
    char text[CHUNK];

    if ((events & EPOLLOUT) && !push(c->holder_fd, &c->to_holder)) {
        console_detach(c);
        return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && c->to_port.n == 0) {
        ssize_t n = recv(c->holder_fd, text, sizeof text, MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            console_detach(c);
            return;
        }
        if (n > 0) {
            buf_add(&c->to_port, text, (size_t)n);
            push(c->port_fd, &c->to_port);
        }
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        console_detach(c);
        return;
    }
    wants(c);
}

static void port_ready(struct loop_io *io, uint32_t events)
{
    struct console *c = container_of(io, struct console, port_io);
    char text[CHUNK];

    (void)events;
    push(c->port_fd, &c->to_port);
    ssize_t n = recv(c->port_fd, text, sizeof text, MSG_DONTWAIT);
    if (n > 0) {
        log_text(c, text, (size_t)n);
        holder_text(c, text, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        if (c->line.n > 0)
            put_line(c);
        loop_io_stop(&c->port_io); /* QEMU is gone */
        console_detach(c);
        return;
    }
    wants(c);
}

bool console_attach(struct console *c, int *ret_fd, struct error *err)
{
    int pair[2];

    if (!c->port_io.loop)
        return error_set(err, ERROR_UNAVAILABLE, "the guest's serial port is closed");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_errno(err, errno, "console");
    console_detach(c);
    c->holder_fd = pair[0];
    loop_io_start(c->loop, &c->holder_io, c->holder_fd, EPOLLIN, holder_ready);
    *ret_fd = pair[1];
    return true;
}

struct console *console_new(struct loop *l, int take_port_fd, int log_dirfd)
{
    struct console *c = NEW(struct console);

    c->loop = l;
    c->port_fd = take_port_fd;
    c->holder_fd = c->log_fd = -1;
    c->log_dirfd = log_dirfd >= 0 ? fcntl(log_dirfd, F_DUPFD_CLOEXEC, 0) : -1;
    c->budget = BURST_BYTES;
    c->refilled_ns = loop_now_ns(l);
    buf_init(&c->to_port, 2 * CHUNK);
    buf_init(&c->to_holder, HOLDER_BYTES);
    buf_init(&c->line, LINE_BYTES + 2);
    if (c->log_dirfd >= 0)
        log_open(c, false);
    loop_io_start(l, &c->port_io, c->port_fd, EPOLLIN, port_ready);
    return c;
}

void console_free(struct console *c)
{
    if (!c)
        return;
    loop_io_stop(&c->port_io);
    console_detach(c);
    fd_close(&c->port_fd);
    fd_close(&c->log_fd);
    fd_close(&c->log_dirfd);
    buf_done(&c->to_port);
    buf_done(&c->to_holder);
    buf_done(&c->line);
    free(c);
}
