/* apiserver/authn - who asks: client certificate, peer of a local socket, service account token, or nobody.
 *
 * Tokens are JWTs signed by the server's own key (ES256 for EC P-256, RS256 for RSA): issuer, audience, expiry, and the
 * service account with the UID it had; when the account (or the pod it was bound to) is gone or was made anew,
 * the token is void. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/ident.h"
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

struct token_key {
    EVP_PKEY *key;
    bool rsa;
    char kid[48];
    char *jwks;
};

static bool bn_param(EVP_PKEY *key, const char *name, struct buf *b)
{
    BIGNUM *bn = NULL;
    unsigned char raw[1024];
    int n;

    if (!EVP_PKEY_get_bn_param(key, name, &bn))
        return false;
    n = BN_num_bytes(bn);
    if (n > 0 && (size_t)n <= sizeof raw) {
        if (strcmp(name, OSSL_PKEY_PARAM_EC_PUB_X) == 0
            || strcmp(name, OSSL_PKEY_PARAM_EC_PUB_Y) == 0)
            n = BN_bn2binpad(bn, raw, 32);
        else
            n = BN_bn2bin(bn, raw);
        buf_add_base64url(b, raw, (size_t)n);
    }
    BN_free(bn);
    return n > 0;
}

static bool make_jwks(struct token_key *k)
{
    AUTO(buf_done) struct buf b = {0}, x = {0}, y = {0};

    if (k->rsa) {
        if (!bn_param(k->key, OSSL_PKEY_PARAM_RSA_N, &x)
            || !bn_param(k->key, OSSL_PKEY_PARAM_RSA_E, &y))
            return false;
        buf_addf(&b,
                 "{\"keys\":[{\"use\":\"sig\",\"kty\":\"RSA\",\"kid\":\"%s\",\"alg\":\"RS256\","
                 "\"n\":\"%s\",\"e\":\"%s\"}]}",
                 k->kid, x.p, y.p);
    } else {
        if (!bn_param(k->key, OSSL_PKEY_PARAM_EC_PUB_X, &x)
            || !bn_param(k->key, OSSL_PKEY_PARAM_EC_PUB_Y, &y))
            return false;
        buf_addf(&b,
                 "{\"keys\":[{\"use\":\"sig\",\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"P-256\","
                 "\"alg\":\"ES256\",\"x\":\"%s\","
                 "\"y\":\"%s\"}]}",
                 k->kid, x.p, y.p);
    }
    k->jwks = buf_detach(&b);
    return true;
}

bool tokens_init(struct apiserver *s, struct error *err)
{
    struct token_key *k;
    unsigned char digest[SHA256_DIGEST_LENGTH], *der = NULL;
    AUTO(buf_done) struct buf kid = {0};
    BIO *bio;
    int n;

    if (!s->config.service_account_key_pem)
        return true;
    bio = BIO_new_mem_buf(s->config.service_account_key_pem, -1);
    k = s->tokens = NEW(struct token_key);
    k->key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (!k->key)
        return error_set(err, ERROR_INVALID, "service account key: not a private key in PEM");
    k->rsa = EVP_PKEY_base_id(k->key) == EVP_PKEY_RSA;
    if (!k->rsa && (EVP_PKEY_base_id(k->key) != EVP_PKEY_EC || EVP_PKEY_bits(k->key) != 256))
        return error_set(err, ERROR_INVALID, "service account key: neither RSA nor EC P-256");
    n = i2d_PUBKEY(k->key, &der);
    if (n <= 0)
        return error_set(err, ERROR_INTERNAL, "service account key: no public key");
    SHA256(der, (size_t)n, digest);
    OPENSSL_free(der);
    buf_add_base64url(&kid, digest, sizeof digest);
    snprintf(k->kid, sizeof k->kid, "%s", kid.p);
    if (!make_jwks(k))
        return error_set(err, ERROR_INTERNAL, "service account key: cannot be published");
    return true;
}

void tokens_free(struct token_key *k)
{
    if (!k)
        return;
    EVP_PKEY_free(k->key);
    free(k->jwks);
    free(k);
}

/* JOSE wants r and s side by side where OpenSSL has a DER sequence. */
static bool der_to_raw(const unsigned char *der, size_t n, unsigned char raw[64])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
    bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32) == 32
              && BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32) == 32;

    ECDSA_SIG_free(sig);
    return ok;
}

