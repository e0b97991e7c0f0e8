#include "base/base_test.h"
#include "client/fake_client.h"
#include "client/informer.h"

#include <malloc.h>
#include <stdio.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"

struct world {
    struct loop *loop;
    struct client *client;
    struct informer *informer;
    char trace[1024];
};

static void changed(void *user, struct str key, const struct json *object, bool deleted)
{
    struct world *w = user;
    size_t n = strlen(w->trace);

    snprintf(w->trace + n, sizeof w->trace - n, "%c" STR_FMT "=" STR_FMT " ", deleted ? '-' : '+',
             STR_ARG(key), STR_ARG(json_str_at(object, "data/v")));
}

static void synced(void *user)
{
    struct world *w = user;
    size_t n = strlen(w->trace);

    snprintf(w->trace + n, sizeof w->trace - n, "synced ");
}

static size_t index_of(const struct json *o, struct str ret[4])
{
    ret[0] = json_str_at(o, "data/v");
    return ret[0].p ? 1 : 0;
}

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

    informer_free(w->informer);
    client_free(w->client);
    loop_free(w->loop);
    free(w);
    return 0;
}

static void start(struct world *w)
{
    w->informer = informer_new(&(struct informer_config){.client = w->client,
                                                         .group = "",
                                                         .version = "v1",
                                                         .plural = "configmaps",
                                                         .changed = changed,
                                                         .synced = synced,
                                                         .user = w,
                                                         .index = index_of});
}

#define A "{\"metadata\":{\"namespace\":\"x\",\"name\":\"a\"},\"data\":{\"v\":\"1\"}}"
#define B "{\"metadata\":{\"namespace\":\"x\",\"name\":\"b\"},\"data\":{\"v\":\"2\"}}"

static void lists_then_follows(void **state)
{
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};

    fake_create(w->client, "configmaps", A);
    start(w);
    assert_false(informer_synced(w->informer));
    turns(w);
    assert_string_equal(w->trace, "+x/a=1 synced ");
    fake_create(w->client, "configmaps", B);
    fake_merge(w->client, "configmaps", "x/a", "{\"data\":{\"v\":\"3\"}}");
    fake_delete(w->client, "configmaps", "x/b");
    turns(w);
    assert_string_equal(w->trace, "+x/a=1 synced +x/b=2 +x/a=3 -x/b=2 ");
    assert_int_equal(informer_count(w->informer), 1);
    assert_string_equal(
        arena_strdup(&a, json_str_at(informer_get(w->informer, STR("x/a"), &a), "data/v")), "3");
    assert_null(informer_get(w->informer, STR("x/b"), &a));
    assert_int_equal(informer_revision_of(w->informer, STR("x/a")), 3);
    assert_int_equal(informer_revision(w->informer), 4);
}

static void the_oldest_is_the_same_in_whatever_order_they_came(void **state)
{
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};

    fake_create(w->client, "configmaps", B);
    loop_fake_jump(w->loop, SECONDS(5));
    fake_create(w->client, "configmaps", A);
    start(w);
    assert_null(informer_oldest(w->informer, &a));
    turns(w);
    assert_string_equal(meta_key(informer_oldest(w->informer, &a), &a), "x/b");
    fake_merge(w->client, "configmaps", "x/b", "{\"data\":{\"v\":\"4\"}}");
    turns(w);
    assert_string_equal(meta_key(informer_oldest(w->informer, &a), &a), "x/b");
    fake_delete(w->client, "configmaps", "x/b");
    turns(w);
    assert_string_equal(meta_key(informer_oldest(w->informer, &a), &a), "x/a");
}

static void a_closed_watch_is_resumed(void **state)
{
    struct world *w = *state;

    fake_create(w->client, "configmaps", A);
    start(w);
    turns(w);
    fake_break_watches(w->client, ERROR_NONE);
    turns(w);
    fake_create(w->client, "configmaps", B);
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    assert_string_equal(w->trace, "+x/a=1 synced +x/b=2 ");
}

static void gone_means_list_again(void **state)
{
    struct world *w = *state;

    fake_create(w->client, "configmaps", A);
    fake_create(w->client, "configmaps", B);
    start(w);
    turns(w);
    w->trace[0] = '\0';
    fake_break_watches(w->client, ERROR_GONE);
    fake_delete(w->client, "configmaps", "x/b"); /* told to nobody */
    fake_fail(w->client, "configmaps", CLIENT_LIST, 2, ERROR_UNAVAILABLE, "starting");
    for (int i = 0; i < 8; i++) {
        turns(w);
        loop_fake_advance(w->loop, SECONDS(1));
    }
    turns(w);
    assert_string_equal(w->trace, "-x/b=2 ");
}

