/* json/json_test - what tests that read and compare JSON start with. */
#pragma once
#include "base/base_test.h"

#include "base/cleanup.h"
#include "json/json.h"

static inline const struct json *parse(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    if (!json_parse(str_of(text), a, &v, &err))
        fail_msg("%s: %s", text, error_text(&err));
    return v;
}

/* The same from text with ' for ", which reads better in C; NULL stays NULL. */
static inline const struct json *parse_quoted(struct arena *a, const char *text)
{
    char *copy = text ? arena_strdup(a, str_of(text)) : NULL;

    for (char *p = copy; p && *p; p++)
        if (*p == '\'')
            *p = '"';
    return copy ? parse(a, copy) : NULL;
}

static inline void assert_text(const struct json *v, const char *want)
{
    AUTO_FREE char *text = json_text(v);

    assert_string_equal(text, want);
}
