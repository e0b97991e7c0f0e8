/* apiserver/authn - who asks: client certificate, bearer token, peer of a local socket, or nobody.
 *
 * They are tried in that order and the first that knows the caller decides; what is offered and turns out wrong (a certificate of
 * another authority or past its time, a token that does not verify) ends in 401 when nothing else knows the caller, as in
 * kube-apiserver. An Authorization header that is not "Bearer <token>" counts as none. Nobody is system:anonymous, and only for
 * the three paths that probes need. Headers that name a user (X-Remote-User) are never believed. */
#include "apiserver/internal.h"

void groups_with(struct arena *a, const char *const *in, const char *last, const char *const **ret)
{
    size_t n = 0;
    const char **out;

    while (in && in[n])
        n++;
    out = ARENA_ARRAY(a, const char *, n + 2);
    for (size_t i = 0; i < n; i++)
        out[i] = arena_strdup(a, str_of(in[i]));
    out[n] = last;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(out[i], last))
            out[n] = NULL;
    *ret = out;
}

/* "Bearer <token>", however the word is spelt; what follows a second space is ignored. */
static struct str bearer(struct str header)
{
    struct str word, rest, token, more;

    if (!str_cut(str_trim(header), ' ', &word, &rest) || !str_eq_nocase(word, STR("bearer")))
        return STR_NONE;
    str_cut(rest, ' ', &token, &more);
    return token.n ? token : STR_NONE;
}

static bool by_token(struct request *r, struct str token)
{
    AUTO(error_clear) struct error err = {0};
    struct arena *a = &r->arena;

    return bootstrap_token_verify(r->s, token, a, &r->who)
           || token_verify(r->s, token, NULL, a, &r->who, NULL, &err);
}

static void anonymous(struct request *r)
{
    static const char *const unknown[] = {"system:unauthenticated", NULL};

    r->who.user = "system:anonymous";
    r->who.groups = unknown;
}

static void local_node(struct request *r)
{
    static const char *const node[] = {"system:nodes", NULL};

    r->who.user = arena_printf(&r->arena, "system:node:%s",
                               r->s->config.node_name ? r->s->config.node_name : "");
    groups_with(&r->arena, node, "system:authenticated", &r->who.groups);
}

/* A certificate counts as long as it is valid, not as long as the connection lasts. */
static bool past_its_time(const struct request *r, const struct http_peer *peer)
{
    return peer->cert_until_unix_s
           && peer->cert_until_unix_s < loop_unix_ns(r->s->loop) / SECONDS(1);
}

bool authenticate(struct request *r)
{
    const struct http_peer *peer = r->x->peer;
    bool cert = peer && peer->cert_cn && !past_its_time(r, peer);
    struct str token = bearer(exchange_header(r->x, "authorization"));

    if (cert) {
        r->who.user = arena_strdup(&r->arena, str_of(peer->cert_cn));
        groups_with(&r->arena, (const char *const *)peer->cert_orgs, "system:authenticated",
                    &r->who.groups);
        return true;
    }
    if (token.p)
        return by_token(r, token);
    if (peer && peer->local && peer->uid == 0) {
        local_node(r);
        return true;
    }
    anonymous(r);
    return r->s->config.anonymous_health && open_path(r->path)
           && !(peer && (peer->cert_bad || peer->cert_cn));
}
