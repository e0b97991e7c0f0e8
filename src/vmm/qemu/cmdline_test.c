#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/qemu/cmdline.h"

#include "api/types.h"

/* Every case is a domain in JSON and words that the command line must, or must not, hold ("-device x,y" matches a pair). */
struct built {
    struct arena a;
    struct qemu_cmd c;
    char *line; /* all words, one to a line */
    struct error err;
    bool ok;
};

static void built_done(struct built *b)
{
    cmd_done(&b->c);
    free(b->line);
    error_clear(&b->err);
    arena_done(&b->a);
}

static void build_on(struct built *b, const char *spec, const struct vmm_machine *with, bool microvm)
{
    static const struct qemu_firmware none = {-1, -1, false, -1};
    static const struct qemu_ends ends = {100, 101, 102};
    struct kv_virtual_machine_instance *vmi;
    struct vmm_machine *m;
    AUTO(buf_done) struct buf text = {0};
    const struct json *v;
    AUTO_FREE char *object = NULL;

    memset(b, 0, sizeof *b);
    vmi = ARENA_NEW(&b->a, struct kv_virtual_machine_instance);
    m = ARENA_NEW(&b->a, struct vmm_machine);
    object = xasprintf(
        "{\"metadata\":{\"name\":\"n\",\"namespace\":\"ns\",\"uid\":\"u\"},\"spec\":%s}", spec);
    assert_true(json_parse(str_of(object), &b->a, &v, &b->err));
    assert_true(schema_decode(&schema_type_kv_virtual_machine_instance, v, &b->a, vmi, &b->err));
    *m = *with;
    m->vmi = vmi;
    cmd_init(&b->c, &b->a, m, microvm);
    b->c.tsc_khz = 2000000;
    b->ok = qemu_build(&b->c, &none, &ends, &b->err);
    for (size_t i = 0; b->ok && i < b->c.argv.n; i++)
        buf_addf(&text, "%s%c", b->c.argv.p[i], b->c.argv.p[i][0] == '-' ? ' ' : '\n');
    b->line = buf_detach(&text);
}

static void build(struct built *b, const char *spec, const struct vmm_machine *with)
{
    build_on(b, spec, with, false);
}

#define MEM "\"memory\":{\"guest\":\"64Mi\"}"
static const struct vmm_machine plain = {
    .accelerator = VMM_TCG, .kernel_fd = -1, .initrd_fd = -1, .private_dirfd = -1};
static const struct vmm_machine kvm = {
    .accelerator = VMM_KVM, .kernel_fd = -1, .initrd_fd = -1, .private_dirfd = -1};

static const struct vmm_machine mshv = {
    .accelerator = VMM_MSHV, .kernel_fd = -1, .initrd_fd = -1, .private_dirfd = -1};

