#include "base/base_test.h"
#include "client/fake_client.h"
#include "client/recorder.h"

#include "base/alloc.h"
#include "base/cleanup.h"

struct world {
    struct loop *loop;
    struct client *client;
};

static void turns(struct world *w)
{
    while (loop_turn(w->loop, 0))
        ;
}

static int setup(void **state)
{
    struct world *w = NEW(struct world);

    w->loop = loop_new_fake();
    w->client = fake_client_new(w->loop);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    client_free(w->client);
    loop_free(w->loop);
    free(w);
    return 0;
}

static const struct json *pod(struct arena *a, const char *uid)
{
    return json_object(a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "Pod"),
                       "metadata",
                       json_object(a, "namespace", json_new_z(a, "x"), "name", json_new_z(a, "p"),
                                   "uid", json_new_z(a, uid), NULL),
                       NULL);
}

static void equal_events_are_counted(void **state)
{
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    struct recorder *r = recorder_new(w->client, "tester", NULL);
    const char *key;

    for (int i = 0; i < 3; i++)
        recorder_event(r, pod(&a, "1"), "Warning", "Bad", "it is %s", "bad");
    assert_int_equal(fake_count(w->client, "events"), 0);
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    key = fake_only(w->client, "events", &a);
    assert_non_null(key);
    assert_int_equal(json_i64_at(fake_get(w->client, "events", key, &a), "count", 0), 3);
    recorder_event(r, pod(&a, "1"), "Warning", "Bad", "it is %s", "bad");
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    assert_int_equal(json_i64_at(fake_get(w->client, "events", key, &a), "count", 0), 4);
    recorder_event(r, pod(&a, "2"), "Warning", "Bad", "it is %s", "bad");
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    assert_int_equal(fake_count(w->client, "events"), 2);
    loop_fake_advance(w->loop, SECONDS(700));
    recorder_event(r, pod(&a, "2"), "Warning", "Bad", "it is %s", "bad");
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    assert_int_equal(fake_count(w->client, "events"), 3);
    recorder_free(r);
}

static void an_event_that_expired_is_made_anew(void **state)
{
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    struct recorder *r = recorder_new(w->client, "tester", "n1");

    recorder_event(r, pod(&a, "1"), "Normal", "Good", "fine");
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    fake_delete(w->client, "events", fake_only(w->client, "events", &a));
    recorder_event(r, pod(&a, "1"), "Normal", "Good", "fine");
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    recorder_event(r, pod(&a, "1"), "Normal", "Good", "fine");
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    assert_int_equal(fake_count(w->client, "events"), 1);
    recorder_event(r, pod(&a, "1"), "Normal", "Good", "fine");
    recorder_free(r); /* with one waiting */
}

/* The agent outlives restarts of the API server, and what it has to say meanwhile must not be lost. */
static void events_wait_for_an_api_server_that_is_away(void **state)
{
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    struct recorder *r = recorder_new(w->client, "tester", "n1");
    const char *key;

    fake_fail(w->client, "events", CLIENT_CREATE, 3, ERROR_UNAVAILABLE, "connection refused");
    recorder_event(r, pod(&a, "1"), "Warning", "Bad", "broken");
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(w->loop, SECONDS(2));
        turns(w);
        recorder_event(r, pod(&a, "1"), "Warning", "Bad", "broken");
    }
    assert_int_equal(fake_count(w->client, "events"), 0);
    for (int i = 0; i < 2; i++) {
        loop_fake_advance(w->loop, SECONDS(2));
        turns(w);
    }
    key = fake_only(w->client, "events", &a);
    assert_non_null(key);
    assert_int_equal(json_i64_at(fake_get(w->client, "events", key, &a), "count", 0), 4);
    fake_fail(w->client, "events", CLIENT_PATCH_MERGE, 1, ERROR_TIMEOUT, "no answer");
    recorder_event(r, pod(&a, "1"), "Warning", "Bad", "broken");
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(w->loop, SECONDS(2));
        turns(w);
    }
    assert_int_equal(json_i64_at(fake_get(w->client, "events", key, &a), "count", 0), 5);
    recorder_free(r);
}

/* A write may have been done although its answer was lost. */
static void an_event_that_is_there_already_is_counted_on(void **state)
{
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    struct recorder *r = recorder_new(w->client, "tester", "n1");

    fake_fail(w->client, "events", CLIENT_CREATE, 1, ERROR_EXISTS, "already exists");
    recorder_event(r, pod(&a, "1"), "Normal", "Good", "fine");
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    assert_int_equal(fake_count(w->client, "events"), 0); /* nothing was written again */
    recorder_free(r);
}

/* What the server refuses is not said again and again. */
static void a_refused_event_is_given_up(void **state)
{
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    struct recorder *r = recorder_new(w->client, "tester", "n1");

    fake_fail(w->client, "events", CLIENT_CREATE, 1, ERROR_FORBIDDEN, "the namespace is going");
    recorder_event(r, pod(&a, "1"), "Normal", "Good", "fine");
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(w->loop, SECONDS(5));
        turns(w);
    }
    assert_int_equal(fake_count(w->client, "events"), 0);
    recorder_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_events_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(an_event_that_expired_is_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(events_wait_for_an_api_server_that_is_away, setup, teardown),
        cmocka_unit_test_setup_teardown(an_event_that_is_there_already_is_counted_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_event_is_given_up, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
