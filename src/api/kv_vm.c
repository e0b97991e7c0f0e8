/* What a VirtualMachine makes: its instance, and the one word that describes it. */
#include "api/kv_choice.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/ident.h"

#define FIRMWARE_NAMESPACE "6a1a24a1-4061-4607-8bf4-a3963d0c5895" /* upstream's, for VMs without a firmware UUID (§2.3) */

/* Owner reference as upstream's controllers write it. */
static const struct json *owner_of(struct arena *a, const struct json *object, const char *api_version, const char *kind)
{
    return json_array(a,
                      json_object(a, "apiVersion", json_new_z(a, api_version), "kind", json_new_z(a, kind), "name",
                                  json_at(object, "metadata/name"), "uid", json_at(object, "metadata/uid"), "controller",
                                  json_new_bool(true), "blockOwnerDeletion", json_new_bool(true), NULL),
                      NULL);
}

const struct json *kv_vmi_from_vm(const struct json *vm, struct arena *a)
{
    const struct json *template = json_at(vm, "spec/template"), *spec = json_get(template, "spec");
    const struct json *annotations = json_at(template, "metadata/annotations");
    struct str name = json_str_at(vm, "metadata/name");

    /* What runs it is the machine's own record; a template cannot say. */
    annotations = json_with(a, annotations, KV_ANNOTATION_VMM, json_get(json_at(vm, "metadata/annotations"), KV_ANNOTATION_VMM));
    annotations = json_with(a, annotations, KV_ANNOTATION_LEFT_OUT, NULL);
    annotations = json_with(a, annotations, "kubevirt.io/vm-generation",
                            json_new_f(a, "%lld", (long long)json_i64_at(vm, "metadata/generation", 1)));
    if (!json_str_at(spec, "domain/firmware/uuid").n) {
        char uuid[UUID_LEN + 1];

        ident_uuid5(FIRMWARE_NAMESPACE, name, uuid);
        spec = json_with_at(a, spec, "domain/firmware/uuid", json_new_z(a, uuid));
        if (!str_is(kv_vmm(vm), "qemu")) /* one that cannot show it to its guest is not asked to */
            spec = kv_spec_without_unhonoured(spec, json_get(template, "spec"), kv_vmm(vm), a);
    }
    /* A start request may ask for a paused start; it holds for that start only. */
    const struct json *request = json_item(json_at(vm, "status/stateChangeRequests"), 0);
    if (str_is(json_str_at(request, "action"), "Start") && str_is(json_str_at(request, "data/paused"), "true"))
        spec = json_with(a, spec, "startStrategy", json_new_z(a, "Paused"));
    return json_object(
        a, "apiVersion", json_new_z(a, "kubevirt.io/v1"), "kind", json_new_z(a, "VirtualMachineInstance"), "metadata",
        json_object(a, "name", json_at(vm, "metadata/name"), "namespace", json_at(vm, "metadata/namespace"), "labels",
                    json_at(template, "metadata/labels"), "annotations", annotations, "ownerReferences",
                    owner_of(a, vm, "kubevirt.io/v1", "VirtualMachine"), "finalizers",
                    json_array(a, json_new_z(a, "kubevirt.io/virtualMachineControllerFinalize"), NULL), NULL),
        "spec", spec, NULL);
}

static const struct json *condition(const struct json *object, const char *type)
{
    json_each_item(c, json_at(object, "status/conditions"))
        if (str_is(json_str_at(c, "type"), type))
            return c;
    return NULL;
}

static bool condition_is(const struct json *object, const char *type, const char *status, const char *reason)
{
    const struct json *c = condition(object, type);

    return c && str_is(json_str_at(c, "status"), status) && (!reason || str_is(json_str_at(c, "reason"), reason));
}

static bool strategy_is_automatic(const struct json *vm)
{
    struct str s = json_str_at(vm, "spec/runStrategy");

    return json_bool_at(vm, "spec/running", false) || str_is(s, "Always") || str_is(s, "RerunOnFailure") || str_is(s, "Once");
}

static bool unbound_claim(const struct json *vmi)
{
    json_each_item(v, json_at(vmi, "status/volumeStatus"))
        if (json_get(v, "persistentVolumeClaimInfo") && str_is(json_str_at(v, "phase"), "Pending"))
            return true;
    return false;
}

const char *kv_printable_status(const struct json *vm, const struct json *vmi, bool create_expected)
{
    struct str phase = json_str_at(vmi, "status/phase");
    bool final = str_is(phase, "Succeeded") || str_is(phase, "Failed"), live = vmi && !final;
    bool early = live && (!phase.n || str_is(phase, "Pending") || str_is(phase, "Scheduling") || str_is(phase, "Scheduled"));

    if (json_at(vm, "metadata/deletionTimestamp"))
        return "Terminating";
    if (live && json_at(vmi, "metadata/deletionTimestamp"))
        return "Stopping";
    if (live && json_at(vmi, "status/migrationState/startTimestamp") && !json_at(vmi, "status/migrationState/endTimestamp"))
        return "Migrating";
    if (live && str_is(phase, "Running"))
        return condition_is(vmi, "Paused", "True", NULL) ? "Paused" : "Running";
    if (condition_is(vmi, "Synchronized", "False", "FailedPvcNotFound"))
        return "ErrorPvcNotFound";
    if (condition_is(vmi, "PodScheduled", "False", "Unschedulable") || condition_is(vmi, "Synchronized", "False", "BlockVolumeUnsupported"))
        return "ErrorUnschedulable";
    if (early && unbound_claim(vmi))
        return "WaitingForVolumeBinding";
    if (condition_is(vmi, "Synchronized", "False", "ErrImagePull"))
        return "ErrImagePull";
    if (condition_is(vmi, "Synchronized", "False", "ImagePullBackOff"))
        return "ImagePullBackOff";
    if (early || (!vmi && create_expected))
        return "Starting";
    if (!live && json_i64_at(vm, "status/startFailure/consecutiveFailCount", 0) > 0 && strategy_is_automatic(vm))
        return "CrashLoopBackOff";
    if (!live)
        return "Stopped";
    return "Unknown";
}
