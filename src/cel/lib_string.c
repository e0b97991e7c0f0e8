/* cel/lib_string - functions on strings: the language's own, the strings extension and Kubernetes' regular expressions.
 *
 * Places in strings are counted in characters, not bytes. */
#include "cel/internal.h"

#define FN(name)                                                                                   \
    static struct cel_value name(struct cel_run *r, const struct cel_node *call,                   \
                                 const struct cel_value *v, size_t n)
#define UNUSED ((void)r, (void)call, (void)v, (void)n)

/* The byte of the k-th character; false behind the end (k == number of characters is the end itself). */
static bool byte_at(struct str s, int64_t k, size_t *ret)
{
    size_t i = 0;

    for (; k > 0 && i < s.n; k--)
        do
            i++;
        while (i < s.n && ((unsigned char)s.p[i] & 0xc0) == 0x80);
    *ret = i;
    return k == 0;
}

static size_t next_char(struct str s, size_t i)
{
    do
        i++;
    while (i < s.n && ((unsigned char)s.p[i] & 0xc0) == 0x80);
    return i;
}

static struct cel_value made(struct cel_run *r, const struct buf *b)
{
    if (b->overflow) {
        r->stop = true;
        return cel_fail(r, "string is too long");
    }
    return cel_v_str(arena_str(r->a, b->n ? buf_str(b) : STR("")));
}

static uint64_t product(size_t a, size_t b)
{
    return ((uint64_t)a + 9) / 10 * ((b + 9) / 10);
}

FN(contains)
{
    size_t at;

    UNUSED;
    cel_charge(r, product(v[0].s.n, v[1].s.n));
    return cel_v_bool(!r->stop && str_find(v[0].s, v[1].s, &at));
}

FN(starts_with)
{
    UNUSED;
    cel_charge_text(r, v[1].s.n);
    return cel_v_bool(str_starts(v[0].s, v[1].s));
}

FN(ends_with)
{
    UNUSED;
    cel_charge_text(r, v[1].s.n);
    return cel_v_bool(str_ends(v[0].s, v[1].s));
}

/* -- regular expressions -------------------------------------------------------------------------- */

/* Upstream's price for a search knows only the lengths; a short pattern with large repeats costs what it makes us do. */
static bool charge_search(struct cel_run *r, const struct cel_value *v, size_t program, bool made)
{
    cel_charge(r, ((uint64_t)v[0].s.n + 1 + 9) / 10 * ((v[1].s.n + 3) / 4));
    if (made)
        cel_charge(r, program / 4);
    if (program > 4 * v[1].s.n + 64)
        cel_charge(r, (uint64_t)v[0].s.n * program / 100);
    return !r->stop;
}

/* A pattern that is no constant is compiled each time, which costs more than most texts. */
static bool charge_pattern(struct cel_run *r, const struct cel_value *v, uint64_t base)
{
    cel_charge(r, base + v[1].s.n);
    return !r->stop;
}

FN(matches)
{
    AUTO(error_clear) struct error err = {0};
    const struct regex *re = call->re;
    struct arena scratch = {0};
    struct cel_value ret;

    UNUSED;
    if (!re && (!charge_pattern(r, v, 10) || !regex_compile(&scratch, v[1].s, &re, &err)))
        ret = cel_fail(r, "%s", error_text(&err));
    else if (!charge_search(r, v, regex_size(re), !call->re))
        ret = cel_fail(r, "out of budget");
    else
        ret = cel_v_bool(regex_found(re, v[0].s));
    arena_done(&scratch);
    return ret;
}

static struct cel_value all_found(struct cel_run *r, const struct regex_finder *re, struct str s,
                                  int64_t limit)
{
    struct arena scratch = {0};
    struct cel_items l = {0};
    size_t start, end, at = 0, last = SIZE_MAX;

    while (at <= s.n && !r->stop && (limit < 0 || l.n < (uint64_t)limit)
           && regex_find(re, s, at, &scratch, &start, &end)) {
        if (!(start == end && start == last)) /* as Go: no empty match right behind a match */
            cel_items_add(r, &l, cel_v_str(str_n(s.p + start, end - start)));
        cel_charge(r, 1 + regex_finder_size(re) / 20);
        last = end;
        at = end > start ? end : end < s.n ? next_char(s, end) : end + 1;
        arena_clear(&scratch);
    }
    arena_done(&scratch);
    return cel_v_list(l.p, l.n);
}

FN(find)
{
    bool all = str_is(call->name, "findAll");
    AUTO(error_clear) struct error err = {0};
    const struct regex_finder *re = call->finder;
    struct arena scratch = {0};
    struct cel_value ret;
    size_t start, end;

    UNUSED;
    if (!re && (!charge_pattern(r, v, 500) || !regex_finder_compile(&scratch, v[1].s, &re, &err)))
        ret = cel_fail(r, "%s", error_text(&err));
    else if (!charge_search(r, v, regex_finder_size(re), !call->finder))
        ret = cel_fail(r, "out of budget");
    else if (all)
        ret = all_found(r, re, v[0].s, n > 2 ? v[2].i : -1);
    else
        ret = cel_v_str(regex_find(re, v[0].s, 0, &scratch, &start, &end)
                            ? str_n(v[0].s.p + start, end - start)
                            : STR(""));
    arena_done(&scratch);
    return ret;
}

