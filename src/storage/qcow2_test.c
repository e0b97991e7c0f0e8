#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "storage/qcow2.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "loop/child.h"

/* A made image is what QEMU's own tool takes for a sound one. */
static void made_images_are_sound(void **state)
{
    static const uint64_t sizes[] = {1 << 20, 512, (1ull << 30) + 512, 5ull << 40};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char path[] = "/tmp/qcow2-test-XXXXXX";
        AUTO(error_clear) struct error err = {0};
        AUTO(buf_done) struct buf out = {0};
        AUTO_CLOSE int fd = mkstemp(path);
        const char *argv[] = {"qemu-img", "check", "-q", path, NULL};
        struct image_info info;
        struct stat st;

        if (!qcow2_create(fd, sizes[i], &err))
            fail_msg("%s", error_text(&err));
        fstat(fd, &st);
        assert_true(st.st_blocks * 512 < 1 << 20); /* sparse */
        assert_true(image_probe_fd(fd, (uint64_t)st.st_size, &info, &err));
        assert_string_equal(info.format, "qcow2");
        assert_int_equal(info.virtual_size, sizes[i]);
        if (access("/usr/bin/qemu-img", X_OK) == 0
            && !child_run(
                &(struct child_spec){.argv = argv, .capture_limit = 4096, .cgroup_fd = -1},
                SECONDS(30), &out, &err))
            fail_msg("%s", error_text(&err));
        unlink(path);
    }
}

static void image_heads(void **state)
{
    static const struct {
        const char *head;
        size_t n;
        const char *refused; /* a word of the reason, or NULL: taken as raw */
    } table[] = {
        {"plain bytes", 11, NULL}, {"", 0, "empty"},        {"QFI\xfb", 4, "cut off"},
        {"KDMV....", 8, "VMDK"},   {"vhdxfile", 8, "VHDX"}, {"\x1f\x8b\x08", 3, "gzip"},
    };
    static const struct {
        size_t at, n;
        unsigned char value;
        const char *refused;
    } headers[] = {
        {7, 1, 9, "neither 2 nor 3"}, {15, 1, 1, "backing"},      {19, 1, 4, "backing"},
        {35, 1, 1, "encrypted"},      {79, 1, 4, "another file"}, {72, 1, 1, "features"},
        {23, 1, 40, "cluster size"},  {24, 1, 0x7f, "absurd"},    {36, 1, 0xff, "first-level"},
    };
    char good[104] = {'Q', 'F', 'I', (char)0xfb, 0, 0, 0, 3};
    struct image_info info;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(error_clear) struct error err = {0};
        bool ok = image_probe(str_n(table[i].head, table[i].n), table[i].n, &info, &err);

        assert_int_equal(ok, table[i].refused == NULL);
        assert_true(ok || strstr(err.msg, table[i].refused));
    }
    good[23] = 16;
    good[30] = 1;
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        AUTO(error_clear) struct error err = {0};
        char head[104];

        memcpy(head, good, sizeof head);
        assert_true(image_probe(str_n(head, sizeof head), 1 << 20, &info, &err));
        head[headers[i].at] = (char)headers[i].value;
        assert_false(image_probe(str_n(head, sizeof head), 1 << 20, &info, &err));
        if (!strstr(err.msg, headers[i].refused))
            fail_msg("case %zu says '%s'", i, err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_images_are_sound),
        cmocka_unit_test(image_heads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
