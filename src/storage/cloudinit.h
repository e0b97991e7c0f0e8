/* storage/cloudinit - the files of a NoCloud or ConfigDrive disk. */
#pragma once
#include "api/views.h"
#include "base/arena.h"
#include "storage/iso.h"

struct kv_virtual_machine_instance;
struct kv_volume;

struct cloudinit {
    const char *label; /* "cidata", "config-2" */
    struct iso_file files[3];
    size_t n;
};
/* private_dirfd: where secrets are mounted ("secret/<volume>/"). Everything lives in the arena. */
MUST_CHECK bool cloudinit_make(const struct kv_virtual_machine_instance *vmi,
                               const struct kv_volume *volume, int private_dirfd, struct arena *a,
                               struct cloudinit *ret, struct error *err);
