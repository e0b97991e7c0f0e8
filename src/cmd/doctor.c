/* vireo doctor: what stands in the way on this machine, before it disappoints. One line per check; a fix behind each finding. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cmd/instance.h"
#include "http/server.h"
#include "loop/child.h"
#include "network/network.h"
#include "vmm/host.h"

struct report {
    unsigned fatal, warnings;
};

enum verdict { OK, WARN, FAIL, NONE }; /* NONE: it is not there, and need not be */
#define NOBODY 65534

static void say(struct report *r, enum verdict v, const char *what, const char *fmt, ...) PRINTF_LIKE(4, 5);
static void say(struct report *r, enum verdict v, const char *what, const char *fmt, ...)
{
    static const char *const marks[] = {"ok  ", "WARN", "FAIL", "-   "};
    va_list ap;

    printf("%s  %-16s ", marks[v], what);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    r->fatal += v == FAIL;
    r->warnings += v == WARN;
}

/* Debian's names: what `make deps` installs. */
static const struct {
    const char *program, *package, *why;
} tools[] = {
    {"qemu-system-x86_64", "qemu-system-x86", "no virtual machine can start"},
    {"crun", "crun", "no sandbox can start"},
    {"nft", "nftables", "no network can be made"},
};

static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    struct str rest = str_of(path && *path ? path : "/usr/sbin:/usr/bin:/sbin:/bin"), dir;

    while (str_next(&rest, ':', &dir)) {
        AUTO(buf_done) struct buf full = {0};

        buf_addf(&full, STR_FMT "/%s", STR_ARG(dir), program);
        if (access(full.p, X_OK) == 0)
            return true;
    }
    return false;
}

static void check_tools(struct report *r)
{
    for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
        if (in_path(tools[i].program))
            say(r, OK, tools[i].program, "found");
        else
            say(r, FAIL, tools[i].program, "not found, so %s: apt-get install %s", tools[i].why, tools[i].package);
    }
}

static void say_device(struct report *r, const char *name, const struct probe_result *p, const char *fix, bool optional)
{
    bool fine = p->verdict == PROBE_WORKS;

    say(r, fine ? OK : optional && p->verdict == PROBE_ABSENT ? NONE : WARN, name, "%s%s%s", p->reason, fine ? "" : "; ", fix);
}

/* What can run virtual machines here, as the node agent will find it. The program of a VMM that is missing is no fault, unless none
 * is left. */
static void check_hypervisors(struct report *r)
{
    struct loop *l = loop_new(NULL);
    struct host *h = host_new(l, &(struct host_options){.uid = NOBODY, .dirfd = -1}, NULL, NULL, NULL);
    char tcg[256];
    bool any = false, emulates;

    host_wait(h);
    emulates = host_tcg(h, tcg, sizeof tcg) == PROBE_WORKS;
    say_device(r, "KVM", &h->kvm.r, probe_kvm_fix(h->kvm.r.verdict), false);
    if (h->kvm.r.verdict != PROBE_WORKS && emulates)
        say(r, NONE, "", "unless told otherwise, vireo serve emulates here");
    say_device(r, "MSHV", &h->mshv.r, probe_mshv_fix(h->mshv.r.verdict), true);
    say(r, emulates ? OK : NONE, "TCG", "%s", tcg);
    for (size_t i = 0; i < h->n_vmms; i++) {
        const struct host_vmm *v = &h->vmms[i];
        struct host_verdict j;

        host_judge(h, v, STR_NONE, &j);
        if (j.state == HOST_USABLE)
            say(r, OK, v->driver->name, "%s, with%s%s%s", v->version.text, j.kvm ? " KVM" : "", j.mshv ? " MSHV" : "", j.tcg ? " TCG" : "");
        else
            say(r, j.state == HOST_ABSENT || j.state == HOST_UNACCELERATED ? NONE : WARN, v->driver->name, "%s", j.reason);
        any |= j.state == HOST_USABLE;
    }
    if (!any)
        say(r, FAIL, "hypervisors", "none can be used, so no virtual machine can start: apt-get install qemu-system-x86");
    host_free(h);
    loop_free(l);
}

