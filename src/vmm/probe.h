/* vmm/probe - what accelerators this node really has: KVM must prove itself.
 *
 * A /dev/kvm that opens is not KVM that works: nested and paravirtual hosts exist on which a stock kernel hangs in early
 * boot. The probe opens the device, checks the API, makes a VM and runs a tiny 64-bit guest (page tables, a counting loop, a
 * port write, HLT), and judges the guest's progress against the vCPU thread's own CPU time (not wall time, so a loaded machine
 * does not make a good KVM look bad), three tries. See reference/compute.md §7. */
#pragma once
#include "base/str.h"
#include "loop/loop.h"

#define PROBE_KVM_DEVICE  "/dev/kvm"
#define PROBE_MSHV_DEVICE "/dev/mshv"
#define PROBE_MAX_CAPS    48

enum probe_verdict { PROBE_ABSENT, PROBE_DENIED, PROBE_BROKEN, PROBE_INCONCLUSIVE, PROBE_WORKS };
struct probe_cap {
    char name[28]; /* as in the report: "dirtyLogRing" */
    int value;     /* what KVM_CHECK_EXTENSION answered, or 1 */
};
struct probe_result { /* plain memory: it crosses a pipe */
    enum probe_verdict verdict;
    char reason[256];          /* a sentence for a user: what was seen */
    int api_version;
    double ns_per_iteration;   /* measured, 0 when the guest did not end */
    unsigned max_vcpus, recommended_vcpus;
    struct probe_cap caps[PROBE_MAX_CAPS]; /* what the kernel has of what drivers and users ask for; others are left out */
    unsigned n_caps;
};
const char *probe_verdict_name(enum probe_verdict v); /* "works", "broken" … */
/* What to do about a verdict of that device; "" when it works. */
const char *probe_kvm_fix(enum probe_verdict v);
const char *probe_mshv_fix(enum probe_verdict v);
MUST_CHECK bool probe_verdict_parse(struct str name, enum probe_verdict *ret);

/* Each runs in a forked child (a hung vCPU is killed with it); done on the loop thread. path NULL: the device's own. */
struct probe;
struct probe *probe_kvm(struct loop *l, const char *path, void (*done)(void *user, const struct probe_result *r), void *user);
struct probe *probe_mshv(struct loop *l, const char *path, void (*done)(void *user, const struct probe_result *r), void *user);
void probe_cancel(struct probe *p); /* of one that has not said done; NULL is fine */
/* The same, blocking (doctor, tests). */
void probe_kvm_now(const char *path, struct probe_result *ret);
void probe_mshv_now(const char *path, struct probe_result *ret);
