#include "api/kv_config.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct json *parse(struct arena *a, struct str text)
{
    const struct json *v = NULL;
    struct error err = {0};

    if (!json_parse(text, a, &v, &err))
        fail_msg(STR_FMT ": %s", STR_ARG(text), error_text(&err));
    return v;
}

static const char *data_arg; /* folder of recordings; may be absent */

/* "00000000-0000-4000-8000-00000000000<n>" */
static void counting_uuid(void *data, char ret[37])
{
    unsigned *n = data;

    memcpy(ret, "00000000-0000-4000-8000-000000000000", 37);
    ret[35] = (char)('0' + (*n)++ % 10);
}

static void assert_json(const struct json *v, const char *want)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO_FREE char *text = json_text(v);

    if (!json_eq(v, parse(&a, str_of(want))))
        fail_msg("is     %s\nwanted %s", text, want);
}

enum what { VM, VMI };

/* One row: the object, and what stands at a path afterwards (NULL: nothing). */
struct row {
    const char *config; /* of a KubeVirt's spec.configuration, or NULL */
    const char *object;
    const char *path, *want;
};

static void check(enum what what, const struct row *row)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf kubevirt = {0};
    struct kv_config *c;
    unsigned n = 1;
    const struct kv_random r = {counting_uuid, &n};
    const struct json *o = parse(&a, str_of(row->object)), *v;
    AUTO_FREE char *text = NULL;

    buf_init(&kubevirt, 4096);
    buf_addf(&kubevirt, "{\"spec\":{\"configuration\":%s}}", row->config ? row->config : "{}");
    c = kv_config_new(parse(&a, buf_str(&kubevirt)));
    c->architecture = STR("amd64");
    o = what == VM ? kv_vm_default(o, c, &r, &a) : kv_vmi_default(o, c, &r, &a);
    v = json_at(o, row->path);
    kv_config_free(c);
    text = v ? json_text(v) : NULL;
    if (!row->want != !v || (v && !json_eq(v, parse(&a, str_of(row->want)))))
        fail_msg("%s\n%s is %s, wanted %s", row->object, row->path, text ? text : "absent",
                 row->want ? row->want : "absent");
}

static const struct row vm_rows[] = {
    {NULL,
     "{\"spec\":{\"running\":true,\"template\":{\"spec\":{\"domain\":{\"cpu\":{\"cores\":4},"
     "\"memory\":{\"guest\":\"8Gi\"}}}}}}",
     "spec",
     "{\"running\":true,\"template\":{\"metadata\":{\"annotations\":{\"kubevirt.io/"
     "pci-topology-version\":\"v3\"}},\"spec\":"
     "{\"architecture\":\"amd64\",\"domain\":{\"cpu\":{\"cores\":4},\"devices\":{},\"firmware\":{"
     "\"serial\":"
     "\"00000000-0000-4000-8000-000000000002\",\"uuid\":\"00000000-0000-4000-8000-000000000001\"},"
     "\"machine\":{\"type\":"
     "\"q35\"},\"memory\":{\"guest\":\"8Gi\"}}}}}"},
    {NULL,
     "{\"spec\":{\"template\":{\"spec\":{\"domain\":{\"firmware\":{\"uuid\":\"u\",\"serial\":\"s\"}"
     "}}}}}",
     "spec/template/spec/domain/firmware", "{\"uuid\":\"u\",\"serial\":\"s\"}"},
    {NULL, "{\"spec\":{\"template\":{\"spec\":{\"architecture\":\"arm64\"}}}}",
     "spec/template/spec/domain/machine/type", "\"virt\""},
    {"{\"machineType\":\"pc-q35-7.2\"}", "{\"spec\":{\"template\":{\"spec\":{}}}}",
     "spec/template/spec/domain/machine/type", "\"pc-q35-7.2\""},
    /* mistakes stay for validation to find */
    {NULL, "{\"spec\":{\"template\":\"x\"}}", "spec", "{\"template\":\"x\"}"},
    {NULL, "{\"spec\":{}}", "spec", "{}"},
    {NULL, "{\"spec\":{\"template\":{\"spec\":{\"domain\":[1]}}}}", "spec/template/spec/domain",
     "[1]"},
    {NULL, "{\"spec\":{\"template\":{\"spec\":{\"domain\":{\"machine\":3}}}}}",
     "spec/template/spec/domain/machine", "3"},
};

