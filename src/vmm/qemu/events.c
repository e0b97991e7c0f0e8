/* What QEMU tells: its stderr, its events, and how it ended. */
#include "vmm/qemu/qemu.h"

#include "base/log.h"

#define STDERR_KEPT 4096

void qemu_drain_stderr(struct qemu *q)
{
    if (q->err_fd >= 0 && !vmm_keep_output(q->err_fd, &q->err_text, STDERR_KEPT)) {
        loop_io_stop(&q->err_io);
        fd_close(&q->err_fd);
    }
}

void qemu_stderr_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    qemu_drain_stderr(container_of(io, struct qemu, err_io));
}

/* QEMU's last complaint ("qemu-system-x86_64: …"; hints without its name may follow), else the last line. */
struct str qemu_last_words(const struct qemu *q)
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
        /* SeaBIOS that finds its memory as it left it resets the machine once more, to get its ROM back: the same reboot. */
        int64_t now = loop_now_ns(q->base.loop);

        if (now >= q->reset_until_ns) {
            q->reset_until_ns = now + SECONDS(2);
            if (json_bool_at(data, "guest", false)) {
                q->base.status.reboots++;
                vmm_changed(&q->base);
            }
        }
    } else if (str_is(name, "STOP")) {
        /* A STOP also comes before the end and while a soft reboot waits; neither is a pause. */
        if (q->base.status.state == VMM_RUNNING && q->moved.state == VMM_MIGRATION_RUNS && q->end == END_UNKNOWN)
            qemu_look(q); /* for the last piece of a migration, or because someone asked? */
        else if (q->base.status.state == VMM_RUNNING && q->end == END_UNKNOWN && !q->destroying
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
    } else if (str_is(name, "DEVICE_DELETED")) {
        qemu_device_gone(q, json_str_at(data, "device"), false);
    } else if (str_is(name, "DEVICE_UNPLUG_GUEST_ERROR")) {
        qemu_device_gone(q, json_str_at(data, "device"), true);
    } else if (str_is(name, "MIGRATION")) {
        qemu_migration_event(q, json_str_at(data, "status"));
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

const struct qmp_handlers qemu_events = {on_event, on_closed};

/* The one place where a machine's end is judged. */
static void finish(struct qemu *q, int status)
{
    struct vmm *v = &q->base;
    AUTO(buf_done) struct buf how = {0};

    qemu_drain_stderr(q);
    qmp_drain(q->qmp);
    loop_timer_stop(&q->term_timer);
    bool awaited = q->await_path != NULL && v->status.state == VMM_STARTING;
    qemu_migration_end(q);
    v->status.pid = 0;
    v->status.agent_port = false;
    if (v->status.state == VMM_CRASHED || v->status.state == VMM_SHUTDOWN)
        return; /* a failed start has said so already */
    child_describe(status, qemu_last_words(q), &how);
    if (q->end == END_PANIC)
        vmm_set(v, VMM_CRASHED, VMM_REASON_GUEST_PANIC, "%s", "the guest's kernel panicked");
    else if (q->moved.state == VMM_MIGRATION_DONE)
        vmm_set(v, VMM_SHUTDOWN, VMM_REASON_MIGRATED, "%s", "");
    else if (awaited && !q->destroying)
        vmm_set(v, VMM_CRASHED, VMM_REASON_START_FAILED, "the migration did not arrive: " STR_FMT,
                STR_ARG(buf_str(&how)));
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

void qemu_exited(struct child *child)
{
    struct qemu *q = container_of(child, struct qemu, child);

    finish(q, child->status);
}
