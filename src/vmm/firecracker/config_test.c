/* VMIs and the requests that they become, or why not. */
#include "vmm/firecracker/config.h"

#include <fcntl.h>
#include <unistd.h>

#include "api/types.h"
#include "base/base_test.h"
#include "vmm/firecracker/firecracker.h"

#define MEM "'memory':{'guest':'64Mi'}"

struct built {
    struct arena a;
    struct fc_config c;
    struct error err;
    bool ok;
    char *text;
};

static void built_done(struct built *b)
{
    fc_config_done(&b->c);
    arena_done(&b->a);
    error_clear(&b->err);
    free(b->text);
}

static void build(struct built *b, const char *spec, const struct vmm_machine *with)
{
    static const char taps[FC_MAX_TAPS][FC_TAP_NAME] = {"tap0", "tap1"};
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(&b->a, struct kv_virtual_machine_instance);
    struct vmm_machine m = *with;
    AUTO(buf_done) struct buf text = {0};
    const struct json *v;
    char *object = arena_printf(&b->a, "{'metadata':{'name':'n','namespace':'ns','uid':'u'},'spec':%s}", spec);

    for (char *p = object; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (!json_parse(str_of(object), &b->a, &v, &b->err)
        || !schema_decode(&schema_type_kv_virtual_machine_instance, v, &b->a, vmi, &b->err))
        fail_msg("%s: %s", object, error_text(&b->err));
    m.vmi = vmi;
    b->ok = fc_config_build(&b->c, &b->a, &m, taps, &b->err);
    for (size_t i = 0; b->ok && i < b->c.calls.n; i++) {
        buf_addf(&text, "%s %s ", b->c.calls.p[i].method, b->c.calls.p[i].path);
        json_write(&text, b->c.calls.p[i].body);
        buf_addc(&text, '\n');
    }
    b->text = buf_detach(&text);
}

static const int tap_fds[] = {20, 21};
static const struct vmm_disk disks[] = {
    {.name = STR_INIT("d"), .fd = -1, .format = "raw", .backing_fd = -1},
    {.name = STR_INIT("ro"), .fd = -1, .format = "raw", .backing_fd = -1, .read_only = true},
    {.name = STR_INIT("q"), .fd = -1, .format = "qcow2", .backing_fd = -1},
    {.name = STR_INIT("o"), .fd = -1, .format = "raw", .backing_fd = 3},
};
static const struct vmm_nic nics[] = {
    {.name = STR_INIT("one"), .fds = tap_fds, .n_fds = 1, .mtu = 1400},
    {.name = STR_INIT("many"), .fds = tap_fds, .n_fds = 2},
};
#define WITH                                                                                                                     \
    .disks = disks, .n_disks = ARRAY_SIZE(disks), .nics = nics, .n_nics = ARRAY_SIZE(nics), .private_dirfd = -1, .vhost_vsock_fd = -1
static const struct vmm_machine plain = {.accelerator = VMM_KVM, .kernel_fd = 5, .initrd_fd = -1, WITH};
static const struct vmm_machine with_initrd = {.accelerator = VMM_KVM, .kernel_fd = 5, .initrd_fd = 6, WITH};
static const struct vmm_machine with_vsock = {.accelerator = VMM_KVM, .kernel_fd = 5, .initrd_fd = -1, .vsock_cid = 9, WITH};
static const struct vmm_machine without_kernel = {.accelerator = VMM_KVM, .kernel_fd = -1, .initrd_fd = -1, WITH};
static const struct vmm_machine emulated = {.accelerator = VMM_TCG, .kernel_fd = 5, .initrd_fd = -1, WITH};
static const struct vmm_machine incoming = {.accelerator = VMM_KVM, .kernel_fd = 5, .initrd_fd = -1, .incoming = "/x", WITH};

#define DISK(more) "{'domain':{" MEM ",'devices':{'disks':[{'name':'d'" more "}]}}}"
#define BOOT(args) "{'domain':{" MEM ",'firmware':{'kernelBoot':{'kernelArgs':'" args "'}},'devices':{'disks':[{'name':'d'}]}}}"

static void a_machine_becomes_requests(void **state)
{
    static const struct {
        const char *spec;
        const struct vmm_machine *with;
        const char *has[4], *lacks[3];
    } cases[] = {
        {"{'domain':{" MEM ",'cpu':{'cores':3,'threads':2},'devices':{}}}", &plain,
         {"\"vcpu_count\":6,\"mem_size_mib\":64,\"smt\":true", "PUT /balloon {\"amount_mib\":0,\"deflate_on_oom\":true"},
         {"huge_pages", "/entropy", "/vsock"}},
        {"{'domain':{'memory':{'guest':'64Mi','hugepages':{'pageSize':'2Mi'}},'devices':{}}}", &plain,
         {"\"huge_pages\":\"2M\""}, {"/balloon"}},
        {"{'domain':{" MEM ",'devices':{'autoattachMemBalloon':false,'autoattachSerialConsole':false,'rng':{}}}}", &plain,
         {"8250.nr_uarts=0", "PUT /entropy {}\n"}, {"/balloon", "console="}},
        {"{'domain':{'memory':{'guest':'64Mi','maxGuest':'128Mi'},'devices':{}}}", &plain,
         {"PUT /hotplug/memory {\"total_size_mib\":128,\"block_size_mib\":2,\"slot_size_mib\":128}"}},
        {"{'domain':{" MEM ",'devices':{}}}", &with_vsock, {"PUT /vsock {\"guest_cid\":9,\"uds_path\":\"vsock.sock\"}"}},
        {DISK(""), &plain, {"\"is_root_device\":true", "\"cache_type\":\"Writeback\",\"io_engine\":\"Sync\""}, {"Unsafe"}},
        {DISK(""), &with_initrd, {"\"is_root_device\":false", "\"initrd_path\":\"/proc/self/fd/11\""}},
        {BOOT("root=/dev/vdb console=hvc0 panic=-1"), &plain,
         {"\"is_root_device\":false", "\"root=/dev/vdb console=hvc0 panic=-1 reboot=k i8042.noaux i8042.nomux i8042.dumbkbd\""},
         {"ttyS0", "panic=1"}},
        {"{'domain':{" MEM ",'devices':{'disks':[{'name':'ro'}]}}}", &plain, {"\"is_read_only\":true"}},
        {"{'domain':{" MEM ",'devices':{'interfaces':[{'name':'one','bridge':{},'macAddress':'02:00:00:00:00:09'}]}}}", &plain,
         {"PUT /network-interfaces/net0 {\"iface_id\":\"net0\",\"host_dev_name\":\"tap0\",\"guest_mac\":\"02:00:00:00:00:09\","
          "\"mtu\":1400}"}},
        {"{'domain':{" MEM ",'devices':{'interfaces':[{'name':'one','bridge':{},'state':'absent'}]}}}", &plain, {"/machine-config"},
         {"/network-interfaces"}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(built_done) struct built b = {0};

        build(&b, cases[i].spec, cases[i].with);
        if (!b.ok)
            fail_msg("%s: %s", cases[i].spec, error_text(&b.err));
        for (size_t k = 0; k < 4 && cases[i].has[k]; k++)
            if (!strstr(b.text, cases[i].has[k]))
                fail_msg("%s: no %s in\n%s", cases[i].spec, cases[i].has[k], b.text);
        for (size_t k = 0; k < 3 && cases[i].lacks[k]; k++)
            if (strstr(b.text, cases[i].lacks[k]))
                fail_msg("%s: %s in\n%s", cases[i].spec, cases[i].lacks[k], b.text);
    }
}

static void what_it_cannot_is_refused_by_its_path(void **state)
{
    static const struct {
        const char *spec;
        const struct vmm_machine *with;
        enum error_kind kind;
        const char *words;
    } cases[] = {
        {"{'domain':{" MEM ",'devices':{}}}", &without_kernel, ERROR_INVALID, "spec.domain.firmware.kernelBoot"},
        {"{'domain':{" MEM ",'devices':{}}}", &emulated, ERROR_UNSUPPORTED, "needs KVM"},
        {"{'domain':{" MEM ",'devices':{}}}", &incoming, ERROR_UNSUPPORTED, "migrate"},
        {"{'domain':{" MEM ",'cpu':{'cores':33},'devices':{}}}", &plain, ERROR_UNSUPPORTED, "at most 32"},
        {"{'domain':{" MEM ",'cpu':{'sockets':2},'devices':{}}}", &plain, ERROR_UNSUPPORTED, "spec.domain.cpu.sockets"},
        {"{'domain':{" MEM ",'cpu':{'threads':4},'devices':{}}}", &plain, ERROR_UNSUPPORTED, "spec.domain.cpu.threads"},
        {"{'domain':{" MEM ",'cpu':{'model':'Haswell'},'devices':{}}}", &plain, ERROR_UNSUPPORTED, "spec.domain.cpu.model"},
        {"{'domain':{'memory':{'guest':'100M'},'devices':{}}}", &plain, ERROR_INVALID, "spec.domain.memory.guest"},
        {"{'domain':{'memory':{'guest':'64Mi','hugepages':{'pageSize':'1Gi'}},'devices':{}}}", &plain, ERROR_UNSUPPORTED,
         "hugepages.pageSize"},
        {"{'domain':{'memory':{'guest':'63Mi','hugepages':{'pageSize':'2Mi'}},'devices':{}}}", &plain, ERROR_INVALID,
         "huge page size"},
        {DISK(",'disk':{'bus':'sata'}"), &plain, ERROR_UNSUPPORTED, "disk 'd': Firecracker has virtio disks only"},
        {DISK(",'cdrom':{}"), &plain, ERROR_UNSUPPORTED, "disk 'd'"},
        {DISK(",'cache':'none'"), &plain, ERROR_UNSUPPORTED, "cache 'none'"},
        {DISK(",'errorPolicy':'stop'"), &plain, ERROR_UNSUPPORTED, "errorPolicy"},
        {"{'domain':{" MEM ",'devices':{'disks':[{'name':'q'}]}}}", &plain, ERROR_UNSUPPORTED, "this one is qcow2"},
        {"{'domain':{" MEM ",'devices':{'disks':[{'name':'o'}]}}}", &plain, ERROR_UNSUPPORTED, "on top of another"},
        {"{'domain':{" MEM ",'devices':{'disks':[{'name':'x'}]}}}", &plain, ERROR_INVALID, "was not prepared"},
        {"{'domain':{" MEM ",'devices':{'interfaces':[{'name':'many','bridge':{}}]}}}", &plain, ERROR_UNSUPPORTED,
         "networkInterfaceMultiqueue"},
        {"{'domain':{" MEM ",'devices':{'interfaces':[{'name':'one','bridge':{},'model':'e1000'}]}}}", &plain, ERROR_UNSUPPORTED,
         "model e1000"},
        {"{'domain':{" MEM ",'devices':{'interfaces':[{'name':'one','bridge':{},'state':'down'}]}}}", &plain, ERROR_UNSUPPORTED,
         "state down"},
        {"{'domain':{" MEM ",'devices':{'watchdog':{'name':'w'}}}}", &plain, ERROR_UNSUPPORTED, "spec.domain.devices.watchdog"},
        {BOOT("a\\nb"), &plain, ERROR_INVALID, "control characters"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(built_done) struct built b = {0};

        build(&b, cases[i].spec, cases[i].with);
        if (b.ok || b.err.kind != cases[i].kind || !strstr(b.err.msg, cases[i].words))
            fail_msg("%s: %s: %s", cases[i].spec, error_kind_name(b.err.kind), error_text(&b.err));
    }
}

static void a_refusal_is_told_in_words_to_act_on(void **state)
{
    static const struct {
        unsigned status;
        const char *text, *field;
        enum error_kind kind;
        const char *words;
    } cases[] = {
        {400, "The requested operation is not supported after starting the microVM.", NULL, ERROR_CONFLICT, "Firecracker refuses: The"},
        {400, "The vCPU number is invalid! The number of vCPUs must be", "spec.domain.cpu", ERROR_INVALID, "spec.domain.cpu: "},
        {400, "Open tap device failed: Resource busy (os error 16)", "interface 'x'", ERROR_UNAVAILABLE, "interface 'x': "},
        {400, "Cannot load kernel due to invalid memory configuration or invalid kernel image: Kernel Loader: invalid Elf magic", NULL,
         ERROR_INVALID, "vmlinux"},
        {500, "", NULL, ERROR_INTERNAL, "status 500 without a reason"},
        {400, "a\033[2Jb\nc", NULL, ERROR_INVALID, "a [2Jb c"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(error_clear) struct error err = {0};

        assert_false(fc_refused(cases[i].status, str_of(cases[i].text), cases[i].field, &err));
        if (err.kind != cases[i].kind || !strstr(err.msg, cases[i].words))
            fail_msg("%s: %s: %s", cases[i].text, error_kind_name(err.kind), err.msg);
    }
}

static void kernels_are_told_by_their_heads(void **state)
{
    static const unsigned char elf[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1, [18] = 62}, arm[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1, [18] = 183};
    unsigned char bzimage[0x400] = {0};
    const struct {
        const unsigned char *p;
        size_t n;
        unsigned version;
        const char *words; /* NULL: good */
    } cases[] = {
        {elf, sizeof elf, FC_VERSION(1, 7), NULL},
        {arm, sizeof arm, FC_VERSION(1, 17), "not of x86-64"},
        {bzimage, sizeof bzimage, FC_VERSION(1, 17), NULL},
        {bzimage, sizeof bzimage, FC_VERSION(1, 16), "bzImage"},
        {bzimage, 64, FC_VERSION(1, 17), "neither"},
        {elf, 0, FC_VERSION(1, 17), "neither"},
    };

    (void)state;
    memcpy(bzimage + 0x202, "HdrS", 4);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(error_clear) struct error err = {0};
        char name[] = "/tmp/vireo-kernel-XXXXXX";
        AUTO_CLOSE int fd = mkstemp(name);

        unlink(name);
        assert_int_equal(write(fd, cases[i].p, cases[i].n), (ssize_t)cases[i].n);
        bool ok = fc_check_kernel(fd, cases[i].version, &err);
        if (ok != !cases[i].words || (!ok && !strstr(err.msg, cases[i].words)))
            fail_msg("%zu: %s", i, error_text(&err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machine_becomes_requests),
        cmocka_unit_test(what_it_cannot_is_refused_by_its_path),
        cmocka_unit_test(a_refusal_is_told_in_words_to_act_on),
        cmocka_unit_test(kernels_are_told_by_their_heads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
