/* cel/lex - text to tokens; and messages that point into the text, as cel-go writes them. */
#include "cel/lex.h"

void cel_issue(struct cel_issues *i, size_t at, const char *fmt, ...)
{
    AUTO(buf_done) struct buf out = {.limit = 2 * LIMIT_CEL_TEXT};
    size_t line = 1, start = 0, column = 0, end;
    va_list ap;

    if (i->n++ >= ARRAY_SIZE(i->p))
        return;
    for (size_t k = 0; k < at && k < i->text.n; k++)
        if (i->text.p[k] == '\n') {
            line++;
            start = k + 1;
        }
    for (end = start; end < i->text.n && i->text.p[end] != '\n'; end++)
        ;
    for (size_t k = start; k < at && k < i->text.n; k++)
        column += ((unsigned char)i->text.p[k] & 0xc0) != 0x80;
    buf_addf(&out, "ERROR: <input>:%zu:%zu: ", line, column + 1);
    va_start(ap, fmt);
    buf_vaddf(&out, fmt, ap);
    va_end(ap);
    buf_addf(&out, "\n | " STR_FMT "\n | ", STR_ARG(str_n(i->text.p + start, end - start)));
    for (size_t k = 0; k < column; k++)
        buf_addc(&out, '.');
    buf_addc(&out, '^');
    i->p[i->n - 1].at = at;
    i->p[i->n - 1].text = arena_strdup(i->a, buf_str(&out));
}

static int by_place(const void *x, const void *y)
{
    const struct cel_complaint *a = x, *b = y;

    return (a->at > b->at) - (a->at < b->at);
}

const char *cel_issues_text(struct cel_issues *i)
{
    AUTO(buf_done) struct buf out = {.limit = 16 * LIMIT_CEL_TEXT};
    size_t n = i->n < ARRAY_SIZE(i->p) ? i->n : ARRAY_SIZE(i->p);

    if (n)
        qsort(i->p, n, sizeof *i->p, by_place);
    for (size_t k = 0; k < n; k++)
        buf_addf(&out, "%s%s", k ? "\n" : "", i->p[k].text);
    return n ? arena_strdup(i->a, buf_str(&out)) : "Syntax error";
}

#define FAIL(p, at, ...) (cel_issue(&(p)->issues, at, __VA_ARGS__), (p)->failed = true)

static bool ident_start(char c)
{
    return c == '_' || ((c | 32) >= 'a' && (c | 32) <= 'z');
}
static bool digit(char c)
{
    return c >= '0' && c <= '9';
}
static char peek(const struct cel_lexer *p, size_t k)
{
    return p->at + k < p->in.n ? p->in.p[p->at + k] : '\0';
}

static void lex_number(struct cel_lexer *p)
{
    size_t from = p->at;
    bool hex = peek(p, 0) == '0' && (peek(p, 1) | 32) == 'x', real = false;
    struct str s;

    if (hex) {
        p->at += 2;
        while (digit(peek(p, 0)) || ((peek(p, 0) | 32) >= 'a' && (peek(p, 0) | 32) <= 'f'))
            p->at++;
    } else {
        while (digit(peek(p, 0)))
            p->at++;
        if (peek(p, 0) == '.' && digit(peek(p, 1))) {
            real = true;
            p->at++;
            while (digit(peek(p, 0)))
                p->at++;
        }
        if ((peek(p, 0) | 32) == 'e'
            && (digit(peek(p, 1))
                || ((peek(p, 1) == '+' || peek(p, 1) == '-') && digit(peek(p, 2))))) {
            real = true;
            p->at += 2;
            while (digit(peek(p, 0)))
                p->at++;
        }
    }
    s = str_n(p->in.p + from, p->at - from);
    if (real) {
        p->token = T_FLOAT;
        p->literal.kind = CEL_DOUBLE;
        if (!cel_parse_double(s, &p->literal.d))
            FAIL(p, from, "invalid double literal");
        return;
    }
    p->literal.kind = CEL_UINT;
    p->literal.u = 0;
    for (size_t i = hex ? 2 : 0; i < s.n; i++) {
        unsigned base = hex ? 16 : 10, d = digit(s.p[i]) ? (unsigned)(s.p[i] - '0')
                                                         : (unsigned)((s.p[i] | 32) - 'a' + 10);

        if (__builtin_mul_overflow(p->literal.u, base, &p->literal.u)
            || __builtin_add_overflow(p->literal.u, d, &p->literal.u)) {
            FAIL(p, from, "invalid int literal");
            break;
        }
    }
    p->token = T_INT; /* the sign decides about the range */
    if ((peek(p, 0) | 32) == 'u') {
        p->at++;
        p->token = T_UINT;
    }
}

static void add_rune(struct buf *b, uint32_t r)
{
    if (r < 0x80) {
        buf_addc(b, (char)r);
    } else if (r < 0x800) {
        buf_addc(b, (char)(0xc0 | r >> 6));
        buf_addc(b, (char)(0x80 | (r & 0x3f)));
    } else if (r < 0x10000) {
        buf_addc(b, (char)(0xe0 | r >> 12));
        buf_addc(b, (char)(0x80 | (r >> 6 & 0x3f)));
        buf_addc(b, (char)(0x80 | (r & 0x3f)));
    } else {
        buf_addc(b, (char)(0xf0 | r >> 18));
        buf_addc(b, (char)(0x80 | (r >> 12 & 0x3f)));
        buf_addc(b, (char)(0x80 | (r >> 6 & 0x3f)));
        buf_addc(b, (char)(0x80 | (r & 0x3f)));
    }
}

