#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/rotated.h"

static char dir[64];
static int dirfd_;

static int setup(void **state)
{
    struct error err = {0};

    (void)state;
    snprintf(dir, sizeof dir, "/tmp/vireo-rotated-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_true(file_open_dir(AT_FDCWD, dir, &dirfd_, &err));
    return 0;
}

static int teardown(void **state)
{
    struct error err = {0};

    (void)state;
    fd_close(&dirfd_);
    assert_true(file_remove_tree(AT_FDCWD, dir, &err));
    return 0;
}

static size_t files(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    size_t n = 0;

    while ((e = readdir(d)))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void lines_arrive_in_order(void **state)
{
    struct rotated *r;
    struct rotated_stats st;
    struct error err = {0};
    AUTO(buf_done) struct buf text = {0};

    (void)state;
    assert_true(rotated_open(&(struct rotated_config){.dirfd = dirfd_, .name = "a.log"}, &r, &err));
    assert_true(rotated_write(r, STR("one")));
    assert_true(rotated_write(r, STR("two")));
    rotated_flush(r);
    rotated_stats(r, &st);
    assert_int_equal(st.lines, 2);
    rotated_close(r);
    assert_true(rotated_open(&(struct rotated_config){.dirfd = dirfd_, .name = "a.log"}, &r, &err));
    assert_true(rotated_write(r, STR("three")));
    rotated_close(r);
    assert_true(file_read(dirfd_, "a.log", &text, &err));
    assert_string_equal(text.p, "one\ntwo\nthree\n");
}

static void a_full_file_is_rotated_and_old_ones_go(void **state)
{
    struct rotated *r;
    struct error err = {0};
    AUTO(buf_done) struct buf text = {0};

    (void)state;
    assert_true(file_write(dirfd_, "a-notes.log", STR("mine"), 0600, &err));
    assert_true(rotated_open(
        &(struct rotated_config){
            .dirfd = dirfd_, .name = "a.log", .max_bytes = 20, .max_backups = 2},
        &r, &err));
    for (int i = 0; i < 8; i++) {
        assert_true(rotated_write(r, STR("0123456789abcde")));
        rotated_flush(r);
        usleep(2000); /* names differ by the millisecond */
    }
    rotated_close(r);
    assert_int_equal(files(), 4); /* a.log, two backups and what is somebody's own */
    assert_true(file_read(dirfd_, "a.log", &text, &err));
    assert_string_equal(text.p, "0123456789abcde\n");
}

static void a_line_longer_than_the_file_is_written_whole(void **state)
{
    struct rotated *r;
    struct error err = {0};
    AUTO(buf_done) struct buf text = {0};

    (void)state;
    assert_true(rotated_open(
        &(struct rotated_config){.dirfd = dirfd_, .name = "a.log", .max_bytes = 4}, &r, &err));
    assert_true(rotated_write(r, STR("0123456789")));
    rotated_close(r);
    assert_true(file_read(dirfd_, "a.log", &text, &err));
    assert_string_equal(text.p, "0123456789\n");
}

static void a_full_disk_loses_lines_and_counts_them(void **state)
{
    struct rotated *r;
    struct rotated_stats st;
    struct error err = {0};
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)state;
    if (full < 0)
        skip();
    assert_true(rotated_open(&(struct rotated_config){.dirfd = -1, .fd = full}, &r, &err));
    assert_true(rotated_write(r, STR("lost")));
    rotated_flush(r);
    rotated_stats(r, &st);
    assert_int_equal(st.failed, 1);
    assert_int_equal(st.lines, 0);
    rotated_close(r);
    close(full);
}

static void a_full_queue_drops(void **state)
{
    struct rotated *r;
    struct rotated_stats st;
    struct error err = {0};
    char big[64];

    (void)state;
    memset(big, 'x', sizeof big);
    assert_true(rotated_open(
        &(struct rotated_config){.dirfd = dirfd_, .name = "a.log", .queue_bytes = 32}, &r, &err));
    assert_false(rotated_write(r, str_n(big, sizeof big)));
    rotated_stats(r, &st);
    assert_int_equal(st.dropped, 1);
    rotated_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_arrive_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_file_is_rotated_and_old_ones_go, setup, teardown),
        cmocka_unit_test_setup_teardown(a_line_longer_than_the_file_is_written_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_loses_lines_and_counts_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_drops, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
