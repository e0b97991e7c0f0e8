/* apiserver/protobuf_write - objects in application/vnd.kubernetes.protobuf: the way back of protobuf.c.
 *
 * A message is written in the order of its field numbers. What has no number is never dropped in silence: the object then has
 * no protobuf form, and the caller answers JSON, as clients that ask for protobuf also take. */
#include "apiserver/protobuf.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "json/proto.h"

#define META "io.k8s.apimachinery.pkg.apis.meta.v1."
#define DEPTH_MAX 64

static bool message(const struct schema_type *t, const struct json *v, bool top, int depth,
                    struct buf *out);

/* A nested message that holds one field. */
static void nested(struct buf *out, uint32_t number, const struct buf *body)
{
    proto_bytes(out, number, body->n ? buf_str(body) : STR(""));
}

static bool time_body(struct str text, struct buf *out)
{
    AUTO(error_clear) struct error err = {0};
    int64_t ns;

    if (!ident_parse_time(text, &ns, &err))
        return false;
    proto_varint(out, 1, (uint64_t)(ns / 1000000000));
    proto_varint(out, 2, (uint64_t)(ns % 1000000000));
    return true;
}

static bool int_or_string(const struct json *v, struct buf *out)
{
    int64_t n = 0;

    if (!json_is(v, JSON_STRING) && !json_i64(v, &n))
        return false;
    proto_varint(out, 1, json_is(v, JSON_STRING));
    proto_varint(out, 2, (uint64_t)n);
    proto_bytes(out, 3, json_is(v, JSON_STRING) ? json_str(v) : STR(""));
    return true;
}

/* One value as a field of its message. */
static bool value(const struct schema_type *t, const struct json *v, uint32_t number, int depth,
                  struct buf *out)
{
    AUTO(buf_done) struct buf body = {0};
    int64_t n;

    buf_init(&body, 64u << 20);
    switch (t->kind) {
    case SCHEMA_BOOL:
        proto_bool(out, number, json_bool(v));
        return json_is(v, JSON_TRUE) || json_is(v, JSON_FALSE);
    case SCHEMA_INT32:
    case SCHEMA_INT64:
        if (!json_i64(v, &n))
            return false;
        proto_varint(out, number, (uint64_t)n);
        return true;
    case SCHEMA_STRING:
        proto_bytes(out, number, json_str(v).n ? json_str(v) : STR(""));
        return json_is(v, JSON_STRING);
    case SCHEMA_BYTES: {
        AUTO(error_clear) struct error err = {0};

        if (!json_is(v, JSON_STRING) || !buf_add_base64_decoded(&body, json_str(v), &err))
            return false;
        break;
    }
    case SCHEMA_QUANTITY:
        if (!json_is(v, JSON_STRING) && !json_is(v, JSON_NUMBER))
            return false;
        proto_bytes(&body, 1, str_n(v->text, v->n));
        break;
    case SCHEMA_INT_OR_STRING:
        if (!int_or_string(v, &body))
            return false;
        break;
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
        if (!time_body(json_str(v), &body))
            return false;
        break;
    case SCHEMA_ANY: {
        AUTO(buf_done) struct buf text = {0};

        buf_init(&text, 64u << 20);
        json_write(&text, v);
        nested(&body, 1, &text);
        break;
    }
    case SCHEMA_OBJECT:
        if (!message(t, v, false, depth + 1, &body))
            return false;
        break;
    case SCHEMA_LIST: /* as a map's value: a message of its own */
        json_each_item(item, v)
            if (!value(t->item, item, 1, depth + 1, &body))
                return false;
        break;
    case SCHEMA_NUMBER:
    case SCHEMA_DURATION: /* no core kind has one */
    case SCHEMA_MAP:
        return false;
    }
    nested(out, number, &body);
    return !body.overflow;
}

static bool field(const struct schema_type *t, const struct json *v, uint32_t number, int depth,
                  struct buf *out)
{
    switch (t->kind) {
    case SCHEMA_LIST:
        if (!json_is(v, JSON_ARRAY))
            return false;
        json_each_item(item, v)
            if (!value(t->item, item, number, depth, out))
                return false;
        return true;
    case SCHEMA_MAP:
        if (!json_is(v, JSON_OBJECT))
            return false;
        json_each_member(m, v) {
            AUTO(buf_done) struct buf entry = {0};

            buf_init(&entry, 64u << 20);
            proto_bytes(&entry, 1, m->key.n ? json_str(&m->key) : STR(""));
            if (!value(t->item, &m->value, 2, depth, &entry))
                return false;
            nested(out, number, &entry);
        }
        return true;
    case SCHEMA_OBJECT:
    case SCHEMA_STRING:
    case SCHEMA_BYTES:
    case SCHEMA_BOOL:
    case SCHEMA_INT32:
    case SCHEMA_INT64:
    case SCHEMA_NUMBER:
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_DURATION:
    case SCHEMA_ANY:
        return value(t, v, number, depth, out);
    }
    return false;
}

