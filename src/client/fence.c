#include "client/fence.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/list.h"

struct fence {
    struct client base;
    struct client *under;
    const struct lease *lease;
    struct list calls;
};

struct client_call {
    struct fence *fence;
    struct list node;
    struct client_call *under; /* NULL: refused */
    struct loop_timer refused;
    client_done_fn done;
    void *user;
};

static struct fence *fence_of(struct client *c)
{
    return container_of(c, struct fence, base);
}

static void call_free(struct client_call *call)
{
    list_remove(&call->node);
    loop_timer_stop(&call->refused);
    free(call);
}

static void on_done(void *user, const struct client_response *r)
{
    struct client_call *call = user;

    list_remove(&call->node);
    call->done(call->user, r);
    call_free(call);
}

static void on_refused(struct loop_timer *t)
{
    struct client_call *call = container_of(t, struct client_call, refused);
    AUTO(error_clear) struct error err = {0};
    const struct client_response r = {.err = &err};

    error_set(&err, ERROR_UNAVAILABLE, "not sent: the lease has run out");
    on_done(call, &r);
}

static bool reads(enum client_verb verb)
{
    return verb == CLIENT_GET || verb == CLIENT_LIST;
}

static struct client_call *fence_call(struct client *c, const struct client_request *r, client_done_fn done, void *user)
{
    struct fence *f = fence_of(c);
    struct client_call *call = NEW(struct client_call);
    struct client_request fenced = *r;
    int64_t left = f->lease ? lease_left_ns(f->lease) : 0;

    *call = (struct client_call){.fence = f, .done = done, .user = user};
    list_add_tail(&f->calls, &call->node);
    if (!reads(r->verb)) {
        int64_t until = loop_now_ns(c->loop) + left;

        if (left == 0) {
            loop_timer_start(c->loop, &call->refused, 0, on_refused);
            return call;
        }
        if (fenced.not_after_ns == 0 || fenced.not_after_ns > until)
            fenced.not_after_ns = until;
    }
    call->under = client_call(f->under, &fenced, on_done, call);
    return call;
}

static void fence_cancel(struct client *c, struct client_call *call)
{
    if (call->under)
        client_cancel(fence_of(c)->under, call->under);
    call_free(call);
}

static struct client_watch *fence_watch(struct client *c, const struct client_watch_request *r)
{
    return client_watch(fence_of(c)->under, r);
}

static void fence_stop(struct client *c, struct client_watch *w)
{
    client_watch_stop(fence_of(c)->under, w);
}

static void fence_free(struct client *c)
{
    struct fence *f = fence_of(c);

    list_each_safe(it, &f->calls)
        fence_cancel(c, list_entry(it, struct client_call, node));
    free(f);
}

static bool fence_keep(struct client *c, const char *group, const char *version, const char *plural, const struct json *object,
                       struct client_kept *ret)
{
    const struct client *under = fence_of(c)->under;

    return under->ops->keep && under->ops->keep(fence_of(c)->under, group, version, plural, object, ret);
}

static const struct client_ops fence_ops = {.call = fence_call,
                                            .cancel = fence_cancel,
                                            .watch = fence_watch,
                                            .stop = fence_stop,
                                            .free = fence_free,
                                            .keep = fence_keep};

struct client *client_fence_new(struct client *under)
{
    struct fence *f = NEW(struct fence);

    f->base = (struct client){.ops = &fence_ops, .loop = under->loop};
    f->under = under;
    list_init(&f->calls);
    return &f->base;
}

void client_fence_set(struct client *fence, const struct lease *lease)
{
    fence_of(fence)->lease = lease;
}
