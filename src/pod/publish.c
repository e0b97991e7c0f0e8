/* What the API is told of a pod: one patch for a real change, repeated until it arrived. */
#include "pod/internal.h"

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"

#define RETRY_NS SECONDS(1)

static void next(struct pod *p);

static void on_retry(struct loop_timer *t)
{
    struct pod *p = container_of(t, struct pod, status_retry);

    next(p);
    pod_step_soon(p);
}

static void answered(struct pod *p, void *arg, const struct client_response *r)
{
    enum pod_publish what = (enum pod_publish)(uintptr_t)arg;

    p->status_busy = false;
    /* A pod that is not there or is another one by now needs no status. */
    if (r->err->kind == ERROR_NONE || r->err->kind == ERROR_NOT_FOUND || r->err->kind == ERROR_CONFLICT
        || r->err->kind == ERROR_INVALID) {
        if (r->err->kind == ERROR_INVALID)
            log_error(pod_tag(p), "status refused: %s", error_text(r->err));
        if (what == PUBLISH_ENDED)
            p->final_sent = true;
        next(p);
        return;
    }
    log_warning(pod_tag(p), "status: %s, retrying", error_text(r->err));
    if (p->publish < what)
        p->publish = what;
    loop_timer_start(p->r->loop, &p->status_retry, RETRY_NS, on_retry);
}

static const struct json *body_of(struct pod *p, enum pod_publish what, const struct json *pod, struct arena *a)
{
    switch (what) {
    case PUBLISH_WAITING:
        return status_waiting(pod, p->waiting_reason, p->waiting_message, &p->rec, loop_unix_ns(p->r->loop), a);
    case PUBLISH_RUNNING:
        return status_running(pod, &p->rec, a);
    case PUBLISH_ENDED:
        return status_ended(pod, &p->rec, a);
    case PUBLISH_NOTHING:
        break;
    }
    return NULL;
}

static void next(struct pod *p)
{
    AUTO(arena_done) struct arena a = {0};
    enum pod_publish what = p->publish;
    const struct json *pod;

    if (what == PUBLISH_NOTHING || p->status_busy || !p->r->synced || loop_timer_active(&p->status_retry))
        return;
    pod = pod_object(p, &a);
    p->publish = PUBLISH_NOTHING;
    if (!pod || p->gone) {
        p->final_sent |= what == PUBLISH_ENDED;
        return;
    }
    p->status_busy = true;
    pod_call(p,
             &(struct client_request){.verb = CLIENT_PATCH_MERGE, .group = "", .version = "v1", .plural = "pods",
                                      .ns = str_of(p->rec.ns), .name = str_of(p->rec.name), .subresource = "status",
                                      .body = body_of(p, what, pod, &a)},
             answered, (void *)(uintptr_t)what);
}

void pod_publish(struct pod *p, enum pod_publish what)
{
    p->running_sent |= what == PUBLISH_RUNNING;
    if (p->publish < what)
        p->publish = what;
    next(p);
}

void pod_publish_waiting(struct pod *p, const char *reason, const char *message)
{
    free(p->waiting_reason);
    free(p->waiting_message);
    p->waiting_reason = xstrdup(reason);
    p->waiting_message = xstrdup(message);
    pod_publish(p, PUBLISH_WAITING);
}

static void deleted(struct pod *p, void *arg, const struct client_response *r)
{
    (void)arg;
    p->delete_busy = false;
    if (r->err->kind == ERROR_NONE || r->err->kind == ERROR_NOT_FOUND || r->err->kind == ERROR_CONFLICT)
        return;
    log_warning(pod_tag(p), "final delete: %s, retrying", error_text(r->err));
    p->delete_sent = false;
    loop_timer_start(p->r->loop, &p->status_retry, RETRY_NS, on_retry);
}

void pod_delete(struct pod *p)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *options = json_object(
        &a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "DeleteOptions"), "gracePeriodSeconds",
        json_new_i64(&a, 0), "preconditions", json_object(&a, "uid", json_new_z(&a, p->rec.uid), NULL), NULL);

    p->delete_sent = p->delete_busy = true;
    pod_call(p,
             &(struct client_request){.verb = CLIENT_DELETE, .group = "", .version = "v1", .plural = "pods",
                                      .ns = str_of(p->rec.ns), .name = str_of(p->rec.name), .body = options},
             deleted, NULL);
}
