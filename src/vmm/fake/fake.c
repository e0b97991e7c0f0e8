/* The fake VMM: a machine without a guest, a process or a processor, for tests of scale, and the worked example of
 * docs/adding-a-vmm.md. All that is outside of the machine is real; inside there is this file.
 *
 * The "guest" is a few words over its serial port: a banner when it boots, an echo of what is typed, and the commands that it names. It
 * sees nothing while it is paused, obeys the power button after a moment (unless it was told to be deaf), and names its
 * devices: the node agent, the launcher and the controllers cannot tell. Descriptors of disks and taps are not touched. */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/quantity.h"
#include "api/types.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "vmm/vmm.h"

#define OBEYS_NS MILLIS(50) /* from the power button to the end */
#define LINE 128

struct fake {
    struct vmm base;
    int guest_fd, user_fd; /* the serial port: its inside, and its outside until someone opens it; -1: none */
    struct loop_io serial;
    struct loop_timer button; /* the guest obeys */
    enum { STAY, TURN_OFF, REBOOT } wants;
    bool booted, deaf, terminate, reports_panic;
    char line[LINE];
    size_t n;
    /* The names of its devices: disks, then NICs. Thousands of these machines live in one process: no more of their counters is kept,
     * nothing goes through them. */
    struct name {
        char text[sizeof((struct vmm_counters *)0)->name];
    } *names;
    size_t n_block, n_net;
    uint64_t guest_bytes;
    unsigned count;
};

static struct fake *fake_of(struct vmm *v)
{
    return container_of(v, struct fake, base);
}

/* ---- the guest ---- */

