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
struct proto_client;
struct network_vm;
/* Launchers that are in this process, in place of those behind sockets of pods (room sim). */
struct handler_launchers {
    bool (*connect)(void *data, struct str pod_uid, struct proto_client **ret, struct error *err);
    /* The domain that a launcher left when it ended; NULL: it lives, or has left none. */
    const struct json *(*last_word)(void *data, struct str pod_uid, struct arena *a);
    void (*network)(void *data, struct str pod_uid, const struct json *vmi, struct network_vm *ret);
    void *data;
};
struct handler_config {
    struct client *client;
    const char *node_name;
    const char *ns;           /* whose KubeVirt object configures, the oldest in it; NULL: in any (one machine) */
    int pods_dirfd;           /* kubelet's (or our) "pods" directory */
    uid_t uid_base;           /* 0: launcher runs as uid 107 of the host (cluster without user namespaces) */
    bool embedded;            /* automatic emulation when useEmulation is unset; creates its own Node object */
    const char *boot_id;      /* /proc/sys/kernel/random/boot_id, or a test's */
    void (*guest_runs)(void *data, struct str pod_uid); /* each time that is found out; may be NULL */
    void *guest_runs_data;
    const char *vhost_vsock; /* the kernel's device for guests' vsock; NULL: /dev/vhost-vsock */
    const char *device_plugin_dir; /* the kubelet's; NULL: there is none to tell of devices */
    const char *host_root;   /* where the host's /dev is seen; NULL: "" */
    unsigned max_devices;    /* of each kind; 0: as upstream */
    void (*health)(void *data, const char *check, const char *why); /* why it is not ready, or NULL: it is; may be NULL */
    void *health_data;
    const struct host_options *host; /* what is probed, and how; NULL: this machine */
    struct client *node_client; /* for its Node's labels and heartbeat; NULL: client */
    const struct handler_launchers *launchers; /* NULL: they are in pods */
};
struct handler *handler_new(const struct handler_config *c, struct error *err);
void handler_start(struct handler *h);
void handler_free(struct handler *h); /* leaves VMs running */

/* The agents of many nodes in one process, for simulated ones: they share informers, verdicts and the recorder of Events. */
struct handlers;
struct handlers *handlers_new(const struct handler_config *c, struct error *err); /* of all; node_name is not looked at */
void handlers_start(struct handlers *all);
/* The agent of a node whose Node object exists. It begins with what is bound to that node. */
void handlers_add(struct handlers *all, const char *node_name);
void handlers_remove(struct handlers *all, struct str node_name); /* it falls silent; its launchers go on */
void handlers_free(struct handlers *all);
/* Subresources as upstream's handler serves them to virt-api: GET /v1/namespaces/<ns>/virtualmachineinstances/<name>/{console,vnc},
 * …/vsock?port=N (streams by WebSocket "plain.kubevirt.io") and {guestosinfo,userlist,filesystemlist,stats} (the launcher's own answers),
 * PUT …/{pause,unpause,reset,softreboot}. false: not its path. */
bool handler_http(struct handler *h, struct exchange *x);
/* The same for a network: only who shows virt-api's certificate for handlers is served. Answers everything. */
#define HANDLER_CLIENT "kubevirt.io:system:client:virt-handler"
void handler_serve(struct handler *h, struct exchange *x);
/* Is it that client, now? */
bool handler_trusts(const struct http_peer *peer, int64_t now_unix_ns);
