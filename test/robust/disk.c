#include "disk.h"
#include "base/alloc.h"
#include "base/vec.h"
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

enum { NAMES = 8, SHM_REGIONS = 8, SHM_LOCKS = SQLITE_SHM_NLOCK };

struct bytes {
    unsigned char *p;
    size_t n, cap;
};

struct under_way { /* a write or, without bytes, a truncation that is not flushed */
    size_t at, n;
    unsigned char *p;
    bool truncate;
};

struct inode {
    struct bytes cache, platter;
    VEC(struct under_way) ops;
    bool flushed; /* once at least */
    unsigned char *shm[SHM_REGIONS];
    int shm_size[SHM_REGIONS], shm_users;
    int shared[SHM_LOCKS], exclusive[SHM_LOCKS];
    int locks_shared, lock_reserved, lock_exclusive; /* of the main file: how many hold it */
};

struct name {
    char text[32];
    struct inode *now, *safe; /* in the cached directory, on the platter; NULL: not there */
};

static struct {
    struct name names[NAMES];
    VEC(struct inode *) inodes;
    enum disk_fault fault;
    int left;
    bool fired, dead, lies, cut;
    bool tells; /* every operation, to stderr */
    int block;
    struct disk_stats stats;
    sqlite3_vfs vfs, *real;
    sqlite3_io_methods methods;
} disk;

struct file {
    sqlite3_file base;
    struct inode *i;
    int flags, lock;
    bool sync_directory, delete_on_close, has_shm;
    uint16_t held_shared, held_exclusive;
};

static struct file *file_of(sqlite3_file *f)
{
    return (struct file *)(void *)f;
}

/* Bytes. */

static void grow(struct bytes *b, size_t n)
{
    if (n > b->cap) {
        b->cap = n + n / 2 + 4096;
        b->p = xrealloc(b->p, b->cap, 1);
    }
    if (n > b->n)
        memset(b->p + b->n, 0, n - b->n);
    if (n > b->n)
        b->n = n;
}

static void put(struct bytes *b, size_t at, const unsigned char *p, size_t n)
{
    if (n == 0)
        return;
    grow(b, at + n);
    memcpy(b->p + at, p, n);
}

static void copy(struct bytes *to, const struct bytes *from)
{
    to->n = 0;
    put(to, 0, from->p, from->n);
}

static void drop_ops(struct inode *i)
{
    for (size_t k = 0; k < i->ops.n; k++)
        free(i->ops.p[k].p);
    i->ops.n = 0;
}

static void carry_out(struct inode *i, const struct under_way *op, size_t from, size_t n)
{
    if (op->truncate && i->platter.n > op->at)
        i->platter.n = op->at;
    else if (!op->truncate)
        put(&i->platter, op->at + from, op->p + from, n);
}

/* What a flush of the page cache would write: the whole blocks that a write touched. */
static void note(struct inode *i, size_t at, size_t n)
{
    size_t block = (size_t)disk.block, from = at / block * block,
           to = (at + n + block - 1) / block * block;
    struct under_way op = {.at = from};

    if (to > i->cache.n)
        to = i->cache.n;
    op.n = to - from;
    op.p = xmemdup(i->cache.p + from, op.n);
    vec_push(&i->ops, op);
}

static void flush(struct inode *i)
{
    for (size_t k = 0; k < i->ops.n; k++)
        carry_out(i, &i->ops.p[k], 0, i->ops.p[k].n);
    drop_ops(i);
    i->flushed = true;
}

static void flush_directory(void)
{
    for (int k = 0; k < NAMES; k++)
        disk.names[k].safe = disk.names[k].now;
}

/* Faults. */

enum kind { K_WRITE, K_SYNC, K_TRUNCATE, K_OPEN, K_DELETE, K_SHM };

