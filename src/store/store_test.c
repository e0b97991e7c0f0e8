#include "store/testing.h"
#include <sqlite3.h>

struct fixture {
    struct bench_dir dir;
    struct loop *l;
    struct store *s;
};

static int setup_with(void **state, struct loop *l)
{
    struct fixture *f = NEW(struct fixture);

    dir_make(&f->dir);
    f->l = l;
    f->s = open_store(f->l, f->dir.fd);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, loop_new(NULL));
}

static int setup_fake(void **state)
{
    return setup_with(state, loop_new_fake());
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_close(f->s);
    loop_free(f->l);
    dir_remove(&f->dir);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    store_close(f->s);
    f->s = open_store(f->l, f->dir.fd);
}

static void writes_are_read_back(void **state)
{
    struct fixture *f = *state;
    int64_t start = store_revision(f->s), a, b;

    assert_null(store_get(f->s, STR("/registry/core/pods/d/a")));
    a = put(f->l, f->s, "/registry/core/pods/d/a", "one");
    b = put(f->l, f->s, "/registry/core/pods/d/b", "two");
    assert_true(a > start && b > a);
    assert_int_equal(store_revision(f->s), b);
    check_text(store_get(f->s, STR("/registry/core/pods/d/a")), "one");
    a = put(f->l, f->s, "/registry/core/pods/d/a", "three");
    check_text(store_get(f->s, STR("/registry/core/pods/d/a")), "three");
    assert_int_equal(store_count(f->s, STR("/registry/core/pods/")), 2);
    reopen(f);
    assert_int_equal(store_revision(f->s), a);
    assert_int_equal(store_oldest_revision(f->s), a);
    check_text(store_get(f->s, STR("/registry/core/pods/d/a")), "three");
    check_text(store_get(f->s, STR("/registry/core/pods/d/b")), "two");
    b = put(f->l, f->s, "/registry/core/pods/d/b", NULL);
    assert_true(b > a);
    assert_null(store_get(f->s, STR("/registry/core/pods/d/b")));
    reopen(f);
    assert_int_equal(store_revision(f->s), b);
    assert_null(store_get(f->s, STR("/registry/core/pods/d/b")));
}

static void conditions_are_judged(void **state)
{
    struct fixture *f = *state;
    enum error_kind kind;
    int64_t a;

    assert_int_equal(put_kind(f->l, f->s, "/r/x", NULL, 0, &kind), 0);
    assert_int_equal(kind, ERROR_NOT_FOUND);
    put_kind(f->l, f->s, "/r/x", "v", 7, &kind);
    assert_int_equal(kind, ERROR_NOT_FOUND);
    a = put_kind(f->l, f->s, "/r/x", "v", -1, &kind);
    assert_int_equal(kind, ERROR_NONE);
    put_kind(f->l, f->s, "/r/x", "v", -1, &kind);
    assert_int_equal(kind, ERROR_EXISTS);
    put_kind(f->l, f->s, "/r/x", "w", a - 1, &kind);
    assert_int_equal(kind, ERROR_CONFLICT);
    put_kind(f->l, f->s, "/r/x", NULL, a - 1, &kind);
    assert_int_equal(kind, ERROR_CONFLICT);
    a = put_kind(f->l, f->s, "/r/x", "w", a, &kind);
    assert_int_equal(kind, ERROR_NONE);
    put_kind(f->l, f->s, "/r/x", NULL, a, &kind);
    assert_int_equal(kind, ERROR_NONE);
    put_kind(f->l, f->s, "", "v", 0, &kind);
    assert_int_equal(kind, ERROR_INVALID);
}

static void queued_writes_are_pending_not_visible(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    struct answer one, two, three, four;

    assert_true(start_put(f->s, "/r/x", "1", 0, -1, &one, &err));
    assert_null(store_get(f->s, STR("/r/x")));
    check_text(store_get_pending(f->s, STR("/r/x")), "1");
    assert_false(start_put(f->s, "/r/x", "2", 0, -1, &two, &err));
    assert_int_equal(err.kind, ERROR_EXISTS);
    assert_true(start_put(f->s, "/r/x", "2", 0, 0, &two, &err));
    assert_true(start_put(f->s, "/r/x", NULL, 0, 0, &three, &err));
    assert_null(store_get_pending(f->s, STR("/r/x")));
    assert_true(start_put(f->s, "/r/x", "4", 0, -1, &four, &err));
    assert_false(one.come);
    await(f->l, &four.come);
    assert_true(one.ok && two.ok && three.ok && four.ok);
    assert_true(one.revision < two.revision && two.revision < three.revision && three.revision < four.revision);
    check_text(store_get(f->s, STR("/r/x")), "4");
}

