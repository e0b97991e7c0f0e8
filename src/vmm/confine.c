/* The list of calls is a constant program: nothing is compiled at a start, and the launcher carries no library for it. The
 * kernel runs it once for each call number when it is installed and remembers which are always allowed, so those cost
 * nothing afterwards; only clone and socket, whose arguments matter, are looked at each time.
 *
 * Landlock has no wrapper in libc, and the kernel headers of Debian 12 know only its first versions: numbers and structures
 * are spelled out here, as linux/landlock.h of 6.12 has them. */
#include "vmm/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* ---- Landlock ---- */

#define NR_LANDLOCK_CREATE   444
#define NR_LANDLOCK_ADD      445
#define NR_LANDLOCK_RESTRICT 446

#define LL_VERSION_QUERY 1u
#define LL_PATH_BENEATH  1

#define LL_EXECUTE     (1ull << 0)
#define LL_WRITE_FILE  (1ull << 1)
#define LL_READ_FILE   (1ull << 2)
#define LL_READ_DIR    (1ull << 3)
#define LL_REMOVE_DIR  (1ull << 4)
#define LL_REMOVE_FILE (1ull << 5)
#define LL_MAKE_REG    (1ull << 8)
#define LL_MAKE_SOCK   (1ull << 9)
#define LL_ALL_V1      ((1ull << 13) - 1)
#define LL_REFER       (1ull << 13) /* 2 */
#define LL_TRUNCATE    (1ull << 14) /* 3 */
#define LL_IOCTL_DEV   (1ull << 15) /* 5 */

#define LL_NET_BIND_TCP    (1ull << 0) /* 4 */
#define LL_NET_CONNECT_TCP (1ull << 1)
#define LL_SCOPE_ABSTRACT  (1ull << 0) /* 6 */
#define LL_SCOPE_SIGNAL    (1ull << 1)

#define LL_ANY_FILE (LL_READ_FILE | LL_WRITE_FILE | LL_TRUNCATE | LL_IOCTL_DEV | LL_EXECUTE) /* what a rule on a file may hold */

struct ll_ruleset {
    uint64_t fs, net, scoped;
};
struct __attribute__((packed)) ll_path_beneath {
    uint64_t allowed;
    int32_t parent_fd;
};

int confine_landlock(void)
{
    long version = syscall(NR_LANDLOCK_CREATE, NULL, (size_t)0, LL_VERSION_QUERY);

    return version > 0 ? (int)version : 0;
}

struct rules {
    int fd;
    uint64_t handled;
    struct error *err;
    bool failed;
};

/* What cannot carry a rule (pipes, sockets, memory files) needs none: Landlock does not look at them. */
static void allow_fd(struct rules *r, int fd, uint64_t rights, const char *what)
{
    struct ll_path_beneath rule = {.parent_fd = fd};
    struct stat st;

    if (r->failed || fstat(fd, &st) != 0)
        return;
    if (!S_ISDIR(st.st_mode))
        rights &= LL_ANY_FILE;
    rule.allowed = rights & r->handled;
    if (!rule.allowed || syscall(NR_LANDLOCK_ADD, r->fd, LL_PATH_BENEATH, &rule, 0) == 0 || errno == EBADFD)
        return;
    r->failed = true;
    error_errno(r->err, errno, "confine the VMM: %s", what);
}

static void allow(struct rules *r, const char *path, uint64_t rights)
{
    AUTO_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd >= 0)
        allow_fd(r, fd, rights, path);
}

static void allow_all(struct rules *r, const char *const *paths, uint64_t rights)
{
    for (; paths && *paths; paths++)
        allow(r, *paths, rights);
}

static void allow_inherited(struct rules *r, const struct child_fd *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int flags = fcntl(fds[i].fd, F_GETFL);
        uint64_t rights = LL_READ_FILE | LL_IOCTL_DEV;

        if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
            rights |= LL_WRITE_FILE | LL_TRUNCATE;
        allow_fd(r, fds[i].fd, rights, "a descriptor");
    }
}

static bool is_script(const char *path)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    char head[2];

    return fd >= 0 && read(fd, head, 2) == 2 && head[0] == '#' && head[1] == '!';
}

