/* Decoding into typed views. Wrong types are worded as Go's JSON decoder does, since users know these texts: the
 * innermost struct's name, then the whole path without indexes ("Container.spec.containers.image"). */
#include "api/views.h"

#include "base/cleanup.h"

struct crumb { /* where we are; lives on the C stack */
    const struct crumb *up;
    const struct schema_type *owner; /* the struct that holds the field */
    const char *field;
};
struct decoder {
    struct arena *a;
    struct error *err;
};

static bool decode_object(struct decoder *d, const struct schema_type *t, const struct json *v,
                          const struct crumb *at, char *ret);

static struct str short_name(const struct schema_type *t) /* "PodSpec" */
{
    struct str head, tail;

    if (!t->name)
        return STR("object");
    return str_rcut(str_of(t->name), '.', &head, &tail) ? tail : str_of(t->name);
}

static void add_go_type(struct buf *b, const struct schema_type *t)
{
    struct str head, tail;

    switch (t->kind) {
    case SCHEMA_STRING:
        buf_adds(b, "string");
        return;
    case SCHEMA_BYTES:
        buf_adds(b, "[]uint8");
        return;
    case SCHEMA_BOOL:
        buf_adds(b, "bool");
        return;
    case SCHEMA_INT32:
    case SCHEMA_INT_OR_STRING:
        buf_adds(b, "int32");
        return;
    case SCHEMA_INT64:
        buf_adds(b, "int64");
        return;
    case SCHEMA_NUMBER:
        buf_adds(b, "float64");
        return;
    case SCHEMA_QUANTITY:
        buf_adds(b, "resource.Quantity");
        return;
    case SCHEMA_TIME:
        buf_adds(b, "v1.Time");
        return;
    case SCHEMA_MICRO_TIME:
        buf_adds(b, "v1.MicroTime");
        return;
    case SCHEMA_DURATION:
        buf_adds(b, "string");
        return;
    case SCHEMA_ANY:
        buf_adds(b, "runtime.RawExtension");
        return;
    case SCHEMA_LIST:
        buf_adds(b, "[]");
        add_go_type(b, t->item);
        return;
    case SCHEMA_MAP:
        buf_adds(b, "map[string]");
        add_go_type(b, t->item);
        return;
    case SCHEMA_OBJECT:
        if (t->name && str_rcut(str_of(t->name), '.', &head, &tail)) {
            struct str package, before;

            if (!str_rcut(head, '.', &before, &package))
                package = head;
            buf_addf(b, STR_FMT "." STR_FMT, STR_ARG(package), STR_ARG(tail));
        } else {
            buf_adds(b, t->name ? t->name : "object");
        }
        return;
    }
}

static void add_path(struct buf *b, const struct crumb *at)
{
    if (at->up)
        add_path(b, at->up);
    buf_addc(b, '.');
    buf_adds(b, at->field);
}

static const char *json_word(const struct json *v)
{
    switch (json_type(v)) {
    case JSON_NULL:
        return "null";
    case JSON_FALSE:
    case JSON_TRUE:
        return "bool";
    case JSON_NUMBER:
        return "number";
    case JSON_STRING:
        return "string";
    case JSON_ARRAY:
        return "array";
    case JSON_OBJECT:
        return "object";
    }
    return "value";
}

static bool wrong(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at)
{
    AUTO(buf_done) struct buf b = {.limit = 64 << 10};

    buf_addf(&b, "json: cannot unmarshal %s", json_word(v));
    /* A number of the right type but out of range or with a fraction is shown. */
    if (json_is(v, JSON_NUMBER) && (t->kind == SCHEMA_INT32 || t->kind == SCHEMA_INT64))
        buf_addf(&b, " %.*s", (int)(v->n < 64 ? v->n : 64), v->text);
    if (at) {
        struct str owner = short_name(at->owner);

        buf_addf(&b, " into Go struct field " STR_FMT, STR_ARG(owner));
        add_path(&b, at);
    } else {
        buf_adds(&b, " into Go value");
    }
    buf_adds(&b, " of type ");
    add_go_type(&b, t);
    return error_set(d->err, ERROR_BAD_REQUEST, "%s", b.p ? b.p : "json: wrong type");
}

/* What is text in the views. */
static bool is_text(const struct schema_type *t)
{
    switch (t->kind) {
    case SCHEMA_STRING:
    case SCHEMA_BYTES:
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_DURATION:
    case SCHEMA_NUMBER:
        return true;
    case SCHEMA_OBJECT:
    case SCHEMA_MAP:
    case SCHEMA_LIST:
    case SCHEMA_BOOL:
    case SCHEMA_INT32:
    case SCHEMA_INT64:
    case SCHEMA_ANY:
        return false;
    }
    return false;
}

