#include "store/impl.h"
#include "base/log.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY_MAX = 1024,
    QUEUE_MAX_BYTES = 64 << 20, /* writes under way */
    SHRINKING_SLACK = 512,
    HISTORY_DEFAULT = 100000,
    HISTORY_BYTES = 24 << 20,   /* however many events: of objects that only history keeps */
};

/* Opening. */

static bool load_row(void *user, const struct object_spec *spec, size_t body_n, bool ttl, struct error *err)
{
    struct store *s = user;
    struct store_object *o = ttl ? object_new_cold(s, spec, body_n) : object_new(spec), *twice = index_set(&s->index, o);

    if (!twice)
        return true;
    store_object_unref(twice);
    return error_set(err, ERROR_INTERNAL, "state.db: object '" STR_FMT "' is there twice (row %lld): put a backup back with"
                     " `vireo restore FILE`", STR_ARG(spec->key), (long long)spec->id);
}

static struct dict *load_dict(void *user, int id)
{
    return kinds_by_id(((struct store *)user)->kinds, id);
}

static void load_add_dict(void *user, int id, struct str kind, struct str bytes)
{
    kinds_add(((struct store *)user)->kinds, id, kind, bytes);
}

/* Two processes with a memory image each would overwrite each other's objects. */
static bool lock_directory(struct store *s, struct error *err)
{
    s->lock_fd = openat(s->dirfd, "state.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0)
        return error_errno(err, errno, "state.lock");
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        return error_set(err, ERROR_UNAVAILABLE, "state.lock: another process uses this data directory; stop it first");
    return error_errno(err, errno, "state.lock");
}

static bool open_files(struct store *s, int dirfd, struct error *err)
{
    const struct db_load load = {.row = load_row, .dict = load_dict, .add_dict = load_add_dict, .user = s};
    int64_t mark;

    s->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
    if (s->dirfd < 0)
        return error_errno(err, errno, "data directory");
    if (!s->read_only && !lock_directory(s, err))
        return false;
    if (s->read_only)
        return db_open(&s->db, s->dirfd, true, &load, err);
    /* A start on a full disk needs a little room itself. */
    if (reserve_disk_is_full(s->dirfd)) {
        log_error(NULL, "store: the disk of the data directory is full; only deletions and what makes objects smaller are taken until"
                        " there is room");
        atomic_store(&s->low, true);
        reserve_give_up(s->dirfd);
    }
    if (!mark_before_open(s->dirfd, s->lock_fd, &mark, err) || !db_open(&s->db, s->dirfd, false, &load, err)
        || !mark_check(mark, s->db.durable, err) || !db_sync_files(s->dirfd, err))
        return false;
    mark_write(s->lock_fd, s->db.durable);
    if (!atomic_load(&s->low) && !reserve_make(s->dirfd))
        log_warning(NULL, "store: no room for a reserve of 4 MiB, ignoring: when the disk is full, deletions will fail, too");
    return true;
}

struct store *store_open(const struct store_config *c, struct error *err)
{
    struct store *s = NEW(struct store);

    s->loop = c->loop;
    s->read_only = c->read_only;
    s->dirfd = s->lock_fd = -1;
    s->history_ns = c->history_ns ? c->history_ns : SECONDS(300);
    s->history_max = c->history_max ? c->history_max : HISTORY_DEFAULT;
    s->history_bytes = c->history_bytes ? c->history_bytes : HISTORY_BYTES;
    s->epoch = 1;
    s->kinds = kinds_new();
    buf_init(&s->text, LIMIT_OBJECT_BYTES);
    list_init(&s->watches);
    list_init(&s->cold);
    list_init(&s->queue);
    list_init(&s->finished);
    if (open_files(s, c->dirfd, err)) {
        s->revision = s->oldest = s->next_revision = s->db.durable;
        if (ttl_start(s, err) && thread_start(s, err))
            return s;
    }
    store_close(s);
    return NULL;
}

void store_close(struct store *s)
{
    struct map pending;

    if (!s)
        return;
    s->closing = true;
    thread_stop(s);
    if (s->wake)
        store_finish(s);
    thread_done(s);
    loop_defer_cancel(&s->dispatch);
    loop_timer_stop(&s->more);
    loop_timer_stop(&s->prune);
    watch_done(s);
    history_done(s);
    index_done(&s->index);
    ttl_stop(s);
    s->db.keep_log = atomic_load(&s->low);
    db_close(&s->db);
    kinds_free(s->kinds);
    pending = TAKE(s->pending);
    map_done(&pending);
    buf_done(&s->text);
    error_clear(&s->health);
    fd_close(&s->lock_fd);
    fd_close(&s->dirfd);
    free(s);
}

/* Reading. */

int64_t store_revision(const struct store *s)
{
    return s->revision;
}

int64_t store_oldest_revision(const struct store *s)
{
    return s->oldest;
}

static bool low_space(struct error *err)
{
    return error_set(err, ERROR_UNAVAILABLE, "no space left on the disk of the data directory: only deletions and what makes objects"
                     " smaller are taken until there is room");
}

bool store_health(const struct store *s, struct error *err)
{
    if (s->health.kind == ERROR_NONE && atomic_load(&s->low))
        return low_space(err);
    if (s->health.kind == ERROR_NONE)
        return true;
    return error_set(err, s->health.kind, "%s%s", s->broken ? "store is read-only: " : "", error_text(&s->health));
}

bool store_alive(const struct store *s, struct error *err)
{
    return !s->broken || store_health(s, err);
}

bool store_low_space(const struct store *s)
{
    return atomic_load(&s->low);
}

struct store_object *store_get(struct store *s, struct str key)
{
    return store_object_ref(index_find(&s->index, key));
}

static struct store_object *newest(struct store *s, struct str key)
{
    const struct entry *e = map_get(&s->pending, key);

    if (e)
        return e->object->deleted ? NULL : e->object;
    return index_find(&s->index, key);
}

struct store_object *store_get_pending(struct store *s, struct str key)
{
    return store_object_ref(newest(s, key));
}

size_t store_count(struct store *s, struct str prefix)
{
    return index_between(&s->index, index_lower(&s->index, prefix), index_behind(&s->index, prefix));
}

/* Writing. */

static void entry_free(struct entry *e)
{
    store_object_unref(e->object);
    store_object_unref(e->compact);
    free(e);
}

static bool may_write(const struct store *s, struct str key, struct error *err)
{
    if (s->read_only)
        return error_set(err, ERROR_UNAVAILABLE, "the store was opened read-only");
    if (s->closing)
        return error_set(err, ERROR_UNAVAILABLE, "the store is closing");
    if (s->broken)
        return store_health(s, err);
    if (key.n == 0 || key.n > KEY_MAX || memchr(key.p, '\0', key.n))
        return error_set(err, ERROR_INVALID, "a key must have 1 to %d bytes and no NUL", KEY_MAX);
    if (s->queued_bytes > QUEUE_MAX_BYTES)
        return error_set(err, ERROR_TOO_MANY, "too many writes wait for the disk of the data directory");
    return true;
}

static bool judge(const struct store_write *w, const struct store_object *now, struct error *err)
{
    if (!now && (!w->value || w->if_revision > 0))
        return error_set(err, ERROR_NOT_FOUND, "'" STR_FMT "' not found", STR_ARG(w->key));
    if (now && w->if_revision < 0)
        return error_set(err, ERROR_EXISTS, "'" STR_FMT "' already exists", STR_ARG(w->key));
    if (now && w->if_revision > 0 && now->revision != w->if_revision)
        return error_set(err, ERROR_CONFLICT, "'" STR_FMT "' is at revision %lld, not %lld", STR_ARG(w->key),
                         (long long)now->revision, (long long)w->if_revision);
    return true;
}

static struct store_object *make_object(struct store *s, const struct store_write *w, const struct store_object *now,
                                        struct error *err)
{
    struct object_spec spec = {.key = w->key, .uid = json_str_at(w->value, "metadata/uid"), .form = OBJECT_PLAIN};
    struct store_object *o;

    if (spec.uid.n > UINT8_MAX)
        spec.uid = STR_NONE;
    buf_clear(&s->text);
    s->text.overflow = false;
    if (!object_write_text(w->value, &s->text, &spec.hole, err))
        return NULL;
    spec.body = buf_str(&s->text);
    spec.text_n = (uint32_t)s->text.n;
    spec.revision = s->next_revision + 1;
    spec.id = now ? now->id : spec.revision;
    o = object_new(&spec);
    o->ttl = now && now->ttl;
    return o;
}

static void submit(struct store *s, struct entry *e)
{
    e->epoch = s->epoch;
    s->queued_bytes += e->object->text_n;
    thread_submit(s, e);
}

bool store_put(struct store *s, const struct store_write *w, struct error *err)
{
    struct store_object *now, *o;
    struct entry *e;

    if (!may_write(s, w->key, err))
        return false;
    now = newest(s, w->key);
    if (!judge(w, now, err))
        return false;
    if (now)
        ttl_thaw(now);
    o = w->value ? make_object(s, w, now, err) : object_new_deleted(now, s->next_revision + 1);
    if (!o)
        return false;
    /* What a deletion needs on its way (a time, a finalizer gone) is let through. */
    if (w->value && atomic_load(&s->low) && (!now || o->text_n > now->text_n + SHRINKING_SLACK)) {
        store_object_unref(o);
        return low_space(err);
    }
    s->next_revision++;
    e = NEW(struct entry);
    e->op = !w->value ? ENTRY_DELETE : now ? ENTRY_UPDATE : ENTRY_INSERT;
    e->revision = o->revision;
    e->object = o;
    e->done = w->done;
    e->user = w->user;
    map_set(&s->pending, w->key, e);
    submit(s, e);
    return true;
}

bool store_ttl_set(struct store *s, struct str key, int64_t ttl_ns, struct error *err)
{
    struct store_object *now;
    struct entry *e;

    if (!may_write(s, key, err))
        return false;
    now = newest(s, key);
    if (!now)
        return error_set(err, ERROR_NOT_FOUND, "'" STR_FMT "' not found", STR_ARG(key));
    now->ttl = true;
    e = NEW(struct entry);
    e->op = ENTRY_TTL;
    e->object = store_object_ref(now);
    e->expires_ns = loop_unix_ns(s->loop) + ttl_ns;
    s->ttl.waiting++;
    submit(s, e);
    return true;
}

/* What the store thread has finished. */

static void forget_pending(struct store *s, const struct entry *e)
{
    struct str key = store_object_key(e->object);

    if (map_get(&s->pending, key) == e)
        map_del(&s->pending, key);
}

static void make_visible(struct store *s, struct entry *e)
{
    struct store_object *previous;

    switch (e->op) {
    case ENTRY_TTL:
        s->ttl.waiting--;
        ttl_committed(s, e->expires_ns);
        return;
    case ENTRY_DELETE:
        forget_pending(s, e);
        previous = index_remove(&s->index, store_object_key(e->object));
        if (previous)
            previous->past = true;
        history_add(s, e->object, previous);
        break;
    case ENTRY_INSERT:
    case ENTRY_UPDATE:
        forget_pending(s, e);
        e->compact->ttl = e->object->ttl;
        previous = index_set(&s->index, store_object_ref(e->compact));
        if (previous)
            previous->past = true;
        history_add(s, e->compact, previous);
        break;
    }
    s->revision = e->revision;
    s->stats.writes++;
}

static void end_epoch(struct store *s, struct batch *b)
{
    struct map pending;

    s->broken = s->broken || b->broken;
    error_clear(&s->health);
    error_set(&s->health, b->err.kind, "%s", error_text(&b->err));
    if (b->epoch != s->epoch)
        return;
    log_error(NULL, "store: %s", error_text(&b->err));
    s->epoch++;
    pending = TAKE(s->pending); /* all of it was judged on what has just failed */
    map_done(&pending);
}

static void apply(struct store *s, struct batch *b)
{
    bool failed = b->err.kind != ERROR_NONE;

    if (failed)
        end_epoch(s, b);
    else if (!s->broken)
        error_clear(&s->health);
    list_each(node, &b->entries) {
        struct entry *e = list_entry(node, struct entry, node);

        s->queued_bytes -= e->object->text_n;
        if (!failed)
            make_visible(s, e);
        else if (e->op == ENTRY_TTL)
            s->ttl.waiting--;
    }
}

static void answer(struct batch *b)
{
    bool failed = b->err.kind != ERROR_NONE;

    list_each_safe(node, &b->entries) {
        struct entry *e = list_entry(node, struct entry, node);

        list_remove(node);
        if (e->done && failed)
            e->done(e->user, NULL, &b->err);
        else if (e->done)
            e->done(e->user, e->object, NULL); /* not the compact one: who answers need not unpack it */
        entry_free(e);
    }
    error_clear(&b->err);
    free(b);
}

static void take_finished(struct store *s, struct list *ret)
{
    list_init(ret);
    pthread_mutex_lock(&s->lock);
    list_each_safe(n, &s->finished) {
        list_remove(n);
        list_add_tail(ret, n);
    }
    pthread_mutex_unlock(&s->lock);
}

void store_finish(struct store *s)
{
    struct list batches;

    take_finished(s, &batches);
    /* All of it becomes visible first, so that no callback sees half a batch. */
    list_each(n, &batches) apply(s, list_entry(n, struct batch, node));
    list_each_safe(n, &batches) {
        list_remove(n);
        answer(list_entry(n, struct batch, node));
    }
    if (!s->closing) {
        watch_dispatch(s);
        history_prune(s);
    }
}

void store_stats(const struct store *s, struct store_stats *ret)
{
    static const char *const files[] = {"state.db", "state.db-wal"};
    struct stat st;

    *ret = s->stats;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        ret->file_bytes += fstatat(s->dirfd, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size : 0;
    ret->commits = atomic_load_explicit(&s->commits, memory_order_relaxed);
    ret->bytes_in_memory = object_total_bytes() + s->index.n * sizeof(struct index_leaf)
                           + s->history.cap * sizeof(struct event);
    ret->failed_commits = atomic_load_explicit(&s->failed_commits, memory_order_relaxed);
    ret->low_space = atomic_load(&s->low);
    ret->objects = s->index.objects;
    ret->watchers = s->n_watches;
    ret->history = s->history.n;
    ret->last_fsync_ns = atomic_load_explicit(&s->last_fsync_ns, memory_order_relaxed);
}
