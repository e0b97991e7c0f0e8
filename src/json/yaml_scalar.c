#include "json/yaml_scalar.h"
#include "base/cleanup.h"
#include "json/index.h"
#include <math.h>

enum { NUMBER_MAX = 400 }; /* longer ones are text */

static bool is_one_of(struct str s, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_is(s, words[i]))
            return true;
    return false;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool digits_of_base(struct str s, unsigned base, uint64_t *ret)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i], lower = (char)(c | 0x20);
        unsigned digit = is_digit(c) ? (unsigned)(c - '0')
                         : lower >= 'a' && lower <= 'f' ? (unsigned)(lower - 'a' + 10) : 99;
        if (digit >= base || __builtin_mul_overflow(v, (uint64_t)base, &v) || __builtin_add_overflow(v, digit, &v))
            return false;
    }
    *ret = v;
    return true;
}

/* 0x1f, 0b101, 0o17 and 017 (file modes are written so). */
static bool based_integer(struct str s, uint64_t *ret)
{
    if (s.n < 2 || s.p[0] != '0')
        return false;
    switch (s.p[1]) {
    case 'x': case 'X':
        return digits_of_base(str_skip(s, 2), 16, ret);
    case 'o': case 'O':
        return digits_of_base(str_skip(s, 2), 8, ret);
    case 'b': case 'B':
        return digits_of_base(str_skip(s, 2), 2, ret);
    default:
        return digits_of_base(str_skip(s, 1), 8, ret);
    }
}

/* JSON's form of an unsigned decimal number in YAML's looser grammar: .5, 5., 08. */
static bool decimal_number(struct arena *a, bool negative, struct str s, struct str *ret)
{
    size_t i = 0, whole, fraction, fraction_at, zeros = 0, exponent;

    while (i < s.n && is_digit(s.p[i]))
        i++;
    whole = i;
    if (i < s.n && s.p[i] == '.')
        i++;
    fraction_at = i;
    while (i < s.n && is_digit(s.p[i]))
        i++;
    fraction = i - fraction_at;
    if (whole + fraction == 0)
        return false;
    exponent = i;
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        size_t sign = i + 1 < s.n && (s.p[i + 1] == '+' || s.p[i + 1] == '-');
        i += 1 + sign;
        if (i == s.n)
            return false;
        while (i < s.n && is_digit(s.p[i]))
            i++;
    }
    if (i != s.n)
        return false;
    while (zeros + 1 < whole && s.p[zeros] == '0')
        zeros++;
    *ret = str_of(arena_printf(a, "%s%.*s%s%.*s%.*s", negative ? "-" : "", whole ? (int)(whole - zeros) : 1,
                               whole ? s.p + zeros : "0", fraction ? "." : "", (int)fraction, s.p + fraction_at,
                               (int)(s.n - exponent), s.p + exponent));
    return true;
}

/* Go's float64 must hold it; what does not fit is text, so that a commit's hash "1234e567" stays one. */
static bool fits(struct arena *a, struct str s)
{
    return isfinite(strtod(arena_strdup(a, s), NULL));
}

static bool resolve_number(struct arena *a, struct str s, struct str *ret)
{
    char plain[NUMBER_MAX];
    struct str body = {plain, 0};
    bool negative = false;
    uint64_t v;

    if (s.n == 0 || s.n > sizeof plain || !(is_digit(s.p[0]) || (s.p[0] && strchr("+-.", s.p[0]))))
        return false;
    if (json_number_length(s.p, s.p + s.n) == s.n) {
        *ret = s;
        return fits(a, s);
    }
    for (size_t i = 0; i < s.n; i++) /* 1_000 */
        if (s.p[i] != '_' || s.p[0] == '.')
            plain[body.n++] = s.p[i];
    if (body.p[0] == '+' || body.p[0] == '-') {
        negative = body.p[0] == '-';
        body = str_skip(body, 1);
    }
    if (based_integer(body, &v)) {
        if (negative && v > (uint64_t)INT64_MAX + 1)
            return false;
        *ret = str_of(arena_printf(a, "%s%llu", negative && v ? "-" : "", (unsigned long long)v));
        return true;
    }
    return decimal_number(a, negative, body, ret) && fits(a, *ret);
}

struct json yaml_plain(struct arena *a, struct str s)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const trues[] = {"true", "True", "TRUE"}, *const falses[] = {"false", "False", "FALSE"};
    struct str number;

    if (is_one_of(s, nulls, ARRAY_SIZE(nulls)))
        return (struct json){.type = JSON_NULL};
    if (is_one_of(s, trues, ARRAY_SIZE(trues)))
        return (struct json){.type = JSON_TRUE};
    if (is_one_of(s, falses, ARRAY_SIZE(falses)))
        return (struct json){.type = JSON_FALSE};
    if (resolve_number(a, s, &number))
        return (struct json){.text = number.p, .n = (uint32_t)number.n, .type = JSON_NUMBER};
    return (struct json){.text = s.p, .n = (uint32_t)s.n, .type = JSON_STRING};
}

/* 2026-11-22, alone or before a time. */
static bool like_date(struct str s)
{
    size_t i = 0, part = 0;

    for (size_t start = 0; part < 3; part++, i++) {
        start = i;
        while (i < s.n && is_digit(s.p[i]))
            i++;
        if (part == 0 ? i - start != 4 : i - start < 1 || i - start > 2)
            return false;
        if (part < 2 && (i == s.n || s.p[i] != '-'))
            return false;
    }
    i--;
    return i == s.n || s.p[i] == 'T' || s.p[i] == 't' || s.p[i] == ' ';
}

/* 1:30 is ninety to YAML 1.1. */
static bool like_base60(struct str s)
{
    bool colon = false;
    size_t i = s.n > 0 && (s.p[0] == '-' || s.p[0] == '+');

    if (i == s.n || !is_digit(s.p[i]))
        return false;
    for (; i < s.n; i++) {
        colon = colon || s.p[i] == ':';
        if (!is_digit(s.p[i]) && (!s.p[i] || !strchr(":_.", s.p[i])))
            return false;
    }
    return colon;
}

bool yaml_needs_quotes(struct str s)
{
    static const char *const words[] = {
        "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF", "<<", "=",
        ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
    };
    AUTO(arena_done) struct arena a = {0};

    if (s.n > NUMBER_MAX)
        return false;
    return is_one_of(s, words, ARRAY_SIZE(words)) || yaml_plain(&a, s).type != JSON_STRING || like_date(s)
           || like_base60(s);
}
