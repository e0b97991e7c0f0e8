#include "loop/loop.h"
#include "base/base_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char trace[256];

static void note(const char *text)
{
    size_t n = strlen(trace);

    snprintf(trace + n, sizeof trace - n, "%s", text);
}

static int fresh(void **state)
{
    (void)state;
    trace[0] = '\0';
    return 0;
}

/* Timers */

struct named_timer {
    struct loop_timer timer;
    const char *name;
    int64_t again_ns;
    struct loop_timer *stops;
};

static void timer_notes(struct loop_timer *t)
{
    struct named_timer *n = container_of(t, struct named_timer, timer);
    struct loop *l = n->timer.loop;

    assert_null(l); /* a timer that fires is stopped */
    note(n->name);
    if (n->stops)
        loop_timer_stop(n->stops);
}

static void timers_in_order(void **state)
{
    struct loop *l = loop_new_fake();
    struct named_timer a = {.name = "a"}, b = {.name = "b"}, c = {.name = "c"}, d = {.name = "d"};
    int64_t start = loop_now_ns(l), wall = loop_unix_ns(l);

    (void)state;
    loop_timer_start(l, &c.timer, SECONDS(3600), timer_notes);
    loop_timer_start(l, &a.timer, SECONDS(1), timer_notes);
    loop_timer_start(l, &b.timer, SECONDS(1), timer_notes);
    loop_timer_start(l, &d.timer, SECONDS(2), timer_notes);
    a.stops = &d.timer;
    loop_fake_advance(l, SECONDS(1) - 1);
    assert_string_equal(trace, "");
    loop_fake_advance(l, 1);
    assert_string_equal(trace, "ab"); /* same time: in the order of their start */
    assert_false(loop_timer_active(&d.timer));
    loop_timer_start(l, &a.timer, SECONDS(10), timer_notes);
    loop_timer_start(l, &a.timer, SECONDS(5000), timer_notes); /* moved */
    loop_fake_advance(l, SECONDS(4000));
    assert_string_equal(trace, "abc");
    loop_timer_start(l, &b.timer, INT64_MAX, timer_notes); /* never */
    loop_timer_start(l, &d.timer, -5, timer_notes);        /* now */
    loop_turn(l, 0);
    assert_string_equal(trace, "abcd");
    assert_true(loop_now_ns(l) - start == SECONDS(4001));
    assert_true(loop_unix_ns(l) - wall == SECONDS(4001));
    loop_free(l);
    assert_false(loop_timer_active(&a.timer));
}

static int64_t last_due;
static size_t fired;

static void timer_in_order(struct loop_timer *t)
{
    assert_true(t->due_ns >= last_due);
    last_due = t->due_ns;
    fired++;
}

static void heap_of_many(void **state)
{
    enum { N = 2000 };
    static struct loop_timer timers[N];
    struct loop *l = loop_new_fake();
    uint32_t random = 1;
    size_t stopped = 0;

    (void)state;
    last_due = 0;
    fired = 0;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < N; i++) {
            random = random * 1664525 + 1013904223;
            if (round == 1 && random >> 30 == 0)
                loop_timer_stop(&timers[i]);
            else if (round != 2)
                loop_timer_start(l, &timers[i], random >> 8, timer_in_order);
        }
    for (size_t i = 0; i < N; i++)
        stopped += !loop_timer_active(&timers[i]);
    loop_fake_advance(l, SECONDS(1));
    assert_true(stopped > 100);
    assert_int_equal(fired + stopped, N);
    loop_free(l);
}

static void timer_restarts(struct loop_timer *t)
{
    struct named_timer *n = container_of(t, struct named_timer, timer);

    note(n->name);
    if (strlen(trace) < 5)
        loop_timer_start((struct loop *)(uintptr_t)n->again_ns, t, 0, timer_restarts);
}

