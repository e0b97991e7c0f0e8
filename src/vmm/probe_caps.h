/* vmm/probe_caps - which of KVM's capabilities the report names. */
#pragma once
#include "vmm/probe.h"

/* kvm: an open /dev/kvm. Fills caps and n_caps. */
void probe_caps_read(int kvm, struct probe_result *r);
