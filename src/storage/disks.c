#include "storage/disks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/quantity.h"
#include "api/types.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "storage/cloudinit.h"
#include "storage/iso.h"
#include "storage/mounted.h"
#include "storage/qcow2.h"

#define MIB (1ull << 20)

struct job { /* one storage_prepare() */
    const struct kv_virtual_machine_instance *vmi;
    const struct storage_place *at;
    const struct storage_passed *passed;
    size_t n_passed;
    struct arena *a;
};

void storage_disks_done(struct storage_disks *d)
{
    for (size_t i = 0; i < d->n; i++) {
        fd_close(&d->p[i].fd);
        fd_close(&d->p[i].backing_fd);
    }
    d->n = 0;
    fd_close(&d->kernel_fd);
    fd_close(&d->initrd_fd);
}

/* ---- opening what tenants made ---- */

#define CAUTIOUS (O_NOFOLLOW | O_NONBLOCK | O_NOCTTY) /* a FIFO in its place must not hang us */

static bool regular(int *take_fd, const char *path, int *ret, struct stat *st, struct error *err)
{
    AUTO_CLOSE int fd = TAKE_FD(*take_fd);

    if (fstat(fd, st) != 0)
        return error_errno(err, errno, "%s", path);
    if (!S_ISREG(st->st_mode))
        return error_set(err, ERROR_INVALID, "%s is not a regular file", path);
    fcntl(fd, F_SETFL, 0);
    *ret = TAKE_FD(fd);
    return true;
}

/* A regular file beneath dirfd, no links on the way. */
static bool open_file(int dirfd, const char *path, bool write, int *ret, struct stat *st,
                      struct error *err)
{
    int fd;

    return file_open_beneath(dirfd, path, (write ? O_RDWR : O_RDONLY) | CAUTIOUS, 0, &fd, err)
           && regular(&fd, path, ret, st, err);
}

/* The same of an image. Its root may be that of a container, in which other things are mounted (/proc, the pod's volumes): what is
 * asked for is the image's. */
static bool open_image_file(int root, const char *path, int *ret, struct stat *st, struct error *err)
{
    int fd;

    return file_open_within(root, path, O_RDONLY | CAUTIOUS, &fd, err) && regular(&fd, path, ret, st, err);
}

static bool takes_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) != 0)
        return false;
    fcntl(fd, F_SETFL, flags);
    return true;
}

static bool make_dir(int dirfd, const char *path, int *ret, struct error *err)
{
    return file_make_dirs(dirfd, path, 0750, ret, err);
}

/* ---- qcow2 files of our own ---- */

/* Opens dir/name, making it first by way of another name, so that a half-written one is never found. */
static bool own_qcow2(int dir, const char *name, uint64_t size, struct arena *a, int *ret,
                      struct error *err)
{
    AUTO_CLOSE int fd = -1;
    const char *fresh = arena_printf(a, "%s.new", name);
    struct stat st;

