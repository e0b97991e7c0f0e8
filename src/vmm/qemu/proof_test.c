/* proof_test [--list] [MACHINE…]: the tables of proof_*.h, asked of QEMUs that run. --list prints "<vmm> <field>" and
 * starts nothing. Three machines of each table are asked, all of them with VIREO_PROOFS=all or by their names. */
#include "vmm/qemu/proof.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/kv_config.h"
#include "api/types.h"
#include "base/file.h"
#include "base/map.h"
#include "vmm/qemu/proof_cpu.h"
#include "vmm/qemu/proof_devices.h"
#include "vmm/qemu/proof_disks.h"
#include "vmm/qemu/proof_machine.h"
#include "vmm/qemu/proof_microvm.h"
#include "vmm/qemu/qemu.h"
#include "vmm/vmm.h"

static const struct proof_machine *const tables[] = {proof_cpu, proof_machines, proof_disks, proof_devices, proof_microvm};
static const struct {
    int bit;
    const char *name;
} vmms[] = {{PROOF_QEMU, "qemu"}, {PROOF_MICROVM, "qemu-microvm"}};

#define MAX_OPEN 64
struct bench { /* one machine and all that was opened for it */
    struct arena a;
    struct loop *loop;
    struct vmm *vmm;
    struct error err; /* of the start */
    bool started;
    int fds[MAX_OPEN];
    size_t n_fds;
    char dir[32];
    int dirfd, serial_fd;
    struct buf serial; /* what was read of it */
    bool settled;      /* the firmware has done its work: what is not there now does not come */
};

/* ---- the tables are held to their word ---- */

static bool same_field(struct str fields, struct str field)
{
    struct str one;

    while (str_next(&fields, ' ', &one))
        if (str_eq(one, field))
            return true;
    return false;
}

static int on(const struct proof_machine *m, const struct proof_ask *k)
{
    return k->only ? k->only & m->vmms : m->vmms;
}

