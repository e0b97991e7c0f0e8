/* The life of a machine, from its creation to its end. */
#include "controller/controller_test.h"

static void from_create_to_running_in_nine_writes(void **state)
{
    struct world *w = *state;

    start(w);
    finalizer = ",\"finalizers\":[\"kubevirt.io/virtualMachineControllerFinalize\"]";
    add_vm(w, "Always", "64Mi", "");
    finalizer = "";
    turns(w);
    assert_string_equal(VMI("status/phase"), "Scheduling");
    assert_string_equal(VM("status/printableStatus"), "Starting");
    assert_true(json_bool_at(get(w, "virtualmachines"), "status/created", false));
    assert_string_equal(text(w, "pods", "spec/nodeName"), "n1");
    assert_string_equal(VMI("status/launcherContainerImageVersion"), "vireo.io/launcher:test");
    pod_runs(w);
    assert_string_equal(VMI("status/phase"), "Scheduled");
    assert_string_equal(VMI("status/nodeName"), "n1");
    assert_string_equal(VMI("metadata/labels/kubevirt.io~1nodeName"), "n1");
    assert_string_equal(VMI("metadata/annotations/kubevirt.io~1vm-generation"), "1");
    guest(w, "Running"); /* the ninth write, the agent's, is not in the fake's log */
    assert_string_equal(VM("status/printableStatus"), "Running");
    assert_true(json_bool_at(get(w, "virtualmachines"), "status/ready", false));
    assert_true(condition_is(get(w, "virtualmachines"), "LiveMigratable", "True"));
    assert_int_equal(json_i64_at(get(w, "virtualmachines"), "status/observedGeneration", 0), 1);
    settle(w);
    assert_int_equal(fake_writes(w->client, NULL), 8); /* with the scheduler's binding */
    assert_int_equal(fake_writes(w->client, "virtualmachineinstances"), 3);
    assert_int_equal(fake_writes(w->client, "virtualmachines"), 2);
    assert_int_equal(fake_count(w->client, "events"), 3);
}

static void stopping_deletes_instance_and_pod(void **state)
{
    struct world *w = *state;

    run_vm(w, "Always");
    fake_merge(w->client, "virtualmachines", "x/vm", "{\"spec\":{\"runStrategy\":\"Halted\"}}");
    turns(w);
    assert_string_equal(VM("status/printableStatus"), "Stopping");
    assert_null(json_at(get(w, "pods"),
                        "metadata/deletionTimestamp")); /* the agent shuts the guest down first */
    guest(w, "Succeeded");
    assert_int_equal(json_i64_at(get(w, "pods"), "metadata/deletionGracePeriodSeconds", 0), 30);
    pod_goes(w);
    assert_null(get(w, "virtualmachineinstances"));
    assert_string_equal(VM("status/printableStatus"), "Stopped");
    assert_true(condition_is(get(w, "virtualmachines"), "Ready", "False"));
    assert_null(json_at(get(w, "virtualmachines"), "status/created"));
    settle(w);
    assert_int_equal(fake_count(w->client, "pods"), 0);
}

static void a_restart_makes_another_instance(void **state)
{
    struct world *w = *state;
    const char *uid;

    run_vm(w, "Always");
    uid = VMI("metadata/uid");
    request(w, arena_printf(&w->a, "[{\"action\":\"Stop\",\"uid\":\"%s\"},{\"action\":\"Start\"}]",
                            uid));
    guest(w, "Succeeded");
    pod_goes(w);
    settle(w);
    assert_string_not_equal(VMI("metadata/uid"), uid);
    assert_string_equal(VMI("status/phase"), "Scheduling");
    assert_null(json_at(get(w, "virtualmachines"), "status/stateChangeRequests"));
    assert_int_equal(fake_count(w->client, "controllerrevisions"), 1);
}

