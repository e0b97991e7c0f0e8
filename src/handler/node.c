/* The Node object of this machine: made in embedded mode, labelled and kept alive in both (reference/api-and-lifecycle.md §4). */
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/ident.h"
#include "base/log.h"
#include "handler/internal.h"

#define HEARTBEAT      SECONDS(60) /* upstream: every 60 s × (1 … 2.2); five minutes without is a dead node */
#define HEARTBEAT_MORE SECONDS(60) /* … of a cluster's node up to this more, so that a thousand that started together do not write together */
#define RETRY          SECONDS(1)
#define DEVICE_SLOTS   "1000"      /* virtualMachineInstancesPerNode */
#define RESERVED_BYTES (256LL << 20) /* of the host's memory, for the host and for us */

enum { STEP_CREATE, STEP_STATUS, STEP_IDLE };

struct told { /* of a condition, and since when */
    char status[8];
    int64_t unix_ns;
};

struct node_object {
    struct handler *h;
    struct client_call *call;
    struct loop_timer beat;
    int step;
    bool again;
    int64_t ready_unix_ns;
    struct told kvm, hypervisors;
};

static void next(struct node_object *n);

static struct client *client_of(const struct handler *h)
{
    return h->config.node_client ? h->config.node_client : h->client;
}

static void on_beat(struct loop_timer *t)
{
    struct node_object *n = container_of(t, struct node_object, beat);

    host_check(n->h->host); /* what has changed is told when its verdict is there */
    if (n->step == STEP_IDLE)
        n->step = n->h->config.embedded ? STEP_STATUS : STEP_CREATE;
    next(n);
}

static const struct json *count(struct arena *a, int64_t v)
{
    return json_new_f(a, "%lld", (long long)v);
}

static const struct json *resources(const struct handler *h, struct arena *a, int64_t reserve)
{
    struct sysinfo info = {0};
    struct statvfs fs = {0};
    const struct json *r;

    sysinfo(&info);
    if (fstatvfs(h->config.pods_dirfd, &fs) < 0)
        log_debug(NULL, "statvfs: size of the data directory is unknown, ignoring");
    r = json_object(a, "cpu", count(a, sysconf(_SC_NPROCESSORS_ONLN)), "memory",
                    json_new_f(a, "%lldKi", ((long long)info.totalram * info.mem_unit - reserve) / 1024), "pods",
                    json_new_z(a, "10000"), "ephemeral-storage",
                    json_new_f(a, "%lldKi", (long long)fs.f_blocks * (long long)fs.f_frsize / 1024), NULL);
    r = json_with(a, r, "devices.kubevirt.io/tun", json_new_z(a, DEVICE_SLOTS));
    r = offer_resources(h, r, DEVICE_SLOTS, a);
    r = json_with(a, r, "devices.kubevirt.io/vhost-vsock",
                  json_new_z(a, access(h->config.vhost_vsock, F_OK) == 0 ? DEVICE_SLOTS : "0"));
    return json_with(a, r, "devices.kubevirt.io/vhost-net", json_new_z(a, access("/dev/vhost-net", F_OK) == 0 ? DEVICE_SLOTS : "0"));
}

static struct str file_line(const char *path, struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};

    buf_init(&b, 4096);
    if (!file_read(AT_FDCWD, path, &b, &err))
        return STR("");
    return arena_str(a, str_trim(buf_str(&b)));
}

static struct str os_name(struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    struct str rest, line;

    buf_init(&b, 16384);
    if (!file_read(AT_FDCWD, "/etc/os-release", &b, &err))
        return STR("Linux");
    for (rest = buf_str(&b); str_next(&rest, '\n', &line);)
        if (str_starts(line, STR("PRETTY_NAME=\"")) && line.n > 14)
            return arena_str(a, str_n(line.p + 13, line.n - 14));
    return STR("Linux");
}

static const struct json *node_info(const struct handler *h, struct arena *a)
{
    struct utsname u = {0};

    uname(&u);
    return json_object(a, "architecture", json_new_z(a, "amd64"), "bootID", json_new_z(a, h->boot_id), "containerRuntimeVersion",
                       json_new_z(a, "crun://vireo"), "kernelVersion", json_new_z(a, u.release), "kubeProxyVersion",
                       json_new_z(a, ""), "kubeletVersion", json_new_z(a, "v1.36.0+vireo-" VIREO_VERSION), "machineID",
                       json_new_str(a, file_line("/etc/machine-id", a)), "operatingSystem", json_new_z(a, "linux"), "osImage",
                       json_new_str(a, os_name(a)), "systemUUID",
                       json_new_str(a, file_line("/sys/class/dmi/id/product_uuid", a)), NULL);
}

static const struct json *condition(struct arena *a, const char *type, const char *status, const char *reason,
                                    const char *message, const char *now, int64_t since_unix_ns)
{
    char since[TIME_TEXT_LEN + 1];

    ident_time(since_unix_ns, false, since);
    return json_object(a, "type", json_new_z(a, type), "status", json_new_z(a, status), "reason", json_new_z(a, reason),
                       "message", json_new_z(a, message), "lastHeartbeatTime", json_new_z(a, now), "lastTransitionTime",
                       json_new_z(a, since), NULL);
}

/* Since when a condition says what it says. */
static int64_t since(struct told *t, const struct offer_condition *c, int64_t now)
{
    if (strcmp(t->status, c->status) != 0) {
        snprintf(t->status, sizeof t->status, "%s", c->status);
        t->unix_ns = now;
    }
    return t->unix_ns;
}

static const struct json *offered(struct told *t, const struct offer_condition *c, const char *now, int64_t now_unix_ns, struct arena *a)
{
    return condition(a, c->type, c->status, c->reason, c->message, now, since(t, c, now_unix_ns));
}

