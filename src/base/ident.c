#include "base/ident.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <stdio.h>

/* SHA-1 (FIPS 180-4), for names only: RFC 4122 asks for it, and nothing here trusts it. */

struct sha1 {
    uint32_t h[5];
};

static uint32_t rotl(uint32_t x, unsigned by)
{
    return x << by | x >> (32 - by);
}

static void sha1_block(struct sha1 *s, const unsigned char *p)
{
    uint32_t w[80], v[5], mix, constant;

    for (size_t i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8
               | p[4 * i + 3];
    for (size_t i = 16; i < 80; i++)
        w[i] = rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    memcpy(v, s->h, sizeof v);
    for (size_t i = 0; i < 80; i++) {
        if (i < 20) {
            mix = (v[1] & v[2]) | (~v[1] & v[3]);
            constant = 0x5a827999;
        } else if (i < 40 || i >= 60) {
            mix = v[1] ^ v[2] ^ v[3];
            constant = i < 40 ? 0x6ed9eba1 : 0xca62c1d6;
        } else {
            mix = (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]);
            constant = 0x8f1bbcdc;
        }
        mix += rotl(v[0], 5) + v[4] + constant + w[i];
        v[4] = v[3];
        v[3] = v[2];
        v[2] = rotl(v[1], 30);
        v[1] = v[0];
        v[0] = mix;
    }
    for (size_t i = 0; i < 5; i++)
        s->h[i] += v[i];
}

/* The digest of 16 bytes and then a text. */
static void sha1_name(const unsigned char space[16], struct str name, unsigned char ret[20])
{
    struct sha1 s = {{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
    uint64_t bits = (16 + (uint64_t)name.n) * 8;
    unsigned char block[64];
    size_t at = 16;

    memcpy(block, space, 16);
    while (name.n > 0) {
        size_t n = name.n < 64 - at ? name.n : 64 - at;

        memcpy(block + at, name.p, n);
        name = str_skip(name, n);
        at += n;
        if (at == 64) {
            sha1_block(&s, block);
            at = 0;
        }
    }
    block[at++] = 0x80;
    if (at > 56) {
        memset(block + at, 0, 64 - at);
        sha1_block(&s, block);
        at = 0;
    }
    memset(block + at, 0, 56 - at);
    for (unsigned i = 0; i < 8; i++)
        block[56 + i] = (unsigned char)(bits >> (56 - 8 * i));
    sha1_block(&s, block);
    for (size_t i = 0; i < 20; i++)
        ret[i] = (unsigned char)(s.h[i / 4] >> (24 - 8 * (i % 4)));
}

static void uuid_text(unsigned char bytes[16], unsigned version, char ret[UUID_LEN + 1])
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;

    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            ret[at++] = '-';
        ret[at++] = hex[bytes[i] >> 4];
        ret[at++] = hex[bytes[i] & 15];
    }
    ret[at] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void ident_uuid4(char ret[UUID_LEN + 1])
{
    unsigned char bytes[16];

    file_random(bytes, sizeof bytes);
    uuid_text(bytes, 4, ret);
}

void ident_uuid5(const char *ns_uuid, struct str name, char ret[UUID_LEN + 1])
{
    unsigned char space[16] = {0}, digest[20];
    size_t n = 0;

    for (const char *z = ns_uuid; *z && n < 32; z++) {
        int value = hex_value(*z);

        if (value < 0)
            continue;
        space[n / 2] |= (unsigned char)(n % 2 == 0 ? value << 4 : value);
        n++;
    }
    sha1_name(space, name, digest);
    uuid_text(digest, 5, ret);
}

bool ident_is_uuid(struct str s)
{
    if (s.n != UUID_LEN)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? s.p[i] != '-' : hex_value(s.p[i]) < 0)
            return false;
    }
    return true;
}

/* No vowels, and nothing that looks like another: no word and no misreading comes out. */
static const char name_alphabet[] = "bcdfghjklmnpqrstvwxz2456789";

void ident_suffix(char *ret, size_t n)
{
    size_t have = 0;

    while (have < n) {
        unsigned char bytes[32];

        file_random(bytes, sizeof bytes);
        for (size_t i = 0; i < sizeof bytes && have < n; i++)
            if (bytes[i] < 256 / 27 * 27) /* else the first letters would come more often */
                ret[have++] = name_alphabet[bytes[i] % 27];
    }
    ret[n] = '\0';
}