static int code_of(enum kind k, bool full)
{
    if (full)
        return k == K_OPEN ? SQLITE_CANTOPEN : k == K_SHM ? SQLITE_IOERR_SHMSIZE : SQLITE_FULL;
    switch (k) {
    case K_WRITE:
        return SQLITE_IOERR_WRITE;
    case K_SYNC:
        return SQLITE_IOERR_FSYNC;
    case K_TRUNCATE:
        return SQLITE_IOERR_TRUNCATE;
    case K_OPEN:
        return SQLITE_CANTOPEN;
    case K_DELETE:
        return SQLITE_IOERR_DELETE;
    case K_SHM:
        return SQLITE_IOERR_SHMMAP;
    }
    return SQLITE_IOERR;
}

static bool applies(enum kind k)
{
    switch (disk.fault) {
    case DISK_ENOSPC:
    case DISK_ENOSPC_STAYS:
        return k != K_TRUNCATE && k != K_DELETE;
    case DISK_SHORT_WRITE:
        return k == K_WRITE;
    case DISK_FLUSH_LOST:
        return k == K_SYNC;
    case DISK_NO_FAULT:
    case DISK_FAULTS:
        return false;
    case DISK_POWER_CUT:
    case DISK_KILL:
    case DISK_EIO:
    case DISK_EIO_STAYS:
        return true;
    }
    return false;
}

/* SQLITE_OK, or how this operation fails. */
static int operate(enum kind k)
{
    bool stays = disk.fault == DISK_EIO_STAYS || disk.fault == DISK_ENOSPC_STAYS;
    bool full = disk.fault == DISK_ENOSPC || disk.fault == DISK_ENOSPC_STAYS
                || disk.fault == DISK_SHORT_WRITE;

    if (disk.tells)
        fprintf(stderr, "  disk: %s%s\n",
                k == K_WRITE      ? "write"
                : k == K_SYNC     ? "flush"
                : k == K_TRUNCATE ? "truncate"
                : k == K_OPEN     ? "open"
                : k == K_DELETE   ? "delete"
                                  : "shm",
                disk.dead ? " (dead)" : "");
    disk.stats.operations++;
    disk.stats.writes += k == K_WRITE;
    disk.stats.flushes += k == K_SYNC;
    if (disk.dead)
        return code_of(k, false);
    if (disk.left > 0)
        disk.left--;
    if (disk.left != 0 || !applies(k))
        return SQLITE_OK;
    disk.fired = true;
    disk.stats.faults++;
    disk.dead = disk.fault == DISK_POWER_CUT || disk.fault == DISK_KILL;
    disk.cut = disk.fault == DISK_POWER_CUT;
    if (!stays)
        disk.left = -1;
    errno = full ? ENOSPC : EIO;
    return code_of(k, full);
}

/* Methods of a file. */

static int x_close(sqlite3_file *f)
{
    struct file *file = file_of(f);

    for (int k = 0; k < NAMES && file->delete_on_close; k++)
        if (disk.names[k].now == file->i)
            disk.names[k].now = NULL;
    file->base.pMethods = NULL;
    return SQLITE_OK;
}

static int x_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    const struct bytes *b = &file_of(f)->i->cache;
    size_t have = (size_t)at < b->n ? b->n - (size_t)at : 0;

    if (have > (size_t)n)
        have = (size_t)n;
    if (have)
        memcpy(p, b->p + at, have);
    if (have == (size_t)n)
        return SQLITE_OK;
    memset((char *)p + have, 0, (size_t)n - have);
    return SQLITE_IOERR_SHORT_READ;
}

static int x_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    struct inode *i = file_of(f)->i;
    int rc = operate(K_WRITE);

    if (rc == SQLITE_OK || (disk.fault == DISK_SHORT_WRITE && !disk.dead && n > 1)) {
        size_t arrives = (size_t)(rc == SQLITE_OK ? n : n / 2);

        put(&i->cache, (size_t)at, p, arrives);
        note(i, (size_t)at, arrives);
    }
    return rc;
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    struct inode *i = file_of(f)->i;
    int rc = operate(K_TRUNCATE);

    if (rc != SQLITE_OK || i->cache.n <= (size_t)n)
        return rc;
    i->cache.n = (size_t)n;
    vec_push(&i->ops, (struct under_way){.at = (size_t)n, .truncate = true});
    return SQLITE_OK;
}

