/* operator/health - whether an installed object does its work, and if not, why. Pure. */
#pragma once
#include "operator/component.h"

/* pods: those of our components. *ret_why is NULL where nothing is known but that it is not there yet; beside true, it tells what that
 * leaves out: node agents on nodes that do not answer are nobody's to wait for. */
bool health_of(enum managed_id kind, const struct json *object, const struct json *pods, struct arena *a, const char **ret_why);
/* How many node agents are on nodes that do not answer. */
int64_t health_lost(const struct json *pods);
