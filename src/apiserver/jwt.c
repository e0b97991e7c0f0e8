#include "apiserver/jwt.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

struct jwt_key {
    EVP_PKEY *key;
    bool rsa;
    char kid[48];
    char *set;
    /* SHA-256 of texts whose signature was seen to be wrong, each at the place that its first byte names: a token that is sent
     * again and again is verified once. Such a text never becomes right, so nothing here grows old; later ones take the place. */
    unsigned char refused[256][SHA256_DIGEST_LENGTH];
    uint64_t verified;
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

static bool make_jwks(struct jwt_key *k)
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
    k->set = buf_detach(&b);
    return true;
}

static bool read_key(struct jwt_key *k, const char *pem, struct error *err)
{
    unsigned char digest[SHA256_DIGEST_LENGTH], *der = NULL;
    AUTO(buf_done) struct buf kid = {0};
    BIO *bio = BIO_new_mem_buf(pem, -1);
    int n;

    k->key = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t)""); /* a passphrase is never asked for on a terminal */
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
    return make_jwks(k)
           || error_set(err, ERROR_INTERNAL, "service account key: cannot be published");
}

struct jwt_key *jwt_key_new(const char *private_pem, struct error *err)
{
    struct jwt_key *k = NEW(struct jwt_key);

    if (read_key(k, private_pem, err))
        return k;
    jwt_key_free(k);
    return NULL;
}

void jwt_key_free(struct jwt_key *k)
{
    if (!k)
        return;
    EVP_PKEY_free(k->key);
    free(k->set);
    free(k);
}

const char *jwt_key_alg(const struct jwt_key *k)
{
    return k->rsa ? "RS256" : "ES256";
}

const char *jwt_key_set(const struct jwt_key *k)
{
    return k->set;
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

static bool sign(const struct jwt_key *k, struct str text, struct buf *out)
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

static bool signature_good(const struct jwt_key *k, struct str text, struct str signature)
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

static bool signed_by_us(struct jwt_key *k, struct str token, struct str text, struct str signature)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];

    SHA256((const unsigned char *)token.p, token.n, digest);
    if (memcmp(k->refused[digest[0]], digest, sizeof digest) == 0)
        return false;
    k->verified++;
    if (signature_good(k, text, signature))
        return true;
    memcpy(k->refused[digest[0]], digest, sizeof digest);
    return false;
}

uint64_t jwt_verified(const struct jwt_key *k)
{
    return k->verified;
}

bool jwt_sign(const struct jwt_key *k, const struct json *claims, struct buf *out)
{
    AUTO(buf_done) struct buf head = {0}, body = {0};

    buf_addf(&head, "{\"alg\":\"%s\",\"kid\":\"%s\"}", jwt_key_alg(k), k->kid);
    json_write(&body, claims);
    buf_add_base64url(out, head.p, head.n);
    buf_addc(out, '.');
    buf_add_base64url(out, body.p, body.n);
    buf_clear(&head);
    if (!sign(k, buf_str(out), &head))
        return false;
    buf_addc(out, '.');
    buf_addstr(out, buf_str(&head));
    return true;
}

static bool refuse(struct error *err)
{
    error_clear(err);
    return error_set(err, ERROR_UNAUTHORIZED, "invalid bearer token");
}

/* The header is ours to the letter: another algorithm ("none" too), another key's kid, or "crit" is somebody else's token. A
 * key inside of the header (jwk, x5c, jku) is never looked at. */
static bool header_ours(const struct jwt_key *k, const struct json *header)
{
    struct str kid = json_str_at(header, "kid");

    return str_is(json_str_at(header, "alg"), jwt_key_alg(k)) && !json_get(header, "crit")
           && (!kid.n || str_is(kid, k->kid));
}

bool jwt_open(struct jwt_key *k, struct str token, struct arena *a, const struct json **ret_claims,
              struct error *err)
{
    struct str head, body, signed_part, signature;
    AUTO(buf_done) struct buf h = {0}, c = {0}, sig = {0};
    const struct json *header, *claims;

    if (!token.n || token.n > LIMIT_TOKEN || !str_rcut(token, '.', &signed_part, &signature)
        || !str_cut(signed_part, '.', &head, &body) || str_has(body, '.'))
        return refuse(err);
    if (!buf_add_base64url_decoded(&h, head, err)
        || !buf_add_base64url_decoded(&sig, signature, err)
        || !json_parse(buf_str(&h), a, &header, err) || !header_ours(k, header)
        || !signed_by_us(k, token, signed_part, buf_str(&sig)))
        return refuse(err);
    if (!buf_add_base64url_decoded(&c, body, err) || !json_parse(buf_str(&c), a, &claims, err)
        || !json_is(claims, JSON_OBJECT))
        return refuse(err);
    *ret_claims = claims;
    return true;
}
