/* Names for what we hold as descriptors (ch.h says why), the API's socket, the heads of overlays, firmware. */
#include "vmm/cloud_hypervisor/ch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/file.h"

bool ch_places_open(struct ch *c, const struct vmm_machine *m, struct error *err)
{
    /* What an earlier machine of this pod left: sockets in the way of new ones, and links to descriptors of another process. */
    if (!file_remove_tree(m->private_dirfd, CH_DIR, err) || !file_make_dirs(m->private_dirfd, CH_DIR, 0700, &c->dir_fd, err))
        return error_wrap(err, "private directory");
    return true;
}

bool ch_link(struct ch *c, const char *name, const char *target, struct error *err)
{
    if (unlinkat(c->dir_fd, name, 0) != 0 && errno != ENOENT)
        return error_errno(err, errno, "%s", name);
    if (symlinkat(target, c->dir_fd, name) != 0)
        return error_errno(err, errno, "%s", name);
    return true;
}

bool ch_has(const struct ch *c, const char *kind, struct str name)
{
    char link[96];
    int n = snprintf(link, sizeof link, "%s-" STR_FMT, kind, STR_ARG(name));

    return n > 0 && (size_t)n < sizeof link && !str_has(name, '/')
           && faccessat(c->dir_fd, link, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool ch_listen(struct ch *c, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/api", c->dir_fd);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, 8) != 0)
        return error_errno(err, errno, "socket of the API");
    c->api_fd = openat(c->dir_fd, "api", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (c->api_fd < 0 || unlinkat(c->dir_fd, "api", 0) != 0)
        return error_errno(err, errno, "socket of the API");
    c->api = (struct rest){.at = c->api_fd, .name = "", .who = CH_PROGRAM};
    *ret_fd = TAKE_FD(fd);
    return true;
}

bool ch_can_reopen(int fd, bool read_only, const char *what, struct error *err)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    AUTO_CLOSE int again = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (again >= 0)
        return true;
    return error_errno(err, errno,
                       "%s: cloud-hypervisor has to open it by itself, as the VM's user, and cannot: use hypervisor qemu, or "
                       "give that user the right",
                       what);
}

/* ---- overlays ---- */

#define QCOW2_MAGIC 0x514649fbu
#define EXT_FORMAT 0xe2792acau /* header extension: format of the backing file */
#define V3_HEADER 104
#define NAME_AT 256
#define HEAD 2048

static uint64_t be(const char *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v = v << 8 | (unsigned char)p[i];
    return v;
}

static void put(char *p, size_t n, uint64_t v)
{
    for (size_t i = n; i-- > 0; v >>= 8)
        p[i] = (char)(v & 0xff);
}

/* Only images that Vireo made have something below them (storage refuses all others), and those name nothing by themselves. */
bool ch_overlay_name(int fd, const char *path, const char *format, struct error *err)
{
    char head[HEAD] = {0};
    size_t n = strlen(path), f = strlen(format);
    ssize_t got = pread(fd, head, sizeof head, 0);

    if (got < (ssize_t)sizeof head || be(head, 4) != QCOW2_MAGIC || be(head + 4, 4) != 3 || be(head + 100, 4) != V3_HEADER)
        return error_set(err, ERROR_INVALID, "the overlay is no image that Vireo made");
    if (n >= sizeof head - NAME_AT || f > 8)
        return error_set(err, ERROR_TOO_LARGE, "'%s': too long a name for an overlay", path);
    memset(head + V3_HEADER, 0, sizeof head - V3_HEADER);
    put(head + V3_HEADER, 4, EXT_FORMAT);
    put(head + V3_HEADER + 4, 4, f);
    memcpy(head + V3_HEADER + 8, format, f);
    memcpy(head + NAME_AT, path, n);
    put(head + 8, 8, NAME_AT);
    put(head + 16, 4, n);
    if (pwrite(fd, head, sizeof head, 0) != (ssize_t)sizeof head)
        return error_errno(err, errno, "name what lies below the overlay");
    return true;
}

/* ---- firmware ---- */

bool ch_firmware_open(const struct vmm_machine *m, int *ret_fd, struct error *err)
{
    static const char *const usual[] = {"/usr/share/cloud-hypervisor", "/usr/local/share/cloud-hypervisor", "/usr/share/OVMF",
                                        NULL};
    static const char *const names[] = {"CLOUDHV.fd", "hypervisor-fw"};
    const struct kv_firmware *fw = m->vmi->spec->domain->firmware;
    const char *const own[] = {m->firmware_dir, NULL};
    bool efi = fw && fw->bootloader && fw->bootloader->efi;

    for (size_t n = 0; n < (efi ? 1 : ARRAY_SIZE(names)); n++) {
        for (const char *const *dir = m->firmware_dir ? own : usual; *dir; dir++) {
            AUTO_FREE char *path = xasprintf("%s/%s", *dir, names[n]);

            *ret_fd = open(path, O_RDONLY | O_CLOEXEC); /* the host's own file: links are fine */
            if (*ret_fd >= 0)
                return true;
        }
    }
    return error_set(err, ERROR_UNSUPPORTED,
                     "no firmware for cloud-hypervisor on this node: put %s into /usr/share/cloud-hypervisor "
                     "(docs/operations.md), or boot a "
                     "kernel (spec.domain.firmware.kernelBoot)",
                     efi ? "CLOUDHV.fd" : "CLOUDHV.fd or hypervisor-fw");
}
