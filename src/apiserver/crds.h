/* apiserver/crds - CustomResourceDefinitions: admission of them, and the kinds that they bring. */
#pragma once
#include "apiserver/internal.h"

const struct json *crds_mutate(struct request *r, const struct json *old, const struct json *object);
/* An object of a definition's kind against it; `old` NULL: a new one. */
void crds_check_object(struct request *r, const struct json *old, const struct json *object,
                       struct schema_causes *c);
/* What deleting one marks it with besides the time. */
const struct json *crds_mark(struct apiserver *s, struct arena *a, const struct json *object);
void crds_check(struct request *r, const struct json *old, const struct json *object,
                struct schema_causes *c);
/* The kind of ours that a definition's name belongs to, or NULL. */
const struct kind_info *crds_builtin(struct str name);
