/* controller/pdb_plan - PodDisruptionBudgets: how many pods there are, how many must stay, how many may go. */
#pragma once
#include "controller/plan.h"

struct pdb_view {
    const struct json *budget;
    const struct json *pods; /* an array: those of its namespace that the selector picks */
    int64_t now_unix_ns;
    const char *error; /* the selector cannot be read: nothing may go */
};
void pdb_plan(const struct pdb_view *v, struct plan *p);
