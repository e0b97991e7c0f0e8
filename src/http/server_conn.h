/* http/server_conn - a server's connection between accept and the protocol that it turns out to speak. */
#pragma once
#include "base/map.h"
#include "http/conn.h"
#include "http/server.h"
#include "http/stream.h"

struct server_conn;

struct http_server {
    struct http_server_config config;
    struct list listeners;
    struct list fresh; /* connections that have asked nothing yet, oldest first */
    struct list conns; /* the others, the one that asked last at the end */
    size_t n_conns, n_local;
    struct map peers; /* address without port → count of its connections; loopback aside */
    struct body_budget bodies;
    bool winding_down, draining;
    void (*drained)(void *data);
    void *drained_data;
    struct loop_timer drain_timer;
    struct loop_defer drain_defer;
};

/* What a protocol is to the server. */
struct server_proto {
    void (*notice)(struct server_conn *sc); /* let the peer ask elsewhere what it asks next; what it has asked is served */
    void (*drain)(struct server_conn *sc); /* take no new requests; close when none is left */
    bool (*idle)(const struct server_conn *sc);
};

struct server_conn {
    struct list node;
    struct http_server *server;
    struct conn *conn;
    const struct server_proto *proto; /* NULL while handshaking */
    void *impl;                       /* struct h1 or struct h2 */
    struct loop_timer timer;          /* the protocol's */
    bool local;                       /* AF_UNIX */
    char *peer_key;                   /* in server->peers, or NULL */
    struct exchange_guard guard;      /* of the exchange that became a WebSocket */
    struct arena guarded;
    struct buf sniff;                 /* first bytes of a plain connection */
};

/* Take the connection over; `first` was read already. The timer runs towards the header timeout. */
void h1_start(struct server_conn *sc, struct str first);
void h2_start(struct server_conn *sc, struct str first);
void server_conn_gone(struct server_conn *sc); /* by the protocol's `gone`: frees sc */
void server_dispatch(struct server_conn *sc, struct stream *s); /* calls the handler */
/* False: too many request bodies are under way; this one has to go (503). The one that has been arriving for longest,
 * if it is slow, goes instead. */
bool server_body_room(struct server_conn *sc);

/* WebSocket: takes the connection out of the server's HTTP/1.1 hands. The stream and h1 are gone afterwards; the
 * server keeps the connection in its books until server_conn_gone(). *ret_first: bytes that came early, owned. */
struct server_conn *h1_take_over(struct stream *s, struct buf *ret_first);
bool h1_is(const struct stream *s);
