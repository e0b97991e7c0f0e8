/* Faults by countdown: the n-th write, flush or truncation fails, for n = 1… until none fires; and processes that
 * are killed or lose their power. What was acknowledged is there, what was refused is not seen, and revisions and events stay in order. */
#include "store/testing.h"
#include "store/faults.h"
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

enum { KEYS = 8, ROUNDS = 12 };

/* Every point takes its time; the everyday run takes a part of them, VIREO_SOAK=1 all. */
static int every(int step)
{
    return getenv("VIREO_SOAK") ? 1 : step;
}

/* What the client knows of every key. */
struct model {
    int64_t revision[KEYS]; /* acknowledged; 0: absent */
    int64_t newest;
    int failed, broken;
};

struct pending {
    struct answer a;
    int key;
    bool remove, sent, refused_full;
};

struct seen {
    int64_t last, state[KEYS];
};

static const char *key_name(int k, char buf[32])
{
    snprintf(buf, 32, "/r/things/d/%02d", k);
    return buf;
}

static bool check_event(void *user, const struct store_event *e)
{
    struct seen *seen = user;
    struct str key = store_object_key(e->object);
    int k = (key.p[key.n - 2] - '0') * 10 + key.p[key.n - 1] - '0';

    assert_true(e->revision > seen->last);
    seen->last = e->revision;
    assert_int_equal(e->previous ? store_object_revision(e->previous) : 0, seen->state[k]);
    assert_int_equal(e->type, !seen->state[k] ? STORE_ADDED : e->type == STORE_DELETED ? STORE_DELETED : STORE_MODIFIED);
    seen->state[k] = e->type == STORE_DELETED ? 0 : e->revision;
    return true;
}

/* A handful of writes at once, several on the same key, so that failing ones have others on top. */
static void round_of_writes(struct loop *l, struct store *s, struct model *m, unsigned *seed)
{
    struct pending p[10];
    char key[32];

    for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
        AUTO(error_clear) struct error err = {0};
        struct store_object *now;

        p[i] = (struct pending){.key = rand_r(seed) % KEYS};
        now = store_get_pending(s, str_of(key_name(p[i].key, key)));
        p[i].remove = now && rand_r(seed) % 4 == 0;
        p[i].sent = start_put(s, key, p[i].remove ? NULL : "v", 3000, now ? store_object_revision(now) : -1, &p[i].a, &err);
        p[i].refused_full = !p[i].sent && strstr(error_text(&err), "no space left");
        store_object_unref(now);
        if (i == 5)
            loop_turn(l, MILLIS(1));
    }
    for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
        if (!p[i].sent && p[i].refused_full) {
            m->failed++;
            continue;
        }
        if (!p[i].sent) {
            m->broken++;
            continue;
        }
        await(l, &p[i].a.come);
        if (!p[i].a.ok) {
            assert_int_equal(p[i].a.kind, ERROR_UNAVAILABLE);
            m->failed++;
            continue;
        }
        assert_true(p[i].a.revision > m->newest);
        m->newest = p[i].a.revision;
        m->revision[p[i].key] = p[i].remove ? 0 : p[i].a.revision;
    }
}

static void check_state(struct store *s, const struct model *m)
{
    char key[32];

    for (int k = 0; k < KEYS; k++) {
        struct store_object *o = store_get(s, str_of(key_name(k, key)));

        assert_int_equal(o ? store_object_revision(o) : 0, m->revision[k]);
        if (o)
            check_text(o, "v");
    }
    assert_int_equal(store_revision(s), m->newest);
}

static const char *health_text(struct store *s)
{
    static char text[256];
    AUTO(error_clear) struct error err = {0};

    snprintf(text, sizeof text, "%s", store_health(s, &err) ? "" : error_text(&err));
    return text;
}

