#include "json/json_test.h"
#include "api/crd.h"

#include "api/meta.h"
#include "api/openapi.h"
#include "api/types.h"
#include "base/cleanup.h"
#include "json/proto.h"

static const char widget[] =
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\",\"metadata\":{\"name\":"
    "\"widgets.ex.io\"},\"spec\":{\"group\":\"ex.io\",\"scope\":\"Namespaced\",\"names\":{\"plural\":\"widgets\","
    "\"kind\":"
    "\"Widget\",\"shortNames\":[\"wd\"]},\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":"
    "{\"openAPIV3Schema\":{\"type\":\"object\",\"required\":[\"spec\"],\"properties\":{\"spec\":{\"type\":\"object\","
    "\"required\":[\"size\"],\"properties\":{\"size\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":10},\"color\":{"
    "\"type\":"
    "\"string\",\"enum\":[\"red\",\"green\"],\"default\":\"red\"},\"name\":{\"type\":\"string\",\"maxLength\":5,"
    "\"pattern\":"
    "\"^[a-z]+$\"},\"tags\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}},"
    "\"items\":"
    "{\"type\":\"array\",\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"name\"],\"items\":{"
    "\"type\":"
    "\"object\",\"required\":[\"name\"],\"properties\":{\"name\":{\"type\":\"string\"},\"v\":{\"type\":\"string\"}}}},"
    "\"any\":"
    "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true},\"q\":{\"x-kubernetes-int-or-string\":true,"
    "\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]},\"one\":{\"type\":\"object\",\"properties\":{\"a\":{"
    "\"type\":"
    "\"string\"},\"b\":{\"type\":\"string\"}},\"oneOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]},\"when\":{"
    "\"type\":"
    "\"string\",\"format\":\"date-time\",\"nullable\":true}}},\"status\":{\"type\":\"object\",\"properties\":{"
    "\"phase\":"
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
        {"{\"size\":1,\"one\":{}}", "<nil>",
         "Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found none valid"},
        {"{\"size\":1,\"one\":{\"a\":\"1\",\"b\":\"2\"}}", "<nil>",
         "Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found 2 valid alternatives"},
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
        assert_true((causes.n > 0) == (cases[i].field != NULL));
        if (!causes.n)
            continue;
        assert_string_equal(causes.p[0].field, cases[i].field);
        assert_string_equal(causes.p[0].message, cases[i].message);
    }
}

/* The definition with one place changed, or a schema put in the place of spec's. */
#define SPEC "spec/versions/0/schema/openAPIV3Schema/properties/spec"

