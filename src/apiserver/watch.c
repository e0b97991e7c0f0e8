/* apiserver/watch - streams of changes.
 *
 * A watcher gets its initial objects (when it asked for them) and then every change below its prefix in revision
 * order. The event type is the watcher's own: an object that leaves its selector is DELETED for it. What is sent is a
 * block of bytes that all watchers of the same form share: the events serialized last are kept in a small ring.
 *
 * A watcher is given what its reader takes. While the reader is behind, the watch pauses and its events stay where they are anyhow, in
 * history; what history has let go of meanwhile ends the watch with 410. So much may lie behind the revision that a watch starts from that
 * all of it at once would be more than any queue takes, again at every attempt. A reader that takes nothing at all is cut off by `http`.
 *
 * The first objects of a watch may be many: over HTTP they are sent as the reader takes them, and the changes since are
 * read from history behind them. */
#include "apiserver/internal.h"
#include "apiserver/protobuf.h"
#include "apiserver/watch.h"

#define BOOKMARK_NS SECONDS(60)
#define SHARED_EVENTS 32
#define INITIAL_NS SECONDS(60) /* so long may its first objects take a reader */
#define INITIAL_TREES 64       /* of them in one turn, when each is parsed */

struct watcher {
    struct apiserver *s;
    struct list node;
    struct request *r; /* owned: arena, kind, selectors, form */
    struct exchange *x;
    const struct selection *sel;
    struct store_watch *watch;
    struct loop_timer timeout;
    struct loop_defer closing, starting; /* starting: or going on */
    struct watch_sink sink; /* of a local watcher */
    int64_t revision;       /* the last that was seen */
    bool bookmarks, initial_end, table_started, ended;
    const char *gone;          /* local: the reason of an early end */
    struct store_list initial; /* not yet sent from initial_at on */
    size_t initial_at;
    int64_t since_ns;
    struct str prefix;
};

struct shared_event {
    struct store_object *object; /* a reference */
    const struct kind_info *kind;
    const char *version;
    const char *type;
    int64_t revision;
    struct block *block;
    struct arena arena;
    const struct json *tree, *previous;
};

static void shared_clear(struct shared_event *e)
{
    store_object_unref(e->object);
    block_unref(e->block);
    arena_done(&e->arena);
    *e = (struct shared_event){0};
}

static struct shared_event *shared_for(struct apiserver *s, const struct store_event *e)
{
    struct shared_event *slot;

    if (!s->shared)
        s->shared = xcalloc(SHARED_EVENTS, sizeof *s->shared);
    slot = &s->shared[e->revision % SHARED_EVENTS];
    if (slot->object != e->object || slot->revision != e->revision) {
        shared_clear(slot);
        slot->object = store_object_ref(e->object);
        slot->revision = e->revision;
    }
    return slot;
}

static void watcher_free(struct watcher *w)
{
    store_watch_stop(w->watch);
    loop_timer_stop(&w->timeout);
    loop_defer_cancel(&w->closing);
    loop_defer_cancel(&w->starting);
    list_remove(&w->node);
    store_list_done(&w->initial);
    w->r->kind->watchers--;
    request_finished(w->r, w->ended ? 200 : 0);
    request_free(w->r);
    free(w);
}

static void finish(struct loop_defer *d)
{
    struct watcher *w = container_of(d, struct watcher, closing);

    w->ended = true;
    if (w->x) {
        w->x->closed = NULL;
        w->x->writable = NULL;
        w->x->user = NULL;
        exchange_end(w->x);
    } else if (w->sink.ended) {
        AUTO(error_clear) struct error err = {0};

        error_set(&err, w->gone ? ERROR_GONE : ERROR_UNAVAILABLE, "%s",
                  w->gone ? w->gone : "the watch has ended");
        w->sink.ended(w->sink.user, &err);
    }
    watcher_free(w);
}

