/* Priority and fairness in a simple form.
 *
 * Requests are handled on one loop thread, so what clients compete for is that thread's time. Every request is of a class, by
 * who asks and for what, and of a flow: its user within the class. While the thread keeps up, requests run as they come.
 * Once a turn of the loop has used up SLICE_NS, what comes waits in the queue of its flow, and the queues are served a
 * slice per turn, with what else the loop has to do in between:
 *
 *   tag of a flow = where its last request began on a virtual clock, plus the time that it took on the real one
 *
 * The flow with the lowest tag is next, and the virtual clock stands where it began (start-time fair queueing). So a flow that
 * has used little goes before one that has used much, and one that was idle gets no credit for it. The same is done among
 * classes, where a weight divides the time. What a request takes is measured, not guessed: parsing, admission, the pieces of a
 * list as they are made, compression.
 *
 * Beside time a flow has seats: requests that wait for the store, a webhook, or their reader. A list is as wide as it has
 * objects, and wide requests have seats of their own, so that a user's many slow lists stop neither others nor the user's own
 * small requests. A full queue, or a wait of QUEUE_NS, is answered 429. Watches, logs, consoles have neither queue nor seat while
 * they last, but are counted. Health checks, leases of administrators, and what comes over the node's own socket do not
 * wait, nor do the controllers of this process: their requests are no exchanges.
 *
 * Credentials have to be looked at before their owner is known. Those that turn out wrong are charged to the flow of the peer's
 * address in the least class, and their 401 waits there for its turn: who floods us with them waits for the others.
 *
 * There are no FlowSchemas: classes, weights and limits are the table below. */
#include "apiserver/fairness.h"
#include "apiserver/internal.h"

#define SLICE_NS MILLIS(2)
#define QUEUE_NS SECONDS(15)
#define FLOWS_MAX 2000 /* users beyond share one flow of their class */
#define WIDE_STEP 400  /* objects of a list that take one seat */
#define WIDE_MAX 10
#define WRITE_NS_PER_BYTE 10 /* about what a body costs once its handler has returned */

enum class_id { CLASS_EXEMPT, CLASS_SYSTEM, CLASS_WORKLOAD, CLASS_USERS, CLASS_LEAST, CLASSES };

static const struct {
    const char *name;
    int weight;
    unsigned queue;                          /* requests of one flow that may wait */
    unsigned seats, wide;                    /* of one flow */
    unsigned all_queue, all_seats, all_wide; /* of the class */
    unsigned long_running;                   /* of one flow */
} classes[CLASSES] = {
    [CLASS_EXEMPT] = {.name = "exempt", .weight = 100},
    [CLASS_SYSTEM] = {"system", 40, 500, 300, 100, 5000, 600, 200, 5000},
    [CLASS_WORKLOAD] = {"workload", 30, 500, 300, 100, 5000, 600, 200, 5000},
    [CLASS_USERS] = {"global-default", 30, 500, 300, 100, 5000, 600, 200, 3000},
    [CLASS_LEAST] = {"catch-all", 5, 50, 30, 10, 200, 60, 20, 50},
};

enum seat_kind { SEAT_NARROW, SEAT_WIDE, SEAT_LONG, SEAT_GIVEN_BACK };

struct flow {
    struct fairness *f;
    enum class_id class;
    char *key;         /* class and user; NULL: of those beyond FLOWS_MAX */
    struct list node;  /* in the class's `waiting`, while its queue is not empty */
    struct list queue; /* struct request.queued, oldest first */
    unsigned n_queue, seats, wide, long_running;
    unsigned refs; /* exchanges that point here */
    int64_t tag;
};

struct class
{
    struct list waiting;
    int64_t tag, clock; /* its own tag among classes, and the virtual clock of its flows */
    unsigned n_queue, seats, wide, executing, long_running;
    uint64_t dispatched, rejected_full, rejected_late, rejected_long;
    struct flow rest;
};

struct fairness {
    struct apiserver *s; /* NULL: gone; exchanges still hold their seats */
    struct loop *loop;
    struct map flows;
    struct class classes[CLASSES];
    int64_t clock; /* of the classes */
    uint64_t turn; /* of the loop, that `used` is about */
    int64_t used;
    unsigned n_queue, held; /* held: seats that exchanges have */
    struct loop_defer next;
    struct loop_timer late;
};

/* What an exchange holds from its dispatch until its response has been taken. In the exchange's arena. */
struct seat {
    struct flow *flow;
    enum seat_kind kind;
    unsigned width;
};

