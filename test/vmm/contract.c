/* contract SERVERS DOCUMENTS KERNEL [TEXT…] | --list: what every driver has to do, asked of each of them: QEMU under emulation, the REST VMMs as contract
 * servers play them (contract.py), and their real programs where PATH has them. TEXT chooses among "driver: scenario".
 *
 * A scenario that concerns something the driver has no function for demands the refusal that names the driver. After each the
 * suite counts descriptors and processes, and reads in the contract server's book whether it was ever asked wrongly. */
#include "bench.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/probe.h"

struct subject subjects[MAX_SUBJECTS];
size_t n_subjects;
char bench_dir[64];
const char *guest_kernel;

/* ---- life ---- */

static void boots(struct bench *b)
{
    struct wish w = {0};

    bench_up(b, &w);
    bench_type(b, "say hello");
    bench_hear(b, "said hello");
    assert_string_equal(vmm_reason_name(vmm_status(b->vmm)->reason), "");
    assert_true(vmm_status(b->vmm)->since_ns > 0);
}

static void starts_paused(struct bench *b)
{
    struct wish w = {.paused = true};

    bench_must_start(b, &w);
    assert_int_equal(vmm_status(b->vmm)->state, VMM_PAUSED);
    assert_int_equal(vmm_status(b->vmm)->reason, VMM_REASON_USER);
    assert_false(bench_heard(b, "guest up", 400));
    bench_ok(b, vmm_resume(b->vmm, &b->err));
    bench_reach(b, VMM_RUNNING, VMM_REASON_NONE);
    bench_hear(b, "guest up");
}

static void pauses(struct bench *b)
{
    struct wish w = {0};
    unsigned before;

    bench_up(b, &w);
    before = bench_count(b);
    bench_ok(b, vmm_pause(b->vmm, &b->err));
    bench_reach(b, VMM_PAUSED, VMM_REASON_USER);
    bench_type(b, "say late");
    assert_false(bench_heard(b, "said late", 400));
    bench_ok(b, vmm_resume(b->vmm, &b->err));
    bench_reach(b, VMM_RUNNING, VMM_REASON_NONE);
    bench_hear(b, "said late");
    assert_true(bench_count(b) >= before);
}

static void stops_gracefully(struct bench *b)
{
    struct wish w = {0};

    bench_up(b, &w);
    bench_ok(b, vmm_powerdown(b->vmm, &b->err));
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_HOST_SHUTDOWN);
    assert_int_equal(vmm_status(b->vmm)->pid, 0);
}

static void deaf_guest_is_killed(struct bench *b)
{
    struct wish w = {0};

    bench_up(b, &w);
    bench_type(b, "deaf");
    bench_hear(b, "deaf");
    bench_ok(b, vmm_powerdown(b->vmm, &b->err));
    bench_pump(b, 300);
    assert_int_equal(vmm_status(b->vmm)->state, VMM_RUNNING);
    vmm_kill(b->vmm, false);
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_DESTROYED);
}

static void kill_at_once(struct bench *b)
{
    struct wish w = {0};

    bench_up(b, &w);
    vmm_kill(b->vmm, true);
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_DESTROYED);
    assert_false(vmm_pause(b->vmm, &b->err));
    assert_int_equal(b->err.kind, ERROR_CONFLICT);
}

static void killed_while_paused(struct bench *b)
{
    struct wish w = {0};

    bench_up(b, &w);
    bench_ok(b, vmm_pause(b->vmm, &b->err));
    vmm_kill(b->vmm, false);
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_DESTROYED);
}

static void needs_a_process(struct bench *b)
{
    if (!b->s->inside)
        return;
    print_message("  it has no process\n");
    bench_done(b);
    skip();
}

static void vmm_dies(struct bench *b)
{
    struct wish w = {0};

    needs_a_process(b);
    bench_up(b, &w);
    kill(vmm_status(b->vmm)->pid, SIGKILL);
    bench_reach(b, VMM_CRASHED, VMM_REASON_VMM_KILLED);
    assert_true(vmm_status(b->vmm)->message[0] != 0);
}

