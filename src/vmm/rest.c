#include "vmm/rest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

/* One call: the request on its way out, the answer on its way in. */
struct exchange {
    int fd;
    struct buf out;
    struct rest_parse in;
    int64_t deadline; /* by the real clock; 0: none */
};

static int64_t now_ns(void) /* what waits by itself cannot follow the loop's clock */
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * SECONDS(1) + ts.tv_nsec;
}

static int64_t deadline_of(int64_t timeout_ns)
{
    return timeout_ns < 0 ? 0 : now_ns() + (timeout_ns ? timeout_ns : REST_TIMEOUT_NS);
}

/* Waits for the events, at most until the deadline; false: it has passed. */
static bool wait_for(int fd, short events, int64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = events};
    int64_t left = deadline ? deadline - now_ns() : SECONDS(60);

    if (left <= 0)
        return false;
    poll(&p, 1, (int)(left / 1000000) + 1);
    return true;
}

static void exchange_done(struct exchange *x)
{
    fd_close(&x->fd);
    buf_done(&x->out);
    rest_parse_done(&x->in);
}

/* By the descriptor's link in /proc: the length of a socket's path is limited, that of its directory's is not. */
static bool try_connect(const struct rest *r, int *ret_fd, int *ret_errno)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int n = snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d%s%s", r->at, r->name[0] ? "/" : "", r->name);

    if (n < 0 || (size_t)n >= sizeof sa.sun_path) {
        *ret_errno = ENAMETOOLONG;
        return false;
    }
    if (fd < 0 || connect(fd, (const struct sockaddr *)&sa, sizeof sa) != 0) {
        *ret_errno = errno;
        return false;
    }
    *ret_fd = TAKE_FD(fd);
    return true;
}

static bool connect_to(const struct rest *r, int64_t deadline, int *ret_fd, struct error *err)
{
    int e = 0;

    while (!try_connect(r, ret_fd, &e)) {
        if (e != EAGAIN && e != EINTR) /* EAGAIN: its backlog is full */
            return error_set(err, ERROR_UNAVAILABLE, "does not answer: %s", strerror(e));
        if (deadline && now_ns() >= deadline)
            return error_set(err, ERROR_TIMEOUT, "accepts no connection");
        poll(NULL, 0, 2);
    }
    return true;
}

bool rest_await(const struct rest *r, int pidfd, int64_t timeout_ns, struct error *err)
{
    int64_t deadline = deadline_of(timeout_ns);
    AUTO_CLOSE int fd = -1;
    int e = 0;

    while (!try_connect(r, &fd, &e)) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};

        if (e != ENOENT && e != ECONNREFUSED && e != EAGAIN && e != EINTR)
            return error_set(err, ERROR_UNAVAILABLE, "%s: %s", r->who, strerror(e));
        if (deadline && now_ns() >= deadline)
            return error_set(err, ERROR_TIMEOUT, "%s does not open its API", r->who);
        if (poll(&p, pidfd >= 0, 1) > 0)
            return error_set(err, ERROR_UNAVAILABLE, "%s has ended", r->who);
    }
    return true;
}

bool rest_connect(const struct rest *r, int64_t timeout_ns, int *ret_fd, struct error *err)
{
    return connect_to(r, deadline_of(timeout_ns), ret_fd, err) || error_wrap(err, "%s", r->who);
}

/* ---- the request ---- */

static void write_request(struct buf *b, const struct rest_request *q)
{
    AUTO(buf_done) struct buf body = {0};

    buf_addf(b, "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", q->method, q->path);
    if (q->body) {
        json_write(&body, q->body);
        buf_addf(b, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.n);
    }
    buf_adds(b, "\r\n");
    buf_addstr(b, buf_str(&body));
    b->overflow |= body.overflow;
}

