#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/probe.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void what_is_no_kvm(void **state)
{
    static const struct {
        const char *path;
        enum probe_verdict verdict;
    } table[] = {
        {"/nonexistent/kvm", PROBE_ABSENT},
        {"/dev/null", PROBE_BROKEN},       /* a device that knows no KVM */
        {"/proc/self/comm", PROBE_BROKEN}, /* no device */
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct probe_result r;

        probe_kvm_now(table[i].path, &r);
        assert_int_equal(r.verdict, table[i].verdict);
        assert_true(r.reason[0]);
    }
}

/* Whatever this machine has: a verdict with a reason comes, and "works" only with a measured speed. */
static void this_machine(void **state)
{
    struct probe_result r;

    (void)state;
    probe_kvm_now(NULL, &r);
    print_message("%s: %s\n", probe_verdict_name(r.verdict), r.reason);
    assert_true(r.reason[0]);
    if (r.verdict == PROBE_WORKS)
        assert_true(r.ns_per_iteration > 0 && r.ns_per_iteration < 50);
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

static void note(void *user, const struct probe_result *r)
{
    *(enum probe_verdict *)user = r->verdict;
}

static void on_the_loop(void **state)
{
    struct loop *l = loop_new(NULL);
    enum probe_verdict v = PROBE_WORKS;

    (void)state;
    probe_kvm(l, "/nonexistent/kvm", note, &v);
    for (int i = 0; i < 100 && v == PROBE_WORKS; i++)
        loop_turn(l, MILLIS(50));
    assert_int_equal(v, PROBE_ABSENT);
    no_children(l);
    loop_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_kvm),
        cmocka_unit_test(this_machine),
        cmocka_unit_test(on_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
