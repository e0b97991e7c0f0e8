#include "json/json_test.h"
#include "api/formats.h"

#include "base/cleanup.h"

static void test_formats(void **state)
{
    static const struct {
        const char *format, *text;
        bool fits;
    } cases[] = {
        {"date", "2024-02-29", true},
        {"date", "2023-02-29", false},
        {"date", "2023-1-1", false},
        {"date-time", "2026-01-02T03:04:05Z", true},
        {"datetime", "2026-01-02t03:04:05.123+02:00", true},
        {"date-time", "2026-01-02T03:04:60Z", false},
        {"date-time", "2026-01-02 03:04:05Z", false},
        {"duration", "1h30m", true},
        {"duration", "-1.5s", true},
        {"duration", "22 ns", true},
        {"duration", "3 weeks", true},
        {"duration", "2 fortnights", false},
        {"duration", "0", true},
        {"duration", "5", false},
        {"email", "a.b@c.d", true},
        {"email", "Some Body <a@b>", true},
        {"email", "a..b@c", false},
        {"email", "nobody", false},
        {"hostname", "example.org", true},
        {"hostname", "a-b.example.org", true},
        {"hostname", "-a.example.org", false},
        {"hostname", "localhost", true},
        {"hostname", "a_b.org", false},
        {"hostname", "a.b", false},
        {"ipv4", "10.0.0.1", true},
        {"ipv4", "010.0.0.1", true},
        {"ipv4", "10.0.0.256", false},
        {"ipv4", "10.0.0", false},
        {"ipv6", "fe80::1", true},
        {"ipv6", "10.0.0.1", false},
        {"cidr", "10.0.0.0/8", true},
        {"cidr", "fd00::/64", true},
        {"cidr", "10.0.0.0/33", false},
        {"cidr", "10.0.0.0", false},
        {"mac", "02:00:00:ab:cd:ef", true},
        {"mac", "0200.00ab.cdef", true},
        {"mac", "02-00-00-ab-cd-ef", true},
        {"mac", "02:00:00:ab:cd", false},
        {"mac", "02:00:00:ab:cd-ef", false},
        {"uri", "https://example.org/a?b=c", true},
        {"uri", "/only/a/path", true},
        {"uri", "relative", false},
        {"uri", "http://a b/", false},
        {"uri", "mailto:a@b", true},
        {"uri", "/%zz", false},
        {"uri", "http://[::1]:33333333333333333333/", true}, /* no number is made of a port */
        {"uri", "http://a:33333333333333333333/", true},
        {"uri", "http://a:3x/", false},
        {"uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", true},
        {"uuid", "6BA7B8109DAD11D180B400C04FD430C8", true},
        {"uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c", false},
        {"uuid3", "6ba7b810-9dad-31d1-00b4-00c04fd430c8", true},
        {"uuid4", "6ba7b810-9dad-41d1-80b4-00c04fd430c8", true},
        {"uuid4", "6ba7b810-9dad-41d1-c0b4-00c04fd430c8", false},
        {"uuid5", "6ba7b810-9dad-41d1-80b4-00c04fd430c8", false},
        {"byte", "aGVsbG8=", true},
        {"byte", "aGVsbG8", false},
        {"byte", "", false},
        {"password", "anything", true},
        {"bsonobjectid", "507f1f77bcf86cd799439011", true},
        {"bsonobjectid", "507f1f77", false},
        {"isbn", "978-0321751041", true},
        {"isbn10", "0321751043", true},
        {"isbn10", "0321751044", false},
        {"isbn13", "9780321751042", false},
        {"creditcard", "4111-1111-1111-1111", true},
        {"creditcard", "4111-1111-1111-1112", false},
        {"ssn", "111-22-3333", true},
        {"ssn", "111 22 333", false},
        {"hexcolor", "#FFF", true},
        {"hexcolor", "#FFFF", false},
        {"rgbcolor", "rgb(255, 0,12)", true},
        {"rgbcolor", "rgb(256,0,0)", false},
        {"k8s-short-name", "a-b1", true},
        {"k8s-short-name", "A", false},
        {"k8s-short-name", "a.b", false},
        {"k8s-long-name", "a.b-c", true},
        {"k8s-long-name", "a..b", false},
        {"unheard-of", "anything", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (format_fits(str_of(cases[i].format), str_of(cases[i].text)) != cases[i].fits)
            fail_msg("%s: %s", cases[i].format, cases[i].text);
    assert_true(format_known(STR("date-time")));
    assert_true(format_known(STR("k8s-long-name")));
    assert_false(format_known(STR("int32")));
    assert_false(format_known(STR("datetimes")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formats)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
