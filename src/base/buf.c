#include "base/buf.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/limits.h"

/* What an initialised buffer without memory points at: p is text from the start. Never written. */
static char nothing[1];

static size_t limit_of(const struct buf *b)
{
    return b->limit ? b->limit : LIMIT_BUF_DEFAULT;
}

void buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){.p = nothing, .limit = limit};
}

void buf_done(struct buf *b)
{
    if (!b)
        return;
    if (b->cap > 0)
        free(b->p);
    *b = (struct buf){.limit = b->limit};
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->overflow = false;
    if (b->cap > 0)
        b->p[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t n)
{
    size_t cap;

    if (b->overflow || b->n > limit_of(b) || n > limit_of(b) - b->n)
        return NULL;
    if (b->n + n + 1 > b->cap) {
        cap = b->cap + b->cap / 2;
        if (cap < b->n + n + 1)
            cap = b->n + n + 1;
        if (cap < 64)
            cap = 64;
        b->p = xrealloc(b->cap > 0 ? b->p : NULL, cap, 1);
        b->cap = cap;
        b->p[b->n] = '\0';
    }
    return b->p + b->n;
}

void buf_commit(struct buf *b, size_t n)
{
    if (n == 0)
        return;
    b->n += n;
    b->p[b->n] = '\0';
}

void buf_add(struct buf *b, const void *p, size_t n)
{
    char *to = buf_reserve(b, n);

    if (!to) {
        b->overflow = true;
        return;
    }
    if (n > 0)
        memcpy(to, p, n);
    buf_commit(b, n);
}

void buf_addc(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_adds(struct buf *b, const char *z)
{
    buf_add(b, z, strlen(z));
}

void buf_addstr(struct buf *b, struct str s)
{
    buf_add(b, s.p, s.n);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(b, fmt, ap);
    va_end(ap);
}

void buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    size_t room = b->cap > b->n ? b->cap - b->n : 0;
    int n;

    if (b->overflow)
        return;
    va_copy(again, ap);
    n = vsnprintf(room > 0 ? b->p + b->n : NULL, room, fmt, ap);
    if (n >= 0 && (size_t)n <= limit_of(b) - b->n && (size_t)n < room) {
        b->n += (size_t)n;
    } else {
        if (room > 0)
            b->p[b->n] = '\0';
        if (n < 0 || !buf_reserve(b, (size_t)n))
            b->overflow = true;
        else if (vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again) == n)
            b->n += (size_t)n;
        else
            b->p[b->n] = '\0';
    }
    va_end(again);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n > b->n)
        n = b->n;
    if (n == 0)
        return;
    b->n -= n;
    memmove(b->p, b->p + n, b->n + 1);
}

struct str buf_str(const struct buf *b)
{
    return str_n(b->p ? b->p : "", b->n);
}

char *buf_detach(struct buf *b)
{
    char *text = b->cap > 0 ? b->p : xstrdup("");

    *b = (struct buf){.limit = b->limit};
    return text;
}

bool buf_ok(const struct buf *b, const char *what, struct error *err)
{
    if (!b->overflow)
        return true;
    return error_set(err, ERROR_TOO_LARGE, "%s is larger than %zu bytes", what, limit_of(b));
}

static const char alphabet_std[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char alphabet_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode64(struct buf *b, const unsigned char *p, size_t n, const char *alphabet,
                     bool pad)
{
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t bits = (uint32_t)p[i] << 16;
        char out[4] = {'=', '=', '=', '='};

        if (have > 1)
            bits |= (uint32_t)p[i + 1] << 8;
        if (have > 2)
            bits |= p[i + 2];
        for (size_t k = 0; k <= have; k++)
            out[k] = alphabet[bits >> (18 - 6 * k) & 63];
        buf_add(b, out, pad ? 4 : have + 1);
    }
}

void buf_add_base64(struct buf *b, const void *p, size_t n)
{
    encode64(b, p, n, alphabet_std, true);
}

void buf_add_base64url(struct buf *b, const void *p, size_t n)
{
    encode64(b, p, n, alphabet_url, false);
}

static int value64(char c, const char *alphabet)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == alphabet[62] ? 62 : c == alphabet[63] ? 63 : -1;
}

/* Decodes unpadded text into *out; bits_left are what the last character carried too much. */
static bool decode64(struct str text, const char *alphabet, struct buf *out, uint32_t *bits_left)
{
    uint32_t bits = 0;
    size_t have = 0;

    for (size_t i = 0; i < text.n; i++) {
        int value = value64(text.p[i], alphabet);

        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            buf_addc(out, (char)(bits >> have & 0xff));
        }
    }
    *bits_left = bits & ((1u << have) - 1);
    return have < 6; /* one lone character is no byte */
}

/* As Go's StdEncoding, with which clients write []byte fields: line breaks anywhere are skipped. */
bool buf_add_base64_decoded(struct buf *b, struct str text, struct error *err)
{
    AUTO(buf_done) struct buf flat = {.limit = text.n + 1}, out = {.limit = text.n + 1};
    struct str body;
    uint32_t bits_left;
    size_t pad = 0;

    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != '\n' && text.p[i] != '\r')
            buf_addc(&flat, text.p[i]);
    body = buf_str(&flat);
    while (pad < 2 && body.n > 0 && body.p[body.n - 1] == '=') {
        body.n--;
        pad++;
    }
    if ((body.n + pad) % 4 != 0 || !decode64(body, alphabet_std, &out, &bits_left))
        return error_set(err, ERROR_INVALID, "not base64");
    buf_addstr(b, buf_str(&out));
    return buf_ok(b, "decoded base64", err);
}

/* Strict: a token has one spelling only. */
bool buf_add_base64url_decoded(struct buf *b, struct str text, struct error *err)
{
    AUTO(buf_done) struct buf out = {.limit = text.n + 1};
    uint32_t bits_left;

    if (!decode64(text, alphabet_url, &out, &bits_left) || bits_left != 0)
        return error_set(err, ERROR_INVALID, "not unpadded base64url");
    buf_addstr(b, buf_str(&out));
    return buf_ok(b, "decoded base64url", err);
}

void buf_add_escaped(struct buf *b, struct str s)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '-' || c == '_' || c == '.' || c == '~')
            buf_addc(b, (char)c);
        else
            buf_add(b, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
    }
}
