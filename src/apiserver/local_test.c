#include "apiserver/table.h"
#include "apiserver/testing.h"
#include "base/ident.h"

static char events[4096]; /* of the watch */

static void event(void *user, enum client_event_type type, const struct json *object)
{
    static const char *const names[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"};
    size_t n = strlen(events);

    (void)user;
    snprintf(events + n, sizeof events - n, "%s " STR_FMT "\n", names[type],
             STR_ARG(meta_name(object)));
}

static void ended(void *user, const struct error *err)
{
    (void)err;
    *(int *)user += 1;
}

#define CM "configmaps"

static void objects_live_and_die(void **state)
{
    (void)state;
    assert_int_equal(call(CLIENT_CREATE, "", CM, NULL, NULL,
                          "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"v\"}}"),
                     201);
    assert_true(ident_is_uuid(meta_uid(w.body)));
    assert_int_equal(call(CLIENT_CREATE, "", CM, NULL, NULL, "{\"metadata\":{\"name\":\"a\"}}"),
                     409);
    assert_int_equal(w.kind, ERROR_EXISTS);
    assert_int_equal(
        call(CLIENT_PATCH_MERGE, "", CM, "a", NULL, "{\"data\":{\"k\":null,\"l\":\"w\"}}"), 200);
    assert_true(str_is(json_str_at(w.body, "data/l"), "w"));
    assert_int_equal(call(CLIENT_UPDATE, "", CM, "a", NULL,
                          "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\"}}"),
                     409);
    assert_int_equal(w.kind, ERROR_CONFLICT);
    assert_int_equal(call(CLIENT_DELETE, "", CM, "a", NULL, NULL), 200);
    assert_int_equal(call(CLIENT_GET, "", CM, "a", NULL, NULL), 404);
    assert_int_equal(w.kind, ERROR_NOT_FOUND);
    assert_int_equal(call(CLIENT_GET, "", "nonesuch", "a", NULL, NULL), 404);
}

static void watch_by_label_sees_what_leaves(void **state)
{
    int ends = 0;
    struct client_watch_request q = {.group = "",
                                     .version = "v1",
                                     .plural = CM,
                                     .ns = STR("default"),
                                     .label_selector = STR("w=y"),
                                     .event = event,
                                     .ended = ended,
                                     .user = &ends};
    struct client_watch *watch;

    (void)state;
    call(CLIENT_CREATE, "", CM, NULL, NULL,
         "{\"metadata\":{\"name\":\"old\",\"labels\":{\"w\":\"y\"}}}");
    events[0] = '\0';
    watch = client_watch(w.c, &q);
    assert_string_equal(events, "");
    call(CLIENT_CREATE, "", CM, NULL, NULL,
         "{\"metadata\":{\"name\":\"b\",\"labels\":{\"w\":\"y\"}}}");
    call(CLIENT_CREATE, "", CM, NULL, NULL, "{\"metadata\":{\"name\":\"c\"}}");
    call(CLIENT_PATCH_MERGE, "", CM, "b", NULL, "{\"data\":{\"k\":\"v\"}}");
    call(CLIENT_PATCH_MERGE, "", CM, "b", NULL, "{\"metadata\":{\"labels\":{\"w\":\"n\"}}}");
    call(CLIENT_DELETE, "", CM, "b", NULL, NULL);
    call(CLIENT_DELETE, "", CM, "old", NULL, NULL);
    settle(MILLIS(50));
    assert_string_equal(events, "ADDED old\nADDED b\nMODIFIED b\nDELETED b\nDELETED old\n");
    client_watch_stop(w.c, watch);
    settle(MILLIS(20));
    assert_int_equal(ends, 0);
}

static void dependents_go_with_their_owner(void **state)
{
    AUTO_FREE char *body = NULL, *uid = NULL;

    (void)state;
    call(CLIENT_CREATE, "", CM, NULL, NULL, "{\"metadata\":{\"name\":\"owner\"}}");
    uid = str_dup(meta_uid(w.body));
    body = xasprintf("{\"metadata\":{\"name\":\"dep\",\"ownerReferences\":[{\"apiVersion\":\"v1\","
                     "\"kind\":\"ConfigMap\","
                     "\"name\":\"owner\",\"uid\":\"%s\",\"blockOwnerDeletion\":true}]}}",
                     uid);
    assert_int_equal(call(CLIENT_CREATE, "", CM, NULL, NULL, body), 201);
    settle(MILLIS(50));
    assert_int_equal(call(CLIENT_GET, "", CM, "dep", NULL, NULL), 200);
    assert_int_equal(
        call(CLIENT_DELETE, "", CM, "owner", NULL, "{\"propagationPolicy\":\"Foreground\"}"), 200);
    settle(MILLIS(200));
    assert_int_equal(call(CLIENT_GET, "", CM, "dep", NULL, NULL), 404);
    assert_int_equal(call(CLIENT_GET, "", CM, "owner", NULL, NULL), 404);
}

static void orphans_stay(void **state)
{
    AUTO_FREE char *body = NULL, *uid = NULL;

    (void)state;
    call(CLIENT_CREATE, "", CM, NULL, NULL, "{\"metadata\":{\"name\":\"owner\"}}");
    uid = str_dup(meta_uid(w.body));
    body = xasprintf("{\"metadata\":{\"name\":\"dep\",\"ownerReferences\":[{\"apiVersion\":\"v1\","
                     "\"kind\":\"ConfigMap\","
                     "\"name\":\"owner\",\"uid\":\"%s\"}]}}",
                     uid);
    call(CLIENT_CREATE, "", CM, NULL, NULL, body);
    settle(MILLIS(50));
    call(CLIENT_DELETE, "", CM, "owner", NULL, "{\"propagationPolicy\":\"Orphan\"}");
    settle(MILLIS(200));
    assert_int_equal(call(CLIENT_GET, "", CM, "owner", NULL, NULL), 404);
    assert_int_equal(call(CLIENT_GET, "", CM, "dep", NULL, NULL), 200);
    assert_null(json_at(w.body, "metadata/ownerReferences"));
}

static void pods_are_bound_and_go_with_grace(void **state)
{
    (void)state;
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL,
                          "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":"
                          "\"c\",\"image\":\"i\"}]}}"),
                     201);
    assert_true(str_is(json_str_at(w.body, "status/phase"), "Pending"));
    assert_int_equal(call(CLIENT_CREATE, "", "pods", "p", "binding",
                          "{\"target\":{\"kind\":\"Node\",\"name\":\"n1\"}}"),
                     201);
    assert_int_equal(call(CLIENT_CREATE, "", "pods", "p", "binding",
                          "{\"target\":{\"kind\":\"Node\",\"name\":\"n2\"}}"),
                     409);
    assert_int_equal(call(CLIENT_PATCH_STRATEGIC, "", "pods", "p", "status",
                          "{\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\","
                          "\"status\":\"True\"}]}}"),
                     200);
    assert_true(str_is(json_str_at(w.body, "spec/nodeName"), "n1"));
    assert_int_equal(json_len(json_at(w.body, "status/conditions")), 2);
    assert_int_equal(call(CLIENT_DELETE, "", "pods", "p", NULL, NULL), 200);
    assert_int_equal(json_i64_at(w.body, "metadata/deletionGracePeriodSeconds", -1), 30);
    assert_int_equal(call(CLIENT_GET, "", "pods", "p", NULL, NULL), 200);
    assert_int_equal(call(CLIENT_DELETE, "", "pods", "p", NULL, "{\"gracePeriodSeconds\":0}"), 200);
    assert_int_equal(call(CLIENT_GET, "", "pods", "p", NULL, NULL), 404);
}