/* What a server says may never make us list in a circle: a list that goes well before a watch that does not is no success. */
static void watches_that_fail_at_once_are_no_storm(void **state)
{
    static const enum error_kind kinds[] = {ERROR_UNAVAILABLE, ERROR_NONE, ERROR_GONE, ERROR_INTERNAL, ERROR_BAD_REQUEST};
    struct world *w = *state;

    fake_create(w->client, "configmaps", A);
    start(w);
    turns(w);
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        size_t before = fake_lists(w->client, "configmaps");

        for (int ms = 0; ms < 300000; ms += 50) {
            fake_break_watches(w->client, kinds[k]);
            turns(w);
            loop_fake_advance(w->loop, MILLIS(50));
        }
        before = fake_lists(w->client, "configmaps") - before;
        assert_in_range(before, kinds[k] == ERROR_GONE ? 5 : 0, kinds[k] == ERROR_GONE ? 25 : 6);
        if (kinds[k] == ERROR_UNAVAILABLE || kinds[k] == ERROR_NONE)
            assert_int_equal(before, 0);
    }
    fake_merge(w->client, "configmaps", "x/a", "{\"data\":{\"v\":\"7\"}}");
    loop_fake_advance(w->loop, SECONDS(45));
    turns(w);
    assert_string_equal(w->trace, "+x/a=1 synced +x/a=7 ");
}

static void a_410_is_one_list(void **state)
{
    struct world *w = *state;

    fake_create(w->client, "configmaps", A);
    start(w);
    turns(w);
    for (int i = 1; i <= 3; i++) {
        loop_fake_advance(w->loop, SECONDS(60)); /* it has worked for a while */
        fake_break_watches(w->client, ERROR_GONE);
        turns(w);
        loop_fake_advance(w->loop, SECONDS(1));
        turns(w);
        assert_int_equal(fake_lists(w->client, "configmaps"), 1 + i);
    }
}

static void a_list_too_large_for_one_answer_comes_in_smaller_pages(void **state)
{
    struct world *w = *state;

    fake_create(w->client, "configmaps", A);
    fake_fail(w->client, "configmaps", CLIENT_LIST, 3, ERROR_TOO_LARGE, "response too large");
    start(w);
    for (int i = 0; i < 10; i++) {
        turns(w);
        loop_fake_advance(w->loop, SECONDS(1));
    }
    assert_string_equal(w->trace, "+x/a=1 synced ");
    assert_string_equal(fake_last_list(w->client), "limit=12"); /* 100, 50, 25 */
}

static void a_silent_watch_is_asked_for_anew(void **state)
{
    struct world *w = *state;

    fake_create(w->client, "configmaps", A);
    start(w);
    turns(w);
    loop_fake_advance(w->loop, SECONDS(20));
    fake_deafen_watches(w->client);
    fake_create(w->client, "configmaps", B);
    loop_fake_advance(w->loop, SECONDS(20));
    turns(w);
    assert_string_equal(w->trace, "+x/a=1 synced ");
    informer_doubt(w->informer);
    informer_doubt(w->informer);
    loop_fake_advance(w->loop, SECONDS(1));
    turns(w);
    assert_string_equal(w->trace, "+x/a=1 synced +x/b=2 ");
    assert_int_equal(fake_lists(w->client, "configmaps"), 1);
}

static bool collect(void *user, struct str key)
{
    struct buf *b = user;

    buf_addf(b, STR_FMT " ", STR_ARG(key));
    return true;
}

static void index_follows_changes(void **state)
{
    struct world *w = *state;
    AUTO(buf_done) struct buf b = {0};

    fake_create(w->client, "configmaps", A);
    start(w);
    turns(w);
    informer_by_index(w->informer, STR("1"), collect, &b);
    assert_string_equal(b.p, "x/a ");
    fake_merge(w->client, "configmaps", "x/a", "{\"data\":{\"v\":\"9\"}}");
    turns(w);
    buf_clear(&b);
    informer_by_index(w->informer, STR("1"), collect, &b);
    assert_int_equal(b.n, 0);
    informer_by_index(w->informer, STR("9"), collect, &b);
    assert_string_equal(b.p, "x/a ");
    fake_delete(w->client, "configmaps", "x/a");
    turns(w);
    buf_clear(&b);
    informer_by_index(w->informer, STR("9"), collect, &b);
    assert_int_equal(b.n, 0);
}

static size_t places(struct world *w, const char *value)
{
    AUTO(buf_done) struct buf b = {0};
    size_t n = 0;

    informer_by_index(w->informer, str_of(value), collect, &b);
    for (size_t i = 0; i < b.n; i++)
        n += b.p[i] == ' ';
    return n;
}

