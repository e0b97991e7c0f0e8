/* apiserver/crds - CustomResourceDefinitions: admission of them, and the kinds that they bring. */
#pragma once
#include "apiserver/internal.h"

const struct json *crd_defaults(struct request *r, const struct json *old, const struct json *o);
bool crd_validate(struct request *r, const struct json *old, const struct json *o, struct schema_causes *c); /* false: answered */
bool crd_is_builtin(struct apiserver *s, struct str name);
/* KubeVirt's own definitions as objects: written when missing or different. */
void crds_bootstrap(struct apiserver *s);
