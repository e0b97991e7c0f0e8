/* The view of a VirtualMachine: itself, its instance, its start revisions. */
#include "controller/engine.h"
#include "controller/vm_plan.h"

#include "base/cleanup.h"

void vm_make_plan(struct controllers *c, struct key_state *k, struct plan *p)
{
    struct arena *a = p->a;
    struct vm_view v = {.vm = object_of(c, RESOURCE_VM, str_of(k->key), a)};

    if (!v.vm)
        return;
    v.vmi = object_of(c, RESOURCE_VMI, str_of(k->key), a);
    v.revisions = objects_of(c, RESOURCE_REVISION, meta_uid(v.vm), a);
    json_each_item(r, v.revisions)
        if (v.vmi && str_eq(meta_name(r), json_str_at(v.vmi, "status/virtualMachineRevisionName")))
            v.revision = r;
    v.now_unix_ns = loop_unix_ns(c->loop);
    v.random = (uint64_t)loop_now_ns(c->loop) / 1000 ^ str_hash(meta_uid(v.vm));
    v.failure = key_failure(k, a);
    v.config = c->kv;
    v.on_cluster = !c->config.embedded;
    vm_plan(&v, p);
}
