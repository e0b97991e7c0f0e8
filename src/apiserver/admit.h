/* apiserver/admit - what the parts of the server's own admission share. */
#pragma once
#include "api/quantity.h"
#include "apiserver/internal.h"

/* `kind "name" is forbidden: why`, 403; false. */
bool admit_forbid(struct request *r, const char *why);
void cause_required(struct request *r, struct schema_causes *c, const char *field, const char *why);
/* "Unsupported value" unless v is absent or among the NULL-terminated values. */
bool cause_unless_one_of(struct request *r, struct schema_causes *c, const char *field,
                         struct str v, const char *const *values);
void check_label_selector(struct request *r, const struct json *selector, const char *field,
                          struct schema_causes *c);
/* Quantities that must be readable and not negative. */
bool check_quantity(struct request *r, struct schema_causes *c, const char *field,
                    const struct json *v, struct quantity *ret);
void check_immutable(struct request *r, struct schema_causes *c, const struct json *old,
                     const struct json *o, const char *path, const char *field);

/* A resource list: names and amounts. */
struct amount {
    struct str name;
    struct quantity q;
};
struct amounts {
    struct amount *p; /* in the arena */
    size_t n, cap;
};
struct quantity *amount_of(const struct amounts *l, struct str name); /* NULL when absent */
void amount_add(struct amounts *l, struct str name, struct quantity q, struct arena *a);
void amounts_read(struct amounts *ret, const struct json *map, struct arena *a); /* adds up */
/* What all containers of a pod ask for together, by "requests" or "limits": those that run at a time. */
void pod_amounts(const struct json *pod, const char *what, struct amounts *ret, struct arena *a);
bool quantity_of_json(const struct json *v, struct quantity *ret);
void quantity_subtract(struct quantity *from, struct quantity q); /* not below zero */

/* admit_pods.c */
const struct json *pod_new(struct request *r, const struct json *o);
bool pod_checked(struct request *r, enum admission_op op, const struct json *old,
                 const struct json *o, struct schema_causes *c);
bool pod_is_best_effort(const struct json *pod);
const char *pod_qos(const struct json *pod, struct arena *a);
enum {
    POD_RESOURCES_MAX = 256
}; /* requests or limits of a container; they are looked for one by one */

/* pod_defaults.c */
const struct json *pod_decoded(struct arena *a,
                               const struct json *o); /* what follows from what was written */
const struct json *pod_tolerant(struct arena *a, const struct json *o);
const struct json *pod_with_token(struct request *r, const struct json *o);

/* pod_rules.c */
void check_pod_spec(struct request *r, const struct json *o, struct schema_causes *c);

/* admit_storage.c */
const struct json *claim_new(struct request *r, const struct json *o);
void check_claim(struct request *r, const struct json *old, const struct json *o,
                 struct schema_causes *c);
void check_volume(struct request *r, const struct json *old, const struct json *o,
                  struct schema_causes *c);
void check_storage_class(struct request *r, const struct json *old, const struct json *o,
                         struct schema_causes *c);

/* admit_data.c */
const struct json *secret_data(struct request *r, const struct json *o);
void check_data(struct request *r, const struct json *old, const struct json *o,
                struct schema_causes *c);

/* admit_policy.c */
const struct json *limit_range_default(struct request *r, const struct json *o);
void check_limit_range(struct request *r, const struct json *o, struct schema_causes *c);
void check_quota(struct request *r, const struct json *old, const struct json *o,
                 struct schema_causes *c);
void check_budget(struct request *r, const struct json *old, const struct json *o,
                  struct schema_causes *c);
bool check_priority_class(struct request *r, const struct json *old, const struct json *o,
                          struct schema_causes *c);
void check_lease(struct request *r, const struct json *o, struct schema_causes *c);
void check_event(struct request *r, const struct json *old, const struct json *o,
                 struct schema_causes *c);

/* admit_webhooks.c */
void check_webhooks(struct request *r, const struct json *o, struct schema_causes *c);

/* budgets.c: may the pod be evicted? False: answered. */
bool budget_allows(struct request *r, const struct json *pod);

/* limits.c: LimitRanges. */
const struct json *limits_default(struct request *r, const struct json *pod);
bool limits_check(struct request *r, const struct json *o); /* false: answered */
