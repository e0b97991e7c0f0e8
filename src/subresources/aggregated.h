/* subresources/aggregated - subresources.kubevirt.io as a cluster's API server asks for it (an APIService).
 *
 * Discovery and documents are everybody's, as upstream's are; so are version, guestfs and healthz. All else comes from the front proxy
 * (front_proxy.h), for a user whose rights are asked about once more (access.h): whoever reaches the port is not the API server. */
#pragma once
#include "subresources/front_proxy.h"
#include "subresources/subresources.h"

struct aggregated;
struct aggregated_config {
    struct client *client;
    struct subresources *subresources;
    const struct front_proxy *proxy; /* may change meanwhile */
};
struct aggregated *aggregated_new(const struct aggregated_config *c);
void aggregated_free(struct aggregated *g);
/* false: not its path. */
bool aggregated_handle(struct aggregated *g, struct exchange *x);
/* Calls by verb, resource and subresource: for /metrics. */
void aggregated_metrics(const struct aggregated *g, struct buf *b);
