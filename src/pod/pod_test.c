/* The runtime with real containers (crun, as root), a fake API, and doubles of the network's and the images' two calls. */
#include "base/base_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/kv.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "client/fake_client.h"
#include "http/server.h"
#include "pod/internal.h"

#define UID_BASE 1871000000u

static const char launcher[] = "#!/bin/sh\n"
                               "case \"$1\" in\n"
                               "run) trap 'echo term; exit 0' TERM; echo hello; while :; do sleep 0.02; done;;\n"
                               "stubborn) trap '' TERM; echo stubborn; while :; do sleep 0.02; done;;\n"
                               "count) for i in 1 2 3 4 5 6; do echo line $i; sleep 0.1; done;;\n"
                               "exit) echo bye; exit $2;;\n"
                               "look) id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status\n"
                               "  cat /var/run/kubevirt-private/secret/s/key /var/run/kubevirt-private/config-map/m/sub/file\n"
                               "  cat /var/run/kubevirt/container-disks/i/disk/guest.img; head -2 /etc/passwd; ls /\n"
                               "  echo x >/var/run/kubevirt-private/vmi-disks/d/new && echo written\n"
                               "  echo x >/var/run/kubevirt/container-disks/i/new || echo refused\n"
                               "  echo x >/usr/new || echo refused; unshare -U true || echo refused\n"
                               "  test -c /dev/kvm && : 3<>/dev/kvm && echo kvm\n"
                               "  mount | grep -c 'kubevirt.*nosuid,nodev,noexec'; ls -l /proc/self/fd; echo end\n"
                               "  echo told >/dev/termination-log; exit 1;;\n"
                               "esac\n";

struct fixture {
    char dir[64];
    int dirfd;
    struct loop *loop;
    struct client *client;
    struct pod_runtime *runtime;
    bool stopped;
};

/* ---- doubles ---- */

static unsigned adds, dels;
static struct loop *double_loop;
static char *image_root, *image_auths; /* with which credentials the last one was asked for */

struct answer {
    void (*net)(void *user, const struct network_pod *p, const struct error *err);
    void (*gone)(void *user, const struct error *err);
    void *user;
};

static void give(void *arg)
{
    struct answer *a = arg;
    struct network_pod p = {.ip = "10.9.0.7", .gateway = "10.9.0.1", .prefix = 16};

    if (a->net)
        a->net(a->user, &p, NULL);
    else
        a->gone(a->user, NULL);
    free(a);
}

void network_pod_add(struct network *n, const char *pod_uid, const char *ns, const char *name, const char *netns_path,
                     void (*done)(void *user, const struct network_pod *p, const struct error *err), void *user)
{
    struct answer *a = NEW(struct answer);
    pid_t pid;

    (void)n, (void)pod_uid, (void)ns, (void)name;
    umount2(netns_path, MNT_DETACH);
    pid = fork();
    if (pid == 0)
        _exit(unshare(CLONE_NEWNET) < 0 || mount("/proc/self/ns/net", netns_path, NULL, MS_BIND, NULL) < 0);
    waitpid(pid, NULL, 0);
    adds++;
    *a = (struct answer){.net = done, .user = user};
    loop_post(double_loop, give, free, a);
}

void network_pod_del(struct network *n, const char *pod_uid, const char *netns_path,
                     void (*done)(void *user, const struct error *err), void *user)
{
    struct answer *a = NEW(struct answer);

    (void)n, (void)pod_uid;
    umount2(netns_path, MNT_DETACH);
    dels++;
    *a = (struct answer){.gone = done, .user = user};
    loop_post(double_loop, give, free, a);
}

void image_store_pull(struct image_store *s, const struct image_pull *p)
{
    struct error err = {.kind = ERROR_NOT_FOUND, .msg = (char *)(uintptr_t)"no such image"};

    (void)s;
    free(image_auths);
    image_auths = p->auths ? json_text(p->auths) : NULL;
    if (image_root)
        p->done(p->user, open(image_root, O_PATH | O_CLOEXEC), image_root, "sha256:00", &(struct error){0});
    else
        p->done(p->user, -1, NULL, NULL, &err);
}

static char pruned[256]; /* what was to be kept */

void image_store_prune(struct image_store *s, const char *const *keep)
{
    (void)s;
    pruned[0] = 0;
    for (; *keep; keep++)
        snprintf(pruned + strlen(pruned), sizeof pruned - strlen(pruned), "%s ", *keep);
    snprintf(pruned + strlen(pruned), sizeof pruned - strlen(pruned), ".");
}

