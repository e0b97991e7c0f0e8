/* store/faults - an SQLite VFS for tests that fails on command: the n-th write, flush or truncation, once or from
 * then on; or the power goes: nothing is written any more, and what was not flushed is lost in part (power_back()).
 * It wraps the default VFS and becomes the default itself. */
#pragma once
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum fault_op { FAULT_WRITE, FAULT_SYNC, FAULT_TRUNCATE, FAULT_READ, FAULT_POWER, FAULT_OPS };

/* What a write or truncation that is not flushed yet has replaced. */
struct fault_undo {
    struct fault_undo *older;
    char *path, *old; /* owned */
    sqlite3_int64 at, size; /* size of the file before */
    int n, had; /* bytes written; of them there before */
};
static struct {
    atomic_int left[FAULT_OPS]; /* counts down; the fault fires at 0; < 0: none */
    atomic_int code;            /* SQLITE_IOERR_WRITE, SQLITE_FULL … */
    atomic_bool stays;          /* every one from then on fails */
    atomic_int fired;
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    sqlite3_io_methods methods;
    bool lying; /* flushes do nothing and say they did: a seeded bug that the tests have to find */
    atomic_bool power_off;
    pthread_mutex_t lock;
    struct fault_undo *undo; /* newest first */
} faults;

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real;
    const char *path;
};

static inline sqlite3_file *fault_real(sqlite3_file *f)
{
    return ((struct fault_file *)(void *)f)->real;
}

static inline bool fault_fires(enum fault_op op)
{
    int left = atomic_load(&faults.left[op]);

    if (left < 0 || (left > 0 && atomic_fetch_sub(&faults.left[op], 1) > 1))
        return false;
    if (!atomic_load(&faults.stays))
        atomic_store(&faults.left[op], -1);
    else
        atomic_store(&faults.left[op], 0);
    atomic_fetch_add(&faults.fired, 1);
    return true;
}

static inline void fault_set(enum fault_op op, int n, int code, bool stays)
{
    atomic_store(&faults.code, code);
    atomic_store(&faults.stays, stays);
    atomic_store(&faults.left[op], n);
}

static inline void fault_clear(void)
{
    for (int i = 0; i < FAULT_OPS; i++)
        atomic_store(&faults.left[i], -1);
    atomic_store(&faults.fired, 0);
}

#define FAULT_PASS(name, params, args)                                                             \
    static int fault_##name params                                                                 \
    {                                                                                              \
        sqlite3_file *r = fault_real(f);                                                           \
        return r->pMethods->x##name args;                                                          \
    }
FAULT_PASS(FileSize, (sqlite3_file *f, sqlite3_int64 *n), (r, n))
FAULT_PASS(Lock, (sqlite3_file *f, int n), (r, n))
FAULT_PASS(Unlock, (sqlite3_file *f, int n), (r, n))
FAULT_PASS(CheckReservedLock, (sqlite3_file *f, int *n), (r, n))
FAULT_PASS(FileControl, (sqlite3_file *f, int op, void *p), (r, op, p))
FAULT_PASS(ShmMap, (sqlite3_file *f, int a, int b, int c, void volatile **p), (r, a, b, c, p))
FAULT_PASS(ShmLock, (sqlite3_file *f, int a, int b, int c), (r, a, b, c))
FAULT_PASS(ShmUnmap, (sqlite3_file *f, int a), (r, a))

static int fault_SectorSize(sqlite3_file *f)
{
    return fault_real(f)->pMethods->xSectorSize(fault_real(f));
}

static int fault_DeviceCharacteristics(sqlite3_file *f)
{
    return fault_real(f)->pMethods->xDeviceCharacteristics(fault_real(f));
}

static void fault_ShmBarrier(sqlite3_file *f)
{
    fault_real(f)->pMethods->xShmBarrier(fault_real(f));
}

static int fault_Read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    if (fault_fires(FAULT_READ))
        return SQLITE_IOERR_READ;
    return fault_real(f)->pMethods->xRead(fault_real(f), p, n, at);
}

/* Every write and flush counts; true when there is no power (any more). */
static inline bool power_is_off(void)
{
    if (fault_fires(FAULT_POWER))
        atomic_store(&faults.power_off, true);
    return atomic_load(&faults.power_off);
}

static inline void remember(sqlite3_file *f, sqlite3_int64 at, int n)
{
    struct fault_file *file = (struct fault_file *)(void *)f;
    struct fault_undo *u = calloc(1, sizeof *u);
    sqlite3_int64 had;

    fault_real(f)->pMethods->xFileSize(fault_real(f), &u->size);
    had = u->size - at;
    u->path = strdup(file->path ? file->path : "");
    u->at = at;
    u->n = n;
    u->had = had < 0 ? 0 : had > n ? n : (int)had;
    u->old = calloc(1, (size_t)u->had + 1);
    if (u->had)
        fault_real(f)->pMethods->xRead(fault_real(f), u->old, u->had, at);
    pthread_mutex_lock(&faults.lock);
    u->older = faults.undo;
    faults.undo = u;
    pthread_mutex_unlock(&faults.lock);
}

