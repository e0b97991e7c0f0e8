/* json/index - members of one object by key: linear while it is small, hashed when it is large,
 * so that work on two hostile objects stays linear in their size. */
#pragma once
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/map.h"
#include "json/json.h"

struct json_index {
    const struct json *object; /* borrowed */
    struct map map;            /* key → member; empty for small objects */
};

void json_index_init(struct json_index *x, const struct json *object); /* NULL or non-object: no members */
void json_index_done(struct json_index *x);
const struct json_member *json_index_get(const struct json_index *x, struct str key); /* the last of equal keys */

/* json/number - exact decimal view of a number's text: (-1)^negative * 0.d1d2d3… * 10^exponent. */
struct json_decimal {
    bool negative;
    const char *first, *end; /* first non-zero digit up to behind the last one; may hold one '.' */
    size_t digits;           /* without the '.'; 0 is zero */
    int64_t exponent;        /* saturates */
};
void json_decimal_of(struct str text, struct json_decimal *ret);
bool json_decimal_eq(const struct json_decimal *a, const struct json_decimal *b);
/* How many bytes at p form a number by JSON's grammar; 0 when none do. */
size_t json_number_length(const char *p, const char *end);

/* json/text - length of the well-formed UTF-8 sequence at p (whose first byte is ≥ 0x80), or 0. */
size_t json_utf8_length(const char *p, const char *end);
