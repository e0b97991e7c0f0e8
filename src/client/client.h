/* client/client - talking to a Kubernetes API: one interface, two implementations.
 *
 * client_http_new() (this room) speaks HTTP; apiserver/local.h gives the same interface over direct calls in the API
 * server's own process. Callers cannot tell. Everything on one loop thread; callbacks never come from within the call
 * that started them. */
#pragma once
#include "api/schema.h"
#include "loop/loop.h"

enum client_verb {
    CLIENT_GET, CLIENT_LIST, CLIENT_CREATE, CLIENT_UPDATE, CLIENT_PATCH_JSON, CLIENT_PATCH_MERGE,
    CLIENT_PATCH_STRATEGIC, CLIENT_APPLY, CLIENT_DELETE,
};
struct client_request {
    enum client_verb verb;
    const char *group, *version, *plural; /* "" is the core group */
    struct str ns, name;                  /* absent where they do not apply */
    const char *subresource;              /* NULL, "status", "binding", "start" … */
    const struct json *body;              /* object, patch or DeleteOptions; copied. May be NULL */
    const char *as;                       /* NULL: as who the client is. Else that user (Impersonate-User), with an administrator's rights */
    struct str query;                     /* extra, encoded: "labelSelector=a%3Db" (list), "fieldManager=x&force=true" */
    int64_t timeout_ns;                   /* until the answer; 0: the client's own */
    int64_t not_after_ns;                 /* by loop_now_ns(): not sent after that, but failed; 0: none */
    bool urgent;                          /* goes out at once, also to a server that asked for patience, and is not repeated */
};
struct client_response {
    int status;                 /* HTTP code */
    const struct json *body;    /* parsed; the object, list or Status; borrowed for the callback */
    const struct error *err;    /* kind != NONE for every failure, also an HTTP status ≥ 400 (kind from the Status' reason) */
};
typedef void (*client_done_fn)(void *user, const struct client_response *r);

enum client_event_type { CLIENT_ADDED, CLIENT_MODIFIED, CLIENT_DELETED, CLIENT_BOOKMARK };
struct client_watch_request {
    const char *group, *version, *plural;
    struct str ns;               /* absent: all namespaces */
    struct str label_selector, field_selector; /* plain text, absent: none */
    int64_t from_revision;
    /* object is borrowed for the callback */
    void (*event)(void *user, enum client_event_type type, const struct json *object);
    void (*ended)(void *user, const struct error *err); /* once; ERROR_GONE: list again */
    void *user;
};

/* An object as it is kept for long: in few bytes, of which a tree can be made again. */
struct client_kept_ops {
    const struct json *(*json)(const void *p, struct arena *a);
    void (*free)(void *p);
};
struct client_kept {
    const struct client_kept_ops *ops; /* NULL: nothing */
    void *p;
};

struct client;
struct client_call;
struct client_watch;
struct client_ops {
    struct client_call *(*call)(struct client *c, const struct client_request *r, client_done_fn done, void *user);
    void (*cancel)(struct client *c, struct client_call *call); /* no callback follows */
    struct client_watch *(*watch)(struct client *c, const struct client_watch_request *r);
    void (*stop)(struct client *c, struct client_watch *w);     /* no callback follows */
    void (*free)(struct client *c);
    /* Keeps an object that came from this client in a way of its own; false: as compressed text. May be NULL. */
    bool (*keep)(struct client *c, const char *group, const char *version, const char *plural, const struct json *object,
                 struct client_kept *ret);
};
struct client {
    const struct client_ops *ops;
    struct loop *loop;
};
static inline struct client_call *client_call(struct client *c, const struct client_request *r, client_done_fn done, void *user)
{
    return c->ops->call(c, r, done, user);
}
static inline void client_cancel(struct client *c, struct client_call *call) { c->ops->cancel(c, call); }
static inline struct client_watch *client_watch(struct client *c, const struct client_watch_request *r) { return c->ops->watch(c, r); }
static inline void client_watch_stop(struct client *c, struct client_watch *w) { c->ops->stop(c, w); }
static inline void client_free(struct client *c) { if (c) c->ops->free(c); }

/* Keeps objects of one kind. Texts are borrowed, also by what was kept from the client; it may be freed before what it kept. */
struct keeper;
struct keeper *keeper_new(struct client *c, const char *group, const char *version, const char *plural);
void keeper_free(struct keeper *k);
struct client_kept keeper_keep(struct keeper *k, const struct json *object);
static inline const struct json *client_kept_json(const struct client_kept *k, struct arena *a) { return k->ops->json(k->p, a); }
void client_kept_done(struct client_kept *k);

/* Everything through `base` in another user's name, but watches and what names a user itself. `base` has to live longer. */
struct client *client_as(struct client *base, const char *user);

/* Over HTTP: `http` (http/client.h) is taken. */
struct http_client;
struct client *client_http_new(struct loop *l, struct http_client *take_http);
