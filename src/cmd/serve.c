/* vireo serve: the supervisor.
 *
 * It holds what has to outlive its two processes – the directory's lock and the listening sockets, so that a restart of one is a
 * short wait for its clients, never a refused connection – and starts them anew when they end. It parses nothing from
 * outside. The control process has no privileges; the node process is root and has no network socket. Both die with the
 * supervisor; VMs do not: they are no children of any of the three. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/backup.h"
#include "cmd/instance.h"
#include "http/client.h"
#include "http/server.h"
#include "network/network.h"
#include "loop/child.h"

#define RESTART_MIN MILLIS(20)
#define RESTART_MAX SECONDS(5)
#define RENEW_EVERY SECONDS(12 * 3600) /* certificates are looked at; those within a month of their end are renewed */
#define RENEW_AGAIN SECONDS(600)
#define STEADY      SECONDS(10) /* a process that ran this long starts over with the shortest delay */

struct supervised {
    struct serve *serve;
    const char *verb;
    struct child child;
    struct loop_timer restart;
    int64_t started_ns, delay_ns;
    int config_fd, listen_fd, listen_tls_fd, audit_fd; /* -1: none */
};

struct serve {
    struct loop *loop;
    struct instance instance;
    struct supervised control, node, sim; /* sim: only with --sim-nodes; a client like any other */
    struct loop_signal term, intr, restore;
    struct loop_timer poll, kill, renew;
    struct http_client *api, *renewing;
    unsigned sim_nodes;
    bool ready, stopping;
    bool serving; /* perhaps only reads and deletions */
    char why[256]; /* not more */
    bool restoring;           /* a backup is put in place as soon as the control process has ended */
    bool certificate_pending; /* the control process has yet to take it */
    int64_t begun_ns;
};

static void start(struct supervised *s);

static void on_restart(struct loop_timer *t)
{
    start(container_of(t, struct supervised, restart));
}

static void check_stopped(struct serve *s)
{
    if (s->stopping && !s->control.child.pid && !s->node.child.pid && !s->sim.child.pid)
        loop_quit(s->loop);
}

/* vireo restore: no control process runs now, and what is staged takes the place of database and keys. */
static void restore_now(struct serve *s)
{
    AUTO(error_clear) struct error err = {0}, failed = {0};
    AUTO_FREE char *aside = NULL;
    int control_fd, node_fd;

    s->restoring = false;
    loop_timer_stop(&s->kill);
    if (!restore_apply(s->instance.dirfd, &aside, &err) || !instance_reload_keys(&s->instance, &err)
        || !instance_config_fd(&s->instance, true, &control_fd, &err)) {
        log_error(NULL, "restore: %s", error_text(&err));
        if (!file_write(s->instance.dirfd, "restore.failed", str_of(error_text(&err)), 0600, &failed))
            log_error(NULL, "restore: %s", error_text(&failed));
    } else {
        fd_close(&s->control.config_fd);
        s->control.config_fd = control_fd;
        log_info(NULL, "a backup was restored; what was there before is in %s/%s", s->instance.o.dir, aside);
        /* The node process has settings with the old certificate authority in them. */
        if (instance_config_fd(&s->instance, false, &node_fd, &err)) {
            fd_close(&s->node.config_fd);
            s->node.config_fd = node_fd;
            child_kill(&s->node.child, SIGTERM);
        }
    }
    start(&s->control);
}

static void on_kill(struct loop_timer *t);

static void on_restore(struct loop_signal *sig)
{
    struct serve *s = container_of(sig, struct serve, restore);

    if (s->stopping || s->restoring)
        return;
    if (!file_exists(s->instance.dirfd, "restore")) {
        log_warning(NULL, "SIGUSR1, and no restore is staged, ignoring");
        return;
    }
    log_info(NULL, "restoring a backup: the API pauses, virtual machines go on");
    s->restoring = true;
    loop_timer_stop(&s->control.restart);
    if (!s->control.child.pid) {
        restore_now(s);
        return;
    }
    child_kill(&s->control.child, SIGTERM);
    loop_timer_start(s->loop, &s->kill, SECONDS(10), on_kill);
}

static void stop_rest(struct serve *s);

