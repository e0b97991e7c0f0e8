#include "json/proto.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5, FIELD_MAX = (1 << 29) - 1 };

static bool read_varint(struct str *rest, uint64_t *ret, struct error *err)
{
    uint64_t v = 0;

    for (size_t i = 0; i < 10; i++) {
        if (i == rest->n)
            return error_set(err, ERROR_BAD_REQUEST, "protobuf: message ends within a number");
        unsigned char c = (unsigned char)rest->p[i];
        if (i == 9 && c > 1)
            break;
        v |= (uint64_t)(c & 0x7f) << (7 * i);
        if (c < 0x80) {
            *rest = str_skip(*rest, i + 1);
            *ret = v;
            return true;
        }
    }
    return error_set(err, ERROR_BAD_REQUEST, "protobuf: number of more than 64 bits");
}

static bool read_fixed(struct str *rest, size_t n, uint64_t *ret, struct error *err)
{
    uint64_t v = 0;

    if (rest->n < n)
        return error_set(err, ERROR_BAD_REQUEST, "protobuf: message ends within a number");
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)(unsigned char)rest->p[i] << (8 * i);
    *rest = str_skip(*rest, n);
    *ret = v;
    return true;
}

static bool read_value(struct str *rest, struct proto_field *f, struct error *err)
{
    uint64_t n;

    switch (f->wire) {
    case WIRE_VARINT:
        return read_varint(rest, &f->value, err);
    case WIRE_FIXED64:
        return read_fixed(rest, 8, &f->value, err);
    case WIRE_FIXED32:
        return read_fixed(rest, 4, &f->value, err);
    case WIRE_BYTES:
        if (!read_varint(rest, &n, err))
            return false;
        if (n > rest->n)
            return error_set(err, ERROR_BAD_REQUEST, "protobuf: field %u ends behind the message", f->number);
        f->bytes = str_n(rest->p, (size_t)n);
        *rest = str_skip(*rest, (size_t)n);
        return true;
    default:
        return error_set(err, ERROR_BAD_REQUEST, "protobuf: field %u has wire type %u", f->number, f->wire);
    }
}

bool proto_next(struct proto_reader *r, struct proto_field *ret, struct error *err)
{
    struct proto_field f = {0};
    struct str rest = r->rest;
    uint64_t tag;

    if (rest.n == 0 || !read_varint(&rest, &tag, err))
        return false;
    if (tag >> 3 == 0 || tag >> 3 > FIELD_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "protobuf: field number out of range");
    f.number = (uint32_t)(tag >> 3);
    f.wire = tag & 7;
    if (!read_value(&rest, &f, err))
        return false;
    r->rest = rest;
    *ret = f;
    return true;
}

static void add_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_addc(b, (char)(v | 0x80));
    buf_addc(b, (char)v);
}

void proto_varint(struct buf *b, uint32_t field, uint64_t v)
{
    add_varint(b, (uint64_t)field << 3 | WIRE_VARINT);
    add_varint(b, v);
}

void proto_bytes(struct buf *b, uint32_t field, struct str s)
{
    add_varint(b, (uint64_t)field << 3 | WIRE_BYTES);
    add_varint(b, s.n);
    buf_addstr(b, s);
}

void proto_bool(struct buf *b, uint32_t field, bool v) { proto_varint(b, field, v); }
