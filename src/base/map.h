/* base/map - string-keyed hash map; keys are copied (or borrowed, see map_set_borrowed), values are borrowed pointers (never
 * NULL). */
#pragma once
#include "base/str.h"

struct map_slot;
struct map {
    struct map_slot *slots; /* owned; open addressing */
    size_t n, cap, tombs;
    bool borrows; /* keys are not ours */
};

void map_done(struct map *m);                                  /* values are not freed */
void map_done_with(struct map *m, void (*free_value)(void *)); /* values are */
void *map_get(const struct map *m, struct str key);            /* NULL when absent */
void *map_set(struct map *m, struct str key, void *value);     /* returns the old value or NULL */
/* The key is not copied: it lives in the value, say, and stays as long as the entry does. A map has one kind of keys only. */
void *map_set_borrowed(struct map *m, struct str key, void *value);
void *map_del(struct map *m, struct str key);                  /* returns the old value or NULL */
/* Iteration in no order: size_t at = 0; while (map_next(m, &at, &key, &value)) … ; deleting the entry
 * just returned is allowed. */
bool map_next(const struct map *m, size_t *at, struct str *ret_key, void **ret_value);
