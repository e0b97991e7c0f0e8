/* Images that nobody uses go. What is used is what the records say: an image is noted in a pod's record as soon as the pod has
 * it, so neither a restart of ours nor a tag that moved can make a running machine's disk look unused. */
#include "pod/internal.h"

#include "base/cleanup.h"

#define FIRST_NS SECONDS(300)
#define EVERY_NS SECONDS(60)

void prune_note(struct pod *p, const char *digest)
{
    for (size_t i = 0; i < p->rec.images.n; i++)
        if (strcmp(p->rec.images.p[i], digest) == 0)
            return;
    vec_push(&p->rec.images, str_dup(str_of(digest)));
}

void prune_forget(struct pod *p)
{
    for (size_t i = 0; i < p->rec.images.n; i++)
        free(p->rec.images.p[i]);
    p->rec.images.n = 0;
    p->rec.images_known = true;
}

/* False: a record of an older release does not say what its pod uses. */
static bool collect(struct pod_runtime *r, struct arena *a, const char ***ret)
{
    size_t at = 0, n = 0, total = 1;
    struct str uid;
    void *value;

    while (map_next(&r->pods, &at, &uid, &value))
        total += ((const struct pod *)value)->rec.images.n;
    *ret = ARENA_ARRAY(a, const char *, total);
    at = 0;
    while (map_next(&r->pods, &at, &uid, &value)) {
        const struct pod *p = value;

        if (p->has_record && p->state != POD_RELEASED && !p->rec.images_known)
            return false;
        for (size_t i = 0; i < p->rec.images.n; i++)
            (*ret)[n++] = p->rec.images.p[i];
    }
    return true;
}

void prune_now(struct pod_runtime *r)
{
    AUTO(arena_done) struct arena a = {0};
    const char **keep;

    if (r->synced && collect(r, &a, &keep))
        image_store_prune(r->images, keep);
}

static void tick(struct loop_timer *t)
{
    struct pod_runtime *r = container_of(t, struct pod_runtime, prune_timer);

    prune_now(r);
    loop_timer_start(r->loop, t, EVERY_NS, tick);
}

void prune_start(struct pod_runtime *r) { loop_timer_start(r->loop, &r->prune_timer, FIRST_NS, tick); }
