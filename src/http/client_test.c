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

static void must(bool ok, struct error *err)
{
    if (!ok)
        fail_msg("%s", error_text(err));
}

static void on_closed(struct exchange *x)
{
    for (size_t i = 0; i < w.n_watches; i++)
        if (w.watches[i] == x)
            w.watches[i] = NULL;
    w.closed++;
}

static void on_writable(struct exchange *x)
{
    (void)x;
    w.writable = true;
}

static void server_ws_message(struct websocket *ws, struct str data, bool binary)
{
    w.ws_messages++;
    websocket_send(ws, data, binary); /* echo */
}

static void server_ws_closed(struct websocket *ws, unsigned code, struct str reason)
{
    (void)ws;
    buf_clear(&w.ws_got);
    buf_addstr(&w.ws_got, reason);
    w.ws_code = code;
    w.ws_closed = true;
    w.ws = NULL;
}

static const struct websocket_ops server_ws_ops = {server_ws_message, NULL, server_ws_closed};

static void handle(struct exchange *x, void *data)
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

static int listen_unix(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memcpy(un.sun_path, path, strlen(path) + 1);
    unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 100), 0);
    return fd;
}

static unsigned port_of(int fd)
{
    struct sockaddr_in in;
    socklen_t n = sizeof in;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    return ntohs(in.sin_port);
}

static void start_server(void)
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

static int setup(void **state)
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

static int teardown(void **state)
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

static struct http_client *client_by(enum way way)
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

static void reply_done(struct reply *r)
{
    buf_done(&r->body);
    buf_done(&r->header);
    error_clear(&r->err);
}

static void on_done(void *user, int status, struct str body, const struct error *err)
{
    struct reply *r = user;

    r->done++;
    r->status = status;
    buf_addstr(&r->body, body);
    if (err->kind != ERROR_NONE)
        error_set(&r->err, err->kind, "%s", err->msg);
}

static void on_head(void *user, int status, const struct http_header *headers, size_t n)
{
    struct reply *r = user;

    (void)status;
    for (size_t i = 0; i < n; i++)
        if (str_is(headers[i].name, "x-reply"))
            buf_addstr(&r->header, headers[i].value);
}

static void on_data(void *user, struct str data)
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

static void get(struct http_client *c, const char *path, struct reply *r)
{
    struct http_request q = {.path = str_of(path), .head = on_head, .done = on_done, .user = r};
    r->call = http_client_call(c, &q);
}

static void watch(struct http_client *c, struct reply *r)
{
    struct http_request q = {.path = STR("/watch"),
                             .timeout_ns = -1,
                             .stream = true,
                             .data = on_data,
                             .done = on_done,
                             .user = r};
    r->call = http_client_call(c, &q);
}

static void every_way_knows_its_peer(void **state)
{
    static const char *const want[N_WAYS] = {
        "- - 0 0", "admin system:masters 1 0", "admin system:masters 0 0", "- - 1 0", "- - 1 1",
        "- - 0 1"};
    (void)state;
    for (int i = 0; i < N_WAYS; i++) {
        AUTO(reply_done) struct reply r = {0};
        struct http_client *c = client_by((enum way)i);
        get(c, "/who", &r);
        PUMP_UNTIL(r.done);
        assert_string_equal(error_text(&r.err), error_text(&(struct error){0}));
        assert_int_equal(r.status, 200);
        assert_string_equal(r.body.p, want[i]);
        http_client_free(c);
    }
}

static void bodies_go_both_ways(void **state)
{
    AUTO(buf_done) struct buf sent = {0};

    (void)state;
    for (int i = 0; i < 200000; i++)
        buf_addf(&sent, "%09d\n", i);
    for (int i = 0; i < N_WAYS; i++) {
        AUTO(reply_done) struct reply r = {0}, big = {0}, large = {0};
        struct http_client *c = client_by((enum way)i);
        struct http_header h = {STR("X-Ask"), STR("why\r\nX-Evil: 1")};
        struct http_request q = {.method = HTTP_POST,
                                 .path = STR("/echo"),
                                 .headers = &h,
                                 .n_headers = 1,
                                 .body = buf_str(&sent),
                                 .head = on_head,
                                 .done = on_done,
                                 .user = &r};
        http_client_call(c, &q);
        get(c, "/big", &big);
        PUMP_UNTIL(r.done && big.done);
        assert_string_equal(error_text(&r.err), error_text(&(struct error){0}));
        assert_int_equal(r.status, 201);
        assert_int_equal(r.body.n, sent.n);
        assert_memory_equal(r.body.p, sent.p, sent.n);
        assert_string_equal(r.header.p, "why  X-Evil: 1");
        assert_int_equal(big.body.n, 3000000);
        char *too_much = xcalloc(1, 3500000);
        memset(too_much, 'x', 3500000);
        q.body = str_n(too_much, 3500000);
        q.user = &large;
        http_client_call(c, &q);
        PUMP_UNTIL(large.done);
        assert_int_equal(large.status, 413);
        free(too_much);
        http_client_free(c);
    }
}

