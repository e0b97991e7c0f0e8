/* The scheduler of a single machine (and of simulated nodes): accounts for what pods on nodes use, and binds those that wait.
 *
 * A pod is offered to ENOUGH nodes at a time, as kube-scheduler samples them, and goes to the best of the first lot in which it fits; the
 * next pod begins with the next lot. So a decision costs the same with a hundred nodes and with thousands, and with ENOUGH or fewer all
 * of them are compared. Only a pod that fits nowhere is held against every node, which is also what its message is made of.
 *
 * A decision counts at once, before the binding is answered, so that two pods never get the same room; it is undone when the pod
 * is planned again without a node. Pods that fit nowhere wait for a node, a pod's end or a volume. */
#include "controller/engine.h"
#include "controller/scheduler_plan.h"
#include "controller/scheduler_words.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"

#define ENOUGH 100 /* nodes among which the best one is chosen */

struct use { /* of one pod on one node */
    char *node;
    struct arena arena;
    struct amounts amounts;
};

struct sched_node {
    struct arena arena;
    struct candidate candidate;
    struct arena names; /* of resources in `used` */
};

struct scheduler {
    struct controllers *c;
    struct engine engine;
    struct recorder *recorder;
    struct map uses;    /* pod key → struct use */
    struct map nodes;   /* name → struct sched_node */
    struct map waiting; /* pod keys that fit nowhere; values are copies */
    VEC(struct sched_node *) order; /* all nodes */
    size_t next;                    /* with which the next decision begins */
};

static void use_free(void *p)
{
    struct use *u = p;

    arena_done(&u->arena);
    free(u->node);
    free(u);
}

static void node_free(void *p)
{
    struct sched_node *n = p;

    arena_done(&n->arena);
    arena_done(&n->names);
    free(n);
}

static void count(struct scheduler *s, const struct use *u, int64_t sign)
{
    struct sched_node *n = map_get(&s->nodes, str_of(u->node));

    for (size_t i = 0; n && i < u->amounts.n; i++) {
        const char *name = u->amounts.p[i].name;
        struct amounts *used = &n->candidate.used;
        bool known = false;

        for (size_t k = 0; k < used->n; k++)
            known |= strcmp(used->p[k].name, name) == 0;
        amounts_add(used, known ? name : arena_strdup(&n->names, str_of(name)),
                    sign * u->amounts.p[i].n);
    }
}

static void release(struct scheduler *s, struct str key)
{
    struct use *u = map_del(&s->uses, key);

    if (!u)
        return;
    count(s, u, -1);
    use_free(u);
}

static void occupy(struct scheduler *s, struct str key, const struct json *pod, struct str node)
{
    struct use *u = NEW(struct use);

    u->node = str_dup(node);
    u->amounts = amounts_of_pod(pod, &u->arena);
    map_set(&s->uses, key, u);
    count(s, u, 1);
}

static void wake(struct scheduler *s)
{
    struct str key;
    size_t at = 0;
    void *value;

    while (map_next(&s->waiting, &at, &key, &value))
        engine_add(&s->engine, key);
}

static bool pod_ended(const struct json *pod)
{
    struct str phase = json_str_at(pod, "status/phase");

    return str_is(phase, "Failed") || str_is(phase, "Succeeded");
}

void scheduler_pod_changed(struct scheduler *s, struct str key, const struct json *pod,
                           bool deleted)
{
    struct str node = json_str_at(pod, "spec/nodeName");
    struct use *u = map_get(&s->uses, key);

    if (deleted || pod_ended(pod)) {
        free(map_del(&s->waiting, key));
        if (u) {
            release(s, key);
            wake(s);
        }
        return;
    }
    if (!node.n) {
        if (!u) /* else it is being bound */
            engine_add(&s->engine, key);
        return;
    }
    free(map_del(&s->waiting, key));
    if (u && str_is(node, u->node))
        return; /* what a pod asks for does not change */
    release(s, key);
    occupy(s, key, pod, node);
}

static void out_of_order(struct scheduler *s, const struct sched_node *n)
{
    for (size_t i = 0; i < s->order.n; i++)
        if (s->order.p[i] == n) {
            vec_remove(&s->order, i);
            return;
        }
}

