/* vireo control: the API server, its store, the controllers and the scheduler in one process without privileges.
 *
 * It is started by `vireo serve` with its listening sockets and keys on inherited descriptors; the only files that it can write are
 * in DIR/control. The node process is the one peer on api.sock, known by SO_PEERCRED. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <linux/capability.h>
#include <unistd.h>

#include "api/meta.h"
#include "apiserver/apiserver.h"
#include "apiserver/audit.h"
#include "apiserver/local.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "client/informer.h"
#include "cmd/admission.h"
#include "cmd/instance.h"
#include "cmd/platform.h"
#include "controller/controller.h"
#include "http/client.h"
#include "http/server.h"
#include "http/tls.h"
#include "subresources/subresources.h"

#define FIRST_OBJECTS   "first-objects" /* a check of /readyz, there since they could not be made */
#define BOOTSTRAP_AGAIN SECONDS(5)
#define TRIM_EVERY SECONDS(20)
#define HEAP_SLACK (16u << 20)
#define DRAIN_NS SECONDS(3) /* consoles and slow readers are cut off then; the supervisor kills after 10 s */

struct control {
    struct loop *loop;
    struct arena arena; /* texts that the parts borrow */
    const struct json *config;
    struct store *store;
    struct apiserver *api;
    struct audit *audit;
    struct http_server *http;
    struct http_tls *tls;
    struct http_client *agent;
    struct client *client;
    struct subresources *subresources;
    struct controllers *controllers;
    struct informer *kubevirts, *nodes;
    struct platform *platform;
    struct admission_rules rules;
    struct loop_signal term;
    struct loop_timer bootstrap, trim;
    bool stopping, bootstrap_failed;
    char *kubevirt_key; /* the KubeVirt object that is honoured */
};

static bool drop_privileges(uid_t uid, struct error *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0
        || setresgid(uid, uid, uid) < 0
        || setresuid(uid, uid, uid) < 0)
        return error_errno(err, errno, "dropping privileges");
    if (syscall(SYS_capset, &head, none) < 0)
        return error_errno(err, errno, "dropping capabilities");
    /* setuid cleared the death signal (prctl(2)); without it a killed supervisor would leave us holding the port. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return error_errno(err, errno, "PR_SET_PDEATHSIG");
    return true;
}

static void on_kubevirt(void *user, struct str key, const struct json *object, bool deleted)
{
    struct control *c = user;
    AUTO(arena_done) struct arena a = {0};
    const struct json *kubevirt;

    (void)key;
    (void)object;
    (void)deleted;
    kubevirt = informer_oldest(c->kubevirts, &a);
    kv_config_free(c->rules.config);
    c->rules.config = kv_config_new(kubevirt);
    free(c->kubevirt_key);
    c->kubevirt_key = kubevirt ? xstrdup(meta_key(kubevirt, &a)) : NULL;
}

static bool add_offer(void *user, struct str key)
{
    struct control *c = user;
    AUTO(arena_done) struct arena a = {0};

    kv_offers_add(&c->rules.offers, informer_get(c->nodes, key, &a));
    return true;
}

/* Which VMMs there are decides what auto takes. */
static void on_node(void *user, struct str key, const struct json *object, bool deleted)
{
    struct control *c = user;

    (void)key;
    (void)object;
    (void)deleted;
    c->rules.offers = (struct kv_offers){.n = 0};
    if (c->nodes)
        informer_each(c->nodes, add_offer, c);
}

static bool other_kubevirt(void *data, struct str ns, struct str name)
{
    struct control *c = data;
    AUTO(buf_done) struct buf key = {0};

    buf_addf(&key, STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(name));
    return c->kubevirt_key && strcmp(c->kubevirt_key, key.p) != 0;
}

static struct http_client *agent_of(void *data, struct str node_name)
{
    struct control *c = data;

    return str_eq(node_name, json_str_at(c->config, "nodeName")) ? c->agent : NULL;
}

/* Log streams come from the node process; the API server only passes them on. */
struct log_relay {
    struct exchange *x;
    struct http_call *call;
    bool started;
};

