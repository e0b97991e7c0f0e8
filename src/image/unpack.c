/* Layers: tar streams from strangers. Names are taken apart by us and opened beneath the root without following links; only
 * regular files, folders, symbolic and hard links are made; modes lose everything but "readable" and "executable"; sizes and
 * counts are bounded. Whiteouts as in the OCI image specification, "Layer changesets". */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "image/fetch.h"

#define MAX_ENTRIES 1000000
#define MAX_DEPTH   64
#define OPAQUE      ".wh..wh..opq"
#define WHITEOUT    ".wh."

static void reader_free(struct archive **a)
{
    archive_read_free(*a);
}

/* "./a//b/" → "a/b"; false for names that go up, are too deep, or too long. Empty: the root itself. */
static bool clean_name(const char *name, struct buf *out)
{
    struct str rest = str_of(name), part;
    unsigned depth = 0;

    buf_clear(out);
    if (!name || rest.n > 4096)
        return false;
    while (str_next(&rest, '/', &part)) {
        if (part.n == 0 || str_is(part, "."))
            continue;
        if (str_is(part, "..") || part.n > 255 || ++depth > MAX_DEPTH)
            return false;
        if (out->n)
            buf_addc(out, '/');
        buf_addstr(out, part);
    }
    return true;
}

/* The parent of a clean name, made if missing; *ret_base is the last component. */
static bool open_parent(int root, struct str name, int *ret_fd, struct str *ret_base, struct error *err)
{
    AUTO(buf_done) struct buf dir = {0};
    struct str parent, base;

    if (!str_rcut(name, '/', &parent, &base)) {
        base = name;
        *ret_fd = dup(root);
        if (*ret_fd < 0)
            return error_errno(err, errno, "dup");
    } else {
        buf_addstr(&dir, parent);
        if (!file_make_dirs(root, dir.p, 0755, ret_fd, err))
            return false;
    }
    *ret_base = base;
    return true;
}

static bool empty_folder(int dir, struct error *err)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *e;
    bool ok = true;

    if (!d) {
        fd_close(&copy);
        return error_errno(err, errno, "whiteout");
    }
    while (ok && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            ok = file_remove_tree(dir, e->d_name, err);
    closedir(d);
    return ok;
}

/* An opaque marker hides what lower layers put into the folder; tools write it before the layer's own files. */
static bool whiteout(int dir, struct str base, struct error *err)
{
    AUTO(buf_done) struct buf name = {0};

    if (str_is(base, OPAQUE))
        return empty_folder(dir, err);
    buf_addstr(&name, str_skip(base, sizeof WHITEOUT - 1));
    if (!name.n || str_is(buf_str(&name), ".") || str_is(buf_str(&name), ".."))
        return true;
    return file_remove_tree(dir, name.p, err);
}

static bool too_large(const struct fetch *f, struct error *err)
{
    return error_set(err, ERROR_TOO_LARGE, "the image is larger than %llu bytes unpacked", (unsigned long long)f->max_bytes);
}

static bool write_file(struct fetch *f, struct archive *a, struct archive_entry *e, int dir, const char *base, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    mode_t mode = archive_entry_perm(e) & 0100 ? 0555 : 0444;
    const void *block;
    size_t n;
    la_int64_t at;
    int r;

    if (archive_entry_size(e) < 0 || (uint64_t)archive_entry_size(e) > f->max_bytes) /* holes count, too */
        return too_large(f, err);
    fd = openat(dir, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "%s", base);
    while ((r = archive_read_data_block(a, &block, &n, &at)) == ARCHIVE_OK) {
        f->bytes += n;
        if (f->bytes > f->max_bytes || (uint64_t)at + n > f->max_bytes)
            return too_large(f, err);
        for (size_t done = 0; done < n;) {
            ssize_t w = pwrite(fd, (const char *)block + done, n - done, at + (la_int64_t)done);

            if (w < 0 && errno == EINTR)
                continue;
            if (w < 0)
                return error_errno(err, errno, "writing the image");
            done += (size_t)w;
        }
    }
    if (r != ARCHIVE_EOF)
        return error_set(err, ERROR_INVALID, "broken layer: %s", archive_error_string(a));
    if (ftruncate(fd, archive_entry_size(e)) < 0 || fchmod(fd, mode) < 0)
        return error_errno(err, errno, "%s", base);
    return true;
}

