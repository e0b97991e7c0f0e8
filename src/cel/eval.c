/* cel/eval - a walk over the tree that gives a value, counts what it costs and stops when the budget is used up.
 *
 * An error is a value: functions hand on the first one among their arguments, && and || forget it when the other side
 * decides. Once r->stop is set every step fails at once, so that loops end. */
#include "cel/internal.h"

#define ARGS_MAX 8

struct cel_value cel_fail(struct cel_run *r, const char *fmt, ...)
{
    AUTO(buf_done) struct buf b = {.limit = 4096};
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    return (struct cel_value){.kind = CEL_ERROR,
                              .s = arena_str(r->a, b.p ? buf_str(&b) : STR("error"))};
}

struct cel_value cel_no_overload(struct cel_run *r)
{
    (void)r;
    return (struct cel_value){.kind = CEL_ERROR, .s = STR("no such overload")};
}

static struct cel_value stopped(void)
{
    return (struct cel_value){.kind = CEL_ERROR,
                              .s = STR("operation cancelled: actual cost limit exceeded")};
}

void cel_charge(struct cel_run *r, uint64_t cost)
{
    r->cost += cost;
    if (r->cost > r->budget || r->a->used - r->memory > LIMIT_CEL_MEMORY)
        r->stop = true;
}

static struct cel_value no_key(struct cel_run *r, const struct cel_value *key)
{
    switch ((enum cel_kind)key->kind) {
    case CEL_STRING:
        return cel_fail(r, "no such key: " STR_FMT, STR_ARG(key->s));
    case CEL_INT:
        return cel_fail(r, "no such key: %lld", (long long)key->i);
    case CEL_UINT:
        return cel_fail(r, "no such key: %llu", (unsigned long long)key->u);
    case CEL_BOOL:
        return cel_fail(r, "no such key: %s", key->b ? "true" : "false");
    case CEL_DYN:
    case CEL_NULL:
    case CEL_DOUBLE:
    case CEL_BYTES:
    case CEL_LIST:
    case CEL_MAP:
    case CEL_OBJECT:
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
        return cel_no_overload(r);
    }
    return cel_no_overload(r);
}

/* -- names and members ---------------------------------------------------------------------------- */

static struct cel_value ident(struct cel_run *r, const struct cel_node *n)
{
    struct cel_value v = r->frame[n->slot];

    cel_charge(r, 1);
    if (v.kind == CEL_ERROR && !v.s.p)
        return cel_fail(r, "no such attribute(s): " STR_FMT, STR_ARG(n->name));
    return cel_settled(r, v);
}

static struct cel_value select_of(struct cel_run *r, const struct cel_node *n)
{
    struct cel_value of = cel_walk(r, n->target), v;
    bool optional = n->optional || of.kind == CEL_OPTIONAL, found;

    if (!n->test)
        cel_charge(r, 1);
    if (cel_failed(&of))
        return of;
    if (of.kind == CEL_OPTIONAL) {
        if (!of.some)
            return n->test ? cel_v_bool(false) : cel_v_none();
        of = *of.some;
    }
    if (!cel_is_map(&of))
        return optional && of.kind == CEL_NULL ? cel_v_none() : cel_no_overload(r);
    cel_charge(r, of.lazy && json_len(of.json) > 64 ? json_len(of.json) / 32 : 0);
    found = cel_lookup_name(&of, n->name, &v);
    if (n->test)
        return cel_v_bool(found);
    if (optional)
        return found ? cel_v_some(r, cel_settled(r, v)) : cel_v_none();
    return found ? cel_settled(r, v) : cel_fail(r, "no such key: " STR_FMT, STR_ARG(n->name));
}

static bool index_of(const struct cel_value *v, int64_t *ret)
{
    if (v->kind == CEL_INT)
        *ret = v->i;
    else if (v->kind == CEL_UINT && v->u <= INT64_MAX)
        *ret = (int64_t)v->u;
    else if (v->kind == CEL_DOUBLE && v->d >= -1e15 && v->d <= 1e15
             && v->d == (double)(int64_t)v->d)
        *ret = (int64_t)v->d;
    else
        return false;
    return true;
}

