/* cel/value - values: JSON seen as CEL's, look-ups, equality, order; types and their names. */
#include "cel/internal.h"

#include <math.h>

const struct cel_type cel_dyn = {.kind = CEL_DYN}, cel_null = {.kind = CEL_NULL},
                      cel_bool = {.kind = CEL_BOOL}, cel_int = {.kind = CEL_INT},
                      cel_uint = {.kind = CEL_UINT}, cel_double = {.kind = CEL_DOUBLE},
                      cel_string = {.kind = CEL_STRING}, cel_bytes = {.kind = CEL_BYTES},
                      cel_timestamp = {.kind = CEL_TIMESTAMP},
                      cel_duration = {.kind = CEL_DURATION}, cel_type_type = {.kind = CEL_TYPE},
                      cel_quantity = {.kind = CEL_QUANTITY}, cel_url = {.kind = CEL_URL},
                      cel_ip = {.kind = CEL_IP}, cel_cidr = {.kind = CEL_CIDR},
                      cel_format = {.kind = CEL_FORMAT}, cel_semver = {.kind = CEL_SEMVER},
                      cel_list_dyn = {.kind = CEL_LIST, .elem = &cel_dyn},
                      cel_map_dyn = {.kind = CEL_MAP, .key = &cel_dyn, .elem = &cel_dyn},
                      cel_optional_dyn = {.kind = CEL_OPTIONAL, .elem = &cel_dyn};

const struct cel_type *cel_list_of(struct arena *a, const struct cel_type *elem)
{
    struct cel_type *t;

    if (elem->kind == CEL_DYN)
        return &cel_list_dyn;
    t = ARENA_NEW(a, struct cel_type);
    t->kind = CEL_LIST;
    t->elem = elem;
    return t;
}

const struct cel_type *cel_map_of(struct arena *a, const struct cel_type *key,
                                  const struct cel_type *elem)
{
    struct cel_type *t = ARENA_NEW(a, struct cel_type);

    t->kind = CEL_MAP;
    t->key = key;
    t->elem = elem;
    return t;
}

const struct cel_type *cel_optional_of(struct arena *a, const struct cel_type *elem)
{
    struct cel_type *t;

    if (elem->kind == CEL_DYN)
        return &cel_optional_dyn;
    t = ARENA_NEW(a, struct cel_type);
    t->kind = CEL_OPTIONAL;
    t->elem = elem;
    return t;
}

const char *cel_type_name(struct arena *a, const struct cel_type *t)
{
    switch (t->kind) {
    case CEL_DYN:
        return "dyn";
    case CEL_NULL:
        return "null";
    case CEL_BOOL:
        return "bool";
    case CEL_INT:
        return "int";
    case CEL_UINT:
        return "uint";
    case CEL_DOUBLE:
        return "double";
    case CEL_STRING:
        return "string";
    case CEL_BYTES:
        return "bytes";
    case CEL_LIST:
        return arena_printf(a, "list(%s)", cel_type_name(a, t->elem));
    case CEL_MAP:
        return arena_printf(a, "map(%s, %s)", cel_type_name(a, t->key), cel_type_name(a, t->elem));
    case CEL_OBJECT:
        return "object";
    case CEL_TIMESTAMP:
        return "timestamp";
    case CEL_DURATION:
        return "duration";
    case CEL_TYPE:
        return "type";
    case CEL_OPTIONAL:
        return arena_printf(a, "optional_type(%s)", cel_type_name(a, t->elem));
    case CEL_QUANTITY:
        return "kubernetes.Quantity";
    case CEL_URL:
        return "kubernetes.URL";
    case CEL_IP:
        return "net.IP";
    case CEL_CIDR:
        return "net.CIDR";
    case CEL_FORMAT:
        return "kubernetes.NamedFormat";
    case CEL_SEMVER:
        return "kubernetes.Semver";
    case CEL_ERROR:
        return "error";
    }
    return "";
}

const char *cel_type_word(const struct cel_type *t)
{
    static const char *const words[] = {"dyn",
                                        "null_type",
                                        "bool",
                                        "int",
                                        "uint",
                                        "double",
                                        "string",
                                        "bytes",
                                        "list",
                                        "map",
                                        "object",
                                        "google.protobuf.Timestamp",
                                        "google.protobuf.Duration",
                                        "type",
                                        "optional_type",
                                        "kubernetes.Quantity",
                                        "kubernetes.URL",
                                        "net.IP",
                                        "net.CIDR",
                                        "kubernetes.NamedFormat",
                                        "kubernetes.Semver",
                                        "error"};

    return words[t->kind];
}