static void many_objects_may_share_an_index_value(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 5; i++) {
        char object[200];

        snprintf(object, sizeof object, "{\"metadata\":{\"namespace\":\"x\",\"name\":\"o%d\"},\"data\":{\"v\":\"1\"}}", i);
        fake_create(w->client, "configmaps", object);
    }
    start(w);
    turns(w);
    assert_int_equal(places(w, "1"), 5);
    for (int i = 0; i < 5; i++) { /* the first, the last, and those between */
        static const int order[] = {0, 4, 2, 1, 3};
        char key[8];

        snprintf(key, sizeof key, "x/o%d", order[i]);
        fake_merge(w->client, "configmaps", key, "{\"data\":{\"v\":\"2\"}}");
        turns(w);
        assert_int_equal(places(w, "1"), 4 - i);
        assert_int_equal(places(w, "2"), i + 1);
    }
}

/* An object as a cluster has it; `others`: with what is there for others, which is not kept. */
static const struct json *like(struct arena *a, int i, bool others)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *o;
    const char *text = arena_printf(
        a,
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"virt-launcher-%d\",\"annotations\":{%s\"kubevirt.io/domain\":\"vm-%d\"}%s},"
        "\"spec\":{\"containers\":[{\"name\":\"compute\",\"image\":\"docker.io/vireo/launcher:latest\",\"securityContext\":{"
        "\"allowPrivilegeEscalation\":false,\"capabilities\":{\"drop\":[\"ALL\"]}},\"volumeMounts\":[{\"name\":\"private\",\"mountPath\":"
        "\"/var/run/kubevirt-private\"},{\"name\":\"sockets\",\"mountPath\":\"/var/run/kubevirt/sockets\"}]}],\"nodeName\":\"node-%d\"},"
        "\"status\":{\"phase\":\"%s\",\"podIP\":\"10.0.%d.%d\"}}",
        i, others ? "\"kubectl.kubernetes.io/last-applied-configuration\":\"{}\"," : "", i,
        others ? ",\"managedFields\":[{\"manager\":\"kubelet\"}]" : "", i % 20, i < 300 ? "Pending" : "Running", i / 256, i % 256);

    if (!json_parse(str_of(text), a, &o, &err))
        fail_msg("%s", error_text(&err));
    return o;
}

static void kept_objects_come_back_as_they_were(void **state)
{
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf long_text = {0};
    struct keeper *keeper = keeper_new(w->client, "", "v1", "configmaps");

    for (int i = 0; i < 300; i++)
        buf_addf(&long_text, "line %d\n", i * 7919);
    for (size_t n = 0; n <= long_text.n; n += 97) {
        const struct json *v = json_object(&a, "text", json_new_str(&a, str_n(long_text.p, n)), NULL);
        struct client_kept k = keeper_keep(keeper, v);

        assert_true(json_eq(client_kept_json(&k, &a), v));
        client_kept_done(&k);
    }
    keeper_free(keeper);
}

/* A dictionary grows old, and what was kept by it is still read; the keeper may be gone by then. */
static void many_alike_are_kept_in_few_bytes(void **state)
{
    enum { N = 600 };
    struct world *w = *state;
    struct keeper *keeper = keeper_new(w->client, "", "v1", "configmaps");
    struct client_kept kept[N];
    size_t before = mallinfo2().uordblks;

    for (int i = 0; i < N; i++) {
        AUTO(arena_done) struct arena a = {0};

        kept[i] = keeper_keep(keeper, like(&a, i, true));
    }
    keeper_free(keeper);
    if (before > 0) /* an allocator that tells */
        assert_in_range(mallinfo2().uordblks - before, 0, (size_t)N * 500 + 700000);
    for (int i = 0; i < N; i++) {
        AUTO(arena_done) struct arena a = {0};

        assert_true(json_eq(client_kept_json(&kept[i], &a), like(&a, i, false)));
        client_kept_done(&kept[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lists_then_follows, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_is_the_same_in_whatever_order_they_came, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closed_watch_is_resumed, setup, teardown),
        cmocka_unit_test_setup_teardown(gone_means_list_again, setup, teardown),
        cmocka_unit_test_setup_teardown(index_follows_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(many_objects_may_share_an_index_value, setup, teardown),
        cmocka_unit_test_setup_teardown(watches_that_fail_at_once_are_no_storm, setup, teardown),
        cmocka_unit_test_setup_teardown(a_410_is_one_list, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_too_large_for_one_answer_comes_in_smaller_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_watch_is_asked_for_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(many_alike_are_kept_in_few_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(kept_objects_come_back_as_they_were, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
