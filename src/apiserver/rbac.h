/* apiserver/rbac - roles and bindings, decoded and found by who they name.
 *
 * Bindings are indexed by namespace and subject, so a decision costs what the asker's own bindings cost, however many there are for
 * others. The cache follows the store object by object: after a write its key is read again (rbac_note) before the write is
 * answered, so a binding holds from the very next request on. */
#pragma once
#include "apiserver/apiserver.h"
#include "apiserver/rules.h"

struct rbac;
struct binding {
    struct str name, ns; /* ns absent: of the whole cluster */
    struct str role_kind, role_name, role_key;
    const struct json *subjects;
    struct arena arena;
    struct str *index_keys;
    size_t n_keys;
};

struct rbac *rbac_new(struct store *store);
void rbac_free(struct rbac *r);
void rbac_note(struct rbac *r,
               struct str key); /* this object was written; other keys are ignored */
/* Every rule that `who` has in `ns` (absent or empty: in the whole cluster), cluster bindings first, by name. `missing` is the error
 * of a binding whose role is not there, and then rule is NULL. False from fn ends it. */
typedef bool (*rbac_visit_fn)(void *user, const struct binding *b, const struct json *subject,
                              const struct json *rule, const char *missing);
void rbac_visit(struct rbac *r, const struct identity *who, struct str ns, rbac_visit_fn fn,
                void *user);
/* All of them in one list. */
const struct json *rbac_rules_of(struct rbac *r, const struct identity *who, struct str ns,
                                 struct arena *a);
/* The rules of a role; NULL when it is not there. */
const struct json *rbac_role_rules(struct rbac *r, bool cluster, struct str ns, struct str name);
