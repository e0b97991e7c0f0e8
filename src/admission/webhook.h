/* admission/webhook - the rules as webhooks: AdmissionReview (admission.k8s.io/v1) in and out.
 *
 * What arrives is anybody's who reaches the port: it is bounded by the HTTP server, nothing in it is believed before it is looked at, and
 * a review that is none, or that is about something else than its path says, is an error in words and not a verdict. */
#pragma once
#include "admission/rules.h"

/* What is asked at a path. */
struct webhook_path {
    const char *path;                       /* upstream's */
    const char *group, *plural, *subresource; /* what it is about; subresource NULL: the object itself */
    bool mutates;
};
const struct webhook_path *webhook_path(struct str path); /* NULL: none of ours */
extern const struct webhook_path webhook_paths[];         /* ends with a NULL path */

/* A review that has been read. */
struct webhook {
    const struct webhook_path *path;
    const struct json *sent; /* request.object as it came */
    struct str uid;
    bool applies; /* else there is no rule for it: it is allowed */
    bool by_agent; /* by a node agent, of which the next tells */
    struct node_agent agent;
    struct review review;
};
/* Everything is in the arena. install_ns: where our service accounts are. */
MUST_CHECK bool webhook_read(const struct webhook_path *p, struct str body, struct str install_ns, struct arena *a, struct webhook *ret,
                             struct error *err);
/* The AdmissionReview that answers, by the rules. Not for pods/eviction. *ret_allowed: for metrics. */
const struct json *webhook_answer(struct webhook *w, const struct admission_rules *rules, bool *ret_allowed);
/* The answer when that is known: err NONE allows. */
const struct json *webhook_verdict(struct webhook *w, const struct error *err, bool *ret_allowed);
