/* ch-proof [--list] FOLDER-OF-SERVERS FOLDER-OF-DOCUMENTS: what cloud-hypervisor shows of machines that the driver made.
 *
 * Two machines differ in every field. Each row names a field and what vm.info has to say about it on the one and on the other;
 * the rest is behaviour: a machine does, or does not do, what the field asks for. --list prints "<vmm> <field>" for all of it. */
#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/file.h"
#include "vmm/cloud_hypervisor/ch.h"

#define MEM "\"memory\":{\"guest\":\"64Mi\"}"
#define UUID "5d307ca9-b3ef-428c-8861-06e72d69f223"

static const char rich[] =
    "{\"domain\":{\"cpu\":{\"sockets\":1,\"cores\":2,\"threads\":2,\"maxSockets\":2,\"model\":"
    "\"host-passthrough\"},"
    "\"memory\":{\"guest\":\"64Mi\",\"maxGuest\":\"192Mi\"},\"features\":{\"hypervPassthrough\":{}}"
    ","
    "\"firmware\":{\"uuid\":\"" UUID
    "\",\"serial\":\"abc\",\"kernelBoot\":{\"kernelArgs\":\"console=ttyS0 x\"}},"
    "\"devices\":{\"autoattachVSOCK\":true,\"blockMultiQueue\":true,\"networkInterfaceMultiqueue\":"
    "true,\"rng\":{},\"panicDevices\":[{\"model\":"
    "\"pvpanic\"}],"
    "\"disks\":[{\"name\":\"d\",\"disk\":{\"bus\":\"virtio\",\"readonly\":true},\"serial\":\"s1\","
    "\"cache\":\"writeback\","
    "\"errorPolicy\":"
    "\"report\"}],\"interfaces\":[{\"name\":\"n\",\"model\":\"virtio\",\"macAddress\":\"02:00:00:"
    "00:00:07\"}]}}}";
static const char plain[] =
    "{\"domain\":{\"cpu\":{\"sockets\":3},\"memory\":{\"guest\":\"128Mi\"},\"firmware\":{\"kernelBoot\":{}},"
    "\"devices\":{\"autoattachMemBalloon\":false,\"autoattachSerialConsole\":false,\"disks\":[{\"name\":\"d\",\"disk\":{}}],"
    "\"interfaces\":[{\"name\":\"n\",\"state\":\"absent\"}]}}}";

static const struct {
    const char *field, *path, *on_rich, *on_plain;
} shown[] = {
    {"domain/cpu/sockets", "config/cpus/boot_vcpus", "4", "3"},
    {"domain/cpu/cores", "config/cpus/topology/cores_per_die", "2", "1"},
    {"domain/cpu/threads", "config/cpus/topology/threads_per_core", "2", "1"},
    {"domain/cpu/maxSockets", "config/cpus/topology/packages", "2", "3"},
    {"domain/memory/guest", "config/memory/size", "67108864", "134217728"},
    {"domain/memory/maxGuest", "config/memory/hotplug_size", "134217728", NULL},
    {"domain/features/hypervPassthrough/enabled", "config/cpus/kvm_hyperv", "true", "false"},
    {"domain/firmware/uuid", "config/platform/system_uuid", "\"" UUID "\"", NULL},
    {"domain/firmware/serial", "config/platform/system_serial_number", "\"abc\"", NULL},
    {"domain/firmware/kernelBoot/kernelArgs", "config/payload/cmdline", "\"console=ttyS0 x\"",
     NULL},
    {"domain/devices/autoattachMemBalloon", "config/balloon/size", "0", NULL},
    {"domain/devices/autoattachSerialConsole", "config/serial/mode", "\"Socket\"", "\"Off\""},
    {"domain/devices/autoattachVSOCK", "config/vsock/cid", "7", NULL},
    {"domain/devices/blockMultiQueue", "config/disks/0/num_queues", "4", "1"},
    {"domain/devices/networkInterfaceMultiqueue", "config/net/0/num_queues", "4", NULL},
    {"domain/devices/rng", "config/rng/src", "\"/dev/urandom\"",
     "\"/dev/urandom\""}, /* it always has one */
    {"domain/devices/disks/*/disk/readonly", "config/disks/0/readonly", "true", "false"},
    {"domain/devices/disks/*/serial", "config/disks/0/serial", "\"s1\"", NULL},
    {"domain/devices/disks/*/cache", "config/disks/0/direct", "false", "true"},
    {"domain/devices/interfaces/*/macAddress", "config/net/0/mac", "\"02:00:00:00:00:07\"", NULL},
    {"domain/devices/interfaces/*/state", "config/net/0/id", "\"net-n\"", NULL},
    {"domain/devices/panicDevices/*/model", "config/pvpanic", "true", "false"},
};

