/* Where devices sit. On q35 every PCI Express device has a root port of its own, eight ports to a slot from slot 2 on, so
 * that it can be unplugged and so that addresses depend on the order of devices only. Slot 1 is the display's, 0x1b the
 * sound's, 0x1f the chipset's; conventional devices, which cannot be unplugged, lie on the root bus from 0x10 on, then from 6. The older pc has one bus for all and
 * no ports: its slots can be unplugged themselves. A microvm has no PCI but a row of virtio-mmio transports, filled in the order
 * in which a guest finds them: QEMU's ACPI tables list the highest first, its kernel command line (without ACPI) the lowest. */
#include "vmm/qemu/cmdline.h"

#include "api/types.h"

#define MAX_PORTS 31
#define FIRST_PC_SLOT 3
#define FIRST_PORT_SLOT 2
#define FIRST_LEGACY_SLOT 0x10
#define LAST_LEGACY_SLOT 0x1a
#define MORE_LEGACY_SLOTS 6 /* when those are taken: from here up to FIRST_LEGACY_SLOT, behind the last root port's slot */

/* The port's own option is written while the device's is open: it goes in front of the device's flag. */
static unsigned add_port(struct qemu_cmd *c)
{
    unsigned i = c->places.ports++;
    const char *text;

    if (i >= MAX_PORTS) {
        cmd_fail(c, ERROR_INVALID, "more PCI devices than this machine has ports (%d)", MAX_PORTS);
        return 0;
    }
    text = arena_printf(c->a,
                        "pcie-root-port,id=pci.%u,chassis=%u,port=0x%x,bus=pcie.0,addr=0x%x.0x%x%s",
                        i + 1, i + 1, (FIRST_PORT_SLOT + i / 8) << 3 | i % 8,
                        FIRST_PORT_SLOT + i / 8, i % 8, i % 8 == 0 ? ",multifunction=on" : "");
    cmd_pair(c, "-device", text);
    return i + 1;
}

/* bus=pcie.0 with the slot and function of "0000:00:05.0" */
static bool fixed_address(struct qemu_cmd *c, struct str wanted)
{
    unsigned domain, bus, slot, fn;
    char text[16], rest;

    if (wanted.n >= sizeof text)
        return false;
    memcpy(text, wanted.p, wanted.n);
    text[wanted.n] = '\0';
    if (sscanf(text, "%4x:%2x:%2x.%1x%c", &domain, &bus, &slot, &fn, &rest) != 4 || domain || bus
        || slot > 0x1f || fn > 7)
        return false;
    cmd_kvz(c, "bus", place_root(c));
    cmd_kvf(c, "addr", "0x%x.0x%x", slot, fn);
    return true;
}

/* Slots of i440fx: 0 and 1 are the chipset's, 2 the display's. */
static void pc_slot(struct qemu_cmd *c)
{
    unsigned slot = FIRST_PC_SLOT + c->places.legacy++;

    if (slot == 0x1b) /* the sound's */
        slot = FIRST_PC_SLOT + c->places.legacy++;
    if (slot > 0x1f)
        cmd_fail(c, ERROR_INVALID, "more PCI devices than this machine has slots; q35 has more");
    cmd_kvz(c, "bus", place_root(c));
    cmd_kvf(c, "addr", "0x%x", slot);
}

/* With ACPI the transports are on a second I/O APIC, whose pin 0 QEMU takes for the timer's of the first and moves to pin 2: the
 * first transport's interrupts never come, so it stays empty. */
static void mmio_transport(struct qemu_cmd *c)
{
    bool acpi = qemu_acpi(c);
    unsigned most = acpi ? QEMU_MMIO_PLACES - 1 : 8, i = c->places.mmio++;

    if (i >= most) {
        cmd_fail(c, ERROR_INVALID,
                 "spec.domain.devices: a microvm has %u places for disks, interfaces and other "
                 "devices; the machine q35 (vireo.io/hypervisor: qemu) has more",
                 most);
        return;
    }
    cmd_kvf(c, "bus", "virtio-mmio-bus.%u", acpi ? QEMU_MMIO_PLACES - 1 - i : i);
}

void cmd_virtio(struct qemu_cmd *c, const char *name, struct str wanted)
{
    bool transitional = opt_true(c->devices->use_virtio_transitional); /* refused on a microvm */

    cmd_opt(c, "-device",
            arena_printf(c->a, "%s-%s", name,
                         c->board == QEMU_MICROVM ? "device"
                         : transitional           ? "pci-transitional"
                                                  : "pci"));
    if (transitional && !wanted.n)
        place_legacy(c); /* it has I/O ports, for which behind a root port there is little room */
    else
        place_device(c, wanted);
}

const char *place_root(const struct qemu_cmd *c)
{
    return c->board == QEMU_PC ? "pci.0" : "pcie.0";
}

void place_device(struct qemu_cmd *c, struct str wanted)
{
    if (c->board == QEMU_MICROVM) {
        mmio_transport(c);
        return;
    }
    c->places.devices++;
    if (wanted.n > 0) {
        if (!fixed_address(c, wanted))
            cmd_fail(c, ERROR_INVALID, "PCI address '" STR_FMT "' is not on the root bus 0000:00",
                     STR_ARG(wanted));
        return;
    }
    if (c->board == QEMU_PC) {
        pc_slot(c);
        return;
    }
    /* The device's flag is the last word so far; the port has to come before it. */
    const char *flag = c->argv.p[--c->argv.n];
    unsigned port = add_port(c);
    vec_push(&c->argv, flag);
    cmd_kvf(c, "bus", "pci.%u", port);
    cmd_kvz(c, "addr", "0x0");
}

void place_legacy(struct qemu_cmd *c)
{
    if (c->board == QEMU_MICROVM) {
        cmd_fail(c, ERROR_INVALID, "a microvm has no PCI bus");
        return;
    }
    if (c->board == QEMU_PC) {
        pc_slot(c);
        return;
    }
    unsigned slot = FIRST_LEGACY_SLOT + c->places.legacy++;

    if (slot > LAST_LEGACY_SLOT)
        slot = slot - LAST_LEGACY_SLOT - 1 + MORE_LEGACY_SLOTS;
    if (c->places.legacy > LAST_LEGACY_SLOT + 1 - MORE_LEGACY_SLOTS)
        cmd_fail(c, ERROR_INVALID, "more conventional PCI devices than this machine has slots (%d)",
                 LAST_LEGACY_SLOT + 1 - MORE_LEGACY_SLOTS);
    cmd_kvz(c, "bus", "pcie.0");
    cmd_kvf(c, "addr", "0x%x", slot);
}

void place_ports(struct qemu_cmd *c, unsigned n)
{
    for (unsigned i = 0; c->board == QEMU_Q35 && i < n && c->places.ports < MAX_PORTS; i++)
        add_port(c);
}

/* Upstream's port topology v3: enough ports that a machine of this size can take what is plugged later. */
void place_spare_ports(struct qemu_cmd *c)
{
    AUTO(error_clear) struct error ignored = {0};
    uint64_t bytes = 0;
    bool large = c->domain->memory && qemu_quantity(c->domain->memory->guest, &bytes, &ignored)
                 && bytes > (2ull << 30);
    unsigned total = large ? 16 : 8, spare = large ? 6 : 3, used = c->places.devices,
             nics = (unsigned)c->m->n_nics;
    unsigned placeholders = nics == 0 || nics >= 4 ? 0 : 4 - nics, extra;

    extra = total > used && total - used > spare ? total - used : spare;
    if (opt_true(c->devices->disable_hotplug) || extra <= placeholders)
        return;
    place_ports(c, extra - placeholders);
}
