#include "cmd/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/ident.h"
#include "base/log.h"
#include "http/tls.h"
#include "vmm/vmm.h"

#define DAY 86400
#define NAMESPACE_PATHS "6ba7b812-9dad-11d1-80b4-00c04fd430c8" /* RFC 4122: X.500's, any fixed one serves */

void instance_options_done(struct instance_options *o)
{
    char **owned[] = {&o->dir, &o->listen, &o->pod_cidr, &o->node_name, &o->oci_dir, &o->cni_dir, &o->launcher, &o->fetcher, &o->offer_vmm,
                      &o->audit_policy_file, &o->audit_log_path};

    for (size_t i = 0; i < ARRAY_SIZE(owned); i++) {
        free(*owned[i]);
        *owned[i] = NULL;
    }
}

static void free_keys(struct instance *i)
{
    free(i->server_cert);
    free(i->server_key);
    free(i->ca_cert);
    free(i->sa_key);
    i->server_cert = i->server_key = i->ca_cert = i->sa_key = NULL;
}

void instance_done(struct instance *i)
{
    instance_options_done(&i->o);
    fd_close(&i->dirfd);
    fd_close(&i->lock_fd);
    free_keys(i);
    free(i->audit_policy);
}

void instance_name_of(const char *absolute_dir, char ret[9])
{
    char uuid[UUID_LEN + 1];

    ident_uuid5(NAMESPACE_PATHS, str_of(absolute_dir), uuid);
    memcpy(ret, uuid, 8);
    ret[8] = 0;
}

uid_t instance_uid_base(const char *name)
{
    return INSTANCE_UID_FIRST + (uid_t)(strtoul(name, NULL, 16) % INSTANCE_UID_SLOTS) * INSTANCE_UID_RANGE;
}

static void set_option(char **slot, const char *value)
{
    free(*slot);
    *slot = xstrdup(value);
}

static bool set_number(unsigned *slot, const char *option, const char *text, unsigned max, struct error *err)
{
    uint64_t n;

    if (!parse_u64(str_of(text), max, &n, err))
        return error_wrap(err, "%s %s", option, text);
    *slot = (unsigned)n;
    return true;
}

static char *default_node_name(void)
{
    struct utsname u;
    AUTO(buf_done) struct buf b = {0};

    if (uname(&u) < 0)
        return xstrdup("node");
    for (const char *p = u.nodename; *p && b.n < 63; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (letter || (b.n && (c == '-' || c == '.')))
            buf_addc(&b, c);
    }
    while (b.n && (b.p[b.n - 1] == '-' || b.p[b.n - 1] == '.'))
        b.p[--b.n] = 0;
    return b.n ? buf_detach(&b) : xstrdup("node");
}