#define each_machine(m)                                                                                                        \
    for (size_t m##_t = 0; m##_t < ARRAY_SIZE(tables); m##_t++)                                                                \
        for (const struct proof_machine *m = tables[m##_t]; m->name; m++)
#define each_ask(k, m) for (const struct proof_ask *k = (m)->asks; k->question; k++)

/* Whether the question gets, on that VMM, an answer that rules this one out. */
static bool has_counter_value(const struct proof_ask *of, int bit)
{
    each_machine(m)
        each_ask(k, m)
            if ((on(m, k) & bit) && strcmp(k->question, of->question) == 0 && strcmp(k->wanted, of->wanted) != 0)
                return true;
    return false;
}

/* Every field that a table names, once. Fields without a counter-value are complaints. */
static int list(FILE *to)
{
    int bad = 0;

    for (size_t v = 0; v < ARRAY_SIZE(vmms); v++) {
        AUTO(buf_done) struct buf seen = {0};

        if (!vmm_driver_find(str_of(vmms[v].name)))
            continue;
        each_machine(m)
            each_ask(k, m) {
                struct str rest = str_of(k->fields), field;

                if (!(on(m, k) & vmms[v].bit))
                    continue;
                if (k->fields && !has_counter_value(k, vmms[v].bit)) {
                    fprintf(stderr, "%s %s: '%s' has no other answer on another machine: it proves nothing\n", vmms[v].name,
                            m->name, k->question);
                    bad++;
                }
                while (rest.p && str_next(&rest, ' ', &field)) {
                    if (field.n == 0 || (seen.n && same_field(buf_str(&seen), field)))
                        continue;
                    buf_addf(&seen, STR_FMT " ", STR_ARG(field));
                    if (to)
                        fprintf(to, "%s " STR_FMT "\n", vmms[v].name, STR_ARG(field));
                }
            }
    }
    return bad;
}

/* ---- what is opened for a machine ---- */

static int keep(struct bench *b, int fd)
{
    if (fd >= 0 && b->n_fds < MAX_OPEN)
        b->fds[b->n_fds++] = fd;
    return fd;
}

/* An image of 8 MiB without a name. */
static int image(struct bench *b, bool *ret_direct)
{
    int fd = open(b->dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

    *ret_direct = fd >= 0;
    if (fd < 0)
        fd = open(b->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 && ftruncate(fd, 8 << 20) != 0)
        fd_close(&fd);
    return keep(b, fd);
}

/* As much of a kernel as QEMU looks at when it loads one: the head of a bzImage. */
static int kernel(struct bench *b)
{
    static const struct {
        size_t at;
        const char *bytes;
        size_t n;
    } parts[] = {{0x1f1, "\1", 1}, {0x1fe, "\x55\xaa", 2},         {0x202, "HdrS\6\2", 6},
                 {0x211, "\1", 1}, {0x22c, "\xff\xff\xff\x37", 4}, {0x238, "\0\10\0\0", 4}};
    bool direct;
    int fd = image(b, &direct);

    fcntl(fd, F_SETFL, 0); /* not O_DIRECT */
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (pwrite(fd, parts[i].bytes, parts[i].n, (off_t)parts[i].at) != (ssize_t)parts[i].n)
            return -1;
    return ftruncate(fd, 64 << 10) == 0 ? fd : -1;
}

static int tap(struct bench *b, const char *name, bool queues)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (queues)
        r.ifr_flags |= IFF_MULTI_QUEUE;
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) != 0)
        fd_close(&fd);
    return keep(b, fd);
}

static bool open_disks(struct bench *b, const struct kv_virtual_machine_instance *vmi, struct vmm_machine *m)
{
    const struct kv_disk_slice *s = &vmi->spec->domain->devices->disks;
    struct vmm_disk *d = ARENA_ARRAY(&b->a, struct vmm_disk, s->n + 1);

    for (size_t i = 0; i < s->n; i++) {
        bool there = false, direct;

        for (size_t k = 0; k < vmi->spec->volumes.n; k++)
            there |= str_eq(vmi->spec->volumes.p[k].name, s->p[i].name);
        if (!there)
            continue;
        struct vmm_disk *to = &d[m->n_disks++];
        *to = (struct vmm_disk){.name = s->p[i].name, .fd = image(b, &direct), .format = "raw", .backing_fd = -1};
        to->direct = direct;
        if (to->fd < 0)
            return false;
    }
    m->disks = d;
    return true;
}

static bool open_nics(struct bench *b, const struct kv_virtual_machine_instance *vmi, struct vmm_machine *m)
{
    const struct kv_interface_slice *s = &vmi->spec->domain->devices->interfaces;
    struct vmm_nic *n = ARENA_ARRAY(&b->a, struct vmm_nic, s->n + 1);
    const struct kv_cpu *cpu = vmi->spec->domain->cpu;
    size_t queues = opt_true(vmi->spec->domain->devices->network_interface_multiqueue)
                        ? (size_t)opt_or(cpu ? cpu->cores : (struct opt_int){0}, 1)
                        : 1;

    static unsigned serial_number;

    for (size_t i = 0; i < s->n; i++) {
        int *fds = ARENA_ARRAY(&b->a, int, queues);
        const char *name = arena_printf(&b->a, "proof%u", ++serial_number); /* the machine before may still hold its own */

        for (size_t q = 0; q < queues; q++)
            if ((fds[q] = tap(b, name, queues > 1)) < 0)
                return false;
        n[m->n_nics++] = (struct vmm_nic){.name = s->p[i].name, .fds = fds, .n_fds = queues};
    }
    m->nics = n;
    return true;
}

/* Why it cannot be started here, or NULL. */
static const char *lacks(const struct proof_machine *m)
{
    if ((m->needs & NEED_OVMF) && access("/usr/share/OVMF/OVMF_CODE.fd", R_OK) != 0)
        return "no OVMF in /usr/share/OVMF";
    if ((m->needs & NEED_KVM) && access("/dev/kvm", R_OK | W_OK) != 0)
        return "no /dev/kvm";
    if ((m->needs & NEED_TAP) && (getuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0))
        return "no tap devices: not root, or no /dev/net/tun";
    if ((m->needs & NEED_VSOCK) && access("/dev/vhost-vsock", R_OK | W_OK) != 0)
        return "no /dev/vhost-vsock: the module vhost_vsock is not loaded, or not root";
    return NULL;
}

static const struct json *spec_of(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    char *copy = arena_strdup(a, str_of(text));

    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (!json_parse(str_of(copy), a, &v, &err)) {
        fprintf(stderr, "%s: %s\n", copy, error_text(&err));
        exit(1);
    }
    if (!json_get(v, "startStrategy"))
        v = json_with(a, v, "startStrategy", json_new_z(a, "Paused"));
    if (!json_at(v, "domain/memory"))
        v = json_with_at(a, v, "domain/memory/guest", json_new_z(a, "32Mi"));
    if (!json_at(v, "domain/devices"))
        v = json_with_at(a, v, "domain/devices", json_object(a, NULL));
    return json_object(
        a, "metadata",
        json_object(a, "name", json_new_z(a, "proof"), "namespace", json_new_z(a, "test"), "uid", json_new_z(a, "u"), NULL),
        "spec", v, NULL);
}

static void changed(void *user)
{
    (void)user; /* answers read the status */
}

static void some_uuid(void *data, char ret[37])
{
    (void)data;
    memcpy(ret, "6a1a24a1-4061-4607-8bf4-a3963d0c5895", 37);
}

/* The typed view of a spec, as the launcher gets it. */
static const struct json *admitted(const struct json *vmi, struct arena *a)
{
    struct kv_config *c = kv_config_new(NULL);

    c->architecture = STR("amd64");
    vmi = json_copy(a, kv_vmi_default(vmi, c, &(struct kv_random){.uuid = some_uuid}, a));
    kv_config_free(c);
    return vmi;
}

static bool bench_start(struct bench *b, const struct proof_machine *p, const struct vmm_driver *driver, struct error *err)
{
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(&b->a, struct kv_virtual_machine_instance);
    struct vmm_machine m = {
        .kernel_fd = -1, .initrd_fd = -1, .vhost_vsock_fd = -1, .accelerator = p->needs & NEED_KVM ? VMM_KVM : VMM_TCG};

    snprintf(b->dir, sizeof b->dir, "/var/tmp/proof-XXXXXX");
    if (!mkdtemp(b->dir))
        return error_errno(err, errno, "%s", b->dir);
    b->dirfd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mkdirat(b->dirfd, "qemu", 0700) != 0) /* where the confined process may write */
        return error_errno(err, errno, "%s/qemu", b->dir);
    const struct json *object = spec_of(&b->a, p->spec);
    if (p->needs & AS_ADMITTED)
        object = admitted(object, &b->a);
    if (!schema_decode(&schema_type_kv_virtual_machine_instance, object, &b->a, vmi, err))
        return error_wrap(err, "spec");
    if (!open_disks(b, vmi, &m) || !open_nics(b, vmi, &m))
        return error_errno(err, errno, "disks and taps");
    if (p->needs & NEED_KERNEL)
        m.kernel_fd = kernel(b);
    if (opt_true(vmi->spec->domain->devices->autoattach_vsock)) {
        m.vsock_cid = PROOF_CID;
        if (p->needs & NEED_VSOCK)
            m.vhost_vsock_fd = keep(b, open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC));
    }
    m.vmi = vmi;
    m.private_dirfd = b->dirfd;
    m.private_dir = b->dir;
    b->loop = loop_new(NULL);
    b->vmm = vmm_new(driver, b->loop, &(struct vmm_listener){.changed = changed});
    b->started = vmm_start(b->vmm, &m, &b->err);
    return true;
}

