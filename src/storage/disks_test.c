#include "base/base_test.h"
#include "storage/disks.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/types.h"
#include "base/cleanup.h"
#include "base/file.h"

struct place {
    char dir[64];
    struct storage_place at;
};

static int setup(void **state)
{
    static struct place p;
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;

    snprintf(p.dir, sizeof p.dir, "/tmp/vireo-disks-XXXXXX");
    if (!mkdtemp(p.dir))
        return -1;
    fd = open(p.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = &p;
    return file_make_dirs(fd, "private", 0755, &p.at.private_dirfd, &err)
                   && file_make_dirs(fd, "public", 0755, &p.at.public_dirfd, &err)
                   && file_make_dirs(fd, "ephemeral", 0755, &p.at.ephemeral_dirfd, &err)
               ? 0
               : -1;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct place *p = *state;

    fd_close(&p->at.private_dirfd);
    fd_close(&p->at.public_dirfd);
    fd_close(&p->at.ephemeral_dirfd);
    return file_remove_tree(AT_FDCWD, p->dir, &err) ? 0 : -1;
}

static void put(int dirfd, const char *dir, const char *name, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;

    if (!file_make_dirs(dirfd, dir, 0755, &fd, &err) || !file_write(fd, name, str_of(text), 0600, &err))
        fail_msg("%s", error_text(&err));
}

static const struct kv_virtual_machine_instance *vmi_of(struct arena *a, const char *volume, const char *status)
{
    AUTO(error_clear) struct error err = {0};
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(a, struct kv_virtual_machine_instance);
    const struct json *v = NULL;
    char *text = arena_printf(a, "{'metadata':{'name':'v','uid':'u'},'spec':{'domain':{'devices':{'disks':[{'name':'d'}]}},"
                                 "'volumes':[%s]},'status':%s}",
                              volume, status ? status : "{}");

    for (char *q = text; *q; q++)
        if (*q == '\'')
            *q = '"';
    if (!json_parse(str_of(text), a, &v, &err) || !schema_decode(&schema_type_kv_virtual_machine_instance, v, a, vmi, &err))
        fail_msg("%s: %s", text, error_text(&err));
    return vmi;
}

static char bytes[1 << 20];

static struct str content(int fd)
{
    ssize_t n = pread(fd, bytes, sizeof bytes, 0);

    assert_true(n >= 0);
    return str_n(bytes, (size_t)n);
}

/* What the guest would find on the disk: "qcow2 N MiB [on FORMAT]", or "raw [ro] TEXT", or "LABEL: FILE" of an ISO. */
static const char *shown(const struct storage_disk *d, struct arena *a)
{
    struct str all = content(d->fd), label;
    size_t at;

    if (strcmp(d->format, "qcow2") == 0) {
        uint64_t size = 0;

        for (size_t i = 24; i < 32; i++)
            size = size << 8 | (unsigned char)all.p[i];
        if (d->backing_fd < 0)
            return arena_printf(a, "qcow2 %lluMi", (unsigned long long)(size >> 20));
        all = content(d->backing_fd);
        return arena_printf(a, "qcow2 on %s " STR_FMT, d->backing_format, STR_ARG(str_take(all, strnlen(all.p, 16))));
    }
    if (all.n < 0x9000)
        return arena_printf(a, "raw%s " STR_FMT, d->read_only ? " ro" : "", STR_ARG(str_take(all, strnlen(all.p, 16))));
    label = str_trim(str_n(all.p + 0x8028, 32)); /* of the volume descriptor */
    return arena_printf(a, STR_FMT ":%s", STR_ARG(label), str_find(all, STR("needle"), &at) ? " needle" : "");
}

static void each_source_becomes_a_disk(void **state)
{
    static const struct {
        const char *volume, *disk;
    } cases[] = {
        {"{'name':'d','emptyDisk':{'capacity':'10Mi'}}", "qcow2 10Mi"},
        {"{'name':'d','containerDisk':{'image':'x'}}", "qcow2 on raw the only image"},
        {"{'name':'d','containerDisk':{'image':'x','path':'/elsewhere/other.img'}}", "qcow2 on raw another image"},
        {"{'name':'d','persistentVolumeClaim':{'claimName':'c'}}", "raw of the claim"},
        {"{'name':'d','persistentVolumeClaim':{'claimName':'c','readOnly':true}}", "raw ro of the claim"},
        {"{'name':'d','ephemeral':{'persistentVolumeClaim':{'claimName':'c'}}}", "qcow2 on raw of the claim"},
        {"{'name':'d','ephemeral':{'persistentVolumeClaim':{'claimName':'c','readOnly':true}}}", "qcow2 on raw of the claim"},
        {"{'name':'d','configMap':{'name':'m'}}", "cfgdata: needle"},
        {"{'name':'d','configMap':{'name':'m','volumeLabel':'mine'}}", "mine: needle"},
        {"{'name':'d','secret':{'secretName':'s'}}", "cfgdata: needle"},
        {"{'name':'d','secret':{'secretName':'s','volumeLabel':'keys'}}", "keys: needle"},
        {"{'name':'d','sysprep':{'secret':{'name':'s'}}}", "unattendCD: needle"},
        {"{'name':'d','sysprep':{'configMap':{'name':'m'}}}", "unattendCD: needle"},
        {"{'name':'d','cloudInitNoCloud':{'userData':'needle'}}", "cidata: needle"},
        {"{'name':'d','cloudInitConfigDrive':{'userData':'needle'}}", "config-2: needle"},
    };
    struct place *p = *state;

    put(p->at.public_dirfd, "container-disks/d/disk", "guest.img", "the only image");
    put(p->at.public_dirfd, "container-disks/d/elsewhere", "other.img", "another image");
    put(p->at.private_dirfd, "vmi-disks/d", "disk.img", "of the claim");
    put(p->at.private_dirfd, "config-map/d", "key", "needle");
    put(p->at.private_dirfd, "secret/d", "key", "needle");
    put(p->at.private_dirfd, "sysprep/d", "Autounattend.xml", "needle");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO(storage_disks_done) struct storage_disks disks = {.kernel_fd = -1, .initrd_fd = -1};
        const char *got;

        if (!storage_prepare(vmi_of(&a, cases[i].volume, NULL), &p->at, NULL, 0, &a, &disks, &err))
            fail_msg("%s: %s", cases[i].volume, error_text(&err));
        assert_int_equal(disks.n, 1);
        got = shown(&disks.p[0], &a);
        if (strcmp(got, cases[i].disk) != 0)
            fail_msg("%s: %s", cases[i].volume, got);
        /* the overlay of one source is not that of the next */
        unlinkat(p->at.ephemeral_dirfd, "disk-data/d/disk.qcow2", 0);
        unlinkat(p->at.ephemeral_dirfd, "empty-disks/d.qcow2", 0);
    }
}