static int x_sync(sqlite3_file *f, int flags)
{
    struct file *file = file_of(f);
    int rc = operate(K_SYNC);

    (void)flags;
    if (rc != SQLITE_OK) {
        if (!disk.dead)
            drop_ops(file->i);
        return rc;
    }
    if (disk.lies)
        return SQLITE_OK;
    flush(file->i);
    if (file->sync_directory) {
        rc = operate(K_SYNC);
        if (rc != SQLITE_OK)
            return rc;
        flush_directory();
        file->sync_directory = false;
    }
    return SQLITE_OK;
}

static int x_size(sqlite3_file *f, sqlite3_int64 *n)
{
    *n = (sqlite3_int64)file_of(f)->i->cache.n;
    return SQLITE_OK;
}

static void unlock_to(struct file *file, int level)
{
    struct inode *i = file->i;

    if (file->lock >= SQLITE_LOCK_EXCLUSIVE && level < SQLITE_LOCK_EXCLUSIVE)
        i->lock_exclusive--;
    if (file->lock >= SQLITE_LOCK_RESERVED && level < SQLITE_LOCK_RESERVED)
        i->lock_reserved--;
    if (file->lock >= SQLITE_LOCK_SHARED && level < SQLITE_LOCK_SHARED)
        i->locks_shared--;
    if (file->lock > level)
        file->lock = level;
}

static int x_unlock(sqlite3_file *f, int level)
{
    unlock_to(file_of(f), level);
    return SQLITE_OK;
}

static int x_lock(sqlite3_file *f, int level)
{
    struct file *file = file_of(f);
    struct inode *i = file->i;

    if (file->lock < SQLITE_LOCK_SHARED && level >= SQLITE_LOCK_SHARED) {
        if (i->lock_exclusive)
            return SQLITE_BUSY;
        i->locks_shared++;
        file->lock = SQLITE_LOCK_SHARED;
    }
    if (file->lock < SQLITE_LOCK_RESERVED && level >= SQLITE_LOCK_RESERVED) {
        if (i->lock_reserved)
            return SQLITE_BUSY;
        i->lock_reserved++;
        file->lock = SQLITE_LOCK_RESERVED;
    }
    if (level >= SQLITE_LOCK_EXCLUSIVE && file->lock < SQLITE_LOCK_EXCLUSIVE) {
        if (i->locks_shared > 1)
            return SQLITE_BUSY;
        i->lock_exclusive++;
        file->lock = SQLITE_LOCK_EXCLUSIVE;
    }
    return SQLITE_OK;
}

static int x_reserved(sqlite3_file *f, int *ret)
{
    *ret = file_of(f)->i->lock_reserved > 0;
    return SQLITE_OK;
}

static int x_control(sqlite3_file *f, int op, void *p)
{
    (void)f;
    (void)op;
    (void)p;
    return SQLITE_NOTFOUND;
}

static int x_sector(sqlite3_file *f)
{
    (void)f;
    return 4096; /* as the unix VFS says */
}

static int x_device(sqlite3_file *f)
{
    (void)f;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE; /* likewise */
}

/* Shared memory of the write-ahead log: it is gone with the last connection, as with any end. */

static int x_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **ret)
{
    struct file *file = file_of(f);
    struct inode *i = file->i;

    *ret = NULL;
    if (!file->has_shm) {
        int rc = operate(K_SHM);

        if (rc != SQLITE_OK)
            return rc;
        file->has_shm = true;
        i->shm_users++;
    }
    if (region >= SHM_REGIONS)
        return SQLITE_IOERR_SHMMAP;
    if (!i->shm[region] && extend) {
        int rc = operate(K_SHM);

        if (rc != SQLITE_OK)
            return rc;
        i->shm[region] = xcalloc(1, (size_t)size);
        i->shm_size[region] = size;
    }
    *ret = i->shm[region];
    return SQLITE_OK;
}

