#include "base/base_test.h"
#include "client/fake_client.h"
#include "cmd/lead.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define KEY "ours/virt-x"

struct world {
    struct role role;
    struct lead lead;
    struct loop_timer stop;
    struct arena a;
    bool elected, ended, held_at_end, refused;
};

static bool is_held(struct world *w)
{
    return json_str_at(fake_get(w->role.client, "leases", KEY, &w->a), "spec/holderIdentity").n > 0;
}

static void on_elected(void *user)
{
    ((struct world *)user)->elected = true;
}

static void on_ended(void *user)
{
    struct world *w = user;

    w->ended = true;
    w->held_at_end = is_held(w);
}

static void on_stop(struct loop_timer *t)
{
    loop_quit(container_of(t, struct world, stop)->role.loop);
}

static void begin(struct world *w)
{
    w->role.loop = loop_new_fake();
    w->role.client = fake_client_new(w->role.loop);
    w->role.flags.ns = "ours";
    lead_start(&w->lead, &(struct lead_config){.role = &w->role, .name = "virt-x", .elected = on_elected, .ended = on_ended, .user = w});
}

static void end(struct world *w)
{
    lead_done(&w->lead);
    client_free(w->role.client);
    loop_free(w->role.loop);
    arena_done(&w->a);
}

static void turns(struct world *w)
{
    while (loop_turn(w->role.loop, 0))
        ;
}

/* Else a successor would begin while we still write. */
static void the_lease_is_given_back_when_the_work_is_over(void **state)
{
    struct world w = {0};

    (void)state;
    begin(&w);
    turns(&w);
    assert_true(w.elected && is_held(&w));
    loop_timer_start(w.role.loop, &w.stop, 0, on_stop);
    assert_true(lead_run(&w.lead));
    assert_true(w.ended && w.held_at_end);
    assert_false(is_held(&w));
    end(&w);
}

static void on_written(void *user, const struct client_response *r)
{
    ((struct world *)user)->refused = r->err->kind == ERROR_UNAVAILABLE;
}

/* Stopped (SIGSTOP, a machine that slept) and going on again: what it had in mind is not written any more. */
static void who_was_stopped_for_long_writes_nothing_more(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct world w = {0};

    (void)state;
    begin(&w);
    turns(&w);
    assert_true(w.elected);
    loop_fake_jump(w.role.loop, SECONDS(60));
    client_call(w.lead.client,
                &(struct client_request){.verb = CLIENT_CREATE, .group = "", .version = "v1", .plural = "configmaps", .ns = STR("ours"),
                                         .body = json_object(&a, "metadata", json_object(&a, "name", json_new_z(&a, "x"), "namespace", json_new_z(&a, "ours"), NULL), NULL)},
                on_written, &w);
    assert_false(lead_run(&w.lead)); /* the deadline is over: it was lost */
    assert_true(w.refused && w.ended);
    assert_int_equal(fake_count(w.role.client, "configmaps"), 0);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lease_is_given_back_when_the_work_is_over),
        cmocka_unit_test(who_was_stopped_for_long_writes_nothing_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
