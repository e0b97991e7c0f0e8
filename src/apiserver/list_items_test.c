/* Lists that are sent as they are read: every form, selectors and pages, and objects that change meanwhile. */
#include "apiserver/testing.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#define OBJECTS 400
#define FILLER 6000

static struct http_peer admin;
static int peer;       /* the client's end of the connection */
static struct buf got; /* from it */

static void handle(struct exchange *x, void *data)
{
    static char name[] = "admin", group[] = "system:masters", *groups[] = {group, NULL};

    (void)data;
    admin = (struct http_peer){.cert_cn = name, .cert_orgs = groups};
    x->peer = &admin;
    apiserver_handle(x, w.api);
}

static void stored(void *user, const struct client_response *r)
{
    if (r->err->kind != ERROR_NONE)
        fail_msg("%s", error_text(r->err));
    --*(size_t *)user;
}

/* ConfigMaps c-0000 …, each second one with a label; `text` makes their states differ. */
static void put_all(enum client_verb verb, size_t n, size_t filler, const char *text)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf fill = {0};
    size_t pending = 0;

    for (size_t i = 0; i < n; i++) {
        char name[32];

        buf_clear(&fill);
        for (uint64_t h = i * 77777 + 1; fill.n < filler;
             h = h * 6364136223846793005u + 1442695040888963407u)
            for (int k = 0; k < 8; k++)
                buf_addc(&fill, alphabet[(h >> (k * 6 + 12)) % 64]);
        snprintf(name, sizeof name, "c-%04zu", i);
        const struct json *object = json_object(
            &a, "kind", json_new_z(&a, "ConfigMap"), "apiVersion", json_new_z(&a, "v1"), "metadata",
            json_object(&a, "name", json_new_z(&a, name), "labels",
                        i % 2 ? json_object(&a, "app", json_new_z(&a, "x"), NULL) : NULL, NULL),
            "data",
            json_object(&a, "text", json_new_z(&a, text), "fill", json_new_str(&a, buf_str(&fill)),
                        NULL),
            NULL);
        const struct client_request q = {.verb = verb,
                                         .group = "",
                                         .version = "v1",
                                         .plural = "configmaps",
                                         .ns = STR("default"),
                                         .name = verb == CLIENT_CREATE ? STR_NONE : str_of(name),
                                         .body = object};

        pending++;
        client_call(w.c, &q, stored, &pending);
        arena_clear(&a);
    }
    while (pending > 0)
        loop_turn(w.loop, SECONDS(5));
}

static int setup(void **state)
{
    (void)state;
    peer = -1;
    return world_open(&(struct world_wants){.history_max = 10, .handle = handle});
}

static int teardown(void **state)
{
    int result = world_teardown(state);

    fd_close(&peer);
    buf_done(&got);
    return result;
}

