/* cmd/node - what the node process and `vireo stop --all` both build: network, images and the pod runtime of one instance. */
#pragma once
#include "client/client.h"
#include "image/image.h"
#include "network/network.h"
#include "pod/pod.h"

struct node_parts {
    struct loop *loop;
    struct arena arena;         /* texts that the parts borrow */
    struct client *client;
    struct network *network;
    struct image_store *images;
    struct pod_runtime *pods;
    int dirfd, oci_fd;
};
/* config: the instance's settings (instance_config_read). */
MUST_CHECK bool node_parts_open(struct node_parts *n, struct loop *l, int dirfd, const struct json *config, struct error *err);
void node_parts_done(struct node_parts *n);
