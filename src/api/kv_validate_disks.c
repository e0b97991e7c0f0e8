/* Rules of spec.volumes and spec.domain.devices.disks: each on its own, and each against the other. */
#include "api/kv_rules.h"

#include "api/names.h"
#include "api/quantity.h"
#include "base/buf.h"
#include "base/cleanup.h"

#define INLINE_MAX 2048 /* bytes of inline cloud-init data */
#define SERIAL_MAX 256
#define BLOCK_SIZE_MIN 512
#define BLOCK_SIZE_MAX 2097152

const char *const kv_volume_sources[] = {"cloudInitConfigDrive",
                                         "cloudInitNoCloud",
                                         "configMap",
                                         "containerDisk",
                                         "containerPath",
                                         "dataVolume",
                                         "downwardAPI",
                                         "downwardMetrics",
                                         "emptyDisk",
                                         "ephemeral",
                                         "hostDisk",
                                         "memoryDump",
                                         "persistentVolumeClaim",
                                         "secret",
                                         "serviceAccount",
                                         "sysprep",
                                         NULL};

const char *kv_disk_target(const struct json *disk)
{
    static const char *const targets[] = {"disk", "cdrom", "lun"};

    for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
        if (kv_has(disk, targets[i]))
            return targets[i];
    return NULL;
}

struct str kv_disk_bus(const struct json *disk)
{
    const char *target = kv_disk_target(disk);

    return target ? json_str_at(json_get(disk, target), "bus") : STR_NONE;
}

/* ---- volumes --------------------------------------------------------------------------------------------------------------- */

static void check_cloud_init(struct rules *r, const struct json *volume, const char *kind,
                             const char *at)
{
    static const struct {
        const char *plain, *base64, *secret, *word, *larger, *one;
    } parts[] = {{"userData", "userDataBase64", "secretRef", "userdata", "UserDataSecretRef",
                  "userdatasource"},
                 {"networkData", "networkDataBase64", "networkDataSecretRef", "networkdata",
                  "NetworkDataSecretRef", "networkdata source"}};
    const struct json *source = json_get(volume, kind);
    const char *field = arena_printf(r->a, "%s.%s", at, kind);
    size_t all = 0;

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        struct str plain = json_str_at(source, parts[i].plain),
                   base64 = json_str_at(source, parts[i].base64);
        size_t n = (plain.n > 0) + (base64.n > 0) + kv_has(source, parts[i].secret),
               bytes = plain.n;

        if (base64.n) {
            AUTO(buf_done) struct buf b = {0};
            AUTO(error_clear) struct error err = {0};

            buf_init(&b, LIMIT_OBJECT_BYTES);
            if (!buf_add_base64_decoded(&b, base64, &err))
                rules_invalid(r, arena_printf(r->a, "%s.%s", field, parts[i].base64),
                              "%s.%s is not a valid base64 value.", field, parts[i].base64);
            bytes = b.n;
        }
        if (n > 1)
            rules_invalid(r, field, "%s must have only one %s set.", field, parts[i].one);
        else if (bytes > INLINE_MAX)
            rules_invalid(r, field, "%s %s exceeds %d byte limit. Should use %s for larger data.",
                          field, parts[i].word, INLINE_MAX, parts[i].larger);
        all += n;
    }
    if (all == 0)
        rules_invalid(r, field,
                      "%s must have at least one userdatasource or one networkdatasource set.",
                      field);
}