static void restarting_timer_starves_nobody(void **state)
{
    struct loop *l = loop_new(NULL);
    struct named_timer a = {.name = "a", .again_ns = (int64_t)(uintptr_t)l};

    (void)state;
    loop_timer_start(l, &a.timer, 0, timer_restarts);
    assert_true(loop_turn(l, 0));
    assert_string_equal(trace, "a");
    while (loop_turn(l, 0))
        ;
    assert_string_equal(trace, "aaaaa");
    loop_free(l);
}

static void real_clock_waits(void **state)
{
    struct loop *l = loop_new(NULL);
    struct named_timer a = {.name = "a"};
    int64_t start = loop_now_ns(l);

    (void)state;
    loop_timer_start(l, &a.timer, MILLIS(20), timer_notes);
    while (trace[0] == '\0')
        loop_turn(l, -1);
    assert_true(loop_now_ns(l) - start >= MILLIS(20));
    assert_true(loop_unix_ns(l) > SECONDS(1700000000));
    loop_free(l);
}

/* Descriptors */

struct pair {
    struct loop_io a, b;
    int fds[2][2];
};

static struct pair *the_pair;

static void first_stops_both(struct loop_io *io, uint32_t events)
{
    assert_int_equal(events, EPOLLIN);
    note(io == &the_pair->a ? "a" : "b");
    loop_io_stop(&the_pair->a);
    loop_io_stop(&the_pair->b);
}

static void readable_note(struct loop_io *io, uint32_t events)
{
    char c[2] = "";

    if (events & EPOLLIN && read(io->fd, c, 1) == 1)
        note(c);
    if (events & EPOLLHUP)
        note("!");
}

static void pair_open(struct pair *p)
{
    for (int i = 0; i < 2; i++)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p->fds[i]), 0);
    the_pair = p;
}

static void pair_close(struct pair *p)
{
    for (int i = 0; i < 4; i++)
        if (p->fds[i / 2][i % 2] >= 0)
            close(p->fds[i / 2][i % 2]);
}

static void stopped_source_is_not_called(void **state)
{
    struct loop *l = loop_new(NULL);
    struct pair p = {0};

    (void)state;
    pair_open(&p);
    loop_io_start(l, &p.a, p.fds[0][0], EPOLLIN, first_stops_both);
    loop_io_start(l, &p.b, p.fds[1][0], EPOLLIN, first_stops_both);
    assert_int_equal(write(p.fds[0][1], "x", 1), 1);
    assert_int_equal(write(p.fds[1][1], "x", 1), 1);
    assert_true(loop_turn(l, 0));
    assert_int_equal(strlen(trace), 1);
    assert_false(loop_turn(l, 0));
    loop_free(l);
    pair_close(&p);
}

static void restart_other(struct loop_io *io, uint32_t events)
{
    struct loop_io *other = io == &the_pair->a ? &the_pair->b : &the_pair->a;

    (void)events;
    note("r");
    loop_io_start(io->loop, other, other->fd, EPOLLIN, readable_note);
    loop_io_stop(io);
}

static void restarted_source_misses_the_old_event(void **state)
{
    struct loop *l = loop_new(NULL);
    struct pair p = {0};

    (void)state;
    pair_open(&p);
    loop_io_start(l, &p.a, p.fds[0][0], EPOLLIN, restart_other);
    loop_io_start(l, &p.b, p.fds[1][0], EPOLLIN, restart_other);
    assert_int_equal(write(p.fds[0][1], "x", 1), 1);
    assert_int_equal(write(p.fds[1][1], "x", 1), 1);
    loop_turn(l, 0);
    assert_string_equal(trace, "r");
    loop_turn(l, 0);
    assert_string_equal(trace, "rx");
    loop_free(l); /* lets the started one go */
    assert_null(p.a.loop);
    assert_null(p.b.loop);
    pair_close(&p);
}

static void nested(struct loop_io *io, uint32_t events)
{
    struct loop *l = io->loop;

    (void)events;
    note("[");
    loop_io_stop(io);
    loop_turn(l, 0);
    note("]");
}