static bool number_escape(struct cel_lexer *p, size_t digits, unsigned base, uint32_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = peek(p, 0);
        unsigned d = digit(c)                             ? (unsigned)(c - '0')
                     : (c | 32) >= 'a' && (c | 32) <= 'f' ? (unsigned)((c | 32) - 'a' + 10)
                                                          : 99;

        if (d >= base)
            return false;
        *ret = *ret * base + d;
        p->at++;
    }
    return true;
}

/* Behind a backslash. */
static bool lex_escape(struct cel_lexer *p, bool bytes, struct buf *out)
{
    static const char letters[] = "abfnrtv\\'\"`?", to[] = "\a\b\f\n\r\t\v\\'\"`?";
    char c = peek(p, 0);
    const char *found = c ? strchr(letters, c) : NULL;
    uint32_t r;
    bool ok;

    if (found) {
        p->at++;
        buf_addc(out, to[found - letters]);
        return true;
    }
    if (c >= '0' && c <= '3') {
        ok = number_escape(p, 3, 8, &r);
    } else {
        p->at++;
        switch (c) {
        case 'x':
        case 'X':
            ok = number_escape(p, 2, 16, &r);
            break;
        case 'u':
            ok = !bytes && number_escape(p, 4, 16, &r);
            break;
        case 'U':
            ok = !bytes && number_escape(p, 8, 16, &r);
            break;
        default:
            ok = false;
        }
    }
    if (!ok || r > 0x10ffff || (!bytes && r >= 0xd800 && r < 0xe000))
        return false;
    if (bytes)
        buf_addc(out, (char)r);
    else
        add_rune(out, r);
    return true;
}

static void lex_string(struct cel_lexer *p, bool raw, bool bytes)
{
    AUTO(buf_done) struct buf out = {.limit = LIMIT_CEL_TEXT};
    char quote = peek(p, 0);
    bool triple = peek(p, 1) == quote && peek(p, 2) == quote, closed = false;

    p->at += triple ? 3 : 1;
    while (p->at < p->in.n && !closed) {
        char c = peek(p, 0);

        if (c == quote && (!triple || (peek(p, 1) == quote && peek(p, 2) == quote))) {
            p->at += triple ? 3 : 1;
            closed = true;
        } else if ((c == '\n' || c == '\r') && !triple) {
            break;
        } else if (c == '\\' && !raw) {
            p->at++;
            if (!lex_escape(p, bytes, &out))
                break;
        } else {
            buf_addc(&out, c);
            p->at++;
        }
    }
    p->token = closed ? (bytes ? T_BYTES : T_STRING) : T_BAD;
    p->literal = cel_v_str(arena_str(p->a, out.n ? buf_str(&out) : STR("")));
    if (bytes)
        p->literal.kind = CEL_BYTES;
}

/* r'', b'', rb'', br'' in any case */
static bool string_prefix(struct cel_lexer *p, bool *raw, bool *bytes)
{
    size_t n = 0;

    *raw = *bytes = false;
    for (; n < 2; n++) {
        char c = (char)(peek(p, n) | 32);

        if (c == 'r' && !*raw)
            *raw = true;
        else if (c == 'b' && !*bytes)
            *bytes = true;
        else
            break;
    }
    if (peek(p, n) != '"' && peek(p, n) != '\'')
        return false;
    p->at += n;
    return true;
}

static void skip_blanks(struct cel_lexer *p)
{
    for (;;) {
        char c = peek(p, 0);

        if (p->at < p->in.n && (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'))
            p->at++;
        else if (c == '/' && peek(p, 1) == '/')
            while (p->at < p->in.n && peek(p, 0) != '\n')
                p->at++;
        else
            return;
    }
}

void cel_lex(struct cel_lexer *p)
{
    static const char *const twos[] = {"==", "!=", "<=", ">=", "&&", "||"};
    bool raw, bytes;
    char c;

    skip_blanks(p);
    p->start = p->at;
    c = peek(p, 0);
    if (p->at >= p->in.n) {
        p->token = T_END;
    } else if (string_prefix(p, &raw, &bytes)) {
        lex_string(p, raw, bytes);
    } else if (ident_start(c)) {
        while (ident_start(peek(p, 0)) || digit(peek(p, 0)))
            p->at++;
        p->token = T_IDENT;
    } else if (digit(c) || (c == '.' && digit(peek(p, 1)))) {
        lex_number(p);
    } else {
        p->token = T_BAD;
        for (size_t i = 0; i < ARRAY_SIZE(twos) && p->token == T_BAD; i++)
            if (c == twos[i][0] && peek(p, 1) == twos[i][1]) {
                p->token = T_OP;
                p->at += 2;
            }
        if (p->token == T_BAD && c && strchr("+-*/%!<>?:.,()[]{}", c)) {
            p->token = T_OP;
            p->at++;
        }
        if (p->token == T_BAD)
            p->at++;
    }
    p->text = str_n(p->in.p + p->start, p->at - p->start);
    if (p->token == T_BAD) {
        if (!p->failed)
            FAIL(p, p->start, "Syntax error: token recognition error at: '" STR_FMT "'",
                 STR_ARG(p->text));
        p->failed = true;
    }
}
