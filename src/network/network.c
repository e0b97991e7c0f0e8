/* The host's side: one bridge, one nft table, one directory; all named after the instance. */
#include "network/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "network/ruleset.h"

#define MTU_DEFAULT 1500

bool is_netns(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

void network_bridge_name(const char *instance, char ret[LINK_NAME])
{
    snprintf(ret, LINK_NAME, "vireo-%.8s", instance);
}

bool network_range_parse(const char *cidr, struct ip *ret, struct error *err)
{
    struct ip ip;

    if (!ip_parse_prefix(str_of(cidr), &ip, err))
        return error_wrap(err, "--pod-cidr");
    if (ip.family != AF_INET || ip.prefix < 8 || ip.prefix > 29)
        return error_set(err, ERROR_INVALID, "--pod-cidr %s: must be an IPv4 range between /8 and /29", cidr);
    *ret = ip_network(&ip);
    return true;
}

/* What else has the range */

struct overlap {
    const struct ip *pods;
    int own;          /* our bridge, or 0 */
    struct ip found;
    int link;
    bool address;
};

static bool check_address(void *user, int link, const struct ip *ip, bool global)
{
    struct overlap *o = user;

    (void)global;
    if (link == o->own || !ip_overlap(ip, o->pods))
        return true;
    o->found = *ip;
    o->link = link;
    o->address = true;
    return false;
}

/* Default routes are no claim on the range, nor are the two halves that VPNs use in their stead. */
static bool check_route(void *user, const struct route *r)
{
    struct overlap *o = user;

    if (r->type != RTN_UNICAST || r->table == RT_TABLE_LOCAL || r->dst.prefix <= 1 || (r->link && r->link == o->own)
        || !ip_overlap(&r->dst, o->pods))
        return true;
    o->found = r->dst;
    o->link = r->link;
    return false;
}

bool network_overlap(struct netlink *nl, const struct ip *pods, const char *bridge, struct error *err)
{
    struct overlap o = {.pods = pods, .own = (int)if_nametoindex(bridge)};
    char ours[IP_TEXT + 4], theirs[IP_TEXT + 4], name[IF_NAMESIZE] = "?";

    if (!address_each(nl, AF_INET, check_address, &o, err)
        || (!o.found.family && !route_each(nl, AF_INET, check_route, &o, err)))
        return false;
    if (!o.found.family)
        return true;
    if_indextoname((unsigned)o.link, name);
    ip_prefix_text(pods, ours);
    ip_prefix_text(&o.found, theirs);
    return error_set(err, ERROR_CONFLICT, "the range of pods %s overlaps %s (%s %s): choose another by --pod-cidr", ours, theirs,
                     o.address ? "address of" : "route by", name);
}

static bool any_address(void *user, int link, const struct ip *ip, bool global)
{
    struct overlap *o = user;

    (void)global;
    if (link == o->own && ip_overlap(ip, o->pods))
        o->found = *ip;
    return true;
}

/* A range in use is not given up because a VPN came up since: pods run on it, and `vireo stop` must work. */
static bool range_taken(struct network *n, struct error *err)
{
    AUTO(netlink_close_p) struct netlink *nl = netlink_open(err);
    struct overlap o = {.pods = &n->pods, .own = (int)if_nametoindex(n->bridge)};

    if (!nl)
        return false;
    if (o.own && !address_each(nl, AF_INET, any_address, &o, err))
        return false;
    return o.found.family || network_overlap(nl, &n->pods, n->bridge, err);
}

/* Life */

static bool valid_instance(const char *s)
{
    size_t n = strlen(s);

    return n >= 1 && n <= 8 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") == n;
}

static bool open_dir(struct network *n, int dirfd, struct error *err)
{
    char link[64], path[PATH_MAX];
    ssize_t len;

    if (!file_make_dirs(dirfd, "network", 0700, &n->dirfd, err))
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", n->dirfd);
    len = readlink(link, path, sizeof path);
    if (len < 0 || (size_t)len >= sizeof path)
        return error_errno(err, len < 0 ? errno : ENAMETOOLONG, "the data directory's path");
    n->dir = str_dup(str_n(path, (size_t)len));
    return true;
}

struct network *network_new(const struct network_config *c, struct error *err)
{
    struct network *n = NEW(struct network);

    n->loop = c->loop;
    n->dirfd = -1;
    n->instance = xstrdup(c->instance);
    n->cni_bin_dir = xstrdup(c->cni_bin_dir);
    if (!valid_instance(c->instance)) {
        error_set(err, ERROR_INTERNAL, "network: instance name '%s'", c->instance);
        goto failed;
    }
    network_bridge_name(c->instance, n->bridge);
    if (!network_range_parse(c->pod_cidr, &n->pods, err) || !range_taken(n, err) || !open_dir(n, c->dirfd, err))
        goto failed;
    n->gateway = ip_plus(&n->pods, 1);
    return n;
failed:
    network_free(n);
    return NULL;
}

void network_free(struct network *n)
{
    if (!n)
        return;
    fd_close(&n->dirfd);
    free(n->instance);
    free(n->cni_bin_dir);
    free(n->dir);
    free(n);
}

/* Set-up */

struct uplink {
    int link;
    unsigned mtu;
};

static bool find_default(void *user, const struct route *r)
{
    struct uplink *u = user;

    if (r->dst.prefix != 0 || r->type != RTN_UNICAST || r->table != RT_TABLE_MAIN || !r->link)
        return true;
    u->link = r->link;
    return false;
}

static bool find_mtu(void *user, const struct link *l)
{
    struct uplink *u = user;

    if (l->index != u->link)
        return true;
    u->mtu = l->mtu;
    return false;
}

/* Behind a VPN or a tunnel, packets of 1500 bytes would vanish. */
static bool choose_mtu(struct netlink *nl, unsigned *ret, struct error *err)
{
    struct uplink u = {.mtu = MTU_DEFAULT};

    if (!route_each(nl, AF_INET, find_default, &u, err) || (u.link && !link_each(nl, find_mtu, &u, err)))
        return false;
    *ret = u.mtu >= 1280 && u.mtu < MTU_DEFAULT ? u.mtu : MTU_DEFAULT;
    return true;
}

struct old_addresses {
    int link;
    struct ip ips[8];
    size_t n;
};

static bool collect_address(void *user, int link, const struct ip *ip, bool global)
{
    struct old_addresses *o = user;

    (void)global;
    if (link == o->link && o->n < ARRAY_SIZE(o->ips))
        o->ips[o->n++] = *ip;
    return true;
}

/* Each pod's record: fn gets its parsed form. */
static bool each_record(struct network *n, bool (*fn)(void *user, const struct json *record, struct error *err), void *user,
                        struct error *err)
{
    int fd = -1;
    DIR *d;
    bool ok = true;

    if (!file_exists(n->dirfd, RECORDS))
        return true;
    if (!file_open_dir(n->dirfd, RECORDS, &fd, err))
        return false;
    d = fdopendir(fd);
    if (!d) {
        fd_close(&fd);
        return error_errno(err, errno, "network/" RECORDS);
    }
    for (struct dirent *e = readdir(d); e && ok; e = readdir(d)) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(buf_done) struct buf text = {0};
        AUTO(error_clear) struct error why = {0};
        const struct json *record;

        if (!str_ends(str_of(e->d_name), STR(".json")))
            continue;
        buf_init(&text, 16384);
        /* One that a crash cut short is repeated by its pod's next attempt. */
        if (file_read(dirfd(d), e->d_name, &text, &why) && json_parse(buf_str(&text), &a, &record, &why))
            ok = fn(user, record, err);
    }
    closedir(d);
    return ok;
}

