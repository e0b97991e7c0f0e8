/* cel/parse - text to tree. The macros (has, all, map …) are known here and become nodes of their own.
 *
 * Messages and places are those of cel-go, whose parser is generated from a grammar: its words for the common
 * mistakes are kept, the rare ones are told as "mismatched input". */
#include "cel/lex.h"

#define EXPECTED                                                                                   \
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, "       \
    "STRING, BYTES, IDENTIFIER}"

#define TREE_DEPTH_MAX (4 * LIMIT_CEL_DEPTH) /* a + b + c … is as deep as it is long */

static struct cel_node *failed(struct cel_lexer *p)
{
    p->failed = true;
    return NULL;
}

#define FAIL(p, at, ...) (cel_issue(&(p)->issues, at, __VA_ARGS__), failed(p))

static bool is(const struct cel_lexer *p, const char *op)
{
    return (p->token == T_OP || p->token == T_IDENT) && str_is(p->text, op);
}

static bool take(struct cel_lexer *p, const char *op)
{
    if (!is(p, op))
        return false;
    cel_lex(p);
    return true;
}

static struct cel_node *unexpected(struct cel_lexer *p, const char *wanted)
{
    struct str shown = p->token == T_END ? STR("<EOF>") : p->text;

    if (p->failed)
        return NULL;
    return FAIL(p, p->start, "Syntax error: mismatched input '" STR_FMT "' expecting %s",
                STR_ARG(shown), wanted);
}

/* -- trees ---------------------------------------------------------------------------------------- */

static struct cel_node *expression(struct cel_lexer *p);

static struct cel_node *new_node(struct cel_lexer *p, enum cel_node_kind kind, size_t at)
{
    struct cel_node *n = ARENA_NEW(p->a, struct cel_node);

    n->kind = kind;
    n->at = (uint32_t)at;
    n->depth = 1;
    n->slot = n->slot2 = -1;
    return n;
}

static void deepen(struct cel_node *n, const struct cel_node *child)
{
    if (child && child->depth >= n->depth)
        n->depth = (uint16_t)(child->depth + 1);
}

static struct cel_node *checked(struct cel_lexer *p, struct cel_node *n)
{
    deepen(n, n->target);
    for (size_t i = 0; i < n->n_args; i++)
        deepen(n, n->args[i]);
    if (n->depth > TREE_DEPTH_MAX)
        return FAIL(p, n->at, "expression recursion limit exceeded: %d", TREE_DEPTH_MAX);
    return n;
}

static struct cel_node *call(struct cel_lexer *p, size_t at, struct str name, struct cel_node *a,
                             struct cel_node *b, struct cel_node *c)
{
    struct cel_node *n = new_node(p, NODE_CALL, at);

    n->name = name;
    n->args = ARENA_ARRAY(p->a, struct cel_node *, 3);
    n->args[0] = a;
    n->args[1] = b;
    n->args[2] = c;
    n->n_args = c ? 3 : b ? 2 : 1;
    return checked(p, n);
}

/* A list of nodes that grows in the arena. */
struct nodes {
    struct cel_node **p;
    bool *optional, any_optional;
    size_t n, cap;
};

static void nodes_add(struct cel_lexer *p, struct nodes *l, struct cel_node *n, bool optional)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        struct cel_node **q = ARENA_ARRAY(p->a, struct cel_node *, cap);
        bool *o = ARENA_ARRAY(p->a, bool, cap);

        if (l->n) {
            memcpy(q, l->p, l->n * sizeof *q);
            memcpy(o, l->optional, l->n * sizeof *o);
        }
        l->p = q;
        l->optional = o;
        l->cap = cap;
    }
    l->optional[l->n] = optional;
    l->any_optional |= optional;
    l->p[l->n++] = n;
}

/* Items up to `close`, which is taken; a comma may stand before it where `trailing`. */
static bool items(struct cel_lexer *p, const char *close, bool pairs, bool marks, bool trailing,
                  struct nodes *ret)
{
    while (!is(p, close) || ret->n == 0) {
        bool optional;
        struct cel_node *n;

        if (is(p, close))
            break;
        optional = marks && take(p, "?");
        n = expression(p);
        if (!n)
            return false;
        nodes_add(p, ret, n, optional);
        if (pairs) {
            if (!take(p, ":")) {
                unexpected(p, "':'");
                return false;
            }
            n = expression(p);
            if (!n)
                return false;
            nodes_add(p, ret, n, optional);
        }
        if (!take(p, ","))
            break;
        if (is(p, close) && !trailing) {
            unexpected(p, EXPECTED);
            return false;
        }
    }
    if (!take(p, close)) {
        unexpected(p, arena_printf(p->a, "{'%s', ','}", close));
        return false;
    }
    return true;
}

