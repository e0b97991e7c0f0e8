#include "json/index.h"
#include "json/json.h"

/* Writes through a window reserved in the buffer, so that the many small pieces cost a memcpy each. */
enum { WINDOW = 4096 };

struct writer {
    struct buf *b;
    char *at, *end;  /* the window; NULL without one */
    char *start;
    int indent;      /* spaces per level; -1 = compact */
    unsigned depth;
    bool sorted;
};

static void flush(struct writer *w)
{
    if (w->at)
        buf_commit(w->b, (size_t)(w->at - w->start));
    w->at = w->end = w->start = NULL;
}

static void put_slow(struct writer *w, const char *p, size_t n)
{
    size_t limit = w->b->limit ? w->b->limit : LIMIT_BUF_DEFAULT;

    flush(w);
    buf_add(w->b, p, n);
    if (!w->b->overflow && limit - w->b->n > WINDOW && (w->start = buf_reserve(w->b, WINDOW))) {
        w->at = w->start;
        w->end = w->start + WINDOW;
    }
}

static inline void put(struct writer *w, const char *p, size_t n)
{
    if (n > (size_t)(w->end - w->at)) {
        put_slow(w, p, n);
    } else if (n > 0) {
        memcpy(w->at, p, n);
        w->at += n;
    }
}

static inline void putc_(struct writer *w, char c)
{
    if (w->at == w->end)
        put_slow(w, &c, 1);
    else
        *w->at++ = c;
}

/* 0: as it is; 'u': \u00XX; else the letter behind the backslash. */
static const char escapes[256] = {
    [0] = 'u', [1] = 'u', [2] = 'u', [3] = 'u', [4] = 'u', [5] = 'u', [6] = 'u', [7] = 'u', ['\b'] = 'b',
    ['\t'] = 't', ['\n'] = 'n', [11] = 'u', ['\f'] = 'f', ['\r'] = 'r', [14] = 'u', [15] = 'u', [16] = 'u',
    [17] = 'u', [18] = 'u', [19] = 'u', [20] = 'u', [21] = 'u', [22] = 'u', [23] = 'u', [24] = 'u', [25] = 'u',
    [26] = 'u', [27] = 'u', [28] = 'u', [29] = 'u', [30] = 'u', [31] = 'u', ['"'] = '"', ['\\'] = '\\',
};

/* What is no ASCII, as Go writes it: the two separators that JavaScript takes for line ends are escaped, and what is no UTF-8 is
 * U+FFFD: a program's output, or a text that was cut, must not make the whole document one that nobody reads. Returns how many
 * bytes that was, and in *ret_text what goes in their place (NULL: as they are). */
static size_t beyond_ascii(const char *p, const char *end, const char **ret_text)
{
    size_t n = json_utf8_length(p, end);

    *ret_text = n ? NULL : "\\ufffd";
    if (n == 3 && memcmp(p, "\xe2\x80", 2) == 0 && ((unsigned char)p[2] & 0xfe) == 0xa8)
        *ret_text = (unsigned char)p[2] == 0xa8 ? "\\u2028" : "\\u2029";
    return n ? n : 1;
}

static void put_string(struct writer *w, const char *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    const char *end = p + n, *plain = p;

    putc_(w, '"');
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        char e = escapes[c];
        const char *text;
        if (e == 0 && c < 0x80)
            continue;
        if (c >= 0x80) {
            size_t step = beyond_ascii(p, end, &text);

            if (text) {
                put(w, plain, (size_t)(p - plain));
                put(w, text, 6);
                plain = p + step;
            }
            p += step - 1;
            continue;
        }
        put(w, plain, (size_t)(p - plain));
        if (e == 'u') {
            char u[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            put(w, u, sizeof u);
        } else {
            char two[2] = {'\\', e};
            put(w, two, sizeof two);
        }
        plain = p + 1;
    }
    put(w, plain, (size_t)(p - plain));
    putc_(w, '"');
}

