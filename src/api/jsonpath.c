#include "api/jsonpath.h"

#include "base/cleanup.h"

#define RESULTS_MAX 10000
#define STEPS_MAX 64
#define PATH_MAX_BYTES 4096

struct path {
    struct str rest;
    struct str all;
    struct arena *a;
    struct error *err;
    int steps;
};

static bool bad(struct path *p, const char *why)
{
    return error_set(p->err, ERROR_INVALID, "invalid path '" STR_FMT "': %s", STR_ARG(p->all), why);
}

static void add(struct path *p, struct jsonpath_results *r, const struct json *v)
{
    if (!v || r->n >= RESULTS_MAX)
        return;
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 4;
        const struct json **bigger = ARENA_ARRAY(p->a, const struct json *, cap);

        if (r->n)
            memcpy(bigger, r->p, r->n * sizeof *bigger);
        r->p = bigger;
        r->cap = cap;
    }
    r->p[r->n++] = v;
}

static void add_children(struct path *p, struct jsonpath_results *r, const struct json *v)
{
    json_each_item(it, v) {
        add(p, r, it);
    }
    json_each_member(m, v) {
        add(p, r, &m->value);
    }
}

static void descend(struct path *p, struct jsonpath_results *r, const struct json *v, struct str name)
{
    if (r->n >= RESULTS_MAX)
        return;
    add(p, r, json_get_str(v, name));
    json_each_item(it, v) {
        descend(p, r, it, name);
    }
    json_each_member(m, v) {
        descend(p, r, &m->value, name);
    }
}

static bool peek(struct path *p, char c) { return p->rest.n && p->rest.p[0] == c; }

static bool eat(struct path *p, char c)
{
    if (!peek(p, c))
        return false;
    p->rest = str_skip(p->rest, 1);
    return true;
}

static void skip_space(struct path *p)
{
    while (peek(p, ' ') || peek(p, '\t'))
        p->rest = str_skip(p->rest, 1);
}

/* A plain name; a backslash takes the next character as it is (kubernetes\.io). */
static bool name(struct path *p, struct str *ret)
{
    char *out = arena_alloc_bytes(p->a, p->rest.n + 1);
    size_t n = 0;

    while (p->rest.n && !strchr(".[]()|&= <>!@'\"", p->rest.p[0])) {
        if (p->rest.p[0] == '\\' && p->rest.n > 1)
            p->rest = str_skip(p->rest, 1);
        out[n++] = p->rest.p[0];
        p->rest = str_skip(p->rest, 1);
    }
    out[n] = '\0';
    *ret = str_n(out, n);
    return n > 0 || bad(p, "name expected");
}

static bool quoted(struct path *p, struct str *ret)
{
    char quote = p->rest.p[0];
    char *out = arena_alloc_bytes(p->a, p->rest.n);
    size_t n = 0;

    p->rest = str_skip(p->rest, 1);
    while (p->rest.n && p->rest.p[0] != quote) {
        if (p->rest.p[0] == '\\' && p->rest.n > 1)
            p->rest = str_skip(p->rest, 1);
        out[n++] = p->rest.p[0];
        p->rest = str_skip(p->rest, 1);
    }
    *ret = str_n(out, n);
    return eat(p, quote) || bad(p, "unterminated quoted string");
}

static bool number(struct path *p, int64_t *ret, bool *there)
{
    size_t n = peek(p, '-');
    struct str digits;

    while (n < p->rest.n && p->rest.p[n] >= '0' && p->rest.p[n] <= '9')
        n++;
    digits = str_take(p->rest, n);
    p->rest = str_skip(p->rest, n);
    *there = n > 0;
    if (n && !parse_i64(digits, INT32_MIN, INT32_MAX, ret, p->err))
        return false;
    return true;
}

/* Everything that "[…]" may be, applied to the nodes in `in`. */
static bool subscript(struct path *p, struct jsonpath_results *in, struct jsonpath_results *out);
static bool steps(struct path *p, struct jsonpath_results *nodes, const char *ends);

