#include "json/json_test.h"
#include "base/cleanup.h"
#include "base/file.h"
#include <dirent.h>
#include <fcntl.h>

static const char *data_arg; /* folder of recordings; may be absent */

static void test_parse_good(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"null", "null"},
        {" true ", "true"},
        {"\t[ ]\r\n", "[]"},
        {"{}", "{}"},
        {"[1,2.50,-0,1e+5,1E-5,-1.0]", "[1,2.50,-0,1e+5,1E-5,-1.0]"},
        {"9223372036854775807", "9223372036854775807"},
        {"{ \"b\" : 1 , \"a\" : [ { } , [ ] ] }", "{\"b\":1,\"a\":[{},[]]}"},
        {"\"\\u0041\\n\\/\\\"\\\\\\b\\f\\t\\r\"", "\"A\\n/\\\"\\\\\\b\\f\\t\\r\""},
        {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
        {"\"\\ud83dx\\ude00\"", "\"\xef\xbf\xbdx\xef\xbf\xbd\""},
        {"\"\\ud83d\\u0041\"", "\"\xef\xbf\xbd" "A\""},
        {"\"\\u001f\\u007f\\u0000\"", "\"\\u001f\x7f\\u0000\""},
        {"\"\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa\xe2\x82\xac\"", "\"\\u2028\\u2029\xe2\x80\xaa\xe2\x82\xac\""},
        {"\"<&>\"", "\"<&>\""},
        {"{\"a\\n\\u00e4\":\"long enough for the eight byte path \\t and \xc3\xa4 on\"}",
         "{\"a\\n\xc3\xa4\":\"long enough for the eight byte path \\t and \xc3\xa4 on\"}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct error err = {0};
        const struct json *v;
        assert_text(parse(&a, table[i][0]), table[i][1]);
        assert_true(json_parse_borrowed(str_of(table[i][0]), &a, &v, &err));
        assert_text(v, table[i][1]);
    }
}

static void test_parse_bad(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"", "line 1 column 1: unexpected end of JSON input"},
        {"{\"apiVersion\": \"v1\", \"kind\"", "line 1 column 28: unexpected end of JSON input"},
        {"[1,\n 2,\n x]", "line 3 column 2: invalid character looking for beginning of value"},
        {"[1,]", "column 4: invalid character looking for beginning of value"},
        {"{,}", "column 2: expected a string as object key"},
        {"{\"a\":1,}", "column 8: expected a string as object key"},
        {"{\"a\" 1}", "column 6: expected ':' after object key"},
        {"{\"a\":1]", "column 7: expected ',' or '}' after object member"},
        {"[1}", "column 3: expected ',' or ']' after array item"},
        {"[1 2]", "column 4: expected ',' or ']' after array item"},
        {"1 1", "column 3: invalid character after top-level value"},
        {"01", "column 1: invalid number"},
        {"[1.]", "column 2: invalid number"},
        {"-", "column 1: invalid number"},
        {"[1e]", "column 2: invalid number"},
        {"tru", "column 1: invalid character"},
        {"\"abc", "column 5: unexpected end of JSON input"},
        {"\"abc\\", "unexpected end of JSON input"},
        {"\"a\nb\"", "column 3: control character in string"},
        {"\"\\x\"", "column 2: invalid escape in string"},
        {"\"\\u12g4\"", "invalid \\u escape"},
        {"\"\xff\"", "column 2: invalid UTF-8 in string"},
        {"\"\xc0\xaf\"", "invalid UTF-8 in string"},
        {"\"\xed\xa0\x80\"", "invalid UTF-8 in string"},
        {"\"\xf4\x90\x80\x80\"", "invalid UTF-8 in string"},
        {"\"\xe2\x82\"", "invalid UTF-8 in string"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v = NULL;
        assert_false(json_parse(str_of(table[i][0]), &a, &v, &err));
        assert_null(v);
        assert_int_equal(err.kind, ERROR_BAD_REQUEST);
        if (!strstr(error_text(&err), table[i][1]))
            fail_msg("%s: got %s, expected %s", table[i][0], error_text(&err), table[i][1]);
    }
}

