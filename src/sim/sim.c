#include "sim/sim.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/meta.h"
#include "api/quantity.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"
#include "network/network.h"
#include "sim/internal.h"
#include "vmm/proto.h"

#define NODE_EVERY MILLIS(4) /* nodes are made one after the other: a thousand in four seconds */
#define STOP_PATIENCE SECONDS(10)
#define MAX_NAME 50          /* of a prefix: with a number behind it, a label's value still */

/* ---- launchers, as the node agents find them ---- */

static bool connect_launcher(void *data, struct str pod_uid, struct proto_client **ret, struct error *err)
{
    struct sim *s = data;
    struct sim_pod *p = map_get(&s->pods, pod_uid);

    if (!p || !p->launcher)
        return error_set(err, ERROR_UNAVAILABLE, "no launcher is played for this pod yet");
    return sim_launcher_connect(p->launcher, ret, err);
}

static const struct json *last_word(void *data, struct str pod_uid, struct arena *a)
{
    struct sim *s = data;
    struct sim_pod *p = map_get(&s->pods, pod_uid);

    return p && p->launcher && sim_launcher_ended(p->launcher) ? sim_launcher_domain(p->launcher, a) : NULL;
}

/* A guest's first MAC address is the pod's, which follows from its address here. */
static void network(void *data, struct str pod_uid, const struct json *vmi, struct network_vm *ret)
{
    struct sim *s = data;
    struct sim_pod *p = map_get(&s->pods, pod_uid);

    json_each_item(i, json_at(vmi, "spec/domain/devices/interfaces")) {
        struct network_nic *nic = &ret->nics[ret->n];
        struct str mac = json_str_at(i, "macAddress");
        unsigned address = p ? p->address : 0;

        if (ret->n == ARRAY_SIZE(ret->nics))
            return;
        snprintf(nic->name, sizeof nic->name, STR_FMT, STR_ARG(json_str_at(i, "name")));
        if (mac.n)
            snprintf(nic->mac, sizeof nic->mac, STR_FMT, STR_ARG(mac));
        else
            snprintf(nic->mac, sizeof nic->mac, "02:5%x:%02x:%02x:%02x:%02x", ret->n, address >> 24, (address >> 16) & 255,
                     (address >> 8) & 255, address & 255);
        if (ret->n == 0)
            sim_address(1, address, nic->ips[nic->n_ips++]);
        nic->mtu = 1500;
        nic->dhcp_fd = -1;
        ret->n++;
    }
}

/* ---- what the API server says ---- */

static void on_node(void *user, struct str key, const struct json *node, bool deleted)
{
    struct sim *s = user;
    struct sim_node *n = map_get(&s->by_name, key);

    if (n)
        sim_node_object(n, node, deleted);
}

static void on_pod(void *user, struct str key, const struct json *pod, bool deleted)
{
    sim_pod_changed(user, key, pod, deleted);
}

static size_t by_node(const struct json *pod, struct str ret[4])
{
    ret[0] = json_str_at(pod, "spec/nodeName");
    return ret[0].n ? 1 : 0;
}

/* ---- nodes come and go ---- */

struct replay {
    struct sim *sim;
    struct arena a;
};

static bool replay(void *user, struct str key)
{
    struct replay *r = user;
    const struct json *pod = informer_get(r->sim->pod_objects, key, &r->a);

    if (pod)
        sim_pod_changed(r->sim, key, pod, false);
    arena_clear(&r->a);
    return true;
}

/* What has happened to its pods while nobody listened. */
static void catch_up(struct sim_node *n)
{
    struct replay r = {.sim = n->sim};
    struct sim_pod *p;
    struct str uid;
    size_t at = 0;
    void *value;

    while (map_next(&n->sim->pods, &at, &uid, &value)) {
        p = value;
        if (p->node == n && !str_is(meta_uid(informer_get(n->sim->pod_objects, str_of(p->key), &r.a)), p->uid))
            sim_pod_free(p); /* deleting what was just returned is allowed */
        arena_clear(&r.a);
    }
    informer_by_index(n->sim->pod_objects, str_of(n->name), replay, &r);
    arena_done(&r.a);
}