static void big_objects_are_compressed_and_bounded(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0}, again = {0};
    const struct json *list = json_array(&a, NULL);
    struct answer answer = {0};
    struct store_object *o;

    for (int i = 0; i < 200; i++)
        list = json_append(&a, list, json_new_z(&a, "the same again and again"));
    assert_true(store_put(f->s, &(struct store_write){.key = STR("/r/big"), .done = take_answer, .user = &answer,
        .value = json_object(&a, "list", list, "metadata", json_object(&a, NULL), NULL)}, &err));
    await(f->l, &answer.come);
    o = store_get(f->s, STR("/r/big"));
    store_object_text(o, &text);
    assert_true(text.n > 5000);
    assert_true(json_eq(json_get(store_object_json(o, &a), "list"), list));
    store_object_unref(o);
    reopen(f);
    o = store_get(f->s, STR("/r/big"));
    store_object_text(o, &again);
    assert_true(str_eq(buf_str(&text), buf_str(&again)));
    store_object_unref(o);
    assert_false(start_put(f->s, "/r/huge", "x", 2 << 20, 0, &answer, &err));
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    assert_true(start_put(f->s, "/r/large", "x", 1 << 20, 0, &answer, &err));
    await(f->l, &answer.come);
    check_text(store_get(f->s, STR("/r/large")), "x");
}

