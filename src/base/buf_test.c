#include "base/buf.h"
#include "base/cleanup.h"
#include "base/base_test.h"

static void appends_up_to_the_limit(void **state)
{
    AUTO(buf_done) struct buf b;
    AUTO(error_clear) struct error err = {0};

    (void)state;
    buf_init(&b, 8);
    assert_string_equal(b.p, "");
    buf_adds(&b, "abcd");
    buf_addf(&b, "%s-%d", "x", 12);
    assert_string_equal(b.p, "abcdx-12");
    assert_true(buf_ok(&b, "it", &err));
    buf_addc(&b, '!');
    buf_addf(&b, "%s", "");
    assert_string_equal(b.p, "abcdx-12");
    assert_false(buf_ok(&b, "it", &err));
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    assert_string_equal(err.msg, "it is larger than 8 bytes");
    buf_consume(&b, 4);
    buf_adds(&b, "z"); /* overflow stays */
    assert_string_equal(b.p, "x-12");
    buf_clear(&b);
    assert_true(buf_ok(&b, "it", &err));
    buf_addf(&b, "%09d", 1);
    assert_false(buf_ok(&b, "it", &err));
    assert_string_equal(b.p, "");
}

static void formats_longer_than_its_room(void **state)
{
    AUTO(buf_done) struct buf b = {0};

    (void)state;
    buf_adds(&b, "0123456789");
    buf_addf(&b, "%0500d", 7);
    assert_int_equal(b.n, 510);
    assert_int_equal(strlen(b.p), 510);
}

static void reserves_and_detaches(void **state)
{
    AUTO(buf_done) struct buf b;
    AUTO_FREE char *text = NULL;
    AUTO_FREE char *empty = NULL;

    (void)state;
    buf_init(&b, 16);
    assert_null(buf_reserve(&b, 17));
    assert_non_null(buf_reserve(&b, 16));
    memset(b.p, 'x', 16);
    buf_commit(&b, 16);
    assert_null(buf_reserve(&b, 1));
    buf_consume(&b, 99);
    assert_int_equal(b.n, 0);
    buf_adds(&b, "kept");
    text = buf_detach(&b);
    assert_string_equal(text, "kept");
    assert_int_equal(b.limit, 16);
    empty = buf_detach(&b);
    assert_string_equal(empty, "");
    assert_int_equal(buf_str(&b).n, 0);
    assert_non_null(buf_str(&b).p);
    buf_addstr(&b, STR_NONE);
    assert_string_equal(buf_str(&b).p, "");
}

static void base64(void **state)
{
    static const struct {
        const char *plain, *std, *url;
    } cases[] = {
        {"", "", ""}, {"f", "Zg==", "Zg"}, {"fo", "Zm8=", "Zm8"}, {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"}, {"\xfb\xff\xfe", "+//+", "-__-"},
    };
    static const char *const bad[] = {"Zg", "Zg=", "Z===", "Zg===", "====", "Z", "Zm9v Zg==", "Zg==Zg==", "-__-", "=Zg="};
    static const char *const bad_url[] = {"Zg==", "Z", "+//+", "Zh", "Zm9\n"};
    AUTO(error_clear) struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(buf_done) struct buf std = {0}, url = {0}, back = {0};
        struct str plain = str_of(cases[i].plain);

        buf_add_base64(&std, plain.p, plain.n);
        buf_add_base64url(&url, plain.p, plain.n);
        assert_true(str_is(buf_str(&std), cases[i].std));
        assert_true(str_is(buf_str(&url), cases[i].url));
        assert_true(buf_add_base64_decoded(&back, buf_str(&std), &err));
        assert_true(str_eq(buf_str(&back), plain));
        buf_clear(&back);
        assert_true(buf_add_base64url_decoded(&back, buf_str(&url), &err));
        assert_true(str_eq(buf_str(&back), plain));
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO(buf_done) struct buf b = {0};

        assert_false(buf_add_base64_decoded(&b, str_of(bad[i]), &err));
        assert_int_equal(b.n, 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad_url); i++) {
        AUTO(buf_done) struct buf b = {0};

        assert_false(buf_add_base64url_decoded(&b, str_of(bad_url[i]), &err));
        assert_int_equal(b.n, 0);
    }
    {
        AUTO(buf_done) struct buf b = {0};

        assert_true(buf_add_base64_decoded(&b, STR("Zm9v\r\nYg==\n"), &err));
        assert_true(str_is(buf_str(&b), "foob"));
        buf_clear(&b);
        b.limit = 3;
        assert_false(buf_add_base64_decoded(&b, STR("Zm9vYg=="), &err));
        assert_int_equal(err.kind, ERROR_TOO_LARGE);
    }
}

static void escapes_for_urls(void **state)
{
    AUTO(buf_done) struct buf b = {0};

    (void)state;
    buf_add_escaped(&b, STR("aZ09-_.~ /=,%\xc3\xa9"));
    assert_string_equal(b.p, "aZ09-_.~%20%2F%3D%2C%25%C3%A9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_up_to_the_limit),
        cmocka_unit_test(escapes_for_urls),
        cmocka_unit_test(formats_longer_than_its_room),
        cmocka_unit_test(reserves_and_detaches),
        cmocka_unit_test(base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
