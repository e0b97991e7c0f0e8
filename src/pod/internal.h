/* pod/internal - the runtime's state, shared by its files. */
#pragma once
#include <pthread.h>
#include <sys/stat.h>

#include "api/schema.h"
#include "base/map.h"
#include "base/vec.h"
#include "client/informer.h"
#include "client/recorder.h"
#include "loop/child.h"
#include "pod/pod.h"

#define RECORD_NAME      "sandbox.json"
#define LOG_NAME         "compute.log"
#define LOG_OLD_NAME     "compute.log.1"
#define TERMINATION_LOG  "termination-log"
#define DIR_EMPTY        "volumes/kubernetes.io~empty-dir"
#define DIR_SECRET       "volumes/kubernetes.io~secret"
#define DIR_CONFIG_MAP   "volumes/kubernetes.io~configmap"
#define VM_UID_OF(r, slot) ((uid_t)((r)->uid_base + 2 * (slot) + 1)) /* container's 107 */
#define ROOT_UID_OF(r, slot) ((uid_t)((r)->uid_base + 2 * (slot)))   /* container's 0 */
#define POD_SLOTS        100000u

/* ---- record.c: what is known of a sandbox even when nobody else does ---- */

enum record_phase {
    RECORD_PREPARED, /* anything may have been started */
    RECORD_STARTED,  /* pid and start_ticks name its init */
    RECORD_ENDED,    /* seen dead */
};
struct record_claim {
    char *volume;      /* name of the PersistentVolume: directory below volumes/ */
    bool write, shared; /* shared: the claim allows several writers */
};
struct record { /* owns its texts */
    enum record_phase phase;
    char *uid, *ns, *name, *vmi_uid; /* vmi_uid: "" for none */
    bool migration_target;
    char boot_id[40];
    unsigned slot;
    pid_t pid;
    uint64_t start_ticks; /* field 22 of /proc/<pid>/stat: with the boot id the identity of a process */
    VEC(struct record_claim) claims;
    VEC(char *) images;  /* digests */
    bool images_known;   /* not so in records of releases that did not write them */
    char ip[46], host_ip[46];
    int64_t created_ns, started_ns, finished_ns;
    int exit_code, signal;
    char *reason, *message; /* of the end; may be NULL */
};
void record_done(struct record *r);
/* Atomic, not flushed: prepare.c flushes the first one. What is said later is about processes of this boot, and they do not
 * survive what unflushed data does not survive. */
MUST_CHECK bool record_write(int pod_dirfd, const struct record *r, struct error *err);
MUST_CHECK bool record_read(int pod_dirfd, struct record *ret, struct error *err);

/* ---- process.c: processes and cgroups of the kernel ---- */

MUST_CHECK bool process_start_ticks(pid_t pid, uint64_t *ret, struct error *err);
/* A pidfd of exactly that process, which may have ended meanwhile, or -1: there is none. */
int process_open(pid_t pid, uint64_t start_ticks);
bool process_ended(int pidfd);
void process_signal(int pidfd, int signo);
/* The wait status of a process that has ended: as its parent (subreaper), and where the kernel (6.15) can tell others, too.
 * *ret_again: not yet, it waits for its parent. */
bool process_wait_status(int pidfd, int *ret_status, bool *ret_again);
/* As subreaper we inherit what others leave behind. What is still uncollected when it is met a second time has no owner here. */
struct strays {
    pid_t *p;
    size_t n, cap;
};
void process_collect_strays(struct strays *seen);
void process_boot_id(char ret[40]);
bool cgroup_hybrid(void);                  /* both versions mounted: crun needs help */
pid_t cgroup_any(const char *instance, const char *uid); /* a process in the pod's cgroup, 0: none */
void cgroup_kill(const char *instance, const char *uid); /* SIGKILL to all in it */
bool cgroup_end(const char *instance, const char *uid);  /* the same until none is left; false after 2 s */
void cgroup_each(const char *instance, void (*fn)(void *user, const char *uid), void *user);
bool cgroup_oom(const char *instance, const char *uid);  /* the kernel killed for memory in it */
/* CPU weight of a pod, or of all together (uid NULL), in shares: 2…262144. */
MUST_CHECK bool cgroup_weigh(const char *instance, const char *uid, uint64_t shares, struct error *err);
void cgroup_remove(const char *instance, const char *uid); /* NULL: the instance's parent directory */

/* ---- pods ---- */

