/* One Firecracker process: its pipes, its confinement, its console. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "vmm/confine.h"
#include "vmm/firecracker/firecracker.h"

#define API_TIMEOUT_NS SECONDS(30)
#define MAX_OPEN       1024

/* ---- its log and its metrics ---- */

static void keep_log(struct fc *f, const char *p, size_t n)
{
    struct buf *b = &f->now.log_text;

    if (write(STDERR_FILENO, p, n) < 0) {
        /* our own log is gone: nothing to be done about it */
    }
    if (b->n + n > FC_LOG_KEPT)
        buf_consume(b, b->n < FC_LOG_KEPT / 2 ? b->n : FC_LOG_KEPT / 2);
    buf_add(b, p, n);
}

static void keep_metrics(struct fc *f, const char *p, size_t n)
{
    struct buf *b = &f->now.metrics_text;
    struct str line, rest;

    buf_add(b, p, n);
    if (b->overflow) { /* no line of metrics is that long: begin anew */
        buf_clear(b);
        b->overflow = false;
    }
    while (str_cut(buf_str(b), '\n', &line, &rest)) {
        fc_metrics_line(f, line);
        buf_consume(b, line.n + 1);
    }
}

/* False at the end. */
static bool drain(struct fc *f, int fd, void (*keep)(struct fc *, const char *, size_t))
{
    char text[4096];
    ssize_t n;

    for (int i = 0; i < VMM_READS_A_TURN; i++) {
        n = read(fd, text, sizeof text);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return true;
        if (n == 0)
            return false;
        keep(f, text, (size_t)n);
    }
    return true;
}

static void drain_log(struct fc *f)
{
    if (f->now.log_fd >= 0 && !drain(f, f->now.log_fd, keep_log)) {
        loop_io_stop(&f->now.log_io);
        fd_close(&f->now.log_fd);
    }
}

static void drain_metrics(struct fc *f)
{
    if (f->now.metrics_fd >= 0 && !drain(f, f->now.metrics_fd, keep_metrics)) {
        loop_io_stop(&f->now.metrics_io);
        fd_close(&f->now.metrics_fd);
    }
}

void fc_process_drain(struct fc *f)
{
    drain_log(f);
    drain_metrics(f);
}

static void log_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    drain_log(container_of(io, struct fc, now.log_io));
}

static void metrics_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    drain_metrics(container_of(io, struct fc, now.metrics_io));
}

/* Its last line that is no mere notice. */
struct str fc_last_words(const struct fc *f)
{
    struct str rest = buf_str(&f->now.log_text), line, last = STR("");

    while (str_next(&rest, '\n', &line))
        if (str_trim(line).n > 0)
            last = str_trim(line);
    return last;
}

/* ---- the console ----
 *
 * The guest's serial port is the process's standard input and output. Output goes straight into the stream's socket. Input must
 * be a terminal or a pipe (of a socket Firecracker would never hear), so what is typed is carried over by us. */

static void carry(struct fc *f)
{
    char text[4096];
    ssize_t n;

    while (f->typed.n > 0 && f->now.stdin_fd >= 0) {
        n = write(f->now.stdin_fd, f->typed.p, f->typed.n);
        if (n > 0)
            buf_consume(&f->typed, (size_t)n);
        else if (n < 0 && errno == EINTR)
            continue;
        else if (n < 0 && errno == EAGAIN)
            break;
        else {
            loop_io_stop(&f->now.stdin_io);
            fd_close(&f->now.stdin_fd);
        }
    }
    if (f->now.stdin_fd < 0)
        buf_clear(&f->typed); /* nobody is there to read it */
    if (f->typed.n == 0 && f->port_io.loop) {
        n = recv(f->port_fd, text, sizeof text, MSG_DONTWAIT);
        if (n > 0)
            buf_add(&f->typed, text, (size_t)n);
        else if (n == 0)
            loop_io_stop(&f->port_io);
    }
    if (f->now.stdin_io.loop)
        loop_io_events(&f->now.stdin_io, f->typed.n ? (uint32_t)EPOLLOUT : 0u);
    else if (f->typed.n > 0)
        buf_clear(&f->typed);
    if (f->port_io.loop)
        loop_io_events(&f->port_io, f->typed.n ? 0u : (uint32_t)EPOLLIN);
}

static void port_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    carry(container_of(io, struct fc, port_io));
}

static void stdin_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    carry(container_of(io, struct fc, now.stdin_io));
}

void fc_port_start(struct fc *f)
{
    buf_init(&f->typed, FC_TYPED_BYTES);
    loop_io_start(f->base.loop, &f->port_io, f->port_fd, EPOLLIN, port_ready);
}

/* ---- start ---- */

struct ends { /* the process's; ours are in struct fc_process */
    int in, log, metrics, null;
};

static void ends_done(struct ends *e)
{
    fd_close(&e->in);
    fd_close(&e->log);
    fd_close(&e->metrics);
    fd_close(&e->null);
}

static bool make_pipe(int *ret_read, int *ret_write, struct error *err)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_errno(err, errno, "pipe");
    *ret_read = ends[0];
    *ret_write = ends[1];
    return true;
}

