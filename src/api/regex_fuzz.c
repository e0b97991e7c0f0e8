#include "api/regex.h"

#include "base/cleanup.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An expression and a text, cut at the first newline. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct regex *re = NULL;
    struct str head, rest;

    str_cut(str_n((const char *)data, size), '\n', &head, &rest);
    if (regex_compile(&a, head, &re, &err)) {
        assert(err.kind == ERROR_NONE && regex_size(re) > 0
               && regex_size(re) <= REGEX_PROGRAM_MAX + 1);
        (void)regex_found(re, rest);
    } else {
        assert(err.kind == ERROR_INVALID);
    }
    return 0;
}
