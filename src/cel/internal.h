/* cel/internal - trees, functions and values, as the files of this room share them. */
#pragma once
#include "api/regex.h"
#include "base/cleanup.h"
#include "cel/cel.h"

enum cel_node_kind {
    NODE_LITERAL,
    NODE_IDENT,
    NODE_SELECT, /* target.name; has(): test */
    NODE_CALL,
    NODE_LIST,
    NODE_MAP, /* args: key, value, key, value … */
    NODE_MACRO,
};
enum cel_macro {
    MACRO_ALL,
    MACRO_EXISTS,
    MACRO_EXISTS_ONE,
    MACRO_MAP,
    MACRO_FILTER,
    MACRO_TRANSFORM_LIST,
    MACRO_TRANSFORM_MAP,
    MACRO_TRANSFORM_ENTRY,
    MACRO_OPT_MAP,
    MACRO_OPT_FLAT_MAP,
};
struct cel_size {
    uint64_t min, max;
};
struct cel_overload;
struct cel_node {
    enum cel_node_kind kind;
    enum cel_macro macro;
    uint32_t at;                 /* byte in the text that messages point at */
    uint16_t depth;              /* of the tree below */
    bool member, test, optional; /* optional: a.?b, a[?b] */
    struct str name;
    struct cel_node *target; /* operand, range of a macro */
    struct cel_node **args;  /* macros: predicate first, then (map with a filter) what is made */
    size_t n_args;
    bool *optional_args;    /* lists and maps: args with a '?' in front, or NULL */
    struct cel_value value; /* literals, and lists of them */
    const struct cel_type *type;
    int slot, slot2;      /* variables: place in the frame; slot2 -1: one variable */
    struct str var, var2; /* macros */
    const struct cel_overload *const *overloads;
    size_t n_overloads;
    const struct regex *re;            /* matches() with a constant */
    const struct regex_finder *finder; /* find() with one */
    bool priced;                       /* cost.c */
    uint64_t cost;
    struct cel_size size;
};

struct cel_program {
    const struct cel_node *root;
    struct str text;
    const struct cel_env *env;
    int slots;
    bool *used; /* by variable of env */
    uint64_t max_cost;
};

MUST_CHECK bool cel_parse(struct arena *a, struct str text, struct cel_node **ret,
                          struct error *err);
MUST_CHECK bool cel_check(struct arena *a, struct cel_program *p, struct cel_node *root,
                          struct error *err);
uint64_t cel_estimate(struct cel_node *root);

/* "ERROR: <input>:1:6: message\n | text\n | .....^", several joined by newlines in the order of their places. */
struct cel_issues {
    struct arena *a;
    struct str text;
    struct cel_complaint {
        size_t at;
        const char *text;
    } p[8];
    size_t n; /* may be more than are kept */
};
const char *cel_issues_text(struct cel_issues *i); /* in the arena */
void cel_issue(struct cel_issues *i, size_t at, const char *fmt, ...) PRINTF_LIKE(3, 4);

const char *cel_type_name(struct arena *a, const struct cel_type *t);
const char *cel_type_word(
    const struct cel_type *t); /* as type() is shown: "google.protobuf.Timestamp", "list" */
const struct cel_field *cel_type_field(const struct cel_type *t, struct str name);
extern const struct cel_type cel_null, cel_int, cel_uint, cel_double, cel_bytes, cel_timestamp,
    cel_duration, cel_type_type, cel_list_dyn, cel_map_dyn, cel_optional_dyn, cel_quantity, cel_url,
    cel_ip, cel_cidr, cel_format, cel_semver;
const struct cel_type *cel_list_of(struct arena *a, const struct cel_type *elem);
const struct cel_type *cel_map_of(struct arena *a, const struct cel_type *key,
                                  const struct cel_type *elem);
const struct cel_type *cel_optional_of(struct arena *a, const struct cel_type *elem);

/* -- evaluation -- */
struct cel_run {
    const struct cel_program *p;
    struct arena *a;
    struct cel_value *frame;
    uint64_t cost, budget;
    size_t memory; /* of the arena before */
    bool stop;
};
struct cel_value cel_walk(struct cel_run *r, const struct cel_node *n);
/* Counts; once over the budget, r->stop is set and every walk fails. */
void cel_charge(struct cel_run *r, uint64_t cost);
static inline void cel_charge_text(struct cel_run *r, size_t n)
{
    cel_charge(r, (n + 9) / 10);
}

typedef struct cel_value (*cel_fn)(struct cel_run *r, const struct cel_node *call,
                                   const struct cel_value *args, size_t n);
