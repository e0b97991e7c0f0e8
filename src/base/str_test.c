#include "base/str.h"
#include "base/cleanup.h"
#include "base/base_test.h"

#define NONE "\x01" /* absent, in the tables */

static void same(struct str got, const char *want)
{
    if (strcmp(want, NONE) == 0)
        assert_null(got.p);
    else {
        assert_non_null(got.p);
        assert_int_equal(got.n, strlen(want));
        assert_memory_equal(got.p, want, got.n);
    }
}

static void cuts(void **state)
{
    static const struct {
        const char *text;
        bool found;
        const char *before, *after, *rbefore, *rafter;
    } cases[] = {
        {"a:b:c", true, "a", "b:c", "a:b", "c"},
        {":", true, "", "", "", ""},
        {"ab", false, "ab", NONE, "ab", NONE},
        {"", false, "", NONE, "", NONE},
        {"a:", true, "a", "", "a", ""},
    };
    struct str before, after;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(str_cut(str_of(cases[i].text), ':', &before, &after), cases[i].found);
        same(before, cases[i].before);
        same(after, cases[i].after);
        assert_int_equal(str_rcut(str_of(cases[i].text), ':', &before, &after), cases[i].found);
        same(before, cases[i].rbefore);
        same(after, cases[i].rafter);
    }
    assert_false(str_cut(STR_NONE, ':', &before, &after));
    assert_null(before.p);
}

static void pieces(void **state)
{
    struct str rest = STR("a,,b,"), piece;

    (void)state;
    assert_true(str_next(&rest, ',', &piece));
    same(piece, "a");
    assert_true(str_next(&rest, ',', &piece));
    same(piece, "");
    assert_true(str_next(&rest, ',', &piece));
    same(piece, "b");
    assert_true(str_next(&rest, ',', &piece));
    same(piece, "");
    assert_false(str_next(&rest, ',', &piece));
}

static void looks(void **state)
{
    size_t at = 99;

    (void)state;
    assert_true(str_starts(STR("abc"), STR("ab")));
    assert_false(str_starts(STR("a"), STR("ab")));
    assert_true(str_starts(STR_NONE, STR_NONE));
    assert_true(str_ends(STR("abc"), STR("bc")));
    assert_false(str_ends(STR("bc"), STR("abc")));
    assert_true(str_ends(STR_NONE, STR("")));
    assert_true(str_has(STR("abc"), 'c'));
    assert_false(str_has(STR_NONE, 'c'));
    assert_true(str_find(STR("hello"), STR("ll"), &at));
    assert_int_equal(at, 2);
    assert_true(str_find(STR_NONE, STR(""), &at));
    assert_int_equal(at, 0);
    assert_false(str_find(STR("he"), STR("hel"), &at));
    assert_true(str_eq_nocase(STR("Content-Type"), STR("content-tYPE")));
    assert_false(str_eq_nocase(STR("a["), STR("A{")));
    assert_true(str_cmp(STR("a"), STR("ab")) < 0);
    assert_true(str_cmp(STR("\xff"), STR("a")) > 0);
    assert_true(str_cmp(STR_NONE, STR("")) == 0);
    same(str_trim(STR(" \t\r\nx y\v\f ")), "x y");
    same(str_trim(STR("  ")), "");
    same(str_skip(STR("abc"), 9), "");
    same(str_take(STR("abc"), 9), "abc");
    same(str_take(STR("abc"), 1), "a");
    assert_null(str_dup(STR_NONE));
    assert_true(str_hash(STR("12345678")) != str_hash(STR("12345679")));
    assert_true(str_hash(STR_NONE) == str_hash(STR("")));
}

static void utf8(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true}, {"plain", true}, {"\xc3\xa9", true}, {"\xe2\x82\xac", true},
        {"\xf0\x9f\x98\x80", true}, {"\xf4\x8f\xbf\xbf", true}, {"\xef\xbf\xbf", true},
        {"\x80", false}, {"\xc0\x80", false}, {"\xc1\xbf", false}, {"\xe0\x9f\xbf", false},
        {"\xed\xa0\x80", false}, {"\xf0\x8f\xbf\xbf", false}, {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false}, {"\xc3", false}, {"\xe2\x82", false}, {"a\xffz", false},
        {"\xe2\x28\xa1", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(str_valid_utf8(str_of(cases[i].text)), cases[i].valid);
}

static void numbers(void **state)
{
    static const struct {
        const char *text;
        uint64_t max;
        bool ok;
        uint64_t value;
    } unsigneds[] = {
        {"0", 0, true, 0}, {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0}, {"256", 255, false, 0}, {"255", 255, true, 255},
        {"", 9, false, 0}, {"-1", 9, false, 0}, {"+1", 9, false, 0}, {" 1", 9, false, 0},
        {"1 ", 9, false, 0}, {"0x1", 9, false, 0}, {"99999999999999999999999999", UINT64_MAX, false, 0},
    };
    static const struct {
        const char *text;
        int64_t min, max;
        bool ok;
        int64_t value;
    } signeds[] = {
        {"-9223372036854775808", INT64_MIN, INT64_MAX, true, INT64_MIN},
        {"9223372036854775807", INT64_MIN, INT64_MAX, true, INT64_MAX},
        {"9223372036854775808", INT64_MIN, INT64_MAX, false, 0},
        {"-9223372036854775809", INT64_MIN, INT64_MAX, false, 0},
        {"-3", -2, 2, false, 0}, {"3", -2, 2, false, 0}, {"-2", -2, 2, true, -2},
        {"-", -2, 2, false, 0}, {"--1", -2, 2, false, 0}, {"", -2, 2, false, 0}, {"-0", 0, 2, true, 0},
    };
    AUTO(error_clear) struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(unsigneds); i++) {
        uint64_t got = 0;

        assert_int_equal(parse_u64(str_of(unsigneds[i].text), unsigneds[i].max, &got, &err), unsigneds[i].ok);
        assert_true(got == unsigneds[i].value);
    }
    for (size_t i = 0; i < ARRAY_SIZE(signeds); i++) {
        int64_t got = 0;

        assert_int_equal(parse_i64(str_of(signeds[i].text), signeds[i].min, signeds[i].max, &got, &err),
                         signeds[i].ok);
        assert_true(got == signeds[i].value);
    }
    assert_false(parse_u64(STR("12x"), 9, &(uint64_t){0}, &err));
    assert_string_equal(err.msg, "'12x' is not a number from 0 to 9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts), cmocka_unit_test(pieces), cmocka_unit_test(looks),
        cmocka_unit_test(utf8), cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
