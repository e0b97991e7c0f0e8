/* vmm/qemu/proof_cpu - processors, features, timers of processors. */
#pragma once
#include "vmm/qemu/proof.h"

#define CPU "domain/cpu/"
#define FEATURES "domain/features/"
#define HV "domain/features/hyperv/"
#define TIMER "domain/clock/timer/"

static const struct proof_ask cpu_bare[] = {
    {NULL, "query-cpus-fast #", "1"},
    {NULL, "query-hotpluggable-cpus #", "1", PROOF_QEMU},
    {NULL, "qom /machine smp sockets", "1"},
    {NULL, "qom /machine smp cores", "1"},
    {NULL, "qom /machine smp threads", "1"},
    {NULL, "type cpu0", "max-x86_64-cpu"},
    {NULL, "qom cpu0 avx2", "true"},
    {NULL, "qom cpu0 mpx", "true"},
    {0},
};

static const struct proof_ask cpu_topology[] = {
    {CPU "sockets", "query-cpus-fast #", "12"},
    {CPU "maxSockets", "query-hotpluggable-cpus #", "24", PROOF_QEMU},
    {CPU "maxSockets", "qom /machine smp sockets", "4", PROOF_QEMU},
    {CPU "sockets", "qom /machine smp sockets", "2", PROOF_MICROVM},
    {CPU "cores", "qom /machine smp cores", "3"},
    {CPU "threads", "qom /machine smp threads", "2"},
    {CPU "sockets", "query-cpus-fast 11/props/socket-id", "1"},
    {CPU "cores", "query-cpus-fast 11/props/core-id", "2"},
    {CPU "threads", "query-cpus-fast 11/props/thread-id", "1"},
    {0},
};

/* As many processors, cut another way. */
static const struct proof_ask cpu_other_topology[] = {
    {NULL, "query-hotpluggable-cpus #", "12", PROOF_QEMU},
    {CPU "sockets", "query-cpus-fast 11/props/socket-id", "11"},
    {CPU "cores", "query-cpus-fast 11/props/core-id", "0"},
    {CPU "threads", "query-cpus-fast 11/props/thread-id", "0"},
    {0},
};

static const struct proof_ask cpu_model[] = {
    {CPU "model", "type cpu0", "Haswell-x86_64-cpu"},
    {CPU "features/*/name " CPU "features/*/policy", "qom cpu0 avx2", "false"},
    {CPU "features/*/name", "qom cpu0 bmi1", "false"},
    {CPU "model", "qom cpu0 mpx", "false"},
    {NULL, "qom cpu0 sse4a", "false"},
    {0},
};

static const struct proof_ask cpu_features[] = {
    {CPU "model", "type cpu0", "Opteron_G3-x86_64-cpu"},
    {CPU "features/*/name " CPU "features/*/policy", "qom cpu0 bmi1", "true"},
    {CPU "features/*/policy", "qom cpu0 avx2", "false"},
    {CPU "features/*/policy", "qom cpu0 sse4a", "true"},
    {CPU "features/*/policy", "qom cpu0 smap", "false"}, /* optional: left out where the processor is emulated */
    {0},
};

static const struct proof_ask cpu_smap[] = {
    {CPU "features/*/policy", "qom cpu0 smap", "true"}, /* require */
    {NULL, "start", "ok"},                              /* apic: true */
    {0},
};

static const struct proof_ask cpu_lacking[] = {
    {CPU "features/*/policy", "start", "~'avx512f' is required"}, /* no emulated processor has it */
    {0},
};

static const struct proof_ask cpu_needs_kvm[] = {
    {NULL, "start", "~clock.timer.hyperv needs KVM"},
    {0},
};

static const struct proof_ask cpu_no_apic[] = {
    {NULL, "start", "~apic.enabled"}, /* refused, not left out */
    {0},
};

