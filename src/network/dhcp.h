/* network/dhcp - a DHCP server for one guest: a packet in, a packet out. Pure; hostile input is the normal case. */
#pragma once
#include "json/json.h"

struct dhcp_route {
    uint32_t network, gateway; /* host byte order */
    unsigned prefix;
};
struct dhcp_option {
    uint8_t code;
    struct str value; /* 1 to 255 bytes */
};
struct dhcp_config {
    uint32_t address, netmask, gateway, server; /* host byte order */
    uint8_t mac[6];
    bool any_mac;               /* masquerade answers any client */
    uint32_t dns[8];
    unsigned n_dns;
    const char *hostname, *domain;  /* may be NULL */
    const char *const *search;      /* NULL-terminated, or NULL */
    unsigned mtu;
    uint32_t lease_s;
    struct dhcp_route routes[16]; /* option 121; the default route is last */
    unsigned n_routes;
    struct dhcp_option options[40]; /* 42, 66, 67, 224 to 254 */
    unsigned n_options;
};
/* The object of vmm/proto.h, where also may stand: "mac" (only this client is answered), "domain",
 * "routes":[{"to":"0.0.0.0/0","via":"10.0.0.1"}], "options":[{"code":67,"text":"…"}]. Refuses what would not fit into one packet.
 * From the "dhcp" object of a nic (vmm/proto.h). Text is borrowed from it. */
MUST_CHECK bool dhcp_config_parse(const struct json *dhcp, struct arena *a, struct dhcp_config *ret, struct error *err);
/* A request packet (UDP payload) → the reply's payload; false: nothing is to be sent. Replies go to 255.255.255.255 port 68. */
bool dhcp_reply(const struct dhcp_config *c, struct str packet, struct buf *reply);
