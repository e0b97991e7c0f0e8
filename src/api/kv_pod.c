/* The launcher pod of a VirtualMachineInstance: shaped as upstream's (reference/api-and-lifecycle.md §4), with what is ours – one
 * container and image volumes, where the cluster has them, instead of a container for each of many duties; no readiness gate (its condition would be one more write
 * in every start; a paused VM is told by its own condition), and a memory overhead that was measured. */
#include "api/kv_config.h"
#include "api/kv_images.h"

#include <stdlib.h>

#include "api/meta.h"
#include "api/names.h"
#include "api/quantity.h"
#include "api/vmm_caps.h"
#include "base/cleanup.h"
#include "base/ident.h"

#define MIB (1 << 20)

/* What a VM needs besides its guest's memory and its VMM, whose needs stand in its table (vmm_caps.h): measured, and rounded up
 * (docs/benchmarks.md). */
#define OVERHEAD_LAUNCHER (4LL * MIB) /* vireo-launcher 1.5 MiB, pages of the sandbox */
#define OVERHEAD_VFIO     (1024LL * MIB)
#define OVERHEAD_TPM      (8LL * MIB)

/* Numbers are the tenant's: beyond these no machine has room, and below no sum overflows. */
#define MAX_FACTOR (1LL << 16)
#define MAX_BYTES  (1LL << 52)
#define MAX_MILLIS (1LL << 40)
#define MAX_GRACE  (1LL << 31)
/* The kubelet keeps a pod's logs in a directory <namespace>_<name>_<uid>, whose name the file system bounds. */
#define POD_NAME_MAX (255u - 2 - UUID_LEN) /* less the namespace */

static int64_t clamp(int64_t v, int64_t min, int64_t max)
{
    return v < min ? min : v > max ? max : v;
}

static int64_t vcpus_of(const struct json *vmi)
{
    const struct json *cpu = json_at(vmi, "spec/domain/cpu");

    return clamp(json_i64_at(cpu, "sockets", 1), 1, MAX_FACTOR) * clamp(json_i64_at(cpu, "cores", 1), 1, MAX_FACTOR)
           * clamp(json_i64_at(cpu, "threads", 1), 1, MAX_FACTOR / 1024);
}

static int64_t bytes_of(struct str text, int64_t otherwise)
{
    return clamp(quantity_bytes(text, otherwise), 0, MAX_BYTES);
}

static int64_t guest_bytes(const struct json *vmi)
{
    struct str text = json_str_at(vmi, "spec/domain/memory/guest");

    if (!text.n)
        text = json_str_at(vmi, "spec/domain/resources/requests/memory");
    return bytes_of(text, 0);
}

/* A name that no table has is refused at admission; a machine of an older release with one is counted as QEMU. */
static const struct vmm_caps *vmm_of(const struct json *vmi)
{
    const struct vmm_caps *v = vmm_caps_find(kv_vmm(vmi));

    return v ? v : vmm_caps_find(STR("qemu"));
}

/* Whether it asks for the device: by the cluster's configuration, or because its VMM can do nothing without. */
static bool takes_kvm(const struct json *vmi, const struct kv_config *c, bool wanted)
{
    const struct vmm_caps *v = vmm_of(vmi);

    return v->accelerators == VMM_CAPS_KVM
           || (wanted && (v->accelerators & VMM_CAPS_KVM) && kv_accelerator_allowed(c, str_of(v->name), "kvm"));
}

bool kv_kernel_vsock(const struct json *vmi)
{
    return json_bool_at(vmi, "spec/domain/devices/autoattachVSOCK", false)
           && vmm_of(vmi)->kernel_vsock;
}

