/* The driver's life with a peer that answers as Firecracker's documents say, as far as a life needs it: this program itself,
 * found as "firecracker" in PATH, confined as the real one. It does by its descriptors what Firecracker does: it opens disks and
 * kernel by /proc/self/fd, attaches to taps by name, echoes its standard input. The strict judge of requests is
 * test/contract. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/base_test.h"
#include "base/file.h"
#include "vmm/firecracker/firecracker.h"

/* ---- the peer ---- */

struct peer {
    int listen_fd, log_fd, metrics_fd, requests_fd, vsock_fd;
    char script[1024]; /* what it shall do wrong, a word each: "refuse:/drives/disk0", "die:/vm", "silent:/vm", "busy" */
    char version[16];
    bool started;
    int busy;
    int taps[8], n_taps;
};

static bool scripted(const struct peer *p, const char *what, const char *path)
{
    char word[256];

    snprintf(word, sizeof word, "%s:%s ", what, path);
    return strstr(p->script, word) != NULL;
}

static void answer(int fd, unsigned status, const char *body)
{
    char text[2048];
    int n = snprintf(text, sizeof text, "HTTP/1.1 %u X\r\nServer: Firecracker API\r\nConnection: keep-alive\r\n%s%zu\r\n\r\n%s", status,
                     "Content-Length: ", strlen(body), body);

    if (write(fd, text, (size_t)n) != n)
        _exit(3);
}

static void fault(int fd, const char *message)
{
    char text[1024];

    snprintf(text, sizeof text, "{\"fault_message\":\"%s\"}", message);
    answer(fd, 400, text);
}

static bool can_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* As Firecracker's Tap::open_named does. */
static int attach(struct peer *p, struct str name)
{
    struct ifreq r = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), size = 12;

    if (p->busy-- > 0) {
        errno = EBUSY;
        return -1;
    }
    snprintf(r.ifr_name, sizeof r.ifr_name, STR_FMT, STR_ARG(name));
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) != 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) != 0
        || ioctl(fd, TUNSETOFFLOAD, (unsigned long)TUN_F_CSUM) != 0)
        return -1;
    p->taps[p->n_taps++] = fd;
    return 0;
}

static void write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, 1 << 20) != 0 || pwrite(fd, "state", 5, 4096) != 5)
        _exit(4);
    close(fd);
}

static void act(struct peer *p, int fd, struct str method, struct str path, const struct json *body)
{
    struct str action = json_str_at(body, "action_type");
    static const char metrics[] =
        "{\"utc_timestamp_ms\":1,\"block\":{\"read_bytes\":9},\"block_disk0\":{\"read_bytes\":100,\"write_bytes\":50,"
        "\"read_count\":3,\"write_count\":2,\"flush_count\":1,\"read_agg\":{\"min_us\":1,\"max_us\":2,\"sum_us\":7}},"
        "\"net_net0\":{\"rx_bytes_count\":11,\"tx_bytes_count\":12,\"rx_packets_count\":1,\"tx_packets_count\":2}}\n";

    if (str_is(path, "/version")) {
        char text[64];

        snprintf(text, sizeof text, "{\"firecracker_version\":\"%s\"}", p->version);
        answer(fd, 200, text);
        return;
    }
    if (str_is(path, "/balloon/statistics")) {
        answer(fd, 200, "{\"target_pages\":0,\"actual_pages\":0,\"target_mib\":16,\"actual_mib\":16,\"free_memory\":1000,"
                        "\"total_memory\":2000,\"available_memory\":1500}");
        return;
    }
    if (str_is(path, "/hotplug/memory") && str_is(method, "GET")) {
        answer(fd, 200, "{\"total_size_mib\":128,\"plugged_size_mib\":64,\"requested_size_mib\":64}");
        return;
    }
    if (str_is(path, "/boot-source")
        && (!can_open("/proc/self/fd/10", O_RDONLY)
            || (json_get(body, "initrd_path") && !can_open("/proc/self/fd/11", O_RDONLY)))) {
        fault(fd, "The kernel file cannot be opened");
        return;
    }
    if (str_starts(path, STR("/drives/"))) {
        AUTO_FREE char *at = str_dup(json_str_at(body, "path_on_host"));

        if (!can_open(at, json_bool_at(body, "is_read_only", false) ? O_RDONLY : O_RDWR)) {
            fault(fd, "Unable to open the backing file");
            return;
        }
    }
    if (str_starts(path, STR("/network-interfaces/")) && attach(p, json_str_at(body, "host_dev_name")) != 0) {
        fault(fd, errno == EBUSY ? "Open tap device failed: Resource busy (os error 16)" : "Open tap device failed");
        return;
    }
    if (str_is(path, "/vsock")) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};

        memcpy(at.sun_path, json_str_at(body, "uds_path").p, json_str_at(body, "uds_path").n);
        p->vsock_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(p->vsock_fd, (const struct sockaddr *)&at, sizeof at) != 0 || listen(p->vsock_fd, 4) != 0) {
            fault(fd, "Cannot bind the vsock");
            return;
        }
    }
    if (str_is(path, "/snapshot/create")) {
        AUTO_FREE char *state = str_dup(json_str_at(body, "snapshot_path"));
        AUTO_FREE char *memory = str_dup(json_str_at(body, "mem_file_path"));

        write_file(state);
        write_file(memory);
    }
    if (str_is(path, "/snapshot/load")
        && (!can_open("/proc/self/fd/4", O_RDONLY) || !can_open("/proc/self/fd/5", O_RDONLY))) {
        fault(fd, "Cannot open the snapshot");
        return;
    }
    if (str_is(action, "InstanceStart")) {
        p->started = true;
        if (write(1, "boot\n", 5) != 5)
            _exit(5);
    }
    if (str_is(action, "FlushMetrics") && write(p->metrics_fd, metrics, sizeof metrics - 1) < 0)
        _exit(6);
    answer(fd, 204, "");
    if (str_is(action, "SendCtrlAltDel") && p->started && !scripted(p, "deaf", "/actions"))
        _exit(0);
}