struct pod_runtime {
    struct client *client;
    struct loop *loop;
    int dirfd, pods_fd;
    char *dir, *instance, *node_name, *launcher;
    struct network *network;
    struct image_store *images;
    uid_t uid_base;
    char boot_id[40];
    bool hybrid, started, synced;
    int crun_fd;             /* crun.c: a sealed copy of crun, -1 */
    struct stat crun_copied; /* what it was copied from */
    char crun_path[32];
    struct informer *informer; /* NULL while not started */
    struct recorder *recorder;
    struct map pods; /* uid → struct pod */
    struct loop_timer log_timer, prune_timer;
    struct strays strays;
    struct list followers; /* of logs */

    bool stopping; /* stop_all */
    int64_t stop_grace_ns;
    void (*stopped)(void *user);
    void *stopped_user;
    struct loop_defer stop_check;
};

/* POD_IDLE → POD_PREPARING → POD_STARTING → POD_RUNNING → POD_ENDED → POD_RELEASING → POD_RELEASED.
 * Until POD_PREPARING has written the record nothing exists on the host; up to and with POD_RUNNING a process may live. */
enum pod_state {
    POD_IDLE,      /* not begun, or to be tried again */
    POD_PREPARING, /* API objects, images, network */
    POD_STARTING,  /* crun at work */
    POD_RUNNING,
    POD_KILLING,   /* left-overs of an unclear start: all in the cgroup get SIGKILL until it is empty */
    POD_ENDED,     /* seen dead; exit being found out */
    POD_RELEASING, /* network, cgroup, mounts */
    POD_RELEASED,  /* only files are left */
};

enum pod_publish { PUBLISH_NOTHING, PUBLISH_WAITING, PUBLISH_RUNNING, PUBLISH_ENDED };
struct work; /* prepare.c: one attempt to start */
struct pod {
    struct pod_runtime *r;
    struct record rec; /* uid, ns and name are always set */
    char *key;         /* "ns/name" of the informer */
    enum pod_state state;
    bool has_record;   /* sandbox.json is written */
    bool gone;         /* no longer in the API */
    bool deleting;
    bool seen;         /* delivered by the informer */
    bool api_final;    /* the API has phase Succeeded or Failed */
    bool blocked;      /* by an older sandbox */
    bool stop_asked, running_sent, final_sent, delete_sent;
    enum pod_publish publish; /* what is to be told next */
    bool status_busy, delete_busy;
    bool net_busy;     /* network_pod_add or _del under way: nothing may be undone before it has ended */
    bool flush_busy;   /* the same for the record's way to the disk */
    pthread_t flusher; /* valid while flush_busy */
    char *waiting_reason, *waiting_message;
    int64_t delete_grace_ns, delete_at_unix_ns;
    unsigned failures;
    char *told;        /* the last failure told by Event and status */
    int pidfd;         /* of init, -1 */
    struct loop_io exit_io;
    struct loop_timer grace, retry, exit_wait, status_retry, crun_timeout, boost;
    unsigned exit_tries;
    struct child crun;
    struct work *work;
    struct list ops;   /* requests and foreign calls under way */
    unsigned n_ops;
    struct loop_defer step;
    bool reboot;       /* it ended with the host */
};

/* runtime.c */
void pod_step_soon(struct pod *p);
void pod_retry_in(struct pod *p, int64_t in_ns);
void pod_take_slot(struct pod *p); /* a pair of host uids that no other pod here has */
void pod_wake_waiting(struct pod_runtime *r); /* a sandbox is known to be dead */
bool pod_process_may_live(const struct pod *p);
const char *pod_tag(const struct pod *p);
MUST_CHECK bool pod_open_dir(const struct pod *p, bool make, int *ret, struct error *err);
const struct json *pod_object(const struct pod *p, struct arena *a); /* as the informer has it; NULL */
void pod_event(const struct pod *p, const char *type, const char *reason, const char *message);

/* ops.c: calls whose answer may come after the pod is of no more interest */
typedef void (*pod_answer_fn)(struct pod *p, void *arg, const struct client_response *r);
void pod_call(struct pod *p, const struct client_request *q, pod_answer_fn fn, void *arg);
struct op;
struct op *op_new(struct pod *p, void *arg); /* for network and images: user data */
struct pod *op_end(struct op *o, void **ret_arg); /* NULL: nobody waits any more; frees the op */
void ops_abandon(struct pod *p);

