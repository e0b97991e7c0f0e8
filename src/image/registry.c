/* Registries: the pull half of the OCI distribution specification, by libcurl. Bearer tokens as its "token authentication"
 * describes; redirects are followed for blobs (to object stores) but never from https to plain http, and credentials do not
 * follow them to another host (libcurl's default). */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "image/fetch.h"

#define MAX_MANIFEST (4u << 20)
#define MAX_TOKEN    (256u << 10)
#define ACCEPT                                                                                                                   \
    "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "                              \
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

struct registry {
    struct fetch_source source;
    struct fetch *fetch;
    CURL *curl;
    char *base;   /* "https://host/v2/repository" */
    char *token;  /* bearer, or NULL */
    char *user_password; /* "user:password", or NULL */
    char *challenge; /* WWW-Authenticate of the last answer */
};

struct sink {
    struct buf *text; /* or */
    int fd;
    uint64_t left;
    int write_errno;
};

static size_t on_body(char *data, size_t one, size_t n, void *user)
{
    struct sink *s = user;

    (void)one;
    if (n > s->left)
        return 0;
    s->left -= n;
    if (s->text) {
        buf_add(s->text, data, n);
        return n;
    }
    for (size_t at = 0; at < n;) {
        ssize_t w = write(s->fd, data + at, n - at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0) {
            s->write_errno = errno;
            return 0;
        }
        at += (size_t)w;
    }
    return n;
}

static size_t on_header(char *data, size_t one, size_t n, void *user)
{
    struct registry *r = user;
    struct str line = str_n(data, n), name, value;

    (void)one;
    if (str_cut(line, ':', &name, &value) && str_eq_nocase(name, STR("www-authenticate"))) {
        free(r->challenge);
        r->challenge = str_dup(str_trim(value));
    }
    return n;
}

static bool transport_error(struct registry *r, CURLcode code, const struct sink *s, struct error *err)
{
    const char *host = r->fetch->ref.registry;

    if (s->write_errno)
        return error_errno(err, s->write_errno, "writing the image");
    if (code == CURLE_WRITE_ERROR)
        return error_set(err, ERROR_TOO_LARGE, "registry %s sent more than the image says it has", host);
    return error_set(err, ERROR_UNAVAILABLE, "registry %s cannot be reached: %s", host, curl_easy_strerror(code));
}

/* One GET; status 0 never comes back. */
static bool get(struct registry *r, const char *url, bool accept_manifests, bool basic, struct sink *s, long *ret_status,
                struct error *err)
{
    struct curl_slist *headers = NULL;
    AUTO_FREE char *authorization = NULL;
    CURLcode code;

