#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/cloud_hypervisor/ch.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/types.h"

/* Every case is a spec in JSON and pieces of the document that it must, or must not, give. */
struct built {
    struct arena a;
    struct error err;
    char *text;
    bool ok;
};

static void built_done(struct built *b)
{
    arena_done(&b->a);
    error_clear(&b->err);
    free(b->text);
}

static const struct vmm_machine plain = {.accelerator = VMM_KVM, .kernel_fd = -1, .initrd_fd = -1};
static const struct vmm_machine emulated = {.accelerator = VMM_TCG, .kernel_fd = -1, .initrd_fd = -1};
static const struct vmm_machine with_vsock = {.accelerator = VMM_KVM, .kernel_fd = -1, .initrd_fd = -1, .vsock_cid = 7};

static void build(struct built *b, const char *spec, const struct vmm_machine *with, enum ch_payload payload, unsigned version)
{
    AUTO(error_clear) struct error err = {0};
    struct kv_virtual_machine_instance *vmi = NULL;
    const struct json *v, *object, *config;
    struct vmm_machine m = *with;

    memset(b, 0, sizeof *b);
    vmi = ARENA_NEW(&b->a, struct kv_virtual_machine_instance);
    if (!json_parse(str_of(spec), &b->a, &v, &err))
        fail_msg("%s: %s", spec, error_text(&err));
    object = json_object(&b->a, "metadata", json_object(&b->a, "name", json_new_z(&b->a, "vm"), NULL), "spec", v, NULL);
    if (!schema_decode(&schema_type_kv_virtual_machine_instance, object, &b->a, vmi, &err))
        fail_msg("%s: %s", spec, error_text(&err));
    m.vmi = vmi;
    b->ok = ch_config(&m, payload, version, &b->a, &config, &b->err);
    assert_int_equal(b->ok, b->err.kind == ERROR_NONE);
    if (b->ok)
        b->text = json_text(config);
}

#define MEM "\"memory\":{\"guest\":\"64Mi\"}"

