/* http/server - listeners and connections: TLS, HTTP/1.1 and HTTP/2 by ALPN (h2 with prior knowledge without TLS). */
#pragma once
#include "http/exchange.h"

struct http_server;
struct http_tls; /* a server's or client's TLS configuration (tls.h) */

struct http_server_config {
    struct loop *loop;
    void (*handle)(struct exchange *x, void *data);
    void *data;
    size_t body_limit;      /* 0: LIMIT_HTTP_BODY */
    int64_t header_timeout_ns; /* 0: 10 s, slow headers are cut off */
    int64_t idle_timeout_ns;   /* 0: 5 min without any stream */
    unsigned max_connections;  /* 0: 4096, or as the limit of open files allows */
    /* gRPC's clients name a unix socket by its path, which is no authority (RFC 3986): :authority is not looked at. */
    bool any_authority;
    unsigned max_per_peer;     /* of one address that is not loopback; 0: a quarter of max_connections */
};
struct http_server *http_server_new(const struct http_server_config *config);
void http_server_free(struct http_server *s); /* closes everything at once */
/* Takes a listening socket (TCP or AF_UNIX, already bound and listening). tls NULL: plain. The TLS configuration is
 * borrowed and may be replaced by a later call for new connections (certificate rotation). */
MUST_CHECK bool http_server_listen(struct http_server *s, int take_fd, const struct http_tls *tls, struct error *err);
/* New connections of the listeners that use `old_tls` use `new_tls` (certificate rotation). The server keeps references
 * of its own: both may be freed at once. */
void http_server_replace_tls(struct http_server *s, const struct http_tls *old_tls, const struct http_tls *new_tls);
/* Connections that there are end when what they are asked has been answered, and their peers make new ones: for when peers are to be
 * verified anew. WebSockets go on. */
void http_server_renew(struct http_server *s);
/* Serves one connected socket (socketpairs in tests). */
MUST_CHECK bool http_server_add(struct http_server *s, int take_fd, const struct http_tls *tls, struct error *err);
/* Before http_server_drain(): everything is still served, but each answer ends its connection (Connection: close; a GOAWAY that leaves no
 * request out), so that peers turn to another server one by one. An idle connection that is just closed may lose a POST that its peer has
 * just sent, which no client repeats by itself. */
void http_server_wind_down(struct http_server *s);
/* Accepts no more, lets running exchanges end (GOAWAY, Connection: close), then calls done. */
void http_server_drain(struct http_server *s, int64_t max_ns, void (*done)(void *data), void *data);
size_t http_server_connections(const struct http_server *s);
/* Raises the process's limit of open files as far as it may, so that it does not bound the connections (4096). */
void http_server_claim_descriptors(void);
/* Binds and listens. "127.0.0.1:6443", "[::1]:0"; an address in use names it. */
MUST_CHECK bool http_listen_tcp(const char *address, int *ret_fd, struct error *err);
