/* apiserver/tokens - service account tokens: made by TokenRequest or kept in Secrets of type
 * kubernetes.io/service-account-token, and checked.
 *
 * A signature alone proves nothing for long: the account must still have the UID that the token names, and what the token is bound
 * to (pod, Secret or Node) must be there with its UID and not be gone for a minute already. Times have a leeway of one minute. */
#include "api/managed.h"
#include "api/meta.h"
#include "api/types.h"
#include "apiserver/internal.h"
#include "apiserver/jwt.h"
#include "base/ident.h"
#include <openssl/crypto.h>

#define LEGACY_ISSUER "kubernetes/serviceaccount"
#define LEGACY "kubernetes.io/serviceaccount/"
#define LEEWAY_S 60

bool tokens_init(struct apiserver *s, struct error *err)
{
    if (!s->config.service_account_key_pem)
        return true;
    s->tokens = jwt_key_new(s->config.service_account_key_pem, err);
    return s->tokens != NULL;
}

static bool refuse(struct error *err, const char *why)
{
    return error_set(err, ERROR_UNAUTHORIZED, "%s", why);
}

/* An object that a token hangs on: there, the same one, and not going away for longer than the leeway. */
static bool alive(struct apiserver *s, const struct json *o, struct str uid)
{
    struct str since = json_str_at(o, "metadata/deletionTimestamp");
    AUTO(error_clear) struct error err = {0};
    int64_t at;

    if (!o || !str_eq(meta_uid(o), uid))
        return false;
    return !since.n || !ident_parse_time(since, &at, &err)
           || at >= loop_unix_ns(s->loop) - SECONDS(LEEWAY_S);
}

static bool bound_alive(struct apiserver *s, const struct json *k8s, struct arena *a)
{
    static const struct {
        const char *claim, *plural;
        bool namespaced;
    } kinds[] = {{"pod", "pods", true}, {"secret", "secrets", true}, {"node", "nodes", false}};
    struct str ns = json_str_at(k8s, "namespace");

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        const struct json *ref = json_get(k8s, kinds[i].claim);

        if (!ref)
            continue;
        /* Beside a pod the node is only told, not checked, as upstream does it. */
        if (!strcmp(kinds[i].claim, "node") && json_get(k8s, "pod"))
            continue;
        if (!alive(s,
                   apiserver_peek(s, "", kinds[i].plural, kinds[i].namespaced ? ns : STR_NONE,
                                  json_str_at(ref, "name"), a),
                   json_str_at(ref, "uid")))
            return false;
    }
    return true;
}

static void identify(struct arena *a, struct str ns, struct str name, struct str uid,
                     struct identity *ret)
{
    const char **groups = ARENA_ARRAY(a, const char *, 4);

    groups[0] = "system:serviceaccounts";
    groups[1] = arena_printf(a, "system:serviceaccounts:" STR_FMT, STR_ARG(ns));
    groups[2] = "system:authenticated";
    *ret = (struct identity){.user = arena_printf(a, "system:serviceaccount:" STR_FMT ":" STR_FMT,
                                                  STR_ARG(ns), STR_ARG(name)),
                             .uid = arena_strdup(a, uid),
                             .groups = groups};
}

static const struct json *one(struct arena *a, const struct json *v)
{
    return v ? json_array(a, v, NULL) : NULL;
}

static const struct json *extra_of(struct arena *a, const struct json *claims)
{
    const struct json *k8s = json_get(claims, "kubernetes.io");
    struct str jti = json_str_at(claims, "jti");
    const struct json *x =
        json_object(a, "authentication.kubernetes.io/credential-id",
                    jti.n ? one(a, json_new_f(a, "JTI=" STR_FMT, STR_ARG(jti))) : NULL,
                    "authentication.kubernetes.io/node-name", one(a, json_at(k8s, "node/name")),
                    "authentication.kubernetes.io/node-uid", one(a, json_at(k8s, "node/uid")),
                    "authentication.kubernetes.io/pod-name", one(a, json_at(k8s, "pod/name")),
                    "authentication.kubernetes.io/pod-uid", one(a, json_at(k8s, "pod/uid")), NULL);

    return json_len(x) ? x : NULL;
}

