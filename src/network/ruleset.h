/* network/ruleset - the nft transactions of this room, as text for `nft -f -`. Pure. Applying one twice changes nothing. */
#pragma once
#include "base/buf.h"
#include "network/address.h"

/* The pods of one instance on this host: masqueraded when they leave, and only with addresses of their own. */
void ruleset_host(struct buf *out, const char *bridge, const struct ip *pods);
void ruleset_host_remove(struct buf *out, const char *bridge);

struct ruleset_port {
    bool udp;
    uint16_t port;
};
struct ruleset_nat { /* one family of a masquerade binding: reference/storage-and-network.md §7 */
    const char *nic, *bridge;
    struct ip guest, gateway;
    const struct ruleset_port *ports; /* none: everything is forwarded */
    size_t n_ports;
};
void ruleset_masquerade(struct buf *out, const struct ruleset_nat *n);
MUST_CHECK bool ruleset_apply(struct str text, struct error *err);
