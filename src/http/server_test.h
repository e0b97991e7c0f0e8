/* http/server_test - a server on socketpairs, and the client's end of one of them. */
#pragma once
#include "base/alloc.h"
#include "base/base_test.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "http/server.h"
#include "http/tls.h"
#include "loop/child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

struct world {
    struct loop *loop;
    struct http_server *server;
    struct http_tls *tls;
    struct exchange *held[4096];
    size_t n_held, closed, served;
    int peer; /* the client's end of a socketpair */
    struct buf got;
    char dir[32];
    unsigned plain_port, tls_port;
};
static struct world w;

static inline void on_closed(struct exchange *x)
{
    (void)x;
    w.closed++;
}

static inline void handle(struct exchange *x, void *data)
{
    AUTO(buf_done) struct buf b = {0};
    struct str name, value;

    (void)data;
    w.served++;
    if (str_is(x->path, "/hold") || str_is(x->path, "/watch")) {
        x->closed = on_closed;
        if (str_is(x->path, "/watch")) {
            exchange_start(x, 200, "application/json");
            exchange_write(x, STR("one\n"));
        }
        w.held[w.n_held++ % ARRAY_SIZE(w.held)] = x;
        return;
    }
    if (str_is(x->path, "/big")) {
        for (int i = 0; i < 20000; i++)
            buf_addf(&b, "{\"item\":%06d}\n", i);
        exchange_respond(x, 200, "application/json", buf_str(&b));
        return;
    }
    buf_addf(&b, "%s " STR_FMT, http_method_name(x->method), STR_ARG(x->path));
    for (size_t at = 0; exchange_query_next(x, &at, &name, &value);)
        buf_addf(&b, " " STR_FMT "=" STR_FMT, STR_ARG(name), STR_ARG(value));
    buf_addf(&b, " [" STR_FMT "]%s cn=%s", STR_ARG(x->body), x->wants_upgrade ? " upgrade" : "",
             x->peer->cert_cn ? x->peer->cert_cn : "-");
    exchange_respond(x, 200, "text/plain", buf_str(&b));
}

static inline int setup_with(struct loop *l)
{
    memset(&w, 0, sizeof w);
    w.loop = l;
    w.peer = -1;
    struct http_server_config c = {
        .loop = w.loop, .handle = handle, .body_limit = 100000, .max_connections = 50};
    w.server = http_server_new(&c);
    return 0;
}

static inline int setup(void **state)
{
    (void)state;
    return setup_with(loop_new(NULL));
}

static inline int setup_fake(void **state)
{
    (void)state;
    return setup_with(loop_new_fake());
}

static inline int teardown(void **state)
{
    (void)state;
    http_server_free(w.server);
    loop_free(w.loop);
    fd_close(&w.peer);
    buf_done(&w.got);
    return 0;
}

static inline int connect_pair(void)
{
    AUTO(error_clear) struct error err = {0};
    int sv[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
    if (!http_server_add(w.server, sv[0], NULL, &err))
        fail_msg("%s", error_text(&err));
    return sv[1];
}

/* Lets both sides work until nothing moves; true: the server has closed. */
static inline bool settle(void)
{
    bool ended = false;

    for (int quiet = 0; quiet < 5;) {
        char piece[65536];
        bool ran = loop_turn(w.loop, 0);
        ssize_t n = recv(w.peer, piece, sizeof piece, MSG_DONTWAIT);
        if (n > 0)
            buf_add(&w.got, piece, (size_t)n);
        ended = ended || n == 0 || (n < 0 && errno == ECONNRESET);
        quiet = ran || n > 0 ? 0 : quiet + 1;
        if (ended && !ran)
            break;
    }
    return ended;
}

static inline void begin(void)
{
    fd_close(&w.peer);
    buf_clear(&w.got);
    w.peer = connect_pair();
}

static inline void put(const void *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(w.peer, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return;
        if (sent > 0) {
            p = (const char *)p + sent;
            n -= (size_t)sent;
        }
        loop_turn(w.loop, 0);
    }
}

static inline void puts_raw(const char *text)
{
    put(text, strlen(text));
}

#define H "Host: a\r\n"