static int64_t overhead(const struct json *vmi, const struct kv_config *c, bool kvm)
{
    const struct json *devices = json_at(vmi, "spec/domain/devices");
    const struct vmm_caps *v = vmm_of(vmi);
    int64_t guest = guest_bytes(vmi), bytes = OVERHEAD_LAUNCHER + v->overhead.base;

    if (v->overhead.guest_divisor > 0)
        bytes += guest / v->overhead.guest_divisor;
    bytes += v->overhead.vcpu * vcpus_of(vmi);
    if (json_bool_at(devices, "autoattachGraphicsDevice", true))
        bytes += v->overhead.graphics;
    if (json_len(json_get(devices, "gpus")) || json_len(json_get(devices, "hostDevices")))
        bytes += OVERHEAD_VFIO;
    if (json_get(devices, "tpm"))
        bytes += OVERHEAD_TPM;
    if (!takes_kvm(vmi, c, kvm))
        bytes += v->overhead.tcg;
    bytes += bytes_of(json_str_at(vmi, "spec/domain/memory/reservedOverhead/addedOverhead"), 0);
    bytes = (int64_t)((double)bytes * (c ? c->overhead_ratio : 1.0));
    return (bytes + MIB - 1) / MIB * MIB;
}

int64_t kv_memory_overhead(const struct json *vmi, const struct kv_config *c, struct arena *a)
{
    (void)a;
    return overhead(vmi, c, kv_emulation(c) == KV_EMULATION_NO);
}

/* Lists that grow while the pod is put together. */
struct parts {
    struct arena *a;
    bool as_volumes; /* images are volumes of the pod, else containers */
    const struct json *volumes, *mounts, *pull_secrets;
    const struct json *images; /* kv_image(): those that need a container */
};

static const struct json *named(const struct json *list, const char *key, const char *text)
{
    json_each_item(item, list)
        if (str_is(json_str_at(item, key), text))
            return item;
    return NULL;
}

/* A volume's name is a DNS label that no other volume of the pod has; what is made of a Secret's name or has a suffix may be
 * neither. Then the name is a prefix and a hash; only the mount path is known to others, and stays. */
static const char *label_of(struct arena *a, const struct json *others, const char *wish)
{
    char uuid[UUID_LEN + 1], prefix[55];
    size_t n = 0;

    if (!name_dns1123_label(str_of(wish)) && !named(others, "name", wish))
        return wish;
    for (const char *c = wish; *c && n < sizeof prefix - 1; c++) {
        bool alphanumeric = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9');

        if (alphanumeric || n > 0)
            prefix[n++] = alphanumeric ? *c : '-';
    }
    prefix[n] = '\0';
    ident_uuid5("6ba7b812-9dad-11d1-80b4-00c04fd430c8", str_of(wish), uuid);
    return arena_printf(a, "%s-%.8s", n ? prefix : "v", uuid);
}

/* A volume and its place in the launcher's container; a second one at the same place is the same one. */
static void volume(struct parts *p, const char *wish, const char *path, const char *source_kind, const struct json *source,
                   bool read_only)
{
    const char *name = label_of(p->a, p->volumes, wish);

    if (named(p->mounts, "mountPath", path))
        return;
    p->volumes = json_append(p->a, p->volumes,
                             json_object(p->a, "name", json_new_z(p->a, name), source_kind, source, NULL));
    p->mounts = json_append(p->a, p->mounts,
                            json_object(p->a, "name", json_new_z(p->a, name), "mountPath", json_new_z(p->a, path), "readOnly",
                                        read_only ? json_new_bool(true) : NULL, NULL));
}

static void empty_dir(struct parts *p, const char *name, const char *path)
{
    volume(p, name, path, "emptyDir", json_object(p->a, NULL), false);
}

/* Kubernetes' default: what may change under its name is looked at each time. */
struct str kv_pull_policy(struct str image)
{
    struct str repository, tag;

    if (str_has(image, '@'))
        return STR("IfNotPresent");
    if (!str_rcut(image, ':', &repository, &tag) || str_has(tag, '/') || str_is(repository, "oci")
        || str_is(repository, "oci-archive") || str_is(tag, "latest"))
        return STR("Always");
    return STR("IfNotPresent");
}