static bool parses(struct str text)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    return json_parse(text, &a, &v, &err);
}

static void test_bounds(void **state)
{
    (void)state;
    static char deep[2 * (LIMIT_JSON_DEPTH + 1)];
    static char wide[2 * (LIMIT_JSON_NODES + 8)];
    size_t n = 0;

    for (size_t depth = LIMIT_JSON_DEPTH; depth <= LIMIT_JSON_DEPTH + 1; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        assert_int_equal(parses(str_n(deep, 2 * depth)), depth == LIMIT_JSON_DEPTH);
    }
    wide[n++] = '[';
    for (size_t i = 0; i < LIMIT_JSON_NODES - 1; i++) {
        wide[n++] = '1';
        wide[n++] = ',';
    }
    wide[n - 1] = ']';
    assert_true(parses(str_n(wide, n)));
    memcpy(wide + n - 1, ",1]", 3);
    assert_false(parses(str_n(wide, n + 2)));
    assert_false(parses(STR_NONE));
}

static void test_duplicates(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    struct error err = {0};
    struct json_dups dups = {0};
    const struct json *v;

    assert_true(json_parse_strict(STR("{\"metadata\":{\"name\":1,\"name\":2,\"name\":3},"
                                      "\"c\":[0,{\"x\":[[{\"y\":1,\"y\":2}]]}],\"c\":null}"),
                                  &a, &dups, &v, &err));
    assert_int_equal(dups.n, 3);
    assert_string_equal(dups.paths[0], "metadata.name");
    assert_string_equal(dups.paths[1], "c[1].x[0][0].y");
    assert_string_equal(dups.paths[2], "c");
    assert_int_equal(json_i64_at(v, "metadata/name", 0), 3);

    buf_adds(&b, "{\"0\":0");
    for (int i = 0; i < 40; i++)
        buf_addf(&b, ",\"%d\":1,\"7\":2", i + 1);
    buf_addc(&b, '}');
    assert_true(json_parse_strict(buf_str(&b), &a, &dups, &v, &err));
    assert_int_equal(dups.n, 1);
    assert_string_equal(dups.paths[0], "7");
}

static void test_readers(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = {0};
    const struct json *v = parse(&a, "{\"spec\":{\"n\":3,\"t\":true,\"list\":[{\"a/b~c\":\"x\"}],\"\":\"e\",\"d\":1.5},"
                                          "\"s\":\"nul\\u0000in\",\"empty\":\"\"}");
    double d;
    size_t count = 0;

    assert_int_equal(json_i64_at(v, "spec/n", -1), 3);
    assert_int_equal(json_i64_at(v, "spec/none", -1), -1);
    assert_int_equal(json_i64_at(v, "spec/d", -1), -1);
    assert_true(json_double(json_at(v, "spec/d"), &d) && d == 1.5);
    assert_true(json_bool_at(v, "spec/t", false));
    assert_true(json_bool_at(v, "spec/x", true));
    assert_false(json_bool_at(v, "spec/x", false));
    assert_true(str_is(json_str_at(v, "spec/list/0/a~1b~0c"), "x"));
    assert_true(str_is(json_str_at(v, "spec/"), "e"));
    assert_null(json_at(v, "spec/list/1"));
    assert_null(json_at(v, "spec/list/00"));
    assert_null(json_at(v, "s/0"));
    assert_null(json_at(NULL, "a/b"));
    assert_ptr_equal(json_at(v, ""), v);
    assert_int_equal(json_str(json_get(v, "s")).n, 6);
    assert_non_null(json_str(json_get(v, "empty")).p);
    assert_null(json_str(json_get(v, "spec")).p);
    assert_int_equal(json_len(json_get(v, "spec")), 5);
    assert_int_equal(json_len(NULL), 0);
    assert_null(json_get(json_at(v, "s"), "x"));
    json_each_member (m, json_get(v, "spec"))
        count += m->key.n;
    json_each_item (it, json_at(v, "spec/list"))
        count += json_len(it);
    json_each_item (it, NULL)
        count += 100 + json_len(it);
    assert_int_equal(count, 1 + 1 + 4 + 0 + 1 + 1);
}

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } table[] = {
        {"0", true, 0}, {"-0", true, 0}, {"0.0e99999999999999999999", true, 0},
        {"9223372036854775807", true, INT64_MAX}, {"9223372036854775808", false, 0},
        {"-9223372036854775808", true, INT64_MIN}, {"-9223372036854775809", false, 0},
        {"1.0", true, 1}, {"1.5e1", true, 15}, {"1500e-2", true, 15}, {"150.0e-1", true, 15}, {"1.5", false, 0},
        {"1e18", true, 1000000000000000000}, {"1e19", false, 0}, {"0.001e3", true, 1}, {"0.001e2", false, 0},
        {"1e99999999999999999999999", false, 0}, {"1e-99999999999999999999999", false, 0},
        {"123456789012345678901234567890", false, 0}, {"\"1\"", false, 0}, {"true", false, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        int64_t v = 0;
        if (json_i64(parse(&a, table[i].text), &v) != table[i].ok || v != table[i].value)
            fail_msg("%s: got %lld", table[i].text, (long long)v);
    }
}

