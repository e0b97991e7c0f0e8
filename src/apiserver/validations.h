/* apiserver/validations - x-kubernetes-validations: rules of definitions are checked when these are written, and enforced on
 * the objects of their kinds. */
#pragma once
#include "apiserver/internal.h"

/* Definitions may ask that rules which need functions that are not here are left out; each is then a warning. */
#define VALIDATIONS_IGNORE "vireo.io/ignore-unsupported-validations"

/* A user's definition; with `old`, what an update brings. */
void validations_check(struct request *r, const struct json *crd, struct schema_causes *c);
/* An object of a kind that has rules; `old` NULL: it is new. To be called when the schema's own checks are through: what
 * they found decides whether the rules can be looked at. */
void validations_enforce(struct request *r, const struct json *old, const struct json *object,
                         struct schema_causes *c);
