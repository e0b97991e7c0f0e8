#include "handler/handler.h"

#include <stdlib.h>

#include "api/kv.h"
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"
#include "base/log.h"
#include "handler/device_plugin.h"
#include "handler/internal.h"

static void on_vmi(void *user, struct str key, const struct json *vmi, bool deleted)
{
    (void)key;
    vm_changed(user, vmi, deleted);
}

/* Everything that waits for a verdict or a setting looks again. */
void handler_look_again(struct handler *h)
{
    AUTO(arena_done) struct arena a = {0};
    size_t at = 0;
    struct str uid;
    void *value;
    VEC(struct vm *) all = {0};

    while (map_next(&h->vms, &at, &uid, &value))
        vec_push(&all, (struct vm *)value);
    for (size_t i = 0; i < all.n; i++) {
        const struct json *vmi = informer_get(h->vmis, str_of(all.p[i]->key), &a);

        if (vmi)
            vm_changed(h, vmi, false);
        arena_clear(&a);
    }
    vec_done(&all);
}

static void on_kubevirt(void *user, struct str key, const struct json *object, bool deleted)
{
    struct handler *h = user;
    AUTO(arena_done) struct arena a = {0};

    (void)key;
    (void)object;
    (void)deleted;
    kv_config_free(h->kv);
    h->kv = kv_config_new(informer_oldest(h->kubevirts, &a));
    handler_look_again(h);
}

/* --- what this machine can run --------------------------------------------------------------------------------------------- */

/* A verdict is there: VMs may wait for it. */
static void on_found(void *user)
{
    handler_look_again(user);
}

static void log_verdicts(const struct handler *h)
{
    if (h->host->kvm.s.known)
        log_info(NULL, "KVM %s: %s", probe_verdict_name(h->host->kvm.r.verdict), h->host->kvm.r.reason);
    for (size_t i = 0; i < h->host->n_vmms; i++) {
        const struct host_vmm *v = &h->host->vmms[i];
        struct host_verdict j;

        host_judge(h->host, v, str_of(h->allowed), &j);
        if (j.state == HOST_USABLE)
            log_info(NULL, "hypervisor %s %u.%u.%u is usable", v->driver->name, v->version.major, v->version.minor, v->version.patch);
        else
            log_info(NULL, "hypervisor %s is not usable: %s", v->driver->name, j.reason);
    }
}

static void replace(char **text, const char *with)
{
    free(*text);
    *text = with ? xstrdup(with) : NULL;
}

/* --- what the kubelet is told ------------------------------------------------------------------------------------------------ */

static void health(const struct handler *h, const char *check, const char *why)
{
    if (h->config.health)
        h->config.health(h->config.health_data, check, why);
}

static const char *kvm_trouble(const struct handler *h)
{
    const struct host_device *d = &h->host->kvm;

    if (!d->s.known)
        return "it is being tried out";
    return d->r.verdict == PROBE_WORKS ? NULL : d->r.reason;
}

/* Pods that ask for KVM wait with the scheduler's "Insufficient devices.kubevirt.io/kvm"; why that is so stands at the Node. */
static void tell_of_kvm(struct handler *h)
{
    AUTO(arena_done) struct arena a = {0};
    const struct host_device *d = &h->host->kvm;
    const struct json *node = h->nodes ? informer_get(h->nodes, str_of(h->node_name), &a) : NULL;

    if (!h->plugins)
        return;
    device_plugins_judge(h->plugins, "kvm", kvm_trouble(h));
    if (d->s.known && d->r.verdict == PROBE_WORKS)
        h->kvm_told = false;
    if (h->kvm_told || !node || !d->s.known || d->r.verdict == PROBE_WORKS || d->r.verdict == PROBE_ABSENT)
        return;
    h->kvm_told = true;
    recorder_event(h->recorder,
                   json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "Node"), "metadata",
                               json_object(&a, "name", json_new_z(&a, h->node_name), "uid", json_at(node, "metadata/uid"), NULL), NULL),
                   "Warning", "KVMUnusable", "devices.kubevirt.io/kvm: %s; %s", d->r.reason, probe_kvm_fix(d->r.verdict));
}

static void on_devices(void *user)
{
    struct handler *h = user;
    bool waits = !device_plugins_ready(h->plugins);

    health(h, "devices", waits ? "the kubelet has not taken all device plugins" : NULL);
    host_check(h->host);
    /* A kubelet that starts again judges the pods that run by their node selectors, and fails those that its Node does not satisfy: the
     * label stays. Until it knows the devices again it has none to give, so nothing new is scheduled here either. */
    if (waits || !h->devices_wait)
        return;
    h->devices_wait = false;
    if (h->node)
        node_object_changed(h->node);
}

static void on_settled(void *user)
{
    struct handler *h = user;

    if (h->host->running == 0) {
        replace(&h->answered, h->requested);
        log_verdicts(h);
    }
    tell_of_kvm(h);
    node_object_changed(h->node);
}

