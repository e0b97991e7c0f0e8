#include "api/quantity.h"

#include "base/cleanup.h"

#define NANO ((__int128)1000000000)
#define INT128_MAX ((__int128)(((unsigned __int128)1 << 127) - 1))

#define WRONG_FORMAT                                                                                \
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
#define WRONG_SUFFIX "unable to parse quantity's suffix"
#define WRONG_NUMBER "unable to parse numeric part of quantity"

struct pieces { /* views of the text */
    bool negative;
    struct str whole, fraction, suffix;
};

static bool digit(char c) { return c >= '0' && c <= '9'; }

static struct str take_digits(struct str *rest)
{
    size_t n = 0;
    struct str ret;

    while (n < rest->n && digit(rest->p[n]))
        n++;
    ret = str_take(*rest, n);
    *rest = str_skip(*rest, n);
    return ret;
}

static bool split(struct str text, struct pieces *ret)
{
    struct str rest = text;
    size_t n = 0;

    *ret = (struct pieces){0};
    if (rest.n && (rest.p[0] == '+' || rest.p[0] == '-')) {
        ret->negative = rest.p[0] == '-';
        rest = str_skip(rest, 1);
    }
    ret->whole = take_digits(&rest);
    if (rest.n && rest.p[0] == '.') {
        rest = str_skip(rest, 1);
        ret->fraction = take_digits(&rest);
    }
    ret->suffix = rest;
    while (n < rest.n && memchr("eEinumkKMGTP", rest.p[n], 12))
        n++;
    if (n < rest.n && (rest.p[n] == '+' || rest.p[n] == '-'))
        n++;
    while (n < rest.n && digit(rest.p[n]))
        n++;
    return n == rest.n;
}

/* base is 10 or 2 */
static bool read_suffix(struct str s, int *base, int *exponent, enum quantity_format *format)
{
    static const char decimal[] = "num kMGTPE", binary[] = "KMGTPE";
    struct error err = {0};
    int64_t e;
    bool ok;

    *base = 10;
    *format = QUANTITY_DECIMAL_SI;
    *exponent = 0;
    if (s.n == 0)
        return true;
    if (s.n == 1 && s.p[0] != ' ' && strchr(decimal, s.p[0]) && s.p[0]) {
        *exponent = (int)(strchr(decimal, s.p[0]) - decimal) * 3 - 9;
        return true;
    }
    if (s.n == 2 && s.p[1] == 'i' && s.p[0] && strchr(binary, s.p[0])) {
        *base = 2;
        *exponent = (int)(strchr(binary, s.p[0]) - binary + 1) * 10;
        *format = QUANTITY_BINARY_SI;
        return true;
    }
    if (s.n < 2 || (s.p[0] != 'e' && s.p[0] != 'E'))
        return false;
    s = str_skip(s, 1);
    if (s.p[0] == '+') {
        s = str_skip(s, 1);
        if (!s.n || !digit(s.p[0]))
            return false;
    }
    ok = parse_i64(s, -1000000, 1000000, &e, &err);
    error_clear(&err);
    *exponent = (int)e * ok;
    *format = QUANTITY_DECIMAL_EXPONENT;
    return ok;
}

static bool times(__int128 *v, __int128 by) { return !__builtin_mul_overflow(*v, by, v); }

/* The number × base^exponent in nanos, rounded up; false on overflow. The fraction is worked off from its last digit,
 * so that nothing in between is larger than one unit. */
static bool scale(const struct pieces *p, int base, int exponent, __int128 *ret)
{
    __int128 unit = 1, v = 0, below = 0;
    int shift = base == 10 ? exponent + 9 : 9, down = shift < 0 ? -shift : 0;
    bool lost = false;

    if (p->whole.n == 0 && p->fraction.n == 0) {
        *ret = 0;
        return true;
    }
    for (; shift > 0; shift--)
        if (!times(&unit, 10))
            return false;
    if (base == 2 && !times(&unit, (__int128)1 << exponent))
        return false;
    for (size_t i = 0; i < p->whole.n; i++)
        if (!times(&v, 10) || __builtin_add_overflow(v, p->whole.p[i] - '0', &v))
            return false;
    if (!times(&v, unit))
        return false;
    for (size_t i = p->fraction.n; i-- > 0;) {
        __int128 d = p->fraction.p[i] - '0';

        if (!times(&d, unit) || __builtin_add_overflow(below, d, &below))
            return false;
        lost |= below % 10 != 0;
        below /= 10;
    }
    if (__builtin_add_overflow(v, below, &v))
        return false;
    for (; down > 0 && v; down--) {
        lost |= v % 10 != 0;
        v /= 10;
    }
    return !__builtin_add_overflow(v, (__int128)lost, ret);
}

