#include "vmm/qemu/cmdline.h"

#include <stdio.h>

#include "api/types.h"

static enum qemu_board board_of(const struct kv_domain_spec *d, bool microvm)
{
    struct str type = d && d->machine ? d->machine->type : STR_NONE;

    if (microvm)
        return QEMU_MICROVM;
    return str_is(type, "pc") || str_starts(type, STR("pc-i440fx-")) ? QEMU_PC : QEMU_Q35;
}

void cmd_init(struct qemu_cmd *c, struct arena *a, const struct vmm_machine *m, bool microvm)
{
    *c = (struct qemu_cmd){.a = a, .m = m, .next_fd = 3};
    c->domain = m->vmi && m->vmi->spec ? m->vmi->spec->domain : NULL;
    c->devices = c->domain ? c->domain->devices : NULL;
    c->board = board_of(c->domain, microvm);
    buf_init(&c->opt, 64u << 10);
    vec_push(&c->argv, "qemu-system-x86_64");
}

void cmd_done(struct qemu_cmd *c)
{
    vec_done(&c->argv);
    vec_done(&c->fds);
    vec_done(&c->env);
    buf_done(&c->opt);
    error_clear(&c->err);
}

bool cmd_failed(const struct qemu_cmd *c)
{
    return c->err.kind != ERROR_NONE;
}

void cmd_fail(struct qemu_cmd *c, enum error_kind kind, const char *fmt, ...)
{
    va_list ap;

    if (cmd_failed(c))
        return;
    va_start(ap, fmt);
    error_vset(&c->err, kind, fmt, ap);
    va_end(ap);
}

void cmd_flag(struct qemu_cmd *c, const char *flag)
{
    vec_push(&c->argv, flag);
}

void cmd_pair(struct qemu_cmd *c, const char *flag, const char *value)
{
    vec_push(&c->argv, flag);
    vec_push(&c->argv, value);
}

static bool clean(struct qemu_cmd *c, const char *key, struct str v)
{
    for (size_t i = 0; i < v.n; i++) {
        if ((unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f) {
            cmd_fail(c, ERROR_INVALID, "%s: control characters are not allowed", key);
            return false;
        }
    }
    return true;
}

void cmd_text(struct qemu_cmd *c, const char *flag, struct str value)
{
    if (clean(c, flag, value))
        cmd_pair(c, flag, arena_strdup(c->a, value));
}

void cmd_json(struct qemu_cmd *c, const char *flag, const struct json *value)
{
    AUTO(buf_done) struct buf b = {0};

    json_write(&b, value);
    cmd_pair(c, flag, arena_strdup(c->a, buf_str(&b)));
}

void cmd_opt(struct qemu_cmd *c, const char *flag, const char *head)
{
    vec_push(&c->argv, flag);
    buf_clear(&c->opt);
    if (head)
        buf_adds(&c->opt, head);
}

void cmd_kv(struct qemu_cmd *c, const char *key, struct str value)
{
    if (!value.p || !clean(c, key, value))
        return;
    if (c->opt.n > 0)
        buf_addc(&c->opt, ',');
    buf_adds(&c->opt, key);
    buf_addc(&c->opt, '=');
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] == ',')
            buf_addc(&c->opt, ',');
        buf_addc(&c->opt, value.p[i]);
    }
}

void cmd_kvz(struct qemu_cmd *c, const char *key, const char *value)
{
    cmd_kv(c, key, str_of(value));
}

void cmd_kvf(struct qemu_cmd *c, const char *key, const char *fmt, ...)
{
    AUTO(buf_done) struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    cmd_kv(c, key, buf_str(&b));
}

void cmd_kvu(struct qemu_cmd *c, const char *key, uint64_t value)
{
    cmd_kvf(c, key, "%llu", (unsigned long long)value);
}

void cmd_kvb(struct qemu_cmd *c, const char *key, bool on)
{
    cmd_kvz(c, key, on ? "on" : "off");
}

void cmd_end(struct qemu_cmd *c)
{
    if (c->opt.overflow)
        cmd_fail(c, ERROR_TOO_LARGE, "an option of QEMU's would be too long");
    vec_push(&c->argv, arena_strdup(c->a, buf_str(&c->opt)));
}

int cmd_fd(struct qemu_cmd *c, int fd)
{
    vec_push(&c->fds, (struct child_fd){.fd = fd, .target = c->next_fd});
    return c->next_fd++;
}

const char *cmd_fdset(struct qemu_cmd *c, int fd)
{
    int set = c->next_fdset++;

    cmd_pair(c, "-add-fd", arena_printf(c->a, "set=%d,fd=%d", set, cmd_fd(c, fd)));
    return arena_printf(c->a, "/dev/fdset/%d", set);
}

const char *cmd_fd_path(struct qemu_cmd *c, int fd)
{
    return arena_printf(c->a, "/proc/self/fd/%d", cmd_fd(c, fd));
}

bool qemu_build(struct qemu_cmd *c, const struct qemu_firmware *fw, const struct qemu_ends *ends,
                struct error *err)
{
    if (!c->domain || !c->devices)
        return error_set(err, ERROR_INVALID, "spec.domain is missing");
    c->efi = fw->code_fd >= 0;
    if (c->board == QEMU_MICROVM)
        microvm_check(c);
    qemu_add_base(c);
    qemu_add_cpu(c);
    qemu_add_memory(c);
    qemu_add_clock(c);
    qemu_add_smbios(c);
    qemu_add_boot(c, fw->bios_fd);
    if (c->efi) {
        for (int i = 0; i < 2; i++) {
            const char *node = i ? "pflash1" : "pflash0",
                       *file = i ? "pflash1-file" : "pflash0-file";
            const struct json *ro = json_new_bool(i == 0);

            cmd_json(c, "-blockdev",
                     json_object(c->a, "driver", json_new_z(c->a, "file"), "node-name",
                                 json_new_z(c->a, file), "filename",
                                 json_new_z(c->a, cmd_fdset(c, i ? fw->vars_fd : fw->code_fd)),
                                 "read-only", ro, "auto-read-only", json_new_bool(false), NULL));
            cmd_json(c, "-blockdev",
                     json_object(c->a, "driver", json_new_z(c->a, "raw"), "node-name",
                                 json_new_z(c->a, node), "file", json_new_z(c->a, file),
                                 "read-only", ro, NULL));
        }
        if (fw->secure)
            cmd_pair(c, "-global", "driver=cfi.pflash01,property=secure,value=on");
    }
    cmd_opt(c, "-chardev", "socket");
    cmd_kvz(c, "id", "charmonitor");
    cmd_kvu(c, "fd", (uint64_t)cmd_fd(c, ends->monitor));
    cmd_end(c);
    cmd_pair(c, "-mon", "chardev=charmonitor,mode=control");
    qemu_add_iothreads(c);
    qemu_add_nics(c);
    qemu_add_controllers(c);
    qemu_add_disks(c);
    qemu_add_ports(c, ends->serial, ends->agent);
    qemu_add_graphics(c);
    qemu_add_devices(c);
    place_spare_ports(c);
    if (c->m->restore_dir || c->m->incoming)
        cmd_pair(c, "-incoming", "defer");
    if (cmd_failed(c))
        return error_move(err, &c->err);
    vec_push(&c->argv, NULL);
    c->argv.n--;
    return true;
}
