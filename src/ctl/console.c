/* console: the guest's serial console on this terminal, or through pipes. */
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/pump.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

#define RETRY      MILLIS(500)
#define GOODBYE    MILLIS(500) /* for the close to reach the server */

static const enum target_kind vmi = TARGET_VMI;

struct console;
struct caught {
    struct loop_signal signal;
    struct console *console;
};
struct console {
    struct ctl *c;
    struct pump pump;
    struct caught signals[4];
    struct loop_timer timer;
    struct termios saved;
    sigset_t mask; /* before signals were caught */
    bool raw, caught, done, due;
};

/* --- the terminal ------------------------------------------------------------------------------------------------------------ */

static void restore(struct console *s)
{
    if (s->raw)
        tcsetattr(s->c->io.in, TCSADRAIN, &s->saved);
    s->raw = false;
}

static void on_signal(struct loop_signal *signal)
{
    struct console *s = container_of(signal, struct caught, signal)->console;

    s->pump.left = s->done = true;
    s->c->exit_code = 128 + signal->signo;
}

/* In raw mode no key sends a signal; those from elsewhere must not leave the terminal raw. */
static bool go_raw(struct console *s, struct error *err)
{
    static const int numbers[ARRAY_SIZE(s->signals)] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct termios raw;

    if (!isatty(s->c->io.in))
        return true;
    sigprocmask(SIG_SETMASK, NULL, &s->mask);
    s->caught = true;
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        s->signals[i].console = s;
        if (!loop_signal_start(s->c->loop, &s->signals[i].signal, numbers[i], on_signal, err))
            return false;
    }
    if (tcgetattr(s->c->io.in, &s->saved) < 0)
        return error_set(err, ERROR_INTERNAL, "the terminal's settings cannot be read");
    raw = s->saved;
    cfmakeraw(&raw);
    if (tcsetattr(s->c->io.in, TCSADRAIN, &raw) < 0)
        return error_set(err, ERROR_INTERNAL, "the terminal cannot be set to raw mode");
    s->raw = true;
    return true;
}

static void console_done(struct console *s)
{
    restore(s);
    for (size_t i = 0; i < ARRAY_SIZE(s->signals); i++)
        loop_signal_stop(&s->signals[i].signal);
    if (s->caught)
        sigprocmask(SIG_SETMASK, &s->mask, NULL);
    loop_timer_stop(&s->timer);
    ctl_disconnect(s->c);
    pump_done(&s->pump);
}

/* --- waiting until it runs --------------------------------------------------------------------------------------------------- */

static void on_due(struct loop_timer *t)
{
    container_of(t, struct console, timer)->due = true;
}

static void sleep_ns(struct console *s, int64_t ns)
{
    s->due = false;
    loop_timer_start(s->c->loop, &s->timer, ns, on_due);
    ctl_wait(s->c, &s->due);
}

/* Without an instance: is there a VM that will have one soon? If not, *err says what to do. */
static bool will_start(struct ctl *c, const struct target *t, struct error *err)
{
    AUTO_FREE char *path = target_object_path(TARGET_VM, t);
    AUTO(ctl_reply_done) struct ctl_reply reply = {0};
    AUTO(error_clear) struct error why = {0};
    struct str strategy;

    if (!ctl_call(c, HTTP_GET, path, NULL, &reply, &why))
        return error_set(err, ERROR_NOT_FOUND, "there is none of that name (kubectl get vm,vmi -n %s)", t->ns);
    strategy = json_str_at(reply.body, "spec/runStrategy");
    if (str_is(strategy, "Always") || json_bool_at(reply.body, "spec/running", false)
        || json_len(json_at(reply.body, "status/stateChangeRequests"))
        || !str_is(json_str_at(reply.body, "status/printableStatus"), "Stopped"))
        return true;
    return error_set(err, ERROR_CONFLICT, "the virtual machine is stopped: virtctl start %s -n %s", t->name, t->ns);
}