/* Values that it has no means for: the machine with them is refused, the same without starts (rich). */
static const struct {
    const char *field, *spec, *words;
} refused[] = {
    {"domain/cpu/model", "{\"domain\":{\"cpu\":{\"model\":\"Haswell\"},\"devices\":{}," MEM "}}", "cpu.model"},
    {"domain/devices/disks/*/disk/bus",
     "{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"d\",\"disk\":{\"bus\":\"sata\"}}]}," MEM "}}", "virtio disks only"},
    {"domain/devices/disks/*/errorPolicy",
     "{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"d\",\"disk\":{},\"errorPolicy\":\"stop\"}]}," MEM "}}",
     "errorPolicy report"},
    {"domain/devices/interfaces/*/model",
     "{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"n\",\"model\":\"e1000\"}]}," MEM "}}", "virtio only"},
};

static const char *const behaviour[] = {"startStrategy", "domain/rebootPolicy", "domain/devices/disableHotplug"};

/* ---- the bench ---- */

struct bench {
    char dir[64];
    struct arena a;
    struct loop *loop;
    struct vmm *vmm;
    int dirfd, disk_fd, kernel_fd, taps[2], serial_fd;
    struct error err;
    char heard[4096];
};

static char kernel_path[96], disk_path[96], top[] = "/tmp/vireo-ch-proof-XXXXXX";
static const char *why_not; /* nothing can be tried here */

static void changed(void *user)
{
    (void)user;
}

static int tap(const char *name)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0)
        return fd;
    fd_close(&fd);
    return -1;
}

static bool start(struct bench *b, const char *spec, const char *private)
{
    static const struct vmm_listener listener = {.changed = changed};
    struct kv_virtual_machine_instance *vmi;
    const struct json *v, *object;
    AUTO_FREE char *path = xasprintf("%s/%s", top, private);

    *b = (struct bench){.dirfd = -1, .serial_fd = -1};
    b->loop = loop_new(NULL);
    assert_true(file_make_dirs(AT_FDCWD, path, 0700, &b->dirfd, &b->err));
    b->disk_fd = open(disk_path, O_RDWR | O_CLOEXEC);
    b->kernel_fd = open(kernel_path, O_RDONLY | O_CLOEXEC);
    b->taps[0] = tap("t0");
    b->taps[1] = tap("t0");
    vmi = ARENA_NEW(&b->a, struct kv_virtual_machine_instance);
    assert_true(json_parse(str_of(spec), &b->a, &v, &b->err));
    object = json_object(&b->a, "metadata", json_object(&b->a, "name", json_new_z(&b->a, "vm"), NULL), "spec", v, NULL);
    if (!schema_decode(&schema_type_kv_virtual_machine_instance, object, &b->a, vmi, &b->err))
        fail_msg("%s", error_text(&b->err));
    const struct vmm_disk disk = {.name = STR("d"), .fd = b->disk_fd, .format = "raw", .backing_fd = -1, .direct = true};
    const struct vmm_nic nic = {.name = STR("n"), .fds = b->taps, .n_fds = 2};
    struct vmm_machine m = {.vmi = vmi,
                            .accelerator = VMM_KVM,
                            .disks = &disk,
                            .n_disks = vmi->spec->domain->devices->disks.n,
                            .nics = &nic,
                            .n_nics = vmi->spec->domain->devices->interfaces.n,
                            .kernel_fd = b->kernel_fd,
                            .initrd_fd = -1,
                            .private_dirfd = b->dirfd,
                            .private_dir = path,
                            .vhost_vsock_fd = -1,
                            .vsock_cid =
                                opt_true(vmi->spec->domain->devices->autoattach_vsock) ? 7 : 0};
    b->vmm = vmm_new(&vmm_cloud_hypervisor, b->loop, &listener);
    return vmm_start(b->vmm, &m, &b->err);
}

