#include "http/tls.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#define BACKDATE_S 300 /* clocks differ a little */

static void free_x509(X509 **x)
{
    X509_free(*x);
}
static void free_key(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}
static void free_bio(BIO **b)
{
    BIO_free(*b);
}
static void free_names(GENERAL_NAMES **n)
{
    GENERAL_NAMES_free(*n);
}

void cert_pair_done(struct cert_pair *p)
{
    free(p->cert_pem);
    if (p->key_pem)
        OPENSSL_cleanse(p->key_pem, strlen(p->key_pem));
    free(p->key_pem);
    *p = (struct cert_pair){0};
}

static bool failed(struct error *err, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;

    ERR_clear_error();
    return error_set(err, ERROR_INTERNAL, "%s: %s", what, reason ? reason : "failed");
}

static char *bio_text(BIO *b)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    return str_dup(str_n(n > 0 ? p : "", n > 0 ? (size_t)n : 0));
}

static bool export_pair(X509 *cert, EVP_PKEY *key, struct cert_pair *ret, struct error *err)
{
    AUTO(free_bio) BIO *c = BIO_new(BIO_s_mem());
    AUTO(free_bio) BIO *k = BIO_new(BIO_s_secmem());

    if (!c || !k || PEM_write_bio_X509(c, cert) != 1
        || PEM_write_bio_PKCS8PrivateKey(k, key, NULL, NULL, 0, NULL, NULL) != 1)
        return failed(err, "write certificate");
    *ret = (struct cert_pair){bio_text(c), bio_text(k)};
    return true;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(cert, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool add_entry(X509_NAME *name, const char *field, const char *value)
{
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)value, -1,
                                      -1, 0)
           == 1;
}

/* A certificate with everything but its issuer, extensions and signature. */
static X509 *blank(const char *cn, const char *const *orgs, EVP_PKEY *key, int64_t now,
                   int64_t valid)
{
    unsigned char serial[16];
    X509 *cert = X509_new();
    X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;
    bool ok = name && X509_set_version(cert, X509_VERSION_3) == 1;

    file_random(serial, sizeof serial);
    serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40); /* positive, and of one length */
    BIGNUM *n = BN_bin2bn(serial, sizeof serial, NULL);
    ok = ok && n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    for (size_t i = 0; ok && orgs && orgs[i]; i++)
        ok = add_entry(name, "O", orgs[i]);
    ok = ok && add_entry(name, "CN", cn)
         && ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)(now - BACKDATE_S))
         && ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(now + valid))
         && X509_set_pubkey(cert, key) == 1;
    if (ok)
        return cert;
    X509_free(cert);
    return NULL;
}

bool cert_make_ca(const char *common_name, int64_t now_unix_s, int64_t valid_s,
                  struct cert_pair *ret, struct error *err)
{
    ERR_clear_error();
    AUTO(free_key) EVP_PKEY *key = EVP_EC_gen("P-256");
    AUTO(free_x509) X509 *cert = key ? blank(common_name, NULL, key, now_unix_s, valid_s) : NULL;

    if (!cert || X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1
        || !add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE")
        || !add_extension(cert, cert, NID_key_usage,
                          "critical,digitalSignature,keyCertSign,cRLSign")
        || !add_extension(cert, cert, NID_subject_key_identifier, "hash")
        || X509_sign(cert, key, EVP_sha256()) == 0)
        return failed(err, "make certificate authority");
    return export_pair(cert, key, ret, err);
}

static bool add_name(GENERAL_NAMES *names, int type, const void *p, size_t n)
{
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_STRING *s = type == GEN_DNS ? ASN1_IA5STRING_new() : ASN1_OCTET_STRING_new();

    if (!g || !s || ASN1_STRING_set(s, p, (int)n) != 1) {
        GENERAL_NAME_free(g);
        ASN1_STRING_free(s);
        return false;
    }
    GENERAL_NAME_set0_value(g, type, s);
    if (sk_GENERAL_NAME_push(names, g) > 0)
        return true;
    GENERAL_NAME_free(g);
    return false;
}

/* By structure, not by OpenSSL's "DNS:a,IP:b" text, in which a name could smuggle another in. */
static bool add_alt_names(X509 *cert, const struct cert_request *r, struct error *err)
{
    AUTO(free_names) GENERAL_NAMES *names = GENERAL_NAMES_new();

    for (size_t i = 0; r->dns_names && r->dns_names[i]; i++)
        if (!names || !add_name(names, GEN_DNS, r->dns_names[i], strlen(r->dns_names[i])))
            return failed(err, "certificate name");
    for (size_t i = 0; r->ip_addresses && r->ip_addresses[i]; i++) {
        unsigned char a[16];
        size_t n = inet_pton(AF_INET, r->ip_addresses[i], a) == 1 ? 4 : 16;
        if (n == 16 && inet_pton(AF_INET6, r->ip_addresses[i], a) != 1)
            return error_set(err, ERROR_INVALID, "certificate: '%s' is no IP address",
                             r->ip_addresses[i]);
        if (!names || !add_name(names, GEN_IPADD, a, n))
            return failed(err, "certificate address");
    }
    if (sk_GENERAL_NAME_num(names) > 0
        && X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0) != 1)
        return failed(err, "certificate names");
    return true;
}

