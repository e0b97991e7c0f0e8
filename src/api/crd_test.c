#include "json/json_test.h"
#include "api/crd.h"

#include "api/openapi.h"
#include "api/types.h"
#include "base/cleanup.h"
#include "json/proto.h"

static const char widget[] =
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\",\"metadata\":{\"name\":"
    "\"widgets.ex.io\"},\"spec\":{\"group\":\"ex.io\",\"scope\":\"Namespaced\",\"names\":{\"plural\":\"widgets\",\"kind\":"
    "\"Widget\",\"shortNames\":[\"wd\"]},\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":"
    "{\"openAPIV3Schema\":{\"type\":\"object\",\"required\":[\"spec\"],\"properties\":{\"spec\":{\"type\":\"object\","
    "\"required\":[\"size\"],\"properties\":{\"size\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":10},\"color\":{\"type\":"
    "\"string\",\"enum\":[\"red\",\"green\"],\"default\":\"red\"},\"name\":{\"type\":\"string\",\"maxLength\":5,\"pattern\":"
    "\"^[a-z]+$\"},\"tags\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}},\"items\":"
    "{\"type\":\"array\",\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"name\"],\"items\":{\"type\":"
    "\"object\",\"required\":[\"name\"],\"properties\":{\"name\":{\"type\":\"string\"},\"v\":{\"type\":\"string\"}}}},\"any\":"
    "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true},\"q\":{\"x-kubernetes-int-or-string\":true,"
    "\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]},\"one\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":"
    "\"string\"},\"b\":{\"type\":\"string\"}},\"oneOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]},\"when\":{\"type\":"
    "\"string\",\"format\":\"date-time\",\"nullable\":true}}},\"status\":{\"type\":\"object\",\"properties\":{\"phase\":"
    "{\"type\":\"string\"}}}}}},\"subresources\":{\"status\":{}}}]}}";

static const struct kind_info *widget_kind(struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct kind_info *k = NULL;

    if (!crd_kind(a, parse(a, widget), NULL, &k, &err))
        fail_msg("%s", error_text(&err));
    return k;
}

static void test_kind(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct kind_info *k = widget_kind(&a);
    struct json_dups unknown = {0};
    const struct json *o = parse(&a, "{\"apiVersion\":\"ex.io/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"w1\"},"
                                     "\"spec\":{\"size\":3,\"bogus\":1,\"any\":{\"x\":{\"y\":1}},\"q\":\"50%\"}}");

    (void)state;
    assert_string_equal(k->list_kind, "WidgetList");
    assert_string_equal(k->singular, "widget");
    assert_string_equal(k->type->name, "io.ex.v1.Widget");
    assert_int_equal(k->flags, KIND_NAMESPACED | KIND_STATUS);
    o = schema_default(k->type, schema_prune(k->type, o, &a, &unknown), &a);
    assert_int_equal(unknown.n, 1);
    assert_string_equal(unknown.paths[0], "spec.bogus");
    assert_text(json_get(o, "spec"), "{\"size\":3,\"any\":{\"x\":{\"y\":1}},\"q\":\"50%\",\"color\":\"red\"}");
}