static void serve(struct loop_defer *d);
static void look_for_late(struct loop_timer *t);

static void flow_init(struct flow *w, struct fairness *f, enum class_id class, const char *key)
{
    w->f = f;
    w->class = class;
    w->key = key ? xstrdup(key) : NULL;
    list_init(&w->queue);
}

struct fairness *fairness_new(struct apiserver *s)
{
    struct fairness *f = NEW(struct fairness);

    f->s = s;
    f->loop = s->loop;
    for (int i = 0; i < CLASSES; i++) {
        list_init(&f->classes[i].waiting);
        flow_init(&f->classes[i].rest, f, (enum class_id)i, NULL);
    }
    return f;
}

static void flow_free(void *p)
{
    struct flow *w = p;

    free(w->key);
    free(w);
}

static void release(struct fairness *f)
{
    if (f->s || f->held > 0)
        return;
    map_done_with(&f->flows, flow_free);
    free(f);
}

void fairness_free(struct fairness *f)
{
    if (!f)
        return;
    loop_defer_cancel(&f->next);
    loop_timer_stop(&f->late);
    f->s = NULL;
    release(f);
}

/* -- who asks, and for what ------------------------------------------------------------------------- */

static bool is_health(struct str path)
{
    return str_starts(path, STR("/livez")) || str_starts(path, STR("/readyz"))
           || str_starts(path, STR("/healthz"));
}

static enum class_id class_of(const struct request *r)
{
    struct str user = str_of(r->who.user);

    if (is_health(r->path) || r->x->peer->local)
        return CLASS_EXEMPT;
    if (identity_in(&r->who, "system:unauthenticated"))
        return CLASS_LEAST;
    if (identity_in(&r->who, "system:masters")
        && str_starts(r->path, STR("/apis/coordination.k8s.io/")))
        return CLASS_EXEMPT;
    if (identity_in(&r->who, "system:nodes")
        || str_starts(user, STR("system:serviceaccount:kube-system:")))
        return CLASS_SYSTEM;
    return str_starts(user, STR("system:serviceaccount:")) ? CLASS_WORKLOAD : CLASS_USERS;
}

/* A flow that owes nothing and holds nothing is as good as none. */
static bool is_spent(const struct flow *w)
{
    return w->refs == 0 && w->n_queue == 0 && w->tag <= w->f->classes[w->class].clock;
}

static void sweep(struct fairness *f)
{
    struct str key;
    void *p;

    for (size_t at = 0; map_next(&f->flows, &at, &key, &p);)
        if (is_spent(p))
            flow_free(map_del(&f->flows, key));
}

static struct flow *flow_named(struct fairness *f, enum class_id class, struct str name)
{
    /* The whole name: cut ones of long service accounts would share a flow. */
    AUTO_FREE char *key = xasprintf("%d " STR_FMT, class, STR_ARG(name));
    struct flow *w;

    w = map_get(&f->flows, str_of(key));
    if (w)
        return w;
    if (f->flows.n >= FLOWS_MAX)
        sweep(f);
    if (f->flows.n >= FLOWS_MAX)
        return &f->classes[class].rest;
    w = NEW(struct flow);
    flow_init(w, f, class, key);
    map_set(&f->flows, str_of(key), w);
    return w;
}

/* Whose credentials are wrong has no name but its address. '@' keeps these apart from users' flows. */
static struct flow *flow_of_peer(struct fairness *f, const struct request *r)
{
    struct str address = str_of(r->x->peer ? r->x->peer->address : NULL), ip, port;

    if (!str_rcut(address, ':', &ip, &port))
        ip = address;
    return flow_named(f, CLASS_LEAST, str_of(arena_printf(&r->x->arena, "@" STR_FMT, STR_ARG(ip))));
}

/* The kind that a path lists: /api/v1/pods, /apis/g/v/namespaces/n/things. NULL: it is no list. */
static const struct served *listed(const struct request *r, struct str *ret_ns)
{
    struct str rest = r->path, group = STR(""), version, more;

    *ret_ns = STR_NONE;
    if (str_starts(rest, STR("/api/")))
        rest = str_skip(rest, 5);
    else if (!str_starts(rest, STR("/apis/")) || !str_cut(str_skip(rest, 6), '/', &group, &rest))
        return NULL;
    if (!str_cut(rest, '/', &version, &rest))
        return NULL;
    if (str_starts(rest, STR("namespaces/"))
        && (!str_cut(str_skip(rest, 11), '/', ret_ns, &more) || !(rest = more).p))
        return NULL;
    return str_has(rest, '/') ? NULL : catalog_find(r->s, group, version, rest);
}

