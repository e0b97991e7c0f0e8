#include "vmm/qemu/guest_test.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

/* What a running guest sees of hardware that comes and goes. */
static const char spec[] =
    "{\"domain\":{\"memory\":{\"guest\":\"256Mi\",\"maxGuest\":\"512Mi\"},\"cpu\":{\"sockets\":1,\"maxSockets\":3},"
    "\"devices\":{\"autoattachGraphicsDevice\":false}," GUEST_FIRMWARE "}}";

static const struct kv_disk_target scsi = {.bus = STR("scsi")}, virtio = {.bus = STR("virtio")}, sata = {.bus = STR("sata")};

static void await_gone(struct guest *g, unsigned n)
{
    for (int i = 0; i < 1500 && g->gone < n && g->kept == 0; i++)
        guest_turn(g, MILLIS(20));
    assert_int_equal(g->gone, n);
    assert_int_equal(g->kept, 0);
}

static void a_disk(struct guest *g, const struct kv_disk_target *bus, const char *name, const char *node, unsigned nth)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(arena_done) struct arena a = {0};
    AUTO_CLOSE int fd = guest_memfd(STR("written by the host\n"));
    AUTO_FREE char *size = xasprintf("cat /sys/block/%s/size", node), *read = xasprintf("head -c 19 /dev/%s", node);
    const struct vmm_disk disk = {.name = str_of(name), .fd = fd, .format = "raw", .backing_fd = -1};
    const struct kv_disk disk_spec = {.name = str_of(name), .disk = bus, .serial = STR("s-1")};
    const struct vmm_device d = {.kind = VMM_DEVICE_DISK, .disk = &disk, .disk_spec = &disk_spec};
    const struct json *nodes;

    assert_int_equal(ftruncate(fd, 8 << 20), 0);
    if (!vmm_add_device(g->v, &d, &err))
        fail_msg("%s", error_text(&err));
    guest_until(g, size, "16384", 30);
    assert_true(str_is(guest_run(g, read), "written by the host"));
    assert_false(vmm_add_device(g->v, &d, &err));
    assert_int_equal(err.kind, ERROR_EXISTS);
    error_clear(&err);
    if (!vmm_remove_device(g->v, VMM_DEVICE_DISK, str_of(name), &err))
        fail_msg("%s", error_text(&err));
    await_gone(g, nth);
    assert_string_equal(g->gone_name, name);
    AUTO_FREE char *there = xasprintf("[ -e /sys/block/%s ]; echo $?", node);
    guest_until(g, there, "1", 20);
    /* nothing of it stays with the host */
    assert_true(qemu_query(g->v, "query-named-block-nodes", NULL, &a, &nodes, &err));
    assert_int_equal(json_len(nodes), 0);
    assert_true(qemu_query(g->v, "query-fdsets", NULL, &a, &nodes, &err));
    assert_int_equal(json_len(nodes), 0);
}

