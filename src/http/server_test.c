#include "http/testing.h"

static void drop_dates(struct buf *b)
{
    char *at;
    while (b->n > 0 && (at = memmem(b->p, b->n, "date: ", 6)) != NULL) {
        memmove(at, at + 37, (size_t)(b->p + b->n - at - 37));
        b->n -= 37;
        b->p[b->n] = '\0';
    }
}

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

static void curl_is_served(void **state)
{
    static const char *const ways[] = {"--http1.1", "--http2"};

    (void)state;
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
    stop_listeners();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_http1_exactly, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_is_ambiguous, setup, teardown),
        cmocka_unit_test_setup_teardown(bounds_heads_and_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(half_closed_peers_get_their_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(curl_is_served, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
