/* image/ref - names of container images: [registry/]repository[:tag][@digest], oci:NAME[:TAG], oci-archive:FILE[:TAG] */
#pragma once
#include "json/json.h"

enum image_source { IMAGE_REGISTRY, IMAGE_LAYOUT, IMAGE_ARCHIVE };
struct image_ref {
    enum image_source source;
    char *registry;   /* "docker.io" when the text names none; NULL for local sources */
    char *repository; /* or the layout's or archive's file name: one path component */
    char *tag;        /* "latest" unless the text has a tag or a digest */
    char *digest;     /* "sha256:…", or NULL */
};

/* Fills *ret, which image_ref_done() releases. On failure *ret is untouched. */
MUST_CHECK bool image_ref_parse(struct str text, struct image_ref *ret, struct error *err);
void image_ref_done(struct image_ref *ref);
/* The entry of a dockerconfigjson's "auths" that is for the reference's registry, or NULL. Keys are hosts, as `docker login` and
 * kubectl write them: with a scheme and a path, too. */
const struct json *image_ref_auth(const struct image_ref *ref, const struct json *auths);
bool image_digest_valid(struct str s); /* "sha256:" and 64 lower-case hex digits */
