/* Room for deletions on a full disk. A deletion is a write: the log grows before anything becomes free. So a file of
 * a few MiB is kept, and given up when a commit finds no room. From then on only what makes objects fewer or smaller is
 * taken, with the log being emptied often, until the disk has room for the file again. */
#include "store/impl.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { RESERVE_BYTES = 4 << 20, NEARLY_FULL = 512 << 10 };

static uint64_t room(int dirfd)
{
    struct statvfs v;

    return fstatvfs(dirfd, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : UINT64_MAX;
}

bool reserve_make(int dirfd)
{
    AUTO_CLOSE int fd =
        openat(dirfd, "state.reserve", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return false;
    if (st.st_size >= RESERVE_BYTES)
        return true;
    if (room(dirfd) < RESERVE_BYTES + NEARLY_FULL)
        return false; /* trying would take the last of it from others for a moment */
    if (posix_fallocate(fd, 0, RESERVE_BYTES) == 0)
        return true;
    (void)!ftruncate(fd, 0); /* half of it would be missing elsewhere */
    return false;
}

void reserve_give_up(int dirfd)
{
    (void)unlinkat(dirfd, "state.reserve", 0);
}

bool reserve_disk_is_full(int dirfd)
{
    return room(dirfd) < NEARLY_FULL;
}
