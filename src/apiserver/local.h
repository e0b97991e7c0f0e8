/* apiserver/local - the client interface by direct calls, for controllers in the API server's own process. */
#pragma once
#include "apiserver/apiserver.h"

/* Acts as `user` in groups (copied; admission and RBAC see them), with the same semantics as over HTTP. Freed before the
 * server is. */
struct client *apiserver_client(struct apiserver *s, const char *user, const char *const *groups);
