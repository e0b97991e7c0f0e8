#include "vmm/vmm.h"

#include <stdio.h>

extern const struct vmm_driver vmm_qemu;
const struct vmm_driver *const vmm_drivers[] = {&vmm_qemu, NULL};

const struct vmm_driver *vmm_driver_find(struct str name)
{
    for (const struct vmm_driver *const *d = vmm_drivers; *d; d++)
        if (str_is(name, (*d)->name))
            return *d;
    return NULL;
}

const char *vmm_state_name(enum vmm_state s)
{
    switch (s) {
    case VMM_NONE:
        return "none";
    case VMM_STARTING:
        return "starting";
    case VMM_RUNNING:
        return "running";
    case VMM_PAUSED:
        return "paused";
    case VMM_SHUTDOWN:
        return "shutdown";
    case VMM_CRASHED:
        return "crashed";
    }
    return "none";
}

const char *vmm_reason_name(enum vmm_reason r)
{
    switch (r) {
    case VMM_REASON_NONE:
        return "";
    case VMM_REASON_USER:
        return "user";
    case VMM_REASON_IO_ERROR:
        return "io-error";
    case VMM_REASON_GUEST_PANIC:
        return "guest-panic";
    case VMM_REASON_GUEST_SHUTDOWN:
        return "guest-shutdown";
    case VMM_REASON_HOST_SHUTDOWN:
        return "host-shutdown";
    case VMM_REASON_DESTROYED:
        return "destroyed";
    case VMM_REASON_VMM_KILLED:
        return "vmm-killed";
    case VMM_REASON_START_FAILED:
        return "start-failed";
    }
    return "";
}

struct vmm *vmm_new(const struct vmm_driver *d, struct loop *l, const struct vmm_listener *listener)
{
    struct vmm *v = d->create(l, listener);

    v->driver = d;
    v->loop = l;
    v->listener = *listener;
    return v;
}

void vmm_free(struct vmm *v)
{
    if (!v)
        return;
    loop_defer_cancel(&v->tell);
    v->driver->free(v);
}

const struct vmm_status *vmm_status(const struct vmm *v)
{
    return &v->status;
}

static void tell(struct loop_defer *d)
{
    struct vmm *v = container_of(d, struct vmm, tell);

    v->listener.changed(v->listener.user);
}

void vmm_changed(struct vmm *v)
{
    loop_defer(v->loop, &v->tell, tell);
}

void vmm_set(struct vmm *v, enum vmm_state state, enum vmm_reason reason, const char *fmt, ...)
{
    va_list ap;

    v->status.state = state;
    v->status.reason = reason;
    v->status.since_ns = loop_unix_ns(v->loop);
    va_start(ap, fmt);
    vsnprintf(v->status.message, sizeof v->status.message, fmt, ap);
    va_end(ap);
    vmm_changed(v);
}

static bool lacks(const struct vmm *v, const char *what, struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED, "%s cannot %s", v->driver->name, what);
}

static bool need_alive(const struct vmm *v, const char *what, struct error *err)
{
    if (vmm_alive(v))
        return true;
    return error_set(err, ERROR_CONFLICT, "cannot %s: the machine is not running", what);
}

bool vmm_start(struct vmm *v, const struct vmm_machine *m, struct error *err)
{
    if (v->status.state != VMM_NONE)
        return error_set(err, ERROR_CONFLICT, "the machine has been started already");
    return v->driver->start(v, m, err);
}

bool vmm_pause(struct vmm *v, struct error *err)
{
    if (!v->driver->pause)
        return lacks(v, "pause", err);
    return need_alive(v, "pause", err) && v->driver->pause(v, err);
}

bool vmm_resume(struct vmm *v, struct error *err)
{
    if (!v->driver->resume)
        return lacks(v, "resume", err);
    return need_alive(v, "unpause", err) && v->driver->resume(v, err);
}

bool vmm_reset(struct vmm *v, struct error *err)
{
    if (!v->driver->reset)
        return lacks(v, "reset", err);
    return need_alive(v, "reset", err) && v->driver->reset(v, err);
}

bool vmm_powerdown(struct vmm *v, struct error *err)
{
    if (!v->driver->powerdown)
        return lacks(v, "ask the guest to shut down", err);
    return need_alive(v, "shut down", err) && v->driver->powerdown(v, err);
}

bool vmm_soft_reboot(struct vmm *v, struct error *err)
{
    if (!v->driver->soft_reboot)
        return lacks(v, "ask the guest to reboot", err);
    return need_alive(v, "reboot", err) && v->driver->soft_reboot(v, err);
}

void vmm_kill(struct vmm *v, bool now)
{
    if (vmm_alive(v))
        v->driver->kill(v, now);
}

bool vmm_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err)
{
    if (!v->driver->open_stream)
        return lacks(v, "open a console", err);
    return need_alive(v, "open a console", err) && v->driver->open_stream(v, which, ret_fd, err);
}

bool vmm_read_stats(struct vmm *v, struct vmm_stats *ret, struct error *err)
{
    if (!v->driver->stats)
        return lacks(v, "count", err);
    return need_alive(v, "read statistics", err) && v->driver->stats(v, ret, err);
}
