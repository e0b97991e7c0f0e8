/* cel/cel_test_rows - the tables of cel_test.c: expectations are those of the CEL specification and of Kubernetes' documentation. */
#define ROWS(name, ...)                                                                                                \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        static const struct row rows[] = {__VA_ARGS__};                                                                \
                                                                                                                       \
        (void)state;                                                                                                   \
        check_rows(rows, ARRAY_SIZE(rows));                                                                            \
    }

ROWS(test_operators,
     {"1 + 2 * 3", "7"},
     {"(1 + 2) * 3", "9"},
     {"7 / 2", "3"},
     {"-7 / 2", "-3"},
     {"7 % 3", "1"},
     {"-7 % 3", "-1"},
     {"1u + 2u", "3u"},
     {"1.5 + 2.0", "3.5d"},
     {"1.0 / 0.0 > 1.0", "true"},
     {"0x10", "16"},
     {"-9223372036854775808", "-9223372036854775808"},
     {"9223372036854775807 + 1", "error: integer overflow"},
     {"-9223372036854775808 - 1", "error: integer overflow"},
     {"9223372036854775807 * 2", "error: integer overflow"},
     {"-9223372036854775808 / -1", "error: integer overflow"},
     {"-(-9223372036854775808)", "error: integer overflow"},
     {"1u - 2u", "error: unsigned integer overflow"},
     {"1 / 0", "error: division by zero"},
     {"1 % 0", "error: modulus by zero"},
     {"1u / 0u", "error: division by zero"},
     {"!true", "false"},
     {"!!true", "true"},
     {"--1", "1"},
     {"true && false", "false"},
     {"true || false", "true"},
     {"false && 1 / 0 == 1", "false"},
     {"1 / 0 == 1 && false", "false"},
     {"true || 1 / 0 == 1", "true"},
     {"1 / 0 == 1 || true", "true"},
     {"1 / 0 == 1 && true", "error: division by zero"},
     {"1 / 0 == 1 || false", "error: division by zero"},
     {"true ? 1 : 2", "1"},
     {"false ? 1 : 2", "2"},
     {"false ? 1 / 0 : 2", "2"},
     {"true ? (false ? 1 : 2) : 3", "2"},
     {"false ? 1 : false ? 2 : 3", "3"},
     {"1 < 2", "true"},
     {"1 < 2.5", "true"},
     {"1u < 2", "true"},
     {"2.0 >= 2", "true"},
     {"'a' < 'b'", "true"},
     {"b'a' < b'b'", "true"},
     {"false < true", "true"},
     {"1 == 1", "true"},
     {"1 != 2", "true"},
     {"dyn(1) == 1.0", "true"},
     {"dyn(1) == 1u", "true"},
     {"dyn(1) == 'a'", "false"},
     {"dyn('a') == null", "false"},
     {"[1, 2] == [1, 2]", "true"},
     {"[1, 2] == [2, 1]", "false"},
     {"{'a': 1} == {'a': 1}", "true"},
     {"{'a': 1, 'b': 2} == {'b': 2, 'a': 1}", "true"},
     {"null == null", "true"},
     {"[1] + [2] == [1, 2]", "true"},
     {"'a' + 'b'", "\"ab\""},
     {"b'a' + b'b' == b'ab'", "true"},
     {"2 in [1, 2]", "true"},
     {"3 in [1, 2]", "false"},
     {"'a' in {'a': 1}", "true"},
     {"'b' in {'a': 1}", "false"},
     {"[1, 2][1]", "2"},
     {"[1, 2][2]", "error: index out of bounds: 2"},
     {"[1, 2][-1]", "error: index out of bounds: -1"},
     {"{'a': 1}['a']", "1"},
     {"{'a': 1}.a", "1"},
     {"{'a': 1}['b']", "error: no such key: b"},
     {"{1: 'x'}[1]", "\"x\""},
     {"{'a': 1, 'a': 2}", "error: insert failed: key a already exists"},
     {"x.a", "1"},
     {"x.b[2]", "3"},
     {"x.c.d", "\"e\""},
     {"x['a']", "1"},
     {"x.f", "1.5d"},
     {"x.z == null", "true"},
     {"x.q", "error: no such key: q"},
     {"x.a.b", "error: no such overload"},
     {"has(x.a)", "true"},
     {"has(x.q)", "false"},
     {"has(x.c.d)", "true"},
     {"has(x.q.d)", "error: no such key: q"},
     {"has(x.z)", "true"},
     {"x.a + x.f", "error: no such overload"},
     {"x.a < x.f", "true"},
     {"x.t && true", "true"},
     {"x.a && true", "error: no such overload"},
     {"size('h\\u00e4')", "2"},
     {"size(b'h\\xc3\\xa4')", "3"},
     {"size([1, 2])", "2"},
     {"[1, 2].size()", "2"},
     {"size({'a': 1})", "1"},
     {"size(x)", "7"},
     {"x.b.size()", "3"},
     {"type(1) == int", "true"},
     {"type(1) == uint", "false"},
     {"type('a') == string", "true"},
     {"type([]) == list", "true"},
     {"type({}) == map", "true"},
     {"type(null) == null_type", "true"},
     {"type(int) == type", "true"},
     {"type(x.f) == double", "true"},
     {"type(duration('1s')) == google.protobuf.Duration", "true"},
     {"r'\\d'", "\"\\\\d\""},
     {"'''a\nb'''", "\"a\\nb\""},
     {"\"\\x41\\u0042\\103\"", "\"ABC\""},
     {"true // comment", "true"},
     {"[1, 2,].size()", "2"}, )

