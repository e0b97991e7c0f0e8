/* http/server_conn - a server's connection between accept and the protocol that it turns out to speak. */
#pragma once
#include "http/conn.h"
#include "http/server.h"
#include "http/stream.h"

struct server_conn;

struct http_server {
    struct http_server_config config;
    struct list listeners, conns;
    size_t n_conns;
    size_t body_bytes; /* request bodies buffered now, by all connections */
    bool draining;
    void (*drained)(void *data);
    void *drained_data;
    struct loop_timer drain_timer;
    struct loop_defer drain_defer;
};

/* What a protocol is to the server. */
struct server_proto {
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
    struct buf sniff;                 /* first bytes of a plain connection */
};

/* Past this sum of buffered request bodies new ones are answered 503. */
#define SERVER_BODY_BUDGET (256u << 20)

/* Take the connection over; `first` was read already. The timer runs towards the header timeout. */
void h1_start(struct server_conn *sc, struct str first);
void h2_start(struct server_conn *sc, struct str first);
void server_conn_gone(struct server_conn *sc); /* by the protocol's `gone`: frees sc */
void server_dispatch(struct server_conn *sc, struct stream *s); /* calls the handler */
bool server_over_budget(const struct server_conn *sc);

/* WebSocket: takes the connection out of the server's HTTP/1.1 hands. The stream and h1 are gone afterwards; the
 * server keeps the connection in its books until server_conn_gone(). *ret_first: bytes that came early, owned. */
struct server_conn *h1_take_over(struct stream *s, struct buf *ret_first);
bool h1_is(const struct stream *s);
