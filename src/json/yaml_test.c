#include "json/yaml.h"
#include "base/cleanup.h"
#include "base/file.h"
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>

static const char *data_arg; /* folder of recordings; may be absent */

static void expect(const struct json *v, const char *text)
{
    AUTO_FREE char *got = json_text(v);

    assert_string_equal(got, text);
}

static void test_reads(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"a: 1\nb: [x, 'y', \"z\\n\"]\nc: {d: ~, e: null, f: }\n", "{\"a\":1,\"b\":[\"x\",\"y\",\"z\\n\"],\"c\":{\"d\":null,\"e\":null,\"f\":null}}"},
        {"[true, True, FALSE, yes, on, n]", "[true,true,false,\"yes\",\"on\",\"n\"]"},
        {"[0644, 0o17, 0x1F, 0b11, -0x10, 1_000, +5, 08]", "[420,15,31,3,-16,1000,5,8]"},
        {"[1.0, .5, 5., -.5e3, 1e3, 1e999, .inf, 1.2.3, 12e, -, +]",
         "[1.0,0.5,5,-0.5e3,1e3,\"1e999\",\".inf\",\"1.2.3\",\"12e\",\"-\",\"+\"]"},
        {"[9223372036854775807, 18446744073709551615, '1', 2026-11-22, 1:30, 64Mi, 1.1.1.1]",
         "[9223372036854775807,18446744073709551615,\"1\",\"2026-11-22\",\"1:30\",\"64Mi\",\"1.1.1.1\"]"},
        {"1: a\ntrue: b\n0x10: c\n", "{\"1\":\"a\",\"true\":\"b\",\"16\":\"c\"}"},
        {"a: &x {k: [1]}\nb: *x\n", "{\"a\":{\"k\":[1]},\"b\":{\"k\":[1]}}"},
        {"base: &b {a: 1, b: 2}\nx: {<<: *b, b: 3}\ny: {<<: [*b, {c: 4}]}\n",
         "{\"base\":{\"a\":1,\"b\":2},\"x\":{\"b\":3,\"a\":1},\"y\":{\"a\":1,\"b\":2,\"c\":4}}"},
        {"!!str 12", "\"12\""},
        {"[!!int \"12\", !!bool \"true\", !!float 1.5, !!map {}, !!seq []]", "[12,true,1.5,{},[]]"},
        {"a: |\n  x\n   y\nb: >-\n  p\n  q\n", "{\"a\":\"x\\n y\\n\",\"b\":\"p q\"}"},
        {"{\"a\": 1.50, \"b\": \"\\u0041\"}", "{\"a\":1.50,\"b\":\"A\"}"},
        {"# only a comment follows\n---\n---\n{\"a\": 1} # here\n...\n", "{\"a\":1}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v = NULL;
        if (!yaml_parse_one(str_of(table[i][0]), &a, &v, &err))
            fail_msg("%s: %s", table[i][0], error_text(&err));
        expect(v, table[i][1]);
    }
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"a: 1\nb: 2\na: 3\n", "yaml: line 3: key \"a\" already set in map"},
        {"{\"a\": 1, \"a\": 2}", "key \"a\" already set in map"},
        {"a: b: c\n", "yaml: line 1: mapping values are not allowed in this context"},
        {"a: *x\n", "unknown anchor 'x' referenced"},
        {"a: &x [*x]\n", "anchor 'x' value contains itself"},
        {"--- &x a\n--- *x\n", "unknown anchor 'x' referenced"},
        {"[a]: 1\n", "a map key must be a string"},
        {"~: 1\n", "a map key must be a string"},
        {"!!binary aGk=\n", "unsupported tag"},
        {"!!int x\n", "cannot decode 'x'"},
        {"!foo {}\n", "unsupported tag"},
        {"<<: 1\n", "map merge requires map"},
        {"", "expected one document, found 0"},
        {"a: 1\n---\nb: 1\n", "expected one document, found 2"},
        {"a: \"\\xff", "yaml: line 1"},
        {"\xff", "yaml: line 1"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v = NULL;
        assert_false(yaml_parse_one(str_of(table[i][0]), &a, &v, &err));
        assert_int_equal(err.kind, ERROR_BAD_REQUEST);
        if (!strstr(error_text(&err), table[i][1]))
            fail_msg("%s: got %s", table[i][0], error_text(&err));
    }
}

