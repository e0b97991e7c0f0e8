/* cel/format - "%s and %d".format([a, b]) as the strings extension has it. */
#include "cel/internal.h"

#include <math.h>

#define PRECISION_MAX 1000
#define DEPTH_MAX 32

static bool value_text(struct cel_run *r, struct buf *b, const struct cel_value *v, int depth);

static bool container_text(struct cel_run *r, struct buf *b, const struct cel_value *v, int depth)
{
    bool map = cel_is_map(v);

    buf_addc(b, map ? '{' : '[');
    for (size_t i = 0; i < cel_len(v) && !r->stop; i++) {
        struct cel_value key, value;

        cel_charge(r, 1);
        if (i)
            buf_adds(b, ", ");
        if (map) {
            cel_member(v, i, &key, &value);
            if (!value_text(r, b, &key, depth + 1))
                return false;
            buf_adds(b, ": ");
        } else {
            value = cel_item(v, i);
        }
        if (!value_text(r, b, &value, depth + 1))
            return false;
    }
    buf_addc(b, map ? '}' : ']');
    return true;
}

/* %s */
static bool value_text(struct cel_run *r, struct buf *b, const struct cel_value *v, int depth)
{
    if (depth > DEPTH_MAX)
        return false;
    switch ((enum cel_kind)v->kind) {
    case CEL_NULL:
        buf_adds(b, "null");
        return true;
    case CEL_BOOL:
        buf_adds(b, v->b ? "true" : "false");
        return true;
    case CEL_INT:
        buf_addf(b, "%lld", (long long)v->i);
        return true;
    case CEL_UINT:
        buf_addf(b, "%llu", (unsigned long long)v->u);
        return true;
    case CEL_DOUBLE:
        buf_addstr(b, cel_double_text(r->a, v->d));
        return true;
    case CEL_STRING:
    case CEL_BYTES:
    case CEL_URL:
        cel_charge_text(r, v->s.n);
        buf_addstr(b, v->s);
        return true;
    case CEL_LIST:
    case CEL_MAP:
    case CEL_OBJECT:
        return container_text(r, b, v, depth);
    case CEL_TIMESTAMP:
        buf_addstr(b, cel_timestamp_text(r->a, v));
        return true;
    case CEL_DURATION:
        buf_addstr(b, cel_duration_text(r->a, v));
        return true;
    case CEL_TYPE:
        buf_adds(b, cel_type_word(v->t));
        return true;
    case CEL_DYN:
    case CEL_OPTIONAL:
    case CEL_QUANTITY:
    case CEL_IP:
    case CEL_CIDR:
    case CEL_FORMAT:
    case CEL_SEMVER:
    case CEL_ERROR:
        return false;
    }
    return false;
}

static bool whole(struct buf *b, const struct cel_value *v, unsigned base, bool upper)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    uint64_t u = v->kind == CEL_INT    ? (v->i < 0 ? 0 - (uint64_t)v->i : (uint64_t)v->i)
                 : v->kind == CEL_BOOL ? v->b
                                       : v->u;
    char text[72];
    size_t n = sizeof text;

    if (v->kind != CEL_INT && v->kind != CEL_UINT && !(v->kind == CEL_BOOL && base == 2))
        return false;
    do
        text[--n] = digits[u % base];
    while (u /= base);
    if (v->kind == CEL_INT && v->i < 0)
        buf_addc(b, '-');
    buf_add(b, text + n, sizeof text - n);
    return true;
}

static bool hex(struct cel_run *r, struct buf *b, const struct cel_value *v, bool upper)
{
    if (v->kind != CEL_STRING && v->kind != CEL_BYTES)
        return whole(b, v, 16, upper);
    cel_charge_text(r, 2 * v->s.n);
    for (size_t i = 0; i < v->s.n; i++)
        buf_addf(b, upper ? "%02X" : "%02x", (unsigned char)v->s.p[i]);
    return true;
}

static bool real(struct buf *b, const struct cel_value *v, int precision, bool scientific)
{
    double d = v->kind == CEL_DOUBLE ? v->d : v->kind == CEL_INT ? (double)v->i : (double)v->u;

    if (v->kind != CEL_DOUBLE && v->kind != CEL_INT && v->kind != CEL_UINT)
        return false;
    if (isnan(d) || isinf(d))
        buf_adds(b, isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity");
    else if (scientific)
        buf_addf(b, "%.*e", precision, d);
    else
        buf_addf(b, "%.*f", precision, d);
    return true;
}

static bool clause(struct cel_run *r, struct buf *b, char verb, int precision,
                   const struct cel_value *v)
{
    switch (verb) {
    case 's':
        return value_text(r, b, v, 0);
    case 'd':
        if (v->kind == CEL_DOUBLE) {
            buf_addstr(b, cel_double_text(r->a, v->d));
            return true;
        }
        return whole(b, v, 10, false);
    case 'b':
        return whole(b, v, 2, false);
    case 'o':
        return whole(b, v, 8, false);
    case 'x':
    case 'X':
        return hex(r, b, v, verb == 'X');
    case 'f':
    case 'e':
        return real(b, v, precision < 0 ? 6 : precision, verb == 'e');
    default:
        return false;
    }
}

/* "%.3f": behind the '%'; the verb is left at *at. */
static bool read_precision(struct str f, size_t *at, int *ret)
{
    *ret = -1;
    if (*at >= f.n || f.p[*at] != '.')
        return true;
    *ret = 0;
    for ((*at)++; *at < f.n && f.p[*at] >= '0' && f.p[*at] <= '9'; (*at)++)
        if ((*ret = *ret * 10 + (f.p[*at] - '0')) > PRECISION_MAX)
            return false;
    return true;
}

struct cel_value cel_format_string(struct cel_run *r, struct str f, const struct cel_value *args)
{
    AUTO(buf_done) struct buf b = {.limit = LIMIT_CEL_MEMORY};
    size_t next = 0;

    for (size_t i = 0; i < f.n && !r->stop; i++) {
        struct cel_value v;
        int precision;

        if (f.p[i] != '%') {
            buf_addc(&b, f.p[i]);
            continue;
        }
        i++;
        if (i < f.n && f.p[i] == '%') {
            buf_addc(&b, '%');
            continue;
        }
        if (!read_precision(f, &i, &precision) || i >= f.n)
            return cel_fail(r,
                            "could not parse formatting clause: unexpected end of format string");
        if (!strchr("sdfebxXo", f.p[i]))
            return cel_fail(
                r, "could not parse formatting clause: unrecognized formatting clause \"%c\"",
                f.p[i]);
        if (next >= cel_len(args))
            return cel_fail(r, "index %zu out of range", next);
        v = cel_item(args, next++);
        if (!clause(r, &b, f.p[i], precision, &v))
            return cel_fail(
                r, "error during formatting: no formatting function for %s with clause \"%c\"",
                cel_type_word(cel_type_of(&v)), f.p[i]);
    }
    if (b.overflow)
        r->stop = true;
    return cel_v_str(arena_str(r->a, b.n ? buf_str(&b) : STR("")));
}
