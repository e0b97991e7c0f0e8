/* controller/scheduler_words - why no node offers the hypervisor that a pod's machine was given, from the nodes' own reports. */
#pragma once
#include "controller/scheduler_plan.h"

/* The hypervisor that the pod's selector or affinity asks for; absent: none in particular. *ret_level: the least version, as in
 * the nodes' labels; 0: any that is usable. */
struct str scheduler_hypervisor(const struct json *pod, unsigned *ret_level);
/* Appends a sentence when no node offers it. */
void scheduler_explain_hypervisor(struct buf *b, const struct json *pod, const struct candidate *nodes, size_t n);
/* Whether a node's agent is still finding out about it. */
bool scheduler_hypervisor_unknown(const struct json *pod, const struct candidate *nodes, size_t n);
/* Whether its machine cannot run without /dev/kvm, whatever the configuration says. */
bool scheduler_needs_kvm(const struct json *pod);
