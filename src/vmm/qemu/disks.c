/* Disks: block nodes d<i> (format), d<i>f (file), d<i>b and d<i>bf (the image below an overlay), and the guest's devices.
 * Node names are limited to 31 bytes by QEMU, volume names to 63: so nodes are numbered by the disk's place in the spec. */
#include "vmm/qemu/cmdline.h"

#include "api/types.h"

enum bus { BUS_VIRTIO, BUS_SATA, BUS_SCSI, BUS_USB };

static struct str bus_text(const struct kv_disk *d)
{
    if (d->disk)
        return d->disk->bus;
    if (d->cdrom)
        return d->cdrom->bus;
    return d->lun ? d->lun->bus : STR_NONE;
}

static enum bus bus_of(struct qemu_cmd *c, const struct kv_disk *d)
{
    struct str bus = bus_text(d);

    if (str_is(bus, "virtio"))
        return BUS_VIRTIO;
    if (str_is(bus, "scsi"))
        return BUS_SCSI;
    if (str_is(bus, "usb"))
        return BUS_USB;
    if (bus.n > 0 && !str_is(bus, "sata"))
        cmd_fail(c, ERROR_INVALID, "disk '" STR_FMT "': bus '" STR_FMT "' is not supported",
                 STR_ARG(d->name), STR_ARG(bus));
    if (c->board == QEMU_MICROVM && !bus.n)
        return BUS_VIRTIO;
    return BUS_SATA;
}

static const struct vmm_disk *resolved(const struct qemu_cmd *c, struct str name)
{
    for (size_t i = 0; i < c->m->n_disks; i++)
        if (str_eq(c->m->disks[i].name, name))
            return &c->m->disks[i];
    return NULL;
}

static bool has_volume(const struct qemu_cmd *c, struct str name)
{
    const struct kv_volume_slice *v = &c->m->vmi->spec->volumes;

    for (size_t i = 0; i < v->n; i++)
        if (str_eq(v->p[i].name, name))
            return true;
    return false;
}

static bool uses_bus(struct qemu_cmd *c, enum bus bus)
{
    for (size_t i = 0; i < c->devices->disks.n; i++)
        if (bus_of(c, &c->devices->disks.p[i]) == bus)
            return true;
    return false;
}

static bool wants_dedicated(const struct qemu_cmd *c, bool scsi_only)
{
    for (size_t i = 0; i < c->devices->disks.n; i++) {
        const struct kv_disk *d = &c->devices->disks.p[i];

        if (opt_true(d->dedicated_io_thread) && (!scsi_only || str_is(bus_text(d), "scsi")))
            return true;
    }
    return false;
}

/* How many threads serve disks in turn (1..auto); disks with one of their own come after. */
static unsigned auto_threads(const struct qemu_cmd *c, unsigned dedicated)
{
    struct str policy = c->domain->io_threads_policy;
    unsigned limit;

    if (str_is(policy, "supplementalPool"))
        return (unsigned)opt_or(c->domain->io_threads
                                    ? c->domain->io_threads->supplemental_pool_thread_count
                                    : (struct opt_int){0},
                                1);
    if (!str_is(policy, "auto"))
        return str_is(policy, "shared") || dedicated > 0 ? 1 : 0;
    limit = 2 * c->vcpus;
    return limit > dedicated ? limit - dedicated : 1;
}

void qemu_add_iothreads(struct qemu_cmd *c)
{
    unsigned dedicated = 0, automatic, disks = 0;

    for (size_t i = 0; i < c->devices->disks.n; i++) {
        const struct kv_disk *d = &c->devices->disks.p[i];

        disks += str_is(bus_text(d), "virtio");
        dedicated += opt_true(d->dedicated_io_thread) && str_is(bus_text(d), "virtio");
    }
    automatic = auto_threads(c, dedicated);
    if (str_is(c->domain->io_threads_policy, "supplementalPool") && automatic > 0)
        cmd_fail(c, ERROR_UNSUPPORTED,
                 "spec.domain.ioThreadsPolicy: supplementalPool needs a newer QEMU "
                 "(iothread-vq-mapping)");
    if (automatic > disks - dedicated && str_is(c->domain->io_threads_policy, "auto"))
        automatic = disks > dedicated ? disks - dedicated : 1;
    c->iothreads = automatic;
    if (automatic + dedicated > 0 && c->board == QEMU_MICROVM && c->m->accelerator == VMM_TCG)
        cmd_fail(c, ERROR_UNSUPPORTED,
                 "spec.domain.ioThreadsPolicy: a microvm needs KVM for threads of its own; this machine is emulated");
    if (automatic + dedicated > 256) {
        cmd_fail(c, ERROR_INVALID, "spec.domain.ioThreads: more than 256 threads");
        return;
    }
    for (unsigned i = 1; i <= automatic + dedicated; i++)
        cmd_pair(c, "-object", arena_printf(c->a, "iothread,id=iothread%u", i));
}

