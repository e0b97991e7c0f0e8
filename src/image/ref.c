#include "image/ref.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define SHA256_PREFIX "sha256:"

void image_ref_done(struct image_ref *ref)
{
    free(ref->registry);
    free(ref->repository);
    free(ref->tag);
    free(ref->digest);
    memset(ref, 0, sizeof *ref);
}

bool image_digest_valid(struct str s)
{
    if (s.n != strlen(SHA256_PREFIX) + 64 || memcmp(s.p, SHA256_PREFIX, strlen(SHA256_PREFIX)) != 0)
        return false;
    for (size_t i = strlen(SHA256_PREFIX); i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return true;
}

/* distribution/reference's tag: [\w][\w.-]{0,127} */
static bool tag_valid(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

        if (!word && (i == 0 || (c != '.' && c != '-')))
            return false;
    }
    return s.n > 0 && s.n <= 128;
}

/* Lower-case path components separated by '/', none empty or made of dots alone. */
static bool repository_valid(struct str s)
{
    struct str rest = s, part;

    if (s.n == 0 || s.n > 255)
        return false;
    while (str_next(&rest, '/', &part)) {
        if (part.n == 0 || part.p[0] == '.' || part.p[part.n - 1] == '.')
            return false;
        for (size_t i = 0; i < part.n; i++) {
            char c = part.p[i];

            if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-'))
                return false;
        }
    }
    return true;
}

static bool host_valid(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == ':'
              || c == '[' || c == ']'))
            return false;
    }
    return s.n > 0 && s.n <= 255 && s.p[0] != '.' && s.p[0] != '-';
}

/* A file directly below the administrator's directory: one component that cannot lead elsewhere. */
static bool file_name_valid(struct str s)
{
    if (s.n == 0 || s.n > 200 || s.p[0] == '.')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-'))
            return false;
    }
    return true;
}

/* The first path part is a registry only if it cannot be a Docker Hub user name. */
static bool is_registry(struct str part)
{
    return str_has(part, '.') || str_has(part, ':') || str_is(part, "localhost");
}

static bool bad(struct error *err, struct str text, const char *why)
{
    return error_set(err, ERROR_INVALID, "image '%.*s': %s", (int)(text.n > 300 ? 300 : text.n), text.n ? text.p : "", why);
}

static bool parse_local(struct str text, struct str name, enum image_source source, struct image_ref *ret, struct error *err)
{
    AUTO(image_ref_done) struct image_ref ref = {.source = source};
    struct str file = name, tag = STR("latest"), before, after;

    if (str_cut(name, ':', &before, &after)) {
        file = before;
        tag = after;
    }
    if (!file_name_valid(file))
        return bad(err, text, "a local image is named by a file or folder directly in the OCI directory, without slashes");
    if (!tag_valid(tag))
        return bad(err, text, "the tag is malformed");
    ref.repository = str_dup(file);
    ref.tag = str_dup(tag);
    *ret = TAKE(ref);
    return true;
}

bool image_ref_parse(struct str text, struct image_ref *ret, struct error *err)
{
    AUTO(image_ref_done) struct image_ref ref = {0};
    struct str name = text, part, rest, tag = STR_NONE, registry = STR("docker.io");

    if (str_starts(text, STR("oci:")))
        return parse_local(text, str_skip(text, 4), IMAGE_LAYOUT, ret, err);
    if (str_starts(text, STR("oci-archive:")))
        return parse_local(text, str_skip(text, 12), IMAGE_ARCHIVE, ret, err);
    if (str_starts(text, STR("docker://"))) /* as CDI and skopeo write it */
        name = str_skip(name, 9);
    if (str_cut(name, '@', &part, &rest)) {
        if (!image_digest_valid(rest))
            return bad(err, text, "the digest is not sha256 with 64 hex digits");
        ref.digest = str_dup(rest);
        name = part;
    }
    if (str_cut(name, '/', &part, &rest) && is_registry(part)) {
        registry = part;
        name = rest;
    }
    if (str_rcut(name, ':', &part, &rest)) {
        name = part;
        tag = rest;
        if (!tag_valid(tag))
            return bad(err, text, "the tag is malformed");
    }
    if (!host_valid(registry))
        return bad(err, text, "the registry is malformed");
    if (!repository_valid(name))
        return bad(err, text, "the repository must be lower-case path components");
    ref.registry = str_dup(registry);
    if (str_is(registry, "docker.io") && !str_has(name, '/'))
        ref.repository = xasprintf("library/" STR_FMT, STR_ARG(name));
    else
        ref.repository = str_dup(name);
    if (tag.n || !ref.digest)
        ref.tag = tag.n ? str_dup(tag) : xstrdup("latest");
    *ret = TAKE(ref);
    return true;
}

static struct str host_of(struct str key)
{
    struct str host, rest;

    if (str_starts(key, STR("https://")))
        key = str_skip(key, 8);
    else if (str_starts(key, STR("http://")))
        key = str_skip(key, 7);
    return str_cut(key, '/', &host, &rest) ? host : key;
}

const struct json *image_ref_auth(const struct image_ref *ref, const struct json *auths)
{
    struct str registry = str_of(ref->registry);

    if (ref->source != IMAGE_REGISTRY)
        return NULL;
    json_each_member(m, auths) {
        struct str host = host_of(json_str(&m->key));

        if (str_is(host, "index.docker.io") || str_is(host, "registry-1.docker.io"))
            host = STR("docker.io");
        if (json_is(&m->value, JSON_OBJECT) && str_eq_nocase(host, registry))
            return &m->value;
    }
    return NULL;
}
