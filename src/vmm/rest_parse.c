/* An HTTP/1.1 answer, read strictly: one that can be understood in two ways is refused. */
#include "vmm/rest.h"

enum { STATUS_LINE, HEADER, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

void rest_parse_init(struct rest_parse *p)
{
    *p = (struct rest_parse){.state = STATUS_LINE};
    buf_init(&p->line, LIMIT_REST_HEADERS);
    buf_init(&p->body, LIMIT_REST_BODY);
}

void rest_parse_done(struct rest_parse *p)
{
    buf_done(&p->line);
    buf_done(&p->body);
}

static bool bad(struct error *err, const char *what)
{
    return error_set(err, ERROR_INTERNAL, "its answer is no HTTP: %s", what);
}

static bool digits(struct str s, uint64_t max, unsigned base, uint64_t *ret)
{
    uint64_t v = 0;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 16;

        if (d >= base || v > (max - d) / base)
            return false;
        v = v * base + d;
    }
    *ret = v;
    return s.n > 0;
}

/* "HTTP/1.1 204 No Content"; the reason and the blank before it may be absent. */
static bool status_line(struct rest_parse *p, struct str line, struct error *err)
{
    uint64_t status = 0;

    if (!str_starts(line, STR("HTTP/1.1 ")) && !str_starts(line, STR("HTTP/1.0 ")))
        return bad(err, "a status line was expected");
    line = str_skip(line, strlen("HTTP/1.1 "));
    if (line.n < 3 || (line.n > 3 && line.p[3] != ' ') || !digits(str_take(line, 3), 999, 10, &status) || status < 100)
        return bad(err, "its status line has no status");
    if (status == 101)
        return bad(err, "it changes the protocol");
    p->status = (unsigned)status;
    p->has_length = p->chunked = false;
    p->left = 0;
    p->state = HEADER;
    return true;
}

static bool header(struct rest_parse *p, struct str line, struct error *err)
{
    struct str name, value;
    uint64_t n = 0;

    if (!str_cut(line, ':', &name, &value) || name.n == 0 || str_has(name, ' ') || str_has(name, '\t'))
        return bad(err, "a header has no name");
    value = str_trim(value);
    if (str_eq_nocase(name, STR("content-length"))) {
        if (!digits(value, INT64_MAX, 10, &n) || (p->has_length && p->left != n))
            return bad(err, "its length is not clear");
        p->has_length = true;
        p->left = n;
    } else if (str_eq_nocase(name, STR("transfer-encoding"))) {
        if (!str_eq_nocase(value, STR("chunked")) || p->chunked)
            return bad(err, "its transfer encoding is unknown");
        p->chunked = true;
    }
    return true;
}

static bool headers_end(struct rest_parse *p, struct error *err)
{
    if (p->status < 200) { /* "100 Continue": the answer itself is still to come */
        p->state = STATUS_LINE;
        return !(p->chunked || p->left) || bad(err, "an interim answer has a body");
    }
    if (p->chunked && p->has_length)
        return bad(err, "its length is told twice");
    if (p->status == 204 || p->status == 304) {
        p->done = true;
        return !(p->chunked || p->left) || bad(err, "an answer without content has a body");
    }
    if (!p->chunked && !p->has_length)
        return bad(err, "its length is not told");
    if (p->left > LIMIT_REST_BODY)
        return error_set(err, ERROR_TOO_LARGE, "its answer is longer than %u bytes", LIMIT_REST_BODY);
    p->state = p->chunked ? CHUNK_SIZE : BODY;
    p->done = !p->chunked && p->left == 0;
    return true;
}

static bool chunk_size(struct rest_parse *p, struct str line, struct error *err)
{
    struct str size, extension;

    str_cut(line, ';', &size, &extension);
    if (!digits(str_trim(size), INT64_MAX, 16, &p->left))
        return bad(err, "a chunk has no size");
    if (p->left > LIMIT_REST_BODY - p->body.n)
        return error_set(err, ERROR_TOO_LARGE, "its answer is longer than %u bytes", LIMIT_REST_BODY);
    p->state = p->left ? CHUNK : TRAILER;
    return true;
}

static bool take_line(struct rest_parse *p, struct str line, struct error *err)
{
    switch (p->state) {
    case STATUS_LINE:
        return status_line(p, line, err);
    case HEADER:
        return line.n ? header(p, line, err) : headers_end(p, err);
    case CHUNK_SIZE:
        return chunk_size(p, line, err);
    case CHUNK_END:
        p->state = CHUNK_SIZE;
        return line.n == 0 || bad(err, "a chunk is longer than its size");
    case TRAILER:
        p->done = line.n == 0;
        return true;
    }
    return bad(err, "a line was not expected");
}

/* Bytes up to the end of a line; a line that is whole is acted upon. */
static bool feed_line(struct rest_parse *p, struct str *bytes, struct error *err)
{
    const char *nl = memchr(bytes->p, '\n', bytes->n);
    size_t n = nl ? (size_t)(nl - bytes->p) + 1 : bytes->n;

    p->header_bytes += n;
    if (p->header_bytes > LIMIT_REST_HEADERS)
        return error_set(err, ERROR_TOO_LARGE, "its answer has more than %u bytes of headers", LIMIT_REST_HEADERS);
    buf_add(&p->line, bytes->p, n);
    *bytes = str_skip(*bytes, n);
    if (!nl)
        return true;
    if (p->line.n < 2 || p->line.p[p->line.n - 2] != '\r')
        return bad(err, "a line does not end in CR LF");
    if (!take_line(p, str_n(p->line.p, p->line.n - 2), err))
        return false;
    buf_clear(&p->line);
    return true;
}

bool rest_parse_feed(struct rest_parse *p, struct str bytes, struct error *err)
{
    while (bytes.n > 0) {
        if (p->done)
            return bad(err, "more follows than it announced");
        if (p->state != BODY && p->state != CHUNK) {
            if (!feed_line(p, &bytes, err))
                return false;
            continue;
        }
        size_t n = bytes.n < p->left ? bytes.n : (size_t)p->left;
        buf_add(&p->body, bytes.p, n);
        bytes = str_skip(bytes, n);
        p->left -= n;
        if (p->left == 0) {
            p->done = p->state == BODY;
            p->state = CHUNK_END;
        }
    }
    return buf_ok(&p->body, "its answer", err);
}
