/* json/patch - RFC 7386 merge patch and RFC 6902 JSON patch. (Strategic merge needs a schema: api/strategic.) */
#pragma once
#include "json/json.h"

const struct json *json_merge_patch(struct arena *a, const struct json *target, const struct json *patch);

/* ops is the array of operations. ERROR_BAD_REQUEST for a malformed patch, ERROR_TOO_LARGE for more than
 * LIMIT_PATCH_OPS (as upstream) or too much copying, ERROR_INVALID when it does not apply. The last has evanphx's
 * words; recorded API servers tell clients only a general "the server rejected our request …" with the 422. */
MUST_CHECK bool json_patch(struct arena *a, const struct json *target, const struct json *ops, const struct json **ret,
                           struct error *err);

/* The merge patch that turns `from` into `to` ({} when equal). */
const struct json *json_merge_diff(struct arena *a, const struct json *from, const struct json *to);

/* The operations (an array) that turn `from` into `to` by json_patch(); empty when they are equal. Lists of another length are replaced. */
const struct json *json_patch_diff(struct arena *a, const struct json *from, const struct json *to);