/* source: a containerDisk or the container of a kernelBoot; id: what the launcher calls it. */
static void image_of(struct parts *p, const char *name, const char *container, struct str id, const char *path, const struct json *source)
{
    struct str image = json_str_at(source, "image"), policy = json_str_at(source, "imagePullPolicy");
    const char *pull_secret = arena_strdup(p->a, json_str_at(source, "imagePullSecret"));

    if (!policy.n)
        policy = kv_pull_policy(image);
    if (p->as_volumes)
        volume(p, name, path, "image",
               json_object(p->a, "reference", json_new_str(p->a, image), "pullPolicy", json_new_str(p->a, policy), NULL), true);
    else
        p->images = json_append(p->a, p->images, kv_image(p->a, label_of(p->a, p->images, container), id, image, policy));
    if (pull_secret && *pull_secret && !named(p->pull_secrets, "name", pull_secret))
        p->pull_secrets = json_append(p->a, p->pull_secrets, json_object(p->a, "name", json_new_z(p->a, pull_secret), NULL));
}

/* A Secret as a directory: what the launcher makes ISO images and cloud-init data of. */
static void secret(struct parts *p, const char *name, const char *dir, struct str secret_name, const struct json *optional)
{
    if (secret_name.n)
        volume(p, name, arena_printf(p->a, "%s/%s", dir, name), "secret",
               json_object(p->a, "secretName", json_new_str(p->a, secret_name), "optional", optional, NULL), true);
}

static void cloud_init(struct parts *p, struct str name, const struct json *source)
{
    secret(p, arena_printf(p->a, STR_FMT "-udata", STR_ARG(name)), KV_DIR_SECRET, json_str_at(source, "secretRef/name"), NULL);
    secret(p, arena_printf(p->a, STR_FMT "-ndata", STR_ARG(name)), KV_DIR_SECRET,
           json_str_at(source, "networkDataSecretRef/name"), NULL);
}

static void config_map(struct parts *p, const char *name, const char *dir, const struct json *source)
{
    struct str map_name = json_str_at(source, "name");

    if (map_name.n)
        volume(p, name, arena_printf(p->a, "%s/%s", dir, name), "configMap",
               json_object(p->a, "name", json_new_str(p->a, map_name), "optional", json_get(source, "optional"), NULL), true);
}

static void claim(struct parts *p, const char *name, const struct json *claim_name, bool read_only)
{
    volume(p, name, arena_printf(p->a, "%s/%s", KV_DIR_PVC, name), "persistentVolumeClaim",
           json_object(p->a, "claimName", claim_name, "readOnly", read_only ? json_new_bool(true) : NULL, NULL), read_only);
}

static void guest_volume(struct parts *p, const struct json *v)
{
    struct str name = json_str_at(v, "name");
    const char *z = arena_strdup(p->a, name);
    const struct json *s;

    if ((s = json_get(v, "containerDisk")))
        image_of(p, z, arena_printf(p->a, "volume%s", z), name, arena_printf(p->a, "%s/%s", KV_DIR_CONTAINER_DISK, z), s);
    else if ((s = json_get(v, "persistentVolumeClaim")))
        claim(p, z, json_get(s, "claimName"), json_bool_at(s, "readOnly", false));
    else if ((s = json_get(v, "dataVolume")))
        claim(p, z, json_get(s, "name"), false);
    else if ((s = json_at(v, "ephemeral/persistentVolumeClaim")))
        claim(p, z, json_get(s, "claimName"), true);
    else if ((s = json_get(v, "cloudInitNoCloud")) || (s = json_get(v, "cloudInitConfigDrive")))
        cloud_init(p, name, s);
    else if ((s = json_get(v, "configMap")))
        config_map(p, z, KV_DIR_CONFIG_MAP, s);
    else if ((s = json_get(v, "secret")))
        secret(p, z, KV_DIR_SECRET, json_str_at(s, "secretName"), json_get(s, "optional"));
    else if ((s = json_get(v, "sysprep"))) {
        secret(p, z, KV_DIR_SYSPREP, json_str_at(s, "secret/name"), NULL);
        config_map(p, z, KV_DIR_SYSPREP, json_get(s, "configMap"));
    }
}

