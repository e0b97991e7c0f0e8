#include "vmm/firecracker/config.h"

#include <sys/stat.h>

#include "api/quantity.h"
#include "api/types.h"

#define MIB           (1ull << 20)
#define MAX_VCPUS     32
#define SLOT_MIB      128 /* plugged memory comes in multiples of it */
#define STATS_SECONDS 10
#define MAX_ARGS      2000 /* the kernel takes 2048, and Firecracker adds to it */

struct build {
    struct fc_config *c;
    const struct vmm_machine *m;
    const struct kv_domain_spec *domain;
    const struct kv_devices *devices;
};

void fc_config_done(struct fc_config *c)
{
    vec_done(&c->calls);
    vec_done(&c->fds);
    vec_done(&c->disks);
    vec_done(&c->nics);
    vec_done(&c->taps);
    error_clear(&c->err);
}

static bool failed(const struct build *b)
{
    return b->c->err.kind != ERROR_NONE;
}

static void refuse(struct build *b, enum error_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void refuse(struct build *b, enum error_kind kind, const char *fmt, ...)
{
    va_list ap;

    if (failed(b))
        return;
    va_start(ap, fmt);
    error_vset(&b->c->err, kind, fmt, ap);
    va_end(ap);
}

static void put(struct build *b, const char *path, const struct json *body, const char *field)
{
    vec_push(&b->c->calls, (struct fc_call){.method = "PUT", .path = path, .body = body, .field = field});
}

/* ---- processors and memory ---- */

static uint64_t part(struct build *b, struct opt_int v, const char *what)
{
    int64_t n = opt_or(v, 0) == 0 ? 1 : v.v;

    if (n < 1 || n > 4096) {
        refuse(b, ERROR_INVALID, "spec.domain.cpu.%s: %lld is out of range", what, (long long)n);
        return 1;
    }
    return (uint64_t)n;
}

static bool bytes_of(struct build *b, struct str text, const char *field, uint64_t *ret)
{
    struct quantity q;
    int64_t v;

    *ret = 0;
    if (failed(b) || !quantity_parse(text, &q, &b->c->err)) {
        if (failed(b))
            error_wrap(&b->c->err, "%s", field);
        return false;
    }
    if (!quantity_exact(q, &v) || v <= 0 || (uint64_t)v % MIB) {
        refuse(b, ERROR_INVALID, "%s: '" STR_FMT "' is no whole number of MiB, in which Firecracker counts memory", field,
               STR_ARG(text));
        return false;
    }
    *ret = (uint64_t)v;
    return true;
}

/* memory.guest, or what admission would have filled in from the resources. */
static struct str guest_memory(const struct build *b)
{
    const struct kv_memory *mem = b->domain->memory;
    const struct kv_resource_requirements *res = b->domain->resources;
    struct str s = mem ? mem->guest : STR_NONE;

    if (!s.n && res)
        s = str_map_get(&res->requests, STR("memory"));
    if (!s.n && res)
        s = str_map_get(&res->limits, STR("memory"));
    if (!s.n && mem && mem->hugepages)
        s = mem->hugepages->page_size;
    return s;
}

static void add_machine(struct build *b)
{
    static const struct kv_cpu none;
    struct arena *a = b->c->a;
    const struct kv_cpu *cpu = b->domain->cpu ? b->domain->cpu : &none;
    const struct kv_memory *mem = b->domain->memory;
    uint64_t threads = part(b, cpu->threads, "threads"), cores = part(b, cpu->cores, "cores"),
             sockets = part(b, cpu->sockets, "sockets"), page = 0;

    if (threads > 2)
        refuse(b, ERROR_UNSUPPORTED, "spec.domain.cpu.threads: Firecracker's cores have one or two threads");
    if (sockets > 1)
        refuse(b, ERROR_UNSUPPORTED, "spec.domain.cpu.sockets: Firecracker's vCPUs are in one socket: write cores");
    if (threads * cores * sockets > MAX_VCPUS)
        refuse(b, ERROR_UNSUPPORTED, "spec.domain.cpu: Firecracker has at most %d vCPUs", MAX_VCPUS);
    if (b->m->accelerator != VMM_KVM)
        refuse(b, ERROR_UNSUPPORTED, "Firecracker needs KVM, and this machine is to run with %s: use hypervisor qemu",
               vmm_accelerator_name(b->m->accelerator));
    if (!bytes_of(b, guest_memory(b), "spec.domain.memory.guest", &b->c->memory))
        return;
    if (mem && mem->hugepages) {
        if (!bytes_of(b, mem->hugepages->page_size, "spec.domain.memory.hugepages.pageSize", &page))
            return;
        if (page != 2 * MIB)
            refuse(b, ERROR_UNSUPPORTED, "spec.domain.memory.hugepages.pageSize: Firecracker knows pages of 2Mi only");
        if (b->c->memory % (2 * MIB))
            refuse(b, ERROR_INVALID, "spec.domain.memory.guest: not a multiple of the huge page size");
    }
    b->c->vcpus = (unsigned)(threads * cores * sockets);
    b->c->largest = b->c->memory;
    put(b, "/machine-config",
        json_object(a, "vcpu_count", json_new_i64(a, b->c->vcpus), "mem_size_mib", json_new_i64(a, (int64_t)(b->c->memory / MIB)),
                    "smt", json_new_bool(threads == 2), "track_dirty_pages", json_new_bool(false), "huge_pages",
                    page ? json_new_z(a, "2M") : NULL, NULL),
        "spec.domain.cpu and spec.domain.memory");
}

/* Memory that can be plugged is a device of its own, declared before the start, in whole slots; what is beyond maxGuest in the last
 * of them is never asked for. */
static void add_hotplug(struct build *b)
{
    const struct kv_memory *mem = b->domain->memory;
    struct arena *a = b->c->a;
    uint64_t max = 0, slots;

    if (!mem || !mem->max_guest.n || !bytes_of(b, mem->max_guest, "spec.domain.memory.maxGuest", &max) || max <= b->c->memory)
        return;
    b->c->hotplug = max - b->c->memory;
    slots = (b->c->hotplug + SLOT_MIB * MIB - 1) / (SLOT_MIB * MIB);
    vec_push(&b->c->calls,
             (struct fc_call){.method = "PUT",
                              .path = "/hotplug/memory",
                              .body = json_object(a, "total_size_mib", json_new_i64(a, (int64_t)slots * SLOT_MIB), "block_size_mib",
                                                  json_new_i64(a, 2), "slot_size_mib", json_new_i64(a, SLOT_MIB), NULL),
                              .field = "spec.domain.memory.maxGuest",
                              .since = FC_VERSION(1, 14)});
}

/* ---- what it boots ---- */

static bool has_word(struct str args, const char *prefix)
{
    struct str rest = args, word;

    while (str_next(&rest, ' ', &word))
        if (str_starts(word, str_of(prefix)))
            return true;
    return false;
}

const char *fc_boot_args(struct str written, bool serial, struct arena *a)
{
    static const struct {
        const char *prefix, *word;
        int serial; /* only with (1) or without (0) a serial port; -1: always */
    } needed[] = {
        {"console=", "console=ttyS0", 1},
        {"8250.nr_uarts=", "8250.nr_uarts=0", 0}, /* none to look for */
        {"reboot=", "reboot=k", -1},              /* by the keyboard controller: the only reset there is */
        {"panic=", "panic=1", -1},                /* a panic ends the machine instead of leaving it hanging */
        {"i8042.noaux", "i8042.noaux", -1},       /* no mouse, no multiplexer: saves the probing, leaves Ctrl+Alt+Del */
        {"i8042.nomux", "i8042.nomux", -1},
        {"i8042.dumbkbd", "i8042.dumbkbd", -1},
    };
    const char *args = arena_strdup(a, written.n ? str_trim(written) : STR(""));

    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if ((needed[i].serial < 0 || (needed[i].serial == 1) == serial) && !has_word(str_of(args), needed[i].prefix))
            args = arena_printf(a, "%s%s%s", args, args[0] ? " " : "", needed[i].word);
    return args;
}

static void add_boot(struct build *b)
{
    const struct kv_kernel_boot *boot = b->domain->firmware ? b->domain->firmware->kernel_boot : NULL;
    struct str args = boot ? boot->kernel_args : STR_NONE;
    struct arena *a = b->c->a;

    if (b->m->kernel_fd < 0) {
        refuse(b, ERROR_INVALID,
               "spec.domain.firmware.kernelBoot: Firecracker has no firmware and boots a kernel that it is given: name the container "
               "with an uncompressed kernel (vmlinux) there, or use hypervisor qemu");
        return;
    }
    for (size_t i = 0; i < args.n; i++)
        if ((unsigned char)args.p[i] < 0x20 || args.p[i] == 0x7f)
            refuse(b, ERROR_INVALID, "spec.domain.firmware.kernelBoot.kernelArgs: control characters are not allowed");
    if (args.n > MAX_ARGS)
        refuse(b, ERROR_TOO_LARGE, "spec.domain.firmware.kernelBoot.kernelArgs: longer than %d bytes", MAX_ARGS);
    vec_push(&b->c->fds, (struct child_fd){b->m->kernel_fd, FC_FD_KERNEL});
    if (b->m->initrd_fd >= 0)
        vec_push(&b->c->fds, (struct child_fd){b->m->initrd_fd, FC_FD_INITRD});
    put(b, "/boot-source",
        json_object(a, "kernel_image_path", json_new_f(a, "/proc/self/fd/%d", FC_FD_KERNEL), "initrd_path",
                    b->m->initrd_fd >= 0 ? json_new_f(a, "/proc/self/fd/%d", FC_FD_INITRD) : NULL, "boot_args",
                    json_new_z(a, fc_boot_args(args, b->c->serial, a)), NULL),
        "spec.domain.firmware.kernelBoot");
}

/* ---- disks and links ---- */

static const struct vmm_disk *disk_of(const struct build *b, struct str name)
{
    for (size_t i = 0; i < b->m->n_disks; i++)
        if (str_eq(b->m->disks[i].name, name))
            return &b->m->disks[i];
    return NULL;
}

static void note_size(struct build *b, int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size > b->c->largest)
        b->c->largest = (uint64_t)st.st_size;
}

