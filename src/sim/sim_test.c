/* The simulator against an API server in memory: what it makes, what it leaves alone, a machine from its pod to its end. */
#include "json/json_test.h"

#include <stdio.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "client/fake_client.h"
#include "sim/internal.h"

struct world {
    struct loop *loop;
    struct client *client;
    struct sim *sim;
    struct arena a;
    char failure[256];
    bool ready, stopped;
};
static struct world w;

static void turns(int64_t ns)
{
    for (int64_t step = MILLIS(10); ns >= 0; ns -= step) {
        while (loop_turn(w.loop, 0))
            ;
        loop_turn(w.loop, MILLIS(1)); /* the sockets between agents and launchers take real time */
        loop_fake_advance(w.loop, step);
        if (step < SECONDS(1))
            step *= 2;
    }
    while (loop_turn(w.loop, 0))
        ;
}

static void on_failed(void *user, const struct error *err)
{
    (void)user;
    snprintf(w.failure, sizeof w.failure, "%s", error_text(err));
}

static void on_ready(void *user)
{
    (void)user;
    w.ready = true;
}

static void on_stopped(void *user)
{
    (void)user;
    w.stopped = true;
}

static void begin(bool play_all)
{
    AUTO(error_clear) struct error err = {0};

    assert_true(sim_new(&(struct sim_config){.client = w.client, .nodes = 3, .pod_start_ns = MILLIS(100), .guest_start_ns = MILLIS(50),
                                             .play_all = play_all, .agents_as = "agent", .failed = on_failed, .ready = on_ready},
                        &w.sim, &err));
    sim_start(w.sim);
    turns(SECONDS(8));
}

static int setup(void **state)
{
    (void)state;
    w = (struct world){0};
    w.loop = loop_new_fake();
    w.client = fake_client_new(w.loop);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sim_free(w.sim);
    client_free(w.client);
    loop_free(w.loop);
    arena_done(&w.a);
    return 0;
}

static const struct json *object(const char *plural, const char *key)
{
    return fake_get(w.client, plural, key, &w.a);
}

static struct str text(const char *plural, const char *key, const char *path)
{
    return json_str_at(object(plural, key), path);
}

#define SAYS(plural, key, path, words) assert_true(str_is(text(plural, key, path), words))

/* A pod as the scheduler has bound it, of a VMI as the controllers hand it over. */
static void bind(const char *name, const char *label, const char *node)
{
    fake_create(w.client, "pods",
                arena_printf(&w.a,
                             "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"namespace\":\"x\",\"name\":\"%s\",\"labels\":{"
                             "\"kubevirt.io\":\"%s\"}},\"spec\":{\"nodeName\":\"%s\",\"containers\":[{\"name\":\"compute\",\"image\":"
                             "\"i\",\"resources\":{\"requests\":{\"cpu\":\"1\"}}}]},\"status\":{\"phase\":\"Pending\"}}",
                             name, label, node));
}

static void hand_over(const char *name, const char *pod, const char *node)
{
    fake_create(w.client, "virtualmachineinstances",
                arena_printf(&w.a,
                             "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"VirtualMachineInstance\",\"metadata\":{\"namespace\":\"x\","
                             "\"name\":\"%s\",\"finalizers\":[\"foregroundDeleteVirtualMachine\"],\"labels\":{\"kubevirt.io/nodeName\":"
                             "\"%s\"}},\"spec\":{\"terminationGracePeriodSeconds\":5,\"domain\":{\"devices\":{\"interfaces\":[{"
                             "\"name\":\"default\",\"masquerade\":{}}]},\"memory\":{\"guest\":\"64Mi\"}}},\"status\":{\"phase\":"
                             "\"Scheduled\",\"nodeName\":\"%s\",\"activePods\":{\"" STR_FMT "\":\"%s\"}}}",
                             name, node, node, STR_ARG(text("pods", pod, "metadata/uid")), node));
}

static void run_machine(void)
{
    bind("p", "virt-launcher", "sim-1");
    turns(SECONDS(4));
    hand_over("v", "x/p", "sim-1");
    turns(SECONDS(8));
    SAYS("virtualmachineinstances", "x/v", "status/phase", "Running");
}

/* The API server in memory waits for somebody to take a pod away; a real one does that when its kubelet says so. */
static void kubelet_takes_away(const char *name)
{
    AUTO_FREE char *line = xasprintf("delete pods %s\n", name), *key = xasprintf("x/%s", name);

    assert_non_null(strstr(fake_log(w.client), line));
    fake_remove(w.client, "pods", key);
    turns(SECONDS(1));
}

