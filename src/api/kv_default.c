/* What creation fills in. A VirtualMachine gets little – what must not change from one start to the next – and its instance
 * the rest, in upstream's order (reference/api-and-lifecycle.md §3.4), since later steps read what earlier ones wrote.
 *
 * This runs before the types are checked. So nothing is ever written below a value of the wrong type: the mistake has to be
 * there still when validation looks for it. */
#include "api/kv_choice.h"

#include "api/meta.h"
#include "api/quantity.h"
#include "api/vmm_caps.h"
#include "base/cleanup.h"

#define MAX_VCPUS 512 /* upstream's bound for ceilings that it makes up */
#define GIB (1LL << 30)
#define MIB (1LL << 20)

struct edit { /* a spec in the making */
    struct arena *a;
    const struct kv_config *c;
    const struct json *v;
    const struct vmm_caps *vmm; /* whose defaults go over upstream's; NULL: nobody's */
};

/* JSON's null is Go's nil. */
static bool absent(const struct json *v)
{
    return !v || v->type == JSON_NULL;
}

static bool empty(const struct json *v)
{
    return absent(v) || (json_is(v, JSON_STRING) && v->n == 0);
}

/* Whether a value can be put at the path without replacing something that is no object. */
static bool reachable(const struct json *v, const char *path)
{
    struct str rest = str_of(path), part;

    while (str_next(&rest, '/', &part)) {
        if (absent(v))
            return true;
        if (json_is(v, JSON_ARRAY)) {
            AUTO(error_clear) struct error ignored = {0};
            uint64_t i;

            if (!parse_u64(part, UINT32_MAX, &i, &ignored) || !(v = json_item(v, i)))
                return false;
            continue;
        }
        if (!json_is(v, JSON_OBJECT))
            return false;
        v = json_get_str(v, part);
    }
    return true;
}

static void put(struct edit *e, const char *path, const struct json *value)
{
    if (value && reachable(e->v, path))
        e->v = json_with_at(e->a, e->v, path, value);
}

static void fill(struct edit *e, const char *path, const struct json *value)
{
    const char *own;

    if (!empty(json_at(e->v, path)))
        return;
    own = kv_own_default(e->vmm, path);
    if (own)
        value = *own ? json_new_z(e->a, own) : NULL;
    put(e, path, value);
}

static void fill_z(struct edit *e, const char *path, const char *text)
{
    fill(e, path, json_new_z(e->a, text));
}
static void fill_str(struct edit *e, const char *path, struct str s)
{
    fill(e, path, json_new_str(e->a, s));
}

/* The same in every item of a list. */
static void fill_item(struct edit *e, const char *list, size_t i, const char *path,
                      const struct json *value)
{
    fill(e, arena_printf(e->a, "%s/%zu/%s", list, i, path), value);
}

static bool is_amd64(const struct edit *e)
{
    return str_is(json_str_at(e->v, "architecture"), "amd64");
}
static bool is_arm64(const struct edit *e)
{
    return str_is(json_str_at(e->v, "architecture"), "arm64");
}

static struct quantity quantity_at(const struct json *v, const char *path)
{
    AUTO(error_clear) struct error ignored = {0};
    struct quantity q = {0};
    struct str text = kv_quantity(json_at(v, path));

    if (text.n && !quantity_parse(text, &q, &ignored))
        q = (struct quantity){0};
    return q;
}

static const struct json *quantity_json(struct edit *e, struct quantity q)
{
    return json_new_z(e->a, quantity_text(e->a, q));
}

/* --- what holds for the spec as such ----------------------------------------------------------------------------------- */

static void architecture(struct edit *e)
{
    fill_str(e, "architecture", e->c->architecture);
    fill_str(e, "domain/machine/type", kv_machine_type(e->c, json_str_at(e->v, "architecture")));
}

static void requests(struct edit *e)
{
    struct quantity limit = quantity_at(e->v, "domain/resources/limits/cpu");

    if (!quantity_is_zero(limit)
        && quantity_is_zero(quantity_at(e->v, "domain/resources/requests/cpu")))
        put(e, "domain/resources/requests/cpu", json_at(e->v, "domain/resources/limits/cpu"));
    if (e->c->cpu_request.n && !str_is(e->c->cpu_request, "100m")
        && !json_bool_at(e->v, "domain/cpu/dedicatedCpuPlacement", false))
        fill_str(e, "domain/resources/requests/cpu", e->c->cpu_request);
}

