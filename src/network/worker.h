/* network/worker - a short-lived forked child that does blocking, namespace-changing work and reports by one message.
 *
 * The loop's thread must not block on netlink, nft or CNI programs, and must not leave its network namespace. The child's
 * report is JSON (≤ 64 KiB) with descriptors beside it. A child that dies or hangs (WORKER_TIMEOUT) is an error. */
#pragma once
#include "json/json.h"
#include "loop/loop.h"

#define WORKER_TIMEOUT SECONDS(30)
#define WORKER_MAX_FDS 96

struct worker_report { /* filled by the child */
    const struct json *json; /* in a; what `done` gets as ok */
    struct arena *a;
    int fds[WORKER_MAX_FDS];
    size_t n_fds;
};
typedef bool (*worker_fn)(void *job, struct worker_report *r, struct error *err);
/* ok: in `a`, which lives as long as the call of done; NULL with err. Descriptors are taken by clearing the slot to −1. */
typedef void (*worker_done_fn)(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err);

/* job is used in the child, on its copy of our memory, and not after this call. done comes once, never from inside this call. */
void worker_start(struct loop *l, worker_fn fn, void *job, worker_done_fn done, void *user);
