/* Bodies that are made as they are taken: whole, compressed, and with readers that pause, stop, die. */
#include "http/testing.h"

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

static void serve_made(struct exchange *x, void *data)
{
    (void)data;
    if (str_starts(x->path, STR("/made"))) {
        made = (struct made){.base = {.make = made_piece, .free = made_free}, .left = MADE_ITEMS};
        exchange_respond_source(x, 200, "application/json", &made.base, MADE_ITEMS * 20);
        return;
    }
    exchange_respond(x, 200, "text/plain", STR("hello"));
}

static int setup_made(void **state)
{
    (void)state;
    return setup_with(loop_new(NULL), serve_made);
}

static int setup_made_fake(void **state)
{
    (void)state;
    return setup_with(loop_new_fake(), serve_made);
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

static void curl_gets_all_of_it(void **state)
{
    static const char *const ways[] = {"--http1.1", "--http1.1 --compressed", "--http2",
                                       "--http2 --compressed", "--http1.0"};

    (void)state;
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
    stop_listeners();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_is_made_as_its_reader_takes_it, setup_made_fake,
                                        teardown),
        cmocka_unit_test_setup_teardown(readers_that_stop_are_cut_off, setup_made_fake, teardown),
        cmocka_unit_test_setup_teardown(curl_gets_all_of_it, setup_made, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