static const struct {
    const char *spec;
    const struct vmm_machine *with;
    enum ch_payload payload;
    unsigned version;
    const char *has[8], *lacks[5];
} lines[] = {
    {"{\"domain\":{\"devices\":{}," MEM "}}",
     &plain,
     CH_FIRMWARE,
     53,
     {"\"boot_vcpus\":1,\"max_vcpus\":1,", "\"memory\":{\"size\":67108864}",
      "\"payload\":{\"firmware\":\"/proc/self/fd/9/firmware\"}",
      "\"serial\":{\"mode\":\"Socket\",\"socket\":\"/proc/self/fd/9/serial.sock\"}", "\"console\":{\"mode\":\"Off\"}",
      "\"balloon\":{\"size\":0,\"deflate_on_oom\":true,\"free_page_reporting\":true}", "\"rng\":{\"src\":\"/dev/urandom\"}"},
     {"disks", "vsock", "pvpanic", "platform", "kvm_hyperv"}},
    {"{\"domain\":{\"devices\":{\"autoattachMemBalloon\":false,\"autoattachSerialConsole\":false},\"firmware\":{\"kernelBoot\":"
     "{"
     "\"kernelArgs\":\"console=ttyS0 a=\\\"b\\\"\"}}," MEM "}}",
     &plain,
     CH_KERNEL_INITRAMFS,
     53,
     {"\"payload\":{\"kernel\":\"/proc/self/fd/9/kernel\",\"initramfs\":\"/proc/self/fd/9/"
      "initramfs\",\"cmdline\":\"console=ttyS0 a=\\\"b\\\"\"}",
      "\"serial\":{\"mode\":\"Off\"}"},
     {"balloon", "firmware"}},
    {"{\"domain\":{\"devices\":{},\"cpu\":{\"sockets\":2,\"cores\":3,\"threads\":2,\"maxSockets\":4},\"memory\":{\"guest\":"
     "\"1Gi\",\"maxGuest\":\"4Gi\"}}}",
     &plain,
     CH_FIRMWARE,
     53,
     {"\"boot_vcpus\":12,\"max_vcpus\":24,\"topology\":{\"threads_per_core\":2,\"cores_per_die\":3,\"dies_per_package\":1,"
      "\"packages\":4}",
      "\"memory\":{\"size\":1073741824,\"hotplug_size\":3221225472,\"hotplug_method\":\"VirtioMem\"}"},
     {0}},
    /* Room for less than one step is none. */
    {"{\"domain\":{\"devices\":{},\"memory\":{\"guest\":\"1Gi\",\"maxGuest\":\"1100Mi\"}}}",
     &plain,
     CH_FIRMWARE,
     53,
     {"\"memory\":{\"size\":1073741824}"},
     {"hotplug"}},
    {"{\"domain\":{\"devices\":{},\"resources\":{\"requests\":{\"memory\":\"1.5Mi\"}}}}",
     &plain,
     CH_FIRMWARE,
     53,
     {"\"size\":1572864"},
     {0}},
    {"{\"domain\":{\"devices\":{},\"memory\":{\"guest\":\"64Mi\",\"hugepages\":{\"pageSize\":\"2Mi\"}}}}",
     &plain,
     CH_FIRMWARE,
     53,
     {"\"hugepages\":true,\"hugepage_size\":2097152,\"prefault\":true", "\"free_page_reporting\":false"},
     {0}},
    {"{\"domain\":{\"devices\":{\"panicDevices\":[{\"model\":\"pvpanic\"}]},\"features\":{\"hypervPassthrough\":{}},"
     "\"firmware\":{"
     "\"uuid\":\"5d307ca9-b3ef-428c-8861-06e72d69f223\",\"serial\":\"s1\"}," MEM "}}",
     &with_vsock,
     CH_FIRMWARE,
     53,
     {"\"vsock\":{\"cid\":7,\"socket\":\"/proc/self/fd/9/vsock.sock\",\"id\":\"vsock\"}", "\"pvpanic\":true",
      "\"kvm_hyperv\":true",
      "\"platform\":{\"system_uuid\":\"5d307ca9-b3ef-428c-8861-06e72d69f223\",\"system_serial_number\":\"s1\"}"},
     {0}},
    {"{\"domain\":{\"devices\":{},\"firmware\":{\"uuid\":\"5d307ca9-b3ef-428c-8861-06e72d69f223\"}," MEM "}}",
     &plain,
     CH_FIRMWARE,
     52,
     {"\"platform\":{\"uuid\":\"5d307ca9-b3ef-428c-8861-06e72d69f223\"}"},
     {"system_"}},
};

static void documents(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        AUTO(built_done) struct built b;

        build(&b, lines[i].spec, lines[i].with, lines[i].payload, lines[i].version);
        if (!b.ok)
            fail_msg("case %zu: %s", i, error_text(&b.err));
        for (size_t k = 0; k < ARRAY_SIZE(lines[i].has) && lines[i].has[k]; k++)
            if (!strstr(b.text, lines[i].has[k]))
                fail_msg("case %zu lacks '%s' in:\n%s", i, lines[i].has[k], b.text);
        for (size_t k = 0; k < ARRAY_SIZE(lines[i].lacks) && lines[i].lacks[k]; k++)
            if (strstr(b.text, lines[i].lacks[k]))
                fail_msg("case %zu has '%s' in:\n%s", i, lines[i].lacks[k], b.text);
    }
}