static void test_equality(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool equal;
    } table[] = {
        {"1", "1.0", true}, {"10", "1e1", true}, {"0.1", "1e-1", true}, {"-0", "0", true}, {"1", "-1", false},
        {"9007199254740993", "9007199254740992", false}, {"9007199254740993.0", "9007199254740993", true},
        {"12.34", "1.234e1", true}, {"100", "1", false}, {"1", "\"1\"", false}, {"null", "false", false},
        {"{\"a\":1,\"b\":[1,{}]}", "{\"b\":[1.0,{}],\"a\":1}", true}, {"{\"a\":1}", "{\"b\":1}", false},
        {"{\"a\":1,\"a\":1}", "{\"a\":1,\"b\":1}", false}, {"{\"x\":1,\"a\":1,\"a\":1}", "{\"a\":1,\"b\":1,\"x\":1}", false},
        {"[1,2]", "[2,1]", false}, {"[]", "{}", false}, {"\"a\"", "\"\\u0061\"", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *x = parse(&a, table[i].a), *y = parse(&a, table[i].b);
        if (json_eq(x, y) != table[i].equal || json_eq(y, x) != table[i].equal)
            fail_msg("%s and %s", table[i].a, table[i].b);
    }
    assert_true(json_eq(NULL, NULL));
    assert_false(json_eq(NULL, json_null()));
}

/* Members in opposite order: quadratic comparison would take minutes. */
static void test_large_objects_compare_quickly(void **state)
{
    (void)state;
    enum { N = 200000 };
    AUTO(arena_done) struct arena a = {0};
    struct json_member *up = ARENA_ARRAY(&a, struct json_member, N), *down = ARENA_ARRAY(&a, struct json_member, N);

    for (size_t i = 0; i < N; i++)
        up[i] = json_member_of(&a, str_of(arena_printf(&a, "%zu", i)), json_null());
    for (size_t i = 0; i < N; i++)
        down[N - 1 - i] = up[i];
    assert_true(json_eq(json_object_n(&a, up, N), json_object_n(&a, down, N)));
}

static void test_makers(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = {0}, other = {0};
    const struct json *items[] = {json_null(), NULL, json_new_bool(true)};
    const struct json *v = json_object(&a, "name", json_new_z(&a, "x"), "gone", json_new_z(&a, NULL), "n",
                                       json_new_i64(&a, INT64_MIN), "f", json_new_f(&a, "%s-%d", "a", 7), "l",
                                       json_array(&a, json_new_bool(false), json_array(&a, NULL), NULL), "m",
                                       json_array_n(&a, items, 3), "o", json_object(&a, NULL), NULL);
    static const char text[] = "{\"name\":\"x\",\"n\":-9223372036854775808,\"f\":\"a-7\",\"l\":[false,[]],"
                               "\"m\":[null,null,true],\"o\":{}}";

    assert_text(v, text);
    v = json_copy(&other, v);
    arena_clear(&a);
    assert_text(v, text);
    assert_text(json_append(&other, NULL, json_null()), "[null]");
    assert_text(json_append(&other, parse(&other, "[1,2]"), json_null()), "[1,2,null]");
    assert_null(json_copy(&other, NULL));
}

