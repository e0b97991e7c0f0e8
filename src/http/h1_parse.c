#include "http/h1_parse.h"

#define MAX_CHUNK_OVERHEAD (16u << 10)

static bool is_token(char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum h1_scan h1_scan_head(struct str text, size_t *at)
{
    for (size_t i = *at; i < text.n; i++) {
        if (text.p[i] != '\n')
            continue;
        if (i == 0 || text.p[i - 1] != '\r')
            return H1_BAD;
        if (i >= 3 && text.p[i - 2] == '\n') {
            *at = i + 1;
            return H1_COMPLETE;
        }
    }
    *at = text.n;
    return H1_MORE;
}

bool h1_has_token(struct str list, const char *token)
{
    struct str rest = list, part;

    while (str_next(&rest, ',', &part))
        if (str_eq_nocase(str_trim(part), str_of(token)))
            return true;
    return false;
}

/* Blanks and tabs only: str_trim() would also take what a value must not contain. */
static struct str trim_ows(struct str s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = str_skip(s, 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

static bool parse_field(char *p, size_t n, struct http_header *ret)
{
    size_t colon = 0;

    while (colon < n && is_token(p[colon])) {
        if (p[colon] >= 'A' && p[colon] <= 'Z')
            p[colon] |= 0x20;
        colon++;
    }
    if (colon == 0 || colon == n || p[colon] != ':')
        return false;
    ret->name = str_n(p, colon);
    ret->value = trim_ows(str_n(p + colon + 1, n - colon - 1));
    for (size_t i = 0; i < ret->value.n; i++) {
        unsigned char c = (unsigned char)ret->value.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* The next line without its CRLF; the head is known to end with an empty one. */
static bool next_line(char **at, char *end, char **ret, size_t *ret_n)
{
    char *nl = memchr(*at, '\n', (size_t)(end - *at));

    if (!nl || nl == *at || nl[-1] != '\r')
        return false;
    *ret = *at;
    *ret_n = (size_t)(nl - 1 - *at);
    *at = nl + 1;
    return memchr(*ret, '\r', *ret_n) == NULL;
}

static bool parse_fields(char *at, char *end, struct h1_head *h, int *ret_status, struct error *err)
{
    char *line;
    size_t n;

    for (;;) {
        if (!next_line(&at, end, &line, &n))
            return error_set(err, ERROR_BAD_REQUEST, "malformed header line");
        if (n == 0)
            break;
        if (h->n_headers == H1_MAX_HEADERS) {
            *ret_status = 431;
            return error_set(err, ERROR_TOO_LARGE, "too many header fields");
        }
        if (!parse_field(line, n, &h->headers[h->n_headers]))
            return error_set(err, ERROR_BAD_REQUEST, "malformed header field");
        h->n_headers++;
    }
    if (at != end)
        return error_set(err, ERROR_BAD_REQUEST, "data behind the head");
    return true;
}

static bool read_length(struct h1_head *h, struct str value, struct error *err)
{
    AUTO(error_clear) struct error ignored = {0};

    if (h->has_length || !parse_u64(value, INT64_MAX, &h->length, &ignored))
        return error_set(err, ERROR_BAD_REQUEST, "bad Content-Length");
    h->has_length = true;
    return true;
}

static bool read_encoding(struct h1_head *h, struct str value, int *ret_status, struct error *err)
{
    if (h->chunked || h->http10)
        return error_set(err, ERROR_BAD_REQUEST, "bad Transfer-Encoding");
    if (!str_eq_nocase(value, STR("chunked"))) {
        *ret_status = 501;
        return error_set(err, ERROR_UNSUPPORTED, "Transfer-Encoding other than chunked");
    }
    h->chunked = true;
    return true;
}

static bool interpret(struct h1_head *h, bool request, int *ret_status, struct error *err)
{
    unsigned hosts = 0;

    for (size_t i = 0; i < h->n_headers; i++) {
        struct str name = h->headers[i].name, value = h->headers[i].value;
        if (str_is(name, "content-length")) {
            if (!read_length(h, value, err))
                return false;
        } else if (str_is(name, "transfer-encoding")) {
            if (!read_encoding(h, value, ret_status, err))
                return false;
        } else if (str_is(name, "connection")) {
            h->close = h->close || h1_has_token(value, "close");
            h->keep_alive = h->keep_alive || h1_has_token(value, "keep-alive");
            h->upgrade = h->upgrade || h1_has_token(value, "upgrade");
        } else if (str_is(name, "upgrade")) {
            h->upgrade_to = value;
        } else if (str_is(name, "host")) {
            hosts++;
        } else if (str_is(name, "expect") && request) {
            if (!str_eq_nocase(value, STR("100-continue"))) {
                *ret_status = 417;
                return error_set(err, ERROR_BAD_REQUEST, "unknown expectation");
            }
            h->expect_continue = !h->http10;
        }
    }
    if (h->chunked && h->has_length)
        return error_set(err, ERROR_BAD_REQUEST, "both Content-Length and Transfer-Encoding");
    if (request && (hosts > 1 || (hosts == 0 && !h->http10)))
        return error_set(err, ERROR_BAD_REQUEST, "exactly one Host is required");
    return true;
}

static bool read_version(struct str text, bool *ret_http10, int *ret_status, struct error *err)
{
    if (text.n != 8 || !str_starts(text, STR("HTTP/")) || !is_digit(text.p[5]) || text.p[6] != '.'
        || !is_digit(text.p[7]))
        return error_set(err, ERROR_BAD_REQUEST, "malformed HTTP version");
    if (text.p[5] != '1') {
        *ret_status = 505;
        return error_set(err, ERROR_UNSUPPORTED, "HTTP version is not 1.x");
    }
    *ret_http10 = text.p[7] == '0';
    return true;
}

static bool read_request_line(struct str line, struct h1_head *h, int *ret_status,
                              struct error *err)
{
    struct str method, rest, version;
    int m;

    if (!str_cut(line, ' ', &method, &rest) || !str_cut(rest, ' ', &h->target, &version)
        || h->target.n == 0)
        return error_set(err, ERROR_BAD_REQUEST, "malformed request line");
    for (size_t i = 0; i < h->target.n; i++)
        if (h->target.p[i] <= 0x20 || h->target.p[i] >= 0x7f)
            return error_set(err, ERROR_BAD_REQUEST, "bad byte in the request target");
    for (size_t i = 0; i < method.n; i++)
        if (!is_token(method.p[i]))
            return error_set(err, ERROR_BAD_REQUEST, "malformed method");
    if (!read_version(version, &h->http10, ret_status, err))
        return false;
    for (m = HTTP_GET; m < HTTP_CONNECT; m++)
        if (str_is(method, http_method_name((enum http_method)m)))
            break;
    if (method.n == 0 || m == HTTP_CONNECT) {
        *ret_status = method.n == 0 ? 400 : 501;
        return error_set(err, ERROR_UNSUPPORTED, "unknown method");
    }
    h->method = (enum http_method)m;
    return true;
}

bool h1_parse_request(char *text, size_t n, struct h1_head *ret, int *ret_status, struct error *err)
{
    char *at = text, *line;
    size_t line_n;

    *ret_status = 400;
    ret->n_headers = 0;
    ret->chunked = ret->has_length = ret->close = ret->keep_alive = ret->upgrade =
        ret->expect_continue = false;
    ret->length = 0;
    ret->upgrade_to = STR_NONE;
    if (!next_line(&at, text + n, &line, &line_n))
        return error_set(err, ERROR_BAD_REQUEST, "malformed request line");
    return read_request_line(str_n(line, line_n), ret, ret_status, err)
           && parse_fields(at, text + n, ret, ret_status, err)
           && interpret(ret, true, ret_status, err);
}

bool h1_parse_response(char *text, size_t n, struct h1_head *ret, struct error *err)
{
    char *at = text, *line;
    size_t line_n;
    int ignored = 0;
    struct str version, rest;

    ret->n_headers = 0;
    ret->chunked = ret->has_length = ret->close = ret->keep_alive = ret->upgrade =
        ret->expect_continue = false;
    ret->length = 0;
    ret->upgrade_to = STR_NONE;
    if (!next_line(&at, text + n, &line, &line_n)
        || !str_cut(str_n(line, line_n), ' ', &version, &rest)
        || !read_version(version, &ret->http10, &ignored, err) || rest.n < 3 || !is_digit(rest.p[0])
        || !is_digit(rest.p[1]) || !is_digit(rest.p[2]) || (rest.n > 3 && rest.p[3] != ' ')
        || rest.p[0] == '0')
        return error_set(err, ERROR_UNAVAILABLE, "malformed status line");
    ret->status = (rest.p[0] - '0') * 100 + (rest.p[1] - '0') * 10 + (rest.p[2] - '0');
    return parse_fields(at, text + n, ret, &ignored, err) && interpret(ret, false, &ignored, err);
}

/* Chunked bodies: size [;extension] CRLF data CRLF … 0 CRLF [trailers] CRLF */
enum {
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_LINE,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF
};

void h1_body_init(struct h1_body *b, enum h1_body_kind kind, uint64_t length)
{
    *b = (struct h1_body){.kind = kind, .left = kind == H1_BODY_LENGTH ? length : 0};
    b->done = kind == H1_BODY_NONE || (kind == H1_BODY_LENGTH && length == 0);
}

static bool size_byte(struct h1_body *b, char c)
{
    int v = hex_value(c);

    if (v >= 0) {
        if (++b->digits > 15) /* never near an overflow, and never padded with zeros */
            return false;
        b->left = b->left << 4 | (unsigned)v;
        return true;
    }
    if (b->digits == 0 || (c != '\r' && c != ';'))
        return false;
    b->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXT;
    return true;
}

/* One byte of framing. False: malformed. */
static bool framing_byte(struct h1_body *b, char c)
{
    bool control = ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;

    switch (b->state) {
    case CHUNK_SIZE:
        return size_byte(b, c);
    case CHUNK_EXT:
        if (c == '\r')
            b->state = CHUNK_SIZE_LF;
        return c == '\r' || !control;
    case CHUNK_SIZE_LF:
        b->state = b->left > 0 ? CHUNK_DATA : CHUNK_LINE;
        b->digits = 0;
        return c == '\n';
    case CHUNK_DATA_CR:
        b->state = CHUNK_DATA_LF;
        return c == '\r';
    case CHUNK_DATA_LF:
        b->state = CHUNK_SIZE;
        return c == '\n';
    case CHUNK_LINE: /* first byte of a trailer line */
        b->state = c == '\r' ? CHUNK_END_LF : CHUNK_TRAILER;
        return c == '\r' || is_token(c);
    case CHUNK_TRAILER:
        if (c == '\r')
            b->state = CHUNK_TRAILER_LF;
        return c == '\r' || !control;
    case CHUNK_TRAILER_LF:
        b->state = CHUNK_LINE;
        return c == '\n';
    case CHUNK_END_LF:
        b->done = true;
        return c == '\n';
    }
    return false;
}

static struct str take(struct str *in, uint64_t at_most)
{
    struct str piece = str_take(*in, at_most < in->n ? (size_t)at_most : in->n);
    *in = str_skip(*in, piece.n);
    return piece;
}

bool h1_body_feed(struct h1_body *b, struct str *in, struct str *ret_data, struct error *err)
{
    *ret_data = STR_NONE;
    if (b->done)
        return true;
    if (b->kind == H1_BODY_UNTIL_CLOSE) {
        *ret_data = take(in, in->n);
        return true;
    }
    if (b->kind == H1_BODY_LENGTH) {
        *ret_data = take(in, b->left);
        b->left -= ret_data->n;
        b->done = b->left == 0;
        return true;
    }
    while (in->n > 0 && !b->done) {
        if (b->state == CHUNK_DATA) {
            *ret_data = take(in, b->left);
            b->left -= ret_data->n;
            if (b->left == 0)
                b->state = CHUNK_DATA_CR;
            return true;
        }
        b->overhead += b->state == CHUNK_EXT || b->state == CHUNK_TRAILER || b->state == CHUNK_LINE;
        if (!framing_byte(b, in->p[0]) || b->overhead > MAX_CHUNK_OVERHEAD)
            return error_set(err, ERROR_BAD_REQUEST, "malformed chunked body");
        *in = str_skip(*in, 1);
    }
    return true;
}