static void a_nic(struct guest *g, unsigned nth)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    AUTO_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    AUTO(error_clear) struct error err = {0};
    const struct vmm_nic nic = {.name = STR("second"), .fds = &fd, .n_fds = 1, .mac = STR("02:00:00:00:00:07")};
    const struct kv_interface nic_spec = {.name = STR("second")};
    const struct vmm_device d = {.kind = VMM_DEVICE_NIC, .nic = &nic, .nic_spec = &nic_spec};

    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) != 0) {
        puts("no tap can be made here: NICs are left out");
        return;
    }
    if (!vmm_add_device(g->v, &d, &err))
        fail_msg("%s", error_text(&err));
    guest_until(g, "cat /sys/class/net/eth0/address", "02:00:00:00:00:07", 30);
    guest_run(g, "ip link set eth0 up");
    guest_until(g, "cat /sys/class/net/eth0/carrier", "1", 10);
    assert_true(vmm_set_link(g->v, STR("second"), false, &err));
    guest_until(g, "cat /sys/class/net/eth0/carrier", "0", 10);
    assert_true(vmm_remove_device(g->v, VMM_DEVICE_NIC, STR("second"), &err));
    await_gone(g, nth);
    assert_false(vmm_set_link(g->v, STR("second"), true, &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static void devices_come_and_go(void **state)
{
    AUTO(guest_done) struct guest g;
    AUTO(error_clear) struct error err = {0};
    const struct vmm_disk disk = {.name = STR("x"), .fd = 0, .format = "raw", .backing_fd = -1};
    const struct kv_disk disk_spec = {.name = STR("x"), .disk = &sata};
    const struct vmm_device wrong = {.kind = VMM_DEVICE_DISK, .disk = &disk, .disk_spec = &disk_spec};

    (void)state;
    guest_boot(&g, &vmm_qemu, spec, &guest_nothing);
    a_disk(&g, &virtio, "v", "vda", 1);
    a_disk(&g, &scsi, "s", "sda", 2);
    a_disk(&g, &virtio, "v", "vda", 3); /* the same name and place again */
    a_nic(&g, 4);
    assert_false(vmm_add_device(g.v, &wrong, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    error_clear(&err);
    assert_false(vmm_remove_device(g.v, VMM_DEVICE_DISK, STR("nobody"), &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

/* Of a disk that was there from the start nothing stays with the host either; its neighbour keeps what it has. */
static void a_disk_of_the_start_goes(void **state)
{
    AUTO(guest_done) struct guest g;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int first = guest_memfd(STR("first\n"));
    AUTO_CLOSE int second = guest_memfd(STR("second\n"));
    const struct vmm_disk disks[] = {{.name = STR("a"), .fd = first, .format = "raw", .backing_fd = -1},
                                     {.name = STR("b"), .fd = second, .format = "raw", .backing_fd = -1}};
    struct vmm_machine m = guest_nothing;
    const struct json *v;

    (void)state;
    assert_int_equal(ftruncate(first, 1 << 20), 0);
    assert_int_equal(ftruncate(second, 1 << 20), 0);
    m.disks = disks;
    m.n_disks = 2;
    guest_boot(&g, &vmm_qemu,
               "{\"domain\":{\"memory\":{\"guest\":\"160Mi\"},\"devices\":{\"autoattachGraphicsDevice\":false,\"disks\":[{\"name\":"
               "\"a\",\"disk\":{\"bus\":\"virtio\"}},{\"name\":\"b\",\"disk\":{\"bus\":\"virtio\"}}]}," GUEST_FIRMWARE "}}",
               &m);
    guest_until(&g, "head -c 5 /dev/vda", "first", 30);
    if (!vmm_remove_device(g.v, VMM_DEVICE_DISK, STR("a"), &err))
        fail_msg("%s", error_text(&err));
    await_gone(&g, 1);
    assert_true(qemu_query(g.v, "query-named-block-nodes", NULL, &a, &v, &err));
    assert_int_equal(json_len(v), 2);
    assert_true(qemu_query(g.v, "query-fdsets", NULL, &a, &v, &err));
    assert_int_equal(json_len(v), 1);
    assert_true(str_is(guest_run(&g, "head -c 6 /dev/vdb"), "second"));
}

static void memory_and_processors_grow(void **state)
{
    AUTO(guest_done) struct guest g;
    AUTO(error_clear) struct error err = {0};

    (void)state;
    guest_boot(&g, &vmm_qemu, spec, &guest_nothing);
    guest_run(&g, "mb() { echo $(( $(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024 )); }; start=$(mb)");
    if (!vmm_set_memory(g.v, 448u << 20, &err))
        fail_msg("%s", error_text(&err));
    guest_until(&g, "n=$(mb); [ $n -ge $((start + 120)) ]; echo $?", "0", 40);
    assert_true(vmm_set_memory(g.v, 256u << 20, &err)); /* and back */
    guest_until(&g, "n=$(mb); [ $n -le $((start + 80)) ]; echo $?", "0", 40);
    assert_false(vmm_set_memory(g.v, 1u << 30, &err));
    assert_non_null(strstr(error_text(&err), "maxGuest"));
    error_clear(&err);
    if (!vmm_set_vcpus(g.v, 3, &err))
        fail_msg("%s", error_text(&err));
    guest_until(&g, "for c in /sys/devices/system/cpu/cpu[1-9]; do echo 1 >$c/online; done 2>/dev/null; grep -c ^processor /proc/cpuinfo",
                "3", 40);
    assert_false(vmm_set_vcpus(g.v, 4, &err));
    error_clear(&err);
    /* the balloon takes from the guest what it has */
    guest_run(&g, "before=$(mb)");
    assert_true(vmm_set_balloon(g.v, 192u << 20, &err));
    guest_until(&g, "n=$(mb); [ $n -le $((before - 50)) ]; echo $?", "0", 40);
    assert_true(vmm_pause(g.v, &err));
    guest_await_state(&g, VMM_PAUSED, 5);
    assert_false(vmm_snapshot(g.v, g.dir, &err)); /* it is not the machine of its spec any more */
    assert_int_equal(err.kind, ERROR_CONFLICT);
}

static void a_microvm_says_that_it_cannot(void **state)
{
    AUTO(guest_done) struct guest g;
    AUTO(error_clear) struct error err = {0};

    (void)state;
    guest_boot(&g, &vmm_qemu_microvm, spec, &guest_nothing);
    assert_false(vmm_set_vcpus(g.v, 2, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    error_clear(&err);
    assert_false(vmm_vsock_connect(g.v, 22, &(int){-1}, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    error_clear(&err);
    assert_true(vmm_set_balloon(g.v, 200u << 20, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_come_and_go),
        cmocka_unit_test(a_disk_of_the_start_goes),
        cmocka_unit_test(memory_and_processors_grow),
        cmocka_unit_test(a_microvm_says_that_it_cannot),
    };

    if (guest_missing())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
