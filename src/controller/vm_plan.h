/* controller/vm_plan - what a VirtualMachine needs next (reference/api-and-lifecycle.md §2). */
#pragma once
#include "controller/plan.h"

struct vm_view {
    const struct json *vm;
    const struct json *vmi;       /* of the VM's name, or NULL */
    const struct json *revision;  /* that the VMI was started from, or NULL */
    const struct json *revisions; /* array of the VM's start revisions */
    int64_t now_unix_ns;
    uint64_t random; /* for the jitter of the backoff */
    struct failure failure;
    /* By it an instance is judged before it is made, as admission does with what users make. NULL: it is not. */
    const struct kv_config *config;
    /* The webhooks of a cluster are not asked about our own writes: an instance is made complete. On one machine admission does that, and
     * has to see what the template says and what not. What only a cluster's scheduler can do is no reason against an instance there. */
    bool on_cluster;
};
void vm_plan(const struct vm_view *v, struct plan *p);

/* The heart of it, for tests: what the strategy wants. */
enum vm_strategy {
    VM_ALWAYS,
    VM_RERUN_ON_FAILURE,
    VM_MANUAL,
    VM_HALTED,
    VM_ONCE,
    VM_WAIT_AS_RECEIVER
};
enum vm_request {
    VM_NO_REQUEST,
    VM_START,
    VM_STOP
}; /* the first request that still means something */
enum vm_step {
    VM_STAY,
    VM_CREATE,      /* the instance */
    VM_DELETE,      /* the instance */
    VM_PUSH_START,  /* ask for a start, then delete: RerunOnFailure after a failure */
    VM_SPEC_ALWAYS, /* a start request changes the strategy */
};
struct vm_case {
    enum vm_strategy strategy;
    enum vmi_phase vmi;
    enum vm_request request;
    bool
        same_strategy; /* status.runStrategy is the strategy already: RerunOnFailure runs on its own only the first time */
};
enum vm_step vm_step(const struct vm_case *c);
/* 10·n² seconds and up to half as much again, at most 300 s. */
int64_t vm_backoff_seconds(int64_t failures, uint64_t random);
