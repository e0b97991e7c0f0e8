/* Local OCI image layouts (image-spec "Image Layout") as a source of blobs; archives are unpacked to one first. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "image/fetch.h"

#define MAX_INDEX (4u << 20)

struct layout {
    struct fetch_source source;
    struct fetch *fetch;
    int dir;
};

static bool open_blob(struct fetch_source *s, struct str digest, uint64_t max, int *ret_fd, struct error *err)
{
    struct layout *l = container_of(s, struct layout, source);
    AUTO(buf_done) struct buf path = {0};
    AUTO_CLOSE int fd = -1;

    (void)max;
    if (!image_digest_valid(digest))
        return error_set(err, ERROR_INVALID, "the image names a digest that is not sha256");
    buf_addf(&path, "blobs/sha256/" STR_FMT, STR_ARG(str_skip(digest, 7)));
    if (!file_open_beneath(l->dir, path.p, O_RDONLY, 0, &fd, err))
        return error_wrap(err, "blob of the layout");
    if (!fetch_verify(fd, digest, err))
        return false;
    *ret_fd = TAKE_FD(fd);
    return true;
}

static bool read_blob(struct layout *l, struct str digest, struct buf *out, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    return open_blob(&l->source, digest, MAX_INDEX, &fd, err) && file_read_fd(fd, out, err);
}

/* The entry of index.json that carries the tag; without names, a single entry serves "latest". */
static bool find_tag(struct layout *l, struct str *ret_digest, struct error *err)
{
    struct fetch *f = l->fetch;
    AUTO(buf_done) struct buf text = {0};
    const struct json *index, *manifests;

    buf_init(&text, MAX_INDEX);
    if (!file_read(l->dir, "index.json", &text, err) || !json_parse(buf_str(&text), &f->arena, &index, err))
        return error_wrap(err, "index.json of the layout");
    manifests = json_get(index, "manifests");
    json_each_item(m, manifests) {
        struct str name = json_str(json_get(json_get(m, "annotations"), "org.opencontainers.image.ref.name"));

        if (str_is(name, f->ref.tag) || (!name.n && json_len(manifests) == 1)) {
            *ret_digest = json_str_at(m, "digest");
            return true;
        }
    }
    return error_set(err, ERROR_NOT_FOUND, "the local image '%s' has no tag '%s'", f->ref.repository, f->ref.tag);
}

static bool read_manifest(struct fetch_source *s, struct str digest, struct buf *out, struct error *err)
{
    struct layout *l = container_of(s, struct layout, source);

    if (!digest.n && !find_tag(l, &digest, err))
        return false;
    return read_blob(l, digest, out, err);
}

static void layout_done(struct fetch_source *s)
{
    struct layout *l = container_of(s, struct layout, source);

    fd_close(&l->dir);
    free(l);
}

static bool open_layout(struct fetch *f, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int file = -1;

    if (f->ref.source == IMAGE_LAYOUT)
        return file_open_dir(FETCH_FD_OCI, f->ref.repository, ret_fd, err);
    if (!file_open_beneath(FETCH_FD_OCI, f->ref.repository, O_RDONLY, 0, &file, err))
        return false;
    return file_make_dirs(f->work, "layout", 0700, ret_fd, err) && fetch_unpack_into(f, file, *ret_fd, false, err);
}

bool fetch_layout(struct fetch *f, struct fetch_source **ret, struct error *err)
{
    struct layout *l;
    int dir = -1;

    if (fcntl(FETCH_FD_OCI, F_GETFD) < 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no directory for local images on this node (vireo serve --oci-dir DIR)");
    if (!open_layout(f, &dir, err)) {
        fd_close(&dir);
        return error_wrap(err, "local image '%s' in the OCI directory", f->ref.repository);
    }
    l = NEW(struct layout);
    l->source = (struct fetch_source){.blob = open_blob, .manifest = read_manifest, .done = layout_done};
    l->fetch = f;
    l->dir = dir;
    *ret = &l->source;
    return true;
}