static bool make_ruleset(const struct confine_spec *spec, const char *program, int version, int *ret_fd, struct error *err)
{
    static const char *const loaders[] = {"/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1", "/lib/ld-linux-aarch64.so.1",
                                          NULL};
    static const char *const libraries[] = {"/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache",
                                            "/proc", "/sys", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", NULL};
    struct ll_ruleset set = {.fs = LL_ALL_V1};
    AUTO_CLOSE int fd = -1;

    if (version >= 2)
        set.fs |= LL_REFER;
    if (version >= 3)
        set.fs |= LL_TRUNCATE;
    if (version >= 4)
        set.net = LL_NET_BIND_TCP | (spec->connect_tcp ? 0 : LL_NET_CONNECT_TCP);
    if (version >= 5)
        set.fs |= LL_IOCTL_DEV;
    if (version >= 6)
        set.scoped = LL_SCOPE_ABSTRACT | LL_SCOPE_SIGNAL;
    if (is_script(program))
        set.fs &= ~(LL_EXECUTE | LL_READ_FILE | LL_READ_DIR | LL_IOCTL_DEV);
    fd = (int)syscall(NR_LANDLOCK_CREATE, &set, version >= 6 ? sizeof set : version >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t),
                      0);
    if (fd < 0)
        return error_errno(err, errno, "confine the VMM: Landlock");
    struct rules r = {.fd = fd, .handled = set.fs, .err = err};
    allow(&r, program, LL_READ_FILE | LL_EXECUTE);
    allow_all(&r, loaders, LL_READ_FILE | LL_EXECUTE);
    allow_all(&r, libraries, LL_READ_FILE | LL_READ_DIR);
    allow(&r, "/dev/null", LL_WRITE_FILE);
    allow_all(&r, spec->read, LL_READ_FILE | LL_READ_DIR);
    allow_all(&r, spec->devices, LL_READ_FILE | LL_WRITE_FILE | LL_IOCTL_DEV);
    allow_all(&r, spec->write,
              LL_READ_FILE | LL_READ_DIR | LL_WRITE_FILE | LL_TRUNCATE | LL_MAKE_REG | LL_MAKE_SOCK | LL_REMOVE_FILE);
    allow_inherited(&r, spec->fds, spec->n_fds);
    if (r.failed)
        return false;
    *ret_fd = TAKE_FD(fd);
    return true;
}

/* ---- system calls ---- */

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#endif
#define X32_BIT 0x40000000u

#define LOAD(field)      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what)     BPF_STMT(BPF_RET | BPF_K, what)
#define REFUSE(errnum)   RETURN(SECCOMP_RET_ERRNO | (errnum))
#define UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, n) /* skips n unless equal */
#define DENY(name)       UNLESS(__NR_##name, 1), REFUSE(EPERM)
#define DENY_AS(name, e) UNLESS(__NR_##name, 1), REFUSE(e)

/* What the sandbox refuses is refused here again: a launcher may run outside of one, and two lists are better than one. */
#define COMMON                                                                                                                   \
    LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0), REFUSE(ENOSYS), LOAD(nr),                                       \
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1), REFUSE(ENOSYS),                                                      \
        /* new processes, and other processes; the flags of clone3 lie in memory: libraries use clone when it is missing */      \
        DENY_AS(clone3, ENOSYS), DENY(execveat), DENY(ptrace), DENY(process_vm_readv), DENY(process_vm_writev),                  \
        DENY(process_madvise), DENY(pidfd_getfd), DENY(pidfd_send_signal), DENY(kcmp), DENY(setpgid), DENY(setsid), /* */        \
        /* mounts and namespaces */                                                                                              \
        DENY(mount), DENY(umount2), DENY(pivot_root), DENY(chroot), DENY(open_tree), DENY(move_mount), DENY(mount_setattr),      \
        DENY(fsopen), DENY(fsconfig), DENY(fsmount), DENY(fspick), DENY(unshare), DENY(setns), DENY(open_by_handle_at),          \
        DENY(name_to_handle_at), DENY(mknodat),                                                                                  \
        /* the kernel itself */                                                                                                  \
        DENY(kexec_load), DENY(kexec_file_load), DENY(init_module), DENY(finit_module), DENY(delete_module), DENY(bpf),          \
        DENY(perf_event_open), DENY(userfaultfd), DENY(syslog), DENY(lookup_dcookie), DENY(io_uring_setup),                      \
        DENY(io_uring_enter), DENY(io_uring_register), DENY(fanotify_init), DENY(quotactl), DENY(quotactl_fd),                   \
        DENY(personality), DENY(acct), DENY(vhangup),                                                                            \
        /* keys, users, time, the machine */                                                                                     \
        DENY(keyctl), DENY(add_key), DENY(request_key), DENY(setuid), DENY(setgid), DENY(setreuid), DENY(setregid),              \
        DENY(setresuid), DENY(setresgid), DENY(setgroups), DENY(setfsuid), DENY(setfsgid), DENY(capset), DENY(settimeofday),     \
        DENY(clock_settime), DENY(clock_adjtime), DENY(adjtimex), DENY(reboot), DENY(swapon), DENY(swapoff),                     \
        DENY(sethostname), DENY(setdomainname),                                                                                  \
        /* talk between processes that leaves no file */                                                                         \
        DENY(shmget), DENY(shmat), DENY(shmctl), DENY(semget), DENY(semop), DENY(msgget), DENY(msgsnd), DENY(msgrcv),            \
        DENY(mq_open), DENY(mq_unlink), ARCH_OWN                                                                                 \
        /* threads, but no processes */                                                                                          \
        UNLESS(__NR_clone, 3), LOAD(args[0]), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0), REFUSE(EPERM)