/* optional: a ConfigMap or Secret that is not there is an empty disk; without it the machine does not start. */
/* What a guest changes of an image is a copy that lasts as long as the pod; the image stays as it is. */
static void a_hypervisor_without_qcow2_gets_raw_disks(void **state)
{
    static const struct {
        const char *volume, *disk;
    } cases[] = {
        {"{'name':'d','containerDisk':{'image':'x'}}", "raw the only image"},
        {"{'name':'d','containerDisk':{'image':'x'}}", "raw changed  image"},
        {"{'name':'d','ephemeral':{'persistentVolumeClaim':{'claimName':'c'}}}", "raw changed  image"}, /* same disk */
        {"{'name':'d','emptyDisk':{'capacity':'10Mi'}}", "raw "},
    };
    struct place *p = *state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(storage_disks_done) struct storage_disks disks = {.kernel_fd = -1, .initrd_fd = -1};
    struct stat st;

    p->at.raw_only = true;
    put(p->at.public_dirfd, "container-disks/d/disk", "guest.img", "the only image");
    put(p->at.private_dirfd, "vmi-disks/d", "disk.img", "of the claim");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        storage_disks_done(&disks);
        if (!storage_prepare(vmi_of(&a, cases[i].volume, NULL), &p->at, NULL, 0, &a, &disks, &err))
            fail_msg("%s: %s", cases[i].volume, error_text(&err));
        assert_int_equal(disks.p[0].backing_fd, -1);
        assert_int_equal(fstat(disks.p[0].fd, &st), 0);
        if (i == 3)
            assert_int_equal(st.st_size, 10 << 20);
        else
            assert_string_equal(shown(&disks.p[0], &a), cases[i].disk);
        assert_int_equal(pwrite(disks.p[0].fd, "changed ", 8, 0), 8);
    }
    p->at.raw_only = false;
}

