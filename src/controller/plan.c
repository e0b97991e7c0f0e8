#include "controller/plan.h"

#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "json/patch.h"

const struct resource resources[RESOURCES] = {
    [RESOURCE_VM] = {"kubevirt.io", "v1", "virtualmachines"},
    [RESOURCE_VMI] = {"kubevirt.io", "v1", "virtualmachineinstances"},
    [RESOURCE_POD] = {"", "v1", "pods"},
    [RESOURCE_NODE] = {"", "v1", "nodes"},
    [RESOURCE_PVC] = {"", "v1", "persistentvolumeclaims"},
    [RESOURCE_PV] = {"", "v1", "persistentvolumes"},
    [RESOURCE_CLASS] = {"storage.k8s.io", "v1", "storageclasses"},
    [RESOURCE_REVISION] = {"apps", "v1", "controllerrevisions"},
    [RESOURCE_PDB] = {"policy", "v1", "poddisruptionbudgets"},
    [RESOURCE_KUBEVIRT] = {"kubevirt.io", "v1", "kubevirts"},
};

struct action *plan_act(struct plan *p, enum action_kind kind, enum resource_id r,
                        const struct json *object, const struct json *body)
{
    struct action *act = &p->actions[p->n_actions++];

    assert(p->n_actions <= PLAN_ACTIONS);
    *act = (struct action){.kind = kind, .resource = r, .object = object, .body = body};
    return act;
}

bool plan_patch(struct plan *p, enum resource_id r, const struct json *old, const struct json *new,
                bool status)
{
    const struct json *patch;

    if (status) {
        old = json_with(p->a, old, "status", json_get(old, "status")); /* the rest as it is */
        new = json_with(p->a, old, "status", json_get(new, "status"));
    }
    if (json_eq(old, new))
        return false;
    patch = json_merge_diff(p->a, old, new);
    patch = json_with_at(p->a, patch, "metadata/resourceVersion",
                         json_at(old, "metadata/resourceVersion"));
    plan_act(p, status ? ACTION_PATCH_STATUS : ACTION_PATCH, r, old, patch);
    return true;
}

struct action *plan_delete(struct plan *p, enum resource_id r, const struct json *object,
                           int64_t seconds)
{
    const struct json *options = json_object(
        p->a, "apiVersion", json_new_z(p->a, "v1"), "kind", json_new_z(p->a, "DeleteOptions"),
        "gracePeriodSeconds", seconds < 0 ? NULL : json_new_i64(p->a, seconds), "preconditions",
        json_object(p->a, "uid", json_at(object, "metadata/uid"), NULL), "propagationPolicy",
        json_new_z(p->a, "Background"), NULL);

    return plan_act(p, ACTION_DELETE, r, object, options);
}

void plan_notice(struct plan *p, const char *type, const char *reason, const char *fmt, ...)
{
    AUTO(buf_done) struct buf b = {0};
    va_list ap;

    assert(p->n_notices < PLAN_NOTICES);
    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    p->notices[p->n_notices++] = (struct notice){type, reason, arena_strdup(p->a, buf_str(&b))};
}

void plan_again(struct plan *p, int64_t in_ns)
{
    if (in_ns < 1)
        in_ns = 1;
    if (p->again_ns == 0 || in_ns < p->again_ns)
        p->again_ns = in_ns;
}

const char *time_text(struct arena *a, int64_t unix_ns)
{
    char *text = arena_alloc_bytes(a, TIME_TEXT_LEN + 1);

    ident_time(unix_ns, false, text);
    return text;
}

enum vmi_phase vmi_phase(const struct json *vmi)
{
    static const struct {
        const char *name;
        enum vmi_phase phase;
    } phases[] = {
        {"Pending", VMI_PENDING}, {"Scheduling", VMI_SCHEDULING}, {"Scheduled", VMI_SCHEDULED},
        {"Running", VMI_RUNNING}, {"Succeeded", VMI_SUCCEEDED},   {"Failed", VMI_FAILED},
    };
    struct str phase = json_str_at(vmi, "status/phase");

    if (!vmi)
        return VMI_NONE;
    if (!phase.n)
        return VMI_PENDING;
    for (size_t i = 0; i < ARRAY_SIZE(phases); i++)
        if (str_is(phase, phases[i].name))
            return phases[i].phase;
    return VMI_OTHER;
}

bool vmi_was_running(const struct json *vmi)
{
    json_each_item(t, json_at(vmi, "status/phaseTransitionTimestamps"))
        if (str_is(json_str_at(t, "phase"), "Running"))
            return true;
    return false;
}

const struct json *vmi_with_phase(struct arena *a, const struct json *vmi, const char *phase,
                                  const char *reason, const char *now)
{
    const struct json *transition = json_object(
        a, "phase", json_new_z(a, phase), "phaseTransitionTimestamp", json_new_z(a, now), NULL);

    vmi = json_with_at(a, vmi, "status/phase", json_new_z(a, phase));
    if (reason)
        vmi = json_with_at(a, vmi, "status/reason", json_new_z(a, reason));
    return json_with_at(
        a, vmi, "status/phaseTransitionTimestamps",
        json_append(a, json_at(vmi, "status/phaseTransitionTimestamps"), transition));
}
