#include "store/impl.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum {
    APPLICATION_ID = 0x76697265, /* "vire" */
    SCHEMA_VERSION = 2, /* 1: sums of key and body only */
    PAGE = 4096,
    GROW = 256 << 10, /* state.db grows by so much at a time */
};

static const char damaged_hint[] = "the database is damaged; put a backup back with `vireo restore FILE` (docs/operations.md, Backup)";

int64_t db_clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return SECONDS(t.tv_sec) + t.tv_nsec;
}

static uLong add_str(uLong sum, struct str s)
{
    return s.n ? crc32(sum, (const Bytef *)s.p, (uInt)s.n) : sum;
}

uint32_t db_sum(const struct object_spec *o)
{
    const int64_t numbers[] = {o->id, o->revision, o->hole, o->text_n,
                               o->form == OBJECT_PLAIN ? -1 : o->form == OBJECT_DICT ? dict_id(o->dict) : 0,
                               (int64_t)o->key.n, (int64_t)o->uid.n};
    uLong sum = add_str(crc32(0, (const Bytef *)numbers, sizeof numbers), o->key);

    return (uint32_t)add_str(add_str(sum, o->uid), o->body);
}

static uint32_t db_sum_1(const struct object_spec *o)
{
    return (uint32_t)add_str(add_str(0, o->key), o->body);
}

static uint32_t dict_sum(int id, struct str kind, struct str bytes)
{
    return (uint32_t)add_str(add_str(crc32(0, (const Bytef *)&id, sizeof id), kind), bytes);
}

static bool is_damage(int rc)
{
    return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
}

