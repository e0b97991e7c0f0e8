#include "base/base_test.h"
#include "client/fake_client.h"
#include "cmd/platform.h"

#include <stdio.h>

#include "api/meta.h"
#include "base/cleanup.h"
#include "base/ident.h"

struct world {
    struct loop *loop;
    struct client *client;
    struct platform *platform;
};
static struct world w;

static void turns(void)
{
    while (loop_turn(w.loop, 0))
        ;
}

static int setup(void **state)
{
    (void)state;
    w = (struct world){.loop = loop_new_fake()};
    w.client = fake_client_new(w.loop);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    platform_free(w.platform);
    client_free(w.client);
    loop_free(w.loop);
    return 0;
}

static void beat(bool first)
{
    char text[512], now[TIME_TEXT_LEN + 1];

    ident_time(loop_unix_ns(w.loop), false, now);
    snprintf(text, sizeof text,
             "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n\",\"annotations\":{\"kubevirt.io/heartbeat\":\"%s\"}},"
             "\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}",
             now);
    if (first)
        fake_create(w.client, "nodes", text);
    else
        fake_merge(w.client, "nodes", "n", text);
    turns();
}

static void expect(const char *key, const char *phase, const char *available, const char *degraded)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *kubevirt = fake_get(w.client, "kubevirts", key, &a);

    assert_non_null(kubevirt);
    assert_true(str_is(json_str_at(kubevirt, "status/phase"), phase));
    assert_true(condition_is(kubevirt, "Available", available));
    assert_true(condition_is(kubevirt, "Degraded", degraded));
    assert_true(condition_is(kubevirt, "Created", "True"));
}

static void available_while_an_agent_is_heard_of(void **state)
{
    size_t writes;

    (void)state;
    w.platform = platform_new(w.client);
    turns();
    expect("kubevirt/kubevirt", "Deploying", "False", "False");
    beat(true);
    expect("kubevirt/kubevirt", "Deployed", "True", "False");
    writes = fake_writes(w.client, "kubevirts");
    for (int i = 0; i < 10; i++) {
        loop_fake_advance(w.loop, SECONDS(60));
        turns();
        beat(false);
    }
    assert_int_equal(fake_writes(w.client, "kubevirts"), writes); /* what does not change is not written */
    loop_fake_advance(w.loop, SECONDS(151));
    turns();
    expect("kubevirt/kubevirt", "Deployed", "False", "True");
    beat(false);
    expect("kubevirt/kubevirt", "Deployed", "True", "False");
    fake_remove(w.client, "nodes", "n");
    turns();
    expect("kubevirt/kubevirt", "Deployed", "False", "True");
}

static void a_failed_write_is_tried_again(void **state)
{
    (void)state;
    fake_fail(w.client, "namespaces", CLIENT_CREATE, 1, ERROR_UNAVAILABLE, "no");
    fake_fail(w.client, "kubevirts", CLIENT_PATCH_MERGE, 1, ERROR_INTERNAL, "no");
    w.platform = platform_new(w.client);
    turns();
    for (int i = 0; i < 3; i++) {
        loop_fake_advance(w.loop, SECONDS(2));
        turns();
    }
    expect("kubevirt/kubevirt", "Deploying", "False", "False");
}

static void the_users_own_object_is_honoured(void **state)
{
    (void)state;
    fake_create(w.client, "kubevirts",
                "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"KubeVirt\",\"metadata\":{\"name\":\"mine\",\"namespace\":\"x\"}}");
    fake_fail(w.client, "kubevirts", CLIENT_CREATE, 1, ERROR_FORBIDDEN, "there is one");
    w.platform = platform_new(w.client);
    turns();
    beat(true);
    expect("x/mine", "Deployed", "True", "False");
    assert_int_equal(fake_count(w.client, "kubevirts"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(available_while_an_agent_is_heard_of, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(the_users_own_object_is_honoured, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
