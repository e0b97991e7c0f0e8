/* Validation as kube-apiserver does it for CustomResourceDefinitions, with its words: every message was taken from
 * recordings. Objects of built-in groups (io.k8s.*) have rules of their own in code, so only types are looked at. */
#include "api/rules.h"

#include "api/formats.h"
#include "api/quantity.h"
#include "api/validate_parts.h"
#include "base/cleanup.h"

#define CAUSES_MAX 100
#define DEPTH_MAX 16
#define DEPTH_SEEN 300
#define BRANCHES_MAX 200000 /* beyond it nothing passes */
#define CORRELATED_MAX 2000 /* old lists longer than this are new ones */
#define VALUE_SHOWN_MAX 2048
#define MESSAGE_MAX (64 << 10)

struct validator {
    struct arena *a;
    struct schema_causes *causes;
    struct buf path;
    bool types_only, whole; /* whole: the root has metadata, which has rules of its own */
    bool quiet;             /* only count what is wrong */
    size_t counted;
    int depth;     /* of branches within branches */
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
    c->p[c->n++] = (struct schema_cause){reason, arena_strdup(a, str_of(field)),
                                         arena_strdup(a, text.p ? buf_str(&text) : STR(""))};
}

static const char *here(struct validator *v)
{
    return v->path.p && v->path.n ? v->path.p : "";
}

/* In messages of the OpenAPI validator the root has no name. */
#define CAUSE(v, reason, ...)                                                                                          \
    do {                                                                                                               \
        if ((v)->quiet)                                                                                                \
            (v)->counted++;                                                                                            \
        else                                                                                                           \
            schema_cause_add((v)->causes, (v)->a, reason, here(v), __VA_ARGS__);                                       \
    } while (0)

/* What upstream's validator finds wrong with a value as a whole has no field. */
#define general(v, ...)                                                                                                \
    do {                                                                                                               \
        if ((v)->quiet)                                                                                                \
            (v)->counted++;                                                                                            \
        else                                                                                                           \
            schema_cause_add((v)->causes, (v)->a, "FieldValueInvalid", "<nil>", "Invalid value: \"\": " __VA_ARGS__);  \
    } while (0)

static size_t broken_by(const struct validator *v)
{
    return v->quiet ? v->counted : v->causes->n;
}

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

/* Upstream's validator leaves a string at the first of these three. */
static void check_string(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    struct str s = json_str(value);
    size_t n = characters(s);

    if (r->has_max_length && n > (uint64_t)r->max_length)
        CAUSE(v, "FieldValueTooLong", "Too long: may not be more than %lld bytes", (long long)r->max_length);
    else if (r->has_min_length && n < (uint64_t)r->min_length)
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should be at least %lld chars long",
              shown(v, value), here(v), (long long)r->min_length);
    else if (r->pattern && !(r->regex ? regex_found(r->regex, s) : regex_match(r->pattern, s)))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should match '%s'", shown(v, value), here(v),
              r->pattern);
    if (r->format && !format_fits(str_of(r->format), s))
        CAUSE(v, "FieldValueTypeInvalid", "Invalid value: %s: %s in body must be of type %s: %s", shown(v, value),
              here(v), r->format, shown(v, value));
}

/* As Go prints a float64: the shortest text that reads back. */
static const char *go_number(struct validator *v, double n)
{
    char text[40];

    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, n);
        if (strtod(text, NULL) == n)
            break;
    }
    if (strchr(text, 'e') && n < 1e21 && n > -1e21 && (n >= 1e-4 || n <= -1e-4))
        snprintf(text, sizeof text, "%.0f", n);
    return arena_strdup(v->a, str_of(text));
}

static bool is_multiple(double n, double of)
{
    double times = of < 1 ? 1 / of * n : n / of;

    return times < 9e15 && times > -9e15 && times == (double)(int64_t)times;
}

static void check_number(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    int64_t whole;
    double n;

    if (!json_double(value, &n))
        return;
    if (r->format && json_i64(value, &whole) && strcmp(r->format, "int32") == 0
        && (whole < INT32_MIN || whole > INT32_MAX))
        general(v, "Checked value must be of type integer with format int32 in %s", here(v));
    if (r->has_multiple_of && r->multiple_of > 0 && !is_multiple(n, r->multiple_of))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should be a multiple of %s", shown(v, value),
              here(v), go_number(v, r->multiple_of));
    if (r->has_maximum && (r->exclusive_maximum ? n >= r->maximum : n > r->maximum))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should be less than %s%s", shown(v, value),
              here(v), r->exclusive_maximum ? "" : "or equal to ", go_number(v, r->maximum));
    if (r->has_minimum && (r->exclusive_minimum ? n <= r->minimum : n < r->minimum))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s in body should be greater than %s%s", shown(v, value),
              here(v), r->exclusive_minimum ? "" : "or equal to ", go_number(v, r->minimum));
}