static void volumes_of(struct parts *p, const struct json *vmi)
{
    const struct json *kernel = json_at(vmi, "spec/domain/firmware/kernelBoot/container");

    p->volumes = p->mounts = p->pull_secrets = p->images = json_array(p->a, NULL);
    empty_dir(p, "private", KV_DIR_PRIVATE);
    empty_dir(p, "public", KV_DIR_PUBLIC);
    empty_dir(p, "sockets", KV_DIR_SOCKETS);
    empty_dir(p, "ephemeral-disks", KV_DIR_EPHEMERAL);
    if (kernel)
        image_of(p, "kernel-boot", "volumekernel-boot-volume", STR(KV_IMAGE_KERNEL_BOOT), KV_DIR_KERNEL_BOOT, kernel);
    json_each_item(v, json_at(vmi, "spec/volumes"))
        guest_volume(p, v);
    json_each_item(cred, json_at(vmi, "spec/accessCredentials")) {
        struct str name = json_str_at(cred, "sshPublicKey/source/secret/secretName");

        if (!name.n)
            name = json_str_at(cred, "userPassword/source/secret/secretName");
        secret(p, arena_printf(p->a, STR_FMT "-access-cred", STR_ARG(name)), KV_DIR_SECRET, name, NULL);
    }
}

static const struct json *mebibytes(struct arena *a, int64_t bytes)
{
    return json_new_f(a, "%lldMi", (long long)((bytes + MIB - 1) / MIB));
}

static const struct json *cpu_quantity(struct arena *a, int64_t millis)
{
    return millis % 1000 ? json_new_f(a, "%lldm", (long long)millis) : json_new_f(a, "%lld", (long long)(millis / 1000));
}

static void device(struct arena *a, const struct json **requests, const struct json **limits,
                   const char *name)
{
    *requests = json_with(a, *requests, name, json_new_z(a, "1"));
    *limits = json_with(a, *limits, name, json_new_z(a, "1"));
}

static const struct json *resources(const struct json *vmi, const struct kv_config *c, const struct kv_pod_options *o,
                                    struct arena *a)
{
    const struct json *written = json_at(vmi, "spec/domain/resources");
    struct str page = json_str_at(vmi, "spec/domain/memory/hugepages/pageSize");
    int64_t extra = overhead(vmi, c, o->kvm), guest = guest_bytes(vmi), request, limit;
    bool dedicated = json_bool_at(vmi, "spec/domain/cpu/dedicatedCpuPlacement", false);
    const struct json *requests = json_object(a, NULL), *limits = requests;
    int64_t millis = vcpus_of(vmi) * 1000;

    if (!dedicated)
        millis = millis / (c ? c->cpu_allocation_ratio : 10);
    millis = clamp(quantity_millis(json_str_at(written, "requests/cpu"), millis), 0, MAX_MILLIS);
    requests = json_with(a, requests, "cpu", cpu_quantity(a, millis));
    if (dedicated)
        limits = json_with(a, limits, "cpu", cpu_quantity(a, millis));
    else if (json_str_at(written, "limits/cpu").n)
        limits = json_with(a, limits, "cpu", json_at(written, "limits/cpu"));

    request = bytes_of(json_str_at(written, "requests/memory"), guest * 100 / (c ? c->memory_overcommit : 100));
    limit = bytes_of(json_str_at(written, "limits/memory"), 0);
    if (page.n) {
        char *key = arena_printf(a, "hugepages-" STR_FMT, STR_ARG(page));

        requests = json_with(a, requests, key, mebibytes(a, guest));
        limits = json_with(a, limits, key, mebibytes(a, guest));
        request = 0;
    }
    requests = json_with(a, requests, "memory",
                         mebibytes(a, request + (json_bool_at(written, "overcommitGuestOverhead", false) ? 0 : extra)));
    if (limit || dedicated)
        limits = json_with(a, limits, "memory", mebibytes(a, (limit ? limit : request) + extra));
    requests = json_with(a, requests, "ephemeral-storage", json_new_z(a, "50M"));
    /* Kubernetes copies an extended resource's limit into the request; nobody does on a single machine. */
    if (takes_kvm(vmi, c, o->kvm))
        device(a, &requests, &limits, "devices.kubevirt.io/kvm");
    if (json_len(json_at(vmi, "spec/domain/devices/interfaces")))
        device(a, &requests, &limits, "devices.kubevirt.io/tun");
    if (kv_kernel_vsock(vmi))
        device(a, &requests, &limits, "devices.kubevirt.io/vhost-vsock");
    return json_object(a, "requests", requests, "limits", json_len(limits) ? limits : NULL, NULL);
}

