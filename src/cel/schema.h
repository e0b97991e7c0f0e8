/* cel/schema - what a structural schema says about values, as types of expressions. */
#pragma once
#include "cel/cel.h"

/* NULL: values that expressions cannot see (no type is known). `root`: with apiVersion, kind, metadata.name and
 * metadata.generateName whatever the schema says. */
const struct cel_type *cel_type_of_schema(struct arena *a, const struct json *schema, bool root);
/* The name of a property in expressions ("a-b" is a__dash__b); NULL: it has none. */
const char *cel_escape(struct arena *a, struct str name);
