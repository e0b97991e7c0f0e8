#include "vmm/qemu/guest_test.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Both drivers, from a kernel and from a raw disk, from the first instruction to the power button. */
#define DOMAIN(devices, more)                                                                                                   \
    "{\"domain\":{\"memory\":{\"guest\":\"160Mi\"},\"devices\":{\"autoattachGraphicsDevice\":false" devices "}" more "}}"

static void from_a_kernel(const struct vmm_driver *d, const char *machine)
{
    AUTO(guest_done) struct guest g;
    AUTO(error_clear) struct error err = {0};
    struct vmm_stats *stats = NEW(struct vmm_stats);

    guest_boot(&g, d, DOMAIN(",\"rng\":{}", "," GUEST_FIRMWARE), &guest_nothing);
    if (strncmp(vmm_status(g.v)->machine, machine, strlen(machine)) != 0)
        fail_msg("the machine is %s", vmm_status(g.v)->machine);
    assert_true(str_is(guest_run(&g, "grep -c ^processor /proc/cpuinfo"), "1"));
    assert_true(str_is(guest_run(&g, "cat /sys/class/misc/hw_random/rng_current"), "virtio_rng.0"));
    assert_true(vmm_pause(g.v, &err));
    guest_await_state(&g, VMM_PAUSED, 5);
    assert_true(vmm_resume(g.v, &err));
    guest_await_state(&g, VMM_RUNNING, 5);
    assert_true(str_is(guest_run(&g, "echo alive"), "alive"));
    if (!vmm_read_stats(g.v, stats, &err))
        fail_msg("%s", error_text(&err));
    assert_true(stats->cpu_ns > 0 && stats->resident_bytes > (64u << 20));
    assert_int_equal(stats->guest_bytes, 160u << 20);
    assert_int_equal(stats->vcpus, 1);
    int vnc = -1;
    if (vmm_open_stream(g.v, VMM_STREAM_VNC, &vnc, &err) || !strstr(error_text(&err), "no display"))
        fail_msg("a machine without a display has a viewer: %s", error_text(&err));
    error_clear(&err);
    free(stats);
    /* a reboot by the guest is told, and it comes up again */
    guest_run(&g, "(sleep 0.2; reboot -f) &");
    guest_await(&g, "== ready", 120);
    assert_true(vmm_status(g.v)->reboots >= 1);
    guest_powerdown(&g);
    guest_await_state(&g, VMM_SHUTDOWN, 60);
    assert_int_equal(vmm_status(g.v)->reason, VMM_REASON_HOST_SHUTDOWN);
}

/* Hours of waiting for a tick that never comes: a kernel could not find out how fast its clock goes. */
static void microvm_boots_on_a_busy_host(void **state)
{
    pid_t busy[4];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(busy); i++) {
        busy[i] = fork();
        if (busy[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;) {
                /* the host's other load */
            }
        }
    }
    AUTO(guest_done) struct guest g;
    guest_boot(&g, &vmm_qemu_microvm, DOMAIN("", "," GUEST_FIRMWARE), &guest_nothing);
    for (size_t i = 0; i < ARRAY_SIZE(busy); i++) {
        kill(busy[i], SIGKILL);
        waitpid(busy[i], NULL, 0);
    }
}

static void q35_from_a_kernel(void **state)
{
    (void)state;
    from_a_kernel(&vmm_qemu, "pc-q35-");
}

static void microvm_from_a_kernel(void **state)
{
    (void)state;
    from_a_kernel(&vmm_qemu_microvm, "microvm");
}

/* A whole Linux on a raw disk, by its own boot loader. */
static void from_a_disk(const struct vmm_driver *d, bool read_only, const char *machine, const char *how)
{
    AUTO(guest_done) struct guest g;
    AUTO_CLOSE int file = guest_part("disk.raw");
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    buf_init(&b, 64u << 20);
    assert_true(file_read_fd(file, &b, &err));
    AUTO_CLOSE int copy = guest_memfd(buf_str(&b));
    const struct vmm_disk disks[] = {
        {.name = STR("root"), .fd = read_only ? file : copy, .format = "raw", .backing_fd = -1, .read_only = read_only}};
    AUTO_FREE char *spec = xasprintf(DOMAIN(",\"rng\":{},\"disks\":[{\"name\":\"root\",\"disk\":%s}]", "%s"), how, machine);
    struct vmm_machine m = guest_nothing;

    m.disks = disks;
    m.n_disks = 1;
    guest_new(&g, d);
    guest_start(&g, spec, &m);
    guest_await(&g, "tiny login:", 120);
}

/* A boot sector that writes "boots <name>" to the serial port. */
static void sector(char name, char disk[512])
{
    static const char words[] = "\nboots ?\n";
    static const char head[] = {(char)0xfa, (char)0xba, (char)0xf8, 0x03}; /* cli; mov dx, 0x3f8 */
    size_t at = sizeof head;

    memset(disk, 0, 512);
    memcpy(disk, head, sizeof head);

    for (const char *w = words; *w; w++) {
        disk[at++] = (char)0xb0; /* mov al, …; out dx, al */
        disk[at++] = *w == '?' ? name : *w;
        disk[at++] = (char)0xee;
    }
    disk[at++] = (char)0xf4; /* hlt; and again */
    disk[at++] = (char)0xeb;
    disk[at++] = (char)0xfd;
    disk[510] = 0x55;
    disk[511] = (char)0xaa;
}

