/* vireo stop [--all]: ends a running `vireo serve`; with --all its virtual machines and every host object of the instance, too.
 *
 * Whether a directory is served is known from the lock on it; the pid in the lock file is believed only while that is held. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/instance.h"
#include "cmd/node.h"

#define STOP_GRACE SECONDS(30)

static bool locked(int lock_fd)
{
    if (flock(lock_fd, LOCK_EX | LOCK_NB) == 0)
        return false;
    return errno == EWOULDBLOCK;
}

static bool stop_supervisor(int dirfd, const char *dir, struct error *err)
{
    AUTO_CLOSE int lock_fd = openat(dirfd, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW), pidfd = -1;
    AUTO(buf_done) struct buf text = {0};
    uint64_t pid;

    if (lock_fd < 0 || !locked(lock_fd)) {
        printf("vireo serve is not running on %s\n", dir);
        return true;
    }
    buf_init(&text, 32);
    if (!file_read(dirfd, "lock", &text, err) || !parse_u64(str_trim(buf_str(&text)), INT_MAX, &pid, err))
        return error_wrap(err, "%s/lock", dir);
    pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) < 0)
        return error_errno(err, errno, "vireo serve, pid %d", (int)pid);
    for (int i = 0; i < 300; i++) {
        if (!locked(lock_fd)) {
            printf("vireo serve stopped\n");
            return true;
        }
        usleep(50000);
    }
    return error_set(err, ERROR_TIMEOUT, "vireo serve (pid %d) did not stop within 15 s", (int)pid);
}

static void on_stopped(void *user)
{
    loop_quit(user);
}

static bool end_machines(const struct instance_options *o, int dirfd, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    struct node_parts n = {.dirfd = -1, .oci_fd = -1};
    char dir[PATH_MAX], name[9];
    struct loop *l = loop_new(NULL);
    bool ok;

    if (!realpath(o->dir, dir))
        return error_errno(err, errno, "%s", o->dir);
    instance_name_of(dir, name);
    const struct json *config = json_object(
        &a, "dir", json_new_z(&a, dir), "name", json_new_z(&a, name), "podCIDR", json_new_z(&a, o->pod_cidr), "nodeName",
        json_new_z(&a, o->node_name), "cniDir", json_new_z(&a, o->cni_dir), "ociDir", json_new_f(&a, "%s/oci", dir),
        "launcher", json_new_z(&a, o->launcher ? o->launcher : ""), NULL);

    ok = node_parts_open(&n, l, dirfd, config, err);
    if (ok) {
        pod_runtime_stop_all(n.pods, STOP_GRACE, on_stopped, l);
        loop_run(l);
        ok = network_teardown(n.network, err);
    }
    node_parts_done(&n);
    loop_free(l);
    if (ok)
        printf("virtual machines ended, networks removed; %s keeps their definitions and disks\n", dir);
    return ok;
}

int stop_main(int argc, char **argv)
{
    AUTO(instance_options_done) struct instance_options o = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dirfd = -1;
    bool all = false;

    log_setup("stop", LOG_WARNING, false);
    if (!instance_parse_flags(argc, argv, &o, &all, &err)) {
        fprintf(stderr, "vireo stop: %s\n", error_text(&err));
        return 2;
    }
    if (geteuid() != 0)
        error_set(&err, ERROR_FORBIDDEN, "only root can stop it: sudo vireo stop");
    else if (file_open_dir(AT_FDCWD, o.dir, &dirfd, &err) && stop_supervisor(dirfd, o.dir, &err) && all
             && end_machines(&o, dirfd, &err))
        return 0;
    if (err.kind == ERROR_NONE)
        return 0;
    fprintf(stderr, "vireo stop: %s\n", error_text(&err));
    return 1;
}
