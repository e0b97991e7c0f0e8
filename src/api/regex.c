/* The parser of expressions: RE2's syntax with the flags that Go's regexp.Compile sets, and Go's messages. */
#include "api/regex.h"

#include "api/regex_tree.h"
#include "base/cleanup.h"
#include "base/vec.h"

#define DEPTH_MAX 250
#define REPEAT_MAX 1000
#define LAST 0x10ffffu

enum { FOLD = 1, MANY_LINES = 2, DOT_ALL = 4 };

struct parser {
    struct arena *a;
    struct str in;
    size_t at;
    unsigned flags;
    int depth;
    struct error *err;
};

static bool refuse(struct parser *p, const char *why, struct str what)
{
    return error_set(p->err, ERROR_INVALID, "error parsing regexp: %s: `" STR_FMT "`", why, STR_ARG(what));
}

static struct str rest(struct parser *p)
{
    return str_skip(p->in, p->at);
}
static struct str since(struct parser *p, size_t start)
{
    return str_n(p->in.p + start, p->at - start);
}
static bool more(struct parser *p)
{
    return p->at < p->in.n;
}
static bool next_is(struct parser *p, const char *z)
{
    return str_starts(rest(p), str_of(z));
}

static bool take(struct parser *p, const char *z)
{
    if (!next_is(p, z))
        return false;
    p->at += strlen(z);
    return true;
}

/* The pattern is valid UTF-8. */
static uint32_t take_character(struct parser *p)
{
    unsigned char c = (unsigned char)p->in.p[p->at++];
    int n = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    uint32_t ret = n ? c & (0x3fu >> n) : c;

    while (n-- > 0)
        ret = ret << 6 | ((unsigned char)p->in.p[p->at++] & 0x3fu);
    return ret;
}

/* -- sets of characters --------------------------------------------------------------------------- */

struct set {
    VEC(struct regex_range) r;
};

static void set_done(struct set *s)
{
    vec_done(&s->r);
}

static void set_add(struct set *s, uint32_t low, uint32_t high)
{
    vec_push(&s->r, (struct regex_range){low, high});
}

/* (?i): letters of ASCII, and the two characters beyond it that fold into it. */
static void set_add_folded(struct set *s, uint32_t low, uint32_t high)
{
    static const struct regex_range cases[] = {{'A', 'Z'}, {'a', 'z'}};

    set_add(s, low, high);
    for (size_t i = 0; i < 2; i++) {
        uint32_t from = low > cases[i].low ? low : cases[i].low, to = high < cases[i].high ? high : cases[i].high;

        if (from > to)
            continue;
        set_add(s, from ^ 0x20, to ^ 0x20);
        if ((from | 0x20) <= 'k' && (to | 0x20) >= 'k')
            set_add(s, 0x212a, 0x212a);
        if ((from | 0x20) <= 's' && (to | 0x20) >= 's')
            set_add(s, 0x17f, 0x17f);
    }
    if (low <= 0x212a && high >= 0x212a) {
        set_add(s, 'k', 'k');
        set_add(s, 'K', 'K');
    }
    if (low <= 0x17f && high >= 0x17f) {
        set_add(s, 's', 's');
        set_add(s, 'S', 'S');
    }
}

static int by_low(const void *x, const void *y)
{
    const struct regex_range *a = x, *b = y;

    return (a->low > b->low) - (a->low < b->low);
}

static void set_clean(struct set *s)
{
    size_t n = 0;

    if (s->r.n)
        qsort(s->r.p, s->r.n, sizeof *s->r.p, by_low);
    for (size_t i = 0; i < s->r.n; i++) {
        if (n && s->r.p[i].low <= s->r.p[n - 1].high + 1) {
            if (s->r.p[i].high > s->r.p[n - 1].high)
                s->r.p[n - 1].high = s->r.p[i].high;
        } else {
            s->r.p[n++] = s->r.p[i];
        }
    }
    s->r.n = n;
}

static void set_negate(struct set *s)
{
    AUTO(set_done) struct set out = {0};
    uint32_t from = 0;
    struct set was;

    set_clean(s);
    for (size_t i = 0; i < s->r.n; i++) {
        if (s->r.p[i].low > from)
            set_add(&out, from, s->r.p[i].low - 1);
        from = s->r.p[i].high + 1;
    }
    if (from <= LAST)
        set_add(&out, from, LAST);
    was = *s;
    *s = out;
    out = was;
}

