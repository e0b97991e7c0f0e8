/* cmd/lead - of several processes of a role one works at a time: the one that holds a Lease. */
#pragma once
#include "cmd/role.h"
#include "client/lease.h"

struct lead_config {
    struct role *role;
    const char *name;            /* of the Lease, in the role's namespace */
    void (*elected)(void *user); /* may begin to work; writes through lead->client */
    void (*ended)(void *user);   /* lets go of what works, before another may begin */
    void *user;
};
struct lead {
    struct lead_config config;
    struct client *client; /* the role's, but for writes after the Lease has run out (client/fence.h) */
    struct lease *lease;
    struct loop_timer patience;
    bool lost;
};
void lead_start(struct lead *l, const struct lead_config *c);
/* Runs the role's loop to its end, then gives the Lease back. false: it was lost, and what this process knows is of the past. */
bool lead_run(struct lead *l);
/* After what uses lead->client. */
void lead_done(struct lead *l);