static void disks(void **state)
{
    const struct vmm_disk prepared[] = {
        {.name = STR("a"), .fd = 50, .format = "qcow2", .backing_fd = 51, .backing_format = "raw", .direct = true},
        {.name = STR("b"), .fd = 52, .format = "raw", .backing_fd = -1, .read_only = true, .preallocated = true},
    };
    struct vmm_machine m = plain;
    AUTO(built_done) struct built b;

    (void)state;
    m.disks = prepared;
    m.n_disks = 2;
    build(&b,
          "{\"domain\":{\"devices\":{\"blockMultiQueue\":true,\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"virtio\"},"
          "\"serial\":\"s,1\"},{\"name\":\"b\",\"disk\":{},\"cache\":\"writeback\"}]},\"cpu\":{\"cores\":4}," MEM "}}",
          &m, CH_FIRMWARE, 53);
    if (!b.ok)
        fail_msg("%s", error_text(&b.err));
    if (!strstr(b.text,
                "\"disks\":[{\"id\":\"disk-a\",\"path\":\"/proc/self/fd/9/"
                "disk-a\",\"image_type\":\"Qcow2\",\"backing_files\":true,\"readonly\":"
                "false,\"direct\":true,\"sparse\":true,\"num_queues\":4,\"serial\":\"s,1\"},{\"id\":\"disk-b\",\"path\":"
                "\"/proc/self/fd/9/"
                "disk-b\",\"image_type\":\"Raw\",\"backing_files\":false,\"readonly\":true,\"direct\":false,\"sparse\":false,"
                "\"num_queues\":4}]"))
        fail_msg("%s", b.text);
}

static void refused(void **state)
{
#define WITH(devices) "{\"domain\":{\"devices\":{" devices "}," MEM "}}"
    static const struct {
        const char *spec;
        const struct vmm_machine *with;
        const char *words;
        enum error_kind kind;
    } table[] = {
        {"{\"domain\":{\"devices\":{}}}", &plain, "memory.guest", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{}," MEM "}}", &emulated, "needs KVM", ERROR_UNSUPPORTED},
        {"{\"domain\":{\"devices\":{},\"cpu\":{\"sockets\":4096,\"cores\":4096}," MEM "}}", &plain, "vCPUs", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{},\"cpu\":{\"threads\":4}," MEM "}}", &plain, "threads", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{},\"cpu\":{\"cores\":-1}," MEM "}}", &plain, "cores", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{},\"cpu\":{\"features\":[{\"name\":\"avx\"}]}," MEM "}}", &plain, "cpu.features",
         ERROR_UNSUPPORTED},
        {"{\"domain\":{\"devices\":{},\"memory\":{\"guest\":\"65Mi\",\"hugepages\":{\"pageSize\":\"2Mi\"}}}}", &plain,
         "multiple", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{},\"firmware\":{\"bootloader\":{\"efi\":{}}}," MEM "}}", &plain, "secureBoot",
         ERROR_UNSUPPORTED},
        {"{\"domain\":{\"devices\":{},\"firmware\":{\"kernelBoot\":{\"kernelArgs\":\"a\\nb\"}}," MEM "}}", &plain,
         "control characters", ERROR_INVALID},
        {WITH("\"disks\":[{\"name\":\"a\",\"disk\":{}}]"), &plain, "was not prepared", ERROR_INVALID},
        {WITH("\"tpm\":{}"), &plain, "devices.tpm", ERROR_UNSUPPORTED},
        {WITH("\"watchdog\":{\"name\":\"w\"}"), &plain, "devices.watchdog", ERROR_UNSUPPORTED},
        {WITH("\"autoattachGraphicsDevice\":true"), &plain, "Graphics", ERROR_UNSUPPORTED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(built_done) struct built b;

        build(&b, table[i].spec, table[i].with, CH_FIRMWARE, 53);
        if (b.ok)
            fail_msg("case %zu is accepted: %s", i, b.text);
        assert_int_equal(b.err.kind, table[i].kind);
        if (!strstr(b.err.msg, table[i].words))
            fail_msg("case %zu says '%s'", i, b.err.msg);
    }
}

