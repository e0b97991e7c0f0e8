/* controller/image_volumes - whether container disks can be image volumes of a pod on this cluster.
 *
 * Kubernetes has them as a gate, ImageVolume, of API server and kubelet: off from 1.31, on from 1.35; and the container runtime must
 * have them too (containerd 2.1, CRI-O 1.31). An API server without makes something else of such a volume and says nothing (an empty
 * folder: 1.20), or refuses the pod. So nothing is believed that was not seen:
 *  - the nodes tell the versions of kubelet and runtime; one that is too old, or of a runtime that is not known here, means no;
 *  - when all are new enough, the API server is asked: a pod with an image volume is created as a dry run, and the volume is looked for in
 *    what comes back.
 * The KubeVirt object may say it instead: ImageVolume among its featureGates or disabledFeatureGates.
 * As long as the answer is not known it is no: containers that hand the images over work everywhere. */
#pragma once
#include "base/map.h"
#include "client/client.h"

enum image_volumes_state {
    IMAGE_VOLUMES_UNKNOWN,
    IMAGE_VOLUMES_ASKING,
    IMAGE_VOLUMES_YES,
    IMAGE_VOLUMES_NO
};

struct image_volumes {
    enum image_volumes_state state;
    int64_t asked_ns;
    struct client_call *call;
    struct map lacking; /* names of nodes that have none: counted as nodes change, for a machine cannot ask thousands */
};

/* Whether kubelet and container runtime of a node have them, by their versions. Pure. */
bool image_volumes_of_node(const struct json *node);
/* What the API server is asked with, and whether its answer says yes. Pure. */
const struct json *image_volumes_question(struct str ns, struct arena *a);
bool image_volumes_answer(const struct json *pod);

struct controllers;
bool image_volumes(struct controllers *c);
void image_volumes_node_changed(struct controllers *c, struct str name, const struct json *node, bool deleted);
void image_volumes_done(struct controllers *c);
