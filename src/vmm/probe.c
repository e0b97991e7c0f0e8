#include "vmm/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"

/* The guest: 64-bit code at 0x1000, three page tables that map the first 2 MiB onto themselves.
 *
 *     mov ecx, LOOPS ; 1: dec rcx ; jnz 1b ; out 0x80, al ; hlt
 *
 * A processor does a turn in about a nanosecond; a kernel that has to emulate long mode needs a thousand. Only the vCPU
 * thread's own CPU time counts, so a machine that has no time for us does not look slow: it looks like nothing yet. */
#define LOOPS 5000000u
#define GOOD_NS                                                                                    \
    50.0 /* of CPU time for a turn of the loop; real hardware is far below, emulation far above */
#define TRY_CPU_US 300000
#define TRIES 3
#define WALL_LIMIT_S 20
#define ENOUGH_CPU_MS 200 /* a child that was killed with less had no chance to show anything */
#define GUEST_BYTES 0x10000
#define CODE_AT 0x1000
#define TABLES_AT 0x2000
#define PORT 0x80

static const unsigned char guest_code[] = {
    0xb9,
    LOOPS & 0xff,
    LOOPS >> 8 & 0xff,
    LOOPS >> 16 & 0xff,
    LOOPS >> 24, /* mov ecx, LOOPS */
    0x48,
    0xff,
    0xc9, /* dec rcx */
    0x75,
    0xfb, /* jnz -5 */
    0xe6,
    PORT, /* out PORT, al */
    0xf4, /* hlt */
};

const char *probe_verdict_name(enum probe_verdict v)
{
    switch (v) {
    case PROBE_ABSENT:
        return "absent";
    case PROBE_DENIED:
        return "denied";
    case PROBE_BROKEN:
        return "broken";
    case PROBE_INCONCLUSIVE:
        return "inconclusive";
    case PROBE_WORKS:
        return "works";
    }
    return "inconclusive";
}

static void say(struct probe_result *r, enum probe_verdict v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct probe_result *r, enum probe_verdict v, const char *fmt, ...)
{
    va_list ap;

    r->verdict = v;
    va_start(ap, fmt);
    vsnprintf(r->reason, sizeof r->reason, fmt, ap);
    va_end(ap);
}

/* ---- in the child ---- */

struct guest {
    int vm, vcpu;
    struct kvm_run *run;
    size_t run_bytes;
    unsigned char *memory;
};

static void guest_done(struct guest *g)
{
    if (g->run)
        munmap(g->run, g->run_bytes);
    if (g->memory)
        munmap(g->memory, GUEST_BYTES);
    fd_close(&g->vcpu);
    fd_close(&g->vm);
}

static void set_entry(unsigned char *table, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        table[i] = (unsigned char)(value >> (8 * i));
}

static bool long_mode(struct guest *g)
{
    struct kvm_sregs s;
    struct kvm_regs regs = {.rip = CODE_AT, .rflags = 2, .rsp = GUEST_BYTES};
    const struct kvm_segment data = {.base = 0,
                                     .limit = 0xffffffff,
                                     .selector = 0x10,
                                     .type = 3,
                                     .present = 1,
                                     .db = 1,
                                     .s = 1,
                                     .g = 1};

    if (ioctl(g->vcpu, KVM_GET_SREGS, &s) != 0)
        return false;
    s.cs = (struct kvm_segment){
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr3 = TABLES_AT;
    s.cr4 = 1u << 5;                                     /* PAE */
    s.cr0 = 1u | 1u << 1 | 1u << 4 | 1u << 5 | 1u << 31; /* PE MP ET NE PG */
    s.efer = 1u << 8 | 1u << 10;                         /* LME LMA */
    return ioctl(g->vcpu, KVM_SET_SREGS, &s) == 0 && ioctl(g->vcpu, KVM_SET_REGS, &regs) == 0;
}

static bool guest_make(int kvm, struct guest *g)
{
    struct kvm_userspace_memory_region region = {.memory_size = GUEST_BYTES};
    int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *p;

    g->vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (g->vm < 0 || bytes < (int)sizeof *g->run)
        return false;
    p = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    g->memory = p;
    memcpy(g->memory + CODE_AT, guest_code, sizeof guest_code);
    set_entry(g->memory + TABLES_AT, (TABLES_AT + 0x1000) | 3);
    set_entry(g->memory + TABLES_AT + 0x1000, (TABLES_AT + 0x2000) | 3);
    set_entry(g->memory + TABLES_AT + 0x2000, 0x83); /* 2 MiB, present, writable */
    region.userspace_addr = (uint64_t)(uintptr_t)g->memory;
    if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region) != 0)
        return false;
    g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
    if (g->vcpu < 0)
        return false;
    p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
    if (p == MAP_FAILED)
        return false;
    g->run = p;
    g->run_bytes = (size_t)bytes;
    return long_mode(g);
}

