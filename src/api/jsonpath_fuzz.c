#include "api/jsonpath.h"

#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct jsonpath_results r;
    const struct json *v = NULL;

    if (!json_parse(STR("{\"a\":{\"b\":[1,{\"a\":2}]},\"c\":[{\"t\":\"R\"}]}"), &a, &v, &err))
        return 0;
    if (!jsonpath_eval(str_n((const char *)data, size), v, &a, &r, &err))
        assert(err.kind != ERROR_NONE);
    return 0;
}
