/* admission/rules - what KubeVirt says to a user's write: which VMM, what is filled in, what is put back, what is refused.
 *
 * One set of functions for both ways in: the embedded API server calls them as admission plugins (cmd/admission), a cluster's asks
 * for them by webhooks (admission/webhook). Pure but for random UUIDs. */
#pragma once
#include "admission/node.h"
#include "api/kv.h"

struct admission_rules {
    struct kv_config *config;          /* replaced when the KubeVirt object changes */
    struct kv_offers offers;           /* which VMMs the nodes have, as they say it */
    bool (*other_kubevirt)(void *data, struct str ns, struct str name); /* is there a KubeVirt object of another name? */
    /* The node on which a node agent's pod is, or absent; NULL: agents' writes are none of this server's business (it has policies, or
     * it knows agents by their sockets). */
    struct str (*node_of_agent)(void *data, const struct node_agent *who);
    bool placed_by_cluster; /* kube-scheduler places pods, and nodes' taints evict them */
    void *data;
};

enum review_op { REVIEW_CREATE, REVIEW_UPDATE };
/* A creation or an update of an object itself, not of a subresource. */
struct review {
    enum review_op op;
    struct str plural;                 /* "virtualmachines", "virtualmachineinstances", "kubevirts": others pass */
    struct str ns, name;               /* name may be empty on create with generateName */
    bool by_platform;                  /* by one of our own components, which may do what users may not */
    const struct json *old;            /* NULL on create */
    const struct json *object;         /* replaced (in the arena) by what is to be stored */
    struct arena *arena;
    struct schema_causes causes;       /* 422 Invalid with all of them */
    struct {
        const char *p[16];
        size_t n;
    } warnings;
};
/* false: refused with err (kind decides code and reason). Causes alone need no false. */
MUST_CHECK bool rules_mutate(const struct admission_rules *rules, struct review *r, struct error *err);
MUST_CHECK bool rules_validate(const struct admission_rules *rules, struct review *r, struct error *err);

/* The VMI whose machine a pod runs, or absent: who evicts that pod asks about this one. */
struct str rules_machine_of(const struct json *pod);
/* Evicting a VM's pod means moving the VM: a VM that asks for that is not ended instead (reference §5, pods/eviction webhook).
 * vmi NULL: it is gone. */
MUST_CHECK bool rules_evict(const struct json *vmi, struct error *err);

/* Whether this is one of our four service accounts in the namespace where KubeVirt is installed: exactly, by name. */
bool rules_our_account(struct str user, struct str install_ns);
