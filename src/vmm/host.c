#include "vmm/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "vmm/errand.h"

#define VMM_LIMIT_NS SECONDS(25) /* a driver's own limits are shorter */
#define RETRY_NS SECONDS(50)     /* doubled from one try without a verdict to the next … */
#define RETRY_DOUBLINGS 6        /* … up to about an hour */
#define SETTLE_NS MILLIS(1500)
#define FILE_BYTES (64 << 10)

/* ---- keys ---- */

/* What a file is, but for its name: another one in its place has another key. */
static void stat_key(const struct stat *st, char *ret, size_t size)
{
    size_t n = strlen(ret);

    snprintf(ret + n, size - n, "%llx:%llx:%o:%u:%u:%llx:%lld:%lld.%09ld:%lld.%09ld", (unsigned long long)st->st_dev,
             (unsigned long long)st->st_ino, st->st_mode, st->st_uid, st->st_gid, (unsigned long long)st->st_rdev,
             S_ISCHR(st->st_mode) ? 0LL : (long long)st->st_size, S_ISCHR(st->st_mode) ? 0LL : (long long)st->st_mtim.tv_sec,
             S_ISCHR(st->st_mode) ? 0L : st->st_mtim.tv_nsec, S_ISCHR(st->st_mode) ? 0LL : (long long)st->st_ctim.tv_sec,
             S_ISCHR(st->st_mode) ? 0L : st->st_ctim.tv_nsec);
}

static void device_key(const char *path, char ret[HOST_KEY])
{
    struct stat st;

    memset(ret, 0, HOST_KEY);
    if (stat(path, &st) < 0)
        snprintf(ret, HOST_KEY, "none:%d", errno);
    else
        stat_key(&st, ret, HOST_KEY);
}

/* What a look at the directories says of a program, before it is run. */
struct look {
    char key[HOST_KEY];
    char path[256];
    enum probe_verdict verdict; /* PROBE_WORKS: it can be asked */
    char reason[768];
};

static void say(struct look *l, enum probe_verdict v, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct look *l, enum probe_verdict v, const char *fmt, ...)
{
    va_list ap;

    l->verdict = v;
    va_start(ap, fmt);
    vsnprintf(l->reason, sizeof l->reason, fmt, ap);
    va_end(ap);
}

/* A candidate that exists: is it one that a VM's user, who is neither its owner nor of its group, can run from the sandbox? */
static void judge_file(const struct host *h, const char *path, const struct stat *st, struct look *ret)
{
    const char *sees = h->o.sees ? h->o.sees : "/usr/";
    AUTO_FREE char *real = realpath(path, NULL);

    snprintf(ret->path, sizeof ret->path, "%s", path);
    memset(ret->key, 0, sizeof ret->key);
    stat_key(st, ret->key, sizeof ret->key);
    if (S_ISDIR(st->st_mode))
        say(ret, PROBE_BROKEN, "%s is a directory: put the program itself there", path);
    else if (!S_ISREG(st->st_mode))
        say(ret, PROBE_BROKEN, "%s is no program", path);
    else if (!(st->st_mode & 0001) || !(st->st_mode & 0004))
        say(ret, PROBE_DENIED, "%s cannot be run by a virtual machine's user: chmod 755 %s", path, path);
    else if (!real || !str_starts(str_of(real), str_of(sees)))
        say(ret, PROBE_DENIED, "%s lies outside of %s, which is all that a virtual machine's sandbox sees: install it in %slocal/bin",
            real ? real : path, sees, sees);
    else
        say(ret, PROBE_WORKS, "%s", "");
}

/* The first that can be run; else what stands in the way of the first that is there. */
static bool look_in(const struct host *h, const char *dirs, const char *program, struct look *ret)
{
    struct str rest = str_of(dirs), dir;
    bool found = false;

    while (str_next(&rest, ':', &dir)) {
        AUTO_FREE char *path = xasprintf(STR_FMT "/%s", STR_ARG(dir), program);
        struct look one = {0};
        struct stat st;

        if (!dir.n || dir.p[0] != '/' || stat(path, &st) < 0)
            continue;
        judge_file(h, path, &st, &one);
        if (!found || one.verdict == PROBE_WORKS)
            *ret = one;
        found = true;
        if (one.verdict == PROBE_WORKS)
            break;
    }
    return found;
}