static void bench_done(struct bench *b)
{
    AUTO(error_clear) struct error err = {0};

    vmm_free(b->vmm);
    loop_free(b->loop);
    fd_close(&b->serial_fd);
    buf_done(&b->serial);
    for (size_t i = 0; i < b->n_fds; i++)
        fd_close(&b->fds[i]);
    fd_close(&b->dirfd);
    if (b->dir[0] && !file_remove_tree(AT_FDCWD, b->dir, &err))
        fprintf(stderr, "%s\n", error_text(&err));
    error_clear(&b->err);
    arena_done(&b->a);
}

/* ---- questions ---- */

static const struct json *follow(const struct json *v, struct str pointer, struct arena *a)
{
    struct str part, key, text;

    while (pointer.n && str_next(&pointer, '/', &part)) {
        if (str_is(part, "#"))
            return json_new_i64(a, (int64_t)json_len(v));
        if (json_is(v, JSON_ARRAY) && str_cut(part, '=', &key, &text)) {
            const struct json *found = NULL;
            size_t at;

            json_each_item(item, v)
                if (!found && str_find(json_str(json_get_str(item, key)), text, &at))
                    found = item;
            v = found;
        } else {
            v = json_at(v, arena_strdup(a, part));
        }
    }
    return v;
}

static const char *as_text(const struct json *v, struct arena *a)
{
    if (!v)
        return "absent";
    if (json_is(v, JSON_STRING))
        return arena_strdup(a, json_str(v));
    AUTO_FREE char *text = json_text(v);
    return arena_strdup(a, str_of(text));
}

