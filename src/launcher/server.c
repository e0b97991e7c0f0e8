/* The launcher's socket: who may speak, and what each call does. */
#include "launcher/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"

/* ---- replies ---- */

static void reply(struct peer *p, int64_t id, const struct json *ok, const int *fds, size_t n_fds)
{
    AUTO(arena_done) struct arena a = {0};

    proto_send(
        p->conn,
        json_object(&a, "id", json_new_i64(&a, id), "ok", ok ? ok : json_object(&a, NULL), NULL),
        fds, n_fds);
}

static void reply_error(struct peer *p, int64_t id, const struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *e = json_object(&a, "kind", json_new_z(&a, error_kind_name(err->kind)),
                                       "message", json_new_z(&a, error_text(err)), NULL);

    proto_send(p->conn, json_object(&a, "id", json_new_i64(&a, id), "error", e, NULL), NULL, 0);
}

/* ---- calls ---- */

struct request {
    struct peer *peer;
    const struct json *msg;
    int64_t id;
    int *fds;
    size_t n_fds;
    struct arena *a;
    const struct json *ok; /* the answer; NULL: {} */
    int answer_fd;         /* -1: none; closed afterwards */
};
typedef bool (*call_fn)(struct launcher *l, struct request *r, struct error *err);

static bool call_hello(struct launcher *l, struct request *r, struct error *err)
{
    (void)err;
    r->ok =
        json_object(r->a, "v", json_new_i64(r->a, PROTO_VERSION), "oldest", json_new_i64(r->a, PROTO_OLDEST), "launcher",
                    json_new_z(r->a, VIREO_VERSION), "uid", json_new_z(r->a, l->options->uid),
                    "namespace", json_new_z(r->a, l->options->namespace_), "name",
                    json_new_z(r->a, l->options->name), "pid", json_new_i64(r->a, getpid()), NULL);
    return true;
}

static bool domain_reply(struct launcher *l, struct request *r)
{
    r->ok = json_object(r->a, "domain", launcher_domain(l, r->a), NULL);
    return true;
}

static bool call_subscribe(struct launcher *l, struct request *r, struct error *err)
{
    (void)err;
    r->peer->subscribed = true;
    r->ok = json_object(r->a, "v", json_new_i64(r->a, PROTO_VERSION), "oldest", json_new_i64(r->a, PROTO_OLDEST), "domain",
                        launcher_domain(l, r->a), NULL);
    return true;
}

static bool call_sync(struct launcher *l, struct request *r, struct error *err)
{
    return launcher_sync(l, r->msg, r->fds, r->n_fds, err) && domain_reply(l, r);
}

static bool need_machine(struct launcher *l, struct error *err)
{
    if (l->vmm)
        return true;
    return error_set(err, ERROR_CONFLICT, "the machine has not been started");
}

static bool call_pause(struct launcher *l, struct request *r, struct error *err)
{
    (void)r;
    return need_machine(l, err) && vmm_pause(l->vmm, err);
}

static bool call_unpause(struct launcher *l, struct request *r, struct error *err)
{
    (void)r;
    return need_machine(l, err) && vmm_resume(l->vmm, err);
}

static bool call_reset(struct launcher *l, struct request *r, struct error *err)
{
    (void)r;
    return need_machine(l, err) && vmm_reset(l->vmm, err);
}

static bool call_soft_reboot(struct launcher *l, struct request *r, struct error *err)
{
    (void)r;
    return need_machine(l, err) && vmm_soft_reboot(l->vmm, err);
}

static bool call_shutdown(struct launcher *l, struct request *r, struct error *err)
{
    int64_t ms = json_i64_at(r->msg, "grace_ms", l->options->grace_ns / MILLIS(1));

    if (ms < 0 || ms > INT64_MAX / MILLIS(1))
        return error_set(err, ERROR_BAD_REQUEST, "grace_ms is out of range");
    launcher_shutdown(l, MILLIS(ms));
    return true;
}

static bool call_kill(struct launcher *l, struct request *r, struct error *err)
{
    (void)r;
    (void)err;
    vmm_kill(l->vmm, true);
    return true;
}

static bool call_console(struct launcher *l, struct request *r, struct error *err)
{
    struct str port = json_str_at(r->msg, "port");

    if (port.p && !str_is(port, "serial0"))
        return error_set(err, ERROR_NOT_FOUND, "no port '" STR_FMT "'", STR_ARG(port));
    if (!need_machine(l, err))
        return false;
    if (!l->console)
        return error_set(err, ERROR_NOT_FOUND,
                         "the machine has no serial console (autoattachSerialConsole: false)");
    return console_attach(l->console, &r->answer_fd, err);
}

