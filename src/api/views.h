/* api/views - the forms that generated typed views are made of.
 *
 * api/types.h (in the build directory) has one struct per type of schema/: `struct kv_cpu` for v1.CPU, `struct core_pod_spec` for
 * io.k8s.api.core.v1.PodSpec, `struct meta_object_meta` … Members are named as the JSON field in snake_case
 * (dedicatedCpuPlacement → dedicated_cpu_placement; C keywords get a trailing '_'). Views are read-only and live in
 * the arena that they were decoded into. Absent: NULL p for text, NULL pointer for structs, set == false. */
#pragma once
#include "api/schema.h"

struct opt_int {
    bool set;
    int64_t v;
};
struct opt_bool {
    bool set, v;
};
struct str_list {
    const struct str *p;
    size_t n;
};
struct int_list {
    const int64_t *p;
    size_t n;
};
struct str_pair {
    struct str key, value;
};
struct str_map {
    const struct str_pair *p;
    size_t n;
};
/* Forms by schema kind: STRING, BYTES, QUANTITY, TIME, MICRO_TIME, DURATION → struct str (text as written; numbers too);
 * INT_OR_STRING → struct str; INT32, INT64 → struct opt_int; BOOL → struct opt_bool; NUMBER → struct str;
 * OBJECT → const struct x *; LIST of strings → struct str_list; LIST of objects → struct x_slice { const struct x *p; size_t n; };
 * LIST of ints → struct int_list; MAP of strings, quantities and all else that is text → struct str_map;
 * MAP and LIST of others and ANY → const struct json *. The table of struct x is schema_type_x. */

static inline bool opt_true(struct opt_bool b) { return b.set && b.v; }
static inline bool opt_not_false(struct opt_bool b) { return !b.set || b.v; } /* for fields whose default is true */
static inline int64_t opt_or(struct opt_int i, int64_t otherwise) { return i.set ? i.v : otherwise; }
struct str str_map_get(const struct str_map *m, struct str key); /* absent when missing */