static const struct {
    const char *spec;
    const struct vmm_machine *with;
    const char *has[6];
    const char *lacks[3];
} lines[] = {
    {"{\"domain\":{\"devices\":{}," MEM "}}",
     &plain,
     {"-machine type=q35,usb=off,vmport=off,dump-guest-core=off,acpi=on,hpet=off\n",
      "-accel tcg,tb-size=128\n", "-cpu max\n", "-smp 1,sockets=1,cores=1,threads=1,maxcpus=1\n",
      "-m size=67108864B\n", "-device virtio-serial-pci,bus=pci.2,addr=0x0,id=virtio-serial0\n"},
     {"-S ", "rng", "qemu-xhci"}},
    {"{\"domain\":{\"devices\":{}," MEM "}}",
     &kvm,
     {"-accel kvm\n", "-cpu host,migratable=on\n"},
     {"tcg"}},
    {"{\"domain\":{\"devices\":{}," MEM "}}", &mshv, {"-accel mshv\n", "-cpu host\n"}, {"tcg", "kvm"}},
    {"{\"startStrategy\":\"Paused\",\"domain\":{\"devices\":{\"disableHotplug\":true,"
     "\"autoattachMemBalloon\":false,"
     "\"autoattachGraphicsDevice\":false}," MEM "}}",
     &plain,
     {"-S ", "-boot strict=on,menu=on,splash-time=10000\n"},
     {"virtio-scsi", "balloon", "VGA"}},
    {"{\"domain\":{\"devices\":{},\"cpu\":{\"sockets\":2,\"cores\":3,\"threads\":2,\"maxSockets\":"
     "4,\"model\":\"Haswell\",\"features\":["
     "{\"name\":\"avx\",\"policy\":\"disable\"},{\"name\":\"aes\"}]}," MEM "}}",
     &plain,
     {"-cpu Haswell,mpx=off,avx=off,aes=on\n", "-smp 12,sockets=4,cores=3,threads=2,maxcpus=24\n"},
     {0}},
    {"{\"domain\":{\"devices\":{},\"memory\":{\"guest\":\"1Gi\",\"maxGuest\":\"4Gi\"}}}",
     &plain,
     {"-m size=1073741824B,slots=16,maxmem=4294967296B\n"},
     {0}},
    {"{\"domain\":{\"devices\":{},\"resources\":{\"requests\":{\"memory\":\"1.5Mi\"}}}}",
     &plain,
     {"-m size=1572864B\n"},
     {0}},
    {"{\"domain\":{\"devices\":{\"rng\":{},\"watchdog\":{\"name\":\"w\",\"i6300esb\":{\"action\":"
     "\"poweroff\"}},"
     "\"inputs\":[{\"name\":\"t\",\"type\":\"tablet\",\"bus\":\"usb\"}],\"sound\":{\"name\":\"s\"},"
     "\"panicDevices\":[{\"model\":\"pvpanic\"}]}," MEM "}}",
     &plain,
     {"-device i6300esb,id=ua-w,bus=pcie.0,addr=0x10\n", "-action watchdog=poweroff\n",
      "-device usb-tablet,bus=usb.0,id=ua-t\n",
      "-device virtio-rng-pci,bus=pci.5,addr=0x0,id=rng0,rng=objrng0\n",
      "-device ich9-intel-hda,id=ua-s,bus=pcie.0,addr=0x1b\n",
      "-device pvpanic-pci,bus=pcie.0,addr=0x11\n"},
     {0}},
    {"{\"domain\":{\"devices\":{},\"firmware\":{\"uuid\":\"5d307ca9-b3ef-428c-8861-06e72d69f223\","
     "\"serial\":\"a,b\"},"
     "\"chassis\":{\"asset\":\"x,y=z\"},\"rebootPolicy\":\"Terminate\"," MEM "}}",
     &plain,
     {"-smbios "
      "type=1,manufacturer=KubeVirt,product=None,serial=a,,b,uuid=5d307ca9-b3ef-428c-8861-"
      "06e72d69f223,family=KubeVirt\n",
      "-smbios type=3,asset=x,,y=z\n", "-action reboot=shutdown\n"},
     {0}},
    {"{\"domain\":{\"devices\":{},\"features\":{\"acpi\":{\"enabled\":false},\"kvm\":{\"hidden\":"
     "true},\"smm\":{},\"hyperv\":{\"relaxed\":{},"
     "\"spinlocks\":{\"spinlocks\":8191},\"vendorid\":{\"vendorid\":\"v\"},\"synictimer\":{"
     "\"direct\":{}},\"vapic\":{\"enabled\":false}}},"
     "\"clock\":{\"utc\":{},\"timer\":{\"hpet\":{},\"kvm\":{\"present\":false},\"hyperv\":{},"
     "\"rtc\":{\"tickPolicy\":\"catchup\"}}}," MEM "}}",
     &kvm,
     {"acpi=off,hpet=on,smm=on\n", "-rtc base=utc,driftfix=slew\n",
      "-cpu "
      "host,migratable=on,kvm=off,kvmclock=off,hv-time=on,hv-relaxed=on,hv-spinlocks=0x1fff,hv-"
      "stimer=on,hv-stimer-direct=on,"
      "hv-vendor-id=v\n"},
     {"hv-vapic"}},
    {"{\"domain\":{\"devices\":{},\"features\":{\"hypervPassthrough\":{\"enabled\":false}}," MEM "}}",
     &plain,
     {"-cpu max\n"},
     {"hv-"}},
    {"{\"domain\":{\"devices\":{},\"features\":{\"hypervPassthrough\":{}}," MEM "}}",
     &kvm,
     {"hv-passthrough=on"},
     {0}},
    {"{\"domain\":{\"machine\":{\"type\":\"pc\"},\"devices\":{\"disks\":[{\"name\":\"a\",\"cdrom\":{}},{\"name\":\"b\",\"cdrom\":{}},"
     "{\"name\":\"c\",\"cdrom\":{}},{\"name\":\"d\",\"cdrom\":{}},{\"name\":\"e\",\"cdrom\":{}},{\"name\":\"f\",\"cdrom\":{}},"
     "{\"name\":\"g\",\"cdrom\":{}}]}," MEM "}}",
     &plain,
     {"-device ich9-ahci,id=sata0,bus=pci.0,addr=0x4\n", "-device ich9-ahci,id=sata1,bus=pci.0,addr=0x5\n",
      "-device ide-cd,bus=sata0.0,id=ua-a,bootindex=1\n", "-device ide-cd,bus=sata0.5,id=ua-f\n",
      "-device ide-cd,bus=sata1.0,id=ua-g\n"},
     {"bus=ide."}},
    {"{\"domain\":{\"devices\":{\"useVirtioTransitional\":true,\"rng\":{},\"inputs\":[{\"name\":\"t\",\"type\":\"tablet\",\"bus\":\"virtio\"}]}," MEM "}}",
     &plain,
     {"-device virtio-scsi-pci-transitional,bus=pcie.0,addr=0x10,id=scsi0\n",
      "-device virtio-serial-pci-transitional,bus=pcie.0,addr=0x11,id=virtio-serial0\n",
      "-device virtio-tablet-pci,bus=pci.1,addr=0x0,id=ua-t\n", "-device virtio-balloon-pci-transitional,bus=pcie.0,addr=0x12,",
      "-device virtio-rng-pci-transitional,bus=pcie.0,addr=0x13,"},
     {0}},
};