ROWS(test_macros,
     {"[1, 2, 3].all(i, i > 0)", "true"},
     {"[1, 2, 3].all(i, i > 1)", "false"},
     {"[].all(i, i > 1)", "true"},
     {"[1, 2, 3].exists(i, i > 2)", "true"},
     {"[1, 2, 3].exists(i, i > 3)", "false"},
     {"[1, 0].exists(i, 1 / i == 1)", "true"},
     {"[0, 1].exists(i, 1 / i == 1)", "true"},
     {"[0, 2].exists(i, 1 / i == 1)", "error: division by zero"},
     {"[0, 2].all(i, 1 / i == 1)", "false"},
     {"[1, 2, 3].exists_one(i, i > 2)", "true"},
     {"[1, 2, 3].exists_one(i, i > 1)", "false"},
     {"[1, 2, 3].map(i, i * 2) == [2, 4, 6]", "true"},
     {"[1, 2, 3].map(i, i > 1, i * 2) == [4, 6]", "true"},
     {"[1, 2, 3].filter(i, i > 1) == [2, 3]", "true"},
     {"{'a': 1, 'b': 2}.all(k, k != 'c')", "true"},
     {"{'a': 1, 'b': 2}.map(k, k).size()", "2"},
     {"{'a': 1, 'b': 2}.filter(k, k == 'a') == ['a']", "true"},
     {"x.b.all(i, i < 4)", "true"},
     {"x.all(k, k.size() > 0)", "true"},
     {"x.names.exists(n, n == 'b')", "true"},
     {"[[1, 2], [3]].map(l, l.map(i, i + 1)) == [[2, 3], [4]]", "true"},
     {"[1, 2].all(i, [1, 2].exists(j, i == j))", "true"},
     {"[1, 2].all(i, v, i < v)", "true"},
     {"{'a': 1}.all(k, v, k == 'a' && v == 1)", "true"},
     {"{'a': 1}.exists(k, v, v == 2)", "false"},
     {"[5, 6].existsOne(i, v, i == 1 && v == 6)", "true"},
     {"[5, 6].transformList(i, v, i + v) == [5, 7]", "true"},
     {"[5, 6].transformList(i, v, i > 0, i + v) == [7]", "true"},
     {"{'a': 1}.transformMap(k, v, v + 1) == {'a': 2}", "true"},
     {"{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v + 1) == {'b': 3}", "true"},
     {"{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}", "true"},
     {"x.?a.hasValue()", "true"},
     {"x.?q.hasValue()", "false"},
     {"x.?q.d.hasValue()", "false"},
     {"x.?c.d.value()", "\"e\""},
     {"x.?q.orValue(5)", "5"},
     {"x.?a.orValue(5)", "1"},
     {"x[?'q'].orValue('n')", "\"n\""},
     {"[1][?1].hasValue()", "false"},
     {"[1][?0].value()", "1"},
     {"optional.none().value()", "error: optional.none() dereference"},
     {"optional.of(1).value()", "1"},
     {"optional.of(1).optMap(v, v + 1).value()", "2"},
     {"optional.none().optMap(v, v).hasValue()", "false"},
     {"optional.of(1).optFlatMap(v, optional.of(v + 1)).value()", "2"},
     {"optional.ofNonZeroValue(0).hasValue()", "false"},
     {"optional.none().or(optional.of(3)).value()", "3"},
     {"[?optional.none(), 1].size()", "1"},
     {"[1, 2].first().value()", "1"},
     {"[1, 2].last().value()", "2"},
     {"[].first().hasValue()", "false"},
     {"optional.unwrap([optional.of(1), optional.none(), optional.of(3)]) == [1, 3]", "true"},
     {"[optional.of(1), optional.none()].unwrapOpt().size()", "1"},
     {"x.?b.optMap(l, l.size()).orValue(0)", "3"},
     {"x.?q.or(x.?a).value()", "1"},
     {"optional.of(x).a.value()", "1"},
     {"has(x.?c.d)", "true"},
     {"x.b.exists(i, v, v == 3 && i == 2)", "true"},
     {"x.b.all(i, x.b[i - 1] == i)", "true"},
     {"{?'a': optional.of(1)}.size()", "1"},
     {"{?'a': optional.none()}.size()", "0"}, )

