/* A real QEMU with every kind of device that the driver builds, confined as it always is: it starts, its guest runs from its
 * disk and speaks on its serial port, and what is opened later (a viewer) opens too. */
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
#include <unistd.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/base_test.h"
#include "base/file.h"
#include "vmm/vmm.h"

extern const struct vmm_driver vmm_qemu;

/* Writes to the serial port for ever. */
static const unsigned char sector[] = {
    0xba, 0xf8, 0x03,      /* 1: mov dx, 0x3f8 */
    0xb0, 'V',  0xee,      /* out dx, 'V' */
    0xeb, 0xf8,            /* jmp 1b */
};

static const char *const devices[] = {
    "\"autoattachGraphicsDevice\":true,\"rng\":{},\"watchdog\":{\"name\":\"w\",\"i6300esb\":{\"action\":\"reset\"}},"
    "\"inputs\":[{\"name\":\"t\",\"type\":\"tablet\",\"bus\":\"usb\"},{\"name\":\"v\",\"type\":\"tablet\",\"bus\":\"virtio\"}],"
    "\"sound\":{\"name\":\"s\",\"model\":\"ich9\"},\"panicDevices\":[{\"model\":\"pvpanic\"},{\"model\":\"isa\"}],",
    "\"autoattachGraphicsDevice\":true,\"video\":{\"type\":\"virtio\"},\"sound\":{\"name\":\"s\",\"model\":\"ac97\"},"
    "\"blockMultiQueue\":true,",
};

#define DISKS                                                                                                                    \
    "\"disks\":[{\"name\":\"boot\",\"disk\":{\"bus\":\"virtio\"}},{\"name\":\"sata\",\"disk\":{\"bus\":\"sata\"}},"              \
    "{\"name\":\"scsi\",\"disk\":{\"bus\":\"scsi\"}},{\"name\":\"usb\",\"disk\":{\"bus\":\"usb\"}},"                             \
    "{\"name\":\"cd\",\"cdrom\":{\"bus\":\"sata\"}}],"
static const char *const disk_names[] = {"boot", "sata", "scsi", "usb", "cd"};

static void ignore(void *user)
{
    (void)user;
}

/* -1 where taps cannot be made (no root, no tun). */
static int open_tap(void)
{
    struct ifreq r = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) != 0)
        fd_close(&fd);
    return fd;
}

static void run_one(const char *more, bool efi)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    char dir[] = "/tmp/vireo-confined-XXXXXX", byte = 0;
    struct loop *l = loop_new(NULL);
    struct vmm_listener listener = {.changed = ignore};
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(&a, struct kv_virtual_machine_instance);
    struct vmm_disk disks[ARRAY_SIZE(disk_names)];
    const struct json *v;
    int tap = open_tap(), serial = -1, vnc = -1;
    struct vmm_nic nic = {.name = STR("net"), .fds = &tap, .n_fds = 1, .mac = STR("02:00:00:00:00:01")};

    assert_non_null(mkdtemp(dir));
    AUTO_CLOSE int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO_FREE char *text = xasprintf(
        "{\"metadata\":{\"name\":\"n\",\"namespace\":\"ns\",\"uid\":\"u\"},\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"},"
        "%s\"devices\":{%s" DISKS "\"interfaces\":[%s]}},\"networks\":[]}}",
        efi ? "\"firmware\":{\"bootloader\":{\"efi\":{\"secureBoot\":false}}}," : "", more,
        tap >= 0 ? "{\"name\":\"net\",\"masquerade\":{}}" : "");
    assert_true(json_parse(str_of(text), &a, &v, &err));
    if (!schema_decode(&schema_type_kv_virtual_machine_instance, v, &a, vmi, &err))
        fail_msg("%s", error_text(&err));
    for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
        unsigned char image[512] = {0};
        int fd = openat(dirfd, disk_names[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        memcpy(image, sector, sizeof sector);
        image[510] = 0x55;
        image[511] = 0xaa;
        assert_int_equal(write(fd, image, sizeof image), sizeof image);
        assert_int_equal(ftruncate(fd, 4 << 20), 0);
        disks[i] = (struct vmm_disk){.name = str_of(disk_names[i]), .fd = fd, .format = "raw", .backing_fd = -1,
                                     .read_only = i == ARRAY_SIZE(disks) - 1};
        if (disks[i].read_only) {
            close(fd);
            disks[i].fd = openat(dirfd, disk_names[i], O_RDONLY | O_CLOEXEC);
        }
    }
    struct vmm_machine m = {.vmi = vmi, .accelerator = VMM_TCG, .disks = disks, .n_disks = ARRAY_SIZE(disks), .nics = &nic,
                            .n_nics = tap >= 0, .kernel_fd = -1, .initrd_fd = -1, .private_dirfd = dirfd, .private_dir = dir,
                            .vhost_vsock_fd = -1};
    struct vmm *vmm = vmm_new(&vmm_qemu, l, &listener);
    if (!vmm_start(vmm, &m, &err))
        fail_msg("%s", error_text(&err));
    assert_true(vmm_open_stream(vmm, VMM_STREAM_SERIAL, &serial, &err));
    if (!vmm_open_stream(vmm, VMM_STREAM_VNC, &vnc, &err))
        fail_msg("%s", error_text(&err));
    struct pollfd p = {.fd = vnc, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 20000), 1);
    assert_int_equal(read(vnc, &byte, 1), 1);
    assert_int_equal(byte, 'R'); /* RFB … */
    if (!efi) {
        for (int i = 0; i < 4096 && byte != 'V'; i++) {
            p = (struct pollfd){.fd = serial, .events = POLLIN};
            assert_int_equal(poll(&p, 1, 60000), 1);
            assert_int_equal(read(serial, &byte, 1), 1);
        }
        assert_int_equal(byte, 'V');
    }
    assert_int_equal(vmm_status(vmm)->state, VMM_RUNNING);
    vmm_free(vmm);
    loop_turn(l, MILLIS(100));
    loop_free(l);
    for (size_t i = 0; i < ARRAY_SIZE(disks); i++)
        close(disks[i].fd);
    fd_close(&serial);
    fd_close(&vnc);
    fd_close(&tap);
    assert_true(file_remove_tree(AT_FDCWD, dir, &err));
}

static void every_kind_of_device_works_in_a_confined_process(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
        run_one(devices[i], false);
}

static void so_does_firmware_that_keeps_variables(void **state)
{
    (void)state;
    if (access("/usr/share/OVMF/OVMF_CODE.fd", R_OK) != 0 && access("/usr/share/OVMF/OVMF_CODE_4M.fd", R_OK) != 0) {
        puts("skipped: no OVMF");
        return;
    }
    run_one(devices[0], true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_device_works_in_a_confined_process),
        cmocka_unit_test(so_does_firmware_that_keeps_variables),
    };

    if (access("/usr/bin/qemu-system-x86_64", X_OK) != 0) {
        puts("skipped: qemu-system-x86_64 is not installed");
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
