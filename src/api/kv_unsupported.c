/* What is valid in KubeVirt and cannot be done by this release: one table of paths. A field that nobody reads would be a promise
 * that is quietly broken, so it is refused where it is written, with the reason. Whoever teaches a driver, the launcher or the
 * pod one of these takes its line away. */
#include "api/kv_rules.h"

#include "base/buf.h"
#include "base/cleanup.h"

enum when {
    WHEN_SET, /* present; lists: not empty */
    WHEN_TRUE,
    WHEN_FALSE,
    WHEN_ON,    /* a switch {"enabled": …} that is not off */
    WHEN_TEXT,  /* the text of `value` */
    WHEN_OTHER, /* any other text than `value` */
};

struct refusal {
    const char *path; /* below the VMI's spec; "*": each item of a list */
    enum when when;
    const char *reason;
    const char *value;
};

#define NAME_TAKEN "the launcher pod has a volume of that name; choose another"
#define NO_AGENT "nothing runs commands or sets credentials through the guest agent yet"
#define NO_PASSING "devices of the host are not passed through yet"
#define NO_PINNING "vCPUs are not pinned to host CPUs yet"
#define NO_HOTPLUG                                                                                 \
    "volumes are not plugged in and out of a running machine yet; leave hotpluggable out"
#define NO_CDI                                                                                     \
    "there are no DataVolumes here yet; make a PersistentVolumeClaim and use volumes of that kind"
#define NO_PROBES "nothing runs probes yet"
#define NO_VIRTIOFS "filesystems are not shared by virtiofs yet; use a disk"
#define NO_STATE "there is no storage for the machine's state yet"
#define NO_TAGS "the config drive does not list devices yet"
#define NO_BINDING "use masquerade: {} or bridge: {}"
#define NO_ENCLAVES "confidential machines are not started yet"

static const struct refusal refusals[] = {
    {"accessCredentials/*/userPassword", WHEN_SET, NO_AGENT, NULL},
    {"accessCredentials/*/sshPublicKey/propagationMethod/qemuGuestAgent", WHEN_SET, NO_AGENT, NULL},
    {"affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution", WHEN_SET,
     "the scheduler does not look at other pods yet", NULL},
    {"affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution", WHEN_SET,
     "the scheduler does not look at other pods yet", NULL},
    {"livenessProbe", WHEN_SET, NO_PROBES, NULL},
    {"readinessProbe", WHEN_SET, NO_PROBES, NULL},
    {"networks/*/multus", WHEN_SET, "there is only the pod network here: give the network pod: {}",
     NULL},
    {"resourceClaims", WHEN_SET, "resources are not allocated dynamically here", NULL},
    {"schedulerName", WHEN_OTHER, "there is only that scheduler here: default-scheduler",
     "default-scheduler"},
    {"utilityVolumes", WHEN_SET, NO_HOTPLUG, NULL},

    {"volumes/*/containerPath", WHEN_SET, NO_VIRTIOFS, NULL},
    {"volumes/*/dataVolume", WHEN_SET, NO_CDI, NULL},
    {"volumes/*/downwardAPI", WHEN_SET, "the launcher pod does not mount it yet", NULL},
    {"volumes/*/downwardMetrics", WHEN_SET, "metrics of the host are not offered to guests yet",
     NULL},
    {"volumes/*/hostDisk", WHEN_SET,
     "disks at paths of the node are not mounted yet; use a PersistentVolumeClaim", NULL},
    {"volumes/*/memoryDump", WHEN_SET, "memory is not dumped yet", NULL},
    {"volumes/*/persistentVolumeClaim/hotpluggable", WHEN_TRUE, NO_HOTPLUG, NULL},
    {"volumes/*/name", WHEN_TEXT, NAME_TAKEN, "ephemeral-disks"},
    {"volumes/*/name", WHEN_TEXT, NAME_TAKEN, "kernel-boot"},
    {"volumes/*/name", WHEN_TEXT, NAME_TAKEN, "private"},
    {"volumes/*/name", WHEN_TEXT, NAME_TAKEN, "public"},
    {"volumes/*/name", WHEN_TEXT, NAME_TAKEN, "sockets"},
    {"volumes/*/serviceAccount", WHEN_SET, "the launcher pod does not mount it yet", NULL},

    {"domain/clock/timer/hpet/tickPolicy", WHEN_SET, "QEMU has no such setting", NULL},
    {"domain/clock/timer/pit/present", WHEN_FALSE, "the driver does not take that timer away yet",
     NULL},
    {"domain/clock/timer/pit/tickPolicy", WHEN_TEXT, "QEMU knows delay and discard", "catchup"},
    {"domain/clock/timer/rtc/present", WHEN_FALSE, "the driver does not take that timer away yet",
     NULL},
    {"domain/cpu/dedicatedCpuPlacement", WHEN_TRUE, NO_PINNING, NULL},
    {"domain/cpu/isolateEmulatorThread", WHEN_TRUE, NO_PINNING, NULL},
    {"domain/cpu/numa", WHEN_SET, NO_PINNING, NULL},
    {"domain/cpu/realtime", WHEN_SET, NO_PINNING, NULL},
    {"domain/features/apic/endOfInterrupt", WHEN_TRUE, "the driver does not set it yet", NULL},
    {"domain/firmware/acpi", WHEN_SET, "tables from Secrets are not loaded yet", NULL},
    {"domain/firmware/bootloader/efi/persistent", WHEN_TRUE, NO_STATE, NULL},
    {"domain/ioThreadsPolicy", WHEN_TEXT, "it needs a newer QEMU; use shared or auto",
     "supplementalPool"},
    {"domain/launchSecurity", WHEN_SET, NO_ENCLAVES, NULL},
    {"domain/memory/hugepages", WHEN_SET, "the node offers no huge pages yet", NULL},
    {"domain/memory/reservedOverhead/memLock", WHEN_TEXT, "memory is not locked yet", "Required"},

    {"domain/devices/autoattachVSOCK", WHEN_TRUE, "the driver has no VSOCK device yet", NULL},
    {"domain/devices/clientPassthrough", WHEN_SET, "USB redirection is not offered yet", NULL},
    {"domain/devices/disks/*/blockSize/matchVolume", WHEN_ON,
     "the driver does not ask volumes for their block size yet; use custom", NULL},
    {"domain/devices/disks/*/cdrom/tray", WHEN_TEXT, "trays are closed at start", "open"},
    {"domain/devices/disks/*/changedBlockTracking", WHEN_TRUE, "changed blocks are not tracked yet",
     NULL},
    {"domain/devices/disks/*/lun/reservation", WHEN_TRUE,
     "persistent reservations are not passed through yet", NULL},
    {"domain/devices/disks/*/tag", WHEN_SET, NO_TAGS, NULL},
    {"domain/devices/downwardMetrics", WHEN_SET,
     "metrics of the host are not offered to guests yet", NULL},
    {"domain/devices/filesystems", WHEN_SET, NO_VIRTIOFS, NULL},
    {"domain/devices/gpus", WHEN_SET, NO_PASSING, NULL},
    {"domain/devices/hostDevices", WHEN_SET, NO_PASSING, NULL},
    {"domain/devices/interfaces/*/binding", WHEN_SET, NO_BINDING, NULL},
    {"domain/devices/interfaces/*/passtBinding", WHEN_SET, NO_BINDING, NULL},
    {"domain/devices/interfaces/*/sriov", WHEN_SET, NO_PASSING, NULL},
    {"domain/devices/interfaces/*/tag", WHEN_SET, NO_TAGS, NULL},
    {"domain/devices/tpm", WHEN_ON, "there is no TPM yet", NULL},
    {"domain/devices/watchdog/diag288", WHEN_SET, "machines here have the i6300esb", NULL},
};

