/* cel/lib_core - the operators and conversions of the language itself. */
#include "cel/internal.h"

#include <math.h>

#define FN(name)                                                                                   \
    static struct cel_value name(struct cel_run *r, const struct cel_node *call,                   \
                                 const struct cel_value *v, size_t n)
#define UNUSED ((void)r, (void)call, (void)v, (void)n)

static struct cel_value int_overflow(struct cel_run *r)
{
    return cel_fail(r, "integer overflow");
}
static struct cel_value uint_overflow(struct cel_run *r)
{
    return cel_fail(r, "unsigned integer overflow");
}

/* -- arithmetic ----------------------------------------------------------------------------------- */

FN(add_ints)
{
    int64_t i;

    UNUSED;
    return __builtin_add_overflow(v[0].i, v[1].i, &i) ? int_overflow(r) : cel_v_int(i);
}

FN(sub_ints)
{
    int64_t i;

    UNUSED;
    return __builtin_sub_overflow(v[0].i, v[1].i, &i) ? int_overflow(r) : cel_v_int(i);
}

FN(mul_ints)
{
    int64_t i;

    UNUSED;
    return __builtin_mul_overflow(v[0].i, v[1].i, &i) ? int_overflow(r) : cel_v_int(i);
}

FN(div_ints)
{
    UNUSED;
    if (v[1].i == 0)
        return cel_fail(r, "division by zero");
    if (v[0].i == INT64_MIN && v[1].i == -1)
        return int_overflow(r);
    return cel_v_int(v[0].i / v[1].i);
}

FN(mod_ints)
{
    UNUSED;
    if (v[1].i == 0)
        return cel_fail(r, "modulus by zero");
    if (v[0].i == INT64_MIN && v[1].i == -1)
        return int_overflow(r);
    return cel_v_int(v[0].i % v[1].i);
}

FN(add_uints)
{
    uint64_t u;

    UNUSED;
    return __builtin_add_overflow(v[0].u, v[1].u, &u) ? uint_overflow(r) : cel_v_uint(u);
}

FN(sub_uints)
{
    uint64_t u;

    UNUSED;
    return __builtin_sub_overflow(v[0].u, v[1].u, &u) ? uint_overflow(r) : cel_v_uint(u);
}

FN(mul_uints)
{
    uint64_t u;

    UNUSED;
    return __builtin_mul_overflow(v[0].u, v[1].u, &u) ? uint_overflow(r) : cel_v_uint(u);
}

FN(div_uints)
{
    UNUSED;
    return v[1].u == 0 ? cel_fail(r, "division by zero") : cel_v_uint(v[0].u / v[1].u);
}

FN(mod_uints)
{
    UNUSED;
    return v[1].u == 0 ? cel_fail(r, "modulus by zero") : cel_v_uint(v[0].u % v[1].u);
}

FN(add_doubles)
{
    UNUSED;
    return cel_v_double(v[0].d + v[1].d);
}

FN(sub_doubles)
{
    UNUSED;
    return cel_v_double(v[0].d - v[1].d);
}

FN(mul_doubles)
{
    UNUSED;
    return cel_v_double(v[0].d * v[1].d);
}

__attribute__((no_sanitize("float-divide-by-zero"))) FN(div_doubles)
{
    UNUSED;
    return cel_v_double(v[0].d / v[1].d);
}

FN(neg_int)
{
    UNUSED;
    return v[0].i == INT64_MIN ? int_overflow(r) : cel_v_int(-v[0].i);
}

FN(neg_double)
{
    UNUSED;
    return cel_v_double(-v[0].d);
}

FN(not_bool)
{
    UNUSED;
    return cel_v_bool(!v[0].b);
}

FN(add_texts)
{
    char *p;
    size_t total = v[0].s.n + v[1].s.n;
    struct cel_value ret = v[0];

    UNUSED;
    cel_charge_text(r, total);
    if (r->stop)
        return cel_fail(r, "out of budget");
    p = arena_alloc_bytes(r->a, total + 1);
    if (v[0].s.n)
        memcpy(p, v[0].s.p, v[0].s.n);
    if (v[1].s.n)
        memcpy(p + v[0].s.n, v[1].s.p, v[1].s.n);
    p[total] = '\0';
    ret.s = str_n(p, total);
    return ret;
}

static bool contains(struct cel_run *r, const struct cel_items *l, const struct cel_value *x)
{
    for (size_t i = 0; i < l->n && !r->stop; i++)
        if (cel_equal(r, &l->p[i], x))
            return true;
    return false;
}

