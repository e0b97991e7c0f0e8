/* store/store - all objects, durable and in revision order.
 *
 * Keys are "/registry/<group or core>/<plural>/<namespace or ->/<name>". Every write gets the next revision of one
 * counter. One store thread owns SQLite (WAL, synchronous=FULL) and commits everything that waits as one
 * transaction; a write is answered, visible to reads and sent to watchers only after its fsync. Reads are served
 * from memory on the loop thread, synchronously. Objects are immutable, refcounted and compact: text with a hole for the
 * resource version, compressed when that pays. All calls on the loop thread of the store's owner.
 *
 * Conditions are judged when the write is queued, against the newest state including writes still being flushed;
 * if a flush fails (ENOSPC, EIO), every write of that batch and those queued on top of it fail with ERROR_UNAVAILABLE,
 * nothing of them becomes visible, and the store goes on (or, when the database itself is broken, turns read-only and
 * store_health() says why). On a full disk a reserve is given up, from which deletions, and writes that make objects smaller,
 * go on; others are refused. */
#pragma once
#include "api/schema.h"
#include "loop/loop.h"

struct store;
struct store_object; /* immutable, refcounted */

struct store_config {
    struct loop *loop;
    int dirfd;                 /* data directory, borrowed: "state.db" in it */
    int64_t history_ns;        /* how long old revisions serve watches and continue tokens; 0: 5 min */
    size_t history_max;        /* events kept at the most; 0: 100,000 */
    size_t history_bytes;      /* bytes of objects that only history keeps, at the most; 0: 24 MiB */
    bool read_only;
};
struct store *store_open(const struct store_config *c, struct error *err);
void store_close(struct store *s); /* flushes what is queued, and calls its callbacks */
int64_t store_revision(const struct store *s);          /* newest visible */
int64_t store_oldest_revision(const struct store *s);   /* history before it is gone: 410 */
bool store_health(const struct store *s, struct error *err);
bool store_alive(const struct store *s, struct error *err); /* false: only another start can help */
bool store_low_space(const struct store *s); /* the disk is full: only what shrinks is taken */

/* Objects. */
struct store_object *store_object_ref(struct store_object *o);
void store_object_unref(struct store_object *o);
struct str store_object_key(const struct store_object *o);
int64_t store_object_revision(const struct store_object *o);
struct str store_object_uid(const struct store_object *o);
size_t store_object_size(const struct store_object *o); /* of its text, about */
/* The caller's share of the memory that a state which is not the current one any more takes; 0 while it is. */
size_t store_object_pinned(const struct store_object *o);
/* Appends the object's JSON text, metadata.resourceVersion filled in. */
void store_object_text(const struct store_object *o, struct buf *out);
/* Whether its text has these bytes, at any place: a look that parses nothing before one that does. */
bool store_object_mentions(const struct store_object *o, struct str bytes);
/* Parses it into the arena (resourceVersion filled in). Never fails for an object that the store holds. */
const struct json *store_object_json(const struct store_object *o, struct arena *a);

/* Newest visible object, a reference, or NULL. */
struct store_object *store_get(struct store *s, struct str key);
/* Newest state including queued writes: what a read-modify-write has to start from. */
struct store_object *store_get_pending(struct store *s, struct str key);

struct store_selector; /* see selectors in api/labels.h; NULL matches everything */
struct store_list {
    struct store_object **p; /* references */
    size_t n, cap;
    int64_t revision;        /* of the whole list, the same on every page */
    char *next_key;          /* owned: where the next page starts, NULL at the end */
    int64_t remaining;       /* objects behind this page; -1 when a filter makes it unknown */
};
void store_list_done(struct store_list *l);
typedef bool (*store_filter_fn)(const struct store_object *o, void *data);
/* Keys below prefix in byte order, from start_key on (absent: the first), limit 0 = all. revision 0: the newest; an older one
 * within history gives the state of that time; ERROR_GONE when it is compacted, ERROR_INVALID when it is in the future. */
MUST_CHECK bool store_list(struct store *s, struct str prefix, struct str start_key, size_t limit, int64_t revision,
                           store_filter_fn filter, void *data, struct store_list *ret, struct error *err);
size_t store_count(struct store *s, struct str prefix);

/* Writes. */
struct store_write {
    struct str key;
    const struct json *value;   /* NULL: delete. resourceVersion within is ignored */
    int64_t if_revision;        /* -1: must not exist; 0: unconditional; > 0: the pending object's revision must be this */
    /* Answer, on the loop thread, never before store_put() returned: o is the written (or, for a delete, the last) object at
     * its revision; borrowed. On failure o is NULL. */
    void (*done)(void *user, struct store_object *o, const struct error *err);
    void *user;
};
/* Judges the condition at once: false with ERROR_EXISTS, ERROR_NOT_FOUND or ERROR_CONFLICT and no callback. */
MUST_CHECK bool store_put(struct store *s, const struct store_write *w, struct error *err);
/* A write that changes nothing (same value): callers compare before (store_get_pending) and skip. */

/* Watches: every change below prefix with revision > from, in revision order, none lost or repeated. */
enum store_event_type { STORE_ADDED, STORE_MODIFIED, STORE_DELETED };
struct store_event {
    enum store_event_type type;
    struct store_object *object;   /* after; for DELETED the last state, at the revision of the deletion */
    struct store_object *previous; /* before; NULL for ADDED */
    int64_t revision;
};
struct store_watch;
/* fn is called on the loop thread (never from within store_watch_start()); returning false ends and frees the watch, as
 * store_watch_stop() does. A watch that has much to catch up with gets it over several turns. store_close() ends all. */
struct store_watch *store_watch_start(struct store *s, struct str prefix, int64_t from_revision,
                                      bool (*fn)(void *user, const struct store_event *e), void *user, struct error *err); /* ERROR_GONE */
void store_watch_stop(struct store_watch *w);
/* Also from within fn: no more events until it is resumed. History does not wait for it: resuming fails with ERROR_GONE when it has
 * moved on, and the watch is then of no more use than to be stopped. */
void store_watch_pause(struct store_watch *w);
MUST_CHECK bool store_watch_resume(struct store_watch *w, struct error *err);
/* Everything up to here has been delivered to it, or does not concern it. */
int64_t store_watch_revision(const struct store_watch *w);

/* Rows beside the objects, with a time to live, not in memory: Events. Same database, same commits. */
/* Counted from now; setting it again moves it, writing the object does not. Without the object: ERROR_NOT_FOUND. */
MUST_CHECK bool store_ttl_set(struct store *s, struct str key, int64_t ttl_ns, struct error *err); /* the object goes away by itself then */

struct store_stats {
    uint64_t writes, commits, failed_commits, bytes_in_memory, objects, watchers, history;
    int64_t last_fsync_ns;
    uint64_t file_bytes; /* of the database and its log */
    bool low_space; /* the disk is full: only what shrinks is taken */
};
void store_stats(const struct store *s, struct store_stats *ret);
