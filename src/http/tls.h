/* http/tls - TLS contexts, and the small certificate authority that a single machine needs. */
#pragma once
#include "base/buf.h"

struct http_tls;
struct http_tls_config {
    const char *cert_pem, *key_pem; /* own chain and key; clients may leave both NULL */
    const char *ca_pem;             /* trust anchors for the peer; NULL: server asks for no client certificate, client trusts the system's */
    bool server;
    bool require_peer;              /* server: refuse connections without a valid client certificate */
    bool insecure;                  /* client: verifies nothing */
    const char *server_name;        /* client: SNI and name to verify; NULL: taken from the URL */
};
struct http_tls *http_tls_new(const struct http_tls_config *c, struct error *err);
void http_tls_free(struct http_tls *t);

/* Authority: PEM texts, owned. EC P-256 keys. */
struct cert_pair {
    char *cert_pem, *key_pem;
};
void cert_pair_done(struct cert_pair *p);
MUST_CHECK bool cert_make_ca(const char *common_name, int64_t now_unix_s, int64_t valid_s, struct cert_pair *ret, struct error *err);
struct cert_request {
    const char *common_name;
    const char *const *organizations; /* NULL-terminated, or NULL */
    const char *const *dns_names, *const *ip_addresses;
    bool server, client;
    int64_t now_unix_s, valid_s;
};
MUST_CHECK bool cert_issue(const struct cert_pair *ca, const struct cert_request *r, struct cert_pair *ret, struct error *err);
MUST_CHECK bool cert_expiry(const char *cert_pem, int64_t *ret_unix_s, struct error *err);
/* What a certificate says, and whether it fits its key and its issuer. */
struct cert_facts {
    int64_t from_unix_s, until_unix_s;
    bool fits_key;   /* the private key is its own */
    bool issued;     /* signed by the CA */
};
/* key_pem and ca_pem may be NULL. */
MUST_CHECK bool cert_inspect(const char *cert_pem, const char *key_pem, const char *ca_pem, struct cert_facts *ret, struct error *err);
