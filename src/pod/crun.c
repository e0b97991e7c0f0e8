/* The container's process: started by crun, which then leaves; watched by a pidfd; ended by signals to its init. */
#include "pod/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/kv.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "vmm/proto.h"

#define CRUN_TIMEOUT_NS  SECONDS(30)
#define CRUN_BYTES_MAX   (16u << 20)
#define BOOST_NS         SECONDS(20) /* of a guest that does not come to run */
#define EXIT_POLL_NS     MILLIS(2)
#define EXIT_POLLS       50
#define KILL_POLL_NS     MILLIS(20)
#define RELEASE_RETRY_NS SECONDS(2)
#define MESSAGE_BYTES    4096 /* as the kubelet's limit */
#define LOG_TAIL_BYTES   2048

static const char *const hidden[] = {"/sys/fs/cgroup/unified", NULL};

/* Beside version 1 hierarchies crun 1.8 takes the mounted version 2 for the one to use, and fails. */
static void hide_unified(const struct pod_runtime *r, struct child_spec *spec)
{
    spec->private_mounts = r->hybrid;
    spec->unmount = r->hybrid ? hidden : NULL;
}

/* Before it does anything, crun copies itself into sealed memory and executes that, lest a container overwrites the program
 * (CVE-2019-5736): 3 to 5 ms of each call. It leaves that out when it runs from such a copy already, so one serves all. */
static const char *crun_program(struct pod_runtime *r)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf text = {0};
    AUTO_FREE char *path = NULL;
    AUTO_CLOSE int fd = -1;
    struct stat st;

    if (!child_find_program("crun", &path, &err) || stat(path, &st) < 0)
        return "crun"; /* whose start says what is wrong */
    if (r->crun_fd >= 0 && st.st_dev == r->crun_copied.st_dev && st.st_ino == r->crun_copied.st_ino
        && st.st_size == r->crun_copied.st_size && st.st_mtim.tv_sec == r->crun_copied.st_mtim.tv_sec
        && st.st_mtim.tv_nsec == r->crun_copied.st_mtim.tv_nsec)
        return r->crun_path;
    fd_close(&r->crun_fd);
    buf_init(&text, CRUN_BYTES_MAX);
    fd = memfd_create("crun", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || !file_read(AT_FDCWD, path, &text, &err) || !str_starts(buf_str(&text), STR("\177ELF")) /* no wrapper */
        || !file_write_all(fd, buf_str(&text), &err)
        || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return "crun";
    r->crun_fd = TAKE_FD(fd);
    r->crun_copied = st;
    snprintf(r->crun_path, sizeof r->crun_path, "/proc/self/fd/%d", r->crun_fd);
    return r->crun_path;
}

static void write_record(struct pod *p)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dirfd = -1;

    if (!pod_open_dir(p, false, &dirfd, &err) || !record_write(dirfd, &p->rec, &err))
        log_error(pod_tag(p), "%s", error_text(&err));
}

/* ---- the end ---- */

/* The launcher's own record says how the machine ended, also to who was not there. */
static bool read_termination(int pod_dirfd, bool *ret_crashed)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    buf_init(&text, LIMIT_PROTO_MESSAGE);
    if (!file_read(pod_dirfd, DIR_EMPTY "/private/" TERMINATION_NAME, &text, &err) || !json_parse(buf_str(&text), &a, &v, &err))
        return false;
    *ret_crashed = str_is(json_str_at(v, "domain/state"), "crashed");
    return true;
}

static char *read_message(int pod_dirfd, bool failed)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;
    char bytes[MESSAGE_BYTES];
    ssize_t n = -1;

    if (file_open_beneath(pod_dirfd, TERMINATION_LOG, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd, &err))
        n = read(fd, bytes, sizeof bytes);
    if (n > 0)
        return log_clean(str_n(bytes, (size_t)n));
    return failed ? log_tail(pod_dirfd, LOG_TAIL_BYTES) : NULL;
}

/* Its own log goes with the pod, and a VM that is to run gets a new pod at once. */
static void log_end(const struct pod *p)
{
    const struct record *rec = &p->rec;
    struct str text = str_trim(str_of(rec->message)), before, line;

    if (!str_rcut(text, '\n', &before, &line))
        line = text;
    if (rec->exit_code == 0)
        log_info(pod_tag(p), "ended");
    else
        log_warning(pod_tag(p), "ended, exit code %d (%s)%s" STR_FMT, rec->exit_code, rec->reason, line.n ? ": " : "",
                    STR_ARG(line));
}

