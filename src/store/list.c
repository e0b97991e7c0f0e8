#include "store/impl.h"

/* The state at an older revision: the index, with the first event behind that revision of each key undone. */
struct undo {
    struct str key;
    uint64_t seq;
    struct store_object *object; /* what was there; NULL: nothing */
};
struct overlay {
    struct undo *p;
    size_t n, cap;
};

static void overlay_done(struct overlay *o)
{
    vec_done(o);
}

static int compare_undo(const void *a, const void *b)
{
    const struct undo *x = a, *y = b;
    int c = str_cmp(x->key, y->key);

    return c ? c : (x->seq > y->seq) - (x->seq < y->seq);
}

static void overlay_build(const struct store *s, int64_t revision, struct str prefix, struct str from, struct overlay *o)
{
    const struct history *h = &s->history;
    size_t kept = 0;

    for (uint64_t seq = history_behind(h, revision); seq < h->first_seq + h->n; seq++) {
        const struct event *e = history_at(h, seq);
        struct str key = store_object_key(e->object);

        if (str_starts(key, prefix) && str_cmp(key, from) >= 0)
            vec_push(o, (struct undo){key, seq, e->previous});
    }
    if (o->n > 1)
        qsort(o->p, o->n, sizeof *o->p, compare_undo);
    for (size_t i = 0; i < o->n; i++)
        if (i == 0 || !str_eq(o->p[i].key, o->p[i - 1].key))
            o->p[kept++] = o->p[i];
    o->n = kept;
}

/* Walks index and overlay together, in key order. */
struct walk {
    const struct index *x;
    struct index_at at, end;
    const struct overlay *o;
    size_t undo;
};

static struct store_object *walk_next(struct walk *w)
{
    for (;;) {
        struct store_object *o = index_before(w->at, w->end) ? index_get(w->x, w->at) : NULL;
        const struct undo *u = w->undo < w->o->n ? &w->o->p[w->undo] : NULL;
        int c;

        if (!o && !u)
            return NULL;
        c = !u ? -1 : !o ? 1 : str_cmp(store_object_key(o), u->key);
        if (c <= 0)
            w->at = index_next(w->x, w->at);
        if (c < 0)
            return o;
        w->undo++;
        if (u->object)
            return u->object;
    }
}

/* Objects from the place of the walk to its end. */
static int64_t walk_rest(const struct walk *w)
{
    int64_t n = (int64_t)index_between(w->x, w->at, w->end);

    for (size_t i = w->undo; i < w->o->n; i++)
        n += (w->o->p[i].object != NULL) - (index_find(w->x, w->o->p[i].key) != NULL);
    return n;
}

static bool check_revision(const struct store *s, int64_t revision, struct error *err)
{
    if (revision < 0 || revision > s->revision)
        return error_set(err, ERROR_INVALID, "Too large resource version: %lld, current: %lld", (long long)revision,
                         (long long)s->revision);
    if (revision < s->oldest)
        return error_set(err, ERROR_GONE, "too old resource version: %lld (%lld)", (long long)revision,
                         (long long)s->oldest);
    return true;
}

bool store_list(struct store *s, struct str prefix, struct str start_key, size_t limit, int64_t revision,
                store_filter_fn filter, void *data, struct store_list *ret, struct error *err)
{
    AUTO(overlay_done) struct overlay overlay = {0};
    struct str from = start_key.p && str_cmp(start_key, prefix) > 0 ? start_key : prefix;
    struct store_list list = {.revision = revision ? revision : s->revision};
    struct walk w = {.x = &s->index, .o = &overlay}, before;
    struct store_object *o;

    if (!check_revision(s, list.revision, err))
        return false;
    if (list.revision < s->revision)
        overlay_build(s, list.revision, prefix, from, &overlay);
    w.at = index_lower(&s->index, from);
    w.end = index_behind(&s->index, prefix);
    for (before = w; (o = walk_next(&w)) != NULL; before = w) {
        if (limit > 0 && list.n == limit) {
            list.next_key = str_dup(store_object_key(o));
            list.remaining = filter ? -1 : walk_rest(&before);
            break;
        }
        if (!filter || filter(o, data))
            vec_push(&list, store_object_ref(o));
    }
    *ret = list;
    return true;
}

void store_list_done(struct store_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        store_object_unref(l->p[i]);
    vec_done(l);
    free(l->next_key);
    l->next_key = NULL;
}
