#include "http/server.h"
#include "http/server_conn.h"
#include "http/tls_session.h"
#include "base/alloc.h"
#include "base/limits.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_HEADER_TIMEOUT SECONDS(10)
#define DEFAULT_IDLE_TIMEOUT SECONDS(300)
#define DEFAULT_CONNECTIONS 4096
#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE MILLIS(100) /* when descriptors have run out */
#define KEEPALIVE_S 30
#define USER_TIMEOUT_MS 60000

static const char h2_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct listener {
    struct list node;
    struct http_server *server;
    int fd;
    struct http_tls *tls; /* a reference of ours */
    struct loop_io io;
    struct loop_timer pause;
};

struct http_server *http_server_new(const struct http_server_config *config)
{
    struct http_server *s = NEW(struct http_server);

    s->config = *config;
    if (s->config.body_limit == 0)
        s->config.body_limit = LIMIT_HTTP_BODY;
    if (s->config.header_timeout_ns == 0)
        s->config.header_timeout_ns = DEFAULT_HEADER_TIMEOUT;
    if (s->config.idle_timeout_ns == 0)
        s->config.idle_timeout_ns = DEFAULT_IDLE_TIMEOUT;
    if (s->config.max_connections == 0)
        s->config.max_connections = DEFAULT_CONNECTIONS;
    list_init(&s->listeners);
    list_init(&s->conns);
    return s;
}

static void listener_free(struct listener *l)
{
    list_remove(&l->node);
    loop_io_stop(&l->io);
    loop_timer_stop(&l->pause);
    fd_close(&l->fd);
    http_tls_free(l->tls);
    free(l);
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    list_each_safe(n, &s->listeners)
        listener_free(list_entry(n, struct listener, node));
    while (!list_empty(&s->conns))
        conn_destroy(list_entry(s->conns.next, struct server_conn, node)->conn);
    loop_timer_stop(&s->drain_timer);
    loop_defer_cancel(&s->drain_defer);
    free(s);
}

size_t http_server_connections(const struct http_server *s)
{
    return s->n_conns;
}

bool server_over_budget(const struct server_conn *sc)
{
    return sc->server->body_bytes > SERVER_BODY_BUDGET;
}

void server_dispatch(struct server_conn *sc, struct stream *s)
{
    s->dispatched = true;
    s->x.body = buf_str(&s->body);
    sc->server->config.handle(&s->x, sc->server->config.data);
}

/* Connections */

static void drain_deferred(struct loop_defer *d)
{
    struct http_server *s = container_of(d, struct http_server, drain_defer);
    void (*done)(void *) = s->drained;

    loop_timer_stop(&s->drain_timer);
    s->drained = NULL;
    if (done)
        done(s->drained_data);
}

static void check_drained(struct http_server *s)
{
    if (s->draining && s->n_conns == 0 && s->drained)
        loop_defer(s->config.loop, &s->drain_defer, drain_deferred);
}

void server_conn_gone(struct server_conn *sc)
{
    struct http_server *s = sc->server;

    loop_timer_stop(&sc->timer);
    list_remove(&sc->node);
    s->n_conns--;
    buf_done(&sc->sniff);
    free(sc);
    check_drained(s);
}

static void start_timeout(struct loop_timer *t)
{
    conn_close(container_of(t, struct server_conn, timer)->conn);
}

/* Which protocol? TLS says it by ALPN; a plain client with prior knowledge by its first bytes. */
static void sniff_opened(struct conn *c)
{
    struct server_conn *sc = c->user;

    if (!c->ssl)
        return;
    if (str_is(conn_alpn(c), "h2"))
        h2_start(sc, STR_NONE);
    else
        h1_start(sc, STR_NONE);
}

static void sniff_received(struct conn *c, struct str data)
{
    struct server_conn *sc = c->user;

    buf_add(&sc->sniff, data.p, data.n);
    size_t n = sc->sniff.n < sizeof h2_preface - 1 ? sc->sniff.n : sizeof h2_preface - 1;
    bool same = memcmp(sc->sniff.p, h2_preface, n) == 0;
    if (same && n < sizeof h2_preface - 1)
        return;
    AUTO(buf_done) struct buf first = TAKE(sc->sniff);
    if (same)
        h2_start(sc, buf_str(&first));
    else
        h1_start(sc, buf_str(&first));
}

static void sniff_eof(struct conn *c)
{
    conn_close(c);
}
static void sniff_fill(struct conn *c)
{
    (void)c;
}

static void sniff_gone(struct conn *c, const struct error *err)
{
    (void)err;
    server_conn_gone(c->user);
}

static const struct conn_ops sniff_ops = {sniff_opened, sniff_received, sniff_eof, sniff_fill,
                                          sniff_gone};

static void set_peer(struct http_peer *p, int fd, bool tls)
{
    struct sockaddr_storage ss = {0};
    socklen_t n = sizeof ss;
    char text[INET6_ADDRSTRLEN] = "";
    int one = 1, idle = KEEPALIVE_S, timeout = USER_TIMEOUT_MS;

    p->tls = tls;
    p->uid = (uid_t)-1;
    snprintf(p->address, sizeof p->address, "unknown");
    if (getpeername(fd, (struct sockaddr *)&ss, &n) != 0)
        return;
    if (ss.ss_family == AF_UNIX) {
        struct ucred cred;
        socklen_t cn = sizeof cred;
        snprintf(p->address, sizeof p->address, "unix");
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cn) == 0 && cn == sizeof cred) {
            p->local = true;
            p->uid = cred.uid;
            p->pid = cred.pid;
        }
        return;
    }
    if (ss.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)&ss;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        snprintf(p->address, sizeof p->address, "%s:%u", text, ntohs(in->sin_port));
    } else if (ss.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)&ss;
        inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
        snprintf(p->address, sizeof p->address, "[%s]:%u", text, ntohs(in->sin6_port));
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

