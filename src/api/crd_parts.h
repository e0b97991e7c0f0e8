/* api/crd_parts - what the files about definitions share. Internal to this room.
 *
 * crd_validate.c checks what is around the schemas, crd_structural.c and crd_rules.c the schemas as they are written,
 * crd_schema.c makes tables of them. Paths are kept in one buffer, entered and left, so that a deep schema costs no more
 * than its depth. */
#pragma once
#include "api/crd.h"
#include "base/cleanup.h"

#define CRD_NODES_MAX 100000    /* schemas in one definition */
#define CRD_PROGRAM_MAX 1000000 /* instructions of all its expressions */
#define CRD_COLUMNS_MAX 64
#define CRD_PROPERTIES_MAX 4096 /* of one object */

struct crd_check {
    struct arena *a;
    struct schema_causes *causes; /* NULL: only build */
    struct buf path;
    size_t nodes, program; /* what the bounds above count */
    bool too_large;
};
void crd_check_done(struct crd_check *c);

/* Steps into a part of the path; returns what crd_leave() takes. */
size_t crd_enter(struct crd_check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
void crd_leave(struct crd_check *c, size_t before);

/* Causes at the path, with `below` behind it (".type", ""). */
void crd_required(struct crd_check *c, const char *below, const char *why);
void crd_forbidden(struct crd_check *c, const char *below, const char *why);
void crd_invalid(struct crd_check *c, const char *below, const struct json *v, const char *why);
void crd_unsupported(struct crd_check *c, const char *below, struct str v,
                     const char *const *values);

/* Schemas as they are written. */
bool crd_is(const struct json *s, const char *key, const char *text);
struct str crd_type(const struct json *s);

/* Forbidden and missing parts of the structural form, sorted as upstream sorts them. True: it is structural. */
bool crd_structural(struct crd_check *c, const struct json *schema);
/* What holds for any schema, structural or not. */
void crd_rules(struct crd_check *c, const struct json *schema);

/* Tables; with causes, defaults are judged on the way. `whole`: the root, with apiVersion, kind and metadata. */
struct schema_type *crd_schema(struct crd_check *c, const struct json *schema, bool whole);