static void on_exit_child(struct child *c)
{
    struct supervised *s = container_of(c, struct supervised, child);
    struct serve *serve = s->serve;
    AUTO(buf_done) struct buf why = {0};
    int status = c->status;

    child_describe(status, STR_NONE, &why);
    child_done(c);
    if (serve->stopping) {
        if (s == &serve->sim)
            stop_rest(serve);
        check_stopped(serve);
        return;
    }
    if (serve->restoring && s == &serve->control) {
        restore_now(serve);
        return;
    }
    if (loop_now_ns(serve->loop) - s->started_ns > STEADY)
        s->delay_ns = RESTART_MIN;
    log_warning(s->verb, "process ended (%s), retrying in %lld ms; virtual machines go on", why.p,
                (long long)(s->delay_ns / 1000000));
    loop_timer_start(serve->loop, &s->restart, s->delay_ns, on_restart);
    s->delay_ns = s->delay_ns * 2 > RESTART_MAX ? RESTART_MAX : s->delay_ns * 2;
}

static void start(struct supervised *s)
{
    struct serve *serve = s->serve;
    AUTO(error_clear) struct error err = {0};
    const char *argv[8] = {"/proc/self/exe", s->verb, NULL};
    AUTO_FREE char *kubeconfig = NULL, *nodes = NULL;
    struct child_fd fds[] = {{s->config_fd, INSTANCE_FD_CONFIG},
                             {serve->instance.dirfd, INSTANCE_FD_DIR},
                             {s->listen_fd, INSTANCE_FD_LISTEN},
                             {s->listen_tls_fd, INSTANCE_FD_LISTEN_TLS},
                             {s->audit_fd, INSTANCE_FD_AUDIT}};
    struct child_spec spec = {.argv = argv, .fds = fds, .n_fds = s->audit_fd >= 0 ? 5 : s->listen_tls_fd >= 0 ? 4 : 3,
                              .die_with_parent = true};

    if (s == &serve->sim) { /* it reaches the API by the address that everybody has, and inherits nothing */
        argv[2] = "--kubeconfig";
        argv[3] = kubeconfig = xasprintf("%s/admin.kubeconfig", serve->instance.o.dir);
        argv[4] = "--nodes";
        argv[5] = nodes = xasprintf("%u", serve->sim_nodes);
        argv[6] = serve->instance.o.debug ? "--debug" : NULL;
        spec.n_fds = 0;
    }
    s->started_ns = loop_now_ns(serve->loop);
    if (!child_start(serve->loop, &s->child, &spec, on_exit_child, &err)) {
        log_error(s->verb, "%s; retrying", error_text(&err));
        loop_timer_start(serve->loop, &s->restart, RESTART_MAX, on_restart);
    }
}