static void relay_head(void *user, int status, const struct http_header *headers, size_t n)
{
    struct log_relay *r = user;
    AUTO_FREE char *type = NULL;

    for (size_t i = 0; i < n; i++)
        if (str_is(headers[i].name, "content-type") && !type)
            type = str_dup(headers[i].value);
    r->started = true;
    exchange_start(r->x, status, type ? type : "text/plain");
}

static void relay_data(void *user, struct str data)
{
    struct log_relay *r = user;

    if (exchange_write(r->x, data) > LIMIT_WATCH_BACKLOG) {
        http_call_cancel(r->call);
        exchange_abort(r->x);
        free(r);
    }
}

static void relay_done(void *user, int status, struct str body, const struct error *err)
{
    struct log_relay *r = user;

    (void)status;
    (void)body;
    r->x->closed = NULL;
    if (r->started && err->kind != ERROR_NONE)
        exchange_abort(r->x); /* a log that was cut off must not look like a whole one */
    else if (r->started)
        exchange_end(r->x);
    else
        apiserver_respond_error(r->x, err);
    free(r);
}

static void relay_closed(struct exchange *x)
{
    struct log_relay *r = x->user;

    http_call_cancel(r->call);
    free(r);
}

static void pod_log(void *data, struct exchange *x, const struct json *pod)
{
    struct control *c = data;
    struct log_relay *r = NEW(struct log_relay);
    struct str ns = json_str_at(pod, "metadata/namespace"), name = json_str_at(pod, "metadata/name");
    char *path = arena_printf(&x->arena, "/v1/pods/" STR_FMT "/" STR_FMT "/log%s" STR_FMT, STR_ARG(ns), STR_ARG(name),
                              x->query.n ? "?" : "", STR_ARG(x->query));

    r->x = x;
    x->user = r;
    x->closed = relay_closed;
    r->call = http_client_call(c->agent, &(struct http_request){.method = HTTP_GET, .path = str_of(path), .timeout_ns = -1,
                                                                .stream = true, .head = relay_head, .data = relay_data,
                                                                .done = relay_done, .user = r});
}

static void bootstrap_again(struct loop_timer *t);

static void on_bootstrapped(void *user, const struct error *err)
{
    struct control *c = user;

    if (err->kind != ERROR_NONE && !store_low_space(c->store)) {
        log_error(NULL, "first objects: %s", error_text(err));
        exit(1); /* the supervisor tries again */
    }
    if (!c->platform) {
        c->platform = platform_new(c->client);
        controllers_start(c->controllers);
        apiserver_health(c->api, "bootstrap", NULL);
    }
    /* On a full disk there are reads and deletions to be served. */
    if (err->kind != ERROR_NONE) {
        log_error(NULL, "first objects: %s; retrying", error_text(err));
        apiserver_health(c->api, FIRST_OBJECTS, error_text(err));
        loop_timer_start(c->loop, &c->bootstrap, BOOTSTRAP_AGAIN, bootstrap_again);
    } else if (c->bootstrap_failed) {
        apiserver_health(c->api, FIRST_OBJECTS, NULL);
    }
    c->bootstrap_failed = err->kind != ERROR_NONE;
}

static void bootstrap_again(struct loop_timer *t)
{
    struct control *c = container_of(t, struct control, bootstrap);

    apiserver_bootstrap(c->api, on_bootstrapped, c);
}

static bool open_store(struct control *c, struct error *err)
{
    AUTO_CLOSE int dirfd = -1;

    if (!file_open_dir(INSTANCE_FD_DIR, "control", &dirfd, err))
        return false;
    c->store = store_open(&(struct store_config){.loop = c->loop, .dirfd = dirfd}, err);
    if (c->store)
        dirfd = -1; /* borrowed by the store for the process's life */
    return c->store != NULL;
}

