#include "api/labels.h"

#include "api/names.h"
#include "base/cleanup.h"
#include "base/vec.h"

#define REQUIREMENTS_MAX 1000

enum token { END, WORD, COMMA, OPEN, CLOSE, NOT, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS };

struct lexer {
    struct str rest;
    enum token token; /* the one ahead */
    struct str text;
    struct arena *a;
    struct error *err;
};

static bool space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
static bool special(char c) { return c && strchr("=!(),><", c); }

static void next(struct lexer *l)
{
    static const struct {
        char c;
        enum token token;
    } single[] = {{',', COMMA}, {'(', OPEN}, {')', CLOSE}, {'!', NOT}, {'=', EQUALS}, {'>', GREATER}, {'<', LESS}};
    size_t n = 0;

    while (l->rest.n && space(l->rest.p[0]))
        l->rest = str_skip(l->rest, 1);
    if (!l->rest.n) {
        l->token = END;
        l->text = STR("");
        return;
    }
    if (str_starts(l->rest, STR("!=")) || str_starts(l->rest, STR("=="))) {
        l->token = l->rest.p[0] == '!' ? NOT_EQUALS : DOUBLE_EQUALS;
        n = 2;
    } else if (special(l->rest.p[0])) {
        for (size_t i = 0; i < ARRAY_SIZE(single); i++)
            if (single[i].c == l->rest.p[0])
                l->token = single[i].token;
        n = 1;
    } else {
        l->token = WORD;
        while (n < l->rest.n && !space(l->rest.p[n]) && !special(l->rest.p[n]))
            n++;
    }
    l->text = str_take(l->rest, n);
    l->rest = str_skip(l->rest, n);
}

static bool expected(struct lexer *l, const char *what)
{
    return error_set(l->err, ERROR_BAD_REQUEST, "unable to parse requirement: found '" STR_FMT "', expected: %s",
                     STR_ARG(l->text), what);
}

static bool invalid(struct lexer *l, struct str value, const char *why)
{
    AUTO(buf_done) struct buf shown = {.limit = 4096};

    json_write_string(&shown, value);
    return error_set(l->err, ERROR_BAD_REQUEST, "unable to parse requirement: <nil>: Invalid value: %s: %s",
                     shown.p ? shown.p : "", why);
}

struct texts {
    struct str *p;
    size_t n, cap;
};
struct requirements {
    struct label_requirement *p;
    size_t n, cap;
};

static void texts_done(struct texts *t) { vec_done(t); }
static void requirements_done(struct requirements *r) { vec_done(r); }

static bool check_value(struct lexer *l, struct str value)
{
    const char *why = name_label_value(value);

    return !why || invalid(l, value, why);
}

static bool read_set(struct lexer *l, struct texts *ret)
{
    if (l->token != OPEN)
        return expected(l, "'('");
    next(l);
    for (;;) { /* an empty place is the empty value: "in (,a)" */
        struct str value = STR("");

        if (l->token == WORD) {
            value = l->text;
            next(l);
        } else if (l->token != COMMA && l->token != CLOSE) {
            return expected(l, "',', ')' or identifier");
        }
        if (!check_value(l, value))
            return false;
        vec_push(ret, arena_str(l->a, value));
        if (l->token == CLOSE) {
            next(l);
            return true;
        }
        if (l->token != COMMA)
            return expected(l, "',' or ')'");
        next(l);
    }
}

static bool read_one(struct lexer *l, enum label_op op, struct texts *ret)
{
    struct str value = STR("");

    if (l->token == WORD) {
        value = l->text;
        next(l);
    } else if (l->token != END && l->token != COMMA) {
        return expected(l, "identifier");
    }
    if (op == LABEL_GREATER || op == LABEL_LESS) {
        struct error err = {0};
        int64_t n;
        bool ok = parse_i64(value, INT64_MIN, INT64_MAX, &n, &err);

        error_clear(&err);
        if (!ok)
            return invalid(l, value, "for 'Gt', 'Lt' operators, the value must be an integer");
    }
    if (!check_value(l, value))
        return false;
    vec_push(ret, arena_str(l->a, value));
    return true;
}

static bool read_operator(struct lexer *l, enum label_op *ret)
{
    switch (l->token) {
    case EQUALS:
    case DOUBLE_EQUALS:
        *ret = LABEL_IN;
        return true;
    case NOT_EQUALS:
        *ret = LABEL_NOT_IN;
        return true;
    case GREATER:
        *ret = LABEL_GREATER;
        return true;
    case LESS:
        *ret = LABEL_LESS;
        return true;
    case WORD:
        if (str_is(l->text, "in") || str_is(l->text, "notin")) {
            *ret = str_is(l->text, "in") ? LABEL_IN : LABEL_NOT_IN;
            return true;
        }
        return expected(l, "in, notin, =, ==, !=, gt, lt");
    case END:
    case COMMA:
    case OPEN:
    case CLOSE:
    case NOT:
        return expected(l, "in, notin, =, ==, !=, gt, lt");
    }
    return false;
}

