#include "json/json_test.h"
#include "api/managed.h"

#include "api/types.h"
#include "base/cleanup.h"

static void assert_fields(const struct json *o, const char *want)
{
    AUTO_FREE char *text = json_text(json_at(o, "metadata/managedFields"));

    assert_string_equal(text, want);
}

static const struct json *apply(struct arena *a, const struct schema_type *t, const struct json *live,
                                const char *text, const char *manager, bool force, const char *problem)
{
    struct managed_request r = {.manager = manager, .api_version = "v1", .now = "T1", .force = force};
    AUTO(error_clear) struct error err = {0};
    struct schema_causes conflicts = {0};
    const struct json *ret = live;
    bool ok = managed_apply(a, t, live, parse(a, text), &r, &ret, &conflicts, &err);

    if (ok != (problem == NULL))
        fail_msg("%s: %s", text, error_text(&err));
    if (!ok)
        assert_string_equal(error_text(&err), problem);
    return ret;
}

/* The sequence of the recording of kube-apiserver: create, share, conflict, force, drop, update. */
static void test_config_map(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct schema_type *t = &schema_type_core_config_map;
    struct managed_request carol = {.manager = "carol", .api_version = "v1", .now = "T2"};
    const struct json *o, *again;

    (void)state;
    o = apply(&a, t, NULL,
              "{\"metadata\":{\"name\":\"ssa\",\"labels\":{\"own\":\"alice\"}},\"data\":{\"a\":\"1\",\"b\":\"1\"}}",
              "alice", false, NULL);
    assert_fields(o, "[{\"manager\":\"alice\",\"operation\":\"Apply\",\"apiVersion\":\"v1\",\"time\":\"T1\",\"fieldsType\":"
                     "\"FieldsV1\",\"fieldsV1\":{\"f:data\":{\"f:a\":{},\"f:b\":{}},\"f:metadata\":{\"f:labels\":"
                     "{\"f:own\":{}}}}}]");
    again = apply(&a, t, o,
                  "{\"metadata\":{\"name\":\"ssa\",\"labels\":{\"own\":\"alice\"}},\"data\":{\"a\":\"1\",\"b\":\"1\"}}",
                  "alice", false, NULL);
    assert_ptr_equal(again, o);
    o = apply(&a, t, o, "{\"metadata\":{\"name\":\"ssa\"},\"data\":{\"a\":\"1\"}}", "bob", false, NULL);
    assert_fields(o, "[{\"manager\":\"bob\",\"operation\":\"Apply\",\"apiVersion\":\"v1\",\"fieldsType\":\"FieldsV1\","
                     "\"fieldsV1\":{\"f:data\":{\"f:a\":{}}}},{\"manager\":\"alice\",\"operation\":\"Apply\",\"apiVersion\":"
                     "\"v1\",\"time\":\"T1\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:data\":{\"f:a\":{},\"f:b\":{}},"
                     "\"f:metadata\":{\"f:labels\":{\"f:own\":{}}}}}]");
    apply(&a, t, o, "{\"metadata\":{\"name\":\"ssa\"},\"data\":{\"a\":\"2\",\"b\":\"2\"}}", "bob", false,
          "Apply failed with 2 conflicts: conflicts with \"alice\":\n- .data.a\n- .data.b");
    o = apply(&a, t, o, "{\"metadata\":{\"name\":\"ssa\"},\"data\":{\"a\":\"2\"}}", "bob", true, NULL);
    assert_fields(o, "[{\"manager\":\"alice\",\"operation\":\"Apply\",\"apiVersion\":\"v1\",\"time\":\"T1\",\"fieldsType\":"
                     "\"FieldsV1\",\"fieldsV1\":{\"f:data\":{\"f:b\":{}},\"f:metadata\":{\"f:labels\":{\"f:own\":{}}}}},"
                     "{\"manager\":\"bob\",\"operation\":\"Apply\",\"apiVersion\":\"v1\",\"time\":\"T1\",\"fieldsType\":"
                     "\"FieldsV1\",\"fieldsV1\":{\"f:data\":{\"f:a\":{}}}}]");
    o = apply(&a, t, o, "{\"metadata\":{\"name\":\"ssa\"},\"data\":{}}", "alice", false, NULL);
    assert_text(json_with_at(&a, o, "metadata/managedFields", NULL),
                "{\"metadata\":{\"name\":\"ssa\"},\"data\":{\"a\":\"2\"}}");
    o = managed_update(&a, t, o, parse(&a, "{\"metadata\":{\"name\":\"ssa\"},\"data\":{\"a\":\"9\"}}"), &carol);
    assert_fields(o, "[{\"manager\":\"alice\",\"operation\":\"Apply\",\"apiVersion\":\"v1\",\"time\":\"T1\",\"fieldsType\":"
                     "\"FieldsV1\",\"fieldsV1\":{\"f:data\":{}}},{\"manager\":\"carol\",\"operation\":\"Update\","
                     "\"apiVersion\":\"v1\",\"time\":\"T2\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:data\":{\"f:a\":"
                     "{}}}}]");
    apply(&a, t, o, "{\"metadata\":{\"name\":\"ssa\",\"managedFields\":[]}}", "x", false,
          "metadata.managedFields must be nil");
}

