/* A client in another's name, over one that only remembers what it was asked. */
#include "base/base_test.h"
#include "client/client.h"

#include "base/cleanup.h"

struct under {
    struct client base;
    const char *as;
    const struct json *kept;
    unsigned cancelled, stopped;
};

static struct client_call *under_call(struct client *c, const struct client_request *r,
                                      client_done_fn done, void *user)
{
    (void)done;
    container_of(c, struct under, base)->as = r->as;
    return user;
}

static void under_cancel(struct client *c, struct client_call *call)
{
    container_of(c, struct under, base)->cancelled += call != NULL;
}

static struct client_watch *under_watch(struct client *c, const struct client_watch_request *r)
{
    (void)c;
    return r->user;
}

static void under_stop(struct client *c, struct client_watch *w)
{
    container_of(c, struct under, base)->stopped += w != NULL;
}

static bool under_keep(struct client *c, const char *group, const char *version, const char *plural,
                       const struct json *object, struct client_kept *ret)
{
    struct under *u = container_of(c, struct under, base);

    assert_string_equal(group, "kubevirt.io");
    assert_string_equal(version, "v1");
    assert_string_equal(plural, "virtualmachines");
    u->kept = object;
    ret->p = u;
    return true;
}

static const struct client_ops keeps = {.call = under_call,
                                        .cancel = under_cancel,
                                        .watch = under_watch,
                                        .stop = under_stop,
                                        .keep = under_keep};
static const struct client_ops keeps_nothing = {
    .call = under_call, .cancel = under_cancel, .watch = under_watch, .stop = under_stop};

static void a_call_carries_the_name_unless_it_has_one(void **state)
{
    struct under u = {.base = {.ops = &keeps}};
    struct client *c = client_as(&u.base, "system:node:a");
    struct client_request r = {.verb = CLIENT_GET};
    struct client_call *call = client_call(c, &r, NULL, &u);

    (void)state;
    assert_string_equal(u.as, "system:node:a");
    assert_null(r.as); /* the caller's own is as it was */
    client_cancel(c, call);
    assert_int_equal(u.cancelled, 1);
    r.as = "jane";
    client_call(c, &r, NULL, &u);
    assert_string_equal(u.as, "jane");
    client_watch_stop(c, client_watch(c, &(struct client_watch_request){.user = &u}));
    assert_int_equal(u.stopped, 1);
    client_free(c);
}

static void objects_are_kept_as_the_client_below_keeps_them(void **state)
{
    struct under with = {.base = {.ops = &keeps}}, without = {.base = {.ops = &keeps_nothing}};
    struct client *a = client_as(&with.base, "x"), *b = client_as(&without.base, "x");
    struct client_kept kept = {0};

    (void)state;
    assert_true(a->ops->keep(a, "kubevirt.io", "v1", "virtualmachines", json_null(), &kept));
    assert_ptr_equal(with.kept, json_null());
    assert_ptr_equal(kept.p, &with);
    assert_false(b->ops->keep(b, "kubevirt.io", "v1", "virtualmachines", json_null(), &kept));
    client_free(a);
    client_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_carries_the_name_unless_it_has_one),
        cmocka_unit_test(objects_are_kept_as_the_client_below_keeps_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
