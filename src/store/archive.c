#include "store/archive.h"
#include "base/file.h"
#include "json/json.h"
#include "store/impl.h"
#include <errno.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum { BLOCK = 512, CHUNK = 64 << 10, LEVEL = 3, MANIFEST_MAX = 64 << 10 };

void archive_done(struct archive *a)
{
    vec_done(&a->files);
}

bool archive_name_valid(const char *name)
{
    const char *at = name;

    if (strcmp(name, "state.db") == 0)
        return true;
    if (strncmp(name, "pki/", 4) != 0 || !name[4] || name[4] == '.'
        || strlen(name) >= sizeof((struct archive_file *)0)->name)
        return false;
    for (at += 4; *at; at++)
        if (!(*at >= 'a' && *at <= 'z') && !(*at >= '0' && *at <= '9') && *at != '-' && *at != '.')
            return false;
    return true;
}

static void hex(const unsigned char *sum, char ret[65])
{
    for (int i = 0; i < 32; i++)
        snprintf(ret + 2 * i, 3, "%02x", sum[i]);
}

static void free_digest(EVP_MD_CTX **c)
{
    EVP_MD_CTX_free(*c);
}

static bool digest_start(EVP_MD_CTX **ret, struct error *err)
{
    *ret = EVP_MD_CTX_new();
    return (*ret && EVP_DigestInit_ex(*ret, EVP_sha256(), NULL) == 1)
           || error_set(err, ERROR_INTERNAL, "SHA-256 is not available");
}

