/* What is valid in KubeVirt and cannot be done by this release, or not by the VMM that a machine gets. A field that nobody reads
 * would be a promise that is quietly broken, so it is refused where it is written, with the reason. The VMI's fields stand in the
 * VMMs' tables (api/vmm_caps.h); here is what needs to see more than one field, and the VirtualMachine's own. */
#include "api/kv_rules.h"
#include "api/vmm_caps.h"

#include "base/cleanup.h"

#define NAME_TAKEN "the launcher pod has a volume of that name; choose another"

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

void kv_unsupported(const struct json *vmi_spec, struct str vmm, const char *path,
                    const struct kv_config *c, struct arena *a, struct schema_causes *ret)
{
    struct str architecture = json_str_at(vmi_spec, "architecture");
    const struct vmm_caps *caps = vmm_caps_find(vmm);

    if (architecture.n && !str_eq(architecture, c->architecture)) {
        const char *field = arena_printf(a, "%s.architecture", path);

        schema_cause_add(ret, a, "FieldValueNotSupported", field,
                         "not supported by this release: machines here are " STR_FMT,
                         STR_ARG(c->architecture));
    }
    if (caps)
        vmm_caps_check(caps, vmi_spec, path, a, ret);
    else
        schema_cause_add(
            ret, a, "FieldValueNotSupported", "metadata.annotations." KV_ANNOTATION_VMM,
            "not supported by this release: there is no VMM '" STR_FMT "'", STR_ARG(vmm));
    refuse_secret_places(vmi_spec, path, a, ret);
}

const struct json *kv_without_placing(const struct json *vmi_spec, struct arena *a)
{
    static const char *const theirs[] = {"affinity", "schedulerName", "tolerations", "topologySpreadConstraints"};

    for (size_t i = 0; i < ARRAY_SIZE(theirs); i++)
        if (json_get(vmi_spec, theirs[i]))
            vmi_spec = json_with(a, vmi_spec, theirs[i], NULL);
    return vmi_spec;
}

void kv_vm_unsupported(const struct json *vm, struct arena *a, struct schema_causes *ret)
{
    static const struct {
        const char *name, *value, *reason;
    } table[] = {
        {"instancetype", NULL,
         "instance types are not applied yet; give cpu and memory in the template"},
        {"preference", NULL,
         "preferences are not applied yet; write what they would set in the template"},
        {"dataVolumeTemplates", NULL,
         "there are no DataVolumes here yet; make a PersistentVolumeClaim and use volumes of that "
         "kind"},
        {"updateVolumesStrategy", "Migration", "volumes are not copied while a machine runs yet"},
        {"runStrategy", "WaitAsReceiver", "there is no live migration yet"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct json *v = json_get(json_get(vm, "spec"), table[i].name);
        bool asked = table[i].value
                         ? str_is(json_str(v), table[i].value)
                         : v && v->type != JSON_NULL && !(json_is(v, JSON_ARRAY) && v->n == 0);

        if (asked)
            schema_cause_add(ret, a, "FieldValueNotSupported",
                             arena_printf(a, "spec.%s", table[i].name),
                             "not supported by this release: %s", table[i].reason);
    }
}
