/* How a child starts: everything that allocates happens before the fork; between fork and exec only
 * async-signal-safe calls run, because another thread may have held any lock. All signals are
 * blocked across the fork, so no handler of ours ever runs in the child. The child reports a
 * failure through a pipe that exec closes: an end of file there means it runs the program. */
#include "loop/child.h"
#include "loop/internal.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/vec.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define RUN_CAPTURE (64u << 10)
#define STDERR_LINE 1024u

/* What the child does, in order; also what its report names. */
enum stage { STAGE_PARENT, STAGE_SESSION, STAGE_MOUNTS, STAGE_CWD, STAGE_ENTER, STAGE_FDS, STAGE_EXEC };

struct report {
    enum stage stage;
    int errnum;
};

struct launch { /* owned, all of it */
    char *path;
    VEC(char *) env;
    VEC(struct child_fd) fds;              /* .fd is borrowed */
    int input_fd, out_fd, err_fd, null_fd; /* the child's ends */
    int report_fd;
};

static void launch_done(struct launch *n)
{
    free(n->path);
    for (size_t i = 0; i < n->env.n; i++)
        free(n->env.p[i]);
    vec_done(&n->env);
    vec_done(&n->fds);
    fd_close(&n->input_fd);
    fd_close(&n->out_fd);
    fd_close(&n->err_fd);
    fd_close(&n->null_fd);
    fd_close(&n->report_fd);
}

/* In the child */

static _Noreturn void fail(int report_fd, enum stage stage)
{
    struct report report = {stage, errno};

    if (write(report_fd, &report, sizeof report) < 0)
        _exit(126);
    _exit(127);
}

static void reset_signals(void)
{
    /* By the system call: glibc refuses its own two signals, and an ignored one of them would be inherited for ever. Zeros are
     * the kernel's SIG_DFL without flags and mask. SIGKILL and SIGSTOP refuse. */
    const unsigned long plain[8] = {0};

    for (int signo = 1; signo < NSIG; signo++)
        syscall(SYS_rt_sigaction, signo, plain, NULL, 8);
}

/* All sources first move above every target, so that no dup2 overwrites a source still to come. */
static int place_fds(struct launch *n)
{
    int above = 3;

    for (size_t i = 0; i < n->fds.n; i++)
        if (n->fds.p[i].target >= above)
            above = n->fds.p[i].target + 1;
    n->report_fd = fcntl(n->report_fd, F_DUPFD_CLOEXEC, above);
    if (n->report_fd < 0)
        return -1;
    for (size_t i = 0; i < n->fds.n; i++) {
        n->fds.p[i].fd = fcntl(n->fds.p[i].fd, F_DUPFD_CLOEXEC, above);
        if (n->fds.p[i].fd < 0)
            return -1;
    }
    /* Ours are O_CLOEXEC already; a library's may not be. */
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return -1;
    for (size_t i = 0; i < n->fds.n; i++)
        if (dup2(n->fds.p[i].fd, n->fds.p[i].target) < 0)
            return -1;
    return 0;
}

