/* store/archive - the file that `vireo backup` writes: a tar file, compressed with zstd (tar --zstd -tvf lists it).
 *
 * The first member is manifest.json: format and its version, the revision, the time, and name, size and SHA-256 of every member
 * behind it, in order. The reader takes nothing else: plain files, known names, the sizes and sums that the manifest
 * gives, and the end where it says. What does not fit is refused with the reason, whatever was handed out before. */
#pragma once
#include "base/buf.h"
#include "base/vec.h"
#include <stdint.h>

enum { ARCHIVE_FORMAT = 1, ARCHIVE_FILES_MAX = 32, ARCHIVE_KEY_MAX = 1 << 20 };
#define ARCHIVE_DATABASE_MAX ((int64_t)8 << 30)

struct archive_file {
    char name[64]; /* "state.db" or "pki/NAME" */
    int64_t size;
    char sha256[65];
    int fd; /* writer: read from its start; reader: unused */
};
struct archive {
    VEC(struct archive_file) files;
    int64_t revision, time_s, schema, objects;
    char program[64]; /* which wrote it */
};
void archive_done(struct archive *a);
MUST_CHECK bool archive_add(struct archive *a, const char *name, int fd,
                            struct error *err); /* size and sum are taken from fd */
MUST_CHECK bool archive_write(const struct archive *a, int to_fd, struct error *err);

/* sink gives the descriptor that a member is written to (not closed here), or -1 to skip it. ret holds the manifest as soon
 * as that is read, so that sink can look at it. */
MUST_CHECK bool
archive_read(int fd, int (*sink)(void *user, const struct archive_file *f, struct error *err),
             void *user, struct archive *ret, struct error *err);
/* May a member have this name? */
bool archive_name_valid(const char *name);
