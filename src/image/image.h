/* image/image - container images as VM disks: registries, local OCI layouts and archives, unpacked read-only.
 *
 * All parsing of foreign bytes (TLS, JSON, gzip/zstd, tar) happens in a fetcher: a child process without privileges that
 * writes below a directory it was given and reports one line. The parent keeps an index: reference → digest → root directory.
 *
 * References: [registry/]repository[:tag][@digest] as everywhere; "oci:NAME[:TAG]" and "oci-archive:NAME.tar[:TAG]" name a layout or
 * archive directly below the administrator's OCI directory (no slashes, no "..": a tenant cannot name a path). Plain HTTP is
 * used for loopback registries (and those the administrator lists), TLS for all others. */
#pragma once
#include "api/schema.h"
#include "loop/loop.h"

struct image_store;
struct image_store_config {
    struct loop *loop;
    int dirfd;               /* "images/" below the data directory is ours */
    int oci_dirfd;           /* local layouts and archives, or −1 */
    uid_t fetch_uid;         /* the fetcher runs as this user */
    gid_t fetch_gid;
    const char *fetcher;     /* the program vireo-fetch */
    uint64_t max_bytes;      /* unpacked size of one image; 0: 64 GiB */
};
struct image_store *image_store_new(const struct image_store_config *c, struct error *err);
void image_store_free(struct image_store *s);

struct image_pull {
    const char *reference;
    const char *policy;      /* Always, IfNotPresent, Never */
    const struct json *auths; /* dockerconfigjson "auths" object, or NULL */
    /* root_fd: the unpacked root, the callee's to close; root_path: its absolute path; digest: "sha256:…". Reasons a user can act on:
     * NOT_FOUND (no such image/tag), UNAUTHORIZED, UNAVAILABLE (registry not reachable, disk full), INVALID (broken image). */
    void (*done)(void *user, int root_fd, const char *root_path, const char *digest, const struct error *err);
    void *user;
};
void image_store_pull(struct image_store *s, const struct image_pull *p); /* equal pulls are joined */
/* Removes one image that none of `keep` (digests, NULL-terminated) is, if it was not asked for within the last hour, or the disk is
 * nearly full: the one that was asked for longest ago. Nothing while a pull is under way. */
void image_store_prune(struct image_store *s, const char *const *keep);

/* The fetcher's main: reads its job as JSON from descriptor 3, writes below descriptor 4, finds local images below descriptor 5 and
 * reports one line of JSON on stdout. */
int image_fetch_main(void);