static void what_is_optional_may_be_missing(void **state)
{
    static const struct {
        const char *volume;
        bool good;
    } cases[] = {
        {"{'name':'d','configMap':{'name':'m','optional':true}}", true},
        {"{'name':'d','configMap':{'name':'m'}}", false},
        {"{'name':'d','secret':{'secretName':'s','optional':true}}", true},
        {"{'name':'d','secret':{'secretName':'s','optional':false}}", false},
    };
    struct place *p = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO(storage_disks_done) struct storage_disks disks = {.kernel_fd = -1, .initrd_fd = -1};

        if (storage_prepare(vmi_of(&a, cases[i].volume, NULL), &p->at, NULL, 0, &a, &disks, &err) != cases[i].good)
            fail_msg("%s: %s", cases[i].volume, error_text(&err));
        if (cases[i].good)
            assert_string_equal(shown(&disks.p[0], &a), "cfgdata:");
    }
}

static void a_claims_image_is_made_in_its_size(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(storage_disks_done) struct storage_disks disks = {.kernel_fd = -1, .initrd_fd = -1};
    AUTO_CLOSE int dir = -1;
    struct place *p = *state;
    struct stat st;

    assert_true(file_make_dirs(p->at.private_dirfd, "vmi-disks/d", 0755, &dir, &err));
    if (!storage_prepare(vmi_of(&a, "{'name':'d','persistentVolumeClaim':{'claimName':'c'}}",
                                "{'volumeStatus':[{'name':'d','target':'','persistentVolumeClaimInfo':{'capacity':"
                                "{'storage':'10Mi'},'filesystemOverhead':'0.055'}}]}"),
                         &p->at, NULL, 0, &a, &disks, &err))
        fail_msg("%s", error_text(&err));
    assert_int_equal(fstat(disks.p[0].fd, &st), 0);
    assert_int_equal(st.st_size, 9 << 20);
    assert_int_equal(st.st_blocks, 0); /* sparse */
}

static void kernel_and_initrd_come_from_their_paths(void **state)
{
    static const struct {
        const char *boot, *kernel, *initrd;
    } cases[] = {
        {"{'container':{'image':'k','kernelPath':'/boot/k','initrdPath':'/boot/i'}}", "kernel", "initrd"},
        {"{'container':{'image':'k','kernelPath':'boot/k'}}", "kernel", NULL},
    };
    struct place *p = *state;

    put(p->at.public_dirfd, "container-disks/kernel-boot/boot", "k", "kernel");
    put(p->at.public_dirfd, "container-disks/kernel-boot/boot", "i", "initrd");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO(storage_disks_done) struct storage_disks disks = {.kernel_fd = -1, .initrd_fd = -1};
        struct kv_virtual_machine_instance vmi = {0};
        const struct json *v = NULL;
        char *text = arena_printf(&a, "{'spec':{'domain':{'devices':{},'firmware':{'kernelBoot':%s}}}}", cases[i].boot);

        for (char *q = text; *q; q++)
            if (*q == '\'')
                *q = '"';
        assert_true(json_parse(str_of(text), &a, &v, &err));
        assert_true(schema_decode(&schema_type_kv_virtual_machine_instance, v, &a, &vmi, &err));
        if (!storage_prepare(&vmi, &p->at, NULL, 0, &a, &disks, &err))
            fail_msg("%s", error_text(&err));
        assert_true(str_is(content(disks.kernel_fd), cases[i].kernel));
        assert_int_equal(disks.initrd_fd >= 0, cases[i].initrd != NULL);
        if (cases[i].initrd)
            assert_true(str_is(content(disks.initrd_fd), cases[i].initrd));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_source_becomes_a_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hypervisor_without_qcow2_gets_raw_disks, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_optional_may_be_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_claims_image_is_made_in_its_size, setup, teardown),
        cmocka_unit_test_setup_teardown(kernel_and_initrd_come_from_their_paths, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