/* Whether the keys of a list of type map are the same in both. */
static bool same_entry(struct cel_run *r, const struct cel_value *a, const struct cel_value *b,
                       const char *const *keys)
{
    for (; *keys; keys++) {
        struct cel_value x = cel_of_json(a->lazy ? json_get(a->json, *keys) : NULL, NULL);
        struct cel_value y = cel_of_json(b->lazy ? json_get(b->json, *keys) : NULL, NULL);

        if (!cel_equal(r, &x, &y))
            return false;
    }
    return true;
}

/* Plain lists are put together; sets take what is new; in maps the right side replaces entries with the same keys. */
FN(add_lists)
{
    const struct cel_type *t = v[0].lazy ? v[0].type : NULL;
    struct cel_items l = {0};

    UNUSED;
    cel_charge(r, (cel_len(&v[0]) + cel_len(&v[1])) / 4);
    for (size_t i = 0; i < cel_len(&v[0]) && !r->stop; i++) {
        cel_items_add(r, &l, cel_item(&v[0], i));
        cel_charge(r, 0); /* looks at the memory */
    }
    for (size_t i = 0; i < cel_len(&v[1]) && !r->stop; i++) {
        struct cel_value x = cel_item(&v[1], i);
        size_t k = l.n;

        cel_charge(r, 0);
        if (t && t->list == CEL_LIST_SET && contains(r, &l, &x))
            continue;
        if (t && t->list == CEL_LIST_MAP && t->list_keys && cel_is_map(&x))
            for (k = 0;
                 k < l.n && !(cel_is_map(&l.p[k]) && same_entry(r, &l.p[k], &x, t->list_keys)); k++)
                cel_charge(r, 1);
        if (k < l.n)
            l.p[k] = x;
        else
            cel_items_add(r, &l, x);
    }
    return cel_v_list(l.p, l.n);
}

/* -- order, equality, membership ------------------------------------------------------------------ */

static struct cel_value ordered(struct cel_run *r, const struct cel_value *v, bool less, bool same,
                                bool greater)
{
    int order = cel_compare(&v[0], &v[1]);

    if (v[0].kind == CEL_STRING || v[0].kind == CEL_BYTES)
        cel_charge_text(r, v[0].s.n < v[1].s.n ? v[0].s.n : v[1].s.n);
    if (order == 2)
        return cel_no_overload(r);
    if (order == 3)
        return cel_fail(r, "NaN values cannot be ordered");
    return cel_v_bool(order < 0 ? less : order > 0 ? greater : same);
}

FN(less)
{
    UNUSED;
    return ordered(r, v, true, false, false);
}

FN(less_equal)
{
    UNUSED;
    return ordered(r, v, true, true, false);
}

FN(greater)
{
    UNUSED;
    return ordered(r, v, false, false, true);
}

FN(greater_equal)
{
    UNUSED;
    return ordered(r, v, false, true, true);
}

FN(equal)
{
    UNUSED;
    return cel_v_bool(cel_equal(r, &v[0], &v[1]));
}

FN(not_equal)
{
    UNUSED;
    return cel_v_bool(!cel_equal(r, &v[0], &v[1]));
}

FN(in_list)
{
    UNUSED;
    cel_charge(r, cel_len(&v[1]));
    for (size_t i = 0; i < cel_len(&v[1]) && !r->stop; i++) {
        struct cel_value x = cel_item(&v[1], i);

        if (cel_equal(r, &x, &v[0]))
            return cel_v_bool(true);
    }
    return cel_v_bool(false);
}

FN(in_map)
{
    struct cel_value x;

    UNUSED;
    cel_charge(r, cel_len(&v[1]) / 32);
    return cel_v_bool(cel_lookup(r, &v[1], &v[0], &x));
}

FN(size_text)
{
    UNUSED;
    if (v[0].kind == CEL_BYTES)
        return cel_v_int((int64_t)v[0].s.n);
    cel_charge(r, v[0].s.n / 100);
    return cel_v_int((int64_t)cel_characters(v[0].s));
}

FN(size_container)
{
    UNUSED;
    return cel_v_int((int64_t)cel_len(&v[0]));
}

/* -- conversions ---------------------------------------------------------------------------------- */

FN(same)
{
    UNUSED;
    return v[0];
}

FN(to_type)
{
    UNUSED;
    return cel_v_type(cel_type_of(&v[0]));
}

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

