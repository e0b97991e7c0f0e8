/* cel/cel - Kubernetes' Common Expression Language: compile once, evaluate many times, within a budget.
 *
 * How it works: text → tree (parse.c) → types (check.c; what has no declared type is `dyn` and is looked at when it is
 * evaluated) → values (eval.c). Values of objects are JSON, turned into CEL's own only where an expression touches them.
 * Everything a program is lives in the arena that it was compiled into; everything an evaluation makes lives in the
 * arena that it is given. Nothing here does I/O or knows the time.
 *
 * Bounds: text LIMIT_CEL_TEXT, depth LIMIT_CEL_DEPTH; an evaluation stops when its budget of cost units (as upstream
 * counts them: a step is one, a traversal of ten characters is one) or LIMIT_CEL_MEMORY is used up. */
#pragma once
#include "api/quantity.h"
#include "json/json.h"

/* Upstream's budgets: one expression, and all of one request. */
#define CEL_EXPRESSION_BUDGET 1000000
#define CEL_REQUEST_BUDGET 10000000

enum cel_kind {
    CEL_DYN, /* types only */
    CEL_NULL,
    CEL_BOOL,
    CEL_INT,
    CEL_UINT,
    CEL_DOUBLE,
    CEL_STRING,
    CEL_BYTES,
    CEL_LIST,
    CEL_MAP,
    CEL_OBJECT, /* object: a map with declared fields */
    CEL_TIMESTAMP,
    CEL_DURATION,
    CEL_TYPE,
    CEL_OPTIONAL,
    CEL_QUANTITY,
    CEL_URL,
    CEL_IP,
    CEL_CIDR,
    CEL_FORMAT,
    CEL_SEMVER,
    CEL_ERROR, /* values only */
};
enum cel_list { CEL_LIST_ATOMIC, CEL_LIST_SET, CEL_LIST_MAP };

struct cel_type;
struct cel_field {
    const char *name; /* in expressions: escaped */
    const char *key;  /* in JSON */
    const struct cel_type *type;
};
struct cel_type {
    enum cel_kind kind;
    const struct cel_type *elem;    /* of lists, values of maps, optionals */
    const struct cel_type *key;     /* of maps */
    const struct cel_field *fields; /* of objects, sorted by name */
    size_t n_fields;
    enum cel_list list;           /* equality and + of lists */
    const char *const *list_keys; /* NULL-terminated */
    bool declared;                /* by a schema, with its sizes */
    uint64_t max_elements;        /* bytes, items or members at most; for cost */
    int64_t min_size;             /* serialized bytes at least; for cost */
};
extern const struct cel_type cel_dyn, cel_bool, cel_string;

struct cel_entry;
struct cel_value {
    uint8_t kind;                /* enum cel_kind */
    bool lazy;                   /* lists and maps: still JSON */
    const struct cel_type *type; /* lazy lists and maps: as declared, or NULL */
    union {
        bool b;
        int64_t i; /* int; duration in ns */
        uint64_t u;
        double d;
        struct str s; /* string, bytes, error, URL */
        const struct json *json;
        struct {
            const struct cel_value *items;
            size_t n;
        } list;
        struct {
            const struct cel_entry *entries;
            size_t n;
        } map;
        struct {
            int64_t sec;
            int32_t ns;
        } time;
        const struct cel_value *some; /* optional: NULL is none */
        const struct cel_type *t;
        const struct quantity *quantity;
        const void *opaque; /* of the kinds of libraries */
    };
};
struct cel_entry {
    struct cel_value key, value;
};

/* Types are borrowed: they have to live as long as what is compiled with them. */
struct cel_variable {
    const char *name;
    const struct cel_type *type; /* NULL: dyn */
};
struct cel_env {
    const struct cel_variable *vars;
    size_t n;
};

/* ERROR_INVALID with the text that cel-go has for it ("ERROR: <input>:1:6: undefined field 'x'\n | self.x\n | ....^");
 * ERROR_UNSUPPORTED when a function is upstream's but not ours. */
struct cel_program;
MUST_CHECK bool cel_compile(struct arena *a, const struct cel_env *env, struct str text,
                            const struct cel_program **ret, struct error *err);
const struct cel_type *cel_result(const struct cel_program *p);
bool cel_uses(const struct cel_program *p, const char *variable);

/* A JSON value as CEL sees it; type NULL is dyn. JSON that is absent (NULL) is null. */
struct cel_value cel_of_json(const struct json *v, const struct cel_type *type);
struct cel_value cel_absent(void); /* a variable that has no value: using it is an error */

/* values[] as env's vars. The budget is lessened by what was used, also on failure. ERROR_TOO_LARGE: budget or memory is
 * used up; ERROR_INVALID: "no such key: x" and the like. */
MUST_CHECK bool cel_eval(const struct cel_program *p, const struct cel_value *values,
                         struct arena *a, uint64_t *budget, struct cel_value *ret,
                         struct error *err);
/* The same where a bool is wanted. */
MUST_CHECK bool cel_eval_bool(const struct cel_program *p, const struct cel_value *values,
                              struct arena *a, uint64_t *budget, bool *ret, struct error *err);

/* What an evaluation may cost at most, by the sizes that types declare (UINT64_MAX: no bound). */
uint64_t cel_max_cost(const struct cel_program *p);
