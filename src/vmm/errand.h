/* vmm/errand - a function in a child process of its own, for what may hang, crash or lie.
 *
 * The child has none of our descriptors but the end of a pipe, and leads a process group; with `isolate` it is also the first
 * process of a pid namespace (so that nothing it started outlives it), of another user, with limits on what it can use up. It
 * writes one block of plain memory and ends. Who takes longer than `limit_ns` of wall time is killed with all that it started.
 * Nothing blocks on the loop. */
#pragma once
#include "loop/loop.h"

enum errand_end {
    ERRAND_DONE,   /* the result is there */
    ERRAND_SILENT, /* killed: the time was up */
    ERRAND_DIED,   /* ended without a result, or could not be started */
};
struct errand_spec {
    void (*run)(const void *arg, void *result); /* in the child; `result` is zeroed */
    const void *arg;
    size_t result_size;
    int64_t limit_ns;
    bool isolate;
    uid_t uid; /* with isolate, and when we are root: who the child is; 0: as we are */
};
struct errand;
/* done comes once, on the loop thread, never from inside this call. result: NULL unless ERRAND_DONE. cpu_ms: what a silent child
 * used of the processor (with its ended children), which tells a hung one from one that had no chance. */
struct errand *errand_start(struct loop *l, const struct errand_spec *s,
                            void (*done)(void *user, enum errand_end end, const void *result, int64_t cpu_ms), void *user);
void errand_cancel(struct errand *w); /* NULL is fine. The child is killed; done does not come */
/* The same, blocking: for tools and tests. */
enum errand_end errand_run(const struct errand_spec *s, void *result, int64_t *ret_cpu_ms);
