#include "subresources/subresources.h"

#include <stdlib.h>

#include "api/meta.h"
#include "api/status.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "subresources/internal.h"

#define GROUP       "kubevirt.io"
#define ASK_TIMEOUT SECONDS(15)

/* One request: fetch VM and VMI as far as the path needs them, decide, write what was decided, answer. */
enum step { STEP_VM, STEP_VMI, STEP_DECIDE, STEP_VMI_PATCH, STEP_SPEC_PATCH, STEP_STATUS_PATCH, STEP_PODS, STEP_POD, STEP_DONE };
struct op {
    struct subresources *s;
    struct exchange *x;
    struct arena *a;
    struct str ns, name, action, rest;
    bool on_vm, dry_run;
    enum step step;
    const struct json *body, *vm, *vmi;
    struct decision d;
    struct str pod;
    struct client_call *call;
    struct http_call *ask;
};

static void next(struct op *o);

void respond_refusal(struct exchange *x, int code, const char *message)
{
    static const struct {
        int code;
        const char *reason;
    } reasons[] = {{400, "BadRequest"}, {401, "Unauthorized"}, {403, "Forbidden"},   {404, "NotFound"},
                   {409, "Conflict"},   {500, "InternalError"}, {501, "NotImplemented"}, {503, "ServiceUnavailable"}};
    const char *reason = "";

    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
        if (reasons[i].code == code)
            reason = reasons[i].reason;
    apiserver_respond_status(x, code, status_failure(&x->arena, code, reason, message, NULL, NULL));
}

void respond_agent_refusal(struct exchange *x, int status, struct str body, const char *otherwise)
{
    AUTO(error_clear) struct error ignored = {0}; /* an answer without a Status is one without words */
    const struct json *answer;
    struct str message;

    if (!json_parse(body, &x->arena, &answer, &ignored))
        answer = NULL;
    message = json_str_at(answer, "message");
    /* "Not connected yet" is worth a retry, a conflict is not; all else is as upstream's virt-api answers. */
    respond_refusal(x, status == 404 || status == 409 || status == 503 ? status : 500,
                    message.n ? arena_strdup(&x->arena, message) : otherwise);
}

static void finish(struct op *o)
{
    o->x->closed = NULL;
    free(o);
}

static void refuse(struct op *o, int code, const char *message)
{
    struct exchange *x = o->x;

    finish(o);
    respond_refusal(x, code, message);
}

static void fail(struct op *o, const struct error *err)
{
    struct exchange *x = o->x;

    finish(o);
    apiserver_respond_error(x, err);
}

static void on_gone(struct exchange *x)
{
    struct op *o = x->user;

    if (o->call)
        client_cancel(o->s->config.client, o->call);
    if (o->ask)
        http_call_cancel(o->ask);
    free(o);
}

static void not_found(struct op *o, const char *plural)
{
    AUTO(error_clear) struct error err = {0};

    if (!status_not_found(&err, GROUP, plural, o->name))
        fail(o, &err);
}

static void on_fetched(void *user, const struct client_response *r)
{
    struct op *o = user;
    bool vm = o->step == STEP_VM;

    o->call = NULL;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND) {
        fail(o, r->err);
        return;
    }
    if (r->err->kind == ERROR_NONE && vm)
        o->vm = json_copy(o->a, r->body);
    else if (r->err->kind == ERROR_NONE)
        o->vmi = json_copy(o->a, r->body);
    o->step++;
    next(o);
}

static void on_written(void *user, const struct client_response *r)
{
    struct op *o = user;

    o->call = NULL;
    if (r->err->kind == ERROR_INVALID && o->step != STEP_VMI_PATCH) {
        /* The patch's test failed: somebody else changed the same field meanwhile. */
        refuse(o, 409, "the object has been modified; please apply your changes to the latest version and try again");
        return;
    }
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND) {
        fail(o, r->err);
        return;
    }
    o->step++;
    next(o);
}

