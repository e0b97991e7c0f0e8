/* api/vmm_caps - what each hypervisor can do of a VMI's spec, as data: one table for admission, choice, documents and tests.
 *
 * The tables are generated (tools/gen-caps) from the .caps file in each driver's folder and src/vmm/platform.caps; their
 * language is described in src/vmm/README.md. A row names a field below the VMI's spec, says whether it is honoured, and for
 * which values not. Pure: no I/O, no clock.
 *
 * Versions are one number here, as in the nodes' label vireo.io/vmm-<name>-level: major * 100 + minor. */
#pragma once
#include "api/schema.h"

enum { VMM_CAPS_KVM = 1 << 0, VMM_CAPS_TCG = 1 << 1, VMM_CAPS_MSHV = 1 << 2 }; /* vmm_caps.accelerators */

/* The verdict of a row: on what it speaks of, or (LIMIT, and any with a condition on values) on some values of it. */
enum vmm_caps_verdict {
    VMM_CAPS_HONOURED,
    VMM_CAPS_LIMIT,
    VMM_CAPS_NEVER,
    VMM_CAPS_NOTYET,
    VMM_CAPS_PLAYED, /* taken, and nothing is done with it: the VMM runs nothing */
};
/* Which values a row refuses; of an honoured row with `since`: which ones need that version. */
enum vmm_caps_when {
    VMM_CAPS_NONE,           /* of an honoured row: any */
    VMM_CAPS_SET,            /* present; lists and texts: not empty */
    VMM_CAPS_TRUE,
    VMM_CAPS_FALSE,
    VMM_CAPS_TRUE_OR_ABSENT, /* true, or left out of an object that is there */
    VMM_CAPS_ON,             /* an object whose "enabled" or "present" is not false */
    VMM_CAPS_IS,             /* one of a|b|c */
    VMM_CAPS_NOT,            /* none of a|b|c */
    VMM_CAPS_NOT_PREFIX,     /* text that begins otherwise */
    VMM_CAPS_ABOVE,          /* a number or quantity above */
    VMM_CAPS_BELOW,
    VMM_CAPS_UNALIGNED,      /* … that is no multiple */
    VMM_CAPS_LONGER,         /* text of more bytes */
    VMM_CAPS_MORE,           /* a list of more items */
};
enum { VMM_CAPS_OWN = 1 << 0 /* from the VMM's own file, else the platform's */, VMM_CAPS_SUBTREE = 1 << 1 };

extern const char vmm_caps_texts[]; /* all texts of rows, by offset: rows need no relocation and cost no memory of their own */
struct vmm_caps_row {
    uint16_t path, value, reason; /* offsets; 0: "" */
    uint16_t since;               /* version that is needed; 0: the VMM's minimum */
    uint8_t verdict, when, flags;
};
static inline const char *vmm_caps_text(uint16_t at) { return vmm_caps_texts + at; }

struct vmm_caps_pair { /* ends with a key of NULL */
    const char *key, *value;
};
enum vmm_caps_auto {
    VMM_CAPS_AUTO_NEVER,
    VMM_CAPS_AUTO_KERNEL, /* for a machine that brings its kernel: an image of a disk may lack the drivers for this VMM's devices */
    VMM_CAPS_AUTO_ALWAYS,
};
struct vmm_caps {
    const char *name;    /* "firecracker": the driver's name, annotation vireo.io/vmm */
    const char *title;   /* "Firecracker" */
    const char *program; /* what has to be installed */
    unsigned accelerators;
    unsigned minimum;    /* version */
    unsigned weight;     /* the lighter, the sooner `auto` takes it */
    enum vmm_caps_auto automatic; /* when `auto` may take it */
    bool built;          /* its driver is in this build */
    bool hidden;         /* for tests: documents and messages that list VMMs leave it out */
    unsigned max_vcpus;  /* 0: no limit of its own */
    const char *max_vcpus_reason;
    bool
        kernel_vsock; /* its guests' vsock is the kernel's (vhost): the node needs /dev/vhost-vsock */
    struct {
        int64_t base, vcpu, tcg, graphics; /* bytes */
        int64_t guest_divisor;             /* and this part of the guest's memory: bytes / divisor */
    } overhead; /* what the VMM's process takes beside the guest's memory; the launcher is not in it */
    /* Where its defaults differ from upstream's: path below the spec ("domain/machine/type") or a word of its own,
     * and value ("": leave it unset). */
    const struct vmm_caps_pair *defaults;
    /* Implicit devices that it lacks, and why: graphics, input, guest-agent, balloon, serial-console, identity. */
    const struct vmm_caps_pair *lacks;
    const struct vmm_caps_pair *required; /* what must be written for it: path, or several between which there is a '|'; reason */
    const struct vmm_caps_row *rows;      /* sorted by path; the platform's are among them */
    size_t n_rows;
};
extern const struct vmm_caps *const vmm_caps_all[]; /* NULL-terminated, lightest first */

const struct vmm_caps *vmm_caps_find(struct str name); /* NULL: there is none. "" and absent: "qemu" */
const char *vmm_caps_default(const struct vmm_caps *v, const char *key); /* NULL: as upstream */
const char *vmm_caps_lacks(const struct vmm_caps *v, const char *device); /* the reason; NULL: it has it */

/* What of a VMI's spec this VMM cannot honour, by path below `path` ("spec", "spec.template.spec") and with the reason. */
void vmm_caps_check(const struct vmm_caps *v, const struct json *spec, const char *path, struct arena *a,
                    struct schema_causes *ret);
/* The same as a question. `platform`: also what no VMM is given by this platform; without it a spec that nothing honours is
 * judged by the rest of what it says. */
bool vmm_caps_honours(const struct vmm_caps *v, const struct json *spec, bool platform);
/* The version that this spec needs: the VMM's minimum, or what a field that is written came with. */
unsigned vmm_caps_version(const struct vmm_caps *v, const struct json *spec);