static bool call_vnc(struct launcher *l, struct request *r, struct error *err)
{
    if (!need_machine(l, err))
        return false;
    if (!opt_not_false(l->vmi->spec->domain->devices->autoattach_graphics_device))
        return error_set(err, ERROR_NOT_FOUND,
                         "the machine has no display (autoattachGraphicsDevice: false)");
    return vmm_open_stream(l->vmm, VMM_STREAM_VNC, &r->answer_fd, err);
}

/* The driver's word on a guest that does not listen is good enough. */
static bool call_vsock(struct launcher *l, struct request *r, struct error *err)
{
    int64_t port;

    if (!json_i64(json_get(r->msg, "port"), &port) || port < 0 || port > UINT32_MAX - 1)
        return error_set(err, ERROR_BAD_REQUEST, "port is no vsock port: a number from 0 to %u",
                         UINT32_MAX - 1);
    return need_machine(l, err) && vmm_vsock_connect(l->vmm, (unsigned)port, &r->answer_fd, err);
}

static const struct json *counters(struct arena *a, const struct vmm_counters *k)
{
    return json_object(
        a, "name", json_new_z(a, k->name), "read_bytes", json_new_i64(a, (int64_t)k->read_bytes),
        "write_bytes", json_new_i64(a, (int64_t)k->write_bytes), "read_ops",
        json_new_i64(a, (int64_t)k->read_ops), "write_ops", json_new_i64(a, (int64_t)k->write_ops),
        "read_ns", json_new_i64(a, (int64_t)k->read_ns), "write_ns",
        json_new_i64(a, (int64_t)k->write_ns), "flush_ops", json_new_i64(a, (int64_t)k->flush_ops),
        "flush_ns", json_new_i64(a, (int64_t)k->flush_ns), NULL);
}

static bool call_stats(struct launcher *l, struct request *r, struct error *err)
{
    struct vmm_stats s;
    const struct json *block[VMM_MAX_DEVICES], *net[VMM_MAX_DEVICES];
    struct arena *a = r->a;

    if (!need_machine(l, err) || !vmm_read_stats(l->vmm, &s, err))
        return false;
    for (size_t i = 0; i < s.n_block; i++)
        block[i] = counters(a, &s.block[i]);
    for (size_t i = 0; i < s.n_net; i++)
        net[i] = counters(a, &s.net[i]);
    const struct json *memory = json_object(
        a, "actual", json_new_i64(a, (int64_t)s.guest_bytes), "resident",
        json_new_i64(a, (int64_t)s.resident_bytes), "total",
        json_new_i64(a, (int64_t)s.guest_total), "free", json_new_i64(a, (int64_t)s.guest_free),
        "available", json_new_i64(a, (int64_t)s.guest_available), NULL);
    r->ok = json_object(a, "cpu_ns", json_new_i64(a, (int64_t)s.cpu_ns), "memory", memory, "block",
                        json_array_n(a, block, s.n_block), "net", json_array_n(a, net, s.n_net), NULL);
    return true;
}

static bool call_guest_info(struct launcher *l, struct request *r, struct error *err)
{
    if (!agent_connected(l->agent))
        return error_set(err, ERROR_CONFLICT, "VMI does not have guest agent connected");
    r->ok = agent_info(l->agent, r->a);
    return true;
}

static const struct {
    const char *name;
    call_fn fn;
} calls[] = {
    {"hello", call_hello},
    {"subscribe", call_subscribe},
    {"sync", call_sync},
    {"pause", call_pause},
    {"unpause", call_unpause},
    {"reset", call_reset},
    {"soft-reboot", call_soft_reboot},
    {"shutdown", call_shutdown},
    {"kill", call_kill},
    {"console", call_console},
    {"vnc", call_vnc},
    {"vsock", call_vsock},
    {"stats", call_stats},
    {"guest-info", call_guest_info},
};

static bool dispatch(struct launcher *l, struct request *r, struct error *err)
{
    struct str name = json_str_at(r->msg, "call");
    int64_t v = json_i64_at(r->msg, "v", 0);

    if (v < 1)
        return error_set(err, ERROR_BAD_REQUEST, "a request without version");
    if ((v < PROTO_OLDEST || v > PROTO_VERSION) && !str_is(name, "hello") && !str_is(name, "subscribe"))
        return error_set(err, ERROR_UNSUPPORTED, "a request of version %lld: this launcher speaks %d to %d", (long long)v, PROTO_OLDEST,
                         PROTO_VERSION);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        if (str_is(name, calls[i].name))
            return calls[i].fn(l, r, err);
    return error_set(err, ERROR_UNSUPPORTED, "this launcher does not know the call '" STR_FMT "'",
                     STR_ARG(name));
}

