/* Rules of spec.domain: resources, memory, machine, processors, firmware, features, confidential computing. */
#include "api/kv_rules.h"

#include <fnmatch.h>
#include <limits.h>

#include "api/quantity.h"
#include "base/buf.h"
#include "base/cleanup.h"

#define GIB (1LL << 30)
#define MIB (1LL << 20)

static const char *text_of(struct rules *r, struct quantity q)
{
    return quantity_text(r->a, q);
}

/* ---- resources and memory --------------------------------------------------------------------------------------------------- */

static void check_resources(struct rules *r)
{
    static const char *const kinds[] = {"requests", "limits"}, *const names[] = {"memory", "cpu"};
    const struct json *resources = json_get(r->domain, "resources");
    struct quantity q, limit;

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
            const char *field = rules_at(r, "domain.resources.%s.%s", kinds[k], names[i]);

            if (kv_read_quantity(json_get(json_get(resources, kinds[k]), names[i]), &q)
                && q.nano < 0)
                rules_invalid(r, field, "%s '%s': must be greater than or equal to 0.", field,
                              text_of(r, q));
        }
    }
    if (kv_read_quantity(json_at(resources, "requests/memory"), &q) && q.nano > 0
        && quantity_value(q) < 1000000) {
        const char *field = rules_at(r, "domain.resources.requests.memory");

        rules_invalid(r, field, "%s '%s': must be greater than or equal to 1M.", field,
                      text_of(r, q));
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *field = rules_at(r, "domain.resources.requests.%s", names[i]);

        if (kv_read_quantity(json_get(json_get(resources, "requests"), names[i]), &q)
            && kv_read_quantity(json_get(json_get(resources, "limits"), names[i]), &limit)
            && limit.nano > 0 && quantity_cmp(q, limit) > 0)
            rules_invalid(r, field, "%s '%s' is greater than %s '%s'", field, text_of(r, q),
                          rules_at(r, "domain.resources.limits.%s", names[i]), text_of(r, limit));
    }
}

static void check_page_size(struct rules *r, const struct json *page_size)
{
    AUTO(error_clear) struct error err = {0};
    const char *field = rules_at(r, "domain.memory.hugepages.pageSize"), *memory_field;
    struct str text = kv_quantity(page_size);
    struct quantity page, memory;

    if (!quantity_parse(text, &page, &err)) {
        rules_invalid(r, field, "%s '" STR_FMT "': %s", field, STR_ARG(text), error_text(&err));
        return;
    }
    memory_field = rules_at(r, "domain.resources.requests.memory");
    if (!kv_read_quantity(json_at(r->domain, "resources/requests/memory"), &memory)) {
        memory_field = rules_at(r, "domain.memory.guest");
        if (!kv_read_quantity(json_at(r->domain, "memory/guest"), &memory))
            return;
    }
    if (quantity_cmp(memory, page) < 0)
        rules_invalid(r, memory_field, "%s '%s' must be equal to or larger than page size %s '%s'",
                      memory_field, text_of(r, memory), field, text_of(r, page));
    else if (page.nano > 0 && memory.nano % page.nano != 0)
        rules_invalid(r, memory_field, "%s '%s' is not a multiple of the page size %s '%s'",
                      memory_field, text_of(r, memory), field, text_of(r, page));
    else if (page.nano <= 0)
        rules_invalid(r, field, "%s '%s': must be greater than or equal to 1.", field,
                      text_of(r, page));
}

static void check_memory(struct rules *r)
{
    const struct json *memory = json_get(r->domain, "memory");
    struct quantity guest = {0}, limit;
    const char *field = rules_at(r, "domain.memory.guest");

    if (!r->vm && !kv_has(memory, "guest") && !kv_has_at(memory, "hugepages/pageSize")
        && !kv_has_at(r->domain, "resources/requests/memory"))
        rules_required(r, field,
                       "no memory requested, at least one of '%s', '%s' or '%s' must be set", field,
                       rules_at(r, "domain.memory.hugepages.pageSize"),
                       rules_at(r, "domain.resources.requests.memory"));
    if (kv_has_at(memory, "hugepages/pageSize"))
        check_page_size(r, json_at(memory, "hugepages/pageSize"));
    if (!kv_read_quantity(json_get(memory, "guest"), &guest))
        return;
    if (guest.nano <= 0)
        rules_invalid(r, field, "%s '%s': must be greater than 0.", field, text_of(r, guest));
    if (r->c->live_update && kv_read_quantity(json_at(r->domain, "resources/limits/memory"), &limit)
        && limit.nano > 0 && quantity_cmp(guest, limit) > 0)
        rules_invalid(r, field, "%s '%s' must be equal to or less than the memory limit %s '%s'",
                      field, text_of(r, guest), rules_at(r, "domain.resources.limits.memory"),
                      text_of(r, limit));
}

