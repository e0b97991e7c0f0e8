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
#include <unistd.h>

#include "api/types.h"
#include "base/file.h"
#include "base/log.h"
#include "vmm/qemu/cmdline.h"
#include "vmm/qemu/firmware.h"
#include "vmm/qemu/qmp.h"
#include "vmm/vmm.h"

#define START_TIMEOUT_NS SECONDS(60)
#define TERM_GRACE_NS SECONDS(5)
#define SOFT_REBOOT_NS SECONDS(300)
#define STDERR_KEPT 4096

extern const struct vmm_driver vmm_qemu;

enum end { END_UNKNOWN, END_GUEST, END_PANIC, END_HOST }; /* what the last SHUTDOWN event said */

struct qemu {
    struct vmm base;
    struct child child;
    struct qmp *qmp;
    struct loop_timer term_timer;
    struct loop_io err_io;
    int err_fd;              /* QEMU's stdout and stderr */
    struct buf err_text;     /* the end of it */
    int serial_fd, agent_fd; /* our ends, until someone takes them */
    enum end end;
    enum vmm_reason pause_reason; /* of the STOP that is to come */
    unsigned next_fd_name;
    bool asked_off;          /* we asked the guest to shut down */
    bool destroying;         /* we are ending it */
    bool reboot_on_off;      /* soft reboot: the guest turns off, we turn it on again … */
    int64_t reboot_until_ns; /* … when it does so within this time; later it means to be off */
    bool balloon_polls;
    bool started;
};

static struct qemu *of(struct vmm *v)
{
    return container_of(v, struct qemu, base);
}

/* ---- what QEMU tells ---- */

static void drain_stderr(struct qemu *q)
{
    char text[1024];
    ssize_t n;

    while (q->err_fd >= 0 && (n = read(q->err_fd, text, sizeof text)) != 0) {
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return;
        }
        if (write(STDERR_FILENO, text, (size_t)n) < 0) {
            /* our own log is gone: nothing to be done about it */
        }
        if (q->err_text.n + (size_t)n > STDERR_KEPT)
            buf_consume(&q->err_text,
                        q->err_text.n < STDERR_KEPT / 2 ? q->err_text.n : STDERR_KEPT / 2);
        buf_add(&q->err_text, text, (size_t)n);
    }
    loop_io_stop(&q->err_io);
    fd_close(&q->err_fd);
}

static void stderr_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    drain_stderr(container_of(io, struct qemu, err_io));
}

/* QEMU's last complaint ("qemu-system-x86_64: …"; hints without its name may follow), else the last line. */
static struct str last_words(const struct qemu *q)
{
    struct str rest = buf_str(&q->err_text), line, last = STR(""), complaint = STR("");

    while (str_next(&rest, '\n', &line)) {
        line = str_trim(line);
        if (line.n > 0)
            last = line;
        if (str_starts(line, STR("qemu-system-")))
            complaint = line;
    }
    return complaint.n ? complaint : last;
}

/* QEMU waits (shutdown=pause), because a soft reboot was asked for. */
static void turn_on_again(struct qemu *q)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    bool wanted = q->end == END_GUEST && loop_now_ns(q->base.loop) < q->reboot_until_ns;
    const struct json *off = json_object(&a, "shutdown", json_new_z(&a, "poweroff"), NULL);
    bool ok = qmp_call(q->qmp, "set-action", off, &a, NULL, &err);

    q->reboot_on_off = false;
    if (ok && wanted) {
        ok = qmp_call(q->qmp, "system_reset", NULL, &a, NULL, &err)
             && qmp_call(q->qmp, "cont", NULL, &a, NULL, &err);
        q->end = END_UNKNOWN;
        q->base.status.reboots++;
        vmm_changed(&q->base);
    } else if (ok) {
        ok = qmp_call(q->qmp, "quit", NULL, &a, NULL, &err);
    }
    if (!ok)
        log_warning(NULL, "soft reboot: %s, ignoring", error_text(&err));
}

static void on_shutdown(struct qemu *q, const struct json *data)
{
    struct str reason = json_str_at(data, "reason");

    if (str_is(reason, "guest-panic"))
        q->end = END_PANIC;
    else if (json_bool_at(data, "guest", false))
        q->end = END_GUEST;
    else
        q->end = END_HOST;
    if (q->reboot_on_off)
        turn_on_again(q);
}

