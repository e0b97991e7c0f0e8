/* api/members - an object under construction: many edits at the cost of their number, whatever its size.
 * (json_with() copies the object for each.) Internal to this room. */
#pragma once
#include "base/map.h"
#include "json/json.h"

struct members {
    struct arena *a;
    struct json_member *p; /* a removed member has type JSON_NULL in its key */
    size_t n, cap;
    struct map at; /* name → index + 1; only when there are many */
    bool mapped;
};

void members_init(struct members *m, struct arena *a, const struct json *object, size_t spare);
void members_done(struct members *m);
const struct json *members_get(const struct members *m, struct str name); /* NULL when absent; valid until the next set */
void members_set(struct members *m, struct str name, const struct json *value); /* NULL removes */
const struct json *members_object(struct members *m); /* the result; ends the construction */
