/* vmm/confine - what the process of a VMM is kept from, on top of the pod's sandbox.
 *
 * The sandbox (pod/config.c) gives the pod namespaces, an almost empty root, no capability and a list of refused calls. All of
 * that holds for the launcher too. A VMM needs much less than the launcher, and it is what a guest meets first; so before it
 * runs, its process gives up for good:
 *
 *   - gaining rights (no_new_privs), core dumps, and what the limits below say;
 *   - files: with Landlock it opens what is listed here and nothing else, whatever the permissions say, runs nothing but
 *     itself, opens no TCP port, and signals nobody outside;
 *   - system calls that no VMM needs (confine.c has the list), new processes, and sockets other than unix ones. This comes on
 *     top of the list that each VMM brings (-sandbox of QEMU, the built-in filters of the others), which stays on.
 *
 * confine_make() does what allocates and opens, in the launcher; confine_enter() runs in the child between fork and exec.
 * A kernel without Landlock gets the rest; confine_landlock() tells. Where a script stands in for the program, what it reads
 * and runs is not restricted (nobody knows its interpreter's needs), what it writes is. */
#pragma once
#include "loop/child.h"

struct confine_spec {
    const char *program;              /* as argv[0]; looked for in PATH */
    const char *const *read;          /* NULL-terminated paths: files, or directories with all beneath; what is missing is skipped */
    const char *const *devices;       /* … that may be opened for all, ioctl included */
    const char *const *write;         /* … directories in which files and sockets may be made, written and removed */
    const struct child_fd *fds;       /* what it inherits and may open again by /proc/self/fd */
    size_t n_fds;
    bool inet;                        /* may make sockets of the Internet families (ioctl on links) */
    bool connect_tcp;                 /* … and use them for TCP (migration) */
    uint64_t max_file_bytes, max_fds; /* 0: as they are */
};

struct confine { /* owned */
    int ruleset_fd; /* -1: no Landlock here */
    bool inet;
    uint64_t max_file_bytes, max_fds;
};

MUST_CHECK bool confine_make(const struct confine_spec *spec, struct confine *ret, struct error *err);
void confine_done(struct confine *c);
int confine_enter(void *confine); /* for child_spec.enter: 0, or errno */
/* Version of the kernel's Landlock; 0: none. */
int confine_landlock(void);