static void guest_memory(struct edit *e)
{
    static const char *const from[] = {"domain/resources/requests/memory",
                                       "domain/resources/limits/memory",
                                       "domain/memory/hugepages/pageSize"};

    if (!absent(json_at(e->v, "domain/memory/guest")))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
        if (!quantity_is_zero(quantity_at(e->v, from[i]))) {
            put(e, "domain/memory/guest", json_at(e->v, from[i]));
            return;
        }
    }
}

static void topology(struct edit *e)
{
    const struct json *cpu = json_at(e->v, "domain/cpu"), *from;
    const char *own = kv_own_default(e->vmm, "topology");
    bool cores = own && strcmp(own, "cores") == 0;
    int64_t sockets = 1;

    if (json_i64_at(cpu, "cores", 0) || json_i64_at(cpu, "sockets", 0)
        || json_i64_at(cpu, "threads", 0))
        return;
    from = json_at(e->v, "domain/resources/limits/cpu");
    if (absent(from))
        from = json_at(e->v, "domain/resources/requests/cpu");
    if (!absent(from)) {
        AUTO(error_clear) struct error ignored = {0};
        struct quantity q = {0};

        if (quantity_parse(kv_quantity(from), &q, &ignored))
            sockets = quantity_value(q);
    }
    if (sockets < 0 || sockets > UINT32_MAX)
        sockets = 1;
    put(e, "domain/cpu/sockets", json_new_i64(e->a, cores ? 1 : sockets));
    put(e, "domain/cpu/cores", json_new_i64(e->a, cores ? sockets : 1));
    put(e, "domain/cpu/threads", json_new_i64(e->a, 1));
}

static void pull_policies(struct edit *e)
{
    size_t n = json_len(json_get(e->v, "volumes"));

    for (size_t i = 0; i < n; i++) {
        const struct json *disk =
            json_get(json_item(json_get(e->v, "volumes"), i), "containerDisk");

        if (json_is(disk, JSON_OBJECT))
            fill_item(e, "volumes", i, "containerDisk/imagePullPolicy",
                      json_new_str(e->a, kv_pull_policy(json_str_at(disk, "image"))));
    }
}

static void pod_interface(struct edit *e)
{
    struct arena *a = e->a;
    const char *binding = str_is(e->c->default_interface, "masquerade") ? "masquerade" : "bridge";

    if (json_len(json_get(e->v, "networks")) || json_len(json_at(e->v, "domain/devices/interfaces"))
        || !json_bool_at(e->v, "domain/devices/autoattachPodInterface", true))
        return;
    put(e, "domain/devices/interfaces",
        json_array(
            a,
            json_object(a, "name", json_new_z(a, "default"), binding, json_object(a, NULL), NULL),
            NULL));
    put(e, "networks",
        json_array(
            a, json_object(a, "name", json_new_z(a, "default"), "pod", json_object(a, NULL), NULL),
            NULL));
}

static bool listed(const struct json *list, struct str name)
{
    json_each_item(item, list)
        if (str_eq(json_str_at(item, "name"), name))
            return true;
    return false;
}

static void volume_disks(struct edit *e)
{
    const struct json *disks = json_at(e->v, "domain/devices/disks");
    const struct json *filesystems = json_at(e->v, "domain/devices/filesystems");
    bool any = false;

    if (!absent(disks) && !json_is(disks, JSON_ARRAY))
        return;
    json_each_item(volume, json_get(e->v, "volumes")) {
        const struct json *name = json_get(volume, "name");

        if (!json_is(name, JSON_STRING) || json_get(volume, "memoryDump")
            || listed(disks, json_str(name)) || listed(filesystems, json_str(name)))
            continue;
        disks = json_append(e->a, disks ? disks : json_array(e->a, NULL),
                            json_object(e->a, "name", name, NULL));
        any = true;
    }
    if (any)
        put(e, "domain/devices/disks", disks);
}

