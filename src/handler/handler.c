#include "handler/handler.h"

#include <stdlib.h>

#include "api/kv.h"
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
static void look_again(struct handler *h)
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
    struct kv_config *c = kv_config_new(deleted ? NULL : object);
    enum kv_emulation emulation = kv_emulation(c);

    (void)key;
    kv_config_free(c);
    if ((int)emulation == h->emulation)
        return;
    h->emulation = (int)emulation;
    look_again(h);
}

static void on_probed(void *user, const struct probe_result *r)
{
    struct handler *h = user;

    h->kvm = *r;
    h->kvm_known = true;
    log_info(NULL, "KVM %s: %s", probe_verdict_name(r->verdict), r->reason);
    node_object_probe(h->node);
    look_again(h);
}

struct handler *handler_new(const struct handler_config *c, struct error *err)
{
    struct handler *h;

    if (c->pods_dirfd < 0) {
        error_set(err, ERROR_INTERNAL, "no pods directory");
        return NULL;
    }
    h = NEW(struct handler);
    h->config = *c;
    h->loop = c->client->loop;
    h->client = c->client;
    h->node_name = xstrdup(c->node_name);
    h->boot_id = xstrdup(c->boot_id ? c->boot_id : "");
    h->config.node_name = h->node_name;
    h->config.boot_id = h->boot_id;
    h->emulation = (int)KV_EMULATION_AUTO;
    h->recorder = recorder_new(c->client, "virt-handler", h->node_name);
    return h;
}

void handler_start(struct handler *h)
{
    AUTO(buf_done) struct buf selector = {0};

    h->started = true;
    buf_addf(&selector, "kubevirt.io/nodeName=%s", h->node_name);
    h->node = node_object_new(h);
    if (h->config.kvm)
        on_probed(h, h->config.kvm);
    else
        probe_kvm(h->loop, NULL, on_probed, h);
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
    informer_free(h->vmis);
    informer_free(h->kubevirts);
    while (map_next(&h->vms, &at, &uid, &value))
        vm_free(value);
    map_done(&h->vms);
    map_done(&h->by_key);
    node_object_free(h->node);
    recorder_free(h->recorder);
    free(h->node_name);
    free(h->boot_id);
    free(h);
}
