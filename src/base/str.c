#include "base/str.h"
#include "base/alloc.h"

#include <errno.h>
#include <sys/random.h>

int str_cmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n > 0 ? memcmp(a.p, b.p, n) : 0;

    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static unsigned char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + ('a' - 'A')) : (unsigned char)c;
}

bool str_eq_nocase(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && str_eq(str_n(s.p, prefix.n), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
    return s.n >= suffix.n && str_eq(str_skip(s, s.n - suffix.n), suffix);
}

bool str_has(struct str s, char c)
{
    return s.n > 0 && memchr(s.p, c, s.n);
}

bool str_find(struct str s, struct str needle, size_t *ret_at)
{
    const char *at;

    if (needle.n > s.n)
        return false;
    if (needle.n == 0) {
        *ret_at = 0;
        return true;
    }
    at = memmem(s.p, s.n, needle.p, needle.n);
    if (!at)
        return false;
    *ret_at = (size_t)(at - s.p);
    return true;
}

static bool cut_at(struct str s, const char *at, struct str *before, struct str *after)
{
    *before = at ? str_n(s.p, (size_t)(at - s.p)) : s;
    *after = at ? str_n(at + 1, s.n - before->n - 1) : STR_NONE;
    return at != NULL;
}

bool str_cut(struct str s, char c, struct str *before, struct str *after)
{
    return cut_at(s, s.n > 0 ? memchr(s.p, c, s.n) : NULL, before, after);
}

bool str_rcut(struct str s, char c, struct str *before, struct str *after)
{
    return cut_at(s, s.n > 0 ? memrchr(s.p, c, s.n) : NULL, before, after);
}

bool str_next(struct str *rest, char c, struct str *ret)
{
    if (!rest->p)
        return false;
    str_cut(*rest, c, ret, rest);
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct str str_trim(struct str s)
{
    while (s.n > 0 && is_space(s.p[s.n - 1]))
        s.n--;
    while (s.n > 0 && is_space(s.p[0]))
        s = str_skip(s, 1);
    return s;
}

struct str str_skip(struct str s, size_t n)
{
    if (n > s.n)
        n = s.n;
    return n == 0 ? s : str_n(s.p + n, s.n - n);
}

struct str str_take(struct str s, size_t n)
{
    return str_n(s.p, n < s.n ? n : s.n);
}

char *str_dup(struct str s)
{
    char *copy;

    if (!s.p)
        return NULL;
    copy = xrealloc(NULL, s.n + 1, 1);
    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return copy;
}

/* SipHash-1-3 (Aumasson and Bernstein; fewer rounds, as is usual for tables). */

static uint64_t hash_key[2];

__attribute__((constructor)) static void seed_hash(void)
{
    while (getrandom(hash_key, sizeof hash_key, 0) < 0)
        if (errno != EINTR)
            abort(); /* a guessable seed would be worse than not starting */
}

static inline uint64_t rotl(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

uint64_t str_hash(struct str s)
{
    uint64_t v[4] = {hash_key[0] ^ 0x736f6d6570736575u, hash_key[1] ^ 0x646f72616e646f6du,
                     hash_key[0] ^ 0x6c7967656e657261u, hash_key[1] ^ 0x7465646279746573u};
    uint64_t word, last = (uint64_t)s.n << 56;
    size_t i;

    for (i = 0; i + 8 <= s.n; i += 8) {
        memcpy(&word, s.p + i, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (unsigned shift = 0; i < s.n; i++, shift += 8)
        last |= (uint64_t)(unsigned char)s.p[i] << shift;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int round = 0; round < 3; round++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Length of the well-formed sequence at p (Unicode 15, table 3-7), or 0. */
static size_t utf8_sequence(const unsigned char *p, size_t n)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t want;

    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    want = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (want > n)
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0; /* overlong */
    else if (p[0] == 0xed)
        high = 0x9f; /* surrogates */
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f; /* beyond U+10FFFF */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < want; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return want;
}

bool str_valid_utf8(struct str s)
{
    for (size_t i = 0, step; i < s.n; i += step) {
        step = utf8_sequence((const unsigned char *)s.p + i, s.n - i);
        if (step == 0)
            return false;
    }
    return true;
}

static bool digits(struct str s, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || __builtin_mul_overflow(value, 10u, &value)
            || __builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value) || value > max)
            return false;
    }
    *ret = value;
    return true;
}

bool parse_u64(struct str s, uint64_t max, uint64_t *ret, struct error *err)
{
    if (digits(s, max, ret))
        return true;
    return error_set(err, ERROR_INVALID, "'" STR_FMT "' is not a number from 0 to %llu",
                     STR_ARG(str_take(s, 64)), (unsigned long long)max);
}

bool parse_i64(struct str s, int64_t min, int64_t max, int64_t *ret, struct error *err)
{
    bool minus = s.n > 0 && s.p[0] == '-';
    uint64_t size, bound = minus ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;

    if (digits(str_skip(s, minus ? 1 : 0), bound, &size)) {
        int64_t value = minus ? (int64_t)(0 - size) : (int64_t)size;

        if (value >= min && value <= max) {
            *ret = value;
            return true;
        }
    }
    return error_set(err, ERROR_INVALID, "'" STR_FMT "' is not a number from %lld to %lld",
                     STR_ARG(str_take(s, 64)), (long long)min, (long long)max);
}