static void fetch(struct op *o, const char *plural)
{
    o->call = client_call(o->s->config.client,
                          &(struct client_request){.verb = CLIENT_GET, .group = GROUP, .version = "v1", .plural = plural,
                                                   .ns = o->ns, .name = o->name},
                          on_fetched, o);
}

static void write_patch(struct op *o, enum client_verb verb, const char *plural, const char *subresource, const struct json *patch)
{
    o->call = client_call(o->s->config.client,
                          &(struct client_request){.verb = verb, .group = GROUP, .version = "v1", .plural = plural, .ns = o->ns,
                                                   .name = o->name, .subresource = subresource, .body = patch,
                                                   .query = o->dry_run ? STR("dryRun=All") : STR_NONE},
                          on_written, o);
}

/* A forced restart ends the launcher pod at once (grace 1 s, as upstream). */
static void on_pods(void *user, const struct client_response *r)
{
    struct op *o = user;
    struct str uid = json_str_at(o->vmi, "metadata/uid");

    o->call = NULL;
    if (r->err->kind != ERROR_NONE) {
        fail(o, r->err);
        return;
    }
    json_each_item(pod, json_get(r->body, "items"))
        if (meta_controlled_by(pod, uid))
            o->pod = arena_str(o->a, meta_name(pod));
    o->step = o->pod.n ? STEP_POD : STEP_DONE;
    next(o);
}

static void list_pods(struct op *o)
{
    const char *query = arena_printf(o->a, "labelSelector=kubevirt.io%%2Fcreated-by%%3D" STR_FMT,
                                     STR_ARG(json_str_at(o->vmi, "metadata/uid")));

    o->call = client_call(o->s->config.client,
                          &(struct client_request){.verb = CLIENT_LIST, .group = "", .version = "v1", .plural = "pods", .ns = o->ns,
                                                   .query = str_of(query)},
                          on_pods, o);
}

static void delete_pod(struct op *o)
{
    o->call = client_call(o->s->config.client,
                          &(struct client_request){.verb = CLIENT_DELETE, .group = "", .version = "v1", .plural = "pods",
                                                   .ns = o->ns, .name = o->pod,
                                                   .body = json_object(o->a, "gracePeriodSeconds", json_new_i64(o->a, 1), NULL)},
                          on_written, o);
}

/* --- asking the node agent -------------------------------------------------------------------------------------------------- */

/* The guest agent's own answers (QEMU guest agent protocol), as KubeVirt's kinds spell them. */
static const struct json *users(const struct json *info, struct arena *a)
{
    const struct json *list = json_array(a, NULL);

    json_each_item(u, json_get(info, "users"))
        list = json_append(a, list,
                           json_object(a, "userName", json_get(u, "user"), "domain", json_get(u, "domain"), "loginTime",
                                       json_get(u, "login-time"), NULL));
    return list;
}

static const struct json *filesystems(const struct json *info, struct arena *a)
{
    const struct json *list = json_array(a, NULL);

    json_each_item(f, json_get(info, "filesystems"))
        list = json_append(a, list,
                           json_object(a, "diskName", json_get(f, "name"), "mountPoint", json_get(f, "mountpoint"), "fileSystemType",
                                       json_get(f, "type"), "usedBytes", json_get(f, "used-bytes"), "totalBytes",
                                       json_get(f, "total-bytes"), NULL));
    return list;
}

static const struct json *guest_os(const struct json *info, struct arena *a)
{
    const struct json *os = json_get(info, "osinfo"), *zone = json_get(info, "timezone");
    const struct json *offset = json_new_f(a, STR_FMT ", %lld", STR_ARG(json_str_at(zone, "zone")),
                                           (long long)json_i64_at(zone, "offset", 0));

    return json_object(
        a, "guestAgentVersion", json_at(info, "info/version"), "supportedCommands", json_at(info, "info/supported_commands"),
        "hostname", json_at(info, "hostname/host-name"), "os",
        json_object(a, "name", json_get(os, "name"), "kernelRelease", json_get(os, "kernel-release"), "version",
                    json_get(os, "version"), "prettyName", json_get(os, "pretty-name"), "versionId", json_get(os, "version-id"),
                    "kernelVersion", json_get(os, "kernel-version"), "machine", json_get(os, "machine"), "id", json_get(os, "id"),
                    NULL),
        "timezone", zone ? offset : NULL, "userList", users(info, a), "fsInfo",
        json_object(a, "disks", filesystems(info, a), NULL), NULL);
}

