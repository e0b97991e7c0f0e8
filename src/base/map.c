#include "base/map.h"
#include "base/alloc.h"

#include <assert.h>

struct map_slot {
    char *key; /* owned; NULL: never used; gone: deleted */
    size_t n;
    uint64_t hash;
    void *value;
};

/* Marks a deleted slot: a search must go on past it. */
static char gone[1];

static bool live(const struct map_slot *slot)
{
    return slot->key && slot->key != gone;
}

void map_done(struct map *m)
{
    map_done_with(m, NULL);
}

void map_done_with(struct map *m, void (*free_value)(void *))
{
    if (!m)
        return;
    for (size_t i = 0; i < m->cap; i++) {
        if (!live(&m->slots[i]))
            continue;
        if (!m->borrows)
            free(m->slots[i].key);
        if (free_value)
            free_value(m->slots[i].value);
    }
    free(m->slots);
    *m = (struct map){0};
}

static struct map_slot *find(const struct map *m, struct str key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *slot = &m->slots[i];

        if (!slot->key)
            return NULL;
        if (slot->key != gone && slot->hash == hash && str_eq(str_n(slot->key, slot->n), key))
            return slot;
    }
}

/* A fourth of the slots stays empty, so every search ends. */
static void make_room(struct map *m)
{
    struct map_slot *old = m->slots;
    size_t old_cap = m->cap, cap = 8;

    if ((m->n + m->tombs + 1) * 4 <= m->cap * 3)
        return;
    while ((m->n + 1) * 2 > cap)
        cap *= 2;
    m->slots = xcalloc(cap, sizeof *m->slots);
    m->cap = cap;
    m->tombs = 0;
    for (size_t i = 0; i < old_cap; i++) {
        size_t at = old[i].hash & (cap - 1);

        if (!live(&old[i]))
            continue;
        while (m->slots[at].key)
            at = (at + 1) & (cap - 1);
        m->slots[at] = old[i];
    }
    free(old);
}

void *map_get(const struct map *m, struct str key)
{
    const struct map_slot *slot = find(m, key, m->cap ? str_hash(key) : 0);

    return slot ? slot->value : NULL;
}

static void *set(struct map *m, struct str key, void *value)
{
    uint64_t hash = str_hash(key);
    struct map_slot *slot = find(m, key, hash);
    size_t at;

    assert(value);
    if (slot) {
        void *old = slot->value;

        slot->value = value;
        if (m->borrows)
            slot->key = (char *)(uintptr_t)key.p; /* the old one goes with the old value */
        return old;
    }
    make_room(m);
    at = hash & (m->cap - 1);
    while (live(&m->slots[at]))
        at = (at + 1) & (m->cap - 1);
    if (m->slots[at].key == gone)
        m->tombs--;
    m->slots[at] = (struct map_slot){
        m->borrows ? (char *)(uintptr_t)key.p : str_dup(key.p ? key : STR("")), key.n, hash, value};
    m->n++;
    return NULL;
}

void *map_set(struct map *m, struct str key, void *value)
{
    assert(!m->borrows);
    return set(m, key, value);
}

void *map_set_borrowed(struct map *m, struct str key, void *value)
{
    assert(key.p && (m->borrows || m->n == 0));
    m->borrows = true;
    return set(m, key, value);
}

void *map_del(struct map *m, struct str key)
{
    struct map_slot *slot = find(m, key, m->cap ? str_hash(key) : 0);
    void *old;

    if (!slot)
        return NULL;
    old = slot->value;
    if (!m->borrows)
        free(slot->key);
    *slot = (struct map_slot){.key = gone};
    m->n--;
    m->tombs++;
    return old;
}

bool map_next(const struct map *m, size_t *at, struct str *ret_key, void **ret_value)
{
    while (*at < m->cap) {
        const struct map_slot *slot = &m->slots[(*at)++];

        if (live(slot)) {
            *ret_key = str_n(slot->key, slot->n);
            *ret_value = slot->value;
            return true;
        }
    }
    return false;
}
