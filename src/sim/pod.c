/* A pod's way on a simulated node, as its kubelet would go it. Each step waits for the answer to the one before; what fails is said
 * again, later and later. Only the pod's object ends it. */
#include "sim/internal.h"

#include <stdlib.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"

static void step(struct sim_pod *p);

static const struct json *object_of(const struct sim_pod *p, struct arena *a)
{
    const struct json *pod = informer_get(p->node->sim->pod_objects, str_of(p->key), a);

    return pod && str_is(meta_uid(pod), p->uid) ? pod : NULL;
}

static void on_next(struct loop_timer *t)
{
    step(container_of(t, struct sim_pod, next));
}

static void again(struct sim_pod *p)
{
    p->retry_ns = p->retry_ns == 0 ? SIM_RETRY_FIRST : p->retry_ns * 2 < SIM_RETRY_MAX ? p->retry_ns * 2 : SIM_RETRY_MAX;
    loop_timer_start(p->node->sim->loop, &p->next, p->retry_ns, on_next);
}

/* ---- writes ---- */

static void call(struct sim_pod *p, const struct client_request *r, client_done_fn done)
{
    struct client_request request = *r;
    struct str ns, name;

    str_cut(str_of(p->key), '/', &ns, &name);
    request.group = "";
    request.version = "v1";
    request.plural = "pods";
    request.ns = ns;
    request.name = name;
    p->call = client_call(p->node->sim->client, &request, done, p);
}

/* Whether the answer leaves the pod where it is. */
static bool failed(struct sim_pod *p, const struct client_response *r)
{
    enum error_kind kind = r->err->kind;

    p->call = NULL;
    if (kind == ERROR_NONE) {
        p->retry_ns = 0;
        return false;
    }
    if (kind == ERROR_NOT_FOUND || kind == ERROR_CONFLICT || kind == ERROR_INVALID)
        log_debug(p->key, "%s", error_text(r->err)); /* it is gone, or another one of that name: its event comes */
    else
        log_warning(p->key, "%s, retrying", error_text(r->err));
    again(p);
    return true;
}

static void write_status(struct sim_pod *p, const struct json *(*make)(const struct sim_pod_view *v, struct arena *a),
                         client_done_fn done)
{
    AUTO(arena_done) struct arena a = {0};
    struct sim *s = p->node->sim;
    char node_address[16], pod_address[16], now[TIME_TEXT_LEN + 1], started[TIME_TEXT_LEN + 1];
    struct sim_pod_view v = {.pod = object_of(p, &a), .node_address = node_address, .pod_address = pod_address, .now = now,
                             .started = started, .exit_code = p->exit_code, .evicted = p->evicted};

    if (!v.pod)
        return;
    ident_time(loop_unix_ns(s->loop), false, now);
    ident_time(p->started_unix_ns, false, started);
    sim_address(0, p->node->number, node_address);
    sim_address(1, p->address, pod_address);
    call(p, &(struct client_request){.verb = CLIENT_PATCH_STRATEGIC, .subresource = "status", .body = make(&v, &a)}, done);
}

/* ---- the containers ---- */

static void on_ended(struct loop_defer *d)
{
    step(container_of(d, struct sim_pod, ended));
}

static void launcher_ended(void *user, int exit_code)
{
    struct sim_pod *p = user;

    if (p->stage == SIM_POD_RUNNING)
        p->node->sim->running--;
    p->exit_code = exit_code;
    p->stage = SIM_POD_ENDED;
    p->written = false;
    loop_defer(p->node->sim->loop, &p->ended, on_ended); /* not from within the launcher */
}

static void stop_containers(struct sim_pod *p)
{
    if (p->launcher && !sim_launcher_ended(p->launcher)) {
        sim_launcher_terminate(p->launcher, p->grace_ns);
        return;
    }
    if (!p->launcher)
        launcher_ended(p, 0);
}

/* ---- steps ---- */

static void on_created(void *user, const struct client_response *r)
{
    struct sim_pod *p = user;

    if (failed(p, r))
        return;
    p->written = true;
    loop_timer_start(p->node->sim->loop, &p->next, p->node->sim->config.pod_start_ns, on_next);
}

static void on_running(void *user, const struct client_response *r)
{
    struct sim_pod *p = user;

    if (failed(p, r))
        return;
    p->written = true;
    step(p);
}

static void on_last_status(void *user, const struct client_response *r)
{
    struct sim_pod *p = user;

    if (failed(p, r))
        return;
    p->written = true;
    step(p);
}

static void on_deleted(void *user, const struct client_response *r)
{
    struct sim_pod *p = user;

    if (failed(p, r)) /* gone already: the event comes */
        return;
    p->written = true;
}

static void start_containers(struct sim_pod *p)
{
    struct sim *s = p->node->sim;

    p->stage = SIM_POD_RUNNING;
    p->written = false;
    s->running++;
    if (p->machine)
        p->launcher = sim_launcher_new(&(struct sim_launcher_config){
            .loop = s->loop, .start_ns = s->config.guest_start_ns, .ended = launcher_ended, .user = p});
    write_status(p, sim_status_running, on_running);
}

