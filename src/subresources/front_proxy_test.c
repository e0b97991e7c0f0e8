#include "subresources/front_proxy.h"
#include "base/base_test.h"

#include "base/cleanup.h"

#define CONFIG                                                                                                                    \
    "{\"data\":{\"requestheader-client-ca-file\":\"PEM\",\"requestheader-allowed-names\":\"[\\\"front-proxy-client\\\"]\","         \
    "\"requestheader-username-headers\":\"[\\\"X-Remote-User\\\",\\\"X-Other-User\\\"]\","                                         \
    "\"requestheader-uid-headers\":\"[\\\"X-Remote-Uid\\\"]\",\"requestheader-group-headers\":\"[\\\"X-Remote-Group\\\"]\","       \
    "\"requestheader-extra-headers-prefix\":\"[\\\"X-Remote-Extra-\\\"]\"}}"

static void read_config(struct front_proxy *p, const char *text)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    if (!json_parse(str_of(text), &a, &v, &err) || !front_proxy_read(p, v, &err))
        fail_msg("%s", error_text(&err));
}

struct header {
    const char *name, *value;
};

/* An answer for a request of a peer with these headers: the user, or the refusal. */
static const char *ask(const struct front_proxy *p, struct exchange *x, struct http_peer *peer, const struct header *headers,
                       struct identity *ret)
{
    AUTO(error_clear) struct error err = {0};
    struct http_header list[16];

    x->peer = peer;
    x->headers = list;
    x->n_headers = 0;
    for (; headers->name; headers++)
        list[x->n_headers++] = (struct http_header){str_of(headers->name), str_of(headers->value)};
    if (front_proxy_identity(p, x, ret, &err)) {
        assert_int_equal(err.kind, ERROR_NONE);
        return ret->user;
    }
    assert_int_equal(err.kind, ERROR_UNAUTHORIZED);
    return arena_strdup(&x->arena, str_of(error_text(&err)));
}

static char *org;
static struct http_peer front_proxy_peer(void)
{
    static char name[] = "front-proxy-client";

    return (struct http_peer){.tls = true, .cert_cn = name, .cert_orgs = &org, .cert_until_unix_s = INT64_MAX};
}

#define ADMIN {"x-remote-user", "admin"}, {"x-remote-group", "system:masters"}

static void only_the_front_proxy_is_believed(void **state)
{
    static const struct header headers[] = {ADMIN, {0}};
    static char other[] = "admin", longer[] = "front-proxy-client2";
    struct front_proxy p = {0}, none = {0}, any = {0};
    struct loop *loop = loop_new_fake();
    struct http_peer peers[8];
    struct identity who;

    (void)state;
    read_config(&p, CONFIG);
    read_config(&any, "{\"data\":{\"requestheader-client-ca-file\":\"PEM\",\"requestheader-allowed-names\":\"[]\","
                      "\"requestheader-username-headers\":\"[\\\"X-Remote-User\\\"]\","
                      "\"requestheader-group-headers\":\"[\\\"X-Remote-Group\\\"]\"}}");
    for (size_t i = 0; i < ARRAY_SIZE(peers); i++)
        peers[i] = front_proxy_peer();
    peers[1].cert_cn = other;
    peers[2].cert_cn = longer;
    peers[3].cert_cn = NULL;
    peers[4] = (struct http_peer){.tls = true};
    peers[5].cert_bad = true;
    peers[6].cert_until_unix_s = loop_unix_ns(loop) / SECONDS(1) - 1;
    peers[7].tls = false;
    for (size_t i = 0; i < ARRAY_SIZE(peers); i++) {
        struct exchange x = {.loop = loop};

        assert_string_equal(ask(&p, &x, &peers[i], headers, &who), i == 0 ? "admin" : "request is not authenticated");
        assert_string_equal(ask(&none, &x, &peers[i], headers, &who), "request is not authenticated");
        /* Without names every certificate of that authority is the front proxy's. */
        assert_string_equal(ask(&any, &x, &peers[i], headers, &who), i < 4 ? "admin" : "request is not authenticated");
        arena_done(&x.arena);
    }
    front_proxy_done(&p);
    front_proxy_done(&any);
    loop_free(loop);
}