static struct cel_value element_of(struct cel_run *r, struct cel_value of, struct cel_value index,
                                   bool optional)
{
    struct cel_value v = {0};
    int64_t i;

    if (of.kind == CEL_OPTIONAL) {
        if (!of.some)
            return cel_v_none();
        of = *of.some;
        optional = true;
    }
    if (of.kind == CEL_LIST) {
        if (!index_of(&index, &i))
            return cel_no_overload(r);
        if (i < 0 || (uint64_t)i >= cel_len(&of))
            return optional ? cel_v_none() : cel_fail(r, "index out of bounds: %lld", (long long)i);
        v = cel_item(&of, (size_t)i);
    } else if (cel_is_map(&of)) {
        cel_charge(r, cel_len(&of) > 64 ? cel_len(&of) / 32 : 0);
        if (!cel_lookup(r, &of, &index, &v))
            return optional ? cel_v_none() : no_key(r, &index);
    } else {
        return cel_no_overload(r);
    }
    v = cel_settled(r, v);
    return optional ? cel_v_some(r, v) : v;
}

/* -- calls ---------------------------------------------------------------------------------------- */

static struct cel_value logic(struct cel_run *r, const struct cel_node *n, bool decisive)
{
    struct cel_value left = cel_walk(r, n->args[0]), right;

    if (left.kind == CEL_BOOL && left.b == decisive)
        return left;
    right = cel_walk(r, n->args[1]);
    if (r->stop)
        return stopped();
    if (right.kind == CEL_BOOL && right.b == decisive)
        return right;
    if (cel_failed(&left))
        return left;
    if (cel_failed(&right))
        return right;
    if (left.kind != CEL_BOOL || right.kind != CEL_BOOL)
        return cel_no_overload(r);
    return cel_v_bool(!decisive);
}

static struct cel_value conditional(struct cel_run *r, const struct cel_node *n)
{
    struct cel_value c = cel_walk(r, n->args[0]);

    if (cel_failed(&c))
        return c;
    if (c.kind != CEL_BOOL)
        return cel_no_overload(r);
    return cel_walk(r, n->args[c.b ? 1 : 2]);
}

static void skip_type(const char **sig)
{
    char c = *(*sig)++;

    if (c == '[' || c == '?' || c == '{')
        skip_type(sig);
    if (c == '{')
        skip_type(sig);
}

static bool kind_fits(const char **sig, const struct cel_value *v)
{
    char c = *(*sig)++;

    switch (c) {
    case '*':
    case 'A':
    case 'B':
        return true;
    case '[':
        skip_type(sig);
        return v->kind == CEL_LIST;
    case '?':
        skip_type(sig);
        return v->kind == CEL_OPTIONAL;
    case '{':
        skip_type(sig);
        skip_type(sig);
        return cel_is_map(v);
    case 'n':
        return v->kind == CEL_NULL;
    case 'b':
        return v->kind == CEL_BOOL;
    case 'i':
        return v->kind == CEL_INT;
    case 'u':
        return v->kind == CEL_UINT;
    case 'd':
        return v->kind == CEL_DOUBLE;
    case 's':
        return v->kind == CEL_STRING;
    case 'y':
        return v->kind == CEL_BYTES;
    case 't':
        return v->kind == CEL_TIMESTAMP;
    case 'r':
        return v->kind == CEL_DURATION;
    case 'T':
        return v->kind == CEL_TYPE;
    case 'q':
        return v->kind == CEL_QUANTITY;
    case 'U':
        return v->kind == CEL_URL;
    case 'I':
        return v->kind == CEL_IP;
    case 'C':
        return v->kind == CEL_CIDR;
    case 'F':
        return v->kind == CEL_FORMAT;
    case 'V':
        return v->kind == CEL_SEMVER;
    default:
        return false;
    }
}

static bool args_fit(const struct cel_overload *o, const struct cel_value *args, size_t n)
{
    const char *sig = o->sig;

    for (size_t i = 0; i < n; i++)
        if (*sig == ':' || !kind_fits(&sig, &args[i]))
            return false;
    return *sig == ':';
}

static struct cel_value call(struct cel_run *r, const struct cel_node *n)
{
    struct cel_value args[ARGS_MAX];
    size_t k = 0;

    if (n->n_args + n->member > ARGS_MAX)
        return cel_no_overload(r);
    if (n->member)
        args[k++] = cel_walk(r, n->target);
    for (size_t i = 0; i < n->n_args; i++)
        args[k++] = cel_walk(r, n->args[i]);
    cel_charge(r, 1);
    if (r->stop)
        return stopped();
    for (size_t i = 0; i < k; i++)
        if (cel_failed(&args[i]))
            return args[i];
    if (n->name.p[0] == '_' && n->name.p[1] == '[')
        return element_of(r, args[0], args[1], n->name.p[2] == '?');
    for (size_t i = 0; i < n->n_overloads; i++)
        if (args_fit(n->overloads[i], args, k))
            return n->overloads[i]->fn(r, n, args, k);
    return cel_no_overload(r);
}

