/* json/json - JSON values: immutable trees in an arena.
 *
 * A value is 16 bytes. Members keep their order, numbers keep their text (int64 stays exact, "1.0" stays "1.0").
 * Values are never changed: json_with() and its kin build a new value that shares what did not change, so
 * every arena that a value's parts come from has to live as long as the value. All readers accept NULL and
 * values of another type and then say "absent", so chains of look-ups need no checks between. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/limits.h"

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_member;
struct json {
    union {
        const char *text;                  /* number, string (unescaped UTF-8; may hold NULs) */
        const struct json *items;          /* array */
        const struct json_member *members; /* object */
    };
    uint32_t n;   /* bytes, items or members */
    uint8_t type; /* enum json_type */
};
struct json_member {
    struct json key; /* always a string */
    struct json value;
};

/* Strict RFC 8259, UTF-8 checked, surrogate pairs joined, depth ≤ LIMIT_JSON_DEPTH, nodes ≤ LIMIT_JSON_NODES.
 * The text is copied into the arena first. A duplicate key is kept (the last wins for readers) and, with
 * `dups` non-NULL, its path is noted there as "spec.a" (for strict decoding). Trailing bytes are an error.
 * Errors are ERROR_BAD_REQUEST and name line and column. */
struct json_dups {
    const char **paths; /* in the arena */
    size_t n;
};
MUST_CHECK bool json_parse(struct str text, struct arena *a, const struct json **ret, struct error *err);
MUST_CHECK bool json_parse_strict(struct str text, struct arena *a, struct json_dups *dups, const struct json **ret,
                                  struct error *err);
/* As json_parse, but borrows the text, which must outlive the value. */
MUST_CHECK bool json_parse_borrowed(struct str text, struct arena *a, const struct json **ret, struct error *err);

/* Readers. */
static inline enum json_type json_type(const struct json *v) { return v ? (enum json_type)v->type : JSON_NULL; }
static inline bool json_is(const struct json *v, enum json_type t) { return v && v->type == t; }
const struct json *json_get(const struct json *object, const char *key); /* NULL when absent */
const struct json *json_get_str(const struct json *object, struct str key);
/* By '/'-separated keys and array indexes: json_at(vm, "spec/template/spec/domain"). A "~1" stands for '/', "~0" for '~'. */
const struct json *json_at(const struct json *v, const char *path);
struct str json_str(const struct json *v);                /* string value, or absent */
struct str json_str_at(const struct json *v, const char *path);
bool json_bool_at(const struct json *v, const char *path, bool otherwise);
bool json_i64(const struct json *v, int64_t *ret);        /* an integral number within int64 */
int64_t json_i64_at(const struct json *v, const char *path, int64_t otherwise);
bool json_double(const struct json *v, double *ret);
static inline bool json_bool(const struct json *v) { return json_is(v, JSON_TRUE); }
size_t json_len(const struct json *v);                    /* items or members; 0 for others */
const struct json *json_item(const struct json *array, size_t i); /* NULL past the end */
/* Deep equality; object member order does not matter, numbers compare by value (1 == 1.0). */
bool json_eq(const struct json *a, const struct json *b);

static inline const struct json_member *json_members(const struct json *v) { return json_is(v, JSON_OBJECT) ? v->members : NULL; }
#define json_each_item(it, array)                                                                  \
    for (const struct json *it##_of = (array),                                                     \
                           *it = json_is(it##_of, JSON_ARRAY) ? it##_of->items : NULL,             \
                           *it##_end = it ? it + it##_of->n : NULL;                                \
         it < it##_end; it++)
#define json_each_member(m, object) /* evaluates `object` twice */                                 \
    for (const struct json_member *m = json_members(object), *m##_end = m ? m + json_len(object) : NULL; \
         m < m##_end; m++)

/* Makers. Text is copied into the arena. */
const struct json *json_null(void);
const struct json *json_new_bool(bool v);
const struct json *json_new_str(struct arena *a, struct str s);
const struct json *json_new_z(struct arena *a, const char *z); /* NULL in, NULL out: member left out */
const struct json *json_new_f(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3); /* string */
const struct json *json_new_i64(struct arena *a, int64_t v);
const struct json *json_new_double(struct arena *a, double v);
/* json_object(a, "name", v1, "uid", v2, NULL): members whose value is NULL are left out. */
const struct json *json_object(struct arena *a, ...) __attribute__((sentinel));
/* json_array(a, v1, v2, NULL) */
const struct json *json_array(struct arena *a, ...) __attribute__((sentinel));
const struct json *json_array_n(struct arena *a, const struct json *const *items, size_t n);
const struct json *json_object_n(struct arena *a, const struct json_member *members, size_t n); /* copies the array */
struct json_member json_member_of(struct arena *a, struct str key, const struct json *value);
const struct json *json_copy(struct arena *a, const struct json *v); /* deep, self-contained in a */

/* Edits: a new value; `value` NULL removes. A missing or non-object target counts as {}. */
const struct json *json_with(struct arena *a, const struct json *object, const char *key, const struct json *value);
const struct json *json_with_str(struct arena *a, const struct json *object, struct str key, const struct json *value);
/* The same below a path as json_at takes it; objects on the way are made. Array indexes must exist
 * (a path through a missing index returns the value unchanged). */
const struct json *json_with_at(struct arena *a, const struct json *root, const char *path, const struct json *value);
struct str json_pointer_token(struct arena *a, struct str token); /* one token of a JSON pointer: ~1 is /, ~0 is ~ */
const struct json *json_append(struct arena *a, const struct json *array, const struct json *item);

/* Writers. */
void json_write(struct buf *b, const struct json *v);              /* compact */
void json_write_pretty(struct buf *b, const struct json *v, int indent); /* indent: spaces per level */
void json_write_sorted(struct buf *b, const struct json *v);       /* compact, keys in byte order: canonical form for hashes */
void json_write_string(struct buf *b, struct str s);               /* one quoted string, Go's escapes without HTML ones */
char *json_text(const struct json *v);                             /* owned compact text, for messages and tests */