static void namespaces_empty_themselves(void **state)
{
    struct client_request q = {
        .verb = CLIENT_CREATE, .group = "", .version = "v1", .plural = CM, .ns = STR("team")};
    struct error err = {0};

    (void)state;
    call(CLIENT_CREATE, "", "namespaces", NULL, NULL, "{\"metadata\":{\"name\":\"team\"}}");
    settle(MILLIS(50));
    assert_true(json_parse(STR("{\"metadata\":{\"name\":\"x\"}}"), &w.arena, &q.body, &err));
    client_call(w.c, &q, world_answered, NULL);
    settle(MILLIS(50));
    assert_int_equal(w.status, 201);
    assert_int_equal(call(CLIENT_DELETE, "", "namespaces", "team", NULL, NULL), 200);
    assert_true(str_is(json_str_at(w.body, "status/phase"), "Terminating"));
    assert_true(json_parse(STR("{\"metadata\":{\"name\":\"y\"}}"), &w.arena, &q.body, &err));
    client_call(w.c, &q, world_answered, NULL);
    settle(MILLIS(20));
    assert_int_equal(w.status, 403);
    settle(MILLIS(600));
    assert_int_equal(call(CLIENT_GET, "", "namespaces", "team", NULL, NULL), 404);
    assert_int_equal(call(CLIENT_DELETE, "", "namespaces", "default", NULL, NULL), 403);
}

