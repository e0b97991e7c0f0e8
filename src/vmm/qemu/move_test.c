#include "vmm/qemu/guest_test.h"

#include <signal.h>
#include <sys/mount.h>

/* Machines that go on in another process: from a snapshot, and by live migration. The guest counts on its serial line. */
#define SPEC                                                                                                                    \
    "{\"domain\":{\"memory\":{\"guest\":\"160Mi\"},\"devices\":{\"autoattachGraphicsDevice\":false}," GUEST_FIRMWARE "}}"

static void same_machine(struct guest *g, const struct vmm_driver *d, const char *restore_dir, const char *incoming, struct error *err)
{
    AUTO_CLOSE int kernel = guest_part("vmlinuz");
    AUTO_CLOSE int initrd = guest_initrd();
    struct vmm_machine m = guest_nothing;

    m.kernel_fd = kernel;
    m.initrd_fd = initrd;
    m.restore_dir = restore_dir;
    m.incoming = incoming;
    guest_new(g, d);
    if (!guest_try(g, SPEC, &m, err))
        assert_int_not_equal(err->kind, ERROR_NONE);
}

static void snapshot_and_restore(const struct vmm_driver *d)
{
    AUTO(guest_done) struct guest g, back;
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *dir = NULL;

    guest_boot(&g, d, SPEC, &guest_nothing);
    dir = xasprintf("%s/snapshot", g.dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_false(vmm_snapshot(g.v, dir, &err)); /* it runs */
    assert_int_equal(err.kind, ERROR_CONFLICT);
    error_clear(&err);
    guest_run(&g, "n=41; mark=kept");
    assert_true(vmm_pause(g.v, &err));
    guest_await_state(&g, VMM_PAUSED, 5);
    if (!vmm_snapshot(g.v, dir, &err))
        fail_msg("%s", error_text(&err));
    assert_int_equal(vmm_status(g.v)->state, VMM_PAUSED);
    assert_false(vmm_snapshot(g.v, dir, &err)); /* a snapshot is there */
    assert_int_equal(err.kind, ERROR_EXISTS);
    error_clear(&err);
    assert_true(vmm_resume(g.v, &err)); /* the one that it was made of goes on */
    guest_await_state(&g, VMM_RUNNING, 5);
    assert_true(str_is(guest_run(&g, "echo $((n + 1))"), "42"));
    vmm_kill(g.v, true);
    guest_await_state(&g, VMM_SHUTDOWN, 10);

    same_machine(&back, d, dir, NULL, &err);
    if (err.kind)
        fail_msg("%s", error_text(&err));
    assert_int_equal(vmm_status(back.v)->state, VMM_PAUSED);
    assert_true(vmm_resume(back.v, &err));
    guest_await_state(&back, VMM_RUNNING, 5);
    assert_true(str_is(guest_run(&back, "echo $mark $((n + 1))"), "kept 42"));
}

static void q35_goes_on_from_a_snapshot(void **state)
{
    (void)state;
    snapshot_and_restore(&vmm_qemu);
}

static void microvm_goes_on_from_a_snapshot(void **state)
{
    (void)state;
    snapshot_and_restore(&vmm_qemu_microvm);
}

static void a_full_directory_leaves_the_machine_as_it_was(void **state)
{
    AUTO(guest_done) struct guest g;
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *dir = NULL, *file = NULL;
    bool ok;

    (void)state;
    guest_boot(&g, &vmm_qemu_microvm, SPEC, &guest_nothing);
    dir = xasprintf("%s/small", g.dir);
    file = xasprintf("%s/memory", dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=4m") != 0) {
        puts("skipped: no file system can be mounted here");
        skip();
    }
    assert_true(vmm_pause(g.v, &err));
    guest_await_state(&g, VMM_PAUSED, 5);
    ok = vmm_snapshot(g.v, dir, &err);
    bool left = access(file, F_OK) == 0;
    umount2(dir, MNT_DETACH);
    assert_false(ok);
    assert_false(left);
    assert_non_null(strstr(error_text(&err), "no space"));
    error_clear(&err);
    assert_true(vmm_resume(g.v, &err));
    guest_await_state(&g, VMM_RUNNING, 5);
    assert_true(str_is(guest_run(&g, "echo alive"), "alive"));
}

static void no_snapshot_is_said(void **state)
{
    AUTO(guest_done) struct guest g;
    AUTO(error_clear) struct error err = {0};

    (void)state;
    same_machine(&g, &vmm_qemu_microvm, "/tmp", NULL, &err);
    assert_non_null(strstr(error_text(&err), "no snapshot in /tmp"));
    assert_int_equal(vmm_status(g.v)->reason, VMM_REASON_START_FAILED);
}

/* Turns both sides. */
static void both(struct guest *a, struct guest *b, int64_t ns)
{
    guest_turn(a, ns / 2);
    guest_turn(b, ns / 2);
}

static enum vmm_migration_state state_of(struct guest *g, struct vmm_migration_status *ret)
{
    AUTO(error_clear) struct error err = {0};

    if (!vmm_migrate_status(g->v, ret, &err))
        return VMM_MIGRATION_RUNS;
    return ret->state;
}

/* Something that writes memory as fast as it can. */
#define LOAD "(while :; do dd if=/dev/zero of=/dev/shm bs=1M count=1 2>/dev/null; done) & awk 'BEGIN{for(;;){for(i=0;i<200000;i++)a[i]=i\"\"x;x++}}' &"

static void migration(const struct vmm_driver *d)
{
    AUTO(guest_done) struct guest from, to;
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *path = NULL;
    struct vmm_migration_status status = {0};

    guest_boot(&from, d, SPEC, &guest_nothing);
    path = xasprintf("%s/incoming", from.dir);
    struct vmm_migration m = {.path = path, .downtime_ms = 1000, .post_copy = true};
    assert_false(vmm_migrate(from.v, &m, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    error_clear(&err);
    m.post_copy = false;
    assert_false(vmm_migrate(from.v, &m, &err)); /* nobody is there */
    assert_int_equal(err.kind, ERROR_UNAVAILABLE);
    error_clear(&err);
    guest_run(&from, "mark=moved; " LOAD);
    same_machine(&to, d, NULL, path, &err);
    if (err.kind)
        fail_msg("%s", error_text(&err));
    if (!vmm_migrate(from.v, &m, &err))
        fail_msg("%s", error_text(&err));
    for (int i = 0; i < 3000 && state_of(&from, &status) == VMM_MIGRATION_RUNS; i++)
        both(&from, &to, MILLIS(20));
    if (status.state != VMM_MIGRATION_DONE)
        fail_msg("the migration ended as %d: %s", (int)status.state, status.message);
    for (int i = 0; i < 500 && (vmm_alive(from.v) || vmm_status(to.v)->state != VMM_RUNNING); i++)
        both(&from, &to, MILLIS(20));
    assert_int_equal(vmm_status(from.v)->state, VMM_SHUTDOWN);
    assert_int_equal(vmm_status(from.v)->reason, VMM_REASON_MIGRATED);
    assert_int_equal(vmm_status(to.v)->state, VMM_RUNNING);
    assert_true(status.done_bytes > 0 && status.total_bytes > 0);
    assert_true(str_is(guest_run(&to, "echo $mark"), "moved"));
}

static void q35_moves_under_load(void **state)
{
    (void)state;
    migration(&vmm_qemu);
}

static void microvm_moves_under_load(void **state)
{
    (void)state;
    migration(&vmm_qemu_microvm);
}

/* Cancelled, then with a target that dies on the way, then with too little time: the guest goes on where it was each time. */
static void the_source_survives(void **state)
{
    AUTO(guest_done) struct guest from;
    AUTO(error_clear) struct error err = {0};
    struct vmm_migration_status status = {0};

    (void)state;
    guest_boot(&from, &vmm_qemu_microvm, SPEC, &guest_nothing);
    for (int round = 0; round < 3; round++) {
        AUTO(guest_done) struct guest to;
        AUTO_FREE char *path = xasprintf("%s/incoming%d", from.dir, round);
        const struct vmm_migration m = {.path = path, .bandwidth = 1u << 20, .timeout_s = round == 2 ? 1 : 0};

        same_machine(&to, &vmm_qemu_microvm, NULL, path, &err);
        if (err.kind || !vmm_migrate(from.v, &m, &err))
            fail_msg("%s", error_text(&err));
        for (int i = 0; i < 20; i++)
            both(&from, &to, MILLIS(20));
        if (round == 0)
            assert_true(vmm_migrate_cancel(from.v, &err));
        if (round == 1)
            vmm_kill(to.v, true);
        for (int i = 0; i < 500 && state_of(&from, &status) == VMM_MIGRATION_RUNS; i++)
            both(&from, &to, MILLIS(20));
        assert_int_equal(status.state, round == 0 ? VMM_MIGRATION_CANCELLED : VMM_MIGRATION_FAILED);
        if (round > 0)
            assert_true(status.message[0] != '\0');
        for (int i = 0; i < 250 && vmm_alive(to.v); i++)
            both(&from, &to, MILLIS(20));
        assert_int_equal(vmm_status(from.v)->state, VMM_RUNNING);
        assert_true(str_is(guest_run(&from, "echo alive"), "alive"));
        assert_false(vmm_migrate_cancel(from.v, &err)); /* none runs */
        error_clear(&err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(microvm_goes_on_from_a_snapshot),
        cmocka_unit_test(q35_goes_on_from_a_snapshot),
        cmocka_unit_test(a_full_directory_leaves_the_machine_as_it_was),
        cmocka_unit_test(no_snapshot_is_said),
        cmocka_unit_test(the_source_survives),
        cmocka_unit_test(microvm_moves_under_load),
        cmocka_unit_test(q35_moves_under_load),
    };

    if (guest_missing())
        return 0;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
