#include "pod/internal.h"

#include <signal.h>

#include "api/meta.h"
#include "api/quantity.h"
#include "base/cleanup.h"
#include "base/ident.h"

static const struct json *z(struct arena *a, const char *text) { return json_new_z(a, text); }

static const char *time_text(int64_t unix_ns, struct arena *a)
{
    char text[TIME_TEXT_LEN + 1];

    ident_time(unix_ns, false, text);
    return arena_strdup(a, str_of(text));
}

/* Kubernetes' classes: Guaranteed when limits of CPU and memory are set and requests equal them. */
const char *status_qos(const struct json *pod)
{
    static const char *const names[] = {"cpu", "memory"};
    bool any = false, guaranteed = true;

    json_each_item(c, json_at(pod, "spec/containers")) {
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
            int64_t limit = quantity_millis(json_str(json_get(json_at(c, "resources/limits"), names[i])), 0);
            int64_t request = quantity_millis(json_str(json_get(json_at(c, "resources/requests"), names[i])), limit);

            any |= limit > 0 || request > 0;
            guaranteed &= limit > 0 && limit == request;
        }
    }
    return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

static const struct json *conditions(const struct json *pod, bool initialized, bool ready, const char *reason,
                                     const char *message, const char *now, struct arena *a)
{
    const struct json *list = json_at(pod, "status/conditions");
    struct condition scheduled = {.type = "PodScheduled", .status = "True"};
    struct condition init = {.type = "Initialized", .status = initialized ? "True" : "False"};
    struct condition is_ready = {.type = "Ready", .status = ready ? "True" : "False", .reason = reason, .message = message};
    struct condition containers = {.type = "ContainersReady", .status = is_ready.status, .reason = reason, .message = message};

    if (!list)
        list = json_array(a, NULL);
    list = conditions_set(a, list, &scheduled, now);
    list = conditions_set(a, list, &init, now);
    list = conditions_set(a, list, &is_ready, now);
    return conditions_set(a, list, &containers, now);
}

static const struct json *container(const struct json *pod, const struct json *state, bool ready, const char *uid,
                                    struct arena *a)
{
    const struct json *c = json_item(json_at(pod, "spec/containers"), 0), *image = json_get(c, "image");

    return json_array(a,
                      json_object(a, "name", json_get(c, "name"), "state", state, "lastState", json_object(a, NULL), "ready",
                                  json_new_bool(ready), "started", json_new_bool(ready), "restartCount", json_new_i64(a, 0),
                                  "image", image, "imageID", uid ? image : z(a, ""), "containerID",
                                  uid ? json_new_f(a, "crun://%s", uid) : NULL, NULL),
                      NULL);
}

static const struct json *addresses(const struct json *status, const struct record *rec, struct arena *a)
{
    if (rec->host_ip[0]) {
        status = json_with(a, status, "hostIP", z(a, rec->host_ip));
        status = json_with(a, status, "hostIPs", json_array(a, json_object(a, "ip", z(a, rec->host_ip), NULL), NULL));
    }
    if (rec->ip[0]) {
        status = json_with(a, status, "podIP", z(a, rec->ip));
        status = json_with(a, status, "podIPs", json_array(a, json_object(a, "ip", z(a, rec->ip), NULL), NULL));
    }
    return status;
}

/* The uid makes it fail on another pod of the same name. */
static const struct json *patch(const struct record *rec, const struct json *status, struct arena *a)
{
    return json_object(a, "metadata", json_object(a, "uid", z(a, rec->uid), NULL), "status", addresses(status, rec, a), NULL);
}

static const struct json *start_time(const struct json *pod, int64_t unix_ns, struct arena *a)
{
    const struct json *had = json_at(pod, "status/startTime");

    return json_is(had, JSON_STRING) ? had : z(a, time_text(unix_ns, a));
}

const struct json *status_running(const struct json *pod, const struct record *rec, struct arena *a)
{
    const char *at = time_text(rec->started_ns, a);
    const struct json *state = json_object(a, "running", json_object(a, "startedAt", z(a, at), NULL), NULL);

    return patch(rec,
                 json_object(a, "phase", z(a, "Running"), "qosClass", z(a, status_qos(pod)), "startTime",
                             start_time(pod, rec->created_ns, a), "conditions", conditions(pod, true, true, NULL, NULL, at, a),
                             "containerStatuses", container(pod, state, true, rec->uid, a), NULL),
                 a);
}

const struct json *status_waiting(const struct json *pod, const char *reason, const char *message, const struct record *rec,
                                  int64_t now_ns, struct arena *a)
{
    const char *now = time_text(now_ns, a);
    const struct json *waiting = json_object(
        a, "waiting", json_object(a, "reason", z(a, reason), "message", z(a, message), NULL), NULL);

    return patch(rec,
                 json_object(a, "phase", z(a, "Pending"), "qosClass", z(a, status_qos(pod)), "startTime",
                             start_time(pod, now_ns, a), "conditions",
                             conditions(pod, true, false, "ContainersNotReady", "containers with unready status: [compute]", now, a),
                             "containerStatuses", container(pod, waiting, false, NULL, a), NULL),
                 a);
}

const struct json *status_ended(const struct json *pod, const struct record *rec, struct arena *a)
{
    const char *at = time_text(rec->finished_ns, a);
    bool good = rec->exit_code == 0, ran = rec->started_ns > 0;
    const struct json *state = json_object(
        a, "terminated",
        json_object(a, "exitCode", json_new_i64(a, rec->exit_code), "signal", rec->signal ? json_new_i64(a, rec->signal) : NULL,
                    "reason", z(a, rec->reason ? rec->reason : good ? "Completed" : "Error"), "message", z(a, rec->message),
                    "startedAt", ran ? z(a, time_text(rec->started_ns, a)) : json_null(), "finishedAt", z(a, at), "containerID",
                    ran ? json_new_f(a, "crun://%s", rec->uid) : NULL, NULL),
        NULL);

    return patch(rec,
                 json_object(a, "phase", z(a, good ? "Succeeded" : "Failed"), "qosClass", z(a, status_qos(pod)), "startTime",
                             start_time(pod, rec->created_ns ? rec->created_ns : rec->finished_ns, a), "conditions",
                             conditions(pod, true, false, good ? "PodCompleted" : "PodFailed", NULL, at, a), "containerStatuses",
                             container(pod, state, false, ran ? rec->uid : NULL, a), NULL),
                 a);
}