static void check_host_disk(struct rules *r, const struct json *disk, const char *at)
{
    struct str type = json_str_at(disk, "type");

    if (!kv_gate(r->c, "HostDisk"))
        rules_invalid(r, at, "HostDisk feature gate is not enabled");
    if (!json_str_at(disk, "path").n)
        rules_invalid(r, arena_printf(r->a, "%s.hostDisk.path", at),
                      "%s.hostDisk.path is required for hostDisk volume", at);
    if (!str_is(type, "Disk") && !str_is(type, "DiskOrCreate"))
        rules_invalid(r, arena_printf(r->a, "%s.hostDisk.type", at),
                      "%s.hostDisk.type has invalid value '" STR_FMT
                      "', allowed are 'Disk' or 'DiskOrCreate'",
                      at, STR_ARG(type));
    if (kv_has(disk, "capacity") && !str_is(type, "DiskOrCreate"))
        rules_invalid(r, arena_printf(r->a, "%s.hostDisk.capacity", at),
                      "%s.hostDisk.capacity is allowed to pass only with %s.hostDisk.type equal to "
                      "'DiskOrCreate'",
                      at, at);
}

/* "/disk/a.img": absolute, no "." or "..", no empty parts, not the root. */
static bool clean_path(struct str path)
{
    struct str rest = path, part;

    if (path.n < 2 || path.p[0] != '/' || memchr(path.p, '\0', path.n))
        return false;
    rest = str_skip(path, 1);
    while (str_next(&rest, '/', &part))
        if (part.n == 0 || str_is(part, ".") || str_is(part, ".."))
            return false;
    return true;
}

static void check_container_disk(struct rules *r, const struct json *disk, const char *at)
{
    struct str path = json_str_at(disk, "path");
    const char *field = arena_printf(r->a, "%s.containerDisk.path", at);

    if (path.n && str_is(path, "/"))
        rules_invalid(r, field, "%s must not point to root", field);
    else if (path.n && !clean_path(path))
        rules_invalid(r, field, "%s must be an absolute path to a file without relative elements",
                      field);
}

static void check_container_path(struct rules *r, const struct json *volume, const char *at)
{
    static const struct str reserved[] = {STR_INIT("/var/run/kubevirt"),
                                          STR_INIT("/var/run/libvirt")};
    struct str name = json_str_at(volume, "name"), path = json_str_at(volume, "containerPath/path");

    if (kv_named(json_get(r->devices, "disks"), name))
        rules_invalid(
            r, at, "ContainerPath volume '" STR_FMT "' must be mapped to a filesystem, not a disk",
            STR_ARG(name));
    else if (!kv_named(json_get(r->devices, "filesystems"), name))
        rules_invalid(r, at,
                      "ContainerPath volume '" STR_FMT
                      "' must have a matching filesystem defined in %s",
                      STR_ARG(name), rules_at(r, "domain.devices.filesystems"));
    for (size_t i = 0; i < ARRAY_SIZE(reserved); i++)
        if (str_starts(path, reserved[i]))
            rules_invalid(r, arena_printf(r->a, "%s.containerPath.path", at),
                          "ContainerPath volume '" STR_FMT "' uses reserved path prefix '" STR_FMT
                          "'",
                          STR_ARG(name), STR_ARG(reserved[i]));
}

static void check_required_fields(struct rules *r, const struct json *volume, const char *source,
                                  const char *at)
{
    static const struct {
        const char *source, *field;
    } table[] = {{"configMap", "name"},
                 {"secret", "secretName"},
                 {"serviceAccount", "serviceAccountName"},
                 {"persistentVolumeClaim", "claimName"},
                 {"containerDisk", "image"},
                 {"memoryDump", "claimName"}};

    if (strcmp(source, "dataVolume") == 0 && !json_str_at(volume, "dataVolume/name").n)
        rules_invalid(r, arena_printf(r->a, "%s.name", at), "DataVolume 'name' must be set");
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (strcmp(source, table[i].source) == 0
            && !json_str_at(json_get(volume, source), table[i].field).n)
            rules_invalid(r, arena_printf(r->a, "%s.%s.%s", at, source, table[i].field),
                          "%s.%s.%s is a required field", at, source, table[i].field);
    if (strcmp(source, "ephemeral") == 0
        && !json_str_at(volume, "ephemeral/persistentVolumeClaim/claimName").n)
        rules_invalid(r, arena_printf(r->a, "%s.ephemeral.persistentVolumeClaim.claimName", at),
                      "%s.ephemeral.persistentVolumeClaim.claimName is a required field", at);
}