static void look_for(const struct host *h, const struct vmm_driver *d, struct look *ret)
{
    const char *program = d->program ? d->program : d->name, *own = getenv("PATH");

    memset(ret, 0, sizeof *ret);
    if (!program[0]) { /* it is part of us */
        snprintf(ret->key, sizeof ret->key, "built-in");
        say(ret, PROBE_WORKS, "%s", "");
        return;
    }
    if (look_in(h, h->o.path ? h->o.path : HOST_PATH, program, ret))
        return;
    if (!h->o.path && own && look_in(h, own, program, ret)) /* for the message's sake */
        return;
    snprintf(ret->key, sizeof ret->key, "none");
    say(ret, PROBE_ABSENT, "the program %s is not installed: put it in /usr/local/bin, or install its package", program);
}

/* ---- probing ---- */

static void keep(struct host *h)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf b = {0};

    if (h->o.dirfd < 0)
        return;
    buf_init(&b, FILE_BYTES);
    json_write(&b, host_to_file(h, &a));
    if (b.overflow || !file_write(h->o.dirfd, HOST_FILE, buf_str(&b), 0600, &err))
        log_warning(NULL, "%s: %s, ignoring", HOST_FILE, b.overflow ? "it would be too large" : error_text(&err));
}

static void on_settle(struct loop_timer *t)
{
    struct host *h = container_of(t, struct host, settle);

    if (h->settled)
        h->settled(h->user);
}

static void on_tell(struct loop_defer *d)
{
    struct host *h = container_of(d, struct host, tell);

    h->news = false;
    if (h->running == 0) {
        loop_timer_stop(&h->settle);
        keep(h);
    }
    if (h->found)
        h->found(h->user);
    if (h->running == 0 && h->settled)
        h->settled(h->user);
}

/* A verdict is there. What is none is asked for again, later and later. */
static void took(struct host *h, struct host_subject *s, bool conclusive)
{
    s->known = true;
    s->probed_unix_ns = loop_unix_ns(h->loop);
    if (conclusive) {
        s->failures = 0;
    } else {
        unsigned n = s->failures < RETRY_DOUBLINGS ? s->failures : RETRY_DOUBLINGS;

        s->retry_ns = loop_now_ns(h->loop) + (RETRY_NS << n);
        s->failures++;
    }
    h->news = true;
    loop_defer(h->loop, &h->tell, on_tell);
}

static void begun(struct host *h)
{
    h->running++;
    if (!loop_timer_active(&h->settle))
        loop_timer_start(h->loop, &h->settle, SETTLE_NS, on_settle);
}

static void probe_device(struct host *h, struct host_device *d);

static void on_device(void *user, const struct probe_result *r)
{
    struct host_device *d = user;

    d->running = NULL;
    d->host->running--;
    d->r = *r;
    took(d->host, &d->s, r->verdict != PROBE_INCONCLUSIVE);
    if (d->s.again)
        probe_device(d->host, d);
}

static void probe_device(struct host *h, struct host_device *d)
{
    bool kvm = d == &h->kvm;
    const char *path = kvm ? h->o.kvm : h->o.mshv;
    char key[HOST_KEY];

    d->s.again = d->running != NULL;
    if (d->running)
        return;
    device_key(path, key);
    d->s.known &= strcmp(key, d->s.key) == 0;
    memcpy(d->s.key, key, sizeof key);
    if (access(path, F_OK) < 0 && errno == ENOENT) { /* nobody has to be sent for that */
        memset(&d->r, 0, sizeof d->r);
        d->r.verdict = PROBE_ABSENT;
        snprintf(d->r.reason, sizeof d->r.reason, "%s is not there", path);
        took(h, &d->s, true);
        return;
    }
    begun(h);
    d->running = kvm ? probe_kvm(h->loop, path, on_device, d) : probe_mshv(h->loop, path, on_device, d);
}

/* In the child. */
struct question {
    const struct vmm_driver *driver;
    const char *path;
};
struct answer {
    bool ok;
    enum error_kind kind;
    char reason[400];
    struct vmm_version version;
};

