/* The client over a real HTTP server on a unix socket, which answers as a test wants. */
#include "base/base_test.h"
#include "client/client.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "http/client.h"
#include "http/server.h"

struct world {
    struct loop *loop;
    struct http_server *server;
    struct client *client;
    char path[64];
    struct buf seen; /* "METHOD target content-type body\n" */
    const char *answer;
    int status;
    struct exchange *stream;
    unsigned patience;
    bool is_stream;
    struct buf got; /* by callbacks */
    bool done;
    struct client_watch *watch;
    bool stop_at_first;
};
static struct world w;

static void on_closed(struct exchange *x)
{
    (void)x;
    w.stream = NULL;
}

static void handle(struct exchange *x, void *data)
{
    (void)data;
    buf_addf(&w.seen, "%s " STR_FMT " " STR_FMT " " STR_FMT "\n", http_method_name(x->method),
             STR_ARG(x->target), STR_ARG(exchange_header(x, "content-type")), STR_ARG(x->body));
    if (w.patience && --w.patience < 9) { /* 429 as kube-apiserver says it, some times */
        exchange_set_header(x, "Retry-After", STR("0"));
        exchange_respond(x, w.patience % 2 ? 503 : 429, "text/plain", STR("Too many requests, please try again later.\n"));
        return;
    }
    if (!w.is_stream) {
        exchange_respond(x, w.status, "application/json", str_of(w.answer));
        return;
    }
    x->closed = on_closed;
    w.stream = x;
    exchange_start(x, 200, "application/json");
    exchange_write(x, str_of(w.answer));
}

static int setup(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    (void)state;
    memset(&w, 0, sizeof w);
    w.loop = loop_new(NULL);
    snprintf(w.path, sizeof w.path, "/tmp/client-test-%d", (int)getpid());
    snprintf(un.sun_path, sizeof un.sun_path, "%s", w.path);
    unlink(w.path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 10), 0);
    w.server = http_server_new(&(struct http_server_config){.loop = w.loop, .handle = handle});
    if (!http_server_listen(w.server, fd, NULL, &err))
        fail_msg("%s", error_text(&err));
    w.client = client_http_new(
        w.loop, http_client_new(&(struct http_client_config){.loop = w.loop, .unix_path = w.path}));
    w.status = 200;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_free(w.client);
    http_server_free(w.server);
    loop_free(w.loop);
    unlink(w.path);
    buf_done(&w.seen);
    buf_done(&w.got);
    return 0;
}

static void pump(void)
{
    for (int i = 0; i < 2000 && !w.done; i++)
        loop_turn(w.loop, MILLIS(5));
    assert_true(w.done);
}

static void answered(void *user, const struct client_response *r)
{
    (void)user;
    buf_addf(&w.got, "%d %s " STR_FMT, r->status, error_kind_name(r->err->kind),
             STR_ARG(json_str_at(r->body, "metadata/name")));
    if (r->err->kind != ERROR_NONE)
        buf_addf(&w.got, "%s", error_text(r->err));
    w.done = true;
}

static void requests_are_written_as_the_api_wants_them(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *body = json_object(&a, "a", json_new_i64(&a, 1), NULL);
    const struct {
        struct client_request r;
        const char *seen;
    } cases[] = {
        {{.verb = CLIENT_GET,
          .group = "",
          .version = "v1",
          .plural = "pods",
          .ns = STR("n"),
          .name = STR("p")},
         "GET /api/v1/namespaces/n/pods/p  \n"},
        {{.verb = CLIENT_LIST,
          .group = "kubevirt.io",
          .version = "v1",
          .plural = "virtualmachines",
          .query = STR("limit=5")},
         "GET /apis/kubevirt.io/v1/virtualmachines?limit=5  \n"},
        {{.verb = CLIENT_CREATE, .group = "", .version = "v1", .plural = "nodes", .body = body},
         "POST /api/v1/nodes application/json {\"a\":1}\n"},
        {{.verb = CLIENT_UPDATE,
          .group = "",
          .version = "v1",
          .plural = "nodes",
          .name = STR("n"),
          .body = body},
         "PUT /api/v1/nodes/n application/json {\"a\":1}\n"},
        {{.verb = CLIENT_PATCH_MERGE,
          .group = "",
          .version = "v1",
          .plural = "nodes",
          .name = STR("n"),
          .subresource = "status",
          .body = body},
         "PATCH /api/v1/nodes/n/status application/merge-patch+json {\"a\":1}\n"},
        {{.verb = CLIENT_PATCH_JSON,
          .group = "",
          .version = "v1",
          .plural = "nodes",
          .name = STR("n"),
          .body = body},
         "PATCH /api/v1/nodes/n application/json-patch+json {\"a\":1}\n"},
        {{.verb = CLIENT_PATCH_STRATEGIC,
          .group = "",
          .version = "v1",
          .plural = "nodes",
          .name = STR("n"),
          .body = body},
         "PATCH /api/v1/nodes/n application/strategic-merge-patch+json {\"a\":1}\n"},
        {{.verb = CLIENT_APPLY,
          .group = "",
          .version = "v1",
          .plural = "nodes",
          .name = STR("n"),
          .body = body,
          .query = STR("fieldManager=x&force=true")},
         "PATCH /api/v1/nodes/n?fieldManager=x&force=true application/apply-patch+yaml "
         "{\"a\":1}\n"},
        {{.verb = CLIENT_DELETE,
          .group = "",
          .version = "v1",
          .plural = "pods",
          .ns = STR("n"),
          .name = STR("a/../b")},
         "DELETE /api/v1/namespaces/n/pods/a%2F..%2Fb  \n"},
    };

    (void)state;
    w.answer = "{\"metadata\":{\"name\":\"x\"}}";
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        buf_clear(&w.seen);
        buf_clear(&w.got);
        w.done = false;
        client_call(w.client, &cases[i].r, answered, NULL);
        pump();
        if (strstr(cases[i].seen, "%2F"))
            continue; /* the server refuses such names by itself */
        assert_string_equal(w.seen.p, cases[i].seen);
        assert_non_null(strstr(w.got.p, "200 "));
    }
}

