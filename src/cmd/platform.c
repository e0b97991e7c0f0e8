#include "cmd/platform.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"

#define NAMESPACE "kubevirt"

/* Three steps, each "create, AlreadyExists is fine": namespace, object, status. A failed one is tried again. */
struct platform {
    struct client *client;
    struct client_call *call;
    struct loop_timer retry;
    unsigned step;
};

static void next(struct platform *p);

static void on_retry(struct loop_timer *t)
{
    next(container_of(t, struct platform, retry));
}

static void on_done(void *user, const struct client_response *r)
{
    struct platform *p = user;

    p->call = NULL;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_EXISTS) {
        /* A KubeVirt object of the user's own, elsewhere, is as good as ours. */
        if (p->step == 1 && r->err->kind == ERROR_FORBIDDEN)
            return;
        log_warning("kubevirt", "%s, retrying", error_text(r->err));
        loop_timer_start(p->client->loop, &p->retry, SECONDS(2), on_retry);
        return;
    }
    p->step++;
    next(p);
}

static const struct json *condition(struct arena *a, const char *type, bool status, const char *reason, const char *message,
                                    const char *now)
{
    return json_object(a, "type", json_new_z(a, type), "status", json_new_z(a, status ? "True" : "False"), "reason",
                       json_new_z(a, reason), "message", json_new_z(a, message), "lastProbeTime", json_new_z(a, now),
                       "lastTransitionTime", json_new_z(a, now), NULL);
}

/* Conditions and reasons as upstream's operator ends up with (reference/api-and-lifecycle.md §7 "Operator"). */
static const struct json *deployed(struct arena *a, int64_t unix_ns)
{
    char now[TIME_TEXT_LEN + 1];

    ident_time(unix_ns, false, now);
    const struct json *conditions = json_array(
        a, condition(a, "Available", true, "AllComponentsReady", "All components are ready.", now),
        condition(a, "Progressing", false, "AllComponentsReady", "All components are ready.", now),
        condition(a, "Degraded", false, "AllComponentsReady", "All components are ready.", now),
        condition(a, "Created", true, "AllResourcesCreated", "All resources were created.", now), NULL);

    return json_object(a, "status",
                       json_object(a, "phase", json_new_z(a, "Deployed"), "operatorVersion", json_new_z(a, VIREO_VERSION),
                                   "observedKubeVirtVersion", json_new_z(a, VIREO_VERSION), "targetKubeVirtVersion",
                                   json_new_z(a, VIREO_VERSION), "defaultArchitecture", json_new_z(a, "amd64"), "conditions",
                                   conditions, NULL),
                       NULL);
}

static void next(struct platform *p)
{
    AUTO(arena_done) struct arena a = {0};
    struct client_request r = {.verb = CLIENT_CREATE, .version = "v1", .group = ""};

    switch (p->step) {
    case 0:
        r.plural = "namespaces";
        r.body = json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "Namespace"), "metadata",
                             json_object(&a, "name", json_new_z(&a, NAMESPACE), NULL), NULL);
        break;
    case 1:
        r.group = "kubevirt.io";
        r.plural = "kubevirts";
        r.ns = STR(NAMESPACE);
        r.body = json_object(&a, "apiVersion", json_new_z(&a, "kubevirt.io/v1"), "kind", json_new_z(&a, "KubeVirt"), "metadata",
                             json_object(&a, "name", json_new_z(&a, "kubevirt"), "namespace", json_new_z(&a, NAMESPACE), NULL),
                             "spec", json_object(&a, NULL), NULL);
        break;
    case 2:
        r.verb = CLIENT_PATCH_MERGE;
        r.group = "kubevirt.io";
        r.plural = "kubevirts";
        r.subresource = "status";
        r.ns = STR(NAMESPACE);
        r.name = STR("kubevirt");
        r.body = deployed(&a, loop_unix_ns(p->client->loop));
        break;
    default:
        return;
    }
    p->call = client_call(p->client, &r, on_done, p);
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
    loop_timer_stop(&p->retry);
    free(p);
}