ROWS(test_strings,
     {"s.contains('ex')", "true"},
     {"s.contains('')", "true"},
     {"s.startsWith('te')", "true"},
     {"s.endsWith('xt')", "true"},
     {"'h\\u00e4llo'.charAt(1)", "\"\xc3\xa4\""},
     {"'abc'.charAt(3)", "\"\""},
     {"'abc'.charAt(4)", "error: index out of range: 4"},
     {"'hello mellow'.indexOf('')", "0"},
     {"'hello mellow'.indexOf('ello')", "1"},
     {"'hello mellow'.indexOf('jello')", "-1"},
     {"'hello mellow'.indexOf('ello', 2)", "7"},
     {"'hello mellow'.indexOf('ello', 20)", "error: index out of range: 20"},
     {"'hello mellow'.lastIndexOf('')", "12"},
     {"'hello mellow'.lastIndexOf('ello')", "7"},
     {"'hello mellow'.lastIndexOf('ello', 6)", "1"},
     {"'hello mellow'.lastIndexOf('jello')", "-1"},
     {"'TacoCat'.lowerAscii()", "\"tacocat\""},
     {"'TacoCat'.upperAscii()", "\"TACOCAT\""},
     {"'hello hello'.replace('he', 'we')", "\"wello wello\""},
     {"'hello hello'.replace('he', 'we', 1)", "\"wello hello\""},
     {"'hello hello'.replace('he', 'we', 0)", "\"hello hello\""},
     {"'ab'.replace('', '_')", "\"_a_b_\""},
     {"'hello hello hello'.split(' ') == ['hello', 'hello', 'hello']", "true"},
     {"'hello hello hello'.split(' ', 0) == []", "true"},
     {"'hello hello hello'.split(' ', 1) == ['hello hello hello']", "true"},
     {"'hello hello hello'.split(' ', 2) == ['hello', 'hello hello']", "true"},
     {"'abc'.split('') == ['a', 'b', 'c']", "true"},
     {"'tacocat'.substring(4)", "\"cat\""},
     {"'tacocat'.substring(0, 4)", "\"taco\""},
     {"'tacocat'.substring(-1)", "error: index out of range: -1"},
     {"'tacocat'.substring(2, 1)", "error: invalid substring range. start: 2, end: 1"},
     {"'  trim\\n    '.trim()", "\"trim\""},
     {"['a', 'b'].join()", "\"ab\""},
     {"['a', 'b'].join('-')", "\"a-b\""},
     {"[].join('-')", "\"\""},
     {"'gums'.reverse()", "\"smug\""},
     {"strings.quote('a\\n\"b\"')", "\"\\\"a\\\\n\\\\\\\"b\\\\\\\"\\\"\""},
     {"'%s is %d'.format([dyn('a'), 5])", "\"a is 5\""},
     {"'%.2f %e'.format([3.14159, 1.0])", "\"3.14 1.000000e+00\""},
     {"'%x %X %o %b'.format([255, 255, 8, 5])", "\"ff FF 10 101\""},
     {"'%x'.format(['hi'])", "\"6869\""},
     {"'100%%'.format([])", "\"100%\""},
     {"'%s'.format([[dyn(1), 'a', true]])", "\"[1, a, true]\""},
     {"'%s'.format([{'a': 1.5}])", "\"{a: 1.5}\""},
     {"'%s'.format([null])", "\"null\""},
     {"'%d'.format(['a'])", "error: error during formatting: no formatting function for string with clause \"d\""},
     {"'%d'.format([])", "error: index 0 out of range"}, )

