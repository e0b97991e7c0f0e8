#include "network/worker.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define REPORT_MAX (64u << 10)

struct worker {
    struct loop *loop;
    struct loop_io io;
    struct loop_timer deadline;
    struct loop_defer defer;
    int fd;
    pid_t pid;
    bool late;
    worker_done_fn done;
    void *user;
    struct error err; /* why it could not even start */
};

static enum error_kind kind_named(struct str name)
{
    for (int k = ERROR_INVALID; k <= ERROR_INTERNAL; k++)
        if (str_is(name, error_kind_name((enum error_kind)k)))
            return (enum error_kind)k;
    return ERROR_INTERNAL;
}

/* In the child */

static bool send_report(int fd, struct str text, const int *fds, size_t n_fds)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * WORKER_MAX_FDS)];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text.p, .iov_len = text.n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        struct cmsghdr *c;

        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)text.n;
}

static _Noreturn void run(int fd, pid_t parent, worker_fn fn, void *job)
{
    struct arena a = {0};
    struct worker_report r = {.a = &a};
    struct error err = {0};
    struct buf text;
    bool ok;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(1);
    ok = fn(job, &r, &err);
    buf_init(&text, REPORT_MAX);
    json_write(&text, ok ? json_object(&a, "ok", r.json ? r.json : json_null(), NULL)
                         : json_object(&a, "kind", json_new_z(&a, error_kind_name(err.kind)), "message",
                                       json_new_z(&a, error_text(&err)), NULL));
    ok = !text.overflow && send_report(fd, buf_str(&text), r.fds, ok ? r.n_fds : 0);
    _exit(ok ? 0 : 1); /* not exit(): what the parent registered is not ours to run */
}

/* In the parent */

static void finish(struct worker *w, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    loop_io_stop(&w->io);
    loop_timer_stop(&w->deadline);
    fd_close(&w->fd);
    if (w->pid > 0)
        while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    w->done(w->user, ok, fds, n_fds, err);
    for (size_t i = 0; i < n_fds; i++)
        fd_close(&fds[i]);
    error_clear(&w->err);
    free(w);
}

static size_t take_fds(struct msghdr *msg, int *fds)
{
    size_t n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), n * sizeof(int));
    }
    return n;
}

static void report_ready(struct loop_io *io, uint32_t events)
{
    struct worker *w = container_of(io, struct worker, io);
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * WORKER_MAX_FDS)];
    } control;
    AUTO_FREE char *text = xcalloc(1, REPORT_MAX);
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct iovec iov = {.iov_base = text, .iov_len = REPORT_MAX};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    const struct json *v = NULL, *ok = NULL;
    int fds[WORKER_MAX_FDS];
    size_t n_fds = 0;
    ssize_t n = recvmsg(w->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        n_fds = take_fds(&msg, fds);
    if (n <= 0)
        error_set(&err, w->late ? ERROR_TIMEOUT : ERROR_INTERNAL,
                  w->late ? "network: no answer in time from netlink, nft or a CNI plugin" : "network: the worker died");
    else if (json_parse(str_n(text, (size_t)n), &a, &v, &err)) {
        ok = json_get(v, "ok");
        if (!ok)
            error_set(&err, kind_named(json_str_at(v, "kind")), STR_FMT, STR_ARG(json_str_at(v, "message")));
    }
    finish(w, ok, fds, n_fds, ok ? NULL : &err);
}

static void too_late(struct loop_timer *t)
{
    struct worker *w = container_of(t, struct worker, deadline);

    w->late = true;
    kill(w->pid, SIGKILL); /* not yet collected: the number is still its own. Its end of the socket closes. */
}

static void not_started(struct loop_defer *d)
{
    struct worker *w = container_of(d, struct worker, defer);

    finish(w, NULL, NULL, 0, &w->err);
}

void worker_start(struct loop *l, worker_fn fn, void *job, worker_done_fn done, void *user)
{
    struct worker *w = NEW(struct worker);
    pid_t parent = getpid();
    int ends[2];

    w->loop = l;
    w->done = done;
    w->user = user;
    w->fd = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        error_errno(&w->err, errno, "network: socketpair");
        loop_defer(l, &w->defer, not_started);
        return;
    }
    w->fd = ends[0];
    w->pid = fork();
    if (w->pid == 0) {
        close(ends[0]);
        run(ends[1], parent, fn, job);
    }
    close(ends[1]);
    if (w->pid < 0) {
        error_errno(&w->err, errno, "network: fork");
        loop_defer(l, &w->defer, not_started);
        return;
    }
    loop_io_start(l, &w->io, w->fd, EPOLLIN, report_ready);
    loop_timer_start(l, &w->deadline, WORKER_TIMEOUT, too_late);
}
