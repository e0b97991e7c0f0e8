/* client/informer - a local copy of a resource, kept by list and watch.
 *
 * Holds objects as the client keeps them (client_keep: in the API server's own process the store's bytes, elsewhere
 * compressed text) beside a small index; a tree exists only while a caller looks (informer_get parses into the caller's arena).
 *
 * Lists again on 410, and when watches fail one after another; resumes from the last revision on everything else. Waits grow, with jitter, until
 * a watch works: a list that succeeds before a watch that fails does not shorten them, so no answer of a server makes us list in a circle.
 * Lists come in pages, from etcd and not from the server's cache: a cache would give all of them at once. */
#pragma once
#include "client/client.h"

struct informer;
struct informer_config {
    struct client *client;
    const char *group, *version, *plural;
    struct str ns, label_selector, field_selector;
    /* What changed: key is "namespace/name" (or "name"). object is the new state (the last one with deleted = true), borrowed. */
    void (*changed)(void *user, struct str key, const struct json *object, bool deleted);
    void (*synced)(void *user); /* the first list has been delivered; may be NULL */
    void *user;
    /* Further index: up to 4 values for an object; informer_by_index finds keys by value. May be NULL. */
    size_t (*index)(const struct json *object, struct str ret[4]);
};
struct informer *informer_new(const struct informer_config *c);
void informer_free(struct informer *i);
/* An event that must have come has not: the watch is asked for anew. */
void informer_doubt(struct informer *i);
bool informer_synced(const struct informer *i);
const struct json *informer_get(struct informer *i, struct str key, struct arena *a); /* NULL when absent */
int64_t informer_revision_of(struct informer *i, struct str key); /* resourceVersion held, 0 when absent */
/* The newest revision that has been delivered, of any object: writes up to it are seen. */
int64_t informer_revision(const struct informer *i);
/* Calls fn for every object (or every one with that index value). Do not change the informer inside. */
void informer_each(struct informer *i, bool (*fn)(void *user, struct str key), void *user);
void informer_by_index(struct informer *i, struct str value, bool (*fn)(void *user, struct str key), void *user);
/* Those with that index value, or all where it is absent, as a JSON array in the arena; i may be NULL. */
const struct json *informer_list(struct informer *i, struct str value, struct arena *a);
size_t informer_count(const struct informer *i);
/* Where one object of several counts (a KubeVirt object), it is the oldest: all who look choose the same, whatever order they saw them
 * in. NULL: there is none. */
const struct json *informer_oldest(struct informer *i, struct arena *a);
/* Whether a is older than b; b may be NULL. */
bool informer_older(const struct json *a, const struct json *b);
