#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "launcher/launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "vmm/proto.h"

/* The real launcher, in a child of its own below a temporary root, driven over its socket as the node agent does it, with a
 * real QEMU under TCG. The guest is its firmware, or a boot sector of a few bytes. */

#define VMI_HEAD                                                                                   \
    "{\"metadata\":{\"name\":\"t\",\"namespace\":\"ns\",\"uid\":\"u1\"},\"spec\":{\"domain\":{"    \
    "\"memory\":{\"guest\":\"32Mi\"},"
#define NULL_VMI VMI_HEAD "\"devices\":{}}}}"
#define DISK_VMI(more)                                                                             \
    VMI_HEAD "\"devices\":{\"disableHotplug\":true," more "\"disks\":[{\"name\":\"d\",\"disk\":{\"bus\":"  \
             "\"virtio\"}}]}},"                                                                    \
             "\"volumes\":[{\"name\":\"d\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}"

struct fixture {
    char root[32];
    pid_t pid;
    struct loop *loop;
    struct proto_client *client;
    struct arena arena; /* of the last answer */
    const struct json *ok;
    char domain[32], reason[32]; /* as the last event said */
    char error[256];
    int fd;
    bool done;
};

static void on_event(void *user, const struct json *e)
{
    struct fixture *f = user;

    snprintf(f->domain, sizeof f->domain, STR_FMT, STR_ARG(json_str_at(e, "domain/state")));
    snprintf(f->reason, sizeof f->reason, STR_FMT, STR_ARG(json_str_at(e, "domain/reason")));
}

static void on_answer(void *user, const struct json *ok, int *fds, size_t n_fds,
                      const struct error *err)
{
    struct fixture *f = user;

    f->done = true;
    f->ok = ok ? json_copy(&f->arena, ok) : NULL;
    f->fd = n_fds ? TAKE_FD(fds[0]) : -1;
    snprintf(f->error, sizeof f->error, "%s", err ? error_text(err) : "");
}

/* A call with its parameters as JSON text; returns whether it was answered with "ok". */
static bool call(struct fixture *f, const char *name, const char *params)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    assert_true(json_parse(str_of(params), &a, &v, &err));
    f->done = false;
    proto_client_call(f->client, name, v, NULL, 0, SECONDS(30), on_answer, f);
    while (!f->done)
        loop_turn(f->loop, MILLIS(100));
    return f->ok != NULL;
}

static void await(struct fixture *f, const char *state)
{
    for (int i = 0; i < 300 && strcmp(f->domain, state) != 0; i++)
        loop_turn(f->loop, MILLIS(100));
    assert_string_equal(f->domain, state);
}

static void start(struct fixture *f)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *sockets = NULL;

    memset(f, 0, sizeof *f);
    f->fd = -1;
    snprintf(f->root, sizeof f->root, "/tmp/launcher-test-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    f->pid = fork();
    if (f->pid == 0) {
        const struct launcher_options o = {
            .name = "t", .namespace_ = "ns", .uid = "u1", .grace_ns = SECONDS(1), .root = f->root};
        int status = 9, null = open("/dev/null", O_WRONLY);

        prctl(PR_SET_PDEATHSIG, SIGTERM); /* a failed test leaves nothing behind */
        dup2(null, STDOUT_FILENO);
        log_setup("vireo-launcher", LOG_ERROR, false);
        _exit(launcher_run(&o, &status, &err) ? status : 8);
    }
    sockets = xasprintf("%s/var/run/kubevirt/sockets", f->root);
    f->loop = loop_new(NULL);
    for (int i = 0; i < 500 && !f->client; i++) {
        AUTO_CLOSE int dir = open(sockets, O_RDONLY | O_DIRECTORY);

        if (dir < 0 || !proto_client_connect(f->loop, dir, geteuid(), &f->client, &err))
            usleep(10000);
    }
    assert_non_null(f->client);
    proto_client_on_event(f->client, on_event, NULL, f);
    assert_true(call(f, "subscribe", "{}"));
}

/* The launcher's exit status, and its record beside it. */
static int stop(struct fixture *f, struct buf *record)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *path = xasprintf("%s/var/run/kubevirt-private/%s", f->root, TERMINATION_NAME);
    int status = 0;

    assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
    if (record)
        assert_true(file_read(AT_FDCWD, path, record, &err));
    proto_client_free(f->client);
    arena_done(&f->arena);
    fd_close(&f->fd);
    loop_free(f->loop);
    assert_true(file_remove_tree(AT_FDCWD, f->root, &err));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool sync_vmi(struct fixture *f, const char *vmi)
{
    AUTO_FREE char *params =
        xasprintf("{\"vmi\":%s,\"accelerator\":\"tcg\",\"nics\":[],\"disks\":[]}", vmi);

    return call(f, "sync", params);
}

