/* The pods of this node: from the API's wishes and the records on disk to the next step of each. A step is decided anew whenever
 * something has happened (pod_step_soon), always outside of callbacks, by nothing but the pod's own state; so a step that was
 * lost with a crash is decided again after it. */
#include "pod/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/ident.h"
#include "base/log.h"

#define BLOCKED_RETRY_NS SECONDS(5)
#define REMOVE_RETRY_NS  SECONDS(2)
#define GONE_GRACE_NS    SECONDS(1) /* a pod that was taken out of the API by force */
#define LABEL_VMI        "kubevirt.io/created-by"
#define LABEL_MIGRATION  "kubevirt.io/migrationJobUID"

const char *pod_tag(const struct pod *p)
{
    static _Thread_local char tag[340];

    snprintf(tag, sizeof tag, "pod %s", p->key);
    return tag;
}

bool pod_open_dir(const struct pod *p, bool make, int *ret, struct error *err)
{
    if (make)
        return file_make_dirs(p->r->pods_fd, p->rec.uid, 0711, ret, err);
    return file_open_dir(p->r->pods_fd, p->rec.uid, ret, err);
}

const struct json *pod_object(const struct pod *p, struct arena *a)
{
    const struct json *o = p->r->informer ? informer_get(p->r->informer, str_of(p->key), a) : NULL;

    return o && str_is(meta_uid(o), p->rec.uid) ? o : NULL;
}

void pod_event(const struct pod *p, const char *type, const char *reason, const char *message)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *o = pod_object(p, &a);

    if (o && p->r->recorder)
        recorder_event(p->r->recorder, o, type, reason, "%s", message);
}

bool pod_process_may_live(const struct pod *p)
{
    switch (p->state) {
    case POD_PREPARING:
    case POD_STARTING:
    case POD_RUNNING:
    case POD_KILLING:
        return p->has_record;
    case POD_IDLE:
    case POD_ENDED:
    case POD_RELEASING:
    case POD_RELEASED:
        return false;
    }
    __builtin_unreachable();
}

void pod_take_slot(struct pod *p)
{
    for (unsigned slot = 0;; slot++) {
        bool taken = false;
        size_t at = 0;
        struct str uid;
        void *value;

        while (!taken && map_next(&p->r->pods, &at, &uid, &value))
            taken = value != p && ((struct pod *)value)->has_record && ((struct pod *)value)->rec.slot == slot;
        if (!taken) {
            p->rec.slot = slot;
            return;
        }
    }
}

/* ---- the table ---- */

static void step(struct pod *p);

static void on_step(struct loop_defer *d) { step(container_of(d, struct pod, step)); }

void pod_step_soon(struct pod *p) { loop_defer(p->r->loop, &p->step, on_step); }

static void on_retry(struct loop_timer *t) { pod_step_soon(container_of(t, struct pod, retry)); }

void pod_retry_in(struct pod *p, int64_t in_ns) { loop_timer_start(p->r->loop, &p->retry, in_ns, on_retry); }

void pod_wake_waiting(struct pod_runtime *r)
{
    size_t at = 0;
    struct str uid;
    void *value;

    while (map_next(&r->pods, &at, &uid, &value)) {
        struct pod *p = value;

        if (p->state != POD_IDLE || !p->blocked)
            continue;
        loop_timer_stop(&p->retry);
        pod_step_soon(p);
    }
}

/* take_rec: at least uid, namespace and name. */
static struct pod *pod_new(struct pod_runtime *r, struct record *take_rec)
{
    struct pod *p = NEW(struct pod);

    p->r = r;
    p->rec = TAKE(*take_rec);
    p->key = xasprintf("%s/%s", p->rec.ns, p->rec.name);
    p->pidfd = -1;
    list_init(&p->ops);
    map_set(&r->pods, str_of(p->rec.uid), p);
    return p;
}