static void refused_disks_and_nics(void **state)
{
    static const int taps[] = {3, 4, 5};
    const struct vmm_disk disk = {.name = STR("d"), .fd = 1, .format = "raw", .backing_fd = -1};
    const struct kv_cd_rom_target cdrom = {0};
    const struct kv_disk_target sata = {.bus = STR("sata")}, virtio = {.bus = STR("virtio")};
    const struct {
        struct kv_disk d;
        const char *words;
    } table[] = {
        {{.name = STR("../d"), .disk = &virtio}, "no name"},
        {{.name = STR(".."), .disk = &virtio}, "no name"},
        {{.name = STR("d"), .disk = &sata}, "virtio disks only"},
        {{.name = STR("d"), .cdrom = &cdrom}, "virtio disks only"},
        {{.name = STR("d"), .disk = &virtio, .serial = STR("123456789012345678901")}, "20 bytes"},
        {{.name = STR("d"), .disk = &virtio, .serial = STR("a\nb")}, "control characters"},
        {{.name = STR("d"), .disk = &virtio, .shareable = {.set = true, .v = true}}, "shareable"},
        {{.name = STR("d"), .disk = &virtio, .cache = STR("none")}, "O_DIRECT"},
        {{.name = STR("d"), .disk = &virtio, .cache = STR("writethrough")}, "writeback only"},
    };
    const struct vmm_nic nic = {.name = STR("n"), .fds = taps, .n_fds = 3, .mac = STR("02:00:00:00:00:01"), .mtu = 1450};
    const struct kv_interface plain_nic = {.name = STR("n")}, e1000 = {.name = STR("n"), .model = STR("e1000")};
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(error_clear) struct error why = {0};

        assert_false(ch_disk(&table[i].d, &disk, 1, &a, &v, &why));
        if (!strstr(why.msg, table[i].words))
            fail_msg("case %zu says '%s'", i, why.msg);
    }
    assert_false(ch_nic(&plain_nic, &nic, 2, &a, &v, &err));
    assert_non_null(strstr(err.msg, "3 queues are more than"));
    assert_false(ch_nic(&e1000, &nic, 4, &a, &v, &err));
    assert_non_null(strstr(err.msg, "virtio only"));
    error_clear(&err);
    assert_true(ch_nic(&plain_nic, &nic, 4, &a, &v, &err));
    AUTO_FREE char *text = json_text(v);
    assert_string_equal(text, "{\"id\":\"net-n\",\"mac\":\"02:00:00:00:00:01\",\"num_queues\":6}");
}

/* ---- the small parts ---- */

