/* The node agent's side of the launcher's socket: calls with deadlines, and events. */
#include "vmm/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"

struct call {
    struct list node;
    struct loop_timer timer;
    struct proto_client *client;
    int64_t id;
    proto_done_fn done;
    void *user;
};

struct proto_client {
    struct loop *loop;
    struct proto_conn *conn;
    struct list calls;
    int64_t next_id, version;
    pid_t pid;
    bool dead;
    bool busy; /* inside a callback of ours: freeing waits */
    bool freed;
    struct loop_defer fail; /* fails calls that were made on a dead connection */
    void (*event)(void *user, const struct json *event);
    void (*closed)(void *user, const struct error *why);
    void *event_user;
};

static void client_destroy(struct proto_client *c);

static void call_finish(struct call *call, const struct json *ok, int *fds, size_t n_fds,
                        const struct error *err)
{
    proto_done_fn done = call->done;
    void *user = call->user;

    list_remove(&call->node);
    loop_timer_stop(&call->timer);
    free(call);
    if (done)
        done(user, ok, fds, n_fds, err);
}

static void leave(struct proto_client *c) /* end of a callback */
{
    c->busy = false;
    if (c->freed)
        client_destroy(c);
}

static enum error_kind kind_of(struct str name)
{
    for (int k = ERROR_NONE; k <= ERROR_INTERNAL; k++)
        if (str_is(name, error_kind_name((enum error_kind)k)))
            return (enum error_kind)k;
    return ERROR_INTERNAL;
}

static void client_message(struct proto_conn *conn, const struct json *msg, int *fds, size_t n_fds)
{
    struct proto_client *c = proto_user(conn);
    AUTO(error_clear) struct error err = {0};
    int64_t id;

    c->busy = true;
    if (json_get(msg, "event")) {
        if (c->event)
            c->event(c->event_user, msg);
    } else if (json_i64(json_get(msg, "id"), &id)) {
        const struct json *error = json_get(msg, "error");

        if (error)
            error_set(&err, kind_of(json_str_at(error, "kind")), STR_FMT,
                      STR_ARG(json_str_at(error, "message")));
        list_each_safe(it, &c->calls) {
            struct call *call = list_entry(it, struct call, node);

            if (call->id == id) {
                call_finish(call, error ? NULL : json_get(msg, "ok"), fds, n_fds, &err);
                break;
            }
        }
    }
    leave(c);
}

/* Every call that waits fails at once. Calls that its callbacks add go to the dead connection's own path. */
static void client_fail_all(struct proto_client *c, const struct error *why)
{
    AUTO(error_clear) struct error err = {0};

    error_set(&err, ERROR_UNAVAILABLE, "launcher: %s", error_text(why));
    while (!list_empty(&c->calls) && !c->freed)
        call_finish(list_entry(c->calls.next, struct call, node), NULL, NULL, 0, &err);
}

static void client_closed(struct proto_conn *conn, const struct error *why)
{
    struct proto_client *c = proto_user(conn);

    c->dead = true;
    c->busy = true;
    client_fail_all(c, why);
    if (!c->freed && c->closed)
        c->closed(c->event_user, why);
    leave(c);
}

static const struct proto_handlers client_handlers = {client_message, client_closed};

static void client_fail_late(struct loop_defer *d)
{
    struct proto_client *c = container_of(d, struct proto_client, fail);
    AUTO(error_clear) struct error why = {0};

    error_set(&why, ERROR_UNAVAILABLE, "the connection is closed");
    c->busy = true;
    client_fail_all(c, &why);
    leave(c);
}

static void call_timeout(struct loop_timer *t)
{
    struct call *call = container_of(t, struct call, timer);
    struct proto_client *c = call->client;
    AUTO(error_clear) struct error err = {0};

    error_set(&err, ERROR_TIMEOUT, "launcher: no answer in time");
    c->busy = true;
    call_finish(call, NULL, NULL, 0, &err);
    leave(c);
}

struct proto_client *proto_client_new(struct loop *l, int take_fd)
{
    struct proto_client *c = NEW(struct proto_client);

    c->loop = l;
    c->version = PROTO_VERSION;
    list_init(&c->calls);
    c->conn = proto_new(l, take_fd, &client_handlers, c);
    return c;
}

/* connect(2) follows links and takes only paths: the socket's inode is opened first, without following, checked to be a
 * socket, and connected to through its /proc/self/fd name. */
