#include "vmm/probe_caps.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/file.h"

/* Younger than the headers of many build machines. */
#define CAP_MEMORY_ATTRIBUTES 233
#define CAP_GUEST_MEMFD 234
#define CAP_VM_TYPES                                                                               \
    235 /* bits by KVM_X86_*_VM: 0 plain, 1 software-protected, 2 SEV, 3 SEV-ES, 4 SNP, 5 TDX */

/* Names are ours, after the macro's. */
static const struct {
    int number;
    const char *name;
} list[] = {
    {KVM_CAP_IRQCHIP, "irqchip"},
    {KVM_CAP_HLT, "hlt"},
    {KVM_CAP_USER_MEMORY, "userMemory"},
    {KVM_CAP_NR_MEMSLOTS, "nrMemslots"},
    {KVM_CAP_SYNC_MMU, "syncMmu"},
    {KVM_CAP_IRQFD, "irqfd"},
    {KVM_CAP_PIT2, "pit2"},
    {KVM_CAP_IOEVENTFD, "ioeventfd"},
    {KVM_CAP_HYPERV, "hyperv"},
    {KVM_CAP_XSAVE, "xsave"},
    {KVM_CAP_XCRS, "xcrs"},
    {KVM_CAP_TSC_CONTROL, "tscControl"},
    {KVM_CAP_READONLY_MEM, "readonlyMem"},
    {KVM_CAP_X86_SMM, "smm"},
    {KVM_CAP_MULTI_ADDRESS_SPACE, "multiAddressSpace"},
    {KVM_CAP_SPLIT_IRQCHIP, "splitIrqchip"},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, "ioeventfdAnyLength"},
    {KVM_CAP_HYPERV_SYNIC, "hypervSynic"},
    {KVM_CAP_MAX_VCPU_ID, "maxVCPUID"},
    {KVM_CAP_X2APIC_API, "x2apicAPI"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediateExit"},
    {KVM_CAP_HYPERV_SYNIC2, "hypervSynic2"},
    {KVM_CAP_HYPERV_TLBFLUSH, "hypervTlbFlush"},
    {KVM_CAP_NESTED_STATE, "nestedState"},
    {KVM_CAP_HYPERV_SEND_IPI, "hypervSendIPI"},
    {KVM_CAP_HYPERV_ENLIGHTENED_VMCS, "hypervEnlightenedVMCS"},
    {KVM_CAP_HYPERV_CPUID, "hypervCPUID"},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "manualDirtyLogProtect2"},
    {KVM_CAP_HYPERV_DIRECT_TLBFLUSH, "hypervDirectTlbFlush"},
    {KVM_CAP_X86_USER_SPACE_MSR, "userSpaceMSR"},
    {KVM_CAP_DIRTY_LOG_RING, "dirtyLogRing"},
    {KVM_CAP_SGX_ATTRIBUTE, "sgxAttribute"},
    {KVM_CAP_VM_COPY_ENC_CONTEXT_FROM, "vmCopyEncContext"},
    {KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, "vmMoveEncContext"},
    {KVM_CAP_XSAVE2, "xsave2"},
    {KVM_CAP_DIRTY_LOG_RING_ACQ_REL, "dirtyLogRingAcqRel"},
    {CAP_MEMORY_ATTRIBUTES, "memoryAttributes"},
    {CAP_GUEST_MEMFD, "guestMemfd"},
    {CAP_VM_TYPES, "vmTypes"},
};

static void note(struct probe_result *r, const char *name, int value)
{
    struct probe_cap *c = &r->caps[r->n_caps];

    if (value <= 0 || r->n_caps == PROBE_MAX_CAPS)
        return;
    snprintf(c->name, sizeof c->name, "%s", name);
    c->value = value;
    r->n_caps++;
}

/* Y, 1: on. What is not there, or says N, is off. */
static bool on(const char *path)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};

    buf_init(&b, 64);
    return file_read(AT_FDCWD, path, &b, &err) && b.n > 0
           && (b.p[0] == 'Y' || b.p[0] == 'y' || b.p[0] == '1');
}

/* Of the modules: what no extension tells to who has no VM of that kind. */
static void modules(struct probe_result *r)
{
    static const struct {
        const char *path, *name;
    } parameters[] = {
        {"/sys/module/kvm_intel/parameters/nested", "nested"},
        {"/sys/module/kvm_amd/parameters/nested", "nested"},
        {"/sys/module/kvm_intel/parameters/tdx", "tdx"},
        {"/sys/module/kvm_amd/parameters/sev", "sev"},
        {"/sys/module/kvm_amd/parameters/sev_es", "sevES"},
        {"/sys/module/kvm_amd/parameters/sev_snp", "sevSNP"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
        note(r, parameters[i].name, on(parameters[i].path));
}

void probe_caps_read(int kvm, struct probe_result *r)
{
    r->n_caps = 0;
    for (size_t i = 0; i < ARRAY_SIZE(list); i++)
        note(r, list[i].name, ioctl(kvm, KVM_CHECK_EXTENSION, list[i].number));
    modules(r);
}