/* What an explicit ceiling needs; without one the platform only sets a ceiling that holds. */
static void check_max_guest(struct rules *r)
{
    static const struct {
        const char *path, *what;
    } excluded[] = {{"cpu/realtime", "realtime"},
                    {"cpu/numa/guestMappingPassthrough", "guest mapping passthrough"},
                    {"launchSecurity", "encrypted"}};
    const struct json *memory = json_get(r->domain, "memory");
    const char *field = rules_at(r, "domain.memory.guest");
    struct quantity guest, max, page;
    int64_t align = 2 * MIB;

    if (!kv_read_quantity(json_get(memory, "maxGuest"), &max))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(excluded); i++)
        if (kv_has_at(r->domain, excluded[i].path))
            rules_invalid(r, field, "Memory hotplug is not compatible with %s VMs",
                          excluded[i].what);
    if (!kv_read_quantity(json_get(memory, "guest"), &guest)) {
        rules_invalid(r, field, "Guest memory must be configured when memory hotplug is enabled");
        return;
    }
    if (kv_read_quantity(json_at(memory, "hugepages/pageSize"), &page)
        && quantity_value(page) == GIB)
        align = GIB;
    if (quantity_cmp(guest, max) > 0)
        rules_invalid(r, field, "Guest memory is greater than the configured maxGuest memory");
    if (quantity_value(guest) % align)
        rules_invalid(r, field, "Guest memory must be %s aligned", align == GIB ? "1Gi" : "2Mi");
    if (quantity_value(max) % align)
        rules_invalid(r, rules_at(r, "domain.memory.maxGuest"), "MaxGuest must be %s aligned",
                      align == GIB ? "1Gi" : "2Mi");
    if (!str_is(json_str_at(r->spec, "architecture"), "amd64"))
        rules_invalid(r, rules_at(r, "architecture"),
                      "Memory hotplug is only available for x86_64 VMs");
    if (quantity_value(guest) < GIB)
        rules_invalid(r, field,
                      "Memory hotplug is only available for VMs with at least 1Gi of guest memory");
}

/* ---- machine and processors ------------------------------------------------------------------------------------------------- */

static void check_machine(struct rules *r)
{
    static const char *const amd64[] = {"q35*", "pc-q35*", NULL}, *const arm64[] = {"virt*", NULL};
    static const char *const s390x[] = {"s390-ccw-virtio*", NULL};
    const struct {
        const char *architecture;
        const char *const *globs;
    } table[] = {{"amd64", amd64}, {"arm64", arm64}, {"s390x", s390x}};
    struct str arch = json_str_at(r->spec, "architecture"),
               type = json_str_at(r->domain, "machine/type");
    const char *machine = type.n ? arena_strdup(r->a, type) : "";
    const struct json *configured;
    AUTO(buf_done) struct buf list = {0};
    bool found = false;

    buf_init(&list, 64 << 10);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (!str_is(arch, table[i].architecture))
            continue;
        if (!str_is(r->vmm, "qemu")) /* these are QEMU's boards; others have a word on theirs in their tables */
            return;
        configured =
            json_at(r->c->spec, arena_printf(r->a, "architectureConfiguration/%s/emulatedMachines",
                                             table[i].architecture));
        if (!configured && i == 0)
            configured = json_get(r->c->spec, "emulatedMachines");
        for (size_t g = 0; !configured && table[i].globs[g]; g++) {
            found |= fnmatch(table[i].globs[g], machine, 0) == 0;
            buf_addf(&list, "%s%s", list.n ? " " : "", table[i].globs[g]);
        }
        json_each_item(glob, configured) {
            found |= json_str(glob).n < 128
                     && fnmatch(arena_strdup(r->a, json_str(glob)), machine, 0) == 0;
            buf_addf(&list, "%s" STR_FMT, list.n ? " " : "", STR_ARG(json_str(glob)));
        }
        if (!found && type.n) {
            const char *field = rules_at(r, "domain.machine.type");

            rules_invalid(r, field, "%s is not supported: %s (allowed values: [" STR_FMT "])",
                          field, machine, STR_ARG(buf_str(&list)));
        }
        return;
    }
    if (arch.n)
        rules_invalid(r, rules_at(r, "architecture"), "unsupported architecture: " STR_FMT,
                      STR_ARG(arch));
}

