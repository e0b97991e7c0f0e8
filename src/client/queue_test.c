#include "base/base_test.h"
#include "client/queue.h"

#include <stdio.h>

static char trace[512];
static struct queue *queue;
static bool hold;

static void work(void *user, struct str key)
{
    size_t n = strlen(trace);

    (void)user;
    snprintf(trace + n, sizeof trace - n, STR_FMT " ", STR_ARG(key));
    if (!hold)
        queue_done(queue, key, false);
}

static void turns(struct loop *l)
{
    while (loop_turn(l, 0))
        ;
}

static int setup(void **state)
{
    struct loop *l = loop_new_fake();

    *state = l;
    trace[0] = '\0';
    hold = false;
    queue = queue_new(l, 2, work, NULL);
    return 0;
}

static int teardown(void **state)
{
    queue_free(queue);
    loop_free(*state);
    return 0;
}

static void each_key_once(void **state)
{
    queue_add(queue, STR("a"));
    queue_add(queue, STR("b"));
    queue_add(queue, STR("a"));
    assert_int_equal(queue_length(queue), 2);
    assert_string_equal(trace, ""); /* never from within the call */
    turns(*state);
    assert_string_equal(trace, "a b ");
    queue_add(queue, STR("a"));
    turns(*state);
    assert_string_equal(trace, "a b a ");
}

static void one_at_a_time_and_again_afterwards(void **state)
{
    hold = true;
    queue_add(queue, STR("a"));
    turns(*state);
    queue_add(queue, STR("a"));
    queue_add(queue, STR("a"));
    queue_add(queue, STR("b"));
    queue_add(queue, STR("c"));
    turns(*state);
    assert_string_equal(trace, "a b "); /* two are under way, c waits, a is not started twice */
    queue_done(queue, STR("b"), false);
    turns(*state);
    assert_string_equal(trace, "a b c ");
    queue_done(queue, STR("a"), false);
    turns(*state);
    assert_string_equal(trace, "a b c a ");
    queue_done(queue, STR("a"), false);
    queue_done(queue, STR("c"), false);
    turns(*state);
    assert_string_equal(trace, "a b c a ");
}

static void failures_come_back_slower_and_slower(void **state)
{
    struct loop *l = *state;

    hold = true;
    queue_add(queue, STR("a"));
    for (int i = 0; i < 5; i++) {
        turns(l);
        queue_done(queue, STR("a"), true);
        trace[0] = '\0';
        loop_fake_advance(l, (MILLIS(5) << i) - 1);
        turns(l);
        assert_string_equal(trace, "");
        loop_fake_advance(l, 1);
        turns(l);
        assert_string_equal(trace, "a ");
    }
    queue_done(queue, STR("a"), false);
    queue_forget(queue, STR("a"));
    queue_add(queue, STR("a"));
    turns(l);
    queue_done(queue, STR("a"), true);
    trace[0] = '\0';
    loop_fake_advance(l, MILLIS(5));
    turns(l);
    assert_string_equal(trace, "a ");
}

static void what_is_not_the_keys_fault_does_not_make_it_wait_long(void **state)
{
    struct loop *l = *state;

    hold = true;
    queue_add(queue, STR("a"));
    for (int i = 0; i < 40; i++) {
        trace[0] = '\0';
        loop_fake_advance(l, SECONDS(5));
        turns(l);
        assert_string_equal(trace, "a ");
        queue_done_within(queue, STR("a"), SECONDS(5));
    }
}

static void the_earlier_timer_wins(void **state)
{
    struct loop *l = *state;

    queue_add_after(queue, STR("a"), SECONDS(10));
    queue_add_after(queue, STR("a"), SECONDS(5));
    queue_add_after(queue, STR("a"), SECONDS(20));
    loop_fake_advance(l, SECONDS(5));
    turns(l);
    assert_string_equal(trace, "a ");
    loop_fake_advance(l, SECONDS(100));
    turns(l);
    assert_string_equal(trace, "a ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_key_once, setup, teardown),
        cmocka_unit_test_setup_teardown(one_at_a_time_and_again_afterwards, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_come_back_slower_and_slower, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_the_keys_fault_does_not_make_it_wait_long, setup, teardown),
        cmocka_unit_test_setup_teardown(the_earlier_timer_wins, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
