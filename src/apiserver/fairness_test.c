#include "apiserver/testing.h"
#include "base/alloc.h"

/* A client says who it is by its header, as a certificate would. */
static void handle(struct exchange *x, void *data)
{
    static char group[] = "system:masters", *masters[] = {group, NULL};
    static char nobodies[] = "system:unauthenticated", *nobody[] = {nobodies, NULL},
                *stranger[] = {nobodies, group, NULL};
    struct http_peer *peer = ARENA_NEW(&x->arena, struct http_peer);
    struct str user = exchange_header(x, "x-test-user"),
               address = exchange_header(x, "x-test-address");

    (void)data;
    if (address.p)
        snprintf(peer->address, sizeof peer->address, STR_FMT, STR_ARG(address));
    if (user.p) {
        peer->cert_cn = arena_strdup(&x->arena, user);
        peer->cert_orgs = str_is(user, "nobody")     ? nobody
                          : str_is(user, "stranger") ? stranger
                                                     : masters;
    }
    x->peer = peer;
    apiserver_handle(x, w.api);
}

static void made(void *user, const struct client_response *r)
{
    assert_int_equal(r->status, 201);
    ++*(unsigned *)user;
}

static void make_config_maps(unsigned n)
{
    unsigned n_made = 0;

    for (unsigned i = 0; i < n; i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(buf_done) struct buf b = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *o = NULL;

        buf_addf(&b,
                 "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c%u\","
                 "\"namespace\":\"default\"},"
                 "\"data\":{\"k\":\"%0500d\"}}",
                 i, 1);
        assert_true(json_parse(buf_str(&b), &a, &o, &err));
        client_call(w.c,
                    &(struct client_request){.verb = CLIENT_CREATE,
                                             .group = "",
                                             .version = "v1",
                                             .plural = "configmaps",
                                             .ns = STR("default"),
                                             .body = o},
                    made, &n_made);
    }
    while (n_made < n)
        loop_turn(w.loop, SECONDS(5));
}

static int setup(void **state)
{
    (void)state;
    return world_open(&(struct world_wants){.anonymous_health = true, .handle = handle});
}

static int setup_fake_time(void **state)
{
    (void)state;
    return world_open(
        &(struct world_wants){.loop = loop_new_fake(), .anonymous_health = true, .handle = handle});
}

static int ask(const char *user, const char *path)
{
    int fd = world_connect();

    dprintf(fd, "GET %s HTTP/1.1\r\nHost: a\r\n", path);
    if (user)
        dprintf(fd, "x-test-user: %s\r\n", user);
    dprintf(fd, "\r\n");
    return fd;
}

/* 0: nothing yet. */
static int status_of(int fd)
{
    char b[4096];
    ssize_t n = recv(fd, b, sizeof b - 1, MSG_DONTWAIT | MSG_PEEK);

    if (n < 12)
        return 0;
    b[n] = '\0';
    if (strncmp(b + 9, "429", 3) == 0) {
        assert_non_null(strstr(b, "retry-after: 1"));
        assert_non_null(strstr(b, "\"reason\":\"TooManyRequests\""));
        assert_non_null(strstr(b, "\"details\":{\"retryAfterSeconds\":1}"));
    }
    return (b[9] - 48) * 100 + (b[10] - 48) * 10 + b[11] - 48;
}

static void turn_until(int fd)
{
    for (int i = 0; i < 20000 && !status_of(fd); i++)
        loop_turn(w.loop, MILLIS(1));
    assert_true(status_of(fd) != 0);
}

#define LIST "/api/v1/namespaces/default/configmaps?limit=150"
#define HEAVY 400

