/* test/robust/record - what concurrent clients did and saw, and whether a correct store could have answered so.
 *
 * The model is a map from key to version with one counter of revisions: every write that takes place has a revision of its
 * own, and the state at revision R is each key's newest write up to R. Revisions make the search that linearizability needs in
 * general unnecessary: the order of writes is given, and what is left to decide for each operation is whether some R
 * between its call and its return explains the answer.
 *
 *   - An operation happens at a revision not below any that an answer before its call has shown, and below that
 *     of every write that was called only after its return.
 *   - A write without an answer has happened or not; what tells is the log (what was submitted, or what others saw).
 *   - A watch shows exactly the writes behind its start, in order, each with the state before; whatever was
 *     promised complete (a bookmark, a later list) is complete. */
#pragma once
#include "base/buf.h"
#include "base/vec.h"
#include <stdbool.h>
#include <stdint.h>

enum { NEVER = INT64_MAX };

enum op_kind { OP_CREATE, OP_UPDATE, OP_DELETE, OP_GET, OP_LIST };
enum op_outcome { OP_PENDING, OP_OK, OP_REFUSED, OP_FAILED };
/* OP_PENDING and OP_FAILED: not known to have happened; OP_REFUSED: known not to. */

struct item { /* a version of a key */
    int64_t revision;
    unsigned tag; /* of the write, unique; 0: no object */
    int key;
};
struct op {
    enum op_kind kind;
    enum op_outcome outcome;
    int client, key;
    int64_t call, ret;   /* moments; ret NEVER: no answer */
    int64_t if_revision; /* writes: 0 none, > 0: the key must be at it */
    int64_t
        revision;    /* write: its own; get: the object's, 0 when absent; list: of the whole list */
    unsigned tag;    /* write: its own; get: what was found */
    size_t first, n; /* list: its items in record.items, in key order */
    bool exact; /* list: of an older revision that was asked for, so it says nothing about now */
};
struct log_entry { /* a write that took place */
    int64_t revision;
    int key;
    unsigned tag; /* 0: removed */
    int64_t call; /* when it was called; 0: not known (by the store itself) */
};
enum seen_type { SEEN_ADDED, SEEN_MODIFIED, SEEN_DELETED, SEEN_BOOKMARK };
struct seen {
    enum seen_type type;
    struct item now, before; /* before.tag 0: none told */
    bool knows_before;
};
struct watch_record {
    int64_t from,
        upto; /* upto: everything up to it had been delivered when the watch was looked at last */
    VEC(struct seen) seen;
};
struct record {
    VEC(struct op) ops;
    VEC(struct item) items;
    VEC(struct log_entry) log;
    VEC(struct watch_record *) watches;
    int keys;
    bool all_known; /* the log holds every write that took place, not only those somebody saw */
};
void record_done(struct record *h);
struct watch_record *record_watch(struct record *h, int64_t from);
/* False with the first contradiction told. Sorts the log. */
bool record_check(struct record *h, struct buf *why);
/* The log's state of a key at a revision; tag 0: absent. The log must be sorted. */
struct item record_state(const struct record *h, int key, int64_t revision);
