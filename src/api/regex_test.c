#include "json/json_test.h"
#include "api/regex.h"

#include "base/cleanup.h"

static void test_matches(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool result;
    } cases[] = {
        {"^[a-z]+$", "abc", true},
        {"^[a-z]+$", "aBc", false},
        {"^\\d{3}$", "123", true},
        {"^[\\w.-]+$", "a_b.c-", true},
        {"^(?:a|b)$", "b", true},
        {"a\\.b", "axb", false},
        {"^[^/]+$", "a/b", false},
        {"^[\\]x]$", "]", true},
        {"^[]x]$", "]", true},
        {"^\\S+$", "a b", false},
        {"^[+-]?\\d+$", "-12", true},
        {"^[a\\-z]$", "-", true},
        {"^[0-9a-fA-F^]$", "^", true},
        {"a*?", "", true},
        {"(?i)AbC", "xaBcx", true},
        {"(?i)k", "\xe2\x84\xaa", true}, /* the Kelvin sign */
        {"^a{,2}$", "a{,2}", true},
        {"^a{2,}$", "a", false},
        {"^a{2,}$", "aaaa", true},
        {"^a{2,3}$", "aaaa", false},
        {"^(a|ab)(c|bcd)$", "abcd", true},
        {"^$", "", true},
        {"^$", "\n", false},
        {"(?m)^b$", "a\nb\nc", true},
        {"a.c", "a\nc", false},
        {"(?s)a.c", "a\nc", true},
        {"(?i:a)b", "AB", false},
        {"\\bfoo\\b", "a foo b", true},
        {"\\bfoo\\b", "afoo", false},
        {"^\\pL+$", "\xc3\xa4\xc3\xb6x", true},
        {"^\\p{Lu}$", "\xc3\x84", true},
        {"^\\P{Lu}$", "\xc3\xa4", true},
        {"^.$", "\xc3\xa4", true},
        {"^[[:alpha:]_]+$", "ab_", true},
        {"^[[:^digit:]]+$", "ab1", false},
        {"^\\Qa.b\\E$", "a.b", true},
        {"^\\x41\\x{42}\\103$", "ABC", true},
        {"(?P<year>[0-9]{4})", "in 2026", true},
        {"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$", "a.b-c.d", true},
        {"()*", "", true},
        {"(a*)*b", "aaac", false},
        {"^(|a)b$", "b", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(error_clear) struct error err = {0};

        if (!regex_check(str_of(cases[i].pattern), &err))
            fail_msg("%s: %s", cases[i].pattern, error_text(&err));
        if (regex_match(cases[i].pattern, str_of(cases[i].text)) != cases[i].result)
            fail_msg("%s on %s", cases[i].pattern, cases[i].text);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *pattern, *message;
    } cases[] = {
        {"[a", "missing closing ]: `[a`"},
        {"(a", "missing closing ): `(a`"},
        {"a)", "unexpected ): `a)`"},
        {"*a", "missing argument to repetition operator: `*`"},
        {"a**", "invalid nested repetition operator: `**`"},
        {"a{1001}", "invalid repeat count: `{1001}`"},
        {"a{2,1}", "invalid repeat count: `{2,1}`"},
        {"((a{900}){900}){900}", "invalid repeat count: `{900}`"},
        {"[z-a]", "invalid character class range: `z-a`"},
        {"(?=a)", "invalid or unsupported Perl syntax: `(?=`"},
        {"\\8", "invalid escape sequence: `\\8`"},
        {"\\y", "invalid escape sequence: `\\y`"},
        {"a\\", "trailing backslash at end of expression: ``"},
        {"\\p{Klingon}", "invalid character class range: `\\p{Klingon}`"},
        {"(?P<a-b>x)", "invalid named capture: `(?P<a-b>`"},
        {"(((a{30}){30}){30})", "invalid repeat count: `{30}`"},
        {"(abcdefghijklmnopqrstuvwxyz){1000}", "expression too large"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(error_clear) struct error err = {0};

        if (regex_check(str_of(cases[i].pattern), &err))
            fail_msg("%s is taken", cases[i].pattern);
        if (!str_ends(str_of(error_text(&err)), str_of(cases[i].message)))
            fail_msg("%s: %s", cases[i].pattern, error_text(&err));
    }
}

/* What takes a backtracking matcher until the end of days. */
static void test_hostile(void **state)
{
    AUTO(buf_done) struct buf text = {0}, deep = {0};
    AUTO(error_clear) struct error err = {0};

    (void)state;
    for (int i = 0; i < 20000; i++)
        buf_addc(&text, 'a');
    buf_addc(&text, '!');
    assert_false(regex_match("^(a+)+$", buf_str(&text)));
    assert_false(regex_match("^(a|a)*$", buf_str(&text)));
    assert_false(regex_match("^(a|b|ab)*bc$", buf_str(&text)));
    for (int i = 0; i < 10000; i++)
        buf_addc(&deep, '(');
    assert_false(regex_check(buf_str(&deep), &err));
    error_clear(&err);
    buf_clear(&deep);
    for (int i = 0; i < 10000; i++)
        buf_adds(&deep, "a?");
    assert_false(regex_check(buf_str(&deep), &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
