/* api/labels - label selectors ("a=b,c notin (d,e),!f") and field selectors ("spec.nodeName=x,status.phase!=Running"). */
#pragma once
#include "json/json.h"

enum label_op { LABEL_IN, LABEL_NOT_IN, LABEL_EXISTS, LABEL_ABSENT, LABEL_GREATER, LABEL_LESS };
struct label_requirement {
    struct str key;
    enum label_op op;
    const struct str *values; /* one for = and !=, > and < */
    size_t n;
};
struct label_selector { /* a zeroed one matches everything */
    const struct label_requirement *p;
    size_t n;
    bool nothing; /* matches no object */
};

/* Texts are copied into the arena. ERROR_BAD_REQUEST with apimachinery's messages. */
MUST_CHECK bool label_selector_parse(struct str text, struct arena *a, struct label_selector *ret, struct error *err);
/* From a metav1.LabelSelector object; NULL selects nothing, {} everything. Borrows from v. */
MUST_CHECK bool label_selector_from(const struct json *v, struct arena *a, struct label_selector *ret,
                                    struct error *err);
bool label_selector_match(const struct label_selector *s, const struct json *labels); /* labels: {key: text} or NULL */
bool label_requirement_match(const struct label_requirement *r, struct str value);    /* absent value: no such label */

struct field_term {
    struct str path, value; /* "metadata.name" */
    bool negative;
};
struct field_selector {
    const struct field_term *p;
    size_t n;
};
MUST_CHECK bool field_selector_parse(struct str text, struct arena *a, struct field_selector *ret, struct error *err);
/* The text of a selectable field: strings, booleans and numbers as written; "" for everything else. */
struct str field_text(const struct json *object, struct str path);
bool field_selector_match(const struct field_selector *s, const struct json *object);
/* The value that `path` must have by an '=' term; absent when there is none. */
struct str field_selector_value(const struct field_selector *s, const char *path);