static void deleting_a_vm_takes_everything_along(void **state)
{
    struct world *w = *state;

    run_vm(w, "Always");
    fake_delete(w->client, "virtualmachines", "x/vm");
    turns(w);
    assert_string_equal(VM("status/printableStatus"), "Terminating");
    guest(w, "Succeeded");
    pod_goes(w);
    settle(w);
    assert_int_equal(fake_count(w->client, "virtualmachines"), 0);
    assert_int_equal(fake_count(w->client, "virtualmachineinstances"), 0);
    assert_int_equal(fake_count(w->client, "controllerrevisions"), 0);
}

/* The kubelet's patience is for guests. */
static void a_pod_in_which_no_guest_is_yet_goes_soon(void **state)
{
    struct world *w = *state;

    start(w);
    add_vm(w, "Always", "64Mi", "");
    turns(w);
    assert_string_equal(VMI("status/phase"), "Scheduling");
    fake_delete(w->client, "virtualmachines", "x/vm");
    turns(w);
    assert_int_equal(json_i64_at(get(w, "pods"), "metadata/deletionGracePeriodSeconds", 0), 5);
    pod_goes(w);
    settle(w);
    assert_int_equal(fake_count(w->client, "virtualmachines"), 0);
    assert_int_equal(fake_count(w->client, "virtualmachineinstances"), 0);
}

static void manual_waits_for_a_start(void **state)
{
    struct world *w = *state;

    start(w);
    add_vm(w, "Manual", "64Mi", "");
    settle(w);
    assert_null(get(w, "virtualmachineinstances"));
    assert_string_equal(VM("status/printableStatus"), "Stopped");
    request(w, "[{\"action\":\"Start\",\"data\":{\"paused\":\"true\"}}]");
    settle(w);
    assert_string_equal(VMI("spec/startStrategy"), "Paused");
    assert_null(json_at(get(w, "virtualmachines"), "status/stateChangeRequests"));
    pod_runs(w);
    guest(w, "Running");
    guest(w, "Failed");
    settle(w);
    assert_string_equal(VMI("status/phase"), "Failed"); /* left alone */
    assert_string_equal(VM("status/printableStatus"), "Stopped");
}

static void halted_starts_by_changing_its_strategy(void **state)
{
    struct world *w = *state;

    start(w);
    add_vm(w, "Halted", "64Mi", "");
    settle(w);
    request(w, "[{\"action\":\"Start\"}]");
    settle(w);
    assert_string_equal(VM("spec/runStrategy"), "Always");
    assert_string_equal(VM("status/printableStatus"), "Starting");
}

static void rerun_on_failure_starts_again_only_then(void **state)
{
    struct world *w = *state;
    const char *uid;

    run_vm(w, "RerunOnFailure");
    uid = VMI("metadata/uid");
    guest(w, "Failed");
    pod_goes(w);
    settle(w);
    assert_string_not_equal(VMI("metadata/uid"), uid);
    pod_runs(w);
    guest(w, "Running");
    guest(w, "Succeeded");
    pod_goes(w);
    settle(w);
    assert_null(get(w, "virtualmachineinstances"));
    assert_string_equal(VM("status/printableStatus"), "Stopped");
}

static void a_start_that_fails_is_tried_ever_later(void **state)
{
    struct world *w = *state;
    int64_t count = 0;

    start(w);
    add_vm(w, "Always", "64Mi", "");
    settle(w);
    for (count = 1; count <= 3; count++) {
        assert_string_equal(VMI("status/phase"), "Scheduling");
        pod_goes(w); /* before it was ready */
        settle(w);
        assert_null(get(w, "virtualmachineinstances"));
        assert_string_equal(VM("status/printableStatus"), "CrashLoopBackOff");
        assert_int_equal(
            json_i64_at(get(w, "virtualmachines"), "status/startFailure/consecutiveFailCount", 0),
            count);
        loop_fake_advance(w->loop, SECONDS(10 * count * count - 4));
        turns(w);
        assert_null(get(w, "virtualmachineinstances"));
        loop_fake_advance(w->loop, SECONDS(5 * count * count + 5));
        settle(w);
    }
    pod_runs(w);
    guest(w, "Running");
    settle(w);
    assert_null(json_at(get(w, "virtualmachines"), "status/startFailure"));
}

