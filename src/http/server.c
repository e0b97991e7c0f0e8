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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_HEADER_TIMEOUT SECONDS(10)
#define DEFAULT_IDLE_TIMEOUT SECONDS(300)
#define DEFAULT_CONNECTIONS 4096
#define ACCEPTS_PER_TURN 64
#define SLOW_BODY SECONDS(1)     /* a body that takes longer gives way when memory is short */
#define SPARE_FILES 256          /* descriptors for all but connections */
#define ACCEPT_PAUSE MILLIS(100) /* when descriptors have run out */
#define MOST_FILES 16384
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
    struct rlimit files;

    s->config = *config;
    if (s->config.body_limit == 0)
        s->config.body_limit = LIMIT_HTTP_BODY;
    if (s->config.header_timeout_ns == 0)
        s->config.header_timeout_ns = DEFAULT_HEADER_TIMEOUT;
    if (s->config.idle_timeout_ns == 0)
        s->config.idle_timeout_ns = DEFAULT_IDLE_TIMEOUT;
    if (s->config.max_connections == 0)
        s->config.max_connections = DEFAULT_CONNECTIONS;
    /* Connections must not eat the descriptors that the store and the children need. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > 2 * SPARE_FILES
        && s->config.max_connections > files.rlim_cur - SPARE_FILES)
        s->config.max_connections = (unsigned)files.rlim_cur - SPARE_FILES;
    if (s->config.max_per_peer == 0)
        s->config.max_per_peer = s->config.max_connections / 4;
    list_init(&s->listeners);
    list_init(&s->fresh);
    list_init(&s->conns);
    list_init(&s->bodies.waiting);
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

static void destroy_all(struct list *conns)
{
    while (!list_empty(conns))
        conn_destroy(list_entry(conns->next, struct server_conn, node)->conn);
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    list_each_safe(n, &s->listeners)
        listener_free(list_entry(n, struct listener, node));
    destroy_all(&s->fresh);
    destroy_all(&s->conns);
    loop_timer_stop(&s->drain_timer);
    loop_defer_cancel(&s->drain_defer);
    map_done_with(&s->peers, free);
    free(s);
}

size_t http_server_connections(const struct http_server *s)
{
    return s->n_conns;
}

bool server_body_room(struct server_conn *sc)
{
    struct body_budget *b = &sc->server->bodies;

    if (b->bytes <= LIMIT_HTTP_BODIES)
        return true;
    if (list_empty(&b->waiting))
        return false;
    struct stream *oldest = list_entry(b->waiting.next, struct stream, body_node);
    if (loop_now_ns(sc->server->config.loop) - oldest->since_ns < SLOW_BODY)
        return false;
    list_remove(&oldest->body_node);
    oldest->ops->evict(oldest);
    return true;
}

void server_dispatch(struct server_conn *sc, struct stream *s)
{
    s->dispatched = true;
    s->x.body = buf_str(&s->body);
    list_remove(&sc->node); /* who asked last is the last to go when connections run out */
    list_add_tail(&sc->server->conns, &sc->node);
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
    if (sc->local)
        s->n_local--;
    if (sc->peer_key) {
        size_t *n = map_get(&s->peers, str_of(sc->peer_key));
        if (n && --*n == 0)
            free(map_del(&s->peers, str_of(sc->peer_key)));
        free(sc->peer_key);
    }
    if (sc->guard.over)
        sc->guard.over(sc->guard.data);
    arena_done(&sc->guarded);
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

/* The address without its port; NULL where it tells nothing apart: unix sockets, and loopback, behind which all of a
 * machine's users are. */
static char *peer_key(const struct http_peer *p)
{
    struct str host, port;

    if (p->local || !str_rcut(str_of(p->address), ':', &host, &port)
        || str_starts(host, STR("127.")) || str_is(host, "[::1]")
        || str_is(host, "[::ffff:127.0.0.1]"))
        return NULL;
    return str_dup(host);
}

static bool is_idle(const struct server_conn *sc)
{
    return conn_alive(sc->conn) && sc->proto && sc->proto->idle(sc);
}

/* Who goes: first a connection that has never asked anything, the oldest (it is silent, or its request is slow in
 * coming); then the one that has been idle for longest. `key` not NULL: only that peer's. */
static bool evict_one(struct http_server *s, const char *key, bool local)
{
    struct list *lists[] = {&s->fresh, &s->conns};

    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        list_each(n, lists[i]) {
            struct server_conn *sc = list_entry(n, struct server_conn, node);
            if (sc->local != local || (key && (!sc->peer_key || strcmp(key, sc->peer_key) != 0)))
                continue;
            if (conn_alive(sc->conn) && (i == 0 || is_idle(sc))) {
                conn_close(sc->conn); /* it is gone by the end of this turn */
                return true;
            }
        }
    }
    return false;
}

/* Slow or silent clients cannot shut others out: at a limit one of them makes room. Unix sockets, over which this
 * machine's own processes come, have an allowance of their own. */
static bool make_room(struct http_server *s, const char *key, bool local)
{
    size_t *of_peer = key ? map_get(&s->peers, str_of(key)) : NULL;
    size_t held = local ? s->n_local : s->n_conns - s->n_local;

    if (of_peer && *of_peer >= s->config.max_per_peer && !evict_one(s, key, local))
        return false;
    return held < s->config.max_connections || evict_one(s, NULL, local);
}