/* A unix socket below DIR/run that only `owner` (and root) can connect to. */
static bool listen_unix(const struct instance *i, const char *name, uid_t owner, int *ret_fd, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), run = -1;
    int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/run/%s", i->o.dir, name);

    if (fd < 0)
        return error_errno(err, errno, "socket");
    if (n < 0 || (size_t)n >= sizeof address.sun_path)
        return error_set(err, ERROR_BAD_REQUEST, "--data-dir %s: the path is too long for a socket in it (at most 80 characters)",
                         i->o.dir);
    if (!file_open_dir(i->dirfd, "run", &run, err))
        return false;
    if (unlinkat(run, name, 0) < 0 && errno != ENOENT)
        return error_errno(err, errno, "%s", address.sun_path);

    mode_t mask = umask(0177);
    int bound = bind(fd, (struct sockaddr *)&address, sizeof address);
    int bind_errno = errno;
    umask(mask);
    if (bound < 0)
        return error_errno(err, bind_errno, "%s", address.sun_path);
    if (fchownat(run, name, owner, owner, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(err, errno, "%s", address.sun_path);
    if (listen(fd, 128) < 0)
        return error_errno(err, errno, "%s", address.sun_path);
    *ret_fd = TAKE_FD(fd);
    return true;
}

/* systemd's readiness protocol: one datagram (sd_notify(3)). */
static void notify_systemd(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = -1;

    if (!path || strlen(path) >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0
        && sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
        log_debug(NULL, "NOTIFY_SOCKET: %s, ignoring", strerror(errno));
}

static void on_poll(struct loop_timer *t);
static void on_serving(void *user, int status, struct str body, const struct error *err);

static bool store_fails(struct serve *s, struct str body)
{
    const struct str line = STR("[-]etcd failed: ");
    struct str rest, why;
    size_t at;

    if (!str_find(body, line, &at) || !str_cut(str_skip(body, at + line.n), '\n', &why, &rest))
        return false;
    snprintf(s->why, sizeof s->why, STR_FMT, STR_ARG(why));
    return true;
}

static void on_ready(void *user, int status, struct str body, const struct error *err)
{
    struct serve *s = user;

    if (err->kind == ERROR_NONE && status == 500 && !s->serving && store_fails(s, body)) {
        const struct http_request r = {.method = HTTP_GET, .path = STR("/readyz?exclude=etcd&exclude=first-objects"),
                                       .timeout_ns = SECONDS(5), .done = on_serving, .user = s};

        http_client_call(s->api, &r);
        return;
    }
    if (err->kind != ERROR_NONE || status != 200) {
        loop_timer_start(s->loop, &s->poll, MILLIS(s->serving ? 500 : 20), on_poll);
        return;
    }
    if (!s->ready && !s->serving)
        notify_systemd("READY=1\n");
    s->ready = s->serving = true;
    log_info(NULL, "ready after %lld ms: https://%s, export KUBECONFIG=%s/admin.kubeconfig",
             (long long)((loop_now_ns(s->loop) - s->begun_ns) / 1000000), s->instance.o.listen, s->instance.o.dir);
    http_client_free(s->api);
    s->api = NULL;
    if (s->sim_nodes && !s->sim.child.pid && !s->stopping)
        start(&s->sim);
}

/* With a full disk it is not ready, and yet it serves reads and deletions, which are what makes room: systemd must not
 * wait, or it would end it. */
static void on_serving(void *user, int status, struct str body, const struct error *err)
{
    struct serve *s = user;

    (void)body;
    if (err->kind == ERROR_NONE && status == 200 && !s->serving) {
        s->serving = true;
        log_error(NULL, "serving at https://%s, but not ready: %s", s->instance.o.listen, s->why);
        notify_systemd("READY=1\n");
    }
    loop_timer_start(s->loop, &s->poll, MILLIS(s->serving ? 500 : 20), on_poll);
}

static void on_poll(struct loop_timer *t)
{
    struct serve *s = container_of(t, struct serve, poll);
    struct http_request r = {.method = HTTP_GET, .path = STR("/readyz"), .timeout_ns = SECONDS(5), .done = on_ready, .user = s};

    if (!s->stopping && s->api)
        http_client_call(s->api, &r);
}

static void on_renew(struct loop_timer *t);

static void on_renewed(void *user, int status, struct str body, const struct error *err)
{
    struct serve *s = user;
    bool ok = err->kind == ERROR_NONE && status == 204;

    (void)body;
    if (!ok)
        log_warning(NULL, "the control process does not take the renewed certificate (%d %s), retrying", status,
                    err->kind == ERROR_NONE ? "" : error_text(err));
    s->certificate_pending = !ok;
    loop_timer_start(s->loop, &s->renew, ok ? RENEW_EVERY : RENEW_AGAIN, on_renew);
}

/* A process that is started again gets the new certificate with its settings; the one that runs is told. */
static bool hand_over_certificate(struct serve *s, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO_FREE char *path = xasprintf("%s/run/api.sock", s->instance.o.dir);
    int fd = -1;

    if (!instance_config_fd(&s->instance, true, &fd, err))
        return false;
    fd_close(&s->control.config_fd);
    s->control.config_fd = fd;
    json_write(&b, json_object(&a, "serverCert", json_new_z(&a, s->instance.server_cert), "serverKey",
                               json_new_z(&a, s->instance.server_key), NULL));
    if (!s->renewing)
        s->renewing = http_client_new(&(struct http_client_config){.loop = s->loop, .unix_path = path});
    http_client_call(s->renewing, &(struct http_request){.method = HTTP_PUT, .path = STR(INSTANCE_CERTIFICATE_PATH),
                                                         .body = buf_str(&b), .timeout_ns = SECONDS(10),
                                                         .done = on_renewed, .user = s});
    return true;
}

static void on_renew(struct loop_timer *t)
{
    struct serve *s = container_of(t, struct serve, renew);
    AUTO(error_clear) struct error err = {0};
    bool server = false, ok;

    if (s->stopping)
        return;
    ok = instance_renew(&s->instance, loop_unix_ns(s->loop) / SECONDS(1), &server, &err);
    s->certificate_pending = s->certificate_pending || server;
    if (ok && s->certificate_pending) {
        if (hand_over_certificate(s, &err))
            return;
        ok = false;
    }
    if (!ok)
        log_warning(NULL, "renewing certificates: %s, retrying", error_text(&err));
    loop_timer_start(s->loop, &s->renew, ok ? RENEW_EVERY : RENEW_AGAIN, on_renew);
}

static void on_kill(struct loop_timer *t)
{
    struct serve *s = container_of(t, struct serve, kill);

    if (s->stopping && s->sim.child.pid) { /* its end leads to that of the others */
        child_kill(&s->sim.child, SIGKILL);
        return;
    }
    child_kill(&s->control.child, SIGKILL);
    if (s->stopping)
        child_kill(&s->node.child, SIGKILL);
}

static void stop_rest(struct serve *s)
{
    loop_timer_stop(&s->control.restart);
    loop_timer_stop(&s->node.restart);
    child_kill(&s->control.child, SIGTERM);
    child_kill(&s->node.child, SIGTERM);
    loop_timer_start(s->loop, &s->kill, SECONDS(10), on_kill);
    check_stopped(s);
}

static void stop(struct serve *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    notify_systemd("STOPPING=1\n");
    log_info(NULL, "stopping; virtual machines go on (vireo stop --all ends them)");
    loop_timer_stop(&s->sim.restart);
    if (s->sim.child.pid) { /* first: it has something to say about its nodes */
        child_kill(&s->sim.child, SIGTERM);
        loop_timer_start(s->loop, &s->kill, SECONDS(10), on_kill);
    } else {
        stop_rest(s);
    }
}

static void on_term(struct loop_signal *sig)
{
    stop(container_of(sig, struct serve, term));
}

static void on_intr(struct loop_signal *sig)
{
    stop(container_of(sig, struct serve, intr));
}

/* The other programs, which were installed together with this one. */
static bool find_programs(struct instance_options *o, struct error *err)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n < 0)
        return error_errno(err, errno, "/proc/self/exe");
    self[n] = 0;
    *(strrchr(self, '/')) = 0;
    if (!o->launcher)
        o->launcher = xasprintf("%s/vireo-launcher", self);
    if (access(o->launcher, X_OK) < 0)
        return error_errno(err, errno, "%s (it belongs beside vireo, or name it with --launcher)", o->launcher);
    free(o->fetcher);
    o->fetcher = xasprintf("%s/vireo-fetch", self);
    if (access(o->fetcher, X_OK) < 0)
        return error_errno(err, errno, "%s (it belongs beside vireo)", o->fetcher);
    return true;
}

