/* cel/rules_tree - compiled rules, place by place, between rules.c that makes and rules_run.c that enforces them. */
#pragma once
#include "cel/internal.h"
#include "cel/rules.h"
#include "cel/schema.h"

struct rule {
    const char *rule, *message, *message_text, *field_path; /* NULL: none */
    const char *reason;                                     /* NULL: FieldValueInvalid */
    const char *error; /* why there is no program, or NULL: not enforced */
    bool optional_old, uses_old;
    const struct cel_program *program, *message_program;
};
struct rules_field {
    const char *name;
    const struct cel_rules *rules;
};
/* A value that stands in a schema, against the rules of its place. */
void cel_rules_enforce_at(const struct cel_rules *rules, const struct json *value, const char *path,
                          struct arena *a, struct schema_causes *causes);

struct cel_rules {
    const struct cel_type *type;
    struct rule *rules;
    size_t n_rules;
    bool uses_old;
    const char *const *list_keys; /* items belong together by these; NULL: they do not */
    const struct cel_rules *items, *values;
    struct rules_field *fields; /* sorted by name */
    size_t n_fields;
    const struct cel_rules **all_of;
    size_t n_all_of;
};
