/* vireo node: the pod runtime and the node agent. Root, but without a network socket: it is a client of the API on
 * api.sock, and serves consoles, VNC and logs to the control process alone on node.sock. */
#include "cmd/node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/instance.h"
#include "handler/handler.h"
#include "http/client.h"
#include "http/server.h"
#include "pod/reclaim.h"

struct node {
    struct node_parts parts;
    struct handler *handler;
    struct reclaim *reclaim;
    struct http_server *http;
    struct loop_signal term;
    struct loop_timer retry;
    char boot_id[64];
};

bool node_parts_open(struct node_parts *n, struct loop *l, int dirfd, const struct json *config, struct error *err)
{
    struct arena *a = &n->arena;
    char *dir = arena_strdup(a, json_str_at(config, "dir"));
    const char *name = arena_strdup(a, json_str_at(config, "name"));

    n->loop = l;
    n->dirfd = dirfd;
    n->oci_fd = open(arena_strdup(a, json_str_at(config, "ociDir")), O_PATH | O_DIRECTORY | O_CLOEXEC);
    n->client = client_http_new(l, http_client_new(&(struct http_client_config){
                                       .loop = l, .unix_path = arena_printf(a, "%s/run/api.sock", dir), .user_agent = "vireo-node"}));
    n->network = network_new(&(struct network_config){.loop = l, .instance = name, .dirfd = dirfd,
                                                      .pod_cidr = arena_strdup(a, json_str_at(config, "podCIDR")),
                                                      .cni_bin_dir = arena_strdup(a, json_str_at(config, "cniDir"))},
                             err);
    if (!n->network)
        return false;
    n->images = image_store_new(&(struct image_store_config){.loop = l, .dirfd = dirfd, .oci_dirfd = n->oci_fd,
                                                             .fetch_uid = instance_uid_base(name) + 1,
                                                             .fetch_gid = instance_uid_base(name) + 1, .fetcher = arena_strdup(a, json_str_at(config, "fetcher"))},
                                err);
    if (!n->images)
        return false;
    n->pods = pod_runtime_new(&(struct pod_runtime_config){.client = n->client, .dirfd = dirfd, .dir = dir, .instance = name,
                                                           .node_name = arena_strdup(a, json_str_at(config, "nodeName")),
                                                           .launcher = arena_strdup(a, json_str_at(config, "launcher")),
                                                           .network = n->network, .images = n->images,
                                                           .uid_base = instance_uid_base(name) + 1000},
                              err);
    return n->pods != NULL;
}

void node_parts_done(struct node_parts *n)
{
    pod_runtime_free(n->pods);
    image_store_free(n->images);
    network_free(n->network);
    client_free(n->client);
    fd_close(&n->oci_fd);
    arena_done(&n->arena);
}

static void handle(struct exchange *x, void *data)
{
    struct node *n = data;

    if (handler_http(n->handler, x) || pod_runtime_http(n->parts.pods, x))
        return;
    exchange_respond(x, 404, "text/plain", STR("no such path on the node agent\n"));
}

static void read_boot_id(struct node *n)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    struct str id;

    buf_init(&text, sizeof n->boot_id - 1);
    if (!file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, &err))
        log_warning(NULL, "%s: reboots will not be noticed, ignoring", error_text(&err));
    id = str_trim(buf_str(&text));
    memcpy(n->boot_id, id.p ? id.p : "", id.n);
}

static void on_term(struct loop_signal *s)
{
    loop_quit(container_of(s, struct node, term)->parts.loop);
}

static void guest_runs(void *data, struct str pod_uid)
{
    struct node *n = data;

    pod_runtime_guest_runs(n->parts.pods, pod_uid);
}

static bool start(struct node *n, const struct json *config, struct error *err)
{
    struct node_parts *p = &n->parts;
    struct host_options host;
    int pods = -1;

    if (!node_parts_open(p, loop_new(NULL), INSTANCE_FD_DIR, config, err)
        || !loop_signal_start(p->loop, &n->term, SIGTERM, on_term, err) || !network_setup(p->network, err)
        || !file_open_dir(INSTANCE_FD_DIR, "pods", &pods, err))
        return false;
    read_boot_id(n);
    host = (struct host_options){.boot_id = n->boot_id, .uid = instance_uid_base(arena_strdup(&p->arena, json_str_at(config, "name"))) + 2,
                                 .dirfd = INSTANCE_FD_DIR,
                                 .on_demand = json_get(config, "offerVMM") ? arena_strdup(&p->arena, json_str_at(config, "offerVMM")) : NULL};
    n->handler = handler_new(&(struct handler_config){.client = p->client, .pods_dirfd = pods, .embedded = true,
                                                      .node_name = arena_strdup(&p->arena, json_str_at(config, "nodeName")),
                                                      .uid_base = instance_uid_base(arena_strdup(&p->arena, json_str_at(config, "name"))) + 1000, .boot_id = n->boot_id,
                                                      .guest_runs = guest_runs, .guest_runs_data = n,
                                                      .host = &host},
                             err);
    if (!n->handler)
        return false;
    n->http = http_server_new(&(struct http_server_config){.loop = p->loop, .handle = handle, .data = n});
    if (!http_server_listen(n->http, INSTANCE_FD_LISTEN, NULL, err))
        return false;
    pod_runtime_start(p->pods);
    handler_start(n->handler);
    n->reclaim = reclaim_new(p->client, INSTANCE_FD_DIR);
    return true;
}

int node_main(void)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *config;
    struct node n = {.parts = {.dirfd = -1, .oci_fd = -1}};

    umask(022);
    if (!instance_config_read(&a, &config, &err)) {
        fprintf(stderr, "vireo node: %s\n", error_text(&err));
        return 1;
    }
    log_setup("node", json_bool_at(config, "debug", false) ? LOG_DEBUG : LOG_INFO, json_bool_at(config, "jsonLog", false));
    if (!start(&n, config, &err)) {
        log_error(NULL, "%s", error_text(&err));
        return 1;
    }
    loop_run(n.parts.loop);
    http_server_free(n.http);
    handler_free(n.handler);
    reclaim_free(n.reclaim);
    node_parts_done(&n.parts);
    loop_signal_stop(&n.term);
    loop_free(n.parts.loop);
    return 0;
}
