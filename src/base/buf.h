/* base/buf - a growing byte buffer, NUL-terminated at all times and born with its limit.
 *
 * Once an append would pass the limit, nothing more is added and `overflow` stays set: writers append
 * freely and ask once at the end (buf_ok). A zeroed buf has LIMIT_BUF_DEFAULT as its limit. */
#pragma once
#include "base/str.h"

struct buf {
    char *p; /* owned */
    size_t n, cap, limit;
    bool overflow;
};

void buf_init(struct buf *b, size_t limit);
void buf_done(struct buf *b);
void buf_clear(struct buf *b); /* empty, keeps the memory and the limit */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_addc(struct buf *b, char c);
void buf_adds(struct buf *b, const char *z);
void buf_addstr(struct buf *b, struct str s);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
char *buf_reserve(struct buf *b, size_t n); /* room for n more bytes; NULL over the limit (which sets no overflow); commit by buf_commit */
void buf_commit(struct buf *b, size_t n);
void buf_consume(struct buf *b, size_t n); /* drops n bytes at the front */
struct str buf_str(const struct buf *b);   /* a view, valid until the next change */
char *buf_detach(struct buf *b);           /* owned text; the buffer is empty afterwards */
MUST_CHECK bool buf_ok(const struct buf *b, const char *what, struct error *err); /* else ERROR_TOO_LARGE */

void buf_add_base64(struct buf *b, const void *p, size_t n);
MUST_CHECK bool buf_add_base64_decoded(struct buf *b, struct str text, struct error *err); /* std alphabet, padding required */
void buf_add_base64url(struct buf *b, const void *p, size_t n); /* unpadded */
MUST_CHECK bool buf_add_base64url_decoded(struct buf *b, struct str text, struct error *err);
void buf_add_escaped(struct buf *b, struct str s); /* for a part of a URL: all but RFC 3986's unreserved becomes %XX */
