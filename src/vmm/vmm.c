#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "api/types.h"
#include "base/cleanup.h"
#include "base/file.h"

const struct vmm_driver *vmm_driver_find(struct str name)
{
    for (const struct vmm_driver *const *d = vmm_drivers; *d; d++)
        if (str_is(name, (*d)->name))
            return *d;
    return NULL;
}

bool vmm_check_on_demand(struct str names, struct error *err)
{
    AUTO(buf_done) struct buf there = {0};
    struct str one;

    for (const struct vmm_driver *const *d = vmm_drivers; *d; d++)
        if ((*d)->plays)
            buf_addf(&there, "%s%s", there.n ? ", " : "", (*d)->name);
    while (str_next(&names, ',', &one)) {
        const struct vmm_driver *d = vmm_driver_find(one);

        if (d && d->plays)
            continue;
        if (d)
            return error_set(err, ERROR_BAD_REQUEST, "%s needs no such word: a node offers it wherever it works", d->name);
        return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "': there is %s%s", STR_ARG(one), there.n ? "only " : "none in this build",
                         there.n ? there.p : "");
    }
    return true;
}

const char *vmm_state_name(enum vmm_state s)
{
    switch (s) {
    case VMM_NONE:
        return "none";
    case VMM_STARTING:
        return "starting";
    case VMM_RUNNING:
        return "running";
    case VMM_PAUSED:
        return "paused";
    case VMM_SHUTDOWN:
        return "shutdown";
    case VMM_CRASHED:
        return "crashed";
    }
    return "none";
}

const char *vmm_reason_name(enum vmm_reason r)
{
    switch (r) {
    case VMM_REASON_NONE:
        return "";
    case VMM_REASON_USER:
        return "user";
    case VMM_REASON_IO_ERROR:
        return "io-error";
    case VMM_REASON_GUEST_PANIC:
        return "guest-panic";
    case VMM_REASON_GUEST_SHUTDOWN:
        return "guest-shutdown";
    case VMM_REASON_HOST_SHUTDOWN:
        return "host-shutdown";
    case VMM_REASON_DESTROYED:
        return "destroyed";
    case VMM_REASON_VMM_KILLED:
        return "vmm-killed";
    case VMM_REASON_START_FAILED:
        return "start-failed";
    case VMM_REASON_MIGRATED:
        return "migrated";
    }
    return "";
}

const char *vmm_accelerator_name(enum vmm_accelerator a)
{
    switch (a) {
    case VMM_KVM:
        return "kvm";
    case VMM_TCG:
        return "tcg";
    case VMM_MSHV:
        return "mshv";
    }
    return "tcg";
}

bool vmm_accelerator_parse(struct str name, enum vmm_accelerator *ret, struct error *err)
{
    for (int i = VMM_KVM; i <= VMM_MSHV; i++)
        if (str_is(name, vmm_accelerator_name((enum vmm_accelerator)i))) {
            *ret = (enum vmm_accelerator)i;
            return true;
        }
    return error_set(err, ERROR_BAD_REQUEST, "accelerator '" STR_FMT "' is none of kvm, tcg and mshv", STR_ARG(name));
}

struct vmm *vmm_new(const struct vmm_driver *d, struct loop *l, const struct vmm_listener *listener)
{
    struct vmm *v = d->create(l, listener);

    v->driver = d;
    v->loop = l;
    v->listener = *listener;
    return v;
}

void vmm_free(struct vmm *v)
{
    if (!v)
        return;
    loop_defer_cancel(&v->tell);
    v->driver->free(v);
}

const struct vmm_status *vmm_status(const struct vmm *v)
{
    return &v->status;
}

static void tell(struct loop_defer *d)
{
    struct vmm *v = container_of(d, struct vmm, tell);

    v->listener.changed(v->listener.user);
}

void vmm_changed(struct vmm *v)
{
    loop_defer(v->loop, &v->tell, tell);
}

void vmm_set(struct vmm *v, enum vmm_state state, enum vmm_reason reason, const char *fmt, ...)
{
    va_list ap;

    v->status.state = state;
    v->status.reason = reason;
    v->status.since_ns = loop_unix_ns(v->loop);
    va_start(ap, fmt);
    vsnprintf(v->status.message, sizeof v->status.message, fmt, ap);
    va_end(ap);
    vmm_changed(v);
}

static bool lacks(const struct vmm *v, const char *what, struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED, "%s cannot %s", v->driver->name, what);
}

