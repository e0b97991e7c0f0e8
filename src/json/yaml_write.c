#include "json/index.h"
#include "json/yaml.h"
#include "json/yaml_scalar.h"

/* A scalar's text, looked at once: which styles can hold it. */
struct shape {
    bool plain, single, literal;
    bool breaks; /* has a line feed */
};

static bool blank_or_end(const char *p, const char *end) { return p == end || *p == ' ' || *p == '\n' || *p == '\t'; }

/* Control characters and the invisible line breaks of Unicode are only safe escaped. */
static bool is_special(const unsigned char *p, size_t n)
{
    if (p[0] < 0x20)
        return p[0] != '\n';
    if (p[0] == 0x7f)
        return true;
    if (p[0] == 0xc2 && n > 1)
        return p[1] < 0xa0;
    if (p[0] == 0xe2 && n > 2)
        return p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9);
    if (p[0] == 0xef && n > 2)
        return (p[1] == 0xbb && p[2] == 0xbf) || (p[1] == 0xbf && p[2] >= 0xbe);
    return false;
}

static bool indicator_at(const char *begin, const char *p, const char *end)
{
    if (p == begin) {
        if (strchr("#,[]{}&*!|>'\"%@`", *p))
            return true;
        if (strchr("?:-", *p) && blank_or_end(p + 1, end))
            return true;
    }
    return (*p == ':' && blank_or_end(p + 1, end)) || (*p == '#' && p > begin && blank_or_end(p - 1, end));
}

static struct shape look(struct str s)
{
    struct shape f = {.plain = s.n > 0, .single = true, .literal = s.n > 0};
    const char *end = s.p + s.n;

    if (str_starts(s, STR("---")) || str_starts(s, STR("...")))
        f.plain = false;
    for (const char *p = s.p; p < end; p++) {
        bool space = *p == ' ', next_break = p + 1 < end && p[1] == '\n', edge = p == s.p || p + 1 == end;
        f.breaks = f.breaks || *p == '\n';
        if (is_special((const unsigned char *)p, (size_t)(end - p)) || (space && next_break))
            return (struct shape){.breaks = f.breaks};
        if (*p == '\0' || indicator_at(s.p, p, end) || ((space || *p == '\n') && edge))
            f.plain = false;
        if (space && p + 1 == end)
            f.literal = false;
        if (*p == '\n' && p + 1 < end && p[1] == ' ')
            f.single = false;
    }
    if (f.breaks)
        f.plain = f.single = false; /* never folded over lines */
    return f;
}

static void indent_to(struct buf *b, size_t indent)
{
    for (size_t i = 0; i < indent; i++)
        buf_addc(b, ' ');
}

static void write_double(struct buf *b, struct str s)
{
    static const struct {
        unsigned char c;
        char letter;
    } letters[] = {{'"', '"'}, {'\\', '\\'}, {'\n', 'n'}, {'\t', 't'}, {'\r', 'r'}, {0, '0'}, {7, 'a'}, {8, 'b'},
                   {11, 'v'}, {12, 'f'}, {27, 'e'}};

    buf_addc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char *p = (const unsigned char *)s.p + i;
        char letter = '\0';
        for (size_t k = 0; k < sizeof letters / sizeof letters[0]; k++)
            if (letters[k].c == *p)
                letter = letters[k].letter;
        if (letter) {
            buf_addc(b, '\\');
            buf_addc(b, letter);
        } else if (!is_special(p, s.n - i)) {
            buf_addc(b, (char)*p);
        } else if (*p < 0x80) {
            buf_addf(b, "\\x%02X", *p);
        } else if (*p == 0xc2) {
            buf_addf(b, "\\x%02X", p[1]);
            i += 1;
        } else {
            buf_addf(b, "\\u%04X", (*p & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u));
            i += 2;
        }
    }
    buf_addc(b, '"');
}

static void write_single(struct buf *b, struct str s)
{
    buf_addc(b, '\'');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\'')
            buf_addc(b, '\'');
        buf_addc(b, s.p[i]);
    }
    buf_addc(b, '\'');
}

static void write_literal(struct buf *b, struct str s, size_t indent)
{
    struct str rest = s, line;
    bool ended = str_ends(s, STR("\n"));

    buf_addc(b, '|');
    if (s.p[0] == ' ' || s.p[0] == '\n')
        buf_addc(b, '2');
    if (!ended)
        buf_addc(b, '-');
    else if (s.n == 1 || str_ends(s, STR("\n\n")))
        buf_addc(b, '+');
    if (ended)
        rest.n--;
    while (str_next(&rest, '\n', &line)) {
        buf_addc(b, '\n');
        if (line.n > 0)
            indent_to(b, indent);
        buf_addstr(b, line);
    }
}

static void write_string(struct buf *b, struct str s, size_t indent, bool key)
{
    struct shape f = look(s);

    if (f.breaks && f.literal && !key)
        write_literal(b, s, indent);
    else if (s.n == 0 || f.breaks || yaml_needs_quotes(s) || !f.single)
        write_double(b, s);
    else if (f.plain)
        buf_addstr(b, s);
    else
        write_single(b, s);
}

/* A collection with something in it goes on lines of its own. */
static bool is_block(const struct json *v) { return json_len(v) > 0; }

static void write_scalar(struct buf *b, const struct json *v, size_t indent)
{
    if (json_is(v, JSON_STRING))
        write_string(b, json_str(v), indent, false);
    else
        json_write(b, v); /* {} and [] too */
}

static void write_block(struct buf *b, const struct json *v, size_t indent);

enum { SIMPLE_KEY_MAX = 128 }; /* longer ones are written "? key", readers look ahead only so far */

static void write_member(struct buf *b, const struct json_member *m, size_t indent)
{
    bool sequence = json_is(&m->value, JSON_ARRAY);

    if (m->key.n > SIMPLE_KEY_MAX) {
        buf_adds(b, "? ");
        write_string(b, json_str(&m->key), indent, true);
        buf_addc(b, '\n');
        indent_to(b, indent);
        buf_addc(b, ':');
    } else {
        write_string(b, json_str(&m->key), indent, true);
        buf_addc(b, ':');
    }
    if (!is_block(&m->value)) {
        buf_addc(b, ' ');
        write_scalar(b, &m->value, indent + 2);
        buf_addc(b, '\n');
        return;
    }
    buf_addc(b, '\n');
    indent_to(b, sequence ? indent : indent + 2);
    write_block(b, &m->value, sequence ? indent : indent + 2);
}

/* The cursor stands at `indent` already; ends behind a line feed. */
static void write_block(struct buf *b, const struct json *v, size_t indent)
{
    bool first = true;

    json_each_member (m, v) {
        if (!first)
            indent_to(b, indent);
        write_member(b, m, indent);
        first = false;
    }
    json_each_item (it, v) {
        if (!first)
            indent_to(b, indent);
        buf_adds(b, "- ");
        if (is_block(it)) {
            write_block(b, it, indent + 2);
        } else {
            write_scalar(b, it, indent + 2);
            buf_addc(b, '\n');
        }
        first = false;
    }
}

void yaml_write(struct buf *b, const struct json *v)
{
    if (is_block(v)) {
        write_block(b, v, 0);
        return;
    }
    write_scalar(b, v, 2);
    buf_addc(b, '\n');
}