/* A refusal that only means "not yet". */
static bool may_wait(struct console *s, const struct target *t, int status, struct error *err)
{
    size_t at;

    if (status == 404)
        return will_start(s->c, t, err);
    return status == 400 && str_find(str_of(error_text(err)), STR("not running"), &at);
}

static bool connect_to(struct console *s, const struct target *t, const char *path, struct error *err)
{
    int64_t minutes = flags_int(&s->c->flags, "timeout");
    int64_t deadline = loop_now_ns(s->c->loop) + minutes * SECONDS(60);
    bool told = false;
    int status;

    while (!pump_open(&s->pump, s->c, path, &status, err)) {
        if (!may_wait(s, t, status, err))
            return false;
        if (loop_now_ns(s->c->loop) >= deadline)
            return error_wrap(err, "it did not run within %lld minutes (--timeout)", (long long)minutes);
        if (!told)
            ctl_notice(s->c, "waiting for %s to run …\n", t->name);
        told = true;
        error_clear(err);
        sleep_ns(s, RETRY);
    }
    return true;
}

/* --- the console --------------------------------------------------------------------------------------------------------------- */

static void on_ended(struct pump *p)
{
    container_of(p, struct console, pump)->done = true;
}

static bool talk(struct console *s, const struct target *t, struct error *err)
{
    ctl_notice(s->c, "Successfully connected to %s console. Press Ctrl+] or Ctrl+5 to exit console.\n", t->name);
    if (!go_raw(s, err))
        return false;
    s->pump.ended = on_ended;
    pump_begin(&s->pump, s->c->io.in, s->c->io.out);
    while (!s->done && !s->pump.left)
        loop_turn(s->c->loop, SECONDS(60));
    restore(s);
    if (s->pump.left) {
        pump_leave(&s->pump);
        loop_timer_start(s->c->loop, &s->timer, GOODBYE, on_due);
        for (s->due = false; !s->due && s->pump.ws;)
            loop_turn(s->c->loop, GOODBYE);
        return true;
    }
    if (s->pump.code == 1000) {
        ctl_notice(s->c, "\nThe console was closed%s" STR_FMT ".\n", s->pump.reason.n ? ": " : "", STR_ARG(buf_str(&s->pump.reason)));
        return true;
    }
    return error_set(err, ERROR_UNAVAILABLE,
                     "the console was closed%s" STR_FMT ": another session took it over, the virtual machine ended, or the "
                     "network failed", s->pump.reason.n ? ", " : "", STR_ARG(buf_str(&s->pump.reason)));
}

static bool run(struct ctl *c, struct error *err)
{
    AUTO(target_done) struct target t = {0};
    AUTO_FREE char *path = NULL;
    struct console s = {.c = c, .pump = {.loop = c->loop, .escape = true, .linger_ns = -1}};
    bool ok;

    if (!ctl_load_config(c, err) || !target_of_args(c->args, c->n_args, &vmi, c->config.ns, &t, err))
        return false;
    t.kind = TARGET_VMI; /* a VM and its instance have one name */
    path = target_subresource(&t, "console");
    ok = connect_to(&s, &t, path, err) && talk(&s, &t, err);
    console_done(&s);
    return ok || error_wrap(err, "console of VirtualMachineInstance %s/%s", t.ns, t.name);
}

static const struct flag flags[] = {
    {"timeout", 0, FLAG_INT, "5", "minutes to wait until the virtual machine runs"},
};

const struct ctl_verb ctl_console = {
    .name = "console", .args = "VMI", .min_args = 1, .max_args = 2, .summary = "Connect to a guest's serial console",
    .examples = "# log in to 'myvm'; Ctrl+] or Ctrl+5 leaves\nconsole myvm\n"
                "# wait one minute at most until it runs\nconsole myvm --timeout=1",
    .flags = {flags, ARRAY_SIZE(flags)}, .run = run,
};