static void delete_now(struct sim_pod *p)
{
    AUTO(arena_done) struct arena a = {0};

    p->stage = SIM_POD_GONE;
    p->written = false;
    call(p,
         &(struct client_request){.verb = CLIENT_DELETE,
                                  .body = json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "DeleteOptions"),
                                                      "gracePeriodSeconds", json_new_i64(&a, 0), "preconditions",
                                                      json_object(&a, "uid", json_new_z(&a, p->uid), NULL), NULL)},
         on_deleted);
}

/* What is next, when nothing is under way. */
static void step(struct sim_pod *p)
{
    if (p->call || p->node->silent || loop_timer_active(&p->next))
        return;
    switch (p->stage) {
    case SIM_POD_NEW:
        if (p->deleting) {
            delete_now(p);
            return;
        }
        p->stage = p->played ? SIM_POD_CREATING : SIM_POD_REFUSED;
        write_status(p, p->stage == SIM_POD_CREATING ? sim_status_creating : sim_status_refused,
                     p->stage == SIM_POD_CREATING ? on_created : on_running);
        return;
    case SIM_POD_CREATING:
        if (p->deleting)
            delete_now(p);
        else if (p->written)
            start_containers(p);
        else
            write_status(p, sim_status_creating, on_created);
        return;
    case SIM_POD_RUNNING:
        if (!p->written)
            write_status(p, sim_status_running, on_running);
        else if (p->deleting)
            stop_containers(p);
        return;
    case SIM_POD_ENDED:
        if (!p->written)
            write_status(p, sim_status_ended, on_last_status);
        else if (p->deleting)
            delete_now(p);
        return;
    case SIM_POD_GONE:
        if (!p->written)
            delete_now(p);
        return;
    case SIM_POD_REFUSED:
        if (p->deleting)
            delete_now(p);
        else if (!p->written)
            write_status(p, sim_status_refused, on_running);
        return;
    }
}

/* ---- the API's side ---- */

/* What a simulator that was here before has said of it holds: its machines are played on. */
static void adopt(struct sim_pod *p, const struct json *pod)
{
    struct str phase = json_str_at(pod, "status/phase");
    struct sim *s = p->node->sim;

    if (str_is(phase, "Succeeded") || str_is(phase, "Failed")) {
        p->stage = SIM_POD_ENDED;
        p->written = true;
    } else if (str_is(phase, "Running")) {
        p->stage = SIM_POD_RUNNING;
        p->written = true;
        s->running++;
        if (p->machine)
            p->launcher = sim_launcher_new(&(struct sim_launcher_config){
                .loop = s->loop, .start_ns = s->config.guest_start_ns, .ended = launcher_ended, .user = p});
    }
}

static struct sim_pod *pod_new(struct sim_node *n, struct str key, const struct json *pod)
{
    struct sim_pod *p = NEW(struct sim_pod);

    p->node = n;
    p->key = str_dup(key);
    p->uid = str_dup(meta_uid(pod));
    p->machine = sim_pod_is_machine(pod);
    /* The node agent is played, and so is its DaemonSet's pod. */
    p->played = p->machine || n->sim->config.play_all || str_is(meta_label(pod, "kubevirt.io"), "virt-handler");
    p->address = ++n->sim->next_address;
    p->started_unix_ns = loop_unix_ns(n->sim->loop);
    map_set(&n->sim->pods, meta_uid(pod), p);
    adopt(p, pod);
    return p;
}

static void obey(struct sim_pod *p, struct str wish)
{
    if (p->stage != SIM_POD_RUNNING || !(str_is(wish, "crash") || str_is(wish, "evict")))
        return;
    p->evicted = str_is(wish, "evict");
    if (p->launcher)
        sim_launcher_crash(p->launcher, p->evicted ? "evicted by the kubelet (simulated)" : "killed (simulated)");
    else
        launcher_ended(p, 137);
}

void sim_pod_changed(struct sim *s, struct str key, const struct json *pod, bool deleted)
{
    struct sim_node *n = map_get(&s->by_name, json_str_at(pod, "spec/nodeName"));
    struct sim_pod *p = n ? map_get(&s->pods, meta_uid(pod)) : NULL;

    if (!n || n->stage != SIM_NODE_LIVE || n->silent)
        return;
    if (deleted) {
        if (p)
            sim_pod_free(p);
        return;
    }
    if (!p)
        p = pod_new(n, key, pod);
    obey(p, meta_annotation(pod, SIM_WISH));
    if (meta_deleting(pod) && !p->deleting) {
        p->deleting = true;
        p->grace_ns = SECONDS(json_i64_at(pod, "metadata/deletionGracePeriodSeconds", 30));
        if (p->stage == SIM_POD_CREATING || p->stage == SIM_POD_NEW)
            loop_timer_stop(&p->next);
    }
    step(p);
}

void sim_pod_free(struct sim_pod *p)
{
    struct sim *s = p->node->sim;

    if (p->stage == SIM_POD_RUNNING)
        s->running--;
    map_del(&s->pods, str_of(p->uid));
    if (p->call)
        client_cancel(s->client, p->call);
    loop_timer_stop(&p->next);
    loop_defer_cancel(&p->ended);
    sim_launcher_free(p->launcher);
    free(p->key);
    free(p->uid);
    free(p);
}