static void failures_become_errors(void **state)
{
    static const struct {
        int status;
        const char *answer;
        enum error_kind kind;
        const char *message;
    } cases[] = {
        {404, "{\"reason\":\"NotFound\",\"message\":\"no x\"}", ERROR_NOT_FOUND, "no x"},
        {409, "{\"reason\":\"AlreadyExists\",\"message\":\"is there\"}", ERROR_EXISTS, "is there"},
        {409, "{\"reason\":\"Conflict\",\"message\":\"changed\"}", ERROR_CONFLICT, "changed"},
        {410, "{\"reason\":\"Expired\",\"message\":\"old\"}", ERROR_GONE, "old"},
        {422, "{\"reason\":\"Invalid\",\"message\":\"bad\"}", ERROR_INVALID, "bad"},
        {403, "plain words\n", ERROR_FORBIDDEN, "plain words"},
        {500, "", ERROR_INTERNAL, "HTTP status 500"},
        {418, "[]", ERROR_BAD_REQUEST, "[]"},
        {200, "not json", ERROR_INTERNAL, "answer of the API server"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        buf_clear(&w.got);
        w.done = false;
        w.status = cases[i].status;
        w.answer = cases[i].answer;
        client_call(w.client,
                    &(struct client_request){.verb = CLIENT_GET,
                                             .group = "",
                                             .version = "v1",
                                             .plural = "nodes",
                                             .name = STR("n")},
                    answered, NULL);
        pump();
        if (!strstr(w.got.p, error_kind_name(cases[i].kind)) || !strstr(w.got.p, cases[i].message))
            fail_msg("case %zu: %s", i, w.got.p);
    }
}

static void on_event(void *user, enum client_event_type type, const struct json *object)
{
    (void)user;
    buf_addf(&w.got, "%d:" STR_FMT " ", (int)type, STR_ARG(json_str_at(object, "metadata/name")));
    if (w.stop_at_first) {
        client_watch_stop(w.client, w.watch);
        w.done = true;
    }
}

static void on_ended(void *user, const struct error *err)
{
    (void)user;
    buf_addf(&w.got, "end %s", error_kind_name(err->kind));
    w.done = true;
}

static void start_watch(const char *answer)
{
    w.is_stream = true;
    w.answer = answer;
    w.watch = client_watch(
        w.client, &(struct client_watch_request){.group = "",
                                                 .version = "v1",
                                                 .plural = "pods",
                                                 .from_revision = 7,
                                                 .field_selector = STR("spec.nodeName=a,b"),
                                                 .event = on_event,
                                                 .ended = on_ended});
}

static void until_got(const char *text)
{
    for (int i = 0; i < 2000 && !(w.got.p && strstr(w.got.p, text)); i++)
        loop_turn(w.loop, MILLIS(5));
    if (!w.got.p || !strstr(w.got.p, text))
        fail_msg("got '%s', not '%s'", w.got.p ? w.got.p : "", text);
}

#define EVENT(type, name)                                                                          \
    "{\"type\":\"" type "\",\"object\":{\"metadata\":{\"name\":\"" name "\"}}}\n"

static void watches_follow_lines(void **state)
{
    (void)state;
    start_watch(EVENT("ADDED", "a") EVENT("MODIFIED", "b") "{\"type\":\"DELE");
    until_got("0:a 1:b ");
    exchange_write(w.stream, STR("TED\",\"object\":{\"metadata\":{\"name\":\"c\"}}}\n\n" EVENT(
                                 "BOOKMARK", "")));
    until_got("2:c 3: ");
    exchange_end(w.stream);
    pump();
    assert_string_equal(w.got.p, "0:a 1:b 2:c 3: end no error");
    assert_non_null(strstr(w.seen.p, "GET /api/v1/pods?watch=true&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds="));
    assert_non_null(strstr(w.seen.p, "&fieldSelector=spec.nodeName%3Da%2Cb  \n"));
}

static void a_watch_ends_with_its_error(void **state)
{
    static const struct {
        const char *line;
        enum error_kind kind;
    } cases[] = {
        {"{\"type\":\"ERROR\",\"object\":{\"code\":410,\"reason\":\"Expired\",\"message\":\"too "
         "old\"}}\n",
         ERROR_GONE},
        {"{\"type\":\"ODD\",\"object\":{}}\n", ERROR_INTERNAL},
        {"{\"type\":\n", ERROR_BAD_REQUEST},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(buf_done) struct buf want = {0};

        buf_clear(&w.got);
        w.done = false;
        start_watch(cases[i].line);
        pump();
        buf_addf(&want, "end %s", error_kind_name(cases[i].kind));
        assert_string_equal(w.got.p, want.p);
    }
}

static void a_watch_may_be_stopped_by_its_event(void **state)
{
    (void)state;
    w.stop_at_first = true;
    start_watch(EVENT("ADDED", "a") EVENT("ADDED", "b"));
    pump();
    for (int i = 0; i < 5; i++)
        loop_turn(w.loop, MILLIS(5));
    assert_string_equal(w.got.p, "0:a ");
}

static void an_event_without_end_is_cut(void **state)
{
    char *big = xcalloc(1, 70000);

    (void)state;
    memset(big, 'x', 65536);
    start_watch("{\"type\":\"ADDED\",\"object\":\"");
    for (int i = 0; i < 2000 && !w.stream; i++)
        loop_turn(w.loop, MILLIS(5));
    for (int i = 0; i < 200 && !w.done; i++) {
        if (w.stream)
            exchange_write(w.stream, str_n(big, 65536));
        for (int k = 0; k < 20 && !w.done; k++)
            loop_turn(w.loop, 0);
    }
    pump();
    assert_string_equal(w.got.p, "end too large");
    free(big);
}

static void freeing_drops_what_runs(void **state)
{
    (void)state;
    start_watch("");
    client_call(w.client,
                &(struct client_request){
                    .verb = CLIENT_GET, .group = "", .version = "v1", .plural = "nodes"},
                answered, NULL);
    loop_turn(w.loop, 0);
}

static size_t asked(void)
{
    size_t n = 0;

    for (size_t i = 0; i < w.seen.n; i++)
        n += w.seen.p[i] == '\n';
    return n;
}

/* Whoever says 429 or 503 and when to come again has not done it: it is asked again, then. */
static void patience_is_had_when_it_is_asked_for(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *body = json_object(&a, "a", json_new_i64(&a, 1), NULL);
    struct client_request r = {.verb = CLIENT_CREATE, .group = "", .version = "v1", .plural = "nodes", .body = body};
    int64_t begun = loop_now_ns(w.loop);

    (void)state;
    w.answer = "{\"metadata\":{\"name\":\"x\"}}";
    w.patience = 4;
    client_call(w.client, &r, answered, NULL);
    pump();
    assert_string_equal(w.got.p, "200 no error x");
    assert_int_equal(asked(), 5); /* four were refused */
    assert_true(loop_now_ns(w.loop) - begun >= 4 * MILLIS(100));

    /* One that cannot wait is told, and others wait for a server that has asked for it. */
    buf_clear(&w.got);
    buf_clear(&w.seen);
    w.done = false;
    w.patience = 2;
    r.urgent = true;
    client_call(w.client, &r, answered, NULL);
    pump();
    assert_non_null(strstr(w.got.p, "503 "));
    assert_int_equal(asked(), 1);
}

static void a_request_whose_time_is_over_is_not_sent(void **state)
{
    (void)state;
    client_call(w.client,
                &(struct client_request){.verb = CLIENT_DELETE,
                                         .group = "",
                                         .version = "v1",
                                         .plural = "nodes",
                                         .name = STR("n"),
                                         .not_after_ns = loop_now_ns(w.loop)},
                answered, NULL);
    pump();
    assert_non_null(strstr(w.got.p, "not sent"));
    assert_int_equal(w.seen.n, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(requests_are_written_as_the_api_wants_them),
        T(failures_become_errors),
        T(watches_follow_lines),
        T(a_watch_ends_with_its_error),
        T(a_watch_may_be_stopped_by_its_event),
        T(an_event_without_end_is_cut),
        T(freeing_drops_what_runs),
        T(patience_is_had_when_it_is_asked_for),
        T(a_request_whose_time_is_over_is_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