static void must_start(struct bench *b, const char *spec, const char *private)
{
    if (!start(b, spec, private))
        fail_msg("%s", error_text(&b->err));
}

static void stop(struct bench *b)
{
    vmm_free(b->vmm);
    loop_free(b->loop);
    fd_close(&b->dirfd);
    fd_close(&b->disk_fd);
    fd_close(&b->kernel_fd);
    fd_close(&b->taps[0]);
    fd_close(&b->taps[1]);
    fd_close(&b->serial_fd);
    arena_done(&b->a);
    error_clear(&b->err);
}

static int64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * SECONDS(1) + ts.tv_nsec;
}

/* Until the guest has said it. */
static void hear(struct bench *b, const char *words)
{
    int64_t until = now() + SECONDS(20);

    if (b->serial_fd < 0)
        assert_true(vmm_open_stream(b->vmm, VMM_STREAM_SERIAL, &b->serial_fd, &b->err));
    while (!strstr(b->heard, words)) {
        size_t n = strlen(b->heard);
        ssize_t got;

        if (now() > until)
            fail_msg("the guest did not say '%s' but '%s'", words, b->heard);
        loop_turn(b->loop, MILLIS(20));
        got = recv(b->serial_fd, b->heard + n, sizeof b->heard - 1 - n, MSG_DONTWAIT);
        if (got > 0)
            b->heard[n + (size_t)got] = '\0';
    }
    b->heard[0] = '\0';
}

static void reach(struct bench *b, enum vmm_state state, enum vmm_reason reason)
{
    int64_t until = now() + SECONDS(20);

    while (vmm_status(b->vmm)->state != state || vmm_status(b->vmm)->reason != reason) {
        if (now() > until)
            fail_msg("it is %s, %s: %s", vmm_state_name(vmm_status(b->vmm)->state), vmm_reason_name(vmm_status(b->vmm)->reason),
                     vmm_status(b->vmm)->message);
        loop_turn(b->loop, MILLIS(20));
    }
}

static const struct json *info(struct bench *b)
{
    const struct json *v;

    if (!ch_call(ch_of(b->vmm), &(struct ch_call){.name = "GET vm.info"}, &b->a, &v, &b->err))
        fail_msg("%s", error_text(&b->err));
    return v;
}

static void type(struct bench *b, const char *line)
{
    assert_int_equal(send(b->serial_fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
}

/* ---- proofs ---- */

static void expect(const char *field, const struct json *v, const char *path, const char *want)
{
    const struct json *got = json_at(v, path);
    AUTO_FREE char *text = got ? json_text(got) : NULL;

    if (want ? !text || strcmp(text, want) != 0 : text != NULL)
        fail_msg("%s: %s is %s, not %s", field, path, text ? text : "absent", want ? want : "absent");
}

static void what_it_shows(void **state)
{
    struct bench a, b;

    (void)state;
    if (why_not)
        skip();
    must_start(&a, rich, "a");
    must_start(&b, plain, "b");
    for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
        expect(shown[i].field, info(&a), shown[i].path, shown[i].on_rich);
        expect(shown[i].field, info(&b), shown[i].path, shown[i].on_plain);
    }
    hear(&a, "guest up");
    assert_false(vmm_open_stream(b.vmm, VMM_STREAM_SERIAL, &b.serial_fd, &b.err));
    type(&a, "panic\n");
    reach(&a, VMM_CRASHED, VMM_REASON_GUEST_PANIC);
    stop(&a);
    stop(&b);
}

static void what_it_refuses(void **state)
{
    (void)state;
    if (why_not)
        skip();
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct bench b;

        assert_false(start(&b, refused[i].spec, "r"));
        assert_int_equal(b.err.kind, ERROR_UNSUPPORTED);
        if (!strstr(b.err.msg, refused[i].words))
            fail_msg("%s: %s", refused[i].field, b.err.msg);
        stop(&b);
    }
}