void qemu_add_controllers(struct qemu_cmd *c)
{
    bool hotplug = c->board != QEMU_MICROVM && !opt_true(c->devices->disable_hotplug);

    if (uses_bus(c, BUS_SCSI) || hotplug) {
        cmd_virtio(c, "virtio-scsi", STR_NONE);
        cmd_kvz(c, "id", "scsi0");
        if (wants_dedicated(c, true)) {
            cmd_kvz(c, "iothread", "iothread1");
            cmd_kvu(c, "num_queues", c->vcpus);
        }
        cmd_end(c);
    }
    bool usb = uses_bus(c, BUS_USB);
    for (size_t i = 0; i < c->devices->inputs.n; i++)
        usb |= !str_is(c->devices->inputs.p[i].bus, "virtio");
    if (usb) {
        cmd_opt(c, "-device", "qemu-xhci");
        cmd_kvz(c, "id", "usb");
        cmd_kvz(c, "p2", "15");
        cmd_kvz(c, "p3", "15");
        place_device(c, STR_NONE);
        cmd_end(c);
    }
    unsigned sata = 0;
    for (size_t i = 0; i < c->devices->disks.n; i++)
        sata += bus_of(c, &c->devices->disks.p[i]) == BUS_SATA;
    /* A controller has six ports. The first is of q35's chipset; that of pc has parallel ATA only. */
    for (unsigned i = c->board == QEMU_PC ? 0 : 1; i * 6 < sata; i++) {
        cmd_opt(c, "-device", "ich9-ahci");
        cmd_kvf(c, "id", "sata%u", i);
        place_device(c, STR_NONE);
        cmd_end(c);
    }
}

static const struct json *file_node(struct qemu_cmd *c, const char *node, int fd,
                                    const struct vmm_disk *r, bool read_only, bool direct,
                                    bool native)
{
    struct arena *a = c->a;

    return json_object(
        a, "driver", json_new_z(a, r->block_device && fd == r->fd ? "host_device" : "file"),
        "node-name", json_new_z(a, node), "filename", json_new_z(a, cmd_fdset(c, fd)), "read-only",
        json_new_bool(read_only), "auto-read-only", json_new_bool(false), "discard",
        json_new_z(a, r->preallocated ? "ignore" : "unmap"), "cache",
        json_object(a, "direct", json_new_bool(direct), "no-flush", json_new_bool(false), NULL),
        "aio", json_new_z(a, native ? "native" : "threads"), NULL);
}

static const struct json *format_node(struct qemu_cmd *c, const char *node, const char *format,
                                      const char *file, bool read_only, const struct json *backing,
                                      bool unmap)
{
    struct arena *a = c->a;

    /* backing: null, never what the image says: an image must not choose what the host opens. */
    return json_object(a, "driver", json_new_z(a, format), "node-name", json_new_z(a, node), "file",
                       json_new_z(a, file), "read-only", json_new_bool(read_only), "discard",
                       json_new_z(a, unmap ? "unmap" : "ignore"), "backing",
                       strcmp(format, "qcow2") == 0 ? backing ? backing : json_null() : NULL, NULL);
}

struct policy {
    bool direct, native, read_only;
    const char *write_cache;
};

static struct policy policy_of(struct qemu_cmd *c, const struct kv_disk *d,
                               const struct vmm_disk *r)
{
    struct policy p = {.direct = r->direct, .write_cache = r->direct ? "on" : "off"};

    p.read_only = r->read_only || (d->cdrom && opt_not_false(d->cdrom->readonly))
                  || (d->disk && opt_true(d->disk->readonly))
                  || (d->lun && opt_true(d->lun->readonly));
    if (str_is(d->cache, "none")) {
        if (!r->direct)
            cmd_fail(c, ERROR_INVALID,
                     "disk '" STR_FMT "': cache none needs O_DIRECT, which its file system lacks",
                     STR_ARG(d->name));
    } else if (str_is(d->cache, "writethrough")) {
        p.direct = false;
        p.write_cache = "off";
    } else if (str_is(d->cache, "writeback")) {
        p.direct = false;
        p.write_cache = "on";
    }
    if (d->io.n > 0)
        p.native = str_is(d->io, "native");
    else
        p.native = p.direct && (r->block_device || r->preallocated);
    if (p.native && !p.direct) {
        cmd_fail(c, ERROR_INVALID, "disk '" STR_FMT "': io native needs cache none",
                 STR_ARG(d->name));
        p.native = false;
    }
    return p;
}

