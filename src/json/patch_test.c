#include "json/json_test.h"
#include "json/patch.h"
#include "base/cleanup.h"

/* The cases of RFC 7386, appendix A, and the repetition of keys. */
static void test_merge(void **state)
{
    (void)state;
    static const char *const table[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{}", "{\"a\":1,\"a\":{\"x\":2}}", "{\"a\":{\"x\":2}}"},
        {"{\"a\":1}", "{\"a\":2,\"a\":null}", "{}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        assert_text(json_merge_patch(&a, parse(&a, table[i][0]), parse(&a, table[i][1])), table[i][2]);
    }
}

static void test_diff(void **state)
{
    (void)state;
    static const char *const table[][3] = {
        {"{\"a\":1,\"b\":{\"c\":[1]}}", "{\"b\":{\"c\":[1.0]},\"a\":1}", "{}"},
        {"{\"a\":1,\"b\":2}", "{\"b\":3,\"c\":4}", "{\"a\":null,\"b\":3,\"c\":4}"},
        {"{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"x\":1}}", "{\"a\":{\"y\":null}}"},
        {"{\"a\":[1,2]}", "{\"a\":[1,3]}", "{\"a\":[1,3]}"},
        {"{\"a\":1}", "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"},
        {"{\"a\":{\"b\":1}}", "{\"a\":\"s\"}", "{\"a\":\"s\"}"},
        {"1", "{\"a\":1}", "{\"a\":1}"},
        {"{\"a\":{}}", "{\"a\":{}}", "{}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *from = parse(&a, table[i][0]), *to = parse(&a, table[i][1]);
        const struct json *d = json_merge_diff(&a, from, to);
        assert_text(d, table[i][2]);
        assert_true(json_eq(json_merge_patch(&a, from, d), to));
    }
}

static void test_patch_diff(void **state)
{
    (void)state;
    static const char *const table[][3] = {
        {"{\"a\":1,\"b\":{\"c\":[1]}}", "{\"b\":{\"c\":[1.0]},\"a\":1}", "[]"},
        {"{\"a\":1}", "{\"a\":2}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":2}]"},
        {"{\"a\":1,\"b\":2}", "{\"b\":2}", "[{\"op\":\"remove\",\"path\":\"/a\"}]"},
        {"{}", "{\"a\":{\"b\":null}}", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":{\"b\":null}}]"},
        {"{\"a\":{\"x/y\":1,\"z~\":2}}", "{\"a\":{\"x/y\":3}}",
         "[{\"op\":\"replace\",\"path\":\"/a/x~1y\",\"value\":3},{\"op\":\"remove\",\"path\":\"/a/z~0\"}]"},
        {"{\"a\":[{\"b\":1},{\"b\":2}]}", "{\"a\":[{\"b\":1},{\"b\":2,\"c\":3}]}",
         "[{\"op\":\"add\",\"path\":\"/a/1/c\",\"value\":3}]"},
        {"{\"a\":[1,2]}", "{\"a\":[1]}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":[1]}]"},
        {"{\"a\":null}", "{\"a\":{}}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":{}}]"},
        {"[]", "{}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":{}}]"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *from = parse(&a, table[i][0]), *to = parse(&a, table[i][1]), *made;
        const struct json *ops = json_patch_diff(&a, from, to);

        assert_text(ops, table[i][2]);
        assert_true(json_patch(&a, from, ops, &made, &err));
        assert_true(json_eq(made, to));
    }
}

