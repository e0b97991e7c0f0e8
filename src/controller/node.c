/* The view of a Node: when it was heard of, and the instances on it whose pods are no longer alive. */
#include "controller/engine.h"
#include "controller/node_plan.h"

static bool pod_lives(const struct json *pod)
{
    struct str phase = json_str_at(pod, "status/phase");

    return !meta_deleting(pod) && !str_is(phase, "Failed") && !str_is(phase, "Succeeded");
}

void node_make_plan(struct controllers *c, struct key_state *k, struct plan *p)
{
    struct arena *a = p->a;
    struct node_view v = {.node = object_of(c, RESOURCE_NODE, str_of(k->key), a),
                          .now_unix_ns = loop_unix_ns(c->loop),
                          .embedded = c->config.embedded};

    if (!v.node)
        return;
    if (!node_silent(v.node, v.now_unix_ns)) {
        node_plan(&v, p); /* its instances need not be looked at */
        return;
    }
    v.vmis = objects_of(c, RESOURCE_VMI, str_of(k->key), a);
    json_each_item(vmi, v.vmis)
        json_each_item(pod, objects_of(c, RESOURCE_POD, meta_uid(vmi), a))
            if (pod_lives(pod))
                v.live = json_with_str(a, v.live, meta_uid(vmi), json_new_bool(true));
    node_plan(&v, p);
}