static ssize_t send_some(int fd, struct str bytes, const int *fds, size_t n_fds)
{
    union {
        char space[CMSG_SPACE(REST_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {(char *)(uintptr_t)bytes.p, bytes.n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cm), fds, n_fds * sizeof(int));
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Sends what the socket takes now. A peer that reads no further may have answered already: that is for receive() to find. */
static void send_more(struct exchange *x, const int *fds, size_t n_fds)
{
    while (x->out.n > 0) {
        ssize_t n = send_some(x->fd, buf_str(&x->out), fds, n_fds);

        if (n > 0) {
            buf_consume(&x->out, (size_t)n);
            n_fds = 0;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            buf_clear(&x->out);
        }
    }
}

/* Connects and sends the first part, and with it the descriptors: the empty buffer of a new connection always takes some. */
static bool exchange_start(struct exchange *x, const struct rest *r, const struct rest_request *q, struct error *err)
{
    *x = (struct exchange){.fd = -1, .deadline = deadline_of(q->timeout_ns)};
    rest_parse_init(&x->in);
    write_request(&x->out, q);
    if (q->n_fds > REST_MAX_FDS)
        return error_set(err, ERROR_INVALID, "%zu descriptors are more than a request can carry", q->n_fds);
    if (!buf_ok(&x->out, "the request", err) || !connect_to(r, x->deadline, &x->fd, err))
        return false;
    send_more(x, q->fds, q->n_fds);
    return true;
}

/* Reads what is there. */
static bool receive(struct exchange *x, struct error *err)
{
    char bytes[16384];

    while (!x->in.done) {
        ssize_t n = recv(x->fd, bytes, sizeof bytes, MSG_DONTWAIT);

        if (n > 0) {
            if (!rest_parse_feed(&x->in, str_n(bytes, (size_t)n), err))
                return false;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return true;
        } else if (n == 0 || errno != EINTR) {
            return error_set(err, ERROR_UNAVAILABLE, "closed the connection %s",
                             x->in.header_bytes ? "in the middle of its answer" : "without an answer");
        }
    }
    return true;
}

static bool answer_of(const struct exchange *x, struct arena *a, struct rest_answer *ret, struct error *err)
{
    AUTO(error_clear) struct error no_json = {0};

    *ret = (struct rest_answer){.status = x->in.status, .text = arena_str(a, buf_str(&x->in.body))};
    if (ret->text.n == 0 || json_parse_borrowed(ret->text, a, &ret->json, &no_json))
        return true;
    ret->json = NULL;
    return !rest_ok(ret) || error_set(err, ERROR_INTERNAL, "its answer is no JSON: %s", error_text(&no_json));
}

static bool failed(const struct rest *r, const struct rest_request *q, struct error *err)
{
    return error_wrap(err, "%s: %s %s", r->who, q->method, q->path);
}

bool rest_call(const struct rest *r, const struct rest_request *q, struct arena *a, struct rest_answer *ret, struct error *err)
{
    AUTO(exchange_done) struct exchange x = {.fd = -1};

    if (!exchange_start(&x, r, q, err))
        return failed(r, q, err);
    while (!x.in.done) {
        if (!wait_for(x.fd, x.out.n ? POLLIN | POLLOUT : POLLIN, x.deadline)) {
            error_set(err, ERROR_TIMEOUT, "no answer in time");
            return failed(r, q, err);
        }
        send_more(&x, NULL, 0);
        if (!receive(&x, err))
            return failed(r, q, err);
    }
    return answer_of(&x, a, ret, err) || failed(r, q, err);
}

/* ---- on the loop ---- */

struct rest_pending {
    struct loop *loop;
    struct exchange x;
    struct loop_io io;
    struct loop_timer timer;
    struct loop_defer tell;
    rest_done_fn done;
    void *user;
    struct error err;
    char what[160];
};

void rest_abandon(struct rest_pending *p)
{
    if (!p)
        return;
    loop_io_stop(&p->io);
    loop_timer_stop(&p->timer);
    loop_defer_cancel(&p->tell);
    exchange_done(&p->x);
    error_clear(&p->err);
    free(p);
}

static void tell(struct loop_defer *d)
{
    struct rest_pending *p = container_of(d, struct rest_pending, tell);
    AUTO(arena_done) struct arena a = {0};
    struct rest_answer answer = {0};
    bool ok = p->err.kind == ERROR_NONE && answer_of(&p->x, &a, &answer, &p->err);

    if (!ok)
        error_wrap(&p->err, "%s", p->what);
    p->done(p->user, ok ? &answer : NULL, &p->err);
    rest_abandon(p);
}

static void over(struct rest_pending *p)
{
    loop_io_stop(&p->io);
    loop_timer_stop(&p->timer);
    loop_defer(p->loop, &p->tell, tell);
}

static void ready(struct loop_io *io, uint32_t events)
{
    struct rest_pending *p = container_of(io, struct rest_pending, io);

    (void)events;
    send_more(&p->x, NULL, 0);
    if (!receive(&p->x, &p->err) || p->x.in.done)
        over(p);
    else
        loop_io_events(&p->io, p->x.out.n ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void expired(struct loop_timer *t)
{
    struct rest_pending *p = container_of(t, struct rest_pending, timer);

    error_set(&p->err, ERROR_TIMEOUT, "no answer in time");
    over(p);
}

struct rest_pending *rest_begin(struct loop *l, const struct rest *r, const struct rest_request *q, rest_done_fn done,
                                void *user, struct error *err)
{
    struct rest_pending *p = NEW(struct rest_pending);

    p->loop = l;
    p->done = done;
    p->user = user;
    snprintf(p->what, sizeof p->what, "%s: %s %s", r->who, q->method, q->path);
    if (!exchange_start(&p->x, r, q, err)) {
        failed(r, q, err);
        rest_abandon(p);
        return NULL;
    }
    loop_io_start(l, &p->io, p->x.fd, p->x.out.n ? EPOLLIN | EPOLLOUT : EPOLLIN, ready);
    if (q->timeout_ns >= 0)
        loop_timer_start(l, &p->timer, q->timeout_ns ? q->timeout_ns : REST_TIMEOUT_NS, expired);
    return p;
}

bool rest_answered(struct rest_pending *p)
{
    if (p->io.loop) /* else it is over already */
        ready(&p->io, 0);
    return !p->io.loop;
}

bool rest_finish(struct rest_pending *take_p, struct arena *a, struct rest_answer *ret, struct error *err)
{
    bool ok = take_p->err.kind == ERROR_NONE && answer_of(&take_p->x, a, ret, &take_p->err);

    if (!ok) {
        error_wrap(&take_p->err, "%s", take_p->what);
        error_move(err, &take_p->err);
    }
    rest_abandon(take_p);
    return ok;
}

/* ---- hybrid vsock ---- */

/* Byte by byte: what follows the line belongs to the stream. */
static bool read_line(int fd, char *line, size_t size, int64_t deadline, struct error *err)
{
    size_t n = 0;

    for (;;) {
        ssize_t got = recv(fd, line + n, 1, MSG_DONTWAIT);

        if (got == 1) {
            if (line[n] == '\n') {
                line[n] = '\0';
                return true;
            }
            if (++n == size)
                return error_set(err, ERROR_INTERNAL, "its answer is no 'OK'");
        } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!wait_for(fd, POLLIN, deadline))
                return error_set(err, ERROR_TIMEOUT, "no answer in time");
        } else if (got == 0 || errno != EINTR) {
            return error_set(err, ERROR_UNAVAILABLE, "nobody in the guest listens there");
        }
    }
}

bool rest_vsock_connect(const struct rest *r, unsigned port, int64_t timeout_ns, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    int64_t deadline = deadline_of(timeout_ns);
    char line[64];
    unsigned host_port;
    int n = snprintf(line, sizeof line, "CONNECT %u\n", port);

    /* A new socket takes a few bytes whole. */
    if (!connect_to(r, deadline, &fd, err))
        return error_wrap(err, "%s: vsock port %u", r->who, port);
    if (send_some(fd, str_n(line, (size_t)n), NULL, 0) != n)
        return error_set(err, ERROR_UNAVAILABLE, "%s: vsock port %u: closed the connection", r->who, port);
    if (!read_line(fd, line, sizeof line - 1, deadline, err))
        return error_wrap(err, "%s: vsock port %u", r->who, port);
    if (sscanf(line, "OK %u", &host_port) != 1)
        return error_set(err, ERROR_INTERNAL, "%s: vsock port %u: its answer is no 'OK'", r->who, port);
    fcntl(fd, F_SETFL, 0); /* blocking, as every stream that a driver hands out */
    *ret_fd = TAKE_FD(fd);
    return true;
}