static void life_of_a_machine(void **state)
{
    AUTO(buf_done) struct buf record = {0};
    struct fixture f;
    char text[16];

    (void)state;
    start(&f);
    assert_true(call(&f, "hello", "{}"));
    assert_true(str_is(json_str_at(f.ok, "uid"), "u1"));
    assert_false(call(&f, "pause", "{}"));
    assert_false(call(&f, "stats", "{\"v\":99}")); /* another version's words may mean something else … */
    assert_true(call(&f, "hello", "{\"v\":99}"));   /* … but for those by which versions are found */
    assert_true(json_i64_at(f.ok, "v", 0) == PROTO_VERSION && json_i64_at(f.ok, "oldest", 0) == PROTO_OLDEST);
    assert_true(sync_vmi(&f, NULL_VMI));
    assert_true(str_is(json_str_at(f.ok, "domain/state"), "running"));
    assert_true(str_starts(json_str_at(f.ok, "domain/machine"), STR("pc-q35-")));
    assert_true(sync_vmi(&f, NULL_VMI)); /* again: nothing happens */
    assert_true(call(&f, "pause", "{}"));
    await(&f, "paused");
    assert_string_equal(f.reason, "user");
    assert_true(call(&f, "unpause", "{}"));
    await(&f, "running");
    assert_true(call(&f, "stats", "{}"));
    assert_true(json_i64_at(f.ok, "memory/actual", 0) == 32 << 20);
    assert_true(call(&f, "vnc", "{}"));
    assert_true(f.fd >= 0 && read(f.fd, text, 12) == 12 && memcmp(text, "RFB 003.", 8) == 0);
    fd_close(&f.fd);
    assert_false(call(&f, "guest-info", "{}"));
    assert_false(call(&f, "no-such-call", "{}"));
    assert_true(call(&f, "shutdown", "{\"grace_ms\":0}"));
    await(&f, "shutdown");
    assert_string_equal(f.reason, "destroyed");
    assert_int_equal(stop(&f, &record), 0);
    assert_non_null(strstr(record.p, "\"reason\":\"destroyed\""));
}

static void another_vmi_is_refused(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    assert_false(sync_vmi(
        &f,
        "{\"metadata\":{\"name\":\"t\",\"uid\":\"u2\"},\"spec\":{\"domain\":{\"devices\":{}}}}"));
    assert_non_null(strstr(f.error, "u2"));
    assert_false(sync_vmi(&f, "{\"metadata\":{\"name\":\"t\",\"uid\":\"u1\"},\"spec\":7}"));
    kill(f.pid, SIGTERM); /* nothing runs: it ends at once */
    assert_int_equal(stop(&f, NULL), 0);
}

static void without_a_machine_shutdown_ends_it(void **state)
{
    AUTO(buf_done) struct buf record = {0};
    struct fixture f;

    (void)state;
    start(&f);
    assert_false(
        sync_vmi(&f, VMI_HEAD "\"machine\":{\"type\":\"no-such-board\"},\"devices\":{}}}}"));
    await(&f, "crashed");
    assert_true(call(&f, "shutdown", "{\"grace_ms\":60000}"));
    assert_int_equal(stop(&f, &record), 1);
    assert_non_null(strstr(record.p, "start-failed"));
}

static void failed_start_can_be_repeated(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    assert_false(
        sync_vmi(&f, VMI_HEAD "\"machine\":{\"type\":\"no-such-board\"},\"devices\":{}}}}"));
    assert_non_null(strstr(f.error, "unsupported machine type"));
    assert_non_null(strstr(f.error, "spec.domain.machine.type"));
    await(&f, "crashed");
    assert_string_equal(f.reason, "start-failed");
    assert_true(sync_vmi(&f, NULL_VMI));
    await(&f, "running");
    assert_true(call(&f, "kill", "{}"));
    assert_int_equal(stop(&f, NULL), 0);
}

