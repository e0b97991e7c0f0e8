/* What the Node says, from what is known: labels that come and go, conditions, capacities, the report. */
#include "json/json_test.h"

#include <stdio.h>

#include "handler/internal.h"

static bool probe(struct vmm_version *ret, struct error *err)
{
    ret->kvm = ret->tcg = true;
    return vmm_version_parse(STR("emulator 7.2.22"), ret, err);
}

static bool probe_small(struct vmm_version *ret, struct error *err)
{
    ret->kvm = true;
    return vmm_version_parse(STR("small v1.16.1"), ret, err);
}

static bool probe_none(struct vmm_version *ret, struct error *err)
{
    (void)ret;
    return error_set(err, ERROR_INTERNAL, "it is not itself today");
}

static const struct vmm_driver qemu = {.name = "qemu", .program = "", .probe = probe};
static const struct vmm_driver small = {.name = "firecracker", .program = "", .probe = probe_small};
static const struct vmm_driver none = {.name = "cloud-hypervisor", .program = "", .probe = probe_none};
static const struct vmm_driver *const drivers[] = {&qemu, &small, &none, NULL};

static struct arena a;
static struct loop *l;
static struct handler h;

static int setup(void **state)
{
    (void)state;
    memset(&h, 0, sizeof h);
    l = loop_new_fake();
    h.host = host_new(l, &(struct host_options){.kvm = "/nonexistent", .mshv = "/nonexistent", .drivers = drivers, .dirfd = -1}, NULL,
                      NULL, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    host_free(h.host);
    loop_free(l);
    arena_done(&a);
    return 0;
}

/* As on a machine where it works. */
static void kvm_works(bool yes)
{
    h.host->kvm.s.known = true;
    h.host->kvm.r.verdict = yes ? PROBE_WORKS : PROBE_BROKEN;
    snprintf(h.host->kvm.r.reason, sizeof h.host->kvm.r.reason, "%s", yes ? "it ran" : "it hangs");
}

static void labels(void **state)
{
    (void)state;
    assert_text(offer_labels(&h, json_object(&a, "x", json_new_z(&a, "y"), NULL), false, &a), "{\"x\":\"y\"}"); /* nothing is known */
    host_wait(h.host);
    assert_text(offer_labels(&h, NULL, false, &a),
                "{\"vireo.io/vmm-qemu\":\"true\",\"vireo.io/vmm-qemu-version\":\"7.2.22\",\"vireo.io/vmm-qemu-level\":\"702\","
                "\"vireo.io/accelerator-tcg\":\"true\",\"vireo.io/kvm\":\"absent\"}");
    kvm_works(true);
    assert_string_equal(arena_strdup(&a, json_str(json_get(offer_labels(&h, NULL, false, &a), "vireo.io/vmm-firecracker-level"))), "116");
    h.allowed = (char[]){"firecracker"};
    kvm_works(false);
    assert_text(offer_labels(&h, NULL, true, &a), /* a patch takes away what is not so any more */
                "{\"vireo.io/vmm-qemu\":null,\"vireo.io/vmm-qemu-version\":null,\"vireo.io/vmm-qemu-level\":null,"
                "\"vireo.io/vmm-firecracker\":null,\"vireo.io/vmm-firecracker-version\":null,\"vireo.io/vmm-firecracker-level\":null,"
                "\"vireo.io/vmm-cloud-hypervisor\":null,\"vireo.io/vmm-cloud-hypervisor-version\":null,"
                "\"vireo.io/vmm-cloud-hypervisor-level\":null,\"vireo.io/accelerator-kvm\":null,\"vireo.io/accelerator-mshv\":null,"
                "\"vireo.io/accelerator-tcg\":\"true\",\"vireo.io/kvm\":\"broken\"}");
}

static void expect(struct offer_condition c, const char *status, const char *reason, const char *message)
{
    assert_string_equal(c.status, status);
    assert_string_equal(c.reason, reason);
    if (!strstr(c.message, message))
        fail_msg("'%s' has no '%s'", c.message, message);
}

static void conditions(void **state)
{
    (void)state;
    expect(offer_kvm(&h, &a), "Unknown", "KVMProbing", "still running");
    expect(offer_hypervisors(&h, &a), "Unknown", "HypervisorsProbing", "being probed");
    host_wait(h.host);
    expect(offer_kvm(&h, &a), "False", "KVMAbsent", "/nonexistent is not there; load kvm_intel");
    expect(offer_hypervisors(&h, &a), "True", "HypervisorsFound",
           "qemu 7.2.22 (tcg); not firecracker: firecracker needs KVM, which does not work here: /nonexistent is not there; not "
           "cloud-hypervisor: ");
    kvm_works(true);
    expect(offer_kvm(&h, &a), "True", "KVMWorks", "it ran");
    expect(offer_hypervisors(&h, &a), "True", "HypervisorsFound", "qemu 7.2.22 (kvm tcg), firecracker 1.16.1 (kvm); not cloud");
    h.allowed = (char[]){""};
    expect(offer_hypervisors(&h, &a), "False", "NoHypervisor", "none can be used; not qemu: the Node's annotation");
}

static void capacities(void **state)
{
    (void)state;
    host_wait(h.host);
    assert_text(offer_resources(&h, NULL, "1000", &a), "{\"devices.kubevirt.io/kvm\":\"0\"}");
    kvm_works(true);
    h.host->mshv.r.verdict = PROBE_BROKEN;
    assert_text(offer_resources(&h, NULL, "1000", &a), "{\"devices.kubevirt.io/kvm\":\"1000\",\"devices.kubevirt.io/mshv\":\"0\"}");
}

static void the_report_is_json_in_an_annotation(void **state)
{
    const struct json *report;

    (void)state;
    host_wait(h.host);
    h.answered = (char[]){"r1"};
    report = parse(&a, arena_strdup(&a, json_str(json_get(offer_annotations(&h, NULL, &a), "vireo.io/hypervisor-report"))));
    assert_string_equal(arena_strdup(&a, json_str_at(report, "requested")), "r1");
    assert_int_equal(json_len(json_get(report, "vmms")), 3);
    assert_string_equal(arena_strdup(&a, json_str_at(report, "vmms/2/state")), "broken");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(labels), T(conditions), T(capacities), T(the_report_is_json_in_an_annotation)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
