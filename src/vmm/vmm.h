/* vmm/vmm - one interface over hypervisors: what a machine is made of, what can be asked of it, what it reports.
 *
 * A driver (vmm/qemu, vmm/cloud_hypervisor, vmm/firecracker) turns the typed view of a VirtualMachineInstance and the
 * host resources that were opened for it into one running process, and drives that. Drivers read no other Kubernetes
 * object and open no path that a tenant can name: whatever belongs to the tenant comes as a descriptor.
 *
 * To add a driver: a folder with `const struct vmm_driver vmm_x`, its name in its .caps file (README.md), its sources in meson.build.
 * Functions that a VMM has no means for stay NULL; vmm_*() then answers ERROR_UNSUPPORTED with the driver's name.
 *
 * Everything runs on the launcher's loop thread. Calls block for as long as the VMM needs to answer (milliseconds; bounded
 * by seconds); what happens by itself is told through the listener, never from inside a call. */
#pragma once
#include "api/views.h"
#include "loop/loop.h"

struct kv_virtual_machine_instance;

enum vmm_state { VMM_NONE, VMM_STARTING, VMM_RUNNING, VMM_PAUSED, VMM_SHUTDOWN, VMM_CRASHED };
enum vmm_reason {
    VMM_REASON_NONE,
    VMM_REASON_USER,     /* paused because someone asked */
    VMM_REASON_IO_ERROR, /* paused by a disk error (errorPolicy stop, enospace) */
    VMM_REASON_GUEST_PANIC,
    VMM_REASON_GUEST_SHUTDOWN, /* the guest turned itself off */
    VMM_REASON_HOST_SHUTDOWN,  /* … because we asked it to */
    VMM_REASON_DESTROYED,      /* ended by us */
    VMM_REASON_VMM_KILLED,     /* the VMM died and nobody here asked for it */
    VMM_REASON_START_FAILED,
    VMM_REASON_MIGRATED, /* it runs elsewhere now */
};
const char *vmm_state_name(enum vmm_state s);   /* as in proto.h */
const char *vmm_reason_name(enum vmm_reason r); /* "" for none */

enum vmm_accelerator { VMM_KVM, VMM_TCG, VMM_MSHV };
const char *vmm_accelerator_name(enum vmm_accelerator a); /* "kvm", "tcg", "mshv": as in proto.h */
MUST_CHECK bool vmm_accelerator_parse(struct str name, enum vmm_accelerator *ret, struct error *err);
/* Size of TCG's translation buffer; the memory overhead of an emulated VM has to count it. */
#define VMM_TCG_BUFFER_MIB 128

/* One disk, resolved and opened. Matched by name to spec.domain.devices.disks; all else about the device stands there. */
struct vmm_disk {
    struct str name;
    int fd;             /* borrowed; opened read-write unless read_only */
    const char *format; /* "raw" or "qcow2" */
    int backing_fd;     /* qcow2 overlay: the image below it, read-only; -1: none */
    const char *backing_format;
    bool read_only;
    bool block_device;
    bool direct; /* O_DIRECT works on it and on what lies below it */
    bool preallocated;
};

struct vmm_nic { /* matched by name to spec.domain.devices.interfaces */
    struct str name;
    const int *fds; /* borrowed: tap queues. A driver whose VMM takes a tap by its name lets go of it: they lead nowhere then */
    size_t n_fds;
    struct str mac;
    int mtu; /* 0: the default */
};

/* A piece of hardware that comes or goes while the machine runs. spec: the entry of the VMI's lists that describes it. */
enum vmm_device_kind { VMM_DEVICE_DISK, VMM_DEVICE_NIC };
struct vmm_device {
    enum vmm_device_kind kind;
    const struct vmm_disk *disk; /* VMM_DEVICE_DISK */
    const struct kv_disk *disk_spec;
    const struct vmm_nic *nic; /* VMM_DEVICE_NIC */
    const struct kv_interface *nic_spec;
};

