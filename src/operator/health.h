/* operator/health - whether an installed object does its work, and if not, why. Pure. */
#pragma once
#include "operator/component.h"

/* pods: those of our components. *ret_why is NULL where nothing is known but that it is not there yet. */
bool health_of(enum managed_id kind, const struct json *object, const struct json *pods, struct arena *a, const char **ret_why);