static void guest_turns_off(struct bench *b)
{
    struct wish w = {0};

    if (str_is(str_of(b->s->driver->name), "firecracker")) {
        /* Its guest has one way out, which is a reset to the guest and the end to the VMM (its FAQ); what that means is said by
         * the reboot policy: see guest_reboots(). */
        print_message("  a Firecracker's guest cannot turn it off\n");
        bench_done(b);
        skip();
    }
    bench_up(b, &w);
    bench_type(b, "poweroff");
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_GUEST_SHUTDOWN);
}

static void guest_reboots(struct bench *b)
{
    struct wish w = {0};

    bench_up(b, &w);
    bench_type(b, "reboot");
    bench_hear(b, "guest up");
    assert_int_equal(vmm_status(b->vmm)->state, VMM_RUNNING);
    bench_pump(b, 100);
    assert_int_equal(vmm_status(b->vmm)->reboots, 1);
    bench_type(b, "say again"); /* the console is still the same stream */
    bench_hear(b, "said again");
}

static void guest_reboots_for_the_last_time(struct bench *b)
{
    struct wish w = {.more = ",\"rebootPolicy\":\"Terminate\""};

    bench_up(b, &w);
    bench_type(b, "reboot");
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_GUEST_SHUTDOWN);
}

static void guest_panics(struct bench *b)
{
    struct wish w = {.panic = true};

    if (str_is(str_of(b->s->driver->name), "firecracker")) {
        print_message("  Firecracker has no panic device\n");
        bench_done(b);
        skip();
    }
    bench_up(b, &w);
    bench_type(b, "panic");
    bench_reach(b, VMM_CRASHED, VMM_REASON_GUEST_PANIC);
}

static void resets(struct bench *b)
{
    struct wish w = {0};
    bool ok;

    bench_up(b, &w);
    ok = vmm_reset(b->vmm, &b->err);
    if (bench_lacks(b, ok, b->s->driver->reset))
        return;
    bench_ok(b, ok);
    bench_hear(b, "guest up");
    bench_pump(b, 100);
    assert_int_equal(vmm_status(b->vmm)->state, VMM_RUNNING);
}

static void reboots_softly(struct bench *b)
{
    struct wish w = {0};
    bool ok;

    bench_up(b, &w);
    ok = vmm_soft_reboot(b->vmm, &b->err);
    if (bench_lacks(b, ok, b->s->driver->soft_reboot))
        return;
    bench_ok(b, ok);
    bench_hear(b, "guest up");
    bench_pump(b, 100);
    assert_int_equal(vmm_status(b->vmm)->state, VMM_RUNNING);
    assert_int_equal(vmm_status(b->vmm)->reboots, 1);
}

static void much_on_the_console(struct bench *b)
{
    struct wish w = {0};

    bench_up(b, &w);
    for (int i = 0; i < 20; i++) {
        char line[32], heard[32];

        snprintf(line, sizeof line, "say line %d.", i);
        snprintf(heard, sizeof heard, "said line %d.", i);
        bench_type(b, line);
        bench_hear(b, heard);
    }
}

/* ---- devices and counters ---- */

static const struct vmm_counters *counters_of(const struct vmm_counters *p, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(p[i].name, name) == 0)
            return &p[i];
    fail_msg("no counters of %s among %zu", name, n);
    return NULL;
}

static void counts(struct bench *b)
{
    struct wish w = {.disk = true, .cdrom_like = true, .nic = true, .balloon = true};
    struct vmm_stats one, two;
    const struct vmm_counters *net, *disk;

    bench_up(b, &w);
    bench_ok(b, vmm_read_stats(b->vmm, &one, &b->err));
    counters_of(one.block, one.n_block, "root");
    counters_of(one.block, one.n_block, "data");
    assert_int_equal(one.vcpus, 1);
    assert_true((one.resident_bytes > 0) != b->s->inside);
    bench_type(b, "work");
    bench_hear(b, "worked");
    bench_pump(b, 300);
    bench_ok(b, vmm_read_stats(b->vmm, &two, &b->err));
    assert_true(two.cpu_ns >= one.cpu_ns && (two.cpu_ns > 0) != b->s->inside);
    disk = counters_of(two.block, two.n_block, "root");
    if (!b->s->pretended)
        return; /* the suite's guest has no driver for its disks */
    assert_true(disk->read_bytes > counters_of(one.block, one.n_block, "root")->read_bytes);
    assert_true(disk->write_ops > counters_of(one.block, one.n_block, "root")->write_ops);
    net = counters_of(two.net, two.n_net, "default");
    assert_true(net->read_bytes > counters_of(one.net, one.n_net, "default")->read_bytes);
    assert_true(net->write_ops > counters_of(one.net, one.n_net, "default")->write_ops);
}