static int64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void ignore_signal(int signo)
{
    (void)signo;
} /* its coming ends KVM_RUN */

static void arm(long us)
{
    const struct itimerval t = {.it_value = {us / 1000000, us % 1000000},
                                .it_interval = {0, us ? 50000 : 0}};

    setitimer(ITIMER_PROF, &t, NULL);
}

/* One run. False with *why when the guest did something other than count. */
static bool run_once(struct guest *g, double *ret_ns, bool *ret_finished, const char **why)
{
    struct kvm_regs regs;
    int64_t before = cpu_ns(), used;
    bool wrote = false;

    *ret_finished = false;
    arm(TRY_CPU_US);
    for (;;) {
        int rc = ioctl(g->vcpu, KVM_RUN, 0);

        if (rc != 0 && errno == EINTR && cpu_ns() - before < (int64_t)TRY_CPU_US * 900)
            continue;
        if (rc == 0 && g->run->exit_reason == KVM_EXIT_IO && g->run->io.port == PORT) {
            wrote = true;
            continue;
        }
        *ret_finished = rc == 0 && g->run->exit_reason == KVM_EXIT_HLT && wrote;
        if (!*ret_finished && !(rc != 0 && errno == EINTR)) {
            arm(0);
            *why = rc != 0 ? strerror(errno) : "the guest left its program";
            return false;
        }
        break;
    }
    arm(0);
    used = cpu_ns() - before;
    if (ioctl(g->vcpu, KVM_GET_REGS, &regs) != 0) {
        *why = strerror(errno);
        return false;
    }
    uint64_t turns = *ret_finished                             ? LOOPS
                     : regs.rcx <= LOOPS && regs.rip > CODE_AT ? LOOPS - regs.rcx
                                                               : 0;
    *ret_ns = (double)used / (turns ? (double)turns : 1.0);
    return true;
}

static void try_guest(int kvm, struct probe_result *r)
{
    const char *why = "";
    bool failed = false;
    double best = 0;

    for (int i = 0; i < TRIES; i++) {
        AUTO(guest_done) struct guest g = {.vm = -1, .vcpu = -1};
        double ns;
        bool finished;

        if (!guest_make(kvm, &g)) {
            failed = true;
            why = strerror(errno);
            continue;
        }
        if (!run_once(&g, &ns, &finished, &why)) {
            failed = true;
            continue;
        }
        if (best == 0 || ns < best)
            best = ns;
        if (finished && ns <= GOOD_NS) {
            r->ns_per_iteration = ns;
            say(r, PROBE_WORKS, "a 64-bit guest ran at %.1f ns for a turn of a counting loop", ns);
            return;
        }
    }
    r->ns_per_iteration = best;
    if (best > 0)
        say(r, PROBE_BROKEN,
            "KVM opens, but 64-bit guest code runs at %.0f ns for a turn of a loop (hardware: "
            "about 1): it is emulated, and a guest"
            " kernel would seem to hang; use emulation (useEmulation: true), or a host with real "
            "virtualization",
            best);
    else if (failed)
        say(r, PROBE_BROKEN,
            "KVM opens, but a small 64-bit guest does not run: %s; use emulation (useEmulation: "
            "true)",
            why);
    else
        say(r, PROBE_INCONCLUSIVE, "the test guest made no progress that could be measured");
}

static void probe_child(const char *path, struct probe_result *r)
{
    struct sigaction on = {.sa_handler = ignore_signal};
    AUTO_CLOSE int kvm = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;

    sigaction(SIGPROF, &on, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (kvm < 0) {
        if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
            say(r, PROBE_ABSENT,
                "%s is not there: load kvm_intel or kvm_amd, turn virtualization on in the "
                "firmware, or, in a virtual"
                " machine, allow nested virtualization",
                path);
        else
            say(r, PROBE_DENIED, "%s: %s: give this user access to it (group kvm)", path,
                strerror(errno));
        return;
    }
    if (fstat(kvm, &st) != 0 || !S_ISCHR(st.st_mode)) {
        say(r, PROBE_BROKEN, "%s is not a device", path);
        return;
    }
    r->api_version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    if (r->api_version != KVM_API_VERSION) {
        say(r, PROBE_BROKEN, "%s speaks version %d of KVM's interface, not %d", path,
            r->api_version, KVM_API_VERSION);
        return;
    }
    int n = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    r->max_vcpus = n > 0 ? (unsigned)n : 0;
    n = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
    r->recommended_vcpus = n > 0 ? (unsigned)n : 0;
    try_guest(kvm, r);
}

/* ---- in the parent ---- */

static pid_t start_child(const char *path, int *ret_pipe)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        struct probe_result r = {.verdict = PROBE_INCONCLUSIVE};

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        probe_child(path ? path : "/dev/kvm", &r);
        if (write(ends[1], &r, sizeof r) != (ssize_t)sizeof r)
            _exit(1);
        _exit(0);
    }
    close(ends[1]);
    if (pid < 0)
        close(ends[0]);
    else
        *ret_pipe = ends[0];
    return pid;
}