static inline void undo_free(struct fault_undo *u)
{
    free(u->path);
    free(u->old);
    free(u);
}

/* Flushed: what this file has is safe. */
static inline void forget(const char *path)
{
    pthread_mutex_lock(&faults.lock);
    for (struct fault_undo **at = &faults.undo; *at;) {
        struct fault_undo *u = *at;

        if (path && strcmp(u->path, path) != 0) {
            at = &u->older;
            continue;
        }
        *at = u->older;
        undo_free(u);
    }
    pthread_mutex_unlock(&faults.lock);
}

/* After everything is closed: a part of what was not flushed is taken back, newest first; all of it when
 * *seed is 0. */
static inline void power_back(unsigned *seed)
{
    for (struct fault_undo *u = faults.undo, *older; u; u = older) {
        int fd = open(u->path, O_RDWR | O_CLOEXEC);

        older = u->older;
        if (fd >= 0 && (!*seed || rand_r(seed) % 3 > 0)) {
            if (u->had && pwrite(fd, u->old, (size_t)u->had, u->at) != u->had)
                abort();
            if (ftruncate(fd, u->size) != 0)
                abort();
        }
        if (fd >= 0)
            close(fd);
        undo_free(u);
    }
    faults.undo = NULL;
    atomic_store(&faults.power_off, false);
}

/* Half of the bytes arrive: a torn write. */
static int fault_Write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    if (fault_fires(FAULT_WRITE)) {
        (void)fault_real(f)->pMethods->xWrite(fault_real(f), p, n / 2, at);
        return atomic_load(&faults.code);
    }
    if (power_is_off())
        return SQLITE_IOERR_WRITE;
    remember(f, at, n);
    return fault_real(f)->pMethods->xWrite(fault_real(f), p, n, at);
}

static int fault_Truncate(sqlite3_file *f, sqlite3_int64 n)
{
    if (fault_fires(FAULT_TRUNCATE))
        return SQLITE_IOERR_TRUNCATE;
    if (power_is_off())
        return SQLITE_IOERR_TRUNCATE;
    {
        sqlite3_int64 size;

        fault_real(f)->pMethods->xFileSize(fault_real(f), &size);
        if (size > n)
            remember(f, n, (int)(size - n));
    }
    return fault_real(f)->pMethods->xTruncate(fault_real(f), n);
}

static int fault_Sync(sqlite3_file *f, int flags)
{
    int rc;

    if (fault_fires(FAULT_SYNC) || power_is_off())
        return SQLITE_IOERR_FSYNC;
    if (faults.lying)
        return SQLITE_OK;
    rc = fault_real(f)->pMethods->xSync(fault_real(f), flags);
    if (rc == SQLITE_OK)
        forget(((struct fault_file *)(void *)f)->path);
    return rc;
}

static int fault_Close(sqlite3_file *f)
{
    sqlite3_file *r = fault_real(f);
    int rc = r->pMethods ? r->pMethods->xClose(r) : SQLITE_OK;

    free(r);
    return rc;
}

static int fault_Open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct fault_file *file = (struct fault_file *)(void *)f;
    int rc;

    (void)v;
    file->base.pMethods = NULL;
    file->path = name; /* SQLite keeps it as long as the file is open */
    file->real = calloc(1, (size_t)faults.real->szOsFile);
    rc = faults.real->xOpen(faults.real, name, file->real, flags, out);
    if (rc != SQLITE_OK && !file->real->pMethods) {
        free(file->real);
        return rc;
    }
    file->base.pMethods = &faults.methods;
    return rc;
}

static int fault_Delete(sqlite3_vfs *v, const char *name, int sync)
{
    (void)v;
    if (atomic_load(&faults.power_off))
        return SQLITE_IOERR_DELETE;
    forget(name);
    return faults.real->xDelete(faults.real, name, sync);
}

static inline void fault_install(void)
{
    faults.real = sqlite3_vfs_find(NULL);
    faults.methods = (sqlite3_io_methods){
        .iVersion = 2, .xClose = fault_Close, .xRead = fault_Read, .xWrite = fault_Write, .xTruncate = fault_Truncate,
        .xSync = fault_Sync, .xFileSize = fault_FileSize, .xLock = fault_Lock, .xUnlock = fault_Unlock,
        .xCheckReservedLock = fault_CheckReservedLock, .xFileControl = fault_FileControl,
        .xSectorSize = fault_SectorSize, .xDeviceCharacteristics = fault_DeviceCharacteristics, .xShmMap = fault_ShmMap,
        .xShmLock = fault_ShmLock, .xShmBarrier = fault_ShmBarrier, .xShmUnmap = fault_ShmUnmap,
    };
    faults.vfs = *faults.real;
    faults.vfs.zName = "faults";
    faults.vfs.szOsFile = sizeof(struct fault_file);
    faults.vfs.pNext = NULL;
    faults.vfs.xOpen = fault_Open;
    faults.vfs.xDelete = fault_Delete;
    pthread_mutex_init(&faults.lock, NULL);
    sqlite3_vfs_register(&faults.vfs, 1);
    fault_clear();
}