static int own_mounts(const char *const *unmount)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return -1;
    for (; unmount && *unmount; unmount++)
        if (umount2(*unmount, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
            return -1;
    return 0;
}

static _Noreturn void run_child(const struct child_spec *spec, struct launch *n, pid_t parent)
{
    int report_fd = n->report_fd;
    sigset_t none;

    if (spec->die_with_parent) {
        pid_t now;

        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
            fail(report_fd, STAGE_PARENT);
        now = getppid(); /* 0: outside of our pid namespace, which it may have just made */
        if (now != parent && now != 0)
            _exit(127);
    }
    if (spec->new_session && setsid() < 0)
        fail(report_fd, STAGE_SESSION);
    if (spec->private_mounts && own_mounts(spec->unmount) < 0)
        fail(report_fd, STAGE_MOUNTS);
    if (spec->cwd && chdir(spec->cwd) < 0)
        fail(report_fd, STAGE_CWD);
    if (spec->enter && (errno = spec->enter(spec->enter_data)) != 0)
        fail(report_fd, STAGE_ENTER);
    if (place_fds(n) < 0)
        fail(n->report_fd >= 0 ? n->report_fd : report_fd, STAGE_FDS);
    reset_signals();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(n->path, (char *const *)(uintptr_t)spec->argv, n->env.p);
    fail(n->report_fd, STAGE_EXEC);
}

/* In the parent */

static pid_t fork_into(int cgroup_fd)
{
    if (cgroup_fd > 0) {
        struct clone_args args = {
            .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup_fd};
        long pid = syscall(SYS_clone3, &args, sizeof args);

        if (pid >= 0)
            return (pid_t)pid;
    }
    return fork();
}

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

bool child_find_program(const char *name, char **ret, struct error *err)
{
    const char *path = getenv("PATH");
    struct str rest = str_of(path ? path : PATH_DEFAULT), dir;

    if (strchr(name, '/')) {
        *ret = xstrdup(name);
        return true;
    }
    while (str_next(&rest, ':', &dir)) {
        AUTO_FREE char *candidate = NULL;

        if (dir.n == 0 || dir.p[0] != '/') /* the working directory is no place for programs */
            continue;
        candidate = xasprintf(STR_FMT "/%s", STR_ARG(dir), name);
        if (is_program(candidate)) {
            *ret = TAKE(candidate);
            return true;
        }
    }
    return error_set(err, ERROR_NOT_FOUND, "%s: not found in PATH", name);
}

static void copy_env(struct launch *n, const char *const *env)
{
    static const char *const kept[] = {"PATH", "HOME", "LANG"};

    for (; env && *env; env++)
        vec_push(&n->env, xstrdup(*env));
    for (size_t i = 0; !env && i < ARRAY_SIZE(kept); i++) {
        const char *value = getenv(kept[i]);

        if (value)
            vec_push(&n->env, xasprintf("%s=%s", kept[i], value));
        else if (i == 0)
            vec_push(&n->env, xstrdup("PATH=" PATH_DEFAULT));
    }
    vec_push(&n->env, NULL);
}

/* A file in memory and not a pipe: the child reads at its own pace, and nobody has to feed it. */
static bool make_input(struct str input, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd = memfd_create("stdin", MFD_CLOEXEC);

    if (fd < 0)
        return error_errno(err, errno, "memfd_create");
    if (!file_write_all(fd, input, err))
        return false;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "rewind stdin");
    *ret_fd = TAKE_FD(fd);
    return true;
}

static bool make_capture(int *ret_ours, int *ret_theirs, struct error *err)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "pipe");
    *ret_ours = ends[0];
    *ret_theirs = ends[1];
    return file_set_nonblock(ends[0], err);
}

static bool maps(const struct child_spec *spec, int target)
{
    for (size_t i = 0; i < spec->n_fds; i++)
        if (spec->fds[i].target == target)
            return true;
    return false;
}

static bool prepare(const struct child_spec *spec, struct child *c, struct launch *n,
                    struct error *err)
{
    if (!child_find_program(spec->argv[0], &n->path, err))
        return false;
    copy_env(n, spec->env);
    for (size_t i = 0; i < spec->n_fds; i++)
        vec_push(&n->fds, spec->fds[i]);
    if (spec->input.p) {
        if (!make_input(spec->input, &n->input_fd, err))
            return false;
        vec_push(&n->fds, (struct child_fd){n->input_fd, 0});
    } else if (!maps(spec, 0)) {
        n->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (n->null_fd < 0)
            return error_errno(err, errno, "open /dev/null");
        vec_push(&n->fds, (struct child_fd){n->null_fd, 0});
    }
    if (spec->capture_limit > 0 && !maps(spec, 1)) {
        if (!make_capture(&c->out_fd, &n->out_fd, err))
            return false;
        vec_push(&n->fds, (struct child_fd){n->out_fd, 1});
    }
    if (spec->capture_limit > 0 && !maps(spec, 2)) {
        if (!make_capture(&c->err_fd, &n->err_fd, err))
            return false;
        vec_push(&n->fds, (struct child_fd){n->err_fd, 2});
    }
    return true;
}

static bool report_error(const struct report *report, const struct child_spec *spec,
                         struct error *err)
{
    static const char *const what[] = {[STAGE_PARENT] = "set the parent death signal",
                                       [STAGE_SESSION] = "start a session",
                                       [STAGE_MOUNTS] = "make a mount namespace",
                                       [STAGE_CWD] = "change directory",
                                       [STAGE_ENTER] = "confine it",
                                       [STAGE_FDS] = "place descriptors",
                                       [STAGE_EXEC] = NULL};

    if (report->stage == STAGE_EXEC)
        return error_errno(err, report->errnum, "start %s", spec->argv[0]);
    return error_errno(err, report->errnum, "start %s: %s", spec->argv[0],
                       report->stage < ARRAY_SIZE(what) ? what[report->stage] : "prepare");
}