static bool times_good(struct apiserver *s, const struct json *claims, struct error *err)
{
    int64_t now = loop_unix_ns(s->loop) / SECONDS(1);

    if (!json_get(claims, "exp") || json_i64_at(claims, "exp", 0) < now - LEEWAY_S)
        return refuse(err, "service account token has expired");
    if (json_i64_at(claims, "nbf", 0) > now + LEEWAY_S)
        return refuse(err, "service account token is not valid yet");
    if (json_i64_at(claims, "iat", 0) > now + LEEWAY_S)
        return refuse(err, "service account token was issued in the future");
    return true;
}

static bool verify_bound(struct apiserver *s, const struct json *claims, struct arena *a,
                         struct identity *ret, struct error *err)
{
    const struct json *k8s = json_get(claims, "kubernetes.io");
    struct str ns = json_str_at(k8s, "namespace"), name = json_str_at(k8s, "serviceaccount/name"),
               uid = json_str_at(k8s, "serviceaccount/uid");

    if (!times_good(s, claims, err))
        return false;
    if (!ns.n || !name.n || !alive(s, apiserver_peek(s, "", "serviceaccounts", ns, name, a), uid))
        return refuse(err, "service account is gone or another one by now");
    if (!bound_alive(s, k8s, a))
        return refuse(err, "service account token has been invalidated");
    identify(a, ns, name, uid, ret);
    ret->extra = extra_of(a, claims);
    return true;
}

/* A token without end: it lives as long as the Secret that holds it. */
static bool verify_legacy(struct apiserver *s, struct str token, const struct json *claims,
                          struct arena *a, struct identity *ret, struct error *err)
{
    struct str ns = json_str(json_get(claims, LEGACY "namespace")),
               name = json_str(json_get(claims, LEGACY "service-account.name")),
               uid = json_str(json_get(claims, LEGACY "service-account.uid")),
               secret = json_str(json_get(claims, LEGACY "secret.name"));
    const struct json *o, *account;
    AUTO(buf_done) struct buf kept = {0};

    if (!ns.n || !name.n || !uid.n || !secret.n)
        return refuse(err, "service account token lacks a claim");
    o = apiserver_peek(s, "", "secrets", ns, secret, a);
    if (!o || meta_deleting(o)
        || !str_is(json_str_at(o, "type"), "kubernetes.io/service-account-token")
        || !buf_add_base64_decoded(&kept, json_str_at(o, "data/token"), err))
        return refuse(err, "service account token has been invalidated");
    if (kept.n != token.n || CRYPTO_memcmp(kept.p, token.p, token.n) != 0)
        return refuse(err, "service account token is not its Secret's");
    account = apiserver_peek(s, "", "serviceaccounts", ns, name, a);
    if (!account || meta_deleting(account) || !str_eq(meta_uid(account), uid))
        return refuse(err, "service account is gone or another one by now");
    identify(a, ns, name, uid, ret);
    return true;
}

static bool lists(const struct json *aud, struct str wanted)
{
    if (str_eq(json_str(aud), wanted))
        return true;
    json_each_item(it, aud) {
        if (str_eq(json_str(it), wanted))
            return true;
    }
    return false;
}

/* Of the wanted audiences those that the token has, in the order of the wish. */
static const struct json *common(const struct json *wanted, const struct json *has, struct arena *a)
{
    const struct json *out = json_array(a, NULL);

    json_each_item(it, wanted) {
        if (lists(has, json_str(it)))
            out = json_append(a, out, it);
    }
    return out;
}