static void a_pod_deleted_by_force_ends_the_instance(void **state)
{
    struct world *w = *state;
    const char *uid;

    run_vm(w, "Always");
    uid = VMI("metadata/uid");
    pod_goes(w);
    assert_string_equal(VMI("status/phase"), "Running");
    loop_fake_advance(w->loop, SECONDS(3));
    settle(w);
    assert_string_not_equal(VMI("metadata/uid"), uid);
    assert_string_equal(VMI("status/phase"), "Scheduling");
}

/* Whoever may create pods in a namespace cannot lead a node's agent, and a machine, to a pod of theirs. */
static void a_pod_in_a_launchers_likeness_is_not_looked_at(void **state)
{
    struct world *w = *state;

    run_vm(w, "Always");
    fake_create(w->client, "pods",
                arena_printf(&w->a,
                             "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"namespace\":\"x\",\"name\":\"evil\",\"ownerReferences\":[{"
                             "\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"VirtualMachineInstance\",\"name\":\"vm\",\"controller\":true,"
                             "\"uid\":\"%s\"}]},\"spec\":{\"nodeName\":\"n9\"},\"status\":{\"phase\":\"Running\",\"conditions\":[{"
                             "\"type\":\"Ready\",\"status\":\"False\",\"reason\":\"Forged\"}]}}",
                             VMI("metadata/uid")));
    settle(w);
    assert_true(condition_is(get(w, "virtualmachineinstances"), "Ready", "True"));
    fake_delete(w->client, "virtualmachineinstances", "x/vm");
    settle(w);
    assert_non_null(fake_get(w->client, "pods", "x/evil", &w->a)); /* nor ended: Kubernetes collects what has no owner */
    assert_null(json_at(fake_get(w->client, "pods", "x/evil", &w->a), "metadata/deletionTimestamp"));
}

/* A host that was restarted: the node's pod runtime says so of the pod, and the instance's Event repeats it. */
static void a_pod_that_ended_says_why(void **state)
{
    struct world *w = *state;

    run_vm(w, "Once");
    fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a),
               "{\"status\":{\"phase\":\"Failed\",\"containerStatuses\":[{\"name\":\"compute\",\"state\":{"
               "\"terminated\":{\"exitCode\":137,\"message\":\"the host was restarted\"}}}]}}");
    turns(w);
    loop_fake_advance(w->loop, SECONDS(3));
    settle(w);
    assert_string_equal(VMI("status/phase"), "Failed");
    assert_true(fake_event_says(w->client, "not reported: the host was restarted"));
}

static void too_big_says_so(void **state)
{
    struct world *w = *state;

    start(w);
    add_vm(w, "Always", "64Gi", "");
    settle(w);
    assert_string_equal(VM("status/printableStatus"), "ErrorUnschedulable");
    assert_true(condition_is(get(w, "virtualmachines"), "PodScheduled", "False"));
    assert_true(str_starts(
        json_str_at(condition_find(get(w, "virtualmachineinstances"), "PodScheduled"), "message"),
        STR("0/1 nodes are available: 1 Insufficient memory. The pod needs ")));
    fake_log_clear(w->client);
    settle(w);
    assert_string_equal(fake_log(w->client), ""); /* and then keeps quiet */
    add_node(w, "n2", "128Gi");
    settle(w);
    assert_string_equal(text(w, "pods", "spec/nodeName"), "n2");
    assert_string_equal(VM("status/printableStatus"), "Starting");
    assert_false(condition_is(get(w, "virtualmachines"), "PodScheduled", "False"));
}

#define DISK ",\"volumes\":[{\"name\":\"disk\",\"containerDisk\":{\"image\":\"r/d:1\"}}]"

static void outside(struct world *w)
{
    controllers_free(w->controllers);
    w->controllers = controllers_new(&(struct controllers_config){.client = w->client, .launcher_image = "launcher:test", .ns = "ours"});
    controllers_start(w->controllers);
    start(w);
}

static void remove_all(struct world *w)
{
    static const char *const kinds[] = {"virtualmachines", "virtualmachineinstances", "pods"};

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        for (const char *key; (key = fake_only(w->client, kinds[i], &w->a));)
            fake_remove(w->client, kinds[i], key);
    settle(w);
    assert_int_equal(fake_count(w->client, "pods"), 0);
}

