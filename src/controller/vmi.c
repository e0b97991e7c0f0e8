/* The view of a VirtualMachineInstance: itself, its pods, the claims that its volumes name. */
#include "controller/engine.h"
#include "controller/vmi_plan.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

static const struct json *claims_of(struct controllers *c, const struct json *vmi, struct arena *a)
{
    const struct json *claims = NULL;

    json_each_item(volume, json_at(vmi, "spec/volumes")) {
        struct str name = vmi_volume_claim(volume);
        const struct json *claim;

        if (!name.n)
            continue;
        claim = object_of(c, RESOURCE_PVC,
                          str_of(arena_printf(a, STR_FMT "/" STR_FMT, STR_ARG(meta_namespace(vmi)),
                                              STR_ARG(name))),
                          a);
        if (claim)
            claims = json_with_str(a, claims, name, claim);
    }
    return claims;
}

struct offer {
    struct controllers *c;
    bool kvm;
};

static bool offers_kvm(void *user, struct str key)
{
    struct offer *o = user;
    AUTO(arena_done) struct arena a = {0};
    struct str n = json_str_at(object_of(o->c, RESOURCE_NODE, key, &a),
                               "status/allocatable/devices.kubevirt.io~1kvm");

    o->kvm = n.n && !str_is(n, "0");
    return !o->kvm;
}

/* Left open, emulation is what is done where no node has a /dev/kvm that works. */
static bool wants_kvm(struct controllers *c)
{
    struct offer o = {.c = c};

    switch (kv_emulation(c->kv)) {
    case KV_EMULATION_NO:
        return true;
    case KV_EMULATION_YES:
        return false;
    case KV_EMULATION_AUTO:
        informer_each(c->informers[RESOURCE_NODE], offers_kvm, &o);
        return o.kvm || !c->config.embedded;
    }
    __builtin_unreachable();
}

/* Whether it needs an image of a registry besides the launcher's. */
static bool has_image(const struct json *vmi)
{
    if (json_at(vmi, "spec/domain/firmware/kernelBoot/container"))
        return true;
    json_each_item(volume, json_at(vmi, "spec/volumes"))
        if (json_get(volume, "containerDisk"))
            return true;
    return false;
}

static bool vm_alive(struct controllers *c, const struct json *vmi, struct arena *a)
{
    const struct json *owner = meta_controller(vmi), *vm;

    if (!str_is(json_str_at(owner, "kind"), "VirtualMachine"))
        return false;
    vm = object_of(c, RESOURCE_VM,
                   str_of(arena_printf(a, STR_FMT "/" STR_FMT, STR_ARG(meta_namespace(vmi)),
                                       STR_ARG(json_str_at(owner, "name")))),
                   a);
    return vm && str_eq(meta_uid(vm), json_str_at(owner, "uid"));
}

/* Who waits for a claim is planned again when any comes. */
static void note_waiting(struct controllers *c, const struct key_state *k, const struct vmi_view *v)
{
    bool waits = v->vmi && vmi_phase(v->vmi) == VMI_PENDING && !meta_deleting(v->vmi) && vmi_claim_in_the_way(v).n;

    if (!waits)
        free(map_del(&c->waiting_for_claim, str_of(k->key)));
    else if (!map_get(&c->waiting_for_claim, str_of(k->key)))
        map_set(&c->waiting_for_claim, str_of(k->key), xstrdup(k->key));
}

/* Nothing runs on a node that was deleted, or that somebody has declared to be switched off (what Kubernetes itself goes by, when it
 * lets a volume go to another node). */
static bool node_may_run(struct controllers *c, struct str name, struct arena *a)
{
    const struct json *node = object_of(c, RESOURCE_NODE, name, a);

    json_each_item(t, json_at(node, "spec/taints"))
        if (str_is(json_str_at(t, "key"), "node.kubernetes.io/out-of-service"))
            return false;
    return node != NULL;
}

/* Beside the embedded server the pod runtime starts nothing while an old process may live; on a cluster nobody does so for us. */
static bool unseen(struct controllers *c, const struct vmi_view *v, struct arena *a)
{
    enum vmi_phase phase = vmi_phase(v->vmi);

    return !c->config.embedded && (phase == VMI_SCHEDULED || phase == VMI_RUNNING) && json_len(v->pods) == 0
           && !map_get(&c->pods_seen_dead, meta_uid(v->vmi))
           && node_may_run(c, json_str_at(v->vmi, "status/nodeName"), a);
}

void vmi_make_plan(struct controllers *c, struct key_state *k, struct plan *p)
{
    struct arena *a = p->a;
    struct vmi_view v = {.vmi = object_of(c, RESOURCE_VMI, str_of(k->key), a)};
    enum vmi_phase phase = vmi_phase(v.vmi);
    int64_t now = loop_now_ns(c->loop);

    if (!v.vmi || (vmi_final(phase) && !meta_deleting(v.vmi))) {
        k->noticed_ns = 0;
        note_waiting(c, k, &(struct vmi_view){0});
        return;
    }
    v.pods = objects_of(c, RESOURCE_POD, meta_uid(v.vmi), a);
    if (json_len(json_at(v.vmi, "spec/volumes"))
        && (phase == VMI_PENDING || phase == VMI_SCHEDULING))
        v.claims = claims_of(c, v.vmi, a);
    v.vm_alive = vm_alive(c, v.vmi, a);
    v.now_unix_ns = loop_unix_ns(c->loop);
    v.failure = key_failure(k, a);
    v.config = c->kv;
    v.pod = (struct kv_pod_options){.launcher_image = c->launcher_image};
    if (phase == VMI_SCHEDULING && !meta_deleting(v.vmi) && vmi_wants_vsock(v.vmi)) {
        uint32_t chance;

        file_random(&chance, sizeof chance);
        v.vsock_cid = vsock_take(&c->vsock, str_of(k->key), meta_uid(v.vmi), chance);
    }
    if (phase == VMI_PENDING && json_len(v.pods) == 0) {
        v.pod.kvm = wants_kvm(c);
        v.pod.image_volumes = has_image(v.vmi) && image_volumes(c);
    }

    v.unseen = unseen(c, &v, a);
    if (!vmi_pod_lost(&v) || v.unseen)
        k->noticed_ns = 0;
    else if (k->noticed_ns == 0)
        k->noticed_ns = now > 0 ? now : 1;
    v.pod_gone_ns = k->noticed_ns ? now - k->noticed_ns : 0;
    note_waiting(c, k, &v);
    vmi_plan(&v, p);
}
