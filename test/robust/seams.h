/* test/robust/seams - the store with its thread taken out and bugs put in: the linker leads the calls between its files through
 * here (--wrap), so nothing of it is in the product. */
#pragma once
#include "store/impl.h"

enum bug {
    BUG_NONE,
    BUG_EARLY_ACK,     /* answers before the flush */
    BUG_LOST_IN_GROUP, /* one write of a group is not written, and acknowledged with the others */
    BUG_ACK_FAILED,    /* a failed flush counts as done */
    BUG_REUSED_REVISION,
    BUG_STALE_READ, /* a new version does not become visible */
    BUG_DROPPED_EVENT,
    BUG_DUPLICATED_EVENT,
    BUG_REORDERED_EVENTS,
    BUG_WRONG_PREVIOUS,
    BUG_INVENTED_EVENT,
    BUG_OLD_LIST_IS_NEW, /* a list of an older revision shows a newer state */
    BUG_FORGOTTEN_KEY,   /* a removal is not written */
    BUGS
};
extern const char *const bug_names[BUGS];

enum attempt_state { ATTEMPT_QUEUED, ATTEMPT_FAILED, ATTEMPT_COMMITTED, ATTEMPT_DEAD };
struct attempt { /* everything that the store was told to write */
    int64_t revision;
    int key;
    unsigned tag; /* 0: removed */
    int64_t call;
    int life, batch; /* which process; which attempt to flush */
    bool by_itself;  /* the store's own */
    enum attempt_state state;
};
struct seams {
    enum bug bug;
    int chances;
    VEC(struct attempt) attempts;
    VEC(int64_t) batches; /* newest revision of each failed one; 0: committed */
    int life;
    unsigned tag; /* of the write at hand; 0: the store's own removal of what has expired */
    int64_t call;
    const int64_t *moment; /* now */
};
extern struct seams seams;
void seams_reset(void);
