/* The audit log's part of `vireo serve`: the supervisor reads the policy and opens the log's directory, for the control process has no
 * rights to either; the control process writes and rotates in that directory, which therefore belongs to its uid. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apiserver/audit_policy.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "cmd/instance.h"

static bool read_policy(struct instance *i, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};
    struct audit_policy *policy;

    buf_init(&text, 256 << 10);
    if (!file_read(AT_FDCWD, i->o.audit_policy_file, &text, err)
        || !audit_policy_parse(text.n ? buf_str(&text) : STR(""), &policy, err))
        return error_wrap(err, "--audit-policy-file %s", i->o.audit_policy_file);
    audit_policy_free(policy);
    i->audit_policy = buf_detach(&text);
    return true;
}

/* The directory is the control process's own: made for it, or given to it by whoever administers the machine. A directory of
 * others is never taken over, least of all /var/log itself. */
static bool open_dir(const struct instance *i, int *ret_fd, struct error *err)
{
    AUTO_FREE char *copy = xstrdup(i->o.audit_log_path);
    AUTO_CLOSE int fd = -1;
    const char *dir = dirname(copy);
    uid_t uid = instance_uid_base(i->name);
    struct stat st;
    bool made = mkdir(dir, 0700) == 0;

    if (!made && errno != EEXIST)
        return error_errno(err, errno, "--audit-log-path %s: directory %s", i->o.audit_log_path,
                           dir);
    if (!file_open_dir(AT_FDCWD, dir, &fd, err))
        return error_wrap(err, "--audit-log-path %s", i->o.audit_log_path);
    if (made && fchown(fd, uid, uid) < 0)
        return error_errno(err, errno, "--audit-log-path %s: chown", i->o.audit_log_path);
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "--audit-log-path %s", i->o.audit_log_path);
    if (st.st_uid != uid)
        return error_set(err, ERROR_CONFLICT,
                         "--audit-log-path %s: %s belongs to uid %u, but uid %u writes and rotates "
                         "the log in it: name a file in a "
                         "directory that is not there yet, or give one to that uid (chown %u %s)",
                         i->o.audit_log_path, dir, (unsigned)st.st_uid, (unsigned)uid,
                         (unsigned)uid, dir);
    *ret_fd = TAKE_FD(fd);
    return true;
}

bool audit_prepare(struct instance *i, int *ret_dirfd, struct error *err)
{
    const struct instance_options *o = &i->o;

    *ret_dirfd = -1;
    if (!o->audit_policy_file && !o->audit_log_path)
        return true;
    if (!o->audit_policy_file)
        return error_set(
            err, ERROR_BAD_REQUEST,
            "--audit-log-path needs --audit-policy-file: without rules nothing is noted");
    if (!o->audit_log_path)
        return error_set(
            err, ERROR_BAD_REQUEST,
            "--audit-policy-file needs --audit-log-path FILE (or - for standard output)");
    if (!read_policy(i, err))
        return false;
    if (!strcmp(o->audit_log_path, "-"))
        return true;
    if (o->audit_log_path[strlen(o->audit_log_path) - 1] == '/' || o->audit_log_path[0] != '/')
        return error_set(err, ERROR_BAD_REQUEST,
                         "--audit-log-path %s: an absolute path of a file is wanted",
                         o->audit_log_path);
    return open_dir(i, ret_dirfd, err);
}
