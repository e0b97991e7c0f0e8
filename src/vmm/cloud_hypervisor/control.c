/* What is asked of a running machine. */
#include "vmm/cloud_hypervisor/ch.h"

#include <signal.h>

#define SOFT_REBOOT_NS SECONDS(300)

bool ch_pause(struct vmm *v, struct error *err)
{
    if (v->status.state == VMM_PAUSED)
        return true;
    if (!ch_put(ch_of(v), "vm.pause", err))
        return false;
    vmm_set(v, VMM_PAUSED, VMM_REASON_USER, "%s", "");
    return true;
}

bool ch_resume(struct vmm *v, struct error *err)
{
    struct ch *c = ch_of(v);

    if (v->status.state == VMM_RUNNING)
        return true;
    if (!ch_put(c, c->booted ? "vm.resume" : "vm.boot", err))
        return false;
    c->booted = true;
    vmm_set(v, VMM_RUNNING, VMM_REASON_NONE, "%s", "");
    return true;
}

/* A reboot that failed half-way leaves a process without a machine, which ends. */
static void end_without_machine(struct ch *c)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    if (ch_call(c, &(struct ch_call){.name = "GET vm.info"}, &a, &v, &err) && str_is(json_str_at(v, "state"), "Created"))
        child_kill(&c->child, SIGKILL);
}

/* The machine is made anew: what was paused would run, so it is paused again. One that has not begun yet has nothing to reset. */
bool ch_reset(struct vmm *v, struct error *err)
{
    struct ch *c = ch_of(v);

    if (!c->booted)
        return true;
    c->own_resets += !c->moving; /* the event comes before anything can go wrong, once it is asked */
    if (!ch_put(c, "vm.reboot", err)) {
        end_without_machine(c);
        return false;
    }
    return v->status.state != VMM_PAUSED || ch_put(c, "vm.pause", err);
}

bool ch_powerdown(struct vmm *v, struct error *err)
{
    struct ch *c = ch_of(v);

    c->asked_off = true;
    c->reboot_until_ns = 0;
    if (!c->booted && !c->moving) { /* no guest to ask */
        c->guest_off = true;
        ch_end(c);
        return true;
    }
    return ch_put(c, "vm.power-button", err);
}

bool ch_soft_reboot(struct vmm *v, struct error *err)
{
    struct ch *c = ch_of(v);

    if (!c->booted)
        return true;
    if (!ch_put(c, "vm.power-button", err))
        return false;
    c->reboot_until_ns = loop_now_ns(v->loop) + SOFT_REBOOT_NS;
    return true;
}

void ch_kill(struct vmm *v, bool now)
{
    struct ch *c = ch_of(v);

    c->destroying = true;
    c->reboot_until_ns = 0;
    if (now || c->moving) /* it hears nobody while it waits for a migrating machine */
        child_kill(&c->child, SIGKILL);
    else
        ch_end(c);
}

bool ch_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err)
{
    struct ch *c = ch_of(v);

    switch (which) {
    case VMM_STREAM_SERIAL:
        if (c->serial.far_fd < 0)
            return error_set(err, ERROR_NOT_FOUND, "the machine has no such port, or it is in use");
        *ret_fd = TAKE_FD(c->serial.far_fd);
        return true;
    case VMM_STREAM_AGENT:
        return error_set(err, ERROR_UNSUPPORTED, "cloud-hypervisor has no port for the guest agent");
    case VMM_STREAM_VNC:
        return error_set(err, ERROR_UNSUPPORTED, "cloud-hypervisor has no display");
    }
    return false;
}

static bool resize(struct ch *c, const char *key, uint64_t to, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    return ch_call(c, &(struct ch_call){.name = "vm.resize", .body = json_object(&a, key, json_new_i64(&a, (int64_t)to), NULL)},
                   &a, NULL, err);
}

bool ch_set_memory(struct vmm *v, uint64_t bytes, struct error *err)
{
    struct ch *c = ch_of(v);

    if (bytes < c->sizes.memory || bytes > c->sizes.memory_max)
        return error_set(err, ERROR_INVALID,
                         "memory can be between %llu (spec.domain.memory.guest at the start) and %llu bytes (maxGuest)",
                         (unsigned long long)c->sizes.memory, (unsigned long long)c->sizes.memory_max);
    if ((bytes - c->sizes.memory) % CH_STEP)
        return error_set(err, ERROR_INVALID, "memory is plugged in pieces of 128Mi");
    if (!resize(c, "desired_ram", bytes, err))
        return false;
    c->plugged_memory = bytes - c->sizes.memory;
    return true;
}

bool ch_set_vcpus(struct vmm *v, unsigned n, struct error *err)
{
    struct ch *c = ch_of(v);

    if (n < 1 || n > c->sizes.vcpus_max)
        return error_set(err, ERROR_INVALID, "the machine can have between 1 and %u vCPUs (spec.domain.cpu.maxSockets)",
                         c->sizes.vcpus_max);
    if (!resize(c, "desired_vcpus", n, err))
        return false;
    c->sizes.vcpus = n;
    return true;
}

bool ch_set_balloon(struct vmm *v, uint64_t bytes, struct error *err)
{
    struct ch *c = ch_of(v);
    uint64_t all = c->sizes.memory + c->plugged_memory;

    if (!c->has_balloon)
        return error_set(err, ERROR_CONFLICT, "the machine has no balloon (autoattachMemBalloon: false)");
    if (bytes > all || all - bytes > c->sizes.memory)
        return error_set(err, ERROR_INVALID, "the guest has %llu bytes: the balloon cannot leave it %llu",
                         (unsigned long long)all, (unsigned long long)bytes);
    return resize(c, "desired_balloon", all - bytes, err);
}

bool ch_vsock_connect(struct vmm *v, unsigned port, int *ret_fd, struct error *err)
{
    struct ch *c = ch_of(v);
    struct rest at = {.at = c->dir_fd, .name = "vsock.sock", .who = CH_PROGRAM};

    if (!c->has_vsock)
        return error_set(err, ERROR_CONFLICT, "the machine has no vsock device (spec.domain.devices.autoattachVSOCK)");
    return rest_vsock_connect(&at, port, SECONDS(5), ret_fd, err);
}
