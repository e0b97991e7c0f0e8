/* From the VMI to VmConfig, the body of vm.create. Pure: the same machine gives the same document.
 *
 * What admission should have refused is refused here again: nothing that was written is left out in silence. NICs are not in
 * it: their descriptors have to come with a request of their own (vm.add-net). */
#include "vmm/cloud_hypervisor/ch.h"

#include <stdio.h>

#include "api/quantity.h"
#include "api/types.h"

static bool quantity(struct str text, const char *field, uint64_t *ret, struct error *err)
{
    struct quantity q;
    int64_t v;

    if (!quantity_parse(text, &q, err))
        return error_wrap(err, "spec.domain.%s", field);
    v = quantity_value(q); /* rounded up; upstream rounds what is no whole number down */
    if (!quantity_exact(q, &v))
        v--;
    if (v < 0)
        return error_set(err, ERROR_INVALID, "spec.domain.%s: '" STR_FMT "' is less than nothing", field, STR_ARG(text));
    *ret = (uint64_t)v;
    return true;
}

static const struct kv_domain_spec *domain_of(const struct vmm_machine *m)
{
    return m->vmi->spec->domain;
}

/* memory.guest, or what admission would have filled in from the resources. */
static struct str guest_memory(const struct kv_domain_spec *d)
{
    struct str s = d->memory ? d->memory->guest : STR_NONE;

    if (!s.n && d->resources)
        s = str_map_get(&d->resources->requests, STR("memory"));
    if (!s.n && d->resources)
        s = str_map_get(&d->resources->limits, STR("memory"));
    if (!s.n && d->memory && d->memory->hugepages)
        s = d->memory->hugepages->page_size;
    return s;
}

static bool part(struct opt_int v, const char *what, uint64_t *ret, struct error *err)
{
    int64_t n = opt_or(v, 0) == 0 ? 1 : v.v;

    if (n < 1 || n > 4096)
        return error_set(err, ERROR_INVALID, "spec.domain.cpu.%s: %lld is out of range", what, (long long)n);
    *ret = (uint64_t)n;
    return true;
}

struct topology {
    uint64_t sockets, max_sockets, cores, threads;
};

static bool topology(const struct kv_domain_spec *d, struct topology *ret, struct error *err)
{
    static const struct kv_cpu none;
    const struct kv_cpu *cpu = d->cpu ? d->cpu : &none;
    uint64_t total;

    if (!part(cpu->sockets, "sockets", &ret->sockets, err) || !part(cpu->max_sockets, "maxSockets", &ret->max_sockets, err)
        || !part(cpu->cores, "cores", &ret->cores, err) || !part(cpu->threads, "threads", &ret->threads, err))
        return false;
    if (ret->max_sockets < ret->sockets)
        ret->max_sockets = ret->sockets;
    total = ret->max_sockets * ret->cores * ret->threads; /* each at most 2^12 */
    if (total > 254)
        return error_set(err, ERROR_INVALID, "spec.domain.cpu: %llu vCPUs are more than cloud-hypervisor can give (254)",
                         (unsigned long long)total);
    if (ret->threads > 2)
        return error_set(err, ERROR_INVALID, "spec.domain.cpu.threads: cloud-hypervisor has at most 2 threads a core");
    return true;
}

bool ch_sizes(const struct vmm_machine *m, struct ch_sizes *ret, struct error *err)
{
    const struct kv_domain_spec *d = domain_of(m);
    struct topology t;
    uint64_t max = 0;

    *ret = (struct ch_sizes){0};
    if (!topology(d, &t, err) || !quantity(guest_memory(d), "memory.guest", &ret->memory, err)
        || (d->memory && d->memory->max_guest.n && !quantity(d->memory->max_guest, "memory.maxGuest", &max, err)))
        return false;
    if (ret->memory < (1u << 20))
        return error_set(err, ERROR_INVALID, "spec.domain.memory.guest: less than 1Mi");
    ret->vcpus = (unsigned)(t.sockets * t.cores * t.threads);
    ret->vcpus_max = (unsigned)(t.max_sockets * t.cores * t.threads);
    ret->memory_max = ret->memory;
    if (max > ret->memory)
        ret->memory_max += (max - ret->memory) / CH_STEP * CH_STEP;
    return true;
}

