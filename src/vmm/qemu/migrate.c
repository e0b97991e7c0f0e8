/* A machine's memory and devices as a stream: into a file (snapshot), out of one (restore), into another process (migration).
 *
 * QEMU opens nothing for it: files and sockets are opened here and handed over as descriptors ("fd:"), so neither side's VMM
 * needs a path, and what confines it stays as it is. Whoever reads a stream is started with -incoming defer and the command line
 * of the source; what was plugged later is not in that line, so a machine with such hardware is refused here.
 *
 * On the source QEMU tells by events how it goes. The guest is stopped for the last piece; that STOP is no pause. When all is
 * over there, this process ends, and finish() in events.c calls it VMM_REASON_MIGRATED. */
#include "vmm/qemu/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"

#define AS_FAST_AS_IT_GOES ((int64_t)1 << 40)
#define STALLED_S 30        /* a snapshot that has not moved for so long is given up */
#define LOAD_S 600          /* … and one that takes longer to read back */
#define SNAPSHOT_FORMAT 1
#define MEMORY_NAME "memory"
#define MACHINE_NAME "machine.json"

static const struct json *text(struct arena *a, const char *z)
{
    return json_new_z(a, z);
}

static bool set_capability(struct qemu *q, struct arena *a, const char *name, bool on, struct error *err)
{
    const struct json *one = json_object(a, "capability", text(a, name), "state", json_new_bool(on), NULL);

    return qmp_call(q->qmp, "migrate-set-capabilities", json_object(a, "capabilities", json_array(a, one, NULL), NULL), a, NULL, err);
}

static bool set_limits(struct qemu *q, struct arena *a, uint64_t bandwidth, unsigned downtime_ms, struct error *err)
{
    int64_t speed = bandwidth && bandwidth < (uint64_t)AS_FAST_AS_IT_GOES ? (int64_t)bandwidth : AS_FAST_AS_IT_GOES;

    return qmp_call(q->qmp, "migrate-set-parameters",
                    json_object(a, "max-bandwidth", json_new_i64(a, speed), "downtime-limit",
                                json_new_i64(a, downtime_ms ? downtime_ms : 300), NULL),
                    a, NULL, err);
}

/* "migrate" or "migrate-incoming" with a descriptor. */
static bool stream(struct qemu *q, const char *command, int fd, struct arena *a, struct error *err)
{
    const char *name = arena_printf(a, "stream%u", q->next_fd_name++);

    return qmp_call_fd(q->qmp, "getfd", json_object(a, "fdname", text(a, name), NULL), fd, a, NULL, err)
           && qmp_call(q->qmp, command, json_object(a, "uri", json_new_f(a, "fd:%s", name), NULL), a, NULL, err);
}

static uint64_t size_at(const struct json *v, const char *path)
{
    int64_t n = json_i64_at(v, path, 0);

    return n > 0 ? (uint64_t)n : 0;
}

/* What QEMU says of it now; the word for its state lives in a. */
static bool ask(struct qemu *q, struct arena *a, struct vmm_migration_status *to, struct str *ret_state, struct error *err)
{
    const struct json *v = NULL;
    struct str why;

    if (!qmp_call(q->qmp, "query-migrate", NULL, a, &v, err))
        return false;
    *ret_state = json_str_at(v, "status");
    to->total_bytes = size_at(v, "ram/total");
    to->done_bytes = size_at(v, "ram/transferred");
    to->left_bytes = size_at(v, "ram/remaining");
    to->downtime_ms = (unsigned)size_at(v, "downtime");
    why = json_str_at(v, "error-desc");
    if (why.n && !to->message[0])
        snprintf(to->message, sizeof to->message, STR_FMT, STR_ARG(why));
    return true;
}

static bool as_it_started(const struct qemu *q, const char *what, struct error *err)
{
    for (size_t i = 0; i < q->plugged.n; i++)
        if (!q->plugged.p[i].from_start)
            return error_set(err, ERROR_CONFLICT, "cannot %s while '%s' is plugged in; unplug it first, or start the machine with it",
                             what, q->plugged.p[i].name);
    if (q->unlike_start)
        return error_set(err, ERROR_CONFLICT,
                         "cannot %s: memory, vCPUs or devices of this machine were changed while it ran; restart it first", what);
    return true;
}

