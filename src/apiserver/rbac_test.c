#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include "apiserver/rbac.h"
#include "base/cleanup.h"
#include "base/file.h"

#define PREFIX "/registry/rbac.authorization.k8s.io/"

static struct world {
    struct loop *loop;
    struct store *store;
    struct rbac *rbac;
    char dir[64];
    int dirfd;
    size_t waiting;
} w;

static int setup(void **state)
{
    struct error err = {0};

    (void)state;
    w = (struct world){.dirfd = -1};
    snprintf(w.dir, sizeof w.dir, "/tmp/vireo-rbac-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    assert_true(file_open_dir(AT_FDCWD, w.dir, &w.dirfd, &err));
    w.loop = loop_new(NULL);
    w.store = store_open(&(struct store_config){.loop = w.loop, .dirfd = w.dirfd}, &err);
    assert_non_null(w.store);
    w.rbac = rbac_new(w.store);
    return 0;
}

static int teardown(void **state)
{
    struct error err = {0};

    (void)state;
    rbac_free(w.rbac);
    store_close(w.store);
    loop_free(w.loop);
    fd_close(&w.dirfd);
    assert_true(file_remove_tree(AT_FDCWD, w.dir, &err));
    return 0;
}

/* As the server does it: the cache is told before anybody else is. */
static void written(void *user, struct store_object *o, const struct error *err)
{
    (void)user;
    (void)err;
    assert_non_null(o);
    rbac_note(w.rbac, store_object_key(o));
    w.waiting--;
}

static void put(const char *key, const char *text)
{
    AUTO(arena_done) struct arena a = {0};
    struct error err = {0};
    struct store_write put = {.key = str_of(key), .done = written};

    if (text)
        assert_true(json_parse(str_of(text), &a, &put.value, &err));
    assert_true(store_put(w.store, &put, &err));
    w.waiting++;
}

static void settle(void)
{
    while (w.waiting)
        loop_turn(w.loop, SECONDS(5));
}

static void bind(const char *ns, int i, const char *subject)
{
    AUTO(arena_done) struct arena a = {0};

    put(arena_printf(&a, PREFIX "rolebindings/%s/b%05d", ns, i),
        arena_printf(&a,
                     "{\"metadata\":{\"name\":\"b%05d\",\"namespace\":\"%s\",\"uid\":\"u%d\"},"
                     "\"roleRef\":{\"kind\":\"Role\",\"name\":\"r\"},"
                     "\"subjects\":[%s]}",
                     i, ns, i, subject));
}

static bool count(void *user, const struct binding *b, const struct json *subject,
                  const struct json *rule, const char *missing)
{
    (void)b;
    (void)subject;
    *(size_t *)user += rule != NULL || missing != NULL;
    return true;
}

static size_t rules(const char *user, const char *group, const char *ns)
{
    const char *groups[] = {group, NULL};
    const struct identity who = {.user = user, .groups = groups};
    size_t n = 0;

    rbac_visit(w.rbac, &who, str_of(ns), count, &n);
    return n;
}

static void only_own_bindings_are_looked_at(void **state)
{
    (void)state;
    put(PREFIX "roles/a/r", "{\"metadata\":{\"name\":\"r\",\"namespace\":\"a\",\"uid\":\"r\"},"
                            "\"rules\":[{\"verbs\":[\"get\"]}]}");
    for (int i = 0; i < 10000; i++) {
        char subject[80];

        snprintf(subject, sizeof subject, "{\"kind\":\"User\",\"name\":\"u%d\"}", i);
        bind("a", i, subject);
    }
    settle();
    assert_int_equal(rules("u77", "g", "a"), 1);
    assert_int_equal(rules("u77", "g", "b"), 0);
    assert_int_equal(rules("other", "g", "a"), 0);
}

static void changes_hold_at_once(void **state)
{
    (void)state;
    bind("a", 1,
         "{\"kind\":\"User\",\"name\":\"u\"},{\"kind\":\"Group\",\"name\":\"g\"},{\"kind\":"
         "\"ServiceAccount\",\"name\":\"s\"}");
    settle();
    assert_int_equal(rules("u", "x", "a"), 1); /* the role is missing, and that is told */
    put(PREFIX "roles/a/r", "{\"metadata\":{\"name\":\"r\",\"namespace\":\"a\",\"uid\":\"r\"},"
                            "\"rules\":[{\"verbs\":[\"get\"]},{\"verbs\":[\"put\"]}]}");
    settle();
    assert_int_equal(rules("u", "g", "a"), 2); /* named twice, counted once */
    assert_int_equal(rules("x", "g", "a"), 2);
    assert_int_equal(rules("system:serviceaccount:a:s", "x", "a"), 2);
    assert_int_equal(rules("system:serviceaccount:b:s", "x", "a"), 0);
    bind("a", 1, "{\"kind\":\"User\",\"name\":\"v\"}");
    settle();
    assert_int_equal(rules("u", "g", "a"), 0);
    assert_int_equal(rules("v", "g", "a"), 2);
    put(PREFIX "rolebindings/a/b00001", NULL);
    settle();
    assert_int_equal(rules("v", "g", "a"), 0);
}

static void a_start_reads_what_is_there(void **state)
{
    (void)state;
    bind("a", 1, "{\"kind\":\"User\",\"name\":\"u\"}");
    settle();
    rbac_free(w.rbac);
    w.rbac = rbac_new(w.store);
    assert_int_equal(rules("u", "g", "a"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_own_bindings_are_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(changes_hold_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_reads_what_is_there, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
