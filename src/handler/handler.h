/* handler/handler - the node agent: makes VirtualMachineInstances on this node real.
 *
 * One key (VMI) at a time per worker. Finds the launcher's socket beneath the pod's "sockets" volume, checks its peer, sets up the
 * VM's network in the pod's namespace, says sync, and turns what the launcher reports into VMI status, conditions and
 * Events: one patch per real change. Runs the same on one machine and as DaemonSet. */
#pragma once
#include "client/client.h"
#include "http/exchange.h"
#include "vmm/host.h"

struct handler;
struct handler_config {
    struct client *client;
    const char *node_name;
    int pods_dirfd;           /* kubelet's (or our) "pods" directory */
    uid_t uid_base;           /* 0: launcher runs as uid 107 of the host (cluster without user namespaces) */
    bool embedded;            /* automatic emulation when useEmulation is unset; creates its own Node object */
    const char *boot_id;      /* /proc/sys/kernel/random/boot_id, or a test's */
    void (*guest_runs)(void *data, struct str pod_uid); /* each time that is found out; may be NULL */
    void *guest_runs_data;
    const char *vhost_vsock; /* the kernel's device for guests' vsock; NULL: /dev/vhost-vsock */
    const struct host_options *host; /* what is probed, and how; NULL: this machine */
};
struct handler *handler_new(const struct handler_config *c, struct error *err);
void handler_start(struct handler *h);
void handler_free(struct handler *h); /* leaves VMs running */
/* Subresources as upstream's handler serves them to virt-api: GET /v1/namespaces/<ns>/virtualmachineinstances/<name>/{console,vnc},
 * …/vsock?port=N (streams by WebSocket "plain.kubevirt.io") and {guestosinfo,userlist,filesystemlist,stats} (the launcher's own answers),
 * PUT …/{pause,unpause,reset,softreboot}. false: not its path. */
bool handler_http(struct handler *h, struct exchange *x);
