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

/* Appends the object, list, Status or PartialObjectMetadata(List) in its envelope. False: it has no protobuf form (a custom
 * resource, a Table, a member without a number), and nothing useful was written. */
MUST_CHECK bool protobuf_write(const struct json *v, struct buf *out);
/* The same as one event of a watch: its length in four bytes, then the message. */
MUST_CHECK bool protobuf_write_event(const char *type, const struct json *object, struct buf *out);
bool protobuf_speaks(const struct schema_type *t); /* has it numbers? */

/* For the reader and the writer. */
const char *protobuf_numbers(struct str type); /* of a type by its full name, or NULL */
const char *protobuf_embedded(struct str name); /* of "T" of the core group, or "group.version.T" */
const struct schema_type *protobuf_type(struct str api_version, struct str kind);
