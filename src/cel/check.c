/* cel/check - names, types and overloads, before anything is evaluated.
 *
 * Types are compared as cel-go does where it shows: dyn fits all, parameters (A, B) are bound at their first use, null
 * fits objects, timestamps and durations. What dyn leaves open is decided at run time among the overloads that fit. */
#include "cel/internal.h"

#define OVERLOADS_MAX 32

struct scope {
    struct str name;
    const struct cel_type *type;
    int slot;
    const struct scope *up;
};
struct checker {
    struct arena *a;
    struct cel_program *p;
    struct cel_issues issues;
    int slots; /* in use */
    bool unsupported;
};

static const struct cel_type *check(struct checker *c, struct cel_node *n, const struct scope *s);

static const struct cel_type *whatever(void)
{
    return &cel_dyn;
}

#define WRONG(c, at, ...) (cel_issue(&(c)->issues, at, __VA_ARGS__), whatever())

/* -- matching ------------------------------------------------------------------------------------- */

struct binding {
    const struct cel_type *a, *b;
};

static bool nullable(const struct cel_type *t)
{
    return t->kind == CEL_OBJECT || t->kind == CEL_TIMESTAMP || t->kind == CEL_DURATION
           || t->kind == CEL_NULL || t->kind >= CEL_OPTIONAL;
}

static bool fits(const struct cel_type *a, const struct cel_type *b)
{
    if (a == b || a->kind == CEL_DYN || b->kind == CEL_DYN)
        return true;
    if (a->kind == CEL_NULL || b->kind == CEL_NULL)
        return nullable(a) && nullable(b);
    if (a->kind != b->kind)
        return false;
    if (a->kind == CEL_LIST || a->kind == CEL_OPTIONAL)
        return fits(a->elem, b->elem);
    if (a->kind == CEL_MAP)
        return fits(a->key, b->key) && fits(a->elem, b->elem);
    return a->kind != CEL_OBJECT;
}

static bool has_dyn(const struct cel_type *t)
{
    return t->kind == CEL_DYN || (t->elem && has_dyn(t->elem)) || (t->key && has_dyn(t->key));
}

/* The more telling one of two that fit. */
static const struct cel_type *join(const struct cel_type *a, const struct cel_type *b)
{
    if (a->kind == CEL_NULL || (has_dyn(a) && a->kind == b->kind && a->kind != CEL_DYN))
        return b;
    return a->kind == CEL_DYN || b->kind == CEL_DYN ? &cel_dyn : a;
}

static const struct cel_type *letter(char c)
{
    switch (c) {
    case 'n':
        return &cel_null;
    case 'b':
        return &cel_bool;
    case 'i':
        return &cel_int;
    case 'u':
        return &cel_uint;
    case 'd':
        return &cel_double;
    case 's':
        return &cel_string;
    case 'y':
        return &cel_bytes;
    case 't':
        return &cel_timestamp;
    case 'r':
        return &cel_duration;
    case 'T':
        return &cel_type_type;
    case 'q':
        return &cel_quantity;
    case 'U':
        return &cel_url;
    case 'I':
        return &cel_ip;
    case 'C':
        return &cel_cidr;
    case 'F':
        return &cel_format;
    case 'V':
        return &cel_semver;
    default:
        return &cel_dyn;
    }
}

static bool match(const char **sig, const struct cel_type *t, struct binding *b)
{
    char c = *(*sig)++;
    const struct cel_type **bound;

    switch (c) {
    case '*':
        return true;
    case 'A':
    case 'B':
        bound = c == 'A' ? &b->a : &b->b;
        if (!*bound)
            *bound = t;
        else if (fits(*bound, t))
            *bound = join(*bound, t);
        else
            return false;
        return true;
    case '[':
    case '?':
        if (t->kind == CEL_DYN)
            return match(sig, &cel_dyn, b);
        return t->kind == (c == '[' ? CEL_LIST : CEL_OPTIONAL) && match(sig, t->elem, b);
    case '{':
        if (t->kind == CEL_DYN)
            return match(sig, &cel_dyn, b) && match(sig, &cel_dyn, b);
        return t->kind == CEL_MAP && match(sig, t->key, b) && match(sig, t->elem, b);
    default:
        return fits(letter(c), t);
    }
}

