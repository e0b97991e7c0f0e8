#include "api/regex.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <regex.h>

#define PATTERN_MAX 4096
#define REPEAT_MAX 1000

struct translation {
    struct str in;
    size_t at;
    struct buf *out;
    struct error *err;
};

static bool refuse(struct translation *t, const char *what)
{
    return error_set(t->err, ERROR_INVALID, "error parsing regexp: %s in `" STR_FMT "`", what, STR_ARG(t->in));
}

/* \d, \w, \s and their complements, within brackets or alone; anything else escaped is itself. */
static bool escape(struct translation *t, bool bracket)
{
    char c = t->at < t->in.n ? t->in.p[t->at++] : '\0';
    const char *class = NULL;
    bool negative = false;

    switch (c) {
    case 'D':
        negative = true; /* fall through */
        __attribute__((fallthrough));
    case 'd':
        class = "0-9";
        break;
    case 'W':
        negative = true;
        __attribute__((fallthrough));
    case 'w':
        class = "0-9A-Za-z_";
        break;
    case 'S':
        negative = true;
        __attribute__((fallthrough));
    case 's':
        class = "\t\n\f\r ";
        break;
    case 'n':
        buf_addc(t->out, '\n');
        return true;
    case 't':
        buf_addc(t->out, '\t');
        return true;
    case 'r':
        buf_addc(t->out, '\r');
        return true;
    case 'f':
        buf_addc(t->out, '\f');
        return true;
    case 'A':
        buf_addc(t->out, '^');
        return !bracket || refuse(t, "invalid escape sequence");
    case 'z':
        buf_addc(t->out, '$');
        return !bracket || refuse(t, "invalid escape sequence");
    case 'b':
        buf_adds(t->out, "\\b");
        return !bracket || refuse(t, "invalid escape sequence");
    case '\0':
        return refuse(t, "trailing backslash at end of expression");
    default:
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            return refuse(t, "unsupported escape sequence");
        if (bracket && (c == ']' || c == '-' || c == '^' || c == '\\' || c == '['))
            return refuse(t, "internal"); /* the caller has placed these */
        if (!bracket)
            buf_addc(t->out, '\\');
        buf_addc(t->out, c);
        return true;
    }
    if (negative && bracket)
        return refuse(t, "unsupported negated class");
    if (!bracket)
        buf_adds(t->out, negative ? "[^" : "[");
    buf_adds(t->out, class);
    if (!bracket)
        buf_addc(t->out, ']');
    return true;
}

/* POSIX brackets know no escapes: ']' must come first and '-' last, so these are collected and placed. */
struct members {
    bool close, dash, caret, open; /* ']', '-', '^', '[' */
};

/* Reads up to the closing bracket; what needs no special place goes to t->out. */
static bool read_members(struct translation *t, struct members *m)
{
    for (bool first = true;; first = false) {
        char c;

        if (t->at >= t->in.n)
            return refuse(t, "missing closing ]");
        c = t->in.p[t->at++];
        if (c == ']' && !first)
            return true;
        if (c == ']') {
            m->close = true;
        } else if (c == '[' && t->at < t->in.n && t->in.p[t->at] == ':') {
            size_t start = t->at - 1;

            while (t->at < t->in.n && t->in.p[t->at] != ']')
                t->at++;
            if (t->at >= t->in.n)
                return refuse(t, "missing closing ]");
            t->at++;
            buf_add(t->out, t->in.p + start, t->at - start);
        } else if (c == '[') {
            m->open = true;
        } else if (c == '-' && (first || (t->at < t->in.n && t->in.p[t->at] == ']'))) {
            m->dash = true;
        } else if (c == '^') {
            m->caret = true;
        } else if (c == '\\' && t->at < t->in.n && memchr("]-^\\[", t->in.p[t->at], 5)) {
            c = t->in.p[t->at++];
            m->close |= c == ']';
            m->dash |= c == '-';
            m->caret |= c == '^';
            m->open |= c == '[';
            if (c == '\\')
                buf_addc(t->out, '\\');
        } else if (c == '\\') {
            if (!escape(t, true))
                return false;
        } else {
            buf_addc(t->out, c);
        }
    }
}