static void test_doubles(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } table[] = {
        {0, "0"}, {-0.0, "0"}, {1, "1"}, {0.1, "0.1"}, {-2.5, "-2.5"}, {1e20, "100000000000000000000"}, {1e21, "1e+21"},
        {1e-6, "0.000001"}, {1e-7, "1e-7"}, {123456.789, "123456.789"}, {1.0 / 3, "0.3333333333333333"},
        {5e-324, "5e-324"}, {1.7976931348623157e308, "1.7976931348623157e+308"}, {9007199254740992.0, "9007199254740992"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *v = json_new_double(&a, table[i].v);
        double back;
        assert_text(v, table[i].text);
        assert_true(json_double(v, &back) && back == table[i].v);
    }
}

static void test_edits(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = {0};
    const struct json *v = parse(&a, "{\"a\":1,\"b\":{\"c\":[1,2,3]},\"a\":2}"), *one = json_new_i64(&a, 1);

    assert_text(json_with(&a, v, "a", one), "{\"a\":1,\"b\":{\"c\":[1,2,3]}}");
    assert_text(json_with(&a, v, "a", NULL), "{\"b\":{\"c\":[1,2,3]}}");
    assert_text(json_with(&a, NULL, "z", one), "{\"z\":1}");
    assert_text(json_with(&a, one, "z", NULL), "{}");
    assert_text(json_with_at(&a, v, "b/c/1", json_null()), "{\"a\":1,\"b\":{\"c\":[1,null,3]},\"a\":2}");
    assert_text(json_with_at(&a, v, "b/c/1", NULL), "{\"a\":1,\"b\":{\"c\":[1,3]},\"a\":2}");
    assert_ptr_equal(json_with_at(&a, v, "b/c/3", one), v);
    assert_ptr_equal(json_with_at(&a, v, "b/none/x", NULL), v);
    assert_ptr_equal(json_with_at(&a, v, "b/c/0/x", NULL), v);
    assert_text(json_with_at(&a, v, "b/new/x~1y", one), "{\"a\":1,\"b\":{\"c\":[1,2,3],\"new\":{\"x/y\":1}},\"a\":2}");
    assert_text(json_with_at(&a, NULL, "p/q", one), "{\"p\":{\"q\":1}}");
    assert_ptr_equal(json_with_at(&a, v, "", one), one);
    assert_text(v, "{\"a\":1,\"b\":{\"c\":[1,2,3]},\"a\":2}");
}

static void test_writers(void **state)
{
    (void)state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO(buf_done) struct buf small = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v = parse(&a, "{\"b\":[1,{\"z\":0,\"y\":[]}],\"a\":{},\"b\":[]}");

    json_write_pretty(&b, v, 2);
    assert_string_equal(b.p, "{\n  \"b\": [\n    1,\n    {\n      \"z\": 0,\n      \"y\": []\n    }\n  ],\n  \"a\": {},\n  \"b\": []\n}");
    buf_clear(&b);
    json_write_sorted(&b, v);
    assert_string_equal(b.p, "{\"a\":{},\"b\":[]}");
    buf_clear(&b);
    json_write_string(&b, STR_NONE);
    json_write(&b, NULL);
    assert_string_equal(b.p, "\"\"null");
    buf_init(&small, 10);
    json_write(&small, v);
    assert_true(small.n <= 10);
    assert_false(buf_ok(&small, "test", &err));
}