static void test_bounds(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf laughs = {0};
    char deep[LIMIT_JSON_DEPTH + 1];
    struct yaml_docs docs;

    buf_adds(&laughs, "a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (char c = 'b'; c <= 'i'; c++)
        buf_addf(&laughs, "%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1,
                 c - 1, c - 1);
    assert_false(yaml_parse(buf_str(&laughs), &a, &docs, &err));
    assert_non_null(strstr(error_text(&err), "excessive aliasing"));

    memset(deep, '[', sizeof deep);
    assert_false(yaml_parse(str_n(deep, sizeof deep), &a, &docs, &err));
    assert_non_null(strstr(error_text(&err), "exceeded max depth"));
}

static void test_writes(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"{\"a\":1,\"b\":[],\"c\":{},\"d\":null,\"e\":true}", "a: 1\nb: []\nc: {}\nd: null\ne: true\n"},
        {"{\"spec\":{\"l\":[{\"name\":\"x\",\"v\":[1,2]},[\"p\",[\"q\"]],\"s\"]}}",
         "spec:\n  l:\n  - name: x\n    v:\n    - 1\n    - 2\n  - - p\n    - - q\n  - s\n"},
        {"[\"true\",\"1\",\"\",\"yes\",\"null\",\"~\",\"0644\",\"1e3\",\"2026-11-22T01:17:10Z\",\"1:30\",\"<<\"]",
         "- \"true\"\n- \"1\"\n- \"\"\n- \"yes\"\n- \"null\"\n- \"~\"\n- \"0644\"\n- \"1e3\"\n- \"2026-11-22T01:17:10Z\"\n- \"1:30\"\n- \"<<\"\n"},
        {"[\"a: b\",\"a #b\",\"- x\",\"-x\",\" pad\",\"it's: q\",\"[x\",\"a,b\",\"*\",\"a:b\",\"64Mi\",\"---\"]",
         "- 'a: b'\n- 'a #b'\n- '- x'\n- -x\n- ' pad'\n- 'it''s: q'\n- '[x'\n- a,b\n- '*'\n- a:b\n- 64Mi\n- '---'\n"},
        {"{\"a\":\"x\\ny\\n\",\"b\":[\"x\\n y\"],\"c\":\" lead\\nx\\n\\n\",\"d\":\"trail \\nx\",\"e\":\"tab\\there\"}",
         "a: |\n  x\n  y\nb:\n- |-\n  x\n   y\nc: |2+\n   lead\n  x\n\nd: \"trail \\nx\"\ne: \"tab\\there\"\n"},
        {"{\"1\":1,\"a b\":2,\"k: v\":3}", "\"1\": 1\na b: 2\n'k: v': 3\n"},
        {"\"x\"", "x\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO(buf_done) struct buf b = {0};
        const struct json *v, *again;
        assert_true(json_parse(str_of(table[i][0]), &a, &v, &err));
        yaml_write(&b, v);
        assert_string_equal(b.p, table[i][1]);
        assert_true(yaml_parse_one(buf_str(&b), &a, &again, &err));
        assert_true(json_eq(v, again));
    }
}

static void test_recordings(void **state)
{
    (void)state;
    static const char *const files[] = {
        "vmm-api/cloud-hypervisor-v53.0.yaml", "vmm-api/firecracker-v1.16.1.yaml", "kubevirt-live/cluster-objects.json",
        "kubevirt-live/instancetypes.json", "kubevirt-live/sample-pod.json",
    };
    const char *data = getenv("VIREO_DATA") ? getenv("VIREO_DATA") : data_arg;
    int fd = data ? open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0) {
        print_message("skipped: no recordings in VIREO_DATA or the folder given\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO(buf_done) struct buf text = {0};
        AUTO(buf_done) struct buf out = {0};
        const struct json *v, *again;
        if (!file_read(fd, files[i], &text, &err) || !yaml_parse_one(buf_str(&text), &a, &v, &err))
            fail_msg("%s: %s", files[i], error_text(&err));
        yaml_write(&out, v);
        if (!yaml_parse_one(buf_str(&out), &a, &again, &err))
            fail_msg("%s: %s", files[i], error_text(&err));
        assert_true(json_eq(v, again));
    }
    fd_close(&fd);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads), cmocka_unit_test(test_refuses), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_writes), cmocka_unit_test(test_recordings),
    };

    data_arg = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
