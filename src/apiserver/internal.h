/* apiserver/internal - what the files of this room share.
 *
 * A request is made from an exchange (HTTP) or from a call of the local client, goes through authentication,
 * authorization and one of the verbs, and is answered exactly once by one of the answer_*() functions, which free it.
 * It has an arena of its own: the exchange may go away while a write is being flushed (then x is NULL and the
 * answer is dropped). Everything runs on the loop thread, and a verb runs from reading the pending state to
 * store_put() without a break, so a read-modify-write never meets a conflict of our own making; unless a webhook is asked
 * between the two (hooks.c): then the write is on the condition that nothing has changed, or starts anew. */
#pragma once
#include "apiserver/apiserver.h"
#include "apiserver/rules.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/map.h"
#include "base/vec.h"

/* A kind that is served now; dynamic ones come and go with their CustomResourceDefinition. */
struct served {
    const struct kind_info *info;
    unsigned refs;
    bool dynamic;
    uint64_t watchers, watch_events; /* for /metrics: open now, sent so far */
    struct arena arena;     /* of a dynamic kind: its tables */
    char *crd_name;         /* owned */
    const struct json *crd; /* dynamic: the definition's spec, in arena */
    int64_t crd_generation;
    /* A definition with several versions: in the catalog is the stored one, which holds the others. */
    struct served **versions; /* owned references; all but the stored one */
    size_t n_versions;
    struct served *base; /* of such another version: the one in the catalog; a reference */
    bool terminating;    /* its definition is being deleted: nothing new */
    const char *warning; /* of a deprecated version, or NULL */
    const struct cel_rules *rules; /* dynamic: its x-kubernetes-validations, in arena, once rules_known */
    bool rules_known;
    const struct json *definition; /* dynamic and in the catalog: the whole of it, in arena */
};

enum verb {
    VERB_GET,
    VERB_LIST,
    VERB_WATCH,
    VERB_CREATE,
    VERB_UPDATE,
    VERB_PATCH,
    VERB_DELETE,
    VERB_DELETE_ALL,
    VERB_CONNECT,
};
const char *verb_name(enum verb v); /* as RBAC spells it */

enum answer_form { FORM_OBJECT, FORM_TABLE, FORM_PARTIAL };
struct accept {
    enum answer_form form;
    bool yaml, protobuf, v1beta1, ok;
};

struct query_pair {
    struct str name, value;
};

struct local_call;
struct request {
    struct apiserver *s;
    struct exchange *x;       /* NULL: local, or the peer is gone */
    struct local_call *local; /* NULL: over HTTP, or cancelled */
    bool is_local;
    struct arena arena;
    struct list node; /* s->requests */
    struct list queued; /* while it waits for its turn */
    struct seat *seat;  /* in the exchange's arena; NULL: none, or the exchange is gone */
    void (*run)(struct request *r);
    enum verb verb;
    struct served *kind; /* a reference; NULL: not a resource */
    const char *group, *version;
    struct str ns, name, subresource; /* absent where they do not apply */
    struct str resource;
    struct str path;
    struct identity who;
    struct identity *impersonator; /* who asks to be `who`; NULL: itself */
    struct query_pair *query;
    size_t n_query;
    struct accept accept;
    struct str content_type, body;
    const struct json *body_json; /* from the local client */
    struct str user_agent;
    const char *audit_id; /* of a request over HTTP: the client's own, or a new UUID */
    bool dry_run, pretty;
    bool cache_public; /* the same for everyone: caches may keep it */
    bool old_watch; /* by a path that begins with watch/ */
    const char *warnings[32];
    size_t n_warnings;
    int64_t started_ns;
    /* Of a write under way. */
    int success_code;
    bool applied;       /* server-side apply: its managers are set already */
    bool answer_status; /* a finished delete answers a Status */
    bool answer_plain;  /* … and a binding one without details */
    void (*answer_with)(struct request *r, struct store_object *o);
    struct quota_claim *claim;  /* what the write takes of quotas */
    struct pending *pending;    /* the write; forgotten when the request goes first */
    const struct json *was;     /* what is changed or deleted, and its revision */
    int64_t was_revision;
    const struct json *owned;   /* the object before admission: what its writer owns */
    struct delete_options *delete_options;
    struct admission_run *parked; /* it waits for webhooks */
    bool was_parked;              /* … or has waited: others may have written meanwhile */
    unsigned tries;               /* starts after a conflict */
    struct bulk *bulk;          /* a deletecollection under way */
    struct list_scan *scan;     /* a selector is looking for its objects */
    const struct json *deleted; /* answered instead of the stored object */
    struct str write_key;
};

