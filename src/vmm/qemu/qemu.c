/* The QEMU driver: one process, its monitor on an inherited socket, its console and agent ports likewise.
 *
 * No socket of QEMU's has a name in a file system: there is nothing to guard, race for or clean up. QEMU runs without
 * -no-shutdown: it exits by itself when the guest turns off, and the last SHUTDOWN event says why. The state at the end is
 * decided in one place, finish(), when the process is seen dead. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <x86intrin.h>
#endif

#include "api/types.h"
#include "base/file.h"
#include "base/log.h"
#include "vmm/confine.h"
#include "vmm/qemu/cmdline.h"
#include "vmm/qemu/firmware.h"
#include "vmm/qemu/qemu.h"

#define START_TIMEOUT_NS SECONDS(60)

/* ---- start ---- */

bool qemu_query(struct vmm *v, const char *command, const struct json *args, struct arena *a,
                const struct json **ret, struct error *err)
{
    struct qemu *q = qemu_of(v);

    if (!q->qmp)
        return error_set(err, ERROR_CONFLICT, "%s: the machine is not running", command);
    return qmp_call(q->qmp, command, args, a, ret, err);
}

bool qemu_socket_pair(int ret[2], struct error *err)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret) != 0)
        return error_errno(err, errno, "socket pair");
    return true;
}

/* What QEMU opens by itself: its libraries, ROMs and firmware; the accelerator; the socket at which a migration comes in; a
 * snapshot's files; and a directory of its own, where someone makes it one. All else it has as descriptors. */
static bool confine(const struct qemu_cmd *c, struct confine *ret, struct error *err)
{
    static const char *const devices[] = {"/dev/kvm", "/dev/mshv", NULL};
    const struct vmm_machine *m = c->m;
    struct str dir = STR_NONE, name;
    const char *write[] = {arena_printf(c->a, "%s/qemu", m->private_dir ? m->private_dir : ""), NULL, NULL};
    const char *const read[] = {"/usr/share", "/etc/localtime", m->restore_dir, NULL};

    if (m->incoming && str_rcut(str_of(m->incoming), '/', &dir, &name))
        write[1] = arena_strdup(c->a, dir);
    return confine_make(&(struct confine_spec){.program = c->argv.p[0],
                                               .read = read,
                                               .devices = devices,
                                               .write = write,
                                               .fds = c->fds.p,
                                               .n_fds = c->fds.n},
                        ret, err);
}

static bool spawn(struct qemu *q, struct qemu_cmd *c, struct error *err)
{
    AUTO_CLOSE int out = -1;
    int ends[2];
    struct child_spec spec = {
        .argv = c->argv.p, .die_with_parent = true, .new_session = true, .cgroup_fd = -1};
    AUTO(buf_done) struct buf line = {0};
    AUTO(confine_done) struct confine confined = {.ruleset_fd = -1};

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_errno(err, errno, "pipe");
    q->err_fd = ends[0];
    out = ends[1];
    fcntl(out, F_SETFL, 0); /* QEMU's end blocks as any stderr does */
    vec_push(&c->fds, (struct child_fd){out, 1});
    vec_push(&c->fds, (struct child_fd){out, 2});
    spec.fds = c->fds.p;
    spec.n_fds = c->fds.n;
    vec_push(&c->env, NULL);
    spec.env = c->env.p;
    if (!confine(c, &confined, err))
        return false;
    spec.enter = confine_enter;
    spec.enter_data = &confined;
    if (log_level() >= LOG_DEBUG) {
        for (size_t i = 0; i < c->argv.n; i++)
            buf_addf(&line, "%s%s", i ? " " : "", c->argv.p[i]);
        log_debug("qemu", "%s", line.p);
    }
    loop_io_start(q->base.loop, &q->err_io, q->err_fd, EPOLLIN, qemu_stderr_ready);
    if (!child_start(q->base.loop, &q->child, &spec, qemu_exited, err))
        return error_wrap(err, "start qemu-system-x86_64");
    q->base.status.pid = q->child.pid;
    return true;
}