static void what_a_front_proxy_would_not_send_is_refused(void **state)
{
    static const struct {
        struct header headers[6];
        const char *says;
    } cases[] = {
        {{ADMIN}, "admin"},
        {{{"x-other-user", "alice"}, {"x-remote-group", "g"}}, "alice"},
        {{{"x-other-user", "alice"}, ADMIN}, "admin"},
        {{{"x-remote-group", "g"}}, "a valid user header is required for authorization"},
        {{{"x-remote-user", ""}, {"x-remote-group", "g"}}, "a valid user header is required for authorization"},
        {{{"x-remote-user", "alice"}}, "a valid group header is required for authorization"},
        {{{"x-remote-user", "alice"}, {"x-remote-group", ""}}, "a valid group header is required for authorization"},
        {{{"x_remote_user", "admin"}, {"x-remote-group", "g"}}, "a valid user header is required for authorization"},
        {{ADMIN, {"x-remote-user", "alice"}}, "a header that says who asks is there twice"},
        {{ADMIN, {"x-remote-user", "admin"}}, "a header that says who asks is there twice"},
        {{ADMIN, {"x-remote-uid", "1"}, {"x-remote-uid", "2"}}, "a header that says who asks is there twice"},
        {{ADMIN, {"connection", "close"}}, "admin"},
        {{ADMIN, {"connection", "keep-alive, X-Remote-Group"}}, "the Connection header names a header that says who asks"},
        {{ADMIN, {"connection", "x-REMOTE-extra-scopes"}}, "the Connection header names a header that says who asks"},
        {{ADMIN, {"connection", "upgrade"}, {"connection", "x-remote-user"}}, "the Connection header names a header that says who asks"},
    };
    struct front_proxy p = {0};
    struct http_peer peer = front_proxy_peer();
    struct loop *loop = loop_new_fake();

    (void)state;
    read_config(&p, CONFIG);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct exchange x = {.loop = loop};
        struct identity who;

        assert_string_equal(ask(&p, &x, &peer, cases[i].headers, &who), cases[i].says);
        arena_done(&x.arena);
    }
    front_proxy_done(&p);
    loop_free(loop);
}

static void groups_uid_and_extra_are_read_whole(void **state)
{
    static const struct header headers[] = {ADMIN,
                                            {"x-remote-group", "system:authenticated"},
                                            {"x-remote-group", "system:authenticated, system:masters"},
                                            {"x-remote-uid", "u-1"},
                                            {"x-remote-extra-scopes", "a"},
                                            {"x-remote-extra-scopes", "b"},
                                            {"x-remote-extra-example.com%2fteam", "t"},
                                            {"x-remote-extra-broken%2", "k"},
                                            {"x-remote-extra-nul%00x", "n"},
                                            {0}};
    struct front_proxy p = {0};
    struct http_peer peer = front_proxy_peer();
    struct loop *loop = loop_new_fake();
    struct exchange x = {.loop = loop};
    AUTO_FREE char *extra = NULL;
    struct identity who;

    (void)state;
    read_config(&p, CONFIG);
    assert_string_equal(ask(&p, &x, &peer, headers, &who), "admin");
    assert_string_equal(who.uid, "u-1");
    assert_string_equal(who.groups[0], "system:masters");
    assert_string_equal(who.groups[1], "system:authenticated");
    assert_string_equal(who.groups[2], "system:authenticated, system:masters"); /* one group of a strange name, not two */
    assert_null(who.groups[3]);
    extra = json_text(who.extra);
    assert_string_equal(extra, "{\"scopes\":[\"a\",\"b\"],\"example.com/team\":[\"t\"],\"broken%2\":[\"k\"],\"nul%00x\":[\"n\"]}");
    arena_done(&x.arena);
    front_proxy_done(&p);
    loop_free(loop);
}

static void a_broken_config_map_changes_nothing(void **state)
{
    static const char *const broken[] = {
        "{}",
        "{\"data\":{\"requestheader-client-ca-file\":\"PEM\"}}",
        "{\"data\":{\"requestheader-username-headers\":\"[\\\"X-Remote-User\\\"]\"}}",
        "{\"data\":{\"requestheader-client-ca-file\":\"PEM\",\"requestheader-username-headers\":\"[]\"}}",
        "{\"data\":{\"requestheader-client-ca-file\":\"PEM\",\"requestheader-username-headers\":\"X-Remote-User\"}}",
        "{\"data\":{\"requestheader-client-ca-file\":\"PEM\",\"requestheader-username-headers\":\"[7]\"}}",
        "{\"data\":{\"requestheader-client-ca-file\":\"PEM\",\"requestheader-username-headers\":\"[\\\"\\\"]\"}}",
        ("{\"data\":{\"requestheader-client-ca-file\":\"PEM\",\"requestheader-username-headers\":\"[\\\"U\\\"]\",\"requestheader-allowed-names\":"
         "\"{}\"}}"),
    };
    struct front_proxy p = {0};

    (void)state;
    read_config(&p, CONFIG);
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v;

        assert_true(json_parse(str_of(broken[i]), &a, &v, &err));
        assert_false(front_proxy_read(&p, v, &err));
        assert_true(str_starts(str_of(error_text(&err)), STR("ConfigMap kube-system/extension-apiserver-authentication: ")));
        assert_string_equal(p.ca_pem, "PEM");
        assert_int_equal(p.n_names, 1);
    }
    front_proxy_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_front_proxy_is_believed),
        cmocka_unit_test(what_a_front_proxy_would_not_send_is_refused),
        cmocka_unit_test(groups_uid_and_extra_are_read_whole),
        cmocka_unit_test(a_broken_config_map_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
