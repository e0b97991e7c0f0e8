/* What a node finds out about programs that lie, hang, change and vanish: scripts in a directory of their own, and a fake clock for
 * what is tried again later. */
#include "json/json_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "loop/child.h"
#include "vmm/host.h"

static int64_t patience = SECONDS(20); /* short where a program is to hang */

static bool ask_version(const char *program, struct vmm_version *ret, struct error *err)
{
    const char *const argv[] = {program, "--version", NULL};
    AUTO(buf_done) struct buf out = {0};
    struct str line, rest;

    if (!child_run(&(struct child_spec){.argv = argv, .capture_limit = 4096, .cgroup_fd = -1}, patience, &out, err))
        return false;
    str_cut(buf_str(&out), '\n', &line, &rest);
    return vmm_version_parse(line, ret, err);
}

static bool probe_emulator(struct vmm_version *ret, struct error *err)
{
    ret->kvm = ret->tcg = true;
    return ask_version("qemu-system-x86_64", ret, err);
}

static bool probe_firecracker(struct vmm_version *ret, struct error *err)
{
    ret->kvm = true;
    return ask_version("firecracker", ret, err);
}

static bool probe_built_in(struct vmm_version *ret, struct error *err)
{
    ret->tcg = true;
    return vmm_version_parse(STR("fake v1.0"), ret, err);
}

static bool probe_player(struct vmm_version *ret, struct error *err)
{
    return vmm_version_parse(STR("player 1.0"), ret, err);
}

static const struct vmm_driver emulator = {.name = "qemu", .program = "qemu-system-x86_64", .probe = probe_emulator};
static const struct vmm_driver small = {.name = "firecracker", .probe = probe_firecracker};
static const struct vmm_driver built_in = {.name = "fake", .program = "", .probe = probe_built_in};
static const struct vmm_driver player = {.name = "player", .program = "", .probe = probe_player, .plays = "Nothing runs."};
static const struct vmm_driver *const drivers[] = {&emulator, &small, &built_in, &player, NULL};

struct world {
    struct loop *loop;
    struct host *host;
    char dir[32], path[64], sees[64];
    int dirfd;
    int found, settled;
    struct host_options o;
};
static struct world w;

static void on_found(void *user)
{
    (void)user;
    w.found++;
}

static void on_settled(void *user)
{
    (void)user;
    w.settled++;
}

static void program(const char *name, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *path = xasprintf("bin/%s", name);

    assert_true(file_write(w.dirfd, path, str_of(text), 0755, &err));
    assert_int_equal(fchmodat(w.dirfd, path, 0755, 0), 0);
}

static void says(const char *name, const char *line)
{
    AUTO_FREE char *text = xasprintf("#!/bin/sh\necho asked >> %s/asked-%s 2>/dev/null\necho '%s'\n", w.dir, name, line);

    program(name, text);
}

/* Real time passes for the programs, and none on the clock. */
static void wait_for_all(void)
{
    for (int i = 0; i < 2000 && w.host->running; i++)
        loop_turn(w.loop, MILLIS(10));
    assert_int_equal(w.host->running, 0);
    while (loop_turn(w.loop, 0))
        ;
}

static void make_host(void)
{
    w.found = w.settled = 0;
    w.host = host_new(w.loop, &w.o, on_found, on_settled, NULL);
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

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/host-test-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    assert_int_equal(chmod(w.dir, 0755), 0);
    w.dirfd = open(w.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(w.dirfd, "bin", 0755), 0);
    snprintf(w.path, sizeof w.path, "%s/bin:/usr/bin:/bin", w.dir);
    snprintf(w.sees, sizeof w.sees, "%s/", w.dir);
    w.loop = loop_new_fake();
    w.o = (struct host_options){.path = w.path, .sees = w.sees, .kvm = "/nonexistent/kvm", .mshv = "/nonexistent/mshv", .kernel = "6.1",
                                .boot_id = "b1", .drivers = drivers, .dirfd = w.dirfd};
    says("qemu-system-x86_64", "QEMU emulator version 8.2.1 (x)");
    make_host();
    return 0;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    host_free(w.host);
    no_children(w.loop);
    loop_free(w.loop);
    fd_close(&w.dirfd);
    assert_true(file_remove_tree(AT_FDCWD, w.dir, &err));
    return 0;
}

static struct host_verdict verdict(const char *name, struct str allowed)
{
    struct host_verdict v;

    host_judge(w.host, host_vmm(w.host, str_of(name)), allowed, &v);
    return v;
}

static void expect(const char *name, enum host_state state, const char *reason)
{
    struct host_verdict v = verdict(name, STR_NONE);

    if (v.state != state || !strstr(v.reason, reason))
        fail_msg("%s is %s (%s), not %s (%s)", name, host_state_name(v.state), v.reason, host_state_name(state), reason);
    assert_true((v.reason[0] != 0) == (state != HOST_USABLE)); /* whoever is refused is told why */
}