static const struct cel_type *result_of(struct checker *c, const char **sig,
                                        const struct binding *b)
{
    char k = *(*sig)++;

    if (k == 'A')
        return b->a ? b->a : &cel_dyn;
    if (k == 'B')
        return b->b ? b->b : &cel_dyn;
    if (k == '[')
        return cel_list_of(c->a, result_of(c, sig, b));
    if (k == '?')
        return cel_optional_of(c->a, result_of(c, sig, b));
    if (k == '{') {
        const struct cel_type *key = result_of(c, sig, b);

        return cel_map_of(c->a, key, result_of(c, sig, b));
    }
    return letter(k);
}

static bool overload_fits(struct checker *c, const struct cel_overload *o,
                          const struct cel_type *const *args, size_t n, const struct cel_type **ret)
{
    struct binding b = {0};
    const char *sig = o->sig;

    for (size_t i = 0; i < n; i++)
        if (*sig == ':' || !match(&sig, args[i], &b))
            return false;
    if (*sig++ != ':')
        return false;
    *ret = result_of(c, &sig, &b);
    return true;
}

/* -- calls ---------------------------------------------------------------------------------------- */

static const struct cel_type *not_found(struct checker *c, struct cel_node *n,
                                        const struct cel_type *const *args, size_t n_args)
{
    AUTO(buf_done) struct buf b = {.limit = 8192};

    if (n->member)
        buf_addf(&b, "%s.", cel_type_name(c->a, args[0]));
    buf_addc(&b, '(');
    for (size_t i = n->member; i < n_args; i++)
        buf_addf(&b, "%s%s", i > (size_t)n->member ? ", " : "", cel_type_name(c->a, args[i]));
    buf_addc(&b, ')');
    return WRONG(c, n->at, "found no matching overload for '" STR_FMT "' applied to '%s'",
                 STR_ARG(n->name), b.p);
}

static const struct cel_type *undeclared(struct checker *c, struct cel_node *n)
{
    if (cel_function_absent(n->name)) {
        c->unsupported = true;
        return WRONG(c, n->at, "function '" STR_FMT "' is not supported by this server",
                     STR_ARG(n->name));
    }
    return WRONG(c, n->at, "undeclared reference to '" STR_FMT "' (in container '')",
                 STR_ARG(n->name));
}

/* Finds the overloads that the types allow; what they return together is the type. */
static const struct cel_type *resolve(struct checker *c, struct cel_node *n,
                                      const struct cel_type *const *args, size_t n_args)
{
    const struct cel_overload *found[OVERLOADS_MAX], **copy;
    const struct cel_type *type = NULL;
    size_t n_found = 0;
    bool known = false;

    for (size_t i = 0; i < CEL_LIBRARIES; i++) {
        const struct cel_library *lib = cel_library_at(i);

        for (size_t k = 0; k < lib->n; k++) {
            const struct cel_overload *o = &lib->p[k];
            const struct cel_type *t;

            if (o->name[0] != n->name.p[0] || !str_is(n->name, o->name))
                continue;
            known = true;
            if (o->member != n->member || n_found == OVERLOADS_MAX
                || !overload_fits(c, o, args, n_args, &t))
                continue;
            found[n_found++] = o;
            if (!type)
                type = t;
            else if (!(type->kind == t->kind && fits(type, t)))
                type = &cel_dyn;
        }
    }
    if (!known)
        return undeclared(c, n);
    if (!n_found)
        return not_found(c, n, args, n_args);
    copy = ARENA_ARRAY(c->a, const struct cel_overload *, n_found);
    memcpy(copy, found, n_found * sizeof *copy);
    n->overloads = copy;
    n->n_overloads = n_found;
    return type;
}

