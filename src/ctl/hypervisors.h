/* ctl/hypervisors - the words and tables of `virtctl hypervisors`. Pure. */
#pragma once
#include "json/json.h"

/* Of nodes and the KubeVirt object (NULL: none): [{name, title, default, allowed, nodes, usable, accelerators, versions, reasons}]. */
const struct json *hypervisors_of_cluster(const struct json *nodes, const struct json *kubevirt, struct arena *a);
void hypervisors_table(const struct json *list, struct buf *b);
/* Of one node's report (vmm/host.h). */
void hypervisors_node_table(const struct json *report, struct buf *b);
/* What each hypervisor makes of a field, as "spec.domain.devices.tpm" or from a VM's template: {field, hypervisors: [{name, rows:
 * [{path, verdict, condition, since, reason}]}]}. ERROR_NOT_FOUND: no such field. */
MUST_CHECK bool hypervisors_explain(const char *field, struct arena *a, const struct json **ret, struct error *err);
void hypervisors_explain_table(const struct json *v, struct buf *b);