static void put_line(struct writer *w)
{
    static const char spaces[] = "                ";

    if (w->indent < 0)
        return;
    putc_(w, '\n');
    for (size_t left = w->depth * (size_t)w->indent; left > 0;) {
        size_t n = left < sizeof spaces - 1 ? left : sizeof spaces - 1;
        put(w, spaces, n);
        left -= n;
    }
}

static void put_value(struct writer *w, const struct json *v);

static void put_member(struct writer *w, const struct json_member *m, bool first)
{
    if (!first)
        putc_(w, ',');
    put_line(w);
    put_string(w, m->key.text, m->key.n);
    putc_(w, ':');
    if (w->indent >= 0)
        putc_(w, ' ');
    put_value(w, &m->value);
}

static int by_key(const void *a, const void *b)
{
    const struct json_member *x = *(const struct json_member *const *)a;
    const struct json_member *y = *(const struct json_member *const *)b;
    int order = str_cmp(json_str(&x->key), json_str(&y->key));

    return order ? order : (x > y) - (x < y);
}

/* Of equal keys only the last, which is the one that readers see. */
static void put_sorted_members(struct writer *w, const struct json *v)
{
    AUTO_FREE const struct json_member **order = xcalloc(v->n, sizeof *order);
    bool first = true;

    for (size_t i = 0; i < v->n; i++)
        order[i] = &v->members[i];
    qsort(order, v->n, sizeof *order, by_key);
    for (size_t i = 0; i < v->n; i++) {
        if (i + 1 < v->n && str_eq(json_str(&order[i]->key), json_str(&order[i + 1]->key)))
            continue;
        put_member(w, order[i], first);
        first = false;
    }
}

static void put_object(struct writer *w, const struct json *v)
{
    putc_(w, '{');
    w->depth++;
    if (w->sorted && v->n > 1)
        put_sorted_members(w, v);
    else
        for (size_t i = 0; i < v->n; i++)
            put_member(w, &v->members[i], i == 0);
    w->depth--;
    if (v->n > 0)
        put_line(w);
    putc_(w, '}');
}

static void put_array(struct writer *w, const struct json *v)
{
    putc_(w, '[');
    w->depth++;
    for (size_t i = 0; i < v->n; i++) {
        if (i > 0)
            putc_(w, ',');
        put_line(w);
        put_value(w, &v->items[i]);
    }
    w->depth--;
    if (v->n > 0)
        put_line(w);
    putc_(w, ']');
}

static void put_value(struct writer *w, const struct json *v)
{
    switch (json_type(v)) {
    case JSON_NULL:
        put(w, "null", 4);
        return;
    case JSON_FALSE:
        put(w, "false", 5);
        return;
    case JSON_TRUE:
        put(w, "true", 4);
        return;
    case JSON_NUMBER:
        put(w, v->text, v->n);
        return;
    case JSON_STRING:
        put_string(w, v->text, v->n);
        return;
    case JSON_ARRAY:
        put_array(w, v);
        return;
    case JSON_OBJECT:
        put_object(w, v);
        return;
    }
}

void json_write(struct buf *b, const struct json *v)
{
    struct writer w = {.b = b, .indent = -1};

    put_value(&w, v);
    flush(&w);
}

void json_write_pretty(struct buf *b, const struct json *v, int indent)
{
    struct writer w = {.b = b, .indent = indent};

    put_value(&w, v);
    flush(&w);
}

void json_write_sorted(struct buf *b, const struct json *v)
{
    struct writer w = {.b = b, .indent = -1, .sorted = true};

    put_value(&w, v);
    flush(&w);
}

void json_write_string(struct buf *b, struct str s)
{
    struct writer w = {.b = b, .indent = -1};

    put_string(&w, s.p ? s.p : "", s.n);
    flush(&w);
}

char *json_text(const struct json *v)
{
    struct buf b = {0};

    json_write(&b, v);
    return buf_detach(&b);
}
