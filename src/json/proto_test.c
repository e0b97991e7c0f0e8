#include "json/proto.h"
#include "base/cleanup.h"
#include <setjmp.h>
#include <cmocka.h>

static void test_round_trip(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = {0};
    struct error err = {0};
    struct proto_reader r;
    struct proto_field f;

    proto_varint(&b, 1, 150);
    proto_varint(&b, 536870911, UINT64_MAX);
    proto_bytes(&b, 2, STR("testing"));
    proto_bytes(&b, 3, STR_NONE);
    proto_bool(&b, 4, true);
    assert_memory_equal(b.p, "\x08\x96\x01", 3); /* the specification's first example */
    buf_add(&b, "\x2d\x01\x02\x03\x04\x31\x01\0\0\0\0\0\0\x80", 14);
    r.rest = buf_str(&b);
    assert_true(proto_next(&r, &f, &err) && f.number == 1 && f.wire == 0 && f.value == 150);
    assert_true(proto_next(&r, &f, &err) && f.number == 536870911 && f.value == UINT64_MAX);
    assert_true(proto_next(&r, &f, &err) && f.number == 2 && f.wire == 2 && str_is(f.bytes, "testing"));
    assert_true(proto_next(&r, &f, &err) && f.number == 3 && f.bytes.n == 0);
    assert_true(proto_next(&r, &f, &err) && f.number == 4 && f.value == 1);
    assert_true(proto_next(&r, &f, &err) && f.number == 5 && f.wire == 5 && f.value == 0x04030201);
    assert_true(proto_next(&r, &f, &err) && f.number == 6 && f.wire == 1 && f.value == 0x8000000000000001);
    assert_false(proto_next(&r, &f, &err));
    assert_int_equal(err.kind, ERROR_NONE);
}

static void test_refuses(void **state)
{
    (void)state;
    static const struct str table[] = {
        STR_INIT("\x08"), STR_INIT("\x80"), STR_INIT("\x00\x01"), STR_INIT("\x0b"), STR_INIT("\x0f\x01"),
        STR_INIT("\x12\x05" "abcd"), STR_INIT("\x0d\x01\x02\x03"), STR_INIT("\x09\x01"),
        STR_INIT("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), STR_INIT("\x80\x80\x80\x80\x10\x01"),
        STR_INIT("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(error_clear) struct error err = {0};
        struct proto_reader r = {table[i]};
        struct proto_field f;
        assert_false(proto_next(&r, &f, &err));
        assert_int_equal(err.kind, ERROR_BAD_REQUEST);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refuses)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