/* The members of v that `numbers` names; *seen counts them. Fields of t serve embedded messages ("+T"), too. */
static bool fields(const struct schema_type *t, const char *numbers, const struct json *v,
                   int depth, struct buf *out, size_t *seen)
{
    struct str rest = str_of(numbers), name;

    for (uint32_t i = 1; str_next(&rest, ',', &name); i++) {
        const struct schema_field *f;
        const struct json *w;

        if (str_empty(name))
            continue;
        if (name.p[0] == '+') {
            const char *n = protobuf_embedded(str_skip(name, 1));
            AUTO(buf_done) struct buf body = {0};

            if (!n || !fields(t, n, v, depth, &body, seen))
                return false;
            nested(out, i, &body);
            continue;
        }
        f = schema_field(t, name);
        w = f ? json_get_str(v, name) : NULL;
        if (!w)
            continue;
        ++*seen;
        if (!json_is(w, JSON_NULL) && !field(f->type, w, i, depth, out))
            return false;
    }
    return true;
}

static bool message(const struct schema_type *t, const struct json *v, bool top, int depth,
                    struct buf *out)
{
    const char *numbers = t->name ? protobuf_numbers(str_of(t->name)) : NULL;
    size_t seen = 0;

    if (!numbers || depth > DEPTH_MAX || !json_is(v, JSON_OBJECT)
        || !fields(t, numbers, v, depth, out, &seen))
        return false;
    if (top)
        seen += (json_get(v, "kind") != NULL) + (json_get(v, "apiVersion") != NULL);
    return seen == v->n;
}

static bool meta_field(const char *type, const struct json *v, struct buf *out)
{
    for (size_t i = 0; schema_types[i]; i++)
        if (schema_types[i]->name && !strcmp(schema_types[i]->name, type))
            return value(schema_types[i], v, 1, 0, out);
    return false;
}

/* {1: metadata, 2: items…} */
static bool list_body(struct str gv, struct str kind, const struct json *v, struct buf *out)
{
    struct str of = str_take(kind, kind.n - strlen("List"));
    bool partial = str_is(of, "PartialObjectMetadata");
    const struct schema_type *t = partial ? NULL : protobuf_type(gv, of);

    if ((!t && !partial) || !meta_field(META "ListMeta", json_get(v, "metadata"), out))
        return false;
    json_each_item(item, json_get(v, "items")) {
        AUTO(buf_done) struct buf body = {0};

        buf_init(&body, 64u << 20);
        if (partial ? !meta_field(META "ObjectMeta", json_get(item, "metadata"), &body)
                    : !message(t, item, true, 0, &body))
            return false;
        nested(out, 2, &body);
    }
    return true;
}

static bool object_body(struct str gv, struct str kind, const struct json *v, struct buf *out)
{
    const struct schema_type *t;

    if (str_ends(kind, STR("List")) && json_is(json_get(v, "items"), JSON_ARRAY))
        return list_body(gv, kind, v, out);
    if (str_is(kind, "PartialObjectMetadata"))
        return meta_field(META "ObjectMeta", json_get(v, "metadata"), out);
    t = protobuf_type(gv, kind);
    return t && message(t, v, true, 0, out);
}

bool protobuf_write(const struct json *v, struct buf *out)
{
    AUTO(buf_done) struct buf type = {0}, body = {0};
    struct str gv = json_str_at(v, "apiVersion"), kind = json_str_at(v, "kind");

    buf_init(&body, 1u << 30);
    if (str_empty(kind) || str_empty(gv) || !object_body(gv, kind, v, &body) || body.overflow)
        return false;
    proto_bytes(&type, 1, gv);
    proto_bytes(&type, 2, kind);
    buf_add(out, "k8s\0", 4);
    nested(out, 1, &type);
    nested(out, 2, &body);
    proto_bytes(out, 3, STR(""));
    proto_bytes(out, 4, STR(""));
    return !out->overflow;
}

bool protobuf_write_event(const char *type, const struct json *object, struct buf *out)
{
    AUTO(buf_done) struct buf inner = {0}, raw = {0}, event = {0};
    unsigned char size[4];

    buf_init(&inner, 64u << 20);
    buf_init(&raw, 64u << 20);
    buf_init(&event, 64u << 20);
    if (!protobuf_write(object, &inner))
        return false;
    nested(&raw, 1, &inner);
    proto_bytes(&event, 1, str_of(type));
    nested(&event, 2, &raw);
    for (int i = 0; i < 4; i++)
        size[i] = (unsigned char)(event.n >> (24 - 8 * i));
    buf_add(out, size, sizeof size);
    buf_addstr(out, buf_str(&event));
    return !event.overflow && !out->overflow;
}

bool protobuf_speaks(const struct schema_type *t)
{
    return t->name && protobuf_numbers(str_of(t->name)) != NULL;
}