bool proto_client_connect(struct loop *l, int dirfd, uid_t expect_uid, struct proto_client **ret,
                          struct error *err)
{
    AUTO_CLOSE int node = -1;
    AUTO_CLOSE int fd = -1;
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct ucred cred;
    socklen_t cred_n = sizeof cred;
    struct stat st;
    struct proto_client *c;

    if (!file_open_beneath(dirfd, SOCKET_NAME, O_PATH | O_NOFOLLOW, 0, &node, err))
        return error_wrap(err, "launcher socket");
    if (fstat(node, &st) != 0 || !S_ISSOCK(st.st_mode))
        return error_set(err, ERROR_UNAVAILABLE, "launcher socket: not a socket");
    if (st.st_uid != expect_uid)
        return error_set(err, ERROR_FORBIDDEN, "launcher socket: belongs to uid %u, not %u",
                         st.st_uid, expect_uid);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, errno, "launcher socket");
    snprintf(sun.sun_path, sizeof sun.sun_path, "/proc/self/fd/%d", node);
    if (connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0) {
        if (errno == ECONNREFUSED || errno == EAGAIN || errno == ENOENT)
            return error_set(err, ERROR_UNAVAILABLE, "launcher socket: %s", strerror(errno));
        return error_errno(err, errno, "launcher socket");
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_n) != 0)
        return error_errno(err, errno, "launcher socket: peer");
    if (cred.uid != expect_uid)
        return error_set(err, ERROR_FORBIDDEN, "launcher socket: served by uid %u, not %u",
                         cred.uid, expect_uid);
    c = proto_client_new(l, TAKE_FD(fd));
    c->pid = cred.pid;
    *ret = c;
    return true;
}

pid_t proto_client_pid(const struct proto_client *c)
{
    return c->pid;
}

int64_t proto_common(int64_t oldest, int64_t newest, int64_t their_oldest, int64_t their_newest)
{
    int64_t v = newest < their_newest ? newest : their_newest;

    return v >= oldest && v >= their_oldest ? v : 0;
}

bool proto_client_agree(struct proto_client *c, const struct json *subscribed, struct error *err)
{
    int64_t newest = json_i64_at(subscribed, "v", 1), oldest = json_i64_at(subscribed, "oldest", newest);
    int64_t v = proto_common(PROTO_OLDEST, PROTO_VERSION, oldest, newest);

    if (v == 0)
        return error_set(err, ERROR_UNSUPPORTED,
                         "the launcher speaks versions %lld to %lld of their messages, this node agent %d to %d: install a version of Vireo "
                         "between the two, or start the machine anew",
                         (long long)oldest, (long long)newest, PROTO_OLDEST, PROTO_VERSION);
    c->version = v;
    return true;
}

void proto_client_call(struct proto_client *c, const char *call, const struct json *params,
                       const int *fds, size_t n_fds, int64_t timeout_ns, proto_done_fn done,
                       void *user)
{
    AUTO(arena_done) struct arena a = {0};
    struct call *k = NEW(struct call);
    const struct json *msg;

    k->client = c;
    k->id = ++c->next_id;
    k->done = done;
    k->user = user;
    list_add_tail(&c->calls, &k->node);
    if (c->dead) {
        loop_defer(c->loop, &c->fail, client_fail_late);
        return;
    }
    if (timeout_ns > 0)
        loop_timer_start(c->loop, &k->timer, timeout_ns, call_timeout);
    msg = json_object(&a, "v", json_new_i64(&a, c->version), "id", json_new_i64(&a, k->id),
                      "call", json_new_z(&a, call), NULL);
    json_each_member(m, params)
        msg = json_with_str(&a, msg, json_str(&m->key), &m->value);
    proto_send(c->conn, msg, fds, n_fds);
}

void proto_client_on_event(struct proto_client *c, void (*fn)(void *user, const struct json *event),
                           void (*closed)(void *user, const struct error *why), void *user)
{
    c->event = fn;
    c->closed = closed;
    c->event_user = user;
}

static void client_destroy(struct proto_client *c)
{
    AUTO(error_clear) struct error err = {0};

    error_set(&err, ERROR_UNAVAILABLE, "launcher: the connection was given up");
    while (!list_empty(&c->calls))
        call_finish(list_entry(c->calls.next, struct call, node), NULL, NULL, 0, &err);
    loop_defer_cancel(&c->fail);
    proto_free(c->conn);
    free(c);
}

void proto_client_free(struct proto_client *c)
{
    if (!c)
        return;
    c->event = NULL;
    c->closed = NULL;
    if (c->busy)
        c->freed = true;
    else
        client_destroy(c);
}
