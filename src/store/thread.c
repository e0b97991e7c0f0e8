#include "store/impl.h"
#include "base/log.h"
#include <errno.h>
#include <signal.h>
#include <time.h>

enum {
    BATCH_ENTRIES = 1024,
    BATCH_BYTES = 8 << 20,
    CHECKPOINT_IDLE = 1000,   /* pages in the write-ahead log: worth it when there is nothing else to do */
    CHECKPOINT_BUSY = 4096,   /* … and in any case: 16 MiB */
    CHECKPOINT_LOW = 128,     /* … while the disk is full: half a MiB, of the reserve */
    IDLE_MS = 500,
};

static void wake_unref(void *arg)
{
    struct wake *w = arg;

    if (atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) == 1)
        free(w);
}

static void wake_up(void *arg)
{
    struct wake *w = arg;

    if (w->s)
        store_finish(w->s);
    wake_unref(w);
}

static void post_wake(struct store *s)
{
    atomic_fetch_add_explicit(&s->wake->refs, 1, memory_order_relaxed);
    loop_post(s->loop, wake_up, wake_unref, s->wake);
}

static void hand_back(struct store *s, struct batch *b)
{
    bool first;

    pthread_mutex_lock(&s->lock);
    first = list_empty(&s->finished);
    list_add_tail(&s->finished, &b->node);
    pthread_mutex_unlock(&s->lock);
    if (first)
        post_wake(s);
}

/* Everything that waits, up to a bound, of one epoch. Under the lock. */
static struct batch *take_batch(struct store *s)
{
    struct batch *b = NEW(struct batch);
    size_t n = 0, bytes = 0;

    list_init(&b->entries);
    b->epoch = list_entry(s->queue.next, struct entry, node)->epoch;
    list_each_safe(node, &s->queue) {
        struct entry *e = list_entry(node, struct entry, node);

        if (e->epoch != b->epoch || n >= BATCH_ENTRIES || bytes >= BATCH_BYTES)
            break;
        list_remove(node);
        list_add_tail(&b->entries, node);
        n++;
        bytes += e->object->text_n;
    }
    return b;
}

static void train(struct store *s, struct str key)
{
    AUTO(error_clear) struct error err = {0};
    struct str kind, bytes;
    int id;

    if (!kinds_train(s->kinds, key, &id, &kind, &bytes))
        return;
    /* Rows may name it only once it is durable itself: it is committed before any of them. */
    if (db_add_dict(&s->db, id, kind, bytes, &err))
        kinds_add(s->kinds, id, kind, bytes);
    else
        log_warning(NULL, "store: no dictionary for " STR_FMT " now: %s", STR_ARG(kind), error_text(&err));
    free((char *)(uintptr_t)bytes.p);
}

static void compact(struct store *s, struct batch *b)
{
    list_each(node, &b->entries) {
        struct entry *e = list_entry(node, struct entry, node);
        struct str key = store_object_key(e->object);
        enum object_form form;
        struct dict *dict;

        if (e->op != ENTRY_INSERT && e->op != ENTRY_UPDATE)
            continue;
        if (kinds_sample(s->kinds, key, object_body(e->object, &form, &dict)))
            train(s, key);
        e->compact = object_compact(e->object, kinds_for(s->kinds, key));
    }
}

/* Once the log has been emptied it is written from its start again, and needs no more room. */
static bool commit_in_empty_log(struct store *s, struct batch *b)
{
    AUTO(error_clear) struct error ignored = {0};

    if (!s->db.full || s->db.broken || !db_checkpoint(&s->db, &ignored))
        return false;
    error_clear(&b->err);
    b->broken = false;
    return db_commit(&s->db, b);
}

static bool commit_from_reserve(struct store *s, struct batch *b)
{
    if (!s->db.full || s->db.broken || atomic_load(&s->low))
        return false;
    log_error(NULL, "store: %s; the reserve is given up, and only deletions and what makes objects smaller are taken until there"
                    " is room", error_text(&b->err));
    atomic_store(&s->low, true);
    reserve_give_up(s->dirfd);
    error_clear(&b->err);
    b->broken = false;
    return db_commit(&s->db, b) || commit_in_empty_log(s, b);
}

