/* container-disk: runs in a container of a disk's image, beside the machine's launcher, and hands the launcher that image.
 *
 * What it hands over is the root of its container, as a descriptor without any access of its own (O_PATH); the launcher finds,
 * checks and opens the disk beneath it (storage/disks.c), as it does where images are volumes. So this program reads nothing of the
 * image, and nothing that is in the image leads it anywhere.
 *
 *   container-disk serve NAME SOCKET [ROOT]   connects to the launcher's socket, says NAME, passes ROOT (/), and stays until
 *                                             the launcher has ended, however it ended: the pod is over when all of it is
 *   container-disk install FILE               copies itself: a pod's first container lays it where the others find it
 *
 * The image that it runs in may be empty, and there is one such process for each image of each machine. Therefore there is no C
 * library in it: system calls, and some pages of memory. It stays because a container that has ended makes its pod unready.
 *
 * It is the first process of its container, where signals that nobody handles do nothing. Before the launcher is there SIGTERM ends it
 * (the pod goes, and there was no machine), afterwards it does not: the guest is still shutting down. */
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define FIRST_WAIT_NS 10000000L /* doubled until it is */
#define LAST_WAIT_NS 1000000000L
#define PATIENCE_S 900 /* the launcher's own image may have to be fetched first */
#define MAX_NAME 253

typedef unsigned long kernel_mask; /* 64 signals; the C library's type is longer */

#if defined __x86_64__
__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall "
        "start\n\thlt\n");

static long call(long n, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined __aarch64__
__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x0,sp\n\tbl start\n\tbrk #0\n");

static long call(long n, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;

    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#else
#error "container-disk: no system calls are known for this architecture"
#endif

#define PTR(p) ((long)(p))

/* The compiler makes calls of these by itself. */
void *memset(void *p, int c, size_t n)
{
    volatile char *to = p;

    while (n--)
        *to++ = (char)c;
    return p;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    volatile char *t = to;
    const char *f = from;

    while (n--)
        *t++ = *f++;
    return to;
}

static size_t length(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

static bool is(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void say(const char *text)
{
    call(__NR_write, 2, PTR(text), (long)length(text), 0, 0);
}

static _Noreturn void end(int status)
{
    for (;;)
        call(__NR_exit_group, status, 0, 0, 0, 0);
}

/* What could not be done, and errno: the pod's status shows it. */
static _Noreturn void fail(const char *what, long error)
{
    char digits[24];
    size_t at = sizeof digits;

    say("container-disk: ");
    say(what);
    if (error) {
        digits[--at] = '\0';
        for (error = error < 0 ? -error : error; error > 0 && at > 0; error /= 10)
            digits[--at] = (char)('0' + error % 10);
        say(": error ");
        say(&digits[at]);
    }
    say("\n");
    end(1);
}

/* Sleeps; ends when the pod does. */
static void wait_or_end(long ns)
{
    const kernel_mask ends = 1UL << (SIGTERM - 1) | 1UL << (SIGINT - 1);
    const struct timespec time = {ns / LAST_WAIT_NS, ns % LAST_WAIT_NS};

    if (call(__NR_rt_sigtimedwait, PTR(&ends), 0, PTR(&time), sizeof ends, 0) > 0)
        end(0);
}

/* The launcher's socket has its name once somebody listens on it. */
static int reach(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = length(path);
    long waited = 0, wait = FIRST_WAIT_NS;

    if (n >= sizeof to.sun_path)
        fail("the socket's path is too long", 0);
    memcpy(to.sun_path, path, n);
    for (;;) {
        long fd = call(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0, 0), e;

        if (fd < 0)
            fail("socket", fd);
        e = call(__NR_connect, fd, PTR(&to), sizeof to, 0, 0);
        if (e == 0)
            return (int)fd;
        call(__NR_close, fd, 0, 0, 0, 0);
        if (e == -ECONNREFUSED)
            end(0); /* it was there and has ended */
        if (e != -ENOENT && e != -EAGAIN && e != -EINTR)
            fail("connect to the launcher", e);
        if (waited / LAST_WAIT_NS >= PATIENCE_S)
            fail("the machine's launcher did not come within 15 minutes", 0);
        wait_or_end(wait);
        waited += wait;
        wait = wait * 2 < LAST_WAIT_NS ? wait * 2 : LAST_WAIT_NS;
    }
}

static void pass(int to, const char *name, int fd)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec text = {(char *)name, length(name)};
    struct msghdr message = {.msg_iov = &text,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    long e;

    control.head = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    do
        e = call(__NR_sendmsg, to, PTR(&message), MSG_NOSIGNAL, 0, 0);
    while (e == -EINTR);
    if (e < 0)
        fail("send to the launcher", e);
}

static _Noreturn void serve(const char *name, const char *path, const char *root)
{
    const kernel_mask all = ~0UL;
    bool taken = false;
    int socket;
    char byte;
    long fd, n;

    if (length(name) == 0 || length(name) > MAX_NAME)
        fail("the name is empty or too long", 0);
    call(__NR_rt_sigprocmask, SIG_SETMASK, PTR(&all), 0, sizeof all, 0);
    fd = call(__NR_openat, AT_FDCWD, PTR(root), O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
    if (fd < 0)
        fail("open the image", fd);
    socket = reach(path);
    pass(socket, name, (int)fd);
    call(__NR_close, fd, 0, 0, 0, 0);
    /* One byte says that it was taken; the end of the file, that the launcher has ended. */
    while ((n = call(__NR_read, socket, PTR(&byte), 1, 0, 0)) > 0 || n == -EINTR)
        taken |= n > 0;
    if (!taken)
        fail("the launcher did not take the image", 0);
    end(0);
}

static _Noreturn void install(const char *path)
{
    static char block[16384];
    long from = call(__NR_openat, AT_FDCWD, PTR("/proc/self/exe"), O_RDONLY | O_CLOEXEC, 0, 0), to,
         n, m;

    if (from < 0)
        fail("open /proc/self/exe", from);
    call(__NR_unlinkat, AT_FDCWD, PTR(path), 0, 0, 0);
    to = call(__NR_openat, AT_FDCWD, PTR(path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0555, 0);
    if (to < 0)
        fail("make the program's copy", to);
    while ((n = call(__NR_read, from, PTR(block), sizeof block, 0, 0)) > 0)
        for (long at = 0; at < n; at += m)
            if ((m = call(__NR_write, to, PTR(block + at), n - at, 0, 0)) <= 0)
                fail("write the program's copy", m);
    if (n < 0)
        fail("read the program", n);
    n = call(__NR_fchmod, to, 0555, 0, 0, 0); /* whatever the umask was */
    if (n < 0)
        fail("make the program's copy executable", n);
    end(0);
}

/* argc and argv as the kernel lays them at the top of the stack. */
_Noreturn void start(const long *stack);
_Noreturn __attribute__((used)) void start(const long *stack)
{
    long argc = stack[0];
    const char *const *argv = (const char *const *)&stack[1];

    if (argc == 3 && is(argv[1], "install"))
        install(argv[2]);
    if ((argc == 4 || argc == 5) && is(argv[1], "serve"))
        serve(argv[2], argv[3], argc == 5 ? argv[4] : "/");
    say("usage: container-disk serve NAME SOCKET [ROOT] | install FILE\n");
    end(2);
}
