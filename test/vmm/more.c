/* Scenarios of images and interfaces, of a node without KVM, and of the suite itself: what its book and its faults do is seen. */
#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "storage/qcow2.h"

/* An overlay over a raw image, as the storage makes them for every VM. Firecracker knows raw images only: it has to say so. */
static void boots_with_an_overlay(struct bench *b)
{
    struct wish w = {.disk = true};
    struct vmm_stats s;
    size_t at;
    int over = bench_image(b, "over", 0), base;

    bench_image(b, "base", 1u << 20);
    base = bench_keep(b, openat(b->dirfd, "base", O_RDONLY | O_CLOEXEC));
    bench_ok(b, qcow2_create(over, 1u << 20, &b->err));
    b->disks[b->n_disks++] =
        (struct vmm_disk){.name = STR("root"), .fd = over, .format = "qcow2", .backing_fd = base, .backing_format = "raw"};
    if (strcmp(b->s->driver->name, "firecracker") == 0) {
        assert_false(bench_start(b, &w));
        if (!str_find(str_of(error_text(&b->err)), STR("qcow2"), &at))
            fail_msg("it does not say qcow2: %s", error_text(&b->err));
        bench_reach(b, VMM_CRASHED, VMM_REASON_START_FAILED);
        return;
    }
    bench_up(b, &w);
    bench_ok(b, vmm_read_stats(b->vmm, &s, &b->err));
    assert_int_equal(s.n_block, 1);
    assert_string_equal(s.block[0].name, "root");
}

/* The same disk a second time: the first machine goes on, whatever becomes of the second. */
static void two_machines_side_by_side(struct bench *b)
{
    struct wish w = {.disk = true, .vsock = b->s->rest};
    struct bench other;

    bench_up(b, &w);
    bench_init(&other, b->s);
    other.fds_before = 0;
    bench_up(&other, &w);
    bench_type(&other, "say I am the other");
    bench_hear(&other, "said I am the other");
    bench_done(&other);
    bench_type(b, "say I am the one");
    bench_hear(b, "said I am the one");
}

static void plugs_an_interface(struct bench *b)
{
    static const char *const text = "{\"name\":\"second\",\"model\":\"virtio\",\"bridge\":{}}";
    struct wish w = {.nic = true};
    struct kv_interface spec = {0};
    struct vmm_nic nic = {.name = STR("second"), .n_fds = 1, .mac = STR("02:00:00:00:00:02")};
    struct vmm_device d = {.kind = VMM_DEVICE_NIC, .nic = &nic, .nic_spec = &spec};
    const struct json *v;
    int fd;
    bool ok;

    bench_up(b, &w);
    fd = bench_tap(b);
    nic.fds = &fd;
    assert_true(json_parse(str_of(text), &b->a, &v, &b->err));
    assert_true(schema_decode(&schema_type_kv_interface, v, &b->a, &spec, &b->err));
    ok = vmm_add_device(b->vmm, &d, &b->err);
    if (bench_lacks(b, ok, b->s->driver->add_device))
        return;
    bench_ok(b, ok);
    bench_ok(b, vmm_remove_device(b->vmm, VMM_DEVICE_NIC, STR("second"), &b->err));
    if (!b->s->pretended)
        return; /* a guest without a driver never lets go */
    for (int i = 0; i < 300 && b->gone == 0; i++)
        bench_pump(b, 20);
    assert_int_equal(b->gone, 1);
}

/* The real programs where KVM does not work: they refuse, or they start a guest that does not move. Either way the driver
 * knows, and nothing is left. */
static void start_without_kvm(struct bench *b)
{
    struct wish w = {.disk = true, .balloon = true};

    if (!b->s->no_guest) {
        print_message("  a guest can run here\n");
        bench_done(b);
        skip();
    }
    if (bench_start(b, &w)) {
        assert_int_equal(vmm_status(b->vmm)->state, VMM_RUNNING);
        vmm_kill(b->vmm, false);
        bench_reach(b, VMM_SHUTDOWN, VMM_REASON_DESTROYED);
        return;
    }
    print_message("  %s\n", error_text(&b->err));
    assert_true(error_text(&b->err)[0] != 0);
    bench_reach(b, VMM_CRASHED, VMM_REASON_START_FAILED);
}

/* A test that cannot fail is none: a line in the book is found. */
static void the_book_is_read(struct bench *b)
{
    static const char line[] = "violations {\"written\": \"by the suite itself\"}\n";
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    AUTO(buf_done) struct buf text = {0};
    AUTO(buf_done) struct buf more = {0};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof at.sun_path, "%s/book", bench_dir);
    assert_int_equal(sendto(fd, line, sizeof line - 1, 0, (struct sockaddr *)&at, sizeof at), sizeof line - 1);
    bench_violations(b, &text);
    assert_string_equal(text.p, "{\"written\": \"by the suite itself\"}\n");
    bench_violations(b, &more);
    assert_int_equal(more.n, 0);
}

const struct scenario more_scenarios[] = {
    {"an overlay over an image", boots_with_an_overlay, EVERY},
    {"two machines side by side", two_machines_side_by_side, EVERY},
    {"an interface comes and goes", plugs_an_interface, EVERY},
    {NO_KVM_SCENARIO, start_without_kvm, REST_ONLY},
    {"the suite: a violation is seen", the_book_is_read, PRETENDED_ONLY},
    {0},
};
