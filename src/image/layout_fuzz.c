/* A local image of a stranger: index.json, the manifest that it names, and one whole layer. The input is the first two, parted by a
 * zero byte; an '@' in the one stands for the other's digest, in the manifest for the layer's. */
#include "base/cleanup.h"
#include "base/file.h"
#include "image/fetch.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int oci = -1, work = -1, blobs = -1;
static char layer_digest[72];

static void put(int dirfd, const char *name, struct str text)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n)
        abort();
    close(fd);
}

static void set_up(void)
{
    AUTO(error_clear) struct error err = {0};
    static char dir[] = "/tmp/layout-fuzz-XXXXXX", tar[4096];
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    size_t n = 0;
    int top;

    if (!mkdtemp(dir) || !file_open_dir(AT_FDCWD, dir, &top, &err)
        || !file_make_dirs(top, "oci", 0755, &oci, &err)
        || !file_make_dirs(top, "work", 0755, &work, &err)
        || !file_make_dirs(oci, "i/blobs/sha256", 0755, &blobs, &err))
        abort();
    archive_write_set_format_ustar(a);
    archive_write_open_memory(a, tar, sizeof tar, &n);
    archive_entry_set_pathname(e, "disk/a.img");
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    archive_entry_set_size(e, 1);
    if (archive_write_header(a, e) != ARCHIVE_OK || archive_write_data(a, "x", 1) != 1)
        abort();
    archive_entry_free(e);
    archive_write_close(a);
    archive_write_free(a);
    fetch_sha256(str_n(tar, n), layer_digest);
    put(blobs, layer_digest + 7, str_n(tar, n));
    if (dup2(oci, FETCH_FD_OCI) < 0)
        abort();
}

static void with_digest(struct buf *out, struct str text, const char *digest)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '@')
            buf_adds(out, digest);
        else
            buf_addc(out, text.p[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(error_clear) struct error err = {0}, removed = {0};
    AUTO(buf_done) struct buf index = {0}, manifest = {0};
    struct fetch f = {.root = -1, .max_bytes = 1 << 20};
    char digest[72], got[72];
    struct str first, second;

    if (size > 16384)
        return 0;
    if (oci < 0)
        set_up();
    f.work = work;
    if (!str_cut(str_n((const char *)data, size), '\0', &first, &second))
        second = STR("{}");
    with_digest(&manifest, second, layer_digest);
    fetch_sha256(buf_str(&manifest), digest);
    with_digest(&index, first, digest);
    put(blobs, digest + 7, buf_str(&manifest));
    put(oci, "i/index.json", buf_str(&index));
    if (!image_ref_parse(STR("oci:i"), &f.ref, &err))
        abort();
    if (fetch_image(&f, "", got, &err))
        assert(err.kind == ERROR_NONE && str_starts(str_of(got), STR("sha256:")));
    else
        assert(err.kind != ERROR_NONE);
    fd_close(&f.root);
    image_ref_done(&f.ref);
    arena_done(&f.arena);
    if (strcmp(digest, layer_digest) != 0)
        unlinkat(blobs, digest + 7, 0);
    if (!file_remove_tree(work, "root", &removed))
        abort();
    return 0;
}