static void check_size(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    bool list = json_is(value, JSON_ARRAY);
    bool has_max = list ? r->has_max_items : r->has_max_properties;
    bool has_min = list ? r->has_min_items : r->has_min_properties;
    int64_t max = list ? r->max_items : r->max_properties, min = list ? r->min_items : r->min_properties;
    int64_t n = (int64_t)json_len(value);

    if (has_min && n < min)
        CAUSE(v, "FieldValueInvalid", "Invalid value: %lld: %s in body should have at least %lld %s", (long long)n,
              here(v), (long long)min, list ? "items" : "properties");
    if (has_max && n > max)
        CAUSE(v, "FieldValueTooMany", "Too many: %lld: must have at most %lld items", (long long)n, (long long)max);
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
        if (json_is(it, JSON_STRING))
            json_write(&allowed, it);
        else
            json_write_string(&allowed, str_of(canonical(v, it, VALUE_SHOWN_MAX)));
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
                  const struct json *value, const struct json *old);

static void check_required(struct validator *v, struct str name)
{
    size_t before;

    enter(v, name, &before);
    CAUSE(v, "FieldValueRequired", "Required value");
    leave(v, before);
}

/* Children of an atomic map are one with it: an old one says nothing about a new one. */
static const struct json *old_member(const struct schema_type *t, const struct json *old, struct str key)
{
    return t->flags & SCHEMA_GRANULAR_ATOMIC ? NULL : json_get_str(old, key);
}

/* What a definition says of names, besides what holds for all objects. */
static void check_metadata(struct validator *v, const struct schema_type *t, const struct json *value)
{
    size_t before;

    if (!t->rules || !t->rules->metadata || !json_is(json_get(value, "metadata"), JSON_OBJECT))
        return;
    enter(v, STR("metadata"), &before);
    check(v, t->rules->metadata, NULL, json_get(value, "metadata"), NULL);
    leave(v, before);
}

static void check_object(struct validator *v, const struct schema_type *t, const struct json *value,
                         const struct json *old)
{
    bool root = v->whole && v->path.n == 0;

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
            check(v, f->type, f, &m->value, old_member(t, old, json_str(&m->key)));
        }
        leave(v, before);
    }
    if (v->types_only)
        return;
    if (root)
        check_metadata(v, t, value);
    for (size_t i = 0; i < t->n_fields; i++)
        if (t->fields[i].flags & SCHEMA_REQUIRED && !json_get(value, t->fields[i].name))
            check_required(v, str_of(t->fields[i].name));
    for (size_t i = 0; t->rules && t->rules->required && t->rules->required[i]; i++)
        if (!json_get(value, t->rules->required[i]))
            check_required(v, str_of(t->rules->required[i]));
}

static const char *const *keys_of_list(const struct schema_type *t, const struct schema_field *f)
{
    return f ? f->list_keys : t->rules ? t->rules->list_keys : NULL;
}

static uint8_t kind_of_list(const struct schema_type *t, const struct schema_field *f)
{
    return f ? f->list : t->rules ? t->rules->list : SCHEMA_LIST_ATOMIC;
}

/* The element of an old list that has the same keys, when the list has keys at all. */
static const struct json *old_item(const char *const *names, const struct json *old, const struct json *item)
{
    json_each_item(it, old) {
        bool same = true;

        for (size_t i = 0; names[i] && same; i++) {
            const struct json *was = json_get(it, names[i]), *is = json_get(item, names[i]);

            same = !was == !is && (!was || json_eq(was, is));
        }
        if (same)
            return it;
    }
    return NULL;
}

static void check_list(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                       const struct json *value, const struct json *old)
{
    const char *const *names = kind_of_list(t, f) == SCHEMA_LIST_MAP ? keys_of_list(t, f) : NULL;

    for (size_t i = 0; i < json_len(value) && broken_by(v) < CAUSES_MAX; i++) {
        const struct json *item = json_item(value, i), *was = NULL;
        size_t before = v->path.n;

        if (names && old && json_len(old) <= CORRELATED_MAX)
            was = old_item(names, old, item);
        buf_addf(&v->path, "[%zu]", i);
        check(v, t->item, NULL, item, was);
        if (f && f->enums && !v->types_only)
            check_enums(v, f->enums, item);
        leave(v, before);
    }
}