static void test_values(void **state)
{
    static const struct {
        const char *spec, *field, *message;
    } cases[] = {
        {"{\"size\":11}", "spec.size", "Invalid value: 11: spec.size in body should be less than or equal to 10"},
        {"{\"size\":0}", "spec.size", "Invalid value: 0: spec.size in body should be greater than or equal to 1"},
        {"{\"size\":\"three\"}", "spec.size",
         "Invalid value: \"string\": spec.size in body must be of type integer: \"string\""},
        {"{\"size\":1,\"color\":\"blue\"}", "spec.color",
         "Unsupported value: \"blue\": supported values: \"red\", \"green\""},
        {"{\"size\":1,\"name\":\"toolong\"}", "spec.name", "Too long: may not be more than 5 bytes"},
        {"{\"size\":1,\"name\":\"A\"}", "spec.name", "Invalid value: \"A\": spec.name in body should match '^[a-z]+$'"},
        {"{\"size\":1,\"tags\":[\"a\",\"a\"]}", "spec.tags[1]", "Duplicate value: \"a\""},
        {"{\"size\":1,\"items\":[{\"name\":\"a\"},{\"name\":\"a\"}]}", "spec.items[1]",
         "Duplicate value: {\"name\":\"a\"}"},
        {"{\"size\":1,\"items\":[{\"v\":\"1\"}]}", "spec.items[0].name", "Required value"},
        {"{}", "spec.size", "Required value"},
        {"{\"size\":1,\"q\":true}", "spec.q",
         "Invalid value: \"boolean\": spec.q in body must be of type integer,string: \"boolean\""},
        {"{\"size\":1,\"one\":{}}", "spec.one",
         "Invalid value: {}: spec.one in body must validate one and only one schema (oneOf)"},
        {"{\"size\":1,\"one\":{\"a\":\"1\",\"b\":\"2\"}}", "spec.one",
         "Invalid value: {\"a\":\"1\",\"b\":\"2\"}: spec.one in body must validate one and only one schema (oneOf)"},
        {"{\"size\":1,\"when\":\"yesterday\"}", "spec.when",
         "Invalid value: \"yesterday\": spec.when in body must be of type date-time: \"yesterday\""},
        {"{\"size\":1,\"when\":null,\"one\":{\"a\":\"1\"},\"q\":1}", NULL, NULL},
        {"{\"size\":1,\"color\":null}", "spec.color",
         "Invalid value: \"null\": spec.color in body must be of type string: \"null\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};

        schema_validate(widget_kind(&a)->type, parse(&a, arena_printf(&a, "{\"spec\":%s}", cases[i].spec)), &a,
                        &causes);
        assert_int_equal(causes.n, cases[i].field ? 1 : 0);
        if (!causes.n)
            continue;
        assert_string_equal(causes.p[0].field, cases[i].field);
        assert_string_equal(causes.p[0].message, cases[i].message);
    }
}

static void test_definitions(void **state)
{
    static const struct {
        const char *path, *value, *field, *message;
    } cases[] = {
        {"metadata/name", "\"wrong\"", "metadata.name",
         "Invalid value: \"wrong\": must be spec.names.plural+\".\"+spec.group"},
        {"spec/versions/0/storage", "false", "spec.versions", NULL},
        {"spec/versions/0/schema/openAPIV3Schema/properties/spec/type", NULL,
         "spec.validation.openAPIV3Schema.properties[spec].type",
         "Required value: must not be empty for specified object fields"},
        {"spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/name/pattern", "\"[\"",
         "spec.validation.openAPIV3Schema.properties[spec].properties[name].pattern", NULL},
        {"spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color/default", "5",
         "spec.validation.openAPIV3Schema.properties[spec].properties[color].default", NULL},
        {"spec/group", "\"io\"", "metadata.name", NULL},
        {"spec/versions/0/schema", NULL, "spec.versions[0].schema.openAPIV3Schema",
         "Required value: schemas are required"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};

        crd_validate(json_with_at(&a, parse(&a, widget), cases[i].path,
                                  cases[i].value ? parse(&a, cases[i].value) : NULL),
                     &a, &causes);
        assert_true(causes.n >= 1);
        assert_string_equal(causes.p[0].field, cases[i].field);
        if (cases[i].message)
            assert_string_equal(causes.p[0].message, cases[i].message);
    }
}

/* Our own kinds, published and read back, are the kinds that they were. */
static void test_own(void **state)
{
    (void)state;
    for (size_t i = 0; schema_kinds[i]; i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *crd;
        const struct kind_info *k;

        if (!(schema_kinds[i]->flags & KIND_CRD))
            continue;
        crd = crd_of_kind(&a, schema_kinds[i], "2026-01-01T00:00:00Z");
        if (!crd_kind(&a, crd, NULL, &k, &err))
            fail_msg("%s: %s", schema_kinds[i]->kind, error_text(&err));
        assert_string_equal(k->plural, schema_kinds[i]->plural);
        assert_non_null(schema_field(k->type, STR("spec")));
        assert_int_equal(k->n_columns, schema_kinds[i]->n_columns ? schema_kinds[i]->n_columns : 1);
        assert_text(json_at(crd, "status/conditions/1/type"), "\"Established\"");
    }
}

static size_t check_refs(const struct json *v, const struct json *schemas, const char *prefix)
{
    size_t n = 0;

    json_each_item(it, v) {
        n += check_refs(it, schemas, prefix);
    }
    json_each_member(m, v) {
        struct str ref = json_str(&m->value);

        if (str_is(json_str(&m->key), "$ref") && ref.p) {
            assert_true(str_starts(ref, str_of(prefix)));
            if (!json_get_str(schemas, str_skip(ref, strlen(prefix))))
                fail_msg("nothing at " STR_FMT, STR_ARG(ref));
            n++;
        }
        n += check_refs(&m->value, schemas, prefix);
    }
    return n;
}

static size_t n_kinds(void)
{
    size_t n = 0;

    while (schema_kinds[n])
        n++;
    return n;
}

static void test_openapi_v3(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *doc = openapi_v3(&a, "kubevirt.io", "v1", schema_kinds, n_kinds());
    const struct json *schemas = json_at(doc, "components/schemas"), *vm;

    (void)state;
    assert_true(check_refs(doc, schemas, "#/components/schemas/") > 100);
    vm = json_get(schemas, "v1.VirtualMachine");
    assert_text(json_get(vm, "x-kubernetes-group-version-kind"),
                "[{\"group\":\"kubevirt.io\",\"kind\":\"VirtualMachine\",\"version\":\"v1\"}]");
    assert_non_null(json_get(schemas, "v1.VirtualMachineList"));
    assert_non_null(json_at(doc, "paths/~1apis~1kubevirt.io~1v1~1namespaces~1{namespace}~1virtualmachines~1{name}/patch"));
}

static void test_openapi_v2(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    const struct kind_info *kinds[128] = {widget_kind(&a)};
    const struct json *doc;
    struct proto_reader r;
    struct proto_field f;
    size_t n = n_kinds(), definitions = 0;

    (void)state;
    memcpy(kinds + 1, schema_kinds, n * sizeof *kinds);
    doc = openapi_v2(&a, kinds, n + 1);
    assert_true(check_refs(doc, json_get(doc, "definitions"), "#/definitions/") > 300);
    assert_text(json_at(doc, "definitions/io.ex.v1.Widget/x-kubernetes-group-version-kind"),
                "[{\"group\":\"ex.io\",\"kind\":\"Widget\",\"version\":\"v1\"}]");
    assert_text(json_at(doc, "definitions/io.k8s.api.core.v1.PodSpec/properties/containers/x-kubernetes-patch-merge-key"),
                "\"name\"");
    assert_true(openapi_v2_proto(&b, doc, &err));
    r.rest = buf_str(&b);
    assert_true(proto_next(&r, &f, &err));
    assert_true(f.number == 1 && str_is(f.bytes, "2.0"));
    while (proto_next(&r, &f, &err))
        if (f.number == 9) {
            struct proto_reader in = {f.bytes};

            while (proto_next(&in, &f, &err))
                definitions++;
        }
    assert_int_equal(err.kind, ERROR_NONE);
    assert_int_equal(definitions, json_len(json_get(doc, "definitions")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kind), cmocka_unit_test(test_values),     cmocka_unit_test(test_definitions),
        cmocka_unit_test(test_own),  cmocka_unit_test(test_openapi_v3), cmocka_unit_test(test_openapi_v2),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