/* By the number of objects that a list has to look at. */
static unsigned width_of(struct request *r)
{
    AUTO(error_clear) struct error err = {0};
    struct str ns, limit = query_get(r, "limit");
    const struct served *k = r->x->method == HTTP_GET ? listed(r, &ns) : NULL;
    size_t n = k ? store_count(r->s->store, kind_prefix(k->info, ns, &r->arena)) : 0;
    uint64_t page = 0;

    if (n > WIDE_STEP && !str_empty(limit) && parse_u64(limit, INT64_MAX, &page, &err) && page > 0
        && page < n && str_empty(query_get(r, "labelSelector"))
        && str_empty(query_get(r, "fieldSelector")))
        n = (size_t)page;
    n = n / WIDE_STEP + 1;
    return n < WIDE_MAX ? (unsigned)n : WIDE_MAX;
}

static bool is_long_running(const struct request *r)
{
    return r->x->wants_upgrade || query_true(r, "watch")
           || (str_ends(r->path, STR("/log")) && query_true(r, "follow"));
}

/* -- time ------------------------------------------------------------------------------------------- */

static void charge(struct flow *w, int64_t ns)
{
    struct fairness *f = w->f;
    struct class *c = &f->classes[w->class];

    if (w->class == CLASS_EXEMPT) /* it takes from all alike */
        return;
    w->tag = (w->tag > c->clock ? w->tag : c->clock) + ns;
    c->tag = (c->tag > f->clock ? c->tag : f->clock) + ns * 100 / classes[w->class].weight;
    f->used += ns;
}

static void seat_spent(void *data, int64_t ns)
{
    charge(((struct seat *)data)->flow, ns);
}

void fairness_spent(struct request *r, int64_t ns)
{
    if (r->seat)
        charge(r->seat->flow, ns);
}

/* -- seats ------------------------------------------------------------------------------------------ */

static void take_seat(struct seat *t)
{
    struct class *c = &t->flow->f->classes[t->flow->class];

    c->dispatched++;
    switch (t->kind) {
    case SEAT_NARROW:
        t->flow->seats++;
        c->seats++;
        c->executing++;
        break;
    case SEAT_WIDE:
        t->flow->wide += t->width;
        c->wide += t->width;
        c->executing++;
        break;
    case SEAT_LONG:
        t->flow->long_running++;
        c->long_running++;
        break;
    case SEAT_GIVEN_BACK:
        break;
    }
}

static bool has_seat(const struct seat *t)
{
    const struct flow *w = t->flow;
    const struct class *c = &w->f->classes[w->class];

    if (w->class == CLASS_EXEMPT)
        return true;
    switch (t->kind) {
    case SEAT_NARROW:
        return w->seats < classes[w->class].seats && c->seats < classes[w->class].all_seats;
    case SEAT_WIDE:
        return w->wide + t->width <= classes[w->class].wide
               && c->wide + t->width <= classes[w->class].all_wide;
    case SEAT_LONG:
    case SEAT_GIVEN_BACK:
        return true; /* counted when it comes */
    }
    __builtin_unreachable();
}

static void give_back(struct seat *t)
{
    struct flow *w = t->flow;
    struct fairness *f = w->f;
    struct class *c = &f->classes[w->class];

    switch (t->kind) {
    case SEAT_NARROW:
        w->seats--;
        c->seats--;
        c->executing--;
        break;
    case SEAT_WIDE:
        w->wide -= t->width;
        c->wide -= t->width;
        c->executing--;
        break;
    case SEAT_LONG:
        w->long_running--;
        c->long_running--;
        break;
    case SEAT_GIVEN_BACK:
        break;
    }
    t->kind = SEAT_GIVEN_BACK;
    if (f->n_queue > 0 && f->s)
        loop_defer(f->loop, &f->next, serve);
}

/* A small answer waits for its reader without a seat: a user's stalled clients would keep all the others from theirs. */
void fairness_answered(struct request *r)
{
    struct seat *t = r->seat;

    if (t && r->x && r->x->guard.data == t && t->kind == SEAT_NARROW)
        give_back(t);
}

/* The exchange is over. */
static void seat_over(void *data)
{
    struct seat *t = data;
    struct fairness *f = t->flow->f;

    give_back(t);
    t->flow->refs--;
    f->held--;
    release(f);
}

/* -- running and waiting ---------------------------------------------------------------------------- */

static void new_turn(struct fairness *f)
{
    uint64_t turn = loop_turns(f->loop);

    if (turn == f->turn)
        return;
    f->turn = turn;
    f->used = 0;
}