static void test_definitions(void **state)
{
    static const struct {
        const char *path, *value, *field, *message;
    } cases[] = {
        {"metadata/name", "\"wrong\"", "metadata.name",
         "Invalid value: \"wrong\": must be spec.names.plural+\".\"+spec.group"},
        {"spec/group", "\"io\"", "metadata.name", NULL},
        {"spec/scope", "\"World\"", "spec.scope",
         "Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\""},
        {"spec/scope", NULL, "spec.scope", "Required value"},
        {"spec/names/kind", "\"wid get\"", "spec.names.kind", NULL},
        {"spec/names/listKind", "\"Widget\"", "spec.names.listKind",
         "Invalid value: \"Widget\": kind and listKind may not be the same"},
        {"spec/names/shortNames", "[\"Wd\"]", "spec.names.shortNames[0]", NULL},
        {"spec/names/categories", "[\"a b\"]", "spec.names.categories[0]", NULL},
        {"spec/versions/0/storage", "false", "spec.versions",
         "Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,"
         "\"DeprecationWarning\":null,\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,"
         "\"SelectableFields\":null}]: must have exactly one version marked as storage version"},
        {"spec/versions/0/name", "\"1\"", "spec.versions[0].name", NULL},
        {"spec/versions/0/schema", NULL, "spec.versions[0].schema.openAPIV3Schema", "Required value"},
        {"spec/versions/0/deprecationWarning", "\"old\"", "spec.versions[0].deprecationWarning",
         "Invalid value: \"old\": can only be set for deprecated versions"},
        {"spec/preserveUnknownFields", "true", "spec.preserveUnknownFields",
         "Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
         "spec.versions[*].schema instead"},
        {"spec/conversion", "{\"strategy\":\"Webhook\"}", "spec.conversion.strategy", NULL},
        {"spec/conversion", "{\"strategy\":\"Magic\"}", "spec.conversion.strategy",
         "Unsupported value: \"Magic\": supported values: \"None\", \"Webhook\""},
        {"spec/versions/0/subresources",
         "{\"scale\":{\"specReplicasPath\":\".status.n\",\"statusReplicasPath\":"
         "\".status.n\"}}",
         "spec.subresources.scale.specReplicasPath", "Invalid value: \".status.n\": should be a json path under .spec"},
        {"spec/versions/0/subresources", "{\"scale\":{\"specReplicasPath\":\".spec.n\"}}",
         "spec.subresources.scale.statusReplicasPath", "Required value"},
        {"spec/versions/0/subresources",
         "{\"scale\":{\"specReplicasPath\":\".spec.n\",\"statusReplicasPath\":"
         "\".status.n\",\"labelSelectorPath\":\".metadata.x\"}}",
         "spec.subresources.scale.labelSelectorPath",
         "Invalid value: \".metadata.x\": should be a json path under either .spec or .status"},
        {"spec/versions/0/additionalPrinterColumns", "[{\"name\":\"A\",\"type\":\"text\",\"jsonPath\":\".a\"}]",
         "spec.additionalPrinterColumns[0].type",
         "Invalid value: \"text\": must be one of boolean,date,integer,number,string"},
        {"spec/versions/0/additionalPrinterColumns",
         "[{\"name\":\"A\",\"type\":\"string\",\"format\":\"x\",\"jsonPath\":\".a\"}]",
         "spec.additionalPrinterColumns[0].format",
         "Invalid value: \"x\": must be one of byte,date,date-time,double,float,int32,int64,password"},
        {"spec/versions/0/additionalPrinterColumns", "[{\"name\":\"A\",\"type\":\"string\",\"jsonPath\":\"a\"}]",
         "spec.additionalPrinterColumns[0].JSONPath",
         "Invalid value: \"a\": must be a simple json path starting with ."},
        {"spec/versions/0/selectableFields", "[{\"jsonPath\":\".spec.nothing\"}]", "spec.selectableFields[0].jsonPath",
         "Invalid value: \".spec.nothing\": is an invalid path: does not refer to a valid field"},
        {"spec/versions/0/selectableFields", "[{\"jsonPath\":\".spec.tags\"}]", "spec.selectableFields[0].jsonPath",
         "Invalid value: \".spec.tags\": must point to a field of type string, boolean or integer. Enum string fields "
         "and strings with formats are allowed."},
        {"spec/versions/0/selectableFields", "[{\"jsonPath\":\".spec.size\"},{\"jsonPath\":\".spec.size\"}]",
         "spec.selectableFields[1].jsonPath", "Duplicate value: \".spec.size\""},
        {"spec/versions/0/schema/openAPIV3Schema/nullable", "true", "spec.validation.openAPIV3Schema", NULL},
        {"spec/versions/0/schema/openAPIV3Schema/anyOf", "[]", "spec.validation.openAPIV3Schema", NULL},
        {"spec/versions/0/schema/openAPIV3Schema/type", "\"string\"", "spec.validation.openAPIV3Schema.type",
         "Invalid value: \"string\": only \"object\" is allowed as the type at the root of the schema if the status "
         "subresource is enabled"},
        {"status/storedVersions", "[\"v0\",\"v1\"]", "status.storedVersions[0]",
         "Invalid value: \"v0\": missing from spec.versions; v0 was previously a storage version, and must remain in "
         "spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 from "
         "status.storedVersions"},
        {"status/storedVersions", "[]", "status.storedVersions",
         "Invalid value: []: must have at least one stored version"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};
        const struct json *crd = crd_fresh_status(&a, crd_default(&a, parse(&a, widget)));

        crd = json_with_at(&a, crd, cases[i].path, cases[i].value ? parse(&a, cases[i].value) : NULL);
        crd_validate(NULL, crd, &a, &causes);
        if (causes.n < 1)
            fail_msg("%s: %s is taken", cases[i].path, cases[i].value);
        assert_string_equal(causes.p[0].field, cases[i].field);
        if (cases[i].message)
            assert_string_equal(causes.p[0].message, cases[i].message);
    }
}