static void refusals_in_words(void **state)
{
    static const struct {
        unsigned status;
        const char *body, *says;
        enum error_kind kind;
    } table[] = {
        {500, "[\"Error from API\",\"The VM could not boot\",\"Cannot load the kernel\",\"Kernel lacks PVH header\"]",
         "cloud-hypervisor: vm.boot: The VM could not boot: Cannot load the kernel: Kernel lacks PVH header (the kernel is "
         "neither a "
         "bzImage nor built with CONFIG_PVH)",
         ERROR_INVALID},
        {500, "[\"The VM could not boot: no\",\"no\"]", "cloud-hypervisor: vm.boot: The VM could not boot: no", ERROR_INTERNAL},
        {500, "VM is not running", "cloud-hypervisor: vm.boot: VM is not running", ERROR_CONFLICT}, /* plain text: before v53 */
        {429, "[\"Too Many Requests\"]",
         "cloud-hypervisor: vm.boot: Too Many Requests (the guest has not let go of the vCPU yet that was taken from it: try "
         "again)",
         ERROR_TOO_MANY},
        {404, "[\"VM is not created\"]", "cloud-hypervisor: vm.boot: VM is not created", ERROR_NOT_FOUND},
        {409, "[\"twice\"]", "cloud-hypervisor: vm.boot: twice", ERROR_EXISTS},
        {400, "", "cloud-hypervisor: vm.boot: status 400", ERROR_INVALID},
        {500, "[1, null]", "cloud-hypervisor: vm.boot: [1, null]", ERROR_INTERNAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO(error_clear) struct error no_json = {0};
        struct rest_answer answer = {.status = table[i].status, .text = str_of(table[i].body)};

        if (!json_parse(answer.text, &a, &answer.json, &no_json))
            answer.json = NULL;
        assert_false(ch_refused(&answer, "vm.boot", &err));
        assert_string_equal(err.msg, table[i].says);
        assert_int_equal(err.kind, table[i].kind);
    }
}

static void last_words(void **state)
{
    static const struct {
        const char *text, *says;
    } table[] = {
        {"", ""},
        {"one\ntwo\n\n", "two"},
        {"error: unexpected argument '--no-shutdown' found\n\nUsage: cloud-hypervisor\n\nFor more information, try '--help'.\n",
         "error: unexpected argument '--no-shutdown' found"},
        {"cloud-hypervisor: 1.2ms: <vmm> WARN:x\nError: Cloud Hypervisor exited with the following chain of errors:\n  0: "
         "Failed to create "
         "hypervisor\n  1: Permission denied (os error 13)\n\nDebug Info: x\n",
         "Failed to create hypervisor: Permission denied (os error 13)"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(buf_done) struct buf b = {0};

        ch_last_words(str_of(table[i].text), &b);
        assert_true(str_is(buf_str(&b), table[i].says));
    }
}

static void stream_of_events(void **state)
{
    static const char text[] =
        "{\n  \"source\": \"vm\",\n  \"event\": \"a}\\\"{\",\n  \"properties\": {\"x\": {}}\n}\n\nrubbish }{\"b\": 1}";
    AUTO(buf_done) struct buf b = {0};
    struct str one;
    size_t found = 0;

    (void)state;
    for (size_t i = 0; i < sizeof text - 1; i++) { /* byte by byte */
        buf_addc(&b, text[i]);
        while (ch_events_next(&b, &one)) {
            assert_true(found ? str_is(one, "{\"b\": 1}") : str_starts(one, STR("{\n  \"source\"")) && one.p[one.n - 1] == '}');
            found++;
            buf_consume(&b, (size_t)(one.p + one.n - b.p));
        }
    }
    assert_int_equal(found, 2);
    for (size_t i = 0; i < 20000; i++) { /* what never ends is not kept */
        buf_adds(&b, "{\"");
        assert_false(ch_events_next(&b, &one));
        assert_true(b.n < 20000);
    }
}

static void overlays_name_what_lies_below(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = memfd_create("overlay", MFD_CLOEXEC);
    char head[2048] = "QFI\xfb\0\0\0\3", again[2048];

    (void)state;
    assert_int_equal(pwrite(fd, head, sizeof head, 0), sizeof head);
    assert_false(ch_overlay_name(fd, "/p/base-a", "raw", &err)); /* its header is not of the length of ours */
    error_clear(&err);
    head[103] = 104;
    assert_int_equal(pwrite(fd, head, sizeof head, 0), sizeof head);
    assert_true(ch_overlay_name(fd, "/p/a-longer-name", "qcow2", &err));
    assert_true(ch_overlay_name(fd, "/p/base-a", "raw", &err));
    assert_int_equal(pread(fd, again, sizeof again, 0), sizeof again);
    assert_memory_equal(again + 8, "\0\0\0\0\0\0\1\0\0\0\0\x9", 12);
    assert_memory_equal(again + 104, "\xe2\x79\x2a\xca\0\0\0\3raw\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    assert_memory_equal(again + 256, "/p/base-a\0", 10);
    AUTO_FREE char *much = xcalloc(3000, 1);
    memset(much, 'x', 2999);
    assert_false(ch_overlay_name(fd, much, "raw", &err));
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents),         cmocka_unit_test(disks),
        cmocka_unit_test(refused),           cmocka_unit_test(refused_disks_and_nics),
        cmocka_unit_test(refusals_in_words), cmocka_unit_test(last_words),
        cmocka_unit_test(stream_of_events),  cmocka_unit_test(overlays_name_what_lies_below),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
