#include "vmm/errand.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define CPU_LIMIT_S 10
#define FILE_LIMIT (1 << 20)
#define CLOSE_FROM 4 /* 0…2 as they are, 3 is the pipe */

/* ---- in the child ---- */

static void limit(int what, rlim_t n)
{
    const struct rlimit r = {n, n};

    setrlimit(what, &r);
}

static bool become(uid_t uid)
{
    if (uid == 0 || geteuid() != 0)
        return true;
    return setgroups(0, NULL) == 0 && setresgid(uid, uid, uid) == 0
           && setresuid(uid, uid, uid) == 0;
}

static void report(const struct errand_spec *s)
{
    char *result = xcalloc(1, s->result_size);
    size_t at = 0;

    s->run(s->arg, result);
    while (at < s->result_size) {
        ssize_t n = write(3, result + at, s->result_size - at);

        if (n <= 0)
            _exit(1);
        at += (size_t)n;
    }
    _exit(0);
}

/* A pid namespace needs a process of its own as its first: what is left in it is killed with that one. */
static void isolate(const struct errand_spec *s)
{
    pid_t first = -1;
    int status = 0;

    if (unshare(CLONE_NEWPID) == 0)
        first = fork();
    if (first > 0) {
        close(3);
        waitpid(first, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    /* Without the right to a namespace, the process group has to do. */
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, FILE_LIMIT);
    limit(RLIMIT_CPU, CPU_LIMIT_S);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!become(s->uid))
        _exit(1);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user has cleared it */
    report(s);
}

static void in_child(const struct errand_spec *s, int pipe_end)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    if (dup2(pipe_end, 3) != 3)
        _exit(1);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    close_range(CLOSE_FROM, ~0u, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (s->isolate)
        isolate(s);
    report(s);
}

/* ---- in the parent ---- */

static pid_t spawn(const struct errand_spec *s, int *ret_pipe)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid = fork();
    if (pid == 0)
        in_child(s, ends[1]);
    close(ends[1]);
    if (pid < 0)
        close(ends[0]);
    else {
        setpgid(pid, pid); /* whoever of us is first */
        *ret_pipe = ends[0];
    }
    return pid;
}

static int64_t cpu_ms_of(pid_t pid)
{
    unsigned long long user = 0, system = 0, users_children = 0, systems_children = 0;
    AUTO_CLOSE int fd = -1;
    char path[64], text[512];
    const char *after;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    text[n > 0 ? n : 0] = '\0';
    after = strrchr(text, ')');
    if (after)
        sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", &user,
               &system, &users_children, &systems_children);
    return (int64_t)((user + system + users_children + systems_children) * 1000
                     / (unsigned long long)sysconf(_SC_CLK_TCK));
}

static void kill_all(pid_t pid)
{
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
}

struct errand {
    struct loop *loop;
    struct loop_io pipe_io, exit_io;
    struct loop_timer timer;
    struct loop_defer over; /* of one that could not be started, or one that is gone */
    int pipe_fd, pidfd;
    pid_t pid;
    size_t size, have;
    char *result;
    void (*done)(void *user, enum errand_end end, const void *result, int64_t cpu_ms); /* NULL: said, or not wanted */
    void *user;
    enum errand_end end;
    bool leaving;
};

static void release(struct errand *w)
{
    fd_close(&w->pipe_fd);
    fd_close(&w->pidfd);
    free(w->result);
    free(w);
}

static void release_later(struct loop_defer *d)
{
    release(container_of(d, struct errand, over));
}

/* It is over, and its answer, if there is one, is handed on. */
static void on_exit_io(struct loop_io *io, uint32_t events)
{
    struct errand *w = container_of(io, struct errand, exit_io);

    (void)events;
    waitpid(w->pid, NULL, WNOHANG);
    loop_io_stop(io);
    loop_defer(w->loop, &w->over, release_later);
    if (w->done)
        w->done(w->user, w->end, w->end == ERRAND_DONE ? w->result : NULL, 0);
}