static void flush(struct store *s, struct batch *b)
{
    int64_t start;

    if (b->epoch <= s->failed_epoch) {
        error_set(&b->err, ERROR_UNAVAILABLE, "%s",
                  s->failed.kind ? error_text(&s->failed) : "state.db: a write that this one builds on has failed");
        b->broken = s->db.broken;
        return;
    }
    compact(s, b);
    start = db_clock_ns();
    if (db_commit(&s->db, b) || commit_in_empty_log(s, b) || commit_from_reserve(s, b)) {
        mark_write(s->lock_fd, s->db.durable);
        atomic_store_explicit(&s->last_fsync_ns, db_clock_ns() - start, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->commits, 1, memory_order_relaxed);
        error_clear(&s->failed);
        return;
    }
    atomic_fetch_add_explicit(&s->failed_commits, 1, memory_order_relaxed);
    s->failed_epoch = b->epoch;
    error_clear(&s->failed);
    error_set(&s->failed, b->err.kind, "%s", error_text(&b->err));
}

static void checkpoint(struct store *s, int pages)
{
    AUTO(error_clear) struct error err = {0};

    if (s->read_only || s->db.wal_pages < pages)
        return;
    if (!db_checkpoint(&s->db, &err)) {
        log_warning(NULL, "store: %s, retrying", error_text(&err));
        s->db.wal_pages = pages / 2; /* not again with the very next commit */
    }
}

/* Whether writes work again after one failed, while nobody writes: health must not wait for a client. */
static void probe(struct store *s)
{
    struct batch *b;

    if (s->failed.kind == ERROR_NONE || s->db.broken)
        return;
    b = NEW(struct batch);
    list_init(&b->entries);
    if (db_probe(&s->db, &b->err)) {
        error_clear(&s->failed);
        hand_back(s, b);
        return;
    }
    error_clear(&b->err);
    free(b);
}

/* False at the end. */
static bool wait_for_work(struct store *s)
{
    struct timespec until;
    bool go_on;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += IDLE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&s->lock);
    while (list_empty(&s->queue) && !s->stop) {
        bool busy = s->db.wal_pages >= CHECKPOINT_IDLE || s->failed.kind != ERROR_NONE || atomic_load(&s->low);

        if (!busy)
            pthread_cond_wait(&s->cond, &s->lock);
        else if (pthread_cond_timedwait(&s->cond, &s->lock, &until) == ETIMEDOUT)
            break;
    }
    go_on = !s->stop || !list_empty(&s->queue);
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

/* Is there room again? */
static void refill(struct store *s)
{
    if (!atomic_load(&s->low) || !reserve_make(s->dirfd))
        return;
    log_info(NULL, "store: the disk of the data directory has room again");
    atomic_store(&s->low, false);
}

bool thread_turn(struct store *s)
{
    struct batch *batch = NULL;

    pthread_mutex_lock(&s->lock);
    if (!list_empty(&s->queue))
        batch = take_batch(s);
    pthread_mutex_unlock(&s->lock);
    if (batch) {
        flush(s, batch);
        hand_back(s, batch);
        checkpoint(s, atomic_load(&s->low) ? CHECKPOINT_LOW : CHECKPOINT_BUSY);
        refill(s);
    }
    return batch != NULL;
}

void thread_idle(struct store *s)
{
    checkpoint(s, atomic_load(&s->low) ? CHECKPOINT_LOW : CHECKPOINT_IDLE);
    refill(s);
    probe(s);
}

static void *thread_main(void *arg)
{
    struct store *s = arg;

    (void)pthread_setname_np(pthread_self(), "store");
    while (wait_for_work(s))
        if (!thread_turn(s))
            thread_idle(s);
    return NULL;
}

void thread_init(struct store *s)
{
    pthread_condattr_t attr;

    s->wake = NEW(struct wake);
    atomic_init(&s->wake->refs, 1);
    s->wake->s = s;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->cond, &attr);
    pthread_condattr_destroy(&attr);
}

bool thread_start(struct store *s, struct error *err)
{
    sigset_t all, before;
    int e;

    thread_init(s);
    sigfillset(&all); /* signals are for the loops */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    e = pthread_create(&s->thread, NULL, thread_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e != 0)
        return error_errno(err, e, "store thread");
    s->started = true;
    return true;
}

void thread_submit(struct store *s, struct entry *take_e)
{
    pthread_mutex_lock(&s->lock);
    list_add_tail(&s->queue, &take_e->node);
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

void thread_stop(struct store *s)
{
    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->cond);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        s->started = false;
    }
}

void thread_done(struct store *s)
{
    if (s->wake) {
        s->wake->s = NULL;
        wake_unref(s->wake);
        s->wake = NULL;
        pthread_cond_destroy(&s->cond);
        pthread_mutex_destroy(&s->lock);
    }
    error_clear(&s->failed);
}
