/* cmd/platform - the objects that say Vireo is here: namespace kubevirt, the KubeVirt object and its status.
 *
 * The KubeVirt object is Available while a node agent is heard of that says it is ready. */
#pragma once
#include "client/client.h"

struct platform;
/* Makes them if missing and keeps the status (phase, conditions, versions) of every KubeVirt object true. */
struct platform *platform_new(struct client *c);
void platform_free(struct platform *p);
