/* pod/reclaim - removes the directory of a vireo-local volume once its PersistentVolume is deleted.
 *
 * The PersistentVolume carries a finalizer until the data is gone, so neither a node process that was down nor an API server that
 * lost its memory can leak a directory, or lose one that is still named. */
#pragma once
#include "client/client.h"

#define RECLAIM_FINALIZER "vireo.io/local-volume"

struct reclaim;
/* dirfd: the data directory, borrowed; volumes lie in volumes/<name of the PersistentVolume>. */
struct reclaim *reclaim_new(struct client *c, int dirfd);
void reclaim_free(struct reclaim *r);