/* Waits until the process is gone (it closed its monitor, so it is about to), at most a second, then kills it. */
static void await_end(struct qemu *q)
{
    struct pollfd p = {.fd = q->child.pidfd, .events = POLLIN};

    if (q->child.pid > 0 && poll(&p, 1, 1000) <= 0) {
        child_kill(&q->child, SIGKILL);
        poll(&p, 1, 1000);
    }
    qemu_drain_stderr(q);
}

/* What a user can do about QEMU's words, where they are known. */
static bool explain(const struct vmm_machine *m, struct str words, struct error *err)
{
    const struct kv_machine *machine = m->vmi->spec->domain->machine;
    struct str before, model;
    size_t at;

    if (str_find(words, STR("unsupported machine type"), &at))
        return error_set(err, ERROR_UNSUPPORTED,
                         "spec.domain.machine.type: unsupported machine type '" STR_FMT
                         "': the QEMU of this node does not have it (qemu-system-x86_64 -machine "
                         "help lists what it has); q35 is its newest",
                         STR_ARG(machine ? machine->type : STR_NONE));
    if (str_find(words, STR("' is not a valid device model name"), &at)
        && str_rcut(str_take(words, at), '\'', &before, &model))
        return error_set(err, ERROR_UNSUPPORTED,
                         "the QEMU of this node has no device '" STR_FMT
                         "': choose another model%s",
                         STR_ARG(model),
                         str_is(model, "igb") ? " for the interface (virtio, e1000e), or install "
                                                "QEMU 8.0 or newer"
                                              : "");
    if (str_find(words, STR("invalid accelerator"), &at))
        return error_set(err, ERROR_UNSUPPORTED,
                         "the QEMU of this node was built without the accelerator %s (qemu-system-x86_64 -accel help lists what it has)",
                         vmm_accelerator_name(m->accelerator));
    if (str_find(words, STR("Failed to get \"write\" lock"), &at) || str_find(words, STR("Failed to get shared"), &at))
        return error_set(err, ERROR_CONFLICT,
                         "a disk is in use by another machine; stop that one, or make the disk shareable in both: " STR_FMT,
                         STR_ARG(words));
    if (str_find(words, STR("cannot set up guest memory"), &at) || str_find(words, STR("unable to map backing store"), &at))
        return error_set(err, ERROR_UNAVAILABLE,
                         "the node has not the memory that this machine asks for (spec.domain.memory): " STR_FMT, STR_ARG(words));
    if (str_find(words, STR("Could not open ROM"), &at) || str_find(words, STR("could not load PC BIOS"), &at))
        return error_set(err, ERROR_UNSUPPORTED, "firmware of QEMU's is missing on this node; install the package seabios: " STR_FMT,
                         STR_ARG(words));
    return error_set(err, ERROR_INTERNAL, STR_FMT, STR_ARG(words));
}

static bool failed(struct qemu *q, const struct vmm_machine *m, struct error *err)
{
    await_end(q);
    struct str words = qemu_last_words(q);
    if (err->kind == ERROR_UNAVAILABLE && words.n > 0) {
        error_clear(err);
        explain(m, words, err);
    }
    error_wrap(err, "start qemu");
    vmm_set(&q->base, VMM_CRASHED, VMM_REASON_START_FAILED, "%s", error_text(err));
    return false;
}

static bool set_links(struct qemu *q, const struct vmm_machine *m, struct error *err)
{
    const struct kv_interface_slice *s = &m->vmi->spec->domain->devices->interfaces;

    for (size_t i = 0; i < s->n; i++) {
        AUTO(arena_done) struct arena a = {0};

        if (!str_is(s->p[i].state, "down"))
            continue;
        if (!qmp_call(q->qmp, "set_link",
                      json_object(&a, "name", json_new_f(&a, "ua-" STR_FMT, STR_ARG(s->p[i].name)),
                                  "up", json_new_bool(false), NULL),
                      &a, NULL, err))
            return false;
    }
    return true;
}