#define VMI_OF(domain, rest) "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"domain\":" domain rest "}}"
#define DEV(devices) VMI_OF("{\"devices\":{" devices "}}", "")

static const struct row vmi_rows[] = {
    {NULL, VMI_OF("{\"cpu\":{\"cores\":4},\"memory\":{\"guest\":\"8Gi\"}}", ""), "spec",
     "{\"architecture\":\"amd64\",\"domain\":{\"cpu\":{\"cores\":4,\"model\":\"host-model\"},"
     "\"devices\":{\"interfaces\":"
     "[{\"name\":\"default\",\"bridge\":{}}]},\"features\":{\"acpi\":{\"enabled\":true}},"
     "\"firmware\":{\"uuid\":"
     "\"00000000-0000-4000-8000-000000000001\"},\"machine\":{\"type\":\"q35\"},\"memory\":{"
     "\"guest\":\"8Gi\",\"maxGuest\":"
     "\"32Gi\"}},\"evictionStrategy\":\"None\",\"networks\":[{\"name\":\"default\",\"pod\":{}}]}"},
    {NULL,
     "{\"metadata\":{\"creationTimestamp\":\"T\"},\"spec\":{\"domain\":{\"memory\":{\"guest\":"
     "\"1Gi\"}}},\"status\":"
     "{\"nodeName\":\"n\",\"phase\":\"Running\",\"virtualMachineRevisionName\":\"r\"}}",
     "status",
     "{\"currentCPUTopology\":{\"cores\":1,\"sockets\":1,\"threads\":1},\"guestOSInfo\":{},"
     "\"memory\":{\"guestAtBoot\":"
     "\"1Gi\",\"guestCurrent\":\"1Gi\",\"guestRequested\":\"1Gi\"},\"phase\":\"Pending\","
     "\"phaseTransitionTimestamps\":"
     "[{\"phase\":\"Pending\",\"phaseTransitionTimestamp\":\"T\"}],\"runtimeUser\":107,"
     "\"virtualMachineRevisionName\":\"r\"}"},
    {NULL, VMI_OF("{}", ""), "metadata",
     "{\"name\":\"x\",\"annotations\":{\"kubevirt.io/pci-topology-version\":\"v3\"},\"finalizers\":"
     "[\"kubevirt.io/foregroundDeleteVirtualMachine\"]}"},
    /* memory and processors */
    {NULL, VMI_OF("{\"resources\":{\"limits\":{\"memory\":\"64M\"}}}", ""), "spec/domain/memory",
     "{\"guest\":\"64M\"}"},
    {NULL, VMI_OF("{\"resources\":{\"requests\":{\"memory\":1048576}}}", ""), "spec/domain/memory",
     "{\"guest\":\"1048576\"}"},
    {NULL, VMI_OF("{\"memory\":{\"hugepages\":{\"pageSize\":\"2Mi\"}}}", ""),
     "spec/domain/memory/guest", "\"2Mi\""},
    {NULL, VMI_OF("{\"memory\":{\"guest\":\"1024Mi\"}}", ""), "spec/domain/memory",
     "{\"guest\":\"1Gi\",\"maxGuest\":\"4Gi\"}"},
    {NULL, VMI_OF("{\"memory\":{\"guest\":\"1000M\"}}", ""), "spec/domain/memory",
     "{\"guest\":\"1G\"}"},
    {NULL, VMI_OF("{\"memory\":{\"guest\":\"1Gi\"},\"launchSecurity\":{\"tdx\":{}}}", ""),
     "spec/domain/memory/maxGuest", NULL},
    {"{\"liveUpdateConfiguration\":{\"maxGuest\":\"2Gi\"}}",
     VMI_OF("{\"memory\":{\"guest\":\"1Gi\"}}", ""), "spec/domain/memory/maxGuest", "\"2Gi\""},
    {"{\"vmRolloutStrategy\":\"Stage\"}", VMI_OF("{\"memory\":{\"guest\":\"1Gi\"}}", ""),
     "spec/domain/memory/maxGuest", NULL},
    {NULL, VMI_OF("{\"resources\":{\"limits\":{\"cpu\":\"2500m\"}}}", ""), "spec/domain/cpu",
     "{\"sockets\":3,\"cores\":1,\"threads\":1,\"maxSockets\":12,\"model\":\"host-model\"}"},
    {NULL, VMI_OF("{\"resources\":{\"limits\":{\"cpu\":2}}}", ""), "spec/domain/resources",
     "{\"limits\":{\"cpu\":\"2\"},\"requests\":{\"cpu\":\"2\"}}"},
    {NULL, VMI_OF("{\"cpu\":{\"sockets\":100,\"cores\":2,\"threads\":2}}", ""),
     "spec/domain/cpu/maxSockets", "128"},
    {NULL, VMI_OF("{\"cpu\":{\"sockets\":4,\"cores\":4294967295,\"threads\":4294967295}}", ""),
     "spec/domain/cpu/maxSockets", "4"},
    {"{\"liveUpdateConfiguration\":{\"maxCpuSockets\":2}}", VMI_OF("{\"cpu\":{\"sockets\":3}}", ""),
     "spec/domain/cpu/maxSockets", "3"},
    {"{\"cpuRequest\":\"200m\"}", VMI_OF("{}", ""), "spec/domain/resources/requests/cpu",
     "\"200m\""},
    {"{\"cpuModel\":\"EPYC\"}", VMI_OF("{}", ""), "spec/domain/cpu/model", "\"EPYC\""},
    /* networks */
    {"{\"network\":{\"defaultNetworkInterface\":\"masquerade\"}}", VMI_OF("{}", ""),
     "spec/domain/devices/interfaces", "[{\"name\":\"default\",\"masquerade\":{}}]"},
    {NULL, DEV("\"autoattachPodInterface\":false"), "spec/networks", NULL},
    /* volumes and disks */
    {NULL,
     VMI_OF("{}", ",\"volumes\":[{\"name\":\"a\",\"emptyDisk\":{\"capacity\":1073741824}},{"
                  "\"name\":\"m\",\"memoryDump\":{}}]"),
     "spec/domain/devices/disks", "[{\"name\":\"a\",\"disk\":{\"bus\":\"sata\"}}]"},
    {NULL,
     VMI_OF("{}", ",\"volumes\":[{\"name\":\"a\",\"containerDisk\":{\"image\":\"r:5000/x\"}}]"),
     "spec/volumes/0/containerDisk", "{\"image\":\"r:5000/x\",\"imagePullPolicy\":\"Always\"}"},
    {NULL, VMI_OF("{}", ",\"volumes\":[{\"name\":\"a\",\"containerDisk\":{\"image\":\"oci:x\"}}]"),
     "spec/volumes/0/containerDisk/imagePullPolicy", "\"Always\""},
    {NULL, VMI_OF("{}", ",\"volumes\":[{\"name\":\"a\",\"containerDisk\":{\"image\":\"x:1\"}}]"),
     "spec/volumes/0/containerDisk/imagePullPolicy", "\"IfNotPresent\""},
    {NULL,
     VMI_OF("{}", ",\"volumes\":[{\"name\":\"a\",\"containerDisk\":{\"image\":\"x@sha256:0\"}}]"),
     "spec/volumes/0/containerDisk/imagePullPolicy", "\"IfNotPresent\""},
    {NULL,
     VMI_OF("{}", ",\"volumes\":[{\"name\":\"a\",\"containerDisk\":{\"image\":\"x/y:latest\"}}]"),
     "spec/volumes/0/containerDisk/imagePullPolicy", "\"Always\""},
    {NULL, DEV("\"disks\":[{\"name\":\"a\",\"cdrom\":{}}]"), "spec/domain/devices/disks/0",
     "{\"name\":\"a\",\"cdrom\":{\"bus\":\"sata\",\"readonly\":true,\"tray\":\"closed\"}}"},
    {NULL,
     DEV("\"disks\":[{\"name\":\"a\",\"lun\":{\"bus\":\"scsi\"}},{\"name\":\"b\",\"disk\":null}]"),
     "spec/domain/devices/disks",
     "[{\"name\":\"a\",\"lun\":{\"bus\":\"scsi\"}},{\"name\":\"b\",\"disk\":{\"bus\":\"sata\"}}]"},
    {NULL, DEV("\"inputs\":[{\"name\":\"t\",\"type\":\"tablet\"}]"), "spec/domain/devices/inputs",
     "[{\"name\":\"t\",\"type\":\"tablet\",\"bus\":\"usb\"}]"},
    {NULL, DEV("\"autoattachInputDevice\":true"), "spec/domain/devices/inputs",
     "[{\"name\":\"default-0\",\"type\":\"tablet\",\"bus\":\"usb\"}]"},
    {NULL, DEV("\"watchdog\":{\"name\":\"w\",\"i6300esb\":{}}"),
     "spec/domain/devices/watchdog/i6300esb", "{\"action\":\"reset\"}"},
    /* features */
    {NULL,
     VMI_OF("{\"features\":{\"smm\":{},\"acpi\":{\"enabled\":false},\"kvm\":{\"hidden\":true}}}",
            ""),
     "spec/domain/features",
     "{\"smm\":{\"enabled\":true},\"acpi\":{\"enabled\":false},\"kvm\":{\"hidden\":true}}"},
    {NULL, VMI_OF("{\"features\":{\"hyperv\":{\"synictimer\":{},\"spinlocks\":{}}}}", ""),
     "spec/domain/features/hyperv",
     "{\"synictimer\":{\"enabled\":true},\"spinlocks\":{\"enabled\":true,\"spinlocks\":4096},"
     "\"synic\":{\"enabled\":true},"
     "\"vpindex\":{\"enabled\":true}}"},
    {NULL, VMI_OF("{\"features\":{\"hyperv\":{\"evmcs\":{}}}}", ""), "spec/domain/cpu/features",
     "[{\"name\":\"vmx\",\"policy\":\"require\"}]"},
    {NULL, VMI_OF("{\"features\":{\"hyperv\":{\"ipi\":{},\"vpindex\":{\"enabled\":false}}}}", ""),
     "spec/domain/features/hyperv/vpindex", "{\"enabled\":false}"},
    {NULL,
     VMI_OF("{\"clock\":{\"utc\":{},\"timer\":{\"hpet\":{\"present\":false},\"kvm\":{}}}}", ""),
     "spec/domain/clock/timer", "{\"hpet\":{\"present\":false},\"kvm\":{\"present\":true}}"},
    {NULL, VMI_OF("{}", ",\"livenessProbe\":{\"tcpSocket\":{\"port\":22},\"periodSeconds\":5}"),
     "spec/livenessProbe",
     "{\"tcpSocket\":{\"port\":22},\"periodSeconds\":5,\"timeoutSeconds\":1,\"successThreshold\":1,"
     "\"failureThreshold\":3}"},
    /* other architectures */
    {NULL, VMI_OF("{\"devices\":{\"disks\":[{\"name\":\"a\"}]}}", ",\"architecture\":\"arm64\""),
     "spec/domain",
     "{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"virtio\"}}],\"interfaces\":[{"
     "\"name\":\"default\",\"bridge\":"
     "{}}]},\"machine\":{\"type\":\"virt\"},\"cpu\":{\"sockets\":1,\"cores\":1,\"threads\":1,"
     "\"model\":\"host-passthrough\"},"
     "\"features\":{\"acpi\":{\"enabled\":true}},\"firmware\":{\"uuid\":\"00000000-0000-4000-8000-"
     "000000000001\",\"bootloader\":"
     "{\"efi\":{\"secureBoot\":false}}}}"},
    /* mistakes stay */
    {NULL, "{\"spec\":{\"domain\":7}}", "", NULL},
    {NULL, "{\"spec\":{\"domain\":{\"cpu\":\"many\",\"devices\":{\"disks\":{\"a\":1}}}}}",
     "spec/domain/cpu", "\"many\""},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[\"a\",{\"cdrom\":5}]}}}}",
     "spec/domain/devices/disks", "[\"a\",{\"cdrom\":5}]"},
};