static void check_empty_disk(struct rules *r, const struct json *disk, const char *at)
{
    struct quantity q;

    if (kv_read_quantity(json_get(disk, "capacity"), &q) && quantity_value(q) < 1 << 20)
        rules_invalid(r, arena_printf(r->a, "%s.emptyDisk.capacity", at),
                      "%s.emptyDisk.capacity '%s': must be greater than or equal to 1Mi.", at,
                      quantity_text(r->a, q));
}

static void check_source(struct rules *r, const struct json *volume, const char *at)
{
    const char *source = NULL;

    if (kv_count(volume, kv_volume_sources, &source) != 1) {
        rules_invalid(r, at, "%s must have exactly one source type set", at);
        return;
    }
    check_required_fields(r, volume, source, at);
    if (strncmp(source, "cloudInit", strlen("cloudInit")) == 0)
        check_cloud_init(r, volume, source, at);
    else if (strcmp(source, "hostDisk") == 0)
        check_host_disk(r, json_get(volume, source), at);
    else if (strcmp(source, "containerDisk") == 0)
        check_container_disk(r, json_get(volume, source), at);
    else if (strcmp(source, "containerPath") == 0)
        check_container_path(r, volume, at);
    else if (strcmp(source, "emptyDisk") == 0)
        check_empty_disk(r, json_get(volume, source), at);
    else if (strcmp(source, "downwardMetrics") == 0 && !kv_gate(r->c, "DownwardMetrics"))
        rules_invalid(
            r, at,
            "downwardMetrics disks are not allowed: DownwardMetrics feature gate is not enabled.");
    else if (strcmp(source, "sysprep") == 0) {
        bool map = json_str_at(volume, "sysprep/configMap/name").n > 0,
             secret = json_str_at(volume, "sysprep/secret/name").n > 0;

        if (map == secret)
            rules_invalid(r, at, "%s.sysprep must have exactly one of configMap and secret set",
                          at);
    }
}

static size_t first_of(const struct json *list, struct str name)
{
    size_t i = 0;

    json_each_item(item, list) {
        if (str_eq(json_str_at(item, "name"), name))
            return i;
        i++;
    }
    return SIZE_MAX;
}

static void check_volumes(struct rules *r)
{
    static const struct {
        const char *source, *word;
    } single[] = {{"serviceAccount", "serviceAccount"},
                  {"downwardMetrics", "downwardMetric"},
                  {"memoryDump", "memory dump"}};
    const struct json *volumes = json_get(r->spec, "volumes");
    size_t count[ARRAY_SIZE(single)] = {0}, i = 0;

    json_each_item(volume, volumes) {
        struct str name = json_str_at(volume, "name");
        const char *at = rules_at(r, "volumes[%zu]", i), *why = name_dns1123_label(name);
        size_t other = first_of(volumes, name);

        if (other != i)
            rules_invalid(r, arena_printf(r->a, "%s.name", at),
                          "%s and %s must not have the same Name.", at,
                          rules_at(r, "volumes[%zu]", other));
        if (why)
            rules_invalid(r, arena_printf(r->a, "%s.name", at), "%s", why);
        check_source(r, volume, at);
        for (size_t k = 0; k < ARRAY_SIZE(single); k++)
            count[k] += kv_has(volume, single[k].source);
        if (!r->vm && !kv_has(volume, "memoryDump")
            && !kv_named(json_get(r->devices, "disks"), name)
            && !kv_named(json_get(r->devices, "filesystems"), name))
            rules_invalid(r, rules_at(r, "domain.volumes[%zu].name", i),
                          "%s '" STR_FMT "' not found.", rules_at(r, "domain.volumes[%zu].name", i),
                          STR_ARG(name));
        i++;
    }
    for (size_t k = 0; k < ARRAY_SIZE(single); k++)
        if (count[k] > 1)
            rules_invalid(r, rules_at(r, "volumes"), "%s must have max one %s volume set",
                          rules_at(r, "volumes"), single[k].word);
}

