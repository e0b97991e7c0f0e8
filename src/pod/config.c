/* What crun is told. The sandbox: a read-only root of empty directories, /usr of the host, an /etc of its own, memory for what
 * is written, the pod's volumes, and nothing else; a user namespace in which two ids exist, no capability, and a list of
 * system calls that are refused. The list denies instead of allowing: the VMMs bring allow-lists of their own, and what runs
 * beside them (passt, swtpm, virtiofsd) changes with the host's packages. It takes away what only helps an attacker. */
#include "pod/internal.h"

#include <inttypes.h>
#include <sys/utsname.h>

#include "api/kv.h"
#include "api/quantity.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#define CLONE_NEWUSER_FLAG 0x10000000

static const char *const refused_calls[] = {
    /* other processes */
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
    /* the kernel itself */
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "bpf", "perf_event_open", "userfaultfd",
    "syslog", "lookup_dcookie", "iopl", "ioperm", "io_uring_setup", "io_uring_enter", "io_uring_register",
    /* mounts and namespaces */
    "mount", "umount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "mount_setattr", "fsopen", "fsconfig",
    "fsmount", "fspick", "unshare", "setns", "open_by_handle_at", "name_to_handle_at",
    /* keys, time, the machine */
    "keyctl", "add_key", "request_key", "settimeofday", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64",
    "adjtimex", "stime", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "sethostname", "setdomainname",
    "vhangup", "uselib", "ustat", "sysfs", "_sysctl", "nfsservctl", "personality", "fanotify_init",
};

static const struct json *z(struct arena *a, const char *text) { return json_new_z(a, text); }

static const struct json *strings(struct arena *a, const char *const *list, size_t n)
{
    const struct json *items[128];

    for (size_t i = 0; i < n; i++)
        items[i] = z(a, list[i]);
    return json_array_n(a, items, n);
}

static const struct json *architectures(struct arena *a)
{
    struct utsname u;

    if (uname(&u) == 0 && str_is(str_of(u.machine), "aarch64"))
        return json_array(a, z(a, "SCMP_ARCH_AARCH64"), z(a, "SCMP_ARCH_ARM"), NULL);
    return json_array(a, z(a, "SCMP_ARCH_X86_64"), z(a, "SCMP_ARCH_X86"), z(a, "SCMP_ARCH_X32"), NULL);
}

static const struct json *seccomp(struct arena *a)
{
    _Static_assert(ARRAY_SIZE(refused_calls) <= 128, "strings() is large enough");
    const struct json *no_user_ns = json_array(
        a,
        json_object(a, "index", json_new_i64(a, 0), "value", json_new_i64(a, CLONE_NEWUSER_FLAG), "valueTwo",
                    json_new_i64(a, CLONE_NEWUSER_FLAG), "op", z(a, "SCMP_CMP_MASKED_EQ"), NULL),
        NULL);

    return json_object(
        a, "defaultAction", z(a, "SCMP_ACT_ALLOW"), "architectures", architectures(a), "syscalls",
        json_array(a,
                   json_object(a, "names", strings(a, refused_calls, ARRAY_SIZE(refused_calls)), "action",
                               z(a, "SCMP_ACT_ERRNO"), "errnoRet", json_new_i64(a, 1), NULL),
                   json_object(a, "names", json_array(a, z(a, "clone"), NULL), "action", z(a, "SCMP_ACT_ERRNO"), "errnoRet",
                               json_new_i64(a, 1), "args", no_user_ns, NULL),
                   /* Its flags lie in memory, where no filter sees them; on ENOSYS all libraries use clone. */
                   json_object(a, "names", json_array(a, z(a, "clone3"), NULL), "action", z(a, "SCMP_ACT_ERRNO"), "errnoRet",
                               json_new_i64(a, 38), NULL),
                   NULL),
        NULL);
}

static const struct json *mount_of(struct arena *a, const char *destination, const char *type, const char *source,
                                   const char *options)
{
    const struct json *list = json_array(a, NULL);
    struct str rest = str_of(options), option;

    while (str_next(&rest, ',', &option))
        list = json_append(a, list, json_new_str(a, option));
    return json_object(a, "destination", z(a, destination), "type", z(a, type), "source", z(a, source), "options", list, NULL);
}

/* The r… forms are set by mount_setattr and, unlike the others, also on binds that stay writable; crun takes them for
 * directories alone. */
