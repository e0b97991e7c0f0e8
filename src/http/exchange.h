/* http/exchange - one request and its response, the same over HTTP/1.1 and HTTP/2, TLS or not.
 *
 * A handler gets an exchange when the request's head and body have arrived (bodies are bounded by
 * server_config.body_limit; larger: 413 is answered before the handler is called). It answers at once or later,
 * on the server's loop thread: exchange_respond() for a whole body, or exchange_start() + exchange_write()… +
 * exchange_end() for a stream (watch, log). After respond/end, or when `closed` was called, it must not touch it. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "loop/loop.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS, HTTP_CONNECT };
const char *http_method_name(enum http_method m);

struct http_header {
    struct str name; /* lower case */
    struct str value;
};

/* Who is on the other end, as the channel proves it (never a header). */
struct http_peer {
    bool tls;
    char *cert_cn;         /* verified client certificate's subject, or NULL */
    char **cert_orgs;      /* its organizations, NULL-terminated, or NULL */
    int64_t cert_until_unix_s; /* its end: a connection may outlive it */
    bool cert_bad;         /* a client certificate was shown that does not verify */
    bool local;            /* AF_UNIX: uid and pid are set */
    uid_t uid;
    pid_t pid;
    char address[64];      /* "127.0.0.1:4711", "unix" */
};

/* A refcounted immutable block of bytes: one watch event shared by all its watchers. */
struct block {
    unsigned refs;
    size_t n;
    char p[];
};
struct block *block_new(struct str data); /* refs = 1 */
struct block *block_ref(struct block *b);
void block_unref(struct block *b);

/* Set by a handler that keeps account of exchanges. */
struct exchange_guard {
    /* Once: the response has been written or its peer is gone; of a WebSocket, when that has closed. */
    void (*over)(void *data);
    /* Time that went into a body as it was taken (body_source, gzip). */
    void (*spent)(void *data, int64_t ns);
    void *data;
};

/* What becomes of an answer, for those who note it. */
enum exchange_stage {
    EXCHANGE_ANSWERED, /* it is whole (though perhaps not sent yet) */
    EXCHANGE_STREAMS,  /* it begins, or the connection is another protocol's from now on; GONE will follow */
    EXCHANGE_GONE,     /* the exchange ends; status 0: without an answer */
};

struct exchange {
    struct arena arena;          /* lives as long as the exchange */
    enum http_method method;
    struct str target;           /* raw request target */
    struct str path;             /* percent-decoded, no query; contains no NUL, no "." or ".." segments (400) */
    struct str query;            /* raw, without '?' */
    struct http_header *headers; /* request headers, names in lower case, HTTP/2 pseudo headers removed */
    size_t n_headers;
    struct str body;
    const struct http_peer *peer;
    struct loop *loop;
    bool http2;
    bool wants_upgrade;          /* HTTP/1.1 Upgrade: websocket or spdy header present */
    void *user;                  /* the handler's own */
    /* Told at each stage; it may unset itself. */
    void (*observe)(struct exchange *x, int status, enum exchange_stage stage);
    void *observer;
    /* Called once if the peer goes away or the server stops before the response has ended (never after). */
    void (*closed)(struct exchange *x);
    /* Called when queued output has fallen below half of the high-water mark after exchange_write() said full. */
    void (*writable)(struct exchange *x);
    struct exchange_guard guard;
};

struct str exchange_header(const struct exchange *x, const char *lower_name);  /* absent when missing */
/* Query parameter, percent- and plus-decoded into the arena; absent when missing. First one wins. */
struct str exchange_query(struct exchange *x, const char *name);
bool exchange_query_next(struct exchange *x, size_t *at, struct str *ret_name, struct str *ret_value); /* iterate all */

/* Response headers, before respond/start. The value is copied. */
void exchange_set_header(struct exchange *x, const char *name, struct str value);
void exchange_add_header(struct exchange *x, const char *name, struct str value); /* may repeat (Warning) */
/* Behind the body, before respond/end (HTTP/2 only: gRPC's status). The value is copied. */
void exchange_set_trailer(struct exchange *x, const char *name, struct str value);
/* Whole response. content-length is set; gzip is applied when the client accepts it and the body is > 128 KiB
 * and the content type is JSON. HEAD sends no body. Consumes the exchange. */
void exchange_respond(struct exchange *x, int status, const char *content_type, struct str body);
/* The same with a body that is not copied. */
void exchange_respond_block(struct exchange *x, int status, const char *content_type, struct block *take_body);

/* A body of any size that is made while the peer takes it: only a piece of it is ever in memory. */
struct body_source {
    /* Adds the next piece to `out` (16 KiB or so, at least a byte); false: that was the last. Called while the connection
     * writes: it calls nothing of this file and does not block. */
    bool (*make)(struct body_source *b, struct buf *out);
    void (*free)(struct body_source *b); /* once: all is made, or the peer is gone, or it was cut off */
    bool cut; /* set by anyone, at any time: the response is broken off, soon */
};
/* Consumes the exchange. `about`: how many bytes it will be; gzip as with a whole one. A peer that takes less than
 * 64 KiB in 5 s is cut off. */
void exchange_respond_source(struct exchange *x, int status, const char *content_type, struct body_source *take_source,
                             size_t about);
#define EXCHANGE_HIGH_WATER (256u << 10) /* exchange_write() at or above this: full, `writable` will follow */
/* Streams: chunked (h1) or DATA frames (h2), flushed as soon as possible. */
void exchange_start(struct exchange *x, int status, const char *content_type);
/* Returns the bytes now queued on this stream; the caller stops (or cuts the client off) at its own limit. */
size_t exchange_write(struct exchange *x, struct str data);
size_t exchange_write_block(struct exchange *x, struct block *b); /* takes a reference of its own */
size_t exchange_queued(const struct exchange *x); /* what exchange_write() returned last, less what was sent since */
void exchange_end(struct exchange *x);
void exchange_abort(struct exchange *x); /* cut: RST_STREAM or connection close */

const char *http_status_text(int status);
