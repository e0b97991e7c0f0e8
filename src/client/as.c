/* A client in another user's name, for whoever plays somebody (sim): calls carry it, watches do not need to. */
#include "client/client.h"

#include <stdlib.h>

#include "base/alloc.h"

struct client_named {
    struct client base;
    struct client *through;
    char *user;
};

static struct client_named *named(struct client *c)
{
    return container_of(c, struct client_named, base);
}

static struct client_call *as_call(struct client *c, const struct client_request *r, client_done_fn done, void *user)
{
    struct client_request request = *r;

    if (!request.as)
        request.as = named(c)->user;
    return client_call(named(c)->through, &request, done, user);
}

static void as_cancel(struct client *c, struct client_call *call)
{
    client_cancel(named(c)->through, call);
}

static struct client_watch *as_watch(struct client *c, const struct client_watch_request *r)
{
    return client_watch(named(c)->through, r);
}

static void as_stop(struct client *c, struct client_watch *w)
{
    client_watch_stop(named(c)->through, w);
}

static void as_free(struct client *c)
{
    free(named(c)->user);
    free(named(c));
}

/* What is kept does not depend on who asked for it. */
static bool as_keep(struct client *c, const char *group, const char *version, const char *plural, const struct json *object,
                    struct client_kept *ret)
{
    struct client *through = named(c)->through;

    return through->ops->keep && through->ops->keep(through, group, version, plural, object, ret);
}

static const struct client_ops as_ops = {
    .call = as_call, .cancel = as_cancel, .watch = as_watch, .stop = as_stop, .free = as_free, .keep = as_keep};

struct client *client_as(struct client *base, const char *user)
{
    struct client_named *c = NEW(struct client_named);

    c->base = (struct client){.ops = &as_ops, .loop = base->loop};
    c->through = base;
    c->user = xstrdup(user);
    return &c->base;
}
