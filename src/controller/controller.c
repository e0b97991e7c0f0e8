#include "controller/controller.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/metric.h"
#include "controller/engine.h"
#include "controller/node_metrics.h"
#include "controller/vmi_plan.h"

/* Keys under way per controller. Beside the store their writes share commits; a Kubernetes API server has some hundred places for
 * writes, for everybody. */
#define PARALLEL_EMBEDDED 256
#define PARALLEL 32

/* Views */

const struct json *object_of(struct controllers *c, enum resource_id r, struct str key,
                             struct arena *a)
{
    return c->informers[r] ? informer_get(c->informers[r], key, a) : NULL;
}

bool controllers_synced(const struct controllers *c)
{
    for (size_t i = 0; i < RESOURCES; i++)
        if (c->informers[i] && !informer_synced(c->informers[i]))
            return false;
    return c->started;
}

const struct json *objects_of(struct controllers *c, enum resource_id r, struct str index, struct arena *a)
{
    return informer_list(c->informers[r], index, a);
}

/* Indexes */

static size_t by_owner(const struct json *o, struct str ret[4])
{
    ret[0] = json_str_at(meta_controller(o), "uid");
    return ret[0].n ? 1 : 0;
}

/* Pods that somebody else made in a launcher's likeness belong to nobody. */
static size_t launcher_by_owner(const struct json *pod, struct str ret[4])
{
    return kv_is_launcher(pod) ? by_owner(pod, ret) : 0;
}

static size_t vmi_by_node(const struct json *o, struct str ret[4])
{
    ret[0] = json_str_at(o, "status/nodeName");
    return ret[0].n ? 1 : 0;
}

/* What changed concerns which keys */

static void add_owner(struct engine *e, const struct json *object, const char *kind)
{
    const struct json *owner = meta_controller(object);
    AUTO(arena_done) struct arena a = {0};

    if (str_is(json_str_at(owner, "kind"), kind))
        engine_add(e, str_of(arena_printf(&a, STR_FMT "/" STR_FMT, STR_ARG(meta_namespace(object)),
                                          STR_ARG(json_str_at(owner, "name")))));
}

static void vm_changed(void *user, struct str key, const struct json *object, bool deleted)
{
    struct controllers *c = user;

    vm_metrics_vm(&c->metrics, key, object, deleted);
    engine_add(&c->vm, key);
    if (deleted) {
        engine_add(&c->vmi, key); /* whose finalizer nobody else would take off */
    }
}

static void vmi_changed(void *user, struct str key, const struct json *object, bool deleted)
{
    struct controllers *c = user;

    if (deleted)
        map_del(&c->pods_seen_dead, meta_uid(object));

    vm_metrics_vmi(&c->metrics, key, object, deleted);
    engine_add(&c->vmi, key);
    engine_add(&c->vm, key); /* of the same name, also when it is not the owner: it is in its way */
    if (deleted) {
        free(map_del(&c->waiting_for_claim, key));
        vsock_gone(&c->vsock, key);
    } else {
        vsock_seen(&c->vsock, key, meta_uid(object), json_i64_at(object, "status/VSOCKCID", 0));
    }
}

/* The last that is heard of a pod: had its process ended? */
static void note_end(struct controllers *c, const struct json *pod)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *owner = meta_controller(pod), *vmi;
    struct str uid = json_str_at(owner, "uid");

    if (!kv_is_launcher(pod) || !vmi_pod_dead(pod))
        return;
    vmi = object_of(c, RESOURCE_VMI,
                    str_of(arena_printf(&a, STR_FMT "/" STR_FMT, STR_ARG(meta_namespace(pod)), STR_ARG(json_str_at(owner, "name")))), &a);
    if (vmi && str_eq(meta_uid(vmi), uid))
        map_set(&c->pods_seen_dead, uid, c);
}

static void pod_changed(void *user, struct str key, const struct json *pod, bool deleted)
{
    struct controllers *c = user;
    AUTO(arena_done) struct arena a = {0};

    if (deleted && !c->config.embedded)
        note_end(c, pod);
    add_owner(&c->vmi, pod, "VirtualMachineInstance");
    if (c->scheduler)
        scheduler_pod_changed(c->scheduler, key, pod, deleted);
    if (!c->config.embedded)
        return;
    pdb_pod_changed(c, key);
    json_each_item(v, json_at(pod, "spec/volumes")) {
        struct str claim = json_str_at(v, "persistentVolumeClaim/claimName");

        if (claim.n)
            volume_consumed(
                c,
                arena_printf(&a, STR_FMT "/" STR_FMT, STR_ARG(meta_namespace(pod)), STR_ARG(claim)),
                deleted);
    }
}

