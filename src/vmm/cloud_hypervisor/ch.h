/* vmm/cloud_hypervisor/ch - the cloud-hypervisor driver's own state, shared by its files.
 *
 * One process, started empty, to which everything is said by its REST API (vmm/rest.h) on a socket that has no name in any
 * file system: we bind it, keep a hold of the inode, take the name away and hand the listening descriptor down. What it tells
 * comes as JSON on a pipe (--event-monitor).
 *
 *   ch.c       start and end of a machine: the one place where the end is judged
 *   config.c   from the VMI to the VmConfig of vm.create (pure)
 *   places.c   the names by which cloud-hypervisor opens what we hold as descriptors; overlays
 *   events.c   what it tells: the stream, and what follows from it
 *   serial.c   the serial port, one stream across reboots
 *   control.c  what is asked of a running machine
 *   devices.c  what comes and goes while it runs
 *   migrate.c  snapshots and live migration
 *   relay.c    the stream of a migration that leaves
 *   answer.c   what its refusals mean for a user
 *   stats.c    counters
 *
 * Files. cloud-hypervisor takes paths where QEMU takes descriptors, and opens them again whenever the guest reboots. Nothing
 * that a tenant named may be such a path. So every file has a name of ours in a directory of ours, "ch" in the pod's private
 * volume: a link to /proc/self/fd/N, a descriptor that the process has inherited. The directory is inherited, too, always with
 * the same number: these names are the same everywhere, so a machine that was saved or moved finds its files again, whatever
 * their descriptors are there. A disk that is plugged while the
 * machine runs cannot be inherited; a small process that does nothing holds its descriptor, and the link leads there.
 *
 * Reboots happen inside the process: it takes the machine down and makes it anew from the same configuration. The guest's
 * turning off does not end it (--no-shutdown): we hear of it, and end it or (soft reboot) boot it again. */
#pragma once
#include <sys/un.h>

#include "base/vec.h"
#include "loop/child.h"
#include "vmm/rest.h"
#include "vmm/vmm.h"

extern const struct vmm_driver vmm_cloud_hypervisor;

#define CH_PROGRAM "cloud-hypervisor"
#define CH_OLDEST 52 /* --no-shutdown, image_type, sizes of net_fds: see docs/operations.md */
#define CH_DIR "ch"
#define CH_PLACES "/proc/self/fd/9" /* what cloud-hypervisor calls that directory */
#define CH_FD_PLACES 9
#define CH_MAX_DISKS 64
#define CH_STEP (128ull << 20) /* memory is plugged in pieces of this size */

/* What was asked for, as cloud-hypervisor counts. */
struct ch_sizes {
    uint64_t memory, memory_max; /* bytes at boot, and with all that can be plugged */
    unsigned vcpus, vcpus_max;
};

/* The serial port: a listening socket of cloud-hypervisor's that goes and comes with every reboot, and the one stream that we
 * hand out. */
struct ch_serial {
    struct loop *loop;
    struct rest at;
    int vmm_fd, near_fd, far_fd; /* to it; our end of the stream; the other, until someone takes it */
    struct loop_io vmm_io, near_io;
    struct buf up, down; /* from the guest, to the guest */
    struct loop_timer again;
    int64_t again_ns; /* what the next try waits */
    bool over; /* it does not come back */
};

struct ch_plugged { /* a disk that came later */
    struct list node;
    struct child holder; /* keeps its descriptor */
    char name[64];
};

struct ch_relay { /* zeroed: none */
    struct loop *loop;
    int listen_fd;
    struct loop_io listen_io;
    struct sockaddr_un target;
    struct {
        int fd;
        struct loop_io io;
        struct buf out; /* what it is to get */
        bool eof;
    } ends[2];      /* the machine, the target */
    uint64_t bytes; /* that the machine has sent */
};

struct ch {
    struct vmm base;
    struct child child;
    struct rest api;
    int api_fd; /* O_PATH of the API's socket */
    int dir_fd; /* of "ch" */
    unsigned version;
    struct ch_sizes sizes;   /* as they are now */
    uint64_t plugged_memory; /* on top of what it had at boot */
    bool has_balloon, has_vsock, hotplug, hugepages;
    size_t n_nics;

    int events_fd;
    struct loop_io events_io;
    struct buf events; /* what came of the next one */
    int err_fd;        /* its stdout and stderr */
    struct loop_io err_io;
    struct buf err_text;
    struct ch_serial serial;
    struct list plugged; /* struct ch_plugged */
    struct list leaving; /* devices that the guest was asked to let go of */

    struct loop_timer term_timer;
    struct rest_pending *ending; /* vmm.shutdown */
    struct rest_pending *moving; /* vm.send-migration or vm.receive-migration */
    struct loop_defer boot_again;
    struct vmm_migration_status migration;
    struct ch_relay relay;
    int64_t reboot_until_ns; /* a soft reboot: the guest turns off by then, we turn it on again */
    unsigned own_resets;     /* reboots that we asked for and have not heard of yet */
    bool started, booted;    /* booted: vm.boot has been said (startStrategy Paused waits with it) */
    bool terminate;          /* rebootPolicy */
    bool asked_off, destroying, guest_off, panicked, moved, called_off, ready_for_migration;
};

static inline struct ch *ch_of(struct vmm *v)
{
    return container_of(v, struct ch, base);
}

