/* The view of a Node: when it was heard of, and the instances on it whose pods are no longer alive. */
#include "controller/engine.h"
#include "controller/node_plan.h"

static bool pod_lives(const struct json *pod)
{
    struct str phase = json_str_at(pod, "status/phase");

    return !meta_deleting(pod) && !str_is(phase, "Failed") && !str_is(phase, "Succeeded");
}

/* Is it alive, for all that can be known? On a cluster those without a pod, or with one that ended, are the instances' own controller's. */
static bool vmi_lives(struct controllers *c, const struct json *vmi, struct arena *a)
{
    json_each_item(pod, objects_of(c, RESOURCE_POD, meta_uid(vmi), a)) {
        if (c->config.embedded && pod_lives(pod))
            return true;
        if (!c->config.embedded && meta_deleting(pod))
            return false;
    }
    return !c->config.embedded;
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
        if (vmi_lives(c, vmi, a))
            v.live = json_with_str(a, v.live, meta_uid(vmi), json_new_bool(true));
    node_plan(&v, p);
}
