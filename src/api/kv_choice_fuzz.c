#include "api/kv_choice.h"

#include "api/meta.h"
#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct json *parsed(struct str text, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    return json_parse(text, a, &v, &err) ? v : NULL;
}

static void one_uuid(void *data, char ret[37])
{
    (void)data;
    memcpy(ret, "00000000-0000-4000-8000-000000000001", 37);
}

/* Whatever a client sends as a VirtualMachine: once chosen, an update that knows nothing of it keeps it, and defaults keep it. */
static void machine(const struct json *vm, const struct kv_config *c, const struct kv_offers *o, struct arena *a)
{
    static const struct kv_random r = {one_uuid, NULL};
    struct schema_causes causes = {0}, again = {0};
    const struct json *chosen = kv_vm_choose(vm, NULL, c, o, a, &causes), *made, *next, *vmi;
    struct str vmm = kv_vmm(chosen);

    if (causes.n)
        return;
    made = kv_vm_default(chosen, c, &r, a);
    assert(str_eq(kv_vmm(made), vmm));
    next = kv_vm_choose(vm, made, c, o, a, &again);
    if (json_is(json_at(vm, "spec/template"), JSON_OBJECT) && json_is(json_at(vm, "metadata/annotations"), JSON_OBJECT))
        assert(again.n == 0 && str_eq(kv_vmm(next), vmm));
    kv_vm_validate(made, NULL, c, a, &causes);
    kv_unsupported(json_at(made, "spec/template/spec"), vmm, "spec.template.spec", c, a, &causes);
    if (causes.n)
        return;
    vmi = kv_vmi_default(kv_vmi_choose(kv_vmi_from_vm(made, a), NULL, c, o, true, a, &causes), c, &r, a);
    assert(str_eq(kv_vmm(vmi), vmm));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct str configurations[] = {
        STR_INIT("{}"),
        STR_INIT("{\"spec\":{\"configuration\":{\"hypervisors\":[{\"name\":\"qemu-microvm\"},{\"name\":\"kvm\"}]}}}")};
    AUTO(arena_done) struct arena a = {0};
    const struct json *v = parsed(str_n((const char *)data, size), &a);
    struct schema_causes causes = {0};
    struct kv_offers offers = {0};

    if (!v)
        return 0;
    kv_offers_add(&offers, v);
    kv_kubevirt_validate(v, &a, &causes);
    for (size_t i = 0; i <= ARRAY_SIZE(configurations); i++) {
        struct kv_config *c = kv_config_new(i < ARRAY_SIZE(configurations) ? parsed(configurations[i], &a) : v);

        machine(v, c, &offers, &a);
        kv_config_free(c);
    }
    return 0;
}
