/* The driver: a machine's life, over the lives of its processes. */
#include "vmm/firecracker/firecracker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"

#define TERM_GRACE_NS SECONDS(5)
#define SHORTEST_NS   SECONDS(1) /* between two boots: a guest that resets itself at once must not keep the node busy */
#define DIR_NAME      "firecracker"

/* ---- the end of a process ---- */

/* What its exit codes say (FcExitCode); 0 is a guest that reset itself. */
static const char *meaning(int status)
{
    static const struct {
        int code;
        const char *what;
    } table[] = {
        {148, "it made a system call that its seccomp list refuses; the node's libc or kernel is not what this Firecracker was "
              "built for"},
        {149, "SIGBUS: the node ran out of huge pages, or a disk's file became shorter"},
        {150, "SIGSEGV"},
        {151, "SIGXFSZ: a disk's file grew beyond its limit"},
        {153, "it does not know its arguments: another version than this driver was made for"},
        {154, "SIGXCPU"},
        {157, "SIGILL"},
    };

    for (size_t i = 0; WIFEXITED(status) && i < ARRAY_SIZE(table); i++)
        if (WEXITSTATUS(status) == table[i].code)
            return table[i].what;
    return NULL;
}

static bool boot(struct fc *f, struct error *err);

static void boot_again(struct fc *f)
{
    AUTO(error_clear) struct error err = {0};

    if (boot(f, &err))
        return;
    log_warning("firecracker", "restart: %s", error_text(&err));
    fc_process_await_end(f);
    f->base.status.pid = 0;
    vmm_set(&f->base, VMM_CRASHED, VMM_REASON_VMM_KILLED, "the machine could not be started again: %s", error_text(&err));
}

static void again_now(struct loop_timer *t)
{
    boot_again(container_of(t, struct fc, again_timer));
}

static void begin_anew(struct fc *f)
{
    int64_t lived = loop_now_ns(f->base.loop) - f->now.since_ns;

    f->base.status.reboots++;
    f->again = f->resetting = false;
    fc_process_done(f);
    vmm_changed(&f->base);
    if (lived < SHORTEST_NS)
        loop_timer_start(f->base.loop, &f->again_timer, SHORTEST_NS - lived, again_now);
    else
        boot_again(f);
}

static void over(struct fc *f)
{
    loop_io_stop(&f->port_io);
    fd_close(&f->port_fd); /* whoever holds the console sees its end */
    unlinkat(f->dir_fd, FC_SOCKET, 0);
    unlinkat(f->dir_fd, FC_VSOCK, 0);
}

/* The one place where a machine's end is judged. A guest has one way out, a reset, and that ends the process, with 0. What it
 * means is said by who asked for it, and else by the reboot policy, whose default is to boot again. */
void fc_exited(struct fc *f, int status)
{
    struct vmm *v = &f->base;
    AUTO(buf_done) struct buf how = {0};
    bool reset_by_guest = f->now.booted && child_ok(status);

    fc_process_drain(f);
    loop_timer_stop(&f->term_timer);
    v->status.pid = 0;
    if (!vmm_alive(v)) {
        over(f);
        return; /* a failed start has said so already */
    }
    if (!f->destroying && (f->resetting || (reset_by_guest && (f->again || (f->config.reboots && !f->asked_off))))) {
        begin_anew(f);
        return;
    }
    child_describe(status, fc_last_words(f), &how);
    if (f->destroying)
        vmm_set(v, VMM_SHUTDOWN, f->asked_off && !f->now.booted ? VMM_REASON_HOST_SHUTDOWN : VMM_REASON_DESTROYED, "%s", "");
    else if (reset_by_guest)
        vmm_set(v, VMM_SHUTDOWN, f->asked_off ? VMM_REASON_HOST_SHUTDOWN : VMM_REASON_GUEST_SHUTDOWN, "%s", "");
    else
        vmm_set(v, VMM_CRASHED, VMM_REASON_VMM_KILLED, "Firecracker ended unexpectedly: " STR_FMT "%s%s", STR_ARG(buf_str(&how)),
                meaning(status) ? ": " : "", meaning(status) ? meaning(status) : "");
    over(f);
}