static bool is_int(const struct schema_type *t) { return t->kind == SCHEMA_INT32 || t->kind == SCHEMA_INT64; }

/* Where Go's base64.StdEncoding would stop; -1 for good text. Line breaks pass, padding must be there. */
static int64_t bad_base64(struct str s)
{
    int64_t n = 0, padded = 0;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool digit = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';

        if (c == '\n' || c == '\r')
            continue;
        if (c == '=' && (n % 4 == 3 || (n % 4 == 2 && !padded)))
            padded++;
        else if (!digit || padded)
            return (int64_t)i;
        n++;
        if (padded && n % 4 == 0)
            for (i++; i < s.n; i++)
                if (s.p[i] != '\n' && s.p[i] != '\r')
                    return (int64_t)i;
    }
    return n % 4 ? (int64_t)s.n - (padded ? 0 : n % 4) : -1;
}

static bool decode_text(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at,
                        struct str *ret)
{
    bool takes_number = t->kind == SCHEMA_QUANTITY || t->kind == SCHEMA_INT_OR_STRING || t->kind == SCHEMA_NUMBER;

    if (json_is(v, JSON_STRING) && t->kind != SCHEMA_NUMBER)
        *ret = str_n(v->text ? v->text : "", v->n);
    else if (json_is(v, JSON_NUMBER) && takes_number)
        *ret = str_n(v->text, v->n);
    else
        return wrong(d, t, v, at);
    if (t->kind == SCHEMA_BYTES && bad_base64(*ret) >= 0)
        return error_set(d->err, ERROR_BAD_REQUEST, "illegal base64 data at input byte %lld", (long long)bad_base64(*ret));
    return true;
}

static bool decode_int(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at,
                       int64_t *ret)
{
    int64_t n;

    if (!json_is(v, JSON_NUMBER) || !json_i64(v, &n)
        || (t->kind == SCHEMA_INT32 && (n < INT32_MIN || n > INT32_MAX)))
        return wrong(d, t, v, at);
    *ret = n;
    return true;
}

/* Types below what a view keeps as JSON are checked too, so that a view never exists for an ill-typed object. */
static bool check(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at)
{
    struct str text;
    int64_t n;

    if (json_type(v) == JSON_NULL)
        return true;
    if (is_text(t))
        return decode_text(d, t, v, at, &text);
    if (is_int(t))
        return decode_int(d, t, v, at, &n);
    switch (t->kind) {
    case SCHEMA_BOOL:
        return json_is(v, JSON_TRUE) || json_is(v, JSON_FALSE) || wrong(d, t, v, at);
    case SCHEMA_LIST:
        if (!json_is(v, JSON_ARRAY))
            return wrong(d, t, v, at);
        json_each_item(it, v) {
            if (!check(d, t->item, it, at))
                return false;
        }
        return true;
    case SCHEMA_MAP:
        if (!json_is(v, JSON_OBJECT))
            return wrong(d, t, v, at);
        json_each_member(m, v) {
            if (!check(d, t->item, &m->value, at))
                return false;
        }
        return true;
    case SCHEMA_OBJECT:
        if (!json_is(v, JSON_OBJECT))
            return wrong(d, t, v, at);
        json_each_member(m, v) {
            const struct schema_field *f = schema_field(t, json_str(&m->key));
            struct crumb here = {at, t, f ? f->name : ""};

            if (f && !check(d, f->type, &m->value, &here))
                return false;
        }
        return true;
    case SCHEMA_ANY:
    case SCHEMA_STRING:
    case SCHEMA_BYTES:
    case SCHEMA_INT32:
    case SCHEMA_INT64:
    case SCHEMA_NUMBER:
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_DURATION:
        return true;
    }
    return true;
}

static bool decode_texts(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at,
                         struct str_list *ret)
{
    struct str *p = ARENA_ARRAY(d->a, struct str, v->n);
    size_t n = 0;

    json_each_item(it, v) {
        p[n] = STR("");
        if (json_type(it) != JSON_NULL && !decode_text(d, t->item, it, at, &p[n]))
            return false;
        n++;
    }
    *ret = (struct str_list){p, n};
    return true;
}

static bool decode_ints(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at,
                        struct int_list *ret)
{
    int64_t *p = ARENA_ARRAY(d->a, int64_t, v->n);
    size_t n = 0;

