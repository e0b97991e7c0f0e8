#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "storage/iso.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "loop/child.h"

static void write_to(char *path, const char *label, const struct iso_file *files, size_t n)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = mkstemp(path);

    if (!iso_write(fd, label, files, n, &err))
        fail_msg("%s", error_text(&err));
}

static void tool(const char *const *argv, const char *has)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf out = {0};

    if (!child_run(&(struct child_spec){.argv = argv, .capture_limit = 1 << 20, .cgroup_fd = -1},
                   SECONDS(30), &out, &err))
        fail_msg("%s", error_text(&err));
    if (!out.p || !strstr(out.p, has))
        fail_msg("%s says: %s", argv[0], out.p ? out.p : "nothing");
}

/* What another program reads back, by both kinds of names. */
static void isoinfo_reads_it(void **state)
{
    static const struct iso_file files[] = {
        {"openstack/latest/user_data", STR_INIT("#cloud-config\n")},
        {"openstack/latest/meta_data.json", STR_INIT("{}")},
        {"a-rather-long.name_with.dots", STR_INIT("x")},
        {"empty", STR_INIT("")},
    };
    char path[] = "/tmp/iso-test-XXXXXX";
    const char *rock[] = {"isoinfo", "-R", "-i", path, "-x", "/openstack/latest/user_data", NULL};
    const char *joliet[] = {"isoinfo", "-J", "-i", path, "-f", NULL};
    const char *label[] = {"isoinfo", "-d", "-i", path, NULL};

    (void)state;
    if (access("/usr/bin/isoinfo", X_OK) != 0) {
        print_message("skipped: isoinfo (package genisoimage) is not installed\n");
        skip();
    }
    write_to(path, "config-2", files, ARRAY_SIZE(files));
    tool(rock, "#cloud-config\n");
    tool(joliet, "/a-rather-long.name_with.dots");
    tool(joliet, "/openstack/latest/meta_data.json");
    tool(label, "Volume id: config-2");
    unlink(path);
}

static void many_files_and_repeatable(void **state)
{
    struct iso_file files[300];
    char names[300][80], one[] = "/tmp/iso-test-XXXXXX", two[] = "/tmp/iso-test-XXXXXX";
    AUTO(buf_done) struct buf a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        snprintf(names[i], sizeof names[i],
                 "a-key-that-is-long-enough-to-fill-a-sector-quickly-%03zu.conf", i);
        files[i] = (struct iso_file){names[i], str_of(names[i])};
    }
    write_to(one, "cfgdata", files, ARRAY_SIZE(files));
    write_to(two, "cfgdata", files, ARRAY_SIZE(files));
    assert_true(file_read(AT_FDCWD, one, &a, &err) && file_read(AT_FDCWD, two, &b, &err));
    assert_true(a.n % 2048 == 0 && str_eq(buf_str(&a), buf_str(&b)));
    if (access("/usr/bin/isoinfo", X_OK) == 0) {
        const char *rock[] = {
            "isoinfo", "-R", "-i",
            one,       "-x", "/a-key-that-is-long-enough-to-fill-a-sector-quickly-299.conf",
            NULL};

        tool(rock, "quickly-299.conf");
    }
    unlink(one);
    unlink(two);
}

static void names_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "a//b",
                                      "../x",
                                      "a/./b",
                                      "caf\xc3\xa9",
                                      "a\nb",
                                      "1/2/3/4/5/6/7/8",
                                      "012345678901234567890123456789012345678901234567890123456789"
                                      "0123456789012345678901234567890123456789"
                                      "0123"};
    static const struct iso_file twice[] = {{"a", STR_INIT("")}, {"a", STR_INIT("")}},
                                 under[] = {{"a", STR_INIT("")}, {"a/b", STR_INIT("")}};
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = open("/dev/null", O_WRONLY);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const struct iso_file f = {bad[i], STR("")};

        assert_false(iso_write(fd, "l", &f, 1, &err));
    }
    assert_false(iso_write(fd, "l", twice, 2, &err));
    assert_false(iso_write(fd, "l", under, 2, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(isoinfo_reads_it),
        cmocka_unit_test(many_files_and_repeatable),
        cmocka_unit_test(names_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
