/* Binding takes two turns: the volume and the claim's reference to it, then both statuses. A claim that is going waits for its last
 * pod; then its volume goes (the node's pod runtime removes the directory and then the volume's finalizer), then the claim. */
#include "controller/volume_plan.h"

static const char *own_name(const struct json *claim, struct arena *a)
{
    return arena_printf(a, "pvc-" STR_FMT, STR_ARG(meta_uid(claim)));
}

const char *volume_name(const struct json *claim, struct arena *a)
{
    struct str name = json_str_at(claim, "spec/volumeName");

    return name.n ? arena_strdup(a, name) : own_name(claim, a);
}

bool volume_class_ours(const struct json *class)
{
    return str_is(meta_name(class), LOCAL_CLASS)
           || str_is(json_str_at(class, "provisioner"), LOCAL_PROVISIONER);
}

static const struct json *claim_ref(const struct json *claim, struct arena *a)
{
    return json_object(a, "apiVersion", json_new_z(a, "v1"), "kind",
                       json_new_z(a, "PersistentVolumeClaim"), "namespace",
                       json_at(claim, "metadata/namespace"), "name",
                       json_at(claim, "metadata/name"), "uid", json_at(claim, "metadata/uid"),
                       "resourceVersion", json_at(claim, "metadata/resourceVersion"), NULL);
}

static const struct json *new_volume(const struct volume_view *v, const char *name, struct arena *a)
{
    const struct json *mode = json_at(v->claim, "spec/volumeMode");
    struct str reclaim = json_str_at(v->class, "reclaimPolicy");

    return json_object(
        a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "PersistentVolume"), "metadata",
        json_object(a, "name", json_new_z(a, name), "annotations",
                    json_object(a, "pv.kubernetes.io/provisioned-by",
                                json_new_z(a, LOCAL_PROVISIONER), NULL),
                    /* the pod runtime takes it away once the directory is gone (pod/reclaim) */
                    "finalizers", json_array(a, json_new_z(a, "vireo.io/local-volume"), NULL), NULL),
        "spec",
        json_object(
            a, "capacity",
            json_object(a, "storage", json_at(v->claim, "spec/resources/requests/storage"), NULL),
            "accessModes", json_at(v->claim, "spec/accessModes"), "persistentVolumeReclaimPolicy",
            reclaim.n ? json_new_str(a, reclaim) : json_new_z(a, "Delete"), "storageClassName",
            json_at(v->class, "metadata/name"), "volumeMode",
            mode ? mode : json_new_z(a, "Filesystem"), "claimRef", claim_ref(v->claim, a),
            "hostPath",
            json_object(a, "path", json_new_f(a, "%s/%s", v->path, name), "type",
                        json_new_z(a, "DirectoryOrCreate"), NULL),
            NULL),
        NULL);
}

/* Any tenant may write any name into spec.volumeName; only claimRef, which is the cluster's, says whose a volume is. */
static bool owns(const struct volume_view *v)
{
    return v->volume && meta_uid(v->claim).n
           && str_eq(json_str_at(v->volume, "spec/claimRef/uid"), meta_uid(v->claim));
}

static void plan_deleting(const struct volume_view *v, struct plan *p)
{
    if (v->used || !meta_has_finalizer(v->claim, FINALIZER_CLAIM))
        return;
    if (owns(v) && !meta_deleting(v->volume)
        && !str_is(json_str_at(v->volume, "spec/persistentVolumeReclaimPolicy"), "Retain"))
        plan_delete(p, RESOURCE_PV, v->volume, -1);
    plan_patch(p, RESOURCE_PVC, v->claim, meta_remove_finalizer(p->a, v->claim, FINALIZER_CLAIM),
               false);
}

/* What nobody here will ever bind says so, and what to do. */
static void plan_foreign(const struct volume_view *v, struct plan *p)
{
    struct str name = json_str_at(v->claim, "spec/storageClassName");

    if (v->class)
        plan_notice(p, "Warning", "ProvisioningFailed",
                    "StorageClass \"" STR_FMT "\" needs the provisioner \"" STR_FMT
                    "\", which does not run here: use storageClassName " LOCAL_CLASS,
                    STR_ARG(meta_name(v->class)), STR_ARG(json_str_at(v->class, "provisioner")));
    else if (name.p && !name.n)
        plan_notice(p, "Warning", "FailedBinding",
                    "storageClassName \"\" asks for a volume made by hand, and those are not bound "
                    "here: use storageClassName " LOCAL_CLASS);
    else if (name.n)
        plan_notice(p, "Warning", "ProvisioningFailed",
                    "storageclass.storage.k8s.io \"" STR_FMT
                    "\" not found: use storageClassName " LOCAL_CLASS,
                    STR_ARG(name));
    else
        plan_notice(p, "Warning", "FailedBinding",
                    "no storage class is set and there is no default one: use "
                    "storageClassName " LOCAL_CLASS);
}