static const struct json *u64(struct arena *a, uint64_t v)
{
    return json_new_i64(a, (int64_t)v);
}

static const struct json *text(struct arena *a, struct str s)
{
    return s.n ? json_new_str(a, s) : NULL;
}

static bool cpus(const struct kv_domain_spec *d, const struct ch_sizes *s, struct arena *a, const struct json **ret,
                 struct error *err)
{
    const struct kv_features *f = d->features;
    struct topology t;

    if (!topology(d, &t, err))
        return false;
    /* It shows a guest all of what Hyper-V has, or nothing. */
    bool hyperv = f && f->hyperv_passthrough && opt_not_false(f->hyperv_passthrough->enabled);
    *ret = json_object(a, "boot_vcpus", u64(a, s->vcpus), "max_vcpus", u64(a, s->vcpus_max), "topology",
                       json_object(a, "threads_per_core", u64(a, t.threads), "cores_per_die", u64(a, t.cores),
                                   "dies_per_package", u64(a, 1), "packages", u64(a, t.max_sockets), NULL),
                       "kvm_hyperv", hyperv ? json_new_bool(true) : NULL, NULL);
    return true;
}

static bool memory(const struct kv_domain_spec *d, const struct ch_sizes *s, struct arena *a, const struct json **ret,
                   struct error *err)
{
    const struct kv_hugepages *huge = d->memory ? d->memory->hugepages : NULL;
    const struct json *v = json_object(a, "size", u64(a, s->memory), NULL);
    uint64_t page = 0;

    if (s->memory_max > s->memory) {
        v = json_with(a, v, "hotplug_size", u64(a, s->memory_max - s->memory));
        v = json_with(a, v, "hotplug_method", json_new_z(a, "VirtioMem")); /* gives back, too; and in any order */
    }
    if (huge) {
        if (!quantity(huge->page_size, "memory.hugepages.pageSize", &page, err))
            return false;
        if (page == 0 || (page & (page - 1)) || s->memory % page)
            return error_set(err, ERROR_INVALID, "spec.domain.memory.guest: not a multiple of the huge page size");
        v = json_with(a, v, "hugepages", json_new_bool(true));
        v = json_with(a, v, "hugepage_size", u64(a, page));
        v = json_with(a, v, "prefault", json_new_bool(true)); /* that they are missing is told now, not by a fault later */
    }
    *ret = v;
    return true;
}

static bool clean(struct str s, const char *field, struct error *err)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return error_set(err, ERROR_INVALID, "%s: control characters are not allowed", field);
    return true;
}

static bool payload(const struct vmm_machine *m, enum ch_payload what, struct arena *a, const struct json **ret,
                    struct error *err)
{
    const struct kv_firmware *fw = domain_of(m)->firmware;
    struct str args = fw && fw->kernel_boot ? fw->kernel_boot->kernel_args : STR_NONE;

    if (!clean(args, "spec.domain.firmware.kernelBoot.kernelArgs", err))
        return false;
    if (what == CH_FIRMWARE)
        *ret = json_object(a, "firmware", json_new_z(a, CH_PLACES "/firmware"), NULL);
    else
        *ret = json_object(a, "kernel", json_new_z(a, CH_PLACES "/kernel"), "initramfs",
                           what == CH_KERNEL ? NULL : json_new_z(a, CH_PLACES "/initramfs"), "cmdline", text(a, args), NULL);
    return true;
}

/* Names become file names and identifiers. */
static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '-' || ch == '_'
              || (ch == '.' && i > 0)))
            return false;
    }
    return s.n > 0 && s.n <= 63;
}

