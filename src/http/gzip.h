/* http/gzip - a block of bytes, compressed piece by piece as the socket takes it. */
#pragma once
#include "http/exchange.h"

struct gzip;
struct gzip *gzip_new(struct block *take_source);
void gzip_free(struct gzip *g);
size_t gzip_read(struct gzip *g, char *p, size_t n); /* 0: all of it was read */
