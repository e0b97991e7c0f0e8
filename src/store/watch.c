#include "store/impl.h"

struct store_watch {
    struct list node;
    struct store *s;
    bool (*fn)(void *user, const struct store_event *e);
    void *user;
    int64_t from, seen; /* revisions: begun behind, looked at */
    uint64_t seq;       /* the next event to look at */
    bool stopped, paused;
    size_t prefix_n;
    char prefix[];
};

enum { EVENTS_AT_ONCE = 2000 }; /* to one watcher that catches up, before others get their turn */

/* History. */

const struct event *history_at(const struct history *h, uint64_t seq)
{
    return &h->p[(h->first + (seq - h->first_seq)) % h->cap];
}

uint64_t history_behind(const struct history *h, int64_t revision)
{
    uint64_t lo = h->first_seq, hi = h->first_seq + h->n;

    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;

        if (history_at(h, mid)->object->revision <= revision)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void resize(struct history *h, size_t cap)
{
    struct event *p = xcalloc(cap, sizeof *p);

    for (size_t i = 0; i < h->n; i++)
        p[i] = *history_at(h, h->first_seq + i);
    free(h->p);
    h->p = p;
    h->cap = cap;
    h->first = 0;
}

static uint32_t now_ms(const struct store *s)
{
    return (uint32_t)(loop_now_ns(s->loop) / MILLIS(1));
}

static int64_t age_ns(const struct store *s, const struct event *e)
{
    return MILLIS((uint32_t)(now_ms(s) - e->at_ms));
}

void history_add(struct store *s, struct store_object *object, struct store_object *take_previous)
{
    struct history *h = &s->history;
    size_t bytes = take_previous ? object_size(take_previous) : 0;

    if (h->n == h->cap)
        resize(h, h->cap ? h->cap * 2 : 64);
    if (object->ttl && !object->deleted)
        bytes += object_size(object); /* without history it would be a stub */
    h->p[(h->first + h->n) % h->cap] =
        (struct event){store_object_ref(object), take_previous, now_ms(s), (uint32_t)bytes};
    h->n++;
    h->bytes += bytes;
}

static void drop_oldest(struct store *s)
{
    struct history *h = &s->history;
    struct event e = *history_at(h, h->first_seq);

    h->first = (h->first + 1) % h->cap;
    h->first_seq++;
    h->n--;
    s->oldest = e.object->revision;
    h->bytes -= e.bytes;
    store_object_unref(e.previous);
    if (e.object->ttl && !e.object->deleted)
        ttl_freeze(s, e.object);
    store_object_unref(e.object);
}

static void prune_due(struct loop_timer *t)
{
    history_prune(container_of(t, struct store, prune));
}

/* Events that a watcher has yet to see stay: it gets its turn soon. One that has paused takes its time, and has none to keep. */
static uint64_t slowest(const struct store *s)
{
    uint64_t seq = UINT64_MAX;

    list_each(n, &s->watches) {
        const struct store_watch *w = list_entry(n, struct store_watch, node);

        if (!w->stopped && !w->paused && w->seq < seq)
            seq = w->seq;
    }
    return seq;
}

void history_prune(struct store *s)
{
    struct history *h = &s->history;
    uint64_t keep = h->n ? slowest(s) : 0;

    while (h->n > 0 && h->first_seq < keep
           && (h->n > s->history_max || h->bytes > s->history_bytes
               || age_ns(s, history_at(h, h->first_seq)) >= s->history_ns))
        drop_oldest(s);
    if (h->cap > 1024 && h->n < h->cap / 4)
        resize(h, h->cap / 2);
    if (h->n > 0 && !loop_timer_active(&s->prune)) {
        int64_t in = s->history_ns - age_ns(s, history_at(h, h->first_seq));

        loop_timer_start(s->loop, &s->prune, in > SECONDS(1) ? in : SECONDS(1), prune_due);
    }
}

void history_done(struct store *s)
{
    struct history *h = &s->history;

    for (size_t i = 0; i < h->n; i++) {
        store_object_unref(history_at(h, h->first_seq + i)->object);
        store_object_unref(history_at(h, h->first_seq + i)->previous);
    }
    free(h->p);
    *h = (struct history){0};
}

/* Watchers. */

static bool deliver(struct store_watch *w, const struct event *e)
{
    struct store_event out = {.object = e->object, .previous = e->previous, .revision = e->object->revision};

    if (out.revision <= w->from || !str_starts(store_object_key(e->object), str_n(w->prefix, w->prefix_n)))
        return true;
    out.type = !e->previous ? STORE_ADDED : e->object->deleted ? STORE_DELETED : STORE_MODIFIED;
    return w->fn(w->user, &out);
}

/* True when it has seen everything. Nothing is added to or dropped from history meanwhile. */
static bool catch_up(struct store *s, struct store_watch *w)
{
    uint64_t end = s->history.first_seq + s->history.n;

    for (int n = 0; w->seq < end && !w->stopped && !w->paused; n++) {
        const struct event *e = history_at(&s->history, w->seq);

        if (n >= EVENTS_AT_ONCE)
            return false;
        w->seq++;
        w->seen = e->object->revision;
        if (!deliver(w, e))
            w->stopped = true;
    }
    return true;
}

static void free_stopped(struct store *s)
{
    list_each_safe(n, &s->watches) {
        struct store_watch *w = list_entry(n, struct store_watch, node);

        if (!w->stopped)
            continue;
        list_remove(n);
        s->n_watches--;
        free(w);
    }
}

static void more_due(struct loop_timer *t)
{
    watch_dispatch(container_of(t, struct store, more));
}

void watch_dispatch(struct store *s)
{
    bool all = true, stopped = false;

    if (s->dispatching++ == 0) {
        list_each(n, &s->watches) {
            struct store_watch *w = list_entry(n, struct store_watch, node);

            all = catch_up(s, w) && all;
            stopped = stopped || w->stopped;
        }
        if (stopped)
            free_stopped(s);
        if (!all)
            loop_timer_start(s->loop, &s->more, 0, more_due);
    }
    s->dispatching--;
}

static void dispatch_deferred(struct loop_defer *d)
{
    watch_dispatch(container_of(d, struct store, dispatch));
}

struct store_watch *store_watch_start(struct store *s, struct str prefix, int64_t from_revision,
                                      bool (*fn)(void *user, const struct store_event *e), void *user,
                                      struct error *err)
{
    struct store_watch *w;

    if (from_revision < s->oldest) {
        error_set(err, ERROR_GONE, "too old resource version: %lld (%lld)", (long long)from_revision,
                  (long long)s->oldest);
        return NULL;
    }
    w = xcalloc(1, sizeof *w + prefix.n);
    w->s = s;
    w->fn = fn;
    w->user = user;
    w->from = from_revision;
    w->seq = history_behind(&s->history, from_revision);
    w->prefix_n = prefix.n;
    memcpy(w->prefix, prefix.p, prefix.n);
    list_add_tail(&s->watches, &w->node);
    s->n_watches++;
    if (w->seq < s->history.first_seq + s->history.n)
        loop_defer(s->loop, &s->dispatch, dispatch_deferred);
    return w;
}

void store_watch_stop(struct store_watch *w)
{
    if (!w)
        return;
    if (w->s->dispatching) { /* its place in the list may be in use */
        w->stopped = true;
        loop_defer(w->s->loop, &w->s->dispatch, dispatch_deferred);
        return;
    }
    list_remove(&w->node);
    w->s->n_watches--;
    free(w);
}

void store_watch_pause(struct store_watch *w)
{
    w->paused = true;
}

bool store_watch_resume(struct store_watch *w, struct error *err)
{
    struct store *s = w->s;

    if (w->seq < s->history.first_seq)
        return error_set(err, ERROR_GONE, "too old resource version: %lld (%lld)", (long long)w->seen, (long long)s->oldest);
    w->paused = false;
    loop_defer(s->loop, &s->dispatch, dispatch_deferred);
    return true;
}

int64_t store_watch_revision(const struct store_watch *w)
{
    const struct history *h = &w->s->history;
    int64_t before;

    if (w->seq < h->first_seq) /* paused, and left behind */
        return w->seen > w->from ? w->seen : w->from;
    if (w->seq >= h->first_seq + h->n)
        return w->s->revision > w->from ? w->s->revision : w->from;
    before = history_at(h, w->seq)->object->revision - 1;
    return before > w->from ? before : w->from;
}

void watch_done(struct store *s)
{
    list_each_safe(n, &s->watches) {
        list_remove(n);
        free(list_entry(n, struct store_watch, node));
    }
    s->n_watches = 0;
}