static void ask(const void *arg, void *result)
{
    const struct question *q = arg;
    struct answer *a = result;
    AUTO(error_clear) struct error err = {0};

    a->ok = q->driver->probe(&a->version, &err);
    a->kind = err.kind;
    if (!a->ok)
        snprintf(a->reason, sizeof a->reason, "%s", error_text(&err));
}

static void ask_in_child(const void *arg, void *result)
{
    setenv("PATH", ((const struct question *)arg)->path, 1);
    ask(arg, result);
}

static void probe_vmm(struct host *h, struct host_vmm *v);

/* It comes from a process that has run a stranger's program: whether its texts end is not taken on trust. */
static void bounded(struct answer *a)
{
    struct vmm_version *v = &a->version;

    a->reason[sizeof a->reason - 1] = v->text[sizeof v->text - 1] = '\0';
    v->machines[sizeof v->machines - 1] = v->devices[sizeof v->devices - 1] = '\0';
}

static void conclude(struct host_vmm *v, enum errand_end end, const struct answer *a)
{
    bool timeout = end == ERRAND_SILENT || (end == ERRAND_DONE && !a->ok && a->kind == ERROR_TIMEOUT);

    memset(&v->version, 0, sizeof v->version);
    v->reason[0] = '\0';
    if (end == ERRAND_DONE && a->ok) {
        v->verdict = PROBE_WORKS;
        v->version = a->version;
    } else if (timeout) {
        v->verdict = PROBE_INCONCLUSIVE;
        snprintf(v->reason, sizeof v->reason, "%s does not answer when it is asked for its version (it hangs, or this machine is too busy): "
                 "it is asked again later", v->path);
    } else if (end == ERRAND_DIED) {
        v->verdict = PROBE_INCONCLUSIVE;
        snprintf(v->reason, sizeof v->reason, "the process that asked %s for its version was killed: it is asked again later", v->path);
    } else {
        v->verdict = PROBE_BROKEN;
        snprintf(v->reason, sizeof v->reason, "%s: %s: install one that answers", v->path, a->reason);
    }
}

static void on_vmm(void *user, enum errand_end end, const void *result, int64_t cpu_ms)
{
    struct host_vmm *v = user;
    struct answer answer = {0};

    (void)cpu_ms;
    v->running = NULL;
    v->host->running--;
    if (result)
        memcpy(&answer, result, sizeof answer);
    bounded(&answer);
    conclude(v, end, &answer);
    took(v->host, &v->s, v->verdict != PROBE_INCONCLUSIVE);
    if (v->s.again)
        probe_vmm(v->host, v);
}

static void probe_vmm(struct host *h, struct host_vmm *v)
{
    const struct question q = {v->driver, h->o.path ? h->o.path : HOST_PATH};
    struct look look;

    v->s.again = v->running != NULL;
    if (v->running)
        return;
    look_for(h, v->driver, &look);
    v->s.known &= strcmp(look.key, v->s.key) == 0;
    memcpy(v->s.key, look.key, sizeof v->s.key);
    memcpy(v->path, look.path, sizeof v->path);
    if (look.verdict != PROBE_WORKS) {
        memset(&v->version, 0, sizeof v->version);
        v->verdict = look.verdict;
        memcpy(v->reason, look.reason, sizeof v->reason);
        took(h, &v->s, true);
        return;
    }
    if (!look.path[0]) { /* our own: there is no program to be wary of */
        struct answer own = {0};

        ask(&q, &own);
        conclude(v, ERRAND_DONE, &own);
        took(h, &v->s, true);
        return;
    }
    begun(h);
    v->running = errand_start(h->loop,
                              &(struct errand_spec){.run = ask_in_child, .arg = &q, .result_size = sizeof(struct answer),
                                                    .limit_ns = VMM_LIMIT_NS, .isolate = true, .uid = h->o.uid},
                              on_vmm, v);
}

/* ---- what has changed ---- */

static bool due(const struct host *h, const struct host_subject *s)
{
    return !s->known || (s->failures && loop_now_ns(h->loop) >= s->retry_ns);
}

