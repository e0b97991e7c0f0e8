#include "record.h"
#include "base/alloc.h"
#include <inttypes.h>

static const char *const kind_names[] = {"create", "update", "delete", "get", "list"};

void record_done(struct record *h)
{
    for (size_t i = 0; i < h->watches.n; i++) {
        vec_done(&h->watches.p[i]->seen);
        free(h->watches.p[i]);
    }
    vec_done(&h->watches);
    vec_done(&h->ops);
    vec_done(&h->items);
    vec_done(&h->log);
}

struct watch_record *record_watch(struct record *h, int64_t from)
{
    struct watch_record *w = NEW(struct watch_record);

    w->from = w->upto = from;
    vec_push(&h->watches, w);
    return w;
}

static bool is_write(const struct op *o)
{
    return o->kind == OP_CREATE || o->kind == OP_UPDATE || o->kind == OP_DELETE;
}

static bool wrong(struct buf *why, const struct op *o, const char *text)
{
    buf_addf(why,
             "client %d, %s of key %d (called %" PRId64 ", returned %" PRId64 ", revision %" PRId64
             ", tag %u): %s",
             o->client, kind_names[o->kind], o->key, o->call, o->ret, o->revision, o->tag, text);
    return false;
}

/* The log. */

static int by_revision(const void *a, const void *b)
{
    const struct log_entry *x = a, *y = b;

    return (x->revision > y->revision) - (x->revision < y->revision);
}

