/* vmm/host - what this machine can run: its accelerators and VMMs, found out without blocking, remembered, and judged.
 *
 * Each accelerator and each VMM is a subject with a key: what its verdict depends on and stat() can tell (device node, program's
 * inode and times; with all of them kernel release and boot id). A subject is probed when its key is new, when somebody asks, and
 * again after a while when the last probe came to no verdict; so a machine on which nothing changes runs nothing. Verdicts are
 * kept in a file between starts. Probing happens in errands (errand.h), all subjects at once, each bounded; a subject whose key is
 * unchanged keeps its old verdict meanwhile, one whose key has changed is unknown until the new one is there.
 *
 * A VMM's program is looked for where a launcher's sandbox finds it: the sandbox has the host's /usr and nothing else of it. */
#pragma once
#include "json/json.h"
#include "vmm/probe.h"
#include "vmm/vmm.h"

#define HOST_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" /* as a sandbox has it (pod/config.c) */
#define HOST_MAX_VMMS 8
#define HOST_KEY 192

struct host_options {
    const char *path;    /* where programs are; NULL: HOST_PATH */
    const char *sees;    /* what a sandbox sees of the host: programs lie beneath it; NULL: "/usr/" */
    const char *kvm, *mshv; /* NULL: the devices' own names */
    const char *kernel, *boot_id; /* NULL: this machine's */
    const struct vmm_driver *const *drivers; /* NULL: vmm_drivers */
    const char *on_demand; /* names by commas: VMMs that are offered only when asked for (vmm_driver.plays); NULL: none of them */
    uid_t uid;           /* programs run as this user when we are root; 0: as we are */
    int dirfd;           /* where HOST_FILE is kept; -1: nowhere */
};
#define HOST_FILE "hypervisors.json"

struct host_subject {
    char key[HOST_KEY];
    bool known;           /* there is a verdict for this key */
    bool again;           /* probe anew when the probe that runs is over */
    unsigned failures;    /* probes in a row without a verdict */
    int64_t retry_ns;     /* … and when the next is due, on the loop's clock */
    int64_t probed_unix_ns;
};
struct host_device { /* an accelerator of the kernel */
    struct host_subject s;
    struct probe_result r;
    struct probe *running;
    struct host *host;
};
struct host_vmm {
    struct host_subject s;
    const struct vmm_driver *driver;
    enum probe_verdict verdict;
    char reason[768];     /* unless it works: what was seen, and what to do */
    char path[256];       /* of its program; "" when there is none */
    struct vmm_version version;
    struct errand *running;
    struct host *host;
};

struct host {
    struct loop *loop;
    struct host_options o;
    char *kernel, *boot_id;
    struct host_device kvm, mshv;
    struct host_vmm vmms[HOST_MAX_VMMS];
    size_t n_vmms;
    unsigned running;                 /* probes under way */
    bool news;                        /* a verdict has not been told yet */
    void (*found)(void *user);        /* a verdict is there */
    void (*settled)(void *user);      /* all are, or after a second and a half those that are */
    void *user;
    struct loop_timer settle;
    struct loop_defer tell;
};

/* Takes what is kept in the file and still holds; starts nothing. */
struct host *host_new(struct loop *l, const struct host_options *o, void (*found)(void *user), void (*settled)(void *user), void *user);
void host_free(struct host *h); /* NULL is fine; probes under way are killed */
/* Looks (by stat) whether what is known still holds, and probes what is not known. Cheap when nothing has changed. Returns whether
 * something is being probed, or is about to be told. */
bool host_check(struct host *h);
void host_check_vmm(struct host *h, struct host_vmm *v); /* the same, of one and of the accelerators */
void host_probe(struct host *h); /* all of it anew */
/* The same as host_check(), blocking until all is known (doctor, tests): on a loop that nobody else uses. */
void host_wait(struct host *h);
struct host_vmm *host_vmm(struct host *h, struct str name);

/* ---- judgement (host_report.c): pure ---- */

enum host_state {
    HOST_USABLE,
    HOST_UNKNOWN,        /* being probed */
    HOST_ABSENT,         /* no program */
    HOST_DENIED,         /* one that cannot be run */
    HOST_BROKEN,         /* one that does not answer as it should */
    HOST_INCONCLUSIVE,   /* no verdict; it is tried again */
    HOST_OLD,            /* below the version that is needed */
    HOST_UNACCELERATED,  /* no accelerator that it was built for works here */
    HOST_WITHHELD,       /* the administrator's list leaves it out */
};
const char *host_state_name(enum host_state s); /* "usable", "too-old" … : as in report and metrics */
struct host_verdict {
    enum host_state state;
    bool kvm, tcg, mshv;  /* accelerators that it was built for and that work here */
    char reason[1024];    /* "" when usable */
};
unsigned host_level(const struct vmm_version *v); /* major * 100 + minor: the label vireo.io/vmm-<name>-level */
/* allowed: names by commas, absent: all. */
void host_judge(const struct host *h, const struct host_vmm *v, struct str allowed, struct host_verdict *ret);
/* The emulator's verdict: PROBE_WORKS where a VMM that answers was built with it. */
enum probe_verdict host_tcg(const struct host *h, char *reason, size_t size);

/* What the Node's annotation holds: everything, for programs. `requested`: the request that this answers; may be absent. */
const struct json *host_report(const struct host *h, struct str allowed, struct str requested, struct arena *a);
/* HOST_FILE. Reading takes what holds for this kernel, boot and device or program. */
const struct json *host_to_file(const struct host *h, struct arena *a);
void host_from_file(struct host *h, const struct json *file);
