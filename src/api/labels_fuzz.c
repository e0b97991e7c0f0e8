#include "api/labels.h"

#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct str text = str_n((const char *)data, size);
    struct label_selector labels;
    struct field_selector fields;
    const struct json *object = json_object(&a, "a", json_new_z(&a, "b"), NULL);

    if (label_selector_parse(text, &a, &labels, &err))
        label_selector_match(&labels, object);
    else
        assert(err.kind == ERROR_BAD_REQUEST);
    if (field_selector_parse(text, &a, &fields, &err))
        field_selector_match(&fields, object);
    return 0;
}