/* -- the strings extension ------------------------------------------------------------------------ */

FN(char_at)
{
    size_t from, to;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    if (v[1].i < 0 || !byte_at(v[0].s, v[1].i, &from))
        return cel_fail(r, "index out of range: %lld", (long long)v[1].i);
    to = from < v[0].s.n ? next_char(v[0].s, from) : from;
    return cel_v_str(str_n(v[0].s.p + from, to - from));
}

FN(index_of)
{
    size_t from = 0, at;

    UNUSED;
    cel_charge(r, product(v[0].s.n, v[1].s.n) + (v[0].s.n + 9) / 10);
    if (r->stop || (n > 2 && (v[2].i < 0 || !byte_at(v[0].s, v[2].i, &from))))
        return cel_fail(r, "index out of range: %lld", n > 2 ? (long long)v[2].i : 0LL);
    if (!str_find(str_skip(v[0].s, from), v[1].s, &at))
        return cel_v_int(-1);
    return cel_v_int((int64_t)cel_characters(str_take(v[0].s, from + at)));
}

FN(last_index_of)
{
    size_t from = v[0].s.n;

    UNUSED;
    cel_charge(r, product(v[0].s.n, v[1].s.n) + (v[0].s.n + 9) / 10);
    if (r->stop || (n > 2 && (v[2].i < 0 || !byte_at(v[0].s, v[2].i, &from))))
        return cel_fail(r, "index out of range: %lld", n > 2 ? (long long)v[2].i : 0LL);
    if (v[1].s.n > v[0].s.n)
        return cel_v_int(-1);
    if (from > v[0].s.n - v[1].s.n)
        from = v[0].s.n - v[1].s.n;
    for (size_t i = from + 1; i-- > 0;)
        if (str_starts(str_skip(v[0].s, i), v[1].s))
            return cel_v_int((int64_t)cel_characters(str_take(v[0].s, i)));
    return cel_v_int(-1);
}

static struct cel_value cased(struct cel_run *r, struct str s, char from, char to, int by)
{
    char *p;

    cel_charge_text(r, s.n);
    if (r->stop)
        return cel_fail(r, "out of budget");
    p = arena_strdup(r->a, s);
    for (size_t i = 0; i < s.n; i++)
        if (p[i] >= from && p[i] <= to)
            p[i] = (char)(p[i] + by);
    return cel_v_str(str_n(p, s.n));
}

FN(lower_ascii)
{
    UNUSED;
    return cased(r, v[0].s, 'A', 'Z', 32);
}

FN(upper_ascii)
{
    UNUSED;
    return cased(r, v[0].s, 'a', 'z', -32);
}

FN(replace)
{
    AUTO(buf_done) struct buf b = {.limit = LIMIT_CEL_MEMORY};
    int64_t left = n > 3 ? v[3].i : -1;
    struct str s = v[0].s, old = v[1].s, with = v[2].s;
    size_t at;

    UNUSED;
    cel_charge(r, (s.n + 4) / 5 + (old.n ? product(s.n, old.n) : 0));
    for (; left != 0 && !r->stop; left--) {
        size_t skip = old.n;

        if (old.n == 0) { /* before each character and at the end */
            buf_addstr(&b, with);
            cel_charge_text(r, with.n);
            if (s.n == 0)
                return made(r, &b);
            at = next_char(s, 0);
            buf_add(&b, s.p, at);
            s = str_skip(s, at);
            continue;
        }
        if (!str_find(s, old, &at))
            break;
        buf_add(&b, s.p, at);
        buf_addstr(&b, with);
        cel_charge_text(r, with.n);
        s = str_skip(s, at + skip);
    }
    buf_addstr(&b, s);
    return made(r, &b);
}

FN(split)
{
    int64_t left = n > 2 ? v[2].i : -1;
    struct cel_items l = {0};
    struct str s = v[0].s, sep = v[1].s;
    size_t at;

    UNUSED;
    cel_charge(r, (s.n + 4) / 5 + product(s.n, sep.n));
    if (left == 0)
        return cel_v_list(NULL, 0);
    if (sep.n == 0 && s.n == 0)
        return cel_v_list(NULL, 0);
    while (left != 1 && !r->stop) {
        if (sep.n == 0) {
            at = next_char(s, 0);
            if (at >= s.n)
                break;
        } else if (!str_find(s, sep, &at)) {
            break;
        }
        cel_items_add(r, &l, cel_v_str(str_take(s, at)));
        cel_charge(r, 0);
        s = str_skip(s, at + sep.n);
        left--;
    }
    cel_items_add(r, &l, cel_v_str(s.p ? s : STR("")));
    return cel_v_list(l.p, l.n);
}