static bool start_process(const struct child_spec *spec, struct launch *n, pid_t *ret_pid,
                          struct error *err)
{
    AUTO_CLOSE int report_in = -1;
    struct report report;
    sigset_t all, before;
    pid_t pid, parent = getpid();
    ssize_t got;
    int ends[2], saved;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "start %s: pipe", spec->argv[0]);
    report_in = ends[0];
    n->report_fd = ends[1];
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = fork_into(spec->cgroup_fd);
    if (pid == 0)
        run_child(spec, n, parent);
    saved = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return error_errno(err, saved, "start %s: fork", spec->argv[0]);
    fd_close(&n->report_fd);
    do
        got = read(report_in, &report, sizeof report);
    while (got < 0 && errno == EINTR);
    if (got == 0) {
        *ret_pid = pid;
        return true;
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (got != (ssize_t)sizeof report)
        return error_set(err, ERROR_INTERNAL, "start %s: no report", spec->argv[0]);
    return report_error(&report, spec, err);
}

/* Whoever started us may have left SIGCHLD ignored: execve keeps that, and every status is lost. */
static void keep_statuses(void)
{
    struct sigaction now;

    if (sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_IGN) {
        now = (struct sigaction){.sa_handler = SIG_DFL};
        sigaction(SIGCHLD, &now, NULL);
    }
}

/* Running */

static int collect(pid_t pid)
{
    int status;
    pid_t got;

    do
        got = waitpid(pid, &status, 0); /* the pidfd said it has ended: does not block */
    while (got < 0 && errno == EINTR);
    return got == pid ? status : W_EXITCODE(255, 0); /* someone else took it */
}

static void finish(struct child *c)
{
    if (c->reaped && c->out_fd < 0 && c->err_fd < 0)
        c->exited(c); /* last: it may start c again */
}

static void child_ended(struct loop_io *io, uint32_t events)
{
    struct child *c = container_of(io, struct child, exit_io);

    (void)events;
    loop_io_stop(&c->exit_io);
    fd_close(&c->pidfd);
    c->status = collect(c->pid);
    c->pid = 0;
    c->reaped = true;
    finish(c);
}

static void keep(struct buf *to, const char *p, size_t n, bool tail)
{
    if (n > to->limit) {
        p += tail ? n - to->limit : 0;
        n = to->limit;
        to->overflow = !tail;
    }
    if (n > to->limit - to->n) {
        if (tail) {
            /* Half at least, so that a talkative child costs no copy per line. */
            size_t drop = n - (to->limit - to->n);

            buf_consume(to, drop > to->limit / 2 ? drop : to->limit / 2);
        } else {
            n = to->limit - to->n;
            buf_add(to, p, n);
            to->overflow = true;
            return;
        }
    }
    buf_add(to, p, n);
}

/* Whatever does not fit is read all the same: a full pipe would stop the child. */
static void capture(struct child *c, struct loop_io *io, int *fd, struct buf *to, bool tail)
{
    char bytes[16384];
    ssize_t n = read(*fd, bytes, sizeof bytes);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        keep(to, bytes, (size_t)n, tail);
        return;
    }
    loop_io_stop(io);
    fd_close(fd);
    finish(c);
}

static void out_ready(struct loop_io *io, uint32_t events)
{
    struct child *c = container_of(io, struct child, out_io);

    (void)events;
    capture(c, io, &c->out_fd, &c->out, false);
}

static void err_ready(struct loop_io *io, uint32_t events)
{
    struct child *c = container_of(io, struct child, err_io);

    (void)events;
    capture(c, io, &c->err_fd, &c->err_out, true);
}

bool child_start(struct loop *l, struct child *c, const struct child_spec *spec,
                 void (*exited)(struct child *), struct error *err)
{
    AUTO(launch_done)
    struct launch n = {.input_fd = -1, .out_fd = -1, .err_fd = -1, .null_fd = -1, .report_fd = -1};

    child_done(c);
    keep_statuses();
    c->pidfd = c->out_fd = c->err_fd = -1;
    if (!prepare(spec, c, &n, err) || !start_process(spec, &n, &c->pid, err))
        goto failed;
    c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    if (c->pidfd < 0) {
        error_errno(err, errno, "start %s: pidfd_open", spec->argv[0]);
        kill(c->pid, SIGKILL); /* not yet collected: the number is still its own */
        collect(c->pid);
        goto failed;
    }
    c->loop = l;
    c->exited = exited;
    buf_init(&c->out, spec->capture_limit ? spec->capture_limit : 1);
    buf_init(&c->err_out, spec->capture_limit ? spec->capture_limit : 1);
    loop_io_start(l, &c->exit_io, c->pidfd, EPOLLIN, child_ended);
    if (c->out_fd >= 0)
        loop_io_start(l, &c->out_io, c->out_fd, EPOLLIN, out_ready);
    if (c->err_fd >= 0)
        loop_io_start(l, &c->err_io, c->err_fd, EPOLLIN, err_ready);
    return true;

failed:
    fd_close(&c->out_fd);
    fd_close(&c->err_fd);
    *c = (struct child){0};
    return false;
}