/* Returns whether the fault fired. */
static bool try_fault(enum fault_op op, int n, int code, bool stays, bool may_break)
{
    struct bench_dir dir;
    struct loop *l = loop_new(NULL);
    AUTO(error_clear) struct error err = {0};
    struct model m = {0};
    struct seen seen = {0};
    struct store *s;
    unsigned seed = (unsigned)n;
    bool fired;

    dir_make(&dir);
    s = open_store(l, dir.fd);
    m.newest = seen.last = store_revision(s);
    assert_non_null(store_watch_start(s, STR("/r/"), m.newest, check_event, &seen, &err));
    for (int i = 0; i < ROUNDS; i++) {
        if (i == 2)
            fault_set(op, n, code, stays);
        round_of_writes(l, s, &m, &seed);
        check_state(s, &m);
    }
    fired = atomic_load(&faults.fired) > 0;
    if (stays && m.failed)
        assert_false(store_health(s, &err));
    fault_clear();
    assert_true(may_break || m.broken == 0);
    for (int i = 0; !m.broken && i < 4000 && strstr(health_text(s), "only deletions"); i++)
        loop_turn(l, MILLIS(1)); /* the reserve is being made again */
    if (!m.broken) {
        round_of_writes(l, s, &m, &seed); /* it goes on by itself */
        assert_true(store_health(s, &err));
    }
    loop_turn(l, 0);
    check_state(s, &m);
    assert_memory_equal(seen.state, m.revision, sizeof seen.state);
    store_close(s);
    s = open_store(l, dir.fd);
    check_state(s, &m);
    store_close(s);
    loop_free(l);
    dir_remove(&dir);
    return fired;
}

static void each_fault(enum fault_op op, int code, bool stays, int step)
{
    int fired = 0;

    for (int n = 1; try_fault(op, n, code, stays, false); n += every(step))
        fired++;
    assert_true(fired > 3);
}

static void failing_writes(void **state)
{
    (void)state;
    each_fault(FAULT_WRITE, SQLITE_IOERR_WRITE, false, 19);
}

static void full_disk_for_a_moment(void **state)
{
    (void)state;
    each_fault(FAULT_WRITE, SQLITE_FULL, false, 29);
}

static void full_disk_that_stays(void **state)
{
    (void)state;
    each_fault(FAULT_WRITE, SQLITE_FULL, true, 37);
}

static void failing_flushes(void **state)
{
    (void)state;
    each_fault(FAULT_SYNC, 0, false, 2);
}

static void flushes_that_fail_for_long(void **state)
{
    (void)state;
    each_fault(FAULT_SYNC, 0, true, 3);
}

static void health_comes_back_without_writes(void **state)
{
    struct bench_dir dir;
    struct loop *l = loop_new(NULL);
    AUTO(error_clear) struct error err = {0};
    struct answer a;
    struct store *s;

    (void)state;
    dir_make(&dir);
    s = open_store(l, dir.fd);
    put(l, s, "/r/x", "1");
    fault_set(FAULT_WRITE, 1, SQLITE_FULL, true);
    assert_true(start_put(s, "/r/x", "2", 0, 0, &a, &err));
    await(l, &a.come);
    assert_false(a.ok);
    assert_false(store_health(s, &err));
    assert_non_null(strstr(err.msg, "no space left"));
    check_text(store_get(s, STR("/r/x")), "1");
    check_text(store_get_pending(s, STR("/r/x")), "1");
    fault_clear();
    for (int i = 0; i < 3000 && !store_health(s, &err); i++)
        loop_turn(l, MILLIS(1));
    assert_true(store_health(s, &err));
    put(l, s, "/r/x", "3");
    store_close(s);
    loop_free(l);
    dir_remove(&dir);
}

/* The flush that fails is one around the training of a dictionary: its own, or of the rows that first need it. */
static void dictionaries_under_faults(void **state)
{
    (void)state;
    for (int n = 98; n < 104; n++) {
        struct bench_dir dir;
        struct loop *l = loop_new(NULL);
        struct store *s;
        char key[64];

        dir_make(&dir);
        s = open_store(l, dir.fd);
        fault_set(FAULT_SYNC, n, 0, false);
        for (int i = 0; i < 120; i++) {
            AUTO(error_clear) struct error err = {0};
            struct answer a = {0};

            snprintf(key, sizeof key, "/registry/core/pods/d/%03d", i);
            while (!a.ok) {
                assert_true(start_put(s, key, "v", 1000, 0, &a, &err));
                await(l, &a.come);
            }
        }
        assert_int_equal(atomic_load(&faults.fired), 1);
        fault_clear();
        for (int again = 0; again < 2; again++) {
            for (int i = 0; i < 120; i++) {
                snprintf(key, sizeof key, "/registry/core/pods/d/%03d", i);
                check_text(store_get(s, str_of(key)), "v");
            }
            store_close(s);
            s = again ? NULL : open_store(l, dir.fd);
        }
        loop_free(l);
        dir_remove(&dir);
    }
}