static void text_keeps_its_form(void **state)
{
    struct fixture *f = *state;
    static const char *const cases[][2] = {
        {"{\"a\":1}", "{\"a\":1,\"metadata\":{\"resourceVersion\":\"%\"}}"},
        {"{\"metadata\":{},\"z\":1.0}", "{\"metadata\":{\"resourceVersion\":\"%\"},\"z\":1.0}"},
        {"{\"metadata\":{\"name\":\"a\",\"uid\":\"u\",\"x\":[]}}",
         "{\"metadata\":{\"name\":\"a\",\"uid\":\"u\",\"resourceVersion\":\"%\",\"x\":[]}}"},
        {"{\"metadata\":{\"resourceVersion\":\"5\",\"uid\":\"u\"}}",
         "{\"metadata\":{\"resourceVersion\":\"%\",\"uid\":\"u\"}}"},
        {"{\"metadata\":1,\"metadata\":{\"resourceVersion\":\"1\",\"resourceVersion\":\"2\"}}",
         "{\"metadata\":{\"resourceVersion\":\"%\"}}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(error_clear) struct error err = {0};
        AUTO(arena_done) struct arena a = {0};
        AUTO(buf_done) struct buf text = {0}, want = {0};
        struct answer answer = {0};
        const struct json *v;
        struct store_object *o;
        struct str head, tail;

        assert_true(json_parse(str_of(cases[i][0]), &a, &v, &err));
        assert_true(store_put(f->s, &(struct store_write){.key = STR("/r/t"), .value = v, .done = take_answer,
            .user = &answer}, &err));
        await(f->l, &answer.come);
        o = store_get(f->s, STR("/r/t"));
        store_object_text(o, &text);
        store_object_unref(o);
        assert_true(str_cut(str_of(cases[i][1]), '%', &head, &tail));
        buf_addf(&want, STR_FMT "%lld" STR_FMT, STR_ARG(head), (long long)answer.revision, STR_ARG(tail));
        assert_string_equal(text.p, want.p);
    }
}

static void only_objects_are_stored(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    AUTO(arena_done) struct arena a = {0};
    const struct json *deep = json_new_bool(true);

    assert_false(store_put(f->s, &(struct store_write){.key = STR("/r/t"), .value = json_array(&a, NULL)}, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    for (int i = 0; i < 300; i++)
        deep = json_object(&a, "a", deep, NULL);
    assert_false(store_put(f->s, &(struct store_write){.key = STR("/r/t"), .value = deep}, &err));
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
}

static int count_dicts(const struct fixture *f, const char *kind)
{
    char path[96], sql[96];
    sqlite3_stmt *q;
    sqlite3 *c;
    int n;

    snprintf(path, sizeof path, "%s/state.db", f->dir.path);
    snprintf(sql, sizeof sql, "select count(*) from dict where kind like '%s'", kind);
    assert_int_equal(sqlite3_open_v2(path, &c, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(c, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    n = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(c);
    return n;
}

/* A kind's first hundred objects train its dictionary; what is kept with it reads the same, now and later. */
static void dictionaries_change_nothing(void **state)
{
    struct fixture *f = *state;
    enum { N = 400 };
    struct answer *answers = xcalloc(N, sizeof *answers);
    struct store_stats stats;
    AUTO(buf_done) struct buf before = {0}, after = {0};
    struct store_list l;
    AUTO(error_clear) struct error err = {0};

    for (int i = 0; i < N; i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *list = json_array(&a, NULL);
        char key[64];

        for (int k = 0; k < 30; k++)
            list = json_append(&a, list, json_object(&a, "mountPath", json_new_f(&a, "/var/run/%d", k), "hash",
                                                     json_new_f(&a, "%d", i * k), NULL));
        snprintf(key, sizeof key, "/registry/core/%s/d/%03d", i % 2 ? "pods" : "secrets", i);
        assert_true(store_put(f->s, &(struct store_write){.key = str_of(key), .done = take_answer, .user = &answers[i],
            .value = json_object(&a, "metadata", json_object(&a, "uid", json_new_z(&a, key), NULL), "spec", list, NULL)},
            &err));
        if (i % 20 == 19)
            await(f->l, &answers[i].come);
    }
    for (int i = 0; i < 2; i++) {
        struct buf *b = i ? &after : &before;

        assert_true(store_list(f->s, STR("/registry/"), STR_NONE, 0, 0, NULL, NULL, &l, &err));
        assert_int_equal(l.n, N);
        for (size_t k = 0; k < l.n; k++)
            store_object_text(l.p[k], b);
        store_list_done(&l);
        if (!i)
            reopen(f);
    }
    assert_true(str_eq(buf_str(&before), buf_str(&after)));
    store_stats(f->s, &stats);
    assert_true(stats.bytes_in_memory < before.n / 2);
    assert_int_equal(count_dicts(f, "%pods"), 1);
    assert_int_equal(count_dicts(f, "%"), 1); /* never one of secrets */
    free(answers);
}

static bool check_deleted(void *user, const struct store_event *e)
{
    int64_t *revision = user;

    if (e->type == STORE_DELETED) {
        check_text(store_object_ref(e->object), "last");
        check_text(store_object_ref(e->previous), "last");
        *revision = e->revision;
    }
    return true;
}

static void the_last_state_is_told_at_the_revision_of_its_deletion(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    int64_t told = 0, revision;

    assert_non_null(store_watch_start(f->s, STR("/r/"), store_revision(f->s), check_deleted, &told, &err));
    put(f->l, f->s, "/r/x", "first");
    put(f->l, f->s, "/r/x", "last");
    revision = put(f->l, f->s, "/r/x", NULL);
    loop_turn(f->l, 0);
    assert_int_equal(told, revision);
}

/* Lists. */

static bool only_even(const struct store_object *o, void *data)
{
    struct str key = store_object_key(o);

    (void)data;
    return (key.p[key.n - 1] - '0') % 2 == 0;
}

static void lists_have_pages(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    struct store_list page;
    char key[64], *next = NULL;
    int64_t revision;
    int seen = 0;

    for (int i = 0; i < 25; i++) {
        snprintf(key, sizeof key, "/r/a/%02d", i);
        put(f->l, f->s, key, "old");
    }
    put(f->l, f->s, "/r/a", "not below");
    put(f->l, f->s, "/r/b/00", "not below");
    revision = store_revision(f->s);
    do {
        AUTO_FREE char *start = next;

        assert_true(store_list(f->s, STR("/r/a/"), str_of(start), 10, revision, NULL, NULL, &page, &err));
        assert_int_equal(page.revision, revision);
        for (size_t i = 0; i < page.n; i++) {
            snprintf(key, sizeof key, "/r/a/%02d", seen++);
            assert_true(str_is(store_object_key(page.p[i]), key));
            check_text(store_object_ref(page.p[i]), "old");
        }
        assert_int_equal(page.remaining, 25 - seen);
        next = TAKE(page.next_key);
        store_list_done(&page);
        /* The state of that time, whatever is changed, removed or added between the pages. */
        put(f->l, f->s, "/r/a/12", "new");
        if (seen == 10) {
            put(f->l, f->s, "/r/a/13", NULL);
            put(f->l, f->s, "/r/a/130", "new");
            put(f->l, f->s, "/r/a/24", NULL);
            put(f->l, f->s, "/r/a/24", "new");
            put(f->l, f->s, "/r/a/99", "new");
        }
    } while (next);
    assert_int_equal(seen, 25);
    assert_true(store_list(f->s, STR("/r/a/"), STR_NONE, 0, 0, NULL, NULL, &page, &err));
    assert_int_equal(page.n, 26);
    assert_int_equal(page.remaining, 0);
    assert_int_equal(store_count(f->s, STR("/r/a/")), 26);
    store_list_done(&page);
    assert_true(store_list(f->s, STR("/r/a/"), STR_NONE, 3, 0, only_even, NULL, &page, &err));
    assert_int_equal(page.n, 3);
    assert_true(str_is(store_object_key(page.p[2]), "/r/a/04"));
    assert_int_equal(page.remaining, -1);
    store_list_done(&page);
    assert_false(store_list(f->s, STR("/r/a/"), STR_NONE, 3, store_revision(f->s) + 1, NULL, NULL, &page, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_true(store_list(f->s, STR("/r/a/"), STR("/zzz"), 3, 0, NULL, NULL, &page, &err));
    assert_int_equal(page.n, 0);
    store_list_done(&page);
}

/* Random writes; every older state is compared with a copy that was taken then. */
static void every_revision_within_history_is_as_it_was(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    enum { KEYS = 300, STEPS = 1200, EVERY = 100 };
    static int64_t then[STEPS / EVERY][KEYS];
    int64_t at[STEPS / EVERY], now[KEYS] = {0};
    struct answer answers[EVERY];
    unsigned seed = 7;

    for (int i = 0; i < STEPS; i++) {
        int k = rand_r(&seed) % KEYS;
        char key[64];

        snprintf(key, sizeof key, "/r/m/%03d", k);
        if (rand_r(&seed) % 3 == 0 && now[k]) {
            assert_true(start_put(f->s, key, NULL, 0, now[k], &answers[i % EVERY], &err));
            now[k] = 0;
        } else {
            struct store_object *o;

            assert_true(start_put(f->s, key, "v", 0, now[k] ? now[k] : -1, &answers[i % EVERY], &err));
            o = store_get_pending(f->s, str_of(key));
            now[k] = store_object_revision(o);
            store_object_unref(o);
        }
        if (i % EVERY == EVERY - 1) {
            await(f->l, &answers[EVERY - 1].come);
            memcpy(then[i / EVERY], now, sizeof now);
            at[i / EVERY] = store_revision(f->s);
        }
    }
    for (int i = 0; i < STEPS / EVERY; i++) {
        struct store_list l;
        size_t n = 0;

        assert_true(store_list(f->s, STR("/r/m/"), STR_NONE, 0, at[i], NULL, NULL, &l, &err));
        for (int k = 0; k < KEYS; k++) {
            char key[64];

            snprintf(key, sizeof key, "/r/m/%03d", k);
            if (!then[i][k])
                continue;
            assert_true(n < l.n && str_is(store_object_key(l.p[n]), key));
            assert_int_equal(store_object_revision(l.p[n]), then[i][k]);
            n++;
        }
        assert_int_equal(n, l.n);
        store_list_done(&l);
    }
}

/* Watches. */

struct log {
    VEC(struct { enum store_event_type type; int64_t revision; char key[32]; int64_t previous; }) e;
    size_t end_after;
};

static bool record(void *user, const struct store_event *e)
{
    struct log *log = user;
    struct str key = store_object_key(e->object);

    vec_reserve(&log->e, log->e.n + 1);
    log->e.p[log->e.n].type = e->type;
    log->e.p[log->e.n].revision = e->revision;
    log->e.p[log->e.n].previous = e->previous ? store_object_revision(e->previous) : 0;
    snprintf(log->e.p[log->e.n].key, 32, STR_FMT, STR_ARG(key));
    assert_int_equal(store_object_revision(e->object), e->revision);
    return ++log->e.n != log->end_after;
}

static void turns(struct loop *l, int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(l, 0);
}

static void watches_see_every_change_in_order(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    struct log live = {0}, late = {0}, brief = {.end_after = 2}, other = {0};
    struct store_watch *w1, *w2, *w3;
    int64_t from = store_revision(f->s), a, b, c;

    w1 = store_watch_start(f->s, STR("/r/p/"), from, record, &live, &err);
    assert_non_null(store_watch_start(f->s, STR("/r/"), from, record, &brief, &err));
    w3 = store_watch_start(f->s, STR("/r/q/"), from, record, &other, &err);
    a = put(f->l, f->s, "/r/p/x", "1");
    b = put(f->l, f->s, "/r/p/x", "2");
    put(f->l, f->s, "/r/q/x", "2");
    c = put(f->l, f->s, "/r/p/x", NULL);
    turns(f->l, 3);
    w2 = store_watch_start(f->s, STR("/r/p/"), from, record, &late, &err);
    assert_int_equal(late.e.n, 0);
    turns(f->l, 3);
    for (int i = 0; i < 2; i++) {
        struct log *l = i ? &late : &live;

        assert_int_equal(l->e.n, 3);
        assert_true(l->e.p[0].type == STORE_ADDED && l->e.p[0].revision == a && l->e.p[0].previous == 0);
        assert_true(l->e.p[1].type == STORE_MODIFIED && l->e.p[1].revision == b && l->e.p[1].previous == a);
        assert_true(l->e.p[2].type == STORE_DELETED && l->e.p[2].revision == c && l->e.p[2].previous == b);
    }
    assert_int_equal(brief.e.n, 2);
    assert_int_equal(other.e.n, 1);
    store_watch_stop(w2);
    w2 = store_watch_start(f->s, STR("/r/p/"), b, record, &late, &err);
    turns(f->l, 3);
    assert_int_equal(late.e.n, 4);
    assert_int_equal(late.e.p[3].revision, c);
    store_watch_stop(w1);
    store_watch_stop(w2);
    store_watch_stop(w3);
    put(f->l, f->s, "/r/p/x", "1");
    assert_int_equal(live.e.n, 3);
    vec_done(&live.e);
    vec_done(&late.e);
    vec_done(&brief.e);
    vec_done(&other.e);
}

static void many_events_come_once_each(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    enum { N = 6000 };
    struct log all = {0}, half = {0};
    struct answer *answers = xcalloc(N, sizeof *answers);
    int64_t from = store_revision(f->s);
    struct store_watch *w, *h = NULL;

    w = store_watch_start(f->s, STR("/r/"), from, record, &all, &err);
    for (int i = 0; i < N; i++) {
        char key[32];

        snprintf(key, sizeof key, "/r/%d", i % 50);
        assert_true(start_put(f->s, key, "v", 0, 0, &answers[i], &err));
        if (i == N / 2)
            h = store_watch_start(f->s, STR("/r/"), from, record, &half, &err);
        if (i % 500 == 0)
            loop_turn(f->l, 0);
    }
    await(f->l, &answers[N - 1].come);
    turns(f->l, 10);
    assert_int_equal(all.e.n, N);
    assert_int_equal(half.e.n, N);
    for (int i = 0; i < N; i++)
        assert_true(all.e.p[i].revision == from + 1 + i && half.e.p[i].revision == from + 1 + i);
    store_watch_stop(w);
    store_watch_stop(h);
    vec_done(&all.e);
    vec_done(&half.e);
    free(answers);
}

struct stopper {
    struct store_watch *other;
    int calls;
};

static bool stop_other(void *user, const struct store_event *e)
{
    struct stopper *s = user;

    (void)e;
    s->calls++;
    store_watch_stop(TAKE(s->other));
    return true;
}

static void a_watch_may_stop_another(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    struct stopper a = {0}, b = {0};
    struct store_watch *wa = store_watch_start(f->s, STR("/r/"), store_revision(f->s), stop_other, &a, &err);
    struct store_watch *wb = store_watch_start(f->s, STR("/r/"), store_revision(f->s), stop_other, &b, &err);
    struct store_stats stats;

    a.other = wb;
    b.other = NULL;
    put(f->l, f->s, "/r/x", "1");
    put(f->l, f->s, "/r/x", "2");
    assert_int_equal(a.calls, 2);
    assert_int_equal(b.calls, 0);
    store_stats(f->s, &stats);
    assert_int_equal(stats.watchers, 1);
    store_watch_stop(wa);
}

/* Time. */

static void history_ends_after_its_time(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    int64_t before = store_revision(f->s), a, b;
    struct store_list l;
    struct log log = {0};

    a = put(f->l, f->s, "/r/x", "1");
    loop_fake_advance(f->l, SECONDS(200));
    b = put(f->l, f->s, "/r/x", "2");
    assert_true(store_list(f->s, STR("/r/"), STR_NONE, 0, before, NULL, NULL, &l, &err));
    assert_int_equal(l.n, 0);
    store_list_done(&l);
    loop_fake_advance(f->l, SECONDS(150));
    assert_int_equal(store_oldest_revision(f->s), a);
    assert_false(store_list(f->s, STR("/r/"), STR_NONE, 0, before, NULL, NULL, &l, &err));
    assert_int_equal(err.kind, ERROR_GONE);
    assert_null(store_watch_start(f->s, STR("/r/"), before, record, &log, &err));
    assert_int_equal(err.kind, ERROR_GONE);
    assert_true(store_list(f->s, STR("/r/"), STR_NONE, 0, a, NULL, NULL, &l, &err));
    assert_int_equal(l.n, 1);
    assert_int_equal(store_object_revision(l.p[0]), a);
    store_list_done(&l);
    loop_fake_advance(f->l, SECONDS(150));
    assert_int_equal(store_oldest_revision(f->s), b);
}

static void ttl(struct fixture *f, const char *key, int64_t ns)
{
    struct error err = {0};

    assert_true(store_ttl_set(f->s, str_of(key), ns, &err));
    put(f->l, f->s, "/r/tick", "after it");
}

/* Lets the store thread flush what a timer queued. */
static bool gone_after(struct fixture *f, const char *key, int64_t ns)
{
    struct store_object *o;

    loop_fake_advance(f->l, ns);
    put(f->l, f->s, "/r/tick", "after it");
    o = store_get(f->s, str_of(key));
    store_object_unref(o);
    return o == NULL;
}

static void objects_with_a_time_to_live_go(void **state)
{
    struct fixture *f = *state;
    struct store_object *held;

    put(f->l, f->s, "/r/e/1", "first");
    put(f->l, f->s, "/r/e/2", "second");
    ttl(f, "/r/e/1", SECONDS(3600));
    ttl(f, "/r/e/2", SECONDS(10000));
    assert_false(gone_after(f, "/r/e/1", SECONDS(3500)));
    /* Their bytes are in the database only by now. */
    held = store_get(f->s, STR("/r/e/2"));
    check_text(store_get(f->s, STR("/r/e/1")), "first");
    check_text(store_object_ref(held), "second");
    ttl(f, "/r/e/1", SECONDS(3600));
    assert_false(gone_after(f, "/r/e/1", SECONDS(200)));
    put(f->l, f->s, "/r/e/2", "third");
    check_text(store_object_ref(held), "second");
    check_text(store_get(f->s, STR("/r/e/2")), "third");
    store_object_unref(held);
    assert_true(gone_after(f, "/r/e/1", SECONDS(3600)));
    assert_false(gone_after(f, "/r/e/2", SECONDS(1)));
    reopen(f);
    held = store_get(f->s, STR("/r/e/2"));
    check_text(store_object_ref(held), "third");
    assert_true(gone_after(f, "/r/e/2", SECONDS(10000)));
    check_text(held, "third");
}

/* Files. */

static void one_process_at_a_time(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};

    assert_null(store_open(&(struct store_config){.loop = f->l, .dirfd = f->dir.fd}, &err));
    assert_int_equal(err.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "another process"));
}

static void write_at(struct fixture *f, off_t at, const char *bytes, size_t n)
{
    int fd = openat(f->dir.fd, "state.db", O_RDWR | O_CLOEXEC);

    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static void expect_damage(struct fixture *f)
{
    AUTO(error_clear) struct error err = {0};

    assert_null(store_open(&(struct store_config){.loop = f->l, .dirfd = f->dir.fd}, &err));
    assert_non_null(strstr(err.msg, "state.db"));
    assert_non_null(strstr(err.msg, "damaged"));
    assert_non_null(strstr(err.msg, "vireo restore"));
}

static void damage_is_named(void **state)
{
    struct fixture *f = *state;
    struct answer answer;
    struct error err = {0};
    char page[4096];
    int fd;
    off_t size;

    for (int i = 0; i < 20; i++) {
        char key[32];

        snprintf(key, sizeof key, "/r/%03d", i);
        assert_true(start_put(f->s, key, "v", 3000, 0, &answer, &err));
    }
    await(f->l, &answer.come);
    store_close(TAKE(f->s));
    /* One byte within an object's text: found by its checksum. */
    fd = openat(f->dir.fd, "state.db", O_RDONLY | O_CLOEXEC);
    size = lseek(fd, 0, SEEK_END);
    for (off_t at = size - 4096; at > 0; at -= 4096) {
        char *pad;

        assert_int_equal(pread(fd, page, sizeof page, at), sizeof page);
        pad = memmem(page, sizeof page, "\"pad\":\"", 7);
        if (!pad || pad > page + 4000)
            continue;
        write_at(f, at + (pad - page) + 10, "!", 1);
        expect_damage(f);
        write_at(f, at + (pad - page) + 10, pad + 10, 1);
        break;
    }
    f->s = open_store(f->l, f->dir.fd);
    store_close(TAKE(f->s));
    /* A whole page. */
    assert_int_equal(pread(fd, page, sizeof page, 5 * 4096), sizeof page);
    write_at(f, 5 * 4096, (const char[4096]){0}, 4096);
    expect_damage(f);
    write_at(f, 5 * 4096, page, 4096);
    f->s = open_store(f->l, f->dir.fd);
    store_close(TAKE(f->s));
    write_at(f, 0, "garbage garbage garbage", 23);
    expect_damage(f);
    close(fd);
}

static void an_alien_database_is_refused(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    struct bench_dir other;
    char path[96];
    sqlite3 *c;

    dir_make(&other);
    snprintf(path, sizeof path, "%s/state.db", other.path);
    assert_int_equal(sqlite3_open(path, &c), SQLITE_OK);
    assert_int_equal(sqlite3_exec(c, "create table t(a)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(c);
    assert_null(store_open(&(struct store_config){.loop = f->l, .dirfd = other.fd}, &err));
    assert_non_null(strstr(err.msg, "some other program"));
    dir_remove(&other);
}

static void closing_flushes_and_answers(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct answer answers[50];
    char key[32];

    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "/r/%03d", i);
        assert_true(start_put(f->s, key, "v", 100, 0, &answers[i], &err));
    }
    reopen(f);
    for (int i = 0; i < 50; i++)
        assert_true(answers[i].come && answers[i].ok);
    assert_int_equal(store_count(f->s, STR("/r/")), 50);
}

static void reading_only(void **state)
{
    struct fixture *f = *state;
    AUTO(error_clear) struct error err = {0};
    struct answer answer;
    struct store *s;

    put(f->l, f->s, "/r/x", "1");
    s = store_open(&(struct store_config){.loop = f->l, .dirfd = f->dir.fd, .read_only = true}, &err);
    assert_non_null(s);
    check_text(store_get(s, STR("/r/x")), "1");
    assert_false(start_put(s, "/r/x", "2", 0, 0, &answer, &err));
    assert_int_equal(err.kind, ERROR_UNAVAILABLE);
    store_close(s);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define T_FAKE(fn) cmocka_unit_test_setup_teardown(fn, setup_fake, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(writes_are_read_back),
        T(conditions_are_judged),
        T(queued_writes_are_pending_not_visible),
        T(big_objects_are_compressed_and_bounded),
        T(text_keeps_its_form),
        T(only_objects_are_stored),
        T(dictionaries_change_nothing),
        T(the_last_state_is_told_at_the_revision_of_its_deletion),
        T(lists_have_pages),
        T(every_revision_within_history_is_as_it_was),
        T(watches_see_every_change_in_order),
        T(many_events_come_once_each),
        T(a_watch_may_stop_another),
        T_FAKE(history_ends_after_its_time),
        T_FAKE(objects_with_a_time_to_live_go),
        T(one_process_at_a_time),
        T(damage_is_named),
        T(an_alien_database_is_refused),
        T(closing_flushes_and_answers),
        T(reading_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
