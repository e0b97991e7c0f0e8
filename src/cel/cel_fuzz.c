/* An expression, then a NUL, then JSON for its variables: whatever compiles ends within its budget. */
#include "cel/cel.h"

#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cel_variable vars[] = {{"self", NULL}, {"s", &cel_string}};
    const struct cel_env env = {vars, 2};
    struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct str text, input;
    const struct cel_program *p = NULL;
    const struct json *v = NULL;
    struct cel_value values[2], ret;
    uint64_t budget = CEL_EXPRESSION_BUDGET;

    if (!str_cut(str_n((const char *)data, size), '\0', &text, &input))
        input = STR("{}");
    if (!json_parse(input, &a, &v, &err))
        error_clear(&err);
    if (cel_compile(&a, &env, text, &p, &err)) {
        assert(err.kind == ERROR_NONE && p && cel_result(p));
        values[0] = cel_of_json(v, NULL);
        values[1] = cel_of_json(json_new_z(&a, "text"), &cel_string);
        if (!cel_eval(p, values, &a, &budget, &ret, &err))
            assert(err.kind == ERROR_INVALID || err.kind == ERROR_TOO_LARGE);
    } else {
        assert(err.kind == ERROR_INVALID || err.kind == ERROR_UNSUPPORTED);
    }
    arena_done(&a);
    return 0;
}