static void end_later(struct watcher *w)
{
    store_watch_stop(w->watch);
    w->watch = NULL;
    loop_defer_cancel(&w->starting);
    loop_defer(w->s->loop, &w->closing, finish);
}

static void timed_out(struct loop_timer *t)
{
    struct watcher *w = container_of(t, struct watcher, timeout);

    if (w->bookmarks && w->x && w->watch)
        watch_bookmark(w, false);
    end_later(w);
}

static void watch_closed(struct exchange *x)
{
    struct watcher *w = x->user;

    if (!w)
        return;
    w->x = NULL;
    w->sink.ended = NULL;
    end_later(w);
}

static bool send_block(struct watcher *w, struct block *b)
{
    if (!w->x)
        return false;
    if (exchange_write_block(w->x, b) >= EXCHANGE_HIGH_WATER && w->watch)
        store_watch_pause(w->watch); /* `writable` follows */
    return true;
}

static bool send_text(struct watcher *w, struct str text)
{
    struct block *b = block_new(text);
    bool ok = send_block(w, b);

    block_unref(b);
    return ok;
}

/* {"type":…,"object":…} for this watcher alone. */
static bool send_value(struct watcher *w, const char *type, const struct json *object,
                       struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};

    (void)a;
    if (w->r->accept.protobuf) {
        if (!protobuf_write_event(type, object, &b))
            return false;
        return send_text(w, buf_str(&b));
    }
    buf_addf(&b, "{\"type\":\"%s\",\"object\":", type);
    json_write(&b, object);
    buf_adds(&b, "}\n");
    return send_text(w, buf_str(&b));
}

static bool send_formed(struct watcher *w, const char *type, const struct json *object,
                        struct arena *a)
{
    struct request *r = w->r;
    const struct kind_info *k = r->kind->info;
    const struct json *v = present_as(k, r->version, object, a);

    switch (r->accept.form) {
    case FORM_OBJECT:
        break;
    case FORM_PARTIAL:
        v = partial_object(v, r->accept.v1beta1, a);
        break;
    case FORM_TABLE:
        v = table_value(
            w->s, k,
            json_object(a, "resourceVersion", json_at(object, "metadata/resourceVersion"), NULL),
            &v, 1, query_get(r, "includeObject"), r->accept.v1beta1, a);
        if (w->table_started)
            v = json_with(a, v, "columnDefinitions", json_null());
        w->table_started = true;
        break;
    }
    return send_value(w, type, v, a);
}

static bool stored_version(const struct request *r)
{
    const struct kind_info *k = r->kind->info;

    return !strcmp(r->version, k->storage_version ? k->storage_version : k->version)
           && !kind_is(k, "events.k8s.io", "events");
}

static void write_event(struct buf *b, const char *type, const struct store_object *o)
{
    buf_addf(b, "{\"type\":\"%s\",\"object\":", type);
    store_object_text(o, b);
    buf_adds(b, "}\n");
}

static bool deliver(struct watcher *w, const char *type, struct store_object *o,
                    struct shared_event *shared)
{
    struct request *r = w->r;
    bool ok;

