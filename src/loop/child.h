/* loop/child - child processes by pidfd: no SIGCHLD handler, no lost exit, no recycled pid.
 *
 * Spawned with posix_spawn-like care: closes all descriptors but those given, resets signals, optional
 * cwd, environment, and PR_SET_PDEATHSIG. stdout and stderr can be captured up to a limit. */
#pragma once
#include "base/buf.h"
#include "loop/loop.h"

struct child_fd {
    int fd;     /* borrowed; dup'ed into the child */
    int target; /* its number there (≥ 0) */
};
struct child_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is searched in PATH unless it has a slash */
    const char *const *env;  /* NULL: PATH, HOME, LANG of this process only */
    const struct child_fd *fds;
    size_t n_fds;
    struct str input;        /* copied, and read by its stdin; absent: /dev/null unless fds maps 0 */
    size_t capture_limit;    /* 0: stdout and stderr are inherited (or mapped by fds); beyond it stdout is
                                cut (out.overflow), of stderr the end is kept */
    bool die_with_parent;    /* PR_SET_PDEATHSIG SIGKILL: with the *thread* that starts it */
    bool new_session;        /* setsid() */
    int cgroup_fd;           /* > 0: clone into this cgroup where the kernel can (v2); else ignored */
    const char *cwd;         /* NULL: ours */
    bool private_mounts;     /* a mount namespace of its own, into which the host's changes still come; needs root */
    const char *const *unmount; /* NULL-terminated: taken away in there first; what is no mount is skipped. May be NULL */
    int (*enter)(void *data);   /* last thing in the child before its descriptors and exec; async-signal-safe: 0 or errno. May be NULL */
    void *enter_data;
};

struct child {
    struct loop *loop;
    pid_t pid; /* 0 when none, and from its end on */
    int pidfd;
    int status; /* as waitpid, valid in the callback */
    struct buf out, err_out; /* captured */
    void (*exited)(struct child *c);
    struct loop_io exit_io, out_io, err_io;
    int out_fd, err_fd;
    bool reaped;
};

/* A zeroed child is empty; one in use is forgotten first. What keeps it from starting (a missing program too) is
 * the error here, never a callback. The callback comes when the process has ended *and* captured pipes are at
 * their end; it may start or forget the same child. */
MUST_CHECK bool child_start(struct loop *l, struct child *c, const struct child_spec *spec,
                            void (*exited)(struct child *), struct error *err);
/* Where child_start would find it: names with a slash as they are, others in PATH. Owned; ERROR_NOT_FOUND. */
MUST_CHECK bool child_find_program(const char *name, char **ret, struct error *err);
void child_kill(struct child *c, int signo); /* by pidfd; nothing when it ended */
void child_done(struct child *c);            /* forgets (does not kill) it, its zombie is still collected; releases buffers */

/* out gets its stdout, and may be NULL. Blocking form for short tools in processes of their own (launcher, fetcher, tests): runs to the end, at most
 * timeout_ns, then SIGKILL and ERROR_TIMEOUT. A non-zero exit is ERROR_INTERNAL with the last stderr line. */
MUST_CHECK bool child_run(const struct child_spec *spec, int64_t timeout_ns, struct buf *out, struct error *err);
bool child_ok(int status);
/* "exit 1: <last line of stderr>" or "killed by signal 9" */
void child_describe(int status, struct str stderr_text, struct buf *out);