/* The supervisor, which alone can make certificates, brings a new one before the old one ends. */
static void take_certificate(struct control *c, struct exchange *x)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    struct http_tls *tls = NULL;

    if (json_parse(x->body, &x->arena, &v, &err))
        tls = http_tls_new(&(struct http_tls_config){.server = true,
                                                     .cert_pem = arena_strdup(&x->arena, json_str_at(v, "serverCert")),
                                                     .key_pem = arena_strdup(&x->arena, json_str_at(v, "serverKey")),
                                                     .ca_pem = arena_strdup(&x->arena, json_str_at(c->config, "caCert"))},
                           &err);
    if (!tls) {
        apiserver_respond_error(x, &err);
        return;
    }
    http_server_replace_tls(c->http, c->tls, tls);
    http_tls_free(c->tls);
    c->tls = tls;
    log_info(NULL, "new connections get the renewed server certificate");
    exchange_respond(x, 204, NULL, STR(""));
}

static void handle(struct exchange *x, void *data)
{
    struct control *c = data;

    if (x->peer->local && x->peer->uid == 0 && x->method == HTTP_PUT && str_is(x->path, INSTANCE_CERTIFICATE_PATH))
        take_certificate(c, x);
    else
        apiserver_handle(x, c->api);
}

static bool open_server(struct control *c, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct http_tls_config tls = {.server = true,
                                        .cert_pem = arena_strdup(&a, json_str_at(c->config, "serverCert")),
                                        .key_pem = arena_strdup(&a, json_str_at(c->config, "serverKey")),
                                        .ca_pem = arena_strdup(&a, json_str_at(c->config, "caCert"))};

    c->tls = http_tls_new(&tls, err);
    if (!c->tls)
        return false;
    c->http = http_server_new(&(struct http_server_config){.loop = c->loop, .handle = handle, .data = c});
    return http_server_listen(c->http, INSTANCE_FD_LISTEN, NULL, err)
           && http_server_listen(c->http, INSTANCE_FD_LISTEN_TLS, c->tls, err);
}

/* The policy is good: the supervisor has read it. Its directory is an inherited descriptor; standard output goes where the
 * supervisor's goes. */
static bool open_audit(struct control *c, struct error *err)
{
    const struct json *o = json_get(c->config, "audit");
    char *path = o ? arena_strdup(&c->arena, json_str_at(o, "path")) : NULL;
    const char *name = path ? strrchr(path, '/') : NULL;
    struct audit_config config = {
        .policy = json_str_at(o, "policy"),
        .log = {.dirfd = name ? INSTANCE_FD_AUDIT : -1, .name = name ? name + 1 : NULL, .fd = STDOUT_FILENO,
                .max_bytes = (uint64_t)json_i64_at(o, "maxMiB", 100) << 20,
                .max_backups = (unsigned)json_i64_at(o, "maxBackups", 0), .max_age_days = (unsigned)json_i64_at(o, "maxDays", 0)}};

    if (!o)
        return true;
    return audit_new(&config, &c->audit, err) || error_wrap(err, "audit log %s", path);
}

