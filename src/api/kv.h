/* api/kv - the rules of KubeVirt's kinds: what is filled in, what is refused, what a VM's pod looks like.
 *
 * Pure: no I/O, no clock. The embedded API server calls these as admission plugins, the cluster's webhooks will
 * call the same functions. References: reference/api-and-lifecycle.md §3.4–§4 and api-and-lifecycle-validation.md. */
#pragma once
#include "api/schema.h"

/* The cluster's configuration, from the KubeVirt object (spec.configuration), decoded once per change. */
struct kv_config;
struct kv_config *kv_config_new(const struct json *kubevirt); /* NULL or {}: upstream's defaults */
void kv_config_free(struct kv_config *c);
bool kv_gate(const struct kv_config *c, const char *feature_gate); /* GA gates are always on */
bool kv_gate_off(const struct kv_config *c, const char *feature_gate); /* the object names it as switched off */
/* useEmulation: unset is its own answer on a single machine (automatic). */
enum kv_emulation { KV_EMULATION_AUTO, KV_EMULATION_NO, KV_EMULATION_YES };
enum kv_emulation kv_emulation(const struct kv_config *c);

/* Create-time mutation; returns the new object. `uuid` supplies random UUIDs (injected: tests give fixed ones). */
struct kv_random {
    void (*uuid)(void *data, char ret[37]);
    void *data;
};
const struct json *kv_vm_default(const struct json *vm, const struct kv_config *c, const struct kv_random *r, struct arena *a);
const struct json *kv_vmi_default(const struct json *vmi, const struct kv_config *c, const struct kv_random *r, struct arena *a);
/* What breaks the rules, worded as upstream. old is NULL on create. by_platform: the writer is one of our own components. */
void kv_vm_validate(const struct json *vm, const struct json *old, const struct kv_config *c, struct arena *a,
                    struct schema_causes *ret);
void kv_vmi_validate(const struct json *vmi, const struct json *old, const struct kv_config *c, bool by_platform,
                     struct arena *a, struct schema_causes *ret);
/* Fields that are valid in KubeVirt but that this release, or this VMM (absent: qemu), cannot honour: refused by path with the
 * reason, never dropped. */
void kv_unsupported(const struct json *vmi_spec, struct str vmm, const char *path, const struct kv_config *c, struct arena *a,
                    struct schema_causes *ret);

/* A VMI's spec without what says where it may run: for kv_unsupported() where that is a cluster's scheduler's business. */
const struct json *kv_without_placing(const struct json *vmi_spec, struct arena *a);

/* The VMI that a VM's template makes (labels, annotations, owner, finalizers, firmware UUID as upstream's UUIDv5 rule). */
const struct json *kv_vmi_from_vm(const struct json *vm, struct arena *a);

/* The launcher pod (name "virt-launcher-<vmi>-<suffix>", derived from the owner's UID and `attempt`: a repeat is AlreadyExists). */
struct kv_pod_options {
    const char *launcher_image;  /* "vireo.io/launcher:<version>" on a single machine */
    bool image_volumes;          /* container disks as image volumes (single machine, newer clusters); else a container for each */
    bool kvm;                    /* request devices.kubevirt.io/kvm */
    unsigned attempt;
};
const struct json *kv_launcher_pod(const struct json *vmi, const struct kv_config *c, const struct kv_pod_options *o,
                                   struct arena *a);
/* Whether a pod may be the one that kv_launcher_pod() made (attempt 0) for the instance that owns it. Whoever may create pods in a
 * namespace may write any owner into one; what has another name, or is in the host's namespaces, is none of ours, and no agent is
 * to be led to it. */
bool kv_is_launcher(const struct json *pod);
/* Whether it has a vsock that is the kernel's: its node then needs /dev/vhost-vsock. */
bool kv_kernel_vsock(const struct json *vmi);
/* What the platform adds to a VM's memory, bytes: ours, measured, not upstream's (docs/compatibility.md says the numbers). */
int64_t kv_memory_overhead(const struct json *vmi, const struct kv_config *c, struct arena *a);
/* printableStatus, first match wins (reference §2.2). vmi NULL: there is none. */
const char *kv_printable_status(const struct json *vm, const struct json *vmi, bool create_expected);