/* The label value that selects a VM's pod: the name, or for long ones a prefix and a hash (§4). */
static const struct json *id_label(struct str name, struct arena *a)
{
    char uuid[UUID_LEN + 1];

    if (name.n <= 63)
        return json_new_str(a, name);
    ident_uuid5("6ba7b812-9dad-11d1-80b4-00c04fd430c8", name, uuid);
    return json_new_f(a, "%.54s-%.8s", name.p, uuid);
}

/* What its pod's name begins with. Long names leave room for the rest, and end with no dot. */
static const char *launcher_prefix(struct str ns, struct str vmi, struct arena *a)
{
    size_t others = strlen("virt-launcher--12345") + ns.n;

    vmi = str_take(vmi, POD_NAME_MAX - others);
    while (vmi.n && (vmi.p[vmi.n - 1] == '.' || vmi.p[vmi.n - 1] == '-'))
        vmi.n--;
    return arena_printf(a, "virt-launcher-" STR_FMT "-", STR_ARG(vmi));
}

/* By owner and attempt, so that a repeated create is AlreadyExists and never a second VM. */
static const char *launcher_name(struct str ns, struct str vmi, struct str uid, unsigned attempt, struct arena *a)
{
    char uuid[UUID_LEN + 1], suffix[6];

    ident_uuid5("6ba7b812-9dad-11d1-80b4-00c04fd430c8", str_of(arena_printf(a, STR_FMT "#%u", STR_ARG(uid), attempt)), uuid);
    ident_suffix_from(strtoull(arena_printf(a, "%.8s", uuid), NULL, 16), suffix, 5);
    return arena_printf(a, "%s%s", launcher_prefix(ns, vmi, a), suffix);
}

bool kv_is_launcher(const struct json *pod)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *owner = meta_controller(pod), *spec = json_get(pod, "spec");

    return str_is(json_str_at(owner, "kind"), "VirtualMachineInstance")
           && str_is(meta_name(pod), launcher_name(meta_namespace(pod), json_str_at(owner, "name"), json_str_at(owner, "uid"), 0, &a))
           && !json_bool_at(spec, "hostNetwork", false) && !json_bool_at(spec, "hostPID", false)
           && !json_bool_at(spec, "hostIPC", false);
}

static const struct json *metadata(const struct json *vmi, const struct kv_config *c, const struct kv_pod_options *o,
                                   struct arena *a)
{
    struct str name = json_str_at(vmi, "metadata/name"), uid = json_str_at(vmi, "metadata/uid"), ns = meta_namespace(vmi);
    struct str host = json_str_at(vmi, "spec/hostname");
    const struct json *labels = json_object(a, NULL), *annotations = labels;

    json_each_member(m, json_at(vmi, "metadata/labels"))
        labels = json_with_str(a, labels, json_str(&m->key), &m->value);
    labels = json_with(a, labels, "kubevirt.io", json_new_z(a, "virt-launcher"));
    labels = json_with(a, labels, "kubevirt.io/created-by", json_new_str(a, uid));
    labels = json_with(a, labels, "vm.kubevirt.io/name", id_label(host.n ? host : name, a));
    labels = json_with(a, labels, "vmi.kubevirt.io/id", id_label(name, a));
    json_each_member(m, json_at(vmi, "metadata/annotations")) {
        struct str key = json_str(&m->key);

        if (!str_starts(key, STR("kubectl.kubernetes.io")) && !str_ends(key, STR("-observed-api-version")))
            annotations = json_with_str(a, annotations, key, &m->value);
    }
    annotations = json_with(a, annotations, "kubevirt.io/domain", json_new_str(a, name));
    annotations = json_with(a, annotations, "kubectl.kubernetes.io/default-container", json_new_z(a, "compute"));
    annotations = json_with(a, annotations, "kubevirt.io/migrationTransportUnix", json_new_z(a, "true"));
    annotations = json_with(a, annotations, "descheduler.alpha.kubernetes.io/request-evict-only", json_new_z(a, ""));
    annotations = json_with(a, annotations, "kubevirt.io/memory-overhead-bytes",
                            json_new_f(a, "%lld", (long long)overhead(vmi, c, o->kvm)));

