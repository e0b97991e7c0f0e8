/* store/impl - what the files of this room share; nobody else includes it.
 *
 * How it works. A write is judged on the loop thread against index + pending (the newest state), gets the next
 * revision and becomes an entry of the queue:
 *
 *      loop thread                                store thread
 *      store_put ── entry ──► queue ──────────►  take all that waits → one transaction → fsync
 *      pending: key → newest entry                      │
 *      index, history ◄── finished ◄── loop_post ───────┘
 *      then the callbacks, then the watchers
 *
 * Invariants:
 *  - The index holds exactly what the database holds at `revision`: nothing is visible before its fsync.
 *  - Entries, finished batches and history are in revision order.
 *  - A row's id is the revision that created its key, so updates need no look-up by key.
 *  - Every entry carries the epoch it was judged in. A failed flush ends the epoch: all entries of it that have not been
 *    flushed were judged on a state that will never be, and fail. Their revisions are not used again.
 *  - History is a ring of (object, previous). The state at an older revision R is the index with the first event
 *    behind R of each key undone, so live objects pay nothing for it.
 */
#pragma once
#include "base/list.h"
#include "base/map.h"
#include "base/vec.h"
#include "store/store.h"
#include <pthread.h>
#include <stdatomic.h>

/* object.c */

enum object_form {
    OBJECT_PLAIN,
    OBJECT_ZSTD,
    OBJECT_DICT,  /* zstd with a dictionary: struct dict * in front of the key */
    OBJECT_ALIAS, /* another revision of the same bytes (deletion): only a struct store_object * */
    OBJECT_COLD,  /* bytes in the database: struct object_cold in front of the key */
};

struct store_object {
    atomic_uint refs;
    uint32_t hole;   /* where in the text the revision goes */
    int64_t revision;
    int64_t id;      /* row */
    uint32_t text_n; /* of the text with an empty hole */
    uint32_t body_n; /* as kept here and in the row */
    uint16_t key_n;
    uint8_t uid_n;
    uint8_t form;    /* enum object_form */
    bool ttl;        /* expires by itself; changed on the loop thread only */
    bool deleted;
    bool past;       /* its key has another state now; loop thread only */
    _Alignas(8) char data[]; /* what the form has in front, key, uid, body */
};

struct dict; /* zstd.c: a trained dictionary, refcounted */

struct object_cold {
    struct store *s;      /* NULL: the store is closed */
    char *body;           /* owned; NULL: read the row. Set before the row changes */
    struct dict *dict;    /* of the body, when its form is OBJECT_DICT */
    struct list node;     /* in store.cold, so that closing the store can thaw or cut them */
    uint8_t form;         /* of the body */
};

struct object_spec { /* what a new object is made of; everything is copied */
    struct str key, uid, body;
    enum object_form form;
    uint32_t hole, text_n;
    int64_t revision, id;
    struct dict *dict;
};
struct store_object *object_new(const struct object_spec *spec);
struct store_object *object_new_deleted(struct store_object *of, int64_t revision);
/* A cold twin: the body stays in the row. form and dict are the body's. */
struct store_object *object_new_cold(struct store *s, const struct object_spec *spec, size_t body_n);
/* The same object as kept for long: compressed when that pays, else another reference. Any thread. */
struct store_object *object_compact(struct store_object *o, struct dict *dict);
struct str object_body(const struct store_object *o, enum object_form *ret_form, struct dict **ret_dict); /* not of cold ones */
size_t object_size(const struct store_object *o); /* bytes of memory */
size_t object_total_bytes(void);                  /* of all objects of the process */
/* The text with the revision filled in: object_text_size() bytes at most, returns how many. */
size_t object_text_max(const struct store_object *o);
size_t object_fill(const struct store_object *o, char *to);
/* Writes the value's text with an empty metadata.resourceVersion, the place noted. */
MUST_CHECK bool object_write_text(const struct json *value, struct buf *b, uint32_t *ret_hole, struct error *err);
static inline struct object_cold *object_cold(const struct store_object *o)
{
    return (struct object_cold *)(void *)(uintptr_t)o->data;
}

/* zstd.c */

struct dict *dict_new(int id, struct str bytes); /* refcount 1; NULL when the bytes are no dictionary */
struct dict *dict_ref(struct dict *d);
void dict_unref(struct dict *d);
int dict_id(const struct dict *d);
/* Returns the compressed size, 0 when it does not get smaller. `d` may be NULL. */
size_t zstd_pack(struct dict *d, struct str text, char *to, size_t cap);
bool zstd_unpack(struct dict *d, struct str packed, char *to, size_t n); /* exactly n bytes come out */