/* Which VMM runs a machine. The user's wish: "auto" or the name of a VMM, on the VM, its template or the VMI. */
#define KV_ANNOTATION_HYPERVISOR "vireo.io/hypervisor"
/* What was chosen, by admission: the name of a driver (vmm.h). On VM and VMI. Absent: "qemu". */
#define KV_ANNOTATION_VMM "vireo.io/vmm"
/* A new text here asks for the choice to be made again: on the VM. */
#define KV_ANNOTATION_DECIDE "vireo.io/hypervisor-decide"
/* Implicit devices that this VMM lacks, left out: "graphics (…), guest-agent (…)". On the VMI. */
#define KV_ANNOTATION_LEFT_OUT "vireo.io/left-out"
/* Of Nodes. What they offer at most, by the administrator: names by commas; absent: all that they can run. */
#define KV_ANNOTATION_OFFERS "vireo.io/hypervisors"
/* A text that the node agent has not seen asks for everything to be probed anew. */
#define KV_ANNOTATION_PROBE "vireo.io/probe-requested"
/* What was found out: JSON (vmm/host.h, docs/operations.md). */
#define KV_ANNOTATION_REPORT "vireo.io/hypervisor-report"
#define KV_LABEL_ACCELERATOR(name) "vireo.io/accelerator-" name /* "true" where it works */
/* Labels of nodes: "true" where the VMM is there and can run a guest, and "<major>.<minor>.<patch>". */
#define KV_LABEL_VMM(name) "vireo.io/vmm-" name


/* What nodes offer at the moment: for each VMM the newest version that one of them has, as major*100+minor. */
struct kv_offers {
    struct kv_offer {
        char vmm[32];
        unsigned level;
    } p[16];
    size_t n;
};
void kv_offers_add(struct kv_offers *o, const struct json *node);
/* The level at which a VMM is offered; 0: by no node. */
unsigned kv_offered(const struct kv_offers *o, struct str vmm);

/* The choice (kv_choice.c), before defaults: at creation and, of a VirtualMachine, at an update that asks for it. Otherwise what is
 * recorded stays, whatever the new object says of it. Refusals go to *ret. old is NULL on create. */
const struct json *kv_vm_choose(const struct json *vm, const struct json *old, const struct kv_config *c, const struct kv_offers *o,
                                struct arena *a, struct schema_causes *ret);
const struct json *kv_vmi_choose(const struct json *vmi, const struct json *old, const struct kv_config *c,
                                 const struct kv_offers *o, bool by_platform, struct arena *a, struct schema_causes *ret);
/* After refusals of an update: how to have the choice made again, where another VMM could do what is written now. */
void kv_vm_choice_hint(const struct json *vm, const struct json *old, const struct kv_config *c, const struct kv_offers *o,
                       struct arena *a, struct schema_causes *ret);
/* What is recorded on a VM or VMI; "qemu" where nothing is. */
struct str kv_vmm(const struct json *object);
/* What is wrong with the hypervisors that a KubeVirt object names. */
void kv_kubevirt_validate(const struct json *kubevirt, struct arena *a, struct schema_causes *ret);
/* The VMM of machines that choose none. */
struct str kv_vmm_default(const struct kv_config *c);
bool kv_vmm_allowed(const struct kv_config *c, struct str vmm);
/* Whether the KubeVirt object lets a VMM use an accelerator of hardware ("kvm", "mshv"): kvm and hyperv-direct name one each.
 * Emulation is not its business but useEmulation's. */
bool kv_accelerator_allowed(const struct kv_config *c, struct str vmm, const char *accelerator);

/* Where things are inside a launcher pod: one list for pod runtime, launcher and agent. */
#define KV_LAUNCHER_PATH      "/opt/vireo/vireo-launcher"
#define KV_DIR_PUBLIC         "/var/run/kubevirt"
#define KV_DIR_PRIVATE        "/var/run/kubevirt-private"
#define KV_DIR_SOCKETS        "/var/run/kubevirt/sockets"
#define KV_DIR_EPHEMERAL      "/var/run/kubevirt-ephemeral-disks"
#define KV_DIR_CONTAINER_DISK "/var/run/kubevirt/container-disks" /* <volume name>/ = the image's root, read-only */
#define KV_DIR_KERNEL_BOOT    "/var/run/kubevirt/container-disks/kernel-boot"
/* Where images are no volumes, containers that run in them hand their roots over (launcher/images.h): */
#define KV_IMAGE_SOCKET       "images"     /* in KV_DIR_CONTAINER_DISK: the launcher's socket */
#define KV_IMAGE_KERNEL_BOOT  "kernelBoot" /* what kernelBoot's is called there; no volume can be. The others: as their volume */
#define KV_IMAGE_PROGRAM      "/opt/vireo/container-disk" /* in the launcher's image */
#define KV_IMAGE_PROGRAM_DIR  "/usr/bin"   /* where the program is in those containers */
#define KV_DIR_PVC            "/var/run/kubevirt-private/vmi-disks"  /* <volume name>/disk.img */
#define KV_DIR_SECRET         "/var/run/kubevirt-private/secret"     /* <volume name>/; of cloud-init <volume name>-udata/ and
                                                                        -ndata/; <secret name>-access-cred/ */
#define KV_DIR_CONFIG_MAP     "/var/run/kubevirt-private/config-map"
#define KV_DIR_SYSPREP        "/var/run/kubevirt-private/sysprep"
#define KV_UID                107