static void check_disk(struct report *r, const struct instance_options *o)
{
    struct statvfs fs;
    AUTO(buf_done) struct buf dir = {0};

    /* The directory may not exist yet: its nearest existing parent counts. */
    buf_adds(&dir, o->dir);
    while (statvfs(dir.p, &fs) < 0 && dir.n > 1) {
        while (dir.n > 1 && dir.p[dir.n - 1] != '/')
            dir.p[--dir.n] = 0;
        if (dir.n > 1)
            dir.p[--dir.n] = 0;
    }
    uint64_t free_mib = (uint64_t)fs.f_bavail * fs.f_frsize >> 20;
    if (free_mib < 512)
        say(r, FAIL, "disk", "%llu MiB free at %s: make room, or choose another --data-dir", (unsigned long long)free_mib, dir.p);
    else if (free_mib < 4096)
        say(r, WARN, "disk", "only %llu MiB free at %s for images and disks", (unsigned long long)free_mib, dir.p);
    else
        say(r, OK, "disk", "%llu GiB free at %s", (unsigned long long)free_mib >> 10, dir.p);
}

static void check_memory(struct report *r)
{
    struct sysinfo info;

    if (sysinfo(&info) < 0)
        return;
    uint64_t mib = (uint64_t)info.totalram * info.mem_unit >> 20;
    say(r, mib < 1024 ? WARN : OK, "memory", "%llu MiB in all", (unsigned long long)mib);
}

static void check_port(struct report *r, const struct instance_options *o)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;

    if (http_listen_tcp(o->listen, &fd, &err))
        say(r, OK, "port", "%s is free", o->listen);
    else
        say(r, WARN, "port", "%s (if that is not vireo itself, choose another with --listen)", error_text(&err));
}

static void check_kernel(struct report *r)
{
    struct utsname u;
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};

    if (uname(&u) == 0)
        say(r, strcmp(u.machine, "x86_64") == 0 ? OK : FAIL, "kernel", "%s %s%s", u.release, u.machine,
            strcmp(u.machine, "x86_64") == 0 ? "" : ": only x86_64 is built and tested");
    say(r, access("/dev/net/tun", R_OK | W_OK) == 0 ? OK : FAIL, "tun", "%s",
        access("/dev/net/tun", R_OK | W_OK) == 0 ? "/dev/net/tun" : "/dev/net/tun cannot be opened: modprobe tun");
    if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
        say(r, OK, "cgroups", "version 2");
    else if (access("/sys/fs/cgroup/unified", F_OK) == 0)
        say(r, WARN, "cgroups", "hybrid: works (limits are set in version 1); systemd.unified_cgroup_hierarchy=1 makes it version 2");
    else
        say(r, WARN, "cgroups", "version 1: works; systemd.unified_cgroup_hierarchy=1 makes it version 2");
    if (file_read(AT_FDCWD, "/proc/sys/user/max_user_namespaces", &text, &err) && str_is(str_trim(buf_str(&text)), "0"))
        say(r, FAIL, "userns", "user namespaces are off: sysctl user.max_user_namespaces=15000");
}

static void on_network(void *user, bool fatal, const char *text)
{
    say(user, fatal ? FAIL : WARN, "network", "%s", text);
}

int doctor_main(int argc, char **argv)
{
    AUTO(instance_options_done) struct instance_options o = {0};
    AUTO(error_clear) struct error err = {0};
    struct report r = {0};
    char name[9];

    if (!instance_parse_flags(argc, argv, &o, NULL, &err)) {
        fprintf(stderr, "vireo doctor: %s\n", error_text(&err));
        return 2;
    }
    if (geteuid() != 0)
        say(&r, FAIL, "root", "vireo serve must start as root: sudo vireo doctor");
    else
        say(&r, OK, "root", "yes");
    check_kernel(&r);
    check_memory(&r);
    check_disk(&r, &o);
    check_tools(&r);
    check_hypervisors(&r);
    check_port(&r, &o);
    instance_name_of(o.dir, name);
    network_doctor(&(struct network_config){.instance = name, .pod_cidr = o.pod_cidr, .cni_bin_dir = o.cni_dir, .dirfd = -1},
                   on_network, &r);
    if (r.fatal)
        printf("\n%u thing%s must be mended before `vireo serve` can run VMs\n", r.fatal, r.fatal == 1 ? "" : "s");
    else
        printf("\nready for `vireo serve`%s\n", r.warnings ? " (with the limits named above)" : "");
    return r.fatal ? 1 : 0;
}
