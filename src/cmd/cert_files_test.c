#include "base/base_test.h"
#include "cmd/cert_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

struct world {
    struct loop *loop;
    char dir[32], ca[48];
    struct cert_files *certs;
    size_t changes;
    const char *refuse; /* what changed() answers with */
};
static struct world w;

static void put(const char *name, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    char path[64];

    snprintf(path, sizeof path, "%s/%s", w.dir, name);
    assert_true(file_write(AT_FDCWD, path, str_of(text), 0600, &err));
}

static bool changed(void *user, struct error *err)
{
    (void)user;
    w.changes++;
    return !w.refuse || error_set(err, ERROR_BAD_REQUEST, "%s", w.refuse);
}

static int setup(void **state)
{
    (void)state;
    w = (struct world){.loop = loop_new_fake(), .dir = "/tmp/certs-XXXXXX"};
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.ca, sizeof w.ca, "%s/ca", w.dir);
    put("tls.crt", "cert 1\n");
    put("tls.key", "key 1\n");
    put("ca", "ca 1\n");
    return 0;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    cert_files_free(w.certs);
    loop_free(w.loop);
    assert_true(file_remove_tree(AT_FDCWD, w.dir, &err));
    return 0;
}

static void open_them(void)
{
    AUTO(error_clear) struct error err = {0};

    w.certs = cert_files_new(&(struct cert_files_config){.loop = w.loop, .dir = w.dir, .ca_file = w.ca, .changed = changed}, &err);
    assert_non_null(w.certs);
    assert_string_equal(cert_files_cert(w.certs), "cert 1\n");
    assert_string_equal(cert_files_key(w.certs), "key 1\n");
    assert_string_equal(cert_files_ca(w.certs), "ca 1\n");
}

static void what_stays_the_same_is_no_change(void **state)
{
    (void)state;
    open_them();
    put("tls.crt", "cert 1\n");
    loop_fake_advance(w.loop, 5 * CERT_FILES_AGAIN);
    assert_int_equal(w.changes, 0);
}

static void renewed_files_are_taken(void **state)
{
    (void)state;
    open_them();
    put("tls.crt", "cert 2\n");
    put("tls.key", "key 2\n");
    loop_fake_advance(w.loop, CERT_FILES_AGAIN);
    assert_int_equal(w.changes, 1);
    assert_string_equal(cert_files_cert(w.certs), "cert 2\n");
    put("ca", "ca 1\nca 2\n");
    loop_fake_advance(w.loop, CERT_FILES_AGAIN);
    assert_int_equal(w.changes, 2);
    assert_string_equal(cert_files_ca(w.certs), "ca 1\nca 2\n");
}

static void a_refused_change_is_tried_again(void **state)
{
    (void)state;
    open_them();
    put("tls.crt", "cert 2\n");
    w.refuse = "the key does not fit";
    loop_fake_advance(w.loop, 2 * CERT_FILES_AGAIN);
    assert_int_equal(w.changes, 2);
    assert_string_equal(cert_files_cert(w.certs), "cert 1\n");
    w.refuse = NULL;
    put("tls.key", "key 2\n");
    loop_fake_advance(w.loop, CERT_FILES_AGAIN);
    assert_string_equal(cert_files_cert(w.certs), "cert 2\n");
    assert_string_equal(cert_files_key(w.certs), "key 2\n");
}

static void lost_and_empty_files_change_nothing(void **state)
{
    (void)state;
    open_them();
    put("tls.crt", "");
    loop_fake_advance(w.loop, CERT_FILES_AGAIN);
    assert_int_equal(unlink(w.ca), 0);
    loop_fake_advance(w.loop, CERT_FILES_AGAIN);
    assert_int_equal(w.changes, 0);
    assert_string_equal(cert_files_cert(w.certs), "cert 1\n");
}

static void what_cannot_be_read_at_first_is_named(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    put("tls.key", "");
    assert_null(cert_files_new(&(struct cert_files_config){.loop = w.loop, .dir = w.dir, .changed = changed}, &err));
    assert_non_null(strstr(error_text(&err), "tls.key"));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {T(what_stays_the_same_is_no_change), T(renewed_files_are_taken),
                                       T(a_refused_change_is_tried_again), T(lost_and_empty_files_change_nothing),
                                       T(what_cannot_be_read_at_first_is_named)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
