/* vmm/qemu/qemu - the QEMU driver's own state, shared by its files.
 *
 * qemu.c starts and frees a machine, events.c hears QEMU and judges the end, control.c asks for what takes one command,
 * stats.c counts, probe.c asks the program what it is. Two drivers share it all: "qemu" (boards with PCI: q35, pc) and "qemu-microvm". */
#pragma once
#include "loop/child.h"
#include "vmm/qemu/qmp.h"
#include "vmm/vmm.h"

extern const struct vmm_driver vmm_qemu, vmm_qemu_microvm;

enum qemu_end { END_UNKNOWN, END_GUEST, END_PANIC, END_HOST }; /* what the last SHUTDOWN event said */

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
    bool balloon_polls;
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
bool qemu_open_stream(struct vmm *v, enum vmm_stream which, int *ret_fd, struct error *err);

/* stats.c */
bool qemu_stats(struct vmm *v, struct vmm_stats *ret, struct error *err);
