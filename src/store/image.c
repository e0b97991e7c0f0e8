#include "store/image.h"
#include "base/file.h"
#include "store/archive.h"
#include "store/impl.h"
#include <errno.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_db(sqlite3 **c)
{
    sqlite3_close(*c);
}

struct check {
    struct kinds *kinds;
    int64_t objects;
};

static void check_done(struct check *c)
{
    kinds_free(c->kinds);
}

static struct dict *find_dict(void *user, int id)
{
    return kinds_by_id(((struct check *)user)->kinds, id);
}

static void add_dict(void *user, int id, struct str kind, struct str bytes)
{
    kinds_add(((struct check *)user)->kinds, id, kind, bytes);
}

/* What the checksum covers may still be no object: then it was written so, and it must not be handed to anybody. */
static bool check_row(void *user, const struct object_spec *spec, size_t body_n, bool ttl,
                      struct error *err)
{
    struct check *c = user;
    AUTO(arena_done) struct arena a = {0};
    struct store_object *o = object_new(spec);
    char *text = arena_alloc_bytes(&a, object_text_max(o) + 1);
    const struct json *v;
    size_t n = object_fill(o, text);
    bool ok = n > 2 && json_parse(str_n(text, n), &a, &v, err);

    (void)body_n;
    (void)ttl;
    store_object_unref(o);
    c->objects++;
    if (ok)
        return true;
    return error_set(err, ERROR_INTERNAL,
                     "state.db: object '" STR_FMT "' (row %lld) cannot be read back",
                     STR_ARG(spec->key), (long long)spec->id);
}

static bool check(sqlite3 *c, struct store_image *ret, struct error *err)
{
    AUTO(check_done) struct check k = {.kinds = kinds_new()};
    const struct db_load load = {
        .whole = true, .row = check_row, .dict = find_dict, .add_dict = add_dict, .user = &k};

    if (!db_read(c, &load, true, &ret->schema, &ret->revision, err))
        return false;
    ret->objects = k.objects;
    return true;
}

static bool memory(sqlite3 **ret, struct error *err)
{
    sqlite3_int64 limit = ARCHIVE_DATABASE_MAX;
    int rc = sqlite3_open_v2("image", ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "memdb");

    if (rc != SQLITE_OK)
        return db_failed(*ret, rc, "memory", err);
    sqlite3_file_control(*ret, "main", SQLITE_FCNTL_SIZE_LIMIT, &limit);
    sqlite3_extended_result_codes(*ret, 1);
    return true;
}

/* A copy says that it has a log beside it, as the original has. It has none: bytes 18 and 19 of its head say how it is kept. */
static void without_log(unsigned char *p, sqlite3_int64 n)
{
    if (n > 20 && p[18] == 2 && p[19] == 2)
        p[18] = p[19] = 1;
}

static bool put_out(sqlite3 *c, int to_fd, struct store_image *ret, struct error *err)
{
    sqlite3_int64 n = 0;
    unsigned char *p = sqlite3_serialize(c, "main", &n, SQLITE_SERIALIZE_NOCOPY);

    if (!p || n <= 0)
        return error_set(err, ERROR_INTERNAL, "state.db: the copy cannot be read back");
    without_log(p, n);
    for (sqlite3_int64 at = 0; at < n;) {
        size_t part = n - at > (1 << 20) ? 1 << 20 : (size_t)(n - at);

        if (!file_write_all(to_fd, str_n((const char *)p + at, part), err))
            return false;
        at += (sqlite3_int64)part;
    }
    ret->bytes = n;
    return true;
}

bool store_image_take(int dirfd, int to_fd, struct store_image *ret, struct error *err)
{
    AUTO(close_db) sqlite3 *from = NULL, *to = NULL;
    sqlite3_backup *b;
    int rc;

    if (faccessat(dirfd, "state.db", F_OK, 0) != 0)
        return error_errno(err, errno, "state.db");
    if (!db_open_live(dirfd, &from, err) || !memory(&to, err))
        return false;
    b = sqlite3_backup_init(to, "main", from, "main");
    if (!b)
        return db_failed(to, sqlite3_errcode(to), "copy", err);
    rc = sqlite3_backup_step(b, -1); /* in one transaction: writers go on in the log */
    (void)sqlite3_backup_finish(b);
    if (rc != SQLITE_DONE)
        return db_failed(NULL, rc, "copy", err);
    /* It is checked as it was written: the connection that copied has pages of its own in mind. */
    return put_out(to, to_fd, ret, err) && store_image_check(to_fd, ret, err);
}

static bool load_image(int fd, sqlite3 **ret, struct error *err)
{
    struct stat st;
    unsigned char *p;
    int rc;

    if (fstat(fd, &st) != 0)
        return error_errno(err, errno, "state.db");
    if (st.st_size < 512 || st.st_size > ARCHIVE_DATABASE_MAX)
        return error_set(err, ERROR_INVALID, "state.db: %lld bytes are no database",
                         (long long)st.st_size);
    p = sqlite3_malloc64((sqlite3_uint64)st.st_size);
    if (!p)
        return error_set(err, ERROR_UNAVAILABLE, "state.db: not enough memory for %lld bytes",
                         (long long)st.st_size);
    for (off_t at = 0; at < st.st_size;) {
        ssize_t n = pread(fd, p + at, (size_t)(st.st_size - at), at);

        if (n <= 0) {
            sqlite3_free(p);
            return n < 0 ? error_errno(err, errno, "state.db")
                         : error_set(err, ERROR_INVALID, "state.db: became shorter");
        }
        at += n;
    }
    without_log(p, st.st_size);
    rc = sqlite3_open_v2(":memory:", ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_deserialize(*ret, "main", p, st.st_size, st.st_size,
                                 SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE);
    else
        sqlite3_free(p);
    return rc == SQLITE_OK || db_failed(*ret, rc, "read", err);
}

bool store_image_check(int fd, struct store_image *ret, struct error *err)
{
    AUTO(close_db) sqlite3 *c = NULL;
    struct stat st;

    if (!load_image(fd, &c, err) || !check(c, ret, err))
        return false;
    ret->bytes = fstat(fd, &st) == 0 ? st.st_size : 0;
    return true;
}

bool store_image_raise(int fd, int64_t revision, int to_fd, struct store_image *ret,
                       struct error *err)
{
    AUTO(close_db) sqlite3 *c = NULL;
    char sql[128];
    int rc;

    if (!load_image(fd, &c, err) || !check(c, ret, err))
        return false;
    if (revision > ret->revision)
        ret->revision = revision;
    snprintf(sql, sizeof sql, "update meta set v=%lld where k='revision'",
             (long long)ret->revision);
    rc = sqlite3_exec(c, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? put_out(c, to_fd, ret, err)
                           : db_failed(c, rc, "set the revision", err);
}