/* ---- fixture ---- */

static bool can_run(void)
{
    return geteuid() == 0 && (access("/usr/bin/crun", X_OK) == 0 || access("/usr/local/bin/crun", X_OK) == 0);
}

static struct pod_runtime *new_runtime(struct fixture *f)
{
    struct error err = {0};
    char path[128];

    snprintf(path, sizeof path, "%s/launcher.sh", f->dir);
    struct pod_runtime *r = pod_runtime_new(&(struct pod_runtime_config){.client = f->client, .dirfd = f->dirfd, .dir = f->dir,
                                                                         .instance = "podtest", .node_name = "n1",
                                                                         .launcher = path, .uid_base = UID_BASE},
                                            &err);
    if (!r)
        fail_msg("%s", error_text(&err));
    return r;
}

static void write_file(struct fixture *f, const char *path, const char *text)
{
    int fd = openat(f->dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);

    *state = f;
    if (!can_run())
        return 0;
    log_setup("test", LOG_WARNING, false);
    snprintf(f->dir, sizeof f->dir, "/tmp/vireo-pod-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(chmod(f->dir, 0711), 0);
    f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    write_file(f, "launcher.sh", launcher);
    f->loop = double_loop = loop_new(NULL);
    f->client = fake_client_new(f->loop);
    f->runtime = new_runtime(f);
    pod_runtime_start(f->runtime);
    return 0;
}

static void stopped(void *user) { ((struct fixture *)user)->stopped = true; }

static void turn_until(struct fixture *f, bool (*done)(struct fixture *f), const char *what)
{
    int64_t until = loop_now_ns(f->loop) + SECONDS(20);

    while (!done(f)) {
        if (loop_now_ns(f->loop) > until)
            fail_msg("timeout: %s", what);
        loop_turn(f->loop, MILLIS(20));
    }
}

static bool is_stopped(struct fixture *f) { return f->stopped; }

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};

    if (can_run()) {
        if (!f->stopped) {
            if (!f->runtime)
                f->runtime = new_runtime(f);
            pod_runtime_stop_all(f->runtime, MILLIS(100), stopped, f);
            turn_until(f, is_stopped, "stop_all");
        }
        pod_runtime_free(f->runtime);
        client_free(f->client);
        loop_free(f->loop);
        close(f->dirfd);
        if (!file_remove_tree(AT_FDCWD, f->dir, &err))
            fail_msg("%s", error_text(&err));
    }
    free(image_root);
    free(image_auths);
    image_root = image_auths = NULL;
    free(f);
    return 0;
}

#define NEEDS_CRUN()                                                                                                             \
    do {                                                                                                                         \
        if (!can_run()) {                                                                                                        \
            print_message("skipped: needs root and crun\n");                                                                     \
            skip();                                                                                                              \
        }                                                                                                                        \
    } while (0)

static void create_pod(struct fixture *f, const char *name, const char *vmi, const char *args, const char *volumes,
                       const char *mounts)
{
    AUTO_FREE char *text = xasprintf(
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"namespace\":\"default\",\"name\":\"%s\",\"labels\":"
        "{\"kubevirt.io/created-by\":\"%s\"}},\"spec\":{\"nodeName\":\"n1\",\"hostname\":\"vm1\",\"containers\":[{\"name\":"
        "\"compute\",\"image\":\"vireo.io/launcher:1\",\"command\":[\"" KV_LAUNCHER_PATH "\",%s],\"volumeMounts\":[%s],"
        "\"resources\":{\"requests\":{\"cpu\":\"100m\",\"memory\":\"64Mi\"},\"limits\":{\"memory\":\"128Mi\"}}}],"
        "\"volumes\":[%s]}}",
        name, vmi, args, mounts, volumes);

    fake_create(f->client, "pods", text);
}

static const struct json *get_pod(struct fixture *f, const char *name, struct arena *a)
{
    AUTO_FREE char *key = xasprintf("default/%s", name);

    return fake_get(f->client, "pods", key, a);
}

static const char *wait_name, *wait_phase;

static bool has_phase(struct fixture *f)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *pod = get_pod(f, wait_name, &a);

    return pod && str_is(json_str_at(pod, "status/phase"), wait_phase);
}

static void await_phase(struct fixture *f, const char *name, const char *phase)
{
    wait_name = name;
    wait_phase = phase;
    turn_until(f, has_phase, phase);
}

