/* The host's side of volumes. Above the volumes' own directories everything belongs to root; what is inside of them belongs to
 * the VM, which may have put anything there: so nothing in them is opened by path, followed, or trusted to be what it was. */
#include "pod/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#define FILES_LIMIT "size=8m"
#define HOST_RESOLV "/etc/resolv.conf"
#define SYSTEMD_RESOLV "/run/systemd/resolve/resolv.conf"

bool volume_name_ok(struct str name, struct error *err)
{
    if (name.n == 0 || name.n > 253 || name.p[0] == '.' || str_has(name, '/') || memchr(name.p, '\0', name.n))
        return error_set(err, ERROR_INVALID, "'" STR_FMT "' is no name of a volume", STR_ARG(name));
    return true;
}

bool volume_empty_dir(struct pod *p, int pod_dirfd, const char *name, struct error *err)
{
    AUTO_FREE char *path = xasprintf(DIR_EMPTY "/%s", name);
    AUTO_CLOSE int fd = -1;
    uid_t uid = VM_UID_OF(p->r, p->rec.slot);

    if (!volume_name_ok(str_of(name), err) || !file_make_dirs(pod_dirfd, path, 0755, &fd, err))
        return false;
    if (fchown(fd, uid, uid) < 0 || fchmod(fd, 0750) < 0)
        return error_errno(err, errno, "emptyDir %s: chown", name);
    return true;
}

/* ---- Secrets and ConfigMaps ---- */

static bool write_file(int dirfd, const char *path, struct str data, gid_t group, struct error *err)
{
    AUTO_CLOSE int fd = -1, at = -1;
    struct str dir, file;

    if (str_rcut(str_of(path), '/', &dir, &file)) {
        AUTO_FREE char *parent = str_dup(dir), *name = str_dup(file);

        return file_make_dirs(dirfd, parent, 0755, &at, err) && write_file(at, name, data, group, err);
    }
    if (!file_open_beneath(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0440, &fd, err)
        || !file_write_all(fd, data, err))
        return false;
    if (fchown(fd, 0, group) < 0 || fchmod(fd, 0440) < 0)
        return error_errno(err, errno, "%s: chown", path);
    return true;
}

static bool key_ok(struct str key) { return key.n > 0 && key.n <= 253 && key.p[0] != '/' && !str_is(key, ".") && !str_is(key, ".."); }

static bool write_key(int dirfd, const char *path, const struct json *value, bool base64, gid_t group, struct error *err)
{
    AUTO(buf_done) struct buf data = {0};

    if (!key_ok(str_of(path)))
        return error_set(err, ERROR_INVALID, "'%s' is no name of a file", path);
    buf_init(&data, LIMIT_OBJECT_BYTES);
    if (!base64)
        buf_addstr(&data, json_str(value));
    else if (!buf_add_base64_decoded(&data, json_str(value), err))
        return error_wrap(err, "key %s", path);
    return write_file(dirfd, path, buf_str(&data), group, err);
}

static bool write_items(int dirfd, const struct json *object, const struct json *items, bool secret, gid_t group,
                        struct error *err)
{
    const struct json *data = json_get(object, "data"), *binary = json_get(object, "binaryData");

    json_each_item(item, items) {
        struct str key = json_str_at(item, "key");
        AUTO_FREE char *path = str_dup(json_str_at(item, "path"));
        const struct json *value = json_get_str(data, key);
        bool base64 = secret || !value;

        value = value ? value : json_get_str(binary, key);
        if (!value || !path)
            return error_set(err, ERROR_NOT_FOUND, "it has no key '" STR_FMT "'", STR_ARG(key));
        if (!write_key(dirfd, path, value, base64, group, err))
            return false;
    }
    if (json_len(items))
        return true;
    json_each_member(m, data) {
        AUTO_FREE char *path = str_dup(json_str(&m->key));

        if (!write_key(dirfd, path, &m->value, secret, group, err))
            return false;
    }
    json_each_member(m, secret ? NULL : binary) {
        AUTO_FREE char *path = str_dup(json_str(&m->key));

        if (!write_key(dirfd, path, &m->value, true, group, err))
            return false;
    }
    return true;
}

static char *host_path(const struct pod *p, const char *dir, const char *name)
{
    return xasprintf("%s/pods/%s/%s/%s", p->r->dir, p->rec.uid, dir, name);
}

