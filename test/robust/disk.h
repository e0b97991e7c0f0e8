/* test/robust/disk - a disk in memory, as an SQLite VFS: what is written is in a cache, what is flushed is safe, and at a power
 * cut each sector that was not flushed has arrived or has not.
 *
 * A file has two images: the cache, which every reader sees, and the platter. A write goes into the cache and, in whole
 * blocks, into the list of what is under way; a flush carries that list out on the platter. A flush that fails loses it
 * (as Linux does: the pages count as clean from then on). Names are a directory of the same kind: a file made or
 * removed is safe only once the directory was flushed, which happens where SQLite's own unix VFS does it. Everything that a disk may do to
 * a program is counted, so that a test can let the n-th operation fail. One thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum disk_fault {
    DISK_NO_FAULT,
    DISK_POWER_CUT, /* nothing works from then on; what was not flushed arrives in part */
    DISK_KILL,      /* nothing works from then on; the cache survives */
    DISK_EIO,       /* the operation fails once */
    DISK_EIO_STAYS,
    DISK_ENOSPC, /* where space is needed: once */
    DISK_ENOSPC_STAYS,
    DISK_SHORT_WRITE, /* half of a write arrives, then ENOSPC */
    DISK_FLUSH_LOST, /* the next flush fails, its pages are gone, and later ones say they succeed */
    DISK_FAULTS
};
enum disk_fate { FATE_NONE, FATE_ALL, FATE_SOME, FATE_TORN, FATES }; /* of what was not flushed */

struct disk_stats {
    uint64_t operations, writes, flushes, faults, cuts,
        dropped; /* dropped: blocks that did not arrive */
};

void disk_install(void);                     /* becomes SQLite's default VFS */
void disk_reset(void);                       /* empty, no faults */
void disk_arm(enum disk_fault fault, int n); /* at the n-th operation from now on (1…) */
bool disk_fired(void);                       /* since it was armed */
bool disk_is_dead(void);                     /* after a cut or kill, until disk_restart() */
void disk_disarm(void);
bool disk_has_room(void);
void disk_give_room(int operations); /* a full disk takes so many more */
void disk_cut(void); /* the power goes now */
/* The machine is back: after a cut with the sectors that fate (and the seed) let arrive. Connections must be closed. */
void disk_restart(enum disk_fate fate, unsigned *seed);
bool disk_flush_log(
    void); /* fsync() of the write-ahead log and of the directory; false: it fails */
void disk_block(int bytes); /* 512 or 4096: what a page that is written back is made of */
void disk_tell(bool tells); /* every operation, to stderr */
void disk_lie(bool lies);   /* flushes say they succeed and do nothing */
struct disk_stats disk_stats(void);

/* The bytes of a file as they are, for tests that damage it; and the whole disk put aside and taken back. */
bool disk_file(const char *name, unsigned char **ret, size_t *ret_n);
bool disk_set_file(const char *name, const unsigned char *p,
                   size_t n); /* n may be 0; p NULL: removed */
struct disk_image;
struct disk_image *disk_save(void);
void disk_load(const struct disk_image *i);
void disk_image_free(struct disk_image *i);
