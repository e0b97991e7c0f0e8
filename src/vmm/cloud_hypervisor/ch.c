/* A machine's start and end. */
#include "vmm/cloud_hypervisor/ch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/types.h"
#include "base/log.h"
#include "vmm/confine.h"

#define START_TIMEOUT_NS SECONDS(60)
#define TERM_GRACE_NS SECONDS(5)
#define STDERR_KEPT 8192
#define LIMIT_EVENTS (256u << 10)

enum {
    FD_API = 10,
    FD_EVENTS,
    FD_KERNEL,
    FD_INITRAMFS,
    FD_FIRMWARE,
    FD_DISKS = 64
}; /* numbers in the process; a disk has two */

/* ---- calls ---- */

static bool to_request(struct ch *c, const struct ch_call *call, struct rest_request *ret, char (*path)[96], struct error *err)
{
    struct str name = str_of(call->name);
    bool get = str_starts(name, STR("GET "));

    if (get)
        name = str_skip(name, 4);
    snprintf(*path, sizeof *path, "/api/v1/" STR_FMT, STR_ARG(name));
    *ret = (struct rest_request){.method = get ? "GET" : "PUT",
                                 .path = *path,
                                 .body = call->body,
                                 .fds = call->fds,
                                 .n_fds = call->n_fds,
                                 .timeout_ns = call->timeout_ns};
    if (c->moving && (c->version < 53 || !c->booted))
        return error_set(err, ERROR_CONFLICT,
                         "the machine is on its way between two nodes: cloud-hypervisor does nothing else meanwhile");
    return true;
}

bool ch_call(struct ch *c, const struct ch_call *call, struct arena *a, const struct json **ret, struct error *err)
{
    struct rest_request q;
    struct rest_answer answer;
    char path[96];

    if (!to_request(c, call, &q, &path, err) || !rest_call(&c->api, &q, a, &answer, err))
        return false;
    if (!rest_ok(&answer))
        return ch_refused(&answer, call->name, err);
    if (ret)
        *ret = answer.json;
    return true;
}

bool ch_put(struct ch *c, const char *name, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    bool makes = strcmp(name, "vm.boot") == 0 || strcmp(name, "vm.reboot") == 0; /* memory may have to be found first */

    return ch_call(c, &(struct ch_call){.name = name, .timeout_ns = makes ? START_TIMEOUT_NS : 0}, &a, NULL, err);
}

struct rest_pending *ch_begin(struct ch *c, const struct ch_call *call, rest_done_fn done, struct error *err)
{
    struct rest_request q;
    char path[96];

    if (!to_request(c, call, &q, &path, err))
        return NULL;
    return rest_begin(c->base.loop, &c->api, &q, done, c, err);
}

/* ---- end ---- */

static void drain_stderr(struct ch *c)
{
    if (c->err_fd >= 0 && !vmm_keep_output(c->err_fd, &c->err_text, STDERR_KEPT)) {
        loop_io_stop(&c->err_io);
        fd_close(&c->err_fd);
    }
}

static void stderr_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    drain_stderr(container_of(io, struct ch, err_io));
}

/* The one place where a machine's end is judged. */
static void finish(struct ch *c, int status)
{
    struct vmm *v = &c->base;
    AUTO(buf_done) struct buf words = {0};
    AUTO(buf_done) struct buf how = {0};

    drain_stderr(c);
    ch_events_drain(c);
    loop_timer_stop(&c->term_timer);
    loop_defer_cancel(&c->boot_again);
    ch_serial_done(&c->serial);
    v->status.pid = 0;
    if (v->status.state == VMM_CRASHED || v->status.state == VMM_SHUTDOWN)
        return; /* a failed start has said so already */
    ch_last_words(buf_str(&c->err_text), &words);
    child_describe(status, buf_str(&words), &how);
    if (c->panicked)
        vmm_set(v, VMM_CRASHED, VMM_REASON_GUEST_PANIC, "%s", "the guest's kernel panicked");
    else if (c->moved)
        vmm_set(v, VMM_SHUTDOWN, VMM_REASON_MIGRATED, "%s", "");
    else if (c->destroying)
        vmm_set(v, VMM_SHUTDOWN, VMM_REASON_DESTROYED, "%s", "");
    else if (c->guest_off)
        vmm_set(v, VMM_SHUTDOWN, c->asked_off ? VMM_REASON_HOST_SHUTDOWN : VMM_REASON_GUEST_SHUTDOWN, "%s", "");
    else
        vmm_set(v, VMM_CRASHED, VMM_REASON_VMM_KILLED, "cloud-hypervisor ended unexpectedly: " STR_FMT, STR_ARG(buf_str(&how)));
}

