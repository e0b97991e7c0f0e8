/* A pod's attachment, made by the CNI plugins bridge and host-local in a forked child. Its record (internal.h) answers repeats
 * after a restart without a plugin, and is not flushed to disk: what it describes does not survive a power cut either. */
#include "network/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "loop/child.h"
#include "network/worker.h"

#define PLUGIN_TIMEOUT SECONDS(20)
#define PLUGIN_OUTPUT  65536
#define NIC            "eth0"

struct pod_job {
    struct network *n;
    const char *uid, *ns, *name, *netns;
};

static bool valid_uid(const char *uid)
{
    size_t n = strlen(uid);

    return n >= 1 && n <= 64
           && strspn(uid, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == n;
}

/* Records */

static const struct json *record_read(const struct pod_job *j, struct arena *a)
{
    AUTO_FREE char *path = xasprintf(RECORDS "/%s.json", j->uid);
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    buf_init(&text, 16384);
    if (!file_read(j->n->dirfd, path, &text, &err))
        return NULL;
    return json_parse(buf_str(&text), a, &v, &err) ? v : json_object(a, NULL);
}

static bool record_write(const struct pod_job *j, const struct json *record, struct error *err)
{
    AUTO_FREE char *path = xasprintf(RECORDS "/%s.json", j->uid), *temporary = xasprintf(RECORDS "/%s.new", j->uid);
    AUTO(buf_done) struct buf text = {0};
    AUTO_CLOSE int fd = -1;

    json_write(&text, record);
    if (!file_open_beneath(j->n->dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, err)
        || !file_write_all(fd, buf_str(&text), err))
        return false;
    return renameat(j->n->dirfd, temporary, j->n->dirfd, path) == 0 || error_errno(err, errno, "network/%s", path);
}

static bool record_remove(const struct pod_job *j, struct error *err)
{
    AUTO_FREE char *path = xasprintf(RECORDS "/%s.json", j->uid);

    return unlinkat(j->n->dirfd, path, 0) == 0 || errno == ENOENT || error_errno(err, errno, "network/%s", path);
}

/* Plugins */

static const struct json *plugin_config(const struct network *n, struct arena *a)
{
    char range[IP_TEXT + 4];

    ip_prefix_text(&n->pods, range);
    const struct json *subnet = json_object(a, "subnet", json_new_z(a, range), NULL);
    const struct json *ipam = json_object(
        a, "type", json_new_z(a, "host-local"), "dataDir", json_new_f(a, "%s/ipam", n->dir), "ranges",
        json_array(a, json_array(a, subnet, NULL), NULL), "routes",
        json_array(a, json_object(a, "dst", json_new_z(a, "0.0.0.0/0"), NULL), NULL), NULL);

    /* The bridge, its address and the masquerading are ours; stock ipMasq would cost another 30 ms of iptables. */
    return json_object(a, "cniVersion", json_new_z(a, "0.4.0"), "name", json_new_z(a, n->bridge), "type",
                       json_new_z(a, "bridge"), "bridge", json_new_z(a, n->bridge), "isGateway", json_new_bool(false), "ipMasq",
                       json_new_bool(false), "mtu", json_new_i64(a, n->mtu ? n->mtu : 1500), "ipam", ipam, NULL);
}

struct plugin_run {
    struct child child;
    bool over;
};

static void plugin_ended(struct child *c)
{
    container_of(c, struct plugin_run, child)->over = true;
}

/* CNI plugins tell their errors on stdout: {"code":…,"msg":…,"details":…} */
static bool plugin_error(const struct plugin_run *p, struct arena *a, struct error *err)
{
    AUTO(buf_done) struct buf how = {0};
    AUTO(error_clear) struct error why = {0};
    const struct json *v;

    if (json_parse(buf_str(&p->child.out), a, &v, &why) && json_str_at(v, "msg").n > 0)
        return error_set(err, ERROR_UNAVAILABLE, "CNI bridge: " STR_FMT "%s" STR_FMT, STR_ARG(json_str_at(v, "msg")),
                         json_str_at(v, "details").n ? ": " : "", STR_ARG(json_str_at(v, "details")));
    child_describe(p->child.status, buf_str(&p->child.err_out), &how);
    return error_set(err, ERROR_INTERNAL, "CNI bridge: " STR_FMT, STR_ARG(buf_str(&how)));
}

static bool run_plugin(const struct pod_job *j, const char *command, struct arena *a, const struct json **ret, struct error *err)
{
    const struct network *n = j->n;
    AUTO(buf_done) struct buf input = {0};
    struct plugin_run p = {0};
    struct loop *l = loop_new(NULL);
    const char *plugin = arena_printf(a, "%s/bridge", n->cni_bin_dir);
    const char *env[] = {
        arena_printf(a, "CNI_COMMAND=%s", command),
        arena_printf(a, "CNI_CONTAINERID=%s", j->uid),
        arena_printf(a, "CNI_NETNS=%s", is_netns(j->netns) ? j->netns : ""),
        "CNI_IFNAME=" NIC,
        arena_printf(a, "CNI_PATH=%s", n->cni_bin_dir),
        arena_printf(a, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_INFRA_CONTAINER_ID=%s;K8S_POD_UID=%s",
                     j->ns ? j->ns : "", j->name ? j->name : "", j->uid, j->uid),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        NULL,
    };
    struct child_spec spec = {.argv = (const char *const[]){plugin, NULL}, .env = env, .capture_limit = PLUGIN_OUTPUT,
                              .die_with_parent = true};
    int64_t until = loop_now_ns(l) + PLUGIN_TIMEOUT;
    bool ok = false;

    json_write(&input, plugin_config(n, a));
    spec.input = buf_str(&input);
    if (!child_start(l, &p.child, &spec, plugin_ended, err)) {
        if (err->kind == ERROR_NOT_FOUND)
            error_set(err, ERROR_UNAVAILABLE, "%s is missing: apt install containernetworking-plugins, or say where by --cni-dir",
                      plugin);
        goto done;
    }
    while (!p.over && loop_now_ns(l) < until)
        loop_turn(l, until - loop_now_ns(l));
    if (!p.over) {
        child_kill(&p.child, SIGKILL);
        error_set(err, ERROR_TIMEOUT, "CNI bridge: %s took longer than 20 s", command);
    } else if (!child_ok(p.child.status)) {
        plugin_error(&p, a, err);
    } else {
        ok = !ret || json_parse(buf_str(&p.child.out), a, ret, err) || error_wrap(err, "CNI bridge: its result");
    }
done:
    child_done(&p.child);
    loop_free(l);
    return ok;
}

/* {"interfaces":[{"name","mac","sandbox"}…],"ips":[{"interface":2,"address":"10.88.0.2/16","gateway":"10.88.0.1"}]} */
static bool read_result(const struct pod_job *j, const struct json *result, struct arena *a, const struct json **ret,
                        struct error *err)
{
    const struct json *address = json_item(json_get(result, "ips"), 0), *mac = NULL, *veth = NULL;
    char ip_only[IP_TEXT];
    struct ip ip;

    json_each_item(i, json_get(result, "interfaces")) {
        if (json_str_at(i, "sandbox").n > 0 && str_is(json_str_at(i, "name"), NIC))
            mac = json_get(i, "mac");
        else if (str_starts(json_str_at(i, "name"), STR("veth")))
            veth = json_get(i, "name");
    }
    if (!ip_parse_prefix(json_str_at(address, "address"), &ip, err) || !mac)
        return error_set(err, ERROR_INTERNAL, "CNI bridge: its result has no address or no " NIC);
    ip_text(&ip, ip_only);
    *ret = json_object(a, "netns", json_new_z(a, j->netns), "veth", veth, "ip", json_new_z(a, ip_only), "prefix",
                       json_new_i64(a, ip.prefix), "gateway", json_get(address, "gateway"), "mac", mac, "mtu",
                       json_new_i64(a, j->n->mtu ? j->n->mtu : 1500), NULL);
    return true;
}

/* The namespace */

static bool lo_up(struct error *err)
{
    AUTO(netlink_close_p) struct netlink *nl = netlink_open(err);

    return nl && link_set(nl, 1, &(struct link_change){.state = LINK_UP}, err);
}

static bool make_netns(const char *path, struct error *err)
{
    AUTO_CLOSE int host = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    bool ok;

    if (host < 0 || unshare(CLONE_NEWNET) < 0)
        return error_errno(err, errno, "make a network namespace");
    ok = lo_up(err);
    if (ok && mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) < 0)
        ok = error_errno(err, errno, "mount a network namespace on %s", path);
    /* Plugins are started from the host's. */
    if (setns(host, CLONE_NEWNET) < 0)
        return error_errno(err, errno, "return to the host's network namespace");
    return ok;
}

