#include "json/json_test.h"
#include "api/types.h"

#include "base/cleanup.h"

static void test_decode(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct kv_virtual_machine_instance vmi;

    (void)state;
    assert_true(schema_decode(
        &schema_type_kv_virtual_machine_instance,
        parse(&a, "{\"metadata\":{\"name\":\"x\",\"labels\":{\"a\":\"b\"}},\"spec\":{\"domain\":{\"cpu\":{\"cores\":2,"
                  "\"features\":[{\"name\":\"vmx\"}]},\"resources\":{\"requests\":{\"memory\":\"64Mi\",\"cpu\":1}},"
                  "\"devices\":{\"disks\":[{\"name\":\"d\"}]}},\"new\":1}}"),
        &a, &vmi, &err));
    assert_true(str_is(vmi.metadata->name, "x"));
    assert_true(str_is(str_map_get(&vmi.metadata->labels, STR("a")), "b"));
    assert_int_equal(opt_or(vmi.spec->domain->cpu->cores, 0), 2);
    assert_true(str_is(vmi.spec->domain->cpu->features.p[0].name, "vmx"));
    assert_true(str_is(str_map_get(&vmi.spec->domain->resources->requests, STR("cpu")), "1"));
    assert_int_equal(vmi.spec->domain->devices->disks.n, 1);
}

static void test_wrong_types(void **state)
{
    static const struct {
        const struct schema_type *type;
        const char *text, *message;
    } cases[] = {
        {&schema_type_core_config_map, "{\"data\":{\"a\":5}}",
         "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"},
        {&schema_type_core_pod, "{\"spec\":{\"containers\":[{\"image\":true}]}}",
         "json: cannot unmarshal bool into Go struct field Container.spec.containers.image of type string"},
        {&schema_type_core_pod, "{\"spec\":{\"containers\":{}}}",
         "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"},
        {&schema_type_core_pod, "{\"spec\":{\"terminationGracePeriodSeconds\":1.5}}",
         "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type "
         "int64"},
        {&schema_type_core_pod, "[]", "json: cannot unmarshal array into Go value of type v1.Pod"},
        {&schema_type_core_secret, "{\"data\":{\"a\":\"%%%\"}}", "illegal base64 data at input byte 0"},
        {&schema_type_core_secret, "{\"data\":{\"a\":\"YWJ\"}}", "illegal base64 data at input byte 0"},
        {&schema_type_core_secret, "{\"data\":{\"a\":\"YWJjZA=\"}}", "illegal base64 data at input byte 7"},
        {&schema_type_core_secret, "{\"data\":{\"a\":\"YWJjZA==YQ==\"}}", "illegal base64 data at input byte 8"},
        {&schema_type_core_secret, "{\"data\":{\"a\":\"YW=j\"}}", "illegal base64 data at input byte 3"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        void *view = arena_alloc(&a, cases[i].type->view_size);

        assert_false(schema_decode(cases[i].type, parse(&a, cases[i].text), &a, view, &err));
        assert_string_equal(error_text(&err), cases[i].message);
        assert_int_equal(err.kind, ERROR_BAD_REQUEST);
    }
}

static void test_base64_as_go_reads_it(void **state)
{
    static const char *const good[] = {"", "YQ==", "YWI=", "YWJj", "YW\\nJj", "YQ==\\n", "YQ=\\r\\n="};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const char *text = arena_printf(&a, "{\"data\":{\"a\":\"%s\"}}", good[i]);

        if (!schema_decode(&schema_type_core_secret, parse(&a, text), &a,
                           arena_alloc(&a, schema_type_core_secret.view_size), &err))
            fail_msg("%s: %s", good[i], error_text(&err));
    }
}

