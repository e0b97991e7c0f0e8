#include "base/ident.h"
#include "base/cleanup.h"
#include "base/base_test.h"

#define DNS "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

static void uuids(void **state)
{
    char a[UUID_LEN + 1], b[UUID_LEN + 1];

    (void)state;
    ident_uuid4(a);
    ident_uuid4(b);
    assert_true(ident_is_uuid(str_of(a)));
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
    assert_string_not_equal(a, b);
    assert_false(ident_is_uuid(STR("6ba7b810-9dad-11d1-80b4-00c04fd430c")));
    assert_false(ident_is_uuid(STR("6ba7b810x9dad-11d1-80b4-00c04fd430c8")));
    assert_false(ident_is_uuid(STR("6ba7b810-9dad-11d1-80b4-00c04fd430cg")));
    assert_true(ident_is_uuid(STR("6BA7B810-9DAD-11D1-80B4-00C04FD430C8")));
}

static void uuid5_is_the_standards(void **state)
{
    char got[UUID_LEN + 1], name[201];

    (void)state;
    ident_uuid5(DNS, STR("www.example.com"), got);
    assert_string_equal(got, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    ident_uuid5(DNS, STR("python.org"), got);
    assert_string_equal(got, "886313e1-3b8a-5372-9b90-0c9aee199e5d");
    /* every length around the ends of SHA-1's blocks, against Python's uuid.uuid5 */
    memset(name, 'a', 200);
    static const struct {
        size_t n;
        const char *uuid;
    } cases[] = {
        {0, "4ebd0208-8328-5d69-8c44-ec50939c0967"},
        {38, "fa465dc7-82d5-5c3b-a5bb-9b8f3132a2b7"},
        {39, "5824f981-4282-59d4-9716-acb6d741350e"},
        {40, "39f39c20-db47-5131-8879-62f8f67f9014"},
        {41, "c445c3dd-091c-547b-a5c2-497aa1f78adf"},
        {47, "660c273c-8a00-5941-b6f4-8d0afed88966"},
        {48, "7280cc42-274a-5c4a-91fc-ae23f853eeb7"},
        {49, "69349718-028b-5ff0-a00f-c024ded6e6ee"},
        {111, "5a333448-30c7-569b-ab96-842bddfbe8ca"},
        {112, "ab683ad5-4de4-5faf-bf37-0788e34176da"},
        {200, "fe30bfa6-ef90-59b3-b108-118411d0f0ab"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ident_uuid5(DNS, str_n(name, cases[i].n), got);
        assert_string_equal(got, cases[i].uuid);
    }
}

static void suffixes(void **state)
{
    char text[41], again[41];

    (void)state;
    ident_suffix(text, 40);
    assert_int_equal(strspn(text, "bcdfghjklmnpqrstvwxz2456789"), 40);
    assert_int_equal(strlen(text), 40);
    ident_suffix_from(42, text, 40);
    ident_suffix_from(42, again, 40);
    assert_string_equal(text, again);
    assert_int_equal(strspn(text, "bcdfghjklmnpqrstvwxz2456789"), 40);
    ident_suffix_from(43, again, 5);
    assert_int_equal(strlen(again), 5);
    assert_memory_not_equal(text, again, 5);
}

static void times(void **state)
{
    static const struct {
        int64_t ns;
        const char *text, *micro;
    } cases[] = {
        {0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"},
        {-1000, "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.999999Z"},
        {951782400000000000, "2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000Z"},
        {1795310841123456000, "2026-11-22T01:27:21Z", "2026-11-22T01:27:21.123456Z"},
        {4107542399000001000, "2100-02-28T23:59:59Z", "2100-02-28T23:59:59.000001Z"},
        {-9223372036000000000, "1677-09-21T00:12:44Z", "1677-09-21T00:12:44.000000Z"},
        {9223372036000000000, "2262-04-11T23:47:16Z", "2262-04-11T23:47:16.000000Z"},
    };
    AUTO(error_clear) struct error err = {0};
    char text[TIME_TEXT_LEN + 1];
    int64_t back;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ident_time(cases[i].ns, false, text);
        assert_string_equal(text, cases[i].text);
        ident_time(cases[i].ns, true, text);
        assert_string_equal(text, cases[i].micro);
        assert_true(ident_parse_time(str_of(text), &back, &err));
        assert_true(back == cases[i].ns);
    }
    assert_true(ident_parse_time(STR("2026-11-22T03:27:21.5+02:00"), &back, &err));
    assert_true(back == 1795310841500000000);
    assert_true(ident_parse_time(STR("2026-11-21T20:57:21.1234567899-04:30"), &back, &err));
    assert_true(back == 1795310841123456789);
}

static void bad_times(void **state)
{
    static const char *const cases[] = {
        "", "2026-11-22", "2026-11-22T01:27:21", "2026-11-22t01:27:21Z", "2026-11-22T01:27:21z",
        "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
        "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+0000", "2026-01-01T00:00:00Z ", "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z", "26-01-01T00:00:00Z", "2026-1-01T00:00:00Z",
    };
    int64_t ns;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(error_clear) struct error err = {0};

        assert_false(ident_parse_time(str_of(cases[i]), &ns, &err));
        assert_int_equal(err.kind, ERROR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uuids), cmocka_unit_test(uuid5_is_the_standards), cmocka_unit_test(suffixes),
        cmocka_unit_test(times), cmocka_unit_test(bad_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
