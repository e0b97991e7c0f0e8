/* vireo api: what a cluster's API server asks of us. Webhooks, by the rules of room admission; and subresources.kubevirt.io, as an
 * aggregated API.
 *
 * Nothing here is written down, so any number of these may run. Of the cluster it keeps what the rules need (the KubeVirt object, what
 * nodes offer), where the node agents are, and who may tell us who asks; machines are read when they are asked about. */
#include <stdio.h>
#include <stdlib.h>

#include "admission/webhook.h"
#include "api/meta.h"
#include "apiserver/apiserver.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/metric.h"
#include "client/informer.h"
#include "cmd/role.h"
#include "http/server.h"
#include "http/tls.h"
#include "subresources/agents.h"
#include "subresources/aggregated.h"

#define BODY_MAX    (8u << 20)  /* a review holds an object twice */
#define LINGER      SECONDS(5)  /* until the API server has heard that this one goes */
#define N_PATHS     16

const char api_usage[] = "usage: vireo api --listen ADDR:PORT --tls-dir DIR --ca FILE --handler-client-dir DIR [FLAG…]\n"
                            "Webhooks and subresources.kubevirt.io for a Kubernetes cluster.\n"
                            "  --handler-client-dir DIR  tls.crt and tls.key that node agents know us by; read again when they change\n"
    ROLE_FLAGS_USAGE;

struct api {
    struct role role;
    struct role_flags flags;
    const char *handler_client_dir;
    struct admission_rules rules;
    struct informer *kubevirts, *nodes, *config_map;
    char *kubevirt_key; /* the KubeVirt object that is honoured */
    struct front_proxy proxy;
    struct cert_files *handler_certs;
    struct http_tls *handler_tls;
    struct agents *agents;
    struct subresources *subresources;
    struct aggregated *aggregated;
    struct list evictions;
    uint64_t reviews[N_PATHS][2]; /* by webhook_paths, refused and allowed */
    uint64_t malformed;
};

/* --- what the rules go by ---------------------------------------------------------------------------------------------------- */

static void on_kubevirt(void *user, struct str key, const struct json *object, bool deleted)
{
    struct api *p = user;
    AUTO(arena_done) struct arena a = {0};
    const struct json *kubevirt;

    (void)key;
    (void)object;
    (void)deleted;
    kubevirt = informer_oldest(p->kubevirts, &a);
    kv_config_free(p->rules.config);
    p->rules.config = kv_config_new(kubevirt);
    free(p->kubevirt_key);
    p->kubevirt_key = kubevirt ? xstrdup(meta_key(kubevirt, &a)) : NULL;
}

static bool add_offer(void *user, struct str key)
{
    struct api *p = user;
    AUTO(arena_done) struct arena a = {0};

    kv_offers_add(&p->rules.offers, informer_get(p->nodes, key, &a));
    return true;
}

static void count_offers(struct api *p)
{
    p->rules.offers = (struct kv_offers){.n = 0};
    informer_each(p->nodes, add_offer, p);
}

/* Which VMMs there are decides what auto takes. */
static void on_node(void *user, struct str key, const struct json *object, bool deleted)
{
    struct api *p = user;

    (void)key;
    (void)object;
    (void)deleted;
    if (p->nodes && informer_synced(p->nodes))
        count_offers(p);
}

static bool other_kubevirt(void *data, struct str ns, struct str name)
{
    struct api *p = data;
    AUTO(buf_done) struct buf key = {0};

    buf_addf(&key, STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(name));
    return p->kubevirt_key && strcmp(p->kubevirt_key, key.p) != 0;
}

/* Ready when everything has been read once that answers depend on. */
static void on_synced(void *user)
{
    struct api *p = user;

    if (p->nodes && informer_synced(p->nodes))
        count_offers(p);
    role_health(&p->role, "kubevirt", p->kubevirts && informer_synced(p->kubevirts) ? NULL : "the KubeVirt object is being read");
    role_health(&p->role, "nodes", p->nodes && informer_synced(p->nodes) ? NULL : "nodes are being read");
}

