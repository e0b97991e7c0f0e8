/* client/fake_client - a small API server in memory for tests: names, revisions, finalizers, owners, patches, watches.
 *
 * Compiled into tests only. Answers and events are delivered by the loop, in the order of the writes. */
#pragma once
#include "client/client.h"

struct client *fake_client_new(struct loop *l);
/* The object as it is, or NULL; `key` is "namespace/name" or "name". */
const struct json *fake_get(struct client *c, const char *plural, const char *key, struct arena *a);
/* As any client would, from JSON text; asserts success. Not counted as a write. */
void fake_create(struct client *c, const char *plural, const char *json);
void fake_merge(struct client *c, const char *plural, const char *key, const char *patch_json);
void fake_delete(struct client *c, const char *plural, const char *key);
void fake_remove(struct client *c, const char *plural,
                 const char *key); /* as --force: at once, whatever finalizers say */
size_t fake_count(struct client *c, const char *plural);
bool fake_event_says(struct client *c, const char *text); /* does any have it in its message? */
/* Key of the only object of a resource, in the arena; NULL when there is none, or more than one. */
const char *fake_only(struct client *c, const char *plural, struct arena *a);
/* Writes asked for through the client interface so far: all but Events, and of one resource. */
size_t fake_writes(struct client *c, const char *plural);
/* Lists asked for, pages counted apart. */
size_t fake_lists(struct client *c, const char *plural);
const char *fake_last_list(struct client *c); /* the query of the last one */
/* One line per such write: "create pods default/x\n". */
const char *fake_log(struct client *c);
void fake_log_clear(struct client *c);
/* The next `n` calls on the resource fail that way (n counts down). */
void fake_fail(struct client *c, const char *plural, enum client_verb verb, unsigned n,
               enum error_kind kind, const char *message);
void fake_deafen_watches(struct client *c); /* those that are open get nothing more, and do not end */
void fake_break_watches(struct client *c,
                        enum error_kind kind); /* all end; NONE: as a server's timeout does */
