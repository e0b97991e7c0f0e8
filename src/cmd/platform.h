/* cmd/platform - the objects that say Vireo is here: namespace kubevirt, the KubeVirt object and its status. */
#pragma once
#include "client/client.h"

struct platform;
/* Makes them if missing and keeps the KubeVirt object's status (phase Deployed, conditions, versions) true. */
struct platform *platform_new(struct client *c);
void platform_free(struct platform *p);
