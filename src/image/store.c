/* The parent's side: which references are here, one fetcher per missing one, equal pulls joined.
 *
 *   images/index.json           {"references": {ref: digest}}; what was fetched with credentials has their hash behind the
 *                               reference: a copy of it serves who has the same ones, and nobody else
 *   images/roots/<hex>/         an unpacked image, read-only
 *   images/tmp/<n>/             a fetcher's work; removed at start */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <dirent.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/list.h"
#include "base/log.h"
#include "base/vec.h"
#include "image/fetch.h"
#include "image/image.h"
#include "loop/child.h"

#define DEFAULT_MAX (64ull << 30)
#define MAX_FETCHES 4 /* at the same time: two cores, one disk */
/* A registry that trickles is a tenant's, and must not keep the others' images waiting: what has run for long is waiting for the
 * network and counts no more, up to a number that memory allows; nothing runs for ever. */
#define LONG_AFTER  SECONDS(20)
#define MAX_LONG    32
#define UNUSED_NS   SECONDS(3600)
#define FULL_PERCENT 10
#define MAX_RUNTIME SECONDS(2 * 3600)

struct waiter {
    void (*done)(void *user, int root_fd, const char *root_path, const char *digest, const struct error *err);
    void *user;
};

struct pull {
    struct list node;
    struct image_store *store;
    char *reference, *key, *work_name; /* key: in the index */
    const struct json *auth; /* the registry's entry of the credentials, or NULL */
    struct arena arena;
    struct child child;
    struct loop_timer timer;
    bool running, is_long, timed_out;
    char *digest;      /* result */
    struct error err;
    VEC(struct waiter) waiters;
    struct loop_defer finish;
};

struct image_store {
    struct image_store_config config;
    char *fetcher;
    int dir;                    /* images/ */
    char *path;                 /* its absolute path, for those who mount */
    struct arena index_arena;
    const struct json *index;   /* {ref: digest} */
    struct list pulls;
    unsigned running, n_long, serial; /* running: without those that take long */
};

static void start_next(struct image_store *s);

static bool root_name(struct str digest, char ret[128])
{
    if (!image_digest_valid(digest))
        return false;
    snprintf(ret, 128, "roots/%.64s", digest.p + 7);
    return true;
}

static void pull_free(struct pull *p)
{
    list_remove(&p->node);
    child_done(&p->child);
    vec_done(&p->waiters);
    arena_done(&p->arena);
    error_clear(&p->err);
    free(p->reference);
    free(p->key);
    free(p->work_name);
    free(p->digest);
    free(p);
}

/* When an image was last asked for. */
static void touch(struct image_store *s, int fd)
{
    int64_t now = loop_unix_ns(s->config.loop);
    struct timespec t = {now / SECONDS(1), now % SECONDS(1)};
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* the descriptor may be of O_PATH */
    if (utimensat(AT_FDCWD, path, (const struct timespec[]){t, t}, 0) < 0)
        log_debug("images", "%s, ignoring", strerror(errno));
}

static void answer(struct pull *p)
{
    struct image_store *s = p->store;

    list_remove(&p->node);
    for (size_t i = 0; i < p->waiters.n; i++) {
        char name[128];
        AUTO(error_clear) struct error err = {0};
        AUTO_CLOSE int fd = -1;
        struct waiter w = p->waiters.p[i];

        if (p->err.kind != ERROR_NONE) {
            w.done(w.user, -1, NULL, NULL, &p->err);
            continue;
        }
        if (!root_name(str_of(p->digest), name) || !file_open_dir(s->dir, name, &fd, &err)) {
            w.done(w.user, -1, NULL, NULL, &err);
            continue;
        }
        touch(s, fd);
        AUTO_FREE char *path = xasprintf("%s/%s", s->path, name);
        w.done(w.user, TAKE_FD(fd), path, p->digest, &err);
    }
    pull_free(p);
    start_next(s);
}

static void on_finish(struct loop_defer *d)
{
    answer(container_of(d, struct pull, finish));
}

static bool write_index(struct image_store *s, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};

    json_write(&text, json_object(&a, "references", s->index, NULL));
    return file_write(s->dir, "index.json", buf_str(&text), 0600, err);
}

