#include "network/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#define REQUEST_MAX 1024 /* names and addresses only: the largest, with an alias, takes about 400 */
#define ANSWER_MAX  32768

struct netlink {
    struct mnl_socket *socket;
    unsigned seq;
    char answer[ANSWER_MAX];
};

struct netlink *netlink_open(struct error *err)
{
    struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    struct netlink *nl;

    if (!s) {
        error_errno(err, errno, "netlink socket");
        return NULL;
    }
    if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
        error_errno(err, errno, "netlink socket");
        mnl_socket_close(s);
        return NULL;
    }
    nl = NEW(struct netlink);
    nl->socket = s;
    return nl;
}

void netlink_close(struct netlink *nl)
{
    if (!nl)
        return;
    mnl_socket_close(nl->socket);
    free(nl);
}

void netlink_close_p(struct netlink **nl)
{
    netlink_close(*nl);
    *nl = NULL;
}

/* Sends m and reads to the end of the answer. Errors come back by errno. */
static bool talk(struct netlink *nl, struct nlmsghdr *m, mnl_cb_t each, void *data)
{
    unsigned port = mnl_socket_get_portid(nl->socket);
    int more = MNL_CB_OK;

    m->nlmsg_seq = ++nl->seq;
    m->nlmsg_flags |= NLM_F_REQUEST;
    if (mnl_socket_sendto(nl->socket, m, m->nlmsg_len) < 0)
        return false;
    while (more > MNL_CB_STOP) {
        ssize_t n = mnl_socket_recvfrom(nl->socket, nl->answer, sizeof nl->answer);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        more = mnl_cb_run(nl->answer, (size_t)n, nl->seq, port, each, data);
    }
    return more >= 0;
}

static bool change(struct netlink *nl, struct nlmsghdr *m)
{
    m->nlmsg_flags |= NLM_F_ACK;
    return talk(nl, m, NULL, NULL);
}

/* Reading */

static void text_of(const struct nlattr *at, char *ret, size_t size)
{
    const char *p = mnl_attr_get_payload(at);
    size_t n = strnlen(p, mnl_attr_get_payload_len(at));

    if (n >= size)
        n = size - 1;
    memcpy(ret, p, n);
    ret[n] = 0;
}

static uint32_t u32_of(const struct nlattr *at)
{
    return mnl_attr_get_payload_len(at) >= sizeof(uint32_t) ? mnl_attr_get_u32(at) : 0;
}

static bool address_of(const struct nlattr *at, int family, struct ip *ret)
{
    unsigned n = family == AF_INET6 ? 16 : 4;

    if ((family != AF_INET && family != AF_INET6) || mnl_attr_get_payload_len(at) < n)
        return false;
    *ret = (struct ip){.family = family, .prefix = n * 8};
    memcpy(ret->b, mnl_attr_get_payload(at), n);
    return true;
}

static void read_link(const struct nlmsghdr *m, struct link *l)
{
    const struct ifinfomsg *i = mnl_nlmsg_get_payload(m);
    const struct nlattr *at, *inner;

    *l = (struct link){.index = i->ifi_index, .flags = i->ifi_flags};
    mnl_attr_for_each(at, m, sizeof *i)
    {
        switch (mnl_attr_get_type(at)) {
        case IFLA_IFNAME: text_of(at, l->name, sizeof l->name); break;
        case IFLA_IFALIAS: text_of(at, l->alias, sizeof l->alias); break;
        case IFLA_MTU: l->mtu = u32_of(at); break;
        case IFLA_MASTER: l->master = (int)u32_of(at); break;
        case IFLA_ADDRESS:
            if (mnl_attr_get_payload_len(at) == 6)
                memcpy(l->mac, mnl_attr_get_payload(at), 6);
            break;
        case IFLA_LINKINFO:
            mnl_attr_for_each_nested(inner, at)
            {
                if (mnl_attr_get_type(inner) == IFLA_INFO_KIND)
                    text_of(inner, l->kind, sizeof l->kind);
            }
            break;
        }
    }
}