bool db_failed(sqlite3 *c, int rc, const char *what, struct error *err)
{
    int errnum = c ? sqlite3_system_errno(c) : 0;

    if (is_damage(rc))
        return error_set(err, ERROR_UNAVAILABLE, "state.db: %s: %s (%s)", what, damaged_hint,
                         c ? sqlite3_errmsg(c) : sqlite3_errstr(rc));
    if ((rc & 0xff) == SQLITE_FULL || errnum == ENOSPC || errnum == EDQUOT)
        return error_set(err, ERROR_UNAVAILABLE, "state.db: %s: no space left on the disk of the data directory", what);
    if (((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN) && errnum)
        return error_set(err, ERROR_UNAVAILABLE, "state.db: %s: %s: %s", what, sqlite3_errstr(rc), strerror(errnum));
    return error_set(err, ERROR_UNAVAILABLE, "state.db: %s: %s", what, c ? sqlite3_errmsg(c) : sqlite3_errstr(rc));
}

static bool run(sqlite3 *c, const char *sql, const char *what, struct error *err)
{
    int rc = sqlite3_exec(c, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK || db_failed(c, rc, what, err);
}

static void finish_stmt(sqlite3_stmt **s)
{
    sqlite3_finalize(*s);
}

static bool prepare(sqlite3 *c, const char *sql, bool lasting, sqlite3_stmt **ret, struct error *err)
{
    int rc = sqlite3_prepare_v3(c, sql, -1, lasting ? SQLITE_PREPARE_PERSISTENT : 0, ret, NULL);

    return rc == SQLITE_OK || db_failed(c, rc, "prepare", err);
}

static bool one_number(sqlite3 *c, const char *sql, int64_t *ret, struct error *err)
{
    AUTO(finish_stmt) sqlite3_stmt *s = NULL;
    int rc;

    if (!prepare(c, sql, false, &s, err))
        return false;
    rc = sqlite3_step(s);
    if (rc != SQLITE_ROW)
        return db_failed(c, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, "read", err);
    *ret = sqlite3_column_int64(s, 0);
    return true;
}

static bool open_connection(int dirfd, int flags, sqlite3 **ret, struct error *err)
{
    char path[64];
    sqlite3 *c = NULL;
    int rc;

    snprintf(path, sizeof path, "/proc/self/fd/%d/state.db", dirfd);
    rc = sqlite3_open_v2(path, &c, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
    if (rc != SQLITE_OK) {
        db_failed(c, rc, "open", err);
        sqlite3_close(c);
        return false;
    }
    sqlite3_extended_result_codes(c, 1);
    sqlite3_busy_timeout(c, 10000); /* an operator's shell may look at the file */
    *ret = c;
    return true;
}

/* The file exists, and only its owner reads it, before SQLite opens it. */
static bool make_file(int dirfd, struct error *err)
{
    AUTO_CLOSE int fd = openat(dirfd, "state.db", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd >= 0 || error_errno(err, errno, "state.db");
}

/* Structure of every page and order of every index; contents have checksums of their own. The thorough check compares indexes
 * with tables, too. */
static bool check_pages(sqlite3 *c, bool thorough, struct error *err)
{
    AUTO(finish_stmt) sqlite3_stmt *s = NULL;
    const char *verdict;
    int rc;

    if (!prepare(c, thorough ? "pragma integrity_check(1)" : "pragma quick_check(1)", false, &s, err))
        return false;
    rc = sqlite3_step(s);
    if (rc != SQLITE_ROW)
        return db_failed(c, rc, "integrity check", err);
    verdict = (const char *)sqlite3_column_text(s, 0);
    if (verdict && strcmp(verdict, "ok") == 0)
        return true;
    return error_set(err, ERROR_INTERNAL, "state.db: %s (%s)", damaged_hint, verdict ? verdict : "no verdict");
}

static const char schema_sql[] =
    "begin immediate;"
    "create table meta(k text primary key, v) without rowid;"
    "create table dict(id integer primary key, kind text not null, v blob not null, sum integer);"
    "create table object(id integer primary key, k text not null unique, rev integer not null, uid text not null,"
    " hole integer not null, size integer not null, dict integer, sum integer not null, expires integer, v blob not null);"
    "create index object_expires on object(expires) where expires is not null;"
    "insert into meta values('revision', 1);"
    "pragma application_id = %d; pragma user_version = %d;"
    "commit";

static bool make_schema(sqlite3 *c, bool read_only, int64_t *ret_version, struct error *err)
{
    int64_t id = 0;
    char sql[sizeof schema_sql + 32];

    if (!one_number(c, "pragma application_id", &id, err) || !one_number(c, "pragma user_version", ret_version, err))
        return false;
    if (id == 0 && *ret_version == 0) {
        int64_t tables;

        if (!one_number(c, "select count(*) from sqlite_schema", &tables, err))
            return false;
        if (tables > 0)
            return error_set(err, ERROR_INVALID, "state.db: this is a database of some other program");
        if (read_only)
            return error_set(err, ERROR_NOT_FOUND, "state.db: the database is empty");
        snprintf(sql, sizeof sql, schema_sql, APPLICATION_ID, SCHEMA_VERSION);
        *ret_version = SCHEMA_VERSION;
        return run(c, sql, "create schema", err);
    }
    if (id != APPLICATION_ID)
        return error_set(err, ERROR_INVALID, "state.db: this is a database of some other program (application id 0x%08llx)",
                         (unsigned long long)id & 0xffffffff);
    if (*ret_version < 1 || *ret_version > SCHEMA_VERSION)
        return error_set(err, ERROR_INVALID,
                         "state.db: written by %s release (schema %lld, this one knows 1 to %d); run that release, or restore a"
                         " backup of this one with `vireo restore FILE`",
                         *ret_version < 1 ? "no" : "a newer", (long long)*ret_version, SCHEMA_VERSION);
    return true;
}

static struct str column_str(sqlite3_stmt *s, int i)
{
    const void *p = sqlite3_column_blob(s, i);
    int n = sqlite3_column_bytes(s, i);

    return p ? str_n(p, (size_t)n) : STR("");
}

static bool load_dicts(sqlite3 *c, const struct db_load *load, int64_t version, struct error *err)
{
    AUTO(finish_stmt) sqlite3_stmt *s = NULL;
    int rc;

    if (!prepare(c, version < 2 ? "select id, kind, v, null from dict order by id" : "select id, kind, v, sum from dict order by id", false,
                 &s, err))
        return false;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        int id = sqlite3_column_int(s, 0);
        struct str kind = column_str(s, 1), bytes = column_str(s, 2);

        if (version >= 2 && sqlite3_column_int64(s, 3) != (int64_t)dict_sum(id, kind, bytes))
            return error_set(err, ERROR_INTERNAL, "state.db: dictionary %d of '" STR_FMT "': %s (checksum)", id, STR_ARG(kind), damaged_hint);
        load->add_dict(load->user, id, kind, bytes);
    }
    return rc == SQLITE_DONE || db_failed(c, rc, "read dictionaries", err);
}

static bool bad_row(const struct object_spec *o, const char *why, struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "state.db: object '" STR_FMT "' (row %lld): %s (%s)", STR_ARG(o->key), (long long)o->id,
                     damaged_hint, why);
}

enum { COLUMN_ID, COLUMN_KEY, COLUMN_REV, COLUMN_UID, COLUMN_HOLE, COLUMN_SIZE, COLUMN_DICT, COLUMN_SUM, COLUMN_EXPIRES, COLUMN_BODY,
       COLUMN_BODY_N };

static bool load_row(sqlite3_stmt *s, const struct db_load *load, int64_t newest, int64_t version, struct error *err)
{
    struct object_spec spec = {.id = sqlite3_column_int64(s, COLUMN_ID), .key = column_str(s, COLUMN_KEY),
        .revision = sqlite3_column_int64(s, COLUMN_REV), .uid = column_str(s, COLUMN_UID), .form = OBJECT_PLAIN};
    int64_t hole = sqlite3_column_int64(s, COLUMN_HOLE), size = sqlite3_column_int64(s, COLUMN_SIZE);
    bool coded = sqlite3_column_type(s, COLUMN_DICT) != SQLITE_NULL;
    bool ttl = sqlite3_column_type(s, COLUMN_EXPIRES) != SQLITE_NULL;
    int64_t body_n = sqlite3_column_int64(s, COLUMN_BODY_N);
    int dict = sqlite3_column_int(s, COLUMN_DICT);

    spec.body = column_str(s, COLUMN_BODY);
    if (coded)
        spec.form = dict ? OBJECT_DICT : OBJECT_ZSTD;
    if (coded && dict)
        spec.dict = load->dict(load->user, dict);
    if (spec.key.n == 0 || spec.key.n > UINT16_MAX || spec.uid.n > UINT8_MAX || spec.revision <= 0)
        return bad_row(&spec, "no possible key, uid or revision", err);
    if (spec.revision > newest) {
        AUTO_FREE char *why = xasprintf("its revision %lld is above the database's, %lld", (long long)spec.revision, (long long)newest);

        return bad_row(&spec, why, err);
    }
    if (size <= 0 || size > (int64_t)LIMIT_OBJECT_BYTES || hole <= 0 || hole >= size || body_n <= 0 || body_n > size)
        return bad_row(&spec, "impossible sizes", err);
    if (coded && dict && !spec.dict)
        return bad_row(&spec, "its dictionary is missing or unreadable", err);
    spec.hole = (uint32_t)hole;
    spec.text_n = (uint32_t)size;
    if ((!ttl || load->whole) && sqlite3_column_int64(s, COLUMN_SUM) != (int64_t)(version < 2 ? db_sum_1(&spec) : db_sum(&spec)))
        return bad_row(&spec, "checksum", err);
    return load->row(load->user, &spec, (size_t)body_n, ttl, err);
}

static bool load_rows(sqlite3 *c, const struct db_load *load, int64_t newest, int64_t version, struct error *err)
{
    AUTO(finish_stmt) sqlite3_stmt *s = NULL;
    int rc;

    /* What expires stays in the file; only its length is read. */
    if (!prepare(c, load->whole ? "select id, k, rev, uid, hole, size, dict, sum, expires, v, length(v) from object"
                                : "select id, k, rev, uid, hole, size, dict, sum, expires,"
                                  " case when expires is null then v end, length(v) from object", false, &s, err))
        return false;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        if (!load_row(s, load, newest, version, err))
            return false;
    return rc == SQLITE_DONE || db_failed(c, rc, "read objects", err);
}

bool db_read(sqlite3 *c, const struct db_load *load, bool read_only, int64_t *ret_version, int64_t *ret_revision, struct error *err)
{
    if (!make_schema(c, read_only, ret_version, err) || !check_pages(c, load->whole, err)
        || !one_number(c, "select v from meta where k='revision'", ret_revision, err))
        return false;
    if (*ret_revision <= 0)
        return error_set(err, ERROR_INTERNAL, "state.db: revision %lld: %s", (long long)*ret_revision, damaged_hint);
    return load_dicts(c, load, *ret_version, err) && load_rows(c, load, *ret_revision, *ret_version, err);
}

/* Schema 1 to 2: sums that cover the whole row. What is there has just been read by the old ones. */
static void sum_2(sqlite3_context *x, int n, sqlite3_value **v)
{
    struct object_spec o = {.id = sqlite3_value_int64(v[0]), .revision = sqlite3_value_int64(v[2]),
        .hole = (uint32_t)sqlite3_value_int64(v[4]), .text_n = (uint32_t)sqlite3_value_int64(v[5])};
    struct dict *dict = NULL;
    int id = sqlite3_value_int(v[6]);

    (void)n;
    o.key = str_n(sqlite3_value_blob(v[1]), (size_t)sqlite3_value_bytes(v[1]));
    o.uid = str_n(sqlite3_value_blob(v[3]), (size_t)sqlite3_value_bytes(v[3]));
    o.body = str_n(sqlite3_value_blob(v[7]), (size_t)sqlite3_value_bytes(v[7]));
    if (sqlite3_value_type(v[6]) != SQLITE_NULL) {
        const struct db_load *load = sqlite3_user_data(x);

        dict = id ? load->dict(load->user, id) : NULL;
        o.form = dict ? OBJECT_DICT : OBJECT_ZSTD;
        o.dict = dict;
    }
    sqlite3_result_int64(x, db_sum(&o));
}

static void sum_dict_2(sqlite3_context *x, int n, sqlite3_value **v)
{
    (void)n;
    sqlite3_result_int64(x, dict_sum(sqlite3_value_int(v[0]), str_n(sqlite3_value_blob(v[1]), (size_t)sqlite3_value_bytes(v[1])),
                                     str_n(sqlite3_value_blob(v[2]), (size_t)sqlite3_value_bytes(v[2]))));
}

static bool upgrade(sqlite3 *c, const struct db_load *load, struct error *err)
{
    sqlite3_create_function(c, "sum_2", 8, SQLITE_UTF8, (void *)(uintptr_t)load, sum_2, NULL, NULL);
    sqlite3_create_function(c, "sum_dict_2", 3, SQLITE_UTF8, NULL, sum_dict_2, NULL, NULL);
    return run(c, "begin immediate; alter table dict add column sum integer; update dict set sum=sum_dict_2(id, kind, v);"
                  "update object set sum=sum_2(id, k, rev, uid, hole, size, dict, v); pragma user_version=2; commit", "upgrade", err);
}

static bool prepare_writes(struct db *d, struct error *err)
{
    return prepare(d->c, "begin immediate", true, &d->begin, err)
        && prepare(d->c, "commit", true, &d->commit, err)
        && prepare(d->c, "rollback", true, &d->rollback, err)
        && prepare(d->c, "insert into object(id, k, rev, uid, hole, size, dict, sum, v) values(?,?,?,?,?,?,?,?,?)", true,
                   &d->insert, err)
        && prepare(d->c, "update object set rev=?3, uid=?4, hole=?5, size=?6, dict=?7, sum=?8, v=?9 where id=?1 and k=?2",
                   true, &d->update, err)
        && prepare(d->c, "delete from object where id=?", true, &d->remove, err)
        && prepare(d->c, "update object set expires=? where id=?", true, &d->ttl, err)
        && prepare(d->c, "update meta set v=? where k='revision'", true, &d->revision, err)
        && prepare(d->c, "select v from meta where k='revision'", true, &d->read_revision, err)
        && prepare(d->c, "pragma page_count", true, &d->pages, err);
}

static bool open_all(struct db *d, int dirfd, bool read_only, const struct db_load *load, struct error *err)
{
    int64_t version;

    if (!read_only && !make_file(dirfd, err))
        return false;
    if (!open_connection(dirfd, read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, &d->c, err))
        return false;
    if (!run(d->c, "pragma cache_size=-2048; pragma temp_store=memory; pragma cell_size_check=on; pragma synchronous=full", "open", err)
        || !make_schema(d->c, read_only, &version, err)) /* before anything is written to what may be somebody else's */
        return false;
    if (!read_only && !run(d->c, "pragma journal_mode=wal; pragma wal_autocheckpoint=0; pragma journal_size_limit=16777216", "open", err))
        return false;
    if (!db_read(d->c, load, read_only, &version, &d->durable, err))
        return false;
    return read_only || ((version == SCHEMA_VERSION || upgrade(d->c, load, err)) && prepare_writes(d, err));
}

/* What a killed process left was perhaps only on its way to the disk. SQLite takes its log as it finds it: transactions
 * that were written and not flushed count, and the name of a log that somebody else made is never flushed. Both would be
 * served from here on, and be gone after a power cut. (state.db itself is not opened beside SQLite: closing
 * it would drop SQLite's locks. Its pages are written again from the log.) */
bool db_sync_files(int dirfd, struct error *err)
{
    AUTO_CLOSE int wal = openat(dirfd, "state.db-wal", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (wal < 0 && errno != ENOENT)
        return error_errno(err, errno, "state.db-wal");
    if (wal >= 0 && fsync(wal) != 0)
        return error_errno(err, errno, "state.db-wal: flush");
    return fsync(dirfd) == 0 || error_errno(err, errno, "data directory: flush");
}

static int count_wal(void *arg, sqlite3 *c, const char *name, int pages)
{
    (void)c;
    (void)name;
    ((struct db *)arg)->wal_pages = pages;
    return SQLITE_OK;
}

bool db_open(struct db *d, int dirfd, bool read_only, const struct db_load *load, struct error *err)
{
    int grow = GROW;

    if (!open_all(d, dirfd, read_only, load, err)) {
        db_close(d);
        return false;
    }
    sqlite3_wal_hook(d->c, count_wal, d);
    sqlite3_file_control(d->c, "main", SQLITE_FCNTL_CHUNK_SIZE, &grow);
    return true;
}

bool db_open_reader(int dirfd, sqlite3 **ret, struct error *err)
{
    AUTO(error_clear) struct error ignored = {0};

    if (!open_connection(dirfd, SQLITE_OPEN_READONLY, ret, err))
        return false;
    (void)run(*ret, "pragma cache_size=-256", "open", &ignored);
    return true;
}

/* The running server's, or one that no server has. Whoever closes it last must not tidy up: it is only looked at. */
bool db_open_live(int dirfd, sqlite3 **ret, struct error *err)
{
    if (!open_connection(dirfd, SQLITE_OPEN_READWRITE, ret, err))
        return false;
    sqlite3_db_config(*ret, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return true;
}

void db_close(struct db *d)
{
    sqlite3_stmt **all[] = {&d->begin, &d->commit, &d->rollback, &d->insert, &d->update, &d->remove, &d->ttl,
                            &d->revision, &d->read_revision, &d->pages};

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        sqlite3_finalize(*all[i]);
        *all[i] = NULL;
    }
    /* On a full disk log and index stay where they are: the next start would have no room to make them again. */
    if (d->c && d->keep_log)
        sqlite3_db_config(d->c, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(d->c);
    d->c = NULL;
}

/* Committing. */

static bool step(struct db *d, sqlite3_stmt *s, const char *what, struct error *err)
{
    int rc = sqlite3_step(s);

    if (rc != SQLITE_DONE && rc != SQLITE_ROW) {
        int errnum = sqlite3_system_errno(d->c);

        db_failed(d->c, rc, what, err);
        d->full = (rc & 0xff) == SQLITE_FULL || ((rc & 0xff) == SQLITE_IOERR && (errnum == ENOSPC || errnum == EDQUOT));
        d->broken = d->broken || is_damage(rc);
    }
    sqlite3_reset(s);
    return rc == SQLITE_DONE || rc == SQLITE_ROW;
}

static bool write_object(struct db *d, const struct entry *e, struct error *err)
{
    sqlite3_stmt *s = e->op == ENTRY_INSERT ? d->insert : d->update;
    const struct store_object *o = e->compact;
    struct object_spec spec = {.id = o->id, .key = store_object_key(o), .revision = o->revision, .uid = store_object_uid(o),
        .hole = o->hole, .text_n = o->text_n};
    bool ok;

    spec.body = object_body(o, &spec.form, &spec.dict);
    sqlite3_bind_int64(s, 1, spec.id);
    sqlite3_bind_text(s, 2, spec.key.p, (int)spec.key.n, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, spec.revision);
    sqlite3_bind_text(s, 4, spec.uid.p, (int)spec.uid.n, SQLITE_STATIC);
    sqlite3_bind_int64(s, 5, spec.hole);
    sqlite3_bind_int64(s, 6, spec.text_n);
    if (spec.form == OBJECT_PLAIN)
        sqlite3_bind_null(s, 7);
    else
        sqlite3_bind_int(s, 7, spec.dict ? dict_id(spec.dict) : 0);
    sqlite3_bind_int64(s, 8, db_sum(&spec));
    sqlite3_bind_blob(s, 9, spec.body.p, (int)spec.body.n, SQLITE_STATIC);
    ok = step(d, s, "write", err);
    sqlite3_clear_bindings(s);
    return ok;
}

static bool write_entry(struct db *d, const struct entry *e, struct error *err)
{
    bool ok = true;

    switch (e->op) {
    case ENTRY_INSERT:
    case ENTRY_UPDATE:
        ok = write_object(d, e, err);
        break;
    case ENTRY_DELETE:
        sqlite3_bind_int64(d->remove, 1, e->object->id);
        ok = step(d, d->remove, "delete", err);
        break;
    case ENTRY_TTL:
        sqlite3_bind_int64(d->ttl, 1, e->expires_ns);
        sqlite3_bind_int64(d->ttl, 2, e->object->id);
        return step(d, d->ttl, "write", err); /* the row may be gone already */
    }
    if (ok && sqlite3_changes(d->c) != 1) {
        struct str key = store_object_key(e->object);

        d->broken = true;
        return error_set(err, ERROR_UNAVAILABLE, "state.db: '" STR_FMT "' has no row: %s", STR_ARG(key), damaged_hint);
    }
    return ok;
}

/* After a failed commit the file must still be at the last revision that was acknowledged; it is looked up before
 * anything else is written. */
static bool make_sure(struct db *d, struct error *err)
{
    int rc;
    int64_t held;

    if (!d->unsure)
        return true;
    if (!sqlite3_get_autocommit(d->c) && !step(d, d->rollback, "roll back", err))
        return false;
    rc = sqlite3_step(d->read_revision);
    held = rc == SQLITE_ROW ? sqlite3_column_int64(d->read_revision, 0) : 0;
    sqlite3_reset(d->read_revision);
    if (rc != SQLITE_ROW)
        return db_failed(d->c, rc, "read back after a failed write", err);
    if (held != d->durable) {
        d->broken = true;
        return error_set(err, ERROR_UNAVAILABLE, "state.db: a write that failed took place nevertheless (revision %lld,"
                         " expected %lld); restart to go on", (long long)held, (long long)d->durable);
    }
    d->unsure = false;
    return true;
}

/* The log empties into state.db, which may have to grow for it. That must not fail when the disk is full: the log would
 * only grow, and deletions with it, until no reserve suffices. So the room is taken before a commit is answered. */
static bool take_room(struct db *d, struct error *err)
{
    int64_t size = 0;
    int rc = sqlite3_step(d->pages);

    if (rc == SQLITE_ROW)
        size = sqlite3_column_int64(d->pages, 0) * PAGE;
    sqlite3_reset(d->pages);
    if (rc != SQLITE_ROW)
        return db_failed(d->c, rc, "count pages", err);
    rc = sqlite3_file_control(d->c, "main", SQLITE_FCNTL_SIZE_HINT, &size);
    if (rc == SQLITE_OK || rc == SQLITE_NOTFOUND)
        return true;
    d->full = true; /* whatever else hinders it, a commit will meet, too */
    return error_set(err, ERROR_UNAVAILABLE, "state.db: grow: no space left on the disk of the data directory");
}

static bool write_batch(struct db *d, struct list *entries, int64_t *ret_revision, struct error *err)
{
    int64_t newest = d->durable;

    if (!make_sure(d, err) || !step(d, d->begin, "begin", err))
        return false;
    list_each(n, entries) {
        const struct entry *e = list_entry(n, struct entry, node);

        if (!write_entry(d, e, err))
            return false;
        if (e->revision > newest)
            newest = e->revision;
    }
    sqlite3_bind_int64(d->revision, 1, newest);
    if (!step(d, d->revision, "write", err) || !take_room(d, err) || !step(d, d->commit, "commit", err))
        return false;
    *ret_revision = newest;
    return true;
}

bool db_commit(struct db *d, struct batch *b)
{
    AUTO(error_clear) struct error ignored = {0};
    bool full;

    d->full = false;
    if (d->broken)
        error_set(&b->err, ERROR_UNAVAILABLE, "state.db: read-only since it failed before; restart");
    else if (write_batch(d, &b->entries, &d->durable, &b->err))
        return true;
    full = d->full;
    if (!sqlite3_get_autocommit(d->c))
        (void)step(d, d->rollback, "roll back", &ignored);
    d->full = full;
    d->unsure = true;
    b->broken = d->broken;
    return false;
}

bool db_probe(struct db *d, struct error *err)
{
    struct batch b = {0};

    list_init(&b.entries);
    return db_commit(d, &b) || error_move(err, &b.err);
}

bool db_checkpoint(struct db *d, struct error *err)
{
    int rc = sqlite3_wal_checkpoint_v2(d->c, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

    if (rc != SQLITE_OK && rc != SQLITE_BUSY)
        return db_failed(d->c, rc, "checkpoint", err);
    d->wal_pages = 0;
    return true;
}

bool db_add_dict(struct db *d, int id, struct str kind, struct str bytes, struct error *err)
{
    AUTO(finish_stmt) sqlite3_stmt *s = NULL;
    int rc;

    if (!prepare(d->c, "insert into dict(id, kind, v, sum) values(?,?,?,?)", false, &s, err))
        return false;
    sqlite3_bind_int(s, 1, id);
    sqlite3_bind_text(s, 2, kind.p, (int)kind.n, SQLITE_STATIC);
    sqlite3_bind_blob(s, 3, bytes.p, (int)bytes.n, SQLITE_STATIC);
    sqlite3_bind_int64(s, 4, dict_sum(id, kind, bytes));
    rc = sqlite3_step(s);
    return rc == SQLITE_DONE || db_failed(d->c, rc, "store a dictionary", err);
}
