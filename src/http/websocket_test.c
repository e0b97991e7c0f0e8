#include "http/client_test.h"

struct talk {
    struct websocket *ws;
    struct buf got, reason;
    bool connected, failed, writable;
    int status;
    unsigned code, closed;
    size_t messages;
};

static void talk_message(struct websocket *ws, struct str data, bool binary)
{
    struct talk *t = websocket_user(ws);

    assert_true(binary);
    t->messages++;
    buf_addstr(&t->got, data);
}

static void talk_writable(struct websocket *ws)
{
    ((struct talk *)websocket_user(ws))->writable = true;
}

static void talk_closed(struct websocket *ws, unsigned code, struct str reason)
{
    struct talk *t = websocket_user(ws);

    buf_addstr(&t->reason, reason);
    t->code = code;
    t->closed++;
    t->ws = NULL;
}

static void talk_connected(struct websocket *ws)
{
    ((struct talk *)websocket_user(ws))->connected = true;
}

static void talk_failed(void *user, const struct error *err, int status, struct str body)
{
    struct talk *t = user;

    buf_adds(&t->reason, error_text(err));
    buf_addstr(&t->got, body);
    t->failed = true;
    t->status = status;
    t->ws = NULL;
}

static const struct websocket_ops talk_ops = {talk_message, talk_writable, talk_closed};

static void talk_start(struct talk *t, struct http_client *c, const char *path)
{
    static const char *const protocols[] = {"v4.channel.k8s.io", "v5.channel.k8s.io", NULL};
    struct websocket_connect q = {.client = c,
                                  .path = path,
                                  .subprotocols = protocols,
                                  .ops = &talk_ops,
                                  .user = t,
                                  .connected = talk_connected,
                                  .failed = talk_failed};
    t->ws = websocket_connect(&q);
}

static void talk_done(struct talk *t)
{
    buf_done(&t->got);
    buf_done(&t->reason);
}

static void websockets_talk(void **state)
{
    static const enum way ways[] = {PLAIN, TLS_H2, UNIX_H2};
    static char large[700000];

    (void)state;
    memset(large, 'z', sizeof large);
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        AUTO(talk_done) struct talk t = {0};
        struct http_client *c = client_by(ways[i]);
        w.ws_closed = false;
        talk_start(&t, c, "/ws");
        PUMP_UNTIL(t.connected || t.failed);
        assert_false(t.failed);
        assert_string_equal(websocket_subprotocol(t.ws), "v5.channel.k8s.io");
        assert_true(websocket_send(t.ws, STR("hello"), true) < 100);
        websocket_send(t.ws, STR(""), true);
        PUMP_UNTIL(t.messages == 2);
        assert_string_equal(t.got.p, "hello");
        assert_true(websocket_send(t.ws, str_n(large, sizeof large), true) >= 256u << 10);
        PUMP_UNTIL(t.got.n == 5 + sizeof large);
        assert_true(t.writable);

        websocket_pause(t.ws, true);
        websocket_send(t.ws, STR("held"), true);
        for (int k = 0; k < 50; k++)
            loop_turn(w.loop, MILLIS(1));
        assert_int_equal(t.messages, 3);
        websocket_pause(t.ws, false);
        PUMP_UNTIL(t.messages == 4);

        if (i == 0) {
            websocket_close(t.ws, 1000, "enough");
            PUMP_UNTIL(t.closed && w.ws_closed);
            assert_int_equal(w.ws_code, 1000);
            assert_string_equal(w.ws_got.p, "enough");
            assert_int_equal(t.code, 1000);
        } else if (i == 1) {
            websocket_close(w.ws, 1011, "server's will");
            PUMP_UNTIL(t.closed && w.ws_closed);
            assert_int_equal(t.code, 1011);
            assert_string_equal(t.reason.p, "server's will");
        } else {
            http_client_free(c);
            c = NULL;
            assert_int_equal(t.code, 1006);
            PUMP_UNTIL(w.ws_closed);
            assert_int_equal(w.ws_code, 1006);
        }
        assert_int_equal(t.closed, 1);
        http_client_free(c);
    }
}

/* What was sent before a close arrives before it, however much it is. */
static void websockets_close_behind_their_data(void **state)
{
    static char large[900000];

    (void)state;
    memset(large, 'y', sizeof large);
    for (int server = 0; server < 2; server++) {
        AUTO(talk_done) struct talk t = {0};
        struct http_client *c = client_by(TLS_H2);

        w.ws_closed = false;
        w.ws_messages = 0;
        talk_start(&t, c, "/ws");
        PUMP_UNTIL(t.connected || t.failed);
        assert_false(t.failed);
        for (int k = 0; k < 4; k++)
            websocket_send(server ? w.ws : t.ws, str_n(large, sizeof large), true);
        websocket_close(server ? w.ws : t.ws, 1000, "done");
        websocket_send(server ? w.ws : t.ws, STR("too late"), true);
        PUMP_UNTIL(t.closed && w.ws_closed);
        assert_int_equal(server ? t.messages : w.ws_messages, 4);
        assert_int_equal(server ? t.code : w.ws_code, 1000);
        http_client_free(c);
    }
}

/* A relay hands on the code that it heard; some of them mean that there was none. */
static void websockets_send_no_reserved_codes(void **state)
{
    static const struct {
        unsigned given, arrives;
    } codes[] = {{1005, 1005}, {1006, 1001}, {1015, 1001}, {1011, 1011}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        AUTO(talk_done) struct talk t = {0};
        struct http_client *c = client_by(PLAIN);

        w.ws_closed = false;
        talk_start(&t, c, "/ws");
        PUMP_UNTIL(t.connected || t.failed);
        websocket_close(t.ws, codes[i].given, "why");
        PUMP_UNTIL(t.closed && w.ws_closed);
        assert_int_equal(w.ws_code, codes[i].arrives);
        http_client_free(c);
    }
}

static void websockets_refused(void **state)
{
    AUTO(talk_done) struct talk t = {0}, early = {0};
    struct http_client *c = client_by(PLAIN);

    (void)state;
    talk_start(&t, c, "/nothing");
    PUMP_UNTIL(t.failed);
    assert_int_equal(t.status, 404);
    assert_string_equal(t.got.p, "no\n");
    talk_start(&early, c, "/ws");
    websocket_close(early.ws, 1000, NULL);
    PUMP_UNTIL(early.closed);
    assert_false(early.connected);
    http_client_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(websockets_talk, setup, teardown),
        cmocka_unit_test_setup_teardown(websockets_close_behind_their_data, setup, teardown),
        cmocka_unit_test_setup_teardown(websockets_send_no_reserved_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(websockets_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