static void on_asked(void *user, int status, struct str body, const struct error *err)
{
    struct op *o = user;
    struct exchange *x = o->x;
    AUTO(error_clear) struct error e = {0};
    const struct json *info;

    o->ask = NULL;
    if (err->kind != ERROR_NONE) {
        fail(o, err);
        return;
    }
    if (status != 200) {
        finish(o);
        respond_agent_refusal(x, status, body, "the node agent refused");
        return;
    }
    if (x->method != HTTP_GET) {
        finish(o);
        exchange_respond(x, 200, "application/json", STR(""));
        return;
    }
    if (!json_parse(body, o->a, &info, &e)) {
        fail(o, &e);
        return;
    }
    if (str_is(o->action, "guestosinfo"))
        info = guest_os(info, o->a);
    else if (str_is(o->action, "userlist"))
        info = json_object(o->a, "metadata", json_object(o->a, NULL), "items", users(info, o->a), NULL);
    else
        info = json_object(o->a, "metadata", json_object(o->a, NULL), "items", filesystems(info, o->a), NULL);
    finish(o);
    apiserver_respond_json(x, 200, info);
}

static void ask_agent(struct op *o)
{
    struct http_client *agent = o->s->config.agent(o->s->config.agent_data, json_str_at(o->vmi, "status/nodeName"));
    char *path;

    if (!agent) {
        refuse(o, 503, "the virtual machine's node has no agent that can be reached");
        return;
    }
    if (o->dry_run) {
        struct exchange *x = o->x;

        finish(o);
        exchange_respond(x, 200, "application/json", STR(""));
        return;
    }
    path = arena_printf(o->a, "/v1/namespaces/" STR_FMT "/virtualmachineinstances/" STR_FMT "/" STR_FMT, STR_ARG(o->ns),
                        STR_ARG(o->name), STR_ARG(o->action));
    o->ask = http_client_call(agent, &(struct http_request){.method = o->x->method, .path = str_of(path), .timeout_ns = ASK_TIMEOUT,
                                                            .done = on_asked, .user = o});
}

static void vsock(struct op *o)
{
    struct exchange *x = o->x;
    struct str port = exchange_query(x, "port");
    struct subresources *s = o->s;
    const struct json *vmi = o->vmi;

    decide_vsock(port, exchange_query(x, "tls"), o->a, &o->d);
    if (o->d.status) {
        refuse(o, o->d.status, o->d.message);
        return;
    }
    finish(o);
    stream_agent(s, x, vmi, arena_printf(&x->arena, "vsock?port=" STR_FMT, STR_ARG(port)));
}

static void act(struct op *o)
{
    char *action = arena_strdup(o->a, o->action);
    struct subresources *s = o->s;
    struct exchange *x = o->x;
    const struct json *vmi = o->vmi;
    struct str port = STR_NONE, protocol = STR_NONE, rest = o->rest;

    decide_action(action, vmi, o->a, &o->d);
    if (o->d.status) {
        refuse(o, o->d.status, o->d.message);
    } else if (strcmp(action, "console") == 0 || strcmp(action, "vnc") == 0) {
        finish(o);
        stream_agent(s, x, vmi, action);
    } else if (strcmp(action, "vsock") == 0) {
        vsock(o);
    } else if (strcmp(action, "portforward") == 0) {
        str_next(&rest, '/', &port);
        str_next(&rest, '/', &protocol);
        finish(o);
        stream_port(x, vmi, port, protocol);
    } else {
        ask_agent(o);
    }
}

