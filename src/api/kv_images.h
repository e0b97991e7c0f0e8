/* api/kv_images - containers of a launcher pod that hand disk images to the launcher, where images are no volumes: private to the
 * rules. Names are upstream's; what runs in them is cmd/container_disk_main.c, and launcher/images.h has the other end. */
#pragma once
#include "api/schema.h"

/* Volumes of the pod: the program, and the launcher's socket. */
#define KV_VOLUME_PROGRAM "virt-bin-share-dir"
#define KV_VOLUME_IMAGES "container-disks"

/* One image of the machine. id: what the launcher knows it by. */
const struct json *kv_image(struct arena *a, const char *container, struct str id, struct str image,
                            struct str policy);
/* Of the volumes' names in this pod, which differ where the user has taken one; compute: the launcher's resources. */
struct kv_images {
    const char *launcher_image, *program_volume, *socket_volume;
    const struct json *compute;
};
const struct json *kv_image_container(const struct kv_images *k, const struct json *image,
                                      struct arena *a);
/* The first container of the pod, which lays the program where the others find it. */
const struct json *kv_image_init_container(const struct kv_images *k, struct arena *a);
