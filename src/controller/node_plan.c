#include "controller/node_plan.h"

#include "base/cleanup.h"
#include "base/ident.h"
#include "loop/loop.h"

#define SILENT_NS SECONDS(300)
#define AGAIN_NS SECONDS(30)

static void newest(struct str time, int64_t *ret)
{
    AUTO(error_clear) struct error err = {0};
    int64_t t;

    if (time.n && ident_parse_time(time, &t, &err) && t > *ret)
        *ret = t;
}

/* When the node's agent was last heard of; 0: it has never said. */
static int64_t heard_of(const struct json *node)
{
    int64_t t = 0;

    newest(meta_annotation(node, "kubevirt.io/heartbeat"), &t);
    if (t > 0)
        newest(json_str_at(condition_find(node, "Ready"), "lastHeartbeatTime"), &t);
    return t;
}

/* On a cluster nobody knows whether machines run on there: they are told to be out of sight, and stay what they were until their
 * node is back, or is declared dead. (Pods that are gone, or have ended, are seen to by the instances' own controller.) */
static const struct json *given_up(const struct node_view *v, const struct json *vmi, struct arena *a, const char *now)
{
    struct condition ready = {.type = "Ready", .status = "False", .reason = "GuestNotRunning",
                              .message = "the node of the virtual machine does not respond"};

    if (v->embedded)
        return condition_set(a, vmi_with_phase(a, vmi, "Failed", "NodeUnresponsive", now), &ready, now);
    if (str_is(json_str_at(condition_find(vmi, "Ready"), "reason"), "NodeUnresponsive"))
        return vmi;
    ready.reason = "NodeUnresponsive";
    ready.message = "the node of the virtual machine does not respond, and its pod has been told to end: the virtual machine is not started "
                    "elsewhere before the node is back, is tainted node.kubernetes.io/out-of-service, or is deleted";
    return condition_set(a, vmi, &ready, now);
}

static void give_up(const struct node_view *v, struct plan *p)
{
    const char *now = time_text(p->a, v->now_unix_ns);

    json_each_item(vmi, v->vmis) {
        enum vmi_phase phase = vmi_phase(vmi);

        if (vmi_final(phase) || json_get_str(v->live, meta_uid(vmi)))
            continue;
        if (p->n_actions == PLAN_ACTIONS) { /* the rest after these */
            plan_again(p, MILLIS(10));
            return;
        }
        if (plan_patch(p, RESOURCE_VMI, vmi, given_up(v, vmi, p->a, now), false) && p->n_notices < PLAN_NOTICES)
            plan_notice(p, "Warning", "NodeUnresponsive",
                        "the node agent has not been heard of for 5 minutes: virtual machine " STR_FMT "/" STR_FMT " is %s",
                        STR_ARG(meta_namespace(vmi)), STR_ARG(meta_name(vmi)), v->embedded ? "given up" : "out of sight");
    }
}

/* Closed for new VMs, and not Ready any more: one write after the other, as each is bound to what it was planned on. */
static void close_node(const struct node_view *v, struct plan *p)
{
    const struct condition unknown = {.type = "Ready",
                                      .status = "Unknown",
                                      .reason = "NodeStatusUnknown",
                                      .message = "the node agent has not been heard of for 5 minutes"};

    if (!str_is(meta_label(v->node, "kubevirt.io/schedulable"), "false"))
        plan_patch(p, RESOURCE_NODE, v->node,
                   meta_with_label(p->a, v->node, "kubevirt.io/schedulable", STR("false")), false);
    else if (v->embedded)
        plan_patch(p, RESOURCE_NODE, v->node,
                   condition_set(p->a, v->node, &unknown, time_text(p->a, v->now_unix_ns)), true);
}

/* > 0: nanoseconds until it is silent. A node that never had an agent is none of ours. */
static int64_t left_of(const struct json *node, int64_t now_unix_ns)
{
    int64_t heard = heard_of(node);

    return heard == 0 ? INT64_MAX : heard + SILENT_NS - now_unix_ns;
}

bool node_silent(const struct json *node, int64_t now_unix_ns)
{
    return left_of(node, now_unix_ns) <= 0;
}

void node_plan(const struct node_view *v, struct plan *p)
{
    int64_t left;

    p->about = v->node;
    if (!v->node)
        return;
    left = left_of(v->node, v->now_unix_ns);
    if (left > 0) {
        if (left < INT64_MAX)
            plan_again(p, left);
        return;
    }
    close_node(v, p);
    plan_again(p, AGAIN_NS); /* their pods go one by one */
    give_up(v, p);
}
