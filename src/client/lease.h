/* client/lease - leader election by a Lease, by the rules of client-go: of all who ask for it, one holds it at a time.
 *
 * A holder that renews is left alone. Whether one still does is judged by our own clock since we last saw the Lease change, never by
 * the times written in it: clocks of machines differ. Writes carry the revision that was looked at, so of two who try at once one is
 * told of a conflict. A holder that could not renew for RENEW_DEADLINE has lost it, before anyone else may take it. */
#pragma once
#include "client/client.h"

struct lease;
struct lease_config {
    struct client *client;
    const char *ns, *name, *identity; /* identity: no two who ask have the same */
    void (*elected)(void *user);
    void (*lost)(void *user); /* once, after elected: stop working at once; nothing follows */
    void *user;
};
#define LEASE_DURATION SECONDS(15)
#define LEASE_RENEW_DEADLINE SECONDS(10)
#define LEASE_RETRY SECONDS(2)

struct lease *lease_new(const struct lease_config *c);
bool lease_held(const struct lease *l);
/* Gives it up, so that a successor need not wait, and calls done, whether that could be written or not; no other callback follows. */
void lease_release(struct lease *l, void (*done)(void *user));
void lease_free(struct lease *l); /* without giving it up */