static void count_peer(struct http_server *s, struct server_conn *sc, char *take_key)
{
    size_t *n = take_key ? map_get(&s->peers, str_of(take_key)) : NULL;

    sc->peer_key = take_key;
    if (take_key && !n) {
        n = NEW(size_t);
        map_set(&s->peers, str_of(take_key), n);
    }
    if (n)
        ++*n;
}

bool http_server_add(struct http_server *s, int take_fd, const struct http_tls *tls,
                     struct error *err)
{
    AUTO_CLOSE int fd = take_fd;
    struct http_peer info = {0};

    set_peer(&info, fd, tls != NULL);
    AUTO_FREE char *key = peer_key(&info);
    if (s->draining || !make_room(s, key, info.local))
        return error_set(err, ERROR_UNAVAILABLE, "too many connections");
    struct server_conn *sc = NEW(struct server_conn);
    sc->server = s;
    sc->local = info.local;
    sc->conn =
        conn_new(s->config.loop, TAKE_FD(fd), tls, false, false, NULL, false, &sniff_ops, sc, err);
    if (!sc->conn) {
        free(sc);
        return false;
    }
    sc->conn->peer->info = info;
    buf_init(&sc->sniff, 64u << 10);
    list_add_tail(&s->fresh, &sc->node);
    s->n_conns++;
    s->n_local += sc->local;
    count_peer(s, sc, TAKE(key));
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

    list_each_safe(f, &s->fresh)
        conn_close(list_entry(f, struct server_conn, node)->conn);
    list_each_safe(n, &s->conns)
        conn_close(list_entry(n, struct server_conn, node)->conn);
    check_drained(s);
}

static void drain_all(struct list *conns)
{
    list_each_safe(c, conns) {
        struct server_conn *sc = list_entry(c, struct server_conn, node);
        if (!conn_alive(sc->conn))
            continue;
        if (sc->proto)
            sc->proto->drain(sc);
        else
            conn_finish(sc->conn);
    }
}

void http_server_wind_down(struct http_server *s)
{
    s->winding_down = true;
    list_each_safe(n, &s->conns) {
        struct server_conn *sc = list_entry(n, struct server_conn, node);
        if (sc->proto && conn_alive(sc->conn))
            sc->proto->notice(sc);
    }
}

void http_server_drain(struct http_server *s, int64_t max_ns, void (*done)(void *data), void *data)
{
    s->draining = true;
    s->drained = done;
    s->drained_data = data;
    list_each_safe(n, &s->listeners)
        listener_free(list_entry(n, struct listener, node));
    drain_all(&s->fresh);
    drain_all(&s->conns);
    loop_timer_start(s->config.loop, &s->drain_timer, max_ns, drain_over);
    check_drained(s);
}

void http_server_renew(struct http_server *s)
{
    list_each_safe(f, &s->fresh) {
        struct server_conn *sc = list_entry(f, struct server_conn, node);
        if (sc->proto && conn_alive(sc->conn))
            sc->proto->drain(sc);
        else
            conn_close(sc->conn); /* in the midst of a handshake with the old configuration */
    }
    list_each_safe(n, &s->conns) {
        struct server_conn *sc = list_entry(n, struct server_conn, node);
        if (sc->proto && conn_alive(sc->conn)) /* else a WebSocket */
            sc->proto->drain(sc);
    }
}

void http_server_claim_descriptors(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < MOST_FILES) {
        files.rlim_cur = files.rlim_max < MOST_FILES ? files.rlim_max : MOST_FILES;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0)
            return; /* http_server_new() keeps within what there is */
    }
}

static int listen_at(const struct addrinfo *ai)
{
    int one = 1, no = 0;
    AUTO_CLOSE int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
        return -1;
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no); /* [::] is IPv4's addresses, too */
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1024) < 0)
        return -1;
    return TAKE_FD(fd);
}

/* ":PORT" is every address there is: [::] where the kernel has IPv6, else 0.0.0.0. */
static int listen_first(const struct addrinfo *list, bool any)
{
    int fd = -1;

    for (const struct addrinfo *ai = list; ai && any && fd < 0; ai = ai->ai_next)
        if (ai->ai_family == AF_INET6)
            fd = listen_at(ai);
    return fd >= 0 ? fd : listen_at(list);
}

bool http_listen_tcp(const char *address, int *ret_fd, struct error *err)
{
    struct str host, port;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *ai;

    if (!str_rcut(str_of(address), ':', &host, &port))
        return error_set(err, ERROR_BAD_REQUEST, "listen address '%s' is not ADDRESS:PORT", address);
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = str_n(host.p + 1, host.n - 2);
    AUTO_FREE char *host_z = str_dup(host), *port_z = str_dup(port);
    int r = getaddrinfo(host.n > 0 ? host_z : NULL, port_z, &hints, &ai);
    if (r != 0)
        return error_set(err, ERROR_BAD_REQUEST, "listen address '%s': %s", address, gai_strerror(r));
    int fd = listen_first(ai, host.n == 0), e = errno;
    freeaddrinfo(ai);
    if (fd < 0)
        return error_errno(err, e, "listen on %s", address);
    *ret_fd = fd;
    return true;
}
