#include "store/impl.h"
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

enum { PAGES_PER_STEP = 512 }; /* writes wait for no more than this */

static bool start(struct db *d, struct backup *b)
{
    AUTO_CLOSE int fd = -1;
    char path[512];
    int rc;

    /* Copied beside its place and renamed when complete: what has the name is a whole backup. */
    if (unlinkat(b->dirfd, b->part, 0) != 0 && errno != ENOENT)
        return error_errno(&b->err, errno, "%s", b->part);
    fd = openat(b->dirfd, b->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(&b->err, errno, "%s", b->part);
    b->made = true;
    fd_close(&fd); /* before SQLite holds locks on the file */
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", b->dirfd, b->part);
    rc = sqlite3_open_v2(path, &b->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(b->to, "pragma journal_mode=off; pragma synchronous=off", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return error_set(&b->err, ERROR_UNAVAILABLE, "%s: %s", b->part, sqlite3_errmsg(b->to));
    b->b = sqlite3_backup_init(b->to, "main", d->c, "main");
    return b->b || error_set(&b->err, ERROR_UNAVAILABLE, "%s: %s", b->part, sqlite3_errmsg(b->to));
}

/* Off the copy's own connection and onto the disk under its name. */
static bool land(struct backup *b)
{
    AUTO_CLOSE int fd = -1;
    int rc = sqlite3_backup_finish(b->b);

    b->b = NULL;
    if (rc != SQLITE_OK)
        return error_set(&b->err, ERROR_UNAVAILABLE, "%s: %s", b->part, sqlite3_errmsg(b->to));
    rc = sqlite3_close(b->to);
    b->to = NULL;
    if (rc != SQLITE_OK)
        return error_set(&b->err, ERROR_UNAVAILABLE, "%s: %s", b->part, sqlite3_errstr(rc));
    fd = openat(b->dirfd, b->part, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fsync(fd) != 0)
        return error_errno(&b->err, errno, "%s", b->part);
    if (renameat(b->dirfd, b->part, b->dirfd, b->name) != 0 || fsync(b->dirfd) != 0)
        return error_errno(&b->err, errno, "%s", b->name);
    return true;
}

bool backup_step(struct db *d, struct backup *b)
{
    int rc;

    if (b->err.kind != ERROR_NONE || (!b->b && !start(d, b)))
        return false;
    rc = sqlite3_backup_step(b->b, PAGES_PER_STEP);
    if (rc == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
        return true;
    if (rc != SQLITE_DONE)
        error_set(&b->err, ERROR_UNAVAILABLE, "%s: %s", b->part, sqlite3_errstr(rc));
    else
        (void)land(b);
    return false;
}

void backup_free(struct backup *b)
{
    if (b->b)
        (void)sqlite3_backup_finish(b->b);
    sqlite3_close(b->to);
    if (b->made && b->err.kind != ERROR_NONE)
        (void)unlinkat(b->dirfd, b->part, 0);
    fd_close(&b->dirfd);
    free(b->name);
    free(b->part);
    error_clear(&b->err);
    free(b);
}