static void on_event(void *user, struct str name, const struct json *data)
{
    struct qemu *q = user;

    if (str_is(name, "SHUTDOWN")) {
        on_shutdown(q, data);
    } else if (str_is(name, "RESET")) {
        if (json_bool_at(data, "guest", false)) {
            q->base.status.reboots++;
            vmm_changed(&q->base);
        }
    } else if (str_is(name, "STOP")) {
        /* A STOP also comes before the end and while a soft reboot waits; neither is a pause. */
        if (q->base.status.state == VMM_RUNNING && q->end == END_UNKNOWN && !q->destroying
            && !q->reboot_on_off)
            vmm_set(&q->base, VMM_PAUSED, q->pause_reason, "%s",
                    q->pause_reason == VMM_REASON_IO_ERROR ? "a disk error stopped the guest" : "");
        q->pause_reason = VMM_REASON_USER;
    } else if (str_is(name, "RESUME")) {
        if (q->base.status.state == VMM_PAUSED)
            vmm_set(&q->base, VMM_RUNNING, VMM_REASON_NONE, "%s", "");
    } else if (str_is(name, "BLOCK_IO_ERROR")) {
        if (str_is(json_str_at(data, "action"), "stop"))
            q->pause_reason = VMM_REASON_IO_ERROR;
    } else if (str_is(name, "GUEST_PANICKED")) {
        q->end = END_PANIC;
    } else if (str_is(name, "VSERPORT_CHANGE")) {
        if (str_is(json_str_at(data, "id"), "channel0")) {
            q->base.status.agent_port = json_bool_at(data, "open", false);
            vmm_changed(&q->base);
        }
    }
}

static void on_closed(void *user)
{
    (void)user; /* the process itself is what counts: exited() follows */
}

static const struct qmp_handlers qmp_events = {on_event, on_closed};

/* The one place where a machine's end is judged. */
static void finish(struct qemu *q, int status)
{
    struct vmm *v = &q->base;
    AUTO(buf_done) struct buf how = {0};

    drain_stderr(q);
    qmp_drain(q->qmp);
    loop_timer_stop(&q->term_timer);
    v->status.pid = 0;
    v->status.agent_port = false;
    if (v->status.state == VMM_CRASHED || v->status.state == VMM_SHUTDOWN)
        return; /* a failed start has said so already */
    child_describe(status, last_words(q), &how);
    if (q->end == END_PANIC)
        vmm_set(v, VMM_CRASHED, VMM_REASON_GUEST_PANIC, "%s", "the guest's kernel panicked");
    else if (q->destroying)
        vmm_set(v, VMM_SHUTDOWN, VMM_REASON_DESTROYED, "%s", "");
    else if (q->end == END_GUEST && child_ok(status))
        vmm_set(v, VMM_SHUTDOWN,
                q->asked_off ? VMM_REASON_HOST_SHUTDOWN : VMM_REASON_GUEST_SHUTDOWN, "%s", "");
    else if (q->end == END_HOST && child_ok(status))
        vmm_set(v, VMM_SHUTDOWN, VMM_REASON_HOST_SHUTDOWN, "%s",
                "QEMU was told to end by a signal");
    else
        vmm_set(v, VMM_CRASHED, VMM_REASON_VMM_KILLED, "QEMU ended unexpectedly: " STR_FMT,
                STR_ARG(buf_str(&how)));
}

static void exited(struct child *child)
{
    struct qemu *q = container_of(child, struct qemu, child);

    finish(q, child->status);
}

/* ---- start ---- */

static bool socket_pair(int ret[2], struct error *err)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret) != 0)
        return error_errno(err, errno, "socket pair");
    return true;
}

