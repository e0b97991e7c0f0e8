/* http/client - requests over HTTP/2 (ALPN, or prior knowledge on unix sockets) with HTTP/1.1 as fallback.
 *
 * One http_client is one server: a pool of connections to it, streams multiplexed; connections that die are made anew
 * for the next request. No request waits silently: past the server's stream limit another connection is opened. */
#pragma once
#include "http/exchange.h"

struct http_tls;
struct http_client;
struct http_client_config {
    struct loop *loop;
    const char *host;          /* "127.0.0.1", a name (resolved once per connection), or NULL with unix_path */
    unsigned port;
    const char *unix_path;
    const struct http_tls *tls; /* borrowed; NULL: plain */
    bool http1_only;
    const char *bearer_token;  /* added to every request; copied */
    const char *path_prefix;   /* in front of every path: a server behind a proxy; copied. NULL: none */
    const char *user_agent;
    int64_t connect_timeout_ns; /* 0: 10 s */
};
struct http_client *http_client_new(const struct http_client_config *c);
/* A new token for the requests from now on (copied), a new configuration for new connections (a reference is kept): rotation. */
void http_client_set_token(struct http_client *c, const char *token);
void http_client_set_tls(struct http_client *c, const struct http_tls *tls);
void http_client_free(struct http_client *c); /* running calls fail with ERROR_UNAVAILABLE first */

struct http_call;
struct http_request {
    enum http_method method;
    struct str path;            /* with query, already encoded */
    const struct http_header *headers;
    size_t n_headers;
    struct str body;            /* copied */
    /* A body too large for memory, instead of `body`: fills p with up to n bytes and returns how many; 0: none now,
     * http_call_resume() when there are; -1: the end. Such a call is never repeated on another connection. */
    ssize_t (*read_body)(void *user, char *p, size_t n);
    int64_t body_length;        /* with read_body: exactly so many bytes, or < 0: unknown */
    struct str content_type;
    int64_t timeout_ns;         /* whole call; 0: 60 s; < 0: none (watches) */
    int64_t not_after_ns;       /* by loop_now_ns(): who has not left by then does not leave any more, and fails; 0: none */
    bool stream;                /* deliver the body by `data` as it arrives instead of in `done` */
    size_t body_limit;          /* 0: LIMIT_BUF_DEFAULT; for streams: of bytes not yet consumed */
    void (*head)(void *user, int status, const struct http_header *headers, size_t n); /* may be NULL */
    /* Fields behind the body (HTTP/2 only); may be NULL. */
    void (*trailers)(void *user, const struct http_header *headers, size_t n);
    void (*data)(void *user, struct str data);
    /* Once, always, unless the call was cancelled. err->kind == ERROR_NONE: a response came (any status). */
    void (*done)(void *user, int status, struct str body, const struct error *err);
    void *user;
};
/* Callbacks never come before this has returned. NULL only inside a callback of http_client_free(). */
struct http_call *http_client_call(struct http_client *c, const struct http_request *r);
void http_call_resume(struct http_call *call); /* read_body has more */
void http_call_cancel(struct http_call *call); /* no callback follows */
