/* api/rules - limits on values beyond their type: what a CRD's openAPIV3Schema may say. */
#pragma once
#include "api/regex.h"
#include "api/schema.h"

struct schema_rules {
    bool has_minimum, has_maximum, exclusive_minimum, exclusive_maximum, has_multiple_of;
    bool has_min_length, has_max_length, has_min_items, has_max_items;
    bool has_min_properties, has_max_properties, unique_items;
    double minimum, maximum, multiple_of;
    int64_t min_length, max_length; /* characters */
    int64_t min_items, max_items, min_properties, max_properties;
    const char *pattern; /* RE2 syntax, or NULL */
    const struct regex *regex; /* the pattern compiled; NULL: compile when it is needed (built-in kinds) */
    const char *format;  /* NULL or one that we check */
    const char *const *required; /* CRDs: required names without a property of their own; NULL-terminated */
    const struct json *enums;    /* array of allowed values of any type, or NULL */
    const struct json *all_of_text, *any_of_text, *one_of_text, *not_text; /* as written, for documents */
    const struct schema_type *const *all_of, *const *any_of, *const *one_of; /* NULL-terminated, or NULL */
    const struct schema_type *not_;
    const char *cel_text;        /* built-in kinds: x-kubernetes-validations as JSON; admission has the same in code */
    uint8_t list;                 /* CRDs: enum schema_list, for lists at any place */
    const char *const *list_keys; /* … and the keys of a map, NULL-terminated */
    const char *item_default;     /* CRDs: JSON text for elements that are null and may not be */
    const struct schema_type *metadata; /* CRDs, at the root: what names have to be */
    const struct json *cel;      /* x-kubernetes-validations as written; see crd.h for what is honoured */
};
