/* The store under faults: concurrent clients on a disk in memory, one fault at one of its operations,
 * restarts with others, and the history of it all judged (record.h). A point is one such run.
 * VIREO_POINTS=all: all points, VIREO_SOAK=1: five times as many. VIREO_POINT, as a failure prints it: only that one, with its story. */
#include "store/testing.h"
#include "disk.h"
#include "record.h"
#include "seams.h"
#include "base/log.h"
#include <errno.h>
#include <time.h>

enum { CLIENTS = 4, KEYS = 6, WATCHES = 4, LIVES = 3, STEPS = 40, LISTER = 99, STORE = 98 };

struct run;
struct client {
    struct run *r;
    int id;
    size_t op; /* the one that waits */
    bool busy;
    char *next_key; /* a list of several pages under way */
    int64_t list_revision;
    size_t list_op;
};
struct watcher {
    struct run *r;
    struct watch_record *record;
    struct store_watch *w;
};
struct run {
    struct loop *loop;
    struct loop_clock clock;
    int64_t now_ns, unix_ns;
    struct record h;
    struct store *s;
    struct client clients[CLIENTS];
    struct watcher watchers[WATCHES];
    unsigned seed, tags;
    int64_t moment;
    int64_t wall_of_ttl[KEYS]; /* earliest expiry that was set; 0: none */
    bool broke, clocks_jump;
    char why[512];
};
static struct bench_dir dir;
static struct disk_image *base;
static struct {
    uint64_t points, fired, operations, acknowledged, refused, failed, events, lists, reads,
        restarts, bugs;
} count;

static unsigned draw(struct run *r, unsigned n)
{
    r->seed = r->seed * 1664525u + 1013904223u;
    return (r->seed >> 10) % n;
}

static int64_t clock_now(void *data)
{
    return ((struct run *)data)->now_ns;
}

static int64_t clock_unix(void *data)
{
    return ((struct run *)data)->unix_ns;
}

static bool fails(struct run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fails(struct run *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (!r->why[0])
        vsnprintf(r->why, sizeof r->why, fmt, ap);
    va_end(ap);
    return false;
}

static const char *key_name(int k, char buf[40])
{
    snprintf(buf, 40, "/registry/core/things/d/%d", k);
    return buf;
}

static int key_of(const struct store_object *o)
{
    struct str key = store_object_key(o);

    return key.p[key.n - 1] - '0';
}

static struct item item_of(const struct store_object *o)
{
    AUTO(buf_done) struct buf text = {0};
    const char *at;

    buf_init(&text, LIMIT_OBJECT_BYTES);
    store_object_text(o, &text);
    buf_addc(&text, '\0');
    at = strstr(text.p, "\"text\":\"");
    return (struct item){store_object_revision(o), at ? (unsigned)strtoul(at + 8, NULL, 10) : 0,
                         key_of(o)};
}

/* Writes. */

static void answered(void *user, struct store_object *o, const struct error *err)
{
    struct client *c = user;
    struct op *op = &c->r->h.ops.p[c->op];

    (void)err;
    op->ret = ++c->r->moment;
    op->outcome = o ? OP_OK : OP_FAILED;
    op->revision = o ? store_object_revision(o) : 0;
    c->busy = false;
    count.acknowledged += o != NULL;
    count.failed += o == NULL;
}

static size_t begin(struct run *r, enum op_kind kind, int client, int key)
{
    vec_push(
        &r->h.ops,
        (struct op){.kind = kind, .client = client, .key = key, .call = ++r->moment, .ret = NEVER});
    return r->h.ops.n - 1;
}

static const struct json *value_of(struct run *r, struct arena *a, const char *name, unsigned tag)
{
    static const size_t sizes[] = {0, 60, 200, 900, 3000, 9000};
    char text[16];

    snprintf(text, sizeof text, "%u", tag);
    return make_value(a, name, text, sizes[draw(r, ARRAY_SIZE(sizes))]);
}

static void start_write(struct run *r, struct client *c)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    int key = (int)draw(r, KEYS);
    char name[40];
    struct store_object *now = store_get(r->s, str_of(key_name(key, name)));
    enum op_kind kind = !now               ? OP_CREATE
                        : draw(r, 4) == 0  ? OP_DELETE
                        : draw(r, 12) == 0 ? OP_CREATE
                                           : OP_UPDATE;
    int64_t if_revision = kind == OP_CREATE ? -1 : draw(r, 2) ? store_object_revision(now) : 0;
    struct op *op;

    store_object_unref(now);
    c->op = begin(r, kind, c->id, key);
    op = &r->h.ops.p[c->op];
    op->if_revision = if_revision > 0 ? if_revision : 0;
    op->tag = ++r->tags;
    seams.tag = op->tag;
    seams.call = op->call;
    c->busy = true;
    if (!store_put(r->s,
                   &(struct store_write){
                       .key = str_of(name),
                       .if_revision = if_revision,
                       .done = answered,
                       .user = c,
                       .value = kind == OP_DELETE ? NULL : value_of(r, &a, name + 23, op->tag)},
                   &err)) {
        op->ret = ++r->moment;
        op->outcome =
            err.kind == ERROR_UNAVAILABLE || err.kind == ERROR_TOO_MANY ? OP_FAILED : OP_REFUSED;
        c->busy = false;
        count.refused += op->outcome == OP_REFUSED;
    }
    seams.tag = 0;
    seams.call = 0;
}

