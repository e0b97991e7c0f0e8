/* network/binding - the links of one interface's binding, made inside the pod's namespace. Blocking; the worker's side. */
#pragma once
#include <sys/types.h>

#include "network/netlink.h"
#include "network/ruleset.h"

#define BINDING_MAX_TAPS 8

struct binding_spec {
    unsigned index;            /* among the VM's interfaces */
    const char *nic, *bridge, *tap;
    uid_t owner;
    unsigned queues;           /* 1: an ordinary tap */
    struct ip cidr4, cidr6;    /* masquerade: the guest's networks */
    const struct ruleset_port *ports;
    size_t n_ports;
};
struct binding_route {
    struct ip to, via; /* via: family 0 when on the link */
};
struct binding {               /* what came out */
    unsigned mtu;
    uint8_t mac[6];            /* the pod NIC's own */
    struct ip ips[8];          /* the pod's, IPv4 first */
    size_t n_ips;
    struct binding_route routes[16]; /* bridge: those the NIC had, default last */
    size_t n_routes;
    struct ip guest, server;   /* IPv4 for DHCP; family 0: none. masquerade: server is the gateway too */
    int taps[BINDING_MAX_TAPS];
    size_t n_taps;             /* 0: a machine holds the tap already */
    int dhcp_fd;               /* −1: none */
};
void binding_done(struct binding *b);
MUST_CHECK bool binding_masquerade(struct netlink *nl, const struct binding_spec *s, struct binding *ret, struct error *err);
MUST_CHECK bool binding_bridge(struct netlink *nl, const struct binding_spec *s, struct binding *ret, struct error *err);

/* The notes that the bridge binding leaves on the moved NIC (its alias, ≤ 255 bytes), as that NIC has nothing else left of
 * them when a later agent asks: "vireo1 <mac> <ip/len>,… <to>=<via>,…". Pure. */
bool binding_notes_write(const struct binding *b, char ret[256]);
bool binding_notes_read(struct str text, struct binding *ret);
