#include "store/testing.h"
#include "store/impl.h"

enum { KEYS = 3000 };

static struct store_object *object(int k)
{
    char key[32];

    snprintf(key, sizeof key, "/r/%d/%04d", k % 3, k);
    return object_new(&(struct object_spec){.key = str_of(key), .uid = STR("u"), .body = STR("{}"), .text_n = 2,
        .revision = k + 1, .id = k + 1});
}

static void check(const struct index *x, const bool *there)
{
    size_t n = 0;

    for (int group = 0; group < 3; group++) {
        char prefix[16];
        struct index_at at, end;
        size_t in_group = 0;

        snprintf(prefix, sizeof prefix, "/r/%d/", group);
        at = index_lower(x, str_of(prefix));
        end = index_behind(x, str_of(prefix));
        for (int k = group; k < KEYS; k += 3) {
            if (!there[k])
                continue;
            assert_true(index_before(at, end));
            assert_int_equal(index_get(x, at)->id, k + 1);
            in_group++;
            assert_int_equal(index_between(x, at, end) + in_group - 1,
                             index_between(x, index_lower(x, str_of(prefix)), end));
            at = index_next(x, at);
        }
        assert_false(index_before(at, end));
        n += in_group;
    }
    assert_int_equal(n, x->objects);
    for (int k = 0; k < KEYS; k++) {
        struct store_object *o = object(k);

        assert_int_equal(index_find(x, store_object_key(o)) != NULL, there[k]);
        store_object_unref(o);
    }
}

static void run(unsigned seed, bool in_order)
{
    struct index x = {0};
    static bool there[KEYS];

    memset(there, 0, sizeof there);
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < KEYS; i++) {
            int k = in_order ? i : rand_r(&seed) % KEYS;
            struct store_object *o = object(k), *old;

            if (step % 2 == 0) {
                old = index_set(&x, o);
                assert_int_equal(old != NULL, there[k]);
                there[k] = true;
            } else {
                old = index_remove(&x, store_object_key(o));
                assert_int_equal(old != NULL, there[k]);
                there[k] = false;
                store_object_unref(o);
            }
            store_object_unref(old);
        }
        check(&x, there);
    }
    index_done(&x);
}

static void keeps_order_whatever_comes(void **state)
{
    (void)state;
    run(1, false);
    run(2, false);
    run(0, true);
}

static void an_empty_one_has_nothing(void **state)
{
    struct index x = {0};

    (void)state;
    assert_null(index_find(&x, STR("/r")));
    assert_null(index_remove(&x, STR("/r")));
    assert_null(index_get(&x, index_lower(&x, STR("/r"))));
    assert_int_equal(index_between(&x, index_lower(&x, STR("")), index_behind(&x, STR(""))), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order_whatever_comes),
        cmocka_unit_test(an_empty_one_has_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
