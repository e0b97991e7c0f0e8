/* The aggregated API over TLS, with an API server that is a table. */
#include "subresources/aggregated.h"
#include "base/base_test.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "http/server.h"
#include "http/tls.h"

/* --- the API server behind: it knows one right, and no machine ------------------------------------------------------------ */

struct client_call {
    struct loop_defer later;
    client_done_fn done;
    void *user;
    struct arena arena;
    const struct json *body;
    bool review;
};

static struct world {
    struct loop *loop;
    struct client client;
    struct http_server *server;
    struct http_tls *tls, *proxy, *stranger;
    unsigned port;
    struct front_proxy config;
    struct subresources *subresources;
    struct aggregated *aggregated;
    size_t reviews, reads, cancelled;
    const struct json *spec; /* of the last review */
    struct arena arena;
} w;

static void answer(struct loop_defer *d)
{
    struct client_call *c = container_of(d, struct client_call, later);
    AUTO(error_clear) struct error err = {0};
    struct client_response r = {.status = 201, .err = &err};
    bool allowed = str_starts(json_str_at(c->body, "spec/user"), STR("alice")) && str_is(json_str_at(c->body, "spec/resourceAttributes/verb"), "update");

    if (c->review)
        r.body = json_object(&c->arena, "status",
                             json_object(&c->arena, "allowed", json_new_bool(allowed), "reason",
                                         str_is(json_str_at(c->body, "spec/user"), "bob") ? json_new_z(&c->arena, "not you, bob") : NULL, NULL),
                             NULL);
    else
        error_set(&err, ERROR_NOT_FOUND, "virtualmachines.kubevirt.io \"vm\" not found");
    c->done(c->user, &r);
    arena_done(&c->arena);
    free(c);
}

static struct client_call *call(struct client *base, const struct client_request *r, client_done_fn done, void *user)
{
    struct client_call *c = NEW(struct client_call);

    (void)base;
    c->done = done;
    c->user = user;
    c->review = strcmp(r->plural, "subjectaccessreviews") == 0;
    c->body = r->body ? json_copy(&c->arena, r->body) : NULL;
    if (c->review)
        w.spec = json_copy(&w.arena, json_get(r->body, "spec"));
    w.reviews += c->review;
    w.reads += !c->review;
    loop_defer(w.loop, &c->later, answer);
    return c;
}

static void cancel(struct client *base, struct client_call *c)
{
    (void)base;
    w.cancelled++;
    loop_defer_cancel(&c->later);
    arena_done(&c->arena);
    free(c);
}

static const struct client_ops ops = {.call = call, .cancel = cancel};

static struct http_client *no_agent(void *data, struct str node)
{
    (void)data;
    (void)node;
    return NULL;
}

static void handle(struct exchange *x, void *data)
{
    (void)data;
    if (!aggregated_handle(w.aggregated, x))
        exchange_respond(x, 404, "text/plain", STR("not an aggregated path"));
}

static struct http_tls *client_tls(const struct cert_pair *ca, const char *name, int64_t now)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(cert_pair_done) struct cert_pair pair = {0};
    struct http_tls *tls;

    assert_true(cert_issue(ca, &(struct cert_request){.common_name = name, .client = true, .now_unix_s = now, .valid_s = 999}, &pair, &err));
    tls = http_tls_new(&(struct http_tls_config){.cert_pem = pair.cert_pem, .key_pem = pair.key_pem, .ca_pem = ca->cert_pem}, &err);
    assert_non_null(tls);
    return tls;
}