/* ---- start ---- */

static bool start_guest(struct fc *f, struct error *err)
{
    if (!fc_action(f, "InstanceStart", err))
        return false;
    f->now.booted = true;
    return true;
}

static int kernel_of(const struct fc *f)
{
    for (size_t i = 0; i < f->config.fds.n; i++)
        if (f->config.fds.p[i].target == FC_FD_KERNEL)
            return f->config.fds.p[i].fd;
    return -1;
}

/* A process that is told everything, and its guest started. */
static bool boot(struct fc *f, struct error *err)
{
    return fc_process_start(f, -1, -1, err) && fc_configure(f, err) && fc_check_kernel(kernel_of(f), f->now.version, err)
           && start_guest(f, err);
}

static bool load(struct fc *f, const char *dir, struct error *err)
{
    AUTO_CLOSE int state = -1;
    AUTO_CLOSE int memory = -1;
    AUTO(arena_done) struct arena a = {0};

    if (!fc_open_snapshot(dir, &state, &memory, err) || !fc_process_start(f, state, memory, err)
        || !fc_request(f, "PUT", "/snapshot/load", fc_config_load(&f->config, &a), "snapshot", &a, NULL, err))
        return false;
    f->now.booted = true;
    return true;
}

/* What the configuration needs beyond this call: descriptors of our own, for the next boots. */
static bool keep_descriptors(struct fc *f, struct error *err)
{
    for (size_t i = 0; i < f->config.fds.n; i++) {
        int fd = fcntl(f->config.fds.p[i].fd, F_DUPFD_CLOEXEC, 0);

        if (fd < 0)
            return error_errno(err, errno, "keep a disk's descriptor");
        vec_push(&f->kept, fd);
        f->config.fds.p[i].fd = fd;
    }
    return true;
}

static bool make_place(struct fc *f, const struct vmm_machine *m, struct error *err)
{
    int pair[2];

    if (!file_make_dirs(m->private_dirfd, DIR_NAME, 0700, &f->dir_fd, err))
        return error_wrap(err, "the driver's directory");
    f->dir = xasprintf("%s/%s", m->private_dir, DIR_NAME);
    f->api = (struct rest){f->dir_fd, FC_SOCKET, "firecracker"};
    if (!f->config.serial)
        return true;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_errno(err, errno, "console");
    f->console_fd = pair[0];
    f->port_fd = pair[1];
    fc_port_start(f);
    return true;
}

/* An identifier of letters, digits and hyphens, at most 64; it is in its log only. */
static void name_it(struct fc *f, const struct vmm_machine *m)
{
    struct str uid = m->vmi->metadata ? m->vmi->metadata->uid : STR_NONE;
    size_t n = 0;

    for (size_t i = 0; i < uid.n && n + 1 < sizeof f->id; i++) {
        char c = uid.p[i];

        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-')
            f->id[n++] = c;
    }
    snprintf(f->id + n, sizeof f->id - n, "%s", n ? "" : "machine");
}

static bool start_failed(struct fc *f, struct error *err)
{
    struct str words;

    fc_process_await_end(f);
    words = fc_last_words(f);
    if (err->kind == ERROR_UNAVAILABLE && words.n > 0 && f->now.child.loop) {
        AUTO_FREE char *said = xasprintf("%s: " STR_FMT, error_text(err), STR_ARG(words));

        error_clear(err);
        error_set(err, ERROR_UNAVAILABLE, "%s", said);
    }
    error_wrap(err, "start firecracker");
    vmm_set(&f->base, VMM_CRASHED, VMM_REASON_START_FAILED, "%s", error_text(err));
    return false;
}

