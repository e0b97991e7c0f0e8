#include "vmm/qemu/qmp.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

struct event {
    struct list node;
    char *line; /* owned */
    size_t n;
};

struct qmp {
    struct loop *loop;
    struct loop_io io;
    struct loop_defer hand_out;
    const struct qmp_handlers *handlers;
    void *user;
    int fd;
    int64_t next_id;
    struct buf in;
    size_t scanned; /* of `in`: no newline before it */
    struct list events;
    size_t n_events;
    bool dead, told;
};

static int64_t
now_ns(void) /* deadlines of a call that pumps by itself cannot follow the loop's clock */
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * SECONDS(1) + ts.tv_nsec;
}

static void sort_all(struct qmp *q);

static void hand_out(struct loop_defer *d)
{
    struct qmp *q = container_of(d, struct qmp, hand_out);

    sort_all(q);
    while (!list_empty(&q->events)) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct event *e = list_entry(q->events.next, struct event, node);
        const struct json *v;

        list_remove(&e->node);
        q->n_events--;
        if (json_parse_borrowed(str_n(e->line, e->n), &a, &v, &err))
            q->handlers->event(q->user, json_str_at(v, "event"), json_get(v, "data"));
        free(e->line);
        free(e);
    }
    if (q->dead && !q->told) {
        q->told = true;
        q->handlers->closed(q->user);
    }
}

static void die(struct qmp *q)
{
    q->dead = true;
    loop_io_stop(&q->io);
    loop_defer(q->loop, &q->hand_out, hand_out);
}

static void keep_event(struct qmp *q, struct str line)
{
    struct event *e = NEW(struct event);

    if (q->n_events >= QMP_MAX_EVENTS) {
        struct event *old = list_entry(q->events.next, struct event, node);

        list_remove(&old->node);
        free(old->line);
        free(old);
        q->n_events--;
    }
    e->line = str_dup(line);
    e->n = line.n;
    list_add_tail(&q->events, &e->node);
    q->n_events++;
    loop_defer(q->loop, &q->hand_out, hand_out);
}

/* The next whole line, moved to *ret (owned). False: no whole line yet. */
static bool take_line(struct qmp *q, char **ret, size_t *ret_n)
{
    char *nl =
        q->in.n > q->scanned ? memchr(q->in.p + q->scanned, '\n', q->in.n - q->scanned) : NULL;
    size_t n;

    if (!nl) {
        q->scanned = q->in.n;
        return false;
    }
    n = (size_t)(nl - q->in.p);
    *ret = str_dup(str_n(q->in.p, n));
    *ret_n = n;
    buf_consume(&q->in, n + 1);
    q->scanned = 0;
    return true;
}

/* Reads what is there. A line beyond the limit is the end: whoever sends it is no QEMU. */
static void fill(struct qmp *q)
{
    while (!q->dead) {
        char *p = buf_reserve(&q->in, 4096);
        ssize_t n;

        if (!p) {
            die(q);
            return;
        }
        n = recv(q->fd, p, 4096, MSG_DONTWAIT);
        if (n > 0) {
            buf_commit(&q->in, (size_t)n);
            if (n < 4096)
                return;
        } else if (n == 0) {
            die(q);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            die(q);
        }
    }
}

/* An event that came in one piece with a reply: the socket will not become readable for it. */
static void look_again(struct qmp *q)
{
    if (q->in.n > 0)
        loop_defer(q->loop, &q->hand_out, hand_out);
}

enum line_is { LINE_OTHER, LINE_EVENT, LINE_REPLY };

/* Whether a line is the reply to id (`id` < 0: the greeting). Events are put aside. */
static enum line_is sort_line(struct qmp *q, char *line, size_t n, int64_t id, struct arena *a,
                              const struct json **ret)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v;
    int64_t got;

    if (!json_parse(str_n(line, n), a, &v, &err))
        return LINE_OTHER;
    if (json_get(v, "event")) {
        if (!json_is(json_get(v, "event"), JSON_STRING))
            return LINE_OTHER;
        keep_event(q, str_n(line, n));
        return LINE_EVENT;
    }
    *ret = v;
    if (id < 0)
        return json_get(v, "QMP") ? LINE_REPLY : LINE_OTHER;
    return json_i64(json_get(v, "id"), &got) && got == id ? LINE_REPLY : LINE_OTHER;
}

static void sort_all(struct qmp *q)
{
    char *line;
    size_t n;

    while (take_line(q, &line, &n)) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *v;

        sort_line(q, line, n, 0, &a,
                  &v); /* replies to calls that ran out of time are dropped here */
        free(line);
    }
}

static void readable(struct loop_io *io, uint32_t events)
{
    struct qmp *q = container_of(io, struct qmp, io);

    (void)events;
    fill(q);
    sort_all(q);
}

void qmp_drain(struct qmp *q)
{
    if (!q)
        return;
    if (!q->dead)
        fill(q);
    sort_all(q);
    loop_defer_cancel(&q->hand_out);
    hand_out(&q->hand_out);
}