static int take_link(const struct nlmsghdr *m, void *data)
{
    if (m->nlmsg_type == RTM_NEWLINK)
        read_link(m, data);
    return MNL_CB_OK;
}

bool link_get(struct netlink *nl, const char *name, struct link *ret, struct error *err)
{
    char request[REQUEST_MAX] = {0};
    struct nlmsghdr *m = mnl_nlmsg_put_header(request);
    struct ifinfomsg *i;
    struct link l = {0};

    if (strlen(name) >= LINK_NAME)
        return error_set(err, ERROR_INTERNAL, "interface name %s is too long", name);
    m->nlmsg_type = RTM_GETLINK;
    m->nlmsg_flags = NLM_F_ACK;
    i = mnl_nlmsg_put_extra_header(m, sizeof *i);
    i->ifi_family = AF_UNSPEC;
    mnl_attr_put_strz(m, IFLA_IFNAME, name);
    if (!talk(nl, m, take_link, &l)) {
        if (errno == ENODEV)
            return error_set(err, ERROR_NOT_FOUND, "no interface %s", name);
        return error_errno(err, errno, "interface %s", name);
    }
    *ret = l;
    return true;
}

struct visit {
    union {
        bool (*link)(void *, const struct link *);
        bool (*address)(void *, int, const struct ip *, bool);
        bool (*route)(void *, const struct route *);
    };
    void *user;
    bool stopped; /* the rest of the dump has to be read all the same */
};

static int visit_link(const struct nlmsghdr *m, void *data)
{
    struct visit *v = data;
    struct link l;

    if (m->nlmsg_type != RTM_NEWLINK || v->stopped)
        return MNL_CB_OK;
    read_link(m, &l);
    v->stopped = !v->link(v->user, &l);
    return MNL_CB_OK;
}

static int visit_address(const struct nlmsghdr *m, void *data)
{
    const struct ifaddrmsg *i = mnl_nlmsg_get_payload(m);
    struct visit *v = data;
    const struct nlattr *at;
    struct ip ip = {0};
    bool local = false;

    if (m->nlmsg_type != RTM_NEWADDR || v->stopped)
        return MNL_CB_OK;
    /* On a point-to-point link IFA_ADDRESS is the peer's. */
    mnl_attr_for_each(at, m, sizeof *i)
    {
        if (mnl_attr_get_type(at) == IFA_LOCAL)
            local = address_of(at, i->ifa_family, &ip);
        else if (mnl_attr_get_type(at) == IFA_ADDRESS && !local)
            address_of(at, i->ifa_family, &ip);
    }
    if (!ip.family)
        return MNL_CB_OK;
    ip.prefix = i->ifa_prefixlen;
    v->stopped = !v->address(v->user, (int)i->ifa_index, &ip, i->ifa_scope == RT_SCOPE_UNIVERSE);
    return MNL_CB_OK;
}

static int visit_route(const struct nlmsghdr *m, void *data)
{
    const struct rtmsg *i = mnl_nlmsg_get_payload(m);
    struct visit *v = data;
    const struct nlattr *at;
    struct route r = {.table = i->rtm_table, .type = i->rtm_type, .dst = {.family = i->rtm_family}};

    if (m->nlmsg_type != RTM_NEWROUTE || v->stopped)
        return MNL_CB_OK;
    mnl_attr_for_each(at, m, sizeof *i)
    {
        switch (mnl_attr_get_type(at)) {
        case RTA_DST: address_of(at, i->rtm_family, &r.dst); break;
        case RTA_GATEWAY: address_of(at, i->rtm_family, &r.gateway); break;
        case RTA_OIF: r.link = (int)u32_of(at); break;
        case RTA_TABLE: r.table = u32_of(at); break;
        }
    }
    r.dst.prefix = i->rtm_dst_len;
    v->stopped = !v->route(v->user, &r);
    return MNL_CB_OK;
}

