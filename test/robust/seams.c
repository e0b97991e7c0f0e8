#include "seams.h"
#include "disk.h"
#include <sqlite3.h>

const char *const bug_names[BUGS] = {
    "none",
    "early acknowledgement",
    "a write lost in its group",
    "a failed flush acknowledged",
    "a revision used twice",
    "a stale read",
    "a dropped event",
    "a duplicated event",
    "events out of order",
    "a wrong previous state",
    "an invented event",
    "an old list that shows newer state",
    "a removal that is not written",
};
struct seams seams;

void seams_reset(void)
{
    vec_done(&seams.attempts);
    vec_done(&seams.batches);
    seams.chances = seams.life = 0;
    seams.call = 0;
    seams.tag = 0;
}

static bool strikes(enum bug b)
{
    int every = b == BUG_OLD_LIST_IS_NEW ? 2 : 5; /* lists of the past are rarer */

    return seams.bug == b && ++seams.chances % every == 0;
}

/* The thread: its work is done where the test says so. */

bool __wrap_thread_start(struct store *s, struct error *err);
void __wrap_thread_stop(struct store *s);
void __real_thread_submit(struct store *s, struct entry *e);
void __wrap_thread_submit(struct store *s, struct entry *e);

bool __wrap_thread_start(struct store *s, struct error *err)
{
    (void)err;
    thread_init(s);
    return true;
}

void __wrap_thread_stop(struct store *s)
{
    while (s->wake && thread_turn(s)) {
    }
}

void __wrap_thread_submit(struct store *s, struct entry *e)
{
    struct str key = store_object_key(e->object);

    if (e->op != ENTRY_TTL) {
        vec_push(&seams.attempts, (struct attempt){.revision = e->revision,
                                                   .key = key.p[key.n - 1] - '0',
                                                   .life = seams.life,
                                                   .tag = e->op == ENTRY_DELETE ? 0 : seams.tag,
                                                   .call = seams.call ? seams.call : *seams.moment,
                                                   .by_itself = !seams.call});
        if (strikes(BUG_REUSED_REVISION))
            s->next_revision--;
    }
    __real_thread_submit(s, e);
}

/* Flushing. */

bool __real_db_open(struct db *d, int dirfd, bool read_only, const struct db_load *load,
                    struct error *err);
bool __wrap_db_open(struct db *d, int dirfd, bool read_only, const struct db_load *load,
                    struct error *err);
bool __real_db_commit(struct db *d, struct batch *b);
bool __wrap_db_commit(struct db *d, struct batch *b);

bool __wrap_db_open(struct db *d, int dirfd, bool read_only, const struct db_load *load,
                    struct error *err)
{
    if (!__real_db_open(d, dirfd, read_only, load, err))
        return false;
    if (seams.bug == BUG_EARLY_ACK)
        (void)sqlite3_exec(d->c, "pragma synchronous=off", NULL, NULL, NULL);
    return true;
}

bool __wrap_db_sync_files(int dirfd, struct error *err);
bool __wrap_db_sync_files(int dirfd, struct error *err)
{
    (void)dirfd;
    return disk_flush_log()
           || error_set(err, ERROR_UNAVAILABLE, "state.db-wal: flush: Input/output error");
}

bool __wrap_reserve_make(int dirfd);
void __wrap_reserve_give_up(int dirfd);
bool __wrap_reserve_disk_is_full(int dirfd);

bool __wrap_reserve_make(int dirfd)
{
    (void)dirfd;
    return disk_has_room();
}

void __wrap_reserve_give_up(int dirfd)
{
    (void)dirfd;
    disk_give_room(60);
}

bool __wrap_reserve_disk_is_full(int dirfd)
{
    (void)dirfd;
    return false;
}