static void serve(struct peer *p, int fd)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *body = NULL;
    char text[8192] = "", word[256];
    size_t n = 0;
    char *end = NULL, *length;
    struct str method, path, rest;

    while (!end || n < (size_t)(end + 4 - text) + (size_t)((length = strstr(text, "ength: ")) ? strtol(length + 7, NULL, 10) : 0)) {
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);

        if (got <= 0)
            return;
        n += (size_t)got;
        text[n] = '\0';
        end = strstr(text, "\r\n\r\n");
    }
    str_cut(str_of(text), ' ', &method, &rest);
    str_cut(rest, ' ', &path, &rest);
    if (end[4] && !json_parse(str_of(end + 4), &a, &body, &err))
        _exit(7);
    dprintf(p->requests_fd, STR_FMT " " STR_FMT " %s\n", STR_ARG(method), STR_ARG(path), end + 4);
    snprintf(word, sizeof word, STR_FMT, STR_ARG(path));
    if (scripted(p, "die", word)) {
        dprintf(p->log_fd, "I die here\n");
        _exit(148);
    }
    if (scripted(p, "silent", word))
        return;
    if (scripted(p, "refuse", word)) {
        fault(fd, "no\\nsuch thing");
        return;
    }
    act(p, fd, method, path, body);
}

static const char *option(char **argv, const char *name)
{
    for (; *argv; argv++)
        if (strcmp(*argv, name) == 0)
            return argv[1];
    return "";
}