/* index.c: live objects in key order. A sorted array of sorted leaves: two binary searches, 12–16 bytes an object. */

enum { INDEX_LEAF = 128 };
struct index_leaf {
    size_t n;
    struct store_object *p[INDEX_LEAF];
};
struct index {
    struct index_leaf **p;
    size_t n, cap;
    size_t objects;
};
struct index_at {
    size_t leaf, i;
};
void index_done(struct index *x); /* and the references */
struct store_object *index_find(const struct index *x, struct str key); /* borrowed */
struct store_object *index_set(struct index *x, struct store_object *take_o); /* returns the old one, now the caller's */
struct store_object *index_remove(struct index *x, struct str key);           /* likewise */
struct index_at index_lower(const struct index *x, struct str key);     /* the first ≥ key */
struct index_at index_behind(const struct index *x, struct str prefix); /* the first behind all that start so */
struct store_object *index_get(const struct index *x, struct index_at at); /* NULL at the end */
struct index_at index_next(const struct index *x, struct index_at at);
static inline bool index_before(struct index_at a, struct index_at b)
{
    return a.leaf < b.leaf || (a.leaf == b.leaf && a.i < b.i);
}
size_t index_between(const struct index *x, struct index_at from, struct index_at to);

/* watch.c: history and watchers */

struct event {
    struct store_object *object, *previous; /* references */
    uint32_t at_ms;  /* wraps; only differences count */
    uint32_t bytes;  /* its part of history.bytes */
};
struct history {
    struct event *p; /* ring */
    size_t cap, first, n;
    uint64_t first_seq; /* number of the oldest event, counted from the start */
    size_t bytes;       /* of the objects that only history keeps in memory */
};
void history_add(struct store *s, struct store_object *object, struct store_object *take_previous);
const struct event *history_at(const struct history *h, uint64_t seq);
uint64_t history_behind(const struct history *h, int64_t revision); /* seq of the first event behind it */
void history_prune(struct store *s);
void history_done(struct store *s);
void watch_dispatch(struct store *s);
void watch_done(struct store *s);

/* db.c: SQLite. Everything but db_open() runs on the store thread. */

enum entry_op { ENTRY_INSERT, ENTRY_UPDATE, ENTRY_DELETE, ENTRY_TTL };
struct entry {
    struct list node;
    enum entry_op op;
    uint32_t epoch;
    int64_t revision;             /* 0 for ENTRY_TTL */
    struct store_object *object;  /* new state; for a deletion the last one at the new revision */
    struct store_object *compact; /* what becomes visible, set by the store thread */
    int64_t expires_ns;           /* ENTRY_TTL */
    void (*done)(void *user, struct store_object *o, const struct error *err);
    void *user;
};
struct batch { /* what was flushed, or failed, at once */
    struct list node;
    struct list entries;
    uint32_t epoch;
    bool broken; /* the database takes no more writes */
    struct error err;
};
struct db {
    struct sqlite3 *c;
    struct sqlite3_stmt *begin, *commit, *rollback, *insert, *update, *remove, *ttl, *revision, *read_revision, *pages;
    int64_t durable; /* revision of the last commit */
    bool full;       /* the last failure was for want of space */
    bool keep_log;   /* closing does not empty it */
    bool unsure;     /* a commit failed and what the file holds has not been read since */
    bool broken;
    int wal_pages;
};
struct db_load { /* row() is called for every object */
    bool whole; /* every page, index and body is looked at; else what start has time for */
    bool (*row)(void *user, const struct object_spec *spec, size_t body_n, bool ttl, struct error *err);
    struct dict *(*dict)(void *user, int id); /* the dictionary of a row */
    void (*add_dict)(void *user, int id, struct str kind, struct str bytes);
    void *user;
};
MUST_CHECK bool db_open(struct db *d, int dirfd, bool read_only, const struct db_load *load, struct error *err);
/* Checks and reads all of an open database. */
MUST_CHECK bool db_read(struct sqlite3 *c, const struct db_load *load, bool read_only, int64_t *ret_version, int64_t *ret_revision,
                        struct error *err);