/* ---- connections ---- */

static void peer_message(struct proto_conn *conn, const struct json *msg, int *fds, size_t n_fds)
{
    struct peer *p = proto_user(conn);
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct request r = {
        .peer = p, .msg = msg, .fds = fds, .n_fds = n_fds, .a = &a, .answer_fd = -1};

    r.id = json_i64_at(msg, "id", 0);
    if (dispatch(p->launcher, &r, &err))
        reply(p, r.id, r.ok, &r.answer_fd, r.answer_fd >= 0);
    else
        reply_error(p, r.id, &err);
    fd_close(&r.answer_fd);
}

static void peer_free(struct peer *p)
{
    struct launcher *l = p->launcher;

    for (size_t i = 0; i < MAX_AGENTS; i++)
        if (l->peers[i] == p)
            l->peers[i] = NULL;
    loop_defer_cancel(&p->drop);
    proto_free(p->conn);
    free(p);
}

static void peer_drop(struct loop_defer *d)
{
    peer_free(container_of(d, struct peer, drop));
}

static void peer_closed(struct proto_conn *conn, const struct error *why)
{
    struct peer *p = proto_user(conn);

    (void)why;
    p->subscribed = false;
    loop_defer(p->launcher->loop, &p->drop, peer_drop);
}

static const struct proto_handlers peer_handlers = {peer_message, peer_closed};

static bool allowed(struct launcher *l, int fd)
{
    struct ucred cred;
    socklen_t n = sizeof cred;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0)
        return false;
    if (cred.uid == l->agent_uid || (l->own_uid_too && cred.uid == geteuid()))
        return true;
    log_warning(launcher_tag(l), "refused a connection of uid %u (pid %d)", cred.uid,
                (int)cred.pid);
    return false;
}

static void accept_ready(struct loop_io *io, uint32_t events)
{
    struct launcher *l = container_of(io, struct launcher, listen_io);
    AUTO_CLOSE int fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    size_t at = 0;

    (void)events;
    if (fd < 0 || !allowed(l, fd))
        return;
    while (at < MAX_AGENTS && l->peers[at])
        at++;
    if (at == MAX_AGENTS) {
        log_warning(launcher_tag(l), "too many connections, ignoring one more");
        return;
    }
    struct peer *p = NEW(struct peer);
    p->launcher = l;
    p->conn = proto_new(l->loop, TAKE_FD(fd), &peer_handlers, p);
    l->peers[at] = p;
}

/* How the node agent, root of the outer user namespace, looks from in here: as uid 0 when this is that namespace (the map is
 * the identity), else as the overflow uid, since a pod's map never contains the host's root. */
static uid_t outer_root(void)
{
    AUTO(buf_done) struct buf map = {0};
    AUTO(error_clear) struct error err = {0};
    unsigned inside = 1, outside = 1, count = 0;

    if (file_read(AT_FDCWD, "/proc/self/uid_map", &map, &err)
        && sscanf(map.p, "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 && outside == 0)
        return 0;
    return 65534;
}

bool server_start(struct launcher *l, struct error *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX, .sun_path = SOCKET_INIT_NAME};
    mode_t mask;
    bool bound;

    l->agent_uid = outer_root();
    l->own_uid_too = l->options->root[0] != '\0';
    l->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->listen_fd < 0)
        return error_errno(err, errno, "socket");
    /* bind(2) takes paths only, and those no longer than 107 bytes: so from inside the folder. */
    if (fchdir(l->sockets_dirfd) != 0)
        return error_errno(err, errno, "sockets folder");
    unlink(SOCKET_INIT_NAME);
    mask = umask(0177);
    bound = bind(l->listen_fd, (struct sockaddr *)&sun, sizeof sun) == 0;
    umask(mask);
    if (!bound || listen(l->listen_fd, 16) != 0 || rename(SOCKET_INIT_NAME, SOCKET_NAME) != 0)
        return error_errno(err, errno, "socket " SOCKET_NAME);
    if (chdir("/") != 0)
        return error_errno(err, errno, "chdir /");
    loop_io_start(l->loop, &l->listen_io, l->listen_fd, EPOLLIN, accept_ready);
    return true;
}

void server_stop(struct launcher *l)
{
    loop_io_stop(&l->listen_io);
    fd_close(&l->listen_fd);
    for (size_t i = 0; i < MAX_AGENTS; i++)
        if (l->peers[i])
            peer_free(l->peers[i]);
}
