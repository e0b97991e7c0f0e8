/* What Firecracker is told for each field of a VMI that its .caps file calls honoured, as it would report it itself (/vm/config): a
 * machine is started for each row, and the configuration that the contract server booted with is read. ch_proof.c does the same
 * of cloud-hypervisor. */
#include "bench.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { DISK = 1, NIC = 2, NO_NIC = 4 /* an interface without a network */ };

#define CPU(s, c, t) "'sockets':" s ",'cores':" c ",'threads':" t
#define DISKS(more) "'disks':[{'name':'root'" more "}]"
#define NICS(more) "'interfaces':[{'name':'default','bridge':{}" more "}]"

static const struct field {
    const char *vmm, *fields;     /* the leaves that this proves, "" for what only compares */
    const char *domain, *devices; /* members of spec.domain and of its devices, ' for " */
    unsigned with;
    const char *path, *want; /* in the configuration: JSON, ~text contained, or NULL for absent */
} rows[] = {
#define FC "firecracker"
    {FC, "domain/cpu/sockets domain/cpu/cores domain/cpu/threads", "'cpu':{" CPU("1", "3", "2") "}",
     "", 0, "machine-config/vcpu_count", "6"},
    {FC, "domain/cpu/threads", "'cpu':{" CPU("1", "3", "2") "}", "", 0, "machine-config/smt",
     "true"},
    {FC, "domain/cpu/threads", "'cpu':{" CPU("1", "2", "1") "}", "", 0, "machine-config/smt",
     "false"},
    {FC, "domain/cpu/model", "'cpu':{" CPU("1", "1", "1") ",'model':'host-passthrough'}", "", 0,
     "machine-config/cpu_template", NULL},
    {FC, "domain/memory/guest", "'memory':{'guest':'128Mi'}", "", 0, "machine-config/mem_size_mib",
     "128"},
    {FC, "domain/memory/maxGuest", "'memory':{'guest':'64Mi','maxGuest':'192Mi'}", "", 0,
     "memory-hotplug/total_size_mib", "128"},
    {FC, "domain/firmware/kernelBoot/kernelArgs", "", "", 0, "boot-source/boot_args",
     "~console=ttyS0 mine=1"},
    {FC, "domain/devices/autoattachMemBalloon", "", "'autoattachMemBalloon':true", 0,
     "balloon/amount_mib", "0"},
    {FC, "domain/devices/autoattachMemBalloon", "", "'autoattachMemBalloon':false", 0, "balloon",
     NULL},
    {FC, "domain/devices/autoattachSerialConsole", "", "'autoattachSerialConsole':false", 0,
     "boot-source/boot_args", "~8250.nr_uarts=0"},
    {FC, "domain/devices/autoattachVSOCK", "", "'autoattachVSOCK':true", 0, "vsock/guest_cid", "7"},
    {FC, "domain/devices/autoattachVSOCK", "", "'autoattachVSOCK':false", 0, "vsock", NULL},
    {FC, "domain/devices/rng", "", "'rng':{}", 0, "entropy", "{}"},
    {FC, "", "", "", 0, "entropy", NULL},
    {FC, "domain/devices/disks/*/disk/bus", "", DISKS(",'disk':{'bus':'virtio'}"), DISK,
     "drives/0/drive_id", "'disk0'"},
    {FC, "domain/devices/disks/*/disk/readonly", "",
     DISKS(",'disk':{'bus':'virtio','readonly':true}"), DISK, "drives/0/is_read_only", "true"},
    {FC, "domain/devices/disks/*/disk/readonly", "",
     DISKS(",'disk':{'bus':'virtio','readonly':false}"), DISK, "drives/0/is_read_only", "false"},
    {FC, "domain/devices/disks/*/cache", "", DISKS(",'cache':'writeback'"), DISK,
     "drives/0/cache_type", "'Writeback'"},
    {FC, "domain/devices/disks/*/errorPolicy", "", DISKS(",'errorPolicy':'report'"), DISK,
     "drives/0/drive_id", "'disk0'"},
    {FC, "domain/devices/interfaces/*/model", "", NICS(",'model':'virtio'"), NIC,
     "network-interfaces/0/iface_id", "'net0'"},
    {FC, "domain/devices/interfaces/*/macAddress", "", NICS(",'macAddress':'02:00:00:00:00:07'"),
     NIC, "network-interfaces/0/guest_mac", "'02:00:00:00:00:07'"},
    {FC, "domain/devices/interfaces/*/state", "", NICS(",'state':'up'"), NIC,
     "network-interfaces/0/iface_id", "'net0'"},
    {FC, "domain/devices/disableHotplug", "", "'disableHotplug':true", 0, "hotplug-memory", NULL},
    {FC, "domain/devices/interfaces/*/state", "", NICS(",'state':'absent'"), NO_NIC,
     "network-interfaces", NULL},
};