static bool dump(struct netlink *nl, uint16_t type, int family, mnl_cb_t fn, struct visit *v, struct error *err)
{
    char request[REQUEST_MAX] = {0};
    struct nlmsghdr *m = mnl_nlmsg_put_header(request);
    struct rtmsg *i; /* the largest of the three headers; the family is first in each */

    m->nlmsg_type = type;
    m->nlmsg_flags = NLM_F_DUMP;
    i = mnl_nlmsg_put_extra_header(m, sizeof *i + 4);
    i->rtm_family = (unsigned char)family;
    return talk(nl, m, fn, v) || error_errno(err, errno, "netlink dump");
}

bool link_each(struct netlink *nl, bool (*fn)(void *, const struct link *), void *user, struct error *err)
{
    return dump(nl, RTM_GETLINK, AF_UNSPEC, visit_link, &(struct visit){.link = fn, .user = user}, err);
}

bool address_each(struct netlink *nl, int family, bool (*fn)(void *, int, const struct ip *, bool), void *user,
                  struct error *err)
{
    return dump(nl, RTM_GETADDR, family, visit_address, &(struct visit){.address = fn, .user = user}, err);
}

bool route_each(struct netlink *nl, int family, bool (*fn)(void *, const struct route *), void *user, struct error *err)
{
    return dump(nl, RTM_GETROUTE, family, visit_route, &(struct visit){.route = fn, .user = user}, err);
}

/* Writing */

static struct ifinfomsg *link_message(char *request, uint16_t type, uint16_t flags, struct nlmsghdr **ret)
{
    struct nlmsghdr *m = mnl_nlmsg_put_header(request);
    struct ifinfomsg *i;

    m->nlmsg_type = type;
    m->nlmsg_flags = flags;
    i = mnl_nlmsg_put_extra_header(m, sizeof *i);
    i->ifi_family = AF_UNSPEC;
    *ret = m;
    return i;
}

static void put_change(struct nlmsghdr *m, struct ifinfomsg *i, const struct link_change *c)
{
    if (c->name)
        mnl_attr_put_strz(m, IFLA_IFNAME, c->name);
    if (c->mac)
        mnl_attr_put(m, IFLA_ADDRESS, 6, c->mac);
    if (c->mtu)
        mnl_attr_put_u32(m, IFLA_MTU, c->mtu);
    if (c->master)
        mnl_attr_put_u32(m, IFLA_MASTER, (uint32_t)c->master);
    if (c->alias)
        mnl_attr_put_str(m, IFLA_IFALIAS, c->alias);
    if (c->state != LINK_KEEP) {
        i->ifi_change = IFF_UP;
        i->ifi_flags = c->state == LINK_UP ? IFF_UP : 0;
    }
}

static bool fits(const struct link_change *c, struct error *err)
{
    if ((c->name && strlen(c->name) >= LINK_NAME) || (c->alias && strlen(c->alias) > 255))
        return error_set(err, ERROR_INTERNAL, "interface name or alias is too long");
    return true;
}

bool link_make(struct netlink *nl, const char *name, const char *kind, const struct link_change *c, struct link *ret,
               struct error *err)
{
    char request[REQUEST_MAX] = {0};
    struct link_change named = *c;
    struct ifinfomsg *i;
    struct nlmsghdr *m;
    struct nlattr *nest;
    bool made;

    named.name = name;
    if (!fits(&named, err))
        return false;
    i = link_message(request, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &m);
    put_change(m, i, &named);
    nest = mnl_attr_nest_start(m, IFLA_LINKINFO);
    mnl_attr_put_strz(m, IFLA_INFO_KIND, kind);
    mnl_attr_nest_end(m, nest);
    made = change(nl, m);
    if (!made && errno != EEXIST)
        return error_errno(err, errno, "make %s %s", kind, name);
    if (!link_get(nl, name, ret, err))
        return false;
    if (strcmp(ret->kind, kind) != 0)
        return error_set(err, ERROR_CONFLICT, "interface %s exists and is no %s: remove it", name, kind);
    return made || link_set(nl, ret->index, c, err);
}