bool quantity_parse(struct str text, struct quantity *ret, struct error *err)
{
    struct pieces p;
    struct quantity q = {0};
    int base, exponent;
    bool fits;

    if (text.n == 0 || text.n > 4096 || !split(text, &p))
        return error_set(err, ERROR_INVALID, WRONG_FORMAT);
    if (!read_suffix(p.suffix, &base, &exponent, &q.format))
        return error_set(err, ERROR_INVALID, WRONG_SUFFIX);
    while (p.whole.n && p.whole.p[0] == '0')
        p.whole = str_skip(p.whole, 1);
    while (p.fraction.n && p.fraction.p[p.fraction.n - 1] == '0')
        p.fraction.n--;
    fits = scale(&p, base, exponent, &q.nano);
    if (q.format == QUANTITY_BINARY_SI && (!fits || q.nano > INT64_MAX * NANO))
        q.nano = INT64_MAX * NANO;
    else if (!fits)
        return error_set(err, ERROR_INVALID, WRONG_NUMBER);
    if (q.format == QUANTITY_BINARY_SI && q.nano > 0 && q.nano < NANO)
        q.format = QUANTITY_DECIMAL_SI;
    if (p.negative)
        q.nano = -q.nano;
    *ret = q;
    return true;
}

struct quantity quantity_of(int64_t units, enum quantity_format format)
{
    return (struct quantity){units * NANO, format};
}

int quantity_cmp(struct quantity a, struct quantity b) { return (a.nano > b.nano) - (a.nano < b.nano); }

struct quantity quantity_add(struct quantity a, struct quantity b)
{
    struct quantity q = {0, a.nano == 0 ? b.format : a.format};

    if (__builtin_add_overflow(a.nano, b.nano, &q.nano))
        q.nano = a.nano > 0 ? INT128_MAX : -INT128_MAX;
    return q;
}

static int64_t rounded(__int128 nano, __int128 unit)
{
    __int128 v = nano / unit;

    if (v * unit != nano)
        v += nano > 0 ? 1 : -1;
    return v > INT64_MAX ? INT64_MAX : v < INT64_MIN ? INT64_MIN : (int64_t)v;
}

int64_t quantity_value(struct quantity q) { return rounded(q.nano, NANO); }
int64_t quantity_milli(struct quantity q) { return rounded(q.nano, 1000000); }

bool quantity_exact(struct quantity q, int64_t *ret)
{
    if (q.nano % NANO != 0 || q.nano / NANO > INT64_MAX || q.nano / NANO < INT64_MIN)
        return false;
    *ret = (int64_t)(q.nano / NANO);
    return true;
}

static void add_number(struct buf *b, __int128 v)
{
    char text[48], *at = text + sizeof text;
    bool negative = v < 0;
    unsigned __int128 n = negative ? -(unsigned __int128)v : (unsigned __int128)v;

    do {
        *--at = (char)('0' + (int)(n % 10));
        n /= 10;
    } while (n);
    if (negative)
        *--at = '-';
    buf_add(b, at, (size_t)(text + sizeof text - at));
}

void quantity_write(struct buf *b, struct quantity q)
{
    static const char *const decimal[] = {"n", "u", "m", "", "k", "M", "G", "T", "P", "E"};
    static const char *const binary[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    __int128 v = q.nano;
    bool small = v > -1024 * NANO && v < 1024 * NANO;
    size_t i = 0;

    if (q.format == QUANTITY_BINARY_SI && !small && v % NANO == 0) {
        v /= NANO;
        for (; i < 6 && v % 1024 == 0; i++)
            v /= 1024;
        add_number(b, v);
        buf_adds(b, binary[i]);
        return;
    }
    if (v == 0) {
        buf_addc(b, '0');
        return;
    }
    if (q.format == QUANTITY_DECIMAL_EXPONENT) {
        for (; v % 1000 == 0; i++)
            v /= 1000;
        add_number(b, v);
        if (i != 3)
            buf_addf(b, "e%d", (int)i * 3 - 9);
        return;
    }
    for (; i < 9 && v % 1000 == 0; i++)
        v /= 1000;
    add_number(b, v);
    buf_adds(b, decimal[i]);
}

char *quantity_text(struct arena *a, struct quantity q)
{
    AUTO(buf_done) struct buf b = {.limit = 64};

    quantity_write(&b, q);
    return arena_strdup(a, buf_str(&b));
}

static bool read_quietly(struct str text, struct quantity *q)
{
    struct error err = {0};
    bool ok = quantity_parse(text, q, &err);

    error_clear(&err);
    return ok;
}

int64_t quantity_bytes(struct str text, int64_t otherwise)
{
    struct quantity q;

    return read_quietly(text, &q) ? quantity_value(q) : otherwise;
}

int64_t quantity_millis(struct str text, int64_t otherwise)
{
    struct quantity q;

    return read_quietly(text, &q) ? quantity_milli(q) : otherwise;
}