/* What to start. Borrowed for the call of start() only. */
struct vmm_machine {
    const struct kv_virtual_machine_instance *vmi;
    enum vmm_accelerator accelerator;
    const struct vmm_disk *disks;
    size_t n_disks;
    const struct vmm_nic *nics;
    size_t n_nics;
    int kernel_fd, initrd_fd; /* -1: none */
    int private_dirfd;        /* "private" volume of the pod: NVRAM, sockets */
    const char *private_dir;  /* its path, for the few things that need one */
    const char *firmware_dir; /* NULL: /usr/share/OVMF */
    unsigned vsock_cid;       /* context ID of the guest, ≥ 3; 0: no vsock device */
    int vhost_vsock_fd;       /* opened /dev/vhost-vsock, for a VMM that uses the kernel's; -1: none */
    /* How the guest begins. At most one is set; neither: it boots. */
    const char *restore_dir; /* from a snapshot that snapshot() wrote; it ends up paused */
    const char *incoming;    /* path of the unix socket at which a migrating machine is awaited; start() returns when the VMM listens */
};

/* What the source of a live migration is told. The stream is the VMM's own; whoever stands between carries it. */
struct vmm_migration {
    const char *path;        /* unix socket that leads to the target's `incoming` */
    uint64_t bandwidth;      /* bytes a second; 0: as fast as it goes */
    unsigned downtime_ms;    /* longest pause at the end; 0: 300 */
    unsigned timeout_s;      /* given up after this; 0: never */
    bool post_copy;          /* finish by post-copy when pre-copy does not converge */
};
enum vmm_migration_state { VMM_MIGRATION_NONE, VMM_MIGRATION_RUNS, VMM_MIGRATION_DONE, VMM_MIGRATION_FAILED, VMM_MIGRATION_CANCELLED };
struct vmm_migration_status {
    enum vmm_migration_state state;
    uint64_t total_bytes, done_bytes, left_bytes; /* 0: the VMM does not tell */
    unsigned downtime_ms;                         /* once done */
    char message[256];
};

struct vmm_status {
    enum vmm_state state;
    enum vmm_reason reason;
    char message[512]; /* a sentence for the user, or "" */
    int64_t since_ns;  /* wall clock */
    pid_t pid;         /* 0 when none */
    char machine[64];  /* resolved machine type, "" while unknown */
    unsigned reboots;
    bool agent_port; /* the guest has opened the agent's port */
};

struct vmm_counters { /* one block device or NIC */
    char name[64];
    uint64_t read_bytes, write_bytes, read_ops, write_ops, read_ns, write_ns, flush_ops, flush_ns;
};
#define VMM_MAX_DEVICES 64
struct vmm_stats {
    uint64_t cpu_ns; /* whole VMM process */
    uint64_t vcpus;
    uint64_t guest_bytes;    /* memory the guest has by the balloon */
    uint64_t resident_bytes; /* of the VMM process */
    uint64_t guest_total, guest_free,
        guest_available; /* told by the guest's balloon driver; 0: unknown */
    struct vmm_counters block[VMM_MAX_DEVICES];
    size_t n_block;
    struct vmm_counters net[VMM_MAX_DEVICES]; /* read: what the guest received; write: what it sent */
    size_t n_net;
};

enum vmm_stream { VMM_STREAM_SERIAL, VMM_STREAM_AGENT, VMM_STREAM_VNC };

/* What this VMM is on this node. */
struct vmm_version {
    char text[128];               /* "QEMU emulator version 7.2.22 (…)" */
    unsigned major, minor, patch; /* 7, 2, 22 */
    bool kvm, tcg, mshv;          /* accelerators that this build has */
    char machines[2048];          /* types of machines that a user can name, by commas; "" when there is no choice */
    char devices[1024];           /* what this build has of devices that not all builds have, by commas */
};

struct vmm;
struct vmm_listener {
    void (*changed)(void *user); /* the status changed; read it by vmm_status() */
    void *user;
    /* May be NULL. A device is gone, as remove_device() asked, or (kept) the guest does not let go of it. */
    void (*device_gone)(void *user, enum vmm_device_kind kind, struct str name, bool kept);
};