static void spec_defaults(struct edit *e)
{
    architecture(e);
    requests(e);
    guest_memory(e);
    topology(e);
    pull_policies(e);
    fill_str(e, "evictionStrategy", e->c->eviction_strategy);
    fill(e, "domain/devices", json_object(e->a, NULL));
    pod_interface(e);
    volume_disks(e);
}

const struct json *kv_spec_default(const struct json *spec, struct str vmm, const struct kv_config *c,
                                   struct arena *a)
{
    struct edit e = {.a = a, .c = c, .v = spec, .vmm = vmm_caps_find(vmm)};

    spec_defaults(&e);
    return e.v;
}

/* --- upstream's generated defaults ---------------------------------------------------------------------------------------- */

static void switches(struct edit *e)
{
    static const char *const features[] = {"apic", "smm", "pvspinlock"};
    static const char *const hyperv[] = {
        "relaxed", "vapic",    "spinlocks",   "vpindex",  "runtime", "synic", "synictimer",
        "reset",   "vendorid", "frequencies", "tlbflush", "ipi",     "evmcs", "reenlightenment"};
    static const char *const timers[] = {"hpet", "kvm", "pit", "rtc", "hyperv"};
    const struct json *on = json_new_bool(true);

    fill(e, "domain/features/acpi/enabled", on);
    for (size_t i = 0; i < ARRAY_SIZE(features); i++)
        if (json_get(json_at(e->v, "domain/features"), features[i]))
            fill(e, arena_printf(e->a, "domain/features/%s/enabled", features[i]), on);
    for (size_t i = 0; i < ARRAY_SIZE(hyperv); i++)
        if (!absent(json_get(json_at(e->v, "domain/features/hyperv"), hyperv[i])))
            fill(e, arena_printf(e->a, "domain/features/hyperv/%s/enabled", hyperv[i]), on);
    if (json_bool_at(e->v, "domain/features/hyperv/spinlocks/enabled", false))
        fill(e, "domain/features/hyperv/spinlocks/spinlocks", json_new_i64(e->a, 4096));
    for (size_t i = 0; i < ARRAY_SIZE(timers); i++)
        if (!absent(json_get(json_at(e->v, "domain/clock/timer"), timers[i])))
            fill(e, arena_printf(e->a, "domain/clock/timer/%s/present", timers[i]), on);
}

#define DISKS "domain/devices/disks"

static const char *disk_target(const struct json *disk)
{
    static const char *const targets[] = {"disk", "cdrom", "lun"};

    for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
        if (!absent(json_get(disk, targets[i])))
            return targets[i];
    return NULL;
}

static void disk_targets(struct edit *e)
{
    size_t n = json_len(json_at(e->v, DISKS));

    for (size_t i = 0; i < n; i++) {
        const struct json *disk = json_item(json_at(e->v, DISKS), i);

        if (!disk_target(disk))
            fill_item(e, DISKS, i, "disk", json_object(e->a, NULL));
        if (!absent(json_get(disk, "cdrom"))) {
            fill_item(e, DISKS, i, "cdrom/readonly", json_new_bool(true));
            fill_item(e, DISKS, i, "cdrom/tray", json_new_z(e->a, "closed"));
        }
    }
}

static void inputs(struct edit *e)
{
    size_t n = json_len(json_at(e->v, "domain/devices/inputs"));

    if (n == 0 && json_bool_at(e->v, "domain/devices/autoattachInputDevice", false)) {
        put(e, "domain/devices/inputs",
            json_array(e->a, json_object(e->a, "name", json_new_z(e->a, "default-0"), NULL), NULL));
        n = 1;
    }
    for (size_t i = 0; i < n; i++) {
        fill_item(e, "domain/devices/inputs", i, "bus", json_new_z(e->a, "usb"));
        fill_item(e, "domain/devices/inputs", i, "type", json_new_z(e->a, "tablet"));
    }
}

