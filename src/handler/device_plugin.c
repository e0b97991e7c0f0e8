#include "handler/device_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/vec.h"
#include "handler/grpc.h"
#include "http/server.h"
#include "json/proto.h"

#define VERSION      "v1beta1"
#define KUBELET      "kubelet.sock"
#define SERVICE      "/v1beta1.DevicePlugin/"
#define SETTLE       MILLIS(50) /* files come in groups */
#define CALL_TIMEOUT SECONDS(10)
#define RETRY_FIRST  SECONDS(1)
#define RETRY_MAX    SECONDS(30)
#define MAX_WATCHERS 4
#define BODY_LIMIT   (4u << 20) /* as gRPC's own: an allocation may name thousands */

static const struct device {
    const char *name, *node;
    bool needs_verdict; /* that it is there says little */
} devices[] = {
    {"kvm", "/dev/kvm", true},
    {"tun", "/dev/net/tun", false},
    {"vhost-net", "/dev/vhost-net", false},
    {"vhost-vsock", "/dev/vhost-vsock", false},
};
#define N_DEVICES ARRAY_SIZE(devices)

struct plugin {
    struct device_plugins *all;
    const struct device *device;
    struct http_server *server;
    ino_t socket;              /* inode of ours; 0: none */
    VEC(struct exchange *) watchers;
    struct grpc_call *registering;
    struct loop_timer retry;
    int64_t retry_ns;
    char *trouble;             /* what was logged last, or NULL */
    bool there;
    char *why_not;             /* it is no good, or NULL */
};

struct device_plugins {
    struct loop *loop;
    struct device_plugins_config config;
    char *host_root;
    int dirfd, inotify;
    struct loop_io io;
    struct loop_timer settle;
    struct http_client *kubelet;
    bool kubelet_came, ready;
    struct plugin plugins[N_DEVICES];
};

static bool healthy(const struct plugin *p)
{
    return p->there && !p->why_not;
}

static void replace(char **text, const char *with)
{
    char *copy = with ? xstrdup(with) : NULL;

    free(*text);
    *text = copy;
}

/* --- what the kubelet asks ------------------------------------------------------------------------------------------------------- */

static struct str device_id(const struct plugin *p, unsigned i, char text[static 32])
{
    return str_n(text, (size_t)snprintf(text, 32, "%s%u", p->device->name, i));
}

/* Device{ID = 1, health = 2}, repeated as field 1. */
static void add_devices(const struct plugin *p, struct buf *out)
{
    struct str health = healthy(p) ? STR("Healthy") : STR("Unhealthy");
    AUTO(buf_done) struct buf one = {0};
    char text[32];

    for (unsigned i = 0; i < p->all->config.max_devices; i++) {
        buf_clear(&one);
        proto_bytes(&one, 1, device_id(p, i, text));
        proto_bytes(&one, 2, health);
        proto_bytes(out, 1, buf_str(&one));
    }
}

static void tell(struct plugin *p)
{
    AUTO(buf_done) struct buf list = {0};

    if (!p->watchers.n)
        return;
    add_devices(p, &list);
    for (size_t i = 0; i < p->watchers.n; i++)
        grpc_send(p->watchers.p[i], buf_str(&list));
}

static void register_later(struct plugin *p);

static void look_whether_ready(struct device_plugins *all)
{
    bool ready = device_plugins_ready(all);

    if (ready == all->ready)
        return;
    all->ready = ready;
    log_info("devices", ready ? "the kubelet has taken them" : "the kubelet has let go of them");
    if (all->config.changed)
        all->config.changed(all->config.user);
}

static void on_watcher_gone(struct exchange *x)
{
    struct plugin *p = x->user;

    for (size_t i = p->watchers.n; i-- > 0;)
        if (p->watchers.p[i] == x)
            vec_remove(&p->watchers, i);
    if (!p->watchers.n)
        register_later(p);
    look_whether_ready(p->all);
}