/* ---- snapshots ---- */

/* Waits until a stream to or from a file is at its end. */
static bool await_file(struct qemu *q, bool saving, struct error *err)
{
    struct vmm_migration_status now = {0};
    uint64_t before = 0;
    int idle_ms = 0, all_ms = 0;

    for (;;) {
        AUTO(arena_done) struct arena a = {0};
        struct str state;

        if (!ask(q, &a, &now, &state, err))
            return false;
        if (str_is(state, "completed"))
            return true;
        if (str_is(state, "failed") || str_is(state, "cancelled"))
            return error_set(err, ERROR_UNAVAILABLE, "%s", now.message[0] ? now.message : "QEMU gave up");
        idle_ms = now.done_bytes == before ? idle_ms + 5 : 0;
        before = now.done_bytes;
        all_ms += 5;
        if (saving ? idle_ms > STALLED_S * 1000 : all_ms > LOAD_S * 1000)
            return error_set(err, ERROR_TIMEOUT, "nothing moves any more");
        usleep(5000);
    }
}

static bool save(struct qemu *q, int dirfd, int fd, struct arena *a, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error ignored = {0};

    json_write(&b, json_object(a, "format", json_new_i64(a, SNAPSHOT_FORMAT), "vmm", text(a, q->base.driver->name), "machine",
                               text(a, q->base.status.machine), NULL));
    if (!set_capability(q, a, "events", false, err) || !set_limits(q, a, 0, 0, err) || !stream(q, "migrate", fd, a, err))
        return false;
    if (!await_file(q, true, err)) {
        if (err->kind == ERROR_TIMEOUT && !qmp_call(q->qmp, "migrate_cancel", NULL, a, NULL, &ignored))
            log_debug("qemu", "%s", error_text(&ignored));
        return false;
    }
    if (fsync(fd) != 0)
        return error_errno(err, errno, MEMORY_NAME);
    return file_write(dirfd, MACHINE_NAME, buf_str(&b), 0600, err); /* last: without it there is no snapshot */
}

