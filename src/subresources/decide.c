/* Preconditions and messages as upstream's (reference/api-and-lifecycle.md §1.2), word for word where a client may look for them. */
#include "subresources/decide.h"

#include "api/meta.h"
#include "base/cleanup.h"

#define CONFLICT 409

static void refuse(struct decision *d, int status, const char *message)
{
    d->status = status;
    d->message = message;
}

/* runStrategy, also as the deprecated `running` says it. */
static struct str strategy_of(const struct json *vm)
{
    struct str s = json_str_at(vm, "spec/runStrategy");

    if (s.n)
        return s;
    return json_bool_at(vm, "spec/running", false) ? STR("Always") : STR("Halted");
}

static bool is_final(const struct json *vmi)
{
    struct str phase = json_str_at(vmi, "status/phase");

    return str_is(phase, "Succeeded") || str_is(phase, "Failed");
}

static const struct json *op(struct arena *a, const char *name, const char *path, const struct json *value)
{
    return json_object(a, "op", json_new_z(a, name), "path", json_new_z(a, path), "value", value, NULL);
}

/* The spec's wish, in the field that the user chose; the test keeps two deciders from crossing. */
static const struct json *wish(struct arena *a, const struct json *vm, const char *strategy, bool running)
{
    const struct json *old = json_at(vm, "spec/runStrategy");

    if (old)
        return json_array(a, op(a, "test", "/spec/runStrategy", old), op(a, "replace", "/spec/runStrategy", json_new_z(a, strategy)),
                          NULL);
    old = json_at(vm, "spec/running");
    return json_array(a, op(a, "test", "/spec/running", old ? old : json_null()),
                      op(a, old ? "replace" : "add", "/spec/running", json_new_bool(running)), NULL);
}

static const struct json *start_request(struct arena *a, bool paused)
{
    return json_object(a, "action", json_new_z(a, "Start"), "data",
                       paused ? json_object(a, "paused", json_new_z(a, "true"), NULL) : NULL, NULL);
}

static const struct json *stop_request(struct arena *a, const struct json *vmi)
{
    return json_object(a, "action", json_new_z(a, "Stop"), "uid", json_at(vmi, "metadata/uid"), NULL);
}

/* Puts requests on the VM's status. Others that wait already refuse the call, unless this is a stop alone: it replaces them. */
static void request(struct decision *d, struct arena *a, const struct json *vm, const struct json *requests, bool lone_stop)
{
    const struct json *pending = json_at(vm, "status/stateChangeRequests");

    if (json_len(pending) && !lone_stop) {
        refuse(d, 500, "unable to complete request: stop/start already underway");
        return;
    }
    if (!json_get(vm, "status"))
        d->status_patch = json_array(a, op(a, "add", "/status", json_object(a, "stateChangeRequests", requests, NULL)), NULL);
    else
        d->status_patch = json_array(a, op(a, "test", "/status/stateChangeRequests", pending ? pending : json_null()),
                                     op(a, pending ? "replace" : "add", "/status/stateChangeRequests", requests), NULL);
    /* A request by hand starts the count of failures anew. */
    if (json_at(vm, "status/startFailure"))
        d->status_patch = json_append(a, d->status_patch,
                                      json_object(a, "op", json_new_z(a, "remove"), "path", json_new_z(a, "/status/startFailure"), NULL));
}

void decide_start(const struct json *vm, const struct json *vmi, const struct json *body, struct arena *a, struct decision *d)
{
    struct str strategy = strategy_of(vm);
    bool paused = json_bool_at(body, "paused", false), failed = str_is(json_str_at(vmi, "status/phase"), "Failed");

    memset(d, 0, sizeof *d);
    if (vmi && !is_final(vmi)) {
        refuse(d, CONFLICT, "VM is already running");
    } else if (condition_is(vm, "ManualRecoveryRequired", "True")) {
        refuse(d, CONFLICT, "VM recovery required");
    } else if (str_is(strategy, "Halted")) {
        if (paused)
            request(d, a, vm, json_array(a, start_request(a, true), NULL), false);
        else
            d->spec_patch = wish(a, vm, "Always", true);
    } else if (str_is(strategy, "Manual") || str_is(strategy, "RerunOnFailure")) {
        if (vmi && failed && str_is(strategy, "RerunOnFailure"))
            refuse(d, CONFLICT, "RerunOnFailure does not support starting VM from failed state");
        else if (vmi)
            request(d, a, vm, json_array(a, stop_request(a, vmi), start_request(a, paused), NULL), false);
        else
            request(d, a, vm, json_array(a, start_request(a, paused), NULL), false);
    } else {
        refuse(d, CONFLICT, arena_printf(a, STR_FMT " does not support manual start requests", STR_ARG(strategy)));
    }
}

