/* vmm/probe - what accelerators this node really has: KVM must prove itself.
 *
 * A /dev/kvm that opens is not KVM that works: nested and paravirtual hosts exist on which a stock kernel hangs in early
 * boot. The probe opens the device, checks the API, makes a VM and runs a tiny 64-bit guest (page tables, a counting loop, a
 * port write, HLT), and judges the guest's progress against the vCPU thread's own CPU time (not wall time, so a loaded machine
 * does not make a good KVM look bad), three tries. See reference/compute.md §7. */
#pragma once
#include "loop/loop.h"

enum probe_verdict { PROBE_ABSENT, PROBE_DENIED, PROBE_BROKEN, PROBE_INCONCLUSIVE, PROBE_WORKS };
struct probe_result {
    enum probe_verdict verdict;
    char reason[256];          /* a sentence for a user: what was seen and what to do */
    int api_version;
    double ns_per_iteration;   /* measured, 0 when the guest did not end */
    unsigned max_vcpus, recommended_vcpus;
};
const char *probe_verdict_name(enum probe_verdict v); /* "works", "broken" … */
/* Runs the probe in a forked child (a hung vCPU is killed with it); done on the loop thread. path NULL: /dev/kvm. */
void probe_kvm(struct loop *l, const char *path, void (*done)(void *user, const struct probe_result *r), void *user);
/* The same, blocking (doctor, tests). */
void probe_kvm_now(const char *path, struct probe_result *ret);