static void nested_turns(void **state)
{
    struct loop *l = loop_new(NULL);
    struct pair p = {0};

    (void)state;
    pair_open(&p);
    loop_io_start(l, &p.a, p.fds[0][0], EPOLLIN, nested);
    loop_io_start(l, &p.b, p.fds[1][0], EPOLLIN, nested);
    assert_int_equal(write(p.fds[0][1], "x", 1), 1);
    assert_int_equal(write(p.fds[1][1], "x", 1), 1);
    assert_true(loop_turn(l, 0));
    assert_string_equal(trace, "[[]]");
    loop_free(l);
    pair_close(&p);
}

static void paused_source_hears_nothing(void **state)
{
    struct loop *l = loop_new(NULL);
    struct pair p = {0};

    (void)state;
    pair_open(&p);
    loop_io_start(l, &p.a, p.fds[0][0], 0, readable_note);
    assert_int_equal(write(p.fds[0][1], "x", 1), 1);
    close(p.fds[0][1]);
    p.fds[0][1] = -1;
    assert_false(loop_turn(l, 0));
    loop_io_events(&p.a, EPOLLIN);
    loop_turn(l, 0);
    assert_string_equal(trace, "x!");
    loop_io_events(&p.a, 0);
    assert_false(loop_turn(l, 0));
    loop_io_events(&p.a, EPOLLOUT); /* EPOLLHUP comes unasked */
    loop_turn(l, 0);
    assert_string_equal(trace, "x!!");
    loop_io_stop(&p.a);
    loop_io_stop(&p.a);
    loop_free(l);
    pair_close(&p);
}

static void regular_file_is_always_ready(void **state)
{
    struct loop *l = loop_new(NULL);
    struct loop_io io = {0};
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    (void)state;
    loop_io_start(l, &io, file, EPOLLIN, readable_note);
    assert_true(loop_turn(l, -1));
    assert_true(loop_turn(l, -1));
    assert_memory_equal(trace, "\x7f" "E", 2);
    loop_io_events(&io, 0);
    assert_false(loop_turn(l, 0));
    loop_io_stop(&io);
    assert_false(loop_turn(l, 0));
    loop_free(l);
    close(file);
}

/* Deferred calls, posts, signals */

struct named_defer {
    struct loop_defer defer;
    const char *name;
    struct named_defer *next, *cancels;
    struct loop *loop;
};

static void defer_notes(struct loop_defer *d)
{
    struct named_defer *n = container_of(d, struct named_defer, defer);

    note(n->name);
    if (n->next)
        loop_defer(n->loop, &n->next->defer, defer_notes);
    if (n->cancels)
        loop_defer_cancel(&n->cancels->defer);
}

static void deferred_calls(void **state)
{
    struct loop *l = loop_new(NULL);
    struct named_defer b = {.name = "b", .loop = l}, c = {.name = "c", .loop = l},
                       a = {.name = "a", .loop = l, .next = &c, .cancels = &b}, d = {.name = "d", .loop = l};

    (void)state;
    loop_defer(l, &a.defer, defer_notes);
    loop_defer(l, &a.defer, defer_notes);
    loop_defer(l, &b.defer, defer_notes);
    loop_defer(l, &d.defer, defer_notes);
    assert_true(loop_turn(l, -1));
    assert_string_equal(trace, "ad");
    assert_true(loop_turn(l, -1));
    assert_string_equal(trace, "adc");
    assert_false(loop_turn(l, 0));
    loop_defer(l, &b.defer, defer_notes);
    loop_free(l);
    assert_string_equal(trace, "adcb");
}

struct long_work {
    struct loop_defer share;
    struct loop *loop;
    const char *name;
    int left;
};

/* Each piece takes longer than its part of a turn. */
static void work_some(struct loop_defer *d)
{
    struct long_work *w = container_of(d, struct long_work, share);
    int64_t begun = loop_now_ns(w->loop);

    note(w->name);
    while (loop_now_ns(w->loop) - begun < MILLIS(5))
        ;
    if (--w->left > 0)
        loop_share(w->loop, &w->share, work_some);
}