static bool silent_from_start(const struct sim *s, const char *name)
{
    for (size_t i = 0; s->config.silent && s->config.silent[i]; i++)
        if (str_is(str_of(name), s->config.silent[i]))
            return true;
    return false;
}

static void on_synced(void *user);

void sim_node_lives(struct sim_node *n)
{
    struct sim *s = n->sim;

    s->live++;
    if (silent_from_start(s, n->name)) {
        n->silent = true;
        log_info(n->name, "silent from now on");
    } else {
        handlers_add(s->agents, n->name);
        catch_up(n);
    }
    on_synced(s);
}

/* Pods are looked at from the moment at which both lists and all nodes are there. */
static void on_synced(void *user)
{
    struct sim *s = user;

    if (s->told_ready || s->live < s->config.nodes || !informer_synced(s->pod_objects) || !informer_synced(s->node_objects))
        return;
    s->told_ready = true;
    log_info(NULL, "%u simulated nodes, %s0 to %s%u", s->config.nodes, s->prefix, s->prefix, s->config.nodes - 1);
    if (s->config.ready)
        s->config.ready(s->config.user);
}

void sim_node_silence(struct sim_node *n, bool silent)
{
    if (n->silent == silent)
        return;
    n->silent = silent;
    log_info(n->name, silent ? "silent from now on" : "heard again");
    if (silent) {
        handlers_remove(n->sim->agents, str_of(n->name));
    } else {
        handlers_add(n->sim->agents, n->name);
        catch_up(n);
    }
}

void sim_failed(struct sim *s, const struct error *err)
{
    if (s->stopping || s->refused)
        return;
    s->refused = true;
    s->config.failed(s->config.user, err);
}

/* ---- life ---- */

static bool check_quantity(const char *flag, const char *text, struct error *err)
{
    struct quantity q;

    if (!quantity_parse(str_of(text), &q, err))
        return error_wrap(err, "%s", flag);
    return quantity_value(q) > 0 || error_set(err, ERROR_BAD_REQUEST, "%s: '%s' is no capacity", flag, text);
}

static bool check(const struct sim_config *c, struct error *err)
{
    size_t n = strlen(c->prefix);

    if (c->nodes < 1 || c->nodes > SIM_MAX_NODES)
        return error_set(err, ERROR_BAD_REQUEST, "nodes: %u is not between 1 and %d", c->nodes, SIM_MAX_NODES);
    if (n == 0 || n > MAX_NAME)
        return error_set(err, ERROR_BAD_REQUEST, "prefix: 1 to %d characters", MAX_NAME);
    for (size_t i = 0; i < n; i++) {
        char ch = c->prefix[i];
        bool letter = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');

        if (!letter && (ch != '-' || i == 0))
            return error_set(err, ERROR_BAD_REQUEST, "prefix '%s': lower case letters, digits and '-', a letter or digit first", c->prefix);
    }
    return check_quantity("cpu", c->cpu, err) && check_quantity("memory", c->memory, err) && check_quantity("pods", c->pods, err);
}

bool sim_new(const struct sim_config *c, struct sim **ret, struct error *err)
{
    struct sim_config config = *c;
    struct handler_config agents;
    struct sim *s;

    config.prefix = c->prefix ? c->prefix : "sim-";
    config.cpu = c->cpu ? c->cpu : "32";
    config.memory = c->memory ? c->memory : "128Gi";
    config.pods = c->pods ? c->pods : "250";
    config.lease_s = c->lease_s ? c->lease_s : 40;
    if (!check(&config, err))
        return false;
    s = NEW(struct sim);
    s->config = config;
    s->prefix = xstrdup(config.prefix);
    s->client = c->client;
    s->loop = c->client->loop;
    s->launchers = (struct handler_launchers){.connect = connect_launcher, .last_word = last_word, .network = network, .data = s};
    s->host = (struct host_options){.kvm = "/nonexistent/kvm", .mshv = "/nonexistent/mshv", .kernel = "simulated", .boot_id = "simulated",
                                    .drivers = sim_drivers, .on_demand = SIM_DRIVERS, .dirfd = -1};
    s->agents_client = c->agents_as ? client_as(c->client, c->agents_as) : NULL;
    agents = (struct handler_config){.client = s->agents_client ? s->agents_client : c->client, .node_client = c->client, .pods_dirfd = -1, .host = &s->host, .launchers = &s->launchers};
    s->agents = handlers_new(&agents, err);
    if (!s->agents) {
        sim_free(s);
        return false;
    }
    s->nodes = xcalloc(config.nodes, sizeof *s->nodes);
    for (unsigned i = 0; i < config.nodes; i++) {
        struct sim_node *n = &s->nodes[i];

        n->sim = s;
        n->number = i;
        n->name = xasprintf("%s%u", s->prefix, i);
        map_set(&s->by_name, str_of(n->name), n);
    }
    *ret = s;
    return true;
}

