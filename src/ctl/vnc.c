/* vnc: a viewer on the guest's screen, or a local port for one. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "ctl/listen.h"
#include "ctl/pump.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "loop/child.h"

#define VIEWER_WAIT SECONDS(60)

static const enum target_kind vmi = TARGET_VMI;

struct vnc {
    struct ctl *c;
    struct pump pump;
    struct loop_io accept_io;
    struct loop_timer timer;
    struct child viewer;
    const char *viewer_name; /* NULL: none was started */
    int listener, in, out;
    bool done, viewer_ended;
    struct error err;
};

/* --- viewers ------------------------------------------------------------------------------------------------------------------- */

static const struct viewer {
    const char *type;     /* of --vnc-type */
    const char *programs[3];
    bool automatic;       /* tried without --vnc-type */
} viewers[] = {
    {"remote-viewer", {"remote-viewer"}, true},
    {"tiger", {"xtigervncviewer", "vncviewer"}, true},
    {"real", {"vncviewer", "realvnc-vncviewer"}, false},
    {"chicken", {"chicken"}, false},
};

static bool in_path(const char *program)
{
    struct str rest = str_of(getenv("PATH")), dir;

    while (str_next(&rest, ':', &dir)) {
        AUTO_FREE char *full = xasprintf(STR_FMT "/%s", STR_ARG(dir), program);

        if (dir.n && access(full, X_OK) == 0)
            return true;
    }
    return false;
}

static bool choose_viewer(struct ctl *c, const struct viewer **ret, const char **ret_program, struct error *err)
{
    const char *type = flags_str(&c->flags, "vnc-type"), *path = flags_str(&c->flags, "vnc-path");

    if (path[0] && !type[0])
        return error_set(err, ERROR_BAD_REQUEST, "--vnc-path needs --vnc-type: remote-viewer, tiger, real or chicken");
    for (size_t i = 0; i < ARRAY_SIZE(viewers); i++) {
        if (type[0] ? strcmp(type, viewers[i].type) != 0 : !viewers[i].automatic)
            continue;
        *ret = &viewers[i];
        *ret_program = path;
        if (path[0])
            return access(path, X_OK) == 0 || error_set(err, ERROR_NOT_FOUND, "--vnc-path %s: no such program", path);
        for (size_t k = 0; k < ARRAY_SIZE(viewers[i].programs) && viewers[i].programs[k]; k++)
            if (in_path(viewers[i].programs[k])) {
                *ret_program = viewers[i].programs[k];
                return true;
            }
    }
    return error_set(err, ERROR_NOT_FOUND, "no VNC viewer%s%s is in PATH: install virt-viewer or tigervnc-viewer, or use "
                                           "--proxy-only and any viewer", type[0] ? " of type " : "", type);
}

/* As a URL or HOST:PORT has it. */
static char *viewer_argument(const struct viewer *v, const char *address, unsigned port)
{
    const char *host = strcmp(address, "0.0.0.0") == 0 ? "127.0.0.1" : address;

    if (strcmp(v->type, "remote-viewer") == 0)
        return xasprintf(strchr(host, ':') ? "vnc://[%s]:%u" : "vnc://%s:%u", host, port);
    return xasprintf(strcmp(v->type, "chicken") == 0 ? "%s:%u" : "%s::%u", host, port);
}

/* --- events -------------------------------------------------------------------------------------------------------------------- */

static void on_viewer_exited(struct child *child)
{
    struct vnc *v = container_of(child, struct vnc, viewer);

    v->viewer_ended = true;
    if (v->in >= 0)
        return; /* its connection's end is ours */
    v->done = true;
    error_set(&v->err, ERROR_UNAVAILABLE, "%s ended without connecting", v->viewer_name);
}

static void on_ended(struct pump *p)
{
    container_of(p, struct vnc, pump)->done = true;
}