static void probe(struct edit *e, const char *name)
{
    static const struct {
        const char *field;
        int value;
    } table[] = {{"timeoutSeconds", 1},
                 {"periodSeconds", 10},
                 {"successThreshold", 1},
                 {"failureThreshold", 3}};

    if (!json_is(json_get(e->v, name), JSON_OBJECT))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (json_i64_at(json_get(e->v, name), table[i].field, 0) == 0)
            put(e, arena_printf(e->a, "%s/%s", name, table[i].field),
                json_new_i64(e->a, table[i].value));
}

/* --- what depends on other fields ----------------------------------------------------------------------------------------- */

static bool enlightened(const struct edit *e, const char *name)
{
    return json_bool_at(json_at(e->v, "domain/features/hyperv"),
                        arena_printf(e->a, "%s/enabled", name), false);
}

static void require_vmx(struct edit *e)
{
    const struct json *features = json_at(e->v, "domain/cpu/features"),
                      *require = json_new_z(e->a, "require");
    size_t n = json_len(features);

    if (!absent(features) && !json_is(features, JSON_ARRAY))
        return;
    for (size_t i = 0; i < n; i++) {
        if (str_is(json_str_at(json_item(features, i), "name"), "vmx")) {
            put(e, arena_printf(e->a, "domain/cpu/features/%zu/policy", i), require);
            return;
        }
    }
    put(e, "domain/cpu/features",
        json_append(e->a, n ? features : json_array(e->a, NULL),
                    json_object(e->a, "name", json_new_z(e->a, "vmx"), "policy", require, NULL)));
}

/* Each needs the next one, unless that is switched off by hand: validation complains then. Dependents come first. */
static void hyperv_dependencies(struct edit *e)
{
    static const struct {
        const char *feature, *needs;
    } table[] = {{"synictimer", "synic"},
                 {"synic", "vpindex"},
                 {"ipi", "vpindex"},
                 {"tlbflush", "vpindex"},
                 {"evmcs", "vapic"}};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (enlightened(e, table[i].feature))
            fill(e, arena_printf(e->a, "domain/features/hyperv/%s/enabled", table[i].needs),
                 json_new_bool(true));
    if (enlightened(e, "evmcs"))
        require_vmx(e);
}

static void by_architecture(struct edit *e)
{
    const char *bus = is_amd64(e) ? "sata" : "virtio";
    size_t n = json_len(json_at(e->v, DISKS));

    for (size_t i = 0; i < n; i++) {
        const char *target = disk_target(json_item(json_at(e->v, DISKS), i));

        if (target)
            fill_item(e, DISKS, i, arena_printf(e->a, "%s/bus", target), json_new_z(e->a, bus));
    }
    if (json_is(json_at(e->v, "domain/devices/watchdog/i6300esb"), JSON_OBJECT))
        fill_z(e, "domain/devices/watchdog/i6300esb/action", "reset");
    if (json_is(json_at(e->v, "domain/devices/watchdog/diag288"), JSON_OBJECT))
        fill_z(e, "domain/devices/watchdog/diag288/action", "reset");
    if (is_arm64(e)) {
        fill_z(e, "domain/cpu/model", "host-passthrough");
        if (!json_is(json_at(e->v, "domain/firmware/bootloader/bios"), JSON_OBJECT))
            fill(e, "domain/firmware/bootloader/efi/secureBoot", json_new_bool(false));
    }
    fill_str(e, "domain/cpu/model", e->c->cpu_model);
}

/* --- how far it may grow while it runs ------------------------------------------------------------------------------------- */

/* A factor of a product that only matters up to the bound. */
static int64_t at_least_one(int64_t n)
{
    return n < 1 ? 1 : n > MAX_VCPUS ? MAX_VCPUS + 1 : n;
}

static void max_sockets(struct edit *e)
{
    const struct json *cpu = json_at(e->v, "domain/cpu");
    int64_t sockets = json_i64_at(cpu, "sockets", 0), cores = json_i64_at(cpu, "cores", 1);
    int64_t threads = json_i64_at(cpu, "threads", 1), max = e->c->max_cpu_sockets;

    if (json_i64_at(cpu, "maxSockets", 0) || sockets < 0 || sockets > UINT32_MAX || cores < 0
        || cores > UINT32_MAX || threads < 0 || threads > UINT32_MAX)
        return;
    if (max > 0) {
        max = sockets > max ? sockets : max;
    } else {
        int64_t each = at_least_one(cores) * at_least_one(threads);

        max = sockets * e->c->max_hotplug_ratio;
        if (max > MAX_VCPUS / each)
            max = MAX_VCPUS / each > sockets ? MAX_VCPUS / each : sockets;
    }
    if (max > 0)
        put(e, "domain/cpu/maxSockets", json_new_i64(e->a, max));
}

