#include "cmd/platform.h"

#include <stdlib.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"
#include "client/informer.h"
#include "json/patch.h"

#define NAMESPACE "kubevirt"
#define SILENT    SECONDS(150) /* the agent's heartbeat comes every 60 s: two were missed */
#define RETRY     SECONDS(2)

/* First two steps, each "create, AlreadyExists is fine": namespace, object. Then the status follows what the nodes say. */
enum step { STEP_NAMESPACE, STEP_OBJECT, STEP_STATUS };
struct platform {
    struct client *client;
    struct client_call *call;
    struct informer *nodes, *kubevirts;
    struct loop_timer retry, silence; /* silence: when the agents that are heard of would be given up */
    enum step step;
    bool again; /* something changed while a write was under way */
};

static void next(struct platform *p);
static void look(struct platform *p);

static void on_retry(struct loop_timer *t)
{
    next(container_of(t, struct platform, retry));
}

static void on_made(void *user, const struct client_response *r)
{
    struct platform *p = user;

    p->call = NULL;
    /* A KubeVirt object of the user's own, elsewhere, is as good as ours: a second one is forbidden. */
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_EXISTS
        && !(p->step == STEP_OBJECT && r->err->kind == ERROR_FORBIDDEN)) {
        log_warning("kubevirt", "%s, retrying", error_text(r->err));
        loop_timer_start(p->client->loop, &p->retry, RETRY, on_retry);
        return;
    }
    p->step++;
    next(p);
}

/* --- status ------------------------------------------------------------------------------------------------------------ */

static const struct json *with(struct arena *a, const struct json *object, const char *type, bool status, const char *reason,
                               const char *message, const char *now)
{
    return condition_set(a, object,
                         &(struct condition){.type = type, .status = status ? "True" : "False", .reason = reason, .message = message},
                         now);
}

/* Conditions and reasons as upstream's operator ends up with (reference/api-and-lifecycle.md §7 "Operator"); what it has no word
 * for, an agent that fell silent, is Degraded. */
static const struct json *status(const struct json *kubevirt, bool ready, const char *now, struct arena *a)
{
    bool was_ready = str_is(json_str_at(kubevirt, "status/phase"), "Deployed");
    const char *reason = ready ? "AllComponentsReady" : was_ready ? "NodeAgentSilent" : "DeploymentInProgress";
    const char *message = ready       ? "All components are ready."
                          : was_ready ? "No node agent has been heard of lately: virtual machines go on, but none can be "
                                        "started or changed. The log of vireo serve tells why (lines of \"node\")."
                                      : "The node agent is being started.";
    const struct json *o = kubevirt;

    o = with(a, o, "Available", ready, reason, message, now);
    o = with(a, o, "Progressing", !ready && !was_ready, reason, message, now);
    o = with(a, o, "Degraded", !ready && was_ready, reason, message, now);
    o = with(a, o, "Created", true, "AllResourcesCreated", "All resources were created.", now);
    o = json_with_at(a, o, "status/phase", json_new_z(a, ready || was_ready ? "Deployed" : "Deploying"));
    o = json_with_at(a, o, "status/operatorVersion", json_new_z(a, VIREO_VERSION));
    o = json_with_at(a, o, "status/observedKubeVirtVersion", json_new_z(a, VIREO_VERSION));
    o = json_with_at(a, o, "status/targetKubeVirtVersion", json_new_z(a, VIREO_VERSION));
    return json_with_at(a, o, "status/defaultArchitecture", json_new_z(a, "amd64"));
}

struct survey {
    struct platform *p;
    struct arena *a;
    int64_t heard_ns;           /* of the agent that was heard last and is ready */
    const struct json *patched; /* the first KubeVirt object whose status is not true */
    const struct json *patch;
};

static bool survey_node(void *user, struct str key)
{
    struct survey *s = user;
    const struct json *node = informer_get(s->p->nodes, key, s->a);
    AUTO(error_clear) struct error err = {0};
    int64_t heard = 0;

    if (condition_is(node, "Ready", "True")
        && ident_parse_time(meta_annotation(node, "kubevirt.io/heartbeat"), &heard, &err) && heard > s->heard_ns)
        s->heard_ns = heard;
    return true;
}

