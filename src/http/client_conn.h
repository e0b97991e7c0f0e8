/* http/client_conn - the client's connections and running calls, as its two protocols see them. */
#pragma once
#include "base/list.h"
#include "http/client.h"
#include "http/conn.h"
#include "http/h1_parse.h"

struct client_conn;
struct resolve;

struct http_call {
    struct list node; /* of the client's pending list or the connection's */
    struct http_client *client;
    struct client_conn *on; /* NULL: waiting for a connection */
    unsigned refs;          /* one, and one per callback on the stack */
    bool over;              /* done or cancelled: no more callbacks */
    struct arena arena;     /* the request */
    enum http_method method;
    struct str path;
    struct http_header
        *headers; /* complete, with the client's own; names in lower case; host apart */
    size_t n_headers;
    struct str body;
    size_t body_at;
    ssize_t (*read_body)(void *user, char *p, size_t n); /* instead of body */
    int64_t body_length;                                 /* with read_body; < 0: unknown */
    bool body_begun, body_ended;
    bool stream, got_head, response_ended;
    int status;
    struct buf in;
    int32_t id;
    unsigned tries;
    struct loop_timer timer;
    int64_t not_after_ns, started_ns;
    void (*head)(void *user, int status, const struct http_header *headers, size_t n);
    void (*trailers)(void *user, const struct http_header *headers, size_t n);
    void (*data)(void *user, struct str data);
    void (*done)(void *user, int status, struct str body, const struct error *err);
    void *user;
    /* WebSocket: the connection changes hands on 101 (its ops are replaced in here). */
    bool upgrade;
    void (*upgraded)(struct http_call *call, struct client_conn *cc, const struct h1_head *head,
                     struct str first);
};

struct client_proto {
    void (*start)(struct client_conn *cc, struct http_call *call);
    void (*cancel)(struct client_conn *cc,
                   struct http_call *call);           /* the call is off the list already */
    size_t (*capacity)(const struct client_conn *cc); /* calls it takes now */
    void (*resume)(struct client_conn *cc, struct http_call *call); /* its body has more */
    int64_t (*heard)(const struct client_conn *cc); /* when the server last said anything; may be NULL */
};

struct client_conn {
    struct list node;
    struct http_client *client;
    struct conn *conn;                /* NULL while resolving, or between two addresses */
    const struct client_proto *proto; /* NULL: not yet open */
    void *impl;
    struct list calls;
    struct http_call *reserved; /* this call alone (upgrade) */
    bool h1_only;
    bool retired; /* takes no new calls */
    bool used;    /* a response came: it may have been closed as idle since */
    struct resolve *resolve;
    size_t address_at;
    struct loop_timer timer; /* connect timeout, then the protocol's */
};

enum client_mode { CLIENT_UNKNOWN, CLIENT_H1, CLIENT_H2 };

struct http_client {
    struct http_client_config config; /* strings owned */
    struct http_tls *tls;
    char *authority;       /* the Host header */
    enum client_mode mode; /* as far as its server has shown it */
    unsigned refs;         /* one, and one per connection */
    bool dead;
    struct list pending, conns;
    struct loop_defer pump;
};

#define CLIENT_IDLE_NS SECONDS(90)

void client_h1_start(struct client_conn *cc);
void client_h2_start(struct client_conn *cc);
void client_pump(struct http_client *c);       /* soon: assign what waits */
void client_conn_gone(struct client_conn *cc); /* frees it; its calls must be gone */
/* The server speaks only HTTP/1.1: all calls of this speculative HTTP/2 connection start anew. */
void client_fall_back(struct client_conn *cc);

/* Each returns false when the call is over (cancelled in the callback, or failed by a limit). */
MUST_CHECK bool call_head(struct http_call *call, int status, const struct http_header *headers,
                          size_t n);
MUST_CHECK bool call_trailers(struct http_call *call, const struct http_header *headers, size_t n);
MUST_CHECK bool call_data(struct http_call *call, struct str data);
void call_succeed(struct http_call *call);
void call_release(struct http_call *call); /* ends without a callback: upgraded */
void client_abandon(
    struct client_conn *cc); /* closes a connection that no protocol reads any more */
void call_fail(struct http_call *call, const struct error *err);
/* The next piece of the request's body: bytes, 0 none now, -1 the end, -2 the call is over. */
ssize_t call_body(struct http_call *call, char *p, size_t n);
bool call_has_body(const struct http_call *call);
/* Its connection died before a response: again on another, or fail. `refused`: surely not processed. */
void call_retry(struct http_call *call, bool refused, const struct error *err);
