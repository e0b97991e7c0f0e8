/* Validation of whole objects: VirtualMachine and VirtualMachineInstance; and what all the rules use. */
#include "api/kv_rules.h"

#include <stdio.h>

#include "api/quantity.h"
#include "base/buf.h"
#include "base/cleanup.h"

/* ---- for all rules -------------------------------------------------------------------------------------------------------- */

const char *rules_at(const struct rules *r, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return arena_printf(r->a, "%s.%s", r->at, text);
}

PRINTF_LIKE(4, 0)
static void add(struct rules *r, const char *reason, const char *field, const char *fmt, va_list ap)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, 64 << 10);
    buf_vaddf(&b, fmt, ap);
    schema_cause_add(r->ret, r->a, reason, field, STR_FMT, STR_ARG(buf_str(&b)));
}

void rules_invalid(struct rules *r, const char *field, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(r, "FieldValueInvalid", field, fmt, ap);
    va_end(ap);
}

void rules_required(struct rules *r, const char *field, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(r, "FieldValueRequired", field, fmt, ap);
    va_end(ap);
}

void rules_not_supported(struct rules *r, const char *field, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(r, "FieldValueNotSupported", field, fmt, ap);
    va_end(ap);
}

bool kv_has_at(const struct json *v, const char *path)
{
    const struct json *m = json_at(v, path);

    return m && m->type != JSON_NULL;
}

size_t kv_count(const struct json *v, const char *const *names, const char **ret)
{
    size_t n = 0;

    for (; *names; names++) {
        if (!kv_has(v, *names))
            continue;
        n++;
        if (ret)
            *ret = *names;
    }
    return n;
}

bool kv_one_of(struct str s, const char *const *names)
{
    for (; *names; names++)
        if (str_is(s, *names))
            return true;
    return false;
}

bool kv_enabled(const struct json *v)
{
    return json_is(v, JSON_OBJECT) && json_bool_at(v, "enabled", true);
}

const struct json *kv_named(const struct json *list, struct str name)
{
    json_each_item(item, list)
        if (str_eq(json_str_at(item, "name"), name))
            return item;
    return NULL;
}

bool kv_read_quantity(const struct json *v, struct quantity *ret)
{
    AUTO(error_clear) struct error ignored = {0};
    struct str text = kv_quantity(v);

    return text.n && quantity_parse(text, ret, &ignored);
}

/* ---- labels and annotations ----------------------------------------------------------------------------------------------- */

static const char *const reserved_labels[] = {
    "kubevirt.io/created-by",  "kubevirt.io/migrationJobUID",
    "kubevirt.io/nodeName",    "kubevirt.io/migrationTargetNodeName",
    "kubevirt.io/schedulable", "kubevirt.io/install-strategy"};

static const struct {
    const char *annotation, *gate, *word;
} gated_annotations[] = {
    {"kubevirt.io/ignitiondata", "ExperimentalIgnitionSupport", "ExperimentalIgnitionSupport"},
    {"hooks.kubevirt.io/hookSidecars", "Sidecar", "sidecar"}};

static void check_annotations(struct rules *r, const struct json *annotations, const char *path)
{
    for (size_t i = 0; i < ARRAY_SIZE(gated_annotations); i++) {
        const char *field = arena_printf(r->a, "%s.%s", path, gated_annotations[i].annotation);

        if (!json_get(annotations, gated_annotations[i].annotation))
            continue;
        if (!kv_gate(r->c, gated_annotations[i].gate))
            rules_invalid(r, field,
                          "%s feature gate is not enabled in kubevirt-config, invalid entry %s",
                          gated_annotations[i].word, field);
        else
            rules_not_supported(r, field, "not supported by this release");
    }
}

static bool any_reserved(const struct json *labels)
{
    for (size_t i = 0; i < ARRAY_SIZE(reserved_labels); i++)
        if (json_get(labels, reserved_labels[i]))
            return true;
    return false;
}

static bool reserved_changed(const struct json *now, const struct json *before)
{
    for (size_t i = 0; i < ARRAY_SIZE(reserved_labels); i++) {
        const struct json *a = json_get(now, reserved_labels[i]),
                          *b = json_get(before, reserved_labels[i]);

        if ((a || b) && !(a && b && json_eq(a, b)))
            return true;
    }
    return false;
}

/* ---- VirtualMachineInstance ----------------------------------------------------------------------------------------------- */

static void check_spec(struct rules *r)
{
    r->domain = json_get(r->spec, "domain");
    r->devices = json_get(r->domain, "devices");
    rules_spec(r);
    rules_domain(r);
    rules_disks(r);
    rules_networks(r);
    rules_devices(r);
}

