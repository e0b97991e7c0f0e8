/* vireo backup FILE|DIR: the database and the keys of a data directory as one file, while the server runs or not.
 *
 * The database is read through SQLite, beside the server and without its help, in one reading transaction: writers go
 * on. It is the control process's file, and that process talks to the network; so it is read by a child with that
 * process's uid, which hands back bytes. Root adds the keys, compresses, and gives the file its name when all of it is on the disk. */
#include "cmd/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/instance.h"
#include "store/archive.h"

struct verdict { /* what the child says */
    bool ok;
    enum error_kind kind;
    struct store_image image;
    char msg[1024];
};

static void child(uid_t uid, pid_t parent, int fd,
                  bool (*fn)(void *user, struct store_image *ret, struct error *err), void *user)
{
    struct verdict v = {0};
    struct error err = {0};

    /* The signal last: a change of the uid forgets it (prctl(2)). */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0
        || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0
        || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        error_errno(&err, errno, "dropping privileges");
    else if (getppid() != parent)
        _exit(1);
    else
        v.ok = fn(user, &v.image, &err);
    v.kind = err.kind;
    snprintf(v.msg, sizeof v.msg, "%s", v.ok ? "" : error_text(&err));
    _exit(write(fd, &v, sizeof v) == (ssize_t)sizeof v ? 0 : 1);
}

bool backup_as(uid_t uid, int lock_fd,
               bool (*fn)(void *user, struct store_image *ret, struct error *err), void *user,
               struct store_image *ret, struct error *err)
{
    struct verdict v;
    int fds[2], status;
    ssize_t n;
    pid_t pid, parent = getpid();

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_errno(err, errno, "pipe");
    pid = fork();
    if (pid == 0) {
        fd_close(&lock_fd);
        child(uid, parent, fds[1], fn, user);
    }
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return error_errno(err, errno, "fork");
    }
    n = read(fds[0], &v, sizeof v);
    close(fds[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (n != (ssize_t)sizeof v)
        return error_set(err, ERROR_INTERNAL,
                         "the process that reads the database ended without a word (status %d)",
                         status);
    v.msg[sizeof v.msg - 1] = '\0';
    if (!v.ok)
        return error_set(err, v.kind, "%s", v.msg);
    *ret = v.image;
    return true;
}

bool backup_scratch(int dirfd, int *ret_fd, struct error *err)
{
    *ret_fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*ret_fd < 0)
        *ret_fd = memfd_create("vireo-backup", MFD_CLOEXEC);
    return *ret_fd >= 0 || error_errno(err, errno, "scratch file");
}

struct options {
    const char *dir, *target;
    bool overwrite, without_keys;
};

static bool parse(int argc, char **argv, struct options *o, struct error *err)
{
    static const struct option flags[] = {{"data-dir", required_argument, NULL, 'd'},
                                          {"overwrite", no_argument, NULL, 'o'},
                                          {"without-keys", no_argument, NULL, 'k'},
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
        case 'o':
            o->overwrite = true;
            break;
        case 'k':
            o->without_keys = true;
            break;
        case ':':
            return error_set(err, ERROR_BAD_REQUEST, "%s needs a value", argv[optind - 1]);
        default:
            return error_set(err, ERROR_BAD_REQUEST, "unknown option %s (see vireo --help)",
                             argv[optind - 1]);
        }
    }
    if (optind + 1 != argc)
        return error_set(
            err, ERROR_BAD_REQUEST,
            "usage: vireo backup FILE|DIR [--data-dir DIR] [--overwrite] [--without-keys]");
    o->target = argv[optind];
    return true;
}

struct place { /* where the backup goes */
    int dirfd;
    char name[NAME_MAX + 1];
    char path[PATH_MAX];
};