static void list_and_watch(struct plugin *p, struct exchange *x)
{
    if (p->watchers.n == MAX_WATCHERS) {
        grpc_refuse(x, GRPC_FAILED_PRECONDITION, "too many watch this device plugin");
        return;
    }
    x->user = p;
    x->closed = on_watcher_gone;
    grpc_stream(x);
    vec_push(&p->watchers, x);
    p->retry_ns = 0;
    loop_timer_stop(&p->retry);
    tell(p);
    look_whether_ready(p->all);
}

/* A device that this plugin has told of. */
static bool is_ours(const struct plugin *p, struct str id)
{
    AUTO(error_clear) struct error ignored = {0};
    size_t n = strlen(p->device->name);
    uint64_t i;

    return str_starts(id, str_of(p->device->name)) && parse_u64(str_skip(id, n), p->all->config.max_devices - 1, &i, &ignored);
}

/* Each item of field 1 is a container's request, answered by one of field 1. */
typedef bool (*answer_fn)(const struct plugin *p, struct str request, struct buf *ret, struct error *err);

static bool each_container(const struct plugin *p, struct str request, answer_fn answer, struct buf *ret, struct error *err)
{
    struct proto_reader r = {request};
    struct proto_field f;

    while (proto_next(&r, &f, err)) {
        AUTO(buf_done) struct buf one = {0};

        if (f.number != 1)
            continue;
        if (f.wire != 2)
            return error_set(err, ERROR_BAD_REQUEST, "container_requests is no message");
        buf_init(&one, BODY_LIMIT);
        if (!answer(p, f.bytes, &one, err) || !buf_ok(&one, "answer", err))
            return false;
        proto_bytes(ret, 1, buf_str(&one));
    }
    return err->kind == ERROR_NONE && buf_ok(ret, "answer", err);
}

/* ContainerAllocateRequest{devicesIDs = 1} → ContainerAllocateResponse{devices = 3: DeviceSpec{container_path, host_path, permissions}} */
static bool allocate(const struct plugin *p, struct str request, struct buf *ret, struct error *err)
{
    AUTO(buf_done) struct buf spec = {0};
    struct proto_reader r = {request};
    struct proto_field f;

    while (proto_next(&r, &f, err))
        if (f.number == 1 && (f.wire != 2 || !is_ours(p, f.bytes)))
            return error_set(err, ERROR_INVALID, "no such device of devices.kubevirt.io/%s", p->device->name);
    if (err->kind != ERROR_NONE)
        return false;
    proto_bytes(&spec, 1, str_of(p->device->node));
    proto_bytes(&spec, 2, str_of(p->device->node));
    proto_bytes(&spec, 3, STR("rw"));
    proto_bytes(ret, 3, buf_str(&spec));
    return true;
}

/* {available_deviceIDs = 1, must_include_deviceIDs = 2, allocation_size = 3} → {deviceIDs = 1}: any of them are as good. */
static bool prefer(const struct plugin *p, struct str request, struct buf *ret, struct error *err)
{
    uint64_t size = 0;
    struct proto_field f;

    for (struct proto_reader r = {request}; proto_next(&r, &f, err);)
        if (f.number == 3 && f.wire == 0)
            size = f.value;
    for (uint32_t field = 2; field > 0 && err->kind == ERROR_NONE; field--)
        for (struct proto_reader r = {request}; size > 0 && proto_next(&r, &f, err);)
            if (f.number == field && f.wire == 2 && is_ours(p, f.bytes)) {
                proto_bytes(ret, 1, f.bytes);
                size--;
            }
    return err->kind == ERROR_NONE;
}

static void answer_each(struct plugin *p, struct exchange *x, struct str message, answer_fn fn)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf answer = {0};

    buf_init(&answer, BODY_LIMIT);
    if (each_container(p, message, fn, &answer, &err))
        grpc_answer(x, buf_str(&answer));
    else
        grpc_refuse(x, GRPC_INVALID_ARGUMENT, error_text(&err));
}