static bool survey_kubevirt(void *user, struct str key)
{
    struct survey *s = user;
    int64_t unix_ns = loop_unix_ns(s->p->client->loop);
    const struct json *kubevirt = informer_get(s->p->kubevirts, key, s->a), *patch;
    char now[TIME_TEXT_LEN + 1];

    if (!kubevirt)
        return true;
    ident_time(unix_ns, false, now);
    patch = json_merge_diff(s->a, kubevirt, status(kubevirt, s->heard_ns + SILENT > unix_ns, now, s->a));
    if (json_len(patch) == 0)
        return true;
    s->patched = kubevirt;
    s->patch = patch;
    return false;
}

static void on_silence(struct loop_timer *t)
{
    look(container_of(t, struct platform, silence));
}

static void on_patched(void *user, const struct client_response *r)
{
    struct platform *p = user;

    p->call = NULL;
    if (r->err->kind == ERROR_NONE || r->err->kind == ERROR_NOT_FOUND || r->err->kind == ERROR_CONFLICT) {
        if (p->again) /* else the informer brings what is true now, and that looks again */
            look(p);
        return;
    }
    log_warning("kubevirt", "status: %s, retrying", error_text(r->err));
    loop_timer_start(p->client->loop, &p->retry, RETRY, on_retry);
}

/* One write at a time. */
static void look(struct platform *p)
{
    AUTO(arena_done) struct arena a = {0};
    struct survey s = {.p = p, .a = &a};
    int64_t left;

    p->again = p->call != NULL;
    if (p->call || !informer_synced(p->nodes) || !informer_synced(p->kubevirts))
        return;
    informer_each(p->nodes, survey_node, &s);
    left = s.heard_ns + SILENT - loop_unix_ns(p->client->loop);
    if (left > 0)
        loop_timer_start(p->client->loop, &p->silence, left, on_silence);
    informer_each(p->kubevirts, survey_kubevirt, &s);
    if (!s.patch)
        return;
    s.patch = json_with_at(&a, s.patch, "metadata/resourceVersion", json_at(s.patched, "metadata/resourceVersion"));
    p->call = client_call(p->client,
                          &(struct client_request){.verb = CLIENT_PATCH_MERGE, .group = "kubevirt.io", .version = "v1",
                                                   .plural = "kubevirts", .subresource = "status",
                                                   .ns = meta_namespace(s.patched), .name = meta_name(s.patched), .body = s.patch},
                          on_patched, p);
}

static void on_change(void *user, struct str key, const struct json *object, bool deleted)
{
    (void)key;
    (void)object;
    (void)deleted;
    look(user);
}

static void on_synced(void *user)
{
    look(user);
}

static void follow(struct platform *p)
{
    p->nodes = informer_new(&(struct informer_config){.client = p->client, .group = "", .version = "v1", .plural = "nodes",
                                                      .changed = on_change, .synced = on_synced, .user = p});
    p->kubevirts = informer_new(&(struct informer_config){.client = p->client, .group = "kubevirt.io", .version = "v1",
                                                          .plural = "kubevirts", .changed = on_change, .synced = on_synced,
                                                          .user = p});
}

static void next(struct platform *p)
{
    AUTO(arena_done) struct arena a = {0};
    struct client_request r = {.verb = CLIENT_CREATE, .version = "v1", .group = ""};

    switch (p->step) {
    case STEP_NAMESPACE:
        r.plural = "namespaces";
        r.body = json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "Namespace"), "metadata",
                             json_object(&a, "name", json_new_z(&a, NAMESPACE), NULL), NULL);
        break;
    case STEP_OBJECT:
        r.group = "kubevirt.io";
        r.plural = "kubevirts";
        r.ns = STR(NAMESPACE);
        r.body = json_object(&a, "apiVersion", json_new_z(&a, "kubevirt.io/v1"), "kind", json_new_z(&a, "KubeVirt"), "metadata",
                             json_object(&a, "name", json_new_z(&a, "kubevirt"), "namespace", json_new_z(&a, NAMESPACE), NULL),
                             "spec", json_object(&a, NULL), NULL);
        break;
    case STEP_STATUS:
        if (p->nodes)
            look(p);
        else
            follow(p);
        return;
    }
    p->call = client_call(p->client, &r, on_made, p);
}

struct platform *platform_new(struct client *c)
{
    struct platform *p = NEW(struct platform);

    p->client = c;
    next(p);
    return p;
}

void platform_free(struct platform *p)
{
    if (!p)
        return;
    if (p->call)
        client_cancel(p->client, p->call);
    informer_free(p->nodes);
    informer_free(p->kubevirts);
    loop_timer_stop(&p->retry);
    loop_timer_stop(&p->silence);
    free(p);
}
