/* On a cluster, where the kubelet that would end a pod's process may be away. */
#include "controller/controller_test.h"

static void run_on_cluster(struct world *w, const char *strategy)
{
    start(w);
    add_vm(w, strategy, "64Mi", "");
    turns(w);
    fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a), "{\"spec\":{\"nodeName\":\"n1\"}}");
    pod_runs(w);
    assert_string_equal(VMI("status/phase"), "Scheduled");
    guest(w, "Running");
}

static void compute_terminated(struct world *w)
{
    fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a),
               "{\"status\":{\"containerStatuses\":[{\"name\":\"compute\",\"state\":{\"terminated\":{\"exitCode\":137}}}]}}");
}

static void pass(struct world *w, int64_t seconds)
{
    loop_fake_advance(w->loop, SECONDS(seconds));
    settle(w);
}

static const char *ready_reason(struct world *w)
{
    return arena_strdup(&w->a, json_str_at(condition_find(get(w, "virtualmachineinstances"), "Ready"), "reason"));
}

/* Runs, its pod is gone, and nobody has said that its process has ended. */
static const char *vanish(struct world *w)
{
    const char *uid;

    run_on_cluster(w, "Always");
    uid = VMI("metadata/uid");
    pod_goes(w);
    pass(w, 3600);
    assert_string_equal(VMI("metadata/uid"), uid);
    assert_string_equal(VMI("status/phase"), "Running");
    assert_string_equal(ready_reason(w), "LauncherMayRun");
    assert_null(fake_only(w->client, "pods", &w->a));
    assert_true(fake_event_says(w->client, "out-of-service"));
    return uid;
}

static void a_vanished_pod_s_machine_starts_again_when_its_agent_has_seen_it_end(void **state)
{
    struct world *w = *state;
    const char *uid = vanish(w);

    guest(w, "Failed");
    pass(w, 1);
    assert_string_not_equal(VMI("metadata/uid"), uid);
}

static void a_vanished_pod_s_machine_starts_again_when_its_node_is_out_of_service(void **state)
{
    struct world *w = *state;
    const char *uid = vanish(w);

    fake_merge(w->client, "nodes", "n1", "{\"spec\":{\"taints\":[{\"key\":\"node.kubernetes.io/out-of-service\",\"effect\":\"NoExecute\"}]}}");
    pass(w, 6);
    pass(w, 3);
    assert_string_not_equal(VMI("metadata/uid"), uid);
}

static void a_vanished_pod_s_machine_starts_again_when_its_node_is_deleted(void **state)
{
    struct world *w = *state;
    const char *uid = vanish(w);

    fake_remove(w->client, "nodes", "n1");
    pass(w, 6);
    pass(w, 3);
    assert_string_not_equal(VMI("metadata/uid"), uid);
}

static void a_machine_that_is_deleted_keeps_its_name_while_it_may_run(void **state)
{
    struct world *w = *state;

    run_on_cluster(w, "Always");
    fake_delete(w->client, "virtualmachines", "x/vm");
    turns(w);
    pod_goes(w);
    pass(w, 3600);
    assert_string_equal(ready_reason(w), "LauncherMayRun");
    assert_non_null(get(w, "virtualmachines"));
    guest(w, "Failed");
    pass(w, 1);
    assert_null(get(w, "virtualmachineinstances"));
    assert_null(get(w, "virtualmachines"));
}

static void a_pod_whose_process_the_kubelet_saw_end_needs_no_agent(void **state)
{
    struct world *w = *state;
    const char *uid;

    run_on_cluster(w, "Always");
    uid = VMI("metadata/uid");
    compute_terminated(w);
    pod_goes(w);
    pass(w, 3);
    assert_string_not_equal(VMI("metadata/uid"), uid);
}

/* The cluster's scheduler names the device only. */
static void a_pod_that_waits_for_kvm_says_what_to_do(void **state)
{
    struct world *w = *state;

    start(w);
    add_vm(w, "Always", "64Mi", "");
    turns(w);
    fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a),
               "{\"status\":{\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"False\",\"reason\":\"Unschedulable\","
               "\"message\":\"0/1 nodes are available: 1 Insufficient devices.kubevirt.io/kvm.\"}]}}");
    settle(w);
    assert_string_equal(VM("status/printableStatus"), "ErrorUnschedulable");
    assert_non_null(strstr(arena_strdup(&w->a, json_str_at(condition_find(get(w, "virtualmachines"), "PodScheduled"), "message")),
                           "useEmulation: true"));
}

static void a_silent_node_of_a_cluster_keeps_its_instances(void **state)
{
    struct world *w = *state;
    const char *uid;

    run_on_cluster(w, "Always");
    uid = VMI("metadata/uid");
    fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a), "{\"metadata\":{\"finalizers\":[\"test/kubelet\"]}}");
    fake_delete(w->client, "pods", fake_only(w->client, "pods", &w->a)); /* as the cluster does after five minutes */
    pass(w, 301);
    pass(w, 600);
    assert_string_equal(VMI("metadata/uid"), uid);
    assert_string_equal(VMI("status/phase"), "Running");
    assert_string_equal(ready_reason(w), "NodeUnresponsive");
    compute_terminated(w);
    pod_goes(w);
    pass(w, 3);
    assert_string_not_equal(VMI("metadata/uid"), uid);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_cluster, teardown)
    const struct CMUnitTest tests[] = {
        T(a_vanished_pod_s_machine_starts_again_when_its_agent_has_seen_it_end),
        T(a_vanished_pod_s_machine_starts_again_when_its_node_is_out_of_service),
        T(a_vanished_pod_s_machine_starts_again_when_its_node_is_deleted),
        T(a_machine_that_is_deleted_keeps_its_name_while_it_may_run),
        T(a_pod_whose_process_the_kubelet_saw_end_needs_no_agent),
        T(a_pod_that_waits_for_kvm_says_what_to_do),
        T(a_silent_node_of_a_cluster_keeps_its_instances),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