static const struct json *conditions(struct node_object *n, struct arena *a, const char *now)
{
    const struct handler *h = n->h;
    int64_t now_unix_ns = loop_unix_ns(h->loop);
    struct offer_condition kvm = offer_kvm(h, a), hypervisors = offer_hypervisors(h, a);

    return json_array(a, condition(a, "Ready", "True", "KubeletReady", "the node agent is posting ready status", now,
                                   n->ready_unix_ns),
                      offered(&n->kvm, &kvm, now, now_unix_ns, a), offered(&n->hypervisors, &hypervisors, now, now_unix_ns, a), NULL);
}

/* A cluster's node has its own host name, roles and architecture already: the kubelet's business, not ours. */
static const struct json *labels(const struct handler *h, bool patch, struct arena *a)
{
    const struct json *l = json_object(a, "kubevirt.io/schedulable", json_new_z(a, h->devices_wait ? "false" : "true"),
                                       "kubevirt.io/cpumanager", json_new_z(a, "false"), NULL);

    if (h->config.embedded) {
        l = json_with(a, l, "kubernetes.io/hostname", json_new_z(a, h->node_name));
        l = json_with(a, l, "kubernetes.io/arch", json_new_z(a, "amd64"));
        l = json_with(a, l, "kubernetes.io/os", json_new_z(a, "linux"));
        l = json_with(a, l, "node-role.kubernetes.io/control-plane", json_new_z(a, ""));
    }
    return offer_labels(h, l, patch, a);
}

static const struct json *annotations(const struct handler *h, struct arena *a)
{
    char now[TIME_TEXT_LEN + 1];

    ident_time(loop_unix_ns(h->loop), false, now);
    return offer_annotations(h, json_object(a, "kubevirt.io/heartbeat", json_new_z(a, now), NULL), a);
}

static const struct json *status(struct node_object *n, struct arena *a)
{
    const struct handler *h = n->h;
    char now[TIME_TEXT_LEN + 1], host[256] = "";

    ident_time(loop_unix_ns(h->loop), false, now);
    gethostname(host, sizeof host - 1);
    return json_object(a, "capacity", resources(h, a, 0), "allocatable", resources(h, a, RESERVED_BYTES), "conditions",
                       conditions(n, a, now), "nodeInfo", node_info(h, a), "addresses",
                       json_array(a,
                                  json_object(a, "type", json_new_z(a, "InternalIP"), "address", json_new_z(a, "127.0.0.1"), NULL),
                                  json_object(a, "type", json_new_z(a, "Hostname"), "address", json_new_z(a, host), NULL), NULL),
                       NULL);
}

static int64_t until_beat(const struct node_object *n)
{
    uint32_t random = 0;

    if (n->h->config.embedded)
        return HEARTBEAT;
    file_random(&random, sizeof random);
    return HEARTBEAT + (int64_t)(HEARTBEAT_MORE / UINT32_MAX * random);
}

static void on_done(void *user, const struct client_response *r)
{
    struct node_object *n = user;
    enum error_kind kind = r->err->kind;

    n->call = NULL;
    /* On a cluster the kubelet makes it. */
    if (kind == ERROR_NOT_FOUND && n->h->config.embedded) {
        n->step = STEP_CREATE;
    } else if (kind != ERROR_NONE && kind != ERROR_EXISTS) {
        log_warning("node", "%s, retrying", error_text(r->err));
        loop_timer_start(n->h->loop, &n->beat, RETRY, on_beat);
        return;
    } else if (n->step == STEP_CREATE) {
        n->step = STEP_STATUS;
    } else {
        n->step = n->again ? STEP_STATUS : STEP_IDLE;
        n->again = false;
    }
    if (n->step == STEP_IDLE)
        loop_timer_start(n->h->loop, &n->beat, until_beat(n), on_beat);
    else
        next(n);
}

/* Labels and heartbeat ride on the status patch's sibling only when they change; conditions are replaced as a whole. */
static void next(struct node_object *n)
{
    AUTO(arena_done) struct arena a = {0};
    struct handler *h = n->h;
    struct client_request r = {.group = "", .version = "v1", .plural = "nodes", .name = str_of(h->node_name)};

    if (n->call)
        return;
    if (n->step == STEP_CREATE && h->config.embedded) {
        r.verb = CLIENT_CREATE;
        r.name = STR_NONE;
        r.body = json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "Node"), "metadata",
                             json_object(&a, "name", json_new_z(&a, h->node_name), "labels", labels(h, false, &a), "annotations",
                                         annotations(h, &a), NULL),
                             "spec", json_object(&a, NULL), "status", status(n, &a), NULL);
    } else {
        r.verb = CLIENT_PATCH_MERGE;
        r.subresource = h->config.embedded ? "status" : NULL;
        r.body = json_object(&a, "metadata",
                             json_object(&a, "labels", labels(h, true, &a), "annotations", annotations(h, &a), NULL), "status",
                             h->config.embedded ? status(n, &a) : NULL, NULL);
    }
    n->call = client_call(client_of(h), &r, on_done, n);
}

struct node_object *node_object_new(struct handler *h)
{
    struct node_object *n = NEW(struct node_object);

    n->h = h;
    n->ready_unix_ns = loop_unix_ns(h->loop);
    n->step = STEP_CREATE;
    next(n);
    return n;
}

void node_object_changed(struct node_object *n)
{
    if (n->call) {
        n->again = true;
        return;
    }
    loop_timer_stop(&n->beat);
    if (n->step == STEP_IDLE)
        n->step = STEP_STATUS;
    next(n);
}

void node_object_free(struct node_object *n)
{
    if (!n)
        return;
    if (n->call)
        client_cancel(client_of(n->h), n->call);
    loop_timer_stop(&n->beat);
    free(n);
}