bool token_verify(struct apiserver *s, struct str token, const struct json *audiences,
                  struct arena *a, struct identity *ret, const struct json **ret_audiences,
                  struct error *err)
{
    const struct json *claims, *own, *has, *both;
    struct str issuer;
    bool legacy;

    if (!s->tokens)
        return refuse(err, "invalid bearer token");
    if (!jwt_open(s->tokens, token, a, &claims, err))
        return false;
    own = json_array(a, json_new_z(a, s->config.issuer), NULL);
    issuer = json_str_at(claims, "iss");
    legacy = str_is(issuer, LEGACY_ISSUER);
    if (!legacy && !str_is(issuer, s->config.issuer))
        return refuse(err, "invalid bearer token");
    has = legacy ? own : json_get(claims, "aud");
    both = common(json_len(audiences) ? audiences : own, has, a);
    if (!json_len(both))
        return error_set(err, ERROR_UNAUTHORIZED, "token audiences %s is invalid for this server",
                         legacy ? "of old" : "of its own");
    if (legacy ? !verify_legacy(s, token, claims, a, ret, err)
               : !verify_bound(s, claims, a, ret, err))
        return false;
    if (ret_audiences)
        *ret_audiences = both;
    return true;
}

/* The text that a Secret of type kubernetes.io/service-account-token holds; false without a key. */
bool token_legacy_make(struct apiserver *s, struct str ns, struct str secret,
                       const struct json *account, struct buf *out)
{
    struct arena a = {0};
    bool ok;

    if (!s->tokens)
        return false;
    ok = jwt_sign(s->tokens,
                  json_object(&a, "iss", json_new_z(&a, LEGACY_ISSUER), LEGACY "namespace",
                              json_new_str(&a, ns), LEGACY "secret.name", json_new_str(&a, secret),
                              LEGACY "service-account.name", json_new_str(&a, meta_name(account)),
                              LEGACY "service-account.uid", json_new_str(&a, meta_uid(account)),
                              "sub",
                              json_new_f(&a, "system:serviceaccount:" STR_FMT ":" STR_FMT,
                                         STR_ARG(ns), STR_ARG(meta_name(account))),
                              NULL),
                  out);
    arena_done(&a);
    return ok;
}

bool jwks_handle(struct request *r)
{
    struct arena *a = &r->arena;

    if (!r->s->tokens)
        return false;
    if (str_is(r->path, "/openid/v1/jwks") || str_is(r->path, "/openid/v1/jwks/")) {
        exchange_set_header(r->x, "Cache-Control", STR("public, max-age=3600"));
        answer_text(r, 200, "application/jwk-set+json", str_of(jwt_key_set(r->s->tokens)));
        return true;
    }
    if (str_is(r->path, "/.well-known/openid-configuration")
        || str_is(r->path, "/.well-known/openid-configuration/")) {
        answer_json(
            r, 200,
            json_object(a, "issuer", json_new_z(a, r->s->config.issuer), "jwks_uri",
                        json_new_f(a, "https://" STR_FMT "/openid/v1/jwks",
                                   STR_ARG(exchange_header(r->x, "host"))),
                        "response_types_supported", json_array(a, json_new_z(a, "id_token"), NULL),
                        "subject_types_supported", json_array(a, json_new_z(a, "public"), NULL),
                        "id_token_signing_alg_values_supported",
                        json_array(a, json_new_z(a, jwt_key_alg(r->s->tokens)), NULL), NULL));
        return true;
    }
    return false;
}

static const struct json *ref_of(struct arena *a, const struct json *o)
{
    return json_object(a, "name", json_new_str(a, meta_name(o)), "uid",
                       json_new_str(a, meta_uid(o)), NULL);
}

static bool bad_request(struct request *r, const char *message)
{
    answer_status(r, 400, "BadRequest", message, NULL);
    return false;
}

