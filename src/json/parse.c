/* How the parser works. One pass, no recursion, one allocation per array or object.
 *
 * Finished values wait on a scratch stack of 16-byte nodes. An opening bracket notes the stack's height in
 * a frame; the closing one moves everything above that height into the arena and leaves one node behind:
 *
 *     { "a": [1, 2 . ]         stack:  "a"  1  2          frames: {0 object} {1 array}
 *                    ^ here    after:  "a"  [→ 1 2]       frames: {0 object}
 *
 * A member is two nodes, key and value, which is just what struct json_member is. Strings and numbers
 * point into the text; a string with escapes is decoded in place when the text is our copy. */
#include "json/index.h"
#include "json/json.h"
#include <assert.h>

enum { DUPS_MAX = 100, DUP_PATH_MAX = 1024 };

static_assert(sizeof(struct json_member) == 2 * sizeof(struct json), "a member is two nodes");

struct frame {
    uint32_t start; /* height of the stack at the opening bracket */
    bool object;
};

struct parser {
    const char *begin, *at, *end;
    struct arena *a;
    bool own_text; /* strings may be decoded in place */
    struct json *stack; /* owned */
    size_t n, cap;
    size_t nodes;
    struct frame frames[LIMIT_JSON_DEPTH];
    unsigned depth;
    struct json_dups *dups; /* or NULL */
    struct error *err;
};

static void parser_done(struct parser *p) { free(p->stack); }

static bool fail_at(struct parser *p, const char *at, const char *what)
{
    size_t line = 1;
    const char *line_start = p->begin;

    for (const char *q = p->begin; q < at; q++)
        if (*q == '\n') {
            line++;
            line_start = q + 1;
        }
    return error_set(p->err, ERROR_BAD_REQUEST, "json: line %zu column %zu: %s", line,
                     (size_t)(at - line_start) + 1, what);
}

static bool fail(struct parser *p, const char *what)
{
    return fail_at(p, p->at, p->at == p->end ? "unexpected end of JSON input" : what);
}

static void skip_space(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t'))
        p->at++;
}

static void push(struct parser *p, struct json v)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 128;
        p->stack = xrealloc(p->stack, p->cap, sizeof *p->stack);
    }
    p->stack[p->n++] = v;
}

static bool count_node(struct parser *p)
{
    if (++p->nodes > LIMIT_JSON_NODES)
        return fail_at(p, p->at, "too many values");
    return true;
}

/* The first byte that is not plain ASCII text: quote, backslash, control or ≥ 0x80. Eight at a time:
 * in each term the lowest byte whose top bit is set is a true hit, borrows only disturb bytes above it. */
static const char *skip_plain(const char *p, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);

    for (; end - p >= 8; p += 8) {
        uint64_t w, quote, back;
        memcpy(&w, p, 8);
        quote = w ^ (ones * '"');
        back = w ^ (ones * '\\');
        if (((w | (w - ones * 0x20) | (quote - ones) | (back - ones)) & (ones * 0x80)) != 0)
            break;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
        p++;
    return p;
}