ROWS(test_lists,
     {"[1, 2, 3].isSorted()", "true"},
     {"[3, 2].isSorted()", "false"},
     {"['a', 'b'].isSorted()", "true"},
     {"[1, 3].sum()", "4"},
     {"[1.0, 3.0].sum()", "4d"},
     {"[1, 3].min()", "1"},
     {"['a', 'c'].max()", "\"c\""},
     {"[].max()", "error: max called on empty list"},
     {"[].sum()", "0"},
     {"['a', 'b', 'b'].indexOf('b')", "1"},
     {"['a', 'b', 'b'].lastIndexOf('b')", "2"},
     {"['a'].indexOf('z')", "-1"},
     {"sets.contains([1, 2], [2])", "true"},
     {"sets.contains([1], [2])", "false"},
     {"sets.equivalent([1, 2], [2, 1, 1])", "true"},
     {"sets.intersects([1, 2], [2, 3])", "true"},
     {"sets.intersects([1], [])", "false"}, )

ROWS(test_times,
     {"string(timestamp('2023-05-06T07:08:09Z'))", "\"2023-05-06T07:08:09Z\""},
     {"string(timestamp('2023-05-06T07:08:09.120+02:00'))", "\"2023-05-06T05:08:09.12Z\""},
     {"timestamp('2023-05-06T07:08:09Z').getFullYear()", "2023"},
     {"timestamp('2023-05-06T07:08:09Z').getMonth()", "4"},
     {"timestamp('2023-05-06T07:08:09Z').getDate()", "6"},
     {"timestamp('2023-05-06T07:08:09Z').getDayOfMonth()", "5"},
     {"timestamp('2023-05-06T07:08:09Z').getDayOfWeek()", "6"},
     {"timestamp('2023-05-06T07:08:09Z').getDayOfYear()", "125"},
     {"timestamp('2023-05-06T07:08:09Z').getHours()", "7"},
     {"timestamp('2023-05-06T07:08:09Z').getHours('-08:00')", "23"},
     {"timestamp('2023-05-06T07:08:09Z').getMinutes()", "8"},
     {"timestamp('2023-05-06T07:08:09.5Z').getMilliseconds()", "500"},
     {"string(duration('1h1m1.5s'))", "\"3661.5s\""},
     {"duration('90s').getMinutes()", "1"},
     {"duration('1h').getSeconds()", "3600"},
     {"duration('1m') + duration('1s') == duration('61s')", "true"},
     {"duration('1m') < duration('1h')", "true"},
     {"string(timestamp('2023-01-01T00:00:00Z') + duration('24h'))", "\"2023-01-02T00:00:00Z\""},
     {"string(timestamp('2023-01-01T00:00:00Z') - duration('1ns'))", "\"2022-12-31T23:59:59.999999999Z\""},
     {"string(timestamp('2023-01-02T00:00:00Z') - timestamp('2023-01-01T00:00:00Z'))", "\"86400s\""},
     {"timestamp('2023-01-02T00:00:00Z') > timestamp('2023-01-01T00:00:00Z')", "true"},
     {"int(timestamp('1970-01-01T00:01:00Z'))", "60"},
     {"timestamp(s) == timestamp(s)", "error: parsing time \"text\" as \"2006-01-02T15:04:05Z07:00\": cannot parse"},
     {"string(timestamp('9999-12-31T23:59:59Z') + duration('1s'))", "error: timestamp overflow"}, )