static struct cel_value any_call(struct cel_run *r, const struct cel_node *n)
{
    if (str_is(n->name, "_&&_"))
        return logic(r, n, false);
    if (str_is(n->name, "_||_"))
        return logic(r, n, true);
    if (str_is(n->name, "_?_:_"))
        return conditional(r, n);
    return call(r, n);
}

/* -- collections ---------------------------------------------------------------------------------- */

/* The value of an element; *ret_skip: an optional one without a value. */
static struct cel_value element(struct cel_run *r, const struct cel_node *n, size_t i,
                                bool *ret_skip)
{
    struct cel_value v = cel_walk(r, n->args[i]);

    *ret_skip = false;
    if (cel_failed(&v) || !n->optional_args || !n->optional_args[i])
        return v;
    if (v.kind != CEL_OPTIONAL)
        return cel_no_overload(r);
    *ret_skip = !v.some;
    return v.some ? *v.some : v;
}

static struct cel_value list(struct cel_run *r, const struct cel_node *n)
{
    struct cel_items l = {0};

    if (n->value.kind == CEL_LIST) { /* of constants */
        cel_charge(r, 1);
        return n->value;
    }
    cel_charge(r, 10);
    for (size_t i = 0; i < n->n_args; i++) {
        bool skip;
        struct cel_value v = element(r, n, i, &skip);

        if (cel_failed(&v))
            return v;
        if (!skip)
            cel_items_add(r, &l, v);
    }
    return cel_v_list(l.p, l.n);
}

/* A map under construction. */
struct entries {
    struct cel_entry *p;
    size_t n, cap;
};

static bool key_fits(const struct cel_value *v)
{
    return v->kind == CEL_STRING || v->kind == CEL_INT || v->kind == CEL_UINT
           || v->kind == CEL_BOOL;
}

/* An absent error (kind NULL) when it went well. */
static struct cel_value entries_add(struct cel_run *r, struct entries *m, struct cel_value key,
                                    struct cel_value value)
{
    if (!key_fits(&key))
        return cel_fail(r, "unsupported key type");
    for (size_t i = 0; i < m->n; i++)
        if (cel_equal(r, &m->p[i].key, &key))
            return key.kind == CEL_STRING ? cel_fail(
                       r, "insert failed: key " STR_FMT " already exists", STR_ARG(key.s))
                                          : cel_fail(r, "insert failed: key already exists");
    cel_charge(r, m->n / 8);
    m->p = cel_grow(r->a, m->p, sizeof *m->p, m->n, &m->cap);
    m->p[m->n++] = (struct cel_entry){key, value};
    return cel_v_null();
}

static struct cel_value made(const struct entries *m)
{
    struct cel_value v = {.kind = CEL_MAP};

    v.map.entries = m->p;
    v.map.n = m->n;
    return v;
}

static struct cel_value map(struct cel_run *r, const struct cel_node *n)
{
    struct entries m = {0};

    cel_charge(r, 30);
    for (size_t i = 0; i + 1 < n->n_args; i += 2) {
        struct cel_value key = cel_walk(r, n->args[i]), value, failed;
        bool skip;

        if (cel_failed(&key))
            return key;
        value = element(r, n, i + 1, &skip);
        if (cel_failed(&value))
            return value;
        if (skip)
            continue;
        failed = entries_add(r, &m, key, value);
        if (cel_failed(&failed))
            return failed;
    }
    return made(&m);
}

/* -- macros --------------------------------------------------------------------------------------- */

struct loop {
    struct cel_value result; /* of what decides: bools and their errors */
    size_t hits;
    struct cel_items items;
    struct entries entries;
    bool done;
};

static void decide(struct cel_run *r, struct loop *l, struct cel_value v, bool decisive)
{
    if (v.kind == CEL_BOOL && v.b == decisive) {
        l->result = v;
        l->done = true;
    } else if (cel_failed(&v)) {
        l->result = v;
    } else if (v.kind != CEL_BOOL) {
        l->result = cel_no_overload(r);
    }
}

static void end(struct loop *l, struct cel_value v)
{
    l->result = v;
    l->done = true;
}

