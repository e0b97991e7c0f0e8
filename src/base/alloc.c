#include "base/alloc.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <unistd.h>

static _Noreturn void out_of_memory(void)
{
    static const char text[] = "out of memory\n";

    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        abort();
    abort();
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);

    if (!p)
        out_of_memory();
    return p;
}

void *xrealloc(void *p, size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes))
        out_of_memory();
    p = realloc(p, bytes ? bytes : 1);
    if (!p)
        out_of_memory();
    return p;
}

char *xstrdup(const char *s)
{
    return xmemdup(s, strlen(s) + 1);
}

char *xasprintf(const char *fmt, ...)
{
    char *text;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        out_of_memory();
    va_end(ap);
    return text;
}

void *xmemdup(const void *p, size_t n)
{
    void *copy = xrealloc(NULL, n, 1);

    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

bool heap_give_back(size_t slack)
{
    struct mallinfo2 info = mallinfo2();
    unsigned long long resident = 0, in_use = info.uordblks + info.hblkhd;
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    if (sscanf(text, "%*u %llu", &resident) != 1)
        return false;
    resident *= (unsigned long long)sysconf(_SC_PAGESIZE);
    if (info.fordblks < slack || resident < in_use + slack)
        return false;
    return malloc_trim(0) == 1;
}