static bool spawn(struct qemu *q, struct qemu_cmd *c, struct error *err)
{
    AUTO_CLOSE int out = -1;
    int ends[2];
    struct child_spec spec = {
        .argv = c->argv.p, .die_with_parent = true, .new_session = true, .cgroup_fd = -1};
    AUTO(buf_done) struct buf line = {0};

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_errno(err, errno, "pipe");
    q->err_fd = ends[0];
    out = ends[1];
    fcntl(out, F_SETFL, 0); /* QEMU's end blocks as any stderr does */
    vec_push(&c->fds, (struct child_fd){out, 1});
    vec_push(&c->fds, (struct child_fd){out, 2});
    spec.fds = c->fds.p;
    spec.n_fds = c->fds.n;
    if (c->env.n > 0) {
        const char *path = getenv("PATH");

        vec_push(&c->env, arena_printf(c->a, "PATH=%s", path ? path : "/usr/bin:/bin"));
        vec_push(&c->env, NULL);
        spec.env = c->env.p;
    }
    if (log_level() >= LOG_DEBUG) {
        for (size_t i = 0; i < c->argv.n; i++)
            buf_addf(&line, "%s%s", i ? " " : "", c->argv.p[i]);
        log_debug("qemu", "%s", line.p);
    }
    loop_io_start(q->base.loop, &q->err_io, q->err_fd, EPOLLIN, stderr_ready);
    if (!child_start(q->base.loop, &q->child, &spec, exited, err))
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
    drain_stderr(q);
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
    return error_set(err, ERROR_INTERNAL, STR_FMT, STR_ARG(words));
}

static bool failed(struct qemu *q, const struct vmm_machine *m, struct error *err)
{
    await_end(q);
    struct str words = last_words(q);
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

static bool hello(struct qemu *q, const struct vmm_machine *m, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    struct str machine;

    if (!qmp_hello(q->qmp, START_TIMEOUT_NS, &a, &machine, err))
        return false;
    if (str_ends(machine, STR("-machine")))
        machine = str_take(machine, machine.n - strlen("-machine"));
    snprintf(q->base.status.machine, sizeof q->base.status.machine, STR_FMT, STR_ARG(machine));
    return set_links(q, m, err);
}

static void close_pair(int (*pair)[2])
{
    fd_close(&(*pair)[0]);
    fd_close(&(*pair)[1]);
}

static bool qemu_start(struct vmm *v, const struct vmm_machine *m, struct error *err)
{
    struct qemu *q = of(v);
    AUTO(arena_done) struct arena a = {0};
    AUTO(cmd_done) struct qemu_cmd c = {0};
    AUTO(close_pair) int monitor[2] = {-1, -1};
    AUTO(close_pair) int serial[2] = {-1, -1};
    AUTO(close_pair) int agent[2] = {-1, -1};
    AUTO_CLOSE int code = -1;
    AUTO_CLOSE int vars = -1;
    struct qemu_firmware fw;
    bool paused = str_is(m->vmi->spec->start_strategy, "Paused");

    vmm_set(v, VMM_STARTING, VMM_REASON_NONE, "%s", "");
    q->started = true;
    if (!m->vmi->spec->domain || !m->vmi->spec->domain->devices) {
        error_set(err, ERROR_INVALID, "spec.domain.devices is missing");
        return failed(q, m, err);
    }
    if (!firmware_open(m, &fw, err))
        return failed(q, m, err);
    code = fw.code_fd;
    vars = fw.vars_fd;
    if (!socket_pair(monitor, err) || !socket_pair(agent, err)
        || (qemu_wants_serial(m) && !socket_pair(serial, err)))
        return failed(q, m, err);
    cmd_init(&c, &a, m);
    struct qemu_ends ends = {.monitor = monitor[1], .serial = serial[1], .agent = agent[1]};
    if (!qemu_build(&c, &fw, &ends, err) || !spawn(q, &c, err))
        return failed(q, m, err);
    fd_close(&monitor[1]);
    fd_close(&serial[1]);
    fd_close(&agent[1]);
    q->serial_fd = TAKE_FD(serial[0]);
    q->agent_fd = TAKE_FD(agent[0]);
    q->qmp = qmp_new(v->loop, TAKE_FD(monitor[0]), &qmp_events, q);
    if (!hello(q, m, err))
        return failed(q, m, err);
    vmm_set(v, paused ? VMM_PAUSED : VMM_RUNNING, paused ? VMM_REASON_USER : VMM_REASON_NONE, "%s",
            "");
    return true;
}

/* ---- what is asked of it ---- */

static bool simple(struct vmm *v, const char *command, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    return qmp_call(of(v)->qmp, command, NULL, &a, NULL, err);
}

static bool qemu_pause(struct vmm *v, struct error *err)
{
    of(v)->pause_reason = VMM_REASON_USER;
    return simple(v, "stop", err);
}

static bool qemu_resume(struct vmm *v, struct error *err)
{
    return simple(v, "cont", err);
}

static bool qemu_reset(struct vmm *v, struct error *err)
{
    return simple(v, "system_reset", err);
}

static bool qemu_powerdown(struct vmm *v, struct error *err)
{
    struct qemu *q = of(v);
    AUTO(arena_done) struct arena a = {0};

    q->asked_off = true;
    if (q->reboot_on_off) {
        q->reboot_on_off = false;
        if (!qmp_call(q->qmp, "set-action",
                      json_object(&a, "shutdown", json_new_z(&a, "poweroff"), NULL), &a, NULL, err))
            return false;
    }
    return simple(v, "system_powerdown", err);
}

static bool qemu_soft_reboot(struct vmm *v, struct error *err)
{
    struct qemu *q = of(v);
    AUTO(arena_done) struct arena a = {0};

    if (!qmp_call(q->qmp, "set-action", json_object(&a, "shutdown", json_new_z(&a, "pause"), NULL),
                  &a, NULL, err))
        return false;
    q->reboot_on_off = true;
    q->reboot_until_ns = loop_now_ns(v->loop) + SOFT_REBOOT_NS;
    return simple(v, "system_powerdown", err);
}

static void term_expired(struct loop_timer *t)
{
    struct qemu *q = container_of(t, struct qemu, term_timer);

    child_kill(&q->child, SIGKILL);
}

static void qemu_kill(struct vmm *v, bool now)
{
    struct qemu *q = of(v);

    q->destroying = true;
    q->reboot_on_off = false;
    child_kill(&q->child, now ? SIGKILL : SIGTERM); /* SIGTERM: QEMU flushes its caches and exits */
    if (!now)
        loop_timer_start(v->loop, &q->term_timer, TERM_GRACE_NS, term_expired);
}

static bool open_vnc(struct qemu *q, int *ret_fd, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(close_pair) int pair[2] = {-1, -1};
    const struct json *name = json_new_f(&a, "vnc%u", q->next_fd_name++);

    if (!socket_pair(pair, err)
        || !qmp_call_fd(q->qmp, "getfd", json_object(&a, "fdname", name, NULL), pair[1], &a, NULL,
                        err)
        || !qmp_call(q->qmp, "add_client",
                     json_object(&a, "protocol", json_new_z(&a, "vnc"), "fdname", name, "skipauth",
                                 json_new_bool(true), NULL),
                     &a, NULL, err))
        return false;
    *ret_fd = TAKE_FD(pair[0]);
    return true;
}

static bool qemu_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err)
{
    struct qemu *q = of(v);
    int *fd = which == VMM_STREAM_SERIAL ? &q->serial_fd : &q->agent_fd;

    if (which == VMM_STREAM_VNC)
        return open_vnc(q, ret_fd, err);
    if (*fd < 0)
        return error_set(err, ERROR_NOT_FOUND, "the machine has no such port, or it is in use");
    *ret_fd = TAKE_FD(*fd);
    return true;
}

