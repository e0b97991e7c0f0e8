/* Layers as strangers make them. Archives are written by hand, since no archiver makes most of these. */
#include "base/base_test.h"
#include "image/fetch.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

struct place {
    char dir[64];
    int fd, root;
};

static int setup(void **state)
{
    static struct place p;

    snprintf(p.dir, sizeof p.dir, "/tmp/vireo-unpack-XXXXXX");
    if (!mkdtemp(p.dir))
        return -1;
    p.fd = open(p.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p.fd < 0 || mkdirat(p.fd, "root", 0755) < 0 || mkdirat(p.fd, "outside", 0755) < 0)
        return -1;
    p.root = openat(p.fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = &p;
    return p.root < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct place *p = *state;

    fd_close(&p->root);
    fd_close(&p->fd);
    return file_remove_tree(AT_FDCWD, p->dir, &err) ? 0 : -1;
}

struct entry {
    char type; /* f file, d folder, l symbolic link, h hard link, p pipe, c device */
    const char *path, *target; /* target: of a link, or the content of a file */
    mode_t mode;
    long long size; /* of a file whose header lies; 0: that of the content */
};

static int layer(const struct entry *e, size_t n)
{
    struct archive *a = archive_write_new();
    int fd = memfd_create("layer", MFD_CLOEXEC);

    archive_write_set_format_pax_restricted(a);
    assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
    for (size_t i = 0; i < n; i++) {
        struct archive_entry *x = archive_entry_new();
        size_t size = e[i].type == 'f' && e[i].target ? strlen(e[i].target) : 0;

        archive_entry_set_pathname(x, e[i].path);
        archive_entry_set_filetype(x, e[i].type == 'd'   ? AE_IFDIR
                                      : e[i].type == 'l' ? AE_IFLNK
                                      : e[i].type == 'p' ? AE_IFIFO
                                      : e[i].type == 'c' ? AE_IFCHR
                                                         : AE_IFREG);
        archive_entry_set_perm(x, e[i].mode ? e[i].mode : 0644);
        if (e[i].type == 'l')
            archive_entry_set_symlink(x, e[i].target);
        if (e[i].type == 'h')
            archive_entry_set_hardlink(x, e[i].target);
        if (e[i].size) { /* a sparse file: one byte at its end */
            archive_entry_set_size(x, e[i].size);
            archive_entry_sparse_add_entry(x, e[i].size - 1, 1);
        } else {
            archive_entry_set_size(x, (la_int64_t)size);
        }
        assert_int_equal(archive_write_header(a, x), ARCHIVE_OK);
        if (e[i].size)
            archive_write_data(a, "x", 1);
        else if (size)
            assert_int_equal(archive_write_data(a, e[i].target, size), (la_ssize_t)size);
        archive_entry_free(x);
    }
    archive_write_free(a);
    return fd;
}

static bool apply(const struct place *p, const struct entry *e, size_t n, struct error *err)
{
    struct fetch f = {.work = p->fd, .root = p->root, .max_bytes = 1 << 20};
    AUTO_CLOSE int fd = layer(e, n);

    return fetch_unpack(&f, fd, err);
}

static void good(const struct place *p, const struct entry *e, size_t n)
{
    AUTO(error_clear) struct error err = {0};

    if (!apply(p, e, n, &err))
        fail_msg("%s", error_text(&err));
}

static bool there(int dir, const char *path)
{
    return faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void content(int dir, const char *path, const char *want)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};

    if (!file_read(dir, path, &b, &err))
        fail_msg("%s", error_text(&err));
    assert_string_equal(b.p ? b.p : "", want);
}

#define APPLY(p, ...) good(p, (const struct entry[]){__VA_ARGS__}, sizeof((const struct entry[]){__VA_ARGS__}) / sizeof(struct entry))

