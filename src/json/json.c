#include "json/json.h"
#include "json/index.h"
#include <assert.h>
#include <inttypes.h>
#include <math.h>

static const struct json the_null = {.type = JSON_NULL};
static const struct json the_false = {.type = JSON_FALSE};
static const struct json the_true = {.type = JSON_TRUE};

static bool key_is(const struct json_member *m, struct str key)
{
    return m->key.n == key.n && memcmp(m->key.text, key.p, key.n) == 0;
}

/* Readers */

const struct json *json_get_str(const struct json *object, struct str key)
{
    if (!json_is(object, JSON_OBJECT) || !key.p)
        return NULL;
    for (size_t i = object->n; i > 0; i--) /* from the end: the last of equal keys wins */
        if (key_is(&object->members[i - 1], key))
            return &object->members[i - 1].value;
    return NULL;
}

const struct json *json_get(const struct json *object, const char *key)
{
    return json_get_str(object, str_of(key));
}

size_t json_len(const struct json *v)
{
    return json_is(v, JSON_ARRAY) || json_is(v, JSON_OBJECT) ? v->n : 0;
}

const struct json *json_item(const struct json *array, size_t i)
{
    return json_is(array, JSON_ARRAY) && i < array->n ? &array->items[i] : NULL;
}

static bool read_index(struct str token, size_t *ret)
{
    size_t v = 0;

    if (token.n == 0 || token.n > 9 || (token.n > 1 && token.p[0] == '0'))
        return false;
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] < '0' || token.p[i] > '9')
            return false;
        v = v * 10 + (size_t)(token.p[i] - '0');
    }
    *ret = v;
    return true;
}

static bool key_is_escaped(const struct json_member *m, struct str token)
{
    size_t at = 0;

    for (size_t i = 0; i < token.n; i++, at++) {
        char c = token.p[i];
        if (c == '~' && i + 1 < token.n && (token.p[i + 1] == '0' || token.p[i + 1] == '1'))
            c = token.p[++i] == '1' ? '/' : '~';
        if (at == m->key.n || m->key.text[at] != c)
            return false;
    }
    return at == m->key.n;
}

static const struct json *step(const struct json *v, struct str token)
{
    size_t i;

    if (json_is(v, JSON_ARRAY))
        return read_index(token, &i) ? json_item(v, i) : NULL;
    if (!str_has(token, '~'))
        return json_get_str(v, token);
    if (json_is(v, JSON_OBJECT))
        for (i = v->n; i > 0; i--)
            if (key_is_escaped(&v->members[i - 1], token))
                return &v->members[i - 1].value;
    return NULL;
}

const struct json *json_at(const struct json *v, const char *path)
{
    while (v && *path) {
        size_t n = strcspn(path, "/");
        v = step(v, str_n(path, n));
        path += n;
        if (*path && !*++path)
            return step(v, STR("")); /* "a/" names the key "" in a */
    }
    return v;
}

struct str json_str(const struct json *v)
{
    return json_is(v, JSON_STRING) ? str_n(v->text, v->n) : STR_NONE;
}

struct str json_str_at(const struct json *v, const char *path) { return json_str(json_at(v, path)); }

bool json_bool_at(const struct json *v, const char *path, bool otherwise)
{
    const struct json *at = json_at(v, path);

    return json_is(at, JSON_TRUE) || (otherwise && !json_is(at, JSON_FALSE));
}