/* ---- counters ---- */

static void read_process(struct qemu *q, struct vmm_stats *ret)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dir = -1;
    char path[32];
    unsigned long long user = 0, system = 0, pages = 0;
    struct str comm, rest;

    snprintf(path, sizeof path, "/proc/%d", (int)q->child.pid);
    dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || !file_read(dir, "stat", &b, &err) || !str_rcut(buf_str(&b), ')', &comm, &rest))
        return;
    if (sscanf(rest.p, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system)
        == 2)
        ret->cpu_ns = (user + system) * (1000000000ull / (unsigned long long)sysconf(_SC_CLK_TCK));
    buf_clear(&b);
    if (file_read(dir, "statm", &b, &err) && sscanf(b.p, "%*u %llu", &pages) == 1)
        ret->resident_bytes = pages * (unsigned long long)sysconf(_SC_PAGESIZE);
}

static uint64_t number(const struct json *v, const char *path)
{
    int64_t n = json_i64_at(v, path, 0);

    return n > 0 ? (uint64_t)n : 0; /* the guest's driver may say -1 for "unknown" */
}

static void read_balloon(struct qemu *q, struct vmm_stats *ret)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *path = json_new_z(&a, "/machine/peripheral/balloon0"), *v = NULL;

    if (!q->balloon_polls) {
        q->balloon_polls = qmp_call(q->qmp, "qom-set",
                                    json_object(&a, "path", path, "property",
                                                json_new_z(&a, "guest-stats-polling-interval"),
                                                "value", json_new_i64(&a, 10), NULL),
                                    &a, NULL, &err);
    } else if (qmp_call(
                   q->qmp, "qom-get",
                   json_object(&a, "path", path, "property", json_new_z(&a, "guest-stats"), NULL),
                   &a, &v, &err)) {
        ret->guest_total = number(v, "stats/stat-total-memory");
        ret->guest_free = number(v, "stats/stat-free-memory");
        ret->guest_available = number(v, "stats/stat-available-memory");
    }
    error_clear(&err);
    if (qmp_call(q->qmp, "query-balloon", NULL, &a, &v, &err))
        ret->guest_bytes = number(v, "actual");
}

