/* Two who want the same lease, on one fake API server and one clock. */
#include "base/base_test.h"
#include "client/fake_client.h"
#include "client/lease.h"

#include "base/alloc.h"
#include "base/cleanup.h"

struct one {
    struct lease *lease;
    unsigned elected, lost, released;
};
struct world {
    struct loop *loop;
    struct client *client;
    struct one a, b;
};

static void elected(void *user)
{
    ((struct one *)user)->elected++;
}
static void lost(void *user)
{
    ((struct one *)user)->lost++;
}
static void released(void *user)
{
    ((struct one *)user)->released++;
}

static void turns(struct world *w)
{
    while (loop_turn(w->loop, 0))
        ;
}

/* In steps, so that what answers has its turns in between. */
static void pass(struct world *w, int64_t ns)
{
    for (int64_t left = ns; left > 0; left -= MILLIS(500)) {
        loop_fake_advance(w->loop, MILLIS(500));
        turns(w);
    }
}

static void join(struct world *w, struct one *o, const char *identity)
{
    o->lease = lease_new(&(struct lease_config){.client = w->client,
                                                .ns = "kubevirt",
                                                .name = "virt-controller",
                                                .identity = identity,
                                                .elected = elected,
                                                .lost = lost,
                                                .user = o});
    turns(w);
}

static void expect(struct world *w, const char *path, const char *want)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *o = fake_get(w->client, "leases", "kubevirt/virt-controller", &a);

    assert_non_null(o);
    assert_string_equal(arena_strdup(&a, json_str_at(o, path)), want);
}

static int64_t transitions(struct world *w)
{
    AUTO(arena_done) struct arena a = {0};

    return json_i64_at(fake_get(w->client, "leases", "kubevirt/virt-controller", &a), "spec/leaseTransitions", -1);
}

static int setup(void **state)
{
    struct world *w = NEW(struct world);

    w->loop = loop_new_fake();
    w->client = fake_client_new(w->loop);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    lease_free(w->a.lease);
    lease_free(w->b.lease);
    client_free(w->client);
    loop_free(w->loop);
    free(w);
    return 0;
}

static void the_first_leads_and_goes_on_leading(void **state)
{
    struct world *w = *state;

    join(w, &w->a, "a");
    join(w, &w->b, "b");
    assert_true(lease_held(w->a.lease));
    pass(w, SECONDS(120));
    assert_int_equal(w->a.elected, 1);
    assert_int_equal(w->a.lost, 0);
    assert_int_equal(w->b.elected, 0);
    expect(w, "spec/holderIdentity", "a");
    assert_int_equal(transitions(w), 0);
}

static void who_comes_back_need_not_wait(void **state)
{
    struct world *w = *state;

    join(w, &w->a, "a");
    lease_free(w->a.lease); /* killed */
    join(w, &w->a, "a");
    assert_int_equal(w->a.elected, 2);
    assert_int_equal(transitions(w), 0);
}

static void a_dead_holder_is_followed_after_its_time(void **state)
{
    struct world *w = *state;

    join(w, &w->a, "a");
    lease_free(w->a.lease);
    w->a.lease = NULL;
    join(w, &w->b, "b");
    pass(w, SECONDS(14));
    assert_int_equal(w->b.elected, 0);
    pass(w, SECONDS(3));
    assert_int_equal(w->b.elected, 1);
    expect(w, "spec/holderIdentity", "b");
    assert_int_equal(transitions(w), 1);
}

static void given_up_it_is_free_at_once(void **state)
{
    struct world *w = *state;

    join(w, &w->a, "a");
    join(w, &w->b, "b");
    lease_release(w->a.lease, released);
    turns(w);
    assert_int_equal(w->a.released, 1);
    assert_int_equal(w->a.lost, 0);
    expect(w, "spec/holderIdentity", "");
    pass(w, SECONDS(2));
    assert_int_equal(w->b.elected, 1);
}

static void a_holder_that_cannot_renew_stops_before_another_starts(void **state)
{
    struct world *w = *state;

    join(w, &w->a, "a");
    fake_fail(w->client, "leases", CLIENT_PATCH_MERGE, 1000, ERROR_UNAVAILABLE, "away");
    join(w, &w->b, "b");
    pass(w, SECONDS(9));
    assert_int_equal(w->a.lost, 0);
    pass(w, SECONDS(2));
    assert_int_equal(w->a.lost, 1);
    assert_false(lease_held(w->a.lease));
    assert_int_equal(w->b.elected, 0);
    fake_fail(w->client, "leases", CLIENT_PATCH_MERGE, 0, ERROR_UNAVAILABLE, "away");
    pass(w, SECONDS(60));
    assert_int_equal(w->b.elected, 1);
    assert_int_equal(w->a.elected, 1); /* it does not come back by itself */
    assert_int_equal(w->a.lost, 1);
}

