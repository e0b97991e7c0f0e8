/* Network interfaces, consoles and the small devices. */
#include "vmm/qemu/cmdline.h"

#include "api/types.h"

bool qemu_wants_serial(const struct vmm_machine *m)
{
    return opt_not_false(m->vmi->spec->domain->devices->autoattach_serial_console);
}

bool qemu_wants_graphics(const struct vmm_machine *m)
{
    return opt_not_false(m->vmi->spec->domain->devices->autoattach_graphics_device);
}

static const struct vmm_nic *resolved(const struct qemu_cmd *c, struct str name)
{
    for (size_t i = 0; i < c->m->n_nics; i++)
        if (str_eq(c->m->nics[i].name, name))
            return &c->m->nics[i];
    return NULL;
}

static void add_netdev(struct qemu_cmd *c, size_t i, const struct vmm_nic *r)
{
    AUTO(buf_done) struct buf fds = {0};

    cmd_opt(c, "-netdev", "tap");
    for (size_t q = 0; q < r->n_fds; q++)
        buf_addf(&fds, "%s%d", q ? ":" : "", cmd_fd(c, r->fds[q]));
    cmd_kv(c, r->n_fds > 1 ? "fds" : "fd", buf_str(&fds));
    cmd_kvf(c, "id", "net%zu", i);
    cmd_end(c);
}

/* The device model and its place; false for an unknown one. */
static bool open_nic(struct qemu_cmd *c, const struct kv_interface *iface, bool *ret_virtio)
{
    static const char *const legacy[] = {"e1000", "rtl8139", "pcnet", "ne2k_pci"};
    struct str model = iface->model.n ? iface->model : STR("virtio");

    *ret_virtio = str_is(model, "virtio") || str_is(model, "virtio-non-transitional");
    if (*ret_virtio) {
        cmd_virtio(c, "virtio-net", iface->pci_address);
        return true;
    }
    if (str_is(model, "e1000e") || str_is(model, "igb")) {
        cmd_opt(c, "-device", str_is(model, "igb") ? "igb" : "e1000e");
        place_device(c, iface->pci_address);
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(legacy); i++) {
        if (str_is(model, legacy[i])) {
            cmd_opt(c, "-device", legacy[i]);
            place_legacy(c);
            return true;
        }
    }
    cmd_fail(c, ERROR_INVALID, "interface '" STR_FMT "': model '" STR_FMT "' is not supported",
             STR_ARG(iface->name), STR_ARG(model));
    return false;
}

void qemu_add_nics(struct qemu_cmd *c)
{
    size_t n = 0;

    for (size_t i = 0; i < c->devices->interfaces.n && !cmd_failed(c); i++) {
        const struct kv_interface *iface = &c->devices->interfaces.p[i];
        const struct vmm_nic *r = resolved(c, iface->name);
        bool is_virtio;

        if (str_is(iface->state, "absent"))
            continue;
        if (!r || r->n_fds == 0) {
            cmd_fail(c, ERROR_INVALID, "interface '" STR_FMT "': its network was not prepared",
                     STR_ARG(iface->name));
            return;
        }
        add_netdev(c, i, r);
        if (!open_nic(c, iface, &is_virtio))
            return;
        cmd_kvf(c, "id", "ua-" STR_FMT, STR_ARG(iface->name));
        cmd_kvf(c, "netdev", "net%zu", i);
        cmd_kv(c, "mac", r->mac.n ? r->mac : iface->mac_address.n ? iface->mac_address : STR_NONE);
        if (is_virtio && r->n_fds > 1) {
            cmd_kvz(c, "mq", "on");
            if (c->board != QEMU_MICROVM)
                cmd_kvu(c, "vectors", 2 * r->n_fds + 2);
        }
        if (is_virtio && r->mtu > 0)
            cmd_kvu(c, "host_mtu", (uint64_t)r->mtu);
        if (iface->boot_order.set)
            cmd_kvu(c, "bootindex", (uint64_t)iface->boot_order.v);
        else if (c->board != QEMU_MICROVM)
            cmd_kv(c, "romfile",
                   STR("")); /* no boot ROM where nothing boots from it: saves its load */
        if (iface->acpi_index.set)
            cmd_kvu(c, "acpi-index", (uint64_t)iface->acpi_index.v);
        cmd_end(c);
        n++;
    }
    if (n > 0 && n < 4)
        place_ports(c, (unsigned)(4 - n));
}

static void add_chardev(struct qemu_cmd *c, const char *id, int fd)
{
    cmd_opt(c, "-chardev", "socket");
    cmd_kvz(c, "id", id);
    cmd_kvu(c, "fd", (uint64_t)cmd_fd(c, fd));
    cmd_end(c);
}