static void finish(struct pod *p, const int *wait_status)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dirfd = -1;
    struct record *rec = &p->rec;
    bool crashed = false, open, unknown = false;

    fd_close(&p->pidfd);
    loop_timer_stop(&p->grace);
    loop_timer_stop(&p->boost);
    p->state = POD_ENDED;
    open = pod_open_dir(p, false, &dirfd, &err);
    if (wait_status) {
        rec->signal = WIFSIGNALED(*wait_status) ? WTERMSIG(*wait_status) : 0;
        rec->exit_code = rec->signal ? 128 + rec->signal : WEXITSTATUS(*wait_status);
    } else if (open && read_termination(dirfd, &crashed)) {
        rec->exit_code = crashed ? 1 : 0;
    } else {
        rec->exit_code = 137;
        unknown = true;
    }
    rec->finished_ns = loop_unix_ns(p->r->loop);
    rec->phase = RECORD_ENDED;
    free(rec->reason);
    free(rec->message);
    rec->reason = xstrdup(rec->exit_code == 0                           ? "Completed"
                          : cgroup_oom(p->r->instance, rec->uid)        ? "OOMKilled"
                          : unknown                                     ? "ContainerStatusUnknown"
                                                                        : "Error");
    rec->message = open ? read_message(dirfd, rec->exit_code != 0) : NULL;
    if (p->reboot && rec->exit_code != 0) {
        free(rec->message);
        rec->message = xstrdup("the host was restarted while the pod ran");
    }
    if (open && !record_write(dirfd, rec, &err))
        log_error(pod_tag(p), "%s", error_text(&err));
    log_end(p);
    pod_publish(p, PUBLISH_ENDED);
    pod_wake_waiting(p->r);
    pod_release(p);
}

static void find_status(struct pod *p);

static void exit_poll(struct loop_timer *t) { find_status(container_of(t, struct pod, exit_wait)); }

static void find_status(struct pod *p)
{
    bool again = false;
    int status;

    if (process_wait_status(p->pidfd, &status, &again))
        finish(p, &status);
    else if (again && p->exit_tries++ < EXIT_POLLS)
        loop_timer_start(p->r->loop, &p->exit_wait, EXIT_POLL_NS, exit_poll);
    else
        finish(p, NULL);
}

static void init_exited(struct loop_io *io, uint32_t events)
{
    struct pod *p = container_of(io, struct pod, exit_io);

    (void)events;
    loop_io_stop(&p->exit_io);
    p->state = POD_ENDED;
    find_status(p);
}

void pod_watch_init(struct pod *p)
{
    p->state = POD_RUNNING;
    loop_io_start(p->r->loop, &p->exit_io, p->pidfd, EPOLLIN, init_exited);
}

void pod_ended_unseen(struct pod *p) { finish(p, NULL); }

/* ---- the start ---- */

static bool read_pid(int pod_dirfd, pid_t *ret, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};
    uint64_t pid;

    buf_init(&text, 32);
    if (!file_read(pod_dirfd, "bundle/pid", &text, err) || !parse_u64(str_trim(buf_str(&text)), INT32_MAX, &pid, err))
        return error_wrap(err, "crun's pid file");
    *ret = (pid_t)pid;
    return true;
}

static bool adopt_init(struct pod *p, int dirfd, struct error *err)
{
    if (!read_pid(dirfd, &p->rec.pid, err) || !process_start_ticks(p->rec.pid, &p->rec.start_ticks, err))
        return false;
    p->pidfd = process_open(p->rec.pid, p->rec.start_ticks);
    if (p->pidfd < 0)
        return error_set(err, ERROR_INTERNAL, "its first process ended at once");
    return true;
}

static void crun_error(int dirfd, int status, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(buf_done) struct buf why = {0};
    AUTO(error_clear) struct error unread = {0};

    buf_init(&text, 64 << 10);
    if (!file_read(dirfd, "bundle/crun.log", &text, &unread))
        buf_clear(&text);
    child_describe(status, buf_str(&text), &why);
    AUTO_FREE char *clean = log_clean(buf_str(&why));
    error_set(err, ERROR_INTERNAL, "crun: %s", clean);
}