static bool hard_link(int root, const char *target, int dir, const char *base, struct error *err)
{
    AUTO(buf_done) struct buf name = {0};
    AUTO_CLOSE int parent = -1;
    struct str target_base;

    if (!clean_name(target, &name) || !name.n)
        return error_set(err, ERROR_INVALID, "broken layer: a hard link leads outside the image");
    if (!open_parent(root, buf_str(&name), &parent, &target_base, err))
        return false;
    if (linkat(parent, target_base.p, dir, base, 0) < 0)
        return error_errno(err, errno, "hard link %s", base);
    return true;
}

static bool make_folder(int dir, const char *base, struct error *err)
{
    struct stat st;

    if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISDIR(st.st_mode))
            return true;
        if (unlinkat(dir, base, 0) < 0)
            return error_errno(err, errno, "%s", base);
    }
    if (mkdirat(dir, base, 0755) < 0)
        return error_errno(err, errno, "%s", base);
    return true;
}

static bool apply(struct fetch *f, struct archive *a, struct archive_entry *e, int root, bool whiteouts, struct error *err)
{
    AUTO(buf_done) struct buf name = {0};
    AUTO_CLOSE int dir = -1;
    struct str base;
    mode_t type = archive_entry_filetype(e);

    if (!clean_name(archive_entry_pathname(e), &name))
        return error_set(err, ERROR_INVALID, "broken layer: a path leads outside the image");
    if (!name.n)
        return true;
    if (++f->entries > MAX_ENTRIES)
        return error_set(err, ERROR_TOO_LARGE, "the image has more than %d files", MAX_ENTRIES);
    if (!open_parent(root, buf_str(&name), &dir, &base, err))
        return false;
    if (whiteouts && str_starts(base, STR(WHITEOUT)))
        return whiteout(dir, base, err);
    if (archive_entry_hardlink(e)) {
        if (!file_remove_tree(dir, base.p, err))
            return false;
        return hard_link(root, archive_entry_hardlink(e), dir, base.p, err);
    }
    if (type == AE_IFDIR)
        return make_folder(dir, base.p, err);
    if (type != AE_IFREG && type != AE_IFLNK)
        return true; /* devices and pipes have no place in a disk image */
    if (!file_remove_tree(dir, base.p, err))
        return false;
    if (type == AE_IFREG)
        return write_file(f, a, e, dir, base.p, err);
    if (symlinkat(archive_entry_symlink(e) ? archive_entry_symlink(e) : "", dir, base.p) < 0)
        return error_errno(err, errno, "%s", base.p);
    return true;
}

bool fetch_unpack_into(struct fetch *f, int fd, int dirfd, bool whiteouts, struct error *err)
{
    AUTO(reader_free) struct archive *a = archive_read_new();
    struct archive_entry *e;
    int r;

    archive_read_support_format_tar(a);
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_zstd(a);
    if (lseek(fd, 0, SEEK_SET) < 0 || archive_read_open_fd(a, fd, 64 << 10) != ARCHIVE_OK)
        return error_set(err, ERROR_INVALID, "broken layer: %s", archive_error_string(a));
    while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN)
        if (!apply(f, a, e, dirfd, whiteouts, err))
            return false;
    if (r != ARCHIVE_EOF)
        return error_set(err, ERROR_INVALID, "broken layer: %s", archive_error_string(a));
    return true;
}

bool fetch_unpack(struct fetch *f, int fd, struct error *err)
{
    return fetch_unpack_into(f, fd, f->root, true, err);
}
