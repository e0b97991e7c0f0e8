/* cmd/platform - the objects that say Vireo is here: namespace kubevirt, the KubeVirt object and its status. */
#pragma once
#include "client/client.h"

struct platform_config {
    struct str node_name;
};
struct platform;
/* Makes them if missing and keeps the KubeVirt object's status (phase Deployed, conditions, versions) true. */
struct platform *platform_new(struct client *c, const struct platform_config *config);
void platform_free(struct platform *p);
