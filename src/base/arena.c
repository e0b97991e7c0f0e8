#include "base/arena.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/cleanup.h"

#include <stdlib.h>

#define FIRST_BLOCK 4096u
#define LARGEST_BLOCK (1u << 20)
#define ALIGN 16u

struct arena_block {
    struct arena_block *next;
    size_t size; /* of bytes[] */
    _Alignas(ALIGN) char bytes[];
};

static struct arena_block *block_new(size_t size)
{
    size_t total;
    struct arena_block *block;

    if (__builtin_add_overflow(size, sizeof *block, &total))
        abort();
    block = xrealloc(NULL, total, 1);
    block->next = NULL;
    block->size = size;
    return block;
}

static void blocks_free(struct arena_block *block)
{
    while (block) {
        struct arena_block *next = block->next;

        free(block);
        block = next;
    }
}

void arena_done(struct arena *a)
{
    if (!a)
        return;
    blocks_free(a->head);
    *a = (struct arena){.first = a->first};
}

void arena_clear(struct arena *a)
{
    if (!a->head)
        return;
    blocks_free(a->head->next);
    a->head->next = NULL;
    a->at = a->head->bytes;
    a->end = a->at + a->head->size;
    a->used = 0;
}

static void *take(struct arena *a, size_t size)
{
    struct arena_block *block;
    size_t next;

    a->used += size;
    if (size <= (size_t)(a->end - a->at)) {
        a->at += size;
        return a->at - size;
    }
    next = !a->head ? (a->first ? a->first : FIRST_BLOCK) : a->head->size * 2;
    if (next > LARGEST_BLOCK)
        next = LARGEST_BLOCK;
    if (a->head && size > next / 2) { /* a block of its own, behind the one with room left */
        block = block_new(size);
        block->next = a->head->next;
        a->head->next = block;
        return block->bytes;
    }
    block = block_new(size > next ? size : next);
    block->next = a->head;
    a->head = block;
    a->at = block->bytes + size;
    a->end = block->bytes + block->size;
    return block->bytes;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t pad = -(uintptr_t)a->at & (ALIGN - 1);
    void *p;

    if (!a->at || pad > (size_t)(a->end - a->at))
        a->at = a->end;
    else
        a->at += pad;
    p = take(a, size ? size : 1);
    return memset(p, 0, size);
}

void *arena_alloc_bytes(struct arena *a, size_t size)
{
    return take(a, size ? size : 1);
}

size_t arena_mul(size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes))
        abort();
    return bytes;
}

char *arena_strdup(struct arena *a, struct str s)
{
    char *copy = arena_alloc_bytes(a, s.n + 1);

    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return copy;
}

struct str arena_str(struct arena *a, struct str s)
{
    return s.p ? str_n(arena_strdup(a, s), s.n) : STR_NONE;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    AUTO(buf_done) struct buf text = {.limit = SIZE_MAX / 2};
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    return arena_strdup(a, buf_str(&text));
}
