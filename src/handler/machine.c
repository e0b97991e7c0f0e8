/* One VMI on this node: from "its pod is ready" to "its end is known".
 *
 *   NEW → CONNECTING → ASKING ─ runs already ─────────────→ LIVE → ENDED
 *                        └─ nothing there → NETWORK → SYNCING ┘
 *
 * The launcher is found beneath the pod's "sockets" volume, which is opened beneath the pods directory; its peer credentials and
 * cgroup are checked before a word is said. A launcher that ends leaves its last report in the "private" volume; one that
 * ends without is a failed VM, as upstream's dead socket. Everything is driven by events; timers only bound and repeat. */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/ident.h"
#include "base/log.h"
#include "handler/alive.h"
#include "handler/choose.h"
#include "handler/internal.h"
#include "json/patch.h"

#define CONNECT_FIRST   MILLIS(2)
#define RETRY_MAX       SECONDS(10)
#define CONNECT_TIMEOUT SECONDS(30) /* upstream's watchdog: a socket that stays dead */
#define LONGEST_GRACE_S (365ll * 24 * 3600)
#define CALL_TIMEOUT    SECONDS(60)
#define WAIT_IN_SILENCE MILLIS(1500) /* for a verdict on accelerators and VMMs */
#define EMPTY_DIR       "volumes/kubernetes.io~empty-dir/"

static void advance(struct vm *v);
static void report(struct vm *v);

static const struct json *vmi_of(struct vm *v, struct arena *a)
{
    const struct json *vmi = informer_get(v->h->vmis, str_of(v->key), a);

    return vmi && str_is(meta_uid(vmi), v->uid) ? vmi : NULL;
}

static void disconnect(struct vm *v)
{
    struct proto_client *launcher = v->launcher;

    v->launcher = NULL; /* first: calls that wait are failed by the next line */
    proto_client_free(launcher);
    loop_io_stop(&v->exit_io);
    fd_close(&v->pidfd);
}

void vm_free(struct vm *v)
{
    v->stage = VM_ENDED; /* calls that fail now are not tried again */
    disconnect(v);
    loop_timer_stop(&v->retry);
    if (v->patch)
        client_cancel(v->h->client, v->patch);
    fd_close(&v->pod_dirfd);
    arena_done(&v->domain_arena);
    arena_done(&v->nics_arena);
    free(v->sync_error);
    free(v->key);
    free(v->uid);
    free(v->pod_uid);
    free(v);
}

static void forget(struct vm *v)
{
    struct handler *h = v->h;

    if (map_get(&h->by_key, str_of(v->key)) == v)
        map_del(&h->by_key, str_of(v->key));
    map_del(&h->vms, str_of(v->uid));
    vm_free(v);
}

static void set_error(struct vm *v, const struct error *err)
{
    free(v->sync_error);
    v->sync_error = err ? xstrdup(error_text(err)) : NULL;
}

static void on_retry(struct loop_timer *t)
{
    advance(container_of(t, struct vm, retry));
}

static void retry_later(struct vm *v)
{
    v->retry_ns = v->retry_ns ? v->retry_ns * 2 : CONNECT_FIRST;
    if (v->retry_ns > RETRY_MAX)
        v->retry_ns = RETRY_MAX;
    loop_timer_start(v->h->loop, &v->retry, v->retry_ns, on_retry);
}

static void take_domain(struct vm *v, const struct json *domain)
{
    if (!domain)
        return;
    arena_clear(&v->domain_arena);
    v->domain = json_copy(&v->domain_arena, domain);
}

/* The termination record that the launcher writes before it exits, in place of what was last reported. */
static bool take_last_word(struct vm *v)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *last = NULL;

    if (v->h->config.launchers) {
        const struct handler_launchers *l = v->h->config.launchers;
        AUTO(arena_done) struct arena a = {0};

        last = l->last_word(l->data, str_of(v->pod_uid), &a);
        if (last)
            take_domain(v, last);
        return last != NULL;
    }
    buf_init(&text, LIMIT_PROTO_MESSAGE);
    if (v->pod_dirfd < 0 || !file_read(v->pod_dirfd, EMPTY_DIR "private/" TERMINATION_NAME, &text, &err))
        return false;
    v->domain = NULL;
    arena_clear(&v->domain_arena);
    if (!json_parse(buf_str(&text), &v->domain_arena, &last, &err) || !str_is(json_str_at(last, "uid"), v->uid))
        return false;
    v->domain = json_get(last, "domain");
    return true;
}

