/* vireo restore FILE: a backup takes the place of database and keys, on a running server or a stopped one.
 *
 * 1. All of the backup is read and checked, the database by a child without rights, before anything is touched.
 * 2. Its counter of revisions is set above everything that clients can have seen, so that no resourceVersion ever means
 *    two things: their watches and lists end with 410, and they list anew.
 * 3. It is staged in DIR/restore.part, flushed, and renamed to DIR/restore: from then on it will happen.
 * 4. restore_apply() puts it in place, by renames that a second run finishes: this program where no server runs, the
 *    supervisor between two control processes where one does, and the next start where either was killed.
 * What was there before is in DIR/replaced-<time>. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/backup.h"
#include "cmd/instance.h"
#include "http/client.h"
#include "store/archive.h"

enum {
    WRITES_PER_SECOND =
        20000, /* more than this store can do: how far it may have come since the backup */
    MARGIN = 1000000,
};

/* Putting it in place. */

static bool move(int from, const char *name, int to, struct error *err)
{
    if (renameat(from, name, to, name) == 0 || errno == ENOENT)
        return true;
    return error_errno(err, errno, "%s", name);
}

static bool open_subdir(int dirfd, const char *name, mode_t mode, int *ret_fd, struct error *err)
{
    if (mkdirat(dirfd, name, mode) != 0 && errno != EEXIST)
        return error_errno(err, errno, "%s", name);
    return file_open_dir(dirfd, name, ret_fd, err);
}

static bool place_database(int staged, int control, int aside, struct error *err)
{
    static const char *const old[] = {"state.db-shm", "state.db-wal", "state.db", "state.lock"};

    if (!file_exists(staged, "state.db"))
        return true; /* it is there already */
    for (size_t i = 0; i < ARRAY_SIZE(old); i++)
        if (!move(control, old[i], aside, err))
            return false;
    if (fsync(aside) != 0 || fsync(control) != 0)
        return error_errno(err, errno, "flush");
    return move(staged, "state.db", control, err)
           && (fsync(control) == 0 || error_errno(err, errno, "flush"));
}

static bool place_keys(int staged, int dirfd, int aside, struct error *err)
{
    AUTO_CLOSE int from = -1, pki = -1;
    struct dirent **names = NULL;
    bool ok = true;
    int n;

    if (!file_exists(staged, "pki"))
        return true;
    if (!file_open_dir(staged, "pki", &from, err) || !open_subdir(dirfd, "pki", 0700, &pki, err))
        return false;
    n = scandirat(from, ".", &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (ok && names[i]->d_name[0] != '.')
            ok = move(pki, names[i]->d_name, aside, err) && move(from, names[i]->d_name, pki, err);
        free(names[i]);
    }
    free(names);
    return ok && ((fsync(pki) == 0 && fsync(aside) == 0) || error_errno(err, errno, "flush"));
}

bool restore_apply(int dirfd, char **ret_aside, struct error *err)
{
    AUTO_CLOSE int staged = -1, aside = -1, aside_control = -1, aside_pki = -1, control = -1;
    AUTO(buf_done) struct buf name = {0};

    buf_init(&name, 64);
    if (!file_exists(dirfd, "restore"))
        return error_set(err, ERROR_NOT_FOUND, "nothing to restore is staged");
    if (!file_open_dir(dirfd, "restore", &staged, err) || !file_read(staged, "aside", &name, err)
        || !open_subdir(dirfd, name.p, 0700, &aside, err)
        || !open_subdir(aside, "control", 0700, &aside_control, err)
        || !open_subdir(aside, "pki", 0700, &aside_pki, err)
        || !file_open_dir(dirfd, "control", &control, err)
        || !place_database(staged, control, aside_control, err)
        || !place_keys(staged, dirfd, aside_pki, err) || !file_remove_tree(dirfd, "restore", err))
        return error_wrap(err, "restore");
    if (fsync(dirfd) != 0)
        return error_errno(err, errno, "restore: flush");
    *ret_aside = buf_detach(&name);
    return true;
}

/* Staging. */

struct options {
    const char *dir, *file;
    bool without_keys, check_only;
};

