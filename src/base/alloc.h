/* base/alloc - allocation that does not fail: small requests abort on out-of-memory.
 * Whatever is sized by input has a bound of its own before it comes here. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n, size_t size) __attribute__((returns_nonnull)); /* array of n */
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), malloc, returns_nonnull));
void *xmemdup(const void *p, size_t n) __attribute__((malloc, returns_nonnull));
#define NEW(T) ((T *)xcalloc(1, sizeof(T)))
/* The allocator keeps the pages of what was freed. When it holds more than `slack` bytes of them, they go back to the system:
 * some milliseconds for each 10 MiB, so not on every turn. Returns whether they went. */
bool heap_give_back(size_t slack);