/* The launcher is gone. */
static void ended(struct vm *v)
{
    v->stage = VM_ENDED;
    disconnect(v);
    take_last_word(v);
    report(v);
}

static void on_exit_io(struct loop_io *io, uint32_t events)
{
    struct vm *v = container_of(io, struct vm, exit_io);

    (void)events;
    ended(v);
}

/* --- status ------------------------------------------------------------------------------------------------------------ */

static void events_for(struct vm *v, const struct json *old, const struct json *new)
{
    struct str phase = json_str_at(new, "status/phase"), state = json_str_at(v->domain, "state");
    struct recorder *r = v->h->recorder;
    const struct host_vmm *vmm = host_vmm(v->h->host, kv_vmm(new));

    if (str_is(phase, "Running") && !str_is(json_str_at(old, "status/phase"), "Running")) {
        recorder_event(r, new, "Normal", "Created", "VirtualMachineInstance defined.");
        recorder_event(r, new, "Normal", "Started", "VirtualMachineInstance started.");
        if (vmm && vmm->driver->plays)
            recorder_event(r, new, "Warning", "NothingRuns", "%s: %s", vmm->driver->name, vmm->driver->plays);
    }
    if (vm_phase_final(phase) && !vm_phase_final(json_str_at(old, "status/phase"))) {
        struct str why = json_str_at(v->domain, "message");

        if (str_is(phase, "Succeeded"))
            recorder_event(r, new, "Normal", "Stopped", "The VirtualMachineInstance was shut down.");
        else if (str_is(state, "crashed") || !v->domain)
            recorder_event(r, new, "Warning", "Stopped", "The VirtualMachineInstance crashed.%s" STR_FMT, why.n ? " " : "",
                           STR_ARG(why));
        else
            recorder_event(r, new, "Normal", "Deleted", "Signaled Deletion");
    }
    if (condition_is(new, "Paused", "True") && !condition_is(old, "Paused", "True"))
        recorder_event(r, new, "Normal", "Paused", STR_FMT, STR_ARG(json_str_at(condition_find(new, "Paused"), "message")));
    if (!condition_is(new, "Paused", "True") && condition_is(old, "Paused", "True") && str_is(phase, "Running"))
        recorder_event(r, new, "Normal", "Unpaused", "VirtualMachineInstance resumed.");
    if (condition_find(new, "Synchronized") && v->sync_error && condition_find(old, "Synchronized") != condition_find(new, "Synchronized"))
        recorder_event(r, new, "Warning", "SyncFailed", "%s", v->sync_error);
}

static int64_t revision_of(const struct json *vmi)
{
    AUTO(error_clear) struct error err = {0};
    int64_t revision = 0;

    return parse_i64(meta_resource_version(vmi), 0, INT64_MAX, &revision, &err) ? revision : 0;
}

static void on_patched(void *user, const struct client_response *res)
{
    struct vm *v = user;
    bool again = v->patch_again;

    v->patch = NULL;
    v->patch_again = false;
    if (v->gone) {
        forget(v);
        return;
    }
    if (res->err->kind == ERROR_NOT_FOUND)
        return; /* the informer will say so */
    if (res->err->kind == ERROR_CONFLICT)
        return; /* somebody wrote meanwhile: the informer brings that, and report() starts from it */
    if (res->err->kind != ERROR_NONE) {
        log_warning(v->key, "status: %s, retrying", error_text(res->err));
        retry_later(v);
        return;
    }
    /* On a past of our own every report is a conflict: the event of this write brings the next one. */
    if (again && revision_of(res->body) <= informer_revision_of(v->h->vmis, str_of(v->key)))
        report(v);
}

/* Writes what changed, as one merge patch bound to the revision that was looked at. */
static void report(struct vm *v)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *vmi = vmi_of(v, &a), *next, *diff;
    char now[TIME_TEXT_LEN + 1];

    if (!vmi)
        return;
    if (v->patch) {
        v->patch_again = true;
        return;
    }
    ident_time(loop_unix_ns(v->h->loop), false, now);
    next = vm_status(vmi,
                     &(struct vm_report){.domain = v->domain, .nics = v->nics, .sync_error = v->sync_error, .now = now,
                                         .launcher_lost = v->stage == VM_ENDED},
                     &a);
    if (next == vmi)
        return;
    diff = json_merge_diff(&a, vmi, next);
    if (json_len(diff) == 0)
        return;
    events_for(v, vmi, next);
    diff = json_with_at(&a, diff, "metadata/resourceVersion", json_at(vmi, "metadata/resourceVersion"));
    v->patch = client_call(v->h->client,
                           &(struct client_request){.verb = CLIENT_PATCH_MERGE, .group = "kubevirt.io", .version = "v1",
                                                    .plural = "virtualmachineinstances", .ns = meta_namespace(vmi),
                                                    .name = meta_name(vmi), .body = diff},
                           on_patched, v);
}

