/* api/managed - who owns which field: metadata.managedFields and server-side apply.
 *
 * Sets of fields live as sorted trees while they are worked on and as fieldsV1 in the object. Reading an object by its
 * schema yields the set of its fields; ownership follows from comparing the old object with the new one. */
#pragma once
#include "api/schema.h"

struct managed_request {
    const char *manager;     /* fieldManager, or what stands for it (User-Agent up to '/') */
    const char *api_version; /* "kubevirt.io/v1" */
    const char *subresource; /* "status"; "" or NULL for the object itself */
    const char *now;         /* RFC 3339, whole seconds, UTC */
    bool force;              /* apply: take over what others own */
    /* apply: what the same tool had applied on the client's side; about these fields there is no conflict. May be NULL. */
    const struct json *last_applied;
};

/* After create, update or any patch but apply: `object` with its managedFields brought up to date. `live` is NULL at
 * create. managedFields sent along in `object` replace the live ones, as upstream has it; [{}] clears them. */
const struct json *managed_update(struct arena *a, const struct schema_type *t, const struct json *live,
                                  const struct json *object, const struct managed_request *r);

/* Server-side apply of `applied` onto `live` (NULL: create). *ret is `live` itself when nothing changes. Fields that this
 * manager applied before and no longer does are removed unless others own them. ERROR_CONFLICT fills `conflicts`
 * (reason FieldManagerConflict) and has the message of kube-apiserver; ERROR_BAD_REQUEST when managedFields are sent. */
MUST_CHECK bool managed_apply(struct arena *a, const struct schema_type *t, const struct json *live,
                              const struct json *applied, const struct managed_request *r, const struct json **ret,
                              struct schema_causes *conflicts, struct error *err);