ROWS(test_conversions,
     {"int('42')", "42"},
     {"int('-42')", "-42"},
     {"int(1.9)", "1"},
     {"int(-1.9)", "-1"},
     {"int(5u)", "5"},
     {"int('a')", "error: strconv.ParseInt: parsing \"a\": invalid syntax"},
     {"int('9223372036854775808')", "error: strconv.ParseInt: parsing \"9223372036854775808\": value out of range"},
     {"int(1e30)", "error: integer overflow"},
     {"uint(5)", "5u"},
     {"uint(-5)", "error: unsigned integer overflow"},
     {"uint('7')", "7u"},
     {"double('1.5')", "1.5d"},
     {"double(3)", "3d"},
     {"string(1)", "\"1\""},
     {"string(1.5)", "\"1.5\""},
     {"string(100.0)", "\"100\""},
     {"string(1000000.0)", "\"1e+06\""},
     {"string(0.0001)", "\"0.0001\""},
     {"string(0.00001)", "\"1e-05\""},
     {"string(true)", "\"true\""},
     {"string(b'abc')", "\"abc\""},
     {"string(b'\\xff')", "error: invalid UTF-8 in bytes, cannot convert to string"},
     {"bytes('abc') == b'abc'", "true"},
     {"bool('true')", "true"},
     {"bool('no')", "error: strconv.ParseBool: parsing \"no\": invalid syntax"}, )

ROWS(test_regex,
     {"'abc'.matches('b')", "true"},
     {"'abc'.matches('^b')", "false"},
     {"matches('abc', 'c$')", "true"},
     {"'foobar'.matches('^[a-z]{3,6}$')", "true"},
     {"'foobar'.matches('^[a-z]{3,5}$')", "false"},
     {"'a1'.matches(r'^\\w\\d$')", "true"},
     {"'ABC'.matches('(?i)^abc$')", "true"},
     {"'a\\nb'.matches('a.b')", "false"},
     {"'a\\nb'.matches('(?s)a.b')", "true"},
     {"'a\\nb'.matches('(?m)^b$')", "true"},
     {"'h\\u00e4'.matches('^h.$')", "true"},
     {"'foo.bar'.matches(r'^\\w+(\\.\\w+)*$')", "true"},
     {"'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'.matches('^(a+)+$')", "false"},
     {"'x-y'.matches('^[[:alpha:]]-[^0-9]$')", "true"},
     {"'ab12cd'.find('[0-9]+')", "\"12\""},
     {"'ab'.find('[0-9]+')", "\"\""},
     {"'123 abc 456'.findAll('[0-9]+') == ['123', '456']", "true"},
     {"'123 abc 456'.findAll('[0-9]+', 1) == ['123']", "true"},
     {"'aXbX'.findAll('.*?X') == ['aX', 'bX']", "true"},
     {"'ab'.findAll('x*').size()", "3"},
     {"'foo bar'.matches(r'\\bbar\\b')", "true"},
     {"s.matches(s)", "true"},
     {"s.matches('(' + s)", "error: error parsing regexp: missing closing ): `(text`"}, )

