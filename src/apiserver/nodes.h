/* apiserver/nodes - what a node's own identity may do: its Node, its pods, and what those pods name. */
#pragma once
#include "apiserver/rules.h"
#include "apiserver/apiserver.h"

struct str
node_of(const struct identity *who); /* "n1" for system:node:n1 in system:nodes; else absent */
/* Yes, or no with *ret_reason when there is something to say (never NULL). */
bool node_allows(struct apiserver *s, const struct identity *who, const struct access *w,
                 struct arena *a, const char **ret_reason);
