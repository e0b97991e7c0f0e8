/* What is asked of a running machine and takes a command or two. */
#include "vmm/qemu/qemu.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define TERM_GRACE_NS SECONDS(5)
#define SOFT_REBOOT_NS SECONDS(300)

static bool simple(struct vmm *v, const char *command, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    return qmp_call(qemu_of(v)->qmp, command, NULL, &a, NULL, err);
}

bool qemu_pause(struct vmm *v, struct error *err)
{
    qemu_of(v)->pause_reason = VMM_REASON_USER;
    return simple(v, "stop", err);
}

bool qemu_resume(struct vmm *v, struct error *err)
{
    return simple(v, "cont", err);
}

bool qemu_reset(struct vmm *v, struct error *err)
{
    return simple(v, "system_reset", err);
}

bool qemu_powerdown(struct vmm *v, struct error *err)
{
    struct qemu *q = qemu_of(v);
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

bool qemu_soft_reboot(struct vmm *v, struct error *err)
{
    struct qemu *q = qemu_of(v);
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

void qemu_kill(struct vmm *v, bool now)
{
    struct qemu *q = qemu_of(v);

    q->destroying = true;
    q->reboot_on_off = false;
    child_kill(&q->child, now ? SIGKILL : SIGTERM); /* SIGTERM: QEMU flushes its caches and exits */
    if (!now)
        loop_timer_start(v->loop, &q->term_timer, TERM_GRACE_NS, term_expired);
}

static bool open_vnc(struct qemu *q, int *ret_fd, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(qemu_close_pair) int pair[2] = {-1, -1};
    const struct json *name = json_new_f(&a, "vnc%u", q->next_fd_name++);

    if (!q->has_display) /* QEMU would take the viewer, and never say a word to it */
        return error_set(err, ERROR_NOT_FOUND, "the machine has no display; its console is the serial port");
    if (!qemu_socket_pair(pair, err)
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

bool qemu_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err)
{
    struct qemu *q = qemu_of(v);
    int *fd = which == VMM_STREAM_SERIAL ? &q->serial_fd : &q->agent_fd;

    if (which == VMM_STREAM_VNC)
        return open_vnc(q, ret_fd, err);
    if (*fd < 0)
        return error_set(err, ERROR_NOT_FOUND, "the machine has no such port, or it is in use");
    *ret_fd = TAKE_FD(*fd);
    return true;
}

bool qemu_set_balloon(struct vmm *v, uint64_t bytes, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    if (bytes == 0 || bytes > INT64_MAX)
        return error_set(err, ERROR_INVALID, "a guest cannot be left with %llu bytes of memory", (unsigned long long)bytes);
    if (qmp_call(qemu_of(v)->qmp, "balloon", json_object(&a, "value", json_new_i64(&a, (int64_t)bytes), NULL), &a, NULL, err))
        return true;
    size_t at;
    if (!str_find(str_of(error_text(err)), STR("No balloon device"), &at))
        return false;
    error_clear(err);
    return error_set(err, ERROR_CONFLICT, "the machine has no balloon (spec.domain.devices.autoattachMemBalloon: false)");
}

bool qemu_set_link(struct vmm *v, struct str nic, bool up, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    if (qmp_call(qemu_of(v)->qmp, "set_link",
                 json_object(&a, "name", json_new_f(&a, "ua-" STR_FMT, STR_ARG(nic)), "up", json_new_bool(up), NULL), &a, NULL,
                 err))
        return true;
    if (err->kind != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    return error_set(err, ERROR_NOT_FOUND, "the machine has no interface '" STR_FMT "'", STR_ARG(nic));
}

bool qemu_vsock_connect(struct vmm *v, unsigned port, int *ret_fd, struct error *err)
{
    const struct qemu *q = qemu_of(v);
    struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = q->vsock_cid, .svm_port = port};
    const struct timeval limit = {.tv_sec = 5};
    AUTO_CLOSE int fd = -1;

    if (q->vsock_cid == 0)
        return error_set(err, ERROR_CONFLICT, "the machine has no vsock (spec.domain.devices.autoattachVSOCK: true gives it one)");
    fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(err, errno, "vsock");
    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        return error_set(err, ERROR_UNAVAILABLE, "nothing in the guest listens at vsock port %u: %s", port, strerror(errno));
    *ret_fd = TAKE_FD(fd);
    return true;
}
