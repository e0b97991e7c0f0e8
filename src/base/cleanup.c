#include "base/cleanup.h"

#include <errno.h>
#include <unistd.h>

void cleanup_free_p(void *pointer_to_pointer)
{
    void *p;

    /* The variable may be a pointer of any type: copied, not cast, for the aliasing rules. */
    memcpy(&p, pointer_to_pointer, sizeof p);
    free(p);
}

void cleanup_close_p(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

void fd_close(int *fd)
{
    cleanup_close_p(fd);
}
