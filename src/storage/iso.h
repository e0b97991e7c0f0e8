/* storage/iso - small ISO 9660 images with Rock Ridge and Joliet names: cloud-init and configuration disks.
 *
 * Made by ourselves, since all that is needed is some files in a folder or three: no tool to install, no child to start
 * (6 ms each), no temporary tree on disk for secrets, and the same files give the same bytes. */
#pragma once
#include "base/str.h"

struct iso_file {
    const char
        *path; /* "openstack/latest/meta_data.json": printable ASCII, parts up to 103 bytes */
    struct str data;
};
#define ISO_MAX_BYTES (64u << 20)
#define ISO_MAX_FILES 4096
/* Into an empty file. label: up to 32 characters (16 of them in the Joliet name). */
MUST_CHECK bool iso_write(int fd, const char *label, const struct iso_file *files, size_t n,
                          struct error *err);