struct watcher;
struct rbac;
struct aggregation;
struct secrets;
struct nodes;
struct gc;
struct nsctl;
struct crds;
struct metrics;
struct fairness;
struct jwt_key;
struct apiserver {
    struct apiserver_config config;
    struct loop *loop;
    struct store *store;
    struct list requests, watchers, lists;
    VEC(struct served *) kinds;
    uint64_t kinds_generation; /* grows when kinds change; documents are cached by it */
    VEC(struct admission_plugin) plugins;
    VEC(struct virtual_group) virtuals;
    struct map health; /* check → owned reason */
    struct rbac *rbac;
    struct aggregation *aggregation;
    struct secrets *secrets;
    struct nodes *nodes; /* from the first question on */
    struct gc *gc;
    struct nsctl *nsctl;
    struct crds *crds;
    struct quotas *quotas;
    struct hooks *hooks;
    struct apiservices *apiservices;
    struct metrics *metrics;
    void (*more_metrics)(void *data, struct buf *b); /* or NULL */
    void *more_metrics_data;
    struct fairness *fairness;
    struct jwt_key *tokens;
    struct documents *documents;
    struct shared_event *shared; /* the event serialized last */
    struct client *self;         /* our own controllers' client */
    struct bootstrap *bootstrap;
    char *ca_pem; /* published as kube-root-ca.crt; may be NULL */
    struct loop_timer bookmarks, lists_timer;
    bool closing;
};

