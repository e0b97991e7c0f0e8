/* operator/status - what the KubeVirt object says about its installation, in upstream's words. Pure. */
#pragma once
#include "operator/install.h"

enum status_now {
    STATUS_SECOND,     /* another KubeVirt object, or one in another namespace: left alone */
    STATUS_FAILED,     /* `error` */
    STATUS_DEPLOYING,  /* nothing complete is there yet */
    STATUS_UPDATING,   /* from what was observed to another version */
    STATUS_READY,
    STATUS_BLOCKED,    /* is to be deleted, but machines exist: `error` */
    STATUS_DELETING,   /* `error`, where it does not go on; may be NULL */
    STATUS_DELETED,
};
struct status_facts {
    enum status_now now;
    const struct install *install; /* NULL: what is to be installed could not be told */
    const char *operator_version;
    const char *error;
    const char *trouble;           /* of DEPLOYING, UPDATING: why a component is not ready; NULL: nothing is known */
    const char *note;              /* of READY: what is left out; NULL: nothing */
    bool created;                  /* all objects are there */
    const struct json *generations;
};
/* The object with a new status; `kubevirt` itself when nothing changes. now: RFC 3339. */
const struct json *status_with(struct arena *a, const struct json *kubevirt, const struct status_facts *f, const char *now);
#define KUBEVIRT_FINALIZER "foregroundDeleteKubeVirt"
