/* api/crd - CustomResourceDefinitions: those of our own kinds as objects, and kinds made of those of users.
 *
 * What a user's definition asks for and is not honoured here (webhook conversion, $ref, …) is refused with its path,
 * never stored as if it were. */
#pragma once
#include "api/schema.h"

#define CRD_WARNINGS_MAX 16

/* The definition of a built-in kind (KIND_CRD), established at `now` (RFC 3339). */
const struct json *crd_of_kind(struct arena *a, const struct kind_info *k, const char *now);

/* singular, listKind and conversion filled in. */
const struct json *crd_default(struct arena *a, const struct json *crd);
/* What is wrong with a definition, or with a change of one (`old` not NULL), worded as kube-apiserver does; paths start
 * at the root of the object. */
void crd_validate(const struct json *old, const struct json *crd, struct arena *a, struct schema_causes *ret);
/* What is stored and has no effect: formats that nobody knows and the like; only what a change brings. */
void crd_warnings(const struct json *old, const struct json *crd, struct arena *a, struct json_dups *ret);

/* status of a new definition, before its names are looked at. */
const struct json *crd_fresh_status(struct arena *a, const struct json *crd);
/* The storage version is among status.storedVersions. */
const struct json *crd_with_stored(struct arena *a, const struct json *crd);
/* status: acceptedNames, NamesAccepted, Established, approval. The names are those that others of the group have
 * (plural, singular and short ones; kinds and list kinds); NULL: none. */
struct crd_names {
    const struct str *p;
    size_t n;
};
const struct json *crd_with_status(struct arena *a, const struct json *crd, const struct crd_names *resources,
                                   const struct crd_names *kinds, const char *now);

/* Groups of the Kubernetes community, whose definitions have to say that they were approved. */
enum crd_approval { CRD_APPROVAL_INVALID, CRD_APPROVED, CRD_APPROVAL_BYPASSED, CRD_APPROVAL_MISSING };
bool crd_protected_group(struct str group);
enum crd_approval crd_approval_of(const struct json *crd, struct arena *a, const char **ret_why);

/* A version by its name; absent: the stored one. */
const struct json *crd_version(const struct json *crd, struct str name);
/* Served versions, preferred first, NULL-terminated: v2 before v1 before v1beta2 before v1beta1 before v1alpha1. */
const char *const *crd_served(struct arena *a, const struct json *crd);
int crd_version_compare(const char *a, const char *b); /* below 0: a is preferred */

/* The kind as one of its versions has it (NULL: the stored one); all is in the arena, which also has to hold the
 * definition. The definition has been through crd_validate(); what cannot be a kind is ERROR_INVALID all the same. */
MUST_CHECK bool crd_kind(struct arena *a, const struct json *crd, const char *version, const struct kind_info **ret,
                         struct error *err);
