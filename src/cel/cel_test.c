#include "cel/cel.h"

#include "base/cleanup.h"
#include "json/json_test.h"

/* Expressions over `x` (dyn), `n` (int), `s` (string) → the value as JSON-like text, or "error: …". */
struct row {
    const char *expression, *want;
};

static void value_text(struct buf *b, const struct cel_value *v)
{
    switch (v->kind) {
    case CEL_NULL:
        buf_adds(b, "null");
        break;
    case CEL_BOOL:
        buf_adds(b, v->b ? "true" : "false");
        break;
    case CEL_INT:
        buf_addf(b, "%lld", (long long)v->i);
        break;
    case CEL_UINT:
        buf_addf(b, "%lluu", (unsigned long long)v->u);
        break;
    case CEL_DOUBLE:
        buf_addf(b, "%.17gd", v->d);
        break;
    case CEL_STRING:
        json_write_string(b, v->s);
        break;
    default:
        buf_addf(b, "kind %d", v->kind);
    }
}

static const char *result(struct arena *a, const char *expression)
{
    const struct cel_variable vars[] = {{"x", NULL}, {"s", &cel_string}};
    const struct cel_env env = {vars, ARRAY_SIZE(vars)};
    const struct json *x = parse_quoted(a, "{'a':1,'b':[1,2,3],'c':{'d':'e'},'t':true,'z':null,'f':1.5,'names':['a','b']}");
    const struct cel_value values[] = {cel_of_json(x, NULL), cel_of_json(json_new_z(a, "text"), &cel_string)};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf b = {.limit = 65536};
    const struct cel_program *p;
    struct cel_value v;
    uint64_t budget = CEL_EXPRESSION_BUDGET;

    if (!cel_compile(a, &env, str_of(expression), &p, &err))
        return arena_printf(a, "compile: %s", error_text(&err));
    if (!cel_eval(p, values, a, &budget, &v, &err))
        return arena_printf(a, "error: %s", error_text(&err));
    value_text(&b, &v);
    return arena_strdup(a, buf_str(&b));
}

static void check_rows(const struct row *rows, size_t n)
{
    size_t failed = 0;

    for (size_t i = 0; i < n; i++) {
        struct arena a = {0};
        const char *got = result(&a, rows[i].expression);

        if (strcmp(got, rows[i].want) != 0) {
            print_error("%s\n  got  %s\n  want %s\n", rows[i].expression, got, rows[i].want);
            failed++;
        }
        arena_done(&a);
    }
    assert_int_equal(failed, 0);
}

#include "cel/cel_test_rows.h"

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operators), cmocka_unit_test(test_macros),  cmocka_unit_test(test_strings),
        cmocka_unit_test(test_lists),     cmocka_unit_test(test_times),   cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_regex),     cmocka_unit_test(test_errors),  cmocka_unit_test(test_budget),
        cmocka_unit_test(test_kubernetes), cmocka_unit_test(test_estimates), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_doubling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
