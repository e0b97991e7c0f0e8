/* The runtime with real containers (crun, as root), a fake API, and doubles of the network's and the images' two calls. */
#include "pod/pod_test.h"

static void test_exit_status(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct fixture *f = *state;
    const struct json *pod, *end;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"exit\",\"3\"", "", "");
    await_phase(f, "p", "Failed");
    pod = get_pod(f, "p", &a);
    end = json_at(pod, "status/containerStatuses/0/state/terminated");
    assert_int_equal(json_i64_at(end, "exitCode", -1), 3);
    assert_true(str_is(json_str_at(end, "reason"), "Error"));
    assert_true(str_is(json_str_at(end, "message"), "bye"));
    assert_true(str_is(json_str_at(pod, "status/qosClass"), "Burstable"));
    assert_true(str_is(json_str_at(pod, "status/podIP"), "10.9.0.7"));
    create_pod(f, "q", "vmi-2", "\"exit\",\"0\"", "", "");
    await_phase(f, "q", "Succeeded");
}

static bool pod_deleted(struct fixture *f) { return strstr(fake_log(f->client), "delete pods p") != NULL; }

static bool pod_forgotten(struct fixture *f) { return f->runtime->pods.n == 0; }

static bool has_said(struct fixture *f, const char *uid, const char *text)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *path = xasprintf("pods/%s/compute.log", uid);

    buf_init(&b, 1u << 20);
    return file_read(f->dirfd, path, &b, &err) && b.p && strstr(b.p, text);
}

static void test_adopt_and_delete(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct fixture *f = *state;
    const struct json *pod;
    AUTO_FREE char *uid = NULL, *path = NULL, *netns = NULL;
    pid_t pid;

    NEEDS_CRUN();
    int64_t from = loop_now_ns(f->loop);
    create_pod(f, "p", "vmi-1", "\"run\"", "", "");
    await_phase(f, "p", "Running");
    print_message("created to Running: %lld ms\n", (long long)((loop_now_ns(f->loop) - from) / MILLIS(1)));
    pod = get_pod(f, "p", &a);
    assert_true(str_is(json_str_at(pod, "status/conditions/1/status"), "True"));
    assert_true(json_bool_at(pod, "status/containerStatuses/0/ready", false));
    assert_int_equal(fake_writes(f->client, "pods"), 1);
    pid = known(f, "p")->rec.pid;
    uid = xstrdup(known(f, "p")->rec.uid);

    restart(f);
    turn_until(f, has_phase, "adopted");
    assert_non_null(known(f, "p"));
    assert_int_equal(known(f, "p")->state, POD_RUNNING);
    assert_int_equal(known(f, "p")->rec.pid, pid);
    assert_int_equal(adds, 3); /* two of the test before */

    path = xasprintf("pods/%s", uid);
    netns = xasprintf("run/netns/%s", uid);
    assert_true(file_exists(f->dirfd, path));
    for (int i = 0; i < 1000 && !has_said(f, uid, "hello"); i++)
        loop_turn(f->loop, MILLIS(10));
    assert_true(has_said(f, uid, "hello")); /* so its trap is set */
    fake_delete(f->client, "pods", "default/p");
    turn_until(f, pod_deleted, "the final delete");
    pod = get_pod(f, "p", &a);
    assert_true(str_is(json_str_at(pod, "status/phase"), "Succeeded"));
    assert_int_equal(fake_writes(f->client, "pods"), 3);
    assert_int_equal(kill(pid, 0), -1);
    assert_false(file_exists(f->dirfd, path));
    assert_false(file_exists(f->dirfd, netns));
    fake_remove(f->client, "pods", "default/p");
    turn_until(f, pod_forgotten, "forgotten");
}

static void test_ended_while_away(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct fixture *f = *state;
    pid_t pid;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "", "");
    await_phase(f, "p", "Running");
    pid = known(f, "p")->rec.pid;
    pod_runtime_free(f->runtime);
    kill(pid, SIGKILL);
    f->runtime = new_runtime(f);
    pod_runtime_start(f->runtime);
    await_phase(f, "p", "Failed");
    assert_int_equal(json_i64_at(get_pod(f, "p", &a), "status/containerStatuses/0/state/terminated/exitCode", 0), 137);
}

