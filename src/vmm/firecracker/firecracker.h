/* vmm/firecracker/firecracker - the Firecracker driver's own state, shared by its files.
 *
 * One process is one boot: a guest that resets itself ends its Firecracker (it has no other way to turn itself off). What the
 * driver keeps for a machine's whole life is the configuration with its descriptors, and the console's stream; what belongs to
 * one process (struct fc_process) goes with it. A reboot is a new process that is told the same.
 *
 *     start ─▶ spawn ─▶ API socket answers ─▶ requests ─▶ InstanceStart ─▶ running ─▶ exit
 *                ▲                                                                      │ reset(), or the guest's reset, but
 *                └──────────────────────────────────────────────────────────────────────┘ for rebootPolicy Terminate and powerdown()
 *
 * Nothing of it has a name in a file system but two sockets in a directory of its own: disks, kernel, log and metrics are
 * descriptors that it opens again by /proc/self/fd. */
#pragma once
#include "vmm/firecracker/config.h"
#include "vmm/rest.h"
#include "vmm/vmm.h"

#define FC_LOG_KEPT      4096
#define FC_METRICS_BYTES (256u << 10) /* a line of metrics is some 20 KiB */
#define FC_TYPED_BYTES   (16u << 10)

extern const struct vmm_driver vmm_firecracker;

struct fc_process { /* of one boot */
    struct child child;
    int log_fd, metrics_fd; /* our ends of its pipes */
    int stdin_fd;           /* write end; -1: no serial port */
    struct loop_io log_io, metrics_io, stdin_io;
    struct buf log_text;     /* the end of what it logged */
    struct buf metrics_text; /* a line that is not whole yet */
    unsigned version;        /* FC_VERSION */
    bool booted;             /* the guest was started, or loaded */
    int64_t since_ns;
};

struct fc {
    struct vmm base;
    struct arena arena; /* of the configuration */
    struct fc_config config;
    VEC(int) kept; /* descriptors of the configuration, ours */
    int dir_fd;    /* its directory */
    char *dir;
    char id[65];
    struct rest api;
    struct fc_process now;
    int console_fd, port_fd; /* the console's stream: the end to be taken, ours */
    struct loop_io port_io;
    struct buf typed; /* for the guest, not yet taken by its process */
    struct vmm_stats counted;
    struct loop_timer term_timer, again_timer;
    unsigned refused_lines; /* of metrics */
    bool asked_off;         /* we asked the guest to end */
    bool again;             /* … or to begin anew: the next end is a reboot */
    bool resetting;         /* we ended the process to begin anew */
    bool destroying, started;
};

static inline struct fc *fc_of(struct vmm *v) { return container_of(v, struct fc, base); }

/* process.c */
MUST_CHECK bool fc_process_start(struct fc *f, int state_fd, int memory_fd, struct error *err); /* until its API answers */
void fc_process_await_end(struct fc *f); /* kills what does not end within a second */
void fc_process_done(struct fc *f);      /* lets go of a process that has ended, or kills it */
void fc_process_drain(struct fc *f);     /* reads what its pipes hold */
struct str fc_last_words(const struct fc *f);
void fc_port_start(struct fc *f); /* the console's stream, for all boots */
void fc_exited(struct fc *f, int status); /* firecracker.c: it has ended */

/* request.c */
/* One request; whatever is no success is the error, in words a user can act on. answer may be NULL. */
MUST_CHECK bool fc_request(struct fc *f, const char *method, const char *path, const struct json *body, const char *field,
                           struct arena *a, const struct json **answer, struct error *err);
MUST_CHECK bool fc_configure(struct fc *f, struct error *err); /* all of the configuration */
MUST_CHECK bool fc_action(struct fc *f, const char *action, struct error *err);
MUST_CHECK bool fc_set_state(struct fc *f, const char *state, struct error *err);
/* The error for a refusal's text. */
bool fc_refused(unsigned status, struct str text, const char *field, struct error *err);

/* host.c */
MUST_CHECK bool fc_name_taps(const struct vmm_machine *m, char (*ret)[FC_TAP_NAME], struct error *err);
/* Lets go of the taps, so that Firecracker can take each by its name: afterwards the descriptors lead nowhere. */
MUST_CHECK bool fc_release_taps(const struct vmm_machine *m, struct error *err);
MUST_CHECK bool fc_check_kernel(int fd, unsigned version, struct error *err); /* one that it can load */

/* stats.c */
void fc_metrics_line(struct fc *f, struct str line); /* adds up what it counted since the last one */
bool fc_stats(struct vmm *v, struct vmm_stats *ret, struct error *err);
/* control.c */
bool fc_set_balloon(struct vmm *v, uint64_t bytes, struct error *err);
bool fc_set_memory(struct vmm *v, uint64_t bytes, struct error *err);
bool fc_vsock_connect(struct vmm *v, unsigned port, int *ret_fd, struct error *err);
bool fc_snapshot(struct vmm *v, const char *dir, struct error *err);
MUST_CHECK bool fc_open_snapshot(const char *dir, int *ret_state_fd, int *ret_memory_fd, struct error *err);