/* A constant pattern, time or duration is looked at once, here. */
static void check_constants(struct checker *c, struct cel_node *n)
{
    struct cel_node *arg = n->n_args == 1 ? n->args[0] : NULL;
    AUTO(error_clear) struct error err = {0};
    struct cel_value v;

    if ((str_is(n->name, "matches") || str_is(n->name, "find") || str_is(n->name, "findAll"))
        && n->n_args >= 1) {
        struct cel_node *pattern = n->args[n->member ? 0 : n->n_args - 1];

        if (pattern->kind != NODE_LITERAL || pattern->value.kind != CEL_STRING)
            return;
        if (str_is(n->name, "matches")
                ? !regex_compile(c->a, pattern->value.s, &n->re, &err)
                : !regex_finder_compile(c->a, pattern->value.s, &n->finder, &err))
            WRONG(c, pattern->at, "invalid matches argument: %s", error_text(&err));
    } else if (!n->member && arg && arg->kind == NODE_LITERAL && arg->value.kind == CEL_STRING) {
        if (str_is(n->name, "duration") && !cel_parse_duration(arg->value.s, &v))
            WRONG(c, arg->at, "invalid duration argument");
        if (str_is(n->name, "timestamp") && !cel_parse_timestamp(arg->value.s, false, &v))
            WRONG(c, arg->at, "invalid timestamp argument");
    }
}

/* ip.isCanonical(x), format.named(x), optional.of(x): names of functions, not members of a variable. */
static bool namespaced(struct checker *c, struct cel_node *n, const struct scope *s)
{
    static const char *const spaces[] = {"ip", "format", "optional", "sets", "strings", "math"};
    struct cel_node *t = n->target;

    if (!n->member || t->kind != NODE_IDENT)
        return false;
    for (; s; s = s->up)
        if (str_eq(s->name, t->name))
            return false;
    for (size_t i = 0; i < c->p->env->n; i++)
        if (str_is(t->name, c->p->env->vars[i].name))
            return false;
    for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
        if (str_is(t->name, spaces[i])) {
            n->name =
                str_of(arena_printf(c->a, STR_FMT "." STR_FMT, STR_ARG(t->name), STR_ARG(n->name)));
            n->member = false;
            n->target = NULL;
            return true;
        }
    return false;
}

static const struct cel_type *check_optional_index(struct checker *c, struct cel_node *n,
                                                   const struct cel_type *of,
                                                   const struct cel_type *index)
{
    const struct cel_type *t = of->kind == CEL_OPTIONAL ? of->elem : of;

    if (t->kind == CEL_LIST && fits(index, &cel_int))
        return cel_optional_of(c->a, t->elem);
    if (t->kind == CEL_MAP && fits(index, t->key))
        return cel_optional_of(c->a, t->elem);
    if (t->kind == CEL_DYN)
        return &cel_optional_dyn;
    return not_found(c, n, (const struct cel_type *const[]){of, index}, 2);
}

static const struct cel_type *check_call(struct checker *c, struct cel_node *n,
                                         const struct scope *s)
{
    const struct cel_type **types;
    const struct cel_type *t;
    size_t k = 0, before = c->issues.n;

    namespaced(c, n, s);
    types = ARENA_ARRAY(c->a, const struct cel_type *, n->n_args + 1);
    if (n->member)
        types[k++] = check(c, n->target, s);
    for (size_t i = 0; i < n->n_args; i++)
        types[k++] = check(c, n->args[i], s);
    if (str_is(n->name, "_[?_]"))
        return check_optional_index(c, n, types[0], types[1]);
    if (str_is(n->name, "_[_]") && types[0]->kind == CEL_OPTIONAL)
        return check_optional_index(c, n, types[0], types[1]);
    t = resolve(c, n, types, k);
    if (c->issues.n == before)
        check_constants(c, n);
    return t;
}

