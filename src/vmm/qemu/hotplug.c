/* What changes while the machine runs: disks, NICs, memory, processors.
 *
 * A disk or NIC is added in steps (descriptors, block nodes or netdev, device); when one fails the ones before it are taken back.
 * Taking away is the guest's to allow: device_del asks, DEVICE_DELETED tells that it let go, and only then the host's side is
 * closed. What was plugged is remembered in q->plugged, since a snapshot or a migration does not carry it. */
#include "vmm/qemu/qemu.h"

#include <stdio.h>

#include "api/types.h"
#include "base/log.h"
#include "vmm/qemu/cmdline.h"

#define FIRST_FDSET 1000 /* those of the command line are below */

static const struct json *text(struct arena *a, const char *z)
{
    return json_new_z(a, z);
}

static struct qemu_plugged *plugged(struct qemu *q, struct str name)
{
    for (size_t i = 0; i < q->plugged.n; i++)
        if (str_is(name, q->plugged.p[i].name))
            return &q->plugged.p[i];
    return NULL;
}

static void forget(struct qemu *q, const struct qemu_plugged *p)
{
    vec_remove(&q->plugged, (size_t)(p - q->plugged.p));
}

static struct qemu_plugged *note(struct qemu *q, enum vmm_device_kind kind, struct str name)
{
    struct qemu_plugged p = {.kind = kind, .fdsets = {-1, -1}};

    snprintf(p.name, sizeof p.name, STR_FMT, STR_ARG(name));
    vec_push(&q->plugged, p);
    return &q->plugged.p[q->plugged.n - 1];
}

/* The host's side of a device that is gone (or never came): nodes and descriptors, or the netdev. What is not there is fine. */
static void close_backend(struct qemu *q, const struct qemu_plugged *p)
{
    static const char *const tails[] = {"", "f", "b", "bf"};
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};

    if (p->kind == VMM_DEVICE_NIC) {
        vmm_taps_remove(&q->taps, str_of(p->name));
        if (!qmp_call(q->qmp, "netdev_del", json_object(&a, "id", text(&a, p->backend), NULL), &a, NULL, &err))
            error_clear(&err);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
        const struct json *node = json_new_f(&a, "%s%s", p->backend, tails[i]);

        if (!qmp_call(q->qmp, "blockdev-del", json_object(&a, "node-name", node, NULL), &a, NULL, &err))
            error_clear(&err);
    }
    for (size_t i = 0; i < ARRAY_SIZE(p->fdsets); i++)
        if (p->fdsets[i] >= 0
            && !qmp_call(q->qmp, "remove-fd", json_object(&a, "fdset-id", json_new_i64(&a, p->fdsets[i]), NULL), &a, NULL, &err))
            error_clear(&err);
}

/* A root port that nothing sits in: QEMU's tree of objects shows a child below the bus of one that is taken. */
static bool free_port(struct qemu *q, struct arena *a, const struct json **ret, struct error *err)
{
    if (strncmp(q->base.status.machine, "pc-i440fx", 9) == 0) {
        *ret = json_new_z(a, "pci.0");
        return true;
    }
    for (unsigned i = 1; i < 32; i++) {
        const struct json *path = json_new_f(a, "/machine/peripheral/pci.%u/pci.%u", i, i), *list = NULL;
        bool taken = false;

        if (!qmp_call(q->qmp, "qom-list", json_object(a, "path", path, NULL), a, &list, err)) {
            error_clear(err);
            break;
        }
        json_each_item(p, list)
            taken |= str_starts(json_str_at(p, "name"), STR("child["));
        if (!taken) {
            *ret = json_new_f(a, "pci.%u", i);
            return true;
        }
    }
    return error_set(err, ERROR_CONFLICT,
                     "the machine has no free slot for one more device: take one out, or start it with "
                     "spec.domain.devices.disableHotplug unset and fewer devices");
}

/* ---- disks ---- */

/* The words of a command line ("-add-fd set=1000,fd=3", "-blockdev {…}") as commands to a machine that runs. */
static bool say_words(struct qemu *q, const struct qemu_cmd *c, struct arena *a, struct error *err)
{
    for (size_t i = 1; i + 1 < c->argv.n; i += 2) {
        const struct json *v;
        int set, number;

        if (strcmp(c->argv.p[i], "-add-fd") == 0) {
            if (sscanf(c->argv.p[i + 1], "set=%d,fd=%d", &set, &number) != 2)
                return error_set(err, ERROR_INTERNAL, "add-fd");
            for (size_t k = 0; k < c->fds.n; k++)
                if (c->fds.p[k].target == number
                    && !qmp_call_fd(q->qmp, "add-fd", json_object(a, "fdset-id", json_new_i64(a, set), NULL), c->fds.p[k].fd, a,
                                    NULL, err))
                    return false;
        } else if (!json_parse(str_of(c->argv.p[i + 1]), a, &v, err) || !qmp_call(q->qmp, "blockdev-add", v, a, NULL, err)) {
            return false;
        }
    }
    return true;
}

