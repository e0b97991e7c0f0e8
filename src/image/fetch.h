/* image/fetch - parts of the fetcher process; nothing of this runs anywhere else. */
#pragma once
#include "image/ref.h"
#include "json/json.h"

enum { FETCH_FD_JOB = 3, FETCH_FD_WORK = 4, FETCH_FD_OCI = 5 };

struct fetch {
    struct arena arena;
    const struct json *job;
    struct image_ref ref;
    int work, root;          /* directories: scratch, and the unpacked root below it */
    uint64_t max_bytes, bytes;
    size_t entries;
};

/* fetch.c: the image that f->ref names, unpacked below f->work, unless its manifest has the digest `known`. */
MUST_CHECK bool fetch_image(struct fetch *f, const char *known, char ret_digest[72], struct error *err);
/* unpack.c: applies one layer (tar, gzip or zstd inside) to f->root. fd is read from its start. */
MUST_CHECK bool fetch_unpack(struct fetch *f, int fd, struct error *err);
/* Unpacks an archive of a layout into a directory of the work directory. */
MUST_CHECK bool fetch_unpack_into(struct fetch *f, int fd, int dirfd, bool whiteouts, struct error *err);

/* Where blobs come from. */
struct fetch_source {
    /* Opens (after fetching) a blob; the digest of what was read is verified by the callee. */
    bool (*blob)(struct fetch_source *s, struct str digest, uint64_t max, int *ret_fd, struct error *err);
    /* The manifest or index that the reference names; appends its bytes. */
    bool (*manifest)(struct fetch_source *s, struct str digest, struct buf *out, struct error *err);
    void (*done)(struct fetch_source *s);
};
MUST_CHECK bool fetch_layout(struct fetch *f, struct fetch_source **ret, struct error *err);   /* layout.c */
MUST_CHECK bool fetch_registry(struct fetch *f, struct fetch_source **ret, struct error *err); /* registry.c */

/* Does the file have this digest? Leaves the offset at the start. */
MUST_CHECK bool fetch_verify(int fd, struct str digest, struct error *err);
void fetch_sha256(struct str data, char ret[72]); /* "sha256:…" */
