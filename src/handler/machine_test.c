/* The agent's side of a VM, against a launcher that is a proto server in this process: real sockets, pods directory and checks of
 * the peer, an API server in memory. */
#include "json/json_test.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/file.h"
#include "client/fake_client.h"
#include "handler/internal.h"

#define RUNS "{\"state\":\"running\",\"machine\":\"pc-q35-7.2\",\"accelerator\":\"tcg\"}"
#define UID  "00000000-0000-4000-8000-000000000001" /* the first that the fake API server gives */

struct world {
    struct loop *loop;
    struct client *client;
    struct handler *handler;
    struct arena a;
    char dir[32], pod[8];
    int pods, volumes; /* directory fds: pods, and the pod's empty-dir volumes */
    int listen_fd;
    struct loop_io io;
    struct proto_conn *agent; /* the launcher's end */
    const char *domain;       /* what subscribe answers */
    int64_t version;          /* of the launcher's messages; 0: it does not say */
    char calls[256];
    bool silent;              /* answers nothing but subscribe */
    char vsock[128];          /* of the last sync, as JSON; and how many descriptors came with it */
    size_t n_fds;
};
static struct world w;

/* The launcher */

static void on_call(struct proto_conn *c, const struct json *msg, int *fds, size_t n_fds)
{
    AUTO(arena_done) struct arena a = {0};
    struct str call = json_str_at(msg, "call");
    const struct json *ok = json_object(&a, NULL);
    size_t n = strlen(w.calls);

    (void)fds;
    if (str_is(call, "sync")) {
        AUTO_FREE char *vsock = json_get(msg, "vsock") ? json_text(json_get(msg, "vsock")) : NULL;

        snprintf(w.vsock, sizeof w.vsock, "%s", vsock ? vsock : "none");
        w.n_fds = n_fds;
    }
    snprintf(w.calls + n, sizeof w.calls - n, STR_FMT " ", STR_ARG(call));
    if (str_is(call, "subscribe") || str_is(call, "sync"))
        ok = json_object(&a, "domain", parse(&a, w.domain), "v", w.version ? json_new_i64(&a, w.version) : NULL, NULL);
    else if (w.silent)
        return;
    proto_send(c, json_object(&a, "id", json_get(msg, "id"), "ok", ok, NULL), NULL, 0);
}

static void on_agent_gone(struct proto_conn *c, const struct error *why)
{
    (void)why;
    w.agent = NULL;
    proto_free(c);
}

static void on_agent(struct loop_io *io, uint32_t events)
{
    static const struct proto_handlers handlers = {on_call, on_agent_gone};

    (void)events;
    proto_free(w.agent);
    w.agent = proto_new(w.loop, accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), &handlers, NULL);
}

static void launcher_listens(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    w.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    snprintf(un.sun_path, sizeof un.sun_path, "/proc/self/fd/%d/sockets/" SOCKET_NAME, w.volumes);
    assert_int_equal(bind(w.listen_fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(w.listen_fd, 10), 0);
    loop_io_start(w.loop, &w.io, w.listen_fd, EPOLLIN, on_agent);
}

static void launcher_ends(const char *last_word)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dir = -1;

    loop_io_stop(&w.io);
    fd_close(&w.listen_fd);
    assert_int_equal(unlinkat(w.volumes, "sockets/" SOCKET_NAME, 0), 0);
    if (last_word) {
        assert_true(file_open_dir(w.volumes, "private", &dir, &err));
        assert_true(file_write(dir, TERMINATION_NAME, str_of(last_word), 0644, &err));
    }
    proto_free(w.agent);
    w.agent = NULL;
}

static void turns(int64_t ns)
{
    for (int64_t step = MILLIS(10); ns >= 0; ns -= step) {
        while (loop_turn(w.loop, 0))
            ;
        loop_turn(w.loop, MILLIS(1)); /* sockets take real time */
        loop_fake_advance(w.loop, step);
        if (step < SECONDS(1))
            step *= 2;
    }
    while (loop_turn(w.loop, 0))
        ;
}

static const struct json *vmi(void)
{
    return fake_get(w.client, "virtualmachineinstances", "x/v", &w.a);
}

#define VMI(path) (arena_strdup(&w.a, json_str_at(vmi(), path)))

static bool stranger;

