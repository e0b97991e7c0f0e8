/* client/queue - keys that need attention: each at most once in the queue, worked on serially per key.
 *
 * A key added while it is worked on is run again afterwards. Failures come back after a growing delay
 * (5 ms · 2^n, at most 1000 s, as client-go's default), queue_forget() resets it. */
#pragma once
#include "base/str.h"
#include "loop/loop.h"

struct queue;
/* work(user, key) starts work on a key; the worker calls queue_done(q, key, …) when it has ended, at once or later. At most
 * `parallel` keys are under way. */
struct queue *queue_new(struct loop *l, unsigned parallel, void (*work)(void *user, struct str key), void *user);
void queue_free(struct queue *q);
void queue_add(struct queue *q, struct str key);
void queue_add_after(struct queue *q, struct str key, int64_t in_ns); /* the earlier of several wins */
void queue_done(struct queue *q, struct str key, bool failed);
/* The same for a failure that is not the key's own, such as an API server that is away: no wait grows beyond max_ns. */
void queue_done_within(struct queue *q, struct str key, int64_t max_ns);
void queue_forget(struct queue *q, struct str key);
size_t queue_length(const struct queue *q);