static void slice(struct path *p, const struct jsonpath_results *in, struct jsonpath_results *out, int64_t from,
                  int64_t to, bool has_to, int64_t by)
{
    for (size_t i = 0; i < in->n; i++) {
        int64_t n = (int64_t)json_len(in->p[i]);
        int64_t low = from < 0 ? from + n : from, high = !has_to ? n : to < 0 ? to + n : to;

        if (!json_is(in->p[i], JSON_ARRAY))
            continue;
        low = low < 0 ? 0 : low;
        high = high > n ? n : high;
        for (int64_t k = low; k < high; k += by)
            add(p, out, json_item(in->p[i], (size_t)k));
    }
}

static bool index_or_slice(struct path *p, struct jsonpath_results *in, struct jsonpath_results *out)
{
    int64_t from = 0, to = 0, by = 1;
    bool has_from, has_to = false, has_by = false;

    if (!number(p, &from, &has_from))
        return false;
    if (!eat(p, ':')) {
        if (!has_from)
            return bad(p, "unrecognized character in '['");
        for (size_t i = 0; i < in->n; i++) {
            int64_t n = (int64_t)json_len(in->p[i]), k = from < 0 ? from + n : from;

            if (json_is(in->p[i], JSON_ARRAY) && k >= 0)
                add(p, out, json_item(in->p[i], (size_t)k));
        }
        return true;
    }
    if (!number(p, &to, &has_to) || (eat(p, ':') && !number(p, &by, &has_by)))
        return false;
    if (by < 1)
        return bad(p, "step must be > 0");
    slice(p, in, out, has_from ? from : 0, to, has_to, by);
    return true;
}

struct operand {
    bool literal;
    struct str path;         /* after '@' */
    const struct json *value;
};

static bool operand(struct path *p, struct operand *ret)
{
    skip_space(p);
    *ret = (struct operand){0};
    if (eat(p, '@')) {
        const char *start = p->rest.p;
        int depth = 0;

        while (p->rest.n && (depth > 0 || !strchr("=!<>) &|", p->rest.p[0]))) {
            depth += p->rest.p[0] == '[';
            depth -= p->rest.p[0] == ']';
            if (depth < 0)
                break;
            p->rest = str_skip(p->rest, 1);
        }
        ret->path = str_n(start, (size_t)(p->rest.p - start));
    } else if (peek(p, '\'') || peek(p, '"')) {
        struct str text;

        if (!quoted(p, &text))
            return false;
        ret->literal = true;
        ret->value = json_new_str(p->a, text);
    } else {
        size_t n = 0;

        while (n < p->rest.n && !strchr("=!<>) ", p->rest.p[n]))
            n++;
        ret->literal = true;
        if (!json_parse(str_take(p->rest, n), p->a, &ret->value, p->err))
            return bad(p, "operand expected");
        p->rest = str_skip(p->rest, n);
    }
    skip_space(p);
    return true;
}

static bool resolve(struct path *p, const struct operand *o, const struct json *node, const struct json **ret)
{
    struct path inner = {.rest = o->path, .all = o->path, .a = p->a, .err = p->err, .steps = p->steps + 1};
    struct jsonpath_results r = {0};

    *ret = o->value;
    if (o->literal)
        return true;
    if (inner.steps > STEPS_MAX)
        return bad(p, "too deep");
    add(&inner, &r, node);
    if (!steps(&inner, &r, ""))
        return false;
    *ret = r.n ? r.p[0] : NULL;
    return true;
}

static bool holds(struct str op, const struct json *left, const struct json *right)
{
    double x, y;
    int order;

    if (op.n == 0)
        return left != NULL;
    if (!left || !right)
        return false;
    if (str_is(op, "=="))
        return json_eq(left, right);
    if (str_is(op, "!="))
        return !json_eq(left, right);
    if (json_double(left, &x) && json_double(right, &y))
        order = (x > y) - (x < y);
    else if (json_is(left, JSON_STRING) && json_is(right, JSON_STRING))
        order = str_cmp(json_str(left), json_str(right));
    else
        return false;
    return op.p[0] == '<' ? order < 0 || (op.n == 2 && order == 0) : order > 0 || (op.n == 2 && order == 0);
}