/* A control process whose supervisor was killed holds the address for the moment that its own death takes. */
static bool listen_patiently(const char *address, int *ret_fd, struct error *err)
{
    for (int i = 0; i < 20; i++) {
        error_clear(err);
        if (http_listen_tcp(address, ret_fd, err))
            return true;
        usleep(50000);
    }
    return false;
}

static bool check_network(const struct instance *i, struct error *err)
{
    struct loop *l = loop_new(NULL);
    struct network *n = network_new(&(struct network_config){.loop = l, .instance = i->name, .pod_cidr = i->o.pod_cidr,
                                                             .cni_bin_dir = i->o.cni_dir, .dirfd = i->dirfd},
                                    err);
    bool ok = n != NULL;

    network_free(n);
    loop_free(l);
    return ok;
}

/* A restore that was staged and not finished, by whoever was killed. */
static bool finish_restore(struct instance *i, struct error *err)
{
    AUTO_FREE char *aside = NULL;

    if (!restore_apply(i->dirfd, &aside, err)) {
        if (err->kind != ERROR_NOT_FOUND)
            return false;
        error_clear(err);
        return true;
    }
    log_info(NULL, "a backup was restored; what was there before is in %s/%s", i->o.dir, aside);
    return instance_reload_keys(i, err);
}

