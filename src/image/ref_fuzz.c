#include "image/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct image_ref ref = {0};
    struct error err = {0};
    bool ok = image_ref_parse(str_n((const char *)data, n), &ref, &err);

    if (ok != (err.kind == ERROR_NONE) || ok != (ref.repository != NULL))
        __builtin_trap();
    image_ref_done(&ref);
    error_clear(&err);
    return 0;
}
