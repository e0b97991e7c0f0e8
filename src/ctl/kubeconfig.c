#include "ctl/kubeconfig.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/vec.h"
#include "json/yaml.h"

#define FILE_LIMIT  (4u << 20)
#define FILES_LIMIT 64

/* --- which entries count ------------------------------------------------------------------------------------------------ */

struct entry {
    const struct json *value;
    const char *dir;
};

/* The first entry of that name in any file: {"name": …, <member>: {…}}. */
static struct entry entry_of(const struct json *const *docs, const struct kubeconfig_source *sources, size_t n,
                             const char *list, const char *member, struct str name)
{
    for (size_t i = 0; i < n; i++)
        json_each_item(e, json_get(docs[i], list))
            if (str_eq(json_str_at(e, "name"), name))
                return (struct entry){json_get(e, member), sources[i].dir};
    return (struct entry){NULL, NULL};
}

static struct str pick(const char *flag, struct str otherwise)
{
    return flag && flag[0] ? str_of(flag) : otherwise;
}

bool kubeconfig_choose(const struct kubeconfig_source *sources, size_t n, const struct kubeconfig_flags *f,
                       struct arena *a, struct kubeconfig_choice *ret, struct error *err)
{
    const struct json **docs = ARENA_ARRAY(a, const struct json *, n + 1);
    struct str context = STR_NONE, cluster, user;
    struct kubeconfig_choice c = {0};
    struct entry e;

    for (size_t i = 0; i < n; i++) {
        if (!str_trim(sources[i].text).n)
            continue;
        if (!yaml_parse_one(sources[i].text, a, &docs[i], err))
            return error_wrap(err, "kubeconfig %s", sources[i].name);
        if (!json_is(docs[i], JSON_OBJECT) && !json_is(docs[i], JSON_NULL))
            return error_set(err, ERROR_BAD_REQUEST, "kubeconfig %s: not a mapping", sources[i].name);
        if (!context.n)
            context = json_str_at(docs[i], "current-context");
    }
    context = pick(f->context, context);
    e = entry_of(docs, sources, n, "contexts", "context", context);
    if (context.n && !e.value)
        return error_set(err, ERROR_NOT_FOUND, "context '" STR_FMT "' is not in the kubeconfig", STR_ARG(context));
    c.context = e.value;
    cluster = pick(f->cluster, json_str_at(c.context, "cluster"));
    user = pick(f->user, json_str_at(c.context, "user"));
    e = entry_of(docs, sources, n, "clusters", "cluster", cluster);
    if (cluster.n && !e.value)
        return error_set(err, ERROR_NOT_FOUND, "cluster '" STR_FMT "' is not in the kubeconfig", STR_ARG(cluster));
    c.cluster = e.value;
    c.cluster_dir = e.dir;
    e = entry_of(docs, sources, n, "users", "user", user);
    if (user.n && !e.value)
        return error_set(err, ERROR_NOT_FOUND, "user '" STR_FMT "' is not in the kubeconfig", STR_ARG(user));
    c.user = e.value;
    c.user_dir = e.dir;
    c.user_name = user;
    *ret = c;
    return true;
}

/* --- what they mean ------------------------------------------------------------------------------------------------------- */

static bool plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 0x7f)
            return false;
    return true;
}

bool kubeconfig_server(struct str url, struct kubeconfig *ret, struct error *err)
{
    AUTO(error_clear) struct error why = {0};
    struct str rest, authority, path, host, port = STR_NONE;
    uint64_t number;
    bool tls;

    if (!plain(url))
        return error_set(err, ERROR_BAD_REQUEST, "server '" STR_FMT "': white space in a URL", STR_ARG(url));
    if (str_starts(url, STR("https://"))) {
        tls = true;
        rest = str_skip(url, 8);
    } else if (str_starts(url, STR("http://"))) {
        tls = false;
        rest = str_skip(url, 7);
    } else {
        return error_set(err, ERROR_BAD_REQUEST, "server '" STR_FMT "': https://HOST:PORT is wanted", STR_ARG(url));
    }
    number = tls ? 443 : 80;
    if (!str_cut(rest, '/', &authority, &path))
        path = STR_NONE;
    if (authority.n && authority.p[0] == '[') { /* IPv6 */
        if (!str_cut(str_skip(authority, 1), ']', &host, &port) || (port.n && port.p[0] != ':'))
            return error_set(err, ERROR_BAD_REQUEST, "server '" STR_FMT "': bad address", STR_ARG(url));
        port = port.n ? str_skip(port, 1) : STR_NONE;
    } else if (!str_cut(authority, ':', &host, &port)) {
        port = STR_NONE;
    }
    if (!host.n || str_has(authority, '@') || str_has(path, '?') || str_has(path, '#'))
        return error_set(err, ERROR_BAD_REQUEST, "server '" STR_FMT "': https://HOST:PORT is wanted", STR_ARG(url));
    if (port.p && (!parse_u64(port, 65535, &number, &why) || number == 0))
        return error_set(err, ERROR_BAD_REQUEST, "server '" STR_FMT "': bad port", STR_ARG(url));
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    ret->tls = tls;
    ret->port = (unsigned)number;
    free(ret->host);
    free(ret->prefix);
    ret->host = str_dup(host);
    ret->prefix = path.n ? xasprintf("/" STR_FMT, STR_ARG(path)) : xstrdup("");
    return true;
}