static void check_cpu_features(struct rules *r)
{
    static const char *const policies[] = {"force",   "require", "optional",
                                           "disable", "forbid",  NULL};
    size_t i = 0;

    json_each_item(f, json_at(r->domain, "cpu/features")) {
        struct str policy = json_str_at(f, "policy");

        if (policy.n && !kv_one_of(policy, policies))
            rules_not_supported(r, rules_at(r, "domain.cpu.features[%zu].policy", i),
                                "CPU feature " STR_FMT " uses policy " STR_FMT
                                " that is not supported.",
                                STR_ARG(json_str_at(f, "name")), STR_ARG(policy));
        i++;
    }
}

static void check_dedicated(struct rules *r, const struct json *cpu)
{
    const struct json *resources = json_get(r->domain, "resources");
    const char *request_field = rules_at(r, "domain.resources.requests.cpu"),
               *limit_field = rules_at(r, "domain.resources.limits.cpu");
    const char *field = rules_at(r, "domain.cpu.dedicatedCpuPlacement"),
               *cores_field = rules_at(r, "domain.cpu.cores");
    struct quantity request = {0}, limit = {0}, memory, memory_limit;
    bool has_request =
        kv_read_quantity(json_at(resources, "requests/cpu"), &request) && request.nano > 0;
    bool has_limit = kv_read_quantity(json_at(resources, "limits/cpu"), &limit) && limit.nano > 0;
    int64_t whole, cores = json_i64_at(cpu, "cores", 0), threads = json_i64_at(cpu, "threads", 0);

    if (has_limit && !quantity_exact(limit, &whole))
        rules_invalid(r, limit_field, "provided resources CPU limits must be an interger");
    if (has_request && !quantity_exact(request, &whole))
        rules_invalid(r, request_field, "provided resources CPU requests must be an interger");
    if (kv_read_quantity(json_at(resources, "requests/memory"), &memory) && memory.nano > 0
        && kv_read_quantity(json_at(resources, "limits/memory"), &memory_limit)
        && memory_limit.nano > 0 && quantity_cmp(memory, memory_limit) != 0)
        rules_invalid(r, rules_at(r, "domain.resources.limits.memory"), "%s must be equal to %s",
                      rules_at(r, "domain.resources.requests.memory"),
                      rules_at(r, "domain.resources.limits.memory"));
    if (has_request && has_limit && quantity_cmp(request, limit) != 0)
        rules_invalid(r, field, "%s or %s must be equal when DedicatedCPUPlacement is true ",
                      request_field, limit_field);
    if (!has_request && !has_limit && !cores)
        rules_invalid(r, field,
                      "either %s or %s or %s must be provided when DedicatedCPUPlacement is true ",
                      request_field, limit_field, cores_field);
    if (threads > 2)
        rules_invalid(r, rules_at(r, "domain.cpu.threads"),
                      "Not more than two threads must be provided at %s (got %lld) when "
                      "DedicatedCPUPlacement is true",
                      rules_at(r, "domain.cpu.threads"), (long long)threads);
}

/* Upstream's fields are uint32: what does not fit one never reaches its rules. */
static void check_topology(struct rules *r, const struct json *cpu)
{
    static const char *const names[] = {"sockets", "cores", "threads", "maxSockets"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int64_t n;

        if (json_i64(json_get(cpu, names[i]), &n) && (n < 0 || n > UINT32_MAX))
            rules_invalid(r, rules_at(r, "domain.cpu.%s", names[i]), "%s must be between 0 and %u", names[i], UINT32_MAX);
    }
}

