#include "vmm/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "vmm/probe_caps.h"
#include "vmm/errand.h"

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

const char *probe_kvm_fix(enum probe_verdict v)
{
    switch (v) {
    case PROBE_ABSENT:
        return "load kvm_intel or kvm_amd, turn virtualization on in the firmware, or, in a virtual machine, allow nested "
               "virtualization";
    case PROBE_DENIED:
        return "give this user access to it (group kvm)";
    case PROBE_BROKEN:
        return "use emulation (useEmulation: true), or a host with real virtualization";
    case PROBE_INCONCLUSIVE:
        return "it is tried again by itself; virtctl hypervisors --probe does it at once";
    case PROBE_WORKS:
        break;
    }
    return "";
}

const char *probe_mshv_fix(enum probe_verdict v)
{
    switch (v) {
    case PROBE_ABSENT:
        return "it is there in the root partition of Microsoft's hypervisor, with a kernel that has the mshv driver";
    case PROBE_DENIED:
        return "give this user access to it";
    case PROBE_BROKEN:
        return "use KVM or emulation";
    case PROBE_INCONCLUSIVE:
        return "it is tried again by itself; virtctl hypervisors --probe does it at once";
    case PROBE_WORKS:
        break;
    }
    return "";
}

bool probe_verdict_parse(struct str name, enum probe_verdict *ret)
{
    for (int v = PROBE_ABSENT; v <= PROBE_WORKS; v++)
        if (str_is(name, probe_verdict_name((enum probe_verdict)v))) {
            *ret = (enum probe_verdict)v;
            return true;
        }
    return false;
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
            "about 1): it is emulated, and a guest kernel would seem to hang",
            best);
    else if (failed)
        say(r, PROBE_BROKEN, "KVM opens, but a small 64-bit guest does not run: %s", why);
    else
        say(r, PROBE_INCONCLUSIVE, "the test guest made no progress that could be measured");
}

static bool open_device(const char *path, int *ret, struct probe_result *r)
{
    struct stat st;

    *ret = open(path, O_RDWR | O_CLOEXEC);
    if (*ret < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
        say(r, PROBE_ABSENT, "%s is not there", path);
    else if (*ret < 0)
        say(r, PROBE_DENIED, "%s: %s", path, strerror(errno));
    else if (fstat(*ret, &st) != 0 || !S_ISCHR(st.st_mode))
        say(r, PROBE_BROKEN, "%s is not a device", path);
    else
        return true;
    return false;
}

static void probe_child(const char *path, struct probe_result *r)
{
    struct sigaction on = {.sa_handler = ignore_signal};
    AUTO_CLOSE int kvm = -1;

    sigaction(SIGPROF, &on, NULL);
    if (!open_device(path, &kvm, r))
        return;
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
    probe_caps_read(kvm, r);
    try_guest(kvm, r);
}

/* Microsoft's hypervisor tells little before there is a partition: so one is made, and let go. linux/mshv.h is younger than the
 * headers of many build machines; these lines are its ABI (Linux 6.15). */
struct mshv_partition {
    uint64_t flags, isolation;
};
#define MSHV_CREATE_PARTITION_ _IOW(0xb8, 0x00, struct mshv_partition)
#define MSHV_LAPIC_X2APIC 3 /* bits 0 and 1 */

static void mshv_child(const char *path, struct probe_result *r)
{
    struct mshv_partition p = {.flags = MSHV_LAPIC_X2APIC};
    AUTO_CLOSE int mshv = -1, partition = -1;

    if (!open_device(path, &mshv, r))
        return;
    partition = ioctl(mshv, MSHV_CREATE_PARTITION_, &p);
    if (partition < 0)
        say(r, PROBE_BROKEN, "%s opens, but a partition cannot be made: %s", path, strerror(errno));
    else
        say(r, PROBE_WORKS, "a partition of Microsoft's hypervisor was made");
}

/* ---- in the parent ---- */

static const int64_t limit_ns = SECONDS(WALL_LIMIT_S);

static void kvm_errand(const void *arg, void *result)
{
    const char *const *path = arg;

    probe_child(*path, result);
}

static void mshv_errand(const void *arg, void *result)
{
    const char *const *path = arg;

    mshv_child(*path, result);
}

/* What a silent child used of the processor tells a hung vCPU from a machine without time. */
static void judge(enum errand_end end, const struct probe_result *from, int64_t cpu_ms, struct probe_result *r)
{
    memset(r, 0, sizeof *r);
    switch (end) {
    case ERRAND_DONE:
        *r = *from;
        return;
    case ERRAND_SILENT:
        if (cpu_ms >= ENOUGH_CPU_MS)
            say(r, PROBE_BROKEN, "KVM opens, but a small 64-bit guest hangs in it");
        else
            say(r, PROBE_INCONCLUSIVE,
                "the test guest got no processor time within %d s; the machine is too busy to tell", WALL_LIMIT_S);
        return;
    case ERRAND_DIED:
        say(r, PROBE_INCONCLUSIVE, "the test could not be carried out");
        return;
    }
}

void probe_kvm_now(const char *path, struct probe_result *ret)
{
    const char *device = path ? path : PROBE_KVM_DEVICE;
    const struct errand_spec s = {.run = kvm_errand, .arg = &device, .result_size = sizeof *ret, .limit_ns = limit_ns};
    struct probe_result r = {0};
    int64_t cpu_ms;
    enum errand_end end = errand_run(&s, &r, &cpu_ms);

    judge(end, &r, cpu_ms, ret);
}

void probe_mshv_now(const char *path, struct probe_result *ret)
{
    const char *device = path ? path : PROBE_MSHV_DEVICE;
    const struct errand_spec s = {.run = mshv_errand, .arg = &device, .result_size = sizeof *ret, .limit_ns = limit_ns};
    struct probe_result r = {0};

    judge(errand_run(&s, &r, NULL), &r, 0, ret);
}

struct probe {
    struct errand *errand;
    void (*done)(void *user, const struct probe_result *r);
    void *user;
};

static void on_done(void *user, enum errand_end end, const void *result, int64_t cpu_ms)
{
    struct probe *p = user;
    struct probe_result r;

    judge(end, result, cpu_ms, &r);
    p->done(p->user, &r);
    free(p);
}

static struct probe *start(struct loop *l, void (*run)(const void *, void *), const char *path,
                           void (*done)(void *user, const struct probe_result *r), void *user)
{
    struct probe *p = NEW(struct probe);

    p->done = done;
    p->user = user;
    p->errand = errand_start(
        l, &(struct errand_spec){.run = run, .arg = &path, .result_size = sizeof(struct probe_result), .limit_ns = limit_ns},
        on_done, p);
    return p;
}

struct probe *probe_kvm(struct loop *l, const char *path, void (*done)(void *user, const struct probe_result *r), void *user)
{
    return start(l, kvm_errand, path ? path : PROBE_KVM_DEVICE, done, user);
}

struct probe *probe_mshv(struct loop *l, const char *path, void (*done)(void *user, const struct probe_result *r), void *user)
{
    return start(l, mshv_errand, path ? path : PROBE_MSHV_DEVICE, done, user);
}

void probe_cancel(struct probe *p)
{
    if (!p)
        return;
    errand_cancel(p->errand);
    free(p);
}
