#include "api/quantity.h"

#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What can be read can be written, and reads back as the same value. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    struct error err = {0};
    struct quantity q, again;

    if (quantity_parse(str_n((const char *)data, size), &q, &err)) {
        if (q.nano < (__int128)INT64_MAX * 1000000000 && quantity_parse(str_of(quantity_text(&a, q)), &again, &err))
            assert(quantity_cmp(q, again) == 0);
    }
    assert(err.kind == ERROR_NONE || err.msg);
    error_clear(&err);
    return 0;
}