/* Exact states after an end without warning: every write has a known revision, so whatever revision the store comes
 * back with, each key must be as the last write up to it left it; and nothing acknowledged lies behind it. */
struct attempt {
    int32_t key;
    int32_t remove;
    int64_t revision;
    int32_t acknowledged; /* over the pipe: this attempt is answered; otherwise: it begins */
};
struct history_of_attempts {
    VEC(struct attempt) a;
    int64_t acknowledged;
};

static void check_after_end(struct store *s, struct history_of_attempts *h)
{
    int64_t expected[KEYS] = {0}, revision = store_revision(s);
    char key[32];

    assert_true(revision >= h->acknowledged);
    for (size_t i = 0; i < h->a.n; i++)
        if (h->a.p[i].revision <= revision)
            expected[h->a.p[i].key] = h->a.p[i].remove ? 0 : h->a.p[i].revision;
    for (int k = 0; k < KEYS; k++) {
        struct store_object *o = store_get(s, str_of(key_name(k, key)));

        assert_int_equal(o ? store_object_revision(o) : 0, expected[k]);
        if (o)
            check_text(o, "v");
    }
    /* Revisions that never were are given again. */
    while (h->a.n > 0 && h->a.p[h->a.n - 1].revision > revision)
        h->a.n--;
    h->acknowledged = revision;
}

/* A child writes and says over a pipe what it begins and what was acknowledged; it is killed at some moment. */
struct writer {
    struct store *s;
    int fd;
    struct attempt now;
    unsigned *seed;
    int64_t *next;
};

static void write_on(struct writer *w);

static void tell(const struct writer *w)
{
    const struct attempt a = w->now;

    if (write(w->fd, &a, sizeof a) != (ssize_t)sizeof a)
        _exit(2);
}

static void written(void *user, struct store_object *o, const struct error *err)
{
    struct writer *w = user;

    if (err || store_object_revision(o) != w->now.revision)
        _exit(5);
    w->now.acknowledged = 1;
    tell(w);
    write_on(w);
}

static void write_on(struct writer *w)
{
    AUTO(arena_done) struct arena a = {0};
    struct error err = {0};
    char key[32];
    struct store_object *now = store_get_pending(w->s, str_of(key_name(w->now.key, key)));

    w->now.remove = now && rand_r(w->seed) % 4 == 0;
    w->now.acknowledged = 0;
    w->now.revision = ++*w->next;
    store_object_unref(now);
    tell(w);
    if (!store_put(w->s, &(struct store_write){.key = str_of(key), .done = written, .user = w,
            .value = w->now.remove ? NULL : make_value(&a, key + 12, "v", 2000)}, &err))
        _exit(3);
}

static void child(int dirfd, int fd, unsigned seed)
{
    struct loop *l = loop_new(NULL);
    struct error err = {0};
    struct store *s = store_open(&(struct store_config){.loop = l, .dirfd = dirfd}, &err);
    struct writer w[KEYS];
    int64_t next;

    if (!s)
        _exit(1);
    next = store_revision(s);
    for (int k = 0; k < KEYS; k++) {
        w[k] = (struct writer){.s = s, .fd = fd, .now.key = k, .seed = &seed, .next = &next};
        write_on(&w[k]);
    }
    loop_run(l);
    _exit(4);
}

static void kill_one(const struct bench_dir *dir, unsigned *seed, struct history_of_attempts *h)
{
    struct loop *l = loop_new(NULL);
    struct attempt a;
    struct store *s;
    int fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child(dir->fd, fds[1], *seed);
    }
    close(fds[1]);
    usleep((useconds_t)(2000 + rand_r(seed) % 60000));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    while (read(fds[0], &a, sizeof a) == (ssize_t)sizeof a) {
        if (!a.acknowledged)
            vec_push(&h->a, a);
        else
            h->acknowledged = a.revision;
    }
    close(fds[0]);
    s = open_store(l, dir->fd);
    check_after_end(s, h);
    store_close(s);
    loop_free(l);
}