static void put(struct fake *f, const char *a, const char *b)
{
    char text[2 * LINE];
    int n = snprintf(text, sizeof text, "%s%s\r\n", a, b);

    /* What nobody reads is lost, as on a wire. */
    if (f->guest_fd >= 0 && send(f->guest_fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return;
}

static void boot(struct fake *f)
{
    f->n = 0;
    f->deaf = false;
    f->wants = STAY;
    f->booted = true;
    put(f,
        "guest up: the fake VMM, nothing runs in this machine. It knows: say TEXT, count, work, deaf, poweroff, reboot, panic",
        "");
}

static void shut(struct fake *f)
{
    loop_io_stop(&f->serial);
    loop_timer_stop(&f->button);
    fd_close(&f->guest_fd);
    fd_close(&f->user_fd);
}

/* The one place where a machine ends. */
static void end(struct fake *f, enum vmm_state state, enum vmm_reason reason, const char *message)
{
    shut(f);
    vmm_set(&f->base, state, reason, "%s", message);
}

static void reboot(struct fake *f)
{
    f->base.status.reboots++;
    vmm_changed(&f->base);
    if (f->terminate)
        end(f, VMM_SHUTDOWN, VMM_REASON_GUEST_SHUTDOWN, "the guest rebooted, and rebootPolicy is Terminate");
    else
        boot(f);
}

static void obey(struct fake *f, const char *line)
{
    char number[16];

    snprintf(number, sizeof number, "%u", ++f->count);
    f->deaf |= strcmp(line, "deaf") == 0 || strcmp(line, "panic") == 0;
    if (strncmp(line, "say ", 4) == 0)
        put(f, "said ", line + 4);
    else if (strcmp(line, "count") == 0)
        put(f, "count ", number);
    else if (strcmp(line, "work") == 0)
        put(f, "worked", "");
    else if (strcmp(line, "poweroff") == 0)
        end(f, VMM_SHUTDOWN, VMM_REASON_GUEST_SHUTDOWN, "");
    else if (strcmp(line, "reboot") == 0)
        reboot(f);
    else if (strcmp(line, "panic") == 0 && f->reports_panic)
        end(f, VMM_CRASHED, VMM_REASON_GUEST_PANIC, "the guest panicked");
    else if (f->deaf)
        put(f, "deaf", "");
    else
        put(f, "what? ", line);
}

static void on_serial(struct loop_io *io, uint32_t events)
{
    struct fake *f = container_of(io, struct fake, serial);
    char text[LINE];
    ssize_t n = recv(f->guest_fd, text, sizeof text, MSG_DONTWAIT);

    (void)events;
    if (n == 0 || (n < 0 && errno != EAGAIN)) /* nobody is at the other end any more */
        loop_io_stop(io);
    if (n > 0 && send(f->guest_fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        f->n = 0; /* the echo is lost, and with it the line */
    for (ssize_t i = 0; i < n && f->guest_fd >= 0; i++) {
        if (text[i] != '\r' && text[i] != '\n') {
            if (f->n < sizeof f->line - 1)
                f->line[f->n++] = text[i];
            continue;
        }
        f->line[f->n] = 0;
        if (f->n > 0)
            obey(f, f->line);
        f->n = 0;
    }
}

static void on_button(struct loop_timer *t)
{
    struct fake *f = container_of(t, struct fake, button);

    if (f->wants == TURN_OFF && !f->deaf)
        end(f, VMM_SHUTDOWN, VMM_REASON_HOST_SHUTDOWN, "");
    else if (f->wants == REBOOT && !f->deaf)
        reboot(f);
}

/* A guest that is paused neither reads nor obeys; what it was asked for waits. */
static bool run(struct fake *f, bool runs)
{
    if (f->serial.loop)
        loop_io_events(&f->serial, runs ? EPOLLIN : 0);
    if (runs)
        loop_timer_start(f->base.loop, &f->button, OBEYS_NS, on_button);
    else
        loop_timer_stop(&f->button);
    vmm_set(&f->base, runs ? VMM_RUNNING : VMM_PAUSED, runs ? VMM_REASON_NONE : VMM_REASON_USER, "%s", "");
    if (runs && !f->booted)
        boot(f);
    return true;
}

/* ---- the interface ---- */

static bool fake_probe(struct vmm_version *ret, struct error *err)
{
    ret->tcg = true;
    return vmm_version_parse(STR("fake 1.0"), ret, err);
}

static struct vmm *fake_create(struct loop *l, const struct vmm_listener *listener)
{
    struct fake *f = NEW(struct fake);

    (void)l;
    (void)listener;
    f->guest_fd = f->user_fd = -1;
    return &f->base;
}

static void fake_free(struct vmm *v)
{
    shut(fake_of(v));
    free(fake_of(v)->names);
    free(fake_of(v));
}

static bool build(struct fake *f, const struct vmm_machine *m, struct error *err)
{
    const struct kv_domain_spec *d = m->vmi->spec->domain;
    struct quantity q = {0};
    int pair[2];

    if (d->memory && d->memory->guest.n && !quantity_parse(d->memory->guest, &q, err))
        return error_wrap(err, "spec.domain.memory.guest");
    f->guest_bytes = (uint64_t)quantity_value(q);
    f->terminate = str_is(d->reboot_policy, "Terminate");
    f->reports_panic = d->devices->panic_devices.n > 0;
    f->n_block = m->n_disks < VMM_MAX_DEVICES ? m->n_disks : VMM_MAX_DEVICES;
    f->n_net = m->n_nics < VMM_MAX_DEVICES ? m->n_nics : VMM_MAX_DEVICES;
    f->names = xcalloc(f->n_block + f->n_net + 1, sizeof *f->names);
    for (size_t i = 0; i < f->n_block; i++)
        snprintf(f->names[i].text, sizeof f->names[i].text, STR_FMT, STR_ARG(m->disks[i].name));
    for (size_t i = 0; i < f->n_net; i++)
        snprintf(f->names[f->n_block + i].text, sizeof f->names[i].text, STR_FMT, STR_ARG(m->nics[i].name));
    if (!opt_not_false(d->devices->autoattach_serial_console))
        return true;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_errno(err, errno, "serial port");
    f->guest_fd = pair[0];
    f->user_fd = pair[1];
    loop_io_start(f->base.loop, &f->serial, f->guest_fd, 0, on_serial);
    return true;
}

static bool fake_start(struct vmm *v, const struct vmm_machine *m, struct error *err)
{
    struct fake *f = fake_of(v);

    vmm_set(v, VMM_STARTING, VMM_REASON_NONE, "%s", "");
    if (!build(f, m, err)) {
        end(f, VMM_CRASHED, VMM_REASON_START_FAILED, error_text(err));
        return false;
    }
    snprintf(v->status.machine, sizeof v->status.machine, "fake-1.0");
    return run(f, !str_is(m->vmi->spec->start_strategy, "Paused"));
}

static bool fake_pause(struct vmm *v, struct error *err)
{
    (void)err;
    return run(fake_of(v), false);
}

static bool fake_resume(struct vmm *v, struct error *err)
{
    (void)err;
    return run(fake_of(v), true);
}

static bool fake_reset(struct vmm *v, struct error *err)
{
    (void)err;
    boot(fake_of(v));
    return true;
}

static bool fake_powerdown(struct vmm *v, struct error *err)
{
    (void)err;
    fake_of(v)->wants = TURN_OFF;
    return v->status.state == VMM_PAUSED || run(fake_of(v), true);
}

static bool fake_soft_reboot(struct vmm *v, struct error *err)
{
    (void)err;
    fake_of(v)->wants = REBOOT;
    return v->status.state == VMM_PAUSED || run(fake_of(v), true);
}

static void fake_kill(struct vmm *v, bool now)
{
    (void)now; /* there is nothing to flush */
    end(fake_of(v), VMM_SHUTDOWN, VMM_REASON_DESTROYED, "");
}

static bool fake_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err)
{
    struct fake *f = fake_of(v);

    if (which != VMM_STREAM_SERIAL)
        return error_set(err, ERROR_UNSUPPORTED, "fake has a serial console only");
    if (f->user_fd < 0)
        return error_set(err, ERROR_NOT_FOUND, "the machine has no such port, or it is in use");
    *ret_fd = TAKE_FD(f->user_fd);
    return true;
}

static bool fake_stats(struct vmm *v, struct vmm_stats *ret, struct error *err)
{
    const struct fake *f = fake_of(v);

    (void)err;
    *ret = (struct vmm_stats){.guest_bytes = f->guest_bytes, .vcpus = 1, .n_block = f->n_block, .n_net = f->n_net};
    for (size_t i = 0; i < f->n_block; i++)
        memcpy(ret->block[i].name, f->names[i].text, sizeof ret->block[i].name);
    for (size_t i = 0; i < f->n_net; i++)
        memcpy(ret->net[i].name, f->names[f->n_block + i].text, sizeof ret->net[i].name);
    return true;
}

const struct vmm_driver vmm_fake = {
    .name = "fake",
    .program = "",
    .plays = "nothing runs in this machine: it has no guest and no processor, it is for tests of scale",
    .probe = fake_probe,
    .create = fake_create,
    .free = fake_free,
    .start = fake_start,
    .pause = fake_pause,
    .resume = fake_resume,
    .reset = fake_reset,
    .powerdown = fake_powerdown,
    .soft_reboot = fake_soft_reboot,
    .kill = fake_kill,
    .open_stream = fake_open_stream,
    .stats = fake_stats,
};
