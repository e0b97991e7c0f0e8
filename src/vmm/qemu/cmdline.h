/* vmm/qemu/cmdline - QEMU's command line, put together part by part.
 *
 * Building is pure: nothing is opened or asked, the same machine gives the same lines. The first mistake sticks in
 * cmd->err and everything after it is ignored, so builders append freely and the caller asks once.
 *
 * Texts of tenants end up in option values, where QEMU splits at commas: they are doubled here, and control characters,
 * which no option needs, are refused. Where QEMU takes JSON (-blockdev) JSON is given. */
#pragma once
#include "base/vec.h"
#include "json/json.h"
#include "loop/child.h"
#include "vmm/vmm.h"

enum qemu_board {
    QEMU_Q35,     /* PCI Express */
    QEMU_PC,      /* i440fx: conventional PCI */
    QEMU_MICROVM, /* no PCI: virtio-mmio */
};

struct qemu_places { /* see places.c */
    unsigned ports;   /* root ports so far */
    unsigned devices; /* that count for the spare ports */
    unsigned legacy;  /* slots taken for conventional devices */
    unsigned mmio;    /* transports taken */
};

struct qemu_cmd {
    struct arena *a; /* borrowed: every text lives here */
    VEC(const char *) argv;
    VEC(struct child_fd) fds; /* what QEMU inherits: our descriptor, its number there */
    VEC(const char *) env;
    int next_fd, next_fdset;
    struct buf opt; /* the option value being written */
    struct error err;
    const struct vmm_machine *m;
    const struct kv_domain_spec *domain;
    const struct kv_devices *devices;
    enum qemu_board board;
    struct qemu_places places;
    unsigned vcpus; /* at boot */
    unsigned tsc_khz; /* of the host's counter, which an emulated guest sees; 0: not known */
    uint64_t memory, memory_max; /* bytes at boot, and with what can be plugged */
    const char *type_name; /* of the machine, as a snapshot has it; NULL: as the spec says */
    bool efi, usb, scsi, ahci2;
    unsigned iothreads;
};

void cmd_init(struct qemu_cmd *c, struct arena *a, const struct vmm_machine *m, bool microvm);
void cmd_done(struct qemu_cmd *c);
bool cmd_failed(const struct qemu_cmd *c);
void cmd_fail(struct qemu_cmd *c, enum error_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);

void cmd_flag(struct qemu_cmd *c, const char *flag);                    /* "-nodefaults" */
void cmd_pair(struct qemu_cmd *c, const char *flag, const char *value); /* a value of our own */
void cmd_text(struct qemu_cmd *c, const char *flag,
              struct str value); /* a tenant's value that is no option list (-append) */
void cmd_json(struct qemu_cmd *c, const char *flag, const struct json *value);
/* An option list: cmd_opt(c, "-device", "isa-serial"), any number of cmd_kv…, cmd_end(c). */
void cmd_opt(struct qemu_cmd *c, const char *flag, const char *head); /* head may be NULL */
void cmd_kv(struct qemu_cmd *c, const char *key,
            struct str value); /* escaped; an absent value is left out */
void cmd_kvz(struct qemu_cmd *c, const char *key, const char *value);
void cmd_kvf(struct qemu_cmd *c, const char *key, const char *fmt, ...)
    PRINTF_LIKE(3, 4); /* escaped */
void cmd_kvu(struct qemu_cmd *c, const char *key, uint64_t value);
void cmd_kvb(struct qemu_cmd *c, const char *key, bool on); /* on|off */
void cmd_end(struct qemu_cmd *c);

int cmd_fd(struct qemu_cmd *c, int fd);            /* its number in QEMU */
const char *cmd_fdset(struct qemu_cmd *c, int fd); /* "/dev/fdset/3", with the -add-fd it needs */
const char *cmd_fd_path(struct qemu_cmd *c,
                        int fd); /* "/proc/self/fd/9", for files that QEMU reads once at start */

/* places.c: where devices sit; each writes bus= and addr= into the open option. */
#define QEMU_MMIO_PLACES 24 /* of a microvm with ACPI, the first not used; 8 without */
/* wanted: spec's pciAddress or absent. A root port of its own (q35), a slot (pc). */
void place_device(struct qemu_cmd *c, struct str wanted);
void place_legacy(struct qemu_cmd *c); /* conventional devices: straight on the root bus */
void place_ports(struct qemu_cmd *c, unsigned n); /* ports left empty for what comes later */
void place_spare_ports(struct qemu_cmd *c);       /* the extra ones that hotplug counts on; last */
/* -device <name>-pci or <name>-device ("virtio-blk"), with its place: options follow, then cmd_end(). */
void cmd_virtio(struct qemu_cmd *c, const char *name, struct str wanted);
const char *place_root(const struct qemu_cmd *c); /* "pcie.0" */
bool qemu_acpi(const struct qemu_cmd *c); /* features.acpi */

/* microvm.c: what a machine without PCI cannot be asked for, by its path in the spec. */
void microvm_check(struct qemu_cmd *c);
/* machine.c */
void qemu_add_base(struct qemu_cmd *c);
void qemu_add_cpu(struct qemu_cmd *c);
void qemu_add_memory(struct qemu_cmd *c);
void qemu_add_clock(struct qemu_cmd *c);
void qemu_add_smbios(struct qemu_cmd *c);
void qemu_add_boot(struct qemu_cmd *c, int bios_fd);
/* disks.c */
void qemu_add_controllers(struct qemu_cmd *c);
void qemu_add_iothreads(struct qemu_cmd *c);
void qemu_add_disks(struct qemu_cmd *c);
/* The block nodes alone, and what the device has to say about errors and caching: for a disk that is plugged later. */
struct qemu_disk_parts {
    const char *write_cache;
    struct str werror, rerror;
};
MUST_CHECK bool qemu_disk_nodes(struct qemu_cmd *c, const char *node, const struct kv_disk *d, const struct vmm_disk *r,
                                struct qemu_disk_parts *ret, struct error *err);
/* devices.c */
void qemu_add_nics(struct qemu_cmd *c);
void qemu_add_ports(struct qemu_cmd *c, int serial_fd, int agent_fd);
void qemu_add_graphics(struct qemu_cmd *c);
void qemu_add_devices(struct qemu_cmd *c);

/* What firmware.c opened; -1 where there is none. */
struct qemu_firmware {
    int code_fd, vars_fd; /* UEFI */
    bool secure;
    int bios_fd; /* of a microvm that boots from a disk */
};
struct qemu_ends {              /* QEMU's ends of our socket pairs */
    int monitor, serial, agent; /* serial: -1 without */
};
/* The whole command line. argv is NULL-terminated and lives as long as the arena; fds and env as long as c. */
MUST_CHECK bool qemu_build(struct qemu_cmd *c, const struct qemu_firmware *fw,
                           const struct qemu_ends *ends, struct error *err);

/* Bytes of a Kubernetes quantity ("1.5Gi", "512M", "1e9"), rounded down as upstream does. */
MUST_CHECK bool qemu_quantity(struct str q, uint64_t *ret, struct error *err);
bool qemu_wants_serial(const struct vmm_machine *m);
bool qemu_wants_graphics(const struct vmm_machine *m);
