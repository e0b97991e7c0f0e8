/* cel/lib_list - lists, sets and optional values. */
#include "cel/internal.h"

#define FN(name)                                                                                   \
    static struct cel_value name(struct cel_run *r, const struct cel_node *call,                   \
                                 const struct cel_value *v, size_t n)
#define UNUSED ((void)r, (void)call, (void)v, (void)n)

/* Kubernetes' own: isSorted, sum, min, max, indexOf, lastIndexOf. */

FN(is_sorted)
{
    UNUSED;
    cel_charge(r, cel_len(&v[0]));
    for (size_t i = 1; i < cel_len(&v[0]); i++) {
        struct cel_value a = cel_item(&v[0], i - 1), b = cel_item(&v[0], i);
        int order = cel_compare(&a, &b);

        if (order == 2)
            return cel_no_overload(r);
        if (order == 1)
            return cel_v_bool(false);
    }
    return cel_v_bool(true);
}

static struct cel_value best(struct cel_run *r, const struct cel_value *list, int wanted,
                             const char *name)
{
    struct cel_value ret;

    cel_charge(r, cel_len(list));
    if (cel_len(list) == 0)
        return cel_fail(r, "%s called on empty list", name);
    ret = cel_item(list, 0);
    for (size_t i = 1; i < cel_len(list); i++) {
        struct cel_value x = cel_item(list, i);
        int order = cel_compare(&x, &ret);

        if (order == 2)
            return cel_no_overload(r);
        if (order == wanted)
            ret = x;
    }
    return ret;
}

FN(min_of)
{
    UNUSED;
    return best(r, &v[0], -1, "min");
}

FN(max_of)
{
    UNUSED;
    return best(r, &v[0], 1, "max");
}

static bool sum_step(struct cel_value *sum, const struct cel_value *x)
{
    if (sum->kind != x->kind)
        return false;
    if (x->kind == CEL_DOUBLE)
        sum->d += x->d;
    else if (x->kind == CEL_UINT)
        return !__builtin_add_overflow(sum->u, x->u, &sum->u);
    else
        return !__builtin_add_overflow(sum->i, x->i, &sum->i);
    return true;
}

FN(sum_of)
{
    const struct cel_type *t = call->target && call->target->type ? call->target->type->elem : NULL;
    struct cel_value sum = cel_v_int(0);

    UNUSED;
    cel_charge(r, cel_len(&v[0]));
    if (t && (t->kind == CEL_DOUBLE || t->kind == CEL_UINT || t->kind == CEL_DURATION))
        sum = (struct cel_value){.kind = (uint8_t)t->kind};
    for (size_t i = 0; i < cel_len(&v[0]); i++) {
        struct cel_value x = cel_item(&v[0], i);

        if (i == 0
            && (x.kind == CEL_INT || x.kind == CEL_DOUBLE || x.kind == CEL_UINT
                || x.kind == CEL_DURATION))
            sum = (struct cel_value){.kind = x.kind};
        if (sum.kind != x.kind)
            return cel_no_overload(r);
        if (!sum_step(&sum, &x))
            return cel_fail(r, "%s overflow", x.kind == CEL_UINT ? "unsigned integer" : "integer");
    }
    return sum;
}

FN(index_in_list)
{
    UNUSED;
    cel_charge(r, cel_len(&v[0]));
    for (size_t i = 0; i < cel_len(&v[0]) && !r->stop; i++) {
        struct cel_value x = cel_item(&v[0], i);

        if (cel_equal(r, &x, &v[1]))
            return cel_v_int((int64_t)i);
    }
    return cel_v_int(-1);
}

FN(last_index_in_list)
{
    UNUSED;
    cel_charge(r, cel_len(&v[0]));
    for (size_t i = cel_len(&v[0]); i > 0 && !r->stop; i--) {
        struct cel_value x = cel_item(&v[0], i - 1);

        if (cel_equal(r, &x, &v[1]))
            return cel_v_int((int64_t)i - 1);
    }
    return cel_v_int(-1);
}

/* Sets. */

static bool has(struct cel_run *r, const struct cel_value *list, const struct cel_value *x)
{
    for (size_t i = 0; i < cel_len(list) && !r->stop; i++) {
        struct cel_value y = cel_item(list, i);

        cel_charge(r, 1);
        if (cel_equal(r, x, &y))
            return true;
    }
    return false;
}

static bool has_all(struct cel_run *r, const struct cel_value *list, const struct cel_value *others)
{
    for (size_t i = 0; i < cel_len(others) && !r->stop; i++) {
        struct cel_value x = cel_item(others, i);

        if (!has(r, list, &x))
            return false;
    }
    return true;
}

FN(sets_contains)
{
    UNUSED;
    return cel_v_bool(has_all(r, &v[0], &v[1]));
}

FN(sets_equivalent)
{
    UNUSED;
    return cel_v_bool(has_all(r, &v[0], &v[1]) && has_all(r, &v[1], &v[0]));
}