bool ch_disk(const struct kv_disk *d, const struct vmm_disk *r, unsigned queues, struct arena *a, const struct json **ret,
             struct error *err)
{
    bool direct = r->direct, qcow2 = strcmp(r->format, "qcow2") == 0;
    bool read_only = r->read_only || (d->disk && opt_true(d->disk->readonly)) || d->cdrom;

    if (!is_name(d->name))
        return error_set(err, ERROR_INVALID, "disk '" STR_FMT "': its name is no name", STR_ARG(d->name));
    if (d->cdrom || d->lun || (d->disk && d->disk->bus.n && !str_is(d->disk->bus, "virtio")))
        return error_set(err, ERROR_UNSUPPORTED, "disk '" STR_FMT "': cloud-hypervisor has virtio disks only",
                         STR_ARG(d->name));
    if (d->serial.n > 20)
        return error_set(err, ERROR_INVALID, "disk '" STR_FMT "': a serial number has at most 20 bytes", STR_ARG(d->name));
    if (!clean(d->serial, "serial", err))
        return error_wrap(err, "disk '" STR_FMT "'", STR_ARG(d->name));
    if (opt_true(d->shareable) && !read_only)
        return error_set(err, ERROR_UNSUPPORTED,
                         "disk '" STR_FMT "': cloud-hypervisor locks what it writes to: shareable needs readonly",
                         STR_ARG(d->name));
    if (d->error_policy.n && !str_is(d->error_policy, "report"))
        return error_set(err, ERROR_UNSUPPORTED,
                         "disk '" STR_FMT
                         "': cloud-hypervisor tells the guest of errors and does not stop for them: errorPolicy report",
                         STR_ARG(d->name));
    if (str_is(d->cache, "none") && !r->direct)
        return error_set(err, ERROR_INVALID, "disk '" STR_FMT "': cache none needs O_DIRECT, which its file system lacks",
                         STR_ARG(d->name));
    if (str_is(d->cache, "writethrough"))
        return error_set(err, ERROR_UNSUPPORTED, "disk '" STR_FMT "': cloud-hypervisor has the caches none and writeback only",
                         STR_ARG(d->name));
    if (str_is(d->cache, "writeback"))
        direct = false;
    /* The type is said, never left to be guessed: a guest can write the head of another format into a raw disk. */
    *ret = json_object(a, "id", json_new_f(a, "disk-" STR_FMT, STR_ARG(d->name)), "path",
                       json_new_f(a, CH_PLACES "/disk-" STR_FMT, STR_ARG(d->name)), "image_type",
                       json_new_z(a, qcow2 ? "Qcow2" : "Raw"), "backing_files", json_new_bool(r->backing_fd >= 0), "readonly",
                       json_new_bool(read_only), "direct", json_new_bool(direct), "sparse", json_new_bool(!r->preallocated),
                       "num_queues", u64(a, queues), "serial", text(a, d->serial), NULL);
    return true;
}

bool ch_nic(const struct kv_interface *i, const struct vmm_nic *r, unsigned vcpus, struct arena *a, const struct json **ret,
            struct error *err)
{
    struct str mac = r->mac.n ? r->mac : i->mac_address;

    if (!is_name(i->name))
        return error_set(err, ERROR_INVALID, "interface '" STR_FMT "': its name is no name", STR_ARG(i->name));
    if (i->model.n && !str_is(i->model, "virtio") && !str_is(i->model, "virtio-non-transitional"))
        return error_set(err, ERROR_UNSUPPORTED, "interface '" STR_FMT "': cloud-hypervisor has the model virtio only",
                         STR_ARG(i->name));
    if (str_is(i->state, "down"))
        return error_set(err, ERROR_UNSUPPORTED, "interface '" STR_FMT "': cloud-hypervisor cannot take a link down",
                         STR_ARG(i->name));
    if (r->n_fds == 0 || r->n_fds > REST_MAX_FDS)
        return error_set(err, ERROR_INVALID, "interface '" STR_FMT "': its network was not prepared", STR_ARG(i->name));
    if (r->n_fds > vcpus)
        return error_set(err, ERROR_INVALID, "interface '" STR_FMT "': %zu queues are more than the machine's %u vCPUs",
                         STR_ARG(i->name), r->n_fds, vcpus);
    /* No mtu: it would set the tap's, which it may not; the guest is told what the tap has. */
    *ret = json_object(a, "id", json_new_f(a, "net-" STR_FMT, STR_ARG(i->name)), "mac", text(a, mac), "num_queues",
                       u64(a, 2 * r->n_fds), NULL);
    return true;
}