#if defined __x86_64__
#define ARCH_OWN DENY(fork), DENY(vfork), DENY(mknod), DENY(iopl), DENY(ioperm), DENY(modify_ldt), DENY(uselib), DENY(ustat), DENY(sysfs),
#else
#define ARCH_OWN
#endif

/* After the check of clone the number may be gone from the register: it is loaded again. */
static const struct sock_filter unix_only[] = {
    COMMON,
    LOAD(nr),
    UNLESS(__NR_socket, 3),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0),
    REFUSE(EAFNOSUPPORT),
    RETURN(SECCOMP_RET_ALLOW),
};

static const struct sock_filter with_inet[] = {
    COMMON,
    LOAD(nr),
    UNLESS(__NR_socket, 5),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0),
    REFUSE(EAFNOSUPPORT),
    RETURN(SECCOMP_RET_ALLOW),
};

static int refuse_calls(bool inet)
{
    struct sock_fprog program = {.len = inet ? ARRAY_SIZE(with_inet) : ARRAY_SIZE(unix_only),
                                 .filter = (struct sock_filter *)(uintptr_t)(inet ? with_inet : unix_only)};

    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : errno;
}

/* ---- both ---- */

bool confine_make(const struct confine_spec *spec, struct confine *ret, struct error *err)
{
    static bool told;
    AUTO_FREE char *program = NULL;
    int version = confine_landlock();

    *ret = (struct confine){
        .ruleset_fd = -1, .inet = spec->inet, .max_file_bytes = spec->max_file_bytes, .max_fds = spec->max_fds};
    if (!child_find_program(spec->program, &program, err))
        return false;
    if (version > 0)
        return make_ruleset(spec, program, version, &ret->ruleset_fd, err);
    if (!told)
        log_info(NULL, "this kernel has no Landlock: the VMM may open whatever its pod has");
    told = true;
    return true;
}

void confine_done(struct confine *c)
{
    fd_close(&c->ruleset_fd);
}

static int lower(int which, uint64_t to)
{
    struct rlimit now;

    if (getrlimit((__rlimit_resource_t)which, &now) != 0)
        return errno;
    if (now.rlim_max > to)
        now.rlim_max = to;
    if (now.rlim_cur > to)
        now.rlim_cur = to;
    return setrlimit((__rlimit_resource_t)which, &now) == 0 ? 0 : errno;
}

int confine_enter(void *data)
{
    const struct confine *c = data;
    int failed = lower(RLIMIT_CORE, 0);

    if (!failed && c->max_file_bytes)
        failed = lower(RLIMIT_FSIZE, c->max_file_bytes);
    if (!failed && c->max_fds)
        failed = lower(RLIMIT_NOFILE, c->max_fds);
    if (!failed && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        failed = errno;
    if (!failed && c->ruleset_fd >= 0 && syscall(NR_LANDLOCK_RESTRICT, c->ruleset_fd, 0) != 0)
        failed = errno;
    return failed ? failed : refuse_calls(c->inet);
}