struct staging {
    const struct options *o;
    int dirfd;     /* DIR */
    int part, pki; /* DIR/restore.part and below */
    int database;  /* scratch: as it is in the backup */
    int control;   /* DIR/control */
    int lock;      /* DIR/lock, held when no server runs */
    int to;        /* restore.part/state.db */
    int64_t revision;
    const struct archive *archive;
};

static int sink(void *user, const struct archive_file *f, struct error *err)
{
    struct staging *s = user;
    const char *name = strchr(f->name, '/');
    int fd;

    if (!name)
        return s->database;
    if (s->o->without_keys || s->pki < 0)
        return -1;
    fd = openat(s->pki, name + 1, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                str_ends(str_of(name), STR(".key")) ? 0600 : 0644);
    if (fd < 0)
        error_errno(err, errno, "%s", f->name);
    return fd; /* closed with the process */
}

/* Sums say that nothing changed on the way; this, that manifest and database were written together. */
static bool check_image(void *user, struct store_image *ret, struct error *err)
{
    const struct staging *s = user;
    const struct archive *a = s->archive;

    if (!store_image_check(s->database, ret, err))
        return false;
    if (a->revision == ret->revision && a->schema == ret->schema && a->objects == ret->objects)
        return true;
    return error_set(
        err, ERROR_INVALID,
        "the backup is damaged: its manifest says revision %lld, schema %lld, %lld objects, its "
        "database has revision %lld, schema %lld, %lld objects",
        (long long)a->revision, (long long)a->schema, (long long)a->objects,
        (long long)ret->revision, (long long)ret->schema, (long long)ret->objects);
}

static bool raise_image(void *user, struct store_image *ret, struct error *err)
{
    const struct staging *s = user;

    return check_image(user, ret, err)
           && store_image_raise(s->database, s->revision, s->to, ret, err);
}

static bool read_backup(struct staging *s, struct archive *a, struct error *err)
{
    AUTO_CLOSE int fd = open(s->o->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return error_errno(err, errno, "%s", s->o->file);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID, "%s: not a regular file", s->o->file);
    return archive_read(fd, sink, s, a, err) || error_wrap(err, "%s", s->o->file);
}

/* Above all that clients can have seen: the counter of this directory, and what the backup's server may have written since. */
static int64_t next_revision(int control, const struct archive *a)
{
    int64_t here = control >= 0 ? store_image_mark(control) : 0, since = time(NULL) - a->time_s;
    int64_t there = a->revision + (since > 0 ? since : 0) * WRITES_PER_SECOND;

    return (here > there ? here : there) + MARGIN;
}

static bool sync_tree(const struct staging *s, struct error *err)
{
    /* The keys were written one by one; this flushes them with everything else, once. */
    return (fsync(s->to) == 0 && syncfs(s->part) == 0) || error_errno(err, errno, "flush");
}

static bool stage(struct staging *s, const struct archive *a, uid_t uid, char aside[64],
                  struct store_image *ret, struct error *err)
{
    time_t now = time(NULL);
    struct tm t;

    s->archive = a;
    s->revision = next_revision(s->control, a);
    s->to = openat(s->part, "state.db", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->to < 0)
        return error_errno(err, errno, "restore.part/state.db");
    if (!backup_as(uid, s->lock, raise_image, s, ret, err))
        return error_wrap(err, "%s", s->o->file);
    gmtime_r(&now, &t);
    strftime(aside, 64, "replaced-%Y%m%dT%H%M%SZ", &t);
    if (fchown(s->to, uid, uid) != 0)
        return error_errno(err, errno, "restore.part/state.db");
    if (!file_write(s->part, "aside", str_of(aside), 0600, err) || !sync_tree(s, err))
        return false;
    if (renameat(s->dirfd, "restore.part", s->dirfd, "restore") != 0 || fsync(s->dirfd) != 0)
        return error_errno(err, errno, "restore.part");
    return true;
}

/* A running server does it between two control processes. */

static bool signal_supervisor(int dirfd, struct error *err)
{
    AUTO_CLOSE int pidfd = -1;
    AUTO(buf_done) struct buf text = {0};
    uint64_t pid;

    buf_init(&text, 32);
    if (!file_read(dirfd, "lock", &text, err)
        || !parse_u64(str_trim(buf_str(&text)), INT_MAX, &pid, err))
        return error_wrap(err, "lock");
    pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGUSR1, NULL, 0) < 0)
        return error_errno(err, errno, "vireo serve, pid %d", (int)pid);
    return true;
}