    w->revision = shared ? shared->revision : store_object_revision(o);
    r->kind->watch_events++;
    if (!w->x) {
        enum client_event_type t = type[0] == 'A'   ? CLIENT_ADDED
                                   : type[0] == 'M' ? CLIENT_MODIFIED
                                                    : CLIENT_DELETED;
        struct arena a = {0};
        const struct json *v;

        if (!w->sink.event)
            return false;
        if (shared && !shared->tree)
            shared->tree = store_object_json(shared->object, &shared->arena);
        v = shared && shared->object == o ? shared->tree : store_object_json(o, &a);
        w->sink.event(w->sink.user, t, present_as(r->kind->info, r->version, v, &a));
        arena_done(&a);
        return w->sink.event != NULL;
    }
    if (r->accept.form == FORM_OBJECT && !r->accept.protobuf && stored_version(r) && shared && shared->object == o
        && !r->kind->info->siblings && store_object_revision(o) > r->kind->info->since) {
        if (!shared->block || shared->kind != r->kind->info || strcmp(shared->type, type) != 0) {
            AUTO(buf_done) struct buf b = {0};

            block_unref(shared->block);
            write_event(&b, type, o);
            shared->block = block_new(buf_str(&b));
            shared->kind = r->kind->info;
            shared->type = type;
        }
        return send_block(w, shared->block);
    }
    if (r->accept.form == FORM_OBJECT && !r->accept.protobuf && stored_version(r)) {
        AUTO(buf_done) struct buf b = {0};

        write_event(&b, type, o);
        return send_text(w, buf_str(&b));
    }
    {
        struct arena a = {0};

        ok = send_formed(w, type, store_object_json(o, &a), &a);
        arena_done(&a);
    }
    return ok;
}

/* What a watcher with a selector sees of a change. */
static bool deliver_selected(struct watcher *w, const struct store_event *e,
                             struct shared_event *shared)
{
    const struct kind_info *k = w->r->kind->info;
    struct arena *a = &shared->arena;
    bool is, was = false;

    if (!shared->tree)
        shared->tree = store_object_json(e->object, a);
    if (e->previous && !shared->previous)
        shared->previous = store_object_json(e->previous, a);
    is = e->type != STORE_DELETED
         && selection_matches(w->sel, present_as(k, w->r->version, shared->tree, a));
    if (e->previous)
        was = selection_matches(w->sel, present_as(k, w->r->version, shared->previous, a));
    if (is)
        return deliver(w, was ? "MODIFIED" : "ADDED", e->object, shared);
    if (!was)
        return true;
    if (e->type == STORE_DELETED)
        return deliver(w, "DELETED", e->object, shared);
    {
        /* It left the selector: the state in which it last matched, at the revision of the change. */
        struct arena one = {0};
        const struct json *v = json_with_at(&one, shared->previous, "metadata/resourceVersion",
                                            json_new_f(&one, "%lld", (long long)e->revision));
        bool ok = true;

        w->revision = e->revision;
        if (w->x)
            ok = send_formed(w, "DELETED", v, &one);
        else if (w->sink.event)
            w->sink.event(w->sink.user, CLIENT_DELETED, present_as(k, w->r->version, v, &one));
        arena_done(&one);
        return ok;
    }
}

static bool changed(void *user, const struct store_event *e)
{
    static const char *const types[] = {
        [STORE_ADDED] = "ADDED", [STORE_MODIFIED] = "MODIFIED", [STORE_DELETED] = "DELETED"};
    struct watcher *w = user;
    struct shared_event *shared = shared_for(w->s, e);
    bool ok;

    if (selection_is_empty(w->sel))
        ok = deliver(w, types[e->type], e->object, shared);
    else
        ok = deliver_selected(w, e, shared);
    if (!ok) {
        w->watch = NULL;
        loop_defer(w->s->loop, &w->closing, finish);
    }
    return ok;
}

void watch_bookmark(struct watcher *w, bool initial_end)
{
    struct request *r = w->r;
    struct arena a = {0};
    /* Of what it has been told: there may be changes that it gets in a later turn. */
    int64_t rev = w->watch ? store_watch_revision(w->watch) : w->revision;
    const struct json *v, *meta;

    meta = json_object(
        &a, "resourceVersion", json_new_f(&a, "%lld", (long long)rev), "annotations",
        initial_end ? json_object(&a, "k8s.io/initial-events-end", json_new_z(&a, "true"), NULL)
                    : NULL,
        NULL);
    v = json_object(&a, "kind", json_new_z(&a, r->kind->info->kind), "apiVersion",
                    json_new_z(&a, group_version(r->kind->info->group, r->version, &a)), "metadata",
                    meta, NULL);
    if (kind_custom(r->kind->info))
        v = order_sorted(&a, v);
    if (r->accept.form == FORM_PARTIAL)
        v = partial_object(v, r->accept.v1beta1, &a);
    if (r->accept.form == FORM_TABLE)
        v = table_value(w->s, r->kind->info,
                        json_object(&a, "resourceVersion", json_get(meta, "resourceVersion"), NULL),
                        NULL, 0, STR_NONE, r->accept.v1beta1, &a);
    if (!send_value(w, "BOOKMARK", v, &a))
        end_later(w);
    arena_done(&a);
}

