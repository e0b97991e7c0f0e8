#include "storage/mounted.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/vec.h"

#define MAX_DEPTH 6

static int open_within(int dirfd, const char *path, int flags)
{
    /* openat2() refuses what means nothing: O_NONBLOCK beside O_PATH. */
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC
                                                         | (flags & O_PATH ? 0 : O_NONBLOCK)),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd;
    int tries = 0;

    do
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 64)));
    return (int)fd;
}

bool mounted_read(int dirfd, const char *path, struct arena *a, struct str *ret, struct error *err)
{
    AUTO_CLOSE int fd = open_within(dirfd, path, O_RDONLY);
    AUTO(buf_done) struct buf b = {0};
    struct stat st;

    *ret = STR_NONE;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return true;
    if (fd < 0 || fstat(fd, &st) != 0)
        return error_errno(err, errno, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return true; /* a key that the Secret lacks, mounted by its path, is an empty folder */
    buf_init(&b, MOUNTED_MAX_BYTES);
    if (!file_read_fd(fd, &b, err))
        return error_wrap(err, "%s", path);
    *ret = arena_str(a, buf_str(&b));
    if (!ret->p)
        *ret = STR("");
    return true;
}

struct listing {
    struct arena *a;
    VEC(struct iso_file) files;
};

static void listing_done(struct listing *l)
{
    vec_done(&l->files);
}

static bool walk(struct listing *l, int root, const char *path, unsigned depth, struct error *err)
{
    int fd = open_within(root, path[0] ? path : ".", O_RDONLY | O_DIRECTORY);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    bool ok = true;

    if (!dir) {
        fd_close(&fd);
        return error_errno(err, errno, "open directory %s", path);
    }
    while (ok && (e = readdir(dir))) {
        AUTO_CLOSE int entry = -1;
        const char *name;
        struct stat st;
        struct str data;

        if (strcmp(e->d_name, ".") == 0 || str_starts(str_of(e->d_name), STR("..")))
            continue;
        name = path[0] ? arena_printf(l->a, "%s/%s", path, e->d_name)
                       : arena_strdup(l->a, str_of(e->d_name));
        entry = open_within(root, name, O_PATH);
        if (entry < 0 || fstat(entry, &st) != 0)
            continue; /* a link out of the folder, or gone meanwhile */
        if (S_ISDIR(st.st_mode)) {
            ok = depth < MAX_DEPTH
                     ? walk(l, root, name, depth + 1, err)
                     : error_set(err, ERROR_INVALID, "%s: folders nest too deep", name);
        } else if (S_ISREG(st.st_mode)) {
            ok = l->files.n < ISO_MAX_FILES ? mounted_read(root, name, l->a, &data, err)
                                            : error_set(err, ERROR_TOO_LARGE, "too many files");
            if (ok && data.p)
                vec_push(&l->files, (struct iso_file){name, data});
        }
    }
    closedir(dir);
    return ok;
}

bool mounted_list(int dirfd, struct arena *a, struct iso_file **ret, size_t *ret_n,
                  struct error *err)
{
    AUTO(listing_done) struct listing l = {.a = a};

    if (!walk(&l, dirfd, "", 0, err))
        return false;
    *ret = ARENA_ARRAY(a, struct iso_file, l.files.n + 1);
    if (l.files.n > 0)
        memcpy(*ret, l.files.p, l.files.n * sizeof **ret);
    *ret_n = l.files.n;
    return true;
}
