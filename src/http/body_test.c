/* Bodies that are made as they are taken: whole, compressed, and with readers that pause, stop, die. */
#include "base/alloc.h"
#include "base/base_test.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "http/server.h"
#include "http/tls.h"
#include "loop/child.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

struct world {
    struct loop *loop;
    struct http_server *server;
    struct http_tls *tls;
    int peer; /* the client's end of a socketpair */
    struct buf got;
    char dir[32];
    unsigned plain_port, tls_port;
};
static struct world w;

#define MADE_ITEMS 400000 /* of 20 bytes: no socket buffer holds them all */

/* A body that is made as it is taken. */
struct made {
    struct body_source base;
    size_t left, bytes, freed;
};
static struct made made;

static bool made_piece(struct body_source *b, struct buf *out)
{
    struct made *m = container_of(b, struct made, base);

    for (int i = 0; i < 1000 && m->left > 0; i++)
        buf_addf(out, "{\"item\":%010zu}\n", m->left--);
    m->bytes += out->n;
    return m->left > 0;
}

static void made_free(struct body_source *b)
{
    container_of(b, struct made, base)->freed++;
}

static void handle(struct exchange *x, void *data)
{
    (void)data;
    if (str_starts(x->path, STR("/made"))) {
        made = (struct made){.base = {.make = made_piece, .free = made_free}, .left = MADE_ITEMS};
        exchange_respond_source(x, 200, "application/json", &made.base, MADE_ITEMS * 20);
        return;
    }
    exchange_respond(x, 200, "text/plain", STR("hello"));
}

static int setup_with(struct loop *l)
{
    memset(&w, 0, sizeof w);
    w.loop = l;
    w.peer = -1;
    w.server = http_server_new(&(struct http_server_config){.loop = w.loop, .handle = handle});
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(loop_new(NULL));
}

static int setup_fake(void **state)
{
    (void)state;
    return setup_with(loop_new_fake());
}

static int teardown(void **state)
{
    (void)state;
    http_server_free(w.server);
    loop_free(w.loop);
    fd_close(&w.peer);
    buf_done(&w.got);
    return 0;
}