static void check_cpu(struct rules *r)
{
    const struct json *cpu = json_get(r->domain, "cpu");
    const char *dedicated_field = rules_at(r, "domain.cpu.dedicatedCpuPlacement");
    int64_t max = json_i64_at(cpu, "maxSockets", 0);
    bool dedicated = json_bool_at(cpu, "dedicatedCpuPlacement", false);
    bool numa = kv_has_at(cpu, "numa/guestMappingPassthrough");

    if (max > 0 && json_i64_at(cpu, "sockets", 0) > max)
        rules_invalid(
            r, rules_at(r, "domain.cpu.maxSockets"),
            "Number of sockets in CPU topology is greater than the maximum sockets allowed");
    check_topology(r, cpu);
    check_cpu_features(r);
    if (json_bool_at(cpu, "isolateEmulatorThread", false) && !dedicated)
        rules_invalid(
            r, rules_at(r, "domain.cpu.isolateEmulatorThread"),
            "IsolateEmulatorThread should be only set in combination with DedicatedCPUPlacement");
    if (dedicated)
        check_dedicated(r, cpu);
    if (numa && !dedicated)
        rules_invalid(r, rules_at(r, "domain.cpu.numa.guestMappingPassthrough"),
                      "%s must be set to true when NUMA topology strategy is set in %s",
                      dedicated_field, rules_at(r, "domain.cpu.numa.guestMappingPassthrough"));
    if (numa && !kv_has_at(r->domain, "memory/hugepages"))
        rules_invalid(r, rules_at(r, "domain.cpu.numa.guestMappingPassthrough"),
                      "%s must be requested when NUMA topology strategy is set in %s",
                      rules_at(r, "domain.memory.hugepages"),
                      rules_at(r, "domain.cpu.numa.guestMappingPassthrough"));
    if (!kv_has(cpu, "realtime"))
        return;
    if (!dedicated)
        rules_required(r, dedicated_field, "%s must be set to true when %s is used",
                       dedicated_field, rules_at(r, "domain.cpu.realtime"));
    if (!numa)
        rules_required(r, rules_at(r, "domain.cpu.numa.guestMappingPassthrough"),
                       "%s must be defined when %s is used",
                       rules_at(r, "domain.cpu.numa.guestMappingPassthrough"),
                       rules_at(r, "domain.cpu.realtime"));
}

static void check_iothreads(struct rules *r)
{
    static const char *const policies[] = {"shared", "auto", "supplementalPool", NULL};
    struct str policy = json_str_at(r->domain, "ioThreadsPolicy");
    const char *field = rules_at(r, "domain.ioThreadsPolicy");

    if (!kv_has(r->domain, "ioThreadsPolicy"))
        return;
    if (!kv_one_of(policy, policies))
        rules_invalid(r, field, "Invalid IOThreadsPolicy (" STR_FMT ")", STR_ARG(policy));
    else if (str_is(policy, "supplementalPool")
             && json_i64_at(r->domain, "ioThreads/supplementalPoolThreadCount", 0) < 1)
        rules_invalid(
            r, field,
            "the number of iothreads needs to be set and positive for the dedicated policy");
}

/* ---- firmware and features ---------------------------------------------------------------------------------------------------- */

static void check_kernel_boot(struct rules *r, const struct json *boot)
{
    static const char *const paths[] = {"kernelPath", "initrdPath"};
    const struct json *container = json_get(boot, "container");
    const char *field = rules_at(r, "domain.firmware.kernelBoot.container");

    if (json_str_at(boot, "kernelArgs").n && !json_str_at(container, "kernelPath").n)
        rules_invalid(r, rules_at(r, "domain.firmware.kernelBoot.kernelArgs"),
                      "kernel arguments cannot be provided without an external kernel");
    if (!kv_has(boot, "container"))
        return;
    if (!json_str_at(container, "image").n)
        rules_invalid(r, rules_at(r, "domain.firmware.kernelBoot.container.image"),
                      "%s.image is a required field", field);
    if (!json_str_at(container, "kernelPath").n && !json_str_at(container, "initrdPath").n)
        rules_invalid(
            r, field,
            "%s must be defined with at least one of the following: kernelPath, initrdPath", field);
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        struct str path = json_str_at(container, paths[i]);

        if (path.n && path.p[0] != '/')
            rules_invalid(r, arena_printf(r->a, "%s.%s", field, paths[i]),
                          "%s.%s must be an absolute path to a file without relative elements",
                          field, paths[i]);
    }
}

static void check_firmware(struct rules *r)
{
    const struct json *firmware = json_get(r->domain, "firmware"),
                      *loader = json_get(firmware, "bootloader");
    const char *field = rules_at(r, "domain.firmware.bootloader");
    bool arm = str_is(json_str_at(r->spec, "architecture"), "arm64");
    bool secure = kv_has(loader, "efi") && json_bool_at(loader, "efi/secureBoot", !arm);

    if (kv_has(loader, "efi") && kv_has(loader, "bios"))
        rules_invalid(r, field,
                      "%s has both EFI and BIOS configured, but they are mutually exclusive.",
                      field);
    if (arm && kv_has(loader, "bios"))
        rules_not_supported(r, rules_at(r, "domain.firmware.bootloader.bios"),
                            "Arm64 does not support bios boot, please change to uefi boot");
    if (arm && secure)
        rules_not_supported(r, rules_at(r, "domain.firmware.bootloader.efi.secureBoot"),
                            "UEFI secure boot is currently not supported on aarch64 Arch");
    if (secure && !arm && !kv_enabled(json_at(r->domain, "features/smm")))
        rules_invalid(
            r, rules_at(r, "domain"),
            "%s has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabled.",
            rules_at(r, "domain"));
    if (kv_has(firmware, "acpi") && !json_str_at(firmware, "acpi/slicNameRef").n
        && !json_str_at(firmware, "acpi/msdmNameRef").n)
        rules_invalid(r, rules_at(r, "domain.firmware.acpi"),
                      "ACPI was set but no SLIC nor MSDM volume reference was set");
    if (kv_has(firmware, "kernelBoot"))
        check_kernel_boot(r, json_get(firmware, "kernelBoot"));
}