void qemu_add_ports(struct qemu_cmd *c, int serial_fd, int agent_fd)
{
    if (serial_fd >= 0) {
        add_chardev(c, "charserial0", serial_fd);
        cmd_pair(c, "-device", "isa-serial,chardev=charserial0,id=serial0,index=0");
    }
    cmd_virtio(c, "virtio-serial", STR_NONE);
    cmd_kvz(c, "id", "virtio-serial0");
    cmd_end(c);
    add_chardev(c, "charchannel0", agent_fd);
    cmd_pair(c, "-device",
             "virtserialport,bus=virtio-serial0.0,nr=1,chardev=charchannel0,id=channel0,name=org."
             "qemu.guest_agent.0");
}

void qemu_add_graphics(struct qemu_cmd *c)
{
    static const struct {
        const char *type, *device;
    } cards[] = {{"vga", "VGA,vgamem_mb=16"},
                 {"cirrus", "cirrus-vga"},
                 {"virtio", "virtio-vga"},
                 {"bochs", "bochs-display"}};
    struct str type = c->devices->video ? c->devices->video->type : STR_NONE;

    if (c->board == QEMU_MICROVM || !qemu_wants_graphics(c->m))
        return;
    /* No socket to guard: each viewer is handed over as a descriptor (add_client). */
    cmd_pair(c, "-vnc", "none");
    if (str_is(type, "ramfb")) {
        cmd_pair(c, "-device", "ramfb,id=video0");
        return;
    }
    if (!type.n)
        type = c->efi ? STR("bochs") : STR("vga");
    for (size_t i = 0; i < ARRAY_SIZE(cards); i++) {
        if (str_is(type, cards[i].type)) {
            cmd_pair(c, "-device",
                     arena_printf(c->a, "%s,id=video0,bus=%s,addr=0x%x", cards[i].device,
                                  place_root(c), c->board == QEMU_PC ? 2 : 1));
            return;
        }
    }
    cmd_fail(c, ERROR_INVALID, "spec.domain.devices.video.type: '" STR_FMT "' is not supported",
             STR_ARG(type));
}

static void add_inputs(struct qemu_cmd *c)
{
    for (size_t i = 0; i < c->devices->inputs.n; i++) {
        const struct kv_input *in = &c->devices->inputs.p[i];

        if (str_is(in->bus, "virtio")) {
            cmd_opt(c, "-device", c->board == QEMU_MICROVM ? "virtio-tablet-device" : "virtio-tablet-pci");
            place_device(c, STR_NONE); /* never transitional: virtio had no such device before 1.0 */
        } else {
            cmd_opt(c, "-device", "usb-tablet");
            cmd_kvz(c, "bus", "usb.0");
        }
        cmd_kvf(c, "id", "ua-" STR_FMT, STR_ARG(in->name));
        cmd_end(c);
    }
}

static void add_watchdog(struct qemu_cmd *c)
{
    const struct kv_watchdog *w = c->devices->watchdog;

    if (!w)
        return;
    if (!w->i6300esb) {
        cmd_fail(c, ERROR_UNSUPPORTED,
                 "spec.domain.devices.watchdog: only i6300esb is supported on this architecture");
        return;
    }
    cmd_opt(c, "-device", "i6300esb");
    cmd_kvf(c, "id", "ua-" STR_FMT, STR_ARG(w->name));
    place_legacy(c);
    cmd_end(c);
    cmd_opt(c, "-action", NULL);
    cmd_kv(c, "watchdog", w->i6300esb->action.n ? w->i6300esb->action : STR("reset"));
    cmd_end(c);
}

static void add_sound(struct qemu_cmd *c)
{
    const struct kv_sound_device *s = c->devices->sound;

    if (!s)
        return;
    cmd_pair(c, "-audiodev", "none,id=audio1");
    if (str_is(s->model, "ac97")) {
        cmd_opt(c, "-device", "AC97");
        cmd_kvf(c, "id", "ua-" STR_FMT, STR_ARG(s->name));
        cmd_kvz(c, "audiodev", "audio1");
        place_legacy(c);
        cmd_end(c);
        return;
    }
    cmd_opt(c, "-device", "ich9-intel-hda");
    cmd_kvf(c, "id", "ua-" STR_FMT, STR_ARG(s->name));
    cmd_kvz(c, "bus", place_root(c));
    cmd_kvz(c, "addr", "0x1b");
    cmd_end(c);
    cmd_opt(c, "-device", "hda-duplex");
    cmd_kvz(c, "id", "sound0-codec0");
    cmd_kvf(c, "bus", "ua-" STR_FMT ".0", STR_ARG(s->name));
    cmd_kvz(c, "audiodev", "audio1");
    cmd_end(c);
}