ROWS(test_errors,
     {"1 +", "compile: ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', "
             "'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 1 +\n | ...^"},
     {"y", "compile: ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y\n | ^"},
     {"foo(1)", "compile: ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(1)\n | ...^"},
     {"1 + 'a'", "compile: ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^"},
     {"s.contains(1)",
      "compile: ERROR: <input>:1:11: found no matching overload for 'contains' applied to 'string.(int)'\n | s.contains(1)\n | ..........^"},
     {"s.foo", "compile: ERROR: <input>:1:2: type 'string' does not support field selection\n | s.foo\n | .^"},
     {"[1, 'a']", "compile: ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"},
     {"1 == 'a'", "compile: ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, string)'\n | 1 == 'a'\n | ..^"},
     {"has(x)", "compile: ERROR: <input>:1:5: invalid argument to has() macro\n | has(x)\n | ....^"},
     {"x.all(1, true)", "compile: ERROR: <input>:1:7: argument must be a simple name\n | x.all(1, true)\n | ......^"},
     {"s.all(c, true)",
      "compile: ERROR: <input>:1:1: expression of type 'string' cannot be range of a comprehension (must be list, map, or "
      "dynamic)\n | s.all(c, true)\n | ^"},
     {"s.matches('(')",
      "compile: ERROR: <input>:1:11: invalid matches argument: error parsing regexp: missing closing ): `(`\n | s.matches('(')\n | ..........^"},
     {"1 2", "compile: ERROR: <input>:1:3: Syntax error: extraneous input '2' expecting <EOF>\n | 1 2\n | ..^"},
     {"for", "compile: ERROR: <input>:1:1: reserved identifier: for\n | for\n | ^"},
     {"9223372036854775808", "compile: ERROR: <input>:1:1: invalid int literal\n | 9223372036854775808\n | ^"},
     {"x.all(q, z)", "compile: ERROR: <input>:1:10: undeclared reference to 'z' (in container '')\n | x.all(q, z)\n | .........^"},
     {"x.foo(y)",
      "compile: ERROR: <input>:1:6: undeclared reference to 'foo' (in container '')\n | x.foo(y)\n | .....^\n"
      "ERROR: <input>:1:7: undeclared reference to 'y' (in container '')\n | x.foo(y)\n | ......^"},
     {"x..a", "compile: ERROR: <input>:1:3: Syntax error: mismatched input '.' expecting IDENTIFIER\n | x..a\n | ..^"},
     {"'\\q'", "compile: ERROR: <input>:1:1: Syntax error: token recognition error at: ''\\q'\n | '\\q'\n | ^"},
     {"true ? 1 : 'a'",
      "compile: ERROR: <input>:1:6: found no matching overload for '_?_:_' applied to '(bool, int, string)'\n | true ? 1 : 'a'\n | .....^"},
     {"!1", "compile: ERROR: <input>:1:1: found no matching overload for '!_' applied to '(int)'\n | !1\n | ^"},
     {"s == null",
      "compile: ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(string, null)'\n | s == null\n | ..^"},
     {"isImage(s)", "compile: ERROR: <input>:1:8: function 'isImage' is not supported by this server\n | isImage(s)\n | .......^"},
     {"duration('x')", "compile: ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"},
     {"true &&\n y", "compile: ERROR: <input>:2:2: undeclared reference to 'y' (in container '')\n |  y\n | .^"}, )