static void pod_free(void *value)
{
    struct pod *p = value;

    if (p->flush_busy)
        pthread_join(p->flusher, NULL); /* it posts to a loop that may end after us */
    pod_prepare_cancel(p);
    ops_abandon(p);
    loop_defer_cancel(&p->step);
    loop_timer_stop(&p->grace);
    loop_timer_stop(&p->retry);
    loop_timer_stop(&p->exit_wait);
    loop_timer_stop(&p->status_retry);
    loop_timer_stop(&p->crun_timeout);
    loop_timer_stop(&p->boost);
    loop_io_stop(&p->exit_io);
    child_done(&p->crun);
    fd_close(&p->pidfd);
    record_done(&p->rec);
    free(p->key);
    free(p->told);
    free(p->waiting_reason);
    free(p->waiting_message);
    free(p);
}

static void drop(struct pod *p)
{
    map_del(&p->r->pods, str_of(p->rec.uid));
    pod_free(p);
}

/* ---- steps ---- */

static bool unwanted(const struct pod *p) { return p->gone || p->deleting || p->r->stopping; }

static int64_t stop_grace(const struct pod *p)
{
    int64_t left;

    if (p->r->stopping)
        return p->r->stop_grace_ns;
    if (p->gone || !p->deleting)
        return GONE_GRACE_NS;
    /* deletionTimestamp is when the grace ends; clocks may have been set meanwhile. */
    left = p->delete_at_unix_ns - loop_unix_ns(p->r->loop);
    left = left < p->delete_grace_ns ? left : p->delete_grace_ns;
    return left < GONE_GRACE_NS ? GONE_GRACE_NS : left;
}

/* Ends a pod of which nothing runs here, with the reason that is shown. */
static void end_without_process(struct pod *p, const char *reason, const char *message)
{
    free(p->rec.reason);
    free(p->rec.message);
    p->rec.reason = xstrdup(reason);
    p->rec.message = xstrdup(message);
    p->rec.exit_code = 137;
    p->rec.finished_ns = loop_unix_ns(p->r->loop);
    p->state = POD_RELEASED;
    log_warning(pod_tag(p), "%s: %s", reason, message);
    pod_event(p, "Warning", reason, message);
    pod_publish(p, PUBLISH_ENDED);
}

static void tell_blocked(struct pod *p, const struct pod *by)
{
    AUTO_FREE char *text = xasprintf("waiting until the old sandbox has ended: pod %s/%s (uid %s)", by->rec.ns, by->rec.name,
                                     by->rec.uid);

    p->blocked = true;
    if (!p->told || strcmp(p->told, text) != 0) {
        free(p->told);
        p->told = xstrdup(text);
        log_info(pod_tag(p), "%s", text);
        pod_event(p, "Warning", "WaitingForSandbox", text);
    }
    pod_retry_in(p, BLOCKED_RETRY_NS);
}

static void begin(struct pod *p)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *o = pod_object(p, &a);
    const struct pod *by;

    if (!o)
        return;
    if (!p->has_record && str_is(json_str_at(o, "status/phase"), "Running")) {
        end_without_process(p, "ContainerStatusUnknown", "its sandbox is no longer on this node");
        return;
    }
    if (!config_check_pod(o, &err)) {
        end_without_process(p, "UnsupportedPod", error_text(&err));
        return;
    }
    by = pod_blocked_by(p);
    if (by) {
        tell_blocked(p, by);
        return;
    }
    p->blocked = false;
    pod_prepare(p);
}

static void step_idle(struct pod *p)
{
    if (p->net_busy || p->flush_busy)
        return;
    if (unwanted(p) || p->api_final) {
        loop_timer_stop(&p->retry);
        if (p->has_record) {
            if (!p->rec.finished_ns) {
                p->rec.exit_code = 137;
                p->rec.finished_ns = loop_unix_ns(p->r->loop);
            }
            pod_release(p);
        } else {
            p->state = POD_RELEASED;
            pod_step_soon(p);
        }
        return;
    }
    if (p->r->synced && !loop_timer_active(&p->retry))
        begin(p);
}

