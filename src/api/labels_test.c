#include "json/json_test.h"
#include "api/labels.h"

#include "api/names.h"
#include "base/cleanup.h"

static void test_match(void **state)
{
    static const struct {
        const char *selector, *labels;
        bool matches;
    } cases[] = {
        {"", "{}", true},
        {" a = b ", "{\"a\":\"b\"}", true},
        {"a==b,c!=d", "{\"a\":\"b\"}", true},
        {"a=b,c!=d", "{\"a\":\"b\",\"c\":\"d\"}", false},
        {"a in (x, y)", "{\"a\":\"y\"}", true},
        {"a in (x,y)", "{}", false},
        {"a notin (x,y)", "{}", true},
        {"a notin (x)", "{\"a\":\"x\"}", false},
        {"a", "{\"a\":\"\"}", true},
        {"!a", "{\"a\":\"\"}", false},
        {"!a", "{}", true},
        {"a=", "{\"a\":\"\"}", true},
        {"a in (,x)", "{\"a\":\"\"}", true},
        {"n>3,n<10", "{\"n\":\"4\"}", true},
        {"n>3", "{\"n\":\"x\"}", false},
        {"kubevirt.io/domain=vm1", "{\"kubevirt.io/domain\":\"vm1\"}", true},
        {"in in (in)", "{\"in\":\"in\"}", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct label_selector s;
        struct error err = {0};

        if (!label_selector_parse(str_of(cases[i].selector), &a, &s, &err))
            fail_msg("%s: %s", cases[i].selector, error_text(&err));
        if (label_selector_match(&s, parse(&a, cases[i].labels)) != cases[i].matches)
            fail_msg("%s on %s", cases[i].selector, cases[i].labels);
    }
}

static void test_refused(void **state)
{
    static const char *const cases[][2] = {
        {"a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"},
        {"a,", "unable to parse requirement: found '', expected: identifier after ','"},
        {"=x", "unable to parse requirement: found '=', expected: !, identifier, or ','"},
        {"a in x", "unable to parse requirement: found 'x', expected: '('"},
        {"a=b c", "unable to parse requirement: found 'c', expected: ',' or 'end of string'"},
        {"n>x", "unable to parse requirement: <nil>: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must "
                "be an integer"},
        {"a in (b", NULL},
        {"-a=b", NULL},
        {"a=b/c", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct label_selector s;

        if (label_selector_parse(str_of(cases[i][0]), &a, &s, &err))
            fail_msg("'%s' was taken", cases[i][0]);
        if (cases[i][1])
            assert_string_equal(error_text(&err), cases[i][1]);
    }
}

static void test_object(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct label_selector s;

    (void)state;
    assert_true(label_selector_from(NULL, &a, &s, &err));
    assert_false(label_selector_match(&s, NULL));
    assert_true(label_selector_from(parse(&a, "{}"), &a, &s, &err));
    assert_true(label_selector_match(&s, NULL));
    assert_true(label_selector_from(
        parse(&a, "{\"matchLabels\":{\"a\":\"b\"},\"matchExpressions\":[{\"key\":\"c\",\"operator\":\"Exists\"}]}"),
        &a, &s, &err));
    assert_true(label_selector_match(&s, parse(&a, "{\"a\":\"b\",\"c\":\"1\"}")));
    assert_false(label_selector_match(&s, parse(&a, "{\"a\":\"b\"}")));
    assert_false(label_selector_from(parse(&a, "{\"matchExpressions\":[{\"key\":\"c\",\"operator\":\"Is\"}]}"), &a, &s,
                                     &err));
    assert_string_equal(error_text(&err), "\"Is\" is not a valid label selector operator");
}

static void test_fields(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct field_selector s;
    const struct json *pod =
        parse(&a, "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"nodeName\":\"n,1\",\"hostNetwork\":true}}");

    (void)state;
    assert_true(field_selector_parse(STR("metadata.name=x,spec.nodeName==n\\,1,status.phase!=Failed"), &a, &s, &err));
    assert_int_equal(s.n, 3);
    assert_true(field_selector_match(&s, pod));
    assert_true(str_is(field_selector_value(&s, "metadata.name"), "x"));
    assert_true(field_selector_parse(STR("spec.hostNetwork=true,status.phase="), &a, &s, &err));
    assert_true(field_selector_match(&s, pod));
    assert_false(field_selector_parse(STR("metadata.name"), &a, &s, &err));
    assert_string_equal(error_text(&err), "invalid selector: 'metadata.name'; can't understand 'metadata.name'");
}

static void test_names(void **state)
{
    AUTO(arena_done) struct arena a = {0};

    (void)state;
    assert_null(name_dns1123_subdomain(STR("a.b-c.d")));
    assert_non_null(name_dns1123_subdomain(STR("Bad_Name")));
    assert_non_null(name_dns1123_subdomain(STR("a..b")));
    assert_non_null(name_dns1123_subdomain(STR("")));
    assert_null(name_dns1123_label(STR("1-a")));
    assert_non_null(name_dns1035_label(STR("1-a")));
    assert_null(name_label_value(STR("")));
    assert_non_null(name_label_value(STR("a/b")));
    assert_null(name_qualified(STR("kubevirt.io/x_Y"), &a));
    assert_string_equal(name_qualified(STR("/x"), &a), "prefix part must be non-empty");
    assert_string_equal(name_qualified(STR("a/"), &a), "name part must be non-empty");
    assert_non_null(name_qualified(STR("a/b/c"), &a));
    assert_string_equal(name_path_segment(STR(".."), &a), "may not be '..'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),  cmocka_unit_test(test_refused), cmocka_unit_test(test_object),
        cmocka_unit_test(test_fields), cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
