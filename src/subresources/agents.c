#include "subresources/agents.h"

#include <stdlib.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/map.h"
#include "client/informer.h"
#include "http/tls.h"

/* A pod of virt-handler. While a DaemonSet replaces one there may be two on a node. */
struct agent {
    char *node, *ip, *uid;
    bool ready;
    struct http_client *http; /* made when it is asked for */
};

struct agents {
    struct agents_config config;
    char *ns;
    const struct http_tls *tls;
    struct informer *pods;
    struct map all; /* "namespace/name" of the pod → struct agent */
};

static void agent_free(void *p)
{
    struct agent *g = p;

    if (!g)
        return;
    http_client_free(g->http);
    free(g->node);
    free(g->ip);
    free(g->uid);
    free(g);
}

static void on_pod(void *user, struct str key, const struct json *pod, bool deleted)
{
    struct agents *a = user;
    struct agent *g = map_get(&a->all, key);
    struct str node = json_str_at(pod, "spec/nodeName"), ip = json_str_at(pod, "status/podIP");

    if (deleted || !node.n) {
        agent_free(map_del(&a->all, key));
        return;
    }
    if (!str_is(json_str_at(pod, "status/phase"), "Running"))
        ip = STR(""); /* it writes before the kubelet has told that it runs, and is known by then */
    if (g && (!str_is(ip, g->ip) || !str_is(meta_uid(pod), g->uid) || !str_is(node, g->node))) {
        agent_free(map_del(&a->all, key));
        g = NULL;
    }
    if (!g) {
        g = NEW(struct agent);
        g->node = str_dup(node);
        g->ip = str_dup(ip);
        g->uid = str_dup(meta_uid(pod));
        map_set(&a->all, key, g);
    }
    g->ready = condition_is(pod, "Ready", "True") && !meta_deleting(pod);
}

struct agents *agents_new(const struct agents_config *c)
{
    struct agents *a = NEW(struct agents);

    a->config = *c;
    a->ns = xstrdup(c->ns);
    a->pods = informer_new(&(struct informer_config){.client = c->client, .group = "", .version = "v1", .plural = "pods",
                                                     .ns = str_of(a->ns), .label_selector = STR("kubevirt.io=virt-handler"),
                                                     .changed = on_pod, .user = a});
    return a;
}

void agents_free(struct agents *a)
{
    if (!a)
        return;
    informer_free(a->pods);
    map_done_with(&a->all, agent_free);
    free(a->ns);
    free(a);
}

struct str agents_node(const struct agents *a, struct str pod, struct str uid)
{
    AUTO(arena_done) struct arena key = {0};
    const struct agent *g = pod.n && uid.n ? map_get(&a->all, str_of(arena_printf(&key, "%s/" STR_FMT, a->ns, STR_ARG(pod)))) : NULL;

    return g && str_is(uid, g->uid) ? str_of(g->node) : STR_NONE;
}

bool agents_synced(const struct agents *a)
{
    return informer_synced(a->pods);
}

void agents_tls(struct agents *a, const struct http_tls *tls)
{
    size_t at = 0;
    struct str key;
    void *value;

    a->tls = tls;
    while (map_next(&a->all, &at, &key, &value))
        if (((struct agent *)value)->http)
            http_client_set_tls(((struct agent *)value)->http, tls);
}

struct http_client *agents_of(void *data, struct str node_name)
{
    struct agents *a = data;
    struct agent *best = NULL;
    size_t at = 0;
    struct str key;
    void *value;

    while (node_name.n && a->tls && map_next(&a->all, &at, &key, &value)) {
        struct agent *g = value;

        if (g->ip[0] && str_is(node_name, g->node) && (!best || (g->ready && !best->ready)))
            best = g;
    }
    if (best && !best->http)
        best->http = http_client_new(&(struct http_client_config){.loop = a->config.client->loop, .host = best->ip,
                                                                  .port = a->config.port ? a->config.port : AGENTS_PORT,
                                                                  .tls = a->tls, .user_agent = "vireo-api/" VIREO_VERSION});
    return best ? best->http : NULL;
}
