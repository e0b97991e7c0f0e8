#include "store/impl.h"

void index_done(struct index *x)
{
    for (size_t i = 0; i < x->n; i++) {
        for (size_t j = 0; j < x->p[i]->n; j++)
            store_object_unref(x->p[i]->p[j]);
        free(x->p[i]);
    }
    vec_done(x);
    x->objects = 0;
}

/* Below zero while the object lies before the place that is looked for. */
static int compare(const struct store_object *o, struct str key, bool behind)
{
    struct str k = store_object_key(o);

    if (behind && str_starts(k, key))
        return -1;
    return str_cmp(k, key);
}

static struct index_at lower(const struct index *x, struct str key, bool behind)
{
    size_t lo = 0, hi = x->n;
    struct index_at at;

    /* The last leaf whose first key is before the place, or the first leaf. */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (compare(x->p[mid]->p[0], key, behind) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return (struct index_at){0, 0};
    at.leaf = lo - 1;
    lo = 0;
    hi = x->p[at.leaf]->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (compare(x->p[at.leaf]->p[mid], key, behind) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    at.i = lo;
    /* Places have one form: never behind a leaf's last object. */
    return at.i < x->p[at.leaf]->n ? at : (struct index_at){at.leaf + 1, 0};
}

struct index_at index_lower(const struct index *x, struct str key)
{
    return lower(x, key, false);
}

struct index_at index_behind(const struct index *x, struct str prefix)
{
    return lower(x, prefix, true);
}

struct store_object *index_get(const struct index *x, struct index_at at)
{
    return at.leaf < x->n ? x->p[at.leaf]->p[at.i] : NULL;
}

struct index_at index_next(const struct index *x, struct index_at at)
{
    if (at.leaf < x->n && ++at.i >= x->p[at.leaf]->n)
        return (struct index_at){at.leaf + 1, 0};
    return at;
}

size_t index_between(const struct index *x, struct index_at from, struct index_at to)
{
    size_t n = 0;

    if (!index_before(from, to))
        return 0;
    if (from.leaf == to.leaf)
        return to.i - from.i;
    n = x->p[from.leaf]->n - from.i + to.i;
    for (size_t i = from.leaf + 1; i < to.leaf; i++)
        n += x->p[i]->n;
    return n;
}

static bool found(const struct index *x, struct index_at at, struct str key)
{
    struct store_object *o = index_get(x, at);

    return o && str_eq(store_object_key(o), key);
}

struct store_object *index_find(const struct index *x, struct str key)
{
    struct index_at at = index_lower(x, key);

    return found(x, at, key) ? index_get(x, at) : NULL;
}

static void add_leaf(struct index *x, size_t at)
{
    vec_reserve(x, x->n + 1);
    memmove(&x->p[at + 1], &x->p[at], (x->n - at) * sizeof *x->p);
    x->p[at] = NEW(struct index_leaf);
    x->n++;
}

/* Names mostly come in rising order; a split at the end keeps the left leaf full. */
static struct index_at split(struct index *x, struct index_at at)
{
    struct index_leaf *left = x->p[at.leaf], *right;
    size_t keep = at.i == INDEX_LEAF ? INDEX_LEAF - INDEX_LEAF / 8 : INDEX_LEAF / 2;

    add_leaf(x, at.leaf + 1);
    right = x->p[at.leaf + 1];
    right->n = left->n - keep;
    memcpy(right->p, left->p + keep, right->n * sizeof *right->p);
    left->n = keep;
    return at.i <= keep ? at : (struct index_at){at.leaf + 1, at.i - keep};
}

struct store_object *index_set(struct index *x, struct store_object *take_o)
{
    struct index_at at = index_lower(x, store_object_key(take_o));
    struct index_leaf *leaf;

    if (found(x, at, store_object_key(take_o))) {
        struct store_object *old = index_get(x, at);

        x->p[at.leaf]->p[at.i] = take_o;
        return old;
    }
    if (x->n == 0)
        add_leaf(x, 0);
    /* Between two leaves it goes to the end of the left one, so that first keys stay what they are. */
    if (at.i == 0 && at.leaf > 0)
        at = (struct index_at){at.leaf - 1, x->p[at.leaf - 1]->n};
    if (x->p[at.leaf]->n == INDEX_LEAF)
        at = split(x, at);
    leaf = x->p[at.leaf];
    memmove(&leaf->p[at.i + 1], &leaf->p[at.i], (leaf->n - at.i) * sizeof *leaf->p);
    leaf->p[at.i] = take_o;
    leaf->n++;
    x->objects++;
    return NULL;
}

struct store_object *index_remove(struct index *x, struct str key)
{
    struct index_at at = index_lower(x, key);
    struct store_object *old;
    struct index_leaf *leaf;

    if (!found(x, at, key))
        return NULL;
    leaf = x->p[at.leaf];
    old = leaf->p[at.i];
    vec_remove(leaf, at.i);
    x->objects--;
    if (leaf->n == 0) {
        free(leaf);
        vec_remove(x, at.leaf);
    }
    return old;
}
