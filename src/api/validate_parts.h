/* api/validate_parts - checks of objects that walk the schema by themselves. Internal to this room. */
#pragma once
#include "api/rules.h"

/* Duplicates in lists of type set and map. With `old`: only where the old object had none. */
void schema_check_lists(const struct schema_type *t, const struct json *old, const struct json *v,
                        struct arena *a, struct schema_causes *ret);
/* Objects within objects (x-kubernetes-embedded-resource): apiVersion, kind and metadata. */
void schema_check_embedded(const struct schema_type *t, const struct json *v, struct arena *a,
                           struct schema_causes *ret);