static bool read_requirement(struct lexer *l, struct label_requirement *ret)
{
    AUTO(texts_done) struct texts values = {0};
    struct label_requirement r = {.op = LABEL_EXISTS};
    const char *why;

    if (l->token == NOT) {
        r.op = LABEL_ABSENT;
        next(l);
    }
    if (l->token != WORD)
        return expected(l, r.op == LABEL_ABSENT ? "identifier" : "!, identifier, or ','");
    r.key = arena_str(l->a, l->text);
    why = name_qualified(r.key, l->a);
    if (why)
        return invalid(l, r.key, why);
    next(l);
    if (r.op != LABEL_ABSENT && l->token != END && l->token != COMMA) {
        bool set = l->token == WORD;

        if (!read_operator(l, &r.op))
            return false;
        next(l);
        if (set ? !read_set(l, &values) : !read_one(l, r.op, &values))
            return false;
        r.n = values.n;
        r.values = ARENA_ARRAY(l->a, struct str, values.n);
        memcpy((void *)r.values, values.p, values.n * sizeof *values.p);
    }
    *ret = r;
    return true;
}

bool label_selector_parse(struct str text, struct arena *a, struct label_selector *ret, struct error *err)
{
    AUTO(requirements_done) struct requirements all = {0};
    struct lexer l = {.rest = text, .a = a, .err = err};
    struct label_requirement *p;

    next(&l);
    if (l.token == END) {
        *ret = (struct label_selector){0};
        return true;
    }
    for (;;) {
        struct label_requirement r;

        if (!read_requirement(&l, &r))
            return false;
        if (all.n >= REQUIREMENTS_MAX)
            return error_set(err, ERROR_BAD_REQUEST, "unable to parse requirement: too many of them");
        vec_push(&all, r);
        if (l.token == END)
            break;
        if (l.token != COMMA)
            return expected(&l, "',' or 'end of string'");
        next(&l);
        if (l.token != WORD && l.token != NOT)
            return expected(&l, "identifier after ','");
    }
    p = ARENA_ARRAY(a, struct label_requirement, all.n);
    memcpy(p, all.p, all.n * sizeof *p);
    *ret = (struct label_selector){p, all.n, false};
    return true;
}

static bool from_expression(const struct json *v, struct arena *a, struct label_requirement *ret, struct error *err)
{
    static const struct {
        const char *name;
        enum label_op op;
    } ops[] = {{"In", LABEL_IN}, {"NotIn", LABEL_NOT_IN}, {"Exists", LABEL_EXISTS}, {"DoesNotExist", LABEL_ABSENT},
               {"Gt", LABEL_GREATER}, {"Lt", LABEL_LESS}};
    const struct json *values = json_get(v, "values");
    struct str op = json_str(json_get(v, "operator"));
    struct str *p = ARENA_ARRAY(a, struct str, json_len(values));

    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        bool needs = ops[i].op != LABEL_EXISTS && ops[i].op != LABEL_ABSENT;

        if (!str_is(op, ops[i].name))
            continue;
        if (needs != (json_len(values) > 0))
            return error_set(err, ERROR_INVALID, needs ? "values: Invalid value: []: for 'in', 'notin' operators, "
                                                         "values set can't be empty"
                                                       : "values: Invalid value: values set must be empty for exists "
                                                         "and does not exist");
        for (size_t k = 0; k < json_len(values); k++)
            p[k] = json_str(json_item(values, k));
        *ret = (struct label_requirement){json_str(json_get(v, "key")), ops[i].op, p, json_len(values)};
        return true;
    }
    return error_set(err, ERROR_INVALID, "\"" STR_FMT "\" is not a valid label selector operator", STR_ARG(op));
}

bool label_selector_from(const struct json *v, struct arena *a, struct label_selector *ret, struct error *err)
{
    const struct json *labels = json_get(v, "matchLabels"), *expressions = json_get(v, "matchExpressions");
    struct label_requirement *p;
    size_t n = 0;

    if (json_type(v) == JSON_NULL) {
        *ret = (struct label_selector){.nothing = true};
        return true;
    }
    p = ARENA_ARRAY(a, struct label_requirement, json_len(labels) + json_len(expressions));
    json_each_member(m, labels) {
        struct str *value = ARENA_NEW(a, struct str);

        *value = json_str(&m->value);
        p[n++] = (struct label_requirement){json_str(&m->key), LABEL_IN, value, 1};
    }
    json_each_item(it, expressions) {
        if (!from_expression(it, a, &p[n], err))
            return false;
        n++;
    }
    *ret = (struct label_selector){p, n, false};
    return true;
}

