/* http/body - a response body that is made while the peer takes it, and compressed on the way if it is to be.
 *
 * In memory is one piece of it and, with gzip, the compressor (260 KiB). A peer that takes next to nothing of what
 * waits for it is cut off: what a body is made from (a list of objects, say) is held for as long as it is sent. */
#pragma once
#include "http/exchange.h"

struct body;
/* `cut` is called from the loop, never from within a call of this file, at most once. */
struct body *body_new(struct loop *l, struct body_source *take_source, bool gzip,
                      void (*cut)(void *user), void *user);
void body_free(struct body *b);
/* 0: at its end, or broken. *ret_made grows by the bytes before compression: what the time went into. */
size_t body_read(struct body *b, char *p, size_t n, size_t *ret_made);
bool body_ended(const struct body *b); /* everything was read */
bool body_broken(
    const struct body *b); /* its maker gave up: what was sent is not whole and must not look so */
/* A source that is a block. */
struct body_source *body_of_block(struct block *take_block);
