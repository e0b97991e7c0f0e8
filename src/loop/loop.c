/* How a turn goes: what was deferred outside a turn or is overdue shortens the wait to nothing;
 * epoll; the callbacks of descriptors (posts from other threads are one of them); timers that are
 * due; deferred calls.
 *
 * Invariants:
 * - epoll knows a descriptor by a slot, not by its owner. Stopping a source empties its slot at
 *   once, and the slot's memory lives until no turn is under way: an event that was fetched before
 *   the stop finds nobody. Nested turns (a callback that pumps until a reply) are why the depth is
 *   counted.
 * - A source is stopped before its descriptor is closed; epoll keeps a duplicated file alive
 *   otherwise.
 * - A timer that a timer of this turn starts runs in the next turn at the earliest: no timer can
 *   starve the descriptors. Timers due at the same time run in the order of their start.
 * - events == 0 leaves epoll altogether, which otherwise reports EPOLLHUP for ever to someone who
 *   asked to be left alone. Who wants to know of a hang-up while paused waits for EPOLLRDHUP or
 *   EPOLLHUP alone.
 * - What epoll refuses (regular files are always ready) is kept in a list of its own and called
 *   every turn. */
#include "loop/loop.h"
#include "loop/internal.h"
#include "base/alloc.h"
#include "base/vec.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define SHARE_NS MILLIS(4) /* of a turn, for what loop_share() was given */
#define EVENTS_PER_TURN 128
#define FAKE_EPOCH_NS ((int64_t)1767225600 * 1000000000) /* 2026-01-01T00:00:00Z */
#define FAKE_TURNS_MAX 10000000

struct io_slot {
    struct list all;    /* in l->sources until it is stopped */
    struct list node;   /* in l->forced, or in l->dead */
    struct loop_io *io; /* NULL: stopped */
    bool in_epoll;
    uint32_t forced; /* events that are true without asking epoll */
};

struct heap_entry {
    int64_t due_ns;
    uint64_t seq;
    struct loop_timer *timer;
};

struct post {
    void (*fn)(void *arg);
    void (*drop)(void *arg);
    void *arg;
};

struct loop {
    uint64_t turns;
    int epfd;
    unsigned depth;       /* turns under way, one inside another */
    bool ran;             /* something ran in this turn */
    struct list sources;  /* io_slot: all that are started */
    struct list forced;   /* io_slot: sources that epoll does not carry */
    struct list dead;     /* io_slot: freed when no turn is under way */
    struct list deferred; /* loop_defer */
    struct list shared;   /* loop_share */
    struct list owned;    /* loop_owned */
    VEC(struct heap_entry) heap;
    uint64_t timer_seq;
    struct loop_clock clock;
    bool fake;
    int64_t fake_ns, fake_wall_ns;
    atomic_bool quit;
    int wake_fd;
    struct loop_io wake_io;
    pthread_mutex_t posts_lock;
    VEC(struct post) posts; /* under posts_lock */
};

/* Clock */

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t loop_now_ns(const struct loop *l)
{
    if (l->fake)
        return l->fake_ns;
    return l->clock.now_ns ? l->clock.now_ns(l->clock.data) : clock_ns(CLOCK_MONOTONIC);
}

int64_t loop_boot_ns(const struct loop *l)
{
    return l->fake || l->clock.now_ns ? loop_now_ns(l) : clock_ns(CLOCK_BOOTTIME);
}

int64_t loop_unix_ns(const struct loop *l)
{
    if (l->fake)
        return FAKE_EPOCH_NS + l->fake_wall_ns + l->fake_ns;
    return l->clock.unix_ns ? l->clock.unix_ns(l->clock.data) : clock_ns(CLOCK_REALTIME);
}

/* Descriptors */

