/* operator/webhook - what the operator says about changes of KubeVirt objects: reviews in, reviews out. Pure. */
#pragma once
#include "operator/install.h"

#define WEBHOOK_DELETE "/kubevirt-validate-delete"
#define WEBHOOK_CREATE "/kubevirt-validate-create"
#define WEBHOOK_UPDATE "/kubevirt-validate-update"

struct webhook_facts {
    const struct json *kubevirts; /* all that exist */
    const char *workloads;        /* machines that exist, for people; NULL: none */
    const char *error;            /* these could not be told; NULL: they could */
};
/* Which facts the review needs. */
bool webhook_needs_kubevirts(struct str path);
bool webhook_needs_workloads(struct str path, const struct json *review);
/* The AdmissionReview that answers. ERROR_BAD_REQUEST: it is none; ERROR_NOT_FOUND: no such path. */
MUST_CHECK bool webhook_review(struct str path, const struct json *review, const struct webhook_facts *f, struct arena *a,
                               const struct json **ret, struct error *err);