void child_kill(struct child *c, int signo)
{
    if (c->loop && !c->reaped)
        syscall(SYS_pidfd_send_signal, c->pidfd, signo, NULL, 0);
}

/* A process whose owner has lost interest, until it can be collected. */
struct orphan {
    struct loop_owned owned;
    struct loop_io io;
    pid_t pid;
    int pidfd;
};

static void orphan_drop(struct loop_owned *owned)
{
    struct orphan *o = container_of(owned, struct orphan, owned);

    loop_io_stop(&o->io);
    fd_close(&o->pidfd);
    free(o);
}

static void orphan_ended(struct loop_io *io, uint32_t events)
{
    struct orphan *o = container_of(io, struct orphan, io);

    (void)events;
    collect(o->pid);
    loop_disown(&o->owned);
    orphan_drop(&o->owned);
}

void child_done(struct child *c)
{
    if (!c || !c->loop)
        return;
    loop_io_stop(&c->exit_io);
    loop_io_stop(&c->out_io);
    loop_io_stop(&c->err_io);
    fd_close(&c->out_fd);
    fd_close(&c->err_fd);
    if (!c->reaped) {
        struct orphan *o = NEW(struct orphan);

        o->pid = c->pid;
        o->pidfd = TAKE_FD(c->pidfd);
        loop_own(c->loop, &o->owned, orphan_drop);
        loop_io_start(c->loop, &o->io, o->pidfd, EPOLLIN, orphan_ended);
    }
    buf_done(&c->out);
    buf_done(&c->err_out);
    *c = (struct child){0};
}

bool child_ok(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static struct str last_line(struct str text)
{
    struct str before, line;

    text = str_trim(text);
    if (!str_rcut(text, '\n', &before, &line))
        line = text;
    return str_take(str_trim(line), STDERR_LINE);
}

void child_describe(int status, struct str stderr_text, struct buf *out)
{
    struct str line = last_line(stderr_text);

    if (WIFSIGNALED(status))
        buf_addf(out, "killed by signal %d", WTERMSIG(status));
    else
        buf_addf(out, "exit %d", WEXITSTATUS(status));
    if (line.n > 0)
        buf_addf(out, ": " STR_FMT, STR_ARG(line));
}

/* Blocking form */

struct run {
    struct child child;
    bool over;
};

static void run_over(struct child *c)
{
    container_of(c, struct run, child)->over = true;
}

static bool run_wait(struct loop *l, struct run *r, int64_t timeout_ns)
{
    int64_t until = loop_now_ns(l) + timeout_ns;
    bool lingering = false;

    while (!r->over) {
        int64_t now = loop_now_ns(l);

        /* A daemon that it left behind may hold its pipes for ever. */
        if (r->child.reaped && !lingering) {
            lingering = true;
            if (until > now + SECONDS(1))
                until = now + SECONDS(1);
        }
        if (now >= until)
            return r->child.reaped;
        loop_turn(l, until - now);
    }
    return true;
}

bool child_run(const struct child_spec *spec, int64_t timeout_ns, struct buf *out,
               struct error *err)
{
    struct child_spec captured = *spec;
    struct loop *l = loop_new(NULL);
    struct run r = {0};
    bool ok = false;

    if (captured.capture_limit == 0)
        captured.capture_limit = out && out->limit > RUN_CAPTURE ? out->limit : RUN_CAPTURE;
    if (!child_start(l, &r.child, &captured, run_over, err))
        goto done;
    if (!run_wait(l, &r, timeout_ns)) {
        child_kill(&r.child, SIGKILL);
        if (!run_wait(l, &r, SECONDS(5)))
            error_set(err, ERROR_TIMEOUT, "%s does not die", spec->argv[0]);
        else
            error_set(err, ERROR_TIMEOUT, "%s took longer than %lld ms", spec->argv[0],
                      (long long)(timeout_ns / 1000000));
        goto done;
    }
    if (!child_ok(r.child.status)) {
        AUTO(buf_done) struct buf why = {0};

        child_describe(r.child.status, buf_str(&r.child.err_out), &why);
        error_set(err, ERROR_INTERNAL, "%s: " STR_FMT, spec->argv[0], STR_ARG(buf_str(&why)));
        goto done;
    }
    ok = true;
    if (out) {
        buf_addstr(out, buf_str(&r.child.out));
        out->overflow |= r.child.out.overflow;
        ok = buf_ok(out, "output", err) || error_wrap(err, "%s", spec->argv[0]);
    }
done:
    child_done(&r.child);
    loop_free(l);
    return ok;
}
