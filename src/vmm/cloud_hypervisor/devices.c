/* Disks and NICs that come and go while the machine runs.
 *
 * A disk's descriptor cannot be inherited by a process that runs, and the API takes descriptors of NICs only. So a process that
 * does nothing (`sleep`) inherits it, and the disk's name leads to /proc/<pid>/fd/N of that one: no path of a tenant's is opened.
 * It stays as long as the disk, since cloud-hypervisor opens its disks again at every reboot. (Our own /proc entry cannot serve:
 * the launcher lets nobody look into it.) */
#include "vmm/cloud_hypervisor/ch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/log.h"

#define KEPT_NS SECONDS(60) /* a guest that has not let go by then does not mean to */
#define HOLDER_FD 9
#define HOLDER_BASE 8

struct leaving { /* a device that the guest was asked to let go of */
    struct list node;
    struct ch *ch;
    struct loop_timer timer;
    enum vmm_device_kind kind;
    char name[64];
};

static const char *prefix(enum vmm_device_kind kind)
{
    return kind == VMM_DEVICE_DISK ? "disk-" : "net-";
}

static void holder_ended(struct child *child)
{
    struct ch_plugged *p = container_of(child, struct ch_plugged, holder);

    log_warning(NULL, "disk '%s': the process that holds it has ended: the guest cannot reboot with it", p->name);
}

static struct ch_plugged *find(struct ch *c, struct str name)
{
    list_each(it, &c->plugged) {
        struct ch_plugged *p = list_entry(it, struct ch_plugged, node);

        if (str_is(name, p->name))
            return p;
    }
    return NULL;
}

static void forget_names(struct ch *c, enum vmm_device_kind kind, const char *name)
{
    char link[80];

    snprintf(link, sizeof link, "%s%s", prefix(kind), name);
    unlinkat(c->dir_fd, link, 0);
    snprintf(link, sizeof link, "base-%s", name);
    if (kind == VMM_DEVICE_DISK)
        unlinkat(c->dir_fd, link, 0);
}

static void let_go(struct ch *c, struct ch_plugged *p)
{
    if (c->dir_fd >= 0)
        forget_names(c, VMM_DEVICE_DISK, p->name);
    list_remove(&p->node);
    child_kill(&p->holder, SIGKILL);
    child_done(&p->holder);
    free(p);
}

static bool hold(struct ch *c, const struct vmm_disk *d, struct arena *a, struct ch_plugged **ret, struct error *err)
{
    static const char *const argv[] = {"sleep", "infinity", NULL};
    const struct child_fd fds[] = {{.fd = d->fd, .target = HOLDER_FD}, {.fd = d->backing_fd, .target = HOLDER_BASE}};
    const struct child_spec spec = {.argv = argv,
                                    .fds = fds,
                                    .n_fds = d->backing_fd >= 0 ? 2 : 1,
                                    .die_with_parent = true,
                                    .new_session = true,
                                    .cgroup_fd = -1};
    const char *name = arena_strdup(a, d->name), *base = arena_printf(a, "base-%s", name);
    struct ch_plugged *p = NEW(struct ch_plugged);
    bool ok;

    snprintf(p->name, sizeof p->name, "%s", name);
    if (!child_start(c->base.loop, &p->holder, &spec, holder_ended, err)) {
        free(p);
        return error_wrap(err, "hold the disk");
    }
    list_add_tail(&c->plugged, &p->node);
    ok = ch_link(c, arena_printf(a, "disk-%s", name), arena_printf(a, "/proc/%d/fd/%d", (int)p->holder.pid, HOLDER_FD), err);
    if (ok && d->backing_fd >= 0)
        ok = ch_link(c, base, arena_printf(a, "/proc/%d/fd/%d", (int)p->holder.pid, HOLDER_BASE), err)
             && ch_overlay_name(d->fd, arena_printf(a, CH_PLACES "/%s", base), d->backing_format, err);
    if (!ok)
        let_go(c, p);
    *ret = p;
    return ok;
}

static bool add_disk(struct ch *c, const struct kv_disk *spec, const struct vmm_disk *d, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *body;
    struct ch_plugged *p;

    if (!ch_disk(spec, d, 1, &a, &body, err))
        return false;
    if (ch_has(c, "disk", d->name))
        return error_set(err, ERROR_EXISTS, "disk '" STR_FMT "': the machine has it already", STR_ARG(d->name));
    if (!ch_can_reopen(d->fd, d->read_only, arena_strdup(&a, d->name), err)
        || (d->backing_fd >= 0 && !ch_can_reopen(d->backing_fd, true, arena_strdup(&a, d->name), err))
        || !hold(c, d, &a, &p, err))
        return false;
    if (ch_call(c, &(struct ch_call){.name = "vm.add-disk", .body = body}, &a, NULL, err))
        return true;
    let_go(c, p);
    return false;
}