/* ch.c: PUT (GET for what begins with "GET ") of /api/v1/<name>. What is refused is an error in words for a user. ret may be NULL. */
struct ch_call {
    const char *name;
    const struct json *body;
    const int *fds;
    size_t n_fds;
    int64_t timeout_ns;
};
MUST_CHECK bool ch_call(struct ch *c, const struct ch_call *call, struct arena *a, const struct json **ret, struct error *err);
MUST_CHECK bool ch_put(struct ch *c, const char *name, struct error *err);
struct rest_pending *ch_begin(struct ch *c, const struct ch_call *call, rest_done_fn done, struct error *err);
void ch_end(struct ch *c); /* the machine is over: ends the process, by force if need be */

/* config.c */
enum ch_payload { CH_FIRMWARE, CH_KERNEL, CH_KERNEL_INITRAMFS };
MUST_CHECK bool ch_sizes(const struct vmm_machine *m, struct ch_sizes *ret, struct error *err);
MUST_CHECK bool ch_config(const struct vmm_machine *m, enum ch_payload payload, unsigned version, struct arena *a,
                          const struct json **ret, struct error *err);
/* One entry of disks, and the body of vm.add-net. name_of: "disk-root"; for events and counters. */
MUST_CHECK bool ch_disk(const struct kv_disk *d, const struct vmm_disk *r, unsigned queues, struct arena *a,
                        const struct json **ret, struct error *err);
MUST_CHECK bool ch_nic(const struct kv_interface *i, const struct vmm_nic *r, unsigned vcpus, struct arena *a,
                       const struct json **ret, struct error *err);
bool ch_wants_serial(const struct vmm_machine *m);
const struct kv_disk *ch_disk_spec(const struct vmm_machine *m, struct str name);
const struct kv_interface *ch_nic_spec(const struct vmm_machine *m, struct str name);

/* places.c */
MUST_CHECK bool ch_places_open(struct ch *c, const struct vmm_machine *m, struct error *err);
/* ch/<name> leads to that path. */
MUST_CHECK bool ch_link(struct ch *c, const char *name, const char *target, struct error *err);
bool ch_has(const struct ch *c, const char *kind, struct str name);      /* "disk" or "net": the machine has one of that name */
MUST_CHECK bool ch_listen(struct ch *c, int *ret_fd, struct error *err); /* the API's socket */
/* Whether what fd is can be opened again by its link in /proc, as cloud-hypervisor has to. */
MUST_CHECK bool ch_can_reopen(int fd, bool read_only, const char *what, struct error *err);
/* Writes the name of what lies below into the head of an overlay of ours. Repeating it changes nothing. */
MUST_CHECK bool ch_overlay_name(int fd, const char *path, const char *format, struct error *err);
/* The firmware for a machine without a kernel. */
MUST_CHECK bool ch_firmware_open(const struct vmm_machine *m, int *ret_fd, struct error *err);

/* events.c */
void ch_events_ready(struct loop_io *io, uint32_t events);
void ch_events_drain(struct ch *c);
/* The next whole JSON object of a stream; false: none yet. A stream that is none is emptied. For tests. */
bool ch_events_next(struct buf *b, struct str *ret);

/* serial.c */
MUST_CHECK bool ch_serial_start(struct ch_serial *s, struct loop *l, const struct rest *at, struct error *err);
MUST_CHECK bool ch_serial_connect(struct ch_serial *s, int64_t timeout_ns, struct error *err);
void ch_serial_done(struct ch_serial *s);

/* control.c */
bool ch_pause(struct vmm *v, struct error *err);
bool ch_resume(struct vmm *v, struct error *err);
bool ch_reset(struct vmm *v, struct error *err);
bool ch_powerdown(struct vmm *v, struct error *err);
bool ch_soft_reboot(struct vmm *v, struct error *err);
void ch_kill(struct vmm *v, bool now);
bool ch_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err);
bool ch_set_memory(struct vmm *v, uint64_t bytes, struct error *err);
bool ch_set_vcpus(struct vmm *v, unsigned n, struct error *err);
bool ch_set_balloon(struct vmm *v, uint64_t bytes, struct error *err);
bool ch_vsock_connect(struct vmm *v, unsigned port, int *ret_fd, struct error *err);

/* devices.c */
bool ch_add_device(struct vmm *v, const struct vmm_device *d, struct error *err);
bool ch_remove_device(struct vmm *v, enum vmm_device_kind kind, struct str name, struct error *err);
void ch_device_removed(struct ch *c, struct str id); /* by an event */
void ch_devices_done(struct ch *c);

/* migrate.c */
bool ch_snapshot(struct vmm *v, const char *dir, struct error *err);
bool ch_restore(struct ch *c, const struct vmm_machine *m, struct error *err);
bool ch_receive(struct ch *c, const struct vmm_machine *m, struct error *err);
bool ch_migrate(struct vmm *v, const struct vmm_migration *m, struct error *err);
bool ch_migrate_cancel(struct vmm *v, struct error *err);
bool ch_migrate_status(struct vmm *v, struct vmm_migration_status *ret, struct error *err);
void ch_migration_event(struct ch *c, struct str event);

/* relay.c: ch/move.sock leads to `target`; once done, what has not arrived never does */
MUST_CHECK bool ch_relay_start(struct ch_relay *r, struct loop *l, int dir_fd, const char *target, struct error *err);
void ch_relay_done(struct ch_relay *r);

/* answer.c: a refusal in words, its kind by its status and by the words that are known. */
bool ch_refused(const struct rest_answer *answer, const char *what, struct error *err);
/* Its complaint on stderr: the chain of causes that it prints when it ends, else the last line. */
void ch_last_words(struct str err_text, struct buf *out);

/* stats.c */
bool ch_stats(struct vmm *v, struct vmm_stats *ret, struct error *err);