static void golden_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        AUTO(built_done) struct built b;

        build(&b, lines[i].spec, lines[i].with);
        if (!b.ok)
            fail_msg("case %zu: %s", i, error_text(&b.err));
        for (size_t k = 0; k < ARRAY_SIZE(lines[i].has) && lines[i].has[k]; k++)
            if (!strstr(b.line, lines[i].has[k]))
                fail_msg("case %zu lacks '%s' in:\n%s", i, lines[i].has[k], b.line);
        for (size_t k = 0; k < ARRAY_SIZE(lines[i].lacks) && lines[i].lacks[k]; k++)
            if (strstr(b.line, lines[i].lacks[k]))
                fail_msg("case %zu has '%s' in:\n%s", i, lines[i].lacks[k], b.line);
    }
}

#define DISKS                                                                                      \
    "\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"virtio\"},\"serial\":\"s,1\","    \
    "\"cache\":\"writethrough\"},"                                                                 \
    "{\"name\":\"b\",\"cdrom\":{\"bus\":\"sata\"},\"bootOrder\":1},"                               \
    "{\"name\":\"c\",\"disk\":{\"bus\":\"scsi\"},\"errorPolicy\":\"enospace\","                    \
    "\"dedicatedIOThread\":true}],"

static void disks_and_nics(void **state)
{
    static const int taps[] = {60, 61};
    const struct vmm_disk disks[] = {
        {.name = STR("a"),
         .fd = 50,
         .format = "qcow2",
         .backing_fd = 51,
         .backing_format = "raw",
         .direct = true},
        {.name = STR("b"), .fd = 52, .format = "raw", .backing_fd = -1, .read_only = true},
        {.name = STR("c"),
         .fd = 53,
         .format = "raw",
         .backing_fd = -1,
         .direct = true,
         .preallocated = true},
    };
    const struct vmm_nic nics[] = {{.name = STR("default"),
                                    .fds = taps,
                                    .n_fds = 2,
                                    .mac = STR("02:00:00:00:00:01"),
                                    .mtu = 1450}};
    struct vmm_machine m = plain;
    static const char *const has[] = {
        "-netdev tap,fds=4:5,id=net0\n",
        "-device "
        "virtio-net-pci,bus=pci.1,addr=0x0,id=ua-default,netdev=net0,mac=02:00:00:"
        "00:00:01,mq=on,vectors=6,host_mtu=1450,"
        "romfile=\n",
        "-blockdev "
        "{\"driver\":\"raw\",\"node-name\":\"d0b\",\"file\":\"d0bf\",\"read-only\":"
        "true,\"discard\":\"ignore\"}\n",
        "-blockdev "
        "{\"driver\":\"qcow2\",\"node-name\":\"d0\",\"file\":\"d0f\",\"read-only\":"
        "false,\"discard\":\"unmap\",\"backing\":\"d0b\"}\n",
        "id=ua-a,drive=d0,serial=s,,1,write-cache=off,werror=stop,rerror=stop\n",
        "-device ide-cd,bus=ide.0,id=ua-b,drive=d1,bootindex=1,",
        "id=ua-c,drive=d2,write-cache=on,werror=enospc,rerror=report\n",
        "\"cache\":{\"direct\":true,\"no-flush\":false},\"aio\":\"native\"",
        "-device "
        "virtio-scsi-pci,bus=pci.5,addr=0x0,id=scsi0,iothread=iothread1,num_queues="
        "1\n", /* after the NIC and 3 placeholders */
    };
    AUTO(built_done) struct built b;

    (void)state;
    m.disks = disks;
    m.n_disks = 3;
    m.nics = nics;
    m.n_nics = 1;
    build(&b,
          "{\"domain\":{" DISKS "\"interfaces\":[{\"name\":\"default\",\"masquerade\":{}}]}," MEM
          "},\"volumes\":[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c\"}]}",
          &m);
    if (!b.ok)
        fail_msg("%s", error_text(&b.err));
    for (size_t i = 0; i < ARRAY_SIZE(has); i++)
        if (!strstr(b.line, has[i]))
            fail_msg("lacks '%s' in:\n%s", has[i], b.line);
}

