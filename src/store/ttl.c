/* Objects with a time to live. They are events of the cluster, many and seldom read: once history does not need
 * their bytes any more, only a stub stays in memory and the bytes are read from the row. A stub gets its bytes
 * back (ttl_thaw) before the row changes, so whoever still holds it can read it for ever. */
#include "store/impl.h"
#include "base/log.h"
#include <sqlite3.h>

enum { DELETES_AT_ONCE = 500 };

static void due(struct loop_timer *t);

static void arm(struct store *s, int64_t in_ns)
{
    struct ttl *t = &s->ttl;

    if (s->read_only || s->closing)
        return;
    if (in_ns < MILLIS(10))
        in_ns = MILLIS(10);
    if (!loop_timer_active(&t->timer) || t->timer.due_ns > loop_now_ns(s->loop) + in_ns)
        loop_timer_start(s->loop, &t->timer, in_ns, due);
}

void ttl_committed(struct store *s, int64_t expires_ns)
{
    arm(s, expires_ns - loop_unix_ns(s->loop));
}

/* Wall clocks jump: however far the next one is, look again within a minute. */
static void arm_next(struct store *s)
{
    sqlite3_stmt *q = s->ttl.next;
    int64_t in = -1;

    if (sqlite3_step(q) == SQLITE_ROW && sqlite3_column_type(q, 0) != SQLITE_NULL) {
        in = sqlite3_column_int64(q, 0) - loop_unix_ns(s->loop);
        if (in > SECONDS(60))
            in = SECONDS(60);
        if (in < 0)
            in = 0;
    }
    sqlite3_reset(q);
    if (in >= 0)
        arm(s, in);
}

static void expire(struct store *s, struct str key, int64_t revision)
{
    AUTO(error_clear) struct error err = {0};
    const struct store_object *o = index_find(&s->index, key);
    const struct store_write w = {.key = key, .if_revision = revision};

    if (!o || o->revision != revision || map_get(&s->pending, key))
        return; /* it is being written: its time may have been set anew */
    if (!store_put(s, &w, &err))
        log_debug(NULL, "store: '" STR_FMT "' not expired now: %s", STR_ARG(key), error_text(&err));
}

static void due(struct loop_timer *timer)
{
    struct store *s = container_of(container_of(timer, struct ttl, timer), struct store, ttl);
    sqlite3_stmt *q = s->ttl.due;
    struct arena a = {0};
    VEC(struct { struct str key; int64_t revision; }) gone = {0};

    if (s->ttl.waiting > 0 || s->broken) {
        arm(s, s->broken ? SECONDS(60) : MILLIS(100));
        return;
    }
    sqlite3_bind_int64(q, 1, loop_unix_ns(s->loop));
    sqlite3_bind_int(q, 2, DELETES_AT_ONCE);
    while (sqlite3_step(q) == SQLITE_ROW) {
        const char *k = (const char *)sqlite3_column_text(q, 0);

        vec_reserve(&gone, gone.n + 1);
        gone.p[gone.n].key = arena_str(&a, str_n(k ? k : "", (size_t)sqlite3_column_bytes(q, 0)));
        gone.p[gone.n++].revision = sqlite3_column_int64(q, 1);
    }
    sqlite3_reset(q);
    for (size_t i = 0; i < gone.n; i++)
        expire(s, gone.p[i].key, gone.p[i].revision);
    if (gone.n > 0)
        arm(s, MILLIS(200)); /* until these are flushed they would only be found again */
    else
        arm_next(s);
    vec_done(&gone);
    arena_done(&a);
}

bool ttl_start(struct store *s, struct error *err)
{
    struct ttl *t = &s->ttl;
    static const struct {
        const char *sql;
        size_t offset;
    } all[] = {
        {"select v, sum from object where id=? and rev=?", offsetof(struct ttl, body)},
        {"select k, rev from object where expires <= ? order by expires limit ?", offsetof(struct ttl, due)},
        {"select min(expires) from object where expires is not null", offsetof(struct ttl, next)},
    };

    if (!db_open_reader(s->dirfd, &t->c, err))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        sqlite3_stmt **stmt = (sqlite3_stmt **)(void *)((char *)t + all[i].offset);
        int rc = sqlite3_prepare_v3(t->c, all[i].sql, -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);

        if (rc != SQLITE_OK)
            return db_failed(t->c, rc, "prepare", err);
    }
    arm_next(s);
    return true;
}

void ttl_stop(struct store *s)
{
    struct ttl *t = &s->ttl;

    loop_timer_stop(&t->timer);
    list_each_safe(n, &s->cold) {
        struct object_cold *c = list_entry(n, struct object_cold, node);

        list_remove(n);
        c->s = NULL;
    }
    sqlite3_finalize(t->body);
    sqlite3_finalize(t->due);
    sqlite3_finalize(t->next);
    sqlite3_close(t->c);
}

static bool read_row(const struct store_object *o, struct buf *ret)
{
    struct store *s = object_cold(o)->s;
    sqlite3_stmt *q = s->ttl.body;
    bool ok = false;

    sqlite3_bind_int64(q, 1, o->id);
    sqlite3_bind_int64(q, 2, o->revision);
    if (sqlite3_step(q) == SQLITE_ROW) {
        struct str body = str_n(sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0));

        const struct object_cold *c = object_cold(o);
        const struct object_spec spec = {.key = store_object_key(o), .uid = store_object_uid(o), .body = body, .dict = c->dict,
            .form = (enum object_form)c->form, .hole = o->hole, .text_n = o->text_n, .revision = o->revision, .id = o->id};

        ok = body.n == o->body_n && db_sum(&spec) == (uint32_t)sqlite3_column_int64(q, 1);
        if (ok)
            buf_addstr(ret, body);
    }
    sqlite3_reset(q);
    return ok;
}

bool ttl_read(const struct store_object *o, struct buf *ret)
{
    const struct object_cold *c = object_cold(o);

    if (c->body) {
        buf_add(ret, c->body, o->body_n);
        return true;
    }
    return c->s && read_row(o, ret);
}

void ttl_thaw(struct store_object *o)
{
    AUTO(buf_done) struct buf body = {0};
    struct object_cold *c;

    if (o->form != OBJECT_COLD)
        return;
    c = object_cold(o);
    if (!c->body && c->s && read_row(o, &body))
        c->body = xmemdup(body.p, body.n);
}

void ttl_freeze(struct store *s, struct store_object *o)
{
    struct str key = store_object_key(o);
    struct store_object *cold;
    struct object_spec spec = {.key = key, .uid = store_object_uid(o), .hole = o->hole, .text_n = o->text_n,
        .revision = o->revision, .id = o->id};

    /* Only the newest state is in the row, and while a write is under way the row is about to change. */
    if (s->closing || o->form == OBJECT_COLD || index_find(&s->index, key) != o || map_get(&s->pending, key))
        return;
    (void)object_body(o, &spec.form, &spec.dict);
    cold = object_new_cold(s, &spec, o->body_n);
    struct store_object *was = index_set(&s->index, cold);

    was->past = true;
    store_object_unref(was);
}