static void ask(const char *path, const char *accept)
{
    AUTO_FREE char *text =
        xasprintf("GET %s HTTP/1.1\r\nHost: a\r\nAccept: %s\r\n\r\n", path, accept);

    fd_close(&peer);
    buf_done(&got);
    peer = world_connect();
    assert_int_equal(send(peer, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, 0);
}

/* Reads on until the response is whole (true) or the connection has ended. */
static bool read_all(void)
{
    for (int i = 0; i < 100000; i++) {
        char piece[65536];
        ssize_t n = recv(peer, piece, sizeof piece, 0);
        const char *body = got.n ? strstr(got.p, "\r\n\r\n") : NULL, *length;

        if (n == 0)
            return false;
        if (n > 0)
            buf_add(&got, piece, (size_t)n);
        else
            loop_turn(w.loop, MILLIS(1));
        if (got.n > 5 && memcmp(got.p + got.n - 5, "0\r\n\r\n", 5) == 0)
            return true;
        length = body ? strstr(got.p, "content-length: ") : NULL;
        if (length && got.n >= (size_t)(body - got.p) + 4 + strtoul(length + 16, NULL, 10))
            return true;
    }
    fail_msg("no end of the answer");
    return false;
}

static const struct json *answer(bool *ret_streamed)
{
    AUTO(error_clear) struct error err = {0};
    const char *at = strstr(got.p, "\r\n\r\n") + 4;
    AUTO(buf_done) struct buf body = {0};
    const struct json *v = NULL;
    char *end;
    size_t n;

    *ret_streamed = strstr(got.p, "transfer-encoding: chunked") != NULL;
    if (*ret_streamed) {
        for (; (n = strtoul(at, &end, 16)) > 0; at += n + 2) {
            at = end + 2;
            buf_add(&body, at, n);
        }
    } else {
        buf_adds(&body, at);
    }
    arena_clear(&w.arena);
    if (!json_parse(buf_str(&body), &w.arena, &v, &err))
        fail_msg("%s", error_text(&err));
    return v;
}

static const struct json *get(const char *path, const char *accept, bool *ret_streamed)
{
    ask(path, accept);
    assert_true(read_all());
    assert_int_equal(strncmp(got.p, "HTTP/1.1 200", 12), 0);
    return answer(ret_streamed);
}

#define PATH "/api/v1/namespaces/default/configmaps"
#define TABLE "application/json;as=Table;v=v1;g=meta.k8s.io"
#define PARTIAL "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"

static void lists_of_every_form(void **state)
{
    static const struct {
        const char *path, *accept, *kind, *items, *name;
        size_t n;
        bool streamed;
    } t[] = {
        {PATH, "application/json", "ConfigMapList", "items", "metadata/name", OBJECTS, true},
        {PATH "?limit=5", "application/json", "ConfigMapList", "items", "metadata/name", 5, false},
        {PATH "?limit=100", "application/json", "ConfigMapList", "items", "metadata/name", 100,
         true},
        {PATH, TABLE, "Table", "rows", "object/metadata/name", OBJECTS, true},
        {PATH "?includeObject=Object", TABLE, "Table", "rows", "object/metadata/name", OBJECTS,
         true},
        {PATH, PARTIAL, "PartialObjectMetadataList", "items", "metadata/name", OBJECTS, true},
        {PATH "?pretty=true", "application/json", "ConfigMapList", "items", "metadata/name",
         OBJECTS, true},
        {PATH "?pretty=1&limit=2", "application/json", "ConfigMapList", "items", "metadata/name", 2,
         false},
        {PATH "?pretty=1", TABLE, "Table", "rows", "object/metadata/name", OBJECTS, true},
        {"/api/v1/configmaps?fieldSelector=metadata.namespace=kube-none", "application/json",
         "ConfigMapList", "items", "metadata/name", 0, false},
    };

    (void)state;
    put_all(CLIENT_CREATE, OBJECTS, FILLER, "old");
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        bool streamed;
        const struct json *v = get(t[i].path, t[i].accept, &streamed);
        size_t at = 0;

        assert_true(str_is(json_str_at(v, "kind"), t[i].kind));
        assert_true(json_str_at(v, "metadata/resourceVersion").n > 0);
        assert_int_equal(json_len(json_get(v, t[i].items)),
                         t[i].n + (t[i].n == OBJECTS)); /* kube-root-ca.crt is one, too */
        assert_int_equal(streamed, t[i].streamed);
        json_each_item(it, json_get(v, t[i].items)) {
            char want[32];

            snprintf(want, sizeof want, "c-%04zu", at++);
            assert_true(
                str_is(json_str_at(it, t[i].name), at > OBJECTS ? "kube-root-ca.crt" : want));
            assert_null(json_get(it, t[i].accept[16] ? "data" : "kind"));
        }
    }
}

/* For eyes: exactly what the whole tree would be, written out. */
static void pretty_lists_look_like_the_whole(void **state)
{
    static const char *const paths[] = {PATH "?pretty=true&limit=3", PATH "?pretty=true",
                                        PATH "?pretty=true&labelSelector=none"};

    (void)state;
    put_all(CLIENT_CREATE, 5, 100, "old");
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        AUTO(buf_done) struct buf want = {0};
        bool streamed;
        const struct json *v = get(paths[i], "application/json", &streamed);

        json_write_pretty(&want, v, 2);
        assert_string_equal(strstr(got.p, "\r\n\r\n") + 4, want.p);
    }
}

static void selectors_and_pages_agree_with_the_whole(void **state)
{
    AUTO_FREE char *token = NULL;
    bool streamed, first = true;
    size_t seen = 0, pages = 0;
    const struct json *v;

    (void)state;
    put_all(CLIENT_CREATE, OBJECTS, FILLER, "old");
    v = get(PATH "?labelSelector=app%3Dx", "application/json", &streamed);
    assert_int_equal(json_len(json_get(v, "items")), OBJECTS / 2);
    assert_null(json_at(v, "metadata/continue"));
    while (first || token) {
        AUTO_FREE char *path = xasprintf(PATH "?labelSelector=app%%3Dx&limit=64%s%s",
                                         token ? "&continue=" : "", token ? token : "");

        first = false;
        v = get(path, "application/json", &streamed);
        assert_null(json_at(v, "metadata/remainingItemCount"));
        json_each_item(it, json_get(v, "items")) {
            char want[32];

            snprintf(want, sizeof want, "c-%04zu", 2 * seen++ + 1);
            assert_true(str_is(json_str_at(it, "metadata/name"), want));
        }
        free(token);
        token =
            json_at(v, "metadata/continue") ? str_dup(json_str_at(v, "metadata/continue")) : NULL;
        pages++;
    }
    assert_int_equal(seen, OBJECTS / 2);
    assert_int_equal(pages, (OBJECTS / 2 + 63) / 64);
    v = get(PATH "?limit=10", "application/json", &streamed);
    assert_int_equal(json_i64_at(v, "metadata/remainingItemCount", 0), OBJECTS + 1 - 10);
}

