/* vireo controller: the controllers, against a Kubernetes API server that is somewhere else. */
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/metric.h"
#include "cmd/lead.h"
#include "controller/controller.h"

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

/* Of all controllers of a cluster one works, and the others wait for its Lease. */
struct leader {
    struct role role;
    struct lead lead;
    struct controllers *controllers;
    const struct options *options;
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
        .client = l->lead.client, .launcher_image = l->options->image, .ns = l->options->common.ns});
    controllers_start(l->controllers);
}

static void on_ended(void *user)
{
    struct leader *l = user;

    controllers_free(l->controllers);
    l->controllers = NULL;
}

static bool work(struct leader *l, struct error *err)
{
    const struct options *o = l->options;

    if (!role_open(&l->role, &o->common, "vireo-controller/" VIREO_VERSION, err)
        || !role_serve(&l->role, &(struct role_server){.metrics = metrics, .data = l}, err))
        return false;
    lead_start(&l->lead, &(struct lead_config){.role = &l->role, .name = "virt-controller", .elected = on_elected, .ended = on_ended, .user = l});
    l->status = lead_run(&l->lead) ? 0 : 1;
    lead_done(&l->lead);
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
    if (!work(&l, &err)) {
        l.status = 1;
        fprintf(stderr, "vireo controller: %s\n", error_text(&err));
    }
    role_close(&l.role);
    return l.status;
}
