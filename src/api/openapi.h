/* api/openapi - OpenAPI documents made from the tables: v3 per group and version, v2 as a whole, as JSON and as the
 * protobuf message that kubectl up to 1.2x asks for. */
#pragma once
#include "api/schema.h"

/* `kinds` may hold built-in kinds and those of CRDs; v3 takes those of the group that serve the version. */
const struct json *openapi_v3(struct arena *a, const char *group, const char *version,
                              const struct kind_info *const *kinds, size_t n);
const struct json *openapi_v2(struct arena *a, const struct kind_info *const *kinds, size_t n);
/* openapi.v2.Document of gnostic, from what openapi_v2() returned. */
MUST_CHECK bool openapi_v2_proto(struct buf *b, const struct json *document, struct error *err);

/* The schema of one type as a CRD's openAPIV3Schema: everything inline, structural. */
const struct json *openapi_crd_schema(struct arena *a, const struct schema_type *t);