static void test_patch_applies(void **state)
{
    (void)state;
    static const char *const table[][3] = {
        {"{\"a\":1}", "[]", "{\"a\":1}"},
        {"{\"a\":1}", "null", "{\"a\":1}"},
        {"{\"data\":{\"a\":\"1\"},\"metadata\":{}}",
         "[{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"1\"},{\"op\":\"replace\",\"path\":\"/data/a\",\"value\":\"3\"},"
         "{\"op\":\"add\",\"path\":\"/metadata/annotations\",\"value\":{\"x/y\":\"z\"}}]",
         "{\"data\":{\"a\":\"3\"},\"metadata\":{\"annotations\":{\"x/y\":\"z\"}}}"},
        {"{\"x/y\":1,\"m~n\":2}", "[{\"op\":\"remove\",\"path\":\"/x~1y\"},{\"op\":\"replace\",\"path\":\"/m~0n\",\"value\":3}]",
         "{\"m~n\":3}"},
        {"{\"a\":[1,2]}", "[{\"op\":\"add\",\"path\":\"/a/1\",\"value\":9},{\"op\":\"add\",\"path\":\"/a/-\",\"value\":8},"
         "{\"op\":\"add\",\"path\":\"/a/4\",\"value\":7}]", "{\"a\":[1,9,2,8,7]}"},
        {"{\"a\":[1,2,3]}", "[{\"op\":\"remove\",\"path\":\"/a/0\"},{\"op\":\"replace\",\"path\":\"/a/1\",\"value\":{}}]",
         "{\"a\":[2,{}]}"},
        {"{\"a\":[{\"b\":1},{\"b\":2}]}", "[{\"op\":\"replace\",\"path\":\"/a/1/b\",\"value\":[3]}]",
         "{\"a\":[{\"b\":1},{\"b\":[3]}]}"},
        {"{\"a\":{\"b\":1},\"c\":{}}", "[{\"op\":\"move\",\"from\":\"/a/b\",\"path\":\"/c/d\"}]",
         "{\"a\":{},\"c\":{\"d\":1}}"},
        {"{\"a\":[1,2,3]}", "[{\"op\":\"move\",\"from\":\"/a/0\",\"path\":\"/a/2\"}]", "{\"a\":[2,3,1]}"},
        {"{\"a\":{\"b\":1}}", "[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/c\"}]", "{\"a\":{\"b\":1,\"c\":{\"b\":1}}}"},
        {"{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/none\",\"value\":null},{\"op\":\"test\",\"path\":\"/a\",\"value\":1.0}]", "{\"a\":1}"},
        {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":{\"b\":2}},{\"op\":\"test\",\"path\":\"\",\"value\":{\"b\":2}}]",
         "{\"b\":2}"},
        {"{\"\":{\"\":1}}", "[{\"op\":\"replace\",\"path\":\"//\",\"value\":2}]", "{\"\":{\"\":2}}"},
        {"{}", "[{\"op\":\"add\",\"path\":\"/a\"}]", "{\"a\":null}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *target = parse(&a, table[i][0]), *v;
        if (!json_patch(&a, target, parse(&a, table[i][1]), &v, &err))
            fail_msg("%s: %s", table[i][1], error_text(&err));
        assert_text(v, table[i][2]);
        assert_text(target, table[i][0]);
    }
}

static void test_patch_errors(void **state)
{
    (void)state;
    static const char doc[] = "{\"data\":{\"a\":\"1\"},\"l\":[1,2],\"s\":\"x\"}";
    static const struct {
        const char *ops;
        enum error_kind kind;
        const char *message;
    } table[] = {
        {"{\"not\":\"a list\"}", ERROR_BAD_REQUEST,
         "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"},
        {"[\"x\"]", ERROR_BAD_REQUEST,
         "error decoding patch: json: cannot unmarshal string into Go value of type handlers.jsonPatchOp"},
        {"[{\"op\":1}]", ERROR_BAD_REQUEST,
         "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string"},
        {"[{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"no\"}]", ERROR_INVALID,
         "testing value /data/a failed: test failed"},
        {"[{\"op\":\"remove\",\"path\":\"/data/zzz\"}]", ERROR_INVALID,
         "error in remove for path: '/data/zzz': Unable to remove nonexistent key: zzz: missing value"},
        {"[{\"op\":\"remove\",\"path\":\"/x/y\"}]", ERROR_INVALID,
         "remove operation does not apply: doc is missing path: \"/x/y\": missing value"},
        {"[{\"op\":\"remove\",\"path\":\"\"}]", ERROR_INVALID,
         "remove operation does not apply: doc is missing path: \"\": missing value"},
        {"[{\"op\":\"add\",\"path\":\"/x/y\",\"value\":1}]", ERROR_INVALID,
         "add operation does not apply: doc is missing path: \"/x/y\": missing value"},
        {"[{\"op\":\"add\",\"path\":\"/s/y\",\"value\":1}]", ERROR_INVALID,
         "add operation does not apply: doc is missing path: \"/s/y\": missing value"},
        {"[{\"op\":\"add\",\"path\":\"data\",\"value\":1}]", ERROR_INVALID,
         "add operation does not apply: doc is missing path: \"data\": missing value"},
        {"[{\"op\":\"replace\",\"path\":\"/data/b\",\"value\":1}]", ERROR_INVALID,
         "replace operation does not apply: doc is missing key: \"/data/b\": missing value"},
        {"[{\"op\":\"add\",\"path\":\"/l/3\",\"value\":1}]", ERROR_INVALID,
         "error in add for path: '/l/3': Unable to access invalid index: 3: invalid index referenced"},
        {"[{\"op\":\"replace\",\"path\":\"/l/-\",\"value\":1}]", ERROR_INVALID,
         "error in replace for path: '/l/-': Unable to access invalid index: -: invalid index referenced"},
        {"[{\"op\":\"remove\",\"path\":\"/l/02\"}]", ERROR_INVALID,
         "error in remove for path: '/l/02': Unable to access invalid index: 02: invalid index referenced"},
        {"[{\"op\":\"test\",\"path\":\"/l/9\",\"value\":null}]", ERROR_INVALID,
         "error in test for path: '/l/9': Unable to access invalid index: 9: invalid index referenced"},
        {"[{\"op\":\"move\",\"from\":\"/data\",\"path\":\"/data/x\"}]", ERROR_INVALID,
         "move operation does not apply: doc is missing path: \"/data/x\": missing value"},
        {"[{\"op\":\"copy\",\"from\":\"/q\",\"path\":\"/x\"}]", ERROR_INVALID,
         "copy operation does not apply: doc is missing from path: \"/q\": missing value"},
        {"[{\"op\":\"copy\",\"path\":\"/x\"}]", ERROR_INVALID, "copy operation failed to decode from: missing value"},
        {"[{\"op\":\"add\",\"value\":1}]", ERROR_INVALID, "add operation failed to decode path: missing value"},
        {"[{\"op\":\"frob\",\"path\":\"/x\"}]", ERROR_INVALID, "Unexpected kind: frob"},
        {"[null]", ERROR_INVALID, "Unexpected kind: unknown"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v = NULL;
        assert_false(json_patch(&a, parse(&a, doc), parse(&a, table[i].ops), &v, &err));
        assert_string_equal(error_text(&err), table[i].message);
        assert_int_equal(err.kind, table[i].kind);
        assert_null(v);
    }
}

/* `times` repetitions of one operation. */
static enum error_kind apply_many(const char *doc, const char *op, size_t times)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json **ops = ARENA_ARRAY(&a, const struct json *, times), *v;

    for (size_t i = 0; i < times; i++)
        ops[i] = parse(&a, op);
    return json_patch(&a, parse(&a, doc), json_array_n(&a, ops, times), &v, &err) ? ERROR_NONE : err.kind;
}

static void test_patch_bounds(void **state)
{
    (void)state;
    static const char doubling[] = "{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/-\"}";
    static const char appending[] = "{\"op\":\"add\",\"path\":\"/a/-\",\"value\":{\"name\":\"x\"}}";

    assert_int_equal(apply_many("{\"a\":[]}", appending, 1000), ERROR_NONE);
    assert_int_equal(apply_many("{\"a\":[]}", appending, LIMIT_PATCH_OPS + 1), ERROR_TOO_LARGE);
    assert_int_equal(apply_many("{\"a\":[1,2,3,4]}", doubling, 100), ERROR_TOO_LARGE);
    assert_int_equal(apply_many("{\"a\":{\"b\":1}}", "{\"op\":\"add\",\"path\":\"/a\",\"value\":{\"b\":1}}", 300), ERROR_NONE);
}

static void test_patch_depth(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v = parse(&a, "{\"a\":{}}"), *ops = parse(&a, "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b\"},"
        "{\"op\":\"add\",\"path\":\"/a\",\"value\":{}},{\"op\":\"move\",\"from\":\"/b\",\"path\":\"/a/a\"}]");
    int rounds = 0;

    while (rounds < 1000 && json_patch(&a, v, ops, &v, &err))
        rounds++;
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_true(rounds > LIMIT_JSON_DEPTH - 10 && rounds < LIMIT_JSON_DEPTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge), cmocka_unit_test(test_diff),
        cmocka_unit_test(test_patch_diff), cmocka_unit_test(test_patch_applies),
        cmocka_unit_test(test_patch_errors), cmocka_unit_test(test_patch_bounds), cmocka_unit_test(test_patch_depth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