static bool need_alive(const struct vmm *v, const char *what, struct error *err)
{
    if (vmm_alive(v))
        return true;
    return error_set(err, ERROR_CONFLICT, "cannot %s: the machine is not running", what);
}

bool vmm_start(struct vmm *v, const struct vmm_machine *m, struct error *err)
{
    if (v->status.state != VMM_NONE)
        return error_set(err, ERROR_CONFLICT, "the machine has been started already");
    return v->driver->start(v, m, err);
}

bool vmm_pause(struct vmm *v, struct error *err)
{
    if (!v->driver->pause)
        return lacks(v, "pause", err);
    return need_alive(v, "pause", err) && v->driver->pause(v, err);
}

bool vmm_resume(struct vmm *v, struct error *err)
{
    if (!v->driver->resume)
        return lacks(v, "resume", err);
    return need_alive(v, "unpause", err) && v->driver->resume(v, err);
}

bool vmm_reset(struct vmm *v, struct error *err)
{
    if (!v->driver->reset)
        return lacks(v, "reset", err);
    return need_alive(v, "reset", err) && v->driver->reset(v, err);
}

bool vmm_powerdown(struct vmm *v, struct error *err)
{
    if (!v->driver->powerdown)
        return lacks(v, "ask the guest to shut down", err);
    return need_alive(v, "shut down", err) && v->driver->powerdown(v, err);
}

bool vmm_soft_reboot(struct vmm *v, struct error *err)
{
    if (!v->driver->soft_reboot)
        return lacks(v, "ask the guest to reboot", err);
    return need_alive(v, "reboot", err) && v->driver->soft_reboot(v, err);
}

void vmm_kill(struct vmm *v, bool now)
{
    if (vmm_alive(v))
        v->driver->kill(v, now);
}

bool vmm_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err)
{
    if (!v->driver->open_stream)
        return lacks(v, "open a console", err);
    return need_alive(v, "open a console", err) && v->driver->open_stream(v, which, ret_fd, err);
}

bool vmm_read_stats(struct vmm *v, struct vmm_stats *ret, struct error *err)
{
    if (!v->driver->stats)
        return lacks(v, "count", err);
    return need_alive(v, "read statistics", err) && v->driver->stats(v, ret, err);
}

bool vmm_add_device(struct vmm *v, const struct vmm_device *d, struct error *err)
{
    if (!v->driver->add_device)
        return lacks(v, "plug devices into a running machine", err);
    return need_alive(v, "add a device", err) && v->driver->add_device(v, d, err);
}

bool vmm_remove_device(struct vmm *v, enum vmm_device_kind kind, struct str name, struct error *err)
{
    if (!v->driver->remove_device)
        return lacks(v, "take devices out of a running machine", err);
    return need_alive(v, "remove a device", err) && v->driver->remove_device(v, kind, name, err);
}

bool vmm_set_memory(struct vmm *v, uint64_t bytes, struct error *err)
{
    if (!v->driver->set_memory)
        return lacks(v, "change the memory of a running machine", err);
    return need_alive(v, "change the memory", err) && v->driver->set_memory(v, bytes, err);
}

bool vmm_set_vcpus(struct vmm *v, unsigned n, struct error *err)
{
    if (!v->driver->set_vcpus)
        return lacks(v, "change the vCPUs of a running machine", err);
    return need_alive(v, "change the vCPUs", err) && v->driver->set_vcpus(v, n, err);
}

bool vmm_set_balloon(struct vmm *v, uint64_t bytes, struct error *err)
{
    if (!v->driver->set_balloon)
        return lacks(v, "set the balloon", err);
    return need_alive(v, "set the balloon", err) && v->driver->set_balloon(v, bytes, err);
}

bool vmm_set_link(struct vmm *v, struct str nic, bool up, struct error *err)
{
    if (!v->driver->set_link)
        return lacks(v, "take an interface's link up and down", err);
    return need_alive(v, "set the link", err) && v->driver->set_link(v, nic, up, err);
}

bool vmm_vsock_connect(struct vmm *v, unsigned port, int *ret_fd, struct error *err)
{
    if (!v->driver->vsock_connect)
        return lacks(v, "connect by vsock", err);
    return need_alive(v, "connect by vsock", err) && v->driver->vsock_connect(v, port, ret_fd, err);
}

bool vmm_snapshot(struct vmm *v, const char *dir, struct error *err)
{
    if (!v->driver->snapshot)
        return lacks(v, "write snapshots", err);
    if (!need_alive(v, "write a snapshot", err))
        return false;
    if (v->status.state != VMM_PAUSED)
        return error_set(err, ERROR_CONFLICT, "cannot write a snapshot: the machine is not paused");
    return v->driver->snapshot(v, dir, err);
}