static void nodes_are_made_marked_and_kept_alive(void **state)
{
    struct str renewed;

    (void)state;
    begin(false);
    assert_true(w.ready);
    assert_int_equal(fake_count(w.client, "nodes"), 3);
    assert_int_equal(fake_count(w.client, "leases"), 3);
    SAYS("nodes", "sim-2", "metadata/labels/vireo.io~1simulated", "true");
    SAYS("nodes", "sim-2", "metadata/labels/vireo.io~1vmm-qemu", "true");
    SAYS("nodes", "sim-2", "metadata/labels/kubevirt.io~1schedulable", "true");
    assert_true(meta_annotation(object("nodes", "sim-0"), SIM_MARK).n > 0);
    assert_true(meta_annotation(object("nodes", "sim-0"), "kubevirt.io/heartbeat").n > 0);
    assert_true(condition_is(object("nodes", "sim-1"), "Ready", "True"));
    renewed = text("leases", "kube-node-lease/sim-0", "spec/renewTime");
    turns(SECONDS(15));
    assert_false(str_eq(text("leases", "kube-node-lease/sim-0", "spec/renewTime"), renewed));
}

static void a_node_of_somebody_else_is_not_touched(void **state)
{
    AUTO_FREE char *before = NULL, *after = NULL;

    (void)state;
    fake_create(w.client, "nodes", "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"sim-1\"}}");
    before = json_text(object("nodes", "sim-1"));
    begin(false);
    assert_non_null(strstr(w.failure, "node sim-1 exists and has no label vireo.io/simulated=true"));
    assert_false(w.ready);
    sim_stop(w.sim, false, on_stopped, NULL);
    turns(SECONDS(4));
    assert_true(w.stopped);
    after = json_text(object("nodes", "sim-1"));
    assert_string_equal(before, after);
    assert_int_equal(fake_count(w.client, "nodes"), 1); /* and those that it had made are gone */
}

static void a_machine_runs_and_is_told_by_three_writes(void **state)
{
    const struct json *status;

    (void)state;
    begin(false);
    fake_log_clear(w.client);
    run_machine();
    assert_int_equal(fake_writes(w.client, "pods"), 2);                    /* containers created, containers running */
    assert_int_equal(fake_writes(w.client, "virtualmachineinstances"), 1); /* Running */
    SAYS("pods", "x/p", "status/phase", "Running");
    assert_true(condition_is(object("pods", "x/p"), "Ready", "True"));
    status = json_get(object("virtualmachineinstances", "x/v"), "status");
    assert_true(str_eq(json_str_at(status, "interfaces/0/ipAddress"), text("pods", "x/p", "status/podIP")));
    assert_true(fake_event_says(w.client, "this node is simulated, nothing runs in its machines"));
    assert_int_equal(sim_count(w.sim).running, 1);
}

static void a_deleted_machine_shuts_down_and_its_pod_goes(void **state)
{
    (void)state;
    begin(false);
    run_machine();
    fake_delete(w.client, "virtualmachineinstances", "x/v");
    turns(SECONDS(8));
    SAYS("virtualmachineinstances", "x/v", "status/phase", "Succeeded");
    SAYS("pods", "x/p", "status/phase", "Succeeded");
    SAYS("pods", "x/p", "status/containerStatuses/0/state/terminated/reason", "Completed");
    fake_delete(w.client, "pods", "x/p");
    turns(SECONDS(8));
    kubelet_takes_away("p");
    assert_int_equal(sim_count(w.sim).pods, 0);
}

static void a_pod_that_is_told_to_crash_fails_and_so_does_its_machine(void **state)
{
    (void)state;
    begin(false);
    run_machine();
    fake_merge(w.client, "pods", "x/p", "{\"metadata\":{\"annotations\":{\"vireo.io/sim\":\"crash\"}}}");
    turns(SECONDS(8));
    SAYS("pods", "x/p", "status/phase", "Failed");
    SAYS("virtualmachineinstances", "x/v", "status/phase", "Failed");
}

static void an_evicted_pod_says_why(void **state)
{
    (void)state;
    begin(false);
    run_machine();
    fake_merge(w.client, "pods", "x/p", "{\"metadata\":{\"annotations\":{\"vireo.io/sim\":\"evict\"}}}");
    turns(SECONDS(8));
    SAYS("pods", "x/p", "status/phase", "Failed");
    SAYS("pods", "x/p", "status/reason", "Evicted");
}