/* Base64 in a YAML text may be folded. */
static bool decode(struct str text, char **ret, struct error *err)
{
    AUTO(buf_done) struct buf tight = {0}, out = {0};

    for (size_t i = 0; i < text.n; i++)
        if (!strchr(" \t\r\n", text.p[i]))
            buf_addc(&tight, text.p[i]);
    if (!buf_add_base64_decoded(&out, buf_str(&tight), err))
        return false;
    if (out.n && memchr(out.p, '\0', out.n))
        return error_set(err, ERROR_BAD_REQUEST, "not PEM text");
    *ret = out.n ? buf_detach(&out) : NULL;
    return true;
}

static char *full_path(const char *dir, struct str path)
{
    return path.n && path.p[0] == '/' ? str_dup(path) : xasprintf("%s/" STR_FMT, dir ? dir : ".", STR_ARG(path));
}

static bool read_text(const char *dir, struct str path, char **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO_FREE char *full = full_path(dir, path);

    buf_init(&b, FILE_LIMIT);
    if (!file_read(AT_FDCWD, full, &b, err))
        return error_wrap(err, "%s", full);
    if (b.n && memchr(b.p, '\0', b.n))
        return error_set(err, ERROR_BAD_REQUEST, "%s: not a text", full);
    *ret = b.n ? buf_detach(&b) : NULL;
    return true;
}

/* From a flag's file, else from inline data, else from the entry's file. */
static bool credential(const char *flag, const struct json *entry, const char *dir, const char *data_key,
                       const char *file_key, char **ret, struct error *err)
{
    struct str data = json_str_at(entry, data_key), file = json_str_at(entry, file_key);

    if (flag && flag[0])
        return read_text(".", str_of(flag), ret, err);
    if (data.n)
        return decode(data, ret, err) || error_wrap(err, "kubeconfig: %s", data_key);
    if (file.n)
        return read_text(dir, file, ret, err);
    return true;
}

static bool use_user(const struct kubeconfig_flags *f, const struct kubeconfig_choice *c, struct kubeconfig *k,
                     struct error *err)
{
    struct str file = json_str_at(c->user, "tokenFile"), token = json_str_at(c->user, "token");
    static const char *const foreign[] = {"exec", "auth-provider", "username"};

    if (f->token && f->token[0]) {
        k->token = xstrdup(f->token);
    } else if (file.n) {
        if (!read_text(c->user_dir, file, &k->token, err))
            return false;
        k->token_file = full_path(c->user_dir, file);
    } else if (token.n) {
        k->token = str_dup(token);
    }
    if (k->token) {
        AUTO_FREE char *raw = TAKE(k->token);

        k->token = str_dup(str_trim(str_of(raw)));
        if (!plain(str_of(k->token)))
            return error_set(err, ERROR_BAD_REQUEST, "the token holds white space or control characters");
    }
    if (!credential(f->client_certificate, c->user, c->user_dir, "client-certificate-data", "client-certificate",
                    &k->cert_pem, err)
        || !credential(f->client_key, c->user, c->user_dir, "client-key-data", "client-key", &k->key_pem, err))
        return false;
    if (!k->cert_pem != !k->key_pem)
        return error_set(err, ERROR_BAD_REQUEST, "a client certificate needs its key and the other way round: the %s is missing",
                         k->cert_pem ? "key" : "certificate");
    for (size_t i = 0; !k->token && !k->cert_pem && i < ARRAY_SIZE(foreign); i++)
        if (json_get(c->user, foreign[i]))
            return error_set(err, ERROR_UNSUPPORTED,
                             "user '" STR_FMT "' of the kubeconfig logs in by '%s', which virtctl does not do: give --token or a "
                             "client certificate (kubectl create token makes a token)", STR_ARG(c->user_name), foreign[i]);
    return true;
}