/* What the machine's image became: its container's name, or its volume's image. */
static const char *image_in_pod(struct world *w)
{
    const struct json *pod;

    add_vm(w, "Always", "64Mi", DISK);
    settle(w);
    pod = get(w, "pods");
    remove_all(w);
    json_each_item(v, json_at(pod, "spec/volumes"))
        if (json_get(v, "image"))
            return arena_strdup(&w->a, json_str_at(v, "image/reference"));
    return arena_strdup(&w->a, json_str_at(json_item(json_at(pod, "spec/containers"), 1), "name"));
}

#define KUBEVIRT_IN(ns)                                                                                                           \
    "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"KubeVirt\",\"metadata\":{\"name\":\"kv\",\"namespace\":\"" ns "\"},"               \
    "\"spec\":{\"configuration\":{\"developerConfiguration\":{\"featureGates\":[\"ImageVolume\"]}}}}"

/* As the embedded API server refuses it; a cluster's is not asked about what we make. */
static void what_is_not_allowed_any_more_starts_when_it_is_again(void **state)
{
    struct world *w = *state;

    outside(w);
    fake_create(w->client, "kubevirts",
                "{\"metadata\":{\"name\":\"kv\",\"namespace\":\"ours\"},\"spec\":{\"configuration\":{\"hypervisors\":[{\"name\":\"qemu-microvm\"}]}}}");
    turns(w);
    add_vm(w, "Always", "64Mi", "");
    settle(w);
    assert_int_equal(fake_count(w->client, "virtualmachineinstances"), 0);
    assert_true(fake_event_says(w->client, "qemu is not among the hypervisors that the KubeVirt object's"));
    fake_log_clear(w->client);
    fake_merge(w->client, "kubevirts", "ours/kv", "{\"status\":{\"phase\":\"Deployed\"}}");
    settle(w);
    assert_string_equal(fake_log(w->client), "");
    fake_merge(w->client, "kubevirts", "ours/kv", "{\"spec\":{\"configuration\":{\"hypervisors\":[{\"name\":\"qemu\"}]}}}");
    settle(w);
    assert_int_equal(fake_count(w->client, "virtualmachineinstances"), 1);
}

/* Seen, not believed: versions of nodes, then the API server's own answer; and the KubeVirt object may know better. */
static void an_image_is_a_container_until_image_volumes_are_seen(void **state)
{
    struct world *w = *state;

    outside(w);
    assert_string_equal(image_in_pod(w), "volumedisk"); /* a node that tells no version */
    assert_null(strstr(fake_log(w->client), "pods ours/"));
    fake_merge(w->client, "nodes", fake_only(w->client, "nodes", &w->a),
               "{\"status\":{\"nodeInfo\":{\"kubeletVersion\":\"v1.35.1\",\"containerRuntimeVersion\":\"containerd://2.1.0\"}}}");
    settle(w);
    fake_fail(w->client, "pods", CLIENT_CREATE, 1, ERROR_INVALID, "must specify a volume type");
    assert_string_equal(image_in_pod(w), "volumedisk"); /* asks, and does not wait for the answer, which is no */
    assert_string_equal(image_in_pod(w), "volumedisk");
    fake_create(w->client, "kubevirts", KUBEVIRT_IN("theirs"));
    settle(w);
    assert_string_equal(image_in_pod(w), "volumedisk"); /* where nothing is installed, nothing is configured */
    fake_create(w->client, "kubevirts", KUBEVIRT_IN("ours"));
    settle(w);
    assert_string_equal(image_in_pod(w), "r/d:1");
    fake_merge(w->client, "kubevirts", "ours/kv",
               "{\"spec\":{\"configuration\":{\"developerConfiguration\":{\"disabledFeatureGates\":[\"ImageVolume\"]}}}}");
    settle(w);
    assert_string_equal(image_in_pod(w), "volumedisk");
}