void decide_stop(const struct json *vm, const struct json *vmi, const struct json *body, struct arena *a, struct decision *d)
{
    struct str strategy = strategy_of(vm);
    bool live = vmi && !is_final(vmi), shorter = false;
    int64_t grace;

    memset(d, 0, sizeof *d);
    if (json_i64(json_get(body, "gracePeriod"), &grace)) {
        if (grace < 0) {
            refuse(d, 400, "gracePeriod has to be greater or equal to 0");
            return;
        }
        shorter = live && grace < json_i64_at(vmi, "spec/terminationGracePeriodSeconds", 30);
        if (live)
            d->vmi_patch = json_object(a, "spec", json_object(a, "terminationGracePeriodSeconds", json_new_i64(a, grace), NULL), NULL);
    }
    if (str_is(strategy, "Halted") || str_is(strategy, "RerunOnFailure") || str_is(strategy, "Manual")) {
        if (!live)
            refuse(d, CONFLICT, "VM is not running");
        else if (str_is(strategy, "Halted") && !shorter)
            refuse(d, CONFLICT, "Halted only supports manual stop requests with a shorter graceperiod");
        else
            request(d, a, vm, json_array(a, stop_request(a, vmi), NULL), true);
    } else {
        d->spec_patch = wish(a, vm, "Halted", false);
        /* A start that still waits (of a restart, say) would turn the wish back. */
        if (json_len(json_at(vm, "status/stateChangeRequests")))
            d->status_patch = json_array(a, op(a, "replace", "/status/stateChangeRequests", json_array(a, NULL)), NULL);
    }
    if (d->status)
        d->vmi_patch = NULL;
}

void decide_restart(const struct json *vm, const struct json *vmi, const struct json *body, struct arena *a, struct decision *d)
{
    struct str strategy = strategy_of(vm);
    int64_t grace;
    bool forced = json_i64(json_get(body, "gracePeriodSeconds"), &grace);

    memset(d, 0, sizeof *d);
    if (forced && grace > 0) {
        refuse(d, 400, "For force restart, only gracePeriod=0 is supported for now");
    } else if (forced && grace < 0) {
        refuse(d, 400, "gracePeriod has to be greater or equal to 0");
    } else if (str_is(strategy, "Halted") || str_is(strategy, "Once")) {
        /* "RunStategy" is upstream's spelling. */
        refuse(d, CONFLICT, arena_printf(a, "RunStategy " STR_FMT " does not support manual restart requests", STR_ARG(strategy)));
    } else if (!vmi || is_final(vmi)) {
        refuse(d, CONFLICT, "VM is not running: Halted");
    } else {
        request(d, a, vm, json_array(a, stop_request(a, vmi), start_request(a, false), NULL), false);
        d->delete_pod = forced && !d->status;
    }
}

/* What each action wants of the machine. */
enum wants {
    RUNNING = 1,
    NOT_PAUSED = 2,
    PAUSED = 4,
    AGENT = 8,
    CONSOLE = 16,
    GRAPHICS = 32,
    FAR_RUNNING_400 = 64,
    INTERFACES = 128,
    VSOCK = 256
};
static const struct {
    const char *action;
    int wants;
} actions[] = {
    {"pause", RUNNING | NOT_PAUSED},
    {"unpause", RUNNING | PAUSED},
    {"freeze", RUNNING | AGENT},
    {"unfreeze", RUNNING | AGENT},
    {"softreboot", RUNNING},
    {"reset", 0},
    {"console", CONSOLE | FAR_RUNNING_400},
    {"vnc", GRAPHICS | FAR_RUNNING_400},
    {"guestosinfo", RUNNING | AGENT},
    {"userlist", RUNNING | AGENT},
    {"filesystemlist", RUNNING | AGENT},
    {"portforward", INTERFACES | NOT_PAUSED},
    {"vsock", VSOCK | FAR_RUNNING_400 | NOT_PAUSED},
};

