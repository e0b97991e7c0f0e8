#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "apiserver/rules.h"
#include "base/cleanup.h"

static const struct json *parse(struct arena *a, const char *text)
{
    struct error err = {0};
    const struct json *v;

    assert_true(json_parse(str_of(text), a, &v, &err));
    return v;
}

static void a_rule_allows(void **state)
{
    static const struct {
        const char *rule, *verb, *group, *resource, *sub, *name, *path;
        bool yes;
    } rows[] = {
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}", "get", "", "pods",
         NULL, "a", NULL, true},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}", "list", "", "pods",
         NULL, NULL, NULL, false},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}", "get", "apps",
         "pods", NULL, NULL, NULL, false},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}", "get", "", "pods",
         "log", NULL, NULL, false},
        {"{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}", "x", "y", "z", "s", "n",
         NULL, true},
        {"{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}", "get", NULL, NULL, NULL,
         NULL, "/x", false},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"*\"],\"resources\":[\"*/scale\"]}", "get", "a",
         "vms", "scale", "n", NULL, true},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"*\"],\"resources\":[\"*/scale\"]}", "get", "a",
         "vms", NULL, "n", NULL, false},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"*\"],\"resources\":[\"pods/*\"]}", "get", "",
         "pods", "log", "n", NULL, false},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"],\"resourceNames\":["
         "\"a\"]}",
         "get", "", "pods", NULL, "a", NULL, true},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"],\"resourceNames\":["
         "\"a\"]}",
         "get", "", "pods", NULL, "b", NULL, false},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"],\"resourceNames\":["
         "\"a\"]}",
         "get", "", "pods", NULL, NULL, NULL, false},
        {"{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"],\"resourceNames\":[\"*"
         "\"]}",
         "get", "", "pods", NULL, "b", NULL, false},
        {"{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/a\",\"/b/*\"]}", "get", NULL, NULL, NULL,
         NULL, "/a", true},
        {"{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/a\",\"/b/*\"]}", "get", NULL, NULL, NULL,
         NULL, "/b/c/d", true},
        {"{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/a\",\"/b/*\"]}", "get", NULL, NULL, NULL,
         NULL, "/b", false},
        {"{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"*\"]}", "get", NULL, NULL, NULL, NULL, "/x",
         true},
        {"{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"*\"]}", "post", NULL, NULL, NULL, NULL, "/x",
         false},
        {"{}", "get", "", "pods", NULL, NULL, NULL, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct access w = {.verb = str_of(rows[i].verb),
                                 .group = str_of(rows[i].group),
                                 .resource = str_of(rows[i].resource),
                                 .subresource = str_of(rows[i].sub),
                                 .name = str_of(rows[i].name),
                                 .path = str_of(rows[i].path)};

        assert_int_equal(rule_allows(parse(&a, rows[i].rule), &w), rows[i].yes);
    }
}

static void rules_cover_rules(void **state)
{
    static const struct {
        const char *owned, *wanted, *missing; /* NULL: nothing is missing */
    } rows[] = {
        {"[]", "[]", NULL},
        {"[]", "[{\"verbs\":[\"get\",\"list\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]",
         "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}"},
        {"[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]},{\"verbs\":["
         "\"list\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]",
         "[{\"verbs\":[\"get\",\"list\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]", NULL},
        {"[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}]",
         "[{\"verbs\":[\"*\"],\"apiGroups\":[\"a\"],\"resources\":[\"b/"
         "c\"],\"resourceNames\":[\"n\"]}]",
         NULL},
        {"[{\"verbs\":[\"get\",\"list\"],\"apiGroups\":[\"a\"],\"resources\":[\"b\"]}]",
         "[{\"verbs\":[\"*\"],\"apiGroups\":[\"a\"],\"resources\":[\"b\"]}]",
         "{APIGroups:[\"a\"], Resources:[\"b\"], Verbs:[\"*\"]}"},
        {"[{\"verbs\":[\"get\"],\"apiGroups\":[\"a\"],\"resources\":[\"b\"],\"resourceNames\":["
         "\"n\"]}]",
         "[{\"verbs\":[\"get\"],\"apiGroups\":[\"a\"],\"resources\":[\"b\"]}]",
         "{APIGroups:[\"a\"], Resources:[\"b\"], Verbs:[\"get\"]}"},
        {"[{\"verbs\":[\"get\"],\"apiGroups\":[\"a\"],\"resources\":[\"*/scale\"]}]",
         "[{\"verbs\":[\"get\"],\"apiGroups\":[\"a\"],\"resources\":[\"b/scale\",\"b\"]}]",
         "{APIGroups:[\"a\"], Resources:[\"b\"], Verbs:[\"get\"]}"},
        {"[{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/a/*\"]}]",
         "[{\"verbs\":[\"get\",\"post\"],\"nonResourceURLs\":[\"/a/b\",\"/c\"]}]",
         "{NonResourceURLs:[\"/a/b\"], Verbs:[\"post\"]}\n{NonResourceURLs:[\"/c\"], "
         "Verbs:[\"get\"]}\n"
         "{NonResourceURLs:[\"/c\"], Verbs:[\"post\"]}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        const char *missing = NULL;

        assert_int_equal(
            rules_cover(parse(&a, rows[i].owned), parse(&a, rows[i].wanted), &a, &missing),
            rows[i].missing == NULL);
        if (rows[i].missing)
            assert_string_equal(missing, rows[i].missing);
    }
}

/* 2,000 groups times 2,000 resources times 100 verbs would be compared for hours. */
static void a_rule_of_endless_lists_is_refused_soon(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf list = {0};
    const struct json *names, *rule,
        *owned = parse(&a, "[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]");
    const char *missing;

    (void)state;
    buf_addc(&list, '[');
    for (int i = 0; i < 2000; i++)
        buf_addf(&list, "%s\"x%d\"", i ? "," : "", i);
    buf_addc(&list, ']');
    names = parse(&a, list.p);
    rule = json_array(
        &a, json_object(&a, "verbs", names, "apiGroups", names, "resources", names, NULL), NULL);
    assert_false(rules_cover(owned, rule, &a, &missing));
    assert_false(
        rules_cover(rule,
                    json_array(&a,
                               json_object(&a, "verbs", names, "apiGroups", names, "resources",
                                           json_append(&a, names, json_new_z(&a, "y")), NULL),
                               NULL),
                    &a, &missing));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_rule_allows),
                                       cmocka_unit_test(rules_cover_rules),
                                       cmocka_unit_test(a_rule_of_endless_lists_is_refused_soon)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