static int setup(void **state)
{
    static const char *const ips[] = {"127.0.0.1", NULL};
    AUTO(error_clear) struct error err = {0};
    AUTO(cert_pair_done) struct cert_pair ca = {0}, server = {0};
    struct sockaddr_in in;
    socklen_t n = sizeof in;
    const struct json *map;
    int64_t now;
    int fd;

    (void)state;
    memset(&w, 0, sizeof w);
    w.loop = loop_new(NULL);
    w.client = (struct client){.ops = &ops, .loop = w.loop};
    now = loop_unix_ns(w.loop) / SECONDS(1);
    assert_true(cert_make_ca("ca", now, 9999, &ca, &err));
    assert_true(cert_issue(&ca, &(struct cert_request){.common_name = "s", .ip_addresses = ips, .server = true, .now_unix_s = now, .valid_s = 999},
                           &server, &err));
    w.tls = http_tls_new(&(struct http_tls_config){.cert_pem = server.cert_pem, .key_pem = server.key_pem, .ca_pem = ca.cert_pem, .server = true},
                         &err);
    w.proxy = client_tls(&ca, "front-proxy-client", now);
    w.stranger = client_tls(&ca, "admin", now);
    map = json_object(&w.arena, "data",
                      json_object(&w.arena, "requestheader-client-ca-file", json_new_z(&w.arena, ca.cert_pem), "requestheader-allowed-names",
                                  json_new_z(&w.arena, "[\"front-proxy-client\"]"), "requestheader-username-headers",
                                  json_new_z(&w.arena, "[\"X-Remote-User\"]"), "requestheader-group-headers",
                                  json_new_z(&w.arena, "[\"X-Remote-Group\"]"), NULL),
                      NULL);
    assert_true(front_proxy_read(&w.config, map, &err));
    w.subresources = subresources_new(&(struct subresources_config){.client = &w.client, .agent = no_agent, .version = "1"});
    w.aggregated = aggregated_new(&(struct aggregated_config){.client = &w.client, .subresources = w.subresources, .proxy = &w.config});
    w.server = http_server_new(&(struct http_server_config){.loop = w.loop, .handle = handle});
    assert_true(http_listen_tcp("127.0.0.1:0", &fd, &err));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    w.port = ntohs(in.sin_port);
    assert_true(http_server_listen(w.server, fd, w.tls, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_server_free(w.server);
    aggregated_free(w.aggregated);
    subresources_free(w.subresources);
    front_proxy_done(&w.config);
    http_tls_free(w.tls);
    http_tls_free(w.proxy);
    http_tls_free(w.stranger);
    loop_free(w.loop);
    arena_done(&w.arena);
    return 0;
}

struct reply {
    bool done;
    int status;
    struct buf body;
};

static void on_reply(void *user, int status, struct str body, const struct error *err)
{
    struct reply *r = user;

    if (err->kind != ERROR_NONE)
        fail_msg("%s", error_text(err));
    r->done = true;
    r->status = status;
    buf_addstr(&r->body, body);
}

/* As a user, by the front proxy or by somebody else; the answer must have the status and the text. */
static void expect_by(const struct http_tls *tls, const char *user, enum http_method method, const char *path, int status, const char *says)
{
    const struct http_header headers[] = {{STR("X-Remote-User"), str_of(user)}, {STR("X-Remote-Group"), STR("g")}};
    struct http_client *c = http_client_new(&(struct http_client_config){.loop = w.loop, .host = "127.0.0.1", .port = w.port, .tls = tls});
    struct reply r = {0};
    size_t at;

    http_client_call(c, &(struct http_request){.method = method, .path = str_of(path), .headers = headers, .n_headers = user ? 2 : 0,
                                               .done = on_reply, .user = &r});
    for (int i = 0; i < 2000 && !r.done; i++)
        loop_turn(w.loop, MILLIS(5));
    if (r.status != status || !str_find(buf_str(&r.body), str_of(says), &at))
        fail_msg("%s: %d %s", path, r.status, r.body.p);
    buf_done(&r.body);
    http_client_free(c);
}

#define V1 "/apis/subresources.kubevirt.io/v1"
#define VM V1 "/namespaces/ns/virtualmachines/vm/"

static void discovery_is_everybodys(void **state)
{
    static const struct {
        const char *path, *says;
        int status;
    } cases[] = {
        {"/apis", "\"groups\":[{\"name\":\"subresources.kubevirt.io\"", 200},
        {"/apis/subresources.kubevirt.io", "\"preferredVersion\":{\"groupVersion\":\"subresources.kubevirt.io/v1\"", 200},
        {V1, "\"groupVersion\":\"subresources.kubevirt.io/v1\",\"resources\":[{\"name\":\"expand-vm-spec\"", 200},
        {"/apis/subresources.kubevirt.io/v1alpha3", "\"name\":\"virtualmachines/start\"", 200},
        {"/apis/subresources.kubevirt.io/v2", "could not find", 404},
        {"/apis/kubevirt.io/v1", "not an aggregated path", 404},
        {"/openapi/v2", "\"/apis/subresources.kubevirt.io/v1alpha3/namespaces/{namespace}/virtualmachines/{name}/start\":{\"put\":", 200},
        {"/openapi/v3", "\"apis/subresources.kubevirt.io/v1\":{\"serverRelativeURL\":", 200},
        {"/openapi/v3/apis/subresources.kubevirt.io/v1", "\"openapi\":\"3.0.0\"", 200},
        {"/openapi/v3/apis/subresources.kubevirt.io/v7", "not an aggregated path", 404},
        {V1 "/version", "gitVersion", 200},
        {V1 "/healthz", "connectivity", 200},
        {V1 "/guestfs", "not of this release", 501},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        expect_by(w.stranger, NULL, HTTP_GET, cases[i].path, cases[i].status, cases[i].says);
    assert_int_equal(w.reviews, 0);
}

static void who_asks_is_told_by_the_front_proxy_alone(void **state)
{
    (void)state;
    expect_by(w.stranger, "alice", HTTP_PUT, VM "start", 401, "request is not authenticated");
    expect_by(w.stranger, "alice", HTTP_PUT, V1 "/anything", 401, "request is not authenticated");
    expect_by(w.proxy, NULL, HTTP_PUT, VM "start", 401, "a valid user header is required");
    expect_by(w.proxy, "alice", HTTP_GET, V1 "/anything", 401, "unknown api endpoint: /apis/subresources.kubevirt.io/v1/anything");
    assert_int_equal(w.reviews, 0);
}

/* What is kept has a bound in bytes, too. */
static void an_identity_as_long_as_a_book_is_asked_about_each_time(void **state)
{
    AUTO(buf_done) struct buf user = {0};

    (void)state;
    buf_adds(&user, "alice-");
    for (int i = 0; i < 500; i++)
        buf_adds(&user, "and-so-on-");
    for (int i = 0; i < 2; i++)
        expect_by(w.proxy, user.p, HTTP_PUT, VM "start", 404, "virtualmachines.kubevirt.io");
    assert_int_equal(w.reviews, 2);
}

static void rights_are_asked_about_and_a_yes_is_kept_for_a_moment(void **state)
{
    AUTO(buf_done) struct buf text = {0};
    size_t at;

    (void)state;
    expect_by(w.proxy, "alice", HTTP_PUT, VM "start", 404, "virtualmachines.kubevirt.io");
    assert_true(str_is(json_str_at(w.spec, "resourceAttributes/subresource"), "start"));
    assert_true(str_is(json_str_at(w.spec, "resourceAttributes/namespace"), "ns"));
    assert_true(str_is(json_str_at(w.spec, "resourceAttributes/name"), "vm"));
    assert_true(str_is(json_str_at(w.spec, "resourceAttributes/group"), "subresources.kubevirt.io"));
    expect_by(w.proxy, "alice", HTTP_PUT, VM "start", 404, "virtualmachines.kubevirt.io");
    assert_int_equal(w.reviews, 1);
    expect_by(w.proxy, "alice", HTTP_PUT, VM "stop", 404, "virtualmachines.kubevirt.io");
    expect_by(w.proxy, "alice", HTTP_PUT, V1 "/namespaces/other/virtualmachines/vm/start", 404, "virtualmachines.kubevirt.io");
    assert_int_equal(w.reviews, 3);
    /* A no is asked about each time: whoever has been given the right does not wait. */
    expect_by(w.proxy, "alice", HTTP_GET, VM "portforward/22/tcp", 401,
              "User \\\"alice\\\" cannot get resource \\\"virtualmachines/portforward\\\" in API group \\\"subresources.kubevirt.io\\\"");
    expect_by(w.proxy, "bob", HTTP_PUT, VM "start", 401, "not you, bob");
    expect_by(w.proxy, "bob", HTTP_PUT, VM "start", 401, "not you, bob");
    assert_int_equal(w.reviews, 6);
    expect_by(w.proxy, "alice", HTTP_PUT, V1 "/namespaces/ns/expand-vm-spec", 400, "empty request body");
    expect_by(w.proxy, "alice", HTTP_PUT, V1 "/namespaces/ns/virtualmachines/vm/made-up", 404, "could not find");
    aggregated_metrics(w.aggregated, &text);
    assert_true(str_find(buf_str(&text), STR("{verb=\"update\",resource=\"virtualmachines\",subresource=\"start\"} 3\n"), &at));
    assert_true(str_find(buf_str(&text), STR("{verb=\"update\",resource=\"expand-vm-spec\",subresource=\"\"} 1\n"), &at));
    assert_false(str_find(buf_str(&text), STR("made-up"), &at));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(discovery_is_everybodys, setup, teardown),
        cmocka_unit_test_setup_teardown(who_asks_is_told_by_the_front_proxy_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(an_identity_as_long_as_a_book_is_asked_about_each_time, setup, teardown),
        cmocka_unit_test_setup_teardown(rights_are_asked_about_and_a_yes_is_kept_for_a_moment, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
