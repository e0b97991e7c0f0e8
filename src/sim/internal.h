/* sim/internal - parts of the simulator that know each other. */
#pragma once
#include "base/map.h"
#include "client/informer.h"
#include "handler/handler.h"
#include "sim/launcher.h"
#include "sim/sim.h"

#define SIM_RETRY_FIRST MILLIS(200)
#define SIM_RETRY_MAX SECONDS(10)

enum sim_node_stage {
    SIM_NODE_NEW,     /* its turn has not come */
    SIM_NODE_LOOKING, /* there is one of that name: whose is it? */
    SIM_NODE_LEASE,   /* the Node is there, its Lease is being made */
    SIM_NODE_LIVE,
    SIM_NODE_ENDING,  /* its last words are being said */
    SIM_NODE_ENDED,
};
struct sim_node {
    struct sim *sim;
    char *name;
    char *uid;       /* of the Node, for its Lease; NULL until it is known */
    unsigned number; /* of it follows its address */
    enum sim_node_stage stage;
    bool silent;
    bool remove, created; /* created: not found from an earlier simulator */
    struct client_call *call, *lease_call;
    struct loop_timer next, lease, status;
    int64_t retry_ns, ready_unix_ns;
};

struct sim_pod {
    struct sim_node *node;
    char *key, *uid;
    enum {
        SIM_POD_NEW,
        SIM_POD_CREATING, /* its first status is being written, or its containers take their time */
        SIM_POD_RUNNING,
        SIM_POD_ENDED,    /* the containers have ended, the status says so or will */
        SIM_POD_GONE,     /* the last deletion is under way */
        SIM_POD_REFUSED,  /* no machine's, and not played */
    } stage;
    bool machine;    /* a launcher's */
    bool played;     /* … or another one that runs */
    bool deleting, written, evicted;
    int exit_code;
    unsigned address;
    struct sim_launcher *launcher;
    struct client_call *call;
    struct loop_timer next;
    struct loop_defer ended;
    int64_t retry_ns, grace_ns, started_unix_ns;
};

struct sim {
    struct sim_config config;
    char *prefix;
    struct loop *loop;
    struct client *client, *agents_client; /* agents_client: in another's name, or NULL */
    struct sim_node *nodes;
    struct map by_name;   /* name → struct sim_node */
    struct map pods;      /* UID → struct sim_pod */
    struct informer *node_objects, *pod_objects;
    struct handlers *agents;
    struct handler_launchers launchers;
    struct host_options host;
    size_t live, running;
    unsigned next_address;
    bool stopping, told_ready, refused;
    void (*stopped)(void *user);
    void *stopped_user;
    struct loop_timer patience;
};

/* node.c */
void sim_node_begin(struct sim_node *n, int64_t in_ns);
void sim_node_object(struct sim_node *n, const struct json *node, bool deleted);
void sim_node_end(struct sim_node *n, bool remove);
void sim_node_done(struct sim_node *n);
const struct json *sim_node_made(const struct sim_node *n, const char *now, struct arena *a); /* pure: the Node object */
void sim_address(unsigned kind, unsigned number, char ret[16]); /* kind 0: of nodes, 1: of pods */
/* sim.c */
void sim_node_lives(struct sim_node *n);      /* it is made, and its agent begins */
void sim_node_silence(struct sim_node *n, bool silent);
void sim_node_ended(struct sim_node *n);
void sim_failed(struct sim *s, const struct error *err);

/* pod.c */
void sim_pod_changed(struct sim *s, struct str key, const struct json *pod, bool deleted);
void sim_pod_free(struct sim_pod *p);
/* pod_status.c: pure. Bodies of strategic patches of a pod's status. */
struct sim_pod_view {
    const struct json *pod;
    const char *node_address, *pod_address;
    const char *now, *started; /* RFC 3339 */
    int exit_code;
    bool evicted;
};
const struct json *sim_status_creating(const struct sim_pod_view *v, struct arena *a);
const struct json *sim_status_running(const struct sim_pod_view *v, struct arena *a);
const struct json *sim_status_ended(const struct sim_pod_view *v, struct arena *a);
const struct json *sim_status_refused(const struct sim_pod_view *v, struct arena *a);
bool sim_pod_is_machine(const struct json *pod);