static void add_panic(struct qemu_cmd *c)
{
    for (size_t i = 0; i < c->devices->panic_devices.n; i++) {
        struct str model = c->devices->panic_devices.p[i].model;

        if (str_is(model, "hyperv"))
            continue; /* a property of the CPU */
        if (str_is(model, "pvpanic")) {
            cmd_opt(c, "-device", "pvpanic-pci");
            place_legacy(c);
            cmd_end(c);
        } else {
            cmd_pair(c, "-device", "pvpanic");
        }
    }
}

/* What admission should have refused is refused here too: nothing is left out in silence. */
static void refuse_unsupported(struct qemu_cmd *c)
{
    const struct kv_devices *d = c->devices;
    const struct kv_features *f = c->domain->features;
    const struct kv_timer *timer = c->domain->clock ? c->domain->clock->timer : NULL;
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
        {opt_true(d->autoattach_vsock) && c->m->vsock_cid == 0, "devices.autoattachVSOCK"},
        {c->domain->launch_security != NULL, "launchSecurity"},
        {c->domain->cpu && c->domain->cpu->numa, "cpu.numa"},
        {c->domain->firmware && c->domain->firmware->acpi, "firmware.acpi"},
        {f && f->apic && !opt_not_false(f->apic->enabled), "features.apic.enabled: false (PCI Express needs one)"},
        {f && f->apic && opt_true(f->apic->end_of_interrupt), "features.apic.endOfInterrupt"},
        {c->board != QEMU_MICROVM && timer && timer->rtc && !opt_not_false(timer->rtc->present), "clock.timer.rtc.present: false"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].asked)
            cmd_fail(c, ERROR_UNSUPPORTED,
                     "spec.domain.%s is not supported by this version of the QEMU driver",
                     table[i].path);
}

/* An emulated processor takes these words and does nothing about them. */
static void refuse_without_kvm(struct qemu_cmd *c)
{
    const struct kv_features *f = c->domain->features;
    const struct kv_timer *timer = c->domain->clock ? c->domain->clock->timer : NULL;
    bool crash = false;

    if (c->m->accelerator != VMM_TCG)
        return;
    for (size_t i = 0; i < c->devices->panic_devices.n; i++)
        crash |= str_is(c->devices->panic_devices.p[i].model, "hyperv");
    const struct {
        bool asked;
        const char *path;
    } table[] = {
        {crash, "devices.panicDevices: model hyperv"},
        {timer && timer->hyperv && opt_not_false(timer->hyperv->present), "clock.timer.hyperv"},
        {timer && timer->kvm && opt_true(timer->kvm->present), "clock.timer.kvm"},
        {f && f->pvspinlock && opt_not_false(f->pvspinlock->enabled), "features.pvspinlock"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].asked)
            cmd_fail(c, ERROR_UNSUPPORTED, "spec.domain.%s needs KVM; this machine is emulated", table[i].path);
}

static void add_vsock(struct qemu_cmd *c)
{
    if (c->m->vsock_cid == 0)
        return;
    if (c->m->vhost_vsock_fd < 0) {
        cmd_fail(c, ERROR_UNSUPPORTED,
                 "spec.domain.devices.autoattachVSOCK: this node has no /dev/vhost-vsock; load the module vhost_vsock");
        return;
    }
    cmd_virtio(c, "vhost-vsock", STR_NONE);
    cmd_kvz(c, "id", "vsock0");
    cmd_kvu(c, "guest-cid", c->m->vsock_cid);
    cmd_kvu(c, "vhostfd", (uint64_t)cmd_fd(c, c->m->vhost_vsock_fd));
    cmd_end(c);
}

void qemu_add_devices(struct qemu_cmd *c)
{
    refuse_unsupported(c);
    refuse_without_kvm(c);
    add_inputs(c);
    add_watchdog(c);
    if (opt_not_false(c->devices->autoattach_mem_balloon)) {
        cmd_virtio(c, "virtio-balloon", STR_NONE);
        cmd_kvz(c, "id", "balloon0");
        cmd_kvb(c, "free-page-reporting", !(c->domain->memory && c->domain->memory->hugepages));
        cmd_end(c);
    }
    if (c->devices->rng) {
        cmd_pair(c, "-object", "rng-random,id=objrng0,filename=/dev/urandom");
        cmd_virtio(c, "virtio-rng", STR_NONE);
        cmd_kvz(c, "id", "rng0");
        cmd_kvz(c, "rng", "objrng0");
        cmd_end(c);
    }
    add_vsock(c);
    add_sound(c);
    add_panic(c);
}