void pod_boost_end(struct pod *p)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *container = json_item(json_at(pod_object(p, &a), "spec/containers"), 0);

    /* Adopted, and not yet seen in the API: later. */
    if (!container || p->state != POD_RUNNING)
        return;
    loop_timer_stop(&p->boost);
    if (!cgroup_weigh(p->r->instance, p->rec.uid, config_cpu_shares(container), &err))
        log_debug(pod_tag(p), "%s, ignoring", error_text(&err));
}

static void boost_over(struct loop_timer *t) { pod_boost_end(container_of(t, struct pod, boost)); }

void pod_boost_begun(struct pod *p) { loop_timer_start(p->r->loop, &p->boost, BOOST_NS, boost_over); }

static void crun_ended(struct child *c)
{
    struct pod *p = container_of(c, struct pod, crun);
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dirfd = -1;
    int status = c->status;
    bool ok;

    child_done(c);
    loop_timer_stop(&p->crun_timeout);
    pod_step_soon(p);
    ok = pod_open_dir(p, false, &dirfd, &err);
    if (ok && !child_ok(status)) {
        crun_error(dirfd, status, &err);
        ok = false;
    }
    if (!ok || !adopt_init(p, dirfd, &err)) {
        pod_failed(p, "Failed", "CreateContainerError", &err);
        pod_kill_leftovers(p);
        return;
    }
    /* As the kubelet weighs all pods: without this they would together weigh as much as one process of the host. */
    if (!cgroup_weigh(p->r->instance, NULL, 1024 * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN), &err)) {
        log_debug(pod_tag(p), "%s, ignoring", error_text(&err));
        error_clear(&err);
    }
    pod_boost_begun(p);
    p->failures = 0;
    p->rec.phase = RECORD_STARTED;
    p->rec.started_ns = loop_unix_ns(p->r->loop);
    pod_watch_init(p);
    pod_publish(p, PUBLISH_RUNNING);
    write_record(p);
    log_info(pod_tag(p), "started, pid %d, address %s", (int)p->rec.pid, p->rec.ip);
    pod_event(p, "Normal", "Started", "Started container compute");
}

static void crun_hangs(struct loop_timer *t)
{
    struct pod *p = container_of(t, struct pod, crun_timeout);

    log_error(pod_tag(p), "crun does not come back, killing it");
    child_kill(&p->crun, SIGKILL);
}

static bool crun_start(struct pod *p, struct error *err)
{
    AUTO_FREE char *root = xasprintf("%s/run/crun", p->r->dir), *bundle = xasprintf("%s/pods/%s/bundle", p->r->dir, p->rec.uid);
    AUTO_FREE char *pid = xasprintf("%s/pid", bundle), *log = xasprintf("%s/crun.log", bundle);
    AUTO_FREE char *state = xasprintf("run/crun/%s", p->rec.uid);
    AUTO_CLOSE int dirfd = -1, out = -1;
    const char *const argv[] = {crun_program(p->r), "--root", root, "--log", log, "--cgroup-manager", "cgroupfs", "run",
                                "--detach", "--pid-file", pid, "--bundle", bundle, p->rec.uid, NULL};
    struct child_spec spec = {.argv = argv, .input = STR(""), .die_with_parent = true};

    if (!pod_open_dir(p, false, &dirfd, err) || !file_remove_tree(p->r->dirfd, state, err) /* of a boot or attempt before */
        || !file_open_beneath(dirfd, LOG_NAME, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0640, &out, err))
        return false;
    unlinkat(dirfd, "bundle/pid", 0);
    unlinkat(dirfd, "bundle/crun.log", 0);
    /* Never our /dev/null as stdin: crun gives the container's user whatever stands there. */
    spec.fds = (const struct child_fd[]){{out, 1}, {out, 2}};
    spec.n_fds = 2;
    hide_unified(p->r, &spec);
    if (child_start(p->r->loop, &p->crun, &spec, crun_ended, err))
        return true;
    if (err->kind == ERROR_NOT_FOUND)
        return error_set(err, ERROR_UNAVAILABLE, "crun is missing, install it (Debian's package is crun)");
    return false;
}

void pod_crun_run(struct pod *p)
{
    AUTO(error_clear) struct error err = {0};

    p->state = POD_STARTING;
    if (!crun_start(p, &err)) {
        pod_failed(p, "FailedCreatePodSandBox", "CreateContainerError", &err);
        return;
    }
    loop_timer_start(p->r->loop, &p->crun_timeout, CRUN_TIMEOUT_NS, crun_hangs);
}