/* In memory, so that what is secret never reaches the disk. */
bool volume_files(struct pod *p, int pod_dirfd, const char *dir, const char *name, bool secret, const struct json *object,
                  const struct json *items, struct error *err)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name), *full = host_path(p, dir, name);
    AUTO_CLOSE int place = -1, fd = -1;
    gid_t group = VM_UID_OF(p->r, p->rec.slot);

    if (!volume_name_ok(str_of(name), err) || !file_make_dirs(pod_dirfd, path, 0755, &place, err))
        return false;
    umount2(full, MNT_DETACH | UMOUNT_NOFOLLOW); /* of an attempt before */
    if (mount("tmpfs", full, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=750," FILES_LIMIT) < 0)
        return error_errno(err, errno, "mount tmpfs on %s", full);
    if (!file_open_dir(pod_dirfd, path, &fd, err))
        return false;
    /* The sandbox's root, of which crun's own steps are done, has to open it; the VM is in the group. */
    if (fchown(fd, ROOT_UID_OF(p->r, p->rec.slot), group) < 0)
        return error_errno(err, errno, "chown %s", full);
    return write_items(fd, object, items, secret, group, err);
}

static void unmount_all(struct pod *p, int pod_dirfd, const char *dir)
{
    AUTO(error_clear) struct error err = {0};
    int fd = -1;
    DIR *d;

    if (!file_open_dir(pod_dirfd, dir, &fd, &err))
        return;
    d = fdopendir(fd);
    if (!d) {
        fd_close(&fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        AUTO_FREE char *path = host_path(p, dir, e->d_name);

        if (e->d_name[0] != '.')
            umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    closedir(d);
}

void volumes_unmount(struct pod *p, int pod_dirfd)
{
    unmount_all(p, pod_dirfd, DIR_SECRET);
    unmount_all(p, pod_dirfd, DIR_CONFIG_MAP);
}

/* ---- claims ---- */

/* A disk that a VM with another uid wrote before. A hard link could only lead to a file that the VM could write anyway, but it
 * would be handed on; one that others read too (write = false) must stay its owner's. */
static bool hand_over(int dirfd, uid_t uid, bool write, struct error *err)
{
    AUTO(error_clear) struct error absent = {0};
    AUTO_CLOSE int fd = -1;
    struct stat st;

    if (!file_open_beneath(dirfd, "disk.img", O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd, &absent)) {
        if (absent.kind == ERROR_NOT_FOUND)
            return true;
        return error_move(err, &absent);
    }
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "disk.img");
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return error_set(err, ERROR_INVALID, "disk.img is not a plain file with one name");
    if (write ? fchown(fd, uid, uid) < 0 : fchmod(fd, (st.st_mode & 07777) | 0444) < 0)
        return error_errno(err, errno, "disk.img");
    return true;
}

bool volume_claim(struct pod *p, const char *pv_name, bool write, struct error *err)
{
    AUTO_FREE char *path = xasprintf("volumes/%s", pv_name);
    AUTO_CLOSE int fd = -1;
    uid_t uid = VM_UID_OF(p->r, p->rec.slot);

    if (!volume_name_ok(str_of(pv_name), err) || !file_make_dirs(p->r->dirfd, path, 0700, &fd, err))
        return false;
    /* One that is only read stays its last writer's, so others' bits have to open it. */
    if (write ? fchown(fd, uid, uid) < 0 || fchmod(fd, 0700) < 0 : fchmod(fd, 0755) < 0)
        return error_errno(err, errno, "volume %s: chown", pv_name);
    if (!hand_over(fd, uid, write, err))
        return error_wrap(err, "volume %s", pv_name);
    return true;
}

/* ---- /etc and devices ---- */

/* A resolver on the host's loopback cannot be reached from the pod: such lines are left out. */
static unsigned add_resolv(struct buf *out, const char *path)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    struct str rest, line, word, value;
    unsigned servers = 0;

    buf_init(&text, 64 << 10);
    if (!file_read(AT_FDCWD, path, &text, &err))
        return 0;
    rest = buf_str(&text);
    while (str_next(&rest, '\n', &line)) {
        line = str_trim(line);
        if (!line.n || line.p[0] == '#' || line.p[0] == ';')
            continue;
        if (str_cut(line, ' ', &word, &value) && str_is(word, "nameserver")) {
            value = str_trim(value);
            if (str_starts(value, STR("127.")) || str_is(value, "::1"))
                continue;
            servers++;
        }
        buf_addf(out, STR_FMT "\n", STR_ARG(line));
    }
    return servers;
}

static void make_resolv(struct buf *out, const struct json *pod)
{
    const struct json *config = json_at(pod, "spec/dnsConfig");

    if (!str_is(json_str_at(pod, "spec/dnsPolicy"), "None") && add_resolv(out, HOST_RESOLV) == 0) {
        buf_clear(out);
        add_resolv(out, SYSTEMD_RESOLV);
    }
    json_each_item(server, json_get(config, "nameservers"))
        buf_addf(out, "nameserver " STR_FMT "\n", STR_ARG(json_str(server)));
    if (json_len(json_get(config, "searches"))) {
        buf_adds(out, "search");
        json_each_item(search, json_get(config, "searches"))
            buf_addf(out, " " STR_FMT, STR_ARG(json_str(search)));
        buf_addc(out, '\n');
    }
    json_each_item(option, json_get(config, "options")) {
        struct str value = json_str_at(option, "value");

        buf_addf(out, "options " STR_FMT "%s" STR_FMT "\n", STR_ARG(json_str_at(option, "name")), value.n ? ":" : "",
                 STR_ARG(value));
    }
}

static bool etc_file(int dirfd, const char *name, struct str text, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (!file_open_beneath(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644, &fd, err) || !file_write_all(fd, text, err))
        return error_wrap(err, "etc/%s", name);
    return true;
}

bool volume_etc(struct pod *p, int pod_dirfd, const struct json *pod, const char *ip, struct error *err)
{
    AUTO(buf_done) struct buf resolv = {0};
    AUTO(buf_done) struct buf hosts = {0};
    AUTO_CLOSE int etc = -1;
    struct str name = json_str_at(pod, "spec/hostname");
    AUTO_FREE char *host = str_dup(name.n ? name : str_take(json_str_at(pod, "metadata/name"), 63));

    (void)p;
    buf_init(&resolv, 64 << 10);
    buf_init(&hosts, 64 << 10);
    make_resolv(&resolv, pod);
    buf_addf(&hosts, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n%s\t%s\n", ip, host);
    if (!buf_ok(&resolv, "resolv.conf", err) || !buf_ok(&hosts, "hosts", err) || !file_make_dirs(pod_dirfd, "etc", 0755, &etc, err))
        return false;
    return etc_file(etc, "resolv.conf", buf_str(&resolv), err) && etc_file(etc, "hosts", buf_str(&hosts), err)
           && etc_file(etc, "hostname", str_of(host), err)
           && etc_file(etc, "passwd",
                       STR("root:x:0:0:root:/:/usr/sbin/nologin\nqemu:x:107:107:qemu:/tmp:/usr/sbin/nologin\n"), err)
           && etc_file(etc, "group", STR("root:x:0:\nqemu:x:107:\n"), err);
}

/* Not the host's node, whose group no id in the sandbox can be: one that the VM's uid owns. */
bool volume_device(struct pod *p, int pod_dirfd, const char *name, struct arena *a, const char **ret_path, struct error *err)
{
    const char *host = arena_printf(a, "/dev/%s", name), *below = strrchr(name, '/');
    uid_t uid = VM_UID_OF(p->r, p->rec.slot);
    struct statvfs fs;
    struct stat st;

    if (below)
        name = below + 1; /* of "net/tun", beside the others */
    *ret_path = NULL;
    if (stat(host, &st) < 0 || !S_ISCHR(st.st_mode))
        return true;
    if (fstatvfs(pod_dirfd, &fs) == 0 && fs.f_flag & ST_NODEV) {
        *ret_path = host; /* no nodes here: the host's own has to do, which udev makes open to all */
        return true;
    }
    if ((unlinkat(pod_dirfd, name, 0) < 0 && errno != ENOENT) || mknodat(pod_dirfd, name, S_IFCHR | 0600, st.st_rdev) < 0
        || fchownat(pod_dirfd, name, uid, uid, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(err, errno, "make a node of %s", host);
    *ret_path = arena_printf(a, "%s/pods/%s/%s", p->r->dir, p->rec.uid, name);
    return true;
}