static void add_nodes(struct qemu_cmd *c, const char *node, const struct vmm_disk *r,
                      const struct policy *p)
{
    const char *file = arena_printf(c->a, "%sf", node), *below = NULL;

    if (r->backing_fd >= 0) {
        const char *below_file = arena_printf(c->a, "%sbf", node);

        below = arena_printf(c->a, "%sb", node);
        cmd_json(c, "-blockdev",
                 file_node(c, below_file, r->backing_fd, r, true, p->direct, false));
        cmd_json(c, "-blockdev",
                 format_node(c, below, r->backing_format, below_file, true, NULL, false));
    }
    /* The file's node follows the descriptor's mode, which has to match; the guest's view is the format's node. */
    cmd_json(c, "-blockdev", file_node(c, file, r->fd, r, r->read_only, p->direct, p->native));
    cmd_json(c, "-blockdev",
             format_node(c, node, r->format, file, p->read_only,
                         below ? json_new_z(c->a, below) : NULL, !r->preallocated));
}

static void error_policies(const struct kv_disk *d, struct str *ret_write, struct str *ret_read)
{
    struct str policy = d->error_policy.n ? d->error_policy : STR("stop");
    bool full = str_is(policy, "enospace");

    *ret_write = full ? STR("enospc") : policy;
    *ret_read = full ? STR("report") : policy; /* a full disk is no cause for a failed read */
}

static void add_errors(struct qemu_cmd *c, const struct kv_disk *d)
{
    struct str werror, rerror;

    error_policies(d, &werror, &rerror);
    cmd_kv(c, "werror", werror);
    cmd_kv(c, "rerror", rerror);
}

bool qemu_disk_nodes(struct qemu_cmd *c, const char *node, const struct kv_disk *d, const struct vmm_disk *r,
                     struct qemu_disk_parts *ret, struct error *err)
{
    struct policy p = policy_of(c, d, r);

    if (cmd_failed(c))
        return error_move(err, &c->err);
    add_nodes(c, node, r, &p);
    ret->write_cache = p.write_cache;
    error_policies(d, &ret->werror, &ret->rerror);
    return true;
}

static bool any_boot_order(const struct qemu_cmd *c)
{
    for (size_t i = 0; i < c->devices->disks.n; i++)
        if (c->devices->disks.p[i].boot_order.set)
            return true;
    for (size_t i = 0; i < c->devices->interfaces.n; i++)
        if (c->devices->interfaces.p[i].boot_order.set)
            return true;
    return false;
}

/* Without any bootOrder the first disk is the boot disk, or the first CD-ROM where there is none. */
static size_t default_boot(const struct qemu_cmd *c)
{
    size_t cdrom = SIZE_MAX;

    if (any_boot_order(c))
        return SIZE_MAX;
    for (size_t i = 0; i < c->devices->disks.n; i++) {
        if (!c->devices->disks.p[i].cdrom)
            return i;
        if (cdrom == SIZE_MAX)
            cdrom = i;
    }
    return cdrom;
}

static void block_size(struct qemu_cmd *c, const struct kv_disk *d)
{
    const struct kv_custom_block_size *s = d->block_size ? d->block_size->custom : NULL;

    if (!s)
        return;
    if (s->logical.set)
        cmd_kvu(c, "logical_block_size", (uint64_t)s->logical.v);
    if (s->physical.set)
        cmd_kvu(c, "physical_block_size", (uint64_t)s->physical.v);
    if (s->discard_granularity.set)
        cmd_kvu(c, "discard_granularity", (uint64_t)s->discard_granularity.v);
}

struct counters {
    unsigned sata, scsi, shared, dedicated;
};

static void open_device(struct qemu_cmd *c, const struct kv_disk *d, const struct vmm_disk *r,
                        struct counters *n)
{
    bool cdrom = d->cdrom != NULL;