static bool wait_for_supervisor(int dirfd, const char *dir, struct error *err)
{
    for (int i = 0; i < 600; i++) {
        AUTO(buf_done) struct buf why = {0};

        if (!file_exists(dirfd, "restore"))
            return true;
        buf_init(&why, 4096);
        if (file_exists(dirfd, "restore.failed") && file_read(dirfd, "restore.failed", &why, err))
            return error_set(err, ERROR_INTERNAL,
                             "the server could not put it in place: %s; the next start of `vireo "
                             "serve` tries again",
                             why.p);
        usleep(50000);
    }
    return error_set(
        err, ERROR_TIMEOUT,
        "%s/restore is staged, and the server has not taken it within 30 s; the next start of"
        " `vireo serve` does",
        dir);
}

struct waiting {
    struct loop *loop;
    struct http_client *api;
    struct loop_timer again;
    bool ready;
    int tries;
};

static void ask(struct loop_timer *t);

static void asked(void *user, int status, struct str body, const struct error *err)
{
    struct waiting *w = user;

    (void)body;
    w->ready = err->kind == ERROR_NONE && status == 200;
    if (w->ready || ++w->tries > 600)
        loop_quit(w->loop);
    else
        loop_timer_start(w->loop, &w->again, MILLIS(50), ask);
}

static void ask(struct loop_timer *t)
{
    struct waiting *w = container_of(t, struct waiting, again);
    struct http_request r = {.method = HTTP_GET,
                             .path = STR("/readyz"),
                             .timeout_ns = SECONDS(5),
                             .done = asked,
                             .user = w};

    http_client_call(w->api, &r);
}

static bool wait_ready(const char *dir)
{
    AUTO_FREE char *path = xasprintf("%s/run/api.sock", dir);
    struct waiting w = {.loop = loop_new(NULL)};

    w.api = http_client_new(&(struct http_client_config){.loop = w.loop, .unix_path = path});
    loop_timer_start(w.loop, &w.again, 0, ask);
    loop_run(w.loop);
    loop_timer_stop(&w.again);
    http_client_free(w.api);
    loop_free(w.loop);
    return w.ready;
}

/* All of it. */

static bool parse(int argc, char **argv, struct options *o, struct error *err)
{
    static const struct option flags[] = {{"data-dir", required_argument, NULL, 'd'},
                                          {"without-keys", no_argument, NULL, 'k'},
                                          {"check", no_argument, NULL, 'c'},
                                          {NULL, 0, NULL, 0}};
    int c;

    *o = (struct options){.dir = INSTANCE_DEFAULT_DIR};
    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", flags, NULL)) != -1) {
        switch (c) {
        case 'd':
            o->dir = optarg;
            break;
        case 'k':
            o->without_keys = true;
            break;
        case 'c':
            o->check_only = true;
            break;
        case ':':
            return error_set(err, ERROR_BAD_REQUEST, "%s needs a value", argv[optind - 1]);
        default:
            return error_set(err, ERROR_BAD_REQUEST, "unknown option %s (see vireo --help)",
                             argv[optind - 1]);
        }
    }
    if (optind + 1 != argc)
        return error_set(err, ERROR_BAD_REQUEST,
                         "usage: vireo restore FILE [--data-dir DIR] [--without-keys] [--check]");
    o->file = argv[optind];
    return true;
}

static void tell(const struct options *o, const struct archive *a, const struct store_image *image,
                 const char *what)
{
    char when[32];
    time_t t = a->time_s;
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    printf("%s: of %s, by %s, revision %lld, %lld objects, %s keys: %s\n", o->file, when,
           a->program[0] ? a->program : "vireo", (long long)a->revision, (long long)image->objects,
           a->files.n > 1 ? "with" : "without", what);
}

