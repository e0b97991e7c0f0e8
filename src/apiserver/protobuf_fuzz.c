#include "apiserver/protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena a = {0};
    struct error err = {0};
    const struct json *v = NULL;
    bool ok = protobuf_object(str_n((const char *)data, n), &a, &v, &err);

    if (ok != (v != NULL) || ok == (err.kind != ERROR_NONE))
        __builtin_trap();
    error_clear(&err);
    arena_done(&a);
    return 0;
}
