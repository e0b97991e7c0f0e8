/* handler/internal - parts of the node agent that know each other. */
#pragma once
#include <sys/types.h>

#include "base/map.h"
#include "base/arena.h"
#include "client/informer.h"
#include "client/recorder.h"
#include "handler/handler.h"
#include "network/network.h"
#include "vmm/host.h"
#include "vmm/proto.h"

/* The life of a VMI on this node, as the agent sees it. A VM moves forward only; a launcher that is lost leads to ENDED. */
enum vm_stage {
    VM_NEW,        /* nothing done yet */
    VM_CONNECTING, /* looking for the launcher's socket */
    VM_ASKING,     /* connected: what runs there already? */
    VM_NETWORK,    /* the pod's network is being prepared for the VM */
    VM_SYNCING,    /* told to start */
    VM_LIVE,       /* reports come by themselves */
    VM_ENDED,      /* its last word is known */
};

struct vm {
    struct handler *h;
    char *key;                   /* "namespace/name" */
    char *uid, *pod_uid;
    enum vm_stage stage;
    struct proto_client *launcher;
    int pidfd;                   /* of the launcher; -1 */
    int pod_dirfd;               /* pods/<uid>; -1 */
    struct arena domain_arena;
    const struct json *domain;   /* newest report, or NULL */
    struct arena nics_arena;
    const struct json *nics;     /* status.interfaces as the network was set up, or NULL: not by this process */
    struct loop_io exit_io;      /* the launcher's end */
    struct loop_timer retry;
    int64_t retry_ns, connecting_since_ns;
    int64_t waiting_since_ns;    /* for a verdict on its VMM or accelerator; 0: it does not */
    bool heard;                  /* this connection's launcher has said what runs */
    bool network_running;        /* a network_vm_setup() is under way */
    bool shutdown_sent, gone;    /* gone: the VMI left the API; free when nothing is under way */
    char *sync_error;            /* why the last attempt failed, or NULL */
    struct client_call *patch;   /* under way */
    bool patch_again;
};

struct handler {
    struct handlers *all; /* whose informers, host, recorder and configuration it uses; NULL: they are its own */
    struct loop *loop;
    struct client *client;
    struct handler_config config;
    char *node_name, *boot_id;
    struct informer *vmis, *kubevirts, *nodes; /* nodes: our own */
    struct recorder *recorder;
    struct map vms;              /* uid → struct vm */
    struct map by_key;           /* "namespace/name" → struct vm */
    struct host *host;           /* what this machine can run */
    char *allowed;               /* the Node's annotation vireo.io/hypervisors; NULL: all */
    char *requested, *answered;  /* its vireo.io/probe-requested: the newest, and the one that the report answers; or NULL */
    bool started;
    struct kv_config *kv;        /* of the KubeVirt object */
    struct node_object *node;
    struct device_plugins *plugins; /* NULL: no kubelet, or nobody said where */
    bool devices_wait;           /* since we began the kubelet has not known them: nothing is to be scheduled here */
    bool kvm_told;               /* an Event says that /dev/kvm does not work */
};

/* offer.c: what the node tells of its hypervisors. Pure but for the handler's state. */
const struct json *offer_labels(const struct handler *h, const struct json *labels, bool patch, struct arena *a);
const struct json *offer_annotations(const struct handler *h, const struct json *annotations, struct arena *a);
const struct json *offer_resources(const struct handler *h, const struct json *resources, const char *slots, struct arena *a);
struct offer_condition {
    const char *type, *status, *reason, *message;
};
struct offer_condition offer_kvm(const struct handler *h, struct arena *a);
struct offer_condition offer_hypervisors(const struct handler *h, struct arena *a);

/* status.c: pure. */
struct vm_report {
    const struct json *domain;   /* newest report, or NULL */
    const struct json *nics;     /* or NULL */
    const char *sync_error;      /* or NULL */
    bool launcher_lost;          /* without a last word */
    const char *now;             /* RFC 3339, whole seconds */
};
/* The VMI with the status that the report means; the same pointer when nothing changes. */
const struct json *vm_status(const struct json *vmi, const struct vm_report *r, struct arena *a);
bool vm_phase_final(struct str phase);

/* handler.c */
void handler_look_again(struct handler *h); /* everything that waits for a verdict or a setting */

/* peer.c */
/* Is the network namespace that of a pod, and not the host's? */
MUST_CHECK bool peer_network(int netns, struct error *err);

/* handover.c: what a launcher is given with its machine. */
/* Its container's /dev/kvm becomes its own. pidfd: the launcher's, too. */
MUST_CHECK bool handover_kvm(pid_t launcher, int pidfd, struct error *err);
/* A NIC as the message has it; its descriptors go behind the n_fds that are there. */
const struct json *handover_nic(struct arena *a, const struct network_nic *n, int *fds, size_t *n_fds);
const struct json *handover_nic_status(struct arena *a, const struct network_nic *n); /* … and as the VMI's status has it */
/* What the machine is given for its vsock: nothing where it wants none. *fd: /dev/vhost-vsock, opened, where that is needed; its index
 * in the message will be fd_index. */
MUST_CHECK bool handover_vsock(const struct handler *h, const struct json *vmi, size_t fd_index, struct arena *a, int *fd,
                               const struct json **ret, struct error *err);

/* machine.c */
void vm_changed(struct handler *h, const struct json *vmi, bool deleted);
void vm_free(struct vm *v);
struct vm *vm_find(struct handler *h, struct str ns, struct str name);

/* node.c: the Node object, its labels and heartbeat. */
struct node_object *node_object_new(struct handler *h);
void node_object_changed(struct node_object *n); /* it is written anew, now */
void node_object_free(struct node_object *n);
