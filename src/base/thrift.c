#include "base/thrift.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

void thrift_begin(void)
{
    mallopt(M_MMAP_THRESHOLD, 256 << 10); /* said so, it does not grow with what is freed */
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
    mallopt(M_ARENA_MAX, 1);
}

/* One mapping of /proc/self/smaps. */
struct mapping {
    unsigned long long from, to;
    bool file, writable;
    unsigned long long resident, changed; /* KiB; changed: pages that no file has */
};

static bool head_of(const char *line, struct mapping *m)
{
    unsigned long long inode;
    char mode[5];

    if (sscanf(line, "%llx-%llx %4s %*x %*x:%*x %llu", &m->from, &m->to, mode, &inode) != 4)
        return false;
    m->file = inode != 0;
    m->writable = mode[1] == 'w';
    m->resident = m->changed = 0;
    return true;
}

/* What is like its file and cannot be written to is read from it again. Relocated pages are not: they stay. */
static size_t let_go(const struct mapping *m)
{
    if (!m->file || m->writable || m->changed || !m->resident)
        return 0;
    if (madvise((void *)(uintptr_t)m->from, (size_t)(m->to - m->from), MADV_DONTNEED) != 0)
        return 0;
    return (size_t)m->resident << 10;
}

static size_t text_give_back(void)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    struct mapping m = {0};
    size_t bytes = 0;

    if (!file_read(AT_FDCWD, "/proc/self/smaps", &b, &err))
        return 0; /* not ours to read: a process that may not be dumped */
    for (char *line = b.p, *end; line && *line; line = end ? end + 1 : NULL) {
        struct mapping next;
        unsigned long long n;

        end = strchr(line, '\n');
        if (end)
            *end = '\0';
        if (head_of(line, &next)) {
            bytes += let_go(&m);
            m = next;
        } else if (sscanf(line, "Rss: %llu", &n) == 1) {
            m.resident = n;
        } else if (sscanf(line, "Anonymous: %llu", &n) == 1 || sscanf(line, "Swap: %llu", &n) == 1) {
            m.changed += n;
        }
    }
    return bytes + let_go(&m);
}

size_t thrift_give_back(size_t slack)
{
    heap_give_back(slack);
    return text_give_back();
}