static bool filter(struct path *p, struct jsonpath_results *in, struct jsonpath_results *out)
{
    struct operand left, right = {.literal = true};
    size_t n = 0;
    struct str op;

    if (!operand(p, &left))
        return false;
    while (n < p->rest.n && n < 2 && strchr("=!<>", p->rest.p[n]))
        n++;
    op = str_take(p->rest, n);
    p->rest = str_skip(p->rest, n);
    if (n && (str_is(op, "=") || str_is(op, "!")))
        return bad(p, "unrecognized filter operator");
    if (n && !operand(p, &right))
        return false;
    if (!eat(p, ')'))
        return bad(p, "unterminated filter");
    for (size_t i = 0; i < in->n; i++) {
        struct jsonpath_results children = {0};

        add_children(p, &children, in->p[i]);
        for (size_t k = 0; k < children.n; k++) {
            const struct json *x, *y;

            if (!resolve(p, &left, children.p[k], &x) || !resolve(p, &right, children.p[k], &y))
                return false;
            if (holds(op, x, y))
                add(p, out, children.p[k]);
        }
    }
    if (!in->n) { /* the paths inside are checked even when there is nothing to filter */
        const struct json *x;

        return resolve(p, &left, json_null(), &x) && resolve(p, &right, json_null(), &x);
    }
    return true;
}

static bool subscript(struct path *p, struct jsonpath_results *in, struct jsonpath_results *out)
{
    skip_space(p);
    if (eat(p, '*')) {
        for (size_t i = 0; i < in->n; i++)
            add_children(p, out, in->p[i]);
    } else if (peek(p, '\'') || peek(p, '"')) {
        struct str key;

        if (!quoted(p, &key))
            return false;
        for (size_t i = 0; i < in->n; i++)
            add(p, out, json_get_str(in->p[i], key));
    } else if (eat(p, '?')) {
        if (!eat(p, '('))
            return bad(p, "'(' expected");
        if (!filter(p, in, out))
            return false;
    } else if (!index_or_slice(p, in, out)) {
        return false;
    }
    skip_space(p);
    return eat(p, ']') || bad(p, "unterminated array");
}

static bool member_step(struct path *p, struct jsonpath_results *in, struct jsonpath_results *out)
{
    bool deep = eat(p, '.');
    struct str key;

    if (!deep && eat(p, '*')) {
        for (size_t i = 0; i < in->n; i++)
            add_children(p, out, in->p[i]);
        return true;
    }
    if (!deep && peek(p, '[')) { /* ".['x']" is "['x']" */
        eat(p, '[');
        return subscript(p, in, out);
    }
    if (!name(p, &key))
        return false;
    for (size_t i = 0; i < in->n; i++) {
        if (deep)
            descend(p, out, in->p[i], key);
        else
            add(p, out, json_get_str(in->p[i], key));
    }
    return true;
}

static bool steps(struct path *p, struct jsonpath_results *nodes, const char *ends)
{
    while (p->rest.n && !strchr(ends, p->rest.p[0])) {
        struct jsonpath_results out = {0};

        if (++p->steps > STEPS_MAX)
            return bad(p, "too many steps");
        if (eat(p, '.')) {
            if (!p->rest.n) /* "." alone is the whole */
                return true;
            if (!member_step(p, nodes, &out))
                return false;
        } else if (eat(p, '[')) {
            if (!subscript(p, nodes, &out))
                return false;
        } else {
            return bad(p, "unexpected character");
        }
        *nodes = out;
    }
    return true;
}

bool jsonpath_eval(struct str path, const struct json *v, struct arena *a, struct jsonpath_results *ret,
                   struct error *err)
{
    struct path p = {.rest = str_trim(path), .all = path, .a = a, .err = err};
    struct jsonpath_results nodes = {0};
    bool braces;

    if (path.n > PATH_MAX_BYTES || (path.n && memchr(path.p, '\0', path.n)))
        return error_set(err, ERROR_INVALID, "invalid path: too long");
    braces = eat(&p, '{');
    eat(&p, '$');
    add(&p, &nodes, v);
    if (!steps(&p, &nodes, braces ? "}" : ""))
        return false;
    if (braces && (!eat(&p, '}') || p.rest.n))
        return bad(&p, "unclosed action");
    *ret = nodes;
    return true;
}

const struct json *jsonpath_first(const char *path, const struct json *v, struct arena *a)
{
    struct jsonpath_results r = {0};
    struct error err = {0};
    bool ok = jsonpath_eval(str_of(path), v, a, &r, &err);

    error_clear(&err);
    return ok && r.n ? r.p[0] : NULL;
}

bool jsonpath_check(struct str path, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    struct jsonpath_results r;

    return jsonpath_eval(path, NULL, &a, &r, err);
}
