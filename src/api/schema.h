/* api/schema - what a kind's fields are: one table for decoding, pruning, defaulting, validation, patches,
 * server-side apply and documents.
 *
 * The tables of the built-in kinds are generated from schema/ (api/schema_data.c in the build directory, read-only data);
 * those of CustomResourceDefinitions are built at run time from their openAPIV3Schema into an arena. Both are the
 * same structures, so everything above knows one mechanism. */
#pragma once
#include "json/json.h"

enum schema_kind {
    SCHEMA_OBJECT,        /* fields known */
    SCHEMA_MAP,           /* string keys, values of `item` */
    SCHEMA_LIST,          /* of `item` */
    SCHEMA_STRING,
    SCHEMA_BYTES,         /* base64 text */
    SCHEMA_BOOL,
    SCHEMA_INT32,
    SCHEMA_INT64,
    SCHEMA_NUMBER,
    SCHEMA_QUANTITY,      /* resource.Quantity: string or number */
    SCHEMA_INT_OR_STRING,
    SCHEMA_TIME,          /* RFC 3339, may be null */
    SCHEMA_MICRO_TIME,
    SCHEMA_DURATION,      /* "1h2m" */
    SCHEMA_ANY,           /* RawExtension, JSON, x-kubernetes-preserve-unknown-fields */
};
enum schema_list { SCHEMA_LIST_ATOMIC, SCHEMA_LIST_SET, SCHEMA_LIST_MAP };

struct schema_type;

enum { /* schema_field.flags */
    SCHEMA_REQUIRED = 1 << 0,
    SCHEMA_NULLABLE = 1 << 1,
    SCHEMA_GRANULAR_ATOMIC = 1 << 2, /* x-kubernetes-map-type: atomic (struct or map) */
    SCHEMA_PATCH_MERGE = 1 << 3,     /* x-kubernetes-patch-strategy has "merge" */
    SCHEMA_PATCH_RETAIN_KEYS = 1 << 4,
    SCHEMA_PRESERVE_UNKNOWN = 1 << 5,
    SCHEMA_EMBEDDED = 1 << 6,        /* x-kubernetes-embedded-resource */
    SCHEMA_DEPRECATED = 1 << 7,
    SCHEMA_IMMUTABLE = 1 << 8,
    SCHEMA_FROM_CRD = 1 << 9, /* on types: made from a user's CustomResourceDefinition */
    SCHEMA_UNTYPED = 1 << 10, /* on branches of anyOf and the like: values of another type pass */
};

struct schema_field {
    const char *name;
    const struct schema_type *type;
    const char *description;     /* may be NULL */
    const char *default_json;    /* JSON text, or NULL: applied by schema_default() */
    const char *const *enums;    /* NULL-terminated, or NULL */
    const char *patch_merge_key; /* for SCHEMA_PATCH_MERGE on lists of objects */
    const char *const *list_keys; /* x-kubernetes-list-map-keys, NULL-terminated, for SCHEMA_LIST_MAP */
    uint16_t flags;
    uint8_t list;                /* enum schema_list, for lists */
    uint32_t offset;             /* in the typed view; UINT32_MAX: not in any view */
};

/* Constraints that only CRDs carry (minimum, pattern, CEL …); NULL for built-in kinds without them. */
struct schema_rules;

struct schema_type {
    const char *name;            /* OpenAPI definition name ("v1.CPU", "io.k8s.api.core.v1.Pod"); NULL: anonymous */
    const char *description;
    enum schema_kind kind;
    uint16_t flags;              /* SCHEMA_PRESERVE_UNKNOWN … */
    const struct schema_field *fields; /* object: sorted by name */
    size_t n_fields;
    const struct schema_type *item; /* list, map */
    size_t view_size;            /* sizeof the typed view; 0: none */
    const struct schema_rules *rules;
};

/* A type of Kubernetes' own groups: has validation in code, and Go structs that forget nulls. */
static inline bool schema_is_core(const struct schema_type *t)
{
    return t->name && strncmp(t->name, "io.k8s.", 7) == 0 && !(t->flags & SCHEMA_FROM_CRD);
}

