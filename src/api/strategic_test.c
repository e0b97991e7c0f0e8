#include "json/json_test.h"
#include "api/types.h"

#include "api/jsonpath.h"
#include "api/strategic.h"
#include "base/cleanup.h"

static void test_merge(void **state)
{
    static const struct {
        const char *target, *patch, *want; /* want NULL: refused */
    } cases[] = {
        {"{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"1\"},{\"name\":\"b\",\"image\":\"2\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"b\",\"image\":\"3\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"1\"},{\"name\":\"b\",\"image\":\"3\"}]}}"},
        {"{\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"a\",\"$patch\":\"delete\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"b\"}]}}"},
        {"{\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]}}",
         "{\"spec\":{\"containers\":[{\"$patch\":\"replace\"},{\"name\":\"z\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"z\"}]}}"},
        {"{\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]}}",
         "{\"spec\":{\"$setElementOrder/containers\":[{\"name\":\"b\"},{\"name\":\"a\"}],\"containers\":[{\"name\":"
         "\"b\",\"image\":\"x\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"b\",\"image\":\"x\"},{\"name\":\"a\"}]}}"},
        {"{\"metadata\":{\"finalizers\":[\"a\",\"b\"]}}",
         "{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"a\"]}}", "{\"metadata\":{\"finalizers\":[\"b\"]}}"},
        {"{\"metadata\":{\"finalizers\":[\"a\"]}}", "{\"metadata\":{\"finalizers\":[\"b\",\"a\"]}}",
         "{\"metadata\":{\"finalizers\":[\"b\",\"a\"]}}"},
        {"{\"metadata\":{\"labels\":{\"x\":\"1\",\"y\":\"2\"}}}", "{\"metadata\":{\"labels\":{\"x\":null}}}",
         "{\"metadata\":{\"labels\":{\"y\":\"2\"}}}"},
        {"{\"spec\":{\"nodeSelector\":{\"a\":\"b\"}}}",
         "{\"spec\":{\"nodeSelector\":{\"$patch\":\"replace\",\"c\":\"d\"}}}",
         "{\"spec\":{\"nodeSelector\":{\"c\":\"d\"}}}"},
        {"{\"spec\":{\"volumes\":[{\"name\":\"v\",\"emptyDir\":{}}]}}",
         "{\"spec\":{\"volumes\":[{\"name\":\"v\",\"$retainKeys\":[\"name\",\"hostPath\"],\"hostPath\":{\"path\":"
         "\"/\"}}]}}",
         "{\"spec\":{\"volumes\":[{\"name\":\"v\",\"hostPath\":{\"path\":\"/\"}}]}}"},
        {"{\"spec\":{}}", "{\"spec\":{\"containers\":[{\"image\":\"x\"}]}}", NULL},
        {"{\"spec\":{}}", "{\"spec\":{\"$patch\":\"bad\"}}", NULL},
        {"{}", "{\"spec\":{\"containers\":[{\"name\":\"a\",\"$patch\":\"delete\"},{\"name\":\"c\",\"env\":null}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"c\"}]}}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v = NULL;
        bool ok = strategic_merge(&a, &schema_type_core_pod, parse(&a, cases[i].target), parse(&a, cases[i].patch),
                                  &v, &err);
        AUTO_FREE char *text = ok ? json_text(v) : NULL;

        if (ok != (cases[i].want != NULL))
            fail_msg("case %zu: %s", i, error_text(&err));
        if (ok)
            assert_string_equal(text, cases[i].want);
    }
}

static void test_jsonpath(void **state)
{
    static const char *const object =
        "{\"a\":{\"b\":[1,2,3],\"k8s.io/x\":\"y\"},\"c\":[{\"t\":\"R\",\"s\":\"True\",\"n\":5},{\"t\":\"P\",\"s\":"
        "\"False\",\"n\":7}]}";
    static const struct {
        const char *path, *want;
    } cases[] = {
        {".a.b[0]", "1"},
        {".a.b[-1]", "3"},
        {".a.b[*]", "1 2 3"},
        {".a.b[0:2]", "1 2"},
        {"{.a.b[1]}", "2"},
        {".a['k8s.io/x']", "\"y\""},
        {".a.k8s\\.io/x", "\"y\""},
        {".c[?(@.t=='R')].s", "\"True\""},
        {".c[?(@.t==\"P\")].s", "\"False\""},
        {".c[?(@.n>5)].t", "\"P\""},
        {".c[?(@.n<=5)].t", "\"R\""},
        {".c[?(@.zz)].t", ""},
        {"..t", "\"R\" \"P\""},
        {".c.*.n", "5 7"},
        {".nope.x", ""},
        {"$.a.b[2]", "3"},
        {".a.b[x]", NULL},
        {".c[?(@.t=='R'].s", NULL},
        {"a", NULL},
        {".c[?(@.t=='R)]", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO(buf_done) struct buf b = {0};
        struct jsonpath_results r = {0};
        bool ok = jsonpath_eval(str_of(cases[i].path), parse(&a, object), &a, &r, &err);

        if (ok != (cases[i].want != NULL))
            fail_msg("%s: %s", cases[i].path, error_text(&err));
        for (size_t k = 0; k < r.n; k++) {
            if (k)
                buf_addc(&b, ' ');
            json_write(&b, r.p[k]);
        }
        if (ok)
            assert_string_equal(b.p ? b.p : "", cases[i].want);
    }
}

/* What the tables promise to print can be read. */
static void test_columns(void **state)
{
    (void)state;
    for (size_t i = 0; schema_kinds[i]; i++)
        for (size_t k = 0; k < schema_kinds[i]->n_columns; k++) {
            AUTO(error_clear) struct error err = {0};

            if (!jsonpath_check(str_of(schema_kinds[i]->columns[k].path), &err))
                fail_msg("%s", error_text(&err));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_jsonpath),
        cmocka_unit_test(test_columns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
