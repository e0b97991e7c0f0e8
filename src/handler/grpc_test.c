/* gRPC between our own client and server, on a unix socket; and what Go's client writes that HTTP does not know. */
#include "base/base_test.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "handler/grpc.h"
#include "http/server.h"

static struct {
    struct loop *loop;
    struct http_server *server;
    struct http_client *client;
    char path[64];
    unsigned served;
    char seen[64]; /* path of the last call */
    struct exchange *stream;
} w;

static void on_gone(struct exchange *x)
{
    (void)x;
    w.stream = NULL;
}

static void handle(struct exchange *x, void *data)
{
    AUTO(error_clear) struct error err = {0};
    struct str message;

    (void)data;
    w.served++;
    snprintf(w.seen, sizeof w.seen, STR_FMT, STR_ARG(x->path));
    if (!grpc_accept(x))
        return;
    if (!grpc_message(x->body, &message, &err))
        grpc_refuse(x, GRPC_INVALID_ARGUMENT, error_text(&err));
    else if (str_is(x->path, "/echo"))
        grpc_answer(x, message);
    else if (str_is(x->path, "/stream")) {
        w.stream = x;
        x->closed = on_gone;
        grpc_stream(x);
        grpc_send(x, STR("one"));
    } else
        grpc_refuse(x, GRPC_UNIMPLEMENTED, "100% no\nsuch \xc3\xa4 method");
}

static int setup(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    AUTO(error_clear) struct error err = {0};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    (void)state;
    memset(&w, 0, sizeof w);
    snprintf(w.path, sizeof w.path, "/tmp/grpc-test-%d", (int)getpid());
    memcpy(un.sun_path, w.path, strlen(w.path) + 1);
    unlink(w.path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 16), 0);
    w.loop = loop_new(NULL);
    w.server = http_server_new(&(struct http_server_config){.loop = w.loop, .handle = handle, .any_authority = true});
    assert_true(http_server_listen(w.server, fd, NULL, &err));
    w.client = http_client_new(&(struct http_client_config){.loop = w.loop, .unix_path = w.path});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(w.client);
    http_server_free(w.server);
    loop_free(w.loop);
    unlink(w.path);
    return 0;
}

struct reply {
    bool done;
    char text[256], error[256];
};

static void on_done(void *user, struct str answer, const struct error *err)
{
    struct reply *r = user;

    r->done = true;
    snprintf(r->text, sizeof r->text, STR_FMT, STR_ARG(answer));
    snprintf(r->error, sizeof r->error, "%s", err->kind == ERROR_NONE ? "" : error_text(err));
}

static void ask(const char *path, struct str message, struct reply *r)
{
    assert_non_null(grpc_call(w.client, path, message, SECONDS(20), on_done, r));
    for (int i = 0; i < 2000 && !r->done; i++)
        loop_turn(w.loop, MILLIS(10));
    assert_true(r->done);
}

static void a_message_goes_there_and_back(void **state)
{
    static const char *const texts[] = {"hello", "", "with\na line"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct reply r = {0};

        ask("/echo", str_of(texts[i]), &r);
        assert_string_equal(r.error, "");
        assert_string_equal(r.text, texts[i]);
    }
}

static void a_refusal_carries_its_reason(void **state)
{
    struct reply r = {0};

    (void)state;
    ask("/other", STR(""), &r);
    assert_string_equal(r.error, "gRPC status 12: 100% no such \xc3\xa4 method");
}