static void on_allocate(struct plugin *p, struct exchange *x, struct str message)
{
    if (healthy(p)) {
        answer_each(p, x, message, allocate);
        return;
    }
    grpc_refuse(x, GRPC_FAILED_PRECONDITION,
                arena_printf(&x->arena, "%s of this node %s%s", p->device->node, p->there ? "cannot be used: " : "is not there",
                             p->there ? p->why_not : ""));
}

static void handle(struct exchange *x, void *data)
{
    struct plugin *p = data;
    AUTO(error_clear) struct error err = {0};
    struct str method, message;

    if (!grpc_accept(x))
        return;
    method = str_starts(x->path, STR(SERVICE)) ? str_skip(x->path, sizeof SERVICE - 1) : STR("");
    if (!x->peer->local || (x->peer->uid != 0 && x->peer->uid != geteuid()))
        grpc_refuse(x, GRPC_PERMISSION_DENIED, "only the kubelet is served");
    else if (!grpc_message(x->body, &message, &err))
        grpc_refuse(x, GRPC_INVALID_ARGUMENT, error_text(&err));
    else if (str_is(method, "ListAndWatch"))
        list_and_watch(p, x);
    else if (str_is(method, "Allocate"))
        on_allocate(p, x, message);
    else if (str_is(method, "GetPreferredAllocation"))
        answer_each(p, x, message, prefer);
    else if (str_is(method, "GetDevicePluginOptions") || str_is(method, "PreStartContainer"))
        grpc_answer(x, STR("")); /* no options; nothing to do */
    else
        grpc_refuse(x, GRPC_UNIMPLEMENTED, "no such method");
}

/* --- sockets --------------------------------------------------------------------------------------------------------------------- */

static void socket_name(const struct plugin *p, char text[static 48])
{
    snprintf(text, 48, "kubevirt-%s.sock", p->device->name);
}