static bool fc_start(struct vmm *v, const struct vmm_machine *m, struct error *err)
{
    struct fc *f = fc_of(v);
    char taps[FC_MAX_TAPS][FC_TAP_NAME] = {0};
    bool paused = str_is(m->vmi->spec->start_strategy, "Paused");
    bool ok;

    vmm_set(v, VMM_STARTING, VMM_REASON_NONE, "%s", "");
    f->started = true;
    name_it(f, m);
    if (!fc_name_taps(m, taps, err) || !fc_config_build(&f->config, &f->arena, m, taps, err)
        || !fc_check_kernel(m->kernel_fd, UINT_MAX, err) || !keep_descriptors(f, err) || !make_place(f, m, err)
        || !fc_release_taps(m, err))
        return start_failed(f, err);
    if (m->restore_dir)
        ok = load(f, m->restore_dir, err);
    else if (paused) /* it cannot start a guest paused: it is started by resume() */
        ok = fc_process_start(f, -1, -1, err) && fc_configure(f, err)
             && fc_check_kernel(kernel_of(f), f->now.version, err);
    else
        ok = boot(f, err);
    if (!ok)
        return start_failed(f, err);
    snprintf(v->status.machine, sizeof v->status.machine, "firecracker");
    paused = paused || m->restore_dir;
    vmm_set(v, paused ? VMM_PAUSED : VMM_RUNNING, paused ? VMM_REASON_USER : VMM_REASON_NONE, "%s", "");
    return true;
}

/* ---- what is asked of it ---- */

static bool need_process(struct fc *f, struct error *err)
{
    return f->now.child.pid > 0 || error_set(err, ERROR_UNAVAILABLE, "the machine is being started again: try again in a moment");
}

static bool fc_pause(struct vmm *v, struct error *err)
{
    struct fc *f = fc_of(v);

    if (!need_process(f, err) || (f->now.booted && !fc_set_state(f, "Paused", err)))
        return false;
    if (v->status.state != VMM_PAUSED)
        vmm_set(v, VMM_PAUSED, VMM_REASON_USER, "%s", "");
    return true;
}

static bool fc_resume(struct vmm *v, struct error *err)
{
    struct fc *f = fc_of(v);

    if (!need_process(f, err) || (f->now.booted ? !fc_set_state(f, "Resumed", err) : !start_guest(f, err)))
        return false;
    if (v->status.state != VMM_RUNNING)
        vmm_set(v, VMM_RUNNING, VMM_REASON_NONE, "%s", "");
    return true;
}

/* There is no reset: the process is ended, and the next one is told the same. */
static bool fc_reset(struct vmm *v, struct error *err)
{
    struct fc *f = fc_of(v);

    if (!need_process(f, err))
        return false;
    f->resetting = true;
    child_kill(&f->now.child, SIGKILL);
    if (v->status.state == VMM_PAUSED)
        vmm_set(v, VMM_RUNNING, VMM_REASON_NONE, "%s", "");
    return true;
}

static void end_process(struct fc *f, bool now);

/* Ctrl+Alt+Del on its keyboard: guests with a driver for it (i8042, atkbd) shut down and reset, and that ends the process. */
static bool fc_powerdown(struct vmm *v, struct error *err)
{
    struct fc *f = fc_of(v);

    f->asked_off = true;
    f->again = false;
    if (f->now.child.pid > 0 && f->now.booted)
        return fc_action(f, "SendCtrlAltDel", err);
    end_process(f, false); /* no guest that could be asked */
    return true;
}

static bool fc_soft_reboot(struct vmm *v, struct error *err)
{
    struct fc *f = fc_of(v);

    if (!need_process(f, err))
        return false;
    if (!f->now.booted)
        return error_set(err, ERROR_CONFLICT, "the guest has not been started yet");
    if (!fc_action(f, "SendCtrlAltDel", err))
        return false;
    f->again = true;
    return true;
}

static void term_expired(struct loop_timer *t)
{
    child_kill(&container_of(t, struct fc, term_timer)->now.child, SIGKILL);
}