static bool applies(const struct refusal *f, const struct json *v)
{
    struct str text = json_str(v);

    switch (f->when) {
    case WHEN_SET:
        return v->type != JSON_NULL && !(json_is(v, JSON_ARRAY) && v->n == 0)
               && !(json_is(v, JSON_STRING) && v->n == 0);
    case WHEN_TRUE:
        return json_is(v, JSON_TRUE);
    case WHEN_FALSE:
        return json_is(v, JSON_FALSE);
    case WHEN_ON:
        return kv_enabled(v);
    case WHEN_TEXT:
        return str_is(text, f->value);
    case WHEN_OTHER:
        return text.n && !str_is(text, f->value);
    }
    __builtin_unreachable();
}

struct walk {
    struct arena *a;
    struct schema_causes *ret;
    const struct refusal *refusal;
    struct buf at; /* the path so far: "spec.volumes[1]" */
};

static void cut(struct buf *b, size_t n)
{
    if (b->p) {
        b->n = n;
        b->p[n] = '\0';
    }
}

static void descend(struct walk *w, const struct json *v, struct str rest)
{
    struct str part;
    size_t n = w->at.n, i = 0;

    if (!v)
        return;
    if (!str_next(&rest, '/', &part)) {
        if (applies(w->refusal, v))
            schema_cause_add(w->ret, w->a, "FieldValueNotSupported",
                             arena_strdup(w->a, buf_str(&w->at)),
                             "not supported by this release: %s", w->refusal->reason);
        return;
    }
    if (!str_is(part, "*")) {
        buf_addf(&w->at, "." STR_FMT, STR_ARG(part));
        descend(w, json_get_str(v, part), rest);
        cut(&w->at, n);
        return;
    }
    json_each_item(item, v) {
        buf_addf(&w->at, "[%zu]", i++);
        descend(w, item, rest);
        cut(&w->at, n);
    }
}

