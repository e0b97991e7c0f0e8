/* api/kv_config - the KubeVirt object's configuration, decoded: private to the rules. */
#pragma once
#include "api/kv.h"

/* A name that the KubeVirt object may list, and what it stands for. */
struct kv_hypervisor {
    struct str name;         /* "hyperv-direct" */
    struct str vmm;          /* "qemu" */
    const char *accelerator; /* "kvm", "mshv"; NULL: the one that the node has */
};
#define KV_MAX_HYPERVISORS 16

struct kv_config {
    struct arena arena;
    const struct json *spec;          /* spec.configuration, or NULL */
    enum kv_emulation emulation;
    struct str machine_type;          /* "q35" */
    struct str cpu_model;             /* "host-model" */
    struct str default_interface;     /* "bridge", "masquerade" */
    bool permit_bridge_on_pod_network;
    struct str eviction_strategy;     /* "None" */
    int64_t cpu_allocation_ratio;     /* 10 */
    int64_t memory_overcommit;        /* 100, percent */
    int64_t max_hotplug_ratio;        /* 4 */
    double overhead_ratio;            /* 1.0 */
    struct str architecture;          /* that of this build: "amd64" */
    struct str cpu_request;           /* absent: none of the administrator's own */
    struct str max_guest;             /* liveUpdateConfiguration.maxGuest, or absent */
    int64_t max_cpu_sockets;          /* 0: by the ratio */
    bool live_update;                 /* vmRolloutStrategy LiveUpdate */
    struct kv_hypervisor hypervisors[KV_MAX_HYPERVISORS]; /* what machines may use, the first for who names none */
    size_t n_hypervisors;                                 /* 0: nothing is said; QEMU, and by annotation any */
};

/* The machine type that VMs of an architecture get. */
struct str kv_machine_type(const struct kv_config *c, struct str architecture);
/* The pull policy of an image that names none: Always for what may change. kv_pod.c */
struct str kv_pull_policy(struct str image);
/* A quantity as it stands in JSON, text or number; absent for everything else. */
struct str kv_quantity(const struct json *v);
/* The part of VMI defaulting that validation of a VM's template counts with, too: what changes whether rules hold. */
const struct json *kv_spec_default(const struct json *spec, struct str vmm, const struct kv_config *c, struct arena *a);