static ssize_t read_some(void *user, char *p, size_t n)
{
    struct reply *r = user;

    if (r->to_send == 0)
        return -1;
    if (++r->asked % 3 == 0) { /* now and then there is nothing at once */
        r->hungry = true;
        return 0;
    }
    size_t some = r->to_send < n ? r->to_send : n;
    some = some > 3000 ? 3000 : some;
    memset(p, 'u', some);
    r->to_send -= some;
    return (ssize_t)some;
}

static void uploads_are_read_as_they_go(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * N_WAYS; i++) {
        AUTO(reply_done) struct reply r = {.to_send = 1000000};
        struct http_client *c = client_by((enum way)(i / 2));
        struct http_request q = {.method = HTTP_PUT,
                                 .path = STR("/echo"),
                                 .read_body = read_some,
                                 .body_length = i % 2 ? 1000000 : -1,
                                 .done = on_done,
                                 .user = &r};
        r.call = http_client_call(c, &q);
        for (int turns = 0; !r.done && turns < 10000; turns++) {
            loop_turn(w.loop, MILLIS(5));
            if (r.hungry && !r.done) {
                r.hungry = false;
                http_call_resume(r.call);
            }
        }
        assert_string_equal(error_text(&r.err), error_text(&(struct error){0}));
        assert_int_equal(r.status, 201);
        assert_int_equal(r.body.n, 1000000);
        http_client_free(c);
    }
}

static void watches_stream_and_cancel(void **state)
{
    (void)state;
    for (int i = 0; i < N_WAYS; i++) {
        AUTO(reply_done) struct reply a = {0}, b = {.cancel_in_data = true};
        struct http_client *c = client_by((enum way)i);
        w.n_watches = w.closed = 0;
        watch(c, &a);
        PUMP_UNTIL(a.streamed == 6);
        struct block *shared = block_new(STR("event\n"));
        exchange_write_block(w.watches[0], shared);
        block_unref(shared);
        PUMP_UNTIL(a.streamed == 12);
        watch(c, &b);
        PUMP_UNTIL(b.done == -1);
        PUMP_UNTIL(w.closed == 1);
        exchange_end(w.watches[0]);
        PUMP_UNTIL(a.done);
        assert_int_equal(a.err.kind, ERROR_NONE);
        http_client_free(c);
    }
}

static void many_streams_share_connections(void **state)
{
    enum { N = 600 };
    static struct reply r[N];
    struct http_client *c = client_by(TLS_H2);

    (void)state;
    memset(r, 0, sizeof r);
    for (int i = 0; i < N; i++)
        watch(c, &r[i]);
    for (int i = 0; i < N; i++)
        PUMP_UNTIL(r[i].streamed == 6);
    assert_in_range(http_server_connections(w.server), 3, 6); /* 250 streams each */
    for (int i = 0; i < N; i++)
        exchange_write(w.watches[i], STR("more\n"));
    for (int i = 0; i < N; i++)
        PUMP_UNTIL(r[i].streamed == 11);
    http_client_free(c);
    for (int i = 0; i < N; i++) {
        assert_int_equal(r[i].done, 1);
        assert_int_equal(r[i].err.kind, ERROR_UNAVAILABLE);
        reply_done(&r[i]);
    }
    PUMP_UNTIL(w.closed == N);
}

static void a_slow_reader_is_heard_of(void **state)
{
    static char chunk[4096];
    enum way ways[] = {UNIX_H2, PLAIN};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        AUTO(reply_done) struct reply a = {0};
        struct http_client *c = client_by(ways[i]);
        size_t total = 6, queued = 0;
        w.n_watches = 0;
        w.writable = false;
        watch(c, &a);
        PUMP_UNTIL(a.streamed == 6);
        while (queued < EXCHANGE_HIGH_WATER) {
            queued = exchange_write(w.watches[0], str_n(chunk, sizeof chunk));
            total += sizeof chunk;
        }
        assert_false(w.writable);
        PUMP_UNTIL(w.writable && a.streamed == total);
        exchange_abort(w.watches[0]);
        PUMP_UNTIL(a.done);
        assert_int_equal(a.err.kind, ERROR_UNAVAILABLE);
        http_client_free(c);
    }
}

