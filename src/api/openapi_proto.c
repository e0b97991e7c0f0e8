/* The v2 document as the protobuf message openapi.v2.Document. Field numbers are those of gnostic's OpenAPIv2.proto;
 * only what openapi_v2() writes is known here. Extensions travel as YAML text, and JSON is YAML. */
#include "api/openapi.h"

#include "base/cleanup.h"
#include "json/proto.h"

#define DOCUMENT_MAX (64u << 20)

typedef void (*message_fn)(struct buf *b, const struct json *v);

static void put_text(struct buf *b, uint32_t field, const struct json *v)
{
    if (json_is(v, JSON_STRING) && v->n)
        proto_bytes(b, field, json_str(v));
}

static void put_message(struct buf *b, uint32_t field, const struct json *v, message_fn message)
{
    AUTO(buf_done) struct buf body = {.limit = DOCUMENT_MAX};

    if (!v)
        return;
    message(&body, v);
    b->overflow |= body.overflow;
    proto_bytes(b, field, body.p ? buf_str(&body) : STR(""));
}

/* A member of a map as a message of name = 1, value = 2. */
static void put_named(struct buf *b, uint32_t field, const struct json_member *m, message_fn message)
{
    AUTO(buf_done) struct buf body = {.limit = DOCUMENT_MAX};

    proto_bytes(&body, 1, json_str(&m->key));
    put_message(&body, 2, &m->value, message);
    b->overflow |= body.overflow;
    proto_bytes(b, field, buf_str(&body));
}

static void any(struct buf *b, const struct json *v)
{
    AUTO(buf_done) struct buf yaml = {.limit = DOCUMENT_MAX};

    json_write(&yaml, v);
    buf_addc(&yaml, '\n');
    proto_bytes(b, 2, buf_str(&yaml));
}

static void put_extensions(struct buf *b, uint32_t field, const struct json *v)
{
    json_each_member(m, v) {
        if (str_starts(json_str(&m->key), STR("x-")))
            put_named(b, field, m, any);
    }
}

static void schema(struct buf *b, const struct json *v);

static void schema_map(struct buf *b, const struct json *v)
{
    json_each_member(m, v) {
        put_named(b, 1, m, schema);
    }
}

static void schema_first(struct buf *b, const struct json *v) { put_message(b, 1, v, schema); }
static void text_first(struct buf *b, const struct json *v) { put_text(b, 1, v); }

static void put_double(struct buf *b, uint32_t field, const struct json *v)
{
    uint64_t bits;
    double n;

    if (!json_double(v, &n))
        return;
    memcpy(&bits, &n, sizeof bits);
    buf_addc(b, (char)(field << 3 | 1)); /* fields below 16 only */
    for (int i = 0; i < 8; i++)
        buf_addc(b, (char)(bits >> (8 * i)));
}

static void put_count(struct buf *b, uint32_t field, const struct json *v)
{
    int64_t n;

    if (json_i64(v, &n) && n > 0)
        proto_varint(b, field, (uint64_t)n);
}

static void schema(struct buf *b, const struct json *v)
{
    put_text(b, 1, json_get(v, "$ref"));
    put_text(b, 2, json_get(v, "format"));
    put_text(b, 4, json_get(v, "description"));
    put_double(b, 7, json_get(v, "maximum"));
    put_double(b, 9, json_get(v, "minimum"));
    put_count(b, 11, json_get(v, "maxLength"));
    put_count(b, 12, json_get(v, "minLength"));
    put_text(b, 13, json_get(v, "pattern"));
    put_count(b, 14, json_get(v, "maxItems"));
    put_count(b, 15, json_get(v, "minItems"));
    json_each_item(it, json_get(v, "required")) {
        put_text(b, 19, it);
    }
    json_each_item(it, json_get(v, "enum")) {
        put_message(b, 20, it, any);
    }
    put_message(b, 21, json_get(v, "additionalProperties"), schema_first);
    put_message(b, 22, json_get(v, "type"), text_first);
    put_message(b, 23, json_get(v, "items"), schema_first);
    put_message(b, 25, json_get(v, "properties"), schema_map);
    put_extensions(b, 31, v);
}

static void body_parameter(struct buf *b, const struct json *v)
{
    put_text(b, 1, json_get(v, "description"));
    put_text(b, 2, json_get(v, "name"));
    put_text(b, 3, json_get(v, "in"));
    proto_bool(b, 4, json_bool(json_get(v, "required")));
    put_message(b, 5, json_get(v, "schema"), schema);
}

static void plain_parameter(struct buf *b, const struct json *v)
{
    bool query = str_is(json_str(json_get(v, "in")), "query");

    if (json_bool(json_get(v, "required")))
        proto_bool(b, 1, true);
    put_text(b, 2, json_get(v, "in"));
    put_text(b, 3, json_get(v, "description"));
    put_text(b, 4, json_get(v, "name"));
    put_text(b, query ? 6 : 5, json_get(v, "type"));
}

static void non_body(struct buf *b, const struct json *v)
{
    put_message(b, str_is(json_str(json_get(v, "in")), "query") ? 3 : 4, v, plain_parameter);
}

static void parameter(struct buf *b, const struct json *v)
{
    if (str_is(json_str(json_get(v, "in")), "body"))
        put_message(b, 1, v, body_parameter);
    else
        put_message(b, 2, v, non_body);
}

static void parameters_item(struct buf *b, const struct json *v) { put_message(b, 1, v, parameter); }

static void response(struct buf *b, const struct json *v)
{
    put_text(b, 1, json_get(v, "description"));
    put_message(b, 2, json_get(v, "schema"), schema_first);
}

static void response_value(struct buf *b, const struct json *v) { put_message(b, 1, v, response); }

static void responses(struct buf *b, const struct json *v)
{
    json_each_member(m, v) {
        put_named(b, 1, m, response_value);
    }
}

static void operation(struct buf *b, const struct json *v)
{
    put_text(b, 3, json_get(v, "description"));
    put_text(b, 5, json_get(v, "operationId"));
    json_each_item(it, json_get(v, "parameters")) {
        put_message(b, 8, it, parameters_item);
    }
    put_message(b, 9, json_get(v, "responses"), responses);
    put_extensions(b, 13, v);
}

static void path_item(struct buf *b, const struct json *v)
{
    put_message(b, 2, json_get(v, "get"), operation);
    put_message(b, 3, json_get(v, "put"), operation);
    put_message(b, 4, json_get(v, "post"), operation);
    put_message(b, 5, json_get(v, "delete"), operation);
    put_message(b, 8, json_get(v, "patch"), operation);
    json_each_item(it, json_get(v, "parameters")) {
        put_message(b, 9, it, parameters_item);
    }
}

static void paths(struct buf *b, const struct json *v)
{
    json_each_member(m, v) {
        put_named(b, 2, m, path_item);
    }
}

static void info(struct buf *b, const struct json *v)
{
    put_text(b, 1, json_get(v, "title"));
    put_text(b, 2, json_get(v, "version"));
}

bool openapi_v2_proto(struct buf *b, const struct json *document, struct error *err)
{
    put_text(b, 1, json_get(document, "swagger"));
    put_message(b, 2, json_get(document, "info"), info);
    put_message(b, 8, json_get(document, "paths"), paths);
    put_message(b, 9, json_get(document, "definitions"), schema_map);
    return buf_ok(b, "OpenAPI document", err);
}