    json_each_item(it, v) {
        if (json_type(it) != JSON_NULL && !decode_int(d, t->item, it, at, &p[n]))
            return false;
        n++;
    }
    *ret = (struct int_list){p, n};
    return true;
}

struct any_slice {
    const void *p;
    size_t n;
};

static bool decode_objects(struct decoder *d, const struct schema_type *t, const struct json *v,
                           const struct crumb *at, struct any_slice *ret)
{
    char *p = arena_alloc(d->a, arena_mul(v->n, t->item->view_size));
    size_t n = 0;

    json_each_item(it, v) {
        if (json_type(it) != JSON_NULL && !decode_object(d, t->item, it, at, p + n * t->item->view_size))
            return false;
        n++;
    }
    *ret = (struct any_slice){p, n};
    return true;
}

static bool decode_list(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at,
                        void *ret)
{
    if (!json_is(v, JSON_ARRAY))
        return wrong(d, t, v, at);
    if (is_text(t->item))
        return decode_texts(d, t, v, at, ret);
    if (is_int(t->item))
        return decode_ints(d, t, v, at, ret);
    if (t->item->kind == SCHEMA_OBJECT && t->item->view_size)
        return decode_objects(d, t, v, at, ret);
    if (!check(d, t, v, at))
        return false;
    *(const struct json **)ret = v;
    return true;
}

static bool decode_map(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at,
                       void *ret)
{
    struct str_pair *p;
    size_t n = 0;

    if (!json_is(v, JSON_OBJECT))
        return wrong(d, t, v, at);
    if (!is_text(t->item)) {
        if (!check(d, t, v, at))
            return false;
        *(const struct json **)ret = v;
        return true;
    }
    p = ARENA_ARRAY(d->a, struct str_pair, v->n);
    json_each_member(m, v) {
        p[n].key = json_str(&m->key);
        p[n].value = STR("");
        if (json_type(&m->value) != JSON_NULL && !decode_text(d, t->item, &m->value, at, &p[n].value))
            return false;
        n++;
    }
    *(struct str_map *)ret = (struct str_map){p, n};
    return true;
}

static bool decode_value(struct decoder *d, const struct schema_type *t, const struct json *v, const struct crumb *at,
                         void *ret)
{
    if (json_type(v) == JSON_NULL && t->kind != SCHEMA_ANY)
        return true;
    if (is_text(t))
        return decode_text(d, t, v, at, ret);
    switch (t->kind) {
    case SCHEMA_BOOL:
        if (!json_is(v, JSON_TRUE) && !json_is(v, JSON_FALSE))
            return wrong(d, t, v, at);
        *(struct opt_bool *)ret = (struct opt_bool){true, json_is(v, JSON_TRUE)};
        return true;
    case SCHEMA_INT32:
    case SCHEMA_INT64: {
        struct opt_int i = {true, 0};

        if (!decode_int(d, t, v, at, &i.v))
            return false;
        *(struct opt_int *)ret = i;
        return true;
    }
    case SCHEMA_LIST:
        return decode_list(d, t, v, at, ret);
    case SCHEMA_MAP:
        return decode_map(d, t, v, at, ret);
    case SCHEMA_OBJECT: {
        char *view = t->view_size ? arena_alloc(d->a, t->view_size) : NULL;

        if (!view)
            return check(d, t, v, at);
        *(const void **)ret = view;
        return decode_object(d, t, v, at, view);
    }
    case SCHEMA_ANY:
        *(const struct json **)ret = v;
        return true;
    case SCHEMA_STRING:
    case SCHEMA_BYTES:
    case SCHEMA_NUMBER:
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_DURATION:
        return true;
    }
    return true;
}

static bool decode_object(struct decoder *d, const struct schema_type *t, const struct json *v,
                          const struct crumb *at, char *ret)
{
    if (!json_is(v, JSON_OBJECT))
        return wrong(d, t, v, at);
    json_each_member(m, v) {
        const struct schema_field *f = schema_field(t, json_str(&m->key));
        struct crumb here = {at, t, f ? f->name : ""};

        if (!f)
            continue;
        if (f->offset == UINT32_MAX) {
            if (!check(d, f->type, &m->value, &here))
                return false;
        } else if (!decode_value(d, f->type, &m->value, &here, ret + f->offset)) {
            return false;
        }
    }
    return true;
}

bool schema_decode(const struct schema_type *t, const struct json *v, struct arena *a, void *ret, struct error *err)
{
    struct decoder d = {a, err};

    memset(ret, 0, t->view_size);
    return decode_object(&d, t, v, NULL, ret);
}
