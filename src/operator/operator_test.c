/* The operator on an API server in memory; the test plays kubelets and the aggregator. */
#include "base/base_test.h"
#include "client/fake_client.h"
#include "operator/operator.h"

#include <stdio.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"

struct world {
    struct loop *loop;
    struct client *client;
    struct operator* operator;
    struct arena a;
};

#define ENV(v)                                                                                                                 \
    (struct install_env)                                                                                                       \
    {                                                                                                                          \
        .ns = "kubevirt", .image = "r.example/vireo:" v, .launcher_image = "r.example/launcher:" v, .version = v,              \
        .webhook = true                                                                                                        \
    }

static void turns(struct world *w)
{
    while (loop_turn(w->loop, 0))
        ;
}

static void pass(struct world *w, int64_t ns)
{
    int64_t step = ns > SECONDS(20) ? SECONDS(5) : MILLIS(200); /* long is what only waits */

    for (int64_t left = ns; left > 0; left -= step) {
        loop_fake_advance(w->loop, step);
        turns(w);
    }
}

static void start(struct world *w, struct install_env env)
{
    operator_free(w->operator);
    w->operator= operator_new(&(struct operator_config){.client = w->client, .env = env});
    operator_start(w->operator);
    pass(w, SECONDS(3));
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

    operator_free(w->operator);
    client_free(w->client);
    loop_free(w->loop);
    arena_done(&w->a);
    free(w);
    return 0;
}

static void add_kubevirt(struct world *w, const char *ns, const char *name, const char *spec)
{
    fake_create(
        w->client, "kubevirts",
        arena_printf(
            &w->a,
            "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"KubeVirt\",\"metadata\":{\"namespace\":\"%s\",\"name\":\"%s\"},"
            "\"spec\":%s}",
            ns, name, spec));
}

static const struct json *kubevirt(struct world *w)
{
    return fake_get(w->client, "kubevirts", "kubevirt/kubevirt", &w->a);
}

static const char *message(struct world *w, const char *type)
{
    return arena_strdup(&w->a, json_str_at(condition_find(kubevirt(w), type), "message"));
}

static bool there(struct world *w, const char *plural, const char *key)
{
    return fake_get(w->client, plural, key, &w->a) != NULL;
}

static void assert_text_at(struct world *w, const char *plural, const char *key, const char *path, const char *want)
{
    assert_string_equal(arena_strdup(&w->a, json_str_at(fake_get(w->client, plural, key, &w->a), path)), want);
}

