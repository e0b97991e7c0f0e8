/* api/strategic - strategic merge patch: lists merge by the keys of the schema; directives $patch, $retainKeys,
 * $deleteFromPrimitiveList/x and $setElementOrder/x. */
#pragma once
#include "api/schema.h"

/* t is the type of target. ERROR_BAD_REQUEST for malformed directives and items without their merge key. */
MUST_CHECK bool strategic_merge(struct arena *a, const struct schema_type *t, const struct json *target,
                                const struct json *patch, const struct json **ret, struct error *err);
