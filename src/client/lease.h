/* client/lease - leader election by a Lease, by the rules of client-go: of all who ask for it, one holds it at a time.
 *
 * A holder that renews is left alone. Whether one still does is judged by our own clock since we last saw the Lease change, never by
 * the times written in it: clocks of machines differ. Writes carry the revision that was looked at, so of two who try at once one is
 * told of a conflict. A holder that could not renew for RENEW_DEADLINE has lost it, before anyone else may take it.
 *
 * Time is loop_boot_ns(): a wall clock that jumps changes nothing, and a machine that slept finds its lease run out. Timers come late to a
 * process that was stopped, and what had arrived meanwhile is handled before them: so lease_left_ns() is asked at each write
 * (client/fence.h), and not only the timer. */
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
#define LEASE_PATIENCE SECONDS(4) /* with one answer: two tries fit into the deadline */

struct lease *lease_new(const struct lease_config *c);
bool lease_held(const struct lease *l);
/* How much longer nobody else may have it; 0: we are not to write any more, whatever lease_held() says. */
int64_t lease_left_ns(const struct lease *l);
/* Gives it up, so that a successor need not wait, and calls done, whether that could be written or not; no other callback follows. */
void lease_release(struct lease *l, void (*done)(void *user));
void lease_free(struct lease *l); /* without giving it up */
