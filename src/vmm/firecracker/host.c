/* The host's side: links that Firecracker takes by name, kernels that it can load. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/firecracker/firecracker.h"

/* Firecracker opens /dev/net/tun and attaches by the link's name, with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR. The kernel lets it
 * when the flags are those of the link, the link is its user's, and nobody else is attached. */
static bool name_tap(const struct vmm_nic *nic, char ret[FC_TAP_NAME], struct error *err)
{
    struct ifreq r = {0};

    if (nic->n_fds != 1)
        return error_set(err, ERROR_UNSUPPORTED,
                         "interface '" STR_FMT "': Firecracker's links have one queue, and this one has %zu "
                         "(spec.domain.devices.networkInterfaceMultiqueue)",
                         STR_ARG(nic->name), nic->n_fds);
    if (ioctl(nic->fds[0], TUNGETIFF, &r) != 0)
        return error_errno(err, errno, "interface '" STR_FMT "': no tap", STR_ARG(nic->name));
    if ((r.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE)) != (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        return error_set(err, ERROR_UNSUPPORTED,
                         "interface '" STR_FMT "': Firecracker cannot attach to its tap: it wants one queue with vnet headers",
                         STR_ARG(nic->name));
    snprintf(ret, FC_TAP_NAME, "%.*s", FC_TAP_NAME - 1, r.ifr_name);
    return true;
}

bool fc_name_taps(const struct vmm_machine *m, char (*ret)[FC_TAP_NAME], struct error *err)
{
    if (m->n_nics > FC_MAX_TAPS)
        return error_set(err, ERROR_UNSUPPORTED, "more than %d interfaces", FC_MAX_TAPS);
    for (size_t i = 0; i < m->n_nics; i++)
        if (!name_tap(&m->nics[i], ret[i], err))
            return false;
    return true;
}

/* The link is made to last and ours, and the descriptor that holds it is replaced: its owner will close what is there now as it
 * would have closed the tap. */
bool fc_release_taps(const struct vmm_machine *m, struct error *err)
{
    AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return error_errno(err, errno, "open /dev/null");
    for (size_t i = 0; i < m->n_nics; i++) {
        int fd = m->nics[i].fds[0];

        if (ioctl(fd, TUNSETOWNER, (unsigned long)geteuid()) != 0 || ioctl(fd, TUNSETPERSIST, 1UL) != 0
            || dup3(null, fd, O_CLOEXEC) < 0)
            return error_errno(err, errno, "interface '" STR_FMT "': hand its tap over", STR_ARG(m->nics[i].name));
    }
    return true;
}

/* An x86-64 ELF, or since 1.17 a bzImage ("HdrS" of the boot protocol). Anything else would be refused in words about magic. */
bool fc_check_kernel(int fd, unsigned version, struct error *err)
{
    unsigned char head[0x206];
    ssize_t n = pread(fd, head, sizeof head, 0);
    bool bzimage = n == (ssize_t)sizeof head && memcmp(head + 0x202, "HdrS", 4) == 0;

    if (n < 0)
        return error_errno(err, errno, "spec.domain.firmware.kernelBoot: read the kernel");
    if (n >= 20 && memcmp(head, "\177ELF", 4) == 0) {
        if (head[4] == 2 && head[5] == 1 && head[18] == 62)
            return true;
        return error_set(err, ERROR_INVALID, "spec.domain.firmware.kernelBoot: the kernel is an ELF image, but not of x86-64");
    }
    if (bzimage && version >= FC_VERSION(1, 17))
        return true;
    if (bzimage)
        return error_set(err, ERROR_INVALID,
                         "spec.domain.firmware.kernelBoot: the kernel is a bzImage, and Firecracker before 1.17 boots uncompressed ones "
                         "only: put a vmlinux into the image (scripts/extract-vmlinux of the kernel's source makes it of a bzImage)");
    return error_set(err, ERROR_INVALID,
                     "spec.domain.firmware.kernelBoot: the kernel is neither an uncompressed ELF image (vmlinux) nor a bzImage");
}
