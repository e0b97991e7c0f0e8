/* base/rotated - a log file that a thread of its own writes and rotates, so that no caller waits for a disk.
 *
 * Lines queue up to a bound; what comes on top of a full queue, and what the disk does not take, is counted and lost, never half
 * written. A file that would pass its size is renamed to name-<UTC time>.ext and begun anew. */
#pragma once
#include "base/str.h"

struct rotated_config {
    int dirfd; /* borrowed; the file and its backups live in it. -1: `fd` is written, and not rotated */
    const char *name; /* "audit.log" */
    int fd;
    uint64_t max_bytes;    /* 0: no rotation */
    unsigned max_backups;  /* older ones are removed; 0: all stay */
    unsigned max_age_days; /* 0: of any age */
    size_t queue_bytes;    /* 0: 16 MiB */
};
struct rotated_stats {
    uint64_t lines, dropped, failed; /* written; lost to a full queue; lost to the disk */
};
struct rotated;
MUST_CHECK bool rotated_open(const struct rotated_config *c, struct rotated **ret,
                             struct error *err);
bool rotated_write(struct rotated *r, struct str line); /* a newline is added; false: dropped */
void rotated_flush(
    struct rotated *r); /* waits until what was queued is on its way to the disk (tests, ends) */
void rotated_stats(struct rotated *r, struct rotated_stats *ret);
void rotated_close(struct rotated *r); /* writes what is queued */