const struct cel_field *cel_type_field(const struct cel_type *t, struct str name)
{
    size_t lo = 0, hi = t->n_fields;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = str_cmp(name, str_of(t->fields[mid].name));

        if (order == 0)
            return &t->fields[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* -- JSON ----------------------------------------------------------------------------------------- */

static struct cel_value of_number(const struct json *v, const struct cel_type *type)
{
    int64_t i;
    double d = 0;

    if ((!type || type->kind != CEL_DOUBLE) && json_i64(v, &i))
        return cel_v_int(i);
    if (!json_double(v, &d))
        d = 0;
    return cel_v_double(d);
}

/* Formats make times and bytes of texts; a text that does not parse has been told by validation before. */
static struct cel_value of_string(const struct json *v, const struct cel_type *type)
{
    struct cel_value ret = cel_v_str(json_str(v));

    if (!type)
        return ret;
    if (type->kind == CEL_TIMESTAMP && cel_parse_timestamp(ret.s, true, &ret))
        return ret;
    if (type->kind == CEL_DURATION && cel_parse_duration(ret.s, &ret))
        return ret;
    if (type->kind == CEL_BYTES) {
        ret.kind = CEL_BYTES;
        ret.lazy = true; /* still base64: decoded where it is looked at (cel_settled) */
    }
    return ret;
}

struct cel_value cel_of_json(const struct json *v, const struct cel_type *type)
{
    if (type && type->kind == CEL_DYN)
        type = NULL;
    switch (json_type(v)) {
    case JSON_NULL:
        return cel_v_null();
    case JSON_FALSE:
    case JSON_TRUE:
        return cel_v_bool(json_bool(v));
    case JSON_NUMBER:
        return of_number(v, type);
    case JSON_STRING:
        return of_string(v, type);
    case JSON_ARRAY:
        return (struct cel_value){.kind = CEL_LIST,
                                  .lazy = true,
                                  .type = type && type->kind == CEL_LIST ? type : NULL,
                                  .json = v};
    case JSON_OBJECT:
        return (struct cel_value){
            .kind = type && type->kind == CEL_OBJECT ? CEL_OBJECT : CEL_MAP,
            .lazy = true,
            .type = type && (type->kind == CEL_OBJECT || type->kind == CEL_MAP) ? type : NULL,
            .json = v};
    }
    return cel_v_null();
}

struct cel_value cel_absent(void)
{
    return (struct cel_value){.kind = CEL_ERROR, .s = {0}};
}

struct cel_value cel_v_list(const struct cel_value *items, size_t n)
{
    struct cel_value v = {.kind = CEL_LIST};

    v.list.items = items;
    v.list.n = n;
    return v;
}

struct cel_value cel_v_some(struct cel_run *r, struct cel_value v)
{
    struct cel_value *copy = ARENA_NEW(r->a, struct cel_value);

    *copy = v;
    return (struct cel_value){.kind = CEL_OPTIONAL, .some = copy};
}

size_t cel_len(const struct cel_value *v)
{
    if (v->lazy)
        return json_len(v->json);
    return v->kind == CEL_LIST ? v->list.n : v->map.n;
}

struct cel_value cel_item(const struct cel_value *list, size_t i)
{
    if (!list->lazy)
        return list->list.items[i];
    return cel_of_json(json_item(list->json, i), list->type ? list->type->elem : NULL);
}

/* Members of an object that its type does not know are not seen. */
static const struct cel_field *field_by_key(const struct cel_type *t, struct str key)
{
    const struct cel_field *f = cel_type_field(t, key);

    if (f && str_is(key, f->key))
        return f;
    for (size_t i = 0; i < t->n_fields; i++)
        if (str_is(key, t->fields[i].key))
            return &t->fields[i];
    return NULL;
}

void cel_member(const struct cel_value *map, size_t i, struct cel_value *ret_key,
                struct cel_value *ret_value)
{
    const struct json_member *m;
    const struct cel_type *t = NULL;

    if (!map->lazy) {
        *ret_key = map->map.entries[i].key;
        *ret_value = map->map.entries[i].value;
        return;
    }
    m = &json_members(map->json)[i];
    if (map->type && map->type->kind == CEL_MAP)
        t = map->type->elem;
    else if (map->type) {
        const struct cel_field *f = field_by_key(map->type, json_str(&m->key));

        t = f ? f->type : NULL;
    }
    *ret_key = cel_v_str(json_str(&m->key));
    *ret_value = cel_of_json(&m->value, t);
}

bool cel_lookup_name(const struct cel_value *map, struct str name, struct cel_value *ret)
{
    const struct cel_type *t = map->type;
    const struct json *v;

    if (!map->lazy) {
        for (size_t i = 0; i < map->map.n; i++)
            if (map->map.entries[i].key.kind == CEL_STRING
                && str_eq(map->map.entries[i].key.s, name)) {
                *ret = map->map.entries[i].value;
                return true;
            }
        return false;
    }
    if (t && t->kind == CEL_OBJECT) {
        const struct cel_field *f = cel_type_field(t, name);

        if (!f)
            return false;
        v = json_get(map->json, f->key);
        t = f->type;
    } else {
        v = json_get_str(map->json, name);
        t = t ? t->elem : NULL;
    }
    if (!v)
        return false;
    *ret = cel_of_json(v, t);
    return true;
}

bool cel_lookup(struct cel_run *r, const struct cel_value *map, const struct cel_value *key,
                struct cel_value *ret)
{
    if (key->kind == CEL_STRING)
        return cel_lookup_name(map, key->s, ret);
    for (size_t i = 0; i < cel_len(map) && !map->lazy; i++)
        if (cel_equal(r, &map->map.entries[i].key, key)) {
            *ret = map->map.entries[i].value;
            return true;
        }
    return false;
}

/* -- equality and order --------------------------------------------------------------------------- */

static bool number(const struct cel_value *v)
{
    return v->kind == CEL_INT || v->kind == CEL_UINT || v->kind == CEL_DOUBLE;
}

static int order_i(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}
static int order_u(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int order_di(double d, int64_t i)
{
    if (isnan(d))
        return 3;
    if (d < -9223372036854775808.0)
        return -1;
    if (d >= 9223372036854775808.0)
        return 1;
    if ((int64_t)d != i)
        return order_i((int64_t)d, i);
    return (d > trunc(d)) - (d < trunc(d));
}

static int order_du(double d, uint64_t u)
{
    if (isnan(d))
        return 3;
    if (d < 0)
        return -1;
    if (d >= 18446744073709551616.0)
        return 1;
    if ((uint64_t)d != u)
        return order_u((uint64_t)d, u);
    return d > trunc(d);
}

static int flip(int order)
{
    return order == 1 ? -1 : order == -1 ? 1 : order;
}

static int order_numbers(const struct cel_value *a, const struct cel_value *b)
{
    if (a->kind == CEL_INT && b->kind == CEL_INT)
        return order_i(a->i, b->i);
    if (a->kind == CEL_UINT && b->kind == CEL_UINT)
        return order_u(a->u, b->u);
    if (a->kind == CEL_DOUBLE && b->kind == CEL_DOUBLE)
        return isnan(a->d) || isnan(b->d) ? 3 : (a->d > b->d) - (a->d < b->d);
    if (a->kind == CEL_INT && b->kind == CEL_UINT)
        return a->i < 0 ? -1 : order_u((uint64_t)a->i, b->u);
    if (a->kind == CEL_DOUBLE)
        return b->kind == CEL_INT ? order_di(a->d, b->i) : order_du(a->d, b->u);
    return flip(order_numbers(b, a));
}

int cel_compare(const struct cel_value *a, const struct cel_value *b)
{
    if (number(a) && number(b))
        return order_numbers(a, b);
    if (a->kind != b->kind)
        return 2;
    if (a->kind == CEL_STRING || a->kind == CEL_BYTES) {
        int order = str_cmp(a->s, b->s);

        return (order > 0) - (order < 0);
    }
    if (a->kind == CEL_BOOL)
        return (int)a->b - (int)b->b;
    if (a->kind == CEL_DURATION)
        return order_i(a->i, b->i);
    if (a->kind == CEL_TIMESTAMP)
        return a->time.sec != b->time.sec ? order_i(a->time.sec, b->time.sec)
                                          : order_i(a->time.ns, b->time.ns);
    return 2;
}

static bool same_type(const struct cel_type *a, const struct cel_type *b)
{
    return a == b || (a->kind == b->kind && a->kind != CEL_OBJECT);
}

/* The member of that name: mostly at the same place, else it is looked for, which has its price. */
static const struct json *member_like(struct cel_run *r, const struct json *object, size_t i,
                                      struct str key)
{
    const struct json_member *m = json_members(object);

    if (m && i < json_len(object) && str_eq(json_str(&m[i].key), key))
        return &m[i].value;
    cel_charge(r, json_len(object) / 16);
    return json_get_str(object, key);
}

static bool equal_maps(struct cel_run *r, const struct cel_value *a, const struct cel_value *b)
{
    if (cel_len(a) != cel_len(b))
        return false;
    for (size_t i = 0; i < cel_len(a) && !r->stop; i++) {
        struct cel_value key, value, other;

        cel_member(a, i, &key, &value);
        if (b->lazy && key.kind == CEL_STRING) {
            const struct json *v = member_like(r, b->json, i, key.s);
            const struct cel_field *f =
                b->type && b->type->kind == CEL_OBJECT ? field_by_key(b->type, key.s) : NULL;

            if (!v)
                return false;
            other = cel_of_json(v, f                                     ? f->type
                                   : b->type && b->type->kind == CEL_MAP ? b->type->elem
                                                                         : NULL);
        } else if (!cel_lookup(r, b, &key, &other)) {
            return false;
        }
        if (!cel_equal(r, &value, &other))
            return false;
    }
    return true;
}

/* Whether an item is the one that the keys of a list of type map name. */
static bool same_keys(struct cel_run *r, const struct cel_value *a, const struct cel_value *b,
                      const char *const *keys)
{
    for (; *keys; keys++) {
        struct cel_value x, y;
        bool has_x = cel_is_map(a) && a->lazy && json_get(a->json, *keys);
        bool has_y = cel_is_map(b) && b->lazy && json_get(b->json, *keys);

        if (has_x != has_y)
            return false;
        if (!has_x)
            continue;
        x = cel_of_json(json_get(a->json, *keys), NULL);
        y = cel_of_json(json_get(b->json, *keys), NULL);
        if (!cel_equal(r, &x, &y))
            return false;
    }
    return true;
}

/* Sets and maps: the order says nothing. */
static bool equal_unordered(struct cel_run *r, const struct cel_value *a, const struct cel_value *b,
                            const struct cel_type *t)
{
    for (size_t i = 0; i < cel_len(a) && !r->stop; i++) {
        struct cel_value x = cel_item(a, i);
        bool found = false;

        for (size_t k = 0; k < cel_len(b) && !found && !r->stop; k++) {
            struct cel_value y = cel_item(b, (i + k) % cel_len(b)); /* mostly at the same place */

            cel_charge(r, k % 4 == 0);
            found = t->list == CEL_LIST_SET || !t->list_keys
                        ? cel_equal(r, &x, &y)
                        : same_keys(r, &x, &y, t->list_keys) && cel_equal(r, &x, &y);
        }
        if (!found)
            return false;
    }
    return true;
}

static bool equal_lists(struct cel_run *r, const struct cel_value *a, const struct cel_value *b)
{
    const struct cel_type *t = a->lazy && a->type ? a->type : b->lazy ? b->type : NULL;

    if (cel_len(a) != cel_len(b))
        return false;
    if (t && t->list != CEL_LIST_ATOMIC)
        return equal_unordered(r, a, b, t);
    for (size_t i = 0; i < cel_len(a) && !r->stop; i++) {
        struct cel_value x = cel_item(a, i), y = cel_item(b, i);

        if (!cel_equal(r, &x, &y))
            return false;
    }
    return true;
}

struct cel_value cel_settled(struct cel_run *r, struct cel_value v)
{
    AUTO(buf_done) struct buf b = {.limit = LIMIT_OBJECT_BYTES};
    AUTO(error_clear) struct error err = {0};

    if (v.kind != CEL_BYTES || !v.lazy)
        return v;
    v.lazy = false;
    if (buf_add_base64_decoded(&b, v.s, &err))
        v.s = arena_str(r->a, b.n ? buf_str(&b) : STR(""));
    return v;
}

static bool equal_bytes(struct cel_run *r, const struct cel_value *a, const struct cel_value *b)
{
    struct cel_value x = cel_settled(r, *a), y = cel_settled(r, *b);

    return str_eq(x.s, y.s);
}

bool cel_equal(struct cel_run *r, const struct cel_value *a, const struct cel_value *b)
{
    if (number(a) && number(b))
        return order_numbers(a, b) == 0;
    if (a->kind != b->kind && !(cel_is_map(a) && cel_is_map(b)))
        return false;
    switch ((enum cel_kind)a->kind) {
    case CEL_NULL:
        return true;
    case CEL_BOOL:
        return a->b == b->b;
    case CEL_BYTES:
        cel_charge_text(r, a->s.n < b->s.n ? a->s.n : b->s.n);
        return equal_bytes(r, a, b);
    case CEL_STRING:
    case CEL_URL:
        cel_charge_text(r, a->s.n < b->s.n ? a->s.n : b->s.n);
        return str_eq(a->s, b->s);
    case CEL_LIST:
        cel_charge_text(r, cel_len(a));
        return equal_lists(r, a, b);
    case CEL_MAP:
    case CEL_OBJECT:
        cel_charge_text(r, cel_len(a));
        return equal_maps(r, a, b);
    case CEL_DURATION:
    case CEL_TIMESTAMP:
        return cel_compare(a, b) == 0;
    case CEL_TYPE:
        return same_type(a->t, b->t);
    case CEL_OPTIONAL:
        return a->some && b->some ? cel_equal(r, a->some, b->some) : !a->some && !b->some;
    case CEL_QUANTITY:
        return quantity_cmp(*a->quantity, *b->quantity) == 0;
    case CEL_IP:
    case CEL_CIDR:
    case CEL_FORMAT:
    case CEL_SEMVER:
        return cel_equal_opaque(a, b);
    case CEL_DYN:
    case CEL_INT:
    case CEL_UINT:
    case CEL_DOUBLE:
    case CEL_ERROR:
        return false;
    }
    return false;
}

const struct cel_type *cel_type_of(const struct cel_value *v)
{
    switch ((enum cel_kind)v->kind) {
    case CEL_NULL:
        return &cel_null;
    case CEL_BOOL:
        return &cel_bool;
    case CEL_INT:
        return &cel_int;
    case CEL_UINT:
        return &cel_uint;
    case CEL_DOUBLE:
        return &cel_double;
    case CEL_STRING:
        return &cel_string;
    case CEL_BYTES:
        return &cel_bytes;
    case CEL_LIST:
        return &cel_list_dyn;
    case CEL_MAP:
        return &cel_map_dyn;
    case CEL_OBJECT:
        return v->type;
    case CEL_TIMESTAMP:
        return &cel_timestamp;
    case CEL_DURATION:
        return &cel_duration;
    case CEL_TYPE:
        return &cel_type_type;
    case CEL_OPTIONAL:
        return &cel_optional_dyn;
    case CEL_QUANTITY:
        return &cel_quantity;
    case CEL_URL:
        return &cel_url;
    case CEL_IP:
        return &cel_ip;
    case CEL_CIDR:
        return &cel_cidr;
    case CEL_FORMAT:
        return &cel_format;
    case CEL_SEMVER:
        return &cel_semver;
    case CEL_DYN:
    case CEL_ERROR:
        return &cel_dyn;
    }
    return &cel_dyn;
}

size_t cel_characters(struct str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

void *cel_grow(struct arena *a, void *p, size_t size, size_t n, size_t *cap)
{
    void *bigger;

    if (n < *cap)
        return p;
    *cap = *cap ? *cap * 2 : 8;
    bigger = arena_alloc(a, arena_mul(*cap, size));
    if (n)
        memcpy(bigger, p, n * size);
    return bigger;
}

void cel_items_add(struct cel_run *r, struct cel_items *l, struct cel_value v)
{
    l->p = cel_grow(r->a, l->p, sizeof *l->p, l->n, &l->cap);
    l->p[l->n++] = v;
}
