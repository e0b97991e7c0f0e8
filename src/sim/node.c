/* The Node object of a simulated node, its Lease, and how seldom a kubelet writes them: the Lease after a quarter of its time, the
 * status every five minutes. Labels of hypervisors and the heartbeat are the node agent's (handler/node.c). */
#include "sim/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"

#define STATUS_EVERY SECONDS(300)
#define DEVICES "1000"
#define NAMESPACE "kube-node-lease"

static void make_lease(struct sim_node *n);
static void make_node(struct sim_node *n);

/* 198.18.0.0/15 is for measurements, 100.64.0.0/10 for networks behind one's own: neither is anybody's on the Internet. */
void sim_address(unsigned kind, unsigned number, char ret[16])
{
    number++;
    if (kind == 0)
        snprintf(ret, 16, "198.%u.%u.%u", 18 + (number >> 16) % 2, (number >> 8) & 255, number & 255);
    else
        snprintf(ret, 16, "100.%u.%u.%u", 64 + (number >> 16) % 64, (number >> 8) & 255, number & 255);
}

static const struct json *resources(const struct sim_config *c, struct arena *a)
{
    return json_object(a, "cpu", json_new_z(a, c->cpu), "memory", json_new_z(a, c->memory), "pods", json_new_z(a, c->pods),
                       "ephemeral-storage", json_new_z(a, "1Ti"), "devices.kubevirt.io/kvm", json_new_z(a, DEVICES),
                       "devices.kubevirt.io/tun", json_new_z(a, DEVICES), "devices.kubevirt.io/vhost-net", json_new_z(a, DEVICES),
                       "devices.kubevirt.io/vhost-vsock", json_new_z(a, DEVICES), NULL);
}

static const struct json *condition(const char *type, const char *status, const char *reason, const char *message, const char *now,
                                    const char *since, struct arena *a)
{
    return json_object(a, "type", json_new_z(a, type), "status", json_new_z(a, status), "reason", json_new_z(a, reason), "message",
                       json_new_z(a, message), "lastHeartbeatTime", json_new_z(a, now), "lastTransitionTime", json_new_z(a, since), NULL);
}

static const struct json *conditions(const char *now, const char *since, bool ready, struct arena *a)
{
    return json_array(
        a, condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available", now, since, a),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure", now, since, a),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available", now, since, a),
        ready ? condition("Ready", "True", "KubeletReady", "the simulated kubelet is posting ready status", now, since, a)
              : condition("Ready", "False", "SimulatorStopped", "the simulator of this node was stopped", now, now, a),
        NULL);
}

static const struct json *status(const struct sim_node *n, const char *now, struct arena *a)
{
    char address[16], uuid[UUID_LEN + 1];

    sim_address(0, n->number, address);
    ident_uuid5("6ba7b812-9dad-11d1-80b4-00c04fd430c8", str_of(n->name), uuid);
    return json_object(
        a, "capacity", resources(&n->sim->config, a), "allocatable", resources(&n->sim->config, a), "conditions",
        conditions(now, now, true, a), "addresses",
        json_array(a, json_object(a, "type", json_new_z(a, "InternalIP"), "address", json_new_z(a, address), NULL),
                   json_object(a, "type", json_new_z(a, "Hostname"), "address", json_new_z(a, n->name), NULL), NULL),
        "nodeInfo",
        json_object(a, "architecture", json_new_z(a, "amd64"), "bootID", json_new_z(a, uuid), "containerRuntimeVersion",
                    json_new_z(a, "simulated://" VIREO_VERSION), "kernelVersion", json_new_z(a, "simulated"), "kubeProxyVersion",
                    json_new_z(a, ""), "kubeletVersion", json_new_z(a, "v1.36.0-simulated+vireo-" VIREO_VERSION), "machineID",
                    json_new_z(a, uuid), "operatingSystem", json_new_z(a, "linux"), "osImage",
                    json_new_z(a, "simulated by vireo sim"), "systemUUID", json_new_z(a, uuid), NULL),
        NULL);
}