static void set_join(struct set *s, struct set *other, bool negative)
{
    if (negative)
        set_negate(other);
    for (size_t i = 0; i < other->r.n; i++)
        set_add(s, other->r.p[i].low, other->r.p[i].high);
}

static struct regex_node *node(struct parser *p, enum regex_op op)
{
    struct regex_node *n = ARENA_NEW(p->a, struct regex_node);

    n->op = op;
    return n;
}

static struct regex_node *set_node(struct parser *p, struct set *s)
{
    struct regex_node *n = node(p, REGEX_SET);
    struct regex_range *copy;

    set_clean(s);
    copy = ARENA_ARRAY(p->a, struct regex_range, s->r.n + 1);
    if (s->r.n)
        memcpy(copy, s->r.p, s->r.n * sizeof *copy);
    n->ranges = copy;
    n->n = s->r.n;
    return n;
}

static struct regex_node *literal(struct parser *p, uint32_t c)
{
    AUTO(set_done) struct set s = {0};

    if (p->flags & FOLD)
        set_add_folded(&s, c, c);
    else
        set_add(&s, c, c);
    return set_node(p, &s);
}

/* -- escapes and classes -------------------------------------------------------------------------- */

/* \d and its kin; false: none of them. */
static bool perl_class(struct parser *p, struct set *s)
{
    static const struct {
        char name;
        struct regex_range r[4];
        int n;
    } classes[] = {
        {'d', {{'0', '9'}}, 1},
        {'s', {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}}, 3},
        {'w', {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
    };
    char c = p->at + 1 < p->in.n && p->in.p[p->at] == '\\' ? p->in.p[p->at + 1] : '\0';

    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        AUTO(set_done) struct set one = {0};

        if ((c | 0x20) != classes[i].name || c == '\0')
            continue;
        for (int k = 0; k < classes[i].n; k++)
            (p->flags & FOLD ? set_add_folded : set_add)(&one, classes[i].r[k].low, classes[i].r[k].high);
        set_join(s, &one, !(c & 0x20));
        p->at += 2;
        return true;
    }
    return false;
}

/* \pN, \p{Name}, \P, \p{^Name}. *ret_is tells whether there was one. */
static bool unicode_class(struct parser *p, struct set *s, bool *ret_is)
{
    size_t start = p->at, end;
    bool negative;
    struct str name;

    *ret_is = next_is(p, "\\p") || next_is(p, "\\P");
    if (!*ret_is)
        return true;
    negative = p->in.p[p->at + 1] == 'P';
    p->at += 2;
    if (!more(p))
        return refuse(p, "invalid character class range", since(p, start));
    if (p->in.p[p->at] == '{') {
        if (!str_find(rest(p), STR("}"), &end)) {
            p->at = p->in.n;
            return refuse(p, "invalid character class range", since(p, start));
        }
        name = str_n(p->in.p + p->at + 1, end - 1);
        p->at += end + 1;
        if (str_starts(name, STR("^"))) {
            negative = !negative;
            name = str_skip(name, 1);
        }
    } else {
        size_t from = p->at;

        (void)take_character(p);
        name = since(p, from);
    }
    if (str_is(name, "Any")) {
        AUTO(set_done) struct set all = {0};

        set_add(&all, 0, LAST);
        set_join(s, &all, negative);
        return true;
    }
    for (const struct regex_category *c = regex_categories; c->name; c++) {
        AUTO(set_done) struct set one = {0};

        if (!str_is(name, c->name))
            continue;
        for (size_t i = 0; i < c->n; i++)
            set_add(&one, c->ranges[i].low, c->ranges[i].high);
        set_join(s, &one, negative);
        return true;
    }
    return refuse(p, "invalid character class range", since(p, start));
}

static bool hex(char c, uint32_t *ret)
{
    if (c >= '0' && c <= '9')
        *ret = (uint32_t)(c - '0');
    else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        *ret = (uint32_t)((c | 0x20) - 'a' + 10);
    else
        return false;
    return true;
}

/* What follows \x. */
static bool hex_escape(struct parser *p, uint32_t *ret)
{
    uint32_t v = 0, digit;

    if (take(p, "{")) {
        size_t start = p->at;

        while (more(p) && hex(p->in.p[p->at], &digit) && v <= LAST) {
            v = v * 16 + digit;
            p->at++;
        }
        *ret = v;
        return p->at > start && v <= LAST && take(p, "}");
    }
    for (int i = 0; i < 2; i++) {
        if (!more(p) || !hex(p->in.p[p->at], &digit))
            return false;
        p->at++;
        v = v * 16 + digit;
    }
    *ret = v;
    return true;
}

