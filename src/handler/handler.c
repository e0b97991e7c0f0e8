#include "handler/handler.h"

#include <stdlib.h>

#include "api/kv.h"
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"
#include "base/log.h"
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

    (void)key;
    kv_config_free(h->kv);
    h->kv = kv_config_new(deleted ? NULL : object);
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

static void on_settled(void *user)
{
    struct handler *h = user;

    if (h->host->running == 0) {
        replace(&h->answered, h->requested);
        log_verdicts(h);
    }
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
    return h;
}

void handler_start(struct handler *h)
{
    AUTO(buf_done) struct buf selector = {0}, own = {0};

    h->started = true;
    buf_addf(&selector, "kubevirt.io/nodeName=%s", h->node_name);
    buf_addf(&own, "metadata.name=%s", h->node_name);
    h->node = node_object_new(h);
    if (!host_check(h->host))
        log_verdicts(h); /* of the last start: nothing has changed */
    h->nodes = informer_new(&(struct informer_config){.client = h->client, .group = "", .version = "v1", .plural = "nodes",
                                                      .field_selector = buf_str(&own), .changed = on_node, .user = h});
    h->kubevirts = informer_new(&(struct informer_config){.client = h->client, .group = "kubevirt.io", .version = "v1",
                                                          .plural = "kubevirts", .changed = on_kubevirt, .user = h});
    h->vmis = informer_new(&(struct informer_config){.client = h->client, .group = "kubevirt.io", .version = "v1",
                                                     .plural = "virtualmachineinstances", .label_selector = buf_str(&selector),
                                                     .changed = on_vmi, .user = h});
}

void handler_free(struct handler *h)
{
    size_t at = 0;
    struct str uid;
    void *value;

    if (!h)
        return;
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
