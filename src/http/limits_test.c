/* What hostile clients of a server come up against. */
#include "http/testing.h"

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

static bool open_still(int fd)
{
    char b[512];
    ssize_t n = recv(fd, b, sizeof b, MSG_DONTWAIT);

    return n > 0 || (n < 0 && errno == EAGAIN);
}

static void ask(int fd, const char *path)
{
    dprintf(fd, "GET %s HTTP/1.1\r\n" H "\r\n", path);
    turns(5);
}

static void silent_connections_make_room_then_idle_ones(void **state)
{
    AUTO(error_clear) struct error err = {0};
    int fds[110], sv[2];

    (void)state;
    for (int i = 0; i < 50; i++) {
        fds[i] = connect_pair();
        if (i >= 10 && i < 15) /* these have been served and are idle */
            ask(fds[i], "/");
        else if (i >= 15)
            ask(fds[i], "/hold");
    }
    ask(fds[10], "/"); /* so that 11 is idle for longest */
    for (int i = 50; i < 60; i++) {
        fds[i] = connect_pair();
        ask(fds[i], "/hold");
    }
    for (int i = 0; i < 60; i++)
        assert_int_equal(open_still(fds[i]), i >= 10);
    fds[60] = connect_pair();
    ask(fds[60], "/hold");
    assert_false(open_still(fds[11]));
    for (int i = 61; i < 65; i++) {
        fds[i] = connect_pair();
        ask(fds[i], "/hold");
    }
    assert_false(open_still(fds[10]));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_false(http_server_add(w.server, sv[0], NULL, &err)); /* who waits for an answer stays */
    close(sv[1]);
    assert_int_equal(http_server_connections(w.server), 50);
    for (int i = 0; i < 65; i++)
        close(fds[i]);
}

/* The first address of this machine that is not loopback; false: there is none. */
static bool own_address(char *ret, size_t size)
{
    struct ifaddrs *all, *i;
    bool found = false;

    if (getifaddrs(&all) != 0)
        return false;
    for (i = all; i && !found; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !(i->ifa_flags & IFF_LOOPBACK)
            && (i->ifa_flags & IFF_UP))
            found = inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, ret,
                              (socklen_t)size)
                    != NULL;
    freeifaddrs(all);
    return found;
}

static void one_address_cannot_take_all_connections(void **state)
{
    AUTO(error_clear) struct error err = {0};
    char ip[64], at[80];
    struct sockaddr_in to = {.sin_family = AF_INET};
    socklen_t n = sizeof to;
    int fd, fds[40], alive = 0;

    (void)state;
    if (!own_address(ip, sizeof ip))
        skip();
    snprintf(at, sizeof at, "%s:0", ip);
    assert_true(http_listen_tcp(at, &fd, &err));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&to, &n), 0);
    assert_true(http_server_listen(w.server, fd, NULL, &err));
    for (int i = 0; i < 40; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&to, n), 0);
        ask(fds[i], "/watch");
    }
    for (int i = 0; i < 40; i++)
        alive += open_still(fds[i]);
    assert_int_equal(alive, 12); /* a quarter of 50 */
    for (int i = 0; i < 40; i++)
        close(fds[i]);
    turns(5);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* they are forgotten when they are gone */
    assert_int_equal(connect(fd, (struct sockaddr *)&to, n), 0);
    ask(fd, "/watch");
    assert_true(open_still(fd));
    close(fd);
}

/* Bodies that stall while memory is short give way to those that come quickly. */
static void slow_bodies_give_way_when_memory_is_short(void **state)
{
    AUTO(buf_done) struct buf body = {0};
    char b[4096];
    int fds[24], quick;
    ssize_t n;

    (void)state;
    http_server_free(w.server);
    struct http_server_config c = {
        .loop = w.loop, .handle = handle, .body_limit = 4 << 20, .max_connections = 50};
    w.server = http_server_new(&c);
    for (int i = 0; i < 3 << 20; i++)
        buf_addc(&body, 'x');
    for (int i = 0; i < 24; i++) { /* 72 MiB, more than LIMIT_HTTP_BODIES */
        fds[i] = connect_pair();
        dprintf(fds[i], "POST / HTTP/1.1\r\n" H "Content-Length: %u\r\n\r\n", (3u << 20) + 1);
        for (size_t at = 0; at < body.n;) {
            n = send(fds[i], body.p + at, body.n - at, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n > 0)
                at += (size_t)n;
            else if (errno != EAGAIN)
                break;
            loop_turn(w.loop, 0);
        }
        if (i == 0)
            loop_fake_advance(w.loop, SECONDS(2));
    }
    n = recv(fds[0], b, sizeof b, MSG_DONTWAIT);
    assert_true(n > 12);
    assert_memory_equal(b, "HTTP/1.1 503", 12);
    assert_non_null(memmem(b, (size_t)n, "retry-after: 1", 14));
    loop_fake_advance(w.loop, SECONDS(2));
    quick = connect_pair();
    dprintf(quick, "POST /quick HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello");
    turns(5);
    n = recv(quick, b, sizeof b, MSG_DONTWAIT);
    assert_true(n > 12);
    assert_memory_equal(b, "HTTP/1.1 200", 12);
    for (int i = 0; i < 24; i++)
        close(fds[i]);
    close(quick);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(slow_clients_are_cut_off, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(silent_connections_make_room_then_idle_ones, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_address_cannot_take_all_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_bodies_give_way_when_memory_is_short, setup_fake,
                                        teardown),
        cmocka_unit_test_setup_teardown(windows_that_stay_shut_hold_nothing_for_ever, setup_fake,
                                        teardown),
        cmocka_unit_test_setup_teardown(resets_in_a_flood_cost_little, setup, teardown),
        cmocka_unit_test_setup_teardown(noise_is_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(endless_header_blocks_are_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_peer_that_reads_nothing_fills_nothing, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