static void refused(void **state)
{
    static const struct {
        const char *spec, *text;
        enum error_kind kind;
    } table[] = {
        {"{}", "spec.domain is missing", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{}}}", "spec.domain.memory.guest", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{}," MEM ",\"cpu\":{\"sockets\":4096,\"cores\":4096}}}", "vCPUs",
         ERROR_INVALID},
        {"{\"domain\":{\"devices\":{}," MEM ",\"cpu\":{\"cores\":-1}}}", "cores", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{}," MEM ",\"cpu\":{\"model\":\"a,b=c\"}}}", "model name",
         ERROR_INVALID},
        {"{\"domain\":{\"devices\":{}," MEM ",\"cpu\":{\"features\":[{\"name\":\"x=on,y\"}]}}}",
         "feature name", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{}," MEM ",\"chassis\":{\"serial\":\"a\\nb\"}}}",
         "control characters", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{}}]}," MEM "}}",
         "was not prepared", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\"}]}," MEM "}}",
         "was not prepared", ERROR_INVALID},
        {"{\"domain\":{\"devices\":{},\"features\":{\"hyperv\":{\"relaxed\":{}}}," MEM "}}",
         "needs KVM", ERROR_UNSUPPORTED},
        {"{\"domain\":{\"devices\":{},\"features\":{\"hypervPassthrough\":{\"enabled\":true}}," MEM "}}",
         "needs KVM", ERROR_UNSUPPORTED},
        {"{\"domain\":{\"devices\":{\"tpm\":{}}," MEM "}}", "devices.tpm", ERROR_UNSUPPORTED},
        {"{\"domain\":{\"devices\":{},\"launchSecurity\":{\"tdx\":{}}," MEM "}}", "launchSecurity",
         ERROR_UNSUPPORTED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(built_done) struct built b;

        build(&b, table[i].spec, &plain);
        assert_false(b.ok);
        assert_int_equal(b.err.kind, table[i].kind);
        if (!strstr(b.err.msg, table[i].text))
            fail_msg("case %zu says '%s'", i, b.err.msg);
    }
}