static void bookmarks_due(struct loop_timer *t)
{
    struct apiserver *s = container_of(t, struct apiserver, bookmarks);

    list_each_safe(n, &s->watchers) {
        struct watcher *w = list_entry(n, struct watcher, node);

        if (w->bookmarks && w->x && w->watch && exchange_queued(w->x) < EXCHANGE_HIGH_WATER)
            watch_bookmark(w, false);
    }
    if (!list_empty(&s->watchers))
        loop_timer_start(s->loop, &s->bookmarks, BOOKMARK_NS, bookmarks_due);
}

static void send_gone(struct watcher *w, const char *message)
{
    struct arena a = {0};

    if (w->x) {
        (void)!send_value(w, "ERROR", status_value(&a, 410, "Expired", message, NULL), &a);
    } else {
        w->gone = arena_strdup(&w->r->arena, str_of(message));
    }
    arena_done(&a);
    end_later(w);
}

static bool initial_matches(const struct watcher *w, const struct store_object *o)
{
    AUTO(arena_done) struct arena a = {0};

    return selection_is_empty(w->sel)
           || selection_matches(
               w->sel, present_as(w->r->kind->info, w->r->version, store_object_json(o, &a), &a));
}

static bool send_initial(struct watcher *w)
{
    for (size_t i = 0; i < w->initial.n; i++)
        if (initial_matches(w, w->initial.p[i]) && !deliver(w, "ADDED", w->initial.p[i], NULL))
            return false;
    w->revision = w->initial.revision;
    store_list_done(&w->initial);
    return true;
}

static void start(struct watcher *w, struct str prefix, int64_t from);

static void initial_turn(struct loop_defer *d);

/* What of its first objects the reader has room for. */
static void pump_initial(struct watcher *w)
{
    bool trees =
        w->r->accept.form != FORM_OBJECT || w->r->accept.protobuf || !selection_is_empty(w->sel);
    size_t done = 0;

    if (loop_now_ns(w->s->loop) - w->since_ns > INITIAL_NS) {
        w->x->closed = NULL;
        w->x->user = NULL;
        exchange_abort(w->x);
        w->x = NULL;
        end_later(w);
        return;
    }
    for (; w->initial_at < w->initial.n; done++) {
        struct store_object *o = w->initial.p[w->initial_at];

        if (exchange_queued(w->x) >= EXCHANGE_HIGH_WATER)
            return; /* `writable` follows */
        if (done >= INITIAL_TREES && trees) {
            loop_defer(w->s->loop, &w->starting, initial_turn);
            return;
        }
        w->initial.p[w->initial_at++] = NULL;
        if (initial_matches(w, o) && !deliver(w, "ADDED", o, NULL)) {
            store_object_unref(o);
            end_later(w);
            return;
        }
        store_object_unref(o);
    }
    w->x->writable = NULL;
    w->revision = w->initial.revision;
    store_list_done(&w->initial);
    w->initial = (struct store_list){0};
    if (query_true(w->r, "sendInitialEvents") && w->bookmarks)
        watch_bookmark(w, true);
    start(w, w->prefix, w->revision);
}

static void initial_turn(struct loop_defer *d)
{
    struct watcher *w = container_of(d, struct watcher, starting);

    if (w->x)
        pump_initial(w);
}

