#include "cmd/lead.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "client/fence.h"

#define RELEASE_PATIENCE SECONDS(2)

static void on_elected(void *user)
{
    struct lead *l = user;

    l->config.elected(l->config.user);
}

static void on_lost(void *user)
{
    struct lead *l = user;

    l->lost = true;
    loop_quit(l->config.role->loop);
}

static void on_released(void *user)
{
    loop_quit(((struct lead *)user)->config.role->loop);
}

static void on_patience(struct loop_timer *t)
{
    loop_quit(container_of(t, struct lead, patience)->config.role->loop);
}

/* No two who ever ask have the same, and a person sees which machine it is. */
static char *identity(void)
{
    char host[256] = "", uuid[UUID_LEN + 1];

    gethostname(host, sizeof host - 1);
    ident_uuid4(uuid);
    return xasprintf("%s_%s", host, uuid);
}

void lead_start(struct lead *l, const struct lead_config *c)
{
    AUTO_FREE char *who = identity();

    *l = (struct lead){.config = *c, .client = client_fence_new(c->role->client)};
    l->lease = lease_new(&(struct lease_config){.client = c->role->client,
                                                .ns = c->role->flags.ns,
                                                .name = c->name,
                                                .identity = who,
                                                .elected = on_elected,
                                                .lost = on_lost,
                                                .user = l});
    client_fence_set(l->client, l->lease);
}

bool lead_run(struct lead *l)
{
    struct loop *loop = l->config.role->loop;

    loop_run(loop);
    l->config.ended(l->config.user);
    if (lease_held(l->lease)) {
        lease_release(l->lease, on_released);
        loop_timer_start(loop, &l->patience, RELEASE_PATIENCE, on_patience);
        loop_run(loop);
        loop_timer_stop(&l->patience);
    }
    return !l->lost;
}

void lead_done(struct lead *l)
{
    client_free(l->client);
    lease_free(l->lease);
    *l = (struct lead){0};
}