/* The request may be gone afterwards. */
static void run_now(struct request *r)
{
    struct seat *t = r->seat;
    struct flow *w = t->flow;
    struct fairness *f = w->f;
    struct class *c = &f->classes[w->class];
    int64_t begun = loop_now_ns(f->loop), extra = (int64_t)r->body.n * WRITE_NS_PER_BYTE;

    if (w->tag > c->clock) /* it is this flow's turn: the virtual clocks stand where it begins */
        c->clock = w->tag;
    if (w->class != CLASS_EXEMPT && c->tag > f->clock)
        f->clock = c->tag;
    take_seat(t);
    w->refs++; /* the request may be answered and gone, and its seat with it */
    f->held++;
    r->x->guard = (struct exchange_guard){.over = seat_over, .spent = seat_spent, .data = t};
    w->refs++;
    f->held++;
    r->run(r);
    charge(w, loop_now_ns(f->loop) - begun + extra);
    w->refs--;
    f->held--;
}

static void reject(struct request *r)
{
    struct arena *a = &r->arena;

    answer_status(r, 429, "TooManyRequests", "Too many requests, please try again later.",
                  json_object(a, "retryAfterSeconds", json_new_i64(a, 1), NULL));
}

static void unqueue(struct request *r)
{
    struct flow *w = r->seat->flow;

    list_remove(&r->queued);
    w->n_queue--;
    w->f->classes[w->class].n_queue--;
    w->f->n_queue--;
    if (w->n_queue == 0)
        list_remove(&w->node);
}

bool fairness_forget(struct request *r)
{
    if (!list_linked(&r->queued))
        return false;
    unqueue(r);
    return true;
}

static void enqueue(struct request *r)
{
    struct flow *w = r->seat->flow;
    struct fairness *f = w->f;
    struct class *c = &f->classes[w->class];

    if (w->n_queue >= classes[w->class].queue || c->n_queue >= classes[w->class].all_queue) {
        c->rejected_full++;
        reject(r);
        return;
    }
    if (w->n_queue++ == 0)
        list_add_tail(&c->waiting, &w->node);
    c->n_queue++;
    f->n_queue++;
    list_add_tail(&w->queue, &r->queued);
    if (has_seat(r->seat))
        loop_defer(f->loop, &f->next, serve);
    if (!loop_timer_active(&f->late))
        loop_timer_start(f->loop, &f->late, SECONDS(1), look_for_late);
}

static bool too_many_long(const struct seat *t)
{
    enum class_id class = t->flow->class;

    return t->kind == SEAT_LONG && class != CLASS_EXEMPT
           && t->flow->long_running >= classes[class].long_running;
}

/* As many may have begun while this one waited. */
static void run_or_reject(struct request *r)
{
    if (too_many_long(r->seat)) {
        r->seat->flow->f->classes[r->seat->flow->class].rejected_long++;
        reject(r);
    } else {
        run_now(r);
    }
}

static void admit_to(struct flow *w, struct request *r, void (*run)(struct request *r),
                     enum seat_kind kind, unsigned width)
{
    struct fairness *f = w->f;
    struct seat *t = ARENA_NEW(&r->x->arena, struct seat);

    r->run = run;
    r->seat = t;
    *t = (struct seat){.flow = w, .kind = kind, .width = width};
    new_turn(f);
    if (w->class == CLASS_EXEMPT || (f->n_queue == 0 && f->used < SLICE_NS && has_seat(t)))
        run_or_reject(r);
    else
        enqueue(r);
}

void fairness_admit(struct request *r, void (*run)(struct request *r))
{
    struct flow *w = flow_named(r->s->fairness, class_of(r), str_of(r->who.user));
    unsigned width = is_long_running(r) ? 0 : width_of(r);

    admit_to(w, r, run, !width ? SEAT_LONG : width > 1 ? SEAT_WIDE : SEAT_NARROW, width);
}

void fairness_refuse(struct request *r, int64_t spent_ns, void (*run)(struct request *r))
{
    struct fairness *f = r->s->fairness;
    struct flow *w = flow_of_peer(f, r);

    new_turn(f);
    charge(w, spent_ns);
    admit_to(w, r, run, SEAT_NARROW, 1);
}

/* The first request of a flow that has a seat: a list that has none does not hold up what is small. */
static struct request *runnable(const struct flow *w)
{
    unsigned looked = 0;

    list_each(n, &w->queue) {
        struct request *r = list_entry(n, struct request, queued);

        if (has_seat(r->seat))
            return r;
        if (++looked == 100)
            break;
    }
    return NULL;
}