static void decide(struct op *o)
{
    if (o->on_vm && str_is(o->action, "portforward")) {
        if (!o->vmi)
            refuse(o, 404, "VMI is not started");
        else
            act(o);
        return;
    }
    if (!o->on_vm) {
        if (!o->vmi)
            not_found(o, "virtualmachineinstances");
        else
            act(o);
        return;
    }
    if (str_is(o->action, "expand-spec")) {
        struct exchange *x = o->x;
        const struct json *vm = o->vm;

        finish(o);
        apiserver_respond_json(x, 200, vm);
        return;
    }
    if (str_is(o->action, "start"))
        decide_start(o->vm, o->vmi, o->body, o->a, &o->d);
    else if (str_is(o->action, "stop"))
        decide_stop(o->vm, o->vmi, o->body, o->a, &o->d);
    else
        decide_restart(o->vm, o->vmi, o->body, o->a, &o->d);
    if (o->d.status) {
        refuse(o, o->d.status, o->d.message);
        return;
    }
    o->step = STEP_VMI_PATCH;
    next(o);
}

static void next(struct op *o)
{
    struct exchange *x;

    switch (o->step) {
    case STEP_VM:
        if (o->on_vm) {
            fetch(o, "virtualmachines");
            return;
        }
        o->step = STEP_VMI;
        /* fall through */
    case STEP_VMI:
        if (o->on_vm && !o->vm) {
            not_found(o, "virtualmachines");
            return;
        }
        fetch(o, "virtualmachineinstances");
        return;
    case STEP_DECIDE:
        decide(o);
        return;
    case STEP_VMI_PATCH:
        if (o->d.vmi_patch) {
            write_patch(o, CLIENT_PATCH_MERGE, "virtualmachineinstances", NULL, o->d.vmi_patch);
            return;
        }
        o->step = STEP_SPEC_PATCH;
        /* fall through */
    case STEP_SPEC_PATCH:
        if (o->d.spec_patch) {
            write_patch(o, CLIENT_PATCH_JSON, "virtualmachines", NULL, o->d.spec_patch);
            return;
        }
        o->step = STEP_STATUS_PATCH;
        /* fall through */
    case STEP_STATUS_PATCH:
        if (o->d.status_patch) {
            write_patch(o, CLIENT_PATCH_JSON, "virtualmachines", "status", o->d.status_patch);
            return;
        }
        o->step = STEP_PODS;
        /* fall through */
    case STEP_PODS:
        if (o->d.delete_pod && !o->dry_run) {
            list_pods(o);
            return;
        }
        o->step = STEP_DONE;
        break;
    case STEP_POD:
        delete_pod(o);
        return;
    case STEP_DONE:
        break;
    }
    x = o->x;
    finish(o);
    exchange_respond(x, 202, "application/json", STR(""));
}

/* --- routing -------------------------------------------------------------------------------------------------------------------- */

/* What is served, and by which method. What KubeVirt has and this release lacks is named, so that the refusal can say so. */
static const struct {
    const char *resource, *action;
    enum http_method method;
    bool missing;
} routes[] = {
    {"virtualmachines", "start", HTTP_PUT, false},
    {"virtualmachines", "stop", HTTP_PUT, false},
    {"virtualmachines", "restart", HTTP_PUT, false},
    {"virtualmachines", "expand-spec", HTTP_GET, false},
    {"virtualmachines", "portforward", HTTP_GET, false},
    {"virtualmachineinstances", "console", HTTP_GET, false},
    {"virtualmachineinstances", "vnc", HTTP_GET, false},
    {"virtualmachineinstances", "portforward", HTTP_GET, false},
    {"virtualmachineinstances", "vsock", HTTP_GET, false},
    {"virtualmachineinstances", "pause", HTTP_PUT, false},
    {"virtualmachineinstances", "unpause", HTTP_PUT, false},
    {"virtualmachineinstances", "reset", HTTP_PUT, false},
    {"virtualmachineinstances", "softreboot", HTTP_PUT, false},
    {"virtualmachineinstances", "guestosinfo", HTTP_GET, false},
    {"virtualmachineinstances", "userlist", HTTP_GET, false},
    {"virtualmachineinstances", "filesystemlist", HTTP_GET, false},
    {"virtualmachines", "migrate", HTTP_PUT, true},
    {"virtualmachines", "addvolume", HTTP_PUT, true},
    {"virtualmachines", "removevolume", HTTP_PUT, true},
    {"virtualmachines", "memorydump", HTTP_PUT, true},
    {"virtualmachines", "removememorydump", HTTP_PUT, true},
    {"virtualmachines", "objectgraph", HTTP_GET, true},
    {"virtualmachines", "evacuate", HTTP_PUT, true},
    {"virtualmachineinstances", "freeze", HTTP_PUT, true},
    {"virtualmachineinstances", "unfreeze", HTTP_PUT, true},
    {"virtualmachineinstances", "usbredir", HTTP_GET, true},
    {"virtualmachineinstances", "addvolume", HTTP_PUT, true},
    {"virtualmachineinstances", "removevolume", HTTP_PUT, true},
    {"virtualmachineinstances", "sev", HTTP_GET, true},
    {"virtualmachineinstances", "backup", HTTP_PUT, true},
    {"virtualmachineinstances", "redefine-checkpoint", HTTP_PUT, true},
    {"virtualmachineinstances", "objectgraph", HTTP_GET, true},
    {"virtualmachineinstances", "evacuate", HTTP_PUT, true},
};

