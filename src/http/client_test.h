/* http/client_test - a server on every kind of listener, and clients of it by every way. */
#pragma once
#include "base/alloc.h"
#include "base/base_test.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "http/client.h"
#include "http/server.h"
#include "http/tls.h"
#include "http/websocket.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A server with a plain, a TLS and a unix listener, and what its handler saw. */
struct world {
    struct loop *loop;
    struct http_server *server;
    struct http_tls *server_tls, *client_tls, *anonymous_tls;
    unsigned plain_port, tls_port;
    char dir[32], path[64];
    struct exchange *watches[2000];
    size_t n_watches, closed, served;
    bool writable;
    struct websocket *ws; /* server side */
    struct buf ws_got;
    unsigned ws_code;
    bool ws_closed;
    size_t ws_messages;
};
static struct world w;

static inline void must(bool ok, struct error *err)
{
    if (!ok)
        fail_msg("%s", error_text(err));
}

static inline void on_closed(struct exchange *x)
{
    for (size_t i = 0; i < w.n_watches; i++)
        if (w.watches[i] == x)
            w.watches[i] = NULL;
    w.closed++;
}

static inline void on_writable(struct exchange *x)
{
    (void)x;
    w.writable = true;
}

static inline void server_ws_message(struct websocket *ws, struct str data, bool binary)
{
    w.ws_messages++;
    websocket_send(ws, data, binary); /* echo */
}

static inline void server_ws_closed(struct websocket *ws, unsigned code, struct str reason)
{
    (void)ws;
    buf_clear(&w.ws_got);
    buf_addstr(&w.ws_got, reason);
    w.ws_code = code;
    w.ws_closed = true;
    w.ws = NULL;
}

static const struct websocket_ops server_ws_ops = {server_ws_message, NULL, server_ws_closed};

static inline void handle(struct exchange *x, void *data)
{
    AUTO(buf_done) struct buf b = {0};

    (void)data;
    w.served++;
    if (str_is(x->path, "/watch")) {
        x->closed = on_closed;
        x->writable = on_writable;
        exchange_start(x, 200, "application/json");
        exchange_write(x, STR("first\n"));
        w.watches[w.n_watches++] = x;
    } else if (str_is(x->path, "/never")) {
        x->closed = on_closed;
        w.watches[w.n_watches++] = x;
    } else if (str_is(x->path, "/big")) {
        for (int i = 0; i < 300000; i++)
            buf_addf(&b, "%09d\n", i);
        exchange_respond(x, 200, "application/json", buf_str(&b));
    } else if (str_is(x->path, "/echo")) {
        exchange_set_header(x, "X-Reply", exchange_header(x, "x-ask"));
        exchange_respond(x, 201, "text/plain", x->body);
    } else if (str_is(x->path, "/ws")) {
        w.ws = websocket_accept(x, "v5.channel.k8s.io", &server_ws_ops, NULL);
    } else if (str_is(x->path, "/who")) {
        buf_addf(&b, "%s %s %d %d", x->peer->cert_cn ? x->peer->cert_cn : "-",
                 x->peer->cert_orgs && x->peer->cert_orgs[0] ? x->peer->cert_orgs[0] : "-",
                 x->http2, x->peer->local && x->peer->uid == getuid() && x->peer->pid == getpid());
        exchange_respond(x, 200, "text/plain", buf_str(&b));
    } else {
        exchange_respond(x, 404, "text/plain", STR("no\n"));
    }
}

static inline int listen_unix(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memcpy(un.sun_path, path, strlen(path) + 1);
    unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 100), 0);
    return fd;
}

static inline unsigned port_of(int fd)
{
    struct sockaddr_in in;
    socklen_t n = sizeof in;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    return ntohs(in.sin_port);
}

static inline void start_server(void)
{
    AUTO(error_clear) struct error err = {0};
    struct http_server_config c = {.loop = w.loop, .handle = handle};
    int fd;

    w.server = http_server_new(&c);
    must(http_listen_tcp("127.0.0.1:0", &fd, &err), &err);
    w.plain_port = port_of(fd);
    must(http_server_listen(w.server, fd, NULL, &err), &err);
    must(http_listen_tcp("127.0.0.1:0", &fd, &err), &err);
    w.tls_port = port_of(fd);
    must(http_server_listen(w.server, fd, w.server_tls, &err), &err);
    must(http_server_listen(w.server, listen_unix(w.path), NULL, &err), &err);
}