static void start_strategy(void **state)
{
    struct bench b;

    (void)state;
    if (why_not)
        skip();
    must_start(&b, "{\"startStrategy\":\"Paused\",\"domain\":{\"devices\":{}," MEM "}}", "s");
    assert_int_equal(vmm_status(b.vmm)->state, VMM_PAUSED);
    assert_true(str_is(json_str_at(info(&b), "state"), "Created"));
    assert_true(vmm_resume(b.vmm, &b.err));
    assert_true(str_is(json_str_at(info(&b), "state"), "Running"));
    hear(&b, "guest up");
    stop(&b);
}

static void reboot_policy(void **state)
{
    struct bench b;

    (void)state;
    if (why_not)
        skip();
    must_start(&b, "{\"domain\":{\"devices\":{}," MEM "}}", "p");
    hear(&b, "guest up");
    type(&b, "reboot\n");
    hear(&b, "guest up");
    assert_int_equal(vmm_status(b.vmm)->state, VMM_RUNNING);
    assert_int_equal(vmm_status(b.vmm)->reboots, 1);
    stop(&b);
    must_start(&b, "{\"domain\":{\"rebootPolicy\":\"Terminate\",\"devices\":{}," MEM "}}", "p");
    hear(&b, "guest up");
    type(&b, "reboot\n");
    reach(&b, VMM_SHUTDOWN, VMM_REASON_GUEST_SHUTDOWN);
    stop(&b);
}

/* A disk that comes later is opened by way of a process that holds it; the guest reboots with it. */
static void hotplug(void **state)
{
    const struct kv_disk_target target = {.bus = STR("virtio")};
    const struct kv_disk spec = {.name = STR("late"), .disk = &target};
    struct bench b;

    (void)state;
    if (why_not)
        skip();
    must_start(&b, "{\"domain\":{\"devices\":{\"disableHotplug\":true}," MEM "}}", "h");
    const struct vmm_disk disk = {.name = STR("late"), .fd = b.disk_fd, .format = "raw", .backing_fd = -1};
    const struct vmm_device d = {.kind = VMM_DEVICE_DISK, .disk = &disk, .disk_spec = &spec};
    assert_false(vmm_add_device(b.vmm, &d, &b.err));
    assert_non_null(strstr(b.err.msg, "disableHotplug"));
    stop(&b);
    must_start(&b, "{\"domain\":{\"devices\":{}," MEM "}}", "h");
    const struct vmm_disk again = {.name = STR("late"), .fd = b.disk_fd, .format = "raw", .backing_fd = -1};
    hear(&b, "guest up");
    if (!vmm_add_device(b.vmm, &(struct vmm_device){.kind = VMM_DEVICE_DISK, .disk = &again, .disk_spec = &spec}, &b.err))
        fail_msg("%s", error_text(&b.err));
    expect("hotplug", info(&b), "config/disks/0/id", "\"disk-late\"");
    type(&b, "reboot\n");
    hear(&b, "guest up");
    expect("hotplug", info(&b), "config/disks/0/id", "\"disk-late\"");
    stop(&b);
}