static bool one_exists(void *user, const struct json *record, struct error *err)
{
    (void)record;
    (void)err;
    *(bool *)user = true;
    return true;
}

static bool set_gateway(struct network *n, struct netlink *nl, int bridge, struct error *err)
{
    struct old_addresses old = {.link = bridge};
    bool pods = false;

    if (!address_each(nl, AF_INET, collect_address, &old, err))
        return false;
    for (size_t i = 0; i < old.n; i++) {
        char was[IP_TEXT + 4], now[IP_TEXT + 4];

        if (ip_same(&old.ips[i], &n->gateway) && old.ips[i].prefix == n->gateway.prefix)
            continue;
        ip_prefix_text(&old.ips[i], was);
        ip_prefix_text(&n->gateway, now);
        if (!each_record(n, one_exists, &pods, err))
            return false;
        if (pods)
            return error_set(err, ERROR_CONFLICT, "pods run with gateway %s, --pod-cidr now means %s: run `vireo stop --all` first",
                             was, now);
        if (!address_remove(nl, bridge, &old.ips[i], err))
            return false;
    }
    return address_add(nl, bridge, &n->gateway, err);
}

struct reattach {
    struct netlink *nl;
    int bridge;
};

/* Someone may have removed the bridge under running pods; their cables are still there. */
static bool reattach(void *user, const struct json *record, struct error *err)
{
    struct reattach *r = user;
    AUTO(error_clear) struct error why = {0};
    struct str veth = json_str_at(record, "veth");
    char name[LINK_NAME] = {0};
    struct link l;

    if (veth.n == 0 || veth.n >= sizeof name)
        return true;
    memcpy(name, veth.p, veth.n);
    if (!link_get(r->nl, name, &l, &why) || l.master == r->bridge)
        return true;
    return link_set(r->nl, l.index, &(struct link_change){.master = r->bridge, .state = LINK_UP}, err);
}