/* -- the rest ------------------------------------------------------------------------------------- */

static const struct cel_type *check_ident(struct checker *c, struct cel_node *n,
                                          const struct scope *s)
{
    static const struct {
        const char *name;
        const struct cel_type *type;
    } types[] = {
        {"bool", &cel_bool},      {"int", &cel_int},       {"uint", &cel_uint},
        {"double", &cel_double},  {"string", &cel_string}, {"bytes", &cel_bytes},
        {"list", &cel_list_dyn},  {"map", &cel_map_dyn},   {"null_type", &cel_null},
        {"type", &cel_type_type}, {"dyn", &cel_dyn},       {"optional_type", &cel_optional_dyn},
    };

    for (; s; s = s->up)
        if (str_eq(s->name, n->name)) {
            n->slot = s->slot;
            return s->type;
        }
    for (size_t i = 0; i < c->p->env->n; i++)
        if (str_is(n->name, c->p->env->vars[i].name)) {
            n->slot = (int)i;
            c->p->used[i] = true;
            return c->p->env->vars[i].type ? c->p->env->vars[i].type : &cel_dyn;
        }
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (str_is(n->name, types[i].name)) {
            n->kind = NODE_LITERAL;
            n->value = cel_v_type(types[i].type);
            return &cel_type_type;
        }
    return WRONG(c, n->at, "undeclared reference to '" STR_FMT "' (in container '')",
                 STR_ARG(n->name));
}

/* google.protobuf.Timestamp and .Duration are the only qualified names. */
static bool qualified_type(struct cel_node *n)
{
    const struct cel_node *m = n->target, *g = m && m->kind == NODE_SELECT ? m->target : NULL;

    if (!g || g->kind != NODE_IDENT || !str_is(g->name, "google") || !str_is(m->name, "protobuf"))
        return false;
    if (!str_is(n->name, "Timestamp") && !str_is(n->name, "Duration"))
        return false;
    n->kind = NODE_LITERAL;
    n->value = cel_v_type(str_is(n->name, "Timestamp") ? &cel_timestamp : &cel_duration);
    return true;
}

static const struct cel_type *check_select(struct checker *c, struct cel_node *n,
                                           const struct scope *s)
{
    const struct cel_type *of, *t;
    const struct cel_field *f;
    bool optional;

    if (qualified_type(n))
        return &cel_type_type;
    of = check(c, n->target, s);
    optional = n->optional || of->kind == CEL_OPTIONAL;
    if (of->kind == CEL_OPTIONAL)
        of = of->elem;
    switch (of->kind) {
    case CEL_DYN:
        t = &cel_dyn;
        break;
    case CEL_MAP:
        t = of->elem;
        break;
    case CEL_OBJECT:
        f = cel_type_field(of, n->name);
        if (!f)
            return WRONG(c, n->at, "undefined field '" STR_FMT "'", STR_ARG(n->name));
        t = f->type;
        break;
    case CEL_NULL:
    case CEL_BOOL:
    case CEL_INT:
    case CEL_UINT:
    case CEL_DOUBLE:
    case CEL_STRING:
    case CEL_BYTES:
    case CEL_LIST:
    case CEL_TIMESTAMP:
    case CEL_DURATION:
    case CEL_TYPE:
    case CEL_OPTIONAL:
    case CEL_QUANTITY:
    case CEL_URL:
    case CEL_IP:
    case CEL_CIDR:
    case CEL_FORMAT:
    case CEL_SEMVER:
    case CEL_ERROR:
        return WRONG(c, n->at, "type '%s' does not support field selection",
                     cel_type_name(c->a, of));
    }
    if (n->test)
        return &cel_bool;
    return optional ? cel_optional_of(c->a, t) : t;
}

