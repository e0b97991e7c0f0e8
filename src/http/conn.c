#include "http/conn.h"
#include "http/tls_session.h"
#include "base/alloc.h"
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_SIZE (64u << 10)  /* what fill may buffer */
#define READ_SIZE (16u << 10) /* one TLS record */
#define ROUNDS 2              /* reads or writes in one turn: others get theirs */
#define TURN_BYTES (128u << 10) /* made for one connection in one turn: a fraction of a millisecond */
#define STALL_NS SECONDS(60)  /* a peer that takes nothing for so long is cut off */
#define LINGER_NS SECONDS(2)
#define LINGER_BYTES (4u << 20)

static void io_ready(struct loop_io *io, uint32_t events);
static void flush_deferred(struct loop_defer *d);
static void bury_deferred(struct loop_defer *d);
static void resume_deferred(struct loop_defer *d);
static void more_shared(struct loop_defer *d);
static void timer_fired(struct loop_timer *t);

struct peer *peer_ref(struct peer *p)
{
    p->refs++;
    return p;
}

void peer_unref(struct peer *p)
{
    if (!p || --p->refs > 0)
        return;
    free(p->info.cert_cn);
    for (char **o = p->info.cert_orgs; o && *o; o++)
        free(*o);
    free(p->info.cert_orgs);
    free(p);
}

struct conn *conn_new(struct loop *l, int take_fd, const struct http_tls *tls, bool client,
                      bool connecting, const char *server_name, bool h1_only,
                      const struct conn_ops *ops, void *user, struct error *err)
{
    AUTO_CLOSE int fd = take_fd;
    SSL *ssl = NULL;

    if (!file_set_nonblock(fd, err))
        return NULL;
    if (tls) {
        ssl = tls_session_new(tls, fd, server_name, h1_only, err);
        if (!ssl)
            return NULL;
    }
    struct conn *c = NEW(struct conn);
    c->loop = l;
    c->fd = TAKE_FD(fd);
    c->ssl = ssl;
    c->ops = ops;
    c->user = user;
    c->peer = NEW(struct peer);
    c->peer->refs = 1;
    c->state = connecting ? CONN_CONNECTING : CONN_HANDSHAKE;
    buf_init(&c->out, 4 * OUT_SIZE);
    loop_io_start(l, &c->io, c->fd, EPOLLIN | (connecting || client ? EPOLLOUT : 0u),
                  io_ready);
    if (!connecting)
        conn_kick(c); /* a plain connection is open at once; a TLS client speaks first */
    return c;
}

void conn_set_ops(struct conn *c, const struct conn_ops *ops, void *user)
{
    c->ops = ops;
    c->user = user;
}

struct str conn_alpn(const struct conn *c)
{
    const unsigned char *p = NULL;
    unsigned n = 0;

    if (c->ssl)
        SSL_get0_alpn_selected(c->ssl, &p, &n);
    return p ? str_n((const char *)p, n) : STR_NONE;
}

size_t conn_pending(const struct conn *c)
{
    return c->out.n - c->out_at;
}

size_t conn_room(const struct conn *c)
{
    size_t pending = conn_pending(c);
    return c->state != CONN_OPEN || pending >= OUT_SIZE ? 0 : OUT_SIZE - pending;
}

void conn_made(struct conn *c, size_t n)
{
    c->made += n;
}

bool conn_spent(const struct conn *c)
{
    return c->made >= TURN_BYTES;
}

void conn_put(struct conn *c, const void *p, size_t n)
{
    if (c->state == CONN_CLOSED || c->state == CONN_LINGER)
        return;
    if (c->out_at > 0 && c->out_at == c->out.n) {
        buf_clear(&c->out);
        c->out_at = 0;
    }
    buf_add(&c->out, p, n);
    if (c->out.overflow)
        conn_fail(c, ERROR_TOO_LARGE, "too much unsent output");
    else
        conn_kick(c);
}

void conn_kick(struct conn *c)
{
    if (c->state != CONN_CLOSED && !c->blocked && !list_linked(&c->more.node))
        loop_defer(c->loop, &c->flush, flush_deferred);
}

static void want_events(struct conn *c)
{
    uint32_t events = 0;

    if (c->state == CONN_CLOSED || c->parked)
        return;
    if (!c->saw_eof && !(c->paused && c->state == CONN_OPEN))
        events |= EPOLLIN;
    if (c->blocked || c->want_read_out || c->state == CONN_CONNECTING)
        events |= EPOLLOUT;
    if (events != c->io.events)
        loop_io_events(&c->io, events);
}

void conn_pause(struct conn *c, bool paused)
{
    if (c->paused == paused || c->state == CONN_CLOSED)
        return;
    c->paused = paused;
    if (c->parked && !paused) {
        c->parked = false;
        loop_io_start(c->loop, &c->io, c->fd, EPOLLIN, io_ready);
    }
    want_events(c);
    if (!paused) /* TLS may hold bytes that epoll does not know of */
        loop_defer(c->loop, &c->resume, resume_deferred);
}