/* --- talking to the launcher --------------------------------------------------------------------------------------------- */

static bool machine_ended(const struct vm *v)
{
    struct str state = json_str_at(v->domain, "state");

    return str_is(state, "shutdown") || str_is(state, "crashed");
}

static void on_event(void *user, const struct json *event)
{
    struct vm *v = user;

    if (!str_is(json_str_at(event, "event"), "domain"))
        return;
    take_domain(v, json_get(event, "domain"));
    /* The end is written once the launcher is gone, too: a successor then finds the disks free. */
    if (!machine_ended(v))
        report(v);
}

static void on_closed(void *user, const struct error *why)
{
    struct vm *v = user;

    (void)why;
    if (v->stage == VM_ENDED)
        return;
    /* A dying launcher closes its socket first; its pidfd says the rest. One that lives on is asked again. */
    proto_client_free(v->launcher);
    v->launcher = NULL;
    v->stage = VM_CONNECTING;
    v->connecting_since_ns = loop_now_ns(v->h->loop);
    v->retry_ns = 0;
    retry_later(v);
}

static void on_shutdown_sent(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    struct vm *v = user;

    (void)ok;
    (void)fds;
    (void)n_fds;
    if (err->kind != ERROR_NONE && v->stage != VM_ENDED) {
        log_warning(v->key, "shutdown: %s, retrying", error_text(err));
        v->shutdown_sent = false;
        retry_later(v);
    }
}

static void shut_down(struct vm *v, const struct json *vmi)
{
    AUTO(arena_done) struct arena a = {0};
    int64_t grace_s = json_i64_at(vmi, "spec/terminationGracePeriodSeconds", 30);

    if (grace_s > LONGEST_GRACE_S)
        grace_s = LONGEST_GRACE_S;
    if (v->shutdown_sent || !v->launcher)
        return;
    v->shutdown_sent = true;
    if (grace_s > 0)
        recorder_event(v->h->recorder, vmi, "Normal", "ShuttingDown", "Signaled Graceful Shutdown");
    proto_client_call(v->launcher, "shutdown", json_object(&a, "grace_ms", json_new_i64(&a, grace_s * 1000), NULL), NULL, 0,
                      CALL_TIMEOUT, on_shutdown_sent, v);
}

/* A start that cannot be now: why stands in the VMI's condition, and it is tried again. */
static void put_off(struct vm *v, const struct error *err)
{
    set_error(v, err);
    v->stage = VM_ASKING;
    report(v);
    retry_later(v);
}

static void on_synced(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    struct vm *v = user;

    (void)fds;
    (void)n_fds;
    if (v->stage != VM_SYNCING)
        return;
    if (err->kind != ERROR_NONE) {
        if (err->kind == ERROR_UNAVAILABLE && !v->launcher)
            return; /* on_closed() deals with it */
        put_off(v, err);
        return;
    }
    set_error(v, NULL);
    v->stage = VM_LIVE;
    v->retry_ns = 0;
    take_domain(v, json_get(ok, "domain"));
    report(v);
    if (v->h->config.guest_runs)
        v->h->config.guest_runs(v->h->config.guest_runs_data, str_of(v->pod_uid));
    advance(v);
}