size_t json_utf8_length(const char *text, const char *end)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t room = (size_t)(end - text);
    unsigned char low = 0x80, high = 0xbf;
    size_t n;

    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        low = p[0] == 0xe0 ? 0xa0 : 0x80;  /* overlong */
        high = p[0] == 0xed ? 0x9f : 0xbf; /* surrogates */
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        low = p[0] == 0xf0 ? 0x90 : 0x80;
        high = p[0] == 0xf4 ? 0x8f : 0xbf; /* > U+10FFFF */
    } else {
        return 0;
    }
    if (room < n || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

static bool read_hex4(const char *p, const char *end, uint32_t *ret)
{
    uint32_t v = 0;

    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = p[i], lower = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            v = v << 4 | (uint32_t)(lower - 'a' + 10);
        else
            return false;
    }
    *ret = v;
    return true;
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* \uXXXX; p->at is behind the 'u'. Half a surrogate pair becomes U+FFFD, as Go's decoder has it. */
static bool unescape_unicode(struct parser *p, char **out)
{
    uint32_t c, low;

    if (!read_hex4(p->at, p->end, &c))
        return fail(p, "invalid \\u escape");
    p->at += 4;
    if (c >= 0xd800 && c <= 0xdbff && p->end - p->at >= 6 && p->at[0] == '\\' && p->at[1] == 'u'
        && read_hex4(p->at + 2, p->end, &low) && low >= 0xdc00 && low <= 0xdfff) {
        p->at += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xd800 && c <= 0xdfff) {
        c = 0xfffd;
    }
    *out = put_utf8(*out, c);
    return true;
}

/* p->at is at a backslash. */
static bool unescape(struct parser *p, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *hit;

    if (p->end - p->at < 2) {
        p->at = p->end;
        return fail(p, "");
    }
    if (p->at[1] == 'u') {
        p->at += 2;
        return unescape_unicode(p, out);
    }
    hit = p->at[1] ? strchr(from, p->at[1]) : NULL;
    if (!hit)
        return fail(p, "invalid escape in string");
    *(*out)++ = to[hit - from];
    p->at += 2;
    return true;
}

/* One step in a string that is not plain ASCII: consumes an escape or a UTF-8 sequence.
 * `out` is NULL while nothing had to be decoded yet, and then the bytes stay where they are. */
static bool string_step(struct parser *p, char **out)
{
    unsigned char c = (unsigned char)*p->at;
    size_t n;

    if (c == '\\')
        return unescape(p, out);
    if (c < 0x20)
        return fail(p, "control character in string");
    n = json_utf8_length(p->at, p->end);
    if (n == 0)
        return fail(p, "invalid UTF-8 in string");
    if (*out) {
        memmove(*out, p->at, n);
        *out += n;
    }
    p->at += n;
    return true;
}

/* Room for the decoded form, which is never longer than the text: up to the closing quote. */
static char *decode_space(struct parser *p, const char *start)
{
    const char *q = p->at;
    char *out;

    if (p->own_text)
        return (char *)(uintptr_t)start;
    while (q < p->end && *q != '"')
        q += *q == '\\' && p->end - q > 1 ? 2 : 1;
    out = arena_alloc_bytes(p->a, (size_t)(q - start) + 1);
    memcpy(out, start, (size_t)(p->at - start));
    return out;
}

/* p->at is at the opening quote. */
static bool parse_string(struct parser *p)
{
    const char *start = ++p->at, *text = start;
    char *out = NULL;

    for (;;) {
        const char *plain = p->at;
        p->at = skip_plain(p->at, p->end);
        if (out) {
            memmove(out, plain, (size_t)(p->at - plain));
            out += p->at - plain;
        }
        if (p->at == p->end)
            return fail(p, "");
        if (*p->at == '"')
            break;
        if (*p->at == '\\' && !out) {
            char *space = decode_space(p, start);
            text = space;
            out = space + (p->at - start);
        }
        if (!string_step(p, &out))
            return false;
    }
    push(p, (struct json){.text = text, .n = (uint32_t)((out ? out : p->at) - text), .type = JSON_STRING});
    p->at++;
    return true;
}

static bool parse_literal(struct parser *p, const char *word, enum json_type type)
{
    size_t n = strlen(word);

    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0)
        return fail(p, "invalid character looking for beginning of value");
    p->at += n;
    push(p, (struct json){.type = (uint8_t)type});
    return true;
}

static bool parse_number(struct parser *p)
{
    size_t n = json_number_length(p->at, p->end);

    if (n == 0)
        return fail(p, "invalid number");
    push(p, (struct json){.text = p->at, .n = (uint32_t)n, .type = JSON_NUMBER});
    p->at += n;
    return true;
}

/* "spec.containers[0].name" for a key of the innermost object. */
static const char *path_of(struct parser *p, struct str key)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, DUP_PATH_MAX);
    for (unsigned i = 0; i + 1 < p->depth; i++) {
        uint32_t next = p->frames[i + 1].start;
        if (p->frames[i].object) {
            const struct json *k = &p->stack[next - 1];
            buf_adds(&b, b.n > 0 ? "." : "");
            buf_addstr(&b, str_n(k->text, k->n));
        } else {
            buf_addf(&b, "[%u]", (unsigned)(next - p->frames[i].start));
        }
    }
    buf_adds(&b, b.n > 0 ? "." : "");
    buf_addstr(&b, key);
    return arena_strdup(p->a, buf_str(&b));
}

static void note_duplicate(struct parser *p, struct str key)
{
    struct json_dups *d = p->dups;

    if (!d->paths)
        d->paths = ARENA_ARRAY(p->a, const char *, DUPS_MAX);
    if (d->n < DUPS_MAX)
        d->paths[d->n++] = path_of(p, key);
}

/* Each repeated key of the innermost object once. */
static void find_duplicates(struct parser *p, const struct json_member *m, size_t n)
{
    static char once, noted;
    AUTO(map_done) struct map seen = {0};

    for (size_t i = 0; i < n; i++) {
        struct str key = str_n(m[i].key.text, m[i].key.n);
        if (n <= 16) { /* no hashing for what objects commonly are */
            size_t before = 0;
            for (size_t k = 0; k < i; k++)
                before += str_eq(str_n(m[k].key.text, m[k].key.n), key);
            if (before == 1)
                note_duplicate(p, key);
            continue;
        }
        void *state = map_get(&seen, key);
        if (state == &once)
            note_duplicate(p, key);
        map_set(&seen, key, state ? &noted : &once);
    }
}

static bool open_container(struct parser *p, bool object)
{
    if (p->depth == LIMIT_JSON_DEPTH)
        return fail(p, "exceeded max depth");
    p->frames[p->depth++] = (struct frame){.start = (uint32_t)p->n, .object = object};
    p->at++;
    return true;
}