static void settle(const struct batch *b, bool ok)
{
    int batch = (int)seams.batches.n;
    int64_t newest = 0;

    list_each(n, &b->entries) {
        const struct entry *e = list_entry(n, struct entry, node);

        for (size_t i = seams.attempts.n; i > 0 && e->op != ENTRY_TTL; i--) {
            struct attempt *a = &seams.attempts.p[i - 1];

            /* A batch that failed for want of room is tried once more. */
            if (a->life != seams.life || a->revision != e->revision
                || (a->state != ATTEMPT_QUEUED && a->state != ATTEMPT_FAILED))
                continue;
            a->state = ok ? ATTEMPT_COMMITTED : ATTEMPT_FAILED;
            a->batch = batch;
            newest = e->revision;
        }
    }
    for (size_t i = 0; ok && i < seams.attempts.n; i++)
        if (seams.attempts.p[i].life == seams.life && seams.attempts.p[i].state == ATTEMPT_FAILED)
            seams.attempts.p[i].state = ATTEMPT_DEAD;
    vec_push(&seams.batches, ok ? 0 : newest);
}

static struct list *take_one(struct batch *b, bool removal)
{
    list_each(n, &b->entries) {
        const struct entry *e = list_entry(n, struct entry, node);

        if (removal ? e->op == ENTRY_DELETE : e->op != ENTRY_TTL && n->next != &b->entries) {
            list_remove(n);
            return n;
        }
    }
    return NULL;
}

bool __wrap_db_commit(struct db *d, struct batch *b)
{
    struct list *taken = NULL;
    bool ok;

    if (strikes(BUG_LOST_IN_GROUP))
        taken = take_one(b, false);
    else if (strikes(BUG_FORGOTTEN_KEY))
        taken = take_one(b, true);
    ok = __real_db_commit(d, b);
    if (taken)
        list_add_head(&b->entries, taken);
    if (!ok && seams.bug == BUG_ACK_FAILED && !d->broken) {
        error_clear(&b->err);
        ok = true;
    }
    settle(b, ok);
    return ok;
}

/* What becomes visible. */

struct store_object *__real_index_set(struct index *x, struct store_object *o);
struct store_object *__wrap_index_set(struct index *x, struct store_object *o);
void __real_history_add(struct store *s, struct store_object *object,
                        struct store_object *previous);
void __wrap_history_add(struct store *s, struct store_object *object,
                        struct store_object *previous);
uint64_t __real_history_behind(const struct history *h, int64_t revision);
uint64_t __wrap_history_behind(const struct history *h, int64_t revision);

struct store_object *__wrap_index_set(struct index *x, struct store_object *o)
{
    struct store_object *now = index_find(x, store_object_key(o));

    /* The caller's reference of the old version is the one that the index gives away. */
    if (now && seams.life > 0 && strikes(BUG_STALE_READ)) {
        store_object_ref(now);
        store_object_unref(o);
        return now;
    }
    return __real_index_set(x, o);
}

static void swap_last(struct history *h)
{
    struct event *a = &h->p[(h->first + h->n - 1) % h->cap],
                 *b = &h->p[(h->first + h->n - 2) % h->cap], t = *a;

    *a = *b;
    *b = t;
}

void __wrap_history_add(struct store *s, struct store_object *object, struct store_object *previous)
{
    if (strikes(BUG_DROPPED_EVENT)) {
        store_object_unref(previous);
        return;
    }
    if (strikes(BUG_WRONG_PREVIOUS)) {
        store_object_unref(previous);
        previous = s->history.n
                       ? store_object_ref(history_at(&s->history, s->history.first_seq)->object)
                       : NULL;
    }
    if (strikes(BUG_DUPLICATED_EVENT))
        __real_history_add(s, object, store_object_ref(previous));
    __real_history_add(s, object, previous);
    if (s->history.n > 1 && strikes(BUG_REORDERED_EVENTS))
        swap_last(&s->history);
    if (strikes(BUG_INVENTED_EVENT)) {
        struct store_object *o = object_new_deleted(object, s->next_revision + 1);

        __real_history_add(s, o, store_object_ref(object));
        store_object_unref(o);
        s->next_revision++;
    }
}

uint64_t __wrap_history_behind(const struct history *h, int64_t revision)
{
    uint64_t seq = __real_history_behind(h, revision);

    return seq < h->first_seq + h->n && strikes(BUG_OLD_LIST_IS_NEW) ? h->first_seq + h->n : seq;
}