/* The container of an image that ends early, and a launcher that ends while it waits: neither leaves an instance that waits for ever. */
static void a_container_that_ends_before_the_machine_starts_fails_it(void **state)
{
    static const struct {
        const char *name, *says;
    } rows[] = {
        {"volumedisk", "container volumedisk ended before the guest could start: StartError: no such file"},
        {"compute", "no such file"},
    };
    struct world *w = *state;

    outside(w);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        add_vm(w, "Once", "64Mi", DISK);
        settle(w);
        fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a),
                   arena_printf(&w->a,
                                "{\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{\"name\":\"a\",\"ready\":true,\"state\":{}},"
                                "{\"name\":\"%s\",\"ready\":false,\"state\":{\"terminated\":{\"exitCode\":128,\"reason\":\"StartError\","
                                "\"message\":\"no such file\"}}}]}}",
                                rows[i].name));
        settle(w);
        assert_true(fake_event_says(w->client, rows[i].says));
        remove_all(w);
    }
}

static void a_refused_instance_is_told_and_retried(void **state)
{
    struct world *w = *state;
    const struct json *c;

    start(w);
    fake_fail(w->client, "virtualmachineinstances", CLIENT_CREATE, 6, ERROR_FORBIDDEN,
              "exceeded quota: q");
    add_vm(w, "Always", "64Mi", "");
    for (int i = 0; i < 10; i++) { /* 6 × ≥ 5 ms */
        loop_fake_advance(w->loop, MILLIS(5));
        turns(w);
    }
    c = condition_find(get(w, "virtualmachines"), "Failure");
    assert_non_null(c);
    assert_true(str_is(json_str_at(c, "reason"), "FailedCreate"));
    assert_true(str_is(json_str_at(c, "message"), "exceeded quota: q"));
    settle(w);
    assert_non_null(get(w, "virtualmachineinstances"));
    assert_null(condition_find(get(w, "virtualmachines"), "Failure"));
}

static void an_instance_of_somebody_else_is_in_the_way(void **state)
{
    struct world *w = *state;

    start(w);
    fake_create(w->client, "virtualmachineinstances",
                "{\"apiVersion\":\"kubevirt.io/"
                "v1\",\"kind\":\"VirtualMachineInstance\",\"metadata\":{\"name\":\"vm\","
                "\"namespace\":\"x\",\"finalizers\":[\"kubevirt.io/"
                "foregroundDeleteVirtualMachine\"]},\"spec\":{\"domain\":{"
                "\"devices\":{},\"memory\":{\"guest\":\"64Mi\"}}}}");
    add_vm(w, "Always", "64Mi", "");
    settle(w);
    assert_true(str_is(json_str_at(condition_find(get(w, "virtualmachines"), "Failure"), "reason"),
                       "FailedCreate"));
    assert_string_equal(VMI("status/phase"), "Scheduling"); /* it lives by itself */
    fake_delete(w->client, "virtualmachineinstances", "x/vm");
    turns(w);
    pod_goes(w);
    settle(w);
    assert_true(
        meta_controlled_by(get(w, "virtualmachineinstances"), meta_uid(get(w, "virtualmachines"))));
    assert_null(condition_find(get(w, "virtualmachines"), "Failure"));
}

static void add_vsock(struct world *w, const char *name, const char *status)
{
    fake_create(w->client, "virtualmachineinstances",
                arena_printf(&w->a,
                             "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":"
                             "\"VirtualMachineInstance\",\"metadata\":{\"name\":\"%s\","
                             "\"namespace\":\"x\",\"annotations\":{\"vireo.io/vmm\":"
                             "\"cloud-hypervisor\"}},\"spec\":{\"domain\":{\"devices\":{"
                             "\"autoattachVSOCK\":true},\"memory\":{\"guest\":\"64Mi\"}}}%s}",
                             name, status));
}

/* Every pod that has been made is ready at once: instances are planned side by side. */
static void all_pods_run(struct world *w)
{
    struct str log = str_of(arena_strdup(&w->a, str_of(fake_log(w->client)))), line;

    while (str_next(&log, '\n', &line))
        if (str_starts(line, STR("create pods "))) {
            const char *key = arena_printf(&w->a, "x/" STR_FMT, STR_ARG(str_skip(line, 12)));

            if (fake_get(w->client, "pods", key, &w->a))
                fake_merge(w->client, "pods", key,
                           "{\"spec\":{\"nodeName\":\"n1\"},\"status\":{\"phase\":\"Running\","
                           "\"containerStatuses\":[{\"name\":\"compute\",\"ready\":true}]}}");
        }
    settle(w);
}