/* Nobody can tell the exit code of a process of before a reboot, but the launcher's own record. */
static void test_reboot(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct fixture *f = *state;
    AUTO_FREE char *path = NULL;
    struct pod *p;
    struct error err = {0};
    int dirfd;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "{\"name\":\"private\",\"emptyDir\":{}}",
               "{\"name\":\"private\",\"mountPath\":\"" KV_DIR_PRIVATE "\"}");
    create_pod(f, "q", "vmi-2", "\"run\"", "", "");
    await_phase(f, "p", "Running");
    await_phase(f, "q", "Running");
    path = xasprintf("pods/%s/" DIR_EMPTY "/private/termination.json", known(f, "p")->rec.uid);
    write_file(f, path, "{\"v\":1,\"domain\":{\"state\":\"shutdown\"}}");
    for (const char *name = "p"; name; name = *name == 'p' ? "q" : NULL) {
        p = known(f, name);
        process_signal(p->pidfd, SIGKILL);
        snprintf(p->rec.boot_id, sizeof p->rec.boot_id, "another");
        assert_true(pod_open_dir(p, false, &dirfd, &err));
        assert_true(record_write(dirfd, &p->rec, &err));
        close(dirfd);
    }
    restart(f);
    await_phase(f, "p", "Succeeded");
    await_phase(f, "q", "Failed");
    assert_true(str_is(json_str_at(get_pod(f, "q", &a), "status/containerStatuses/0/state/terminated/message"),
                       "the host was restarted while the pod ran"));
}

static const char *deaf;

/* It says so once it does; before, SIGTERM would end it. */
static bool is_deaf(struct fixture *f)
{
    AUTO_FREE char *log = read_log(f, known(f, deaf)->rec.uid);

    return strstr(log, "stubborn") != NULL;
}

static pid_t old_pid;

static bool second_runs(struct fixture *f)
{
    struct pod *p = known(f, "b");

    if (p && p->has_record) /* it is begun: then the first is dead for sure */
        assert_int_equal(kill(old_pid, 0), -1);
    return p && p->state == POD_RUNNING;
}

static void test_force_delete(void **state)
{
    struct fixture *f = *state;
    int64_t from;

    NEEDS_CRUN();
    create_pod(f, "a", "vmi-1", "\"stubborn\"", "", "");
    await_phase(f, "a", "Running");
    old_pid = known(f, "a")->rec.pid;
    deaf = "a";
    turn_until(f, is_deaf, "what ignores SIGTERM");
    from = loop_now_ns(f->loop);
    fake_remove(f->client, "pods", "default/a");
    create_pod(f, "b", "vmi-1", "\"run\"", "", "");
    turn_until(f, second_runs, "second pod");
    assert_true(loop_now_ns(f->loop) - from >= MILLIS(900)); /* it had refused to end by itself */
}

static void patched(void *user, const struct client_response *r)
{
    (void)r;
    *(bool *)user = true;
}

static void fake_merge_status(struct fixture *f, const char *name, const char *text)
{
    AUTO(arena_done) struct arena a = {0};
    struct error err = {0};
    const struct json *body;
    bool done = false;

    assert_true(json_parse(str_of(text), &a, &body, &err));
    client_call(f->client,
                &(struct client_request){.verb = CLIENT_PATCH_MERGE, .group = "", .version = "v1", .plural = "pods",
                                         .ns = STR("default"), .name = str_of(name), .subresource = "status", .body = body},
                patched, &done);
    while (!done)
        loop_turn(f->loop, MILLIS(10));
}

static bool second_begins(struct fixture *f)
{
    struct pod *p = known(f, "b");

    if (p->state == POD_STARTING)
        assert_false(cgroup_any(instance(), p->rec.uid) == old_pid);
    return p->state == POD_RUNNING;
}

/* The runtime died between crun's start and its own note of it: what may run is ended before it is begun anew. */
static void test_unclear_start(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct pod *p;
    pid_t pid;
    int dirfd;

    NEEDS_CRUN();
    create_pod(f, "b", "vmi-1", "\"stubborn\"", "", "");
    await_phase(f, "b", "Running");
    deaf = "b";
    turn_until(f, is_deaf, "what ignores SIGTERM");
    p = known(f, "b");
    old_pid = pid = p->rec.pid;
    p->rec.phase = RECORD_PREPARED;
    assert_true(pod_open_dir(p, false, &dirfd, &err));
    assert_true(record_write(dirfd, &p->rec, &err));
    close(dirfd);
    fake_merge_status(f, "b", "{\"status\":{\"phase\":\"Pending\"}}");
    pod_runtime_free(f->runtime);
    f->runtime = new_runtime(f);
    pod_runtime_start(f->runtime);
    assert_true(known(f, "b")->state == POD_KILLING);
    turn_until(f, second_begins, "a new start");
    await_phase(f, "b", "Running");
    assert_int_not_equal(known(f, "b")->rec.pid, pid);
}

