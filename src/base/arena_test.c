#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/vec.h"
#include "base/base_test.h"

#include <stdio.h>

static void arena_aligns_and_keeps(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    char *big;

    (void)state;
    assert_true((uintptr_t)arena_alloc(&a, 1) % 16 == 0);
    for (size_t n = 0; n < 3000; n++) {
        char *bytes = arena_alloc_bytes(&a, n % 7);
        char *zeroed = arena_alloc(&a, n % 100 + 1);

        assert_non_null(bytes);
        assert_true((uintptr_t)zeroed % 16 == 0);
        for (size_t i = 0; i <= n % 100; i++)
            assert_int_equal(zeroed[i], 0);
        memset(zeroed, 0xee, n % 100 + 1);
    }
    big = arena_alloc(&a, 5u << 20);
    memset(big, 1, 5u << 20);
    assert_string_equal(arena_printf(&a, "%s/%d", "a", 5), "a/5");
    assert_string_equal(arena_strdup(&a, STR_NONE), "");
    assert_null(arena_str(&a, STR_NONE).p);
    assert_true(str_is(arena_str(&a, STR("view")), "view"));
    assert_true(a.used > 5u << 20);
    arena_clear(&a);
    assert_int_equal(a.used, 0);
    assert_int_equal(*(char *)arena_alloc(&a, 16), 0);
}

static void small_first_block(void **state)
{
    AUTO(arena_done) struct arena a = {.first = 32};

    (void)state;
    for (int i = 0; i < 100; i++)
        memset(arena_alloc(&a, 24), 1, 24);
}

static void map_holds_many(void **state)
{
    AUTO(map_done) struct map m = {0};
    static int values[5000];
    struct str key;
    void *value;
    size_t at = 0, seen = 0;
    char name[16];

    (void)state;
    assert_null(map_get(&m, STR("x")));
    assert_null(map_del(&m, STR("x")));
    assert_false(map_next(&m, &at, &key, &value));
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "key-%d", i);
        assert_null(map_set(&m, str_of(name), &values[i]));
    }
    assert_int_equal(m.n, 5000);
    assert_ptr_equal(map_set(&m, STR("key-7"), &values[8]), &values[7]);
    assert_ptr_equal(map_get(&m, STR("key-7")), &values[8]);
    for (at = 0; map_next(&m, &at, &key, &value);) {
        seen++;
        if (seen % 2 == 0)
            assert_ptr_equal(map_del(&m, key), value);
    }
    assert_int_equal(seen, 5000);
    assert_int_equal(m.n, 2500);
    assert_null(map_set(&m, STR(""), &values[0]));
    assert_ptr_equal(map_get(&m, STR_NONE), &values[0]);
}

static void map_does_not_grow_by_churn(void **state)
{
    AUTO(map_done) struct map m = {0};
    static int value;
    char name[16];

    (void)state;
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "%d", i);
        map_set(&m, str_of(name), &value);
        assert_ptr_equal(map_del(&m, str_of(name)), &value);
    }
    assert_int_equal(m.n, 0);
    assert_int_equal(m.cap, 8);
}

static void map_frees_values(void **state)
{
    struct map m = {0};

    (void)state;
    map_set(&m, STR("a"), xstrdup("x"));
    map_set(&m, STR("b"), xstrdup("y"));
    map_done_with(&m, free);
    assert_int_equal(m.cap, 0);
}

struct item {
    int n;
    struct list node;
};

static void list_and_vec(void **state)
{
    struct item items[4] = {{.n = 0}, {.n = 1}, {.n = 2}, {.n = 3}};
    VEC(int) v = {0};
    struct list l;
    int want = 0;

    (void)state;
    list_init(&l);
    for (int i = 1; i < 4; i++)
        list_add_tail(&l, &items[i].node);
    list_add_head(&l, &items[0].node);
    list_each_safe(it, &l) {
        assert_int_equal(list_entry(it, struct item, node)->n, want++);
        list_remove(it);
        assert_false(list_linked(it));
        list_remove(it);
    }
    assert_true(list_empty(&l));
    for (int i = 0; i < 100; i++)
        vec_push(&v, i);
    vec_remove(&v, 0);
    assert_int_equal(v.n, 99);
    assert_int_equal(v.p[0], 1);
    assert_int_equal(v.p[98], 99);
    vec_done(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_aligns_and_keeps), cmocka_unit_test(small_first_block),
        cmocka_unit_test(map_holds_many),         cmocka_unit_test(map_does_not_grow_by_churn),
        cmocka_unit_test(map_frees_values),       cmocka_unit_test(list_and_vec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
