/* api/crd - CustomResourceDefinitions: those of our own kinds as objects, and kinds made of those of users.
 *
 * What a user's definition asks for and is not honoured here (webhook conversion, $ref) is refused with its
 * path, never stored as if it were. */
#pragma once
#include "api/schema.h"

/* The definition of a built-in kind (KIND_CRD), established at `now` (RFC 3339). */
const struct json *crd_of_kind(struct arena *a, const struct kind_info *k, const char *now);

/* singular, listKind and conversion filled in. */
const struct json *crd_default(struct arena *a, const struct json *crd);
/* What is wrong with a definition, worded as kube-apiserver does; paths start at the root of the object. */
void crd_validate(const struct json *crd, struct arena *a, struct schema_causes *ret);
/* status: acceptedNames, storedVersions, NamesAccepted and Established. */
const struct json *crd_with_status(struct arena *a, const struct json *crd, const char *now);

/* The kind as one of its served versions has it (NULL: the stored one); all is in the arena, which also has to hold the
 * definition. Definitions that crd_validate() finds faults with are ERROR_INVALID. */
MUST_CHECK bool crd_kind(struct arena *a, const struct json *crd, const char *version, const struct kind_info **ret,
                         struct error *err);
