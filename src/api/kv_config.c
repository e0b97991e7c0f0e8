#include "api/kv_choice.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#if defined(__aarch64__)
#define HOST_ARCHITECTURE "arm64"
#elif defined(__s390x__)
#define HOST_ARCHITECTURE "s390x"
#else
#define HOST_ARCHITECTURE "amd64"
#endif

/* Gates that release 1.8 has made permanent (reference/api-and-lifecycle.md §7). */
static const char *const always_on[] = {
    "LiveMigration", "SRIOVLiveMigration", "NonRoot", "PSA", "CPUNodeDiscovery", "NUMA", "GPU",
    "CommonInstancetypesDeploymentGate", "HotplugNICs", "BochsDisplayForEFIGuests", "VMLiveUpdateFeatures",
    "NetworkBindingPlugins", "DynamicPodInterfaceNaming", "VolumesUpdateStrategy", "VolumeMigration",
    "DisableCustomSELinuxPolicy", "AutoResourceLimitsGate", "ClusterProfiler", "VMPersistentState",
    "InstancetypeReferencePolicy", "EnableVirtioFsConfigVolumes",
};

static struct str str_or(const struct json *root, const char *path, const char *otherwise)
{
    struct str s = json_str_at(root, path);

    return s.n ? s : str_of(otherwise);
}

struct str kv_machine_type(const struct kv_config *c, struct str architecture)
{
    static const struct {
        const char *architecture, *path, *type;
    } table[] = {{"arm64", "architectureConfiguration/arm64/machineType", "virt"},
                 {"s390x", "architectureConfiguration/s390x/machineType", "s390-ccw-virtio"}};
    struct str s;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (str_is(architecture, table[i].architecture))
            return str_or(c->spec, table[i].path, table[i].type);
    s = json_str_at(c->spec, "architectureConfiguration/amd64/machineType");
    return s.n ? s : str_or(c->spec, "machineType", "q35");
}

struct str kv_quantity(const struct json *v)
{
    return json_is(v, JSON_STRING) || json_is(v, JSON_NUMBER) ? str_n(v->text, v->n) : STR_NONE;
}

struct kv_config *kv_config_new(const struct json *kubevirt)
{
    struct kv_config *c = NEW(struct kv_config);
    const struct json *spec = json_at(kubevirt, "spec/configuration"), *emulate;
    struct str ratio;

    c->spec = spec ? json_copy(&c->arena, spec) : NULL;
    emulate = json_at(c->spec, "developerConfiguration/useEmulation");
    c->emulation = json_is(emulate, JSON_TRUE)    ? KV_EMULATION_YES
                   : json_is(emulate, JSON_FALSE) ? KV_EMULATION_NO
                                                  : KV_EMULATION_AUTO;
    c->machine_type = kv_machine_type(c, STR("amd64"));
    c->cpu_model = str_or(c->spec, "cpuModel", "host-model");
    c->default_interface = str_or(c->spec, "network/defaultNetworkInterface", "bridge");
    c->permit_bridge_on_pod_network = json_bool_at(c->spec, "network/permitBridgeInterfaceOnPodNetwork", true);
    c->eviction_strategy = str_or(c->spec, "evictionStrategy", "None");
    c->cpu_allocation_ratio = json_i64_at(c->spec, "developerConfiguration/cpuAllocationRatio", 10);
    c->memory_overcommit = json_i64_at(c->spec, "developerConfiguration/memoryOvercommit", 100);
    c->max_hotplug_ratio = json_i64_at(c->spec, "liveUpdateConfiguration/maxHotplugRatio", 4);
    c->architecture = STR(HOST_ARCHITECTURE);
    c->cpu_request = kv_quantity(json_at(c->spec, "cpuRequest"));
    c->max_guest = kv_quantity(json_at(c->spec, "liveUpdateConfiguration/maxGuest"));
    c->max_cpu_sockets = json_i64_at(c->spec, "liveUpdateConfiguration/maxCpuSockets", 0);
    kv_hypervisors_read(c);
    c->live_update = !str_is(json_str_at(c->spec, "vmRolloutStrategy"), "Stage");
    if (c->max_hotplug_ratio < 1 || c->max_hotplug_ratio > 1024)
        c->max_hotplug_ratio = 4;
    if (c->cpu_allocation_ratio < 1)
        c->cpu_allocation_ratio = 10;
    if (c->memory_overcommit < 1)
        c->memory_overcommit = 100;
    c->overhead_ratio = 1;
    ratio = json_str_at(c->spec, "additionalGuestMemoryOverheadRatio");
    if (ratio.n) {
        AUTO_FREE char *text = str_dup(ratio);
        double v = strtod(text, NULL);

        if (v > 0 && v < 100)
            c->overhead_ratio = v;
    }
    return c;
}

void kv_config_free(struct kv_config *c)
{
    if (!c)
        return;
    arena_done(&c->arena);
    free(c);
}

static bool listed(const struct json *array, struct str name)
{
    json_each_item(gate, array)
        if (str_eq(json_str(gate), name))
            return true;
    return false;
}

bool kv_gate(const struct kv_config *c, const char *feature_gate)
{
    for (size_t i = 0; i < ARRAY_SIZE(always_on); i++)
        if (strcmp(always_on[i], feature_gate) == 0)
            return true;
    return c && listed(json_at(c->spec, "developerConfiguration/featureGates"), str_of(feature_gate))
           && !listed(json_at(c->spec, "developerConfiguration/disabledFeatureGates"), str_of(feature_gate));
}

bool kv_gate_off(const struct kv_config *c, const char *feature_gate)
{
    return c && listed(json_at(c->spec, "developerConfiguration/disabledFeatureGates"), str_of(feature_gate));
}

enum kv_emulation kv_emulation(const struct kv_config *c)
{
    return c ? c->emulation : KV_EMULATION_AUTO;
}