static int raw_to_der(const unsigned char raw[64], unsigned char **ret)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    int n;

    ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
    n = i2d_ECDSA_SIG(sig, ret);
    ECDSA_SIG_free(sig);
    return n;
}

static bool sign(const struct token_key *k, struct str text, struct buf *out)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char sig[1024], raw[64];
    size_t n = sizeof sig;
    bool ok = EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, k->key) == 1
              && EVP_DigestSign(ctx, sig, &n, (const unsigned char *)text.p, text.n) == 1;

    EVP_MD_CTX_free(ctx);
    if (!ok)
        return false;
    if (k->rsa)
        buf_add_base64url(out, sig, n);
    else if ((ok = der_to_raw(sig, n, raw)))
        buf_add_base64url(out, raw, sizeof raw);
    return ok;
}

static bool signature_good(const struct token_key *k, struct str text, struct str signature)
{
    EVP_MD_CTX *ctx;
    unsigned char *der = NULL;
    const unsigned char *sig = (const unsigned char *)signature.p;
    size_t n = signature.n;
    bool ok;

    if (!k->rsa) {
        int len;

        if (n != 64)
            return false;
        len = raw_to_der(sig, &der);
        if (len <= 0)
            return false;
        sig = der;
        n = (size_t)len;
    }
    ctx = EVP_MD_CTX_new();
    ok = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, k->key) == 1
         && EVP_DigestVerify(ctx, sig, n, (const unsigned char *)text.p, text.n) == 1;
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    return ok;
}

static bool make_token(struct apiserver *s, const struct json *claims, struct buf *out)
{
    AUTO(buf_done) struct buf head = {0}, body = {0};

    buf_addf(&head, "{\"alg\":\"%s\",\"kid\":\"%s\"}", s->tokens->rsa ? "RS256" : "ES256",
             s->tokens->kid);
    json_write(&body, claims);
    buf_add_base64url(out, head.p, head.n);
    buf_addc(out, '.');
    buf_add_base64url(out, body.p, body.n);
    buf_clear(&head);
    if (!sign(s->tokens, buf_str(out), &head))
        return false;
    buf_addc(out, '.');
    buf_addstr(out, buf_str(&head));
    return true;
}

static bool audience_ok(const struct json *aud, const char *wanted)
{
    if (str_is(json_str(aud), wanted))
        return true;
    json_each_item(it, aud) {
        if (str_is(json_str(it), wanted))
            return true;
    }
    return false;
}

/* The account, and what the token was bound to, must still be the same. */
static bool still_there(struct apiserver *s, const struct json *claims, struct arena *a)
{
    const struct json *k8s = json_get(claims, "kubernetes.io");
    struct str ns = json_str_at(k8s, "namespace"), name = json_str_at(k8s, "serviceaccount/name"),
               uid = json_str_at(k8s, "serviceaccount/uid"), pod = json_str_at(k8s, "pod/name");
    const struct json *sa = apiserver_peek(s, "", "serviceaccounts", ns, name, a);

    if (!sa || !str_eq(meta_uid(sa), uid))
        return false;
    if (pod.n) {
        const struct json *p = apiserver_peek(s, "", "pods", ns, pod, a);

        return p && str_eq(meta_uid(p), json_str_at(k8s, "pod/uid"));
    }
    if (json_str_at(k8s, "secret/name").n) {
        const struct json *p =
            apiserver_peek(s, "", "secrets", ns, json_str_at(k8s, "secret/name"), a);

        return p && str_eq(meta_uid(p), json_str_at(k8s, "secret/uid"));
    }
    return true;
}

