/* Opening a damaged database: a small whole one, made here, with the input laid over it. Start must refuse it or read it, and the
 * thorough check must not be content where start is not. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "loop/loop.h"
#include "store/image.h"
#include "store/store.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int dirfd = -1;
static struct loop *loop;
static uint8_t *whole;
static size_t whole_n;

static void written(void *user, struct store_object *o, const struct error *err)
{
    (void)err;
    *(int *)user += o ? 1 : 100;
}

static void make_whole(void)
{
    char path[] = "/tmp/vireo-image-fuzz-XXXXXX";
    struct error err = {0};
    struct store *s;
    int done = 0, fd;
    struct stat st;

    log_setup("fuzz", LOG_ERROR, false);
    if (!mkdtemp(path) || (dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        abort();
    loop = loop_new(NULL);
    s = store_open(&(struct store_config){.loop = loop, .dirfd = dirfd}, &err);
    for (int i = 0; s && i < 12; i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO_FREE char *key = xasprintf("/registry/core/pods/d/%02d", i);
        const struct json *v =
            json_object(&a, "metadata", json_object(&a, "uid", json_new_z(&a, "u"), NULL), "text",
                        json_new_f(&a, "%0*d", 40 + i * 90, i), NULL);

        if (!store_put(s,
                       &(struct store_write){
                           .key = str_of(key), .value = v, .done = written, .user = &done},
                       &err))
            abort();
    }
    while (done < 12)
        loop_turn(loop, MILLIS(10));
    store_close(s);
    fd = openat(dirfd, "state.db", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        abort();
    whole_n = (size_t)st.st_size;
    whole = xcalloc(1, whole_n);
    if (read(fd, whole, whole_n) != (ssize_t)whole_n)
        abort();
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(error_clear) struct error err = {0}, err2 = {0};
    AUTO_FREE uint8_t *copy = NULL;
    struct store_image image;
    struct store *s;
    size_t n, at;
    int fd;

    if (dirfd < 0)
        make_whole();
    if (size < 4)
        return 0;
    copy = xmemdup(whole, whole_n);
    n = data[0] == 255 ? whole_n * data[1] / 256 : whole_n;
    at = ((size_t)data[0] << 12 | (size_t)data[1] << 4 | data[2]) % whole_n;
    for (size_t i = 3; i < size; i++)
        copy[(at + i - 3) % whole_n] ^= data[i];
    (void)unlinkat(dirfd, "state.db-wal", 0);
    (void)unlinkat(dirfd, "state.db-shm", 0);
    (void)unlinkat(dirfd, "state.lock", 0);
    fd = openat(dirfd, "state.db", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, copy, n) != (ssize_t)n)
        abort();
    if (store_image_check(fd, &image, &err2) != (err2.kind == ERROR_NONE))
        abort();
    close(fd);
    s = store_open(&(struct store_config){.loop = loop, .dirfd = dirfd}, &err);
    if ((s != NULL) != (err.kind == ERROR_NONE))
        abort();
    store_close(s);
    return 0;
}