/* Only where memory can be plugged at all; a ceiling that cannot be used is left out without a word, as upstream. */
static void max_guest(struct edit *e)
{
    int64_t guest, max, align = 2 * MIB;

    if (!absent(json_at(e->v, "domain/memory/maxGuest")) || !is_amd64(e))
        return;
    if (json_is(json_at(e->v, "domain/cpu/realtime"), JSON_OBJECT)
        || json_at(e->v, "domain/cpu/numa/guestMappingPassthrough")
        || json_at(e->v, "domain/launchSecurity"))
        return;
    guest = quantity_value(quantity_at(e->v, "domain/memory/guest"));
    if (__builtin_mul_overflow(guest, e->c->max_hotplug_ratio, &max))
        return;
    if (e->c->max_guest.n)
        max = quantity_bytes(e->c->max_guest, max);
    if (quantity_value(quantity_at(e->v, "domain/memory/hugepages/pageSize")) == GIB)
        align = GIB;
    if (guest < GIB || max < guest || guest % align || max % align)
        return;
    put(e, "domain/memory/maxGuest", quantity_json(e, quantity_of(max, QUANTITY_BINARY_SI)));
}

/* As Go writes them, numbers too: everything that reads a VMI later finds text. */
static void canonical(struct edit *e, const char *path)
{
    AUTO(error_clear) struct error ignored = {0};
    struct str text = kv_quantity(json_at(e->v, path));
    struct quantity q;

    if (text.n && quantity_parse(text, &q, &ignored))
        put(e, path, quantity_json(e, q));
}

static void quantities(struct edit *e)
{
    static const char *const paths[] = {"domain/memory/guest", "domain/memory/maxGuest",
                                        "domain/memory/reservedOverhead/addedOverhead"};
    static const char *const maps[] = {"requests", "limits"};
    size_t n = json_len(json_get(e->v, "volumes"));

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        canonical(e, paths[i]);
    for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
        canonical(e, arena_printf(e->a, "domain/resources/%s/cpu", maps[i]));
        canonical(e, arena_printf(e->a, "domain/resources/%s/memory", maps[i]));
    }
    for (size_t i = 0; i < n; i++)
        canonical(e, arena_printf(e->a, "volumes/%zu/emptyDisk/capacity", i));
}

/* --- whole objects ---------------------------------------------------------------------------------------------------------- */

static const struct json *new_uuid(const struct kv_random *r, struct arena *a)
{
    char text[37];

    r->uuid(r->data, text);
    return json_new_z(a, text);
}

/* Of a status that comes with the object only the revision's name counts: its creator's promise which VM it is a run of. */
static const struct json *first_status(const struct json *vmi, const struct edit *e)
{
    struct arena *a = e->a;
    const struct json *cpu = json_at(e->v, "domain/cpu"),
                      *guest = json_at(e->v, "domain/memory/guest");
    const struct json *phase = json_new_z(a, "Pending"),
                      *created = json_at(vmi, "metadata/creationTimestamp");
    const struct json *memory = NULL, *since = NULL;

    if (!absent(guest))
        memory = json_object(a, "guestAtBoot", guest, "guestCurrent", guest, "guestRequested",
                             guest, NULL);
    if (!empty(created))
        since = json_array(
            a, json_object(a, "phase", phase, "phaseTransitionTimestamp", created, NULL), NULL);
    return json_object(
        a, "currentCPUTopology",
        json_object(a, "cores", json_get(cpu, "cores"), "sockets", json_get(cpu, "sockets"),
                    "threads", json_get(cpu, "threads"), NULL),
        "guestOSInfo", json_object(a, NULL), "memory", memory, "phase", phase,
        "phaseTransitionTimestamps", since, "runtimeUser",
        json_new_i64(a, kv_gate(e->c, "Root") ? 0 : KV_UID), "virtualMachineRevisionName",
        json_at(vmi, "status/virtualMachineRevisionName"), NULL);
}