static int64_t cid(struct world *w, const char *key)
{
    return json_i64_at(fake_get(w->client, "virtualmachineinstances", key, &w->a),
                       "status/VSOCKCID", 0);
}

static void two_instances_never_share_a_context_id(void **state)
{
    struct world *w = *state;

    start(w);
    w->controllers->vsock.last =
        4; /* two numbers, 3 and 4: chance alone would share one every other time */
    add_vsock(w, "a", "");
    add_vsock(w, "b", ",\"status\":{\"VSOCKCID\":2}"); /* nobody chooses one for himself */
    settle(w);
    all_pods_run(w);
    assert_int_equal(cid(w, "x/a") + cid(w, "x/b"), 7);
    assert_in_range(cid(w, "x/a"), 3, 4);
    add_vsock(w, "c", "");
    settle(w);
    all_pods_run(w);
    assert_int_equal(cid(w, "x/c"), 0);
    assert_true(str_is(
        json_str_at(condition_find(fake_get(w->client, "virtualmachineinstances", "x/c", &w->a),
                                   "Synchronized"),
                    "reason"),
        "VSOCKContextIDsExhausted"));

    /* Others that know only what the API says. */
    int64_t b = cid(w, "x/b");
    controllers_free(w->controllers);
    w->controllers = controllers_new(&(struct controllers_config){
        .client = w->client, .embedded = true, .launcher_image = "vireo.io/launcher:test"});
    w->controllers->vsock.last = 4;
    controllers_start(w->controllers);
    settle(w);
    assert_int_equal(cid(w, "x/c"), 0);
    assert_int_equal(cid(w, "x/b"), b);
    fake_remove(w->client, "virtualmachineinstances", "x/b");
    for (int i = 0; i < 30; i++) {
        loop_fake_advance(w->loop, SECONDS(1));
        turns(w);
    }
    assert_int_equal(cid(w, "x/c"), b);
}

static void a_changed_template_wants_a_restart(void **state)
{
    struct world *w = *state;

    run_vm(w, "Always");
    fake_merge(w->client, "virtualmachines", "x/vm",
               "{\"spec\":{\"template\":{\"spec\":{\"domain\":{\"cpu\":{\"cores\":2}}}}}}");
    settle(w);
    assert_true(condition_is(get(w, "virtualmachines"), "RestartRequired", "True"));
    assert_int_equal(json_i64_at(get(w, "virtualmachines"), "status/desiredGeneration", 0), 2);
    fake_merge(w->client, "virtualmachines", "x/vm",
               "{\"spec\":{\"template\":{\"spec\":{\"domain\":{\"cpu\":{\"cores\":1}}}}}}");
    settle(w);
    assert_null(condition_find(get(w, "virtualmachines"), "RestartRequired"));
    assert_string_equal(VMI("metadata/annotations/kubevirt.io~1vm-generation"), "3");
}

static void a_silent_node_loses_its_instances(void **state)
{
    struct world *w = *state;

    run_vm(w, "Always");
    loop_fake_advance(w->loop, SECONDS(301));
    turns(w);
    assert_true(str_is(
        meta_label(fake_get(w->client, "nodes", "n1", &w->a), "kubevirt.io/schedulable"), "false"));
    assert_true(condition_is(fake_get(w->client, "nodes", "n1", &w->a), "Ready", "Unknown"));
    assert_string_equal(VMI("status/phase"), "Running");                 /* its pod lives */
    fake_delete(w->client, "pods", fake_only(w->client, "pods", &w->a)); /* as an eviction would */
    loop_fake_advance(w->loop, SECONDS(31));
    turns(w);
    assert_string_equal(VMI("status/phase"), "Failed");
    assert_string_equal(VMI("status/reason"), "NodeUnresponsive");
    pod_goes(w);
    settle(w);
    assert_string_equal(VM("status/printableStatus"), "ErrorUnschedulable"); /* no other node */
}

