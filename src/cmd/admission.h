/* cmd/admission - KubeVirt's rules as admission plugins of the embedded API server. */
#pragma once
#include "api/kv.h"
#include "apiserver/apiserver.h"

struct admission_rules {
    struct kv_config *config;          /* replaced when the KubeVirt object changes */
    struct kv_offers offers;           /* which VMMs the nodes have, as they say it */
    bool (*other_kubevirt)(void *data, struct str ns, struct str name); /* is there a KubeVirt object of another name? */
    void *data;
};
/* rules is borrowed for the server's life. */
void admission_register(struct apiserver *s, struct admission_rules *rules);