static void exited(struct child *child)
{
    finish(container_of(child, struct ch, child), child->status);
}

static void term_expired(struct loop_timer *t)
{
    child_kill(&container_of(t, struct ch, term_timer)->child, SIGKILL);
}

static void ended(void *user, const struct rest_answer *answer, struct error *err)
{
    struct ch *c = user;

    (void)err;
    c->ending = NULL;
    if (!answer || !rest_ok(answer)) /* when it has ended already, this reaches nobody */
        child_kill(&c->child, SIGTERM);
}

void ch_end(struct ch *c)
{
    AUTO(error_clear) struct error err = {0};

    if (c->child.pid <= 0 || loop_timer_active(&c->term_timer))
        return;
    loop_timer_start(c->base.loop, &c->term_timer, TERM_GRACE_NS, term_expired);
    c->ending = ch_begin(c, &(struct ch_call){.name = "vmm.shutdown", .timeout_ns = TERM_GRACE_NS}, ended, &err);
    if (!c->ending)
        child_kill(&c->child, SIGKILL);
}

/* ---- start ---- */

struct launch {
    struct arena a;
    VEC(struct child_fd) fds;
    int api_fd, events_fd, firmware_fd;
    enum ch_payload payload;
};

static void launch_done(struct launch *l)
{
    arena_done(&l->a);
    vec_done(&l->fds);
    fd_close(&l->api_fd);
    fd_close(&l->events_fd);
    fd_close(&l->firmware_fd);
}

/* The process inherits fd as `target`, and ch/<name> leads to it. */
static bool place(struct ch *c, struct launch *l, const char *name, int fd, int target, bool read_only, struct error *err)
{
    vec_push(&l->fds, (struct child_fd){.fd = fd, .target = target});
    return ch_can_reopen(fd, read_only, name, err) && ch_link(c, name, arena_printf(&l->a, "/proc/self/fd/%d", target), err);
}

static bool place_disk(struct ch *c, struct launch *l, const struct vmm_disk *d, size_t i, struct error *err)
{
    const char *name = arena_printf(&l->a, "disk-" STR_FMT, STR_ARG(d->name)), *base;
    int target = FD_DISKS + 2 * (int)i;

    if (str_has(d->name, '/')) /* ch_disk() refuses it in words of its own */
        return error_set(err, ERROR_INVALID, "disk '" STR_FMT "': its name is no name", STR_ARG(d->name));
    if (!place(c, l, name, d->fd, target, d->read_only, err))
        return false;
    if (d->backing_fd < 0)
        return true;
    base = arena_printf(&l->a, "base-" STR_FMT, STR_ARG(d->name));
    return place(c, l, base, d->backing_fd, target + 1, true, err)
           && (ch_overlay_name(d->fd, arena_printf(&l->a, CH_PLACES "/%s", base), d->backing_format, err)
               || error_wrap(err, "%s", name));
}

static bool place_payload(struct ch *c, const struct vmm_machine *m, struct launch *l, struct error *err)
{
    if (m->kernel_fd < 0) {
        return ch_firmware_open(m, &l->firmware_fd, err) && place(c, l, "firmware", l->firmware_fd, FD_FIRMWARE, true, err);
    }
    l->payload = CH_KERNEL;
    if (!place(c, l, "kernel", m->kernel_fd, FD_KERNEL, true, err))
        return false;
    if (m->initrd_fd < 0)
        return true;
    l->payload = CH_KERNEL_INITRAMFS;
    return place(c, l, "initramfs", m->initrd_fd, FD_INITRAMFS, true, err);
}

