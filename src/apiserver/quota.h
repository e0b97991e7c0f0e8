/* apiserver/quota - ResourceQuotas: what a namespace uses, kept exactly, and writes that would exceed it refused. */
#pragma once
#include "apiserver/internal.h"

struct quotas;
struct quotas *quotas_new(struct apiserver *s);
void quotas_free(struct quotas *q);

/* A write that was let through and is not seen in the store's events yet; it counts until it is. */
struct quota_claim;
/* May the object be written (in place of `old`; NULL: it is new)? Called with nothing between it and store_put().
 * *ret is NULL where no quota is concerned. False: refused, err has the words. */
MUST_CHECK bool quota_admit(struct quotas *q, const struct kind_info *k, struct str ns,
                            const struct json *old, const struct json *object, bool dry_run,
                            struct quota_claim **ret, struct error *err);
void quota_claim_put(struct quota_claim *c, int64_t revision); /* it is queued */
void quota_claim_done(struct quota_claim *c, bool written);    /* the writer's last word */