static void an_emulator_and_nothing_else(void **state)
{
    struct host_verdict v;

    (void)state;
    expect("qemu", HOST_UNKNOWN, "being found out");
    assert_true(host_check(w.host));
    wait_for_all();
    expect("qemu", HOST_USABLE, "");
    v = verdict("qemu", STR_NONE);
    assert_true(v.tcg && !v.kvm && !v.mshv);
    expect("firecracker", HOST_ABSENT, "the program firecracker is not installed");
    expect("fake", HOST_USABLE, "");
    assert_true(w.found >= 1);
    assert_int_equal(w.settled, 1);
}

/* What only plays machines is offered when asked for, says so, and is no emulator. */
static void a_player_is_offered_on_demand(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *found = NULL;
    char reason[256];

    (void)state;
    assert_null(host_vmm(w.host, STR("player")));
    host_free(w.host);
    assert_int_equal(unlinkat(w.dirfd, "bin/qemu-system-x86_64", 0), 0);
    w.o.drivers = (const struct vmm_driver *const[]){&player, NULL};
    w.o.on_demand = "other,player";
    make_host();
    host_check(w.host);
    wait_for_all();
    expect("player", HOST_USABLE, "");
    assert_int_equal(host_tcg(w.host, reason, sizeof reason), PROBE_ABSENT);
    json_each_item(v, json_get(host_report(w.host, STR_NONE, STR_NONE, &a), "vmms"))
        found = v;
    assert_true(str_is(json_str_at(found, "reason"), "Nothing runs."));
    assert_true(json_bool_at(found, "usable", false));
}

static void what_programs_do(void **state)
{
    static const struct {
        const char *what, *script;
        enum host_state state;
        const char *reason;
    } table[] = {
        {"says a version, without KVM", "#!/bin/sh\necho Firecracker v1.16.1\n", HOST_UNACCELERATED,
         "firecracker needs KVM, which does not work here: /nonexistent/kvm is not there"},
        {"an old one", "#!/bin/sh\necho Firecracker v0.25.2\n", HOST_OLD, "is version 0.25, and firecracker needs 1.7 or newer"},
        {"garbage", "#!/bin/sh\nhead -c 3000 /dev/zero | tr '\\0' '\\377'\n", HOST_BROKEN, "tells no version"},
        {"says nothing", "#!/bin/sh\nexit 0\n", HOST_BROKEN, "tells no version"},
        {"fails", "#!/bin/sh\necho no such option >&2\nexit 2\n", HOST_BROKEN, "no such option"},
        {"is killed", "#!/bin/sh\nkill -9 $$\n", HOST_BROKEN, "signal 9"},
        {"no program", "\177ELF, but not really", HOST_BROKEN, "firecracker"},
        {"hangs", "#!/bin/sh\nsleep 100\n", HOST_INCONCLUSIVE, "does not answer"},
        {"hangs with children", "#!/bin/sh\n(sleep 100 & sleep 100) & sleep 100\n", HOST_INCONCLUSIVE, "does not answer"},
        {"talks without end", "#!/bin/sh\nwhile :; do echo 1.2.3; done\n", HOST_INCONCLUSIVE, "does not answer"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        patience = table[i].state == HOST_INCONCLUSIVE ? MILLIS(300) : SECONDS(20);
        print_message("%s\n", table[i].what);
        program("firecracker", table[i].script);
        host_check(w.host);
        expect("firecracker", HOST_UNKNOWN, "");
        wait_for_all();
        expect("firecracker", table[i].state, table[i].reason);
        expect("qemu", HOST_USABLE, ""); /* no other's verdict suffers */
    }
    patience = SECONDS(20);
}

static void what_lies_in_its_place(void **state)
{
    (void)state;
    assert_int_equal(mkdirat(w.dirfd, "bin/firecracker", 0755), 0);
    host_check(w.host);
    wait_for_all();
    expect("firecracker", HOST_BROKEN, "is a directory");
    assert_int_equal(unlinkat(w.dirfd, "bin/firecracker", AT_REMOVEDIR), 0);
    says("firecracker", "Firecracker v1.16.1");
    assert_int_equal(fchmodat(w.dirfd, "bin/firecracker", 0750, 0), 0);
    host_check(w.host);
    wait_for_all();
    expect("firecracker", HOST_DENIED, "chmod 755");
    assert_int_equal(unlinkat(w.dirfd, "bin/firecracker", 0), 0);
    assert_int_equal(symlinkat("/bin/true", w.dirfd, "bin/firecracker"), 0); /* a link that leads out of what a sandbox sees */
    host_check(w.host);
    wait_for_all();
    expect("firecracker", HOST_DENIED, "lies outside of");
}

static unsigned times_asked(const char *name)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *path = xasprintf("asked-%s", name);
    unsigned n = 0;

    if (!file_read(w.dirfd, path, &b, &err))
        return 0;
    for (size_t i = 0; i < b.n; i++)
        n += b.p[i] == '\n';
    return n;
}