static void step_released(struct pod *p)
{
    AUTO(error_clear) struct error err = {0};

    if (p->r->stopping) { /* the record stays: the next start tells the API how it ended */
        loop_defer(p->r->loop, &p->r->stop_check, p->r->stop_check.fn);
        return;
    }
    if (!p->gone && !p->final_sent && !p->api_final && p->r->synced) {
        if (p->rec.finished_ns == 0) { /* deleted before anything was begun: there is nothing to tell */
            p->final_sent = true;
        } else if (!p->status_busy) {
            pod_publish(p, PUBLISH_ENDED);
        }
        if (!p->final_sent)
            return;
    }
    if (!p->gone && !p->deleting)
        return;
    if (p->has_record) {
        if (loop_timer_active(&p->retry))
            return;
        if (!pod_remove_files(p, &err)) {
            log_warning(pod_tag(p), "%s, retrying", error_text(&err));
            pod_retry_in(p, REMOVE_RETRY_NS);
            return;
        }
        p->has_record = false;
    }
    if (p->gone)
        drop(p);
    else if (!p->delete_sent && !loop_timer_active(&p->status_retry))
        pod_delete(p);
}

static void step(struct pod *p)
{
    switch (p->state) {
    case POD_IDLE:
        step_idle(p);
        return;
    case POD_PREPARING:
        if (!unwanted(p) || p->net_busy || p->flush_busy)
            return;
        pod_prepare_cancel(p);
        p->state = POD_IDLE;
        step_idle(p);
        return;
    case POD_RUNNING:
        if (unwanted(p))
            pod_stop(p, stop_grace(p));
        return;
    case POD_STARTING: /* crun needs milliseconds, and has a time limit */
    case POD_KILLING:
    case POD_ENDED:
    case POD_RELEASING:
        return;
    case POD_RELEASED:
        step_released(p);
        return;
    }
}

/* ---- what the API says ---- */

static void note_deletion(struct pod *p, const struct json *o)
{
    AUTO(error_clear) struct error err = {0};

    p->deleting = true;
    p->delete_grace_ns = SECONDS(json_i64_at(o, "metadata/deletionGracePeriodSeconds", 30));
    if (!ident_parse_time(json_str_at(o, "metadata/deletionTimestamp"), &p->delete_at_unix_ns, &err))
        p->delete_at_unix_ns = loop_unix_ns(p->r->loop) + p->delete_grace_ns;
}

/* A list after a gap may show a new pod under the name of one whose end was missed. */
static void forget_namesake(struct pod_runtime *r, struct str key, struct str uid)
{
    size_t at = 0;
    struct str each;
    void *value;

    while (map_next(&r->pods, &at, &each, &value)) {
        struct pod *p = value;

        if (str_is(key, p->key) && !str_eq(uid, each) && !p->gone) {
            p->gone = true;
            pod_step_soon(p);
        }
    }
}

static struct pod *pod_of(struct pod_runtime *r, const struct json *o)
{
    struct pod *p = map_get(&r->pods, meta_uid(o));
    struct record rec = {0};

    if (p)
        return p;
    rec.uid = str_dup(meta_uid(o));
    rec.ns = str_dup(meta_namespace(o));
    rec.name = str_dup(meta_name(o));
    rec.vmi_uid = str_dup(meta_label(o, LABEL_VMI));
    if (!rec.vmi_uid)
        rec.vmi_uid = xstrdup("");
    rec.migration_target = meta_label(o, LABEL_MIGRATION).n > 0;
    return pod_new(r, &rec);
}

static void changed(void *user, struct str key, const struct json *o, bool deleted)
{
    struct pod_runtime *r = user;
    struct str phase = json_str_at(o, "status/phase");
    struct pod *p = map_get(&r->pods, meta_uid(o));

    if (!ident_is_uuid(meta_uid(o)) || !meta_namespace(o).n) /* it becomes a directory's name */
        return;
    if (deleted) {
        if (p) {
            p->gone = true;
            pod_step_soon(p);
        }
        return;
    }
    forget_namesake(r, key, meta_uid(o));
    p = pod_of(r, o);
    p->seen = true;
    p->api_final = str_is(phase, "Succeeded") || str_is(phase, "Failed");
    p->final_sent |= p->api_final;
    if (meta_deleting(o))
        note_deletion(p, o);
    if (p->state == POD_RUNNING && !p->running_sent && !str_is(phase, "Running"))
        pod_publish(p, PUBLISH_RUNNING);
    pod_step_soon(p);
}

static void synced(void *user)
{
    struct pod_runtime *r = user;
    size_t at = 0;
    struct str uid;
    void *value;

    r->synced = true;
    while (map_next(&r->pods, &at, &uid, &value)) {
        struct pod *p = value;

        p->gone |= !p->seen;
        pod_publish(p, PUBLISH_NOTHING); /* what waited for this */
        pod_step_soon(p);
    }
}