static void nothing_is_lost_when_the_controllers_start_anew(void **state)
{
    struct world *w = *state;

    start(w);
    add_vm(w, "Always", "64Mi", "");
    /* At every turn between the writes. */
    for (int i = 0; i < 60; i++) {
        loop_turn(w->loop, 0);
        controllers_free(w->controllers);
        w->controllers = controllers_new(&(struct controllers_config){
            .client = w->client, .embedded = true, .launcher_image = "vireo.io/launcher:test"});
        controllers_start(w->controllers);
        for (int k = 0; k < i; k++)
            loop_turn(w->loop, 0);
    }
    settle(w);
    assert_int_equal(fake_count(w->client, "pods"), 1);
    assert_int_equal(fake_count(w->client, "controllerrevisions"), 1);
    assert_string_equal(text(w, "pods", "spec/nodeName"), "n1");
    assert_string_equal(VM("status/printableStatus"), "Starting");
}

static void every_write_may_fail_once(void **state)
{
    static const struct {
        const char *plural;
        enum client_verb verb;
    } cases[] = {
        {"virtualmachines", CLIENT_PATCH_MERGE},
        {"controllerrevisions", CLIENT_CREATE},
        {"virtualmachineinstances", CLIENT_CREATE},
        {"virtualmachineinstances", CLIENT_PATCH_MERGE},
        {"pods", CLIENT_CREATE},
        {"events", CLIENT_CREATE},
    };
    static const enum error_kind kinds[] = {ERROR_UNAVAILABLE, ERROR_CONFLICT, ERROR_INTERNAL,
                                            ERROR_EXISTS};

    for (size_t i = 0; i < ARRAY_SIZE(cases) * ARRAY_SIZE(kinds); i++) {
        struct world *w;

        if (i > 0)
            setup(state);
        w = *state;
        start(w);
        fake_fail(w->client, cases[i / ARRAY_SIZE(kinds)].plural, cases[i / ARRAY_SIZE(kinds)].verb,
                  1, kinds[i % ARRAY_SIZE(kinds)], "once");
        add_vm(w, "Always", "64Mi", "");
        settle(w);
        assert_int_equal(fake_count(w->client, "pods"), 1);
        assert_int_equal(fake_count(w->client, "controllerrevisions"), 1);
        assert_string_equal(VMI("status/phase"), "Scheduling");
        assert_string_equal(VM("status/printableStatus"), "Starting");
        assert_true(meta_has_finalizer(get(w, "virtualmachines"),
                                       "kubevirt.io/virtualMachineControllerFinalize"));
        if (i + 1 < ARRAY_SIZE(cases) * ARRAY_SIZE(kinds))
            teardown(state);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(from_create_to_running_in_nine_writes),
        T(two_instances_never_share_a_context_id),
        T(stopping_deletes_instance_and_pod),
        T(a_restart_makes_another_instance),
        T(deleting_a_vm_takes_everything_along),
        T(a_pod_in_which_no_guest_is_yet_goes_soon),
        T(manual_waits_for_a_start),
        T(halted_starts_by_changing_its_strategy),
        T(rerun_on_failure_starts_again_only_then),
        T(a_start_that_fails_is_tried_ever_later),
        T(a_pod_deleted_by_force_ends_the_instance),
        T(a_pod_in_a_launchers_likeness_is_not_looked_at),
        T(a_pod_that_ended_says_why),
        T(too_big_says_so),
        T(what_is_not_allowed_any_more_starts_when_it_is_again),
        T(an_image_is_a_container_until_image_volumes_are_seen),
        T(a_container_that_ends_before_the_machine_starts_fails_it),
        T(a_refused_instance_is_told_and_retried),
        T(an_instance_of_somebody_else_is_in_the_way),
        T(a_changed_template_wants_a_restart),
        T(a_silent_node_loses_its_instances),
        T(nothing_is_lost_when_the_controllers_start_anew),
        T(every_write_may_fail_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
