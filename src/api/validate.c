/* Validation as kube-apiserver does it for CustomResourceDefinitions, with its words: every message was taken from
 * recordings. Objects of built-in groups (io.k8s.*) have rules of their own in code, so only types are looked at. */
#include "api/rules.h"

#include "api/quantity.h"
#include "api/regex.h"
#include "base/cleanup.h"

#define CAUSES_MAX 100
#define DEPTH_MAX 8
#define BRANCHES_MAX 200000 /* beyond it nothing passes */
#define VALUE_SHOWN_MAX 2048
#define MESSAGE_MAX (64 << 10)

struct validator {
    struct arena *a;
    struct schema_causes *causes;
    struct buf path;
    bool types_only, saw_cel;
    int depth;   /* of branches within branches */
    size_t *steps; /* branches tried for the whole object */
};

void schema_cause_add(struct schema_causes *c, struct arena *a, const char *reason, const char *field, const char *fmt,
                      ...)
{
    AUTO(buf_done) struct buf text = {.limit = MESSAGE_MAX};
    va_list ap;

    if (c->n >= CAUSES_MAX)
        return;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 4;
        struct schema_cause *p = ARENA_ARRAY(a, struct schema_cause, cap);

        if (c->n)
            memcpy(p, c->p, c->n * sizeof *p);
        c->p = p;
        c->cap = cap;
    }
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    c->p[c->n++] = (struct schema_cause){reason, arena_strdup(a, str_of(field)), arena_strdup(a, text.p ? buf_str(&text) : STR(""))};
}

static const char *here(struct validator *v) { return v->path.p && v->path.n ? v->path.p : ""; }

/* In messages of the OpenAPI validator the root has no name. */
#define CAUSE(v, reason, ...) schema_cause_add((v)->causes, (v)->a, reason, here(v), __VA_ARGS__)

static const char *canonical(struct validator *v, const struct json *value, size_t limit)
{
    AUTO(buf_done) struct buf b = {.limit = limit};

    json_write_sorted(&b, value);
    return arena_strdup(v->a, b.p ? buf_str(&b) : STR(""));
}

static const char *shown(struct validator *v, const struct json *value)
{
    return canonical(v, value, VALUE_SHOWN_MAX);
}

static const char *type_word(const struct json *value)
{
    int64_t n;

    switch (json_type(value)) {
    case JSON_NULL:
        return "null";
    case JSON_FALSE:
    case JSON_TRUE:
        return "boolean";
    case JSON_NUMBER:
        return json_i64(value, &n) ? "integer" : "number";
    case JSON_STRING:
        return "string";
    case JSON_ARRAY:
        return "array";
    case JSON_OBJECT:
        return "object";
    }
    return "null";
}

static const char *wanted_word(const struct schema_type *t)
{
    switch (t->kind) {
    case SCHEMA_OBJECT:
    case SCHEMA_MAP:
        return "object";
    case SCHEMA_LIST:
        return "array";
    case SCHEMA_STRING:
    case SCHEMA_BYTES:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_DURATION:
        return "string";
    case SCHEMA_BOOL:
        return "boolean";
    case SCHEMA_INT32:
    case SCHEMA_INT64:
        return "integer";
    case SCHEMA_NUMBER:
        return "number";
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
        return "integer,string";
    case SCHEMA_ANY:
        return "";
    }
    return "";
}

static void wrong_type(struct validator *v, const char *wanted, const char *got)
{
    CAUSE(v, "FieldValueTypeInvalid", "Invalid value: \"%s\": %s in body must be of type %s: \"%s\"", got, here(v),
          wanted, got);
}