static ino_t inode_of_socket(const struct plugin *p)
{
    char name[48];
    struct stat st;

    socket_name(p, name);
    return fstatat(p->all->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

static bool socket_is_ours(const struct plugin *p)
{
    return p->socket && inode_of_socket(p) == p->socket;
}

/* A name of any length, beneath the directory that is held. */
static int bind_in(int dirfd, const char *name)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    bool ok;

    snprintf(sun.sun_path, sizeof sun.sun_path, "/proc/self/fd/%d/%s", dirfd, name);
    ok = fd >= 0 && (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT) && bind(fd, (struct sockaddr *)&sun, sizeof sun) == 0
         && listen(fd, 16) == 0;
    umask(old);
    if (!ok && fd >= 0) {
        int e = errno;

        close(fd);
        errno = e;
    }
    return ok ? fd : -1;
}

static bool listen_anew(struct plugin *p, struct error *err)
{
    char name[48];
    int fd;

    http_server_free(p->server); /* who watched is told so */
    p->server = NULL;
    socket_name(p, name);
    fd = bind_in(p->all->dirfd, name);
    if (fd < 0)
        return error_errno(err, errno, "%s/%s", p->all->config.dir, name);
    p->socket = inode_of_socket(p);
    p->server = http_server_new(&(struct http_server_config){.loop = p->all->loop, .handle = handle, .data = p, .body_limit = BODY_LIMIT,
                                                             .max_connections = 16, .any_authority = true});
    return http_server_listen(p->server, fd, NULL, err);
}

/* --- registration ---------------------------------------------------------------------------------------------------------------- */

static void trouble(struct plugin *p, const struct error *err)
{
    if (p->trouble && strcmp(p->trouble, error_text(err)) == 0)
        return;
    replace(&p->trouble, error_text(err));
    log_warning("devices", "devices.kubevirt.io/%s is not registered with the kubelet: %s, retrying", p->device->name, error_text(err));
}

static void on_registered(void *user, struct str answer, const struct error *err)
{
    struct plugin *p = user;

    (void)answer;
    p->registering = NULL;
    if (err->kind == ERROR_NONE)
        replace(&p->trouble, NULL);
    else
        trouble(p, err);
    if (!p->watchers.n) /* of a kubelet that said yes and does not come, too */
        register_later(p);
}

static void register_now(struct plugin *p)
{
    struct device_plugins *all = p->all;
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf message = {0};
    char name[48], resource[64];

    if (p->registering)
        return;
    if (!socket_is_ours(p) && !listen_anew(p, &err)) {
        trouble(p, &err);
        register_later(p);
        return;
    }
    /* RegisterRequest{version = 1, endpoint = 2, resource_name = 3} */
    socket_name(p, name);
    snprintf(resource, sizeof resource, "devices.kubevirt.io/%s", p->device->name);
    proto_bytes(&message, 1, STR(VERSION));
    proto_bytes(&message, 2, str_of(name));
    proto_bytes(&message, 3, str_of(resource));
    p->registering = grpc_call(all->kubelet, "/v1beta1.Registration/Register", buf_str(&message), CALL_TIMEOUT, on_registered, p);
}

static void on_retry(struct loop_timer *t)
{
    register_now(container_of(t, struct plugin, retry));
}

static void register_later(struct plugin *p)
{
    p->retry_ns = p->retry_ns ? p->retry_ns * 2 : RETRY_FIRST;
    if (p->retry_ns > RETRY_MAX)
        p->retry_ns = RETRY_MAX;
    loop_timer_start(p->all->loop, &p->retry, p->retry_ns, on_retry);
}

/* --- what changes ---------------------------------------------------------------------------------------------------------------- */

static bool is_there(const struct device_plugins *all, const struct device *d)
{
    AUTO_FREE char *path = xasprintf("%s%s", all->host_root, d->node);
    struct stat st;

    return stat(path, &st) == 0 && S_ISCHR(st.st_mode);
}

static void look_at_devices(struct device_plugins *all)
{
    bool news = false;

    for (size_t i = 0; i < N_DEVICES; i++) {
        struct plugin *p = &all->plugins[i];
        bool there = is_there(all, p->device);

        if (there == p->there)
            continue;
        log_info("devices", "%s is %s", p->device->node, there ? "there" : "gone");
        p->there = there;
        news = true;
        tell(p);
    }
    if (news && all->config.changed)
        all->config.changed(all->config.user);
}

static void look_at_sockets(struct device_plugins *all)
{
    bool anew = all->kubelet_came;

    all->kubelet_came = false;
    if (anew) { /* connections to the old one are worth nothing */
        struct http_client *old = all->kubelet;
        char path[64];

        snprintf(path, sizeof path, "/proc/self/fd/%d/" KUBELET, all->dirfd);
        all->kubelet = http_client_new(&(struct http_client_config){.loop = all->loop, .unix_path = path});
        http_client_free(old);
    }
    for (size_t i = 0; i < N_DEVICES; i++) {
        struct plugin *p = &all->plugins[i];

        if (!anew && socket_is_ours(p))
            continue;
        p->retry_ns = 0;
        loop_timer_stop(&p->retry);
        register_now(p);
    }
}

static void on_settled(struct loop_timer *t)
{
    struct device_plugins *all = container_of(t, struct device_plugins, settle);

    look_at_devices(all);
    look_at_sockets(all);
}

static void on_inotify(struct loop_io *io, uint32_t events)
{
    struct device_plugins *all = container_of(io, struct device_plugins, io);
    union {
        struct inotify_event align;
        char space[4096];
    } in;
    ssize_t n;

    (void)events;
    while ((n = read(io->fd, &in, sizeof in)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *e = (const struct inotify_event *)(const void *)(in.space + at);

            all->kubelet_came |= e->len > 0 && (e->mask & (IN_CREATE | IN_MOVED_TO)) && strcmp(e->name, KUBELET) == 0;
            all->kubelet_came |= (e->mask & IN_Q_OVERFLOW) != 0;
            at += (ssize_t)(sizeof *e + e->len);
        }
    }
    if (!loop_timer_active(&all->settle))
        loop_timer_start(all->loop, &all->settle, SETTLE, on_settled);
}

static bool watch_for_changes(struct device_plugins *all, struct error *err)
{
    static const char *const dirs[] = {"/dev", "/dev/net"};
    const uint32_t what = IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ONLYDIR;
    char path[64];

    all->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    snprintf(path, sizeof path, "/proc/self/fd/%d", all->dirfd);
    if (all->inotify < 0 || inotify_add_watch(all->inotify, path, what) < 0)
        return error_errno(err, errno, "watch %s", all->config.dir);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        AUTO_FREE char *dir = xasprintf("%s%s", all->host_root, dirs[i]);

        if (inotify_add_watch(all->inotify, dir, what) < 0) /* without /dev/net: what comes there is found out at the next start */
            log_debug("devices", "watch %s: %s, ignoring", dir, strerror(errno));
    }
    loop_io_start(all->loop, &all->io, all->inotify, EPOLLIN, on_inotify);
    return true;
}