/* The accelerator that this VM gets. NULL: none now; the VMI says why, unless it is a matter of a moment. */
static const char *accelerator_of(struct vm *v, const struct json *vmi)
{
    AUTO(error_clear) struct error err = {0};
    struct handler *h = v->h;
    struct choose_view view = {.host = h->host, .name = kv_vmm(vmi), .node = h->node_name,
                               .allowed = str_of(h->allowed), .emulation = kv_emulation(h->kv), .embedded = h->config.embedded,
                               .kvm_allowed = kv_accelerator_allowed(h->kv, kv_vmm(vmi), "kvm"),
                               .mshv_allowed = kv_accelerator_allowed(h->kv, kv_vmm(vmi), "mshv")};
    struct host_vmm *vmm = host_vmm(h->host, view.name);
    enum vmm_accelerator accelerator = VMM_TCG;
    int64_t now = loop_now_ns(h->loop);

    if (vmm)
        host_check_vmm(h->host, vmm); /* programs come and go */
    view.vmm = vmm;
    switch (choose_accelerator(&view, &accelerator, &err)) {
    case CHOOSE_TAKEN:
        v->waiting_since_ns = 0;
        return vmm_accelerator_name(accelerator);
    case CHOOSE_WAIT: /* look_again() comes with the verdict */
        if (!v->waiting_since_ns)
            v->waiting_since_ns = now > 0 ? now : 1;
        v->stage = VM_ASKING;
        if (now - v->waiting_since_ns >= WAIT_IN_SILENCE)
            put_off(v, &err);
        else
            loop_timer_start(h->loop, &v->retry, v->waiting_since_ns + WAIT_IN_SILENCE - now, on_retry);
        return NULL;
    case CHOOSE_REFUSED:
        v->waiting_since_ns = 0;
        put_off(v, &err);
        return NULL;
    }
    return NULL;
}

/* Before anything is made for a machine: could it get what it wants? */
static bool vsock_possible(struct vm *v, const struct json *vmi)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;
    const struct json *ignored;

    if (handover_vsock(v->h, vmi, 0, &a, &fd, &ignored, &err))
        return true;
    put_off(v, &err);
    return false;
}

static void sync_machine(struct vm *v, const struct network_vm *net)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *vmi = vmi_of(v, &a), *nics = json_array(&a, NULL), *status = nics;
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int vsock_fd = -1;
    const struct json *vsock;
    const char *accelerator;
    int fds[PROTO_MAX_FDS];
    size_t n_fds = 0;

    if (!vmi || !v->launcher)
        return;
    accelerator = accelerator_of(v, vmi); /* asked again: making the network took its time */
    if (!accelerator)
        return;
    if ((strcmp(accelerator, "kvm") == 0 && !v->h->config.embedded && !v->h->config.launchers && !handover_kvm(proto_client_pid(v->launcher), v->pidfd, &err))
        || !handover_vsock(v->h, vmi, n_fds, &a, &vsock_fd, &vsock, &err)) {
        put_off(v, &err);
        return;
    }
    if (vsock_fd >= 0)
        fds[n_fds++] = vsock_fd;
    for (unsigned i = 0; i < net->n; i++) {
        nics = json_append(&a, nics, handover_nic(&a, &net->nics[i], fds, &n_fds));
        status = json_append(&a, status, handover_nic_status(&a, &net->nics[i]));
    }
    arena_clear(&v->nics_arena);
    v->nics = json_len(status) ? json_copy(&v->nics_arena, status) : NULL;
    v->stage = VM_SYNCING;
    proto_client_call(v->launcher, "sync",
                      json_object(&a, "vmi", vmi, "accelerator", json_new_z(&a, accelerator),
                                  "nics", nics, "disks", json_array(&a, NULL), "vsock", vsock,
                                  NULL),
                      fds, n_fds, CALL_TIMEOUT, on_synced, v);
}

static void on_network(void *user, struct network_vm *net, const struct error *err)
{
    struct vm *v = user;

    v->network_running = false;
    if (v->gone) {
        network_vm_done(net);
        forget(v);
        return;
    }
    if (v->stage != VM_NETWORK) { /* the launcher was lost meanwhile: advance() waited for us */
        network_vm_done(net);
        advance(v);
        return;
    }
    if (err->kind != ERROR_NONE) {
        put_off(v, err);
        return;
    }
    sync_machine(v, net);
    network_vm_done(net);
}

static void sync_simulated(struct vm *v, const struct json *vmi)
{
    const struct handler_launchers *l = v->h->config.launchers;
    struct network_vm net = {0};

    l->network(l->data, str_of(v->pod_uid), vmi, &net);
    sync_machine(v, &net);
}

