/* pod/pod - the embedded pod runtime: what kubelet and containerd are in a cluster, for VM pods on one machine.
 *
 * Watches pods bound to this node; for each: directories, volumes (emptyDir, image, PVC of StorageClass vireo-local, secret,
 * configMap), network, container (crun: own user, mount, pid, ipc, uts and network namespace, cgroup, uid 107), status, logs, and its
 * end. Volumes lie at pods/<uid>/volumes/kubernetes.io~<type>/<name> as the kubelet lays them out, so the node agent finds
 * the launcher's socket the same way in both modes. Durable record: pods/<uid>/sandbox.json, written before anything starts; no
 * sandbox for a VM's UID or a single-writer volume starts until the old process is seen dead. Runs on; survives restarts of
 * everything above. */
#pragma once
#include "api/schema.h"
#include "client/client.h"
#include "http/exchange.h"
#include "image/image.h"
#include "network/network.h"

struct pod_runtime;
struct pod_runtime_config {
    struct client *client;
    int dirfd;                 /* data directory */
    const char *dir;           /* its absolute path (for crun's config and mounts we make ourselves) */
    const char *instance;      /* as in network_config */
    const char *node_name;
    const char *launcher;      /* absolute path of vireo-launcher on the host */
    struct network *network;
    struct image_store *images;
    uid_t uid_base;            /* first host uid for VMs' user namespaces */
};
struct pod_runtime *pod_runtime_new(const struct pod_runtime_config *c, struct error *err);
void pod_runtime_start(struct pod_runtime *r); /* adopts what runs, then follows the API */
void pod_runtime_free(struct pod_runtime *r);  /* leaves everything running */
/* The guest in that pod runs: its start, which goes before the work of other guests, is over. Again: no-op. */
void pod_runtime_guest_runs(struct pod_runtime *r, struct str pod_uid);
/* Ends all VMs' pods of this instance (vireo stop --all, demo-down): SIGTERM, grace, SIGKILL, clean up, then done. */
void pod_runtime_stop_all(struct pod_runtime *r, int64_t grace_ns, void (*done)(void *user), void *user);
/* GET /v1/pods/<ns>/<name>/log?container=…&follow=…&tailLines=…&limitBytes=…&sinceSeconds=…&timestamps=…&previous=… */
bool pod_runtime_http(struct pod_runtime *r, struct exchange *x); /* false: not its path */