    curl_easy_reset(r->curl);
    curl_easy_setopt(r->curl, CURLOPT_URL, url);
    curl_easy_setopt(r->curl, CURLOPT_USERAGENT, "vireo/" VIREO_VERSION);
    curl_easy_setopt(r->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(r->curl, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(r->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(r->curl, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(r->curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(r->curl, CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(r->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(r->curl, CURLOPT_REDIR_PROTOCOLS_STR, str_starts(str_of(url), STR("https:")) ? "https" : "http,https");
    curl_easy_setopt(r->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(r->curl, CURLOPT_LOW_SPEED_LIMIT, 1024L);
    curl_easy_setopt(r->curl, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(r->curl, CURLOPT_NOSIGNAL, 1L);
    if (accept_manifests)
        headers = curl_slist_append(headers, ACCEPT);
    if (basic && r->user_password) {
        curl_easy_setopt(r->curl, CURLOPT_USERPWD, r->user_password);
    } else if (!basic && r->token) {
        authorization = xasprintf("Authorization: Bearer %s", r->token);
        headers = curl_slist_append(headers, authorization);
    }
    curl_easy_setopt(r->curl, CURLOPT_HTTPHEADER, headers);
    code = curl_easy_perform(r->curl);
    curl_slist_free_all(headers);
    if (code != CURLE_OK)
        return transport_error(r, code, s, err);
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, ret_status);
    return true;
}

/* key="value" in a challenge; absent when missing. */
static struct str parameter(struct str challenge, const char *key)
{
    AUTO(buf_done) struct buf needle = {0};
    struct str value, rest;
    size_t at;

    buf_addf(&needle, "%s=\"", key);
    if (!str_find(challenge, buf_str(&needle), &at) || !str_cut(str_skip(challenge, at + needle.n), '"', &value, &rest))
        return STR_NONE;
    return value;
}

static bool unauthorized(struct registry *r, struct error *err)
{
    return error_set(err, ERROR_UNAUTHORIZED, "registry %s wants credentials for %s%s", r->fetch->ref.registry,
                     r->fetch->ref.repository,
                     r->user_password ? " other than those of the imagePullSecret" : ": give the containerDisk an imagePullSecret");
}

static bool fetch_token(struct registry *r, struct error *err)
{
    struct str challenge = str_of(r->challenge), realm = parameter(challenge, "realm"), service = parameter(challenge, "service");
    AUTO(buf_done) struct buf url = {0}, text = {0};
    AUTO(arena_done) struct arena a = {0};
    AUTO_FREE char *service_text = str_dup(service);
    struct sink s = {.text = &text, .fd = -1, .left = MAX_TOKEN};
    const struct json *answer;
    struct str token;
    long status = 0;
    char *quoted;

    if (!str_starts(realm, STR("https://")) && !(str_starts(realm, STR("http://")) && str_starts(str_of(r->base), STR("http://"))))
        return unauthorized(r, err);
    quoted = curl_easy_escape(r->curl, service_text ? service_text : "", 0);
    buf_addf(&url, STR_FMT "?service=%s&scope=repository:%s:pull", STR_ARG(realm), quoted ? quoted : "", r->fetch->ref.repository);
    curl_free(quoted);
    if (!get(r, url.p, false, true, &s, &status, err))
        return false;
    if (status != 200 || !json_parse(buf_str(&text), &a, &answer, err)) {
        error_clear(err);
        return unauthorized(r, err);
    }
    token = json_str_at(answer, "token");
    if (!token.n)
        token = json_str_at(answer, "access_token");
    if (!token.n || str_has(token, '\n') || str_has(token, '\r'))
        return unauthorized(r, err);
    free(r->token);
    r->token = str_dup(token);
    return true;
}

/* GET with one round of authentication. The sink is reset between by the caller's `again`. */
static bool get_authorized(struct registry *r, const char *url, bool manifests, struct sink *s, long *ret_status, struct error *err)
{
    uint64_t left = s->left;
    bool basic = false;

    for (int round = 0; round < 2; round++) {
        s->left = left;
        if (s->text)
            buf_clear(s->text);
        else if (ftruncate(s->fd, 0) < 0 || lseek(s->fd, 0, SEEK_SET) < 0)
            return error_errno(err, errno, "blob file");
        if (!get(r, url, manifests, basic, s, ret_status, err))
            return false;
        if (*ret_status != 401 || round)
            break;
        if (r->challenge && str_starts(str_of(r->challenge), STR("Basic")) && r->user_password)
            basic = true;
        else if (!r->challenge || !fetch_token(r, err))
            return err->kind == ERROR_NONE ? unauthorized(r, err) : false;
    }
    if (*ret_status == 401 || *ret_status == 403)
        return unauthorized(r, err);
    return true;
}

static bool refused(struct registry *r, long status, const char *what, struct error *err)
{
    if (status == 404)
        return error_set(err, ERROR_NOT_FOUND, "registry %s has no %s of %s%s%s", r->fetch->ref.registry, what,
                         r->fetch->ref.repository, r->fetch->ref.tag ? ":" : "", r->fetch->ref.tag ? r->fetch->ref.tag : "");
    return error_set(err, ERROR_UNAVAILABLE, "registry %s answered %ld for the %s of %s", r->fetch->ref.registry, status, what,
                     r->fetch->ref.repository);
}

static bool read_manifest(struct fetch_source *source, struct str digest, struct buf *out, struct error *err)
{
    struct registry *r = container_of(source, struct registry, source);
    AUTO_FREE char *url = NULL;
    struct sink s = {.text = out, .fd = -1, .left = MAX_MANIFEST};
    long status = 0;
    char got[72];

    if (!digest.n && r->fetch->ref.digest)
        digest = str_of(r->fetch->ref.digest);
    if (digest.n && !image_digest_valid(digest))
        return error_set(err, ERROR_INVALID, "the image names a digest that is not sha256");
    url = digest.n ? xasprintf("%s/manifests/" STR_FMT, r->base, STR_ARG(digest)) : xasprintf("%s/manifests/%s", r->base, r->fetch->ref.tag);
    if (!get_authorized(r, url, true, &s, &status, err))
        return false;
    if (status != 200)
        return refused(r, status, "manifest", err);
    fetch_sha256(buf_str(out), got);
    if (digest.n && !str_is(digest, got))
        return error_set(err, ERROR_INVALID, "registry %s sent a manifest that does not have the digest " STR_FMT,
                         r->fetch->ref.registry, STR_ARG(digest));
    return true;
}

static bool read_blob(struct fetch_source *source, struct str digest, uint64_t max, int *ret_fd, struct error *err)
{
    struct registry *r = container_of(source, struct registry, source);
    AUTO_FREE char *url = NULL;
    AUTO_CLOSE int fd = -1;
    struct sink s = {.left = max};
    long status = 0;

    if (!image_digest_valid(digest))
        return error_set(err, ERROR_INVALID, "the image names a digest that is not sha256");
    fd = openat(r->fetch->work, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "scratch file");
    s.fd = fd;
    url = xasprintf("%s/blobs/" STR_FMT, r->base, STR_ARG(digest));
    if (!get_authorized(r, url, false, &s, &status, err))
        return false;
    if (status != 200)
        return refused(r, status, "layer", err);
    if (!fetch_verify(fd, digest, err))
        return false;
    *ret_fd = TAKE_FD(fd);
    return true;
}

static void registry_done(struct fetch_source *source)
{
    struct registry *r = container_of(source, struct registry, source);

    curl_easy_cleanup(r->curl);
    free(r->base);
    free(r->token);
    free(r->user_password);
    free(r->challenge);
    free(r);
}

/* Loopback registries speak plain HTTP, as every container engine has it. */
static bool is_plain(struct fetch *f)
{
    struct str host = str_of(f->ref.registry), name = host, port;

    if (str_rcut(host, ':', &name, &port) && str_has(name, ':'))
        name = host;
    if (str_is(name, "localhost") || str_is(name, "[::1]") || str_starts(name, STR("127.")))
        return true;
    json_each_item(h, json_get(f->job, "insecure"))
        if (str_eq(json_str(h), host))
            return true;
    return false;
}

/* An entry of a dockerconfigjson: {"auth": base64("user:password")}, or username and password apart. */
static char *credentials(struct fetch *f)
{
    AUTO(buf_done) struct buf plain = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *entry = json_get(f->job, "auth");

    if (json_str_at(entry, "auth").n && buf_add_base64_decoded(&plain, json_str_at(entry, "auth"), &err))
        return buf_detach(&plain);
    if (json_str_at(entry, "username").n)
        return xasprintf(STR_FMT ":" STR_FMT, STR_ARG(json_str_at(entry, "username")), STR_ARG(json_str_at(entry, "password")));
    return NULL;
}

bool fetch_registry(struct fetch *f, struct fetch_source **ret, struct error *err)
{
    struct registry *r = NEW(struct registry);
    const char *host = strcmp(f->ref.registry, "docker.io") == 0 ? "registry-1.docker.io" : f->ref.registry;

    r->source = (struct fetch_source){.blob = read_blob, .manifest = read_manifest, .done = registry_done};
    r->fetch = f;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    r->curl = curl_easy_init();
    r->base = xasprintf("%s://%s/v2/%s", is_plain(f) ? "http" : "https", host, f->ref.repository);
    r->user_password = credentials(f);
    if (!r->curl) {
        registry_done(&r->source);
        return error_set(err, ERROR_INTERNAL, "libcurl does not start");
    }
    *ret = &r->source;
    return true;
}