static bool no_such(struct request *r, const char *plural, struct str name)
{
    struct arena *a = &r->arena;

    answer_status(
        r, 404, "NotFound", arena_printf(a, "%s \"" STR_FMT "\" not found", plural, STR_ARG(name)),
        json_object(a, "name", json_new_str(a, name), "kind", json_new_z(a, plural), NULL));
    return false;
}

/* The pod's node is told in its tokens. */
static const struct json *with_node(struct request *r, const struct json *claims,
                                    const struct json *pod)
{
    struct arena *a = &r->arena;
    struct str node = json_str_at(pod, "spec/nodeName");
    const struct json *o;

    if (!node.n)
        return claims;
    o = apiserver_peek(r->s, "", "nodes", STR_NONE, node, a);
    return json_with(a, claims, "node",
                     o ? ref_of(a, o) : json_object(a, "name", json_new_str(a, node), NULL));
}

/* spec.boundObjectRef becomes claims. False: answered. */
static bool bind_to(struct request *r, const struct json *ref, const struct json **claims)
{
    struct arena *a = &r->arena;
    struct str kind = json_str_at(ref, "kind"), name = json_str_at(ref, "name"),
               uid = json_str_at(ref, "uid"), version,
               group = meta_group(json_str_at(ref, "apiVersion"), &version);
    bool pod = str_is(kind, "Pod"), node = str_is(kind, "Node");
    const char *plural = pod ? "pods" : node ? "nodes" : "secrets";
    const struct json *o;

    if (!json_is(ref, JSON_OBJECT))
        return true;
    if (group.n || (!pod && !node && !str_is(kind, "Secret")))
        return bad_request(r, arena_printf(a,
                                           "cannot bind token to object of type " STR_FMT
                                           "/" STR_FMT ", Kind=" STR_FMT,
                                           STR_ARG(group), STR_ARG(version), STR_ARG(kind)));
    o = apiserver_peek(r->s, "", plural, node ? STR_NONE : r->ns, name, a);
    if (!o)
        return no_such(r, plural, name);
    if (pod && !str_eq(json_str_at(o, "spec/serviceAccountName"), r->name))
        return bad_request(r, arena_printf(a,
                                           "cannot bind token for serviceaccount \"" STR_FMT
                                           "\" to pod running with serviceaccount \"" STR_FMT "\"",
                                           STR_ARG(r->name),
                                           STR_ARG(json_str_at(o, "spec/serviceAccountName"))));
    if (uid.n && !str_eq(uid, meta_uid(o))) {
        answer_status(
            r, 409, "Conflict",
            arena_printf(a,
                         "Operation cannot be fulfilled on " STR_FMT " \"" STR_FMT
                         "\": the UID in the bound object reference (" STR_FMT
                         ") does not match the UID in record. The object might have been "
                         "deleted and then recreated",
                         STR_ARG(kind), STR_ARG(name), STR_ARG(uid)),
            json_object(a, "name", json_new_str(a, name), "kind", json_new_str(a, kind), NULL));
        return false;
    }
    *claims = json_with(a, *claims, pod ? "pod" : node ? "node" : "secret", ref_of(a, o));
    if (pod)
        *claims = with_node(r, *claims, o);
    return true;
}

static bool ttl_good(struct request *r, int64_t ttl)
{
    struct arena *a = &r->arena;

    if (ttl >= 600 && ttl <= (int64_t)1 << 32)
        return true;
    answer_invalid_one(r, "TokenRequest", "authentication.k8s.io", "", "FieldValueInvalid",
                       "spec.expirationSeconds",
                       arena_printf(a, "Invalid value: %lld: %s", (long long)ttl,
                                    ttl < 600
                                        ? "may not specify a duration less than 10 minutes"
                                        : "may not specify a duration larger than 2^32 seconds"));
    return false;
}