/* Whether a decision or its message would be the same. */
static bool same_to_pods(const struct json *old, const struct json *new)
{
    static const char *const paths[] = {"metadata/labels", "metadata/annotations/vireo.io~1hypervisor-report", "spec", "status/allocatable"};

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        if (!json_eq(json_at(old, paths[i]), json_at(new, paths[i])))
            return false;
    return str_eq(json_str_at(condition_find(old, "Ready"), "status"), json_str_at(condition_find(new, "Ready"), "status"))
           && (meta_annotation(old, "kubevirt.io/heartbeat").n > 0) == (meta_annotation(new, "kubevirt.io/heartbeat").n > 0);
}

void scheduler_node_changed(struct scheduler *s, struct str name, const struct json *node,
                            bool deleted)
{
    struct sched_node *n = map_get(&s->nodes, name);
    struct str key;
    size_t at = 0;
    void *value;

    if (deleted) {
        if (n) {
            out_of_order(s, n);
            node_free(map_del(&s->nodes, name));
        }
        return;
    }
    if (n && same_to_pods(n->candidate.node, node))
        return; /* a heartbeat: thousands of pods that wait need not look again */
    if (!n) {
        n = NEW(struct sched_node);
        vec_push(&s->order, n);
        map_set(&s->nodes, name, n);
        while (map_next(&s->uses, &at, &key, &value))
            if (str_is(name, ((struct use *)value)->node))
                count(s, value, 1);
    }
    arena_clear(&n->arena);
    n->candidate.node = json_copy(&n->arena, node);
    n->candidate.has = amounts_of_list(json_at(node, "status/allocatable"), &n->arena);
    if (json_len(json_at(node, "status/allocatable")) && !json_at(node, "status/allocatable/pods"))
        amounts_add(&n->candidate.has, "pods",
                    INT32_MAX); /* a node that does not say how many takes any number */
    wake(s);
}

void scheduler_volume_changed(struct scheduler *s)
{
    wake(s);
}

/* Why a pod has to wait for its claims; NULL: it has not. */
static const char *claims_missing(struct controllers *c, const struct json *pod, struct arena *a,
                                  bool *ret_silent)
{
    json_each_item(v, json_at(pod, "spec/volumes")) {
        struct str name = json_str_at(v, "persistentVolumeClaim/claimName");
        const struct json *claim;

        if (!name.n)
            continue;
        claim = object_of(c, RESOURCE_PVC,
                          str_of(arena_printf(a, STR_FMT "/" STR_FMT, STR_ARG(meta_namespace(pod)),
                                              STR_ARG(name))),
                          a);
        *ret_silent = false;
        if (!claim)
            return arena_printf(a, "persistentvolumeclaim \"" STR_FMT "\" not found",
                                STR_ARG(name));
        if (meta_deleting(claim))
            return arena_printf(a, "persistentvolumeclaim \"" STR_FMT "\" is being deleted",
                                STR_ARG(name));
        if (str_is(json_str_at(claim, "status/phase"), "Bound"))
            continue;
        *ret_silent = volume_is_ours(c, claim, a); /* being bound just now … */
        if (*ret_silent && str_is(json_str_at(claim, "spec/volumeMode"), "Block")) { /* … or never */
            *ret_silent = false;
            return arena_printf(a,
                                "persistentvolumeclaim \"" STR_FMT "\" asks for volumeMode Block, and this StorageClass's "
                                "volumes are directories: make it anew with volumeMode Filesystem",
                                STR_ARG(name));
        }
        return arena_printf(a,
                            "pod has unbound PersistentVolumeClaim \"" STR_FMT "\": see its Events",
                            STR_ARG(name));
    }
    return NULL;
}

static void unschedulable(struct plan *p, const struct json *pod, const char *message, int64_t now)
{
    const struct json *old = condition_find(pod, "PodScheduled");
    struct arena *a = p->a;

    if (str_is(json_str_at(old, "reason"), "Unschedulable")
        && str_is(json_str_at(old, "message"), message))
        return;
    plan_act(
        p, ACTION_CONDITION, RESOURCE_POD, pod,
        json_object(a, "status",
                    json_object(a, "conditions",
                                json_array(a,
                                           json_object(a, "type", json_new_z(a, "PodScheduled"),
                                                       "status", json_new_z(a, "False"), "reason",
                                                       json_new_z(a, "Unschedulable"), "message",
                                                       json_new_z(a, message), "lastProbeTime",
                                                       json_null(), "lastTransitionTime",
                                                       json_new_z(a, time_text(a, now)), NULL),
                                           NULL),
                                NULL),
                    NULL));
    plan_notice(p, "Warning", "FailedScheduling", "%s", message);
}

