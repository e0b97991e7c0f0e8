#include "subresources/front_proxy.h"

#include "base/cleanup.h"

#define DATA_MAX (1u << 20) /* of a ConfigMap */

/* A list as the ConfigMap holds it: the text of a JSON array of texts. A key that is not there is an empty list. */
static bool read_list(struct front_proxy *p, const struct json *data, const char *key, bool lower, struct str **ret, size_t *ret_n,
                      struct error *err)
{
    const struct json *text = json_get(data, key), *list;

    *ret_n = 0;
    *ret = NULL;
    if (!text)
        return true;
    if (!json_parse(json_str(text), &p->arena, &list, err) || !json_is(list, JSON_ARRAY))
        return error_set(err, ERROR_INVALID, "data.%s must be a JSON array of texts", key);
    *ret = ARENA_ARRAY(&p->arena, struct str, json_len(list) + 1);
    json_each_item(it, list) {
        struct str s = json_str(it);
        char *copy;

        if (!s.n || memchr(s.p, 0, s.n))
            return error_set(err, ERROR_INVALID, "data.%s must be a JSON array of texts", key);
        copy = arena_strdup(&p->arena, s);
        for (char *c = copy; lower && *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c - 'A' + 'a');
        (*ret)[(*ret_n)++] = str_of(copy);
    }
    return true;
}

static bool read(struct front_proxy *p, const struct json *data, struct error *err)
{
    struct str ca = json_str_at(data, "requestheader-client-ca-file");

    if (!read_list(p, data, "requestheader-allowed-names", false, &p->names, &p->n_names, err)
        || !read_list(p, data, "requestheader-username-headers", true, &p->users, &p->n_users, err)
        || !read_list(p, data, "requestheader-uid-headers", true, &p->uids, &p->n_uids, err)
        || !read_list(p, data, "requestheader-group-headers", true, &p->groups, &p->n_groups, err)
        || !read_list(p, data, "requestheader-extra-headers-prefix", true, &p->extras, &p->n_extras, err))
        return false;
    if (!ca.n || ca.n > DATA_MAX || !p->n_users)
        return error_set(err, ERROR_INVALID, "it names no authority and header of a front proxy: the API server has to be started with "
                                             "--requestheader-client-ca-file and --requestheader-username-headers");
    p->ca_pem = arena_strdup(&p->arena, ca);
    return true;
}

bool front_proxy_read(struct front_proxy *p, const struct json *config_map, struct error *err)
{
    struct front_proxy fresh = {0};

    if (!read(&fresh, json_get(config_map, "data"), err)) {
        front_proxy_done(&fresh);
        return error_wrap(err, "ConfigMap " FRONT_PROXY_NAMESPACE "/" FRONT_PROXY_CONFIG);
    }
    front_proxy_done(p);
    *p = fresh;
    return true;
}

void front_proxy_done(struct front_proxy *p)
{
    arena_done(&p->arena);
    *p = (struct front_proxy){0};
}

/* --- a request -------------------------------------------------------------------------------------------------------------- */

static bool among(struct str s, const struct str *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(s, list[i]))
            return true;
    return false;
}

/* The certificate has been verified against the front proxy's authority when the connection was made. */
static bool is_front_proxy(const struct front_proxy *p, const struct exchange *x)
{
    const struct http_peer *peer = x->peer;

    if (!p->ca_pem || !peer->tls || peer->cert_bad || !peer->cert_orgs
        || peer->cert_until_unix_s < loop_unix_ns(x->loop) / SECONDS(1))
        return false;
    return !p->n_names || (peer->cert_cn && among(str_of(peer->cert_cn), p->names, p->n_names));
}

static bool has_extra_prefix(const struct front_proxy *p, struct str name, struct str *ret_key)
{
    for (size_t i = 0; i < p->n_extras; i++)
        if (str_starts(name, p->extras[i])) {
            *ret_key = str_skip(name, p->extras[i].n);
            return true;
        }
    return false;
}

static bool is_ours(const struct front_proxy *p, struct str name)
{
    struct str key;

    return among(name, p->users, p->n_users) || among(name, p->uids, p->n_uids) || among(name, p->groups, p->n_groups)
           || has_extra_prefix(p, name, &key);
}

