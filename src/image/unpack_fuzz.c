/* Layers of strangers: whatever the bytes say, nothing appears beside the root. Checksums of headers are put right first, since a
 * fuzzer does not find them. */
#include "base/cleanup.h"
#include "base/file.h"
#include "image/fetch.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_checksums_right(uint8_t *p, size_t n)
{
    for (size_t at = 0; at + 512 <= n; at += 512) {
        unsigned sum = 0;
        char text[8];

        if (memcmp(p + at + 257, "ustar", 5) != 0)
            continue;
        memset(p + at + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
            sum += p[at + i];
        snprintf(text, sizeof text, "%06o", sum);
        memcpy(p + at + 148, text, 7);
    }
}

static size_t names_in(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fdopendir(fd);
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[65536];
    static int place = -1;
    AUTO(error_clear) struct error err = {0}, err2 = {0};
    AUTO_CLOSE int fd = -1, root = -1, outside = -1;
    struct fetch f = {.work = -1, .root = -1, .max_bytes = 1 << 20};

    if (size < 1 || size > sizeof copy)
        return 0;
    if (place < 0) {
        static char dir[] = "/tmp/unpack-fuzz-XXXXXX";

        if (!mkdtemp(dir) || !file_open_dir(AT_FDCWD, dir, &place, &err))
            abort();
    }
    memcpy(copy, data, size);
    put_checksums_right(copy, size);
    fd = memfd_create("layer", MFD_CLOEXEC);
    if (fd < 0 || write(fd, copy, size) != (ssize_t)size
        || !file_make_dirs(place, "root", 0755, &root, &err)
        || !file_make_dirs(place, "outside", 0755, &outside, &err))
        abort();
    f.root = root;
    assert(fetch_unpack(&f, fd, &err) == (err.kind == ERROR_NONE));
    assert(f.bytes <= f.max_bytes + (64 << 10));
    assert(names_in(place) == 2 && names_in(outside) == 0);
    if (!file_remove_tree(place, "root", &err2)) {
        fprintf(stderr, "%s\n", error_text(&err2));
        abort();
    }
    return 0;
}
