/* vmm/qemu/qemu - the QEMU driver's own state, shared by its files.
 *
 * qemu.c starts and frees a machine, events.c hears QEMU and judges the end, control.c asks for what takes one command,
 * stats.c counts, probe.c asks the program what it is. Two drivers share it all: "qemu" (boards with PCI: q35, pc) and "qemu-microvm". */
#pragma once
#include "loop/child.h"
#include "base/vec.h"
#include "vmm/qemu/qmp.h"
#include "vmm/tap.h"
#include "vmm/vmm.h"

extern const struct vmm_driver vmm_qemu, vmm_qemu_microvm;

enum qemu_end { END_UNKNOWN, END_GUEST, END_PANIC, END_HOST }; /* what the last SHUTDOWN event said */

struct qemu_plugged { /* a device that came while the machine ran, or that is asked to go */
    enum vmm_device_kind kind;
    char name[64];
    char backend[32]; /* block node or netdev */
    int fdsets[2];    /* of the disk's image and of the one below it; -1: none */
    bool leaving, from_start;
};

struct qemu {
    struct vmm base;
    struct child child;
    struct qmp *qmp; /* NULL until it was started */
    struct loop_timer term_timer;
    struct loop_io err_io;
    int err_fd;              /* QEMU's stdout and stderr */
    struct buf err_text;     /* the end of it */
    int serial_fd, agent_fd; /* our ends, until someone takes them */
    enum qemu_end end;
    enum vmm_reason pause_reason; /* of the STOP that is to come */
    unsigned next_fd_name;
    bool asked_off;          /* we asked the guest to shut down */
    bool destroying;         /* we are ending it */
    bool reboot_on_off;      /* soft reboot: the guest turns off, we turn it on again … */
    int64_t reboot_until_ns; /* … when it does so within this time; later it means to be off */
    int64_t reset_until_ns; /* resets until then belong to the one before */
    bool balloon_polls, has_display;
    struct vmm_taps taps;
    VEC(struct qemu_plugged) plugged;
    unsigned next_plug;
    uint64_t memory_start, memory_max;
    unsigned vcpus_start, vsock_cid;
    bool has_virtio_mem;
    bool unlike_start; /* it has other hardware than its spec says: plugged memory or vCPUs, a device of the start is gone */

    /* migrate.c */
    struct vmm_migration_status moved;
    struct loop_timer move_timer;
    unsigned move_timeout_s;
    bool saving; /* into a snapshot, which is no move */
    int await_fd;           /* the socket at which a migrating machine is awaited */
    struct loop_io await_io;
    char *await_path; /* owned */
    bool started;
};

static inline struct qemu *qemu_of(struct vmm *v)
{
    return container_of(v, struct qemu, base);
}

/* A QMP command to a machine of this driver; ret (may be NULL) lives in a. For what the interface has no word for: the proofs
 * ask QEMU by it what it made of a field. */
MUST_CHECK bool qemu_query(struct vmm *v, const char *command, const struct json *args, struct arena *a,
                           const struct json **ret, struct error *err);
MUST_CHECK bool qemu_socket_pair(int ret[2], struct error *err);
static inline void qemu_close_pair(int (*pair)[2]) /* for AUTO() */
{
    fd_close(&(*pair)[0]);
    fd_close(&(*pair)[1]);
}

/* events.c */
extern const struct qmp_handlers qemu_events;
void qemu_stderr_ready(struct loop_io *io, uint32_t events);
void qemu_drain_stderr(struct qemu *q);
struct str qemu_last_words(const struct qemu *q); /* QEMU's last complaint; borrowed */
void qemu_exited(struct child *child);

/* probe.c: of the program in PATH; the second wants that board, too. */
bool qemu_probe(struct vmm_version *ret, struct error *err);
bool qemu_probe_board(const char *board, struct vmm_version *ret, struct error *err);

/* control.c */
bool qemu_pause(struct vmm *v, struct error *err);
bool qemu_resume(struct vmm *v, struct error *err);
bool qemu_reset(struct vmm *v, struct error *err);
bool qemu_powerdown(struct vmm *v, struct error *err);
bool qemu_soft_reboot(struct vmm *v, struct error *err);
void qemu_kill(struct vmm *v, bool now);
bool qemu_set_balloon(struct vmm *v, uint64_t bytes, struct error *err);
bool qemu_set_link(struct vmm *v, struct str nic, bool up, struct error *err);
bool qemu_vsock_connect(struct vmm *v, unsigned port, int *ret_fd, struct error *err);
bool qemu_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err);

/* hotplug.c */
bool qemu_add_device(struct vmm *v, const struct vmm_device *d, struct error *err);
bool qemu_remove_device(struct vmm *v, enum vmm_device_kind kind, struct str name, struct error *err);
bool qemu_set_memory(struct vmm *v, uint64_t bytes, struct error *err);
bool qemu_set_vcpus(struct vmm *v, unsigned n, struct error *err);
void qemu_device_gone(struct qemu *q, struct str id, bool kept); /* an event told it */

/* migrate.c */
bool qemu_snapshot(struct vmm *v, const char *dir, struct error *err);
bool qemu_migrate(struct vmm *v, const struct vmm_migration *m, struct error *err);
bool qemu_migrate_cancel(struct vmm *v, struct error *err);
bool qemu_migrate_status(struct vmm *v, struct vmm_migration_status *ret, struct error *err);
/* The type of the machine in a snapshot, for the command line; *ret in a. */
MUST_CHECK bool qemu_snapshot_type(const char *dir, const struct vmm_driver *d, struct arena *a, const char **ret,
                                   struct error *err);
MUST_CHECK bool qemu_load(struct qemu *q, const char *dir, struct error *err);        /* of a machine that began with -incoming defer */
MUST_CHECK bool qemu_await(struct qemu *q, const char *path, struct error *err);      /* the same, for one that comes by socket */
void qemu_migration_event(struct qemu *q, struct str status);
void qemu_look(struct qemu *q); /* brings the state in line with QEMU's */
void qemu_migration_end(struct qemu *q); /* stops what waits */

/* stats.c */
bool qemu_stats(struct vmm *v, struct vmm_stats *ret, struct error *err);
