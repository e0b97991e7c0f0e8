/* operator/internal - what the files that act share. Internal to this room. */
#pragma once
#include "base/map.h"
#include "base/vec.h"
#include "client/informer.h"
#include "client/recorder.h"
#include "operator/certs.h"
#include "operator/operator.h"
#include "operator/operator_plan.h"
#include "operator/status.h"

/* Our last write of an object: nothing is planned until the informer has reached it. */
struct expected {
    struct informer *informer;
    char *key;
    int64_t revision;
    bool gone;
};

enum op_kind { OP_PROBE, OP_APPLY, OP_DELETE, OP_STATUS, OP_FINALIZER };
struct op {
    struct list node;
    struct operator *o;
    enum op_kind kind;
    struct informer *informer; /* that will see it; NULL: none */
    char *key, *title;
    int64_t held; /* the revision that the informer had */
    struct client_call *call;
    enum managed_id managed;
};

/* What is known of an object beside the informers. */
#define PROBED_ABSENT ""
#define PROBED_OURS   "~" /* it has lost the label by which informers know it */
struct memory {
    int64_t revision; /* of the live object that was compared */
    char *differs;    /* where it differs from what it should be; NULL: nowhere */
    char *probed;     /* whose it is, where no informer has it: PROBED_ABSENT, PROBED_OURS, an owner; NULL: not asked */
    int64_t accepted; /* generation (where there is none, revision) in which the server has it otherwise than we wrote it */
    bool settled;     /* this process has seen it as it should be */
    unsigned repairs; /* in a row */
    int64_t repaired_ns, held_until_ns;
};

/* What should be there, made once for each state of the KubeVirt object and of the cluster. */
struct target {
    struct arena arena;
    struct install install;
    struct components components;
    char *key; /* what it was made of */
    struct error err;
};

struct operator {
    struct operator_config config;
    struct client *client;
    struct loop *loop;
    struct recorder *recorder;
    struct informer *kubevirts, *pods, *config_map, *managed[MANAGED]; /* config_map: the one of operator_cr.c */
    struct install_cluster cluster;
    bool started, discovered;
    unsigned asking_for; /* which question */
    struct client_call *asking;
    struct loop_timer ask_again;
    int64_t asked_ns; /* when the nodes were last counted */
    struct list ops;
    VEC(struct expected) expected;
    int64_t expected_until_ns;
    struct map memories; /* "kind|key" → struct memory */
    struct target target;
    struct loop_timer soon, later;
    bool stumbled;     /* a call of this round failed */
    bool wrote;        /* one has changed something */
    unsigned failures; /* rounds in a row in which one did */
    char *failure;     /* the last of them; NULL: all went well */
    int64_t not_before_ns;
    /* Machines, while the KubeVirt object is being deleted: those of the kinds VM and VMI. */
    struct count {
        struct operator *o;
        struct client_call *call;
    } counts[2];
    unsigned counting;
    bool counted;
    char *workloads, *workloads_error;
    char *said; /* the last Event's text: equal ones are said once */
    char *cr_said;
};

void operator_soon(struct operator *o);                 /* plan again, in a moment */
void operator_later(struct operator *o, int64_t in_ns); /* the earliest wins */
struct memory *memory_of(struct operator *o, enum managed_id kind, const char *key);
const struct managed *managed_here(struct operator *o, enum managed_id kind, struct managed *ret); /* the version that is served */

/* operator_act.c */
void act_probe(struct operator *o, const struct component *c);
void act_apply(struct operator *o, const struct component *c);
void act_delete(struct operator *o, enum managed_id kind, const struct json *object);
void act_kubevirt(struct operator *o, enum op_kind kind, const struct json *old, const struct json *new);
void act_cr(struct operator *o, const struct json *kubevirt);
void act_note(struct operator *o, const struct json *old, const struct json *new); /* on the ConfigMap */
void act_delete_config_map(struct operator *o, const struct json *config_map);
void act_done(struct operator *o);
void act_well(struct operator *o); /* what failed before has gone well, or is not tried any more */
/* It is as the server left it after our last write. */
bool act_accepted(const struct memory *m, const struct json *live);
bool act_settled(struct operator *o); /* nothing under way, and every write seen */

/* operator_certs.c */
struct cert_components {
    struct component p[2 + CERT_LEAVES];
    bool write[2 + CERT_LEAVES]; /* it is to be written; false: it is well as it is */
    size_t n;
    struct str ca_bundle;
    int64_t next_s;
    const char *news;
};
MUST_CHECK bool certs_view(struct operator *o, const struct json *kubevirt, struct arena *a, struct cert_components *ret,
                           struct error *err);

/* operator_cr.c */
#define CR_CONFIG_MAP "vireo-cr"
#define CR_KEY        "kubevirt.yaml"
/* The KubeVirt object in the ConfigMap, as it is applied. */
MUST_CHECK bool cr_read(const struct json *config_map, const char *ns, struct arena *a, const struct json **ret, struct error *err);
/* Makes the KubeVirt object of the ConfigMap; whether a write began. kubevirt: the one that there is, or NULL. */
bool cr_make(struct operator *o, const struct json *kubevirt, struct arena *a);
void cr_gone(struct operator *o, const struct json *kubevirt, struct arena *a); /* the object is about to go, and its ConfigMap with it */
