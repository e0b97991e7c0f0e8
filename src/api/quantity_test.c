#include "api/quantity.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_canonical(void **state)
{
    static const struct {
        const char *in, *out;
        int64_t value, milli;
    } cases[] = {
        {"0", "0", 0, 0},
        {"1000m", "1", 1, 1000},
        {"1500m", "1500m", 2, 1500},
        {"1.5", "1500m", 2, 1500},
        {"-1.5", "-1500m", -2, -1500},
        {"1Ki", "1Ki", 1024, 1024000},
        {"1023Ki", "1023Ki", 1047552, 1047552000},
        {"1024Mi", "1Gi", 1 << 30, (int64_t)1000 << 30},
        {"1.5Gi", "1536Mi", 1610612736, 1610612736000},
        {"0.5Mi", "512Ki", 524288, 524288000},
        {"512", "512", 512, 512000},
        {"1000", "1k", 1000, 1000000},
        {"1e3", "1e3", 1000, 1000000},
        {"1E3", "1e3", 1000, 1000000},
        {"12e4", "120e3", 120000, 120000000},
        {"1E", "1E", 1000000000000000000, INT64_MAX},
        {"100Ei", "9223372036854775807", INT64_MAX, INT64_MAX},
        {"0.1n", "1n", 1, 1},
        {"1.0000000001", "1000000001n", 2, 1001},
        {"0.00001Ki", "10240u", 1, 11},
        {"000128M", "128M", 128000000, 128000000000},
        {".5", "500m", 1, 500},
        {"+5", "5", 5, 5000},
        {"5.", "5", 5, 5000},
        {"1e-3", "1e-3", 1, 1},
        {"0Ki", "0", 0, 0},
        {"0.12345678901234567890123456789Ei", "-", 142335986942043634,
         INT64_MAX},
        {"1e-400", "1e-9", 1, 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct error err = {0};
        struct quantity q;

        if (!quantity_parse(str_of(cases[i].in), &q, &err))
            fail_msg("%s: %s", cases[i].in, error_text(&err));
        if (strcmp(cases[i].out, "-") != 0) /* else only its value is of interest */
            assert_string_equal(quantity_text(&a, q), cases[i].out);
        assert_int_equal(quantity_value(q), cases[i].value);
        assert_int_equal(quantity_milli(q), cases[i].milli);
    }
}

static void test_refused(void **state)
{
    static const char *const cases[] = {"",     "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i",
                                        "-3.01i", "-3.01e-", " 1", "1 ", "1e", "--1", "1e99999999999"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};
        struct quantity q;

        if (quantity_parse(str_of(cases[i]), &q, &err))
            fail_msg("'%s' was taken", cases[i]);
        assert_int_equal(err.kind, ERROR_INVALID);
        error_clear(&err);
    }
}

static void test_arithmetic(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct error err = {0};
    struct quantity one, two, half, zero = {0};
    int64_t n;

    (void)state;
    assert_true(quantity_parse(STR("1Gi"), &one, &err));
    assert_true(quantity_parse(STR("500M"), &two, &err));
    assert_true(quantity_parse(STR("1500m"), &half, &err));
    assert_string_equal(quantity_text(&a, quantity_add(one, one)), "2Gi");
    assert_string_equal(quantity_text(&a, quantity_add(one, two)), "1573741824");
    assert_string_equal(quantity_text(&a, quantity_add(zero, one)), "1Gi");
    assert_true(quantity_cmp(one, two) > 0);
    assert_true(quantity_exact(one, &n));
    assert_int_equal(n, 1 << 30);
    assert_false(quantity_exact(half, &n));
    assert_int_equal(quantity_bytes(STR("64Mi"), 0), 64 << 20);
    assert_int_equal(quantity_millis(STR("nonsense"), -1), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_arithmetic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