static bool add_disk(struct qemu *q, const struct vmm_device *d, struct arena *a, struct error *err)
{
    AUTO(cmd_done) struct qemu_cmd c = {0};
    const struct vmm_machine m = {.disks = d->disk, .n_disks = 1};
    struct qemu_plugged *p = plugged(q, d->disk->name);
    const struct json *bus = NULL;
    const char *driver, *id = arena_printf(a, "ua-" STR_FMT, STR_ARG(d->disk->name));
    struct qemu_disk_parts parts;
    struct str where = d->disk_spec->disk ? d->disk_spec->disk->bus : d->disk_spec->lun ? d->disk_spec->lun->bus : STR_NONE;

    if (d->disk_spec->cdrom || (where.n && !str_is(where, "scsi") && !str_is(where, "virtio")))
        return error_set(err, ERROR_UNSUPPORTED,
                         "disk '" STR_FMT "': only disks of bus scsi or virtio can be plugged into a running machine",
                         STR_ARG(d->disk->name));
    driver = str_is(where, "virtio") ? "virtio-blk-pci" : "scsi-hd";
    if (str_is(where, "virtio") && !free_port(q, a, &bus, err))
        return false;
    snprintf(p->backend, sizeof p->backend, "h%u", q->next_plug);
    p->fdsets[0] = FIRST_FDSET + 2 * (int)q->next_plug++;
    p->fdsets[1] = p->fdsets[0] + 1;
    cmd_init(&c, a, &m, false);
    c.next_fdset = p->fdsets[0];
    if (!qemu_disk_nodes(&c, p->backend, d->disk_spec, d->disk, &parts, err) || !say_words(q, &c, a, err))
        return false;
    return qmp_call(q->qmp, "device_add",
                    json_object(a, "driver", text(a, driver), "id", text(a, id), "bus", bus ? bus : text(a, "scsi0.0"), "addr",
                                bus && !str_is(json_str(bus), "pci.0") ? text(a, "0x0") : NULL, "drive", text(a, p->backend),
                                "serial", d->disk_spec->serial.n ? json_new_str(a, d->disk_spec->serial) : NULL, "write-cache",
                                text(a, parts.write_cache), "werror", json_new_str(a, parts.werror), "rerror",
                                json_new_str(a, parts.rerror), "share-rw",
                                opt_true(d->disk_spec->shareable) ? json_new_bool(true) : NULL, NULL),
                    a, NULL, err);
}

/* ---- NICs ---- */

static bool add_nic(struct qemu *q, const struct vmm_device *d, struct arena *a, struct error *err)
{
    struct qemu_plugged *p = plugged(q, d->nic->name);
    AUTO(buf_done) struct buf names = {0};
    const struct json *bus;
    struct str model = d->nic_spec->model;
    bool is_virtio = !model.n || str_is(model, "virtio") || str_is(model, "virtio-non-transitional");

    if (!is_virtio && !str_is(model, "e1000e"))
        return error_set(err, ERROR_UNSUPPORTED,
                         "interface '" STR_FMT "': only models virtio and e1000e can be plugged into a running machine",
                         STR_ARG(d->nic->name));
    if (d->nic->n_fds == 0)
        return error_set(err, ERROR_INVALID, "interface '" STR_FMT "': its network was not prepared", STR_ARG(d->nic->name));
    if (!free_port(q, a, &bus, err))
        return false;
    snprintf(p->backend, sizeof p->backend, "hn%u", q->next_plug++);
    for (size_t i = 0; i < d->nic->n_fds; i++) {
        const char *name = arena_printf(a, "%s-%zu", p->backend, i);

        if (!qmp_call_fd(q->qmp, "getfd", json_object(a, "fdname", text(a, name), NULL), d->nic->fds[i], a, NULL, err))
            return false;
        buf_addf(&names, "%s%s", i ? ":" : "", name);
    }
    const struct json *fds = json_new_str(a, buf_str(&names));
    bool many = d->nic->n_fds > 1;
    if (!qmp_call(q->qmp, "netdev_add",
                  json_object(a, "type", text(a, "tap"), "id", text(a, p->backend), many ? "fds" : "fd", fds, NULL), a, NULL, err))
        return false;
    vmm_taps_add(&q->taps, d->nic->name, d->nic->fds[0]);
    return qmp_call(q->qmp, "device_add",
                    json_object(a, "driver", text(a, is_virtio ? "virtio-net-pci" : "e1000e"), "id",
                                json_new_f(a, "ua-%s", p->name), "bus", bus, "addr",
                                str_is(json_str(bus), "pci.0") ? NULL : text(a, "0x0"), "netdev", text(a, p->backend), "mac",
                                d->nic->mac.n ? json_new_str(a, d->nic->mac) : NULL, "mq",
                                many && is_virtio ? json_new_bool(true) : NULL, "vectors",
                                many && is_virtio ? json_new_i64(a, 2 * (int64_t)d->nic->n_fds + 2) : NULL, "host_mtu",
                                is_virtio && d->nic->mtu > 0 ? json_new_i64(a, d->nic->mtu) : NULL, "romfile", text(a, ""), NULL),
                    a, NULL, err);
}