static const struct {
    const char *name;
    enum cel_macro macro;
    size_t min, max, body; /* arguments; how many behind the variables */
    bool two;
} macros[] = {
    {"all", MACRO_ALL, 2, 2, 1, false},
    {"exists", MACRO_EXISTS, 2, 2, 1, false},
    {"exists_one", MACRO_EXISTS_ONE, 2, 2, 1, false},
    {"map", MACRO_MAP, 2, 3, 2, false},
    {"filter", MACRO_FILTER, 2, 2, 1, false},
    {"all", MACRO_ALL, 3, 3, 1, true},
    {"exists", MACRO_EXISTS, 3, 3, 1, true},
    {"existsOne", MACRO_EXISTS_ONE, 3, 3, 1, true},
    {"exists_one", MACRO_EXISTS_ONE, 3, 3, 1, true},
    {"transformList", MACRO_TRANSFORM_LIST, 3, 4, 2, true},
    {"transformMap", MACRO_TRANSFORM_MAP, 3, 4, 2, true},
    {"transformMapEntry", MACRO_TRANSFORM_ENTRY, 3, 4, 2, true},
    {"optMap", MACRO_OPT_MAP, 2, 2, 1, false},
    {"optFlatMap", MACRO_OPT_FLAT_MAP, 2, 2, 1, false},
};

static bool simple_name(struct cel_lexer *p, struct cel_node *n, struct str *ret)
{
    if (n->kind != NODE_IDENT || n->name.p[0] == '.') {
        FAIL(p, n->at, "argument must be a simple name");
        return false;
    }
    if (str_is(n->name, "__result__")) {
        FAIL(p, n->at, "iteration variable overwrites accumulator variable");
        return false;
    }
    *ret = n->name;
    return true;
}

/* target.name(args): a macro, or NULL when it is none (or failed). */
static struct cel_node *macro(struct cel_lexer *p, size_t at, struct cel_node *target,
                              struct str name, struct nodes *args)
{
    for (size_t i = 0; i < ARRAY_SIZE(macros); i++) {
        struct cel_node *n;
        size_t vars = macros[i].two ? 2 : 1;

        if (!str_is(name, macros[i].name) || args->n < macros[i].min || args->n > macros[i].max)
            continue;
        n = new_node(p, NODE_MACRO, at);
        n->macro = macros[i].macro;
        n->name = name;
        n->target = target;
        if (!simple_name(p, args->p[0], &n->var)
            || (macros[i].two && !simple_name(p, args->p[1], &n->var2)))
            return NULL;
        if (macros[i].two && str_eq(n->var, n->var2))
            return FAIL(p, args->p[1]->at, "duplicate variable name: " STR_FMT, STR_ARG(n->var));
        n->args = args->p + vars;
        n->n_args = args->n - vars;
        return checked(p, n);
    }
    return NULL;
}

static struct cel_node *has_macro(struct cel_lexer *p, size_t at, struct nodes *args)
{
    struct cel_node *n = args->p[0];

    if (n->kind != NODE_SELECT || n->test || n->optional)
        return FAIL(p, n->at, "invalid argument to has() macro");
    n->test = true;
    n->at = (uint32_t)at;
    return n;
}

static struct cel_node *literal(struct cel_lexer *p, struct cel_value v)
{
    struct cel_node *n = new_node(p, NODE_LITERAL, p->start);

    n->value = v;
    cel_lex(p);
    return n;
}

static struct cel_node *int_literal(struct cel_lexer *p, bool negative)
{
    uint64_t u = p->literal.u;

    if (u > (uint64_t)INT64_MAX + negative)
        return FAIL(p, p->start, "invalid int literal");
    return literal(p, cel_v_int(negative ? (int64_t)(0 - u) : (int64_t)u));
}