/* sig: argument types, ':', result. n null, b bool, i int, u uint, d double, s string, y bytes, t timestamp, r duration,
 * T type, * dyn, A B any one type, [A list, {AB map, ?A optional, q quantity, U URL, I IP, C CIDR, F format, V semver. */
struct cel_overload {
    const char *name;
    const char *sig;
    bool member;
    cel_fn fn;
};
struct cel_library {
    const struct cel_overload *p;
    size_t n;
};
extern const struct cel_library cel_lib_core, cel_lib_time, cel_lib_string, cel_lib_list,
    cel_lib_k8s, cel_lib_net;
#define CEL_LIBRARIES 6
const struct cel_library *cel_library_at(size_t i);
/* Upstream's functions that are not here. */
bool cel_function_absent(struct str name);

/* -- values -- */
struct cel_value cel_fail(struct cel_run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
struct cel_value cel_no_overload(struct cel_run *r);
static inline bool cel_failed(const struct cel_value *v)
{
    return v->kind == CEL_ERROR;
}
static inline struct cel_value cel_v_bool(bool b)
{
    return (struct cel_value){.kind = CEL_BOOL, .b = b};
}
static inline struct cel_value cel_v_int(int64_t i)
{
    return (struct cel_value){.kind = CEL_INT, .i = i};
}
static inline struct cel_value cel_v_uint(uint64_t u)
{
    return (struct cel_value){.kind = CEL_UINT, .u = u};
}
static inline struct cel_value cel_v_double(double d)
{
    return (struct cel_value){.kind = CEL_DOUBLE, .d = d};
}
static inline struct cel_value cel_v_str(struct str s)
{
    return (struct cel_value){.kind = CEL_STRING, .s = s.p ? s : STR("")};
}
static inline struct cel_value cel_v_null(void)
{
    return (struct cel_value){.kind = CEL_NULL};
}
static inline struct cel_value cel_v_type(const struct cel_type *t)
{
    return (struct cel_value){.kind = CEL_TYPE, .t = t};
}
static inline struct cel_value cel_v_none(void)
{
    return (struct cel_value){.kind = CEL_OPTIONAL};
}
struct cel_value cel_v_some(struct cel_run *r, struct cel_value v);
struct cel_value cel_v_list(const struct cel_value *items, size_t n);
static inline bool cel_is_map(const struct cel_value *v)
{
    return v->kind == CEL_MAP || v->kind == CEL_OBJECT;
}

/* Base64 of a field of format byte, decoded. */
struct cel_value cel_settled(struct cel_run *r, struct cel_value v);
size_t cel_len(const struct cel_value *v);                         /* items, members */
struct cel_value cel_item(const struct cel_value *list, size_t i); /* i < cel_len() */
/* The i-th member, in the order of the object. */
void cel_member(const struct cel_value *map, size_t i, struct cel_value *ret_key,
                struct cel_value *ret_value);
bool cel_lookup(struct cel_run *r, const struct cel_value *map, const struct cel_value *key,
                struct cel_value *ret);
bool cel_lookup_name(const struct cel_value *map, struct str name, struct cel_value *ret);
bool cel_equal(struct cel_run *r, const struct cel_value *a, const struct cel_value *b);
/* -1, 0, 1; 2: not comparable; 3: NaN */
int cel_compare(const struct cel_value *a, const struct cel_value *b);
const struct cel_type *cel_type_of(const struct cel_value *v);
bool cel_equal_address(const void *a, const void *b);
bool cel_equal_opaque(const struct cel_value *a,
                      const struct cel_value *b); /* IPs, CIDRs, formats, versions */
size_t cel_characters(struct str s);

/* A growing list in the arena. */
struct cel_items {
    struct cel_value *p;
    size_t n, cap;
};
void cel_items_add(struct cel_run *r, struct cel_items *l, struct cel_value v);
/* Where a list of the arena stands when it has room for one more. */
void *cel_grow(struct arena *a, void *p, size_t size, size_t n, size_t *cap);

/* time.c */
bool cel_parse_timestamp(struct str s, bool date_only, struct cel_value *ret);
bool cel_parse_duration(struct str s, struct cel_value *ret);
struct str cel_timestamp_text(struct arena *a, const struct cel_value *v);
struct str cel_duration_text(struct arena *a, const struct cel_value *v);
/* Text of a double as Go's %g has it. */
struct str cel_double_text(struct arena *a, double d);
bool cel_parse_double(struct str s, double *ret);
struct cel_value cel_format_string(struct cel_run *r, struct str format,
                                   const struct cel_value *args);