static const struct json *qmp(struct bench *b, const char *command, const struct json *args)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    return qemu_query(b->vmm, command, args, &b->a, &v, &err) ? v : NULL;
}

static const char *path_of(struct bench *b, struct str path)
{
    if (str_is(path, "cpu0"))
        return arena_strdup(&b->a, json_str_at(qmp(b, "query-cpus-fast", NULL), "0/qom-path"));
    return arena_strdup(&b->a, path);
}

static const struct json *qom(struct bench *b, struct str path, struct str property)
{
    return qmp(
        b, "qom-get",
        json_object(&b->a, "path", json_new_z(&b->a, path_of(b, path)), "property", json_new_str(&b->a, property), NULL));
}

static const char *count(struct bench *b, struct str question)
{
    struct str command, text, line;
    size_t n = 0, at;

    if (!str_cut(question, '|', &command, &text))
        return "no | in the question";
    struct str out =
        json_str(qmp(b, "human-monitor-command", json_object(&b->a, "command-line", json_new_str(&b->a, command), NULL)));
    while (out.n && str_next(&out, '\n', &line))
        n += str_find(line, text, &at);
    return arena_printf(&b->a, "%zu", n);
}

/* The guest's clock is a struct tm; it ticks while we read, so the answer is rounded to minutes. */
static const char *rtc(struct bench *b)
{
    const struct json *t = qom(b, STR("/machine"), STR("rtc-time"));
    struct tm tm = {.tm_year = (int)json_i64_at(t, "tm_year", 0),
                    .tm_mon = (int)json_i64_at(t, "tm_mon", 0),
                    .tm_mday = (int)json_i64_at(t, "tm_mday", 0),
                    .tm_hour = (int)json_i64_at(t, "tm_hour", 0),
                    .tm_min = (int)json_i64_at(t, "tm_min", 0),
                    .tm_sec = (int)json_i64_at(t, "tm_sec", 0)};
    double seconds;

    if (!t)
        return "absent";
    seconds = difftime(timegm(&tm), time(NULL));
    return arena_printf(&b->a, "%d", (int)((seconds + (seconds < 0 ? -30 : 30)) / 60));
}

static const char *rtc_moves(struct bench *b)
{
    AUTO_FREE char *before = json_text(qom(b, STR("/machine"), STR("rtc-time")));

    usleep(1200000);
    AUTO_FREE char *after = json_text(qom(b, STR("/machine"), STR("rtc-time")));
    return strcmp(before, after) ? "yes" : "no";
}

#define FIRMWARE_S 20 /* an emulated one on a busy machine */

/* The first 32 MiB: where the firmware lays its tables. */
static bool memory_has(struct bench *b, struct str bytes)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf ram = {0};
    size_t at;

    buf_init(&ram, 64u << 20);
    qmp(b, "pmemsave",
        json_object(&b->a, "val", json_new_i64(&b->a, 0), "size", json_new_i64(&b->a, 32 << 20), "filename",
                    json_new_f(&b->a, "%s/qemu/ram", b->dir), NULL));
    return file_read(b->dirfd, "qemu/ram", &ram, &err) && str_find(buf_str(&ram), bytes, &at);
}