static void messages_are_framed(void **state)
{
    static const struct {
        struct str body;
        const char *message, *error;
    } rows[] = {
        {{"\0\0\0\0\0", 5}, "", NULL},
        {{"\0\0\0\0\2hi", 7}, "hi", NULL},
        {{"", 0}, NULL, "gRPC: 0 bytes are no message"},
        {{"\0\0\0\0", 4}, NULL, "gRPC: 4 bytes are no message"},
        {{"\1\0\0\0\0", 5}, NULL, "gRPC: compressed messages are not supported"},
        {{"\0\0\0\0\1", 5}, NULL, "gRPC: a message of 1 bytes in a body of 5"},
        {{"\0\0\0\0\0x", 6}, NULL, "gRPC: a message of 0 bytes in a body of 6"},
        {{"\0\377\377\377\377x", 6}, NULL, "gRPC: a message of 4294967295 bytes in a body of 6"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(error_clear) struct error err = {0};
        struct str message = STR("untouched");

        if (grpc_message(rows[i].body, &message, &err)) {
            assert_non_null(rows[i].message);
            assert_true(str_is(message, rows[i].message));
        } else {
            assert_string_equal(error_text(&err), rows[i].error ? rows[i].error : "");
            assert_true(str_is(message, "untouched"));
        }
    }
}

static unsigned streamed;
static void on_stream_data(void *user, struct str data)
{
    (void)user;
    streamed += (unsigned)data.n;
}
static void on_stream_done(void *user, int status, struct str body, const struct error *err)
{
    (void)user;
    (void)status;
    (void)body;
    (void)err;
}

static void a_stream_goes_on_until_its_reader_goes(void **state)
{
    const struct http_request q = {.method = HTTP_POST, .path = STR("/stream"), .body = {"\0\0\0\0\0", 5}, .content_type = STR("application/grpc"),
                                   .stream = true, .timeout_ns = -1, .data = on_stream_data, .done = on_stream_done};
    struct http_call *call;

    (void)state;
    streamed = 0;
    call = http_client_call(w.client, &q);
    for (int i = 0; i < 2000 && streamed < 8; i++)
        loop_turn(w.loop, MILLIS(10));
    assert_int_equal(streamed, 8);
    grpc_send(w.stream, STR("again"));
    for (int i = 0; i < 2000 && streamed < 18; i++)
        loop_turn(w.loop, MILLIS(10));
    assert_int_equal(streamed, 18);
    http_call_cancel(call);
    for (int i = 0; i < 2000 && w.stream; i++)
        loop_turn(w.loop, MILLIS(10));
    assert_null(w.stream);
}

/* A field of HPACK, a literal without indexing. */
static void add_field(struct buf *b, const char *name, const char *value)
{
    buf_addc(b, 0);
    buf_addc(b, (char)strlen(name));
    buf_adds(b, name);
    buf_addc(b, (char)strlen(value));
    buf_adds(b, value);
}

static void add_frame(struct buf *b, unsigned type, unsigned flags, unsigned stream, struct str payload)
{
    const char head[9] = {0, (char)(payload.n >> 8), (char)payload.n, (char)type, (char)flags, 0, 0, 0, (char)stream};

    buf_add(b, head, sizeof head);
    buf_addstr(b, payload);
}

/* What a kubelet of old sends: its :authority is the socket's path. */
static void a_path_may_stand_for_the_authority(void **state)
{
    static const struct {
        const char *extra, *seen; /* a second field that is no HTTP: the call is refused */
    } rows[] = {{NULL, "/echo"}, {":status", ""}, {"Upper", ""}, {"te\r", ""}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(buf_done) struct buf fields = {0}, all = {0};
        AUTO(error_clear) struct error err = {0};
        int ends[2];
        char answer[512];

        w.seen[0] = '\0';
        add_field(&fields, ":method", "POST");
        add_field(&fields, ":scheme", "http");
        add_field(&fields, ":path", "/echo");
        add_field(&fields, ":authority", "/var/lib/kubelet/device-plugins/kubevirt-kvm.sock");
        add_field(&fields, "content-type", "application/grpc");
        if (rows[i].extra)
            add_field(&fields, rows[i].extra, "1");
        buf_adds(&all, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        add_frame(&all, 4, 0, 0, STR(""));
        add_frame(&all, 1, 4, 1, buf_str(&fields));
        add_frame(&all, 0, 1, 1, (struct str){"\0\0\0\0\0", 5});
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
        assert_true(http_server_add(w.server, ends[0], NULL, &err));
        assert_int_equal(write(ends[1], all.p, all.n), all.n);
        for (int turn = 0; turn < 20; turn++)
            loop_turn(w.loop, MILLIS(5));
        assert_string_equal(w.seen, rows[i].seen);
        assert_true(read(ends[1], answer, sizeof answer) > 0);
        close(ends[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_goes_there_and_back),
        cmocka_unit_test(a_refusal_carries_its_reason),
        cmocka_unit_test(messages_are_framed),
        cmocka_unit_test(a_stream_goes_on_until_its_reader_goes),
        cmocka_unit_test(a_path_may_stand_for_the_authority),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
