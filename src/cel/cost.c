/* cel/cost - what an expression costs at most, from the sizes that the schema declares.
 *
 * The units and formulas are upstream's (a name or a step is 1, ten characters are 1, a list 10, a map 30; macros by
 * what they expand to), because the limits on them are part of what a CRD's author sees: a rule that kube-apiserver
 * takes has to be taken, one that it refuses is refused. Sums and products stay at UINT64_MAX once they pass it. */
#include "cel/internal.h"

struct cost {
    uint64_t max;
    struct cel_size size; /* of the value: characters, items, members */
};

static const struct cel_size unknown = {0, UINT64_MAX};

static uint64_t plus(uint64_t a, uint64_t b)
{
    uint64_t s;

    return __builtin_add_overflow(a, b, &s) ? UINT64_MAX : s;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t p;

    return __builtin_mul_overflow(a, b, &p) ? UINT64_MAX : p;
}

/* n · 0.1, rounded up */
static uint64_t tenth(uint64_t n)
{
    return n == UINT64_MAX ? n : n / 10 + (n % 10 != 0);
}
static uint64_t quarter(uint64_t n)
{
    return n == UINT64_MAX ? n : n / 4 + (n % 4 != 0);
}
static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static struct cel_size both(struct cel_size a, struct cel_size b)
{
    return (struct cel_size){smaller(a.min, b.min), larger(a.max, b.max)};
}
static struct cel_size sum(struct cel_size a, struct cel_size b)
{
    return (struct cel_size){plus(a.min, b.min), plus(a.max, b.max)};
}

static struct cel_size size_of_type(const struct cel_type *t)
{
    if (t->declared)
        return (struct cel_size){0, t->max_elements};
    switch (t->kind) {
    case CEL_NULL:
    case CEL_BOOL:
    case CEL_INT:
    case CEL_UINT:
    case CEL_DOUBLE:
    case CEL_TIMESTAMP:
    case CEL_DURATION:
    case CEL_TYPE:
    case CEL_QUANTITY:
    case CEL_URL:
    case CEL_IP:
    case CEL_CIDR:
    case CEL_FORMAT:
    case CEL_SEMVER:
        return (struct cel_size){1, 1};
    case CEL_OPTIONAL:
        return size_of_type(t->elem);
    case CEL_DYN:
    case CEL_STRING:
    case CEL_BYTES:
    case CEL_LIST:
    case CEL_MAP:
    case CEL_OBJECT:
    case CEL_ERROR:
        return unknown;
    }
    return unknown;
}

static struct cost cost_of(struct cel_node *n);

/* -- macros --------------------------------------------------------------------------------------- */

static struct cost cost_of_macro(struct cel_node *n)
{
    struct cost range = cost_of(n->target), ret = {0};
    uint64_t first = cost_of(n->args[0]).max, last = cost_of(n->args[n->n_args - 1]).max, step = 0;
    bool filtered = n->n_args > 1;

    ret.size = range.size;
    switch (n->macro) {
    case MACRO_ALL:
        step = plus(first, 3);
        break;
    case MACRO_EXISTS:
        step = plus(first, 4);
        break;
    case MACRO_EXISTS_ONE:
        step = plus(first, 2);
        ret.max = 1;
        break;
    case MACRO_MAP:
    case MACRO_TRANSFORM_LIST:
        step = plus(last, plus(12, filtered ? first : 0));
        ret.max = 10;
        break;
    case MACRO_FILTER:
        step = plus(first, 13);
        ret.max = 10;
        break;
    case MACRO_TRANSFORM_MAP:
    case MACRO_TRANSFORM_ENTRY:
        step = plus(last, plus(3, filtered ? first : 0));
        ret.max = 30;
        break;
    case MACRO_OPT_MAP:
    case MACRO_OPT_FLAT_MAP:
        ret.max = plus(plus(range.max, range.max), plus(last, 4));
        ret.size = size_of_type(n->type);
        return ret;
    }
    if (n->macro == MACRO_ALL || n->macro == MACRO_EXISTS || n->macro == MACRO_EXISTS_ONE)
        ret.size = (struct cel_size){1, 1};
    ret.max = plus(plus(ret.max, 1), plus(range.max, times(range.size.max, step)));
    return ret;
}

/* -- calls ---------------------------------------------------------------------------------------- */

static bool named(struct cel_node *n, const char *const *names)
{
    for (; *names; names++)
        if (str_is(n->name, *names))
            return true;
    return false;
}