bool instance_parse_flags(int argc, char **argv, struct instance_options *o, bool *ret_all, struct error *err)
{
    static const struct option flags[] = {
        {"data-dir", required_argument, NULL, 'd'}, {"listen", required_argument, NULL, 'l'},
        {"pod-cidr", required_argument, NULL, 'p'}, {"node-name", required_argument, NULL, 'n'},
        {"oci-dir", required_argument, NULL, 'o'},  {"cni-dir", required_argument, NULL, 'c'},
        {"launcher", required_argument, NULL, 'L'}, {"log-json", no_argument, NULL, 'j'},
        {"debug", no_argument, NULL, 'v'},          {"all", no_argument, NULL, 'a'},
        {"audit-policy-file", required_argument, NULL, 'P'}, {"audit-log-path", required_argument, NULL, 'A'},
        {"audit-log-maxsize", required_argument, NULL, 'S'}, {"audit-log-maxbackup", required_argument, NULL, 'B'},
        {"audit-log-maxage", required_argument, NULL, 'D'}, {"offer-vmm", required_argument, NULL, 'O'},
        {"sim-nodes", required_argument, NULL, 'N'},
        {NULL, 0, NULL, 0},
    };
    int c;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", flags, NULL)) != -1) {
        switch (c) {
        case 'd': set_option(&o->dir, optarg); break;
        case 'l': set_option(&o->listen, optarg); break;
        case 'p': set_option(&o->pod_cidr, optarg); break;
        case 'n': set_option(&o->node_name, optarg); break;
        case 'o': set_option(&o->oci_dir, optarg); break;
        case 'c': set_option(&o->cni_dir, optarg); break;
        case 'L': set_option(&o->launcher, optarg); break;
        case 'O':
            if (!vmm_check_on_demand(str_of(optarg), err))
                return error_wrap(err, "--offer-vmm");
            set_option(&o->offer_vmm, optarg);
            break;
        case 'N':
            if (!set_number(&o->sim_nodes, "--sim-nodes", optarg, INSTANCE_MAX_SIM_NODES, err))
                return false;
            break;
        case 'P': set_option(&o->audit_policy_file, optarg); break;
        case 'A': set_option(&o->audit_log_path, optarg); break;
        case 'S':
            if (!set_number(&o->audit_max_mib, "--audit-log-maxsize", optarg, 1 << 20, err))
                return false;
            break;
        case 'B':
            if (!set_number(&o->audit_max_backups, "--audit-log-maxbackup", optarg, 100000, err))
                return false;
            break;
        case 'D':
            if (!set_number(&o->audit_max_days, "--audit-log-maxage", optarg, 100000, err))
                return false;
            break;
        case 'j': o->json_log = true; break;
        case 'v': o->debug = true; break;
        case 'a':
            if (ret_all) {
                *ret_all = true;
                break;
            }
            return error_set(err, ERROR_BAD_REQUEST, "--all goes with `vireo stop`");
        case ':': return error_set(err, ERROR_BAD_REQUEST, "%s needs a value", argv[optind - 1]);
        default: return error_set(err, ERROR_BAD_REQUEST, "unknown option %s (see vireo --help)", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return error_set(err, ERROR_BAD_REQUEST, "unexpected argument '%s'", argv[optind]);
    if (!o->dir)
        o->dir = xstrdup(INSTANCE_DEFAULT_DIR);
    if (!o->listen)
        o->listen = xstrdup(INSTANCE_DEFAULT_LISTEN);
    if (!o->pod_cidr)
        o->pod_cidr = xstrdup(INSTANCE_DEFAULT_CIDR);
    if (!o->node_name)
        o->node_name = default_node_name();
    if (!o->cni_dir)
        o->cni_dir = xstrdup("/usr/lib/cni");
    return true;
}

/* Reads DIR/pki/<name>; absent text is not an error. */
static bool read_text(int dirfd, const char *path, char **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, 1 << 20);
    if (!file_exists(dirfd, path)) {
        *ret = NULL;
        return true;
    }
    if (!file_read(dirfd, path, &b, err))
        return false;
    *ret = buf_detach(&b);
    return true;
}

/* A pair that is on disk, still valid for a month, and as asked for; else a new one. `extra` names what the certificate has to
 * cover, so a changed address issues a new one. */
static bool load_or_issue(int dirfd, const char *name, const struct cert_pair *ca, struct cert_request *r,
                          const char *covers, struct cert_pair *ret, struct error *err)
{
    AUTO(buf_done) struct buf cert = {0}, key = {0}, note = {0};
    AUTO(cert_pair_done) struct cert_pair pair = {0};
    AUTO_FREE char *noted = NULL;
    int64_t until = 0;

    buf_addf(&cert, "pki/%s.crt", name);
    buf_addf(&key, "pki/%s.key", name);
    buf_addf(&note, "pki/%s.for", name);
    if (!read_text(dirfd, cert.p, &pair.cert_pem, err) || !read_text(dirfd, key.p, &pair.key_pem, err)
        || !read_text(dirfd, note.p, &noted, err))
        return false;
    if (pair.cert_pem && pair.key_pem && noted && strcmp(noted, covers) == 0
        && cert_expiry(pair.cert_pem, &until, err) && until > r->now_unix_s + 30 * DAY) {
        *ret = TAKE(pair);
        return true;
    }
    error_clear(err);
    cert_pair_done(&pair);
    if (!cert_issue(ca, r, &pair, err)
        || !file_write(dirfd, key.p, str_of(pair.key_pem), 0600, err)
        || !file_write(dirfd, cert.p, str_of(pair.cert_pem), 0644, err)
        || !file_write(dirfd, note.p, str_of(covers), 0644, err))
        return false;
    *ret = TAKE(pair);
    return true;
}

static bool load_or_make_ca(int dirfd, int64_t now, struct cert_pair *ret, struct error *err)
{
    AUTO(cert_pair_done) struct cert_pair ca = {0};

    if (!read_text(dirfd, "pki/ca.crt", &ca.cert_pem, err) || !read_text(dirfd, "pki/ca.key", &ca.key_pem, err))
        return false;
    if (!ca.cert_pem || !ca.key_pem) {
        cert_pair_done(&ca);
        if (!cert_make_ca("vireo", now, 3650LL * DAY, &ca, err)
            || !file_write(dirfd, "pki/ca.key", str_of(ca.key_pem), 0600, err)
            || !file_write(dirfd, "pki/ca.crt", str_of(ca.cert_pem), 0644, err))
            return false;
    }
    *ret = TAKE(ca);
    return true;
}

static bool write_kubeconfig(const struct instance *i, const struct cert_pair *ca, const struct cert_pair *admin,
                             struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO_FREE char *there = NULL;
    struct str host, port;

    /* Clients on this machine reach a wildcard listener by loopback. */
    if (!str_rcut(str_of(i->o.listen), ':', &host, &port))
        return error_set(err, ERROR_BAD_REQUEST, "--listen %s: ADDRESS:PORT is wanted", i->o.listen);
    if (str_is(host, "0.0.0.0") || str_is(host, "") || str_is(host, "[::]"))
        host = STR("127.0.0.1");
    buf_addf(&b, "apiVersion: v1\nkind: Config\ncurrent-context: vireo\nclusters:\n- name: vireo\n  cluster:\n"
                 "    server: https://" STR_FMT ":" STR_FMT "\n    certificate-authority-data: ",
             STR_ARG(host), STR_ARG(port));
    buf_add_base64(&b, ca->cert_pem, strlen(ca->cert_pem));
    buf_adds(&b, "\ncontexts:\n- name: vireo\n  context:\n    cluster: vireo\n    user: admin\nusers:\n- name: admin\n"
                 "  user:\n    client-certificate-data: ");
    buf_add_base64(&b, admin->cert_pem, strlen(admin->cert_pem));
    buf_adds(&b, "\n    client-key-data: ");
    buf_add_base64(&b, admin->key_pem, strlen(admin->key_pem));
    buf_addc(&b, '\n');
    /* What says the same is not written anew: a full disk must not hinder a start. */
    if (!read_text(i->dirfd, "admin.kubeconfig", &there, err))
        return false;
    return (there && str_is(buf_str(&b), there)) || file_write(i->dirfd, "admin.kubeconfig", buf_str(&b), 0600, err);
}

static bool load_keys(struct instance *i, int64_t now, struct error *err)
{
    AUTO(cert_pair_done) struct cert_pair ca = {0}, server = {0}, admin = {0}, sa = {0};
    AUTO_FREE char *host = NULL;
    struct str address, port;

    if (!load_or_make_ca(i->dirfd, now, &ca, err))
        return error_wrap(err, "certificate authority");
    if (!str_rcut(str_of(i->o.listen), ':', &address, &port))
        return error_set(err, ERROR_BAD_REQUEST, "--listen %s: ADDRESS:PORT is wanted", i->o.listen);
    if (address.n >= 2 && address.p[0] == '[')
        address = str_n(address.p + 1, address.n - 2);
    host = str_dup(address);

    const char *dns[] = {"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", i->o.node_name, NULL};
    const char *ips[] = {"127.0.0.1", "::1", NULL, NULL};
    const char *masters[] = {"system:masters", NULL};
    struct cert_request server_request = {.common_name = "kube-apiserver", .dns_names = dns, .ip_addresses = ips,
                                          .server = true, .now_unix_s = now, .valid_s = 365LL * DAY};
    struct cert_request admin_request = {.common_name = "kubernetes-admin", .organizations = masters, .client = true,
                                         .now_unix_s = now, .valid_s = 365LL * DAY};
    struct cert_request sa_request = {.common_name = "service-accounts", .now_unix_s = now, .valid_s = 3650LL * DAY};

    if (*host && strcmp(host, "127.0.0.1") != 0 && strcmp(host, "::1") != 0 && strcmp(host, "localhost") != 0
        && strcmp(host, "0.0.0.0") != 0 && strcmp(host, "::") != 0)
        ips[2] = host;
    if (!load_or_issue(i->dirfd, "server", &ca, &server_request, ips[2] ? ips[2] : "loopback", &server, err)
        || !load_or_issue(i->dirfd, "admin", &ca, &admin_request, "system:masters", &admin, err)
        || !load_or_issue(i->dirfd, "service-accounts", &ca, &sa_request, "tokens", &sa, err)
        || !write_kubeconfig(i, &ca, &admin, err))
        return error_wrap(err, "keys");
    free_keys(i);
    i->server_cert = TAKE(server.cert_pem);
    i->server_key = TAKE(server.key_pem);
    i->ca_cert = TAKE(ca.cert_pem);
    i->sa_key = TAKE(sa.key_pem);
    return true;
}

bool instance_reload_keys(struct instance *i, struct error *err)
{
    free_keys(i);
    return load_keys(i, time(NULL), err);
}

bool instance_renew(struct instance *i, int64_t now_unix_s, bool *ret_server, struct error *err)
{
    AUTO_FREE char *old = xstrdup(i->server_cert);

    if (!load_keys(i, now_unix_s, err))
        return false;
    *ret_server = strcmp(old, i->server_cert) != 0;
    return true;
}

static bool make_tree(struct instance *i, struct error *err)
{
    static const struct {
        const char *path;
        mode_t mode;
        bool control; /* owned by the control process */
    } dirs[] = {{"pki", 0700, false},     {"run", 0711, false},  {"control", 0700, true}, {"pods", 0711, false},
                {"images", 0711, false},  {"network", 0700, false}, {"volumes", 0711, false}, {"oci", 0755, false}};

    for (size_t n = 0; n < ARRAY_SIZE(dirs); n++) {
        AUTO_CLOSE int fd = -1;

        if (!file_make_dirs(i->dirfd, dirs[n].path, dirs[n].mode, &fd, err))
            return false;
        if (dirs[n].control && fchown(fd, instance_uid_base(i->name), instance_uid_base(i->name)) < 0)
            return error_errno(err, errno, "%s/%s: chown", i->o.dir, dirs[n].path);
    }
    return true;
}

/* A process that was killed holds the lock until its last child, perhaps one that has only just been forked, is gone, too. */
static bool lock_patiently(int fd)
{
    for (int i = 0; i < 20; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        usleep(50000);
    }
    return false;
}

bool instance_open(const struct instance_options *o, struct instance *ret, struct error *err)
{
    AUTO(instance_done) struct instance i = {.dirfd = -1, .lock_fd = -1};
    char resolved[PATH_MAX];

    if (!file_make_dirs(AT_FDCWD, o->dir, 0755, &i.dirfd, err))
        return error_wrap(err, "--data-dir %s", o->dir);
    if (!realpath(o->dir, resolved))
        return error_errno(err, errno, "--data-dir %s", o->dir);
    i.o.dir = xstrdup(resolved);
    i.o.listen = xstrdup(o->listen);
    i.o.pod_cidr = xstrdup(o->pod_cidr);
    i.o.node_name = xstrdup(o->node_name);
    i.o.oci_dir = o->oci_dir ? xstrdup(o->oci_dir) : xasprintf("%s/oci", resolved);
    i.o.cni_dir = xstrdup(o->cni_dir);
    i.o.audit_policy_file = o->audit_policy_file ? xstrdup(o->audit_policy_file) : NULL;
    i.o.audit_log_path = o->audit_log_path ? xstrdup(o->audit_log_path) : NULL;
    i.o.audit_max_mib = o->audit_max_mib;
    i.o.audit_max_backups = o->audit_max_backups;
    i.o.audit_max_days = o->audit_max_days;
    i.o.launcher = o->launcher ? xstrdup(o->launcher) : NULL;
    i.o.fetcher = o->fetcher ? xstrdup(o->fetcher) : NULL;
    i.o.offer_vmm = o->offer_vmm ? xstrdup(o->offer_vmm) : NULL;
    i.o.json_log = o->json_log;
    i.o.debug = o->debug;
    instance_name_of(i.o.dir, i.name);

    i.lock_fd = openat(i.dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (i.lock_fd < 0)
        return error_errno(err, errno, "%s/lock", i.o.dir);
    if (!lock_patiently(i.lock_fd))
        return error_set(err, ERROR_CONFLICT,
                         "%s is in use by another `vireo serve`: stop that one, or choose another --data-dir", i.o.dir);
    /* `vireo stop` asks who holds the lock. */
    AUTO(buf_done) struct buf pid = {0};
    buf_addf(&pid, "%d\n", (int)getpid());
    /* Over what is there: on a full disk, what is given back first may be gone. */
    if (!file_write_all(i.lock_fd, buf_str(&pid), err))
        return error_wrap(err, "%s/lock", i.o.dir);
    if (ftruncate(i.lock_fd, (off_t)pid.n) < 0)
        return error_errno(err, errno, "%s/lock", i.o.dir);
    if (!make_tree(&i, err) || !load_keys(&i, time(NULL), err))
        return false;
    *ret = i;
    memset(&i, 0, sizeof i);
    i.dirfd = i.lock_fd = -1;
    return true;
}

bool instance_config_fd(const struct instance *i, bool with_keys, int *ret_fd, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    AUTO_CLOSE int fd = -1;
    const struct json *config = json_object(
        &a, "dir", json_new_z(&a, i->o.dir), "name", json_new_z(&a, i->name), "listen", json_new_z(&a, i->o.listen),
        "podCIDR", json_new_z(&a, i->o.pod_cidr), "nodeName", json_new_z(&a, i->o.node_name), "ociDir",
        json_new_z(&a, i->o.oci_dir), "cniDir", json_new_z(&a, i->o.cni_dir), "launcher", json_new_z(&a, i->o.launcher), "fetcher", json_new_z(&a, i->o.fetcher), "offerVMM",
        i->o.offer_vmm ? json_new_z(&a, i->o.offer_vmm) : NULL,
        "jsonLog", json_new_bool(i->o.json_log), "debug", json_new_bool(i->o.debug), "caCert", json_new_z(&a, i->ca_cert),
        "serverCert", with_keys ? json_new_z(&a, i->server_cert) : NULL, "serverKey",
        with_keys ? json_new_z(&a, i->server_key) : NULL, "serviceAccountKey", with_keys ? json_new_z(&a, i->sa_key) : NULL,
        "audit",
        with_keys && i->audit_policy
            ? json_object(&a, "policy", json_new_z(&a, i->audit_policy), "path", json_new_z(&a, i->o.audit_log_path), "maxMiB",
                          json_new_i64(&a, i->o.audit_max_mib ? i->o.audit_max_mib : 100), "maxBackups",
                          json_new_i64(&a, i->o.audit_max_backups), "maxDays", json_new_i64(&a, i->o.audit_max_days), NULL)
            : NULL,
        NULL);

    json_write(&text, config);
    fd = memfd_create("vireo-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return error_errno(err, errno, "memfd_create");
    if (!file_write_all(fd, buf_str(&text), err))
        return false;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return error_errno(err, errno, "sealing the configuration");
    *ret_fd = TAKE_FD(fd);
    return true;
}

bool instance_config_read(struct arena *a, const struct json **ret, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};

    buf_init(&text, 1 << 20);
    if (lseek(INSTANCE_FD_CONFIG, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "configuration on descriptor %d: this verb is started by `vireo serve`",
                           INSTANCE_FD_CONFIG);
    if (!file_read_fd(INSTANCE_FD_CONFIG, &text, err))
        return false;
    close(INSTANCE_FD_CONFIG);
    return json_parse(buf_str(&text), a, ret, err);
}