/* The pod's resolver is what its container sees; the launcher's root is the way to it that no tenant can bend. */
static void set_up_network(struct vm *v, const struct json *vmi)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf resolv = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int netns = -1;
    AUTO_CLOSE int root = -1;
    char *path = arena_printf(&a, "/proc/%d/ns/net", (int)proto_client_pid(v->launcher));

    netns = open(path, O_RDONLY | O_CLOEXEC);
    if (netns < 0) {
        if (errno != ENOENT) {
            error_errno(&err, errno, "network namespace of the launcher");
            set_error(v, &err);
            report(v);
        }
        retry_later(v);
        return;
    }
    if (!v->h->config.embedded && !peer_network(netns, &err)) {
        put_off(v, &err);
        return;
    }
    buf_init(&resolv, 64 << 10);
    root = open(arena_printf(&a, "/proc/%d/root", (int)proto_client_pid(v->launcher)), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (!file_read(root, "etc/resolv.conf", &resolv, &err))
        error_clear(&err); /* no resolver: the guest gets the fall-back */
    v->stage = VM_NETWORK;
    v->network_running = true;
    network_vm_setup(v->h->loop, netns, vmi, buf_str(&resolv), KV_UID, &v->nics_arena, on_network, v);
}

static void on_subscribed(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    AUTO(error_clear) struct error apart = {0};
    struct vm *v = user;

    (void)fds;
    (void)n_fds;
    if (v->stage != VM_ASKING)
        return;
    if (err->kind == ERROR_NONE && !proto_client_agree(v->launcher, ok, &apart)) {
        set_error(v, &apart);
        report(v);
    }
    if (err->kind != ERROR_NONE || apart.kind != ERROR_NONE) {
        retry_later(v);
        return;
    }
    take_domain(v, json_get(ok, "domain"));
    v->heard = true;
    if (!str_is(json_str_at(v->domain, "state"), "none")) {
        v->stage = VM_LIVE;
        v->retry_ns = 0;
        set_error(v, NULL);
        report(v);
        if (v->h->config.guest_runs)
            v->h->config.guest_runs(v->h->config.guest_runs_data, str_of(v->pod_uid));
    }
    advance(v);
}

static bool connect_launcher(struct vm *v, struct error *err)
{
    AUTO_CLOSE int sockets = -1;
    AUTO_CLOSE int proc = -1;
    AUTO_CLOSE int pidfd = -1;
    struct stat st;
    uid_t expect = KV_UID;

    if (v->h->config.launchers) {
        if (!v->h->config.launchers->connect(v->h->config.launchers->data, str_of(v->pod_uid), &v->launcher, err))
            return false;
        proto_client_on_event(v->launcher, on_event, on_closed, v);
        return true;
    }
    if (v->pod_dirfd < 0 && !file_open_dir(v->h->config.pods_dirfd, v->pod_uid, &v->pod_dirfd, err))
        return false;
    if (!file_open_dir(v->pod_dirfd, EMPTY_DIR "sockets", &sockets, err))
        return false;
    if (v->h->config.uid_base) {
        if (fstat(sockets, &st) < 0)
            return error_errno(err, errno, "sockets volume");
        if (st.st_uid < v->h->config.uid_base)
            return error_set(err, ERROR_FORBIDDEN, "the sockets volume belongs to uid %u, which is no VM's", st.st_uid);
        expect = st.st_uid;
    }
    if (!proto_client_connect(v->h->loop, sockets, expect, &v->launcher, err))
        return false;
    proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    /* Of the one that listens now, which may be another than before; opened before it is looked at, so that it is the same. */
    pidfd = (int)syscall(SYS_pidfd_open, proto_client_pid(v->launcher), 0);
    if (pidfd < 0)
        error_errno(err, errno, "the launcher's process");
    if (pidfd < 0 || !alive_in_pod(proc, proto_client_pid(v->launcher), v->pod_uid, err)) {
        proto_client_free(v->launcher);
        v->launcher = NULL;
        return false;
    }
    loop_io_stop(&v->exit_io);
    fd_close(&v->pidfd);
    v->pidfd = TAKE_FD(pidfd);
    loop_io_start(v->h->loop, &v->exit_io, v->pidfd, EPOLLIN, on_exit_io);
    proto_client_on_event(v->launcher, on_event, on_closed, v);
    return true;
}

/* Out of reach is not dead: who says that a machine has ended has it started again. */
static bool launcher_lives(const struct vm *v)
{
    AUTO_CLOSE int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

    return !v->h->config.launchers && alive_launcher(proc, v->pod_uid);
}