static bool use_choice(const struct kubeconfig_flags *f, const struct kubeconfig_choice *c, struct kubeconfig *k,
                       struct error *err)
{
    struct str server = pick(f->server, json_str_at(c->cluster, "server"));

    if (!server.n)
        return error_set(err, ERROR_NOT_FOUND, "no API server is known: set KUBECONFIG, or give --kubeconfig or --server");
    if (!kubeconfig_server(server, k, err))
        return false;
    if (json_str_at(c->cluster, "proxy-url").n && !(f->server && f->server[0]))
        return error_set(err, ERROR_UNSUPPORTED, "the kubeconfig's cluster is behind a proxy (proxy-url), which virtctl "
                                                 "does not use: give --server with an address that is reached directly");
    k->ns = str_dup(pick(f->ns, json_str_at(c->context, "namespace")));
    if (!k->ns || !k->ns[0]) {
        free(k->ns);
        k->ns = xstrdup("default");
    }
    k->insecure = f->insecure || json_bool_at(c->cluster, "insecure-skip-tls-verify", false);
    k->tls_server_name = str_dup(pick(f->tls_server_name, json_str_at(c->cluster, "tls-server-name")));
    if (k->tls
        && !credential(f->certificate_authority, c->cluster, c->cluster_dir, "certificate-authority-data",
                       "certificate-authority", &k->ca_pem, err))
        return false;
    return use_user(f, c, k, err);
}

/* --- the files ------------------------------------------------------------------------------------------------------------ */

struct sources {
    VEC(struct kubeconfig_source) v;
    struct arena arena;
};

static void sources_done(struct sources *s)
{
    vec_done(&s->v);
    arena_done(&s->arena);
}

static bool add_file(struct sources *s, struct str path, bool must_exist, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error why = {0};
    const char *name = arena_strdup(&s->arena, path);
    struct str dir, base;

    if (s->v.n >= FILES_LIMIT)
        return error_set(err, ERROR_TOO_LARGE, "more than %d kubeconfig files", FILES_LIMIT);
    buf_init(&b, FILE_LIMIT);
    if (!file_read(AT_FDCWD, name, &b, &why)) {
        if (why.kind == ERROR_NOT_FOUND && !must_exist)
            return true;
        error_move(err, &why);
        return error_wrap(err, "kubeconfig %s", name);
    }
    if (!str_rcut(path, '/', &dir, &base))
        dir = STR(".");
    else if (!dir.n)
        dir = STR("/");
    vec_push(&s->v, ((struct kubeconfig_source){arena_str(&s->arena, buf_str(&b)), arena_strdup(&s->arena, dir), name}));
    return true;
}

static bool add_files(struct sources *s, const struct kubeconfig_flags *f, struct error *err)
{
    struct str rest = str_of(f->env), path;
    AUTO_FREE char *own = NULL;

    if (f->kubeconfig && f->kubeconfig[0])
        return add_file(s, str_of(f->kubeconfig), true, err);
    if (rest.n) {
        while (str_next(&rest, ':', &path))
            if (path.n && !add_file(s, path, false, err))
                return false;
        if (!s->v.n && !(f->server && f->server[0]))
            return error_set(err, ERROR_NOT_FOUND, "KUBECONFIG=%s: no such file", f->env);
        return true;
    }
    if (!f->home || !f->home[0])
        return true;
    own = xasprintf("%s/.kube/config", f->home);
    return add_file(s, str_of(own), false, err);
}

bool kubeconfig_load(const struct kubeconfig_flags *f, struct kubeconfig *ret, struct error *err)
{
    AUTO(sources_done) struct sources s = {0};
    AUTO(kubeconfig_done) struct kubeconfig k = {0};
    struct kubeconfig_choice c;

    if (!add_files(&s, f, err) || !kubeconfig_choose(s.v.p, s.v.n, f, &s.arena, &c, err) || !use_choice(f, &c, &k, err))
        return false;
    *ret = TAKE(k);
    return true;
}

void kubeconfig_done(struct kubeconfig *c)
{
    free(c->host);
    free(c->prefix);
    free(c->ns);
    free(c->ca_pem);
    free(c->cert_pem);
    free(c->key_pem);
    free(c->token);
    free(c->token_file);
    free(c->tls_server_name);
    *c = (struct kubeconfig){0};
}
