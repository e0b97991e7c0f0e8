#include "http/tls.h"
#include "http/tls_session.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <sys/socket.h>

#define MAX_ORGS 64 /* as many groups as a certificate may name */

struct http_tls {
    SSL_CTX *ctx;
    char *server_name;
    bool server, insecure;
    unsigned refs;
};

/* A socket BIO of our own: OpenSSL's writes raise SIGPIPE. */
static int bio_write(BIO *b, const char *p, int n)
{
    ssize_t w = send((int)(intptr_t)BIO_get_data(b), p, (size_t)n, MSG_NOSIGNAL);

    BIO_clear_retry_flags(b);
    if (w < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(b);
    return (int)w;
}

static int bio_read(BIO *b, char *p, int n)
{
    ssize_t r = recv((int)(intptr_t)BIO_get_data(b), p, (size_t)n, 0);

    BIO_clear_retry_flags(b);
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(b);
    if (r == 0)
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    return (int)r;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    if (cmd == BIO_CTRL_EOF)
        return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
    return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without SIGPIPE");
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

void tls_error(const SSL *ssl, struct error *err, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    long verify = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;

    if (verify != X509_V_OK)
        error_set(err, ERROR_UNAVAILABLE, "%s: %s", what, X509_verify_cert_error_string(verify));
    else if (e != 0 && ERR_reason_error_string(e))
        error_set(err, ERROR_UNAVAILABLE, "%s: %s", what, ERR_reason_error_string(e));
    else
        error_set(err, ERROR_UNAVAILABLE, "%s: connection closed by the peer", what);
    ERR_clear_error();
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                       const unsigned char *in, unsigned in_n, void *arg)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_n, ours, sizeof ours - 1, in, in_n)
        != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK; /* a client that names others gets HTTP/1.1 */
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void free_bio(BIO **b)
{
    BIO_free(*b);
}
static void free_x509(X509 **x)
{
    X509_free(*x);
}
static void free_key(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}

static bool use_chain(SSL_CTX *ctx, const char *cert_pem, const char *key_pem, struct error *err)
{
    AUTO(free_bio) BIO *certs = BIO_new_mem_buf(cert_pem, -1);
    AUTO(free_bio) BIO *keys = BIO_new_mem_buf(key_pem, -1);
    AUTO(free_x509) X509 *cert = PEM_read_bio_X509(certs, NULL, NULL, NULL);
    AUTO(free_key) EVP_PKEY *key = PEM_read_bio_PrivateKey(keys, NULL, NULL, (void *)(uintptr_t)""); /* a passphrase is never asked for on a terminal */
    X509 *more;

    if (!cert || SSL_CTX_use_certificate(ctx, cert) != 1) {
        tls_error(NULL, err, "certificate");
        return false;
    }
    while ((more = PEM_read_bio_X509(certs, NULL, NULL, NULL)) != NULL)
        if (SSL_CTX_add0_chain_cert(ctx, more) != 1)
            X509_free(more);
    ERR_clear_error();
    if (!key || SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        tls_error(NULL, err, "private key");
        return false;
    }
    return true;
}

static bool trust(SSL_CTX *ctx, const char *ca_pem, bool server, struct error *err)
{
    AUTO(free_bio) BIO *b = BIO_new_mem_buf(ca_pem, -1);
    X509 *ca;
    size_t n = 0;

    while ((ca = PEM_read_bio_X509(b, NULL, NULL, NULL)) != NULL) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca);
        if (server)
            SSL_CTX_add_client_CA(ctx, ca);
        X509_free(ca);
        n++;
    }
    ERR_clear_error();
    return n > 0 || error_set(err, ERROR_BAD_REQUEST, "no certificate among the trust anchors");
}

/* A client certificate that does not verify is no reason to end the connection: the request may carry other credentials, and
 * else gets its 401 in words. What is wrong with it stays in the session (SSL_get_verify_result). */
