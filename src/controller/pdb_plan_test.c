#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "controller/pdb_plan.h"

#define READY                                                                                      \
    "{\"metadata\":{\"name\":\"r\"},\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":"  \
    "\"Ready\",\"status\":\"True\"}]}}"
#define GRANTED                                                                                    \
    "{\"metadata\":{\"name\":\"g\"},\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":"  \
    "\"Ready\",\"status\":\"True\"}]}}"
#define NOT "{\"metadata\":{\"name\":\"n\"},\"status\":{\"phase\":\"Running\"}}"
#define ENDED "{\"metadata\":{\"name\":\"e\"},\"status\":{\"phase\":\"Succeeded\"}}"
#define GRANT(time) "\"disruptedPods\":{\"g\":\"" time "\",\"gone\":\"" time "\"}"

static const struct row {
    const char *spec, *status, *pods;
    int allowed, healthy, desired, expected;
    const char *reason;
    bool again; /* a grant that still counts is looked at again */
} rows[] = {
    {"{\"minAvailable\":1}", "{}", "[" READY "]", 0, 1, 1, 1, "InsufficientPods", false},
    {"{\"minAvailable\":1}", "{}", "[" READY "," READY "," ENDED "]", 1, 2, 1, 2, "SufficientPods",
     false},
    {"{\"minAvailable\":1}", "{}", "[" READY "," NOT "]", 0, 1, 1, 2, "InsufficientPods", false},
    {"{\"minAvailable\":\"50%\"}", "{}", "[" READY "," READY "," READY "]", 1, 3, 2, 3,
     "SufficientPods", false},
    {"{\"maxUnavailable\":1}", "{}", "[" READY "," READY "]", 1, 2, 1, 2, "SufficientPods", false},
    {"{\"maxUnavailable\":\"30%\"}", "{}", "[" READY "," READY "]", 1, 2, 1, 2, "SufficientPods",
     false},
    {"{\"maxUnavailable\":0}", "{}", "[" READY "," READY "]", 0, 2, 2, 2, "InsufficientPods",
     false},
    {"{\"minAvailable\":0}", "{}", "[]", 0, 0, 0, 0, "InsufficientPods", false},
    {"{\"minAvailable\":1}", "{" GRANT("2026-01-01T00:00:00Z") "}", "[" READY "," GRANTED "]", 0, 1,
     1, 2, "InsufficientPods", true},
    {"{\"minAvailable\":1}", "{" GRANT("2025-12-31T23:57:00Z") "}", "[" READY "," GRANTED "]", 1, 2,
     1, 2, "SufficientPods", false},
};

static void budgets_are_counted(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct arena a = {0};
        struct error err = {0};
        struct plan p = {.a = &a};
        struct pdb_view v = {.now_unix_ns = 1767225600 * INT64_C(1000000000)};
        const struct json *status, *spec, *was;

        assert_true(json_parse(str_of(rows[i].spec), &a, &spec, &err));
        assert_true(json_parse(str_of(rows[i].status), &a, &was, &err));
        assert_true(json_parse(str_of(rows[i].pods), &a, &v.pods, &err));
        v.budget =
            json_object(&a, "metadata", json_object(&a, "generation", json_new_i64(&a, 3), NULL),
                        "spec", spec, "status", was, NULL);
        pdb_plan(&v, &p);
        assert_int_equal(p.n_actions, 1);
        assert_int_equal(p.actions[0].kind, ACTION_PATCH_STATUS);
        status = json_get(p.actions[0].body, "status");
        if (json_i64_at(status, "disruptionsAllowed", -1) != rows[i].allowed
            || json_i64_at(status, "currentHealthy", -1) != rows[i].healthy
            || json_i64_at(status, "desiredHealthy", -1) != rows[i].desired
            || json_i64_at(status, "expectedPods", -1) != rows[i].expected)
            fail_msg("row %zu: %s", i, json_text(status));
        assert_int_equal(json_i64_at(status, "observedGeneration", 0), 3);
        assert_true(str_is(json_str_at(status, "conditions/0/reason"), rows[i].reason));
        assert_int_equal(p.again_ns > 0, rows[i].again);
        arena_done(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(budgets_are_counted)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
