#include "network/binding.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"

void binding_done(struct binding *b)
{
    for (size_t i = 0; i < b->n_taps; i++)
        fd_close(&b->taps[i]);
    b->n_taps = 0;
    fd_close(&b->dhcp_fd);
}

/* Taps and sockets */

/* Persistent, so that it outlives the agent that made it; owned, so that nobody else in the pod may take it. A tap that a
 * running machine holds is left to it. */
static bool open_taps(const struct binding_spec *s, struct binding *b, struct error *err)
{
    struct ifreq r = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (s->queues > 1 ? IFF_MULTI_QUEUE : 0))};
    unsigned queues = s->queues > BINDING_MAX_TAPS ? BINDING_MAX_TAPS : s->queues;

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", s->tap);
    for (unsigned i = 0; i < queues; i++) {
        AUTO_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0)
            return error_errno(err, errno, "open /dev/net/tun (modprobe tun?)");
        if (ioctl(fd, TUNSETIFF, &r) < 0) {
            if (errno == EBUSY && i == 0)
                return true;
            return error_errno(err, errno, "tap %s", s->tap);
        }
        if (ioctl(fd, TUNSETOWNER, (unsigned long)s->owner) < 0 || ioctl(fd, TUNSETPERSIST, 1UL) < 0)
            return error_errno(err, errno, "tap %s", s->tap);
        b->taps[b->n_taps++] = TAKE_FD(fd);
    }
    return true;
}

static bool attach_tap(struct netlink *nl, const struct binding_spec *s, int bridge, struct binding *b, struct error *err)
{
    struct link tap;

    return open_taps(s, b, err) && link_get(nl, s->tap, &tap, err)
           && link_set(nl, tap.index, &(struct link_change){.master = bridge, .mtu = b->mtu, .state = LINK_UP}, err);
}

/* Not for a machine that runs: its launcher has one already, and two would answer every request twice. */
static bool open_dhcp(const struct binding_spec *s, struct binding *b, struct error *err)
{
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(67)};
    AUTO_CLOSE int fd = -1;
    int on = 1;

    if (!b->server.family || b->n_taps == 0)
        return true;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
        || setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) < 0
        || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, s->bridge, (socklen_t)strlen(s->bridge)) < 0
        || bind(fd, (const struct sockaddr *)&any, sizeof any) < 0)
        return error_errno(err, errno, "DHCP socket on %s", s->bridge);
    b->dhcp_fd = TAKE_FD(fd);
    return true;
}

/* What the pod's NIC has */

struct survey {
    int link;
    struct binding *b;
    bool overflow;
};

static bool note_address(void *user, int link, const struct ip *ip, bool global)
{
    struct survey *s = user;

    if (link != s->link || !global)
        return true;
    if (s->b->n_ips == ARRAY_SIZE(s->b->ips))
        s->overflow = true;
    else
        s->b->ips[s->b->n_ips++] = *ip;
    return true;
}

static bool note_route(void *user, const struct route *r)
{
    struct survey *s = user;
    struct binding *b = s->b;

    if (r->link != s->link || r->table != RT_TABLE_MAIN || r->type != RTN_UNICAST)
        return true;
    for (size_t i = 0; i < b->n_ips && !r->gateway.family; i++) {
        struct ip own = ip_network(&b->ips[i]);

        if (own.prefix == r->dst.prefix && ip_same(&own, &r->dst))
            return true; /* comes with the address */
    }
    if (b->n_routes == ARRAY_SIZE(b->routes)) {
        s->overflow = true;
        return true;
    }
    b->routes[b->n_routes++] = (struct binding_route){r->dst, r->gateway};
    return true;
}

static void default_last(struct binding *b)
{
    for (size_t i = 0; i + 1 < b->n_routes; i++)
        if (b->routes[i].to.prefix == 0) {
            struct binding_route first = b->routes[i];

            memmove(&b->routes[i], &b->routes[i + 1], (b->n_routes - i - 1) * sizeof first);
            b->routes[b->n_routes - 1] = first;
            return;
        }
}

static bool survey(struct netlink *nl, const struct link *nic, bool routes, struct binding *b, struct error *err)
{
    struct survey s = {.link = nic->index, .b = b};

    b->mtu = nic->mtu;
    memcpy(b->mac, nic->mac, 6);
    if (!address_each(nl, AF_INET, note_address, &s, err) || !address_each(nl, AF_INET6, note_address, &s, err)
        || (routes && !route_each(nl, AF_INET, note_route, &s, err)))
        return false;
    if (s.overflow)
        return error_set(err, ERROR_UNSUPPORTED, "%s has more than %zu addresses or %zu routes", nic->name, ARRAY_SIZE(b->ips),
                         ARRAY_SIZE(b->routes));
    default_last(b);
    return true;
}