bool json_i64(const struct json *v, int64_t *ret)
{
    struct json_decimal d;
    uint64_t sum = 0;

    if (!json_is(v, JSON_NUMBER))
        return false;
    json_decimal_of(str_n(v->text, v->n), &d);
    if (d.digits == 0) {
        *ret = 0;
        return true;
    }
    if (d.exponent > 19 || d.exponent < (int64_t)d.digits)
        return false;
    for (int64_t i = 0; i < d.exponent; i++) {
        unsigned digit = 0;
        if (d.first < d.end) {
            d.first += *d.first == '.';
            digit = (unsigned)(*d.first++ - '0');
        }
        if (__builtin_mul_overflow(sum, 10u, &sum) || __builtin_add_overflow(sum, digit, &sum))
            return false;
    }
    if (sum > (uint64_t)INT64_MAX + d.negative)
        return false;
    *ret = d.negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

int64_t json_i64_at(const struct json *v, const char *path, int64_t otherwise)
{
    int64_t i;

    return json_i64(json_at(v, path), &i) ? i : otherwise;
}

bool json_double(const struct json *v, double *ret)
{
    char small[64];
    AUTO_FREE char *large = NULL;
    char *text = small;

    if (!json_is(v, JSON_NUMBER))
        return false;
    if (v->n >= sizeof small)
        text = large = str_dup(str_n(v->text, v->n));
    else
        memcpy(small, v->text, v->n);
    text[v->n] = '\0';
    *ret = strtod(text, NULL);
    return isfinite(*ret);
}

static bool number_eq(const struct json *a, const struct json *b)
{
    struct json_decimal x, y;

    if (a->n == b->n && memcmp(a->text, b->text, a->n) == 0)
        return true;
    json_decimal_of(str_n(a->text, a->n), &x);
    json_decimal_of(str_n(b->text, b->n), &y);
    return json_decimal_eq(&x, &y);
}

static bool array_eq(const struct json *a, const struct json *b)
{
    for (size_t i = 0; i < a->n; i++)
        if (!json_eq(&a->items[i], &b->items[i]))
            return false;
    return true;
}

/* Every key of a is in b too. */
static bool keys_within(const struct json *a, const struct json_index *b)
{
    json_each_member (m, a)
        if (!json_index_get(b, json_str(&m->key)))
            return false;
    return true;
}

/* Of the same number of members. Mostly their order is the same too, and then nothing is looked up. */
static bool object_eq(const struct json *a, const struct json *b)
{
    AUTO(json_index_done) struct json_index ia = {0}, ib = {0};
    size_t i = 0;

    while (i < a->n && key_is(&a->members[i], json_str(&b->members[i].key))) {
        if (!json_eq(&a->members[i].value, &b->members[i].value))
            return false;
        i++;
    }
    if (i == a->n)
        return true;
    json_index_init(&ia, a);
    json_index_init(&ib, b);
    if (!keys_within(a, &ib) || !keys_within(b, &ia))
        return false;
    for (; i < a->n; i++)
        if (!json_eq(&a->members[i].value, &json_index_get(&ib, json_str(&a->members[i].key))->value))
            return false;
    return true;
}

bool json_eq(const struct json *a, const struct json *b)
{
    if (!a || !b)
        return a == b;
    if (a == b)
        return true;
    if (a->type != b->type)
        return false;
    switch (json_type(a)) {
    case JSON_NULL:
    case JSON_FALSE:
    case JSON_TRUE:
        return true;
    case JSON_NUMBER:
        return number_eq(a, b);
    case JSON_STRING:
        return str_eq(json_str(a), json_str(b));
    case JSON_ARRAY:
        return a->n == b->n && (a->items == b->items || array_eq(a, b));
    case JSON_OBJECT:
        return a->n == b->n && (a->members == b->members || object_eq(a, b));
    }
    __builtin_unreachable();
}

/* Makers */

const struct json *json_null(void) { return &the_null; }
const struct json *json_new_bool(bool v) { return v ? &the_true : &the_false; }

static const struct json *new_value(struct arena *a, struct json v)
{
    struct json *p = ARENA_NEW(a, struct json);

    *p = v;
    return p;
}

/* Text that must have room in 32 bits; what comes from outside is bounded long before that. */
static struct json text_value(struct arena *a, enum json_type type, struct str s)
{
    assert(s.n <= UINT32_MAX);
    return (struct json){.text = s.n > 0 ? arena_str(a, s).p : "", .n = (uint32_t)s.n, .type = (uint8_t)type};
}

const struct json *json_new_str(struct arena *a, struct str s)
{
    return new_value(a, text_value(a, JSON_STRING, s));
}

const struct json *json_new_z(struct arena *a, const char *z) { return z ? json_new_str(a, str_of(z)) : NULL; }

const struct json *json_new_f(struct arena *a, const char *fmt, ...)
{
    AUTO(buf_done) struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    return json_new_str(a, buf_str(&b));
}

const struct json *json_new_i64(struct arena *a, int64_t v)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, v);

    return new_value(a, text_value(a, JSON_NUMBER, str_n(text, (size_t)n)));
}

