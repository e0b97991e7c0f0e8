/* admission/node - what a node agent may change: its own Node, and the machines that are on it. RBAC cannot say that.
 *
 * Where the server has ValidatingAdmissionPolicy (Kubernetes 1.30), operator/components/node-policy.yaml says the same and nobody asks
 * here; node_test.c holds both against one table. Pure. */
#pragma once
#include "api/kv.h"

struct node_agent {
    struct str node;              /* as the token says (1.30); absent: it does not */
    struct str pod_name, pod_uid; /* the pod that holds the token; absent: the token is bound to none */
};
/* From an AdmissionReview's request. false: it is not by the node agents' account. */
bool node_agent_of(const struct json *request, struct str install_ns, struct node_agent *ret);
/* Whether the agent of `node` (absent: nobody knows which, so none is its own) may make `old` into `object`. ERROR_FORBIDDEN with the
 * policy's words. plural: nodes or virtualmachineinstances; anything else is none of an agent's business. */
MUST_CHECK bool node_agent_may(struct str node, struct str plural, const struct json *old, const struct json *object, struct error *err);