static int disk_of(char name)
{
    char disk[512];

    sector(name, disk);
    int fd = guest_memfd(str_n(disk, sizeof disk));
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    return fd;
}

/* The same on a CD, by El Torito without emulation: boot record in sector 17, catalog in 18, code in 19. */
static int cd_of(char name)
{
    char *cd = xcalloc(32, 2048), *catalog = cd + (size_t)18 * 2048;

    memcpy(cd + (size_t)16 * 2048, "\1CD001\1", 8);
    memcpy(cd + (size_t)17 * 2048, "\0CD001\1EL TORITO SPECIFICATION", 30);
    cd[17 * 2048 + 0x47] = 18;
    catalog[0] = 1;
    catalog[30] = 0x55;
    catalog[31] = (char)0xaa;
    catalog[32] = (char)0x88; /* bootable */
    catalog[38] = 4;          /* sectors of 512 bytes to load */
    catalog[40] = 19;
    sector(name, cd + (size_t)19 * 2048);
    int fd = guest_memfd(str_n(cd, (size_t)32 * 2048));
    free(cd);
    return fd;
}

/* Which of two disks the firmware boots. */
static void boots(const struct vmm_driver *d, const char *machine, const char *a, const char *b, const char *wanted)
{
    AUTO(guest_done) struct guest g;
    AUTO_CLOSE int first = strstr(a, "cdrom") ? cd_of('a') : disk_of('a');
    AUTO_CLOSE int second = strstr(b, "cdrom") ? cd_of('b') : disk_of('b');
    const struct vmm_disk disks[] = {{.name = STR("a"), .fd = first, .format = "raw", .backing_fd = -1},
                                     {.name = STR("b"), .fd = second, .format = "raw", .backing_fd = -1}};
    AUTO_FREE char *spec = xasprintf(DOMAIN(",\"disks\":[{\"name\":\"a\",%s},{\"name\":\"b\",%s}]", "%s"), a, b, machine);
    struct vmm_machine m = guest_nothing;

    m.disks = disks;
    m.n_disks = 2;
    guest_new(&g, d);
    guest_start(&g, spec, &m);
    guest_await(&g, wanted, 60);
}

#define VIRTIO "\"disk\":{\"bus\":\"virtio\"}"
#define ORDER(n) ",\"bootOrder\":" n

static void boot_order(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct vmm_driver *d = i ? &vmm_qemu : &vmm_qemu_microvm;

        boots(d, "", VIRTIO, VIRTIO, "boots a");
        boots(d, "", VIRTIO, VIRTIO ORDER("1"), "boots b");
        boots(d, "", VIRTIO ORDER("2"), VIRTIO ORDER("1"), "boots b");
    }
}

/* The default bus is SATA, on every board but microvm; pc has an AHCI controller for it. */
static void sata_boot_order(void **state)
{
    static const char *const boards[] = {"", ",\"machine\":{\"type\":\"pc\"}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(boards); i++) {
        boots(&vmm_qemu, boards[i], "\"disk\":{}", "\"disk\":{}", "boots a");
        boots(&vmm_qemu, boards[i], "\"disk\":{}", "\"cdrom\":{}" ORDER("1"), "boots b");
        boots(&vmm_qemu, boards[i], "\"cdrom\":{}", "\"disk\":{}", "boots b"); /* a disk goes before a CD */
    }
}

static void microvm_from_a_raw_disk(void **state)
{
    (void)state;
    from_a_disk(&vmm_qemu_microvm, true, "", "{\"bus\":\"virtio\"}");
}

/* Linux' own boot loader reads all of a kernel and an initramfs through the controller. */
static void pc_from_a_SATA_disk(void **state)
{
    (void)state;
    from_a_disk(&vmm_qemu, false, ",\"machine\":{\"type\":\"pc\"}", "{}");
}

static void pc_board(void **state)
{
    AUTO(guest_done) struct guest g;
    AUTO_CLOSE int disk = guest_memfd(STR("raw disk"));
    const struct vmm_disk disks[] = {{.name = STR("a"), .fd = disk, .format = "raw", .backing_fd = -1},
                                     {.name = STR("b"), .fd = disk, .format = "raw", .backing_fd = -1}};
    struct vmm_machine m = guest_nothing;

    (void)state;
    assert_int_equal(ftruncate(disk, 1 << 20), 0);
    m.disks = disks;
    m.n_disks = 2;
    guest_boot(&g, &vmm_qemu,
               DOMAIN(",\"disks\":[{\"name\":\"a\",\"shareable\":true,\"disk\":{\"bus\":\"virtio\"}},{\"name\":\"b\",\"shareable\":true,"
                      "\"disk\":{\"bus\":\"scsi\"}}]",
                      ",\"machine\":{\"type\":\"pc\"}," GUEST_FIRMWARE),
               &m);
    assert_true(strncmp(vmm_status(g.v)->machine, "pc-i440fx-", 10) == 0);
    guest_until(&g, "ls /sys/block | grep -E '^(vd|sd)' | tr '\\n' ' '", "sda vda", 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(microvm_from_a_kernel),
        cmocka_unit_test(microvm_boots_on_a_busy_host),
        cmocka_unit_test(microvm_from_a_raw_disk),
        cmocka_unit_test(boot_order),
        cmocka_unit_test(q35_from_a_kernel),
        cmocka_unit_test(pc_board),
        cmocka_unit_test(sata_boot_order),
        cmocka_unit_test(pc_from_a_SATA_disk),
    };

    if (guest_missing())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
