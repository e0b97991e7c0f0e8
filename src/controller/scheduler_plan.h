/* controller/scheduler_plan - which node a pod goes to, or why none will do. */
#pragma once
#include "controller/plan.h"

/* What is asked for or had, by resource name; cpu in millis, everything else in units. */
struct amount {
    const char *name;
    int64_t n;
};
enum { AMOUNTS = 16 };
struct amounts {
    struct amount p[AMOUNTS]; /* further kinds are left out */
    size_t n;
};
int64_t amounts_get(const struct amounts *x, const char *name);
void amounts_add(struct amounts *x, const char *name, int64_t n);
struct amounts amounts_of_list(const struct json *resource_list, struct arena *a);
struct amounts amounts_of_pod(const struct json *pod, struct arena *a); /* with "pods": 1 */

struct candidate {
    const struct json *node;
    struct amounts has, used;
};
/* Index of the node, or -1 with *ret_message as kube-scheduler words it, and a sentence more where that helps. */
int schedule(const struct json *pod, const struct candidate *nodes, size_t n, struct arena *a,
             const char **ret_message);