bool subresources_served(struct str resource, struct str subresource, const char **ret_resource, const char **ret_subresource)
{
    for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
        if (!routes[i].missing && str_is(resource, routes[i].resource) && str_is(subresource, routes[i].action)) {
            *ret_resource = routes[i].resource;
            *ret_subresource = routes[i].action;
            return true;
        }
    return false;
}

static bool parse_body(struct exchange *x, const struct json **ret, bool *ret_dry_run)
{
    AUTO(error_clear) struct error err = {0};
    struct str text = str_trim(x->body);

    *ret = NULL;
    *ret_dry_run = str_is(exchange_query(x, "dryRun"), "All");
    if (!text.n)
        return true;
    if (!json_parse(text, &x->arena, ret, &err)) {
        respond_refusal(x, 400, arena_printf(&x->arena, "Can not unmarshal Request body to struct, error: %s", error_text(&err)));
        return false;
    }
    json_each_item(d, json_get(*ret, "dryRun"))
        if (str_is(json_str(d), "All"))
            *ret_dry_run = true;
    return true;
}

static void begin(struct subresources *s, struct virtual_request *r, struct str action, struct str rest)
{
    struct op *o = NEW(struct op);

    o->s = s;
    o->x = r->x;
    o->a = &r->x->arena;
    o->ns = arena_str(o->a, r->ns);
    o->name = arena_str(o->a, r->name);
    o->action = arena_str(o->a, action);
    o->rest = rest.n ? arena_str(o->a, rest) : STR_NONE;
    o->on_vm = str_is(r->resource, "virtualmachines");
    o->step = o->on_vm ? STEP_VM : STEP_VMI;
    if (!parse_body(r->x, &o->body, &o->dry_run)) {
        free(o);
        return;
    }
    r->x->user = o;
    r->x->closed = on_gone;
    next(o);
}

static void root(struct subresources *s, struct virtual_request *r)
{
    struct arena *a = &r->x->arena;

    if (str_is(r->rest, "version"))
        apiserver_respond_json(r->x, 200,
                               json_object(a, "gitVersion", json_new_f(a, "v1.8.0+vireo-%s", s->version), "gitCommit",
                                           json_new_z(a, ""), "gitTreeState", json_new_z(a, "clean"), "buildDate", json_new_z(a, ""),
                                           "goVersion", json_new_z(a, "none"), "compiler", json_new_z(a, __VERSION__), "platform",
                                           json_new_z(a, "linux/amd64"), NULL));
    else if (str_is(r->rest, "healthz"))
        apiserver_respond_json(r->x, 200, json_object(a, "apiserver", json_object(a, "connectivity", json_new_z(a, "ok"), NULL), NULL));
    else if (str_is(r->rest, "guestfs"))
        respond_refusal(r->x, 501, "this is part of KubeVirt's API but not of this release of Vireo (see docs/compatibility.md)");
    else
        respond_refusal(r->x, 404, "the server could not find the requested resource");
}