static struct cel_size size_of_element(struct cel_node *list)
{
    if (list->kind == NODE_LIST) {
        struct cel_size s = {UINT64_MAX, 0};

        for (size_t i = 0; i < list->n_args; i++)
            s = both(s, cost_of(list->args[i]).size);
        return list->n_args ? s : (struct cel_size){0, 0};
    }
    return list->type->elem ? size_of_type(list->type->elem) : unknown;
}

static struct cel_size size_of_replace(const struct cost *v)
{
    struct cel_size s = v[0].size, old = v[1].size, with = v[2].size, count = {0, 0}, kept = {0, 0};

    if (old.min == 0) {
        count.max = plus(s.max, 1);
        kept.max = s.max;
    } else if (with.max <= old.min) {
        kept.max = s.max;
    } else {
        count.max = s.max / old.min + (s.max % old.min != 0);
    }
    return (struct cel_size){0, plus(times(count.max, with.max), kept.max)};
}

/* Functions of libraries; false: not one of them. v[0] is the target where there is one. */
static bool cost_of_library(struct cel_node *n, const struct cost *v, size_t k, struct cost *ret)
{
    static const char *const lists[] = {"isSorted", "sum",         "max", "min",
                                        "indexOf",  "lastIndexOf", NULL};
    static const char *const texts[] = {"lowerAscii", "upperAscii", "substring", "trim", NULL};
    static const char *const parsers[] = {"url",    "isURL",    "cidr",     "isIP",
                                          "isCIDR", "ip",       "quantity", "isQuantity",
                                          "semver", "isSemver", NULL};
    struct cel_node *first = n->member ? n->target : k ? n->args[0] : NULL;

    if (named(n, lists) && k) {
        uint64_t each = 1;

        if (first->type->kind == CEL_STRING) {
            ret->max = tenth(v[0].size.max);
            return true;
        }
        if (first->type->elem
            && (first->type->elem->kind == CEL_STRING || first->type->elem->kind == CEL_BYTES))
            each = plus(each, tenth(size_of_element(first).max));
        ret->max = times(v[0].size.max, each);
        return true;
    }
    if (named(n, texts) && k) {
        ret->max = tenth(v[0].size.max);
        ret->size = (struct cel_size){0, v[0].size.max};
    } else if (str_is(n->name, "replace") && k >= 3) {
        ret->max = tenth(times(2, v[0].size.max));
        ret->size = size_of_replace(v);
    } else if (str_is(n->name, "split") && k >= 2) {
        ret->max = tenth(times(2, v[0].size.max));
        ret->size = (struct cel_size){0, v[0].size.max};
    } else if (str_is(n->name, "join") && k) {
        uint64_t items = v[0].size.max;

        ret->size = (struct cel_size){0, times(items, size_of_element(first).max)};
        if (k > 1)
            ret->size.max = plus(ret->size.max, times(v[1].size.max, items ? items - 1 : 0));
        ret->max = tenth(ret->size.max);
    } else if ((str_is(n->name, "find") || str_is(n->name, "findAll")) && k >= 2) {
        ret->max = times(tenth(plus(v[0].size.max, 1)), quarter(v[1].size.max));
        ret->size = (struct cel_size){0, v[0].size.max};
    } else if (named(n, parsers) && k && first->type->kind == CEL_STRING) {
        ret->max = tenth(v[0].size.max);
    } else {
        return false;
    }
    return true;
}

static bool is_comparison(struct cel_node *n)
{
    static const char *const names[] = {"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", NULL};

    return named(n, names);
}

