/* What a kubelet says of a pod, step by step. One patch each, as a kubelet's: containers created, containers running, containers ended. */
#include "sim/internal.h"

#include "api/meta.h"

bool sim_pod_is_machine(const struct json *pod)
{
    return str_is(meta_label(pod, "kubevirt.io"), "virt-launcher");
}

static const struct json *condition(const struct sim_pod_view *v, const char *type, bool yes, const char *reason, const char *message,
                                    struct arena *a)
{
    return json_object(a, "type", json_new_z(a, type), "status", json_new_z(a, yes ? "True" : "False"), "lastProbeTime", json_null(),
                       "lastTransitionTime", json_new_z(a, v->now), "reason", reason ? json_new_z(a, reason) : json_null(), "message",
                       message ? json_new_z(a, message) : json_null(), NULL); /* null: what was said before goes */
}

/* Requests and limits of all containers: equal is Guaranteed, none is BestEffort. */
static const char *qos(const struct json *pod)
{
    bool any = false, same = true;

    json_each_item(c, json_at(pod, "spec/containers")) {
        static const char *const names[] = {"cpu", "memory"};
        const struct json *requests = json_at(c, "resources/requests"), *limits = json_at(c, "resources/limits");

        any |= json_len(requests) || json_len(limits);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
            const struct json *limit = json_get(limits, names[i]), *request = json_get(requests, names[i]);

            same &= limit && (!request || json_eq(limit, request));
        }
    }
    return !any ? "BestEffort" : same ? "Guaranteed" : "Burstable";
}

static const struct json *state_of(const struct sim_pod_view *v, const char *name, const char *reason, const char *message,
                                   int exit_code, struct arena *a)
{
    const struct json *s;

    if (str_is(str_of(name), "waiting"))
        s = json_object(a, "reason", json_new_z(a, reason), "message", json_new_z(a, message), NULL);
    else if (str_is(str_of(name), "running"))
        s = json_object(a, "startedAt", json_new_z(a, v->now), NULL);
    else
        s = json_object(a, "exitCode", json_new_i64(a, exit_code), "reason", json_new_z(a, reason), "startedAt",
                        json_new_z(a, v->started), "finishedAt", json_new_z(a, v->now), NULL);
    return json_object(a, name, s, NULL);
}

static const struct json *container(const struct sim_pod_view *v, const struct json *spec, bool ready, const struct json *state,
                                    bool begun, struct arena *a)
{
    struct str image = json_str_at(spec, "image");

    return json_object(a, "name", json_get(spec, "name"), "image", json_new_str(a, image), "imageID",
                       begun ? json_new_f(a, "simulated://" STR_FMT, STR_ARG(image)) : json_new_z(a, ""), "containerID",
                       begun ? json_new_f(a, "simulated://" STR_FMT "/" STR_FMT, STR_ARG(meta_uid(v->pod)),
                                          STR_ARG(json_str_at(spec, "name")))
                             : NULL,
                       "restartCount", json_new_i64(a, 0), "ready", json_new_bool(ready), "started", json_new_bool(ready), "state",
                       state, NULL);
}

static const struct json *containers(const struct sim_pod_view *v, const char *list, bool ready, const struct json *state, bool begun,
                                     struct arena *a)
{
    const struct json *out = NULL;

    json_each_item(c, json_at(v->pod, list))
        out = json_append(a, out ? out : json_array(a, NULL), container(v, c, ready, state, begun, a));
    return out;
}

static const struct json *addresses(const struct sim_pod_view *v, struct arena *a)
{
    const char *own = json_bool_at(v->pod, "spec/hostNetwork", false) ? v->node_address : v->pod_address;

    return json_object(a, "hostIP", json_new_z(a, v->node_address), "podIP", json_new_z(a, own), "podIPs",
                       json_array(a, json_object(a, "ip", json_new_z(a, own), NULL), NULL), "startTime", json_new_z(a, v->started), NULL);
}

static const struct json *patch(const struct sim_pod_view *v, const struct json *status, struct arena *a)
{
    return json_object(a, "metadata", json_object(a, "uid", json_at(v->pod, "metadata/uid"), NULL), "status", status, NULL);
}

static const struct json *waiting(const struct sim_pod_view *v, const char *reason, const char *message, struct arena *a)
{
    const char *why = "ContainersNotReady", *what = "containers with unready status: [compute]";
    bool inits = json_len(json_at(v->pod, "spec/initContainers")) > 0;
    const struct json *state = state_of(v, "waiting", reason, message, 0, a);

    if (!sim_pod_is_machine(v->pod))
        what = "containers with unready status";
    return patch(v,
                 json_object(a, "phase", json_new_z(a, "Pending"), "conditions",
                             json_array(a, condition(v, "Initialized", !inits, inits ? "ContainersNotInitialized" : NULL, NULL, a),
                                        condition(v, "Ready", false, why, what, a), condition(v, "ContainersReady", false, why, what, a),
                                        condition(v, "PodScheduled", true, NULL, NULL, a), NULL),
                             "hostIP", json_new_z(a, v->node_address), "startTime", json_new_z(a, v->started), "initContainerStatuses",
                             containers(v, "spec/initContainers", false, state, false, a), "containerStatuses",
                             containers(v, "spec/containers", false, state, false, a), "qosClass", json_new_z(a, qos(v->pod)), NULL),
                 a);
}

const struct json *sim_status_creating(const struct sim_pod_view *v, struct arena *a)
{
    return waiting(v, json_len(json_at(v->pod, "spec/initContainers")) ? "PodInitializing" : "ContainerCreating", NULL, a);
}

const struct json *sim_status_refused(const struct sim_pod_view *v, struct arena *a)
{
    return waiting(v, "Simulated",
                   "this node is simulated and runs the pods of virtual machines only: keep other pods away from nodes with the "
                   "label " SIM_MARK ", or start the simulator with --play-all",
                   a);
}

const struct json *sim_status_running(const struct sim_pod_view *v, struct arena *a)
{
    const struct json *s = addresses(v, a);

    s = json_with(a, s, "phase", json_new_z(a, "Running"));
    s = json_with(a, s, "conditions",
                  json_array(a, condition(v, "Initialized", true, NULL, NULL, a), condition(v, "Ready", true, NULL, NULL, a),
                             condition(v, "ContainersReady", true, NULL, NULL, a), NULL));
    s = json_with(a, s, "initContainerStatuses",
                  containers(v, "spec/initContainers", true, state_of(v, "terminated", "Completed", NULL, 0, a), true, a));
    return patch(v, json_with(a, s, "containerStatuses",
                              containers(v, "spec/containers", true, state_of(v, "running", NULL, NULL, 0, a), true, a)),
                 a);
}

const struct json *sim_status_ended(const struct sim_pod_view *v, struct arena *a)
{
    bool ok = v->exit_code == 0 && !v->evicted;
    const char *why = ok ? "PodCompleted" : "PodFailed";
    const struct json *s = json_object(
        a, "phase", json_new_z(a, ok ? "Succeeded" : "Failed"), "conditions",
        json_array(a, condition(v, "Ready", false, why, NULL, a), condition(v, "ContainersReady", false, why, NULL, a), NULL),
        "containerStatuses",
        containers(v, "spec/containers", false, state_of(v, "terminated", ok ? "Completed" : "Error", NULL, v->exit_code, a), true, a),
        NULL);

    if (v->evicted) {
        s = json_with(a, s, "reason", json_new_z(a, "Evicted"));
        s = json_with(a, s, "message", json_new_z(a, "The node was low on resource: memory (simulated)."));
    }
    return patch(v, s, a);
}