/* Reads. */

static void get(struct run *r, struct client *c)
{
    int key = (int)draw(r, KEYS);
    char name[40];
    size_t at = begin(r, OP_GET, c->id, key);
    struct store_object *o = store_get(r->s, str_of(key_name(key, name)));
    struct op *op = &r->h.ops.p[at];

    if (o) {
        struct item i = item_of(o);

        op->revision = i.revision;
        op->tag = i.tag;
    }
    store_object_unref(o);
    op->ret = ++r->moment;
    op->outcome = OP_OK;
    count.reads++;
}

/* A page of a list. A list of several pages has its items put together when it ends, as others may have begun meanwhile. */
static bool page(struct run *r, struct client *c, size_t limit, int64_t revision)
{
    AUTO(error_clear) struct error err = {0};
    struct store_list l;
    struct op *op;

    if (!store_list(r->s, STR("/registry/"), c->next_key ? str_of(c->next_key) : STR_NONE, limit,
                    revision, NULL, NULL, &l, &err)) {
        free(c->next_key);
        c->next_key = NULL;
        return err.kind == ERROR_GONE
               || fails(r, "list at %lld: %s", (long long)revision, error_text(&err));
    }
    op = &r->h.ops.p[c->list_op];
    if (op->n == 0 && !c->next_key)
        op->first = r->h.items.n;
    if (op->first + op->n
        != r->h.items.n) { /* another list came between: move the items behind it */
        size_t first = r->h.items.n;

        for (size_t i = 0; i < op->n; i++) {
            struct item it = r->h.items.p[op->first + i];

            vec_push(&r->h.items, it);
        }
        op->first = first;
    }
    for (size_t i = 0; i < l.n; i++)
        vec_push(&r->h.items, item_of(l.p[i]));
    op->n += l.n;
    op->revision = l.revision;
    if (revision && l.revision != revision)
        (void)fails(r, "a list at %lld says %lld", (long long)revision, (long long)l.revision);
    free(c->next_key);
    c->next_key = TAKE(l.next_key);
    c->list_revision = l.revision;
    if (!c->next_key) {
        op->ret = ++r->moment;
        op->outcome = OP_OK;
        count.lists++;
    }
    store_list_done(&l);
    return true;
}

static bool list_some(struct run *r, struct client *c)
{
    int64_t oldest = store_oldest_revision(r->s), span = store_revision(r->s) - oldest;
    unsigned how = draw(r, 3);

    if (c->next_key)
        return page(r, c, 1 + draw(r, 3), c->list_revision);
    c->list_op = begin(r, OP_LIST, c->id, 0);
    if (how == 0)
        return page(r, c, 0, 0);
    if (how == 1)
        return page(r, c, 1 + draw(r, 3), 0);
    r->h.ops.p[c->list_op].exact = true;
    return page(r, c, 0, oldest + draw(r, (unsigned)span + 1));
}

static bool list_all(struct run *r)
{
    struct client c = {.r = r, .id = LISTER, .list_op = begin(r, OP_LIST, LISTER, 0)};

    return page(r, &c, 0, 0);
}

/* Watches. */