/* ---- the end that we want ---- */

static void grace_over(struct loop_timer *t)
{
    struct pod *p = container_of(t, struct pod, grace);

    log_info(pod_tag(p), "did not end in its grace period, killing it");
    process_signal(p->pidfd, SIGKILL);
}

void pod_stop(struct pod *p, int64_t grace_ns)
{
    if (p->state != POD_RUNNING)
        return;
    if (!p->stop_asked) {
        p->stop_asked = true;
        log_info(pod_tag(p), "asked to end within %lld s", (long long)(grace_ns / SECONDS(1)));
        process_signal(p->pidfd, SIGTERM);
    } else if (!loop_timer_active(&p->grace) || p->grace.due_ns <= loop_now_ns(p->r->loop) + grace_ns) {
        return; /* its time is over or runs out earlier */
    }
    loop_timer_start(p->r->loop, &p->grace, grace_ns, grace_over);
}

static void leftovers_poll(struct loop_timer *t) { pod_kill_leftovers(container_of(t, struct pod, exit_wait)); }

void pod_kill_leftovers(struct pod *p)
{
    p->state = POD_KILLING;
    if (cgroup_any(p->r->instance, p->rec.uid)) {
        cgroup_kill(p->r->instance, p->rec.uid);
        loop_timer_start(p->r->loop, &p->exit_wait, KILL_POLL_NS, leftovers_poll);
        return;
    }
    p->state = POD_IDLE;
    pod_wake_waiting(p->r);
    pod_step_soon(p);
}

/* ---- giving back ---- */

static void release_network(struct pod *p);

static void release_retry(struct loop_timer *t) { release_network(container_of(t, struct pod, exit_wait)); }

static void network_gone(void *user, const struct error *err)
{
    struct pod *p = op_end(user, NULL);
    AUTO(error_clear) struct error unused = {0};
    AUTO_CLOSE int dirfd = -1;

    if (!p)
        return;
    p->net_busy = false;
    if (err && err->kind != ERROR_NONE) {
        log_warning(pod_tag(p), "taking its network away: %s, retrying", error_text(err));
        loop_timer_start(p->r->loop, &p->exit_wait, RELEASE_RETRY_NS, release_retry);
        return;
    }
    AUTO_FREE char *netns = xasprintf("%s/run/netns/%s", p->r->dir, p->rec.uid);
    while (umount2(netns, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ; /* whatever lies on it */
    unlink(netns);
    if (pod_open_dir(p, false, &dirfd, &unused))
        volumes_unmount(p, dirfd);
    p->state = POD_RELEASED;
    pod_step_soon(p);
}

static void release_network(struct pod *p)
{
    AUTO_FREE char *netns = xasprintf("%s/run/netns/%s", p->r->dir, p->rec.uid);

    p->net_busy = true;
    network_pod_del(p->r->network, p->rec.uid, netns, network_gone, op_new(p, NULL));
}

static void container_removed(struct child *c)
{
    struct pod *p = container_of(c, struct pod, crun);
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *state = xasprintf("run/crun/%s", p->rec.uid);

    child_done(c);
    /* Its own complaints ("does not exist") do not matter: what it should have removed is looked after. */
    if (!file_remove_tree(p->r->dirfd, state, &err))
        log_warning(pod_tag(p), "%s, ignoring", error_text(&err));
    cgroup_remove(p->r->instance, p->rec.uid);
    release_network(p);
}

void pod_release(struct pod *p)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *root = xasprintf("%s/run/crun", p->r->dir);
    const char *const argv[] = {crun_program(p->r), "--root", root, "--cgroup-manager", "cgroupfs", "delete", "--force",
                                p->rec.uid, NULL};
    struct child_spec spec = {.argv = argv, .capture_limit = 4096, .die_with_parent = true};

    p->state = POD_RELEASING;
    hide_unified(p->r, &spec);
    if (!child_start(p->r->loop, &p->crun, &spec, container_removed, &err)) {
        log_warning(pod_tag(p), "%s, ignoring", error_text(&err));
        release_network(p);
    }
}

bool pod_remove_files(struct pod *p, struct error *err)
{
    AUTO_CLOSE int dirfd = -1;

    if (pod_open_dir(p, false, &dirfd, err))
        volumes_unmount(p, dirfd);
    else if (err->kind != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    return file_remove_tree(p->r->pods_fd, p->rec.uid, err);
}