FN(sets_intersects)
{
    UNUSED;
    for (size_t i = 0; i < cel_len(&v[0]) && !r->stop; i++) {
        struct cel_value x = cel_item(&v[0], i);

        if (has(r, &v[1], &x))
            return cel_v_bool(true);
    }
    return cel_v_bool(false);
}

/* Optional values. */

FN(optional_some)
{
    UNUSED;
    return cel_v_some(r, v[0]);
}

FN(optional_none)
{
    UNUSED;
    return cel_v_none();
}

static bool is_zero(const struct cel_value *v)
{
    switch (v->kind) {
    case CEL_NULL:
        return true;
    case CEL_BOOL:
        return !v->b;
    case CEL_INT:
    case CEL_DURATION:
        return v->i == 0;
    case CEL_UINT:
        return v->u == 0;
    case CEL_DOUBLE:
        return v->d == 0;
    case CEL_STRING:
    case CEL_BYTES:
        return v->s.n == 0;
    case CEL_LIST:
    case CEL_MAP:
    case CEL_OBJECT:
        return cel_len(v) == 0;
    case CEL_OPTIONAL:
        return !v->some;
    default:
        return false;
    }
}

FN(optional_non_zero)
{
    UNUSED;
    return is_zero(&v[0]) ? cel_v_none() : cel_v_some(r, v[0]);
}

FN(optional_has)
{
    UNUSED;
    return cel_v_bool(v[0].some != NULL);
}

FN(optional_value)
{
    UNUSED;
    return v[0].some ? *v[0].some : cel_fail(r, "optional.none() dereference");
}

FN(optional_or)
{
    UNUSED;
    return v[0].some ? v[0] : v[1];
}

FN(optional_or_value)
{
    UNUSED;
    return v[0].some ? *v[0].some : v[1];
}

FN(list_end)
{
    size_t len = cel_len(&v[0]);

    UNUSED;
    return len ? cel_v_some(r, cel_item(&v[0], str_is(call->name, "first") ? 0 : len - 1))
               : cel_v_none();
}

/* The values of those that have one. */
FN(unwrap)
{
    struct cel_items l = {0};

    UNUSED;
    cel_charge(r, cel_len(&v[0]));
    for (size_t i = 0; i < cel_len(&v[0]) && !r->stop; i++) {
        struct cel_value x = cel_item(&v[0], i);

        if (x.kind != CEL_OPTIONAL)
            return cel_no_overload(r);
        if (x.some)
            cel_items_add(r, &l, *x.some);
    }
    return cel_v_list(l.p, l.n);
}

#define NUMBERS(name, fn)                                                                          \
    {name, "[i:i", true, fn}, {name, "[u:u", true, fn}, {name, "[d:d", true, fn},                  \
    {                                                                                              \
        name, "[r:r", true, fn                                                                     \
    }
#define ORDERED(name, fn)                                                                          \
    NUMBERS(name, fn), {name, "[s:s", true, fn}, {name, "[b:b", true, fn},                         \
        {name, "[y:y", true, fn},                                                                  \
    {                                                                                              \
        name, "[t:t", true, fn                                                                     \
    }
static const struct cel_overload lists[] = {
    {"isSorted", "[i:b", true, is_sorted},
    {"isSorted", "[u:b", true, is_sorted},
    {"isSorted", "[d:b", true, is_sorted},
    {"isSorted", "[b:b", true, is_sorted},
    {"isSorted", "[r:b", true, is_sorted},
    {"isSorted", "[t:b", true, is_sorted},
    {"isSorted", "[s:b", true, is_sorted},
    {"isSorted", "[y:b", true, is_sorted},
    NUMBERS("sum", sum_of),
    ORDERED("min", min_of),
    ORDERED("max", max_of),
    {"indexOf", "[AA:i", true, index_in_list},
    {"lastIndexOf", "[AA:i", true, last_index_in_list},
    {"sets.contains", "[A[A:b", false, sets_contains},
    {"sets.equivalent", "[A[A:b", false, sets_equivalent},
    {"sets.intersects", "[A[A:b", false, sets_intersects},
    {"optional.of", "A:?A", false, optional_some},
    {"optional.none", ":?*", false, optional_none},
    {"optional.ofNonZeroValue", "A:?A", false, optional_non_zero},
    {"optional.unwrap", "[?A:[A", false, unwrap},
    {"unwrapOpt", "[?A:[A", true, unwrap},
    {"first", "[A:?A", true, list_end},
    {"last", "[A:?A", true, list_end},
    {"hasValue", "?A:b", true, optional_has},
    {"value", "?A:A", true, optional_value},
    {"or", "?A?A:?A", true, optional_or},
    {"orValue", "?AA:A", true, optional_or_value},
};
const struct cel_library cel_lib_list = {lists, ARRAY_SIZE(lists)};
