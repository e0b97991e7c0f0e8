/* controller/volume_plan - claims of the StorageClass that a single machine has: a volume is a directory on this host. */
#pragma once
#include "controller/plan.h"

#define LOCAL_CLASS "vireo-local"
#define LOCAL_PROVISIONER "vireo.io/local"
#define FINALIZER_CLAIM "kubernetes.io/pvc-protection"

struct volume_view {
    const struct json *claim;
    const struct json
        *class; /* that it names, or the default one if it names none; NULL: there is none */
    const struct json *volume; /* its PersistentVolume, or NULL */
    bool wanted;               /* some pod has named it */
    bool
        used; /* some pod that has not ended names it; only asked for claims that are being deleted */
    const char *path; /* where volumes lie */
};
void volume_plan(const struct volume_view *v, struct plan *p);

/* "pvc-<uid>": whatever volumes a claim ever had, they are never mistaken for another claim's. */
const char *volume_name(const struct json *claim, struct arena *a);
bool volume_class_ours(const struct json *class);
