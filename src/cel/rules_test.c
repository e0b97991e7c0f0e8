#include "cel/rules.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "json/json_test.h"

#include <fcntl.h>

static const struct json *schema_of(struct arena *a, const char *spec)
{
    return parse_quoted(a, arena_printf(a, "{'type':'object','properties':{'spec':%s}}", spec));
}

static const char *joined(struct arena *a, const struct schema_causes *c)
{
    AUTO(buf_done) struct buf b = {.limit = 1 << 20};

    for (size_t i = 0; i < c->n; i++)
        buf_addf(&b, "%s%s|%s|%s", i ? "\n" : "", c->p[i].reason + strlen("FieldValue"), c->p[i].field, c->p[i].message);
    return arena_strdup(a, b.n ? buf_str(&b) : STR(""));
}

#define RULE(rule) "{'type':'object','properties':{'a':{'type':'integer'},'b':{'type':'string','maxLength':10},"            \
                   "'l':{'type':'array','items':{'type':'string'}},'x-y':{'type':'string'},'for':{'type':'string'},"       \
                   "'ios':{'x-kubernetes-int-or-string':true},'any':{'x-kubernetes-preserve-unknown-fields':true},"        \
                   "'d':{'type':'string','format':'date-time'},'n':{'type':'number'},'by':{'type':'string','format':'byte'}," \
                   "'du':{'type':'string','format':'duration'}},'x-kubernetes-validations':[" rule "]}"