static bool escape(struct parser *p, uint32_t *ret)
{
    static const char names[] = "aftnrv", values[] = "\a\f\t\n\r\v";
    size_t start = p->at++;
    uint32_t c;
    const char *known;

    if (!more(p))
        return refuse(p, "trailing backslash at end of expression", STR(""));
    c = take_character(p);
    known = c < 0x80 && c ? strchr(names, (int)c) : NULL;
    if (c >= '0' && c <= '7' && (c == '0' || (more(p) && p->in.p[p->at] >= '0' && p->in.p[p->at] <= '7'))) {
        *ret = c - '0';
        for (int i = 1; i < 3 && more(p) && p->in.p[p->at] >= '0' && p->in.p[p->at] <= '7'; i++)
            *ret = *ret * 8 + (uint32_t)(p->in.p[p->at++] - '0');
        return true;
    }
    if (c == 'x')
        return hex_escape(p, ret) || refuse(p, "invalid escape sequence", since(p, start));
    if (known) {
        *ret = (unsigned char)values[known - names];
        return true;
    }
    if (c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
        return refuse(p, "invalid escape sequence", since(p, start));
    *ret = c;
    return true;
}

/* [:alpha:] and its kin within brackets. *ret_is tells whether there was one. */
static bool named_class(struct parser *p, struct set *s, bool *ret_is)
{
    static const struct {
        const char *name;
        struct regex_range r[4];
        int n;
    } classes[] = {
        {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}, 3},
        {"alpha", {{'A', 'Z'}, {'a', 'z'}}, 2},
        {"ascii", {{0, 0x7f}}, 1},
        {"blank", {{'\t', '\t'}, {' ', ' '}}, 2},
        {"cntrl", {{0, 0x1f}, {0x7f, 0x7f}}, 2},
        {"digit", {{'0', '9'}}, 1},
        {"graph", {{'!', '~'}}, 1},
        {"lower", {{'a', 'z'}}, 1},
        {"print", {{' ', '~'}}, 1},
        {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}, 4},
        {"space", {{'\t', '\r'}, {' ', ' '}}, 2},
        {"upper", {{'A', 'Z'}}, 1},
        {"word", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
        {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}, 3},
    };
    size_t end;
    struct str name;
    bool negative;

    *ret_is = next_is(p, "[:") && str_find(str_skip(rest(p), 2), STR(":]"), &end);
    if (!*ret_is)
        return true;
    name = str_take(str_skip(rest(p), 2), end);
    negative = str_starts(name, STR("^"));
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        AUTO(set_done) struct set one = {0};

        if (!str_is(str_skip(name, negative), classes[i].name))
            continue;
        for (int k = 0; k < classes[i].n; k++)
            (p->flags & FOLD ? set_add_folded : set_add)(&one, classes[i].r[k].low, classes[i].r[k].high);
        set_join(s, &one, negative);
        p->at += end + 4;
        return true;
    }
    return refuse(p, "invalid character class range", str_take(rest(p), end + 4));
}

static bool class_character(struct parser *p, size_t start, uint32_t *ret)
{
    if (!more(p))
        return refuse(p, "missing closing ]", str_skip(p->in, start));
    if (p->in.p[p->at] == '\\')
        return escape(p, ret);
    *ret = take_character(p);
    return true;
}

static bool class_range(struct parser *p, size_t start, struct set *s)
{
    size_t from = p->at;
    uint32_t low, high;

    if (!class_character(p, start, &low))
        return false;
    high = low;
    if (next_is(p, "-") && p->at + 1 < p->in.n && p->in.p[p->at + 1] != ']') {
        p->at++;
        if (!class_character(p, start, &high))
            return false;
        if (high < low)
            return refuse(p, "invalid character class range", since(p, from));
    }
    (p->flags & FOLD ? set_add_folded : set_add)(s, low, high);
    return true;
}

static bool bracket(struct parser *p, struct regex_node **ret)
{
    AUTO(set_done) struct set s = {0};
    size_t start = p->at++;
    bool negative = take(p, "^");

    for (bool first = true; first || !next_is(p, "]"); first = false) {
        bool is;

        if (!more(p))
            return refuse(p, "missing closing ]", str_skip(p->in, start));
        if (!named_class(p, &s, &is))
            return false;
        if (is)
            continue;
        if (!unicode_class(p, &s, &is))
            return false;
        if (is || perl_class(p, &s))
            continue;
        if (!class_range(p, start, &s))
            return false;
    }
    p->at++;
    if (negative)
        set_negate(&s);
    *ret = set_node(p, &s);
    return true;
}