/* A node that has just started does not know yet what it has. That is no news for so long; its word wakes the pod. */
#define FINDING_OUT SECONDS(3)

static bool too_early(const struct json *pod, const struct candidate *nodes, size_t n, int64_t now)
{
    AUTO(error_clear) struct error err = {0};
    int64_t made;

    return ident_parse_time(json_str_at(pod, "metadata/creationTimestamp"), &made, &err) && now - made < FINDING_OUT
           && scheduler_hypervisor_unknown(pod, nodes, n);
}

/* The best of one lot of nodes, from s->next on; false: it fits on none of them. */
static bool choose_among(struct scheduler *s, const struct json *pod, size_t from, size_t n, struct candidate *lot, struct arena *a,
                         const char **ret_node, const char **ret_message)
{
    int i;

    for (size_t k = 0; k < n; k++)
        lot[k] = s->order.p[(from + k) % s->order.n]->candidate;
    i = schedule(pod, lot, n, a, ret_message);
    if (i >= 0)
        *ret_node = arena_strdup(a, meta_name(lot[i].node));
    return i >= 0;
}

static bool choose(struct scheduler *s, const struct json *pod, int64_t now, struct arena *a, const char **ret_node,
                   const char **ret_message, bool *ret_early)
{
    size_t all = s->order.n, from = all ? s->next % all : 0;
    struct candidate *lot = ARENA_ARRAY(a, struct candidate, all + 1);

    for (size_t at = 0; all > ENOUGH && at < all; at += ENOUGH)
        if (choose_among(s, pod, from + at, all - at < ENOUGH ? all - at : ENOUGH, lot, a, ret_node, ret_message)) {
            s->next = from + at + ENOUGH;
            return true;
        }
    if (choose_among(s, pod, 0, all, lot, a, ret_node, ret_message))
        return true;
    *ret_early = too_early(pod, lot, all, now);
    return false;
}

static void make_plan(struct controllers *c, struct key_state *k, struct plan *p)
{
    struct scheduler *s = c->scheduler;
    struct arena *a = p->a;
    struct str key = str_of(k->key);
    const struct json *pod = object_of(c, RESOURCE_POD, key, a);
    const char *message = NULL, *node = NULL;
    struct action *act;
    bool silent = false, early = false;

    if (!pod || json_str_at(pod, "spec/nodeName").n || meta_deleting(pod) || pod_ended(pod))
        return;
    p->about = pod;
    release(s, key); /* a binding that failed */
    message = claims_missing(c, pod, a, &silent);
    if (message || !choose(s, pod, loop_unix_ns(c->loop), a, &node, &message, &early)) {
        if (!map_get(&s->waiting, key))
            map_set(&s->waiting, key, xstrdup(k->key));
        if (early)
            plan_again(p, FINDING_OUT);
        else if (!silent)
            unschedulable(p, pod, message, loop_unix_ns(c->loop));
        return;
    }
    free(map_del(&s->waiting, key));
    occupy(s, key, pod, str_of(node));
    act =
        plan_act(p, ACTION_BIND, RESOURCE_POD, pod,
                 json_object(a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "Binding"),
                             "metadata",
                             json_object(a, "name", json_at(pod, "metadata/name"), "namespace",
                                         json_at(pod, "metadata/namespace"), "uid",
                                         json_at(pod, "metadata/uid"), NULL),
                             "target",
                             json_object(a, "apiVersion", json_new_z(a, "v1"), "kind",
                                         json_new_z(a, "Node"), "name", json_new_z(a, node), NULL),
                             NULL));
    act->done = (struct notice){
        "Normal", "Scheduled",
        arena_printf(a, "Successfully assigned " STR_FMT " to %s", STR_ARG(key), node)};
    act->failed = (struct notice){"Warning", "FailedScheduling", NULL};
}

struct scheduler *scheduler_new(struct controllers *c)
{
    struct scheduler *s = NEW(struct scheduler);

    s->c = c;
    s->recorder = recorder_new(c->client, "default-scheduler", NULL);
    /* One decision at a time is enough: what takes time, the binding, is not waited for by others' decisions. */
    engine_init(&s->engine, c, "scheduler", 256, s->recorder, make_plan);
    return s;
}

struct engine *scheduler_engine(struct scheduler *s)
{
    return &s->engine;
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    engine_done(&s->engine);
    recorder_free(s->recorder);
    map_done_with(&s->uses, use_free);
    vec_done(&s->order);
    map_done_with(&s->nodes, node_free);
    map_done_with(&s->waiting, free);
    free(s);
}