static void layers_over_layers(void **state)
{
    struct place *p = *state;
    struct stat st;

    APPLY(p, {'d', "./disk/"}, {'f', "./disk/a.img", "one"}, {'f', "disk/sub/b", "two", 04755}, {'h', "disk/c", "disk/a.img"},
          {'l', "disk/link", "a.img"}, {'f', "keep/x", "x"});
    content(p->root, "disk/a.img", "one");
    content(p->root, "disk/c", "one");
    assert_int_equal(fstatat(p->root, "disk/sub/b", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0555); /* no set-uid, and nobody writes into an image */
    assert_int_equal(fstatat(p->root, "disk/a.img", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
    APPLY(p, {'f', "disk/.wh.a.img", ""}, {'f', "keep/.wh..wh..opq", ""}, {'f', "keep/y", "y"}, {'f', "disk/sub", "now a file"});
    assert_false(there(p->root, "disk/a.img"));
    content(p->root, "disk/c", "one");
    assert_false(there(p->root, "keep/x"));
    content(p->root, "keep/y", "y");
    content(p->root, "disk/sub", "now a file");
    APPLY(p, {'d', "disk/sub"}, {'f', "disk/sub/z", "z"});
    content(p->root, "disk/sub/z", "z");
}

/* No name and no link leads out; what cannot be kept in is refused or lies inside. */
static void nothing_gets_out(void **state)
{
    static const struct {
        struct entry e[3];
        size_t n;
        bool taken;
    } cases[] = {
        {{{'f', "../outside/x", "x"}}, 1, false},
        {{{'f', "a/../../outside/x", "x"}}, 1, false},
        {{{'f', "/outside/x", "x"}}, 1, true}, /* an absolute name is one below the root */
        {{{'h', "x", "../outside/secret"}}, 1, false},
        {{{'h', "x", "/etc/passwd"}}, 1, false}, /* the image has none */
        {{{'l', "out", "../outside"}, {'f', "out/x", "x"}}, 2, false},
        {{{'l', "out", "/tmp"}, {'f', "out/x-of-unpack-test", "x"}}, 2, false},
        {{{'l', "out", "../outside/secret"}, {'f', "out", "x"}}, 2, true}, /* in the link's place */
        {{{'l', "out", "../outside"}, {'h', "x", "out/secret"}}, 2, false},
        {{{'l', "out", "../outside"}, {'f', "out/.wh.secret", ""}}, 2, false},
        {{{'l', "out", "../outside"}, {'f', "out/.wh..wh..opq", ""}}, 2, false},
        {{{'f', ".wh...", ""}}, 1, true},
        {{{'f', ".wh..", ""}}, 1, true},
        {{{'f', ".wh.", ""}}, 1, true},
        {{{'d', "../outside"}}, 1, false},
        {{{'l', "loop", "loop"}, {'f', "loop/x", "x"}}, 2, false},
    };
    struct place *p = *state;
    AUTO(error_clear) struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(error_clear) struct error why = {0};

        assert_true(file_write(p->fd, "outside/secret", STR("secret"), 0600, &err));
        if (apply(p, cases[i].e, cases[i].n, &why) != cases[i].taken)
            fail_msg("case %zu: %s", i, why.msg ? why.msg : "was taken");
        content(p->fd, "outside/secret", "secret");
        if (there(p->fd, "outside/x"))
            fail_msg("case %zu: wrote outside", i);
        if (there(AT_FDCWD, "/tmp/x-of-unpack-test"))
            fail_msg("case %zu: wrote to /tmp", i);
    }
}

static void devices_are_left_out(void **state)
{
    struct place *p = *state;

    APPLY(p, {'c', "dev/kmsg"}, {'p', "pipe"}, {'f', "file", "x"});
    assert_false(there(p->root, "dev/kmsg"));
    assert_false(there(p->root, "pipe"));
    content(p->root, "file", "x");
}

static void sizes_are_bounded(void **state)
{
    struct place *p = *state;
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf big = {0}, deep = {0};

    buf_init(&big, 4 << 20);
    for (int i = 0; i < 1 << 16; i++)
        buf_adds(&big, "0123456789abcdef01234");
    assert_false(apply(p, (const struct entry[]){{'f', "big", big.p}}, 1, &err));
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    error_clear(&err);
    assert_false(apply(p, (const struct entry[]){{'f', "holes", NULL, 0, 1LL << 50}}, 1, &err));
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    error_clear(&err);
    for (int i = 0; i < 100; i++)
        buf_adds(&deep, "d/");
    assert_false(apply(p, (const struct entry[]){{'f', deep.p, "x"}}, 1, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
}

/* Cut and bent archives: an error or a part of it, never more. */
static void damaged(void **state)
{
    struct place *p = *state;
    AUTO_CLOSE int fd = layer((const struct entry[]){{'d', "a"}, {'f', "a/b", "hello"}, {'l', "a/c", "b"}}, 3);
    off_t size = lseek(fd, 0, SEEK_END);

    for (off_t at = 0; at < size; at += 37) {
        struct fetch f = {.work = p->fd, .root = p->root, .max_bytes = 1 << 20};
        AUTO(error_clear) struct error err = {0};
        AUTO_CLOSE int copy = memfd_create("damaged", MFD_CLOEXEC);
        char data[32 << 10];
        ssize_t n = pread(fd, data, sizeof data, 0);

        data[at % n] = (char)(data[at % n] ^ 0x55);
        assert_int_equal(write(copy, data, (size_t)(at % 2 ? n : at)), at % 2 ? n : at);
        if (!fetch_unpack(&f, copy, &err))
            assert_non_null(err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layers_over_layers, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_gets_out, setup, teardown),
        cmocka_unit_test_setup_teardown(devices_are_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(sizes_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
