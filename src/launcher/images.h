/* launcher/images - roots of disk images, handed over by the containers that run in them.
 *
 * Where a cluster has no image volumes, each image of the machine (container disks, the kernel's) is the root of a container of the
 * pod, in which nothing runs but our own program (cmd/container_disk_main.c). It connects to a socket here, says which image it is, and
 * passes its root as a descriptor; storage/ opens the disk beneath that as if it were a volume. Nobody believes in a path.
 *
 * Who may speak: who is in the pod (the socket lies in a volume of its own), with the launcher's own uid. An image may come once. What a
 * tenant who can run programs in the pod may pass instead is a directory of theirs: what is found there is checked as every image is.
 * The connections stay open until the launcher ends, which is how the other containers learn of that. */
#pragma once
#include "base/str.h"
#include "loop/loop.h"

#define IMAGES_MAX 64 /* connections at a time */

struct images;
/* dirfd: where the socket is made, borrowed for the call; the working directory is / afterwards. NULL: *err says why not. */
struct images *images_new(struct loop *l, int dirfd, struct error *err);
void images_free(struct images *im);
/* Waits, in place, until each of the names is there. ERROR_UNAVAILABLE names the first that is not. */
MUST_CHECK bool images_wait(struct images *im, const struct str *names, size_t n,
                            int64_t patience_ns, struct error *err);
/* The image's root, borrowed; -1: it has not come. */
int images_root(const struct images *im, struct str name);
