/* controller/engine - carries plans out: many writes under way, one key at a time, never planned on a past of our own making. */
#pragma once
#include "api/kv.h"
#include "base/list.h"
#include "base/map.h"
#include "base/vec.h"
#include "client/informer.h"
#include "client/queue.h"
#include "client/recorder.h"
#include "controller/controller.h"
#include "controller/image_volumes.h"
#include "controller/plan.h"
#include "controller/vm_metrics.h"
#include "controller/vsock.h"

struct engine;
struct controllers;
struct job;

/* Our last write of an object: plans wait until the informer has reached it. */
struct expectation {
    enum resource_id resource;
    char *key;
    int64_t revision; /* what the informer must reach */
    bool gone;        /* or lose the object (which then had a revision below) */
};

/* What the engine remembers of a key between plans. */
struct key_state {
    struct engine *engine;
    char *key;
    VEC(struct expectation) expected;
    int64_t expected_until_ns; /* a lost event does not stop a key for ever */
    char *failure_reason, *failure_message;
    int64_t noticed_ns; /* for the controller: when it first saw something; 0: not */
    struct job *job;    /* the actions under way */
};

/* One kind of key: a queue, and how its plans are made. */
struct engine {
    struct controllers *c;
    const char *name;
    struct queue *queue;
    struct map keys; /* struct key_state */
    struct recorder *recorder;
    /* Looks at the informers and fills the plan (in its arena). */
    void (*plan)(struct controllers *c, struct key_state *k, struct plan *p);
};

void engine_init(struct engine *e, struct controllers *c, const char *name, unsigned parallel,
                 struct recorder *r,
                 void (*plan)(struct controllers *c, struct key_state *k, struct plan *p));
void engine_done(struct engine *e);
static inline void engine_add(struct engine *e, struct str key)
{
    queue_add(e->queue, key);
}
struct failure key_failure(const struct key_state *k, struct arena *a);

struct scheduler;

struct controllers {
    struct controllers_config config; /* texts owned below */
    char *launcher_image, *data_volumes_path, *ns;
    struct client *client;
    struct loop *loop;
    struct informer *informers[RESOURCES];
    struct recorder *recorder, *volume_recorder, *node_recorder;
    struct engine vm, vmi, volume, node, pdb;
    struct scheduler *scheduler; /* NULL: the cluster's own */
    struct kv_config *kv;
    char *kv_spec; /* that it was made of, as text; NULL: not yet seen */
    struct map
        waiting_for_claim; /* keys of VMIs whose claim does not exist; values are copies of the key */
    struct map pods_seen_dead; /* UIDs of VMIs whose pod is gone, and was seen to have ended before; on a cluster */
    struct map claims_wanted; /* keys of claims that some pod has named */
    struct vsock_ids vsock;
    struct image_volumes image_question;
    struct vm_metrics metrics;
    bool started;
};

const struct json *object_of(struct controllers *c, enum resource_id r, struct str key,
                             struct arena *a);
bool controllers_synced(const struct controllers *c); /* every informer has its first list */
/* Every object of a resource into the array; with `index` only those under that index value. */
const struct json *objects_of(struct controllers *c, enum resource_id r, struct str index,
                              struct arena *a);

void vm_make_plan(struct controllers *c, struct key_state *k, struct plan *p);
void vmi_make_plan(struct controllers *c, struct key_state *k, struct plan *p);
void volume_make_plan(struct controllers *c, struct key_state *k, struct plan *p);
void pdb_make_plan(struct controllers *c, struct key_state *k, struct plan *p);
void node_make_plan(struct controllers *c, struct key_state *k, struct plan *p);

void pdb_pod_changed(struct controllers *c, struct str key);

/* A pod that names the claim has come, changed or gone. */
void volume_consumed(struct controllers *c, const char *key, bool gone);
/* Whether the claim's class is the one that is bound here. */
bool volume_is_ours(struct controllers *c, const struct json *claim, struct arena *a);

struct scheduler *scheduler_new(struct controllers *c);
void scheduler_free(struct scheduler *s);
struct engine *scheduler_engine(struct scheduler *s); /* keys: pods */
void scheduler_pod_changed(struct scheduler *s, struct str key, const struct json *pod,
                           bool deleted);
void scheduler_node_changed(struct scheduler *s, struct str name, const struct json *node,
                            bool deleted);
void scheduler_volume_changed(struct scheduler *s); /* a pod that waited for one may go */