const struct json *sim_node_made(const struct sim_node *n, const char *now, struct arena *a)
{
    const struct json *labels = json_object(
        a, "kubernetes.io/hostname", json_new_z(a, n->name), "kubernetes.io/arch", json_new_z(a, "amd64"), "kubernetes.io/os",
        json_new_z(a, "linux"), "node.kubernetes.io/instance-type", json_new_z(a, "simulated"), SIM_MARK, json_new_z(a, "true"), NULL);

    return json_object(
        a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "Node"), "metadata",
        json_object(a, "name", json_new_z(a, n->name), "labels", labels, "annotations",
                    json_object(a, SIM_MARK, json_new_z(a, "by vireo sim " VIREO_VERSION ": nothing runs on this node"), NULL), NULL),
        "spec", json_object(a, NULL), "status", status(n, now, a), NULL);
}

/* ---- writes ---- */

static struct client_request node_request(const struct sim_node *n, enum client_verb verb)
{
    return (struct client_request){.verb = verb, .group = "", .version = "v1", .plural = "nodes", .name = str_of(n->name)};
}

static struct client_request lease_request(const struct sim_node *n, enum client_verb verb)
{
    return (struct client_request){.verb = verb, .group = "coordination.k8s.io", .version = "v1", .plural = "leases",
                                   .ns = STR(NAMESPACE), .name = str_of(n->name)};
}

static int64_t backoff(struct sim_node *n)
{
    n->retry_ns = n->retry_ns == 0 ? SIM_RETRY_FIRST : n->retry_ns * 2 < SIM_RETRY_MAX ? n->retry_ns * 2 : SIM_RETRY_MAX;
    return n->retry_ns;
}

static int64_t renew_ns(const struct sim_node *n)
{
    return SECONDS(n->sim->config.lease_s) / 4;
}

/* ---- the Lease ---- */

static void on_lease_timer(struct loop_timer *t)
{
    make_lease(container_of(t, struct sim_node, lease));
}

static void on_renewed(void *user, const struct client_response *r)
{
    struct sim_node *n = user;

    n->lease_call = NULL;
    if (n->stage == SIM_NODE_ENDING) {
        sim_node_ended(n);
        return;
    }
    if (r->err->kind == ERROR_NOT_FOUND && n->stage == SIM_NODE_LIVE)
        n->stage = SIM_NODE_LEASE; /* somebody has deleted it */
    else if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_EXISTS) {
        log_warning(n->name, "lease: %s, retrying", error_text(r->err));
        loop_timer_start(n->sim->loop, &n->lease, backoff(n), on_lease_timer);
        return;
    } else if (n->stage == SIM_NODE_LEASE) {
        n->stage = SIM_NODE_LIVE;
        sim_node_lives(n);
    }
    n->retry_ns = 0;
    loop_timer_start(n->sim->loop, &n->lease, renew_ns(n), on_lease_timer);
}

static void make_lease(struct sim_node *n)
{
    AUTO(arena_done) struct arena a = {0};
    struct client_request r = lease_request(n, n->stage == SIM_NODE_LEASE ? CLIENT_CREATE : CLIENT_PATCH_MERGE);
    const struct json *spec;
    char now[TIME_TEXT_LEN + 1];

    if (n->lease_call || n->silent)
        return;
    ident_time(loop_unix_ns(n->sim->loop), true, now);
    if (r.verb == CLIENT_PATCH_MERGE) {
        r.body = json_object(&a, "spec", json_object(&a, "renewTime", json_new_z(&a, now), NULL), NULL);
    } else {
        r.name = STR_NONE;
        spec = json_object(&a, "holderIdentity", json_new_z(&a, n->name), "leaseDurationSeconds",
                           json_new_i64(&a, n->sim->config.lease_s), "renewTime", json_new_z(&a, now), NULL);
        r.body = json_object(
            &a, "apiVersion", json_new_z(&a, "coordination.k8s.io/v1"), "kind", json_new_z(&a, "Lease"), "metadata",
            json_object(&a, "name", json_new_z(&a, n->name), "namespace", json_new_z(&a, NAMESPACE), "ownerReferences",
                        json_array(&a,
                                   json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "Node"), "name",
                                               json_new_z(&a, n->name), "uid", json_new_z(&a, n->uid), NULL),
                                   NULL),
                        NULL),
            "spec", spec, NULL);
    }
    n->lease_call = client_call(n->sim->client, &r, on_renewed, n);
}