static void check_map(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                      const struct json *value, const struct json *old)
{
    json_each_member(m, value) {
        size_t before;

        enter(v, json_str(&m->key), &before);
        check(v, t->item, NULL, &m->value, old_member(t, old, json_str(&m->key)));
        if (f && f->enums && !v->types_only)
            check_enums(v, f->enums, &m->value);
        leave(v, before);
    }
    for (size_t i = 0; !v->types_only && t->rules && t->rules->required && t->rules->required[i]; i++)
        if (!json_get(value, t->rules->required[i]))
            check_required(v, str_of(t->rules->required[i]));
}

/* -- allOf, anyOf, oneOf, not --------------------------------------------------------------------- */

/* Whether a value holds against a branch: only counted, because most of what a branch finds is nobody's business. */
static bool passes(struct validator *v, const struct schema_type *t, const struct json *value)
{
    bool quiet = v->quiet;
    size_t counted = v->counted;
    bool ok;

    if (v->depth >= DEPTH_MAX || ++*v->steps > BRANCHES_MAX)
        return false;
    v->quiet = true;
    v->counted = 0;
    v->depth++;
    check(v, t, NULL, value, NULL);
    v->depth--;
    ok = v->counted == 0;
    v->quiet = quiet;
    v->counted = counted;
    return ok;
}

/* A branch that failed, once more for its causes. */
static void tell_branch(struct validator *v, const struct schema_type *t, const struct json *value)
{
    if (v->quiet || v->depth >= DEPTH_MAX || ++*v->steps > BRANCHES_MAX)
        return;
    v->depth++;
    check(v, t, NULL, value, NULL);
    v->depth--;
}

static size_t passing(struct validator *v, const struct schema_type *const *list, const struct json *value,
                      bool first_will_do)
{
    size_t n = 0;

    for (size_t i = 0; list[i] && !(n && first_will_do); i++)
        n += passes(v, list[i], value);
    return n;
}

static void check_all_of(struct validator *v, const struct schema_type *const *list, const struct json *value)
{
    size_t ok = 0, of = 0;

    for (; list[of]; of++) {
        if (passes(v, list[of], value))
            ok++;
        else
            tell_branch(v, list[of], value);
    }
    if (ok != of)
        general(v, "\"%s\" must validate all the schemas (allOf)%s", here(v), ok ? "" : ". None validated");
}

static void check_one_of(struct validator *v, const struct schema_type *const *list, const struct json *value)
{
    size_t n = passing(v, list, value, false);

    if (n == 1)
        return;
    if (n)
        general(v, "\"%s\" must validate one and only one schema (oneOf). Found %zu valid alternatives", here(v), n);
    else
        general(v, "\"%s\" must validate one and only one schema (oneOf). Found none valid", here(v));
    if (!n)
        tell_branch(v, list[0], value);
}

static void check_branches(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    if (r->any_of && passing(v, r->any_of, value, true) == 0) {
        general(v, "\"%s\" must validate at least one schema (anyOf)", here(v));
        tell_branch(v, r->any_of[0], value);
    }
    if (r->one_of)
        check_one_of(v, r->one_of, value);
    if (r->all_of)
        check_all_of(v, r->all_of, value);
    if (r->not_ && passes(v, r->not_, value))
        general(v, "\"%s\" must not validate the schema (not)", here(v));
}

static void check_rules(struct validator *v, const struct schema_rules *r, const struct json *value)
{
    check_branches(v, r, value);
    switch (json_type(value)) {
    case JSON_STRING:
        check_string(v, r, value);
        break;
    case JSON_NUMBER:
        check_number(v, r, value);
        break;
    case JSON_ARRAY: /* after the elements */
    case JSON_OBJECT:
    case JSON_NULL:
    case JSON_FALSE:
    case JSON_TRUE:
        break;
    }
}

static void check_quantity(struct validator *v, const struct json *value)
{
    struct error err = {0};
    struct quantity q;

    if (!quantity_parse(str_n(value->text, value->n), &q, &err))
        CAUSE(v, "FieldValueInvalid", "Invalid value: %s: %s", shown(v, value), error_text(&err));
    error_clear(&err);
}

static bool may_be_null(const struct validator *v, const struct schema_type *t, const struct schema_field *f)
{
    return v->types_only || t->kind == SCHEMA_TIME || t->flags & SCHEMA_NULLABLE || (f && f->flags & SCHEMA_NULLABLE)
           || t->kind == SCHEMA_ANY;
}

