#include "json/json_test.h"
#include "api/meta.h"

#include "api/status.h"
#include "base/cleanup.h"

static void test_finalizers_and_owners(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *vm = parse(&a, "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"VirtualMachine\","
                                      "\"metadata\":{\"name\":\"v\",\"namespace\":\"d\",\"uid\":\"u1\"}}");
    const struct json *o = parse(&a, "{\"metadata\":{\"name\":\"x\"}}");

    (void)state;
    assert_ptr_equal(meta_remove_finalizer(&a, o, "f"), o);
    o = meta_add_finalizer(&a, o, "f");
    assert_ptr_equal(meta_add_finalizer(&a, o, "f"), o);
    assert_text(o, "{\"metadata\":{\"name\":\"x\",\"finalizers\":[\"f\"]}}");
    o = meta_remove_finalizer(&a, o, "f");
    assert_text(o, "{\"metadata\":{\"name\":\"x\"}}");
    o = json_with_at(&a, o, "metadata/ownerReferences", json_array(&a, meta_owner_ref(&a, vm, true), NULL));
    assert_true(meta_controlled_by(o, STR("u1")));
    assert_false(meta_controlled_by(o, STR("")));
    o = meta_with_label(&a, parse(&a, "{}"), "a", STR("b"));
    assert_text(o, "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
    assert_text(meta_with_label(&a, o, "a", STR_NONE), "{\"metadata\":{}}");
    assert_string_equal(meta_key(vm, &a), "d/v");
    assert_true(str_is(meta_group(STR("kubevirt.io/v1"), NULL), "kubevirt.io"));
    assert_true(str_is(meta_group(STR("v1"), NULL), ""));
}

static void test_conditions(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *o = parse(&a, "{}"), *again;
    struct condition ready = {.type = "Ready", .status = "False", .reason = "Starting"};

    (void)state;
    o = condition_set(&a, o, &ready, "t1");
    assert_text(o, "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\",\"lastTransitionTime\":\"t1\","
                   "\"reason\":\"Starting\"}]}}");
    assert_ptr_equal(condition_set(&a, o, &ready, "t2"), o);
    ready.reason = "Slow";
    again = condition_set(&a, o, &ready, "t2");
    assert_true(str_is(json_str(json_get(condition_find(again, "Ready"), "lastTransitionTime")), "t1"));
    ready.status = "True";
    again = condition_set(&a, again, &ready, "t3");
    assert_true(str_is(json_str(json_get(condition_find(again, "Ready"), "lastTransitionTime")), "t3"));
    assert_true(condition_is(again, "Ready", "True"));
    assert_text(condition_remove(&a, again, "Ready"), "{\"status\":{}}");
}

static void test_status(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct schema_causes causes = {0};

    (void)state;
    status_not_found(&err, "", "configmaps", STR("nope"));
    assert_text(status_of(&a, &err, &(struct status_details){.name = "nope", .kind = "configmaps"}),
                "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"configmaps "
                "\\\"nope\\\" not found\",\"reason\":\"NotFound\",\"details\":{\"name\":\"nope\",\"kind\":\"configmaps\"},"
                "\"code\":404}");
    schema_cause_add(&causes, &a, "FieldValueRequired", "metadata.name",
                     "Required value: name or generateName is required");
    assert_text(status_invalid(&a, &causes, "", "ConfigMap", ""),
                "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"ConfigMap "
                "\\\"\\\" is invalid: metadata.name: Required value: name or generateName is required\",\"reason\":"
                "\"Invalid\",\"details\":{\"kind\":\"ConfigMap\",\"causes\":[{\"reason\":\"FieldValueRequired\","
                "\"message\":\"Required value: name or generateName is required\",\"field\":\"metadata.name\"}]},"
                "\"code\":422}");
    assert_int_equal(status_code(ERROR_CONFLICT), 409);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finalizers_and_owners),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