static void node_changed(void *user, struct str key, const struct json *node, bool deleted)
{
    struct controllers *c = user;

    engine_add(&c->node, key);
    image_volumes_node_changed(c, key, node, deleted);
    if (c->scheduler)
        scheduler_node_changed(c->scheduler, key, node, deleted);
}

static void claim_changed(void *user, struct str key, const struct json *claim, bool deleted)
{
    struct controllers *c = user;
    struct str vmi;
    size_t at = 0;
    void *value;

    (void)claim;
    if (c->config.embedded)
        engine_add(&c->volume, key);
    if (deleted)
        free(map_del(&c->claims_wanted, key));
    while (map_next(&c->waiting_for_claim, &at, &vmi, &value))
        engine_add(&c->vmi, vmi);
    if (c->scheduler)
        scheduler_volume_changed(c->scheduler);
}

static void volume_changed(void *user, struct str key, const struct json *volume, bool deleted)
{
    struct controllers *c = user;
    AUTO(arena_done) struct arena a = {0};
    struct str name = json_str_at(volume, "spec/claimRef/name");

    (void)key;
    (void)deleted;
    if (name.n)
        engine_add(&c->volume,
                   str_of(arena_printf(&a, STR_FMT "/" STR_FMT,
                                       STR_ARG(json_str_at(volume, "spec/claimRef/namespace")),
                                       STR_ARG(name))));
}

static bool add_key(void *user, struct str key)
{
    engine_add(user, key);
    return true;
}

static void class_changed(void *user, struct str key, const struct json *class, bool deleted)
{
    struct controllers *c = user;

    (void)key;
    (void)class;
    (void)deleted;
    if (c->informers[RESOURCE_PVC])
        informer_each(c->informers[RESOURCE_PVC], add_key, &c->volume);
}

static void budget_changed(void *user, struct str key, const struct json *budget, bool deleted)
{
    struct controllers *c = user;

    (void)budget;
    if (!deleted)
        engine_add(&c->pdb, key);
}

static void revision_changed(void *user, struct str key, const struct json *revision, bool deleted)
{
    struct controllers *c = user;

    (void)key;
    (void)deleted;
    add_owner(&c->vm, revision, "VirtualMachine");
}

/* One KubeVirt object configures everything. */
static void kubevirt_changed(void *user, struct str key, const struct json *kubevirt, bool deleted)
{
    struct controllers *c = user;
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf spec = {0};

    (void)key;
    (void)deleted;
    kubevirt = informer_oldest(c->informers[RESOURCE_KUBEVIRT], &a);
    json_write(&spec, json_array(&a, json_get(kubevirt, "spec"), NULL));
    if (c->kv_spec && str_is(buf_str(&spec), c->kv_spec)) /* its status changes oftener */
        return;
    free(c->kv_spec);
    c->kv_spec = buf_detach(&spec);
    kv_config_free(c->kv);
    c->kv = kv_config_new(kubevirt);
    if (c->informers[RESOURCE_VM]) /* what was refused may be allowed now */
        informer_each(c->informers[RESOURCE_VM], add_key, &c->vm);
}

/* The first lists have brought keys before the view was whole, and they were dropped: here they all are. */
static void synced(void *user)
{
    struct controllers *c = user;

    if (!controllers_synced(c))
        return;
    log_info(NULL, "controllers: %zu virtual machines, %zu instances, %zu pods",
             informer_count(c->informers[RESOURCE_VM]), informer_count(c->informers[RESOURCE_VMI]),
             informer_count(c->informers[RESOURCE_POD]));
    informer_each(c->informers[RESOURCE_VM], add_key, &c->vm);
    informer_each(c->informers[RESOURCE_VMI], add_key, &c->vmi);
    informer_each(c->informers[RESOURCE_NODE], add_key, &c->node);
    if (c->config.embedded) {
        informer_each(c->informers[RESOURCE_PVC], add_key, &c->volume);
        informer_each(c->informers[RESOURCE_PDB], add_key, &c->pdb);
    }
    if (c->scheduler)
        informer_each(c->informers[RESOURCE_POD], add_key, scheduler_engine(c->scheduler));
}

/* Life */

struct controllers *controllers_new(const struct controllers_config *config)
{
    struct controllers *c = NEW(struct controllers);
    unsigned parallel = config->embedded ? PARALLEL_EMBEDDED : PARALLEL;