bool link_set(struct netlink *nl, int index, const struct link_change *c, struct error *err)
{
    char request[REQUEST_MAX] = {0};
    struct ifinfomsg *i;
    struct nlmsghdr *m;

    if (!fits(c, err))
        return false;
    i = link_message(request, RTM_NEWLINK, 0, &m);
    i->ifi_index = index;
    put_change(m, i, c);
    return change(nl, m) || error_errno(err, errno, "change interface %d", index);
}

bool link_remove(struct netlink *nl, int index, struct error *err)
{
    char request[REQUEST_MAX] = {0};
    struct ifinfomsg *i;
    struct nlmsghdr *m;

    i = link_message(request, RTM_DELLINK, 0, &m);
    i->ifi_index = index;
    return change(nl, m) || errno == ENODEV || error_errno(err, errno, "remove interface %d", index);
}

bool link_no_learning(struct netlink *nl, int index, struct error *err)
{
    char request[REQUEST_MAX] = {0};
    struct ifinfomsg *i;
    struct nlmsghdr *m;
    struct nlattr *nest;

    i = link_message(request, RTM_SETLINK, 0, &m);
    i->ifi_family = AF_BRIDGE;
    i->ifi_index = index;
    nest = mnl_attr_nest_start(m, IFLA_PROTINFO);
    mnl_attr_put_u8(m, IFLA_BRPORT_LEARNING, 0);
    mnl_attr_nest_end(m, nest);
    return change(nl, m) || error_errno(err, errno, "bridge port %d: learning off", index);
}

static struct nlmsghdr *address_message(char *request, uint16_t type, uint16_t flags, int link, const struct ip *ip)
{
    struct nlmsghdr *m = mnl_nlmsg_put_header(request);
    struct ifaddrmsg *i;

    m->nlmsg_type = type;
    m->nlmsg_flags = flags;
    i = mnl_nlmsg_put_extra_header(m, sizeof *i);
    i->ifa_family = (unsigned char)ip->family;
    i->ifa_prefixlen = (unsigned char)ip->prefix;
    i->ifa_index = (unsigned)link;
    /* Nobody else is on these links, so there is nothing to wait for. */
    i->ifa_flags = ip->family == AF_INET6 ? IFA_F_NODAD : 0;
    mnl_attr_put(m, IFA_LOCAL, ip_bits(ip) / 8, ip->b);
    mnl_attr_put(m, IFA_ADDRESS, ip_bits(ip) / 8, ip->b);
    return m;
}

bool address_add(struct netlink *nl, int link, const struct ip *ip, struct error *err)
{
    char request[REQUEST_MAX] = {0}, text[IP_TEXT + 4];

    if (change(nl, address_message(request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link, ip)) || errno == EEXIST)
        return true;
    int saved = errno;
    ip_prefix_text(ip, text);
    return error_errno(err, saved, "address %s on interface %d", text, link);
}

bool address_remove(struct netlink *nl, int link, const struct ip *ip, struct error *err)
{
    char request[REQUEST_MAX] = {0}, text[IP_TEXT + 4];

    if (change(nl, address_message(request, RTM_DELADDR, 0, link, ip)) || errno == EADDRNOTAVAIL)
        return true;
    int saved = errno;
    ip_prefix_text(ip, text);
    return error_errno(err, saved, "remove address %s from interface %d", text, link);
}

bool sysctl_is(const char *path, const char *value)
{
    AUTO_FREE char *full = xasprintf("/proc/sys/%s", path);
    AUTO_CLOSE int fd = open(full, O_RDONLY | O_CLOEXEC);
    char now[64];
    ssize_t n = fd < 0 ? -1 : read(fd, now, sizeof now);

    return n > 0 && str_is(str_trim(str_n(now, (size_t)n)), value);
}

bool sysctl_set(const char *path, const char *value, struct error *err)
{
    AUTO_FREE char *full = xasprintf("/proc/sys/%s", path);
    AUTO_CLOSE int fd = -1;

    if (sysctl_is(path, value))
        return true;
    fd = open(full, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return error_errno(err, errno, "sysctl %s = %s", path, value);
    return true;
}
