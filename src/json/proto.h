/* json/proto - protobuf wire format: a bounded reader and a writer, for the few messages that
 * clients insist on (OpenAPI v2 for older kubectl, device plugins). */
#pragma once
#include "base/buf.h"

struct proto_reader {
    struct str rest;
};
struct proto_field {
    uint32_t number;
    uint8_t wire;     /* 0 varint, 1 fixed64, 2 bytes, 5 fixed32 */
    uint64_t value;   /* varint, fixed */
    struct str bytes; /* wire 2 */
};
/* False at the end and on error; err is set (kind != NONE) only on error. */
bool proto_next(struct proto_reader *r, struct proto_field *ret, struct error *err);

void proto_varint(struct buf *b, uint32_t field, uint64_t v);
void proto_bytes(struct buf *b, uint32_t field, struct str s);
void proto_bool(struct buf *b, uint32_t field, bool v);
/* A nested message: write the body into another buf, then proto_bytes(). */
