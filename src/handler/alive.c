#include "handler/alive.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define LAUNCHER "vireo-launcher" /* as the kernel calls it */
#define UID_LEN 32 /* at least: static pods have a hash of that many digits; what is shorter may stand in anybody's path */

static bool read_of(int proc, pid_t pid, const char *name, struct buf *ret, struct error *err)
{
    char path[48];

    snprintf(path, sizeof path, "%d/%s", (int)pid, name);
    buf_init(ret, 64 << 10);
    return file_read(proc, path, ret, err);
}

/* A cgroup's path carries the pod's UID in both modes; systemd's slices spell it with underscores. */
static bool names_pod(struct str cgroup, const char *pod_uid)
{
    AUTO(buf_done) struct buf slim = {0};
    size_t at;

    if (str_find(cgroup, str_of(pod_uid), &at))
        return true;
    for (const char *p = pod_uid; *p; p++)
        buf_addc(&slim, *p == '-' ? '_' : *p);
    return str_find(cgroup, buf_str(&slim), &at);
}

bool alive_in_pod(int proc, pid_t pid, const char *pod_uid, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};

    if (!read_of(proc, pid, "cgroup", &text, err))
        return false;
    if (names_pod(buf_str(&text), pod_uid))
        return true;
    return error_set(err, ERROR_FORBIDDEN, "the process on the launcher's socket (pid %d) is not in the pod's cgroup", (int)pid);
}

/* One that is over but not yet waited for has no other processes below it any more: its namespace is empty. */
static bool is_launcher(int proc, pid_t pid)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    size_t at;

    if (!read_of(proc, pid, "stat", &text, &err) || !str_find(buf_str(&text), STR("(" LAUNCHER ") "), &at))
        return false;
    at += sizeof "(" LAUNCHER ") " - 1;
    return at < text.n && text.p[at] != 'Z' && text.p[at] != 'X';
}

pid_t alive_launcher(int proc, const char *pod_uid)
{
    AUTO(error_clear) struct error err = {0};
    int fd = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *e;
    pid_t found = 0;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    while (strlen(pod_uid) >= UID_LEN && !found && (e = readdir(dir))) {
        int64_t pid;

        if (e->d_name[0] < '0' || e->d_name[0] > '9' || !parse_i64(str_of(e->d_name), 1, INT32_MAX, &pid, &err)) {
            error_clear(&err);
            continue;
        }
        if (is_launcher(proc, (pid_t)pid) && alive_in_pod(proc, (pid_t)pid, pod_uid, &err))
            found = (pid_t)pid;
        error_clear(&err);
    }
    closedir(dir);
    return found;
}
