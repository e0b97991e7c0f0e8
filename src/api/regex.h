/* api/regex - RE2 patterns of CRDs, matched through regcomp(3).
 *
 * What has the same meaning in both is translated; the rest (lazy quantifiers, Unicode classes, flags in the
 * middle) is refused when the CRD is made, never ignored. Repetition is bounded as RE2 bounds it (1000 in all),
 * because nested repeats are what makes a compiled expression huge. */
#pragma once
#include "base/str.h"

MUST_CHECK bool regex_check(struct str pattern, struct error *err);
bool regex_match(const char *pattern, struct str text); /* anywhere in the text; false for a bad pattern */