static void close_container(struct parser *p)
{
    struct frame f = p->frames[p->depth - 1];
    size_t nodes = p->n - f.start;
    struct json v = {.n = (uint32_t)(f.object ? nodes / 2 : nodes),
                     .type = f.object ? JSON_OBJECT : JSON_ARRAY};

    if (nodes > 0) {
        struct json *items = ARENA_ARRAY(p->a, struct json, nodes);
        memcpy(items, p->stack + f.start, nodes * sizeof *items);
        v.items = items;
        if (f.object && p->dups)
            find_duplicates(p, (const struct json_member *)(const void *)items, v.n);
    }
    p->depth--;
    p->n = f.start;
    p->at++;
    push(p, v);
}

static bool at_closing(const struct parser *p)
{
    return p->depth > 0 && p->at < p->end && *p->at == (p->frames[p->depth - 1].object ? '}' : ']');
}

static bool parse_key(struct parser *p)
{
    skip_space(p);
    if (p->at == p->end || *p->at != '"')
        return fail(p, "expected a string as object key");
    if (!parse_string(p))
        return false;
    skip_space(p);
    if (p->at == p->end || *p->at != ':')
        return fail(p, "expected ':' after object key");
    p->at++;
    return true;
}

/* Starts a value. Scalars are finished by it; of an array or object only the bracket is read. */
static bool parse_value(struct parser *p, bool *ret_opened)
{
    *ret_opened = false;
    skip_space(p);
    if (!count_node(p))
        return false;
    switch (p->at < p->end ? *p->at : '\0') {
    case '"':
        return parse_string(p);
    case '{':
    case '[':
        *ret_opened = true;
        return open_container(p, *p->at == '{');
    case 't':
        return parse_literal(p, "true", JSON_TRUE);
    case 'f':
        return parse_literal(p, "false", JSON_FALSE);
    case 'n':
        return parse_literal(p, "null", JSON_NULL);
    case '-': case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
        return parse_number(p);
    default:
        return fail(p, "invalid character looking for beginning of value");
    }
}

/* Behind a value: closes what ends here. *ret_more: a comma was read and another value follows. */
static bool parse_rest(struct parser *p, bool *ret_more)
{
    *ret_more = false;
    for (;;) {
        skip_space(p);
        if (p->depth == 0)
            return true;
        if (at_closing(p)) {
            close_container(p);
        } else if (p->at < p->end && *p->at == ',') {
            p->at++;
            *ret_more = true;
            return true;
        } else {
            return fail(p, p->frames[p->depth - 1].object ? "expected ',' or '}' after object member"
                                                          : "expected ',' or ']' after array item");
        }
    }
}

static bool parse_document(struct parser *p)
{
    bool more, opened;

    do {
        if (p->depth > 0 && p->frames[p->depth - 1].object && !parse_key(p))
            return false;
        if (!parse_value(p, &opened))
            return false;
        if (opened) {
            skip_space(p);
            if (!at_closing(p)) {
                more = true;
                continue;
            }
        }
        if (!parse_rest(p, &more))
            return false;
    } while (more);
    if (p->at < p->end)
        return fail(p, "invalid character after top-level value");
    return true;
}

static bool parse(struct str text, struct arena *a, bool own_text, struct json_dups *dups, const struct json **ret,
                  struct error *err)
{
    AUTO(parser_done) struct parser p;
    struct json *root;

    /* Field by field: the frames are 2 KiB that need no zeroes. */
    p.begin = p.at = text.p;
    p.end = text.p + text.n;
    p.a = a;
    p.own_text = own_text;
    p.stack = NULL;
    p.n = p.cap = p.nodes = 0;
    p.depth = 0;
    p.dups = dups;
    p.err = err;
    if (!parse_document(&p))
        return false;
    root = ARENA_NEW(a, struct json);
    *root = p.stack[0];
    *ret = root;
    return true;
}

static bool check_size(struct str *text, struct error *err)
{
    if (text->n > UINT32_MAX)
        return error_set(err, ERROR_TOO_LARGE, "json: text of %zu bytes is too large", text->n);
    if (!text->p)
        *text = STR("");
    return true;
}

bool json_parse_strict(struct str text, struct arena *a, struct json_dups *dups, const struct json **ret,
                       struct error *err)
{
    struct json_dups found = {0};

    if (!check_size(&text, err) || !parse(arena_str(a, text), a, true, dups ? &found : NULL, ret, err))
        return false;
    if (dups)
        *dups = found;
    return true;
}

bool json_parse(struct str text, struct arena *a, const struct json **ret, struct error *err)
{
    return json_parse_strict(text, a, NULL, ret, err);
}

bool json_parse_borrowed(struct str text, struct arena *a, const struct json **ret, struct error *err)
{
    return check_size(&text, err) && parse(text, a, false, NULL, ret, err);
}