/* The parts of a value that has the right type. */
static void check_parts(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                        const struct json *value, const struct json *old)
{
    if (t->kind == SCHEMA_OBJECT) {
        if (t->rules && !v->types_only)
            check_size(v, t->rules, value);
        check_object(v, t, value, old);
    } else if (t->kind == SCHEMA_LIST) {
        check_list(v, t, f, value, old);
        if (t->rules && !v->types_only)
            check_size(v, t->rules, value);
    } else if (t->kind == SCHEMA_MAP) {
        if (t->rules && !v->types_only)
            check_size(v, t->rules, value);
        check_map(v, t, f, value, old);
    } else if ((json_is(value, JSON_ARRAY) || json_is(value, JSON_OBJECT)) && t->rules && !v->types_only) {
        check_size(v, t->rules, value);
    } else if (t->kind == SCHEMA_QUANTITY && !v->types_only) {
        check_quantity(v, value);
    } else if (f && f->enums && !v->types_only) {
        check_enums(v, f->enums, value);
    } else if (t->kind == SCHEMA_TIME && !v->types_only && !format_fits(STR("date-time"), json_str(value))) {
        wrong_type(v, "date-time", json_is(value, JSON_STRING) ? "string" : type_word(value));
    }
}

static void check_value(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                        const struct json *value, const struct json *old)
{
    bool null = json_is(value, JSON_NULL), fits = type_fits(t, value);

    if (null && !may_be_null(v, t, f))
        wrong_type(v, wanted_word(t), "null");
    if (!null && !fits && !(t->flags & SCHEMA_UNTYPED))
        wrong_type(v, wanted_word(t), type_word(value));
    /* As upstream, what is of another type is still held against the rest. */
    if (!null && t->rules && !v->types_only && (fits || t->flags & SCHEMA_FROM_CRD))
        check_rules(v, t->rules, value);
    if (!null && fits)
        check_parts(v, t, f, value, old);
    if (t->rules && t->rules->enums && !v->types_only)
        check_enum_values(v, t->rules->enums, value);
}

static void check(struct validator *v, const struct schema_type *t, const struct schema_field *f,
                  const struct json *value, const struct json *old)
{
    size_t before = v->causes->n;

    if (broken_by(v) >= CAUSES_MAX || (v->quiet && v->counted))
        return;
    check_value(v, t, f, value, old);
    /* What was so before may stay so. */
    if (old && !v->quiet && v->causes->n > before && json_eq(value, old))
        v->causes->n = before;
}

/* What keeps rules of a definition from being looked at: they could not be sure of what they see. */
static bool blocks_rules(const struct schema_causes *c, size_t from)
{
    static const char *const blocking[] = {"FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong",
                                           "FieldValueTooMany", "FieldValueTypeInvalid"};

    for (size_t i = from; i < c->n; i++)
        for (size_t k = 0; k < ARRAY_SIZE(blocking); k++)
            if (strcmp(c->p[i].reason, blocking[k]) == 0)
                return true;
    return false;
}

static bool has_rules(const struct schema_type *t, int depth)
{
    if (depth > DEPTH_SEEN || !(t->flags & SCHEMA_FROM_CRD))
        return false;
    if (t->rules && t->rules->cel)
        return true;
    for (size_t i = 0; t->kind == SCHEMA_OBJECT && i < t->n_fields; i++)
        if (has_rules(t->fields[i].type, depth + 1))
            return true;
    return (t->kind == SCHEMA_LIST || t->kind == SCHEMA_MAP) && has_rules(t->item, depth + 1);
}

static void validate(const struct schema_type *t, const struct json *old, const struct json *v, struct arena *a,
                     bool whole, struct schema_causes *ret)
{
    size_t before = ret->n, steps = 0;
    struct validator val = {.a = a, .causes = ret, .path = {.limit = 64 << 10}, .whole = whole, .steps = &steps};

    val.types_only = schema_is_core(t);
    check(&val, t, NULL, v, old);
    buf_done(&val.path);
    if (!val.types_only) {
        schema_check_embedded(t, v, a, ret);
        schema_check_lists(t, old, v, a, ret);
    }
    if (blocks_rules(ret, before) && has_rules(t, 0))
        schema_cause_add(ret, a, "FieldValueInvalid", "<nil>",
                         "Invalid value: null: some validation rules were not checked because the object was "
                         "invalid; correct the existing errors to complete validation");
}

void schema_validate(const struct schema_type *t, const struct json *v, struct arena *a, struct schema_causes *ret)
{
    validate(t, NULL, v, a, true, ret);
}

void schema_validate_update(const struct schema_type *t, const struct json *old, const struct json *v, struct arena *a,
                            struct schema_causes *ret)
{
    validate(t, old, v, a, true, ret);
}

void schema_validate_part(const struct schema_type *t, const struct json *v, struct arena *a, struct schema_causes *ret)
{
    validate(t, NULL, v, a, false, ret);
}