static void test_schemas(void **state)
{
    static const char at[] = "spec.validation.openAPIV3Schema.properties[spec]";
    static const struct {
        const char *schema, *below, *message; /* message NULL: it is good */
    } cases[] = {
        {"{\"type\":\"object\"}", "", NULL},
        {"{}", ".type", "Required value: must not be empty for specified object fields"},
        {"{\"type\":\"array\"}", ".items", "Required value: must be specified"},
        {"{\"type\":\"array\",\"items\":{}}", ".items.type",
         "Required value: must not be empty for specified array items"},
        {"{\"type\":\"thing\"}", ".type",
         "Unsupported value: \"thing\": supported values: \"array\", \"boolean\", \"integer\", \"number\", "
         "\"object\", \"string\""},
        {"{\"type\":\"string\",\"pattern\":\"[\"}", ".pattern",
         "Invalid value: \"[\": must be a valid regular expression, but isn't: error parsing regexp: missing closing "
         "]: `[`"},
        {"{\"type\":\"object\",\"$ref\":\"#/x\"}", ".$ref", "Forbidden: $ref is not supported"},
        {"{\"type\":\"object\",\"id\":\"x\"}", ".id", "Forbidden: id is not supported"},
        {"{\"type\":\"object\",\"patternProperties\":{\"a\":{\"type\":\"string\"}}}", ".patternProperties",
         "Forbidden: patternProperties is not supported"},
        {"{\"type\":\"object\",\"definitions\":{\"a\":{\"type\":\"string\"}}}", ".definitions",
         "Forbidden: definitions is not supported"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}", ".uniqueItems",
         "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"additionalProperties\":{\"type\":"
         "\"string\"}}",
         ".additionalProperties", "Forbidden: additionalProperties and properties are mutual exclusive"},
        {"{\"type\":\"object\",\"anyOf\":[{\"type\":\"object\"}]}", ".anyOf[0].type",
         "Forbidden: must be empty to be structural"},
        {"{\"type\":\"object\",\"not\":{\"description\":\"x\"}}", ".not.description",
         "Forbidden: must be empty to be structural"},
        {"{\"type\":\"object\",\"allOf\":[{\"default\":{}}]}", ".allOf[0].default",
         "Forbidden: must be undefined to be structural"},
        {"{\"type\":\"object\",\"oneOf\":[{\"nullable\":true}]}", ".oneOf[0].nullable",
         "Forbidden: must be false to be structural"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"oneOf\":[{\"properties\":{\"metadata\":"
         "{}}}]}",
         ".oneOf[0].properties[metadata]", "Forbidden: must not be specified in a nested context"},
        {"{\"x-kubernetes-int-or-string\":true,\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}", "", NULL},
        {"{\"x-kubernetes-int-or-string\":true,\"allOf\":[{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]},"
         "{\"minimum\":1}]}",
         "", NULL},
        {"{\"x-kubernetes-int-or-string\":true,\"x-kubernetes-preserve-unknown-fields\":true}",
         ".x-kubernetes-preserve-unknown-fields",
         "Invalid value: true: must be false if x-kubernetes-int-or-string is true"},
        {"{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":false}",
         ".x-kubernetes-preserve-unknown-fields", "Invalid value: false: must be true or undefined"},
        {"{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true}", ".properties",
         "Required value: must not be empty if x-kubernetes-embedded-resource is true without "
         "x-kubernetes-preserve-unknown-fields"},
        {"{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true,\"x-kubernetes-preserve-unknown-fields\":true}",
         "", NULL},
        {"{\"x-kubernetes-embedded-resource\":true,\"x-kubernetes-preserve-unknown-fields\":true}", ".type",
         "Required value: must be object if x-kubernetes-embedded-resource is true"},
        {"{\"type\":\"string\",\"x-kubernetes-list-type\":\"set\"}", ".type",
         "Invalid value: \"string\": must be array if x-kubernetes-list-type is specified"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"x-kubernetes-list-type\":\"bag\"}",
         ".x-kubernetes-list-type", "Unsupported value: \"bag\": supported values: \"atomic\", \"set\", \"map\""},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"x-kubernetes-map-type\":\"atomic\"}", ".type",
         "Invalid value: \"array\": must be object if x-kubernetes-map-type is specified"},
        {"{\"type\":\"object\",\"x-kubernetes-map-type\":\"odd\"}", ".x-kubernetes-map-type",
         "Unsupported value: \"odd\": supported values: \"atomic\", \"granular\""},
        {"{\"type\":\"array\",\"items\":{\"type\":\"object\"},\"x-kubernetes-list-type\":\"set\"}",
         ".items.x-kubernetes-map-type",
         "Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"object\"},\"x-kubernetes-list-type\":\"map\"}",
         ".x-kubernetes-list-map-keys", "Required value: must not be empty if x-kubernetes-list-type is map"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"type\":"
         "\"string\"}}},\"x-kubernetes-list-map-keys\":[\"a\"]}",
         ".x-kubernetes-list-type", "Required value: must be map if x-kubernetes-list-map-keys is non-empty"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"type\":"
         "\"string\"}}},\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"b\"]}",
         ".x-kubernetes-list-map-keys", "Invalid value: [\"b\"]: entries must all be names of item properties"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}}},"
         "\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"a\"]}",
         ".items.properties[a].default",
         "Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required "
         "property"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\",\"nullable\":true},\"x-kubernetes-list-type\":\"set\"}",
         ".items.nullable", "Forbidden: cannot be nullable when x-kubernetes-list-type is set"},
        {"{\"type\":\"string\",\"default\":5}", ".default",
         "Invalid value: \"integer\":  in body must be of type string: \"integer\""},
        {"{\"type\":\"object\",\"default\":{\"b\":1},\"properties\":{\"a\":{\"type\":\"string\"}}}", ".default",
         "Invalid value: {\"b\":1}: must not have unknown fields"},
        {"{\"type\":\"object\",\"default\":{\"a\":1},\"properties\":{\"a\":{\"type\":\"string\"}}}", ".default.a",
         "Invalid value: \"integer\": a in body must be of type string: \"integer\""},
        {"{\"type\":\"string\",\"enum\":[\"a\"],\"default\":\"b\"}", ".default",
         "Unsupported value: \"b\": supported values: \"a\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};
        const struct json *crd = crd_fresh_status(&a, crd_default(&a, parse(&a, widget)));

        crd_validate(NULL, json_with_at(&a, crd, SPEC, parse(&a, cases[i].schema)), &a, &causes);
        if ((causes.n > 0) != (cases[i].message != NULL))
            fail_msg("%s: %zu causes, first %s", cases[i].schema, causes.n, causes.n ? causes.p[0].message : "none");
        if (!causes.n)
            continue;
        assert_string_equal(causes.p[0].field, arena_printf(&a, "%s%s", at, cases[i].below));
        assert_string_equal(causes.p[0].message, cases[i].message);
    }
}

