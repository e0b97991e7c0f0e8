/* api/kv_config - the KubeVirt object's configuration, decoded: private to the rules. */
#pragma once
#include "api/kv.h"

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
};
