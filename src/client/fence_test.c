/* A leader that is stopped and continued, or whose clocks jump, on a fake API server. */
#include "base/base_test.h"
#include "client/fake_client.h"
#include "client/fence.h"

#include "base/alloc.h"
#include "base/cleanup.h"

struct world {
    struct loop *loop;
    struct client *client, *fence;
    struct lease *lease;
    unsigned elected, lost, done;
    enum error_kind last;
};

static void elected(void *user)
{
    ((struct world *)user)->elected++;
}
static void lost(void *user)
{
    ((struct world *)user)->lost++;
}
static void answered(void *user, const struct client_response *r)
{
    struct world *w = user;

    w->done++;
    w->last = r->err->kind;
}

static void turns(struct world *w)
{
    while (loop_turn(w->loop, 0))
        ;
}

static int setup(void **state)
{
    struct world *w = NEW(struct world);

    w->loop = loop_new_fake();
    w->client = fake_client_new(w->loop);
    w->fence = client_fence_new(w->client);
    w->lease = lease_new(&(struct lease_config){
        .client = w->client, .ns = "kubevirt", .name = "virt-controller", .identity = "a", .elected = elected, .lost = lost, .user = w});
    client_fence_set(w->fence, w->lease);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    client_free(w->fence);
    lease_free(w->lease);
    client_free(w->client);
    loop_free(w->loop);
    free(w);
    return 0;
}

static struct client_call *make(struct world *w, const char *name)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *o = json_object(
        &a, "metadata", json_object(&a, "name", json_new_z(&a, name), "namespace", json_new_z(&a, "x"), NULL), NULL);

    return client_call(w->fence,
                       &(struct client_request){
                           .verb = CLIENT_CREATE, .group = "", .version = "v1", .plural = "pods", .ns = STR("x"), .body = o},
                       answered, w);
}

static void look(struct world *w)
{
    client_call(w->fence, &(struct client_request){.verb = CLIENT_LIST, .group = "", .version = "v1", .plural = "pods"}, answered, w);
}

static void a_leader_writes(void **state)
{
    struct world *w = *state;

    turns(w);
    assert_int_equal(w->elected, 1);
    make(w, "p");
    assert_int_equal(w->done, 0); /* never from within the call */
    turns(w);
    assert_int_equal(w->last, ERROR_NONE);
    assert_int_equal(fake_count(w->client, "pods"), 1);
}

static void who_does_not_lead_only_reads(void **state)
{
    struct world *w = *state;

    make(w, "p");
    turns(w);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->last, ERROR_UNAVAILABLE);
    assert_int_equal(fake_count(w->client, "pods"), 0);
    look(w);
    turns(w);
    assert_int_equal(w->done, 2);
    assert_int_equal(w->last, ERROR_NONE);
}

/* As SIGSTOP and SIGCONT do it: time passes and no timer has run yet when the next event is handled. */
static void a_leader_that_was_stopped_writes_nothing_more(void **state)
{
    struct world *w = *state;

    turns(w);
    loop_fake_jump(w->loop, SECONDS(60));
    assert_int_equal(w->lost, 0); /* nobody has told it yet */
    assert_true(lease_held(w->lease));
    assert_int_equal(lease_left_ns(w->lease), 0);
    make(w, "p");
    turns(w);
    assert_int_equal(w->last, ERROR_UNAVAILABLE);
    assert_int_equal(fake_count(w->client, "pods"), 0);
    assert_int_equal(w->lost, 1); /* also when its lease was still there to be renewed: by then another may have had it */
}

static void the_fence_falls_before_the_lease_ends(void **state)
{
    struct world *w = *state;

    turns(w);
    fake_fail(w->client, "leases", CLIENT_PATCH_MERGE, 1000, ERROR_UNAVAILABLE, "away");
    for (int ms = 0; ms < 20000; ms += 250) {
        unsigned before = w->done;
        AUTO_FREE char *name = xasprintf("p%d", ms);

        make(w, name);
        turns(w);
        assert_int_equal(w->done, before + 1);
        assert_int_equal(w->last, ms < (int)(LEASE_RENEW_DEADLINE / MILLIS(1)) ? ERROR_NONE : ERROR_UNAVAILABLE);
        loop_fake_advance(w->loop, MILLIS(250));
        turns(w);
    }
    assert_true(LEASE_RENEW_DEADLINE < LEASE_DURATION);
}

static void a_cancelled_call_is_silent(void **state)
{
    struct world *w = *state;
    struct client_call *refused = make(w, "p"), *sent;

    client_cancel(w->fence, refused);
    turns(w);
    sent = make(w, "q");
    client_cancel(w->fence, sent);
    turns(w);
    assert_int_equal(w->done, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_leader_writes),
        T(who_does_not_lead_only_reads),
        T(a_leader_that_was_stopped_writes_nothing_more),
        T(the_fence_falls_before_the_lease_ends),
        T(a_cancelled_call_is_silent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