static bool check_disk(struct build *b, const struct kv_disk *d, const struct vmm_disk *r)
{
    if (d->cdrom || d->lun)
        refuse(b, ERROR_UNSUPPORTED, "disk '" STR_FMT "': Firecracker has virtio disks only: write disk: {bus: virtio}",
               STR_ARG(d->name));
    else if (d->disk && d->disk->bus.n && !str_is(d->disk->bus, "virtio"))
        refuse(b, ERROR_UNSUPPORTED, "disk '" STR_FMT "': Firecracker has virtio disks only, not " STR_FMT, STR_ARG(d->name),
               STR_ARG(d->disk->bus));
    else if (!r)
        refuse(b, ERROR_INVALID, "disk '" STR_FMT "': its volume was not prepared", STR_ARG(d->name));
    else if (strcmp(r->format, "raw") != 0 || r->backing_fd >= 0)
        refuse(b, ERROR_UNSUPPORTED,
               "disk '" STR_FMT "': Firecracker reads raw images only, and this one is %s%s: use a raw image on a claim, or hypervisor "
               "qemu",
               STR_ARG(d->name), r->format, r->backing_fd >= 0 ? " on top of another" : "");
    else if (d->cache.n && !str_is(d->cache, "writeback"))
        refuse(b, ERROR_UNSUPPORTED, "disk '" STR_FMT "': cache '" STR_FMT "': Firecracker knows writeback only", STR_ARG(d->name),
               STR_ARG(d->cache));
    else if (d->error_policy.n && !str_is(d->error_policy, "report"))
        refuse(b, ERROR_UNSUPPORTED, "disk '" STR_FMT "': errorPolicy: Firecracker reports errors to the guest: write report",
               STR_ARG(d->name));
    return !failed(b);
}