static struct str name_of(const struct vmm_device *d)
{
    return d->kind == VMM_DEVICE_DISK ? d->disk->name : d->nic->name;
}

bool qemu_add_device(struct vmm *v, const struct vmm_device *d, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    struct str name = name_of(d);
    const struct json *there = json_new_f(&a, "/machine/peripheral/ua-" STR_FMT, STR_ARG(name));
    bool ok;

    if (qmp_call(q->qmp, "qom-list", json_object(&a, "path", there, NULL), &a, NULL, err))
        return error_set(err, ERROR_EXISTS, "the machine has a device '" STR_FMT "' already", STR_ARG(name));
    error_clear(err);
    note(q, d->kind, name);
    ok = d->kind == VMM_DEVICE_DISK ? add_disk(q, d, &a, err) : add_nic(q, d, &a, err);
    if (ok)
        return true;
    struct qemu_plugged *p = plugged(q, name);
    close_backend(q, p);
    forget(q, p);
    return error_wrap(err, "plug '" STR_FMT "'", STR_ARG(name));
}

/* The numbers of the descriptors that a disk's nodes were opened by. */
static void learn_fdsets(struct qemu *q, struct qemu_plugged *p, struct arena *a)
{
    static const char *const tails[] = {"f", "bf"};
    AUTO(error_clear) struct error err = {0};
    const struct json *nodes = NULL;

    if (!qmp_call(q->qmp, "query-named-block-nodes", json_object(a, "flat", json_new_bool(true), NULL), a, &nodes, &err))
        return;
    json_each_item(n, nodes) {
        for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
            int set;

            if (str_is(json_str_at(n, "node-name"), arena_printf(a, "%s%s", p->backend, tails[i]))
                && sscanf(arena_strdup(a, json_str_at(n, "file")), "/dev/fdset/%d", &set) == 1)
                p->fdsets[i] = set;
        }
    }
}

/* A device that was there from the start: which nodes or netdev it stands on. */
static void learn_backend(struct qemu *q, struct qemu_plugged *p, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    p->from_start = true;
    if (qmp_call(q->qmp, "qom-get",
                 json_object(a, "path", json_new_f(a, "/machine/peripheral/ua-%s", p->name), "property",
                             text(a, p->kind == VMM_DEVICE_DISK ? "drive" : "netdev"), NULL),
                 a, &v, &err))
        snprintf(p->backend, sizeof p->backend, STR_FMT, STR_ARG(json_str(v)));
    if (p->kind == VMM_DEVICE_DISK && *p->backend)
        learn_fdsets(q, p, a);
}

bool qemu_remove_device(struct vmm *v, enum vmm_device_kind kind, struct str name, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    const struct json *id = json_new_f(&a, "ua-" STR_FMT, STR_ARG(name));
    struct qemu_plugged *p = plugged(q, name);
    bool known = p != NULL;

    if (!known) {
        p = note(q, kind, name);
        learn_backend(q, p, &a);
    }
    p->leaving = true;
    if (qmp_call(q->qmp, "device_del", json_object(&a, "id", id, NULL), &a, NULL, err))
        return true;
    p->leaving = false;
    if (!known)
        forget(q, p);
    if (err->kind == ERROR_NOT_FOUND) {
        error_clear(err);
        return error_set(err, ERROR_NOT_FOUND, "the machine has no device '" STR_FMT "'", STR_ARG(name));
    }
    return error_wrap(err, "unplug '" STR_FMT "'", STR_ARG(name));
}

void qemu_device_gone(struct qemu *q, struct str id, bool kept)
{
    struct str name = str_starts(id, STR("ua-")) ? str_skip(id, 3) : STR_NONE;
    struct qemu_plugged *p = name.n ? plugged(q, name) : NULL;
    struct qemu_plugged was;

    if (!p)
        return;
    was = *p;
    if (kept) {
        p->leaving = false;
        if (p->from_start)
            forget(q, p);
    } else {
        close_backend(q, &was);
        forget(q, p);
        q->unlike_start |= was.from_start;
    }
    if (q->base.listener.device_gone)
        q->base.listener.device_gone(q->base.listener.user, was.kind, str_of(was.name), kept);
}