/* The stream of a migration leads through the driver: it can be cut, and the machine goes on. */
static void a_migration_is_called_off(void **state)
{
    AUTO_FREE char *path = xasprintf("%s/target", top);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    AUTO_CLOSE int target = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    AUTO_CLOSE int stream = -1;
    const struct vmm_migration m = {.path = path, .timeout_s = 60};
    struct vmm_migration_status status = {0};
    struct bench b;

    (void)state;
    if (why_not)
        skip();
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
    assert_int_equal(bind(target, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(target, 1), 0);
    must_start(&b, "{\"domain\":{\"devices\":{}," MEM "}}", "m");
    hear(&b, "guest up");
    assert_false(vmm_migrate_cancel(b.vmm, &b.err));
    error_clear(&b.err);
    if (!vmm_migrate(b.vmm, &m, &b.err))
        fail_msg("%s", error_text(&b.err));
    for (int64_t until = now() + SECONDS(20); status.done_bytes == 0 && now() < until;) {
        loop_turn(b.loop, MILLIS(20));
        assert_true(vmm_migrate_status(b.vmm, &status, &b.err));
    }
    assert_int_equal(status.state, VMM_MIGRATION_RUNS);
    assert_true(status.done_bytes > 0);
    stream = accept(target, NULL, NULL); /* a target that hears, and never answers */
    assert_true(stream >= 0);
    assert_true(vmm_migrate_cancel(b.vmm, &b.err));
    for (int64_t until = now() + SECONDS(20); status.state == VMM_MIGRATION_RUNS && now() < until;) {
        loop_turn(b.loop, MILLIS(20));
        assert_true(vmm_migrate_status(b.vmm, &status, &b.err));
    }
    assert_int_equal(status.state, VMM_MIGRATION_CANCELLED);
    assert_int_equal(vmm_status(b.vmm)->state, VMM_RUNNING);
    type(&b, "say still here\n");
    hear(&b, "said still here");
    stop(&b);
    unlink(path);
}

static void interfaces_do_not_migrate(void **state)
{
    const struct vmm_migration m = {.path = "/nonexistent"};
    struct bench b;

    (void)state;
    if (why_not)
        skip();
    must_start(&b, rich, "i");
    assert_false(vmm_migrate(b.vmm, &m, &b.err));
    assert_int_equal(b.err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(b.err.msg, "network interfaces"));
    stop(&b);
}

static int list(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(shown); i++)
        printf("cloud-hypervisor %s\n", shown[i].field);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        printf("cloud-hypervisor %s\n", refused[i].field);
    for (size_t i = 0; i < ARRAY_SIZE(behaviour); i++)
        printf("cloud-hypervisor %s\n", behaviour[i]);
    return 0;
}

static void write_file(const char *path, const char *head, off_t size)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, head, strlen(head)) < 0 || ftruncate(fd, size) != 0)
        perror(path);
}

static void set_up(const char *servers, const char *documents)
{
    AUTO_FREE char *bin = NULL;
    AUTO_FREE char *link = NULL;
    AUTO_FREE char *to = xasprintf("%s/cloud-hypervisor", servers);
    AUTO_FREE char *path = NULL;

    if (access(documents, R_OK) != 0) {
        why_not = "needs the documents in ../shared/data/vmm-api";
        return;
    }
    if (unshare(CLONE_NEWNET) != 0) {
        why_not = "needs the right to make taps";
        return;
    }
    if (!mkdtemp(top))
        perror(top);
    bin = xasprintf("%s/bin", top);
    link = xasprintf("%s/cloud-hypervisor", bin);
    if (mkdir(bin, 0700) != 0 || symlink(to, link) != 0)
        perror(bin);
    path = xasprintf("%s:%s", bin, getenv("PATH"));
    setenv("PATH", path, 1);
    snprintf(kernel_path, sizeof kernel_path, "%s/kernel", top);
    snprintf(disk_path, sizeof disk_path, "%s/disk", top);
    write_file(kernel_path,
               "\x7f"
               "ELF",
               4096);
    write_file(disk_path, "", 1 << 20);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_shows),
        cmocka_unit_test(what_it_refuses),
        cmocka_unit_test(start_strategy),
        cmocka_unit_test(reboot_policy),
        cmocka_unit_test(hotplug),
        cmocka_unit_test(a_migration_is_called_off),
        cmocka_unit_test(interfaces_do_not_migrate),
    };
    AUTO(error_clear) struct error err = {0};
    int result;

    if (argc > 1 && strcmp(argv[1], "--list") == 0)
        return list();
    if (argc < 3) {
        fprintf(stderr, "usage: ch-proof [--list] FOLDER-OF-SERVERS FOLDER-OF-DOCUMENTS\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    set_up(argv[1], argv[2]);
    if (why_not)
        printf("skipped: %s\n", why_not);
    result = cmocka_run_group_tests(tests, NULL, NULL);
    if (!why_not && !file_remove_tree(AT_FDCWD, top, &err))
        fprintf(stderr, "%s\n", error_text(&err));
    return result;
}