/* The only pod that the runtime knows under that name. */
static struct pod *known(struct fixture *f, const char *name)
{
    AUTO_FREE char *key = xasprintf("default/%s", name);
    size_t at = 0;
    struct str uid;
    void *value;

    while (map_next(&f->runtime->pods, &at, &uid, &value))
        if (strcmp(((struct pod *)value)->key, key) == 0)
            return value;
    return NULL;
}

static char *read_log(struct fixture *f, const char *uid)
{
    AUTO_FREE char *path = xasprintf("pods/%s/" LOG_NAME, uid);
    struct error err = {0};
    struct buf text = {0};

    if (!file_read(f->dirfd, path, &text, &err))
        fail_msg("%s", error_text(&err));
    return buf_detach(&text);
}

static void restart(struct fixture *f)
{
    pod_runtime_free(f->runtime);
    f->runtime = new_runtime(f);
    pod_runtime_start(f->runtime);
}

/* ---- tests ---- */

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
    for (int i = 0; i < 20; i++)
        loop_turn(f->loop, MILLIS(10)); /* the shell sets its trap */
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
    for (int i = 0; i < 20; i++)
        loop_turn(f->loop, MILLIS(10));
    from = loop_now_ns(f->loop);
    fake_remove(f->client, "pods", "default/a");
    create_pod(f, "b", "vmi-1", "\"run\"", "", "");
    turn_until(f, second_runs, "second pod");
    assert_true(loop_now_ns(f->loop) - from >= MILLIS(900)); /* it had refused to end by itself */
}

static const char *wait_reason;