/* route.c */
struct request *request_new(struct apiserver *s);
void request_free(struct request *r);
struct served *served_ref(struct served *k);
void served_unref(struct served *k);
void query_parse(struct str raw, struct arena *a, struct query_pair **ret, size_t *ret_n);
struct str query_get(const struct request *r, const char *name); /* absent when missing */
bool query_true(const struct request *r, const char *name);
void accept_parse(struct str header, bool protobuf, struct accept *ret); /* protobuf: may be chosen */
bool media_is(struct str content_type, const char *type); /* without parameters */
void request_warn(struct request *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
const char *
request_manager(struct request *r); /* fieldManager, or the first word of the user agent */

/* catalog.c */
void catalog_init(struct apiserver *s);
void catalog_done(struct apiserver *s);
struct served *catalog_find(struct apiserver *s, struct str group, struct str version,
                            struct str plural); /* borrowed */
struct served *catalog_by_kind(struct apiserver *s, struct str group, struct str kind);
void catalog_add(struct apiserver *s, struct served *take_kind);
void catalog_remove(struct apiserver *s, struct served *kind);
/* All versions of all kinds, as documents want them; owned array. */
size_t catalog_versions(struct apiserver *s, const struct kind_info ***ret);
/* One that the API server itself can ask for: of a definition it may be one that is not served. */
const char *kind_some_version(const struct kind_info *k);
bool served_has_version(const struct served *k, struct str version);
bool served_has_verb(const struct served *k, const char *verb);
struct str kind_prefix(const struct kind_info *k, struct str ns,
                       struct arena *a); /* ns absent: all namespaces */
struct str kind_key(const struct kind_info *k, struct str ns, struct str name, struct arena *a);
bool kind_speaks_protobuf(const struct served *k);
const char *group_version(const char *group, const char *version, struct arena *a);
static inline bool kind_namespaced(const struct kind_info *k)
{
    return (k->flags & KIND_NAMESPACED) != 0;
}
static inline bool kind_is(const struct kind_info *k, const char *group, const char *plural)
{
    return !strcmp(k->group, group) && !strcmp(k->plural, plural);
}

/* answer.c: each frees the request. */
void answer_error(struct request *r, const struct error *err);
void answer_status(struct request *r, int code, const char *reason, const char *message,
                   const struct json *details);
void answer_text(struct request *r, int code, const char *content_type,
                 struct str body); /* not of the API */
void answer_json(struct request *r, int code, const struct json *value);
void answer_value(struct request *r, int code,
                  const struct json *object); /* in the form that was asked for */
void answer_api_text(struct request *r, int code, struct buf *b); /* JSON text; over HTTP only */
void answer_source(struct request *r, int code, struct body_source *take_source, size_t about);
void answer_object(struct request *r, int code, struct store_object *o);
void answer_not_found(struct request *r);
void answer_unknown_resource(struct request *r);
void answer_method(struct request *r);
void answer_conflict(struct request *r);
void answer_invalid(struct request *r, const char *kind, const char *group, const char *name,
                    const struct schema_causes *causes);
void answer_invalid_one(struct request *r, const char *kind, const char *group, const char *name,
                        const char *reason, const char *field, const char *message);
const struct json *status_value(struct arena *a, int code, const char *reason, const char *message,
                                const struct json *details);
const struct json *status_of_error(struct arena *a, const struct error *err, int *ret_code);
void request_finished(struct request *r, int code); /* counts it */
void json_to_yaml(struct arena *a, struct buf *b, const struct json *v);
/* Object as the requested version shows it (apiVersion, events.k8s.io's names). */
const struct json *present(const struct request *r, const struct json *object);
const struct json *present_as(const struct kind_info *k, const char *version,
                              const struct json *object, struct arena *a);
const struct json *partial_object(const struct json *object, bool v1beta1, struct arena *a);

/* rest.c and its parts: the verbs on stored kinds. */
void rest_handle(struct request *r);
void rest_list(struct request *r); /* list.c */
/* resourceVersion of a read: -1 when absent; false: bad, or in the future, and answered. */
bool read_revision(struct request *r, struct str rv, int64_t *ret);
void rest_watch(struct request *r);  /* watch.c */
void rest_create(struct request *r); /* create.c */
void rest_update(struct request *r); /* update.c */
void rest_patch(struct request *r);  /* patch.c */
void rest_delete(struct request *r); /* delete.c */
void rest_delete_all(struct request *r);
void rest_scale(struct request *r);   /* scale.c */
void pods_binding(struct request *r); /* pods.c */
void pods_eviction(struct request *r);
void pods_log(struct request *r);
void tokens_request(struct request *r); /* tokens.c */
void reviews_create(struct request *r); /* reviews.c */
const struct json *user_info(struct arena *a, const struct identity *who);
/* An object through its scale subresource, and with what a Scale says. */
/* Does anybody own the number of replicas of an object? */
bool scale_owned(struct request *r, const struct json *object);
const struct json *scale_shown(struct request *r, const struct json *object);
const struct json *scale_taken(struct request *r, const struct json *object,
                               const struct json *scale);

/* A body becomes an object of the request's kind: parsed, kind and type checked, pruned (with warnings or, strict,
 * an error), defaulted. False: answered. */
MUST_CHECK bool body_object(struct request *r, const struct json **ret);
MUST_CHECK bool body_parse(struct request *r, const struct kind_info *k, const struct json **ret,
                           struct json_dups *dups);
MUST_CHECK bool object_typed(struct request *r, const struct json *in, const struct json_dups *dups,
                             bool stored, const struct json **ret);
void pending_forget(struct pending *p);
void list_scan_forget(struct list_scan *s); /* list_items.c */
void lists_close(struct apiserver *s);
void bulk_forget(struct bulk *b);
/* Writes `next` in place of `old` (both without and with all metadata), after admission and the rules of updates. */
void update_commit(struct request *r, struct store_object *old_object, const struct json *old,
                   const struct json *next);
bool filled_in_decoding(const struct kind_info *k);
/* admission.c: the chain that a write goes through; then `next` with what it made of the object (NULL: a delete), at once or,
 * where webhooks are asked, later. What is refused is answered. */
void admit(struct request *r, enum admission_op op, const struct json *old,
           const struct json *object,
           void (*next)(struct request *r, const struct json *object));
void create_object(struct request *r, const struct json *object); /* decoded; answers */
/* Deletes or marks one object. `options` may be NULL. */
struct delete_options {
    struct str uid, resource_version, policy;
    bool has_grace;
    int64_t grace;
};
bool delete_options_read(struct request *r, struct delete_options *ret); /* false: answered */
enum delete_result { DELETE_DONE, DELETE_MARKED, DELETE_SAME };
/* What a delete makes of the object: NULL when it goes at once, else the marked object. */
const struct json *delete_mark(struct apiserver *s, const struct kind_info *k,
                               const struct json *old, const struct delete_options *o,
                               struct arena *a);
bool within_quota(struct request *r, const struct json *old, const struct json *object); /* false: answered */
void commit(struct request *r, struct str key, const struct json *value, int64_t if_revision,
            int code);
const struct json *object_order(struct arena *a, const struct kind_info *k,
                                const struct json *object);
/* The members of a core type's value, and below them, in Kubernetes' order, maps sorted; v itself for other types. */
const struct json *order_members(struct arena *a, const struct schema_type *t,
                                 const struct json *v);
const struct json *order_sorted(struct arena *a, const struct json *v); /* by name, at every depth */
const struct json *order_metadata(struct arena *a, const struct json *meta); /* of any kind, as Kubernetes has it */
bool kind_custom(const struct kind_info *k); /* a custom resource, KubeVirt's own among them */
const char *now_text(struct apiserver *s, bool micro, struct arena *a);
bool kind_has_generation(const struct kind_info *k, bool dynamic);
/* fields.c: metadata.managedFields of a write by create, update or patch; old NULL on create. */
const struct json *fields_updated(struct request *r, const struct json *old,
                                  const struct json *next);
bool name_valid_for(const struct kind_info *k, struct str name, struct arena *a,
                    const char **ret_why);

/* select.c: label and field selectors of one request. */
struct selection;
struct selection *selection_new(struct request *r); /* NULL: answered */
bool selection_is_empty(const struct selection *s);
bool selection_matches(const struct selection *s, const struct json *object);
/* By the bytes of the object's text alone: false means that it cannot match, true that it has to be parsed. */
bool selection_may_match(const struct selection *s, struct str text);
struct str selection_name(const struct selection *s); /* metadata.name=x, or absent */

/* events.c */
const struct json *event_to_core(struct arena *a, const struct json *event);
const struct json *event_from_core(struct arena *a, const struct json *event);

/* table.c */
struct table_columns;
const struct json *table_columns(const struct kind_info *k, struct arena *a);
const struct json *table_row(struct apiserver *s, const struct kind_info *k,
                             const struct json *object, struct str include, bool v1beta1,
                             struct arena *a);
const struct json *table_value(struct apiserver *s, const struct kind_info *k,
                               const struct json *list_meta, const struct json *const *objects,
                               size_t n, struct str include, bool v1beta1, struct arena *a);
void age_text(int64_t ns, char *ret, size_t size);

/* discovery.c, documents.c, health.c */
bool discovery_handle(struct request *r); /* false: not one of its paths */
void documents_free(struct documents *d);
bool documents_handle(struct request *r);
bool health_handle(struct request *r);

/* metrics.c */
struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);
void metrics_count(struct metrics *m, const struct request *r, int code, int64_t ns);
void metrics_write(struct apiserver *s, struct buf *b);