/* The UID of a pod must stand in the cgroup of the launcher, which is this process: its first character does. */
static void choose_pod(void)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};

    assert_true(file_read(AT_FDCWD, "/proc/self/cgroup", &text, &err));
    snprintf(w.pod, sizeof w.pod, "%c", text.p[0]);
    for (char c = 'a'; stranger && c <= 'z'; c++) /* and this one does not */
        if (!strchr(text.p, c))
            snprintf(w.pod, sizeof w.pod, "%c", c);
}

static int make_dir(int at, const char *name)
{
    mkdirat(at, name, 0755);
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* This machine: no KVM; an emulator that is part of us, and a VMM that needs KVM. */
static bool probe_emulator(struct vmm_version *ret, struct error *err)
{
    ret->tcg = ret->kvm = true;
    return vmm_version_parse(STR("emulator 9.1"), ret, err);
}

static bool probe_small(struct vmm_version *ret, struct error *err)
{
    ret->kvm = true;
    return vmm_version_parse(STR("small 9.1"), ret, err);
}

static const struct vmm_driver emulator = {.name = "qemu", .program = "", .probe = probe_emulator};
static const struct vmm_driver small = {.name = "firecracker", .program = "", .probe = probe_small};
static const struct vmm_driver *const drivers[] = {&emulator, &small, NULL};

static const char *vhost_vsock = "/nonexistent", *devices = "", *status = "";

static int setup_with(const char *domain, const char *annotations)
{
    static const struct host_options host = {.kvm = "/nonexistent", .mshv = "/nonexistent", .drivers = drivers, .dirfd = -1};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int pod = -1, volumes = -1;

    memset(&w, 0, sizeof w);
    w.domain = domain;
    w.loop = loop_new_fake();
    w.client = fake_client_new(w.loop);
    choose_pod();
    snprintf(w.dir, sizeof w.dir, "/tmp/machine-test-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    w.pods = open(w.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pod = make_dir(w.pods, w.pod);
    volumes = make_dir(pod, "volumes");
    w.volumes = make_dir(volumes, "kubernetes.io~empty-dir");
    close(make_dir(w.volumes, "sockets"));
    close(make_dir(w.volumes, "private"));
    launcher_listens();
    w.handler = handler_new(&(struct handler_config){.client = w.client,
                                                     .pods_dirfd = w.pods,
                                                     .node_name = "n1",
                                                     .uid_base = 1,
                                                     .embedded = true,
                                                     .vhost_vsock = vhost_vsock,
                                                     .host = &host},
                            &err);
    assert_non_null(w.handler);
    fake_create(
        w.client, "virtualmachineinstances",
        arena_printf(&w.a,
                     "{\"apiVersion\":\"kubevirt.io/"
                     "v1\",\"kind\":\"VirtualMachineInstance\",\"metadata\":{\"namespace\":\"x\","
                     "\"name\":\"v\",\"labels\":{\"kubevirt.io/"
                     "nodeName\":\"n1\"},\"annotations\":{%s}},\"spec\":{"
                     "\"terminationGracePeriodSeconds\":5,\"domain\":{\"devices\":{%s}}},"
                     "\"status\":{%s\"phase\":"
                     "\"Scheduled\",\"nodeName\":\"n1\",\"activePods\":{\"%s\":\"n1\"}}}",
                     annotations, devices, status, w.pod));
    assert_string_equal(VMI("metadata/uid"), UID);
    handler_start(w.handler);
    turns(SECONDS(1));
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(RUNS, "");
}

static int setup_stranger(void **state)
{
    int result;

    (void)state;
    stranger = true;
    result = setup_with(RUNS, "");
    stranger = false;
    return result;
}

static int setup_small(void **state)
{
    (void)state;
    return setup_with("{\"state\":\"none\"}", "\"vireo.io/vmm\":\"firecracker\"");
}

static int setup_foreign(void **state)
{
    (void)state;
    return setup_with("{\"state\":\"none\"}", "\"vireo.io/vmm\":\"bochs\"");
}

/* A machine that wants a vsock, with this status and this device on the node. */
static int setup_vsock(const char *cid, const char *device)
{
    int result;

    vhost_vsock = device;
    devices = "\"autoattachVSOCK\":true";
    status = cid;
    result = setup_with("{\"state\":\"none\"}", "");
    vhost_vsock = "/nonexistent";
    devices = status = "";
    return result;
}

static int setup_nameless(void **state)
{
    (void)state;
    return setup_vsock("", "/dev/null");
}

static int setup_deviceless(void **state)
{
    (void)state;
    return setup_vsock("\"VSOCKCID\":7,", "/nonexistent");
}

static int setup_talkative(void **state)
{
    (void)state;
    return setup_vsock("\"VSOCKCID\":7,", "/dev/null"); /* opens, as the device would */
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    handler_free(w.handler);
    client_free(w.client);
    proto_free(w.agent);
    loop_io_stop(&w.io);
    loop_free(w.loop);
    fd_close(&w.listen_fd);
    fd_close(&w.volumes);
    fd_close(&w.pods);
    arena_done(&w.a);
    if (!file_remove_tree(AT_FDCWD, w.dir, &err))
        print_message("%s\n", error_text(&err));
    return 0;
}

/* On a cluster, where a tenant may have made the pod. */
static void the_hosts_network_is_no_machines(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int host = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int pod = -1;
    uid_t uid = geteuid();

    (void)state;
    assert_true(own >= 0);
    assert_false(peer_network(own, &err));
    assert_non_null(strstr(error_text(&err), "hostNetwork"));
    error_clear(&err);
    if (host >= 0) /* else out of the agent's reach as well */
        assert_false(peer_network(host, &err));
    if (seteuid(0) < 0)
        skip(); /* no root */
    if (unshare(CLONE_NEWNET) == 0) {
        pod = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        assert_int_equal(setns(own, CLONE_NEWNET), 0);
    }
    assert_int_equal(seteuid(uid), 0);
    if (pod < 0)
        skip();
    error_clear(&err);
    assert_true(peer_network(pod, &err));
}

static void finds_what_runs(void **state)
{
    (void)state;
    assert_string_equal(VMI("status/phase"), "Running");
    assert_string_equal(w.calls, "subscribe ");
    assert_true(fake_event_says(w.client, "VirtualMachineInstance started."));
}

/* The socket lies beneath the pod's volume and its peer is the right user, but of another pod. */
static void a_socket_of_another_pod_is_refused(void **state)
{
    (void)state;
    turns(SECONDS(20));
    assert_string_equal(w.calls, ""); /* not a word was said */
    assert_string_equal(VMI("status/phase"), "Scheduled");
    turns(SECONDS(20));
    assert_string_equal(w.calls, "");
    assert_string_equal(VMI("status/phase"), "Failed");
}

static void the_last_word_decides(void **state)
{
    (void)state;
    launcher_ends("{\"v\":1,\"uid\":\"" UID "\",\"domain\":{\"state\":\"shutdown\",\"reason\":\"guest-shutdown\"}}");
    turns(SECONDS(40));
    assert_string_equal(VMI("status/phase"), "Succeeded");
}

static void somebody_elses_last_word_does_not(void **state)
{
    (void)state;
    launcher_ends("{\"v\":1,\"uid\":\"another\",\"domain\":{\"state\":\"shutdown\",\"reason\":\"guest-shutdown\"}}");
    turns(SECONDS(40));
    assert_string_equal(VMI("status/phase"), "Failed");
}

static void a_launcher_that_is_lost_is_a_failed_vm(void **state)
{
    (void)state;
    launcher_ends(NULL);
    turns(SECONDS(20));
    assert_string_equal(VMI("status/phase"), "Running"); /* it may come back */
    turns(SECONDS(20));
    assert_string_equal(VMI("status/phase"), "Failed");
}

static void a_broken_connection_is_made_anew(void **state)
{
    (void)state;
    proto_free(w.agent);
    w.agent = NULL;
    turns(SECONDS(2));
    assert_string_equal(w.calls, "subscribe subscribe ");
    assert_string_equal(VMI("status/phase"), "Running");
    assert_int_equal(fake_count(w.client, "events"), 2); /* said once */
}

/* After a jump over several versions: the machine runs on, and says why nobody attends to it. */
static void a_launcher_of_a_version_too_far_away_is_told(void **state)
{
    (void)state;
    w.version = PROTO_VERSION + 2;
    proto_free(w.agent);
    w.agent = NULL;
    turns(SECONDS(2));
    AUTO_FREE char *conditions = json_text(json_at(vmi(), "status/conditions"));

    assert_null(strstr(w.calls, "sync"));
    assert_non_null(strstr(conditions, "install a version of Vireo between the two"));
    assert_string_equal(VMI("status/phase"), "Running");
}

static void deletion_asks_the_guest_once(void **state)
{
    (void)state;
    fake_merge(w.client, "virtualmachineinstances", "x/v", "{\"metadata\":{\"finalizers\":[\"f\"]}}");
    fake_delete(w.client, "virtualmachineinstances", "x/v");
    turns(SECONDS(3));
    assert_string_equal(w.calls, "subscribe shutdown ");
}

/* What is under way when the VMI or the whole agent goes: the sanitizer looks on. */
static void a_vmi_that_vanishes_ends_what_waits(void **state)
{
    (void)state;
    w.silent = true;
    fake_merge(w.client, "virtualmachineinstances", "x/v", "{\"metadata\":{\"finalizers\":[\"f\"]}}");
    fake_delete(w.client, "virtualmachineinstances", "x/v");
    turns(MILLIS(100));
    assert_string_equal(w.calls, "subscribe shutdown "); /* not answered */
    fake_remove(w.client, "virtualmachineinstances", "x/v");
    turns(SECONDS(2));
    assert_null(vm_find(w.handler, STR("x"), STR("v")));
    assert_null(w.agent); /* the connection is closed, too */
}

static void an_agent_that_stops_ends_what_waits(void **state)
{
    (void)state;
    w.silent = true;
    fake_merge(w.client, "virtualmachineinstances", "x/v", "{\"metadata\":{\"finalizers\":[\"f\"]}}");
    fake_delete(w.client, "virtualmachineinstances", "x/v");
    loop_turn(w.loop, MILLIS(1)); /* in the middle of whatever it does */
    handler_free(w.handler);
    w.handler = NULL;
    turns(SECONDS(1));
    assert_string_equal(VMI("status/phase"), "Running");
}

/* What cannot run here says so within two seconds, and nothing is made for it. */
static void a_vmm_that_needs_kvm_is_refused_with_the_reason(void **state)
{
    (void)state;
    assert_non_null(strstr(VMI("status/conditions/0/message"),
                           "hypervisor firecracker cannot be used on node n1: firecracker needs KVM, which does not work here: /nonexistent"));
    assert_string_equal(w.calls, "subscribe ");
    assert_true(fake_event_says(w.client, "firecracker needs KVM"));
    assert_string_equal(VMI("status/phase"), "Scheduled");
}

static void a_vmm_without_a_driver_is_refused(void **state)
{
    (void)state;
    assert_non_null(strstr(VMI("status/conditions/0/message"), "node n1 has no driver for hypervisor 'bochs'"));
}

/* The network of a machine without interfaces is nothing, but it is made in the pod's namespace, which takes root, a child and its
 * time. False: not here. */
static bool await_sync(void)
{
    uid_t uid = geteuid();

    if (seteuid(0) < 0) {
        print_message("needs root\n");
        return false;
    }
    for (int i = 0; i < 400 && !w.vsock[0]; i++) {
        loop_turn(w.loop, MILLIS(5));
        loop_fake_advance(w.loop, MILLIS(50));
    }
    assert_int_equal(seteuid(uid), 0);
    return true;
}

static void a_vsock_without_a_context_id_waits(void **state)
{
    (void)state;
    assert_non_null(strstr(VMI("status/conditions/0/message"), "status.VSOCKCID is not set"));
    assert_string_equal(w.calls, "subscribe ");
    fake_merge(w.client, "virtualmachineinstances", "x/v", "{\"status\":{\"VSOCKCID\":9}}");
    if (!await_sync())
        skip();
    assert_string_equal(w.vsock, "{\"cid\":9,\"fd\":0}");
}

static void a_vsock_without_the_kernels_device_says_what_to_load(void **state)
{
    (void)state;
    assert_non_null(strstr(VMI("status/conditions/0/message"),
                           "autoattachVSOCK: /nonexistent of node n1 cannot be opened (No such "
                           "file or directory): load the module there"));
    assert_string_equal(w.calls, "subscribe ");
    assert_string_equal(
        arena_strdup(&w.a, json_str_at(fake_get(w.client, "nodes", "n1", &w.a),
                                       "status/allocatable/devices.kubevirt.io~1vhost-vsock")),
        "0");
}

static void a_vsock_comes_with_the_kernels_device(void **state)
{
    (void)state;
    if (!await_sync())
        skip();
    assert_string_equal(w.vsock, "{\"cid\":7,\"fd\":0}");
    assert_int_equal(w.n_fds, 1);
    assert_string_equal(
        arena_strdup(&w.a, json_str_at(fake_get(w.client, "nodes", "n1", &w.a),
                                       "status/allocatable/devices.kubevirt.io~1vhost-vsock")),
        "1000");
}

#define NODE(path) (arena_strdup(&w.a, json_str_at(fake_get(w.client, "nodes", "n1", &w.a), path)))

static const struct json *report_of_node(void)
{
    return parse(&w.a, NODE("metadata/annotations/vireo.io~1hypervisor-report"));
}

static void the_node_tells_and_obeys(void **state)
{
    (void)state;
    assert_string_equal(NODE("metadata/labels/vireo.io~1vmm-qemu"), "true");
    assert_string_equal(NODE("metadata/labels/vireo.io~1vmm-qemu-level"), "901");
    assert_string_equal(NODE("metadata/labels/vireo.io~1vmm-firecracker"), "");
    assert_string_equal(NODE("status/conditions/2/type"), "HypervisorsUsable");
    assert_null(json_get(report_of_node(), "requested"));

    fake_merge(w.client, "nodes", "n1", "{\"metadata\":{\"annotations\":{\"vireo.io/probe-requested\":\"one\"}}}");
    turns(SECONDS(1));
    assert_string_equal(arena_strdup(&w.a, json_str_at(report_of_node(), "requested")), "one");

    fake_merge(w.client, "nodes", "n1", "{\"metadata\":{\"annotations\":{\"vireo.io/hypervisors\":\"firecracker\"}}}");
    turns(SECONDS(1));
    assert_string_equal(NODE("metadata/labels/vireo.io~1vmm-qemu"), "");
    assert_string_equal(arena_strdup(&w.a, json_str_at(report_of_node(), "vmms/0/state")), "withheld");

    fake_merge(w.client, "nodes", "n1", "{\"metadata\":{\"annotations\":{\"vireo.io/hypervisors\":null}}}");
    turns(SECONDS(1));
    assert_string_equal(NODE("metadata/labels/vireo.io~1vmm-qemu"), "true");
}

/* An hour in which nothing changes: a heartbeat a minute, and nothing else is written. */
static void an_idle_node_writes_heartbeats_only(void **state)
{
    size_t before = fake_writes(w.client, "nodes");

    (void)state;
    turns(SECONDS(1800));
    assert_in_range(fake_writes(w.client, "nodes") - before, 1, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_vmm_that_needs_kvm_is_refused_with_the_reason,
                                        setup_small, teardown),
        cmocka_unit_test_setup_teardown(a_vmm_without_a_driver_is_refused, setup_foreign, teardown),
        cmocka_unit_test_setup_teardown(a_vsock_without_a_context_id_waits, setup_nameless,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_vsock_without_the_kernels_device_says_what_to_load,
                                        setup_deviceless, teardown),
        cmocka_unit_test_setup_teardown(a_vsock_comes_with_the_kernels_device, setup_talkative,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_node_tells_and_obeys, setup, teardown),
        cmocka_unit_test_setup_teardown(an_idle_node_writes_heartbeats_only, setup, teardown),
        cmocka_unit_test_setup_teardown(finds_what_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_socket_of_another_pod_is_refused, setup_stranger, teardown),
        cmocka_unit_test(the_hosts_network_is_no_machines),
        cmocka_unit_test_setup_teardown(the_last_word_decides, setup, teardown),
        cmocka_unit_test_setup_teardown(somebody_elses_last_word_does_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_launcher_that_is_lost_is_a_failed_vm, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_connection_is_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(a_launcher_of_a_version_too_far_away_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(deletion_asks_the_guest_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_vmi_that_vanishes_ends_what_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(an_agent_that_stops_ends_what_waits, setup, teardown),
    };

    uid_t uid = geteuid();
    int failed;

    /* The launcher of a VM is never the host's root, and the agent insists. */
    if (uid == 0 && seteuid(12345) < 0)
        return 77;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    /* Both for the leak sanitizer, which looks on from another process. */
    if (seteuid(uid) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
        return 1;
    return failed;
}
