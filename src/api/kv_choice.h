/* api/kv_choice - which VMM runs a machine: decided at admission from what the user wrote, recorded, and kept. See kv_choice.c. */
#pragma once
#include "api/kv_config.h"

struct buf;

/* What the KubeVirt object says: kv_hypervisors.c. */
void kv_hypervisors_read(struct kv_config *c);
const char *kv_hypervisors_field(const struct kv_config *c); /* the field that limits the choice */

/* VMMs that can be asked for by name here. */
bool kv_vmm_known(struct str name);
void kv_vmm_names(struct buf *b); /* "qemu", "firecracker" */

/* Defaults in layers: kv_layers.c. */
struct vmm_caps;
/* What a VMM's table says instead of upstream's default at a path ("domain/machine/type"): "" for none; NULL: it says nothing. */
const char *kv_own_default(const struct vmm_caps *v, const char *path);
/* Takes out of a spec with defaults what the VMM does not honour and the user did not write. */
const struct json *kv_spec_without_unhonoured(const struct json *made, const struct json *written, struct str vmm, struct arena *a);
/* The text of KV_ANNOTATION_LEFT_OUT, or NULL when everything is there. */
const struct json *kv_left_out(const struct json *written, struct str vmm, struct arena *a);
