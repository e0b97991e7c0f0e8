#include "base/alloc.h"
#include "base/base_test.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
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
    struct exchange *held[4096];
    size_t n_held, closed, served;
    int peer; /* the client's end of a socketpair */
    struct buf got;
    char dir[32];
    unsigned plain_port, tls_port;
};
static struct world w;

static void on_closed(struct exchange *x)
{
    (void)x;
    w.closed++;
}

static void handle(struct exchange *x, void *data)
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

static int setup_with(struct loop *l)
{
    memset(&w, 0, sizeof w);
    w.loop = l;
    w.peer = -1;
    struct http_server_config c = {
        .loop = w.loop, .handle = handle, .body_limit = 100000, .max_connections = 50};
    w.server = http_server_new(&c);
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

static void drop_dates(struct buf *b)
{
    char *at;
    while (b->n > 0 && (at = memmem(b->p, b->n, "date: ", 6)) != NULL) {
        memmove(at, at + 37, (size_t)(b->p + b->n - at - 37));
        b->n -= 37;
        b->p[b->n] = '\0';
    }
}

#define H "Host: a\r\n"

static void answers_http1_exactly(void **state)
{
    static const struct {
        const char *in, *out;
        bool closes;
    } t[] = {
        {"GET /a%20b?x=1+2&y=%41&z HTTP/1.1\r\n" H "\r\n",
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 29\r\n\r\nGET /a b x=1 2 "
         "y=A z= [] cn=-",
         false},
        {"\r\nGET http://a/p?q=1 HTTP/1.1\r\n" H "\r\n",
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 19\r\n\r\nGET /p q=1 [] "
         "cn=-",
         false},
        {"HEAD /x HTTP/1.1\r\n" H "\r\n",
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 16\r\n\r\n", false},
        {"GET /x HTTP/1.0\r\n\r\n",
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\nconnection: "
         "close\r\n\r\nGET /x [] cn=-",
         true},
        {"POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabcGET /y HTTP/1.1\r\n" H
         "Connection: close\r\n\r\n",
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 19\r\n\r\nPOST /x [abc] "
         "cn=-"
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\nconnection: "
         "close\r\n\r\nGET /y [] cn=-",
         true},
        {"PUT /x HTTP/1.1\r\n" H
         "Transfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n0a\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 28\r\n\r\nPUT /x "
         "[abc0123456789] cn=-",
         false},
        {"POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n",
         "HTTP/1.1 100 Continue\r\n\r\n", false},
        {"POST /exec HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 27\r\n\r\nPOST /exec [] "
         "upgrade cn=-",
         false},
        {"GET /x HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
         "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nGET /x [] cn=-",
         false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        begin();
        puts_raw(t[i].in);
        bool closed = settle();
        drop_dates(&w.got);
        AUTO_FREE char *plain = xstrdup(w.got.p);
        /* the length is of the body that stands behind it; compare without counting by hand */
        assert_int_equal(closed, t[i].closes);
        const char *want = t[i].out;
        for (const char *a = plain, *b = want; *a || *b; a++, b++) {
            if (strncmp(a, "content-length: ", 16) == 0
                && strncmp(b, "content-length: ", 16) == 0) {
                a = strchr(a, '\n');
                b = strchr(b, '\n');
            }
            if (*a != *b)
                fail_msg("case %zu: got\n%s\nwant\n%s", i, plain, want);
        }
    }
}

static void refuses_what_is_ambiguous(void **state)
{
    static const struct {
        const char *in;
        int status;
    } t[] = {
        {"GET /x HTTP/1.1\n" H "\n", 400},
        {"GET /x HTTP/1.1\r\nHost: a\n\r\n\r\n", 400},
        {"GET /x HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", 400},
        {"GET /x HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", 400},
        {"GET /x HTTP/1.1\r\n" H "A : b\r\n\r\n", 400},
        {"GET /x HTTP/1.1\r\n" H ": b\r\n\r\n", 400},
        {"GET /x HTTP/1.1\r\n" H "A: \x01\r\n\r\n", 400},
        {"GET /x HTTP/1.1\r\n\r\n", 400},
        {"GET /x HTTP/1.1\r\n" H H "\r\n", 400},
        {"GET  /x HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /x  HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /x HTTP/1.1 \r\n" H "\r\n", 400},
        {"GET /x\r\n" H "\r\n", 400},
        {"GET /x HTTP/2.0\r\n" H "\r\n", 505},
        {"get /x HTTP/1.1\r\n" H "\r\n", 501},
        {"CONNECT a:1 HTTP/1.1\r\n" H "\r\n", 501},
        {"GET x HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /../x HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /a/%2e%2E/x HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /a%00 HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /a%f HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /a%ff HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /a#b HTTP/1.1\r\n" H "\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H
         "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400},
        {"POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
        {"POST /x HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\nabc", 400},
        {"POST /x HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\nabc", 400},
        {"POST /x HTTP/1.1\r\n" H "Content-Length: -3\r\n\r\nabc", 400},
        {"POST /x HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Content-Length: 100001\r\n\r\n", 413},
        {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST /x HTTP/1.1\r\n" H
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n", 400},
        {"POST /x HTTP/1.1\r\n" H "Expect: magic\r\n\r\n", 417},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        char want[32];
        size_t before = w.served;
        begin();
        puts_raw(t[i].in);
        puts_raw("GET /smuggled HTTP/1.1\r\n" H "\r\n");
        bool closed = settle();
        snprintf(want, sizeof want, "HTTP/1.1 %d ", t[i].status);
        if (!w.got.p || strncmp(w.got.p, want, strlen(want)) != 0 || strstr(w.got.p + 1, "HTTP/1.1")
            || !closed)
            fail_msg("case %zu (%s): closed %d, got\n%s", i, t[i].in, closed, w.got.p);
        assert_int_equal(w.served, before);
    }
}

static void bounds_heads_and_bodies(void **state)
{
    AUTO(buf_done) struct buf b = {0};

    (void)state;
    buf_adds(&b, "GET /x HTTP/1.1\r\n" H "A: ");
    while (b.n < 2 * LIMIT_HTTP_HEADERS)
        buf_adds(&b, "aaaaaaaaaaaaaaaa");
    begin();
    put(b.p, b.n);
    assert_true(settle());
    assert_int_equal(strncmp(w.got.p, "HTTP/1.1 431", 12), 0);

    buf_clear(&b);
    buf_adds(&b, "GET /x HTTP/1.1\r\n" H);
    for (int i = 0; i < 300; i++)
        buf_adds(&b, "A: b\r\n");
    buf_adds(&b, "\r\n");
    begin();
    put(b.p, b.n);
    assert_true(settle());
    assert_int_equal(strncmp(w.got.p, "HTTP/1.1 431", 12), 0);

    buf_clear(&b);
    buf_adds(&b, "POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 300; i++)
        buf_addf(&b, "200\r\n%0512d\r\n", i);
    begin();
    put(b.p, b.n);
    assert_true(settle());
    assert_int_equal(strncmp(w.got.p, "HTTP/1.1 413", 12), 0);
    assert_int_equal(w.served, 0);
}

static void half_closed_peers_get_their_answers(void **state)
{
    (void)state;
    begin();
    puts_raw("GET /hold HTTP/1.1\r\n" H "\r\nGET /y HTTP/1.1\r\n" H "\r\n");
    settle();
    assert_int_equal(w.served, 1); /* one at a time */
    shutdown(w.peer, SHUT_WR);
    assert_false(settle());
    exchange_respond(w.held[0], 200, "text/plain", STR("held"));
    assert_true(settle());
    assert_non_null(strstr(w.got.p, "\r\n\r\nheldHTTP/1.1 200 OK"));
    assert_non_null(strstr(w.got.p, "GET /y [] cn=-"));

    begin();
    puts_raw("GET /watch HTTP/1.1\r\n" H "\r\n");
    settle();
    assert_non_null(strstr(w.got.p, "transfer-encoding: chunked\r\n\r\n4\r\none\n\r\n"));
    shutdown(w.peer, SHUT_WR);
    assert_true(settle());
    assert_int_equal(w.closed, 1);
}

static void slow_clients_are_cut_off(void **state)
{
    (void)state;
    begin();
    puts_raw("GET /x HTTP/1.1\r\nHo");
    settle();
    loop_fake_advance(w.loop, SECONDS(9));
    puts_raw("st: a\r\n");
    assert_false(settle());
    loop_fake_advance(w.loop, SECONDS(2));
    assert_true(settle());
    assert_int_equal(strncmp(w.got.p, "HTTP/1.1 408", 12), 0);

    begin(); /* silent from the first */
    settle();
    loop_fake_advance(w.loop, SECONDS(11));
    assert_true(settle());

    begin(); /* idle after a request */
    puts_raw("GET /x HTTP/1.1\r\n" H "\r\n");
    settle();
    loop_fake_advance(w.loop, SECONDS(200));
    assert_false(settle());
    loop_fake_advance(w.loop, SECONDS(101));
    assert_true(settle());

    begin(); /* a body that never ends */
    puts_raw("POST /x HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
    settle();
    loop_fake_advance(w.loop, SECONDS(121));
    assert_true(settle());
    assert_int_equal(strncmp(w.got.p, "HTTP/1.1 408", 12), 0);

    begin(); /* a preface and nothing more */
    puts_raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    settle();
    loop_fake_advance(w.loop, SECONDS(11));
    assert_true(settle());

    begin(); /* takes no output */
    puts_raw("GET /watch HTTP/1.1\r\n" H "\r\n");
    settle();
    struct exchange *x = w.held[0];
    AUTO_FREE char *mass = xcalloc(1, 8 << 20);
    exchange_write(x, str_n(mass, 8 << 20));
    for (int i = 0; i < 50; i++)
        loop_turn(w.loop, 0);
    assert_int_equal(w.closed, 0);
    loop_fake_advance(w.loop, SECONDS(61));
    for (int i = 0; i < 10; i++)
        loop_turn(w.loop, 0);
    assert_int_equal(w.closed, 1);
    assert_int_equal(http_server_connections(w.server), 0);
}

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

/* The code of the last GOAWAY in what came, or -1. */
static int goaway(void)
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

static void windows_that_stay_shut_hold_nothing_for_ever(void **state)
{
    AUTO(buf_done) struct buf b = {0}, h = {0};

    (void)state;
    request_block(&h, "GET", "/big"); /* larger than the window of 65,535 bytes */
    begin_h2();
    frame(&b, 1, 5, 1, h.p, h.n);
    buf_clear(&h);
    request_block(&h, "GET", "/watch");
    frame(&b, 1, 5, 3, h.p, h.n);
    put(b.p, b.n);
    settle();
    assert_int_equal(count_frames(3), 0);
    for (int i = 0; i < 10; i++) {
        loop_fake_advance(w.loop, SECONDS(20));
        settle();
    }
    assert_int_equal(count_frames(3), 1); /* the idle watch stays */
    assert_int_equal(w.closed, 0);
}

static void idle_connections_make_room(void **state)
{
    int fds[60];
    char b[512];

    (void)state;
    for (int i = 0; i < 50; i++) {
        fds[i] = connect_pair();
        if (i < 5) { /* these have been served and are idle */
            assert_true(write(fds[i], "GET / HTTP/1.1\r\n" H "\r\n", 27) > 0);
            for (int k = 0; k < 5; k++)
                loop_turn(w.loop, 0);
            assert_true(read(fds[i], b, sizeof b) > 0);
        }
    }
    for (int i = 50; i < 55; i++) {
        fds[i] = connect_pair();
        for (int k = 0; k < 5; k++)
            loop_turn(w.loop, 0);
    }
    AUTO(error_clear) struct error err = {0};
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_false(http_server_add(w.server, sv[0], NULL, &err));
    close(sv[1]);
    assert_int_equal(http_server_connections(w.server), 50);
    for (int i = 0; i < 55; i++)
        close(fds[i]);
}

static void resets_in_a_flood_cost_little(void **state)
{
    AUTO(buf_done) struct buf b = {0}, h = {0};

    (void)state;
    request_block(&h, "GET", "/hold");
    begin_h2();
    for (uint32_t i = 0; i < 20000; i++) {
        frame(&b, 1, 5, 2 * i + 1, h.p, h.n);
        frame(&b, 3, 0, 2 * i + 1, "\0\0\0\10", 4);
    }
    put(b.p, b.n);
    assert_true(settle());
    assert_true(w.served < 1100);
    assert_int_equal(w.served, w.closed);
}

static void noise_is_cut_off(void **state)
{
    static const struct {
        int type, flags;
        uint32_t id;
        const char *p;
        size_t n;
    } t[] = {
        {6, 0, 0, "12345678", 8},   /* PING */
        {4, 0, 0, "", 0},           /* SETTINGS */
        {2, 0, 3, "\0\0\0\0\1", 5}, /* PRIORITY */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        AUTO(buf_done) struct buf b = {0};
        begin_h2();
        for (int k = 0; k < 10000; k++)
            frame(&b, t[i].type, t[i].flags, t[i].id, t[i].p, t[i].n);
        put(b.p, b.n);
        if (!settle())
            fail_msg("frame type %d goes on and on, goaway %d", t[i].type, goaway());
        assert_true(goaway() == 11 || w.got.n < 50000); /* ENHANCE_YOUR_CALM */
    }
    AUTO(buf_done) struct buf b = {0}, h = {0};
    request_block(&h, "POST", "/x");
    begin_h2();
    frame(&b, 1, 4, 1, h.p, h.n);
    for (int k = 0; k < 10000; k++)
        frame(&b, 0, 0, 1, "", 0); /* empty DATA */
    put(b.p, b.n);
    assert_true(settle());
    assert_int_equal(goaway(), 11);
    assert_int_equal(w.served, 0);
}

static void endless_header_blocks_are_cut_off(void **state)
{
    AUTO(buf_done) struct buf b = {0}, h = {0}, more = {0};

    (void)state;
    request_block(&h, "GET", "/x");
    begin_h2();
    frame(&b, 1, 1, 1, h.p, h.n);
    field(&more, "a", "b");
    for (int i = 0; i < 1000; i++)
        frame(&b, 9, 0, 1, more.p, more.n);
    put(b.p, b.n);
    assert_true(settle());

    buf_clear(&b);
    begin_h2(); /* within 16 KiB frames, but more than the limit in sum: HPACK's index makes it cheap to send */
    buf_clear(&h);
    request_block(&h, "GET", "/x");
    char big[120];
    memset(big, 'v', sizeof big);
    big[sizeof big - 1] = '\0';
    for (int i = 0; i < 100; i++)
        field(&h, "x-long", big);
    for (int f = 0; f < 1; f++)
        frame(&b, 1, 1, 1, h.p, h.n);
    for (int f = 0; f < 5; f++) {
        AUTO(buf_done) struct buf part = {0};
        for (int i = 0; i < 100; i++)
            field(&part, "x-long", big);
        frame(&b, 9, f == 4 ? 4 : 0, 1, part.p, part.n);
    }
    put(b.p, b.n);
    assert_false(settle());
    assert_int_equal(count_frames(1), 1); /* 431, and the connection lives */
    assert_int_equal(w.served, 0);
}

static void streams_are_bounded(void **state)
{
    AUTO(buf_done) struct buf b = {0}, h = {0};

    (void)state;
    request_block(&h, "GET", "/hold");
    begin_h2();
    settle();
    frame(&b, 4, 1, 0, "", 0); /* acknowledges the server's settings */
    for (uint32_t i = 0; i < 400; i++)
        frame(&b, 1, 5, 2 * i + 1, h.p, h.n);
    put(b.p, b.n);
    settle();
    assert_int_equal(w.served, LIMIT_H2_STREAMS);
    assert_true(count_frames(3) == 150 || goaway() >= 0);
    fd_close(&w.peer);
    for (int i = 0; i < 10; i++)
        loop_turn(w.loop, 0);
    assert_int_equal(w.closed, LIMIT_H2_STREAMS);
    w.peer = connect_pair();
}

static void a_peer_that_reads_nothing_fills_nothing(void **state)
{
    AUTO(buf_done) struct buf b = {0};

    (void)state;
    begin_h2();
    for (int k = 0; k < 1500; k++)
        frame(&b, 6, 0, 0, "12345678", 8);
    for (size_t at = 0, stuck = 0; at < b.n && stuck < 1000;) {
        ssize_t n = send(w.peer, b.p + at, b.n - at, MSG_NOSIGNAL);
        at += n > 0 ? (size_t)n : 0;
        stuck += n <= 0;
        loop_turn(w.loop, 0);
    }
    settle();
    assert_true(goaway() == -1 || goaway() == 11);
}

/* curl */

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

static void curl_is_served(void **state)
{
    static const char *const ways[] = {"--http1.1", "--http2"};

    (void)state;
    if (access("/usr/bin/curl", X_OK) != 0) {
        print_message("skipped: no curl\n");
        skip();
    }
    start_listeners();
    AUTO_FREE char *plain = xasprintf("http://127.0.0.1:%u", w.plain_port);
    AUTO_FREE char *tls = xasprintf("https://localhost:%u", w.tls_port);
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        AUTO_FREE char *with_cert = xasprintf("%s --cacert ca --cert cert --key key", ways[i]);
        AUTO_FREE char *anonymous = xasprintf("%s --cacert ca", ways[i]);
        AUTO_FREE char *big =
            xasprintf("%s --compressed -w '%%{http_version} %%{size_download}' -o out", anonymous);
        AUTO_FREE char *post = xasprintf("%s -d hello -w ' %%{http_version}'", anonymous);
        AUTO_FREE char *who = xasprintf("%s/who", tls), *list = xasprintf("%s/big", tls),
                       *echo = xasprintf("%s/echo", tls);
        curl(with_cert, who);
        assert_string_equal(w.got.p, "GET /who [] cn=curl");
        curl(anonymous, who);
        assert_string_equal(w.got.p, "GET /who [] cn=-");
        curl(post, echo);
        assert_string_equal(w.got.p,
                            i == 0 ? "POST /echo [hello] cn=- 1.1" : "POST /echo [hello] cn=- 2");
        curl(big, list); /* curl counts what came over the wire: far less than 320,000 */
        assert_int_equal(strncmp(w.got.p, i == 0 ? "1.1 " : "2 ", i == 0 ? 4 : 2), 0);
        assert_true(strlen(w.got.p) <= 9);
        AUTO_FREE char *size =
            xasprintf("-o /dev/null -w '%%{size_download}' file://%s/out", w.dir);
        curl(size, "file:///dev/null");
        assert_int_equal(strncmp(w.got.p, "320000", 6), 0);
    }
    AUTO_FREE char *prior = xasprintf("%s/x?a=b", plain);
    curl("--http2-prior-knowledge", prior);
    assert_string_equal(w.got.p, "GET /x a=b [] cn=-");
    AUTO_FREE char *parallel = xasprintf("%s/p[1-100]", tls);
    curl("-Z --parallel-immediate --http2 --cacert ca", parallel);
    assert_true(w.got.n >= 100 * strlen("GET /p1 [] cn=-"));
    curl("--http2 -T -",
         prior); /* Upgrade: h2c and a chunked upload, which we serve over HTTP/1.1 */
    assert_string_equal(w.got.p, "PUT /x a=b [] cn=-");
    AUTO_FREE char *clean = xasprintf("rm -rf %s", w.dir);
    http_tls_free(w.tls);
    assert_int_equal(system(clean), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_http1_exactly, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_is_ambiguous, setup, teardown),
        cmocka_unit_test_setup_teardown(bounds_heads_and_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(half_closed_peers_get_their_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_clients_are_cut_off, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(idle_connections_make_room, setup, teardown),
        cmocka_unit_test_setup_teardown(windows_that_stay_shut_hold_nothing_for_ever, setup_fake,
                                        teardown),
        cmocka_unit_test_setup_teardown(resets_in_a_flood_cost_little, setup, teardown),
        cmocka_unit_test_setup_teardown(noise_is_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(endless_header_blocks_are_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_peer_that_reads_nothing_fills_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(curl_is_served, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