const struct kv_disk *ch_disk_spec(const struct vmm_machine *m, struct str name)
{
    const struct kv_disk_slice *s = &domain_of(m)->devices->disks;

    for (size_t i = 0; i < s->n; i++)
        if (str_eq(s->p[i].name, name))
            return &s->p[i];
    return NULL;
}

const struct kv_interface *ch_nic_spec(const struct vmm_machine *m, struct str name)
{
    const struct kv_interface_slice *s = &domain_of(m)->devices->interfaces;

    for (size_t i = 0; i < s->n; i++)
        if (str_eq(s->p[i].name, name))
            return &s->p[i];
    return NULL;
}

static bool disks(const struct vmm_machine *m, const struct ch_sizes *s, struct arena *a, const struct json **ret,
                  struct error *err)
{
    const struct kv_devices *d = domain_of(m)->devices;
    const struct json **items = ARENA_ARRAY(a, const struct json *, d->disks.n + 1);

    for (size_t i = 0; i < d->disks.n; i++) {
        const struct vmm_disk *r = NULL;

        for (size_t k = 0; k < m->n_disks && !r; k++)
            if (str_eq(m->disks[k].name, d->disks.p[i].name))
                r = &m->disks[k];
        if (!r)
            return error_set(err, ERROR_INVALID, "disk '" STR_FMT "': its volume was not prepared",
                             STR_ARG(d->disks.p[i].name));
        if (!ch_disk(&d->disks.p[i], r, opt_true(d->block_multi_queue) ? s->vcpus : 1, a, &items[i], err))
            return false;
    }
    *ret = d->disks.n ? json_array_n(a, items, d->disks.n) : NULL;
    return true;
}

static const struct json *platform(const struct kv_firmware *fw, unsigned version, struct arena *a)
{
    if (!fw || (!fw->uuid.n && !fw->serial.n))
        return NULL;
    return json_object(a, version < 53 ? "uuid" : "system_uuid", text(a, fw->uuid),
                       version < 53 ? "serial_number" : "system_serial_number", text(a, fw->serial), NULL);
}

static bool other_cpu(const struct kv_domain_spec *d)
{
    struct str model = d->cpu ? d->cpu->model : STR_NONE;

    return model.n && !str_is(model, "host-passthrough") && !str_is(model, "host-model");
}

static bool other_panic_device(const struct kv_devices *d)
{
    for (size_t i = 0; i < d->panic_devices.n; i++)
        if (d->panic_devices.p[i].model.n && !str_is(d->panic_devices.p[i].model, "pvpanic"))
            return true;
    return false;
}