    if (open_file(dir, name, true, ret, &st, err))
        return true;
    if (err->kind != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    unlinkat(dir, fresh, 0);
    if (!file_open_beneath(dir, fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &fd, err)
        || !qcow2_create(fd, size, err))
        return false;
    if (renameat(dir, fresh, dir, name) != 0)
        return error_errno(err, errno, "%s", name);
    *ret = TAKE_FD(fd);
    return true;
}

/* For VMMs without qcow2: the whole of a raw image once more, as the pod's own. By way of another name, as above. */
static bool private_copy(const struct job *j, struct storage_disk *d, struct error *err)
{
    AUTO_CLOSE int dir = -1;
    AUTO_CLOSE int image = TAKE_FD(d->fd);
    AUTO_CLOSE int fd = -1;
    struct stat st;

    if (strcmp(d->format, "raw") != 0)
        return error_set(err, ERROR_UNSUPPORTED,
                         "the image is %s, and this machine's hypervisor reads raw images only: convert it (qemu-img convert -O "
                         "raw), or use hypervisor qemu",
                         d->format);
    if (!make_dir(j->at->ephemeral_dirfd, arena_printf(j->a, "disk-data/" STR_FMT, STR_ARG(d->name)), &dir, err))
        return false;
    if (open_file(dir, "disk.img", true, &d->fd, &st, err))
        return true;
    if (err->kind != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    unlinkat(dir, "disk.img.new", 0);
    if (!file_open_beneath(dir, "disk.img.new", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &fd, err)
        || !file_copy_data(image, fd, err))
        return error_wrap(err, "copy of the image");
    if (renameat(dir, "disk.img.new", dir, "disk.img") != 0)
        return error_errno(err, errno, "disk.img");
    d->fd = TAKE_FD(fd);
    return true;
}

/* A qcow2 overlay on d->fd, which becomes the image below. */
static bool overlay(const struct job *j, struct storage_disk *d, uint64_t size, struct error *err)
{
    AUTO_CLOSE int dir = -1;

    if (j->at->raw_only)
        return private_copy(j, d, err);
    d->backing_fd = TAKE_FD(d->fd);
    d->backing_format = d->format;
    d->format = "qcow2";
    if (!make_dir(j->at->ephemeral_dirfd,
                  arena_printf(j->a, "disk-data/" STR_FMT, STR_ARG(d->name)), &dir, err)
        || !own_qcow2(dir, "disk.qcow2", size, j->a, &d->fd, err))
        return error_wrap(err, "overlay");
    return true;
}

/* ---- one function for each source ---- */

/* The path that the volume names, or the one file of disk/. */
static bool find_image(int root, struct str path, struct arena *a, const char **ret,
                       struct error *err)
{
    AUTO_CLOSE int fd = -1;
    DIR *dir;
    struct dirent *e;
    size_t n = 0;

    if (path.n > 0) {
        while (path.n > 0 && path.p[0] == '/')
            path = str_skip(path, 1);
        *ret = arena_strdup(a, path);
        return true;
    }
    if (!file_open_within(root, "disk", O_RDONLY | O_DIRECTORY, &fd, err))
        return error_wrap(err, "the image has no folder /disk");
    dir = fdopendir(fd);
    if (!dir)
        return error_errno(err, errno, "the image's folder /disk");
    fd = -1;
    while (n < 2 && (e = readdir(dir)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && n++ == 0)
            *ret = arena_printf(a, "disk/%s", e->d_name);
    closedir(dir);
    if (n != 1)
        return error_set(err, ERROR_INVALID, "the image's folder /disk has %s",
                         n ? "more than one file" : "no file");
    return true;
}

/* Where the image's files are: handed over, or a volume of the pod. */
static bool image_root(const struct job *j, struct str name, const char *volume, int *ret, struct error *err)
{
    for (size_t i = 0; i < j->at->n_images; i++)
        if (str_eq(j->at->images[i].name, name)) {
            *ret = fcntl(j->at->images[i].root_fd, F_DUPFD_CLOEXEC, 0);
            return *ret >= 0 || error_errno(err, errno, "the image's root");
        }
    return file_open_dir(j->at->public_dirfd, volume, ret, err);
}

static bool container_disk(const struct job *j, const struct kv_volume *v, struct storage_disk *d,
                           struct error *err)
{
    AUTO_CLOSE int root = -1;
    const char *path = NULL;
    struct image_info info;
    struct stat st;

    if (!image_root(j, v->name, arena_printf(j->a, "container-disks/" STR_FMT, STR_ARG(v->name)), &root, err)
        || !find_image(root, v->container_disk->path, j->a, &path, err)
        || !open_image_file(root, path, &d->fd, &st, err)
        || !image_probe_fd(d->fd, (uint64_t)st.st_size, &info, err))
        return false;
    d->format = info.format;
    return overlay(j, d, info.virtual_size, err);
}

static const struct kv_persistent_volume_claim_info *claim_info(const struct job *j,
                                                                struct str volume)
{
    const struct kv_virtual_machine_instance_status *st = j->vmi->status;

    for (size_t i = 0; st && i < st->volume_status.n; i++)
        if (str_eq(st->volume_status.p[i].name, volume))
            return st->volume_status.p[i].persistent_volume_claim_info;
    return NULL;
}

/* Upstream's size of a new disk.img: the volume's capacity less the file system's overhead, in whole MiB. */
static bool make_image(const struct kv_persistent_volume_claim_info *info, int dir,
                       const char *name, struct arena *a, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    double overhead = 0;
    int64_t bytes = -1;
    struct statvfs fs;

    if (info) {
        bytes = quantity_bytes(str_map_get(&info->capacity, STR("storage")), -1);
        if (bytes < 0)
            bytes = quantity_bytes(str_map_get(&info->requests, STR("storage")), -1);
        if (info->filesystem_overhead.n > 0)
            overhead = strtod(arena_strdup(a, info->filesystem_overhead), NULL);
    }
    if (bytes <= 0)
        return error_set(err, ERROR_NOT_FOUND,
                         "%s is not there, and the claim's size is not known to make it", name);
    if (!(overhead >= 0 && overhead < 1))
        overhead = 0;
    if (fstatvfs(dir, &fs) == 0 && fs.f_blocks > 0
        && (uint64_t)bytes > (uint64_t)fs.f_blocks * fs.f_frsize)
        bytes = (int64_t)((uint64_t)fs.f_blocks * fs.f_frsize);
    bytes = (int64_t)((double)bytes * (1 - overhead)) / (int64_t)MIB * (int64_t)MIB;
    if (!file_open_beneath(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0660, &fd, err))
        return false;
    if (ftruncate(fd, bytes) != 0) {
        int e = errno;

        unlinkat(dir, name, 0);
        return error_errno(err, e, "make %s of %lld bytes", name, (long long)bytes);
    }
    return true;
}

static bool claim(const struct job *j, struct storage_disk *d, bool read_only, struct error *err)
{
    const struct kv_persistent_volume_claim_info *info = claim_info(j, d->name);
    AUTO_CLOSE int dir = -1;
    struct stat st;

    if (info && str_is(info->volume_mode, "Block"))
        return error_set(err, ERROR_UNAVAILABLE, "its block device did not come along");
    if (!file_open_dir(j->at->private_dirfd,
                       arena_printf(j->a, "vmi-disks/" STR_FMT, STR_ARG(d->name)), &dir, err))
        return false;
    d->format =
        "raw"; /* by definition: what a guest wrote into it must not be taken for a header */
    d->preallocated = info && opt_true(info->preallocated);
    d->read_only = read_only;
    if (open_file(dir, "disk.img", !read_only, &d->fd, &st, err))
        return true;
    if (err->kind != ERROR_NOT_FOUND || read_only)
        return false;
    error_clear(err);
    return make_image(info, dir, "disk.img", j->a, err)
           && open_file(dir, "disk.img", true, &d->fd, &st, err);
}

static bool ephemeral(const struct job *j, struct storage_disk *d, struct error *err)
{
    struct stat st;

    if (!claim(j, d, true, err)) {
        if (err->kind == ERROR_NOT_FOUND)
            return error_set(err, ERROR_NOT_FOUND,
                             "its claim holds no disk.img yet: put an image there, or start a VM with the claim itself first");
        return false;
    }
    if (fstat(d->fd, &st) != 0)
        return error_errno(err, errno, "disk.img");
    d->read_only = false;
    return overlay(j, d, (uint64_t)st.st_size, err);
}

static bool own_raw(int dir, const char *name, int64_t bytes, int *ret, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (!file_open_beneath(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, &fd, err))
        return false;
    if (ftruncate(fd, bytes) != 0)
        return error_errno(err, errno, "make %s of %lld bytes", name, (long long)bytes);
    *ret = TAKE_FD(fd);
    return true;
}

static bool empty_disk(const struct job *j, const struct kv_volume *v, struct storage_disk *d,
                       struct error *err)
{
    AUTO_CLOSE int dir = -1;
    int64_t bytes = quantity_bytes(v->empty_disk->capacity, -1);

    bytes = bytes / (int64_t)MIB * (int64_t)MIB;
    if (bytes <= 0)
        return error_set(err, ERROR_INVALID, "emptyDisk.capacity: '" STR_FMT "' is less than 1Mi",
                         STR_ARG(v->empty_disk->capacity));
    d->format = j->at->raw_only ? "raw" : "qcow2";
    if (!make_dir(j->at->ephemeral_dirfd, "empty-disks", &dir, err))
        return false;
    if (j->at->raw_only)
        return own_raw(dir, arena_printf(j->a, STR_FMT ".img", STR_ARG(v->name)), bytes, &d->fd, err);
    return own_qcow2(dir, arena_printf(j->a, STR_FMT ".qcow2", STR_ARG(v->name)), (uint64_t)bytes, j->a, &d->fd, err);
}

static bool host_disk(const struct job *j, const struct kv_volume *v, struct storage_disk *d,
                      struct error *err)
{
    AUTO_CLOSE int dir = -1;
    AUTO_CLOSE int made = -1;
    struct str before, name;
    const char *file;
    struct stat st;
    int64_t bytes = quantity_bytes(v->host_disk->capacity, -1);

    if (!str_rcut(v->host_disk->path, '/', &before, &name) || name.n == 0)
        return error_set(err, ERROR_INVALID, "hostDisk.path: '" STR_FMT "' names no file",
                         STR_ARG(v->host_disk->path));
    file = arena_strdup(j->a, name);
    if (!file_open_dir(j->at->private_dirfd,
                       arena_printf(j->a, "vmi-disks/" STR_FMT, STR_ARG(d->name)), &dir, err))
        return false;
    d->format = "raw";
    if (open_file(dir, file, true, &d->fd, &st, err))
        return true;
    if (err->kind != ERROR_NOT_FOUND || !str_is(v->host_disk->type, "DiskOrCreate") || bytes <= 0)
        return false;
    error_clear(err);
    if (!file_open_beneath(dir, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0660, &made, err))
        return false;
    if (ftruncate(made, bytes) != 0)
        return error_errno(err, errno, "make %s", file);
    d->fd = TAKE_FD(made);
    return true;
}

/* A fresh ISO; the folder entry is gone at once, only the descriptor remains: secrets leave no file behind. */
static bool write_iso(const struct job *j, struct storage_disk *d, const char *label,
                      const struct iso_file *files, size_t n, struct error *err)
{
    AUTO_CLOSE int dir = -1;
    AUTO_CLOSE int to = -1;
    const char *name = arena_printf(j->a, STR_FMT ".iso", STR_ARG(d->name));

    if (!make_dir(j->at->ephemeral_dirfd, "iso", &dir, err))
        return false;
    unlinkat(dir, name, 0);
    if (!file_open_beneath(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &to, err))
        return false;
    unlinkat(dir, name, 0);
    d->format = "raw";
    d->fd = TAKE_FD(to);
    return iso_write(d->fd, label, files, n, err);
}

static bool cloud_init(const struct job *j, const struct kv_volume *v, struct storage_disk *d,
                       struct error *err)
{
    struct cloudinit c;

    return cloudinit_make(j->vmi, v, j->at->private_dirfd, j->a, &c, err)
           && write_iso(j, d, c.label, c.files, c.n, err);
}

static bool answer_file(const struct iso_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq_nocase(str_of(files[i].path), STR("autounattend.xml"))
            || str_eq_nocase(str_of(files[i].path), STR("unattend.xml")))
            return true;
    return false;
}

static bool folder_iso(const struct job *j, struct storage_disk *d, const char *kind,
                       struct str label, bool optional, bool sysprep, struct error *err)
{
    AUTO_CLOSE int dir = -1;
    struct iso_file *files = NULL;
    size_t n = 0;

    if (!file_open_dir(j->at->private_dirfd,
                       arena_printf(j->a, "%s/" STR_FMT, kind, STR_ARG(d->name)), &dir, err)) {
        if (err->kind != ERROR_NOT_FOUND || !optional)
            return false;
        error_clear(err);
    } else if (!mounted_list(dir, j->a, &files, &n, err)) {
        return false;
    }
    if (sysprep && !answer_file(files, n))
        return error_set(err, ERROR_INVALID,
                         "sysprep: neither autounattend.xml nor unattend.xml is there");
    return write_iso(j, d, arena_strdup(j->a, label), files, n, err);
}

static struct str label_or(struct str label, struct str otherwise)
{
    return label.n ? label : otherwise;
}

static bool given(const struct job *j, struct storage_disk *d, bool *ret, struct error *err)
{
    *ret = false;
    for (size_t i = 0; i < j->n_passed; i++) {
        const struct storage_passed *p = &j->passed[i];
        struct stat st;

        if (!str_eq(p->volume, d->name))
            continue;
        *ret = true;
        d->fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
        if (d->fd < 0 || fstat(d->fd, &st) != 0)
            return error_errno(err, errno, "descriptor");
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
            return error_set(err, ERROR_INVALID,
                             "what came along is neither a file nor a block device");
        d->format = p->format;
        d->read_only = p->read_only;
        d->block_device = S_ISBLK(st.st_mode);
    }
    return true;
}

static bool from_volume(const struct job *j, const struct kv_volume *v, struct storage_disk *d,
                        struct error *err)
{
    bool passed;

    if (!given(j, d, &passed, err) || passed)
        return passed;
    if (v->container_disk)
        return container_disk(j, v, d, err);
    if (v->persistent_volume_claim)
        return claim(j, d, opt_true(v->persistent_volume_claim->read_only), err);
    if (v->data_volume)
        return claim(j, d, false, err);
    if (v->ephemeral)
        return ephemeral(j, d, err);
    if (v->empty_disk)
        return empty_disk(j, v, d, err);
    if (v->host_disk)
        return host_disk(j, v, d, err);
    if (v->cloud_init_no_cloud || v->cloud_init_config_drive)
        return cloud_init(j, v, d, err);
    if (v->config_map)
        return folder_iso(j, d, "config-map", label_or(v->config_map->volume_label, STR("cfgdata")),
                          opt_true(v->config_map->optional), false, err);
    if (v->secret)
        return folder_iso(j, d, "secret", label_or(v->secret->volume_label, STR("cfgdata")),
                          opt_true(v->secret->optional), false, err);
    if (v->downward_api)
        return folder_iso(j, d, "downwardapi",
                          label_or(v->downward_api->volume_label, STR("cfgdata")), false, false,
                          err);
    if (v->service_account)
        return folder_iso(j, d, "service-account", STR("cfgdata"), false, false, err);
    if (v->sysprep)
        return folder_iso(j, d, "sysprep", STR("unattendCD"), false, true, err);
    return error_set(err, ERROR_UNSUPPORTED, "its source cannot be a disk here");
}

static bool is_disk(const struct job *j, struct str volume)
{
    const struct kv_disk_slice *s = &j->vmi->spec->domain->devices->disks;

    for (size_t i = 0; i < s->n; i++)
        if (str_eq(s->p[i].name, volume))
            return true;
    return false;
}

static bool kernel_file(int root, struct str path, int *ret, struct error *err)
{
    AUTO_FREE char *text = NULL;
    struct stat st;

    if (path.n == 0)
        return true;
    while (path.n > 0 && path.p[0] == '/')
        path = str_skip(path, 1);
    text = str_dup(path);
    return open_image_file(root, text, ret, &st, err);
}

static bool kernel_boot(const struct job *j, struct storage_disks *ret, struct error *err)
{
    const struct kv_firmware *fw = j->vmi->spec->domain->firmware;
    const struct kv_kernel_boot_container *c =
        fw && fw->kernel_boot ? fw->kernel_boot->container : NULL;
    AUTO_CLOSE int root = -1;

    if (!c)
        return true;
    if (!image_root(j, STR(KV_IMAGE_KERNEL_BOOT), "container-disks/kernel-boot", &root, err)
        || !kernel_file(root, c->kernel_path, &ret->kernel_fd, err)
        || !kernel_file(root, c->initrd_path, &ret->initrd_fd, err))
        return error_wrap(err, "kernelBoot");
    return true;
}

bool storage_prepare(const struct kv_virtual_machine_instance *vmi, const struct storage_place *at,
                     const struct storage_passed *passed, size_t n_passed, struct arena *a,
                     struct storage_disks *ret, struct error *err)
{
    const struct job j = {vmi, at, passed, n_passed, a};
    const struct kv_volume_slice *volumes = &vmi->spec->volumes;
    AUTO(storage_disks_done) struct storage_disks disks = {.kernel_fd = -1, .initrd_fd = -1};

    disks.p = ARENA_ARRAY(a, struct storage_disk, volumes->n + 1);
    for (size_t i = 0; i < volumes->n; i++) {
        const struct kv_volume *v = &volumes->p[i];
        struct storage_disk *d = &disks.p[disks.n];

        if (!is_disk(&j, v->name))
            continue;
        if (str_has(v->name, '/') || v->name.n == 0 || v->name.p[0] == '.')
            return error_set(err, ERROR_INVALID, "volume '" STR_FMT "': not a name",
                             STR_ARG(v->name));
        *d = (struct storage_disk){.name = v->name, .fd = -1, .backing_fd = -1};
        disks.n++;
        if (!from_volume(&j, v, d, err))
            return error_wrap(err, "volume '" STR_FMT "'", STR_ARG(v->name));
        d->direct = takes_direct(d->fd) && (d->backing_fd < 0 || takes_direct(d->backing_fd));
    }
    if (!kernel_boot(&j, &disks, err))
        return false;
    *ret = TAKE(disks);
    disks.kernel_fd = disks.initrd_fd = -1;
    return true;
}