static void plan_bind(const struct volume_view *v, struct plan *p)
{
    struct arena *a = p->a;
    const char *name = volume_name(v->claim, a);
    const struct json *claim = v->claim;
    struct action *act;

    if (str_is(json_str_at(claim, "spec/volumeMode"), "Block")) {
        plan_notice(p, "Warning", "ProvisioningFailed",
                    "volumes of StorageClass " LOCAL_CLASS
                    " are directories: use volumeMode Filesystem");
        return;
    }
    if (!owns(v) && json_str_at(claim, "spec/volumeName").n
        && !str_is(json_str_at(claim, "spec/volumeName"), own_name(claim, a))) {
        plan_notice(p, "Warning", "FailedBinding",
                    v->volume ? "volume \"%s\" belongs to another claim: leave spec.volumeName empty"
                              : "volume \"%s\" not found: leave spec.volumeName empty",
                    name);
        return;
    }
    if (v->volume && !owns(v)) {
        plan_notice(p, "Warning", "FailedBinding", "volume \"%s\" belongs to another claim", name);
        return;
    }
    if (!v->volume) {
        act = plan_act(p, ACTION_CREATE, RESOURCE_PV, NULL, new_volume(v, name, a));
        act->done = (struct notice){"Normal", "ProvisioningSucceeded",
                                    arena_printf(a, "Successfully provisioned volume %s", name)};
        act->failed = (struct notice){"Warning", "ProvisioningFailed", NULL};
    }
    claim = json_with_at(a, claim, "spec/volumeName", json_new_z(a, name));
    if (!json_at(claim, "spec/storageClassName"))
        claim = json_with_at(a, claim, "spec/storageClassName", json_at(v->class, "metadata/name"));
    claim = meta_with_annotation(a, claim, "pv.kubernetes.io/bind-completed", STR("yes"));
    claim = meta_add_finalizer(a, claim, FINALIZER_CLAIM);
    plan_patch(p, RESOURCE_PVC, v->claim, claim, false);
}

static void plan_bound(const struct volume_view *v, struct plan *p)
{
    struct arena *a = p->a;
    const struct json *claim = v->claim, *volume = v->volume;

    claim = json_with_at(a, claim, "status/phase", json_new_z(a, "Bound"));
    claim = json_with_at(a, claim, "status/accessModes", json_at(volume, "spec/accessModes"));
    claim = json_with_at(a, claim, "status/capacity", json_at(volume, "spec/capacity"));
    volume = json_with_at(a, volume, "status/phase", json_new_z(a, "Bound"));
    plan_patch(p, RESOURCE_PVC, v->claim, claim, true);
    plan_patch(p, RESOURCE_PV, v->volume, volume, true);
}

void volume_plan(const struct volume_view *v, struct plan *p)
{
    struct str phase = json_str_at(v->claim, "status/phase");
    bool later = str_is(json_str_at(v->class, "volumeBindingMode"), "WaitForFirstConsumer");

    p->about = v->claim;
    if (meta_deleting(v->claim)) {
        plan_deleting(v, p);
        return;
    }
    if (str_is(phase, "Bound") || str_is(phase, "Lost")) {
        if (str_is(phase, "Bound") && !v->volume)
            plan_patch(p, RESOURCE_PVC, v->claim,
                       json_with_at(p->a, v->claim, "status/phase", json_new_z(p->a, "Lost")),
                       true);
        return;
    }
    if (json_str_at(v->claim, "spec/volumeName").n && owns(v)) {
        plan_bound(v, p);
        return;
    }
    if (!v->class || !volume_class_ours(v->class)) {
        plan_foreign(v, p);
        return;
    }
    if (v->wanted || !later)
        plan_bind(v, p);
    else if (!phase.n)
        plan_patch(p, RESOURCE_PVC, v->claim,
                   json_with_at(p->a, v->claim, "status/phase", json_new_z(p->a, "Pending")), true);
}
