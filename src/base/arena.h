/* base/arena - memory that is freed as a whole: trees, requests, decoded views. */
#pragma once
#include "base/str.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    char *at, *end;
    size_t used;  /* bytes handed out */
    size_t first; /* size of the first block; 0 = 4 KiB */
};

void arena_done(struct arena *a); /* frees everything; a zeroed arena is an empty one */
void arena_clear(struct arena *a);
void *arena_alloc(struct arena *a, size_t size) __attribute__((returns_nonnull)); /* zeroed, 16-aligned */
void *arena_alloc_bytes(struct arena *a, size_t size) __attribute__((returns_nonnull)); /* not zeroed, unaligned */
#define ARENA_NEW(a, T) ((T *)arena_alloc((a), sizeof(T)))
#define ARENA_ARRAY(a, T, n) ((T *)arena_alloc((a), arena_mul((n), sizeof(T))))
size_t arena_mul(size_t n, size_t size); /* aborts on overflow */
struct str arena_str(struct arena *a, struct str s); /* copy, NUL-terminated behind the view */
char *arena_strdup(struct arena *a, struct str s);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