    return json_object(
        a, "name", json_new_z(a, launcher_name(ns, name, uid, o->attempt, a)), "generateName",
        json_new_z(a, launcher_prefix(ns, name, a)), "namespace", json_new_str(a, ns), "labels", labels, "annotations", annotations, "ownerReferences",
        json_array(a,
                   json_object(a, "apiVersion", json_new_z(a, "kubevirt.io/v1"), "kind", json_new_z(a, "VirtualMachineInstance"),
                               "name", json_new_str(a, name), "uid", json_new_str(a, uid), "controller", json_new_bool(true),
                               "blockOwnerDeletion", json_new_bool(true), NULL),
                   NULL),
        NULL);
}

static const struct json *compute(const struct json *vmi, const struct kv_config *c, const struct kv_pod_options *o,
                                  const struct parts *p, int64_t grace)
{
    struct arena *a = p->a;
    const struct json *images = json_len(p->images) ? json_new_z(a, "--image-containers") : NULL;

    return json_object(
        a, "name", json_new_z(a, "compute"), "image", json_new_z(a, o->launcher_image), "imagePullPolicy",
        json_new_z(a, "IfNotPresent"), "command",
        json_array(a, json_new_z(a, KV_LAUNCHER_PATH), json_new_z(a, "--name"), json_at(vmi, "metadata/name"),
                   json_new_z(a, "--uid"), json_at(vmi, "metadata/uid"), json_new_z(a, "--namespace"),
                   json_at(vmi, "metadata/namespace"), json_new_z(a, "--grace-period-seconds"),
                   json_new_f(a, "%lld", (long long)grace + 15), images, NULL),
        "resources", resources(vmi, c, o, a), "volumeMounts", p->mounts, "terminationMessagePath",
        json_new_z(a, "/dev/termination-log"), "terminationMessagePolicy", json_new_z(a, "FallbackToLogsOnError"),
        "securityContext",
        json_object(a, "runAsUser", json_new_i64(a, KV_UID), "runAsGroup", json_new_i64(a, KV_UID), "runAsNonRoot",
                    json_new_bool(true), "allowPrivilegeEscalation", json_new_bool(false), "readOnlyRootFilesystem",
                    json_new_bool(true), "capabilities", json_object(a, "drop", json_array(a, json_new_z(a, "ALL"), NULL), NULL), NULL),
        NULL);
}

/* The first label of the host name, made fit for one. */
static const struct json *hostname(const struct json *vmi, struct arena *a)
{
    struct str host = json_str_at(vmi, "spec/hostname"), label;

    if (!host.n)
        host = json_str_at(vmi, "metadata/name");
    str_cut(host, '.', &label, &host);
    return json_new_str(a, str_take(label, 63));
}

/* Where the VMM is; a requirement of ours joins every alternative that the user wrote. */
static const struct json *selector_of(const struct json *vmi, struct arena *a)
{
    const struct json *selector = json_at(vmi, "spec/nodeSelector"), *yes = json_new_z(a, "true");

    selector = json_with(a, selector, "kubevirt.io/schedulable", yes);
    if (json_str_at(vmi, "spec/architecture").n)
        selector = json_with(a, selector, "kubernetes.io/arch", json_at(vmi, "spec/architecture"));
    return json_with(a, selector, arena_printf(a, KV_LABEL_VMM(STR_FMT), STR_ARG(kv_vmm(vmi))), yes);
}

#define TERMS "nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"