static void never(void *user, const struct client_response *r)
{
    (void)user;
    fail_msg("a call that was cancelled is answered: %d", r->status);
}

static void cancelled_calls_do_not_answer(void **state)
{
    struct client_request q = {
        .verb = CLIENT_CREATE, .group = "", .version = "v1", .plural = CM, .ns = STR("default")};
    struct error err = {0};

    (void)state;
    assert_true(json_parse(STR("{\"metadata\":{\"name\":\"x\"}}"), &w.arena, &q.body, &err));
    client_cancel(w.c, client_call(w.c, &q, never, NULL));
    settle(MILLIS(50));
    for (int i = 0; i < 100 && call(CLIENT_GET, "", CM, "x", NULL, NULL) != 200; i++)
        settle(MILLIS(50)); /* a busy disk takes its time */
    assert_int_equal(w.status, 200);
}

/* The key would end at the NUL, and so name another object than the one that was asked for. */
static void a_name_with_a_nul_in_it_is_refused(void **state)
{
    (void)state;
    assert_int_equal(
        call(CLIENT_CREATE, "", "configmaps", "", NULL,
             "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\\u0000b\"}}"),
        422);
    assert_int_equal(call(CLIENT_GET, "", "configmaps", "a", NULL, NULL), 404);
}

static void what_is_kept_is_the_stores_own(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct store_object *o;
    struct client_kept kept, old;
    struct keeper *keeper = keeper_new(w.c, "", "v1", CM);
    const struct json *first;

    (void)state;
    assert_int_equal(call(CLIENT_CREATE, "", CM, "", NULL, "{\"metadata\":{\"name\":\"k\"},\"data\":{\"a\":\"1\"}}"), 201);
    first = json_copy(&a, w.body);
    kept = keeper_keep(keeper, first);
    o = store_get(w.store, STR("/registry/core/configmaps/default/k"));
    assert_ptr_equal(kept.p, o);
    store_object_unref(o);
    assert_int_equal(call(CLIENT_PATCH_MERGE, "", CM, "k", NULL, "{\"data\":{\"a\":\"2\"}}"), 200);
    old = keeper_keep(keeper, first); /* of a past that the store has left */
    assert_ptr_not_equal(old.p, o);
    assert_true(str_is(json_str_at(client_kept_json(&kept, &a), "data/a"), "1"));
    assert_true(json_eq(json_get(client_kept_json(&kept, &a), "data"), json_get(client_kept_json(&old, &a), "data")));
    assert_null(json_at(client_kept_json(&old, &a), "metadata/managedFields")); /* a text of our own has no room for them */
    keeper_free(keeper);
    client_kept_done(&kept);
    client_kept_done(&old);
}

static void a_namespace_gets_what_it_lacks_at_the_start(void **state)
{
    (void)state;
    assert_int_equal(call(CLIENT_DELETE, "", "serviceaccounts", "default", NULL, NULL), 200);
    client_free(w.c);
    apiserver_free(w.api);
    world_open_api(&(struct world_wants){0});
    settle(MILLIS(100));
    assert_int_equal(call(CLIENT_GET, "", "serviceaccounts", "default", NULL, NULL), 200);
}

static void ages_read_as_kubectl_writes_them(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {
        {0, "0s"},       {119, "119s"},    {120, "2m"},      {125, "2m5s"},    {600, "10m"},
        {10799, "179m"}, {10800, "3h"},    {11700, "3h15m"}, {28800, "8h"},    {172799, "47h"},
        {172800, "2d"},  {176400, "2d1h"}, {691200, "8d"},   {63072000, "2y"}, {64000000, "2y10d"},
    };
    char text[32];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        age_text(SECONDS(cases[i].seconds), text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(objects_live_and_die, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(watch_by_label_sees_what_leaves, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(dependents_go_with_their_owner, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(orphans_stay, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(pods_are_bound_and_go_with_grace, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(namespaces_empty_themselves, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(cancelled_calls_do_not_answer, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(a_name_with_a_nul_in_it_is_refused, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(what_is_kept_is_the_stores_own, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(a_namespace_gets_what_it_lacks_at_the_start, world_setup, world_teardown),
        cmocka_unit_test(ages_read_as_kubectl_writes_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
