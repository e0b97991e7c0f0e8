/* vmm/tap - counters of a machine's NICs, whatever VMM they hang on: a tap is asked for its name, the kernel for the rest.
 *
 * The launcher runs in the network namespace of the pod, where the taps are. What the kernel received from a tap is what
 * the guest sent. */
#pragma once
#include <net/if.h>

#include "vmm/vmm.h"

struct vmm_taps { /* zeroed: none */
    struct {
        char nic[64], tap[IFNAMSIZ];
    } p[VMM_MAX_DEVICES];
    size_t n;
};
/* Notes the tap behind a NIC. A descriptor that is no tap, or one too many, has no counters. */
void vmm_taps_add(struct vmm_taps *t, struct str nic, int fd);
void vmm_taps_remove(struct vmm_taps *t, struct str nic);
void vmm_taps_read(const struct vmm_taps *t, struct vmm_stats *ret);