static bool prepare(struct ch *c, const struct vmm_machine *m, struct launch *l, struct error *err)
{
    const struct kv_domain_spec *d = m->vmi->spec->domain;
    struct rest serial;
    int ends[2];

    if (!d || !d->devices)
        return error_set(err, ERROR_INVALID, "spec.domain.devices is missing");
    c->has_balloon = opt_not_false(d->devices->autoattach_mem_balloon);
    c->has_vsock = m->vsock_cid > 0;
    c->hotplug = !opt_true(d->devices->disable_hotplug);
    c->terminate = str_is(d->reboot_policy, "Terminate");
    c->n_nics = m->n_nics;
    if (!ch_sizes(m, &c->sizes, err) || !ch_places_open(c, m, err) || !ch_listen(c, &l->api_fd, err))
        return false;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_errno(err, errno, "pipe");
    c->events_fd = ends[0];
    l->events_fd = ends[1];
    vec_push(&l->fds, (struct child_fd){.fd = l->api_fd, .target = FD_API});
    vec_push(&l->fds, (struct child_fd){.fd = l->events_fd, .target = FD_EVENTS});
    vec_push(&l->fds, (struct child_fd){.fd = c->dir_fd, .target = CH_FD_PLACES});
    serial = (struct rest){.at = c->dir_fd, .name = "serial.sock", .who = CH_PROGRAM};
    if (ch_wants_serial(m) && !ch_serial_start(&c->serial, c->base.loop, &serial, err))
        return false;
    if (m->n_disks > CH_MAX_DISKS)
        return error_set(err, ERROR_TOO_LARGE, "more than %d disks", CH_MAX_DISKS);
    for (size_t i = 0; i < m->n_disks; i++)
        if (!place_disk(c, l, &m->disks[i], i, err))
            return false;
    return place_payload(c, m, l, err);
}

/* With Landlock it opens what it inherited, its own directory and KVM. A disk that is to come later cannot be listed here, so a
 * machine that may be given some goes without. */
static bool confine(const struct ch *c, const struct vmm_machine *m, const struct launch *l, struct confine *ret,
                    struct error *err)
{
    static const char *const devices[] = {"/dev/kvm", "/dev/mshv", NULL};
    const char *const read[] = {m->restore_dir, NULL};
    const char *const write[] = {m->private_dir, NULL};

    if (!confine_make(
            &(struct confine_spec){
                .program = CH_PROGRAM, .devices = devices, .read = read, .write = write, .fds = l->fds.p, .n_fds = l->fds.n},
            ret, err))
        return false;
    if (c->hotplug)
        fd_close(&ret->ruleset_fd);
    return true;
}

static bool spawn(struct ch *c, const struct vmm_machine *m, struct launch *l, struct error *err)
{
    static const char *const argv[] = {CH_PROGRAM, "--api-socket",  "fd=10", "--event-monitor", "fd=11", "--seccomp",
                                       "true",     "--no-shutdown", NULL};
    AUTO(confine_done) struct confine confined = {.ruleset_fd = -1};
    AUTO_CLOSE int out = -1;
    int ends[2];
    struct child_spec spec = {.argv = argv, .die_with_parent = true, .new_session = true, .cgroup_fd = -1};

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_errno(err, errno, "pipe");
    c->err_fd = ends[0];
    out = ends[1];
    fcntl(out, F_SETFL, 0); /* its end blocks as any stderr does */
    vec_push(&l->fds, (struct child_fd){out, 1});
    vec_push(&l->fds, (struct child_fd){out, 2});
    if (!confine(c, m, l, &confined, err))
        return error_wrap(err, "start cloud-hypervisor");
    spec.fds = l->fds.p;
    spec.n_fds = l->fds.n;
    spec.enter = confine_enter;
    spec.enter_data = &confined;
    loop_io_start(c->base.loop, &c->err_io, c->err_fd, EPOLLIN, stderr_ready);
    loop_io_start(c->base.loop, &c->events_io, c->events_fd, EPOLLIN, ch_events_ready);
    if (!child_start(c->base.loop, &c->child, &spec, exited, err))
        return error_wrap(err, "start cloud-hypervisor");
    c->base.status.pid = c->child.pid;
    fd_close(&l->api_fd); /* so that its death ends calls that wait */
    fd_close(&l->events_fd);
    return true;
}