static bool read_pair(const struct cert_pair *p, X509 **ret_cert, EVP_PKEY **ret_key)
{
    AUTO(free_bio) BIO *c = BIO_new_mem_buf(p->cert_pem, -1);
    AUTO(free_bio) BIO *k = BIO_new_mem_buf(p->key_pem, -1);

    *ret_cert = PEM_read_bio_X509(c, NULL, NULL, NULL);
    *ret_key = PEM_read_bio_PrivateKey(k, NULL, NULL, (void *)(uintptr_t)""); /* never asked for on a terminal */
    return *ret_cert && *ret_key;
}

bool cert_issue(const struct cert_pair *ca, const struct cert_request *r, struct cert_pair *ret,
                struct error *err)
{
    AUTO(free_x509) X509 *ca_cert = NULL;
    AUTO(free_key) EVP_PKEY *ca_key = NULL;
    const char *usage = r->server && r->client ? "serverAuth,clientAuth"
                        : r->server            ? "serverAuth"
                                               : "clientAuth";

    ERR_clear_error();
    if (!read_pair(ca, &ca_cert, &ca_key))
        return failed(err, "read certificate authority");
    AUTO(free_key) EVP_PKEY *key = EVP_EC_gen("P-256");
    AUTO(free_x509)
    X509 *cert =
        key ? blank(r->common_name, r->organizations, key, r->now_unix_s, r->valid_s) : NULL;
    if (!cert)
        return failed(err, "make certificate");
    if (!add_alt_names(cert, r, err))
        return false;
    if (X509_set_issuer_name(cert, X509_get_subject_name(ca_cert)) != 1
        || !add_extension(cert, ca_cert, NID_basic_constraints, "critical,CA:FALSE")
        || !add_extension(cert, ca_cert, NID_key_usage, "critical,digitalSignature")
        || !add_extension(cert, ca_cert, NID_ext_key_usage, usage)
        || !add_extension(cert, ca_cert, NID_authority_key_identifier, "keyid:always")
        || X509_sign(cert, ca_key, EVP_sha256()) == 0)
        return failed(err, "sign certificate");
    return export_pair(cert, key, ret, err);
}

bool cert_expiry(const char *cert_pem, int64_t *ret_unix_s, struct error *err)
{
    AUTO(free_bio) BIO *b = BIO_new_mem_buf(cert_pem, -1);
    AUTO(free_x509) X509 *cert = PEM_read_bio_X509(b, NULL, NULL, NULL);
    struct tm tm;

    if (!cert || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1) {
        ERR_clear_error();
        return error_set(err, ERROR_BAD_REQUEST, "not a certificate");
    }
    *ret_unix_s = (int64_t)timegm(&tm);
    return true;
}

static bool unix_time(const ASN1_TIME *t, int64_t *ret)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(t, &tm) != 1)
        return false;
    *ret = (int64_t)timegm(&tm);
    return true;
}

static X509 *read_cert(const char *pem)
{
    AUTO(free_bio) BIO *b = pem ? BIO_new_mem_buf(pem, -1) : NULL;

    return b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
}

bool cert_inspect(const char *cert_pem, const char *key_pem, const char *ca_pem,
                  struct cert_facts *ret, struct error *err)
{
    AUTO(free_x509) X509 *cert = read_cert(cert_pem);
    AUTO(free_x509) X509 *ca = read_cert(ca_pem);
    AUTO(free_bio) BIO *k = key_pem ? BIO_new_mem_buf(key_pem, -1) : NULL;
    AUTO(free_key) EVP_PKEY *key = k ? PEM_read_bio_PrivateKey(k, NULL, NULL, (void *)(uintptr_t)"") : NULL;
    struct cert_facts f = {0};
    bool ok = cert && unix_time(X509_get0_notBefore(cert), &f.from_unix_s)
              && unix_time(X509_get0_notAfter(cert), &f.until_unix_s);

    f.fits_key = ok && key && X509_check_private_key(cert, key) == 1;
    f.issued = ok && ca && X509_check_issued(ca, cert) == X509_V_OK
               && X509_verify(cert, X509_get0_pubkey(ca)) == 1;
    ERR_clear_error();
    if (!ok)
        return error_set(err, ERROR_BAD_REQUEST, "not a certificate");
    *ret = f;
    return true;
}
