/* controller/vm_metrics - what virtual machines and instances are at, as metrics with upstream's names.
 *
 * A machine's samples change when its object does, and not when somebody scrapes: what each contributes is made from the event
 * and kept as text beside it, some hundred bytes, so that a scrape copies. Labels without a value are left out, as upstream's. */
#pragma once
#include "base/map.h"
#include "json/json.h"

struct vm_metrics {
    struct map vms, vmis; /* by "namespace/name" */
    struct map phases;    /* counts, by their labels */
};
void vm_metrics_vm(struct vm_metrics *m, struct str key, const struct json *vm, bool deleted);
void vm_metrics_vmi(struct vm_metrics *m, struct str key, const struct json *vmi, bool deleted);
/* Families with HELP and TYPE. pod_of: the name of the pod of an instance (by UID), or absent. */
void vm_metrics_write(const struct vm_metrics *m, struct str (*pod_of)(void *user, struct str uid), void *user, struct buf *b);
void vm_metrics_done(struct vm_metrics *m);
