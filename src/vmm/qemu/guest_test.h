/* vmm/qemu/guest_test - real guests for the tests of the drivers: Debian's kernel, started by the driver under emulation, which
 * does over its serial port what a test says and tells what it sees.
 *
 * Kernel and initramfs are those of tools/make-guest (build/guest); a test says so and is skipped where they are missing. The
 * guest's init comes as a second archive behind the initramfs: it runs each line that it hears and answers "== <status>". */
#pragma once
#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/file.h"
#include "vmm/qemu/qemu.h"

static const char guest_init[] =
    "#!/bin/busybox sh\n"
    "/bin/busybox --install -s /bin\n"
    "export PATH=/bin:/sbin HOME=/\n"
    "mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs devtmpfs /dev\n"
    "for m in virtio_pci virtio_mmio virtio_mem virtio_blk virtio_net virtio_console virtio_rng virtio_balloon virtio_scsi ahci "
    "ata_piix sd_mod sr_mod button evdev; do modprobe -q $m; done\n"
    "mkdir -p /etc/acpi/PWRF\nprintf '#!/bin/sh\\nsync\\npoweroff -f\\n' >/etc/acpi/PWRF/00000080\n"
    "chmod 755 /etc/acpi/PWRF/00000080\nacpid\n"
    "exec </dev/ttyS0 >/dev/ttyS0 2>&1\nstty raw -echo\n"
    "echo '== ready'\n"
    "while read -r line; do eval \"$line\"; echo \"== $?\"; done\n";

struct guest {
    struct loop *loop;
    struct vmm *v;
    struct arena a; /* of the VMI */
    int serial;
    struct buf heard;
    size_t seen; /* of `heard`: up to here the test has looked */
    char dir[32];
    int dirfd;
    unsigned gone, kept; /* what device_gone() told */
    char gone_name[64];
};

static inline const char *guest_parts(void)
{
    static const char *const places[] = {"build/guest/parts", "../build/guest/parts", "../../build/guest/parts"};
    const char *set = getenv("VIREO_GUEST");

    if (set)
        return set;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        AUTO_FREE char *kernel = xasprintf("%s/vmlinuz", places[i]);

        if (access(kernel, R_OK) == 0)
            return places[i];
    }
    return NULL;
}

/* Where there is nothing to start, or nothing to start it with, a test program ends well and says why. */
static inline bool guest_missing(void)
{
    if (access("/usr/bin/qemu-system-x86_64", X_OK) != 0) {
        puts("skipped: qemu-system-x86_64 is not installed");
        return true;
    }
    if (!guest_parts()) {
        puts("skipped: no guest to start; tools/make-guest build/guest makes it");
        return true;
    }
    return false;
}

static inline int guest_part(const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", guest_parts(), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return fd;
}

static inline void guest_cpio(struct buf *b, const char *name, unsigned mode, struct str data)
{
    buf_addf(b, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 1u, mode, 0u, 0u, 1u, 0u, data.n, 0u, 0u, 0u,
             0u, strlen(name) + 1, 0u);
    buf_add(b, name, strlen(name) + 1);
    while (b->n % 4)
        buf_addc(b, '\0');
    buf_add(b, data.p, data.n);
    while (b->n % 4)
        buf_addc(b, '\0');
}

static inline int guest_memfd(struct str data)
{
    AUTO(error_clear) struct error err = {0};
    int fd = memfd_create("guest", MFD_CLOEXEC);

    assert_true(fd >= 0 && file_write_all(fd, data, &err));
    return fd;
}

static inline int guest_initrd(void)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int from = guest_part("initrd");

    buf_init(&b, 64u << 20);
    assert_true(file_read_fd(from, &b, &err));
    while (b.n % 4)
        buf_addc(&b, '\0');
    guest_cpio(&b, "test-init", S_IFREG | 0755, str_of(guest_init));
    guest_cpio(&b, "TRAILER!!!", 0, STR(""));
    return guest_memfd(buf_str(&b));
}

static inline void guest_changed(void *user)
{
    (void)user;
}

static inline void guest_device_gone(void *user, enum vmm_device_kind kind, struct str name, bool kept)
{
    struct guest *g = user;

    (void)kind;
    if (kept)
        g->kept++;
    else
        g->gone++;
    snprintf(g->gone_name, sizeof g->gone_name, STR_FMT, STR_ARG(name));
}