static void refuse(const struct json *root, const char *path, const struct refusal *table, size_t n,
                   struct arena *a, struct schema_causes *ret)
{
    struct walk w = {.a = a, .ret = ret};

    buf_init(&w.at, 4096);
    buf_adds(&w.at, path);
    for (size_t i = 0; i < n; i++) {
        w.refusal = &table[i];
        descend(&w, root, str_of(table[i].path));
    }
    buf_done(&w.at);
}

/* Only the root bus can be addressed: behind ports, addresses are the driver's business. */
static void refuse_addresses(const struct json *spec, const char *path, struct arena *a,
                             struct schema_causes *ret)
{
    static const struct {
        const char *list, *field, *dots;
    } table[] = {{"disks", "disk/pciAddress", "disk.pciAddress"},
                 {"interfaces", "pciAddress", "pciAddress"}};

    for (size_t k = 0; k < ARRAY_SIZE(table); k++) {
        size_t i = 0;

        json_each_item(device, json_get(json_at(spec, "domain/devices"), table[k].list)) {
            struct str address = json_str_at(device, table[k].field);
            const char *field = arena_printf(a, "%s.domain.devices.%s[%zu].%s", path, table[k].list,
                                             i++, table[k].dots);

            if (address.n && !str_starts(address, STR("0000:00:")))
                schema_cause_add(ret, a, "FieldValueNotSupported", field,
                                 "not supported by this release: only addresses on the root bus "
                                 "(0000:00:) can be chosen");
        }
    }
}

/* cloud-init and accessCredentials have their Secrets mounted beside those of volumes, at names with a suffix: a volume of
 * that very name would show the guest another Secret than it says. */
static bool secret_place_taken(const struct json *spec, struct str name)
{
    static const struct {
        const char *ref, *suffix;
    } refs[] = {{"cloudInitNoCloud/secretRef", "-udata"},
                {"cloudInitNoCloud/networkDataSecretRef", "-ndata"},
                {"cloudInitConfigDrive/secretRef", "-udata"},
                {"cloudInitConfigDrive/networkDataSecretRef", "-ndata"}};
    static const struct str credential = STR_INIT("-access-cred");

    for (size_t i = 0; i < ARRAY_SIZE(refs); i++) {
        struct str suffix = str_of(refs[i].suffix);

        if (str_ends(name, suffix))
            json_each_item(v, json_get(spec, "volumes"))
                if (json_at(v, refs[i].ref)
                    && str_eq(json_str_at(v, "name"), str_take(name, name.n - suffix.n)))
                    return true;
    }
    if (str_ends(name, credential))
        json_each_item(cred, json_get(spec, "accessCredentials")) {
            struct str secret = json_str_at(cred, "sshPublicKey/source/secret/secretName");

            if (str_eq(secret, str_take(name, name.n - credential.n)))
                return true;
        }
    return false;
}

static void refuse_secret_places(const struct json *spec, const char *path, struct arena *a,
                                 struct schema_causes *ret)
{
    size_t i = 0;

    json_each_item(v, json_get(spec, "volumes")) {
        const char *field = arena_printf(a, "%s.volumes[%zu].name", path, i++);

        if (json_get(v, "secret") && secret_place_taken(spec, json_str_at(v, "name")))
            schema_cause_add(ret, a, "FieldValueNotSupported", field,
                             "not supported by this release: " NAME_TAKEN);
    }
}

void kv_unsupported(const struct json *vmi_spec, const char *path, const struct kv_config *c,
                    struct arena *a, struct schema_causes *ret)
{
    struct str architecture = json_str_at(vmi_spec, "architecture");

    if (architecture.n && !str_eq(architecture, c->architecture)) {
        const char *field = arena_printf(a, "%s.architecture", path);

        schema_cause_add(ret, a, "FieldValueNotSupported", field,
                         "not supported by this release: machines here are " STR_FMT,
                         STR_ARG(c->architecture));
    }
    refuse(vmi_spec, path, refusals, ARRAY_SIZE(refusals), a, ret);
    refuse_addresses(vmi_spec, path, a, ret);
    refuse_secret_places(vmi_spec, path, a, ret);
}

void kv_vm_unsupported(const struct json *vm, struct arena *a, struct schema_causes *ret)
{
    static const struct refusal table[] = {
        {"instancetype", WHEN_SET,
         "instance types are not applied yet; give cpu and memory in the template", NULL},
        {"preference", WHEN_SET,
         "preferences are not applied yet; write what they would set in the template", NULL},
        {"dataVolumeTemplates", WHEN_SET, NO_CDI, NULL},
        {"updateVolumesStrategy", WHEN_TEXT, "volumes are not copied while a machine runs yet",
         "Migration"},
        {"runStrategy", WHEN_TEXT, "there is no live migration yet", "WaitAsReceiver"},
    };

    refuse(json_get(vm, "spec"), "spec", table, ARRAY_SIZE(table), a, ret);
}