/* What the root asks for in branches has to be there; upstream looks no deeper. */
static void test_completeness(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct schema_causes causes = {0};
    const struct json *crd = crd_fresh_status(&a, crd_default(&a, parse(&a, widget)));

    (void)state;
    crd = json_with_at(&a, crd, "spec/versions/0/subresources", NULL);
    crd = json_with_at(&a, crd, "spec/versions/0/schema/openAPIV3Schema/oneOf",
                       parse(&a, "[{\"properties\":{\"spec\":{\"properties\":{\"no\":{\"minimum\":1}}}}}]"));
    crd_validate(NULL, crd, &a, &causes);
    assert_int_equal(causes.n, 1);
    assert_string_equal(causes.p[0].field, "spec.validation.openAPIV3Schema.properties[spec].properties[no]");
    assert_string_equal(causes.p[0].message,
                        "Required value: because it is defined in "
                        "spec.validation.openAPIV3Schema.oneOf[0].properties[spec].properties[no]");
}

/* The root's metadata may say what names look like, and nothing else. */
static void test_metadata(void **state)
{
    static const struct {
        const char *metadata, *message;
    } cases[] = {
        {"{\"type\":\"object\"}", NULL},
        {"{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":5}}}", NULL},
        {"{\"type\":\"string\"}", "Invalid value: \"string\": must be object"},
        {"{\"type\":\"object\",\"properties\":{\"labels\":{\"type\":\"object\"}}}",
         "Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct schema_causes causes = {0};
        const struct kind_info *k;
        const struct json *crd = crd_fresh_status(&a, crd_default(&a, parse(&a, widget)));

        crd = json_with_at(&a, crd, "spec/versions/0/schema/openAPIV3Schema/properties/metadata",
                           parse(&a, cases[i].metadata));
        crd_validate(NULL, crd, &a, &causes);
        assert_int_equal(causes.n, cases[i].message ? 1 : 0);
        if (causes.n) {
            assert_string_equal(causes.p[0].message, cases[i].message);
            continue;
        }
        assert_true(crd_kind(&a, crd, NULL, &k, &err));
        schema_validate(k->type, parse(&a, "{\"metadata\":{\"name\":\"toolong\"},\"spec\":{\"size\":1}}"), &a, &causes);
        assert_int_equal(causes.n, i);
        if (causes.n)
            assert_string_equal(causes.p[0].field, "metadata.name");
    }
}