static void remember(struct image_store *s, const char *key, const char *digest)
{
    AUTO(arena_done) struct arena fresh = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *index = json_with(&fresh, s->index, key, json_new_z(&fresh, digest));

    index = json_copy(&fresh, index);
    arena_done(&s->index_arena);
    s->index_arena = TAKE(fresh);
    s->index = index;
    if (!write_index(s, &err))
        log_warning("images", "%s: the image is fetched again after a restart, ignoring", error_text(&err));
}

static enum error_kind kind_of(struct str name)
{
    for (int k = ERROR_NONE; k <= ERROR_INTERNAL; k++)
        if (str_is(name, error_kind_name((enum error_kind)k)))
            return (enum error_kind)k;
    return ERROR_INTERNAL;
}

/* The fetcher's folder becomes the image. It may exist already: two references to one image. */
static bool adopt_root(struct image_store *s, struct pull *p, struct str digest, struct error *err)
{
    char to[128];
    AUTO(buf_done) struct buf from = {0};

    buf_addf(&from, "tmp/%s/root", p->work_name);
    if (!root_name(digest, to))
        return error_set(err, ERROR_INTERNAL, "the fetcher named no digest");
    if (renameat(s->dir, from.p, s->dir, to) < 0 && errno != EEXIST && errno != ENOTEMPTY)
        return error_errno(err, errno, "storing the image");
    p->digest = str_dup(digest);
    return true;
}

static void on_fetched(struct child *c)
{
    struct pull *p = container_of(c, struct pull, child);
    struct image_store *s = p->store;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error ignored = {0};
    AUTO(buf_done) struct buf why = {0}, work = {0};
    const struct json *line = NULL;

    loop_timer_stop(&p->timer);
    if (p->is_long)
        s->n_long--;
    else
        s->running--;
    p->running = false;
    if (!json_parse(str_trim(buf_str(&c->out)), &a, &line, &ignored) || !child_ok(c->status)) {
        child_describe(c->status, buf_str(&c->err_out), &why);
        if (p->timed_out)
            error_set(&p->err, ERROR_TIMEOUT, "fetching it took more than %lld minutes", (long long)(MAX_RUNTIME / SECONDS(60)));
        else if (json_str_at(line, "message").n)
            error_set(&p->err, kind_of(json_str_at(line, "kind")), STR_FMT, STR_ARG(json_str_at(line, "message")));
        else
            error_set(&p->err, ERROR_UNAVAILABLE, "the image fetcher failed: %s", why.p ? why.p : "");
    } else if (adopt_root(s, p, json_str_at(line, "digest"), &p->err)) {
        remember(s, p->key, p->digest);
    }
    error_clear(&ignored);
    buf_addf(&work, "tmp/%s", p->work_name);
    if (!file_remove_tree(s->dir, work.p, &ignored))
        log_warning("images", "%s, ignoring", error_text(&ignored));
    answer(p);
}