static bool add_nic(struct ch *c, const struct kv_interface *spec, const struct vmm_nic *n, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *body;

    if (!ch_nic(spec, n, c->sizes.vcpus, &a, &body, err))
        return false;
    if (ch_has(c, "net", n->name))
        return error_set(err, ERROR_EXISTS, "interface '" STR_FMT "': the machine has it already", STR_ARG(n->name));
    if (!ch_link(c, arena_printf(&a, "net-" STR_FMT, STR_ARG(n->name)), "tap", err))
        return false;
    if (!ch_call(c, &(struct ch_call){.name = "vm.add-net", .body = body, .fds = n->fds, .n_fds = n->n_fds}, &a, NULL, err)) {
        forget_names(c, VMM_DEVICE_NIC, arena_strdup(&a, n->name));
        return false;
    }
    c->n_nics++;
    return true;
}

bool ch_add_device(struct vmm *v, const struct vmm_device *d, struct error *err)
{
    struct ch *c = ch_of(v);

    if (!c->hotplug)
        return error_set(err, ERROR_CONFLICT, "spec.domain.devices.disableHotplug: devices cannot be added to this machine");
    return d->kind == VMM_DEVICE_DISK ? add_disk(c, d->disk_spec, d->disk, err) : add_nic(c, d->nic_spec, d->nic, err);
}

/* ---- removal ---- */

static void leave_done(struct leaving *l)
{
    list_remove(&l->node);
    loop_timer_stop(&l->timer);
    free(l);
}

static void kept(struct loop_timer *t)
{
    struct leaving *l = container_of(t, struct leaving, timer);
    struct vmm_listener *to = &l->ch->base.listener;
    struct leaving copy = *l;

    leave_done(l);
    if (to->device_gone)
        to->device_gone(to->user, copy.kind, str_of(copy.name), true);
}

bool ch_remove_device(struct vmm *v, enum vmm_device_kind kind, struct str name, struct error *err)
{
    struct ch *c = ch_of(v);
    AUTO(arena_done) struct arena a = {0};
    const struct json *id = json_new_f(&a, "%s" STR_FMT, prefix(kind), STR_ARG(name));
    struct leaving *l;

    if (!c->booted)
        return error_set(err, ERROR_CONFLICT, "the machine has not begun to run: there is no guest to let go of '" STR_FMT "'",
                         STR_ARG(name));
    if (name.n >= sizeof l->name || !ch_has(c, kind == VMM_DEVICE_DISK ? "disk" : "net", name))
        return error_set(err, ERROR_NOT_FOUND, "the machine has no %s '" STR_FMT "'",
                         kind == VMM_DEVICE_DISK ? "disk" : "interface", STR_ARG(name));
    if (!ch_call(c, &(struct ch_call){.name = "vm.remove-device", .body = json_object(&a, "id", id, NULL)}, &a, NULL, err))
        return false;
    l = NEW(struct leaving);
    l->ch = c;
    l->kind = kind;
    snprintf(l->name, sizeof l->name, STR_FMT, STR_ARG(name));
    list_add_tail(&c->leaving, &l->node);
    loop_timer_start(v->loop, &l->timer, KEPT_NS, kept);
    return true;
}

void ch_device_removed(struct ch *c, struct str id)
{
    enum vmm_device_kind kind = str_starts(id, STR("disk-")) ? VMM_DEVICE_DISK : VMM_DEVICE_NIC;
    struct str name;
    struct ch_plugged *p;

    if (!str_starts(id, str_of(prefix(kind))))
        return;
    name = str_skip(id, strlen(prefix(kind)));
    if (kind == VMM_DEVICE_NIC && c->n_nics > 0)
        c->n_nics--;
    p = kind == VMM_DEVICE_DISK ? find(c, name) : NULL;
    if (p) {
        let_go(c, p);
    } else if (name.n < 64 && !str_has(name, '/')) {
        AUTO_FREE char *text = str_dup(name);

        forget_names(c, kind, text);
    }
    list_each_safe(it, &c->leaving) {
        struct leaving *l = list_entry(it, struct leaving, node);

        if (l->kind == kind && str_is(name, l->name))
            leave_done(l);
    }
    if (c->base.listener.device_gone)
        c->base.listener.device_gone(c->base.listener.user, kind, name, false);
}

void ch_devices_done(struct ch *c)
{
    list_each_safe(it, &c->leaving)
        leave_done(list_entry(it, struct leaving, node));
    list_each_safe(at, &c->plugged)
        let_go(c, list_entry(at, struct ch_plugged, node));
}