/* --- life ------------------------------------------------------------------------------------------------------------------------ */

struct device_plugins *device_plugins_new(const struct device_plugins_config *c, struct error *err)
{
    struct device_plugins *all = NEW(struct device_plugins);

    all->loop = c->loop;
    all->config = *c;
    all->config.dir = xstrdup(c->dir);
    all->host_root = xstrdup(c->host_root ? c->host_root : "");
    if (!c->max_devices || c->max_devices > DEVICE_PLUGIN_MAX)
        all->config.max_devices = DEVICE_PLUGIN_COUNT;
    all->dirfd = all->inotify = -1;
    for (size_t i = 0; i < N_DEVICES; i++) {
        struct plugin *p = &all->plugins[i];

        p->all = all;
        p->device = &devices[i];
        if (p->device->needs_verdict)
            p->why_not = xstrdup("it is being tried out");
        p->there = is_there(all, p->device);
    }
    if (!file_open_dir(AT_FDCWD, c->dir, &all->dirfd, err) || !watch_for_changes(all, err)) {
        device_plugins_free(all);
        return NULL;
    }
    all->kubelet_came = true;
    look_at_sockets(all);
    return all;
}

static void plugin_done(struct plugin *p)
{
    char name[48];

    grpc_cancel(p->registering);
    for (size_t i = 0; i < p->watchers.n; i++) {
        p->watchers.p[i]->closed = NULL;
        exchange_abort(p->watchers.p[i]);
    }
    http_server_free(p->server);
    if (socket_is_ours(p)) {
        socket_name(p, name);
        unlinkat(p->all->dirfd, name, 0);
    }
    loop_timer_stop(&p->retry);
    vec_done(&p->watchers);
    free(p->why_not);
    free(p->trouble);
}

void device_plugins_free(struct device_plugins *all)
{
    if (!all)
        return;
    for (size_t i = 0; i < N_DEVICES; i++)
        plugin_done(&all->plugins[i]);
    http_client_free(all->kubelet);
    loop_io_stop(&all->io);
    loop_timer_stop(&all->settle);
    fd_close(&all->inotify);
    fd_close(&all->dirfd);
    free((char *)(uintptr_t)all->config.dir);
    free(all->host_root);
    free(all);
}

void device_plugins_judge(struct device_plugins *all, const char *name, const char *why_not)
{
    for (size_t i = 0; all && i < N_DEVICES; i++) {
        struct plugin *p = &all->plugins[i];
        bool before = healthy(p);

        if (strcmp(p->device->name, name) != 0)
            continue;
        replace(&p->why_not, why_not);
        if (healthy(p) != before)
            tell(p);
    }
}

bool device_plugins_ready(const struct device_plugins *all)
{
    for (size_t i = 0; i < N_DEVICES; i++)
        if (!all->plugins[i].watchers.n)
            return false;
    return true;
}