/* --- who may tell us who asks ------------------------------------------------------------------------------------------------- */

static void on_config_map(void *user, struct str key, const struct json *object, bool deleted)
{
    struct api *p = user;
    AUTO(error_clear) struct error err = {0};
    AUTO(front_proxy_done) struct front_proxy fresh = {0};
    bool same;

    (void)key;
    if (deleted) {
        front_proxy_done(&p->proxy);
        role_health(&p->role, "front-proxy", "ConfigMap " FRONT_PROXY_NAMESPACE "/" FRONT_PROXY_CONFIG " is gone");
        return;
    }
    same = front_proxy_read(&fresh, object, &err) && p->proxy.ca_pem && strcmp(p->proxy.ca_pem, fresh.ca_pem) == 0;
    if (err.kind != ERROR_NONE || (!same && !role_trust(&p->role, fresh.ca_pem, &err))) {
        log_warning("front-proxy", "%s: who was trusted before is trusted on", error_text(&err));
        if (!p->proxy.ca_pem)
            role_health(&p->role, "front-proxy", error_text(&err));
        return;
    }
    front_proxy_done(&p->proxy);
    p->proxy = TAKE(fresh);
    /* Certificates are checked when a connection is made: those that were made under the old authority end. */
    if (!same) {
        log_info("front-proxy", "the API server's requests are known by its authority");
        if (p->role.server)
            http_server_renew(p->role.server);
    }
    role_health(&p->role, "front-proxy", NULL);
}

/* --- node agents --------------------------------------------------------------------------------------------------------------- */

static bool renew_handler_tls(void *user, struct error *err)
{
    struct api *p = user;
    AUTO_FREE char *name = xasprintf("virt-handler.%s.svc", p->flags.ns);
    struct http_tls *tls = http_tls_new(&(struct http_tls_config){.cert_pem = cert_files_cert(p->handler_certs),
                                                                  .key_pem = cert_files_key(p->handler_certs),
                                                                  .ca_pem = cert_files_ca(p->handler_certs),
                                                                  .server_name = name},
                                        err);

    if (!tls)
        return error_wrap(err, "--handler-client-dir %s", p->handler_client_dir);
    agents_tls(p->agents, tls);
    http_tls_free(p->handler_tls);
    p->handler_tls = tls;
    return true;
}

/* --- webhooks ------------------------------------------------------------------------------------------------------------------ */

/* An eviction is judged by the pod's machine, which is read when that is asked. */
struct eviction {
    struct list node;
    struct api *api;
    struct exchange *x;
    struct client_call *call;
    struct webhook w;
};

static void respond_review(struct api *p, struct exchange *x, const struct webhook *w, const struct json *answer, bool allowed)
{
    size_t at = (size_t)(w->path - webhook_paths);

    if (at < N_PATHS)
        p->reviews[at][allowed]++;
    apiserver_respond_json(x, 200, answer);
}

static void eviction_free(struct eviction *e)
{
    if (e->call)
        client_cancel(e->api->role.client, e->call);
    e->x->closed = NULL;
    e->x->user = NULL;
    list_remove(&e->node);
    free(e);
}

static void on_eviction_gone(struct exchange *x)
{
    eviction_free(x->user);
}

static void judge(struct eviction *e, const struct error *err)
{
    struct api *p = e->api;
    struct exchange *x = e->x;
    struct webhook w = e->w;
    bool allowed;
    const struct json *answer = webhook_verdict(&w, err, &allowed);

    eviction_free(e);
    respond_review(p, x, &w, answer, allowed);
}

static bool could_be_read(struct eviction *e, const struct client_response *r, const char *what)
{
    AUTO(error_clear) struct error err = {0};

    e->call = NULL;
    if (r->err->kind == ERROR_NONE || r->err->kind == ERROR_NOT_FOUND)
        return true;
    error_set(&err, ERROR_UNAVAILABLE, "%s could not be read: %s", what, error_text(r->err));
    judge(e, &err);
    return false;
}