/* A header that Connection names is one that a proxy on the way would have taken out. */
static bool hop_by_hop(const struct front_proxy *p, struct exchange *x)
{
    for (size_t i = 0; i < x->n_headers; i++) {
        struct str rest = x->headers[i].value, token;

        if (!str_is(x->headers[i].name, "connection"))
            continue;
        while (str_next(&rest, ',', &token)) {
            char *lower = arena_strdup(&x->arena, str_trim(token));

            for (char *c = lower; *c; c++)
                if (*c >= 'A' && *c <= 'Z')
                    *c = (char)(*c - 'A' + 'a');
            if (is_ours(p, str_of(lower)))
                return true;
        }
    }
    return false;
}

/* The one value of the first of these headers that is there; absent without one. false: there are two. */
static bool one_of(struct exchange *x, const struct str *names, size_t n, struct str *ret)
{
    *ret = STR_NONE;
    for (size_t i = 0; i < n && !ret->p; i++)
        for (size_t j = 0; j < x->n_headers; j++) {
            if (!str_eq(x->headers[j].name, names[i]))
                continue;
            if (ret->p)
                return false;
            *ret = x->headers[j].value;
        }
    return true;
}

static const char *const *groups_of(const struct front_proxy *p, struct exchange *x)
{
    const char **groups = ARENA_ARRAY(&x->arena, const char *, x->n_headers + 1);
    size_t n = 0;

    for (size_t i = 0; i < x->n_headers; i++)
        if (among(x->headers[i].name, p->groups, p->n_groups) && x->headers[i].value.n)
            groups[n++] = arena_strdup(&x->arena, x->headers[i].value);
    groups[n] = NULL;
    return groups;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* %-encoded, as header names can hold no more; what is not is taken as it stands. */
static struct str decoded(struct arena *a, struct str s)
{
    char *out = arena_alloc_bytes(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '%') {
            out[n++] = s.p[i];
            continue;
        }
        if (i + 2 >= s.n || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0 || (s.p[i + 1] == '0' && s.p[i + 2] == '0'))
            return s;
        out[n++] = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
        i += 2;
    }
    out[n] = '\0';
    return str_n(out, n);
}

static const struct json *extra_of(const struct front_proxy *p, struct exchange *x)
{
    const struct json *all = NULL;
    struct arena *a = &x->arena;

    for (size_t i = 0; i < x->n_headers; i++) {
        struct str key;
        const struct json *values;

        if (!has_extra_prefix(p, x->headers[i].name, &key) || !key.n)
            continue;
        key = decoded(a, key);
        values = json_get_str(all, key);
        values = json_append(a, values ? values : json_array(a, NULL), json_new_str(a, x->headers[i].value));
        all = json_with_str(a, all ? all : json_object(a, NULL), key, values);
    }
    return all;
}

bool front_proxy_identity(const struct front_proxy *p, struct exchange *x, struct identity *ret, struct error *err)
{
    struct str user, uid;
    struct identity who = {0};

    if (!is_front_proxy(p, x))
        return error_set(err, ERROR_UNAUTHORIZED, "request is not authenticated");
    if (hop_by_hop(p, x))
        return error_set(err, ERROR_UNAUTHORIZED, "the Connection header names a header that says who asks");
    if (!one_of(x, p->users, p->n_users, &user) || !one_of(x, p->uids, p->n_uids, &uid))
        return error_set(err, ERROR_UNAUTHORIZED, "a header that says who asks is there twice");
    if (!user.n)
        return error_set(err, ERROR_UNAUTHORIZED, "a valid user header is required for authorization");
    who.user = arena_strdup(&x->arena, user);
    who.uid = uid.n ? arena_strdup(&x->arena, uid) : NULL;
    who.groups = groups_of(p, x);
    if (!who.groups[0])
        return error_set(err, ERROR_UNAUTHORIZED, "a valid group header is required for authorization");
    who.extra = extra_of(p, x);
    *ret = who;
    return true;
}
