/* The agents of many nodes in one process: what is looked at and remembered once for all of them. Each node's agent is otherwise the
 * same as in a process of its own: its machines, what it writes, its Node's labels and heartbeat. */
#include "handler/handler.h"

#include <stdlib.h>

#include "api/kv.h"
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"
#include "handler/internal.h"

struct handlers {
    struct handler_config config;
    struct informer *vmis, *kubevirts;
    struct host *host;
    struct recorder *recorder;
    struct kv_config *kv;
    struct map nodes; /* name → struct handler */
};

static void each(struct handlers *all, void (*fn)(struct handler *h))
{
    struct str name;
    size_t at = 0;
    void *value;

    while (map_next(&all->nodes, &at, &name, &value))
        fn(value);
}

static void on_vmi(void *user, struct str key, const struct json *vmi, bool deleted)
{
    struct handlers *all = user;
    struct handler *h = map_get(&all->nodes, meta_label(vmi, "kubevirt.io/nodeName"));

    (void)key;
    if (h)
        vm_changed(h, vmi, deleted);
}

static void take_config(struct handler *h)
{
    h->kv = h->all->kv;
}

static void on_kubevirt(void *user, struct str key, const struct json *object, bool deleted)
{
    struct handlers *all = user;
    struct kv_config *old = all->kv;
    AUTO(arena_done) struct arena a = {0};

    (void)key;
    (void)object;
    (void)deleted;
    all->kv = kv_config_new(informer_oldest(all->kubevirts, &a));
    each(all, take_config);
    kv_config_free(old);
    each(all, handler_look_again);
}

static void on_found(void *user)
{
    each(user, handler_look_again);
}

static void tell(struct handler *h)
{
    node_object_changed(h->node);
}

static void on_settled(void *user)
{
    each(user, tell);
}

/* What is on a node is found by its name. */
static size_t by_node(const struct json *vmi, struct str ret[4])
{
    ret[0] = meta_label(vmi, "kubevirt.io/nodeName");
    return ret[0].n ? 1 : 0;
}

struct handlers *handlers_new(const struct handler_config *c, struct error *err)
{
    struct handlers *all;

    if (!c->launchers || c->embedded) {
        error_set(err, ERROR_INTERNAL, "agents of many nodes are for simulated ones");
        return NULL;
    }
    all = NEW(struct handlers);
    all->config = *c;
    all->kv = kv_config_new(NULL);
    all->host = host_new(c->client->loop, c->host, on_found, on_settled, all);
    all->recorder = recorder_new(c->client, "virt-handler", NULL);
    return all;
}

void handlers_start(struct handlers *all)
{
    struct client *c = all->config.client;

    host_check(all->host);
    all->kubevirts = informer_new(&(struct informer_config){.client = c, .group = "kubevirt.io", .version = "v1",
                                                            .plural = "kubevirts", .ns = str_of(all->config.ns),
                                                            .changed = on_kubevirt, .user = all});
    all->vmis = informer_new(&(struct informer_config){.client = c, .group = "kubevirt.io", .version = "v1",
                                                       .plural = "virtualmachineinstances",
                                                       .label_selector = STR("kubevirt.io/nodeName"), .index = by_node,
                                                       .changed = on_vmi, .user = all});
}

struct keys {
    struct arena *a;
    VEC(const struct json *) vmis;
    struct informer *informer;
};

static bool take(void *user, struct str key)
{
    struct keys *k = user;
    const struct json *vmi = informer_get(k->informer, key, k->a);

    if (vmi)
        vec_push(&k->vmis, vmi);
    return true;
}

void handlers_add(struct handlers *all, const char *node_name)
{
    AUTO(arena_done) struct arena a = {0};
    struct keys k = {.a = &a, .informer = all->vmis};
    struct handler *h;

    if (map_get(&all->nodes, str_of(node_name)))
        return;
    h = NEW(struct handler);
    h->all = all;
    h->config = all->config;
    h->loop = all->config.client->loop;
    h->client = all->config.client;
    h->node_name = xstrdup(node_name);
    h->boot_id = xstrdup("");
    h->config.node_name = h->node_name;
    h->config.boot_id = h->boot_id;
    h->config.vhost_vsock = "/nonexistent/vhost-vsock";
    h->kv = all->kv;
    h->host = all->host;
    h->recorder = all->recorder;
    h->vmis = all->vmis;
    h->kubevirts = all->kubevirts;
    h->started = true;
    map_set(&all->nodes, str_of(node_name), h);
    h->node = node_object_new(h);
    informer_by_index(all->vmis, str_of(node_name), take, &k);
    for (size_t i = 0; i < k.vmis.n; i++)
        vm_changed(h, k.vmis.p[i], false);
    vec_done(&k.vmis);
}

void handlers_remove(struct handlers *all, struct str node_name)
{
    handler_free(map_del(&all->nodes, node_name));
}

static void release(void *h)
{
    handler_free(h);
}

void handlers_free(struct handlers *all)
{
    if (!all)
        return;
    informer_free(all->vmis);
    informer_free(all->kubevirts);
    map_done_with(&all->nodes, release);
    host_free(all->host);
    recorder_free(all->recorder);
    kv_config_free(all->kv);
    free(all);
}