void ident_suffix_from(uint64_t hash, char *ret, size_t n)
{
    uint64_t left = hash;

    for (size_t i = 0; i < n; i++) {
        /* 64 bits are spent after 13 letters: the next, by splitmix64 */
        if (i > 0 && i % 13 == 0) {
            hash += 0x9e3779b97f4a7c15u;
            left = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9u;
            left = (left ^ left >> 27) * 0x94d049bb133111ebu;
            left ^= left >> 31;
        }
        ret[i] = name_alphabet[left % 27];
        left /= 27;
    }
    ret[n] = '\0';
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar, and back; the year counts
 * from March, so that the leap day is its last. */

static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    int64_t era, of_year, of_era;

    year -= month <= 2;
    era = (year >= 0 ? year : year - 399) / 400;
    of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    of_era = (year - era * 400) * 365 + (year - era * 400) / 4 - (year - era * 400) / 100 + of_year;
    return era * 146097 + of_era - 719468;
}

static void date_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    int64_t era, of_era, year_of_era, of_year, shifted;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    of_era = days - era * 146097;
    year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    shifted = (5 * of_year + 2) / 153;
    *day = (unsigned)(of_year - (153 * shifted + 2) / 5 + 1);
    *month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = year_of_era + era * 400 + (*month <= 2);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

void ident_time(int64_t unix_ns, bool micro, char ret[TIME_TEXT_LEN + 1])
{
    int64_t seconds = floor_div(unix_ns, 1000000000);
    unsigned us = (unsigned)((unix_ns - seconds * 1000000000) / 1000);
    int64_t days = floor_div(seconds, 86400), year;
    unsigned of_day = (unsigned)(seconds - days * 86400), month, day;
    int n;

    date_from_days(days, &year, &month, &day);
    n = snprintf(ret, TIME_TEXT_LEN + 1, "%04d-%02u-%02uT%02u:%02u:%02u", (int)year, month % 100,
                 day % 100, of_day / 3600 % 100, of_day / 60 % 60, of_day % 60);
    if (micro)
        snprintf(ret + n, (size_t)(TIME_TEXT_LEN + 1 - n), ".%06uZ", us % 1000000);
    else
        snprintf(ret + n, (size_t)(TIME_TEXT_LEN + 1 - n), "Z");
}

/* Takes exactly n digits, then the character `then` (0: none). */
static bool number(struct str *s, size_t n, char then, unsigned *ret)
{
    size_t all = n + (then != 0);
    unsigned value = 0;

    if (s->n < all || (then && s->p[n] != then))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        value = value * 10 + (unsigned)(s->p[i] - '0');
    }
    *s = str_skip(*s, all);
    *ret = value;
    return true;
}

static bool fraction(struct str *s, int64_t *ret_ns)
{
    int64_t ns = 0, unit = 100000000;
    size_t n = 0;

    *ret_ns = 0;
    if (s->n == 0 || s->p[0] != '.')
        return true;
    *s = str_skip(*s, 1);
    for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++, unit /= 10)
        ns += (s->p[n] - '0') * unit;
    *s = str_skip(*s, n);
    *ret_ns = ns;
    return n > 0;
}

static bool zone(struct str *s, int64_t *ret_seconds)
{
    unsigned hours, minutes;
    int64_t sign;

    *ret_seconds = 0;
    if (str_eq(*s, STR("Z")))
        return true;
    if (s->n != 6 || (s->p[0] != '+' && s->p[0] != '-'))
        return false;
    sign = s->p[0] == '-' ? -1 : 1;
    *s = str_skip(*s, 1);
    if (!number(s, 2, ':', &hours) || !number(s, 2, 0, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = sign * (int64_t)(hours * 3600 + minutes * 60);
    return true;
}

static unsigned month_days(unsigned year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap);
}

bool ident_parse_time(struct str s, int64_t *ret_unix_ns, struct error *err)
{
    unsigned year, month, day, hour, minute, second;
    int64_t ns, offset, total;
    struct str rest = s;

    if (!number(&rest, 4, '-', &year) || !number(&rest, 2, '-', &month)
        || !number(&rest, 2, 'T', &day) || !number(&rest, 2, ':', &hour)
        || !number(&rest, 2, ':', &minute) || !number(&rest, 2, 0, &second) || !fraction(&rest, &ns)
        || !zone(&rest, &offset) || month < 1 || month > 12 || day < 1
        || day > month_days(year, month) || hour > 23 || minute > 59 || second > 59)
        return error_set(err, ERROR_INVALID, "'" STR_FMT "' is not an RFC 3339 time",
                         STR_ARG(str_take(s, 64)));
    total = days_from_date(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
    if (__builtin_mul_overflow(total, 1000000000, &total)
        || __builtin_add_overflow(total, ns, &total))
        return error_set(err, ERROR_INVALID, "time '" STR_FMT "' is out of range",
                         STR_ARG(str_take(s, 64)));
    *ret_unix_ns = total;
    return true;
}
