/* network/dhcp - a DHCP server for one guest: a packet in, a packet out. Pure; hostile input is the normal case. */
#pragma once
#include "json/json.h"

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
};
/* From the "dhcp" object of a nic (vmm/proto.h). Text is borrowed from it. */
MUST_CHECK bool dhcp_config_parse(const struct json *dhcp, struct arena *a, struct dhcp_config *ret, struct error *err);
/* A request packet (UDP payload) → the reply's payload; false: nothing is to be sent. ret_broadcast: send to 255.255.255.255. */
bool dhcp_reply(const struct dhcp_config *c, struct str packet, struct buf *reply);