void conn_close(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    c->state = CONN_CLOSED;
    loop_io_stop(&c->io);
    loop_timer_stop(&c->timer);
    loop_defer_cancel(&c->flush);
    loop_defer_cancel(&c->more);
    loop_defer_cancel(&c->resume);
    SSL_free(c->ssl);
    c->ssl = NULL;
    fd_close(&c->fd);
    loop_defer(c->loop, &c->bury, bury_deferred);
}

void conn_fail(struct conn *c, enum error_kind kind, const char *fmt, ...)
{
    va_list ap;

    if (c->state == CONN_CLOSED)
        return;
    va_start(ap, fmt);
    error_vset(&c->err, kind, fmt, ap);
    va_end(ap);
    conn_close(c);
}

static void bury(struct conn *c)
{
    if (c->err.kind == ERROR_NONE)
        error_set(&c->err, ERROR_UNAVAILABLE, "connection closed");
    c->busy++;
    c->ops->gone(c, &c->err);
    buf_done(&c->out);
    error_clear(&c->err);
    peer_unref(c->peer);
    free(c);
}

static void bury_deferred(struct loop_defer *d)
{
    bury(container_of(d, struct conn, bury));
}

void conn_destroy(struct conn *c)
{
    assert(c->busy == 0);
    conn_close(c);
    loop_defer_cancel(&c->bury);
    bury(c);
}

void conn_finish(struct conn *c)
{
    if (c->state == CONN_CLOSED || c->closing)
        return;
    c->closing = true;
    conn_kick(c);
}

/* Everything is written: say so, then wait for the peer's end. Closing with unread bytes would make the kernel
 * send RST, and the peer could lose the response (RFC 9112 §9.6). */
static void linger(struct conn *c)
{
    if (c->ssl)
        SSL_shutdown(c->ssl);
    ERR_clear_error();
    if (c->saw_eof || shutdown(c->fd, SHUT_WR) != 0) {
        conn_close(c);
        return;
    }
    c->state = CONN_LINGER;
    c->blocked = c->want_read_out = false;
    want_events(c);
    loop_timer_start(c->loop, &c->timer, LINGER_NS, timer_fired);
}

static void timer_fired(struct loop_timer *t)
{
    struct conn *c = container_of(t, struct conn, timer);

    if (c->state == CONN_LINGER)
        conn_close(c);
    else
        conn_fail(c, ERROR_TIMEOUT, "the peer takes no data");
}

