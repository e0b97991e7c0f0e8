/* bench - one machine of one driver and all that was opened for it: what the scenarios of contract.c and faults.c share. */
#pragma once
#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "loop/child.h"
#include "vmm/vmm.h"

/* How long anything may take before it counts as hung: an emulated guest on a busy machine is slow. */
#define PATIENCE_MS 30000

struct subject { /* a driver, and what is known of its VMM in this run */
    const struct vmm_driver *driver;
    const char *label, *path; /* path: what PATH is for it */
    enum vmm_accelerator accelerator;
    bool pretended; /* a contract server stands in for the program: its book is read, it takes faults, its guest has devices */
    bool inside;    /* it has no program and no process: what it runs is in the launcher itself */
    bool rest;      /* cloud-hypervisor or Firecracker: their real programs are tried too when they are in PATH */
    const char *why_not; /* none of it can be tried: why */
    const char *no_guest; /* the program is there and no guest can run: why */
};
#define MAX_SUBJECTS 16
extern struct subject subjects[MAX_SUBJECTS];
extern size_t n_subjects;
extern char bench_dir[64];       /* bin/, book, faults */
extern const char *guest_kernel; /* its path */

/* What a scenario's machine has beyond memory, one vCPU, a kernel and a serial console. */
struct wish {
    bool disk, cdrom_like /* a second disk, read-only */, nic, balloon, vsock, panic, paused, room /* to plug memory and vCPUs */;
    const char *more; /* members of spec.domain, with a comma in front */
    const char *restore_dir, *incoming;
};

struct bench {
    const struct subject *s;
    struct loop *loop;
    struct vmm *vmm;
    struct arena a;
    struct error err;
    const struct kv_virtual_machine_instance *vmi;
    char dir[40];
    int dirfd, serial_fd;
    struct buf serial; /* what was read of it and not yet waited for */
    int fds[16];
    size_t n_fds;
    struct vmm_disk disks[4];
    size_t n_disks;
    struct vmm_nic nic;
    int nic_fds[1];
    unsigned changes;
    struct vmm_status last;
    size_t fds_before, children_before; /* 0 descriptors: within another bench, which counts them */
    unsigned gone; /* devices that are gone, as the listener heard */
    bool kept;
    bool faulty;  /* the server is told to misbehave */
    bool may_err; /* the server's book may hold violations: the suite asks wrongly on purpose, or the driver has to cope with a fault */
};

void bench_init(struct bench *b, const struct subject *s); /* counts what is open */
/* Ends the machine, and fails the test for what is left over: descriptors, processes, violations in the server's book. */
void bench_done(struct bench *b);
void bench_judge(struct bench *b); /* reads the book; from here on the suite asks for what is wrong on purpose */
bool bench_start(struct bench *b, const struct wish *w); /* b->err on failure */
void bench_must_start(struct bench *b, const struct wish *w);
void bench_up(struct bench *b, const struct wish *w); /* … and the guest has said so */
int bench_keep(struct bench *b, int fd); /* closed with the bench; the test fails when it is none */
int bench_tap(struct bench *b);          /* one more; skips the test without the right to make one */
void bench_violations(struct bench *b, struct buf *ret); /* what the book has since the last time */
int bench_image(struct bench *b, const char *name, size_t bytes);
void bench_pump(struct bench *b, int ms);
bool bench_heard(struct bench *b, const char *text, int ms); /* eats the console's text up to it */
void bench_hear(struct bench *b, const char *text);          /* … or the test fails */
void bench_type(struct bench *b, const char *line);
unsigned bench_count(struct bench *b); /* asks the guest */
void bench_reach(struct bench *b, enum vmm_state state, enum vmm_reason reason);
bool bench_lacks(struct bench *b, bool ok, const void *function); /* no such function: ERROR_UNSUPPORTED that names the driver */
void bench_ok(struct bench *b, bool ok);
const struct json *bench_config(struct bench *b); /* with which the contract server booted its guest last, as the VMM would report it */
void bench_faults(const char *json); /* of the contract server, from now on */
void bench_forget(void); /* what a failed scenario left in the book */
int64_t bench_now_ms(void);

/* faults.c */
struct scenario {
    const char *name;
    void (*run)(struct bench *b);
    enum { EVERY, REST_ONLY, PRETENDED_ONLY } who;
    bool slow; /* it waits for a bound of time */
};
#define NO_KVM_SCENARIO "a start where KVM does not work" /* of more.c: tried where no guest can run */
extern const struct scenario fault_scenarios[], field_scenarios[], more_scenarios[];
void fields_list(void); /* "<vmm> <field>" of what field_scenarios prove */