static bool type_fits(const struct schema_type *t, const struct json *value)
{
    int64_t n;

    switch (t->kind) {
    case SCHEMA_OBJECT:
    case SCHEMA_MAP:
        return json_is(value, JSON_OBJECT);
    case SCHEMA_LIST:
        return json_is(value, JSON_ARRAY);
    case SCHEMA_STRING:
    case SCHEMA_BYTES:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_DURATION:
        return json_is(value, JSON_STRING);
    case SCHEMA_BOOL:
        return json_is(value, JSON_TRUE) || json_is(value, JSON_FALSE);
    case SCHEMA_INT32:
        return json_i64(value, &n) && n >= INT32_MIN && n <= INT32_MAX;
    case SCHEMA_INT64:
        return json_i64(value, &n);
    case SCHEMA_NUMBER:
        return json_is(value, JSON_NUMBER);
    case SCHEMA_QUANTITY:
        return json_is(value, JSON_STRING) || json_is(value, JSON_NUMBER);
    case SCHEMA_INT_OR_STRING:
        return json_is(value, JSON_STRING) || json_i64(value, &n);
    case SCHEMA_ANY:
        return true;
    }
    return true;
}

static size_t characters(struct str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

static bool digits(struct str s, size_t at, size_t n, int *ret)
{
    *ret = 0;
    if (at + n > s.n)
        return false;
    for (size_t i = at; i < at + n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        *ret = *ret * 10 + (s.p[i] - '0');
    }
    return true;
}

static bool is_date(struct str s)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d;

    return s.n >= 10 && digits(s, 0, 4, &y) && s.p[4] == '-' && digits(s, 5, 2, &m) && s.p[7] == '-'
           && digits(s, 8, 2, &d) && m >= 1 && m <= 12 && d >= 1 && d <= days[m - 1]
           && (m != 2 || d != 29 || (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)));
}

/* RFC 3339: 2006-01-02T15:04:05[.999]Z or ±hh:mm */
static bool is_date_time(struct str s)
{
    int h, m, sec;
    size_t at = 19;

    if (s.n < 20 || !is_date(s) || (s.p[10] != 'T' && s.p[10] != 't') || !digits(s, 11, 2, &h) || s.p[13] != ':'
        || !digits(s, 14, 2, &m) || s.p[16] != ':' || !digits(s, 17, 2, &sec) || h > 23 || m > 59 || sec > 60)
        return false;
    if (s.p[at] == '.') {
        size_t start = ++at;

        while (at < s.n && s.p[at] >= '0' && s.p[at] <= '9')
            at++;
        if (at == start)
            return false;
    }
    if (at + 1 == s.n)
        return s.p[at] == 'Z' || s.p[at] == 'z';
    return at + 6 == s.n && (s.p[at] == '+' || s.p[at] == '-') && digits(s, at + 1, 2, &h) && s.p[at + 3] == ':'
           && digits(s, at + 4, 2, &m) && h <= 23 && m <= 59;
}

static bool is_base64(struct str s)
{
    AUTO(buf_done) struct buf b = {.limit = LIMIT_OBJECT_BYTES};
    struct error err = {0};
    bool ok = buf_add_base64_decoded(&b, s, &err);

    error_clear(&err);
    return ok;
}

static bool is_uuid(struct str s)
{
    if (s.n != 36)
        return false;
    for (size_t i = 0; i < 36; i++) {
        char c = s.p[i];
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return false;
    }
    return true;
}

static bool format_fits(const char *format, struct str s)
{
    if (strcmp(format, "date-time") == 0)
        return is_date_time(s);
    if (strcmp(format, "date") == 0)
        return s.n == 10 && is_date(s);
    if (strcmp(format, "byte") == 0)
        return is_base64(s);
    if (strcmp(format, "uuid") == 0)
        return is_uuid(s);
    return true; /* as upstream: what is not known is not checked */
}

static void check_string(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    struct str s = json_str(value);
    size_t n = characters(s);

    if (r->has_max_length && n > (uint64_t)r->max_length)
        CAUSE(v, "FieldValueTooLong", "Too long: may not be more than %lld bytes", (long long)r->max_length);
    if (r->has_min_length && n < (uint64_t)r->min_length)
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should be at least %lld chars long",
              shown(v, value), here(v), (long long)r->min_length);
    if (r->pattern && !(r->regex ? regex_found(r->regex, s) : regex_match(r->pattern, s)))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should match '%s'", shown(v, value), here(v),
              r->pattern);
    if (r->format && !format_fits(r->format, s))
        CAUSE(v, "FieldValueTypeInvalid", "Invalid value: %s: %s in body must be of type %s: %s", shown(v, value),
              here(v), r->format, shown(v, value));
}