void sim_start(struct sim *s)
{
    handlers_start(s->agents);
    s->node_objects = informer_new(&(struct informer_config){.client = s->client, .group = "", .version = "v1", .plural = "nodes",
                                                             .label_selector = STR(SIM_MARK "=true"), .changed = on_node,
                                                             .synced = on_synced, .user = s});
    s->pod_objects = informer_new(&(struct informer_config){.client = s->client, .group = "", .version = "v1", .plural = "pods",
                                                            .field_selector = STR("spec.nodeName!="), .changed = on_pod,
                                                            .synced = on_synced, .index = by_node, .user = s});
    for (unsigned i = 0; i < s->config.nodes; i++)
        sim_node_begin(&s->nodes[i], NODE_EVERY * i);
}

static void finish(struct sim *s)
{
    void (*stopped)(void *user) = s->stopped;

    s->stopped = NULL;
    loop_timer_stop(&s->patience);
    if (stopped)
        stopped(s->stopped_user);
}

static void on_patience(struct loop_timer *t)
{
    log_warning(NULL, "the API server does not answer in time: nodes stay as they are");
    finish(container_of(t, struct sim, patience));
}

static void on_all_ended(struct loop_timer *t)
{
    finish(container_of(t, struct sim, patience));
}

void sim_node_ended(struct sim_node *n)
{
    struct sim *s = n->sim;

    n->stage = SIM_NODE_ENDED;
    for (unsigned i = 0; i < s->config.nodes; i++)
        if (s->nodes[i].stage != SIM_NODE_ENDED)
            return;
    loop_timer_start(s->loop, &s->patience, 0, on_all_ended); /* not from within the call of sim_stop() */
}

void sim_stop(struct sim *s, bool remove, void (*done)(void *user), void *user)
{
    s->stopping = true;
    s->stopped = done;
    s->stopped_user = user;
    for (unsigned i = 0; i < s->config.nodes; i++)
        handlers_remove(s->agents, str_of(s->nodes[i].name));
    loop_timer_start(s->loop, &s->patience, STOP_PATIENCE, on_patience);
    for (unsigned i = 0; i < s->config.nodes; i++)
        sim_node_end(&s->nodes[i], remove);
}

static void free_pods(struct sim *s)
{
    struct str uid;
    size_t at = 0;
    void *value;

    while (map_next(&s->pods, &at, &uid, &value))
        sim_pod_free(value);
    map_done(&s->pods);
}

void sim_free(struct sim *s)
{
    if (!s)
        return;
    loop_timer_stop(&s->patience);
    handlers_free(s->agents); /* agents first: they hold connections to launchers */
    informer_free(s->node_objects);
    informer_free(s->pod_objects);
    free_pods(s);
    for (unsigned i = 0; s->nodes && i < s->config.nodes; i++)
        sim_node_done(&s->nodes[i]);
    map_done(&s->by_name);
    client_free(s->agents_client);
    free(s->nodes);
    free(s->prefix);
    free(s);
}

struct sim_count sim_count(const struct sim *s)
{
    return (struct sim_count){.nodes = s->live, .pods = s->pods.n, .running = s->running};
}