static void failures_explain_themselves(void **state)
{
    AUTO(reply_done) struct reply r = {0}, late = {0}, name = {0}, path = {0};
    struct http_client_config nowhere = {.loop = w.loop, .unix_path = "/nonexistent/socket"};
    struct http_client *c = http_client_new(&nowhere);

    (void)state;
    get(c, "/who", &r);
    PUMP_UNTIL(r.done);
    assert_int_equal(r.err.kind, ERROR_UNAVAILABLE);
    assert_string_equal(r.err.msg, "/nonexistent/socket: connect: No such file or directory");
    http_client_free(c);

    c = client_by(UNIX_H2);
    struct http_request q = {
        .path = STR("/never"), .timeout_ns = MILLIS(50), .done = on_done, .user = &late};
    http_client_call(c, &q);
    get(c, "/a b", &path);
    PUMP_UNTIL(late.done && path.done);
    assert_int_equal(late.err.kind, ERROR_TIMEOUT);
    assert_int_equal(path.err.kind, ERROR_BAD_REQUEST);
    PUMP_UNTIL(w.closed == 1);
    http_client_free(c);

    struct http_client_config other = {
        .loop = w.loop, .host = "localhost", .port = w.tls_port, .tls = w.client_tls};
    c = http_client_new(&other); /* the certificate names only addresses */
    get(c, "/who", &name);
    PUMP_UNTIL(name.done);
    assert_int_equal(name.err.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(name.err.msg, "hostname mismatch"));
    http_client_free(c);
}

static void connects_anew_after_a_restart(void **state)
{
    struct http_client *c = client_by(UNIX_H2), *h1 = client_by(UNIX_H1);
    AUTO(reply_done) struct reply a = {0}, b = {0}, d = {0}, e = {0}, running = {0};

    (void)state;
    get(c, "/who", &a);
    get(h1, "/who", &d);
    watch(c, &running);
    PUMP_UNTIL(a.done && d.done && running.streamed);
    http_server_free(w.server);
    assert_int_equal(w.closed, 1);
    start_server();
    get(h1, "/who", &e); /* it does not know yet that its kept connection is dead */
    PUMP_UNTIL(running.done);
    assert_int_equal(running.err.kind, ERROR_UNAVAILABLE);
    get(c, "/who", &b);
    PUMP_UNTIL(b.done && e.done);
    assert_int_equal(b.status, 200);
    assert_int_equal(e.status, 200);
    http_client_free(c);
    http_client_free(h1);
}

struct old_server { /* knows no HTTP/2 */
    struct loop_io listen, conn;
    int fd;
    unsigned prefaces;
};

static void old_reads(struct loop_io *io, uint32_t events)
{
    struct old_server *o = container_of(io, struct old_server, conn);
    char b[4096];
    ssize_t n = read(io->fd, b, sizeof b);
    bool preface = n > 3 && memcmp(b, "PRI", 3) == 0;
    const char *answer =
        preface ? "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                : "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold";

    (void)events;
    o->prefaces += preface;
    if (n > 0)
        assert_true(write(io->fd, answer, strlen(answer)) > 0);
    if (n <= 0 || preface) {
        int fd = io->fd;
        loop_io_stop(io);
        close(fd);
    }
}

static void old_accepts(struct loop_io *io, uint32_t events)
{
    struct old_server *o = container_of(io, struct old_server, listen);
    int fd = accept(io->fd, NULL, NULL);

    (void)events;
    loop_io_start(w.loop, &o->conn, fd, EPOLLIN, old_reads);
}

static void falls_back_to_http1(void **state)
{
    AUTO(reply_done) struct reply a = {0}, b = {0};
    struct old_server o = {0};
    char path[64];

    (void)state;
    snprintf(path, sizeof path, "%s/old", w.dir);
    AUTO_CLOSE int fd = listen_unix(path);
    loop_io_start(w.loop, &o.listen, fd, EPOLLIN, old_accepts);
    struct http_client_config cc = {.loop = w.loop, .unix_path = path};
    struct http_client *c = http_client_new(&cc);
    get(c, "/x", &a);
    PUMP_UNTIL(a.done);
    assert_string_equal(a.body.p, "old");
    get(c, "/y", &b);
    PUMP_UNTIL(b.done);
    assert_string_equal(b.body.p, "old");
    assert_int_equal(o.prefaces, 1);
    http_client_free(c);
    PUMP_UNTIL(!o.conn.loop);
    loop_io_stop(&o.listen);
    unlink(path);
}