static void test_vm(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(vm_rows); i++)
        check(VM, &vm_rows[i]);
}

static void test_vmi(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(vmi_rows); i++)
        if (vmi_rows[i].path[0])
            check(VMI, &vmi_rows[i]);
}

/* What upstream's two webhooks made of one VM, without what they filled in, comes out the same here. */
static void test_recording(void **state)
{
    static const char *const filled[] = {"spec/template/metadata",
                                         "spec/template/spec/architecture",
                                         "spec/template/spec/domain/machine"};
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    const char *data = getenv("VIREO_DATA") ? getenv("VIREO_DATA") : data_arg;
    AUTO_FREE char *path = NULL;
    const struct json *vm = NULL, *vmi = NULL, *made;
    struct kv_config *c = kv_config_new(NULL);
    unsigned n = 1;
    const struct kv_random r = {counting_uuid, &n};
    struct str rest, line;

    (void)state;
    c->architecture = STR("amd64");
    buf_init(&text, 64u << 20);
    path = str_dup(str_of(arena_printf(&a, "%s/kubevirt-live/vm-life.jsonl", data ? data : ".")));
    if (!file_read(AT_FDCWD, path, &text, &err)) {
        print_message("skipped: %s\n", error_text(&err));
        kv_config_free(c);
        skip();
    }
    rest = buf_str(&text);
    while (str_next(&rest, '\n', &line) && !vmi) {
        const struct json *event = line.n ? parse(&a, line) : NULL;

        if (!str_is(json_str_at(event, "type"), "ADDED"))
            continue;
        if (str_is(json_str_at(event, "res"), "vm"))
            vm = json_get(event, "object");
        else if (str_is(json_str_at(event, "res"), "vmi"))
            vmi = json_get(event, "object");
    }
    assert_non_null(vm);
    assert_non_null(vmi);

    made = vm;
    for (size_t i = 0; i < ARRAY_SIZE(filled); i++)
        made = json_with_at(&a, made, filled[i], NULL);
    made = kv_vm_default(made, c, &r, &a);
    assert_true(json_eq(json_get(made, "spec"), json_get(vm, "spec")));

    made = kv_vmi_from_vm(vm, &a);
    made = json_with_at(&a, made, "metadata/creationTimestamp",
                        json_at(vmi, "metadata/creationTimestamp"));
    made = json_with_at(&a, made, "status/virtualMachineRevisionName",
                        json_at(vmi, "status/virtualMachineRevisionName"));
    made = kv_vmi_default(made, c, &r, &a);
    path = (free(path), json_text(json_get(vmi, "spec")));
    assert_json(json_get(made, "spec"), path);
    path = (free(path), json_text(json_get(vmi, "status")));
    assert_json(json_get(made, "status"), path);
    assert_true(json_eq(json_at(made, "metadata/finalizers"), json_at(vmi, "metadata/finalizers")));
    assert_true(
        json_eq(json_at(made, "metadata/annotations"), json_at(vmi, "metadata/annotations")));
    kv_config_free(c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vm), cmocka_unit_test(test_vmi),
                                       cmocka_unit_test(test_recording)};

    data_arg = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