/* Parts of what is said about a definition; "" is nothing. */
static void test_definitions(void **state)
{
    static const struct {
        const char *spec, *want;
    } cases[] = {
        {RULE("{'rule':'self.a > 0'}"), ""},
        {RULE("{'rule':'self.x__dash__y == self.__for__'}"), ""},
        {RULE("{'rule':'type(self.ios) == int ? self.ios < 5 : self.ios == \\\"5\\\"'}"), ""},
        {RULE("{'rule':'self.d < timestamp(\\\"2030-01-01T00:00:00Z\\\")'}"), ""},
        {RULE("{'rule':'self.du < duration(\\\"1h\\\") && self.by == b\\\"a\\\" && self.n < 1.5'}"), ""},
        {RULE("{'rule':'self == oldSelf'}"), ""},
        {RULE("{'rule':'self.a >= oldSelf.orValue(self).a','optionalOldSelf':true}"), ""},
        {RULE("{'rule':'self.c > 0'}"),
         "Invalid|p.properties[spec].x-kubernetes-validations[0].rule|Invalid value: {\"Rule\":\"self.c \\u003e 0\",\"Message\":\"\","
         "\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: "
         "<input>:1:5: undefined field 'c'\n | self.c > 0\n | ....^"},
        {RULE("{'rule':'self.any == 1'}"), "undefined field 'any'"},
        {RULE("{'rule':'self.a'}"), "cel expression must evaluate to a bool"},
        {RULE("{'rule':' '}"), "Required|p.properties[spec].x-kubernetes-validations[0].rule|Required value: rule is not specified"},
        {RULE("{'rule':'true','message':' '}"), "].message|Invalid value: \" \": message must be non-empty if specified"},
        {RULE("{'rule':'true','message':'a\\nb'}"), "].message|Invalid value: \"a\\nb\": message must not contain line breaks"},
        {RULE("{'rule':'true\\n&& true'}"), "].message|Required value: message must be specified if rule contains line breaks"},
        {RULE("{'rule':'true','messageExpression':'1'}"), "].messageExpression|Invalid value: {"},
        {RULE("{'rule':'true','messageExpression':'1'}"), "messageExpression must evaluate to a string"},
        {RULE("{'rule':'true','messageExpression':'x'}"), "messageExpression compilation failed: ERROR: <input>:1:1: undeclared"},
        {RULE("{'rule':'true','reason':'Bad'}"), "NotSupported|p.properties[spec].x-kubernetes-validations[0].reason|Unsupported value: \"Bad\""},
        {RULE("{'rule':'true','fieldPath':'.a'}"), ""},
        {RULE("{'rule':'true','fieldPath':'.c'}"), "].fieldPath|Invalid value: \".c\": fieldPath must be a valid path: does not refer to a valid field"},
        {RULE("{'rule':'true','fieldPath':'a'}"), "fieldPath must be a valid path: expected [ or . but got: a"},
        {RULE("{'rule':'true','optionalOldSelf':true}"), "].optionalOldSelf|Invalid value: true: may not be set if oldSelf is not used in rule"},
        {RULE("{'rule':'image(self.b) == image(self.b)'}"), "function 'image' is not supported by this server"},
        {"{'type':'array','items':{'type':'string','x-kubernetes-validations':[{'rule':'self == oldSelf'}]}}",
         "oldSelf cannot be used on the uncorrelatable portion of the schema within p.properties[spec]"},
        {"{'type':'array','maxItems':5,'x-kubernetes-list-type':'map','x-kubernetes-list-map-keys':['k'],'items':{'type':'object',"
         "'properties':{'k':{'type':'string'}},'x-kubernetes-validations':[{'rule':'self == oldSelf'}]}}", ""},
        {"{'type':'array','items':{'type':'string'},'x-kubernetes-validations':[{'rule':'self.all(x, self.exists(y, x == y))'}]}",
         "Forbidden|p.properties[spec].x-kubernetes-validations[0].rule|Forbidden: estimated rule cost exceeds budget by factor of "
         "more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and "
         "strings are declared)"},
        {"{'type':'array','maxItems':10,'items':{'type':'string','maxLength':10},'x-kubernetes-validations':[{'rule':"
         "'self.all(x, self.exists(y, x == y))'}]}", ""},
        {"{'type':'integer','default':0,'x-kubernetes-validations':[{'rule':'self > 0','message':'positive'}]}",
         "Invalid|p.properties[spec].default|Invalid value: positive"},
        {"{'type':'integer','default':1,'x-kubernetes-validations':[{'rule':'self > 0','message':'positive'}]}", ""},
        {"{'x-kubernetes-preserve-unknown-fields':true,'x-kubernetes-validations':[{'rule':'true'}]}",
         "rule declared on schema that does not support validation rules type: '' x-kubernetes-preserve-unknown-fields: 'true'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct arena a = {0};
        struct schema_causes causes = {0};
        const char *got;

        (void)cel_rules_compile(&a, schema_of(&a, cases[i].spec), "p", &causes, NULL);
        got = joined(&a, &causes);
        if (*cases[i].want ? !strstr(got, cases[i].want) : *got)
            fail_msg("%s\n  got  %s\n  want %s", cases[i].spec, got, cases[i].want);
        arena_done(&a);
    }
}

#define LIMITS "{'type':'object','properties':{'min':{'type':'integer'},'max':{'type':'integer'},'name':{'type':'string','maxLength':40}," \
               "'set':{'type':'array','x-kubernetes-list-type':'set','maxItems':20,'items':{'type':'string'}},"                                         \
               "'ports':{'type':'array','x-kubernetes-list-type':'map','x-kubernetes-list-map-keys':['name'],'maxItems':10,'items':"       \
               "{'type':'object','properties':{'name':{'type':'string'},'port':{'type':'integer'}},"                                      \
               "'x-kubernetes-validations':[{'rule':'self.port == oldSelf.port','message':'port stays'},"                                 \
               "{'rule':'self.port > 0','message':'port is positive'}]}},"                                                                 \
               "'labels':{'type':'object','additionalProperties':{'type':'string','x-kubernetes-validations':[{'rule':'self.size() < 5'}]}}}," \
               "'x-kubernetes-validations':["

/* Objects against rules; old NULL is a create. */
static void test_objects(void **state)
{
    static const struct {
        const char *rules, *old, *object, *want;
    } cases[] = {
        {"{'rule':'self.min <= self.max'}", NULL, "{'min':1,'max':2}", ""},
        {"{'rule':'self.min <= self.max'}", NULL, "{'min':3,'max':2}", "Invalid|spec|Invalid value: failed rule: self.min <= self.max"},
        {"{'rule':'self.min <= self.max','message':' m '}", NULL, "{'min':3,'max':2}", "Invalid|spec|Invalid value: m"},
        {"{'rule':'self.min <= self.max','message':'m','messageExpression':'\\\"min \\\" + string(self.min)'}", NULL,
         "{'min':3,'max':2}", "Invalid|spec|Invalid value: min 3"},
        {"{'rule':'self.min <= self.max','message':'m','messageExpression':'string(self.min / 0)'}", NULL, "{'min':3,'max':2}",
         "Invalid|spec|Invalid value: m"},
        {"{'rule':'false','message':'m','reason':'FieldValueForbidden'}", NULL, "{}", "Forbidden|spec|Forbidden: m"},
        {"{'rule':'false','message':'m','reason':'FieldValueRequired','fieldPath':'.name'}", NULL, "{}", "Required|spec.name|Required value: m"},
        {"{'rule':'false','message':'m','reason':'FieldValueDuplicate'}", NULL, "{}", "Duplicate|spec|Duplicate value"},
        {"{'rule':'self.min > 0'}", NULL, "{}", "Invalid|spec|Invalid value: no such key: min evaluating rule: self.min > 0"},
        {"{'rule':'self == oldSelf','message':'immutable'}", NULL, "{'min':1}", ""},
        {"{'rule':'self == oldSelf','message':'immutable'}", "{'min':1}", "{'min':1}", ""},
        {"{'rule':'self == oldSelf','message':'immutable'}", "{'min':1}", "{'min':2}", "Invalid|spec|Invalid value: immutable"},
        {"{'rule':'oldSelf.hasValue() || self.min == 0','optionalOldSelf':true,'message':'starts at 0'}", NULL, "{'min':1}",
         "Invalid|spec|Invalid value: starts at 0"},
        {"{'rule':'oldSelf.hasValue() || self.min == 0','optionalOldSelf':true,'message':'starts at 0'}", "{'min':0}", "{'min':1}", ""},
        {"{'rule':'self.min <= self.max'}", "{'min':3,'max':2}", "{'min':3,'max':2}", ""},
        {"{'rule':'self.min <= self.max'}", "{'min':3,'max':2}", "{'min':4,'max':2}", "Invalid|spec|Invalid value: failed rule: self.min <= self.max"},
        {"{'rule':'self.set == [\\\"b\\\",\\\"a\\\"]'}", NULL, "{'set':['a','b']}", ""},
        {"{'rule':'(self.set + [\\\"a\\\"]).size() == 2'}", NULL, "{'set':['a','b']}", ""},
        {"{'rule':'self.set.all(x, x in oldSelf.set)','message':'append only'}", "{'set':['a']}", "{'set':['b']}", "Invalid|spec|Invalid value: append only"},
        {"{'rule':'true'}", "{'ports':[{'name':'a','port':1},{'name':'b','port':2}]}", "{'ports':[{'name':'b','port':2},{'name':'a','port':1}]}", ""},
        {"{'rule':'true'}", "{'ports':[{'name':'a','port':1},{'name':'b','port':2}]}", "{'ports':[{'name':'b','port':2},{'name':'a','port':3}]}",
         "Invalid|spec.ports[1]|Invalid value: port stays"},
        {"{'rule':'true'}", NULL, "{'ports':[{'name':'a','port':0}]}", "Invalid|spec.ports[0]|Invalid value: port is positive"},
        {"{'rule':'true'}", "{'ports':[{'name':'a','port':0}]}", "{'min':1,'ports':[{'name':'a','port':0}]}", ""},
        {"{'rule':'true'}", NULL, "{'labels':{'k.io/a':'longer'}}", "Invalid|spec.labels[k.io/a]|Invalid value: failed rule: self.size() < 5"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct arena a = {0};
        struct schema_causes faults = {0}, causes = {0};
        const struct json *schema = schema_of(&a, arena_printf(&a, "%s%s]}", LIMITS, cases[i].rules));
        const struct cel_rules *rules = cel_rules_compile(&a, schema, "p", &faults, NULL);
        const struct json *old = cases[i].old ? parse_quoted(&a, arena_printf(&a, "{'spec':%s}", cases[i].old)) : NULL;

        assert_string_equal(joined(&a, &faults), "");
        cel_rules_validate(rules, parse_quoted(&a, arena_printf(&a, "{'spec':%s}", cases[i].object)), old, &a, &causes, NULL);
        if (strcmp(joined(&a, &causes), cases[i].want) != 0)
            fail_msg("%s of %s\n  got  %s\n  want %s", cases[i].rules, cases[i].object, joined(&a, &causes), cases[i].want);
        arena_done(&a);
    }
}

static void test_root_sees_only_the_name_of_metadata(void **state)
{
    struct arena a = {0};
    struct schema_causes faults = {0}, causes = {0};
    const struct json *schema = parse_quoted(&a, "{'type':'object','x-kubernetes-validations':[{'rule':"
                                                 "'self.metadata.name.startsWith(\\\"a\\\") && self.kind == \\\"K\\\"'}]}");
    const struct cel_rules *rules = cel_rules_compile(&a, schema, "p", &faults, NULL);

    (void)state;
    assert_int_equal(faults.n, 0);
    cel_rules_validate(rules, parse_quoted(&a, "{'kind':'K','metadata':{'name':'ab'}}"), NULL, &a, &causes, NULL);
    assert_int_equal(causes.n, 0);
    cel_rules_validate(rules, parse_quoted(&a, "{'kind':'K','metadata':{'name':'b'}}"), NULL, &a, &causes, NULL);
    assert_int_equal(causes.n, 1);
    assert_string_equal(causes.p[0].field, "<nil>");
    schema = parse_quoted(&a, "{'type':'object','x-kubernetes-validations':[{'rule':'has(self.metadata.labels)'}]}");
    (void)cel_rules_compile(&a, schema, "p", &faults, NULL);
    assert_non_null(strstr(joined(&a, &faults), "undefined field 'labels'"));
    arena_done(&a);
}

static void test_functions_that_are_not_here_can_be_left_out(void **state)
{
    struct arena a = {0};
    struct schema_causes faults = {0}, causes = {0};
    const struct json *ignored = json_array(&a, NULL);
    const struct json *schema = schema_of(&a, "{'type':'string','x-kubernetes-validations':[{'rule':'isImage(self)'},{'rule':'self != \\\"\\\"'}]}");
    const struct cel_rules *rules = cel_rules_compile(&a, schema, "p", &faults, &ignored);

    (void)state;
    assert_int_equal(faults.n, 0);
    assert_int_equal(json_len(ignored), 1);
    assert_non_null(strstr(arena_strdup(&a, json_str(json_item(ignored, 0))), "p.properties[spec].x-kubernetes-validations[0].rule"));
    cel_rules_validate(rules, parse_quoted(&a, "{'spec':''}"), NULL, &a, &causes, NULL);
    assert_int_equal(causes.n, 1);
    arena_done(&a);
}

static void test_a_request_has_one_budget(void **state)
{
    struct arena a = {0};
    struct schema_causes faults = {0}, causes = {0};
    const struct json *list = json_array(&a, NULL), *schema;
    const struct cel_rules *rules;

    (void)state;
    schema = schema_of(&a, "{'type':'array','maxItems':400,'items':{'type':'integer'},'x-kubernetes-validations':["
                           "{'rule':'self.all(x, self.all(y, x <= y + 1000))'}]}");
    rules = cel_rules_compile(&a, schema, "p", &faults, NULL);
    assert_string_equal(joined(&a, &faults), "");
    for (int i = 0; i < 400; i++)
        list = json_append(&a, list, json_new_i64(&a, i));
    cel_rules_validate(rules, json_object(&a, "spec", list, NULL), NULL, &a, &causes, NULL);
    assert_non_null(strstr(joined(&a, &causes), "call cost exceeds limit for rule"));
    arena_done(&a);
}

static const char *data; /* recordings, or NULL */

/* KubeVirt's own definitions, as a real server has them. */
static void test_rules_of_kubevirt(void **state)
{
    struct arena a = {0};
    AUTO(buf_done) struct buf text = {.limit = 64u << 20};
    AUTO(error_clear) struct error err = {0};
    const struct json *list = NULL;
    size_t with_rules = 0;

    (void)state;
    if (!data || !file_read(AT_FDCWD, arena_printf(&a, "%s/kubevirt-live/crds-without-descriptions.json", data), &text, &err)
        || !json_parse(buf_str(&text), &a, &list, &err)) {
        arena_done(&a);
        print_message("no recordings: %s\n", error_text(&err));
        skip();
    }
    json_each_item(crd, json_is(list, JSON_ARRAY) ? list : json_get(list, "items")) {
        json_each_item(version, json_at(crd, "spec/versions")) {
            struct schema_causes faults = {0};

            with_rules += cel_rules_compile(&a, json_at(version, "schema/openAPIV3Schema"), "p", &faults, NULL) != NULL;
            assert_string_equal(joined(&a, &faults), "");
        }
    }
    assert_true(with_rules >= 10);
    arena_done(&a);
}

/* What popular definitions ask for, in our words: bounds, unions, uniqueness, immutability, names. */
static void test_rules_as_they_are_written(void **state)
{
#define ROUTE "{'type':'object','properties':{'type':{'type':'string','enum':['A','B']},'a':{'type':'object','properties':{'n':"      \
              "{'type':'integer'}}},'b':{'type':'string','maxLength':253},'timeout':{'type':'string','format':'duration'},"             \
              "'size':{'x-kubernetes-int-or-string':true,'anyOf':[{'type':'integer'},{'type':'string'}]},'on':{'type':'boolean'},"      \
              "'names':{'type':'array','maxItems':16,'items':{'type':'object','required':['name'],'properties':{'name':"                \
              "{'type':'string','maxLength':63},'port':{'type':'integer'}}}},'sel':{'type':'object','maxProperties':8,"                 \
              "'additionalProperties':{'type':'string','maxLength':63}}},'x-kubernetes-validations':[{'rule':'%s'}]}"
    static const struct {
        const char *rule, *object;
        bool holds;
    } cases[] = {
        {"!(has(self.a) && self.type != \\\"A\\\")", "{'type':'B','a':{}}", false},
        {"!(has(self.a) && self.type != \\\"A\\\")", "{'type':'A','a':{}}", true},
        {"[has(self.a), has(self.b)].filter(x, x).size() == 1", "{'a':{}}", true},
        {"[has(self.a), has(self.b)].filter(x, x).size() == 1", "{'a':{},'b':''}", false},
        {"self.names.all(p1, self.names.exists_one(p2, p1.name == p2.name))", "{'names':[{'name':'a'},{'name':'b'}]}", true},
        {"self.names.all(p1, self.names.exists_one(p2, p1.name == p2.name))", "{'names':[{'name':'a'},{'name':'a'}]}", false},
        {"self.names.all(l, l.name in [\\\"a\\\", \\\"b\\\"] ? !has(l.port) : true)", "{'names':[{'name':'a','port':1}]}", false},
        {"self.?names[?0].?port.orValue(80) == 80", "{}", true},
        {"self.?names[?0].?port.orValue(80) == 80", "{'names':[{'name':'a','port':1}]}", false},
        {"type(self.size) == string ? self.size.matches(\\\"^[0-9]+%$\\\") : self.size >= 0", "{'size':'5%'}", true},
        {"type(self.size) == string ? self.size.matches(\\\"^[0-9]+%$\\\") : self.size >= 0", "{'size':'5'}", false},
        {"type(self.size) == string ? self.size.matches(\\\"^[0-9]+%$\\\") : self.size >= 0", "{'size':-1}", false},
        {"!has(self.timeout) || self.timeout > duration(\\\"0s\\\")", "{'timeout':'5s'}", true},
        {"!has(self.timeout) || self.timeout > duration(\\\"0s\\\")", "{'timeout':'0s'}", false},
        {"self.sel.all(k, k.startsWith(\\\"x/\\\") && self.sel[k] != \\\"\\\")", "{'sel':{'x/a':'b'}}", true},
        {"self.sel.all(k, k.startsWith(\\\"x/\\\") && self.sel[k] != \\\"\\\")", "{'sel':{'x/a':''}}", false},
        {"!format.dns1123Subdomain().validate(self.b).hasValue()", "{'b':'a.b-c'}", true},
        {"!format.dns1123Subdomain().validate(self.b).hasValue()", "{'b':'A'}", false},
        {"has(self.on) && self.on", "{'on':true}", true},
        {"self.a.n.isSorted()", "{}", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct arena a = {0};
        struct schema_causes faults = {0}, causes = {0};
        const struct json *schema = schema_of(&a, arena_printf(&a, ROUTE, cases[i].rule));
        const struct cel_rules *rules = cel_rules_compile(&a, schema, "p", &faults, NULL);

        if (!faults.n)
            cel_rules_validate(rules, parse_quoted(&a, arena_printf(&a, "{'spec':%s}", cases[i].object)), NULL, &a, &causes, NULL);
        if ((faults.n + causes.n == 0) != cases[i].holds)
            fail_msg("%s of %s: %s%s", cases[i].rule, cases[i].object, joined(&a, &faults), joined(&a, &causes));
        arena_done(&a);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definitions),
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_root_sees_only_the_name_of_metadata),
        cmocka_unit_test(test_functions_that_are_not_here_can_be_left_out),
        cmocka_unit_test(test_a_request_has_one_budget),
        cmocka_unit_test(test_rules_of_kubevirt),
        cmocka_unit_test(test_rules_as_they_are_written),
    };

    data = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
