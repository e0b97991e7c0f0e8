#include "base/base_test.h"

#include "base/cleanup.h"
#include "image/ref.h"

#define D "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char *text, *registry, *repository, *tag, *digest;
    enum image_source source;
} good[] = {
    {"kubevirt/alpine:3.20", "docker.io", "kubevirt/alpine", "3.20", NULL, IMAGE_REGISTRY},
    {"alpine", "docker.io", "library/alpine", "latest", NULL, IMAGE_REGISTRY},
    {"localhost/a/b", "localhost", "a/b", "latest", NULL, IMAGE_REGISTRY},
    {"127.0.0.1:5000/tiny:v1", "127.0.0.1:5000", "tiny", "v1", NULL, IMAGE_REGISTRY},
    {"quay.io/kubevirt/cirros@" D, "quay.io", "kubevirt/cirros", NULL, D, IMAGE_REGISTRY},
    {"quay.io/kubevirt/cirros:x@" D, "quay.io", "kubevirt/cirros", "x", D, IMAGE_REGISTRY},
    {"docker://quay.io/a/b:c", "quay.io", "a/b", "c", NULL, IMAGE_REGISTRY},
    {"oci:tiny", NULL, "tiny", "latest", NULL, IMAGE_LAYOUT},
    {"oci:tiny:v2", NULL, "tiny", "v2", NULL, IMAGE_LAYOUT},
    {"oci-archive:tiny.tar", NULL, "tiny.tar", "latest", NULL, IMAGE_ARCHIVE},
};

static const char *const wrong[] = {
    "", ":tag", "A/b", "a//b", "../etc", "a/../b", "a:b c", "quay.io/", "a@sha256:12", "a@md5:00", "oci:", "oci:../x",
    "oci:a/b", "oci:.hidden", "oci-archive:/etc/passwd", "oci:a:b/c", "quay.io/a\n", "ho st.io/a",
};

static void assert_text(const char *got, const char *want)
{
    if (!want)
        assert_null(got);
    else
        assert_string_equal(got, want);
}

static void parses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO(image_ref_done) struct image_ref ref = {0};
        AUTO(error_clear) struct error err = {0};

        if (!image_ref_parse(str_of(good[i].text), &ref, &err))
            fail_msg("%s: %s", good[i].text, error_text(&err));
        assert_int_equal(ref.source, good[i].source);
        assert_text(ref.registry, good[i].registry);
        assert_text(ref.repository, good[i].repository);
        assert_text(ref.tag, good[i].tag);
        assert_text(ref.digest, good[i].digest);
    }
}

static void refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        AUTO(image_ref_done) struct image_ref ref = {0};
        AUTO(error_clear) struct error err = {0};

        if (image_ref_parse(str_of(wrong[i]), &ref, &err))
            fail_msg("'%s' was taken", wrong[i]);
        assert_int_equal(err.kind, ERROR_INVALID);
    }
}

static void finds_credentials(void **state)
{
    static const struct {
        const char *reference, *auths, *user; /* NULL: none */
    } cases[] = {
        {"127.0.0.1:5000/a", "{\"127.0.0.1:5000\":{\"username\":\"u\"}}", "u"},
        {"127.0.0.1:5000/a", "{\"http://127.0.0.1:5000/v2/\":{\"username\":\"u\"}}", "u"},
        {"127.0.0.1:5000/a", "{\"127.0.0.1\":{\"username\":\"u\"}}", NULL},
        {"quay.io/a/b:c", "{\"quay.io.example\":{\"username\":\"x\"},\"https://QUAY.io\":{\"username\":\"u\"}}", "u"},
        {"a/b", "{\"https://index.docker.io/v1/\":{\"username\":\"u\"}}", "u"},
        {"a/b", "{\"docker.io\":{\"username\":\"u\"}}", "u"},
        {"a/b", "{\"quay.io\":{\"username\":\"u\"}}", NULL},
        {"quay.io/a", "{\"quay.io\":7}", NULL},
        {"quay.io/a", "[]", NULL},
        {"oci:tiny", "{\"\":{\"username\":\"u\"}}", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(image_ref_done) struct image_ref ref = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *auths = NULL, *found;

        assert_true(image_ref_parse(str_of(cases[i].reference), &ref, &err));
        assert_true(json_parse(str_of(cases[i].auths), &a, &auths, &err));
        found = image_ref_auth(&ref, auths);
        if (!str_is(json_str_at(found, "username"), cases[i].user ? cases[i].user : "") || (found && !cases[i].user))
            fail_msg("case %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parses), cmocka_unit_test(refuses), cmocka_unit_test(finds_credentials)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
