#include "json/index.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && is_digit(*p))
        p++;
    return p;
}

size_t json_number_length(const char *begin, const char *end)
{
    const char *p = begin, *digits;

    if (p < end && *p == '-')
        p++;
    digits = p;
    p = skip_digits(p, end);
    if (p == digits || (*digits == '0' && p - digits > 1))
        return 0;
    if (p < end && *p == '.') {
        digits = ++p;
        p = skip_digits(p, end);
        if (p == digits)
            return 0;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        digits = p;
        p = skip_digits(p, end);
        if (p == digits)
            return 0;
    }
    return (size_t)(p - begin);
}

/* Exponents beyond this are all alike: no digits that fit into memory bring them back. */
#define EXPONENT_MAX (INT64_C(1) << 60)

static int64_t read_exponent(const char *p, const char *end)
{
    bool negative = p < end && *p == '-';
    int64_t v = 0;

    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (; p < end; p++)
        if (v < EXPONENT_MAX / 10)
            v = v * 10 + (*p - '0');
    return negative ? -v : v;
}

void json_decimal_of(struct str text, struct json_decimal *ret)
{
    const char *p = text.p, *end = text.p + text.n;
    const char *mantissa_end = p, *point = NULL;
    struct json_decimal d = {0};

    if (p < end && *p == '-') {
        d.negative = true;
        p++;
    }
    for (mantissa_end = p; mantissa_end < end && *mantissa_end != 'e' && *mantissa_end != 'E'; mantissa_end++)
        if (*mantissa_end == '.')
            point = mantissa_end;
    if (mantissa_end < end)
        d.exponent = read_exponent(mantissa_end + 1, end);
    if (!point)
        point = mantissa_end;

    d.first = p;
    while (d.first < mantissa_end && (*d.first == '0' || *d.first == '.'))
        d.first++;
    d.end = mantissa_end;
    while (d.end > d.first && (d.end[-1] == '0' || d.end[-1] == '.'))
        d.end--;
    if (d.first == d.end) { /* zero, and minus zero is the same */
        *ret = (struct json_decimal){0};
        return;
    }
    d.exponent += d.first < point ? point - d.first : -(d.first - point - 1);
    d.digits = (size_t)(d.end - d.first) - (point > d.first && point < d.end ? 1 : 0);
    *ret = d;
}

bool json_decimal_eq(const struct json_decimal *a, const struct json_decimal *b)
{
    const char *p = a->first, *q = b->first;

    if (a->digits != b->digits || a->negative != b->negative || a->exponent != b->exponent)
        return false;
    for (size_t i = 0; i < a->digits; i++, p++, q++) {
        p += *p == '.';
        q += *q == '.';
        if (*p != *q)
            return false;
    }
    return true;
}