static void a_silent_node_says_nothing_and_comes_back_to_its_machine(void **state)
{
    (void)state;
    begin(false);
    run_machine();
    fake_merge(w.client, "nodes", "sim-1", "{\"metadata\":{\"annotations\":{\"vireo.io/sim\":\"silent\"}}}");
    turns(SECONDS(4));
    fake_log_clear(w.client);
    bind("q", "virt-launcher", "sim-1");
    turns(SECONDS(100));
    assert_null(strstr(fake_log(w.client), "sim-1"));
    assert_null(strstr(fake_log(w.client), "pods"));
    assert_null(strstr(fake_log(w.client), "virtualmachineinstances"));
    fake_merge(w.client, "nodes", "sim-1", "{\"metadata\":{\"annotations\":{\"vireo.io/sim\":null}}}");
    turns(SECONDS(8));
    SAYS("pods", "x/q", "status/phase", "Running");
    SAYS("virtualmachineinstances", "x/v", "status/phase", "Running");
    assert_int_equal(sim_count(w.sim).running, 2);
    fake_delete(w.client, "virtualmachineinstances", "x/v"); /* the new agent holds the machine */
    turns(SECONDS(8));
    SAYS("virtualmachineinstances", "x/v", "status/phase", "Succeeded");
}

static void other_pods_stay_pending_and_say_why_or_are_played(void **state)
{
    (void)state;
    begin(false);
    bind("web", "", "sim-0");
    turns(SECONDS(8));
    SAYS("pods", "x/web", "status/phase", "Pending");
    SAYS("pods", "x/web", "status/containerStatuses/0/state/waiting/reason", "Simulated");
    fake_delete(w.client, "pods", "x/web");
    turns(SECONDS(4));
    kubelet_takes_away("web");
    fake_log_clear(w.client);
    sim_free(w.sim);
    begin(true);
    bind("web", "", "sim-0");
    turns(SECONDS(8));
    SAYS("pods", "x/web", "status/phase", "Running");
    fake_delete(w.client, "pods", "x/web");
    turns(SECONDS(8));
    kubelet_takes_away("web");
}

static void a_pod_on_another_node_is_not_looked_at(void **state)
{
    (void)state;
    begin(false);
    fake_log_clear(w.client);
    bind("p", "virt-launcher", "real");
    turns(SECONDS(8));
    assert_int_equal(fake_writes(w.client, "pods"), 0);
}

static void a_write_that_fails_is_said_again(void **state)
{
    (void)state;
    begin(false);
    fake_fail(w.client, "pods", CLIENT_PATCH_STRATEGIC, 3, ERROR_TOO_MANY, "slow down");
    run_machine();
    SAYS("pods", "x/p", "status/phase", "Running");
}

static void at_the_end_nodes_are_not_ready_or_gone(void **state)
{
    (void)state;
    begin(false);
    sim_stop(w.sim, false, on_stopped, NULL);
    turns(SECONDS(4));
    assert_true(w.stopped);
    assert_true(condition_is(object("nodes", "sim-0"), "Ready", "False"));
    sim_free(w.sim);
    w.stopped = false;
    begin(false); /* and who comes again takes them up */
    assert_true(condition_is(object("nodes", "sim-0"), "Ready", "True"));
    sim_stop(w.sim, true, on_stopped, NULL);
    turns(SECONDS(4));
    assert_true(w.stopped);
    assert_int_equal(fake_count(w.client, "nodes"), 0);
    assert_int_equal(fake_count(w.client, "leases"), 0);
}

static void what_cannot_be_is_refused(void **state)
{
    static const struct {
        struct sim_config c;
        const char *says;
    } rows[] = {{{.nodes = 0}, "nodes: 0 is not between 1 and 5000"},
                {{.nodes = 5001}, "nodes: 5001"},
                {{.nodes = 1, .prefix = "Sim"}, "prefix 'Sim'"},
                {{.nodes = 1, .prefix = "-a"}, "prefix '-a'"},
                {{.nodes = 1, .prefix = ""}, "prefix"},
                {{.nodes = 1, .cpu = "many"}, "cpu"},
                {{.nodes = 1, .memory = "0"}, "memory: '0' is no capacity"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(error_clear) struct error err = {0};
        struct sim_config c = rows[i].c;

        c.client = w.client;
        assert_false(sim_new(&c, &w.sim, &err));
        assert_non_null(strstr(error_text(&err), rows[i].says));
    }
    w.sim = NULL;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nodes_are_made_marked_and_kept_alive),
        TEST(a_node_of_somebody_else_is_not_touched),
        TEST(a_machine_runs_and_is_told_by_three_writes),
        TEST(a_deleted_machine_shuts_down_and_its_pod_goes),
        TEST(a_pod_that_is_told_to_crash_fails_and_so_does_its_machine),
        TEST(an_evicted_pod_says_why),
        TEST(a_silent_node_says_nothing_and_comes_back_to_its_machine),
        TEST(other_pods_stay_pending_and_say_why_or_are_played),
        TEST(a_pod_on_another_node_is_not_looked_at),
        TEST(a_write_that_fails_is_said_again),
        TEST(at_the_end_nodes_are_not_ready_or_gone),
        TEST(what_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
