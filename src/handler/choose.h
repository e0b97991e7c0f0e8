/* handler/choose - which accelerator a VM gets on this node, or why it cannot run here. Pure.
 *
 * The KubeVirt object says what may be done (useEmulation, and which accelerators its hypervisors name), the node what can be
 * (vmm/host.h). Nothing is emulated that was to be accelerated unless the configuration says so, and no VM is started on an
 * accelerator that has not proved itself. */
#pragma once
#include "api/kv.h"
#include "vmm/host.h"

struct choose_view {
    const struct host *host;
    const struct host_vmm *vmm;        /* NULL: this node's launcher has no such driver */
    struct str name;                   /* … of this name */
    const char *node;
    struct str allowed;                /* the Node's annotation; absent: all */
    enum kv_emulation emulation;
    bool embedded;                     /* useEmulation left open emulates */
    bool kvm_allowed, mshv_allowed;    /* by the KubeVirt object's hypervisors */
};
enum choose_answer {
    CHOOSE_TAKEN,   /* *ret says which */
    CHOOSE_WAIT,    /* a verdict is on its way; err says of what */
    CHOOSE_REFUSED, /* err names cause and fix */
};
enum choose_answer choose_accelerator(const struct choose_view *v, enum vmm_accelerator *ret, struct error *err);
