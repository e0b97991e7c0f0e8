/* apiserver/audit - a log of who asked for what: JSON lines of audit.k8s.io/v1 Events, as the policy wants them.
 *
 * A request's record hangs on its exchange, so it sees the answer whoever gives it (the verbs, the subresources of virtual machines,
 * a log stream) and outlives the request. Lines are written by a thread (base/rotated). Calls of our own controllers, which take no
 * exchange, are not noted. */
#pragma once
#include "base/rotated.h"
#include "apiserver/apiserver.h"

struct audit;
struct audit_config {
    struct str policy; /* text of the policy file */
    struct rotated_config log;
};
MUST_CHECK bool audit_new(const struct audit_config *c, struct audit **ret, struct error *err);
void audit_free(struct audit *a); /* after the servers whose exchanges it watches */
