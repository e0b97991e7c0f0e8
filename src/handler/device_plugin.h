/* handler/device_plugin - the host's devices as the kubelet's resources devices.kubevirt.io/kvm, tun, vhost-net and vhost-vsock.
 *
 * Each is a device plugin (v1beta1) on a socket of its own beside the kubelet's: it registers, the kubelet calls back and keeps one
 * stream, ListAndWatch, on which the devices and their health are told anew whenever that changes. One node of /dev can be shared
 * by any number of machines, so each resource has as many devices as the node may run machines; all are healthy or none is.
 *
 * A kubelet that starts empties the directory and makes its socket: then everything is listened on and registered again. So it is when
 * a stream ends for another reason, in growing steps. */
#pragma once
#include "base/error.h"
#include "loop/loop.h"

#define DEVICE_PLUGIN_MAX   10000u
#define DEVICE_PLUGIN_COUNT 1000u /* upstream's virtualMachineInstancesPerNode */

struct device_plugins;
struct device_plugins_config {
    struct loop *loop;
    const char *dir;       /* the kubelet's: /var/lib/kubelet/device-plugins */
    const char *host_root; /* where the host's /dev is seen: "", or "/host" in a pod that mounts it there */
    unsigned max_devices;  /* of each; 0: DEVICE_PLUGIN_COUNT */
    void (*changed)(void *user); /* a device has come or gone, or the kubelet took or lost the plugins; may be NULL */
    void *user;
};
struct device_plugins *device_plugins_new(const struct device_plugins_config *c, struct error *err);
void device_plugins_free(struct device_plugins *p); /* the kubelet sees no healthy device until a successor registers */
/* Whether a device that is there is any good: why not, or NULL. "kvm" is not until this has been said. */
void device_plugins_judge(struct device_plugins *p, const char *name, const char *why_not);
bool device_plugins_ready(const struct device_plugins *p); /* the kubelet watches all of them */
