/* subresources/agents - the node agents of a cluster: the pods of virt-handler, reached by mutual TLS at the pod's address. */
#pragma once
#include "client/client.h"
#include "http/client.h"

#define AGENTS_PORT 8443

struct agents;
struct http_tls;
struct agents_config {
    struct client *client;
    const char *ns;   /* where the pods are */
    unsigned port;    /* 0: AGENTS_PORT */
};
struct agents *agents_new(const struct agents_config *c);
void agents_free(struct agents *a);
/* What new connections show and trust; the server's name in it is the handlers'. NULL: none is reached. Referred to, not taken. */
void agents_tls(struct agents *a, const struct http_tls *tls);
/* For subresources_config: the agent of a node, or NULL. Valid until the next turn of the loop. */
struct http_client *agents_of(void *agents, struct str node_name);
/* The node of the pod with this name and UID, or absent: it is no agent's. Valid until the next turn of the loop. */
struct str agents_node(const struct agents *a, struct str pod, struct str uid);
bool agents_synced(const struct agents *a);