static void balloons(struct bench *b)
{
    struct wish w = {.balloon = true};
    struct vmm_stats s;
    bool ok;

    bench_up(b, &w);
    ok = vmm_set_balloon(b->vmm, 48u << 20, &b->err);
    if (bench_lacks(b, ok, b->s->driver->set_balloon))
        return;
    bench_ok(b, ok);
    bench_pump(b, 100);
    bench_ok(b, vmm_read_stats(b->vmm, &s, &b->err));
    if (b->s->pretended)
        assert_int_equal(s.guest_bytes, 48u << 20);
    bench_ok(b, vmm_set_balloon(b->vmm, 64u << 20, &b->err));
    bench_pump(b, 100);
    bench_ok(b, vmm_read_stats(b->vmm, &s, &b->err));
    assert_int_equal(s.guest_bytes, 64u << 20);
}

static void talks_by_vsock(struct bench *b)
{
    struct wish w = {.vsock = true};
    AUTO_CLOSE int fd = -1;
    char text[16] = "";
    ssize_t n = -1;
    bool ok;

    if (!b->s->rest) {
        print_message("  needs /dev/vhost-vsock and a guest with a driver\n");
        bench_done(b);
        skip();
    }
    bench_up(b, &w);
    ok = vmm_vsock_connect(b->vmm, 1024, &fd, &b->err);
    if (bench_lacks(b, ok, b->s->driver->vsock_connect))
        return;
    bench_ok(b, ok);
    assert_int_equal(write(fd, "over there", 10), 10);
    for (int i = 0; i < 200 && n <= 0; i++) {
        bench_pump(b, 10);
        n = recv(fd, text, sizeof text, MSG_DONTWAIT);
    }
    assert_int_equal(n, 10);
    assert_memory_equal(text, "over there", 10);
    close(fd);
    fd = -1;
    assert_false(vmm_vsock_connect(b->vmm, 9, &fd, &b->err)); /* nobody listens there */
    assert_int_equal(fd, -1);
    assert_true(error_text(&b->err)[0] != 0);
}

static void plugs_a_disk(struct bench *b)
{
    static const char *const text = "{\"name\":\"more\",\"disk\":{\"bus\":\"virtio\"}}";
    struct wish w = {.disk = true};
    struct vmm_disk disk = {.name = STR("more"), .format = "raw", .backing_fd = -1};
    struct kv_disk spec = {0};
    struct vmm_device d = {.kind = VMM_DEVICE_DISK, .disk = &disk, .disk_spec = &spec};
    struct vmm_stats s;
    const struct json *v;
    bool ok;

    if (strcmp(b->s->driver->name, "qemu") == 0)
        w.more = ",\"machine\":{\"type\":\"q35\"}";
    bench_up(b, &w);
    disk.fd = bench_image(b, "more", 1u << 20);
    assert_true(json_parse(str_of(text), &b->a, &v, &b->err));
    assert_true(schema_decode(&schema_type_kv_disk, v, &b->a, &spec, &b->err));
    ok = vmm_add_device(b->vmm, &d, &b->err);
    if (bench_lacks(b, ok, b->s->driver->add_device)) {
        assert_false(vmm_remove_device(b->vmm, VMM_DEVICE_DISK, STR("more"), &b->err));
        bench_lacks(b, false, b->s->driver->remove_device);
        return;
    }
    bench_ok(b, ok);
    bench_ok(b, vmm_read_stats(b->vmm, &s, &b->err));
    counters_of(s.block, s.n_block, "more");
    bench_ok(b, vmm_remove_device(b->vmm, VMM_DEVICE_DISK, STR("more"), &b->err));
    if (!b->s->pretended)
        return; /* a guest without a driver never lets go */
    for (int i = 0; i < 300 && b->gone == 0; i++)
        bench_pump(b, 20);
    assert_int_equal(b->gone, 1);
    assert_false(b->kept);
    bench_judge(b);
    assert_false(vmm_remove_device(b->vmm, VMM_DEVICE_DISK, STR("more"), &b->err)); /* once more */
    error_clear(&b->err);
    bench_ok(b, vmm_add_device(b->vmm, &d, &b->err));
    assert_false(vmm_add_device(b->vmm, &d, &b->err)); /* twice */
}