static void cost_of_standard(struct cel_node *n, const struct cost *v, size_t k, struct cost *ret)
{
    if (is_comparison(n) && k == 2) {
        ret->max = tenth(smaller(v[0].size.max, v[1].size.max));
    } else if (str_is(n->name, "_+_") && k == 2 && n->type->kind != CEL_INT
               && n->type->kind != CEL_UINT && n->type->kind != CEL_DOUBLE) {
        ret->size = sum(v[0].size, v[1].size);
        ret->max =
            n->type->kind == CEL_STRING || n->type->kind == CEL_BYTES ? tenth(ret->size.max) : 1;
    } else if (str_is(n->name, "@in") && k == 2) {
        ret->max = n->args[1]->type->kind == CEL_MAP ? 1 : v[1].size.max;
    } else if (str_is(n->name, "matches") && k == 2) {
        ret->max = times(tenth(plus(v[0].size.max, 1)), quarter(v[1].size.max));
    } else if (str_is(n->name, "contains") && k == 2) {
        ret->max = times(tenth(v[0].size.max), tenth(v[1].size.max));
    } else if ((str_is(n->name, "startsWith") || str_is(n->name, "endsWith")) && k == 2) {
        ret->max = tenth(v[1].size.max);
    } else if (str_is(n->name, "format") && n->member && k == 2) {
        ret->max = tenth(v[0].size.max);
    } else if (str_is(n->name, "bytes") && k == 1) {
        ret->max = tenth(v[0].size.max);
        ret->size = (struct cel_size){v[0].size.min, times(4, v[0].size.max)};
    } else if (str_is(n->name, "string") && k == 1 && n->args[0]->type->kind == CEL_BYTES) {
        ret->max = tenth(v[0].size.max);
        ret->size = v[0].size;
    } else if (str_is(n->name, "string") && k == 1 && n->args[0]->type->kind != CEL_DYN
               && n->args[0]->type->kind != CEL_STRING) {
        ret->max = 1;
        ret->size = (struct cel_size){1, 64}; /* numbers, times, addresses */
    } else if (str_is(n->name, "strings.quote") && k == 1) {
        ret->max = tenth(v[0].size.max);
        ret->size = (struct cel_size){0, plus(2, times(2, v[0].size.max))};
    } else if (str_is(n->name, "dyn") && k == 1) {
        ret->max = 1;
        ret->size = v[0].size;
    } else {
        ret->max = 1;
    }
}

static struct cost cost_of_call(struct cel_node *n)
{
    struct cost v[8] = {{0}}, ret = {0};
    uint64_t args = 0;
    size_t k = 0;

    if (n->member)
        v[k++] = cost_of(n->target);
    for (size_t i = 0; i < n->n_args && k < ARRAY_SIZE(v); i++)
        v[k++] = cost_of(n->args[i]);
    for (size_t i = 0; i < k; i++)
        args = plus(args, v[i].max);
    if (str_is(n->name, "_&&_") || str_is(n->name, "_||_"))
        return (struct cost){args, {1, 1}};
    if (str_is(n->name, "_?_:_"))
        return (struct cost){plus(v[0].max, larger(v[1].max, v[2].max)),
                             both(v[1].size, v[2].size)};
    ret.size = size_of_type(n->type);
    if (!cost_of_library(n, v, k, &ret))
        cost_of_standard(n, v, k, &ret);
    ret.max = plus(ret.max, args);
    return ret;
}

/* -- the rest ------------------------------------------------------------------------------------- */

static struct cost cost_of_collection(struct cel_node *n)
{
    bool list = n->kind == NODE_LIST;
    struct cost ret = {list ? 10 : 30, {0, 0}};

    ret.size.min = ret.size.max = list ? n->n_args : n->n_args / 2;
    for (size_t i = 0; i < n->n_args; i++)
        ret.max = plus(ret.max, cost_of(n->args[i]).max);
    return ret;
}

static struct cost cost_of_literal(struct cel_node *n)
{
    size_t size = n->value.kind == CEL_STRING  ? cel_characters(n->value.s)
                  : n->value.kind == CEL_BYTES ? n->value.s.n
                                               : 1;

    return (struct cost){0, {size, size}};
}

static struct cost cost_of_node(struct cel_node *n)
{
    switch (n->kind) {
    case NODE_LITERAL:
        return cost_of_literal(n);
    case NODE_IDENT:
        return (struct cost){1, size_of_type(n->type)};
    case NODE_SELECT:
        return (struct cost){plus(cost_of(n->target).max, n->test ? 0 : 1), size_of_type(n->type)};
    case NODE_CALL:
        return cost_of_call(n);
    case NODE_LIST:
    case NODE_MAP:
        return cost_of_collection(n);
    case NODE_MACRO:
        return cost_of_macro(n);
    }
    return (struct cost){0, unknown};
}

/* Sizes are asked for more than once on the way up: each node is priced once. */
static struct cost cost_of(struct cel_node *n)
{
    if (!n->priced) {
        struct cost c = cost_of_node(n);

        n->cost = c.max;
        n->size = c.size;
        n->priced = true;
    }
    return (struct cost){n->cost, n->size};
}

uint64_t cel_estimate(struct cel_node *root)
{
    return cost_of(root).max;
}