static bool prepare(struct serve *s, struct instance_options *o, struct error *err)
{
    struct supervised *control = &s->control, *node = &s->node;

    if (geteuid() != 0)
        return error_set(err, ERROR_FORBIDDEN, "vireo serve must start as root (it makes networks and sandboxes): sudo vireo serve");
    if (!find_programs(o, err))
        return false;
    /* The port first: a second server on it is the commonest mistake, and nothing has been touched yet. */
    if (!listen_patiently(o->listen, &control->listen_tls_fd, err)) {
        AUTO_FREE char *why = xstrdup(error_text(err));

        return error_set(err, ERROR_CONFLICT,
                         "%s: end what holds that address (another `vireo serve`?), or choose another with --listen ADDRESS:PORT", why);
    }
    if (!instance_open(o, &s->instance, err) || !finish_restore(&s->instance, err))
        return false;
    if (!audit_prepare(&s->instance, &control->audit_fd, err))
        return false;
    /* What cannot mend itself is said now, not by a node process that is started again and again. */
    if (!check_network(&s->instance, err))
        return false;
    if (!listen_unix(&s->instance, "api.sock", 0, &control->listen_fd, err)
        || !listen_unix(&s->instance, "node.sock", instance_uid_base(s->instance.name), &node->listen_fd, err))
        return false;
    return instance_config_fd(&s->instance, true, &control->config_fd, err)
           && instance_config_fd(&s->instance, false, &node->config_fd, err);
}

static void serve_done(struct serve *s)
{
    struct supervised *both[] = {&s->control, &s->node, &s->sim};

    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        child_done(&both[i]->child);
        loop_timer_stop(&both[i]->restart);
        fd_close(&both[i]->config_fd);
        fd_close(&both[i]->listen_fd);
        fd_close(&both[i]->listen_tls_fd);
        fd_close(&both[i]->audit_fd);
    }
    http_client_free(s->api);
    http_client_free(s->renewing);
    loop_timer_stop(&s->renew);
    instance_done(&s->instance);
    loop_free(s->loop);
}

/* What the platform does is short and everything waits for it, guests too; it goes before them and before a busy host, or each of
 * the dozens of hand-overs on the way to a running guest waits its turn. Launcher and fetcher take it back. Whoever has
 * chosen a priority (nice, systemd's Nice=) keeps it. */
static void go_first(void)
{
    errno = 0;
    if (getpriority(PRIO_PROCESS, 0) == 0 && errno == 0 && setpriority(PRIO_PROCESS, 0, -10) < 0)
        log_debug(NULL, "setpriority: %s, ignoring", strerror(errno));
}

int serve_main(int argc, char **argv)
{
    AUTO(instance_options_done) struct instance_options o = {0};
    AUTO(error_clear) struct error err = {0};
    struct serve s = {
        .instance = {.dirfd = -1, .lock_fd = -1},
        .control = {.verb = "control", .config_fd = -1, .listen_fd = -1, .listen_tls_fd = -1, .audit_fd = -1, .delay_ns = RESTART_MIN},
        .sim = {.verb = "sim", .config_fd = -1, .listen_fd = -1, .listen_tls_fd = -1, .audit_fd = -1, .delay_ns = RESTART_MIN},
        .node = {.verb = "node", .config_fd = -1, .listen_fd = -1, .listen_tls_fd = -1, .audit_fd = -1, .delay_ns = RESTART_MIN},
    };
    AUTO_FREE char *socket_path = NULL;

    if (!instance_parse_flags(argc, argv, &o, NULL, &err)) {
        fprintf(stderr, "vireo serve: %s\n", error_text(&err));
        return 2;
    }
    log_setup("serve", o.debug ? LOG_DEBUG : LOG_INFO, o.json_log);
    s.loop = loop_new(NULL);
    s.begun_ns = loop_now_ns(s.loop);
    s.control.serve = s.node.serve = s.sim.serve = &s;
    s.sim_nodes = o.sim_nodes;
    if (!prepare(&s, &o, &err) || !loop_signal_start(s.loop, &s.term, SIGTERM, on_term, &err)
        || !loop_signal_start(s.loop, &s.intr, SIGINT, on_intr, &err)
        || !loop_signal_start(s.loop, &s.restore, SIGUSR1, on_restore, &err)) {
        fprintf(stderr, "vireo serve: %s\n", error_text(&err));
        serve_done(&s);
        return 1;
    }

    go_first();
    start(&s.control);
    start(&s.node);
    socket_path = xasprintf("%s/run/api.sock", s.instance.o.dir);
    s.api = http_client_new(&(struct http_client_config){.loop = s.loop, .unix_path = socket_path});
    loop_timer_start(s.loop, &s.poll, MILLIS(20), on_poll);
    loop_timer_start(s.loop, &s.renew, RENEW_EVERY, on_renew);
    loop_run(s.loop);
    log_info(NULL, "stopped");
    loop_signal_stop(&s.term);
    loop_signal_stop(&s.intr);
    loop_signal_stop(&s.restore);
    serve_done(&s);
    return 0;
}