static void plugs_memory_and_vcpus(struct bench *b)
{
    struct wish w = {.room = true};
    bool ok;

    bench_up(b, &w);
    ok = vmm_set_memory(b->vmm, 192u << 20, &b->err);
    if (!bench_lacks(b, ok, b->s->driver->set_memory))
        bench_ok(b, ok);
    ok = vmm_set_vcpus(b->vmm, 2, &b->err);
    if (!bench_lacks(b, ok, b->s->driver->set_vcpus))
        bench_ok(b, ok);
    bench_type(b, "say still here");
    bench_hear(b, "said still here");
}

static void sets_a_link(struct bench *b)
{
    struct wish w = {.nic = true};
    bool ok;

    bench_up(b, &w);
    ok = vmm_set_link(b->vmm, STR("default"), false, &b->err);
    if (bench_lacks(b, ok, b->s->driver->set_link))
        return;
    bench_ok(b, ok);
    bench_ok(b, vmm_set_link(b->vmm, STR("default"), true, &b->err));
    assert_false(vmm_set_link(b->vmm, STR("nobody"), true, &b->err));
}

/* ---- snapshots and migration ---- */

static void saves_and_restores(struct bench *b)
{
    struct wish w = {.disk = true};
    struct vmm_listener quiet = b->vmm->listener;
    AUTO_FREE char *dir = NULL;
    unsigned before;
    bool ok;

    dir = xasprintf("%s/snapshot", b->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    bench_up(b, &w);
    assert_false(vmm_snapshot(b->vmm, dir, &b->err)); /* it runs, or the driver cannot */
    error_clear(&b->err);
    before = bench_count(b);
    bench_ok(b, vmm_pause(b->vmm, &b->err));
    bench_reach(b, VMM_PAUSED, VMM_REASON_USER);
    ok = vmm_snapshot(b->vmm, dir, &b->err);
    if (bench_lacks(b, ok, b->s->driver->snapshot))
        return;
    bench_ok(b, ok);
    assert_int_equal(vmm_status(b->vmm)->state, VMM_PAUSED);
    bench_ok(b, vmm_resume(b->vmm, &b->err)); /* it may go on */
    bench_reach(b, VMM_RUNNING, VMM_REASON_NONE);
    vmm_kill(b->vmm, true);
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_DESTROYED);
    vmm_free(b->vmm);
    close(b->serial_fd);
    buf_clear(&b->serial);
    b->serial_fd = -1;
    b->vmm = vmm_new(b->s->driver, b->loop, &quiet);
    w.restore_dir = dir;
    bench_must_start(b, &w);
    assert_int_equal(vmm_status(b->vmm)->state, VMM_PAUSED);
    bench_ok(b, vmm_resume(b->vmm, &b->err));
    bench_reach(b, VMM_RUNNING, VMM_REASON_NONE);
    assert_true(bench_count(b) >= before);
    assert_false(bench_heard(b, "guest up", 100)); /* it went on, and did not begin anew */
}

static void restore_of_nothing_fails(struct bench *b)
{
    char *dir = arena_printf(&b->a, "%s/empty", b->dir);
    struct wish w = {.restore_dir = dir};

    if (!b->s->driver->snapshot) {
        print_message("  %s has no snapshots\n", b->s->driver->name);
        bench_done(b);
        skip();
    }
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_false(bench_start(b, &w));
    assert_true(error_text(&b->err)[0] != 0);
    bench_reach(b, VMM_CRASHED, VMM_REASON_START_FAILED);
}

