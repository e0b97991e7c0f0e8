/* pod/pod_test - a runtime with real containers, and doubles for network and images. */
#pragma once
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
                               "  test -c /dev/net/tun && : 4<>/dev/net/tun && echo has-tun\n"
                               "  perl -e 'open(F,\"+<\",\"/dev/net/tun\")||die; my $r=pack(\"a16sx22\",\"tap%d\",0x5002);"
                               " ioctl(F,0x400454ca,$r)?print \"made-a-tap\\n\":print \"no-new-tap\\n\"'\n"
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

static inline void give(void *arg)
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

static inline bool can_run(void)
{
    return geteuid() == 0 && (access("/usr/bin/crun", X_OK) == 0 || access("/usr/local/bin/crun", X_OK) == 0);
}

/* Names the cgroups: a suite that runs beside this one must not take our pods for its own. */
static inline const char *instance(void)
{
    static char name[32];

    snprintf(name, sizeof name, "podtest%d", (int)getpid());
    return name;
}

static inline struct pod_runtime *new_runtime(struct fixture *f)
{
    struct error err = {0};
    char path[128];

    snprintf(path, sizeof path, "%s/launcher.sh", f->dir);
    struct pod_runtime *r = pod_runtime_new(&(struct pod_runtime_config){.client = f->client, .dirfd = f->dirfd, .dir = f->dir,
                                                                         .instance = instance(), .node_name = "n1",
                                                                         .launcher = path, .uid_base = UID_BASE},
                                            &err);
    if (!r)
        fail_msg("%s", error_text(&err));
    return r;
}

static inline void write_file(struct fixture *f, const char *path, const char *text)
{
    int fd = openat(f->dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static inline int setup(void **state)
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

static inline void stopped(void *user) { ((struct fixture *)user)->stopped = true; }

static inline void turn_until(struct fixture *f, bool (*done)(struct fixture *f), const char *what)
{
    int64_t until = loop_now_ns(f->loop) + SECONDS(120);

    while (!done(f)) {
        if (loop_now_ns(f->loop) > until)
            fail_msg("timeout: %s", what);
        loop_turn(f->loop, MILLIS(20));
    }
}

static inline bool is_stopped(struct fixture *f) { return f->stopped; }

static inline int teardown(void **state)
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

static inline void create_pod(struct fixture *f, const char *name, const char *vmi, const char *args, const char *volumes,
                       const char *mounts)
{
    AUTO_FREE char *text = xasprintf(
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"namespace\":\"default\",\"name\":\"%s\",\"labels\":"
        "{\"kubevirt.io/created-by\":\"%s\"}},\"spec\":{\"nodeName\":\"n1\",\"hostname\":\"vm1\",\"containers\":[{\"name\":"
        "\"compute\",\"image\":\"vireo.io/launcher:1\",\"command\":[\"" KV_LAUNCHER_PATH "\",%s],\"volumeMounts\":[%s],"
        "\"resources\":{\"requests\":{\"cpu\":\"100m\",\"memory\":\"64Mi\"},\"limits\":{\"memory\":\"128Mi\",\"devices.kubevirt.io/tun\":\"1\"}}}],"
        "\"volumes\":[%s]}}",
        name, vmi, args, mounts, volumes);

    fake_create(f->client, "pods", text);
}

static inline const struct json *get_pod(struct fixture *f, const char *name, struct arena *a)
{
    AUTO_FREE char *key = xasprintf("default/%s", name);

    return fake_get(f->client, "pods", key, a);
}

static const char *wait_name, *wait_phase;

static inline bool has_phase(struct fixture *f)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *pod = get_pod(f, wait_name, &a);

    return pod && str_is(json_str_at(pod, "status/phase"), wait_phase);
}

static inline void await_phase(struct fixture *f, const char *name, const char *phase)
{
    wait_name = name;
    wait_phase = phase;
    turn_until(f, has_phase, phase);
}

/* The only pod that the runtime knows under that name. */
static inline struct pod *known(struct fixture *f, const char *name)
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

static inline char *read_log(struct fixture *f, const char *uid)
{
    AUTO_FREE char *path = xasprintf("pods/%s/" LOG_NAME, uid);
    struct error err = {0};
    struct buf text = {0};

    if (!file_read(f->dirfd, path, &text, &err))
        fail_msg("%s", error_text(&err));
    return buf_detach(&text);
}

static inline void restart(struct fixture *f)
{
    pod_runtime_free(f->runtime);
    f->runtime = new_runtime(f);
    pod_runtime_start(f->runtime);
}

static const char *wait_reason;

static inline bool has_reason(struct fixture *f)
{
    AUTO(arena_done) struct arena a = {0};

    return str_is(json_str_at(get_pod(f, "p", &a), "status/containerStatuses/0/state/waiting/reason"), wait_reason);
}
