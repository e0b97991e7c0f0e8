#include "http/gzip.h"
#include "base/alloc.h"
#include <zlib.h>

#define GZIP_WINDOW 31 /* 15 bits of window, 16 for the gzip wrapper */

struct gzip {
    z_stream z;
    struct block *source;
    bool ended;
};

struct gzip *gzip_new(struct block *take_source)
{
    struct gzip *g = NEW(struct gzip);

    g->source = take_source;
    g->z.next_in = (Bytef *)take_source->p;
    g->z.avail_in = (uInt)take_source->n;
    /* Level 1 as kube-apiserver: JSON of many similar objects gains little from more. */
    if (deflateInit2(&g->z, 1, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort(); /* only out of memory */
    return g;
}

void gzip_free(struct gzip *g)
{
    if (!g)
        return;
    deflateEnd(&g->z);
    block_unref(g->source);
    free(g);
}

size_t gzip_read(struct gzip *g, char *p, size_t n)
{
    g->z.next_out = (Bytef *)p;
    g->z.avail_out = (uInt)n;
    while (!g->ended && g->z.avail_out > 0)
        g->ended = deflate(&g->z, Z_FINISH) == Z_STREAM_END;
    return n - g->z.avail_out;
}