static void killed_vmm_is_a_crash(void **state)
{
    AUTO(buf_done) struct buf record = {0};
    struct fixture f;

    (void)state;
    start(&f);
    assert_true(sync_vmi(&f, NULL_VMI));
    kill((pid_t)json_i64_at(f.ok, "domain/pid", 0), SIGKILL);
    await(&f, "crashed");
    assert_string_equal(f.reason, "vmm-killed");
    assert_int_equal(stop(&f, &record), 1);
    assert_non_null(strstr(record.p, "\"vmm-killed\""));
}

static bool running(pid_t pid)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/stat", (int)pid);
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf b = {0};
    struct str name, rest;

    return file_read(AT_FDCWD, path, &b, &err) && str_rcut(buf_str(&b), ')', &name, &rest)
           && rest.n > 1 && rest.p[1] != 'Z';
}

static void killed_launcher_takes_the_vmm_along(void **state)
{
    struct fixture f;
    pid_t vmm;

    (void)state;
    start(&f);
    assert_true(sync_vmi(&f, NULL_VMI));
    vmm = (pid_t)json_i64_at(f.ok, "domain/pid", 0);
    assert_true(running(vmm));
    kill(f.pid, SIGKILL);
    for (int i = 0; i < 500 && running(vmm); i++)
        usleep(10000);
    assert_false(running(vmm));
    assert_int_equal(stop(&f, NULL), -1);
}

/* A PVC's disk.img with a boot sector that writes to the serial port until a key comes, and then turns the machine off by
 * the ACPI PM1a control register of the q35, which the firmware enabled. */
static void talk(const char *vmi, bool logged)
{
    static const unsigned char sector[] = {
        0xba, 0xf8, 0x03,       /* 1: mov dx, 0x3f8 */
        0xb0, 'V',  0xee,       /* out dx, 'V' */
        0xba, 0xfd, 0x03,       /* mov dx, line status */
        0xec, 0xa8, 0x01,       /* in al, dx ; test al, 1 */
        0x74, 0xf2,             /* jz 1b */
        0xba, 0x04, 0x06,       /* mov dx, 0x604 */
        0xb8, 0x00, 0x20, 0xef, /* mov ax, 0x2000 ; out dx, ax */
        0xf4, 0xeb, 0xfd,       /* hlt ; jmp */
    };
    AUTO(error_clear) struct error err = {0};
    struct fixture f;
    unsigned char image[512] = {0};
    char text[256];
    ssize_t n;

    start(&f);
    AUTO_FREE char *dir = xasprintf("%s/var/run/kubevirt-private/vmi-disks/d", f.root);
    AUTO_CLOSE int fd = -1;
    assert_true(file_make_dirs(AT_FDCWD, dir, 0755, &fd, &err));
    memcpy(image, sector, sizeof sector);
    image[510] = 0x55;
    image[511] = 0xaa;
    assert_true(file_write(fd, "disk.img", str_n((const char *)image, sizeof image), 0600, &err));
    AUTO_CLOSE int disk = openat(fd, "disk.img", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(disk, 4 << 20),
                     0); /* SeaBIOS does not read a disk of less than a cylinder */
    if (!sync_vmi(&f, vmi))
        fail_msg("%s", f.error);
    assert_true(call(&f, "console", "{\"port\":\"serial0\"}"));
    n = recv(f.fd, text, sizeof text, 0); /* blocks until the guest speaks */
    assert_true(n > 0 && memchr(text, 'V', (size_t)n));
    int old = TAKE_FD(f.fd);
    assert_true(call(&f, "console", "{}")); /* a second holder ends the first's session */
    while ((n = recv(old, text, sizeof text, 0)) > 0) {
    }
    assert_int_equal(n, 0);
    close(old);
    assert_int_equal(write(f.fd, "x", 1), 1);
    await(&f, "shutdown");
    assert_string_equal(f.reason, "guest-shutdown");
    AUTO_FREE char *log = xasprintf("%s/var/run/kubevirt-private/u1/virt-serial0-log", f.root);
    AUTO(buf_done) struct buf found = {0};
    assert_int_equal(file_read(AT_FDCWD, log, &found, &err), logged);
    assert_true(!logged || memchr(found.p, 'V', found.n));
    assert_int_equal(stop(&f, NULL), 0);
}

static void guest_talks_and_turns_off(void **state)
{
    (void)state;
    talk(DISK_VMI(""), true);
    talk(DISK_VMI("\"logSerialConsole\":false,"), false);
}

/* --- a VMM with a vsock of its own, played by its contract server: in its guest port 1024 gives back what it gets --- */

static const char *servers, *documents; /* arguments; NULL: none */