/* A child that did not answer: what it used of the processor tells a hung vCPU from a machine without time. */
static void judge_silence(pid_t pid, struct probe_result *r)
{
    char path[64], text[512];
    unsigned long long user = 0, system = 0;
    AUTO_CLOSE int fd = -1;
    const char *after;
    ssize_t n;

    memset(r, 0, sizeof *r);
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    text[n > 0 ? n : 0] = '\0';
    after = strrchr(text, ')');
    if (after)
        sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system);
    if ((user + system) * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK) >= ENOUGH_CPU_MS)
        say(r, PROBE_BROKEN,
            "KVM opens, but a small 64-bit guest hangs in it; use emulation (useEmulation: true)");
    else
        say(r, PROBE_INCONCLUSIVE,
            "the test guest got no processor time within %d s; the machine is too busy to tell",
            WALL_LIMIT_S);
}

static void judge_death(struct probe_result *r)
{
    memset(r, 0, sizeof *r);
    say(r, PROBE_INCONCLUSIVE, "the test of KVM could not be carried out");
}

void probe_kvm_now(const char *path, struct probe_result *ret)
{
    int fd = -1;
    pid_t pid = start_child(path, &fd);
    struct pollfd p = {.fd = fd, .events = POLLIN};

    judge_death(ret);
    if (pid < 0)
        return;
    if (poll(&p, 1, WALL_LIMIT_S * 1000) <= 0) {
        judge_silence(pid, ret);
    } else {
        struct probe_result r;

        if (read(fd, &r, sizeof r) == (ssize_t)sizeof r)
            *ret = r;
    }
    close(fd);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

struct probe {
    struct loop_io pipe_io, exit_io;
    struct loop_timer timer;
    struct loop_defer gone;
    int pipe_fd, pidfd;
    pid_t pid;
    void (*done)(void *user, const struct probe_result *r);
    void *user;
};

static void probe_gone(struct loop_defer *d)
{
    struct probe *p = container_of(d, struct probe, gone);

    fd_close(&p->pipe_fd);
    fd_close(&p->pidfd);
    free(p);
}

static void probe_exited(struct loop_io *io, uint32_t events)
{
    struct probe *p = container_of(io, struct probe, exit_io);

    (void)events;
    waitpid(p->pid, NULL, WNOHANG);
    loop_defer(io->loop, &p->gone, probe_gone);
    loop_io_stop(io);
}

/* The verdict is given; the child is killed and waited for. */
static void finish(struct probe *p, const struct probe_result *r)
{
    struct loop *l = p->pipe_io.loop;

    loop_io_stop(&p->pipe_io);
    loop_timer_stop(&p->timer);
    kill(p->pid, SIGKILL);
    loop_io_start(l, &p->exit_io, p->pidfd, EPOLLIN, probe_exited);
    p->done(p->user, r);
}

static void probe_answered(struct loop_io *io, uint32_t events)
{
    struct probe *p = container_of(io, struct probe, pipe_io);
    struct probe_result r, dead;

    (void)events;
    judge_death(&dead);
    finish(p, read(p->pipe_fd, &r, sizeof r) == (ssize_t)sizeof r ? &r : &dead);
}

static void probe_timeout(struct loop_timer *t)
{
    struct probe *p = container_of(t, struct probe, timer);
    struct probe_result r;

    judge_silence(p->pid, &r);
    finish(p, &r);
}

void probe_kvm(struct loop *l, const char *path,
               void (*done)(void *user, const struct probe_result *r), void *user)
{
    struct probe *p = NEW(struct probe);

    p->done = done;
    p->user = user;
    p->pipe_fd = p->pidfd = -1;
    p->pid = start_child(path, &p->pipe_fd);
    if (p->pid > 0)
        p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    if (p->pidfd < 0) {
        struct probe_result r;

        judge_death(&r);
        if (p->pid > 0) {
            kill(p->pid, SIGKILL);
            waitpid(p->pid, NULL, 0);
        }
        done(user, &r);
        loop_defer(l, &p->gone, probe_gone);
        return;
    }
    loop_io_start(l, &p->pipe_io, p->pipe_fd, EPOLLIN, probe_answered);
    loop_timer_start(l, &p->timer, SECONDS(WALL_LIMIT_S), probe_timeout);
}