    c->config = *config;
    c->client = config->client;
    c->loop = config->client->loop;
    c->config.launcher_image = c->launcher_image = xstrdup(config->launcher_image);
    c->config.data_volumes_path = c->data_volumes_path =
        xstrdup(config->data_volumes_path ? config->data_volumes_path : "");
    c->config.ns = c->ns = config->ns ? xstrdup(config->ns) : NULL;
    c->kv = kv_config_new(NULL);
    c->vsock = (struct vsock_ids){.first = VSOCK_FIRST, .last = VSOCK_LAST};
    c->recorder = recorder_new(c->client, "virtualmachine-controller", NULL);
    c->node_recorder = recorder_new(c->client, "node-controller", NULL);
    engine_init(&c->vm, c, "vm", parallel, c->recorder, vm_make_plan);
    engine_init(&c->vmi, c, "vmi", parallel, c->recorder, vmi_make_plan);
    engine_init(&c->node, c, "node", parallel, c->node_recorder, node_make_plan);
    if (config->embedded) {
        c->volume_recorder = recorder_new(c->client, "persistentvolume-controller", NULL);
        engine_init(&c->volume, c, "volume", parallel, c->volume_recorder, volume_make_plan);
        engine_init(&c->pdb, c, "pdb", parallel, c->recorder, pdb_make_plan);
        c->scheduler = scheduler_new(c);
    }
    return c;
}

static void follow_in(struct controllers *c, enum resource_id r, struct str ns,
                   void (*changed)(void *user, struct str key, const struct json *object,
                                   bool deleted),
                   size_t (*index)(const struct json *object, struct str ret[4]))
{
    c->informers[r] = informer_new(&(struct informer_config){.client = c->client,
                                                             .group = resources[r].group,
                                                             .version = resources[r].version,
                                                             .plural = resources[r].plural,
                                                             .ns = ns,
                                                             .changed = changed,
                                                             .synced = synced,
                                                             .user = c,
                                                             .index = index});
}

static void follow(struct controllers *c, enum resource_id r,
                   void (*changed)(void *user, struct str key, const struct json *object,
                                   bool deleted),
                   size_t (*index)(const struct json *object, struct str ret[4]))
{
    follow_in(c, r, STR_NONE, changed, index);
}

void controllers_start(struct controllers *c)
{
    if (c->started)
        return;
    follow_in(c, RESOURCE_KUBEVIRT, str_of(c->config.ns), kubevirt_changed, NULL);
    follow(c, RESOURCE_NODE, node_changed, NULL);
    follow(c, RESOURCE_PVC, claim_changed, NULL);
    follow(c, RESOURCE_REVISION, revision_changed, by_owner);
    follow(c, RESOURCE_POD, pod_changed, launcher_by_owner);
    follow(c, RESOURCE_VMI, vmi_changed, vmi_by_node);
    follow(c, RESOURCE_VM, vm_changed, NULL);
    if (c->config.embedded) {
        follow(c, RESOURCE_PV, volume_changed, NULL);
        follow(c, RESOURCE_CLASS, class_changed, NULL);
        follow(c, RESOURCE_PDB, budget_changed, NULL);
    }
    c->started = true;
}

static bool first_name(void *user, struct str key)
{
    struct str ns;

    str_cut(key, '/', &ns, user);
    return false;
}

/* The name of its only pod, or of the one that the index has first. */
static struct str pod_of(void *controllers, struct str uid)
{
    struct informer *pods = ((struct controllers *)controllers)->informers[RESOURCE_POD];
    struct str name = STR_NONE;

    if (pods)
        informer_by_index(pods, uid, first_name, &name);
    return name;
}

static void queues(struct controllers *c, struct buf *b)
{
    const struct engine *engines[] = {&c->vm, &c->vmi, &c->node};

    metric_family(b, "kubevirt_workqueue_depth", "gauge", "Current depth of workqueue");
    for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
        buf_addf(b, "kubevirt_workqueue_depth{name=\"virt-controller-%s\"} %zu\n", engines[i]->name, queue_length(engines[i]->queue));
}

void controllers_metrics(void *controllers, struct buf *b)
{
    AUTO(arena_done) struct arena a = {0};
    struct controllers *c = controllers;

    node_metrics_write(objects_of(c, RESOURCE_NODE, STR_NONE, &a), b);
    queues(c, b);
    vm_metrics_write(&c->metrics, pod_of, c, b);
}

void controllers_free(struct controllers *c)
{
    if (!c)
        return;
    image_volumes_done(c);
    scheduler_free(c->scheduler);
    engine_done(&c->vm);
    engine_done(&c->vmi);
    engine_done(&c->node);
    engine_done(&c->volume);
    engine_done(&c->pdb);
    for (size_t i = 0; i < RESOURCES; i++)
        informer_free(c->informers[i]);
    recorder_free(c->recorder);
    recorder_free(c->node_recorder);
    recorder_free(c->volume_recorder);
    kv_config_free(c->kv);
    free(c->kv_spec);
    map_done_with(&c->waiting_for_claim, free);
    map_done_with(&c->claims_wanted, free);
    map_done(&c->pods_seen_dead);
    vsock_done(&c->vsock);
    vm_metrics_done(&c->metrics);
    free(c->launcher_image);
    free(c->ns);
    free(c->data_volumes_path);
    free(c);
}