static void test_ordinary_pod(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct fixture *f = *state;
    struct str message;

    NEEDS_CRUN();
    fake_create(f->client, "pods",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"p\"},\"spec\":{\"nodeName\":\"n1\",\"containers\":"
                "[{\"name\":\"web\",\"image\":\"nginx\"}]}}");
    await_phase(f, "p", "Failed");
    message = json_str_at(get_pod(f, "p", &a), "status/containerStatuses/0/state/terminated/message");
    assert_true(str_starts(message, STR("only launcher pods of virtual machines run on this node")));
}

/* What a VM that never ran leaves behind: nothing, and nobody waits. */
static void test_delete_before_start(void **state)
{
    struct fixture *f = *state;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "{\"name\":\"s\",\"secret\":{\"secretName\":\"none\"}}",
               "{\"name\":\"s\",\"mountPath\":\"" KV_DIR_SECRET "/s\"}");
    wait_reason = "ContainerCreating";
    turn_until(f, has_reason, "ContainerCreating");
    fake_delete(f->client, "pods", "default/p");
    turn_until(f, pod_deleted, "the final delete");
    fake_remove(f->client, "pods", "default/p");
    turn_until(f, pod_forgotten, "forgotten");
}

/* Whatever it has open, nothing would keep a second one from being started beside it. */
static void test_a_sandbox_without_a_record_does_not_run_on(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *path = NULL, *uid = NULL, *netns = NULL;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "", "");
    await_phase(f, "p", "Running");
    uid = xstrdup(known(f, "p")->rec.uid);
    path = xasprintf("pods/%s/" RECORD_NAME, uid);
    assert_true(cgroup_any(f->runtime->instance, uid) > 0);
    assert_int_equal(unlinkat(f->dirfd, path, 0), 0);
    restart(f);
    assert_int_equal(cgroup_any(f->runtime->instance, uid), 0);
    netns = xasprintf("%s/run/netns/%s", f->runtime->dir, uid);
    umount2(netns, MNT_DETACH); /* what else it had stays for a person to look at */
}

/* A claim names another tenant's volume, but was never bound to it. */
static void test_claimed_but_not_bound(void **state)
{
    struct fixture *f = *state;

    NEEDS_CRUN();
    fake_create(f->client, "persistentvolumeclaims",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"c\"},\"spec\":{\"volumeName\":\"pv-1\"}}");
    create_pod(f, "p", "vmi-1", "\"run\"", "{\"name\":\"d\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}",
               "{\"name\":\"d\",\"mountPath\":\"" KV_DIR_PVC "/d\"}");
    wait_reason = "ContainerCreating";
    turn_until(f, has_reason, "ContainerCreating");
    fake_merge(f->client, "persistentvolumeclaims", "default/c", "{\"status\":{\"phase\":\"Bound\"}}");
    await_phase(f, "p", "Running");
}

static void test_stop_all(void **state)
{
    struct fixture *f = *state;
    pid_t one, two;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "", "");
    create_pod(f, "q", "vmi-2", "\"stubborn\"", "", "");
    await_phase(f, "p", "Running");
    await_phase(f, "q", "Running");
    deaf = "q";
    turn_until(f, is_deaf, "what ignores SIGTERM");
    one = known(f, "p")->rec.pid;
    two = known(f, "q")->rec.pid;
    pod_runtime_free(f->runtime);
    f->runtime = new_runtime(f); /* as another program would */
    pod_runtime_stop_all(f->runtime, MILLIS(300), stopped, f);
    turn_until(f, is_stopped, "stop_all");
    assert_int_equal(kill(one, 0), -1);
    assert_int_equal(kill(two, 0), -1);
    f->stopped = false;
    restart(f);
    await_phase(f, "q", "Failed");
    turn_until(f, has_phase, "status of what was stopped");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exit_status, setup, teardown),
        cmocka_unit_test_setup_teardown(test_adopt_and_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ended_while_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reboot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_force_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unclear_start, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ordinary_pod, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_before_start, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_sandbox_without_a_record_does_not_run_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_claimed_but_not_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_all, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