static void digest_end(EVP_MD_CTX *c, char ret[65])
{
    unsigned char sum[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;

    EVP_DigestFinal_ex(c, sum, &n);
    hex(sum, ret);
}

bool archive_add(struct archive *a, const char *name, int fd, struct error *err)
{
    AUTO(free_digest) EVP_MD_CTX *c = NULL;
    AUTO_FREE char *chunk = xcalloc(1, CHUNK);
    struct archive_file f = {.fd = fd};
    ssize_t n;

    if (!archive_name_valid(name) || a->files.n >= ARCHIVE_FILES_MAX)
        return error_set(err, ERROR_INVALID, "backup: a member '%s' is not possible", name);
    memcpy(f.name, name, strlen(name) + 1);
    if (!digest_start(&c, err))
        return false;
    while ((n = pread(fd, chunk, CHUNK, f.size)) > 0) {
        EVP_DigestUpdate(c, chunk, (size_t)n);
        f.size += n;
    }
    if (n < 0)
        return error_errno(err, errno, "%s", name);
    digest_end(c, f.sha256);
    vec_push(&a->files, f);
    return true;
}

/* Writing. */

struct packer {
    ZSTD_CStream *z;
    char *out;
    int fd;
};

static void packer_done(struct packer *p)
{
    ZSTD_freeCStream(p->z);
    free(p->out);
}

static bool pack(struct packer *p, const void *bytes, size_t n, bool end, struct error *err)
{
    ZSTD_inBuffer in = {bytes, n, 0};
    size_t left;

    do {
        ZSTD_outBuffer out = {p->out, CHUNK, 0};

        left = ZSTD_compressStream2(p->z, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return error_set(err, ERROR_INTERNAL, "compression: %s", ZSTD_getErrorName(left));
        if (!file_write_all(p->fd, str_n(p->out, out.pos), err))
            return false;
    } while (end ? left > 0 : in.pos < in.size);
    return true;
}

static bool pack_header(struct packer *p, const char *name, int64_t size, int64_t time_s,
                        struct error *err)
{
    char h[BLOCK] = {0};
    unsigned sum = 0;

    snprintf(h, 100, "%s", name);
    memcpy(h + 100, "0000600", 8);
    memcpy(h + 108, "0000000", 8);
    memcpy(h + 116, "0000000", 8);
    snprintf(h + 124, 12, "%011llo", (unsigned long long)size & 077777777777ULL);
    snprintf(h + 136, 12, "%011llo", (unsigned long long)time_s & 077777777777ULL);
    memset(h + 148, ' ', 8);
    h[156] = '0';
    memcpy(h + 257, "ustar\00000", 8);
    for (int i = 0; i < BLOCK; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum & 0777777);
    return pack(p, h, sizeof h, false, err);
}

static bool pack_padding(struct packer *p, int64_t size, struct error *err)
{
    static const char zero[BLOCK];

    return pack(p, zero, (size_t)(-size & (BLOCK - 1)), false, err);
}

static bool pack_file(struct packer *p, const struct archive *a, const struct archive_file *f,
                      struct error *err)
{
    AUTO_FREE char *chunk = xcalloc(1, CHUNK);

    if (!pack_header(p, f->name, f->size, a->time_s, err))
        return false;
    for (int64_t at = 0; at < f->size;) {
        size_t want = f->size - at < CHUNK ? (size_t)(f->size - at) : CHUNK;
        ssize_t n = pread(f->fd, chunk, want, at);

        if (n <= 0)
            return n < 0 ? error_errno(err, errno, "%s", f->name)
                         : error_set(err, ERROR_INTERNAL, "%s: became shorter", f->name);
        if (!pack(p, chunk, (size_t)n, false, err))
            return false;
        at += n;
    }
    return pack_padding(p, f->size, err);
}

static void write_manifest(const struct archive *a, struct buf *b)
{
    AUTO(arena_done) struct arena arena = {0};
    const struct json *files = json_array(&arena, NULL);

    for (size_t i = 0; i < a->files.n; i++) {
        const struct archive_file *f = &a->files.p[i];

        files = json_append(&arena, files,
                            json_object(&arena, "name", json_new_z(&arena, f->name), "size",
                                        json_new_i64(&arena, f->size), "sha256",
                                        json_new_z(&arena, f->sha256), NULL));
    }
    json_write(b,
               json_object(&arena, "format", json_new_z(&arena, "vireo-backup"), "formatVersion",
                           json_new_i64(&arena, ARCHIVE_FORMAT), "program",
                           json_new_z(&arena, a->program), "time", json_new_i64(&arena, a->time_s),
                           "schema", json_new_i64(&arena, a->schema), "revision",
                           json_new_i64(&arena, a->revision), "objects",
                           json_new_i64(&arena, a->objects), "files", files, NULL));
    buf_addc(b, '\n');
}

bool archive_write(const struct archive *a, int to_fd, struct error *err)
{
    AUTO(packer_done)
    struct packer p = {.z = ZSTD_createCStream(), .out = xcalloc(1, CHUNK), .fd = to_fd};
    AUTO(buf_done) struct buf manifest = {0};
    static const char end[2 * BLOCK];

    if (!p.z)
        return error_set(err, ERROR_INTERNAL, "compression: out of memory");
    ZSTD_CCtx_setParameter(p.z, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(p.z, ZSTD_c_checksumFlag, 1);
    write_manifest(a, &manifest);
    if (!pack_header(&p, "manifest.json", (int64_t)manifest.n, a->time_s, err)
        || !pack(&p, manifest.p, manifest.n, false, err)
        || !pack_padding(&p, (int64_t)manifest.n, err))
        return false;
    for (size_t i = 0; i < a->files.n; i++)
        if (!pack_file(&p, a, &a->files.p[i], err))
            return false;
    return pack(&p, end, sizeof end, true, err);
}

/* Reading. */

struct unpacker {
    ZSTD_DStream *z;
    char *in, *out;
    ZSTD_inBuffer input;
    size_t out_at, out_n;
    int fd;
    bool frame_open;
};

static void unpacker_done(struct unpacker *u)
{
    ZSTD_freeDStream(u->z);
    free(u->in);
    free(u->out);
}

static bool damaged(struct error *err, const char *how)
{
    return error_set(err, ERROR_INVALID, "the backup is damaged: %s", how);
}

/* More bytes in out; false at an error. *ret_end: there are none. */
static bool refill(struct unpacker *u, bool *ret_end, struct error *err)
{
    ZSTD_outBuffer out = {u->out, CHUNK, 0};

    *ret_end = false;
    while (out.pos == 0) {
        size_t rc;

        if (u->input.pos == u->input.size) {
            ssize_t n = read(u->fd, u->in, CHUNK);

            if (n < 0)
                return error_errno(err, errno, "backup");
            if (n == 0 && u->frame_open)
                return damaged(err, "it ends in the middle (was it copied whole?)");
            if (n == 0) {
                *ret_end = true;
                return true;
            }
            u->input = (ZSTD_inBuffer){u->in, (size_t)n, 0};
        }
        rc = ZSTD_decompressStream(u->z, &out, &u->input);
        if (ZSTD_isError(rc))
            return damaged(err, ZSTD_getErrorName(rc));
        u->frame_open = rc != 0;
    }
    u->out_at = 0;
    u->out_n = out.pos;
    return true;
}

static bool take(struct unpacker *u, char *to, size_t n, struct error *err)
{
    while (n > 0) {
        size_t have = u->out_n - u->out_at, part = have < n ? have : n;
        bool end;

        if (part == 0) {
            if (!refill(u, &end, err))
                return false;
            if (end)
                return damaged(err, "it ends in the middle (was it copied whole?)");
            continue;
        }
        memcpy(to, u->out + u->out_at, part);
        u->out_at += part;
        to += part;
        n -= part;
    }
    return true;
}

static bool take_header(struct unpacker *u, const char *name, int64_t *ret_size, struct error *err)
{
    char h[BLOCK], *end;
    unsigned sum = 0;

    if (!take(u, h, sizeof h, err))
        return false;
    for (int i = 0; i < BLOCK; i++)
        sum += i >= 148 && i < 156 ? ' ' : (unsigned char)h[i];
    if (memcmp(h + 257, "ustar", 5) != 0 || strtoul(h + 148, NULL, 8) != sum)
        return damaged(err, "a member has no valid head");
    if (strnlen(h, 100) == 100 || strcmp(h, name) != 0 || h[156] != '0')
        return error_set(err, ERROR_INVALID,
                         "the backup is damaged: where '%s' has to be is something else", name);
    h[135] = '\0';
    *ret_size = (int64_t)strtoull(h + 124, &end, 8);
    return *end == '\0' || damaged(err, "a member has no valid size");
}

static bool take_padding(struct unpacker *u, int64_t size, struct error *err)
{
    char rest[BLOCK];

    return take(u, rest, (size_t)(-size & (BLOCK - 1)), err);
}

static bool copy_text(struct str s, char *to, size_t n)
{
    if (s.n == 0 || s.n >= n || memchr(s.p, '\0', s.n))
        return false;
    memcpy(to, s.p, s.n);
    to[s.n] = '\0';
    return true;
}

static bool parse_file(const struct json *v, struct archive *a, struct error *err)
{
    struct archive_file f = {.size = json_i64_at(v, "size", -1), .fd = -1};
    bool database;

    if (!copy_text(json_str_at(v, "name"), f.name, sizeof f.name) || !archive_name_valid(f.name)
        || !copy_text(json_str_at(v, "sha256"), f.sha256, sizeof f.sha256))
        return damaged(err, "its manifest names a file that does not belong in a backup");
    database = strcmp(f.name, "state.db") == 0;
    if (f.size < 0 || f.size > (database ? ARCHIVE_DATABASE_MAX : ARCHIVE_KEY_MAX)
        || a->files.n >= ARCHIVE_FILES_MAX)
        return damaged(err, "its manifest says impossible sizes");
    for (size_t i = 0; i < a->files.n; i++)
        if (strcmp(a->files.p[i].name, f.name) == 0)
            return damaged(err, "its manifest names a file twice");
    vec_push(&a->files, f);
    return true;
}

static bool parse_manifest(struct str text, struct archive *a, struct error *err)
{
    AUTO(arena_done) struct arena arena = {0};
    const struct json *v;
    int64_t format;

    if (!json_parse(text, &arena, &v, err))
        return error_wrap(err, "the backup is damaged: manifest.json");
    if (!str_is(json_str_at(v, "format"), "vireo-backup"))
        return error_set(
            err, ERROR_INVALID,
            "this is no backup of vireo (manifest.json has no format \"vireo-backup\")");
    format = json_i64_at(v, "formatVersion", 0);
    (void)copy_text(json_str_at(v, "program"), a->program, sizeof a->program);
    if (format > ARCHIVE_FORMAT)
        return error_set(
            err, ERROR_INVALID,
            "the backup was written by a newer release (%s, format %lld; this one knows %d)",
            a->program[0] ? a->program : "unknown", (long long)format, ARCHIVE_FORMAT);
    a->revision = json_i64_at(v, "revision", 0);
    a->time_s = json_i64_at(v, "time", 0);
    a->schema = json_i64_at(v, "schema", 0);
    a->objects = json_i64_at(v, "objects", 0);
    if (format < 1 || a->revision <= 0 || a->time_s < 0 || a->schema <= 0)
        return damaged(err, "its manifest lacks version, revision or time");
    json_each_item(f, json_get(v, "files"))
        if (!parse_file(f, a, err))
            return false;
    for (size_t i = 0; i < a->files.n; i++)
        if (strcmp(a->files.p[i].name, "state.db") == 0)
            return true;
    return damaged(err, "its manifest has no state.db");
}

static bool take_manifest(struct unpacker *u, struct archive *a, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};
    int64_t size;
    char *to;

    if (!take_header(u, "manifest.json", &size, err)) {
        AUTO_FREE char *why = xstrdup(error_text(err));

        return error_set(err, ERROR_INVALID, "this is no backup of vireo, or a damaged one (%s)",
                         why);
    }
    if (size <= 0 || size > MANIFEST_MAX)
        return damaged(err, "its manifest has an impossible size");
    buf_init(&text, MANIFEST_MAX + 1);
    to = buf_reserve(&text, (size_t)size);
    if (!take(u, to, (size_t)size, err) || !take_padding(u, size, err))
        return false;
    buf_commit(&text, (size_t)size);
    return parse_manifest(buf_str(&text), a, err);
}

static bool take_file(struct unpacker *u, const struct archive_file *f, int fd, struct error *err)
{
    AUTO(free_digest) EVP_MD_CTX *c = NULL;
    AUTO_FREE char *chunk = xcalloc(1, CHUNK);
    char sum[65];
    int64_t size;

    if (!take_header(u, f->name, &size, err) || !digest_start(&c, err))
        return false;
    if (size != f->size)
        return error_set(err, ERROR_INVALID,
                         "the backup is damaged: %s has %lld bytes, its manifest says %lld",
                         f->name, (long long)size, (long long)f->size);
    for (int64_t at = 0; at < size;) {
        size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;

        if (!take(u, chunk, n, err))
            return false;
        EVP_DigestUpdate(c, chunk, n);
        if (fd >= 0 && !file_write_all(fd, str_n(chunk, n), err))
            return error_wrap(err, "%s", f->name);
        at += (int64_t)n;
    }
    digest_end(c, sum);
    if (strcmp(sum, f->sha256) != 0)
        return error_set(err, ERROR_INVALID,
                         "the backup is damaged: the checksum of %s is not that of its manifest",
                         f->name);
    return take_padding(u, size, err);
}

/* Two blocks of zeros, or as many as tar rounds up to. */
static bool take_end(struct unpacker *u, struct error *err)
{
    char blocks[2 * BLOCK];
    bool end = false;

    if (!take(u, blocks, sizeof blocks, err))
        return false;
    for (size_t i = 0; i < sizeof blocks; i++)
        if (blocks[i])
            return damaged(err, "it has more files than its manifest");
    for (int n = 0; !end && n < 32 * BLOCK; n++) {
        if (u->out_at == u->out_n && !refill(u, &end, err))
            return false;
        if (!end && u->out[u->out_at++])
            return damaged(err, "something follows its end");
    }
    return end || damaged(err, "something follows its end");
}

bool archive_read(int fd, int (*sink)(void *user, const struct archive_file *f, struct error *err),
                  void *user, struct archive *ret, struct error *err)
{
    AUTO(unpacker_done)
    struct unpacker u = {
        .z = ZSTD_createDStream(), .in = xcalloc(1, CHUNK), .out = xcalloc(1, CHUNK), .fd = fd};

    if (!u.z)
        return error_set(err, ERROR_INTERNAL, "decompression: out of memory");
    ZSTD_DCtx_setParameter(u.z, ZSTD_d_windowLogMax, 23);
    if (!take_manifest(&u, ret, err))
        return false;
    for (size_t i = 0; i < ret->files.n; i++) {
        int to = sink ? sink(user, &ret->files.p[i], err) : -1;

        if (err->kind != ERROR_NONE || !take_file(&u, &ret->files.p[i], to, err))
            return false;
    }
    return take_end(&u, err);
}