static const struct proof_ask cpu_kvm[] = {
    {CPU "model", "type cpu0", "Nehalem-x86_64-cpu"},
    {NULL, "qom cpu0 kvm", "true"},
    {NULL, "qom cpu0 kvmclock", "true"},
    {NULL, "qom cpu0 hv-time", "false"},
    {NULL, "qom cpu0 hv-relaxed", "false"},
    {NULL, "qom cpu0 hv-spinlocks", "4294967295"},
    {NULL, "qom cpu0 hv-vapic", "false"},
    {NULL, "qom cpu0 hv-runtime", "false"},
    {NULL, "qom cpu0 hv-reset", "false"},
    {NULL, "qom cpu0 hv-frequencies", "false"},
    {NULL, "qom cpu0 hv-reenlightenment", "false"},
    {NULL, "qom cpu0 hv-evmcs", "false"},
    {NULL, "qom cpu0 hv-vpindex", "false"},
    {NULL, "qom cpu0 hv-synic", "false"},
    {NULL, "qom cpu0 hv-ipi", "false"},
    {NULL, "qom cpu0 hv-stimer", "false"},
    {NULL, "qom cpu0 hv-stimer-direct", "false"},
    {NULL, "qom cpu0 hv-tlbflush", "false"},
    {NULL, "qom cpu0 hv-tlbflush-direct", "false"},
    {NULL, "qom cpu0 hv-tlbflush-ext", "false"},
    {NULL, "qom cpu0 hv-vendor-id", "Microsoft Hv"},
    {NULL, "qom cpu0 hv-passthrough", "false"},
    {NULL, "qom cpu0 hv-crash", "false"},
    {NULL, "count info qtree|lost_tick_policy = \"delay\"", "1", PROOF_QEMU},
    {0},
};

static const struct proof_ask cpu_kvm_off[] = {
    {FEATURES "kvm/hidden", "qom cpu0 kvm", "false"},
    {TIMER "kvm/present", "qom cpu0 kvmclock", "false"},
    {FEATURES "pvspinlock/enabled", "qom cpu0 kvm-pv-unhalt", "false"},
    {TIMER "pit/tickPolicy", "count info qtree|lost_tick_policy = \"delay\"", "0", PROOF_QEMU},
    {0},
};

static const struct proof_ask cpu_unhalt[] = {
    {FEATURES "pvspinlock/enabled", "qom cpu0 kvm-pv-unhalt", "true"},
    {0},
};

static const struct proof_ask cpu_hyperv_time[] = {
    {TIMER "hyperv/present", "qom cpu0 hv-time", "true"},
    {0},
};
static const struct proof_ask cpu_hyperv[] = {
    {HV "relaxed/enabled", "qom cpu0 hv-relaxed", "true"},
    {HV "spinlocks/enabled " HV "spinlocks/spinlocks", "qom cpu0 hv-spinlocks", "8191"},
    {HV "vendorid/enabled " HV "vendorid/vendorid", "qom cpu0 hv-vendor-id", "Vireo"},
    {0},
};
static const struct proof_ask cpu_hyperv_vapic[] = {
    {HV "vapic/enabled", "qom cpu0 hv-vapic", "true"},
    {0},
};
/* One for each group that a host's KVM has or has not. */
static const struct proof_ask cpu_hyperv_more[] = {
    {HV "runtime/enabled", "qom cpu0 hv-runtime", "true"},
    {HV "reset/enabled", "qom cpu0 hv-reset", "true"},
    {0},
};
static const struct proof_ask cpu_hyperv_frequencies[] = {
    {HV "frequencies/enabled", "qom cpu0 hv-frequencies", "true"},
    {0},
};
static const struct proof_ask cpu_hyperv_reenlightenment[] = {
    {HV "reenlightenment/enabled", "qom cpu0 hv-reenlightenment", "true"},
    {0},
};
static const struct proof_ask cpu_hyperv_synic[] = {
    {HV "vpindex/enabled", "qom cpu0 hv-vpindex", "true"},
    {HV "synic/enabled", "qom cpu0 hv-synic", "true"},
    {HV "synictimer/enabled", "qom cpu0 hv-stimer", "true"},
    {HV "synictimer/direct/enabled", "qom cpu0 hv-stimer-direct", "true"},
    {HV "ipi/enabled", "qom cpu0 hv-ipi", "true"},
    {HV "tlbflush/enabled", "qom cpu0 hv-tlbflush", "true"},
    {0},
};
static const struct proof_ask cpu_hyperv_tlbflush[] = {
    {HV "tlbflush/direct/enabled", "qom cpu0 hv-tlbflush-direct", "true"},
    {HV "tlbflush/extended/enabled", "qom cpu0 hv-tlbflush-ext", "true"},
    {0},
};
static const struct proof_ask cpu_hyperv_evmcs[] = {
    {HV "evmcs/enabled", "qom cpu0 hv-evmcs", "true"},
    {0},
};
static const struct proof_ask cpu_hyperv_passthrough[] = {
    {FEATURES "hypervPassthrough/enabled", "qom cpu0 hv-passthrough", "true"},
    {0},
};

/* A plain model: what "host" means on a host whose KVM lacks half of it is another matter. */
#define MODEL "'cpu':{'model':'Nehalem'},"
#define HYPERV(x) "{'domain':{" MODEL "'features':{'hyperv':{" x "}}}}"

