/* base/str - a borrowed view of text: parse with it, never copy to look.
 * A view is not NUL-terminated. {NULL, 0} means absent; {"", 0} means present and empty. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(lit)     ((struct str){"" lit, sizeof(lit) - 1})
#define STR_INIT(lit) {"" lit, sizeof(lit) - 1} /* for static tables */
#define STR_NONE     ((struct str){NULL, 0})
#define STR_FMT      "%.*s"
#define STR_ARG(s)   (int)(s).n, (s).p ? (s).p : ""

static inline struct str str_of(const char *z) /* NULL → absent */
{
    return (struct str){z, z ? strlen(z) : 0};
}
static inline struct str str_n(const char *p, size_t n) { return (struct str){p, n}; }
static inline bool str_empty(struct str s) { return s.n == 0; }
static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool str_is(struct str a, const char *z) { return str_eq(a, str_of(z)); }
int str_cmp(struct str a, struct str b); /* bytewise, as Go compares strings */
bool str_eq_nocase(struct str a, struct str b); /* ASCII */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_has(struct str s, char c);
bool str_find(struct str s, struct str needle, size_t *ret_at);
/* Cuts at the first (str_rcut: last) `c`. Without one returns false, *before = s and *after absent. */
bool str_cut(struct str s, char c, struct str *before, struct str *after);
bool str_rcut(struct str s, char c, struct str *before, struct str *after);
/* Takes the next piece up to `c` from *rest; false when *rest is exhausted (absent). */
bool str_next(struct str *rest, char c, struct str *ret);
struct str str_trim(struct str s); /* ASCII white space on both sides */
struct str str_skip(struct str s, size_t n);
struct str str_take(struct str s, size_t n);
char *str_dup(struct str s); /* owned, NUL-terminated; NULL for an absent view */
uint64_t str_hash(struct str s); /* SipHash-like, seeded per process: safe against chosen keys */
bool str_valid_utf8(struct str s);

/* The whole text must be the number; no sign for u64, no leading '+', no spaces. */
MUST_CHECK bool parse_u64(struct str s, uint64_t max, uint64_t *ret, struct error *err);
MUST_CHECK bool parse_i64(struct str s, int64_t min, int64_t max, int64_t *ret, struct error *err);