static void on_accept(struct loop_io *io, uint32_t events)
{
    struct vnc *v = container_of(io, struct vnc, accept_io);

    (void)events;
    v->in = accept4(v->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (v->in < 0)
        return;
    v->out = fcntl(v->in, F_DUPFD_CLOEXEC, 0);
    if (v->out < 0) {
        fd_close(&v->in);
        return;
    }
    loop_timer_stop(&v->timer);
    loop_io_stop(&v->accept_io);
    fd_close(&v->listener); /* one viewer per run, as upstream */
    pump_begin(&v->pump, v->in, v->out);
}

static void on_too_late(struct loop_timer *t)
{
    struct vnc *v = container_of(t, struct vnc, timer);

    v->done = true;
    error_set(&v->err, ERROR_TIMEOUT, "%s did not connect within a minute", v->viewer_name);
}

static void vnc_done(struct vnc *v)
{
    loop_io_stop(&v->accept_io);
    loop_timer_stop(&v->timer);
    ctl_disconnect(v->c);
    pump_done(&v->pump);
    child_done(&v->viewer);
    fd_close(&v->listener);
    fd_close(&v->in);
    fd_close(&v->out);
    error_clear(&v->err);
}

/* --- the verb ------------------------------------------------------------------------------------------------------------------ */

extern char **environ;

static bool start_viewer(struct vnc *v, const struct viewer *kind, const char *program, unsigned port, struct error *err)
{
    AUTO_FREE char *argument = viewer_argument(kind, flags_str(&v->c->flags, "address"), port);
    const char *argv[] = {program, argument, NULL};

    v->viewer_name = program;
    if (!child_start(v->c->loop, &v->viewer, &(struct child_spec){.argv = argv, .env = (const char *const *)environ},
                     on_viewer_exited, err))
        return false;
    loop_timer_start(v->c->loop, &v->timer, VIEWER_WAIT, on_too_late);
    return true;
}

static bool serve(struct vnc *v, const char *path, struct error *err)
{
    struct ctl *c = v->c;
    bool proxy_only = flags_bool(&c->flags, "proxy-only");
    int64_t wanted = flags_int(&c->flags, "port");
    const struct viewer *kind = NULL;
    const char *program = NULL;
    unsigned port = (unsigned)wanted;
    int status;

    if (wanted < 0 || wanted > 65535)
        return error_set(err, ERROR_BAD_REQUEST, "--port is a number from 0 (any) to 65535");
    if (!proxy_only && !choose_viewer(c, &kind, &program, err))
        return false;
    if (!pump_open(&v->pump, c, path, &status, err))
        return status == 404 ? error_wrap(err, "is it started?") : false;
    if (!listen_local(flags_str(&c->flags, "address"), &port, &v->listener, err))
        return false;
    v->pump.ended = on_ended;
    loop_io_start(c->loop, &v->accept_io, v->listener, EPOLLIN, on_accept);
    if (proxy_only)
        ctl_print(c, "{\"port\":%u}\n", port);
    else if (!start_viewer(v, kind, program, port, err))
        return false;
    ctl_wait(c, &v->done);
    if (v->err.kind != ERROR_NONE)
        return error_move(err, &v->err);
    if (v->pump.left || v->pump.code == 1000)
        return true;
    return error_set(err, ERROR_UNAVAILABLE, "the screen's stream was closed%s" STR_FMT, v->pump.reason.n ? ": " : "",
                     STR_ARG(buf_str(&v->pump.reason)));
}

static bool run(struct ctl *c, struct error *err)
{
    struct vnc v = {.c = c, .pump = {.loop = c->loop}, .listener = -1, .in = -1, .out = -1};
    AUTO(target_done) struct target t = {0};
    AUTO_FREE char *base = NULL, *path = NULL;
    bool ok;

    if (!ctl_load_config(c, err) || !target_of_args(c->args, c->n_args, &vmi, c->config.ns, &t, err))
        return false;
    t.kind = TARGET_VMI; /* a VM and its instance have one name */
    base = target_subresource(&t, "vnc");
    path = xasprintf("%s%s", base, flags_bool(&c->flags, "preserve-session") ? "?preserveSession=true" : "");
    ok = serve(&v, path, err);
    vnc_done(&v);
    return ok || error_wrap(err, "vnc of VirtualMachineInstance %s/%s", t.ns, t.name);
}

static const struct flag flags[] = {
    {"proxy-only", 0, FLAG_BOOL, NULL, "start no viewer; print the local port as {\"port\":N}"},
    {"port", 0, FLAG_INT, "0", "local port; 0 is any"},
    {"address", 0, FLAG_STRING, "127.0.0.1", "local address to listen on"},
    {"preserve-session", 0, FLAG_BOOL, NULL, "refuse to take the screen over from another session"},
    {"vnc-type", 0, FLAG_STRING, NULL, "viewer: remote-viewer, tiger, real or chicken"},
    {"vnc-path", 0, FLAG_STRING, NULL, "the viewer's program; needs --vnc-type"},
};

const struct ctl_verb ctl_vnc = {
    .name = "vnc", .args = "VMI", .min_args = 1, .max_args = 2, .summary = "Open a guest's screen",
    .examples = "# with remote-viewer or TigerVNC\nvnc myvm\n# for another viewer, on port 5900\nvnc myvm --proxy-only --port 5900",
    .flags = {flags, ARRAY_SIZE(flags)}, .run = run,
};