static bool on_event(void *user, const struct store_event *e)
{
    struct watcher *w = user;
    struct seen s = {.now = item_of(e->object),
                     .knows_before = true,
                     .type = e->type == STORE_ADDED      ? SEEN_ADDED
                             : e->type == STORE_MODIFIED ? SEEN_MODIFIED
                                                         : SEEN_DELETED};

    if (e->revision != s.now.revision)
        (void)fails(w->r, "an event of revision %lld has an object of %lld", (long long)e->revision,
                    (long long)s.now.revision);
    if (e->previous)
        s.before = item_of(e->previous);
    vec_push(&w->record->seen, s);
    count.events++;
    return true;
}

static bool watch(struct run *r, size_t i, int64_t from)
{
    AUTO(error_clear) struct error err = {0};
    struct watcher *w = &r->watchers[i];

    store_watch_stop(w->w);
    w->r = r;
    w->record = record_watch(&r->h, from);
    w->w = store_watch_start(r->s, STR("/registry/"), from, on_event, w, &err);
    if (w->w)
        return true;
    return (err.kind == ERROR_GONE && from < store_oldest_revision(r->s))
           || fails(r, "watch from %lld: %s", (long long)from, error_text(&err));
}

/* Everything that is visible has been told to everyone: what a bookmark at this moment would say. */
static void settle(struct run *r)
{
    while (loop_turn(r->loop, 0)) {
    }
    for (size_t i = 0; i < WATCHES; i++) {
        if (!r->watchers[i].w)
            continue;
        r->watchers[i].record->upto = store_revision(r->s);
        if (draw(r, 4) == 0)
            vec_push(&r->watchers[i].record->seen,
                     (struct seen){.type = SEEN_BOOKMARK, .now.revision = store_revision(r->s)});
    }
}

/* One life of the store. */

static void jump(struct run *r)
{
    static const int64_t by[] = {1, 30, 400, 3600, -7200};
    int64_t s = by[draw(r, r->clocks_jump ? ARRAY_SIZE(by) : 2)];

    r->unix_ns += SECONDS(s);
    r->now_ns += SECONDS(s < 0 ? 1 : s); /* the monotonic clock never goes back */
}

static void set_ttl(struct run *r)
{
    AUTO(error_clear) struct error err = {0};
    char name[40];

    (void)!store_ttl_set(r->s, str_of(key_name((int)draw(r, 2), name)), SECONDS(20 + draw(r, 100)),
                         &err);
}

static bool do_step(struct run *r)
{
    struct client *c = &r->clients[draw(r, CLIENTS)];
    unsigned what = draw(r, 20);

    if (what < 8) {
        if (!c->busy && !c->next_key)
            start_write(r, c);
    } else if (what < 10) {
        if (!c->busy && !c->next_key)
            get(r, c);
    } else if (what < 12) {
        return c->busy || list_some(r, c);
    } else if (what < 16) {
        (void)thread_turn(r->s);
    } else if (what < 18) {
        settle(r);
    } else if (what == 18) {
        AUTO(error_clear) struct error err = {0};

        if (draw(r, 3) == 0)
            set_ttl(r);
        else if (draw(r, 2))
            (void)!db_checkpoint(&r->s->db, &err);
        else
            thread_idle(r->s);
    } else if (draw(r, 2)) {
        int64_t oldest = store_oldest_revision(r->s);

        return watch(r, 1 + draw(r, WATCHES - 1),
                     oldest + draw(r, (unsigned)(store_revision(r->s) - oldest) + 1));
    } else {
        jump(r);
    }
    return true;
}

static void end_life(struct run *r)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        free(r->clients[i].next_key);
        r->clients[i].next_key = NULL;
    }
    store_close(r->s);
    r->s = NULL;
    for (size_t i = 0; i < CLIENTS; i++)
        r->clients[i].busy = false;
    memset(r->watchers, 0, sizeof r->watchers);
    while (loop_turn(r->loop, 0)) {
    }
}

static bool open_life(struct run *r, int64_t last)
{
    AUTO(error_clear) struct error err = {0};

    seams.life++;
    if (seams.bug != BUG_NONE) /* the checker is to find it, not the store itself */
        (void)unlinkat(dir.fd, "state.lock", 0);
    r->s = store_open(
        &(struct store_config){
            .loop = r->loop, .dirfd = dir.fd, .history_ns = SECONDS(100), .history_max = 60},
        &err);
    if (!r->s) {
        if (disk_is_dead() || disk_fired())
            return true;
        return fails(r, "does not open: %s", error_text(&err));
    }
    for (size_t i = 0; i < CLIENTS; i++)
        r->clients[i] = (struct client){.r = r, .id = (int)i};
    return watch(r, 0, store_revision(r->s)) && (last < 0 || watch(r, 1, last));
}