bool vmm_migrate(struct vmm *v, const struct vmm_migration *m, struct error *err)
{
    if (!v->driver->migrate)
        return lacks(v, "migrate machines", err);
    return need_alive(v, "migrate", err) && v->driver->migrate(v, m, err);
}

bool vmm_migrate_cancel(struct vmm *v, struct error *err)
{
    if (!v->driver->migrate_cancel)
        return lacks(v, "migrate machines", err);
    return need_alive(v, "cancel a migration", err) && v->driver->migrate_cancel(v, err);
}

/* Also of a machine that has left: how it went. */
bool vmm_migrate_status(struct vmm *v, struct vmm_migration_status *ret, struct error *err)
{
    if (!v->driver->migrate_status)
        return lacks(v, "migrate machines", err);
    return v->driver->migrate_status(v, ret, err);
}

bool vmm_hyperv_asked(const struct kv_feature_hyperv *h)
{
    const struct kv_feature_state *const plain[] = {h ? h->relaxed : NULL, h ? h->vapic : NULL, h ? h->vpindex : NULL,
                                                    h ? h->runtime : NULL, h ? h->synic : NULL, h ? h->reset : NULL,
                                                    h ? h->frequencies : NULL, h ? h->reenlightenment : NULL,
                                                    h ? h->ipi : NULL, h ? h->evmcs : NULL};

    for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
        if (plain[i] && opt_not_false(plain[i]->enabled))
            return true;
    return h && ((h->spinlocks && opt_not_false(h->spinlocks->enabled)) || (h->synictimer && opt_not_false(h->synictimer->enabled))
                 || (h->tlbflush && opt_not_false(h->tlbflush->enabled)) || (h->vendorid && opt_not_false(h->vendorid->enabled)));
}

bool vmm_version_parse(struct str line, struct vmm_version *ret, struct error *err)
{
    struct str shown = str_trim(line);

    snprintf(ret->text, sizeof ret->text, STR_FMT, STR_ARG(shown));
    for (char *p = ret->text; *p; p++) /* it is shown on terminals */
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
    for (const char *p = ret->text; *p; p++) {
        unsigned major, minor, patch = 0;

        if (*p < '0' || *p > '9' || (p > ret->text && p[-1] != ' ' && p[-1] != 'v'))
            continue;
        if (sscanf(p, "%4u.%4u.%4u", &major, &minor, &patch) >= 2) {
            ret->major = major;
            ret->minor = minor;
            ret->patch = patch;
            return true;
        }
    }
    return error_set(err, ERROR_INVALID, "'%s' tells no version", ret->text);
}

void vmm_version_note(char *list, size_t size, struct str name)
{
    size_t n = strlen(list);

    if (name.n && n + name.n + 2 <= size)
        snprintf(list + n, size - n, "%s" STR_FMT, n ? "," : "", STR_ARG(name));
}

bool vmm_version_has(const char *list, const char *name)
{
    struct str rest = str_of(list), one;

    while (str_next(&rest, ',', &one))
        if (str_is(one, name))
            return true;
    return false;
}

void vmm_stats_of_process(pid_t pid, struct vmm_stats *ret)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dir = -1;
    char path[32];
    unsigned long long user = 0, system = 0, pages = 0;
    struct str comm, rest;

    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || !file_read(dir, "stat", &b, &err) || !str_rcut(buf_str(&b), ')', &comm, &rest))
        return;
    if (sscanf(rest.p, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2)
        ret->cpu_ns = (user + system) * (1000000000ull / (unsigned long long)sysconf(_SC_CLK_TCK));
    buf_clear(&b);
    if (file_read(dir, "statm", &b, &err) && sscanf(b.p, "%*u %llu", &pages) == 1)
        ret->resident_bytes = pages * (unsigned long long)sysconf(_SC_PAGESIZE);
}

bool vmm_keep_output(int fd, struct buf *kept, size_t limit)
{
    char text[1024];

    for (int i = 0; i < VMM_READS_A_TURN; i++) {
        ssize_t n = read(fd, text, sizeof text);

        if (n == 0)
            return false;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return true;
        }
        if (write(STDERR_FILENO, text, (size_t)n) < 0) {
            /* our own log is gone: nothing to be done about it */
        }
        if (kept->n + (size_t)n > limit)
            buf_consume(kept, kept->n < limit / 2 ? kept->n : limit / 2);
        buf_add(kept, text, (size_t)n);
    }
    return true;
}
