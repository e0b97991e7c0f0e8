#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int64_t bench_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- what is left over ---- */

static size_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n - 1; /* but its own */
}

/* Children of this process, zombies too. */
static size_t count_children(struct buf *names)
{
    DIR *d = opendir("/proc");
    size_t n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[300], text[512] = "", *end;
        int fd, parent = 0;
        ssize_t got;

        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        got = read(fd, text, sizeof text - 1);
        close(fd);
        if (got <= 0)
            continue;
        text[got] = 0;
        end = strrchr(text, ')');
        if (!end || sscanf(end, ") %*c %d", &parent) != 1 || parent != getpid())
            continue;
        n++;
        buf_addf(names, " %.40s", text);
    }
    closedir(d);
    return n;
}

static void describe_fds(void)
{
    for (int fd = 3; fd < 200; fd++) {
        char link[64], text[256];
        ssize_t n;

        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, text, sizeof text - 1);
        if (n > 0) {
            text[n] = 0;
            print_message("  open: %d %s\n", fd, text);
        }
    }
}

/* ---- the book of the contract servers ---- */

static void sync_book(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX}, self = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char word[8];
    struct pollfd p = {fd, POLLIN, 0};

    snprintf(to.sun_path, sizeof to.sun_path, "%s/book", bench_dir);
    snprintf(self.sun_path, sizeof self.sun_path, "%s/sync", bench_dir);
    unlink(self.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&self, sizeof self), 0);
    assert_int_equal(sendto(fd, "sync", 4, 0, (struct sockaddr *)&to, sizeof to), 4);
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_true(recv(fd, word, sizeof word, 0) > 0);
    close(fd);
    unlink(self.sun_path);
}

/* With VIREO_RECORD=FOLDER: the requests of a scenario in which nothing was wrong on purpose, for mutate.py. */
static void record(struct bench *b)
{
    static unsigned n;
    const char *folder = getenv("VIREO_RECORD");
    AUTO_FREE char *from = xasprintf("%s/requests", bench_dir);
    AUTO_FREE char *to = folder ? xasprintf("%s/%s-%03u.jsonl", folder, b->s->driver->name, n++) : NULL;
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};

    buf_init(&text, 8u << 20);
    if (to && !b->may_err && !b->faulty && file_read(AT_FDCWD, from, &text, &err)
        && !file_write(AT_FDCWD, to, buf_str(&text), 0644, &err))
        fail_msg("%s", error_text(&err));
    unlink(from);
}

