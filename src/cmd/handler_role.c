/* vireo handler: the node agent of a cluster's node. The pods are the kubelet's, the launchers in them are ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/role.h"
#include "handler/device_plugin.h"
#include "handler/handler.h"

#define PODS    "/var/lib/kubelet/pods"
#define PLUGINS "/var/lib/kubelet/device-plugins"
#define NOBODY 65534

const char handler_usage[] =
    "usage: vireo handler --node-name NAME [options]\n"
    "The node agent of one node of a Kubernetes cluster.\n\n"
    "  --node-name NAME    the Node that this machine is\n"
    "  --pods-dir DIR      the kubelet's pods (" PODS ")\n"
    "  --device-plugin-dir DIR\n"
    "                      where the kubelet's device plugins have their sockets (" PLUGINS ");\n"
    "                      none: the kubelet is told of no devices\n"
    "  --max-devices N     so many of each device (1000)\n"
    "  --host-root DIR     where the host's /dev is seen: in a pod, where that is mounted\n" ROLE_FLAGS_USAGE;

struct options {
    struct role_flags common;
    const char *node_name, *pods_dir, *device_plugin_dir, *max_devices_text, *host_root;
    unsigned max_devices;
};

static bool parse(int argc, char **argv, struct options *o)
{
    const struct role_option own[] = {
        {.name = "node-name", .text = &o->node_name},
        {.name = "pods-dir", .text = &o->pods_dir},
        {.name = "device-plugin-dir", .text = &o->device_plugin_dir},
        {.name = "max-devices", .text = &o->max_devices_text},
        {.name = "host-root", .text = &o->host_root},
        {0}};
    AUTO(error_clear) struct error err = {0};
    uint64_t n = DEVICE_PLUGIN_COUNT;

    *o = (struct options){.pods_dir = PODS, .device_plugin_dir = PLUGINS, .host_root = ""};
    if (!role_parse(argc, argv, &o->common, own) || !o->node_name || !o->node_name[0])
        return false;
    if (o->max_devices_text && (!parse_u64(str_of(o->max_devices_text), DEVICE_PLUGIN_MAX, &n, &err) || n == 0)) {
        fprintf(stderr, "vireo handler: --max-devices %s is no number from 1 to %u\n", o->max_devices_text, DEVICE_PLUGIN_MAX);
        return false;
    }
    o->max_devices = (unsigned)n;
    if (strcmp(o->device_plugin_dir, "none") == 0)
        o->device_plugin_dir = NULL;
    return true;
}

static char *boot_id(void)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};

    buf_init(&text, 64);
    if (!file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, &err))
        log_warning(NULL, "%s: reboots will not be noticed, ignoring", error_text(&err));
    return str_dup(str_trim(buf_str(&text)));
}

/* A pod that may open devices is privileged, and so has every capability there is. These are what is needed:
 *   SYS_ADMIN, SYS_PTRACE   to enter the network namespace of a launcher, found by its pid; a pid namespace for probes
 *   NET_ADMIN, NET_RAW, NET_BIND_SERVICE   links, taps, rules and the DHCP socket in there
 *   CHOWN                   /dev/kvm in a launcher's container becomes its own
 *   DAC_OVERRIDE            the sockets of launchers, in directories of their group
 *   SETUID, SETGID, KILL    programs are probed as nobody, and ended
 * The rest is out of reach from here on, for what is started, too. */
static bool keep_what_is_needed(struct error *err)
{
    static const unsigned needed[] = {CAP_SYS_ADMIN, CAP_SYS_PTRACE,       CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE, CAP_CHOWN,
                                      CAP_DAC_OVERRIDE, CAP_SETUID, CAP_SETGID, CAP_KILL};
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct set[2] = {{0}}, now[2] = {{0}};
    uint64_t keep = 0;

    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        keep |= 1ull << needed[i];
    for (unsigned i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        if (!(keep >> i & 1) && prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 && errno != EPERM)
            return error_errno(err, errno, "give up capability %u", i); /* EPERM: whoever started us gave fewer already */
    if (syscall(SYS_capget, &head, now) < 0)
        return error_errno(err, errno, "capabilities");
    for (unsigned i = 0; i < 2; i++)
        set[i].effective = set[i].permitted = now[i].permitted & (uint32_t)(keep >> 32 * i);
    if (syscall(SYS_capset, &head, set) < 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0
        || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_errno(err, errno, "capabilities");
    return true;
}

static void on_health(void *data, const char *check, const char *why)
{
    role_health(data, check, why);
}

static void serve(struct exchange *x, void *data)
{
    handler_serve(data, x);
}

static bool run(const struct options *o, struct role *r, struct error *err)
{
    AUTO_FREE char *boot = boot_id();
    AUTO_FREE char *kvm = xasprintf("%s/dev/kvm", o->host_root);
    AUTO_FREE char *mshv = xasprintf("%s/dev/mshv", o->host_root);
    AUTO_FREE char *vsock = xasprintf("%s/dev/vhost-vsock", o->host_root);
    const struct host_options host = {.boot_id = boot, .uid = NOBODY, .dirfd = -1, .kvm = kvm, .mshv = mshv};
    AUTO_CLOSE int pods = -1;
    struct handler *h;

    if (geteuid() != 0)
        return error_set(err, ERROR_FORBIDDEN, "it has to be root: it enters the network namespaces of pods");
    if (!keep_what_is_needed(err))
        return false;
    if (!file_open_dir(AT_FDCWD, o->pods_dir, &pods, err))
        return error_wrap(err, "the kubelet's pods, --pods-dir %s", o->pods_dir);
    if (!role_open(r, &o->common, "vireo-handler/" VIREO_VERSION, err))
        return false;
    h = handler_new(
        &(struct handler_config){
            .client = r->client, .node_name = o->node_name, .ns = o->common.ns, .pods_dirfd = pods, .boot_id = boot, .host = &host, .vhost_vsock = vsock,
            .device_plugin_dir = o->device_plugin_dir, .host_root = o->host_root, .max_devices = o->max_devices, .health = on_health,
            .health_data = r},
        err);
    if (!h)
        return false;
    if (!role_serve(r, &(struct role_server){.handle = serve, .data = h, .trust_ca = true}, err)) {
        handler_free(h);
        return false;
    }
    handler_start(h);
    loop_run(r->loop);
    handler_free(h);
    return true;
}

int handler_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct role role = {0};
    struct options o;
    bool ok;

    if (!parse(argc, argv, &o)) {
        fputs(handler_usage, stderr);
        return 2;
    }
    log_setup("handler", o.common.debug ? LOG_DEBUG : LOG_INFO, o.common.json);
    ok = run(&o, &role, &err);
    role_close(&role);
    if (!ok)
        fprintf(stderr, "vireo handler: %s\n", error_text(&err));
    return ok ? 0 : 1;
}