static bool make_bridge(struct network *n, struct error *err)
{
    AUTO(netlink_close_p) struct netlink *nl = netlink_open(err);
    AUTO_FREE char *accept_ra = xasprintf("net/ipv6/conf/%s/accept_ra", n->bridge);
    AUTO(error_clear) struct error no_ipv6 = {0};
    uint64_t hash = str_hash(str_of(n->bridge));
    uint8_t mac[6] = {0x02, 0x76};
    struct link l;
    AUTO(error_clear) struct error absent = {0};

    if (!nl || !choose_mtu(nl, &n->mtu, err))
        return false;
    /* A bridge without an address of its own takes its least port's, and changes it with every pod: guests would keep the old
     * one in their ARP tables. */
    memcpy(mac + 2, &hash, 4);
    if (link_get(nl, n->bridge, &l, &absent))
        memcpy(mac, l.mac, 6);
    if (!link_make(nl, n->bridge, "bridge", &(struct link_change){.mac = mac, .mtu = n->mtu, .state = LINK_UP}, &l, err)
        || !set_gateway(n, nl, l.index, err) || !each_record(n, reattach, &(struct reattach){nl, l.index}, err))
        return false;
    if (!sysctl_set(accept_ra, "0", &no_ipv6))
        error_clear(&no_ipv6); /* a kernel without IPv6 */
    return true;
}

bool network_setup(struct network *n, struct error *err)
{
    AUTO(buf_done) struct buf rules = {0};
    int fd = -1;

    if (!file_make_dirs(n->dirfd, RECORDS, 0700, &fd, err))
        return false;
    fd_close(&fd);
    if (!file_make_dirs(n->dirfd, "ipam", 0700, &fd, err))
        return false;
    fd_close(&fd);
    if (!make_bridge(n, err))
        return error_wrap(err, "bridge %s", n->bridge);
    if (!sysctl_set("net/ipv4/ip_forward", "1", err))
        return error_wrap(err, "VMs need IP forwarding");
    ruleset_host(&rules, n->bridge, &n->pods);
    return ruleset_apply(buf_str(&rules), err);
}

/* Teardown */

static bool unmount(void *user, const struct json *record, struct error *err)
{
    AUTO_FREE char *path = str_dup(json_str_at(record, "netns"));

    (void)user;
    if (path && is_netns(path) && umount2(path, MNT_DETACH) < 0)
        return error_errno(err, errno, "unmount %s", path);
    return true;
}

struct ports {
    int bridge, links[1024];
    size_t n;
};

static bool collect_port(void *user, const struct link *l)
{
    struct ports *p = user;

    if (l->master == p->bridge && strcmp(l->kind, "veth") == 0 && p->n < ARRAY_SIZE(p->links))
        p->links[p->n++] = l->index;
    return true;
}

static bool remove_links(struct network *n, struct error *err)
{
    AUTO(netlink_close_p) struct netlink *nl = netlink_open(err);
    AUTO(error_clear) struct error absent = {0};
    struct link bridge;
    struct ports p;

    if (!nl)
        return false;
    if (!link_get(nl, n->bridge, &bridge, &absent))
        return absent.kind == ERROR_NOT_FOUND || error_move(err, &absent);
    p.bridge = bridge.index;
    do {
        p.n = 0;
        if (!link_each(nl, collect_port, &p, err))
            return false;
        for (size_t i = 0; i < p.n; i++)
            if (!link_remove(nl, p.links[i], err))
                return false;
    } while (p.n > 0);
    return link_remove(nl, bridge.index, err);
}

bool network_teardown(struct network *n, struct error *err)
{
    AUTO(buf_done) struct buf rules = {0};

    ruleset_host_remove(&rules, n->bridge);
    return each_record(n, unmount, NULL, err) && remove_links(n, err) && ruleset_apply(buf_str(&rules), err)
           && file_remove_tree(n->dirfd, RECORDS, err) && file_remove_tree(n->dirfd, "ipam", err);
}