MUST_CHECK bool db_sync_files(int dirfd, struct error *err);
/* A second connection for reading only. */
MUST_CHECK bool db_open_reader(int dirfd, struct sqlite3 **ret, struct error *err);
MUST_CHECK bool db_open_live(int dirfd, struct sqlite3 **ret, struct error *err);
void db_close(struct db *d);
bool db_commit(struct db *d, struct batch *b); /* fills b->err and b->broken */
bool db_probe(struct db *d, struct error *err); /* an empty commit, to see whether writing works again */
bool db_checkpoint(struct db *d, struct error *err);
bool db_add_dict(struct db *d, int id, struct str kind, struct str bytes, struct error *err);
bool db_failed(struct sqlite3 *c, int rc, const char *what, struct error *err); /* false, always */
uint32_t db_sum(const struct object_spec *o); /* of a row: all that must not change unnoticed */
int64_t db_clock_ns(void); /* CLOCK_MONOTONIC: for measuring only */

/* mark.c: "state.lock" says how far writes were acknowledged */

MUST_CHECK bool mark_before_open(int dirfd, int lock_fd, int64_t *ret_mark, struct error *err); /* 0: it says nothing */
MUST_CHECK bool mark_check(int64_t mark, int64_t revision, struct error *err);
void mark_write(int lock_fd, int64_t revision);

/* reserve.c */

bool reserve_make(int dirfd); /* whether it is held now */
void reserve_give_up(int dirfd);
bool reserve_disk_is_full(int dirfd);

/* thread.c */

struct wake { /* outlives the store when a post is under way */
    atomic_uint refs;
    struct store *s; /* loop thread only */
};
void thread_init(struct store *s); /* all but the thread itself */
MUST_CHECK bool thread_start(struct store *s, struct error *err);
bool thread_turn(struct store *s); /* one piece of work, without waiting; false when there was none */
void thread_idle(struct store *s); /* what is done while nobody writes */
void thread_stop(struct store *s); /* after all that is queued is flushed */
void thread_done(struct store *s);
void thread_submit(struct store *s, struct entry *take_e);
void store_finish(struct store *s); /* store.c: applies what the thread has finished */

/* kinds.c: dictionaries per kind */

struct kinds;
struct kinds *kinds_new(void);
void kinds_free(struct kinds *k);
void kinds_add(struct kinds *k, int id, struct str kind, struct str bytes); /* one that the database holds */
struct dict *kinds_by_id(struct kinds *k, int id);          /* borrowed */
struct dict *kinds_for(struct kinds *k, struct str key);    /* newest of that key's kind, or NULL */
/* Takes a sample; true when enough are there: then kinds_train(). Store thread. */
bool kinds_sample(struct kinds *k, struct str key, struct str text);
bool kinds_train(struct kinds *k, struct str key, int *ret_id, struct str *ret_kind, struct str *ret_bytes);

/* ttl.c */

struct ttl {
    struct sqlite3 *c; /* reading connection of the loop thread */
    struct sqlite3_stmt *body, *due, *next;
    struct loop_timer timer;
    size_t waiting; /* ENTRY_TTL entries under way */
};
MUST_CHECK bool ttl_start(struct store *s, struct error *err);
void ttl_stop(struct store *s);
void ttl_committed(struct store *s, int64_t expires_ns);
void ttl_freeze(struct store *s, struct store_object *o); /* it left history: keep only its stub */
/* Reads a cold object's bytes into memory for good, before its row changes. */
void ttl_thaw(struct store_object *o);
/* Its bytes for a moment; false (and logged) when the row cannot be read. */
bool ttl_read(const struct store_object *o, struct buf *ret);

struct store {
    struct loop *loop;
    int dirfd;   /* owned */
    int lock_fd; /* owned */
    bool read_only, closing;
    int64_t history_ns;
    size_t history_max, history_bytes;

    /* loop thread */
    struct index index;
    struct history history;
    struct map pending; /* key → newest struct entry that is not visible yet */
    int64_t revision, oldest, next_revision;
    uint32_t epoch;
    size_t queued_bytes;
    struct error health;
    bool broken;
    struct buf text; /* of the write at hand */
    struct list watches, cold;
    size_t n_watches;
    int dispatching;
    struct loop_defer dispatch;
    struct loop_timer more, prune;
    struct ttl ttl;
    struct store_stats stats;

    /* both, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct list queue, finished;
    bool stop;
    atomic_llong last_fsync_ns;
    atomic_ullong commits, failed_commits;
    atomic_bool low; /* the reserve is given up: only what shrinks is taken */

    /* store thread */
    pthread_t thread;
    bool started;
    struct db db;
    struct kinds *kinds;
    struct error failed; /* why the epoch ended */
    uint32_t failed_epoch;
    struct wake *wake;
};
