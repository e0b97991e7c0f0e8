/* controller/plan - what a controller wants done about one key: a list of actions, made without I/O and without a clock. */
#pragma once
#include "api/meta.h"

enum resource_id {
    RESOURCE_VM,
    RESOURCE_VMI,
    RESOURCE_POD,
    RESOURCE_NODE,
    RESOURCE_PVC,
    RESOURCE_PV,
    RESOURCE_CLASS,
    RESOURCE_REVISION,
    RESOURCE_PDB,
    RESOURCE_KUBEVIRT,
};
enum { RESOURCES = RESOURCE_KUBEVIRT + 1 };
struct resource {
    const char *group, *version, *plural;
};
extern const struct resource resources[RESOURCES];

/* An Event to come. reason NULL: none. */
struct notice {
    const char *type, *reason, *message;
};

enum action_kind {
    ACTION_CREATE,       /* body is the object; that it exists is as good */
    ACTION_PATCH,        /* merge patch of object */
    ACTION_PATCH_STATUS, /* the same through the status subresource */
    ACTION_CONDITION,    /* strategic patch of a pod's status: other writers' conditions stay */
    ACTION_BIND,         /* body is the Binding of object */
    ACTION_DELETE,       /* of exactly this object (by UID); that it is gone is as good */
};
struct action {
    enum action_kind kind;
    enum resource_id resource;
    const struct json
        *object; /* what it is about: its namespace, name, uid and revision are read */
    const struct json *body;
    struct notice done,
        failed; /* said about plan.about when it has succeeded, or failed (message NULL: the error's text) */
};

enum { PLAN_ACTIONS = 8, PLAN_NOTICES = 4 };
struct plan {
    struct arena *a;
    const struct json *about; /* whose Events these are */
    struct action actions[PLAN_ACTIONS];
    size_t n_actions;
    struct notice notices[PLAN_NOTICES];
    size_t n_notices;
    int64_t again_ns; /* > 0: plan again after that time, whatever happens */
};

/* How the last actions of this key ended, kept by the engine until some succeed. */
struct failure {
    const char *reason; /* of the action's `failed` notice; NULL: no failure */
    const char *message;
};

struct action *plan_act(struct plan *p, enum action_kind kind, enum resource_id r,
                        const struct json *object, const struct json *body);
/* A merge patch from old to new, refused by the server if `old` is not the newest. Nothing when they are equal. `status`: only
 * status is compared, and written through the subresource. Returns whether there is anything to write. */
bool plan_patch(struct plan *p, enum resource_id r, const struct json *old, const struct json *new,
                bool status);
/* `seconds` < 0: the object's own grace period. */
struct action *plan_delete(struct plan *p, enum resource_id r, const struct json *object,
                           int64_t seconds);
void plan_notice(struct plan *p, const char *type, const char *reason, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void plan_again(struct plan *p, int64_t in_ns); /* the earliest wins */

const char *time_text(struct arena *a, int64_t unix_ns);

/* Instances */
enum vmi_phase {
    VMI_NONE, /* there is no instance */
    VMI_PENDING,
    VMI_SCHEDULING,
    VMI_SCHEDULED,
    VMI_RUNNING,
    VMI_SUCCEEDED,
    VMI_FAILED,
    VMI_OTHER, /* WaitingForSync, Unknown */
};
enum vmi_phase vmi_phase(const struct json *vmi);
static inline bool vmi_final(enum vmi_phase p)
{
    return p == VMI_SUCCEEDED || p == VMI_FAILED;
}
bool vmi_was_running(const struct json *vmi);
/* With the phase, its transition time and, where given, status.reason. */
const struct json *vmi_with_phase(struct arena *a, const struct json *vmi, const char *phase,
                                  const char *reason, const char *now);

#define FINALIZER_VM                                                                               \
    "kubevirt.io/virtualMachineControllerFinalize" /* on VM and VMI: the VM's controller has seen the end */
#define FINALIZER_VMI "kubevirt.io/foregroundDeleteVirtualMachine" /* on VMI: its pods are gone */