static void check_device(struct host *h, struct host_device *d, const char *path)
{
    char key[HOST_KEY];

    device_key(path, key);
    if (strcmp(key, d->s.key) != 0) {
        d->s.known = false;
        d->s.failures = 0;
        probe_device(h, d);
    } else if (!d->running && due(h, &d->s)) {
        probe_device(h, d);
    }
}

void host_check_vmm(struct host *h, struct host_vmm *v)
{
    struct look look;

    look_for(h, v->driver, &look);
    if (strcmp(look.key, v->s.key) != 0 || strcmp(look.path, v->path) != 0) {
        v->s.known = false;
        v->s.failures = 0;
        probe_vmm(h, v);
    } else if (!v->running && due(h, &v->s)) {
        probe_vmm(h, v);
    }
    check_device(h, &h->kvm, h->o.kvm);
    check_device(h, &h->mshv, h->o.mshv);
}

bool host_check(struct host *h)
{
    for (size_t i = 0; i < h->n_vmms; i++)
        host_check_vmm(h, &h->vmms[i]);
    return h->running > 0 || h->news;
}

void host_probe(struct host *h)
{
    h->kvm.s.failures = h->mshv.s.failures = 0;
    probe_device(h, &h->kvm);
    probe_device(h, &h->mshv);
    for (size_t i = 0; i < h->n_vmms; i++) {
        h->vmms[i].s.failures = 0;
        probe_vmm(h, &h->vmms[i]);
    }
}

void host_wait(struct host *h)
{
    host_check(h);
    while (h->running > 0)
        loop_turn(h->loop, MILLIS(100));
    loop_turn(h->loop, 0);
}

/* ---- life ---- */

struct host_vmm *host_vmm(struct host *h, struct str name)
{
    for (size_t i = 0; i < h->n_vmms; i++)
        if (str_is(name, h->vmms[i].driver->name))
            return &h->vmms[i];
    return NULL;
}

static void recall(struct host *h)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf b = {0};
    const struct json *file;

    buf_init(&b, FILE_BYTES);
    if (h->o.dirfd < 0 || !file_exists(h->o.dirfd, HOST_FILE))
        return;
    if (!file_read(h->o.dirfd, HOST_FILE, &b, &err) || !json_parse(buf_str(&b), &a, &file, &err)) {
        log_warning(NULL, "%s: %s, ignoring", HOST_FILE, error_text(&err));
        return;
    }
    host_from_file(h, file);
}

static char *boot_id(void)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};

    buf_init(&b, 256);
    return file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &b, &err) ? str_dup(str_trim(buf_str(&b))) : xstrdup("");
}

struct host *host_new(struct loop *l, const struct host_options *o, void (*found)(void *user), void (*settled)(void *user), void *user)
{
    struct host *h = NEW(struct host);
    const struct vmm_driver *const *drivers = o->drivers ? o->drivers : vmm_drivers;
    struct utsname u = {0};

    uname(&u);
    h->loop = l;
    h->o = *o;
    h->o.kvm = o->kvm ? o->kvm : PROBE_KVM_DEVICE;
    h->o.mshv = o->mshv ? o->mshv : PROBE_MSHV_DEVICE;
    h->kernel = xstrdup(o->kernel ? o->kernel : u.release);
    h->boot_id = o->boot_id ? xstrdup(o->boot_id) : boot_id();
    h->found = found;
    h->settled = settled;
    h->user = user;
    h->kvm.host = h->mshv.host = h;
    for (; *drivers && h->n_vmms < HOST_MAX_VMMS; drivers++) {
        if ((*drivers)->plays && !vmm_version_has(o->on_demand ? o->on_demand : "", (*drivers)->name))
            continue;
        h->vmms[h->n_vmms].host = h;
        h->vmms[h->n_vmms++].driver = *drivers;
    }
    recall(h);
    return h;
}

void host_free(struct host *h)
{
    if (!h)
        return;
    probe_cancel(h->kvm.running);
    probe_cancel(h->mshv.running);
    for (size_t i = 0; i < h->n_vmms; i++)
        errand_cancel(h->vmms[i].running);
    loop_timer_stop(&h->settle);
    loop_defer_cancel(&h->tell);
    free(h->kernel);
    free(h->boot_id);
    free(h);
}