static void long_work_takes_turns(void **state)
{
    struct loop *l = loop_new(NULL);
    struct long_work a = {.loop = l, .name = "a", .left = 3}, b = {.loop = l, .name = "b", .left = 2},
                     c = {.loop = l, .name = "c", .left = 1};
    struct named_defer soon = {.name = "!", .loop = l};

    (void)state;
    loop_share(l, &a.share, work_some);
    loop_share(l, &b.share, work_some);
    loop_share(l, &b.share, work_some);
    loop_share(l, &c.share, work_some);
    assert_true(loop_turn(l, -1));
    assert_string_equal(trace, "a"); /* the rest waits for the loop to look at others */
    loop_defer(l, &soon.defer, defer_notes);
    assert_true(loop_turn(l, -1));
    assert_string_equal(trace, "a!b");
    for (int i = 0; i < 4; i++)
        assert_true(loop_turn(l, -1));
    assert_string_equal(trace, "a!bcaba");
    assert_false(loop_turn(l, 0));
    loop_free(l);
}

static int posted, dropped;

static void on_post(void *arg)
{
    assert_ptr_equal(arg, &posted);
    posted++;
}

static void on_drop(void *arg)
{
    (void)arg;
    dropped++;
}

static void on_quit(void *arg)
{
    loop_quit(arg);
}

static void *poster(void *arg)
{
    for (int i = 0; i < 1000; i++)
        loop_post(arg, on_post, NULL, &posted);
    loop_post(arg, on_quit, NULL, arg);
    return NULL;
}

static void posts(void **state)
{
    struct loop *l = loop_new(NULL);
    pthread_t thread;

    (void)state;
    posted = dropped = 0;
    assert_int_equal(pthread_create(&thread, NULL, poster, l), 0);
    loop_run(l);
    pthread_join(thread, NULL);
    assert_int_equal(posted, 1000);
    loop_post(l, on_post, on_drop, &posted);
    loop_post(l, on_post, NULL, &posted);
    loop_free(l);
    assert_int_equal(posted, 1000);
    assert_int_equal(dropped, 1);
    loop_free(NULL);
}

static void quit_before_run(void **state)
{
    struct loop *l = loop_new(NULL);

    (void)state;
    loop_quit(l);
    loop_run(l);
    loop_free(l);
}

static void on_signal(struct loop_signal *s)
{
    note(s->signo == SIGUSR1 ? "1" : "?");
    loop_signal_stop(s);
}

static void signals(void **state)
{
    struct loop *l = loop_new(NULL);
    struct loop_signal s = {0};
    struct error err = {0};

    (void)state;
    loop_signal_stop(&s);
    assert_true(loop_signal_start(l, &s, SIGUSR1, on_signal, &err));
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_true(loop_turn(l, SECONDS(5)));
    assert_string_equal(trace, "1");
    assert_int_equal(kill(getpid(), SIGUSR1), 0); /* stays blocked */
    assert_false(loop_turn(l, 0));
    loop_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(timers_in_order, fresh),
        cmocka_unit_test_setup(heap_of_many, fresh),
        cmocka_unit_test_setup(restarting_timer_starves_nobody, fresh),
        cmocka_unit_test_setup(real_clock_waits, fresh),
        cmocka_unit_test_setup(stopped_source_is_not_called, fresh),
        cmocka_unit_test_setup(restarted_source_misses_the_old_event, fresh),
        cmocka_unit_test_setup(nested_turns, fresh),
        cmocka_unit_test_setup(paused_source_hears_nothing, fresh),
        cmocka_unit_test_setup(regular_file_is_always_ready, fresh),
        cmocka_unit_test_setup(deferred_calls, fresh),
        cmocka_unit_test_setup(long_work_takes_turns, fresh),
        cmocka_unit_test_setup(posts, fresh),
        cmocka_unit_test_setup(quit_before_run, fresh),
        cmocka_unit_test_setup(signals, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