    switch (bus_of(c, d)) {
    case BUS_VIRTIO:
        cmd_virtio(c, "virtio-blk", d->disk ? d->disk->pci_address : STR_NONE);
        if (c->devices->block_multi_queue.set) /* unset: QEMU's own choice, which depends on the board */
            cmd_kvu(c, "num-queues", opt_true(c->devices->block_multi_queue) ? c->vcpus : 1);
        if (opt_true(d->dedicated_io_thread))
            cmd_kvf(c, "iothread", "iothread%u", c->iothreads + ++n->dedicated);
        else if (c->iothreads > 0)
            cmd_kvf(c, "iothread", "iothread%u", n->shared++ % c->iothreads + 1);
        return;
    case BUS_SATA:
        cmd_opt(c, "-device", cdrom ? "ide-cd" : "ide-hd");
        if (n->sata < 6 && c->board != QEMU_PC) /* there the buses ide.0 and ide.1 are the chipset's, of another kind */
            cmd_kvf(c, "bus", "ide.%u", n->sata);
        else
            cmd_kvf(c, "bus", "sata%u.%u", n->sata / 6, n->sata % 6);
        n->sata++;
        return;
    case BUS_SCSI:
        cmd_opt(c, "-device",
                cdrom                            ? "scsi-cd"
                : d->lun && r && r->block_device ? "scsi-block"
                                                 : "scsi-hd");
        cmd_kvz(c, "bus", "scsi0.0");
        cmd_kvz(c, "channel", "0");
        cmd_kvz(c, "scsi-id", "0");
        cmd_kvu(c, "lun", n->scsi++);
        return;
    case BUS_USB:
        if (cdrom) { /* usb-storage is always a disk */
            cmd_opt(c, "-device", "usb-bot");
            cmd_kvf(c, "id", "bot-" STR_FMT, STR_ARG(d->name));
            cmd_kvz(c, "bus", "usb.0");
            cmd_end(c);
            cmd_opt(c, "-device", "scsi-cd");
            cmd_kvf(c, "bus", "bot-" STR_FMT ".0", STR_ARG(d->name));
            return;
        }
        cmd_opt(c, "-device", "usb-storage");
        cmd_kvz(c, "bus", "usb.0");
        return;
    }
}

void qemu_add_disks(struct qemu_cmd *c)
{
    struct counters n = {0};
    size_t boot = default_boot(c);

    for (size_t i = 0; i < c->devices->disks.n && !cmd_failed(c); i++) {
        const struct kv_disk *d = &c->devices->disks.p[i];
        const struct vmm_disk *r = resolved(c, d->name);
        struct policy p = {0};
        bool pass_through = d->lun && r && r->block_device && bus_of(c, d) == BUS_SCSI;

        if (!r && (!d->cdrom || has_volume(c, d->name))) {
            cmd_fail(c, ERROR_INVALID, "disk '" STR_FMT "': its volume was not prepared",
                     STR_ARG(d->name));
            return;
        }
        if (d->cdrom && str_is(d->cdrom->tray, "open"))
            cmd_fail(c, ERROR_UNSUPPORTED, "disk '" STR_FMT "': trays are closed at start", STR_ARG(d->name));
        if (d->lun && opt_true(d->lun->reservation))
            cmd_fail(c, ERROR_UNSUPPORTED,
                     "disk '" STR_FMT "': persistent reservations are not supported",
                     STR_ARG(d->name));
        if (d->block_size && d->block_size->match_volume
            && opt_not_false(d->block_size->match_volume->enabled))
            cmd_fail(c, ERROR_UNSUPPORTED,
                     "disk '" STR_FMT "': blockSize.matchVolume is not supported",
                     STR_ARG(d->name));
        if (r) {
            p = policy_of(c, d, r);
            if (p.read_only && !d->cdrom && bus_of(c, d) == BUS_SATA)
                cmd_fail(c, ERROR_INVALID, "disk '" STR_FMT "': a SATA disk cannot be read-only: give it bus virtio, scsi or usb, or make it a cdrom",
                         STR_ARG(d->name));
            add_nodes(c, arena_printf(c->a, "d%zu", i), r, &p);
        }
        open_device(c, d, r, &n);
        cmd_kvf(c, "id", "ua-" STR_FMT, STR_ARG(d->name));
        if (r)
            cmd_kvf(c, "drive", "d%zu", i);
        if (d->boot_order.set || i == boot)
            cmd_kvu(c, "bootindex", (uint64_t)opt_or(d->boot_order, 1));
        if (d->serial.n > 0 && !pass_through)
            cmd_kv(c, "serial", d->serial);
        if (r && !pass_through) {
            cmd_kvz(c, "write-cache", p.write_cache);
            add_errors(c, d);
            block_size(c, d);
        }
        if (opt_true(d->shareable))
            cmd_kvz(c, "share-rw", "on");
        cmd_end(c);
    }
}