static bool hello(struct ch *c, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *v;
    struct vmm_version version = {0};

    if (!ch_call(c, &(struct ch_call){.name = "GET vmm.ping", .timeout_ns = START_TIMEOUT_NS}, &a, &v, err)
        || !vmm_version_parse(json_str_at(v, "version"), &version, err))
        return false;
    if (version.major < CH_OLDEST)
        return error_set(err, ERROR_UNSUPPORTED, "cloud-hypervisor %u.%u is too old: %d.0 or newer is needed", version.major,
                         version.minor, CH_OLDEST);
    c->version = version.major;
    snprintf(c->base.status.machine, sizeof c->base.status.machine, CH_PROGRAM "-%u.%u", version.major, version.minor);
    return true;
}

static bool add_nics(struct ch *c, const struct vmm_machine *m, struct arena *a, struct error *err)
{
    for (size_t i = 0; i < m->n_nics; i++) {
        const struct vmm_nic *r = &m->nics[i];
        const struct kv_interface *spec = ch_nic_spec(m, r->name);
        const struct json *body;

        if (!spec || str_is(spec->state, "absent"))
            continue;
        if (!ch_nic(spec, r, c->sizes.vcpus, a, &body, err)
            || !ch_call(c, &(struct ch_call){.name = "vm.add-net", .body = body, .fds = r->fds, .n_fds = r->n_fds}, a, NULL,
                        err))
            return false;
    }
    return true;
}

/* Every interface has its taps, and its name among those of this machine. */
static bool name_nics(struct ch *c, const struct vmm_machine *m, struct arena *a, struct error *err)
{
    const struct kv_interface_slice *s = &m->vmi->spec->domain->devices->interfaces;

    for (size_t i = 0; i < s->n; i++) {
        bool there = false;

        if (str_is(s->p[i].state, "absent"))
            continue;
        for (size_t k = 0; k < m->n_nics; k++)
            there |= str_eq(m->nics[k].name, s->p[i].name);
        if (there && !str_has(s->p[i].name, '/')
            && !ch_link(c, arena_printf(a, "net-" STR_FMT, STR_ARG(s->p[i].name)), "tap", err))
            return false;
        if (!there)
            return error_set(err, ERROR_INVALID, "interface '" STR_FMT "': its network was not prepared",
                             STR_ARG(s->p[i].name));
    }
    return true;
}

/* The port is there from vm.create on, so nothing that the guest says is missed. */
static bool make(struct ch *c, const struct json *config, const struct vmm_machine *m, struct launch *l, struct error *err)
{
    bool paused = str_is(m->vmi->spec->start_strategy, "Paused");

    if (!ch_call(c, &(struct ch_call){.name = "vm.create", .body = config}, &l->a, NULL, err) || !add_nics(c, m, &l->a, err)
        || !ch_serial_connect(&c->serial, SECONDS(5), err))
        return false;
    if (!paused && !ch_put(c, "vm.boot", err))
        return false;
    c->booted = !paused; /* else the first resume boots it: it cannot be booted and not run */
    vmm_set(&c->base, paused ? VMM_PAUSED : VMM_RUNNING, paused ? VMM_REASON_USER : VMM_REASON_NONE, "%s", "");
    return true;
}

/* Sees the process gone (it closed its socket, so it is about to go; or it is killed), and what it said. */
static void await_end(struct ch *c, bool ends_itself)
{
    struct pollfd p = {.fd = c->child.pidfd, .events = POLLIN};

    if (c->child.pid > 0 && (!ends_itself || poll(&p, 1, 1000) <= 0)) {
        child_kill(&c->child, SIGKILL);
        poll(&p, 1, 1000);
    }
    drain_stderr(c);
}

static bool failed(struct ch *c, struct error *err)
{
    AUTO(buf_done) struct buf words = {0};
    bool died = err->kind == ERROR_UNAVAILABLE;

    await_end(c, died);
    ch_last_words(buf_str(&c->err_text), &words);
    if (died && words.n > 0) {
        struct rest_answer said = {.status = 500, .text = buf_str(&words)};

        ch_refused(&said, "it ended", err);
    }
    error_wrap(err, "start cloud-hypervisor");
    vmm_set(&c->base, VMM_CRASHED, VMM_REASON_START_FAILED, "%s", error_text(err));
    return false;
}