static void merge(struct cel_run *r, struct loop *l, const struct cel_value *m)
{
    for (size_t i = 0; i < cel_len(m) && !l->done; i++) {
        struct cel_value key, value, failed;

        cel_member(m, i, &key, &value);
        failed = entries_add(r, &l->entries, key, value);
        if (cel_failed(&failed))
            end(l, failed);
    }
}

/* What is kept or made of one element. */
static void collect(struct cel_run *r, const struct cel_node *n, struct loop *l,
                    const struct cel_value *key)
{
    struct cel_value v, failed;

    if (n->n_args > 1 || n->macro == MACRO_FILTER) {
        v = cel_walk(r, n->args[0]);
        if (v.kind != CEL_BOOL) {
            end(l, cel_failed(&v) ? v : cel_no_overload(r));
            return;
        }
        if (!v.b)
            return;
    }
    v = n->macro == MACRO_FILTER ? r->frame[n->slot] : cel_walk(r, n->args[n->n_args - 1]);
    if (cel_failed(&v)) {
        end(l, v);
    } else if (n->macro == MACRO_TRANSFORM_ENTRY) {
        if (cel_is_map(&v))
            merge(r, l, &v);
        else
            end(l, cel_no_overload(r));
    } else if (n->macro == MACRO_TRANSFORM_MAP) {
        failed = entries_add(r, &l->entries, *key, v);
        if (cel_failed(&failed))
            end(l, failed);
    } else {
        cel_charge(r, 12);
        cel_items_add(r, &l->items, v);
    }
}

static void step(struct cel_run *r, const struct cel_node *n, struct loop *l,
                 const struct cel_value *key)
{
    struct cel_value v;

    switch (n->macro) {
    case MACRO_ALL:
        cel_charge(r, 3);
        decide(r, l, cel_walk(r, n->args[0]), false);
        break;
    case MACRO_EXISTS:
        cel_charge(r, 4);
        decide(r, l, cel_walk(r, n->args[0]), true);
        break;
    case MACRO_EXISTS_ONE:
        v = cel_walk(r, n->args[0]);
        if (v.kind != CEL_BOOL)
            end(l, cel_failed(&v) ? v : cel_no_overload(r));
        else
            l->hits += v.b;
        cel_charge(r, v.kind == CEL_BOOL && v.b ? 2 : 1);
        break;
    case MACRO_MAP:
    case MACRO_FILTER:
    case MACRO_TRANSFORM_LIST:
    case MACRO_TRANSFORM_MAP:
    case MACRO_TRANSFORM_ENTRY:
        cel_charge(r, 1);
        collect(r, n, l, key);
        break;
    case MACRO_OPT_MAP:
    case MACRO_OPT_FLAT_MAP:
        break;
    }
}

static struct cel_value outcome(const struct cel_node *n, const struct loop *l)
{
    switch (n->macro) {
    case MACRO_ALL:
    case MACRO_EXISTS:
        return l->result;
    case MACRO_EXISTS_ONE:
        return l->done ? l->result : cel_v_bool(l->hits == 1);
    case MACRO_MAP:
    case MACRO_FILTER:
    case MACRO_TRANSFORM_LIST:
        return l->done ? l->result : cel_v_list(l->items.p, l->items.n);
    case MACRO_TRANSFORM_MAP:
    case MACRO_TRANSFORM_ENTRY:
        return l->done ? l->result : made(&l->entries);
    case MACRO_OPT_MAP:
    case MACRO_OPT_FLAT_MAP:
        break;
    }
    return l->result;
}

static struct cel_value optional_map(struct cel_run *r, const struct cel_node *n,
                                     const struct cel_value *of)
{
    struct cel_value v;

    if (of->kind != CEL_OPTIONAL)
        return cel_no_overload(r);
    if (!of->some)
        return cel_v_none();
    r->frame[n->slot] = *of->some;
    v = cel_walk(r, n->args[0]);
    if (cel_failed(&v))
        return v;
    if (n->macro == MACRO_OPT_MAP)
        return cel_v_some(r, v);
    return v.kind == CEL_OPTIONAL ? v : cel_no_overload(r);
}

static struct cel_value macro(struct cel_run *r, const struct cel_node *n)
{
    struct cel_value of = cel_walk(r, n->target);
    struct loop l = {.result = cel_v_bool(n->macro == MACRO_ALL)};