static void killed_at_any_moment(void **state)
{
    struct bench_dir dir;
    struct history_of_attempts h = {0};
    unsigned seed = 3;

    (void)state;
    dir_make(&dir);
    /* On a busy machine a life may end before its first write: it goes on until enough work was cut off. */
    for (int i = 0; i < 60 / every(4) || (h.a.n <= 100 && i < 2000); i++)
        kill_one(&dir, &seed, &h);
    assert_true(h.a.n > 100);
    vec_done(&h.a);
    dir_remove(&dir);
}

/* Power cuts: at the n-th write or flush everything stops, and of what was not flushed only a part has arrived. */
static void attempt_some(struct loop *l, struct store *s, struct history_of_attempts *h, unsigned *seed)
{
    struct pending p[6];
    char key[32];

    for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
        struct error err = {0};
        int k = rand_r(seed) % KEYS;
        struct store_object *now = store_get_pending(s, str_of(key_name(k, key)));
        struct attempt a = {.key = k, .remove = now && rand_r(seed) % 4 == 0};

        a.revision = h->a.n && h->a.p[h->a.n - 1].revision > store_revision(s) ? h->a.p[h->a.n - 1].revision + 1
                                                                               : store_revision(s) + 1;
        store_object_unref(now);
        assert_true(start_put(s, key, a.remove ? NULL : "v", 3000, 0, &p[i].a, &err));
        vec_push(&h->a, a);
        if (i == 3)
            loop_turn(l, MILLIS(1));
    }
    for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
        await(l, &p[i].a.come);
        if (p[i].a.ok)
            h->acknowledged = p[i].a.revision;
    }
}

/* The store as it is after the cut, or as it was without one. */
static bool cut_power(int n, bool lose_all, bool *ret_intact)
{
    struct bench_dir dir;
    struct history_of_attempts h = {0};
    struct loop *l = loop_new(NULL);
    unsigned seed = (unsigned)n, fate = lose_all ? 0 : (unsigned)n + 1;
    AUTO(error_clear) struct error err = {0};
    struct store *s;
    bool cut;

    dir_make(&dir);
    s = open_store(l, dir.fd);
    fault_set(FAULT_POWER, n, SQLITE_IOERR_WRITE, false);
    for (int i = 0; i < ROUNDS && !atomic_load(&faults.power_off); i++)
        attempt_some(l, s, &h, &seed);
    cut = atomic_load(&faults.power_off);
    store_close(s);
    fault_clear();
    power_back(&fate);
    (void)unlinkat(dir.fd, "state.db-shm", 0); /* memory */
    s = store_open(&(struct store_config){.loop = l, .dirfd = dir.fd}, &err);
    *ret_intact = s && store_revision(s) >= h.acknowledged;
    if (*ret_intact)
        check_after_end(s, &h);
    store_close(s);
    vec_done(&h.a);
    loop_free(l);
    dir_remove(&dir);
    return cut;
}

static void cut_all(bool lose_all)
{
    bool intact;
    int n = 1;

    for (; cut_power(n, lose_all, &intact); n += every(5))
        assert_true(intact);
    assert_true(intact && n > 100);
}

static void power_cuts(void **state)
{
    (void)state;
    cut_all(false);
}

static void power_cuts_that_lose_all_that_is_not_flushed(void **state)
{
    (void)state;
    cut_all(true);
}

/* The check is worth something only if it finds a store that acknowledges before the flush. */
static void a_disk_that_lies_is_found_out(void **state)
{
    int lost = 0;
    bool intact;

    (void)state;
    faults.lying = true;
    for (int n = 20; n < 40; n++) {
        (void)cut_power(n, true, &intact);
        lost += !intact;
    }
    faults.lying = false;
    assert_true(lost > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_moment),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(power_cuts_that_lose_all_that_is_not_flushed),
        cmocka_unit_test(a_disk_that_lies_is_found_out),
        cmocka_unit_test(failing_writes),
        cmocka_unit_test(full_disk_for_a_moment),
        cmocka_unit_test(full_disk_that_stays),
        cmocka_unit_test(failing_flushes),
        cmocka_unit_test(flushes_that_fail_for_long),
        cmocka_unit_test(dictionaries_under_faults),
        cmocka_unit_test(health_comes_back_without_writes),
    };

    fault_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
