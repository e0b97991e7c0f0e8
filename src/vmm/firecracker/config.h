/* vmm/firecracker/config - a VMI as the requests that make a Firecracker machine of it.
 *
 * Building is pure: the same machine gives the same requests, in the order in which Firecracker wants them; nothing is opened or
 * asked. What a VMI asks for and Firecracker does not have is refused here by its path, though admission has refused it before. */
#pragma once
#include "base/vec.h"
#include "json/json.h"
#include "loop/child.h"
#include "vmm/vmm.h"

/* Numbers of what the process inherits. A snapshot holds the paths of its disks, so these never change. */
enum {
    FC_FD_LOG = 2,
    FC_FD_METRICS = 3,
    FC_FD_STATE = 4,  /* of a snapshot that is loaded */
    FC_FD_MEMORY = 5, /* … its memory */
    FC_FD_KERNEL = 10,
    FC_FD_INITRD = 11,
    FC_FD_DISKS = 12,
};

#define FC_SOCKET "api.sock"
#define FC_VSOCK  "vsock.sock"
#define FC_OLDEST "1.7"
#define FC_VERSION(major, minor) ((major)*100u + (minor))
#define FC_MAX_TAPS 32
#define FC_TAP_NAME 16

struct fc_call {
    const char *method, *path;
    const struct json *body;
    const char *field;        /* of the VMI, for messages: "spec.domain.cpu"; NULL: none */
    unsigned since;           /* FC_VERSION that knows this body; 0: all do */
    const struct json *older; /* for those that do not; NULL: it is refused */
};
struct fc_config {
    struct arena *a; /* borrowed: bodies and names live here */
    VEC(struct fc_call) calls;
    VEC(struct child_fd) fds; /* kernel, initrd, disks; .fd borrowed from the machine */
    VEC(const char *) disks;  /* name of disk i, which is drive "disk<i>" */
    VEC(const char *) nics;   /* … of interface "net<i>" */
    VEC(const char *) taps;   /* … and of its link on the host */
    uint64_t memory, hotplug; /* bytes at boot, bytes that may be plugged */
    unsigned vcpus;
    bool balloon, serial, vsock, reboots;
    uint64_t largest; /* bytes of the largest file that it writes */
    struct error err; /* the first mistake; later ones are not looked for */
};
/* taps: name of the link of m->nics[i]. */
MUST_CHECK bool fc_config_build(struct fc_config *c, struct arena *a, const struct vmm_machine *m, const char (*taps)[FC_TAP_NAME],
                                struct error *err);
void fc_config_done(struct fc_config *c);
/* What the machine is told of its links when it comes from a snapshot: /snapshot/load. */
const struct json *fc_config_load(const struct fc_config *c, struct arena *a);
/* The kernel's command line: what the user wrote, and what Firecracker needs where the user says nothing of it. */
const char *fc_boot_args(struct str written, bool serial, struct arena *a);