static bool start(struct vmm *v, const struct vmm_machine *m, struct error *err)
{
    AUTO(launch_done) struct launch l = {.api_fd = -1, .events_fd = -1, .firmware_fd = -1};
    struct ch *c = ch_of(v);
    const struct json *config = NULL;

    vmm_set(v, VMM_STARTING, VMM_REASON_NONE, "%s", "");
    c->started = true;
    /* The configuration is made once before the process, to refuse without one, and again when its version is known. */
    if (!prepare(c, m, &l, err) || !ch_config(m, l.payload, CH_OLDEST, &l.a, &config, err) || !name_nics(c, m, &l.a, err)
        || !spawn(c, m, &l, err) || !hello(c, err) || !ch_config(m, l.payload, c->version, &l.a, &config, err))
        return failed(c, err);
    if (m->restore_dir ? !ch_restore(c, m, err) : m->incoming ? !ch_receive(c, m, err) : !make(c, config, m, &l, err))
        return failed(c, err);
    return true;
}

/* ---- life ---- */

/* "Enabled features: ["kvm", "mshv", "io_uring"]" */
static void read_features(struct str out, struct vmm_version *ret)
{
    struct str line;
    size_t at;

    ret->kvm = true; /* what says nothing of it is built for KVM */
    while (str_next(&out, '\n', &line)) {
        if (!str_starts(line, STR("Enabled features:")))
            continue;
        ret->kvm = str_find(line, STR("\"kvm\""), &at);
        ret->mshv = str_find(line, STR("\"mshv\""), &at);
    }
}

static bool probe(struct vmm_version *ret, struct error *err)
{
    const char *const argv[] = {CH_PROGRAM, "--version", "-v", NULL};
    AUTO(buf_done) struct buf out = {0};
    struct str line, rest;

    *ret = (struct vmm_version){0};
    if (!child_run(&(struct child_spec){.argv = argv, .capture_limit = 4096, .cgroup_fd = -1}, SECONDS(10), &out, err))
        return error_wrap(err, CH_PROGRAM);
    str_cut(buf_str(&out), '\n', &line, &rest);
    if (!vmm_version_parse(line, ret, err))
        return error_wrap(err, CH_PROGRAM);
    read_features(rest, ret);
    return true;
}

static struct vmm *create(struct loop *l, const struct vmm_listener *listener)
{
    struct ch *c = NEW(struct ch);

    (void)l;
    (void)listener;
    c->api_fd = c->dir_fd = c->events_fd = c->err_fd = -1;
    c->serial.vmm_fd = c->serial.near_fd = c->serial.far_fd = -1;
    buf_init(&c->events, LIMIT_EVENTS);
    list_init(&c->plugged);
    list_init(&c->leaving);
    return &c->base;
}

static void ch_free(struct vmm *v)
{
    struct ch *c = ch_of(v);

    child_kill(&c->child, SIGKILL);
    loop_timer_stop(&c->term_timer);
    loop_defer_cancel(&c->boot_again);
    rest_abandon(c->ending);
    rest_abandon(c->moving);
    loop_io_stop(&c->err_io);
    loop_io_stop(&c->events_io);
    ch_serial_done(&c->serial);
    ch_devices_done(c);
    ch_relay_done(&c->relay);
    if (c->started)
        child_done(&c->child);
    fd_close(&c->events_fd);
    fd_close(&c->err_fd);
    fd_close(&c->api_fd);
    fd_close(&c->dir_fd);
    buf_done(&c->events);
    buf_done(&c->err_text);
    free(c);
}

const struct vmm_driver vmm_cloud_hypervisor = {
    .name = "cloud-hypervisor",
    .probe = probe,
    .create = create,
    .free = ch_free,
    .start = start,
    .pause = ch_pause,
    .resume = ch_resume,
    .reset = ch_reset,
    .powerdown = ch_powerdown,
    .soft_reboot = ch_soft_reboot,
    .kill = ch_kill,
    .open_stream = ch_open_stream,
    .stats = ch_stats,
    .add_device = ch_add_device,
    .remove_device = ch_remove_device,
    .set_memory = ch_set_memory,
    .set_vcpus = ch_set_vcpus,
    .set_balloon = ch_set_balloon,
    .vsock_connect = ch_vsock_connect,
    .snapshot = ch_snapshot,
    .migrate = ch_migrate,
    .migrate_cancel = ch_migrate_cancel,
    .migrate_status = ch_migrate_status,
};