static int let_pass(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

static bool configure(struct http_tls *t, const struct http_tls_config *c, struct error *err)
{
    int verify = SSL_VERIFY_NONE;

    SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE
                                 | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(t->ctx,
                            0); /* a resumed session would outlive a client certificate's trust */
    if (c->cert_pem && c->key_pem && !use_chain(t->ctx, c->cert_pem, c->key_pem, err))
        return false;
    if (c->ca_pem && !trust(t->ctx, c->ca_pem, c->server, err))
        return false;
    if (c->server) {
        if (!c->cert_pem || !c->key_pem)
            return error_set(err, ERROR_BAD_REQUEST,
                             "a TLS server needs a certificate and its key");
        if (c->require_peer && !c->ca_pem)
            return error_set(err, ERROR_BAD_REQUEST,
                             "client certificates are required but no authority is given");
        if (c->ca_pem)
            verify = SSL_VERIFY_PEER | (c->require_peer ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
        SSL_CTX_set_alpn_select_cb(t->ctx, choose_alpn, NULL);
    } else if (!c->insecure) {
        if (!c->ca_pem && SSL_CTX_set_default_verify_paths(t->ctx) != 1)
            return error_set(err, ERROR_INTERNAL, "the system's trust anchors cannot be read");
        verify = SSL_VERIFY_PEER;
    }
    SSL_CTX_set_verify(t->ctx, verify, c->server && !c->require_peer ? let_pass : NULL);
    return true;
}

struct http_tls *http_tls_new(const struct http_tls_config *c, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_bio_method);
    ERR_clear_error();
    struct http_tls *t = NEW(struct http_tls);
    t->refs = 1;
    t->server = c->server;
    t->insecure = c->insecure;
    t->server_name = str_dup(str_of(c->server_name));
    t->ctx = SSL_CTX_new(c->server ? TLS_server_method() : TLS_client_method());
    if (!t->ctx)
        tls_error(NULL, err, "TLS");
    if (t->ctx && configure(t, c, err))
        return t;
    http_tls_free(t);
    return NULL;
}

struct http_tls *http_tls_ref(const struct http_tls *t)
{
    struct http_tls *mine = (struct http_tls *)(uintptr_t)t;
    mine->refs++;
    return mine;
}

void http_tls_free(struct http_tls *t)
{
    if (!t || --t->refs > 0)
        return;
    SSL_CTX_free(t->ctx);
    free(t->server_name);
    free(t);
}

static bool set_peer_name(SSL *ssl, const char *name, bool verify, struct error *err)
{
    unsigned char address[16];
    bool numeric =
        inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;

    if (!numeric && SSL_set_tlsext_host_name(ssl, name) != 1)
        return error_set(err, ERROR_BAD_REQUEST, "'%s' is no host name", name);
    if (!verify)
        return true;
    int ok = numeric ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name)
                     : SSL_set1_host(ssl, name);
    return ok == 1 || error_set(err, ERROR_BAD_REQUEST, "'%s' is no host name", name);
}

SSL *tls_session_new(const struct http_tls *t, int fd, const char *server_name, bool h1_only,
                     struct error *err)
{
    static const unsigned char both[] = "\x02h2\x08http/1.1";
    const char *name = t->server_name ? t->server_name : server_name;
    SSL *ssl = SSL_new(t->ctx);
    BIO *bio = ssl ? BIO_new(bio_method) : NULL;

    if (!bio) {
        SSL_free(ssl);
        tls_error(NULL, err, "TLS");
        return NULL;
    }
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    if (t->server) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_set_connect_state(ssl);
    size_t skip = h1_only ? 3 : 0;
    SSL_set_alpn_protos(ssl, both + skip, (unsigned)(sizeof both - 1 - skip));
    if (!name && !t->insecure)
        error_set(err, ERROR_BAD_REQUEST, "TLS without a server name to verify");
    else if (!name || set_peer_name(ssl, name, !t->insecure, err))
        return ssl;
    SSL_free(ssl);
    return NULL;
}

/* The entry's text; NULL when it holds a NUL, which would let "admin\0x" pass for "admin". */
static char *entry_text(const X509_NAME_ENTRY *entry)
{
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry));
    char *text =
        n > 0 && !memchr(utf8, 0, (size_t)n) ? str_dup(str_n((char *)utf8, (size_t)n)) : NULL;

    OPENSSL_free(utf8);
    return text;
}

void tls_session_peer(SSL *ssl, struct http_peer *peer)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    size_t n = 0;

    peer->tls = true;
    peer->cert_bad = cert && SSL_get_verify_result(ssl) != X509_V_OK;
    if (!cert || SSL_get_verify_result(ssl) != X509_V_OK
        || !(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER))
        return;
    struct tm until = {0};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &until) == 1)
        peer->cert_until_unix_s = timegm(&until);
    const X509_NAME *subject = X509_get_subject_name(cert);
    peer->cert_orgs = xcalloc(MAX_ORGS + 1, sizeof *peer->cert_orgs);
    for (int i = 0; i < X509_NAME_entry_count(subject); i++) {
        const X509_NAME_ENTRY *e = X509_NAME_get_entry(subject, i);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(e));
        if (nid == NID_commonName && !peer->cert_cn) {
            peer->cert_cn = entry_text(e);
        } else if (nid == NID_organizationName && n < MAX_ORGS) {
            char *org = entry_text(e);
            if (org)
                peer->cert_orgs[n++] = org;
        }
    }
}