static bool in_values(const struct label_requirement *r, struct str value)
{
    for (size_t i = 0; i < r->n; i++)
        if (str_eq(r->values[i], value))
            return true;
    return false;
}

static bool compare(const struct label_requirement *r, struct str value)
{
    struct error err = {0};
    int64_t have, want;
    bool ok = r->n == 1 && parse_i64(value, INT64_MIN, INT64_MAX, &have, &err)
              && parse_i64(r->values[0], INT64_MIN, INT64_MAX, &want, &err);

    error_clear(&err);
    return ok && (r->op == LABEL_GREATER ? have > want : have < want);
}

bool label_requirement_match(const struct label_requirement *r, struct str value)
{
    switch (r->op) {
    case LABEL_IN:
        return value.p && in_values(r, value);
    case LABEL_NOT_IN:
        return !value.p || !in_values(r, value);
    case LABEL_EXISTS:
        return value.p;
    case LABEL_ABSENT:
        return !value.p;
    case LABEL_GREATER:
    case LABEL_LESS:
        return value.p && compare(r, value);
    }
    return false;
}

bool label_selector_match(const struct label_selector *s, const struct json *labels)
{
    if (s->nothing)
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!label_requirement_match(&s->p[i], json_str(json_get_str(labels, s->p[i].key))))
            return false;
    return true;
}

/* Backslash makes ',', '=' and itself plain. */
static bool unescape(struct str s, struct arena *a, struct str *ret)
{
    char *p = arena_alloc_bytes(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\') {
            if (++i == s.n || !memchr("\\,=", s.p[i], 3))
                return false;
        } else if (s.p[i] == ',' || s.p[i] == '=') {
            return false;
        }
        p[n++] = s.p[i];
    }
    p[n] = '\0';
    *ret = str_n(p, n);
    return true;
}

static bool field_term_parse(struct str text, struct arena *a, struct field_term *ret)
{
    for (size_t i = 0; i < text.n; i++) {
        size_t width = 0;

        if (text.p[i] == '\\') {
            i++;
            continue;
        }
        if (text.p[i] == '!' && i + 1 < text.n && text.p[i + 1] == '=')
            width = 2;
        else if (text.p[i] == '=')
            width = i + 1 < text.n && text.p[i + 1] == '=' ? 2 : 1;
        if (!width)
            continue;
        ret->path = arena_str(a, str_take(text, i));
        ret->negative = text.p[i] == '!';
        return unescape(str_skip(text, i + width), a, &ret->value);
    }
    return false;
}

bool field_selector_parse(struct str text, struct arena *a, struct field_selector *ret, struct error *err)
{
    struct field_term *terms = NULL;
    size_t n = 0, cap = 0;

    for (size_t start = 0, i = 0; i <= text.n; i++) {
        struct str term;

        if (i < text.n && text.p[i] == '\\') {
            i++;
            continue;
        }
        if (i < text.n && text.p[i] != ',')
            continue;
        term = str_n(text.p + start, (i < text.n ? i : text.n) - start);
        start = i + 1;
        if (term.n == 0)
            continue;
        if (n == cap) {
            struct field_term *bigger = ARENA_ARRAY(a, struct field_term, cap ? cap * 2 : 4);

            if (n)
                memcpy(bigger, terms, n * sizeof *bigger);
            terms = bigger;
            cap = cap ? cap * 2 : 4;
        }
        if (n >= REQUIREMENTS_MAX || !field_term_parse(term, a, &terms[n]))
            return error_set(err, ERROR_BAD_REQUEST,
                             "invalid selector: '" STR_FMT "'; can't understand '" STR_FMT "'", STR_ARG(text),
                             STR_ARG(term));
        n++;
    }
    *ret = (struct field_selector){terms, n};
    return true;
}

struct str field_text(const struct json *object, struct str path)
{
    struct str rest = path, part;
    const struct json *v = object;

    while (str_next(&rest, '.', &part))
        v = json_get_str(v, part);
    switch (json_type(v)) {
    case JSON_STRING:
        return v->n ? json_str(v) : STR("");
    case JSON_NUMBER:
        return str_n(v->text, v->n);
    case JSON_TRUE:
        return STR("true");
    case JSON_FALSE:
        return STR("false");
    case JSON_NULL:
    case JSON_ARRAY:
    case JSON_OBJECT:
        return STR("");
    }
    return STR("");
}

bool field_selector_match(const struct field_selector *s, const struct json *object)
{
    for (size_t i = 0; i < s->n; i++)
        if (str_eq(field_text(object, s->p[i].path), s->p[i].value) == s->p[i].negative)
            return false;
    return true;
}

struct str field_selector_value(const struct field_selector *s, const char *path)
{
    for (size_t i = 0; i < s->n; i++)
        if (!s->p[i].negative && str_is(s->p[i].path, path))
            return s->p[i].value;
    return STR_NONE;
}