static bool has_reason(struct fixture *f)
{
    AUTO(arena_done) struct arena a = {0};

    return str_is(json_str_at(get_pod(f, "p", &a), "status/containerStatuses/0/state/waiting/reason"), wait_reason);
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
        assert_false(cgroup_any("podtest", p->rec.uid) == old_pid);
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

static void test_volumes(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct fixture *f = *state;
    AUTO_FREE char *log = NULL;
    struct stat st;

    NEEDS_CRUN();
    image_root = xasprintf("%s/image", f->dir);
    assert_int_equal(mkdirat(f->dirfd, "image", 0755), 0);
    assert_int_equal(mkdirat(f->dirfd, "image/disk", 0755), 0);
    write_file(f, "image/disk/guest.img", "from-image\n");
    assert_int_equal(mkdirat(f->dirfd, "volumes", 0711), 0);
    assert_int_equal(mkdirat(f->dirfd, "volumes/pv-1", 0700), 0);
    write_file(f, "volumes/pv-1/disk.img", "disk");
    fake_create(f->client, "secrets", "{\"metadata\":{\"namespace\":\"default\",\"name\":\"s\"},\"data\":{\"key\":\"c2VjcmV0Cg==\"}}");
    fake_create(f->client, "configmaps",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"m\"},\"data\":{\"k\":\"from-map\\n\"}}");
    fake_create(f->client, "persistentvolumeclaims",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"c\"},\"spec\":{\"volumeName\":\"pv-1\",\"accessModes\":"
                "[\"ReadWriteOnce\"]},\"status\":{\"phase\":\"Bound\"}}");
    create_pod(f, "p", "vmi-1", "\"look\"",
               "{\"name\":\"private\",\"emptyDir\":{}},{\"name\":\"public\",\"emptyDir\":{}},{\"name\":\"s\",\"secret\":"
               "{\"secretName\":\"s\"}},{\"name\":\"m\",\"configMap\":{\"name\":\"m\",\"items\":[{\"key\":\"k\",\"path\":"
               "\"sub/file\"}]}},{\"name\":\"i\",\"image\":{\"reference\":\"x\"}},{\"name\":\"d\",\"persistentVolumeClaim\":"
               "{\"claimName\":\"c\"}}",
               "{\"name\":\"i\",\"mountPath\":\"" KV_DIR_CONTAINER_DISK "/i\"},{\"name\":\"public\",\"mountPath\":\"" KV_DIR_PUBLIC
               "\"},{\"name\":\"private\",\"mountPath\":\"" KV_DIR_PRIVATE "\"},{\"name\":\"s\",\"mountPath\":\"" KV_DIR_SECRET
               "/s\"},{\"name\":\"m\",\"mountPath\":\"" KV_DIR_CONFIG_MAP "/m\"},{\"name\":\"d\",\"mountPath\":\"" KV_DIR_PVC
               "/d\"}");
    await_phase(f, "p", "Failed");
    log = read_log(f, known(f, "p")->rec.uid);
    print_message("%s", log);
    assert_non_null(strstr(log, "107\n"));
    assert_non_null(strstr(log, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(log, "CapBnd:\t0000000000000000"));
    assert_non_null(strstr(log, "NoNewPrivs:\t1"));
    assert_non_null(strstr(log, "Seccomp:\t2"));
    assert_non_null(strstr(log, "secret\nfrom-map\nfrom-image\n"));
    assert_non_null(strstr(log, "written\n"));
    assert_non_null(strstr(log, "refused"));
    assert_true(str_is(json_str_at(get_pod(f, "p", &a), "status/containerStatuses/0/state/terminated/message"), "told\n"));
    assert_int_equal(fstatat(f->dirfd, "volumes/pv-1/disk.img", &st, 0), 0);
    assert_int_equal(st.st_uid, UID_BASE + 1);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_int_equal(st.st_uid, 0);
}

/* ---- logs ---- */

static struct buf reply;
static int reply_fd = -1;

static void handle(struct exchange *x, void *data)
{
    struct fixture *f = data;

    if (!pod_runtime_http(f->runtime, x))
        exchange_respond(x, 404, "text/plain", STR("not its path"));
}

static bool read_reply(struct fixture *f)
{
    char bytes[4096];
    ssize_t n;

    (void)f;
    while ((n = recv(reply_fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        buf_add(&reply, bytes, (size_t)n);
    return n == 0;
}

static const char *wait_text;

static bool has_text(struct fixture *f)
{
    read_reply(f);
    return reply.n && strstr(reply.p, wait_text);
}

static void ask_log(struct http_server *server, const char *target)
{
    AUTO_FREE char *request = xasprintf("GET %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", target);
    struct error err = {0};
    int ends[2];

    buf_clear(&reply);
    fd_close(&reply_fd);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    reply_fd = ends[0];
    assert_true(http_server_add(server, ends[1], NULL, &err));
    assert_int_equal(write(reply_fd, request, strlen(request)), (ssize_t)strlen(request));
}

static void test_log(void **state)
{
    struct fixture *f = *state;
    struct http_server *server;
    AUTO_FREE char *path = NULL;
    AUTO_CLOSE int fd = -1;

    NEEDS_CRUN();
    server = http_server_new(&(struct http_server_config){.loop = f->loop, .handle = handle, .data = f});
    create_pod(f, "p", "vmi-1", "\"count\"", "", "");
    await_phase(f, "p", "Running");
    ask_log(server, "/v1/pods/default/p/log?follow=true&container=compute");
    wait_text = "line 3";
    turn_until(f, has_text, "what is written while it is followed");
    await_phase(f, "p", "Succeeded");
    turn_until(f, read_reply, "the end of a followed log");
    assert_non_null(strstr(reply.p, "line 1"));
    assert_non_null(strstr(reply.p, "line 6"));

    ask_log(server, "/v1/pods/default/p/log?tailLines=2");
    turn_until(f, read_reply, "tail");
    assert_null(strstr(reply.p, "line 4"));
    assert_non_null(strstr(reply.p, "line 5\nline 6\n"));

    ask_log(server, "/v1/pods/default/p/log?limitBytes=10");
    turn_until(f, read_reply, "limit");
    assert_non_null(strstr(reply.p, "line 1\nlin"));
    assert_null(strstr(reply.p, "line 2"));

    /* A file that its writer made seem endless does not keep the node process reading. */
    path = xasprintf("pods/%s/" LOG_NAME, known(f, "p")->rec.uid);
    fd = openat(f->dirfd, path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)1 << 42), 0);
    ask_log(server, "/v1/pods/default/p/log?tailLines=3&limitBytes=1");
    turn_until(f, read_reply, "tail of an endless file");
    assert_int_equal(ftruncate(fd, 0), 0);
    fd_close(&fd);

    ask_log(server, "/v1/pods/default/p/log?tailLines=x");
    turn_until(f, read_reply, "bad number");
    assert_non_null(strstr(reply.p, "400"));
    ask_log(server, "/v1/pods/default/none/log");
    turn_until(f, read_reply, "no such pod");
    assert_non_null(strstr(reply.p, "404"));
    fd_close(&reply_fd);
    buf_done(&reply);
    http_server_free(server);
}

static void test_log_is_bounded(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *path = NULL, *old = NULL, *text = NULL;
    struct stat st;
    int fd;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "", "");
    await_phase(f, "p", "Running");
    path = xasprintf("pods/%s/" LOG_NAME, known(f, "p")->rec.uid);
    old = xasprintf("pods/%s/" LOG_OLD_NAME, known(f, "p")->rec.uid);
    fd = openat(f->dirfd, path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, LIMIT_LOG_FILE + 4096), 0);
    assert_int_equal(write(fd, "last\n", 5), 5);
    f->runtime->log_timer.fn(&f->runtime->log_timer);
    assert_int_equal(write(fd, "next\n", 5), 5);
    close(fd);
    assert_int_equal(fstatat(f->dirfd, old, &st, 0), 0);
    assert_int_equal(st.st_size, LIMIT_LOG_FILE);
    text = read_log(f, known(f, "p")->rec.uid);
    assert_string_equal(text, "next\n");
}

static void test_image_missing(void **state)
{
    struct fixture *f = *state;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "{\"name\":\"i\",\"image\":{\"reference\":\"x\"}}",
               "{\"name\":\"i\",\"mountPath\":\"" KV_DIR_CONTAINER_DISK "/i\"}");
    wait_reason = "ErrImagePull";
    turn_until(f, has_reason, "ErrImagePull");
    image_root = xstrdup("/usr/share");
    await_phase(f, "p", "Running");
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

static bool is_synced(struct fixture *f) { return f->runtime->synced; }

/* What a running pod's record names is kept, also by a runtime that was started again; what no pod uses is not. */
static void test_images_in_use(void **state)
{
    struct fixture *f = *state;

    NEEDS_CRUN();
    image_root = xstrdup("/usr/share");
    create_pod(f, "p", "vmi-1", "\"run\"",
               "{\"name\":\"i\",\"image\":{\"reference\":\"x\"}},{\"name\":\"j\",\"image\":{\"reference\":\"x\"}}",
               "{\"name\":\"i\",\"mountPath\":\"" KV_DIR_CONTAINER_DISK "/i\"}");
    await_phase(f, "p", "Running");
    prune_now(f->runtime);
    assert_string_equal(pruned, "sha256:00 .");
    restart(f);
    pruned[0] = 0;
    prune_now(f->runtime); /* not before all pods are known */
    assert_string_equal(pruned, "");
    turn_until(f, is_synced, "synced");
    prune_now(f->runtime);
    assert_string_equal(pruned, "sha256:00 .");
}

/* Pull secrets of the pod's namespace: both forms count, what is missing or of another type is told and not waited for. */
static void test_pull_secrets(void **state)
{
    struct fixture *f = *state;

    NEEDS_CRUN();
    image_root = xstrdup("/usr/share");
    fake_create(f->client, "secrets",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"new\"},\"type\":\"kubernetes.io/dockerconfigjson\",\"data\":{"
                "\".dockerconfigjson\":\"eyJhdXRocyI6eyJhIjp7InVzZXJuYW1lIjoidSIsInBhc3N3b3JkIjoicCJ9fX0=\"}}");
    fake_create(f->client, "secrets",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"old\"},\"type\":\"kubernetes.io/dockercfg\",\"data\":{"
                "\".dockercfg\":\"eyJhIjp7InVzZXJuYW1lIjoieCJ9LCJiIjp7ImF1dGgiOiJ6In19\"}}");
    fake_create(f->client, "secrets",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"opaque\"},\"type\":\"Opaque\",\"data\":{"
                "\".dockerconfigjson\":\"eyJhdXRocyI6eyJjIjp7fX19\"}}");
    fake_create(f->client, "secrets",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"broken\"},\"type\":\"kubernetes.io/dockerconfigjson\",\"data\":{"
                "\".dockerconfigjson\":\"e3t7\"}}");
    create_pod(f, "p", "vmi-1", "\"run\"",
               "{\"name\":\"i\",\"image\":{\"reference\":\"x\"}}],\"imagePullSecrets\":[{\"name\":\"new\"},{\"name\":\"missing\"},"
               "{\"name\":\"opaque\"},{\"name\":\"broken\"},{\"name\":\"old\"}",
               "{\"name\":\"i\",\"mountPath\":\"" KV_DIR_CONTAINER_DISK "/i\"}");
    await_phase(f, "p", "Running");
    assert_string_equal(image_auths, "{\"a\":{\"username\":\"u\",\"password\":\"p\"},\"b\":{\"auth\":\"z\"}}");
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
        cmocka_unit_test_setup_teardown(test_volumes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_image_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_sandbox_without_a_record_does_not_run_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_images_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pull_secrets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_claimed_but_not_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_all, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
