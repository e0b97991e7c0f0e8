#include "base/base_test.h"

#include "base/cleanup.h"
#include "ctl/flags.h"
#include "ctl/target.h"

static const struct flag table[] = {
    {"force", 'f', FLAG_BOOL, NULL, "x"},   {"keep", 0, FLAG_BOOL, "true", "x"}, {"grace-period", 0, FLAG_INT, "-1", "x"},
    {"name", 'n', FLAG_STRING, "otherwise", "x"}, {"volume", 0, FLAG_LIST, NULL, "x"},
};

#define PARSE(f, help, err, ...)                                                                   \
    flags_parse(f, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), (char *[]){__VA_ARGS__}, help, err)

static char a_force[] = "--force", a_keep[] = "--keep=false", a_grace[] = "--grace-period=0", a_n[] = "-nabc", a_vm[] = "vm",
            a_v1[] = "--volume=src:a=b", a_volume[] = "--volume", a_v2[] = "x,y", a_dd[] = "--", a_dash_x[] = "-x", a_dash[] = "-",
            a_fn[] = "-fn", a_bad_int[] = "--grace-period=1s", a_bad_bool[] = "--force=maybe", a_unknown[] = "--unknown",
            a_h[] = "-h";

static void test_forms(void **state)
{
    AUTO(flags_done) struct flags f = {.sets = {FLAG_SET(table)}};
    AUTO(error_clear) struct error err = {0};
    bool help;

    (void)state;
    assert_true(PARSE(&f, &help, &err, a_force, a_keep, a_vm, a_grace, a_n, a_v1, a_volume, a_v2, a_dash, a_dd, a_dash_x));
    assert_false(help);
    assert_true(flags_bool(&f, "force"));
    assert_false(flags_bool(&f, "keep"));
    assert_int_equal(flags_int(&f, "grace-period"), 0);
    assert_string_equal(flags_str(&f, "name"), "abc");
    assert_string_equal(flags_item(&f, "volume", 0), "src:a=b");
    assert_string_equal(flags_item(&f, "volume", 1), "x,y");
    assert_null(flags_item(&f, "volume", 2));
    assert_int_equal(f.args.n, 3);
    assert_string_equal(f.args.p[0], "vm");
    assert_string_equal(f.args.p[1], "-");
    assert_string_equal(f.args.p[2], "-x");
}

static void test_defaults(void **state)
{
    AUTO(flags_done) struct flags f = {.sets = {FLAG_SET(table)}};
    AUTO(error_clear) struct error err = {0};
    bool help;

    (void)state;
    assert_true(PARSE(&f, &help, &err, a_fn, a_vm));
    assert_true(flags_bool(&f, "force"));
    assert_true(flags_bool(&f, "keep"));
    assert_int_equal(flags_int(&f, "grace-period"), -1);
    assert_false(flags_given(&f, "grace-period"));
    assert_string_equal(flags_str(&f, "name"), "vm");
    assert_int_equal(f.args.n, 0);
}

static void refused(char *arg, const char *want)
{
    AUTO(flags_done) struct flags f = {.sets = {FLAG_SET(table)}};
    AUTO(error_clear) struct error err = {0};
    bool help;
    size_t at;

    assert_false(flags_parse(&f, 1, &arg, &help, &err));
    assert_true(str_find(str_of(error_text(&err)), str_of(want), &at));
}

static void test_refusals(void **state)
{
    AUTO(flags_done) struct flags f = {.sets = {FLAG_SET(table)}};
    AUTO(error_clear) struct error err = {0};
    bool help;

    (void)state;
    refused(a_unknown, "unknown flag --unknown");
    refused(a_dash_x, "unknown flag -x");
    refused(a_bad_int, "whole number");
    refused(a_bad_bool, "true or false");
    refused(a_volume, "wants a value");
    refused(a_fn, "wants a value");
    assert_true(PARSE(&f, &help, &err, a_h, a_unknown));
    assert_true(help);
}

static void test_targets(void **state)
{
    static const struct {
        const char *text;
        bool bare, user;
        const char *want; /* "user type name ns", NULL: refused */
    } rows[] = {
        {"vm/a", false, false, "- vm a def"},
        {"vmis/a.b/other", false, false, "- vmi a.b other"},
        {"VirtualMachine/a", false, false, "- vm a def"},
        {"a", true, false, "- vmi a def"},
        {"a", false, false, NULL},
        {"jo@vm/a", false, true, "jo vm a def"},
        {"jo@corp@vm/a/n", false, true, "jo@corp vm a n"},
        {"jo@vm/a", false, false, NULL},
        {"@vm/a", false, true, NULL},
        {"-oProxyCommand=x@vm/a", false, true, NULL},
        {"vm/-a", false, false, NULL},
        {"vm/..", false, false, NULL},
        {"vm/a/b/c", false, false, NULL},
        {"vm/", false, false, NULL},
        {"vm/a/", false, false, NULL},
        {"pod/a", false, false, NULL},
        {"vm/a%2f", false, false, NULL},
        {"", true, false, NULL},
    };
    const enum target_kind vmi = TARGET_VMI;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(target_done) struct target t = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO(buf_done) struct buf b = {0};
        bool ok = target_parse(str_of(rows[i].text), rows[i].bare ? &vmi : NULL, rows[i].user, "def", &t, &err);

        if (ok != (rows[i].want != NULL))
            fail_msg("'%s': %s", rows[i].text, error_text(&err));
        if (!ok)
            continue;
        buf_addf(&b, "%s %s %s %s", t.user ? t.user : "-", target_kind_name(t.kind), t.name, t.ns);
        assert_string_equal(b.p, rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_targets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
