/* The KubeVirt object's word on hypervisors: which may run machines of this cluster, and which one runs those that name none.
 *
 * Upstream's `hypervisors` (one entry, kvm or hyperv-direct: accelerators below QEMU) is read with more names and entries, and
 * without its feature gate: nothing is switched on by it that would not be there without. `hypervisorBackend`, the form of articles
 * about 1.8, is a list of one. */
#include "api/kv_choice.h"

#include "base/buf.h"
#include "base/cleanup.h"

#define LIST "spec.configuration.hypervisors"
#define BACKEND "spec.configuration.hypervisorBackend"

/* Upstream's names; the others are those of VMMs. */
static const struct kv_hypervisor accelerated[] = {
    {STR_INIT("kvm"), STR_INIT("qemu"), "kvm"},
    {STR_INIT("hyperv-direct"), STR_INIT("qemu"), "mshv"},
};

static bool find(struct str name, struct kv_hypervisor *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(accelerated); i++)
        if (str_eq(name, accelerated[i].name)) {
            *ret = accelerated[i];
            return true;
        }
    if (!kv_vmm_known(name))
        return false;
    *ret = (struct kv_hypervisor){name, name, NULL};
    return true;
}

/* An entry without a name is kvm, as upstream. */
static struct str name_of(const struct json *entry)
{
    struct str name = json_str_at(entry, "name");

    return name.n ? name : STR("kvm");
}

void kv_hypervisors_read(struct kv_config *c)
{
    const struct json *list = json_get(c->spec, "hypervisors"), *backend = json_get(c->spec, "hypervisorBackend");

    json_each_item(entry, list)
        if (c->n_hypervisors < KV_MAX_HYPERVISORS
            && find(name_of(entry), &c->hypervisors[c->n_hypervisors]))
            c->n_hypervisors++;
    if (!json_len(list) && json_is(backend, JSON_OBJECT) && find(name_of(backend), &c->hypervisors[0]))
        c->n_hypervisors = 1;
}

/* --- what is wrong with it ------------------------------------------------------------------------------------------------- */

static void check_name(struct str name, const char *field, struct arena *a, struct schema_causes *ret)
{
    AUTO(buf_done) struct buf known = {0};
    struct kv_hypervisor ignored;

    if (find(name, &ignored))
        return;
    buf_init(&known, 1024);
    for (size_t i = 0; i < ARRAY_SIZE(accelerated); i++)
        buf_addf(&known, "\"" STR_FMT "\", ", STR_ARG(accelerated[i].name));
    kv_vmm_names(&known);
    schema_cause_add(ret, a, "FieldValueNotSupported", field, "Unsupported value: \"" STR_FMT "\": supported values: " STR_FMT,
                     STR_ARG(name), STR_ARG(buf_str(&known)));
}

static void check_list(const struct json *list, struct arena *a, struct schema_causes *ret)
{
    size_t n = json_len(list);

    if (n > KV_MAX_HYPERVISORS)
        schema_cause_add(ret, a, "FieldValueTooMany", LIST, "Too many: %zu: must have at most %d items", n, KV_MAX_HYPERVISORS);
    for (size_t i = 0; i < n && i < KV_MAX_HYPERVISORS; i++) {
        struct str name = name_of(json_item(list, i));
        const char *field = arena_printf(a, LIST "[%zu].name", i);

        check_name(name, field, a, ret);
        for (size_t k = 0; k < i; k++)
            if (str_eq(name, name_of(json_item(list, k)))) {
                schema_cause_add(ret, a, "FieldValueDuplicate", field, "Duplicate value: \"" STR_FMT "\"", STR_ARG(name));
                break;
            }
    }
}

static void check_gates(const struct json *gates, struct arena *a, struct schema_causes *ret)
{
    size_t i = 0;

    json_each_item(gate, gates) {
        const char *field = arena_printf(a, BACKEND ".featureGates[%zu]", i++);

        if (!str_is(json_str(gate), "HypervisorAbstractionLayer") && !str_is(json_str(gate), "ConfigurableHypervisor"))
            schema_cause_add(ret, a, "FieldValueNotSupported", field,
                             "Unsupported value: \"" STR_FMT "\": supported values: \"HypervisorAbstractionLayer\", "
                             "\"ConfigurableHypervisor\"; other gates go into spec.configuration.developerConfiguration.featureGates",
                             STR_ARG(json_str(gate)));
    }
}

void kv_kubevirt_validate(const struct json *kubevirt, struct arena *a, struct schema_causes *ret)
{
    const struct json *spec = json_at(kubevirt, "spec/configuration"), *list = json_get(spec, "hypervisors");
    const struct json *backend = json_get(spec, "hypervisorBackend");

    check_list(list, a, ret);
    if (!json_is(backend, JSON_OBJECT))
        return;
    check_name(name_of(backend), BACKEND ".name", a, ret);
    check_gates(json_get(backend, "featureGates"), a, ret);
    if (json_len(list) && !str_eq(name_of(json_item(list, 0)), name_of(backend)))
        schema_cause_add(ret, a, "FieldValueInvalid", BACKEND ".name",
                         "\"" STR_FMT "\" contradicts " LIST "[0].name, which is \"" STR_FMT
                         "\": both name the hypervisor of machines that choose none, so leave one of them out",
                         STR_ARG(name_of(backend)), STR_ARG(name_of(json_item(list, 0))));
}

/* --- what it allows ---------------------------------------------------------------------------------------------------------- */

struct str kv_vmm_default(const struct kv_config *c)
{
    return c && c->n_hypervisors ? c->hypervisors[0].vmm : STR("qemu");
}

bool kv_vmm_allowed(const struct kv_config *c, struct str vmm)
{
    for (size_t i = 0; c && i < c->n_hypervisors; i++)
        if (str_eq(vmm, c->hypervisors[i].vmm))
            return true;
    return !c || c->n_hypervisors == 0;
}

const char *kv_hypervisors_field(const struct kv_config *c)
{
    return json_len(json_get(c->spec, "hypervisors")) ? LIST : BACKEND;
}

bool kv_accelerator_allowed(const struct kv_config *c, struct str vmm, const char *accelerator)
{
    bool any = false;

    for (size_t i = 0; c && i < c->n_hypervisors; i++) {
        const struct kv_hypervisor *h = &c->hypervisors[i];

        if (!str_eq(vmm, h->vmm))
            continue;
        if (!h->accelerator || strcmp(h->accelerator, accelerator) == 0)
            return true;
        any = true;
    }
    return !any;
}