static void check_number(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    double n;

    if (!json_double(value, &n))
        return;
    if (r->has_maximum && (r->exclusive_maximum ? n >= r->maximum : n > r->maximum))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should be less than %s%.17g", shown(v, value),
              here(v), r->exclusive_maximum ? "" : "or equal to ", r->maximum);
    if (r->has_minimum && (r->exclusive_minimum ? n <= r->minimum : n < r->minimum))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should be greater than %s%.17g",
              shown(v, value), here(v), r->exclusive_minimum ? "" : "or equal to ", r->minimum);
    if (r->has_multiple_of && r->multiple_of > 0) {
        double times = n / r->multiple_of;

        if (times > 9e15 || times < -9e15 || times != (double)(int64_t)times)
            CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should be a multiple of %.17g",
                  shown(v, value), here(v), r->multiple_of);
    }
}

static void check_size(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    bool list = json_is(value, JSON_ARRAY);
    bool has_max = list ? r->has_max_items : r->has_max_properties;
    bool has_min = list ? r->has_min_items : r->has_min_properties;
    int64_t max = list ? r->max_items : r->max_properties, min = list ? r->min_items : r->min_properties;
    int64_t n = (int64_t)json_len(value);

    if (has_max && n > max)
        CAUSE(v, "FieldValueTooMany", "Too many: %lld: must have at most %lld items", (long long)n, (long long)max);
    if (has_min && n < min)
        CAUSE(v, "FieldValueInvalid", "Invalid value: %lld: %s in body should have at least %lld %s", (long long)n,
              here(v), (long long)min, list ? "items" : "properties");
}

static void not_supported(struct validator *v, const struct json *value, struct buf *allowed)
{
    CAUSE(v, "FieldValueNotSupported", "Unsupported value: %s: supported values: %s", shown(v, value),
          allowed->p ? allowed->p : "");
}

static void check_enums(struct validator *v, const char *const *enums, const struct json *value)
{
    AUTO(buf_done) struct buf allowed = {.limit = 8192};

    for (size_t i = 0; enums[i]; i++) {
        if (json_is(value, JSON_STRING) && str_is(json_str(value), enums[i]))
            return;
        if (i)
            buf_adds(&allowed, ", ");
        json_write_string(&allowed, str_of(enums[i]));
    }
    not_supported(v, value, &allowed);
}

static void check_enum_values(struct validator *v, const struct json *enums, const struct json *value)
{
    AUTO(buf_done) struct buf allowed = {.limit = 8192};

    json_each_item(it, enums) {
        if (json_eq(it, value))
            return;
        if (allowed.n)
            buf_adds(&allowed, ", ");
        json_write(&allowed, it);
    }
    not_supported(v, value, &allowed);
}

static void enter(struct validator *v, struct str key, size_t *ret_before)
{
    *ret_before = v->path.n;
    if (v->path.n)
        buf_addc(&v->path, '.');
    buf_addstr(&v->path, key);
}

static void leave(struct validator *v, size_t before)
{
    if (v->path.p) {
        v->path.n = before;
        v->path.p[before] = '\0';
    }
}

static void check(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                  const struct json *value);

static void check_required(struct validator *v, struct str name)
{
    size_t before;

    enter(v, name, &before);
    CAUSE(v, "FieldValueRequired", "Required value");
    leave(v, before);
}

