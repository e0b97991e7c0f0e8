#include "base/file.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BENEATH (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
#define TREE_DEPTH 32 /* descriptors held open while a tree is removed */

/* As openat2: the descriptor, or -1 and errno. */
static int open_beneath(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .resolve = resolve};
    long fd;
    int tries = 0;

    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE)
        how.mode = mode;
    do
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 64))); /* a rename raced */
    return (int)fd;
}

/* A path at AT_FDCWD is the operator's own and may be absolute or lead through links; all others
 * are held beneath their directory. */
static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
    int fd;

    if (dirfd != AT_FDCWD)
        return open_beneath(dirfd, path, flags, mode, BENEATH);
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

bool file_open_beneath(int dirfd, const char *path, int flags, mode_t mode, int *ret_fd,
                       struct error *err)
{
    int fd = open_beneath(dirfd, path, flags, mode, BENEATH);

    if (fd < 0)
        return error_errno(err, errno, "open %s", path);
    *ret_fd = fd;
    return true;
}

bool file_open_within(int dirfd, const char *path, int flags, int *ret_fd, struct error *err)
{
    int fd = open_beneath(dirfd, path, flags, 0, BENEATH | RESOLVE_NO_XDEV);

    if (fd < 0)
        return error_errno(err, errno, "open %s", path);
    *ret_fd = fd;
    return true;
}

bool file_open_dir(int dirfd, const char *path, int *ret_fd, struct error *err)
{
    int fd = open_at(dirfd, path, O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0)
        return error_errno(err, errno, "open directory %s", path);
    *ret_fd = fd;
    return true;
}

bool file_make_dirs(int dirfd, const char *path, mode_t mode, int *ret_fd, struct error *err)
{
    bool trusted = dirfd == AT_FDCWD;
    struct str rest = str_of(path), part;
    AUTO_CLOSE int at =
        open_at(dirfd, trusted && path[0] == '/' ? "/" : ".", O_RDONLY | O_DIRECTORY, 0);

    if (at < 0)
        return error_errno(err, errno, "open the directory above %s", path);
    while (str_next(&rest, '/', &part)) {
        AUTO_FREE char *name = str_dup(part);
        int next;

        if (part.n == 0)
            continue;
        if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
            return error_errno(err, errno, "make directory %s", path);
        next = trusted ? openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                       : open_beneath(at, name, O_RDONLY | O_DIRECTORY, 0, BENEATH);
        if (next < 0)
            return error_errno(err, errno, "open directory %s", path);
        fd_close(&at);
        at = next;
    }
    *ret_fd = TAKE_FD(at);
    return true;
}

bool file_read_fd(int fd, struct buf *out, struct error *err)
{
    for (;;) {
        size_t want = 65536;
        char *to = NULL, over;
        ssize_t n;

        while (want > 0 && !(to = buf_reserve(out, want)))
            want /= 2;
        n = read(fd, to ? to : &over, to ? want : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "read");
        if (n == 0)
            return true;
        if (!to) { /* full, and there is more */
            out->overflow = true;
            return buf_ok(out, "file", err);
        }
        buf_commit(out, (size_t)n);
    }
}

bool file_read(int dirfd, const char *path, struct buf *out, struct error *err)
{
    /* Not to hang on a FIFO that a tenant left in a file's place. */
    AUTO_CLOSE int fd =
        open_at(dirfd, path, O_RDONLY | O_NOCTTY | (dirfd == AT_FDCWD ? 0 : O_NONBLOCK), 0);
    struct stat st;

    if (fd < 0)
        return error_errno(err, errno, "open %s", path);
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "stat %s", path);
    if (dirfd != AT_FDCWD && !S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID, "%s is not a regular file", path);
    if (!file_read_fd(fd, out, err))
        return error_wrap(err, "%s", path);
    return true;
}

bool file_write_all(int fd, struct str data, struct error *err)
{
    while (data.n > 0) {
        ssize_t n = write(fd, data.p, data.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "write");
        data = str_skip(data, (size_t)n);
    }
    return true;
}

/* Opens the directory that holds the last part of path, and names that part. */
static bool open_parent(int dirfd, const char *path, int *ret_fd, const char **ret_name,
                        struct error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    AUTO_FREE char *parent = NULL;

    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return error_set(err, ERROR_INVALID, "'%s' names no file", path);
    if (slash)
        parent = str_dup(str_n(path, slash == path ? 1 : (size_t)(slash - path)));
    *ret_name = name;
    return file_open_dir(dirfd, parent ? parent : ".", ret_fd, err);
}

static bool write_new(int dir, const char *name, struct str data, mode_t mode, struct error *err)
{
    AUTO_CLOSE int fd =
        openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_errno(err, errno, "create");
    if (!file_write_all(fd, data, err))
        return false;
    if (fchmod(fd, mode) < 0)
        return error_errno(err, errno, "chmod");
    if (fsync(fd) < 0)
        return error_errno(err, errno, "fsync");
    return true;
}