/* authn.c, tokens.c, bootstrap_tokens.c, impersonate.c */
MUST_CHECK bool authenticate(struct request *r); /* fills r->who; false: 401 */
MUST_CHECK bool impersonate(struct request *r);  /* false: answered */
void groups_with(struct arena *a, const char *const *in, const char *last, const char *const **ret);
MUST_CHECK bool tokens_init(struct apiserver *s, struct error *err);
/* Of one of the audiences (an array; NULL or empty: this server); *ret_audiences, if wanted: which of them. */
MUST_CHECK bool token_verify(struct apiserver *s, struct str token, const struct json *audiences,
                             struct arena *a, struct identity *ret,
                             const struct json **ret_audiences, struct error *err);
bool token_legacy_make(struct apiserver *s, struct str ns, struct str secret,
                       const struct json *account, struct buf *out);
bool bootstrap_token_verify(struct apiserver *s, struct str token, struct arena *a,
                            struct identity *ret);
/* When the bootstrap token that this Secret holds ends; false: it holds none, or one without end. */
bool bootstrap_token_expiry(const struct json *secret, struct arena *a, int64_t *ret_unix_ns);
bool jwks_handle(struct request *r);

/* authz.c: *ret_reason is never NULL; without an arena there are no reasons. */
struct access request_access(struct request *r); /* server.c: what a request for a resource wants */
bool authorize(struct apiserver *s, const struct identity *who, const struct access *want,
               struct arena *a, const char **ret_reason);