/* Writeback, never its default (Unsafe): that one tells the guest that it need not flush, and drops what it flushes. Sync: the
 * sandbox has no io_uring. The root device is the first disk, unless the user or an initrd says where the root is. */
static void add_disks(struct build *b)
{
    const struct kv_kernel_boot *boot = b->domain->firmware ? b->domain->firmware->kernel_boot : NULL;
    bool root = b->m->initrd_fd < 0 && !(boot && has_word(boot->kernel_args, "root="));
    struct arena *a = b->c->a;

    for (size_t i = 0; i < b->devices->disks.n; i++) {
        const struct kv_disk *d = &b->devices->disks.p[i];
        const struct vmm_disk *r = disk_of(b, d->name);
        const char *id = arena_printf(a, "disk%zu", i);
        int number = FC_FD_DISKS + (int)i;

        if (failed(b) || !check_disk(b, d, r))
            return;
        bool read_only = r->read_only || (d->disk && opt_true(d->disk->readonly));
        vec_push(&b->c->fds, (struct child_fd){r->fd, number});
        vec_push(&b->c->disks, arena_strdup(a, d->name));
        if (!read_only)
            note_size(b, r->fd);
        put(b, arena_printf(a, "/drives/%s", id),
            json_object(a, "drive_id", json_new_z(a, id), "path_on_host", json_new_f(a, "/proc/self/fd/%d", number),
                        "is_root_device", json_new_bool(root && i == 0), "is_read_only", json_new_bool(read_only), "cache_type",
                        json_new_z(a, "Writeback"), "io_engine", json_new_z(a, "Sync"), NULL),
            arena_printf(a, "disk '" STR_FMT "'", STR_ARG(d->name)));
    }
}