/* The same on a board without PCI. */
static void microvm_lines(void **state)
{
    static const struct vmm_machine kernel = {
        .accelerator = VMM_TCG, .kernel_fd = 70, .initrd_fd = 71, .private_dirfd = -1};
    static const struct {
        const char *spec;
        const struct vmm_machine *with;
        const char *has[8], *lacks[7];
    } table[] = {
        {"{\"domain\":{\"devices\":{\"rng\":{}},\"firmware\":{\"kernelBoot\":{\"kernelArgs\":\"console=ttyS0\"}}," MEM "}}",
         &kernel,
         {"-machine microvm,usb=off,pcie=off,graphics=off,dump-guest-core=off,acpi=on,isa-serial=off,pic=off,rtc=on\n",
          "-global virtio-mmio.force-legacy=false\n", "-bios qboot.rom\n", "-append console=ttyS0 tsc_early_khz=2000000\n",
          "-device virtio-serial-device,bus=virtio-mmio-bus.23,id=virtio-serial0\n",
          "-device virtio-balloon-device,bus=virtio-mmio-bus.22,id=balloon0,", "-device isa-serial,",
          "-device virtio-rng-device,bus=virtio-mmio-bus.21,"},
         {"-pci", "pcie-root-port", "-smbios", "-vnc", "ICH9", "-icount", "virtio-scsi"}},
        {"{\"domain\":{\"devices\":{},\"firmware\":{\"kernelBoot\":{\"kernelArgs\":\"tsc_early_khz=1\"}}," MEM "}}",
         &kernel,
         {"-append tsc_early_khz=1\n"},
         {"2000000"}},
        {"{\"domain\":{\"devices\":{}," MEM ",\"cpu\":{\"sockets\":2,\"maxSockets\":8}}}",
         &plain,
         {"-icount shift=auto\n", "-smp 2,sockets=2,cores=1,threads=1,maxcpus=2\n"},
         {"-append"}},
        {"{\"domain\":{\"devices\":{},\"clock\":{\"timer\":{\"pit\":{\"present\":false},\"rtc\":{\"present\":false}}}," MEM "}}",
         &kvm,
         {"acpi=on,isa-serial=off,pic=off,rtc=off,pit=off\n"},
         {"-icount", "tsc_early"}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(built_done) struct built b;

        build_on(&b, table[i].spec, table[i].with, true);
        if (!b.ok)
            fail_msg("case %zu: %s", i, error_text(&b.err));
        for (size_t k = 0; k < ARRAY_SIZE(table[i].has) && table[i].has[k]; k++)
            if (!strstr(b.line, table[i].has[k]))
                fail_msg("case %zu lacks '%s' in:\n%s", i, table[i].has[k], b.line);
        for (size_t k = 0; k < ARRAY_SIZE(table[i].lacks) && table[i].lacks[k]; k++)
            if (strstr(b.line, table[i].lacks[k]))
                fail_msg("case %zu has '%s' in:\n%s", i, table[i].lacks[k], b.line);
    }
}

static void microvm_refuses(void **state)
{
    static const struct {
        const char *domain, *text;
    } table[] = {
        {"\"devices\":{},\"machine\":{\"type\":\"q35\"}", "spec.domain.machine.type"},
        {"\"devices\":{},\"firmware\":{\"bootloader\":{\"efi\":{}}}", "firmware.bootloader.efi"},
        {"\"devices\":{},\"firmware\":{\"serial\":\"x\"}", "firmware.serial"},
        {"\"devices\":{},\"chassis\":{\"sku\":\"x\"}", "spec.domain.chassis"},
        {"\"devices\":{},\"features\":{\"smm\":{}}", "features.smm"},
        {"\"devices\":{},\"features\":{\"acpi\":{\"enabled\":false}}", "features.acpi"},
        {"\"devices\":{},\"clock\":{\"timer\":{\"hpet\":{}}}", "clock.timer.hpet"},
        {"\"devices\":{},\"clock\":{\"timer\":{\"pit\":{\"present\":false}}}", "clock.timer.pit.present"},
        {"\"devices\":{\"autoattachGraphicsDevice\":true}", "autoattachGraphicsDevice"},
        {"\"devices\":{\"watchdog\":{\"name\":\"w\",\"i6300esb\":{}}}", "devices.watchdog"},
        {"\"devices\":{\"sound\":{\"name\":\"s\"}}", "devices.sound"},
        {"\"devices\":{\"inputs\":[{\"name\":\"t\",\"type\":\"tablet\",\"bus\":\"usb\"}]}", "devices.inputs"},
        {"\"devices\":{\"useVirtioTransitional\":true}", "useVirtioTransitional"},
        {"\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"sata\"}}]}", "devices.disks[0].disk.bus"},
        {"\"devices\":{\"disks\":[{\"name\":\"a\",\"cdrom\":{}}]}", "devices.disks[0].cdrom"},
        {"\"devices\":{\"interfaces\":[{\"name\":\"a\",\"model\":\"e1000e\"}]}", "devices.interfaces[0].model"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(built_done) struct built b;
        AUTO_FREE char *spec = xasprintf("{\"domain\":{%s," MEM "}}", table[i].domain);

        build_on(&b, spec, &plain, true);
        assert_false(b.ok);
        if (!strstr(b.err.msg, table[i].text))
            fail_msg("case %zu says '%s'", i, b.err.msg);
    }
}

/* One disk more than there are places. */
static void microvm_is_full(void **state)
{
    AUTO(buf_done) struct buf spec = {0};
    struct vmm_disk disks[24];
    char names[24][8];
    struct vmm_machine m = plain;

    (void)state;
    buf_adds(&spec, "{\"domain\":{" MEM ",\"devices\":{\"disks\":[");
    for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
        snprintf(names[i], sizeof names[i], "d%zu", i);
        disks[i] = (struct vmm_disk){.name = str_of(names[i]), .fd = 50, .format = "raw", .backing_fd = -1};
        buf_addf(&spec, "%s{\"name\":\"d%zu\",\"disk\":{}}", i ? "," : "", i);
    }
    buf_adds(&spec, "]}}}");
    m.disks = disks;
    m.n_disks = ARRAY_SIZE(disks);
    AUTO(built_done) struct built b;
    build_on(&b, spec.p, &m, true);
    assert_false(b.ok);
    assert_non_null(strstr(b.err.msg, "23 places"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_lines),
        cmocka_unit_test(disks_and_nics),
        cmocka_unit_test(refused),
        cmocka_unit_test(microvm_lines),
        cmocka_unit_test(microvm_refuses),
        cmocka_unit_test(microvm_is_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
