/* network/netlink - links, addresses and routes of the network namespace in which the socket was opened. Blocking. */
#pragma once
#include "network/address.h"

struct netlink;
struct netlink *netlink_open(struct error *err);
void netlink_close(struct netlink *nl);
void netlink_close_p(struct netlink **nl); /* for AUTO */

#define LINK_NAME 16
struct link {
    int index, master;    /* 0: none */
    char name[LINK_NAME];
    char kind[16];        /* "bridge", "veth", "dummy", "tun" …; "" for hardware */
    char alias[256];
    uint8_t mac[6];
    unsigned mtu, flags;  /* IFF_UP … */
};
struct route {
    struct ip dst;        /* prefix 0: default */
    struct ip gateway;    /* family 0: none */
    int link;             /* output interface, or 0 */
    unsigned table, type;
};
/* Absent is ERROR_NOT_FOUND. */
MUST_CHECK bool link_get(struct netlink *nl, const char *name, struct link *ret, struct error *err);
/* Visitors return false to stop. */
MUST_CHECK bool link_each(struct netlink *nl, bool (*fn)(void *user, const struct link *l), void *user, struct error *err);
MUST_CHECK bool address_each(struct netlink *nl, int family, bool (*fn)(void *user, int link, const struct ip *ip, bool global),
                             void *user, struct error *err);
MUST_CHECK bool route_each(struct netlink *nl, int family, bool (*fn)(void *user, const struct route *r), void *user,
                           struct error *err);

enum link_state { LINK_KEEP, LINK_UP, LINK_DOWN };
struct link_change { /* zero: left as it is */
    const char *name; /* new name */
    const uint8_t *mac;
    unsigned mtu;
    int master;
    enum link_state state;
    const char *alias;
};
/* Makes a link of a kind without options (bridge, dummy); one of that name and kind is left in place. */
MUST_CHECK bool link_make(struct netlink *nl, const char *name, const char *kind, const struct link_change *c,
                          struct link *ret, struct error *err);
MUST_CHECK bool link_set(struct netlink *nl, int index, const struct link_change *c, struct error *err);
MUST_CHECK bool link_remove(struct netlink *nl, int index, struct error *err); /* absent is success */
MUST_CHECK bool link_no_learning(struct netlink *nl, int index, struct error *err); /* a port of a bridge */
MUST_CHECK bool address_add(struct netlink *nl, int link, const struct ip *ip, struct error *err); /* there already: success */
MUST_CHECK bool address_remove(struct netlink *nl, int link, const struct ip *ip, struct error *err); /* absent is success */

/* "net/ipv4/ip_forward" of this thread's network namespace. Not written when it has the value. */
MUST_CHECK bool sysctl_set(const char *path, const char *value, struct error *err);
bool sysctl_is(const char *path, const char *value);