static size_t log_behind(const struct record *h, int64_t revision)
{
    size_t lo = 0, hi = h->log.n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (h->log.p[mid].revision <= revision)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static const struct log_entry *log_find(const struct record *h, int64_t revision)
{
    size_t at = log_behind(h, revision);

    return at > 0 && h->log.p[at - 1].revision == revision ? &h->log.p[at - 1] : NULL;
}

struct item record_state(const struct record *h, int key, int64_t revision)
{
    for (size_t i = log_behind(h, revision); i > 0; i--)
        if (h->log.p[i - 1].key == key)
            return (struct item){h->log.p[i - 1].revision, h->log.p[i - 1].tag, key};
    return (struct item){.key = key};
}

static bool check_log(struct record *h, struct buf *why)
{
    size_t kept = 0;

    if (h->log.n > 1)
        qsort(h->log.p, h->log.n, sizeof *h->log.p, by_revision);
    for (size_t i = 0; i < h->log.n; i++) {
        const struct log_entry *e = &h->log.p[i];
        struct log_entry *last = kept ? &h->log.p[kept - 1] : NULL;

        if (!last || last->revision != e->revision) {
            h->log.p[kept++] = *e;
            continue;
        }
        if (last->key != e->key || last->tag != e->tag) {
            buf_addf(why,
                     "revision %" PRId64 " is two writes: tag %u of key %d and tag %u of key %d",
                     e->revision, last->tag, last->key, e->tag, e->key);
            return false;
        }
        if (!last->call)
            last->call = e->call;
    }
    h->log.n = kept;
    return true;
}

/* Operations. */

struct window {
    int64_t lo, hi;
};

/* Which revisions can be the moment of an operation: see the head of record.h. */
static struct window window_of(const struct record *h, const struct op *o)
{
    struct window w = {0, INT64_MAX};

    for (size_t i = 0; i < h->ops.n; i++) {
        const struct op *x = &h->ops.p[i];

        if (x->outcome == OP_OK && x->ret < o->call && !x->exact && x->revision > w.lo)
            w.lo = x->revision;
    }
    for (size_t i = 0; i < h->log.n; i++) {
        const struct log_entry *e = &h->log.p[i];

        if (e->call > o->ret && e->revision <= w.hi)
            w.hi = e->revision - 1;
    }
    return w;
}

/* Some revision of the window has the key in this version. */
static bool can_see(const struct record *h, int key, unsigned tag, int64_t revision,
                    struct window w)
{
    int64_t from = 0;
    struct item now = {.key = key};

    for (size_t i = 0; i <= h->log.n; i++) {
        const struct log_entry *e = i < h->log.n ? &h->log.p[i] : NULL;
        int64_t to = e ? e->revision - 1 : INT64_MAX;

        if (e && e->key != key)
            continue;
        if (now.tag == tag && (tag == 0 || now.revision == revision) && from <= w.hi && to >= w.lo)
            return true;
        if (e) {
            now = (struct item){e->revision, e->tag, key};
            from = e->revision;
        }
    }
    return false;
}

static bool check_write(const struct record *h, const struct op *o, struct buf *why)
{
    const struct log_entry *e = log_find(h, o->revision);
    struct window w = window_of(h, o);
    struct item before;

    if (!e)
        return wrong(why, o, "acknowledged, and lost");
    if (e->key != o->key || e->tag != (o->kind == OP_DELETE ? 0 : o->tag))
        return wrong(why, o, "acknowledged, and another write has its revision");
    if (o->revision <= w.lo || o->revision > w.hi)
        return wrong(
            why, o, "its revision is not between those before its call and those after its return");
    if (!h->all_known)
        return true;
    before = record_state(h, o->key, o->revision - 1);
    if (o->kind == OP_CREATE && before.tag)
        return wrong(why, o, "created what was there");
    if (o->kind != OP_CREATE && o->if_revision > 0 && before.revision != o->if_revision)
        return wrong(why, o, "took place on another version than it asked for");
    if (o->kind == OP_DELETE && !before.tag)
        return wrong(why, o, "removed what was not there");
    return true;
}

static bool check_get(const struct record *h, const struct op *o, struct buf *why)
{
    return can_see(h, o->key, o->tag, o->revision, window_of(h, o))
           || wrong(why, o, "no moment between call and return had this version");
}

static bool check_list(const struct record *h, const struct op *o, struct buf *why)
{
    struct window w = window_of(h, o);
    size_t at = o->first;

    if ((!o->exact && o->revision < w.lo) || o->revision > w.hi)
        return wrong(why, o, "a list of another time than that of the call");
    for (int key = 0; key < h->keys; key++) {
        struct item s = record_state(h, key, o->revision);
        const struct item *have = at < o->first + o->n ? &h->items.p[at] : NULL;

        if (have && have->key < key)
            return wrong(why, o, "a list has a key twice, or out of order");
        if (have && have->key == key)
            at++;
        else
            have = NULL;
        if ((s.tag != 0) != (have != NULL)
            || (have && (have->revision != s.revision || have->tag != s.tag))) {
            buf_addf(why,
                     "key %d is at revision %" PRId64 " (tag %u) then, and listed at %" PRId64
                     " (tag %u): ",
                     key, s.revision, s.tag, have ? have->revision : 0, have ? have->tag : 0);
            return wrong(why, o, "a list is not the state of its revision");
        }
    }
    return at == o->first + o->n || wrong(why, o, "a list has more than there is");
}

/* A condition that was not met must have been unmet at some moment; writes under way count, as they are judged against. */
static bool check_refused(const struct record *h, const struct op *o, struct buf *why)
{
    struct window w = window_of(h, o);

    for (size_t i = 0; i < h->ops.n; i++) {
        const struct op *x = &h->ops.p[i];

        if (x != o && x->key == o->key && is_write(x) && x->outcome != OP_OK && x->call < o->ret
            && x->ret > o->call)
            return true;
    }
    if (o->kind == OP_CREATE) {
        for (size_t i = 0; i <= h->log.n; i++) { /* a revision of the window where it is there */
            int64_t r = i == 0 ? w.lo : h->log.p[i - 1].revision;

            if (r >= w.lo && r <= w.hi && record_state(h, o->key, r).tag)
                return true;
        }
        return wrong(why, o, "refused as existing, and it was never there");
    }
    if (o->if_revision > 0)
        for (size_t i = 0; i <= h->log.n; i++) {
            int64_t r = i == 0 ? w.lo : h->log.p[i - 1].revision;
            struct item s = record_state(h, o->key, r);

            if (r >= w.lo && r <= w.hi && (!s.tag || s.revision != o->if_revision))
                return true;
        }
    else if (can_see(h, o->key, 0, 0, w))
        return true;
    return wrong(why, o, "refused, and its condition was met all the time");
}

static bool check_op(const struct record *h, const struct op *o, struct buf *why)
{
    if (o->outcome == OP_REFUSED)
        return !is_write(o) || !h->all_known || check_refused(h, o, why);
    if (o->outcome != OP_OK)
        return true;
    switch (o->kind) {
    case OP_CREATE:
    case OP_UPDATE:
    case OP_DELETE:
        return check_write(h, o, why);
    case OP_GET:
        return check_get(h, o, why);
    case OP_LIST:
        return check_list(h, o, why);
    }
    return false;
}

/* Watches. */

static bool wrong_event(struct buf *why, const struct watch_record *w, size_t i, const char *text)
{
    const struct seen *e = i < w->seen.n ? &w->seen.p[i] : NULL;

    buf_addf(why, "watch from %" PRId64 ", event %zu (revision %" PRId64 ", key %d, tag %u): %s",
             w->from, i, e ? e->now.revision : 0, e ? e->now.key : 0, e ? e->now.tag : 0, text);
    return false;
}

static bool check_event(const struct record *h, const struct watch_record *w, size_t i,
                        const struct log_entry *e, struct buf *why)
{
    const struct seen *s = &w->seen.p[i];
    struct item before = record_state(h, e->key, e->revision - 1);
    enum seen_type type = !e->tag ? SEEN_DELETED : before.tag ? SEEN_MODIFIED : SEEN_ADDED;

    if (s->now.revision > e->revision)
        return wrong_event(why, w, i, "one before it is lost");
    if (s->now.revision < e->revision)
        return wrong_event(why, w, i,
                           log_find(h, s->now.revision) ? "it comes again, or too late"
                                                        : "nobody wrote it");
    if (s->now.key != e->key || (e->tag && s->now.tag != e->tag))
        return wrong_event(why, w, i, "another write has this revision");
    if (h->all_known && s->type != type)
        return wrong_event(why, w, i, "its type is wrong");
    if (h->all_known && s->knows_before
        && (s->before.tag != before.tag
            || s->before.revision != (before.tag ? before.revision : 0)))
        return wrong_event(why, w, i, "the state before it is wrong");
    return true;
}

static bool check_watch(const struct record *h, const struct watch_record *w, struct buf *why)
{
    size_t at = log_behind(h, w->from);

    for (size_t i = 0; i < w->seen.n; i++) {
        const struct seen *s = &w->seen.p[i];

        if (s->type == SEEN_BOOKMARK) {
            if (at < h->log.n && h->log.p[at].revision <= s->now.revision)
                return wrong_event(why, w, i, "a bookmark says complete, and an event is missing");
            continue;
        }
        if (at >= h->log.n)
            return wrong_event(why, w, i,
                               log_find(h, s->now.revision) ? "it comes again" : "nobody wrote it");
        if (!check_event(h, w, i, &h->log.p[at], why))
            return false;
        at++;
    }
    if (at < h->log.n && h->log.p[at].revision <= w->upto)
        return wrong_event(why, w, w->seen.n, "an event is lost");
    return true;
}

bool record_check(struct record *h, struct buf *why)
{
    if (!check_log(h, why))
        return false;
    for (size_t i = 0; i < h->ops.n; i++)
        if (!check_op(h, &h->ops.p[i], why))
            return false;
    for (size_t i = 0; i < h->watches.n; i++)
        if (!check_watch(h, h->watches.p[i], why))
            return false;
    return true;
}