static size_t nic_of(const struct build *b, struct str name)
{
    size_t i = 0;

    while (i < b->m->n_nics && !str_eq(b->m->nics[i].name, name))
        i++;
    return i;
}

static void add_nic(struct build *b, const struct kv_interface *iface, const char (*taps)[FC_TAP_NAME])
{
    struct arena *a = b->c->a;
    size_t at = nic_of(b, iface->name);
    const struct vmm_nic *r = at < b->m->n_nics ? &b->m->nics[at] : NULL;
    const char *id = arena_printf(a, "net%zu", b->c->nics.n);

    if (str_is(iface->state, "down"))
        refuse(b, ERROR_UNSUPPORTED, "interface '" STR_FMT "': state down: Firecracker's links cannot be taken down",
               STR_ARG(iface->name));
    if (iface->model.n && !str_is(iface->model, "virtio") && !str_is(iface->model, "virtio-non-transitional"))
        refuse(b, ERROR_UNSUPPORTED, "interface '" STR_FMT "': model " STR_FMT ": Firecracker's are virtio", STR_ARG(iface->name),
               STR_ARG(iface->model));
    if (!r || r->n_fds == 0 || at >= FC_MAX_TAPS)
        refuse(b, ERROR_INVALID, "interface '" STR_FMT "': its network was not prepared", STR_ARG(iface->name));
    else if (r->n_fds > 1)
        refuse(b, ERROR_UNSUPPORTED,
               "spec.domain.devices.networkInterfaceMultiqueue: Firecracker's links have one queue: leave it out");
    if (failed(b))
        return;
    struct str mac = r->mac.n ? r->mac : iface->mac_address;
    const struct json *body =
        json_object(a, "iface_id", json_new_z(a, id), "host_dev_name", json_new_z(a, taps[at]), "guest_mac",
                    mac.n ? json_new_str(a, mac) : NULL, NULL);
    struct fc_call call = {.method = "PUT",
                           .path = arena_printf(a, "/network-interfaces/%s", id),
                           .body = body,
                           .field = arena_printf(a, "interface '" STR_FMT "'", STR_ARG(iface->name))};
    if (r->mtu > 0) {
        call.since = FC_VERSION(1, 16); /* older ones: by DHCP, as before */
        call.older = body;
        call.body = json_with(a, body, "mtu", json_new_i64(a, r->mtu));
    }
    vec_push(&b->c->calls, call);
    vec_push(&b->c->nics, arena_strdup(a, iface->name));
    vec_push(&b->c->taps, arena_printf(a, "%s", taps[at]));
}

/* ---- the small ones ---- */

static void add_devices(struct build *b)
{
    struct arena *a = b->c->a;

    if (b->m->vsock_cid) {
        b->c->vsock = true;
        put(b, "/vsock",
            json_object(a, "guest_cid", json_new_i64(a, b->m->vsock_cid), "uds_path", json_new_z(a, FC_VSOCK), NULL),
            "spec.domain.devices.autoattachVSOCK");
    }
    /* Huge pages are never given back, so a balloon would do nothing. */
    if (opt_not_false(b->devices->autoattach_mem_balloon) && !(b->domain->memory && b->domain->memory->hugepages)) {
        b->c->balloon = true;
        put(b, "/balloon",
            json_object(a, "amount_mib", json_new_i64(a, 0), "deflate_on_oom", json_new_bool(true), "stats_polling_interval_s",
                        json_new_i64(a, STATS_SECONDS), NULL),
            "spec.domain.devices.autoattachMemBalloon");
    }
    if (b->devices->rng)
        put(b, "/entropy", json_object(a, NULL), "spec.domain.devices.rng");
}