bool qemu_snapshot(struct vmm *v, const char *dir, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    AUTO_CLOSE int dirfd = -1;
    AUTO_CLOSE int fd = -1;
    bool ok;

    if (q->moved.state == VMM_MIGRATION_RUNS)
        return error_set(err, ERROR_CONFLICT, "cannot write a snapshot: the machine is being migrated");
    if (!as_it_started(q, "write a snapshot", err) || !file_open_dir(AT_FDCWD, dir, &dirfd, err))
        return false;
    fd = openat(dirfd, MEMORY_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set(err, errno == EEXIST ? ERROR_EXISTS : ERROR_UNAVAILABLE, "%s/" MEMORY_NAME ": %s%s", dir, strerror(errno),
                         errno == EEXIST ? "; a snapshot needs an empty directory" : "");
    q->saving = true;
    ok = save(q, dirfd, fd, &a, err);
    q->saving = false;
    if (ok)
        return true;
    struct statvfs fs;
    bool full = fstatvfs(dirfd, &fs) == 0 && fs.f_bavail * fs.f_frsize < (1u << 20);
    unlinkat(dirfd, MEMORY_NAME, 0);
    if (full) {
        error_clear(err);
        error_set(err, ERROR_TOO_LARGE, "no space left in %s", dir);
    }
    return error_wrap(err, "snapshot");
}

bool qemu_snapshot_type(const char *dir, const struct vmm_driver *d, struct arena *a, const char **ret, struct error *err)
{
    AUTO_CLOSE int dirfd = -1;
    AUTO(buf_done) struct buf b = {0};
    const struct json *v;

    buf_init(&b, 64u << 10);
    if (!file_open_dir(AT_FDCWD, dir, &dirfd, err) || !file_read(dirfd, MACHINE_NAME, &b, err) || !json_parse(buf_str(&b), a, &v, err))
        return error_wrap(err, "no snapshot in %s", dir);
    if (json_i64_at(v, "format", 0) != SNAPSHOT_FORMAT || !str_is(json_str_at(v, "vmm"), d->name))
        return error_set(err, ERROR_UNSUPPORTED, "the snapshot in %s is of another VMM (" STR_FMT ") or version", dir,
                         STR_ARG(json_str_at(v, "vmm")));
    *ret = arena_strdup(a, json_str_at(v, "machine"));
    return true;
}

bool qemu_load(struct qemu *q, const char *dir, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO_CLOSE int dirfd = -1;
    AUTO_CLOSE int fd = -1;

    if (!file_open_dir(AT_FDCWD, dir, &dirfd, err) || !file_open_beneath(dirfd, MEMORY_NAME, O_RDONLY, 0, &fd, err)
        || !stream(q, "migrate-incoming", fd, &a, err))
        return error_wrap(err, "restore");
    return await_file(q, false, err) || error_wrap(err, "restore");
}

/* ---- the target ---- */

static void arrives(struct loop_io *io, uint32_t events)
{
    struct qemu *q = container_of(io, struct qemu, await_io);
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = accept4(q->await_fd, NULL, NULL, SOCK_CLOEXEC);

    (void)events;
    if (fd < 0)
        return;
    loop_io_stop(&q->await_io); /* one comes, and no other */
    fd_close(&q->await_fd);
    unlink(q->await_path);
    if (stream(q, "migrate-incoming", fd, &a, &err))
        return;
    vmm_set(&q->base, VMM_CRASHED, VMM_REASON_START_FAILED, "the migration did not begin: %s", error_text(&err));
    child_kill(&q->child, SIGKILL);
}

bool qemu_await(struct qemu *q, const char *path, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    mode_t mask;
    bool bound;

    if (strlen(path) >= sizeof sun.sun_path)
        return error_set(err, ERROR_INVALID, "%s: too long for a socket", path);
    memcpy(sun.sun_path, path, strlen(path) + 1);
    if (!set_capability(q, &a, "events", true, err))
        return false;
    q->await_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mask = umask(0177);
    bound = q->await_fd >= 0 && bind(q->await_fd, (struct sockaddr *)&sun, sizeof sun) == 0 && listen(q->await_fd, 1) == 0;
    umask(mask);
    if (!bound)
        return error_errno(err, errno, "%s", path);
    q->await_path = xasprintf("%s", path);
    loop_io_start(q->base.loop, &q->await_io, q->await_fd, EPOLLIN, arrives);
    return true;
}

/* ---- the source ---- */

/* Whether the guest runs, asked because a STOP or RESUME on the way does not tell why it came. */
void qemu_look(struct qemu *q)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    enum vmm_state now = q->base.status.state;

    if (!qmp_call(q->qmp, "query-status", NULL, &a, &v, &err))
        return; /* its end is told elsewhere */
    if (json_bool_at(v, "running", false) && now != VMM_RUNNING)
        vmm_set(&q->base, VMM_RUNNING, VMM_REASON_NONE, "%s", "");
    else if (str_is(json_str_at(v, "status"), "paused") && now != VMM_PAUSED)
        vmm_set(&q->base, VMM_PAUSED, VMM_REASON_USER, "%s", "");
}

static void over(struct qemu *q, enum vmm_migration_state how)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct str ignored;

    loop_timer_stop(&q->move_timer);
    if (!ask(q, &a, &q->moved, &ignored, &err))
        error_clear(&err);
    q->moved.state = how;
    if (how == VMM_MIGRATION_DONE) {
        if (!qmp_call(q->qmp, "quit", NULL, &a, NULL, &err))
            child_kill(&q->child, SIGTERM);
        return;
    }
    if (how == VMM_MIGRATION_FAILED && !q->moved.message[0])
        snprintf(q->moved.message, sizeof q->moved.message, "%s", "the target or the way to it is gone");
    qemu_look(q);
    vmm_changed(&q->base);
}