static struct str uuid_bytes(struct str text, struct arena *a)
{
    static const unsigned char order[] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}; /* as SMBIOS has it */
    char *bytes = arena_printf(a, "%16s", ""), hex[3] = "";
    size_t n = 0;

    for (size_t i = 0; i + 1 < text.n && n < 16; i++) {
        if (text.p[i] == '-')
            continue;
        memcpy(hex, text.p + i++, 2);
        bytes[order[n++]] = (char)strtoul(hex, NULL, 16);
    }
    return str_n(bytes, 16);
}

static const char *memory(struct bench *b, struct str what)
{
    struct str bytes = str_starts(what, STR("uuid:")) ? uuid_bytes(str_skip(what, 5), &b->a) : what;
    time_t until = time(NULL) + FIRMWARE_S;
    bool found;

    while (!(found = memory_has(b, bytes)) && !b->settled && time(NULL) < until)
        usleep(200000);
    b->settled |= found;
    return found ? "yes" : "no";
}

static const char *serial(struct bench *b, struct str text)
{
    AUTO(error_clear) struct error err = {0};
    time_t until = time(NULL) + FIRMWARE_S;
    char part[1024];
    size_t at;

    if (b->serial_fd < 0
        && (!vmm_open_stream(b->vmm, VMM_STREAM_SERIAL, &b->serial_fd, &err) || !file_set_nonblock(b->serial_fd, &err)))
        return error_text(&err);
    for (;;) {
        ssize_t n = read(b->serial_fd, part, sizeof part);

        if (n > 0) {
            buf_add(&b->serial, part, (size_t)n);
            continue;
        }
        if (b->serial.n && str_find(buf_str(&b->serial), text, &at)) {
            b->settled = true;
            return "yes";
        }
        if (b->settled || time(NULL) >= until)
            return "no";
        usleep(100000);
    }
}

static const char *maps(struct bench *b, struct str text)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf out = {0};
    size_t at;

    buf_init(&out, 4u << 20);
    if (!file_read(AT_FDCWD, arena_printf(&b->a, "/proc/%d/maps", (int)vmm_status(b->vmm)->pid), &out, &err))
        return arena_printf(&b->a, "%s", error_text(&err));
    return str_find(buf_str(&out), text, &at) ? "yes" : "no";
}

static const char *reset(struct bench *b)
{
    AUTO(error_clear) struct error err = {0};

    if (!vmm_reset(b->vmm, &err))
        return arena_printf(&b->a, "%s", error_text(&err));
    for (int i = 0; i < 40 && vmm_alive(b->vmm); i++)
        loop_turn(b->loop, SECONDS(1) / 20);
    return vmm_alive(b->vmm) ? "runs again" : "ended";
}

static const char *stream(struct bench *b, struct str which)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;
    enum vmm_stream s = str_is(which, "vnc") ? VMM_STREAM_VNC : str_is(which, "agent") ? VMM_STREAM_AGENT : VMM_STREAM_SERIAL;

    return vmm_open_stream(b->vmm, s, &fd, &err) ? "yes" : "no";
}

static const char *answer(struct bench *b, const char *question)
{
    struct str first, rest, second, third, args;
    const struct json *v, *given = NULL;
    AUTO(error_clear) struct error err = {0};

    str_cut(str_of(question), ' ', &first, &rest);
    if (str_is(first, "start"))
        return b->started ? "ok" : error_text(&b->err);
    if (str_is(first, "state"))
        return vmm_state_name(vmm_status(b->vmm)->state);
    if (str_is(first, "stream"))
        return stream(b, rest);
    if (str_is(first, "rtc"))
        return rest.n ? rtc_moves(b) : rtc(b);
    if (str_is(first, "memory"))
        return memory(b, rest);
    if (str_is(first, "serial"))
        return serial(b, rest);
    if (str_is(first, "maps"))
        return maps(b, rest);
    if (str_is(first, "reset"))
        return reset(b);
    if (str_is(first, "count"))
        return count(b, rest);
    if (str_is(first, "type")) {
        v = qom(b, rest, STR("type"));
        return v ? as_text(v, &b->a) : "none";
    }
    if (str_is(first, "qom")) {
        str_cut(rest, ' ', &second, &rest);
        str_cut(rest, ' ', &third, &rest);
        return as_text(follow(qom(b, second, third), rest, &b->a), &b->a);
    }
    if (str_cut(first, '{', &first, &args)
        && !json_parse(str_of(arena_printf(&b->a, "{" STR_FMT, STR_ARG(args))), &b->a, &given, &err))
        return arena_printf(&b->a, "%s", error_text(&err));
    return as_text(follow(qmp(b, arena_strdup(&b->a, first), given), rest, &b->a), &b->a);
}

