/* storage/mounted - files of ConfigMaps, Secrets and their kin as a pod mounts them.
 *
 * kubelet publishes such a folder atomically: each key is a link into "..data/", itself a link. Links are followed here,
 * but never out of the folder. */
#pragma once
#include "base/arena.h"
#include "storage/iso.h"

#define MOUNTED_MAX_BYTES (4u << 20) /* of one file; the API's own limit is 1 MiB for all */

/* *ret absent when there is no such regular file. */
MUST_CHECK bool mounted_read(int dirfd, const char *path, struct arena *a, struct str *ret,
                             struct error *err);
/* All files, by their paths in the folder. */
MUST_CHECK bool mounted_list(int dirfd, struct arena *a, struct iso_file **ret, size_t *ret_n,
                             struct error *err);