static int play(char **argv)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct peer p = {.vsock_fd = -1};
    char *busy;
    int fd;

    if (argv[1] && strcmp(argv[1], "--version") == 0) {
        puts("Firecracker v1.16.1\n");
        return 0;
    }
    fd = open("script", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, p.script, sizeof p.script - 1) < 0)
        return 8;
    snprintf(p.version, sizeof p.version, "%s", strstr(p.script, "old ") ? "1.9.1" : strstr(p.script, "ancient ") ? "0.25.2" : "1.16.1");
    busy = strstr(p.script, "busy:");
    p.busy = busy ? (int)strtol(busy + 5, NULL, 10) : 0;
    p.requests_fd = open("requests", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    p.log_fd = open(option(argv, "--log-path"), O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);
    p.metrics_fd = open(option(argv, "--metrics-path"), O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", option(argv, "--api-sock"));
    p.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p.requests_fd < 0 || p.log_fd < 0 || p.metrics_fd < 0 || scripted(&p, "die", "start"))
        return 9;
    if (bind(p.listen_fd, (const struct sockaddr *)&at, sizeof at) != 0 || listen(p.listen_fd, 8) != 0)
        return 10;
    fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
    for (;;) {
        struct pollfd fds[] = {{p.listen_fd, POLLIN, 0}, {0, POLLIN, 0}, {p.vsock_fd, POLLIN, 0}};
        char text[256];
        ssize_t n;

        poll(fds, p.vsock_fd >= 0 ? 3 : 2, -1);
        if (fds[1].revents) {
            n = read(0, text, sizeof text);
            if (n <= 0)
                fcntl(0, F_SETFL, 0);
            if (n > 0 && memchr(text, 'R', (size_t)n))
                _exit(0); /* the guest resets itself */
            if (n > 0 && write(1, text, (size_t)n) < 0)
                _exit(11);
        }
        if (p.vsock_fd >= 0 && fds[2].revents) {
            fd = accept(p.vsock_fd, NULL, NULL);
            n = read(fd, text, sizeof text - 1);
            if (n == 13 && memcmp(text, "CONNECT 1024\n", 13) == 0)
                dprintf(fd, "OK 1073741824\nhello");
            close(fd);
        }
        if (fds[0].revents) {
            fd = accept4(p.listen_fd, NULL, NULL, SOCK_CLOEXEC);
            serve(&p, fd);
            if (scripted(&p, "silent", "/vm") && p.started)
                continue; /* holds the connection */
            close(fd);
        }
    }
}

/* ---- the machine under test ---- */

struct fixture {
    struct arena a;
    struct error err;
    struct loop *loop;
    struct vmm *vmm;
    struct vmm_machine m;
    struct vmm_disk disks[2];
    struct vmm_nic nic;
    char dir[64];
    int dir_fd, place_fd, tap, serial, told;
};

static void changed(void *user)
{
    ((struct fixture *)user)->told++;
}

static void put_file(int dir, const char *name, const void *p, size_t n, int *ret_fd)
{
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), (ssize_t)n);
    if (ret_fd)
        *ret_fd = fd;
    else
        close(fd);
}

#define PLAIN                                                                                                                    \
    "\"cpu\":{\"cores\":2},\"memory\":{\"guest\":\"64Mi\"},\"devices\":{\"disks\":[{\"name\":\"root-disk\",\"disk\":{\"bus\":"   \
    "\"virtio\"}},{\"name\":\"data\",\"disk\":{\"bus\":\"virtio\",\"readonly\":true}}],\"rng\":{}}"
static const unsigned char elf[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1, [18] = 62};