static void initial_writable(struct exchange *x)
{
    struct watcher *w = x->user;

    if (w && w->x)
        loop_defer(w->s->loop, &w->starting, initial_turn);
}

static void go_on(struct loop_defer *d)
{
    struct watcher *w = container_of(d, struct watcher, starting);
    AUTO(error_clear) struct error err = {0};

    if (w->x && w->watch && !store_watch_resume(w->watch, &err))
        send_gone(w, error_text(&err));
}

static void on_writable(struct exchange *x)
{
    struct watcher *w = x->user;

    if (w && w->x && w->watch)
        loop_defer(w->s->loop, &w->starting, go_on);
}

static void start(struct watcher *w, struct str prefix, int64_t from)
{
    AUTO(error_clear) struct error err = {0};

    if (w->x)
        w->x->writable = on_writable;
    w->watch = store_watch_start(w->s->store, prefix, from, changed, w, &err);
    if (!w->watch)
        send_gone(w, arena_printf(&w->r->arena, "too old resource version: %lld (%lld)",
                                  (long long)from, (long long)store_oldest_revision(w->s->store)));
}

/* A local watcher's initial objects come after the call that started it. */
static void start_local(struct loop_defer *d)
{
    struct watcher *w = container_of(d, struct watcher, starting);

    if (send_initial(w))
        return;
    end_later(w);
}

static struct watcher *watcher_new(struct request *r, const struct selection *sel)
{
    struct watcher *w = NEW(struct watcher);
    struct apiserver *s = r->s;

    w->s = s;
    w->r = r;
    w->sel = sel;
    list_add_tail(&s->watchers, &w->node);
    r->kind->watchers++;
    if (!loop_timer_active(&s->bookmarks))
        loop_timer_start(s->loop, &s->bookmarks, BOOKMARK_NS, bookmarks_due);
    return w;
}

static void forbidden_option(struct request *r, const char *field, const char *message)
{
    answer_invalid_one(r, "ListOptions", "meta.k8s.io", "", "FieldValueForbidden", field, message);
}

