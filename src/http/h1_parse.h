/* http/h1_parse - HTTP/1.1 message heads and chunked bodies, read strictly (RFC 9112).
 *
 * What could be read in two ways is refused, for the two readings are how requests are smuggled: Content-Length
 * together with Transfer-Encoding or twice, any coding but one "chunked", line folding, bare CR or LF, space
 * before a colon, control bytes, odd chunk sizes. Both roles use it; nothing here does I/O. */
#pragma once
#include "base/limits.h"
#include "http/exchange.h"

#define H1_MAX_HEADERS 256

enum h1_scan { H1_MORE, H1_COMPLETE, H1_BAD };
/* Looks for the end of a head in text, continuing at *at (start with 0). Complete: *at is the head's length. */
enum h1_scan h1_scan_head(struct str text, size_t *at);

struct h1_head {
    enum http_method method; /* requests */
    struct str target;
    int status; /* responses */
    bool http10;
    struct http_header
        headers[H1_MAX_HEADERS]; /* views into the text, whose names were lowered in place */
    size_t n_headers;
    /* What the headers say: */
    bool chunked;
    bool has_length;
    uint64_t length;
    bool close, keep_alive, upgrade; /* tokens of Connection */
    bool expect_continue;
    struct str upgrade_to; /* the Upgrade header */
};
/* text: a complete head, changed in place. On failure *ret_status is what a server answers (400, 431, 501, 505, 417). */
MUST_CHECK bool h1_parse_request(char *text, size_t n, struct h1_head *ret, int *ret_status,
                                 struct error *err);
MUST_CHECK bool h1_parse_response(char *text, size_t n, struct h1_head *ret, struct error *err);
/* Is `token` one of the comma-separated elements? Letter case does not matter. */
bool h1_has_token(struct str list, const char *token);

/* A body, decoded as it comes. */
enum h1_body_kind { H1_BODY_NONE, H1_BODY_LENGTH, H1_BODY_CHUNKED, H1_BODY_UNTIL_CLOSE };
struct h1_body {
    enum h1_body_kind kind;
    uint64_t left; /* of the body or the chunk */
    unsigned state, digits;
    size_t overhead; /* bytes of extensions and trailers so far, bounded */
    bool done;
};
void h1_body_init(struct h1_body *b, enum h1_body_kind kind, uint64_t length);
/* Takes from *in what belongs to the body and is contiguous; *ret_data is the decoded piece, possibly empty.
 * Call again while *in shrinks and `done` is not set. */
MUST_CHECK bool h1_body_feed(struct h1_body *b, struct str *in, struct str *ret_data,
                             struct error *err);