static bool wait_reply(struct qmp *q, int64_t id, int64_t deadline, struct arena *a,
                       const struct json **ret, struct error *err)
{
    for (;;) {
        char *line;
        size_t n;

        while (take_line(q, &line, &n)) {
            enum line_is is = sort_line(q, line, n, id, a, ret);

            free(line);
            if (is == LINE_REPLY)
                return true;
        }
        if (q->dead)
            return error_set(err, ERROR_UNAVAILABLE, "QEMU has ended");
        int64_t left = deadline - now_ns();
        if (left <= 0)
            return error_set(err, ERROR_TIMEOUT, "QEMU does not answer");
        struct pollfd p = {.fd = q->fd, .events = POLLIN};
        poll(&p, 1, (int)(left / 1000000) + 1);
        if (p.revents)
            fill(q);
    }
}

static bool send_all(struct qmp *q, struct str text, int fd, int64_t deadline, struct error *err)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;

    while (text.n > 0) {
        struct iovec iov = {(char *)(uintptr_t)text.p, text.n};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n;

        if (q->dead)
            return error_set(err, ERROR_UNAVAILABLE, "QEMU has ended");
        if (fd >= 0) {
            memset(&control, 0, sizeof control);
            msg.msg_control = control.space;
            msg.msg_controllen = sizeof control.space;
            struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
            cm->cmsg_level = SOL_SOCKET;
            cm->cmsg_type = SCM_RIGHTS;
            cm->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(cm), &fd, sizeof fd);
        }
        n = sendmsg(q->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            text = str_skip(text, (size_t)n);
            fd = -1;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            struct pollfd p = {.fd = q->fd, .events = POLLOUT};

            if (now_ns() > deadline)
                return error_set(err, ERROR_TIMEOUT, "QEMU does not read");
            poll(&p, 1, 100);
        } else if (errno != EINTR) {
            fill(q); /* what it said before it went is still to be heard */
            sort_all(q);
            if (!q->dead)
                die(q);
        }
    }
    return true;
}

static int64_t add_command(struct qmp *q, struct buf *b, const char *command,
                           const struct json *args)
{
    AUTO(arena_done) struct arena a = {0};
    int64_t id = ++q->next_id;

    json_write(b, json_object(&a, "execute", json_new_z(&a, command), "arguments", args, "id",
                              json_new_i64(&a, id), NULL));
    buf_addc(b, '\n');
    return id;
}

static bool reply_value(const char *command, const struct json *reply, const struct json **ret,
                        struct error *err)
{
    const struct json *error = json_get(reply, "error");

    if (error) {
        bool absent = str_is(json_str_at(error, "class"), "DeviceNotFound");

        return error_set(err, absent ? ERROR_NOT_FOUND : ERROR_INTERNAL, "%s: " STR_FMT, command,
                         STR_ARG(json_str_at(error, "desc")));
    }
    if (ret)
        *ret = json_get(reply, "return");
    return true;
}

bool qmp_call_fd(struct qmp *q, const char *command, const struct json *args, int fd,
                 struct arena *a, const struct json **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    int64_t deadline = now_ns() + QMP_TIMEOUT_NS;
    const struct json *reply = NULL;
    int64_t id = add_command(q, &b, command, args);

    if (!buf_ok(&b, command, err) || !send_all(q, buf_str(&b), fd, deadline, err)
        || !wait_reply(q, id, deadline, a, &reply, err))
        return error_wrap(err, "%s", command);
    look_again(q);
    return reply_value(command, reply, ret, err);
}

bool qmp_call(struct qmp *q, const char *command, const struct json *args, struct arena *a,
              const struct json **ret, struct error *err)
{
    return qmp_call_fd(q, command, args, -1, a, ret, err);
}

bool qmp_hello(struct qmp *q, int64_t timeout_ns, struct arena *a, struct str *ret_machine,
               struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    int64_t deadline = now_ns() + timeout_ns;
    const struct json *reply = NULL, *type = NULL;
    int64_t hello = add_command(q, &b, "qmp_capabilities", NULL);
    int64_t machine = add_command(
        q, &b, "qom-get",
        json_object(a, "path", json_new_z(a, "/machine"), "property", json_new_z(a, "type"), NULL));

    /* Written before the greeting is there: the socket holds it, and QEMU executes in order. */
    if (!send_all(q, buf_str(&b), -1, deadline, err) || !wait_reply(q, -1, deadline, a, &reply, err)
        || !wait_reply(q, hello, deadline, a, &reply, err)
        || !reply_value("qmp_capabilities", reply, NULL, err)
        || !wait_reply(q, machine, deadline, a, &reply, err))
        return false;
    if (!reply_value("qom-get", reply, &type, err))
        return false;
    *ret_machine = json_str(type);
    look_again(q);
    return true;
}

struct qmp *qmp_new(struct loop *l, int take_fd, const struct qmp_handlers *h, void *user)
{
    struct qmp *q = NEW(struct qmp);

    q->loop = l;
    q->handlers = h;
    q->user = user;
    q->fd = take_fd;
    buf_init(&q->in, LIMIT_QMP_LINE);
    list_init(&q->events);
    loop_io_start(l, &q->io, q->fd, EPOLLIN, readable);
    return q;
}

void qmp_free(struct qmp *q)
{
    if (!q)
        return;
    loop_io_stop(&q->io);
    loop_defer_cancel(&q->hand_out);
    list_each_safe(it, &q->events) {
        struct event *e = list_entry(it, struct event, node);

        free(e->line);
        free(e);
    }
    buf_done(&q->in);
    fd_close(&q->fd);
    free(q);
}
