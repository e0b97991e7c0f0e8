/* api/kv_rules - what the rules of KubeVirt's kinds share: private to them.
 *
 * Rules see JSON, not typed views: they run on objects whose types may be wrong, which schema_validate() says by itself, and
 * every reader of JSON answers "absent" then. Texts are upstream's (reference/api-and-lifecycle-validation.md). */
#pragma once
#include "api/kv_config.h"

struct rules {
    struct arena *a;
    const struct kv_config *c;
    struct schema_causes *ret;
    const char *at; /* path of the VMI's spec: "spec", "spec.template.spec" */
    const struct json *spec, *domain, *devices;
    bool vm; /* a VM's template, else a VMI */
    struct str vmm; /* that was chosen; "qemu" by itself */
};

/* A path below the spec: at(r, "volumes[%zu]", i). */
const char *rules_at(const struct rules *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void rules_invalid(struct rules *r, const char *field, const char *fmt, ...) PRINTF_LIKE(3, 4);
void rules_required(struct rules *r, const char *field, const char *fmt, ...) PRINTF_LIKE(3, 4);
void rules_not_supported(struct rules *r, const char *field, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* Present and not null. */
static inline bool kv_has(const struct json *v, const char *key)
{
    const struct json *m = json_get(v, key);

    return m && m->type != JSON_NULL;
}
bool kv_has_at(const struct json *v, const char *path);
/* How many of the NULL-terminated names v has; the last of them in *ret when not NULL. */
size_t kv_count(const struct json *v, const char *const *names, const char **ret);
bool kv_one_of(struct str s, const char *const *names);
/* A switch such as {"enabled": true}: there and not off. */
bool kv_enabled(const struct json *v);
const struct json *kv_named(const struct json *list, struct str name); /* the first of the name */
/* False for absent or unreadable text. */
struct quantity;
bool kv_read_quantity(const struct json *v, struct quantity *ret);
/* disk, cdrom or lun; NULL for none. */
const char *kv_disk_target(const struct json *disk);
struct str kv_disk_bus(const struct json *disk);
bool kv_pod_network(const struct json *spec); /* it has one */
bool kv_pci_address(struct str s);            /* "0000:81:01.0" */

extern const char *const kv_volume_sources[];

/* Each checks its part of the spec. */
void rules_domain(
    struct rules *r); /* kv_validate_domain.c: processors, memory, machine, firmware, features */
void rules_devices(struct rules *r);  /* kv_validate_devices.c: what is no disk and no interface */
void rules_spec(struct rules *r);     /* kv_validate_spec.c: the rest of the spec */
void rules_disks(struct rules *r);    /* kv_validate_disks.c: volumes and disks */
void rules_networks(struct rules *r); /* kv_validate_networks.c */

/* kv_unsupported.c: the same for fields of a VirtualMachine beside its template. */
void kv_vm_unsupported(const struct json *vm, struct arena *a, struct schema_causes *ret);