struct vmm_driver {
    const char *name; /* "qemu" */
    const char *program; /* searched in PATH; NULL: of the same name as the driver; "": it needs none */
    bool raw_disks; /* it reads raw images only: its machines get no qcow2 */
    /* Of a VMM in whose machines nothing runs: a sentence that says so. A node offers it only when it is told to, its users are told
     * the sentence, and it needs no accelerator. NULL: its machines are real. */
    const char *plays;
    /* Whether it can run here at all: the program is there and answers. Blocks, bounded; called in a process of its own without
     * rights (probe_vmm.c). Says which accelerators this build has; whether the node has them is not its question. */
    bool (*probe)(struct vmm_version *ret, struct error *err);
    struct vmm *(*create)(struct loop *l, const struct vmm_listener *listener);
    void (*free)(struct vmm *v); /* a machine that still runs is killed */
    /* Starts the machine; when it returns, the guest runs (or is paused, by startStrategy). */
    bool (*start)(struct vmm *v, const struct vmm_machine *m, struct error *err);
    bool (*pause)(struct vmm *v, struct error *err);
    bool (*resume)(struct vmm *v, struct error *err);
    bool (*reset)(struct vmm *v, struct error *err);
    bool (*powerdown)(struct vmm *v,
                      struct error *err); /* asks the guest to turn itself off; returns at once */
    bool (*soft_reboot)(struct vmm *v, struct error *err);
    /* Ends the VMM: asks it to flush and stop, and kills what does not; with `now`, kills. Asynchronous. */
    void (*kill)(struct vmm *v, bool now);
    /* A connected stream of a port. SERIAL and AGENT: one for the life of the machine. VNC: one more each time. */
    bool (*open_stream)(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err);
    bool (*stats)(struct vmm *v, struct vmm_stats *ret, struct error *err);

    /* Changes of a running machine. Devices: borrowed descriptors are duplicated. remove_device() asks the guest and returns;
     * the listener hears of the end. Sizes are absolute: what the guest shall have. */
    bool (*add_device)(struct vmm *v, const struct vmm_device *d, struct error *err);
    bool (*remove_device)(struct vmm *v, enum vmm_device_kind kind, struct str name, struct error *err);
    bool (*set_memory)(struct vmm *v, uint64_t bytes, struct error *err);  /* by plugging */
    bool (*set_vcpus)(struct vmm *v, unsigned n, struct error *err);       /* by plugging */
    bool (*set_balloon)(struct vmm *v, uint64_t bytes, struct error *err); /* what the balloon leaves to the guest */
    bool (*set_link)(struct vmm *v, struct str nic, bool up, struct error *err);
    /* A stream to a port on which the guest listens by vsock. */
    bool (*vsock_connect)(struct vmm *v, unsigned port, int *ret_fd, struct error *err);

    /* Writes a paused machine (memory and devices, not disks) into an empty directory; it stays paused. */
    bool (*snapshot)(struct vmm *v, const char *dir, struct error *err);
    /* Live migration, on the source: begins it and returns; the target is a machine started with `incoming`. When it is done
     * this machine ends: VMM_SHUTDOWN, VMM_REASON_MIGRATED. On failure and after cancel it goes on running. */
    bool (*migrate)(struct vmm *v, const struct vmm_migration *m, struct error *err);
    bool (*migrate_cancel)(struct vmm *v, struct error *err);
    bool (*migrate_status)(struct vmm *v, struct vmm_migration_status *ret, struct error *err);
};
extern const struct vmm_driver *const vmm_drivers[]; /* NULL-terminated */
const struct vmm_driver *
vmm_driver_find(struct str name); /* NULL when there is none of that name */
/* Names by commas of VMMs that are offered only on demand (`plays`); anything else is an error that says which there are. */
MUST_CHECK bool vmm_check_on_demand(struct str names, struct error *err);