static void a_heavy_user_waits_behind_a_light_one(void **state)
{
    int heavy[HEAVY], light, answered = 0;

    (void)state;
    make_config_maps(150);
    for (int i = 0; i < HEAVY; i++)
        heavy[i] = ask("heavy", LIST);
    for (int i = 0; i < 3;
         i++) /* they have all come in, and a slice or two of them has been served */
        loop_turn(w.loop, 0);
    light = ask("light", "/api/v1/namespaces/default/configmaps/c1");
    turn_until(light);
    assert_int_equal(status_of(light), 200);
    for (int i = 0; i < HEAVY; i++)
        answered += status_of(heavy[i]) != 0;
    assert_true(answered < HEAVY * 3 / 4);
    for (int i = 0; i < HEAVY; i++) { /* late, but not lost */
        turn_until(heavy[i]);
        assert_int_equal(status_of(heavy[i]), 200);
        close(heavy[i]);
    }
    close(light);
}

static void who_is_nobody_stops_nobody_else(void **state)
{
    int fds[300], counts[600] = {0}, health, other;

    (void)state;
    for (int i = 0; i < 300; i++)
        fds[i] = ask("nobody", "/api/v1/configmaps");
    for (int i = 0; i < 3; i++)
        loop_turn(w.loop, 0);
    health = ask(NULL, "/livez");
    other = ask("other", "/api/v1/namespaces/default/configmaps");
    turn_until(health);
    assert_int_equal(status_of(health), 200);
    turn_until(other);
    assert_int_equal(status_of(other), 200);
    for (int i = 0; i < 300; i++) {
        turn_until(fds[i]);
        counts[status_of(fds[i])]++;
        close(fds[i]);
    }
    assert_int_equal(counts[403] + counts[429], 300);
    close(health);
    close(other);
}

static void watches_are_counted_by_user(void **state)
{
    int fds[60], refused = 0;

    (void)state;
    for (int i = 0; i < 60;
         i++) /* of nobody, who may have 50; that they are forbidden comes later */
        fds[i] = ask("nobody", "/api/v1/configmaps?watch=1");
    turn_until(fds[59]);
    for (int i = 0; i < 60; i++) /* of a stranger (who is let in all the same), who may have 50 */
        fds[i] = ask("stranger", "/api/v1/configmaps?watch=1");
    for (int i = 0; i < 60; i++) {
        turn_until(fds[i]);
        refused += status_of(fds[i]) == 429;
    }
    assert_int_equal(refused, 10);
    for (int i = 0; i < 60; i++)
        close(fds[i]);
}

static void waiting_requests_end_with_their_clients_and_with_the_server(void **state)
{
    int fds[200];

    (void)state;
    make_config_maps(150);
    for (int i = 0; i < 200; i++)
        fds[i] = ask("heavy", LIST);
    for (int i = 0; i < 3; i++)
        loop_turn(w.loop, 0);
    for (int i = 100; i < 200; i++)
        close(fds[i]);
    for (int i = 0; i < 3; i++)
        loop_turn(w.loop, 0);
    for (int i = 0; i < 100; i += 2)
        close(fds[i]);
    for (int i = 1; i < 100; i += 2)
        close(fds[i]);
}

/* A counter of the catch-all class, as the metrics tell it. */
static unsigned counter(const char *name, const char *reason)
{
    char text[1 << 18], wanted[200], *at;
    size_t n = 0;
    int fd = ask("admin", "/metrics");

    turn_until(fd);
    for (int i = 0; i < 200 && n < sizeof text - 1; i++) {
        ssize_t got = recv(fd, text + n, sizeof text - 1 - n, MSG_DONTWAIT);

        if (got > 0)
            n += (size_t)got;
        loop_turn(w.loop, 0);
    }
    text[n] = '\0';
    close(fd);
    snprintf(
        wanted, sizeof wanted,
        "apiserver_flowcontrol_%s{flow_schema=\"catch-all\",priority_level=\"catch-all\"%s%s%s} ",
        name, reason ? ",reason=\"" : "", reason ? reason : "", reason ? "\"" : "");
    at = strstr(text, wanted);
    assert_non_null(at);
    return (unsigned)strtoul(at + strlen(wanted), NULL, 10);
}

