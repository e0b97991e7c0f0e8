/* api/regex_tree - what the parser of expressions hands to the compiler. */
#pragma once
#include "base/arena.h"

struct regex_range {
    uint32_t low, high;
};
struct regex_category { /* "Lu" … */
    const char *name;
    const struct regex_range *ranges;
    size_t n;
};
extern const struct regex_category regex_categories[]; /* generated; ends with a NULL name */

enum regex_op {
    REGEX_EMPTY,
    REGEX_SET, /* one character of these ranges */
    REGEX_BEGIN_TEXT,
    REGEX_END_TEXT,
    REGEX_BEGIN_LINE,
    REGEX_END_LINE,
    REGEX_WORD_EDGE,
    REGEX_NO_WORD_EDGE,
    REGEX_CAT,    /* the parts in order */
    REGEX_ALT,    /* one of the parts */
    REGEX_REPEAT, /* its part, from min to max times; max -1: without end */
};
struct regex_node {
    enum regex_op op;
    struct regex_node *part; /* the first; the others follow by `next` */
    struct regex_node *next;
    int min, max;
    bool lazy;                        /* repeats: the fewest times first */
    const struct regex_range *ranges; /* sorted, apart from each other */
    size_t n;
};

MUST_CHECK bool regex_parse(struct arena *a, struct str pattern, struct regex_node **ret,
                            struct error *err);
