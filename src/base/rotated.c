#include "base/rotated.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/vec.h"

enum { QUEUE_BYTES = 16 << 20, NAME_MAX_LEN = 200 };

struct rotated {
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows, up to stats */
    pthread_cond_t wake, idle;
    struct buf queue;
    uint64_t queued_lines;
    bool busy, closing;
    struct rotated_stats stats;
    /* The thread's own. */
    int dirfd, fd;
    bool own_fd, warned;
    char stem[NAME_MAX_LEN + 1], ext[32];
    off_t size;
    uint64_t max_bytes;
    unsigned max_backups, max_age_days;
};

static bool open_file(struct rotated *r, struct error *err)
{
    char name[NAME_MAX_LEN + 40];
    struct stat st;

    snprintf(name, sizeof name, "%s%s", r->stem, r->ext);
    if (!file_open_beneath(r->dirfd, name, O_WRONLY | O_CREAT | O_APPEND, 0600, &r->fd, err))
        return false;
    if (fstat(r->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        fd_close(&r->fd);
        return error_set(err, ERROR_INVALID, "%s: not a regular file", name);
    }
    r->size = st.st_size;
    return true;
}

/* name-2026-11-28T14-30-00.123.log; of its own kind only, so that nobody's file is taken for a backup. */
static bool is_backup(const struct rotated *r, const char *name)
{
    static const char pattern[] = "-dddd-dd-ddTdd-dd-dd.ddd";
    size_t stem = strlen(r->stem), n = strlen(pattern);

    if (strncmp(name, r->stem, stem) != 0 || strlen(name) != stem + n + strlen(r->ext)
        || strcmp(name + stem + n, r->ext) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (pattern[i] == 'd' ? name[stem + i] < '0' || name[stem + i] > '9'
                              : name[stem + i] != pattern[i])
            return false;
    return true;
}

static int newest_first(const void *a, const void *b)
{
    return strcmp(*(char *const *)b, *(char *const *)a);
}

static bool too_old(const struct rotated *r, const char *name)
{
    struct stat st;

    return r->max_age_days && fstatat(r->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0
           && time(NULL) - st.st_mtime > (time_t)r->max_age_days * 86400;
}

static void prune(struct rotated *r)
{
    int fd = openat(r->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    VEC(char *) names = {0};
    struct dirent *e;

    if (!dir) {
        fd_close(&fd);
        return;
    }
    while ((e = readdir(dir)))
        if (is_backup(r, e->d_name))
            vec_push(&names, xstrdup(e->d_name));
    closedir(dir);
    if (names.n)
        qsort(names.p, names.n, sizeof *names.p, newest_first);
    for (size_t i = 0; i < names.n; i++) {
        if ((r->max_backups && i >= r->max_backups) || too_old(r, names.p[i]))
            (void)unlinkat(r->dirfd, names.p[i], 0);
        free(names.p[i]);
    }
    vec_done(&names);
}

/* If the file cannot be renamed it goes on growing, which loses nothing. */
static void rotate(struct rotated *r)
{
    char from[NAME_MAX_LEN + 40], to[NAME_MAX_LEN + 80], when[32];
    AUTO(error_clear) struct error err = {0};
    struct timespec now;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H-%M-%S", &tm);
    snprintf(from, sizeof from, "%s%s", r->stem, r->ext);
    snprintf(to, sizeof to, "%s-%s.%03ld%s", r->stem, when, now.tv_nsec / 1000000, r->ext);
    if (faccessat(r->dirfd, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0
        || renameat(r->dirfd, from, r->dirfd, to) < 0)
        return;
    fd_close(&r->fd);
    if (!open_file(r, &err))
        log_warning(NULL, "%s: %s, retrying", from, error_text(&err));
    prune(r);
}

static bool write_whole(struct rotated *r, struct str lines)
{
    size_t at = 0;

    while (at < lines.n) {
        ssize_t n = write(r->fd, lines.p + at, lines.n - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int why = errno;

            if (r->own_fd && at && ftruncate(r->fd, r->size) < 0)
                log_debug(NULL, "%s: %s, ignoring", r->stem, strerror(errno));
            errno = why;
            return false;
        }
        at += (size_t)n;
    }
    r->size += (off_t)lines.n;
    return true;
}

/* Takes lines as far as the file may grow, at least one. */
static struct str portion(const struct rotated *r, struct str rest)
{
    size_t room = rest.n, at;
    const char *end;

    if (r->own_fd && r->max_bytes)
        room = (uint64_t)r->size < r->max_bytes ? (size_t)(r->max_bytes - (uint64_t)r->size) : 0;
    if (rest.n <= room)
        return rest;
    end = room ? memrchr(rest.p, '\n', room) : NULL;
    if (!end && r->size > 0)
        return str_take(rest, 0); /* rotate first */
    if (!end)
        end = memchr(rest.p, '\n', rest.n);
    at = (size_t)(end - rest.p) + 1;
    return str_take(rest, at);
}

static uint64_t count_lines(struct str s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

static void put(struct rotated *r, struct str lines, struct rotated_stats *done)
{
    AUTO(error_clear) struct error err = {0};

    while (lines.n) {
        struct str some = portion(r, lines);

        if (!some.n) {
            off_t before = r->size;

            rotate(r);
            if (r->size == before) /* it stays: let it grow */
                some = lines;
            else
                continue;
        }
        if ((r->fd < 0 && !open_file(r, &err)) || !write_whole(r, some)) {
            done->failed += count_lines(some);
            if (!r->warned)
                log_warning(NULL, "%s%s: %s: lines are lost until it can be written again", r->stem,
                            r->ext, r->fd < 0 ? error_text(&err) : strerror(errno));
            r->warned = true;
        } else {
            done->lines += count_lines(some);
            r->warned = false;
        }
        error_clear(&err);
        lines = str_skip(lines, some.n);
    }
}

static void *run(void *arg)
{
    struct rotated *r = arg;

    pthread_mutex_lock(&r->lock);
    while (!r->closing || r->queue.n) {
        struct buf batch;
        struct rotated_stats done = {0};

        if (!r->queue.n) {
            pthread_cond_broadcast(&r->idle);
            pthread_cond_wait(&r->wake, &r->lock);
            continue;
        }
        batch = r->queue;
        r->queue = (struct buf){0};
        buf_init(&r->queue, batch.limit);
        r->busy = true;
        pthread_mutex_unlock(&r->lock);
        put(r, buf_str(&batch), &done);
        buf_done(&batch);
        pthread_mutex_lock(&r->lock);
        r->busy = false;
        r->stats.lines += done.lines;
        r->stats.failed += done.failed;
    }
    pthread_cond_broadcast(&r->idle);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

bool rotated_open(const struct rotated_config *c, struct rotated **ret, struct error *err)
{
    struct rotated *r = NEW(struct rotated);
    const char *dot = c->name ? strrchr(c->name, '.') : NULL;
    size_t stem = !c->name ? 0 : dot && dot != c->name ? (size_t)(dot - c->name) : strlen(c->name);
    sigset_t all, before;
    int failed;

    r->dirfd = c->dirfd;
    r->own_fd = c->dirfd >= 0;
    r->fd = r->own_fd ? -1 : c->fd;
    r->max_bytes = c->max_bytes;
    r->max_backups = c->max_backups;
    r->max_age_days = c->max_age_days;
    if (r->own_fd
        && (!stem || stem > NAME_MAX_LEN || strlen(c->name + stem) >= sizeof r->ext
            || strchr(c->name, '/'))) {
        free(r);
        return error_set(err, ERROR_INVALID, "'%s' cannot be the name of a log file",
                         c->name ? c->name : "");
    }
    snprintf(r->stem, sizeof r->stem, "%.*s", (int)stem, c->name ? c->name : "log");
    if (!c->name)
        snprintf(r->stem, sizeof r->stem, "log on descriptor %d", c->fd);
    snprintf(r->ext, sizeof r->ext, "%s", c->name ? c->name + stem : "");
    if (r->own_fd && !open_file(r, err)) {
        free(r);
        return false;
    }
    if (r->own_fd)
        prune(r);
    buf_init(&r->queue, c->queue_bytes ? c->queue_bytes : QUEUE_BYTES);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->wake, NULL);
    pthread_cond_init(&r->idle, NULL);
    sigfillset(&all); /* signals are the loop's business, whenever it starts to block them */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&r->thread, NULL, run, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        if (r->own_fd)
            fd_close(&r->fd);
        free(r);
        return error_errno(err, failed, "thread");
    }
    pthread_setname_np(r->thread, "log");
    *ret = r;
    return true;
}

bool rotated_write(struct rotated *r, struct str line)
{
    bool ok;

    pthread_mutex_lock(&r->lock);
    ok = r->queue.n + line.n + 1 <= r->queue.limit;
    if (ok) {
        buf_addstr(&r->queue, line);
        buf_addc(&r->queue, '\n');
        pthread_cond_signal(&r->wake);
    } else {
        r->stats.dropped++;
    }
    pthread_mutex_unlock(&r->lock);
    return ok;
}

void rotated_flush(struct rotated *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->queue.n || r->busy)
        pthread_cond_wait(&r->idle, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void rotated_stats(struct rotated *r, struct rotated_stats *ret)
{
    pthread_mutex_lock(&r->lock);
    *ret = r->stats;
    pthread_mutex_unlock(&r->lock);
}

void rotated_close(struct rotated *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    if (r->own_fd)
        fd_close(&r->fd);
    buf_done(&r->queue);
    pthread_cond_destroy(&r->wake);
    pthread_cond_destroy(&r->idle);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
