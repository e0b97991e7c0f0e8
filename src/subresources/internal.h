/* subresources/internal */
#pragma once
#include "base/map.h"
#include "subresources/decide.h"
#include "subresources/subresources.h"

struct subresources {
    struct subresources_config config;
    char *version;
    struct arena arena;
    const char *discovery;
};

/* stream.c: relays a client's WebSocket to the node agent's (action: with its query), or to a TCP port of the VM. The exchange is consumed. */
void stream_agent(struct subresources *s, struct exchange *x, const struct json *vmi, const char *action);
void stream_port(struct exchange *x, const struct json *vmi, struct str port, struct str protocol);

/* An answer with a Status of this code. */
void respond_refusal(struct exchange *x, int code, const char *message);
/* What the node agent refused, in its words if it had any. */
void respond_agent_refusal(struct exchange *x, int status, struct str body, const char *otherwise);

/* Whether a route is there and served (not missing); its names, which live as long as the program. */
bool subresources_served(struct str resource, struct str subresource, const char **ret_resource, const char **ret_subresource);