static bool read_from(struct request *r, bool initial_asked, int64_t *ret)
{
    struct str rv = query_get(r, "resourceVersion"), match = query_get(r, "resourceVersionMatch");
    AUTO(error_clear) struct error err = {0};
    uint64_t v = 0;

    *ret = 0;
    if (initial_asked && !str_is(match, "NotOlderThan")) {
        forbidden_option(
            r, "resourceVersionMatch",
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        return false;
    }
    if (!initial_asked && !str_empty(match)) {
        forbidden_option(r, "resourceVersionMatch",
                         "Forbidden: resourceVersionMatch is forbidden for watch unless "
                         "sendInitialEvents is provided");
        return false;
    }
    if (str_empty(rv))
        return true;
    if (!parse_u64(rv, INT64_MAX, &v, &err)) {
        answer_status(r, 500, NULL,
                      arena_printf(&r->arena,
                                   "resourceVersion: Invalid value: \"" STR_FMT
                                   "\": strconv.ParseUint: parsing \"" STR_FMT "\": invalid syntax",
                                   STR_ARG(rv), STR_ARG(rv)),
                      NULL);
        return false;
    }
    /* A version that has not come yet: the watch waits for what is behind it. */
    *ret = (int64_t)v;
    return true;
}

void rest_watch(struct request *r)
{
    struct str asked = query_get(r, "sendInitialEvents"), timeout = query_get(r, "timeoutSeconds"),
               prefix = kind_prefix(r->kind->info, r->ns, &r->arena);
    bool initial = query_true(r, "sendInitialEvents");
    AUTO(error_clear) struct error err = {0};
    struct selection *sel = selection_new(r);
    struct watcher *w;
    int64_t from, seconds = 0;

    if (!sel || !read_from(r, asked.p != NULL, &from))
        return;
    if (!str_empty(timeout) && !parse_i64(timeout, 0, INT32_MAX, &seconds, &err)) {
        answer_status(r, 400, "BadRequest",
                      arena_printf(&r->arena, "timeoutSeconds: Invalid value: \"" STR_FMT "\"",
                                   STR_ARG(timeout)),
                      NULL);
        return;
    }
    /* Without a version, and without saying no, a watch starts with what is there. */
    initial = initial || (from == 0 && !asked.p);
    w = watcher_new(r, sel);
    w->bookmarks = query_true(r, "allowWatchBookmarks");
    w->x = r->x;
    w->x->user = w;
    w->x->closed = watch_closed;
    r->x = NULL; /* the watcher alone knows when it is gone, and with it the seat in its arena */
    r->seat = NULL;
    if (r->verb == VERB_WATCH && r->n_warnings)
        r->n_warnings = 0;
    exchange_set_header(w->x, "Cache-Control", STR("no-cache, private"));
    exchange_start(w->x, 200,
                   r->accept.protobuf ? "application/vnd.kubernetes.protobuf;stream=watch"
                                      : "application/json");
    loop_timer_start(w->s->loop, &w->timeout,
                     SECONDS(seconds ? seconds : 1800 + (int64_t)(uintptr_t)w / 64 % 1800),
                     timed_out);
    if (initial) {
        if (!store_list(w->s->store, prefix, STR_NONE, 0, 0, NULL, NULL, &w->initial, &err)) {
            send_gone(w, error_text(&err));
            return;
        }
        w->prefix = prefix;
        w->since_ns = loop_now_ns(w->s->loop);
        w->x->writable = initial_writable;
        pump_initial(w);
        return;
    } else if (from == 0) {
        from = store_revision(w->s->store);
    }
    start(w, prefix, from);
}

struct watcher *watch_local(struct request *r, int64_t from, const struct watch_sink *sink)
{
    struct str prefix = kind_prefix(r->kind->info, r->ns, &r->arena);
    AUTO(error_clear) struct error err = {0};
    struct selection *sel = selection_new(r); /* local selectors come from our own code */
    struct watcher *w;

    if (!sel)
        return NULL;
    w = watcher_new(r, sel);
    w->sink = *sink;
    if (from == 0) {
        if (!store_list(w->s->store, prefix, STR_NONE, 0, 0, NULL, NULL, &w->initial, &err)) {
            send_gone(w, error_text(&err));
            return w;
        }
        from = w->initial.revision;
        loop_defer(w->s->loop, &w->starting, start_local);
    }
    start(w, prefix, from);
    return w;
}

void watch_local_stop(struct watcher *w)
{
    if (w) {
        w->sink = (struct watch_sink){0};
        end_later(w);
    }
}

/* Their clients begin again, and see the kind as it is now. */
void watchers_of(struct apiserver *s, struct served *kind)
{
    list_each_safe(n, &s->watchers) {
        struct watcher *w = list_entry(n, struct watcher, node);
        bool is = w->r->kind == kind;

        for (size_t i = 0; i < kind->n_versions && !is; i++)
            is = w->r->kind == kind->versions[i];
        if (is)
            end_later(w);
    }
}

void apiserver_drain(struct apiserver *s)
{
    apiserver_health(s, "shutdown", "the server is shutting down");
    list_each_safe(n, &s->watchers) { /* their clients begin anew where they were, at who comes next */
        struct watcher *w = list_entry(n, struct watcher, node);

        if (w->x)
            finish(&w->closing);
    }
}

void watchers_close(struct apiserver *s)
{
    list_each_safe(n, &s->watchers) {
        struct watcher *w = list_entry(n, struct watcher, node);

        finish(&w->closing);
    }
    if (s->shared) {
        for (int i = 0; i < SHARED_EVENTS; i++)
            shared_clear(&s->shared[i]);
        free(s->shared);
        s->shared = NULL;
    }
}
