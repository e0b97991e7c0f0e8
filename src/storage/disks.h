/* storage/disks - the volumes of a VM, found at their places inside the launcher pod, checked, and opened.
 *
 * What comes out are descriptors. Volumes' content is hostile: images are tenants', so every file is opened beneath a directory
 * that is held open, without following links, must be a regular file (or block device), and its format is told by our own
 * reading of its head, never by an option that would let an image name another file. */
#pragma once
#include "api/views.h"

struct kv_virtual_machine_instance;

/* The root of a container image that another container of the pod handed over; descriptor borrowed. */
struct storage_image {
    struct str name; /* of the volume, or KV_IMAGE_KERNEL_BOOT */
    int root_fd;
};

struct storage_place {   /* the pod's volumes; descriptors borrowed */
    int private_dirfd;   /* /var/run/kubevirt-private */
    int public_dirfd;    /* /var/run/kubevirt */
    int ephemeral_dirfd; /* /var/run/kubevirt-ephemeral-disks */
    bool raw_only;       /* for a VMM that reads raw images only: no qcow2 is made, what a machine may change is a copy */
    /* Images that are no volumes of the pod; the others are looked for below public_dirfd. */
    const struct storage_image *images;
    size_t n_images;
};

struct storage_passed { /* a disk that the agent opened for us */
    struct str volume;
    int fd; /* borrowed */
    bool read_only;
    const char *format;
};

struct storage_disk { /* owns its descriptors */
    struct str name;  /* of the volume, borrowed from the VMI */
    int fd;
    const char *format;
    int backing_fd; /* -1: none */
    const char *backing_format;
    bool read_only, block_device, direct, preallocated;
};
struct storage_disks {
    struct storage_disk *p; /* in the arena */
    size_t n;
    int kernel_fd, initrd_fd; /* -1: none */
};
void storage_disks_done(struct storage_disks *d); /* closes everything */

/* Makes (sparse images, overlays, cloud-init and configuration ISOs) and opens what the VMI's disks need. Repeating it finds
 * what is there: disks that last are never made twice, overlays of container disks last as long as the pod. */
MUST_CHECK bool storage_prepare(const struct kv_virtual_machine_instance *vmi,
                                const struct storage_place *at, const struct storage_passed *passed,
                                size_t n_passed, struct arena *a, struct storage_disks *ret,
                                struct error *err);