static void slot_arm(struct loop_io *io)
{
    struct io_slot *slot = io->slot_;
    struct epoll_event event = {.events = io->events, .data.ptr = slot};
    int op = !slot->in_epoll ? EPOLL_CTL_ADD : io->events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

    if (slot->forced || (!slot->in_epoll && !io->events))
        return;
    if (epoll_ctl(io->loop->epfd, op, io->fd, &event) == 0) {
        slot->in_epoll = op != EPOLL_CTL_DEL;
        return;
    }
    /* EBADF, EEXIST and ENOENT are mistakes of ours: a descriptor closed under its source, or two
     * sources on one. The others are the machine's limits, which the owner sees as an error on the
     * descriptor. */
    assert(errno != EBADF && errno != EEXIST && errno != ENOENT);
    slot->forced = errno == EPERM ? EPOLLIN | EPOLLOUT : EPOLLERR | EPOLLHUP;
    list_add_tail(&io->loop->forced, &slot->node);
}

void loop_io_start(struct loop *l, struct loop_io *io, int fd, uint32_t events,
                   void (*fn)(struct loop_io *, uint32_t))
{
    struct io_slot *slot;

    loop_io_stop(io);
    slot = NEW(struct io_slot);
    slot->io = io;
    *io = (struct loop_io){.fd = fd, .events = events, .fn = fn, .loop = l, .slot_ = slot};
    list_add_tail(&l->sources, &slot->all);
    slot_arm(io);
}

void loop_io_events(struct loop_io *io, uint32_t events)
{
    if (!io->loop || io->events == events)
        return;
    io->events = events;
    slot_arm(io);
}

void loop_io_stop(struct loop_io *io)
{
    struct loop *l = io->loop;
    struct io_slot *slot = io->slot_;

    if (!l)
        return;
    if (slot->in_epoll)
        epoll_ctl(l->epfd, EPOLL_CTL_DEL, io->fd, NULL);
    list_remove(&slot->all);
    list_remove(&slot->node);
    slot->io = NULL;
    if (l->depth > 0)
        list_add_tail(&l->dead, &slot->node);
    else
        free(slot);
    io->loop = NULL;
    io->slot_ = NULL;
}

static void slot_call(struct loop *l, struct io_slot *slot, uint32_t events)
{
    if (!slot->io || slot->io->events == 0)
        return;
    events &= slot->io->events | EPOLLERR | EPOLLHUP;
    if (!events)
        return;
    l->ran = true;
    slot->io->fn(slot->io, events);
}

static void run_forced(struct loop *l)
{
    /* A copy: the list changes under the callbacks, while slots live through the turn. */
    VEC(struct io_slot *) slots = {0};

    list_each(node, &l->forced)
        vec_push(&slots, list_entry(node, struct io_slot, node));
    for (size_t i = 0; i < slots.n; i++)
        slot_call(l, slots.p[i], slots.p[i]->forced);
    vec_done(&slots);
}

static bool any_forced(const struct loop *l)
{
    list_each(node, &l->forced) {
        const struct io_slot *slot = list_entry(node, struct io_slot, node);

        if (slot->forced & (slot->io->events | EPOLLERR) && slot->io->events)
            return true;
    }
    return false;
}

static void free_dead(struct loop *l)
{
    list_each_safe(node, &l->dead) {
        list_remove(node);
        free(list_entry(node, struct io_slot, node));
    }
}

/* Timers: a binary heap, the soonest first */