static inline void guest_new(struct guest *g, const struct vmm_driver *d)
{
    memset(g, 0, sizeof *g);
    g->serial = -1;
    buf_init(&g->heard, 4u << 20);
    snprintf(g->dir, sizeof g->dir, "/tmp/vmm-guest-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
    g->dirfd = open(g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g->loop = loop_new(NULL);
    struct vmm_listener listener = {guest_changed, g, guest_device_gone};
    g->v = vmm_new(d, g->loop, &listener);
}

static inline void guest_done(struct guest *g)
{
    AUTO(error_clear) struct error err = {0};

    if (!g->loop)
        return;
    vmm_free(g->v);
    fd_close(&g->serial);
    fd_close(&g->dirfd);
    if (!file_remove_tree(AT_FDCWD, g->dir, &err))
        printf("%s: %s\n", g->dir, error_text(&err));
    loop_free(g->loop);
    buf_done(&g->heard);
    arena_done(&g->a);
}

/* Starts what `spec` (JSON) says with what m has; a zero m has nothing. */
static inline bool guest_try(struct guest *g, const char *spec, const struct vmm_machine *with, struct error *err)
{
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(&g->a, struct kv_virtual_machine_instance);
    AUTO_FREE char *object =
        xasprintf("{\"metadata\":{\"name\":\"n\",\"namespace\":\"ns\",\"uid\":\"u\"},\"spec\":%s}", spec);
    struct vmm_machine m = *with;
    const struct json *v;

    if (!json_parse(str_of(object), &g->a, &v, err)
        || !schema_decode(&schema_type_kv_virtual_machine_instance, v, &g->a, vmi, err))
        fail_msg("%s: %s", spec, error_text(err));
    m.vmi = vmi;
    m.private_dirfd = g->dirfd;
    m.private_dir = g->dir;
    if (!vmm_start(g->v, &m, err))
        return false;
    if (vmi->spec->domain->devices && opt_not_false(vmi->spec->domain->devices->autoattach_serial_console)) {
        if (!vmm_open_stream(g->v, VMM_STREAM_SERIAL, &g->serial, err))
            fail_msg("%s", error_text(err));
        fcntl(g->serial, F_SETFL, O_NONBLOCK);
    }
    return true;
}

static inline void guest_start(struct guest *g, const char *spec, const struct vmm_machine *with)
{
    AUTO(error_clear) struct error err = {0};

    if (!guest_try(g, spec, with, &err))
        fail_msg("%s", error_text(&err));
}

/* The machine with kernel and initramfs: "firmware" goes into the spec's domain, GUEST_KERNEL into the machine. */
#define GUEST_FIRMWARE                                                                                                          \
    "\"firmware\":{\"kernelBoot\":{\"kernelArgs\":\"console=ttyS0 rdinit=/test-init quiet no_timer_check panic=-1 memhp_default_state=online\"}}"
static const struct vmm_machine guest_nothing = {.accelerator = VMM_TCG,
                                                 .kernel_fd = -1,
                                                 .initrd_fd = -1,
                                                 .private_dirfd = -1,
                                                 .vhost_vsock_fd = -1};

static inline void guest_turn(struct guest *g, int64_t wait_ns)
{
    char text[4096];
    ssize_t n;

    loop_turn(g->loop, wait_ns);
    while (g->serial >= 0 && (n = read(g->serial, text, sizeof text)) > 0)
        buf_add(&g->heard, text, (size_t)n);
}

static inline bool guest_hears(struct guest *g, const char *text)
{
    struct str rest = str_skip(buf_str(&g->heard), g->seen);
    size_t at;

    if (!str_find(rest, str_of(text), &at))
        return false;
    g->seen += at + strlen(text);
    return true;
}

/* Waits until the guest writes `text`. */
static inline void guest_await(struct guest *g, const char *text, int seconds)
{
    for (int i = 0; i < seconds * 50; i++) {
        if (guest_hears(g, text))
            return;
        guest_turn(g, MILLIS(20));
        if (!vmm_alive(g->v) && !guest_hears(g, text)) {
            guest_turn(g, 0);
            if (guest_hears(g, text))
                return;
            break;
        }
    }
    fail_msg("the guest (%s, %s) did not write '%s' but:\n" STR_FMT, vmm_state_name(vmm_status(g->v)->state),
             vmm_status(g->v)->message, text, STR_ARG(buf_str(&g->heard)));
}

static inline void guest_boot(struct guest *g, const struct vmm_driver *d, const char *spec, const struct vmm_machine *with)
{
    AUTO_CLOSE int kernel = guest_part("vmlinuz");
    AUTO_CLOSE int initrd = guest_initrd();
    struct vmm_machine m = *with;

    m.kernel_fd = kernel;
    m.initrd_fd = initrd;
    guest_new(g, d);
    guest_start(g, spec, &m);
    guest_await(g, "== ready", 120);
}

/* Does one line in the guest; returns what it wrote (valid until the next). */
static inline struct str guest_run(struct guest *g, const char *line)
{
    AUTO_FREE char *text = xasprintf("%s\n", line);
    size_t from;

    guest_turn(g, 0);
    from = g->seen = g->heard.n;
    assert_true(write(g->serial, text, strlen(text)) == (ssize_t)strlen(text));
    guest_await(g, "== ", 60);
    return str_trim(str_n(g->heard.p + from, g->seen - strlen("== ") - from));
}

/* Runs `line` until it writes `wanted`. */
static inline void guest_until(struct guest *g, const char *line, const char *wanted, int seconds)
{
    struct str said = STR_NONE;

    for (int i = 0; i < seconds * 5; i++) {
        said = guest_run(g, line);
        if (str_is(said, wanted))
            return;
        for (int k = 0; k < 5; k++)
            guest_turn(g, MILLIS(40));
    }
    fail_msg("%s: '" STR_FMT "', not '%s'", line, STR_ARG(said), wanted);
}

/* The power button, again and again, as the launcher presses it: a guest that still boots does not hear the first. */
static inline void guest_powerdown(struct guest *g)
{
    AUTO(error_clear) struct error err = {0};

    for (int i = 0; i < 40 && vmm_alive(g->v); i++) {
        if (!vmm_powerdown(g->v, &err))
            fail_msg("%s", error_text(&err));
        for (int k = 0; k < 50 && vmm_alive(g->v); k++)
            guest_turn(g, MILLIS(40));
    }
}

static inline void guest_await_state(struct guest *g, enum vmm_state state, int seconds)
{
    for (int i = 0; i < seconds * 50 && vmm_status(g->v)->state != state; i++)
        guest_turn(g, MILLIS(20));
    if (vmm_status(g->v)->state != state)
        fail_msg("the machine is %s (%s), not %s", vmm_state_name(vmm_status(g->v)->state), vmm_status(g->v)->message,
                 vmm_state_name(state));
}
