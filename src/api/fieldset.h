/* api/fieldset - sets of field paths (fieldsV1), immutable trees in an arena. Internal to api/managed. */
#pragma once
#include "api/schema.h"

struct fieldset_child;
struct fieldset { /* a zeroed one is empty */
    const struct fieldset_child *p; /* sorted by element */
    size_t n;
};
struct fieldset_child {
    struct str element; /* "f:name", "k:{…}", "v:…", "i:0" */
    bool member;        /* the path that ends here is in the set */
    struct fieldset below;
};

/* How the schema wants a place to be walked. */
struct fieldset_place {
    const struct schema_type *type;   /* NULL: unknown; maps are walked, lists are one value */
    const struct schema_field *field; /* the field that holds it, or NULL for items and the root */
};
enum fieldset_form { FORM_LEAF, FORM_OBJECT, FORM_SET, FORM_LIST_MAP };
enum fieldset_form fieldset_form(struct fieldset_place at, const struct json *v);
struct fieldset_place fieldset_member_place(struct fieldset_place at, struct str name);
struct fieldset_place fieldset_item_place(struct fieldset_place at);
struct str fieldset_item_element(struct arena *a, struct fieldset_place at, const struct json *item);
struct str fieldset_name_element(struct arena *a, struct str name);

struct fieldset fieldset_read(struct arena *a, const struct json *v); /* from fieldsV1 */
const struct json *fieldset_write(struct arena *a, const struct fieldset *s);
bool fieldset_empty(const struct fieldset *s);
bool fieldset_eq(const struct fieldset *a, const struct fieldset *b);
struct fieldset fieldset_union(struct arena *a, const struct fieldset *x, const struct fieldset *y);
struct fieldset fieldset_minus(struct arena *a, const struct fieldset *x, const struct fieldset *y);
struct fieldset fieldset_common(struct arena *a, const struct fieldset *x, const struct fieldset *y);
const struct fieldset_child *fieldset_find(const struct fieldset *s, struct str element);
/* All member paths as kube-apiserver prints them (".spec.containers[name=\"a\"].image"), in order; bounded. */
void fieldset_paths(struct arena *a, const struct fieldset *s, struct schema_causes *ret, const char *reason,
                    const char *message);

/* The fields of an applied object: leaves, and the items of keyed lists. */
struct fieldset fieldset_of(struct arena *a, struct fieldset_place at, const struct json *v);
/* All of a value that is new: containers too. */
struct fieldset fieldset_of_all(struct arena *a, struct fieldset_place at, const struct json *v);

struct fieldset_changes {
    struct fieldset added, modified, removed;
};
struct fieldset_changes fieldset_compare(struct arena *a, struct fieldset_place at, const struct json *old,
                                         const struct json *now);