static void check_object(struct validator *v, const struct schema_type *t, const struct json *value)
{
    bool root = v->path.n == 0;

    json_each_member(m, value) {
        const struct schema_field *f = schema_field(t, json_str(&m->key));
        size_t before;

        /* metadata is decoded by its own rules before this */
        if (!f || (root && strcmp(f->name, "metadata") == 0))
            continue;
        enter(v, json_str(&m->key), &before);
        if (f->flags & SCHEMA_PRESERVE_UNKNOWN && f->type->kind == SCHEMA_OBJECT) {
            if (!json_is(&m->value, JSON_OBJECT) && !json_is(&m->value, JSON_NULL))
                wrong_type(v, "object", type_word(&m->value));
        } else {
            check(v, f->type, f, &m->value);
        }
        leave(v, before);
    }
    if (v->types_only)
        return;
    for (size_t i = 0; i < t->n_fields; i++)
        if (t->fields[i].flags & SCHEMA_REQUIRED && !json_get(value, t->fields[i].name))
            check_required(v, str_of(t->fields[i].name));
    for (size_t i = 0; t->rules && t->rules->required && t->rules->required[i]; i++)
        if (!json_get(value, t->rules->required[i]))
            check_required(v, str_of(t->rules->required[i]));
}

static const struct json *keys_of(struct validator *v, const struct schema_field *f, const struct json *item)
{
    const struct json *keys = json_object(v->a, NULL);

    for (size_t i = 0; f->list_keys && f->list_keys[i]; i++) {
        const struct json *value = json_get(item, f->list_keys[i]);

        if (value)
            keys = json_with(v->a, keys, f->list_keys[i], value);
    }
    return keys;
}

/* Keys are compared through their canonical texts in a sorted table, so that a long list costs n log n. */
struct keyed {
    const char *text;
    size_t i;
};

static int by_text(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int order = strcmp(x->text, y->text);

    return order ? order : (x->i > y->i) - (x->i < y->i);
}

static int by_index(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;

    return (x->i > y->i) - (x->i < y->i);
}

static void check_duplicates(struct validator *v, const struct schema_field *f, const struct json *value)
{
    struct keyed *k;
    size_t n = json_len(value), dups = 0;

    if (n < 2)
        return;
    k = ARENA_ARRAY(v->a, struct keyed, n);
    for (size_t i = 0; i < n; i++) {
        const struct json *item = json_item(value, i);

        k[i] = (struct keyed){canonical(v, f->list == SCHEMA_LIST_MAP ? keys_of(v, f, item) : item, LIMIT_BUF_DEFAULT), i};
    }
    qsort(k, n, sizeof *k, by_text);
    for (size_t i = 1; i < n; i++)
        if (strcmp(k[i].text, k[i - 1].text) == 0)
            k[dups++] = k[i]; /* writes behind what the comparison still needs: same text */
    qsort(k, dups, sizeof *k, by_index);
    for (size_t i = 0; i < dups; i++) {
        size_t before = v->path.n;

        buf_addf(&v->path, "[%zu]", k[i].i);
        CAUSE(v, "FieldValueDuplicate", "Duplicate value: %s", k[i].text);
        leave(v, before);
    }
}

static void check_list(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                       const struct json *value)
{
    for (size_t i = 0; i < json_len(value) && v->causes->n < CAUSES_MAX; i++) {
        const struct json *item = json_item(value, i);
        size_t before = v->path.n;

        buf_addf(&v->path, "[%zu]", i);
        check(v, t->item, NULL, item);
        if (f && f->enums && !v->types_only)
            check_enums(v, f->enums, item);
        leave(v, before);
    }
    if (f && f->list != SCHEMA_LIST_ATOMIC && !v->types_only)
        check_duplicates(v, f, value);
}

static void check_map(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                      const struct json *value)
{
    json_each_member(m, value) {
        size_t before;

        enter(v, json_str(&m->key), &before);
        check(v, t->item, NULL, &m->value);
        if (f && f->enums && !v->types_only)
            check_enums(v, f->enums, &m->value);
        leave(v, before);
    }
}

/* Whether a value holds against a branch; its causes are nobody's business. */
static bool passes(struct validator *v, const struct schema_type *t, const struct json *value)
{
    struct schema_causes causes = {0};
    struct validator inner = {.a = v->a, .causes = &causes, .path = {.limit = 64 << 10}, .depth = v->depth + 1, .steps = v->steps};

    if (inner.depth > DEPTH_MAX || ++*v->steps > BRANCHES_MAX)
        return false;
    buf_addc(&inner.path, '_'); /* never the root, whose metadata is left out */
    check(&inner, t, NULL, value);
    buf_done(&inner.path);
    return causes.n == 0;
}