static void on_machine(void *user, const struct client_response *r)
{
    struct eviction *e = user;
    AUTO(error_clear) struct error err = {0};

    if (!could_be_read(e, r, "the pod's virtual machine"))
        return;
    if (r->err->kind == ERROR_NONE && !rules_evict(r->body, &err))
        judge(e, &err);
    else
        judge(e, &(struct error){0});
}

static void on_evicted_pod(void *user, const struct client_response *r)
{
    struct eviction *e = user;
    const struct error none = {0};
    struct str machine;

    if (!could_be_read(e, r, "the pod"))
        return;
    machine = r->err->kind == ERROR_NONE ? rules_machine_of(r->body) : STR_NONE;
    if (!machine.n) {
        judge(e, &none);
        return;
    }
    e->call = client_call(e->api->role.client,
                          &(struct client_request){.verb = CLIENT_GET, .group = "kubevirt.io", .version = "v1",
                                                   .plural = "virtualmachineinstances", .ns = e->w.review.ns,
                                                   .name = arena_str(&e->x->arena, machine)},
                          on_machine, e);
}

static void start_eviction(struct api *p, struct exchange *x, const struct webhook *w)
{
    struct eviction *e = NEW(struct eviction);

    e->api = p;
    e->x = x;
    e->w = *w;
    x->user = e;
    x->closed = on_eviction_gone;
    list_add_tail(&p->evictions, &e->node);
    e->call = client_call(p->role.client,
                          &(struct client_request){.verb = CLIENT_GET, .group = "", .version = "v1", .plural = "pods",
                                                   .ns = w->review.ns, .name = w->review.name},
                          on_evicted_pod, e);
}

static void review(struct api *p, struct exchange *x, const struct webhook_path *path)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *answer;
    struct webhook w;
    bool allowed;

    if (x->method != HTTP_POST)
        error_set(&err, ERROR_NOT_ALLOWED, "%s is a webhook: POST an AdmissionReview", path->path);
    else if (!informer_synced(p->kubevirts) || !informer_synced(p->nodes))
        error_set(&err, ERROR_UNAVAILABLE, "virt-api is starting: what its rules go by is being read");
    else if (!webhook_read(path, x->body, str_of(p->flags.ns), &x->arena, &w, &err))
        p->malformed++;
    if (err.kind != ERROR_NONE) {
        apiserver_respond_error(x, &err);
        return;
    }
    if (path->subresource && w.applies) {
        start_eviction(p, x, &w);
        return;
    }
    answer = path->subresource ? webhook_verdict(&w, &err, &allowed) : webhook_answer(&w, &p->rules, &allowed);
    respond_review(p, x, &w, answer, allowed);
}

static void handle(struct exchange *x, void *data)
{
    struct api *p = data;
    const struct webhook_path *path = webhook_path(x->path);
    AUTO(error_clear) struct error err = {0};

    if (path) {
        review(p, x, path);
    } else if (!aggregated_handle(p->aggregated, x)) {
        error_set(&err, ERROR_NOT_FOUND, "the server could not find the requested resource");
        apiserver_respond_error(x, &err);
    }
}

static void metrics(void *data, struct buf *b)
{
    const struct api *p = data;

    metric_family(b, "vireo_webhook_requests_total", "counter", "Reviews that were answered, by path and verdict.");
    for (size_t i = 0; i < N_PATHS && webhook_paths[i].path; i++)
        for (size_t allowed = 0; allowed < 2; allowed++)
            buf_addf(b, "vireo_webhook_requests_total{path=\"%s\",allowed=\"%s\"} %llu\n", webhook_paths[i].path,
                     allowed ? "true" : "false", (unsigned long long)p->reviews[i][allowed]);
    metric_one(b, "vireo_webhook_malformed_total", "counter", "What came to a webhook and was no review for it.", (double)p->malformed);
    aggregated_metrics(p->aggregated, b);
}

/* --- start and end ------------------------------------------------------------------------------------------------------------- */

