/* network/internal - what the files of this room share. */
#pragma once
#include "network/address.h"
#include "network/netlink.h"
#include "network/network.h"

struct network {
    struct loop *loop;
    char *instance, *cni_bin_dir;
    char bridge[LINK_NAME];  /* "vireo-<instance>": also the nft table and the CNI network */
    struct ip pods, gateway; /* the range, and its first address with the range's prefix */
    int dirfd;               /* DIR/network; owned */
    char *dir;               /* its absolute path: CNI plugins take no descriptors */
    unsigned mtu;            /* of pods; 0 before the set-up */
};

/* Where the pod's attachment is noted: DIR/network/pods/<uid>.json. It is there from before the first host object is made
 * until after the last is removed: {"netns":"/path","veth":"vethX","ip":…,"prefix":16,"gateway":…,"mac":…,"mtu":1500}. */
#define RECORDS "pods"

bool network_range_parse(const char *cidr, struct ip *ret, struct error *err);
void network_bridge_name(const char *instance, char ret[LINK_NAME]);
/* bridge: links of this name are ours and do not count. */
MUST_CHECK bool network_overlap(struct netlink *nl, const struct ip *pods, const char *bridge, struct error *err);
bool is_netns(const char *path); /* a namespace is mounted there */