static bool drained;
static void on_drained(void *data)
{
    (void)data;
    drained = true;
}

static void drains(void **state)
{
    AUTO(reply_done) struct reply a = {0}, b = {0}, refused = {0};
    struct http_client *c = client_by(UNIX_H2), *h1 = client_by(PLAIN);

    (void)state;
    drained = false;
    watch(c, &a);
    watch(h1, &b);
    PUMP_UNTIL(a.streamed && b.streamed);
    http_server_drain(w.server, SECONDS(30), on_drained, NULL);
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, MILLIS(1));
    assert_false(drained);
    exchange_end(w.watches[0]);
    exchange_end(w.watches[1]);
    PUMP_UNTIL(a.done && b.done);
    assert_int_equal(a.err.kind, ERROR_NONE);
    assert_int_equal(b.err.kind, ERROR_NONE);
    PUMP_UNTIL(drained);
    assert_int_equal(http_server_connections(w.server), 0);
    get(h1, "/who", &refused);
    PUMP_UNTIL(refused.done);
    assert_int_equal(refused.err.kind, ERROR_UNAVAILABLE);
    http_client_free(c);
    http_client_free(h1);
}

static void answers_into_the_void(void **state)
{
    AUTO(reply_done) struct reply a = {0};
    struct http_client *c = client_by(UNIX_H2);

    (void)state;
    get(c, "/never", &a);
    PUMP_UNTIL(w.n_watches == 1);
    w.watches[0]->closed = NULL; /* a handler that answers in any case */
    http_client_free(c);
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, MILLIS(1));
    exchange_respond(w.watches[0], 200, "text/plain", STR("too late"));
    assert_int_equal(a.done, 1);
}

/* WebSocket */

struct talk {
    struct websocket *ws;
    struct buf got, reason;
    bool connected, failed, writable;
    int status;
    unsigned code, closed;
    size_t messages;
};

static void talk_message(struct websocket *ws, struct str data, bool binary)
{
    struct talk *t = websocket_user(ws);

    assert_true(binary);
    t->messages++;
    buf_addstr(&t->got, data);
}

static void talk_writable(struct websocket *ws)
{
    ((struct talk *)websocket_user(ws))->writable = true;
}

static void talk_closed(struct websocket *ws, unsigned code, struct str reason)
{
    struct talk *t = websocket_user(ws);

    buf_addstr(&t->reason, reason);
    t->code = code;
    t->closed++;
    t->ws = NULL;
}

static void talk_connected(struct websocket *ws)
{
    ((struct talk *)websocket_user(ws))->connected = true;
}

static void talk_failed(void *user, const struct error *err, int status, struct str body)
{
    struct talk *t = user;

    buf_adds(&t->reason, error_text(err));
    buf_addstr(&t->got, body);
    t->failed = true;
    t->status = status;
    t->ws = NULL;
}

static const struct websocket_ops talk_ops = {talk_message, talk_writable, talk_closed};

static void talk_start(struct talk *t, struct http_client *c, const char *path)
{
    static const char *const protocols[] = {"v4.channel.k8s.io", "v5.channel.k8s.io", NULL};
    struct websocket_connect q = {.client = c,
                                  .path = path,
                                  .subprotocols = protocols,
                                  .ops = &talk_ops,
                                  .user = t,
                                  .connected = talk_connected,
                                  .failed = talk_failed};
    t->ws = websocket_connect(&q);
}

static void talk_done(struct talk *t)
{
    buf_done(&t->got);
    buf_done(&t->reason);
}

