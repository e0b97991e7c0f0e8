#include "base/file.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/base_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char root_path[] = "/tmp/base-file-test-XXXXXX";
static int root = -1;
static struct error err;

static int setup(void **state)
{
    (void)state;
    return mkdtemp(root_path) && file_open_dir(AT_FDCWD, root_path, &root, &err) ? 0 : -1;
}

static int teardown(void **state)
{
    bool ok = file_remove_tree(AT_FDCWD, root_path, &err);

    (void)state;
    fd_close(&root);
    error_clear(&err);
    return ok && access(root_path, F_OK) < 0 ? 0 : -1;
}

static void writes_and_reads(void **state)
{
    AUTO(buf_done) struct buf b = {0}, small = {.limit = 3}, exact = {.limit = 5};
    struct stat st;
    int fd;

    (void)state;
    assert_true(file_make_dirs(root, "a/b//c", 0700, &fd, &err));
    fd_close(&fd);
    assert_true(file_make_dirs(root, "a/b/c", 0700, &fd, &err));
    fd_close(&fd);
    assert_true(file_write(root, "a/b/c/f", STR("hello"), 0640, &err));
    assert_true(file_write(root, "a/b/c/f", STR("world"), 0640, &err));
    assert_true(file_read(root, "a/b/c/f", &b, &err));
    assert_string_equal(b.p, "world");
    assert_int_equal(fstatat(root, "a/b/c/f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_true(file_read(root, "a/b/c/f", &exact, &err));
    assert_false(file_read(root, "a/b/c/f", &small, &err));
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    assert_false(file_read(root, "a/none", &b, &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_true(file_exists(root, "a/b"));
    assert_false(file_exists(root, "a/x"));
    assert_true(file_exists(AT_FDCWD, "/proc/self/status"));
    buf_clear(&b);
    assert_true(file_read(AT_FDCWD, "/proc/self/status", &b, &err));
    assert_true(b.n > 100);
    assert_false(file_write(root, "a/", STR(""), 0600, &err));
    assert_false(file_write(root, "..", STR(""), 0600, &err));
}

static void nothing_leads_out(void **state)
{
    AUTO(buf_done) struct buf b = {0};
    int fd = -1;

    (void)state;
    assert_int_equal(symlinkat("/etc", root, "link"), 0);
    assert_int_equal(mkfifoat(root, "fifo", 0600), 0);
    assert_false(file_read(root, "link/passwd", &b, &err));
    assert_false(file_read(root, "../../etc/passwd", &b, &err));
    assert_false(file_read(root, "/etc/passwd", &b, &err));
    assert_false(file_open_beneath(AT_FDCWD, "/etc/passwd", O_RDONLY, 0, &fd, &err));
    assert_false(file_make_dirs(root, "link/x", 0700, &fd, &err));
    assert_false(file_make_dirs(root, "../x", 0700, &fd, &err));
    assert_false(file_write(root, "link/x", STR(""), 0600, &err));
    assert_false(file_exists(root, "link"));
    assert_false(file_read(root, "fifo", &b, &err)); /* and does not hang */
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_int_equal(fd, -1);
    assert_true(file_remove_tree(root, "link", &err));
    assert_int_equal(access("/etc/passwd", F_OK), 0);
}

static void removes_what_a_tenant_made_deep(void **state)
{
    AUTO_CLOSE int at = -1;

    (void)state;
    assert_int_equal(mkdirat(root, "deep", 0700), 0);
    at = openat(root, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 300; i++) {
        int next, file;

        file = openat(at, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(file >= 0);
        close(file);
        assert_int_equal(symlinkat("..", at, "up"), 0);
        assert_int_equal(mkdirat(at, "d", 0700), 0);
        next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    assert_true(file_remove_tree(root, "deep", &err));
    assert_false(file_exists(root, "deep"));
    assert_true(file_remove_tree(root, "deep", &err));
    assert_true(file_remove_tree(root, "absent/deep", &err));
}

static void logs_one_line(void **state)
{
    AUTO(buf_done) struct buf b = {0};
    int ends[2], saved = dup(2);

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fflush(stderr);
    dup2(ends[1], 2);
    log_setup("test", LOG_INFO, false);
    log_info("vmi a/b", "two\nlines %d", 1);
    log_debug(NULL, "not seen");
    log_setup("test", LOG_INFO, true);
    log_error(NULL, "say \"%s\"\n\x80", "it");
    dup2(saved, 2);
    close(saved);
    close(ends[1]);
    assert_true(file_read_fd(ends[0], &b, &err));
    close(ends[0]);
    assert_non_null(strstr(b.p, "Z info test: vmi a/b: two\\x0alines 1\n"));
    assert_null(strstr(b.p, "not seen"));
    assert_non_null(strstr(b.p, "\",\"level\":\"error\",\"role\":\"test\",\"msg\":\"say \\\"it\\\"\\n\\ufffd\"}\n"));
}

static void a_copy_keeps_holes(void **state)
{
    char from_name[] = "/tmp/vireo-copy-XXXXXX", to_name[] = "/dev/shm/vireo-copy-XXXXXX", text[8] = "";
    int from = mkstemp(from_name), to = mkstemp(to_name);
    struct stat st;

    (void)state;
    assert_true(from >= 0 && to >= 0);
    assert_int_equal(pwrite(from, "begin", 5, 0), 5);
    assert_int_equal(pwrite(from, "middle", 6, 32 << 20), 6);
    assert_int_equal(ftruncate(from, 64 << 20), 0);
    assert_true(file_copy_data(from, to, &err)); /* to another file system */
    assert_int_equal(fstat(to, &st), 0);
    assert_int_equal(st.st_size, 64 << 20);
    assert_true(st.st_blocks * 512 < 4 << 20);
    assert_int_equal(pread(to, text, 6, 32 << 20), 6);
    assert_string_equal(text, "middle");
    assert_int_equal(ftruncate(from, 0), 0);
    assert_int_equal(ftruncate(from, 1 << 20), 0);
    assert_int_equal(ftruncate(to, 0), 0);
    assert_true(file_copy_data(from, to, &err)); /* nothing but a hole */
    close(from);
    close(to);
    unlink(from_name);
    unlink(to_name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_keeps_holes),
        cmocka_unit_test(writes_and_reads),
        cmocka_unit_test(nothing_leads_out),
        cmocka_unit_test(removes_what_a_tenant_made_deep),
        cmocka_unit_test(logs_one_line),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