bool file_write(int dirfd, const char *path, struct str data, mode_t mode, struct error *err)
{
    AUTO_CLOSE int dir = -1;
    AUTO_FREE char *temporary = NULL;
    const char *name;
    char suffix[9];

    if (!open_parent(dirfd, path, &dir, &name, err))
        return error_wrap(err, "write %s", path);
    ident_suffix(suffix, sizeof suffix - 1);
    temporary = xasprintf(".%.200s.%s", name, suffix);
    if (!write_new(dir, temporary, data, mode, err)) {
        unlinkat(dir, temporary, 0);
        return error_wrap(err, "write %s", path);
    }
    if (renameat(dir, temporary, dir, name) < 0) {
        error_errno(err, errno, "write %s: rename", path);
        unlinkat(dir, temporary, 0);
        return false;
    }
    if (fsync(dir) < 0)
        return error_errno(err, errno, "write %s: fsync of its directory", path);
    return true;
}

static void close_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static bool remove_entry(int top, int dir, const char *name, unsigned depth, bool *moved,
                         struct error *err);

/* A deep tree would cost a descriptor per level, and a tenant chooses the depth: what lies deeper
 * than TREE_DEPTH is moved up to the top, and the top is gone through once more (*moved). */
static bool remove_contents(int top, int fd, unsigned depth, bool *moved, struct error *err)
{
    AUTO(close_dir) DIR *dir = NULL;
    struct dirent *entry;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    dir = copy >= 0 ? fdopendir(copy) : NULL;
    if (!dir) {
        error_errno(err, errno, "read directory");
        fd_close(&copy);
        return false;
    }
    rewinddir(dir);
    for (errno = 0; (entry = readdir(dir)); errno = 0) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!remove_entry(top < 0 ? fd : top, fd, entry->d_name, depth, moved, err))
            return false;
    }
    return errno == 0 || error_errno(err, errno, "read directory");
}

static bool remove_entry(int top, int dir, const char *name, unsigned depth, bool *moved,
                         struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR)
        return error_errno(err, errno, "remove %s", name);
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return true;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return error_errno(err, errno, "remove %s", name);
    if (depth >= TREE_DEPTH) {
        char unique[24] = ".removing-";

        ident_suffix(unique + 10, sizeof unique - 11);
        if (renameat(dir, name, top, unique) < 0)
            return error_errno(err, errno, "remove %s: move", name);
        *moved = true;
        return true;
    }
    fd = open_beneath(dir, name, O_RDONLY | O_DIRECTORY, 0, BENEATH | RESOLVE_NO_XDEV);
    if (fd < 0)
        return error_errno(err, errno, "remove %s", name);
    if (!remove_contents(top, fd, depth + 1, moved, err))
        return error_wrap(err, "%s", name);
    if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove %s", name);
    return true;
}

bool file_remove_tree(int dirfd, const char *path, struct error *err)
{
    AUTO_CLOSE int parent = -1, fd = -1;
    const char *name;
    bool moved;

    if (!open_parent(dirfd, path, &parent, &name, err)) {
        if (err->kind != ERROR_NOT_FOUND)
            return error_wrap(err, "remove %s", path);
        error_clear(err);
        return true;
    }
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR)
        return error_errno(err, errno, "remove %s", path);
    fd = open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0, BENEATH | RESOLVE_NO_XDEV);
    if (fd < 0)
        return error_errno(err, errno, "remove %s", path);
    do {
        moved = false;
        if (!remove_contents(-1, fd, 1, &moved, err))
            return error_wrap(err, "remove %s", path);
    } while (moved);
    if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove %s", path);
    return true;
}

bool file_set_nonblock(int fd, struct error *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_errno(err, errno, "set O_NONBLOCK");
    return true;
}

static bool copy_range(int from, int to, off_t at, off_t end, struct error *err)
{
    char bytes[65536];
    bool by_hand = false;

    while (at < end) {
        off_t in = at, out = at;
        size_t want = (size_t)(end - at);
        ssize_t n;

        if (!by_hand) {
            n = copy_file_range(from, &in, to, &out, want, 0);
            by_hand = n < 0 && errno != EINTR && errno != ENOSPC && errno != EDQUOT && errno != EFBIG;
            if (by_hand) /* not between these two file systems */
                continue;
        } else {
            n = pread(from, bytes, want < sizeof bytes ? want : sizeof bytes, at);
            if (n > 0)
                n = pwrite(to, bytes, (size_t)n, at);
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "copy");
        at += n;
    }
    return true;
}

bool file_copy_data(int from, int to, struct error *err)
{
    struct stat st;
    off_t at = 0, end;

    if (fstat(from, &st) != 0 || ftruncate(to, st.st_size) != 0)
        return error_errno(err, errno, "copy");
    while (at < st.st_size && (at = lseek(from, at, SEEK_DATA)) >= 0) {
        end = lseek(from, at, SEEK_HOLE);
        if (end <= at || end > st.st_size)
            end = st.st_size;
        if (!copy_range(from, to, at, end, err))
            return false;
        at = end;
    }
    return at >= 0 || errno == ENXIO || error_errno(err, errno, "copy"); /* ENXIO: only a hole is left */
}

bool file_exists(int dirfd, const char *path)
{
    AUTO_CLOSE int fd = open_at(dirfd, path, O_PATH, 0);

    return fd >= 0;
}

void file_random(void *p, size_t n)
{
    char *to = p;

    while (n > 0) {
        ssize_t got = getrandom(to, n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort(); /* nothing safe can be done without */
        to += got;
        n -= (size_t)got;
    }
}