/* QEMU leaves out of a processor what the host does not have, with no more than a warning. */
static bool check_features(struct qemu *q, const struct vmm_machine *m, struct error *err)
{
    const struct kv_cpu *cpu = m->vmi->spec->domain->cpu;
    AUTO(arena_done) struct arena a = {0};
    const struct json *path = NULL, *v;

    for (size_t i = 0; cpu && i < cpu->features.n; i++) {
        const struct kv_cpu_feature *f = &cpu->features.p[i];

        if (f->policy.n && !str_is(f->policy, "require"))
            continue;
        if (!path) {
            if (!qmp_call(q->qmp, "query-cpus-fast", NULL, &a, &v, err))
                return false;
            path = json_at(v, "0/qom-path");
        }
        if (!qmp_call(q->qmp, "qom-get", json_object(&a, "path", path, "property", json_new_str(&a, f->name), NULL), &a, &v, err))
            return false;
        if (!json_bool(v))
            return error_set(err, ERROR_UNSUPPORTED,
                             "spec.domain.cpu.features: '" STR_FMT "' is required, and this node cannot give it to a guest; "
                             "with policy optional it is left out where it is missing",
                             STR_ARG(f->name));
    }
    return true;
}

static bool hello(struct qemu *q, const struct vmm_machine *m, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    struct str machine;

    if (!qmp_hello(q->qmp, START_TIMEOUT_NS, &a, &machine, err))
        return false;
    if (str_ends(machine, STR("-machine")))
        machine = str_take(machine, machine.n - strlen("-machine"));
    snprintf(q->base.status.machine, sizeof q->base.status.machine, STR_FMT, STR_ARG(machine));
    return check_features(q, m, err) && set_links(q, m, err);
}

#ifdef __x86_64__
struct instant {
    int64_t ns;
    uint64_t ticks;
};

/* Both clocks at one time: the closest of some tries. */
static struct instant both_clocks(void)
{
    struct instant best = {0};
    uint64_t closest = UINT64_MAX;

    for (int i = 0; i < 8; i++) {
        struct timespec ts;
        uint64_t before = __rdtsc(), after;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        after = __rdtsc();
        if (after - before < closest) {
            closest = after - before;
            best = (struct instant){ts.tv_sec * SECONDS(1) + ts.tv_nsec, before + closest / 2};
        }
    }
    return best;
}

/* How fast the processor's counter goes, to some millionths, in a millisecond. */
static unsigned tsc_khz(void)
{
    struct instant from = both_clocks(), to;

    usleep(1000);
    to = both_clocks();
    return to.ns > from.ns ? (unsigned)((double)(to.ticks - from.ticks) * 1e6 / (double)(to.ns - from.ns)) : 0;
}
#else
static unsigned tsc_khz(void)
{
    return 0;
}
#endif

/* What later changes and counters have to know of how it began. */
static void remember(struct qemu *q, const struct qemu_cmd *c, const struct vmm_machine *m)
{
    q->memory_start = c->memory;
    q->memory_max = c->memory_max;
    q->vcpus_start = c->vcpus;
    q->vsock_cid = m->vsock_cid;
    q->has_display = c->board != QEMU_MICROVM && qemu_wants_graphics(m);
    for (size_t i = 0; i < m->n_nics; i++)
        if (m->nics[i].n_fds > 0)
            vmm_taps_add(&q->taps, m->nics[i].name, m->nics[i].fds[0]);
}

