/* controller/vsock - context IDs of vsock devices: one for each instance that asks for a device, and no two the same in the cluster.
 *
 * The numbers stand in the instances' status; this is the memory of them, and of those that were given and whose write is still
 * under way: two instances that are planned before either's write has come back get two numbers. After a start it is filled from
 * the first list of instances, before anything is planned. An instance keeps its number until its object is gone, since until
 * then nobody knows for sure that its VMM is. Pure: the caller brings the chance. */
#pragma once
#include "base/map.h"

#define VSOCK_FIRST 3u         /* below are the hypervisor's, the loopback's and the host's */
#define VSOCK_LAST 0xfffffffeu /* the next is "any" */

struct vsock_ids {
    uint32_t first, last; /* the range */
    struct map by_key;    /* "namespace/name" → struct vsock_id */
    struct map by_cid;    /* the number in decimal → the same */
};
/* What the API says of an instance; cid 0: none. A number that another one has is not taken from it. */
void vsock_seen(struct vsock_ids *v, struct str key, struct str uid, int64_t cid);
void vsock_gone(struct vsock_ids *v, struct str key);
/* The instance's number: the one that it has, else a free one, looked for from `chance` on. 0: all are taken. */
uint32_t vsock_take(struct vsock_ids *v, struct str key, struct str uid, uint32_t chance);
void vsock_done(struct vsock_ids *v);