/* -- repetition ----------------------------------------------------------------------------------- */

static bool number(struct parser *p, int *ret)
{
    size_t start = p->at;
    int v = 0;

    while (more(p) && p->in.p[p->at] >= '0' && p->in.p[p->at] <= '9') {
        v = v > REPEAT_MAX ? v : v * 10 + (p->in.p[p->at] - '0');
        p->at++;
    }
    *ret = v;
    return p->at > start && !(p->at - start > 1 && p->in.p[start] == '0');
}

/* "{2}", "{2,}", "{2,5}"; anything else there is text. */
static bool counts(struct parser *p, int *min, int *max)
{
    size_t start = p->at;
    bool ok = take(p, "{") && number(p, min);

    *max = *min;
    if (ok && take(p, ",")) {
        *max = -1;
        if (!next_is(p, "}"))
            ok = number(p, max);
    }
    ok = ok && take(p, "}");
    if (!ok)
        p->at = start;
    return ok;
}

/* Repeats within repeats multiply. */
static int times_of(const struct regex_node *t)
{
    int most = 1, own;

    for (const struct regex_node *q = t->part; q; q = q->next) {
        int n = times_of(q);

        most = n > most ? n : most;
    }
    if (t->op != REGEX_REPEAT)
        return most;
    own = t->max > t->min ? t->max : t->min;
    return own > 1 ? most * own > REPEAT_MAX ? REPEAT_MAX + 1 : most * own : most;
}

static bool operator_at(struct parser *p, int *min, int *max)
{
    if (take(p, "*")) {
        *min = 0;
        *max = -1;
    } else if (take(p, "+")) {
        *min = 1;
        *max = -1;
    } else if (take(p, "?")) {
        *min = 0;
        *max = 1;
    } else {
        return counts(p, min, max);
    }
    return true;
}

static bool repeats(struct parser *p, struct regex_node **t)
{
    size_t first = p->at;
    bool lazy;
    int min, max;

    for (bool again = false;; again = true) {
        size_t start = p->at;
        struct regex_node *r;

        if (!operator_at(p, &min, &max))
            return true;
        if (min > REPEAT_MAX || max > REPEAT_MAX || (max >= 0 && min > max))
            return refuse(p, "invalid repeat count", since(p, start));
        lazy = take(p, "?");
        if (again)
            return refuse(p, "invalid nested repetition operator", since(p, first));
        r = node(p, REGEX_REPEAT);
        r->part = *t;
        r->min = min;
        r->max = max;
        r->lazy = lazy;
        if ((min > 1 || max > 1) && times_of(r) > REPEAT_MAX)
            return refuse(p, "invalid repeat count", since(p, start));
        *t = r;
    }
}

/* -- groups, sequences ---------------------------------------------------------------------------- */

static bool choice(struct parser *p, struct regex_node **ret);

