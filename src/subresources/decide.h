/* subresources/decide - what a request on a VM or VMI means for its objects. Pure; tested by tables. */
#pragma once
#include "json/json.h"

struct decision {
    int status;                   /* of a refusal, or 0 */
    const char *message;          /* of a refusal */
    const struct json *spec_patch;   /* JSON Patch on the VM, or NULL */
    const struct json *status_patch; /* JSON Patch on the VM's status subresource, or NULL */
    const struct json *vmi_patch;    /* merge patch on the VMI, or NULL; done first */
    bool delete_pod;              /* the launcher pod goes at once (forced restart) */
};
/* vmi: NULL when there is none. body: options or NULL. */
void decide_start(const struct json *vm, const struct json *vmi, const struct json *body, struct arena *a, struct decision *ret);
void decide_stop(const struct json *vm, const struct json *vmi, const struct json *body, struct arena *a, struct decision *ret);
void decide_restart(const struct json *vm, const struct json *vmi, const struct json *body, struct arena *a, struct decision *ret);

/* May this be asked of the running machine? Sets status and message if not. */
void decide_vsock(struct str port, struct str tls, struct arena *a,
                  struct decision *ret); /* of the query: ?port=N&tls=false */
void decide_action(const char *action, const struct json *vmi, struct arena *a, struct decision *ret);
