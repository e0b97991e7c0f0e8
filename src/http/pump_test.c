#include "base/alloc.h"
#include "base/base_test.h"
#include "base/cleanup.h"
#include "http/client.h"
#include "http/pump.h"
#include "http/server.h"
#include "http/websocket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LARGE (3u << 20) /* more than all buffers on the way */

static struct world {
    struct loop *loop;
    struct http_server *server;
    struct http_client *client;
    char dir[32], path[64];
    int far, near; /* the machine's end of the pumped socket, and the one that is given away */
    struct websocket *ws;
    size_t got;
    bool connected, hold;
    unsigned code, closed;
} w;

static void handle(struct exchange *x, void *data)
{
    (void)data;
    pump_start(x, "plain.kubevirt.io", TAKE_FD(w.near));
}

static void ws_message(struct websocket *ws, struct str data, bool binary)
{
    assert_true(binary);
    w.got += data.n;
    if (w.hold)
        websocket_pause(ws, true);
}

static void ws_closed(struct websocket *ws, unsigned code, struct str reason)
{
    (void)ws;
    (void)reason;
    w.code = code;
    w.closed++;
    w.ws = NULL;
}

static void ws_connected(struct websocket *ws)
{
    w.connected = true;
    assert_string_equal(websocket_subprotocol(ws), "plain.kubevirt.io");
}

static void ws_failed(void *user, const struct error *err, int status, struct str body)
{
    (void)user;
    (void)body;
    fail_msg("%d %s", status, error_text(err));
}

static void turns(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        loop_turn(w.loop, MILLIS(1));
}

#define UNTIL(condition)                             \
    do {                                             \
        int left_ = 5000;                            \
        while (left_ > 0 && !(condition)) {          \
            loop_turn(w.loop, MILLIS(1));            \
            left_--;                                 \
        }                                            \
        assert_true(left_ > 0);                      \
    } while (0)

static int setup(void **state)
{
    static const struct websocket_ops ops = {ws_message, NULL, ws_closed};
    static const char *const protocols[] = {"plain.kubevirt.io", NULL};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    AUTO(error_clear) struct error err = {0};
    int pair[2], fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    (void)state;
    memset(&w, 0, sizeof w);
    w.loop = loop_new(NULL);
    snprintf(w.dir, sizeof w.dir, "/tmp/pump-test-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.path, sizeof w.path, "%s/s", w.dir);
    memcpy(un.sun_path, w.path, strlen(w.path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    w.far = pair[0];
    w.near = pair[1];
    w.server = http_server_new(&(struct http_server_config){.loop = w.loop, .handle = handle});
    assert_true(http_server_listen(w.server, fd, NULL, &err));
    w.client = http_client_new(&(struct http_client_config){.loop = w.loop, .unix_path = w.path});
    w.ws = websocket_connect(&(struct websocket_connect){.client = w.client, .path = "/", .subprotocols = protocols, .ops = &ops,
                                                         .connected = ws_connected, .failed = ws_failed});
    UNTIL(w.connected);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(w.client);
    http_server_free(w.server);
    loop_free(w.loop);
    fd_close(&w.far);
    fd_close(&w.near);
    unlink(w.path);
    rmdir(w.dir);
    return 0;
}

static void bytes_go_both_ways(void **state)
{
    char text[16] = "";

    (void)state;
    websocket_send(w.ws, STR("hello"), true);
    UNTIL(read(w.far, text, sizeof text) == 5);
    assert_string_equal(text, "hello");
    assert_int_equal(write(w.far, "you", 3), 3);
    UNTIL(w.got == 3);
    websocket_close(w.ws, 1000, "");
    UNTIL(w.closed);
    turns(5);
    assert_int_equal(read(w.far, text, sizeof text), 0); /* its end is closed, too */
}

/* As much as the far side likes to write, until it has to wait. */
static size_t write_all(size_t most)
{
    static char chunk[64 << 10];
    size_t sum = 0;
    ssize_t n;

    for (unsigned idle = 0; sum < most && idle < 20; turns(1), idle++)
        while (sum < most && (n = write(w.far, chunk, sizeof chunk)) > 0)
            sum += (size_t)n, idle = 0;
    return sum;
}

static void a_slow_client_holds_the_machine_back(void **state)
{
    size_t sent;

    (void)state;
    w.hold = true;
    sent = write_all(64u << 20);
    assert_true(sent < 16u << 20);
    w.hold = false;
    websocket_pause(w.ws, false);
    UNTIL(w.got == sent);
}

static void a_slow_machine_holds_the_client_back(void **state)
{
    static char large[LARGE / 4], sink[256 << 10];
    size_t queued = 0, got = 0;
    ssize_t n;

    (void)state;
    for (int i = 0; i < 4; i++)
        queued = websocket_send(w.ws, str_n(large, sizeof large), true);
    turns(50);
    assert_true(queued > 0);
    for (int i = 0; i < 5000 && got < LARGE; i++) {
        while ((n = read(w.far, sink, sizeof sink)) > 0)
            got += (size_t)n;
        loop_turn(w.loop, MILLIS(1));
    }
    assert_int_equal(got, LARGE);
}

/* Writing to a machine that has gone would be a SIGPIPE. */
static void the_machine_goes_away(void **state)
{
    (void)state;
    fd_close(&w.far);
    websocket_send(w.ws, STR("anybody there?"), true);
    UNTIL(w.closed);
    assert_int_equal(w.code, 1000);
}

static void the_client_goes_away(void **state)
{
    char c;

    (void)state;
    http_client_free(TAKE(w.client));
    assert_int_equal(w.code, 1006);
    for (int i = 0; i < 1000 && read(w.far, &c, 1) != 0; i++)
        loop_turn(w.loop, MILLIS(1));
    assert_int_equal(read(w.far, &c, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_go_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slow_client_holds_the_machine_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slow_machine_holds_the_client_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_machine_goes_away, setup, teardown),
        cmocka_unit_test_setup_teardown(the_client_goes_away, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