static bool check_only(struct staging *s, struct error *err)
{
    AUTO(archive_done) struct archive a = {0};
    struct store_image image;

    s->pki = -1;
    s->archive = &a;
    if (!backup_scratch(AT_FDCWD, &s->database, err) || !read_backup(s, &a, err))
        return false;
    /* Any uid that owns nothing; nobody's. */
    if (!backup_as(65534, -1, check_image, s, &image, err))
        return error_wrap(err, "%s", s->o->file);
    tell(s->o, &a, &image, "whole");
    return true;
}

/* One that was killed when it had staged everything: it happens first. */
static bool finish_other(int dirfd, const char *dir, bool live, struct error *err)
{
    AUTO_FREE char *aside = NULL;

    return live ? signal_supervisor(dirfd, err) && wait_for_supervisor(dirfd, dir, err)
                : restore_apply(dirfd, &aside, err);
}

static bool prepare(struct staging *s, uid_t *ret_uid, char dir[PATH_MAX], bool *ret_live,
                    struct error *err)
{
    char name[9];

    if (!file_make_dirs(AT_FDCWD, s->o->dir, 0755, &s->dirfd, err))
        return error_wrap(err, "--data-dir %s", s->o->dir);
    if (!realpath(s->o->dir, dir))
        return error_errno(err, errno, "--data-dir %s", s->o->dir);
    instance_name_of(dir, name);
    *ret_uid = instance_uid_base(name);
    s->lock = openat(s->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock < 0)
        return error_errno(err, errno, "%s/lock", dir);
    *ret_live = flock(s->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    (void)unlinkat(s->dirfd, "restore.failed", 0);
    if (file_exists(s->dirfd, "restore") && !finish_other(s->dirfd, dir, *ret_live, err))
        return error_wrap(err, "%s/restore, an earlier restore that was not finished", dir);
    if (!open_subdir(s->dirfd, "control", 0700, &s->control, err)
        || !file_remove_tree(s->dirfd, "restore.part", err)
        || !open_subdir(s->dirfd, "restore.part", 0700, &s->part, err)
        || !open_subdir(s->part, "pki", 0700, &s->pki, err))
        return error_wrap(err, "%s", dir);
    if (fchown(s->control, *ret_uid, *ret_uid) != 0)
        return error_errno(err, errno, "%s/control", dir);
    return backup_scratch(s->dirfd, &s->database, err);
}

static bool restore(struct staging *s, struct error *err)
{
    AUTO(archive_done) struct archive a = {0};
    AUTO_FREE char *moved = NULL;
    AUTO(error_clear) struct error ignored = {0};
    struct store_image image;
    char dir[PATH_MAX], aside[64];
    bool live;
    uid_t uid;

    if (geteuid() != 0)
        return error_set(err, ERROR_FORBIDDEN,
                         "only root can write the data directory: sudo vireo restore");
    if (s->o->check_only)
        return check_only(s, err);
    if (!prepare(s, &uid, dir, &live, err))
        return false;
    if (!read_backup(s, &a, err) || !stage(s, &a, uid, aside, &image, err)) {
        if (!file_remove_tree(s->dirfd, "restore.part", &ignored))
            log_warning(NULL, "%s, ignoring", error_text(&ignored));
        return false;
    }
    if (!live && !restore_apply(s->dirfd, &moved, err))
        return false;
    if (live && (!signal_supervisor(s->dirfd, err) || !wait_for_supervisor(s->dirfd, dir, err)))
        return false;
    tell(s->o, &a, &image, "restored");
    printf("revisions go on at %lld; what was there before is in %s/%s\n",
           (long long)image.revision, dir, aside);
    if (live && !wait_ready(dir))
        return error_set(err, ERROR_TIMEOUT, "the server is not ready after 30 s: see its log");
    if (live)
        printf("the server is ready\n");
    return true;
}

int restore_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct options o;
    struct staging s = {.o = &o,
                        .dirfd = -1,
                        .part = -1,
                        .pki = -1,
                        .database = -1,
                        .control = -1,
                        .lock = -1,
                        .to = -1};

    log_setup("restore", LOG_WARNING, false);
    if (!parse(argc, argv, &o, &err)) {
        fprintf(stderr, "vireo restore: %s\n", error_text(&err));
        return 2;
    }
    if (restore(&s, &err))
        return 0;
    fprintf(stderr, "vireo restore: %s\n", error_text(&err));
    return 1;
}