static void prepare(struct fixture *f, const char *domain, const char *script)
{
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(&f->a, struct kv_virtual_machine_instance);
    struct vmm_listener listener = {.changed = changed, .user = f};
    const struct json *v;
    char path[128], self[256];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    assert_true(n > 0);
    self[n] = '\0';
    snprintf(f->dir, sizeof f->dir, "/tmp/vireo-fc-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "%s/firecracker", f->dir);
    assert_int_equal(mkdirat(f->dir_fd, "bin", 0755), 0);
    assert_int_equal(mkdirat(f->dir_fd, "private", 0755), 0);
    assert_int_equal(mkdirat(f->dir_fd, "private/firecracker", 0755), 0);
    assert_int_equal(symlinkat(self, f->dir_fd, "bin/firecracker"), 0);
    AUTO_FREE char *search = xasprintf("%s/bin", f->dir);
    setenv("PATH", search, 1);
    f->place_fd = openat(f->dir_fd, "private/firecracker", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put_file(f->place_fd, "script", script, strlen(script), NULL);
    AUTO_FREE char *text = xasprintf("{\"metadata\":{\"name\":\"n\",\"namespace\":\"ns\",\"uid\":\"u-1\"},\"spec\":{%s}}", domain);
    assert_true(json_parse(str_of(text), &f->a, &v, &f->err));
    v = json_copy(&f->a, v);
    if (!schema_decode(&schema_type_kv_virtual_machine_instance, v, &f->a, vmi, &f->err))
        fail_msg("%s", error_text(&f->err));
    f->loop = loop_new(NULL);
    f->vmm = vmm_new(&vmm_firecracker, f->loop, &listener);
    f->serial = f->tap = -1;
    f->m = (struct vmm_machine){.vmi = vmi, .accelerator = VMM_KVM, .disks = f->disks, .n_disks = 2, .nics = &f->nic,
                                .initrd_fd = -1, .vhost_vsock_fd = -1};
    f->disks[0] = (struct vmm_disk){.name = STR("root-disk"), .format = "raw", .backing_fd = -1};
    f->disks[1] = (struct vmm_disk){.name = STR("data"), .format = "raw", .backing_fd = -1};
    put_file(f->dir_fd, "vmlinux", elf, sizeof elf, &f->m.kernel_fd);
    put_file(f->dir_fd, "root", "r", 1, &f->disks[0].fd);
    put_file(f->dir_fd, "data", "d", 1, &f->disks[1].fd);
    f->m.private_dirfd = openat(f->dir_fd, "private", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->m.private_dir = arena_printf(&f->a, "%s/private", f->dir);
}

static void start(struct fixture *f)
{
    if (!vmm_start(f->vmm, &f->m, &f->err))
        fail_msg("%s", error_text(&f->err));
    fd_close(&f->disks[0].fd); /* borrowed for the call only */
    fd_close(&f->disks[1].fd);
    fd_close(&f->m.kernel_fd);
}

static void done(struct fixture *f)
{
    AUTO(error_clear) struct error err = {0};

    vmm_free(f->vmm);
    loop_turn(f->loop, MILLIS(20));
    loop_free(f->loop);
    fd_close(&f->serial);
    fd_close(&f->tap);
    fd_close(&f->disks[0].fd);
    fd_close(&f->disks[1].fd);
    fd_close(&f->m.kernel_fd);
    fd_close(&f->m.private_dirfd);
    fd_close(&f->place_fd);
    fd_close(&f->dir_fd);
    arena_done(&f->a);
    error_clear(&f->err);
    assert_true(file_remove_tree(AT_FDCWD, f->dir, &err));
}

/* Turns the loop until the state is that. */
static void await(struct fixture *f, enum vmm_state wanted)
{
    for (int i = 0; i < 400 && vmm_status(f->vmm)->state != wanted; i++)
        loop_turn(f->loop, MILLIS(20));
    if (vmm_status(f->vmm)->state != wanted)
        fail_msg("%s, not %s: %s", vmm_state_name(vmm_status(f->vmm)->state), vmm_state_name(wanted), vmm_status(f->vmm)->message);
}

static void await_text(struct fixture *f, const char *wanted)
{
    char text[256] = "";
    size_t n = 0;

    for (int i = 0; i < 400 && !strstr(text, wanted); i++) {
        loop_turn(f->loop, MILLIS(10));
        ssize_t got = recv(f->serial, text + n, sizeof text - 1 - n, MSG_DONTWAIT);
        n += got > 0 ? (size_t)got : 0;
        text[n] = '\0';
    }
    if (!strstr(text, wanted))
        fail_msg("the console says '%s', not '%s'", text, wanted);
}

static char *requests(struct fixture *f)
{
    AUTO(buf_done) struct buf b = {0};

    assert_true(file_read(f->place_fd, "requests", &b, &f->err));
    return buf_detach(&b);
}

static int lines(const char *text, const char *begin)
{
    int n = 0;

    for (const char *p = text; (p = strstr(p, begin)); p += strlen(begin))
        n += p == text || p[-1] == '\n';
    return n;
}

/* ---- what it does ---- */

static void a_machine_starts_in_the_documented_order_and_ends_at_once(void **state)
{
    static const char wanted[] =
        "GET /version \n"
        "PUT /machine-config {\"vcpu_count\":2,\"mem_size_mib\":64,\"smt\":false,\"track_dirty_pages\":false}\n"
        "PUT /boot-source {\"kernel_image_path\":\"/proc/self/fd/10\",\"boot_args\":\"console=ttyS0 reboot=k panic=1 i8042.noaux "
        "i8042.nomux i8042.dumbkbd\"}\n"
        "PUT /drives/disk0 {\"drive_id\":\"disk0\",\"path_on_host\":\"/proc/self/fd/12\",\"is_root_device\":true,\"is_read_only\":"
        "false,\"cache_type\":\"Writeback\",\"io_engine\":\"Sync\"}\n"
        "PUT /drives/disk1 {\"drive_id\":\"disk1\",\"path_on_host\":\"/proc/self/fd/13\",\"is_root_device\":false,\"is_read_only\":"
        "true,\"cache_type\":\"Writeback\",\"io_engine\":\"Sync\"}\n"
        "PUT /balloon {\"amount_mib\":0,\"deflate_on_oom\":true,\"stats_polling_interval_s\":10}\n"
        "PUT /entropy {}\n"
        "PUT /actions {\"action_type\":\"InstanceStart\"}\n";
    AUTO(done) struct fixture f = {0};

    (void)state;
    prepare(&f, "\"domain\":{" PLAIN "}", "");
    start(&f);
    assert_int_equal(vmm_status(f.vmm)->state, VMM_RUNNING);
    assert_true(vmm_status(f.vmm)->pid > 0);
    AUTO_FREE char *asked = requests(&f);
    assert_string_equal(asked, wanted);
    vmm_kill(f.vmm, true);
    await(&f, VMM_SHUTDOWN);
    assert_int_equal(vmm_status(f.vmm)->reason, VMM_REASON_DESTROYED);
    assert_int_equal(faccessat(f.place_fd, FC_SOCKET, F_OK, 0), -1);
}

static void the_console_carries_both_ways_and_outlives_a_reboot(void **state)
{
    AUTO(done) struct fixture f = {0};

    (void)state;
    prepare(&f, "\"domain\":{" PLAIN "}", "");
    start(&f);
    assert_true(vmm_open_stream(f.vmm, VMM_STREAM_SERIAL, &f.serial, &f.err));
    await_text(&f, "boot\n");
    assert_int_equal(send(f.serial, "echo", 4, 0), 4);
    await_text(&f, "echo");
    pid_t before = vmm_status(f.vmm)->pid;
    assert_int_equal(send(f.serial, "R", 1, 0), 1);
    await_text(&f, "boot\n");
    assert_int_equal(vmm_status(f.vmm)->state, VMM_RUNNING);
    assert_int_equal(vmm_status(f.vmm)->reboots, 1);
    assert_int_not_equal(vmm_status(f.vmm)->pid, before);
    assert_int_equal(send(f.serial, "again", 5, 0), 5);
    await_text(&f, "again");
    AUTO_FREE char *asked = requests(&f);
    assert_int_equal(lines(asked, "PUT /drives/disk0 "), 2);
    assert_false(vmm_open_stream(f.vmm, VMM_STREAM_SERIAL, &f.told, &f.err));
    error_clear(&f.err);
    assert_false(vmm_open_stream(f.vmm, VMM_STREAM_AGENT, &f.told, &f.err));
    assert_int_equal(f.err.kind, ERROR_UNSUPPORTED);
}

static void a_guest_that_resets_itself_is_off_where_it_shall_not_reboot_or_we_asked(void **state)
{
    static const struct {
        const char *policy;
        bool ask;
        enum vmm_reason reason;
    } cases[] = {{"\"rebootPolicy\":\"Terminate\",", false, VMM_REASON_GUEST_SHUTDOWN},
                 {"", true, VMM_REASON_HOST_SHUTDOWN},
                 {"\"rebootPolicy\":\"Reboot\",", true, VMM_REASON_HOST_SHUTDOWN}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(done) struct fixture f = {0};
        AUTO_FREE char *domain = xasprintf("\"domain\":{%s" PLAIN "}", cases[i].policy);

        prepare(&f, domain, "");
        start(&f);
        if (cases[i].ask) {
            assert_true(vmm_powerdown(f.vmm, &f.err));
        } else {
            assert_true(vmm_open_stream(f.vmm, VMM_STREAM_SERIAL, &f.serial, &f.err));
            assert_int_equal(send(f.serial, "R", 1, 0), 1);
        }
        await(&f, VMM_SHUTDOWN);
        assert_int_equal(vmm_status(f.vmm)->reason, cases[i].reason);
        assert_int_equal(vmm_status(f.vmm)->pid, 0);
    }
}

static void pause_resume_reset_and_soft_reboot(void **state)
{
    AUTO(done) struct fixture f = {0};

    (void)state;
    prepare(&f, "\"startStrategy\":\"Paused\",\"domain\":{" PLAIN "}", "");
    start(&f);
    assert_int_equal(vmm_status(f.vmm)->state, VMM_PAUSED);
    assert_true(vmm_open_stream(f.vmm, VMM_STREAM_SERIAL, &f.serial, &f.err));
    assert_true(vmm_resume(f.vmm, &f.err)); /* only now it boots */
    await_text(&f, "boot\n");
    assert_true(vmm_pause(f.vmm, &f.err));
    assert_int_equal(vmm_status(f.vmm)->state, VMM_PAUSED);
    assert_true(vmm_resume(f.vmm, &f.err));
    assert_int_equal(vmm_status(f.vmm)->state, VMM_RUNNING);
    assert_true(vmm_reset(f.vmm, &f.err));
    await_text(&f, "boot\n");
    assert_true(vmm_soft_reboot(f.vmm, &f.err));
    await_text(&f, "boot\n");
    assert_int_equal(vmm_status(f.vmm)->state, VMM_RUNNING);
    assert_int_equal(vmm_status(f.vmm)->reboots, 2);
    AUTO_FREE char *asked = requests(&f);
    assert_int_equal(lines(asked, "PATCH /vm {\"state\":\"Paused\"}\n"), 1);
    assert_int_equal(lines(asked, "PATCH /vm {\"state\":\"Resumed\"}\n"), 1);
    assert_int_equal(lines(asked, "PUT /actions {\"action_type\":\"SendCtrlAltDel\"}\n"), 1);
}

static void a_reboot_can_be_stopped_before_it_happens(void **state)
{
    AUTO(done) struct fixture f = {0};

    (void)state;
    prepare(&f, "\"domain\":{" PLAIN "}", "");
    start(&f);
    assert_true(vmm_reset(f.vmm, &f.err));
    for (int i = 0; i < 100 && vmm_status(f.vmm)->pid > 0; i++)
        loop_turn(f.loop, MILLIS(10));
    assert_int_equal(vmm_status(f.vmm)->pid, 0); /* it waits: the guest had lived less than a second */
    assert_false(vmm_pause(f.vmm, &f.err));
    vmm_kill(f.vmm, false);
    await(&f, VMM_SHUTDOWN);
}

static void what_goes_wrong_at_the_start_is_said(void **state)
{
    static const struct {
        const char *script, *error;
    } cases[] = {
        {"die:start ", "exit"},
        {"refuse:/drives/disk0 ", "disk 'root-disk': Firecracker refuses: no such thing"},
        {"die:/boot-source ", "I die here"},
        {"die:/actions ", "I die here"},
        {"ancient ", "Firecracker 0.25 is too old"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(done) struct fixture f = {0};

        prepare(&f, "\"domain\":{" PLAIN "}", cases[i].script);
        assert_false(vmm_start(f.vmm, &f.m, &f.err));
        if (i > 0 && !strstr(f.err.msg, cases[i].error))
            fail_msg("%s: %s", cases[i].script, f.err.msg);
        assert_int_equal(vmm_status(f.vmm)->state, VMM_CRASHED);
        assert_int_equal(vmm_status(f.vmm)->reason, VMM_REASON_START_FAILED);
        loop_turn(f.loop, MILLIS(50));
        assert_int_equal(vmm_status(f.vmm)->reason, VMM_REASON_START_FAILED);
    }
}

static void a_death_and_a_refusal_while_it_runs(void **state)
{
    AUTO(done) struct fixture f = {0};

    (void)state;
    prepare(&f, "\"domain\":{" PLAIN "}", "die:/vm ");
    start(&f);
    assert_false(vmm_pause(f.vmm, &f.err));
    assert_int_equal(f.err.kind, ERROR_UNAVAILABLE);
    await(&f, VMM_CRASHED);
    assert_int_equal(vmm_status(f.vmm)->reason, VMM_REASON_VMM_KILLED);
    assert_non_null(strstr(vmm_status(f.vmm)->message, "I die here"));
    assert_non_null(strstr(vmm_status(f.vmm)->message, "seccomp")); /* what 148 means */
}

static void counters_add_up_over_all_boots(void **state)
{
    AUTO(done) struct fixture f = {0};
    struct vmm_stats *s = ARENA_NEW(&f.a, struct vmm_stats);

    (void)state;
    prepare(&f, "\"domain\":{" PLAIN "}", "");
    start(&f);
    assert_true(vmm_read_stats(f.vmm, s, &f.err));
    assert_int_equal(s->n_block, 2);
    assert_string_equal(s->block[0].name, "root-disk");
    assert_int_equal(s->block[0].read_bytes, 100);
    assert_int_equal(s->block[0].read_ns, 7000);
    assert_true(vmm_read_stats(f.vmm, s, &f.err));
    assert_int_equal(s->block[0].read_bytes, 200);
    assert_int_equal(s->block[0].flush_ops, 2);
    assert_int_equal(s->block[1].read_bytes, 0);
    assert_int_equal(s->vcpus, 2);
    assert_int_equal(s->guest_bytes, 48 << 20);
    assert_int_equal(s->guest_total, 2000);
    assert_int_equal(s->guest_available, 1500);
    assert_true(s->resident_bytes > 0);
    assert_true(vmm_set_balloon(f.vmm, 32 << 20, &f.err));
    assert_false(vmm_set_memory(f.vmm, 96 << 20, &f.err)); /* no maxGuest */
    AUTO_FREE char *asked = requests(&f);
    assert_int_equal(lines(asked, "PATCH /balloon {\"amount_mib\":32}\n"), 1);
}

static void memory_is_plugged_where_it_was_declared(void **state)
{
    AUTO(done) struct fixture f = {0};

    (void)state;
    prepare(&f, "\"domain\":{\"memory\":{\"guest\":\"64Mi\",\"maxGuest\":\"192Mi\"},\"devices\":{}}", "");
    f.m.n_disks = 0;
    start(&f);
    assert_true(vmm_set_memory(f.vmm, 128 << 20, &f.err));
    error_clear(&f.err);
    assert_false(vmm_set_memory(f.vmm, 256 << 20, &f.err));
    AUTO_FREE char *asked = requests(&f);
    assert_int_equal(lines(asked, "PUT /hotplug/memory {\"total_size_mib\":128,\"block_size_mib\":2,\"slot_size_mib\":128}\n"), 1);
    assert_int_equal(lines(asked, "PATCH /hotplug/memory {\"requested_size_mib\":64}\n"), 1);
}

static void an_old_one_says_what_it_lacks(void **state)
{
    AUTO(done) struct fixture f = {0};

    (void)state;
    prepare(&f, "\"domain\":{\"memory\":{\"guest\":\"64Mi\",\"maxGuest\":\"192Mi\"},\"devices\":{}}", "old ");
    f.m.n_disks = 0;
    assert_false(vmm_start(f.vmm, &f.m, &f.err));
    assert_non_null(strstr(f.err.msg, "spec.domain.memory.maxGuest needs Firecracker 1.14, and this node has 1.9"));
}

static void vsock_leads_to_the_guest(void **state)
{
    AUTO(done) struct fixture f = {0};
    char text[6] = "";

    (void)state;
    prepare(&f, "\"domain\":{" PLAIN "}", "");
    f.m.vsock_cid = 7;
    start(&f);
    assert_true(vmm_vsock_connect(f.vmm, 1024, &f.serial, &f.err));
    assert_int_equal(recv(f.serial, text, 5, MSG_WAITALL), 5);
    assert_string_equal(text, "hello");
}

static void a_snapshot_is_written_and_loaded(void **state)
{
    AUTO(done) struct fixture f = {0};
    AUTO(done) struct fixture g = {0};
    AUTO_FREE char *dir = NULL;

    (void)state;
    prepare(&f, "\"domain\":{" PLAIN "}", "");
    start(&f);
    assert_int_equal(mkdirat(f.dir_fd, "snapshot", 0700), 0);
    dir = xasprintf("%s/snapshot", f.dir);
    assert_false(vmm_snapshot(f.vmm, dir, &f.err)); /* not paused */
    error_clear(&f.err);
    assert_true(vmm_pause(f.vmm, &f.err));
    if (!vmm_snapshot(f.vmm, dir, &f.err))
        fail_msg("%s", error_text(&f.err));
    assert_int_equal(faccessat(f.dir_fd, "snapshot/vmstate", R_OK, 0), 0);
    assert_int_equal(faccessat(f.dir_fd, "snapshot/memory", R_OK, 0), 0);
    assert_int_equal(faccessat(f.place_fd, "memory", F_OK, 0), -1);
    assert_int_equal(vmm_status(f.vmm)->state, VMM_PAUSED);

    prepare(&g, "\"domain\":{" PLAIN "}", "");
    g.m.restore_dir = dir;
    start(&g);
    assert_int_equal(vmm_status(g.vmm)->state, VMM_PAUSED);
    assert_true(vmm_resume(g.vmm, &g.err));
    AUTO_FREE char *asked = requests(&g);
    assert_string_equal(asked, "PUT /snapshot/load {\"snapshot_path\":\"/proc/self/fd/4\",\"mem_backend\":{\"backend_type\":\"File\","
                               "\"backend_path\":\"/proc/self/fd/5\"},\"resume_vm\":false}\n"
                               "PATCH /vm {\"state\":\"Resumed\"}\n");
}

/* A tap as the agent makes it, and a confined process that takes it by its name; again after a reboot; and once more where
 * another holder is late in letting go. */
static void a_tap_is_handed_over_by_name(void **state)
{
    struct ifreq r = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)};
    AUTO(done) struct fixture f = {0};
    struct vmm_stats *s = ARENA_NEW(&f.a, struct vmm_stats);

    (void)state;
    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0 || unshare(CLONE_NEWNET) != 0) {
        puts("skipped: no right to make taps");
        prepare(&f, "\"domain\":{" PLAIN "}", "");
        return;
    }
    prepare(&f,
            "\"domain\":{\"memory\":{\"guest\":\"64Mi\"},\"devices\":{\"interfaces\":[{\"name\":\"default\",\"masquerade\":{}}]}},"
            "\"networks\":[{\"name\":\"default\",\"pod\":{}}]",
            "busy:3 ");
    snprintf(r.ifr_name, sizeof r.ifr_name, "tap0");
    f.tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    assert_int_equal(ioctl(f.tap, TUNSETIFF, &r), 0);
    f.nic = (struct vmm_nic){.name = STR("default"), .fds = &f.tap, .n_fds = 1, .mac = STR("02:00:00:00:00:01"), .mtu = 1450};
    f.m.n_nics = 1;
    f.m.n_disks = 0;
    start(&f);
    assert_int_not_equal(ioctl(f.tap, TUNGETIFF, &r), 0); /* ours is let go of */
    assert_true(vmm_read_stats(f.vmm, s, &f.err));
    assert_int_equal(s->net[0].read_bytes, 11);
    assert_string_equal(s->net[0].name, "default");
    assert_true(vmm_reset(f.vmm, &f.err));
    assert_true(vmm_open_stream(f.vmm, VMM_STREAM_SERIAL, &f.serial, &f.err));
    await_text(&f, "boot\nboot\n");
    AUTO_FREE char *asked = requests(&f);
    assert_int_equal(lines(asked, "PUT /network-interfaces/net0 {\"iface_id\":\"net0\",\"host_dev_name\":\"tap0\",\"guest_mac\":"
                                  "\"02:00:00:00:00:01\",\"mtu\":1450}\n"),
                     8); /* three times busy, each boot */
}

static void the_probe_reads_the_version(void **state)
{
    AUTO(done) struct fixture f = {0};
    struct vmm_version v = {0};

    (void)state;
    prepare(&f, "\"domain\":{" PLAIN "}", "");
    assert_true(vmm_firecracker.probe(&v, &f.err));
    assert_int_equal(v.major, 1);
    assert_int_equal(v.minor, 16);
    assert_true(v.kvm && !v.tcg);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machine_starts_in_the_documented_order_and_ends_at_once),
        cmocka_unit_test(the_console_carries_both_ways_and_outlives_a_reboot),
        cmocka_unit_test(a_guest_that_resets_itself_is_off_where_it_shall_not_reboot_or_we_asked),
        cmocka_unit_test(pause_resume_reset_and_soft_reboot),
        cmocka_unit_test(a_reboot_can_be_stopped_before_it_happens),
        cmocka_unit_test(what_goes_wrong_at_the_start_is_said),
        cmocka_unit_test(a_death_and_a_refusal_while_it_runs),
        cmocka_unit_test(counters_add_up_over_all_boots),
        cmocka_unit_test(memory_is_plugged_where_it_was_declared),
        cmocka_unit_test(an_old_one_says_what_it_lacks),
        cmocka_unit_test(vsock_leads_to_the_guest),
        cmocka_unit_test(a_snapshot_is_written_and_loaded),
        cmocka_unit_test(a_tap_is_handed_over_by_name),
        cmocka_unit_test(the_probe_reads_the_version),
    };

    if (argc > 0 && strcmp(argv[0], "firecracker") == 0)
        return play(argv);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