/* ---- disks ----------------------------------------------------------------------------------------------------------------- */

static void check_bus(struct rules *r, const struct json *disk, const char *at)
{
    static const char *const buses[] = {"virtio", "sata", "scsi", "usb", NULL};
    const char *target = kv_disk_target(disk), *field;
    struct str bus = kv_disk_bus(disk), address = json_str_at(disk, "disk/pciAddress"),
               name = json_str_at(disk, "name");
    bool arm = str_is(json_str_at(r->spec, "architecture"), "arm64");

    if (address.n && bus.n && !str_is(bus, "virtio"))
        rules_invalid(r, arena_printf(r->a, "%s.disk.pciAddress", at),
                      "disk " STR_FMT
                      " - setting a PCI address is only possible with bus type virtio.",
                      STR_ARG(name));
    if (address.n && !kv_pci_address(address))
        rules_invalid(r, arena_printf(r->a, "%s.disk.pciAddress", at),
                      "disk " STR_FMT " has malformed PCI address (" STR_FMT ").", STR_ARG(name),
                      STR_ARG(address));
    if (!target || !bus.n)
        return;
    field = arena_printf(r->a, "%s.%s.bus", at, target);
    if (str_is(bus, "ide"))
        rules_invalid(r, field, "IDE bus is not supported");
    else if (strcmp(target, "cdrom") == 0 && str_is(bus, "virtio"))
        rules_invalid(r, field, "Bus type " STR_FMT " is invalid for CD-ROM device", STR_ARG(bus));
    else if (!kv_one_of(bus, buses))
        rules_invalid(r, field,
                      "%s is set with an unrecognized bus " STR_FMT
                      ", must be one of: [virtio sata scsi usb]",
                      field, STR_ARG(bus));
    else if (arm && !str_is(bus, "virtio") && !str_is(bus, "scsi"))
        rules_not_supported(r, field,
                            "Arm64 not support this disk bus type, please use virtio or scsi");
    if (str_is(bus, "sata") && strcmp(target, "disk") == 0
        && json_bool_at(disk, "disk/readonly", false))
        rules_invalid(r, field, STR_FMT " hard-disks do not support read-only.", STR_ARG(bus));
    if (json_bool_at(disk, "dedicatedIOThread", false) && !str_is(bus, "virtio"))
        rules_invalid(r, field, "IOThreads are not supported for disks on a " STR_FMT " bus",
                      STR_ARG(bus));
}

static bool serial_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
              || (c && strchr("_.+-", c))))
            return false;
    }
    return true;
}

static void check_serial(struct rules *r, const struct json *disk, const char *at)
{
    struct str serial = json_str_at(disk, "serial");
    const char *field = arena_printf(r->a, "%s.serial", at);

    if (serial.n > SERIAL_MAX)
        rules_invalid(r, field, "%s must be less than or equal to %d in length, if specified",
                      field, SERIAL_MAX);
    if (!serial_ok(serial))
        rules_invalid(
            r, field,
            "%s must be made up of the following characters [A-Za-z0-9_.+-], if specified", field);
}

static void check_enums(struct rules *r, const struct json *disk, const char *at)
{
    static const char *const io[] = {"native", "threads", NULL}, *const cache[] = {
                                                                     "none", "writethrough",
                                                                     "writeback", NULL};
    static const char *const policies[] = {"stop", "ignore", "report", "enospace", NULL};
    struct str s;

    s = json_str_at(disk, "io");
    if (s.n && !kv_one_of(s, io))
        rules_invalid(
            r, arena_printf(r->a, "%s.io", at),
            "Disk IO mode for %s.io is not supported. Supported modes are: native, threads.", at);
    s = json_str_at(disk, "cache");
    if (s.n && !kv_one_of(s, cache))
        rules_invalid(r, arena_printf(r->a, "%s.cache", at), "%s.cache has invalid value " STR_FMT,
                      at, STR_ARG(s));
    s = json_str_at(disk, "errorPolicy");
    if (kv_has(disk, "errorPolicy") && !kv_one_of(s, policies))
        rules_invalid(r, arena_printf(r->a, "%s.errorPolicy", at),
                      "%s.errorPolicy has invalid value \"" STR_FMT "\"", at, STR_ARG(s));
}

