#include "storage/qcow2.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct error err = {0};
    struct image_info info;
    bool ok = image_probe(str_n((const char *)data, n), n, &info, &err);

    assert(ok == (err.kind == ERROR_NONE));
    error_clear(&err);
    return 0;
}