/* > 0: bytes; 0: try later; < 0: ended (conn_fail was called). */
static ssize_t write_some(struct conn *c, const char *p, size_t n)
{
    if (c->ssl) {
        size_t done = 0;
        ERR_clear_error();
        if (SSL_write_ex(c->ssl, p, n, &done))
            return (ssize_t)done;
        int e = SSL_get_error(c->ssl, 0);
        if (e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ)
            return 0;
        conn_fail(c, ERROR_UNAVAILABLE, "connection lost while writing");
        return -1;
    }
    ssize_t w = send(c->fd, p, n, MSG_NOSIGNAL);
    if (w > 0)
        return w;
    if (w < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    conn_fail(c, ERROR_UNAVAILABLE, "connection lost: %m");
    return -1;
}

static void opened(struct conn *c)
{
    c->state = CONN_OPEN;
    if (c->ssl)
        tls_session_peer(c->ssl, &c->peer->info);
    c->ops->opened(c);
}

static void handshake(struct conn *c)
{
    if (!c->ssl) {
        opened(c);
        return;
    }
    ERR_clear_error();
    int r = SSL_do_handshake(c->ssl);
    if (r == 1) {
        c->want_read_out = false;
        opened(c);
        return;
    }
    int e = SSL_get_error(c->ssl, r);
    c->want_read_out = e == SSL_ERROR_WANT_WRITE;
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
        return;
    AUTO(error_clear) struct error err = {0};
    tls_error(c->ssl, &err, "TLS handshake");
    conn_fail(c, ERROR_UNAVAILABLE, "%s", error_text(&err));
}

/* Long output goes out in turns with that of others, so that the loop comes back to what is short. */
static void share_more(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    loop_defer_cancel(&c->flush);
    loop_share(c->loop, &c->more, more_shared);
}

static void flush(struct conn *c)
{
    c->made = 0;
    for (int round = 0; c->state == CONN_OPEN && round < ROUNDS; round++) {
        if (conn_pending(c) < OUT_SIZE / 2 && !c->closing && !conn_spent(c))
            c->ops->fill(c);
        if (c->state != CONN_OPEN)
            return;
        size_t n = conn_pending(c);
        if (n == 0 && conn_spent(c))
            break;
        if (n == 0) {
            c->blocked = false;
            loop_timer_stop(&c->timer);
            buf_clear(&c->out);
            c->out_at = 0;
            if (c->out.cap > 4096) { /* idle connections hold nothing */
                buf_done(&c->out);
                buf_init(&c->out, 4 * OUT_SIZE);
            }
            if (c->closing)
                linger(c);
            return;
        }
        ssize_t w = write_some(c, c->out.p + c->out_at, n);
        if (w < 0)
            return;
        if (w == 0) {
            c->blocked = true;
            if (!loop_timer_active(&c->timer))
                loop_timer_start(c->loop, &c->timer, STALL_NS, timer_fired);
            return;
        }
        c->blocked = false;
        loop_timer_stop(&c->timer);
        c->out_at += (size_t)w;
        if (c->out_at >= OUT_SIZE || c->out_at == c->out.n) {
            buf_consume(&c->out, c->out_at);
            c->out_at = 0;
        }
    }
    share_more(c); /* more is left than this turn should take */
}

static void run_flush(struct conn *c)
{
    c->busy++;
    if (c->state == CONN_HANDSHAKE)
        handshake(c);
    if (c->state == CONN_OPEN)
        flush(c);
    want_events(c);
    c->busy--;
}

static void more_shared(struct loop_defer *d)
{
    run_flush(container_of(d, struct conn, more));
}

static void flush_deferred(struct loop_defer *d)
{
    run_flush(container_of(d, struct conn, flush));
}

/* > 0: bytes; 0: nothing now; < 0: end of stream or ended. */
static ssize_t read_some(struct conn *c, char *p, size_t n)
{
    if (c->ssl) {
        size_t done = 0;
        ERR_clear_error();
        c->want_read_out = false;
        if (SSL_read_ex(c->ssl, p, n, &done))
            return (ssize_t)done;
        int e = SSL_get_error(c->ssl, 0);
        c->want_read_out = e == SSL_ERROR_WANT_WRITE;
        if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
            return 0;
        if (e != SSL_ERROR_ZERO_RETURN
            && ERR_GET_REASON(ERR_peek_error()) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
            conn_fail(c, ERROR_UNAVAILABLE, "connection lost");
        ERR_clear_error();
        return -1;
    }
    ssize_t r = recv(c->fd, p, n, 0);
    if (r > 0)
        return r;
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (r < 0)
        conn_fail(c, ERROR_UNAVAILABLE, "connection lost: %m");
    return -1;
}

static void take(struct conn *c, struct str data)
{
    if (c->state == CONN_OPEN && !c->closing) {
        c->ops->received(c, data);
        return;
    }
    c->lingered += data.n; /* closing: what still comes is not for us */
    if (c->lingered > LINGER_BYTES)
        conn_close(c);
}

static void read_all(struct conn *c, bool hung_up)
{
    char piece[READ_SIZE];

    for (int round = 0; round < ROUNDS; round++) {
        if (c->saw_eof || (c->state != CONN_OPEN && c->state != CONN_LINGER)
            || (c->paused && c->state == CONN_OPEN && !c->closing))
            return;
        ssize_t r = read_some(c, piece, sizeof piece);
        if (r == 0)
            return;
        if (r < 0) {
            if (c->state == CONN_CLOSED)
                return;
            c->saw_eof = true;
            if (c->state == CONN_OPEN && !c->closing)
                c->ops->eof(c);
            if (c->state == CONN_LINGER || hung_up)
                conn_close(c);
            return;
        }
        take(c, str_n(piece, (size_t)r));
    }
    if (c->ssl && c->state == CONN_OPEN && SSL_has_pending(c->ssl))
        loop_defer(c->loop, &c->resume, resume_deferred);
}

static void resume_deferred(struct loop_defer *d)
{
    struct conn *c = container_of(d, struct conn, resume);

    c->busy++;
    read_all(c, false);
    want_events(c);
    c->busy--;
}

static void finish_connect(struct conn *c)
{
    int e = 0;
    socklen_t n = sizeof e;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &n) != 0)
        e = errno;
    if (e != 0) {
        conn_fail(c, ERROR_UNAVAILABLE, "connect: %s", strerror(e));
        return;
    }
    c->state = CONN_HANDSHAKE;
}

static void io_ready(struct loop_io *io, uint32_t events)
{
    struct conn *c = container_of(io, struct conn, io);
    bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;

    c->busy++;
    if (c->state == CONN_CONNECTING && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
        finish_connect(c);
    if (c->state == CONN_HANDSHAKE)
        handshake(c);
    if (c->state == CONN_OPEN || c->state == CONN_LINGER)
        read_all(c, hung_up);
    if (c->state == CONN_OPEN && (events & EPOLLOUT)) {
        c->blocked = false;
        share_more(c);
    }
    if (c->state != CONN_CLOSED && hung_up) {
        if (c->paused && !c->saw_eof) { /* unread bytes may be left for when reading goes on */
            c->parked = true;
            loop_io_stop(&c->io);
        } else if (c->saw_eof) {
            conn_close(c);
        }
    }
    want_events(c);
    c->busy--;
}