static void migrates(struct bench *b)
{
    AUTO_FREE char *path = NULL;
    struct wish w = {0};
    struct vmm_migration_status status;
    struct vmm_migration m = {.downtime_ms = 300, .timeout_s = 60};
    struct bench other;
    unsigned before;
    bool ok;

    bench_up(b, &w);
    if (!b->s->driver->migrate) {
        ok = vmm_migrate(b->vmm, &m, &b->err);
        bench_lacks(b, ok, NULL);
        return;
    }
    before = bench_count(b);
    bench_init(&other, b->s);
    other.fds_before = 0;
    path = xasprintf("%s/migration", other.dir);
    w.incoming = path;
    bench_must_start(&other, &w);
    m.path = path;
    bench_ok(b, vmm_migrate(b->vmm, &m, &b->err));
    for (int64_t until = bench_now_ms() + 2 * PATIENCE_MS; vmm_alive(b->vmm) && bench_now_ms() < until;) {
        bench_pump(b, 10);
        bench_pump(&other, 10);
    }
    bench_ok(b, vmm_migrate_status(b->vmm, &status, &b->err));
    if (status.message[0])
        print_message("  %s\n", status.message);
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_MIGRATED);
    bench_ok(b, vmm_migrate_status(b->vmm, &status, &b->err));
    assert_int_equal(status.state, VMM_MIGRATION_DONE);
    bench_reach(&other, VMM_RUNNING, VMM_REASON_NONE);
    assert_true(bench_count(&other) >= before);
    bench_done(&other);
}

static void migration_to_nobody_fails(struct bench *b)
{
    char *path = arena_printf(&b->a, "%s/nobody", b->dir);
    struct vmm_migration m = {.path = path, .timeout_s = 10};
    struct vmm_migration_status status = {0};
    struct wish w = {0};

    if (!b->s->driver->migrate) {
        print_message("  %s cannot migrate\n", b->s->driver->name);
        bench_done(b);
        skip();
    }
    bench_up(b, &w);
    if (vmm_migrate(b->vmm, &m, &b->err)) {
        for (int i = 0; i < 500; i++) {
            bench_pump(b, 20);
            bench_ok(b, vmm_migrate_status(b->vmm, &status, &b->err));
            if (status.state != VMM_MIGRATION_RUNS)
                break;
        }
        assert_int_equal(status.state, VMM_MIGRATION_FAILED);
        assert_true(status.message[0] != 0);
    } else {
        assert_true(error_text(&b->err)[0] != 0);
        error_clear(&b->err);
    }
    bench_reach(b, VMM_RUNNING, VMM_REASON_NONE);
    bench_type(b, "say I am still here"); /* the machine goes on */
    bench_hear(b, "said I am still here");
}

/* ---- what cannot start ---- */

static void missing_program(struct bench *b)
{
    AUTO_FREE char *path = NULL;
    struct wish w = {0};

    needs_a_process(b);
    path = xstrdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    assert_false(bench_start(b, &w));
    setenv("PATH", path, 1);
    assert_true(error_text(&b->err)[0] != 0);
    bench_reach(b, VMM_CRASHED, VMM_REASON_START_FAILED);
}

static void probes(struct bench *b)
{
    struct vmm_version v = {0};

    bench_ok(b, b->s->driver->probe(&v, &b->err));
    assert_true(v.major > 0);
    assert_true(v.text[0] != 0);
    print_message("  %s\n", v.text);
}

