#include "base/base_test.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "http/h1_parse.h"

static void finds_the_end_of_a_head_piece_by_piece(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nA: b\r\n\r\nrest";

    (void)state;
    for (size_t cut = 0; cut <= 24; cut++) {
        size_t at = 0;
        enum h1_scan r = h1_scan_head(str_n(text, cut), &at);
        assert_int_equal(r, cut < 24 ? H1_MORE : H1_COMPLETE);
        if (cut < 24)
            assert_int_equal(h1_scan_head(str_of(text), &at), H1_COMPLETE);
        assert_int_equal(at, 24);
    }
    size_t at = 0;
    assert_int_equal(h1_scan_head(STR("GET /\n"), &at), H1_BAD);
    at = 0;
    assert_int_equal(h1_scan_head(STR("\n"), &at), H1_BAD);
}

static void reads_responses(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int status;
        bool chunked, close;
        int64_t length;
    } t[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", true, 200, false, false, -1},
        {"HTTP/1.1 204\r\n\r\n", true, 204, false, false, -1},
        {"HTTP/1.0 200 \r\nContent-Length: 7\r\n\r\n", true, 200, false, false, 7},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nConnection: foo, Close\r\n\r\n", true,
         200, true, true, -1},
        {"HTTP/1.1 2000 OK\r\n\r\n", false, 0, false, false, 0},
        {"HTTP/1.1 20 OK\r\n\r\n", false, 0, false, false, 0},
        {"HTTP/1.1 099 OK\r\n\r\n", false, 0, false, false, 0},
        {"HTTP/2 200\r\n\r\n", false, 0, false, false, 0},
        {"ICY 200 OK\r\n\r\n", false, 0, false, false, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, 0, false,
         false, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        AUTO_FREE char *text = xstrdup(t[i].text);
        AUTO(error_clear) struct error err = {0};
        struct h1_head head;
        bool ok = h1_parse_response(text, strlen(text), &head, &err);
        assert_int_equal(ok, t[i].ok);
        if (!ok)
            continue;
        assert_int_equal(head.status, t[i].status);
        assert_int_equal(head.chunked, t[i].chunked);
        assert_int_equal(head.close, t[i].close);
        assert_int_equal(head.has_length ? (int64_t)head.length : -1, t[i].length);
    }
}

static void bounds_what_is_no_data_in_a_body(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *ext = xcalloc(1, 40001);
    struct h1_body b;
    struct str in, data;
    bool ok = true;

    (void)state;
    memset(ext, 'e', 40000);
    h1_body_init(&b, H1_BODY_CHUNKED, 0);
    in = STR("5;");
    assert_true(h1_body_feed(&b, &in, &data, &err));
    in = str_of(ext);
    assert_false(h1_body_feed(&b, &in, &data, &err));

    error_clear(&err);
    h1_body_init(&b, H1_BODY_CHUNKED, 0); /* many small chunks are fine */
    for (int i = 0; i < 100000 && ok; i++) {
        in = STR("1\r\nx\r\n");
        while (ok && in.n > 0)
            ok = h1_body_feed(&b, &in, &data, &err);
    }
    assert_true(ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_end_of_a_head_piece_by_piece),
        cmocka_unit_test(reads_responses),
        cmocka_unit_test(bounds_what_is_no_data_in_a_body),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