static void account_identity(const struct json *claims, struct arena *a, struct identity *ret)
{
    const struct json *k8s = json_get(claims, "kubernetes.io");
    struct str ns = json_str_at(k8s, "namespace");
    const char **groups = ARENA_ARRAY(a, const char *, 4);

    groups[0] = "system:serviceaccounts";
    groups[1] = arena_printf(a, "system:serviceaccounts:" STR_FMT, STR_ARG(ns));
    groups[2] = "system:authenticated";
    ret->user = arena_printf(a, "system:serviceaccount:" STR_FMT ":" STR_FMT, STR_ARG(ns),
                             STR_ARG(json_str_at(k8s, "serviceaccount/name")));
    ret->uid = arena_strdup(a, json_str_at(k8s, "serviceaccount/uid"));
    ret->groups = groups;
    ret->extra = json_object(
        a, "authentication.kubernetes.io/credential-id",
        json_array(a, json_new_f(a, "JTI=" STR_FMT, STR_ARG(json_str_at(claims, "jti"))), NULL),
        "authentication.kubernetes.io/pod-name",
        json_at(k8s, "pod/name") ? json_array(a, json_at(k8s, "pod/name"), NULL) : NULL,
        "authentication.kubernetes.io/pod-uid",
        json_at(k8s, "pod/uid") ? json_array(a, json_at(k8s, "pod/uid"), NULL) : NULL, NULL);
}

bool token_verify(struct apiserver *s, struct str token, const char *audience, struct arena *a,
                  struct identity *ret, struct error *err)
{
    struct str head, body, signed_part, signature;
    AUTO(buf_done) struct buf h = {0}, c = {0}, sig = {0};
    const struct json *header, *claims;
    int64_t now = loop_unix_ns(s->loop) / 1000000000;

    if (!s->tokens || token.n > 16384 || !str_rcut(token, '.', &signed_part, &signature)
        || !str_cut(signed_part, '.', &head, &body))
        return error_set(err, ERROR_UNAUTHORIZED, "invalid bearer token");
    if (!buf_add_base64url_decoded(&h, head, err) || !buf_add_base64url_decoded(&c, body, err)
        || !buf_add_base64url_decoded(&sig, signature, err)
        || !json_parse(buf_str(&h), a, &header, err) || !json_parse(buf_str(&c), a, &claims, err))
        return error_set(err, ERROR_UNAUTHORIZED, "invalid bearer token");
    if (!str_is(json_str_at(header, "alg"), s->tokens->rsa ? "RS256" : "ES256")
        || !signature_good(s->tokens, signed_part, buf_str(&sig)))
        return error_set(err, ERROR_UNAUTHORIZED, "invalid bearer token");
    if (!str_is(json_str_at(claims, "iss"), s->config.issuer))
        return error_set(err, ERROR_UNAUTHORIZED, "invalid bearer token: another issuer");
    if (json_i64_at(claims, "exp", 0) <= now)
        return error_set(err, ERROR_UNAUTHORIZED, "invalid bearer token: token has expired");
    if (json_i64_at(claims, "nbf", 0) > now + 5)
        return error_set(err, ERROR_UNAUTHORIZED, "invalid bearer token: not valid yet");
    if (!audience_ok(json_get(claims, "aud"), audience ? audience : s->config.issuer))
        return error_set(err, ERROR_UNAUTHORIZED,
                         "invalid bearer token: made for another audience");
    if (!still_there(s, claims, a))
        return error_set(err, ERROR_UNAUTHORIZED,
                         "invalid bearer token: its service account or pod is gone");
    account_identity(claims, a, ret);
    return true;
}

bool jwks_handle(struct request *r)
{
    if (str_is(r->path, "/openid/v1/jwks") && r->s->tokens) {
        answer_text(r, 200, "application/jwk-set+json", str_of(r->s->tokens->jwks));
        return true;
    }
    if (str_is(r->path, "/.well-known/openid-configuration") && r->s->tokens) {
        struct arena *a = &r->arena;

        answer_json(
            r, 200,
            json_object(a, "issuer", json_new_z(a, r->s->config.issuer), "jwks_uri",
                        json_new_f(a, "https://" STR_FMT "/openid/v1/jwks",
                                   STR_ARG(exchange_header(r->x, "host"))),
                        "response_types_supported", json_array(a, json_new_z(a, "id_token"), NULL),
                        "subject_types_supported", json_array(a, json_new_z(a, "public"), NULL),
                        "id_token_signing_alg_values_supported",
                        json_array(a, json_new_z(a, r->s->tokens->rsa ? "RS256" : "ES256"), NULL),
                        NULL));
        return true;
    }
    return false;
}