/* After an end: the revision that it comes back with must be that of a commit, and tells which of the unanswered happened. */
static bool settle_attempts(struct run *r, int64_t revision)
{
    int64_t durable = 0;
    int batch = -1;

    for (size_t i = 0; i < seams.attempts.n; i++)
        if (seams.attempts.p[i].state == ATTEMPT_COMMITTED
            && seams.attempts.p[i].revision > durable)
            durable = seams.attempts.p[i].revision;
    for (size_t i = 0; i < seams.attempts.n; i++) {
        const struct attempt *a = &seams.attempts.p[i];

        if (a->state == ATTEMPT_FAILED && seams.batches.p[a->batch] == revision)
            batch = a->batch;
    }
    if (revision < durable)
        return fails(r, "came back at revision %lld, %lld was flushed", (long long)revision,
                     (long long)durable);
    if (revision > durable && batch < 0 && durable > 0)
        return fails(r, "came back at revision %lld, which no commit had (%lld)",
                     (long long)revision, (long long)durable);
    for (size_t i = 0; i < seams.attempts.n; i++) {
        struct attempt *a = &seams.attempts.p[i];

        if (a->state == ATTEMPT_FAILED && a->batch == batch)
            a->state = ATTEMPT_COMMITTED;
        else if (a->state != ATTEMPT_COMMITTED)
            a->state = ATTEMPT_DEAD;
    }
    return true;
}

/* A life without a fault in it, long enough that what went before shows. */
static bool live(struct run *r, int steps, bool disarm_late)
{
    for (int i = 0; i < steps && r->s && !disk_is_dead() && !r->why[0]; i++) {
        if (disarm_late && i == steps / 2)
            disk_disarm();
        if (!do_step(r))
            return false;
    }
    if (r->s && !disk_is_dead()) {
        while (thread_turn(r->s)) {
        }
        settle(r);
    }
    return !r->why[0];
}

struct point {
    enum disk_fault fault;
    int n;
    unsigned seed;
    enum disk_fate fate;
};

static bool lives(struct run *r, const struct point *p, bool *ret_fired)
{
    int64_t last = -1;

    for (int life = 0; life < LIVES; life++) {
        bool faulty = life < LIVES - 1, before_open = (p->seed + (unsigned)life) % 3 == 0;
        /* The second fault is often a cut while the first one's end is being recovered from. */
        enum disk_fault fault = life == 0 ? p->fault : draw(r, 2) ? DISK_POWER_CUT : DISK_NO_FAULT;
        int n = life == 0 ? p->n : 1 + (int)draw(r, 30);

        if (faulty && before_open)
            disk_arm(fault, n);
        if (!open_life(r, last))
            return false;
        if (!r->s
            && !disk_is_dead()) { /* one that a disk hindered from opening opens when it is well again */
            disk_disarm();
            if (!open_life(r, last))
                return false;
        }
        if (r->s) {
            if (!settle_attempts(r, store_revision(r->s)) || !list_all(r))
                return false;
            if (faulty && !before_open)
                disk_arm(fault, n);
            if (!live(r, STEPS, true))
                return false;
            if (!disk_is_dead())
                (void)list_all(r);
            last = store_revision(r->s);
        }
        *ret_fired = *ret_fired || (life == 0 && (disk_fired() || disk_is_dead()));
        if (faulty && r->s && !disk_is_dead() && draw(r, 3) > 0)
            disk_cut();
        end_life(r);
        disk_restart(p->fate, &r->seed);
        count.restarts++;
    }
    return open_life(r, last) && settle_attempts(r, store_revision(r->s)) && list_all(r);
}

