/* subresources/subresources - subresources.kubevirt.io: start, stop, console, VNC, port-forward and their kin.
 *
 * One implementation on `client` for both modes: the embedded API server mounts it as a virtual group, `vireo api` as an
 * aggregated API. Answers, preconditions and messages as upstream's (reference/api-and-lifecycle.md §1.2). */
#pragma once
#include "apiserver/apiserver.h"
#include "client/client.h"
#include "http/client.h"

struct subresources;
struct subresources_config {
    struct client *client;
    /* The node agent's HTTP server for a node's name; NULL when unknown. On one machine always the same unix socket. */
    struct http_client *(*agent)(void *data, struct str node_name);
    void *agent_data;
    const char *version;
};
struct subresources *subresources_new(const struct subresources_config *c);
void subresources_free(struct subresources *s);
void subresources_group(struct subresources *s, struct virtual_group *ret); /* for apiserver_add_virtual_group */
