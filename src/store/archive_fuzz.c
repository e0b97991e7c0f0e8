/* The reader of backups, on bytes as they come, and on a whole backup with these bytes laid over it. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "store/archive.h"
#include <sys/mman.h>
#include <unistd.h>

static int memory_of(const void *p, size_t n)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || write(fd, p, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    return fd;
}

static void read_it(const uint8_t *p, size_t n, bool *ret_ok)
{
    AUTO(archive_done) struct archive a = {0};
    AUTO(error_clear) struct error err = {0};
    int fd = memory_of(p, n);

    *ret_ok = archive_read(fd, NULL, NULL, &a, &err);
    close(fd);
    if (*ret_ok != (err.kind == ERROR_NONE))
        abort();
}

static size_t make_whole(uint8_t *to, size_t cap)
{
    AUTO(archive_done)
    struct archive a = {.revision = 7, .time_s = 1700000000, .schema = 2, .program = "fuzz"};
    AUTO(error_clear) struct error err = {0};
    int db = memory_of("not a database", 14), out = memory_of("", 0);
    ssize_t n;

    if (!archive_add(&a, "state.db", db, &err) || !archive_write(&a, out, &err))
        abort();
    n = pread(out, to, cap, 0);
    close(db);
    close(out);
    return (size_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t whole[8192];
    static size_t n;
    uint8_t copy[8192];
    bool ok;

    if (n == 0)
        n = make_whole(whole, sizeof whole);
    read_it(data, size, &ok);
    if (size < 3)
        return 0;
    memcpy(copy, whole, n);
    for (size_t i = 2; i < size; i++)
        copy[((size_t)data[0] * 256 + data[1] + i - 2) % n] ^= data[i];
    read_it(copy, n, &ok);
    return 0;
}