static bool same(const struct json *a, const struct json *b, const char *path)
{
    a = json_at(a, path);
    b = json_at(b, path);
    return a && b ? json_eq(a, b) : !a && !b;
}

static void check_vmi_update(struct rules *r, const struct json *vmi, const struct json *old,
                             bool by_platform)
{
    if (!by_platform) {
        if (!same(vmi, old, "spec"))
            rules_not_supported(r, "spec", "update of VMI object is restricted");
        if (!same(vmi, old, "metadata/annotations/vireo.io~1hypervisor"))
            rules_not_supported(r, "metadata.annotations." KV_ANNOTATION_HYPERVISOR,
                                "the hypervisor of a machine is chosen when the machine is made: change the annotation of its "
                                "VirtualMachine and restart that, or make this instance anew");
        if (reserved_changed(json_at(vmi, "metadata/labels"), json_at(old, "metadata/labels")))
            rules_not_supported(r, "metadata.labels",
                                "modification of the following reserved kubevirt.io/ labels on a "
                                "VMI object is prohibited");
        return;
    }
    if (!same(vmi, old, "spec/domain/cpu/maxSockets"))
        rules_not_supported(r, "spec.domain.cpu.maxSockets", "CPU topology maxSockets changed");
    if (!same(vmi, old, "spec/domain/memory/maxGuest"))
        rules_not_supported(r, "spec.domain.memory.maxGuest", "Memory maxGuest changed");
}

void kv_vmi_validate(const struct json *vmi, const struct json *old, const struct kv_config *c,
                     bool by_platform, struct arena *a, struct schema_causes *ret)
{
    struct rules r = {.a = a, .c = c, .ret = ret, .at = "spec", .spec = json_get(vmi, "spec"), .vmm = kv_vmm(vmi)};

    if (old) {
        check_vmi_update(&r, vmi, old, by_platform);
        return;
    }
    check_spec(&r);
    check_annotations(&r, json_at(vmi, "metadata/annotations"), "metadata.annotations");
    if (!by_platform && any_reserved(json_at(vmi, "metadata/labels")))
        rules_not_supported(
            &r, "metadata.labels",
            "creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited");
}

/* ---- VirtualMachine ------------------------------------------------------------------------------------------------------- */

static void check_strategy(struct rules *r, const struct json *spec)
{
    static const char *const known[] = {"Always", "Halted",         "Manual",
                                        "Once",   "RerunOnFailure", NULL};
    bool running = kv_has(spec, "running"), has_strategy = kv_has(spec, "runStrategy");
    struct str strategy = json_str_at(spec, "runStrategy");

    if (running && has_strategy)
        rules_invalid(r, "spec.running",
                      "Running and RunStrategy are mutually exclusive. Note that Running is "
                      "deprecated, please use RunStrategy "
                      "instead");
    if (!running && !has_strategy)
        rules_invalid(r, "spec.runStrategy", "RunStrategy must be specified");
    if (!has_strategy || kv_one_of(strategy, known))
        return;
    if (!str_is(strategy, "WaitAsReceiver"))
        rules_invalid(r, "spec.runStrategy", "Invalid RunStrategy (" STR_FMT ")",
                      STR_ARG(strategy));
    else if (!kv_gate(r->c, "DecentralizedLiveMigration"))
        rules_invalid(
            r, "spec.runStrategy",
            "Invalid RunStrategy (" STR_FMT
            "), DecentralizedLiveMigration feature gate is not enabled in kubevirt resource",
            STR_ARG(strategy));
}

void kv_vm_validate(const struct json *vm, const struct json *old, const struct kv_config *c,
                    struct arena *a, struct schema_causes *ret)
{
    const struct json *spec = json_get(vm, "spec"), *template = json_get(spec, "template"),
                      *vmi_spec;
    struct rules r = {.a = a, .c = c, .ret = ret, .at = "spec.template.spec", .vm = true, .vmm = kv_vmm(vm)};

    (void)old;
    if (!kv_has(spec, "template")) {
        rules_required(&r, "spec.template", "missing virtual machine template.");
        return;
    }
    check_strategy(&r, spec);
    vmi_spec = json_get(template, "spec");
    /* Judged by what it will be: a copy with defaults. */
    if (json_is(vmi_spec, JSON_OBJECT) && json_is(json_get(vmi_spec, "domain"), JSON_OBJECT)) {
        r.spec = kv_spec_default(vmi_spec, r.vmm, c, a);
        check_spec(&r);
    }
    check_annotations(&r, json_at(template, "metadata/annotations"),
                      "spec.template.metadata.annotations");
    if (ret->n == 0)
        kv_vm_unsupported(vm, a, ret);
}