static int x_shm_lock(sqlite3_file *f, int first, int n, int flags)
{
    struct file *file = file_of(f);
    struct inode *i = file->i;
    bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;

    for (int k = first; k < first + n && (flags & SQLITE_SHM_LOCK); k++) {
        int others = i->shared[k] - ((file->held_shared >> k) & 1);

        if (i->exclusive[k] && !((file->held_exclusive >> k) & 1))
            return SQLITE_BUSY;
        if (exclusive && others > 0)
            return SQLITE_BUSY;
    }
    for (int k = first; k < first + n; k++) {
        uint16_t bit = (uint16_t)(1u << k);

        if ((flags & SQLITE_SHM_LOCK) && exclusive && !(file->held_exclusive & bit)) {
            i->exclusive[k]++;
            file->held_exclusive |= bit;
        } else if ((flags & SQLITE_SHM_LOCK) && !exclusive && !(file->held_shared & bit)) {
            i->shared[k]++;
            file->held_shared |= bit;
        } else if ((flags & SQLITE_SHM_UNLOCK) && exclusive && (file->held_exclusive & bit)) {
            i->exclusive[k]--;
            file->held_exclusive &= (uint16_t)~bit;
        } else if ((flags & SQLITE_SHM_UNLOCK) && !exclusive && (file->held_shared & bit)) {
            i->shared[k]--;
            file->held_shared &= (uint16_t)~bit;
        }
    }
    return SQLITE_OK;
}

static void x_shm_barrier(sqlite3_file *f)
{
    (void)f;
}

static int x_shm_unmap(sqlite3_file *f, int remove)
{
    struct file *file = file_of(f);
    struct inode *i = file->i;

    (void)remove;
    if (!file->has_shm)
        return SQLITE_OK;
    (void)x_shm_lock(f, 0, SHM_LOCKS, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED);
    (void)x_shm_lock(f, 0, SHM_LOCKS, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
    file->has_shm = false;
    if (--i->shm_users > 0)
        return SQLITE_OK;
    for (int k = 0; k < SHM_REGIONS; k++) {
        free(i->shm[k]);
        i->shm[k] = NULL;
    }
    return SQLITE_OK;
}

/* The file system: one directory, whatever path leads to it. */

static struct name *find(const char *path, bool make)
{
    const char *slash = path ? strrchr(path, '/') : NULL, *text = slash  ? slash + 1
                                                                  : path ? path
                                                                         : "";
    struct name *empty = NULL;

    for (int k = 0; k < NAMES; k++) {
        if (strcmp(disk.names[k].text, text) == 0)
            return &disk.names[k];
        if (!disk.names[k].text[0] && !empty)
            empty = &disk.names[k];
    }
    if (!make || !empty || strlen(text) >= sizeof empty->text)
        return NULL;
    memcpy(empty->text, text, strlen(text) + 1);
    return empty;
}

static struct inode *make_inode(void)
{
    struct inode *i = NEW(struct inode);

    vec_push(&disk.inodes, i);
    return i;
}

static int x_open(sqlite3_vfs *v, const char *path, sqlite3_file *f, int flags, int *ret_flags)
{
    struct file *file = file_of(f);
    struct name *name;
    int rc;

    (void)v;
    *file = (struct file){.flags = flags};
    if (!path)
        return SQLITE_CANTOPEN; /* nothing here sorts on disk */
    name = find(path, true);
    if (disk.tells)
        fprintf(stderr, "  disk: open %s: %s\n", path, name && name->now ? "there" : "not there");
    if (!name)
        return SQLITE_CANTOPEN;
    /* The main file is made by the store itself before SQLite opens it. */
    if (!name->now && !(flags & (SQLITE_OPEN_CREATE | SQLITE_OPEN_MAIN_DB)))
        return SQLITE_CANTOPEN;
    rc = operate(K_OPEN);
    if (rc != SQLITE_OK)
        return rc;
    if (!name->now) {
        name->now = make_inode();
        file->sync_directory =
            (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL)) != 0;
    }
    file->i = name->now;
    file->delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    file->base.pMethods = &disk.methods;
    if (ret_flags)
        *ret_flags = flags;
    return SQLITE_OK;
}