/* ---- what the disk says ---- */

static void adopt_started(struct pod *p)
{
    if (strcmp(p->rec.boot_id, p->r->boot_id) != 0) {
        p->reboot = true;
        pod_ended_unseen(p);
        return;
    }
    p->pidfd = process_open(p->rec.pid, p->rec.start_ticks);
    if (p->pidfd < 0) {
        pod_ended_unseen(p);
        return;
    }
    log_info(pod_tag(p), "runs on, pid %d", (int)p->rec.pid);
    pod_watch_init(p);
    pod_boost_begun(p);
}

static void adopt(struct pod_runtime *r, struct record *take_rec)
{
    struct pod *p = pod_new(r, take_rec);

    p->has_record = true;
    switch (p->rec.phase) {
    case RECORD_PREPARED:
        if (strcmp(p->rec.boot_id, r->boot_id) == 0)
            pod_kill_leftovers(p);
        break;
    case RECORD_STARTED:
        adopt_started(p);
        break;
    case RECORD_ENDED:
        pod_release(p);
        break;
    }
    pod_step_soon(p);
}

/* A sandbox whose record was lost or damaged: nobody knows which machine and volumes it has, so nothing would keep a second one
 * from being started beside it. It ends before anything starts. */
static void end_unknown(void *user, const char *uid)
{
    struct pod_runtime *r = user;

    if (map_get(&r->pods, str_of(uid)) || !cgroup_any(r->instance, uid))
        return;
    if (cgroup_end(r->instance, uid))
        log_error(NULL, "pods/%s: it ran, but its record is gone: ended, lest its machine runs twice", uid);
    else
        log_error(NULL, "pods/%s: it runs, its record is gone, and it cannot be ended: do that by hand", uid);
}

static void adopt_dir(struct pod_runtime *r, const char *name)
{
    AUTO(record_done) struct record rec = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dirfd = -1;

    if (!file_open_dir(r->pods_fd, name, &dirfd, &err)) {
        log_warning(NULL, "pods/%s: %s, ignoring", name, error_text(&err));
        return;
    }
    if (record_read(dirfd, &rec, &err) && str_is(str_of(rec.uid), name)) {
        adopt(r, &rec);
    } else if (err.kind == ERROR_NOT_FOUND) {
        /* Made, but not yet recorded: nothing was started. */
        error_clear(&err);
        end_unknown(r, name);
        if (!file_remove_tree(r->pods_fd, name, &err))
            log_warning(NULL, "pods/%s: %s, ignoring", name, error_text(&err));
    } else {
        log_error(NULL, "pods/%s: %s: its processes are ended; remove it", name, error_text(&err));
    }
}

static void adopt_all(struct pod_runtime *r)
{
    DIR *d = fdopendir(fcntl(r->pods_fd, F_DUPFD_CLOEXEC, 3));

    if (!d)
        return;
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d));)
        if (ident_is_uuid(str_of(e->d_name)))
            adopt_dir(r, e->d_name);
    closedir(d);
    cgroup_each(r->instance, end_unknown, r);
}

/* ---- the whole ---- */

/* One root for all sandboxes: empty directories, onto which each mounts its own. */
static bool make_rootfs(struct pod_runtime *r, struct error *err)
{
    static const char *const dirs[] = {"usr", "etc", "dev", "proc", "sys", "run", "tmp", "var", "opt/vireo"};
    static const char *const merged[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};
    AUTO_CLOSE int root = -1, file = -1;

    if (!file_make_dirs(r->dirfd, "run/rootfs", 0755, &root, err))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        AUTO_CLOSE int fd = -1;

        if (!file_make_dirs(root, dirs[i], 0755, &fd, err))
            return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(merged); i++) {
        AUTO_FREE char *host = xasprintf("/%s", merged[i]);
        char target[64];
        ssize_t n = readlink(host, target, sizeof target - 1);

        if (n < 0 && errno == ENOENT)
            continue;
        target[n < 0 ? 0 : n] = '\0';
        if (!str_starts(str_of(target), STR("usr/")) && !str_starts(str_of(target), STR("/usr/")))
            return error_set(err, ERROR_UNSUPPORTED, "%s is not merged into /usr on this host, as all current distributions have it",
                             host);
        if (symlinkat(target, root, merged[i]) < 0 && errno != EEXIST)
            return error_errno(err, errno, "run/rootfs/%s", merged[i]);
    }
    if (symlinkat("../run", root, "var/run") < 0 && errno != EEXIST)
        return error_errno(err, errno, "run/rootfs/var/run");
    return file_open_beneath(root, &KV_LAUNCHER_PATH[1], O_RDONLY | O_CREAT, 0755, &file, err);
}