static const struct ip *first_of(const struct binding *b, int family)
{
    for (size_t i = 0; i < b->n_ips; i++)
        if (b->ips[i].family == family)
            return &b->ips[i];
    return NULL;
}

static bool link_sysctl(const char *family, const char *link, const char *name, const char *value, struct error *err)
{
    AUTO_FREE char *path = xasprintf("net/%s/conf/%s/%s", family, link, name);

    return sysctl_set(path, value, err);
}

/* masquerade: a private network behind the pod's address */

/* The gateway is the first host of the network, the guest the next one. */
static void masquerade_addresses(const struct ip *cidr, struct ip *gateway, struct ip *guest)
{
    struct ip network = ip_network(cidr);

    *gateway = ip_plus(&network, 1);
    *guest = ip_plus(&network, 2);
}

static bool masquerade_family(struct netlink *nl, const struct binding_spec *s, int bridge, const struct ip *cidr,
                              struct binding *b, struct buf *rules, struct error *err)
{
    struct ruleset_nat nat = {.nic = s->nic, .bridge = s->bridge, .ports = s->ports, .n_ports = s->n_ports};

    masquerade_addresses(cidr, &nat.gateway, &nat.guest);
    if (!address_add(nl, bridge, &nat.gateway, err))
        return false;
    if (cidr->family == AF_INET) {
        if (!sysctl_set("net/ipv4/ip_forward", "1", err) || !link_sysctl("ipv4", s->bridge, "route_localnet", "1", err))
            return false;
        b->guest = nat.guest;
        b->server = nat.gateway;
    } else if (!sysctl_set("net/ipv6/conf/all/forwarding", "1", err)) {
        return false;
    }
    ruleset_masquerade(rules, &nat);
    return true;
}

bool binding_masquerade(struct netlink *nl, const struct binding_spec *s, struct binding *ret, struct error *err)
{
    static const uint8_t mac[6] = {0x02, 0, 0, 0, 0, 0}; /* reserved by upstream for this bridge */
    AUTO(binding_done) struct binding b = {.dhcp_fd = -1};
    AUTO(buf_done) struct buf rules = {0};
    struct link nic, bridge;

    if (!link_get(nl, s->nic, &nic, err) || !survey(nl, &nic, false, &b, err)
        || !link_make(nl, s->bridge, "bridge", &(struct link_change){.mac = mac, .mtu = b.mtu, .state = LINK_UP}, &bridge, err))
        return false;
    if (first_of(&b, AF_INET) && !masquerade_family(nl, s, bridge.index, &s->cidr4, &b, &rules, err))
        return false;
    if (first_of(&b, AF_INET6) && !masquerade_family(nl, s, bridge.index, &s->cidr6, &b, &rules, err))
        return false;
    if (rules.n == 0)
        return error_set(err, ERROR_UNAVAILABLE, "%s has no address yet", s->nic);
    if (!attach_tap(nl, s, bridge.index, &b, err) || !ruleset_apply(buf_str(&rules), err) || !open_dhcp(s, &b, err))
        return false;
    *ret = b;
    b = (struct binding){.dhcp_fd = -1};
    return true;
}

/* bridge: the guest takes the pod's place on the wire */

bool binding_notes_write(const struct binding *b, char ret[256])
{
    AUTO(buf_done) struct buf out = {0};
    char mac[MAC_TEXT], text[IP_TEXT + 4], via[IP_TEXT];

    buf_init(&out, 255);
    mac_text(b->mac, mac);
    buf_addf(&out, "vireo1 %s ", mac);
    for (size_t i = 0; i < b->n_ips; i++) {
        ip_prefix_text(&b->ips[i], text);
        buf_addf(&out, "%s%s", i ? "," : "", text);
    }
    buf_addc(&out, ' ');
    for (size_t i = 0; i < b->n_routes; i++) {
        ip_prefix_text(&b->routes[i].to, text);
        ip_text(&b->routes[i].via, via);
        buf_addf(&out, "%s%s=%s", i ? "," : "", text, via);
    }
    if (out.overflow)
        return false;
    memcpy(ret, out.p, out.n + 1);
    return true;
}

bool binding_notes_read(struct str text, struct binding *ret)
{
    AUTO(error_clear) struct error err = {0};
    struct binding b = {.dhcp_fd = -1};
    struct str word, one;

    if (!str_next(&text, ' ', &word) || !str_is(word, "vireo1") || !str_next(&text, ' ', &word) || !mac_parse(word, b.mac)
        || !str_next(&text, ' ', &word))
        return false;
    while (word.n > 0 && str_next(&word, ',', &one)) {
        if (b.n_ips == ARRAY_SIZE(b.ips) || !ip_parse_prefix(one, &b.ips[b.n_ips], &err))
            return false;
        b.n_ips++;
    }
    while (text.n > 0 && str_next(&text, ',', &one)) {
        struct binding_route *r = &b.routes[b.n_routes];
        struct str to, via;

        if (b.n_routes == ARRAY_SIZE(b.routes) || !str_cut(one, '=', &to, &via) || !ip_parse_prefix(to, &r->to, &err)
            || (via.n > 0 && !ip_parse(via, &r->via, &err)))
            return false;
        b.n_routes++;
    }
    *ret = b;
    return true;
}