/* ---- the status ---- */

static void on_status_timer(struct loop_timer *t);

static void on_status(void *user, const struct client_response *r)
{
    struct sim_node *n = user;

    n->call = NULL;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND)
        log_warning(n->name, "status: %s, retrying", error_text(r->err));
    loop_timer_start(n->sim->loop, &n->status, r->err->kind == ERROR_NONE ? STATUS_EVERY : backoff(n), on_status_timer);
}

static void write_status(struct sim_node *n, bool ready, client_done_fn done)
{
    AUTO(arena_done) struct arena a = {0};
    struct client_request r = node_request(n, CLIENT_PATCH_STRATEGIC);
    char now[TIME_TEXT_LEN + 1], since[TIME_TEXT_LEN + 1];

    ident_time(loop_unix_ns(n->sim->loop), false, now);
    ident_time(n->ready_unix_ns, false, since);
    r.subresource = "status";
    r.body = json_object(&a, "status", json_object(&a, "conditions", conditions(now, since, ready, &a), NULL), NULL);
    n->call = client_call(n->sim->client, &r, done, n);
}

static void on_status_timer(struct loop_timer *t)
{
    struct sim_node *n = container_of(t, struct sim_node, status);

    if (!n->call && !n->silent)
        write_status(n, true, on_status);
}

/* ---- the Node ---- */

static void on_turn(struct loop_timer *t)
{
    make_node(container_of(t, struct sim_node, next));
}

static void made(struct sim_node *n, const struct json *node)
{
    free(n->uid);
    n->uid = str_dup(meta_uid(node));
    n->ready_unix_ns = loop_unix_ns(n->sim->loop);
    n->stage = SIM_NODE_LEASE;
    n->retry_ns = 0;
    make_lease(n);
    loop_timer_start(n->sim->loop, &n->status, STATUS_EVERY, on_status_timer);
}

static void refuse(struct sim_node *n)
{
    AUTO(error_clear) struct error err = {0};

    error_set(&err, ERROR_CONFLICT,
              "node %s exists and has no label " SIM_MARK "=true: it is not the simulator's to touch; choose other names with --prefix",
              n->name);
    sim_failed(n->sim, &err);
}

/* A simulator was here before: its node is Ready again. */
static void on_ready_again(void *user, const struct client_response *r)
{
    struct sim_node *n = user;

    n->call = NULL;
    if (r->err->kind == ERROR_NONE) {
        made(n, r->body);
        return;
    }
    n->stage = SIM_NODE_NEW;
    loop_timer_start(n->sim->loop, &n->next, backoff(n), on_turn);
}

static void on_looked(void *user, const struct client_response *r)
{
    struct sim_node *n = user;

    n->call = NULL;
    if (r->err->kind != ERROR_NONE) {
        n->stage = SIM_NODE_NEW;
        loop_timer_start(n->sim->loop, &n->next, backoff(n), on_turn);
    } else if (!str_is(meta_label(r->body, SIM_MARK), "true")) {
        refuse(n);
    } else {
        n->ready_unix_ns = loop_unix_ns(n->sim->loop);
        write_status(n, true, on_ready_again);
    }
}

