#include "base/base_test.h"
#include "controller/vsock.h"

#include <stdio.h>

static struct vsock_ids all(void)
{
    return (struct vsock_ids){.first = VSOCK_FIRST, .last = VSOCK_LAST};
}

/* Numbers go up from where chance says, around at the end, and nobody gets 0 to 2 or the last. */
static void starts_anywhere_and_takes_the_next_free_one(void **state)
{
    static const struct {
        uint32_t chance, cid;
    } cases[] = {
        {0, 3},          {0, 4},          {1, 5},
        {100, 103},      {100, 104},      {0xfffffffb, 0xfffffffe},
        {0xfffffffb, 6}, {0xfffffffc, 7}, {0xffffffff, 8},
    };
    struct vsock_ids v = all();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[16];

        snprintf(key, sizeof key, "x/v%zu", i);
        assert_int_equal(vsock_take(&v, str_of(key), str_of(key), cases[i].chance), cases[i].cid);
        assert_int_equal(vsock_take(&v, str_of(key), str_of(key), 77777),
                         cases[i].cid); /* asked again: the same */
    }
    vsock_done(&v);
}

static void what_the_API_says_is_taken(void **state)
{
    struct vsock_ids v = all();

    (void)state;
    vsock_seen(&v, STR("x/a"), STR("a"), 3);
    vsock_seen(&v, STR("x/b"), STR("b"), 4);
    vsock_seen(&v, STR("x/c"), STR("c"), 0);     /* it has none */
    vsock_seen(&v, STR("x/thief"), STR("t"), 3); /* a's */
    vsock_seen(&v, STR("x/low"), STR("l"), 2);   /* the host's */
    vsock_seen(&v, STR("x/high"), STR("h"), 1LL << 32);
    vsock_seen(&v, STR("x/any"), STR("n"), 0xffffffff);
    assert_int_equal(vsock_take(&v, STR("x/a"), STR("a"), 0), 3);
    assert_int_equal(vsock_take(&v, STR("x/b"), STR("b"), 0), 4);
    assert_int_equal(vsock_take(&v, STR("x/c"), STR("c"), 0), 5);
    assert_int_equal(vsock_take(&v, STR("x/thief"), STR("t"), 0), 6);
    assert_int_equal(vsock_take(&v, STR("x/low"), STR("l"), 0), 7);
    assert_int_equal(vsock_take(&v, STR("x/high"), STR("h"), 0), 8);
    assert_int_equal(vsock_take(&v, STR("x/any"), STR("n"), 0), 9);
    vsock_seen(&v, STR("x/c"), STR("c"), 0); /* an event from before the write came back */
    assert_int_equal(vsock_take(&v, STR("x/c"), STR("c"), 0), 5);
    vsock_done(&v);
}

static void is_free_when_the_instance_is_gone(void **state)
{
    struct vsock_ids v = all();

    (void)state;
    assert_int_equal(vsock_take(&v, STR("x/a"), STR("one"), 0), 3);
    assert_int_equal(vsock_take(&v, STR("x/b"), STR("b"), 0), 4);
    vsock_gone(&v, STR("x/a"));
    vsock_gone(&v, STR("x/a"));
    assert_int_equal(vsock_take(&v, STR("x/c"), STR("c"), 0), 3);
    vsock_seen(&v, STR("x/b"), STR("another"), 0); /* of the same name: the first one left unseen */
    assert_int_equal(vsock_take(&v, STR("x/d"), STR("d"), 0), 4);
    assert_int_equal(vsock_take(&v, STR("x/b"), STR("another"), 0), 5);
    vsock_done(&v);
}

static void says_when_all_are_taken(void **state)
{
    struct vsock_ids v = {.first = 3, .last = 5};

    (void)state;
    assert_int_equal(vsock_take(&v, STR("x/a"), STR("a"), 2), 5);
    assert_int_equal(vsock_take(&v, STR("x/b"), STR("b"), 2), 3);
    assert_int_equal(vsock_take(&v, STR("x/c"), STR("c"), 2), 4);
    assert_int_equal(vsock_take(&v, STR("x/d"), STR("d"), 2), 0);
    vsock_gone(&v, STR("x/b"));
    assert_int_equal(vsock_take(&v, STR("x/d"), STR("d"), 2), 3);
    vsock_done(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_anywhere_and_takes_the_next_free_one),
        cmocka_unit_test(what_the_API_says_is_taken),
        cmocka_unit_test(is_free_when_the_instance_is_gone),
        cmocka_unit_test(says_when_all_are_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
