/* apiserver/apiserver - the embedded Kubernetes API: what kubectl and every client library talk to.
 *
 * It turns exchanges into authenticated, authorized, admitted operations on the store. What is special about KubeVirt comes
 * in by two tables that `cmd` fills: admission plugins and subresource handlers. Everything runs on one loop thread. */
#pragma once
#include "api/schema.h"
#include "client/client.h"
#include "http/exchange.h"
#include "store/store.h"

struct apiserver;

/* Who asks. Groups end with NULL. */
struct identity {
    const char *user, *uid;
    const char *const *groups;
    const struct json *extra; /* object of arrays, or NULL */
};

bool identity_in(const struct identity *who, const char *group);

/* One operation on its way to the store. */
enum admission_op { ADMIT_CREATE, ADMIT_UPDATE, ADMIT_DELETE, ADMIT_CONNECT };
struct admission {
    enum admission_op op;
    const struct kind_info *kind;
    const char *subresource;       /* NULL or "status", "scale" … */
    struct str ns, name;           /* name may be empty on create with generateName */
    const struct identity *who;
    bool is_local;                 /* one of our own controllers, by the client in this process */
    const struct json *old;        /* NULL on create */
    const struct json *object;     /* may be replaced by a mutating plugin (in the arena); NULL on delete */
    bool dry_run;
    struct arena *arena;
    struct schema_causes causes;   /* a validating plugin adds here: 422 Invalid with all of them */
    struct {
        const char *p[16];
        size_t n;
    } warnings;                    /* become Warning headers */
    struct apiserver *server;
};
/* false: refused with err (kind decides code and reason). Causes alone need no false. Plugins are synchronous and pure but
 * for reads of the store by apiserver_peek(). Called in order of registration: all mutate first, then all validate. */
struct admission_plugin {
    const char *name;
    const char *group; /* NULL: all */
    bool (*mutate)(void *data, struct admission *a, struct error *err);   /* may be NULL */
    bool (*validate)(void *data, struct admission *a, struct error *err); /* may be NULL */
    void *data;
};
void apiserver_add_admission(struct apiserver *s, const struct admission_plugin *p); /* copied */
/* The newest (also unflushed) object, parsed into the arena, or NULL. */
const struct json *apiserver_peek(struct apiserver *s, const char *group, const char *plural, struct str ns, struct str name,
                                  struct arena *a);

/* A group that is not stored but handled: subresources.kubevirt.io. `rest` is the path behind
 * /apis/<group>/<version>/namespaces/<ns>/<resource>/<name>/ ("console", "portforward/22/tcp"), or with ns absent what is behind
 * /apis/<group>/<version>/. Authentication has happened; authorization of verb on resource/first-segment has, too. */
struct virtual_request {
    struct exchange *x;
    const struct identity *who;
    struct str version, ns, resource, name, rest;
};
struct virtual_group {
    const char *group;
    const char *const *versions;       /* preferred first, NULL-terminated */
    /* Discovery: resources as {"name","singularName","namespaced","kind","verbs"} JSON array text. */
    const char *resources_json;
    void (*handle)(void *data, struct virtual_request *r);
    void *data;
};
void apiserver_add_virtual_group(struct apiserver *s, const struct virtual_group *g); /* copied */

struct apiserver_config {
    struct loop *loop;
    struct store *store;
    const char *ca_cert_pem;            /* published as kube-root-ca.crt */
    const char *service_account_key_pem; /* EC private key that signs service-account tokens */
    const char *issuer;                 /* "https://kubernetes.default.svc" */
    const char *node_name;
    /* Log access of a pod: streams GET pods/<name>/log. NULL: answered 501 with the reason. */
    void (*pod_log)(void *data, struct exchange *x, const struct json *pod);
    void *pod_log_data;
    struct audit *audit;                /* borrowed, may be NULL (audit.h) */
    bool anonymous_health;              /* /livez, /readyz, /version without credentials */
};
struct apiserver *apiserver_new(const struct apiserver_config *c, struct error *err);
void apiserver_free(struct apiserver *s);
/* Before the end: /readyz fails, and the watches of HTTP clients end as if their time were up. Requests go on. */
void apiserver_drain(struct apiserver *s);
/* Creates what every cluster has: namespaces default, kube-system, kube-public, kube-node-lease, their "default" service
 * accounts, bootstrap RBAC, the StorageClass and so on if missing; then `ready` is called. */
void apiserver_bootstrap(struct apiserver *s, void (*ready)(void *user, const struct error *err), void *user);
/* For http_server_config.handle. */
void apiserver_handle(struct exchange *x, void *data);
/* /readyz fails with this named check until told otherwise (reason NULL: ok). */
void apiserver_health(struct apiserver *s, const char *check, const char *reason);
/* Further families for /metrics, behind the server's own. One writer. */
void apiserver_add_metrics(struct apiserver *s, void (*write)(void *data, struct buf *b), void *data);

/* Errors and results on an exchange, in the API's own form (also used by virtual groups). */
void apiserver_respond_error(struct exchange *x, const struct error *err);
void apiserver_respond_status(struct exchange *x, int code, const struct json *status);
void apiserver_respond_json(struct exchange *x, int code, const struct json *object); /* honours Accept: yaml */

/* RBAC: may `who` do this? For virtual groups' finer checks. */
bool apiserver_authorized(struct apiserver *s, const struct identity *who, const char *verb, const char *group,
                          const char *resource, const char *subresource, struct str ns, struct str name);
