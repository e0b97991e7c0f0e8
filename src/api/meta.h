/* api/meta - what every object has: names, labels, owners, finalizers, conditions, read and edited on JSON.
 *
 * Readers take whole objects and accept NULL. Edits return a new object that shares the rest. */
#pragma once
#include "json/json.h"

struct str meta_name(const struct json *o);
struct str meta_namespace(const struct json *o);
struct str meta_uid(const struct json *o);
struct str meta_resource_version(const struct json *o);
int64_t meta_generation(const struct json *o); /* 0 when absent */
struct str meta_kind(const struct json *o);
struct str meta_api_version(const struct json *o);
struct str meta_creation(const struct json *o);
const struct json *meta_labels(const struct json *o);
const struct json *meta_annotations(const struct json *o);
struct str meta_label(const struct json *o, const char *key);
struct str meta_annotation(const struct json *o, const char *key);
bool meta_deleting(const struct json *o); /* has a deletionTimestamp */
bool meta_has_finalizer(const struct json *o, const char *name);
/* The ownerReference with controller: true, or NULL. */
const struct json *meta_controller(const struct json *o);
bool meta_controlled_by(const struct json *o, struct str uid);
bool meta_owned_by(const struct json *o, struct str uid);
/* "kind group" of an apiVersion: "apps/v1" → "apps", "v1" → ""; the version in *ret_version when not NULL. */
struct str meta_group(struct str api_version, struct str *ret_version);
/* "ns/name", or "name" for what has no namespace; in the arena. */
char *meta_key(const struct json *o, struct arena *a);

const struct json *meta_with_label(struct arena *a, const struct json *o, const char *key, struct str value);
const struct json *meta_with_annotation(struct arena *a, const struct json *o, const char *key, struct str value);
/* Absent value: the label or annotation goes. */
const struct json *meta_add_finalizer(struct arena *a, const struct json *o, const char *name);
const struct json *meta_remove_finalizer(struct arena *a, const struct json *o, const char *name);
/* An ownerReference to `owner`, controller and blockOwnerDeletion true when asked. */
const struct json *meta_owner_ref(struct arena *a, const struct json *owner, bool controller);

/* Conditions, in the list status.conditions of an object. */
const struct json *condition_find(const struct json *o, const char *type);
bool condition_is(const struct json *o, const char *type, const char *status); /* "True", "False", "Unknown" */
struct condition {
    const char *type, *status;
    const char *reason, *message;   /* NULL: left out */
    int64_t observed_generation;    /* 0: left out */
    const char *probe_time;         /* lastProbeTime, NULL: left out */
};
/* Adds or changes a condition. lastTransitionTime becomes `now` (RFC 3339 text) when the condition is new or its status
 * changes, and stays otherwise. Returns `o` itself when nothing changes. */
const struct json *condition_set(struct arena *a, const struct json *o, const struct condition *c, const char *now);
const struct json *condition_remove(struct arena *a, const struct json *o, const char *type);
/* The same on a list of conditions by itself. */
const struct json *conditions_set(struct arena *a, const struct json *list, const struct condition *c,
                                  const char *now);
