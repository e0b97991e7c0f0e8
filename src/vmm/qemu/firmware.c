#include "vmm/qemu/firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/types.h"
#include "base/file.h"

struct pair {
    const char *code, *vars;
};
/* Upstream's names first, then Debian's. Both files of a pair have to be of one size class. */
static const struct pair secure_pairs[] = {{"OVMF_CODE.secboot.fd", "OVMF_VARS.secboot.fd"},
                                           {"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"},
                                           {"OVMF_CODE.secboot.fd", "OVMF_VARS.ms.fd"}};
static const struct pair plain_pairs[] = {{"OVMF_CODE.fd", "OVMF_VARS.fd"},
                                          {"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"}};

static bool copy_variables(int from, int private_dirfd, const char *name, int *ret,
                           struct error *err)
{
    AUTO_CLOSE int dir = -1;
    AUTO_CLOSE int to = -1;
    AUTO(buf_done) struct buf b = {0};
    struct stat st;

    if (!file_make_dirs(private_dirfd, "nvram", 0700, &dir, err))
        return false;
    if (file_open_beneath(dir, name, O_RDWR, 0, &to, err)) {
        if (fstat(to, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
            *ret = TAKE_FD(to);
            return true;
        }
        fd_close(&to);
    } else if (err->kind != ERROR_NOT_FOUND) {
        return false;
    }
    error_clear(err);
    buf_init(&b, 16u << 20);
    if (!file_read_fd(from, &b, err) || !file_write(dir, name, buf_str(&b), 0600, err))
        return false;
    if (!file_open_beneath(dir, name, O_RDWR, 0, ret, err))
        return false;
    return true;
}

/* SeaBIOS as it is built for microvm. Debian's QEMU has under this name, in its own folder, a link to a firmware that enters
 * kernels only; so SeaBIOS' folder comes first. */
static bool open_bios(struct qemu_firmware *ret, struct error *err)
{
    static const char *const places[] = {"/usr/share/seabios/bios-microvm.bin", "/usr/share/qemu/bios-microvm.bin"};

    for (size_t i = 0; i < ARRAY_SIZE(places) && ret->bios_fd < 0; i++)
        ret->bios_fd = open(places[i], O_RDONLY | O_CLOEXEC);
    return ret->bios_fd >= 0
           || error_set(err, ERROR_UNSUPPORTED, "%s is missing, which a microvm needs to boot from a disk; install the package seabios",
                        places[0]);
}

bool firmware_open(const struct vmm_machine *m, bool microvm, struct qemu_firmware *ret, struct error *err)
{
    const struct kv_firmware *fw = m->vmi->spec->domain->firmware;
    const struct kv_efi *efi = fw && fw->bootloader ? fw->bootloader->efi : NULL;
    const char *path = m->firmware_dir ? m->firmware_dir : "/usr/share/OVMF";
    AUTO_CLOSE int dir = -1;
    AUTO_CLOSE int vars = -1;
    AUTO_CLOSE int code = -1;
    AUTO_FREE char *name = NULL;

    *ret = (struct qemu_firmware){-1, -1, false, -1};
    if (microvm)
        return m->kernel_fd >= 0 || open_bios(ret, err);
    if (!efi)
        return true;
    if (opt_true(efi->persistent))
        return error_set(err, ERROR_UNSUPPORTED,
                         "firmware.bootloader.efi.persistent is not supported yet");
    bool secure = opt_not_false(efi->secure_boot);
    const struct pair *pairs = secure ? secure_pairs : plain_pairs;
    size_t n = secure ? ARRAY_SIZE(secure_pairs) : ARRAY_SIZE(plain_pairs);

    dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; dir >= 0 && i < n; i++) {
        code = openat(dir, pairs[i].code,
                      O_RDONLY | O_CLOEXEC); /* the host's own files: links are fine */
        vars = openat(dir, pairs[i].vars, O_RDONLY | O_CLOEXEC);
        if (code >= 0 && vars >= 0)
            break;
        fd_close(&code);
        fd_close(&vars);
    }
    if (code < 0)
        return error_set(
            err, ERROR_UNSUPPORTED, "EFI OVMF roms missing in %s%s; install the package ovmf", path,
            secure ? " (secure boot is the default; secureBoot: false needs less)" : "");
    name = xasprintf(STR_FMT "_VARS.fd", STR_ARG(m->vmi->metadata->name));
    if (!copy_variables(vars, m->private_dirfd, name, &ret->vars_fd, err))
        return error_wrap(err, "UEFI variables");
    ret->code_fd = TAKE_FD(code);
    ret->secure = secure;
    return true;
}