static const struct scenario scenarios[] = {
    {"says its version", probes, EVERY},
    {"a program that is not there", missing_program, EVERY},
    {"boots and talks on its console", boots, EVERY},
    {"starts paused", starts_paused, EVERY},
    {"pause stops the guest, resume continues it", pauses, EVERY},
    {"much on the console", much_on_the_console, EVERY},
    {"stops when asked", stops_gracefully, EVERY},
    {"a guest that does not listen is killed", deaf_guest_is_killed, EVERY},
    {"killed at once", kill_at_once, EVERY},
    {"killed while paused", killed_while_paused, EVERY},
    {"the VMM dies", vmm_dies, EVERY},
    {"the guest turns off", guest_turns_off, EVERY},
    {"the guest reboots", guest_reboots, EVERY},
    {"the guest reboots and is not to", guest_reboots_for_the_last_time, EVERY},
    {"the guest panics", guest_panics, EVERY},
    {"reset", resets, EVERY},
    {"soft reboot", reboots_softly, EVERY},
    {"disks and interfaces are there and counted", counts, EVERY},
    {"balloon", balloons, EVERY},
    {"vsock", talks_by_vsock, EVERY},
    {"a disk comes and goes", plugs_a_disk, EVERY},
    {"memory and vCPUs grow", plugs_memory_and_vcpus, EVERY},
    {"a link goes down and up", sets_a_link, EVERY},
    {"snapshot and restore", saves_and_restores, EVERY},
    {"restore from an empty directory", restore_of_nothing_fails, EVERY},
    {"live migration", migrates, EVERY},
    {"migration to nobody", migration_to_nobody_fails, EVERY},
    {0},
};

/* ---- the run ---- */

struct run {
    const struct subject *s;
    const struct scenario *what;
};

static void one(void **state)
{
    const struct run *r = *state;
    struct bench b;

    if (r->what->slow && !getenv("VIREO_CONTRACT_SLOW")) {
        print_message("  waits for a minute: with VIREO_CONTRACT_SLOW=1 only\n");
        skip();
    }
    if (r->s->why_not) {
        print_message("  %s\n", r->s->why_not);
        skip();
    }
    if (r->s->no_guest && r->what->run != probes && r->what->run != missing_program && !str_is(str_of(r->what->name), NO_KVM_SCENARIO)) {
        print_message("  %s\n", r->s->no_guest);
        skip();
    }
    setenv("PATH", r->s->path, 1);
    bench_faults("[]");
    bench_forget();
    bench_init(&b, r->s);
    b.faulty = r->what->who == PRETENDED_ONLY;
    r->what->run(&b);
    bench_done(&b);
}

/* The contract servers' book: what they send, appended to files; "sync" is answered when all before it is written. */
static void keep_book(void)
{
    static char text[200000];
    AUTO_FREE char *path = xasprintf("%s/book", bench_dir);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), big = 4 << 20;

    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || chmod(path, 0666) != 0) {
        perror(path);
        exit(1);
    }
    if (fork() > 0) {
        close(fd);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct sockaddr_un from;
        socklen_t n = sizeof from;
        ssize_t got = recvfrom(fd, text, sizeof text - 1, 0, (struct sockaddr *)&from, &n);
        char *space, name[128];
        int to;

        if (got <= 0)
            continue;
        text[got] = 0;
        if (strcmp(text, "sync") == 0) {
            if (sendto(fd, "ok", 2, 0, (struct sockaddr *)&from, n) < 0)
                perror("sync");
            continue;
        }
        space = strchr(text, ' ');
        if (!space || space - text > 20)
            continue;
        *space = 0;
        snprintf(name, sizeof name, "%s/%.20s", bench_dir, text);
        to = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (to < 0 || write(to, space + 1, strlen(space + 1)) < 0)
            perror(name);
        close(to);
    }
}

static bool in_path(const char *name)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *found = NULL;

    return child_find_program(name, &found, &err);
}

static const char *kvm_works(void)
{
    static char why[512];
    struct probe_result r = {0};

    if (access("/dev/kvm", R_OK | W_OK) != 0)
        return "there is no /dev/kvm: no guest can run";
    probe_kvm_now("/dev/kvm", &r);
    if (r.verdict == PROBE_WORKS)
        return NULL;
    snprintf(why, sizeof why, "KVM is %s here: no guest can run", probe_verdict_name(r.verdict));
    return why;
}

/* Which drivers there are, and how each is tried: a REST VMM as a contract server (which then stands first in PATH), and by its
 * real program too where there is one. */
