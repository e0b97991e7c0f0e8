/* http/conn - one socket, plain or TLS, moving bytes for the protocol that stands on it.
 *
 * The protocol is a struct conn_ops and may be swapped while the connection lives (ALPN, preface, 101). It is
 * asked for output by `fill` whenever the socket takes more, so what waits stays with the streams, where it is
 * bounded, and never piles up here. All I/O happens in loop callbacks: conn_put(), conn_kick() and conn_close()
 * only mark, so a protocol may call them from anywhere. `gone` is the last call and always comes from the loop
 * (or from conn_destroy()), never from inside another callback of the same connection. */
#pragma once
#include "base/buf.h"
#include "http/exchange.h"
#include "loop/loop.h"

struct ssl_st;
struct http_tls;
struct conn;

struct conn_ops {
    void (*opened)(struct conn *c);                    /* connected and TLS established */
    void (*received)(struct conn *c, struct str data); /* takes the whole piece */
    void (*eof)(struct conn *c);  /* the peer sends no more, but may still read */
    void (*fill)(struct conn *c); /* conn_put() while conn_room() says so */
    void (*gone)(struct conn *c, const struct error *err);
};

/* Who is at the other end; shared by the connection and by exchanges that outlive it. */
struct peer {
    struct http_peer info;
    unsigned refs;
};
struct peer *peer_ref(struct peer *p);
void peer_unref(struct peer *p);

enum conn_state { CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_LINGER, CONN_CLOSED };

struct conn {
    struct loop *loop;
    int fd;
    struct ssl_st *ssl; /* NULL: plain */
    const struct conn_ops *ops;
    void *user;
    struct peer *peer;
    enum conn_state state;
    struct buf out;
    size_t out_at;
    unsigned busy; /* callbacks of ours on the stack */
    bool paused;   /* reading is off: backpressure */
    bool saw_eof;
    bool closing;       /* closes once everything is written */
    bool blocked;       /* the socket took less than we had */
    bool parked;        /* hung up while paused: epoll would spin */
    bool want_read_out; /* TLS must write before it can read */
    size_t lingered;
    size_t made;   /* bytes that were made for it in this turn */
    struct error err; /* why it ended */
    struct loop_io io;
    struct loop_timer timer; /* write stall, lingering */
    struct loop_defer flush, bury, resume;
    struct loop_defer more; /* what one flush left over, or the socket did not take */
};

/* Takes the descriptor. `connecting`: a non-blocking connect() is under way. tls NULL: plain. */
struct conn *conn_new(struct loop *l, int take_fd, const struct http_tls *tls, bool client,
                      bool connecting, const char *server_name, bool h1_only,
                      const struct conn_ops *ops, void *user, struct error *err);
void conn_set_ops(struct conn *c, const struct conn_ops *ops, void *user);
struct str conn_alpn(const struct conn *c); /* absent when none was agreed */
/* Bytes that `fill` should add; 0 when enough is buffered. */
size_t conn_room(const struct conn *c);
void conn_put(struct conn *c, const void *p, size_t n);
size_t
conn_pending(const struct conn *c); /* bytes written by conn_put() and not yet by the socket */
/* Making output costs time: at some point the turn is the other connections'. */
void conn_made(struct conn *c, size_t n);
bool conn_spent(const struct conn *c);
void conn_kick(struct conn *c);     /* there is output: call fill soon */
void conn_pause(struct conn *c, bool paused);
void conn_finish(
    struct conn *c); /* close when all output is written, lingering for what still comes in */
void conn_close(struct conn *c); /* close now; gone follows from the loop */
void conn_fail(struct conn *c, enum error_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
void conn_destroy(
    struct conn *c); /* close, gone and free before it returns; not from its own callbacks */
static inline bool conn_alive(const struct conn *c)
{
    return c->state != CONN_CLOSED;
}