static bool open_api(struct control *c, struct error *err)
{
    struct arena *a = &c->arena;
    static const char *const groups[] = {"system:masters", NULL};
    struct apiserver_config config = {
        .loop = c->loop, .store = c->store,
        .service_account_key_pem = arena_strdup(a, json_str_at(c->config, "serviceAccountKey")),
        .ca_cert_pem = arena_strdup(a, json_str_at(c->config, "caCert")),
        .issuer = "https://kubernetes.default.svc",
        .node_name = arena_strdup(a, json_str_at(c->config, "nodeName")),
        .pod_log = pod_log, .pod_log_data = c, .audit = c->audit, .anonymous_health = true,
    };
    struct virtual_group group;
    char *dir = arena_strdup(a, json_str_at(c->config, "dir"));

    c->api = apiserver_new(&config, err);
    if (!c->api)
        return false;
    apiserver_health(c->api, "bootstrap", "first objects are being made");
    c->rules = (struct admission_rules){.config = kv_config_new(NULL), .other_kubevirt = other_kubevirt, .data = c};
    admission_register(c->api, &c->rules);

    c->client = apiserver_client(c->api, "system:vireo:control", groups);
    c->agent = http_client_new(&(struct http_client_config){.loop = c->loop, .unix_path = arena_printf(a, "%s/run/node.sock", dir)});
    c->subresources = subresources_new(&(struct subresources_config){.client = c->client, .agent = agent_of,
                                                                     .agent_data = c, .version = VIREO_VERSION});
    subresources_group(c->subresources, &group);
    apiserver_add_virtual_group(c->api, &group);
    c->kubevirts = informer_new(&(struct informer_config){.client = c->client, .group = "kubevirt.io", .version = "v1",
                                                          .plural = "kubevirts", .changed = on_kubevirt, .user = c});
    c->nodes = informer_new(&(struct informer_config){.client = c->client, .group = "", .version = "v1", .plural = "nodes",
                                                      .changed = on_node, .user = c});
    c->controllers = controllers_new(&(struct controllers_config){
        .client = c->client, .launcher_image = "vireo.io/launcher:" VIREO_VERSION, .embedded = true, .image_volumes = true,
        .data_volumes_path = arena_printf(a, "%s/volumes", dir)});
    apiserver_add_metrics(c->api, controllers_metrics, c->controllers);
    return true;
}

/* A flood of writes leaves tens of MiB free that the allocator would keep for good. */
static void give_back(struct loop_timer *t)
{
    struct control *c = container_of(t, struct control, trim);

    heap_give_back(HEAP_SLACK);
    loop_timer_start(c->loop, &c->trim, TRIM_EVERY, give_back);
}

/* The start has read everything once: what that took is not needed again. */
static void give_back_start(struct loop_timer *t)
{
    heap_give_back(0);
    give_back(t);
}

static void drained(void *data)
{
    loop_quit(((struct control *)data)->loop);
}

/* What is under way is answered; new connections wait at the supervisor's listener for the next of us. */
static void on_term(struct loop_signal *s)
{
    struct control *c = container_of(s, struct control, term);

    if (c->stopping)
        return;
    c->stopping = true;
    apiserver_drain(c->api);
    http_server_drain(c->http, DRAIN_NS, drained, c);
}

static void control_done(struct control *c)
{
    loop_signal_stop(&c->term);
    loop_timer_stop(&c->bootstrap);
    loop_timer_stop(&c->trim);
    http_server_free(c->http);
    apiserver_add_metrics(c->api, NULL, NULL);
    controllers_free(c->controllers);
    platform_free(c->platform);
    informer_free(c->kubevirts);
    informer_free(c->nodes);
    subresources_free(c->subresources);
    http_client_free(c->agent);
    client_free(c->client);
    apiserver_free(c->api);
    store_close(c->store); /* flushes */
    audit_free(c->audit); /* its exchanges are gone */
    http_tls_free(c->tls);
    kv_config_free(c->rules.config);
    free(c->kubevirt_key);
    loop_free(c->loop);
    arena_done(&c->arena);
}

int control_main(void)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct control c = {0};

    if (!instance_config_read(&a, &c.config, &err) || !drop_privileges(instance_uid_base(arena_strdup(&a, json_str_at(c.config, "name"))), &err)) {
        fprintf(stderr, "vireo control: %s\n", error_text(&err));
        return 1;
    }
    log_setup("control", json_bool_at(c.config, "debug", false) ? LOG_DEBUG : LOG_INFO, json_bool_at(c.config, "jsonLog", false));
    http_server_claim_descriptors();
    c.loop = loop_new(NULL);
    if (!loop_signal_start(c.loop, &c.term, SIGTERM, on_term, &err) || !open_store(&c, &err) || !open_audit(&c, &err) || !open_api(&c, &err)
        || !open_server(&c, &err)) {
        log_error(NULL, "%s", error_text(&err));
        return 1;
    }
    apiserver_bootstrap(c.api, on_bootstrapped, &c);
    loop_timer_start(c.loop, &c.trim, SECONDS(3), give_back_start);
    loop_run(c.loop);
    control_done(&c);
    return 0;
}
