/* The fetcher: one image, one process, no privileges. Whatever a registry, archive or layout holds is parsed here and nowhere
 * else; what comes out is a folder of plain files and one line of JSON on stdout. */
#include "image/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "image/image.h"

#define MAX_LAYERS   128
#define MAX_MANIFEST (4u << 20)

/* The manifest for this machine, behind an index if there is one. ret_digest: of the manifest itself. */
static bool find_manifest(struct fetch *f, struct fetch_source *s, const struct json **ret, char ret_digest[72], struct error *err)
{
    struct str digest = STR_NONE;

    for (int depth = 0; depth < 4; depth++) {
        AUTO(buf_done) struct buf text = {0};
        const struct json *m;

        buf_init(&text, MAX_MANIFEST);
        if (!s->manifest(s, digest, &text, err) || !buf_ok(&text, "manifest", err) || !json_parse(buf_str(&text), &f->arena, &m, err))
            return false;
        if (json_get(m, "layers")) {
            fetch_sha256(buf_str(&text), ret_digest);
            *ret = m;
            return true;
        }
        digest = STR_NONE;
        json_each_item(entry, json_get(m, "manifests")) {
            struct str arch = json_str_at(entry, "platform/architecture"), os = json_str_at(entry, "platform/os");

            if ((!arch.n && json_len(json_get(m, "manifests")) == 1) || (str_is(arch, "amd64") && (!os.n || str_is(os, "linux"))))
                digest = json_str_at(entry, "digest");
            if (digest.n)
                break;
        }
        if (!digest.n)
            return error_set(err, ERROR_NOT_FOUND, "the image has no variant for linux/amd64");
    }
    return error_set(err, ERROR_INVALID, "the image's indexes do not end");
}

static bool unpack_layers(struct fetch *f, struct fetch_source *s, const struct json *manifest, struct error *err)
{
    const struct json *layers = json_get(manifest, "layers");
    size_t i = 0;

    if (json_len(layers) > MAX_LAYERS)
        return error_set(err, ERROR_TOO_LARGE, "the image has more than %d layers", MAX_LAYERS);
    json_each_item(layer, layers) {
        AUTO_CLOSE int fd = -1;
        int64_t size = json_i64_at(layer, "size", 0);

        i++;
        if (size < 0 || (uint64_t)size > f->max_bytes)
            return error_set(err, ERROR_TOO_LARGE, "layer %zu is larger than %llu bytes", i, (unsigned long long)f->max_bytes);
        if (!s->blob(s, json_str_at(layer, "digest"), (uint64_t)size, &fd, err) || !fetch_unpack(f, fd, err))
            return error_wrap(err, "layer %zu of %zu", i, json_len(layers));
    }
    return true;
}

/* Root only hands us the descriptors; everything else goes before the first foreign byte. */
static bool drop_privileges(const struct fetch *f, struct error *err)
{
    uid_t uid = (uid_t)json_i64_at(f->job, "uid", 0);
    gid_t gid = (gid_t)json_i64_at(f->job, "gid", 0);
    struct rlimit none = {0}, files = {256, 256};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
        return error_errno(err, errno, "limits of the fetcher");
    if (geteuid() != 0)
        return true;
    if (!uid || !gid || setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return error_errno(err, errno, "dropping privileges");
    prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0);
    return true;
}

static bool read_job(struct fetch *f, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};

    buf_init(&text, 1 << 20);
    if (lseek(FETCH_FD_JOB, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "job on descriptor %d: this verb is started by the node process", FETCH_FD_JOB);
    if (!file_read_fd(FETCH_FD_JOB, &text, err) || !json_parse(buf_str(&text), &f->arena, &f->job, err))
        return false;
    f->max_bytes = (uint64_t)json_i64_at(f->job, "maxBytes", 0);
    f->work = FETCH_FD_WORK;
    return image_ref_parse(json_str_at(f->job, "reference"), &f->ref, err);
}

bool fetch_image(struct fetch *f, const char *known, char ret_digest[72], struct error *err)
{
    struct fetch_source *source = NULL;
    const struct json *manifest = NULL;
    bool ok;

    if (!file_make_dirs(f->work, "root", 0755, &f->root, err))
        return false;
    ok = f->ref.source == IMAGE_REGISTRY ? fetch_registry(f, &source, err) : fetch_layout(f, &source, err);
    ok = ok && find_manifest(f, source, &manifest, ret_digest, err);
    if (ok && strcmp(known, ret_digest) != 0)
        ok = unpack_layers(f, source, manifest, err);
    if (source)
        source->done(source);
    return ok;
}

static bool run(struct fetch *f, char ret_digest[72], struct error *err)
{
    const char *known;

    if (!read_job(f, err) || !drop_privileges(f, err))
        return false;
    known = arena_strdup(&f->arena, json_str_at(f->job, "known"));
    return fetch_image(f, known, ret_digest, err);
}

int image_fetch_main(void)
{
    struct fetch f = {.work = -1, .root = -1};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf line = {0};
    char digest[72];
    bool ok;

    umask(022);
    ok = run(&f, digest, &err);
    if (ok)
        json_write(&line, json_object(&f.arena, "digest", json_new_z(&f.arena, digest), "bytes",
                                      json_new_i64(&f.arena, (int64_t)f.bytes), NULL));
    else
        json_write(&line, json_object(&f.arena, "kind", json_new_z(&f.arena, error_kind_name(err.kind)), "message",
                                      json_new_z(&f.arena, error_text(&err)), NULL));
    printf("%s\n", line.p);
    fd_close(&f.root);
    image_ref_done(&f.ref);
    arena_done(&f.arena);
    return ok ? 0 : 1;
}
