/* http/tls_session - what conn needs of TLS: one session on one socket. */
#pragma once
#include "http/exchange.h"
#include "http/tls.h"
#include <openssl/ssl.h>

/* fd is borrowed. server_name: the client's default for SNI and verification. */
SSL *tls_session_new(const struct http_tls *t, int fd, const char *server_name, bool h1_only,
                     struct error *err);
/* Copies the verified certificate's subject into the peer. */
void tls_session_peer(SSL *ssl, struct http_peer *peer);
/* The reasons in OpenSSL's queue and verification result as one text; empties the queue. */
void tls_error(const SSL *ssl, struct error *err, const char *what);
struct http_tls *http_tls_ref(const struct http_tls *t); /* http_tls_free() drops it again */