static int ask_with_token(unsigned address)
{
    AUTO(error_clear) struct error err = {0};
    int sv[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
    if (!http_server_add(w.http, sv[0], NULL, &err))
        fail_msg("%s", error_text(&err));
    dprintf(sv[1],
            "GET /api HTTP/1.1\r\nHost: a\r\nauthorization: Bearer wrong\r\nx-test-address: "
            "10.0.0.%u:4711\r\n\r\n",
            address);
    return sv[1];
}

/* 401 waits for its turn in the queue of the address, which is as long as any other of its class. */
static void a_flood_of_bad_tokens_waits_behind_everybody(void **state)
{
    int heavy[HEAVY], fds[120], counts[600] = {0}, other;

    (void)state;
    make_config_maps(150);
    for (int i = 0; i < HEAVY; i++) /* so that there is something to wait for */
        heavy[i] = ask("heavy", LIST);
    for (int i = 0; i < 120; i++)
        fds[i] = ask_with_token(1);
    other = ask_with_token(2);
    for (int i = 0; i < 120; i++) {
        turn_until(fds[i]);
        counts[status_of(fds[i])]++;
        close(fds[i]);
    }
    turn_until(other); /* another address has a queue of its own */
    assert_int_equal(status_of(other), 401);
    close(other);
    assert_int_equal(counts[401] + counts[429], 120);
    assert_true(counts[401] >= 50);
    assert_true(counts[429] > 0);
    for (int i = 0; i < HEAVY; i++)
        close(heavy[i]);
    assert_int_equal(counter("dispatched_requests_total", NULL), counts[401] + 1);
    assert_int_equal(counter("rejected_requests_total", "queue-full"), counts[429]);
}

/* Wide lists whose reader takes nothing hold the seats; who waits behind them longer than 15 seconds is told so. */
static void who_waits_too_long_is_refused(void **state)
{
    int fds[8], refused = 0;

    (void)state;
    make_config_maps(1300);
    for (int i = 0; i < 8; i++)
        fds[i] = ask("stranger", "/api/v1/configmaps");
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, 0);
    loop_fake_advance(w.loop, SECONDS(14));
    for (int i = 0; i < 8; i++)
        assert_int_not_equal(status_of(fds[i]), 429);
    loop_fake_advance(w.loop, SECONDS(3));
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, 0);
    for (int i = 0; i < 8; i++)
        refused += status_of(fds[i]) == 429;
    assert_in_range(refused, 1, 7);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    for (int i = 0; i < 5; i++)
        loop_turn(w.loop, 0);
    assert_int_equal(counter("rejected_requests_total", "time-out"), refused);
}

/* Of the seat, which lies in the exchange's memory, nothing is touched afterwards. */
static void watches_end_with_their_clients(void **state)
{
    int fds[20], other;

    (void)state;
    for (int i = 0; i < 20; i++)
        fds[i] = ask("watcher", i % 2 ? "/api/v1/configmaps?watch=1"
                                      : "/api/v1/configmaps?watch=1&timeoutSeconds=1");
    for (int i = 0; i < 20; i++)
        turn_until(fds[i]);
    for (int i = 1; i < 20; i += 2)
        close(fds[i]);
    for (int i = 0; i < 150; i++)
        loop_turn(w.loop, MILLIS(10));
    other = ask("watcher", "/version");
    turn_until(other);
    assert_int_equal(status_of(other), 200);
    close(other);
    for (int i = 0; i < 20; i += 2)
        close(fds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_heavy_user_waits_behind_a_light_one, setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(who_is_nobody_stops_nobody_else, setup, world_teardown),
        cmocka_unit_test_setup_teardown(watches_are_counted_by_user, setup, world_teardown),
        cmocka_unit_test_setup_teardown(watches_end_with_their_clients, setup, world_teardown),
        cmocka_unit_test_setup_teardown(a_flood_of_bad_tokens_waits_behind_everybody, setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(who_waits_too_long_is_refused, setup_fake_time,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(waiting_requests_end_with_their_clients_and_with_the_server,
                                        setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