void bench_violations(struct bench *b, struct buf *ret)
{
    AUTO_CLOSE int dir = open(bench_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO(error_clear) struct error err = {0};

    buf_init(ret, 1u << 20);
    sync_book();
    record(b);
    if (file_read(dir, "violations", ret, &err))
        unlinkat(dir, "violations", 0);
}

static void read_violations(struct bench *b)
{
    AUTO(buf_done) struct buf text = {0};

    if (!b->s->pretended)
        return;
    bench_violations(b, &text);
    if (text.n > 0 && !b->may_err)
        fail_msg("the contract server was asked wrongly:\n%.*s", (int)text.n, text.p);
}

void bench_judge(struct bench *b)
{
    read_violations(b);
    b->may_err = true;
}

void bench_forget(void)
{
    AUTO_FREE char *path = xasprintf("%s/violations", bench_dir);

    unlink(path);
}

void bench_faults(const char *json)
{
    AUTO_CLOSE int dir = open(bench_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(error_clear) struct error err = {0};

    if (!file_write(dir, "faults", str_of(json), 0644, &err))
        fail_msg("%s", error_text(&err));
}

const struct json *bench_config(struct bench *b)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO_CLOSE int dir = open(bench_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO(error_clear) struct error err = {0};
    struct str rest, line, last = STR_NONE;
    const struct json *v = NULL;

    sync_book();
    buf_init(&text, 4u << 20);
    if (!file_read(dir, "config", &text, &err))
        fail_msg("%s", error_text(&err));
    rest = buf_str(&text);
    while (str_next(&rest, '\n', &line))
        if (line.n)
            last = line;
    if (!json_parse(last, &b->a, &v, &err))
        fail_msg("the book: %s", error_text(&err));
    return json_get(v, "config");
}

/* ---- a bench ---- */

static void changed(void *user)
{
    struct bench *b = user;

    b->changes++;
    if (b->vmm)
        b->last = *vmm_status(b->vmm);
}

static void device_gone(void *user, enum vmm_device_kind kind, struct str name, bool kept)
{
    struct bench *b = user;

    (void)kind;
    (void)name;
    b->gone++;
    b->kept = kept;
}

void bench_init(struct bench *b, const struct subject *s)
{
    AUTO(buf_done) struct buf names = {0};
    struct vmm_listener l = {.changed = changed, .user = b, .device_gone = device_gone};

    memset(b, 0, sizeof *b);
    b->s = s;
    b->fds_before = count_fds();
    b->children_before = count_children(&names);
    b->serial_fd = -1;
    b->nic_fds[0] = -1;
    snprintf(b->dir, sizeof b->dir, "/tmp/vireo-bench-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->dirfd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    b->loop = loop_new(NULL);
    b->vmm = vmm_new(s->driver, b->loop, &l);
}

void bench_done(struct bench *b)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf names = {0};
    size_t children;

    if (vmm_alive(b->vmm)) {
        vmm_kill(b->vmm, true);
        for (int64_t until = bench_now_ms() + 10000; vmm_alive(b->vmm) && bench_now_ms() < until;)
            loop_turn(b->loop, MILLIS(20));
        assert_false(vmm_alive(b->vmm));
    }
    vmm_free(b->vmm);
    b->vmm = NULL;
    for (int i = 0; i < 200 && count_children(&names) > b->children_before; i++) /* the loop collects what ends last */
        loop_turn(b->loop, MILLIS(10));
    buf_clear(&names);
    if (b->serial_fd >= 0)
        close(b->serial_fd);
    loop_free(b->loop);
    for (size_t i = 0; i < b->n_fds; i++)
        close(b->fds[i]);
    close(b->dirfd);
    if (!file_remove_tree(AT_FDCWD, b->dir, &err))
        fail_msg("%s", error_text(&err));
    buf_done(&b->serial);
    error_clear(&b->err);
    arena_done(&b->a);
    buf_clear(&names);
    children = count_children(&names);
    if (children > b->children_before)
        fail_msg("processes are left:%.*s", (int)names.n, names.p);
    if (b->fds_before > 0 && count_fds() != b->fds_before) {
        describe_fds();
        fail_msg("%zu descriptors are open that were not before", count_fds() - b->fds_before);
    }
    read_violations(b);
}

int bench_keep(struct bench *b, int fd)
{
    assert_true(fd >= 0);
    assert_true(b->n_fds < ARRAY_SIZE(b->fds));
    b->fds[b->n_fds++] = fd;
    return fd;
}

int bench_image(struct bench *b, const char *name, size_t bytes)
{
    int fd = bench_keep(b, openat(b->dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600));

    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

/* A tap that stays when its descriptor is handed on; -1 without the right to make one. */
static int make_tap(void)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return -1;
    snprintf(r.ifr_name, sizeof r.ifr_name, "vc%%d");
    if (ioctl(fd, TUNSETIFF, &r) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int bench_tap(struct bench *b)
{
    int fd = make_tap();

    if (fd < 0) {
        print_message("  needs the right to make a tap\n");
        bench_done(b);
        skip();
    }
    return bench_keep(b, fd);
}

static void add_disk(struct bench *b, const char *name, bool read_only)
{
    int fd = bench_image(b, name, 1u << 20);

    if (read_only)
        fd = bench_keep(b, openat(b->dirfd, name, O_RDONLY | O_CLOEXEC));
    b->disks[b->n_disks++] =
        (struct vmm_disk){.name = str_of(name), .fd = fd, .format = "raw", .backing_fd = -1, .read_only = read_only};
}

static void build_spec(struct bench *b, const struct wish *w)
{
    AUTO(buf_done) struct buf t = {0};
    const struct json *v;
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(&b->a, struct kv_virtual_machine_instance);

    buf_addf(&t,
             "{\"metadata\":{\"name\":\"n\",\"namespace\":\"ns\",\"uid\":\"5d307ca9-b3ef-428c-8861-06e72d69f223\"},\"spec\":{%s"
             "\"domain\":{\"memory\":{\"guest\":\"64Mi\"%s},\"cpu\":{\"cores\":1,\"sockets\":1,\"threads\":1%s},"
             "\"firmware\":{\"kernelBoot\":{\"kernelArgs\":\"console=ttyS0 panic=1\",\"container\":{\"image\":\"i\",\"kernelPath\":\"/k\"}}}%s,"
             "\"devices\":{\"autoattachGraphicsDevice\":false,\"autoattachMemBalloon\":%s%s%s,\"disks\":[",
             w->paused ? "\"startStrategy\":\"Paused\"," : "", w->room ? ",\"maxGuest\":\"256Mi\"" : "", w->room ? ",\"maxSockets\":4" : "",
             w->more ? w->more : "", w->balloon ? "true" : "false", w->vsock ? ",\"autoattachVSOCK\":true" : "",
             !w->panic ? "" : strcmp(b->s->driver->name, "qemu-microvm") == 0 ? ",\"panicDevices\":[{\"model\":\"isa\"}]"
                                                                             : ",\"panicDevices\":[{\"model\":\"pvpanic\"}]");
    if (w->disk)
        buf_addf(&t, "{\"name\":\"root\",\"disk\":{\"bus\":\"virtio\"}}");
    if (w->cdrom_like)
        buf_addf(&t, "%s{\"name\":\"data\",\"disk\":{\"bus\":\"virtio\",\"readonly\":true}}", w->disk ? "," : "");
    buf_addf(&t, "]%s}}%s}}", w->nic ? ",\"interfaces\":[{\"name\":\"default\",\"model\":\"virtio\",\"bridge\":{}}]" : "",
             w->nic ? ",\"networks\":[{\"name\":\"default\",\"pod\":{}}]" : "");
    if (!json_parse(arena_str(&b->a, buf_str(&t)), &b->a, &v, &b->err)
        || !schema_decode(&schema_type_kv_virtual_machine_instance, v, &b->a, vmi, &b->err))
        fail_msg("the suite's own spec: %s\n%s", error_text(&b->err), t.p);
    b->vmi = vmi;
}

bool bench_start(struct bench *b, const struct wish *w)
{
    struct vmm_machine m = {.accelerator = b->s->accelerator,
                            .private_dirfd = b->dirfd,
                            .private_dir = b->dir,
                            .initrd_fd = -1,
                            .vhost_vsock_fd = -1,
                            .restore_dir = w->restore_dir,
                            .incoming = w->incoming,
                            .vsock_cid = w->vsock ? 7 : 0};
    int64_t begun = bench_now_ms();
    bool ok;

    build_spec(b, w);
    m.vmi = b->vmi;
    m.kernel_fd = bench_keep(b, open(guest_kernel, O_RDONLY | O_CLOEXEC));
    if (w->disk && b->n_disks == 0)
        add_disk(b, "root", false);
    if (w->cdrom_like)
        add_disk(b, "data", true);
    m.disks = b->disks;
    m.n_disks = b->n_disks;
    if (w->nic) {
        b->nic_fds[0] = bench_tap(b);
        b->nic = (struct vmm_nic){.name = STR("default"), .fds = b->nic_fds, .n_fds = 1, .mac = STR("02:00:00:00:00:01"), .mtu = 1450};
        m.nics = &b->nic;
        m.n_nics = 1;
    }
    ok = vmm_start(b->vmm, &m, &b->err);
    b->last = *vmm_status(b->vmm);
    if (bench_now_ms() - begun > 70000)
        fail_msg("the start took %lld ms", (long long)(bench_now_ms() - begun));
    return ok;
}

void bench_must_start(struct bench *b, const struct wish *w)
{
    AUTO(error_clear) struct error err = {0};

    if (!bench_start(b, w))
        fail_msg("start: %s", error_text(&b->err));
    if (!vmm_open_stream(b->vmm, VMM_STREAM_SERIAL, &b->serial_fd, &err))
        fail_msg("console: %s", error_text(&err));
    assert_true(file_set_nonblock(b->serial_fd, &err));
}

void bench_up(struct bench *b, const struct wish *w)
{
    bench_must_start(b, w);
    bench_hear(b, "guest up");
    assert_int_equal(vmm_status(b->vmm)->state, VMM_RUNNING);
    assert_true((vmm_status(b->vmm)->pid > 0) != b->s->inside);
}

static void read_serial(struct bench *b)
{
    char text[4096];
    ssize_t n;

    while (b->serial_fd >= 0 && (n = read(b->serial_fd, text, sizeof text)) > 0)
        buf_add(&b->serial, text, (size_t)n);
}

void bench_pump(struct bench *b, int ms)
{
    for (int64_t until = bench_now_ms() + ms; bench_now_ms() < until;) {
        loop_turn(b->loop, MILLIS(10));
        read_serial(b);
    }
}

bool bench_heard(struct bench *b, const char *text, int ms)
{
    size_t at;

    for (int64_t until = bench_now_ms() + ms;;) {
        read_serial(b);
        if (str_find(buf_str(&b->serial), str_of(text), &at)) {
            buf_consume(&b->serial, at + strlen(text));
            return true;
        }
        if (bench_now_ms() >= until)
            return false;
        loop_turn(b->loop, MILLIS(10));
    }
}

void bench_hear(struct bench *b, const char *text)
{
    if (!bench_heard(b, text, PATIENCE_MS))
        fail_msg("the guest did not say '%s'; it said: '%.*s' (%s %s: %s)", text, (int)b->serial.n, b->serial.p ? b->serial.p : "",
                 vmm_state_name(vmm_status(b->vmm)->state), vmm_reason_name(vmm_status(b->vmm)->reason), vmm_status(b->vmm)->message);
}

void bench_type(struct bench *b, const char *line)
{
    AUTO_FREE char *text = xasprintf("%s\n", line);

    /* One at a time, as one types: a UART without interrupts holds sixteen. */
    for (const char *p = text; *p; p++) {
        assert_int_equal(write(b->serial_fd, p, 1), 1);
        loop_turn(b->loop, MILLIS(1));
    }
}


void bench_reach(struct bench *b, enum vmm_state state, enum vmm_reason reason)
{
    const struct vmm_status *s = vmm_status(b->vmm);

    for (int64_t until = bench_now_ms() + PATIENCE_MS; (s->state != state || s->reason != reason) && bench_now_ms() < until;)
        bench_pump(b, 20);
    if (s->state != state || s->reason != reason)
        fail_msg("it is %s (%s, '%s'), not %s (%s)", vmm_state_name(s->state), vmm_reason_name(s->reason), s->message,
                 vmm_state_name(state), vmm_reason_name(reason));
    loop_turn(b->loop, 0);
    assert_int_equal(b->last.state, state); /* the listener heard of it */
}

bool bench_lacks(struct bench *b, bool ok, const void *function)
{
    size_t at;

    if (function)
        return false;
    assert_false(ok);
    assert_int_equal(b->err.kind, ERROR_UNSUPPORTED);
    assert_true(str_find(str_of(error_text(&b->err)), str_of(b->s->driver->name), &at));
    error_clear(&b->err);
    print_message("  %s says that it cannot\n", b->s->driver->name);
    return true;
}

void bench_ok(struct bench *b, bool ok)
{
    if (!ok)
        fail_msg("%s", error_text(&b->err));
}

unsigned bench_count(struct bench *b)
{
    unsigned n = 0;
    int64_t until = bench_now_ms() + PATIENCE_MS;
    size_t at;

    bench_type(b, "count");
    bench_hear(b, "count ");
    while (!str_find(buf_str(&b->serial), STR("\n"), &at) && bench_now_ms() < until)
        bench_pump(b, 10);
    assert_int_equal(sscanf(b->serial.p, "%u", &n), 1);
    return n;
}
