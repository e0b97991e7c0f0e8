/* What the QEMU in PATH is: its version, the accelerators that it was built with, its boards and the devices that Vireo uses.
 *
 * Three or four short runs of the program, each bounded; none of them makes a machine. What it prints is text for people, read
 * here line by line and never trusted for more than names. */
#include "base/cleanup.h"
#include "vmm/qemu/qemu.h"

#define PROGRAM "qemu-system-x86_64"
#define LIMIT_NS SECONDS(10)
#define HELP_BYTES (256 << 10)

/* Devices whose absence a user would notice: Debian and others split some of them into packages of their own. */
static const char *const wanted[] = {
    "virtio-blk-pci",
    "virtio-net-pci",
    "virtio-scsi-pci",
    "virtio-balloon-pci",
    "virtio-mem-pci",
    "virtio-rng-pci",
    "virtio-gpu-pci",
    "virtio-iommu-pci",
    "vhost-vsock-pci",
    "vhost-user-fs-pci",
    "virtio-blk-device",
    "vhost-vsock-device",
    "VGA",
    "bochs-display",
    "tpm-tis",
    "tpm-crb",
    "i6300esb",
    "pvpanic-pci",
    "usb-redir",
    "vfio-pci",
    "pxb-pcie",
    "intel-iommu",
};

static bool ask(const char *option, const char *word, struct buf *out, struct error *err)
{
    const char *const argv[] = {PROGRAM, option, word, NULL};

    buf_init(out, HELP_BYTES);
    return child_run(
        &(struct child_spec){.argv = argv, .capture_limit = HELP_BYTES, .cgroup_fd = -1}, LIMIT_NS,
        out, err);
}

static bool read_version(struct vmm_version *ret, struct error *err)
{
    AUTO(buf_done) struct buf out = {0};
    struct str line, rest;

    if (!ask("-version", NULL, &out, err))
        return false;
    str_cut(buf_str(&out), '\n', &line, &rest);
    return vmm_version_parse(line, ret, err);
}

static bool read_accelerators(struct vmm_version *ret, struct error *err)
{
    AUTO(buf_done) struct buf out = {0};
    struct str rest, line;

    if (!ask("-accel", "help", &out, err))
        return false;
    for (rest = buf_str(&out); str_next(&rest, '\n', &line);) {
        line = str_trim(line);
        ret->kvm |= str_is(line, "kvm");
        ret->tcg |= str_is(line, "tcg");
        ret->mshv |= str_is(line, "mshv");
    }
    return ret->kvm || ret->tcg || ret->mshv
           || error_set(err, ERROR_INVALID, "'-accel help' names none of kvm, tcg and mshv");
}

/* "pc-q35-7.2   Standard PC (…)": the boards of PCs, without those that are on their way out. */
static bool read_machines(struct vmm_version *ret, struct error *err)
{
    AUTO(buf_done) struct buf out = {0};
    struct str rest, line, name, about;
    size_t at;

    if (!ask("-machine", "help", &out, err))
        return false;
    for (rest = buf_str(&out); str_next(&rest, '\n', &line);) {
        str_cut(line, ' ', &name, &about);
        if ((str_starts(name, STR("pc")) || str_is(name, "q35") || str_is(name, "microvm"))
            && !str_find(about, STR("(deprecated)"), &at))
            vmm_version_note(ret->machines, sizeof ret->machines, name);
    }
    return ret->machines[0]
           || error_set(err, ERROR_INVALID, "'-machine help' names no board of a PC");
}

/* `name "virtio-blk-pci", bus PCI, …` */
static void read_devices(struct vmm_version *ret)
{
    AUTO(buf_done) struct buf out = {0};
    AUTO(error_clear) struct error err = {0};
    struct str rest, line, name, after;

    if (!ask("-device", "help", &out, &err))
        return; /* the list informs; what is missing is said by QEMU at the start of a machine */
    for (rest = buf_str(&out); str_next(&rest, '\n', &line);) {
        if (!str_starts(line, STR("name \"")))
            continue;
        str_cut(str_skip(line, 6), '"', &name, &after);
        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
            if (str_is(name, wanted[i]))
                vmm_version_note(ret->devices, sizeof ret->devices, name);
    }
}

bool qemu_probe(struct vmm_version *ret, struct error *err)
{
    *ret = (struct vmm_version){0};
    if (!read_version(ret, err) || !read_accelerators(ret, err) || !read_machines(ret, err))
        return error_wrap(err, PROGRAM);
    read_devices(ret);
    return true;
}

bool qemu_probe_board(const char *board, struct vmm_version *ret, struct error *err)
{
    return qemu_probe(ret, err)
           && (vmm_version_has(ret->machines, board)
               || error_set(err, ERROR_UNSUPPORTED, PROGRAM ": this build has no machine type '%s'",
                            board));
}