static bool qemu_start(struct vmm *v, const struct vmm_machine *m, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    AUTO(cmd_done) struct qemu_cmd c = {0};
    AUTO(qemu_close_pair) int monitor[2] = {-1, -1};
    AUTO(qemu_close_pair) int serial[2] = {-1, -1};
    AUTO(qemu_close_pair) int agent[2] = {-1, -1};
    AUTO_CLOSE int code = -1;
    AUTO_CLOSE int vars = -1;
    AUTO_CLOSE int bios = -1;
    struct qemu_firmware fw;
    bool paused = str_is(m->vmi->spec->start_strategy, "Paused") || m->restore_dir;

    vmm_set(v, VMM_STARTING, VMM_REASON_NONE, "%s", "");
    q->started = true;
    if (!m->vmi->spec->domain || !m->vmi->spec->domain->devices) {
        error_set(err, ERROR_INVALID, "spec.domain.devices is missing");
        return failed(q, m, err);
    }
    bool microvm = v->driver == &vmm_qemu_microvm;
    if (!firmware_open(m, microvm, &fw, err))
        return failed(q, m, err);
    code = fw.code_fd;
    vars = fw.vars_fd;
    bios = fw.bios_fd;
    if (!qemu_socket_pair(monitor, err) || !qemu_socket_pair(agent, err)
        || (qemu_wants_serial(m) && !qemu_socket_pair(serial, err)))
        return failed(q, m, err);
    cmd_init(&c, &a, m, microvm);
    c.tsc_khz = microvm && m->accelerator == VMM_TCG && m->kernel_fd >= 0 ? tsc_khz() : 0;
    if (m->restore_dir && !qemu_snapshot_type(m->restore_dir, v->driver, &a, &c.type_name, err))
        return failed(q, m, err);
    struct qemu_ends ends = {.monitor = monitor[1], .serial = serial[1], .agent = agent[1]};
    if (!qemu_build(&c, &fw, &ends, err) || !spawn(q, &c, err))
        return failed(q, m, err);
    remember(q, &c, m);
    fd_close(&monitor[1]);
    fd_close(&serial[1]);
    fd_close(&agent[1]);
    q->serial_fd = TAKE_FD(serial[0]);
    q->agent_fd = TAKE_FD(agent[0]);
    q->qmp = qmp_new(v->loop, TAKE_FD(monitor[0]), &qemu_events, q);
    if (!hello(q, m, err) || (m->restore_dir && !qemu_load(q, m->restore_dir, err))
        || (m->incoming && !qemu_await(q, m->incoming, err)))
        return failed(q, m, err);
    if (m->incoming)
        return true; /* it runs when the other has come: qemu_migration_event() */
    vmm_set(v, paused ? VMM_PAUSED : VMM_RUNNING, paused ? VMM_REASON_USER : VMM_REASON_NONE, "%s",
            "");
    return true;
}

/* ---- life ---- */

static struct vmm *qemu_create(struct loop *l, const struct vmm_listener *listener)
{
    struct qemu *q = NEW(struct qemu);

    (void)l;
    (void)listener;
    q->err_fd = q->serial_fd = q->agent_fd = q->await_fd = -1;
    q->pause_reason = VMM_REASON_USER;
    return &q->base;
}

static void qemu_free(struct vmm *v)
{
    struct qemu *q = qemu_of(v);

    child_kill(&q->child, SIGKILL);
    loop_timer_stop(&q->term_timer);
    qemu_migration_end(q);
    loop_io_stop(&q->err_io);
    qmp_free(q->qmp);
    if (q->started)
        child_done(&q->child);
    fd_close(&q->err_fd);
    fd_close(&q->serial_fd);
    fd_close(&q->agent_fd);
    buf_done(&q->err_text);
    vec_done(&q->plugged);
    free(q);
}

#define SHARED                                                                                     \
    .program = "qemu-system-x86_64",                                                               \
    .probe = qemu_probe,                                                                           \
    .create = qemu_create,                                                                         \
    .free = qemu_free,                                                                             \
    .start = qemu_start,                                                                           \
    .pause = qemu_pause,                                                                           \
    .resume = qemu_resume,                                                                         \
    .reset = qemu_reset,                                                                           \
    .powerdown = qemu_powerdown,                                                                   \
    .soft_reboot = qemu_soft_reboot,                                                               \
    .kill = qemu_kill,                                                                             \
    .open_stream = qemu_open_stream,                                                               \
    .stats = qemu_stats,                                                                           \
    .set_balloon = qemu_set_balloon,                                                               \
    .set_link = qemu_set_link,                                                                     \
    .vsock_connect = qemu_vsock_connect,                                                           \
    .snapshot = qemu_snapshot,                                                                     \
    .migrate = qemu_migrate,                                                                       \
    .migrate_cancel = qemu_migrate_cancel,                                                         \
    .migrate_status = qemu_migrate_status


const struct vmm_driver vmm_qemu = {
    .name = "qemu",
    SHARED,
    .add_device = qemu_add_device,
    .remove_device = qemu_remove_device,
    .set_memory = qemu_set_memory,
    .set_vcpus = qemu_set_vcpus,
};
/* No PCI, and so nothing that could be plugged. */
const struct vmm_driver vmm_qemu_microvm = {.name = "qemu-microvm", SHARED};