static const struct proof_machine proof_cpu[] = {
    {"cpu-bare", PROOF_BOTH, 0, "{}", cpu_bare},
    {"cpu-topology", PROOF_BOTH, 0, "{'domain':{'cpu':{'sockets':2,'cores':3,'threads':2,'maxSockets':4}}}", cpu_topology},
    {"cpu-other-topology", PROOF_BOTH, 0, "{'domain':{'cpu':{'sockets':12}}}", cpu_other_topology},
    {"cpu-model", PROOF_BOTH, 0,
     "{'domain':{'cpu':{'model':'Haswell','features':[{'name':'avx2','policy':'disable'},{'name':'bmi1','policy':'disable'}]}}"
     "}",
     cpu_model},
    {"cpu-features", PROOF_BOTH, 0,
     "{'domain':{'cpu':{'model':'Opteron_G3','features':[{'name':'bmi1'},{'name':'smap','policy':'optional'}]}}}",
     cpu_features},
    {"cpu-smap", PROOF_BOTH, 0,
     "{'domain':{'features':{'apic':{}},'cpu':{'model':'Opteron_G3','features':[{'name':'smap','policy':'require'}]}}}",
     cpu_smap},
    {"cpu-lacking", PROOF_BOTH, 0, "{'domain':{'cpu':{'features':[{'name':'avx512f'}]}}}", cpu_lacking},
    {"cpu-needs-kvm", PROOF_BOTH, 0, "{'domain':{'clock':{'utc':{},'timer':{'hyperv':{}}}}}", cpu_needs_kvm},
    {"cpu-no-apic", PROOF_QEMU, 0, "{'domain':{'features':{'apic':{'enabled':false}}}}", cpu_no_apic},
    {"cpu-kvm", PROOF_BOTH, NEED_KVM, "{'domain':{" MODEL "'features':{}}}", cpu_kvm},
    {"cpu-kvm-off", PROOF_BOTH, NEED_KVM,
     "{'domain':{" MODEL
     "'features':{'kvm':{'hidden':true},'pvspinlock':{'enabled':false}},'clock':{'utc':{},'timer':{'kvm':{'present':false},"
     "'pit':{'tickPolicy':'discard'}}}}}",
     cpu_kvm_off},
    {"cpu-unhalt", PROOF_BOTH, NEED_KVM | MAY_LACK, "{'domain':{" MODEL "'features':{'pvspinlock':{}}}}", cpu_unhalt},
    {"cpu-hyperv", PROOF_BOTH, NEED_KVM | MAY_LACK, HYPERV("'relaxed':{},'spinlocks':{'spinlocks':8191},'vendorid':{'vendorid':'Vireo'}"),
     cpu_hyperv},
    {"cpu-hyperv-time", PROOF_BOTH, NEED_KVM | MAY_LACK, "{'domain':{" MODEL "'clock':{'utc':{},'timer':{'hyperv':{}}}}}", cpu_hyperv_time},
    {"cpu-hyperv-vapic", PROOF_BOTH, NEED_KVM | MAY_LACK, HYPERV("'vapic':{}"), cpu_hyperv_vapic},
    {"cpu-hyperv-more", PROOF_BOTH, NEED_KVM | MAY_LACK, HYPERV("'runtime':{},'reset':{}"), cpu_hyperv_more},
    {"cpu-hyperv-frequencies", PROOF_BOTH, NEED_KVM | MAY_LACK, HYPERV("'frequencies':{}"), cpu_hyperv_frequencies},
    {"cpu-hyperv-reenlightenment", PROOF_BOTH, NEED_KVM | MAY_LACK, HYPERV("'reenlightenment':{}"), cpu_hyperv_reenlightenment},
    {"cpu-hyperv-synic", PROOF_BOTH, NEED_KVM | MAY_LACK,
     "{'domain':{" MODEL "'clock':{'utc':{},'timer':{'hyperv':{}}},'features':{'hyperv':{'vpindex':{},'synic':{},'synictimer':{"
     "'direct':{}},'ipi':{},'tlbflush':{}}}}}",
     cpu_hyperv_synic},
    {"cpu-hyperv-tlbflush", PROOF_BOTH, NEED_KVM | MAY_LACK, HYPERV("'vpindex':{},'tlbflush':{'direct':{},'extended':{}}"),
     cpu_hyperv_tlbflush},
    {"cpu-hyperv-evmcs", PROOF_BOTH, NEED_KVM | MAY_LACK, HYPERV("'vapic':{},'evmcs':{}"), cpu_hyperv_evmcs},
    {"cpu-hyperv-passthrough", PROOF_BOTH, NEED_KVM | MAY_LACK, "{'domain':{" MODEL "'features':{'hypervPassthrough':{}}}}",
     cpu_hyperv_passthrough},
    {0},
};
