#include "operator/health.h"

#include "api/meta.h"
#include "base/buf.h"
#include "base/cleanup.h"

#define LOST_NAMED 5

/* Words of the kubelet and of containerd for a container that will not start by waiting alone. */
static bool is_trouble(struct str reason)
{
    static const char *const troubles[] = {"ImagePullBackOff",     "ErrImagePull",      "InvalidImageName",
                                           "ErrImageNeverPull",    "CrashLoopBackOff",  "CreateContainerConfigError",
                                           "CreateContainerError", "RunContainerError", "RegistryUnavailable",
                                           "ImageInspectError",    "PostStartHookError"};

    for (size_t i = 0; i < ARRAY_SIZE(troubles); i++)
        if (str_is(reason, troubles[i]))
            return true;
    return false;
}

static const char *container_trouble(const struct json *s, struct arena *a)
{
    const struct json *waiting = json_at(s, "state/waiting"), *ended = json_at(s, "lastState/terminated");
    struct str reason = json_str_at(waiting, "reason"), last = json_str_at(ended, "message");

    if (is_trouble(reason)) {
        struct str message = last.n ? str_trim(last) : json_str_at(waiting, "message");

        return arena_printf(a, STR_FMT ": " STR_FMT, STR_ARG(reason), STR_ARG(str_take(message, 300)));
    }
    if (str_is(json_str_at(ended, "reason"), "OOMKilled"))
        return "OOMKilled: it needs more memory than its limit";
    return NULL;
}

static const char *pod_trouble(const struct json *pod, struct arena *a)
{
    json_each_item(c, json_at(pod, "status/conditions")) {
        if (str_is(json_str_at(c, "type"), "PodScheduled") && str_is(json_str_at(c, "status"), "False"))
            return arena_printf(a, STR_FMT ": " STR_FMT, STR_ARG(json_str_at(c, "reason")),
                                STR_ARG(str_take(json_str_at(c, "message"), 300)));
    }
    json_each_item(s, json_at(pod, "status/containerStatuses")) {
        const char *why = container_trouble(s, a);

        if (why)
            return why;
    }
    return NULL;
}

static const char *pods_trouble(const struct json *workload, const struct json *pods, struct arena *a)
{
    struct str app = json_str(json_get(json_at(workload, "spec/selector/matchLabels"), "kubevirt.io"));

    json_each_item(p, pods) {
        const char *why = str_eq(meta_label(p, "kubevirt.io"), app) && !meta_deleting(p) ? pod_trouble(p, a) : NULL;

        if (why)
            return arena_printf(a, "pod " STR_FMT ": %s", STR_ARG(meta_name(p)), why);
    }
    /* A pod that could not even be made (an admission plugin, a quota) is told by the Deployment alone. */
    if (condition_is(workload, "ReplicaFailure", "True"))
        return arena_printf(a, STR_FMT,
                            STR_ARG(str_take(json_str_at(condition_find(workload, "ReplicaFailure"), "message"), 300)));
    return NULL;
}

static bool seen(const struct json *o)
{
    return json_i64_at(o, "status/observedGeneration", 0) >= meta_generation(o);
}

static bool deployment_ready(const struct json *o)
{
    int64_t want = json_i64_at(o, "spec/replicas", 1);

    return seen(o) && json_i64_at(o, "status/updatedReplicas", 0) >= want
           && json_i64_at(o, "status/availableReplicas", 0) >= want
           && json_i64_at(o, "status/replicas", 0) == json_i64_at(o, "status/updatedReplicas", 0);
}

/* A kubelet that is not heard of any more cannot say that its containers are well or not: Kubernetes itself then takes the pod's Ready away
 * and leaves all else as it was last told, also for a pod that is to go and never will. Whoever runs says both together. */
static bool lost(const struct json *pod)
{
    return str_is(meta_label(pod, "kubevirt.io"), "virt-handler") && str_is(json_str_at(pod, "status/phase"), "Running")
           && condition_is(pod, "Ready", "False") && condition_is(pod, "ContainersReady", "True");
}

int64_t health_lost(const struct json *pods)
{
    int64_t n = 0;

    json_each_item(p, pods)
        n += lost(p);
    return n;
}

static bool daemon_set_ready(const struct json *o, const struct json *pods, struct arena *a, const char **ret_why)
{
    int64_t want = json_i64_at(o, "status/desiredNumberScheduled", -1), without = health_lost(pods);
    AUTO(buf_done) struct buf names = {0};
    int64_t named = 0;

    if (!seen(o) || want < 0 || json_i64_at(o, "status/updatedNumberScheduled", 0) < want - without
        || json_i64_at(o, "status/numberAvailable", 0) < want - without)
        return false;
    json_each_item(p, pods)
        if (lost(p) && named++ < LOST_NAMED)
            buf_addf(&names, "%s" STR_FMT, names.n ? ", " : "", STR_ARG(json_str_at(p, "spec/nodeName")));
    if (without > LOST_NAMED)
        buf_addf(&names, " and %lld more", (long long)(without - LOST_NAMED));
    if (without > 0)
        *ret_why = arena_printf(a, "without the nodes that do not answer, whose agents follow when they are back: %s", names.p);
    return true;
}

bool health_of(enum managed_id kind, const struct json *object, const struct json *pods, struct arena *a, const char **ret_why)
{
    const struct json *available;
    bool ready = true;

    *ret_why = NULL;
    switch (kind) {
    case MANAGED_CRD:
        if (condition_is(object, "NamesAccepted", "False"))
            *ret_why = arena_strdup(a, json_str_at(condition_find(object, "NamesAccepted"), "message"));
        return condition_is(object, "Established", "True") && !meta_deleting(object);
    case MANAGED_DEPLOYMENT:
    case MANAGED_DAEMON_SET:
        ready = kind == MANAGED_DEPLOYMENT ? deployment_ready(object) : daemon_set_ready(object, pods, a, ret_why);
        if (!ready)
            *ret_why = pods_trouble(object, pods, a);
        return ready;
    case MANAGED_API_SERVICE:
        available = condition_find(object, "Available");
        if (str_is(json_str_at(available, "status"), "False"))
            *ret_why = arena_printf(a, STR_FMT ": " STR_FMT, STR_ARG(json_str_at(available, "reason")),
                                    STR_ARG(str_take(json_str_at(available, "message"), 300)));
        return str_is(json_str_at(available, "status"), "True");
    case MANAGED_PRIORITY_CLASS:
    case MANAGED_SERVICE_ACCOUNT:
    case MANAGED_CLUSTER_ROLE:
    case MANAGED_CLUSTER_ROLE_BINDING:
    case MANAGED_ROLE:
    case MANAGED_ROLE_BINDING:
    case MANAGED_CONFIG_MAP:
    case MANAGED_SECRET:
    case MANAGED_SERVICE:
    case MANAGED_PDB:
    case MANAGED_POLICY:
    case MANAGED_POLICY_BINDING:
    case MANAGED_VALIDATING:
    case MANAGED_MUTATING:
        return true;
    }
    __builtin_unreachable();
}