/* At the limit the connection that has been idle longest makes room: slow or silent clients cannot shut others out. */
static bool make_room(struct http_server *s)
{
    if (s->n_conns < s->config.max_connections)
        return true;
    list_each(n, &s->conns) {
        struct server_conn *sc = list_entry(n, struct server_conn, node);
        if (conn_alive(sc->conn) && sc->proto && sc->proto->idle(sc)) {
            conn_close(sc->conn);
            return true; /* it is gone by the end of this turn */
        }
    }
    return false;
}

bool http_server_add(struct http_server *s, int take_fd, const struct http_tls *tls,
                     struct error *err)
{
    AUTO_CLOSE int fd = take_fd;
    struct http_peer info = {0};

    if (s->draining || !make_room(s))
        return error_set(err, ERROR_UNAVAILABLE, "too many connections");
    set_peer(&info, fd, tls != NULL);
    struct server_conn *sc = NEW(struct server_conn);
    sc->server = s;
    sc->conn =
        conn_new(s->config.loop, TAKE_FD(fd), tls, false, false, NULL, false, &sniff_ops, sc, err);
    if (!sc->conn) {
        free(sc);
        return false;
    }
    sc->conn->peer->info = info;
    buf_init(&sc->sniff, 64u << 10);
    list_add_tail(&s->conns, &sc->node);
    s->n_conns++;
    loop_timer_start(s->config.loop, &sc->timer, s->config.header_timeout_ns, start_timeout);
    return true;
}

/* Listeners */

static void accept_again(struct loop_timer *t)
{
    loop_io_events(&container_of(t, struct listener, pause)->io, EPOLLIN);
}

static void accept_ready(struct loop_io *io, uint32_t events)
{
    struct listener *l = container_of(io, struct listener, io);

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        AUTO(error_clear) struct error err = {0};
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            if (!http_server_add(l->server, fd, l->tls, &err))
                continue; /* the descriptor is closed: the client sees that and tries again */
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            loop_io_events(&l->io, 0);
            loop_timer_start(l->server->config.loop, &l->pause, ACCEPT_PAUSE, accept_again);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

bool http_server_listen(struct http_server *s, int take_fd, const struct http_tls *tls,
                        struct error *err)
{
    AUTO_CLOSE int fd = take_fd;
    int flags = 1;
    socklen_t n = sizeof flags;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &flags, &n) != 0 || !flags)
        return error_set(err, ERROR_INTERNAL, "not a listening socket");
    struct listener *l = NEW(struct listener);
    l->server = s;
    l->fd = TAKE_FD(fd);
    l->tls = tls ? http_tls_ref(tls) : NULL;
    list_add_tail(&s->listeners, &l->node);
    loop_io_start(s->config.loop, &l->io, l->fd, EPOLLIN, accept_ready);
    return true;
}

void http_server_replace_tls(struct http_server *s, const struct http_tls *old_tls,
                             const struct http_tls *new_tls)
{
    list_each(n, &s->listeners) {
        struct listener *l = list_entry(n, struct listener, node);
        if (l->tls != old_tls || !l->tls)
            continue;
        struct http_tls *was = l->tls;
        l->tls = http_tls_ref(new_tls);
        http_tls_free(was);
    }
}

static void drain_over(struct loop_timer *t)
{
    struct http_server *s = container_of(t, struct http_server, drain_timer);

    list_each_safe(n, &s->conns)
        conn_close(list_entry(n, struct server_conn, node)->conn);
    check_drained(s);
}

void http_server_drain(struct http_server *s, int64_t max_ns, void (*done)(void *data), void *data)
{
    s->draining = true;
    s->drained = done;
    s->drained_data = data;
    list_each_safe(n, &s->listeners)
        listener_free(list_entry(n, struct listener, node));
    list_each_safe(c, &s->conns) {
        struct server_conn *sc = list_entry(c, struct server_conn, node);
        if (!conn_alive(sc->conn))
            continue;
        if (sc->proto)
            sc->proto->drain(sc);
        else
            conn_finish(sc->conn);
    }
    loop_timer_start(s->config.loop, &s->drain_timer, max_ns, drain_over);
    check_drained(s);
}

bool http_listen_tcp(const char *address, int *ret_fd, struct error *err)
{
    struct str host, port;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM},
                    *ai;
    int one = 1;

    if (!str_rcut(str_of(address), ':', &host, &port))
        return error_set(err, ERROR_BAD_REQUEST, "listen address '%s' is not ADDRESS:PORT",
                         address);
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = str_n(host.p + 1, host.n - 2);
    AUTO_FREE char *host_z = str_dup(host), *port_z = str_dup(port);
    int r = getaddrinfo(host.n > 0 ? host_z : NULL, port_z, &hints, &ai);
    if (r != 0)
        return error_set(err, ERROR_BAD_REQUEST, "listen address '%s': %s", address,
                         gai_strerror(r));
    AUTO_CLOSE int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0
              && bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, 1024) == 0;
    int e = errno;
    freeaddrinfo(ai);
    if (!ok)
        return error_errno(err, e, "listen on %s", address);
    *ret_fd = TAKE_FD(fd);
    return true;
}