static bool agrees(const char *got, const char *wanted)
{
    if (wanted[0] == '~')
        return strstr(got, wanted + 1) != NULL;
    if (wanted[0] == '!')
        return strstr(got, wanted + 1) == NULL;
    return strcmp(got, wanted) == 0;
}

struct tally {
    size_t asked, wrong, skipped;
};

static void run(const struct proof_machine *m, size_t v, const struct vmm_driver *driver, struct tally *t)
{
    AUTO(bench_done) struct bench b = {.dirfd = -1, .serial_fd = -1};
    AUTO(error_clear) struct error err = {0};
    const char *why = lacks(m);

    if (!why && !bench_start(&b, m, driver, &err))
        why = error_text(&err);
    if (!why && !b.started && (m->needs & MAY_LACK))
        why = error_text(&b.err);
    if (why) {
        printf("skip %s %s: %s\n", vmms[v].name, m->name, why);
        t->skipped++;
        return;
    }
    each_ask(k, m) {
        if (!(on(m, k) & vmms[v].bit))
            continue;
        if (!b.started && strcmp(k->question, "start") != 0) {
            printf("FAIL %s %s: %s\n", vmms[v].name, m->name, error_text(&b.err));
            t->wrong++;
            return;
        }
        const char *got = answer(&b, k->question);

        if ((m->needs & MAY_LACK) && strcmp(k->wanted, "true") == 0 && strcmp(got, "false") == 0) {
            printf("skip %s %s: %s: this host cannot do it\n", vmms[v].name, m->name, k->question);
            continue;
        }
        t->asked++;
        if (!agrees(got, k->wanted)) {
            printf("FAIL %s %s: %s\n  %s\n  says %s\n  not  %s\n", vmms[v].name, m->name, k->fields ? k->fields : "-",
                   k->question, got, k->wanted);
            t->wrong++;
        }
    }
}

static bool chosen(const struct proof_machine *m, const struct proof_machine *table, int argc, char **argv)
{
    const char *all = getenv("VIREO_PROOFS");

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], m->name) == 0)
            return true;
    return argc == 1 && (m - table < 3 || (all && strcmp(all, "all") == 0));
}

int main(int argc, char **argv)
{
    struct tally t = {0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && strcmp(argv[1], "--list") == 0)
        return list(stdout) ? 1 : 0;
    if (list(NULL))
        return 1;
    if (getuid() == 0 && unshare(CLONE_NEWNET) != 0) /* taps of our own, which go with us */
        printf("no network namespace: %s\n", strerror(errno));
    for (size_t v = 0; v < ARRAY_SIZE(vmms); v++) {
        const struct vmm_driver *driver = vmm_driver_find(str_of(vmms[v].name));
        struct vmm_version version;
        AUTO(error_clear) struct error err = {0};

        if (!driver || !driver->probe(&version, &err)) {
            printf("skip %s: %s\n", vmms[v].name, driver ? error_text(&err) : "this build has no such driver");
            continue;
        }
        each_machine(m)
            if ((m->vmms & vmms[v].bit) && chosen(m, tables[m_t], argc, argv))
                run(m, v, driver, &t);
    }
    printf("%zu answers, %zu wrong, %zu machines skipped\n", t.asked, t.wrong, t.skipped);
    return t.wrong ? 1 : t.asked ? 0 : 77;
}