static bool bracket(struct translation *t)
{
    AUTO(buf_done) struct buf body = {.limit = 2 * PATTERN_MAX};
    struct members m = {0};
    struct buf *outer = t->out;
    bool negative = t->at < t->in.n && t->in.p[t->at] == '^', read;

    t->at += negative;
    t->out = &body;
    read = read_members(t, &m);
    t->out = outer;
    if (!read)
        return false;
    if (m.caret && !negative && !m.close && !body.n && !m.open && !m.dash) {
        buf_adds(outer, "\\^");
        return true;
    }
    buf_adds(outer, negative ? "[^" : "[");
    if (m.close)
        buf_addc(outer, ']');
    buf_addstr(outer, buf_str(&body));
    if (m.open)
        buf_addc(outer, '[');
    if (m.caret) { /* never first: that would negate */
        if (!m.close && !body.n && !m.open && m.dash) {
            buf_adds(outer, "-^]");
            return true;
        }
        buf_addc(outer, '^');
    }
    if (m.dash)
        buf_addc(outer, '-');
    buf_addc(outer, ']');
    return true;
}

static bool repeat(struct translation *t, uint64_t *total)
{
    size_t start = t->at;
    uint64_t high = 0, n = 0;

    while (t->at < t->in.n && t->in.p[t->at] != '}') {
        char c = t->in.p[t->at++];

        if (c == ',') {
            high = n > high ? n : high;
            n = 0;
        } else if (c < '0' || c > '9' || n > REPEAT_MAX) {
            return refuse(t, "invalid repeat count");
        } else {
            n = n * 10 + (uint64_t)(c - '0');
        }
    }
    if (t->at >= t->in.n || t->at == start || t->in.p[start] == ',')
        return refuse(t, "invalid repeat count");
    high = n > high ? n : high;
    *total *= high ? high : 1;
    if (high > REPEAT_MAX || *total > REPEAT_MAX * 64u)
        return refuse(t, "invalid repeat count");
    t->at++;
    buf_addc(t->out, '{');
    buf_add(t->out, t->in.p + start, t->at - start);
    return true;
}

static bool group(struct translation *t)
{
    buf_addc(t->out, '(');
    if (t->at >= t->in.n || t->in.p[t->at] != '?')
        return true;
    t->at++;
    if (t->at < t->in.n && t->in.p[t->at] == ':') {
        t->at++;
        return true;
    }
    if (t->at + 1 < t->in.n && t->in.p[t->at] == 'P' && t->in.p[t->at + 1] == '<') {
        while (t->at < t->in.n && t->in.p[t->at] != '>')
            t->at++;
        t->at++;
        return t->at <= t->in.n || refuse(t, "invalid named capture");
    }
    return refuse(t, "unsupported group");
}

static bool translate(struct str pattern, struct buf *out, struct error *err)
{
    struct translation t = {.in = pattern, .out = out, .err = err};
    uint64_t repeats = 1;

    if (pattern.n > PATTERN_MAX || (pattern.n && memchr(pattern.p, '\0', pattern.n)))
        return error_set(err, ERROR_INVALID, "error parsing regexp: expression too large");
    while (t.at < pattern.n) {
        char c = pattern.p[t.at++];
        bool ok = true, quantifier = c == '*' || c == '+' || c == '?' || c == '{';

        if (c == '\\')
            ok = escape(&t, false);
        else if (c == '[')
            ok = bracket(&t);
        else if (c == '(')
            ok = group(&t);
        else if (c == '{')
            ok = repeat(&t, &repeats);
        else
            buf_addc(out, c);
        if (!ok)
            return false;
        if (quantifier && t.at < pattern.n && memchr("*+?", pattern.p[t.at], 3))
            return refuse(&t, "unsupported repetition operator");
    }
    return buf_ok(out, "regular expression", err);
}

static bool compile(struct str pattern, regex_t *re, struct error *err)
{
    AUTO(buf_done) struct buf posix = {.limit = 8 * PATTERN_MAX};
    int code;

    if (!translate(pattern, &posix, err))
        return false;
    code = regcomp(re, posix.p ? posix.p : "", REG_EXTENDED | REG_NOSUB);
    if (code != 0) {
        char why[128];

        regerror(code, re, why, sizeof why);
        return error_set(err, ERROR_INVALID, "error parsing regexp: %s in `" STR_FMT "`", why, STR_ARG(pattern));
    }
    return true;
}

bool regex_check(struct str pattern, struct error *err)
{
    regex_t re;

    if (!compile(pattern, &re, err))
        return false;
    regfree(&re);
    return true;
}

bool regex_match(const char *pattern, struct str text)
{
    AUTO_FREE char *z = NULL;
    struct error err = {0};
    regex_t re;
    bool found;

    if ((text.n && memchr(text.p, '\0', text.n)) || !compile(str_of(pattern), &re, &err)) {
        error_clear(&err);
        return false;
    }
    z = str_dup(text.p ? text : STR(""));
    found = regexec(&re, z, 0, NULL, 0) == 0;
    regfree(&re);
    return found;
}
