/* client/fence - a client that writes only while a lease is held.
 *
 * Reads and watches go through. A write that comes when the lease has run out fails with ERROR_UNAVAILABLE and is not sent, and
 * one that waits for a connection is not sent after that moment either. What had left before may still arrive late, behind the next
 * leader's first writes: therefore patches name the revision, deletes the UID, and created objects have names that derive from their owner.
 * The fence keeps a stopped and continued process from starting anything; those keep what it had sent from doing harm. */
#pragma once
#include "client/client.h"
#include "client/lease.h"

/* Neither is taken. `lease` NULL (yet): no write. */
struct client *client_fence_new(struct client *under);
void client_fence_set(struct client *fence, const struct lease *lease);