/* The shortest text that reads back as v, in Go's two forms: 0.000001 … 1e+21. */
const struct json *json_new_double(struct arena *a, double v)
{
    char digits[40], text[64];
    double size = fabs(v);
    int precision = 0, n;

    if (!isfinite(v))
        return &the_null;
    if (v == 0)
        return json_new_i64(a, 0);
    do
        snprintf(digits, sizeof digits, "%.*e", precision, v);
    while (strtod(digits, NULL) != v && ++precision < 17);
    if (size >= 1e-6 && size < 1e21) {
        int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
        n = snprintf(text, sizeof text, "%.*f", precision > exponent ? precision - exponent : 0, v);
    } else {
        char *e = strchr(digits, 'e'); /* "1e-09" is written "1e-9" */
        if (e[2] == '0')
            memmove(e + 2, e + 3, strlen(e + 3) + 1);
        n = snprintf(text, sizeof text, "%s", digits);
    }
    return new_value(a, text_value(a, JSON_NUMBER, str_n(text, (size_t)n)));
}

struct json_member json_member_of(struct arena *a, struct str key, const struct json *value)
{
    return (struct json_member){.key = text_value(a, JSON_STRING, key), .value = value ? *value : the_null};
}

const struct json *json_object(struct arena *a, ...)
{
    struct json_member *m;
    struct json *v = ARENA_NEW(a, struct json);
    const char *key;
    size_t n = 0;
    va_list ap;

    va_start(ap, a);
    for (key = va_arg(ap, const char *); key; key = va_arg(ap, const char *))
        n += va_arg(ap, const struct json *) != NULL;
    va_end(ap);

    m = ARENA_ARRAY(a, struct json_member, n ? n : 1);
    *v = (struct json){.members = m, .n = (uint32_t)n, .type = JSON_OBJECT};
    va_start(ap, a);
    for (key = va_arg(ap, const char *); key; key = va_arg(ap, const char *)) {
        const struct json *value = va_arg(ap, const struct json *);
        if (value)
            *m++ = json_member_of(a, str_of(key), value);
    }
    va_end(ap);
    return v;
}

const struct json *json_object_n(struct arena *a, const struct json_member *members, size_t n)
{
    struct json_member *copy = NULL;

    assert(n <= UINT32_MAX);
    if (n > 0) {
        copy = ARENA_ARRAY(a, struct json_member, n);
        memcpy(copy, members, n * sizeof *copy);
    }
    return new_value(a, (struct json){.members = copy, .n = (uint32_t)n, .type = JSON_OBJECT});
}

const struct json *json_array(struct arena *a, ...)
{
    struct json *items, *v = ARENA_NEW(a, struct json);
    const struct json *item;
    size_t n = 0;
    va_list ap;

    va_start(ap, a);
    while (va_arg(ap, const struct json *))
        n++;
    va_end(ap);

    items = ARENA_ARRAY(a, struct json, n ? n : 1);
    *v = (struct json){.items = items, .n = (uint32_t)n, .type = JSON_ARRAY};
    va_start(ap, a);
    while ((item = va_arg(ap, const struct json *)))
        *items++ = *item;
    va_end(ap);
    return v;
}

const struct json *json_array_n(struct arena *a, const struct json *const *items, size_t n)
{
    struct json *copy = n > 0 ? ARENA_ARRAY(a, struct json, n) : NULL;

    assert(n <= UINT32_MAX);
    for (size_t i = 0; i < n; i++)
        copy[i] = items[i] ? *items[i] : the_null;
    return new_value(a, (struct json){.items = copy, .n = (uint32_t)n, .type = JSON_ARRAY});
}

static struct json copy_value(struct arena *a, const struct json *v)
{
    struct json ret = *v;

