/* base/list - an intrusive doubly linked list; a node is a member of its owner. */
#pragma once
#include "base/cleanup.h"
#include <stdbool.h>

struct list { /* both the head and a node; a zeroed node is in no list */
    struct list *next, *prev;
};

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return !l->next || l->next == l; }
static inline bool list_linked(const struct list *n) { return n->next != NULL; }
static inline void list_add_tail(struct list *l, struct list *n)
{
    n->prev = l->prev;
    n->next = l;
    l->prev->next = n;
    l->prev = n;
}
static inline void list_add_head(struct list *l, struct list *n) { list_add_tail(l->next, n); }
static inline void list_remove(struct list *n) /* safe on a node in no list */
{
    if (!n->next)
        return;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->next = n->prev = NULL;
}
#define list_entry(node, type, member) container_of(node, type, member)
#define list_each(it, l) for (struct list *it = (l)->next; it && it != (l); it = it->next)
#define list_each_safe(it, l)                                                                      \
    for (struct list *it = (l)->next, *it##_next = it ? it->next : NULL; it && it != (l);          \
         it = it##_next, it##_next = it->next)