static const struct json *established(struct arena *a, const char *now)
{
    return crd_with_status(a, crd_fresh_status(a, crd_default(a, parse(a, widget))), NULL, NULL, now);
}

static void test_changes(void **state)
{
    static const struct {
        const char *path, *value, *field, *message;
    } cases[] = {
        {"spec/scope", "\"Cluster\"", "spec.scope", "Invalid value: \"Cluster\": field is immutable"},
        {"spec/names/kind", "\"Gadget\"", "spec.names.kind", "Invalid value: \"Gadget\": field is immutable"},
        {"spec/group", "\"ex2.io\"", "spec.group", "Invalid value: \"ex2.io\": field is immutable"},
        {"spec/names/plural", "\"gadgets\"", "spec.names.plural", "Invalid value: \"gadgets\": field is immutable"},
        {"spec/versions/0/name", "\"v2\"", "status.storedVersions",
         "Invalid value: [\"v1\"]: must have the storage version v2"},
        {"spec/names/shortNames", "[\"w\"]", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};
        const struct json *old = established(&a, "2026-01-01T00:00:00Z");

        crd_validate(old, json_with_at(&a, old, cases[i].path, parse(&a, cases[i].value)), &a, &causes);
        if (!cases[i].field) {
            assert_int_equal(causes.n, 0);
            continue;
        }
        assert_true(causes.n >= 1);
        assert_string_equal(causes.p[0].field, cases[i].field);
        assert_string_equal(causes.p[0].message, cases[i].message);
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *resource, *kind, *reason, *message;
    } cases[] = {
        {"others", "Other", "NoConflicts", "no conflicts found"},
        {"widgets", "Other", "PluralConflict", "\"widgets\" is already in use"},
        {"widget", "Other", "SingularConflict", "\"widget\" is already in use"},
        {"wd", "Other", "ShortNamesConflict", "\"wd\" is already in use"},
        {"others", "Widget", "KindConflict", "\"Widget\" is already in use"},
        {"others", "WidgetList", "ListKindConflict", "\"WidgetList\" is already in use"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct str resource = str_of(cases[i].resource), kind = str_of(cases[i].kind);
        struct crd_names resources = {&resource, 1}, kinds = {&kind, 1};
        const struct json *crd = crd_with_status(&a, crd_fresh_status(&a, crd_default(&a, parse(&a, widget))),
                                                 &resources, &kinds, "2026-01-01T00:00:00Z");

        assert_true(str_is(json_str(json_get(condition_find(crd, "NamesAccepted"), "reason")), cases[i].reason));
        assert_true(str_is(json_str(json_get(condition_find(crd, "NamesAccepted"), "message")), cases[i].message));
        assert_true(condition_is(crd, "Established", i == 0 ? "True" : "False"));
        assert_text(json_at(crd, "status/storedVersions"), "[\"v1\"]");
    }
}

static void test_approval(void **state)
{
    static const struct {
        const char *annotation, *status, *reason;
        size_t causes;
    } cases[] = {
        {NULL, "False", "MissingAnnotation", 1},
        {"nonsense", "False", "InvalidAnnotation", 1},
        {"unapproved, only for tests", "False", "UnapprovedAnnotation", 0},
        {"https://github.com/kubernetes/kubernetes/pull/1", "True", "ApprovedAnnotation", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};
        const struct json *crd = json_with_at(&a, parse(&a, widget), "spec/group", json_new_z(&a, "x.k8s.io"));

        crd = json_with_at(&a, crd, "metadata/name", json_new_z(&a, "widgets.x.k8s.io"));
        if (cases[i].annotation)
            crd = meta_with_annotation(&a, crd, "api-approved.kubernetes.io", str_of(cases[i].annotation));
        crd = crd_fresh_status(&a, crd_default(&a, crd));
        crd_validate(NULL, crd, &a, &causes);
        assert_int_equal(causes.n, cases[i].causes);
        crd = crd_with_status(&a, crd, NULL, NULL, "2026-01-01T00:00:00Z");
        assert_true(condition_is(crd, "KubernetesAPIApprovalPolicyConformant", cases[i].status));
        assert_true(str_is(json_str(json_get(condition_find(crd, "KubernetesAPIApprovalPolicyConformant"), "reason")),
                           cases[i].reason));
    }
}

static void test_versions(void **state)
{
    static const char *const sorted[] = {"v11",     "v2",       "v1",    "v3beta1", "v1beta2",
                                         "v1beta1", "v2alpha1", "foo10", "foo3"};

    (void)state;
    for (size_t i = 0; i + 1 < ARRAY_SIZE(sorted); i++) {
        assert_true(crd_version_compare(sorted[i], sorted[i + 1]) < 0);
        assert_true(crd_version_compare(sorted[i + 1], sorted[i]) > 0);
    }
}

static void test_warnings(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct json_dups warnings = {0};
    const struct json *old = parse(&a, widget);
    const struct json *crd =
        json_with_at(&a, old, SPEC "/properties/odd", parse(&a, "{\"type\":\"string\",\"format\":\"phone\"}"));

    (void)state;
    crd_warnings(NULL, crd, &a, &warnings);
    assert_int_equal(warnings.n, 1);
    assert_string_equal(warnings.paths[0], "unrecognized format \"phone\"");
    crd_warnings(crd, crd, &a, &warnings);
    assert_int_equal(warnings.n, 0);
    crd_warnings(NULL, old, &a, &warnings);
    assert_int_equal(warnings.n, 0);
}

/* What was wrong and stays as it is stays allowed. */
static void test_ratcheting(void **state)
{
    static const struct {
        const char *old, *next, *field;
    } cases[] = {
        {"{\"size\":11}", "{\"size\":11}", NULL},
        {"{\"size\":11}", "{\"size\":11,\"color\":\"red\"}", NULL},
        {"{\"size\":11}", "{\"size\":12}", "spec.size"},
        {"{\"size\":1,\"tags\":[\"a\",\"a\"]}", "{\"size\":2,\"tags\":[\"a\",\"a\"]}", NULL},
        {"{\"size\":1,\"tags\":[\"a\"]}", "{\"size\":2,\"tags\":[\"a\",\"a\"]}", "spec.tags[1]"},
        {"{\"size\":1,\"items\":[{\"name\":\"a\",\"v\":5}]}",
         "{\"size\":1,\"items\":[{\"name\":\"b\"},{\"name\":\"a\",\"v\":5}]}", NULL},
        {"{\"size\":1,\"items\":[{\"name\":\"a\",\"v\":5}]}", "{\"size\":1,\"items\":[{\"name\":\"b\",\"v\":5}]}",
         "spec.items[0].v"},
        {"{}", "{}", NULL},
        {"{}", "{\"color\":\"red\"}", "spec.size"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct schema_causes causes = {0};

        schema_validate_update(widget_kind(&a)->type, parse(&a, arena_printf(&a, "{\"spec\":%s}", cases[i].old)),
                               parse(&a, arena_printf(&a, "{\"spec\":%s}", cases[i].next)), &a, &causes);
        if (causes.n != (cases[i].field ? 1 : 0))
            fail_msg("%s → %s: %zu causes, first %s", cases[i].old, cases[i].next, causes.n,
                     causes.n ? causes.p[0].message : "none");
        if (causes.n)
            assert_string_equal(causes.p[0].field, cases[i].field);
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
    assert_non_null(
        json_at(doc, "paths/~1apis~1kubevirt.io~1v1~1namespaces~1{namespace}~1virtualmachines~1{name}/patch"));
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
    assert_text(
        json_at(doc, "definitions/io.k8s.api.core.v1.PodSpec/properties/containers/x-kubernetes-patch-merge-key"),
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
        cmocka_unit_test(test_kind),         cmocka_unit_test(test_values),     cmocka_unit_test(test_ratcheting),
        cmocka_unit_test(test_definitions),  cmocka_unit_test(test_schemas),    cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_completeness), cmocka_unit_test(test_changes),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_approval),     cmocka_unit_test(test_versions),   cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_own),          cmocka_unit_test(test_openapi_v3), cmocka_unit_test(test_openapi_v2),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
