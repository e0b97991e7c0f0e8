/* loop/loop - one thread's event loop: descriptors, timers, child processes, signals, posts.
 *
 * A source is a member of its owner, started and stopped by it; its callback finds the owner by
 * container_of. Callbacks never block, and never destroy their caller: they mark and loop_defer().
 * Stopping any source inside any callback is safe: a stopped source is not called again. Sources are zeroed before
 * their first start, stopped before their descriptor is closed, and loop_free() lets go those still started; it runs
 * what is still deferred, as that is mostly releases.
 * All time comes from loop_now_ns() (monotonic) and loop_unix_ns() (wall); a test gives its own clock and
 * moves it, so hours of backoff run in microseconds. */
#pragma once
#include "base/error.h"
#include "base/list.h"
#include <stdint.h>
#include <sys/types.h>

struct loop;

/* Clock of a loop. NULL functions: the real clocks. */
struct loop_clock {
    int64_t (*now_ns)(void *data);
    int64_t (*unix_ns)(void *data);
    void *data;
};

struct loop *loop_new(const struct loop_clock *clock);
void loop_free(struct loop *l);
void loop_run(struct loop *l);             /* until loop_quit() */
bool loop_turn(struct loop *l, int64_t max_wait_ns); /* one turn; returns whether anything ran (tests, nested pumps) */
void loop_quit(struct loop *l);            /* from any thread or a signal source */
int64_t loop_now_ns(const struct loop *l);
int64_t loop_unix_ns(const struct loop *l);
int64_t loop_boot_ns(const struct loop *l); /* monotonic, and goes on while the machine sleeps */
uint64_t loop_turns(const struct loop *l); /* how many have begun: who shares out a turn sees by it that a new one has */

/* A test clock: starts at a fixed wall time; advancing runs what falls due, in order. With it loop_turn waits for
 * descriptors at most max_wait_ns of real time, and no timer shortens that. */
struct loop *loop_new_fake(void);
void loop_fake_advance(struct loop *l, int64_t ns);
void loop_fake_jump(struct loop *l, int64_t ns); /* time passes and nothing runs, as in a process that is stopped */
void loop_fake_wall(struct loop *l, int64_t ns); /* the wall clock is set forward, or back */

struct loop_io {
    int fd; /* borrowed */
    uint32_t events;
    void (*fn)(struct loop_io *io, uint32_t events); /* EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLERR … */
    struct loop *loop; /* NULL when stopped */
    void *slot_;
};
void loop_io_start(struct loop *l, struct loop_io *io, int fd, uint32_t events,
                   void (*fn)(struct loop_io *, uint32_t));
void loop_io_events(struct loop_io *io, uint32_t events); /* changes what it waits for; 0: nothing, not even EPOLLHUP */
void loop_io_stop(struct loop_io *io);

struct loop_timer {
    int64_t due_ns;
    void (*fn)(struct loop_timer *t);
    struct loop *loop;
    size_t heap_at_;
};
/* One shot; starting a started timer moves it. */
void loop_timer_start(struct loop *l, struct loop_timer *t, int64_t in_ns, void (*fn)(struct loop_timer *));
void loop_timer_stop(struct loop_timer *t);
static inline bool loop_timer_active(const struct loop_timer *t) { return t->loop != NULL; }

struct loop_defer { /* runs once, after the callbacks of this turn */
    struct list node;
    void (*fn)(struct loop_defer *d);
};
void loop_defer(struct loop *l, struct loop_defer *d, void (*fn)(struct loop_defer *)); /* again while pending: no-op */
/* For work that comes in many pieces (a long response): runs once, in this turn or a later one. All that is shared in takes
 * some milliseconds of a turn together, first come, first served; what asks again queues behind the others. */
void loop_share(struct loop *l, struct loop_defer *d, void (*fn)(struct loop_defer *));
void loop_defer_cancel(struct loop_defer *d);

struct loop_signal {
    int signo;
    void (*fn)(struct loop_signal *s);
    struct loop_io io;
    int fd;
};
MUST_CHECK bool loop_signal_start(struct loop *l, struct loop_signal *s, int signo, void (*fn)(struct loop_signal *),
                                  struct error *err); /* blocks the signal in this thread, signalfd */
void loop_signal_stop(struct loop_signal *s);

/* From any thread: fn(arg) runs on l's thread. If the loop ends first, drop(arg) (may be NULL) is called. */
void loop_post(struct loop *l, void (*fn)(void *arg), void (*drop)(void *arg), void *take_arg);

#define SECONDS(s) ((int64_t)(s)*1000000000)
#define MILLIS(ms) ((int64_t)(ms)*1000000)