const struct schema_field *schema_field(const struct schema_type *t, struct str name); /* NULL when unknown */

/* A kind that is served. */
enum { KIND_NAMESPACED = 1 << 0, KIND_STATUS = 1 << 1, KIND_SCALE = 1 << 2, KIND_NO_STORE = 1 << 3 /* reviews */,
       KIND_CRD = 1 << 4 /* published as a CustomResourceDefinition */ };
struct kind_column { /* additionalPrinterColumns, or the built-in table of a core kind */
    const char *name, *type, *format, *description, *path; /* path: JSONPath as CRDs write it */
    int priority;
};
struct kind_info {
    const char *group, *version;     /* "" is the core group */
    const char *kind, *plural, *singular, *list_kind;
    const char *const *short_names;  /* NULL-terminated, or NULL */
    const char *const *categories;
    const char *const *versions;     /* all served versions, preferred first, NULL-terminated */
    const char *storage_version;
    const char *const *verbs;        /* NULL: the usual eight */
    unsigned flags;
    const struct schema_type *type;  /* with apiVersion, kind, metadata, spec, status */
    const struct kind_column *columns;
    size_t n_columns;
    const char *const *selectable;   /* field selectors beyond metadata.name/namespace: "spec.nodeName", NULL-terminated */
    const char *const *deprecated;   /* served versions that answer with a warning; NULL-terminated, or NULL */
    /* Kinds of users' definitions. */
    const struct kind_info *const *siblings; /* its versions, this one too; NULL-terminated. NULL: none but this */
    int64_t since; /* objects up to this revision were written under another definition; 0: there was none */
};
extern const struct kind_info *const schema_kinds[]; /* NULL-terminated, generated */
extern const struct schema_type *const schema_types[]; /* all named types, NULL-terminated, generated */
const struct kind_info *schema_kind_find(struct str group, struct str plural); /* built-in kinds */
const struct kind_info *schema_kind_by_name(struct str group, struct str kind);

/* Decoding into a typed view (build/gen/api/types.h). `ret` points to the view struct of t (zeroed by this call);
 * everything is allocated in the arena or borrowed from v. Unknown fields are ignored. A wrong type is
 * ERROR_BAD_REQUEST worded as kube-apiserver does, with the path. */
MUST_CHECK bool schema_decode(const struct schema_type *t, const struct json *v, struct arena *a, void *ret,
                              struct error *err);

/* What an object breaks. Causes in document order; never more than 100. */
struct schema_cause {
    const char *reason; /* FieldValueInvalid, FieldValueRequired, FieldValueNotSupported, FieldValueTypeInvalid … */
    const char *field;  /* "spec.template.spec.domain.cpu.cores" */
    const char *message; /* as kube-apiserver words it, without the field in front */
};
struct schema_causes {
    struct schema_cause *p; /* in the arena */
    size_t n, cap;
};
void schema_cause_add(struct schema_causes *c, struct arena *a, const char *reason, const char *field, const char *fmt,
                      ...) PRINTF_LIKE(5, 6);

/* Types, enums, required fields, rules. For built-in (non-CRD) kinds only types are checked here. */
void schema_validate(const struct schema_type *t, const struct json *v, struct arena *a, struct schema_causes *ret);
/* The same for a change: what was wrong and has not changed stays allowed, where old and new can be told to be the same
 * thing (fields, and elements of lists with keys). */
void schema_validate_update(const struct schema_type *t, const struct json *old, const struct json *v, struct arena *a,
                            struct schema_causes *ret);
/* The same for a value that is no whole object: a default in a schema. */
void schema_validate_part(const struct schema_type *t, const struct json *v, struct arena *a,
                          struct schema_causes *ret);
/* Drops unknown fields; with `unknown` non-NULL their paths ("spec.foo") are collected for strict field validation. */
const struct json *schema_prune(const struct schema_type *t, const struct json *v, struct arena *a,
                                struct json_dups *unknown);
/* Fills defaults (also below list items and map values that are present). */
const struct json *schema_default(const struct schema_type *t, const struct json *v, struct arena *a);
