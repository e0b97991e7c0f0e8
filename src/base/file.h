/* base/file - files below a directory that we hold open.
 *
 * Nothing that a tenant can influence is opened by path string: callers hold a directory descriptor and
 * open beneath it with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS).
 * All descriptors are O_CLOEXEC. Writes that must last are flushed, and so is their directory. */
#pragma once
#include "base/buf.h"
#include <sys/types.h>

MUST_CHECK bool file_open_beneath(int dirfd, const char *path, int flags, mode_t mode, int *ret_fd, struct error *err);
/* The same, and not across a mount: what is mounted beneath dirfd is not part of it. */
MUST_CHECK bool file_open_within(int dirfd, const char *path, int flags, int *ret_fd, struct error *err);
MUST_CHECK bool file_open_dir(int dirfd, const char *path, int *ret_fd, struct error *err); /* dirfd may be AT_FDCWD */
/* Creates missing directories (one path component at a time, beneath dirfd) and opens the last. */
MUST_CHECK bool file_make_dirs(int dirfd, const char *path, mode_t mode, int *ret_fd, struct error *err);
/* Where dirfd is AT_FDCWD the path is the operator's own (absolute, links allowed), except in file_open_beneath.
 * Reads the whole file into out (bounded by out's limit). */
MUST_CHECK bool file_read(int dirfd, const char *path, struct buf *out, struct error *err);
MUST_CHECK bool file_read_fd(int fd, struct buf *out, struct error *err);
/* Atomic replacement: temporary file, fsync, rename, fsync of the directory. */
MUST_CHECK bool file_write(int dirfd, const char *path, struct str data, mode_t mode, struct error *err);
MUST_CHECK bool file_write_all(int fd, struct str data, struct error *err); /* loops over short writes */
MUST_CHECK bool file_remove_tree(int dirfd, const char *path, struct error *err); /* absent is success; never follows links or crosses mounts */
MUST_CHECK bool file_set_nonblock(int fd, struct error *err);
/* All of `from` to the same places of `to`, which gets its size; holes stay holes, and a file system that can shares the blocks.
 * Both are files; `to` is empty. Not flushed. */
MUST_CHECK bool file_copy_data(int from, int to, struct error *err);
bool file_exists(int dirfd, const char *path);
void file_random(void *p, size_t n);  /* getrandom; never fails */