#define CH_VMI(more)                                                                               \
    "{\"metadata\":{\"name\":\"t\",\"namespace\":\"ns\",\"uid\":\"u1\",\"annotations\":{"          \
    "\"vireo.io/"                                                                                  \
    "vmm\":\"cloud-hypervisor\"}},\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"},"          \
    "\"firmware\":{\"kernelBoot\":{\"container\":{\"image\":\"i\",\"kernelPath\":\"/k\"}}},"       \
    "\"devices\":{" more "}}}}"

static void talks_by_vsock(void **state)
{
    static char tmp[] = "/tmp/launcher-vsock-XXXXXX";
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *old = xasprintf("%s", getenv("PATH"));
    AUTO_FREE char *to = xasprintf("%s/cloud-hypervisor", servers);
    AUTO_CLOSE int fd = -1;
    struct fixture f;
    char text[16] = "";

    (void)state;
    if (!documents || access(documents, R_OK) != 0) {
        print_message("needs the VMMs' documents in ../shared/data/vmm-api\n");
        skip();
    }
    assert_non_null(mkdtemp(tmp));
    AUTO_FREE char *link = xasprintf("%s/cloud-hypervisor", tmp);
    AUTO_FREE char *path = xasprintf("%s:%s", tmp, old);
    assert_int_equal(symlink(to, link), 0);
    setenv("PATH", path, 1);
    start(&f);
    setenv("PATH", old, 1);
    AUTO_FREE char *dir = xasprintf("%s/var/run/kubevirt/container-disks/kernel-boot", f.root);
    assert_true(file_make_dirs(AT_FDCWD, dir, 0755, &fd, &err));
    assert_true(file_write(fd, "k",
                           STR("\x7f"
                               "ELF and so on"),
                           0644, &err));

#define SYNC(vmi, more) "{\"vmi\":" vmi ",\"accelerator\":\"kvm\",\"nics\":[],\"disks\":[]" more "}"
    assert_false(call(&f, "vsock", "{\"port\":1024}"));
    assert_non_null(strstr(f.error, "has not been started"));
    /* The wish alone is not enough: who asks for the machine has to say what its vsock is called. */
    assert_false(
        call(&f, "sync", SYNC(CH_VMI("\"autoattachVSOCK\":true"), ",\"vsock\":{\"cid\":2}")));
    assert_non_null(strstr(f.error, "no context ID"));
    assert_false(call(&f, "sync",
                      SYNC(CH_VMI("\"autoattachVSOCK\":true"), ",\"vsock\":{\"cid\":7,\"fd\":0}")));
    assert_non_null(strstr(f.error, "a descriptor is named"));
    if (!call(&f, "sync", SYNC(CH_VMI("\"autoattachVSOCK\":true"), ",\"vsock\":{\"cid\":7}")))
        fail_msg("%s", f.error);
    if (!call(&f, "vsock", "{\"port\":1024}"))
        fail_msg("%s", f.error);
    assert_true(f.fd >= 0);
    assert_int_equal(write(f.fd, "over there", 10), 10);
    assert_int_equal(recv(f.fd, text, 10, MSG_WAITALL), 10);
    assert_string_equal(text, "over there");
    fd_close(&f.fd);
    assert_false(call(&f, "vsock", "{\"port\":9}"));
    assert_non_null(strstr(f.error, "nobody in the guest listens there"));
    assert_false(call(&f, "vsock", "{\"port\":4294967295}"));
    assert_non_null(strstr(f.error, "a number from 0 to 4294967294"));
    assert_false(call(&f, "vsock", "{}"));
    assert_true(call(&f, "kill", "{}"));
    assert_int_equal(stop(&f, NULL), 0);
    assert_true(file_remove_tree(AT_FDCWD, tmp, &err));
}

int main(int argc, char **argv)
{
    servers = argc > 2 ? argv[1] : NULL;
    documents = argc > 2 ? argv[2] : NULL;

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(life_of_a_machine),
        cmocka_unit_test(another_vmi_is_refused),
        cmocka_unit_test(failed_start_can_be_repeated),
        cmocka_unit_test(without_a_machine_shutdown_ends_it),
        cmocka_unit_test(killed_vmm_is_a_crash),
        cmocka_unit_test(killed_launcher_takes_the_vmm_along),
        cmocka_unit_test(guest_talks_and_turns_off),
        cmocka_unit_test(talks_by_vsock),
    };

    if (access("/usr/bin/qemu-system-x86_64", X_OK) != 0) {
        puts("skipped: qemu-system-x86_64 is not installed");
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