static inline int setup(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(cert_pair_done) struct cert_pair ca = {0}, server = {0}, client = {0};
    static const char *const ips[] = {"127.0.0.1", "::1", NULL}, *const orgs[] = {"system:masters",
                                                                                  NULL};

    (void)state;
    memset(&w, 0, sizeof w);
    w.loop = loop_new(NULL);
    int64_t now = loop_unix_ns(w.loop) / SECONDS(1);
    snprintf(w.dir, sizeof w.dir, "/tmp/http-test-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.path, sizeof w.path, "%s/s", w.dir);
    struct cert_request rs = {
        .common_name = "s", .ip_addresses = ips, .server = true, .now_unix_s = now, .valid_s = 999};
    struct cert_request rc = {.common_name = "admin",
                              .organizations = orgs,
                              .client = true,
                              .now_unix_s = now,
                              .valid_s = 999};
    must(cert_make_ca("ca", now, 9999, &ca, &err), &err);
    must(cert_issue(&ca, &rs, &server, &err) && cert_issue(&ca, &rc, &client, &err), &err);
    int64_t expiry = 0;
    must(cert_expiry(client.cert_pem, &expiry, &err), &err);
    assert_int_equal(expiry, now + 999);
    struct http_tls_config ts = {.cert_pem = server.cert_pem,
                                 .key_pem = server.key_pem,
                                 .ca_pem = ca.cert_pem,
                                 .server = true};
    struct http_tls_config tc = {
        .cert_pem = client.cert_pem, .key_pem = client.key_pem, .ca_pem = ca.cert_pem};
    struct http_tls_config ta = {.ca_pem = ca.cert_pem};
    must((w.server_tls = http_tls_new(&ts, &err)) != NULL, &err);
    must((w.client_tls = http_tls_new(&tc, &err)) != NULL, &err);
    must((w.anonymous_tls = http_tls_new(&ta, &err)) != NULL, &err);
    start_server();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    http_server_free(w.server);
    http_tls_free(w.server_tls);
    http_tls_free(w.client_tls);
    http_tls_free(w.anonymous_tls);
    loop_free(w.loop);
    buf_done(&w.ws_got);
    unlink(w.path);
    rmdir(w.dir);
    return 0;
}

enum way { PLAIN, TLS_H2, TLS_H1, ANONYMOUS, UNIX_H2, UNIX_H1, N_WAYS };

static inline struct http_client *client_by(enum way way)
{
    struct http_client_config c = {.loop = w.loop, .host = "127.0.0.1", .user_agent = "test"};

    c.port = way == PLAIN ? w.plain_port : w.tls_port;
    c.http1_only = way == TLS_H1 || way == UNIX_H1;
    c.tls = way == TLS_H2 || way == TLS_H1 ? w.client_tls
            : way == ANONYMOUS             ? w.anonymous_tls
                                           : NULL;
    if (way == UNIX_H2 || way == UNIX_H1) {
        c.host = NULL;
        c.unix_path = w.path;
    }
    return http_client_new(&c);
}

struct reply {
    int done, status;
    struct buf body, header;
    struct error err;
    size_t streamed;
    struct http_call *call;
    bool cancel_in_data, hungry;
    size_t to_send, asked;
};

static inline void reply_done(struct reply *r)
{
    buf_done(&r->body);
    buf_done(&r->header);
    error_clear(&r->err);
}

static inline void on_done(void *user, int status, struct str body, const struct error *err)
{
    struct reply *r = user;

    r->done++;
    r->status = status;
    buf_addstr(&r->body, body);
    if (err->kind != ERROR_NONE)
        error_set(&r->err, err->kind, "%s", err->msg);
}

static inline void on_head(void *user, int status, const struct http_header *headers, size_t n)
{
    struct reply *r = user;

    (void)status;
    for (size_t i = 0; i < n; i++)
        if (str_is(headers[i].name, "x-reply"))
            buf_addstr(&r->header, headers[i].value);
}

static inline void on_data(void *user, struct str data)
{
    struct reply *r = user;

    r->streamed += data.n;
    if (r->cancel_in_data) {
        http_call_cancel(r->call);
        r->done = -1;
    }
}

#define PUMP_UNTIL(condition)                                                                      \
    do {                                                                                           \
        for (int turns_ = 0; !(condition); turns_++) {                                             \
            if (turns_ > 3000)                                                                     \
                fail_msg("waited in vain for %s", #condition);                                     \
            loop_turn(w.loop, MILLIS(5));                                                          \
        }                                                                                          \
    } while (0)

static inline void get(struct http_client *c, const char *path, struct reply *r)
{
    struct http_request q = {.path = str_of(path), .head = on_head, .done = on_done, .user = r};
    r->call = http_client_call(c, &q);
}

static inline void watch(struct http_client *c, struct reply *r)
{
    struct http_request q = {.path = STR("/watch"),
                             .timeout_ns = -1,
                             .stream = true,
                             .data = on_data,
                             .done = on_done,
                             .user = r};
    r->call = http_client_call(c, &q);
}
