/* What the container wrote. It appends to a file of its own, for which nobody has to be there; every few seconds a file that has
 * grown too large is copied aside and emptied, which its writer does not notice (O_APPEND). Readers are served piece by piece, as
 * fast as they take it. The text is the guest's and the VMM's: never believed, only passed on. */
#include "pod/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#define SWEEP_NS  SECONDS(5)
#define FOLLOW_NS MILLIS(200)
#define PIECE     (32u << 10)

static bool open_log(int pod_dirfd, const char *name, int *ret, struct error *err)
{
    return file_open_beneath(pod_dirfd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0, ret, err);
}

static off_t size_of(int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : 0;
}

char *log_clean(struct str text)
{
    struct buf out;

    buf_init(&out, text.n + 1);
    for (size_t i = 0; i < text.n;) {
        unsigned char c = (unsigned char)text.p[i];
        size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        bool ok = i + len <= text.n && str_valid_utf8(str_n(text.p + i, len));

        if (len == 1)
            ok = c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f);
        if (ok)
            buf_add(&out, text.p + i, len);
        else if (c != '\r' && c != '\0')
            buf_addc(&out, '?');
        i += ok ? len : 1;
    }
    return buf_detach(&out);
}

char *log_tail(int pod_dirfd, size_t n)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;
    AUTO_FREE char *bytes = NULL;
    struct str text, cut, rest;
    off_t size;
    ssize_t got;

    if (!open_log(pod_dirfd, LOG_NAME, &fd, &err))
        return NULL;
    size = size_of(fd);
    bytes = xcalloc(1, n);
    got = pread(fd, bytes, n, size > (off_t)n ? size - (off_t)n : 0);
    if (got <= 0)
        return NULL;
    text = str_n(bytes, (size_t)got);
    if (size > (off_t)n && str_cut(text, '\n', &cut, &rest))
        text = rest; /* not half a line */
    return log_clean(str_trim(text));
}

/* ---- bounds ---- */

static bool copy_end(int from, off_t size, int to, struct error *err)
{
    off_t at = size > (off_t)LIMIT_LOG_FILE ? size - (off_t)LIMIT_LOG_FILE : 0;

    while (at < size) {
        ssize_t n = copy_file_range(from, &at, to, NULL, (size_t)(size - at), 0);

        if (n < 0)
            return error_errno(err, errno, "copy");
        if (n == 0)
            break;
    }
    return true;
}

static bool rotate(const struct pod *p, struct error *err)
{
    AUTO_CLOSE int dirfd = -1, log = -1, old = -1;
    off_t size;

    if (!pod_open_dir(p, false, &dirfd, err) || !open_log(dirfd, LOG_NAME, &log, err))
        return false;
    size = size_of(log);
    if (size <= (off_t)LIMIT_LOG_FILE)
        return true;
    if (!file_open_beneath(dirfd, LOG_OLD_NAME, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0640, &old, err)
        || !copy_end(log, size, old, err))
        return false;
    if (ftruncate(log, 0) < 0)
        return error_errno(err, errno, "truncate");
    return true;
}

static void sweep(struct loop_timer *t)
{
    struct pod_runtime *r = container_of(t, struct pod_runtime, log_timer);
    size_t at = 0;
    struct str uid;
    void *value;

    while (map_next(&r->pods, &at, &uid, &value)) {
        AUTO(error_clear) struct error err = {0};
        struct pod *p = value;

        if (p->state == POD_RUNNING && !rotate(p, &err))
            log_warning(pod_tag(p), "log: %s, ignoring", error_text(&err));
    }
    process_collect_strays(&r->strays);
    loop_timer_start(r->loop, t, SWEEP_NS, sweep);
}

void log_start(struct pod_runtime *r) { loop_timer_start(r->loop, &r->log_timer, SWEEP_NS, sweep); }

/* ---- readers ---- */