/* Elements of lists and maps have one type; ?x is an optional one. */
static const struct cel_type *element(struct checker *c, struct cel_node *n, bool optional,
                                      const struct cel_type *so_far, const struct scope *s)
{
    const struct cel_type *t = check(c, n, s);

    if (optional && t->kind != CEL_DYN) {
        if (t->kind != CEL_OPTIONAL)
            return WRONG(c, n->at, "expected type 'optional_type(%s)' but found '%s'",
                         cel_type_name(c->a, t), cel_type_name(c->a, t));
        t = t->elem;
    }
    if (!so_far)
        return t;
    if (!fits(so_far, t))
        return WRONG(c, n->at, "expected type '%s' but found '%s'", cel_type_name(c->a, so_far),
                     cel_type_name(c->a, t));
    return join(so_far, t);
}

/* A list of constants is made once, not at each step of a loop. */
static void keep_constants(struct checker *c, struct cel_node *n)
{
    struct cel_value *items;

    for (size_t i = 0; i < n->n_args; i++)
        if (n->args[i]->kind != NODE_LITERAL || n->optional_args)
            return;
    items = ARENA_ARRAY(c->a, struct cel_value, n->n_args + 1);
    for (size_t i = 0; i < n->n_args; i++)
        items[i] = n->args[i]->value;
    n->value = cel_v_list(items, n->n_args);
}

/* What may be a key. Other keys fail when the map is made; their types are let go, so that no type is a tree of types
 * whose size doubles with each map of maps. */
static const struct cel_type *key_type(const struct cel_type *t)
{
    bool simple = t
                  && (t->kind == CEL_STRING || t->kind == CEL_INT || t->kind == CEL_UINT
                      || t->kind == CEL_BOOL);

    return simple ? t : &cel_dyn;
}

static const struct cel_type *check_collection(struct checker *c, struct cel_node *n,
                                               const struct scope *s)
{
    const struct cel_type *key = NULL, *value = NULL;

    for (size_t i = 0; i < n->n_args; i++) {
        bool optional = n->optional_args && n->optional_args[i];

        if (n->kind == NODE_MAP && i % 2 == 0)
            key = element(c, n->args[i], false, key, s);
        else
            value = element(c, n->args[i], optional, value, s);
    }
    value = value ? value : &cel_dyn;
    if (n->kind == NODE_LIST)
        keep_constants(c, n);
    return n->kind == NODE_LIST ? cel_list_of(c->a, value) : cel_map_of(c->a, key_type(key), value);
}

static bool want_bool(struct checker *c, struct cel_node *n, const struct cel_type *t)
{
    if (t->kind == CEL_BOOL || t->kind == CEL_DYN)
        return true;
    WRONG(c, n->at, "expected type 'bool' but found '%s'", cel_type_name(c->a, t));
    return false;
}

static int new_slot(struct checker *c)
{
    int slot = c->slots++;

    if (c->slots > c->p->slots)
        c->p->slots = c->slots;
    return slot;
}

/* What the variables of a macro stand for. */
static bool ranges(struct checker *c, struct cel_node *n, const struct cel_type *of,
                   const struct cel_type **ret_one, const struct cel_type **ret_two)
{
    bool two = n->var2.p != NULL;

    if (n->macro == MACRO_OPT_MAP || n->macro == MACRO_OPT_FLAT_MAP) {
        *ret_one = of->kind == CEL_OPTIONAL ? of->elem : &cel_dyn;
        if (of->kind == CEL_OPTIONAL || of->kind == CEL_DYN)
            return true;
        not_found(c, n, (const struct cel_type *const[]){of}, 1);
        return false;
    }
    *ret_one = *ret_two = &cel_dyn;
    if (of->kind == CEL_LIST) {
        *ret_one = two ? &cel_int : of->elem;
        *ret_two = of->elem;
    } else if (of->kind == CEL_MAP) {
        *ret_one = of->key;
        *ret_two = of->elem;
    } else if (of->kind != CEL_DYN) {
        WRONG(c, n->target->at,
              "expression of type '%s' cannot be range of a comprehension (must be list, map, or "
              "dynamic)",
              cel_type_name(c->a, of));
        return false;
    }
    return true;
}

