/* controller/controller - the plan/act engine and the controllers on it.
 *
 * A controller is a pure function from a view to a list of actions (x_plan.c, tested by tables) and a part that observes and acts
 * (x.c). One key is planned serially, and not again until the informers have reached the revision of its last write, so no
 * plan is made on a past that we changed ourselves. Created objects have names derived from owner UID and attempt. */
#pragma once
#include "client/client.h"
#include "client/recorder.h"

struct controllers;
struct controllers_config {
    struct client *client;
    const char *launcher_image;
    bool embedded;        /* also runs the scheduler and the volume binder, which a cluster brings itself */
    bool image_volumes;   /* pods here have them; else it is found out (image_volumes.h) */
    const char *ns;       /* where we are installed, and the KubeVirt object that configures; NULL: one machine, in any */
    const char *data_volumes_path; /* embedded: where StorageClass vireo-local puts volumes, for PV objects */
};
struct controllers *controllers_new(const struct controllers_config *c);
void controllers_start(struct controllers *c);
/* Adds what the controllers know of nodes, machines and instances to /metrics. */
void controllers_metrics(void *controllers, struct buf *b);
void controllers_free(struct controllers *c);