    cel_charge(r, 1);
    if (cel_failed(&of))
        return of;
    if (n->macro == MACRO_OPT_MAP || n->macro == MACRO_OPT_FLAT_MAP)
        return optional_map(r, n, &of);
    if (of.kind != CEL_LIST && !cel_is_map(&of))
        return cel_no_overload(r);
    for (size_t i = 0; i < cel_len(&of) && !l.done; i++) {
        struct cel_value key, value;

        if (r->stop)
            return stopped();
        if (of.kind == CEL_LIST) {
            key = cel_v_int((int64_t)i);
            value = cel_settled(r, cel_item(&of, i));
        } else {
            cel_member(&of, i, &key, &value);
            value = cel_settled(r, value);
        }
        r->frame[n->slot] = of.kind == CEL_LIST && n->slot2 < 0 ? value : key;
        if (n->slot2 >= 0)
            r->frame[n->slot2] = value;
        step(r, n, &l, &key);
    }
    return r->stop ? stopped() : outcome(n, &l);
}

struct cel_value cel_walk(struct cel_run *r, const struct cel_node *n)
{
    if (r->stop)
        return stopped();
    switch (n->kind) {
    case NODE_LITERAL:
        return n->value;
    case NODE_IDENT:
        return ident(r, n);
    case NODE_SELECT:
        return select_of(r, n);
    case NODE_CALL:
        return any_call(r, n);
    case NODE_LIST:
        return list(r, n);
    case NODE_MAP:
        return map(r, n);
    case NODE_MACRO:
        return macro(r, n);
    }
    return cel_no_overload(r);
}

/* -- programs ------------------------------------------------------------------------------------- */

bool cel_compile(struct arena *a, const struct cel_env *env, struct str text,
                 const struct cel_program **ret, struct error *err)
{
    struct cel_program *p = ARENA_NEW(a, struct cel_program);
    struct cel_env *own = ARENA_NEW(a, struct cel_env);
    struct cel_variable *vars = ARENA_ARRAY(a, struct cel_variable, env->n + 1);
    struct cel_node *root;

    for (size_t i = 0; i < env->n; i++)
        vars[i] =
            (struct cel_variable){arena_strdup(a, str_of(env->vars[i].name)), env->vars[i].type};
    *own = (struct cel_env){vars, env->n};
    p->env = own;
    p->text = arena_str(a, text.p ? text : STR(""));
    if (!cel_parse(a, p->text, &root, err) || !cel_check(a, p, root, err))
        return false;
    p->root = root;
    p->max_cost = cel_estimate(root);
    *ret = p;
    return true;
}

const struct cel_type *cel_result(const struct cel_program *p)
{
    return p->root->type;
}
uint64_t cel_max_cost(const struct cel_program *p)
{
    return p->max_cost;
}

bool cel_uses(const struct cel_program *p, const char *variable)
{
    for (size_t i = 0; i < p->env->n; i++)
        if (p->used[i] && strcmp(p->env->vars[i].name, variable) == 0)
            return true;
    return false;
}

bool cel_eval(const struct cel_program *p, const struct cel_value *values, struct arena *a,
              uint64_t *budget, struct cel_value *ret, struct error *err)
{
    struct cel_run r = {.p = p,
                        .a = a,
                        .budget =
                            *budget < CEL_EXPRESSION_BUDGET ? *budget : CEL_EXPRESSION_BUDGET};
    struct cel_value v;

    r.frame = ARENA_ARRAY(a, struct cel_value, (size_t)p->slots + 1);
    if (p->env->n)
        memcpy(r.frame, values, p->env->n * sizeof *values);
    r.memory = a->used;
    v = cel_walk(&r, p->root);
    *budget -= r.cost < *budget ? r.cost : *budget;
    if (r.stop)
        return error_set(err, ERROR_TOO_LARGE, "operation cancelled: actual cost limit exceeded");
    if (cel_failed(&v))
        return error_set(err, ERROR_INVALID, STR_FMT, STR_ARG(v.s));
    *ret = v;
    return true;
}

bool cel_eval_bool(const struct cel_program *p, const struct cel_value *values, struct arena *a,
                   uint64_t *budget, bool *ret, struct error *err)
{
    struct cel_value v;

    if (!cel_eval(p, values, a, budget, &v, err))
        return false;
    if (v.kind != CEL_BOOL)
        return error_set(err, ERROR_INVALID, "expression is no bool");
    *ret = v.b;
    return true;
}