/* Bytes are looked at before trees: nothing that matches may be lost by it. */
static void selectors_of_every_kind_find_theirs(void **state)
{
    static const struct {
        const char *query;
        size_t n;
    } t[] = {
        {"labelSelector=app", OBJECTS / 2},
        {"labelSelector=!app", OBJECTS / 2 + 1}, /* kube-root-ca.crt is one, too */
        {"labelSelector=app%20in%20(x,z)", OBJECTS / 2},
        {"labelSelector=app%20in%20(y,z)", 0},
        {"labelSelector=app%20notin%20(x)", OBJECTS / 2 + 1},
        {"labelSelector=app!=x", OBJECTS / 2 + 1},
        {"labelSelector=app=x,app", OBJECTS / 2},
        {"labelSelector=text=old", 0}, /* is in the text, and no label */
        {"fieldSelector=metadata.name=c-0003", 1},
        {"fieldSelector=metadata.name!=c-0003", OBJECTS},
        {"fieldSelector=metadata.namespace=default", OBJECTS + 1},
        {"fieldSelector=metadata.namespace=", 0},
    };

    (void)state;
    put_all(CLIENT_CREATE, OBJECTS, 600, "old");
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        AUTO_FREE char *path = xasprintf(PATH "?%s", t[i].query);
        bool streamed;
        const struct json *v = get(path, "application/json", &streamed);

        if (json_len(json_get(v, "items")) != t[i].n)
            fail_msg("%s: %zu", t[i].query, json_len(json_get(v, "items")));
    }
}

static void a_list_shows_one_state_whatever_changes(void **state)
{
    const struct json *v;
    bool streamed;
    size_t n = 0;

    (void)state;
    put_all(CLIENT_CREATE, OBJECTS, FILLER, "old");
    ask(PATH, "application/json"); /* its first bytes wait in the socket */
    put_all(CLIENT_UPDATE, OBJECTS, 10, "new");
    assert_true(read_all());
    v = answer(&streamed);
    assert_true(streamed);
    json_each_item(it, json_get(v, "items")) {
        if (str_starts(json_str_at(it, "metadata/name"), STR("c-"))) {
            assert_true(str_is(json_str_at(it, "data/text"), "old"));
            n++;
        }
    }
    assert_int_equal(n, OBJECTS);
    v = get(PATH, "application/json", &streamed);
    assert_true(str_is(json_str_at(json_item(json_get(v, "items"), 7), "data/text"), "new"));
}

static void what_slow_lists_hold_is_bounded(void **state)
{
    int64_t until;
    bool whole = true;

    (void)state;
    put_all(CLIENT_CREATE, 80, 400 << 10, "old"); /* random: 24 MB even when compressed */
    ask(PATH, "application/json");
    put_all(CLIENT_UPDATE, 80, 10, "new");
    until = loop_now_ns(w.loop) + SECONDS(3);
    while (loop_now_ns(w.loop) < until)
        loop_turn(w.loop, MILLIS(50));
    whole = read_all();
    assert_false(whole);
}

static size_t count(const char *text)
{
    size_t n = 0;

    for (const char *at = got.p; at && (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

/* More than a watcher may have queued: sent as it reads, then the mark, then what has changed since. */
static void read_piece(void)
{
    char piece[65536];
    ssize_t n = recv(peer, piece, sizeof piece, 0);

    assert_true(n != 0);
    if (n > 0)
        buf_add(&got, piece, (size_t)n);
    else
        loop_turn(w.loop, MILLIS(1));
}

static void a_watch_begins_with_many_objects(void **state)
{
    const char *mark, *change;

    (void)state;
    put_all(CLIENT_CREATE, 60, 100 << 10, "old");
    ask(PATH "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&"
             "allowWatchBookmarks=true",
        "application/json");
    /* It has begun, however busy the machine is: the head of the answer alone says nothing of the state that is shown. */
    for (int i = 0; i < 20000 && count("{\"type\":\"ADDED\"") == 0; i++)
        read_piece();
    put_all(CLIENT_UPDATE, 1, 10, "new");
    for (int i = 0; i < 20000 && count("MODIFIED") == 0; i++)
        read_piece();
    assert_int_equal(count("{\"type\":\"ADDED\""), 61); /* and kube-root-ca.crt */
    mark = strstr(got.p, "k8s.io/initial-events-end");
    change = strstr(got.p, "{\"type\":\"MODIFIED\"");
    assert_true(mark && change && mark < change);
    assert_int_equal(count("\"text\":\"new\""), 1);
}

static void lists_end_with_the_server(void **state)
{
    (void)state;
    put_all(CLIENT_CREATE, OBJECTS, FILLER, "old");
    ask(PATH, "application/json");
    ask(PATH "?labelSelector=app%3Dx", TABLE);
    ask(PATH "?watch=true", "application/json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lists_of_every_form, setup, teardown),
        cmocka_unit_test_setup_teardown(pretty_lists_look_like_the_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(selectors_and_pages_agree_with_the_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(selectors_of_every_kind_find_theirs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_shows_one_state_whatever_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(what_slow_lists_hold_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watch_begins_with_many_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_end_with_the_server, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