/* A program's output, a text that was cut: what is written is read again, whatever was put in. */
static void what_is_no_utf8_is_written_as_a_replacement(void **state)
{
    static const struct {
        const char *in, *out;
    } table[] = {
        {"ä€𝄞", "\"ä€𝄞\""},
        {"a\xff" "b", "\"a\\ufffdb\""},
        {"\xc3", "\"\\ufffd\""},
        {"x\xe2\x82", "\"x\\ufffd\\ufffd\""},
        {"\xed\xa0\x80!", "\"\\ufffd\\ufffd\\ufffd!\""},
        {"\xc3\"", "\"\\ufffd\\\"\""},
        {"\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa", "\"\\u2028\\u2029\xe2\x80\xaa\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO_FREE char *text = json_text(json_new_z(&a, table[i].in));
        const struct json *v;

        assert_string_equal(text, table[i].out);
        assert_true(json_parse(str_of(text), &a, &v, &err));
    }
}

static bool blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* The text without the white space between tokens: what compact writing has to give back.
 * Go's three escapes for HTML, which recorded servers write, are the one thing that we write plainly. */
static void compact(struct str text, struct buf *out)
{
    bool quoted = false;

    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (!quoted && blank(c))
            continue;
        if (c == '\\' && i + 6 <= text.n) {
            char html = memcmp(text.p + i, "\\u003c", 6) == 0 ? '<' : memcmp(text.p + i, "\\u003e", 6) == 0 ? '>'
                        : memcmp(text.p + i, "\\u0026", 6) == 0 ? '&' : '\0';
            if (html) {
                buf_addc(out, html);
                i += 5;
                continue;
            }
        }
        buf_addc(out, c);
        if (c == '"')
            quoted = !quoted;
        else if (c == '\\' && quoted && i + 1 < text.n)
            buf_addc(out, text.p[++i]);
    }
}

static void round_trip(const char *name, struct str text)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf want = {0};
    AUTO(buf_done) struct buf got = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    if (!json_parse(text, &a, &v, &err))
        fail_msg("%s: %s", name, error_text(&err));
    compact(text, &want);
    json_write(&got, v);
    if (!str_eq(buf_str(&want), buf_str(&got)))
        fail_msg("%s: changed by parse and write", name);
}

static size_t round_trip_dir(int parent, const char *path)
{
    int fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    size_t n = 0;

    while (dir && (e = readdir(dir))) {
        AUTO(buf_done) struct buf text = {0};
        AUTO(error_clear) struct error err = {0};
        struct str name = str_of(e->d_name), rest, line;
        bool lines = str_ends(name, STR(".jsonl"));
        if (e->d_name[0] == '.')
            continue;
        if (e->d_type == DT_DIR)
            n += round_trip_dir(fd, e->d_name);
        if (!lines && !str_ends(name, STR(".json")))
            continue;
        assert_true(file_read(fd, e->d_name, &text, &err));
        rest = buf_str(&text);
        if (!lines)
            round_trip(e->d_name, rest);
        else
            while (str_next(&rest, '\n', &line))
                if (!str_empty(line))
                    round_trip(e->d_name, line);
        n++;
    }
    if (dir)
        closedir(dir);
    return n;
}

static void test_round_trip_of_recordings(void **state)
{
    (void)state;
    const char *data = getenv("VIREO_DATA") ? getenv("VIREO_DATA") : data_arg;
    size_t n = data ? round_trip_dir(AT_FDCWD, data) : 0;

    if (n == 0) {
        print_message("skipped: no recordings in VIREO_DATA or the folder given\n");
        skip();
    }
    print_message("%zu files\n", n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_good), cmocka_unit_test(test_parse_bad),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_readers), cmocka_unit_test(test_integers),
        cmocka_unit_test(test_equality), cmocka_unit_test(test_large_objects_compare_quickly),
        cmocka_unit_test(test_makers), cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_edits), cmocka_unit_test(test_writers),
        cmocka_unit_test(what_is_no_utf8_is_written_as_a_replacement),
        cmocka_unit_test(test_round_trip_of_recordings),
    };

    data_arg = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
