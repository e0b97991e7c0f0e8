/* controller/vmi_plan - what a VirtualMachineInstance needs next: its pod, its phase until the node agent takes over, and its end
 * (reference/api-and-lifecycle.md §3). */
#pragma once
#include "api/kv.h"
#include "controller/plan.h"

struct vmi_view {
    const struct json *vmi;
    const struct json *pods; /* array of the pods that it controls */
    const struct json
        *claims;   /* {name: PersistentVolumeClaim} of those its volumes name that exist */
    bool vm_alive; /* the VirtualMachine that controls it exists */
    int64_t now_unix_ns;
    int64_t pod_gone_ns; /* how long its pod is known to have vanished or ended; 0: it has not */
    bool unseen; /* on a cluster: its pod is gone from the API, and nobody has seen its process end (vmi.c) */
    uint32_t vsock_cid;  /* what its vsock is called, where it is to have one; 0: none is free */
    struct failure failure;
    const struct kv_config *config;
    struct kv_pod_options pod;
};
void vmi_plan(const struct vmi_view *v, struct plan *p);

/* The pod that the instance lives in, or NULL: not an ended one when there is another. */
const struct json *vmi_pod(const struct vmi_view *v);
/* Whether the agent can no longer tell how it ended: pod vanished or ended by itself. */
bool vmi_pod_lost(const struct vmi_view *v);
/* Whether the kubelet has said of the pod that the machine's process is no more. */
bool vmi_pod_dead(const struct json *pod);
/* Whether it asks for a vsock device. */
bool vmi_wants_vsock(const struct json *vmi);
/* The first claim for which it has to wait: one that does not exist, or that cannot be a disk here; absent: none. */
struct str vmi_claim_in_the_way(const struct vmi_view *v);
/* Name of the claim that a volume uses, or absent. */
struct str vmi_volume_claim(const struct json *volume);
