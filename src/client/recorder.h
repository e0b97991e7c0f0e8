/* client/recorder - Kubernetes Events: what a user should know, counted instead of repeated. */
#pragma once
#include "client/client.h"

struct recorder;
struct recorder *recorder_new(struct client *c, const char *component, const char *node); /* node may be NULL */
void recorder_free(struct recorder *r);
/* About any object (apiVersion, kind, metadata are read). type: "Normal" or "Warning". Equal events within 10 min are
 * counted up in one object; writes are batched and never wait for an answer. */
void recorder_event(struct recorder *r, const struct json *about, const char *type, const char *reason, const char *fmt,
                    ...) PRINTF_LIKE(5, 6);
