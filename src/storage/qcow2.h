/* storage/qcow2 - what an image file is, told from its head, and the making of empty qcow2 images.
 *
 * Images are tenants'. A qcow2 header can name other files of the host (backing file, external data file): such images are
 * refused, and those we make name none – QEMU is told by us what lies below an overlay. */
#pragma once
#include "base/str.h"

#define QCOW2_HEAD 4096 /* bytes that image_probe() wants to see (fewer if the file is shorter) */

struct image_info {
    const char *format; /* "raw" or "qcow2" */
    uint64_t virtual_size;
};
/* ERROR_INVALID with the reason for an image that must not or cannot be used. */
MUST_CHECK bool image_probe(struct str head, uint64_t file_size, struct image_info *ret,
                            struct error *err);
MUST_CHECK bool image_probe_fd(int fd, uint64_t file_size, struct image_info *ret,
                               struct error *err);

#define QCOW2_MAX_SIZE (64ull << 40)
/* Writes an empty image of that virtual size into an empty file. */
MUST_CHECK bool qcow2_create(int fd, uint64_t virtual_size, struct error *err);