static size_t passing(struct validator *v, const struct schema_type *const *list, const struct json *value,
                      size_t *ret_of)
{
    size_t n = 0, i = 0;

    for (; list[i]; i++)
        n += passes(v, list[i], value);
    *ret_of = i;
    return n;
}

static void broken(struct validator *v, const struct json *value, const char *what)
{
    CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body must %s", shown(v, value), v->path.n ? here(v) : "\"\"",
          what);
}

static void check_branches(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    size_t of;

    if (r->all_of && passing(v, r->all_of, value, &of) != of)
        broken(v, value, "validate all the schemas (allOf)");
    if (r->any_of && passing(v, r->any_of, value, &of) == 0)
        broken(v, value, "validate at least one schema (anyOf)");
    if (r->one_of && passing(v, r->one_of, value, &of) != 1)
        broken(v, value, "validate one and only one schema (oneOf)");
    if (r->not_ && passes(v, r->not_, value))
        broken(v, value, "not validate the schema (not)");
}

static void check_rules(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    v->saw_cel |= r->cel != NULL;
    check_branches(v, r, value);
    switch (json_type(value)) {
    case JSON_STRING:
        check_string(v, r, value);
        break;
    case JSON_NUMBER:
        check_number(v, r, value);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        check_size(v, r, value);
        break;
    case JSON_NULL:
    case JSON_FALSE:
    case JSON_TRUE:
        break;
    }
    if (r->enums)
        check_enum_values(v, r->enums, value);
}

static void check_quantity(struct validator *v, const struct json *value)
{
    struct error err = {0};
    struct quantity q;

    if (!quantity_parse(str_n(value->text, value->n), &q, &err))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s", shown(v, value), error_text(&err));
    error_clear(&err);
}

static void check(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                  const struct json *value)
{
    if (v->causes->n >= CAUSES_MAX)
        return;
    if (json_is(value, JSON_NULL)) {
        bool may = v->types_only || t->kind == SCHEMA_ANY || t->kind == SCHEMA_TIME || t->flags & SCHEMA_NULLABLE
                   || (f && f->flags & SCHEMA_NULLABLE);

        if (!may)
            wrong_type(v, wanted_word(t), "null");
        return;
    }
    if (!type_fits(t, value)) {
        if (t->flags & SCHEMA_UNTYPED)
            return;
        wrong_type(v, wanted_word(t), type_word(value));
        return;
    }
    if (t->rules && !v->types_only)
        check_rules(v, t->rules, value);
    if (t->kind == SCHEMA_OBJECT)
        check_object(v, t, value);
    else if (t->kind == SCHEMA_LIST)
        check_list(v, t, f, value);
    else if (t->kind == SCHEMA_MAP)
        check_map(v, t, f, value);
    else if (t->kind == SCHEMA_QUANTITY && !v->types_only)
        check_quantity(v, value);
    else if (f && f->enums && !v->types_only)
        check_enums(v, f->enums, value);
    else if (t->kind == SCHEMA_TIME && !v->types_only && !is_date_time(json_str(value)))
        wrong_type(v, "date-time", json_is(value, JSON_STRING) ? "string" : type_word(value));
}

void schema_validate(const struct schema_type *t, const struct json *v, struct arena *a, struct schema_causes *ret)
{
    size_t before = ret->n, steps = 0;
    struct validator val = {.a = a, .causes = ret, .path = {.limit = 64 << 10}, .steps = &steps};

    val.types_only = schema_is_core(t);
    check(&val, t, NULL, v);
    if (val.saw_cel && ret->n > before)
        schema_cause_add(ret, a, "FieldValueInvalid", "<nil>",
                         "Invalid value: null: some validation rules were not checked because the object was "
                         "invalid; correct the existing errors to complete validation");
    buf_done(&val.path);
}