static bool running(const struct json *vmi)
{
    return str_is(json_str_at(vmi, "status/phase"), "Running");
}

static void judge(int wants, const char *action, const struct json *vmi, struct arena *a, struct decision *d)
{
    bool paused = condition_is(vmi, "Paused", "True");

    if ((wants & RUNNING) && !running(vmi))
        refuse(d, CONFLICT, strcmp(action, "unpause") == 0 ? "VMI is not running" : "VM is not running");
    else if ((wants & CONSOLE) && !json_bool_at(vmi, "spec/domain/devices/autoattachSerialConsole", true))
        refuse(d, 400, "No serial consoles are present.");
    else if ((wants & GRAPHICS) && !json_bool_at(vmi, "spec/domain/devices/autoattachGraphicsDevice", true))
        refuse(d, 400, "No graphics devices are present.");
    else if ((wants & VSOCK) && !json_bool_at(vmi, "spec/domain/devices/autoattachVSOCK", false))
        refuse(d, 400, "VSOCK is not attached.");
    else if ((wants & CONSOLE) && str_is(json_str_at(vmi, "status/phase"), "Failed"))
        refuse(d, CONFLICT, "VMI is in failed status");
    else if ((wants & FAR_RUNNING_400) && !running(vmi))
        refuse(d, 400, "VMI is not running");
    else if ((wants & NOT_PAUSED) && paused)
        refuse(d, CONFLICT, strcmp(action, "pause") == 0 ? "VMI is already paused" : "VMI is paused");
    else if ((wants & PAUSED) && !paused)
        refuse(d, CONFLICT, "VMI is not paused");
    else if ((wants & AGENT) && !condition_is(vmi, "AgentConnected", "True"))
        refuse(d, CONFLICT, "VMI does not have guest agent connected");
    else if ((wants & INTERFACES) && !json_str_at(json_item(json_at(vmi, "status/interfaces"), 0), "ipAddress").n)
        refuse(d, 400, "no network interfaces are present");
    else if (strcmp(action, "pause") == 0 && json_at(vmi, "spec/livenessProbe"))
        refuse(d, 403, "Pausing VMIs with LivenessProbe is currently not supported");
    else if (strcmp(action, "softreboot") == 0 && paused)
        refuse(d, CONFLICT, "VMI is paused");
    else if (strcmp(action, "softreboot") == 0 && !condition_is(vmi, "AgentConnected", "True")
             && !json_bool_at(vmi, "spec/domain/features/acpi/enabled", true))
        refuse(d, CONFLICT, "VMI neither have the agent connected nor the ACPI feature enabled");
    else if (strcmp(action, "reset") == 0 && !running(vmi))
        refuse(d, CONFLICT, arena_printf(a, "Failed to reset non-running VMI with phase " STR_FMT ": it does not run",
                                         STR_ARG(json_str_at(vmi, "status/phase"))));
}

/* Left out, tls means true upstream: its agent then speaks TLS to the guest and shows a client certificate, by which the guest
 * knows the host. There is no such certificate here, and a stream in clear is not what was asked for. */
void decide_vsock(struct str port, struct str tls, struct arena *a, struct decision *d)
{
    AUTO(error_clear) struct error err = {0};
    uint64_t n;
    bool off = str_is(tls, "false") || str_is(tls, "False") || str_is(tls, "FALSE")
               || str_is(tls, "f") || str_is(tls, "F") || str_is(tls, "0"); /* as Go reads it */

    memset(d, 0, sizeof *d);
    if (!port.n || !parse_u64(port, UINT32_MAX - 1, &n, &err))
        refuse(d, 400,
               arena_printf(a, "port=" STR_FMT ": the guest's port must be a number from 0 to %u",
                            STR_ARG(port), UINT32_MAX - 1));
    else if (!off)
        refuse(d, 501,
               arena_printf(a,
                            "tls=" STR_FMT "%s: TLS to the guest is not part of this release of "
                                           "Vireo: ask with tls=false, and "
                            "let client and guest speak TLS themselves",
                            STR_ARG(tls), tls.n ? "" : "true (the default)"));
}

void decide_action(const char *action, const struct json *vmi, struct arena *a, struct decision *d)
{
    memset(d, 0, sizeof *d);
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
        if (strcmp(action, actions[i].action) == 0)
            judge(actions[i].wants, action, vmi, a, d);
}
