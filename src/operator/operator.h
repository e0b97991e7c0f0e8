/* operator/operator - installs what a KubeVirt object asks for, keeps it as it should be, replaces its certificates, takes it away.
 *
 * One reconciliation at a time: what is there (informers of everything that carries our mark), what should be there (component.h), what
 * is to be done (operator_plan.h), then the writes, many at once; nothing is planned before the informers have seen them. Objects are
 * applied by the server, only those that differ, and those that others keep changing are left alone for growing whiles.
 * What stands in our way without our mark is named, and then nothing at all is changed. */
#pragma once
#include "client/client.h"
#include "operator/install.h"

struct operator;
struct operator_config {
    struct client *client;
    struct install_env env; /* texts are borrowed */
};
struct operator *operator_new(const struct operator_config *c);
void operator_start(struct operator *o); /* once elected */
void operator_free(struct operator *o);
