/* operator/customize - spec.customizeComponents of the KubeVirt object: patches of what is installed, and flags of its processes. Pure. */
#pragma once
#include "operator/component.h"

/* Those patches that name the object, in their order, and the flags for its process. ERROR_INVALID names the field. */
MUST_CHECK bool customize(const struct json *kubevirt, enum managed_id kind, const struct json *object, struct arena *a,
                          const struct json **ret, struct error *err);
