/* http/testing - a server on socketpairs and the client's end of one of them, HTTP/2 by hand, and curl. Only for tests. */
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

static inline int setup_with(struct loop *l, void (*handler)(struct exchange *, void *))
{
    memset(&w, 0, sizeof w);
    w.loop = l;
    w.peer = -1;
    struct http_server_config c = {
        .loop = w.loop, .handle = handler, .body_limit = 100000, .max_connections = 50};
    w.server = http_server_new(&c);
    return 0;
}

static inline int setup(void **state)
{
    (void)state;
    return setup_with(loop_new(NULL), handle);
}

static inline int setup_fake(void **state)
{
    (void)state;
    return setup_with(loop_new_fake(), handle);
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

static inline void turns(int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(w.loop, 0);
}

#define H "Host: a\r\n"

/* HTTP/2, by hand */

static inline void frame(struct buf *b, int type, int flags, uint32_t id, const void *p, size_t n)
{
    const unsigned char head[9] = {
        (unsigned char)(n >> 16),  (unsigned char)(n >> 8),  (unsigned char)n,
        (unsigned char)type,       (unsigned char)flags,     (unsigned char)(id >> 24),
        (unsigned char)(id >> 16), (unsigned char)(id >> 8), (unsigned char)id};
    buf_add(b, head, sizeof head);
    if (n > 0)
        buf_add(b, p, n);
}

static inline void field(struct buf *b, const char *name, const char *value)
{
    buf_addc(b, 0);
    buf_addc(b, (char)strlen(name));
    buf_adds(b, name);
    buf_addc(b, (char)strlen(value));
    buf_adds(b, value);
}

static inline void request_block(struct buf *b, const char *method, const char *path)
{
    field(b, ":method", method);
    field(b, ":path", path);
    field(b, ":scheme", "http");
    field(b, ":authority", "a");
}

/* The code of the last GOAWAY in what came, or -1. */
static inline int goaway(void)
{
    int code = -1;
    for (size_t at = 0; at + 9 <= w.got.n;) {
        const unsigned char *p = (const unsigned char *)w.got.p + at;
        size_t n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        if (p[3] == 7 && at + 9 + n <= w.got.n)
            code = p[9 + 7];
        at += 9 + n;
    }
    return code;
}

static inline size_t count_frames(int type)
{
    size_t count = 0;
    for (size_t at = 0; at + 9 <= w.got.n;) {
        const unsigned char *p = (const unsigned char *)w.got.p + at;
        count += p[3] == type;
        at += 9 + ((size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2]);
    }
    return count;
}

static inline void begin_h2(void)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

    begin();
    put(preface, sizeof preface - 1);
}

/* curl */

/* Listens with and without TLS; the certificates for curl in a directory of their own. Without curl the test ends here. */
static inline void start_listeners(void)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(cert_pair_done) struct cert_pair ca = {0}, server = {0}, client = {0};
    static const char *const ips[] = {"127.0.0.1", NULL}, *const names[] = {"localhost", NULL};
    int64_t now = loop_unix_ns(w.loop) / SECONDS(1);
    struct cert_request rs = {.common_name = "s",
                              .ip_addresses = ips,
                              .dns_names = names,
                              .server = true,
                              .now_unix_s = now,
                              .valid_s = 999};
    struct cert_request rc = {
        .common_name = "curl", .client = true, .now_unix_s = now, .valid_s = 999};
    struct sockaddr_in in;
    socklen_t n = sizeof in;
    int fd, dir;

    if (access("/usr/bin/curl", X_OK) != 0) {
        print_message("skipped: no curl\n");
        skip();
    }
    snprintf(w.dir, sizeof w.dir, "/tmp/http-test-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    assert_true(file_open_dir(AT_FDCWD, w.dir, &dir, &err));
    assert_true(cert_make_ca("ca", now, 9999, &ca, &err) && cert_issue(&ca, &rs, &server, &err)
                && cert_issue(&ca, &rc, &client, &err));
    assert_true(file_write(dir, "ca", str_of(ca.cert_pem), 0600, &err)
                && file_write(dir, "cert", str_of(client.cert_pem), 0600, &err)
                && file_write(dir, "key", str_of(client.key_pem), 0600, &err));
    close(dir);
    struct http_tls_config ts = {.cert_pem = server.cert_pem,
                                 .key_pem = server.key_pem,
                                 .ca_pem = ca.cert_pem,
                                 .server = true};
    w.tls = http_tls_new(&ts, &err);
    assert_non_null(w.tls);
    assert_true(http_listen_tcp("127.0.0.1:0", &fd, &err));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    w.plain_port = ntohs(in.sin_port);
    assert_true(http_server_listen(w.server, fd, NULL, &err));
    assert_true(http_listen_tcp("127.0.0.1:0", &fd, &err));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    w.tls_port = ntohs(in.sin_port);
    assert_true(http_server_listen(w.server, fd, w.tls, &err));
}

static inline void stop_listeners(void)
{
    AUTO_FREE char *clean = xasprintf("rm -rf %s", w.dir);

    http_tls_free(w.tls);
    assert_int_equal(system(clean), 0);
}

static bool curl_ended;
static inline void on_exit_of_curl(struct child *c)
{
    (void)c;
    curl_ended = true;
}

/* Runs "curl <args> <url>"; its output into w.got. */
static inline void curl(const char *args, const char *url)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *line = xasprintf("cd %s && exec curl -sS -m 20 %s '%s'", w.dir, args, url);
    const char *argv[] = {"/bin/sh", "-c", line, NULL};
    struct child_spec spec = {.argv = argv, .capture_limit = 4u << 20};
    struct child c = {0};

    curl_ended = false;
    assert_true(child_start(w.loop, &c, &spec, on_exit_of_curl, &err));
    for (int i = 0; i < 5000 && !curl_ended; i++)
        loop_turn(w.loop, MILLIS(5));
    assert_true(curl_ended);
    if (!child_ok(c.status))
        fail_msg("%s: %s", line, c.err_out.p);
    buf_clear(&w.got);
    buf_addstr(&w.got, buf_str(&c.out));
    child_done(&c);
}