static int connect_pair(void)
{
    AUTO(error_clear) struct error err = {0};
    int sv[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
    if (!http_server_add(w.server, sv[0], NULL, &err))
        fail_msg("%s", error_text(&err));
    return sv[1];
}

/* Lets both sides work until nothing moves; true: the server has closed. */
static bool settle(void)
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

static void begin(void)
{
    fd_close(&w.peer);
    buf_clear(&w.got);
    w.peer = connect_pair();
}

static void put(const void *p, size_t n)
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

static void puts_raw(const char *text)
{
    put(text, strlen(text));
}

#define H "Host: a\r\n"

/* HTTP/2, by hand */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

static void frame(struct buf *b, int type, int flags, uint32_t id, const void *p, size_t n)
{
    const unsigned char head[9] = {
        (unsigned char)(n >> 16),  (unsigned char)(n >> 8),  (unsigned char)n,
        (unsigned char)type,       (unsigned char)flags,     (unsigned char)(id >> 24),
        (unsigned char)(id >> 16), (unsigned char)(id >> 8), (unsigned char)id};
    buf_add(b, head, sizeof head);
    if (n > 0)
        buf_add(b, p, n);
}

static void field(struct buf *b, const char *name, const char *value)
{
    buf_addc(b, 0);
    buf_addc(b, (char)strlen(name));
    buf_adds(b, name);
    buf_addc(b, (char)strlen(value));
    buf_adds(b, value);
}

static void request_block(struct buf *b, const char *method, const char *path)
{
    field(b, ":method", method);
    field(b, ":path", path);
    field(b, ":scheme", "http");
    field(b, ":authority", "a");
}

static size_t count_frames(int type)
{
    size_t count = 0;
    for (size_t at = 0; at + 9 <= w.got.n;) {
        const unsigned char *p = (const unsigned char *)w.got.p + at;
        count += p[3] == type;
        at += 9 + ((size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2]);
    }
    return count;
}

static void begin_h2(void)
{
    begin();
    put(preface, sizeof preface - 1);
}

static void turns(int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(w.loop, 0);
}

/* One item after the other, none lost, none twice. */
static void check_made(struct str body)
{
    AUTO(buf_done) struct buf want = {0};

    for (size_t i = MADE_ITEMS; i > 0; i--)
        buf_addf(&want, "{\"item\":%010zu}\n", i);
    assert_int_equal(body.n, want.n);
    assert_memory_equal(body.p, want.p, want.n);
}

static struct str unchunk(struct buf *ret)
{
    const char *at = strstr(w.got.p, "\r\n\r\n");
    char *end;
    size_t n;

    assert_non_null(at);
    for (at += 4; (n = strtoul(at, &end, 16)) > 0; at += n + 2) {
        at = end + 2;
        buf_add(ret, at, n);
    }
    return buf_str(ret);
}

static void a_body_is_made_as_its_reader_takes_it(void **state)
{
    AUTO(buf_done) struct buf body = {0};

    (void)state;
    begin();
    puts_raw("GET /made HTTP/1.1\r\n" H "\r\n");
    turns(50); /* nobody reads: what fits into sockets is made, and no more */
    assert_true(made.bytes > 0 && made.bytes < 2u << 20);
    size_t before = made.bytes;
    turns(50);
    assert_int_equal(made.bytes, before);
    loop_fake_advance(w.loop, SECONDS(4)); /* a pause that is not too long */
    assert_false(settle());
    check_made(unchunk(&body));
    assert_int_equal(made.freed, 1);
    puts_raw("GET /x HTTP/1.1\r\n" H "\r\n"); /* the connection goes on */
    buf_clear(&w.got);
    settle();
    assert_int_equal(strncmp(w.got.p, "HTTP/1.1 200", 12), 0);
    puts_raw("HEAD /made HTTP/1.1\r\n" H "\r\n");
    settle();
    assert_true(made.freed == 1 && made.bytes == 0);
}

static void readers_that_stop_are_cut_off(void **state)
{
    AUTO(buf_done) struct buf b = {0}, h = {0};

    (void)state;
    begin(); /* takes nothing */
    puts_raw("GET /made HTTP/1.1\r\n" H "\r\n");
    turns(50);
    loop_fake_advance(w.loop, SECONDS(11));
    turns(5);
    assert_int_equal(made.freed, 1);
    assert_int_equal(http_server_connections(w.server), 0);

    begin(); /* takes a byte now and then */
    puts_raw("GET /made HTTP/1.1\r\n" H "\r\n");
    turns(50);
    for (int i = 0; i < 11 && made.freed == 0; i++) {
        char c[100];
        assert_true(recv(w.peer, c, sizeof c, 0) > 0);
        turns(5);
        loop_fake_advance(w.loop, SECONDS(1));
    }
    assert_int_equal(made.freed, 1);

    begin(); /* dies */
    puts_raw("GET /made HTTP/1.1\r\n" H "\r\n");
    turns(50);
    fd_close(&w.peer);
    turns(5);
    assert_int_equal(made.freed, 1);
    w.peer = connect_pair();

    begin(); /* the server gives up: the end must not look like one */
    puts_raw("GET /made HTTP/1.1\r\n" H "\r\n");
    turns(50);
    made.base.cut = true;
    assert_true(settle());
    assert_int_equal(made.freed, 1);
    assert_true(w.got.n < 4u << 20 && memcmp(w.got.p + w.got.n - 5, "0\r\n\r\n", 5) != 0);

    request_block(&h, "GET", "/made"); /* HTTP/2: the window stays shut */
    begin_h2();
    frame(&b, 1, 5, 1, h.p, h.n);
    put(b.p, b.n);
    settle();
    assert_true(made.bytes < 200000 && made.freed == 0);
    loop_fake_advance(w.loop, SECONDS(11));
    settle();
    assert_int_equal(made.freed, 1);
    assert_int_equal(count_frames(3), 1);
    assert_int_equal(http_server_connections(w.server), 1);

    begin_h2(); /* resets it */
    put(b.p, b.n);
    settle();
    buf_clear(&b);
    frame(&b, 3, 0, 1, "\0\0\0\10", 4);
    put(b.p, b.n);
    settle();
    assert_int_equal(made.freed, 1);

    begin_h2(); /* the server gives up: the stream is reset, the connection lives */
    buf_clear(&b);
    frame(&b, 1, 5, 1, h.p, h.n);
    put(b.p, b.n);
    settle();
    made.base.cut = true;
    buf_clear(&b);
    frame(&b, 8, 0, 0, "\0\x1\0\0", 4);
    frame(&b, 8, 0, 1, "\0\x1\0\0", 4);
    put(b.p, b.n);
    assert_false(settle());
    assert_int_equal(made.freed, 1);
    assert_int_equal(count_frames(3), 1);
}

static void start_listeners(void)
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

static bool curl_ended;
static void on_exit_of_curl(struct child *c)
{
    (void)c;
    curl_ended = true;
}

/* Runs "curl <args> <url>"; its output into w.got. */
static void curl(const char *args, const char *url)
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

static void curl_gets_all_of_it(void **state)
{
    static const char *const ways[] = {"--http1.1", "--http1.1 --compressed", "--http2",
                                       "--http2 --compressed", "--http1.0"};

    (void)state;
    if (access("/usr/bin/curl", X_OK) != 0) {
        print_message("skipped: no curl\n");
        skip();
    }
    start_listeners();
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        AUTO(error_clear) struct error err = {0};
        AUTO(buf_done) struct buf body = {0};
        AUTO_FREE char *args = xasprintf("%s --cacert ca -o out -w '%%{size_download}'", ways[i]);
        AUTO_FREE char *url = xasprintf("https://localhost:%u/made", w.tls_port);
        bool gzip = strstr(ways[i], "compressed") != NULL;
        int dir;

        curl(args, url);
        assert_int_equal(strtoul(w.got.p, NULL, 10) < MADE_ITEMS * 10, gzip);
        assert_true(file_open_dir(AT_FDCWD, w.dir, &dir, &err));
        assert_true(file_read(dir, "out", &body, &err));
        close(dir);
        check_made(buf_str(&body));
        assert_int_equal(made.freed, 1);
    }
    AUTO_FREE char *clean = xasprintf("rm -rf %s", w.dir);
    http_tls_free(w.tls);
    assert_int_equal(system(clean), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_is_made_as_its_reader_takes_it, setup_fake,
                                        teardown),
        cmocka_unit_test_setup_teardown(readers_that_stop_are_cut_off, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(curl_gets_all_of_it, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