static bool reserved(struct str s)
{
    static const char *const words[] = {
        "as",  "break", "const",   "continue",  "else",   "for", "function", "if",   "import",
        "let", "loop",  "package", "namespace", "return", "var", "void",     "while"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (str_is(s, words[i]))
            return true;
    return false;
}

static struct cel_node *name_or_call(struct cel_lexer *p, bool rooted)
{
    size_t at = p->start, paren;
    struct cel_node *n;
    struct nodes args = {0};
    struct str name = p->text;

    if (str_is(name, "true") || str_is(name, "false"))
        return literal(p, cel_v_bool(str_is(name, "true")));
    if (str_is(name, "null"))
        return literal(p, cel_v_null());
    if (str_is(name, "in"))
        return unexpected(p, EXPECTED);
    if (reserved(name))
        return FAIL(p, at, "reserved identifier: " STR_FMT, STR_ARG(name));
    cel_lex(p);
    paren = p->start;
    if (!take(p, "(")) {
        n = new_node(p, NODE_IDENT, at);
        n->name = name;
        (void)rooted;
        return n;
    }
    if (!items(p, ")", false, false, false, &args))
        return NULL;
    if (str_is(name, "has") && args.n == 1)
        return has_macro(p, paren, &args);
    n = new_node(p, NODE_CALL, paren);
    n->name = name;
    n->args = args.p;
    n->n_args = args.n;
    return checked(p, n);
}

static struct cel_node *collection(struct cel_lexer *p)
{
    bool map = is(p, "{");
    struct cel_node *n = new_node(p, map ? NODE_MAP : NODE_LIST, p->start);
    struct nodes l = {0};

    cel_lex(p);
    if (take(p, ",")) {
        if (!take(p, map ? "}" : "]"))
            return unexpected(p, map ? "'}'" : "']'");
        return n;
    }
    if (!items(p, map ? "}" : "]", map, true, true, &l))
        return NULL;
    n->args = l.p;
    n->n_args = l.n;
    n->optional_args = l.any_optional ? l.optional : NULL;
    return checked(p, n);
}

static struct cel_node *primary(struct cel_lexer *p)
{
    struct cel_node *n;

    if (p->failed)
        return NULL;
    switch (p->token) {
    case T_IDENT:
        return name_or_call(p, false);
    case T_INT:
        return int_literal(p, false);
    case T_UINT:
    case T_FLOAT:
    case T_STRING:
    case T_BYTES:
        return literal(p, p->literal);
    case T_OP:
        if (is(p, ".")) {
            cel_lex(p);
            return p->token == T_IDENT ? name_or_call(p, true) : unexpected(p, "IDENTIFIER");
        }
        if (is(p, "(")) {
            cel_lex(p);
            n = expression(p);
            if (!n)
                return NULL;
            return take(p, ")") ? n : unexpected(p, "')'");
        }
        if (is(p, "[") || is(p, "{"))
            return collection(p);
        return unexpected(p, EXPECTED);
    case T_END:
    case T_BAD:
        return unexpected(p, EXPECTED);
    }
    return NULL;
}

static struct cel_node *member_call(struct cel_lexer *p, struct cel_node *target, struct str name)
{
    size_t at = p->start;
    struct nodes args = {0};
    struct cel_node *n;

    cel_lex(p);
    if (!items(p, ")", false, false, false, &args))
        return NULL;
    n = macro(p, at, target, name, &args);
    if (n || p->failed)
        return n;
    n = new_node(p, NODE_CALL, at);
    n->member = true;
    n->name = name;
    n->target = target;
    n->args = args.p;
    n->n_args = args.n;
    return checked(p, n);
}

static struct cel_node *member(struct cel_lexer *p)
{
    struct cel_node *n = primary(p);

    while (n && !p->failed) {
        size_t at = p->start;

        if (take(p, ".")) {
            bool optional = take(p, "?");
            struct str name = p->text;
            struct cel_node *s;

            if (p->token != T_IDENT || str_is(name, "in") || str_is(name, "true")
                || str_is(name, "false") || str_is(name, "null"))
                return p->token == T_IDENT
                           ? FAIL(p, p->start,
                                  "Syntax error: no viable alternative at input '." STR_FMT "'",
                                  STR_ARG(name))
                           : unexpected(p, "IDENTIFIER");
            cel_lex(p);
            if (!optional && is(p, "(")) {
                n = member_call(p, n, name);
                continue;
            }
            s = new_node(p, NODE_SELECT, at);
            s->name = name;
            s->target = n;
            s->optional = optional;
            n = checked(p, s);
        } else if (take(p, "[")) {
            bool optional = take(p, "?");
            struct cel_node *index = expression(p);

            if (!index)
                return NULL;
            if (!take(p, "]"))
                return unexpected(p, "']'");
            n = call(p, at, optional ? STR("_[?_]") : STR("_[_]"), n, index, NULL);
        } else {
            break;
        }
    }
    return n;
}

static struct cel_node *unary(struct cel_lexer *p)
{
    size_t at = p->start, n = 0;
    bool minus = is(p, "-");
    const char *op = minus ? "-" : "!";
    struct cel_node *e;

    if (!minus && !is(p, "!"))
        return member(p);
    while (take(p, op)) {
        n++;
        /* the last minus belongs to a number, so that the least int can be written */
        if (minus && n == 1 && (p->token == T_INT || p->token == T_FLOAT) && p->start == at + 1) {
            if (p->token == T_INT) {
                size_t before = p->at;
                char c = before < p->in.n ? p->in.p[before] : '\0';

                if (c != '.' && c != '[') {
                    e = int_literal(p, true);
                    if (e)
                        e->at = (uint32_t)at;
                    return e;
                }
            } else {
                p->literal.d = -p->literal.d;
                e = literal(p, p->literal);
                e->at = (uint32_t)at;
                return e;
            }
        }
    }
    e = member(p);
    if (!e || n % 2 == 0)
        return e;
    return call(p, at, minus ? STR("-_") : STR("!_"), e, NULL, NULL);
}

static const struct {
    const char *op;
    int level; /* 0 binds least */
    struct str name;
} binaries[] = {
    {"||", 0, STR_INIT("_||_")}, {"&&", 1, STR_INIT("_&&_")}, {"<", 2, STR_INIT("_<_")},
    {"<=", 2, STR_INIT("_<=_")}, {">", 2, STR_INIT("_>_")},   {">=", 2, STR_INIT("_>=_")},
    {"==", 2, STR_INIT("_==_")}, {"!=", 2, STR_INIT("_!=_")}, {"in", 2, STR_INIT("@in")},
    {"+", 3, STR_INIT("_+_")},   {"-", 3, STR_INIT("_-_")},   {"*", 4, STR_INIT("_*_")},
    {"/", 4, STR_INIT("_/_")},   {"%", 4, STR_INIT("_%_")},
};

static struct cel_node *binary(struct cel_lexer *p, int level);

/* a || b || c …: balanced, so that a long chain is no deep tree. */
static struct cel_node *balanced(struct cel_lexer *p, struct cel_node **terms, const size_t *ops,
                                 struct str name, size_t n)
{
    size_t mid = n / 2;
    struct cel_node *left, *right;

    if (n == 1)
        return terms[0];
    left = balanced(p, terms, ops, name, mid);
    right = balanced(p, terms + mid, ops + mid, name, n - mid);
    return left && right ? call(p, ops[mid - 1], name, left, right, NULL) : NULL;
}

static struct cel_node *chain(struct cel_lexer *p, int level, const char *op, struct str name)
{
    struct nodes terms = {0};
    AUTO(buf_done) struct buf ops = {.limit = LIMIT_CEL_TEXT * sizeof(size_t)};
    struct cel_node *n = binary(p, level + 1);

    if (!n || !is(p, op))
        return n;
    nodes_add(p, &terms, n, false);
    for (;;) {
        size_t at = p->start;

        if (!take(p, op))
            break;
        buf_add(&ops, &at, sizeof at);
        n = binary(p, level + 1);
        if (!n)
            return NULL;
        nodes_add(p, &terms, n, false);
    }
    return balanced(p, terms.p, (const size_t *)(const void *)ops.p, name, terms.n);
}

static struct cel_node *binary(struct cel_lexer *p, int level)
{
    struct cel_node *n;

    if (level == 0)
        return chain(p, 0, "||", STR("_||_"));
    if (level == 1)
        return chain(p, 1, "&&", STR("_&&_"));
    n = level > 4 ? unary(p) : binary(p, level + 1);
    while (n && level <= 4 && !p->failed) {
        struct cel_node *right = NULL;
        size_t i, at = p->start;

        for (i = 0; i < ARRAY_SIZE(binaries); i++)
            if (binaries[i].level == level && is(p, binaries[i].op))
                break;
        if (i == ARRAY_SIZE(binaries))
            break;
        cel_lex(p);
        right = binary(p, level + 1);
        n = right ? call(p, at, binaries[i].name, n, right, NULL) : NULL;
    }
    return n;
}

static struct cel_node *expression(struct cel_lexer *p)
{
    struct cel_node *n, *yes, *no;
    size_t at;

    if (p->failed)
        return NULL;
    if (++p->depth > LIMIT_CEL_DEPTH)
        return FAIL(p, p->start, "expression recursion limit exceeded: %d", LIMIT_CEL_DEPTH);
    n = binary(p, 0);
    at = p->start;
    if (n && take(p, "?")) {
        yes = binary(p, 0);
        if (yes && !take(p, ":"))
            yes = unexpected(p, "':'");
        no = yes ? expression(p) : NULL;
        n = no ? call(p, at, STR("_?_:_"), n, yes, no) : NULL;
    }
    p->depth--;
    return p->failed ? NULL : n;
}

bool cel_parse(struct arena *a, struct str text, struct cel_node **ret, struct error *err)
{
    struct cel_lexer p = {.a = a, .in = text, .issues = {.a = a, .text = text}};
    struct cel_node *n;
    bool ok;

    if (text.n > LIMIT_CEL_TEXT)
        return error_set(err, ERROR_INVALID,
                         "expression code point size exceeds limit: size: %zu, limit %u", text.n,
                         LIMIT_CEL_TEXT);
    cel_lex(&p);
    n = expression(&p);
    if (n && !p.failed && p.token != T_END)
        FAIL(&p, p.start, "Syntax error: extraneous input '" STR_FMT "' expecting <EOF>",
             STR_ARG(p.text));
    ok = n && !p.failed;
    if (ok)
        *ret = n;
    else
        error_set(err, ERROR_INVALID, "%s", cel_issues_text(&p.issues));
    return ok;
}
