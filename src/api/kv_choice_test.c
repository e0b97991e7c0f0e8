#include "base/base_test.h"
#include "api/kv_choice.h"

#include "api/meta.h"
#include "api/vmm_caps.h"
#include "base/cleanup.h"

static const struct json *parse(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    char *copy;

    if (!text)
        return NULL;
    copy = arena_strdup(a, str_of(text));
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (!json_parse(str_of(copy), a, &v, &err))
        fail_msg("%s: %s", copy, error_text(&err));
    return v;
}

static struct kv_config *config_of(struct arena *a, const char *configuration)
{
    return kv_config_new(parse(a, arena_printf(a, "{'spec':{'configuration':%s}}", configuration ? configuration : "{}")));
}

static const struct json *node(struct arena *a, const char *labels)
{
    return parse(a, arena_printf(a, "{'metadata':{'labels':{%s}}}", labels));
}

static void fixed_uuid(void *data, char ret[37])
{
    (void)data;
    memcpy(ret, "00000000-0000-4000-8000-000000000001", 37);
}
static const struct kv_random fixed = {fixed_uuid, NULL};

/* --- the KubeVirt object ----------------------------------------------------------------------------------------------- */

static void what_the_kubevirt_object_may_say(void **state)
{
    static const struct {
        const char *configuration, *field, *text; /* field NULL: fine */
    } cases[] = {
        {"{}", NULL, NULL},
        {"{'hypervisors':[]}", NULL, NULL},
        {"{'hypervisors':[{'name':'kvm'}]}", NULL, NULL},
        {"{'hypervisors':[{}]}", NULL, NULL}, /* kvm, as upstream */
        {"{'hypervisors':[{'name':'hyperv-direct'},{'name':'kvm'},{'name':'qemu-microvm'}]}", NULL, NULL},
        {"{'hypervisors':[{'name':'qemu-microvm'},{'name':'qemu'}]}", NULL, NULL},
        {"{'hypervisors':[{'name':'kvm'},{'name':'xen'}]}", "spec.configuration.hypervisors[1].name", "\"hyperv-direct\""},
        {"{'hypervisors':[{'name':'auto'}]}", "spec.configuration.hypervisors[0].name", "Unsupported value: \"auto\""},
        {"{'hypervisors':[{'name':'kvm'},{'name':'kvm'}]}", "spec.configuration.hypervisors[1].name", "Duplicate value: \"kvm\""},
        {"{'hypervisors':[{},{'name':'kvm'}]}", "spec.configuration.hypervisors[1].name", "Duplicate value: \"kvm\""},
        {"{'hypervisorBackend':{'name':'kvm','featureGates':['HypervisorAbstractionLayer']}}", NULL, NULL},
        {"{'hypervisorBackend':{'name':'bhyve'}}", "spec.configuration.hypervisorBackend.name", "\"bhyve\""},
        {"{'hypervisorBackend':{'name':'kvm','featureGates':['Other']}}", "spec.configuration.hypervisorBackend.featureGates[0]",
         "developerConfiguration.featureGates"},
        {"{'hypervisorBackend':{'name':'kvm'},'hypervisors':[{'name':'kvm'},{'name':'qemu-microvm'}]}", NULL, NULL},
        {"{'hypervisorBackend':{'name':'qemu-microvm'},'hypervisors':[{'name':'kvm'}]}",
         "spec.configuration.hypervisorBackend.name", "contradicts spec.configuration.hypervisors[0].name, which is \"kvm\""},
        {"{'hypervisors':[{'name':'a'},{'name':'b'},{'name':'c'},{'name':'d'},{'name':'e'},{'name':'f'},{'name':'g'},{'name':'h'},"
         "{'name':'i'},{'name':'j'},{'name':'k'},{'name':'l'},{'name':'m'},{'name':'n'},{'name':'o'},{'name':'p'},{'name':'q'}]}",
         "spec.configuration.hypervisors", "at most 16"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};

        kv_kubevirt_validate(parse(&a, arena_printf(&a, "{'spec':{'configuration':%s}}", cases[i].configuration)), &a, &causes);
        if (!cases[i].field) {
            if (causes.n)
                fail_msg("%s: %s: %s", cases[i].configuration, causes.p[0].field, causes.p[0].message);
            continue;
        }
        if (causes.n == 0 || strcmp(causes.p[0].field, cases[i].field) != 0 || !strstr(causes.p[0].message, cases[i].text))
            fail_msg("%s: %s: %s", cases[i].configuration, causes.n ? causes.p[0].field : "", causes.n ? causes.p[0].message : "");
    }
}