static bool sooner(const struct heap_entry *a, const struct heap_entry *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

static void heap_put(struct loop *l, size_t at, struct heap_entry entry)
{
    l->heap.p[at] = entry;
    entry.timer->heap_at_ = at;
}

static void heap_up(struct loop *l, size_t at, struct heap_entry entry)
{
    while (at > 0 && sooner(&entry, &l->heap.p[(at - 1) / 2])) {
        heap_put(l, at, l->heap.p[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(l, at, entry);
}

static void heap_down(struct loop *l, size_t at, struct heap_entry entry)
{
    for (size_t child; (child = 2 * at + 1) < l->heap.n; at = child) {
        if (child + 1 < l->heap.n && sooner(&l->heap.p[child + 1], &l->heap.p[child]))
            child++;
        if (!sooner(&l->heap.p[child], &entry))
            break;
        heap_put(l, at, l->heap.p[child]);
    }
    heap_put(l, at, entry);
}

void loop_timer_start(struct loop *l, struct loop_timer *t, int64_t in_ns,
                      void (*fn)(struct loop_timer *))
{
    loop_timer_stop(t);
    if (__builtin_add_overflow(loop_now_ns(l), in_ns > 0 ? in_ns : 0, &t->due_ns))
        t->due_ns = INT64_MAX;
    t->fn = fn;
    t->loop = l;
    vec_push(&l->heap, (struct heap_entry){0});
    heap_up(l, l->heap.n - 1, (struct heap_entry){t->due_ns, l->timer_seq++, t});
}

void loop_timer_stop(struct loop_timer *t)
{
    struct loop *l = t->loop;
    struct heap_entry last;
    size_t at = t->heap_at_;

    if (!l)
        return;
    t->loop = NULL;
    last = l->heap.p[--l->heap.n];
    if (last.timer == t)
        return;
    if (at > 0 && sooner(&last, &l->heap.p[(at - 1) / 2]))
        heap_up(l, at, last);
    else
        heap_down(l, at, last);
}

static void run_timers(struct loop *l)
{
    int64_t now = loop_now_ns(l);
    uint64_t later = l->timer_seq;

    while (l->heap.n > 0 && l->heap.p[0].due_ns <= now && l->heap.p[0].seq < later) {
        struct loop_timer *t = l->heap.p[0].timer;

        loop_timer_stop(t);
        l->ran = true;
        t->fn(t);
    }
}

/* Deferred calls */

void loop_defer(struct loop *l, struct loop_defer *d, void (*fn)(struct loop_defer *))
{
    if (list_linked(&d->node))
        return;
    d->fn = fn;
    list_add_tail(&l->deferred, &d->node);
}

void loop_defer_cancel(struct loop_defer *d)
{
    list_remove(&d->node);
}

static void run_deferred(struct loop *l)
{
    struct list now;

    if (list_empty(&l->deferred))
        return;
    /* What these defer in their turn waits for the next turn. */
    list_init(&now);
    list_add_tail(&l->deferred, &now);
    list_remove(&l->deferred);
    list_init(&l->deferred);
    while (!list_empty(&now)) {
        struct loop_defer *d = list_entry(now.next, struct loop_defer, node);

        list_remove(&d->node);
        l->ran = true;
        d->fn(d);
    }
}

void loop_share(struct loop *l, struct loop_defer *d, void (*fn)(struct loop_defer *))
{
    if (list_linked(&d->node))
        return;
    d->fn = fn;
    list_add_tail(&l->shared, &d->node);
}

static void move_all(struct list *from, struct list *to_head)
{
    while (!list_empty(from)) {
        struct list *last = from->prev;

        list_remove(last);
        list_add_head(to_head, last);
    }
}

static void run_shared(struct loop *l)
{
    int64_t until;
    struct list now;

    if (list_empty(&l->shared))
        return;
    until = loop_now_ns(l) + SHARE_NS;
    list_init(&now);
    move_all(&l->shared, &now);
    do {
        struct loop_defer *d = list_entry(now.next, struct loop_defer, node);

        list_remove(&d->node);
        l->ran = true;
        d->fn(d);
    } while (!list_empty(&now) && loop_now_ns(l) < until);
    move_all(&now, &l->shared); /* before what has asked again */
}

/* Posts from other threads */

static void wake(struct loop *l)
{
    uint64_t one = 1;

    while (write(l->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void loop_post(struct loop *l, void (*fn)(void *arg), void (*drop)(void *arg), void *take_arg)
{
    bool first;

    pthread_mutex_lock(&l->posts_lock);
    first = l->posts.n == 0;
    vec_push(&l->posts, (struct post){fn, drop, take_arg});
    if (first)
        wake(l); /* under the lock: whoever drains the queue has not yet let the loop be freed */
    pthread_mutex_unlock(&l->posts_lock);
}

static void run_posts(struct loop_io *io, uint32_t events)
{
    struct loop *l = container_of(io, struct loop, wake_io);
    __typeof__(l->posts) posts;
    uint64_t count;

    (void)events;
    pthread_mutex_lock(&l->posts_lock);
    if (read(l->wake_fd, &count, sizeof count) < 0)
        assert(errno == EAGAIN || errno == EINTR);
    posts = TAKE(l->posts);
    pthread_mutex_unlock(&l->posts_lock);
    for (size_t i = 0; i < posts.n; i++)
        posts.p[i].fn(posts.p[i].arg);
    vec_done(&posts);
}

void loop_quit(struct loop *l)
{
    atomic_store(&l->quit, true);
    wake(l);
}

/* Signals */

static void signal_read(struct loop_io *io, uint32_t events)
{
    struct loop_signal *s = container_of(io, struct loop_signal, io);
    struct signalfd_siginfo info;

    (void)events;
    if (read(s->fd, &info, sizeof info) == (ssize_t)sizeof info)
        s->fn(s); /* which may stop s; further signals are found by the next turn */
}

bool loop_signal_start(struct loop *l, struct loop_signal *s, int signo,
                       void (*fn)(struct loop_signal *), struct error *err)
{
    sigset_t set;
    int fd;

    loop_signal_stop(s);
    sigemptyset(&set);
    sigaddset(&set, signo);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return error_errno(err, errno, "signalfd for signal %d", signo);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s->signo = signo;
    s->fn = fn;
    s->fd = fd;
    loop_io_start(l, &s->io, fd, EPOLLIN, signal_read);
    return true;
}

/* The signal stays blocked: one more SIGTERM while shutting down must not cut that short. */
void loop_signal_stop(struct loop_signal *s)
{
    if (!s->io.loop)
        return;
    loop_io_stop(&s->io);
    fd_close(&s->fd);
}

/* The loop */

static _Noreturn void cannot(const char *what)
{
    perror(what);
    abort();
}

struct loop *loop_new(const struct loop_clock *clock)
{
    struct loop *l = NEW(struct loop);

    if (clock)
        l->clock = *clock;
    list_init(&l->sources);
    list_init(&l->forced);
    list_init(&l->dead);
    list_init(&l->deferred);
    list_init(&l->shared);
    list_init(&l->owned);
    pthread_mutex_init(&l->posts_lock, NULL);
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epfd < 0)
        cannot("epoll_create1");
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0)
        cannot("eventfd");
    loop_io_start(l, &l->wake_io, l->wake_fd, EPOLLIN, run_posts);
    return l;
}

struct loop *loop_new_fake(void)
{
    struct loop *l = loop_new(NULL);

    l->fake = true;
    l->fake_ns = SECONDS(1000); /* not 0: "never" is often a zero */
    return l;
}

static void drop_posts(struct loop *l)
{
    while (l->posts.n > 0) {
        __typeof__(l->posts) posts = TAKE(l->posts);

        for (size_t i = 0; i < posts.n; i++)
            if (posts.p[i].drop)
                posts.p[i].drop(posts.p[i].arg);
        vec_done(&posts);
    }
}

/* Deferred calls are mostly releases: they run once more. Sources still started are let go. */
void loop_free(struct loop *l)
{
    if (!l)
        return;
    assert(l->depth == 0);
    drop_posts(l);
    for (int i = 0; i < 1000 && (!list_empty(&l->deferred) || !list_empty(&l->shared)); i++) {
        run_deferred(l);
        run_shared(l);
    }
    while (!list_empty(&l->owned)) {
        struct loop_owned *owned = list_entry(l->owned.next, struct loop_owned, node);

        list_remove(&owned->node);
        owned->drop(owned);
    }
    drop_posts(l);
    for (size_t i = 0; i < l->heap.n; i++)
        l->heap.p[i].timer->loop = NULL;
    vec_done(&l->heap);
    vec_done(&l->posts);
    while (!list_empty(&l->sources)) /* our own wake_io is the first */
        loop_io_stop(list_entry(l->sources.next, struct io_slot, all)->io);
    fd_close(&l->wake_fd);
    fd_close(&l->epfd);
    pthread_mutex_destroy(&l->posts_lock);
    free(l);
}

void loop_own(struct loop *l, struct loop_owned *owned, void (*drop)(struct loop_owned *))
{
    owned->drop = drop;
    list_add_tail(&l->owned, &owned->node);
}

void loop_disown(struct loop_owned *owned)
{
    list_remove(&owned->node);
}

/* A fake clock never shortens a wait: its timers fall due by being advanced to. */
static int64_t wait_ns(struct loop *l, int64_t max_wait_ns)
{
    int64_t wait = max_wait_ns;

    if (!list_empty(&l->deferred) || !list_empty(&l->shared) || any_forced(l) || atomic_load(&l->quit))
        return 0;
    if (l->heap.n > 0) {
        int64_t until = l->heap.p[0].due_ns - loop_now_ns(l);

        if (until <= 0)
            return 0;
        if (!l->fake && (wait < 0 || until < wait))
            wait = until;
    }
    return wait;
}

static int wait_events(struct loop *l, struct epoll_event *events, int64_t wait)
{
    struct timespec t = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
    int64_t ms = wait / 1000000 + (wait % 1000000 > 0);
    int n = epoll_pwait2(l->epfd, events, EVENTS_PER_TURN, wait < 0 ? NULL : &t, NULL);

    /* Before Linux 5.11, or under a seccomp list of that age. */
    if (n < 0 && (errno == ENOSYS || errno == EPERM))
        n = epoll_wait(l->epfd, events, EVENTS_PER_TURN,
                       wait < 0       ? -1
                       : ms > INT_MAX ? INT_MAX
                                      : (int)ms);
    if (n < 0 && errno != EINTR)
        cannot("epoll_wait");
    return n;
}

bool loop_turn(struct loop *l, int64_t max_wait_ns)
{
    struct epoll_event events[EVENTS_PER_TURN];
    bool outer = l->ran, ran;
    int n;

    l->ran = false;
    l->turns++;
    n = wait_events(l, events, wait_ns(l, max_wait_ns));
    l->depth++;
    for (int i = 0; i < n; i++)
        slot_call(l, events[i].data.ptr, events[i].events);
    if (!list_empty(&l->forced))
        run_forced(l);
    run_timers(l);
    run_deferred(l);
    run_shared(l);
    if (--l->depth == 0)
        free_dead(l);
    ran = l->ran;
    l->ran = outer || ran;
    return ran;
}

uint64_t loop_turns(const struct loop *l)
{
    return l->turns;
}

void loop_run(struct loop *l)
{
    while (!atomic_load(&l->quit))
        loop_turn(l, -1);
    atomic_store(&l->quit, false);
}

void loop_fake_jump(struct loop *l, int64_t ns)
{
    assert(l->fake && ns >= 0);
    l->fake_ns += ns;
}

void loop_fake_wall(struct loop *l, int64_t ns)
{
    assert(l->fake);
    l->fake_wall_ns += ns;
}

void loop_fake_advance(struct loop *l, int64_t ns)
{
    int64_t until = l->fake_ns + ns;
    int turns = 0;

    assert(l->fake && ns >= 0);
    loop_turn(l, 0);
    for (;;) {
        bool due = l->heap.n > 0 && l->heap.p[0].due_ns <= until;

        if (!due && list_empty(&l->deferred) && list_empty(&l->shared))
            break;
        if (due && l->heap.p[0].due_ns > l->fake_ns && list_empty(&l->deferred)
            && list_empty(&l->shared))
            l->fake_ns = l->heap.p[0].due_ns;
        loop_turn(l, 0);
        assert(++turns < FAKE_TURNS_MAX); /* a timer that starts itself with no delay */
    }
    l->fake_ns = until;
    loop_turn(l, 0);
}
