/* apiserver/rules - what RBAC's policy rules allow, and whether some rules cover others. Pure.
 *
 * A rule is the JSON object of a role's "rules": verbs with apiGroups, resources and resourceNames, or with nonResourceURLs. */
#pragma once
#include "json/json.h"

struct access { /* what somebody wants to do; `path` present: not a resource */
    struct str verb, group, resource, subresource, ns, name, path;
};

bool rule_allows(const struct json *rule, const struct access *w);
/* May whoever has the rules `owned` hand out `wanted`? Else *ret_missing lists what is missing as upstream prints it, one rule a
 * line, sorted. */
bool rules_cover(const struct json *owned, const struct json *wanted, struct arena *a,
                 const char **ret_missing);
/* The rules of `wanted` that `owned` does not cover, as they are. */
const struct json *rules_missing(const struct json *owned, const struct json *wanted,
                                 struct arena *a);
bool url_covers(struct str pattern,
                struct str path); /* equal, or a trailing * stands for the rest */
void quoted_list(struct buf *b, const struct json *list); /* ["a" "b"], as Go's %q */