static bool refuse_unsupported(const struct vmm_machine *m, struct error *err)
{
    const struct kv_domain_spec *d = domain_of(m);
    const struct kv_devices *v = d->devices;
    const struct kv_bootloader *boot = d->firmware ? d->firmware->bootloader : NULL;
    const struct kv_efi *efi = boot ? boot->efi : NULL;
    const struct {
        bool asked;
        const char *path;
    } table[] = {
        {v->filesystems.n > 0, "devices.filesystems"},
        {v->gpus.n > 0, "devices.gpus"},
        {v->host_devices.n > 0, "devices.hostDevices"},
        {v->client_passthrough != NULL, "devices.clientPassthrough"},
        {v->downward_metrics != NULL, "devices.downwardMetrics"},
        {v->tpm && opt_not_false(v->tpm->enabled), "devices.tpm"},
        {opt_true(v->autoattach_graphics_device), "devices.autoattachGraphicsDevice"},
        {v->watchdog != NULL, "devices.watchdog"},
        {v->sound != NULL, "devices.sound"},
        {v->inputs.n > 0, "devices.inputs"},
        {opt_true(v->use_virtio_transitional), "devices.useVirtioTransitional"},
        {opt_true(v->autoattach_vsock) && !m->vsock_cid, "devices.autoattachVSOCK"},
        {d->launch_security != NULL, "launchSecurity"},
        {other_panic_device(v), "devices.panicDevices.model"},
        {other_cpu(d), "cpu.model"},
        {d->cpu && d->cpu->numa, "cpu.numa"},
        {d->cpu && d->cpu->features.n > 0, "cpu.features"},
        {d->cpu && opt_true(d->cpu->dedicated_cpu_placement), "cpu.dedicatedCpuPlacement"},
        {d->features && vmm_hyperv_asked(d->features->hyperv), "features.hyperv"},
        {d->firmware && d->firmware->acpi, "firmware.acpi"},
        {efi && opt_not_false(efi->secure_boot), "firmware.bootloader.efi.secureBoot"},
        {efi && opt_true(efi->persistent), "firmware.bootloader.efi.persistent"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].asked)
            return error_set(err, ERROR_UNSUPPORTED, "spec.domain.%s is not supported by the cloud-hypervisor driver",
                             table[i].path);
    if (m->accelerator == VMM_TCG)
        return error_set(err, ERROR_UNSUPPORTED,
                         "cloud-hypervisor needs KVM, and this machine would be emulated: use hypervisor qemu");
    return true;
}

bool ch_wants_serial(const struct vmm_machine *m)
{
    return opt_not_false(domain_of(m)->devices->autoattach_serial_console);
}

static const struct json *serial(const struct vmm_machine *m, struct arena *a)
{
    if (!ch_wants_serial(m))
        return json_object(a, "mode", json_new_z(a, "Off"), NULL);
    return json_object(a, "mode", json_new_z(a, "Socket"), "socket", json_new_z(a, CH_PLACES "/serial.sock"), NULL);
}

bool ch_config(const struct vmm_machine *m, enum ch_payload what, unsigned version, struct arena *a, const struct json **ret,
               struct error *err)
{
    const struct kv_domain_spec *d = domain_of(m);
    const struct json *c, *mem, *boot, *drives, *balloon = NULL, *vsock = NULL;
    struct ch_sizes s;

    if (!refuse_unsupported(m, err) || !ch_sizes(m, &s, err) || !cpus(d, &s, a, &c, err) || !memory(d, &s, a, &mem, err)
        || !payload(m, what, a, &boot, err) || !disks(m, &s, a, &drives, err))
        return false;
    if (opt_not_false(d->devices->autoattach_mem_balloon))
        balloon = json_object(a, "size", u64(a, 0), "deflate_on_oom", json_new_bool(true), "free_page_reporting",
                              json_new_bool(!(d->memory && d->memory->hugepages)), NULL);
    if (m->vsock_cid)
        vsock = json_object(a, "cid", u64(a, m->vsock_cid), "socket", json_new_z(a, CH_PLACES "/vsock.sock"), "id",
                            json_new_z(a, "vsock"), NULL);
    *ret = json_object(a, "cpus", c, "memory", mem, "payload", boot, "disks", drives, "rng",
                       json_object(a, "src", json_new_z(a, "/dev/urandom"), NULL), "balloon", balloon, "serial", serial(m, a),
                       "console", json_object(a, "mode", json_new_z(a, "Off"), NULL), "vsock", vsock, "pvpanic",
                       d->devices->panic_devices.n ? json_new_bool(true) : NULL, "platform", platform(d->firmware, version, a),
                       NULL);
    return true;
}