/* A local copy that is complete serves IfNotPresent and Never. */
static bool present(struct image_store *s, const char *key, char **ret_digest)
{
    struct str digest = json_str(json_get(s->index, key));
    char name[128];

    if (!root_name(digest, name) || faccessat(s->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    *ret_digest = str_dup(digest);
    return true;
}

static bool spawn(struct image_store *s, struct pull *p, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0}, work = {0};
    AUTO_CLOSE int job = memfd_create("image-job", MFD_CLOEXEC), dir = -1;
    const char *argv[] = {s->fetcher, NULL};
    struct child_fd fds[3];
    struct child_spec spec = {.argv = argv, .fds = fds, .n_fds = 2, .capture_limit = 64 << 10, .die_with_parent = true};

    p->work_name = xasprintf("%u", s->serial++);
    buf_addf(&work, "tmp/%s", p->work_name);
    if (job < 0)
        return error_errno(err, errno, "memfd_create");
    if (!file_make_dirs(s->dir, work.p, 0755, &dir, err))
        return false;
    if (s->config.fetch_uid && fchown(dir, s->config.fetch_uid, s->config.fetch_gid) < 0)
        return error_errno(err, errno, "images/%s", work.p);
    AUTO_FREE char *known = NULL; /* an unchanged image is not unpacked again */
    if (!present(s, p->key, &known))
        known = NULL;
    json_write(&text, json_object(&a, "reference", json_new_z(&a, p->reference), "auth", p->auth, "known",
                                  json_new_z(&a, known), "maxBytes",
                                  json_new_i64(&a, (int64_t)(s->config.max_bytes ? s->config.max_bytes : DEFAULT_MAX)), "uid",
                                  json_new_i64(&a, s->config.fetch_uid), "gid", json_new_i64(&a, s->config.fetch_gid), NULL));
    if (!file_write_all(job, buf_str(&text), err))
        return false;
    fds[0] = (struct child_fd){job, FETCH_FD_JOB};
    fds[1] = (struct child_fd){dir, FETCH_FD_WORK};
    if (s->config.oci_dirfd >= 0)
        fds[spec.n_fds++] = (struct child_fd){s->config.oci_dirfd, FETCH_FD_OCI};
    return child_start(s->config.loop, &p->child, &spec, on_fetched, err);
}

static void on_timer(struct loop_timer *t)
{
    struct pull *p = container_of(t, struct pull, timer);
    struct image_store *s = p->store;

    if (p->is_long) {
        p->timed_out = true;
        child_kill(&p->child, 9);
        return;
    }
    if (s->n_long == MAX_LONG) {
        loop_timer_start(s->config.loop, t, LONG_AFTER, on_timer);
        return;
    }
    p->is_long = true;
    s->n_long++;
    s->running--;
    loop_timer_start(s->config.loop, t, MAX_RUNTIME, on_timer);
    start_next(s);
}

static void start_next(struct image_store *s)
{
    list_each_safe(node, &s->pulls) {
        struct pull *p = list_entry(node, struct pull, node);

        if (s->running >= MAX_FETCHES)
            return;
        if (p->running || p->digest || p->err.kind != ERROR_NONE)
            continue;
        if (spawn(s, p, &p->err)) {
            p->running = true;
            s->running++;
            loop_timer_start(s->config.loop, &p->timer, LONG_AFTER, on_timer);
        } else {
            loop_defer(s->config.loop, &p->finish, on_finish);
        }
    }
}

/* Only what is for this registry goes to the fetcher, and from it to the registry. */
static void choose_auth(struct pull *p, const struct json *auths)
{
    AUTO(image_ref_done) struct image_ref ref = {0};
    AUTO(error_clear) struct error ignored = {0}; /* a malformed reference: the fetcher says so */
    AUTO_FREE char *text = NULL;
    const struct json *auth;
    char hash[72];

    p->key = xstrdup(p->reference);
    if (!auths || !image_ref_parse(str_of(p->reference), &ref, &ignored) || !(auth = image_ref_auth(&ref, auths)))
        return;
    p->auth = json_copy(&p->arena, auth);
    text = json_text(p->auth);
    fetch_sha256(str_of(text), hash);
    free(p->key);
    p->key = xasprintf("%s %s", p->reference, hash);
}

static struct pull *new_pull(struct image_store *s, const struct image_pull *r)
{
    struct pull *p = NEW(struct pull);

    p->store = s;
    p->reference = xstrdup(r->reference);
    choose_auth(p, r->auths);
    list_add_tail(&s->pulls, &p->node);
    return p;
}

void image_store_pull(struct image_store *s, const struct image_pull *r)
{
    bool always = r->policy && strcmp(r->policy, "Always") == 0, never = r->policy && strcmp(r->policy, "Never") == 0;
    struct pull *p = new_pull(s, r), *same = NULL;

    /* Credentials are part of what makes two pulls equal: nobody rides on another tenant's. */
    list_each(node, &s->pulls) {
        struct pull *other = list_entry(node, struct pull, node);

        if (other != p && other->running && strcmp(other->key, p->key) == 0)
            same = other;
    }
    if (same) {
        pull_free(p);
        p = same;
    } else if (!always && present(s, p->key, &p->digest)) {
        loop_defer(s->config.loop, &p->finish, on_finish);
    } else if (never) {
        error_set(&p->err, ERROR_NOT_FOUND, "image '%s' is not on this node and its pull policy is Never", r->reference);
        loop_defer(s->config.loop, &p->finish, on_finish);
    }
    vec_push(&p->waiters, (struct waiter){r->done, r->user});
    start_next(s);
}

static bool load_index(struct image_store *s, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error ignored = {0};
    const struct json *root = NULL;

    buf_init(&text, 16 << 20);
    if (!file_exists(s->dir, "index.json"))
        return true;
    if (!file_read(s->dir, "index.json", &text, err))
        return false;
    if (!json_parse(buf_str(&text), &s->index_arena, &root, &ignored))
        log_warning("images", "index.json: %s: images are fetched again, ignoring", error_text(&ignored));
    s->index = json_get(root, "references");
    return true;
}

static bool path_of(int dirfd, char **ret, struct error *err)
{
    char link[64], path[4096];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return error_errno(err, errno, "%s", link);
    path[n] = 0;
    *ret = xstrdup(path);
    return true;
}

struct image_store *image_store_new(const struct image_store_config *c, struct error *err)
{
    struct image_store *s = NEW(struct image_store);
    AUTO_CLOSE int roots = -1, tmp = -1;

    s->config = *c;
    s->fetcher = xstrdup(c->fetcher);
    s->dir = -1;
    list_init(&s->pulls);
    if (!file_make_dirs(c->dirfd, "images", 0711, &s->dir, err) || !file_remove_tree(s->dir, "tmp", err)
        || !file_make_dirs(s->dir, "tmp", 0711, &tmp, err) || !file_make_dirs(s->dir, "roots", 0711, &roots, err)
        || !load_index(s, err) || !path_of(s->dir, &s->path, err)) {
        image_store_free(s);
        return NULL;
    }
    return s;
}

void image_store_free(struct image_store *s)
{
    if (!s)
        return;
    list_each_safe(node, &s->pulls) {
        struct pull *p = list_entry(node, struct pull, node);

        loop_defer_cancel(&p->finish);
        loop_timer_stop(&p->timer);
        child_kill(&p->child, 9);
        pull_free(p);
    }
    arena_done(&s->index_arena);
    fd_close(&s->dir);
    free(s->path);
    free(s->fetcher);
    free(s);
}

static bool kept(const char *const *keep, const char *hex)
{
    for (; *keep; keep++)
        if (strlen(*keep) > 7 && strcmp(*keep + 7, hex) == 0)
            return true;
    return false;
}

static bool nearly_full(int dir)
{
    struct statvfs fs;

    return fstatvfs(dir, &fs) == 0 && fs.f_blocks > 0 && fs.f_bavail < fs.f_blocks / 100 * FULL_PERCENT;
}

/* Names of the image go with it: a copy that is not there must not look like one. */
static void forget(struct image_store *s, const char *hex)
{
    AUTO(arena_done) struct arena fresh = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *left = json_object(&fresh, NULL);

    json_each_member(m, s->index)
        if (!str_ends(json_str(&m->value), str_of(hex)))
            left = json_with_str(&fresh, left, json_str(&m->key), &m->value);
    left = json_copy(&fresh, left);
    arena_done(&s->index_arena);
    s->index_arena = TAKE(fresh);
    s->index = left;
    if (!write_index(s, &err))
        log_warning("images", "%s, ignoring", error_text(&err));
}

void image_store_prune(struct image_store *s, const char *const *keep)
{
    int copy = openat(s->dir, "roots", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    bool full = nearly_full(s->dir);
    int64_t oldest = INT64_MAX, now = loop_unix_ns(s->config.loop);
    AUTO(error_clear) struct error err = {0};
    char name[NAME_MAX + 1] = "";
    struct dirent *e;

    while (d && list_empty(&s->pulls) && (e = readdir(d))) {
        struct stat st;
        int64_t used;

        if (e->d_name[0] == '.' || kept(keep, e->d_name) || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        used = st.st_mtim.tv_sec * SECONDS(1) + st.st_mtim.tv_nsec;
        if (used < oldest && (full || now - used > UNUSED_NS)) {
            oldest = used;
            snprintf(name, sizeof name, "%s", e->d_name);
        }
    }
    if (name[0]) {
        forget(s, name);
        if (file_remove_tree(dirfd(d), name, &err))
            log_info("images", "sha256:%s removed: no virtual machine uses it, last asked for %lld min ago%s", name,
                     (long long)((now - oldest) / SECONDS(60)), full ? "; the disk is nearly full" : "");
        else
            log_warning("images", "%s, ignoring", error_text(&err));
    }
    if (d)
        closedir(d);
    else
        fd_close(&copy);
}
