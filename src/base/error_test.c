#include "base/error.h"
#include "base/cleanup.h"
#include "base/base_test.h"

#include <errno.h>

static void errors_say_everything(void **state)
{
    AUTO(error_clear) struct error err = {0}, other = {0};

    (void)state;
    assert_string_equal(error_text(&err), "no error");
    assert_false(error_set(&err, ERROR_GONE, "revision %d", 7));
    assert_int_equal(err.kind, ERROR_GONE);
    assert_false(error_wrap(&err, "vmi %s", "a/b"));
    assert_int_equal(err.kind, ERROR_GONE);
    assert_string_equal(error_text(&err), "vmi a/b: revision 7");
    /* its own text may be an argument */
    assert_false(error_set(&err, ERROR_INVALID, "again: %s", err.msg));
    assert_string_equal(err.msg, "again: vmi a/b: revision 7");
    assert_false(error_move(&other, &err));
    assert_null(err.msg);
    assert_int_equal(err.kind, ERROR_NONE);
    assert_string_equal(other.msg, "again: vmi a/b: revision 7");
    assert_false(error_move(&other, &other));
    assert_non_null(other.msg);
}

static void errno_chooses_the_kind(void **state)
{
    static const struct {
        int errnum;
        enum error_kind kind;
        const char *text;
    } cases[] = {
        {ENOENT, ERROR_NOT_FOUND, "open x: No such file or directory"},
        {EEXIST, ERROR_EXISTS, "open x: File exists"},
        {EACCES, ERROR_FORBIDDEN, "open x: Permission denied"},
        {EPERM, ERROR_FORBIDDEN, "open x: Operation not permitted"},
        {ENOSPC, ERROR_UNAVAILABLE, "open x: No space left on device"},
        {EIO, ERROR_INTERNAL, "open x: Input/output error"},
        {9999, ERROR_INTERNAL, "open x: error 9999"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(error_clear) struct error err = {0};

        assert_false(error_errno(&err, cases[i].errnum, "open %s", "x"));
        assert_int_equal(err.kind, cases[i].kind);
        assert_string_equal(err.msg, cases[i].text);
    }
}

static void every_kind_has_a_name(void **state)
{
    (void)state;
    for (int kind = ERROR_NONE; kind <= ERROR_INTERNAL; kind++)
        assert_string_not_equal(error_kind_name((enum error_kind)kind), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_say_everything),
        cmocka_unit_test(errno_chooses_the_kind),
        cmocka_unit_test(every_kind_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