/* The same dependencies that defaults fill in; what remains was switched off by hand. */
static void check_hyperv(struct rules *r)
{
    static const struct {
        const char *feature, *needs;
    } table[] = {{"synictimer", "synic"},
                 {"synic", "vpindex"},
                 {"ipi", "vpindex"},
                 {"tlbflush", "vpindex"},
                 {"evmcs", "vapic"}};
    const struct json *hyperv = json_at(r->domain, "features/hyperv");

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const char *field = rules_at(r, "domain.features.hyperv.%s", table[i].feature);

        if (kv_enabled(json_get(hyperv, table[i].feature)) && kv_has(hyperv, table[i].needs)
            && !kv_enabled(json_get(hyperv, table[i].needs)))
            rules_invalid(r, field, "'%s' requires '%s', which was disabled.", field,
                          rules_at(r, "domain.features.hyperv.%s", table[i].needs));
    }
    if (kv_has_at(r->domain, "features/hyperv")
        && kv_enabled(json_at(r->domain, "features/hypervPassthrough")))
        rules_invalid(r, rules_at(r, "domain.features.hyperv"),
                      "Cannot explicitly set hyperV features if HypervPassthrough is being used. "
                      "Please use either HyperV or "
                      "HypervPassthrough.");
}

static void check_launch_security(struct rules *r)
{
    static const char *const kinds[] = {"sev", "snp", "tdx", NULL};
    static const struct {
        const char *kind, *name, *gate;
    } gates[] = {{"sev", "WorkloadEncryptionSEV", "WorkloadEncryptionSEV"},
                 {"snp", "WorkloadEncryptionSEV", "WorkloadEncryptionSEV"},
                 {"tdx", "WorkloadEncryptionTDX", "WorkloadEncryptionTDX"}};
    const struct json *security = json_get(r->domain, "launchSecurity");
    const char *field = rules_at(r, "domain.launchSecurity");
    struct str arch = json_str_at(r->spec, "architecture");

    if (!kv_has(r->domain, "launchSecurity"))
        return;
    if (kv_count(security, kinds, NULL) > 1)
        schema_cause_add(r->ret, r->a, "FieldValueForbidden", field,
                         "One and only one launchSecurity type can be set");
    if (!str_is(arch, "amd64") && !str_is(arch, "s390x"))
        rules_invalid(r, field, "No launchSecurity support for architecture: " STR_FMT,
                      STR_ARG(arch));
    for (size_t i = 0; i < ARRAY_SIZE(gates); i++)
        if (kv_has(security, gates[i].kind) && !kv_gate(r->c, gates[i].gate))
            rules_invalid(r, field, "%s feature gate is not enabled in kubevirt-config",
                          gates[i].name);
}

static void check_gated(struct rules *r)
{
    if (kv_has(r->domain, "rebootPolicy") && !kv_gate(r->c, "RebootPolicy"))
        rules_invalid(r, rules_at(r, "domain.rebootPolicy"),
                      "RebootPolicy is specified but the RebootPolicy feature gate is not enabled");
    if (kv_has_at(r->domain, "memory/reservedOverhead/memLock")
        && !kv_gate(r->c, "ReservedOverheadMemlock"))
        rules_invalid(r, rules_at(r, "domain.memory.reservedOverhead.memLock"),
                      "Reserved overhead memlock feature gate is not enabled in kubevirt-config");
}

void rules_domain(struct rules *r)
{
    check_resources(r);
    check_memory(r);
    check_max_guest(r);
    check_machine(r);
    check_cpu(r);
    check_iothreads(r);
    check_firmware(r);
    check_hyperv(r);
    check_launch_security(r);
    check_gated(r);
}