static void find_subjects(const char *servers, const char *data)
{
    const char *path = getenv("PATH");
    AUTO_FREE char *bin = xasprintf("%s/bin", bench_dir);
    bool documents = access(data, R_OK) == 0;

    if (mkdir(bin, 0755) != 0)
        perror(bin);
    for (const struct vmm_driver *const *d = vmm_drivers; *d && n_subjects < MAX_SUBJECTS - 2; d++) {
        const char *program = (*d)->program ? (*d)->program : (*d)->name;
        bool rest = strcmp((*d)->name, "cloud-hypervisor") == 0 || strcmp((*d)->name, "firecracker") == 0;
        struct subject s = {.driver = *d, .label = (*d)->name, .accelerator = rest ? VMM_KVM : VMM_TCG, .rest = rest, .path = path,
                            .inside = !*program};

        if (rest && in_path(program)) {
            subjects[n_subjects] = s;
            subjects[n_subjects].label = xasprintf("%s (its program)", (*d)->name);
            subjects[n_subjects++].no_guest = kvm_works();
        }
        if (rest) {
            AUTO_FREE char *link = xasprintf("%s/%s", bin, program);
            AUTO_FREE char *to = xasprintf("%s/%s", servers, program);

            s.pretended = documents;
            s.why_not = documents ? NULL : "needs the VMMs' documents in ../shared/data/vmm-api (or VIREO_DATA)";
            s.path = xasprintf("%s:%s", bin, path);
            if (symlink(to, link) != 0)
                perror(link);
        } else if (*program && !in_path(program)) {
            s.why_not = "its program is not in PATH";
        }
        subjects[n_subjects++] = s;
    }
}

static bool chosen(const char *name, char **words, int n)
{
    size_t at;

    if (n == 0)
        return true;
    for (int i = 0; i < n; i++)
        if (str_find(str_of(name), str_of(words[i]), &at))
            return true;
    return false;
}

/* A network of our own, so that taps disturb nobody. */
static void leave_network(void)
{
    if (unshare(CLONE_NEWNET) != 0)
        return;
}

int main(int argc, char **argv)
{
    const struct scenario *const lists[] = {scenarios, more_scenarios, fault_scenarios, field_scenarios};
    static struct CMUnitTest tests[1024];
    static struct run runs[1024];
    AUTO(error_clear) struct error err = {0};
    AUTO(arena_done) struct arena a = {0};
    size_t n = 0;
    int result;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        fields_list();
        return 0;
    }
    if (argc < 4) {
        fprintf(stderr, "usage: contract FOLDER-OF-SERVERS FOLDER-OF-DOCUMENTS GUEST-KERNEL [TEXT…]\n");
        return 2;
    }
    guest_kernel = argv[3];
    signal(SIGPIPE, SIG_IGN);
    leave_network();
    snprintf(bench_dir, sizeof bench_dir, "/tmp/vireo-contract-XXXXXX");
    if (!mkdtemp(bench_dir) || chmod(bench_dir, 0755) != 0) {
        perror(bench_dir);
        return 1;
    }
    keep_book();
    find_subjects(argv[1], argv[2]);
    for (size_t i = 0; i < n_subjects; i++)
        for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
            for (const struct scenario *s = lists[l]; s->name && n < ARRAY_SIZE(tests); s++) {
                char *name = arena_printf(&a, "%s: %s", subjects[i].label, s->name);

                if ((s->who == REST_ONLY && !subjects[i].rest) || (s->who == PRETENDED_ONLY && !subjects[i].pretended)
                    || !chosen(name, argv + 4, argc - 4))
                    continue;
                runs[n] = (struct run){&subjects[i], s};
                tests[n] = (struct CMUnitTest){.name = name, .test_func = one, .initial_state = &runs[n]};
                n++;
            }
    result = _cmocka_run_group_tests("contract", tests, n, NULL, NULL);
    if (getenv("VIREO_KEEP"))
        fprintf(stderr, "kept: %s\n", bench_dir);
    else if (!file_remove_tree(AT_FDCWD, bench_dir, &err))
        fprintf(stderr, "%s\n", error_text(&err));
    return result;
}