static const struct json *bind_of(struct arena *a, const struct config_mount *m)
{
    if (m->file)
        return mount_of(a, m->destination, "bind", m->source,
                        arena_printf(a, "bind,rprivate,nosuid%s%s%s", m->read_only ? ",ro" : "", m->dev ? "" : ",nodev",
                                     m->exec ? "" : ",noexec"));
    return mount_of(a, m->destination, "bind", m->source,
                    arena_printf(a, "rbind,rprivate,rnosuid%s%s%s", m->read_only ? ",rro" : "", m->dev ? "" : ",rnodev",
                                 m->exec ? "" : ",rnoexec"));
}

static const struct json *device(struct arena *a, const char *source, const char *destination)
{
    return bind_of(a, &(struct config_mount){.source = source, .destination = destination, .dev = true, .file = true});
}

static const struct json *mounts(const struct config_input *in, struct arena *a)
{
    const struct json *list;

    list = json_array(
        a, mount_of(a, "/proc", "proc", "proc", "nosuid,noexec,nodev"),
        bind_of(a, &(struct config_mount){.source = "/usr", .destination = "/usr", .read_only = true, .exec = true}),
        bind_of(a, &(struct config_mount){.source = in->etc, .destination = "/etc", .read_only = true}),
        bind_of(a, &(struct config_mount){.source = in->launcher, .destination = KV_LAUNCHER_PATH, .read_only = true,
                                          .exec = true, .file = true}),
        mount_of(a, "/dev", "tmpfs", "tmpfs", "nosuid,noexec,mode=755,size=64k"),
        mount_of(a, "/dev/shm", "tmpfs", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=64m"),
        mount_of(a, "/tmp", "tmpfs", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=64m"),
        mount_of(a, "/run", "tmpfs", "tmpfs", "nosuid,noexec,nodev,mode=755,size=16m"),
        bind_of(a, &(struct config_mount){.source = in->termination_log, .destination = "/dev/termination-log",
                                          .file = true}),
        NULL);
    if (in->kvm)
        list = json_append(a, list, device(a, in->kvm, "/dev/kvm"));
    if (in->mshv)
        list = json_append(a, list, device(a, in->mshv, "/dev/mshv"));
    if (in->tun)
        list = json_append(a, list, device(a, in->tun, "/dev/net/tun"));
    for (size_t i = 0; i < in->n_mounts; i++)
        list = json_append(a, list, bind_of(a, &in->mounts[i]));
    return list;
}

static const struct json *id_mappings(struct arena *a, uid_t root, uid_t vm)
{
    return json_array(a,
                      json_object(a, "containerID", json_new_i64(a, 0), "hostID", json_new_i64(a, root), "size",
                                  json_new_i64(a, 1), NULL),
                      json_object(a, "containerID", json_new_i64(a, KV_UID), "hostID", json_new_i64(a, vm), "size",
                                  json_new_i64(a, 1), NULL),
                      NULL);
}

static const struct json *namespaces(struct arena *a, const char *netns)
{
    static const char *const own[] = {"pid", "ipc", "uts", "mount", "cgroup", "user"};
    const struct json *list = json_array(a, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        list = json_append(a, list, json_object(a, "type", z(a, own[i]), NULL));
    return json_append(a, list, json_object(a, "type", z(a, "network"), "path", z(a, netns), NULL));
}

/* More than any machine has, and far from where sums overflow. */
#define MAX_MILLIS (1LL << 40)

static int64_t millis_of(const struct json *container, const char *path)
{
    int64_t n = quantity_millis(json_str_at(container, path), 0);

    return n > MAX_MILLIS ? MAX_MILLIS : n;
}

uint64_t config_cpu_shares(const struct json *container)
{
    int64_t request = millis_of(container, "resources/requests/cpu"), shares;

    if (request <= 0)
        return 1024;
    shares = request * 1024 / 1000;
    return shares < 2 ? 2 : shares > 262144 ? 262144 : (uint64_t)shares;
}

static const struct json *resources(const struct json *container, struct arena *a)
{
    int64_t memory = quantity_bytes(json_str_at(container, "resources/limits/memory"), 0);
    int64_t limit = millis_of(container, "resources/limits/cpu");
    const struct json *cpu = json_object(a, NULL), *r = cpu;
    uint64_t shares = config_cpu_shares(container);

    cpu = json_with(a, cpu, "shares", json_new_i64(a, (int64_t)(shares < CPU_SHARES_START ? CPU_SHARES_START : shares)));
    if (limit > 0) {
        cpu = json_with(a, cpu, "period", json_new_i64(a, 100000));
        cpu = json_with(a, cpu, "quota", json_new_i64(a, limit * 100 < 1000 ? 1000 : limit * 100));
    }
    if (json_len(cpu))
        r = json_with(a, r, "cpu", cpu);
    if (memory > 0)
        r = json_with(a, r, "memory", json_object(a, "limit", json_new_i64(a, memory), NULL));
    return json_len(r) ? r : NULL;
}

/* As the kubelet scores: who asked for more of the memory is killed later. Less than our own score would need a right. */
static int64_t oom_score(const struct json *pod, const struct json *container, uint64_t host_memory)
{
    int64_t request = quantity_bytes(json_str_at(container, "resources/requests/memory"), 0), score;

    if (request <= 0 || !host_memory || str_is(str_of(status_qos(pod)), "BestEffort"))
        return 1000;
    score = 1000 - (int64_t)(1000.0 * (double)request / (double)host_memory);
    return score < 3 ? 3 : score > 999 ? 999 : score;
}

static const struct json *environment(const struct json *container, struct arena *a)
{
    const struct json *list = json_array(a, z(a, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                                         z(a, "HOME=/tmp"), z(a, "LANG=C.UTF-8"), NULL);

    json_each_item(e, json_get(container, "env"))
        if (json_str_at(e, "value").p)
            list = json_append(a, list, json_new_f(a, STR_FMT "=" STR_FMT, STR_ARG(json_str_at(e, "name")),
                                                   STR_ARG(json_str_at(e, "value"))));
    return list;
}

static const struct json *process(const struct config_input *in, const struct json *container, struct arena *a)
{
    const struct json *args = json_array(a, NULL), *none = json_array(a, NULL);
    const struct json *user = json_object(a, "uid", json_new_i64(a, KV_UID), "gid", json_new_i64(a, KV_UID), NULL);
    const struct json *rlimits;

    json_each_item(word, json_get(container, "command"))
        args = json_append(a, args, json_copy(a, word));
    json_each_item(word, json_get(container, "args"))
        args = json_append(a, args, json_copy(a, word));
    rlimits = json_array(a,
                         json_object(a, "type", z(a, "RLIMIT_CORE"), "hard", json_new_i64(a, 0), "soft", json_new_i64(a, 0), NULL),
                         json_object(a, "type", z(a, "RLIMIT_NOFILE"), "hard", json_new_i64(a, (int64_t)in->nofile), "soft",
                                     json_new_i64(a, (int64_t)in->nofile), NULL),
                         NULL);
    return json_object(
        a, "terminal", json_new_bool(false), "user", user, "args", args, "env", environment(container, a), "cwd", z(a, "/"),
        "noNewPrivileges", json_new_bool(true), "capabilities",
        json_object(a, "bounding", none, "effective", none, "inheritable", none, "permitted", none, "ambient", none, NULL),
        "rlimits", rlimits, "oomScoreAdj", json_new_i64(a, oom_score(in->pod, container, in->host_memory)), NULL);
}

bool config_make(const struct config_input *in, struct arena *a, const struct json **ret, struct error *err)
{
    static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                                         "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                                         "/proc/sysrq-trigger", "/proc/interrupts"};
    static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"};
    const struct json *container = json_item(json_at(in->pod, "spec/containers"), 0), *linux_part;
    struct str host = json_str_at(in->pod, "spec/hostname");

    if (!config_check_pod(in->pod, err))
        return false;
    if (!host.n)
        host = str_take(json_str_at(in->pod, "metadata/name"), 63);
    linux_part = json_object(
        a, "cgroupsPath", z(a, in->cgroup), "uidMappings", id_mappings(a, in->root_uid, in->vm_uid), "gidMappings",
        id_mappings(a, in->root_uid, in->vm_uid), "namespaces", namespaces(a, in->netns), "maskedPaths",
        strings(a, masked, ARRAY_SIZE(masked)), "readonlyPaths", strings(a, read_only, ARRAY_SIZE(read_only)), "resources",
        resources(container, a), "seccomp", seccomp(a), NULL);
    *ret = json_object(a, "ociVersion", z(a, "1.0.2"), "process", process(in, container, a), "root",
                       json_object(a, "path", z(a, in->rootfs), "readonly", json_new_bool(true), NULL), "hostname",
                       json_new_str(a, host), "mounts", mounts(in, a), "linux", linux_part, NULL);
    return true;
}

bool config_check_pod(const struct json *pod, struct error *err)
{
    const struct json *containers = json_at(pod, "spec/containers");

    if (json_len(containers) != 1 || json_len(json_at(pod, "spec/initContainers")) != 0)
        return error_set(err, ERROR_UNSUPPORTED, "only launcher pods of virtual machines run on this node: one container and no "
                                                 "init container");
    if (!str_is(json_str(json_item(json_get(json_item(containers, 0), "command"), 0)), KV_LAUNCHER_PATH))
        return error_set(err, ERROR_UNSUPPORTED, "only launcher pods of virtual machines run on this node: the command is not %s",
                         KV_LAUNCHER_PATH);
    return true;
}