struct pod_runtime *pod_runtime_new(const struct pod_runtime_config *c, struct error *err)
{
    struct pod_runtime *r = NEW(struct pod_runtime);

    r->client = c->client;
    r->loop = c->client->loop;
    r->dirfd = c->dirfd;
    r->pods_fd = r->crun_fd = -1;
    r->dir = xstrdup(c->dir);
    r->instance = xstrdup(c->instance);
    r->node_name = xstrdup(c->node_name);
    r->launcher = xstrdup(c->launcher);
    r->network = c->network;
    r->images = c->images;
    r->uid_base = c->uid_base;
    r->hybrid = cgroup_hybrid();
    process_boot_id(r->boot_id);
    list_init(&r->followers);
    if (!file_make_dirs(r->dirfd, "pods", 0711, &r->pods_fd, err) || !make_rootfs(r, err)) {
        error_wrap(err, "pod runtime");
        pod_runtime_free(r);
        return NULL;
    }
    return r;
}

void pod_runtime_start(struct pod_runtime *r)
{
    AUTO_FREE char *selector = xasprintf("spec.nodeName=%s", r->node_name);

    /* Containers outlive crun, which started them: as their next parent we learn their exit status. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        log_warning(NULL, "cannot become the parent of containers: exit codes may be unknown, ignoring");
    r->started = true;
    r->recorder = recorder_new(r->client, "kubelet", r->node_name);
    adopt_all(r);
    r->informer = informer_new(&(struct informer_config){.client = r->client, .group = "", .version = "v1", .plural = "pods",
                                                         .field_selector = str_of(selector), .changed = changed,
                                                         .synced = synced, .user = r});
    log_start(r);
    prune_start(r);
}

void pod_runtime_free(struct pod_runtime *r)
{
    if (!r)
        return;
    log_stop(r);
    loop_timer_stop(&r->prune_timer);
    loop_defer_cancel(&r->stop_check);
    map_done_with(&r->pods, pod_free);
    informer_free(r->informer);
    recorder_free(r->recorder);
    fd_close(&r->pods_fd);
    fd_close(&r->crun_fd);
    vec_done(&r->strays);
    free(r->dir);
    free(r->instance);
    free(r->node_name);
    free(r->launcher);
    free(r);
}

void pod_runtime_guest_runs(struct pod_runtime *r, struct str pod_uid)
{
    struct pod *p = map_get(&r->pods, pod_uid);

    if (p)
        pod_boost_end(p);
}

static void check_stopped(struct loop_defer *d)
{
    struct pod_runtime *r = container_of(d, struct pod_runtime, stop_check);
    void (*done)(void *user) = r->stopped;
    size_t at = 0;
    struct str uid;
    void *value;

    while (map_next(&r->pods, &at, &uid, &value)) {
        struct pod *p = value;

        if (p->state != POD_RELEASED)
            return;
    }
    if (!done)
        return;
    r->stopped = NULL;
    cgroup_remove(r->instance, NULL);
    done(r->stopped_user);
}

void pod_runtime_stop_all(struct pod_runtime *r, int64_t grace_ns, void (*done)(void *user), void *user)
{
    size_t at = 0;
    struct str uid;
    void *value;

    r->stopping = true;
    r->stop_grace_ns = grace_ns;
    r->stopped = done;
    r->stopped_user = user;
    r->stop_check.fn = check_stopped;
    if (!r->started)
        adopt_all(r);
    while (map_next(&r->pods, &at, &uid, &value))
        pod_step_soon(value);
    loop_defer(r->loop, &r->stop_check, check_stopped);
}
