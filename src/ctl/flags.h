/* ctl/flags - a verb's flags, read as pflag does: --name=value, --name value, -n value, -nvalue, --bool[=false], "--". */
#pragma once
#include "base/vec.h"
#include "json/json.h"

enum flag_type { FLAG_STRING, FLAG_BOOL, FLAG_INT, FLAG_LIST };
struct flag {
    const char *name;
    char letter;          /* 0: none */
    enum flag_type type;
    const char *otherwise; /* default, as help shows it; NULL: "", false, 0, none */
    const char *help;
};
struct flag_set {
    const struct flag *p;
    size_t n;
};
#define FLAG_SET(array) ((struct flag_set){(array), ARRAY_SIZE(array)})

struct flag_value {
    const struct flag *flag;
    const char *text;
};
/* Everything is borrowed from argv and the tables. */
struct flags {
    struct flag_set sets[2]; /* the verb's own, then the global ones */
    VEC(struct flag_value) given;
    VEC(const char *) args;
};

/* argv[0] is the first argument. -h/--help is told by *ret_help and ends the reading. */
MUST_CHECK bool flags_parse(struct flags *f, int argc, char **argv, bool *ret_help, struct error *err);
void flags_done(struct flags *f);

/* Asking for a flag that the tables do not have is a mistake of ours. The last of repeated values counts. */
bool flags_given(const struct flags *f, const char *name);
const char *flags_str(const struct flags *f, const char *name); /* "" when absent and without default */
bool flags_bool(const struct flags *f, const char *name);
int64_t flags_int(const struct flags *f, const char *name);
/* The i-th value of a list, or NULL past the end. */
const char *flags_item(const struct flags *f, const char *name, size_t i);
void flags_help(const struct flag_set *set, struct buf *out);