static void make_log(struct run *r)
{
    for (size_t i = 0; i < seams.attempts.n; i++) {
        const struct attempt *a = &seams.attempts.p[i];

        if (a->state == ATTEMPT_COMMITTED)
            vec_push(&r->h.log,
                     (struct log_entry){a->revision, a->key, a->tag, a->by_itself ? 0 : a->call});
        else if (a->by_itself) /* while it was under way, clients were judged by it */
            vec_push(&r->h.ops, (struct op){.kind = OP_DELETE,
                                            .outcome = OP_FAILED,
                                            .client = STORE,
                                            .key = a->key,
                                            .call = a->call,
                                            .ret = NEVER});
    }
    r->h.keys = KEYS;
    r->h.all_known = true;
}

/* Whether the checker is content; *ret_why is for the caller to release. */
static bool run_point(const struct point *p, bool *ret_fired, struct buf *why)
{
    struct run r = {.seed = p->seed,
                    .now_ns = SECONDS(1000),
                    .unix_ns = SECONDS(1700000000),
                    .clocks_jump = p->seed % 4 == 1};
    bool ok;

    r.clock = (struct loop_clock){clock_now, clock_unix, &r};
    r.loop = loop_new(&r.clock);
    seams_reset();
    seams.moment = &r.moment;
    if (p->seed % 8 == 0)
        disk_reset();
    else
        disk_load(base);
    disk_block(p->seed % 2 ? 512 : 4096);
    (void)unlinkat(dir.fd, "state.lock", 0);
    *ret_fired = false;
    ok = lives(&r, p, ret_fired);
    if (r.s)
        end_life(&r);
    if (!ok)
        buf_adds(why, r.why);
    make_log(&r);
    ok = ok && record_check(&r.h, why);
    if (!ok && getenv("VIREO_POINT"))
        for (size_t i = 0; i < seams.attempts.n; i++) {
            const struct attempt *a = &seams.attempts.p[i];

            print_message("  attempt rev %lld key %d tag %u life %d batch %d state %d\n",
                          (long long)a->revision, a->key, a->tag, a->life, a->batch, a->state);
        }
    record_done(&r.h);
    loop_free(r.loop);
    disk_restart(FATE_ALL, &r.seed);
    count.points++;
    count.fired += *ret_fired;
    return ok;
}

static const char *const fault_names[DISK_FAULTS] = {
    "no fault", "power cut",         "kill -9",     "EIO",        "EIO that stays",
    "ENOSPC",   "ENOSPC that stays", "short write", "lost flush",
};

/* All of the points are `make check`'s (VIREO_POINTS=all); beside the unit tests an eighth of them. */
static int share(int points)
{
    const char *all = getenv("VIREO_POINTS");

    return getenv("VIREO_SOAK") ? points * 5 : all && strcmp(all, "all") == 0 ? points : points / 8;
}

static void each(enum disk_fault fault, int points)
{
    time_t begun = time(NULL);
    uint64_t fired = count.fired, ran = 0, failed = 0;

    for (int i = 0; i < share(points); i++, ran++) {
        AUTO(buf_done) struct buf why = {0};
        struct point p = {.fault = fault,
                          .n = 1 + i % 50,
                          .seed = (unsigned)(i * 2654435761u) ^ ((unsigned)fault << 24) ^ 77u,
                          .fate = (enum disk_fate)((unsigned)i / 3 % FATES)};
        bool point_fired;

        if (!run_point(&p, &point_fired, &why)) {
            print_message("%s: VIREO_POINT=%d,%d,%u,%d: %s\n", fault_names[fault], fault, p.n,
                          p.seed, p.fate, why.p);
            failed++;
        }
    }
    print_message("           %llu points of %s, %llu hit, %lld s\n", (unsigned long long)ran,
                  fault_names[fault], (unsigned long long)(count.fired - fired),
                  (long long)(time(NULL) - begun));
    assert_int_equal(failed, 0);
    if (fault != DISK_NO_FAULT)
        assert_true(count.fired - fired > ran / 3);
}

#define FAULT_TEST(name, fault, points)                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        each(fault, points);                                                                       \
    }
FAULT_TEST(no_faults_and_clocks_that_jump, DISK_NO_FAULT, 500)
FAULT_TEST(power_cuts, DISK_POWER_CUT, 3600)
FAULT_TEST(kills, DISK_KILL, 1600)
FAULT_TEST(read_write_errors, DISK_EIO, 1000)
FAULT_TEST(read_write_errors_that_stay, DISK_EIO_STAYS, 600)
FAULT_TEST(full_disks_for_a_moment, DISK_ENOSPC, 1000)
FAULT_TEST(full_disks, DISK_ENOSPC_STAYS, 600)
FAULT_TEST(short_writes, DISK_SHORT_WRITE, 600)
FAULT_TEST(flushes_that_lose_pages, DISK_FLUSH_LOST, 1200)

