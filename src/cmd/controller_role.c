/* vireo controller: the controllers, against a Kubernetes API server that is somewhere else. */
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/metric.h"
#include "client/fence.h"
#include "client/lease.h"
#include "cmd/role.h"
#include "controller/controller.h"

#define RELEASE_PATIENCE SECONDS(2)

const char controller_usage[] =
    "usage: vireo controller --launcher-image IMAGE [options]\n"
    "The controllers of a Kubernetes cluster. Of several one works at a time, by the Lease virt-controller in NS.\n"
    "\n  --launcher-image IMAGE  what machines' pods are made from\n" ROLE_FLAGS_USAGE;

struct options {
    struct role_flags common;
    const char *image;
};

static bool parse(int argc, char **argv, struct options *o)
{
    const struct role_option own[] = {{.name = "launcher-image", .text = &o->image}, {0}};

    return role_parse(argc, argv, &o->common, own) && o->image && o->image[0];
}

/* Of all controllers of a cluster one works, and the others wait for its Lease. Who has lost it ends: what it knows is of the past. */
struct leader {
    struct role role;
    struct lease *lease;
    struct client *fence; /* what the controllers write through */
    struct controllers *controllers;
    const struct options *options;
    struct loop_timer patience;
    int status;
};

/* Of nodes only who leads knows anything. */
static void metrics(void *data, struct buf *b)
{
    struct leader *l = data;

    metric_one(b, "kubevirt_virt_controller_ready_status", "gauge", "Indication for a virt-controller that is ready to take the lead.", 1);
    metric_one(b, "kubevirt_virt_controller_leading_status", "gauge", "Indication for an operating virt-controller.", l->controllers ? 1 : 0);
    if (l->controllers)
        controllers_metrics(l->controllers, b);
}

static void on_elected(void *user)
{
    struct leader *l = user;

    l->controllers = controllers_new(&(struct controllers_config){
        .client = l->fence, .launcher_image = l->options->image, .ns = l->options->common.ns});
    controllers_start(l->controllers);
}

static void on_lost(void *user)
{
    struct leader *l = user;

    l->status = 1;
    loop_quit(l->role.loop);
}

static void on_released(void *user)
{
    loop_quit(((struct leader *)user)->role.loop);
}

static void on_patience(struct loop_timer *t)
{
    loop_quit(container_of(t, struct leader, patience)->role.loop);
}

/* No two who ever ask have the same, and a person sees which machine it is. */
static char *identity(void)
{
    char host[256] = "", uuid[UUID_LEN + 1];

    gethostname(host, sizeof host - 1);
    ident_uuid4(uuid);
    return xasprintf("%s_%s", host, uuid);
}

static bool lead(struct leader *l, struct error *err)
{
    AUTO_FREE char *who = identity();
    const struct options *o = l->options;

    if (!role_open(&l->role, &o->common, "vireo-controller/" VIREO_VERSION, err)
        || !role_serve(&l->role, &(struct role_server){.metrics = metrics, .data = l}, err))
        return false;
    l->fence = client_fence_new(l->role.client);
    l->lease = lease_new(&(struct lease_config){.client = l->role.client,
                                                .ns = o->common.ns,
                                                .name = "virt-controller",
                                                .identity = who,
                                                .elected = on_elected,
                                                .lost = on_lost,
                                                .user = l});
    client_fence_set(l->fence, l->lease);
    loop_run(l->role.loop);
    controllers_free(l->controllers);
    client_free(l->fence);
    l->controllers = NULL;
    if (lease_held(l->lease)) {
        lease_release(l->lease, on_released);
        loop_timer_start(l->role.loop, &l->patience, RELEASE_PATIENCE, on_patience);
        loop_run(l->role.loop);
        loop_timer_stop(&l->patience);
    }
    lease_free(l->lease);
    return true;
}

int controller_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct options o = {0};
    struct leader l = {.options = &o};

    if (!parse(argc, argv, &o)) {
        fputs(controller_usage, stderr);
        return 2;
    }
    log_setup("controller", o.common.debug ? LOG_DEBUG : LOG_INFO, o.common.json);
    if (!lead(&l, &err)) {
        l.status = 1;
        fprintf(stderr, "vireo controller: %s\n", error_text(&err));
    }
    role_close(&l.role);
    return l.status;
}