static void test_created(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct managed_request r = {.manager = "kubectl", .api_version = "v1", .now = "T1"};
    const struct json *o;

    (void)state;
    o = managed_update(&a, &schema_type_core_config_map, NULL,
                       parse(&a, "{\"metadata\":{\"name\":\"x\",\"uid\":\"u\",\"annotations\":{\"x/y\":\"z\"}},\"data\":"
                                 "{\"a\":\"1\"}}"),
                       &r);
    assert_fields(o, "[{\"manager\":\"kubectl\",\"operation\":\"Update\",\"apiVersion\":\"v1\",\"time\":\"T1\","
                     "\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:data\":{\".\":{},\"f:a\":{}},\"f:metadata\":"
                     "{\"f:annotations\":{\".\":{},\"f:x/y\":{}}}}}]");
    o = managed_update(&a, &schema_type_kv_virtual_machine_instance, NULL,
                       parse(&a, "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"domain\":{}}}"), &r);
    assert_fields(o, "[{\"manager\":\"kubectl\",\"operation\":\"Update\",\"apiVersion\":\"v1\",\"time\":\"T1\","
                     "\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:spec\":{\".\":{},\"f:domain\":{}}}}]");
}

static void test_keyed_lists(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct schema_type *t = &schema_type_core_pod;
    const struct json *o;

    (void)state;
    o = apply(&a, t, NULL,
              "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"1\"},{\"name\":\"b\","
              "\"image\":\"2\"}]}}",
              "alice", false, NULL);
    assert_fields(o, "[{\"manager\":\"alice\",\"operation\":\"Apply\",\"apiVersion\":\"v1\",\"time\":\"T1\",\"fieldsType\":"
                     "\"FieldsV1\",\"fieldsV1\":{\"f:spec\":{\"f:containers\":{\"k:{\\\"name\\\":\\\"a\\\"}\":{\".\":{},"
                     "\"f:image\":{},\"f:name\":{}},\"k:{\\\"name\\\":\\\"b\\\"}\":{\".\":{},\"f:image\":{},\"f:name\":"
                     "{}}}}}}]");
    apply(&a, t, o, "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"b\",\"image\":\"3\"}]}}", "bob",
          false, "Apply failed with 1 conflict: conflict with \"alice\": .spec.containers[name=\"b\"].image");
    o = apply(&a, t, o, "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"b\",\"tty\":true}]}}", "bob",
              false, NULL);
    /* alice leaves b, which bob has a part of */
    o = apply(&a, t, o, "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"1\"}]}}",
              "alice", false, NULL);
    assert_text(json_get(o, "spec"),
                "{\"containers\":[{\"name\":\"a\",\"image\":\"1\"},{\"name\":\"b\",\"tty\":true}]}");
    o = apply(&a, t, o, "{\"metadata\":{\"name\":\"p\"},\"spec\":{}}", "bob", false, NULL);
    assert_text(json_get(o, "spec"), "{\"containers\":[{\"name\":\"a\",\"image\":\"1\"}]}");
}

/* A client may send as many managers as fit into an object; each used to be copied once for each that followed. */
static void test_thousands_of_managers_become_ten(void **state)
{
    AUTO(arena_done) struct arena a = {0}, work = {0};
    struct managed_request r = {.manager = "me", .api_version = "v1", .now = "T2"};
    AUTO(buf_done) struct buf b = {0};
    const struct json *o, *fields, *first;

    (void)state;
    buf_adds(&b, "{\"metadata\":{\"name\":\"a\",\"managedFields\":[");
    for (int i = 0; i < 3000; i++)
        buf_addf(&b, "%s{\"manager\":\"m%d\",\"operation\":\"Update\",\"apiVersion\":\"v1\",\"time\":\"T1\","
                     "\"fieldsV1\":{\"f:data\":{\"f:k%d\":{}}}}", i ? "," : "", i, i);
    buf_adds(&b, "]},\"data\":{\"k\":\"v\"}}");
    o = managed_update(&work, &schema_type_core_config_map, NULL, parse(&a, b.p), &r);
    fields = json_at(o, "metadata/managedFields");
    assert_int_equal(json_len(fields), 10);
    first = json_item(fields, 0);
    assert_true(str_is(json_str(json_get(first, "manager")), "ancient-changes"));
    assert_int_equal(json_len(json_at(first, "fieldsV1/f:data")), 2992); /* 3000 and "me", less nine entries of one each */
    assert_true(work.used < 16 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_map),
        cmocka_unit_test(test_created),
        cmocka_unit_test(test_keyed_lists),
        cmocka_unit_test(test_thousands_of_managers_become_ten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
