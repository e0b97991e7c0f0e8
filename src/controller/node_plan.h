/* controller/node_plan - a node that is not heard of any more: closed for new VMs, and its VMs given up, on a cluster told to be out of sight. */
#pragma once
#include "controller/plan.h"

struct node_view {
    const struct json *node; /* NULL: it is gone */
    const struct json *vmis; /* array of those on it */
    const struct json
        *live; /* object: UIDs of VMIs that are alive, for all that can be known */
    int64_t now_unix_ns;
    bool embedded; /* no other controller says that the node is not ready */
};
void node_plan(const struct node_view *v, struct plan *p);
bool node_silent(const struct json *node, int64_t now_unix_ns);