/* Who asked for the token, in what it was asked for with. */
static const struct json *owners(struct request *r, const struct json *body, int64_t ttl)
{
    struct arena *a = &r->arena;
    struct managed_request m = {.manager = request_manager(r),
                                .api_version = "authentication.k8s.io/v1",
                                .subresource = "token",
                                .now = now_text(r->s, false, a)};
    const struct json *asked =
        json_get(body, "spec") ? json_get(body, "spec") : json_object(a, NULL);

    asked = json_with(a, asked, "expirationSeconds", json_new_i64(a, ttl));
    asked = json_object(a, "metadata", json_object(a, NULL), "spec", asked, NULL);
    asked = managed_update(a, &schema_type_authn_token_request, NULL, asked, &m);
    return json_at(asked, "metadata/managedFields");
}

/* POST serviceaccounts/<name>/token */
void tokens_request(struct request *r)
{
    struct arena *a = &r->arena;
    struct json_dups dups = {0};
    const struct json *body, *sa, *claims, *bound, *k8s, *aud;
    AUTO(buf_done) struct buf token = {0};
    int64_t now = loop_unix_ns(r->s->loop) / SECONDS(1), ttl;
    char jti[UUID_LEN + 1], expiry[TIME_TEXT_LEN + 1];

    if (!r->s->tokens) {
        answer_status(r, 501, "NotImplemented", "this server has no key for service account tokens",
                      NULL);
        return;
    }
    if (!body_parse(r, r->kind->info, &body, &dups))
        return;
    ttl = json_i64_at(body, "spec/expirationSeconds", 3600);
    sa = apiserver_peek(r->s, "", "serviceaccounts", r->ns, r->name, a);
    if (!sa) {
        answer_not_found(r);
        return;
    }
    aud = json_len(json_at(body, "spec/audiences"))
              ? json_at(body, "spec/audiences")
              : json_array(a, json_new_z(a, r->s->config.issuer), NULL);
    k8s = json_object(a, "namespace", json_new_str(a, r->ns), NULL);
    bound = json_at(body, "spec/boundObjectRef");
    if (!ttl_good(r, ttl) || !bind_to(r, bound, &k8s))
        return;
    k8s = json_with(a, k8s, "serviceaccount", ref_of(a, sa));
    ident_uuid4(jti);
    claims =
        json_object(a, "aud", aud, "exp", json_new_i64(a, now + ttl), "iat", json_new_i64(a, now),
                    "iss", json_new_z(a, r->s->config.issuer), "jti", json_new_z(a, jti),
                    "kubernetes.io", k8s, "nbf", json_new_i64(a, now), "sub",
                    json_new_f(a, "system:serviceaccount:" STR_FMT ":" STR_FMT, STR_ARG(r->ns),
                               STR_ARG(r->name)),
                    NULL);
    if (!jwt_sign(r->s->tokens, claims, &token)) {
        answer_status(r, 500, "InternalError", "the token could not be signed", NULL);
        return;
    }
    audit_annotate(r, "authentication.kubernetes.io/issued-credential-id",
                   arena_printf(a, "JTI=%s", jti));
    ident_time((now + ttl) * SECONDS(1), false, expiry);
    answer_json(
        r, 201,
        json_object(a, "kind", json_new_z(a, "TokenRequest"), "apiVersion",
                    json_new_z(a, "authentication.k8s.io/v1"), "metadata",
                    json_object(a, "name", json_new_str(a, r->name), "namespace",
                                json_new_str(a, r->ns), "uid", json_new_str(a, meta_uid(sa)),
                                "creationTimestamp", json_new_z(a, now_text(r->s, false, a)),
                                "managedFields", owners(r, body, ttl), NULL),
                    "spec",
                    json_object(a, "audiences", aud, "expirationSeconds", json_new_i64(a, ttl),
                                "boundObjectRef", bound ? bound : json_null(), NULL),
                    "status",
                    json_object(a, "token", json_new_str(a, buf_str(&token)), "expirationTimestamp",
                                json_new_z(a, expiry), NULL),
                    NULL));
}