/* Writes the notes first, then takes the NIC's name away: whoever finds the new name finds the notes. */
static bool move_nic(struct netlink *nl, const struct binding_spec *s, const char *moved, struct link *nic, struct binding *b,
                     struct error *err)
{
    AUTO(error_clear) struct error absent = {0};
    char notes[256];

    if (link_get(nl, moved, nic, &absent)) {
        if (!binding_notes_read(str_of(nic->alias), b))
            return error_set(err, ERROR_CONFLICT, "%s exists, but is not ours", moved);
        b->mtu = nic->mtu;
        return true;
    }
    if (absent.kind != ERROR_NOT_FOUND)
        return error_move(err, &absent);
    if (!link_get(nl, s->nic, nic, err) || !survey(nl, nic, true, b, err))
        return false;
    if (!binding_notes_write(b, notes))
        return error_set(err, ERROR_UNSUPPORTED, "%s has too many addresses and routes for the bridge binding", s->nic);
    return link_set(nl, nic->index, &(struct link_change){.alias = notes}, err)
           && link_set(nl, nic->index, &(struct link_change){.state = LINK_DOWN}, err)
           && link_set(nl, nic->index, &(struct link_change){.name = moved}, err);
}

struct strip {
    int link;
    struct ip ips[16];
    size_t n;
};

static bool collect(void *user, int link, const struct ip *ip, bool global)
{
    struct strip *s = user;

    (void)global;
    if (link == s->link && s->n < ARRAY_SIZE(s->ips))
        s->ips[s->n++] = *ip;
    return true;
}

static bool strip_addresses(struct netlink *nl, int link, struct error *err)
{
    struct strip s = {.link = link};

    if (!address_each(nl, AF_INET, collect, &s, err) || !address_each(nl, AF_INET6, collect, &s, err))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!address_remove(nl, link, &s.ips[i], err))
            return false;
    return true;
}

/* CNI plugins and kubelet go on finding the pod's NIC by its name and addresses. On a kernel without dummy devices a bridge
 * without ports does the same. */
static bool make_dummy(struct netlink *nl, const struct binding_spec *s, const struct binding *b, struct error *err)
{
    const struct link_change c = {.mac = b->mac, .mtu = b->mtu};
    AUTO(error_clear) struct error none = {0};
    struct link dummy;

    if (!link_make(nl, s->nic, "dummy", &c, &dummy, &none) && !link_make(nl, s->nic, "bridge", &c, &dummy, err))
        return false;
    for (size_t i = 0; i < b->n_ips; i++)
        if (!address_add(nl, dummy.index, &b->ips[i], err))
            return false;
    return true;
}

static bool join_bridge(struct netlink *nl, const struct binding_spec *s, const struct link *nic, struct binding *b,
                        struct link *bridge, struct error *err)
{
    if (!link_make(nl, s->bridge, "bridge", &(struct link_change){.mtu = b->mtu}, bridge, err))
        return false;
    /* Given by hand it stays when ports come and go. */
    if (!link_set(nl, bridge->index, &(struct link_change){.mac = bridge->mac, .state = LINK_UP}, err)
        || !strip_addresses(nl, nic->index, err)
        || !link_set(nl, nic->index, &(struct link_change){.mac = bridge->mac, .master = bridge->index, .state = LINK_UP}, err)
        || !link_no_learning(nl, nic->index, err))
        return false;
    if (!first_of(b, AF_INET))
        return true;
    /* The dummy has the guest's address, and the pod must not answer ARP for it. */
    if (!link_sysctl("ipv4", s->bridge, "arp_ignore", "1", err))
        return false;
    b->guest = *first_of(b, AF_INET);
    b->server = (struct ip){.family = AF_INET, .prefix = 32, .b = {169, 254, 75, (uint8_t)(10 + s->index % 10)}};
    return address_add(nl, bridge->index, &b->server, err);
}

bool binding_bridge(struct netlink *nl, const struct binding_spec *s, struct binding *ret, struct error *err)
{
    AUTO(binding_done) struct binding b = {.dhcp_fd = -1};
    struct link nic, bridge;
    char moved[LINK_NAME];

    snprintf(moved, sizeof moved, "%s-nic", s->nic);
    if (!move_nic(nl, s, moved, &nic, &b, err) || !join_bridge(nl, s, &nic, &b, &bridge, err) || !make_dummy(nl, s, &b, err)
        || !attach_tap(nl, s, bridge.index, &b, err) || !open_dhcp(s, &b, err))
        return false;
    *ret = b;
    b = (struct binding){.dhcp_fd = -1};
    return true;
}