static void websockets_talk(void **state)
{
    static const enum way ways[] = {PLAIN, TLS_H2, UNIX_H2};
    static char large[700000];

    (void)state;
    memset(large, 'z', sizeof large);
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        AUTO(talk_done) struct talk t = {0};
        struct http_client *c = client_by(ways[i]);
        w.ws_closed = false;
        talk_start(&t, c, "/ws");
        PUMP_UNTIL(t.connected || t.failed);
        assert_false(t.failed);
        assert_string_equal(websocket_subprotocol(t.ws), "v5.channel.k8s.io");
        assert_true(websocket_send(t.ws, STR("hello"), true) < 100);
        websocket_send(t.ws, STR(""), true);
        PUMP_UNTIL(t.messages == 2);
        assert_string_equal(t.got.p, "hello");
        assert_true(websocket_send(t.ws, str_n(large, sizeof large), true) >= 256u << 10);
        PUMP_UNTIL(t.got.n == 5 + sizeof large);
        assert_true(t.writable);

        websocket_pause(t.ws, true);
        websocket_send(t.ws, STR("held"), true);
        for (int k = 0; k < 50; k++)
            loop_turn(w.loop, MILLIS(1));
        assert_int_equal(t.messages, 3);
        websocket_pause(t.ws, false);
        PUMP_UNTIL(t.messages == 4);

        if (i == 0) {
            websocket_close(t.ws, 1000, "enough");
            PUMP_UNTIL(t.closed && w.ws_closed);
            assert_int_equal(w.ws_code, 1000);
            assert_string_equal(w.ws_got.p, "enough");
            assert_int_equal(t.code, 1000);
        } else if (i == 1) {
            websocket_close(w.ws, 1011, "server's will");
            PUMP_UNTIL(t.closed && w.ws_closed);
            assert_int_equal(t.code, 1011);
            assert_string_equal(t.reason.p, "server's will");
        } else {
            http_client_free(c);
            c = NULL;
            assert_int_equal(t.code, 1006);
            PUMP_UNTIL(w.ws_closed);
            assert_int_equal(w.ws_code, 1006);
        }
        assert_int_equal(t.closed, 1);
        http_client_free(c);
    }
}

/* What was sent before a close arrives before it, however much it is. */
static void websockets_close_behind_their_data(void **state)
{
    static char large[900000];

    (void)state;
    memset(large, 'y', sizeof large);
    for (int server = 0; server < 2; server++) {
        AUTO(talk_done) struct talk t = {0};
        struct http_client *c = client_by(TLS_H2);

        w.ws_closed = false;
        w.ws_messages = 0;
        talk_start(&t, c, "/ws");
        PUMP_UNTIL(t.connected || t.failed);
        assert_false(t.failed);
        for (int k = 0; k < 4; k++)
            websocket_send(server ? w.ws : t.ws, str_n(large, sizeof large), true);
        websocket_close(server ? w.ws : t.ws, 1000, "done");
        websocket_send(server ? w.ws : t.ws, STR("too late"), true);
        PUMP_UNTIL(t.closed && w.ws_closed);
        assert_int_equal(server ? t.messages : w.ws_messages, 4);
        assert_int_equal(server ? t.code : w.ws_code, 1000);
        http_client_free(c);
    }
}

/* A relay hands on the code that it heard; some of them mean that there was none. */
static void websockets_send_no_reserved_codes(void **state)
{
    static const struct {
        unsigned given, arrives;
    } codes[] = {{1005, 1005}, {1006, 1001}, {1015, 1001}, {1011, 1011}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        AUTO(talk_done) struct talk t = {0};
        struct http_client *c = client_by(PLAIN);

        w.ws_closed = false;
        talk_start(&t, c, "/ws");
        PUMP_UNTIL(t.connected || t.failed);
        websocket_close(t.ws, codes[i].given, "why");
        PUMP_UNTIL(t.closed && w.ws_closed);
        assert_int_equal(w.ws_code, codes[i].arrives);
        http_client_free(c);
    }
}

static void websockets_refused(void **state)
{
    AUTO(talk_done) struct talk t = {0}, early = {0};
    struct http_client *c = client_by(PLAIN);

    (void)state;
    talk_start(&t, c, "/nothing");
    PUMP_UNTIL(t.failed);
    assert_int_equal(t.status, 404);
    assert_string_equal(t.got.p, "no\n");
    talk_start(&early, c, "/ws");
    websocket_close(early.ws, 1000, NULL);
    PUMP_UNTIL(early.closed);
    assert_false(early.connected);
    http_client_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_way_knows_its_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(bodies_go_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(uploads_are_read_as_they_go, setup, teardown),
        cmocka_unit_test_setup_teardown(watches_stream_and_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(many_streams_share_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slow_reader_is_heard_of, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_explain_themselves, setup, teardown),
        cmocka_unit_test_setup_teardown(connects_anew_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(falls_back_to_http1, setup, teardown),
        cmocka_unit_test_setup_teardown(drains, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_into_the_void, setup, teardown),
        cmocka_unit_test_setup_teardown(websockets_talk, setup, teardown),
        cmocka_unit_test_setup_teardown(websockets_close_behind_their_data, setup, teardown),
        cmocka_unit_test_setup_teardown(websockets_send_no_reserved_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(websockets_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
