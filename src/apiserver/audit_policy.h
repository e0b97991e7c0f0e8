/* apiserver/audit_policy - which requests are noted, and how much of them: the format of audit.k8s.io/v1. Pure. */
#pragma once
#include "apiserver/apiserver.h"
#include "apiserver/rules.h"

enum audit_level { AUDIT_NONE, AUDIT_METADATA, AUDIT_REQUEST, AUDIT_REQUEST_RESPONSE };
enum audit_stage { AUDIT_RECEIVED, AUDIT_STARTED, AUDIT_COMPLETE, AUDIT_PANIC };
const char *audit_level_name(enum audit_level l);
const char *audit_stage_name(enum audit_stage s);

struct audit_policy;
struct audit_decision {
    enum audit_level level;
    unsigned omit; /* 1 << stage */
    bool omit_managed_fields;
};

/* YAML or JSON. Mistakes are ERROR_INVALID and named by path: "rules[2].level: …". */
MUST_CHECK bool audit_policy_parse(struct str text, struct audit_policy **ret, struct error *err);
void audit_policy_free(struct audit_policy *p);
/* The first rule that matches; without one nothing is noted. `who` NULL: nobody that is known. */
struct audit_decision audit_policy_decide(const struct audit_policy *p, const struct identity *who,
                                          const struct access *w);
