/* Watches over HTTP whose readers are slower than the server. */
#include "apiserver/testing.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#define OBJECTS 60
#define OURS    "\"metadata\":{\"name\":\"c-" /* the namespace gets a ConfigMap of its own in the meantime */
#define FILLER 100000 /* each: all of them are more than any reader's queue */
#define PATH "/api/v1/namespaces/default/configmaps"

static struct http_peer admin;
static int peer; /* the client's end of the connection */
static struct buf got;

static void handle(struct exchange *x, void *data)
{
    static char name[] = "admin", group[] = "system:masters", *groups[] = {group, NULL};

    (void)data;
    admin = (struct http_peer){.cert_cn = name, .cert_orgs = groups};
    x->peer = &admin;
    apiserver_handle(x, w.api);
}

static int setup(void **state)
{
    (void)state;
    peer = -1;
    return world_open(&(struct world_wants){.handle = handle});
}

static int setup_forgetful(void **state)
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

static void stored(void *user, const struct client_response *r)
{
    if (r->err->kind != ERROR_NONE)
        fail_msg("%s", error_text(r->err));
    --*(size_t *)user;
}

/* ConfigMaps c-<from> … */
static void put(enum client_verb verb, size_t from, size_t n)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO_FREE char *fill = xcalloc(1, FILLER + 1);
    size_t pending = 0;

    memset(fill, 'x', FILLER);
    for (size_t i = from; i < from + n; i++) {
        const char *name = arena_printf(&a, "c-%04zu", i);

        pending++;
        client_call(w.c,
                    &(struct client_request){.verb = verb, .group = "", .version = "v1", .plural = "configmaps", .ns = STR("default"),
                                             .name = verb == CLIENT_CREATE ? STR_NONE : str_of(name),
                                             .body = json_object(&a, "kind", json_new_z(&a, "ConfigMap"), "apiVersion", json_new_z(&a, "v1"),
                                                                 "metadata", json_object(&a, "name", json_new_z(&a, name), NULL), "data",
                                                                 json_object(&a, "fill", json_new_z(&a, fill), NULL), NULL)},
                    stored, &pending);
    }
    while (pending > 0)
        loop_turn(w.loop, SECONDS(5));
}

static void watch_from(int64_t revision)
{
    AUTO_FREE char *text = xasprintf("GET " PATH "?watch=1&resourceVersion=%lld HTTP/1.1\r\nHost: a\r\n\r\n", (long long)revision);

    buf_init(&got, 64u << 20);
    peer = world_connect();
    assert_int_equal(send(peer, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, 0);
}

static size_t count(const char *what)
{
    size_t n = 0;

    for (const char *at = got.n ? got.p : NULL; at && (at = strstr(at, what)); at++)
        n++;
    return n;
}

static bool read_until(const char *what, size_t n)
{
    for (int i = 0; i < 20000; i++) {
        char piece[65536];
        ssize_t r = recv(peer, piece, sizeof piece, 0);

        if (r == 0)
            return count(what) >= n;
        if (r > 0) {
            buf_add(&got, piece, (size_t)r);
            continue;
        }
        if (count(what) >= n)
            return true;
        loop_turn(w.loop, MILLIS(1));
    }
    return false;
}

/* What lies behind a watch's revision comes to its reader as that reads, however much it is. */
static void a_long_past_reaches_its_reader(void **state)
{
    int64_t before = store_revision(w.store);

    (void)state;
    put(CLIENT_CREATE, 0, OBJECTS);
    watch_from(before);
    put(CLIENT_CREATE, OBJECTS, 1); /* while the first ones are on their way */
    assert_true(read_until(OURS, OBJECTS + 1));
    put(CLIENT_CREATE, OBJECTS + 1, 1);
    assert_true(read_until(OURS, OBJECTS + 2));
    for (size_t i = 0; i < OBJECTS + 2; i++) {
        AUTO_FREE char *name = xasprintf("\"name\":\"c-%04zu\"", i);

        assert_int_equal(count(name), 1);
    }
}

/* History does not wait for a reader that falls behind: it is told that it has missed something, in place of being sent what is newer. */
static void a_reader_that_is_left_behind_is_told(void **state)
{
    (void)state;
    watch_from(store_revision(w.store));
    put(CLIENT_CREATE, 0, OBJECTS);
    assert_true(read_until("\"code\":410", 1));
    assert_in_range(count(OURS), 1, OBJECTS - 1);
    for (size_t i = 0; i < count(OURS); i++) {
        AUTO_FREE char *name = xasprintf("\"name\":\"c-%04zu\"", i);

        assert_int_equal(count(name), 1); /* without a gap */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_long_past_reaches_its_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_that_is_left_behind_is_told, setup_forgetful, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
