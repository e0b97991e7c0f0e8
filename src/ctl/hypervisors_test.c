/* virtctl hypervisors: tables of what nodes said, and fields held against the capability table. */
#include "json/json_test.h"

#include "ctl/hypervisors.h"

static struct arena a;

#define NODE(name, vmms) "{\"metadata\":{\"name\":\"" name "\",\"annotations\":{\"vireo.io/hypervisor-report\":\"{\\\"vmms\\\":[" vmms "]}\"}}}"
#define VMM(name, rest) "{\\\"name\\\":\\\"" name "\\\"," rest "}"

static const struct json *of(const struct json *list, const char *name)
{
    json_each_item(v, list)
        if (str_is(json_str_at(v, "name"), name))
            return v;
    fail_msg("no %s", name);
    return NULL;
}

static void nodes_add_up(void **state)
{
    AUTO(buf_done) struct buf b = {0};
    const struct json *nodes = parse(&a, "[" NODE("x", VMM("qemu", "\\\"usable\\\":true,\\\"version\\\":\\\"7.2.1\\\",\\\"accelerators\\\":[\\\"tcg\\\"]") ","
                                                     VMM("firecracker", "\\\"usable\\\":false,\\\"reason\\\":\\\"it needs KVM\\\"")) ","
                                         NODE("y", VMM("qemu", "\\\"usable\\\":true,\\\"version\\\":\\\"9.0.0\\\",\\\"accelerators\\\":[\\\"kvm\\\",\\\"tcg\\\"]")) ",{\"metadata\":{\"name\":\"z\"}}]");
    const struct json *all = hypervisors_of_cluster(nodes, NULL, &a), *qemu = of(all, "qemu"), *fc = of(all, "firecracker");

    (void)state;
    assert_int_equal(json_i64_at(qemu, "usable", 0), 2);
    assert_int_equal(json_i64_at(qemu, "nodes", 0), 3);
    assert_true(json_bool_at(qemu, "default", false));
    assert_text(json_get(qemu, "versions"), "[\"7.2.1\",\"9.0.0\"]");
    assert_text(json_get(qemu, "accelerators"), "[\"tcg\",\"kvm\"]");
    assert_int_equal(json_i64_at(fc, "usable", 9), 0);
    assert_text(json_at(fc, "reasons/0"), "{\"node\":\"x\",\"reason\":\"it needs KVM\"}");
    hypervisors_table(all, &b);
    assert_non_null(strstr(b.p, "NAME "));
    assert_non_null(strstr(b.p, "tcg,kvm"));
    assert_non_null(strstr(b.p, "x: it needs KVM (and 2 more)"));
}

static void the_kubevirt_object_allows(void **state)
{
    const struct json *all = hypervisors_of_cluster(json_array(&a, NULL), parse(&a, "{\"spec\":{\"configuration\":{\"hypervisors\":[{\"name\":\"firecracker\"}]}}}"), &a);
    AUTO(buf_done) struct buf b = {0};

    (void)state;
    assert_true(json_bool_at(of(all, "firecracker"), "default", false));
    assert_false(json_bool_at(of(all, "qemu"), "allowed", true));
    hypervisors_table(all, &b);
    assert_non_null(strstr(b.p, "spec.configuration.hypervisors does not name it"));
}

static void fields_are_explained(void **state)
{
    static const struct {
        const char *field, *vmm, *verdict; /* of the first row */
        const char *words;
    } table[] = {
        {"spec.domain.devices.tpm", "firecracker", "never", "never; refused: switched on ("},
        {"vmi.spec.domain.devices.tpm.enabled", "firecracker", "never", "never; refused: switched on ("},
        {"spec.template.spec.domain.devices.disks[0].disk.bus", "firecracker", "limited", "limited, since version 1.7; refused: other than virtio ("},
        {"spec.domain.devices.disks.disk.bus", "firecracker", "limited", "refused: other than virtio ("},
        {"spec.domain.cpu.cores", "qemu", "honoured", "honoured, since version 5.2\n"},
    };
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(buf_done) struct buf b = {0};

        if (!hypervisors_explain(table[i].field, &a, &v, &err))
            fail_msg("%s: %s", table[i].field, error_text(&err));
        assert_true(str_starts(json_str_at(v, "hypervisors/0/rows/0/path"), STR("spec.domain.")));
        if (!str_is(json_str_at(of(json_get(v, "hypervisors"), table[i].vmm), "rows/0/verdict"), table[i].verdict)) {
            AUTO_FREE char *text = json_text(v);
            fail_msg("%s: %s", table[i].field, text);
        }
        hypervisors_explain_table(v, &b);
        assert_non_null(strstr(b.p, table[i].vmm));
        if (!strstr(b.p, table[i].words))
            fail_msg("%s: no '%s' in %s", table[i].field, table[i].words, b.p);
    }
    assert_false(hypervisors_explain("spec.domain.devices.tmp", &a, &v, &err));
    assert_false(hypervisors_explain("", &a, &v, &err));
}

static int done(void **state)
{
    (void)state;
    arena_done(&a);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nodes_add_up, done),
        cmocka_unit_test_teardown(the_kubevirt_object_allows, done),
        cmocka_unit_test_teardown(fields_are_explained, done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