static const struct cel_type *macro_type(struct checker *c, struct cel_node *n,
                                         const struct cel_type *of, const struct cel_type *one,
                                         const struct cel_type *body)
{
    switch (n->macro) {
    case MACRO_ALL:
    case MACRO_EXISTS:
    case MACRO_EXISTS_ONE:
        want_bool(c, n->args[0], body);
        return &cel_bool;
    case MACRO_FILTER:
        want_bool(c, n->args[0], body);
        return of->kind == CEL_LIST ? of : cel_list_of(c->a, one);
    case MACRO_MAP:
    case MACRO_TRANSFORM_LIST:
        return cel_list_of(c->a, body);
    case MACRO_TRANSFORM_MAP:
        return cel_map_of(c->a,
                          of->kind == CEL_MAP    ? of->key
                          : of->kind == CEL_LIST ? &cel_int
                                                 : &cel_dyn,
                          body);
    case MACRO_TRANSFORM_ENTRY:
        return body->kind == CEL_MAP ? body : &cel_map_dyn;
    case MACRO_OPT_MAP:
        return cel_optional_of(c->a, body);
    case MACRO_OPT_FLAT_MAP:
        return body->kind == CEL_OPTIONAL ? body : &cel_optional_dyn;
    }
    return &cel_dyn;
}

static const struct cel_type *check_macro(struct checker *c, struct cel_node *n,
                                          const struct scope *s)
{
    const struct cel_type *of = check(c, n->target, s), *one, *two, *body = &cel_dyn;
    struct scope inner[2];
    int before = c->slots;

    if (!ranges(c, n, of, &one, &two))
        return &cel_dyn;
    n->slot = new_slot(c);
    inner[0] = (struct scope){n->var, one, n->slot, s};
    s = &inner[0];
    if (n->var2.p) {
        n->slot2 = new_slot(c);
        inner[1] = (struct scope){n->var2, two, n->slot2, s};
        s = &inner[1];
    }
    for (size_t i = 0; i < n->n_args; i++) {
        body = check(c, n->args[i], s);
        if (i + 1 < n->n_args)
            want_bool(c, n->args[i], body);
    }
    c->slots = before;
    return macro_type(c, n, of, one, body);
}

static const struct cel_type *check(struct checker *c, struct cel_node *n, const struct scope *s)
{
    switch (n->kind) {
    case NODE_LITERAL:
        n->type = cel_type_of(&n->value);
        break;
    case NODE_IDENT:
        n->type = check_ident(c, n, s);
        break;
    case NODE_SELECT:
        n->type = check_select(c, n, s);
        break;
    case NODE_CALL:
        n->type = check_call(c, n, s);
        break;
    case NODE_LIST:
    case NODE_MAP:
        n->type = check_collection(c, n, s);
        break;
    case NODE_MACRO:
        n->type = check_macro(c, n, s);
        break;
    }
    return n->type;
}

bool cel_check(struct arena *a, struct cel_program *p, struct cel_node *root, struct error *err)
{
    struct checker c = {.a = a, .p = p, .issues = {.a = a, .text = p->text}};
    bool ok;

    c.slots = p->slots = (int)p->env->n;
    p->used = ARENA_ARRAY(a, bool, p->env->n + 1);
    check(&c, root, NULL);
    ok = c.issues.n == 0;
    if (!ok)
        error_set(err, c.unsupported && c.issues.n == 1 ? ERROR_UNSUPPORTED : ERROR_INVALID, "%s",
                  cel_issues_text(&c.issues));
    return ok;
}