static bool name_ok(struct str name)
{
    if (!name.n)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

/* "(?" has been seen. *ret_open: a group follows; else the flags hold from here to the end of this one. */
static bool group_head(struct parser *p, size_t start, bool *ret_open)
{
    unsigned flags = p->flags;
    bool off = false, any = false;
    size_t end;

    *ret_open = true;
    if (next_is(p, "P<") || next_is(p, "<")) {
        size_t skip = next_is(p, "P<") ? 2 : 1;

        if (!str_find(rest(p), STR(">"), &end))
            return refuse(p, "invalid named capture", str_skip(p->in, start));
        if (!name_ok(str_n(p->in.p + p->at + skip, end - skip))) {
            p->at += end + 1;
            return refuse(p, "invalid named capture", since(p, start));
        }
        p->at += end + 1;
        return true;
    }
    while (more(p)) {
        char c = p->in.p[p->at++];
        unsigned flag = c == 'i' ? FOLD : c == 'm' ? MANY_LINES : c == 's' ? DOT_ALL : 0;

        if (flag || c == 'U') {
            flags = off ? flags & ~flag : flags | flag;
            any = true;
        } else if (c == '-' && !off) {
            off = true;
            any = false;
        } else if ((c == ':' || c == ')') && (!off || any)) {
            *ret_open = c == ':';
            p->flags = flags;
            return true;
        } else {
            break;
        }
    }
    return refuse(p, "invalid or unsupported Perl syntax", since(p, start));
}

static bool group(struct parser *p, struct regex_node **ret)
{
    size_t start = p->at++;
    unsigned flags = p->flags;
    bool open = true;

    *ret = NULL;
    if (take(p, "?") && !group_head(p, start, &open))
        return false;
    if (!open) {
        *ret = node(p, REGEX_EMPTY);
        return true;
    }
    if (++p->depth > DEPTH_MAX)
        return refuse(p, "expression nests too deeply", p->in);
    if (!choice(p, ret))
        return false;
    p->depth--;
    p->flags = flags;
    return take(p, ")") || refuse(p, "missing closing )", p->in);
}

/* One character, class, group or place. *ret NULL: nothing that can be repeated, and no part either. */
static bool escaped(struct parser *p, struct regex_node **ret)
{
    static const struct {
        const char *text;
        enum regex_op op;
    } places[] = {
        {"\\A", REGEX_BEGIN_TEXT}, {"\\z", REGEX_END_TEXT}, {"\\b", REGEX_WORD_EDGE}, {"\\B", REGEX_NO_WORD_EDGE}};
    AUTO(set_done) struct set s = {0};
    uint32_t c;
    bool is;

    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (take(p, places[i].text)) {
            *ret = node(p, places[i].op);
            return true;
        }
    if (!unicode_class(p, &s, &is))
        return false;
    if (is || perl_class(p, &s)) {
        *ret = set_node(p, &s);
        return true;
    }
    if (!escape(p, &c))
        return false;
    *ret = literal(p, c);
    return true;
}

static bool atom(struct parser *p, struct regex_node **ret)
{
    AUTO(set_done) struct set s = {0};

    switch (p->in.p[p->at]) {
    case '(':
        return group(p, ret);
    case '[':
        return bracket(p, ret);
    case '\\':
        return escaped(p, ret);
    case '^':
        p->at++;
        *ret = node(p, p->flags & MANY_LINES ? REGEX_BEGIN_LINE : REGEX_BEGIN_TEXT);
        return true;
    case '$':
        p->at++;
        *ret = node(p, p->flags & MANY_LINES ? REGEX_END_LINE : REGEX_END_TEXT);
        return true;
    case '.':
        p->at++;
        if (!(p->flags & DOT_ALL))
            set_add(&s, '\n', '\n');
        set_negate(&s);
        *ret = set_node(p, &s);
        return true;
    default:
        *ret = literal(p, take_character(p));
        return true;
    }
}

/* \Q…\E: text as it is. */
static bool quoted(struct parser *p, struct regex_node ***end)
{
    if (!take(p, "\\Q"))
        return false;
    while (more(p) && !take(p, "\\E")) {
        **end = literal(p, take_character(p));
        *end = &(**end)->next;
    }
    return true;
}

static bool sequence(struct parser *p, struct regex_node **ret)
{
    struct regex_node *cat = node(p, REGEX_CAT), **end = &cat->part;

    while (more(p) && p->in.p[p->at] != '|' && p->in.p[p->at] != ')') {
        size_t start = p->at;
        int min, max;

        if (quoted(p, &end))
            continue;
        if (operator_at(p, &min, &max))
            return refuse(p, "missing argument to repetition operator", since(p, start));
        if (!atom(p, end) || !repeats(p, end))
            return false;
        end = &(*end)->next;
    }
    *ret = cat;
    return true;
}

static bool choice(struct parser *p, struct regex_node **ret)
{
    struct regex_node *alt = node(p, REGEX_ALT), **end = &alt->part;

    do {
        if (!sequence(p, end))
            return false;
        end = &(*end)->next;
    } while (take(p, "|"));
    *ret = alt->part->next ? alt : alt->part;
    return true;
}

bool regex_parse(struct arena *a, struct str pattern, struct regex_node **ret, struct error *err)
{
    struct parser p = {.a = a, .in = pattern.p ? pattern : STR(""), .err = err};

    if (pattern.n > REGEX_PATTERN_MAX)
        return error_set(err, ERROR_INVALID, "error parsing regexp: expression too large");
    if (!str_valid_utf8(p.in))
        return refuse(&p, "invalid UTF-8", p.in);
    if (!choice(&p, ret))
        return false;
    return !more(&p) || refuse(&p, "unexpected )", p.in);
}