/* What admission should have refused is refused here too: nothing is left out in silence. */
static void refuse_others(struct build *b)
{
    const struct kv_devices *d = b->devices;
    const struct kv_domain_spec *s = b->domain;
    const struct {
        bool asked;
        const char *path;
    } table[] = {
        {d->filesystems.n > 0, "devices.filesystems"},
        {d->gpus.n > 0, "devices.gpus"},
        {d->host_devices.n > 0, "devices.hostDevices"},
        {d->client_passthrough != NULL, "devices.clientPassthrough"},
        {d->downward_metrics != NULL, "devices.downwardMetrics"},
        {d->tpm && opt_not_false(d->tpm->enabled), "devices.tpm"},
        {d->watchdog != NULL, "devices.watchdog"},
        {d->sound != NULL, "devices.sound"},
        {d->video != NULL, "devices.video"},
        {d->inputs.n > 0, "devices.inputs"},
        {d->panic_devices.n > 0, "devices.panicDevices"},
        {opt_true(d->autoattach_graphics_device), "devices.autoattachGraphicsDevice"},
        {opt_true(d->block_multi_queue), "devices.blockMultiQueue"},
        {opt_true(d->use_virtio_transitional), "devices.useVirtioTransitional"},
        {s->launch_security != NULL, "launchSecurity"},
        {s->cpu && s->cpu->numa, "cpu.numa"},
        {s->cpu && s->cpu->features.n > 0, "cpu.features"},
        {s->cpu && s->cpu->model.n && !str_is(s->cpu->model, "host-passthrough") && !str_is(s->cpu->model, "host-model"),
         "cpu.model"},
        {s->features && vmm_hyperv_asked(s->features->hyperv), "features.hyperv"},
        {s->features && s->features->hyperv_passthrough && opt_not_false(s->features->hyperv_passthrough->enabled),
         "features.hypervPassthrough"},
        {s->firmware && s->firmware->bootloader && s->firmware->bootloader->efi, "firmware.bootloader.efi"},
        {s->firmware && s->firmware->acpi, "firmware.acpi"},
        {s->chassis != NULL, "chassis"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].asked)
            refuse(b, ERROR_UNSUPPORTED, "spec.domain.%s is not supported by Firecracker: leave it out, or use hypervisor qemu",
                   table[i].path);
}

bool fc_config_build(struct fc_config *c, struct arena *a, const struct vmm_machine *m, const char (*taps)[FC_TAP_NAME],
                     struct error *err)
{
    struct build b = {.c = c, .m = m, .domain = m->vmi->spec ? m->vmi->spec->domain : NULL};

    b.devices = b.domain ? b.domain->devices : NULL;
    *c = (struct fc_config){.a = a};
    if (!b.devices)
        return error_set(err, ERROR_INVALID, "spec.domain.devices is missing");
    if (m->incoming)
        return error_set(err, ERROR_UNSUPPORTED, "Firecracker does not migrate machines");
    c->serial = opt_not_false(b.devices->autoattach_serial_console);
    c->reboots = !str_is(b.domain->reboot_policy, "Terminate");
    refuse_others(&b);
    add_machine(&b);
    add_boot(&b);
    add_disks(&b);
    for (size_t i = 0; i < b.devices->interfaces.n && !failed(&b); i++)
        if (!str_is(b.devices->interfaces.p[i].state, "absent"))
            add_nic(&b, &b.devices->interfaces.p[i], taps);
    add_devices(&b);
    add_hotplug(&b);
    if (failed(&b))
        return error_move(err, &c->err);
    c->largest += c->hotplug;
    return true;
}

const struct json *fc_config_load(const struct fc_config *c, struct arena *a)
{
    const struct json *links = json_array(a, NULL);

    for (size_t i = 0; i < c->nics.n; i++)
        links = json_append(a, links,
                            json_object(a, "iface_id", json_new_f(a, "net%zu", i), "host_dev_name", json_new_z(a, c->taps.p[i]), NULL));
    return json_object(a, "snapshot_path", json_new_f(a, "/proc/self/fd/%d", FC_FD_STATE), "mem_backend",
                       json_object(a, "backend_type", json_new_z(a, "File"), "backend_path",
                                   json_new_f(a, "/proc/self/fd/%d", FC_FD_MEMORY), NULL),
                       "resume_vm", json_new_bool(false), "network_overrides", c->nics.n ? links : NULL, NULL);
}