/* Every leaf of every served kind refuses a value of another type. */
static void refuse_at(struct arena *a, const struct kind_info *k, const struct schema_type *t, const char *path,
                      int depth, size_t *count)
{
    for (size_t i = 0; i < t->n_fields && depth < 4; i++) {
        const struct schema_field *f = &t->fields[i];
        char *here = arena_printf(a, "%s%s%s", path, *path ? "/" : "", f->name);
        const struct json *o;
        struct error err = {0};

        if (f->type->kind == SCHEMA_OBJECT && !(f->flags & SCHEMA_PRESERVE_UNKNOWN)) {
            refuse_at(a, k, f->type, here, depth + 1, count);
            continue;
        }
        if (f->type->kind == SCHEMA_ANY || strchr(f->name, '/') || strchr(f->name, '~'))
            continue;
        o = json_with_at(a, json_object(a, NULL), here, json_new_bool(true));
        if (f->type->kind == SCHEMA_BOOL)
            o = json_with_at(a, json_object(a, NULL), here, json_new_z(a, "x"));
        if (schema_decode(k->type, o, a, arena_alloc(a, k->type->view_size), &err))
            fail_msg("%s: wrong type at %s was taken", k->kind, here);
        error_clear(&err);
        ++*count;
    }
}

static void test_every_leaf(void **state)
{
    size_t count = 0;

    (void)state;
    for (size_t i = 0; schema_kinds[i]; i++) {
        AUTO(arena_done) struct arena a = {0};

        refuse_at(&a, schema_kinds[i], schema_kinds[i]->type, "", 0, &count);
    }
    assert_true(count > 1000);
}

static void test_tables(void **state)
{
    (void)state;
    for (size_t i = 0; schema_types[i]; i++)
        for (size_t k = 0; k < schema_types[i]->n_fields; k++) {
            const struct schema_field *f = &schema_types[i]->fields[k];

            assert_ptr_equal(schema_field(schema_types[i], str_of(f->name)), f);
        }
    assert_non_null(schema_kind_find(STR("kubevirt.io"), STR("virtualmachines")));
    assert_non_null(schema_kind_by_name(STR(""), STR("Pod")));
    assert_null(schema_kind_find(STR("kubevirt.io"), STR("nonesuch")));
}

static void test_prune(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *o = parse(&a, "{\"spec\":{\"bogus\":1,\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\"},"
                                     "{\"name\":\"b\",\"x\":{}}]}}}}");
    const struct json *good = parse(&a, "{\"spec\":{\"domain\":{\"devices\":{}}}}");
    struct json_dups unknown = {0};

    (void)state;
    assert_text(schema_prune(&schema_type_kv_virtual_machine_instance, o, &a, &unknown),
                "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\"},{\"name\":\"b\"}]}}}}");
    assert_int_equal(unknown.n, 2);
    assert_string_equal(unknown.paths[0], "spec.bogus");
    assert_string_equal(unknown.paths[1], "spec.domain.devices.disks[1].x");
    assert_ptr_equal(schema_prune(&schema_type_kv_virtual_machine_instance, good, &a, NULL), good);
    assert_text(schema_prune(&schema_type_core_config_map, parse(&a, "{\"data\":null,\"kind\":\"x\"}"), &a, NULL),
                "{\"kind\":\"x\"}");
}

static void test_validate(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct schema_causes causes = {0};

    (void)state;
    schema_validate(&schema_type_kv_virtual_machine_instance,
                    parse(&a, "{\"spec\":{\"domain\":{\"cpu\":{\"cores\":\"three\"},\"devices\":{\"disks\":[{}]},"
                              "\"resources\":{\"requests\":{\"memory\":\"lots\"}}}}}"),
                    &a, &causes);
    assert_int_equal(causes.n, 3);
    assert_string_equal(causes.p[0].field, "spec.domain.cpu.cores");
    assert_string_equal(causes.p[0].message,
                        "Invalid value: \"string\": spec.domain.cpu.cores in body must be of type integer: \"string\"");
    assert_string_equal(causes.p[0].reason, "FieldValueTypeInvalid");
    assert_string_equal(causes.p[1].field, "spec.domain.devices.disks[0].name");
    assert_string_equal(causes.p[1].message, "Required value");
    assert_string_equal(causes.p[2].field, "spec.domain.resources.requests.memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),   cmocka_unit_test(test_wrong_types), cmocka_unit_test(test_base64_as_go_reads_it), cmocka_unit_test(test_every_leaf),
        cmocka_unit_test(test_tables),   cmocka_unit_test(test_prune),       cmocka_unit_test(test_validate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
