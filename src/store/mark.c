/* The lock file says how far writes were acknowledged: a line of fixed length, written over after each commit and
 * never flushed. Whatever of these lines a power cut leaves is one that was true, so the database has to be at least
 * there; after a kill it is exact. SQLite by itself takes a log that ends early, or is not there, for one that was never
 * longer, and an older copy for the database, and would start on a past without a word. */
#include "store/image.h"
#include "store/impl.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { MARK_BYTES = 48 };
static const char way_out[] = "Put a backup back with `vireo restore FILE`; or, to start from what "
                              "is there on purpose, remove state.lock";

static uint32_t sum_of(int64_t revision)
{
    return (uint32_t)crc32(0, (const Bytef *)&revision, sizeof revision);
}

void mark_write(int lock_fd, int64_t revision)
{
    char line[MARK_BYTES + 1];

    snprintf(line, sizeof line, "acknowledged %020lld %08x     \n", (long long)revision,
             sum_of(revision));
    if (pwrite(lock_fd, line, MARK_BYTES, 0) != MARK_BYTES)
        log_debug(NULL, "state.lock: %s, ignoring", strerror(errno));
}

static int64_t mark_read(int lock_fd)
{
    char line[MARK_BYTES + 1] = {0};
    ssize_t n = pread(lock_fd, line, MARK_BYTES, 0);
    long long revision;
    unsigned sum;

    if (n == 0)
        return 0;
    if (n == MARK_BYTES && sscanf(line, "acknowledged %lld %x", &revision, &sum) == 2
        && revision > 0 && sum == sum_of(revision))
        return revision;
    log_warning(NULL, "state.lock: does not say how far writes were acknowledged, ignoring");
    return 0;
}

bool mark_before_open(int dirfd, int lock_fd, int64_t *ret_mark, struct error *err)
{
    struct stat st;
    bool there = fstatat(dirfd, "state.db", &st, AT_SYMLINK_NOFOLLOW) == 0;

    *ret_mark = mark_read(lock_fd);
    if (there && !S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID, "state.db: not a regular file");
    /* Revision 1 is an empty database: nothing would be lost. */
    if (*ret_mark > 1 && (!there || st.st_size == 0))
        return error_set(
            err, ERROR_INTERNAL,
            "state.db: the file is %s, and writes up to revision %lld were acknowledged. %s",
            there ? "empty" : "missing", (long long)*ret_mark, way_out);
    return true;
}

bool mark_check(int64_t mark, int64_t revision, struct error *err)
{
    if (revision >= mark)
        return true;
    return error_set(err, ERROR_INTERNAL,
                     "state.db: it is at revision %lld, and writes up to %lld were acknowledged: "
                     "state.db or state.db-wal was damaged,"
                     " cut off, removed, or replaced by an older copy. %s",
                     (long long)revision, (long long)mark, way_out);
}

int64_t store_image_mark(int dirfd)
{
    AUTO_CLOSE int fd = openat(dirfd, "state.lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 ? mark_read(fd) : 0;
}
