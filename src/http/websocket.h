/* http/websocket - RFC 6455 on an HTTP/1.1 exchange or client connection; framing by libwslay.
 *
 * Used by console, VNC, port-forward, exec (client-go upgrades over HTTP/1.1). */
#pragma once
#include "http/exchange.h"
#include "http/client.h"

struct websocket;
struct websocket_ops {
    /* A whole message (≤ LIMIT_WS_FRAME). */
    void (*message)(struct websocket *ws, struct str data, bool binary);
    /* Output fell below the low-water mark after websocket_send() said full. May be NULL. */
    void (*writable)(struct websocket *ws);
    /* Once, last; code 1006 when the connection just went away. ws is freed after it returns. */
    void (*closed)(struct websocket *ws, unsigned code, struct str reason);
};
/* Server side: answers 101 with the chosen subprotocol (may be NULL) and takes the exchange over (it is gone when this
 * returns, either way: on failure it was answered 400/426). */
struct websocket *websocket_accept(struct exchange *x, const char *subprotocol, const struct websocket_ops *ops, void *user);
/* The client's offered subprotocols contain it? */
bool websocket_offers(const struct exchange *x, const char *subprotocol);
void *websocket_user(struct websocket *ws);
/* Returns the bytes queued; at or above 256 KiB stop until `writable`. */
size_t websocket_send(struct websocket *ws, struct str data, bool binary);
void websocket_pause(struct websocket *ws, bool paused); /* stops reading: backpressure */
void websocket_close(struct websocket *ws, unsigned code, const char *reason); /* `closed` follows */
const char *websocket_subprotocol(const struct websocket *ws); /* negotiated, or NULL */

/* Client side: connected(ws) on success, else failed(err, http status or 0, body) once. The returned handle may be
 * given to websocket_close() before that. */
struct websocket_connect {
    struct http_client *client;
    const char *path;               /* with query */
    const char *const *subprotocols; /* NULL-terminated, or NULL */
    const struct websocket_ops *ops;
    void *user;
    void (*connected)(struct websocket *ws);
    void (*failed)(void *user, const struct error *err, int status, struct str body);
};
struct websocket *websocket_connect(const struct websocket_connect *c);
