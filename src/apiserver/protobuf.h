/* apiserver/protobuf - bodies in application/vnd.kubernetes.protobuf, which typed Go clients send for core kinds. */
#pragma once
#include "api/schema.h"

struct proto_numbers {
    const char *type, *fields;
};
extern const struct proto_numbers proto_numbers[];
extern const size_t n_proto_numbers;

/* The object in the envelope as JSON, with apiVersion and kind. ERROR_BAD_REQUEST, or ERROR_UNSUPPORTED for a kind
 * that has no protobuf form. */
MUST_CHECK bool protobuf_object(struct str body, struct arena *a, const struct json **ret,
                                struct error *err);