/* What the spec asks of the VMM may have come with a later version than the oldest that is taken. */
static const struct json *affinity_of(const struct json *vmi, struct arena *a)
{
    const struct vmm_caps *v = vmm_of(vmi);
    const struct json *affinity = json_at(vmi, "spec/affinity"), *terms = json_at(affinity, TERMS), *out = json_array(a, NULL);
    const struct json *newer;
    unsigned level = vmm_caps_version(v, json_get(vmi, "spec"));

    if (level <= v->minimum)
        return affinity;
    newer = json_object(a, "key", json_new_f(a, KV_LABEL_VMM("%s") "-level", v->name), "operator", json_new_z(a, "Gt"), "values",
                        json_array(a, json_new_f(a, "%u", level - 1), NULL), NULL);
    if (!json_len(terms))
        out = json_array(a, json_object(a, "matchExpressions", json_array(a, newer, NULL), NULL), NULL);
    json_each_item(term, terms) {
        const struct json *list = json_get(term, "matchExpressions"), *both = term;

        if (json_len(term) > 0) /* an empty one matches nothing, and goes on doing so */
            both = json_with(a, term, "matchExpressions", json_append(a, list ? list : json_array(a, NULL), newer));
        out = json_append(a, out, both);
    }
    return json_with_at(a, affinity ? affinity : json_object(a, NULL), TERMS, out);
}

/* The containers of images, behind the launcher's; *init: what runs before them, or NULL.*/
static const struct json *containers_of(const struct json *vmi, const struct kv_config *c, const struct kv_pod_options *o,
                                        struct parts *p, int64_t grace, const struct json **init)
{
    struct arena *a = p->a;
    struct kv_images k = {.launcher_image = o->launcher_image};
    const struct json *main, *list;

    *init = NULL;
    if (json_len(p->images)) {
        k.program_volume = label_of(a, p->volumes, KV_VOLUME_PROGRAM);
        p->volumes = json_append(a, p->volumes, json_object(a, "name", json_new_z(a, k.program_volume), "emptyDir", json_object(a, NULL), NULL));
        k.socket_volume = label_of(a, p->volumes, KV_VOLUME_IMAGES);
        empty_dir(p, k.socket_volume, KV_DIR_CONTAINER_DISK);
    }
    main = compute(vmi, c, o, p, grace);
    list = json_array(a, main, NULL);
    k.compute = json_get(main, "resources");
    json_each_item(image, p->images)
        list = json_append(a, list, kv_image_container(&k, image, a));
    if (json_len(p->images))
        *init = json_array(a, kv_image_init_container(&k, a), NULL);
    return list;
}

const struct json *kv_launcher_pod(const struct json *vmi, const struct kv_config *c, const struct kv_pod_options *o,
                                   struct arena *a)
{
    struct parts p = {.a = a, .as_volumes = o->image_volumes};
    int64_t grace = clamp(json_i64_at(vmi, "spec/terminationGracePeriodSeconds", 30), 0, MAX_GRACE);
    const struct json *spec, *containers, *init;
    struct str scheduler = json_str_at(vmi, "spec/schedulerName");

    volumes_of(&p, vmi);
    containers = containers_of(vmi, c, o, &p, grace, &init);
    spec = json_object(
        a, "initContainers", init, "containers", containers, "volumes", p.volumes, "restartPolicy",
        json_new_z(a, "Never"), "terminationGracePeriodSeconds", json_new_i64(a, grace + 30), "hostname", hostname(vmi, a),
        "subdomain", json_at(vmi, "spec/subdomain"), "imagePullSecrets", json_len(p.pull_secrets) ? p.pull_secrets : NULL,
        "nodeSelector", selector_of(vmi, a), "affinity", affinity_of(vmi, a),
        "tolerations", json_at(vmi, "spec/tolerations"), "priorityClassName", json_at(vmi, "spec/priorityClassName"),
        "schedulerName", scheduler.n ? json_new_str(a, scheduler) : NULL, "topologySpreadConstraints",
        json_at(vmi, "spec/topologySpreadConstraints"), "dnsPolicy", json_at(vmi, "spec/dnsPolicy"), "dnsConfig",
        json_at(vmi, "spec/dnsConfig"), "enableServiceLinks", json_new_bool(false), "automountServiceAccountToken",
        json_new_bool(false), "securityContext",
        json_object(a, "fsGroup", json_new_i64(a, KV_UID), "runAsUser", json_new_i64(a, KV_UID), "runAsGroup",
                    json_new_i64(a, KV_UID), "runAsNonRoot", json_new_bool(true), "seccompProfile",
                    json_object(a, "type", json_new_z(a, "RuntimeDefault"), NULL), NULL),
        NULL);
    return json_object(a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "Pod"), "metadata", metadata(vmi, c, o, a),
                       "spec", spec, NULL);
}