/* Whatever a predecessor left, complete or not. */
static bool remove_pod(const struct pod_job *j, bool known, struct arena *a, struct error *err)
{
    if (known && !run_plugin(j, "DEL", a, NULL, err))
        return false;
    if (is_netns(j->netns) && umount2(j->netns, MNT_DETACH) < 0)
        return error_errno(err, errno, "unmount %s", j->netns);
    return record_remove(j, err);
}

static bool add_pod(const struct pod_job *j, struct worker_report *r, struct error *err)
{
    const struct json *record = record_read(j, r->a), *result;

    if (json_get(record, "ip") && str_is(json_str_at(record, "netns"), j->netns) && is_netns(j->netns)) {
        r->json = record;
        return true;
    }
    if ((record || is_netns(j->netns)) && !remove_pod(j, record != NULL, r->a, err))
        return false;
    return record_write(j, json_object(r->a, "netns", json_new_z(r->a, j->netns), NULL), err) && make_netns(j->netns, err)
           && run_plugin(j, "ADD", r->a, &result, err) && read_result(j, result, r->a, &r->json, err)
           && record_write(j, r->json, err);
}

static bool add_in_child(void *job, struct worker_report *r, struct error *err)
{
    const struct pod_job *j = job;
    AUTO(error_clear) struct error ignored = {0};

    if (!valid_uid(j->uid))
        return error_set(err, ERROR_BAD_REQUEST, "pod uid '%.70s'", j->uid);
    if (add_pod(j, r, err))
        return true;
    error_wrap(err, "network of pod %s/%s", j->ns ? j->ns : "", j->name ? j->name : "");
    return remove_pod(j, true, r->a, &ignored) && false; /* a lease must not stay behind; the first error is what counts */
}