void fields_list(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct str rest = str_of(rows[i].fields), one;

        while (str_next(&rest, ' ', &one))
            if (one.n)
                printf("%s " STR_FMT "\n", rows[i].vmm, STR_ARG(one));
    }
}

static const struct json *parse(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    char *copy = arena_strdup(a, str_of(text));

    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (!json_parse(str_of(copy), a, &v, &err))
        fail_msg("%s: %s", copy, error_text(&err));
    return v;
}

static int tap(void)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* False: taps cannot be made here. */
static bool start(struct bench *b, const struct field *f, int *fd)
{
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(&b->a, struct kv_virtual_machine_instance);
    struct vmm_disk disk = {.name = STR("root"), .format = "raw", .backing_fd = -1};
    struct vmm_nic nic = {.name = STR("default"), .fds = fd, .n_fds = 1};
    struct vmm_machine m = {.accelerator = b->s->accelerator,
                            .private_dirfd = b->dirfd,
                            .private_dir = b->dir,
                            .initrd_fd = -1,
                            .vhost_vsock_fd = -1,
                            .vmi = vmi};
    const char *text = arena_printf(
        &b->a,
        "{'metadata':{'name':'n','namespace':'ns','uid':'u'},'spec':{'domain':{'firmware':{'kernelBoot':{"
        "'kernelArgs':'console=ttyS0 mine=1','container':{'image':'i','kernelPath':'/k'}}},%s%s%s'devices':{%s}}%s}}",
        strstr(f->domain, "'memory'") ? "" : "'memory':{'guest':'64Mi'},", f->domain, *f->domain ? "," : "", f->devices,
        f->with & (NIC | NO_NIC) ? ",'networks':[{'name':'default','pod':{}}]" : "");

    if (!schema_decode(&schema_type_kv_virtual_machine_instance, parse(&b->a, text), &b->a, vmi, &b->err))
        fail_msg("%s", error_text(&b->err));
    if ((f->with & NIC) && (*fd = tap()) < 0)
        return false;
    if (f->with & DISK)
        disk.fd = bench_image(b, "root", 1u << 20);
    m.kernel_fd = open(guest_kernel, O_RDONLY | O_CLOEXEC);
    m.disks = &disk;
    m.n_disks = f->with & DISK ? 1 : 0;
    m.nics = &nic;
    m.n_nics = f->with & NIC ? 1 : 0;
    m.vsock_cid = opt_true(vmi->spec->domain->devices->autoattach_vsock) ? 7 : 0;
    if (!vmm_start(b->vmm, &m, &b->err))
        fail_msg("%s: %s", text, error_text(&b->err));
    close(m.kernel_fd);
    return true;
}

static bool is_as_wanted(const struct json *config, const struct field *f, struct arena *a)
{
    const struct json *v = json_at(config, f->path);
    size_t at;

    if (!f->want)
        return !v || v->type == JSON_NULL || (json_is(v, JSON_ARRAY) && v->n == 0);
    if (f->want[0] == '~')
        return str_find(json_str(v), str_of(f->want + 1), &at);
    return v && json_eq(v, parse(a, f->want));
}

static void fields(struct bench *b)
{
    unsigned n = 0, bad = 0;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct field *f = &rows[i];
        struct bench mine;
        int fd = -1;

        if (strcmp(f->vmm, b->s->driver->name) != 0)
            continue;
        bench_init(&mine, b->s);
        bool started = start(&mine, f, &fd);

        if (fd >= 0) /* borrowed for the start only */
            close(fd);
        if (!started) {
            print_message("  needs the right to make a tap: %s\n", f->fields);
        } else {
            const struct json *config = bench_config(&mine);

            n++;
            if (!is_as_wanted(config, f, &mine.a)) {
                AUTO_FREE char *is = json_text(json_at(config, f->path) ? json_at(config, f->path) : config);

                print_error("%s {%s} {%s}: %s is %s, not %s\n", f->vmm, f->domain, f->devices, f->path, is,
                            f->want ? f->want : "absent");
                bad++;
            }
        }
        bench_done(&mine);
    }
    if (n == 0) {
        print_message("  no row is of this one\n");
        bench_done(b);
        skip();
    }
    print_message("  %u configurations were read\n", n);
    assert_int_equal(bad, 0);
}

const struct scenario field_scenarios[] = {{"fields are what it was configured with", fields, PRETENDED_ONLY}, {0}};
