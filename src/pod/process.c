/* Who is alive. A process is known by pid, start time and boot: with these three it is never taken for another. Its end is seen
 * on a pidfd, which needs no parenthood; and as it is the init of a pid namespace, all others in there have ended before it. */
#include "pod/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#define CGROUPS "/sys/fs/cgroup"

bool process_start_ticks(pid_t pid, uint64_t *ret, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};
    struct str rest, field, before;
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    buf_init(&text, 4096);
    if (!file_read(AT_FDCWD, path, &text, err))
        return false;
    /* The name, second and in parentheses, may hold anything. */
    if (!str_rcut(buf_str(&text), ')', &before, &rest))
        return error_set(err, ERROR_INTERNAL, "%s: unknown form", path);
    rest = str_trim(rest);
    for (int i = 3; str_next(&rest, ' ', &field); i++)
        if (i == 22)
            return parse_u64(field, UINT64_MAX, ret, err);
    return error_set(err, ERROR_INTERNAL, "%s: unknown form", path);
}

int process_open(pid_t pid, uint64_t start_ticks)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    uint64_t ticks;

    /* In this order: what is read belongs to the process that the descriptor holds, or that one has ended meanwhile. */
    if (fd < 0 || !process_start_ticks(pid, &ticks, &err) || ticks != start_ticks)
        return -1;
    return TAKE_FD(fd);
}

bool process_ended(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

void process_signal(int pidfd, int signo)
{
    if (pidfd >= 0)
        syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0);
}

/* linux/pidfd.h of 6.15, which the headers of most distributions lack. */
struct pidfd_info_v0 {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
#define PIDFD_GET_INFO_V0  _IOWR(0xFF, 11, struct pidfd_info_v0)
#define PIDFD_INFO_EXIT_V0 (1u << 3)

bool process_wait_status(int pidfd, int *ret_status, bool *ret_again)
{
    struct pidfd_info_v0 info = {.mask = PIDFD_INFO_EXIT_V0};
    siginfo_t child = {0};

    *ret_again = false;
    if (waitid(P_PIDFD, (id_t)pidfd, &child, WEXITED | WNOHANG) == 0 && child.si_pid != 0) {
        *ret_status = child.si_code == CLD_EXITED ? W_EXITCODE(child.si_status, 0) : W_EXITCODE(0, child.si_status);
        return true;
    }
    if (ioctl(pidfd, PIDFD_GET_INFO_V0, &info) < 0)
        return false;
    *ret_again = !(info.mask & PIDFD_INFO_EXIT_V0);
    *ret_status = info.exit_code;
    return !*ret_again;
}

static bool met(const struct strays *s, pid_t pid)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->p[i] == pid)
            return true;
    return false;
}

void process_collect_strays(struct strays *seen)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    struct strays next = {0};
    struct str rest, word;
    char path[64];

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    buf_init(&text, 1u << 20);
    if (!file_read(AT_FDCWD, path, &text, &err))
        return;
    rest = buf_str(&text);
    while (str_next(&rest, ' ', &word)) {
        siginfo_t child = {0};
        uint64_t pid;

        error_clear(&err);
        if (!parse_u64(word, INT_MAX, &pid, &err)
            || waitid(P_PID, (id_t)pid, &child, WEXITED | WNOHANG | WNOWAIT) < 0 || child.si_pid == 0)
            continue;
        if (met(seen, (pid_t)pid))
            waitpid((pid_t)pid, NULL, WNOHANG);
        else
            vec_push(&next, (pid_t)pid);
    }
    vec_done(seen);
    *seen = next;
}

void process_boot_id(char ret[40])
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    bool ok;

    buf_init(&text, 39);
    ok = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, &err);
    snprintf(ret, 40, STR_FMT, STR_ARG(ok ? str_trim(buf_str(&text)) : STR("unknown")));
}

/* ---- cgroups ---- */