static void a_lease_taken_by_force_is_lost_at_once(void **state)
{
    struct world *w = *state;

    join(w, &w->a, "a");
    fake_merge(w->client, "leases", "kubevirt/virt-controller", "{\"spec\":{\"holderIdentity\":\"c\"}}");
    pass(w, SECONDS(3));
    assert_int_equal(w->a.lost, 1);
    expect(w, "spec/holderIdentity", "c");
}

static void a_removed_lease_is_made_again(void **state)
{
    struct world *w = *state;

    join(w, &w->a, "a");
    fake_delete(w->client, "leases", "kubevirt/virt-controller");
    pass(w, SECONDS(3));
    expect(w, "spec/holderIdentity", "a");
    assert_int_equal(w->a.lost, 0);
}

static void of_two_at_once_one_is_told_of_a_conflict(void **state)
{
    struct world *w = *state;

    w->a.lease = lease_new(&(struct lease_config){.client = w->client,
                                                  .ns = "kubevirt",
                                                  .name = "virt-controller",
                                                  .identity = "a",
                                                  .elected = elected,
                                                  .lost = lost,
                                                  .user = &w->a});
    join(w, &w->b, "b");
    pass(w, SECONDS(60));
    assert_int_equal(w->a.elected + w->b.elected, 1);
}

static void a_wall_clock_that_jumps_changes_nothing(void **state)
{
    struct world *w = *state;
    static const int64_t jumps[] = {SECONDS(18000), SECONDS(-36000), SECONDS(86400 * 365LL)};

    join(w, &w->a, "a");
    join(w, &w->b, "b");
    for (size_t i = 0; i < ARRAY_SIZE(jumps); i++) {
        loop_fake_wall(w->loop, jumps[i]);
        pass(w, SECONDS(40));
        assert_int_equal(w->a.lost, 0);
        assert_int_equal(w->b.elected, 0);
        expect(w, "spec/holderIdentity", "a");
    }
    lease_free(w->a.lease);
    w->a.lease = NULL;
    loop_fake_wall(w->loop, SECONDS(-86400 * 365LL));
    pass(w, SECONDS(18));
    assert_int_equal(w->b.elected, 1);
}

/* Two that were stopped and continued in turn: whoever writes holds it, at every moment. */
static void two_that_fight_never_hold_it_both(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 40; i++) {
        struct one *o = i % 2 ? &w->b : &w->a, *other = i % 2 ? &w->a : &w->b;

        if (o->lease && o->lost) { /* ended, and started again */
            lease_free(o->lease);
            *o = (struct one){0};
        }
        if (!o->lease)
            join(w, o, i % 2 ? "b" : "a");
        if (i % 5 == 3)
            fake_fail(w->client, "leases", CLIENT_PATCH_MERGE, 4, ERROR_TIMEOUT, "no answer");
        for (int ms = 0; ms < 7000; ms += 500) {
            pass(w, MILLIS(500));
            assert_false(lease_left_ns(o->lease) > 0 && other->lease && lease_left_ns(other->lease) > 0);
        }
        if (i % 7 == 6 && lease_held(other->lease ? other->lease : o->lease))
            fake_merge(w->client, "leases", "kubevirt/virt-controller", "{\"spec\":{\"renewTime\":null}}");
    }
    assert_true(w->a.elected + w->b.elected > 0);
}

static void a_renewal_under_way_does_not_keep_it_from_being_given_up(void **state)
{
    struct world *w = *state;

    join(w, &w->a, "a");
    loop_fake_jump(w->loop, LEASE_RETRY);
    loop_turn(w->loop, 0); /* the renewal is done, and its answer not read yet */
    lease_release(w->a.lease, released);
    pass(w, SECONDS(1));
    assert_int_equal(w->a.released, 1);
    expect(w, "spec/holderIdentity", "");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_first_leads_and_goes_on_leading),
        T(who_comes_back_need_not_wait),
        T(a_dead_holder_is_followed_after_its_time),
        T(given_up_it_is_free_at_once),
        T(a_holder_that_cannot_renew_stops_before_another_starts),
        T(a_lease_taken_by_force_is_lost_at_once),
        T(a_removed_lease_is_made_again),
        T(of_two_at_once_one_is_told_of_a_conflict),
        T(a_wall_clock_that_jumps_changes_nothing),
        T(two_that_fight_never_hold_it_both),
        T(a_renewal_under_way_does_not_keep_it_from_being_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
