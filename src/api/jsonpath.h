/* api/jsonpath - the part of JSONPath that printer columns and kubectl use:
 * .a.b, ['a.b'], [0], [-1], [1:3], [*], .*, ..a, [?(@.type=='Ready')], ["a","b"] is not one of them. */
#pragma once
#include "json/json.h"

struct jsonpath_results {
    const struct json **p; /* in the arena */
    size_t n, cap;
};
/* What the path selects, in order; at most 10000. Keys that are not there select nothing.
 * ERROR_INVALID when the path cannot be read. A leading '{' … '}' and '$' are accepted. */
MUST_CHECK bool jsonpath_eval(struct str path, const struct json *v, struct arena *a, struct jsonpath_results *ret,
                              struct error *err);
/* The first result; NULL when there is none or the path is bad. */
const struct json *jsonpath_first(const char *path, const struct json *v, struct arena *a);
/* Only the syntax. */
MUST_CHECK bool jsonpath_check(struct str path, struct error *err);
