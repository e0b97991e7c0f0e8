/* network/network - a pod's network on one machine, and a VM's network inside its pod.
 *
 * Two levels. The pod network (embedded mode only): a bridge on the host, host-local addresses by CNI plugins, one nft table
 * of ours for masquerading and forwarding, both named after the instance so that several do not collide. The VM network (both
 * modes): inside the pod's network namespace the binding of each interface – masquerade or bridge – becomes links, a tap and one
 * nft transaction, exactly as upstream lays them out (reference/storage-and-network.md §7), and the result is descriptors. */
#pragma once
#include "api/schema.h"
#include "base/buf.h"
#include "loop/loop.h"

struct network_config {
    struct loop *loop;
    const char *instance;   /* short stable name of this data directory: [a-z0-9]{1,8} */
    const char *pod_cidr;   /* "10.88.0.0/16" */
    const char *cni_bin_dir; /* "/usr/lib/cni" */
    int dirfd;              /* data directory: "network/" below it is ours (host-local's leases) */
};
struct network;
/* Refuses (ERROR_CONFLICT) a pod range that overlaps a host address or route, naming both and the flag to change. */
struct network *network_new(const struct network_config *c, struct error *err);
void network_free(struct network *n);
/* Bridge, nft table, forwarding sysctls; idempotent. network_teardown removes all host objects of this instance. */
MUST_CHECK bool network_setup(struct network *n, struct error *err);
MUST_CHECK bool network_teardown(struct network *n, struct error *err);

struct network_pod {            /* a pod's attachment */
    char ip[46], gateway[46], mac[18];
    unsigned prefix, mtu;
};
/* A network namespace with lo up and eth0 on the bridge. netns_path: a file that the caller made, onto which the namespace is
 * bind-mounted. done is always called, err is never NULL. Repeating it for a pod that is attached gives the same result. */
void network_pod_add(struct network *n, const char *pod_uid, const char *ns, const char *name, const char *netns_path,
                     void (*done)(void *user, const struct network_pod *p, const struct error *err), void *user);
void network_pod_del(struct network *n, const char *pod_uid, const char *netns_path,
                     void (*done)(void *user, const struct error *err), void *user); /* idempotent */

/* The VM's side, in the pod's namespace (netns_fd). Runs in a short-lived child that enters the namespace. */
struct network_nic {
    char name[64], mac[18];
    char ips[4][46];            /* pod's addresses as status.interfaces reports them */
    unsigned n_ips, mtu;
    int tap_fds[8];
    unsigned n_taps;
    int dhcp_fd;                /* UDP socket bound to port 67 on the bridge, or −1 */
    const struct json *dhcp;    /* "dhcp" of a nic in vmm/proto.h, without fd */
};
struct network_vm {
    struct network_nic nics[8];
    unsigned n;
};
void network_vm_done(struct network_vm *v); /* closes what is left */
/* vmi: the object; resolv_conf: the pod's. Idempotent: finds what a dead predecessor set up and opens new taps on it. */
void network_vm_setup(struct loop *l, int netns_fd, const struct json *vmi, struct str resolv_conf, uid_t owner,
                      struct arena *a, void (*done)(void *user, struct network_vm *v, const struct error *err), void *user);

/* What stands in the way on this host: Docker's FORWARD DROP, firewalld, ufw, ip_forward, overlapping ranges … one sentence with
 * the fix for each; for `vireo doctor`. */
void network_doctor(const struct network_config *c, void (*finding)(void *user, bool fatal, const char *text), void *user);
