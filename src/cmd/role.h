/* cmd/role - what the roles of a cluster share: a Kubernetes API server that is somewhere else, a loop, and signals that end it.
 *
 * For now who we are comes from a kubeconfig alone: a service account's token changes within the hour, and the HTTP client keeps the
 * first. */
#pragma once
#include "client/client.h"
#include "ctl/kubeconfig.h"

struct http_tls;
struct role {
    struct loop *loop;
    struct client *client;
    struct http_tls *tls;
    struct loop_signal term, interrupt;
};
/* kubeconfig: --kubeconfig, or NULL: $KUBECONFIG. On failure, too, role_close() is due. */
MUST_CHECK bool role_open(struct role *r, const char *kubeconfig, const char *user_agent, struct error *err);
void role_close(struct role *r);

int controller_main(int argc, char **argv);
int handler_main(int argc, char **argv);
int crds_main(int argc, char **argv);