static void check_one_size(struct rules *r, const char *field, int64_t size)
{
    if (size < BLOCK_SIZE_MIN)
        rules_invalid(r, field,
                      "Provided size of %lld is less than the supported minimum size of %d",
                      (long long)size, BLOCK_SIZE_MIN);
    else if (size > BLOCK_SIZE_MAX)
        rules_invalid(r, field,
                      "Provided size of %lld is greater than the supported maximum size of %d",
                      (long long)size, BLOCK_SIZE_MAX);
    else if (size & (size - 1))
        rules_invalid(r, field, "Provided size of %lld is not a power of 2", (long long)size);
}

static void check_block_size(struct rules *r, const struct json *disk, const char *at)
{
    const struct json *size = json_get(disk, "blockSize"), *custom = json_get(size, "custom");
    const char *field = arena_printf(r->a, "%s.blockSize", at),
               *logical_field = arena_printf(r->a, "%s.custom.logical", field);
    int64_t logical = json_i64_at(custom, "logical", 0),
            physical = json_i64_at(custom, "physical", 0);
    int64_t discard = json_i64_at(custom, "discardGranularity", 0);

    if (!kv_has(disk, "blockSize"))
        return;
    if (kv_has(size, "custom") && kv_enabled(json_get(size, "matchVolume")))
        rules_invalid(r, field,
                      "Block size matching can't be enabled together with a custom value");
    if (!kv_has(size, "custom"))
        return;
    check_one_size(r, logical_field, logical);
    check_one_size(r, arena_printf(r->a, "%s.custom.physical", field), physical);
    if (logical > physical)
        rules_invalid(r, logical_field,
                      "Logical size %lld must be the same or less than the physical size of %lld",
                      (long long)logical, (long long)physical);
    if (logical > BLOCK_SIZE_MIN && str_is(kv_disk_bus(disk), "sata"))
        rules_invalid(r, logical_field, "Logical size %lld is not supported on a sata bus, use %d",
                      (long long)logical, BLOCK_SIZE_MIN);
    if (discard < 0 || (discard > 0 && logical > 0 && discard % logical))
        rules_invalid(r, arena_printf(r->a, "%s.custom.discardGranularity", field),
                      "Discard granularity %lld must be a multiple of the logical size of %lld",
                      (long long)discard, (long long)logical);
}

static void check_volume_of(struct rules *r, const struct json *disk, const char *at)
{
    struct str name = json_str_at(disk, "name");
    const struct json *volume = kv_named(json_get(r->spec, "volumes"), name);

    if (!volume && kv_has(disk, "cdrom") && !kv_has(disk, "disk") && !kv_has(disk, "lun")) {
        if (!kv_gate(r->c, "DeclarativeHotplugVolumes"))
            rules_invalid(r, at,
                          "DeclarativeHotplugVolumes feature gate not enabled, cannot define an "
                          "empty CD-ROM disk");
        return;
    }
    if (!volume)
        rules_invalid(r, arena_printf(r->a, "%s.name", at), "%s.Name '" STR_FMT "' not found.", at,
                      STR_ARG(name));
    else if (kv_has(disk, "lun") && !kv_has(volume, "dataVolume")
             && !kv_has(volume, "persistentVolumeClaim"))
        rules_invalid(r, arena_printf(r->a, "%s.lun", at),
                      "%s.lun can only be mapped to a DataVolume or PersistentVolumeClaim volume.",
                      at);
}

