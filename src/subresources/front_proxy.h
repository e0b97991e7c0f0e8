/* subresources/front_proxy - who asks, as the API server in front of us says it.
 *
 * A cluster's API server proxies what an APIService names. It shows a client certificate of an authority that exists for that alone, and
 * puts the user that it has authenticated into headers. Which authority, which names and which headers stands in ConfigMap
 * kube-system/extension-apiserver-authentication. Headers are believed from the holder of such a certificate and from nobody else; what a
 * front proxy would never send (a user twice, a header of these that Connection names) is refused, not interpreted. */
#pragma once
#include "apiserver/apiserver.h"
#include "http/exchange.h"

#define FRONT_PROXY_NAMESPACE "kube-system"
#define FRONT_PROXY_CONFIG    "extension-apiserver-authentication"

struct front_proxy {
    struct arena arena;
    const char *ca_pem; /* NULL: nobody is believed */
    struct str *names, *users, *uids, *groups, *extras; /* names: none allows every name of that authority. The others in lower case */
    size_t n_names, n_users, n_uids, n_groups, n_extras;
};
/* Replaces what was there, which stays when the ConfigMap is unusable. */
MUST_CHECK bool front_proxy_read(struct front_proxy *p, const struct json *config_map, struct error *err);
void front_proxy_done(struct front_proxy *p);
/* ERROR_UNAUTHORIZED: with upstream's words. What *ret points to is in the exchange's arena. */
MUST_CHECK bool front_proxy_identity(const struct front_proxy *p, struct exchange *x, struct identity *ret, struct error *err);