static bool qemu_stats(struct vmm *v, struct vmm_stats *ret, struct error *err)
{
    struct qemu *q = of(v);
    AUTO(arena_done) struct arena a = {0};
    const struct json *blocks;

    memset(ret, 0, sizeof *ret);
    if (!qmp_call(q->qmp, "query-blockstats", NULL, &a, &blocks, err))
        return false;
    json_each_item(b, blocks) {
        struct str qdev = json_str_at(b, "qdev"), id = qdev;
        const struct json *s = json_get(b, "stats");
        size_t at;

        /* "/machine/peripheral/ua-name/virtio-backend" or "ua-name" */
        if (str_find(qdev, STR("/ua-"), &at))
            id = str_skip(qdev, at + 1);
        if (!str_starts(id, STR("ua-")) || ret->n_block == VMM_MAX_DEVICES)
            continue;
        id = str_skip(id, 3);
        str_cut(id, '/', &id, &qdev);
        struct vmm_counters *k = &ret->block[ret->n_block++];
        snprintf(k->name, sizeof k->name, STR_FMT, STR_ARG(id));
        k->read_bytes = number(s, "rd_bytes");
        k->write_bytes = number(s, "wr_bytes");
        k->read_ops = number(s, "rd_operations");
        k->write_ops = number(s, "wr_operations");
        k->read_ns = number(s, "rd_total_time_ns");
        k->write_ns = number(s, "wr_total_time_ns");
        k->flush_ops = number(s, "flush_operations");
        k->flush_ns = number(s, "flush_total_time_ns");
    }
    read_balloon(q, ret);
    read_process(q, ret);
    return true;
}

/* ---- life ---- */

static bool qemu_probe(struct vmm_version *ret, struct error *err)
{
    const char *const argv[] = {"qemu-system-x86_64", "-version", NULL};
    AUTO(buf_done) struct buf out = {0};
    struct str line, rest;

    if (!child_run(&(struct child_spec){.argv = argv, .capture_limit = 4096, .cgroup_fd = -1},
                   SECONDS(10), &out, err))
        return error_wrap(err, "qemu-system-x86_64");
    str_cut(buf_str(&out), '\n', &line, &rest);
    return vmm_version_parse(line, ret, err) || error_wrap(err, "qemu-system-x86_64");
}

static struct vmm *qemu_create(struct loop *l, const struct vmm_listener *listener)
{
    struct qemu *q = NEW(struct qemu);

    (void)l;
    (void)listener;
    q->err_fd = q->serial_fd = q->agent_fd = -1;
    q->pause_reason = VMM_REASON_USER;
    return &q->base;
}

static void qemu_free(struct vmm *v)
{
    struct qemu *q = of(v);

    child_kill(&q->child, SIGKILL);
    loop_timer_stop(&q->term_timer);
    loop_io_stop(&q->err_io);
    qmp_free(q->qmp);
    if (q->started)
        child_done(&q->child);
    fd_close(&q->err_fd);
    fd_close(&q->serial_fd);
    fd_close(&q->agent_fd);
    buf_done(&q->err_text);
    free(q);
}

const struct vmm_driver vmm_qemu = {
    .name = "qemu",
    .probe = qemu_probe,
    .create = qemu_create,
    .free = qemu_free,
    .start = qemu_start,
    .pause = qemu_pause,
    .resume = qemu_resume,
    .reset = qemu_reset,
    .powerdown = qemu_powerdown,
    .soft_reboot = qemu_soft_reboot,
    .kill = qemu_kill,
    .open_stream = qemu_open_stream,
    .stats = qemu_stats,
};
