#include "http/client_test.h"

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

/* What is asked meanwhile is answered, each time by a connection that ends with it; what was under way goes on. */
static void winds_down(void **state)
{
    (void)state;
    for (int i = 0; i < N_WAYS; i++) {
        AUTO(reply_done) struct reply held = {0}, idle = {0};
        struct http_client *c = client_by((enum way)i);

        drained = false;
        w.n_watches = 0;
        get(c, "/who", &idle);
        PUMP_UNTIL(idle.done);
        watch(c, &held);
        PUMP_UNTIL(held.streamed);
        http_server_wind_down(w.server);
        for (int round = 0; round < 3; round++) {
            AUTO(reply_done) struct reply r = {0};

            get(c, "/who", &r);
            PUMP_UNTIL(r.done);
            assert_int_equal(r.status, 200);
            PUMP_UNTIL(http_server_connections(w.server) == 1);
        }
        assert_false(held.done);
        exchange_end(w.watches[0]);
        PUMP_UNTIL(held.done); /* its head, of before, did not say that the connection ends: it stays */
        assert_int_equal(held.err.kind, ERROR_NONE);
        http_client_free(c);
        teardown(state);
        setup(state);
    }
}

/* Peers are to be verified anew: what is asked ends first, then connections do, and new ones serve what comes next. */
static void connections_are_made_anew(void **state)
{
    (void)state;
    for (int i = 0; i < N_WAYS; i++) {
        AUTO(reply_done) struct reply first = {0}, held = {0}, second = {0};
        struct http_client *c = client_by((enum way)i);

        w.n_watches = 0;
        watch(c, &held);
        PUMP_UNTIL(held.streamed);
        http_server_renew(w.server);
        for (int turn = 0; turn < 20; turn++)
            loop_turn(w.loop, MILLIS(1));
        assert_int_equal(http_server_connections(w.server), 1);
        exchange_end(w.watches[0]);
        PUMP_UNTIL(held.done && http_server_connections(w.server) == 0);
        get(c, "/who", &first);
        PUMP_UNTIL(first.done);
        assert_int_equal(first.status, 200);
        http_server_renew(w.server); /* now nothing is asked */
        PUMP_UNTIL(http_server_connections(w.server) == 0);
        get(c, "/who", &second);
        PUMP_UNTIL(second.done);
        assert_int_equal(second.status, 200);
        http_client_free(c);
        PUMP_UNTIL(http_server_connections(w.server) == 0);
    }
}

/* A machine that lost its power says nothing, not even that it is gone. What is under way there waits for the ping; what comes next
 * does not. One that talks, if not about this, stays. */
static void a_server_that_says_nothing_is_not_asked_again(void **state)
{
    (void)state;
    for (int talks = 0; talks < 2; talks++) {
        AUTO(reply_done) struct reply held = {0}, never = {0}, next = {0};
        struct http_client *c = client_by(TLS_H2);

        w.n_watches = 0;
        watch(c, &held);
        PUMP_UNTIL(held.streamed == 6);
        for (int turn = 0; turn < 5; turn++)
            loop_turn(w.loop, MILLIS(1));
        http_client_call(c, &(struct http_request){.method = HTTP_GET, .path = STR("/never"), .timeout_ns = MILLIS(100), .done = on_done, .user = &never});
        PUMP_UNTIL(w.n_watches == 2);
        if (talks)
            exchange_write(w.watches[0], STR("event\n"));
        PUMP_UNTIL(never.done);
        assert_int_equal(never.err.kind, ERROR_TIMEOUT);
        get(c, "/who", &next);
        PUMP_UNTIL(next.done);
        assert_int_equal(next.status, 200);
        assert_int_equal(http_server_connections(w.server), talks ? 1 : 2);
        exchange_end(w.watches[0]);
        PUMP_UNTIL(held.done);
        http_client_free(c);
        PUMP_UNTIL(http_server_connections(w.server) == 0);
    }
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
        cmocka_unit_test_setup_teardown(winds_down, setup, teardown),
        cmocka_unit_test_setup_teardown(connections_are_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_says_nothing_is_not_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_into_the_void, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
