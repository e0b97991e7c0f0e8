/* api/regex - RE2 expressions, as Go's regexp reads them: patterns of CRDs and matches() of their rules.
 *
 * An expression is parsed into a tree, the tree compiled into a small program, and the program run over the text with
 * all its states in step (regex_run.c): time is bounded by text × program, and no text makes it worse. Groups capture
 * nothing. What Go refuses is refused with Go's words; what we lack (scripts as in \p{Greek}) is refused too. */
#pragma once
#include "base/arena.h"

#define REGEX_PATTERN_MAX 65536
#define REGEX_PROGRAM_MAX 16384      /* instructions of one expression */
#define REGEX_STEPS_MAX (100u << 20) /* states visited for one text; beyond it there is no match */

struct regex; /* in the arena that it was compiled into */

MUST_CHECK bool regex_compile(struct arena *a, struct str pattern, const struct regex **ret, struct error *err);
size_t regex_size(const struct regex *re);               /* instructions */
bool regex_found(const struct regex *re, struct str text); /* anywhere in the text */

/* Where the first match at or behind `from` lies, in bytes; of matches that start at one place the preferred one, as in
 * Go. Scratch memory is the caller's arena. */
struct regex_finder;
MUST_CHECK bool regex_finder_compile(struct arena *a, struct str pattern, const struct regex_finder **ret, struct error *err);
size_t regex_finder_size(const struct regex_finder *re);
bool regex_find(const struct regex_finder *re, struct str text, size_t from, struct arena *a, size_t *ret_start,
                size_t *ret_end);

MUST_CHECK bool regex_check(struct str pattern, struct error *err);
bool regex_match(const char *pattern, struct str text); /* compiles each time; false for a bad pattern */