FN(to_int)
{
    AUTO(error_clear) struct error err = {0};
    struct str s;
    int64_t i;

    UNUSED;
    switch (v[0].kind) {
    case CEL_UINT:
        return v[0].u > INT64_MAX ? int_overflow(r) : cel_v_int((int64_t)v[0].u);
    case CEL_DOUBLE:
        if (!(v[0].d > -9223372036854775808.0 && v[0].d < 9223372036854775808.0))
            return int_overflow(r);
        return cel_v_int((int64_t)v[0].d);
    case CEL_TIMESTAMP:
        return cel_v_int(v[0].time.sec);
    case CEL_DURATION:
        return cel_v_int(v[0].i);
    case CEL_STRING:
        s = v[0].s;
        if (s.n > 1 && s.p[0] == '+' && s.p[1] != '-')
            s = str_skip(s, 1);
        if (!parse_i64(s, INT64_MIN, INT64_MAX, &i, &err)) {
            bool range = all_digits(s.n && s.p[0] == '-' ? str_skip(s, 1) : s);

            return cel_fail(r, "strconv.ParseInt: parsing \"" STR_FMT "\": %s", STR_ARG(v[0].s),
                            range ? "value out of range" : "invalid syntax");
        }
        return cel_v_int(i);
    default:
        return v[0];
    }
}

FN(to_uint)
{
    AUTO(error_clear) struct error err = {0};
    uint64_t u;

    UNUSED;
    switch (v[0].kind) {
    case CEL_INT:
        return v[0].i < 0 ? uint_overflow(r) : cel_v_uint((uint64_t)v[0].i);
    case CEL_DOUBLE:
        if (!(v[0].d > -1.0 && v[0].d < 18446744073709551616.0))
            return uint_overflow(r);
        return cel_v_uint(v[0].d < 0 ? 0 : (uint64_t)v[0].d);
    case CEL_STRING:
        if (!parse_u64(v[0].s, UINT64_MAX, &u, &err))
            return cel_fail(r, "strconv.ParseUint: parsing \"" STR_FMT "\": %s", STR_ARG(v[0].s),
                            all_digits(v[0].s) ? "value out of range" : "invalid syntax");
        return cel_v_uint(u);
    default:
        return v[0];
    }
}

FN(to_double)
{
    double d;

    UNUSED;
    switch (v[0].kind) {
    case CEL_INT:
        return cel_v_double((double)v[0].i);
    case CEL_UINT:
        return cel_v_double((double)v[0].u);
    case CEL_STRING:
        if (!cel_parse_double(v[0].s, &d))
            return cel_fail(r, "strconv.ParseFloat: parsing \"" STR_FMT "\": invalid syntax",
                            STR_ARG(v[0].s));
        return cel_v_double(d);
    default:
        return v[0];
    }
}

FN(to_bool)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};

    UNUSED;
    if (v[0].kind == CEL_BOOL)
        return v[0];
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (str_is(v[0].s, yes[i]))
            return cel_v_bool(true);
        if (str_is(v[0].s, no[i]))
            return cel_v_bool(false);
    }
    return cel_fail(r, "strconv.ParseBool: parsing \"" STR_FMT "\": invalid syntax",
                    STR_ARG(v[0].s));
}

FN(to_string)
{
    UNUSED;
    switch (v[0].kind) {
    case CEL_INT:
        return cel_v_str(str_of(arena_printf(r->a, "%lld", (long long)v[0].i)));
    case CEL_UINT:
        return cel_v_str(str_of(arena_printf(r->a, "%llu", (unsigned long long)v[0].u)));
    case CEL_DOUBLE:
        return cel_v_str(cel_double_text(r->a, v[0].d));
    case CEL_BOOL:
        return cel_v_str(v[0].b ? STR("true") : STR("false"));
    case CEL_BYTES:
        cel_charge_text(r, v[0].s.n);
        if (!str_valid_utf8(v[0].s))
            return cel_fail(r, "invalid UTF-8 in bytes, cannot convert to string");
        return cel_v_str(v[0].s);
    case CEL_TIMESTAMP:
        return cel_v_str(cel_timestamp_text(r->a, &v[0]));
    case CEL_DURATION:
        return cel_v_str(cel_duration_text(r->a, &v[0]));
    default:
        return v[0];
    }
}

FN(to_bytes)
{
    struct cel_value ret = v[0];

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    ret.kind = CEL_BYTES;
    return ret;
}