static void follow(struct api *p)
{
    struct client *c = p->role.client;

    p->kubevirts = informer_new(&(struct informer_config){.client = c, .group = "kubevirt.io", .version = "v1", .plural = "kubevirts",
                                                          .ns = str_of(p->flags.ns), .changed = on_kubevirt, .synced = on_synced, .user = p});
    p->nodes = informer_new(&(struct informer_config){.client = c, .group = "", .version = "v1", .plural = "nodes",
                                                      .label_selector = STR("kubevirt.io/schedulable"), .changed = on_node,
                                                      .synced = on_synced, .user = p});
    p->config_map = informer_new(&(struct informer_config){.client = c, .group = "", .version = "v1", .plural = "configmaps",
                                                           .ns = STR(FRONT_PROXY_NAMESPACE),
                                                           .field_selector = STR("metadata.name=" FRONT_PROXY_CONFIG),
                                                           .changed = on_config_map, .user = p});
}

static struct str node_of_agent(void *data, const struct node_agent *who)
{
    const struct api *p = data;

    return agents_node(p->agents, who->pod_name, who->pod_uid);
}

static bool open_api(struct api *p, struct error *err)
{
    if (!role_open(&p->role, &p->flags, "vireo-api/" VIREO_VERSION, err))
        return false;
    p->rules = (struct admission_rules){.config = kv_config_new(NULL), .other_kubevirt = other_kubevirt, .node_of_agent = node_of_agent,
                                        .placed_by_cluster = true, .data = p};
    role_health(&p->role, "front-proxy", "ConfigMap " FRONT_PROXY_NAMESPACE "/" FRONT_PROXY_CONFIG " is being read");
    on_synced(p);
    p->agents = agents_new(&(struct agents_config){.client = p->role.client, .ns = p->flags.ns});
    p->handler_certs = cert_files_new(&(struct cert_files_config){.loop = p->role.loop, .dir = p->handler_client_dir, .ca_file = p->flags.ca,
                                                        .changed = renew_handler_tls, .user = p},
                                 err);
    if (!p->handler_certs || !renew_handler_tls(p, err))
        return false;
    p->subresources = subresources_new(&(struct subresources_config){.client = p->role.client, .agent = agents_of,
                                                                     .agent_data = p->agents, .version = VIREO_VERSION});
    p->aggregated = aggregated_new(&(struct aggregated_config){.client = p->role.client, .subresources = p->subresources,
                                                               .proxy = &p->proxy});
    follow(p);
    return role_serve(&p->role, &(struct role_server){.handle = handle, .metrics = metrics, .data = p, .linger_ns = LINGER,
                                                      .body_limit = BODY_MAX},
                      err);
}

static void close_api(struct api *p)
{
    http_server_free(p->role.server); /* its exchanges go before what they ask */
    p->role.server = NULL;
    while (!list_empty(&p->evictions))
        eviction_free(list_entry(p->evictions.next, struct eviction, node));
    informer_free(p->kubevirts);
    informer_free(p->nodes);
    informer_free(p->config_map);
    aggregated_free(p->aggregated);
    subresources_free(p->subresources);
    agents_free(p->agents);
    cert_files_free(p->handler_certs);
    http_tls_free(p->handler_tls);
    kv_config_free(p->rules.config);
    free(p->kubevirt_key);
    role_close(&p->role);
    front_proxy_done(&p->proxy);
}

int api_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct api p = {0};
    const struct role_option own[] = {{.name = "handler-client-dir", .text = &p.handler_client_dir}, {0}};
    bool ok;

    if (!role_parse(argc, argv, &p.flags, own) || !p.flags.listen || !p.flags.tls_dir || !p.flags.ca || !p.handler_client_dir) {
        fputs(api_usage, stderr);
        return 2;
    }
    log_setup("api", p.flags.debug ? LOG_DEBUG : LOG_INFO, p.flags.json);
    http_server_claim_descriptors();
    list_init(&p.evictions);
    ok = open_api(&p, &err);
    if (ok)
        loop_run(p.role.loop);
    close_api(&p);
    if (!ok)
        fprintf(stderr, "vireo api: %s\n", error_text(&err));
    return ok ? 0 : 1;
}