/* Nothing runs while nothing changes; what changes is asked again, and nobody else. */
static void an_idle_node_stays_idle(void **state)
{
    int settled;

    (void)state;
    says("firecracker", "Firecracker v1.16.1");
    host_check(w.host);
    wait_for_all();
    assert_int_equal(times_asked("firecracker"), 1);
    settled = w.settled;
    for (int i = 0; i < 200; i++) {
        loop_fake_advance(w.loop, SECONDS(60));
        assert_false(host_check(w.host));
    }
    assert_int_equal(times_asked("firecracker"), 1);
    assert_int_equal(w.settled, settled);

    says("firecracker", "Firecracker v1.17.0"); /* an upgrade */
    assert_true(host_check(w.host));
    expect("firecracker", HOST_UNKNOWN, "");
    expect("qemu", HOST_USABLE, "");
    wait_for_all();
    assert_int_equal(host_vmm(w.host, STR("firecracker"))->version.minor, 17);
    assert_int_equal(times_asked("qemu-system-x86_64"), 1);

    assert_int_equal(unlinkat(w.dirfd, "bin/firecracker", 0), 0);
    host_check(w.host);
    wait_for_all();
    expect("firecracker", HOST_ABSENT, "");
}

static void on_demand_all_are_asked_again(void **state)
{
    (void)state;
    host_check(w.host);
    wait_for_all();
    host_probe(w.host);
    host_probe(w.host); /* while that runs: once more behind it, not a third time */
    host_probe(w.host);
    expect("qemu", HOST_USABLE, ""); /* nothing has changed: the old verdict holds until there is a new one */
    wait_for_all();
    assert_int_equal(times_asked("qemu-system-x86_64"), 3);
}

/* What hangs is asked again, ever later. */
static void what_hangs_is_asked_again_later(void **state)
{
    unsigned tries = 0;

    (void)state;
    host_check(w.host);
    wait_for_all();
    patience = MILLIS(300);
    program("firecracker", "#!/bin/sh\nsleep 100\n");
    host_check(w.host);
    wait_for_all();
    for (int minute = 0; minute < 8; minute++) {
        loop_fake_advance(w.loop, SECONDS(60));
        if (host_check(w.host)) {
            tries++;
            wait_for_all();
        }
    }
    patience = SECONDS(20);
    assert_in_range(tries, 2, 4);
    expect("firecracker", HOST_INCONCLUSIVE, "");
}

static void a_program_that_changes_while_it_is_asked(void **state)
{
    (void)state;
    program("firecracker", "#!/bin/sh\nsleep 0.3\necho Firecracker v1.1.1\n");
    host_check(w.host);
    loop_turn(w.loop, MILLIS(10));
    says("firecracker", "Firecracker v2.2.2");
    host_check(w.host);
    wait_for_all();
    assert_int_equal(host_vmm(w.host, STR("firecracker"))->version.major, 2);
}

/* /dev/kvm that comes later is noticed by stat alone. (No KVM: a device that is none of it.) */
static void kvm_appears(void **state)
{
    AUTO_FREE char *kvm = xasprintf("%s/kvm", w.dir);

    (void)state;
    host_free(w.host);
    w.o.kvm = kvm;
    make_host();
    host_check(w.host);
    wait_for_all();
    assert_int_equal(w.host->kvm.r.verdict, PROBE_ABSENT);
    assert_int_equal(symlinkat("/dev/null", w.dirfd, "kvm"), 0);
    assert_true(host_check(w.host));
    wait_for_all();
    assert_int_equal(w.host->kvm.r.verdict, PROBE_BROKEN);
    assert_int_equal(unlinkat(w.dirfd, "kvm", 0), 0);
    host_check(w.host);
    wait_for_all();
    assert_int_equal(w.host->kvm.r.verdict, PROBE_ABSENT);
}

static void one_that_hangs_does_not_hold_up_what_is_known(void **state)
{
    (void)state;
    program("firecracker", "#!/bin/sh\nsleep 100\n");
    host_check(w.host);
    for (int i = 0; i < 400 && !host_vmm(w.host, STR("qemu"))->s.known; i++)
        loop_turn(w.loop, MILLIS(1));
    assert_int_equal(w.settled, 0);
    loop_fake_advance(w.loop, SECONDS(2));
    assert_int_equal(w.settled, 1);
    expect("qemu", HOST_USABLE, "");
    expect("firecracker", HOST_UNKNOWN, "");
}

