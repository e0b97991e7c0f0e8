#include "client/queue.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/map.h"

#define RETRY_FIRST_NS MILLIS(5)
#define RETRY_MAX_NS SECONDS(1000)

/* An item exists while its key waits, is worked on, has a timer, or has failures to remember. */
struct item {
    struct queue *queue;
    char *key;
    struct list ready; /* linked: waits for work */
    struct loop_timer timer;
    int64_t timer_due_ns;
    unsigned failures;
    bool working, again;
};

struct queue {
    struct loop *loop;
    void (*work)(void *user, struct str key);
    void *user;
    unsigned parallel, working;
    struct map items;
    struct list ready;
    size_t n_ready;
    struct loop_defer dispatch;
};

struct queue *queue_new(struct loop *l, unsigned parallel, void (*work)(void *user, struct str key),
                        void *user)
{
    struct queue *q = NEW(struct queue);

    *q = (struct queue){.loop = l, .parallel = parallel, .work = work, .user = user};
    list_init(&q->ready);
    return q;
}

static void item_free(void *p)
{
    struct item *it = p;

    loop_timer_stop(&it->timer);
    list_remove(&it->ready);
    free(it->key);
    free(it);
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    loop_defer_cancel(&q->dispatch);
    map_done_with(&q->items, item_free);
    free(q);
}

static struct item *item_get(struct queue *q, struct str key)
{
    struct item *it = map_get(&q->items, key);

    if (it)
        return it;
    it = NEW(struct item);
    it->queue = q;
    it->key = str_dup(key);
    map_set(&q->items, key, it);
    return it;
}

static void item_drop_if_idle(struct item *it)
{
    if (it->working || it->failures || list_linked(&it->ready) || loop_timer_active(&it->timer))
        return;
    map_del(&it->queue->items, str_of(it->key));
    item_free(it);
}

/* One round takes what was ready when it began: a worker that adds its own key does not keep the loop from others. */
static void dispatch(struct loop_defer *d)
{
    struct queue *q = container_of(d, struct queue, dispatch);
    size_t round = q->n_ready;

    while (round-- > 0 && q->working < q->parallel && !list_empty(&q->ready)) {
        struct item *it = list_entry(q->ready.next, struct item, ready);

        list_remove(&it->ready);
        q->n_ready--;
        it->working = true;
        q->working++;
        q->work(q->user, str_of(it->key));
    }
    if (q->working < q->parallel && !list_empty(&q->ready))
        loop_defer(q->loop, &q->dispatch, dispatch);
}

static void make_ready(struct item *it)
{
    struct queue *q = it->queue;

    if (it->working) {
        it->again = true;
        return;
    }
    if (list_linked(&it->ready))
        return;
    list_add_tail(&q->ready, &it->ready);
    q->n_ready++;
    if (q->working < q->parallel)
        loop_defer(q->loop, &q->dispatch, dispatch);
}

void queue_add(struct queue *q, struct str key)
{
    make_ready(item_get(q, key));
}

static void on_timer(struct loop_timer *t)
{
    make_ready(container_of(t, struct item, timer));
}

void queue_add_after(struct queue *q, struct str key, int64_t in_ns)
{
    struct item *it;
    int64_t due_ns = loop_now_ns(q->loop) + in_ns;

    if (in_ns <= 0) {
        queue_add(q, key);
        return;
    }
    it = item_get(q, key);
    if (loop_timer_active(&it->timer) && it->timer_due_ns <= due_ns)
        return;
    it->timer_due_ns = due_ns;
    loop_timer_start(q->loop, &it->timer, in_ns, on_timer);
}

static int64_t retry_ns(unsigned failures)
{
    int64_t ns = RETRY_FIRST_NS;

    for (unsigned i = 1; i < failures && ns < RETRY_MAX_NS; i++)
        ns *= 2;
    return ns < RETRY_MAX_NS ? ns : RETRY_MAX_NS;
}

static void done(struct queue *q, struct str key, bool failed, int64_t max_ns)
{
    struct item *it = map_get(&q->items, key);

    if (!it || !it->working)
        return;
    it->working = false;
    q->working--;
    if (failed) {
        if (it->failures < 64)
            it->failures++;
        queue_add_after(q, str_of(it->key), retry_ns(it->failures) < max_ns ? retry_ns(it->failures) : max_ns);
    }
    if (it->again) {
        it->again = false;
        make_ready(it);
    }
    if (!list_empty(&q->ready))
        loop_defer(q->loop, &q->dispatch, dispatch);
    item_drop_if_idle(it);
}

void queue_done(struct queue *q, struct str key, bool failed)
{
    done(q, key, failed, RETRY_MAX_NS);
}

void queue_done_within(struct queue *q, struct str key, int64_t max_ns)
{
    done(q, key, true, max_ns);
}

void queue_forget(struct queue *q, struct str key)
{
    struct item *it = map_get(&q->items, key);

    if (!it)
        return;
    it->failures = 0;
    item_drop_if_idle(it);
}

size_t queue_length(const struct queue *q)
{
    return q->n_ready;
}