static bool is_v2(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

bool cgroup_hybrid(void)
{
    return !is_v2(CGROUPS) && is_v2(CGROUPS "/unified");
}

/* The pod's directory in the hierarchy of a version 1 controller, or in the only one. */
static void cgroup_path(char ret[PATH_MAX], const char *controller, const char *instance, const char *uid, const char *file)
{
    bool v2 = is_v2(CGROUPS);

    snprintf(ret, PATH_MAX, CGROUPS "%s%s/vireo-%s%s%s%s%s", v2 ? "" : "/", v2 ? "" : controller, instance, uid ? "/" : "",
             uid ? uid : "", file ? "/" : "", file ? file : "");
}

static bool read_cgroup(const char *controller, const char *instance, const char *uid, const char *file, struct buf *out)
{
    AUTO(error_clear) struct error err = {0};
    char path[PATH_MAX];

    cgroup_path(path, controller, instance, uid, file);
    buf_init(out, 1u << 20);
    return file_read(AT_FDCWD, path, out, &err);
}

pid_t cgroup_any(const char *instance, const char *uid)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    struct str line, rest;
    uint64_t pid;

    if (!read_cgroup("pids", instance, uid, "cgroup.procs", &text))
        return 0;
    rest = buf_str(&text);
    if (!str_next(&rest, '\n', &line) || !parse_u64(line, INT_MAX, &pid, &err))
        return 0;
    return (pid_t)pid;
}

void cgroup_kill(const char *instance, const char *uid)
{
    AUTO(buf_done) struct buf text = {0};
    struct str line, rest;

    if (!read_cgroup("pids", instance, uid, "cgroup.procs", &text))
        return;
    rest = buf_str(&text);
    while (str_next(&rest, '\n', &line)) {
        AUTO(error_clear) struct error err = {0};
        uint64_t pid;

        if (parse_u64(line, INT_MAX, &pid, &err) && pid > 1)
            kill((pid_t)pid, SIGKILL);
    }
}

bool cgroup_end(const char *instance, const char *uid)
{
    for (int i = 0; i < 100 && cgroup_any(instance, uid); i++) {
        cgroup_kill(instance, uid);
        usleep(20000);
    }
    return !cgroup_any(instance, uid);
}

void cgroup_each(const char *instance, void (*fn)(void *user, const char *uid), void *user)
{
    char path[PATH_MAX];
    DIR *d;

    cgroup_path(path, "pids", instance, NULL, NULL);
    d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_type == DT_DIR && e->d_name[0] != '.')
            fn(user, e->d_name);
    if (d)
        closedir(d);
}

bool cgroup_oom(const char *instance, const char *uid)
{
    AUTO(buf_done) struct buf text = {0};
    struct str line, rest;

    if (!read_cgroup("memory", instance, uid, is_v2(CGROUPS) ? "memory.events" : "memory.oom_control", &text))
        return false;
    rest = buf_str(&text);
    while (str_next(&rest, '\n', &line))
        if (str_starts(line, STR("oom_kill ")) && !str_is(line, "oom_kill 0"))
            return true;
    return false;
}

bool cgroup_weigh(const char *instance, const char *uid, uint64_t shares, struct error *err)
{
    bool v2 = is_v2(CGROUPS);
    char path[PATH_MAX], text[24];
    AUTO_CLOSE int fd = -1;

    cgroup_path(path, "cpu", instance, uid, v2 ? "cpu.weight" : "cpu.shares");
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "%s", path);
    /* Kubernetes' conversion from shares to a weight (KEP-2254). */
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)(v2 ? 1 + (shares - 2) * 9999 / 262142 : shares));
    if (write(fd, text, (size_t)n) < 0)
        return error_errno(err, errno, "%s", path);
    return true;
}

void cgroup_remove(const char *instance, const char *uid)
{
    char path[PATH_MAX];
    DIR *d;

    if (is_v2(CGROUPS)) {
        cgroup_path(path, "", instance, uid, NULL);
        rmdir(path);
        return;
    }
    d = opendir(CGROUPS);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        cgroup_path(path, e->d_name, instance, uid, NULL);
        rmdir(path);
    }
    closedir(d);
}