static const struct cel_overload core[] = {
    {"_?_:_", "bAA:A", false, same}, /* evaluated by the walker, as are && and || */
    {"_&&_", "bb:b", false, same},
    {"_||_", "bb:b", false, same},
    {"_[_]", "[Ai:A", false, same},
    {"_[_]", "{ABA:B", false, same},
    {"!_", "b:b", false, not_bool},
    {"-_", "i:i", false, neg_int},
    {"-_", "d:d", false, neg_double},
    {"_==_", "AA:b", false, equal},
    {"_!=_", "AA:b", false, not_equal},
    {"@in", "A[A:b", false, in_list},
    {"@in", "A{AB:b", false, in_map},
    {"_+_", "ii:i", false, add_ints},
    {"_+_", "uu:u", false, add_uints},
    {"_+_", "dd:d", false, add_doubles},
    {"_+_", "ss:s", false, add_texts},
    {"_+_", "yy:y", false, add_texts},
    {"_+_", "[A[A:[A", false, add_lists},
    {"_-_", "ii:i", false, sub_ints},
    {"_-_", "uu:u", false, sub_uints},
    {"_-_", "dd:d", false, sub_doubles},
    {"_*_", "ii:i", false, mul_ints},
    {"_*_", "uu:u", false, mul_uints},
    {"_*_", "dd:d", false, mul_doubles},
    {"_/_", "ii:i", false, div_ints},
    {"_/_", "uu:u", false, div_uints},
    {"_/_", "dd:d", false, div_doubles},
    {"_%_", "ii:i", false, mod_ints},
    {"_%_", "uu:u", false, mod_uints},
#define ORDER(name, fn)                                                                            \
    {name, "ii:b", false, fn}, {name, "uu:b", false, fn}, {name, "dd:b", false, fn},               \
        {name, "ss:b", false, fn}, {name, "yy:b", false, fn}, {name, "bb:b", false, fn},           \
        {name, "tt:b", false, fn}, {name, "rr:b", false, fn}, {name, "iu:b", false, fn},           \
        {name, "id:b", false, fn}, {name, "ui:b", false, fn}, {name, "ud:b", false, fn},           \
        {name, "di:b", false, fn},                                                                 \
    {                                                                                              \
        name, "du:b", false, fn                                                                    \
    }
    ORDER("_<_", less),
    ORDER("_<=_", less_equal),
    ORDER("_>_", greater),
    ORDER("_>=_", greater_equal),
    {"size", "s:i", false, size_text},
    {"size", "y:i", false, size_text},
    {"size", "[A:i", false, size_container},
    {"size", "{AB:i", false, size_container},
    {"size", "s:i", true, size_text},
    {"size", "y:i", true, size_text},
    {"size", "[A:i", true, size_container},
    {"size", "{AB:i", true, size_container},
    {"type", "*:T", false, to_type},
    {"dyn", "*:*", false, same},
    {"int", "i:i", false, same},
    {"int", "u:i", false, to_int},
    {"int", "d:i", false, to_int},
    {"int", "s:i", false, to_int},
    {"int", "t:i", false, to_int},
    {"int", "r:i", false, to_int},
    {"uint", "u:u", false, same},
    {"uint", "i:u", false, to_uint},
    {"uint", "d:u", false, to_uint},
    {"uint", "s:u", false, to_uint},
    {"double", "d:d", false, same},
    {"double", "i:d", false, to_double},
    {"double", "u:d", false, to_double},
    {"double", "s:d", false, to_double},
    {"bool", "b:b", false, same},
    {"bool", "s:b", false, to_bool},
    {"string", "s:s", false, same},
    {"string", "i:s", false, to_string},
    {"string", "u:s", false, to_string},
    {"string", "d:s", false, to_string},
    {"string", "b:s", false, to_string},
    {"string", "y:s", false, to_string},
    {"string", "t:s", false, to_string},
    {"string", "r:s", false, to_string},
    {"bytes", "y:y", false, same},
    {"bytes", "s:y", false, to_bytes},
};
const struct cel_library cel_lib_core = {core, ARRAY_SIZE(core)};

const struct cel_library *cel_library_at(size_t i)
{
    static const struct cel_library *const all[CEL_LIBRARIES] = {
        &cel_lib_core, &cel_lib_string, &cel_lib_list, &cel_lib_time, &cel_lib_k8s, &cel_lib_net};

    return all[i];
}

bool cel_function_absent(struct str name)
{
    static const char *const names[] = {"image",      "isImage", "registry", "repository",
                                        "identifier", "tag",     "digest",   "containsDigest"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (str_is(name, names[i]))
            return true;
    return false;
}