static void what_it_allows(void **state)
{
    static const struct {
        const char *configuration, *usual, *allowed, *forbidden;
        bool kvm, mshv; /* for qemu */
    } cases[] = {
        {"{}", "qemu", "firecracker", NULL, true, true},
        {"{'hypervisors':[{'name':'kvm'}]}", "qemu", "qemu", "firecracker", true, false},
        {"{'hypervisors':[{'name':'hyperv-direct'}]}", "qemu", "qemu", "qemu-microvm", false, true},
        {"{'hypervisors':[{'name':'hyperv-direct'},{'name':'kvm'}]}", "qemu", "qemu", "qemu-microvm", true, true},
        {"{'hypervisors':[{'name':'qemu'}]}", "qemu", "qemu", "qemu-microvm", true, true},
        {"{'hypervisors':[{'name':'qemu-microvm'},{'name':'kvm'}]}", "qemu-microvm", "qemu", "firecracker", true, false},
        {"{'hypervisorBackend':{'name':'qemu-microvm'}}", "qemu-microvm", "qemu-microvm", "qemu", true, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct kv_config *c = config_of(&a, cases[i].configuration);

        if (!str_is(kv_vmm_default(c), cases[i].usual) || !kv_vmm_allowed(c, str_of(cases[i].allowed))
            || (cases[i].forbidden && kv_vmm_allowed(c, str_of(cases[i].forbidden)))
            || kv_accelerator_allowed(c, STR("qemu"), "kvm") != cases[i].kvm
            || kv_accelerator_allowed(c, STR("qemu"), "mshv") != cases[i].mshv)
            fail_msg("%s", cases[i].configuration);
        kv_config_free(c);
    }
}

/* --- the choice ---------------------------------------------------------------------------------------------------------- */

#define KERNEL "'firmware':{'kernelBoot':{'container':{'image':'k:1','kernelPath':'/k'}}}"
#define NOTED(wish) "'metadata':{'name':'v','annotations':{'vireo.io/hypervisor':'" wish "'}},"
#define VM(meta, domain) "{" meta "'spec':{'runStrategy':'Always','template':{'spec':{'domain':{" domain "}}}}}"
#define BOTH "'vireo.io/vmm-qemu':'true','vireo.io/vmm-qemu-level':'702','vireo.io/vmm-qemu-microvm':'true','vireo.io/vmm-qemu-microvm-level':'702'"
#define PLENTY BOTH ",'vireo.io/vmm-firecracker':'true','vireo.io/vmm-firecracker-level':'116'"
#define SATA KERNEL ",'devices':{'disks':[{'name':'d','disk':{'bus':'sata'}}]}"
#define VIRTIO KERNEL ",'devices':{'disks':[{'name':'d','disk':{'bus':'virtio'}}]}"

#define VM_DISK(meta)                                                                                                            \
    "{" meta "'spec':{'runStrategy':'Always','template':{'spec':{'domain':{'devices':{'disks':[{'name':'d','disk':{}}]}},'"      \
    "volumes':[{'name':'d','persistentVolumeClaim':{'claimName':'c'}}]}}}}"

struct choice {
    const char *configuration, *offers, *vm;
    const char *vmm;         /* recorded; NULL: nothing */
    const char *field, *text; /* of a refusal */
};

static void check_choice(const struct choice *x, bool bare)
{
    AUTO(arena_done) struct arena a = {0};
    struct kv_config *c = config_of(&a, x->configuration);
    struct kv_offers offers = {0};
    struct schema_causes causes = {0};
    const struct json *o = parse(&a, x->vm);
    struct str got;

    if (x->offers)
        kv_offers_add(&offers, node(&a, x->offers));
    if (bare) {
        o = json_with(&a, o, "spec", json_at(o, "spec/template/spec"));
        o = kv_vmi_choose(o, NULL, c, &offers, false, &a, &causes);
    } else {
        o = kv_vm_choose(o, NULL, c, &offers, &a, &causes);
    }
    kv_config_free(c);
    got = meta_annotation(o, KV_ANNOTATION_VMM);
    if (x->field) {
        if (causes.n != 1 || strcmp(causes.p[0].field, x->field) != 0 || !strstr(causes.p[0].message, x->text))
            fail_msg("%s: %s: %s", x->vm, causes.n ? causes.p[0].field : "", causes.n ? causes.p[0].message : "not refused");
        return;
    }
    if (causes.n)
        fail_msg("%s: refused: %s: %s", x->vm, causes.p[0].field, causes.p[0].message);
    if (x->vmm ? !str_is(got, x->vmm) : got.n > 0)
        fail_msg("%s with %s and %s: " STR_FMT ", wanted %s", x->vm, x->configuration ? x->configuration : "{}",
                 x->offers ? x->offers : "no node", STR_ARG(got), x->vmm ? x->vmm : "nothing");
}

#define WISH "metadata.annotations.vireo.io/hypervisor"

static void choices(void **state)
{
    static const struct choice cases[] = {
        /* who writes nothing */
        {NULL, PLENTY, VM("", KERNEL), NULL, NULL, NULL},
        {"{'hypervisors':[{'name':'kvm'}]}", PLENTY, VM("", KERNEL), NULL, NULL, NULL},
        {"{'hypervisors':[{'name':'qemu-microvm'},{'name':'kvm'}]}", PLENTY, VM("", KERNEL), "qemu-microvm", NULL, NULL},
        /* by name */
        {NULL, NULL, VM(NOTED("qemu"), KERNEL), "qemu", NULL, NULL},
        {NULL, NULL, VM(NOTED("qemu-microvm"), KERNEL), "qemu-microvm", NULL, NULL},
        {NULL, NULL, VM(NOTED("xen"), KERNEL), NULL, WISH, "supported values: \"auto\", \""},
        {NULL, NULL, VM(NOTED("kvm"), KERNEL), NULL, WISH, "Unsupported value: \"kvm\""},
        {"{'hypervisors':[{'name':'kvm'}]}", NULL, VM(NOTED("qemu-microvm"), KERNEL), NULL, WISH,
         "the KubeVirt object's spec.configuration.hypervisors allows"},
        {"{'hypervisorBackend':{'name':'kvm'}}", NULL, VM(NOTED("qemu-microvm"), KERNEL), NULL, WISH,
         "the KubeVirt object's spec.configuration.hypervisorBackend allows"},
        /* auto: the lightest that honours what is written, of those that are there */
        {NULL, BOTH, VM(NOTED("auto"), KERNEL), "qemu-microvm", NULL, NULL},
        {NULL, BOTH, VM(NOTED("auto"), VIRTIO), "qemu-microvm", NULL, NULL},
        {NULL, BOTH, VM(NOTED("auto"), SATA), "qemu", NULL, NULL},
        {NULL, BOTH, VM(NOTED("auto"), "'cpu':{'cores':1}"), "qemu", NULL, NULL}, /* nothing to boot but by firmware */
        {NULL, "'vireo.io/vmm-qemu':'true'", VM(NOTED("auto"), KERNEL), "qemu", NULL, NULL},
        /* an image of a disk may have no driver for virtio-mmio: auto leaves it to QEMU, who knows better says so */
        {NULL, BOTH, VM_DISK(NOTED("auto")), "qemu", NULL, NULL},
        {NULL, "'vireo.io/vmm-qemu-microvm':'true'", VM_DISK(NOTED("auto")), "qemu", NULL, NULL},
        {NULL, BOTH, VM_DISK(NOTED("qemu-microvm")), "qemu-microvm", NULL, NULL},
        {"{'hypervisors':[{'name':'qemu-microvm'}]}", BOTH, VM_DISK(NOTED("auto")), "qemu-microvm", NULL, NULL},
        {NULL, "'vireo.io/vmm-qemu':'false','vireo.io/vmm-qemu-microvm':'true'", VM(NOTED("auto"), KERNEL), "qemu-microvm", NULL,
         NULL},
        {NULL, NULL, VM(NOTED("auto"), KERNEL), "qemu", NULL, NULL}, /* no node has said anything yet: the usual one */
        {"{'hypervisors':[{'name':'kvm'}]}", PLENTY, VM(NOTED("auto"), KERNEL), "qemu", NULL, NULL},
        /* what nothing honours is for validation to say, of the VMM that lacks least */
        {NULL, BOTH, VM(NOTED("auto"), "'machine':{'type':'q35'},'clock':{'timer':{'hpet':{'tickPolicy':'delay'}}}"), "qemu", NULL,
         NULL},
        /* a record that comes along counts for nothing */
        {NULL, BOTH, VM("'metadata':{'annotations':{'vireo.io/vmm':'firecracker'}},", KERNEL), NULL, NULL, NULL},
        {NULL, BOTH, VM("'metadata':{'annotations':{'vireo.io/vmm':'qemu','vireo.io/hypervisor':'auto'}},", KERNEL),
         "qemu-microvm", NULL, NULL},
        /* mistakes are for validation */
        {NULL, NULL, "{'metadata':7,'spec':{'template':{'spec':3}}}", NULL, NULL, NULL},
        {"{'hypervisors':[{'name':'qemu-microvm'}]}", NULL, "{'metadata':{'annotations':7},'spec':{'template':{}}}", NULL, NULL, NULL},
        {NULL, NULL, VM("'metadata':{'annotations':{'vireo.io/hypervisor':7}},", KERNEL), NULL, NULL, NULL},
        {NULL, BOTH, "{" NOTED("auto") "'spec':{'template':{'spec':3}}}", "qemu", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        check_choice(&cases[i], false);
        check_choice(&cases[i], true);
    }
}

static void the_template_goes_before_the_machine(void **state)
{
    static const struct choice cases[] = {
        {NULL, NULL,
         "{'metadata':{'annotations':{'vireo.io/hypervisor':'qemu'}},'spec':{'template':{'metadata':{'annotations':"
         "{'vireo.io/hypervisor':'qemu-microvm'}},'spec':{'domain':{}}}}}",
         "qemu-microvm", NULL, NULL},
        {NULL, NULL,
         "{'spec':{'template':{'metadata':{'annotations':{'vireo.io/hypervisor':'x'}},'spec':{'domain':{}}}}}", NULL,
         "spec.template.metadata.annotations.vireo.io/hypervisor", "\"x\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        check_choice(&cases[i], false);
}

/* --- the record ------------------------------------------------------------------------------------------------------------ */

#define META(annotations) "{'metadata':{'annotations':{" annotations "}},"
#define SPEC(domain) "'spec':{'template':{'spec':{'domain':{" domain "}}}}}"
#define AUTO_MICROVM META("'vireo.io/hypervisor':'auto','vireo.io/vmm':'qemu-microvm'")

static void records_stay(void **state)
{
    static const struct {
        const char *old, *new, *vmm;
    } cases[] = {
        /* whatever else changes */
        {AUTO_MICROVM SPEC(KERNEL), AUTO_MICROVM SPEC(SATA), "qemu-microvm"},
        /* kubectl replace, and whoever applies without knowing the record */
        {AUTO_MICROVM SPEC(KERNEL), META("'vireo.io/hypervisor':'auto'") SPEC(KERNEL), "qemu-microvm"},
        {AUTO_MICROVM SPEC(KERNEL), META("'vireo.io/hypervisor':'auto','vireo.io/vmm':'firecracker'") SPEC(KERNEL), "qemu-microvm"},
        {META("") SPEC(KERNEL), META("'vireo.io/vmm':'firecracker'") SPEC(KERNEL), NULL},
        /* another wish */
        {AUTO_MICROVM SPEC(KERNEL), META("'vireo.io/hypervisor':'qemu','vireo.io/vmm':'qemu-microvm'") SPEC(KERNEL), "qemu"},
        {AUTO_MICROVM SPEC(KERNEL), META("'vireo.io/vmm':'qemu-microvm'") SPEC(KERNEL), NULL},
        {META("") SPEC(KERNEL), META("'vireo.io/hypervisor':'auto'") SPEC(KERNEL), "qemu-microvm"},
        /* the same wish again: a new text asks, once */
        {META("'vireo.io/hypervisor':'auto','vireo.io/vmm':'qemu'") SPEC(KERNEL),
         META("'vireo.io/hypervisor':'auto','vireo.io/vmm':'qemu','vireo.io/hypervisor-decide':'1'") SPEC(KERNEL), "qemu-microvm"},
        {META("'vireo.io/hypervisor':'auto','vireo.io/vmm':'qemu','vireo.io/hypervisor-decide':'1'") SPEC(KERNEL),
         META("'vireo.io/hypervisor':'auto','vireo.io/vmm':'qemu','vireo.io/hypervisor-decide':'1'") SPEC(KERNEL), "qemu"},
        {META("'vireo.io/hypervisor':'auto','vireo.io/vmm':'qemu','vireo.io/hypervisor-decide':'1'") SPEC(KERNEL),
         META("'vireo.io/hypervisor':'auto','vireo.io/vmm':'qemu'") SPEC(KERNEL), "qemu"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct kv_config *c = config_of(&a, NULL);
        struct kv_offers offers = {0};
        struct schema_causes causes = {0};
        const struct json *o;

        kv_offers_add(&offers, node(&a, BOTH));
        o = kv_vm_choose(parse(&a, cases[i].new), parse(&a, cases[i].old), c, &offers, &a, &causes);
        kv_config_free(c);
        assert_int_equal(causes.n, 0);
        if (cases[i].vmm ? !str_is(meta_annotation(o, KV_ANNOTATION_VMM), cases[i].vmm)
                         : meta_annotation(o, KV_ANNOTATION_VMM).n > 0)
            fail_msg("case %zu: " STR_FMT, i, STR_ARG(meta_annotation(o, KV_ANNOTATION_VMM)));
    }
}

static void a_record_that_is_in_the_way_says_how_to_go_on(void **state)
{
    static const struct {
        const char *new;
        bool hint;
    } cases[] = {
        {AUTO_MICROVM SPEC(SATA), true},
        {META("'vireo.io/hypervisor':'qemu-microvm','vireo.io/vmm':'qemu-microvm'") SPEC(SATA), false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct kv_config *c = config_of(&a, NULL);
        struct schema_causes causes = {0};
        const struct json *vm = parse(&a, cases[i].new), *old = parse(&a, AUTO_MICROVM SPEC(KERNEL));

        kv_unsupported(json_at(vm, "spec/template/spec"), kv_vmm(vm), "spec.template.spec", c, &a, &causes);
        assert_int_equal(causes.n, 1);
        assert_string_equal(causes.p[0].field, "spec.template.spec.domain.devices.disks[0].disk.bus");
        kv_vm_choice_hint(vm, old, c, NULL, &a, &causes);
        kv_config_free(c);
        assert_int_equal(causes.n, cases[i].hint ? 2 : 1);
        if (cases[i].hint)
            assert_non_null(strstr(causes.p[1].message, "give the annotation vireo.io/hypervisor-decide a new text"));
    }
}

/* What admission filled in when the machine was QEMU's belongs to nobody, and is no reason to keep it there. */
static void deciding_again_knows_what_was_filled_in(void **state)
{
    static const char annotations[] = "'annotations':{'vireo.io/hypervisor':'auto'}";
    static const char domain[] = KERNEL ",'machine':{'type':'q35'}";
    AUTO(arena_done) struct arena a = {0};
    struct kv_config *c = config_of(&a, NULL);
    struct kv_offers offers = {0};
    struct schema_causes causes = {0};
    const struct json *spec = parse(&a, arena_printf(&a, "{'template':{'spec':{'domain':{%s}}}}", domain)), *old, *vm;

    (void)state;
    kv_offers_add(&offers, node(&a, BOTH));
    spec = json_with_at(&a, spec, "template/spec/domain/firmware/serial", json_new_z(&a, "s"));
    old = json_with(&a, parse(&a, "{'metadata':{'managedFields':[{'fieldsV1':{'f:spec':{}}}]}}"), "spec", spec);
    vm = json_with(&a, old, "metadata", parse(&a, arena_printf(&a, "{%s}", annotations)));
    vm = kv_vm_choose(vm, old, c, &offers, &a, &causes);
    assert_true(str_is(kv_vmm(vm), "qemu-microvm"));
    assert_true(str_is(json_str_at(vm, "spec/template/spec/domain/machine/type"), "microvm")); /* as if it had been made so */
    assert_null(json_at(vm, "spec/template/spec/domain/firmware/serial")); /* it could not show it */

    /* written, it holds */
    old = json_with(&a, old, "metadata",
                    parse(&a, "{'managedFields':[{'fieldsV1':{'f:spec':{'f:template':{'f:spec':{'f:domain':{'f:machine':"
                              "{'f:type':{}}}}}}}}]}"));
    vm = json_with(&a, old, "metadata", parse(&a, arena_printf(&a, "{%s}", annotations)));
    vm = kv_vm_choose(vm, old, c, &offers, &a, &causes);
    assert_true(str_is(kv_vmm(vm), "qemu"));
    assert_true(str_is(json_str_at(vm, "spec/template/spec/domain/machine/type"), "q35"));

    /* and back: QEMU's defaults return */
    old = parse(&a, AUTO_MICROVM SPEC(KERNEL));
    vm = kv_vm_choose(parse(&a, META("'vireo.io/hypervisor':'qemu'") SPEC(KERNEL)), old, c, &offers, &a, &causes);
    assert_true(str_is(json_str_at(vm, "spec/template/spec/domain/machine/type"), "q35"));
    vm = kv_vm_choose(parse(&a, META("'vireo.io/hypervisor':'firecracker'") SPEC(KERNEL ",'machine':{'type':'q35'}")),
                      parse(&a, "{'metadata':{'managedFields':[{'fieldsV1':{}}]},'spec':{'template':{'spec':{'domain':{" KERNEL
                                ",'machine':{'type':'q35'}}}}}}"), c, &offers, &a, &causes);
    assert_null(json_at(vm, "spec/template/spec/domain/machine")); /* it has no types of boards */
    assert_int_equal(causes.n, 0);
    kv_config_free(c);
}

/* Its VirtualMachine's record is what counts, whatever the template or the default of the day says. */
static void instances_follow_their_machine(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct kv_config *c = config_of(&a, "{'hypervisors':[{'name':'qemu-microvm'},{'name':'kvm'}]}");
    struct kv_config *narrow = config_of(&a, "{'hypervisors':[{'name':'kvm'}]}");
    struct schema_causes causes = {0};
    const struct json *vm, *vmi;

    (void)state;
    vm = parse(&a, "{'metadata':{'name':'v','namespace':'n','uid':'u','annotations':{'vireo.io/vmm':'qemu-microvm'}},'spec':{"
                   "'template':{'metadata':{'annotations':{'vireo.io/vmm':'fake','vireo.io/left-out':'x','a':'b'}},"
                   "'spec':{'domain':{" KERNEL "}}}}}");
    vmi = kv_vmi_from_vm(vm, &a);
    assert_true(str_is(kv_vmm(vmi), "qemu-microvm"));
    assert_null(json_get(json_at(vmi, "metadata/annotations"), KV_ANNOTATION_LEFT_OUT));
    assert_true(str_is(meta_annotation(vmi, "a"), "b"));
    assert_null(json_at(vmi, "spec/domain/firmware/uuid"));
    vmi = kv_vmi_choose(vmi, NULL, c, NULL, true, &a, &causes);
    assert_true(str_is(kv_vmm(vmi), "qemu-microvm"));
    assert_int_equal(causes.n, 0);
    /* what the administrator has taken away since */
    kv_vmi_choose(vmi, NULL, narrow, NULL, true, &a, &causes);
    assert_int_equal(causes.n, 1);
    assert_string_equal(causes.p[0].field, "metadata.annotations.vireo.io/vmm");
    assert_non_null(strstr(causes.p[0].message, "qemu-microvm is not among"));

    /* one without a record is QEMU's: as it was before there was a choice */
    vmi = kv_vmi_choose(kv_vmi_from_vm(json_with_at(&a, vm, "metadata/annotations", NULL), &a), NULL, c, NULL, true, &a, &causes);
    assert_true(str_is(kv_vmm(vmi), "qemu"));
    assert_true(json_str_at(vmi, "spec/domain/firmware/uuid").n > 0);
    /* users do not choose by pretending */
    vmi = kv_vmi_choose(kv_vmi_from_vm(vm, &a), NULL, narrow, NULL, false, &a, &causes);
    assert_true(str_is(kv_vmm(vmi), "qemu"));
    kv_config_free(c);
    kv_config_free(narrow);
}

/* --- defaults ---------------------------------------------------------------------------------------------------------------- */

static const struct json *machine(struct arena *a, const char *vmm, const char *spec, struct schema_causes *causes)
{
    struct kv_config *c = config_of(a, NULL);
    const struct json *vmi = parse(a, arena_printf(a, "{'metadata':{'name':'v','annotations':{'vireo.io/hypervisor':'%s'}},'spec':%s}",
                                                   vmm, spec));

    if (!json_at(vmi, "spec/domain/memory") && !json_at(vmi, "spec/domain/resources"))
        vmi = json_with_at(a, vmi, "spec/domain/memory/guest", json_new_z(a, "64Mi"));
    vmi = kv_vmi_choose(vmi, NULL, c, NULL, false, a, causes);
    vmi = json_copy(a, kv_vmi_default(vmi, c, &fixed, a));
    kv_vmi_validate(vmi, NULL, c, false, a, causes);
    kv_unsupported(json_get(vmi, "spec"), kv_vmm(vmi), "spec", c, a, causes);
    kv_config_free(c);
    return vmi;
}

/* A machine that says no more than it must is one that every VMM takes: nothing that is filled in is refused. */
static void no_default_is_refused(void **state)
{
    static const char *const specs[] = {
        "{'domain':{" KERNEL ",'memory':{'guest':'64Mi'}}}",
        "{'domain':{" KERNEL ",'memory':{'guest':'2Gi'},'cpu':{'sockets':1}}}", /* enough to be given room to grow */
        "{'domain':{" KERNEL ",'resources':{'requests':{'memory':'1Gi','cpu':'2'}}}}",
        "{'domain':{" KERNEL ",'memory':{'guest':'1Gi'}},'volumes':[{'name':'e','emptyDisk':{'capacity':'1Gi'}},"
        "{'name':'c','cloudInitNoCloud':{'userData':'#!'}}]}",
        "{'domain':{" KERNEL ",'memory':{'guest':'1Gi'},'devices':{'disks':[{'name':'e','disk':{}}],'interfaces':[{'name':'d',"
        "'masquerade':{}}]}},'networks':[{'name':'d','pod':{}}],'volumes':[{'name':'e','emptyDisk':{'capacity':'1Gi'}}]}",
    };

    (void)state;
    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++)
        for (size_t i = 0; i < ARRAY_SIZE(specs) && (*v)->built; i++) {
            AUTO(arena_done) struct arena a = {0};
            struct schema_causes causes = {0};
            const struct json *vmi = machine(&a, (*v)->name, specs[i], &causes);
            AUTO_FREE char *text = json_text(vmi);

            if (causes.n)
                fail_msg("%s: %s: %s\n%s", (*v)->name, causes.p[0].field, causes.p[0].message, text);
            if (!str_is(kv_vmm(vmi), (*v)->name))
                fail_msg("%s: " STR_FMT, (*v)->name, STR_ARG(kv_vmm(vmi)));
        }
}

static void what_is_left_out_is_said(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct schema_causes causes = {0};
    const struct json *vmi = machine(&a, "qemu-microvm", "{'domain':{" KERNEL "},'volumes':[{'name':'e','emptyDisk':{'capacity':"
                                                         "'1Gi'}}]}", &causes);
    struct str left = meta_annotation(vmi, KV_ANNOTATION_LEFT_OUT);
    const char *text = arena_strdup(&a, left);

    (void)state;
    assert_int_equal(causes.n, 0);
    assert_true(str_starts(left, STR("graphics (")));
    assert_non_null(strstr(text, ", identity ("));
    assert_true(json_is(json_at(vmi, "spec/domain/devices/autoattachGraphicsDevice"), JSON_FALSE));
    assert_null(json_at(vmi, "spec/domain/firmware/uuid"));
    assert_true(str_is(json_str_at(vmi, "spec/domain/devices/disks/0/disk/bus"), "virtio"));
    /* who does without anyway misses nothing */
    vmi = machine(&a, "qemu-microvm", "{'domain':{" KERNEL ",'devices':{'autoattachGraphicsDevice':false}}}", &causes);
    assert_null(strstr(arena_strdup(&a, meta_annotation(vmi, KV_ANNOTATION_LEFT_OUT)), "graphics"));
    /* QEMU has it all */
    vmi = machine(&a, "qemu", "{'domain':{}}", &causes);
    assert_int_equal(meta_annotation(vmi, KV_ANNOTATION_LEFT_OUT).n, 0);
    assert_null(json_at(vmi, "spec/domain/devices/autoattachGraphicsDevice"));
    assert_int_equal(causes.n, 0);
}

/* What is written is never taken away: it is refused, by its path. */
static void what_is_written_is_refused(void **state)
{
    static const struct {
        const char *spec, *field;
    } cases[] = {
        {"{'domain':{" SATA "},'volumes':[{'name':'d','emptyDisk':{'capacity':'1Gi'}}]}", "spec.domain.devices.disks[0].disk.bus"},
        {"{'domain':{" KERNEL ",'devices':{'autoattachGraphicsDevice':true}}}", "spec.domain.devices.autoattachGraphicsDevice"},
        {"{'domain':{" KERNEL ",'machine':{'type':'q35'}}}", "spec.domain.machine.type"},
        {"{'domain':{" KERNEL ",'cpu':{'sockets':1,'maxSockets':4}}}", "spec.domain.cpu.maxSockets"},
        {"{'domain':{'cpu':{'cores':1}}}", "spec.domain.firmware.kernelBoot"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};

        machine(&a, "qemu-microvm", cases[i].spec, &causes);
        if (causes.n != 1 || strcmp(causes.p[0].field, cases[i].field) != 0)
            fail_msg("%s: %zu refusals, first: %s: %s", cases[i].spec, causes.n, causes.n ? causes.p[0].field : "",
                     causes.n ? causes.p[0].message : "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_kubevirt_object_may_say),
        cmocka_unit_test(what_it_allows),
        cmocka_unit_test(choices),
        cmocka_unit_test(the_template_goes_before_the_machine),
        cmocka_unit_test(records_stay),
        cmocka_unit_test(a_record_that_is_in_the_way_says_how_to_go_on),
        cmocka_unit_test(deciding_again_knows_what_was_filled_in),
        cmocka_unit_test(instances_follow_their_machine),
        cmocka_unit_test(no_default_is_refused),
        cmocka_unit_test(what_is_left_out_is_said),
        cmocka_unit_test(what_is_written_is_refused),
    };

    if (!kv_vmm_known(STR("qemu-microvm"))) {
        print_message("skipped: this build has no second VMM to choose\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
