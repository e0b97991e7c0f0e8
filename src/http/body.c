#include "http/body.h"
#include "base/alloc.h"
#include "base/limits.h"
#include <zlib.h>

#define WINDOW_NS SECONDS(5)     /* in so long … */
#define WINDOW_BYTES (64u << 10) /* … a peer has to take so much */
#define BLOCK_PIECE (32u << 10)
#define GZIP_WINDOW 31 /* 15 bits of window, 16 for the gzip wrapper */

struct body {
    struct body_source *source; /* NULL: all of it is made */
    struct buf made;
    size_t at;
    z_stream *z;
    bool ended, broken;
    size_t taken, taken_before;
    void (*cut)(void *user);
    void *user;
    struct loop *loop;
    struct loop_timer timer;
};

static void source_free(struct body *b)
{
    struct body_source *s = b->source;

    b->source = NULL;
    if (s)
        s->free(s);
}

static void cut(struct body *b)
{
    b->broken = true;
    loop_timer_stop(&b->timer);
    b->cut(b->user); /* frees us */
}

static void window_over(struct loop_timer *t)
{
    struct body *b = container_of(t, struct body, timer);

    if (b->source && b->source->cut) {
        cut(b);
        return;
    }
    if (b->taken - b->taken_before < WINDOW_BYTES && b->source) {
        cut(b);
        return;
    }
    b->taken_before = b->taken;
    if (b->source)
        loop_timer_start(b->loop, &b->timer, WINDOW_NS, window_over);
}

struct body *body_new(struct loop *l, struct body_source *take_source, bool gzip,
                      void (*cut_fn)(void *user), void *user)
{
    struct body *b = NEW(struct body);

    b->source = take_source;
    b->cut = cut_fn;
    b->user = user;
    b->loop = l;
    buf_init(&b->made, LIMIT_BUF_DEFAULT);
    if (gzip) {
        b->z = NEW(z_stream);
        /* Level 1 as kube-apiserver: JSON of many similar objects gains little from more. */
        if (deflateInit2(b->z, 1, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            abort(); /* only out of memory */
    }
    loop_timer_start(l, &b->timer, WINDOW_NS, window_over);
    return b;
}

void body_free(struct body *b)
{
    if (!b)
        return;
    loop_timer_stop(&b->timer);
    source_free(b);
    buf_done(&b->made);
    if (b->z)
        deflateEnd(b->z);
    free(b->z);
    free(b);
}

/* The next piece; false: there is none. */
static bool make(struct body *b)
{
    if (!b->source)
        return false;
    buf_clear(&b->made);
    b->at = 0;
    if (b->source->cut) {
        b->broken = true;
        return false;
    }
    if (!b->source->make(b->source, &b->made))
        source_free(b);
    if (b->made.overflow)
        b->broken = true;
    return !b->broken;
}

static size_t copy(struct body *b, char *p, size_t n)
{
    size_t take = b->made.n - b->at;

    take = take < n ? take : n;
    memcpy(p, b->made.p + b->at, take);
    b->at += take;
    b->ended = b->at == b->made.n && !b->source;
    return take;
}

static size_t compress_some(struct body *b, char *p, size_t n)
{
    size_t in = b->made.n - b->at;

    b->z->next_in = (Bytef *)b->made.p + b->at;
    b->z->avail_in = (uInt)in;
    b->z->next_out = (Bytef *)p;
    b->z->avail_out = (uInt)n;
    b->ended = deflate(b->z, b->source ? Z_NO_FLUSH : Z_FINISH) == Z_STREAM_END;
    b->at += in - b->z->avail_in;
    return n - b->z->avail_out;
}

size_t body_read(struct body *b, char *p, size_t n, size_t *ret_made)
{
    size_t done = 0;

    while (done < n && !b->ended && !b->broken) {
        if (b->at == b->made.n && b->source) {
            if (!make(b))
                break;
            *ret_made += b->made.n;
        }
        done += b->z ? compress_some(b, p + done, n - done) : copy(b, p + done, n - done);
    }
    b->taken += done;
    if (b->ended || !b->source)
        loop_timer_stop(&b->timer); /* the connection's own patience is enough for the rest */
    return done;
}

bool body_ended(const struct body *b)
{
    return b->ended;
}

bool body_broken(const struct body *b)
{
    return b->broken;
}

/* Blocks */

struct block_source {
    struct body_source base;
    struct block *block;
    size_t at;
};

static bool block_make(struct body_source *base, struct buf *out)
{
    struct block_source *s = container_of(base, struct block_source, base);
    size_t n = s->block->n - s->at;

    n = n < BLOCK_PIECE ? n : BLOCK_PIECE;
    buf_add(out, s->block->p + s->at, n);
    s->at += n;
    return s->at < s->block->n;
}

static void block_free(struct body_source *base)
{
    struct block_source *s = container_of(base, struct block_source, base);

    block_unref(s->block);
    free(s);
}

struct body_source *body_of_block(struct block *take_block)
{
    struct block_source *s = NEW(struct block_source);

    s->base = (struct body_source){.make = block_make, .free = block_free};
    s->block = take_block;
    return &s->base;
}