/* POST serviceaccounts/<name>/token */
void tokens_request(struct request *r)
{
    struct arena *a = &r->arena;
    struct json_dups dups = {0};
    const struct json *body, *sa, *claims, *bound, *k8s, *aud;
    AUTO(buf_done) struct buf token = {0};
    int64_t now = loop_unix_ns(r->s->loop) / 1000000000, ttl;
    char jti[UUID_LEN + 1], expiry[TIME_TEXT_LEN + 1];

    if (!r->s->tokens) {
        answer_status(r, 501, "NotImplemented", "this server has no key for service account tokens",
                      NULL);
        return;
    }
    if (!body_parse(r, r->kind->info, &body, &dups))
        return;
    sa = apiserver_peek(r->s, "", "serviceaccounts", r->ns, r->name, a);
    if (!sa) {
        answer_not_found(r);
        return;
    }
    ttl = json_i64_at(body, "spec/expirationSeconds", 3600);
    if (ttl < 600 || ttl > (int64_t)1 << 32) {
        answer_invalid_one(
            r, "TokenRequest", "authentication.k8s.io", "", "FieldValueInvalid",
            "spec.expirationSeconds",
            arena_printf(a, "Invalid value: %lld: %s", (long long)ttl,
                         ttl < 600 ? "may not specify a duration less than 10 minutes"
                                   : "may not specify a duration larger than 2^32 seconds"));
        return;
    }
    aud = json_len(json_at(body, "spec/audiences"))
              ? json_at(body, "spec/audiences")
              : json_array(a, json_new_z(a, r->s->config.issuer), NULL);
    k8s = json_object(a, "namespace", json_new_str(a, r->ns), "serviceaccount",
                      json_object(a, "name", json_new_str(a, r->name), "uid",
                                  json_new_str(a, meta_uid(sa)), NULL),
                      NULL);
    bound = json_at(body, "spec/boundObjectRef");
    if (str_is(json_str_at(bound, "kind"), "Pod") || str_is(json_str_at(bound, "kind"), "Secret")) {
        bool pod = str_is(json_str_at(bound, "kind"), "Pod");
        struct str name = json_str_at(bound, "name"), uid = json_str_at(bound, "uid");
        const struct json *o = apiserver_peek(r->s, "", pod ? "pods" : "secrets", r->ns, name, a);

        if (!o || (uid.n && !str_eq(uid, meta_uid(o)))) {
            answer_status(r, o ? 409 : 404, o ? "Conflict" : "NotFound",
                          arena_printf(a, "%s \"" STR_FMT "\" %s", pod ? "pods" : "secrets",
                                       STR_ARG(name), o ? "has another UID" : "not found"),
                          NULL);
            return;
        }
        k8s = json_with(a, k8s, pod ? "pod" : "secret",
                        json_object(a, "name", json_new_str(a, name), "uid",
                                    json_new_str(a, meta_uid(o)), NULL));
    } else if (json_str_at(bound, "kind").n) {
        answer_invalid_one(r, "TokenRequest", "authentication.k8s.io", "", "FieldValueInvalid",
                           "spec.boundObjectRef.kind",
                           "Invalid value: only Pod and Secret can be bound to");
        return;
    }
    ident_uuid4(jti);
    claims =
        json_object(a, "aud", aud, "exp", json_new_i64(a, now + ttl), "iat", json_new_i64(a, now),
                    "iss", json_new_z(a, r->s->config.issuer), "jti", json_new_z(a, jti),
                    "kubernetes.io", k8s, "nbf", json_new_i64(a, now), "sub",
                    json_new_f(a, "system:serviceaccount:" STR_FMT ":" STR_FMT, STR_ARG(r->ns),
                               STR_ARG(r->name)),
                    NULL);
    if (!make_token(r->s, claims, &token)) {
        answer_status(r, 500, "InternalError", "the token could not be signed", NULL);
        return;
    }
    ident_time((now + ttl) * 1000000000, false, expiry);
    answer_json(
        r, 201,
        json_object(a, "kind", json_new_z(a, "TokenRequest"), "apiVersion",
                    json_new_z(a, "authentication.k8s.io/v1"), "metadata",
                    json_object(a, "name", json_new_str(a, r->name), "namespace",
                                json_new_str(a, r->ns), "uid", json_new_str(a, meta_uid(sa)),
                                "creationTimestamp", json_new_z(a, now_text(r->s, false, a)), NULL),
                    "spec",
                    json_object(a, "audiences", aud, "expirationSeconds", json_new_i64(a, ttl),
                                "boundObjectRef", bound ? bound : json_null(), NULL),
                    "status",
                    json_object(a, "token", json_new_str(a, buf_str(&token)), "expirationTimestamp",
                                json_new_z(a, expiry), NULL),
                    NULL));
}

