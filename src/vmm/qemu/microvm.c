/* What a microvm lacks: PCI and all that sits on it, USB, a display, UEFI, SMBIOS, plugging. Admission refuses these fields by
 * the table of capabilities; here they are refused again, so that none is left out in silence. */
#include "vmm/qemu/cmdline.h"

#include "api/types.h"

static void refuse(struct qemu_cmd *c, bool asked, const char *path, const char *why)
{
    if (asked)
        cmd_fail(c, ERROR_UNSUPPORTED, "spec.domain.%s: qemu-microvm has no %s; vireo.io/hypervisor: qemu has", path,
                 why);
}

static void check_disks(struct qemu_cmd *c)
{
    for (size_t i = 0; i < c->devices->disks.n && !cmd_failed(c); i++) {
        const struct kv_disk *d = &c->devices->disks.p[i];
        struct str bus = d->disk ? d->disk->bus : d->lun ? d->lun->bus : d->cdrom ? d->cdrom->bus : STR_NONE;
        const char *path = arena_printf(c->a, "devices.disks[%zu]", i);

        refuse(c, d->cdrom && !str_is(bus, "scsi"), arena_printf(c->a, "%s.cdrom", path),
               "CD-ROM drives but those of bus scsi");
        refuse(c, str_is(bus, "sata") || str_is(bus, "usb"), arena_printf(c->a, "%s.disk.bus", path),
               "buses for disks but virtio and scsi");
        refuse(c, d->disk && d->disk->pci_address.n, arena_printf(c->a, "%s.disk.pciAddress", path), "PCI");
    }
}

static void check_nics(struct qemu_cmd *c)
{
    for (size_t i = 0; i < c->devices->interfaces.n && !cmd_failed(c); i++) {
        const struct kv_interface *n = &c->devices->interfaces.p[i];
        const char *path = arena_printf(c->a, "devices.interfaces[%zu]", i);
        bool is_virtio = !n->model.n || str_is(n->model, "virtio") || str_is(n->model, "virtio-non-transitional");

        refuse(c, !is_virtio, arena_printf(c->a, "%s.model", path), "model of interface but virtio");
        refuse(c, n->pci_address.n, arena_printf(c->a, "%s.pciAddress", path), "PCI");
        refuse(c, n->acpi_index.set, arena_printf(c->a, "%s.acpiIndex", path), "PCI, whose slots these indexes name");
        refuse(c, n->boot_order.set, arena_printf(c->a, "%s.bootOrder", path), "boot from the network");
    }
}

void microvm_check(struct qemu_cmd *c)
{
    const struct kv_devices *d = c->devices;
    const struct kv_firmware *fw = c->domain->firmware;
    const struct kv_timer *t = c->domain->clock ? c->domain->clock->timer : NULL;
    struct str type = c->domain->machine ? c->domain->machine->type : STR_NONE;
    bool usb = false;

    for (size_t i = 0; i < d->inputs.n; i++)
        usb |= !str_is(d->inputs.p[i].bus, "virtio");
    refuse(c, type.n && !str_is(type, "microvm"), "machine.type", "machine type but microvm");
    refuse(c, fw && fw->bootloader && fw->bootloader->efi, "firmware.bootloader.efi", "UEFI");
    refuse(c, fw && fw->bootloader && fw->bootloader->bios && opt_true(fw->bootloader->bios->use_serial),
           "firmware.bootloader.bios.useSerial", "firmware that can be told where to write");
    if (c->m->kernel_fd < 0 && !qemu_acpi(c))
        cmd_fail(c, ERROR_INVALID,
                 "spec.domain.features.acpi: qemu-microvm boots from a disk with ACPI only; leave it on, or boot a kernel "
                 "(spec.domain.firmware.kernelBoot)");
    if (c->m->accelerator == VMM_TCG && t && t->pit && !opt_not_false(t->pit->present))
        cmd_fail(c, ERROR_INVALID,
                 "spec.domain.clock.timer.pit.present: an emulated machine has no other timer to start by; leave the PIT on, or "
                 "run it where KVM works");
    refuse(c, fw && fw->serial.n, "firmware.serial", "SMBIOS");
    refuse(c, c->domain->chassis != NULL, "chassis", "SMBIOS");
    refuse(c, c->domain->features && c->domain->features->smm && opt_not_false(c->domain->features->smm->enabled),
           "features.smm", "system management mode");
    refuse(c, t && t->hpet && opt_not_false(t->hpet->present), "clock.timer.hpet", "HPET");
    refuse(c, opt_true(d->autoattach_graphics_device), "devices.autoattachGraphicsDevice", "display");
    refuse(c, d->video != NULL, "devices.video", "display");
    refuse(c, usb, "devices.inputs", "USB");
    refuse(c, d->watchdog != NULL, "devices.watchdog", "watchdog");
    refuse(c, d->sound != NULL, "devices.sound", "sound card");
    for (size_t i = 0; i < d->panic_devices.n; i++)
        refuse(c, !str_is(d->panic_devices.p[i].model, "hyperv") && !str_is(d->panic_devices.p[i].model, "isa"),
               "devices.panicDevices", "PCI");
    refuse(c, opt_true(d->use_virtio_transitional), "devices.useVirtioTransitional", "PCI");
    check_disks(c);
    check_nics(c);
}
