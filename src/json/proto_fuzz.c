#include "json/proto.h"
#include "base/cleanup.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(error_clear) struct error err = {0};
    struct proto_reader r = {str_n((const char *)data, size)};
    struct proto_field f;

    while (proto_next(&r, &f, &err)) {
        assert(f.number > 0);
        assert(f.bytes.n == 0 || (f.bytes.p >= (const char *)data && f.bytes.p + f.bytes.n <= (const char *)data + size));
    }
    assert((err.kind == ERROR_NONE) == (r.rest.n == 0));
    return 0;
}