void qemu_migration_event(struct qemu *q, struct str status)
{
    if (q->await_path) {
        if (str_is(status, "completed"))
            qemu_look(q);
        return;
    }
    if (q->saving || q->moved.state != VMM_MIGRATION_RUNS)
        return;
    if (str_is(status, "completed"))
        over(q, VMM_MIGRATION_DONE);
    else if (str_is(status, "failed"))
        over(q, VMM_MIGRATION_FAILED);
    else if (str_is(status, "cancelled")) /* with a message: it was we who gave up */
        over(q, q->moved.message[0] ? VMM_MIGRATION_FAILED : VMM_MIGRATION_CANCELLED);
}

static bool command(struct qemu *q, const char *name)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};

    if (qmp_call(q->qmp, name, NULL, &a, NULL, &err))
        return true;
    log_warning(NULL, "migration: %s, ignoring", error_text(&err));
    return false;
}

static void takes_too_long(struct loop_timer *t)
{
    struct qemu *q = container_of(t, struct qemu, move_timer);

    if (q->moved.state != VMM_MIGRATION_RUNS)
        return;
    snprintf(q->moved.message, sizeof q->moved.message, "given up after %u s: the guest writes faster than its memory can be sent",
             q->move_timeout_s);
    command(q, "migrate_cancel");
}

static bool reach(const char *path, int *ret, struct error *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof sun.sun_path)
        return error_set(err, ERROR_INVALID, "%s: too long for a socket", path);
    memcpy(sun.sun_path, path, strlen(path) + 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0)
        return error_set(err, ERROR_UNAVAILABLE, "no machine awaits this one at %s: %s", path, strerror(errno));
    *ret = TAKE_FD(fd);
    return true;
}

bool qemu_migrate(struct vmm *v, const struct vmm_migration *m, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    AUTO_CLOSE int fd = -1;

    if (q->moved.state == VMM_MIGRATION_RUNS || v->status.state == VMM_STARTING)
        return error_set(err, ERROR_CONFLICT, "a migration of this machine runs already");
    if (m->post_copy) /* the target would have to be asked, and it dies of the answer */
        return error_set(err, ERROR_UNSUPPORTED,
                         "post-copy needs userfaultfd, which a VMM here is kept from; migrate without it (allowPostCopy: false): a "
                         "guest that writes too fast is slowed down instead");
    if (!as_it_started(q, "migrate", err) || !reach(m->path, &fd, err))
        return false;
    if (!set_capability(q, &a, "events", true, err) || !set_capability(q, &a, "auto-converge", true, err)
        || !set_limits(q, &a, m->bandwidth, m->downtime_ms, err)
        || !stream(q, "migrate", fd, &a, err))
        return error_wrap(err, "migrate");
    q->moved = (struct vmm_migration_status){.state = VMM_MIGRATION_RUNS};
    q->move_timeout_s = m->timeout_s;
    if (m->timeout_s)
        loop_timer_start(v->loop, &q->move_timer, SECONDS(m->timeout_s), takes_too_long);
    return true;
}

bool qemu_migrate_cancel(struct vmm *v, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};

    if (q->moved.state != VMM_MIGRATION_RUNS)
        return error_set(err, ERROR_CONFLICT, "no migration runs");
    return qmp_call(q->qmp, "migrate_cancel", NULL, &a, NULL, err);
}

bool qemu_migrate_status(struct vmm *v, struct vmm_migration_status *ret, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    struct str ignored;

    if (q->moved.state == VMM_MIGRATION_RUNS && !ask(q, &a, &q->moved, &ignored, err))
        return false;
    *ret = q->moved;
    return true;
}

void qemu_migration_end(struct qemu *q)
{
    loop_timer_stop(&q->move_timer);
    loop_io_stop(&q->await_io);
    fd_close(&q->await_fd);
    if (q->await_path)
        unlink(q->await_path);
    free(q->await_path);
    q->await_path = NULL;
    if (q->moved.state == VMM_MIGRATION_RUNS) {
        q->moved.state = VMM_MIGRATION_FAILED;
        snprintf(q->moved.message, sizeof q->moved.message, "%s", "the machine ended on the way");
    }
}