static void end_process(struct fc *f, bool now)
{
    f->destroying = true;
    f->again = f->resetting = false;
    if (f->now.child.pid == 0) { /* between two boots */
        loop_timer_stop(&f->again_timer);
        vmm_set(&f->base, VMM_SHUTDOWN, VMM_REASON_DESTROYED, "%s", "");
        over(f);
        return;
    }
    child_kill(&f->now.child, now ? SIGKILL : SIGTERM);
    if (!now)
        loop_timer_start(f->base.loop, &f->term_timer, TERM_GRACE_NS, term_expired);
}

static void fc_kill(struct vmm *v, bool now)
{
    end_process(fc_of(v), now);
}

static bool fc_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err)
{
    struct fc *f = fc_of(v);

    if (which != VMM_STREAM_SERIAL)
        return error_set(err, ERROR_UNSUPPORTED, "Firecracker has no %s",
                         which == VMM_STREAM_VNC ? "display" : "port for a guest agent");
    if (f->console_fd < 0)
        return error_set(err, ERROR_NOT_FOUND, "the machine has no such port, or it is in use");
    *ret_fd = TAKE_FD(f->console_fd);
    return true;
}

/* ---- life ---- */

static bool fc_probe(struct vmm_version *ret, struct error *err)
{
    const char *const argv[] = {"firecracker", "--version", NULL};
    AUTO(buf_done) struct buf out = {0};
    struct str line, rest;
    struct vmm_version oldest = {0};

    if (!child_run(&(struct child_spec){.argv = argv, .capture_limit = 4096, .cgroup_fd = -1}, SECONDS(10), &out, err))
        return error_wrap(err, "firecracker");
    str_cut(buf_str(&out), '\n', &line, &rest);
    if (!vmm_version_parse(line, ret, err) || !vmm_version_parse(STR("v" FC_OLDEST), &oldest, err))
        return error_wrap(err, "firecracker");
    ret->kvm = true;
    if (FC_VERSION(ret->major, ret->minor) < FC_VERSION(oldest.major, oldest.minor))
        return error_set(err, ERROR_UNSUPPORTED, "firecracker %u.%u is too old: %s or newer is needed", ret->major, ret->minor,
                         FC_OLDEST);
    return true;
}

static struct vmm *fc_create(struct loop *l, const struct vmm_listener *listener)
{
    struct fc *f = NEW(struct fc);

    (void)l;
    (void)listener;
    f->now = (struct fc_process){.log_fd = -1, .metrics_fd = -1, .stdin_fd = -1};
    f->dir_fd = f->console_fd = f->port_fd = -1;
    return &f->base;
}

static void fc_free(struct vmm *v)
{
    struct fc *f = fc_of(v);

    loop_timer_stop(&f->term_timer);
    loop_timer_stop(&f->again_timer);
    fc_process_done(f);
    if (f->dir_fd >= 0)
        over(f);
    fd_close(&f->console_fd);
    fd_close(&f->port_fd);
    fd_close(&f->dir_fd);
    for (size_t i = 0; i < f->kept.n; i++)
        fd_close(&f->kept.p[i]);
    vec_done(&f->kept);
    buf_done(&f->typed);
    fc_config_done(&f->config);
    arena_done(&f->arena);
    free(f->dir);
    free(f);
}

const struct vmm_driver vmm_firecracker = {
    .name = "firecracker",
    .raw_disks = true,
    .probe = fc_probe,
    .create = fc_create,
    .free = fc_free,
    .start = fc_start,
    .pause = fc_pause,
    .resume = fc_resume,
    .reset = fc_reset,
    .powerdown = fc_powerdown,
    .soft_reboot = fc_soft_reboot,
    .kill = fc_kill,
    .open_stream = fc_open_stream,
    .stats = fc_stats,
    .set_balloon = fc_set_balloon,
    .set_memory = fc_set_memory,
    .vsock_connect = fc_vsock_connect,
    .snapshot = fc_snapshot,
};