static bool find_place(const struct options *o, struct place *p, struct error *err)
{
    struct stat st;
    const char *slash = strrchr(o->target, '/');
    AUTO_FREE char *dir = NULL;

    if (stat(o->target, &st) == 0 && S_ISDIR(st.st_mode)) {
        time_t now = time(NULL);
        struct tm t;

        gmtime_r(&now, &t);
        dir = xstrdup(o->target);
        strftime(p->name, sizeof p->name, "vireo-%Y%m%dT%H%M%SZ.tar.zst", &t);
    } else {
        dir = slash == o->target ? xstrdup("/")
              : slash            ? str_dup(str_n(o->target, (size_t)(slash - o->target)))
                                 : xstrdup(".");
        snprintf(p->name, sizeof p->name, "%s", slash ? slash + 1 : o->target);
    }
    snprintf(p->path, sizeof p->path, "%s/%s", dir, p->name);
    if (!p->name[0] || strlen(p->name) > 200)
        return error_set(err, ERROR_BAD_REQUEST, "'%s': a file name is wanted", o->target);
    p->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->dirfd < 0)
        return error_errno(err, errno, "%s", dir);
    if (!o->overwrite && fstatat(p->dirfd, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(err, ERROR_EXISTS, "%s exists: choose another name, or give --overwrite",
                         p->path);
    return true;
}

struct taking {
    int control, to;
};

static bool take_image(void *user, struct store_image *ret, struct error *err)
{
    const struct taking *t = user;

    return store_image_take(t->control, t->to, ret, err);
}

static bool add_keys(int dirfd, struct archive *a, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct dirent **names = NULL;
    bool ok = true;
    int n;

    if (!file_open_dir(dirfd, "pki", &fd, err))
        return false;
    n = scandirat(fd, ".", &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *name = xasprintf("pki/%s", names[i]->d_name);
        struct stat st;

        if (ok && archive_name_valid(name)
            && fstatat(fd, names[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0
            && S_ISREG(st.st_mode)) {
            int key = openat(fd, names[i]->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

            ok = key < 0 ? error_errno(err, errno, "%s", name)
                         : archive_add(a, name, key, err); /* closed with the process */
        }
        free(names[i]);
    }
    free(names);
    return ok;
}

/* Under its name only when all of it is on the disk. */
static bool land(const struct options *o, const struct place *p, const struct archive *a,
                 int64_t *ret_bytes, struct error *err)
{
    AUTO_FREE char *part = xasprintf(".%s.part", p->name);
    AUTO_CLOSE int fd = -1;
    struct stat st;

    if (unlinkat(p->dirfd, part, 0) != 0 && errno != ENOENT)
        return error_errno(err, errno, "%s", part);
    fd = openat(p->dirfd, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(err, errno, "%s", p->path);
    if (!archive_write(a, fd, err)) {
        error_wrap(err, "%s", p->path);
    } else if (fsync(fd) != 0 || fstat(fd, &st) != 0) {
        error_errno(err, errno, "%s: flush", p->path);
    } else if (renameat2(p->dirfd, part, p->dirfd, p->name, o->overwrite ? 0 : RENAME_NOREPLACE)
                   != 0
               || fsync(p->dirfd) != 0) {
        error_errno(err, errno, "%s", p->path);
    } else {
        *ret_bytes = st.st_size;
        return true;
    }
    (void)unlinkat(p->dirfd, part, 0);
    return false;
}

static bool back_up(const struct options *o, struct error *err)
{
    AUTO(archive_done) struct archive a = {.time_s = time(NULL)};
    AUTO_CLOSE int dirfd = -1, control = -1, scratch = -1;
    struct place place = {.dirfd = -1};
    struct store_image image;
    struct taking taking;
    struct stat st;
    int64_t bytes;

    if (geteuid() != 0)
        return error_set(err, ERROR_FORBIDDEN,
                         "only root can read the data directory: sudo vireo backup");
    if (!find_place(o, &place, err))
        return false;
    if (!file_open_dir(AT_FDCWD, o->dir, &dirfd, err)
        || !file_open_dir(dirfd, "control", &control, err))
        return error_wrap(err, "--data-dir %s", o->dir);
    if (fstat(control, &st) < 0)
        return error_errno(err, errno, "%s/control", o->dir);
    if (!backup_scratch(place.dirfd, &scratch, err))
        return false;
    taking = (struct taking){control, scratch};
    if (!backup_as(st.st_uid, -1, take_image, &taking, &image, err))
        return error_wrap(err, "%s/control", o->dir);
    a.revision = image.revision;
    a.schema = image.schema;
    a.objects = image.objects;
    snprintf(a.program, sizeof a.program, "vireo %s", VIREO_VERSION);
    if (!archive_add(&a, "state.db", scratch, err)
        || (!o->without_keys && !add_keys(dirfd, &a, err)) || !land(o, &place, &a, &bytes, err))
        return false;
    printf("%s: revision %lld, %lld objects checked, %s; %.1f MiB, compressed to %.1f MiB\n",
           place.path, (long long)image.revision, (long long)image.objects,
           o->without_keys ? "without keys" : "keys included (keep it as safe as they are)",
           (double)image.bytes / 1048576, (double)bytes / 1048576);
    close(place.dirfd);
    return true;
}

int backup_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct options o;

    log_setup("backup", LOG_WARNING, false);
    if (!parse(argc, argv, &o, &err)) {
        fprintf(stderr, "vireo backup: %s\n", error_text(&err));
        return 2;
    }
    if (back_up(&o, &err))
        return 0;
    fprintf(stderr, "vireo backup: %s\n", error_text(&err));
    return 1;
}