static int x_delete(sqlite3_vfs *v, const char *path, int sync_directory)
{
    struct name *name = find(path, false);
    int rc;

    (void)v;
    if (disk.tells)
        fprintf(stderr, "  disk: delete %s, flush %d\n", path, sync_directory);
    if (!name || !name->now)
        return SQLITE_IOERR_DELETE_NOENT;
    rc = operate(K_DELETE);
    if (rc != SQLITE_OK)
        return rc;
    name->now = NULL;
    if (sync_directory) {
        rc = operate(K_SYNC);
        if (rc != SQLITE_OK)
            return SQLITE_IOERR_DIR_FSYNC;
        flush_directory();
    }
    return SQLITE_OK;
}

static int x_access(sqlite3_vfs *v, const char *path, int flags, int *ret)
{
    const struct name *name = find(path, false);

    (void)v;
    *ret = name && name->now && (flags != SQLITE_ACCESS_EXISTS || name->now->cache.n > 0);
    return SQLITE_OK;
}

static int x_full(sqlite3_vfs *v, const char *path, int n, char *ret)
{
    (void)v;
    sqlite3_snprintf(n, ret, "%s", path);
    return SQLITE_OK;
}

void disk_install(void)
{
    disk.real = sqlite3_vfs_find(NULL);
    disk.methods = (sqlite3_io_methods){
        .iVersion = 2,
        .xClose = x_close,
        .xRead = x_read,
        .xWrite = x_write,
        .xTruncate = x_truncate,
        .xSync = x_sync,
        .xFileSize = x_size,
        .xLock = x_lock,
        .xUnlock = x_unlock,
        .xCheckReservedLock = x_reserved,
        .xFileControl = x_control,
        .xSectorSize = x_sector,
        .xDeviceCharacteristics = x_device,
        .xShmMap = x_shm_map,
        .xShmLock = x_shm_lock,
        .xShmBarrier = x_shm_barrier,
        .xShmUnmap = x_shm_unmap,
    };
    disk.vfs = *disk.real;
    disk.vfs.zName = "disk";
    disk.vfs.szOsFile = sizeof(struct file);
    disk.vfs.pNext = NULL;
    disk.vfs.xOpen = x_open;
    disk.vfs.xDelete = x_delete;
    disk.vfs.xAccess = x_access;
    disk.vfs.xFullPathname = x_full;
    disk.left = -1;
    disk.block = 512;
    sqlite3_vfs_register(&disk.vfs, 1);
}

/* For the tests. */

static void free_inodes(void)
{
    for (size_t k = 0; k < disk.inodes.n; k++) {
        struct inode *i = disk.inodes.p[k];

        drop_ops(i);
        vec_done(&i->ops);
        for (int r = 0; r < SHM_REGIONS; r++)
            free(i->shm[r]);
        free(i->cache.p);
        free(i->platter.p);
        free(i);
    }
    vec_done(&disk.inodes);
}

void disk_reset(void)
{
    free_inodes();
    memset(disk.names, 0, sizeof disk.names);
    disk.dead = disk.cut = disk.lies = false;
    disk_disarm();
}

void disk_arm(enum disk_fault fault, int n)
{
    disk.fault = fault;
    disk.left = n;
    disk.fired = false;
}

void disk_disarm(void)
{
    disk.fault = DISK_NO_FAULT;
    disk.left = -1;
}

bool disk_fired(void)
{
    return disk.fired;
}

bool disk_has_room(void)
{
    return disk.fault != DISK_ENOSPC_STAYS || disk.left != 0;
}

void disk_give_room(int operations)
{
    if (!disk_has_room())
        disk.left = operations;
}

void disk_cut(void)
{
    disk.stats.faults++;
    disk.dead = disk.cut = true;
}

bool disk_is_dead(void)
{
    return disk.dead;
}

void disk_block(int bytes)
{
    disk.block = bytes;
}

void disk_tell(bool tells)
{
    disk.tells = tells;
}

void disk_lie(bool lies)
{
    disk.lies = lies;
}

struct disk_stats disk_stats(void)
{
    return disk.stats;
}

static unsigned draw(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16;
}