    switch (json_type(v)) {
    case JSON_NULL:
    case JSON_FALSE:
    case JSON_TRUE:
        break;
    case JSON_NUMBER:
    case JSON_STRING:
        return text_value(a, json_type(v), str_n(v->text, v->n));
    case JSON_ARRAY:
        if (v->n > 0) {
            struct json *items = ARENA_ARRAY(a, struct json, v->n);
            for (size_t i = 0; i < v->n; i++)
                items[i] = copy_value(a, &v->items[i]);
            ret.items = items;
        }
        break;
    case JSON_OBJECT:
        if (v->n > 0) {
            struct json_member *m = ARENA_ARRAY(a, struct json_member, v->n);
            for (size_t i = 0; i < v->n; i++) {
                m[i].key = copy_value(a, &v->members[i].key);
                m[i].value = copy_value(a, &v->members[i].value);
            }
            ret.members = m;
        }
        break;
    }
    return ret;
}

const struct json *json_copy(struct arena *a, const struct json *v)
{
    return v ? new_value(a, copy_value(a, v)) : NULL;
}

/* Edits */

const struct json *json_with_str(struct arena *a, const struct json *object, struct str key, const struct json *value)
{
    size_t n = json_is(object, JSON_OBJECT) ? object->n : 0, out = 0;
    struct json_member *m = ARENA_ARRAY(a, struct json_member, n + 1);

    for (size_t i = 0; i < n; i++) {
        if (!key_is(&object->members[i], key)) {
            m[out++] = object->members[i];
        } else if (value) { /* takes the old one's place; repetitions go */
            m[out++] = (struct json_member){.key = object->members[i].key, .value = *value};
            value = NULL;
        }
    }
    if (value && !json_get_str(object, key))
        m[out++] = json_member_of(a, key, value);
    return new_value(a, (struct json){.members = m, .n = (uint32_t)out, .type = JSON_OBJECT});
}

const struct json *json_with(struct arena *a, const struct json *object, const char *key, const struct json *value)
{
    return json_with_str(a, object, str_of(key), value);
}

static const struct json *array_with(struct arena *a, const struct json *array, size_t at, const struct json *value)
{
    struct json *items = ARENA_ARRAY(a, struct json, array->n);
    size_t out = 0;

    for (size_t i = 0; i < array->n; i++)
        if (i != at)
            items[out++] = array->items[i];
        else if (value)
            items[out++] = *value;
    return new_value(a, (struct json){.items = items, .n = (uint32_t)out, .type = JSON_ARRAY});
}

struct str json_pointer_token(struct arena *a, struct str token)
{
    char *out;
    size_t n = 0;

    if (!str_has(token, '~'))
        return token;
    out = arena_alloc_bytes(a, token.n);
    for (size_t i = 0; i < token.n; i++) {
        char c = token.p[i];
        if (c == '~' && i + 1 < token.n && (token.p[i + 1] == '0' || token.p[i + 1] == '1'))
            c = token.p[++i] == '1' ? '/' : '~';
        out[n++] = c;
    }
    return str_n(out, n);
}

/* `path` absent means here. Returns `root` itself when nothing changes. */
static const struct json *with_at(struct arena *a, const struct json *root, struct str path, const struct json *value,
                                  unsigned depth)
{
    struct str token, rest;
    const struct json *old, *new;
    size_t index;

    if (!path.p)
        return value;
    if (depth == LIMIT_JSON_DEPTH)
        return root;
    str_cut(path, '/', &token, &rest);
    if (json_is(root, JSON_ARRAY)) {
        if (!read_index(token, &index) || index >= root->n)
            return root;
        old = &root->items[index];
        new = with_at(a, old, rest, value, depth + 1);
        return new == old ? root : array_with(a, root, index, new);
    }
    token = json_pointer_token(a, token);
    old = json_get_str(root, token);
    if (!old && !value)
        return root;
    new = with_at(a, old, rest, value, depth + 1);
    return new == old ? root : json_with_str(a, root, token, new);
}

const struct json *json_with_at(struct arena *a, const struct json *root, const char *path, const struct json *value)
{
    return *path ? with_at(a, root, str_of(path), value, 0) : value;
}

const struct json *json_append(struct arena *a, const struct json *array, const struct json *item)
{
    size_t n = json_is(array, JSON_ARRAY) ? array->n : 0;
    struct json *items = ARENA_ARRAY(a, struct json, n + 1);

    if (n > 0)
        memcpy(items, array->items, n * sizeof *items);
    if (item)
        items[n++] = *item;
    return new_value(a, (struct json){.items = items, .n = (uint32_t)n, .type = JSON_ARRAY});
}