static bool make_ends(struct fc *f, struct ends *e, struct error *err)
{
    if (!make_pipe(&f->now.log_fd, &e->log, err) || !make_pipe(&f->now.metrics_fd, &e->metrics, err)
        || (f->config.serial && !make_pipe(&e->in, &f->now.stdin_fd, err)))
        return false;
    fcntl(f->now.metrics_fd, F_SETPIPE_SZ, FC_METRICS_BYTES); /* less is enough for few devices */
    e->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (e->null < 0)
        return error_errno(err, errno, "open /dev/null");
    return true;
}

static void child_exited(struct child *c)
{
    struct fc *f = container_of(c, struct fc, now.child);

    fc_exited(f, c->status);
}

static bool spawn(struct fc *f, const struct child_fd *fds, size_t n, struct error *err)
{
    const char *const argv[] = {"firecracker", "--api-sock", FC_SOCKET,       "--id",    f->id,
                                "--log-path",  "/proc/self/fd/2", "--level", "Warning", "--metrics-path",
                                "/proc/self/fd/3", NULL};
    const char *const env[] = {NULL}, *const devices[] = {"/dev/kvm", "/dev/net/tun", NULL}, *const write[] = {f->dir, NULL};
    AUTO(confine_done) struct confine confined = {.ruleset_fd = -1};
    struct child_spec spec = {.argv = argv, .env = env, .fds = fds, .n_fds = n, .die_with_parent = true, .new_session = true,
                              .cgroup_fd = -1, .cwd = f->dir, .enter = confine_enter, .enter_data = &confined};

    unlinkat(f->dir_fd, FC_SOCKET, 0); /* of a process that was killed; it does not listen where something is */
    unlinkat(f->dir_fd, FC_VSOCK, 0);
    if (!confine_make(&(struct confine_spec){.program = argv[0], .devices = devices, .write = write, .fds = fds, .n_fds = n,
                                             .max_file_bytes = f->config.largest + (64u << 20), .max_fds = MAX_OPEN},
                      &confined, err)
        || !child_start(f->base.loop, &f->now.child, &spec, child_exited, err))
        return false;
    f->base.status.pid = f->now.child.pid;
    return true;
}

bool fc_process_start(struct fc *f, int state_fd, int memory_fd, struct error *err)
{
    AUTO(ends_done) struct ends e = {-1, -1, -1, -1};
    VEC(struct child_fd) fds = {0};
    bool ok;

    f->now.since_ns = loop_now_ns(f->base.loop);
    buf_init(&f->now.log_text, FC_LOG_KEPT);
    buf_init(&f->now.metrics_text, FC_METRICS_BYTES);
    if (!make_ends(f, &e, err))
        return false;
    vec_push(&fds, (struct child_fd){f->config.serial ? e.in : e.null, 0});
    vec_push(&fds, (struct child_fd){f->config.serial ? f->port_fd : e.null, 1});
    vec_push(&fds, (struct child_fd){e.log, FC_FD_LOG});
    vec_push(&fds, (struct child_fd){e.metrics, FC_FD_METRICS});
    if (state_fd >= 0)
        vec_push(&fds, (struct child_fd){state_fd, FC_FD_STATE});
    if (memory_fd >= 0)
        vec_push(&fds, (struct child_fd){memory_fd, FC_FD_MEMORY});
    for (size_t i = 0; i < f->config.fds.n; i++)
        vec_push(&fds, f->config.fds.p[i]);
    ok = spawn(f, fds.p, fds.n, err);
    vec_done(&fds);
    if (!ok)
        return error_wrap(err, "start firecracker");
    loop_io_start(f->base.loop, &f->now.log_io, f->now.log_fd, EPOLLIN, log_ready);
    loop_io_start(f->base.loop, &f->now.metrics_io, f->now.metrics_fd, EPOLLIN, metrics_ready);
    if (f->now.stdin_fd >= 0)
        loop_io_start(f->base.loop, &f->now.stdin_io, f->now.stdin_fd, 0, stdin_ready);
    return rest_await(&f->api, f->now.child.pidfd, API_TIMEOUT_NS, err);
}

/* ---- end ---- */

void fc_process_await_end(struct fc *f)
{
    struct pollfd p = {.fd = f->now.child.pidfd, .events = POLLIN};

    if (f->now.child.pid > 0 && poll(&p, 1, 1000) <= 0) {
        child_kill(&f->now.child, SIGKILL);
        poll(&p, 1, 1000);
    }
    fc_process_drain(f);
}

void fc_process_done(struct fc *f)
{
    struct fc_process *p = &f->now;

    child_kill(&p->child, SIGKILL);
    loop_io_stop(&p->log_io);
    loop_io_stop(&p->metrics_io);
    loop_io_stop(&p->stdin_io);
    child_done(&p->child);
    fd_close(&p->log_fd);
    fd_close(&p->metrics_fd);
    fd_close(&p->stdin_fd);
    buf_done(&p->log_text);
    buf_done(&p->metrics_text);
    *p = (struct fc_process){.log_fd = -1, .metrics_fd = -1, .stdin_fd = -1};
}