/* PUT namespaces/NS/expand-vm-spec: the VM of the body with instance type and preference applied. Both are refused at
 * admission in this release, so a VM that has none comes back as it is, and one that has is refused here as there. */
static void expand(struct virtual_request *r)
{
    const struct json *vm;
    struct str ns;
    bool dry;

    if (r->x->method != HTTP_PUT) {
        respond_refusal(r->x, 405, "the server does not allow this method on the requested resource");
        return;
    }
    if (!parse_body(r->x, &vm, &dry))
        return;
    ns = json_str_at(vm, "metadata/namespace");
    if (!vm)
        respond_refusal(r->x, 400, "empty request body");
    else if (!str_is(meta_kind(vm), "VirtualMachine") || !json_at(vm, "spec/template/spec"))
        respond_refusal(r->x, 400, "Object is not a valid VirtualMachine");
    else if (ns.n && !str_eq(ns, r->ns))
        respond_refusal(r->x, 400, arena_printf(&r->x->arena, "VM namespace must be empty or " STR_FMT, STR_ARG(r->ns)));
    else if (json_at(vm, "spec/instancetype") || json_at(vm, "spec/preference"))
        respond_refusal(r->x, 501, "instance types and preferences are not part of this release of Vireo");
    else
        apiserver_respond_json(r->x, 200, vm);
}

static void handle(void *data, struct virtual_request *r)
{
    struct subresources *s = data;
    struct str rest = r->rest, action = STR_NONE;

    if (!r->name.n && str_is(r->resource, "expand-vm-spec")) {
        expand(r);
        return;
    }
    if (!r->name.n) {
        root(s, r);
        return;
    }
    str_next(&rest, '/', &action);
    for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
        if (!str_is(r->resource, routes[i].resource) || !str_is(action, routes[i].action))
            continue;
        if (routes[i].missing || (rest.n && !str_is(action, "portforward")))
            respond_refusal(r->x, 501,
                          arena_printf(&r->x->arena, "%s/%s%s" STR_FMT " is part of KubeVirt's API but not of this release of Vireo (see "
                                                     "docs/compatibility.md)", routes[i].resource, routes[i].action,
                                       rest.n ? "/" : "", STR_ARG(rest)));
        else if (r->x->method != routes[i].method)
            respond_refusal(r->x, 405, "the server does not allow this method on the requested resource");
        else
            begin(s, r, action, rest);
        return;
    }
    respond_refusal(r->x, 404, "the server could not find the requested resource");
}

static const char *make_discovery(struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};
    bool first = true;

    buf_adds(&b, "[{\"name\":\"expand-vm-spec\",\"singularName\":\"\",\"namespaced\":true,\"kind\":\"\",\"verbs\":[\"update\"]}");
    first = false;
    for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
        if (routes[i].missing)
            continue;
        buf_addf(&b, "%s{\"name\":\"%s/%s\",\"singularName\":\"\",\"namespaced\":true,\"kind\":\"\",\"verbs\":[\"%s\"]}",
                 first ? "" : ",", routes[i].resource, routes[i].action, routes[i].method == HTTP_GET ? "get" : "update");
        first = false;
    }
    buf_addc(&b, ']');
    return arena_strdup(a, buf_str(&b));
}

struct subresources *subresources_new(const struct subresources_config *c)
{
    struct subresources *s = NEW(struct subresources);

    s->config = *c;
    s->version = xstrdup(c->version);
    s->discovery = make_discovery(&s->arena);
    return s;
}

void subresources_free(struct subresources *s)
{
    if (!s)
        return;
    arena_done(&s->arena);
    free(s->version);
    free(s);
}

void subresources_group(struct subresources *s, struct virtual_group *ret)
{
    static const char *const versions[] = {"v1", "v1alpha3", NULL};

    *ret = (struct virtual_group){.group = "subresources.kubevirt.io", .versions = versions, .resources_json = s->discovery,
                                  .handle = handle, .data = s};
}