static bool del_in_child(void *job, struct worker_report *r, struct error *err)
{
    const struct pod_job *j = job;

    if (!valid_uid(j->uid))
        return error_set(err, ERROR_BAD_REQUEST, "pod uid '%.70s'", j->uid);
    return remove_pod(j, record_read(j, r->a) != NULL, r->a, err);
}

/* In the parent */

struct pod_call {
    void (*added)(void *user, const struct network_pod *p, const struct error *err);
    void (*removed)(void *user, const struct error *err);
    void *user;
};

static void copy_text(struct str s, char *to, size_t size)
{
    snprintf(to, size, STR_FMT, STR_ARG(s));
}

static void finished(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    struct pod_call *c = user;
    struct network_pod p = {0};
    const struct error none = {0};

    (void)fds;
    (void)n_fds;
    if (c->removed) {
        c->removed(c->user, err ? err : &none);
    } else if (err) {
        c->added(c->user, NULL, err);
    } else {
        copy_text(json_str_at(ok, "ip"), p.ip, sizeof p.ip);
        copy_text(json_str_at(ok, "gateway"), p.gateway, sizeof p.gateway);
        copy_text(json_str_at(ok, "mac"), p.mac, sizeof p.mac);
        p.prefix = (unsigned)json_i64_at(ok, "prefix", 0);
        p.mtu = (unsigned)json_i64_at(ok, "mtu", 0);
        c->added(c->user, &p, &none);
    }
    free(c);
}

void network_pod_add(struct network *n, const char *pod_uid, const char *ns, const char *name, const char *netns_path,
                     void (*done)(void *, const struct network_pod *, const struct error *), void *user)
{
    struct pod_job job = {.n = n, .uid = pod_uid, .ns = ns, .name = name, .netns = netns_path};
    struct pod_call *c = NEW(struct pod_call);

    c->added = done;
    c->user = user;
    worker_start(n->loop, add_in_child, &job, finished, c);
}

void network_pod_del(struct network *n, const char *pod_uid, const char *netns_path,
                     void (*done)(void *, const struct error *), void *user)
{
    struct pod_job job = {.n = n, .uid = pod_uid, .netns = netns_path};
    struct pod_call *c = NEW(struct pod_call);

    c->removed = done;
    c->user = user;
    worker_start(n->loop, del_in_child, &job, finished, c);
}