/* What is left of it is killed, waited for and released. */
static void let_go(struct errand *w)
{
    if (w->leaving)
        return;
    w->leaving = true;
    loop_io_stop(&w->pipe_io);
    loop_timer_stop(&w->timer);
    kill_all(w->pid);
    loop_io_start(w->loop, &w->exit_io, w->pidfd, EPOLLIN, on_exit_io);
}

static void on_pipe(struct loop_io *io, uint32_t events)
{
    struct errand *w = container_of(io, struct errand, pipe_io);
    ssize_t n = read(w->pipe_fd, w->result + w->have, w->size - w->have);

    (void)events;
    if (n > 0 && (w->have += (size_t)n) < w->size)
        return;
    w->end = w->have == w->size ? ERRAND_DONE : ERRAND_DIED;
    let_go(w);
}

static void on_timer(struct loop_timer *t)
{
    struct errand *w = container_of(t, struct errand, timer);

    void (*done)(void *, enum errand_end, const void *, int64_t) = w->done;
    void *user = w->user;
    int64_t cpu_ms = cpu_ms_of(w->pid);

    w->done = NULL; /* its end may take longer: a process in the kernel's hands dies when that lets go */
    let_go(w);
    done(user, ERRAND_SILENT, NULL, cpu_ms);
}

static void not_started(struct loop_defer *d)
{
    struct errand *w = container_of(d, struct errand, over);

    w->done(w->user, ERRAND_DIED, NULL, 0);
    release(w);
}

struct errand *errand_start(struct loop *l, const struct errand_spec *s,
                            void (*done)(void *user, enum errand_end end, const void *result,
                                         int64_t cpu_ms),
                            void *user)
{
    struct errand *w = NEW(struct errand);

    w->loop = l;
    w->done = done;
    w->user = user;
    w->size = s->result_size;
    w->result = xcalloc(1, s->result_size);
    w->pipe_fd = w->pidfd = -1;
    w->pid = spawn(s, &w->pipe_fd);
    if (w->pid > 0)
        w->pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
    if (w->pidfd < 0) {
        if (w->pid > 0) {
            kill_all(w->pid);
            waitpid(w->pid, NULL, 0);
        }
        w->pid = 0;
        loop_defer(l, &w->over, not_started);
        return w;
    }
    loop_io_start(l, &w->pipe_io, w->pipe_fd, EPOLLIN, on_pipe);
    loop_timer_start(l, &w->timer, s->limit_ns, on_timer);
    return w;
}

void errand_cancel(struct errand *w)
{
    if (!w)
        return;
    if (w->pid > 0) {
        w->done = NULL;
        let_go(w);
        return;
    }
    loop_defer_cancel(&w->over);
    release(w);
}

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

enum errand_end errand_run(const struct errand_spec *s, void *result, int64_t *ret_cpu_ms)
{
    AUTO_CLOSE int fd = -1;
    pid_t pid = spawn(s, &fd);
    int64_t until = now_ns() + s->limit_ns;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    size_t have = 0;
    ssize_t n = 1;

    if (ret_cpu_ms)
        *ret_cpu_ms = 0;
    if (pid < 0)
        return ERRAND_DIED;
    while (have < s->result_size && n > 0) {
        int64_t left = until - now_ns();

        if (left <= 0 || (poll(&p, 1, (int)(left / 1000000) + 1) <= 0 && errno != EINTR)) {
            n = -1;
            break;
        }
        n = read(fd, (char *)result + have, s->result_size - have);
        have += n > 0 ? (size_t)n : 0;
    }
    if (n < 0 && ret_cpu_ms)
        *ret_cpu_ms = cpu_ms_of(pid);
    kill_all(pid);
    waitpid(pid, NULL, 0);
    return have == s->result_size ? ERRAND_DONE : n < 0 ? ERRAND_SILENT : ERRAND_DIED;
}