/* prepare.c: volumes, images, network, configuration → crun */
void pod_prepare(struct pod *p);
void pod_prepare_cancel(struct pod *p);
/* What keeps it from starting, if anything: an older sandbox of the same VM or volume. */
const struct pod *pod_blocked_by(const struct pod *p);
void pod_failed(struct pod *p, const char *reason, const char *waiting, const struct error *err); /* tells, retries */

/* crun.c: the container's process */
void pod_crun_run(struct pod *p); /* bundle/config.json is there */
void pod_watch_init(struct pod *p);     /* pidfd is open */
void pod_boost_begun(struct pod *p);    /* ends by itself in a while */
void pod_boost_end(struct pod *p);      /* its own CPU weight from now on */
void pod_ended_unseen(struct pod *p);   /* the process is known to be gone */
void pod_stop(struct pod *p, int64_t grace_ns); /* SIGTERM, then SIGKILL; again: shortens */
void pod_kill_leftovers(struct pod *p);
void pod_release(struct pod *p);        /* → POD_RELEASED */
MUST_CHECK bool pod_remove_files(struct pod *p, struct error *err);

/* volumes.c: host side of volumes, all beneath the pod's directory */
MUST_CHECK bool volume_empty_dir(struct pod *p, int pod_dirfd, const char *name, struct error *err);
/* From a Secret (base64 "data") or ConfigMap ("data", "binaryData"); items: the volume source's. */
MUST_CHECK bool volume_files(struct pod *p, int pod_dirfd, const char *dir, const char *name, bool secret,
                             const struct json *object, const struct json *items, struct error *err);
MUST_CHECK bool volume_claim(struct pod *p, const char *pv_name, bool write, struct error *err);
MUST_CHECK bool volume_etc(struct pod *p, int pod_dirfd, const struct json *pod, const char *ip, struct error *err);
/* A device node of the VM's own beside its files; *ret_path in the arena, NULL: no such device. */
/* A node of the host's /dev/<name> for this VM alone; NULL where the host has none. */
MUST_CHECK bool volume_device(struct pod *p, int pod_dirfd, const char *name, struct arena *a, const char **ret_path,
                              struct error *err);
void volumes_unmount(struct pod *p, int pod_dirfd);
MUST_CHECK bool volume_name_ok(struct str name, struct error *err);

/* config.c: pure */
struct config_mount {
    const char *source, *destination;
    bool read_only, exec, dev, file;
};
struct config_input {
    const struct json *pod;
    const char *rootfs, *cgroup, *netns, *etc, *launcher, *termination_log, *kvm, *mshv, *tun; /* kvm, mshv, tun: NULL for none */
    uid_t root_uid, vm_uid;
    uint64_t host_memory, nofile; /* bytes; hard limit of descriptors */
    const struct config_mount *mounts; /* volumes */
    size_t n_mounts;
};
/* What the container's request gives it, and what every pod has until its guest runs: a start is short, and must not wait
 * for the firmware of those that have just been started (without KVM that alone takes 0.2 s of a CPU). */
#define CPU_SHARES_START 16384u
uint64_t config_cpu_shares(const struct json *container);
MUST_CHECK bool config_make(const struct config_input *in, struct arena *a, const struct json **ret, struct error *err);
/* Refuses what is no VM's pod. */
MUST_CHECK bool config_check_pod(const struct json *pod, struct error *err);

/* status.c: pure; bodies of merge patches on pods/status */
const char *status_qos(const struct json *pod);
const struct json *status_running(const struct json *pod, const struct record *rec, struct arena *a);
const struct json *status_waiting(const struct json *pod, const char *reason, const char *message, const struct record *rec,
                                  int64_t now_ns, struct arena *a);
const struct json *status_ended(const struct json *pod, const struct record *rec, struct arena *a);
/* prune.c: images that no pod uses go */
void prune_start(struct pod_runtime *r);
void prune_now(struct pod_runtime *r); /* at most one */
void prune_note(struct pod *p, const char *digest); /* the pod has got this image */
void prune_forget(struct pod *p);      /* it starts anew */

/* publish.c: and their way to the API */
void pod_publish(struct pod *p, enum pod_publish what);
void pod_publish_waiting(struct pod *p, const char *reason, const char *message);
void pod_delete(struct pod *p);

/* log.c */
void log_start(struct pod_runtime *r);
void log_stop(struct pod_runtime *r);
/* The end of the container's output, at most n bytes, cleaned to UTF-8; owned. */
char *log_tail(int pod_dirfd, size_t n);
char *log_clean(struct str text); /* valid UTF-8 without control characters; owned */