struct follower {
    struct list node;
    struct pod_runtime *r;
    struct exchange *x;
    char *uid;
    int old_fd, fd;
    off_t old_at, at;
    uint64_t left; /* bytes that may still be sent */
    bool follow;
    struct loop_timer poll;
};

static void follower_free(struct follower *f)
{
    list_remove(&f->node);
    loop_timer_stop(&f->poll);
    fd_close(&f->old_fd);
    fd_close(&f->fd);
    free(f->uid);
    free(f);
}

static void end(struct follower *f)
{
    struct exchange *x = f->x;

    follower_free(f);
    exchange_end(x);
}

void log_stop(struct pod_runtime *r)
{
    loop_timer_stop(&r->log_timer);
    list_each_safe(it, &r->followers)
        end(list_entry(it, struct follower, node));
}

static bool writes_on(const struct follower *f)
{
    const struct pod *p = map_get(&f->r->pods, str_of(f->uid));

    return p && (p->state == POD_RUNNING || p->state == POD_STARTING);
}

static void pump(struct follower *f);

static void on_poll(struct loop_timer *t) { pump(container_of(t, struct follower, poll)); }

static void on_writable(struct exchange *x) { pump(x->user); }

static void on_closed(struct exchange *x) { follower_free(x->user); }

/* What is next, the older file first. */
static ssize_t next_piece(struct follower *f, char *bytes)
{
    size_t want = f->left < PIECE ? (size_t)f->left : PIECE;
    ssize_t n = 0;

    if (f->old_fd >= 0) {
        n = pread(f->old_fd, bytes, want, f->old_at);
        if (n > 0) {
            f->old_at += n;
            return n;
        }
        fd_close(&f->old_fd);
    }
    if (size_of(f->fd) < f->at)
        f->at = 0; /* it was copied aside and emptied */
    n = pread(f->fd, bytes, want, f->at);
    if (n > 0)
        f->at += n;
    return n;
}

static void pump(struct follower *f)
{
    bool more = f->follow && writes_on(f); /* asked first: what came until then is read below */
    char bytes[PIECE];
    ssize_t n;

    while (f->left > 0 && (n = next_piece(f, bytes)) > 0) {
        f->left -= (uint64_t)n;
        if (exchange_write(f->x, str_n(bytes, (size_t)n)) >= EXCHANGE_HIGH_WATER)
            return; /* on_writable */
    }
    if (f->left == 0 || !more)
        end(f);
    else
        loop_timer_start(f->r->loop, &f->poll, FOLLOW_NS, on_poll);
}

/* Where the last *lines lines begin; takes those that it found off *lines. No further back than a log may reach: its writer can
 * make the file seem endless in no time. */
static off_t tail_from(int fd, uint64_t *lines)
{
    char bytes[PIECE];
    off_t size = size_of(fd), at = size;

    while (at > 0) {
        off_t from = at > (off_t)PIECE ? at - (off_t)PIECE : 0;
        ssize_t n = size - at > (off_t)LIMIT_LOG_FILE ? 0 : pread(fd, bytes, (size_t)(at - from), from);

        if (n <= 0)
            return from;
        for (ssize_t i = n - 1; i >= 0; i--) {
            if (bytes[i] != '\n' || from + i == size - 1)
                continue;
            if (*lines <= 1) {
                *lines = 0;
                return from + i + 1;
            }
            --*lines;
        }
        at = from;
    }
    if (size > 0 && *lines > 0)
        --*lines;
    return 0;
}

static bool number(struct exchange *x, const char *name, uint64_t *ret, bool *ret_given, struct error *err)
{
    struct str text = exchange_query(x, name);

    *ret_given = text.n > 0;
    if (text.n && !parse_u64(text, INT64_MAX, ret, err))
        return error_wrap(err, "%s", name);
    return true;
}

static bool flag(struct exchange *x, const char *name)
{
    struct str text = exchange_query(x, name);

    return str_is(text, "true") || str_is(text, "1");
}

