/* api/status - metav1.Status: how the API says no (and sometimes yes). */
#pragma once
#include "api/schema.h"

int status_code(enum error_kind kind);           /* HTTP code */
const char *status_reason(enum error_kind kind); /* "NotFound" …; "" for none */

/* What a failure is about. Fields may be NULL. */
struct status_details {
    const char *name, *group, *kind, *uid; /* kind: plural resource or Kind, as kube-apiserver says it in that place */
    int retry_after_seconds;               /* 0: left out */
};
/* Failure from an error; details NULL: without a details member, as kube-apiserver answers bad requests. */
const struct json *status_of(struct arena *a, const struct error *e, const struct status_details *details);
/* 422 Invalid: 'Kind.group "name" is invalid: …' */
const struct json *status_invalid(struct arena *a, const struct schema_causes *causes, const char *group,
                                  const char *kind, const char *name);
/* A Failure in full: every other form. `causes` (a JSON array) and details may be NULL. */
const struct json *status_failure(struct arena *a, int code, const char *reason, const char *message,
                                  const struct status_details *details, const struct json *causes);
const struct json *status_causes(struct arena *a, const struct schema_causes *causes); /* JSON array */

/* Errors in the words of kube-apiserver; `resource` is "virtualmachines.kubevirt.io" (plural.group, or the plural alone). */
char *status_resource(struct arena *a, const char *group, const char *plural);
bool status_not_found(struct error *err, const char *group, const char *plural, struct str name);
/* The text of causes as 'message' has it: "f: m", or "[f: m, f: m]". */
void status_write_causes(struct buf *b, const struct schema_causes *causes);
