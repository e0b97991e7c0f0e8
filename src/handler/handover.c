/* What a launcher is given with its machine, beside the machine's description. */
#include <errno.h>
#include <fcntl.h>
#include <linux/major.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "api/kv.h"
#include "base/cleanup.h"
#include "handler/internal.h"

#define KVM_MINOR 232

/* A device plugin's node has the host's owner in the launcher's container, who is not the launcher (unless the container runtime
 * was told device_ownership_from_security_context): as upstream's handler does, it is given to it. The name is looked up beneath
 * the container's root, and only what is the device itself is touched. */
bool handover_kvm(pid_t launcher, int pidfd, struct error *err)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    AUTO_CLOSE int root = -1;
    AUTO_CLOSE int device = -1;
    char path[48];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/root", (int)launcher);
    root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    /* A number may be another's by now; the launcher that still lives had it when it was opened. */
    if (root >= 0 && syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)
        return error_set(err, ERROR_UNAVAILABLE, "the launcher has ended");
    device = root < 0 ? -1 : (int)syscall(SYS_openat2, root, "dev/kvm", &how, sizeof how);
    if (device < 0 || fstat(device, &st) < 0)
        return error_set(err, ERROR_UNAVAILABLE, "/dev/kvm of the launcher's container: %s", strerror(errno));
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(MISC_MAJOR, KVM_MINOR))
        return error_set(err, ERROR_FORBIDDEN, "/dev/kvm of the launcher's container is another file");
    if (st.st_uid != KV_UID && fchownat(device, "", KV_UID, KV_UID, AT_EMPTY_PATH) < 0)
        return error_errno(err, errno, "/dev/kvm of the launcher's container");
    return true;
}

const struct json *handover_nic(struct arena *a, const struct network_nic *n, int *fds, size_t *n_fds)
{
    /* A copy: the arena it came in is the one that the status is about to use. */
    const struct json *indexes = json_array(a, NULL), *dhcp = n->dhcp ? json_copy(a, n->dhcp) : NULL;

    for (unsigned i = 0; i < n->n_taps && *n_fds < PROTO_MAX_FDS; i++) {
        indexes = json_append(a, indexes, json_new_i64(a, (int64_t)*n_fds));
        fds[(*n_fds)++] = n->tap_fds[i];
    }
    if (dhcp && n->dhcp_fd >= 0 && *n_fds < PROTO_MAX_FDS) {
        dhcp = json_with(a, dhcp, "fd", json_new_i64(a, (int64_t)*n_fds));
        fds[(*n_fds)++] = n->dhcp_fd;
    }
    return json_object(a, "name", json_new_z(a, n->name), "fds", indexes, "mac", json_new_z(a, n->mac), "mtu",
                       json_new_i64(a, n->mtu), "dhcp", dhcp, NULL);
}

const struct json *handover_nic_status(struct arena *a, const struct network_nic *n)
{
    const struct json *ips = json_array(a, NULL);

    for (unsigned i = 0; i < n->n_ips; i++)
        ips = json_append(a, ips, json_new_z(a, n->ips[i]));
    return json_object(a, "name", json_new_z(a, n->name), "mac", json_new_z(a, n->mac), "ipAddress",
                       n->n_ips ? json_new_z(a, n->ips[0]) : NULL, "ipAddresses", n->n_ips ? ips : NULL, "podInterfaceName",
                       json_new_z(a, "eth0"), "infoSource", json_new_z(a, "domain"), "queueCount",
                       json_new_i64(a, n->n_taps ? n->n_taps : 1), "linkState", json_new_z(a, "up"), NULL);
}

bool handover_vsock(const struct handler *h, const struct json *vmi, size_t fd_index, struct arena *a, int *fd,
                    const struct json **ret, struct error *err)
{
    const struct json *cid = json_at(vmi, "status/VSOCKCID");

    *ret = NULL;
    if (!json_bool_at(vmi, "spec/domain/devices/autoattachVSOCK", false))
        return true;
    if (!json_is(cid, JSON_NUMBER))
        return error_set(
            err, ERROR_UNAVAILABLE,
            "status.VSOCKCID is not set: the controller has given its vsock no context ID yet");
    *ret = json_object(a, "cid", cid, NULL);
    if (!kv_kernel_vsock(vmi))
        return true;
    *fd = open(h->config.vhost_vsock, O_RDWR | O_CLOEXEC);
    if (*fd < 0)
        return error_set(err, ERROR_UNSUPPORTED,
                         "spec.domain.devices.autoattachVSOCK: %s of node %s cannot be opened "
                         "(%s): load the module there (modprobe "
                         "vhost_vsock), or choose a hypervisor with a vsock of its own by the "
                         "annotation " KV_ANNOTATION_HYPERVISOR,
                         h->config.vhost_vsock, h->node_name, strerror(errno));
    *ret = json_with(a, *ret, "fd", json_new_i64(a, (int64_t)fd_index));
    return true;
}
