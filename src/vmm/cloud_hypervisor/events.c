/* What cloud-hypervisor tells: JSON objects, pretty-printed, one after the other. Its guest may have taken it over, so the stream is
 * bounded, and what makes no sense is dropped. */
#include "vmm/cloud_hypervisor/ch.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"

#define LIMIT_EVENT (16u << 10)

/* Objects are told apart by their braces; strings are stepped over. */
bool ch_events_next(struct buf *b, struct str *ret)
{
    size_t at = 0, depth = 0;
    bool in_string = false;

    while (at < b->n && b->p[at] != '{')
        at++;
    for (size_t i = at; i < b->n; i++) {
        char ch = b->p[i];

        if (in_string) {
            if (ch == '\\')
                i++;
            else if (ch == '"')
                in_string = false;
        } else if (ch == '"') {
            in_string = true;
        } else if (ch == '{') {
            depth++;
        } else if (ch == '}' && --depth == 0) {
            *ret = str_n(b->p + at, i + 1 - at);
            return true;
        }
    }
    if (at > 0)
        buf_consume(b, at);
    if (b->n >= LIMIT_EVENT)
        buf_clear(b);
    return false;
}

static void boot_again(struct loop_defer *d)
{
    struct ch *c = container_of(d, struct ch, boot_again);
    AUTO(error_clear) struct error err = {0};

    c->reboot_until_ns = 0;
    if (!ch_put(c, "vm.boot", &err)) {
        log_warning(NULL, "soft reboot: %s, ignoring", error_text(&err));
        c->guest_off = true;
        ch_end(c);
        return;
    }
    c->base.status.reboots++;
    vmm_changed(&c->base);
}

/* The guest has turned itself off; the process waits for what we say (--no-shutdown). */
static void guest_is_off(struct ch *c)
{
    if (c->destroying || c->guest_off || c->moved || !c->booted)
        return;
    if (c->reboot_until_ns > loop_now_ns(c->base.loop)) {
        loop_defer(c->base.loop, &c->boot_again, boot_again);
        return;
    }
    c->guest_off = true;
    ch_end(c);
}

static void rebooting(struct ch *c)
{
    if (c->own_resets > 0) {
        c->own_resets--;
        return;
    }
    if (c->terminate) { /* rebootPolicy: Terminate. It has begun to reboot by itself; it does not come far. */
        c->guest_off = true;
        child_kill(&c->child, SIGKILL);
        return;
    }
    c->base.status.reboots++;
    vmm_changed(&c->base);
}

static void panicked(struct ch *c)
{
    c->panicked = true;
    ch_end(c);
}

static void heard(struct ch *c, const struct json *v)
{
    struct str source = json_str_at(v, "source"), event = json_str_at(v, "event");

    log_debug(CH_PROGRAM, "event " STR_FMT " " STR_FMT, STR_ARG(source), STR_ARG(event));
    if (str_is(source, "guest") && str_is(event, "panic"))
        panicked(c);
    if (!str_is(source, "vm"))
        return;
    if (str_is(event, "shutdown"))
        guest_is_off(c);
    else if (str_is(event, "rebooting"))
        rebooting(c);
    else if (str_is(event, "device-removed"))
        ch_device_removed(c, json_str_at(v, "properties/id"));
    else if (str_starts(event, STR("migration-")))
        ch_migration_event(c, event);
}

static void take_events(struct ch *c)
{
    struct str text;

    while (ch_events_next(&c->events, &text)) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v;
        size_t n = (size_t)(text.p + text.n - c->events.p);

        if (json_parse(text, &a, &v, &err))
            heard(c, v);
        buf_consume(&c->events, n);
    }
}

void ch_events_drain(struct ch *c)
{
    char bytes[4096];
    ssize_t n;

    for (int i = 0; i < VMM_READS_A_TURN && c->events_fd >= 0; i++) {
        n = read(c->events_fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            loop_io_stop(&c->events_io);
            fd_close(&c->events_fd);
            return;
        }
        buf_add(&c->events, bytes, (size_t)n);
        take_events(c);
    }
}

void ch_events_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    ch_events_drain(container_of(io, struct ch, events_io));
}