/* The next start takes what is written down, unless the machine is another: kernel, boot, program. */
static void verdicts_outlive_a_restart(void **state)
{
    static const struct {
        const char *kernel, *boot;
        bool known;
    } table[] = {{"6.1", "b1", true}, {"6.2", "b1", false}, {"6.1", "b2", false}};

    (void)state;
    host_check(w.host);
    wait_for_all();
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        host_free(w.host);
        w.o.kernel = table[i].kernel;
        w.o.boot_id = table[i].boot;
        make_host();
        assert_int_equal(host_check(w.host), !table[i].known);
        if (table[i].known) {
            expect("qemu", HOST_USABLE, "");
            assert_string_equal(host_vmm(w.host, STR("qemu"))->version.text, "QEMU emulator version 8.2.1 (x)");
            assert_int_equal(times_asked("qemu-system-x86_64"), 1);
        }
    }
    host_free(w.host);
    w.o.kernel = "6.1";
    w.o.boot_id = "b1";
    says("qemu-system-x86_64", "QEMU emulator version 9.0.0");
    make_host();
    assert_true(host_check(w.host));
}

static void a_damaged_file_is_as_none(void **state)
{
    static const char *const texts[] = {
        "", "{", "[]", "{\"version\":1}",
        "{\"version\":1,\"vireo\":\"" VIREO_VERSION "\",\"kernel\":\"6.1\",\"bootID\":\"b1\",\"kvm\":7,\"mshv\":{\"key\":1},\"vmms\":[{},7,"
        "{\"name\":\"qemu\"},{\"name\":\"qemu\",\"verdict\":\"splendid\",\"key\":\"x\"}]}",
    };
    AUTO(error_clear) struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        host_free(w.host);
        assert_true(file_write(w.dirfd, HOST_FILE, str_of(texts[i]), 0600, &err));
        make_host();
        assert_true(host_check(w.host));
        wait_for_all();
        expect("qemu", HOST_USABLE, "");
    }
}

static void the_administrator_limits(void **state)
{
    struct host_verdict v;

    (void)state;
    host_check(w.host);
    wait_for_all();
    assert_int_equal(verdict("qemu", STR("fake, qemu")).state, HOST_USABLE);
    v = verdict("qemu", STR("firecracker"));
    assert_int_equal(v.state, HOST_WITHHELD);
    assert_non_null(strstr(v.reason, "vireo.io/hypervisors (\"firecracker\") leaves qemu out"));
    assert_int_equal(verdict("qemu", STR("")).state, HOST_WITHHELD);
}

static void the_report(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *r, *vmm;

    (void)state;
    program("firecracker", "#!/bin/sh\necho Firecracker v1.16.1\n");
    host_check(w.host);
    wait_for_all();
    r = host_report(w.host, STR("qemu,firecracker"), STR("now"), &a);
    assert_string_equal(arena_strdup(&a, json_str_at(r, "requested")), "now");
    assert_string_equal(arena_strdup(&a, json_str_at(r, "accelerators/0/verdict")), "absent");
    assert_string_equal(arena_strdup(&a, json_str_at(r, "accelerators/2/verdict")), "works");
    vmm = json_at(r, "vmms/0");
    assert_true(json_bool_at(vmm, "usable", false));
    assert_string_equal(arena_strdup(&a, json_str_at(vmm, "version")), "8.2.1");
    assert_string_equal(arena_strdup(&a, json_str_at(vmm, "accelerators/0")), "tcg");
    assert_string_equal(arena_strdup(&a, json_str_at(vmm, "builtWith/0")), "kvm");
    assert_string_equal(arena_strdup(&a, json_str_at(json_at(r, "vmms/1"), "state")), "no-accelerator");
    assert_string_equal(arena_strdup(&a, json_str_at(json_at(r, "vmms/2"), "state")), "withheld");
    assert_false(json_bool_at(json_at(r, "vmms/2"), "usable", true));
}

/* A host that goes while all is under way: the sanitizer looks on. */
static void it_goes_while_it_asks(void **state)
{
    (void)state;
    program("firecracker", "#!/bin/sh\nsleep 100\n");
    host_check(w.host);
    host_free(w.host);
    make_host();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_emulator_and_nothing_else), T(a_player_is_offered_on_demand), T(what_programs_do), T(what_lies_in_its_place), T(an_idle_node_stays_idle),
        T(on_demand_all_are_asked_again), T(what_hangs_is_asked_again_later), T(a_program_that_changes_while_it_is_asked),
        T(kvm_appears), T(one_that_hangs_does_not_hold_up_what_is_known), T(verdicts_outlive_a_restart),
        T(a_damaged_file_is_as_none), T(the_administrator_limits), T(the_report), T(it_goes_while_it_asks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
