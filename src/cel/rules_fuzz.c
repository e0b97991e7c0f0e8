/* A schema, an object and what it was before, with NULs between: faults come with a path, and rules end. */
#include "cel/rules.h"

#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct str rest = str_n((const char *)data, size), part[3] = {{0}};
    const struct json *v[3] = {NULL, NULL, NULL}, *ignored = json_array(&a, NULL),
                      *warnings = json_array(&a, NULL);
    struct schema_causes faults = {0}, causes = {0};
    const struct cel_rules *rules;

    for (size_t i = 0; i < 3; i++) {
        AUTO(error_clear) struct error err = {0};

        if (!str_next(&rest, '\0', &part[i]) || !json_parse(part[i], &a, &v[i], &err))
            v[i] = NULL;
    }
    rules = cel_rules_compile(&a, v[0], "p", &faults, &ignored);
    for (size_t i = 0; i < faults.n; i++)
        assert(strncmp(faults.p[i].field, "p", 1) == 0 && *faults.p[i].message);
    cel_rules_validate(rules, v[1], v[2], &a, &causes, &warnings);
    arena_done(&a);
    return 0;
}