/* ---- memory ---- */

#define VIRTIO_MEM_BLOCK (2u << 20)

/* The device by which memory comes and goes in pieces, made when it is needed first. */
static bool need_virtio_mem(struct qemu *q, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    uint64_t most = (q->memory_max - q->memory_start) & ~(uint64_t)(VIRTIO_MEM_BLOCK - 1);
    const struct json *bus;

    if (q->has_virtio_mem)
        return true;
    if (!free_port(q, &a, &bus, err)
        || !qmp_call(q->qmp, "object-add",
                     json_object(&a, "qom-type", text(&a, "memory-backend-ram"), "id", text(&a, "vmem0"), "size",
                                 json_new_i64(&a, (int64_t)most), "reserve", json_new_bool(false), NULL),
                     &a, NULL, err))
        return false;
    if (!qmp_call(q->qmp, "device_add",
                  json_object(&a, "driver", text(&a, "virtio-mem-pci"), "id", text(&a, "virtiomem0"), "memdev", text(&a, "vmem0"),
                              "bus", bus, "addr", str_is(json_str(bus), "pci.0") ? NULL : text(&a, "0x0"), "requested-size",
                              json_new_i64(&a, 0), NULL),
                  &a, NULL, err)) {
        AUTO(error_clear) struct error ignored = {0};

        if (!qmp_call(q->qmp, "object-del", json_object(&a, "id", text(&a, "vmem0"), NULL), &a, NULL, &ignored))
            log_debug("qemu", "%s", error_text(&ignored));
        return false;
    }
    q->has_virtio_mem = q->unlike_start = true;
    return true;
}

bool qemu_set_memory(struct vmm *v, uint64_t bytes, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    uint64_t more;

    if (bytes < q->memory_start)
        return error_set(err, ERROR_INVALID,
                         "the machine started with %llu bytes of memory and cannot have less plugged; the balloon takes memory back",
                         (unsigned long long)q->memory_start);
    if (bytes > q->memory_max)
        return error_set(err, ERROR_INVALID, "%llu bytes of memory are more than spec.domain.memory.maxGuest allows (%llu)",
                         (unsigned long long)bytes, (unsigned long long)q->memory_max);
    more = (bytes - q->memory_start) & ~(uint64_t)(VIRTIO_MEM_BLOCK - 1);
    if ((more == 0 && !q->has_virtio_mem))
        return true;
    if (!need_virtio_mem(q, err))
        return error_wrap(err, "plug memory");
    return qmp_call(q->qmp, "qom-set",
                    json_object(&a, "path", text(&a, "/machine/peripheral/virtiomem0"), "property", text(&a, "requested-size"),
                                "value", json_new_i64(&a, (int64_t)more), NULL),
                    &a, NULL, err)
           || error_wrap(err, "plug memory");
}

/* ---- processors ---- */

bool qemu_set_vcpus(struct vmm *v, unsigned n, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    const struct json *list;
    unsigned have = 0, all;

    if (!qmp_call(q->qmp, "query-hotpluggable-cpus", NULL, &a, &list, err))
        return false;
    all = (unsigned)json_len(list);
    json_each_item(cpu, list)
        have += json_str_at(cpu, "qom-path").n > 0;
    if (n < q->vcpus_start || n > all)
        return error_set(err, ERROR_INVALID,
                         "%u vCPUs: this machine can have %u (those that it started with) to %u (spec.domain.cpu.maxSockets)", n,
                         q->vcpus_start, all);
    /* The list begins with the last processor. */
    for (size_t i = all; i-- > 0 && have < n;) {
        const struct json *cpu = json_item(list, i), *args;

        if (json_str_at(cpu, "qom-path").n)
            continue;
        args = json_object(&a, "driver", json_get(cpu, "type"), "id", json_new_f(&a, "vcpu%zu", all - 1 - i), NULL);
        json_each_member(m, json_get(cpu, "props"))
            args = json_with_str(&a, args, json_str(&m->key), &m->value);
        if (!qmp_call(q->qmp, "device_add", args, &a, NULL, err))
            return error_wrap(err, "plug a vCPU");
        q->unlike_start = true;
        have++;
    }
    for (size_t i = 0; i < all && have > n; i++) {
        struct str path = json_str_at(json_item(list, i), "qom-path"), rest, id;

        if (!str_starts(path, STR("/machine/peripheral/vcpu")) || !str_rcut(path, '/', &rest, &id))
            continue;
        if (!qmp_call(q->qmp, "device_del", json_object(&a, "id", json_new_str(&a, id), NULL), &a, NULL, err))
            return error_wrap(err, "unplug a vCPU");
        have--;
    }
    return true;
}