static void refuse(struct exchange *x, int status, const char *text)
{
    AUTO_FREE char *line = xasprintf("%s\n", text);

    exchange_respond(x, status, "text/plain", str_of(line));
}

static bool begin(struct follower *f, struct exchange *x, int pod_dirfd, struct error *err)
{
    AUTO(error_clear) struct error none = {0};
    uint64_t lines = 0, since = 0, limit = UINT64_MAX;
    bool by_lines, by_time, limited;
    struct stat st;

    if (!number(x, "tailLines", &lines, &by_lines, err) || !number(x, "sinceSeconds", &since, &by_time, err)
        || !number(x, "limitBytes", &limit, &limited, err) || !open_log(pod_dirfd, LOG_NAME, &f->fd, err))
        return false;
    f->left = limited ? limit : UINT64_MAX;
    if (!open_log(pod_dirfd, LOG_OLD_NAME, &f->old_fd, &none))
        f->old_fd = -1;
    if (by_lines) {
        f->at = lines ? tail_from(f->fd, &lines) : size_of(f->fd);
        f->old_at = lines && f->old_fd >= 0 ? tail_from(f->old_fd, &lines) : size_of(f->old_fd);
    }
    /* Lines carry no time of their own: all that is known is when the last was written. */
    if (by_time && fstat(f->fd, &st) == 0
        && st.st_mtime < loop_unix_ns(f->r->loop) / SECONDS(1) - (int64_t)since) {
        f->at = st.st_size;
        f->old_at = size_of(f->old_fd);
    }
    return true;
}

static struct pod *find(struct pod_runtime *r, struct str key)
{
    struct pod *found = NULL;
    size_t at = 0;
    struct str uid;
    void *value;

    while (map_next(&r->pods, &at, &uid, &value)) {
        struct pod *p = value;

        if (str_is(key, p->key) && (!found || !p->gone))
            found = p;
    }
    return found;
}

static void serve(struct pod_runtime *r, struct exchange *x, struct str key)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dirfd = -1;
    struct str container = exchange_query(x, "container");
    struct pod *p = find(r, key);
    struct follower *f;

    if (!p) {
        refuse(x, 404, "the pod is not on this node");
        return;
    }
    if (container.n && !str_is(container, "compute")) {
        refuse(x, 400, "the pod has one container, compute");
        return;
    }
    if (flag(x, "previous")) {
        refuse(x, 400, "previous terminated container \"compute\" not found: it is never restarted");
        return;
    }
    f = NEW(struct follower);
    f->r = r;
    f->x = x;
    f->old_fd = f->fd = -1;
    f->uid = xstrdup(p->rec.uid);
    f->follow = flag(x, "follow");
    list_add_tail(&r->followers, &f->node);
    if (!pod_open_dir(p, false, &dirfd, &err) || !begin(f, x, dirfd, &err)) {
        follower_free(f);
        refuse(x, 400, err.kind == ERROR_NOT_FOUND ? "container \"compute\" is waiting to start: ContainerCreating"
                                                   : error_text(&err));
        return;
    }
    x->user = f;
    x->closed = on_closed;
    x->writable = on_writable;
    exchange_start(x, 200, "text/plain");
    pump(f);
}

bool pod_runtime_http(struct pod_runtime *r, struct exchange *x)
{
    struct str rest = x->path, empty, version, pods, ns, name, verb;

    if (!str_next(&rest, '/', &empty) || !str_next(&rest, '/', &version) || !str_next(&rest, '/', &pods)
        || !str_next(&rest, '/', &ns) || !str_next(&rest, '/', &name) || !str_next(&rest, '/', &verb) || rest.p
        || !str_is(version, "v1") || !str_is(pods, "pods") || !str_is(verb, "log"))
        return false;
    if (x->method != HTTP_GET)
        refuse(x, 405, "only GET");
    else
        serve(r, x, str_n(ns.p, ns.n + 1 + name.n));
    return true;
}