/* The checker is worth something only if it finds a store that is wrong. */
static void every_seeded_bug_is_found(void **state)
{
    (void)state;
    for (int b = BUG_NONE + 1; b < BUGS; b++) {
        AUTO(buf_done) struct buf why = {0};
        bool found = false, fired;
        int i = 0;

        for (seams.bug = (enum bug)b; !found && i < 60; i++) {
            struct point p = {.n = 20 + i,
                              .seed = (unsigned)i * 7919u + 1,
                              .fate = FATE_NONE,
                              .fault = b == BUG_EARLY_ACK    ? DISK_POWER_CUT
                                       : b == BUG_ACK_FAILED ? DISK_FLUSH_LOST
                                                             : DISK_NO_FAULT};

            buf_clear(&why);
            found = !run_point(&p, &fired, &why);
        }
        seams.bug = BUG_NONE;
        if (!found)
            fail_msg("%s: not found", bug_names[b]);
        count.bugs++;
        print_message("           %s: found at run %d: %s\n", bug_names[b], i, why.p);
    }
}

static void totals(void **state)
{
    struct disk_stats d = disk_stats();

    (void)state;
    print_message("           %llu points, %llu faults injected, %llu restarts; %llu operations of "
                  "the disk, %llu power cuts that dropped %llu"
                  " blocks; %llu writes acknowledged, 0 lost; %llu of %d seeded bugs found; %llu failed, %llu refused; %llu "
                  "gets, %llu lists, %llu events checked\n",
                  (unsigned long long)count.points, (unsigned long long)d.faults,
                  (unsigned long long)count.restarts, (unsigned long long)d.operations,
                  (unsigned long long)d.cuts, (unsigned long long)d.dropped,
                  (unsigned long long)count.acknowledged, (unsigned long long)count.bugs,
                  BUGS - BUG_NONE - 1, (unsigned long long)count.failed,
                  (unsigned long long)count.refused, (unsigned long long)count.reads,
                  (unsigned long long)count.lists, (unsigned long long)count.events);
    assert_true(count.points > (uint64_t)share(10000) && d.faults > (uint64_t)share(10000));
}

/* A fresh database; making one is in some of the points, and costs more than the rest of them. */
static void make_base(void)
{
    struct loop *l = loop_new(NULL);

    disk_reset();
    store_close(open_store(l, dir.fd));
    loop_free(l);
    base = disk_save();
}

/* The lock file lies in a real directory, whose state.db must not look lost; the disk has the real one. */
static void make_real_file(int dirfd)
{
    int fd = openat(dirfd, "state.db", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, "x", 1) != 1)
        abort();
    close(fd);
}

/* VIREO_POINT=FAULT,N,SEED,FATE, as a failure names them. */
static int one_point(const char *text)
{
    AUTO(buf_done) struct buf why = {0};
    struct point p;
    int fault, fate;
    bool fired;

    if (sscanf(text, "%d,%d,%u,%d", &fault, &p.n, &p.seed, &fate) != 4)
        return 2;
    p.fault = (enum disk_fault)fault;
    p.fate = (enum disk_fate)fate;
    disk_tell(true);
    if (run_point(&p, &fired, &why))
        return 0;
    printf("%s\n", why.p);
    return 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_faults_and_clocks_that_jump),
        cmocka_unit_test(every_seeded_bug_is_found),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(kills),
        cmocka_unit_test(read_write_errors),
        cmocka_unit_test(read_write_errors_that_stay),
        cmocka_unit_test(full_disks_for_a_moment),
        cmocka_unit_test(full_disks),
        cmocka_unit_test(short_writes),
        cmocka_unit_test(flushes_that_lose_pages),
        cmocka_unit_test(totals),
    };
    int rc;

    disk_install();
    log_setup("robust", LOG_ERROR, false);
    dir_make(&dir);
    make_real_file(dir.fd);
    make_base();
    if (getenv("VIREO_POINT"))
        return one_point(getenv("VIREO_POINT"));
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    disk_image_free(base);
    disk_reset();
    seams_reset();
    dir_remove(&dir);
    return rc;
}