struct vmm { /* first member of a driver's own structure */
    const struct vmm_driver *driver;
    struct loop *loop;
    struct vmm_listener listener;
    struct vmm_status status;
    struct loop_defer tell; /* the listener is called after the callbacks of a turn */
};

struct vmm *vmm_new(const struct vmm_driver *d, struct loop *l,
                    const struct vmm_listener *listener);
void vmm_free(struct vmm *v);
const struct vmm_status *vmm_status(const struct vmm *v);
static inline bool vmm_alive(const struct vmm *v)
{
    return v && v->status.state >= VMM_STARTING && v->status.state <= VMM_PAUSED;
}
MUST_CHECK bool vmm_start(struct vmm *v, const struct vmm_machine *m, struct error *err);
MUST_CHECK bool vmm_pause(struct vmm *v, struct error *err);
MUST_CHECK bool vmm_resume(struct vmm *v, struct error *err);
MUST_CHECK bool vmm_reset(struct vmm *v, struct error *err);
MUST_CHECK bool vmm_powerdown(struct vmm *v, struct error *err);
MUST_CHECK bool vmm_soft_reboot(struct vmm *v, struct error *err);
void vmm_kill(struct vmm *v, bool now);
MUST_CHECK bool vmm_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd,
                                struct error *err);
MUST_CHECK bool vmm_read_stats(struct vmm *v, struct vmm_stats *ret, struct error *err);
MUST_CHECK bool vmm_add_device(struct vmm *v, const struct vmm_device *d, struct error *err);
MUST_CHECK bool vmm_remove_device(struct vmm *v, enum vmm_device_kind kind, struct str name, struct error *err);
MUST_CHECK bool vmm_set_memory(struct vmm *v, uint64_t bytes, struct error *err);
MUST_CHECK bool vmm_set_vcpus(struct vmm *v, unsigned n, struct error *err);
MUST_CHECK bool vmm_set_balloon(struct vmm *v, uint64_t bytes, struct error *err);
MUST_CHECK bool vmm_set_link(struct vmm *v, struct str nic, bool up, struct error *err);
MUST_CHECK bool vmm_vsock_connect(struct vmm *v, unsigned port, int *ret_fd, struct error *err);
MUST_CHECK bool vmm_snapshot(struct vmm *v, const char *dir, struct error *err); /* of a paused machine only */
MUST_CHECK bool vmm_migrate(struct vmm *v, const struct vmm_migration *m, struct error *err);
MUST_CHECK bool vmm_migrate_cancel(struct vmm *v, struct error *err);
MUST_CHECK bool vmm_migrate_status(struct vmm *v, struct vmm_migration_status *ret, struct error *err);

/* For drivers. */
/* How often a pipe or socket of the VMM's is read in one turn of the loop: its guest may have taken it over, and a process that
 * talks without end must not keep the launcher from what it is told, such as to kill it. Enough for a pipe that is full. */
#define VMM_READS_A_TURN 64
void vmm_stats_of_process(pid_t pid, struct vmm_stats *ret); /* cpu_ns and resident_bytes; unchanged when there is none */
void vmm_set(struct vmm *v, enum vmm_state state, enum vmm_reason reason, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void vmm_changed(struct vmm *v); /* something else in the status changed */
/* Whether a switch among these is on: an object of switches that are off asks for nothing. */
struct kv_feature_hyperv;
bool vmm_hyperv_asked(const struct kv_feature_hyperv *h);
/* Passes on what a VMM's process wrote to fd (non-blocking) to our own stderr, at most VMM_READS_A_TURN pieces, and keeps the last
 * `limit` bytes of it or fewer. False: the process has closed its end. */
bool vmm_keep_output(int fd, struct buf *kept, size_t limit);
/* The first "N.N" or "N.N.N" of a line that a program printed about itself. */
MUST_CHECK bool vmm_version_parse(struct str line, struct vmm_version *ret, struct error *err);
/* Lists by commas, as in struct vmm_version. What has no room is left out. */
void vmm_version_note(char *list, size_t size, struct str name);
bool vmm_version_has(const char *list, const char *name);
