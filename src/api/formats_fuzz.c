#include "api/formats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A format's name and a text, cut at the first newline. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str head, rest;

    str_cut(str_n((const char *)data, size), '\n', &head, &rest);
    if (!format_fits(head, rest) && !format_known(head))
        __builtin_trap();
    return 0;
}
