#include "apiserver/protobuf.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/vec.h"
#include "json/proto.h"

#define DEPTH_MAX 64

/* Members in order of arrival; repeated fields gather in lists. */
struct members {
    VEC(struct json_member) v;
};

static void members_done(struct members *m)
{
    vec_done(&m->v);
}

const char *protobuf_numbers(struct str type)
{
    size_t lo = 0, hi = n_proto_numbers;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(type, str_of(proto_numbers[mid].type));

        if (c == 0)
            return proto_numbers[mid].fields;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const char *protobuf_embedded(struct str name)
{
    AUTO_FREE char *full = xasprintf("io.k8s.api.%s" STR_FMT, str_has(name, '.') ? "" : "core.v1.", STR_ARG(name));

    return protobuf_numbers(str_of(full));
}

static struct str name_of(const char *numbers, uint32_t number)
{
    struct str rest = str_of(numbers), name;

    for (uint32_t i = 1; str_next(&rest, ',', &name); i++)
        if (i == number)
            return name;
    return STR_NONE;
}

static bool bad(struct error *err)
{
    return error_set(err, ERROR_BAD_REQUEST, "the protobuf message does not fit the type");
}

static bool message(const struct schema_type *t, const char *numbers, struct str body,
                    struct arena *a, int depth, struct members *out, struct error *err);
static bool value(const struct schema_type *t, const struct proto_field *f, struct arena *a,
                  int depth, const struct json **ret, struct error *err);

static bool object(const struct schema_type *t, struct str body, struct arena *a, int depth,
                   const struct json **ret, struct error *err)
{
    AUTO(members_done) struct members m = {0};
    const char *numbers = t->name ? protobuf_numbers(str_of(t->name)) : NULL;

    if (!numbers)
        return error_set(err, ERROR_UNSUPPORTED, "type %s has no protobuf form here",
                         t->name ? t->name : "without name");
    if (!message(t, numbers, body, a, depth + 1, &m, err))
        return false;
    *ret = json_object_n(a, m.v.p, m.v.n);
    return true;
}

/* Fields by number of a small message: {seconds, nanos}, {type, int, string} … */
static bool small(struct str body, struct proto_field ret[4], struct error *err)
{
    struct proto_reader r = {body};
    struct proto_field f;

    memset(ret, 0, 4 * sizeof *ret);
    while (proto_next(&r, &f, err))
        if (f.number < 4)
            ret[f.number] = f;
    return err->kind == ERROR_NONE;
}

static bool time_value(struct str body, bool micro, struct arena *a, const struct json **ret,
                       struct error *err)
{
    struct proto_field f[4];
    char text[TIME_TEXT_LEN + 1];
    int64_t seconds;

    if (!small(body, f, err))
        return false;
    seconds = (int64_t)f[1].value;
    *ret = NULL;
    if (body.n == 0 || seconds < -9200000000 || seconds > 9200000000)
        return true;
    ident_time(seconds * 1000000000 + (int64_t)(int32_t)f[2].value, micro, text);
    *ret = json_new_z(a, text);
    return true;
}

static bool value(const struct schema_type *t, const struct proto_field *f, struct arena *a,
                  int depth, const struct json **ret, struct error *err)
{
    struct proto_field s[4];

    *ret = NULL;
    switch (t->kind) {
    case SCHEMA_BOOL:
        *ret = json_new_bool(f->value != 0);
        return f->wire == 0 || bad(err);
    case SCHEMA_INT32:
    case SCHEMA_INT64:
    case SCHEMA_NUMBER:
        *ret = json_new_i64(a, (int64_t)f->value);
        return f->wire == 0 || bad(err);
    case SCHEMA_STRING:
    case SCHEMA_BYTES:
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_DURATION:
    case SCHEMA_ANY:
    case SCHEMA_OBJECT:
    case SCHEMA_MAP:
    case SCHEMA_LIST:
        break;
    }
    if (f->wire != 2)
        return bad(err);
    switch (t->kind) {
    case SCHEMA_STRING:
        if (!str_valid_utf8(f->bytes))
            return bad(err);
        *ret = f->bytes.n ? json_new_str(a, f->bytes) : NULL;
        return true;
    case SCHEMA_BYTES: {
        AUTO(buf_done) struct buf b = {0};

        buf_add_base64(&b, f->bytes.p, f->bytes.n);
        *ret = json_new_str(a, b.n ? buf_str(&b) : STR(""));
        return true;
    }
    case SCHEMA_QUANTITY:
        if (!small(f->bytes, s, err) || !str_valid_utf8(s[1].bytes))
            return bad(err);
        *ret = s[1].bytes.n ? json_new_str(a, s[1].bytes) : NULL;
        return true;
    case SCHEMA_INT_OR_STRING:
        if (!small(f->bytes, s, err) || !str_valid_utf8(s[3].bytes))
            return bad(err);
        *ret = s[1].value ? json_new_str(a, s[3].bytes.n ? s[3].bytes : STR(""))
                          : json_new_i64(a, (int32_t)s[2].value);
        return true;
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
        return time_value(f->bytes, t->kind == SCHEMA_MICRO_TIME, a, ret, err);
    case SCHEMA_DURATION:
        if (!small(f->bytes, s, err))
            return false;
        *ret = json_new_f(a, "%gs", (double)(int64_t)s[1].value / 1e9);
        return true;
    case SCHEMA_ANY:
        if (!small(f->bytes, s, err))
            return false;
        return s[1].bytes.n == 0 || json_parse(s[1].bytes, a, ret, err);
    case SCHEMA_OBJECT:
        return object(t, f->bytes, a, depth, ret, err);
    case SCHEMA_LIST: { /* a list as a map's value is a message of its own */
        struct proto_reader r = {f->bytes};
        struct proto_field item;
        const struct json *list = json_array(a, NULL), *one;

        while (proto_next(&r, &item, err)) {
            if (!value(t->item, &item, a, depth + 1, &one, err))
                return false;
            if (one)
                list = json_append(a, list, one);
        }
        *ret = list;
        return err->kind == ERROR_NONE;
    }
    case SCHEMA_MAP:
    case SCHEMA_BOOL:
    case SCHEMA_INT32:
    case SCHEMA_INT64:
    case SCHEMA_NUMBER:
        break;
    }
    return bad(err);
}

static struct json *slot(struct members *m, struct str name, const struct json *empty,
                         struct arena *a)
{
    for (size_t i = 0; i < m->v.n; i++)
        if (str_eq(json_str(&m->v.p[i].key), name))
            return &m->v.p[i].value;
    vec_push(&m->v, json_member_of(a, name, empty));
    return &m->v.p[m->v.n - 1].value;
}

/* Lists and maps grow by doubling, so that many small entries stay linear. */
static void grow_list(struct arena *a, struct json *list, const struct json *item)
{
    struct json *items = (struct json *)(uintptr_t)list->items;

    if ((list->n & (list->n - 1)) == 0) {
        items = ARENA_ARRAY(a, struct json, list->n ? list->n * 2 : 1);
        if (list->n)
            memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
    }
    items[list->n++] = *item;
}

static void grow_map(struct arena *a, struct json *map, struct json_member m)
{
    struct json_member *members = (struct json_member *)(uintptr_t)map->members;

    if ((map->n & (map->n - 1)) == 0) {
        members = ARENA_ARRAY(a, struct json_member, map->n ? map->n * 2 : 1);
        if (map->n)
            memcpy(members, map->members, map->n * sizeof *members);
        map->members = members;
    }
    members[map->n++] = m;
}

static bool map_entry(const struct schema_type *t, struct str body, struct arena *a, int depth,
                      struct json *map, struct error *err)
{
    struct proto_field s[4];
    const struct json *v;

    if (!small(body, s, err) || !str_valid_utf8(s[1].bytes))
        return bad(err);
    if (s[2].wire == 0 && s[2].number == 0)
        s[2].wire = 2; /* an absent value is the empty one */
    if (!value(t->item, &s[2], a, depth + 1, &v, err))
        return false;
    if (!v)
        v = json_new_str(a, STR(""));
    grow_map(a, map, json_member_of(a, s[1].bytes.p ? s[1].bytes : STR(""), v));
    return true;
}

static bool message(const struct schema_type *t, const char *numbers, struct str body,
                    struct arena *a, int depth, struct members *out, struct error *err)
{
    struct proto_reader r = {body};
    struct proto_field f;

    if (depth > DEPTH_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "the protobuf message is nested too deeply");
    while (proto_next(&r, &f, err)) {
        struct str name = name_of(numbers, f.number);
        const struct schema_field *field;
        const struct json *v;

        if (str_empty(name))
            continue;
        if (name.p[0] == '+') {
            const char *n = protobuf_embedded(str_skip(name, 1));

            if (!n || f.wire != 2 || !message(t, n, f.bytes, a, depth + 1, out, err))
                return err->kind != ERROR_NONE ? false : bad(err);
            continue;
        }
        field = schema_field(t, name);
        if (!field)
            continue;
        if (field->type->kind == SCHEMA_LIST) {
            if (!value(field->type->item, &f, a, depth, &v, err))
                return false;
            if (!v)
                v = json_new_str(a, STR(""));
            grow_list(a, slot(out, name, json_array(a, NULL), a), v);
        } else if (field->type->kind == SCHEMA_MAP) {
            if (f.wire != 2
                || !map_entry(field->type, f.bytes, a, depth,
                              slot(out, name, json_object(a, NULL), a), err))
                return err->kind != ERROR_NONE ? false : bad(err);
        } else {
            if (!value(field->type, &f, a, depth, &v, err))
                return false;
            if (v)
                *slot(out, name, v, a) = *v;
        }
    }
    return err->kind == ERROR_NONE;
}

/* "v1" + "DeleteOptions" → the type of that name, wherever it is kept. */
const struct schema_type *protobuf_type(struct str api_version, struct str kind)
{
    struct str group, version;
    const struct kind_info *k;
    AUTO_FREE char *suffix = NULL;

    if (!str_cut(api_version, '/', &group, &version)) {
        version = group;
        group = STR("");
    }
    k = schema_kind_by_name(group, kind);
    if (k)
        return k->type;
    suffix = xasprintf("." STR_FMT "." STR_FMT, STR_ARG(version), STR_ARG(kind));
    for (size_t i = 0; schema_types[i]; i++)
        if (schema_types[i]->name && str_ends(str_of(schema_types[i]->name), str_of(suffix)))
            return schema_types[i];
    return NULL;
}

bool protobuf_object(struct str body, struct arena *a, const struct json **ret, struct error *err)
{
    struct proto_field envelope[4], meta[4];
    const struct schema_type *t;
    struct str kind, gv;

    if (!str_starts(body, str_n("k8s\0", 4)) || !small(str_skip(body, 4), envelope, err)
        || !small(envelope[1].bytes, meta, err))
        return error_set(err, ERROR_BAD_REQUEST, "the body is not a Kubernetes protobuf object");
    gv = meta[1].bytes;
    kind = meta[2].bytes;
    t = protobuf_type(gv, kind);
    if (!t)
        return error_set(err, ERROR_UNSUPPORTED,
                         "kind " STR_FMT " of " STR_FMT " has no protobuf form here", STR_ARG(kind),
                         STR_ARG(gv));
    if (!object(t, envelope[2].bytes.p ? envelope[2].bytes : STR(""), a, 0, ret, err))
        return false;
    *ret = json_with(a, json_with(a, *ret, "kind", json_new_str(a, kind)), "apiVersion",
                     json_new_str(a, gv));
    return true;
}
