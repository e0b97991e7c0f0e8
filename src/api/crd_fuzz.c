#include "api/crd.h"

#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A definition and an object, cut at the first newline: what is a kind can judge any object. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct schema_causes causes = {0};
    const struct json *crd = NULL, *object = NULL;
    const struct kind_info *k = NULL;
    struct str head, rest;

    str_cut(str_n((const char *)data, size), '\n', &head, &rest);
    if (!json_parse(head, &a, &crd, &err) || !crd_kind(&a, crd, NULL, &k, &err))
        return 0;
    assert(k->type && k->plural);
    if (json_parse(rest.p ? rest : STR("{}"), &a, &object, &err)) {
        object = schema_default(k->type, schema_prune(k->type, object, &a, NULL), &a);
        schema_validate(k->type, object, &a, &causes);
    }
    return 0;
}