/* The cluster does its part: definitions are established, processes run, what is asked answers. */
static void ready_crds(struct world *w)
{
    static const char *const names[] = {"virtualmachines.kubevirt.io", "virtualmachineinstances.kubevirt.io"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        fake_merge(w->client, "customresourcedefinitions", names[i],
                   "{\"status\":{\"conditions\":[{\"type\":\"Established\",\"status\":\"True\"}]}}");
    pass(w, SECONDS(3));
}

static void ready_deployment(struct world *w, const char *key)
{
    const struct json *o = fake_get(w->client, "deployments", key, &w->a);
    long long n = (long long)json_i64_at(o, "spec/replicas", 1), generation = (long long)meta_generation(o);

    fake_merge(w->client, "deployments", key,
               arena_printf(&w->a,
                            "{\"status\":{\"observedGeneration\":%lld,\"replicas\":%lld,\"updatedReplicas\":%lld,"
                            "\"availableReplicas\":%lld}}",
                            generation, n, n, n));
    pass(w, SECONDS(3));
}

static void ready_agents(struct world *w)
{
    long long generation = (long long)meta_generation(fake_get(w->client, "daemonsets", "kubevirt/virt-handler", &w->a));

    fake_merge(
        w->client, "daemonsets", "kubevirt/virt-handler",
        arena_printf(&w->a,
                     "{\"status\":{\"observedGeneration\":%lld,\"desiredNumberScheduled\":3,\"updatedNumberScheduled\":3,"
                     "\"numberAvailable\":3}}",
                     generation));
    pass(w, SECONDS(3));
}

static void ready_api_services(struct world *w)
{
    static const char *const names[] = {"v1.subresources.kubevirt.io", "v1alpha3.subresources.kubevirt.io"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        fake_merge(w->client, "apiservices", names[i],
                   "{\"status\":{\"conditions\":[{\"type\":\"Available\",\"status\":\"True\"}]}}");
    pass(w, SECONDS(3));
}

static void install_all(struct world *w)
{
    add_kubevirt(w, "kubevirt", "kubevirt", "{}");
    start(w, ENV("1.0.0"));
    ready_crds(w);
    ready_deployment(w, "kubevirt/virt-api");
    ready_api_services(w);
    ready_deployment(w, "kubevirt/virt-controller");
    ready_agents(w);
    assert_true(str_is(json_str_at(kubevirt(w), "status/phase"), "Deployed"));
}

static void step_by_step_to_deployed(void **state)
{
    struct world *w = *state;

    add_kubevirt(w, "kubevirt", "kubevirt", "{}");
    start(w, ENV("1.0.0"));
    assert_true(there(w, "customresourcedefinitions", "virtualmachines.kubevirt.io"));
    assert_false(there(w, "customresourcedefinitions", "kubevirts.kubevirt.io"));
    assert_int_equal(fake_count(w->client, "deployments") + fake_count(w->client, "secrets"), 0);
    assert_true(str_is(json_str_at(kubevirt(w), "status/phase"), "Deploying"));
    assert_true(meta_has_finalizer(kubevirt(w), "foregroundDeleteKubeVirt"));
    ready_crds(w);
    assert_true(there(w, "deployments", "kubevirt/virt-api") && there(w, "secrets", "kubevirt/kubevirt-ca"));
    assert_false(there(w, "deployments", "kubevirt/virt-controller")
                 || there(w, "mutatingwebhookconfigurations", "virt-api-mutator"));
    ready_deployment(w, "kubevirt/virt-api");
    assert_true(there(w, "mutatingwebhookconfigurations", "virt-api-mutator"));
    assert_false(there(w, "daemonsets", "kubevirt/virt-handler"));
    ready_api_services(w);
    assert_true(there(w, "daemonsets", "kubevirt/virt-handler") && there(w, "deployments", "kubevirt/virt-controller"));
    ready_deployment(w, "kubevirt/virt-controller");
    assert_true(str_is(json_str_at(kubevirt(w), "status/phase"), "Deploying"));
    ready_agents(w);
    assert_true(str_is(json_str_at(kubevirt(w), "status/phase"), "Deployed"));
    assert_string_equal(message(w, "Available"), "All components are ready.");
}

static void at_rest_nothing_is_written(void **state)
{
    struct world *w = *state;

    install_all(w);
    fake_log_clear(w->client);
    pass(w, SECONDS(1800)); /* nodes are counted in between, certificates are not due */
    assert_string_equal(fake_log(w->client), "");
    start(w, ENV("1.0.0")); /* and another operator finds nothing to do */
    assert_string_equal(fake_log(w->client), "");
}

static void certificates_are_renewed_in_time(void **state)
{
    struct world *w = *state;
    const struct json *before;

    install_all(w);
    before = json_at(fake_get(w->client, "secrets", "kubevirt/kubevirt-virt-api-certs", &w->a), "data/tls.crt");
    fake_log_clear(w->client);
    for (int hour = 0; hour < 20; hour++) {
        loop_fake_advance(w->loop, SECONDS(3600));
        pass(w, SECONDS(2));
    }
    assert_false(
        json_eq(before, json_at(fake_get(w->client, "secrets", "kubevirt/kubevirt-virt-api-certs", &w->a), "data/tls.crt")));
    assert_string_equal(fake_log(w->client),
                        "apply secrets kubevirt-virt-api-certs\napply secrets kubevirt-virt-handler-server-certs\n"
                        "apply secrets kubevirt-virt-handler-certs\napply secrets kubevirt-controller-certs\n"
                        "apply secrets kubevirt-operator-certs\n");
}

static void others_objects_stop_it_before_anything_is_changed(void **state)
{
    struct world *w = *state;

    fake_create(w->client, "customresourcedefinitions",
                "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\",\"metadata\":{\"name\":"
                "\"virtualmachines.kubevirt.io\",\"labels\":{\"app.kubernetes.io/managed-by\":\"virt-operator\"}}}");
    fake_create(w->client, "apiservices",
                "{\"apiVersion\":\"apiregistration.k8s.io/v1\",\"kind\":\"APIService\",\"metadata\":{\"name\":"
                "\"v1.subresources.kubevirt.io\",\"labels\":{\"vireo.io/operator\":\"elsewhere\"}}}");
    add_kubevirt(w, "kubevirt", "kubevirt", "{}");
    fake_log_clear(w->client);
    start(w, ENV("1.0.0"));
    assert_string_equal(
        message(w, "Degraded"),
        "An error occurred during deployment: these belong to somebody else, and nothing was changed: CustomResourceDefinition "
        "virtualmachines.kubevirt.io (app.kubernetes.io/managed-by=virt-operator), APIService v1.subresources.kubevirt.io "
        "(installed by the "
        "operator in namespace elsewhere)");
    assert_string_equal(fake_log(w->client), "patch kubevirts kubevirt\npatch kubevirts/status kubevirt\n");
    assert_true(fake_event_says(w->client, "virtualmachines.kubevirt.io"));
    /* They go: it goes on. */
    fake_delete(w->client, "customresourcedefinitions", "virtualmachines.kubevirt.io");
    fake_delete(w->client, "apiservices", "v1.subresources.kubevirt.io");
    pass(w, SECONDS(40));
    assert_true(there(w, "customresourcedefinitions", "virtualmachines.kubevirt.io"));
}

static void what_is_changed_is_put_back_and_a_fight_is_left(void **state)
{
    struct world *w = *state;

    install_all(w);
    fake_delete(w->client, "services", "kubevirt/virt-api");
    pass(w, SECONDS(3));
    assert_true(there(w, "services", "kubevirt/virt-api"));
    fake_log_clear(w->client);
    for (int i = 0; i < 60; i++) { /* somebody insists, for a minute */
        fake_merge(w->client, "services", "kubevirt/virt-api", "{\"spec\":{\"type\":\"NodePort\"}}");
        pass(w, SECONDS(1));
    }
    assert_in_range(fake_writes(w->client, "services"), 3, 8);
    assert_true(fake_event_says(w->client, "customizeComponents"));
    pass(w, SECONDS(400)); /* and gives up */
    assert_text_at(w, "services", "kubevirt/virt-api", "spec/type", "ClusterIP");
}

static void an_upgrade_goes_agents_controllers_api(void **state)
{
    struct world *w = *state;

    install_all(w);
    start(w, ENV("1.1.0"));
    ready_crds(w);
    assert_string_equal(
        message(w, "Progressing"),
        "Transitioning from previous version 1.0.0 with registry r.example to target version 1.1.0 using registry r.example");
    assert_text_at(w, "daemonsets", "kubevirt/virt-handler", "spec/template/spec/containers/0/image",
                   "r.example/launcher:1.1.0");
    assert_text_at(w, "deployments", "kubevirt/virt-controller", "spec/template/spec/containers/0/image",
                   "r.example/vireo:1.0.0");
    ready_agents(w);
    assert_text_at(w, "deployments", "kubevirt/virt-controller", "spec/template/spec/containers/0/image",
                   "r.example/vireo:1.1.0");
    assert_text_at(w, "deployments", "kubevirt/virt-api", "spec/template/spec/containers/0/image", "r.example/vireo:1.0.0");
    ready_deployment(w, "kubevirt/virt-controller");
    assert_text_at(w, "deployments", "kubevirt/virt-api", "spec/template/spec/containers/0/image", "r.example/vireo:1.1.0");
    ready_deployment(w, "kubevirt/virt-api");
    assert_true(str_is(json_str_at(kubevirt(w), "status/observedKubeVirtVersion"), "1.1.0"));
}

static void failing_writes_are_told_and_repeated_ever_more_slowly(void **state)
{
    struct world *w = *state;

    fake_fail(w->client, "customresourcedefinitions", CLIENT_APPLY, 1000, ERROR_FORBIDDEN, "not you");
    add_kubevirt(w, "kubevirt", "kubevirt", "{}");
    start(w, ENV("1.0.0"));
    pass(w, SECONDS(60));
    assert_true(strstr(message(w, "Degraded"), "not you"));
    assert_in_range(fake_writes(w->client, "customresourcedefinitions"), 6, 40);
}

static void machines_keep_it_and_without_them_all_goes(void **state)
{
    struct world *w = *state;

    install_all(w);
    fake_create(
        w->client, "virtualmachines",
        "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"VirtualMachine\",\"metadata\":{\"namespace\":\"a\",\"name\":\"b\"}}");
    fake_delete(w->client, "kubevirts", "kubevirt/kubevirt");
    fake_log_clear(w->client);
    pass(w, SECONDS(20));
    assert_true(strstr(message(w, "Synchronized"), "a/b"));
    assert_string_equal(fake_log(w->client), "patch kubevirts/status kubevirt\n");
    fake_remove(w->client, "virtualmachines", "a/b");
    pass(w, SECONDS(60));
    assert_null(kubevirt(w));
    assert_int_equal(fake_count(w->client, "deployments") + fake_count(w->client, "secrets")
                         + fake_count(w->client, "clusterroles") + fake_count(w->client, "customresourcedefinitions")
                         + fake_count(w->client, "apiservices") + fake_count(w->client, "configmaps")
                         + fake_count(w->client, "validatingwebhookconfigurations"),
                     0);
}

static void a_second_object_is_left_alone(void **state)
{
    struct world *w = *state;

    install_all(w);
    add_kubevirt(w, "elsewhere", "second", "{}");
    pass(w, SECONDS(3));
    const struct json *second = fake_get(w->client, "kubevirts", "elsewhere/second", &w->a);

    assert_true(condition_is(second, "Synchronized", "False"));
    assert_int_equal(json_len(json_at(second, "status/conditions")), 1);
    assert_false(meta_has_finalizer(second, "foregroundDeleteKubeVirt"));
}

static void an_object_in_a_config_map_is_applied_once(void **state)
{
    struct world *w = *state;

    fake_create(
        w->client, "configmaps",
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"namespace\":\"kubevirt\",\"name\":\"vireo-cr\"},"
        "\"data\":{"
        "\"kubevirt.yaml\":\"apiVersion: kubevirt.io/v1\\nkind: KubeVirt\\nmetadata: {name: kubevirt}\\nspec: {}\\n\"}}");
    start(w, ENV("1.0.0"));
    assert_non_null(kubevirt(w));
    assert_true(str_is(json_str_at(kubevirt(w), "metadata/ownerReferences/0/name"), "vireo-cr"));
    ready_crds(w);
    fake_delete(w->client, "kubevirts", "kubevirt/kubevirt");
    pass(w, SECONDS(60));
    assert_null(kubevirt(w)); /* it does not come back, and its ConfigMap has gone with it */
    assert_int_equal(fake_count(w->client, "configmaps"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        TEST(step_by_step_to_deployed),
        TEST(at_rest_nothing_is_written),
        TEST(certificates_are_renewed_in_time),
        TEST(others_objects_stop_it_before_anything_is_changed),
        TEST(what_is_changed_is_put_back_and_a_fight_is_left),
        TEST(an_upgrade_goes_agents_controllers_api),
        TEST(failing_writes_are_told_and_repeated_ever_more_slowly),
        TEST(machines_keep_it_and_without_them_all_goes),
        TEST(a_second_object_is_left_alone),
        TEST(an_object_in_a_config_map_is_applied_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