static void on_made(void *user, const struct client_response *r)
{
    struct sim_node *n = user;
    struct client_request look = node_request(n, CLIENT_GET);

    n->call = NULL;
    if (r->err->kind == ERROR_NONE) {
        n->created = true;
        made(n, r->body);
    } else if (r->err->kind == ERROR_EXISTS) {
        n->stage = SIM_NODE_LOOKING;
        n->call = client_call(n->sim->client, &look, on_looked, n);
    } else {
        log_warning(n->name, "%s, retrying", error_text(r->err));
        loop_timer_start(n->sim->loop, &n->next, backoff(n), on_turn);
    }
}

static void make_node(struct sim_node *n)
{
    AUTO(arena_done) struct arena a = {0};
    struct client_request r = node_request(n, CLIENT_CREATE);
    char now[TIME_TEXT_LEN + 1];

    if (n->call || n->sim->stopping)
        return;
    ident_time(loop_unix_ns(n->sim->loop), false, now);
    r.name = STR_NONE;
    r.body = sim_node_made(n, now, &a);
    n->call = client_call(n->sim->client, &r, on_made, n);
}

void sim_node_begin(struct sim_node *n, int64_t in_ns)
{
    n->stage = SIM_NODE_NEW;
    loop_timer_start(n->sim->loop, &n->next, in_ns, on_turn);
}

void sim_node_object(struct sim_node *n, const struct json *node, bool deleted)
{
    bool wish = str_is(meta_annotation(node, SIM_WISH), "silent");

    if (n->stage != SIM_NODE_LIVE || n->sim->stopping)
        return;
    if (deleted) { /* a kubelet registers its node anew when it is started; a simulated one is as if it was */
        sim_node_silence(n, false);
        loop_timer_stop(&n->lease);
        loop_timer_stop(&n->status);
        sim_node_begin(n, SECONDS(1));
        return;
    }
    if (wish != n->silent)
        sim_node_silence(n, wish);
    if (!n->silent && !loop_timer_active(&n->lease) && !n->lease_call)
        make_lease(n);
    if (!n->silent && !loop_timer_active(&n->status) && !n->call)
        write_status(n, true, on_status);
}

/* ---- the end ---- */

static void on_node_ended(void *user, const struct client_response *r)
{
    struct sim_node *n = user;
    struct client_request lease = lease_request(n, CLIENT_DELETE);

    n->call = NULL;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND)
        log_warning(n->name, "it stays as it is: %s", error_text(r->err));
    if (!n->remove || n->lease_call)
        sim_node_ended(n);
    else
        n->lease_call = client_call(n->sim->client, &lease, on_renewed, n);
}

void sim_node_end(struct sim_node *n, bool remove)
{
    struct client_request r = node_request(n, CLIENT_DELETE);

    if (n->call)
        client_cancel(n->sim->client, n->call);
    if (n->lease_call)
        client_cancel(n->sim->client, n->lease_call);
    n->call = n->lease_call = NULL;
    loop_timer_stop(&n->next);
    loop_timer_stop(&n->lease);
    loop_timer_stop(&n->status);
    if (n->stage != SIM_NODE_LIVE && n->stage != SIM_NODE_LEASE) {
        sim_node_ended(n);
        return;
    }
    n->stage = SIM_NODE_ENDING;
    n->remove = remove || (n->sim->refused && n->created); /* of a refusal nothing is left that it has made */
    if (n->remove)
        n->call = client_call(n->sim->client, &r, on_node_ended, n);
    else
        write_status(n, false, on_node_ended);
}

void sim_node_done(struct sim_node *n)
{
    if (n->call)
        client_cancel(n->sim->client, n->call);
    if (n->lease_call)
        client_cancel(n->sim->client, n->lease_call);
    loop_timer_stop(&n->next);
    loop_timer_stop(&n->lease);
    loop_timer_stop(&n->status);
    free(n->name);
    free(n->uid);
}
