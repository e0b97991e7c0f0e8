/* sim/sim - simulated nodes: what kubelet, node agent and launcher of many nodes would say to an API server.
 *
 * The node agents are the real ones (handler/many.c), with launchers that are played in this process (launcher.h) over machines of the
 * fake VMM. The kubelets are played here: Node objects, Leases, pods' status and deletion, in as many writes as a kubelet makes.
 * Nothing in controllers, webhooks or schedulers knows of it. What is made is marked: every Node has the label and the annotation
 * SIM_MARK, and a Node of the same name without that label is nobody's to touch.
 *
 * Tests steer it through the API: the annotation SIM_WISH of a Node, "silent", takes kubelet and node agent of that node away (its
 * machines go on) until the annotation goes; of a pod, "crash" ends its launcher with an error and "evict" does what a kubelet does
 * that runs out of memory.
 *
 *   API server ── one watch each: Nodes (ours), pods, VMIs, KubeVirt ── struct sim
 *                                          ├─ struct sim_node: Node, Lease, heartbeat of the kubelet        (node.c)
 *                                          ├─ struct sim_pod: a pod's way through its phases                (pod.c, pod_status.c)
 *                                          │     └─ struct sim_launcher                                     (launcher.c)
 *                                          └─ struct handlers: node agents                                  (handler/many.c) */
#pragma once
#include "client/client.h"

#define SIM_MARK "vireo.io/simulated" /* label of Nodes: "true" */
#define SIM_WISH "vireo.io/sim"       /* annotation of Nodes: "silent"; of pods: "crash", "evict" */
#define SIM_MAX_NODES 5000

struct sim;
struct sim_config {
    struct client *client;       /* as whom kubelets write */
    const char *agents_as;       /* the user in whose name node agents write VMIs and Events; NULL: the client's own */
    unsigned nodes;
    const char *prefix;          /* of nodes' names: prefix "sim-" makes sim-0 … */
    const char *cpu, *memory, *pods; /* of each node: quantities; NULL: 32, 128Gi, 250 */
    unsigned lease_s;            /* of nodes' Leases, renewed after a quarter of it; 0: 40 */
    int64_t pod_start_ns;        /* from the container's creation to its running */
    int64_t guest_start_ns;
    bool play_all;               /* pods that are no launchers run, too */
    const char *const *silent;   /* names of nodes that say nothing once they are made; NULL-terminated, or NULL */
    void (*failed)(void *user, const struct error *err); /* it cannot go on: a Node is somebody else's */
    void (*ready)(void *user);   /* all nodes are made; may be NULL */
    void *user;
};
/* Refuses what cannot be: numbers out of bounds, quantities that are none. */
MUST_CHECK bool sim_new(const struct sim_config *c, struct sim **ret, struct error *err);
void sim_start(struct sim *s);
/* The nodes are left not ready, or with `remove` deleted with their Leases; then done, once, within some seconds. */
void sim_stop(struct sim *s, bool remove, void (*done)(void *user), void *user);
void sim_free(struct sim *s);
struct sim_count {
    size_t nodes, pods, running;
};
struct sim_count sim_count(const struct sim *s);