static void check_disk(struct rules *r, const struct json *disk, const char *at)
{
    static const char *const targets[] = {"cdrom", "disk", "lun", NULL};
    static const char *const trays[] = {"open", "closed", NULL};
    const char *why = name_dns1123_label(json_str_at(disk, "name"));
    struct str tray = json_str_at(disk, "cdrom/tray");

    if (why)
        rules_invalid(r, arena_printf(r->a, "%s.name", at), "%s", why);
    check_volume_of(r, disk, at);
    if (kv_count(disk, targets, NULL) > 1)
        rules_invalid(r, at, "%s can only have a single target type defined", at);
    check_bus(r, disk, at);
    check_serial(r, disk, at);
    check_enums(r, disk, at);
    check_block_size(r, disk, at);
    if (tray.n && !kv_one_of(tray, trays))
        rules_invalid(r, arena_printf(r->a, "%s.cdrom.tray", at),
                      "%s.cdrom.tray is set with an unrecognized option: " STR_FMT, at,
                      STR_ARG(tray));
    if (json_bool_at(disk, "lun/reservation", false) && !kv_gate(r->c, "PersistentReservation"))
        rules_invalid(r, arena_printf(r->a, "%s.lun.reservation", at),
                      "PersistentReservation feature gate is not enabled in kubevirt-config");
}

/* Disks and interfaces share one order. */
static void check_boot_orders(struct rules *r)
{
    static const char *const lists[] = {"disks", "interfaces"};
    AUTO(buf_done) struct buf taken = {0};

    buf_init(&taken, 64 << 10);
    for (size_t k = 0; k < ARRAY_SIZE(lists); k++) {
        size_t i = 0;

        json_each_item(device, json_get(r->devices, lists[k])) {
            const char *at = rules_at(r, "domain.devices.%s[%zu]", lists[k], i++);
            const char *field = arena_printf(r->a, "%s.bootOrder", at);
            int64_t order = 0;
            bool twice = false;

            if (!kv_has(device, "bootOrder") || !json_i64(json_get(device, "bootOrder"), &order))
                continue;
            if (order < 1) {
                rules_invalid(r, field, "%s must have a boot order > 0, if supplied", at);
                continue;
            }
            for (size_t b = 0; b + sizeof order <= taken.n; b += sizeof order)
                twice |= memcmp(taken.p + b, &order, sizeof order) == 0;
            if (twice)
                rules_invalid(r, field, "Boot order for %s already set for a different device.",
                              field);
            else
                buf_add(&taken, &order, sizeof order);
        }
    }
}

void rules_disks(struct rules *r)
{
    const struct json *disks = json_get(r->devices, "disks");
    size_t i = 0;

    check_volumes(r);
    json_each_item(disk, disks) {
        const char *at = rules_at(r, "domain.devices.disks[%zu]", i);
        size_t other = first_of(disks, json_str_at(disk, "name"));

        if (other != i)
            rules_invalid(r, at, "%s and %s must not have the same Name.", at,
                          rules_at(r, "domain.devices.disks[%zu]", other));
        check_disk(r, disk, at);
        i++;
    }
    i = 0;
    json_each_item(fs, json_get(r->devices, "filesystems")) {
        struct str name = json_str_at(fs, "name");
        const char *field = rules_at(r, "domain.devices.filesystems[%zu].name", i++);
        const struct json *volume = kv_named(json_get(r->spec, "volumes"), name);

        if (!volume)
            rules_invalid(r, field, "%s '" STR_FMT "' not found.", field, STR_ARG(name));
        else if ((kv_has(volume, "persistentVolumeClaim") || kv_has(volume, "dataVolume"))
                 && !kv_gate(r->c, "EnableVirtioFsStorageVolumes"))
            rules_invalid(r, field,
                          "virtiofs is not allowed: virtiofs feature gate is not enabled for PVC");
    }
    check_boot_orders(r);
}
