/* The test starts itself, confined; that child tries each thing and prints what came of it. */
#include "vmm/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base_test.h"
#include "base/file.h"

#define DISK_FD 9

/* ---- in the child: each gives 0 or errno ---- */

static int opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int result(long r)
{
    return r < 0 ? errno : 0;
}

static int reads_memory_of(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    return opens(path, O_RDONLY);
}

static int runs_program(void)
{
    execl("/bin/true", "true", NULL);
    return errno;
}

static int bind_tcp(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd < 0 ? errno : result(bind(fd, (const struct sockaddr *)&any, sizeof any));
}

static int bind_unix(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) < sizeof at.sun_path)
        memcpy(at.sun_path, path, strlen(path));
    return result(bind(fd, (const struct sockaddr *)&at, sizeof at));
}

static int connect_abstract(const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "%s", name);
    return result(connect(fd, (const struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))));
}

static int forks(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return result(pid);
}

static void *nothing(void *arg)
{
    return arg;
}

static int starts_thread(void)
{
    pthread_t t;
    int failed = pthread_create(&t, NULL, nothing, NULL);

    return failed ? failed : pthread_join(t, NULL);
}

static int limit_of(int which)
{
    struct rlimit r = {0};

    getrlimit((__rlimit_resource_t)which, &r);
    return (int)r.rlim_max;
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 3; fd < 200; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

extern char **environ;

/* argv: --confined, the secret's path, the private directory */
static int confined(char **argv)
{
    char path[256], disk[32];
    pid_t parent = getppid();
    char byte = 0;

    setvbuf(stdout, NULL, _IONBF, 0);
#define SHOW(name, value) printf("%s %d\n", name, value)
    SHOW("descriptors", open_descriptors());
    SHOW("environment", environ && environ[0] ? 1 : 0);
    SHOW("no-new-privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW("core", limit_of(RLIMIT_CORE));
    SHOW("nofile", limit_of(RLIMIT_NOFILE));
    snprintf(disk, sizeof disk, "/proc/self/fd/%d", DISK_FD);
    SHOW("disk-again", opens(disk, O_RDWR));
    SHOW("secret", opens(argv[2], O_RDONLY));
    SHOW("etc", opens("/etc/passwd", O_RDONLY));
    snprintf(path, sizeof path, "%s.new", argv[2]);
    SHOW("make-outside", opens(path, O_WRONLY | O_CREAT));
    SHOW("remove-outside", result(unlink(argv[2])));
    snprintf(path, sizeof path, "%s/made", argv[3]);
    SHOW("make-inside", opens(path, O_WRONLY | O_CREAT));
    snprintf(path, sizeof path, "%s/socket", argv[3]);
    SHOW("socket-inside", bind_unix(path));
    SHOW("fifo-inside", result(mknod(path, S_IFIFO | 0600, 0)));
    snprintf(path, sizeof path, "%s/link", argv[3]);
    SHOW("link-inside", result(symlink("/etc/passwd", path)));
    SHOW("kvm", opens("/dev/null", O_RDWR));
    SHOW("program", runs_program());
    SHOW("fork", forks());
    SHOW("vfork", result(syscall(SYS_vfork)));
    SHOW("thread", starts_thread());
    SHOW("tcp", bind_tcp());
    SHOW("netlink", result(socket(AF_NETLINK, SOCK_RAW, 0)));
    SHOW("packet", result(socket(AF_PACKET, SOCK_RAW, 0)));
    SHOW("abstract", connect_abstract("vireo-confine-test"));
    SHOW("signal-parent", result(kill(parent, 0)));
    SHOW("signal-self", result(kill(getpid(), 0)));
    SHOW("memory-of-parent", reads_memory_of(parent));
    SHOW("ptrace", result(ptrace(PTRACE_ATTACH, parent, NULL, NULL)));
    struct iovec iov = {&byte, 1};
    SHOW("process-vm", result(syscall(SYS_process_vm_readv, parent, &iov, 1, &iov, 1, 0)));
    SHOW("mount", result(mount("none", argv[3], "tmpfs", 0, NULL)));
    SHOW("unshare", result(unshare(CLONE_NEWUSER)));
    SHOW("chroot", result(chroot(argv[3])));
    SHOW("bpf", result(syscall(SYS_bpf, 0, NULL, 0)));
    SHOW("keyctl", result(syscall(SYS_keyctl, 0, 0, 0, 0, 0)));
    SHOW("userfaultfd", result(syscall(SYS_userfaultfd, 0)));
    SHOW("io-uring", result(syscall(SYS_io_uring_setup, 1, NULL)));
    SHOW("perf", result(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0)));
    SHOW("module", result(syscall(SYS_init_module, NULL, 0, "")));
    SHOW("setuid", result(setuid(getuid())));
    SHOW("shm", result(syscall(SYS_shmget, 0, 4096, 0600)));
    SHOW("x32", result(syscall(0x40000000 | SYS_getpid)));
    SHOW("memfd", result(memfd_create("ram", MFD_CLOEXEC)));
    fflush(stdout);
    _exit(0);
}

/* ---- outside ---- */

struct place { /* owned, removed with it */
    char dir[64], secret[96], private_dir[96], disk[96];
    int disk_fd, abstract_fd;
};

static void place_make(struct place *p)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    static const char name[] = "vireo-confine-test";

    snprintf(p->dir, sizeof p->dir, "/tmp/vireo-confine-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->secret, sizeof p->secret, "%s/secret", p->dir);
    snprintf(p->private_dir, sizeof p->private_dir, "%s/private", p->dir);
    snprintf(p->disk, sizeof p->disk, "%s/disk", p->dir);
    assert_int_equal(mkdir(p->private_dir, 0700), 0);
    close(open(p->secret, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    p->disk_fd = open(p->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(p->disk_fd >= 0);
    p->abstract_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(at.sun_path + 1, name, sizeof name - 1);
    assert_int_equal(bind(p->abstract_fd, (const struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof name)),
                     0);
    assert_int_equal(listen(p->abstract_fd, 1), 0);
}

static void place_done(struct place *p)
{
    AUTO(error_clear) struct error err = {0};

    fd_close(&p->disk_fd);
    fd_close(&p->abstract_fd);
    assert_true(file_remove_tree(AT_FDCWD, p->dir, &err));
}

static void run_confined(const struct place *p, bool inet, struct buf *out)
{
    const char *const argv[] = {"/proc/self/exe", "--confined", p->secret, p->private_dir, NULL};
    const char *const env[] = {NULL}, *const write[] = {p->private_dir, NULL};
    const struct child_fd fds[] = {{p->disk_fd, DISK_FD}};
    char self[256];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    AUTO(confine_done) struct confine c = {.ruleset_fd = -1};
    AUTO(error_clear) struct error err = {0};

    assert_true(n > 0);
    self[n] = '\0';
    assert_true(confine_make(&(struct confine_spec){.program = self, .write = write, .fds = fds, .n_fds = 1, .inet = inet,
                                                    .max_fds = 300},
                             &c, &err));
    buf_init(out, 65536);
    if (!child_run(&(struct child_spec){.argv = argv, .env = env, .fds = fds, .n_fds = 1, .cgroup_fd = -1,
                                        .enter = confine_enter, .enter_data = &c},
                   SECONDS(30), out, &err))
        fail_msg("%s: " STR_FMT, error_text(&err), STR_ARG(buf_str(out)));
}

static int shown(const struct buf *out, const char *name)
{
    struct str rest = buf_str(out), line, key, value;
    uint64_t n;
    AUTO(error_clear) struct error err = {0};

    while (str_next(&rest, '\n', &line))
        if (str_cut(line, ' ', &key, &value) && str_is(key, name) && parse_u64(value, 1u << 30, &n, &err))
            return (int)n;
    fail_msg("the child said nothing about %s", name);
    return -1;
}

static void a_confined_process_can_do_its_work_and_nothing_else(void **state)
{
    static const struct {
        const char *name;
        int wanted;
        int landlock; /* only where the kernel has this version of it */
    } cases[] = {
        {"descriptors", 1, 0},
        {"environment", 0, 0},
        {"no-new-privs", 1, 0},
        {"core", 0, 0},
        {"nofile", 300, 0},
        {"disk-again", 0, 0},
        {"secret", EACCES, 1},
        {"etc", EACCES, 1},
        {"make-outside", EACCES, 1},
        {"remove-outside", EACCES, 1},
        {"make-inside", 0, 0},
        {"socket-inside", 0, 0},
        {"fifo-inside", EPERM, 0},
        {"link-inside", EACCES, 1},
        {"kvm", 0, 0},
        {"program", EACCES, 1},
        {"fork", EPERM, 0},
        {"vfork", EPERM, 0},
        {"thread", 0, 0},
        {"tcp", EAFNOSUPPORT, 0},
        {"netlink", EAFNOSUPPORT, 0},
        {"packet", EAFNOSUPPORT, 0},
        {"abstract", EPERM, 6},
        {"signal-parent", EPERM, 6},
        {"signal-self", 0, 0},
        {"memory-of-parent", EACCES, 1},
        {"ptrace", EPERM, 0},
        {"process-vm", EPERM, 0},
        {"mount", EPERM, 0},
        {"unshare", EPERM, 0},
        {"chroot", EPERM, 0},
        {"bpf", EPERM, 0},
        {"keyctl", EPERM, 0},
        {"userfaultfd", EPERM, 0},
        {"io-uring", EPERM, 0},
        {"perf", EPERM, 0},
        {"module", EPERM, 0},
        {"setuid", EPERM, 0},
        {"shm", EPERM, 0},
        {"x32", ENOSYS, 0},
        {"memfd", 0, 0},
    };
    AUTO(place_done) struct place p = {0};
    AUTO(buf_done) struct buf out = {0};

    (void)state;
    place_make(&p);
    run_confined(&p, false, &out);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int got = shown(&out, cases[i].name);

        if (cases[i].landlock <= confine_landlock() && got != cases[i].wanted)
            fail_msg("%s: %d (%s), not %d", cases[i].name, got, strerror(got), cases[i].wanted);
    }
}

/* cloud-hypervisor sets its links up with such sockets; a port it may not open all the same. */
static void with_inet_there_are_sockets_but_no_ports(void **state)
{
    AUTO(place_done) struct place p = {0};
    AUTO(buf_done) struct buf out = {0};

    (void)state;
    place_make(&p);
    run_confined(&p, true, &out);
    assert_int_equal(shown(&out, "tcp"), confine_landlock() >= 4 ? EACCES : 0);
    assert_int_equal(shown(&out, "netlink"), EAFNOSUPPORT);
}

/* The launcher's own rights stay: all of it happens in the child. */
static void the_parent_keeps_its_rights(void **state)
{
    AUTO(place_done) struct place p = {0};
    AUTO(buf_done) struct buf out = {0};

    (void)state;
    place_make(&p);
    run_confined(&p, false, &out);
    assert_int_equal(opens(p.secret, O_RDONLY), 0);
    assert_int_equal(forks(), 0);
}

static void a_missing_program_is_said(void **state)
{
    AUTO(confine_done) struct confine c = {.ruleset_fd = -1};
    AUTO(error_clear) struct error err = {0};

    (void)state;
    assert_false(confine_make(&(struct confine_spec){.program = "no-such-vmm"}, &c, &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

/* A start must not get slower by it: some hundred microseconds at most, sanitizers and a busy machine included. */
static void it_takes_no_time_worth_speaking_of(void **state)
{
    struct timespec a, b;
    double best = 1e9;

    (void)state;
    for (int i = 0; i < 10; i++) {
        AUTO(confine_done) struct confine c = {.ruleset_fd = -1};
        AUTO(error_clear) struct error err = {0};
        int status;
        pid_t pid;

        clock_gettime(CLOCK_MONOTONIC, &a);
        assert_true(confine_make(&(struct confine_spec){.program = "sh"}, &c, &err));
        pid = fork();
        if (pid == 0)
            _exit(confine_enter(&c) != 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        clock_gettime(CLOCK_MONOTONIC, &b);
        assert_int_equal(status, 0);
        double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
        best = ms < best ? ms : best;
    }
    print_message("confined in %.3f ms, a fork included\n", best);
    assert_true(best < 50);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_confined_process_can_do_its_work_and_nothing_else),
        cmocka_unit_test(with_inet_there_are_sockets_but_no_ports),
        cmocka_unit_test(the_parent_keeps_its_rights),
        cmocka_unit_test(a_missing_program_is_said),
        cmocka_unit_test(it_takes_no_time_worth_speaking_of),
    };

    if (argc == 4 && strcmp(argv[1], "--confined") == 0)
        return confined(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
