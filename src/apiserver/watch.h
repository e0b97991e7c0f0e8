/* apiserver/watch - a watch that is delivered within the process. */
#pragma once
#include "apiserver/internal.h"

struct watch_sink {
    void (*event)(void *user, enum client_event_type type, const struct json *object);
    void (*ended)(void *user, const struct error *err);
    void *user;
};
/* Takes the request. No callback comes from within this call; NULL (the request is gone): a malformed selector. */
struct watcher *watch_local(struct request *r, int64_t from, const struct watch_sink *sink);
void watch_local_stop(struct watcher *w);
void watch_bookmark(struct watcher *w, bool initial_end);
