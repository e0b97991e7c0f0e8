/* http/stream - an exchange as the protocols see it: where its output waits, and who still holds it.
 *
 * A stream is owned by its connection (owner set) until the connection drops it by stream_lost() or
 * stream_done(). A handler that set no `closed` may still answer later; then the stream lives on without an owner
 * and is freed by its last respond/end. Nothing here calls the protocol's I/O: `ready` only marks. */
#pragma once
#include "base/list.h"
#include "base/vec.h"
#include "http/body.h"
#include "http/conn.h"
#include "http/exchange.h"

struct stream;
struct stream_ops {
    void (*ready)(struct stream *s); /* response head, data or end were added */
    void (*abort)(
        struct stream *s); /* the handler gave up: cut it; calls stream_done() sooner or later */
    void (*evict)(struct stream *s); /* its body came too slowly while memory was short: 503 */
};

/* What request bodies take, together. */
struct body_budget {
    size_t bytes;
    struct list waiting; /* streams whose body is still arriving, oldest first */
};

struct segment { /* output that waits, a view into a shared block */
    struct block *block;
    size_t at;
    size_t cap; /* > 0: ours alone, more may be appended */
};

struct stream {
    struct exchange x;
    const struct stream_ops *ops;
    void *owner; /* struct h1 or struct h2; NULL: orphaned */
    struct list node;
    int32_t id; /* HTTP/2 */
    struct peer *peer;
    size_t headers_cap;
    struct buf body;     /* of the request */
    struct body_budget *body_budget; /* the server's */
    struct list body_node;           /* in body_budget->waiting */
    size_t body_charged;
    VEC(struct http_header) reply; /* in the arena */
    VEC(struct http_header) trailers; /* in the arena */
    VEC(struct segment) out;
    size_t out_first; /* out.p[0 … out_first) are done */
    size_t queued;
    struct body *source; /* a body that is made, or compressed, as it is sent */
    size_t made;         /* bytes of it that were, for who counts the work */
    int status;        /* 0: no response yet */
    int64_t length;    /* of the whole response body; -1: unknown until it ends */
    bool dispatched;   /* the handler has seen it */
    bool ended;        /* respond/end/abort: the handler has let go */
    bool aborted;
    bool streaming; /* exchange_start() was called */
    bool said_full;
    bool head_sent;
    int64_t since_ns; /* when its head began; HTTP/2: or output was last taken; 0: nothing waits */
    size_t head_bytes;
    bool head_done, complete; /* HTTP/2: the request's head, all of it */
    int refuse;               /* HTTP/2: status that a flaw in the head deserves; 0: none */
};

#define STREAM_HIGH_WATER EXCHANGE_HIGH_WATER

struct stream *stream_new(struct loop *l, struct peer *peer, const struct stream_ops *ops,
                          void *owner);
/* The protocol is through with a stream whose handler is too (or has never seen it). */
void stream_done(struct stream *s);
/* The peer is gone or the server stops: tells the handler, unless it is through already. */
void stream_lost(struct stream *s);
/* Adds to the request body; false: over the limit. */
bool stream_add_body(struct stream *s, struct str data);
void stream_body_complete(struct stream *s);
/* Splits the raw target into path and query. */
MUST_CHECK bool stream_set_target(struct stream *s, struct str target, struct error *err);
void stream_add_request_header(struct stream *s, struct str name, struct str value); /* copies */
/* A response by the protocol itself (413, 400): the handler never saw the request. */
void stream_refuse(struct stream *s, int status, const char *text);
bool stream_has_body(const struct stream *s); /* the response may carry one (not HEAD, 204, 304) */
/* Moves up to n bytes of output to p. A body that broke (stream_broken) ends without an end. */
size_t stream_pull(struct stream *s, char *p, size_t n);
bool stream_at_end(const struct stream *s); /* ended and nothing left to pull */
bool stream_idle(const struct stream *s);   /* nothing to pull now */
bool stream_broken(const struct stream *s); /* cut it */
/* After pulling, outside of library callbacks: calls `writable` when it is due. */
void stream_pulled(struct stream *s);