static void try_connect(struct vm *v)
{
    AUTO(error_clear) struct error err = {0};

    if (connect_launcher(v, &err)) {
        v->stage = VM_ASKING;
        v->heard = false;
        v->retry_ns = 0;
        proto_client_call(v->launcher, "subscribe", NULL, NULL, 0, CALL_TIMEOUT, on_subscribed, v);
        return;
    }
    /* It ended while nobody looked: an agent that was started again finds what it left. */
    if (!v->launcher && take_last_word(v)) {
        ended(v);
        return;
    }
    if (loop_now_ns(v->h->loop) - v->connecting_since_ns > CONNECT_TIMEOUT && !launcher_lives(v)) {
        log_warning(v->key, "launcher cannot be reached: %s", error_text(&err));
        ended(v);
        return;
    }
    if (err.kind == ERROR_FORBIDDEN)
        log_error(v->key, "%s", error_text(&err));
    /* The first second is the usual race with a container that has just started: short steps. */
    if (loop_now_ns(v->h->loop) - v->connecting_since_ns < SECONDS(1))
        v->retry_ns = 0;
    retry_later(v);
}

static void advance(struct vm *v)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *vmi = vmi_of(v, &a);

    if (!vmi || v->network_running)
        return;
    if (vm_phase_final(json_str_at(vmi, "status/phase"))) {
        if (v->stage != VM_ENDED) {
            v->stage = VM_ENDED;
            disconnect(v);
        }
        return;
    }
    switch (v->stage) {
    case VM_NEW:
        v->stage = VM_CONNECTING;
        v->connecting_since_ns = loop_now_ns(v->h->loop);
        try_connect(v);
        return;
    case VM_CONNECTING:
        try_connect(v);
        return;
    case VM_ASKING:
        if (!v->launcher) {
            v->stage = VM_CONNECTING;
            try_connect(v);
        } else if (meta_deleting(vmi)) {
            shut_down(v, vmi);
        } else if (!v->heard) { /* what was known before the connection broke is not asked for its word: a machine may run */
            proto_client_call(v->launcher, "subscribe", NULL, NULL, 0, CALL_TIMEOUT, on_subscribed, v);
        } else if (accelerator_of(v, vmi)
                   && vsock_possible(v, vmi)) { /* before anything is made for it */
            if (v->h->config.launchers)
                sync_simulated(v, vmi);
            else
                set_up_network(v, vmi);
        }
        return;
    case VM_NETWORK:
    case VM_SYNCING:
        return;
    case VM_LIVE:
        if (meta_deleting(vmi))
            shut_down(v, vmi);
        if (!machine_ended(v))
            report(v);
        return;
    case VM_ENDED:
        report(v);
        return;
    }
}

/* --- the API's side ---------------------------------------------------------------------------------------------------------- */

static struct str pod_of(const struct handler *h, const struct json *vmi)
{
    json_each_member(pod, json_at(vmi, "status/activePods"))
        if (str_is(json_str(&pod->value), h->node_name))
            return json_str(&pod->key);
    return STR_NONE;
}

/* UIDs come from the API, and one becomes a path component. */
static bool plain_uid(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'z') || s.p[i] == '-'))
            return false;
    return s.n > 0 && s.n <= 63;
}

static struct vm *make_vm(struct handler *h, const struct json *vmi, struct str pod_uid)
{
    AUTO(arena_done) struct arena a = {0};
    struct vm *v = NEW(struct vm);

    v->h = h;
    v->pidfd = v->pod_dirfd = -1;
    v->key = xstrdup(meta_key(vmi, &a));
    v->uid = str_dup(meta_uid(vmi));
    v->pod_uid = str_dup(pod_uid);
    map_set(&h->vms, meta_uid(vmi), v);
    map_set(&h->by_key, str_of(v->key), v);
    return v;
}

void vm_changed(struct handler *h, const struct json *vmi, bool deleted)
{
    struct vm *v = map_get(&h->vms, meta_uid(vmi));
    struct str phase = json_str_at(vmi, "status/phase"), pod;

    if (deleted) {
        if (!v)
            return;
        v->gone = true;
        if (v->patch) {
            client_cancel(h->client, v->patch);
            v->patch = NULL;
        }
        if (!v->network_running)
            forget(v);
        return;
    }
    if (!v) {
        pod = pod_of(h, vmi);
        if (vm_phase_final(phase) || !(str_is(phase, "Scheduled") || str_is(phase, "Running")) || !plain_uid(pod))
            return;
        v = make_vm(h, vmi, pod);
    }
    advance(v);
}

struct vm *vm_find(struct handler *h, struct str ns, struct str name)
{
    AUTO(buf_done) struct buf key = {0};

    buf_addf(&key, STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(name));
    return map_get(&h->by_key, buf_str(&key));
}