#define PCI_TOPOLOGY "kubevirt.io~1pci-topology-version"

static void vmi_spec_defaults(struct edit *e, const struct kv_random *r)
{
    spec_defaults(e);
    switches(e);
    disk_targets(e);
    inputs(e);
    if (empty(json_at(e->v, "domain/firmware/uuid")))
        put(e, "domain/firmware/uuid", new_uuid(r, e->a));
    probe(e, "readinessProbe");
    probe(e, "livenessProbe");
    hyperv_dependencies(e);
    by_architecture(e);
    quantities(e);
    if (e->c->live_update && !is_arm64(e)) {
        max_sockets(e);
        max_guest(e);
    }
}

/* What the VMM lacks: no default of upstream's may bring it in, and the machine says of itself what is missing. */
static const struct json *fitted(struct edit *e, const struct json *written, struct str vmm)
{
    if (e->vmm && vmm_caps_lacks(e->vmm, "graphics"))
        fill(e, "domain/devices/autoattachGraphicsDevice", json_new_bool(false));
    e->v = kv_spec_without_unhonoured(e->v, written, vmm, e->a);
    return kv_left_out(written, vmm, e->a);
}

const struct json *kv_vmi_default(const struct json *vmi, const struct kv_config *c,
                                  const struct kv_random *r, struct arena *a)
{
    struct str vmm = kv_vmm(vmi);
    const struct json *written = json_get(vmi, "spec"), *left = NULL;
    struct edit e = {.a = a, .c = c, .v = written, .vmm = vmm_caps_find(vmm)},
                whole = {.a = a, .c = c, .v = vmi};

    if (!json_is(e.v, JSON_OBJECT) || !json_is(json_get(e.v, "domain"), JSON_OBJECT))
        return vmi;
    vmi_spec_defaults(&e, r);
    if (!str_is(vmm, "qemu"))
        left = fitted(&e, written, vmm);
    whole.v = json_with(a, vmi, "spec", e.v);
    whole.v = json_with(a, whole.v, "status", first_status(vmi, &e));
    fill_z(&whole, "metadata/annotations/" PCI_TOPOLOGY, "v3");
    if (left)
        whole.v = meta_with_annotation(a, whole.v, KV_ANNOTATION_LEFT_OUT, json_str(left));
    return meta_add_finalizer(a, whole.v, "kubevirt.io/foregroundDeleteVirtualMachine");
}

const struct json *kv_vm_default(const struct json *vm, const struct kv_config *c,
                                 const struct kv_random *r, struct arena *a)
{
    struct str vmm = kv_vmm(vm);
    const struct json *written = json_at(vm, "spec/template/spec");
    struct edit whole = {.a = a, .c = c, .v = vm},
                e = {.a = a, .c = c, .v = written, .vmm = vmm_caps_find(vmm)};

    if (!json_is(json_at(vm, "spec/template"), JSON_OBJECT))
        return vm;
    if (absent(e.v) || json_is(e.v, JSON_OBJECT)) {
        architecture(&e);
        fill(&e, "domain/devices", json_object(a, NULL));
        if (empty(json_at(e.v, "domain/firmware/uuid")))
            put(&e, "domain/firmware/uuid", new_uuid(r, a));
        if (empty(json_at(e.v, "domain/firmware/serial")))
            put(&e, "domain/firmware/serial", new_uuid(r, a));
        if (!str_is(vmm, "qemu"))
            e.v = kv_spec_without_unhonoured(e.v, written, vmm, a);
        put(&whole, "spec/template/spec", e.v);
    }
    fill_z(&whole, "spec/template/metadata/annotations/" PCI_TOPOLOGY, "v3");
    /* Upstream's controller adds it in a write of its own; here every start would pay a commit for that. */
    return meta_add_finalizer(a, whole.v, "kubevirt.io/virtualMachineControllerFinalize");
}