ROWS(test_kubernetes,
     {"quantity('1Gi').isGreaterThan(quantity('1G'))", "true"},
     {"quantity('500m').isLessThan(quantity('1'))", "true"},
     {"quantity('1.5').isInteger()", "false"},
     {"quantity('3').asInteger()", "3"},
     {"quantity('1.5').asInteger()", "error: cannot convert value to integer"},
     {"quantity('1.5').asApproximateFloat()", "1.5d"},
     {"quantity('-1').sign()", "-1"},
     {"quantity('1').compareTo(quantity('1000m'))", "0"},
     {"quantity('50k').add(quantity('20k')) == quantity('70k')", "true"},
     {"quantity('50k').sub(20000) == quantity('30k')", "true"},
     {"isQuantity('20')", "true"},
     {"isQuantity('20Xi')", "false"},
     {"isURL('https://example.com')", "true"},
     {"isURL('example.com')", "false"},
     {"isURL('/path')", "true"},
     {"isURL('')", "false"},
     {"url('https://user:pw@example.com:80/path/to?a=1&a=2&b#').getHost()", "\"example.com:80\""},
     {"url('https://example.com:80/').getHostname()", "\"example.com\""},
     {"url('https://[::1]:80/').getHostname()", "\"::1\""},
     {"url('https://example.com:80/').getPort()", "\"80\""},
     {"url('https://example.com/').getPort()", "\"\""},
     {"url('https://example.com/with space/').getEscapedPath()", "\"/with%20space/\""},
     {"url('https://example.com/').getScheme()", "\"https\""},
     {"url('https://example.com/path?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}", "true"},
     {"url('nonsense').getPort()", "error: URL parse error during conversion from string: parse \"nonsense\": invalid URI for request"},
     {"isIP('127.0.0.1')", "true"},
     {"isIP('127.0.0.256')", "false"},
     {"isIP('::ffff:1.2.3.4')", "false"},
     {"ip('127.0.0.1').family()", "4"},
     {"ip('::1').family()", "6"},
     {"ip('::1').isLoopback()", "true"},
     {"ip('0.0.0.0').isUnspecified()", "true"},
     {"ip('169.254.1.1').isLinkLocalUnicast()", "true"},
     {"ip('224.0.0.1').isLinkLocalMulticast()", "true"},
     {"ip('8.8.8.8').isGlobalUnicast()", "true"},
     {"ip('127.0.0.1') == ip('127.0.0.1')", "true"},
     {"string(ip('2001:DB8::0:1'))", "\"2001:db8::1\""},
     {"string(ip('1:0:0:2:0:0:0:3'))", "\"1:0:0:2::3\""},
     {"ip.isCanonical('2001:db8::abcd')", "true"},
     {"ip.isCanonical('2001:DB8::ABCD')", "false"},
     {"cidr('192.168.0.0/24').containsIP(ip('192.168.0.1'))", "true"},
     {"cidr('192.168.0.0/24').containsIP('192.168.1.1')", "false"},
     {"cidr('192.168.0.0/24').containsIP('::1')", "false"},
     {"cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24')", "true"},
     {"cidr('192.168.0.0/24').containsCIDR(cidr('192.168.0.0/23'))", "false"},
     {"cidr('192.168.1.5/24').masked() == cidr('192.168.1.0/24')", "true"},
     {"cidr('192.168.1.5/24').ip() == ip('192.168.1.5')", "true"},
     {"cidr('::1/128').prefixLength()", "128"},
     {"string(cidr('10.0.0.0/8'))", "\"10.0.0.0/8\""},
     {"isCIDR('10.0.0.0/8')", "true"},
     {"isCIDR('10.0.0.0/33')", "false"},
     {"isCIDR('10.0.0.0')", "false"},
     {"format.dns1123Label().validate('ok-name').hasValue()", "false"},
     {"format.dns1123Label().validate('Not OK').value().size()", "1"},
     {"format.named('dns1123Subdomain').value().validate('a.b').hasValue()", "false"},
     {"format.named('nonsense').hasValue()", "false"},
     {"!format.uuid().validate('6ba7b810-9dad-11d1-80b4-00c04fd430c8').hasValue()", "true"},
     {"!format.date().validate('2024-02-30').hasValue()", "false"},
     {"semver('1.2.3').major()", "1"},
     {"semver('1.2.3').isLessThan(semver('1.10.0'))", "true"},
     {"semver('1.2.3-alpha').isLessThan(semver('1.2.3'))", "true"},
     {"semver('1.2.3-alpha.2').compareTo(semver('1.2.3-alpha.10'))", "-1"},
     {"isSemver('v1.2')", "false"},
     {"isSemver('v1.2', true)", "true"},
     {"isSemver('1.02.3')", "false"},
     {"ip(s)", "error: IP Address \"text\" parse error during conversion from string: unable to parse IP"}, )

/* What upstream's estimator says of the same expressions, l being up to 100 texts of up to 10 bytes. */
static void test_estimates(void **state)
{
    static const struct cel_type text = {.kind = CEL_STRING, .declared = true, .max_elements = 10},
                                 list = {.kind = CEL_LIST, .declared = true, .max_elements = 100, .elem = &text};
    static const struct {
        const char *expression;
        uint64_t want;
    } cases[] = {
        {"true", 0},
        {"t == ''", 1},
        {"t == t", 3},
        {"1 + 1 == 2", 2},
        {"l.all(x, true)", 302},
        {"l.exists(x, true)", 402},
        {"l.map(x, x).size() >= 0", 1 + 1 + 10 + 1 + 100 * 13 + 1},
        {"t in l", 1 + 1 + 100},
        {"t.contains('abc')", 1 + 1},
        {"t.matches('[0-9]')", 1 + 2 * 2},
        {"t.startsWith('abc')", 1 + 1},
        {"[1, 2].size() == 2", 12},
        {"true ? t == 'a' : l.all(x, true)", 302},
        {"l.all(x, l.all(y, x == y))", 2 + 100 * (3 + 2 + 100 * (3 + 3))},
    };
    const struct cel_variable vars[] = {{"t", &text}, {"l", &list}};
    const struct cel_env env = {vars, 2};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct arena a = {0};
        struct error err = {0};
        const struct cel_program *p;

        if (!cel_compile(&a, &env, str_of(cases[i].expression), &p, &err))
            fail_msg("%s: %s", cases[i].expression, error_text(&err));
        if (cel_max_cost(p) != cases[i].want)
            fail_msg("%s: %llu, want %llu", cases[i].expression, (unsigned long long)cel_max_cost(p),
                     (unsigned long long)cases[i].want);
        arena_done(&a);
    }
}