static void groups_with(struct arena *a, const char *const *in, const char *last,
                        const char *const **ret)
{
    size_t n = 0;
    const char **out;

    while (in && in[n])
        n++;
    out = ARENA_ARRAY(a, const char *, n + 2);
    for (size_t i = 0; i < n; i++)
        out[i] = arena_strdup(a, str_of(in[i]));
    out[n] = last;
    *ret = out;
}

/* Impersonate-User and its like, each allowed by RBAC. */
static bool impersonate(struct request *r, struct error *err)
{
    struct exchange *x = r->x;
    struct arena *a = &r->arena;
    struct str user = exchange_header(x, "impersonate-user"), name, ns;
    const char **groups;
    size_t n = 0;
    struct identity who = {0};
    static const char account[] = "system:serviceaccount:";
    bool ok;

    groups = ARENA_ARRAY(a, const char *, x->n_headers + 4);
    for (size_t i = 0; i < x->n_headers; i++)
        if (str_is(x->headers[i].name, "impersonate-group"))
            groups[n++] = arena_strdup(a, x->headers[i].value);
    if (str_empty(user)) {
        if (n)
            return error_set(err, ERROR_FORBIDDEN, "requested groups without impersonating a user");
        return true;
    }
    who.user = arena_strdup(a, user);
    if (str_starts(user, str_of(account))
        && str_cut(str_skip(user, strlen(account)), ':', &ns, &name))
        ok = apiserver_authorized(r->s, &r->who, "impersonate", "", "serviceaccounts", NULL, ns,
                                  name);
    else
        ok = apiserver_authorized(r->s, &r->who, "impersonate", "", "users", NULL, STR_NONE, user);
    for (size_t i = 0; ok && i < n; i++)
        ok = apiserver_authorized(r->s, &r->who, "impersonate", "", "groups", NULL, STR_NONE,
                                  str_of(groups[i]));
    if (!ok)
        return error_set(
            err, ERROR_FORBIDDEN,
            "users \"%s\" is forbidden: User \"%s\" cannot impersonate resource \"users\" in "
            "API group \"\" at the cluster scope",
            who.user, r->who.user);
    if (str_starts(user, str_of(account)) && n == 0
        && str_cut(str_skip(user, strlen(account)), ':', &ns, &name)) {
        groups[n++] = "system:serviceaccounts";
        groups[n++] = arena_printf(a, "system:serviceaccounts:" STR_FMT, STR_ARG(ns));
    }
    groups[n++] = strcmp(who.user, "system:anonymous") != 0 ? "system:authenticated"
                                                            : "system:unauthenticated";
    who.groups = groups;
    r->who = who;
    return true;
}

bool authenticate(struct request *r, struct error *err)
{
    static const char *const unknown[] = {"system:unauthenticated", NULL};
    struct exchange *x = r->x;
    struct str auth = exchange_header(x, "authorization"), token;

    if (x->peer && x->peer->cert_cn) {
        r->who.user = arena_strdup(&r->arena, str_of(x->peer->cert_cn));
        groups_with(&r->arena, (const char *const *)x->peer->cert_orgs, "system:authenticated",
                    &r->who.groups);
    } else if (auth.n > 7 && str_eq_nocase(str_take(auth, 7), STR("bearer "))) {
        token = str_trim(str_skip(auth, 7));
        if (!token_verify(r->s, token, NULL, &r->arena, &r->who, err))
            return false;
    } else if (!str_empty(auth)) {
        return error_set(err, ERROR_UNAUTHORIZED, "unknown kind of authorization");
    } else if (x->peer && x->peer->local && x->peer->uid == 0) {
        static const char *const node[] = {"system:nodes", "system:masters", NULL};

        r->who.user = arena_printf(&r->arena, "system:node:%s",
                                   r->s->config.node_name ? r->s->config.node_name : "");
        groups_with(&r->arena, node, "system:authenticated", &r->who.groups);
    } else {
        r->who.user = "system:anonymous";
        r->who.groups = unknown;
    }
    return impersonate(r, err);
}
