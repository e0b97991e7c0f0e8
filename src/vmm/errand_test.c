/* What an errand's child does to us when it ends, hangs, dies, or leaves something behind. */
#include "base/base_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/errand.h"

struct answer {
    int number;
    int uid;
    int fds; /* open descriptors above the pipe's */
    int child;
};

static void count(const void *arg, void *result)
{
    struct answer *a = result;

    a->number = *(const int *)arg + 1;
    a->uid = (int)getuid();
    for (int fd = 4; fd < 64; fd++)
        a->fds += fcntl(fd, F_GETFD) >= 0;
}

static void hang(const void *arg, void *result)
{
    (void)arg;
    (void)result;
    for (;;)
        pause();
}

static void die(const void *arg, void *result)
{
    (void)arg;
    (void)result;
    _exit(7);
}

static void half(const void *arg, void *result)
{
    (void)arg;
    (void)result;
    if (write(3, "x", 1) == 1)
        _exit(0);
}

/* A grandchild that would outlive everything, in a process group of its own. */
static void leave(const void *arg, void *result)
{
    struct answer *a = result;

    a->child = fork();
    if (a->child == 0) {
        setpgid(0, 0);
        close(3);
        hang(arg, result);
    }
    if (*(const int *)arg)
        hang(arg, result);
}

static const struct row {
    const char *name;
    void (*run)(const void *arg, void *result);
    bool isolate;
    enum errand_end end;
} rows[] = {
    {"an answer", count, false, ERRAND_DONE},
    {"an answer, isolated", count, true, ERRAND_DONE},
    {"a hung one", hang, false, ERRAND_SILENT},
    {"a hung one, isolated", hang, true, ERRAND_SILENT},
    {"a dead one", die, false, ERRAND_DIED},
    {"a dead one, isolated", die, true, ERRAND_DIED},
    {"half an answer", half, false, ERRAND_DIED},
    {"half an answer, isolated", half, true, ERRAND_DIED},
};
static const int one = 1, none = 0;

static struct errand_spec spec_of(const struct row *r)
{
    return (struct errand_spec){.run = r->run,
                                .arg = &one,
                                .result_size = sizeof(struct answer),
                                .limit_ns = MILLIS(r->end == ERRAND_SILENT ? 200 : 20000),
                                .isolate = r->isolate,
                                .uid = 65534};
}

static void check(const struct row *r, enum errand_end end, const struct answer *a)
{
    if (end != r->end)
        fail_msg("%s: %d, not %d", r->name, (int)end, (int)r->end);
    if (end != ERRAND_DONE)
        return;
    assert_int_equal(a->number, 2);
    assert_int_equal(a->fds, 0);
    assert_int_equal(a->uid, r->isolate && getuid() == 0 ? 65534 : (int)getuid());
}

static void blocking(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct errand_spec s = spec_of(&rows[i]);
        struct answer a = {0};

        check(&rows[i], errand_run(&s, &a, NULL), &a);
    }
}

struct heard {
    const struct row *row;
    int n;
};

static void on_done(void *user, enum errand_end end, const void *result, int64_t cpu_ms)
{
    struct heard *h = user;

    assert_true(cpu_ms >= 0);
    assert_true((result != NULL) == (end == ERRAND_DONE));
    h->n++;
    if (h->row)
        check(h->row, end, result);
}

/* Children that were killed are waited for by the loop, which takes as long as the machine is busy. */
static void no_children(struct loop *l)
{
    siginfo_t info;

    for (int i = 0; i < 1000 && waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0; i++)
        loop_turn(l, MILLIS(10));
    while (loop_turn(l, 0))
        ;
}

static void on_the_loop(void **state)
{
    struct loop *l = loop_new(NULL);
    struct heard h[ARRAY_SIZE(rows)] = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) { /* all at once */
        struct errand_spec s = spec_of(&rows[i]);

        h[i].row = &rows[i];
        errand_start(l, &s, on_done, &h[i]);
        assert_int_equal(h[i].n, 0);
    }
    no_children(l);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(h[i].n, 1);
    no_children(l);
    loop_free(l);
}

static void cancelled(void **state)
{
    struct loop *l = loop_new(NULL);
    struct heard h = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct errand_spec s = spec_of(&rows[i]);

        errand_cancel(errand_start(l, &s, on_done, &h));
    }
    errand_cancel(NULL);
    no_children(l);
    assert_int_equal(h.n, 0);
    loop_free(l);
}

/* Only a pid namespace gets hold of what has left the group: that takes root. */
static void nothing_is_left(void **state)
{
    (void)state;
    if (getuid() != 0) {
        print_message("not root\n");
        skip();
    }
    for (int hangs = 0; hangs <= 1; hangs++) {
        struct errand_spec s = {.run = leave,
                                .arg = hangs ? &one : &none,
                                .result_size = sizeof(struct answer),
                                .limit_ns = MILLIS(hangs ? 200 : 20000),
                                .isolate = true,
                                .uid = 65534};
        struct answer a = {0};
        char name[] = "errand-test-left";

        /* The grandchild has our name: it is found by what only it and its kin hold open. */
        AUTO_CLOSE int fd = open("/proc/self/comm", O_RDWR | O_CLOEXEC);
        assert_true(write(fd, name, sizeof name - 2) > 0);
        assert_int_equal(errand_run(&s, &a, NULL), hangs ? ERRAND_SILENT : ERRAND_DONE);
        for (int i = 0; i < 100; i++) {
            int n = 0;
            FILE *f = popen("grep -l errand-test-lef /proc/[0-9]*/comm 2>/dev/null | wc -l", "r");

            assert_non_null(f);
            assert_int_equal(fscanf(f, "%d", &n), 1);
            pclose(f);
            if (n <= 1)
                break;
            assert_true(i < 99);
            usleep(20000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocking),
        cmocka_unit_test(on_the_loop),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(nothing_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