/* A request that the report on the Node answers already was one to our predecessor. */
static bool answered_before(const struct json *node, struct str request)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *report;

    return json_parse(meta_annotation(node, KV_ANNOTATION_REPORT), &a, &report, &err)
           && str_eq(json_str_at(report, "requested"), request);
}

static void on_node(void *user, struct str key, const struct json *node, bool deleted)
{
    struct handler *h = user;
    struct str allowed = meta_annotation(node, KV_ANNOTATION_OFFERS), request = meta_annotation(node, KV_ANNOTATION_PROBE);

    if (deleted || !str_is(key, h->node_name))
        return;
    tell_of_kvm(h);
    if ((allowed.p != NULL) != (h->allowed != NULL) || !str_is(allowed, h->allowed ? h->allowed : "")) {
        free(h->allowed);
        h->allowed = str_dup(allowed);
        node_object_changed(h->node);
        handler_look_again(h);
    }
    if (!request.n || str_is(request, h->requested ? h->requested : ""))
        return;
    free(h->requested);
    h->requested = str_dup(request);
    if (answered_before(node, request)) {
        replace(&h->answered, h->requested);
        return;
    }
    log_info(NULL, "hypervisors are probed anew: %s", KV_ANNOTATION_PROBE);
    host_probe(h->host);
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

struct handler *handler_new(const struct handler_config *c, struct error *err)
{
    struct handler *h;

    if (c->pods_dirfd < 0) {
        error_set(err, ERROR_INTERNAL, "no pods directory");
        return NULL;
    }
    h = NEW(struct handler);
    h->config = *c;
    if (!h->config.vhost_vsock)
        h->config.vhost_vsock = "/dev/vhost-vsock";
    h->loop = c->client->loop;
    h->client = c->client;
    h->node_name = xstrdup(c->node_name);
    h->boot_id = xstrdup(c->boot_id ? c->boot_id : "");
    h->config.node_name = h->node_name;
    h->config.boot_id = h->boot_id;
    h->kv = kv_config_new(NULL);
    h->host = host_new(h->loop, c->host ? c->host : &(struct host_options){.dirfd = -1}, on_found, on_settled, h);
    h->recorder = recorder_new(c->client, "virt-handler", h->node_name);
    if (!c->device_plugin_dir)
        return h;
    h->plugins = device_plugins_new(&(struct device_plugins_config){.loop = h->loop, .dir = c->device_plugin_dir,
                                                                    .host_root = c->host_root, .max_devices = c->max_devices,
                                                                    .changed = on_devices, .user = h},
                                    err);
    if (!h->plugins) {
        handler_free(h);
        return NULL;
    }
    h->devices_wait = true;
    return h;
}

static void on_vmis_synced(void *user)
{
    health(user, "machines", NULL);
}

void handler_start(struct handler *h)
{
    AUTO(buf_done) struct buf selector = {0}, own = {0};

    h->started = true;
    buf_addf(&selector, "kubevirt.io/nodeName=%s", h->node_name);
    buf_addf(&own, "metadata.name=%s", h->node_name);
    health(h, "machines", "the API server has not listed them yet");
    if (h->plugins)
        health(h, "devices", "the kubelet has not taken all device plugins");
    h->node = node_object_new(h);
    if (!host_check(h->host))
        log_verdicts(h); /* of the last start: nothing has changed */
    h->nodes = informer_new(&(struct informer_config){.client = h->client, .group = "", .version = "v1", .plural = "nodes",
                                                      .field_selector = buf_str(&own), .changed = on_node, .user = h});
    h->kubevirts = informer_new(&(struct informer_config){.client = h->client, .group = "kubevirt.io", .version = "v1",
                                                          .plural = "kubevirts", .ns = str_of(h->config.ns),
                                                          .changed = on_kubevirt, .user = h});
    h->vmis = informer_new(&(struct informer_config){.client = h->client, .group = "kubevirt.io", .version = "v1",
                                                     .plural = "virtualmachineinstances", .label_selector = buf_str(&selector),
                                                     .changed = on_vmi, .synced = on_vmis_synced, .user = h});
}

void handler_free(struct handler *h)
{
    size_t at = 0;
    struct str uid;
    void *value;

    if (!h)
        return;
    device_plugins_free(h->plugins);
    if (!h->all) {
        informer_free(h->vmis);
        informer_free(h->kubevirts);
        informer_free(h->nodes);
        host_free(h->host);
    }
    while (map_next(&h->vms, &at, &uid, &value))
        vm_free(value);
    map_done(&h->vms);
    map_done(&h->by_key);
    node_object_free(h->node);
    if (!h->all) {
        recorder_free(h->recorder);
        kv_config_free(h->kv);
    }
    free(h->node_name);
    free(h->boot_id);
    free(h->allowed);
    free(h->requested);
    free(h->answered);
    free(h);
}