FN(substring)
{
    size_t from, to = v[0].s.n;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    if (v[1].i < 0 || !byte_at(v[0].s, v[1].i, &from))
        return cel_fail(r, "index out of range: %lld", (long long)v[1].i);
    if (n > 2 && v[1].i > v[2].i)
        return cel_fail(r, "invalid substring range. start: %lld, end: %lld", (long long)v[1].i,
                        (long long)v[2].i);
    if (n > 2 && (v[2].i < 0 || !byte_at(v[0].s, v[2].i, &to)))
        return cel_fail(r, "index out of range: %lld", (long long)v[2].i);
    return cel_v_str(str_n(v[0].s.p + from, to - from));
}

/* White space as Unicode has it. */
static size_t blank_at(struct str s, size_t i)
{
    static const char *const spaces[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
        "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
        "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};

    if (s.p[i] == ' ' || (s.p[i] >= '\t' && s.p[i] <= '\r'))
        return 1;
    for (size_t k = 0; k < ARRAY_SIZE(spaces); k++)
        if (str_starts(str_skip(s, i), str_of(spaces[k])))
            return strlen(spaces[k]);
    return 0;
}

FN(trim)
{
    struct str s = v[0].s;
    size_t k;

    UNUSED;
    cel_charge_text(r, s.n);
    while (s.n && (k = blank_at(s, 0)))
        s = str_skip(s, k);
    while (s.n) {
        size_t last = s.n - 1;

        while (last > 0 && ((unsigned char)s.p[last] & 0xc0) == 0x80)
            last--;
        k = blank_at(s, last);
        if (k == 0 || last + k != s.n)
            break;
        s.n = last;
    }
    return cel_v_str(s);
}

FN(join)
{
    AUTO(buf_done) struct buf b = {.limit = LIMIT_CEL_MEMORY};

    UNUSED;
    for (size_t i = 0; i < cel_len(&v[0]) && !r->stop; i++) {
        struct cel_value x = cel_item(&v[0], i);

        if (x.kind != CEL_STRING)
            return cel_no_overload(r);
        if (i && n > 1)
            buf_addstr(&b, v[1].s);
        buf_addstr(&b, x.s);
        cel_charge_text(r, x.s.n + (n > 1 ? v[1].s.n : 0));
    }
    return made(r, &b);
}

FN(reverse)
{
    char *p;
    size_t at;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    if (r->stop)
        return cel_fail(r, "out of budget");
    p = arena_strdup(r->a, v[0].s);
    at = v[0].s.n;
    for (size_t i = 0, to; i < v[0].s.n; i = to) {
        to = next_char(v[0].s, i);
        at -= to - i;
        memcpy(p + at, v[0].s.p + i, to - i);
    }
    return cel_v_str(str_n(p, v[0].s.n));
}

FN(quote)
{
    AUTO(buf_done) struct buf b = {.limit = LIMIT_CEL_MEMORY};
    static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";

    UNUSED;
    cel_charge_text(r, 2 * v[0].s.n);
    buf_addc(&b, '"');
    for (size_t i = 0; i < v[0].s.n; i++) {
        const char *found = v[0].s.p[i] ? strchr(from, v[0].s.p[i]) : NULL;

        if (found) {
            buf_addc(&b, '\\');
            buf_addc(&b, to[found - from]);
        } else {
            buf_addc(&b, v[0].s.p[i]);
        }
    }
    buf_addc(&b, '"');
    return made(r, &b);
}

FN(format)
{
    UNUSED;
    cel_charge_text(r, v[0].s.n);
    return cel_format_string(r, v[0].s, &v[1]);
}

static const struct cel_overload strings[] = {
    {"contains", "ss:b", true, contains},
    {"startsWith", "ss:b", true, starts_with},
    {"endsWith", "ss:b", true, ends_with},
    {"matches", "ss:b", true, matches},
    {"matches", "ss:b", false, matches},
    {"find", "ss:s", true, find},
    {"findAll", "ss:[s", true, find},
    {"findAll", "ssi:[s", true, find},
    {"charAt", "si:s", true, char_at},
    {"indexOf", "ss:i", true, index_of},
    {"indexOf", "ssi:i", true, index_of},
    {"lastIndexOf", "ss:i", true, last_index_of},
    {"lastIndexOf", "ssi:i", true, last_index_of},
    {"lowerAscii", "s:s", true, lower_ascii},
    {"upperAscii", "s:s", true, upper_ascii},
    {"replace", "sss:s", true, replace},
    {"replace", "sssi:s", true, replace},
    {"split", "ss:[s", true, split},
    {"split", "ssi:[s", true, split},
    {"substring", "si:s", true, substring},
    {"substring", "sii:s", true, substring},
    {"trim", "s:s", true, trim},
    {"join", "[s:s", true, join},
    {"join", "[ss:s", true, join},
    {"reverse", "s:s", true, reverse},
    {"strings.quote", "s:s", false, quote},
    {"format", "s[*:s", true, format},
};
const struct cel_library cel_lib_string = {strings, ARRAY_SIZE(strings)};
