/* vmm/qemu/proof - fields of the VMI, proved by what a QEMU that runs says of itself.
 *
 * A machine is a spec as a user writes it. It is started by the driver, and asked. An answer proves a field only if the same
 * question gets another answer where the field has another value: the program holds its own tables to that, so a field
 * that the driver drops cannot pass, and neither can a question that always has the same answer. */
#pragma once
#include <stddef.h>

enum { PROOF_QEMU = 1, PROOF_MICROVM = 2, PROOF_BOTH = 3 };
enum {
    NEED_TAP = 1,  /* tap devices: root, or a kernel that lets users make networks */
    NEED_OVMF = 2, /* the package ovmf */
    NEED_KVM = 4,  /* /dev/kvm opens; no guest runs on it, so one that hangs guests will do */
    MAY_LACK =
        8, /* this host's KVM, or this QEMU, may lack it: QEMU then says so, and the machine is skipped */
    AS_ADMITTED =
        16, /* with the defaults that admission gives; else the driver gets what is written */
    NEED_KERNEL = 32, /* a kernel, which nothing runs */
    NEED_VSOCK = 64   /* /dev/vhost-vsock */
};

#define PROOF_CID 4021177 /* of a machine with a vsock: nobody else's, one hopes */

/* question: words separated by blanks
 *   qom PATH PROPERTY [POINTER]   a property of QEMU's object model; PATH may be cpu0
 *   type PATH                     the type of an object, or "none"
 *   count COMMAND|TEXT            lines of a monitor command's output that hold TEXT
 *   COMMAND[ARGUMENTS] [POINTER]  any QMP query
 *   rtc [moves]                   minutes from UTC to the guest's clock; whether it goes on while the machine is paused
 *   memory TEXT                   whether the guest's memory holds the text, or the bytes of uuid:…
 *   serial TEXT                   whether the serial port said so
 *   maps TEXT                     whether the kernel says that of QEMU's address space
 *   reset                         "runs again" or "ended"
 *   state                         the state that the driver reports
 *   stream serial|vnc             whether the driver has that stream
 *   start                         "ok", or the reason not to
 * A pointer's parts are keys, indexes, "#" for the length, key=text for the first item whose key holds that text.
 * wanted: the answer's text; "~x" holds x, "!x" does not. */
struct proof_ask {
    const char *fields; /* separated by blanks; NULL: a counter-value for the other machines */
    const char *question, *wanted;
    int only; /* 0: on all VMMs of its machine */
};
struct proof_machine {
    const char *name;
    int vmms, needs;
    const char *spec;             /* ' for " */
    const struct proof_ask *asks; /* to one without a question */
};