/* A write arrives block by block, each by itself. */
static void arrive(struct inode *i, enum disk_fate fate, unsigned *seed)
{
    size_t torn = i->ops.n ? draw(seed) % i->ops.n : 0;

    for (size_t k = 0; k < i->ops.n; k++) {
        const struct under_way *op = &i->ops.p[k];
        size_t blocks = op->truncate ? 1 : (op->n + 511) / 512,
               first = fate == FATE_TORN && k == torn ? draw(seed) % (blocks + 1) : blocks;

        for (size_t b = 0; b < blocks; b++) {
            size_t from = b * 512, n = op->n - from < 512 ? op->n - from : 512;
            bool comes = fate == FATE_ALL || (fate == FATE_SOME && draw(seed) % 3 > 0)
                         || (fate == FATE_TORN && (k < torn || (k == torn && b < first)));

            if (comes)
                carry_out(i, op, op->truncate ? 0 : from, op->truncate ? 0 : n);
            else
                disk.stats.dropped++;
        }
    }
    drop_ops(i);
}

void disk_restart(enum disk_fate fate, unsigned *seed)
{
    if (disk.cut) {
        disk.stats.cuts++;
        for (size_t k = 0; k < disk.inodes.n; k++) {
            arrive(disk.inodes.p[k], fate, seed);
            copy(&disk.inodes.p[k]->cache, &disk.inodes.p[k]->platter);
        }
        for (int k = 0; k < NAMES; k++) {
            struct name *name = &disk.names[k];

            if (fate == FATE_NONE || (fate != FATE_ALL && draw(seed) % 2))
                name->now = name->safe;
            name->safe = name->now;
        }
    }
    /* Locks and shared memory were the processes'. */
    for (size_t k = 0; k < disk.inodes.n; k++) {
        struct inode *i = disk.inodes.p[k];

        i->shm_users = i->locks_shared = i->lock_reserved = i->lock_exclusive = 0;
        memset(i->shared, 0, sizeof i->shared);
        memset(i->exclusive, 0, sizeof i->exclusive);
        for (int r = 0; r < SHM_REGIONS; r++) {
            free(i->shm[r]);
            i->shm[r] = NULL;
        }
    }
    disk.dead = disk.cut = false;
    disk_disarm();
}

bool disk_flush_log(void)
{
    struct name *log = find("state.db-wal", false);

    if (operate(K_SYNC) != SQLITE_OK)
        return false;
    if (log && log->now)
        flush(log->now);
    if (operate(K_SYNC) != SQLITE_OK)
        return false;
    flush_directory();
    return true;
}

bool disk_file(const char *text, unsigned char **ret, size_t *ret_n)
{
    const struct name *name = find(text, false);

    if (!name || !name->now)
        return false;
    *ret = name->now->cache.p;
    *ret_n = name->now->cache.n;
    return true;
}

bool disk_set_file(const char *text, const unsigned char *p, size_t n)
{
    struct name *name = find(text, true);

    if (!name)
        return false;
    name->now = name->safe = NULL;
    if (!p)
        return true;
    name->now = name->safe = make_inode();
    put(&name->now->cache, 0, p, n);
    copy(&name->now->platter, &name->now->cache);
    return true;
}

struct disk_image {
    struct {
        char text[32];
        struct bytes b;
        bool there;
    } files[NAMES];
};

struct disk_image *disk_save(void)
{
    struct disk_image *image = NEW(struct disk_image);

    for (int k = 0; k < NAMES; k++) {
        memcpy(image->files[k].text, disk.names[k].text, sizeof image->files[k].text);
        image->files[k].there = disk.names[k].now != NULL;
        if (disk.names[k].now)
            copy(&image->files[k].b, &disk.names[k].now->cache);
    }
    return image;
}

void disk_load(const struct disk_image *image)
{
    static const unsigned char none[1];

    disk_reset();
    for (int k = 0; k < NAMES; k++)
        if (image->files[k].there)
            (void)disk_set_file(image->files[k].text,
                                image->files[k].b.n ? image->files[k].b.p : none,
                                image->files[k].b.n);
}

void disk_image_free(struct disk_image *image)
{
    for (int k = 0; image && k < NAMES; k++)
        free(image->files[k].b.p);
    free(image);
}