static struct request *next_of_class(struct class *c)
{
    struct request *best = NULL;
    int64_t tag = 0;

    list_each(n, &c->waiting) {
        struct flow *w = list_entry(n, struct flow, node);
        int64_t at = w->tag > c->clock ? w->tag : c->clock;
        struct request *r = !best || at < tag ? runnable(w) : NULL;

        if (r) {
            best = r;
            tag = at;
        }
    }
    return best;
}

static struct request *next_request(struct fairness *f)
{
    struct request *best = NULL;
    int64_t tag = 0;

    for (int i = 0; i < CLASSES; i++) {
        struct class *c = &f->classes[i];
        int64_t at = c->tag > f->clock ? c->tag : f->clock;
        struct request *r = c->n_queue > 0 && (!best || at < tag) ? next_of_class(c) : NULL;

        if (r) {
            best = r;
            tag = at;
        }
    }
    return best;
}

/* A slice of what waits; the rest when the loop has looked at its sockets again. */
static void serve(struct loop_defer *d)
{
    struct fairness *f = container_of(d, struct fairness, next);
    int64_t until = loop_now_ns(f->loop) + SLICE_NS;
    struct request *r;

    while ((r = next_request(f)) != NULL) {
        unqueue(r);
        run_or_reject(r);
        if (loop_now_ns(f->loop) >= until) {
            loop_defer(f->loop, &f->next, serve);
            return;
        }
    }
}

static void look_for_late(struct loop_timer *t)
{
    struct fairness *f = container_of(t, struct fairness, late);
    int64_t now = loop_now_ns(f->loop);

    for (int i = 0; i < CLASSES; i++) {
        list_each_safe(n, &f->classes[i].waiting) {
            struct flow *w = list_entry(n, struct flow, node);

            while (w->n_queue > 0) {
                struct request *r = list_entry(w->queue.next, struct request, queued);

                if (now - r->started_ns < QUEUE_NS)
                    break;
                f->classes[i].rejected_late++;
                unqueue(r);
                reject(r);
            }
        }
    }
    if (f->n_queue > 0)
        loop_timer_start(f->loop, &f->late, SECONDS(1), look_for_late);
}

/* -- metrics ---------------------------------------------------------------------------------------- */

static void gauge(const struct fairness *f, struct buf *b, const char *name, const char *type,
                  const char *help, uint64_t (*value)(const struct class *c))
{
    buf_addf(b, "# HELP apiserver_flowcontrol_%s %s\n# TYPE apiserver_flowcontrol_%s %s\n", name,
             help, name, type);
    for (int i = 0; i < CLASSES; i++)
        buf_addf(b, "apiserver_flowcontrol_%s{flow_schema=\"%s\",priority_level=\"%s\"} %llu\n",
                 name, classes[i].name, classes[i].name, (unsigned long long)value(&f->classes[i]));
}

static uint64_t queued_now(const struct class *c)
{
    return c->n_queue;
}
static uint64_t executing_now(const struct class *c)
{
    return c->executing;
}
static uint64_t seats_now(const struct class *c)
{
    return c->seats + c->wide;
}
static uint64_t dispatched(const struct class *c)
{
    return c->dispatched;
}

void fairness_write(const struct fairness *f, struct buf *b)
{
    static const char *const reasons[] = {"queue-full", "time-out", "concurrency-limit"};

    gauge(f, b, "current_inqueue_requests", "gauge", "Requests that wait.", queued_now);
    gauge(f, b, "current_executing_requests", "gauge",
          "Requests that are handled; watches and their like not counted.", executing_now);
    gauge(f, b, "current_executing_seats", "gauge", "What they take, wide lists more than one.",
          seats_now);
    gauge(f, b, "dispatched_requests_total", "counter", "Requests that were let in.", dispatched);
    buf_adds(b, "# HELP apiserver_flowcontrol_rejected_requests_total Requests answered 429.\n"
                "# TYPE apiserver_flowcontrol_rejected_requests_total counter\n");
    for (int i = 0; i < CLASSES; i++) {
        const struct class *c = &f->classes[i];
        const uint64_t counts[] = {c->rejected_full, c->rejected_late, c->rejected_long};

        for (size_t j = 0; j < ARRAY_SIZE(reasons); j++)
            buf_addf(b,
                     "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"%s\","
                     "priority_level=\"%s\",reason=\"%s\"} %llu\n",
                     classes[i].name, classes[i].name, reasons[j], (unsigned long long)counts[j]);
    }
}