/* Depth has an end in every direction, and what is long need not be deep. */
static void test_depth(void **state)
{
    static const struct {
        const char *open, *middle, *close;
        size_t n;
        bool ok;
    } cases[] = {
        {"(", "1", ")", 200, true},          {"(", "1", ")", 5000, false},        {"!(", "true", ")", 5000, false},
        {"[", "1", "]", 5000, false},        {"", "true", " && true", 5000, true}, {"", "1", " + 1", 900, true},
        {"", "1", " + 1", 9000, false},      {"", "x", ".a", 5000, false},        {"-", "1", "", 9000, true},
        {"true ? 1 : ", "1", "", 5000, false}, {"{'a':", "1", "}", 5000, false},  {"", "x", "[0]", 5000, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(buf_done) struct buf b = {.limit = 1 << 20};
        struct arena a = {0};

        for (size_t k = 0; k < cases[i].n; k++)
            buf_adds(&b, cases[i].open);
        buf_adds(&b, cases[i].middle);
        for (size_t k = 0; k < cases[i].n; k++)
            buf_adds(&b, cases[i].close);
        if (str_starts(str_of(result(&a, b.p)), STR("compile:")) == cases[i].ok)
            fail_msg("%s × %zu: %s", cases[i].open, cases[i].n, result(&a, b.p));
        arena_done(&a);
    }
}

/* Short texts whose types, prices or values would double with each level if every part were looked at anew. */
static void test_doubling(void **state)
{
    static const struct {
        const char *open, *middle, *close;
    } cases[] = {
        {"[", "'a'", "].join()"},
        {"[", "1", "].map(a, {a: a})"},
        {"[", "1", "].map(a, [a, a])"},
        {"", "s", ".replace('a', s)"},
        {"[", "1", "].map(a, a == a ? [a] : [a])"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(buf_done) struct buf b = {.limit = 1 << 20};
        struct arena a = {0};

        for (size_t k = 0; k < 60; k++)
            buf_adds(&b, cases[i].open);
        buf_adds(&b, cases[i].middle);
        for (size_t k = 0; k < 60; k++)
            buf_adds(&b, cases[i].close);
        (void)result(&a, b.p); /* ends */
        arena_done(&a);
    }
}

static void test_budget(void **state)
{
    static const char *const heavy[] = {
        "[0,1,2,3,4,5,6,7,8,9].all(a,[0,1,2,3,4,5,6,7,8,9].all(b,[0,1,2,3,4,5,6,7,8,9].all(c,[0,1,2,3,4,5,6,7,8,9].all(d,"
        "[0,1,2,3,4,5,6,7,8,9].all(e,[0,1,2,3,4,5,6,7,8,9].all(f,[0,1,2,3,4,5,6,7,8,9].all(g, a < 10)))))))",
        "[1,2,3,4,5,6,7,8].map(a,[1,2,3,4,5,6,7,8].map(b,[1,2,3,4,5,6,7,8].map(c,[1,2,3,4,5,6,7,8].map(d,[1,2,3,4,5,6,7,8].map(e,"
        "[1,2,3,4,5,6,7,8].map(f,[1,2,3,4,5,6,7,8].map(g, s+s+s+s+s+s))))))).size() > 0",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(heavy); i++) {
        struct arena a = {0};

        assert_string_equal(result(&a, heavy[i]), "error: operation cancelled: actual cost limit exceeded");
        arena_done(&a);
    }
}