void answer_forbidden(struct request *r, const struct identity *who, const struct access *w,
                      const char *reason);
const char *forbidden_text(struct arena *a, const struct identity *who, const struct access *w,
                           const char *reason);
const struct json *authorize_rules(struct apiserver *s, const struct identity *who, struct str ns,
                                   struct arena *a); /* status of a SelfSubjectRulesReview */
bool open_path(struct str path); /* anonymous requests may see it */

/* rbac_admit.c, aggregate.c */
const struct json *rbac_default(struct request *r, const struct json *o);
bool rbac_validate(struct request *r, const struct json *old, const struct json *o,
                   struct schema_causes *causes); /* false: answered */
/* secrets.c, nodes.c */
struct secrets *secrets_new(struct apiserver *s);
void secrets_free(struct secrets *k);
void nodes_free(struct nodes *g);

struct aggregation *aggregation_new(struct apiserver *s);
void aggregation_free(struct aggregation *g);

/* admit.c: what the server itself mutates and checks, before the registered plugins. */
const struct json *builtin_mutate(struct request *r, enum admission_op op, const struct json *old,
                                  const struct json *object);
bool builtin_validate(struct request *r, enum admission_op op, const struct json *old,
                      const struct json *object,
                      struct schema_causes *causes); /* false: answered */

/* audit.c: each does nothing for a request that is not noted. */
void audit_begin(struct request *r, const struct access *want);
void audit_refused(struct request *r, const struct access *want); /* 401 */
void audit_impersonated(struct request *r);
void audit_annotate(struct request *r, const char *key, const char *value);
bool audit_wants_response(const struct request *r);
void audit_response(struct request *r, int code, const struct json *value); /* before it is sent */
void audit_metrics(struct audit *a, struct buf *b);
const struct json *user_info(struct arena *a, const struct identity *who); /* reviews.c */

/* gc.c, namespaces.c, crds.c, bootstrap.c */
struct gc *gc_new(struct apiserver *s);
void gc_free(struct gc *g);
struct apiservices *apiservices_new(struct apiserver *s);
void apiservices_free(struct apiservices *p);
void apiservices_changed(struct apiserver *s); /* the kinds that are served */
struct nsctl *nsctl_new(struct apiserver *s);
void nsctl_free(struct nsctl *n);
struct crds *crds_new(struct apiserver *s);
void crds_free(struct crds *c);
void bootstrap_free(struct bootstrap *b);
void watchers_close(struct apiserver *s);
void watchers_of(struct apiserver *s, struct served *kind); /* ends those of a kind that is no longer */
